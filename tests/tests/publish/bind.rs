//! A port is either published or bound by a process of the host.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::AsRawFd as _,
};

use causeway_netlink::Netns;
use causeway_tests::{
    family::{V4, V6, by_ipv6},
    lab::{GATEWAY, HOST, Lab},
    place, tcp, udp,
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn6, SockaddrStorage, bind, setsockopt, socket,
        sockopt::{Ipv6V6Only, ReuseAddr, ReusePort},
    },
};

const ANY: IpAddr = V4.any();
const LOOPBACK: IpAddr = V4.loopback();

/// Binds without options, as most programs do.
fn try_bind(netns: &Netns, protocol: &str, address: SocketAddr) -> io::Result<()> {
    place::run(netns, || match protocol {
        "tcp" => TcpListener::bind(address).map(drop),
        _ => UdpSocket::bind(address).map(drop),
    })
}

#[track_caller]
fn is_in_use(result: io::Result<()>) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::EADDRINUSE as i32));
}

#[test]
fn published_port_cannot_be_bound() {
    let lab = Lab::new();
    let c1 = lab.container(
        "c1",
        &[
            "-p",
            "8080:80",
            "-p",
            "8080:80/udp",
            "-p",
            "8081:81",
            "-p",
            "127.0.0.1:8082:82",
            "-p",
            "6000-6010:70-80/udp",
        ],
    );
    let (all, own) = (V6.any(), V6.loopback());
    let rows = [
        ("tcp", ANY, 8080, true),
        ("tcp", LOOPBACK, 8080, true),
        ("tcp", HOST, 8080, true),
        ("tcp", GATEWAY, 8080, true),
        ("tcp", by_ipv6(HOST), 8080, true),
        ("tcp", by_ipv6(ANY), 8080, true),
        ("tcp", all, 8080, true),
        // The publish also serves IPv6 clients.
        ("tcp", own, 8080, true),
        ("tcp", V6.host(), 8080, true),
        ("tcp", own, 8082, false),
        ("udp", ANY, 8080, true),
        ("udp", HOST, 8080, true),
        ("udp", by_ipv6(LOOPBACK), 8080, true),
        ("udp", all, 8080, true),
        ("udp", [239, 1, 2, 3].into(), 8080, false),
        ("tcp", ANY, 8081, true),
        ("udp", ANY, 8081, false),
        ("tcp", ANY, 8082, true),
        ("tcp", all, 8082, true),
        ("tcp", LOOPBACK, 8082, true),
        ("tcp", by_ipv6(LOOPBACK), 8082, true),
        ("tcp", HOST, 8082, false),
        ("tcp", by_ipv6(HOST), 8082, false),
        ("udp", ANY, 6000, true),
        ("udp", ANY, 6010, true),
        ("udp", ANY, 6011, false),
        ("tcp", ANY, 6000, false),
        ("tcp", ANY, 70, false),
        ("tcp", ANY, 0, false),
        ("udp", all, 0, false),
    ];
    for (protocol, address, port, refused) in rows {
        let result = try_bind(&lab.host, protocol, SocketAddr::new(address, port));
        let is_refused =
            matches!(&result, Err(error) if error.raw_os_error() == Some(Errno::EADDRINUSE as i32));
        assert!(
            is_refused == refused && is_refused == result.is_err(),
            "{protocol} {address} {port}: {result:?}"
        );
        // Sockets of other namespaces are not affected.
        for netns in [&lab.world, &c1.netns] {
            if !address.is_unspecified() && !address.is_loopback() {
                continue;
            }
            try_bind(netns, protocol, SocketAddr::new(address, port)).unwrap();
        }
    }
    // A port that is free again can be bound.
    lab.json(&["publish", "rm", &c1.name, "8080:80"]);
    try_bind(&lab.host, "tcp", (ANY, 8080).into()).unwrap();
    is_in_use(try_bind(&lab.host, "udp", (ANY, 8080).into()));
}

#[test]
fn reuse_options_do_not_share_a_publish() {
    let lab = Lab::new();
    lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    for kind in [SockType::Stream, SockType::Datagram] {
        place::run(&lab.host, || {
            let sharing = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
            setsockopt(&sharing, ReuseAddr, &true).unwrap();
            setsockopt(&sharing, ReusePort, &true).unwrap();
            let address = SockaddrStorage::from(SocketAddr::from((ANY, 8080)));
            assert_eq!(bind(sharing.as_raw_fd(), &address), Err(Errno::EADDRINUSE));
        });
    }
}

#[test]
fn v6only_socket_binds_port_of_ipv4_publish() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "10.0.2.15:8080:80", "-p", "10.0.2.15:8080:80/udp"]);
    let refuses = |only: bool, kind| {
        place::run(&lab.host, || {
            let six = socket(AddressFamily::Inet6, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
            setsockopt(&six, Ipv6V6Only, &only).unwrap();
            let address =
                SockaddrIn6::from(std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 8080, 0, 0));
            bind(six.as_raw_fd(), &address) == Err(Errno::EADDRINUSE)
        })
    };
    for kind in [SockType::Stream, SockType::Datagram] {
        assert_eq!(
            [true, false].map(|only| refuses(only, kind)),
            [false, true],
            "{kind:?}: only, and IPv4 too"
        );
    }
    // A publish without host address serves IPv6 clients too, although the container has IPv4 only.
    for (protocol, kind) in [("tcp", SockType::Stream), ("udp", SockType::Datagram)] {
        lab.json(&["publish", "rm", &c1.name, &format!("10.0.2.15:8080:80/{protocol}")]);
        lab.json(&["publish", "add", &c1.name, &format!("8080:80/{protocol}")]);
        assert!(refuses(true, kind), "{protocol}");
    }
}

#[test]
fn refusal_outlives_agent_until_allowed() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let bind = || try_bind(&lab.host, "tcp", (ANY, 8080).into());
    is_in_use(bind());
    lab.kill_agent();
    is_in_use(bind());
    lab.start_agent(&["--allow-bind"]);
    bind().unwrap();
    lab.end_agent();
    lab.start_agent(&[]);
    is_in_use(bind());
    lab.end_agent();
    let path = lab.folder("config").join("lab.toml");
    fs::write(&path, "allow_bind = true\n").unwrap();
    lab.start_agent(&["--config", &path.display().to_string()]);
    bind().unwrap();
    let _echo = tcp::Echo::start(&c1.netns, c1.at(80));
    tcp::exchange(&lab.world, (HOST, 8080));
}

#[test]
fn bound_port_is_published_only_if_allowed() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let listening = [
        tcp::listen(&lab.host, (ANY, 9000)),
        tcp::listen(&lab.host, (LOOPBACK, 9001)),
        tcp::listen(&lab.host, (Ipv6Addr::UNSPECIFIED, 9002)),
    ];
    let (_bound, _six) =
        (udp::bind(&lab.host, (HOST, 9003)), udp::bind(&lab.host, (Ipv6Addr::UNSPECIFIED, 9004)));
    let busy = [
        "9000:80",
        "10.0.2.15:9000:80",
        "8990-9010:90-110",
        "9001:80",
        "127.0.0.1:9001:80",
        "9002:80",
        "9003:80/udp",
        "9004:80/udp",
    ];
    for publish in busy {
        for arguments in [
            ["publish", "add", &c1.name, publish].to_vec(),
            ["container", "create", "x", "-p", publish].to_vec(),
        ] {
            let output = lab.causeway(&arguments);
            assert_eq!((output.status, output.stderr.lines().count()), (Some(1), 1), "{output}");
            for word in ["a process of the host has port 900", "--allow-bind"] {
                assert!(output.stderr.contains(word), "{output}");
            }
        }
    }
    for free in ["10.0.2.15:9001:80", "9000:80/udp", "9003:80"] {
        lab.json(&["publish", "add", &c1.name, free]);
    }
    // Outgoing connections of the host do not occupy a port.
    let _world = tcp::Echo::start(&lab.world, (causeway_tests::lab::FAR, 7));
    let stream = tcp::exchange(&lab.host, (causeway_tests::lab::FAR, 7));
    drop(listening);
    lab.json(&["publish", "add", &c1.name, "9000:80"]);
    drop(stream);

    lab.end_agent();
    lab.start_agent(&["--allow-bind"]);
    lab.json(&["publish", "add", &c1.name, "10.0.2.15:9003:80/udp"]);
    let _echo = udp::Echo::start(&c1.netns, c1.at(80), "c1");
    assert_eq!(udp::answer(&udp::client(&lab.host, V4), (HOST, 9003)), "c1");
}
