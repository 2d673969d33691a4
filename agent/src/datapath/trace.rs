//! The lines of an object that was built with `cargo xtask build --trace`: one for each packet and
//! program, with the steps that the packet took. They go to the agent's log with the target
//! `packet`.

use std::{thread, time::Duration};

use anyhow::Context as _;
use aya::Ebpf;
use aya_log::EbpfLogger;

/// How long a line may wait. The buffer has room for some 200 lines; a packet that finds it full
/// leaves none.
const INTERVAL: Duration = Duration::from_millis(20);

/// Starts a thread that forwards the lines, for as long as the agent runs.
pub(super) fn forward(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    let mut lines = EbpfLogger::init_with_logger(ebpf, AgentLog)
        .context("opening the buffer of the lines about packets")?;
    thread::Builder::new()
        .name("trace".to_owned())
        .spawn(move || {
            loop {
                lines.flush();
                thread::sleep(INTERVAL);
            }
        })
        .context("starting the thread that forwards the lines about packets")?;
    Ok(())
}

/// Where aya-log writes.
struct AgentLog;

impl log::Log for AgentLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::info!(target: "packet", "{}", line(record));
    }

    fn flush(&self) {}
}

/// The line without the blanks that fill up its words: the kernel side writes words of one length.
fn line(record: &log::Record<'_>) -> String {
    record.args().to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aya::{
        EbpfLoader,
        programs::{SchedClassifier, TestRun as _, TestRunOptions},
    };
    use causeway_common::abi::{maps, programs};

    use super::*;
    use crate::datapath::object::OBJECT;

    /// Keeps the lines.
    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl log::Log for &Kept {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            self.0.lock().unwrap().push(line(record));
        }

        fn flush(&self) {}
    }

    #[rustfmt::skip]
    const SYN: [u8; 54] = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0,
        0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 172, 18, 0, 2, 203, 0, 113, 10,
        0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
    ];

    #[test]
    fn packet_leaves_one_line() {
        let mut loader = EbpfLoader::new();
        for family in [maps::V4, maps::V6] {
            loader.map_max_entries(family.flows, 64);
            loader.map_max_entries(family.age_ring, 64);
        }
        let mut ebpf = loader.load(OBJECT).unwrap();
        let kept = Kept::default();
        let mut lines = EbpfLogger::init_with_logger(&mut ebpf, &kept).unwrap();
        let program: &mut SchedClassifier =
            ebpf.program_mut(programs::FROM_CONTAINER).unwrap().try_into().unwrap();
        program.load().unwrap();
        program.test_run(TestRunOptions { data_in: Some(&SYN), ..TestRunOptions::new() }).unwrap();
        lines.flush();
        let lines = kept.0.lock().unwrap();
        assert_eq!(
            *lines,
            ["from_container 172.18.0.2:4000 > 203.0.113.10:80 protocol 6: \
              slow-path plan source-address-spoofed drop"]
        );
    }
}
