//! The program `causeway`: reads the command line, sets up logging, and hands over.

use std::process::ExitCode;

use anyhow::Context as _;
use causeway::cli::{
    args::{Cli, Verb},
    commands,
    messages::{Log, say},
};
use causeway_api::messages;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

const VARIABLE: &str = "CAUSEWAY_LOG";

const LEVELS: &str = "off, error, warn, info, debug and trace";

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    // The agent tells what it does; the other verbs only what stands in their way.
    let level = if matches!(cli.verb, Verb::Up(_)) { "info" } else { "error" };
    let instance = cli.common.instance.name().to_owned();
    if let Err(error) = start_logging(level, instance.clone()) {
        say(&messages::line(&error));
        return ExitCode::FAILURE;
    }
    commands::run(cli).unwrap_or_else(|failure| {
        say(&messages::for_instance(&messages::line(&failure.error), &instance));
        ExitCode::from(failure.status)
    })
}

fn start_logging(level: &str, instance: String) -> anyhow::Result<()> {
    let text = std::env::var(VARIABLE).unwrap_or_else(|_| level.to_owned());
    // A word that is no level would be taken for a module's name, and switch the log off.
    let is_level = text.parse::<LevelFilter>().is_ok();
    let filter = EnvFilter::try_new(&text).ok().filter(|_| is_level || text.contains('='));
    let filter = filter.with_context(|| {
        format!("{VARIABLE} is '{text}', which is none of {LEVELS}; set it to one of them, or not at all")
    })?;
    let log = Log { instance };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || log.clone())
        .with_target(false)
        // It would be told on stderr, which is what failed.
        .log_internal_errors(false)
        .init();
    Ok(())
}
