//! A netlink socket in one namespace, and the kernel's answers as errors.

use anyhow::Context as _;
use causeway_api::Error;
use nix::errno::Errno;
use rtnetlink::{Handle, new_connection};

use crate::netns::Netns;

/// A netlink socket in one namespace.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(super) handle: Handle,
}

impl Netlink {
    /// Opens a socket in `netns`; its connection task runs on the current tokio runtime.
    #[expect(
        clippy::unused_async,
        reason = "it must be called on a runtime, which async says best"
    )]
    pub async fn open(netns: &Netns) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let opened = netns.run(|| {
            let _entered = runtime.enter();
            new_connection()
        })?;
        let (connection, handle, _) = opened.with_context(|| {
            format!("cannot open a netlink socket in {}", netns.path().display())
        })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}

/// The errno in the kernel's answer; none if the error arose before the kernel answered.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    if let rtnetlink::Error::NetlinkError(message) = error {
        Some(Errno::from_raw(-message.raw_code()))
    } else {
        None
    }
}

/// The kernel's answer as an error with a code.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
pub(super) fn reason(error: rtnetlink::Error) -> Error {
    match errno(&error) {
        Some(Errno::EPERM) => Error::permission("this needs root (CAP_NET_ADMIN)"),
        Some(Errno::EOPNOTSUPP) => Error::unsupported("the kernel does not support it")
            .hint("load the module for this kind of interface"),
        Some(other) => Error::os(other),
        None => Error::kernel(error.to_string()),
    }
}
