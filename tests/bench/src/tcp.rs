//! TCP between two processes: streams, requests on one connection, and a connection per request.
//! Both ends are threads of the benchmark that make only the necessary system calls.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use causeway_tests::{
    family::V4,
    lab::{FAR, HOST},
    place,
};
use nix::time::{ClockId, clock_gettime};

use crate::{
    contender::{Contender, TCP},
    measurement::{Figure, Measurement, Metric},
    processor,
    rig::Rig,
    statistics::quantile,
    traffic::Way,
};

/// The kind of exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// One end sends as much as possible.
    Stream,
    /// One byte each way, repeatedly.
    Requests,
    /// The same with a connection for each; the server closes it.
    Connections,
}

impl Exchange {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Stream, Self::Requests, Self::Connections];

    const fn name(self) -> &'static str {
        match self {
            Self::Stream => "TCP stream",
            Self::Requests => "TCP request/response",
            Self::Connections => "TCP connect/request/response/close",
        }
    }
}

/// `TCP stream, published`.
pub fn name(exchange: Exchange, way: Way) -> String {
    let way = if way == Way::Inwards { "published" } else { "masquerade" };
    format!("{}, {way}", exchange.name())
}

const BLOCK: usize = 128 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// Gives every contender a turn in every round, like [`crate::forwarding::compare`]. Returns one
/// measurement per metric.
pub fn compare(
    rigs: &[Rig],
    exchange: Exchange,
    way: Way,
    rounds: u32,
    turn: Duration,
    mut tick: impl FnMut(Contender),
) -> anyhow::Result<Vec<Measurement>> {
    let rigs: Vec<&Rig> = rigs
        .iter()
        .filter(|rig| !rig.contender.is_bound() && rig.contender.exchanges(way))
        .collect();
    let mut servers = Vec::new();
    for rig in &rigs {
        servers.push(Server::start(rig, exchange, way)?);
    }
    let mut all: BTreeMap<Metric, BTreeMap<Contender, Figure>> = BTreeMap::new();
    for round in 0..rounds as usize {
        for place in 0..rigs.len() {
            let at = (place + round) % rigs.len();
            let rig = rigs[at];
            let seen = client(rig, exchange, way, servers[at].address, turn)
                .with_context(|| format!("{}: {}", rig.contender, name(exchange, way)))?;
            tick(rig.contender);
            for (metric, cost) in seen {
                all.entry(metric).or_default().entry(rig.contender).or_default().rounds.push(cost);
            }
        }
    }
    for (server, rig) in servers.into_iter().zip(&rigs) {
        server.end();
        rig.forget_flows()?;
    }
    let name = name(exchange, way);
    Ok(all
        .into_iter()
        .map(|(metric, figures)| Measurement { name: name.clone(), metric, figures })
        .collect())
}

struct Server {
    address: SocketAddr,
    /// Listening address and namespace.
    local: SocketAddr,
    netns: causeway_netlink::Netns,
    thread: JoinHandle<()>,
}

impl Server {
    fn start(rig: &Rig, exchange: Exchange, way: Way) -> anyhow::Result<Self> {
        let (netns, address, local) = match way {
            Way::Outwards => (&rig.lab.world, FAR, SocketAddr::from((FAR, TCP.1))),
            Way::Inwards | Way::Across | Way::Wire | Way::Martian => {
                let c1 = &rig.containers[0];
                let own = c1.address(V4)?;
                (
                    &c1.netns,
                    if rig.contender.translates() { HOST } else { own },
                    SocketAddr::from((own, TCP.1)),
                )
            }
        };
        let port = if address == HOST { TCP.0 } else { TCP.1 };
        let listener = place::run(netns, || TcpListener::bind(local)).context("cannot listen")?;
        let thread = thread::spawn(move || {
            processor::stay();
            serve(&listener, exchange);
        });
        Ok(Self { address: (address, port).into(), local, netns: netns.try_clone()?, thread })
    }

    /// A connection that is closed without data ends it.
    fn end(self) {
        let connected =
            place::run(&self.netns, || TcpStream::connect_timeout(&self.local, PATIENCE));
        drop(connected);
        // No more data will follow.
        let _ = self.thread.join();
    }
}

/// Until a connection is closed without data.
fn serve(listener: &TcpListener, exchange: Exchange) {
    let mut buffer = vec![0; BLOCK];
    while let Ok((mut stream, _)) = listener.accept() {
        let _ = stream.set_nodelay(true);
        let mut any = false;
        loop {
            let read = match stream.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            if read == 0 {
                break;
            }
            any = true;
            if exchange != Exchange::Stream && stream.write_all(&buffer[..1]).is_err() {
                break;
            }
            if exchange == Exchange::Connections {
                break;
            }
        }
        if !any {
            return;
        }
        if exchange == Exchange::Stream {
            // The sender waits for this byte, so that all data has arrived.
            let _ = stream.write_all(&[1]);
        }
    }
}

/// A turn of one contender.
fn client(
    rig: &Rig,
    exchange: Exchange,
    way: Way,
    server: SocketAddr,
    turn: Duration,
) -> anyhow::Result<Vec<(Metric, f64)>> {
    let netns = if way == Way::Outwards { &rig.containers[0].netns } else { &rig.lab.world };
    place::run(netns, || {
        processor::stay();
        match exchange {
            Exchange::Stream => stream(server, turn),
            Exchange::Requests => {
                let mut connection = connect(server)?;
                operations(turn, || ask(&mut connection))
            }
            Exchange::Connections => operations(turn, || {
                let mut connection = connect(server)?;
                ask(&mut connection)?;
                ensure!(connection.read(&mut [0])? == 0, "the server said more than was asked");
                Ok(())
            }),
        }
    })
}

fn connect(server: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)
        .with_context(|| format!("cannot connect to {server}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(connection: &mut TcpStream) -> anyhow::Result<()> {
    connection.write_all(&[7])?;
    connection.read_exact(&mut [0]).context("no answer")
}

fn stream(server: SocketAddr, turn: Duration) -> anyhow::Result<Vec<(Metric, f64)>> {
    let mut connection = connect(server)?;
    let block = vec![7; BLOCK];
    let started = Instant::now();
    let mut bytes = 0_u64;
    while started.elapsed() < turn {
        connection.write_all(&block)?;
        bytes += BLOCK as u64;
    }
    connection.shutdown(Shutdown::Write)?;
    connection.read_exact(&mut [0]).context("the stream did not arrive whole")?;
    Ok(vec![(
        Metric::Stream,
        started.elapsed().as_nanos() as f64 / (bytes as f64 / f64::from(1 << 20)),
    )])
}

fn operations(
    turn: Duration,
    mut operation: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<(Metric, f64)>> {
    const WARM: u32 = 50;
    for _ in 0..WARM {
        operation()?;
    }
    let mut latencies = Vec::new();
    let (started, cpu) = (Instant::now(), cpu_time()?);
    while started.elapsed() < turn {
        let began = Instant::now();
        operation()?;
        latencies.push(began.elapsed().as_nanos() as f64 / 1e3);
    }
    let (elapsed, cpu) = (started.elapsed(), cpu_time()?.saturating_sub(cpu));
    let count = latencies.len() as f64;
    latencies.sort_by(f64::total_cmp);
    Ok(vec![
        (Metric::Median, quantile(&latencies, 0.5)),
        (Metric::P99, quantile(&latencies, 0.99)),
        (Metric::P999, quantile(&latencies, 0.999)),
        (Metric::Operation, elapsed.as_nanos() as f64 / 1e3 / count),
        (Metric::Cpu, cpu.as_nanos() as f64 / 1e3 / count),
    ])
}

/// CPU time of this process: both ends, and the kernel's work for their packets.
fn cpu_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}
