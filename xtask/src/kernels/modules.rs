//! The kernel modules that the tests need, in an order in which they can be loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What lab and agent use and a distribution's kernel has as modules.
const NEEDED: [&str; 8] =
    ["veth", "bridge", "sch_ingress", "cls_bpf", "nf_tables", "inet_diag", "tcp_diag", "udp_diag"];

/// A module, decompressed.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The needed modules in a kernel's folder, each after the modules it depends on.
pub(crate) fn in_order(folder: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    find(folder, &mut files)?;
    let builtin = folder.join("modules.builtin");
    let builtin = fs::read_to_string(&builtin)
        .with_context(|| format!("cannot read {}", builtin.display()))?;
    let builtin = builtin.lines().filter_map(|line| name_of(Path::new(line))).collect();
    let mut order = Order { files, builtin, done: BTreeSet::new(), modules: Vec::new() };
    for name in NEEDED {
        order.add(name)?;
    }
    Ok(order.modules)
}

struct Order {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    done: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order {
    fn add(&mut self, name: &str) -> Result<()> {
        if self.builtin.contains(name) || !self.done.insert(name.to_owned()) {
            return Ok(());
        }
        let path =
            self.files.get(name).with_context(|| format!("the kernel has no module {name}"))?;
        let bytes = read(path)?;
        // modules.dep has this too, but only depmod makes it, when a kernel is installed.
        for dependency in dependencies(&bytes) {
            self.add(&dependency)?;
        }
        self.modules.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.is_dir() && !path.is_symlink() {
            find(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The module's name in a path: `sch_ingress` in `…/sch_ingress.ko.xz`. File names may have dashes
/// in place of underscores.
fn name_of(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once(".ko")?;
    (rest.is_empty() || rest.starts_with('.')).then(|| name.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let what = || format!("cannot read the module {}", path.display());
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => fs::read(path).with_context(what),
        Some("xz") => {
            let output = Command::new("xz")
                .args(["--decompress", "--stdout"])
                .arg(path)
                .output()
                .with_context(what)?;
            if !output.status.success() {
                bail!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(output.stdout)
        }
        other => bail!("{}: unknown compression '{}'", what(), other.unwrap_or_default()),
    }
}

/// The modules that a module depends on: `depends=A,B` in its section `.modinfo`, a list of strings
/// that end with NUL.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let rest = &module[at + KEY.len()..];
    let value = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{dependencies, name_of};

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(dependencies(b"\0license=GPL\0depends=stp,llc\0retpoline=Y\0"), ["stp", "llc"]);
        assert!(dependencies(b"\0license=GPL\0depends=\0").is_empty());
        assert!(dependencies(b"nothing").is_empty());
    }

    #[test]
    fn name_of_ignores_compression() {
        assert_eq!(
            name_of(Path::new("kernel/net/sched/sch_ingress.ko.xz")).as_deref(),
            Some("sch_ingress")
        );
        assert_eq!(name_of(Path::new("kernel/fs/nls/nls-cp437.ko")).as_deref(), Some("nls_cp437"));
        assert_eq!(name_of(Path::new("modules.dep")), None);
    }
}
