//! The one task that owns all state: it decides what exists, makes it, and writes it into the
//! datapath.
//!
//! Requests are answered one after the other, so nothing here is shared or locked. A verb, the
//! configuration file, the start over an earlier agent's state and a change of the host all cause
//! changes by the same steps:
//!
//! 1. `observed`: what the host has, and what is in the datapath.
//! 2. `diff`: which `change`s lead from the state to what is wanted. It chooses what the request
//!    leaves open, and fails if the request contradicts the state or itself.
//! 3. `validate`: whether the host allows the changes. `up --check` ends here.
//! 4. `apply`: the changes, one after the other. The state file names an object before it is
//!    made, and what fails half-way is taken back.
//!
//! `resource` makes and removes each kind of object. `installed` has what this agent has put into
//! the datapath. `start` and `serve` call the steps; [`teardown`] is `down`.

mod agent;
mod apply;
mod change;
mod diff;
mod draft;
mod drivers;
mod host;
mod installed;
mod observed;
mod resource;
mod serve;
mod snapshot;
mod start;
pub mod teardown;
mod validate;
mod views;
mod warn_once;

pub use self::{
    agent::Agent,
    serve::End,
    start::{Start, check},
};
