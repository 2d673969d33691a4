//! A host, the world outside it, and what the agent makes of them.
//!
//! ```text
//!   world                        host                         containers
//!   lo       203.0.113.10        (ip_forward 0 at first)
//!   world0   10.0.2.2/24 ─veth─ uplink0 10.0.2.15/24
//!   no route to 172.18.0.0/16    default via 10.0.2.2         as the agent makes them
//! ```
//!
//! What lies behind the world, where a test needs more of it, is made by [`crate::wide`].

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use causeway::net::{
    netlink::Netlink,
    netns::{self, Netns},
    sysctl,
};
use serde_json::Value;

use crate::{
    agent::Agent,
    place,
    undo::{self, Undo},
    verb::{self, Output},
};

/// The host's address on the uplink.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The world's address on the uplink's other end: the host's router.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// An address of the rest of the world.
pub const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The default network's gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 1);
/// The uplink.
pub const UPLINK: &str = "uplink0";
/// The uplink's other end.
pub const WORLD_SIDE: &str = "world0";

/// The namespaces and, once started, the agent. Dropping it removes them, and fails the test if anything is left.
#[derive(Debug)]
pub struct Lab {
    /// The instance's name.
    pub instance: String,
    /// The outside.
    pub world: Netns,
    /// Where the agent works.
    pub host: Netns,
    container_prefix: String,
    keep: bool,
    /// What remains at its end is told, and is no test's failure.
    for_people: bool,
    undo: Arc<Mutex<Undo>>,
}

/// A container made by the agent.
#[derive(Debug)]
pub struct Container {
    /// As the agent knows it, and its namespace.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// On its first network.
    pub address: Ipv4Addr,
    /// What `container create` printed.
    pub made: Value,
}

impl Lab {
    /// The namespaces and an agent that is ready.
    pub fn new() -> Self {
        let lab = Self::without_agent();
        lab.start_agent(&[]);
        lab
    }

    /// The namespaces alone.
    pub fn without_agent() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        undo::sweep();
        let name = undo::unique_name(NUMBER.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("{name}-");
        Self::make(name, prefix, false).unwrap_or_else(|error| panic!("cannot make a lab: {error:#}"))
    }

    /// One for people to look at, with names that are easy to type.
    pub fn for_people(name: &str, keep: bool) -> anyhow::Result<Self> {
        let mut lab = Self::make(name.to_owned(), format!("{name}-"), keep)?;
        lab.for_people = true;
        Ok(lab)
    }

    fn make(instance: String, container_prefix: String, keep: bool) -> anyhow::Result<Self> {
        let mut undo = Undo::new(&instance)?;
        let made = make_outside(&instance, &mut undo);
        if made.is_err() {
            undo.all();
        }
        let (world, host) = made?;
        Ok(Self { instance, world, host, container_prefix, keep, for_people: false, undo: Arc::new(Mutex::new(undo)) })
    }

    /// A lab whose flow table has room for as many flows.
    pub fn with_room(flows: u32) -> Self {
        let lab = Self::without_agent();
        let path = lab.folder("config").join("causeway.toml");
        fs::write(&path, format!("[tables]\nflows = {flows}\n")).expect("a configuration file");
        lab.start_agent(&["--config", &path.display().to_string()]);
        lab
    }

    /// Starts the agent, with more arguments for `up`, and waits until it is ready.
    pub fn start_agent(&self, arguments: &[&str]) {
        self.try_start_agent(arguments).unwrap_or_else(|error| {
            let log = fs::read_to_string(undo::folder(&self.instance).join("agent.log")).unwrap_or_default();
            panic!("{error:#}; the agent's log:\n{log}")
        });
    }

    /// As [`Self::start_agent`].
    pub fn try_start_agent(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut undo = self.undo();
        undo.used = true;
        let host = self.host_name();
        let started = Agent::start(&self.instance, &[&["--netns", &host], arguments].concat(), self.keep);
        if started.is_err() {
            // One that could not begin left nothing, unless another had begun before it.
            undo.used = undo::is_used(&self.instance);
        }
        undo.agent = Some(started?);
        Ok(())
    }

    /// Ends the agent as a crash would.
    pub fn kill_agent(&self) {
        let agent = self.undo().agent.take();
        agent.expect("an agent was started").kill();
    }

    /// Ends the agent as a service manager does, and waits until it has ended.
    pub fn end_agent(&self) {
        let agent = self.undo().agent.take();
        agent.expect("an agent was started").end();
    }

    /// The agent's process.
    pub fn agent_pid(&self) -> u32 {
        self.undo().agent.as_ref().expect("an agent was started").pid()
    }

    /// Waits until the agent, having been told to, has ended.
    pub fn wait_for_agent(&self) {
        let agent = self.undo().agent.take();
        let mut agent = agent.expect("an agent was started");
        assert!(agent.wait().is_some_and(|status| status.success()), "the agent did not end well; {}", agent.log());
        self.undo().used = false;
    }

    /// The host's namespace by name.
    pub fn host_name(&self) -> String {
        format!("{}-host", self.instance)
    }

    /// Runs a verb.
    pub fn causeway(&self, arguments: &[&str]) -> Output {
        verb::run(&self.instance, arguments)
    }

    /// Runs a verb, which must succeed, with `--json`.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.causeway(&[arguments, &["--json"]].concat()).ok().json()
    }

    /// The name of this lab's container that a test calls `short`.
    pub fn name_of(&self, short: &str) -> String {
        format!("{}{short}", self.container_prefix)
    }

    /// Makes a container, with more arguments for `container create`.
    #[track_caller]
    pub fn container(&self, short: &str, arguments: &[&str]) -> Container {
        self.try_container(short, arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// As [`Self::container`].
    pub fn try_container(&self, short: &str, arguments: &[&str]) -> anyhow::Result<Container> {
        let name = self.name_of(short);
        let output = self.causeway(&[&["container", "create", &name, "--json"], arguments].concat());
        anyhow::ensure!(output.status == Some(0), "{}", output.stderr.trim_end());
        self.undo().containers.push(name.clone());
        let made = output.json();
        let address = made["endpoints"][0]["addresses"][0].as_str().context("a container has an address")?;
        let address = address.split('/').next().unwrap_or_default().parse().with_context(|| address.to_owned())?;
        Ok(Container { netns: Netns::open(&netns::named(&name))?, name, address, made })
    }

    /// A new folder that goes away with the lab.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.undo().folder.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// What is to be undone: to add to it, or to undo it from elsewhere.
    pub fn undo(&self) -> MutexGuard<'_, Undo> {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for a thread that outlives the lab.
    pub fn shared_undo(&self) -> Arc<Mutex<Undo>> {
        Arc::clone(&self.undo)
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if thread::panicking()
            && let Some(agent) = &self.undo().agent
        {
            eprintln!("{}: {}", self.instance, agent.log());
        }
        let problems = self.undo().all();
        if thread::panicking() || self.for_people {
            for problem in problems {
                eprintln!("{}: {problem}", self.instance);
            }
        } else {
            assert!(
                problems.is_empty(),
                "the lab {} did not go without a trace:\n{}",
                self.instance,
                problems.join("\n")
            );
        }
    }
}

impl Container {
    /// A socket address of it.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }

    /// The interface on the host that leads to it.
    pub fn host_side(&self) -> &str {
        self.made["endpoints"][0]["host_side"].as_str().expect("an endpoint has a host side")
    }

    /// Its own interface.
    pub fn interface(&self) -> &str {
        self.made["endpoints"][0]["interface"].as_str().expect("an endpoint has an interface")
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn make_outside(instance: &str, undo: &mut Undo) -> anyhow::Result<(Netns, Netns)> {
    let mut make = |part: &str| {
        let name = format!("{instance}-{part}");
        let netns = Netns::create(&name)?;
        undo.namespaces.push(name);
        anyhow::Ok(netns)
    };
    let (world, host) = (make("world")?, make("host")?);
    for netns in [&world, &host] {
        // A new namespace inherits it from the machine's. The agent has to set it where it needs it.
        sysctl::set(netns, "ipv4/ip_forward", "0")?;
    }
    place::block_on(async {
        let (outside, inside) = (Netlink::open(&world).await?, Netlink::open(&host).await?);
        let uplink = inside.create_veth_between(UPLINK, WORLD_SIDE, &world).await?;
        let world_side = outside.link(WORLD_SIDE).await?.context("the uplink has another end")?.index;
        let loopback = outside.link("lo").await?.context("every namespace has lo")?.index;
        outside.add_address(world_side, ipnet::IpNet::new(ROUTER.into(), 24)?).await?;
        outside.add_address(loopback, ipnet::IpNet::new(FAR.into(), 24)?).await?;
        inside.add_address(uplink, ipnet::IpNet::new(HOST.into(), 24)?).await?;
        inside.add_default_route(IpAddr::from(ROUTER), uplink).await
    })?;
    Ok((world, host))
}
