//! Network sysctls of one namespace. A value is written only if it differs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use causeway_api::Error;

use crate::netns::Netns;

/// Reads `/proc/sys/net/KEY` in `netns` (`KEY` as `ipv4/ip_forward`), without its newline; none if
/// there is no such key.
pub fn get(netns: &Netns, key: &str) -> anyhow::Result<Option<String>> {
    let path = path_of(key)?;
    netns
        .run(|| read(&path))?
        .with_context(|| format!("cannot read sysctl net/{key} in {}", netns.path().display()))
}

/// Writes a value, and returns the former one if it differs.
pub fn set(netns: &Netns, key: &str, value: &str) -> anyhow::Result<Option<String>> {
    let path = path_of(key)?;
    netns
        .run(|| {
            let Some(before) = read(&path)? else {
                bail!(Error::not_found("there is no such sysctl"))
            };
            if same(&before, value) {
                return Ok(None);
            }
            match fs::write(&path, value) {
                Ok(()) => Ok(Some(before)),
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                    bail!(Error::permission(format!(
                        "it is '{before}', and /proc/sys is mounted read-only"
                    )))
                }
                Err(error) => bail!(Error::os(error).context(format!("it is '{before}'"))),
            }
        })?
        .with_context(|| {
            format!("cannot set sysctl net/{key} to '{value}' in {}", netns.path().display())
        })
}

fn path_of(key: &str) -> anyhow::Result<PathBuf> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    ensure!(
        key.split('/').all(plain),
        Error::internal(format!("'{key}' is not the name of a sysctl"))
    );
    Ok(Path::new("/proc/sys/net").join(key))
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(value) => Ok(Some(value.trim_end_matches('\n').to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::os(error).into()),
    }
}

/// Compares values as lists of words: the kernel prints lists with tabs.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_below_its_folder() {
        for key in ["", "/", "../kernel/hostname", "ipv4/../../kernel/x", "ipv4//x", "/etc/passwd"]
        {
            assert!(path_of(key).is_err(), "{key}");
        }
        assert_eq!(
            path_of("ipv4/conf/eth0.5/rp_filter").unwrap(),
            Path::new("/proc/sys/net/ipv4/conf/eth0.5/rp_filter")
        );
    }

    #[test]
    fn lists_are_equal_whatever_is_between_their_numbers() {
        assert!(same("32768\t60999", "32768 60999"));
        assert!(!same("1", "0"));
    }
}
