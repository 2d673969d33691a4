//! Requests. [`crate::protocol`] writes and reads them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    spec::{ContainerSpec, NetworkSpec, PublishAdd, PublishMove},
    types::{flow_filter::FlowFilter, publish::PublishPorts},
};

/// One request to the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Removes everything that the agent made, and ends it. Answers [`Removed`](crate::Removed).
    Down,
    /// Answers the new [`Network`](crate::Network).
    NetworkCreate(NetworkSpec),
    /// Answers a list of [`Network`](crate::Network).
    NetworkList,
    /// Answers a [`Network`](crate::Network).
    NetworkInspect {
        /// The network's name.
        name: String,
    },
    /// Answers the [`Network`](crate::Network) that was removed.
    NetworkRemove {
        /// The network's name.
        name: String,
    },
    /// Answers the new [`Container`](crate::Container).
    ContainerCreate(ContainerSpec),
    /// Answers the new [`Container`](crate::Container).
    ContainerAttach {
        /// Absolute path of the network namespace.
        netns: PathBuf,
        /// The same fields as for a new container.
        spec: ContainerSpec,
    },
    /// Answers a list of [`Container`](crate::Container).
    ContainerList,
    /// Answers a [`Container`](crate::Container).
    ContainerInspect {
        /// The container's name.
        name: String,
    },
    /// Answers the path of the container's namespace. Fails if it leads elsewhere now.
    ContainerEnter {
        /// The container's name.
        name: String,
    },
    /// Answers the [`Container`](crate::Container) that was removed.
    ContainerRemove {
        /// The container's name.
        name: String,
    },
    /// Answers the new [`Publish`](crate::Publish).
    PublishAdd(PublishAdd),
    /// Answers the [`Publish`](crate::Publish) that was removed.
    PublishRemove {
        /// The container's name.
        container: String,
        /// The ports, as they were added.
        publish: PublishPorts,
    },
    /// Answers the [`Publish`](crate::Publish) after the move.
    PublishMove(PublishMove),
    /// Answers a list of [`Publish`](crate::Publish).
    PublishList,
    /// Answers a list of [`Flow`](crate::Flow): those that match.
    FlowsList(FlowFilter),
    /// Ends the flows that match. Answers [`Flushed`](crate::Flushed).
    FlowsFlush(FlowFilter),
    /// Answers [`Stats`](crate::Stats).
    Stats,
}

impl Request {
    /// The names of all verbs in JSON.
    pub(crate) const VERBS: [&str; 18] = [
        "down",
        "network-create",
        "network-list",
        "network-inspect",
        "network-remove",
        "container-create",
        "container-attach",
        "container-list",
        "container-inspect",
        "container-enter",
        "container-remove",
        "publish-add",
        "publish-remove",
        "publish-move",
        "publish-list",
        "flows-list",
        "flows-flush",
        "stats",
    ];

    /// The verb and its object, as they begin the message of an error: `network rm front`.
    pub fn describe(&self) -> String {
        match self {
            Self::Down => "down".to_owned(),
            Self::NetworkCreate(spec) => format!("network create {}", spec.name),
            Self::NetworkList => "network ls".to_owned(),
            Self::NetworkInspect { name } => format!("network inspect {name}"),
            Self::NetworkRemove { name } => format!("network rm {name}"),
            Self::ContainerCreate(spec) => format!("container create {}", spec.name),
            Self::ContainerAttach { spec, .. } => format!("container attach {}", spec.name),
            Self::ContainerList => "container ls".to_owned(),
            Self::ContainerInspect { name } => format!("container inspect {name}"),
            Self::ContainerEnter { name } => format!("container exec {name}"),
            Self::ContainerRemove { name } => format!("container rm {name}"),
            Self::PublishAdd(add) => format!("publish add {} {}", add.container, add.publish.ports),
            Self::PublishRemove { container, publish } => {
                format!("publish rm {container} {publish}")
            }
            Self::PublishMove(wanted) => {
                format!("publish move {} {}", wanted.ports, wanted.container)
            }
            Self::PublishList => "publish ls".to_owned(),
            Self::FlowsList(_) => "flows ls".to_owned(),
            Self::FlowsFlush(_) => "flows flush".to_owned(),
            Self::Stats => "stats".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_complete() {
        // serde's message for an unknown verb lists all that it knows.
        let error = serde_json::from_str::<Request>(r#"{"verb":"x"}"#).unwrap_err().to_string();
        let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, Request::VERBS, "{error}");
    }

    #[test]
    fn requests_read_what_they_print() {
        for request in [
            Request::Down,
            Request::NetworkCreate(NetworkSpec::default_network()),
            Request::ContainerRemove { name: "web".to_owned() },
            Request::PublishRemove {
                container: "web".to_owned(),
                publish: "8080:80".parse().unwrap(),
            },
        ] {
            let line = serde_json::to_string(&request).unwrap();
            assert!(!line.contains('\n'));
            let read: Request = serde_json::from_str(&line).unwrap();
            assert_eq!(read.describe(), request.describe());
        }
    }
}
