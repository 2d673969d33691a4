//! A TCP flow's life from its first SYN to its last packet, also where it is an unusual one.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    thread,
};

use causeway::net::netns::Netns;
use causeway_tests::{
    lab::{FAR, HOST, Lab},
    place,
    raw::{Ipv4, Raw, flag},
    tcp,
    wait::{self, DEADLINE, SILENCE},
    wide::OTHER,
};
use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket,
            sockopt::{Linger, ReceiveTimeout, ReuseAddr, SendTimeout},
        },
        time::{TimeVal, TimeValLike as _},
    },
};

const SERVER: (Ipv4Addr, u16) = (FAR, 7);

/// The state of the only TCP flow, and the seconds it still has.
fn only_flow(lab: &Lab) -> Option<(String, u64)> {
    let flows = lab.json(&["flows", "ls"]);
    let of_tcp: Vec<_> = flows.as_array().unwrap().iter().filter(|flow| flow["protocol"] == "tcp").collect();
    let [flow] = of_tcp[..] else { return None };
    Some((flow["state"].as_str().unwrap().to_owned(), flow["expires_in_s"].as_u64().unwrap()))
}

/// Sends resets in the name of one end to the other, all of them far from what that one expects.
fn reset_blindly(from: &Raw, source: (Ipv4Addr, u16), to: (Ipv4Addr, u16), expected: u32) {
    for step in 1..=64 {
        // Nowhere near a window, which is at most 2^30 wide.
        let sequence = expected.wrapping_add(0x6000_0000).wrapping_add(step << 24);
        from.send(&Ipv4::tcp(source, to, flag::RST, sequence, 0));
        from.send(&Ipv4::tcp(source, to, flag::RST | flag::ACK, sequence, sequence));
    }
}

#[test]
fn a_blind_reset_ends_no_masqueraded_connection() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let _echo = tcp::Echo::start(&lab.world, SERVER);
    let raw = Raw::open(&lab.world, 6);
    let mut stream = tcp::exchange(&c1.netns, SERVER);
    let seen = raw.wait("the container's acknowledgment", |packet| {
        (packet.ports().1 == 7 && packet.flags() & flag::ACK != 0).then(|| (packet.ports().0, packet.long(8)))
    });
    reset_blindly(&raw, SERVER, (HOST, seen.0), seen.1);
    let (state, left) = only_flow(&lab).expect("the flow");
    assert_eq!(state, "established", "{left} s are left");
    tcp::echoes(&mut stream).unwrap();
}

#[test]
fn a_blind_reset_ends_no_published_connection() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7"]);
    let _echo = tcp::Echo::start(&c1.netns, c1.at(7));
    let raw = Raw::open(&lab.world, 6);
    let mut stream = tcp::connect_from(&lab.world, 40123, SocketAddrV4::new(HOST, 5000)).unwrap();
    tcp::echoes(&mut stream).unwrap();
    let (source, expected) = raw.wait("the container's acknowledgment", |packet| {
        (packet.ports().0 == 5000 && packet.flags() & flag::ACK != 0).then(|| (packet.destination, packet.long(8)))
    });
    reset_blindly(&raw, (source, 40123), (HOST, 5000), expected);
    let (state, left) = only_flow(&lab).expect("the flow");
    assert_eq!(state, "established", "{left} s are left");
    tcp::echoes(&mut stream).unwrap();
}

/// RFC 7857 section 2.2: the flow does not stay for hours either.
#[test]
fn a_true_reset_ends_the_connection_and_soon_the_flow() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let listener = tcp::listen(&lab.world, SERVER);
    let mut near = tcp::connect(&c1.netns, SERVER);
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

/// A SYN that nobody answers, from a port to an address; its socket goes on trying.
fn half_open(netns: &Netns, port: u16, to: (Ipv4Addr, u16)) -> TcpStream {
    let made = place::run(netns, || {
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
    });
    let socket = made.unwrap();
    setsockopt(&socket, ReuseAddr, &true).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))).unwrap();
    let begun = connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(to.0, to.1)));
    assert_eq!(begun, Err(Errno::EINPROGRESS));
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    setsockopt(&stream, SendTimeout, &TimeVal::seconds(30)).unwrap();
    setsockopt(&stream, ReceiveTimeout, &TimeVal::seconds(30)).unwrap();
    stream
}

/// RFC 5382 REQ-2a. Both have sent a SYN before either hears of the other's.
#[test]
fn two_sides_that_open_at_once_are_connected() {
    let lab = Lab::new();
    let wide = lab.widen();
    let c1 = lab.container("c1", &[]);
    // What goes to the other host is lost for now.
    place::ip(&lab.world, "route add blackhole 203.0.113.66/32");
    let mut near = half_open(&c1.netns, 40010, (OTHER, 40011));
    wait::until("the container's SYN leaves", || only_flow(&lab).filter(|(state, _)| state == "syn-sent"));
    let mut far = half_open(&wide.other, 40011, (HOST, 40010));
    wait::until("the other's SYN passes", || only_flow(&lab).filter(|(state, _)| state == "syn-received"));
    place::ip(&lab.world, "route del blackhole 203.0.113.66/32");
    let mut greeting = [0; 5];
    wait::until("they are connected", || near.write_all(b"hello").ok());
    far.read_exact(&mut greeting).expect("the other hears");
    far.write_all(&greeting).expect("the other speaks");
    near.read_exact(&mut greeting).expect("the container hears");
    wait::until("the flow is open", || only_flow(&lab).filter(|(state, _)| state == "established"));
}

#[test]
fn one_pair_of_ports_carries_one_connection_after_the_other() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7"]);
    let cases = [(&lab.world, SERVER, &c1.netns, SERVER), (&c1.netns, (c1.address, 7), &lab.world, (HOST, 5000))];
    for (server, listen, client, to) in cases {
        let listener = tcp::listen(server, listen);
        for round in 0..5 {
            let mut near = tcp::connect_from(client, 40020, SocketAddrV4::new(to.0, to.1))
                .unwrap_or_else(|error| panic!("round {round} to {to:?}: {error}"));
            let (mut far, _) = listener.accept().unwrap();
            far.set_write_timeout(Some(DEADLINE)).unwrap();
            far.write_all(b"bye").unwrap();
            // The server is the first to close, so that the TIME_WAIT is its own and the client may use the port again.
            drop(far);
            let mut said = String::new();
            near.read_to_string(&mut said).unwrap();
            assert_eq!(said, "bye");
        }
    }
}

#[test]
fn a_connection_that_one_side_has_closed_carries_what_the_other_still_says() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let listener = tcp::listen(&lab.world, SERVER);
    let mut near = tcp::connect(&c1.netns, SERVER);
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    far.set_write_timeout(Some(DEADLINE)).unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 0, "the end is heard");
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

/// The rule: mid-stream begins nothing. It is dropped and counted, either way.
#[test]
fn what_is_in_mid_stream_without_a_flow_goes_nowhere() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let _echo = tcp::Echo::start(&lab.world, SERVER);
    let mut stream = tcp::exchange(&c1.netns, SERVER);
    let listener = Raw::open(&lab.world, 6);
    lab.json(&["flows", "flush"]);
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(tcp::echoes(&mut stream).is_err(), "it goes on");
    assert_eq!(listener.find(SILENCE, |packet| (packet.ports().1 == 7).then_some(())), None, "the world hears of it");
    let counted = lab.json(&["stats"])["reasons"]["no-flow"].as_u64();
    assert!(counted.is_some_and(|count| count > 0), "it is counted");
    // The next one begins as any.
    let mut next = tcp::connect(&c1.netns, SERVER);
    next.set_read_timeout(Some(DEADLINE)).unwrap();
    tcp::echoes(&mut next).unwrap();
}
