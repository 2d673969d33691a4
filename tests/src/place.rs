//! Work in a network namespace. A socket keeps the namespace it was created in, so that only its
//! creation needs a thread there.

use std::{
    future::Future,
    net::IpAddr,
    process::{Child, Command},
};

use anyhow::Context as _;
use causeway_netlink::{Netlink, Netns};
use ipnet::IpNet;

/// Spawns a command in `netns`.
pub fn start(netns: &Netns, command: &mut Command) -> Child {
    let started = run(netns, || command.spawn());
    started.unwrap_or_else(|error| {
        panic!("cannot start {command:?} in {}: {error}", netns.path().display())
    })
}

/// Runs a command in `netns`, and returns its output. `None` if the program is not installed.
pub fn output(netns: &Netns, command: &mut Command) -> Option<String> {
    match run(netns, || command.output()) {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{command:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("cannot run {command:?} in {}: {error}", netns.path().display()),
    }
}

/// Runs `ip ARGUMENTS` (package iproute2) in `netns`, which must succeed.
#[track_caller]
pub fn ip(netns: &Netns, arguments: &str) -> String {
    let output = output(netns, Command::new("ip").args(arguments.split(' ')));
    output.expect("the lab needs 'ip' (the package iproute2)")
}

/// Adds an address to an interface of `netns`.
#[track_caller]
pub fn add_address(netns: &Netns, interface: &str, address: IpAddr, prefix: u8) {
    let added = block_on(async {
        let netlink = Netlink::open(netns).await?;
        let index = netlink.link(interface).await?.context("there is no such interface")?.index;
        netlink.add_address(index, IpNet::new(address, prefix)?).await
    });
    added.unwrap_or_else(|error| panic!("{interface}: {error:#}"));
}

/// Adds a route through a gateway.
#[track_caller]
pub fn add_route(netns: &Netns, destination: &str, gateway: IpAddr) {
    ip(netns, &format!("route add {destination} via {gateway}"));
}

/// Runs `work` in `netns`, on a new thread.
pub fn run<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> T {
    netns.run(work).expect("the namespace is open, and root may enter it")
}

/// Runs asynchronous work on the calling thread.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs no more than memory");
    runtime.block_on(work)
}
