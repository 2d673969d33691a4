//! Fuzz targets: random frames in random histories go through the decisions of `causeway-common`,
//! and the invariants are checked after each of them.
//!
//! A target is a function of bytes that panics where an invariant does not hold. libFuzzer drives
//! it (`cargo xtask fuzz`); the corpus that it saved is in `corpus/` and is replayed by a plain
//! `cargo test`. The same traffic goes through the kernel's programs in `tests/tests/frames.rs`,
//! where [`mod@programs`] gives the expected bytes of each frame.

pub mod errors;
pub mod fixture;
pub mod history;
pub mod nat64;
pub mod parse;
pub mod programs;
pub mod traffic;
pub mod wire;

/// Runs a target for the family that the first byte selects: IPv4 if it is even. `both!(run_family,
/// data)`.
macro_rules! both {
    ($run:ident, $data:expr) => {
        match $data.split_first() {
            Some((family, data)) if family % 2 == 0 => {
                $run::<causeway_common::wire::address::V4>(data)
            }
            Some((_, data)) => $run::<causeway_common::wire::address::V6>(data),
            None => {}
        }
    };
}
use both;
