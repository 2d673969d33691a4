//! The benchmark leaves nothing on the machine, however it ends.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use causeway_bench::conntrack::Room;
use causeway_tests::{verb, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A benchmark that has started to make namespaces.
struct Running {
    guard: Child,
    worker: Pid,
}

impl Running {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        command
            .args(["--full", "--only", "900,000", "--report", "unused"])
            .env("CAUSEWAY_BIN", verb::binary());
        let guard = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", guard.id());
        let worker = wait::until("the worker runs", || {
            let text = fs::read_to_string(&children).unwrap_or_default();
            text.split_whitespace().next().and_then(|pid| pid.parse().ok())
        });
        let running = Self { guard, worker: Pid::from_raw(worker) };
        let pins = Path::new("/sys/fs/bpf/causeway");
        wait::until("an agent of it has pinned its maps", || {
            (running.left(pins) > 0).then_some(())
        });
        assert!(running.left(Path::new("/run/netns")) > 0);
        running
    }

    /// Number of its entries in a folder.
    fn left(&self, folder: &Path) -> usize {
        let ours = format!("cwt{}-", self.worker);
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().contains(&ours)).count()
    }

    fn leaves_nothing(&mut self, room: &Room) {
        let status = wait::until("it ends", || self.guard.try_wait().unwrap());
        assert!(!status.success(), "it was interrupted, and says {status}");
        let temporary = std::env::temp_dir();
        wait::until("the worker has cleared up", || {
            (!Path::new("/proc").join(self.worker.to_string()).exists()).then_some(())
        });
        for folder in ["/run/netns", "/run/causeway", "/sys/fs/bpf/causeway"]
            .map(Path::new)
            .into_iter()
            .chain([&*temporary])
        {
            assert_eq!(self.left(folder), 0, "something is left in {}", folder.display());
        }
        wait::until("netfilter has its room back", || (Room::found() == *room).then_some(()));
    }
}

impl Drop for Running {
    /// After a failed test.
    fn drop(&mut self) {
        if self.guard.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill(self.worker, Signal::SIGTERM);
            let _ = self.guard.wait();
        }
    }
}

/// A way to end it: in words, and the action.
type End<'a> = (&'a str, &'a dyn Fn(&Running));

// In sequence, whatever the harness does.
#[test]
fn interrupted_benchmark_leaves_nothing() {
    let room = Room::found();
    let guard = |running: &Running| Pid::from_raw(running.guard.id().try_into().unwrap());
    let ends: [End; 5] = [
        ("Ctrl-C", &|running| {
            for pid in [guard(running), running.worker] {
                kill(pid, Signal::SIGINT).unwrap();
            }
        }),
        ("SIGINT of one alone", &|running| kill(guard(running), Signal::SIGINT).unwrap()),
        ("SIGTERM", &|running| kill(guard(running), Signal::SIGTERM).unwrap()),
        ("SIGKILL of the worker", &|running| kill(running.worker, Signal::SIGKILL).unwrap()),
        ("SIGKILL of the other", &|running| kill(guard(running), Signal::SIGKILL).unwrap()),
    ];
    for (how, end) in ends {
        println!("{how}");
        let mut running = Running::start();
        end(&running);
        running.leaves_nothing(&room);
    }
}
