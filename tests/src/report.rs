//! What a test tells besides its result, to whoever runs it: lines in the file that
//! `CAUSEWAY_REPORT` names. Without that, on stderr.

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

/// How many instructions the verifier looked at to accept a program.
pub fn instructions(program: &str, count: u64) {
    tell(&format!("instructions {program} {count}"));
}

/// How many rows of a packet table passed for a family.
pub fn rows(family: Family, count: usize) {
    let family = match family {
        V4 => "v4",
        V6 => "v6",
    };
    tell(&format!("rows {family} {count}"));
}

/// Whether the running kernel lacks a feature, a word, which came with the version `since`. The
/// test then ends, and counts as skipped; `tests/skips.txt` must say that it may.
pub fn lacks(test: &str, feature: &str, since: (u32, u32)) -> bool {
    let lacks = version() < since;
    if lacks {
        tell(&format!("skipped {test} {feature} {}.{}", since.0, since.1));
    }
    lacks
}

/// The same for netkit pairs, which a kernel may also be built without.
pub fn lacks_netkit(test: &str) -> bool {
    let lacks = place::block_on(Netlink::check_device(Device::Netkit)).is_err();
    if lacks {
        tell(&format!("skipped {test} netkit 6.11"));
    }
    lacks
}

/// The running kernel's, to the minor number.
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
        // Past the harness, which shows nothing of a test that passes.
        None => io::stderr().write_all(line.as_bytes()),
    };
    told.unwrap_or_else(|error| panic!("cannot report '{}': {error}", line.trim()));
}
