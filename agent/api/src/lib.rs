//! What a program needs to talk to causeway's agent.
//!
//! The agent serves a unix socket, `/run/causeway/INSTANCE.sock`. A connection carries one
//! [`Request`] and one [`Reply`], each a line of JSON; [`client::ask`] does that and returns the
//! object that the request's documentation names. The objects in the replies are those that the
//! command line prints with `--json`.
//!
//! - [`request`]: every verb, with what it takes.
//! - [`spec`]: what the verbs that make something ask for; the configuration file uses it too.
//! - [`response`]: what the agent answers.
//! - [`types`]: the values in them (addresses, ports, names, options), each with its text form and
//!   its checks.
//! - [`client`]: the asking side of the socket.
//! - [`messages`]: errors as one line, and hints that can be typed as they stand.
//!
//! The crate has no part in the kernel side: it builds without an eBPF toolchain, and a plugin or
//! an exporter needs nothing else of causeway.

pub mod client;
pub mod messages;
pub mod request;
pub mod response;
pub mod spec;
pub mod types;

pub use self::{
    request::Request,
    response::{
        Container, ContainerState, Direction, Draining, Endpoint, Flow, Flushed, Network, Publish,
        Removed, Reply, Stats, Uplink, XdpMode,
    },
    spec::{ContainerSpec, NetworkSpec, PublishAdd, PublishMove},
};
