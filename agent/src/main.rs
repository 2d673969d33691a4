//! The program `causeway`: reads the command line, sets up logging, and hands over.

use std::process::ExitCode;

use causeway::{
    cli::{Cli, Verb},
    line, run,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    // The agent tells what it does; the other verbs only what stands in their way.
    let level = if matches!(cli.verb, Verb::Up(_)) { "info" } else { "error" };
    if let Err(error) = start_logging(level) {
        line::say(&line::of(&error));
        return ExitCode::FAILURE;
    }
    run::run(cli).unwrap_or_else(|failure| {
        line::say(&line::of(&failure.error));
        ExitCode::from(failure.status)
    })
}

fn start_logging(level: &str) -> anyhow::Result<()> {
    let filter = match std::env::var("CAUSEWAY_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|_| {
            anyhow::anyhow!("CAUSEWAY_LOG is '{text}', which is none of error, warn, info, debug and trace")
        })?,
        Err(_) => EnvFilter::new(level),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // It would be told on stderr, which is what failed.
        .log_internal_errors(false)
        .init();
    Ok(())
}
