//! A host, the world outside it, and what the agent makes of them.
//!
//! ```text
//!   world                        host                         containers
//!   lo       203.0.113.10        (ip_forward 0 at first)
//!   world0   10.0.2.2/24 ─veth─ uplink0 10.0.2.15/24
//!   no route to 172.18.0.0/16    default via 10.0.2.2         as the agent makes them
//! ```
//!
//! All of it has IPv6 addresses too: those of [`Family`]. Nothing of the lab's own is looked for by
//! duplicate address detection, so that everything can be used at once.
//!
//! What lies behind the world, where a test needs more of it, is made by [`crate::wide`].

use std::{
    fmt, fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use causeway_netlink::{Netlink, Netns, netns, sysctl};
use serde_json::Value;

use crate::{
    agent::Agent,
    family::{Family, V4, V6},
    place,
    undo::{self, Undo},
    verb::{self, Output},
    wait,
};

/// The host's address on the uplink.
pub const HOST: IpAddr = V4.host();
/// The world's address on the uplink's other end: the host's router.
pub const ROUTER: IpAddr = V4.router();
/// An address of the rest of the world.
pub const FAR: IpAddr = V4.far();
/// The default network's gateway.
pub const GATEWAY: IpAddr = V4.gateway();
/// The uplink.
pub const UPLINK: &str = "uplink0";
/// The uplink's other end.
pub const WORLD_SIDE: &str = "world0";

/// The namespaces and, once started, the agent. Dropping it removes them, and fails the test if
/// anything is left.
#[derive(Debug)]
pub struct Lab {
    /// The instance's name.
    pub instance: String,
    /// What its containers are for: their network, where a test names none, has it, and their
    /// [`Container::address`] is of it.
    pub family: Family,
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
    /// On its first network, of the lab's family if it has that.
    pub address: IpAddr,
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

    /// The same for a family.
    pub fn of(family: Family) -> Self {
        Self::new().of_family(family)
    }

    /// Itself, for a family.
    #[must_use]
    pub fn of_family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// The namespaces alone.
    pub fn without_agent() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        undo::sweep();
        let name = undo::unique_name(NUMBER.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("{name}-");
        Self::make(name, prefix, false)
            .unwrap_or_else(|error| panic!("cannot make a lab: {error:#}"))
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
        let undo = Arc::new(Mutex::new(undo));
        Ok(Self {
            instance,
            family: V4,
            world,
            host,
            container_prefix,
            keep,
            for_people: false,
            undo,
        })
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
            let log = fs::read_to_string(undo::folder(&self.instance).join("agent.log"))
                .unwrap_or_default();
            panic!("{error:#}; the agent's log:\n{log}")
        });
    }

    /// As [`Self::start_agent`].
    pub fn try_start_agent(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut undo = self.undo();
        undo.used = true;
        let host = self.host_name();
        let started = Agent::start(
            &undo.program,
            &self.instance,
            &[&["--netns", &host], arguments].concat(),
            self.keep,
        );
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
        assert!(
            agent.wait().is_some_and(|status| status.success()),
            "the agent did not end well; {}",
            agent.log()
        );
        self.undo().used = false;
    }

    /// The host's namespace by name.
    pub fn host_name(&self) -> String {
        format!("{}-host", self.instance)
    }

    /// Runs a verb.
    #[track_caller]
    pub fn causeway(&self, arguments: &[&str]) -> Output {
        self.try_causeway(arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// As [`Self::causeway`].
    pub fn try_causeway(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let program = self.undo().program.clone();
        verb::run_command(&mut verb::command(&program, &self.instance, arguments))
    }

    /// Runs a verb, which must succeed, with `--json`.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.causeway(&[arguments, &["--json"]].concat()).ok().json()
    }

    /// How often packets went that way for that reason, since the agent came.
    #[track_caller]
    pub fn counted(&self, reason: &str) -> u64 {
        self.json(&["stats"])["reasons"][reason].as_u64().unwrap_or(0)
    }

    /// Waits until `total` packets have been counted for that reason, and fails if there are more:
    /// on a busy machine a sent packet may still be in a queue of the kernel.
    #[track_caller]
    pub fn expect_counted(&self, reason: &str, total: u64) {
        let counted = wait::until(&format!("{total} packets are counted as '{reason}'"), || {
            Some(self.counted(reason)).filter(|counted| *counted >= total)
        });
        assert_eq!(counted, total, "{reason}: {}", self.json(&["stats"]));
    }

    /// The name of this lab's container that a test calls `short`.
    pub fn name_of(&self, short: &str) -> String {
        format!("{}{short}", self.container_prefix)
    }

    /// Makes the network where containers are if nobody says otherwise, if it is not there.
    pub fn make_network(&self) -> anyhow::Result<()> {
        if self.family == V4
            || self.causeway(&["network", "inspect", self.family.network()]).status == Some(0)
        {
            return Ok(());
        }
        let network = [
            "network",
            "create",
            V6.network(),
            "--subnet",
            "172.27.0.0/16",
            "--subnet",
            V6.subnet(),
        ];
        let output = self.causeway(&network);
        anyhow::ensure!(output.status == Some(0), "{}", output.stderr.trim_end());
        Ok(())
    }

    /// Makes a network, with more arguments for `network create`. Its subnets are those of
    /// [`Family::subnet_of`] that number: IPv4's, and if the lab is for IPv6 that one's beside it.
    #[track_caller]
    pub fn network(&self, name: &str, number: u8, arguments: &[&str]) -> Value {
        let subnets: Vec<String> = Family::ALL
            .into_iter()
            .filter(|family| *family <= self.family)
            .map(|family| format!("--subnet={}", family.subnet_of(number)))
            .collect();
        let subnets: Vec<&str> = subnets.iter().map(String::as_str).collect();
        self.json(&[&["network", "create", name], &subnets[..], arguments].concat())
    }

    /// Makes a container, with more arguments for `container create`.
    #[track_caller]
    pub fn container(&self, short: &str, arguments: &[&str]) -> Container {
        self.try_container(short, arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// As [`Self::container`].
    pub fn try_container(&self, short: &str, arguments: &[&str]) -> anyhow::Result<Container> {
        let name = self.name_of(short);
        let network: &[_] = if self.family == V4 || arguments.contains(&"--network") {
            &[]
        } else {
            self.make_network()?;
            &["--network", self.family.network()]
        };
        let output = self
            .causeway(&[&["container", "create", &name, "--json"], network, arguments].concat());
        anyhow::ensure!(output.status == Some(0), "{}", output.stderr.trim_end());
        self.undo().containers.push(name.clone());
        let made = output.json();
        let mut families = [self.family].into_iter().chain(Family::ALL);
        let address = families
            .find_map(|family| address_in(&made, family))
            .context("a container has an address")?;
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
            let stats =
                verb::run_command(&mut verb::command(&verb::binary(), &self.instance, &["stats"]));
            eprintln!(
                "{}: {}",
                self.instance,
                stats.map_or_else(|error| error.to_string(), |output| output.to_string())
            );
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
    /// Its address of a family on its first network.
    #[track_caller]
    pub fn address_of(&self, family: Family) -> IpAddr {
        address_in(&self.made, family)
            .unwrap_or_else(|| panic!("{self} has no address of {family}"))
    }

    /// Itself, for a family.
    #[must_use]
    #[track_caller]
    pub fn of(self, family: Family) -> Self {
        Self { address: self.address_of(family), ..self }
    }

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

/// The address of a family in what `container create` printed.
fn address_in(made: &Value, family: Family) -> Option<IpAddr> {
    let all = made["endpoints"][0]["addresses"].as_array()?;
    let plain = |address: &Value| address.as_str()?.split('/').next()?.parse().ok();
    all.iter().filter_map(plain).find(|address| Family::of(*address) == family)
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
        // A new namespace inherits it from the machine's. The agent has to set it where it needs
        // it.
        sysctl::set(netns, "ipv4/ip_forward", "0")?;
        sysctl::set(netns, "ipv6/conf/default/accept_dad", "0")?;
    }
    speak_freely(&world)?;
    place::block_on(async {
        let (outside, inside) = (Netlink::open(&world).await?, Netlink::open(&host).await?);
        let uplink = inside.create_veth_between(UPLINK, WORLD_SIDE, &world).await?;
        let world_side =
            outside.link(WORLD_SIDE).await?.context("the uplink has another end")?.index;
        let loopback = outside.link("lo").await?.context("every namespace has lo")?.index;
        for (family, prefix, far_prefix) in [(V4, 24, 24), (V6, 64, 128)] {
            outside.add_address(world_side, ipnet::IpNet::new(family.router(), prefix)?).await?;
            outside.add_address(loopback, ipnet::IpNet::new(family.far(), far_prefix)?).await?;
            inside.add_address(uplink, ipnet::IpNet::new(family.host(), prefix)?).await?;
            inside.add_default_route(family.router(), uplink).await?;
        }
        anyhow::Ok(())
    })?;
    for (netns, address) in [(&world, V6.router()), (&world, V6.far()), (&host, V6.host())] {
        wait::until("a lab's IPv6 address is in use", || is_routed(netns, address).then_some(()));
    }
    Ok((world, host))
}

/// Whether an address of a namespace has its route: the kernel adds IPv6's a moment after the
/// address, so that what is compared with later would lack it.
fn is_routed(netns: &Netns, address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return true };
    let route = format!("{:032x} 80 ", address.to_bits());
    let routes = place::run(netns, || fs::read_to_string("/proc/thread-self/net/ipv6_route"))
        .unwrap_or_default();
    // Destination, and the length of its prefix.
    routes.lines().any(|line| line.starts_with(&route))
}

/// Takes away a namespace's limit of ICMP errors: tests ask more often than Linux likes to answer
/// one peer.
pub fn speak_freely(netns: &Netns) -> anyhow::Result<()> {
    sysctl::set(netns, "ipv4/icmp_ratelimit", "0")?;
    sysctl::set(netns, "ipv6/icmp/ratelimit", "0")?;
    Ok(())
}
