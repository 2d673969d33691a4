//! The conntrack table of the kernel, used by the netfilter contenders.

use std::{fs, os::fd::AsRawFd as _};

use anyhow::{Context as _, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

/// Deletes every entry of the calling thread's namespace (`IPCTNL_MSG_CT_DELETE` without a tuple).
pub fn flush() -> anyhow::Result<()> {
    const DELETE: u16 = 1 << 8 | 2;
    const REQUEST_AND_ACK: u16 = 5;
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    // A netlink header (length, type, flags, sequence, port), then family, version and resource.
    let mut request = 20_u32.to_ne_bytes().to_vec();
    request.extend(DELETE.to_ne_bytes());
    request.extend(REQUEST_AND_ACK.to_ne_bytes());
    request.extend([0; 12]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())
        .context("cannot ask for the flows to be deleted")?;
    let mut answer = [0; 64];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code =
        answer[..length].get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    ensure!(code == Some(0), "the kernel does not delete the flows: {code:?}");
    Ok(())
}

/// The capacity of conntrack, a setting of the initial namespace for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room([Option<String>; 2]);

const SETTINGS: [&str; 2] =
    ["/proc/sys/net/netfilter/nf_conntrack_max", "/sys/module/nf_conntrack/parameters/hashsize"];

impl Room {
    /// Reads the current setting.
    pub fn found() -> Self {
        Self(SETTINGS.map(|path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned())))
    }

    /// Raises the capacity, with the number of hash buckets that netfilter's documentation advises.
    pub fn make(flows: u32) -> anyhow::Result<()> {
        let there = Self::found().0[0].as_ref().and_then(|text| text.parse::<u32>().ok());
        if there.is_none_or(|there| there > flows) {
            return Ok(());
        }
        for path in SETTINGS {
            fs::write(path, (flows + flows / 8).next_power_of_two().to_string())
                .with_context(|| format!("cannot make room for {flows} flows in {path}"))?;
        }
        Ok(())
    }

    /// Restores the setting.
    pub fn restore(&self) {
        for (path, value) in SETTINGS.into_iter().zip(&self.0) {
            if let Some(value) = value
                && *self != Self::found()
                && let Err(error) = fs::write(path, value)
            {
                eprintln!("bench: cannot set {path} back to {value}: {error}");
            }
        }
    }
}
