//! The servers of published containers.

use std::net::TcpStream;

use causeway_tests::{lab::Container, tcp, udp};

/// TCP and UDP servers at one port of a container. The UDP tag is the name of the container.
pub(crate) struct Server {
    pub(crate) tcp: tcp::Echo,
    pub(crate) udp: udp::Echo,
}

impl Server {
    pub(crate) fn start(container: &Container, port: u16) -> Self {
        Self {
            tcp: tcp::Echo::start(&container.netns, container.at(port)),
            udp: udp::Echo::start(&container.netns, container.at(port), &container.name),
        }
    }

    /// Whether a connection has reached this server.
    pub(crate) fn has(&self, stream: &TcpStream) -> bool {
        self.tcp.peers().contains(&stream.local_addr().unwrap())
    }
}
