//! Contenders, and how each is set up to do the same for a host's containers: published ports lead
//! in, everything goes out masqueraded, nothing else comes in. The rules are what an expert of the
//! tool would write.

use std::fmt::{self, Write as _};

use causeway_tests::{
    family::{Family, V4, V6, bracketed},
    lab::UPLINK,
};
use serde::{Deserialize, Serialize};

use crate::{
    forwarding::Comparison,
    rig::{BRIDGE, address_of},
    traffic::{CONTAINER_PORT, HOST_PORT, Way},
};

/// One way to connect containers.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// No forwarding: frames are dropped where they enter. Shows the cost of the measurement.
    Floor,
    /// A program that redirects frames unchanged, without any lookup: the minimum cost of a
    /// program.
    Redirect,
    /// Routing and bridging without NAT.
    Plain,
    /// iptables-legacy.
    IptablesLegacy,
    /// iptables-nft.
    IptablesNft,
    /// nft, with the published ports in a map.
    NftMap,
    /// nft with a flowtable.
    NftFlowtable,
    /// causeway.
    Causeway,
    /// causeway with XDP on the uplink, for frames received by the driver.
    CausewayXdp,
    /// Another build of causeway (`--before`), to measure a change. IPv4 only, which every build
    /// has.
    CausewayBefore,
}

impl Contender {
    /// All contenders.
    pub const ALL: [Self; 10] = [
        Self::Floor,
        Self::Redirect,
        Self::Plain,
        Self::IptablesLegacy,
        Self::IptablesNft,
        Self::NftMap,
        Self::NftFlowtable,
        Self::Causeway,
        Self::CausewayXdp,
        Self::CausewayBefore,
    ];

    /// Name in tables and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Redirect => "redirect",
            Self::Plain => "plain",
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::NftMap => "nft-map",
            Self::NftFlowtable => "nft-flowtable",
            Self::Causeway => "causeway",
            Self::CausewayXdp => "causeway-xdp",
            Self::CausewayBefore => "causeway-before",
        }
    }

    /// Whether it does NAT.
    pub const fn translates(self) -> bool {
        !matches!(self, Self::Floor | Self::Redirect | Self::Plain)
    }

    /// Whether it measures overhead only and is no alternative.
    pub const fn is_bound(self) -> bool {
        matches!(self, Self::Floor | Self::Redirect)
    }

    /// Whether it is causeway in some form.
    pub const fn is_causeway(self) -> bool {
        matches!(self, Self::Causeway | Self::CausewayXdp | Self::CausewayBefore)
    }

    /// Whether it takes part on that path.
    pub fn takes_part(self, comparison: &Comparison) -> bool {
        self.exchanges(comparison.way) && (self != Self::CausewayBefore || comparison.family == V4)
    }

    /// Whether it takes part in that exchange between processes.
    pub fn exchanges(self, way: Way) -> bool {
        self != Self::CausewayXdp || way.is_wire()
    }

    /// The program, with arguments, that reads its rules for a family on stdin.
    pub const fn rules_program(self, family: Family) -> Option<&'static [&'static str]> {
        match (self, family) {
            (Self::IptablesLegacy, V4) => Some(&["iptables-legacy-restore"]),
            (Self::IptablesLegacy, V6) => Some(&["ip6tables-legacy-restore"]),
            (Self::IptablesNft, V4) => Some(&["iptables-nft-restore"]),
            (Self::IptablesNft, V6) => Some(&["ip6tables-nft-restore"]),
            (Self::NftMap | Self::NftFlowtable, _) => Some(&["nft", "-f", "-"]),
            (
                Self::Floor
                | Self::Redirect
                | Self::Plain
                | Self::Causeway
                | Self::CausewayXdp
                | Self::CausewayBefore,
                _,
            ) => None,
        }
    }

    /// The likely reason if it cannot be set up.
    pub const fn refused(self) -> &'static str {
        match self {
            Self::NftFlowtable => {
                "this kernel has no flow tables for nft (CONFIG_NF_FLOW_TABLE, CONFIG_NF_FLOW_TABLE_INET)"
            }
            Self::Floor
            | Self::Redirect
            | Self::Plain
            | Self::IptablesLegacy
            | Self::IptablesNft
            | Self::NftMap
            | Self::Causeway
            | Self::CausewayXdp
            | Self::CausewayBefore => "it cannot be set up",
        }
    }

    /// The rules for a family.
    pub fn rules(self, family: Family, publishes: Publishes) -> String {
        match self {
            Self::IptablesLegacy | Self::IptablesNft => iptables(family, publishes),
            Self::NftMap => nft(family, publishes, false),
            Self::NftFlowtable => nft(family, publishes, true),
            Self::Floor
            | Self::Redirect
            | Self::Plain
            | Self::Causeway
            | Self::CausewayXdp
            | Self::CausewayBefore => String::new(),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Published UDP ports, from [`HOST_PORT`] and [`CONTAINER_PORT`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Publishes {
    /// So many single ports.
    Singles(u16),
    /// One range of so many ports.
    Range(u16),
}

impl Publishes {
    /// Number of ports.
    pub const fn ports(self) -> u16 {
        match self {
            Self::Singles(ports) | Self::Range(ports) => ports,
        }
    }

    /// The arguments of `causeway publish add`.
    pub fn specs(self) -> Vec<String> {
        match self {
            Self::Singles(ports) => (0..ports)
                .map(|port| format!("{}:{}/udp", HOST_PORT + port, CONTAINER_PORT + port))
                .collect(),
            Self::Range(ports) => {
                let last = ports - 1;
                vec![format!(
                    "{HOST_PORT}-{}:{CONTAINER_PORT}-{}/udp",
                    HOST_PORT + last,
                    CONTAINER_PORT + last
                )]
            }
        }
    }
}

impl fmt::Display for Publishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Singles(1) => write!(f, "1 published port"),
            Self::Singles(ports) => write!(f, "{ports} published ports"),
            Self::Range(ports) => write!(f, "a published range of {ports} ports"),
        }
    }
}

fn iptables(family: Family, publishes: Publishes) -> String {
    let container = bracketed(address_of(family, 0));
    let mut rules = String::from(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT \
         [0:0]\n:POSTROUTING ACCEPT [0:0]\n:PUBLISH - [0:0]\n",
    );
    rules += "-A PREROUTING -m addrtype --dst-type LOCAL -j PUBLISH\n";
    let mut publish = |protocol: &str, ports: &str, to: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            rules,
            "-A PUBLISH -p {protocol} -m {protocol} --dport {ports} -j DNAT --to-destination {to}"
        );
    };
    publish("tcp", &TCP.0.to_string(), &format!("{container}:{}", TCP.1));
    match publishes {
        Publishes::Singles(ports) => (0..ports).for_each(|port| {
            publish(
                "udp",
                &(HOST_PORT + port).to_string(),
                &format!("{container}:{}", CONTAINER_PORT + port),
            );
        }),
        Publishes::Range(ports) => {
            let last = ports - 1;
            publish(
                "udp",
                &format!("{HOST_PORT}:{}", HOST_PORT + last),
                &format!("{container}:{CONTAINER_PORT}-{}/{HOST_PORT}", CONTAINER_PORT + last),
            );
        }
    }
    let _ = write!(
        rules,
        "-A POSTROUTING -s {subnet} -o {UPLINK} -j MASQUERADE\nCOMMIT\n\
         *filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A FORWARD -m conntrack --ctstate DNAT -j ACCEPT\n\
         -A FORWARD -i {BRIDGE} -j ACCEPT\nCOMMIT\n",
        subnet = family.subnet()
    );
    rules
}

/// The published TCP port: on the host, and in the container.
pub const TCP: (u16, u16) = (8080, 8000);

fn nft(family: Family, publishes: Publishes, flowtable: bool) -> String {
    let (ip, container) = (if family == V4 { "ip" } else { "ip6" }, address_of(family, 0));
    let address = if family == V4 { "ipv4_addr" } else { "ipv6_addr" };
    let elements = format!("{} : {container} . {}", TCP.0, TCP.1);
    let mut udp = String::new();
    for port in 0..publishes.ports() {
        let separator = if port == 0 { "" } else { ", " };
        let _ = write!(
            udp,
            "{separator}{} : {container} . {}",
            HOST_PORT + port,
            CONTAINER_PORT + port
        );
    }
    let (table, offload) = if flowtable {
        (
            format!(
                "flowtable fast {{ hook ingress priority 0; devices = {{ {UPLINK}, {BRIDGE} }}; }}"
            ),
            "meta l4proto { tcp, udp } flow add @fast",
        )
    } else {
        (String::new(), "")
    };
    format!(
        "table {ip} bench {{
  {table}
  map tcp_publishes {{ type inet_service : {address} . inet_service; elements = {{ {elements} }} }}
  map udp_publishes {{ type inet_service : {address} . inet_service; elements = {{ {udp} }} }}
  chain publish {{
    dnat {ip} to tcp dport map @tcp_publishes
    dnat {ip} to udp dport map @udp_publishes
  }}
  chain incoming {{ type nat hook prerouting priority dstnat; policy accept; {ip} daddr {host} goto publish; }}
  chain outgoing {{
    type nat hook postrouting priority srcnat; policy accept; {ip} saddr {subnet} oifname \"{UPLINK}\" masquerade;
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    {offload}
    ct state established,related accept
    ct status dnat accept
    iifname \"{BRIDGE}\" accept
  }}
}}
",
        host = family.host(),
        subnet = family.subnet()
    )
}
