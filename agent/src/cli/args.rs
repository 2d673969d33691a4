//! What a person types.

use std::{ffi::OsString, net::IpAddr, path::PathBuf, process::ExitCode};

use causeway_api as api;
use causeway_api::spec::DEFAULT_NETWORK;
use causeway_api::{
    ContainerSpec, NetworkSpec, messages,
    types::{
        device::Device,
        flow_filter::{self, FlowFilter},
        flow_options::{self, FlowOptions, Mapping, Timeout},
        host_ports::HostPorts,
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
/// `causeway up` is the agent; every other verb asks it. It needs root.
#[derive(Debug, Parser)]
#[command(
    name = "causeway",
    version,
    arg_required_else_help = false,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    after_help = "Example:\n  causeway up\n  causeway container create web -p 8080:80\n  causeway container exec web -- ip address"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// What every verb takes.
    #[command(flatten)]
    pub common: Common,
}

/// What every verb takes.
#[derive(Debug, Args)]
pub struct Common {
    /// Print JSON: a list as an array, an action as the object that it made or removed
    #[arg(long, global = true)]
    pub json: bool,
    /// The agent to ask, or to run: each has a socket, a datapath and a state of its own
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = messages::DEFAULT_INSTANCE,
        env = "CAUSEWAY_INSTANCE",
        value_parser = Instance::new
    )]
    pub instance: Instance,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the agent in the foreground; prints `ready` when it serves
    ///
    /// SIGTERM, SIGINT or a crash end the agent only: links, containers and the datapath work on,
    /// and the next `up` takes them over. `CAUSEWAY_LOG` (error, warn, info, debug) says how much
    /// goes to stderr.
    #[command(
        after_help = "Example:\n  causeway up --uplink eth0\n  causeway up --netns host --instance lab"
    )]
    Up(Up),
    /// Remove everything the agent made, and end it; also after a crash, when no agent is running
    #[command(after_help = "Example:\n  causeway down")]
    Down,
    /// Subnets with a bridge and a policy
    #[command(
        arg_required_else_help = false,
        disable_help_subcommand = true,
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs"
    )]
    Network {
        /// What to do.
        #[command(subcommand)]
        verb: NetworkVerb,
    },
    /// Network namespaces with a link to a network
    #[command(
        arg_required_else_help = false,
        disable_help_subcommand = true,
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs"
    )]
    Container {
        /// What to do.
        #[command(subcommand)]
        verb: ContainerVerb,
    },
    /// Ports of the host that lead to a container
    #[command(
        arg_required_else_help = false,
        disable_help_subcommand = true,
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs"
    )]
    Publish {
        /// What to do.
        #[command(subcommand)]
        verb: PublishVerb,
    },
    /// Connections and exchanges that are going on (`ls` if nothing else is said)
    #[command(
        disable_help_subcommand = true,
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs",
        args_conflicts_with_subcommands = true,
        after_help = "Example:\n  causeway flows\n  causeway flows ls --container web --protocol tcp --json\n  causeway flows flush --address 203.0.113.0/24"
    )]
    Flows {
        /// What to do.
        #[command(subcommand)]
        verb: Option<FlowsVerb>,
        /// Of `ls`, if nothing is said.
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
    /// TOML file of networks and containers that the host is brought to
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Interface that leads outside; can be given several times [default: those of the default
    /// route]
    #[arg(long = "uplink", value_name = "IF", value_parser = values::interface)]
    pub uplinks: Vec<String>,
    /// Network namespace that is the host: a name under /run/netns, or a path [default: this one]
    #[arg(long, value_name = "NAME|PATH", value_parser = values::namespace)]
    pub netns: Option<PathBuf>,
    /// Let processes of the host bind published ports, and ports be published that they have bound;
    /// else that is refused
    #[arg(long)]
    pub allow_bind: bool,
    /// Let uplinks' drivers handle packets early: on, wherever they can; auto, where that takes
    /// nothing from the host's own traffic but a moment now [default: off]
    #[arg(long, value_name = "MODE")]
    pub xdp: Option<Xdp>,
    /// What connects containers that are made from now on: veth, or netkit, which Linux has from
    /// 6.11 on; those that are there keep theirs [default: veth]
    #[arg(long, value_name = "KIND")]
    pub device: Option<Device>,
}

/// `network`.
#[derive(Debug, Subcommand)]
pub enum NetworkVerb {
    /// Make a network with its bridge
    #[command(
        after_help = "Example:\n  causeway network create front --subnet 10.20.0.0/16 --mtu 1400"
    )]
    Create(NetworkCreate),
    /// List the networks
    #[command(after_help = "Example:\n  causeway network ls")]
    Ls,
    /// Show one network
    #[command(after_help = "Example:\n  causeway network inspect front --json")]
    Inspect(Name),
    /// Remove a network that no container is on; `default`, once removed, stays so until `causeway
    /// down`
    #[command(after_help = "Example:\n  causeway network rm front")]
    Rm(Name),
}

/// `container`.
#[derive(Debug, Subcommand)]
pub enum ContainerVerb {
    /// Make a network namespace, /run/netns/NAME, and put it on a network
    #[command(
        after_help = "Example:\n  causeway container create web --network front -p 8080:80 -p 127.0.0.1:5300:53/udp"
    )]
    Create(ContainerCreate),
    /// Put an existing network namespace on a network
    #[command(
        after_help = "Example:\n  causeway container attach web --pid 4711\n  causeway container attach web --netns /run/netns/web -p 8080:80"
    )]
    Attach(ContainerAttach),
    /// List the containers
    #[command(after_help = "Example:\n  causeway container ls")]
    Ls,
    /// Show one container
    #[command(after_help = "Example:\n  causeway container inspect web --json")]
    Inspect(Name),
    /// Take a container off its network; its namespace goes if causeway made it
    #[command(after_help = "Example:\n  causeway container rm web")]
    Rm(Name),
    /// Run a command in a container's network; its exit status is passed on
    #[command(
        override_usage = "causeway container exec [OPTIONS] <NAME> -- <COMMAND>...",
        after_help = "Example:\n  causeway container exec web -- ip route"
    )]
    Exec(ContainerExec),
}

/// `publish`.
#[derive(Debug, Subcommand)]
pub enum PublishVerb {
    /// Lead ports of the host to ports of a container
    #[command(
        after_help = "Example:\n  causeway publish add web 8080:80\n  causeway publish add web 10.0.2.2:5000-5010:5000-5010/udp --from 203.0.113.0/24"
    )]
    Add(PublishAdd),
    /// End a publish, and its flows
    #[command(after_help = "Example:\n  causeway publish rm web 8080:80")]
    Rm(PublishRm),
    /// Lead a publish to another container of the same network: what begins from now on goes there,
    /// by the same container ports
    ///
    /// Its flows end at once, those included that an earlier move still lets finish, unless --drain
    /// lets them finish where they are. A publish that the configuration file declares leads where
    /// the file says again after the next `up --config`.
    #[command(
        after_help = "Example:\n  causeway publish move 8080 web2\n  causeway publish move 10.0.2.2:5000-5010/udp web2 --drain 30"
    )]
    Move(PublishMove),
    /// List the publishes
    #[command(after_help = "Example:\n  causeway publish ls")]
    Ls,
}

/// `flows`.
#[derive(Debug, Subcommand)]
pub enum FlowsVerb {
    /// List the flows: all, or those for which everything holds that is asked for
    #[command(after_help = "Example:\n  causeway flows ls --container web --state established")]
    Ls(WhichFlows),
    /// End the flows: all, or those for which everything holds that is asked for
    #[command(
        after_help = "Example:\n  causeway flows flush --protocol udp --address 203.0.113.10"
    )]
    Flush(WhichFlows),
}

/// The flows that are meant.
#[derive(Debug, Args)]
pub struct WhichFlows {
    /// Those of that container
    #[arg(long, value_name = "NAME", value_parser = values::plain_name)]
    container: Option<String>,
    /// Those of the containers of that network
    #[arg(long, value_name = "NAME", value_parser = values::plain_name)]
    network: Option<String>,
    /// Those of that protocol: tcp, udp, icmp, icmpv6, sctp or a number
    #[arg(long, value_name = "P", value_parser = flow_filter::parse_protocol)]
    protocol: Option<u8>,
    /// Those in that state: unreplied, replied, syn-sent, syn-received, established, half-closed,
    /// closing, closed, reset, mapping
    #[arg(long, value_name = "S", value_parser = flow_filter::parse_state)]
    state: Option<String>,
    /// Those that come from there or go there, translated or not: an address, or a subnet as
    /// 203.0.113.0/24
    #[arg(long, value_name = "IP", value_parser = flow_filter::parse_address)]
    address: Option<IpNet>,
}

/// A name alone.
#[derive(Debug, Args)]
pub struct Name {
    /// Its name
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    pub name: String,
}

/// `network create`.
#[derive(Debug, Args)]
pub struct NetworkCreate {
    /// Its name
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    name: String,
    /// Where its containers' addresses are from, as 10.20.0.0/16; can be given twice, for IPv4 and
    /// for IPv6
    #[arg(long = "subnet", value_name = "CIDR", required = true, value_parser = values::subnet)]
    subnets: Vec<IpNet>,
    /// The bridge's name [default: cwN with the lowest free N]
    #[arg(long, value_name = "IF", value_parser = values::interface)]
    bridge: Option<String>,
    /// The bridge's address in a subnet [default: the first]
    #[arg(long = "gateway", value_name = "IP", value_parser = values::address)]
    gateways: Vec<IpAddr>,
    /// Largest packet in bytes, IP header included [default: the uplink's]
    #[arg(long, value_name = "N", value_parser = values::mtu)]
    mtu: Option<u32>,
    /// Nothing leaves or enters the network, the host excepted
    #[arg(long)]
    internal: bool,
    /// Keep the containers' source addresses, of one family or of both; the world must then know a
    /// route to the subnet
    #[arg(
        long,
        value_name = "ipv4|ipv6",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "both",
        value_parser = values::masquerade_without
    )]
    no_masquerade: Option<Masquerade>,
    /// Containers of the network do not reach each other
    #[arg(long)]
    no_icc: bool,
    /// How long a flow lasts after its last packet, as udp=120; can be given several times. The
    /// names, with their defaults: tcp-established (7440), tcp-transitory (240), udp (120),
    /// udp-stream (300), icmp (60), sctp (300)
    #[arg(long = "timeout", value_name = "NAME=SECONDS", value_parser = flow_options::parse_timeout)]
    timeouts: Vec<(Timeout, u32)>,
    /// Where masquerade takes a source port from when the container's own is taken [default:
    /// 1024-32767]
    #[arg(long, value_name = "LO-HI")]
    ports: Option<PortRange>,
    /// symmetric: who was sent to may answer; full-cone: one port toward everybody, and anybody may
    /// send to it [default: symmetric]
    #[arg(long, value_name = "MAPPING")]
    mapping: Option<Mapping>,
    /// How many flows a container may have at once [default: half of the flow table]
    #[arg(long, value_name = "N", value_parser = values::max_flows)]
    max_flows: Option<u32>,
}

/// What a container has on its network.
#[derive(Debug, Args)]
pub struct Placement {
    /// The network it is on
    #[arg(long, value_name = "N", default_value = DEFAULT_NETWORK, value_parser = values::plain_name)]
    network: String,
    /// Its address; can be given twice, for IPv4 and for IPv6 [default: the next free one of each
    /// subnet]
    #[arg(long = "ip", value_name = "IP", value_parser = values::address)]
    addresses: Vec<IpAddr>,
    /// Its MAC address, as 02:63:0a:14:00:0a [default: derived from the first address]
    #[arg(long, value_name = "MAC", value_parser = values::mac)]
    mac: Option<String>,
    /// Published once the container is there.
    #[arg(
        short,
        long = "publish",
        value_name = "PUBLISH",
        help = "Ports to publish: [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp]; can be given several times"
    )]
    publishes: Vec<PublishSpec>,
}

/// `container create`.
#[derive(Debug, Args)]
pub struct ContainerCreate {
    /// Its name, and its namespace's under /run/netns
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    name: String,
    #[command(flatten)]
    placement: Placement,
}

/// `container attach`.
#[derive(Debug, Args)]
pub struct ContainerAttach {
    /// What it is called from now on
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
    /// The namespace: a path, or a name under /run/netns
    #[arg(long, value_name = "PATH", value_parser = values::namespace)]
    netns: Option<PathBuf>,
    /// A process that is in the namespace
    #[arg(long, value_name = "PID", value_parser = values::pid)]
    pid: Option<u32>,
}

/// `container exec`.
#[derive(Debug, Args)]
pub struct ContainerExec {
    /// The container's name
    #[arg(value_name = "NAME", value_parser = values::plain_name)]
    pub name: String,
    /// What to run, with its arguments
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
    /// The container's name
    #[arg(value_name = "CONTAINER", value_parser = values::plain_name)]
    container: String,
    /// Which ports.
    #[arg(value_name = "PUBLISH", help = "[HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp]")]
    ports: PublishPorts,
    /// Clients that may use it
    #[arg(
        long,
        value_name = "CIDR",
        value_parser = values::subnet,
        help = "Clients that may use it, as 203.0.113.0/24 or 2001:db8::/32; can be given several times [default: any]"
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
    /// The container's name
    #[arg(value_name = "CONTAINER", value_parser = values::plain_name)]
    pub container: String,
    /// Which ports.
    #[arg(
        value_name = "PUBLISH",
        help = "As it was added: [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp]"
    )]
    pub publish: PublishPorts,
}

/// `publish move`.
#[derive(Debug, Args)]
pub struct PublishMove {
    /// Which publish.
    #[arg(
        value_name = "HOSTPORT",
        help = "All host ports of the publish: [HOSTIP:]HOSTPORT[-END][/tcp|udp|sctp]"
    )]
    ports: HostPorts,
    /// The container that it is to lead to
    #[arg(value_name = "CONTAINER", value_parser = values::plain_name)]
    container: String,
    /// Flows may finish in the container where they are, for at most so long
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
            report(&usage::to_error(&error, &arguments), messages::DEFAULT_INSTANCE, json);
            ExitCode::from(2)
        })
    }
}

impl NetworkCreate {
    /// What the agent is asked for.
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
    /// What the agent is asked for.
    pub fn into_spec(self) -> ContainerSpec {
        self.placement.into_spec(self.name)
    }
}

impl ContainerAttach {
    /// What the agent is asked for: the namespace's path, and the rest.
    pub fn into_spec(self) -> (PathBuf, ContainerSpec) {
        let WhichNamespace { netns, pid } = self.which;
        // One of the two: the group says so.
        let of_process = || PathBuf::from(format!("/proc/{}/ns/net", pid.unwrap_or_default()));
        (netns.unwrap_or_else(of_process), self.placement.into_spec(self.name))
    }
}

impl WhichFlows {
    /// What the agent is asked for.
    pub fn into_filter(self) -> FlowFilter {
        let Self { container, network, protocol, state, address } = self;
        FlowFilter { container, network, protocol, state, address }
    }
}

impl PublishMove {
    /// What the agent is asked for.
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
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_form_of_the_contract_is_taken() {
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
            "network create front --subnet 10.20.0.0/16 --subnet 2001:db8::/64 --bridge br0 --gateway 10.20.0.1 --mtu 9000 --internal --no-masquerade --no-icc",
            "network create front --no-masquerade=ipv6 --subnet 10.20.0.0/16 --subnet fd12:3456:789a::/64 --gateway fd12:3456:789a::9",
            "container create web --network front --ip 10.20.0.9 --ip fd12:3456:789a::9",
            "network create front --subnet 10.20.0.0/16 --timeout udp=30 --timeout tcp-established=7440 --ports 20000-20009 --mapping full-cone --max-flows 1000",
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
            "flows ls --container web --network default --protocol tcp --state established --address 203.0.113.0/24 --json",
            "flows flush --protocol 47 --address 2001:db8::1",
            "stats",
        ] {
            assert!(read(line).is_ok(), "{line}: {}", read(line).unwrap_err());
        }
    }

    #[test]
    fn options_become_the_request() {
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
