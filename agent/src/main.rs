//! The program `causeway`: reads the command line, sets up logging, and hands over.

use std::{io, process::ExitCode};

use causeway::cli::{
    args::{Cli, Verb},
    commands::{self, VerbError},
    messages::report,
};
use causeway_api::Error;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

const VARIABLE: &str = "CAUSEWAY_LOG";

const LEVELS: &str = "off, error, warn, info, debug and trace";

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    // The agent logs what it does; the other verbs log errors only.
    let level = if matches!(cli.verb, Verb::Up(_)) { "info" } else { "error" };
    let instance = cli.common.instance.name().to_owned();
    let json = cli.common.json;
    if let Err(error) = start_logging(level) {
        report(&error, &instance, json);
        return ExitCode::FAILURE;
    }
    commands::run(cli).unwrap_or_else(|VerbError { status, error }| {
        report(&error, &instance, json);
        ExitCode::from(status)
    })
}

fn start_logging(level: &str) -> Result<(), Error> {
    let text = std::env::var(VARIABLE).unwrap_or_else(|_| level.to_owned());
    // EnvFilter takes a word that is no level for a module, and logs nothing.
    let is_level = text.parse::<LevelFilter>().is_ok();
    let filter = EnvFilter::try_new(&text).ok().filter(|_| is_level || text.contains('='));
    let filter = filter.ok_or_else(|| {
        Error::invalid(format!("{VARIABLE} is '{text}', which is none of {LEVELS}"))
            .hint("set it to one of them, or not at all")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        // They would go to stderr, which is what failed.
        .log_internal_errors(false)
        .init();
    Ok(())
}
