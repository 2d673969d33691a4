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

/// Returns a channel that gets a message after each burst of changes. A burst is gathered for some
/// 100 ms; the channel holds one message. It ends if the kernel's socket does.
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
        // The connection lives as long as its last handle.
        let _handle = handle;
        // The content of events does not matter, as the receiver reads the state anew. Lost events
        // (ENOBUFS) arrive as an event too.
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
