//! Probes which ports sockets of the host hold.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd as _,
};

use causeway_api::types::{
    family::Family,
    publish::{Protocol, PublishPorts},
};
use causeway_common::abi::PROBE_MARK;
use causeway_netlink::Netns;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt, socket,
        sockopt::{Ipv6V6Only, Mark, ReuseAddr},
    },
};

/// The first host port of a publish that a socket of the host holds in one of the families.
pub(in crate::control) fn taken_port(
    host: &Netns,
    spec: &PublishPorts,
    families: &[Family],
) -> anyhow::Result<Option<u16>> {
    let any = families.iter().map(|family| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    });
    let addresses: Vec<IpAddr> =
        spec.host_address.map_or_else(|| any.collect(), |address| vec![address]);
    host.run(|| {
        let mut ports = spec.host_ports.start()..=spec.host_ports.end();
        ports.find(|port| {
            addresses
                .iter()
                .any(|address| is_taken(spec.protocol, SocketAddr::new(*address, *port)))
        })
    })
}

/// Whether a bind fails because the address is in use. The probe does not listen, so clients do not
/// see it. Other failures do not count.
fn is_taken(protocol: Protocol, address: SocketAddr) -> bool {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => return false,
    };
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let Ok(probe) = socket(family, kind, SockFlag::SOCK_CLOEXEC, number) else {
        return false;
    };
    // The bind program lets the mark pass: a port that is still published while a file is checked
    // that publishes it otherwise is not held by a process. Setting the mark needs CAP_NET_ADMIN.
    let _ = setsockopt(&probe, Mark, &PROBE_MARK);
    // With SO_REUSEADDR a TCP port counts as taken by a listener, not by a connection in TIME_WAIT.
    // For UDP it would let every bind succeed.
    if protocol == Protocol::Tcp && setsockopt(&probe, ReuseAddr, &true).is_err() {
        return false;
    }
    // A dual-stack socket would find ports taken that are so in IPv4 alone.
    if address.is_ipv6() && setsockopt(&probe, Ipv6V6Only, &true).is_err() {
        return false;
    }
    bind(probe.as_raw_fd(), &SockaddrStorage::from(address)) == Err(Errno::EADDRINUSE)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_listener_takes_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_taken(Protocol::Tcp, address));
        assert!(is_taken(
            Protocol::Tcp,
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())
        ));
        assert!(!is_taken(
            Protocol::Tcp,
            SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), address.port())
        ));
        drop(listener);
        assert!(!is_taken(Protocol::Tcp, address));
    }

    #[test]
    fn a_port_is_taken_in_the_family_of_its_socket() {
        // A dual-stack socket takes both.
        for (listening, v4, v6) in
            [("0.0.0.0:0", true, false), ("[::1]:0", false, true), ("[::]:0", true, true)]
        {
            let listener = TcpListener::bind(listening).unwrap();
            let port = listener.local_addr().unwrap().port();
            let spec: PublishPorts = format!("{port}:80").parse().unwrap();
            let host = Netns::current().unwrap();
            for (families, taken) in
                [(&[Family::V4][..], v4), (&[Family::V6], v6), (&Family::ALL, v4 || v6)]
            {
                let found = taken_port(&host, &spec, families).unwrap();
                assert_eq!(found, taken.then_some(port), "{listening} {families:?}");
            }
        }
    }

    #[test]
    fn a_udp_socket_takes_its_port() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(is_taken(Protocol::Udp, address));
        drop(socket);
        assert!(!is_taken(Protocol::Udp, address));
    }
}
