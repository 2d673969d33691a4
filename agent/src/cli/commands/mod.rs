//! Runs each verb and prints its answer.

pub mod down;
pub mod exec;
pub mod up;

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use causeway_api as api;
use causeway_api::{Error, Request, client};
use serde::{Serialize, de::DeserializeOwned};

use crate::cli::{
    args::{Cli, Common, ContainerVerb, FlowsVerb, NetworkVerb, PublishVerb, Verb},
    render,
};

/// How a verb failed.
#[derive(Debug)]
pub struct VerbError {
    /// The exit status of the process.
    pub status: u8,
    /// What is printed.
    pub error: Error,
}

impl From<Error> for VerbError {
    fn from(error: Error) -> Self {
        Self { status: 1, error }
    }
}

impl From<anyhow::Error> for VerbError {
    fn from(error: anyhow::Error) -> Self {
        Error::from_chain(&*error).into()
    }
}

/// Runs a verb.
pub fn run(cli: Cli) -> Result<ExitCode, VerbError> {
    let Cli { verb, common } = cli;
    match verb {
        Verb::Up(options) => match &options.check {
            None => up::up(&options, &common.instance)?,
            Some(Some(_)) if options.config.is_some() => {
                let error = Error::invalid("up: --check and --config both give a file");
                return Err(VerbError { status: 2, error: error.hint("give it once") });
            }
            Some(_) => {
                let changes = up::check(&options, &common.instance)?;
                print(&common, "up --check", &changes, |changes| render::changes(changes))?;
            }
        },
        Verb::Down => print(&common, "down", &down::down(&common.instance)?, render::removed)?,
        Verb::Network { verb } => network(&common, verb)?,
        Verb::Container { verb } => container(&common, verb)?,
        Verb::Publish { verb } => publish(&common, verb)?,
        Verb::Flows { verb, which } => match verb.unwrap_or(FlowsVerb::Ls(which)) {
            FlowsVerb::Ls(which) => {
                list::<api::Flow>(&common, &Request::FlowsList(which.into_filter()))?;
            }
            FlowsVerb::Flush(which) => {
                tell(&common, &Request::FlowsFlush(which.into_filter()), render::flushed)?;
            }
        },
        Verb::Stats => tell(&common, &Request::Stats, render::stats)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn network(common: &Common, verb: NetworkVerb) -> Result<(), Error> {
    match verb {
        NetworkVerb::Create(create) => {
            let request = Request::NetworkCreate(create.into_spec());
            tell(common, &request, |made| render::network_done("created", made))
        }
        NetworkVerb::Ls => list::<api::Network>(common, &Request::NetworkList),
        NetworkVerb::Inspect(which) => {
            let request = Request::NetworkInspect { name: which.name };
            tell(common, &request, render::network)
        }
        NetworkVerb::Rm(which) => {
            let request = Request::NetworkRemove { name: which.name };
            tell(common, &request, |gone| render::network_done("removed", gone))
        }
    }
}

fn container(common: &Common, verb: ContainerVerb) -> Result<(), VerbError> {
    match verb {
        ContainerVerb::Create(create) => {
            let request = Request::ContainerCreate(create.into_spec());
            tell(common, &request, |made| render::container_done("created", made))?;
        }
        ContainerVerb::Attach(attach) => {
            let (netns, spec) = attach.into_spec();
            let request = Request::ContainerAttach { netns, spec };
            tell(common, &request, |made| render::container_done("attached", made))?;
        }
        ContainerVerb::Ls => list::<api::Container>(common, &Request::ContainerList)?,
        ContainerVerb::Inspect(which) => {
            let request = Request::ContainerInspect { name: which.name };
            tell(common, &request, render::container)?;
        }
        ContainerVerb::Rm(which) => {
            let request = Request::ContainerRemove { name: which.name };
            tell(common, &request, |gone| render::container_done("removed", gone))?;
        }
        ContainerVerb::Exec(command) => {
            return Err(exec::exec(&common.instance, &command.name, &command.command));
        }
    }
    Ok(())
}

fn publish(common: &Common, verb: PublishVerb) -> Result<(), Error> {
    match verb {
        PublishVerb::Add(add) => tell(common, &Request::PublishAdd(add.into_request()), |made| {
            render::publish_done("published", made)
        }),
        PublishVerb::Rm(which) => {
            let request =
                Request::PublishRemove { container: which.container, publish: which.publish };
            tell(common, &request, |gone| render::publish_done("no longer published:", gone))
        }
        PublishVerb::Move(wanted) => {
            tell(common, &Request::PublishMove(wanted.into_request()), render::publish_moved)
        }
        PublishVerb::Ls => list::<api::Publish>(common, &Request::PublishList),
    }
}

fn list<T: Serialize + DeserializeOwned + render::Row>(
    common: &Common,
    request: &Request,
) -> Result<(), Error> {
    let rows: Vec<T> = client::ask(common.instance.name(), request)?;
    print(common, &request.describe(), &rows, |rows| render::table(rows))
}

fn tell<T: Serialize + DeserializeOwned>(
    common: &Common,
    request: &Request,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Error> {
    let answer: T = client::ask(common.instance.name(), request)?;
    print(common, &request.describe(), &answer, text)
}

fn print<T: Serialize>(
    common: &Common,
    verb: &str,
    answer: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Error> {
    let text = if common.json {
        let mut json = serde_json::to_string_pretty(answer)
            .map_err(|error| Error::internal(format!("{verb}: cannot print JSON: {error}")))?;
        json.push('\n');
        json
    } else {
        text(answer)
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // The reader has read enough (`| head`).
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::os(error)
            .context(format!("{verb}: it succeeded, but cannot write the answer to stdout"))
            .hint("make room there, or print it elsewhere")),
        _ => Ok(()),
    }
}
