//! Settings of an interface that only `SIOCETHTOOL` changes.
#![expect(unsafe_code, reason = "one system call, with pointers to plain data that outlives it")]

use std::{os::fd::AsRawFd as _, ptr};

use anyhow::Context as _;
use causeway_api::{Error, types::name};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use crate::netns::Netns;

/// `SIOCETHTOOL`, in `linux/sockios.h`.
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// Commands of `linux/ethtool.h`.
mod command {
    pub(super) const SET_GRO: u32 = 0x2c;
    pub(super) const GET_CHANNELS: u32 = 0x3c;
    pub(super) const SET_CHANNELS: u32 = 0x3d;
}

/// `struct ethtool_value`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Channels {
    command: u32,
    most: [u32; 4],
    receive: u32,
    send: u32,
    other: u32,
    combined: u32,
}

/// Lets one end of a veth pair receive frames that XDP redirects to its other end, on as many CPUs
/// as they come from (Linux 5.13): the end must receive by NAPI, which enabling GRO switches on.
/// Other packets are received as before. Idempotent.
pub fn receive_by_napi(netns: &Netns, interface: &str) -> anyhow::Result<()> {
    name::check_interface(interface)?;
    let work = || {
        let mut channels = Channels { command: command::GET_CHANNELS, ..Channels::default() };
        ask(interface, &mut channels)?;
        let [most, ..] = channels.most;
        if channels.receive < most {
            ask(
                interface,
                &mut Channels { command: command::SET_CHANNELS, receive: most, ..channels },
            )?;
        }
        ask(interface, &mut Value { command: command::SET_GRO, data: 1 })
    };
    netns.run(work)?.map_err(|error: Errno| Error::os(error)).with_context(|| {
        format!("cannot set the channels and GRO of '{interface}' in {}", netns.path().display())
    })
}

/// Issues the ioctl in the namespace of the calling thread. The name has been checked, so it fits.
fn ask<T: Copy>(interface: &str, value: &mut T) -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(value).cast();
    // SAFETY: the kernel reads and writes `request` and the `value` that it points to, which both
    // outlive the call; the command at the start of the value tells the kernel its type.
    Errno::result(unsafe {
        libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, ptr::from_mut(&mut request))
    })
    .map(drop)
}
