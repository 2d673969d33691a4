//! Where tc programs are attached.

use aya::programs::TcAttachType;
use causeway_common::abi::programs;

/// A place where a tc program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::datapath) enum Hook {
    /// Ingress of an uplink.
    Uplink,
    /// Egress of an uplink.
    UplinkOut,
    /// Egress of a bridge.
    Bridge,
    /// Ingress of a host side.
    HostSide,
    /// What a container sends, where it sends it: the other end of a host side that is netkit. The
    /// host side's ingress gets what was not decided there.
    ContainerSide,
}

impl Hook {
    pub(super) const ALL: [Self; 5] =
        [Self::Uplink, Self::UplinkOut, Self::Bridge, Self::HostSide, Self::ContainerSide];

    /// Those of an interface that was there before us.
    pub(super) const OF_UPLINK: [Self; 2] = [Self::Uplink, Self::UplinkOut];

    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Uplink => programs::FROM_UPLINK,
            Self::UplinkOut => programs::TO_UPLINK,
            Self::Bridge => programs::TO_BRIDGE,
            Self::HostSide | Self::ContainerSide => programs::FROM_CONTAINER,
        }
    }

    /// What its pins are called by.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::ContainerSide => "container_side",
            Self::Uplink | Self::UplinkOut | Self::Bridge | Self::HostSide => self.program(),
        }
    }

    pub(super) const fn direction(self) -> TcAttachType {
        match self {
            Self::Uplink | Self::HostSide | Self::ContainerSide => TcAttachType::Ingress,
            Self::UplinkOut | Self::Bridge => TcAttachType::Egress,
        }
    }
}
