//! The sockets of the host's processes that speak with a container because they addressed a published port.

use std::net::SocketAddr;

use anyhow::Context as _;
use aya::maps::{HashMap, Map, MapData};
use causeway_common::{
    abi::{SocketAddress, SocketPeer, name},
    address::{Port, V4},
};

use super::{HostSocket, abi::Raw, pins::Pins, tables};

/// What the cgroup programs noted.
pub(super) struct HostSockets {
    v4: HashMap<MapData, Raw<SocketPeer<V4>>, Raw<SocketAddress<V4>>>,
}

impl HostSockets {
    /// Opens the map.
    pub(super) fn open(pins: &Pins) -> anyhow::Result<Self> {
        let map = MapData::from_pin(pins.map(name::V4.sockets));
        let map = map.with_context(|| format!("opening the map '{}'", name::V4.sockets))?;
        Ok(Self { v4: HashMap::try_from(Map::LruHashMap(map))? })
    }

    /// All that are noted. One that was closed stays until others need its place.
    pub(super) fn list(&self) -> anyhow::Result<Vec<HostSocket>> {
        let mut sockets = Vec::new();
        for entry in &self.v4 {
            let (Raw(peer), Raw(meant)) = entry.context("walking through the sockets of the host")?;
            let at = |address: V4, port: Port| SocketAddr::new(tables::ip(address), port.get());
            sockets.push(HostSocket {
                cookie: u64::from(peer.cookie[0]) | u64::from(peer.cookie[1]) << 32,
                container: at(peer.address, peer.port),
                meant: at(meant.address, meant.port),
            });
        }
        Ok(sockets)
    }

    /// Forgets one. Gone is done.
    pub(super) fn forget(&mut self, socket: &HostSocket) -> anyhow::Result<()> {
        let peer = SocketPeer {
            cookie: [socket.cookie as u32, (socket.cookie >> 32) as u32],
            address: tables::v4(socket.container.ip())?,
            port: Port::new(socket.container.port()),
            _pad: 0,
        };
        tables::gone_is_done(self.v4.remove(&Raw(peer))).context("forgetting a socket of the host")
    }
}
