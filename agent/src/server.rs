//! The agent's side of the socket: hands each request to the task that owns all state.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    time::Duration,
};

use anyhow::Context as _;
use causeway_api::{Error, Reply, Request, protocol};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time,
};
use tracing::{debug, warn};

use crate::instance::Instance;

/// A request, and where its reply goes.
pub type PendingRequest = (Request, oneshot::Sender<Reply>);

/// The longest request in bytes, its newline included.
const MAX_REQUEST: u64 = 1 << 20;

/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause after accept(2) failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    instance: Instance,
}

impl Server {
    /// Listens on the instance's socket. A file that is there is replaced: the caller holds the
    /// instance's lock, so it belongs to an agent that has died.
    pub fn bind(instance: &Instance) -> anyhow::Result<Self> {
        let path = instance.socket();
        let listen = || -> io::Result<UnixListener> {
            // Renamed once only root can use it, so that it is never open to others.
            let fresh = path.with_extension("sock.new");
            let _ = fs::remove_file(&fresh);
            let listener = StdListener::bind(&fresh)?;
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            fs::rename(&fresh, &path)?;
            Ok(listener)
        };
        let listener = listen()
            .map_err(Error::os)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Self { listener, instance: instance.clone() })
    }

    /// Serves until it is aborted. Each connection holds a sender until its reply is sent, so
    /// `requests` ends after the last reply.
    pub async fn serve(self, requests: mpsc::Sender<PendingRequest>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve_one(stream, requests.clone(), self.instance.clone()));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    // Usually EMFILE, which passes as connections end.
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The next agent replaces a file that stays.
        let _ = fs::remove_file(self.instance.socket());
    }
}

async fn serve_one(stream: UnixStream, requests: mpsc::Sender<PendingRequest>, instance: Instance) {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut reading = BufReader::new(reading.take(MAX_REQUEST));
    match time::timeout(REQUEST_TIMEOUT, reading.read_line(&mut line)).await {
        Ok(Ok(0)) => return,
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return debug!(%error, "cannot read a client's request"),
        Err(_) => return debug!("a client sent no request in time"),
    }
    let reply = answer(&line, &requests)
        .await
        .unwrap_or_else(|error| Reply::Failed(error.to_failure(instance.name())));
    match protocol::write_reply(&reply) {
        Ok(line) => {
            if let Err(error) = writing.write_all(line.as_bytes()).await {
                debug!(%error, "a client left before its reply");
            }
        }
        Err(error) => warn!(%error, "cannot write a reply"),
    }
}

async fn answer(line: &str, requests: &mpsc::Sender<PendingRequest>) -> Result<Reply, Error> {
    let request = protocol::read_request(line)?;
    let (sender, receiver) = oneshot::channel();
    let ending =
        || Error::not_found("the agent is ending").hint("try again once another agent is up");
    requests.send((request, sender)).await.map_err(|_| ending())?;
    receiver.await.map_err(|_| ending())
}
