//! Versions of kernels, and their build options.

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

/// A kernel version: major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kernel(u32, u32);

impl Kernel {
    /// Parses a version or a release: `6.1`, `6.1.0-56-cloud-amd64`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let number = |part: Option<&str>| {
            part?.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
        };
        let mut parts = text.split('.');
        let version = number(parts.next()).zip(number(parts.next()));
        let (major, minor) =
            version.with_context(|| format!("'{text}' is not a kernel version such as 6.1"))?;
        Ok(Self(major, minor))
    }

    /// The version of the running kernel.
    pub(crate) fn running() -> Result<Self> {
        Self::parse(&Self::release()?)
    }

    /// The release of the running kernel.
    pub(crate) fn release() -> Result<String> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")
            .context("cannot read the kernel's release")?;
        Ok(release.trim().to_owned())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The build options of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// Debian's kernel, which has every option that the tests need.
    Debian,
    /// A kernel with this configuration; empty if it is not known.
    Custom(String),
}

impl Build {
    /// The build options of the running kernel.
    pub(crate) fn running() -> Self {
        let unpacked =
            Command::new("gzip").args(["--decompress", "--stdout", "/proc/config.gz"]).output();
        let config = unpacked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        Self::Custom(config.unwrap_or_default())
    }

    /// Whether an option such as `CONFIG_XDP_SOCKETS` is set.
    pub(crate) fn has(&self, option: &str) -> bool {
        match self {
            Self::Debian => true,
            Self::Custom(config) => config
                .lines()
                .any(|line| line.strip_prefix(option).is_some_and(|rest| rest.starts_with('='))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_by_number() {
        let [old, new] =
            ["6.1.0-56-cloud-amd64", "6.12.117+deb12"].map(|text| Kernel::parse(text).unwrap());
        assert!(old < new);
        assert_eq!((old.to_string(), new.to_string()), ("6.1".into(), "6.12".into()));
        assert!(Kernel::parse("six").is_err());
    }
}
