//! Lists the containers of an instance with their addresses, as an exporter or a plugin would.
//!
//! ```text
//! cargo run -p causeway-api --example containers -- [INSTANCE]
//! ```

use std::{env, process::ExitCode};

use causeway_api::{
    Container, Error, ErrorCode, Request,
    client::{self, DEFAULT_INSTANCE},
};

fn main() -> ExitCode {
    let instance = env::args().nth(1).unwrap_or_else(|| DEFAULT_INSTANCE.to_owned());
    match list(&instance) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.line(&instance));
            // Programs decide by the code; the message is for people.
            ExitCode::from(if error.code() == ErrorCode::NotFound { 2 } else { 1 })
        }
    }
}

fn list(instance: &str) -> Result<(), Error> {
    let containers: Vec<Container> = client::ask(instance, &Request::ContainerList)?;
    for container in containers {
        for endpoint in &container.endpoints {
            for address in &endpoint.addresses {
                println!("{}\t{}\t{}", container.name, endpoint.network, address.addr());
            }
        }
    }
    Ok(())
}
