//! What a program needs to talk to causeway's agent: plugins, exporters, and `causeway` itself.
//!
//! The agent of each instance serves a unix socket, `/run/causeway/INSTANCE.sock`. A connection
//! carries one [`Request`] and one [`Reply`]; [`protocol`] has the framing and the version rule.
//! The objects in the replies are those that the command line prints with `--json`.
//!
//! [`client::ask`] sends a request and returns the object that the request's documentation names.
//! It blocks: no async runtime is needed.
//!
//! ```no_run
//! use causeway_api::{Container, Request, client};
//!
//! # fn main() -> Result<(), causeway_api::Error> {
//! let containers: Vec<Container> = client::ask("default", &Request::ContainerList)?;
//! for container in containers {
//!     println!("{} {:?}", container.name, container.state);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A failure is an [`Error`], whether the agent or the client found it: an [`ErrorCode`] for
//! programs, a message and a remedy for people.
//!
//! - [`request`]: every verb with its fields.
//! - [`spec`]: what the verbs that make something ask for; the configuration file uses it too.
//! - [`response`]: the objects in replies.
//! - [`types`]: the values in them (addresses, ports, names, options), each with its text form and
//!   its checks.
//! - [`error`]: codes, messages, remedies.
//! - [`protocol`], [`client`]: the socket.
//!
//! The crate builds without an eBPF toolchain, and needs nothing else of causeway but `no_std`
//! constants.

pub mod client;
pub mod error;
mod instance;
pub mod protocol;
pub mod request;
pub mod response;
pub mod spec;
pub mod types;

pub use self::{
    error::{Error, ErrorCode, Failure},
    request::Request,
    response::{
        Change, ChangeAction, ChangedObject, Container, ContainerState, Direction, Draining,
        Endpoint, Flow, Flushed, Network, Publish, Removed, Reply, Stats, Uplink, XdpMode,
    },
    spec::{ContainerSpec, NetworkSpec, PublishAdd, PublishMove},
};
