//! The netfilter rules of a namespace, to check that there are none.

use std::{fs, os::fd::AsRawFd as _, process::Command};

use causeway_netlink::Netns;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
        socket,
    },
};

use crate::place;

/// The answer to one way of listing rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The command.
    pub command: &'static str,
    /// Whether the command is installed. The kernel is asked in any case.
    pub installed: bool,
    /// Its output without comments, and the kernel's answer. Empty if there is no rule, chain or
    /// table.
    pub rules: String,
}

/// Asks `iptables-save` and `nft list ruleset`.
pub fn rulesets(netns: &Netns) -> [Ruleset; 2] {
    let ask = |command: &'static str, kernel: fn() -> String| {
        let mut words = command.split(' ');
        let printed =
            place::output(netns, Command::new(words.next().unwrap_or_default()).args(words));
        let installed = printed.is_some();
        // iptables-save has two back ends, and prints the rules of one.
        let rules = without_comments(&printed.unwrap_or_default()) + &place::run(netns, kernel);
        Ruleset { command, installed, rules }
    };
    [ask("iptables-save", legacy_tables), ask("nft list ruleset", nft_tables)]
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

fn legacy_tables() -> String {
    // The file does not exist without the module.
    fs::read_to_string("/proc/thread-self/net/ip_tables_names")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn nft_tables() -> String {
    match count_nft_tables() {
        Ok(0) | Err(Errno::EPROTONOSUPPORT) => String::new(),
        Ok(tables) => format!("{tables} tables"),
        Err(error) => format!("cannot ask: {error}"),
    }
}

/// Asks by `NFT_MSG_GETTABLE`.
fn count_nft_tables() -> nix::Result<usize> {
    const DUMP: u16 = 0x301;
    const GET_TABLE: u16 = 10 << 8 | 1;
    const NEW_TABLE: u16 = 10 << 8;
    const ERROR: u16 = 2;
    const DONE: u16 = 3;

    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    // A netlink header (length, type, flags, sequence, port), then family, version and resource.
    let mut request = 20_u32.to_ne_bytes().to_vec();
    request.extend(GET_TABLE.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 12]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let (mut tables, mut buffer) = (0, vec![0; 65536]);
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((header, _)) = rest.split_at_checked(16) {
            let size = u32::from_ne_bytes(header[..4].try_into().expect("four bytes")) as usize;
            match u16::from_ne_bytes(header[4..6].try_into().expect("two bytes")) {
                NEW_TABLE => tables += 1,
                ERROR => {
                    let code = rest
                        .get(16..20)
                        .map_or(0, |code| i32::from_ne_bytes(code.try_into().expect("four bytes")));
                    return Err(Errno::from_raw(-code));
                }
                DONE => return Ok(tables),
                _ => {}
            }
            rest = rest.get(size.next_multiple_of(4).max(16)..).unwrap_or_default();
        }
    }
}
