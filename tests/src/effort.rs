//! How often tests repeat what they do many thousand times.

use std::env;

/// `times`, or a twentieth of it on an emulated processor (`CAUSEWAY_EMULATED` is set), which needs
/// half a minute for what takes a second elsewhere. Load is tested on real processors.
pub fn many(times: u32) -> u32 {
    if env::var_os("CAUSEWAY_EMULATED").is_some() { times / 20 } else { times }
}
