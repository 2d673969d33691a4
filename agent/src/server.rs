//! The answering side of the socket: hands each request to the one task that owns everything.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use causeway_api::{Reply, Request, messages};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time,
};
use tracing::{debug, warn};

/// A request, and where its answer goes.
pub type Asked = (Request, oneshot::Sender<Reply>);

/// More than any request of a person or program needs.
const LONGEST_REQUEST: u64 = 1 << 20;

/// A client that says nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(30);

/// The listening socket. Dropped, its file goes too.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens at `path` in place of whatever is there: whoever has the instance's lock knows that
    /// it is a dead agent's.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let listen = || {
            // Renamed when only root can use it: there is no moment when others can.
            let fresh = path.with_extension("sock.new");
            let _ = fs::remove_file(&fresh);
            let listener = StdListener::bind(&fresh)?;
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            fs::rename(&fresh, path)?;
            Ok(listener)
        };
        let listener = listen()
            .map_err(|error: std::io::Error| anyhow::anyhow!("{}", messages::plain(&error)))
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until it is aborted. Each connection keeps a sender until it is answered, so
    /// `requests` ends after the last answer.
    pub async fn serve(self, requests: mpsc::Sender<Asked>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve_one(stream, requests.clone()));
                }
                Err(error) => {
                    warn!(%error, "cannot take a connection");
                    // Out of descriptors, most likely: they come back as connections end.
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A file that stays is replaced by the next agent.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve_one(stream: UnixStream, requests: mpsc::Sender<Asked>) {
    let (reading, mut writing) = stream.into_split();
    let mut text = String::new();
    let mut reading = BufReader::new(reading.take(LONGEST_REQUEST));
    match time::timeout(PATIENCE, reading.read_line(&mut text)).await {
        Ok(Ok(0)) => return,
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return debug!(%error, "a client's request cannot be read"),
        Err(_) => return debug!("a client said nothing"),
    }
    let reply = answer(&text, &requests).await;
    match serde_json::to_string(&reply) {
        Ok(mut line) => {
            line.push('\n');
            if let Err(error) = writing.write_all(line.as_bytes()).await {
                debug!(%error, "a client did not wait for its answer");
            }
        }
        Err(error) => warn!(%error, "an answer cannot be written as JSON"),
    }
}

async fn answer(text: &str, requests: &mpsc::Sender<Asked>) -> Reply {
    let request = match serde_json::from_str(text) {
        Ok(request) => request,
        Err(error) => {
            return Reply::Failed(format!(
                "the agent does not understand the request ({error}); is it of another version?"
            ));
        }
    };
    let (sender, receiver) = oneshot::channel();
    let ending = || Reply::Failed("the agent is ending; try again when it is up".to_owned());
    if requests.send((request, sender)).await.is_err() {
        return ending();
    }
    receiver.await.unwrap_or_else(|_| ending())
}
