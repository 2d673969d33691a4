//! The XDP setting of uplinks.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Where the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Xdp {
    /// Where native XDP is supported and host traffic is unaffected.
    Auto,
    /// Wherever native XDP is supported.
    On,
    /// Nowhere. The default, because many cards reset their queues, and some their link, when a
    /// program is attached or detached.
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
