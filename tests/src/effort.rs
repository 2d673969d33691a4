//! How often a test does what it does very often.

use std::env;

/// As often as said; a twentieth of that on an emulated processor (where `CAUSEWAY_EMULATED` is
/// set): what takes a second elsewhere takes half a minute there, and what a kernel bears is tried
/// elsewhere.
pub fn many(times: u32) -> u32 {
    if env::var_os("CAUSEWAY_EMULATED").is_some() { times / 20 } else { times }
}
