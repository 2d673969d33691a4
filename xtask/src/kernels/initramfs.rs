//! The file system of the virtual machine: this xtask as `/init`, the test programs, the programs
//! and libraries they need, and the kernel's modules.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::guest::{self, Arguments};
use super::image::Image;
use super::modules;
use crate::privilege;
use crate::setup;

/// Programs that tests use in shell commands, besides those that set-up installs.
const OF_THE_SYSTEM: [&str; 8] = ["bridge", "cat", "echo", "sh", "sleep", "tc", "test", "true"];

/// Writes the archive. `tests` has the name and the file of each test program.
pub(crate) fn write(
    path: &Path,
    image: &Image,
    causeway: &Path,
    tests: &[(String, PathBuf)],
    arguments: &Arguments,
) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut system =
        System { archive: Archive::new(BufWriter::new(file)), libraries: BTreeSet::new() };
    let folder = path.parent().context("the archive has no folder")?;

    // The kernel opens it as output of the first process, before anything is mounted.
    system.archive.character_device("/dev/console", (5, 1))?;
    for folder in guest::MOUNT_POINTS {
        system.archive.directory(folder)?;
    }
    let this = std::env::current_exe().context("cannot find this program's own path")?;
    system.built(guest::INIT, &this, folder)?;
    system.built(guest::CAUSEWAY, causeway, folder)?;
    for (name, test) in tests {
        system.built(&format!("{}/{name}", guest::TESTS), test, folder)?;
    }
    for name in setup::programs_of_tests().chain(OF_THE_SYSTEM) {
        // A program may be missing; the tests that need it report that.
        if let Some(program) = privilege::find_program(name) {
            system.program(&format!("{}/{name}", guest::PROGRAMS), &program)?;
        }
    }
    let mut order = String::new();
    for module in modules::in_order(&image.modules)? {
        let path = format!("{}/{}.ko", guest::MODULES, module.name);
        system.archive.file(&path, 0o600, &module.bytes)?;
        order.push_str(&path);
        order.push('\n');
    }
    system.archive.file(guest::ORDER, 0o600, order.as_bytes())?;
    system.archive.file(guest::ARGUMENTS, 0o600, arguments.to_string().as_bytes())?;
    system.archive.end()?;
    Ok(())
}

struct System {
    archive: Archive<BufWriter<File>>,
    libraries: BTreeSet<PathBuf>,
}

impl System {
    /// Adds a program that cargo has built, without debugging information, which is three quarters
    /// of it.
    fn built(&mut self, path: &str, program: &Path, folder: &Path) -> Result<()> {
        let stripped = folder.join("stripped");
        let mut strip = Command::new("strip");
        let output = strip.args(["--strip-debug", "-o"]).arg(&stripped).arg(program).output();
        let output = output.context("cannot run strip, of package binutils")?;
        if !output.status.success() {
            bail!(
                "cannot strip {}: {}",
                program.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        self.archive.copy(path, &stripped)?;
        fs::remove_file(&stripped)
            .with_context(|| format!("cannot remove {}", stripped.display()))?;
        self.libraries_of(program)
    }

    fn program(&mut self, path: &str, program: &Path) -> Result<()> {
        self.archive.copy(path, program)?;
        self.libraries_of(program)
    }

    /// Adds the shared libraries of a program, at the paths where the loader looks for them.
    fn libraries_of(&mut self, program: &Path) -> Result<()> {
        let output = Command::new("ldd")
            .arg(program)
            .output()
            .context("cannot run ldd, of package libc-bin")?;
        let text = String::from_utf8_lossy(&output.stdout);
        // ldd fails for static programs and for scripts, which need nothing.
        if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
            bail!("{} lacks a library: {}", program.display(), missing.trim());
        }
        for library in
            text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from)
        {
            if library != program && self.libraries.insert(library.clone()) {
                self.archive.copy(&library.display().to_string(), &library)?;
            }
        }
        Ok(())
    }
}
