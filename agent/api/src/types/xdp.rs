//! Whether uplinks' drivers run a program of ours (XDP).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Xdp {
    /// Where the driver can, and it takes nothing for good from the host's own traffic.
    Auto,
    /// Wherever the driver can.
    On,
    /// Nowhere. Unasked, because many cards reset their queues, and some their link, when a program
    /// comes or goes.
    #[default]
    Off,
}

impl FromStr for Xdp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(Error::invalid(format!("'{text}' is not auto, on or off"))),
        }
    }
}
