//! The XDP program on uplinks.

use std::fs;

use anyhow::Context as _;
use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use causeway_api::Error;
use causeway_common::abi::programs;
use nix::errno::Errno;

use super::Attached;
use crate::datapath::{object, pins::unpin, types::Interface};

impl Attached {
    /// Attaches the XDP program to the driver of an uplink, or replaces that of the last agent.
    pub(in crate::datapath) fn put_xdp(&mut self, uplink: &Interface) -> anyhow::Result<()> {
        if self.xdp.contains(&uplink.index) {
            return Ok(());
        }
        let pin = self.pins.link(&pin_name(uplink.index));
        let program: &mut Xdp = self
            .ebpf
            .program_mut(programs::XDP_UPLINK)
            .context("the object lacks the XDP program")?
            .try_into()?;
        load(program)?;
        if let Ok(kept) = PinnedLink::from_pin(&pin) {
            // As for tc: a link whose interface is gone takes no program.
            if let Ok(id) = program.attach_to_link(XdpLink::try_from(FdLink::from(kept))?) {
                drop(program.take_link(id)?);
                self.xdp.insert(uplink.index);
                return Ok(());
            }
            unpin(&pin)?;
        }
        self.pins.remove_xdp_of_other_layouts(uplink.index)?;
        let id = program
            .attach_to_if_index(uplink.index, XdpMode::Driver)
            .map_err(|error| driver_error(&error))?;
        // A link, or it would end with the agent; the older way of attaching has failed for the
        // same reason before.
        FdLink::try_from(program.take_link(id)?)?
            .pin(&pin)
            .with_context(|| format!("pinning {}", pin.display()))?;
        self.xdp.insert(uplink.index);
        Ok(())
    }

    /// Detaches from an uplink. Succeeds if absent.
    pub(in crate::datapath) fn remove_xdp(&mut self, index: u32) -> anyhow::Result<()> {
        self.xdp.remove(&index);
        unpin(&self.pins.link(&pin_name(index)))
    }

    /// Detaches from uplinks to which an earlier agent has attached and this one has not.
    pub(in crate::datapath) fn settle_xdp(&mut self) -> anyhow::Result<()> {
        let folder = self.pins.links();
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let index = entry.file_name().to_str().and_then(index_of);
            if index.is_some_and(|index| !self.xdp.contains(&index)) {
                unpin(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The program. It is loaded once it was attached.
    pub(in crate::datapath) fn xdp_program(&self) -> anyhow::Result<&Xdp> {
        Ok(self
            .ebpf
            .program(programs::XDP_UPLINK)
            .context("the object lacks the XDP program")?
            .try_into()?)
    }
}

/// Loads the program before the first attachment, so that a kernel that refuses it keeps the rest.
fn load(program: &mut Xdp) -> anyhow::Result<()> {
    if program.fd().is_ok() {
        return Ok(());
    }
    program.load().map_err(|error| object::explain(programs::XDP_UPLINK, error))
}

/// The reason for which a driver refuses the program.
fn driver_error(error: &ProgramError) -> Error {
    let code = if let ProgramError::SyscallError(error) = error {
        error.io_error.raw_os_error()
    } else if let ProgramError::XdpError(_) = error {
        // The older way, after the kernel has refused the newer one.
        Some(Errno::EINVAL as i32)
    } else {
        None
    };
    match code.map(Errno::from_raw) {
        Some(Errno::EOPNOTSUPP) => Error::unsupported(
            "its driver does not run XDP programs, or not with the offloads that are on",
        ),
        Some(Errno::EBUSY | Errno::EEXIST) => {
            Error::in_use("another XDP program is attached ('ip link show' names it)")
        }
        Some(Errno::ERANGE | Errno::EMSGSIZE | Errno::E2BIG) => {
            Error::unsupported("its MTU, or its other end's, is too large for its driver's XDP")
        }
        Some(Errno::EINVAL) => Error::unsupported(
            "its driver refuses it, as most do where the MTU is too large for XDP or LRO is on",
        ),
        Some(other) => Error::os(other).context("its driver refuses it"),
        None => Error::kernel(error.to_string()),
    }
}

fn pin_name(index: u32) -> String {
    format!("{}-{index}", programs::XDP_UPLINK)
}

/// Interface index of the uplink, from the name of a pin.
fn index_of(pin: &str) -> Option<u32> {
    pin.strip_prefix(programs::XDP_UPLINK)?.strip_prefix('-')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn driver_errors_are_told_in_words() {
        let said = |code: Errno| {
            let io_error = io::Error::from_raw_os_error(code as i32);
            driver_error(&ProgramError::SyscallError(aya::sys::SyscallError {
                call: "bpf_link_create",
                io_error,
            }))
            .to_string()
        };
        for (code, word) in [
            (Errno::EOPNOTSUPP, "does not run XDP"),
            (Errno::EBUSY, "another XDP program"),
            (Errno::EEXIST, "another XDP program"),
            (Errno::ERANGE, "MTU"),
            (Errno::EMSGSIZE, "MTU"),
            (Errno::EINVAL, "MTU"),
            (Errno::ENOSPC, "No space"),
        ] {
            assert!(said(code).contains(word), "{code}: {}", said(code));
            assert!(!said(code).contains('\n'));
        }
    }

    #[test]
    fn pin_names_give_uplink_indexes() {
        assert_eq!(index_of(&pin_name(7)), Some(7));
        for pin in
            ["from_uplink-7", "to_uplink-7", "xdp_uplink", "xdp_uplink-", "xdp_uplink-x", "bind4"]
        {
            assert_eq!(index_of(pin), None, "{pin}");
        }
    }
}
