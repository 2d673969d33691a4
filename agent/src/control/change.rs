//! Changes: what the agent does to the host and to the datapath, one object at a time.
//!
//! Every change is derived by [`diff`](super::diff) from the state, the request and what was
//! observed, then checked by [`validate`](super::validate), which changes nothing, and made by
//! [`apply`](super::apply).

use std::{net::IpAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use causeway_api as api;
use causeway_api::{
    ChangeAction::{Add, Create, Declare, Move, Remove, Restore, Set, Update},
    ChangedObject as Object,
    spec::DEFAULT_NETWORK,
    types::{flow_options::FlowOptions, publish::PublishPorts, subnet},
};
use ipnet::IpNet;

use crate::state::{State, container::Container, network::Network, publish::Publish};

/// Context of an error that leaves the host without its default network.
const NO_DEFAULT: &str = "cannot make the network 'default'; declare networks of your own in a \
                          file and give it with --config";

/// One change of one object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) action: Action,
    pub(super) origin: Origin,
}

/// Who asks for a change.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// The state: an object is not on the host or in the datapath as the state has it.
    State,
    /// A verb.
    Command,
    /// The configuration file at this path.
    File(Arc<Path>),
    /// The rule that there is a default network, unless a file declares others or it was removed;
    /// with the file's path if there is one.
    Default(Option<Arc<Path>>),
}

/// What is done, to which object.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Set `ip_forward`.
    EnableForwarding,
    /// Keep the slots of drained publishes, before any other slot is taken.
    KeepDrains,
    /// Put a network of an earlier agent into the datapath.
    AdoptNetwork {
        name: String,
        bridge: u32,
        up: bool,
    },
    /// Put a container of an earlier agent into the datapath.
    AdoptContainer {
        name: String,
        host_sides: Vec<u32>,
        has_path: bool,
    },
    /// Forget a network whose bridge is gone.
    DropNetwork {
        name: String,
    },
    /// Remove what is left of a container.
    DropContainer {
        name: String,
        why: String,
    },
    /// Remove a host side that no container has.
    RemoveInterface {
        name: String,
        index: u32,
    },
    /// Remove from the datapath what an earlier agent left and this one did not adopt.
    DropStale,
    /// Give a bridge its addresses and IPv6 settings again.
    RestoreNetwork {
        name: String,
        bridge: u32,
    },
    /// Switch IPv6 forwarding of a bridge on again.
    ForwardIpv6 {
        network: String,
    },
    /// Warn that a bridge does not forward IPv6 and switching it on would cost the host routes.
    ReportNotForwarding {
        network: String,
    },
    /// Warn that a bridge was removed.
    ReportBridgeGone {
        network: String,
    },
    /// Switch IPv6 of a host side off again.
    DisableIpv6 {
        interface: String,
    },
    /// Remove the endpoints of a container from the datapath whose host sides are gone.
    ForgetEndpoints {
        container: String,
        gone: Vec<String>,
    },
    CreateNetwork(Network),
    /// Change how a network keeps flows.
    UpdateNetwork {
        name: String,
        flows: FlowOptions,
        /// The keys of the configuration file that it changes.
        changed: Vec<&'static str>,
    },
    RemoveNetwork {
        name: String,
    },
    /// `asked` are the addresses that were asked for.
    CreateContainer {
        container: Container,
        asked: Vec<IpAddr>,
    },
    RemoveContainer {
        name: String,
    },
    AddPublish {
        container: String,
        publish: Publish,
    },
    RemovePublish {
        container: String,
        ports: PublishPorts,
    },
    /// Lead a publish from one container to another.
    MovePublish {
        ports: PublishPorts,
        from: String,
        to: String,
        drain_s: Option<u32>,
    },
    /// Note that the configuration file declares an object that is there.
    Declare(Declared),
    /// Note that there is to be no default network.
    ForgoDefaultNetwork,
}

/// An object that a configuration file can declare.
#[derive(Clone, Debug)]
pub(super) enum Declared {
    Network(String),
    Container(String),
    Publish { container: String, ports: PublishPorts },
}

impl Origin {
    /// Whether no agent runs that a hint could send a command to.
    pub(super) const fn is_start(&self) -> bool {
        matches!(self, Self::File(_) | Self::Default(_))
    }

    /// Adds to an error of a change what the change was for.
    pub(super) fn context<T>(
        &self,
        object: impl FnOnce() -> String,
        result: anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        match self {
            Self::Command | Self::State => result,
            Self::File(path) => {
                result.with_context(object).with_context(|| path.display().to_string())
            }
            Self::Default(None) => result.context(NO_DEFAULT),
            Self::Default(Some(path)) => {
                result.context(NO_DEFAULT).with_context(|| path.display().to_string())
            }
        }
    }
}

impl Change {
    /// Adds to an error of the change what it was for.
    pub(super) fn context<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        let taken_over =
            matches!(self.action, Action::AdoptNetwork { .. } | Action::AdoptContainer { .. });
        if taken_over {
            return result.with_context(|| format!("cannot take over {}", self.action.object()));
        }
        self.origin.context(|| self.action.object(), result)
    }

    /// The change as `up --check` prints it; none if host and flows stay as they are.
    pub(super) fn describe(&self) -> Option<api::Change> {
        let change = |action, object, name: &str, details: Option<String>| {
            Some(api::Change { action, object, name: name.to_owned(), container: None, details })
        };
        let publish = |action, container: &str, ports: &PublishPorts, details| {
            Some(api::Change {
                action,
                object: Object::Publish,
                name: ports.to_string(),
                container: Some(container.to_owned()),
                details,
            })
        };
        match &self.action {
            Action::KeepDrains
            | Action::AdoptNetwork { .. }
            | Action::AdoptContainer { .. }
            | Action::DropStale
            | Action::ReportNotForwarding { .. }
            | Action::ReportBridgeGone { .. }
            | Action::ForgoDefaultNetwork => None,
            Action::EnableForwarding => {
                change(Set, Object::Sysctl, "net.ipv4.ip_forward", Some("1".to_owned()))
            }
            Action::DropNetwork { name } => {
                change(Remove, Object::Network, name, Some("its bridge is gone".to_owned()))
            }
            Action::DropContainer { name, why } => {
                change(Remove, Object::Container, name, Some(why.clone()))
            }
            Action::RemoveInterface { name, .. } => {
                change(Remove, Object::Interface, name, Some("no container has it".to_owned()))
            }
            Action::RestoreNetwork { name, .. } => change(Restore, Object::Network, name, None),
            Action::ForwardIpv6 { network } => {
                change(Restore, Object::Network, network, Some("IPv6 forwarding".to_owned()))
            }
            Action::DisableIpv6 { interface } => {
                change(Restore, Object::Interface, interface, Some("no IPv6".to_owned()))
            }
            Action::ForgetEndpoints { container, .. } => change(
                Update,
                Object::Container,
                container,
                Some("its host side is gone".to_owned()),
            ),
            Action::CreateNetwork(network) => {
                let subnets = subnet::join(&network.subnets);
                let details = format!("{subnets} on bridge {}", network.bridge);
                change(Create, Object::Network, &network.name, Some(details))
            }
            Action::UpdateNetwork { name, changed, .. } => {
                change(Update, Object::Network, name, Some(changed.join(", ")))
            }
            Action::RemoveNetwork { name } => change(Remove, Object::Network, name, None),
            Action::CreateContainer { container, .. } => {
                let mut details: Vec<String> =
                    container.addresses().map(|address| address.to_string()).collect();
                let networks = container.endpoints.iter().map(|endpoint| &endpoint.network);
                details.extend(networks.map(|network| format!("on network {network}")));
                let publishes = container.publishes.iter().map(Publish::spec);
                details.extend(publishes.map(|publish| format!("publish {publish}")));
                change(Create, Object::Container, &container.name, Some(details.join(", ")))
            }
            Action::RemoveContainer { name } => change(Remove, Object::Container, name, None),
            Action::AddPublish { container, publish: added } => {
                let from = subnet::join(&added.options.from);
                let details = (!from.is_empty()).then(|| format!("from {from}"));
                publish(Add, container, &added.ports, details)
            }
            Action::RemovePublish { container, ports } => publish(Remove, container, ports, None),
            Action::MovePublish { ports, from, to, .. } => {
                publish(Move, to, ports, Some(format!("from container {from}")))
            }
            Action::Declare(declared) => match declared {
                Declared::Network(name) => change(Declare, Object::Network, name, None),
                Declared::Container(name) => change(Declare, Object::Container, name, None),
                Declared::Publish { container, ports } => publish(Declare, container, ports, None),
            },
        }
    }
}

impl Action {
    /// The object with its kind, as it begins an error.
    fn object(&self) -> String {
        match self {
            Self::AdoptNetwork { name, .. }
            | Self::DropNetwork { name }
            | Self::RestoreNetwork { name, .. }
            | Self::ForwardIpv6 { network: name }
            | Self::ReportNotForwarding { network: name }
            | Self::ReportBridgeGone { network: name }
            | Self::CreateNetwork(Network { name, .. })
            | Self::UpdateNetwork { name, .. }
            | Self::RemoveNetwork { name }
            | Self::Declare(Declared::Network(name)) => format!("network '{name}'"),
            Self::AdoptContainer { name, .. }
            | Self::DropContainer { name, .. }
            | Self::ForgetEndpoints { container: name, .. }
            | Self::CreateContainer { container: Container { name, .. }, .. }
            | Self::RemoveContainer { name }
            | Self::AddPublish { container: name, .. }
            | Self::RemovePublish { container: name, .. }
            | Self::MovePublish { to: name, .. }
            | Self::Declare(
                Declared::Container(name) | Declared::Publish { container: name, .. },
            ) => format!("container '{name}'"),
            Self::RemoveInterface { name, .. } | Self::DisableIpv6 { interface: name } => {
                format!("interface '{name}'")
            }
            Self::EnableForwarding => "ip_forward".to_owned(),
            Self::KeepDrains | Self::DropStale => "the datapath".to_owned(),
            Self::ForgoDefaultNetwork => format!("network '{DEFAULT_NETWORK}'"),
        }
    }

    /// Writes the change into the state, where it changes that.
    pub(super) fn record(&self, state: &mut State) {
        match self {
            Self::EnableForwarding
            | Self::KeepDrains
            | Self::AdoptNetwork { .. }
            | Self::AdoptContainer { .. }
            | Self::RemoveInterface { .. }
            | Self::DropStale
            | Self::RestoreNetwork { .. }
            | Self::ForwardIpv6 { .. }
            | Self::ReportNotForwarding { .. }
            | Self::ReportBridgeGone { .. }
            | Self::DisableIpv6 { .. }
            | Self::ForgetEndpoints { .. } => {}
            Self::CreateNetwork(network) => {
                state.networks.insert(network.name.clone(), network.clone());
            }
            Self::UpdateNetwork { name, flows, .. } => {
                if let Some(network) = state.networks.get_mut(name) {
                    network.flows = flows.clone();
                }
            }
            Self::DropNetwork { name } => {
                state.networks.remove(name);
            }
            Self::RemoveNetwork { name } => {
                state.networks.remove(name);
                state.no_default |= name == DEFAULT_NETWORK;
            }
            Self::CreateContainer { container, asked } => {
                remember_given(state, container, asked);
                state.containers.insert(container.name.clone(), container.clone());
            }
            Self::DropContainer { name, .. } | Self::RemoveContainer { name } => {
                state.containers.remove(name);
            }
            Self::AddPublish { container, publish } => {
                if let Some(container) = state.containers.get_mut(container) {
                    container.publishes.push(publish.clone());
                }
            }
            Self::RemovePublish { container, ports } => {
                if let Some(container) = state.containers.get_mut(container) {
                    container.publishes.retain(|publish| publish.ports != *ports);
                }
            }
            Self::MovePublish { ports, from, to, .. } => {
                let taken = state.containers.get_mut(from).and_then(|container| {
                    let mut publishes = container.publishes.iter();
                    let at = publishes.position(|publish| publish.ports == *ports)?;
                    Some(container.publishes.remove(at))
                });
                if let Some(container) = state.containers.get_mut(to) {
                    container.publishes.extend(taken);
                }
            }
            Self::Declare(Declared::Network(name)) => {
                if let Some(network) = state.networks.get_mut(name) {
                    network.declared = true;
                }
            }
            Self::Declare(Declared::Container(name)) => {
                if let Some(container) = state.containers.get_mut(name) {
                    container.declared = true;
                }
            }
            Self::Declare(Declared::Publish { container, ports }) => {
                let container = state.containers.get_mut(container);
                let publishes = container.into_iter().flat_map(|there| &mut there.publishes);
                for publish in publishes.filter(|publish| publish.ports == *ports) {
                    publish.declared = true;
                }
            }
            Self::ForgoDefaultNetwork => state.no_default = true,
        }
    }
}

/// The next addresses that are given follow these, but for those that were asked for.
fn remember_given(state: &mut State, container: &Container, asked: &[IpAddr]) {
    for endpoint in &container.endpoints {
        if let Some(network) = state.networks.get_mut(&endpoint.network) {
            let given = endpoint.addresses.iter().map(IpNet::addr);
            given
                .filter(|address| !asked.contains(address))
                .for_each(|address| network.remember(address));
        }
    }
}
