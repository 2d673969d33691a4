//! Frames at an interface by packet sockets (`packet(7)`): received when the interface hands them
//! to the kernel, which excludes those that XDP redirects, and sent unchanged.

use std::{
    mem,
    os::fd::{AsRawFd as _, OwnedFd},
};

use causeway_netlink::Netns;
use nix::{
    errno::Errno,
    libc,
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socket},
};

use crate::place;

/// A packet socket at an interface.
#[derive(Debug)]
pub struct Tap(OwnedFd);

impl Tap {
    /// Opens one.
    pub fn start(netns: &Netns, interface: &str) -> Self {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
            // SAFETY: sockaddr_ll is plain data, and all zeros is a valid value.
            let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
            address.sll_family = libc::AF_PACKET as libc::sa_family_t;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = if_nametoindex(interface)?.cast_signed();
            let size = libc::socklen_t::try_from(size_of_val(&address)).expect("small");
            // SAFETY: the kernel reads as many bytes of the address as its size says.
            Errno::result(unsafe {
                libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
            })?;
            Ok::<_, Errno>(socket)
        };
        Self(
            place::run(netns, open)
                .unwrap_or_else(|error| panic!("cannot look at {interface}: {error}")),
        )
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        let sent = send(self.0.as_raw_fd(), frame, MsgFlags::empty());
        assert_eq!(sent, Ok(frame.len()), "a frame of {} bytes", frame.len());
    }

    /// How many UDP packets without IP options to one of these ports have passed since the last
    /// call. No more than a few hundred are kept.
    pub fn udp_to(&self, ports: &[u16]) -> usize {
        let mut buffer = [0; 2048];
        let mut seen = 0;
        while let Ok(length) = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            let port = match buffer[..length] {
                [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, 0x45, ..] if buffer[23] == 17 => {
                    36
                }
                [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, ..] if buffer[20] == 17 => 56,
                _ => continue,
            };
            seen +=
                usize::from(ports.contains(&u16::from_be_bytes([buffer[port], buffer[port + 1]])));
        }
        seen
    }
}
