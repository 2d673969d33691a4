//! Just enough HTTP to serve and fetch one page.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use causeway_netlink::Netns;

use crate::tcp;

/// Fetches `/` of `address` from within `netns`, and returns status and body.
pub fn get(netns: &Netns, address: SocketAddr, patience: Duration) -> io::Result<(u16, String)> {
    let mut stream = tcp::try_connect(netns, address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| io::Error::other(format!("that is no answer: {answer:?}")))
}

/// A server with one page.
#[derive(Debug)]
pub struct Page {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
    netns: Netns,
}

impl Page {
    /// Serves `body` at `address` in `netns`.
    pub fn serve(netns: &Netns, address: impl Into<SocketAddr>, body: &str) -> Self {
        let address = address.into();
        let listener = tcp::listen(netns, address);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let answer = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                // Closing with unread data would reset the connection.
                let request = BufReader::new(&stream).lines().map_while(Result::ok);
                let _whole = request.take_while(|line| !line.is_empty()).count();
                // A failed write is seen by the client.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self {
            stop,
            thread: Some(thread),
            address,
            netns: netns.try_clone().expect("an open namespace can be opened again"),
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread from `accept`.
        if tcp::try_connect(&self.netns, self.address, Duration::from_secs(5)).is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}
