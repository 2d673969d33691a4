//! Whether uplinks' drivers run a program of ours (XDP).

use std::str::FromStr;

use anyhow::bail;
use serde::{Deserialize, Serialize};

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
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => bail!("'{text}' is not auto, on or off"),
        }
    }
}
