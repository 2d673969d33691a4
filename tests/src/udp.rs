//! UDP: an echo server, single questions, and a client that asks without pause.

use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use causeway_netlink::Netns;
use nix::sys::socket::{
    self, SockFlag, SockType, SockaddrStorage, setsockopt, socket, sockopt::BindToDevice,
};

use crate::{
    family::Family,
    place, tcp,
    wait::{self, DEADLINE, SILENCE},
};

/// A server that answers each datagram with its tag and the datagram, and records its peers.
#[derive(Debug)]
pub struct Echo {
    peers: Arc<Mutex<BTreeSet<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts one at `address` in `netns`.
    pub fn start(netns: &Netns, address: impl Into<SocketAddr>, tag: &str) -> Self {
        let socket = bind(netns, address);
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        let (peers, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut echo = Self { peers: Arc::clone(&peers), stop: Arc::clone(&stop), thread: None };
        let tag = tag.as_bytes().to_vec();
        echo.thread = Some(thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                peers.lock().expect("no thread panics with it").insert(peer);
                // The answer may be lost, as any datagram.
                let _ = socket.send_to(&[&tag, &buffer[..length]].concat(), peer);
            }
        }));
        echo
    }

    /// The peers that have asked.
    pub fn peers(&self) -> BTreeSet<SocketAddr> {
        self.peers.lock().expect("no thread panics with it").clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A socket of `netns`, bound. Reads time out after [`DEADLINE`].
pub fn bind(netns: &Netns, address: impl Into<SocketAddr>) -> UdpSocket {
    let address = address.into();
    let socket = place::run(netns, || UdpSocket::bind(address)).unwrap_or_else(|error| {
        panic!("cannot bind UDP {address} in {}: {error}", netns.path().display())
    });
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    socket
}

/// An unconnected socket of `netns` at any address and port.
pub fn client(netns: &Netns, family: Family) -> UdpSocket {
    bind(netns, (family.any(), 0))
}

/// A socket of `netns` that is also bound to an interface.
pub fn bound_to(netns: &Netns, interface: &str, address: impl Into<SocketAddr>) -> UdpSocket {
    let address = address.into();
    let bound = place::run(netns, || {
        let socket =
            socket(tcp::domain(address), SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, BindToDevice, &interface.into())?;
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        nix::Result::Ok(UdpSocket::from(socket))
    });
    let bound =
        bound.unwrap_or_else(|error| panic!("cannot bind UDP {address} at {interface}: {error}"));
    bound.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    bound
}

/// Asks once, and returns the server's tag.
pub fn ask(
    socket: &UdpSocket,
    to: impl Into<SocketAddr>,
    question: &[u8],
    patience: Duration,
) -> io::Result<String> {
    let to = to.into();
    socket.send_to(question, to)?;
    let end = Instant::now() + patience;
    let mut buffer = vec![0; 65536];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let (length, from) = socket.recv_from(&mut buffer)?;
        // Skip answers to earlier questions.
        if from == to
            && let Some(tag) = buffer[..length].strip_suffix(question)
        {
            return Ok(String::from_utf8_lossy(tag).into_owned());
        }
    }
}

/// Asks once, and fails the test if there is no answer: nothing may be lost.
#[track_caller]
pub fn answer(socket: &UdpSocket, to: impl Into<SocketAddr>) -> String {
    let to = to.into();
    ask(socket, to, &unique(), DEADLINE)
        .unwrap_or_else(|error| panic!("no answer from {to}: {error}"))
}

/// Whether three questions in a row stay unanswered.
pub fn is_silent(socket: &UdpSocket, to: impl Into<SocketAddr>) -> bool {
    let to = to.into();
    (0..3).all(|_| ask(socket, to, &unique(), SILENCE).is_err())
}

/// Connects the socket and sends until port unreachable arrives, which must happen.
#[track_caller]
pub fn expect_refused(socket: &UdpSocket, to: impl Into<SocketAddr>) {
    let to = to.into();
    socket.connect(to).expect("a UDP socket connects");
    socket.set_read_timeout(Some(SILENCE)).expect("a timeout can be set");
    let refused = |result: io::Result<usize>| {
        result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    wait::until(&format!("port unreachable from {to}"), || {
        // The error of an earlier datagram is returned by the next call on the socket.
        (refused(socket.send(b"question")) || refused(socket.recv(&mut [0; 16]))).then_some(())
    });
}

/// A client that asks again as soon as it is answered.
#[derive(Debug)]
pub struct Chatter {
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<u64>>,
    thread: JoinHandle<Result<u64, String>>,
}

impl Chatter {
    /// Starts one, and returns after the first answer.
    #[track_caller]
    pub fn start(socket: UdpSocket, to: impl Into<SocketAddr>) -> Self {
        let to = to.into();
        answer(&socket, to);
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = thread::spawn(move || {
            let mut asked = 0;
            while !stopped.load(Ordering::Relaxed) {
                // Far longer than any answer takes, so that a missing one was lost.
                ask(&socket, to, &unique(), Duration::from_secs(30))
                    .map_err(|error| format!("question {asked} to {to} was lost: {error}"))?;
                asked += 1;
                *count.lock().expect("no thread panics with it") = asked;
            }
            Ok(asked)
        });
        Self { stop, answered, thread }
    }

    /// Number of answers.
    pub fn answered(&self) -> u64 {
        *self.answered.lock().expect("no thread panics with it")
    }

    /// Whether it has ended because an answer was lost.
    pub fn has_lost(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it, and fails the test if an answer was lost.
    #[track_caller]
    pub fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it answers its errors").unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A unique question, so that its answer can be recognized.
fn unique() -> Vec<u8> {
    use std::sync::atomic::AtomicU64;
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("question {} of the lab", NUMBER.fetch_add(1, Ordering::Relaxed)).into_bytes()
}
