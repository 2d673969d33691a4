//! Whether the host allows changes: its addresses and routes, its interfaces, its namespaces, and
//! the sockets of its processes.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::bail;
use causeway_api::{
    Error,
    types::{family::Family, publish::PublishPorts},
};

use super::{
    change::{Action, Change, Origin},
    host::{Host, Ipv6},
    observed::{NamespaceSnapshot, Observed, cookie_at, what_is_gone},
    resource::port_probe,
    snapshot::HostSnapshot,
};
use crate::state::{
    State,
    container::{Container, INTERFACE},
    network::Network,
};

/// Checks changes in their order against the host. Touches nothing.
///
/// `attach` is the namespace that becomes a container, if one does.
pub(super) fn validate(
    changes: &[Change],
    state: &State,
    observed: &Observed,
    attach: Option<&NamespaceSnapshot>,
    host: &Host,
) -> anyhow::Result<()> {
    let mut checker = Checker {
        state: state.clone(),
        observed,
        snapshot: observed.host.clone(),
        attach,
        host,
        leaving: BTreeSet::new(),
    };
    for change in changes {
        change.context(checker.check(&change.action, &change.origin))?;
        change.action.record(&mut checker.state);
    }
    Ok(())
}

/// State and host as they will be once the changes before are made.
struct Checker<'a> {
    state: State,
    observed: &'a Observed,
    snapshot: HostSnapshot,
    attach: Option<&'a NamespaceSnapshot>,
    host: &'a Host,
    /// Paths of namespaces that will have been removed.
    leaving: BTreeSet<PathBuf>,
}

impl Checker<'_> {
    fn check(&mut self, action: &Action, origin: &Origin) -> anyhow::Result<()> {
        match action {
            Action::CreateNetwork(network) => self.check_network(network),
            Action::RemoveNetwork { name } => {
                let network = self.state.network(name)?;
                if let Some(bridge) = self.snapshot.bridge(&network.bridge) {
                    self.snapshot.forget_link(bridge.index);
                }
                Ok(())
            }
            Action::CreateContainer { container, .. } => {
                let network = self.state.network_of(container)?;
                self.check_bridge(network)?;
                for publish in &container.publishes {
                    self.check_publish(&publish.ports, network)?;
                }
                match self.attach {
                    Some(attach) if !container.made => self.check_attachable(attach, network),
                    _ => self.check_creatable(container, origin),
                }
            }
            Action::RemoveContainer { name } | Action::DropContainer { name, .. } => {
                let container = self.state.container(name)?;
                let there = cookie_at(&container.netns);
                // A container that was never finished has the namespace that is there.
                if container.made && (container.cookie.is_none() || there == container.cookie) {
                    self.leaving.insert(container.netns.clone());
                }
                Ok(())
            }
            Action::AddPublish { container, publish } => {
                let container = self.state.container(container)?;
                self.check_present(container)?;
                self.check_publish(&publish.ports, self.state.network_of(container)?)
            }
            Action::MovePublish { to, .. } => self.check_present(self.state.container(to)?),
            Action::EnableForwarding
            | Action::KeepDrains
            | Action::AdoptNetwork { .. }
            | Action::AdoptContainer { .. }
            | Action::DropNetwork { .. }
            | Action::RemoveInterface { .. }
            | Action::DropStale
            | Action::RestoreNetwork { .. }
            | Action::ForwardIpv6 { .. }
            | Action::ReportNotForwarding { .. }
            | Action::ReportBridgeGone { .. }
            | Action::DisableIpv6 { .. }
            | Action::ForgetEndpoints { .. }
            | Action::UpdateNetwork { .. }
            | Action::RemovePublish { .. }
            | Action::Declare(_)
            | Action::ForgoDefaultNetwork => Ok(()),
        }
    }

    fn check_network(&self, network: &Network) -> anyhow::Result<()> {
        for subnet in &network.subnets {
            self.snapshot.check_free(*subnet)?;
        }
        if network.has_v6() {
            check_ipv6(self.observed.ipv6)?;
        }
        let bridge = &network.bridge;
        if self.snapshot.link(bridge).is_some() {
            bail!(
                Error::in_use(format!("the host has an interface '{bridge}' already"))
                    .hint("take another name for the bridge")
            );
        }
        Ok(())
    }

    /// Fails if the network's bridge was removed by hand. One that is planned has no index yet.
    fn check_bridge(&self, network: &Network) -> anyhow::Result<()> {
        match self.observed.bridge(&network.name) {
            Some(index) if !self.snapshot.has_index(index) => bail!(bridge_gone(network)),
            _ => Ok(()),
        }
    }

    /// Fails if the container is not on the host, or no longer whole. One that is planned or was
    /// adopted in this plan is.
    fn check_present(&self, container: &Container) -> anyhow::Result<()> {
        if self.observed.installed.is_none() {
            return Ok(());
        }
        let Some(gone) = what_is_gone(container, &self.snapshot) else { return Ok(()) };
        bail!(
            Error::not_found(gone)
                .hint("remove the container with")
                .run(["container", "rm", &container.name])
                .hint(", and make it again")
        )
    }

    /// Fails unless the host address is the host's, and no process of the host has a port.
    fn check_publish(&self, ports: &PublishPorts, network: &Network) -> anyhow::Result<()> {
        if let Some(address) = ports.host_address {
            let networks = self.state.networks.values();
            let mut gateways = networks.flat_map(|network| &network.gateways);
            if !self.snapshot.has(address) && !gateways.any(|gateway| *gateway == address) {
                bail!(
                    Error::not_found(format!("the host has no address {address}"))
                        .hint("give one of the host's own, or none for any")
                );
            }
        }
        check_ports_free(self.host, ports, network)
    }

    /// Fails unless the namespace can be attached.
    fn check_attachable(
        &self,
        attach: &NamespaceSnapshot,
        network: &Network,
    ) -> anyhow::Result<()> {
        let path = attach.path.display();
        if attach.cookie == self.state.host.cookie {
            bail!(
                Error::invalid(format!("{path} is the host's own network namespace"))
                    .hint("give a container's")
            );
        }
        let mut containers = self.state.containers.values();
        if let Some(owner) = containers.find(|there| there.cookie == Some(attach.cookie)) {
            bail!(
                Error::already_exists(format!("{path} is container '{}' already", owner.name))
                    .hint("a namespace is one container")
            );
        }
        if attach.interfaces.contains(INTERFACE) {
            let what = format!(
                "{path} has an interface '{INTERFACE}' already, which is what the container side \
                 is called"
            );
            bail!(Error::in_use(what).hint("rename it or remove it"));
        }
        let is_in_the_way = |destination| {
            let family = Family::of_subnet(destination);
            destination.prefix_len() == 0 && network.has(family) && !network.internal
        };
        let mut routes = attach.routes.iter().map(|route| route.destination);
        if let Some(default) = routes.find(|destination| is_in_the_way(*destination)) {
            let family = Family::of_subnet(default);
            bail!(
                Error::in_use(format!("{path} has an {family} default route already"))
                    .hint("remove it, or use a network that was created with --internal")
            );
        }
        Ok(())
    }

    /// Fails if the name of the container's namespace is taken.
    fn check_creatable(&self, container: &Container, origin: &Origin) -> anyhow::Result<()> {
        let path = &container.netns;
        if path.symlink_metadata().is_err() || self.leaving.contains(path) {
            return Ok(());
        }
        let what = format!("there is a network namespace {} already", path.display());
        let error = Error::already_exists(what).hint("take another name");
        if origin.is_start() {
            bail!(error.hint("in the file, or start without --config"));
        }
        let path = path.display().to_string();
        bail!(error.hint(", or make it a container with").run([
            "container",
            "attach",
            &container.name,
            "--netns",
            &path,
        ]))
    }
}

/// Fails if a process of the host has one of the ports. Asked again right before a publish is put:
/// a process may have bound it since.
pub(super) fn check_ports_free(
    host: &Host,
    ports: &PublishPorts,
    network: &Network,
) -> anyhow::Result<()> {
    if host.allow_bind {
        return Ok(());
    }
    let own: Vec<Family> = network.families().collect();
    let served: Vec<Family> = ports.families(&own).collect();
    let Some(port) = port_probe::taken_port(&host.handles.netns, ports, &served)? else {
        return Ok(());
    };
    let what = format!("a process of the host has port {port}/{} already", ports.protocol);
    bail!(
        Error::in_use(what)
            .hint("take another host port, stop it, or allow both with")
            .run(["up", "--allow-bind"])
    )
}

fn check_ipv6(ipv6: Ipv6) -> anyhow::Result<()> {
    match ipv6 {
        Ipv6::Enabled => Ok(()),
        Ipv6::Disabled => bail!(Error::unsupported("IPv6 is disabled on the host").hint(
            "enable it with 'sysctl net.ipv6.conf.all.disable_ipv6=0', or leave the IPv6 subnet out"
        )),
        Ipv6::Absent => bail!(
            Error::unsupported(
                "this kernel was started without IPv6 (ipv6.disable=1), or has none"
            )
            .hint("leave the IPv6 subnet out")
        ),
    }
}

/// The error for a network whose bridge was removed.
pub(super) fn bridge_gone(network: &Network) -> Error {
    let Network { name, bridge, .. } = network;
    Error::not_found(format!("the bridge {bridge} of network '{name}' is gone"))
        .hint("remove the containers that are on it, then the network with")
        .run(["network", "rm", name])
        .hint(", and make both again")
}
