//! The cgroup programs: a process of the host addresses a published port, and its socket speaks with the container instead. No packet is
//! translated, so there is no flow: the container sees the host's own address on its network.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use causeway_common::{
    abi::{SocketAddress, SocketPeer},
    address::{Address as _, Port, V4},
};

use crate::{
    maps::{self, Family},
    tables::{self, REPLACE},
};

/// What every program here answers: the call goes on.
const ALLOW: i32 = 1;

/// `connect(2)`.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    to_container::<Ipv4>(&ctx)
}

/// `sendmsg(2)` with an address.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    to_container::<Ipv4>(&ctx)
}

/// `recvmsg(2)`: who sent it.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(ctx: SockAddrContext) -> i32 {
    to_publish::<Ipv4>(&ctx)
}

/// `getpeername(2)`.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    to_publish::<Ipv4>(&ctx)
}

/// `connect(2)` of an IPv6 socket.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    to_container::<Mapped>(&ctx)
}

/// `sendmsg(2)` with an address, of an IPv6 socket.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    to_container::<Mapped>(&ctx)
}

/// `recvmsg(2)` of an IPv6 socket.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    to_publish::<Mapped>(&ctx)
}

/// `getpeername(2)` of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    to_publish::<Mapped>(&ctx)
}

/// How an address stands in the program's context.
trait Form {
    /// The family of the packets that the socket would send.
    type Family: Loopback;
    /// The address; none if it is not of this form.
    fn address(ctx: &SockAddrContext) -> Option<Self::Family>;
    /// Replaces it by another one of this form.
    fn set_address(ctx: &SockAddrContext, address: Self::Family);
}

/// A family that has loopback addresses.
trait Loopback: Family {
    fn is_loopback(&self) -> bool;
}

impl Loopback for V4 {
    #[inline(always)]
    fn is_loopback(&self) -> bool {
        // Linux takes the unspecified address for loopback when it is connected to.
        self.octets()[0] == 127 || *self == Self::UNSPECIFIED
    }
}

/// IPv4, by an IPv4 socket.
struct Ipv4;

impl Form for Ipv4 {
    type Family = V4;

    #[inline(always)]
    fn address(ctx: &SockAddrContext) -> Option<V4> {
        // SAFETY: a field of the program's context.
        Some(V4::from_word(unsafe { (*ctx.sock_addr).user_ip4 }))
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: V4) {
        // SAFETY: a field of the program's context that it may write.
        unsafe { (*ctx.sock_addr).user_ip4 = address.word() }
    }
}

/// IPv4 by an IPv6 socket: `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), as dual-stack programs do.
struct Mapped;

impl Form for Mapped {
    type Family = V4;

    #[inline(always)]
    fn address(ctx: &SockAddrContext) -> Option<V4> {
        // SAFETY: fields of the program's context, read one by one: the verifier lets a word at a time.
        let [a, b, c, d] = unsafe {
            let words = &raw const (*ctx.sock_addr).user_ip6;
            let words: *const u32 = words.cast();
            [
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
                words.add(3).read_volatile(),
            ]
        };
        (a == 0 && b == 0 && c == 0xffff_u32.to_be()).then(|| V4::from_word(d))
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: V4) {
        // SAFETY: a field of the program's context that it may write.
        unsafe { (*ctx.sock_addr).user_ip6[3] = address.word() }
    }
}

#[inline(always)]
fn to_container<F: Form>(ctx: &SockAddrContext) -> i32 {
    if !is_of_host(ctx) {
        return ALLOW;
    }
    let Some(address) = F::address(ctx) else { return ALLOW };
    let meant = SocketAddress { address, port: port(ctx), _pad: 0 };
    let sockets = F::Family::maps().sockets;
    if let Some(peer) = container_of(ctx, &meant) {
        // Without a place to remember what was meant, the answers would carry an address that the process never used.
        if sockets.insert(peer, meant, REPLACE).is_ok() {
            F::set_address(ctx, peer.address);
            set_port(ctx, peer.port);
        }
    } else {
        // The same socket may have gone there by a publish: from now on it means what it says.
        let peer = SocketPeer { cookie: cookie(ctx), address: meant.address, port: meant.port, _pad: 0 };
        if sockets.get_ptr(peer).is_some() {
            let _ = sockets.remove(peer);
        }
    }
    ALLOW
}

#[inline(always)]
fn to_publish<F: Form>(ctx: &SockAddrContext) -> i32 {
    if !is_of_host(ctx) {
        return ALLOW;
    }
    let Some(address) = F::address(ctx) else { return ALLOW };
    let peer = SocketPeer { cookie: cookie(ctx), address, port: port(ctx), _pad: 0 };
    // SAFETY: copied at once; a value is never changed, only replaced.
    if let Some(meant) = unsafe { F::Family::maps().sockets.get(peer).copied() } {
        F::set_address(ctx, meant.address);
        set_port(ctx, meant.port);
    }
    ALLOW
}

#[inline(always)]
fn container_of<A: Loopback>(ctx: &SockAddrContext, meant: &SocketAddress<A>) -> Option<SocketPeer<A>> {
    // SAFETY: a field of the program's context.
    let protocol = unsafe { (*ctx.sock_addr).protocol } as u8;
    let slot = tables::published(protocol, &meant.address, meant.port)?;
    if !meant.address.is_loopback() && !tables::is_local(&meant.address) {
        return None;
    }
    let publish = A::maps().publishes.get(slot)?;
    Some(SocketPeer {
        cookie: cookie(ctx),
        address: publish.container,
        port: publish.container_port_of(meant.port),
        _pad: 0,
    })
}

#[inline(always)]
fn is_of_host(ctx: &SockAddrContext) -> bool {
    // SAFETY: reads what the context's socket belongs to.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) == maps::host_cookie() }
}

#[inline(always)]
fn cookie(ctx: &SockAddrContext) -> [u32; 2] {
    // SAFETY: reads the number of the context's socket.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    [cookie as u32, (cookie >> 32) as u32]
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> Port {
    // SAFETY: a field of the program's context; the port's two bytes come first in it.
    Port::from_word(unsafe { (*ctx.sock_addr).user_port } as u16)
}

#[inline(always)]
fn set_port(ctx: &SockAddrContext, port: Port) {
    // SAFETY: a field of the program's context that it may write.
    unsafe { (*ctx.sock_addr).user_port = u32::from(port.word()) }
}
