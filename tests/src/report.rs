//! What tests report to xtask besides their results, as lines in the file that `CAUSEWAY_REPORT`
//! names, or on stderr without it.

use std::{
    env,
    fs::File,
    io::{self, Write as _},
};

use causeway_api::types::device::Device;
use causeway_netlink::Netlink;
use nix::sys::utsname;

use crate::{
    family::{Family, V4, V6},
    place,
};

/// Reports how many instructions the verifier processed to accept a program.
pub fn instructions(program: &str, count: u64) {
    tell(&format!("instructions {program} {count}"));
}

/// Reports how many rows of a packet table passed for a family.
pub fn rows(family: Family, count: usize) {
    let family = match family {
        V4 => "v4",
        V6 => "v6",
    };
    tell(&format!("rows {family} {count}"));
}

/// Whether the running kernel lacks `feature` (one word), which version `since` introduced. If so
/// the test is reported as skipped and must return; `tests/skips.txt` must list it.
pub fn lacks(test: &str, feature: &str, since: (u32, u32)) -> bool {
    let lacks = version() < since;
    if lacks {
        tell(&format!("skipped {test} {feature} {}.{}", since.0, since.1));
    }
    lacks
}

/// Like [`lacks`] for netkit, which is also a build option of the kernel.
pub fn lacks_netkit(test: &str) -> bool {
    let lacks = place::block_on(Netlink::check_device(Device::Netkit)).is_err();
    if lacks {
        tell(&format!("skipped {test} netkit 6.11"));
    }
    lacks
}

/// Major and minor version of the running kernel.
fn version() -> (u32, u32) {
    let name = utsname::uname().expect("a kernel has a name");
    let release = name.release().to_str().expect("a release is ASCII");
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|digits| digits.parse().ok());
    let mut next = || numbers.next().flatten();
    next().zip(next()).unwrap_or_else(|| panic!("'{release}' begins with no version"))
}

fn tell(line: &str) {
    let line = format!("{line}\n");
    let told = match env::var_os("CAUSEWAY_REPORT") {
        Some(path) => File::options()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes())),
        // Not by eprintln!, which the harness captures.
        None => io::stderr().write_all(line.as_bytes()),
    };
    told.unwrap_or_else(|error| panic!("cannot report '{}': {error}", line.trim()));
}
