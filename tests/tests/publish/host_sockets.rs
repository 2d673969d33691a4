//! Sockets of host processes that use published ports: they end with their publish or container.

use std::{
    fs,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use causeway_netlink::Netlink;
use causeway_tests::{
    families,
    family::{Family, bracketed, by_ipv6},
    lab::{Container, Lab},
    place, tcp, udp,
    wait::{self, DEADLINE},
};
use nix::errno::Errno;
use serde_json::Value;

use crate::server::Server;

families! {
    end_at_once_with_their_publish_only,
    end_with_the_container,
    follow_a_move_and_its_drain,
    end_with_down_or_by_the_next_agent,
    three_hundred_end_together,
}

/// Servers at ports 80 and 81 of a container.
fn serve(container: &Container) -> [Server; 2] {
    [80, 81].map(|port| Server::start(container, port))
}

/// A connected UDP socket of the host that has received an answer.
fn connect_udp(lab: &Lab, to: SocketAddr) -> UdpSocket {
    let socket = udp::client(&lab.host, Family::of(to.ip()));
    socket.connect(to).unwrap();
    asks(&socket).unwrap();
    socket
}

fn asks(socket: &UdpSocket) -> io::Result<usize> {
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.send(b"question")?;
    socket.recv(&mut [0; 100])
}

/// The error that the process of an ended connection sees without sending anything.
fn is_told(error: Option<io::Error>) {
    assert_eq!(error.expect("it goes on").raw_os_error(), Some(Errno::ECONNABORTED as i32));
}

#[track_caller]
fn tcp_is_over(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    is_told(stream.read(&mut [0]).err());
}

#[track_caller]
fn udp_is_over(socket: &UdpSocket) {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    is_told(socket.recv(&mut [0]).err());
}

fn end_at_once_with_their_publish_only(family: Family) {
    let lab = Lab::shared(family);
    let of_host = format!("{}:8081:81", bracketed(family.host()));
    let c1 = lab.container(
        "c1",
        &[
            "-p",
            "8080:80",
            "-p",
            "8080:80/udp",
            "-p",
            "8090:80",
            "-p",
            &of_host,
            "-p",
            "8090:80/udp",
        ],
    );
    let _servers = serve(&c1);
    let to = |address: IpAddr, port| SocketAddr::from((address, port));
    let mapped = |address: IpAddr, port| SocketAddr::from((by_ipv6(address), port));
    let mut ending =
        [to(family.loopback(), 8080), to(family.host(), 8080), mapped(family.loopback(), 8080)]
            .map(|to| tcp::exchange(&lab.host, to));
    let mut staying = [to(family.loopback(), 8090), to(family.host(), 8081), c1.at(80)]
        .map(|to| tcp::exchange(&lab.host, to));
    let ending_udp =
        [to(family.loopback(), 8080), mapped(family.host(), 8080)].map(|to| connect_udp(&lab, to));
    let staying_udp = [to(family.loopback(), 8090), c1.at(80)].map(|to| connect_udp(&lab, to));
    let mut from_outside = tcp::exchange(&lab.world, (family.host(), 8090));
    let open = udp::client(&lab.host, family);
    assert_eq!(udp::answer(&open, (family.loopback(), 8080)), c1.name);

    lab.json(&["publish", "rm", &c1.name, "8080:80"]);
    ending.iter_mut().for_each(tcp_is_over);
    for socket in ending_udp.iter().chain(&staying_udp) {
        asks(socket).unwrap();
    }
    lab.json(&["publish", "rm", &c1.name, "8080:80/udp"]);
    ending_udp.iter().for_each(udp_is_over);
    for stream in staying.iter_mut().chain([&mut from_outside]) {
        tcp::echoes(stream).unwrap();
    }
    for socket in &staying_udp {
        asks(socket).unwrap();
    }
    // An unconnected socket sends where each datagram says.
    assert_eq!(udp::answer(&open, (family.loopback(), 8090)), c1.name);
    assert!(tcp::try_connect(&lab.host, (family.loopback(), 8080), DEADLINE).is_err());
    // The container's side is ended too.
    lab.json(&["publish", "rm", &c1.name, &of_host]);
    tcp_is_over(&mut staying[1]);
}

fn end_with_the_container(family: Family) {
    let lab = Lab::shared(family);
    for how in ["removed", "link gone"] {
        let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
        let servers = serve(&c1);
        let mut stream = tcp::exchange(&lab.host, (family.loopback(), 8080));
        let socket = connect_udp(&lab, (family.loopback(), 8080).into());
        if how == "link gone" {
            place::block_on(async {
                let netlink = Netlink::open(&lab.host).await?;
                let link =
                    netlink.link(c1.host_side()).await?.expect("the host side is there").index;
                netlink.delete_link(link).await
            })
            .unwrap();
        } else {
            lab.json(&["container", "rm", &c1.name]);
        }
        tcp_is_over(&mut stream);
        udp_is_over(&socket);
        drop(servers);
        if how == "link gone" {
            lab.json(&["container", "rm", &c1.name]);
        }
    }
}

fn follow_a_move_and_its_drain(family: Family) {
    let lab = Lab::of(family);
    let (c1, c2) =
        (lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]), lab.container("c2", &[]));
    let _servers = (serve(&c1), serve(&c2));
    let move_to = |container: &Container, options: &[&str]| {
        for ports in ["8080", "8080/udp"] {
            lab.json(&[&["publish", "move", ports, &container.name], options].concat());
        }
    };
    let connect = || {
        (
            tcp::exchange(&lab.host, (family.loopback(), 8080)),
            connect_udp(&lab, (family.loopback(), 8080).into()),
        )
    };
    let (mut stream, socket) = connect();
    move_to(&c2, &[]);
    tcp_is_over(&mut stream);
    udp_is_over(&socket);
    // The socket can be used again.
    socket.connect((family.loopback(), 8080)).unwrap();
    asks(&socket).unwrap();

    let (mut stream, socket) = connect();
    move_to(&c1, &["--drain", "600"]);
    tcp::echoes(&mut stream).unwrap();
    asks(&socket).unwrap();
    lab.kill_agent();
    lab.start_agent(&[]);
    tcp::echoes(&mut stream).unwrap();
    move_to(&c2, &["--drain", "600"]);
    tcp::echoes(&mut stream).unwrap();
    move_to(&c1, &["--drain", "2"]);
    tcp::echoes(&mut stream).unwrap();
    tcp_is_over(&mut stream);
    udp_is_over(&socket);
}

fn end_with_down_or_by_the_next_agent(family: Family) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8081:81/udp"]);
    let _servers = serve(&c1);
    let mut stream = tcp::exchange(&lab.host, (family.loopback(), 8080));
    let socket = connect_udp(&lab, (family.loopback(), 8081).into());
    lab.kill_agent();
    // As an agent that recorded the removal and then died.
    let path = PathBuf::from(format!("/run/causeway/{}.json", lab.instance));
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state["containers"][&c1.name]["publishes"]
        .as_array_mut()
        .unwrap()
        .retain(|publish| publish["spec"] != "8080:80/tcp");
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    lab.start_agent(&[]);
    tcp_is_over(&mut stream);
    asks(&socket).unwrap();
    lab.json(&["down"]);
    udp_is_over(&socket);
    lab.wait_for_agent();
}

fn three_hundred_end_together(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8090:80"]);
    let _servers = serve(&c1);
    let mut ending: Vec<_> =
        (0..300).map(|_| tcp::exchange(&lab.host, (family.loopback(), 8080))).collect();
    let mut staying: Vec<_> =
        (0..10).map(|_| tcp::exchange(&lab.host, (family.loopback(), 8090))).collect();
    lab.json(&["publish", "rm", &c1.name, "8080:80"]);
    ending.iter_mut().for_each(tcp_is_over);
    for stream in &mut staying {
        tcp::echoes(stream).unwrap();
    }
    wait::until("the agent answers", || {
        lab.json(&["publish", "ls"]).as_array().filter(|publishes| publishes.len() == 1).map(|_| ())
    });
    // A connection that stays is silent but open.
    staying[0].set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(staying[0].read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}
