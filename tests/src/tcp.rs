//! TCP: an echo server, and clients.

use std::{
    collections::BTreeSet,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use causeway_netlink::Netns;
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect as connect_socket,
            setsockopt, socket,
            sockopt::{ReuseAddr, SendTimeout},
        },
        time::{TimeVal, TimeValLike as _},
    },
};
use tokio::sync::oneshot;

use crate::{
    family::{Family, V4, V6},
    place,
    wait::DEADLINE,
};

/// How long a connection attempt that must fail may take.
pub const UNREACHABLE: Duration = Duration::from_millis(1500);

/// An echo server for any number of connections, which records its peers.
#[derive(Debug)]
pub struct Echo {
    peers: Arc<Mutex<BTreeSet<SocketAddr>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts one at `address` in `netns`.
    pub fn start(netns: &Netns, address: impl Into<SocketAddr>) -> Self {
        let listener = listen(netns, address);
        listener.set_nonblocking(true).expect("a socket can be made nonblocking");
        let (stop, stopped) = oneshot::channel();
        let peers = Arc::default();
        let seen = Arc::clone(&peers);
        let thread = thread::spawn(move || place::block_on(serve(listener, stopped, seen)));
        Self { peers, stop: Some(stop), thread: Some(thread) }
    }

    /// The peers that have connected.
    pub fn peers(&self) -> BTreeSet<SocketAddr> {
        self.peers.lock().expect("no thread panics with it").clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // All connections end with the runtime, and the runtime with the thread.
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(
    listener: TcpListener,
    mut stopped: oneshot::Receiver<()>,
    peers: Arc<Mutex<BTreeSet<SocketAddr>>>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is nonblocking");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => return,
        };
        let Ok((mut stream, peer)) = accepted else { continue };
        peers.lock().expect("no thread panics with it").insert(peer);
        tokio::spawn(async move {
            let (mut reading, mut writing) = stream.split();
            // Ends with the connection; how it ends does not matter.
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
        });
    }
}

/// A listening socket of `netns`.
pub fn listen(netns: &Netns, address: impl Into<SocketAddr>) -> TcpListener {
    let address = address.into();
    place::run(netns, || TcpListener::bind(address)).unwrap_or_else(|error| {
        panic!("cannot listen on TCP {address} in {}: {error}", netns.path().display())
    })
}

/// Connects from `netns`, which must succeed.
#[track_caller]
pub fn connect(netns: &Netns, to: impl Into<SocketAddr>) -> TcpStream {
    let to = to.into();
    let stream = try_connect(netns, to, DEADLINE);
    stream.unwrap_or_else(|error| {
        panic!("cannot connect from {} to {to}: {error}", netns.path().display())
    })
}

/// Connects from `netns`. Reads and writes time out after [`DEADLINE`].
pub fn try_connect(
    netns: &Netns,
    to: impl Into<SocketAddr>,
    patience: Duration,
) -> io::Result<TcpStream> {
    let to = to.into();
    let stream = place::run(netns, || TcpStream::connect_timeout(&to, patience))?;
    with_deadlines(stream)
}

/// Connects from a given port.
pub fn connect_from(netns: &Netns, port: u16, to: impl Into<SocketAddr>) -> io::Result<TcpStream> {
    let to = to.into();
    let socket =
        place::run(netns, || socket(domain(to), SockType::Stream, SockFlag::SOCK_CLOEXEC, None))?;
    setsockopt(&socket, ReuseAddr, &true)?;
    let patience = i64::try_from(DEADLINE.as_secs()).expect("two minutes");
    setsockopt(&socket, SendTimeout, &TimeVal::seconds(patience))?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&socket);
    bind(raw, &SockaddrStorage::from(SocketAddr::new(Family::of(to.ip()).any(), port)))?;
    match connect_socket(raw, &SockaddrStorage::from(to)) {
        Err(Errno::EINPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
        other => with_deadlines(other.map(|()| TcpStream::from(socket))?),
    }
}

/// The address family for a socket.
pub fn domain(address: SocketAddr) -> AddressFamily {
    match Family::of(address.ip()) {
        V4 => AddressFamily::Inet,
        V6 => AddressFamily::Inet6,
    }
}

/// Whether the echo server at the other end answers.
pub fn echoes(stream: &mut TcpStream) -> io::Result<()> {
    let question = b"a line that comes back";
    stream.write_all(question)?;
    let mut answer = [0; 22];
    stream.read_exact(&mut answer)?;
    if &answer == question { Ok(()) } else { Err(io::Error::other("something else came back")) }
}

/// Connects and exchanges a line with an echo server, which must work.
#[track_caller]
pub fn exchange(netns: &Netns, to: impl Into<SocketAddr>) -> TcpStream {
    let to = to.into();
    let mut stream = connect(netns, to);
    echoes(&mut stream).unwrap_or_else(|error| panic!("no echo from {to}: {error}"));
    stream
}

/// Whether a connection attempt fails or times out.
pub fn is_unreachable(netns: &Netns, to: impl Into<SocketAddr>) -> bool {
    try_connect(netns, to, UNREACHABLE).is_err()
}

fn with_deadlines(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}
