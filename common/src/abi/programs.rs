//! Every program of the object, once: its name, what it is attached to, and when it is loaded.

/// What a program is attached to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attachment {
    /// An interface, by tc.
    Tc,
    /// An interface, by XDP.
    Xdp,
    /// The cgroup of the host's processes, for system calls on the addresses of sockets.
    SocketAddress,
    /// The same, for `bind(2)`.
    SocketBind,
    /// Nothing: the agent runs it.
    TestRun,
}

/// A program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in the object, in pins and in what `bpftool` lists.
    pub name: &'static str,
    /// What it is attached to.
    pub attachment: Attachment,
}

impl Program {
    /// Whether it is loaded when the agent starts. Every other one is loaded where it is attached:
    /// it may not be wanted, and a kernel that refuses it keeps all the rest.
    pub const fn is_always_loaded(&self) -> bool {
        !matches!(self.attachment, Attachment::Xdp | Attachment::SocketBind)
    }
}

macro_rules! programs {
    ($($(#[$meta:meta])* $name:ident = $string:literal, $attachment:ident;)+) => {
        $($(#[$meta])* pub const $name: &str = $string;)+

        /// Every program.
        pub const ALL: &[Program] =
            &[$(Program { name: $string, attachment: Attachment::$attachment }),+];
    };
}

programs! {
    /// tc ingress of a host side: what a container sends. On a netkit pair also where it sends it.
    FROM_CONTAINER = "from_container", Tc;
    /// tc ingress of an uplink: replies, and packets for published ports.
    FROM_UPLINK = "from_uplink", Tc;
    /// tc egress of an uplink: what the host itself sends.
    TO_UPLINK = "to_uplink", Tc;
    /// tc egress of a bridge: what the host's stack sends into a network.
    TO_BRIDGE = "to_bridge", Tc;
    /// XDP on an uplink: what is sure before there is an skb.
    XDP_UPLINK = "xdp_uplink", Xdp;
    /// Removes flows, by key.
    FLOW_GC = "flow_gc", TestRun;
    /// `connect(2)` of IPv4 sockets.
    CONNECT4 = "connect4", SocketAddress;
    /// `sendmsg(2)` without connect, of IPv4 sockets.
    SENDMSG4 = "sendmsg4", SocketAddress;
    /// `recvmsg(2)` of IPv4 sockets.
    RECVMSG4 = "recvmsg4", SocketAddress;
    /// `getpeername(2)` of IPv4 sockets.
    GETPEERNAME4 = "getpeername4", SocketAddress;
    /// `connect(2)` of IPv6 sockets, which may speak IPv4 too; likewise those below.
    CONNECT6 = "connect6", SocketAddress;
    /// `sendmsg(2)` without connect, of IPv6 sockets.
    SENDMSG6 = "sendmsg6", SocketAddress;
    /// `recvmsg(2)` of IPv6 sockets.
    RECVMSG6 = "recvmsg6", SocketAddress;
    /// `getpeername(2)` of IPv6 sockets.
    GETPEERNAME6 = "getpeername6", SocketAddress;
    /// `bind(2)` of IPv4 sockets.
    BIND4 = "bind4", SocketBind;
    /// `bind(2)` of IPv6 sockets.
    BIND6 = "bind6", SocketBind;
}

/// The names of the programs with that attachment.
pub fn attached_to(attachment: Attachment) -> impl Iterator<Item = &'static str> {
    ALL.iter().filter(move |program| program.attachment == attachment).map(|program| program.name)
}

/// The program with that name.
pub fn by_name(name: &str) -> Option<&'static Program> {
    ALL.iter().find(|program| program.name == name)
}
