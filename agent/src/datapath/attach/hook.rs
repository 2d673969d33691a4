//! Where tc programs are attached.

use aya::programs::TcAttachType;
use causeway_common::abi::programs;

/// A hook of tc programs.
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
    /// Egress of the container side of a netkit pair. The host side's ingress gets what was not
    /// decided there.
    ContainerSide,
}

impl Hook {
    pub(super) const ALL: [Self; 5] =
        [Self::Uplink, Self::UplinkOut, Self::Bridge, Self::HostSide, Self::ContainerSide];

    /// Hooks of uplinks, which outlive the instance.
    pub(super) const OF_UPLINK: [Self; 2] = [Self::Uplink, Self::UplinkOut];

    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Uplink => programs::FROM_UPLINK,
            Self::UplinkOut => programs::TO_UPLINK,
            Self::Bridge => programs::TO_BRIDGE,
            Self::HostSide | Self::ContainerSide => programs::FROM_CONTAINER,
        }
    }

    /// The prefix of the names of its pins.
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
