//! What changes are derived from beside the state: the host, and what is in the datapath already.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::bail;
use causeway_api::Error;
use causeway_netlink::{Netlink, Netns, route::Route, sysctl};

use super::{
    agent::Agent,
    host::{Host, Ipv6},
    snapshot::HostSnapshot,
};
use crate::state::{State, container::Container, network::Network};

/// What was observed, all at one moment.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) host: HostSnapshot,
    /// MTU in bytes of a network that names none.
    pub(super) mtu: u32,
    pub(super) ipv6: Ipv6,
    /// What this agent has put into the datapath; none before it has taken over what an earlier
    /// agent left.
    pub(super) installed: Option<InstalledNames>,
    /// `ip_forward` of the host; read only before the agent has taken over.
    pub(super) forwards: bool,
    /// IPv6 networks whose bridge does not forward.
    pub(super) not_forwarding: BTreeSet<String>,
    /// Cookies of the namespaces at the paths of the state's containers; read only before the agent
    /// has taken over.
    pub(super) namespaces: BTreeMap<PathBuf, u64>,
}

/// The objects in the datapath.
#[derive(Clone, Debug, Default)]
pub(super) struct InstalledNames {
    /// The indexes of the bridges by their networks' names.
    pub(super) bridges: BTreeMap<String, u32>,
    /// The addresses of endpoints.
    pub(super) endpoints: BTreeSet<IpAddr>,
}

/// A namespace that is to become a container.
#[derive(Clone, Debug)]
pub(super) struct NamespaceSnapshot {
    pub(super) path: PathBuf,
    pub(super) cookie: u64,
    /// The names of its interfaces.
    pub(super) interfaces: BTreeSet<String>,
    pub(super) routes: Vec<Route>,
}

impl Observed {
    /// What an agent sees before it has taken over what `state` names.
    pub(super) async fn before_start(host: &Host, state: &State) -> anyhow::Result<Self> {
        let forwards = sysctl::get(&host.handles.netns, "ipv4/ip_forward")?.as_deref() == Some("1");
        let paths = state.containers.values().map(|container| &container.netns);
        let namespaces = paths.filter_map(|path| Some((path.clone(), cookie_at(path)?))).collect();
        let snapshot = host.snapshot().await?;
        Ok(Self { forwards, namespaces, ..Self::of_host(host, snapshot)? })
    }

    /// Nothing, for changes that do not depend on the host.
    pub(super) fn nothing() -> Self {
        Self {
            host: HostSnapshot::default(),
            mtu: 0,
            ipv6: Ipv6::Absent,
            installed: Some(InstalledNames::default()),
            forwards: true,
            not_forwarding: BTreeSet::new(),
            namespaces: BTreeMap::new(),
        }
    }

    fn of_host(host: &Host, snapshot: HostSnapshot) -> anyhow::Result<Self> {
        Ok(Self {
            mtu: snapshot.mtu(&host.wanted, &host.uplinks),
            host: snapshot,
            ipv6: host.ipv6()?,
            installed: None,
            forwards: true,
            not_forwarding: BTreeSet::new(),
            namespaces: BTreeMap::new(),
        })
    }

    /// Index of the bridge of a network that the datapath has.
    pub(super) fn bridge(&self, network: &str) -> Option<u32> {
        self.installed.as_ref()?.bridges.get(network).copied()
    }
}

impl Agent {
    /// What the agent sees now.
    pub(super) async fn observe(&self) -> anyhow::Result<Observed> {
        self.observe_in(self.host.snapshot().await?)
    }

    /// What the agent sees, all that can change behind its back included.
    pub(super) fn observe_all(&self, snapshot: HostSnapshot) -> anyhow::Result<Observed> {
        let mut observed = self.observe_in(snapshot)?;
        for network in self.state.networks.values() {
            let is_installed = self.installed.bridges.contains_key(&network.name);
            if is_installed && network.has_v6() && !self.forwards_ipv6(network)? {
                observed.not_forwarding.insert(network.name.clone());
            }
        }
        Ok(observed)
    }

    fn observe_in(&self, snapshot: HostSnapshot) -> anyhow::Result<Observed> {
        let installed = InstalledNames {
            bridges: self.installed.bridges.clone(),
            endpoints: self.installed.endpoints.keys().copied().collect(),
        };
        let observed = Observed::of_host(&self.host, snapshot)?;
        Ok(Observed { installed: Some(installed), ..observed })
    }

    fn forwards_ipv6(&self, network: &Network) -> anyhow::Result<bool> {
        let key = format!("ipv6/conf/{}/forwarding", network.bridge);
        Ok(sysctl::get(&self.host.handles.netns, &key)?.as_deref() != Some("0"))
    }
}

impl NamespaceSnapshot {
    pub(super) async fn take(path: &Path) -> anyhow::Result<Self> {
        if !path.is_absolute() {
            bail!(
                Error::invalid(format!("the path {} does not begin with '/'", path.display()))
                    .hint("give the whole path")
            );
        }
        let netns = Netns::open(path)?;
        let netlink = Netlink::open(&netns).await?;
        Ok(Self {
            path: path.to_owned(),
            cookie: netns.cookie()?,
            interfaces: netlink.links().await?.into_iter().map(|link| link.name).collect(),
            routes: netlink.routes().await?,
        })
    }
}

/// The cookie of the namespace at a path; none if there is none.
pub(super) fn cookie_at(path: &Path) -> Option<u64> {
    Netns::open(path).and_then(|netns| netns.cookie()).ok()
}

/// What is gone of a container of a running agent, if anything is.
pub(super) fn what_is_gone(container: &Container, snapshot: &HostSnapshot) -> Option<String> {
    let is_lost = |host_side: &str| snapshot.link(host_side).is_none();
    if let Some(lost) = container.endpoints.iter().find(|endpoint| is_lost(&endpoint.host_side)) {
        return Some(format!("its host side {} is gone", lost.host_side));
    }
    // An attached container lives on without the path that was given, as long as its host side is
    // there.
    let unnamed = container.made && cookie_at(&container.netns) != container.cookie;
    unnamed.then(|| format!("its network namespace {} is gone", container.netns.display()))
}
