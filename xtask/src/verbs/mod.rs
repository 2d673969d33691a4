//! One file for each verb of `cargo xtask`.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod ci;
pub(crate) mod fuzz;
pub(crate) mod lab;
pub(crate) mod objdiff;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod test;
