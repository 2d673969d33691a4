//! Pins: bpffs, and the folder of an instance in it.
//!
//! ```text
//! /sys/fs/bpf/causeway/INSTANCE/vLAYOUT/maps/NAME      a map
//!                                      /links/HOOK-INDEX, /links/PROGRAM      a link
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use causeway_api::Error;
use causeway_common::abi;
use nix::{
    mount::{MsFlags, mount, umount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

const BPFFS: &str = "/sys/fs/bpf";
/// Exists if an agent has mounted bpffs; the last one unmounts it.
const MOUNTED: &str = "/run/causeway/bpffs-mounted";

/// The folder of an instance, of this layout.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Makes the folder, and mounts bpffs, unless they exist.
    pub(super) fn prepare(instance: &str) -> anyhow::Result<Self> {
        mount_bpffs()?;
        let folder = of_instance(instance).join(format!("v{}", abi::LAYOUT));
        let pins = Self { folder };
        for folder in [pins.maps(), pins.links()] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("making the folder {} for pins", folder.display()))?;
        }
        Ok(pins)
    }

    fn maps(&self) -> PathBuf {
        self.folder.join(MAPS)
    }

    /// The folder of the links.
    pub(super) fn links(&self) -> PathBuf {
        self.folder.join(LINKS)
    }

    /// The pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The pin of a link.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    /// The folders of the instance that belong to other layouts.
    fn other_layouts(&self) -> anyhow::Result<Vec<PathBuf>> {
        let Some(instance) = self.folder.parent() else { return Ok(Vec::new()) };
        let mut layouts = folders(instance)?;
        layouts.retain(|layout| *layout != self.folder && is_layout(layout));
        Ok(layouts)
    }

    /// Detaches and removes what an agent with another layout has pinned. Called once the programs
    /// of this layout are attached: the old ones run until then, and none stays before the new
    /// ones. The flows of the other layout end with its maps.
    pub(super) fn remove_other_layouts(&self) -> anyhow::Result<()> {
        for layout in self.other_layouts()? {
            // Links first, so that no program runs on maps that are going.
            for part in [LINKS, MAPS] {
                remove_tree(&layout.join(part))?;
            }
            remove_tree(&layout)?;
        }
        Ok(())
    }

    /// Detaches the XDP program that an agent with another layout has attached to an uplink: an
    /// interface has one link for XDP, unlike for tc.
    pub(super) fn remove_xdp_of_other_layouts(&self, index: u32) -> anyhow::Result<()> {
        let suffix = format!("-{index}");
        for layout in self.other_layouts()? {
            for link in folders(&layout.join(LINKS))? {
                let name = link.file_name().unwrap_or_default().to_string_lossy();
                if name.contains("xdp") && name.ends_with(&suffix) {
                    unpin(&link)?;
                }
            }
        }
        Ok(())
    }
}

/// The folder of a layout that has its links.
const LINKS: &str = "links";
/// The folder of a layout that has its maps.
const MAPS: &str = "maps";

/// Whether a folder of an instance is that of a layout: `v` and a number.
fn is_layout(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Removes the folder of an instance, of all layouts, and with the pins the maps, links and
/// programs. Unmounts bpffs if an agent has mounted it and it is empty.
pub(super) fn remove(instance: &str) -> anyhow::Result<()> {
    let folder = of_instance(instance);
    // Links first, so that no program runs without its maps.
    for version in folders(&folder)? {
        for part in [LINKS, MAPS] {
            remove_tree(&version.join(part))?;
        }
    }
    remove_tree(&folder)?;
    let all = Path::new(BPFFS).join("causeway");
    if is_empty(&all) {
        fs::remove_dir(&all).with_context(|| format!("removing {}", all.display()))?;
    }
    if Path::new(MOUNTED).exists() && is_empty(Path::new(BPFFS)) {
        umount(BPFFS)
            .map_err(Error::os)
            .with_context(|| format!("unmounting {BPFFS}, which an agent had mounted"))?;
        fs::remove_file(MOUNTED).with_context(|| format!("removing {MOUNTED}"))?;
    }
    Ok(())
}

fn of_instance(instance: &str) -> PathBuf {
    Path::new(BPFFS).join("causeway").join(instance)
}

fn mount_bpffs() -> anyhow::Result<()> {
    let there = statfs(BPFFS).map_err(|error| {
        Error::os(error).context(format!("looking at {BPFFS}")).hint("mount sysfs on /sys")
    })?;
    if there.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .map_err(Error::os)
    .with_context(|| format!("mounting bpffs on {BPFFS}"))?;
    fs::create_dir_all("/run/causeway").context("making /run/causeway")?;
    fs::write(MOUNTED, "")
        .with_context(|| format!("writing {MOUNTED}, which says that an agent mounted bpffs"))
}

fn is_empty(folder: &Path) -> bool {
    // The kernel puts its own `maps.debug` and `progs.debug` into each bpffs (CONFIG_BPF_PRELOAD).
    let of_kernel = |entry: &fs::DirEntry| {
        entry.path().extension().is_some_and(|extension| extension == "debug")
    };
    fs::read_dir(folder)
        .is_ok_and(|entries| entries.filter_map(Result::ok).all(|entry| of_kernel(&entry)))
}

fn folders(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", folder.display())),
    }
}

fn remove_tree(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing the pins in {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a pin. Succeeds if there is none.
pub(super) fn unpin(pin: &Path) -> anyhow::Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing the pin {}", pin.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_layouts_are_removed() {
        let instance =
            std::env::temp_dir().join(format!("causeway-layouts-{}", std::process::id()));
        for layout in ["v1", "v2", "v10"] {
            for part in [LINKS, MAPS] {
                let folder = instance.join(layout).join(part);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("uplink_xdp-7"), "").unwrap();
                fs::write(folder.join("uplink_xdp-17"), "").unwrap();
            }
        }
        fs::create_dir_all(instance.join("victor")).unwrap();
        let pins = Pins { folder: instance.join("v2") };

        pins.remove_xdp_of_other_layouts(7).unwrap();
        assert!(!instance.join("v1/links/uplink_xdp-7").exists());
        assert!(instance.join("v1/links/uplink_xdp-17").exists());
        assert!(pins.link("uplink_xdp-7").exists());

        pins.remove_other_layouts().unwrap();
        assert!(!instance.join("v1").exists() && !instance.join("v10").exists());
        assert!(pins.link("uplink_xdp-7").exists() && pins.map("uplink_xdp-7").exists());
        assert!(instance.join("victor").exists());
        fs::remove_dir_all(&instance).unwrap();
    }
}
