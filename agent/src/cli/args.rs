//! The command line.

use std::{
    ffi::OsString,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use causeway_api as api;
use causeway_api::spec::DEFAULT_NETWORK;
use causeway_api::{
    ContainerSpec, NetworkSpec,
    client::DEFAULT_INSTANCE,
    types::{
        device::Device,
        flow::{FlowProtocol, FlowState},
        flow_filter::{self, FlowFilter},
        flow_options::{self, FlowOptions, Mapping, Timeout},
        host_ports::HostPorts,
        mac::Mac,
        masquerade::Masquerade,
        publish::{PortRange, PublishOptions, PublishPorts, PublishSpec},
        xdp::Xdp,
    },
};
use clap::{Args, Parser, Subcommand, error::ErrorKind};
use ipnet::IpNet;

use super::{messages::report, usage, values};
use crate::instance::Instance;

/// Container networking for one Linux host, in eBPF.
///
/// `causeway up` runs the agent; every other verb sends it a request. All need root.
#[derive(Debug, Parser)]
#[command(
    name = "causeway",
    version,
    arg_required_else_help = false,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    after_help = "Example:\n  causeway up\n  causeway container create web -p 8080:80\n  \
                  causeway container exec web -- ip address"
)]
pub struct Cli {
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
    /// The options of every verb.
    #[command(flatten)]
    pub common: Common,
}

/// The options of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Common {
    /// Print JSON: lists as arrays, actions as the object made or removed, errors on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Name of the agent to run or to ask; each has its own socket, datapath and state
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = DEFAULT_INSTANCE,
        env = "CAUSEWAY_INSTANCE",
        value_parser = Instance::new
    )]
    pub instance: Instance,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the agent in the foreground; prints `ready` once it serves
    ///
    /// SIGTERM, SIGINT and a crash end the agent only: links, containers and the datapath stay, and
    /// the next `up` takes them over. `CAUSEWAY_LOG` (off, error, warn, info, debug, trace) sets
    /// the log level on stderr.
    #[command(after_help = "Example:\n  causeway up --uplink eth0\n  \
                      causeway up --check --config causeway.toml\n  causeway up --netns host \
                      --instance lab")]
    Up(Up),
    /// Remove everything that the agent made, and end it; works without a running agent too
    #[command(after_help = "Example:\n  causeway down")]
    Down,
    /// Manage networks: subnets with a bridge and a policy
    #[command(
        arg_required_else_help = false,
        disable_help_subcommand = true,
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs"
    )]
    Network {
        /// The verb.
        #[command(subcommand)]
        verb: NetworkVerb,
    },
    /// Manage containers: network namespaces with a link to a network
    #[command(
        arg_required_else_help = false,
        disable_help_subcommand = true,
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs"
    )]
    Container {
        /// The verb.
        #[command(subcommand)]
        verb: ContainerVerb,
    },
    /// Manage published ports
    #[command(
        arg_required_else_help = false,
        disable_help_subcommand = true,
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs"
    )]
    Publish {
        /// The verb.
        #[command(subcommand)]
        verb: PublishVerb,
    },
    /// List flows or end them [default: ls]
    #[command(
        disable_help_subcommand = true,
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs",
        args_conflicts_with_subcommands = true,
        after_help = "Example:\n  causeway flows\n  causeway flows ls --container web \
                      --protocol tcp --json\n  causeway flows flush --address 203.0.113.0/24"
    )]
    Flows {
        /// The verb.
        #[command(subcommand)]
        verb: Option<FlowsVerb>,
        /// The filter of `flows` without a verb.
        #[command(flatten)]
        which: WhichFlows,
    },
    /// Count packets that left the fast path, by reason, since the datapath was loaded
    ///
    /// What became of a packet is its fate. drop: it ended, and its sender may have got an ICMP
    /// error. punt: it went on unchanged to the kernel's stack. hold: it is a fragment that was
    /// queued until the first fragment of its datagram came.
    #[command(
        after_help = "docs/drop-reasons.md says what each reason means.\n\nExample:\n  causeway stats --json"
    )]
    Stats,
}

/// `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// TOML file that declares networks and containers
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the changes that the agent would make, one per line, and touch nothing; FILE is as
    /// with --config
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub check: Option<Option<PathBuf>>,
    /// Uplink interface; repeatable [default: the interfaces of the default routes]
    #[arg(long = "uplink", value_name = "IF", value_parser = values::interface)]
    pub uplinks: Vec<String>,
    /// Network namespace of the host: a name under /run/netns, or a path [default: the current
    /// one]
    #[arg(long, value_name = "NAME|PATH", value_parser = values::namespace)]
    pub netns: Option<PathBuf>,
    /// Let processes of the host bind published ports, and publish ports that they have bound
    /// [default: refuse both]
    #[arg(long)]
    pub allow_bind: bool,
    /// Attach XDP to uplinks: off, auto (only where host traffic is unaffected), on (wherever
    /// native XDP is supported) [default: off]
    #[arg(long, value_name = "MODE")]
    pub xdp: Option<Xdp>,
    /// Link type of new containers: veth, or netkit (Linux 6.11) [default: veth]
    #[arg(long, value_name = "KIND")]
    pub device: Option<Device>,
}

impl Up {
    /// The configuration file.
    pub fn config_file(&self) -> Option<&Path> {
        self.config.as_deref().or_else(|| self.check.as_ref()?.as_deref())
    }
}

/// `network`.
#[derive(Debug, Subcommand)]
pub enum NetworkVerb {
    /// Create a network and its bridge
    #[command(
        after_help = "Example:\n  causeway network create front --subnet 10.20.0.0/16 --mtu 1400"
    )]
    Create(NetworkCreate),
    /// List networks
    #[command(after_help = "Example:\n  causeway network ls")]
    Ls,
    /// Show one network
    #[command(after_help = "Example:\n  causeway network inspect front --json")]
    Inspect(NetworkName),
    /// Remove a network without containers; `default` is not made again before `causeway down`
    #[command(after_help = "Example:\n  causeway network rm front")]
    Rm(NetworkName),
}

/// `container`.
#[derive(Debug, Subcommand)]
pub enum ContainerVerb {
    /// Create the network namespace /run/netns/NAME and connect it to a network
    #[command(
        after_help = "Example:\n  causeway container create web --network front -p 8080:80 -p 127.0.0.1:5300:53/udp"
    )]
    Create(ContainerCreate),
    /// Connect an existing network namespace to a network
    #[command(after_help = "Example:\n  causeway container attach web --pid 4711\n  \
                      causeway container attach web --netns /run/netns/web -p 8080:80")]
    Attach(ContainerAttach),
    /// List containers
    #[command(after_help = "Example:\n  causeway container ls")]
    Ls,
    /// Show one container
    #[command(after_help = "Example:\n  causeway container inspect web --json")]
    Inspect(ContainerName),
    /// Disconnect a container from its network; its namespace is removed if causeway created it
    #[command(after_help = "Example:\n  causeway container rm web")]
    Rm(ContainerName),
    /// Run a command in a container's network namespace, with the command's exit status
    #[command(
        override_usage = "causeway container exec [OPTIONS] <NAME> -- <COMMAND>...",
        after_help = "Example:\n  causeway container exec web -- ip route"
    )]
    Exec(ContainerExec),
}

/// `publish`.
#[derive(Debug, Subcommand)]
pub enum PublishVerb {
    /// Publish ports of a container at ports of the host
    #[command(after_help = "Example:\n  causeway publish add web 8080:80\n  \
                      causeway publish add web 10.0.2.2:5000-5010:5000-5010/udp --from \
                      203.0.113.0/24")]
    Add(PublishAdd),
    /// Remove a publish and end its flows
    #[command(after_help = "Example:\n  causeway publish rm web 8080:80")]
    Rm(PublishRm),
    /// Move a publish to another container of the same network; container ports stay
    ///
    /// New flows go to the new container. Existing flows end at once, or stay where they are for at
    /// most --drain seconds; flows that an earlier move left to drain end too. The next `up
    /// --config` moves a publish of the configuration file back.
    #[command(after_help = "Example:\n  causeway publish move 8080 web2\n  \
                      causeway publish move 10.0.2.2:5000-5010/udp web2 --drain 30")]
    Move(PublishMove),
    /// List publishes
    #[command(after_help = "Example:\n  causeway publish ls")]
    Ls,
}

/// `flows`.
#[derive(Debug, Subcommand)]
pub enum FlowsVerb {
    /// List flows; filters are combined with AND
    #[command(after_help = "Example:\n  causeway flows ls --container web --state established")]
    Ls(WhichFlows),
    /// End flows; filters are combined with AND
    #[command(
        after_help = "Example:\n  causeway flows flush --protocol udp --address 203.0.113.10"
    )]
    Flush(WhichFlows),
}

/// A filter of flows.
#[derive(Debug, Args)]
pub struct WhichFlows {
    /// Flows of a container
    #[arg(long, value_name = "NAME", value_parser = values::plain_name)]
    container: Option<String>,
    /// Flows of a network's containers
    #[arg(long, value_name = "NAME", value_parser = values::plain_name)]
    network: Option<String>,
    /// Flows of a protocol: tcp, udp, icmp, icmpv6, sctp or an IANA number
    #[arg(long, value_name = "P")]
    protocol: Option<FlowProtocol>,
    /// Flows in a state: unreplied, replied, syn-sent, syn-received, established, half-closed,
    /// closing, closed, reset, mapping
    #[arg(long, value_name = "S")]
    state: Option<FlowState>,
    /// Flows from or to an address or subnet, before or after translation, such as 203.0.113.0/24
    #[arg(long, value_name = "IP", value_parser = flow_filter::parse_address)]
    address: Option<IpNet>,
}

/// The argument of verbs that take a network only.
#[derive(Debug, Args)]
pub struct NetworkName {
    /// Name of the network
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    pub name: String,
}

/// The argument of verbs that take a container only.
#[derive(Debug, Args)]
pub struct ContainerName {
    /// Name of the container
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    pub name: String,
}

/// `network create`.
#[derive(Debug, Args)]
pub struct NetworkCreate {
    /// Name of the network
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    name: String,
    /// Subnet of the containers' addresses, such as 10.20.0.0/16; one per family
    #[arg(long = "subnet", value_name = "CIDR", required = true, value_parser = values::subnet)]
    subnets: Vec<IpNet>,
    /// Name of the bridge [default: cwN with the lowest free N]
    #[arg(long, value_name = "IF", value_parser = values::interface)]
    bridge: Option<String>,
    /// Address of the bridge, the containers' gateway; one per subnet [default: the first address]
    #[arg(long = "gateway", value_name = "IP", value_parser = values::address)]
    gateways: Vec<IpAddr>,
    /// MTU in bytes [default: the smallest of the uplinks]
    #[arg(long, value_name = "N", value_parser = values::mtu)]
    mtu: Option<u32>,
    /// No traffic between the network and the outside; the host reaches it
    #[arg(long)]
    internal: bool,
    /// No source NAT, for one family or both: the outside needs a route to the subnet
    #[arg(
        long,
        value_name = "ipv4|ipv6",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "both",
        value_parser = values::masquerade_without
    )]
    no_masquerade: Option<Masquerade>,
    /// No traffic between containers of the network
    #[arg(long)]
    no_icc: bool,
    /// Idle timeout of flows, such as udp=120; repeatable. Names and defaults: tcp-established
    /// (7440), tcp-transitory (240), udp (120), udp-stream (300), icmp (60), sctp (300)
    #[arg(long = "timeout", value_name = "NAME=SECONDS", value_parser = flow_options::parse_timeout)]
    timeouts: Vec<(Timeout, u32)>,
    /// Source ports for masquerade, used where the container's own port is taken [default:
    /// 1024-32767]
    #[arg(long, value_name = "LO-HI")]
    ports: Option<PortRange>,
    /// NAT behaviour (RFC 4787): symmetric = address- and port-dependent, full-cone =
    /// endpoint-independent mapping and filtering [default: symmetric]
    #[arg(long, value_name = "MAPPING")]
    mapping: Option<Mapping>,
    /// Maximum number of flows per container [default: half of the flow table]
    #[arg(long, value_name = "N", value_parser = values::max_flows)]
    max_flows: Option<u32>,
}

/// A container's place on its network.
#[derive(Debug, Args)]
pub struct Placement {
    /// Network to connect to
    #[arg(long, value_name = "N", default_value = DEFAULT_NETWORK, value_parser = values::plain_name)]
    network: String,
    /// IP address; one per family [default: the next free one of each subnet]
    #[arg(long = "ip", value_name = "IP", value_parser = values::address)]
    addresses: Vec<IpAddr>,
    /// MAC address, such as 02:63:0a:14:00:0a [default: derived from the first IP address]
    #[arg(long, value_name = "MAC")]
    mac: Option<Mac>,
    /// The ports to publish.
    #[arg(
        short,
        long = "publish",
        value_name = "PUBLISH",
        help = "Ports to publish: [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp]; repeatable"
    )]
    publishes: Vec<PublishSpec>,
}

/// `container create`.
#[derive(Debug, Args)]
pub struct ContainerCreate {
    /// Name of the container, and of its namespace under /run/netns
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    name: String,
    #[command(flatten)]
    placement: Placement,
}

/// `container attach`.
#[derive(Debug, Args)]
pub struct ContainerAttach {
    /// Name of the container
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    name: String,
    #[command(flatten)]
    which: WhichNamespace,
    #[command(flatten)]
    placement: Placement,
}

/// The namespace to attach.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct WhichNamespace {
    /// Network namespace: a path, or a name under /run/netns
    #[arg(long, value_name = "PATH", value_parser = values::namespace)]
    netns: Option<PathBuf>,
    /// Process in the network namespace
    #[arg(long, value_name = "PID", value_parser = values::pid)]
    pid: Option<u32>,
}

/// `container exec`.
#[derive(Debug, Args)]
pub struct ContainerExec {
    /// Name of the container
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    pub name: String,
    /// Command with its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
}

/// `publish add`.
#[derive(Debug, Args)]
pub struct PublishAdd {
    /// Name of the container
    #[arg(value_name = "CONTAINER", value_parser = values::plain_name)]
    container: String,
    /// The ports.
    #[arg(value_name = "PUBLISH", help = "[HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp]")]
    ports: PublishPorts,
    /// The admitted clients.
    #[arg(
        long,
        value_name = "CIDR",
        value_parser = values::subnet,
        help = "Subnet of admitted clients, such as 203.0.113.0/24 or 2001:db8::/32; repeatable [default: all clients]"
    )]
    from: Vec<IpNet>,
}

impl PublishAdd {
    /// The request.
    pub fn into_request(self) -> api::PublishAdd {
        let options = PublishOptions { from: self.from };
        let publish = PublishSpec { ports: self.ports, options };
        api::PublishAdd { container: self.container, publish }
    }
}

/// `publish rm`.
#[derive(Debug, Args)]
pub struct PublishRm {
    /// Name of the container
    #[arg(value_name = "CONTAINER", value_parser = values::plain_name)]
    pub container: String,
    /// The ports.
    #[arg(
        value_name = "PUBLISH",
        help = "Publish to remove, as added: [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp]"
    )]
    pub publish: PublishPorts,
}

/// `publish move`.
#[derive(Debug, Args)]
pub struct PublishMove {
    /// The host ports.
    #[arg(
        value_name = "HOSTPORT",
        help = "All host ports of the publish: [HOSTIP:]HOSTPORT[-END][/tcp|udp|sctp]"
    )]
    ports: HostPorts,
    /// Name of the new container
    #[arg(value_name = "CONTAINER", value_parser = values::plain_name)]
    container: String,
    /// Let existing flows finish in the old container for at most this long
    #[arg(long, value_name = "SECONDS", value_parser = values::drain)]
    drain: Option<u32>,
}

impl Cli {
    /// Reads the command line. Prints the help if it is asked for, and the error if the command
    /// line is wrong; the exit status is returned then.
    pub fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
                // A closed pipe (`| head`) is not the help's failure.
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
            // What follows `--` belongs to another program.
            let own = arguments.iter().take_while(|argument| *argument != "--");
            let json = own.into_iter().any(|argument| argument == "--json");
            report(&usage::to_error(&error, &arguments), DEFAULT_INSTANCE, json);
            ExitCode::from(2)
        })
    }
}

impl NetworkCreate {
    /// The specification of the network.
    pub fn into_spec(self) -> NetworkSpec {
        NetworkSpec {
            name: self.name,
            subnets: self.subnets,
            bridge: self.bridge,
            gateways: self.gateways,
            mtu: self.mtu,
            internal: self.internal,
            masquerade: self.no_masquerade.unwrap_or(Masquerade::ON),
            icc: !self.no_icc,
            flows: FlowOptions {
                timeouts: self.timeouts.into_iter().collect(),
                ports: self.ports,
                mapping: self.mapping,
                max_flows: self.max_flows,
            },
        }
    }
}

impl ContainerCreate {
    /// The specification of the container.
    pub fn into_spec(self) -> ContainerSpec {
        self.placement.into_spec(self.name)
    }
}

impl ContainerAttach {
    /// The namespace's path, and the specification of the container.
    pub fn into_spec(self) -> (PathBuf, ContainerSpec) {
        let WhichNamespace { netns, pid } = self.which;
        // Exactly one of the two is given: the group requires it.
        let of_process = || PathBuf::from(format!("/proc/{}/ns/net", pid.unwrap_or_default()));
        (netns.unwrap_or_else(of_process), self.placement.into_spec(self.name))
    }
}

impl WhichFlows {
    /// The filter in the request.
    pub fn into_filter(self) -> FlowFilter {
        let Self { container, network, protocol, state, address } = self;
        let protocol = protocol.map(|protocol| protocol.0);
        FlowFilter { container, network, protocol, state, address }
    }
}

impl PublishMove {
    /// The request's fields.
    pub fn into_request(self) -> api::PublishMove {
        api::PublishMove { ports: self.ports, container: self.container, drain_s: self.drain }
    }
}

impl Placement {
    fn into_spec(self, name: String) -> ContainerSpec {
        ContainerSpec {
            name,
            network: Some(self.network),
            addresses: self.addresses,
            mac: self.mac,
            publishes: self.publishes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory as _;

    use super::*;
    use causeway_api::types::family::Family;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("causeway").chain(line.split_whitespace()))
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn accepts_every_form_of_the_contract() {
        for line in [
            "up",
            "up --config lab.toml --uplink eth0 --uplink eth1 --netns host",
            "up --allow-bind",
            "up --xdp auto",
            "up --device netkit",
            "up --xdp on --uplink eth0",
            "up --netns /proc/1/ns/net --instance lab",
            "down --json",
            "--json --instance lab down",
            "network create front --subnet 10.20.0.0/16",
            "network create front --subnet 10.20.0.0/16 --subnet 2001:db8::/64 --bridge br0 \
             --gateway 10.20.0.1 --mtu 9000 --internal --no-masquerade --no-icc",
            "network create front --no-masquerade=ipv6 --subnet 10.20.0.0/16 --subnet \
             fd12:3456:789a::/64 --gateway fd12:3456:789a::9",
            "container create web --network front --ip 10.20.0.9 --ip fd12:3456:789a::9",
            "network create front --subnet 10.20.0.0/16 --timeout udp=30 --timeout \
             tcp-established=7440 --ports 20000-20009 --mapping full-cone --max-flows 1000",
            "network ls",
            "network ls --json --instance lab",
            "network inspect front",
            "network rm front",
            "container create web",
            "container create web --network front --ip 10.20.0.9 --mac 02:00:00:00:00:01 -p 8080:80 -p 53:53/udp",
            "container attach web --netns /run/netns/x --network front",
            "container attach web --pid 1 -p 8080:80",
            "container ls",
            "container inspect web",
            "container rm web",
            "container exec web -- ls -l --json",
            "container exec web ls -l",
            "publish add web 8080:80",
            "publish add web [2001:db8::1]:8080-8081:80-81/tcp --from 10.0.0.0/8 --from 192.168.0.0/16",
            "publish rm web 8080:80/tcp",
            "publish move 8080 web",
            "publish move 127.0.0.1:8080-8081/udp web --drain 30",
            "publish ls",
            "flows",
            "flows --json",
            "flows ls",
            "flows flush",
            "flows --container web",
            "flows ls --container web --network default --protocol tcp --state established \
             --address 203.0.113.0/24 --json",
            "flows flush --protocol 47 --address 2001:db8::1",
            "stats",
        ] {
            assert!(read(line).is_ok(), "{line}: {}", read(line).unwrap_err());
        }
    }

    #[test]
    fn options_become_requests() {
        let Ok(Cli { verb: Verb::Network { verb: NetworkVerb::Create(create) }, .. }) =
            read("network create front --subnet 10.20.0.0/16 --no-icc")
        else {
            panic!("it is network create");
        };
        let spec = create.into_spec();
        assert!(spec.masquerade == Masquerade::ON && !spec.icc && !spec.internal);

        for (option, expected) in [
            ("--no-masquerade", Masquerade::OFF),
            ("--no-masquerade=ipv4", Masquerade::only(Family::V6)),
            ("--no-masquerade=ipv6", Masquerade::only(Family::V4)),
        ] {
            let Ok(Cli { verb: Verb::Network { verb: NetworkVerb::Create(create) }, .. }) =
                read(&format!("network create {option} front --subnet 10.20.0.0/16"))
            else {
                panic!("it is network create");
            };
            assert_eq!(create.into_spec().masquerade, expected, "{option}");
        }

        let Ok(Cli { verb: Verb::Container { verb: ContainerVerb::Attach(attach) }, .. }) =
            read("container attach web --pid 7")
        else {
            panic!("it is container attach");
        };
        let (path, spec) = attach.into_spec();
        assert_eq!(path, Path::new("/proc/7/ns/net"));
        assert_eq!(spec.network.as_deref(), Some("default"));
    }
}
