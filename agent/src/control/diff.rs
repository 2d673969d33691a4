//! The changes that lead from the state to what is wanted, whatever the cause.

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use causeway_api::{
    ContainerSpec, Error, NetworkSpec, PublishMove,
    spec::DEFAULT_NETWORK,
    types::{
        family::Family,
        host_ports::HostPorts,
        publish::{PublishPorts, PublishSpec},
        subnet,
    },
};

use super::{
    change::{Action, Change, Declared, Origin},
    draft::{Draft, Settings},
    host::Ipv6,
    observed::{NamespaceSnapshot, Observed},
    snapshot::HostSnapshot,
};
use crate::{
    config_file::Config,
    ipam,
    state::{
        State,
        container::{Container, is_host_side_name},
        network::Network,
        publish::Publish,
    },
};

/// What host and datapath are to become.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// What the state has: after a start of the agent, and whenever the host changed.
    State,
    /// What a configuration file declares, beside what was added by command.
    File(&'a Config),
    /// A default network, unless there is to be none.
    DefaultNetwork,
    /// What a verb asks for.
    Verb(Verb<'a>),
}

/// A verb that changes something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb<'a> {
    CreateNetwork(&'a NetworkSpec),
    RemoveNetwork(&'a str),
    /// In the namespace `attach`, or in one of its own.
    CreateContainer {
        spec: &'a ContainerSpec,
        attach: Option<&'a NamespaceSnapshot>,
    },
    RemoveContainer(&'a str),
    AddPublish {
        container: &'a str,
        spec: &'a PublishSpec,
    },
    RemovePublish {
        container: &'a str,
        ports: &'a PublishPorts,
    },
    MovePublish(&'a PublishMove),
}

/// The changes that bring host and datapath from `state` to what is wanted, in the order in which
/// they are to be made. Each element of `wanted` starts from the result of the one before.
///
/// Fails if what is wanted contradicts the state or itself. Whether the host allows the changes is
/// for [`validate`](super::validate::validate).
pub(super) fn diff(
    state: &State,
    wanted: &[Wanted<'_>],
    observed: &Observed,
    settings: Settings<'_>,
) -> anyhow::Result<Vec<Change>> {
    let mut draft = Draft::new(settings, observed, state.clone());
    for wanted in wanted {
        match *wanted {
            Wanted::State if observed.installed.is_none() => adopt(&mut draft),
            Wanted::State => repair(&mut draft),
            Wanted::File(config) => declare(&mut draft, config)?,
            Wanted::DefaultNetwork => add_default_network(&mut draft, None)?,
            Wanted::Verb(verb) => diff_verb(&mut draft, verb)?,
        }
    }
    Ok(draft.changes)
}

/// Drafts the changes that a verb asks for.
fn diff_verb(draft: &mut Draft<'_>, verb: Verb<'_>) -> anyhow::Result<()> {
    draft.origin = Origin::Command;
    match verb {
        Verb::CreateNetwork(spec) => {
            let network = draft.network_of(spec)?;
            draft.push(Action::CreateNetwork(network));
        }
        Verb::RemoveNetwork(name) => {
            draft.state.network(name)?;
            let on_it = draft.state.containers_on(name);
            if let Some(first) = on_it.first() {
                bail!(
                    Error::in_use(format!("the containers {} are on it", on_it.join(", ")))
                        .hint("remove each of them first, with")
                        .run(["container", "rm", first])
                        .hint("and so on")
                );
            }
            draft.push(Action::RemoveNetwork { name: name.to_owned() });
        }
        Verb::CreateContainer { spec, attach } => {
            let container = draft.container_of(spec, attach)?;
            draft.push(Action::CreateContainer { container, asked: spec.addresses.clone() });
        }
        Verb::RemoveContainer(name) => {
            draft.state.container(name)?;
            draft.push(Action::RemoveContainer { name: name.to_owned() });
        }
        Verb::AddPublish { container, spec } => {
            let network = draft.state.network_of(draft.state.container(container)?)?;
            let publish = draft.publish_of(network, spec, false)?;
            draft.push(Action::AddPublish { container: container.to_owned(), publish });
        }
        Verb::RemovePublish { container: name, ports } => {
            let container = draft.state.container(name)?;
            if !container.publishes.iter().any(|publish| publish.ports == *ports) {
                let publishes = container.publishes.iter();
                let others: Vec<String> =
                    publishes.map(|publish| publish.ports.to_string()).collect();
                bail!(Error::not_found(match others.as_slice() {
                    [] => format!("the container '{name}' has no publishes"),
                    others => format!(
                        "the container '{name}' has no such publish; it has {}",
                        others.join(", ")
                    ),
                }));
            }
            draft.push(Action::RemovePublish { container: name.to_owned(), ports: *ports });
        }
        Verb::MovePublish(wanted) => {
            let action = move_publish(&draft.state, wanted)?;
            draft.push(action);
        }
    }
    Ok(())
}

fn move_publish(state: &State, wanted: &PublishMove) -> anyhow::Result<Action> {
    let (from, ports) = find_publish(state, &wanted.ports)?;
    let to = state.container(&wanted.container)?;
    let (owner, target) = (&from.name, &to.name);
    if owner == target {
        bail!(
            Error::already_exists(format!("it leads to container '{target}' already"))
                .hint("name another one")
        );
    }
    let (leaves, enters) = (state.network_of(from)?, state.network_of(to)?);
    if leaves.name != enters.name {
        let what = format!(
            "container '{target}' is on network '{}', and '{owner}', where it leads, on '{}'",
            enters.name, leaves.name
        );
        bail!(
            Error::invalid(what)
                .hint("name a container of that network, or end it with")
                .run(["publish", "rm"])
                .hint("and publish it anew with")
                .run(["publish", "add"])
        );
    }
    let (from, to, drain_s) = (owner.clone(), target.clone(), wanted.drain_s);
    Ok(Action::MovePublish { ports, from, to, drain_s })
}

/// The publish of exactly those host ports, with its container.
fn find_publish<'s>(
    state: &'s State,
    ports: &HostPorts,
) -> anyhow::Result<(&'s Container, PublishPorts)> {
    let mut overlapping = Vec::new();
    for (owner, publish) in state.publishes() {
        let theirs = HostPorts::of(&publish.ports);
        if theirs == *ports {
            return Ok((owner, publish.ports));
        }
        if theirs.overlap(ports) {
            overlapping.push(theirs.to_string());
        }
    }
    let which = match overlapping.as_slice() {
        [] => bail!(
            Error::not_found(format!("{ports} is not published"))
                .run(["publish", "ls"])
                .hint("lists what is, and")
                .run(["publish", "add"])
                .hint("publishes it")
        ),
        [_] => "that",
        _ => "one of those",
    };
    let what = format!("{ports} is not what is published, which is {}", overlapping.join(" and "));
    bail!(Error::not_found(what).hint(format!("a publish is moved as a whole, so give {which}")))
}

/// Takes over what an earlier agent of the instance left, and removes what is left of objects that
/// are gone.
fn adopt(draft: &mut Draft<'_>) {
    draft.origin = Origin::State;
    if !draft.observed.forwards {
        draft.push(Action::EnableForwarding);
    }
    draft.push(Action::KeepDrains);
    let snapshot = &draft.observed.host;
    let networks: Vec<Network> = draft.state.networks.values().cloned().collect();
    let containers: Vec<Container> = draft.state.containers.values().cloned().collect();
    for network in &networks {
        if let Some(bridge) = snapshot.bridge(&network.bridge) {
            let (name, bridge, up) = (network.name.clone(), bridge.index, bridge.up);
            draft.push(Action::AdoptNetwork { name, bridge, up });
        }
    }
    for container in &containers {
        let name = container.name.clone();
        draft.push(match adoptable(container, draft) {
            Ok(host_sides) => {
                let has_path =
                    draft.observed.namespaces.get(&container.netns).copied() == container.cookie;
                Action::AdoptContainer { name, host_sides, has_path }
            }
            Err(why) => Action::DropContainer { name, why },
        });
    }
    for network in networks {
        if snapshot.bridge(&network.bridge).is_none() {
            draft.push(Action::DropNetwork { name: network.name });
        }
    }
    let bridges: BTreeSet<u32> = draft
        .state
        .networks
        .values()
        .filter_map(|network| Some(snapshot.bridge(&network.bridge)?.index))
        .collect();
    let endpoints = containers.iter().flat_map(|container| &container.endpoints);
    let known: BTreeSet<&str> = endpoints.map(|endpoint| endpoint.host_side.as_str()).collect();
    // Of an agent that ended before it could take back what failed.
    for link in &snapshot.links {
        if is_host_side_name(&link.name)
            && link.controller.is_some_and(|controller| bridges.contains(&controller))
            && !known.contains(link.name.as_str())
        {
            draft.push(Action::RemoveInterface { name: link.name.clone(), index: link.index });
        }
    }
    draft.push(Action::DropStale);
}

/// The indexes of a container's host sides, or what is gone of it.
fn adoptable(container: &Container, draft: &Draft<'_>) -> Result<Vec<u32>, String> {
    let (snapshot, state) = (&draft.observed.host, &draft.state);
    let cookie = container.cookie.ok_or("it was never finished")?;
    let mut indexes = Vec::new();
    for endpoint in &container.endpoints {
        let network = state.networks.get(&endpoint.network);
        let bridge = network.and_then(|network| snapshot.bridge(&network.bridge));
        let Some(bridge) = bridge else {
            return Err(format!("its network '{}' is gone", endpoint.network));
        };
        let link = snapshot.link(&endpoint.host_side);
        let Some(link) = link.filter(|link| link.controller == Some(bridge.index)) else {
            return Err(format!("its host side {} is gone", endpoint.host_side));
        };
        indexes.push(link.index);
    }
    let netns = &container.netns;
    if container.made && draft.observed.namespaces.get(netns) != Some(&cookie) {
        return Err(format!("its network namespace {} is gone", netns.display()));
    }
    Ok(indexes)
}

/// Repairs what was changed behind the agent's back, and reports what it does not repair.
fn repair(draft: &mut Draft<'_>) {
    draft.origin = Origin::State;
    let observed = draft.observed;
    let (snapshot, Some(installed)) = (&observed.host, &observed.installed) else { return };
    let networks: Vec<Network> = draft.state.networks.values().cloned().collect();
    for network in networks {
        let Some(bridge) = installed.bridges.get(&network.name).copied() else { continue };
        let name = || network.name.clone();
        if !snapshot.has_index(bridge) {
            draft.push(Action::ReportBridgeGone { network: name() });
            continue;
        }
        if observed.not_forwarding.contains(&network.name) {
            draft.push(if snapshot.hears_routers() {
                Action::ReportNotForwarding { network: name() }
            } else {
                Action::ForwardIpv6 { network: name() }
            });
        }
        if observed.ipv6 == Ipv6::Enabled && has_wrong_ipv6_addresses(&network, bridge, snapshot) {
            draft.push(Action::RestoreNetwork { name: name(), bridge });
        }
    }
    let containers: Vec<Container> = draft.state.containers.values().cloned().collect();
    for container in containers {
        let (mut in_use, mut gone) = (false, Vec::new());
        for endpoint in &container.endpoints {
            let Some(link) = snapshot.link(&endpoint.host_side) else {
                let mut addresses = endpoint.addresses.iter();
                in_use |= addresses.any(|address| installed.endpoints.contains(&address.addr()));
                gone.push(endpoint.host_side.clone());
                continue;
            };
            let has_ipv6 = snapshot.addresses_on(link.index).any(|address| address.is_ipv6());
            if observed.ipv6 == Ipv6::Enabled && has_ipv6 {
                draft.push(Action::DisableIpv6 { interface: link.name.clone() });
            }
        }
        if in_use {
            draft.push(Action::ForgetEndpoints { container: container.name, gone });
        }
    }
}

/// Whether a bridge lacks the IPv6 gateway address of its network, or has IPv6 addresses although
/// its network has no IPv6 subnet. Both follow when another program switches IPv6 of the whole host
/// off and on: the kernel removes all addresses, then adds link-local ones.
fn has_wrong_ipv6_addresses(network: &Network, bridge: u32, snapshot: &HostSnapshot) -> bool {
    if !network.has_v6() {
        return snapshot.addresses_on(bridge).any(|address| address.is_ipv6());
    }
    let gateway = network.gateways.iter().find(|gateway| gateway.is_ipv6());
    gateway.is_some_and(|gateway| !snapshot.addresses_on(bridge).any(|there| there == *gateway))
}

/// Makes what the file declares, makes anew what it declares otherwise than it is, and removes what
/// a former file declared and this one does not. What was added by command stays.
fn declare(draft: &mut Draft<'_>, config: &Config) -> anyhow::Result<()> {
    let path: Arc<Path> = config.path.as_path().into();
    draft.origin = Origin::File(Arc::clone(&path));
    draft.reserved = asked_for(config).collect();
    let in_file = |result: anyhow::Result<()>, object: &str, name: &str| {
        result
            .with_context(|| format!("{object} '{name}'"))
            .with_context(|| path.display().to_string())
    };
    let networks = outdated_networks(&draft.state, config);
    for name in outdated_containers(&draft.state, config, &networks) {
        draft.push(Action::RemoveContainer { name });
    }
    for name in networks {
        let unused = check_unused(&draft.state, &name);
        unused.with_context(|| path.display().to_string())?;
        draft.push(Action::RemoveNetwork { name });
    }
    if !config.networks.is_empty() && !draft.state.no_default {
        draft.push(Action::ForgoDefaultNetwork);
    }
    for spec in networks_in_turn(config) {
        in_file(declare_network(draft, spec), "network", &spec.name)?;
    }
    // A file that declares no networks may put containers on the default one.
    add_default_network(draft, Some(&path))?;
    draft.origin = Origin::File(Arc::clone(&path));
    for (container, ports) in outdated_publishes(&draft.state, config) {
        draft.push(Action::RemovePublish { container, ports });
    }
    for spec in &config.containers {
        in_file(declare_container(draft, spec), "container", &spec.name)?;
    }
    Ok(())
}

fn declare_network(draft: &mut Draft<'_>, spec: &NetworkSpec) -> anyhow::Result<()> {
    let Some(network) = draft.state.networks.get(&spec.name) else {
        let network = draft.network_of(spec)?;
        draft.push(Action::CreateNetwork(network));
        return Ok(());
    };
    let (declared, changed) =
        (network.declared, network.flows.policy().differences(&spec.flows.policy()));
    if !declared {
        draft.push(Action::Declare(Declared::Network(spec.name.clone())));
    }
    if !changed.is_empty() {
        let (name, flows) = (spec.name.clone(), spec.flows.clone());
        draft.push(Action::UpdateNetwork { name, flows, changed });
    }
    Ok(())
}

fn declare_container(draft: &mut Draft<'_>, spec: &ContainerSpec) -> anyhow::Result<()> {
    let Some(container) = draft.state.containers.get(&spec.name).cloned() else {
        let container = draft.container_of(spec, None)?;
        draft.push(Action::CreateContainer { container, asked: spec.addresses.clone() });
        return Ok(());
    };
    if !container.declared {
        draft.push(Action::Declare(Declared::Container(spec.name.clone())));
    }
    for wanted in &spec.publishes {
        let name = spec.name.clone();
        match container.publishes.iter().find(|publish| publish.ports == wanted.ports) {
            Some(publish) if publish.is(wanted) => {
                if !publish.declared {
                    let ports = publish.ports;
                    draft.push(Action::Declare(Declared::Publish { container: name, ports }));
                }
                continue;
            }
            Some(publish) => {
                let (container, ports) = (name.clone(), publish.ports);
                draft.push(Action::RemovePublish { container, ports });
            }
            None => {}
        }
        let network = draft.state.network_of(&container)?;
        let publish = draft.publish_of(network, wanted, true)?;
        draft.push(Action::AddPublish { container: name, publish });
    }
    Ok(())
}

fn add_default_network(draft: &mut Draft<'_>, file: Option<&Arc<Path>>) -> anyhow::Result<()> {
    if draft.state.no_default || draft.state.networks.contains_key(DEFAULT_NETWORK) {
        return Ok(());
    }
    draft.origin = Origin::Default(file.map(Arc::clone));
    let network = draft.network_of(&NetworkSpec::default_network());
    let network = draft.origin.context(String::new, network)?;
    draft.push(Action::CreateNetwork(network));
    Ok(())
}

/// Fails if a network that the file removes or makes anew has containers left: only those that were
/// added by command can be.
fn check_unused(state: &State, name: &str) -> anyhow::Result<()> {
    let stay = state.containers_on(name);
    if stay.is_empty() {
        return Ok(());
    }
    let what = format!(
        "network '{name}' is declared otherwise than it is, or no longer, and these containers \
         that were added by command are on it: {}",
        stay.join(", ")
    );
    bail!(
        Error::in_use(what)
            .hint("keep it in the file as it is, or start without --config, remove them with")
            .run(["container", "rm"])
            .hint(", and start again with it")
    )
}

/// Those that name their bridge first, so that no other is given that name.
fn networks_in_turn(config: &Config) -> impl Iterator<Item = &NetworkSpec> {
    let (named, open): (Vec<_>, Vec<_>) =
        config.networks.iter().partition(|spec| spec.bridge.is_some());
    named.into_iter().chain(open)
}

/// The addresses that containers name, so that no other is given them.
fn asked_for(config: &Config) -> impl Iterator<Item = IpAddr> {
    config.containers.iter().flat_map(|spec| &spec.addresses).copied()
}

fn outdated_networks(state: &State, config: &Config) -> Vec<String> {
    let outdated =
        |network: &&Network| match config.networks.iter().find(|spec| spec.name == network.name) {
            None => network.declared,
            Some(spec) => !is_as_declared(network, spec),
        };
    state.networks.values().filter(outdated).map(|network| network.name.clone()).collect()
}

fn outdated_containers(state: &State, config: &Config, networks: &[String]) -> Vec<String> {
    let outdated: BTreeSet<&str> = networks.iter().map(String::as_str).collect();
    let is_outdated = |container: &&Container| {
        let moves =
            container.endpoints.iter().any(|endpoint| outdated.contains(endpoint.network.as_str()));
        match config.containers.iter().find(|spec| spec.name == container.name) {
            None => container.declared,
            Some(spec) => moves || !container_is_as_declared(container, spec),
        }
    };
    state.containers.values().filter(is_outdated).map(|container| container.name.clone()).collect()
}

/// With their containers' names, those too that were moved to a container that was added by
/// command.
fn outdated_publishes(state: &State, config: &Config) -> Vec<(String, PublishPorts)> {
    let mut outdated = Vec::new();
    for Container { name, publishes, .. } in state.containers.values() {
        let spec = config.containers.iter().find(|spec| spec.name == *name);
        let declared = spec.map(|spec| spec.publishes.as_slice()).unwrap_or_default();
        let is_outdated =
            |publish: &&Publish| publish.declared && !declared.iter().any(|spec| publish.is(spec));
        outdated.extend(
            publishes.iter().filter(is_outdated).map(|publish| (name.clone(), publish.ports)),
        );
    }
    outdated
}

fn is_as_declared(network: &Network, spec: &NetworkSpec) -> bool {
    let families: Vec<Family> = network.families().collect();
    let gateways = ipam::choose_gateways(&network.subnets, &spec.gateways);
    subnet::check_all(&spec.subnets).is_ok_and(|subnets| subnets == network.subnets)
        && gateways.is_ok_and(|gateways| gateways == network.gateways)
        && spec.bridge.as_ref().is_none_or(|bridge| *bridge == network.bridge)
        && spec.mtu.is_none_or(|mtu| mtu == network.mtu)
        && (spec.internal, spec.icc) == (network.internal, network.icc)
        && spec.masquerade.among(&families) == network.masquerade
}

fn container_is_as_declared(container: &Container, spec: &ContainerSpec) -> bool {
    let Some(endpoint) = container.endpoint_on(spec.network.as_deref().unwrap_or(DEFAULT_NETWORK))
    else {
        return false;
    };
    let has = |address| endpoint.addresses.iter().any(|ours| ours.addr() == address);
    container.made
        && spec.addresses.iter().all(|address| has(*address))
        && spec.mac.is_none_or(|mac| mac == endpoint.mac)
}

#[cfg(test)]
mod tests {
    use causeway_api::types::device::Device;
    use causeway_netlink::link::Link;

    use super::*;
    use causeway_api::types::{flow_options::FlowOptions, masquerade::Masquerade};

    const SETTINGS: Settings<'_> = Settings { instance: "lab", device: Device::Veth };

    fn state() -> State {
        State::new("/proc/1/ns/net".into(), 7)
    }

    /// A host without interfaces.
    fn observed() -> Observed {
        Observed { mtu: 1500, ipv6: Ipv6::Enabled, ..Observed::nothing() }
    }

    fn config(text: &str) -> Config {
        Config::parse(Path::new("lab.toml"), text).unwrap()
    }

    /// Derives changes, records them, and returns them as `up --check` prints them.
    fn advance(state: &mut State, wanted: &[Wanted<'_>], observed: &Observed) -> Vec<String> {
        let changes = diff(state, wanted, observed, SETTINGS).unwrap();
        for change in &changes {
            change.action.record(state);
        }
        let printed = changes.iter().filter_map(Change::describe);
        printed.map(|change| change.to_string()).collect()
    }

    fn refusal(state: &State, verb: Verb<'_>) -> String {
        let refused = diff(state, &[Wanted::Verb(verb)], &observed(), SETTINGS).unwrap_err();
        format!("{refused:#}")
    }

    const FILE: &str = "[[network]]\nname = \"front\"\nsubnets = [\"10.20.0.0/24\"]\n\
                        [[container]]\nname = \"web\"\nnetwork = \"front\"\npublish = \
                        [\"8080:80\"]\n";

    #[test]
    fn a_file_that_is_in_force_changes_nothing() {
        let (mut state, config) = (state(), config(FILE));
        assert_eq!(
            advance(&mut state, &[Wanted::File(&config)], &observed()),
            [
                "create network front: 10.20.0.0/24 on bridge cw0",
                "create container web: 10.20.0.2, on network front, publish 8080:80/tcp",
            ]
        );
        assert!(advance(&mut state, &[Wanted::File(&config)], &observed()).is_empty());
    }

    #[test]
    fn a_file_changes_what_differs_and_keeps_what_was_added_by_command() {
        let mut state = state();
        advance(&mut state, &[Wanted::File(&config(FILE))], &observed());
        let spec: ContainerSpec =
            serde_json::from_str(r#"{"name": "own", "network": "front"}"#).unwrap();
        let own = Verb::CreateContainer { spec: &spec, attach: None };
        let made = advance(&mut state, &[Wanted::Verb(own)], &observed());
        assert_eq!(made, ["create container own: 10.20.0.3, on network front"]);
        let file = FILE.replace("\"8080:80\"", "{ ports = \"8080:80\", from = [\"10.0.0.0/8\"] }");
        let file = file.replace("[[container]]", "max_flows = 9\n[[container]]");
        assert_eq!(
            advance(&mut state, &[Wanted::File(&config(&file))], &observed()),
            [
                "update network front: max_flows",
                "remove publish 8080:80/tcp of container web",
                "add publish 8080:80/tcp of container web: from 10.0.0.0/8",
            ]
        );
        let without = &file[..file.find("[[container]]").unwrap()];
        assert_eq!(
            advance(&mut state, &[Wanted::File(&config(without))], &observed()),
            ["remove container web"]
        );
        let empty = config("");
        let refused = diff(&state, &[Wanted::File(&empty)], &observed(), SETTINGS).unwrap_err();
        assert!(format!("{refused:#}").contains("are on it: own"), "{refused:#}");
        advance(&mut state, &[Wanted::Verb(Verb::RemoveContainer("own"))], &observed());
        assert_eq!(
            advance(&mut state, &[Wanted::File(&config(""))], &observed()),
            ["remove network front"]
        );
    }

    #[test]
    fn an_object_that_the_file_takes_over_is_declared() {
        let mut state = state();
        let spec = NetworkSpec {
            name: "front".to_owned(),
            subnets: vec!["10.20.0.0/24".parse().unwrap()],
            bridge: None,
            gateways: Vec::new(),
            ..NetworkSpec::default_network()
        };
        advance(&mut state, &[Wanted::Verb(Verb::CreateNetwork(&spec))], &observed());
        let printed = advance(&mut state, &[Wanted::File(&config(FILE))], &observed());
        assert!(printed.contains(&"declare network front".to_owned()), "{printed:?}");
        assert!(state.networks["front"].declared);
    }

    #[test]
    fn verbs_contradict_no_state() {
        let mut state = state();
        advance(&mut state, &[Wanted::File(&config(FILE))], &observed());
        let spec = NetworkSpec::default_network();
        let taken = refusal(&state, Verb::CreateNetwork(&spec));
        assert!(taken.contains("'cw0' is the bridge of network 'front'"), "{taken}");
        let spec = NetworkSpec { bridge: None, ..spec };
        assert_eq!(
            advance(&mut state, &[Wanted::Verb(Verb::CreateNetwork(&spec))], &observed()),
            ["create network default: 172.18.0.0/16 on bridge cw1"]
        );
        assert!(refusal(&state, Verb::CreateNetwork(&spec)).contains("'default' already"));
        assert!(refusal(&state, Verb::RemoveNetwork("front")).contains("web are on it"));
        assert!(
            refusal(&state, Verb::RemoveContainer("nowhere")).contains("no container 'nowhere'")
        );
        let publish: PublishSpec = "8080:81".parse().unwrap();
        let again = Verb::AddPublish { container: "web", spec: &publish };
        assert!(refusal(&state, again).contains("container 'web' publishes port 8080"));
    }

    #[test]
    fn a_start_adopts_what_is_there_and_drops_what_is_gone() {
        let mut state = state();
        advance(&mut state, &[Wanted::DefaultNetwork, Wanted::File(&config(FILE))], &observed());
        state.containers.get_mut("web").unwrap().cookie = Some(1);
        let host_side = state.containers["web"].endpoints[0].host_side.clone();
        let link = |index, name: &str, kind: &str, controller| Link {
            index,
            name: name.to_owned(),
            kind: Some(kind.to_owned()),
            controller,
            ..Link::default()
        };
        let bridges = state.networks.values().zip(1..);
        let mut links: Vec<Link> =
            bridges.map(|(network, index)| link(index, &network.bridge, "bridge", None)).collect();
        let front = state.networks.keys().position(|name| name == "front").unwrap() as u32 + 1;
        links.push(link(8, &host_side, "veth", Some(front)));
        links.push(link(9, "cwv00000000", "veth", Some(front)));
        let start = |links: &[Link]| Observed {
            host: HostSnapshot::of_links(links.to_vec()),
            installed: None,
            namespaces: [("/run/netns/web".into(), 1)].into(),
            ..observed()
        };
        assert_eq!(
            advance(&mut state.clone(), &[Wanted::State], &start(&links)),
            ["remove interface cwv00000000: no container has it"]
        );
        links.retain(|link| link.index != front);
        assert_eq!(
            advance(&mut state, &[Wanted::State], &start(&links)),
            [
                "remove container web: its network 'front' is gone",
                "remove network front: its bridge is gone",
            ]
        );
        assert_eq!(state.networks.keys().collect::<Vec<_>>(), ["default"]);
    }

    #[test]
    fn what_is_left_open_is_as_declared_whatever_was_chosen() {
        let spec = NetworkSpec::default_network();
        let mut network = Network {
            name: spec.name.clone(),
            subnets: spec.subnets.clone(),
            gateways: spec.gateways.clone(),
            bridge: "cw0".to_owned(),
            mtu: 1400,
            internal: false,
            masquerade: Masquerade::ON,
            icc: true,
            flows: FlowOptions::default(),
            last: Vec::new(),
            declared: false,
        };
        assert!(is_as_declared(&network, &spec));
        let open = NetworkSpec { bridge: None, gateways: Vec::new(), ..spec.clone() };
        assert!(is_as_declared(&network, &open));
        assert!(!is_as_declared(&network, &NetworkSpec { mtu: Some(1500), ..spec.clone() }));
        assert!(!is_as_declared(&network, &NetworkSpec { icc: false, ..spec.clone() }));
        let flows = FlowOptions { max_flows: Some(7), ..FlowOptions::default() };
        assert!(
            is_as_declared(&network, &NetworkSpec { flows, ..spec.clone() }),
            "it is changed as it is"
        );
        let only = |family| NetworkSpec { masquerade: Masquerade::only(family), ..spec.clone() };
        assert!(
            is_as_declared(&network, &only(Family::V4))
                && !is_as_declared(&network, &only(Family::V6))
        );
        network.gateways = vec!["172.18.0.9".parse().unwrap()];
        assert!(!is_as_declared(&network, &open));
    }

    #[test]
    fn the_order_of_subnets_and_gateways_does_not_matter() {
        let spec = NetworkSpec {
            subnets: vec!["fd00::/64".parse().unwrap(), "10.0.0.0/24".parse().unwrap()],
            gateways: vec!["fd00::9".parse().unwrap()],
            ..NetworkSpec::default_network()
        };
        let subnets = subnet::check_all(&spec.subnets).unwrap();
        let network: Network = serde_json::from_value(serde_json::json!({
            "name": spec.name, "subnets": subnets, "gateways": ipam::choose_gateways(&subnets,
            &spec.gateways).unwrap(),
            "bridge": "cw0", "mtu": 1500, "internal": false, "masquerade": true, "icc": true,
        }))
        .unwrap();
        assert!(is_as_declared(&network, &spec));
        assert!(!is_as_declared(&network, &NetworkSpec { gateways: Vec::new(), ..spec.clone() }));
        assert!(!is_as_declared(
            &network,
            &NetworkSpec { masquerade: Masquerade::only(Family::V4), ..spec.clone() }
        ));
        assert!(!is_as_declared(
            &network,
            &NetworkSpec { subnets: vec!["10.0.0.0/24".parse().unwrap()], ..spec }
        ));
    }

    #[test]
    fn a_container_declared_elsewhere_is_outdated() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "web", "netns": "/run/netns/web", "cookie": 1, "made": true,
            "endpoints": [{
                "network": "default", "addresses": ["172.18.0.2/16"], "mac": "02:63:ac:12:00:02",
                "interface": "eth0", "host_side": "cwv00000000",
            }],
        }))
        .unwrap();
        let spec = ContainerSpec {
            name: "web".to_owned(),
            network: None,
            addresses: Vec::new(),
            mac: None,
            publishes: Vec::new(),
        };
        assert!(container_is_as_declared(&container, &spec));
        for other in [
            ContainerSpec { network: Some("front".to_owned()), ..spec.clone() },
            ContainerSpec { addresses: vec!["172.18.0.3".parse().unwrap()], ..spec.clone() },
            ContainerSpec { mac: Some("02:63:ac:12:00:03".parse().unwrap()), ..spec.clone() },
        ] {
            assert!(!container_is_as_declared(&container, &other), "{other:?}");
        }
    }
}
