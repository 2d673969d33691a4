//! The machine that the figures were measured on.

use std::{collections::BTreeMap, fs, process::Command};

use serde::Serialize;

/// Machine, and versions of the contenders.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The day, in UTC.
    pub date: String,
    /// Kernel release.
    pub kernel: String,
    /// Model of the processor.
    pub processor: String,
    /// Number of CPUs.
    pub processors: usize,
    /// Whether it is a virtual machine.
    pub is_virtual: bool,
    /// Mitigation for each vulnerability of the processor.
    pub mitigations: BTreeMap<String, String>,
    /// Version lines of the programs.
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    /// Describes this machine.
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(": "))
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let causeway = causeway_tests::verb::binary();
        let programs: [&[&str]; 5] = [
            &[&causeway.to_string_lossy(), "--version"],
            &["iptables-legacy", "--version"],
            &["iptables-nft", "--version"],
            &["nft", "--version"],
            &["/usr/lib/cni/bridge", "--version"],
        ];
        let versions = programs.into_iter().map(|program| {
            let name = program[0].rsplit('/').next().unwrap_or_default();
            (name.to_owned(), said(program))
        });
        Self {
            date: said(&["date", "--utc", "+%F"]),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            processor: field("model name"),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            is_virtual: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            mitigations: mitigations(),
            versions: versions.collect(),
        }
    }
}

fn mitigations() -> BTreeMap<String, String> {
    let entries =
        fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        let value = fs::read_to_string(entry.path()).ok()?.trim().to_owned();
        (value != "Not affected").then(|| (entry.file_name().to_string_lossy().into_owned(), value))
    };
    entries.filter_map(read).collect()
}

/// The first line of a program's output.
fn said(program: &[&str]) -> String {
    let output = Command::new(program[0]).args(&program[1..]).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("not installed").trim().to_owned()
}
