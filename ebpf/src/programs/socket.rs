//! The cgroup programs, for sockets of the host. A socket that addresses a published port is
//! connected to the container instead. No packet is translated, so there is no flow; the container
//! sees the host's own address on its network. A `bind(2)` to a published port fails with
//! `EADDRINUSE`.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use causeway_common::{
    abi::{self, SocketAddress, SocketPeer},
    wire::{
        address::{Address as _, V4, V6},
        protocol,
    },
};

use crate::{
    ctx::sock_addr::SockAddr,
    env::{self, REPLACE},
    family::Family,
    maps::{self, HasMaps as _},
};

/// Return value: the call continues.
const ALLOW: i32 = 1;

/// Return value: the call fails, with the error that was set.
const REFUSE: i32 = 0;

const EADDRINUSE: i32 = 98;

/// `connect(2)`.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    to_container::<Ipv4>(SockAddr::new(&ctx), Call::Connect)
}

/// `sendmsg(2)` with an address; without one too for an IPv6 socket that is connected to an IPv4
/// address.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    to_container::<Ipv4>(SockAddr::new(&ctx), Call::Send)
}

/// `recvmsg(2)`: translates the sender's address.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(ctx: SockAddrContext) -> i32 {
    to_publish::<Ipv4>(SockAddr::new(&ctx))
}

/// `getpeername(2)`.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    to_publish::<Ipv4>(SockAddr::new(&ctx))
}

/// `connect(2)` of an IPv6 socket.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    to_container_of_either(SockAddr::new(&ctx), Call::Connect)
}

/// `sendmsg(2)` with an address, of an IPv6 socket.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    to_container_of_either(SockAddr::new(&ctx), Call::Send)
}

/// `recvmsg(2)` of an IPv6 socket.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    to_publish_of_either(SockAddr::new(&ctx))
}

/// `getpeername(2)` of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    to_publish_of_either(SockAddr::new(&ctx))
}

/// `bind(2)`.
#[cgroup_sock_addr(bind4)]
pub(crate) fn bind4(ctx: SockAddrContext) -> i32 {
    bind::<Ipv4>(SockAddr::new(&ctx))
}

/// `bind(2)` of an IPv6 socket.
#[cgroup_sock_addr(bind6)]
pub(crate) fn bind6(ctx: SockAddrContext) -> i32 {
    if bind::<Ipv6>(SockAddr::new(&ctx)) == REFUSE {
        REFUSE
    } else {
        bind::<V4InV6>(SockAddr::new(&ctx))
    }
}

/// System call of a process that has a destination address.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Call {
    Connect,
    Send,
}

/// Form of an address in the program's context.
trait Form {
    /// Family of the packets that the socket sends.
    type Family: Spoken;
    /// The address. None if it has another form.
    fn address(ctx: SockAddr<'_>) -> Option<Self::Family>;
    /// Replaces the address by another one of this form.
    fn set_address(ctx: SockAddr<'_>, address: Self::Family);
    /// The address of this form that a bound socket would have. None if it would have none.
    fn bound(ctx: SockAddr<'_>) -> Option<Self::Family>;
}

/// Address family of sockets.
trait Spoken: Family {
    /// Address that the call's socket is connected to.
    fn peer(ctx: SockAddr<'_>) -> Self;
}

impl Spoken for V4 {
    #[inline(always)]
    fn peer(ctx: SockAddr<'_>) -> Self {
        ctx.peer_ipv4()
    }
}

impl Spoken for V6 {
    #[inline(always)]
    fn peer(ctx: SockAddr<'_>) -> Self {
        ctx.peer_ipv6()
    }
}

/// IPv4 address of an IPv4 socket.
struct Ipv4;

impl Form for Ipv4 {
    type Family = V4;

    #[inline(always)]
    fn address(ctx: SockAddr<'_>) -> Option<V4> {
        Some(ctx.ipv4())
    }

    #[inline(always)]
    fn set_address(ctx: SockAddr<'_>, address: V4) {
        ctx.set_ipv4(address);
    }

    #[inline(always)]
    fn bound(ctx: SockAddr<'_>) -> Option<V4> {
        Self::address(ctx)
    }
}

/// IPv4 address of a dual-stack IPv6 socket: `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
struct V4InV6;

impl Form for V4InV6 {
    type Family = V4;

    #[inline(always)]
    fn address(ctx: SockAddr<'_>) -> Option<V4> {
        let [a, b, c, d] = ctx.ipv6().words();
        (a == 0 && b == 0 && c == 0xffff_u32.to_be()).then(|| V4::from_word(d))
    }

    #[inline(always)]
    fn set_address(ctx: SockAddr<'_>, address: V4) {
        ctx.set_v4_mapped(address);
    }

    #[inline(always)]
    fn bound(ctx: SockAddr<'_>) -> Option<V4> {
        // The unspecified address stands for every IPv4 address too.
        if ctx.ipv6() == V6::UNSPECIFIED && !ctx.is_ipv6_only() {
            return Some(V4::UNSPECIFIED);
        }
        Self::address(ctx)
    }
}

/// IPv6 address of an IPv6 socket. It may be replaced by an IPv4-mapped one, if the container has
/// IPv4 only.
struct Ipv6;

impl Form for Ipv6 {
    type Family = V6;

    #[inline(always)]
    fn address(ctx: SockAddr<'_>) -> Option<V6> {
        Some(ctx.ipv6())
    }

    #[inline(always)]
    fn set_address(ctx: SockAddr<'_>, address: V6) {
        ctx.set_ipv6(address);
    }

    #[inline(always)]
    fn bound(ctx: SockAddr<'_>) -> Option<V6> {
        Self::address(ctx)
    }
}

/// Redirects the call of an IPv6 socket, whose address is IPv4-mapped or IPv6.
#[inline(always)]
fn to_container_of_either(ctx: SockAddr<'_>, call: Call) -> i32 {
    if V4InV6::address(ctx).is_some() {
        to_container::<V4InV6>(ctx, call)
    } else {
        to_container::<Ipv6>(ctx, call)
    }
}

/// Translates the peer address of an IPv6 socket. Behind an IPv4-mapped address there may be a
/// publish of either family that the process addressed.
#[inline(always)]
fn to_publish_of_either(ctx: SockAddr<'_>) -> i32 {
    if V4InV6::address(ctx).is_some() {
        to_publish::<V4InV6>(ctx);
    }
    to_publish::<Ipv6>(ctx)
}

#[inline(always)]
fn bind<F: Form>(ctx: SockAddr<'_>) -> i32 {
    if !matches!(ctx.protocol(), protocol::TCP | protocol::UDP) || !is_of_host(ctx) || is_probe(ctx)
    {
        return ALLOW;
    }
    let Some(address) = F::bound(ctx) else { return ALLOW };
    if !env::publish_conflicts(ctx.protocol(), &address, ctx.port()) {
        return ALLOW;
    }
    SockAddr::set_error(EADDRINUSE);
    REFUSE
}

/// Whether the call's socket is connected to that address already.
#[inline(always)]
fn is_connected_to<A: Spoken>(ctx: SockAddr<'_>, to: &SocketAddress<A>) -> bool {
    A::peer(ctx) == to.address && ctx.peer_port() == to.port
}

/// Whether the socket is the agent's own, which tests whether a port is in use.
#[inline(always)]
fn is_probe(ctx: SockAddr<'_>) -> bool {
    ctx.mark() == abi::PROBE_MARK
}

#[inline(always)]
fn to_container<F: Form>(ctx: SockAddr<'_>, call: Call) -> i32 {
    if !is_of_host(ctx) {
        return ALLOW;
    }
    let Some(address) = F::address(ctx) else { return ALLOW };
    let addressed = SocketAddress { address, port: ctx.port(), _pad: 0 };
    let sockets = F::Family::maps().sockets;
    let peer = container_of(ctx, &addressed)
        .filter(|peer| !peer.address.is_v4_mapped() || call == Call::Connect);
    // The kernel changes a socket to IPv4 when it connects, but not for a single packet.
    if let Some(peer) = peer {
        // Without room to remember the publish's address, replies would carry an address that the
        // process never used.
        if sockets.insert(peer, addressed, REPLACE).is_ok() {
            F::set_address(ctx, peer.address);
            ctx.set_port(peer.port);
        }
    } else if call == Call::Connect || !is_connected_to(ctx, &addressed) {
        // The socket may have reached this address through a publish before. From now on the
        // address means itself.
        let peer = SocketPeer {
            cookie: ctx.socket_cookie(),
            address: addressed.address,
            port: addressed.port,
            _pad: 0,
        };
        if sockets.get_ptr(peer).is_some() {
            let _ = sockets.remove(peer);
        }
    }
    ALLOW
}

#[inline(always)]
fn to_publish<F: Form>(ctx: SockAddr<'_>) -> i32 {
    if !is_of_host(ctx) {
        return ALLOW;
    }
    let Some(address) = F::address(ctx) else { return ALLOW };
    let peer = SocketPeer { cookie: ctx.socket_cookie(), address, port: ctx.port(), _pad: 0 };
    // SAFETY: S2 (map value); it is copied at once, and a value is never changed but only replaced.
    if let Some(addressed) = unsafe { F::Family::maps().sockets.get(peer).copied() } {
        F::set_address(ctx, addressed.address);
        ctx.set_port(addressed.port);
    }
    ALLOW
}

#[inline(always)]
fn container_of<A: Spoken>(
    ctx: SockAddr<'_>,
    addressed: &SocketAddress<A>,
) -> Option<SocketPeer<A>> {
    let slot = env::published(ctx.protocol(), &addressed.address, addressed.port)?;
    // `connect(2)` to the unspecified address reaches loopback in Linux.
    let loopback = addressed.address.is_loopback() || addressed.address == A::UNSPECIFIED;
    if !loopback && !env::is_local(&addressed.address) {
        return None;
    }
    let publish = A::maps().publishes.get(slot)?;
    Some(SocketPeer {
        cookie: ctx.socket_cookie(),
        address: publish.container,
        port: publish.container_port_of(addressed.port),
        _pad: 0,
    })
}

#[inline(always)]
fn is_of_host(ctx: SockAddr<'_>) -> bool {
    ctx.netns_cookie() == maps::host_cookie()
}
