//! A host for a contender, with two containers and the outside world.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use causeway_api::types::mac::Mac;
use causeway_netlink::{Netlink, Netns, netns, sysctl};
use causeway_tests::{
    family::{Family, V4, V6},
    lab::{Lab, UPLINK, WORLD_SIDE},
    ping::try_ping,
    place,
    undo::{self, Undo},
};
use ipnet::IpNet;

use crate::contender::{Contender, Publishes, TCP};

/// The bridge of the containers.
pub const BRIDGE: &str = "cw0";

/// The address of a container by number, the same that the agent allocates.
pub const fn address_of(family: Family, container: u8) -> IpAddr {
    let last = container + 2;
    match family {
        V4 => IpAddr::V4(Ipv4Addr::new(172, 18, 0, last)),
        V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x18, 0, 0, 0, 0, last as u16)),
    }
}

/// Number of pings to try, and time to wait for each.
const TRIES: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(1);

/// What to make.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The published ports.
    pub publishes: Publishes,
    /// Required capacity for flows of each family, if configurable.
    pub flows: u32,
    /// Families of the frames. Every host has both, but rules are made for these only.
    pub families: Vec<Family>,
    /// The program of [`Contender::CausewayBefore`].
    pub before: Option<PathBuf>,
}

/// What to remove, however the benchmark ends.
static MADE: Mutex<Vec<Arc<Mutex<Undo>>>> = Mutex::new(Vec::new());

/// A host with two containers and the world.
#[derive(Debug)]
pub struct Rig {
    /// The contender.
    pub contender: Contender,
    /// Namespaces.
    pub lab: Lab,
    /// The published container, and its neighbour.
    pub containers: [Place; 2],
    /// The uplink.
    pub uplink: Interface,
    /// The uplink's other end.
    pub world_side: Interface,
    /// MAC of the bridge.
    pub gateway_mac: Mac,
}

/// A container.
#[derive(Debug)]
pub struct Place {
    /// Namespace.
    pub netns: Netns,
    addresses: Vec<IpAddr>,
    /// MAC of the container side.
    pub mac: Mac,
    /// Container side.
    pub interface: String,
    /// Host side.
    pub host_side: Interface,
}

/// An interface of the host.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// MAC.
    pub mac: Mac,
}

impl Rig {
    /// Makes a host.
    pub fn build(contender: Contender, setup: &Setup, number: u32) -> anyhow::Result<Self> {
        let lab = Lab::for_people(&undo::unique_name(number), false)?;
        MADE.lock().unwrap_or_else(PoisonError::into_inner).push(lab.shared_undo());
        for (key, value) in [
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            // Rules do not see bridged packets. (Docker sets this to 1, at a cost.)
            ("bridge/bridge-nf-call-iptables", "0"),
            ("bridge/bridge-nf-call-ip6tables", "0"),
        ] {
            sysctl::set(&lab.host, key, value)?;
        }
        let made = match contender {
            Contender::Causeway => causeway(&lab, setup, &Family::ALL, &["--xdp", "off"])?,
            Contender::CausewayXdp => causeway(&lab, setup, &Family::ALL, &["--xdp", "on"])?,
            Contender::CausewayBefore => before(&lab, setup)?,
            Contender::Floor
            | Contender::Redirect
            | Contender::Plain
            | Contender::IptablesLegacy
            | Contender::IptablesNft
            | Contender::NftMap
            | Contender::NftFlowtable => by_hand(&lab)?,
        };
        let [c1, c2] = made;
        for family in &setup.families {
            let Some(program) = contender.rules_program(*family) else { continue };
            let rules = contender.rules(*family, setup.publishes);
            feed(&lab.host, program, &rules).with_context(|| contender.refused())?;
            // The receiver's checksum is verified by the network card, as on real machines.
            sysctl::set(&lab.host, "netfilter/nf_conntrack_checksum", "0")?;
        }
        let uplink = interface(&lab.host, UPLINK)?;
        let world_side = interface(&lab.world, WORLD_SIDE)?;
        let gateway_mac = interface(&lab.host, BRIDGE)?.mac;
        // For packets without NAT.
        for family in Family::ALL {
            tell(
                &lab.world,
                &["route", "add", family.subnet(), "via", &family.host().to_string()],
            )?;
        }
        let rig = Self { contender, lab, containers: [c1, c2], uplink, world_side, gateway_mac };
        rig.meet()?;
        Ok(rig)
    }

    /// Resolves all neighbours, so that no frame waits for that.
    fn meet(&self) -> anyhow::Result<()> {
        let [c1, c2] = &self.containers;
        // A link that has just come up may lose the first ping.
        let ping = |from: &Netns, to: IpAddr| {
            let mut answers = (0..TRIES).map(|_| try_ping(from, to, 0x5000, 56, PATIENCE).is_ok());
            ensure!(
                answers.any(|answered| answered),
                "{}: {to} does not answer a ping",
                self.contender
            );
            Ok(())
        };
        for family in self.families() {
            for (from, neighbour) in [(c1, c2), (c2, c1)] {
                ping(&from.netns, neighbour.address(family)?)?;
                ping(&from.netns, family.gateway())?;
            }
            ping(&self.lab.host, family.router())?;
        }
        Ok(())
    }

    /// The families of container addresses.
    fn families(&self) -> impl Iterator<Item = Family> {
        self.containers[0].addresses.iter().copied().map(Family::of)
    }

    /// Enables or disables NAPI on the uplink, as on a network card. Without it frames sent by XDP
    /// do not arrive.
    pub fn receive_by_napi(&self, on: bool) -> anyhow::Result<()> {
        let state = if on { "on" } else { "off" };
        run(&self.lab.host, Command::new("ethtool").args(["--offload", UPLINK, "gro", state]))
    }

    /// Removes every flow.
    pub fn forget_flows(&self) -> anyhow::Result<()> {
        match self.contender {
            Contender::Floor | Contender::Redirect | Contender::Plain => Ok(()),
            Contender::Causeway | Contender::CausewayXdp | Contender::CausewayBefore => {
                let output = self.lab.try_causeway(&["flows", "flush"])?;
                ensure!(output.status == Some(0), "{}", output.stderr.trim_end());
                Ok(())
            }
            Contender::IptablesLegacy
            | Contender::IptablesNft
            | Contender::NftMap
            | Contender::NftFlowtable => place::run(&self.lab.host, crate::conntrack::flush),
        }
    }
}

impl Place {
    /// Address of a family.
    pub fn address(&self, family: Family) -> anyhow::Result<IpAddr> {
        let found = self.addresses.iter().find(|address| Family::of(**address) == family);
        found.copied().with_context(|| format!("a container has no address of {family}"))
    }

    fn open(
        host: &Netns,
        name: &str,
        addresses: Vec<IpAddr>,
        own: &str,
        host_side: &str,
    ) -> anyhow::Result<Self> {
        let netns = Netns::open(&netns::named(name))?;
        let mac = interface(&netns, own)?.mac;
        Ok(Self {
            addresses,
            mac,
            interface: own.to_owned(),
            host_side: interface(host, host_side)?,
            netns,
        })
    }
}

/// Removes everything of all rigs. Returns what could not be removed.
pub fn undo_all() -> Vec<String> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.drain(..)
        .flat_map(|undo| undo.lock().unwrap_or_else(PoisonError::into_inner).all())
        .collect()
}

/// With another build, and only options that every build has.
fn before(lab: &Lab, setup: &Setup) -> anyhow::Result<[Place; 2]> {
    let program = setup.before.clone().context("--before does not say which program it is")?;
    let mut help = Command::new(&program);
    let help = help
        .args(["up", "--help"])
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let has_xdp = String::from_utf8_lossy(&help.stdout).contains("--xdp");
    lab.undo().program = program;
    causeway(lab, setup, &[V4], if has_xdp { &["--xdp", "off"] } else { &[] })
}

fn causeway(
    lab: &Lab,
    setup: &Setup,
    families: &[Family],
    arguments: &[&str],
) -> anyhow::Result<[Place; 2]> {
    let names = ["c1", "c2"].map(|short| lab.name_of(short));
    let mut specs = setup.publishes.specs();
    specs.push(format!("{}:{}/tcp", TCP.0, TCP.1));
    let subnets: Vec<&str> = families.iter().map(|family| family.subnet()).collect();
    let flows = setup.flows;
    let config = format!(
        "[tables]\nflows = {flows}\n[[network]]\nname = \"default\"\nsubnets = \
         {subnets:?}\nbridge = \"{BRIDGE}\"\nmax_flows = {flows}\n\
         [[container]]\nname = \"{}\"\npublish = {specs:?}\n[[container]]\nname = \"{}\"\n",
        names[0], names[1]
    );
    let path = lab.folder("config").join("causeway.toml");
    fs::write(&path, config)?;
    lab.undo().containers.extend(names.clone());
    lab.try_start_agent(&[&["--config", &path.display().to_string()], arguments].concat())?;
    let place = |name: &String| {
        let output = lab.try_causeway(&["container", "inspect", name, "--json"])?;
        ensure!(output.status == Some(0), "{}", output.stderr.trim_end());
        let endpoint = &output.json()["endpoints"][0];
        let text = |key: &str| {
            endpoint[key].as_str().with_context(|| format!("an endpoint has its {key}"))
        };
        let addresses = endpoint["addresses"].as_array().context("an endpoint has addresses")?;
        let addresses = addresses
            .iter()
            .filter_map(|address| address.as_str()?.split('/').next()?.parse().ok());
        Place::open(&lab.host, name, addresses.collect(), text("interface")?, text("host_side")?)
    };
    Ok([place(&names[0])?, place(&names[1])?])
}

/// As articles on container networking do it.
fn by_hand(lab: &Lab) -> anyhow::Result<[Place; 2]> {
    sysctl::set(&lab.host, "ipv4/ip_forward", "1")?;
    sysctl::set(&lab.host, "ipv6/conf/all/forwarding", "1")?;
    tell(&lab.host, &["link", "add", BRIDGE, "type", "bridge"])?;
    for family in Family::ALL {
        tell(&lab.host, &["address", "add", &in_subnet(family.gateway())?, "dev", BRIDGE])?;
    }
    tell(&lab.host, &["link", "set", BRIDGE, "up"])?;
    let container = |number: u8| {
        let name = lab.name_of(&format!("c{}", number + 1));
        let netns = Netns::create(&name)?;
        lab.undo().namespaces.push(name.clone());
        // Usable at once.
        sysctl::set(&netns, "ipv6/conf/default/accept_dad", "0")?;
        let host_side = format!("h{}", number + 1);
        place::block_on(async {
            Netlink::open(&lab.host).await?.create_veth_between(&host_side, "eth0", &netns).await
        })?;
        tell(&lab.host, &["link", "set", &host_side, "master", BRIDGE])?;
        let addresses = Family::ALL.map(|family| address_of(family, number));
        for address in addresses {
            tell(&netns, &["address", "add", &in_subnet(address)?, "dev", "eth0"])?;
            let gateway = Family::of(address).gateway();
            tell(&netns, &["route", "add", "default", "via", &gateway.to_string()])?;
        }
        Place::open(&lab.host, &name, addresses.into(), "eth0", &host_side)
    };
    Ok([container(0)?, container(1)?])
}

/// An address with the prefix length of the containers' network.
fn in_subnet(address: IpAddr) -> anyhow::Result<String> {
    let subnet: IpNet = Family::of(address).subnet().parse()?;
    Ok(format!("{address}/{}", subnet.prefix_len()))
}

/// Runs `ip` in a namespace.
fn tell(netns: &Netns, arguments: &[&str]) -> anyhow::Result<()> {
    run(netns, Command::new("ip").args(arguments))
}

/// Runs a program in a namespace.
fn run(netns: &Netns, command: &mut Command) -> anyhow::Result<()> {
    let output = place::run(netns, || command.output())
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}

/// Runs a program in a namespace with `text` on stdin.
fn feed(netns: &Netns, program: &[&str], text: &str) -> anyhow::Result<()> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = place::run(netns, || command.spawn());
    let mut child = child.with_context(|| format!("cannot run {}", program[0]))?;
    // A program that stopped reading prints the reason.
    let _ = child.stdin.take().context("its stdin is a pipe")?.write_all(text.as_bytes());
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said
        .lines()
        .find(|line| line.contains("rror"))
        .or_else(|| said.lines().next())
        .unwrap_or("no reason");
    bail!("{} refuses its rules: {}", program[0], line.chars().take(200).collect::<String>())
}

fn interface(netns: &Netns, name: &str) -> anyhow::Result<Interface> {
    let link = place::block_on(async { Netlink::open(netns).await?.link(name).await })?;
    let link = link
        .with_context(|| format!("there is no interface {name} in {}", netns.path().display()))?;
    Ok(Interface {
        index: link.index,
        name: name.to_owned(),
        mac: link.mac.context("it has a MAC")?,
    })
}
