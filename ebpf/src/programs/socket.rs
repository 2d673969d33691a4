//! The cgroup programs, for sockets of the host. A socket that addresses a published port is
//! connected to the container instead. No packet is translated, so there is no flow; the container
//! sees the host's own address on its network. A `bind(2)` to a published port fails with
//! `EADDRINUSE`.

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
    to_container::<Ipv4>(&ctx, Call::Connect)
}

/// `sendmsg(2)` with an address; without one too for an IPv6 socket that is connected to an IPv4
/// address.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    to_container::<Ipv4>(&ctx, Call::Send)
}

/// `recvmsg(2)`: translates the sender's address.
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
    fn address(ctx: &SockAddrContext) -> Option<Self::Family>;
    /// Replaces the address by another one of this form.
    fn set_address(ctx: &SockAddrContext, address: Self::Family);
    /// The address of this form that a bound socket would have. None if it would have none.
    fn bound(ctx: &SockAddrContext) -> Option<Self::Family>;
}

/// Address family of sockets.
trait Spoken: Family {
    /// Address that the call's socket is connected to.
    fn peer(ctx: &SockAddrContext) -> Self;
}

impl Spoken for V4 {
    #[inline(always)]
    fn peer(ctx: &SockAddrContext) -> Self {
        // SAFETY: S1 (context field): the context's socket, and a field that the verifier allows to
        // read. IPv6 sockets have it too.
        Self::from_word(unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).dst_ip4 })
    }
}

impl Spoken for V6 {
    #[inline(always)]
    fn peer(ctx: &SockAddrContext) -> Self {
        // SAFETY: S1 (context field): the context's socket, and four words that the verifier allows
        // to read one by one.
        unsafe {
            let words = &raw const (*(*ctx.sock_addr).__bindgen_anon_1.sk).dst_ip6;
            Self::from_words(read_words(words.cast()))
        }
    }
}

/// IPv4 address of an IPv4 socket.
struct Ipv4;

impl Form for Ipv4 {
    type Family = V4;

    #[inline(always)]
    fn address(ctx: &SockAddrContext) -> Option<V4> {
        // SAFETY: S1 (context field).
        Some(V4::from_word(unsafe { (*ctx.sock_addr).user_ip4 }))
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: V4) {
        // SAFETY: S1 (context field), which the program may write.
        unsafe { (*ctx.sock_addr).user_ip4 = address.word() }
    }

    #[inline(always)]
    fn bound(ctx: &SockAddrContext) -> Option<V4> {
        Self::address(ctx)
    }
}

/// IPv4 address of a dual-stack IPv6 socket: `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
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
        // SAFETY: S1 (context field), which the program may write.
        unsafe { (*ctx.sock_addr).user_ip6[3] = address.word() }
    }

    #[inline(always)]
    fn bound(ctx: &SockAddrContext) -> Option<V4> {
        // The unspecified address stands for every IPv4 address too.
        if words(ctx) == [0; 4] && !is_ipv6_only(ctx) {
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
    fn address(ctx: &SockAddrContext) -> Option<V6> {
        Some(V6::from_words(words(ctx)))
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: V6) {
        let [a, b, c, d] = address.words();
        // SAFETY: S1 (context field): four words, which the program may write one at a time.
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

/// Destination address of an IPv6 socket's call.
#[inline(always)]
fn words(ctx: &SockAddrContext) -> [u32; 4] {
    // SAFETY: S1 (context field): the address has four words.
    unsafe {
        let words = &raw const (*ctx.sock_addr).user_ip6;
        read_words(words.cast())
    }
}

/// Reads four words of the program's context, one at a time as the verifier demands.
///
/// # Safety
///
/// `words` points to four words of the context.
#[inline(always)]
unsafe fn read_words(words: *const u32) -> [u32; 4] {
    // SAFETY: there are four words (contract of this function).
    unsafe {
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ]
    }
}

/// Redirects the call of an IPv6 socket, whose address is IPv4-mapped or IPv6.
#[inline(always)]
fn to_container_of_either(ctx: &SockAddrContext, call: Call) -> i32 {
    if V4InV6::address(ctx).is_some() {
        to_container::<V4InV6>(ctx, call)
    } else {
        to_container::<Ipv6>(ctx, call)
    }
}

/// Translates the peer address of an IPv6 socket. Behind an IPv4-mapped address there may be a
/// publish of either family that the process addressed.
#[inline(always)]
fn to_publish_of_either(ctx: &SockAddrContext) -> i32 {
    if V4InV6::address(ctx).is_some() {
        to_publish::<V4InV6>(ctx);
    }
    to_publish::<Ipv6>(ctx)
}

/// Whether `IPV6_V6ONLY` is set. No helper returns it.
#[inline(always)]
fn is_ipv6_only(ctx: &SockAddrContext) -> bool {
    /// Offset of the byte after `skc_state` in the kernel's `struct sock_common`, with which every
    /// socket begins. It has the bit `skc_ipv6only`.
    const BYTE: usize = 19;
    const BIT: u8 = 1 << 5;
    // SAFETY: S1 (context field). The helper returns a typed socket or null, and the verifier
    // checks that it has such a byte.
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
    // SAFETY: the helper takes a number; it sets the call's return value.
    unsafe { bpf_set_retval(-EADDRINUSE) };
    REFUSE
}

/// Whether the call's socket is connected to that address already.
#[inline(always)]
fn is_connected_to<A: Spoken>(ctx: &SockAddrContext, to: &SocketAddress<A>) -> bool {
    // SAFETY: S1 (context field): the context's socket, and a field that the verifier allows to
    // read.
    let port = unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).dst_port };
    A::peer(ctx) == to.address && Port::from_word(port) == to.port
}

/// Whether the socket is the agent's own, which tests whether a port is in use.
#[inline(always)]
fn is_probe(ctx: &SockAddrContext) -> bool {
    // SAFETY: S1 (context field): the context's socket, and a field that the verifier allows to
    // read.
    unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).mark == abi::PROBE_MARK }
}

#[inline(always)]
fn to_container<F: Form>(ctx: &SockAddrContext, call: Call) -> i32 {
    if !is_of_host(ctx) {
        return ALLOW;
    }
    let Some(address) = F::address(ctx) else { return ALLOW };
    let addressed = SocketAddress { address, port: port(ctx), _pad: 0 };
    let sockets = F::Family::maps().sockets;
    let peer = container_of(ctx, &addressed)
        .filter(|peer| !peer.address.is_v4_mapped() || call == Call::Connect);
    // The kernel changes a socket to IPv4 when it connects, but not for a single packet.
    if let Some(peer) = peer {
        // Without room to remember the publish's address, replies would carry an address that the
        // process never used.
        if sockets.insert(peer, addressed, REPLACE).is_ok() {
            F::set_address(ctx, peer.address);
            set_port(ctx, peer.port);
        }
    } else if call == Call::Connect || !is_connected_to(ctx, &addressed) {
        // The socket may have reached this address through a publish before. From now on the
        // address means itself.
        let peer = SocketPeer {
            cookie: cookie(ctx),
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
fn to_publish<F: Form>(ctx: &SockAddrContext) -> i32 {
    if !is_of_host(ctx) {
        return ALLOW;
    }
    let Some(address) = F::address(ctx) else { return ALLOW };
    let peer = SocketPeer { cookie: cookie(ctx), address, port: port(ctx), _pad: 0 };
    // SAFETY: S2 (map value); it is copied at once, and a value is never changed but only replaced.
    if let Some(addressed) = unsafe { F::Family::maps().sockets.get(peer).copied() } {
        F::set_address(ctx, addressed.address);
        set_port(ctx, addressed.port);
    }
    ALLOW
}

#[inline(always)]
fn container_of<A: Spoken>(
    ctx: &SockAddrContext,
    addressed: &SocketAddress<A>,
) -> Option<SocketPeer<A>> {
    let slot = env::published(protocol(ctx), &addressed.address, addressed.port)?;
    // `connect(2)` to the unspecified address reaches loopback in Linux.
    let loopback = addressed.address.is_loopback() || addressed.address == A::UNSPECIFIED;
    if !loopback && !env::is_local(&addressed.address) {
        return None;
    }
    let publish = A::maps().publishes.get(slot)?;
    Some(SocketPeer {
        cookie: cookie(ctx),
        address: publish.container,
        port: publish.container_port_of(addressed.port),
        _pad: 0,
    })
}

#[inline(always)]
fn is_of_host(ctx: &SockAddrContext) -> bool {
    // SAFETY: S1 (context): the helper reads the namespace of the context's socket.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) == maps::host_cookie() }
}

#[inline(always)]
fn cookie(ctx: &SockAddrContext) -> [u32; 2] {
    // SAFETY: S1 (context): the helper reads the cookie of the context's socket.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    [cookie as u32, (cookie >> 32) as u32]
}

#[inline(always)]
fn protocol(ctx: &SockAddrContext) -> u8 {
    // SAFETY: S1 (context field).
    unsafe { (*ctx.sock_addr).protocol as u8 }
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> Port {
    // SAFETY: S1 (context field). The port is its first two bytes.
    Port::from_word(unsafe { (*ctx.sock_addr).user_port } as u16)
}

#[inline(always)]
fn set_port(ctx: &SockAddrContext, port: Port) {
    // SAFETY: S1 (context field), which the program may write.
    unsafe { (*ctx.sock_addr).user_port = u32::from(port.word()) }
}
