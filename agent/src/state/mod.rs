//! What survives a restart of the agent: one file, written anew after every change.

pub mod container;
pub mod network;
pub mod publish;

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use causeway_api::{Error, ErrorCode};
use serde::{Deserialize, Serialize};

use self::{container::Container, network::Network, publish::Publish};

/// Of the file's layout. A newer agent reads older files; an older one refuses newer files.
const VERSION: u32 = 2;

/// All that an instance has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The host.
    pub host: HostState,
    /// There is to be no default network, until `down`: it was removed by command, or a
    /// configuration file declared others.
    #[serde(default)]
    pub no_default: bool,
    /// By name.
    pub networks: BTreeMap<String, Network>,
    /// By name.
    pub containers: BTreeMap<String, Container>,
}

/// What the next agent, or `down` without one, must know of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// The path of its namespace.
    pub netns: PathBuf,
    /// Its namespace's cookie, which no other namespace ever has.
    pub cookie: u64,
    /// What was there before, in the order in which it must be written back.
    #[serde(default)]
    pub sysctls: Vec<Sysctl>,
}

/// A sysctl's value before it was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// As `ipv4/ip_forward`.
    pub key: String,
    /// Without its newline.
    pub value: String,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl State {
    /// A host that nothing was done to.
    pub fn new(netns: PathBuf, cookie: u64) -> Self {
        Self {
            version: VERSION,
            host: HostState { netns, cookie, sysctls: Vec::new() },
            no_default: false,
            networks: BTreeMap::new(),
            containers: BTreeMap::new(),
        }
    }

    /// The network of that name.
    pub fn network(&self, name: &str) -> anyhow::Result<&Network> {
        let Some(network) = self.networks.get(name) else {
            let names: Vec<&str> = self.networks.keys().map(String::as_str).collect();
            let error = if names.is_empty() {
                Error::not_found(format!("there is no network '{name}', nor any other"))
                    .hint("make one with")
                    .run(["network", "create"])
            } else {
                Error::not_found(format!("there is no network '{name}'"))
                    .hint(format!("there is {}", names.join(", ")))
            };
            bail!(error);
        };
        Ok(network)
    }

    /// The container of that name.
    pub fn container(&self, name: &str) -> anyhow::Result<&Container> {
        let Some(container) = self.containers.get(name) else {
            bail!(
                Error::not_found(format!("there is no container '{name}'"))
                    .run(["container", "ls"])
                    .hint("lists those that are")
            );
        };
        Ok(container)
    }

    /// The network that a container is on.
    pub fn network_of(&self, container: &Container) -> anyhow::Result<&Network> {
        let endpoint = container.endpoints.first().context("the container is on no network")?;
        self.network(&endpoint.network)
    }

    /// The names of the containers on a network.
    pub fn containers_on(&self, network: &str) -> Vec<String> {
        let on_it = |container: &&Container| container.endpoint_on(network).is_some();
        let containers = self.containers.values().filter(on_it);
        containers.map(|container| container.name.clone()).collect()
    }

    /// Every publish with its container.
    pub fn publishes(&self) -> impl Iterator<Item = (&Container, &Publish)> {
        let containers = self.containers.values();
        containers.flat_map(|there| there.publishes.iter().map(move |publish| (there, publish)))
    }

    /// Reads the file; none if there is none.
    pub fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other
                .map_err(Error::os)
                .with_context(|| format!("cannot read the state file {}", path.display()))?,
        };
        let parsed = Self::parse(&text).map_err(|error| {
            let path = path.display();
            let error = error.context(format!("cannot use the state file {path}"));
            if error.code() == ErrorCode::VersionMismatch {
                return error.hint("use the causeway that wrote it");
            }
            error
                .hint(format!("move it away with 'mv {path} /tmp/', remove the datapath with"))
                .run(["down"])
                .hint(
                    ", and the bridges, interfaces and namespaces that the file names with \
                     'ip link del' and 'ip netns del'",
                )
        });
        Ok(Some(parsed?))
    }

    fn parse(text: &[u8]) -> Result<Self, Error> {
        let broken = |error: serde_json::Error| Error::internal(error.to_string());
        let Version { version } = serde_json::from_slice(text).map_err(broken)?;
        if version > VERSION {
            return Err(Error::version_mismatch(format!(
                "it is of version {version}, and this causeway knows up to {VERSION}"
            )));
        }
        Ok(Self { version: VERSION, ..serde_json::from_slice(text).map_err(broken)? })
    }

    /// Writes the file: a reader, or the next agent after a crash, sees the old one or the new one,
    /// whole.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let fresh = fresh(path);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            fs::rename(&fresh, path)
        };
        write()
            .map_err(Error::os)
            .with_context(|| format!("cannot write the state file {}", path.display()))
    }

    /// Removes the file, and one that a crash left half-written. Succeeds if absent.
    pub fn remove(path: &Path) -> anyhow::Result<()> {
        for path in [path, &fresh(path)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    bail!(
                        Error::os(error)
                            .context(format!("cannot remove the state file {}", path.display()))
                    )
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where a file is written before it takes the other's place.
fn fresh(path: &Path) -> PathBuf {
    path.with_extension("json.new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let folder = std::env::temp_dir().join(format!("causeway-state-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("lab.json");
        assert_eq!(State::load(&path).unwrap(), None);

        let mut state = State::new("/run/netns/host".into(), 4711);
        state
            .host
            .sysctls
            .push(Sysctl { key: "ipv4/ip_forward".to_owned(), value: "0".to_owned() });
        state.save(&path).unwrap();
        state.no_default = true;
        state.save(&path).unwrap();
        assert_eq!(State::load(&path).unwrap(), Some(state));

        State::remove(&path).unwrap();
        State::remove(&path).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_state_of_before_ipv6_is_read() {
        let text = br#"{
            "version": 1,
            "host": {"netns": "/proc/1/ns/net", "cookie": 1, "sysctls": [{"key": "ipv4/ip_forward", "value": "0"}]},
            "networks": {"default": {
                "name": "default", "subnets": ["172.18.0.0/16"], "gateways": ["172.18.0.1"],
                "bridge": "cw0", "mtu": 1500,
                "internal": false, "masquerade": true, "icc": true, "last": "172.18.0.2"
            }},
            "containers": {"web": {
                "name": "web", "netns": "/run/netns/web", "cookie": 7, "made": true,
                "endpoints": [{
                    "network": "default", "addresses": ["172.18.0.2/16"], "mac": "02:63:ac:12:00:02",
                    "interface": "eth0", "host_side": "cwv01234567"
                }],
                "publishes": [{"spec": "8080:80/tcp"}]
            }}
        }"#;
        let state = State::parse(text).unwrap();
        assert_eq!(state.version, VERSION, "what is written next is of this version");
        let last: std::net::IpAddr = "172.18.0.2".parse().unwrap();
        assert_eq!(state.networks["default"].last, [last]);
        let again = State::parse(&serde_json::to_vec(&state).unwrap()).unwrap();
        assert_eq!(again, state);
    }

    #[test]
    fn a_newer_or_broken_state_is_refused() {
        let newer = br#"{"version": 3, "something": "new"}"#;
        assert!(State::parse(newer).unwrap_err().to_string().contains("version 3"));
        assert!(State::parse(b"{").is_err());
        assert!(State::parse(b"").is_err());
    }
}
