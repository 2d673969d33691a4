//! Sockets of the host's processes that are connected with a container through a published port.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use aya::maps::{HashMap, Map, MapData};
use causeway_common::{
    abi::{SocketAddress, SocketPeer},
    wire::address::{Port, V4, V6},
};

use super::{address::Ip, ignore_missing, raw::Raw};
use crate::datapath::{pins::Pins, types::HostSocket};

/// The sockets that the cgroup programs have recorded.
pub(in crate::datapath) struct HostSockets {
    v4: Noted<V4>,
    v6: Noted<V6>,
}

impl HostSockets {
    /// Opens the maps.
    pub(in crate::datapath) fn open(pins: &Pins) -> anyhow::Result<Self> {
        Ok(Self { v4: Noted::open(pins)?, v6: Noted::open(pins)? })
    }

    /// All recorded sockets. A closed one stays until its entry is needed.
    pub(in crate::datapath) fn list(&self) -> anyhow::Result<Vec<HostSocket>> {
        let mut sockets = Vec::new();
        self.v4.list(&mut sockets)?;
        self.v6.list(&mut sockets)?;
        Ok(sockets)
    }

    /// Removes a socket. Succeeds if absent.
    pub(in crate::datapath) fn forget(&mut self, socket: &HostSocket) -> anyhow::Result<()> {
        // By the address that the process used: the container's may be IPv4 for an IPv6 socket.
        match socket.meant.ip() {
            IpAddr::V4(_) => self.v4.forget(socket),
            IpAddr::V6(_) => self.v6.forget(socket),
        }
    }
}

/// The sockets of one family.
struct Noted<A: Ip>(HashMap<MapData, Raw<SocketPeer<A>>, Raw<SocketAddress<A>>>);

impl<A: Ip> Noted<A> {
    fn open(pins: &Pins) -> anyhow::Result<Self> {
        let map = MapData::from_pin(pins.map(A::MAPS.sockets));
        let map = map.with_context(|| format!("opening the map '{}'", A::MAPS.sockets))?;
        Ok(Self(HashMap::try_from(Map::LruHashMap(map))?))
    }

    fn list(&self, sockets: &mut Vec<HostSocket>) -> anyhow::Result<()> {
        for entry in &self.0 {
            let (Raw(peer), Raw(meant)) =
                entry.context("walking through the sockets of the host")?;
            let at = |address: A, port: Port| SocketAddr::new(address.ip(), port.get());
            sockets.push(HostSocket {
                cookie: u64::from(peer.cookie[0]) | u64::from(peer.cookie[1]) << 32,
                container: at(peer.address, peer.port),
                meant: at(meant.address, meant.port),
            });
        }
        Ok(())
    }

    fn forget(&mut self, socket: &HostSocket) -> anyhow::Result<()> {
        let Some(address) = A::of_shown(socket.container.ip()) else { return Ok(()) };
        let peer = SocketPeer {
            cookie: [socket.cookie as u32, (socket.cookie >> 32) as u32],
            address,
            port: Port::new(socket.container.port()),
            _pad: 0,
        };
        ignore_missing(self.0.remove(&Raw(peer))).context("removing a socket of the host")
    }
}
