//! The cgroup programs: a process of the host addresses a published port, and its socket speaks
//! with the container instead. No packet is translated, so there is no flow: the container sees the
//! host's own address on its network. And a process that binds a published port is told that it is
//! in use.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval, bpf_skc_to_tcp6_sock,
        bpf_skc_to_udp6_sock,
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use causeway_common::{
    abi::{self, SocketAddress, SocketPeer},
    wire::{
        address::{Address as _, Port, V4, V6},
        protocol,
    },
};

use crate::{
    env::{self, REPLACE},
    maps::{self, Family, HasMaps as _},
};

/// The call goes on.
const ALLOW: i32 = 1;

/// The call fails, with what was set for its answer.
const REFUSE: i32 = 0;

const EADDRINUSE: i32 = 98;

/// `connect(2)`.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    to_container::<Ipv4>(&ctx, Call::Connect)
}

/// `sendmsg(2)` with an address, and of an IPv6 socket that is connected to an IPv4 address without
/// one too.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    to_container::<Ipv4>(&ctx, Call::Send)
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
    to_container_of_either(&ctx, Call::Connect)
}

/// `sendmsg(2)` with an address, of an IPv6 socket.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    to_container_of_either(&ctx, Call::Send)
}

/// `recvmsg(2)` of an IPv6 socket.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    to_publish_of_either(&ctx)
}

/// `getpeername(2)` of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    to_publish_of_either(&ctx)
}

/// `bind(2)`.
#[cgroup_sock_addr(bind4)]
pub(crate) fn bind4(ctx: SockAddrContext) -> i32 {
    bind::<Ipv4>(&ctx)
}

/// `bind(2)` of an IPv6 socket.
#[cgroup_sock_addr(bind6)]
pub(crate) fn bind6(ctx: SockAddrContext) -> i32 {
    if bind::<Ipv6>(&ctx) == REFUSE { REFUSE } else { bind::<V4InV6>(&ctx) }
}

/// What a process does with the address.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Call {
    Connect,
    Send,
}

/// How an address stands in the program's context.
trait Form {
    /// The family of the packets that the socket would send.
    type Family: Spoken;
    /// The address; none if it is not of this form.
    fn address(ctx: &SockAddrContext) -> Option<Self::Family>;
    /// Replaces it by another one of this form.
    fn set_address(ctx: &SockAddrContext, address: Self::Family);
    /// The address of this form that a socket bound to it would have; none if it would have none.
    fn bound(ctx: &SockAddrContext) -> Option<Self::Family>;
}

/// A family that sockets speak.
trait Spoken: Family {
    /// Where the call's socket is connected to.
    fn peer(ctx: &SockAddrContext) -> Self;
}

impl Spoken for V4 {
    #[inline(always)]
    fn peer(ctx: &SockAddrContext) -> Self {
        // SAFETY: the context's socket, of which the verifier lets this field be read. One of IPv6
        // has it too.
        Self::from_word(unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).dst_ip4 })
    }
}

impl Spoken for V6 {
    #[inline(always)]
    fn peer(ctx: &SockAddrContext) -> Self {
        // SAFETY: the context's socket, of which the verifier lets these words be read, one by one.
        unsafe {
            let words = &raw const (*(*ctx.sock_addr).__bindgen_anon_1.sk).dst_ip6;
            Self::from_words(one_by_one(words.cast()))
        }
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

    #[inline(always)]
    fn bound(ctx: &SockAddrContext) -> Option<V4> {
        Self::address(ctx)
    }
}

/// IPv4 by an IPv6 socket: `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), as dual-stack programs do.
struct V4InV6;

impl Form for V4InV6 {
    type Family = V4;

    #[inline(always)]
    fn address(ctx: &SockAddrContext) -> Option<V4> {
        let [a, b, c, d] = words(ctx);
        (a == 0 && b == 0 && c == 0xffff_u32.to_be()).then(|| V4::from_word(d))
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: V4) {
        // SAFETY: a field of the program's context that it may write.
        unsafe { (*ctx.sock_addr).user_ip6[3] = address.word() }
    }

    #[inline(always)]
    fn bound(ctx: &SockAddrContext) -> Option<V4> {
        // The unspecified address means every IPv4 address too.
        if words(ctx) == [0; 4] && !is_ipv6_only(ctx) {
            return Some(V4::UNSPECIFIED);
        }
        Self::address(ctx)
    }
}

/// IPv6, by an IPv6 socket. What it speaks with in the end may be IPv4 all the same: where the
/// container has nothing else.
struct Ipv6;

impl Form for Ipv6 {
    type Family = V6;

    #[inline(always)]
    fn address(ctx: &SockAddrContext) -> Option<V6> {
        Some(V6::from_words(words(ctx)))
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: V6) {
        let [a, b, c, d] = address.words();
        // SAFETY: fields of the program's context that it may write, a word at a time.
        unsafe {
            let words = &raw mut (*ctx.sock_addr).user_ip6;
            let words: *mut u32 = words.cast();
            words.write_volatile(a);
            words.add(1).write_volatile(b);
            words.add(2).write_volatile(c);
            words.add(3).write_volatile(d);
        }
    }

    #[inline(always)]
    fn bound(ctx: &SockAddrContext) -> Option<V6> {
        Self::address(ctx)
    }
}

/// The address of an IPv6 socket's call.
#[inline(always)]
fn words(ctx: &SockAddrContext) -> [u32; 4] {
    // SAFETY: fields of the program's context.
    unsafe {
        let words = &raw const (*ctx.sock_addr).user_ip6;
        one_by_one(words.cast())
    }
}

/// Four words of the program's context, of which the verifier lets one at a time be read.
///
/// # Safety
/// There are four.
#[inline(always)]
unsafe fn one_by_one(words: *const u32) -> [u32; 4] {
    // SAFETY: the caller's.
    unsafe {
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ]
    }
}

/// What an IPv6 socket addresses: IPv4 in IPv6's form, or IPv6.
#[inline(always)]
fn to_container_of_either(ctx: &SockAddrContext, call: Call) -> i32 {
    if V4InV6::address(ctx).is_some() {
        to_container::<V4InV6>(ctx, call)
    } else {
        to_container::<Ipv6>(ctx, call)
    }
}

/// Who speaks to an IPv6 socket. One with an IPv4 address may be what the process meant by one of
/// either family.
#[inline(always)]
fn to_publish_of_either(ctx: &SockAddrContext) -> i32 {
    if V4InV6::address(ctx).is_some() {
        to_publish::<V4InV6>(ctx);
    }
    to_publish::<Ipv6>(ctx)
}

/// Whether `IPV6_V6ONLY` is set, which no helper tells.
#[inline(always)]
fn is_ipv6_only(ctx: &SockAddrContext) -> bool {
    /// `skc_ipv6only` is a bit of the byte after `skc_state` in the kernel's `struct sock_common`,
    /// with which every socket begins.
    const BYTE: usize = 19;
    const BIT: u8 = 1 << 5;
    // SAFETY: the context's socket; the kernel answers it as one of its own kind, or null, and the
    // verifier checks that there is such a byte.
    unsafe {
        let socket = (*ctx.sock_addr).__bindgen_anon_1.sk.cast();
        let socket: *const u8 = match protocol(ctx) {
            protocol::TCP => bpf_skc_to_tcp6_sock(socket).cast(),
            _ => bpf_skc_to_udp6_sock(socket).cast(),
        };
        !socket.is_null() && socket.add(BYTE).read_volatile() & BIT != 0
    }
}

#[inline(always)]
fn bind<F: Form>(ctx: &SockAddrContext) -> i32 {
    if !matches!(protocol(ctx), protocol::TCP | protocol::UDP) || !is_of_host(ctx) || is_probe(ctx)
    {
        return ALLOW;
    }
    let Some(address) = F::bound(ctx) else { return ALLOW };
    if !env::publish_conflicts(protocol(ctx), &address, port(ctx)) {
        return ALLOW;
    }
    // SAFETY: sets what the call answers.
    unsafe { bpf_set_retval(-EADDRINUSE) };
    REFUSE
}

/// Whether the call's socket is connected there already.
#[inline(always)]
fn is_connected_to<A: Spoken>(ctx: &SockAddrContext, to: &SocketAddress<A>) -> bool {
    // SAFETY: the context's socket, of which the verifier lets this field be read.
    let port = unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).dst_port };
    A::peer(ctx) == to.address && Port::from_word(port) == to.port
}

/// Whether it is the agent's own, which finds out whether a port is taken by somebody else.
#[inline(always)]
fn is_probe(ctx: &SockAddrContext) -> bool {
    // SAFETY: the context's socket, of which the verifier lets this field be read.
    unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).mark == abi::PROBE_MARK }
}

#[inline(always)]
fn to_container<F: Form>(ctx: &SockAddrContext, call: Call) -> i32 {
    if !is_of_host(ctx) {
        return ALLOW;
    }
    let Some(address) = F::address(ctx) else { return ALLOW };
    let meant = SocketAddress { address, port: port(ctx), _pad: 0 };
    let sockets = F::Family::maps().sockets;
    let peer = container_of(ctx, &meant)
        .filter(|peer| !peer.address.is_v4_mapped() || call == Call::Connect);
    // The kernel goes over to IPv4 with a socket that connects, and not for a packet alone.
    if let Some(peer) = peer {
        // Without a place to remember what was meant, the answers would carry an address that the
        // process never used.
        if sockets.insert(peer, meant, REPLACE).is_ok() {
            F::set_address(ctx, peer.address);
            set_port(ctx, peer.port);
        }
    } else if call == Call::Connect || !is_connected_to(ctx, &meant) {
        // The same socket may have gone there by a publish: from now on it means what it says.
        let peer =
            SocketPeer { cookie: cookie(ctx), address: meant.address, port: meant.port, _pad: 0 };
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
fn container_of<A: Spoken>(
    ctx: &SockAddrContext,
    meant: &SocketAddress<A>,
) -> Option<SocketPeer<A>> {
    let slot = env::published(protocol(ctx), &meant.address, meant.port)?;
    // Linux takes the unspecified address for loopback when it is connected to.
    let loopback = meant.address.is_loopback() || meant.address == A::UNSPECIFIED;
    if !loopback && !env::is_local(&meant.address) {
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
fn protocol(ctx: &SockAddrContext) -> u8 {
    // SAFETY: a field of the program's context.
    unsafe { (*ctx.sock_addr).protocol as u8 }
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
