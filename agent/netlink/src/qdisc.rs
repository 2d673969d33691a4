//! The clsact queueing discipline, which holds filters where the kernel has no tcx (before 6.6).

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::packet_route::tc::TcHandle;

use crate::netlink::{Netlink, errno, reason};

/// `TC_H_CLSACT`: the parent of clsact.
const PARENT: u32 = 0xffff_fff1;
/// Handle of clsact.
const HANDLE: u32 = 0xffff_0000;

impl Netlink {
    /// Removes the clsact qdisc of an interface unless it has filters of other programs. Succeeds
    /// if absent.
    pub async fn delete_empty_clsact(&self, index: u32) -> anyhow::Result<()> {
        let tried = || format!("cannot remove the clsact qdisc of interface number {index}");
        let number = i32::try_from(index).with_context(tried)?;
        let filters = |egress: bool| {
            let handle = self.handle.clone();
            async move {
                let request = handle.traffic_filter(number).get();
                let request = if egress { request.egress() } else { request.ingress() };
                let answer: Result<Vec<_>, _> = request.execute().try_collect().await;
                // Without the qdisc the request fails.
                answer.is_ok_and(|filters| !filters.is_empty())
            }
        };
        if filters(false).await || filters(true).await {
            return Ok(());
        }
        let mut request = self.handle.qdisc().del(number);
        request.message_mut().header.parent = TcHandle::from(PARENT);
        request.message_mut().header.handle = TcHandle::from(HANDLE);
        match request.execute().await {
            Err(error)
                if !matches!(
                    errno(&error),
                    Some(Errno::ENODEV | Errno::ENOENT | Errno::EINVAL)
                ) =>
            {
                Err(reason(error)).with_context(tried)
            }
            _ => Ok(()),
        }
    }
}
