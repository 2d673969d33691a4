//! Frames that nobody thought of, in histories that nobody thought of, through the decisions of `causeway-common`, and what must hold after
//! each of them.
//!
//! A target is a function of bytes that panics where something does not hold. libFuzzer drives it (`cargo xtask fuzz`); what was saved of
//! that is in `corpus/` and is replayed by a plain `cargo test`. The same traffic goes through the programs in the kernel in
//! `tests/tests/frames.rs`, where [`mod@programs`] says what each must do to the byte.

pub mod errors;
pub mod history;
pub mod parse;
pub mod programs;
pub mod scene;
pub mod traffic;
pub mod wire;
