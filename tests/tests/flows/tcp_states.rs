//! TCP flows from the first SYN to the last packet, including unusual sequences.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    thread,
};

use causeway_netlink::Netns;
use causeway_tests::{
    families,
    family::Family,
    lab::Lab,
    place,
    raw::{Packet, Raw, flag},
    tcp,
    wait::{self, DEADLINE, SILENCE},
};
use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
            sockopt::{Linger, ReceiveTimeout, ReuseAddr, SendTimeout},
        },
        time::{TimeVal, TimeValLike as _},
    },
};

families! {
    blind_reset_spares_masqueraded_connection,
    blind_reset_spares_published_connection,
    valid_reset_ends_connection_and_flow,
    simultaneous_open_connects,
    port_pair_is_reused_by_next_connection,
    half_closed_connection_carries_data,
    mid_stream_segment_is_dropped,
}

fn server(family: Family) -> (IpAddr, u16) {
    (family.far(), 7)
}

/// State of the only TCP flow, and its seconds left.
fn only_flow(lab: &Lab) -> Option<(String, u64)> {
    let flows = lab.json(&["flows", "ls"]);
    let of_tcp: Vec<_> =
        flows.as_array().unwrap().iter().filter(|flow| flow["protocol"] == "tcp").collect();
    let [flow] = of_tcp[..] else { return None };
    Some((flow["state"].as_str().unwrap().to_owned(), flow["expires_in_s"].as_u64().unwrap()))
}

/// Sends resets from one end to the other, all of them outside the window.
fn reset_blindly(from: &Raw, source: (IpAddr, u16), to: (IpAddr, u16), expected: u32) {
    for step in 1..=64 {
        // Far outside any window, which has at most 2^30 bytes.
        let sequence = expected.wrapping_add(0x6000_0000).wrapping_add(step << 24);
        from.send(&Packet::tcp(source, to, flag::RST, sequence, 0));
        from.send(&Packet::tcp(source, to, flag::RST | flag::ACK, sequence, sequence));
    }
}

fn blind_reset_spares_masqueraded_connection(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let _echo = tcp::Echo::start(&lab.world, server(family));
    let raw = Raw::open(&lab.world, family, 6);
    let mut stream = tcp::exchange(&c1.netns, server(family));
    let seen = raw.wait("the container's acknowledgment", |packet| {
        (packet.ports().1 == 7 && packet.flags() & flag::ACK != 0)
            .then(|| (packet.ports().0, packet.long(8)))
    });
    reset_blindly(&raw, server(family), (family.host(), seen.0), seen.1);
    let (state, left) = only_flow(&lab).expect("the flow");
    assert_eq!(state, "established", "{left} s are left");
    tcp::echoes(&mut stream).unwrap();
}

fn blind_reset_spares_published_connection(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7"]);
    let _echo = tcp::Echo::start(&c1.netns, c1.at(7));
    let raw = Raw::open(&lab.world, family, 6);
    let mut stream = tcp::connect_from(&lab.world, 40123, (family.host(), 5000)).unwrap();
    tcp::echoes(&mut stream).unwrap();
    let (source, expected) = raw.wait("the container's acknowledgment", |packet| {
        (packet.ports().0 == 5000 && packet.flags() & flag::ACK != 0)
            .then(|| (packet.destination, packet.long(8)))
    });
    reset_blindly(&raw, (source, 40123), (family.host(), 5000), expected);
    let (state, left) = only_flow(&lab).expect("the flow");
    assert_eq!(state, "established", "{left} s are left");
    tcp::echoes(&mut stream).unwrap();
}

/// RFC 7857 section 2.2. The flow does not stay for hours.
fn valid_reset_ends_connection_and_flow(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let listener = tcp::listen(&lab.world, server(family));
    let mut near = tcp::connect(&c1.netns, server(family));
    let (mut far, _) = listener.accept().unwrap();
    near.write_all(b"hello").unwrap();
    far.read_exact(&mut [0; 5]).unwrap();
    setsockopt(&far, Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(far);
    let error = near.read(&mut [0; 8]).expect_err("the connection is reset");
    assert_eq!(error.raw_os_error(), Some(Errno::ECONNRESET as i32), "{error}");
    let (state, left) = only_flow(&lab).expect("the flow");
    assert!(["closed", "reset"].contains(&&*state) && left <= 242, "'{state}' for {left} s");
}

/// A SYN that is not answered; its socket keeps trying.
fn half_open(netns: &Netns, port: u16, to: (IpAddr, u16)) -> TcpStream {
    let to = SocketAddr::from(to);
    let made = place::run(netns, || {
        socket(
            tcp::domain(to),
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )
    });
    let socket = made.unwrap();
    setsockopt(&socket, ReuseAddr, &true).unwrap();
    bind(
        socket.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::from((Family::of(to.ip()).any(), port))),
    )
    .unwrap();
    let begun = connect(socket.as_raw_fd(), &SockaddrStorage::from(to));
    assert_eq!(begun, Err(Errno::EINPROGRESS));
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    setsockopt(&stream, SendTimeout, &TimeVal::seconds(30)).unwrap();
    setsockopt(&stream, ReceiveTimeout, &TimeVal::seconds(30)).unwrap();
    stream
}

/// RFC 5382 REQ-2a. Both send a SYN before they receive the other's.
fn simultaneous_open_connects(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let c1 = lab.container("c1", &[]);
    // Packets to the other host are lost for now.
    place::ip(&lab.world, &format!("route add blackhole {}", family.other()));
    let mut near = half_open(&c1.netns, 40010, (family.other(), 40011));
    wait::until("the container's SYN leaves", || {
        only_flow(&lab).filter(|(state, _)| state == "syn-sent")
    });
    let mut far = half_open(&wide.other, 40011, (family.host(), 40010));
    wait::until("the other's SYN passes", || {
        only_flow(&lab).filter(|(state, _)| state == "syn-received")
    });
    place::ip(&lab.world, &format!("route del blackhole {}", family.other()));
    let mut greeting = [0; 5];
    wait::until("they are connected", || near.write_all(b"hello").ok());
    far.read_exact(&mut greeting).expect("the other hears");
    far.write_all(&greeting).expect("the other speaks");
    near.read_exact(&mut greeting).expect("the container hears");
    wait::until("the flow is open", || only_flow(&lab).filter(|(state, _)| state == "established"));
}

fn port_pair_is_reused_by_next_connection(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7"]);
    let cases = [
        (&lab.world, server(family), &c1.netns, server(family)),
        (&c1.netns, (c1.address, 7), &lab.world, (family.host(), 5000)),
    ];
    for (server, listen, client, to) in cases {
        let listener = tcp::listen(server, listen);
        for round in 0..5 {
            let mut near = tcp::connect_from(client, 40020, to)
                .unwrap_or_else(|error| panic!("round {round} to {to:?}: {error}"));
            let (mut far, _) = listener.accept().unwrap();
            far.set_write_timeout(Some(DEADLINE)).unwrap();
            far.write_all(b"bye").unwrap();
            // The server closes first, so that TIME_WAIT is on its side and the client may reuse
            // the port.
            drop(far);
            let mut said = String::new();
            near.read_to_string(&mut said).unwrap();
            assert_eq!(said, "bye");
        }
    }
}

fn half_closed_connection_carries_data(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let listener = tcp::listen(&lab.world, server(family));
    let mut near = tcp::connect(&c1.netns, server(family));
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    far.set_write_timeout(Some(DEADLINE)).unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 0, "the end arrives");
    let many = vec![7; 500_000];
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            far.write_all(&many).unwrap();
            far.shutdown(Shutdown::Write).unwrap();
        });
        near.read_to_end(&mut received).unwrap();
    });
    assert!(received == many);
    wait::until("both have closed", || only_flow(&lab).filter(|(state, _)| state == "closing"));
}

/// A mid-stream segment creates no flow. It is dropped and counted, in both directions.
fn mid_stream_segment_is_dropped(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let _echo = tcp::Echo::start(&lab.world, server(family));
    let mut stream = tcp::exchange(&c1.netns, server(family));
    let listener = Raw::open(&lab.world, family, 6);
    let before = lab.counted("no-flow");
    lab.json(&["flows", "flush"]);
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(tcp::echoes(&mut stream).is_err(), "it goes on");
    assert_eq!(
        listener.find(SILENCE, |packet| (packet.ports().1 == 7).then_some(())),
        None,
        "the packet reaches the world"
    );
    assert!(lab.counted("no-flow") > before, "it is counted");
    // A new connection works.
    let mut next = tcp::connect(&c1.netns, server(family));
    next.set_read_timeout(Some(DEADLINE)).unwrap();
    tcp::echoes(&mut next).unwrap();
}
