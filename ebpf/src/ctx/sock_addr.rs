//! The context of a cgroup program for a system call on a socket.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval, bpf_skc_to_tcp6_sock,
        bpf_skc_to_udp6_sock,
    },
    programs::SockAddrContext,
};
use causeway_common::wire::{
    address::{Port, V4, V6},
    protocol,
};

/// The call, its address and its socket.
#[derive(Clone, Copy)]
pub(crate) struct SockAddr<'a>(&'a SockAddrContext);

impl<'a> SockAddr<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a SockAddrContext) -> Self {
        Self(context)
    }

    /// IANA protocol number.
    #[inline(always)]
    pub(crate) fn protocol(self) -> u8 {
        // SAFETY: S1: a field that the program may read.
        unsafe { (*self.0.sock_addr).protocol as u8 }
    }

    /// The port of the call's address.
    #[inline(always)]
    pub(crate) fn port(self) -> Port {
        // SAFETY: S1: a field that the program may read. The port is its first two bytes.
        Port::from_word(unsafe { (*self.0.sock_addr).user_port } as u16)
    }

    /// Replaces the port of the call's address.
    #[inline(always)]
    pub(crate) fn set_port(self, port: Port) {
        // SAFETY: S1: a field that the program may write.
        unsafe { (*self.0.sock_addr).user_port = u32::from(port.word()) }
    }

    /// The address of an IPv4 socket's call.
    #[inline(always)]
    pub(crate) fn ipv4(self) -> V4 {
        // SAFETY: S1: a field that the program may read.
        V4::from_word(unsafe { (*self.0.sock_addr).user_ip4 })
    }

    /// Replaces the address of an IPv4 socket's call.
    #[inline(always)]
    pub(crate) fn set_ipv4(self, address: V4) {
        // SAFETY: S1: a field that the program may write.
        unsafe { (*self.0.sock_addr).user_ip4 = address.word() }
    }

    /// The address of an IPv6 socket's call.
    #[inline(always)]
    pub(crate) fn ipv6(self) -> V6 {
        // SAFETY: S1: the field has four words.
        V6::from_words(unsafe { read_words((&raw const (*self.0.sock_addr).user_ip6).cast()) })
    }

    /// Replaces the address of an IPv6 socket's call.
    #[inline(always)]
    pub(crate) fn set_ipv6(self, address: V6) {
        let [a, b, c, d] = address.words();
        // SAFETY: S1: four words, which the program may write one at a time.
        unsafe {
            let words = &raw mut (*self.0.sock_addr).user_ip6;
            let words: *mut u32 = words.cast();
            words.write_volatile(a);
            words.add(1).write_volatile(b);
            words.add(2).write_volatile(c);
            words.add(3).write_volatile(d);
        }
    }

    /// Replaces the IPv4 address in an IPv4-mapped one.
    #[inline(always)]
    pub(crate) fn set_v4_mapped(self, address: V4) {
        // SAFETY: S1: a word that the program may write.
        unsafe { (*self.0.sock_addr).user_ip6[3] = address.word() }
    }

    /// The IPv4 address that the socket is connected to.
    #[inline(always)]
    pub(crate) fn peer_ipv4(self) -> V4 {
        // SAFETY: S1: the context's socket, and a field that the verifier allows to read. IPv6
        // sockets have it too.
        V4::from_word(unsafe { (*(*self.0.sock_addr).__bindgen_anon_1.sk).dst_ip4 })
    }

    /// The IPv6 address that the socket is connected to.
    #[inline(always)]
    pub(crate) fn peer_ipv6(self) -> V6 {
        // SAFETY: S1: the context's socket, and four words that the verifier allows to read one by
        // one.
        unsafe {
            let words = &raw const (*(*self.0.sock_addr).__bindgen_anon_1.sk).dst_ip6;
            V6::from_words(read_words(words.cast()))
        }
    }

    /// The port that the socket is connected to.
    #[inline(always)]
    pub(crate) fn peer_port(self) -> Port {
        // SAFETY: S1: the context's socket, and a field that the verifier allows to read.
        Port::from_word(unsafe { (*(*self.0.sock_addr).__bindgen_anon_1.sk).dst_port })
    }

    /// The socket's mark.
    #[inline(always)]
    pub(crate) fn mark(self) -> u32 {
        // SAFETY: S1: the context's socket, and a field that the verifier allows to read.
        unsafe { (*(*self.0.sock_addr).__bindgen_anon_1.sk).mark }
    }

    /// Whether `IPV6_V6ONLY` is set. No helper returns it.
    #[inline(always)]
    pub(crate) fn is_ipv6_only(self) -> bool {
        /// Offset of the byte after `skc_state` in the kernel's `struct sock_common`, with which
        /// every socket begins. It has the bit `skc_ipv6only`.
        const BYTE: usize = 19;
        const BIT: u8 = 1 << 5;
        // SAFETY: S1: the helper returns a typed socket or null, and the verifier checks that it
        // has such a byte.
        unsafe {
            let socket = (*self.0.sock_addr).__bindgen_anon_1.sk.cast();
            let socket: *const u8 = match self.protocol() {
                protocol::TCP => bpf_skc_to_tcp6_sock(socket).cast(),
                _ => bpf_skc_to_udp6_sock(socket).cast(),
            };
            !socket.is_null() && socket.add(BYTE).read_volatile() & BIT != 0
        }
    }

    /// Cookie of the socket's network namespace.
    #[inline(always)]
    pub(crate) fn netns_cookie(self) -> u64 {
        // SAFETY: S1: the helper reads the namespace of the context's socket.
        unsafe { bpf_get_netns_cookie(self.0.as_ptr()) }
    }

    /// The socket's cookie, as two words.
    #[inline(always)]
    pub(crate) fn socket_cookie(self) -> [u32; 2] {
        // SAFETY: S1: the helper reads the cookie of the context's socket.
        let cookie = unsafe { bpf_get_socket_cookie(self.0.as_ptr()) };
        [cookie as u32, (cookie >> 32) as u32]
    }

    /// Sets the error that the running call fails with, if the program refuses it.
    #[inline(always)]
    pub(crate) fn set_error(errno: i32) {
        // SAFETY: the helper takes a number.
        unsafe { bpf_set_retval(-errno) };
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
