//! Idle timeouts of flows: the minimums of the RFCs unless the network has others, with and without
//! an agent.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab},
    ping, tcp, udp,
    wait::{self, DEADLINE, SILENCE},
};
use serde_json::Value;

families! {
    defaults_meet_the_rfcs,
    network_timeouts_are_applied,
    idle_flow_is_removed,
    idle_flow_expires_without_agent,
    traffic_either_way_refreshes_flow,
}

fn server(family: Family) -> (IpAddr, u16) {
    (family.far(), 7)
}

/// Seconds left of the flow to that port of the world, and its state. For ICMP, of the only flow.
fn left(lab: &Lab, protocol: &str, port: u16) -> Option<(u64, String)> {
    let flows = lab.json(&["flows", "ls"]);
    let (to, icmp) =
        (SocketAddr::from((lab.family.far(), port)).to_string(), lab.family.icmp_name());
    let ours = |flow: &&Value| {
        let forward = flow["forward"]["destination"].as_str().unwrap_or_default();
        flow["protocol"] == protocol && (protocol == icmp || forward == to)
    };
    let flow = flows.as_array().unwrap().iter().find(ours)?;
    Some((flow["expires_in_s"].as_u64().unwrap(), flow["state"].as_str().unwrap().to_owned()))
}

/// Checks that a flow whose last packet was just sent expires in `whole` seconds. The datapath
/// counts in ticks of a little more than a second.
#[track_caller]
fn about(lab: &Lab, protocol: &str, port: u16, state: &str, whole: u64) {
    let begin = Instant::now();
    let (left, is) = wait::until(&format!("the flow is '{state}'"), || {
        left(lab, protocol, port).filter(|(_, is)| is == state)
    });
    assert!(is_left(left, whole, begin), "{protocol} {is}: {left} s are left of {whole} s");
}

/// Whether `left` seconds can be left of `whole` of a packet sent at `begin`, however slow the
/// machine is.
fn is_left(left: u64, whole: u64, begin: Instant) -> bool {
    (whole.saturating_sub(10 + begin.elapsed().as_secs())..=whole + 2).contains(&left)
}

/// Checks one flow of each kind, in each state that has a timeout of its own.
#[track_caller]
fn last(
    lab: &Lab,
    container: &Container,
    [established, transitory, udp_first, udp_stream, icmp]: [u64; 5],
) {
    let (netns, family) = (&container.netns, lab.family);
    let _silent = udp::bind(&lab.world, (family.far(), 5));
    udp::client(netns, family).send_to(b"question", (family.far(), 5)).unwrap();
    about(lab, "udp", 5, "unreplied", udp_first);
    let _echo = udp::Echo::start(&lab.world, server(family), "");
    udp::answer(&udp::client(netns, family), server(family));
    about(lab, "udp", 7, "replied", udp_stream);
    ping::ping(netns, family.far(), 1, 56);
    about(lab, family.icmp_name(), 0, "replied", icmp);
    let listener = tcp::listen(&lab.world, server(family));
    let near = tcp::connect(netns, server(family));
    let (far, _) = listener.accept().unwrap();
    about(lab, "tcp", 7, "established", established);
    drop(far);
    // The side that may still send keeps the established timeout.
    about(lab, "tcp", 7, "half-closed", established);
    drop(near);
    about(lab, "tcp", 7, "closing", transitory);
    // The SYN is not answered.
    let (begin, to) = (Instant::now(), SocketAddr::from((family.stranger(200), 80)));
    assert!(tcp::try_connect(netns, to, Duration::from_millis(100)).is_err());
    let flows = lab.json(&["flows", "ls"]);
    let syn_sent = flows
        .as_array()
        .unwrap()
        .iter()
        .find(|flow| flow["state"] == "syn-sent")
        .expect("a half-open flow");
    let left = syn_sent["expires_in_s"].as_u64().unwrap();
    assert!(is_left(left, transitory, begin), "{left} s are left of {transitory} s");
}

/// RFC 5382 REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-2, RFC 7857 section 2.
fn defaults_meet_the_rfcs(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    last(&lab, &c1, [7440, 240, 120, 300, 60]);
}

fn network_timeouts_are_applied(family: Family) {
    let lab = Lab::shared(family);
    let own = [
        "--timeout",
        "tcp-established=1000",
        "--timeout",
        "tcp-transitory=500",
        "--timeout",
        "udp=200",
        "--timeout",
        "udp-stream=400",
        "--timeout",
        "icmp=100",
    ];
    lab.network("patient", 29, &own);
    let patient = lab.container("c1", &["--network", "patient"]);
    last(&lab, &patient, [1000, 500, 200, 400, 100]);
    // Other networks keep the defaults.
    let usual = lab.container("c2", &[]);
    let _silent = udp::bind(&lab.world, (family.far(), 6));
    udp::client(&usual.netns, family).send_to(b"question", (family.far(), 6)).unwrap();
    about(&lab, "udp", 6, "unreplied", 120);
}

/// A container on a network with a UDP timeout of a few seconds.
fn hasty(lab: &Lab, seconds: u32) -> Container {
    let (first, stream) = (format!("udp={seconds}"), format!("udp-stream={seconds}"));
    lab.network("hasty", 29, &["--timeout", &first, "--timeout", &stream]);
    lab.container("c1", &["--network", "hasty"])
}

/// Sends to the world, pauses longer and longer, and lets the world answer, until an answer no
/// longer arrives.
#[track_caller]
fn is_forgotten(client: &UdpSocket, far: &UdpSocket) {
    let to = far.local_addr().unwrap();
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    let forgotten = (1..=4).any(|step| {
        client.send_to(b"question", to).unwrap();
        let (_, mapped) = far.recv_from(&mut [0; 64]).unwrap();
        thread::sleep(Duration::from_secs(2 * step));
        far.send_to(b"late", mapped).unwrap();
        client.set_read_timeout(Some(SILENCE)).unwrap();
        client.recv_from(&mut [0; 64]).is_err()
    });
    assert!(forgotten, "the flow lasts");
}

fn idle_flow_is_removed(family: Family) {
    let lab = Lab::shared(family);
    let c1 = hasty(&lab, 2);
    let (client, far) = (udp::client(&c1.netns, family), udp::bind(&lab.world, server(family)));
    is_forgotten(&client, &far);
    wait::until("the agent collects it", || left(&lab, "udp", 7).is_none().then_some(()));
}

fn idle_flow_expires_without_agent(family: Family) {
    let lab = Lab::of(family);
    let c1 = hasty(&lab, 2);
    let (client, far) = (udp::client(&c1.netns, family), udp::bind(&lab.world, server(family)));
    lab.kill_agent();
    is_forgotten(&client, &far);
    lab.start_agent(&[]);
}

/// RFC 4787 REQ-6: outbound packets refresh a mapping. Here inbound packets do too.
fn traffic_either_way_refreshes_flow(family: Family) {
    const TIMEOUT: u32 = 5;
    const LONGER: Duration = Duration::from_secs(7);
    const PAUSE: Duration = Duration::from_millis(500);
    /// After a pause of that length on a busy machine the flow may have expired.
    const STALL: Duration = Duration::from_secs(3);
    let lab = Lab::shared(family);
    let c1 = hasty(&lab, TIMEOUT);
    let far = udp::bind(&lab.world, server(family));
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    let client = udp::bind(&c1.netns, (family.any(), 4000));
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let ask = || {
        client.send_to(b"question", server(family)).unwrap();
        far.recv_from(&mut [0; 64]).unwrap().1
    };
    let mapped = ask();
    let begin = Instant::now();
    while begin.elapsed() < LONGER {
        thread::sleep(PAUSE);
        assert_eq!(ask(), mapped, "it is the same flow");
    }
    let (mut begin, mut last) = (Instant::now(), Instant::now());
    while begin.elapsed() < LONGER {
        thread::sleep(PAUSE);
        if last.elapsed() > STALL {
            assert_eq!(ask(), mapped);
            begin = Instant::now();
        }
        last = Instant::now();
        far.send_to(b"answer", mapped).unwrap();
        client.recv_from(&mut [0; 64]).expect("the flow lasts");
    }
}
