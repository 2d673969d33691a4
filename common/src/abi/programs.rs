//! Names of the programs in the object.

/// tc ingress on a host side.
pub const FROM_CONTAINER: &str = "from_container";

/// tc ingress on an uplink.
pub const FROM_UPLINK: &str = "from_uplink";

/// tc egress on an uplink.
pub const TO_UPLINK: &str = "to_uplink";

/// XDP on an uplink.
pub const XDP_UPLINK: &str = "xdp_uplink";

/// tc egress on a bridge.
pub const TO_BRIDGE: &str = "to_bridge";

/// Run by the agent: removes flows.
pub const FLOW_GC: &str = "flow_gc";

/// cgroup, `connect(2)`.
pub const CONNECT4: &str = "connect4";

/// cgroup, `sendmsg(2)` without connect.
pub const SENDMSG4: &str = "sendmsg4";

/// cgroup, `recvmsg(2)`.
pub const RECVMSG4: &str = "recvmsg4";

/// cgroup, `getpeername(2)`.
pub const GETPEERNAME4: &str = "getpeername4";

/// Every cgroup program: those above, and the same for IPv6 sockets, which may speak IPv4 too.
pub const SOCKETS: [&str; 8] = [
    CONNECT4,
    SENDMSG4,
    RECVMSG4,
    GETPEERNAME4,
    "connect6",
    "sendmsg6",
    "recvmsg6",
    "getpeername6",
];

/// cgroup, `bind(2)`, of IPv4 and IPv6 sockets.
pub const BINDS: [&str; 2] = ["bind4", "bind6"];
