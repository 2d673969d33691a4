//! What a network, a container, an instance and an interface may be called.

use anyhow::ensure;

/// Checks a network's or container's name. A container's name is also its namespace's, so a file's.
pub fn check(name: &str) -> anyhow::Result<()> {
    let mut characters = name.chars();
    let first = characters.next();
    ensure!(first.is_some(), "the name is empty");
    ensure!(
        first.is_some_and(|c| c.is_ascii_alphanumeric()),
        "the name '{}' does not start with a letter or digit",
        printable(name)
    );
    ensure!(
        characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')),
        "the name '{}' has something else than letters, digits, '_', '.' and '-'",
        printable(name)
    );
    ensure!(name.len() <= 63, "the name '{name}' has {} characters; at most 63 fit", name.len());
    Ok(())
}

/// Checks an instance's name: it is a folder of bpffs, which takes no dots.
pub fn check_instance(name: &str) -> anyhow::Result<()> {
    check(name)?;
    ensure!(!name.contains('.'), "the instance name '{name}' has a dot; bpffs takes none");
    ensure!(
        name.len() <= 32,
        "the instance name '{name}' has {} characters; at most 32 fit",
        name.len()
    );
    Ok(())
}

/// Checks an interface's name as the kernel does, and refuses the two that mean something else
/// among the sysctls.
pub fn check_interface(name: &str) -> anyhow::Result<()> {
    ensure!(!name.is_empty(), "the interface name is empty");
    ensure!(
        name.len() <= 15,
        "the interface name '{}' has {} characters; the kernel takes 15",
        printable(name),
        name.len()
    );
    ensure!(
        !matches!(name, "." | ".." | "all" | "default")
            && name.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':' && c != '%'),
        "'{}' is not a usable interface name",
        printable(name)
    );
    Ok(())
}

/// The name with what would break a line of output escaped.
fn printable(name: &str) -> String {
    name.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_files_are_taken() {
        for name in ["a", "web", "Web-1.example_2", "0", &"x".repeat(63)] {
            assert!(check(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn other_names_are_refused_with_the_reason() {
        for (name, reason) in [
            ("", "is empty"),
            (".", "does not start"),
            ("..", "does not start"),
            ("-x", "does not start"),
            ("_x", "does not start"),
            ("a/b", "something else"),
            ("a b", "something else"),
            ("a\nb", "a\\nb"),
            ("ä", "does not start"),
            ("bä", "something else"),
            (&"x".repeat(64), "64 characters"),
        ] {
            let error = check(name).unwrap_err().to_string();
            assert!(error.contains(reason), "{name:?}: {error}");
            assert!(!error.contains('\n'), "{name:?}: {error}");
        }
    }

    #[test]
    fn instance_names_fit_in_bpffs() {
        assert!(check_instance("lab-2").is_ok());
        assert!(check_instance("lab.2").is_err());
        assert!(check_instance(&"x".repeat(33)).is_err());
        assert!(check_instance("../x").is_err());
    }

    #[test]
    fn interface_names_are_the_kernels() {
        for name in ["eth0", "cw0", "br-0123456789ab", "wlp0s20f3.5"] {
            assert!(check_interface(name).is_ok(), "{name}");
        }
        for name in ["", "sixteen-letters-", "a b", "a/b", "..", "all", "default", "e:0", "a%d"] {
            assert!(check_interface(name).is_err(), "{name}");
        }
    }
}
