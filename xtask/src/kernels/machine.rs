//! One run of a virtual machine: started, listened to, and ended if it hangs.

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
use crate::setup::QEMU;

/// How long things may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Until the first line, on KVM: where that works it takes about a second.
    start: Duration,
    /// Without a word. No test takes nearly as long, not even on an emulated processor.
    silence: Duration,
    /// All of it.
    all: Duration,
}

impl Limits {
    /// Of what a gate runs.
    pub(crate) const QUICK: Self = Self {
        start: Duration::from_secs(6),
        silence: Duration::from_mins(4),
        all: Duration::from_mins(20),
    };
    /// Of anything.
    pub(crate) const PATIENT: Self =
        Self { silence: Duration::from_mins(10), all: Duration::from_hours(4), ..Self::QUICK };
}

/// The file of the kernel's own messages.
const CONSOLE: &str = "console.log";
const TICK: Duration = Duration::from_millis(100);

/// The kernel's command line.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 oops=panic";

/// Of the console's last lines, how many are shown of a machine that failed.
const LAST_LINES: usize = 25;

/// What came of a run.
#[derive(Default)]
pub(crate) struct Run {
    /// The kernel's release, once it was up.
    pub(crate) release: Option<String>,
    /// The tests' results.
    pub(crate) tally: Tally,
    /// What the tests reported.
    pub(crate) report: Vec<String>,
    /// What went wrong besides tests.
    pub(crate) problems: Vec<String>,
}

/// Boots `image` with the file system `archive`, and shows what its tests print, with a label
/// before each line if there is one. `folder` gets the console.
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
                    "xtask: KVM does not work here ({why}): the processor is emulated, which is slower"
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

/// Whether to try KVM. That a machine has it does not mean that it works there: inside another
/// virtual machine it may stop or hang at some instruction. Having failed it is not tried again
/// until this machine has restarted.
struct Kvm {
    failed: PathBuf,
    boot: String,
}

impl Kvm {
    fn look(folder: &Path) -> Self {
        // Without it a failure is noted for no start of the machine in particular.
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

/// The virtual machine's command line.
fn qemu(image: &Image, archive: &Path, folder: &Path, accelerator: Accelerator) -> Command {
    let mut command = Command::new(QEMU);
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
        // A kernel that fails restarts, which is the end of the machine.
        .arg("-append")
        .arg(match accelerator {
            Accelerator::Kvm => KERNEL.to_owned(),
            // What the kernel does not know, the first process finds among its variables.
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
        // That of the last run is none of this one's.
        File::create(&console).with_context(|| format!("cannot write {}", console.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(
            File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?,
        );
        // SAFETY: prctl is a plain system call; nothing is allocated and no lock is taken between
        // fork and exec.
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

    /// Listens to the end. The inner error is why a machine has not come to its first line.
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
                    break Some(format!("no sign of life within {:?}", limits.start));
                }
            }
            if heard.elapsed() > limits.silence {
                break Some(format!("it hung: no word for {:?}", limits.silence));
            }
            if self.started.elapsed() > limits.all {
                break Some(format!("it took longer than {:?}", limits.all));
            }
        };
        let status = self.end(trouble.is_some())?;
        let Reader { mut run, done, listing, .. } = reader;
        run.tally = listing.end()?;
        let trouble = trouble
            .or_else(|| (!done).then(|| format!("it ended before its tests did ({status})")));
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
            // It may have ended by itself.
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

    /// What the kernel says of itself when it finds itself wrong.
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
            .map(|line| format!("the kernel complains: {}", line.trim()))
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Only one that was left because of an error still runs.
        let _ = self.end(true);
    }
}

/// Tells the first process's lines from those of the tests, which are shown.
struct Reader<W> {
    run: Run,
    done: bool,
    listing: Listing<W>,
    /// A line of the first process's, as far as it has come.
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
            None => self.run.problems.push(format!("a line nobody understands: {text}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn lines_of_the_first_process_are_told_from_those_of_tests_wherever_they_are_cut() {
        let text = format!(
            "{MARK}here 6.1\r\n{MARK}begin load\r\ntest a ... ok\r\n\r\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored\r\n{MARK}report instructions uplink 7\r\n{MARK}failed load\r\n{MARK}done \r\n"
        );
        for size in [1, 2, 7, 1000] {
            let mut reader = Reader::new(Listing::new(io::sink(), true));
            for part in text.as_bytes().chunks(size) {
                reader.read(part).unwrap();
            }
            assert_eq!(reader.run.release.as_deref(), Some("6.1"));
            assert_eq!(reader.run.report, ["instructions uplink 7"]);
            assert!(reader.done && reader.run.problems.is_empty());
            let tally = reader.listing.end().unwrap();
            assert_eq!((tally.passed, tally.failed, tally.clean), (1, 2, false));
        }
    }

    /// A process of a few lines in place of the virtual machine's, and what came of it. It finds
    /// its console in `$1`.
    fn instead(
        name: &str,
        script: &str,
        accelerator: Accelerator,
        limits: Limits,
    ) -> Result<Run, String> {
        let folder =
            std::env::temp_dir().join(format!("causeway-xtask-{}-{name}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(folder.join(CONSOLE));
        let listing = Listing::new(io::sink(), true);
        let run =
            Machine::start(command, &folder).unwrap().listen(accelerator, limits, listing).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        run
    }

    const BRIEF: Limits = Limits {
        start: Duration::from_secs(1),
        silence: Duration::from_secs(3),
        all: Duration::from_mins(1),
    };

    #[test]
    fn a_machine_that_says_nothing_more_is_ended_and_its_console_shown() {
        let script = r#"printf '\036here 6.1\n'; echo 'rcu: stall' >"$1"; exec sleep 600"#;
        let run = instead("silent", script, Accelerator::Tcg, BRIEF).unwrap();
        let [problem] = &run.problems[..] else { panic!("{:?}", run.problems) };
        assert!(problem.contains("it hung") && problem.contains("rcu: stall"), "{problem}");
    }

    #[test]
    fn a_machine_that_ends_before_its_tests_do_is_a_failure_with_the_end_of_its_console() {
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
    fn kvm_that_failed_is_not_tried_again_until_this_machine_restarts() {
        let folder =
            std::env::temp_dir().join(format!("causeway-xtask-{}-failed", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let kvm = |boot: &str| Kvm { failed: folder.join("kvm-failed"), boot: boot.to_owned() };
        let before = kvm("this boot").has_failed();
        kvm("this boot").note_failure().unwrap();
        let after = ["this boot", "the next"].map(|boot| kvm(boot).has_failed());
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((before, after), (false, [true, false]));
        assert!(
            Limits::QUICK.start < Duration::from_secs(10)
                && Limits::PATIENT.start < Duration::from_secs(10)
        );
    }

    #[test]
    fn a_machine_that_does_not_start_says_why() {
        let why =
            instead("error", "echo 'no such device' >&2; exit 1", Accelerator::Tcg, Limits::QUICK)
                .err()
                .unwrap();
        assert!(why.contains("no such device"), "{why}");
        let why = instead("kvm", "exec sleep 600", Accelerator::Kvm, BRIEF).err().unwrap();
        assert!(why.contains("no sign of life"), "{why}");
    }

    #[test]
    fn what_the_kernel_complains_of_is_a_problem_though_all_tests_passed() {
        let script = r#"printf '\036here 6.1\n\036done \n'; echo '[ 1.0] WARNING: CPU: 0 PID: 7 at net/core' >"$1""#;
        let run = instead("warning", script, Accelerator::Tcg, Limits::QUICK).unwrap();
        let [problem] = &run.problems[..] else { panic!("{:?}", run.problems) };
        assert!(problem.contains("WARNING"), "{problem}");
    }
}
