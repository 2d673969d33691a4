//! The link type of containers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A type of link whose interfaces come in pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// Virtual Ethernet. On every kernel.
    #[default]
    Veth,
    /// netkit (Linux 6.11): its BPF program runs in the sender's context, without the backlog queue
    /// of veth.
    Netkit,
}

impl Device {
    /// Every type.
    pub const ALL: [Self; 2] = [Self::Veth, Self::Netkit];

    /// The kernel's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::Netkit => "netkit",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match Self::ALL.into_iter().find(|device| device.name() == text) {
            Some(device) => Ok(device),
            None => Err(Error::invalid(format!("'{text}' is not veth or netkit"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for device in Device::ALL {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
            assert_eq!(serde_json::to_value(device).unwrap(), device.name());
        }
        assert!("Netkit".parse::<Device>().is_err());
    }
}
