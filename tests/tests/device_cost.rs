//! Cost of netkit compared with veth, in turns, as medians: `cargo xtask test --kernel 6.12 --only
//! device_cost -- --ignored --nocapture`. An emulated processor takes about the same time for every
//! instruction and has no cache, so that the figures show how much less work is done, not how much
//! faster it is.

use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use causeway_tests::{
    family::V4,
    lab::{Container, Lab},
    place, udp, wait,
};
use nix::libc;

const ROUNDS: usize = 15;

/// A measurement by the first of two containers, with the second as its neighbour.
type Work<'a> = (&'a str, Box<dyn Fn(&[Container; 2]) -> Duration + 'a>);

#[test]
#[ignore = "it only measures"]
fn netkit_against_veth() {
    let lab = Lab::without_agent();
    let pair = |device: &str, names: [&str; 2]| {
        lab.start_agent(&["--device", device]);
        let containers = names.map(|name| lab.container(name, &[]));
        lab.end_agent();
        containers
    };
    let (netkit, veth) = (pair("netkit", ["n1", "n2"]), pair("veth", ["v1", "v2"]));
    lab.start_agent(&[]);
    // The destination neither answers nor sends errors.
    place::ip(&lab.world, "route add blackhole 198.18.0.0/15");
    let _far = udp::Echo::start(&lab.world, (V4.far(), 7), "far");
    let _near =
        [&netkit, &veth].map(|[_, other]| udp::Echo::start(&other.netns, other.at(7), "near"));
    let unused = SocketAddr::from((V4.stranger(1), 9));
    let sent = |from: &Container| sent_in(&udp::client(&from.netns, V4), unused);
    let asked = |from: &Container, to: SocketAddr| answered_in(&udp::client(&from.netns, V4), to);
    let far = SocketAddr::from((V4.far(), 7));
    let works: [Work<'_>; 3] = [
        ("a datagram to outside", Box::new(|[one, _]| sent(one))),
        ("a question to outside, and its answer", Box::new(|[one, _]| asked(one, far))),
        (
            "a question to a neighbour, and its answer",
            Box::new(|[one, other]| asked(one, other.at(7))),
        ),
    ];
    for (what, work) in &works {
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for turn in [round % 2, 1 - round % 2] {
                let cost = work([&veth, &netkit][turn]);
                // The first round creates the flows.
                if round > 0 {
                    costs[turn].push(cost);
                }
            }
        }
        let [veth, netkit] = costs.map(|mut costs| {
            costs.sort();
            costs[ROUNDS / 2].as_secs_f64() * 1e6
        });
        println!("{what}: veth {veth:.1} us, netkit {netkit:.1} us, {:.2} of it", netkit / veth);
    }
}

/// Time to send one datagram with sendmmsg.
fn sent_in(socket: &UdpSocket, to: SocketAddr) -> Duration {
    const AT_ONCE: u32 = 64;
    const TIMES: u32 = 40;
    socket.connect(to).expect("a UDP socket connects");
    let mut data = [0_u8; 18];
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: both types are plain data, and all zeros is a valid value.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (&raw mut part, 1);
    let mut messages = [message; AT_ONCE as usize];
    let begun = Instant::now();
    for _ in 0..TIMES {
        // SAFETY: the buffers that the messages point to outlive the call, which only reads them.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), AT_ONCE, 0) };
        assert_eq!(sent, AT_ONCE.cast_signed(), "all are sent");
    }
    begun.elapsed() / (AT_ONCE * TIMES)
}

/// Time of a question and its answer.
fn answered_in(socket: &UdpSocket, to: SocketAddr) -> Duration {
    const TIMES: u32 = 300;
    socket.connect(to).expect("a UDP socket connects");
    socket.set_read_timeout(Some(wait::DEADLINE)).expect("a time is set");
    let begun = Instant::now();
    for _ in 0..TIMES {
        socket.send(b"?").expect("it is sent");
        socket.recv(&mut [0; 64]).expect("it is answered");
    }
    begun.elapsed() / TIMES
}
