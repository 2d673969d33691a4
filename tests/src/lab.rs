//! A lab: a host, the world outside it, and the agent that connects containers.
//!
//! ```text
//!   world                        host                         containers
//!   lo       203.0.113.10        (ip_forward 0 at first)
//!   world0   10.0.2.2/24 ─veth─ uplink0 10.0.2.15/24
//!   no route to 172.18.0.0/16    default via 10.0.2.2         as the agent makes them
//! ```
//!
//! Every IPv4 address has an IPv6 one beside it ([`Family`]). Duplicate address detection is off,
//! so that addresses are usable at once.
//!
//! [`crate::wide`] adds hosts behind the world where a test needs them.

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

/// The namespaces and the agent. Dropping it removes everything, and fails the test if anything is
/// left.
#[derive(Debug)]
pub struct Lab {
    /// Name of the agent's instance.
    pub instance: String,
    /// Family of the tests in it: containers are put on the default network of this family, and
    /// [`Container::address`] belongs to it.
    pub family: Family,
    /// The outside namespace.
    pub world: Netns,
    /// The namespace that the agent works in.
    pub host: Netns,
    container_prefix: String,
    keep: bool,
    /// Leftovers are reported, and fail nothing: this lab is not a test's.
    for_people: bool,
    undo: Arc<Mutex<Undo>>,
}

/// A container made by the agent.
#[derive(Debug)]
pub struct Container {
    /// Name of the container and of its namespace.
    pub name: String,
    /// Namespace of the container.
    pub netns: Netns,
    /// Address on its first network: of the lab's family, else of the other.
    pub address: IpAddr,
    /// The JSON that `container create` printed.
    pub made: Value,
}

impl Lab {
    /// A lab with an agent that is ready.
    pub fn new() -> Self {
        let lab = Self::without_agent();
        lab.start_agent(&[]);
        lab
    }

    /// A lab with an agent, for tests of `family`.
    pub fn of(family: Family) -> Self {
        Self::new().of_family(family)
    }

    /// Sets the family.
    #[must_use]
    pub fn of_family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// A lab without an agent.
    pub fn without_agent() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        undo::sweep();
        let name = undo::unique_name(NUMBER.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("{name}-");
        Self::make(name, prefix, false)
            .unwrap_or_else(|error| panic!("cannot make a lab: {error:#}"))
    }

    /// A lab for `cargo xtask lab`, with names that are easy to type.
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

    /// A lab with an agent whose flow table holds `flows` flows.
    pub fn with_room(flows: u32) -> Self {
        let lab = Self::without_agent();
        let path = lab.folder("config").join("causeway.toml");
        fs::write(&path, format!("[tables]\nflows = {flows}\n")).expect("a configuration file");
        lab.start_agent(&["--config", &path.display().to_string()]);
        lab
    }

    /// Starts the agent with further arguments of `up`, and waits until it is ready.
    pub fn start_agent(&self, arguments: &[&str]) {
        self.try_start_agent(arguments).unwrap_or_else(|error| {
            let log = fs::read_to_string(undo::folder(&self.instance).join("agent.log"))
                .unwrap_or_default();
            panic!("{error:#}; the agent's log:\n{log}")
        });
    }

    /// Like [`Self::start_agent`], but returns errors.
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
            // An agent that failed to start leaves nothing, but an earlier one may have.
            undo.used = undo::is_used(&self.instance);
        }
        undo.agent = Some(started?);
        Ok(())
    }

    /// Kills the agent with SIGKILL.
    pub fn kill_agent(&self) {
        let agent = self.undo().agent.take();
        agent.expect("an agent was started").kill();
    }

    /// Ends the agent with SIGTERM, and waits until it has ended.
    pub fn end_agent(&self) {
        let agent = self.undo().agent.take();
        agent.expect("an agent was started").end();
    }

    /// Process ID of the agent.
    pub fn agent_pid(&self) -> u32 {
        self.undo().agent.as_ref().expect("an agent was started").pid()
    }

    /// Waits until the agent has ended after a `down`.
    pub fn wait_for_agent(&self) {
        let agent = self.undo().agent.take();
        let mut agent = agent.expect("an agent was started");
        assert!(
            agent.wait().is_some_and(|status| status.success()),
            "the agent failed; {}",
            agent.log()
        );
        self.undo().used = false;
    }

    /// Name of the host's namespace.
    pub fn host_name(&self) -> String {
        format!("{}-host", self.instance)
    }

    /// Runs a verb of the agent.
    #[track_caller]
    pub fn causeway(&self, arguments: &[&str]) -> Output {
        self.try_causeway(arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Like [`Self::causeway`], but returns errors.
    pub fn try_causeway(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let program = self.undo().program.clone();
        verb::run_command(&mut verb::command(&program, &self.instance, arguments))
    }

    /// Runs a verb with `--json`, which must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.causeway(&[arguments, &["--json"]].concat()).ok().json()
    }

    /// Packets counted for that reason.
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

    /// The full name of the container that a test calls `short`.
    pub fn name_of(&self, short: &str) -> String {
        format!("{}{short}", self.container_prefix)
    }

    /// Makes the default network of the lab's family if it does not exist.
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

    /// Makes a network with further arguments of `network create`. Its subnets are
    /// [`Family::subnet_of`] `number`: IPv4, and IPv6 too if the lab is for IPv6.
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

    /// Makes a container with further arguments of `container create`.
    #[track_caller]
    pub fn container(&self, short: &str, arguments: &[&str]) -> Container {
        self.try_container(short, arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Like [`Self::container`], but returns errors.
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

    /// Makes a folder that is removed with the lab.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.undo().folder.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// The list of what to undo.
    pub fn undo(&self) -> MutexGuard<'_, Undo> {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list of what to undo, for a thread that outlives the lab.
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
                "the lab {} left something:\n{}",
                self.instance,
                problems.join("\n")
            );
        }
    }
}

impl Container {
    /// Address of `family` on its first network.
    #[track_caller]
    pub fn address_of(&self, family: Family) -> IpAddr {
        address_in(&self.made, family)
            .unwrap_or_else(|| panic!("{self} has no address of {family}"))
    }

    /// The same container with its address of `family`.
    #[must_use]
    #[track_caller]
    pub fn of(self, family: Family) -> Self {
        Self { address: self.address_of(family), ..self }
    }

    /// Socket address at a port of the container.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }

    /// Name of its host side.
    pub fn host_side(&self) -> &str {
        self.made["endpoints"][0]["host_side"].as_str().expect("an endpoint has a host side")
    }

    /// Name of its container side.
    pub fn interface(&self) -> &str {
        self.made["endpoints"][0]["interface"].as_str().expect("an endpoint has an interface")
    }
}

/// The address of `family` in the JSON of `container create`.
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
        // A new namespace inherits ip_forward from the machine. The agent must set it where it
        // needs it.
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

/// Whether an address has its route. For IPv6 the kernel adds it a moment after the address, and a
/// snapshot must not miss it.
fn is_routed(netns: &Netns, address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return true };
    let route = format!("{:032x} 80 ", address.to_bits());
    let routes = place::run(netns, || fs::read_to_string("/proc/thread-self/net/ipv6_route"))
        .unwrap_or_default();
    // Destination and prefix length in hexadecimal.
    routes.lines().any(|line| line.starts_with(&route))
}

/// Removes a namespace's rate limit of ICMP errors, which tests would exceed.
pub fn speak_freely(netns: &Netns) -> anyhow::Result<()> {
    sysctl::set(netns, "ipv4/icmp_ratelimit", "0")?;
    sysctl::set(netns, "ipv6/icmp/ratelimit", "0")?;
    Ok(())
}
