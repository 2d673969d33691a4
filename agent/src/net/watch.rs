//! Changes of links, addresses and routes, as they happen.

use tokio::sync::mpsc;

use super::netns::Netns;

/// Answers a channel that gets a message after each burst of changes (a burst is gathered for some 100 ms; the channel holds one message, more are the same).
pub async fn changes(_netns: &Netns) -> anyhow::Result<mpsc::Receiver<()>> { unimplemented!() }
