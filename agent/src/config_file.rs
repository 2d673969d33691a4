//! The configuration file: what `up` brings the host to. What was added by command stays as it is.
//!
//! ```toml
//! # All keys are optional but a network's name and subnets, and a container's name.
//! uplinks = ["eth0"]              # default: the interfaces of the default route
//! allow_bind = false              # true: host processes may bind published ports
//! xdp = "auto"                    # or "on"; default: "off"; as `up --xdp`
//! device = "veth"                 # of new containers; or "netkit", from Linux 6.11
//!
//! [tables]
//! flows = 262144                  # how many flows there is room for
//!
//! [[network]]                     # without any, there is the network `default`
//! name = "front"
//! subnets = ["10.20.0.0/16", "fd12:3456:789a::/64"]    # one of IPv4, one of IPv6, or both
//! gateways = ["10.20.0.1"]        # default: each subnet's first address
//! bridge = "cw1"                  # default: cwN with the lowest free N
//! mtu = 1500                      # bytes; default: the uplink's
//! internal = false                # true: nothing leaves or enters, the host excepted
//! masquerade = true               # or false; "ipv4", "ipv6": for one family only
//! icc = true                      # false: its containers do not reach each other
//! timeouts = { udp = 120 }        # seconds; names as in `network create --timeout`
//! ports = "1024-32767"            # source ports, if the container's own is in use
//! mapping = "symmetric"           # or "full-cone": endpoint-independent (RFC 4787)
//! max_flows = 131072              # of one container at once; default: half of the table
//!
//! [[container]]                   # its namespace /run/netns/web is made
//! name = "web"
//! network = "front"               # default: default
//! ip = "10.20.0.10"               # or a list, one per family; default: the next free
//! mac = "02:63:0a:14:00:0a"       # default: derived from the first address
//! publish = ["8080:80/tcp", { ports = "127.0.0.1:5300:53/udp", from = ["127.0.0.0/8"] }]
//! ```
//!
//! What a former file declared and this one does not is removed. Where a network or container is
//! declared otherwise than it is, it is made anew (its flows end), but for `timeouts`, `ports`,
//! `mapping` and `max_flows`, which are changed as it is; a network with containers that were added
//! by command cannot be, and `up` says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use causeway_api::{
    ContainerSpec, Error, NetworkSpec,
    types::{
        device::Device,
        flow_options::{FlowOptions, Mapping, Timeout},
        mac::Mac,
        masquerade::Masquerade,
        name,
        publish::{PortRange, PublishSpec},
        subnet,
        xdp::Xdp,
    },
};
use ipnet::IpNet;
use serde::{Deserialize, de};

/// How many flows there is room for unless the file says otherwise.
pub const DEFAULT_FLOWS: u32 = 262_144;

/// From what a handful of containers needs, to 2 GiB of kernel memory.
const FLOWS: std::ops::RangeInclusive<u32> = 1024..=16_777_216;

/// A file's content, checked as far as that goes without looking at the host.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it was read.
    pub path: PathBuf,
    /// The uplinks' names; those of the default route if empty.
    pub uplinks: Vec<String>,
    /// Processes of the host may bind published ports, and have ports that are published then.
    pub allow_bind: bool,
    /// Whether uplinks' drivers run a program of ours.
    pub xdp: Option<Xdp>,
    /// What connects containers that are made from now on.
    pub device: Option<Device>,
    /// How many flows there is room for.
    pub flows: u32,
    /// In the file's order.
    pub networks: Vec<NetworkSpec>,
    /// In the file's order.
    pub containers: Vec<ContainerSpec>,
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| {
                let missing = error.kind() == io::ErrorKind::NotFound;
                let error = Error::os(error);
                if missing { Error::not_found(error.message()) } else { error }
                    .hint("give the path of a TOML file that root can read")
            })
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        Self::parse(path, &text)
    }

    pub(crate) fn parse(path: &Path, text: &str) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let lines = text.get(..offset).unwrap_or(text).matches('\n').count();
            Error::invalid(format!(
                "{}:{}: {}",
                path.display(),
                lines + 1,
                in_words(error.message())
            ))
        })?;
        let mut config = Self {
            path: path.to_owned(),
            uplinks: file.uplinks,
            allow_bind: file.allow_bind,
            xdp: file.xdp,
            device: file.device,
            flows: file.tables.flows.unwrap_or(DEFAULT_FLOWS),
            networks: file.network.into_iter().map(NetworkSpec::from).collect(),
            containers: file.container.into_iter().map(ContainerSpec::from).collect(),
        };
        config.check().with_context(|| path.display().to_string())?;
        for publish in config.containers.iter_mut().flat_map(|spec| &mut spec.publishes) {
            publish.options = publish.options.check()?;
        }
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        for uplink in &self.uplinks {
            name::check_interface(uplink).context("uplinks")?;
        }
        ensure!(
            FLOWS.contains(&self.flows),
            Error::invalid(format!(
                "tables: flows = {} is not from {} to {}",
                self.flows,
                FLOWS.start(),
                FLOWS.end()
            ))
        );
        let twice = |what: &str| {
            Error::invalid(format!("{what} is declared twice")).hint("leave one out, or rename it")
        };
        let mut seen = BTreeSet::new();
        for spec in &self.networks {
            name::check(&spec.name)
                .and_then(|()| subnet::check_all(&spec.subnets))
                .and_then(|_| spec.flows.check())
                .with_context(|| format!("network '{}'", spec.name))?;
            ensure!(seen.insert(&spec.name), twice(&format!("network '{}'", spec.name)));
        }
        self.check_overlaps()?;
        seen.clear();
        for spec in &self.containers {
            name::check(&spec.name).with_context(|| format!("container '{}'", spec.name))?;
            ensure!(seen.insert(&spec.name), twice(&format!("container '{}'", spec.name)));
            let checked = || {
                spec.publishes.iter().try_for_each(|publish| {
                    publish.options.check().map(|_| ()).with_context(|| publish.ports.to_string())
                })
            };
            checked().with_context(|| format!("container '{}'", spec.name))?;
        }
        Ok(())
    }

    fn check_overlaps(&self) -> anyhow::Result<()> {
        for (position, one) in self.networks.iter().enumerate() {
            for other in self.networks.iter().skip(position + 1) {
                let clash = |subnet: &&IpNet| {
                    one.subnets.iter().any(|theirs| subnet::overlap(*theirs, **subnet))
                };
                if let Some(subnet) = other.subnets.iter().find(clash) {
                    bail!(
                        Error::invalid(format!(
                            "network '{}': the subnet {subnet} overlaps network '{}'",
                            other.name, one.name
                        ))
                        .hint("take another subnet")
                    );
                }
            }
        }
        Ok(())
    }
}

/// serde's words for a wrong type in those of a person who writes TOML.
fn in_words(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let wrong =
        message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, wanted)) = wrong.and_then(|wrong| wrong.split_once(", expected ")) else {
        return match message {
            "invalid IP address syntax" | "invalid IP network syntax" => {
                "it is not an address such as 10.20.0.10, or with a prefix length such as 10.20.0.0/16".to_owned()
            }
            _ => message.to_owned(),
        };
    };
    let found = match found {
        "map" => "a table",
        "sequence" => "a list",
        other => other,
    };
    let wanted = match wanted {
        "a sequence" => "a list, in brackets,",
        "a string" => "a text, in quotes,",
        "a boolean" => "true or false",
        "u32" => "a number from 0 to 4294967295",
        "IP network" | "IPv4 network or IPv6 network" => {
            "a subnet in quotes, such as \"10.20.0.0/16\","
        }
        "IP address" | "IPv4 address or IPv6 address" => {
            "an address in quotes, such as \"10.20.0.10\","
        }
        other if other.starts_with("struct") || other == "a map" => "a table",
        other => other,
    };
    format!("{found} stands where {wanted} is needed")
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    uplinks: Vec<String>,
    #[serde(default)]
    allow_bind: bool,
    xdp: Option<Xdp>,
    device: Option<Device>,
    #[serde(default)]
    tables: Tables,
    #[serde(default)]
    network: Vec<NetworkTable>,
    #[serde(default)]
    container: Vec<ContainerTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    flows: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkTable {
    name: String,
    subnets: Vec<IpNet>,
    bridge: Option<String>,
    #[serde(default)]
    gateways: Vec<IpAddr>,
    mtu: Option<u32>,
    internal: Option<bool>,
    masquerade: Option<Masquerade>,
    icc: Option<bool>,
    #[serde(default)]
    timeouts: BTreeMap<Timeout, u32>,
    ports: Option<PortRange>,
    mapping: Option<Mapping>,
    max_flows: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerTable {
    name: String,
    network: Option<String>,
    ip: Option<Addresses>,
    mac: Option<Mac>,
    #[serde(default)]
    publish: Vec<PublishSpec>,
}

/// One address, or a list of them.
struct Addresses(Vec<IpAddr>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;

        impl<'de> de::Visitor<'de> for OneOrSeveral {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address in quotes, such as \"10.20.0.10\", or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Addresses, E> {
                let address = IpAddr::deserialize(de::value::StrDeserializer::new(text))?;
                Ok(Addresses(vec![address]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Addresses, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Addresses)
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}

impl From<NetworkTable> for NetworkSpec {
    fn from(table: NetworkTable) -> Self {
        Self {
            name: table.name,
            subnets: table.subnets,
            bridge: table.bridge,
            gateways: table.gateways,
            mtu: table.mtu,
            internal: table.internal.unwrap_or(false),
            masquerade: table.masquerade.unwrap_or(Masquerade::ON),
            icc: table.icc.unwrap_or(true),
            flows: FlowOptions {
                timeouts: table.timeouts,
                ports: table.ports,
                mapping: table.mapping,
                max_flows: table.max_flows,
            },
        }
    }
}

impl From<ContainerTable> for ContainerSpec {
    fn from(table: ContainerTable) -> Self {
        Self {
            name: table.name,
            network: table.network,
            addresses: table.ip.map(|Addresses(addresses)| addresses).unwrap_or_default(),
            mac: table.mac,
            publishes: table.publish,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Config> {
        Config::parse(Path::new("lab.toml"), text)
    }

    #[test]
    fn the_example_of_the_documentation_is_taken() {
        let source = include_str!("config_file.rs");
        let example: Vec<&str> = source
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!"))
            .collect();
        let config = parse(&example.join("\n")).unwrap();
        assert_eq!(config.uplinks, ["eth0"]);
        assert_eq!(config.flows, DEFAULT_FLOWS);
        assert_eq!(config.xdp, Some(Xdp::Auto));
        assert_eq!(config.device, Some(Device::Veth));
        assert_eq!(config.networks[0].bridge.as_deref(), Some("cw1"));
        assert_eq!(config.containers[0].publishes.len(), 2);
    }

    #[test]
    fn an_empty_file_declares_nothing() {
        let config = parse("").unwrap();
        assert!(
            config.uplinks.is_empty() && config.networks.is_empty() && config.containers.is_empty()
        );
        assert_eq!(config.flows, DEFAULT_FLOWS);
        assert!(!config.allow_bind);
        assert_eq!((config.xdp, config.device), (None, None));
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = parse("[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\n").unwrap();
        let spec = &config.networks[0];
        assert!(!spec.internal && spec.masquerade == Masquerade::ON && spec.icc);
        assert!(spec.bridge.is_none() && spec.mtu.is_none() && spec.gateways.is_empty());
    }

    #[test]
    fn each_family_can_be_named_for_itself() {
        let text = "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\", \"fd00::/64\"]\nmasquerade = \"ipv4\"\n\
                    [[container]]\nname = \"c\"\nip = [\"10.0.0.9\", \
                    \"fd00::9\"]\n[[container]]\nname = \"d\"\nip = \"fd00::7\"";
        let config = parse(text).unwrap();
        assert_eq!(
            config.networks[0].masquerade,
            Masquerade::only(causeway_api::types::family::Family::V4)
        );
        let addresses = |at: usize| {
            config.containers[at].addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            (addresses(0), addresses(1)),
            (vec!["10.0.0.9".to_owned(), "fd00::9".to_owned()], vec!["fd00::7".to_owned()])
        );
    }

    #[test]
    fn mistakes_name_the_file_and_the_place() {
        for (text, place) in [
            ("uplink = [\"eth0\"]", "lab.toml:1: unknown field `uplink`"),
            ("\n\n[tables]\nflow = 1", "lab.toml:4: unknown field `flow`"),
            (
                "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\nmtus = 1",
                "lab.toml:4: unknown field `mtus`",
            ),
            ("[[network]]\nname = \"a\"\nsubnets = [\"10.0.0/24\"]", "lab.toml:3:"),
            ("[[network]]\nname = \"a\"", "lab.toml:1: missing field `subnets`"),
            ("[[container]]\nname = \"a\"\npublish = [\"80\"]", "lab.toml:3: '80' is one port"),
            ("a = ", "lab.toml:1:"),
            (
                "xdp = \"native\"",
                "lab.toml:1: unknown variant `native`, expected one of `auto`, `on`, `off`",
            ),
            (
                "device = \"macvlan\"",
                "lab.toml:1: unknown variant `macvlan`, expected `veth` or `netkit`",
            ),
            ("uplinks = 7", "lab.toml:1: integer `7` stands where a list, in brackets, is needed"),
            (
                "[network.default]",
                "lab.toml:1: a table stands where a list, in brackets, is needed",
            ),
            (
                "[tables]\nflows = -1",
                "lab.toml:2: integer `-1` stands where a number from 0 to 4294967295 is needed",
            ),
            (
                "[[container]]\nname = \"a\"\nip = \"10.0.0\"",
                "lab.toml:3: it is not an address such as",
            ),
            (
                "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0/24\"]",
                "lab.toml:3: it is not an address such as",
            ),
            (
                "[[container]]\nname = \"a\"\nip = [\"10.0.0\"]",
                "lab.toml:3: it is not an address such as",
            ),
            (
                "[[container]]\nname = \"a\"\nip = 7",
                "lab.toml:3: integer `7` stands where an address in quotes",
            ),
            (
                "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\nmasquerade = \"no\"",
                "lab.toml:4: string \"no\" stands where true, false, \"ipv4\" or \"ipv6\" is needed",
            ),
            (
                "[[network]]\nname = \"a\"\nsubnets = [\"fd00::/64\", \"fd01::/64\"]",
                "fd01::/64 is a second IPv6 one",
            ),
            ("[[network]]\nname = \"a\"\nsubnets = [7]", "is needed"),
            ("[[container]]\nname = \"a\"\nip = 7", "is needed"),
            (
                "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\nicc = 1",
                "true or false is needed",
            ),
            ("uplinks = [\"a b\"]", "lab.toml: uplinks: 'a b'"),
            ("tables.flows = 7", "lab.toml: tables: flows = 7"),
            (
                "[[network]]\nname = \"a\"\nsubnets = []",
                "lab.toml: network 'a': a network needs a subnet",
            ),
            ("[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.1/24\"]", "write 10.0.0.0/24"),
            (
                "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/8\"]\n[[network]]\n\
                 name = \"b\"\nsubnets = [\"10.1.0.0/16\"]",
                "lab.toml: network 'b': the subnet 10.1.0.0/16 overlaps network 'a'",
            ),
            (
                "[[container]]\nname = \"a\"\n[[container]]\nname = \"a\"",
                "lab.toml: container 'a' is declared twice",
            ),
            ("[[container]]\nname = \"a\"\nmac = \"x\"", "lab.toml:3: 'x' is not a MAC"),
            ("[[container]]\nname = \"a/b\"", "lab.toml: container 'a/b': the name"),
        ] {
            let line = Error::from_chain(&*parse(text).unwrap_err()).to_string();
            assert!(line.contains(place), "{text}: {line}");
            assert!(!line.contains(" --") && !line.contains("invalid "), "{text}: {line}");
        }
    }

    #[test]
    fn how_flows_are_kept_is_read_and_mistakes_in_it_name_the_place() {
        let network =
            |line: &str| format!("[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\n{line}");
        let flows = |line: &str| parse(&network(line)).unwrap().networks.remove(0).flows;
        assert_eq!(flows(""), FlowOptions::default());
        assert_eq!(
            flows("timeouts = { udp-stream = 9 }").timeouts,
            BTreeMap::from([(Timeout::UdpStream, 9)])
        );
        assert_eq!(flows("mapping = \"full-cone\"").mapping, Some(Mapping::FullCone));
        assert_eq!(flows("max_flows = 1").max_flows, Some(1));
        for (text, place) in [
            (
                "timeouts = { udp = 0 }",
                "lab.toml: network 'a': the timeout udp: 0 seconds are not from 1",
            ),
            (
                "timeouts = { tcp = 9 }",
                "lab.toml:4: unknown variant `tcp`, expected one of `tcp-established`",
            ),
            ("timeouts = 9", "lab.toml:4: integer `9` stands where a table is needed"),
            ("timeouts = { udp = -1 }", "lab.toml:4: integer `-1` stands where a number"),
            (
                "ports = \"9-5\"",
                "lab.toml:4: the ports: the range 9-5 ends before it starts; write PORT or LO-HI",
            ),
            (
                "ports = 1024",
                "lab.toml:4: integer `1024` stands where a text, in quotes, is needed",
            ),
            (
                "mapping = \"cone\"",
                "lab.toml:4: unknown variant `cone`, expected `symmetric` or `full-cone`",
            ),
            ("max_flows = 0", "lab.toml: network 'a': max_flows is 0"),
        ] {
            let line = Error::from_chain(&*parse(&network(text)).unwrap_err()).to_string();
            assert!(line.contains(place), "{text}: {line}");
        }
    }
}
