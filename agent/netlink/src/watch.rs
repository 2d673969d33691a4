//! Changes of links, addresses and routes, as they happen.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::{sync::mpsc, time};

use crate::netns::Netns;

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

const BURST: Duration = Duration::from_millis(100);

/// Answers a channel that gets a message after each burst of changes (a burst is gathered for some
/// 100 ms; the channel holds one message, more are the same). The channel ends if the kernel's
/// does.
#[expect(clippy::unused_async, reason = "it must be called on a runtime, which async says best")]
pub async fn changes(netns: &Netns) -> anyhow::Result<mpsc::Receiver<()>> {
    let runtime = tokio::runtime::Handle::current();
    let opened = netns.run(|| {
        let _entered = runtime.enter();
        new_multicast_connection(&GROUPS)
    })?;
    let (connection, handle, mut events) = opened
        .with_context(|| format!("cannot watch the interfaces of {}", netns.path().display()))?;
    tokio::spawn(connection);

    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        // The connection ends with its last handle.
        let _handle = handle;
        // What the events say does not matter, lost ones (ENOBUFS) come as an event too: who is
        // told reads the state anew.
        while let Some(_first) =
            tokio::select! { event = events.next() => event, () = sender.closed() => None }
        {
            let until = time::Instant::now() + BURST;
            while let Ok(Some(_more)) = time::timeout_at(until, events.next()).await {}
            if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                break;
            }
        }
    });
    Ok(receiver)
}
