//! A host of its own for each contender, with two containers and the world outside.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, bail, ensure};
use causeway::net::{
    mac::Mac,
    netlink::Netlink,
    netns::{self, Netns},
    sysctl,
};
use causeway_tests::{
    lab::{Lab, UPLINK, WORLD_SIDE},
    place,
    undo::{self, Undo},
    verb,
};

use crate::{
    address::{GATEWAY, HOST, ROUTER},
    contender::{Contender, Publishes, TCP},
};

/// The bridge of the containers.
pub const BRIDGE: &str = "cw0";

/// What exists and is to go, whatever ends the benchmark.
static MADE: Mutex<Vec<Arc<Mutex<Undo>>>> = Mutex::new(Vec::new());

/// A host, its two containers and the world.
#[derive(Debug)]
pub struct Rig {
    /// What works on it.
    pub contender: Contender,
    /// The namespaces.
    pub lab: Lab,
    /// The published one, and its neighbour.
    pub containers: [Place; 2],
    /// The uplink.
    pub uplink: Interface,
    /// The uplink's other end.
    pub world_side: Interface,
    /// The bridge's.
    pub gateway_mac: Mac,
}

/// A container.
#[derive(Debug)]
pub struct Place {
    /// Its namespace.
    pub netns: Netns,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its own interface's MAC.
    pub mac: Mac,
    /// Its own interface.
    pub interface: String,
    /// The interface on the host that leads to it.
    pub host_side: Interface,
}

/// An interface of the host.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
}

impl Rig {
    /// Makes one, with room for so many flows where that has to be said.
    pub fn build(contender: Contender, publishes: Publishes, flows: u32, number: u32) -> anyhow::Result<Self> {
        let lab = Lab::for_people(&undo::unique_name(number), false)?;
        MADE.lock().unwrap_or_else(PoisonError::into_inner).push(lab.shared_undo());
        for (key, value) in [
            ("ipv6/conf/all/disable_ipv6", "1"),
            ("ipv6/conf/default/disable_ipv6", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            // Bridged packets are nothing to the rules. (Docker sets it to 1, at a price.)
            ("bridge/bridge-nf-call-iptables", "0"),
        ] {
            sysctl::set(&lab.host, key, value)?;
        }
        let made = match contender {
            Contender::Causeway => causeway(&lab, publishes, flows, "off")?,
            Contender::CausewayXdp => causeway(&lab, publishes, flows, "on")?,
            Contender::Floor
            | Contender::Redirect
            | Contender::Plain
            | Contender::IptablesLegacy
            | Contender::IptablesNft
            | Contender::NftMap
            | Contender::NftFlowtable => by_hand(&lab)?,
        };
        let [c1, c2] = made;
        if let Some(program) = contender.rules_program() {
            feed(&lab.host, program, &contender.rules(publishes)).with_context(|| contender.refused())?;
            // In this kernel's words: the receiver's checksum is the network card's work, as it is on real machines.
            sysctl::set(&lab.host, "netfilter/nf_conntrack_checksum", "0")?;
        }
        let uplink = interface(&lab.host, UPLINK)?;
        let world_side = interface(&lab.world, WORLD_SIDE)?;
        let gateway_mac = interface(&lab.host, BRIDGE)?.mac;
        // For what is not translated.
        tell(&lab.world, &["route", "add", "172.18.0.0/16", "via", &HOST.to_string()])?;
        let rig = Self { contender, lab, containers: [c1, c2], uplink, world_side, gateway_mac };
        rig.meet()?;
        Ok(rig)
    }

    /// Lets neighbours know each other, so that no frame waits for an answer.
    fn meet(&self) -> anyhow::Result<()> {
        let [c1, c2] = &self.containers;
        let patience = std::time::Duration::from_secs(5);
        for (from, to) in [(&c1.netns, c2.address), (&c2.netns, c1.address), (&c1.netns, GATEWAY), (&c2.netns, GATEWAY)]
        {
            causeway_tests::ping::try_ping(from, to, 0x5000, 56, patience)
                .map_err(|error| anyhow::anyhow!("{}: {to} does not answer: {error}", self.contender))?;
        }
        causeway_tests::ping::try_ping(&self.lab.host, ROUTER, 0x5000, 56, patience)
            .map_err(|error| anyhow::anyhow!("{}: the world does not answer: {error}", self.contender))
    }

    /// Lets the uplink receive as a network card does, or not: without, nothing that was sent by XDP arrives.
    pub fn receive_by_napi(&self, on: bool) -> anyhow::Result<()> {
        let state = if on { "on" } else { "off" };
        run(&self.lab.host, Command::new("ethtool").args(["--offload", UPLINK, "gro", state]))
    }

    /// Forgets every flow.
    pub fn forget_flows(&self) -> anyhow::Result<()> {
        match self.contender {
            Contender::Floor | Contender::Redirect | Contender::Plain => Ok(()),
            Contender::Causeway | Contender::CausewayXdp => {
                let output = self.lab.causeway(&["flows", "flush"]);
                ensure!(output.status == Some(0), "{}", output.stderr.trim_end());
                Ok(())
            }
            Contender::IptablesLegacy | Contender::IptablesNft | Contender::NftMap | Contender::NftFlowtable => {
                place::run(&self.lab.host, crate::conntrack::flush)
            }
        }
    }
}

impl Place {
    fn open(host: &Netns, name: &str, address: Ipv4Addr, own: &str, host_side: &str) -> anyhow::Result<Self> {
        let netns = Netns::open(&netns::named(name))?;
        let mac = interface(&netns, own)?.mac;
        Ok(Self { address, mac, interface: own.to_owned(), host_side: interface(host, host_side)?, netns })
    }
}

/// Removes what there is of every rig; answers what did not go.
pub fn undo_all() -> Vec<String> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.drain(..).flat_map(|undo| undo.lock().unwrap_or_else(PoisonError::into_inner).all()).collect()
}

fn causeway(lab: &Lab, publishes: Publishes, flows: u32, xdp: &str) -> anyhow::Result<[Place; 2]> {
    let names = ["c1", "c2"].map(|short| lab.name_of(short));
    let mut specs = publishes.specs();
    specs.push(format!("{}:{}/tcp", TCP.0, TCP.1));
    let config = format!(
        "[tables]\nflows = {flows}\n[[network]]\nname = \"default\"\nsubnets = [\"172.18.0.0/16\"]\nbridge = \"{BRIDGE}\"\nmax_flows = {flows}\n\
         [[container]]\nname = \"{}\"\npublish = {specs:?}\n[[container]]\nname = \"{}\"\n",
        names[0], names[1]
    );
    let path = lab.folder("config").join("causeway.toml");
    fs::write(&path, config)?;
    lab.undo().containers.extend(names.clone());
    lab.try_start_agent(&["--config", &path.display().to_string(), "--xdp", xdp])?;
    let place = |name: &String| {
        let output = verb::run_command(&mut verb::command(
            &verb::binary(),
            &lab.instance,
            &["container", "inspect", name, "--json"],
        ))?;
        ensure!(output.status == Some(0), "{}", output.stderr.trim_end());
        let endpoint = &output.json()["endpoints"][0];
        let text = |key: &str| endpoint[key].as_str().with_context(|| format!("an endpoint has its {key}"));
        let address = endpoint["addresses"][0].as_str().context("an endpoint has an address")?;
        let address = address.split('/').next().unwrap_or_default().parse()?;
        Place::open(&lab.host, name, address, text("interface")?, text("host_side")?)
    };
    Ok([place(&names[0])?, place(&names[1])?])
}

/// As the articles on container networking do it.
fn by_hand(lab: &Lab) -> anyhow::Result<[Place; 2]> {
    sysctl::set(&lab.host, "ipv4/ip_forward", "1")?;
    tell(&lab.host, &["link", "add", BRIDGE, "type", "bridge"])?;
    tell(&lab.host, &["address", "add", &format!("{GATEWAY}/16"), "dev", BRIDGE])?;
    tell(&lab.host, &["link", "set", BRIDGE, "up"])?;
    let container = |number: u8| {
        let name = lab.name_of(&format!("c{number}"));
        let netns = Netns::create(&name)?;
        lab.undo().namespaces.push(name.clone());
        let address = Ipv4Addr::new(172, 18, 0, number + 1);
        let host_side = format!("h{number}");
        place::block_on(async {
            Netlink::open(&lab.host).await?.create_veth_between(&host_side, "eth0", &netns).await
        })?;
        tell(&lab.host, &["link", "set", &host_side, "master", BRIDGE])?;
        tell(&netns, &["address", "add", &format!("{address}/16"), "dev", "eth0"])?;
        tell(&netns, &["route", "add", "default", "via", &GATEWAY.to_string()])?;
        Place::open(&lab.host, &name, address, "eth0", &host_side)
    };
    Ok([container(1)?, container(2)?])
}

/// Runs `ip` in a namespace.
fn tell(netns: &Netns, arguments: &[&str]) -> anyhow::Result<()> {
    run(netns, Command::new("ip").args(arguments))
}

/// Runs a program in a namespace.
fn run(netns: &Netns, command: &mut Command) -> anyhow::Result<()> {
    let output = place::run(netns, || command.output()).with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(())
}

/// Runs a program in a namespace that reads `text`.
fn feed(netns: &Netns, program: &[&str], text: &str) -> anyhow::Result<()> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = place::run(netns, || command.spawn());
    let mut child = child.with_context(|| format!("cannot run {}", program[0]))?;
    // A program that stopped reading says why.
    let _ = child.stdin.take().context("its stdin is a pipe")?.write_all(text.as_bytes());
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find(|line| line.contains("rror")).or_else(|| said.lines().next()).unwrap_or("no reason");
    bail!("{} refuses its rules: {}", program[0], line.chars().take(200).collect::<String>())
}

fn interface(netns: &Netns, name: &str) -> anyhow::Result<Interface> {
    let link = place::block_on(async { Netlink::open(netns).await?.link(name).await })?;
    let link = link.with_context(|| format!("there is no interface {name} in {}", netns.path().display()))?;
    Ok(Interface { index: link.index, name: name.to_owned(), mac: link.mac.context("it has a MAC")? })
}
