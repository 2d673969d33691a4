//! Bad usage: clap's errors as one line.

use std::ffi::OsString;

use causeway_api::Error;
use clap::{
    Command, CommandFactory as _,
    error::{ContextKind, ErrorKind},
};

use super::args::Cli;

/// The reason, and where to read more.
pub(super) fn to_error(error: &clap::Error, arguments: &[OsString]) -> Error {
    let verb = verb_of(&Cli::command(), arguments);
    Error::invalid(reason(error)).hint(format!("see '{verb} --help'"))
}

/// The first paragraph of clap's message. What clap calls a subcommand is a verb here.
fn reason(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::MissingSubcommand {
        let verbs = error.get(ContextKind::ValidSubcommand);
        let verbs = verbs.map(|verbs| format!("; the verbs are {verbs}"));
        return format!("no verb is given{}", verbs.unwrap_or_default());
    }
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(verb) = error.get(ContextKind::InvalidSubcommand)
    {
        return format!("there is no verb '{verb}'");
    }
    let text = error.to_string();
    let paragraph: Vec<&str> =
        text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let reason = paragraph.join(" ");
    reason.strip_prefix("error: ").unwrap_or(&reason).to_owned()
}

/// The verb that the arguments name, such as `causeway network create`.
fn verb_of(root: &Command, arguments: &[OsString]) -> String {
    let mut path = root.get_name().to_owned();
    let mut command = root;
    for argument in arguments {
        if let Some(deeper) = command.find_subcommand(argument) {
            path = format!("{path} {}", deeper.get_name());
            command = deeper;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn errors_are_one_line_with_the_help_to_read() {
        for (line, reason, verb) in [
            ("", "no verb is given; the verbs are up, down", "causeway"),
            ("network", "no verb is given; the verbs are create, ls", "causeway network"),
            ("nonsense", "there is no verb 'nonsense'", "causeway"),
            ("network destroy x", "there is no verb 'destroy'", "causeway network"),
            ("network create", "--subnet <CIDR>", "causeway network create"),
            ("network create web", "--subnet <CIDR>", "causeway network create"),
            (
                "network create web --subnet 10.0.0/24",
                "such as 10.20.0.0/16",
                "causeway network create",
            ),
            (
                "network create web --subnet 10.0.0.0/24 --mtu 70000",
                "not from 576 to 65535",
                "causeway network create",
            ),
            (
                "network create a --subnet 10.0.0.0/24 --timeout udp",
                "NAME=SECONDS",
                "causeway network create",
            ),
            (
                "network create a --subnet 10.0.0.0/24 --timeout tcp=9",
                "no timeout 'tcp'",
                "causeway network create",
            ),
            (
                "network create a --subnet 10.0.0.0/24 --timeout udp=0",
                "from 1 to 2000000",
                "causeway network create",
            ),
            (
                "network create a --subnet 10.0.0.0/24 --ports 9-5",
                "write PORT or LO-HI",
                "causeway network create",
            ),
            (
                "network create a --subnet 10.0.0.0/24 --no-masquerade=v6",
                "'v6' is not ipv4 or ipv6",
                "causeway network create",
            ),
            (
                "network create a --subnet 10.0.0.0/24 --mapping cone",
                "full-cone",
                "causeway network create",
            ),
            (
                "network create a --subnet 10.0.0.0/24 --max-flows 0",
                "at least 1",
                "causeway network create",
            ),
            (
                "network create a/b --subnet 10.0.0.0/24",
                "letters, digits",
                "causeway network create",
            ),
            ("network rm", "<NAME>", "causeway network rm"),
            ("network rm a b", "unexpected argument 'b'", "causeway network rm"),
            ("container create web -p 80", "one port where", "causeway container create"),
            ("container create web --ip 10.0.0", "not an IP address", "causeway container create"),
            ("container create web --mac zz", "not a MAC", "causeway container create"),
            ("container attach web", "--netns <PATH>", "causeway container attach"),
            (
                "container attach web --pid 1 --netns x",
                "cannot be used with",
                "causeway container attach",
            ),
            ("container attach web --pid 0", "--pid <PID>", "causeway container attach"),
            ("container exec web", "<COMMAND>", "causeway container exec"),
            ("publish add web 90-80:80", "ends before it starts", "causeway publish add"),
            ("publish add web 80:80 --from x", "--from <CIDR>", "causeway publish add"),
            ("publish move 8080:80 web", "a host port alone is needed", "causeway publish move"),
            ("publish move 8080 web --drain 0", "seconds from 1 to 86400", "causeway publish move"),
            ("publish move 8080", "<CONTAINER>", "causeway publish move"),
            ("flows drop", "there is no verb 'drop'", "causeway flows"),
            ("flows ls --protocol gre", "not tcp, udp, icmp, icmpv6, sctp", "causeway flows ls"),
            (
                "flows --state open",
                "there is no state 'open'; there is unreplied",
                "causeway flows",
            ),
            ("flows flush --address 10.0.0.1/8", "write 10.0.0.0/8", "causeway flows flush"),
            ("flows --container web flush", "cannot be used with", "causeway flows flush"),
            ("stats --jsn", "unexpected argument '--jsn'", "causeway stats"),
            ("up --instance a.b", "has a dot", "causeway up"),
            ("up --xdp native", "'native' is not auto, on or off", "causeway up"),
            ("up --device macvlan", "'macvlan' is not veth or netkit", "causeway up"),
            ("up --uplink sixteen-letters-", "16 characters", "causeway up"),
        ] {
            let text = wrong(line);
            assert!(text.contains(reason), "{line}: {text}");
            assert!(text.ends_with(&format!("; see '{verb} --help'")), "{line}: {text}");
            assert!(!text.contains('\n'), "{line}: {text}");
        }
    }

    fn wrong(line: &str) -> String {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let whole = std::iter::once(OsString::from("causeway")).chain(arguments.clone());
        to_error(&Cli::try_parse_from(whole).unwrap_err(), &arguments).line("default")
    }
}
