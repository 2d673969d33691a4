//! Names of networks, containers, instances and interfaces.

use crate::Error;

/// The longest name of a network or container, in characters: twice a container id of Docker or
/// containerd, which has 64.
pub const MAX_LEN: usize = 128;

/// The longest name of an instance. It is in the path of the socket, of which `sun_path` takes 107
/// bytes.
const MAX_INSTANCE_LEN: usize = 32;

/// The longest name of an interface: the kernel's `IFNAMSIZ` less its NUL.
const MAX_INTERFACE_LEN: usize = 15;

/// Checks the name of a network or container. A container's is also the name of the file of its
/// namespace, `/run/netns/NAME`.
///
/// At most [`MAX_LEN`] letters, digits, `_`, `.` and `-`, the first a letter or digit.
pub fn check(name: &str) -> Result<(), Error> {
    check_characters(name)?;
    check_length("name", name, MAX_LEN)
}

/// Checks an instance's name: it is also a directory in bpffs, which takes no dots.
pub fn check_instance(name: &str) -> Result<(), Error> {
    check_characters(name)?;
    if name.contains('.') {
        return Err(Error::invalid(format!("the instance name '{name}' has a dot"))
            .hint("use '-' or '_' instead: bpffs takes no dots"));
    }
    check_length("instance name", name, MAX_INSTANCE_LEN)
}

fn check_characters(name: &str) -> Result<(), Error> {
    let mut characters = name.chars();
    let Some(first) = characters.next() else {
        return Err(Error::invalid("the name is empty"));
    };
    if !first.is_ascii_alphanumeric() {
        return Err(Error::invalid(format!(
            "the name '{}' does not start with a letter or digit",
            printable(name)
        )));
    }
    if !characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Err(Error::invalid(format!(
            "the name '{}' has something else than letters, digits, '_', '.' and '-'",
            printable(name)
        )));
    }
    Ok(())
}

/// Checks an interface's name as the kernel does, and refuses `all` and `default`, which are
/// directories beside the interfaces' in `/proc/sys/net`.
pub fn check_interface(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::invalid("the interface name is empty"));
    }
    check_length("interface name", name, MAX_INTERFACE_LEN)?;
    if matches!(name, "." | ".." | "all" | "default")
        || !name.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':' && c != '%')
    {
        return Err(Error::invalid(format!(
            "'{}' is not a usable interface name",
            printable(name)
        )));
    }
    Ok(())
}

fn check_length(what: &str, name: &str, max: usize) -> Result<(), Error> {
    if name.len() <= max {
        return Ok(());
    }
    Err(Error::invalid(format!("the {what} '{}' has {} characters", printable(name), name.len()))
        .hint(format!("use at most {max}")))
}

/// The name with control characters escaped, so that the message stays one line.
fn printable(name: &str) -> String {
    name.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_file_names() {
        for name in ["a", "web", "Web-1.example_2", "0", &"x".repeat(64), &"x".repeat(128)] {
            assert!(check(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn refuses_other_names() {
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
            (&"x".repeat(129), "129 characters; use at most 128"),
        ] {
            let error = check(name).unwrap_err().to_string();
            assert!(error.contains(reason), "{name:?}: {error}");
            assert!(!error.contains('\n'), "{name:?}: {error}");
        }
    }

    #[test]
    fn instance_names_fit_bpffs() {
        assert!(check_instance("lab-2").is_ok());
        assert!(check_instance("lab.2").is_err());
        for length in [33, 129] {
            let error = check_instance(&"x".repeat(length)).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("has {length} characters; use at most 32")),
                "{error}"
            );
        }
        assert!(check_instance("../x").is_err());
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        for name in ["eth0", "cw0", "br-0123456789ab", "wlp0s20f3.5"] {
            assert!(check_interface(name).is_ok(), "{name}");
        }
        for name in ["", "sixteen-letters-", "a b", "a/b", "..", "all", "default", "e:0", "a%d"] {
            assert!(check_interface(name).is_err(), "{name}");
        }
    }
}
