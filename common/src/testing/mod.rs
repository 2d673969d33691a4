//! The environment over ordinary collections, and the hosts and packets of the tests.

#[cfg(test)]
pub(crate) mod fixture;
pub mod model;
pub mod steps;
