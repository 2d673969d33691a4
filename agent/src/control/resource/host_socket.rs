//! Sockets of the host's processes that a publish connected with a container. They are destroyed
//! when the publish no longer leads there: their packets are rewritten at the socket, so there is
//! no flow to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use causeway_api::types::publish::{Protocol, PublishPorts};
use causeway_netlink::sock_diag::{Connected, Ended, SockDiag};
use tracing::{info, warn};

use crate::{
    control::{agent::Agent, warn_once::Warning},
    datapath::HostSocket,
    state::container::Container,
};

impl Agent {
    /// Destroys every connected TCP and UDP socket of the host whose publish no longer leads to its
    /// peer, those that an earlier agent left included. A failure is logged and does not fail the
    /// verb.
    pub(in crate::control) fn end_stray_sockets(&mut self) {
        if let Err(error) = self.try_end_stray_sockets() {
            warn!(
                error = self.instance.line(&error),
                "connections of the host's processes go on where no publish leads"
            );
        }
    }

    fn try_end_stray_sockets(&mut self) -> anyhow::Result<()> {
        let noted = self.installed.datapath.host_sockets()?;
        let strays = [Protocol::Tcp, Protocol::Udp].map(|protocol| {
            let strays = noted.iter().filter(|socket| !self.leads(protocol, socket));
            let strays: BTreeMap<_, _> =
                strays.map(|socket| ((socket.cookie, socket.container), *socket)).collect();
            (protocol, strays)
        });
        let [(_, tcp), (_, udp)] = &strays;
        if tcp.is_empty() && udp.is_empty() {
            return Ok(());
        }
        // A socket that no publish of either protocol leads to is stale, whatever its protocol.
        let mut over: BTreeSet<HostSocket> = tcp
            .iter()
            .filter(|(key, _)| udp.contains_key(key))
            .map(|(_, socket)| *socket)
            .collect();
        let diag = SockDiag::open(&self.host.handles.netns)?;
        for (protocol, strays) in strays.iter().filter(|(_, strays)| !strays.is_empty()) {
            let cookies: BTreeSet<u64> = strays.keys().map(|(cookie, _)| *cookie).collect();
            for connected in diag.connected(*protocol, &cookies)? {
                // Only if the socket still has the peer that was noted.
                if let Some(stray) = strays.get(&(connected.cookie, connected.remote)) {
                    if !self.end_socket(&diag, *protocol, &connected, stray)? {
                        return Ok(());
                    }
                    over.insert(*stray);
                }
            }
        }
        for socket in over {
            self.installed.datapath.forget_host_socket(&socket)?;
        }
        Ok(())
    }

    /// Destroys a socket. False if the kernel cannot destroy sockets.
    fn end_socket(
        &mut self,
        diag: &SockDiag,
        protocol: Protocol,
        connected: &Connected,
        stray: &HostSocket,
    ) -> anyhow::Result<bool> {
        match diag.end(connected)? {
            Some(Ended::Now) => {
                let HostSocket { meant, container, .. } = stray;
                info!(%protocol, %meant, %container, "ended a connection of the host");
            }
            Some(Ended::Before) => {}
            None => {
                if self.warned.is_due(Warning::NoSocketDestroy) {
                    warn!(
                        "this kernel cannot end sockets (it has no CONFIG_INET_DIAG_DESTROY): \
                         connections of the host's processes outlive the \
                         publishes that they were made through"
                    );
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a publish leads from the address that a socket's process asked for to the socket's
    /// peer, or did and drains.
    fn leads(&self, protocol: Protocol, socket: &HostSocket) -> bool {
        let publishes =
            self.installed.publishes.iter().filter(|(ports, _)| is_of(ports, protocol, socket));
        publishes
            .flat_map(|(ports, target)| {
                let containers = self.state.containers.values();
                let publishes = containers
                    .flat_map(|container| &container.publishes)
                    .filter(move |publish| publish.ports == *ports);
                let drains = publishes.flat_map(|publish| &publish.drains);
                let draining =
                    drains.filter_map(|drain| self.state.containers.get(&drain.container));
                draining.flat_map(Container::addresses).chain(target.addresses())
            })
            .any(|address: IpAddr| {
                address == socket.container.ip() && self.installed.endpoints.contains_key(&address)
            })
    }
}

/// Whether ports match a socket: the process asked for one of the host ports, and the peer's port
/// is the container port that it leads to.
fn is_of(ports: &PublishPorts, protocol: Protocol, socket: &HostSocket) -> bool {
    let (meant, port) = (socket.meant, socket.container.port());
    ports.protocol == protocol
        && ports.host_address.is_none_or(|address| address == meant.ip())
        && (ports.host_ports.start()..=ports.host_ports.end()).contains(&meant.port())
        && meant.port() - ports.host_ports.start()
            == port.wrapping_sub(ports.container_ports.start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_of_the_publish_that_it_meant() {
        let socket = |meant: &str, container: &str| HostSocket {
            cookie: 1,
            container: container.parse().unwrap(),
            meant: meant.parse().unwrap(),
        };
        for (publish, meant, container, expected) in [
            ("8080:80", "127.0.0.1:8080", "172.18.0.2:80", true),
            ("8080:80", "127.0.0.1:8080", "172.18.0.2:81", false),
            ("8080:80", "127.0.0.1:8081", "172.18.0.2:80", false),
            ("8080:80/udp", "127.0.0.1:8080", "172.18.0.2:80", false),
            ("10.0.2.15:8080:80", "10.0.2.15:8080", "172.18.0.2:80", true),
            ("10.0.2.15:8080:80", "127.0.0.1:8080", "172.18.0.2:80", false),
            ("8080:80", "[::1]:8080", "[fd00::2]:80", true),
            ("8080:80", "[::1]:8080", "172.18.0.2:80", true),
            ("10.0.2.15:8080:80", "[::1]:8080", "[fd00::2]:80", false),
            ("[2001:db8::1]:8080:80", "[2001:db8::1]:8080", "[fd00::2]:80", true),
            ("[2001:db8::1]:8080:80", "[::1]:8080", "[fd00::2]:80", false),
            ("6000-6010:7000-7010", "10.0.2.15:6010", "172.18.0.2:7010", true),
            ("6000-6010:7000-7010", "10.0.2.15:6010", "172.18.0.2:7009", false),
            ("6000-6010:7000-7010", "10.0.2.15:6011", "172.18.0.2:7011", false),
        ] {
            let is = is_of(&publish.parse().unwrap(), Protocol::Tcp, &socket(meant, container));
            assert_eq!(is, expected, "{publish} {meant} {container}");
        }
    }
}
