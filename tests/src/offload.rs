//! Switches the offloads of an interface, as `ethtool -K` does.

use std::ptr;

use causeway_netlink::Netns;
use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use crate::place;

const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// Receive and send checksums, scatter-gather, TSO, GSO and GRO: `ETHTOOL_SRXCSUM`,
/// `ETHTOOL_STXCSUM`, …
const SWITCHES: [u32; 6] = [0x15, 0x17, 0x19, 0x1f, 0x24, 0x2c];

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Switches all offloads on or off, as far as the interface has them.
pub fn set(netns: &Netns, interface: &str, on: bool) {
    for command in SWITCHES {
        // The number of each set command is one above its get command.
        match place::run(netns, || {
            ask(interface, command, u32::from(on)).and_then(|_| ask(interface, command - 1, 0))
        }) {
            Ok(now) => assert_eq!(
                now,
                u32::from(on),
                "offload {command:#x} of {interface} does not switch"
            ),
            Err(Errno::EOPNOTSUPP) => {}
            Err(error) => panic!("cannot switch offload {command:#x} of {interface}: {error}"),
        }
    }
}

/// The state of each offload. `None` if the interface does not have it.
pub fn get(netns: &Netns, interface: &str) -> Vec<Option<u32>> {
    SWITCHES
        .iter()
        .map(|command| place::run(netns, || ask(interface, command - 1, 0)).ok())
        .collect()
}

fn ask(interface: &str, command: u32, data: u32) -> nix::Result<u32> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = Value { command, data };
    // SAFETY: an ifreq is plain data, and all zeros is one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(interface.len() < request.ifr_name.len());
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();
    // SAFETY: the kernel reads and writes `request` and the `value` in it, which both live until it
    // returns.
    let answer = unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            SIOCETHTOOL,
            ptr::from_mut(&mut request),
        )
    };
    Errno::result(answer).map(|_| value.data)
}
