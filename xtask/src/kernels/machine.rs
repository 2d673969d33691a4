//! One run of a virtual machine: starts it, reads its output, and kills it if it hangs.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::guest::{EMULATED, Line, MARK};
use super::image::Image;
use crate::interrupt;
use crate::results::tally::{Listing, Tally};
use crate::setup::emulator::{self, QEMU};

/// Time limits of a run.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Until the first line with KVM, which takes about a second where KVM works.
    start: Duration,
    /// Without output. No test takes nearly as long, even on an emulated processor.
    silence: Duration,
    /// The whole run.
    all: Duration,
}

impl Limits {
    /// For the quick suites.
    pub(crate) const QUICK: Self = Self {
        start: Duration::from_secs(6),
        silence: Duration::from_mins(4),
        all: Duration::from_mins(20),
    };
    /// For all suites.
    pub(crate) const PATIENT: Self =
        Self { silence: Duration::from_mins(10), all: Duration::from_hours(4), ..Self::QUICK };
}

/// The file of the kernel's messages.
const CONSOLE: &str = "console.log";
const TICK: Duration = Duration::from_millis(100);

/// The kernel's command line.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 oops=panic";

/// The number of console lines to show after a failure.
const LAST_LINES: usize = 25;

/// The results of a run.
#[derive(Default)]
pub(crate) struct Run {
    /// The kernel's release, if it booted.
    pub(crate) release: Option<String>,
    /// The tests' results.
    pub(crate) tally: Tally,
    /// Lines of the tests' report.
    pub(crate) report: Vec<String>,
    /// Failures outside of the tests.
    pub(crate) problems: Vec<String>,
}

/// Boots `image` with the file system `archive`, and forwards the output of its tests, with `label`
/// before each line if given. The console is written to `folder`.
pub(crate) fn run(
    image: &Image,
    archive: &Path,
    folder: &Path,
    limits: Limits,
    label: Option<&str>,
) -> Result<Run> {
    let listing = || label.map_or_else(Listing::shown, Listing::labelled);
    let kvm = Kvm::look(folder);
    if kvm.is_worth_trying() {
        let machine = Machine::start(qemu(image, archive, folder, Accelerator::Kvm), folder)?;
        match machine.listen(Accelerator::Kvm, limits, listing())? {
            Ok(run) => return Ok(run),
            Err(why) => {
                let why = why.lines().next().unwrap_or_default();
                eprintln!(
                    "xtask: KVM does not work here ({why}): emulating the processor, which is slower"
                );
                kvm.note_failure()?;
            }
        }
    }
    let machine = Machine::start(qemu(image, archive, folder, Accelerator::Tcg), folder)?;
    match machine.listen(Accelerator::Tcg, limits, listing())? {
        Ok(run) => Ok(run),
        Err(why) => bail!("the virtual machine of Linux {} does not start: {why}", image.release),
    }
}

/// Whether to try KVM. It may be there and not work: inside another virtual machine it can stop or
/// hang at some instruction. After a failure it is not tried again until this machine restarts.
struct Kvm {
    failed: PathBuf,
    boot: String,
}

impl Kvm {
    fn look(folder: &Path) -> Self {
        // Empty if unreadable: a failure then counts for every boot.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { failed: folder.with_file_name("kvm-failed"), boot }
    }

    fn is_worth_trying(&self) -> bool {
        !self.has_failed() && OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
    }

    fn has_failed(&self) -> bool {
        fs::read_to_string(&self.failed).is_ok_and(|boot| boot == self.boot)
    }

    fn note_failure(&self) -> Result<()> {
        fs::write(&self.failed, &self.boot)
            .with_context(|| format!("cannot write {}", self.failed.display()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Accelerator {
    Kvm,
    Tcg,
}

/// The command that runs the virtual machine.
fn qemu(image: &Image, archive: &Path, folder: &Path, accelerator: Accelerator) -> Command {
    let mut command = emulator::command();
    match accelerator {
        Accelerator::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
        Accelerator::Tcg => command.args(["-accel", "tcg,thread=multi"]),
    };
    command
        .args([
            "-smp",
            "2",
            "-m",
            "2048",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ])
        .arg("-serial")
        .arg(format!("file:{}", folder.join(CONSOLE).display()))
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(archive)
        // With panic=-1 a kernel that panics reboots, and -no-reboot ends the machine.
        .arg("-append")
        .arg(match accelerator {
            Accelerator::Kvm => KERNEL.to_owned(),
            // The kernel passes unknown parameters to the first process as variables.
            Accelerator::Tcg => format!("{KERNEL} {EMULATED}=1"),
        });
    command
}

struct Machine {
    child: Child,
    output: Receiver<Vec<u8>>,
    console: PathBuf,
    errors: PathBuf,
    started: Instant,
}

impl Machine {
    fn start(mut command: Command, folder: &Path) -> Result<Self> {
        let (console, errors) = (folder.join(CONSOLE), folder.join("qemu.log"));
        // Removes the console of the last run.
        File::create(&console).with_context(|| format!("cannot write {}", console.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(
            File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?,
        );
        // SAFETY: the closure runs between fork and exec. It makes one system call, allocates
        // nothing and takes no lock.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        let mut child = command.spawn().with_context(|| format!("cannot run {QEMU}"))?;
        let mut pipe = child.stdout.take().context("the virtual machine has no output")?;
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, output, console, errors, started: Instant::now() })
    }

    /// Reads the output to its end. The inner error tells why the machine did not boot.
    fn listen(
        mut self,
        accelerator: Accelerator,
        limits: Limits,
        listing: Listing<impl Write>,
    ) -> Result<Result<Run, String>> {
        let mut reader = Reader::new(listing);
        let mut heard = Instant::now();
        let trouble = loop {
            match self.output.recv_timeout(TICK) {
                Ok(bytes) => {
                    heard = Instant::now();
                    reader.read(&bytes)?;
                }
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if interrupt::noted() {
                break Some("interrupted".to_owned());
            }
            if reader.run.release.is_none() && accelerator == Accelerator::Kvm {
                let error = fs::read_to_string(&self.errors).unwrap_or_default();
                if let Some(line) = error.lines().find(|line| line.contains("KVM internal error")) {
                    break Some(line.to_owned());
                }
                if self.started.elapsed() > limits.start {
                    break Some(format!("no output within {:?}", limits.start));
                }
            }
            if heard.elapsed() > limits.silence {
                break Some(format!("it hung: no output for {:?}", limits.silence));
            }
            if self.started.elapsed() > limits.all {
                break Some(format!("it took longer than {:?}", limits.all));
            }
        };
        let status = self.end(trouble.is_some())?;
        let Reader { mut run, done, listing, .. } = reader;
        run.tally = listing.end()?;
        let trouble =
            trouble.or_else(|| (!done).then(|| format!("it ended before its tests ({status})")));
        if run.release.is_none() && trouble.is_some() && !interrupt::noted() {
            let why = trouble.unwrap_or_default();
            return Ok(Err(format!("{why}\n{}", self.last_words()).trim().to_owned()));
        }
        if let Some(trouble) = trouble {
            run.problems.push(format!(
                "{trouble}; the end of its console, {}:\n{}",
                self.console.display(),
                self.last_words()
            ));
        }
        run.problems.extend(self.complaints());
        Ok(Ok(run))
    }

    fn end(&mut self, kill: bool) -> Result<ExitStatus> {
        if kill {
            // Fails if it has ended already.
            let _ = self.child.kill();
        }
        self.child.wait().context("cannot wait for the virtual machine")
    }

    fn last_words(&self) -> String {
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let text = read(&self.errors) + &read(&self.console);
        let lines: Vec<&str> =
            text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Warnings and errors that the kernel printed about itself.
    fn complaints(&self) -> Vec<String> {
        let console =
            String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned();
        let is_complaint = |line: &&str| {
            ["WARNING: ", "BUG: ", "INFO: task ", "Kernel panic"]
                .iter()
                .any(|word| line.contains(word))
        };
        console
            .lines()
            .filter(is_complaint)
            .map(|line| format!("the kernel printed: {}", line.trim()))
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It still runs only after an error.
        let _ = self.end(true);
    }
}

/// Separates lines of the first process from output of the tests, which is forwarded.
struct Reader<W> {
    run: Run,
    done: bool,
    listing: Listing<W>,
    /// The beginning of a line of the first process.
    own: Option<Vec<u8>>,
}

impl<W: Write> Reader<W> {
    fn new(listing: Listing<W>) -> Self {
        Self { run: Run::default(), done: false, listing, own: None }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<()> {
        let mut shown = Vec::new();
        for byte in bytes.iter().copied().filter(|byte| *byte != b'\r') {
            match (&mut self.own, byte) {
                (Some(line), b'\n') => {
                    let text = String::from_utf8_lossy(line).into_owned();
                    self.own = None;
                    self.listing.show(&std::mem::take(&mut shown))?;
                    self.take(&text)?;
                }
                (Some(line), byte) => line.push(byte),
                (None, byte) if u32::from(byte) == u32::from(MARK) => self.own = Some(Vec::new()),
                (None, byte) => shown.push(byte),
            }
        }
        self.listing.show(&shown)
    }

    fn take(&mut self, text: &str) -> Result<()> {
        match Line::parse(text) {
            Some(Line::Here(release)) => {
                self.listing.show(format!("     Running on Linux {release}\n").as_bytes())?;
                self.run.release = Some(release);
            }
            Some(Line::Begin(suite)) => {
                self.listing.show(format!("     Running tests/{suite}.rs\n").as_bytes())?;
            }
            Some(Line::Report(line)) => self.run.report.push(line),
            Some(Line::End(_, true)) => {}
            Some(Line::End(_, false)) => self.listing.failed(),
            Some(Line::Problem(problem)) => self.run.problems.push(problem),
            Some(Line::Done) => self.done = true,
            None => self.run.problems.push(format!("unknown line of the first process: {text}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn reader_separates_lines_cut_anywhere() {
        let text = format!(
            "{MARK}here 6.1\r\n{MARK}begin load\r\ntest a ... ok\r\n\r\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored\r\n\
             {MARK}report instructions from_uplink 7\r\n{MARK}failed load\r\n{MARK}done \r\n"
        );
        for size in [1, 2, 7, 1000] {
            let mut reader = Reader::new(Listing::new(io::sink(), true));
            for part in text.as_bytes().chunks(size) {
                reader.read(part).unwrap();
            }
            assert_eq!(reader.run.release.as_deref(), Some("6.1"));
            assert_eq!(reader.run.report, ["instructions from_uplink 7"]);
            assert!(reader.done && reader.run.problems.is_empty());
            let tally = reader.listing.end().unwrap();
            assert_eq!((tally.passed, tally.failed, tally.clean), (1, 2, false));
        }
    }

    /// A folder of the test `name`, which is removed on drop.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let this = std::process::id();
            let folder = std::env::temp_dir().join(format!("causeway-xtask-{this}-{name}"));
            // A process of the same number may have left it.
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Runs a shell script in place of the virtual machine. `$1` is its console.
    fn instead(
        name: &str,
        script: &str,
        accelerator: Accelerator,
        limits: Limits,
    ) -> Result<Run, String> {
        let Folder(folder) = &Folder::new(name);
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(folder.join(CONSOLE));
        let listing = Listing::new(io::sink(), true);
        Machine::start(command, folder).unwrap().listen(accelerator, limits, listing).unwrap()
    }

    const BRIEF: Limits = Limits {
        start: Duration::from_secs(1),
        silence: Duration::from_secs(3),
        all: Duration::from_mins(1),
    };

    #[test]
    fn silent_machine_is_killed_and_console_shown() {
        let script = r#"printf '\036here 6.1\n'; echo 'rcu: stall' >"$1"; exec sleep 600"#;
        let run = instead("silent", script, Accelerator::Tcg, BRIEF).unwrap();
        let [problem] = &run.problems[..] else { panic!("{:?}", run.problems) };
        assert!(problem.contains("it hung") && problem.contains("rcu: stall"), "{problem}");
    }

    #[test]
    fn early_end_is_a_failure_with_console() {
        let script =
            r#"printf '\036here 6.1\n\036begin load\n'; echo 'Kernel panic - not syncing' >"$1""#;
        let run = instead("panic", script, Accelerator::Tcg, Limits::QUICK).unwrap();
        let [end, complaint] = &run.problems[..] else { panic!("{:?}", run.problems) };
        assert!(
            end.contains("before its tests") && complaint.contains("Kernel panic"),
            "{end} {complaint}"
        );
    }

    #[test]
    fn failed_kvm_is_skipped_until_reboot() {
        let Folder(folder) = &Folder::new("failed");
        let kvm = |boot: &str| Kvm { failed: folder.join("kvm-failed"), boot: boot.to_owned() };
        let before = kvm("this boot").has_failed();
        kvm("this boot").note_failure().unwrap();
        let after = ["this boot", "the next"].map(|boot| kvm(boot).has_failed());
        assert_eq!((before, after), (false, [true, false]));
        assert!(
            Limits::QUICK.start < Duration::from_secs(10)
                && Limits::PATIENT.start < Duration::from_secs(10)
        );
    }

    #[test]
    fn boot_failure_has_reason() {
        let why =
            instead("error", "echo 'no such device' >&2; exit 1", Accelerator::Tcg, Limits::QUICK)
                .err()
                .unwrap();
        assert!(why.contains("no such device"), "{why}");
        let why = instead("kvm", "exec sleep 600", Accelerator::Kvm, BRIEF).err().unwrap();
        assert!(why.contains("no output within"), "{why}");
    }

    #[test]
    fn kernel_warning_is_a_problem() {
        let script = r#"printf '\036here 6.1\n\036done \n'; echo '[ 1.0] WARNING: CPU: 0 PID: 7 at net/core' >"$1""#;
        let run = instead("warning", script, Accelerator::Tcg, Limits::QUICK).unwrap();
        let [problem] = &run.problems[..] else { panic!("{:?}", run.problems) };
        assert!(problem.contains("WARNING"), "{problem}");
    }
}
