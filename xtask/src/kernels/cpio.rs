//! Writes the archive that Linux unpacks into its initial file system, in cpio's `newc` format
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const FILE: u32 = 0o100_000;

/// An archive being written. Paths are absolute; missing parent directories are added.
pub(crate) struct Archive<W> {
    out: W,
    entries: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, entries: 0, directories: BTreeSet::new() }
    }

    /// Adds a copy of a local file, with its mode. Follows links.
    pub(crate) fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let what = || format!("cannot read {}", from.display());
        let mode = fs::metadata(from).with_context(what)?.permissions().mode();
        self.file(path, mode & 0o777, &fs::read(from).with_context(what)?)
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.put(path, FILE | mode, (0, 0), bytes)
    }

    pub(crate) fn character_device(&mut self, path: &str, number: (u32, u32)) -> Result<()> {
        self.put(path, CHARACTER_DEVICE, number, &[])
    }

    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        if path.is_empty() || !self.directories.insert(path.to_owned()) {
            return Ok(());
        }
        self.put(path, DIRECTORY, (0, 0), &[])
    }

    /// Writes the last entry of the archive.
    pub(crate) fn end(mut self) -> Result<W> {
        self.write("TRAILER!!!", 0, (0, 0), &[]).context("cannot write the archive")?;
        self.out.flush().context("cannot write the archive")?;
        Ok(self.out)
    }

    fn put(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent)?;
        }
        let name = path.trim_start_matches('/');
        self.write(name, mode, device, bytes)
            .with_context(|| format!("cannot write {path} into the archive"))
    }

    fn write(&mut self, name: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let size = u32::try_from(bytes.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        // A number of its own: entries with the same inode are one file.
        self.entries += 1;
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0]
            .map(|f| format!("{f:08x}"));
        write!(self.out, "070701{}{name}\0", fields.concat())?;
        self.pad(HEADER + name.len() + 1)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

const HEADER: usize = 110;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_parts_are_padded_to_four_bytes() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/bin/a", 0o755, b"hello").unwrap();
        let bytes = archive.end().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let bin = "070701\
            00000001000041ed00000000000000000000000100000000\
            00000000000000000000000000000000000000000000000400000000bin\0\0\0";
        let a = "070701\
            00000002000081ed00000000000000000000000100000000\
            00000005000000000000000000000000000000000000000600000000bin/a\0hello\0\0\0";
        assert!(text.starts_with(bin), "{text}");
        // The second header starts at a multiple of four.
        let second = bin.len();
        assert_eq!(second % 4, 0);
        assert!(text[second..].starts_with(a), "{}", &text[second..]);
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"), "{text}");
    }

    #[test]
    fn directory_is_added_once() {
        let mut archive = Archive::new(Vec::new());
        for name in ["/usr/lib/a", "/usr/lib/b"] {
            archive.file(name, 0o644, b"").unwrap();
        }
        let text = String::from_utf8(archive.end().unwrap()).unwrap();
        assert_eq!(text.matches("usr/lib\0").count(), 1);
        assert_eq!(text.matches("070701").count(), 5);
    }
}
