//! Command lines in documents: their verbs and options exist.
//!
//! xtask's own are known from clap's definitions, those of `causeway` from its help.

use std::collections::{BTreeMap, BTreeSet};

/// Headings above the verbs in a help text: clap's own, and that of `causeway`.
const HEADINGS: [&str; 2] = ["Commands:", "Verbs:"];

/// The verbs and options below one verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Help {
    /// Verbs below this one.
    verbs: BTreeSet<String>,
    /// Options, and whether the next word is the option's value.
    options: BTreeMap<String, bool>,
    /// Whether unknown options are passed on.
    is_open: bool,
}

impl Help {
    /// Parses the output of `--help`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut help = Self::default();
        let mut in_verbs = false;
        for line in text.lines() {
            let word = line.trim_start();
            if !line.starts_with(' ') && line.ends_with(':') {
                in_verbs = HEADINGS.contains(&line);
            } else if word.starts_with('-') {
                help.add_options(word);
            } else if in_verbs
                && let Some(verb) = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))
            {
                let verb = verb.split_whitespace().next().unwrap_or_default();
                help.verbs.insert(verb.to_owned());
                let aliases =
                    line.split("[aliases: ").skip(1).flat_map(|rest| rest.split([',', ']']));
                help.verbs
                    .extend(aliases.map(str::trim).filter(|a| !a.is_empty()).map(str::to_owned));
            }
        }
        help
    }

    /// Whether there is any verb.
    pub(crate) fn has_verbs(&self) -> bool {
        !self.verbs.is_empty()
    }

    /// Reads clap's definition.
    pub(crate) fn of(command: &clap::Command) -> Self {
        let mut help = Self::default();
        for verb in command.get_subcommands() {
            help.verbs
                .extend(verb.get_name_and_visible_aliases().iter().map(|name| (*name).to_owned()));
        }
        for argument in command.get_arguments() {
            let takes_value = argument.get_action().takes_values();
            let long = argument.get_long().map(|name| format!("--{name}"));
            let short = argument.get_short().map(|letter| format!("-{letter}"));
            help.options.extend(long.into_iter().chain(short).map(|name| (name, takes_value)));
            help.is_open |= argument.is_allow_hyphen_values_set();
        }
        help
    }

    /// Adds the options of a line such as `-p, --publish <PUBLISH>  Publish a port`.
    fn add_options(&mut self, line: &str) {
        let names = line.split("  ").next().unwrap_or_default();
        let takes_value = names.contains(" <");
        for name in names.split([',', ' ', '=', '[']).filter(|word| word.starts_with('-')) {
            self.options.insert(name.trim_end_matches("...").to_owned(), takes_value);
        }
    }
}

/// The fault of a command line without the program's name. `help` returns the verbs and options
/// below the given verbs.
pub(crate) fn wrong(words: &[String], help: &mut impl FnMut(&[String]) -> Help) -> Option<String> {
    let mut verbs: Vec<String> = Vec::new();
    let mut here = help(&verbs);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        if let Some(option) = word.strip_prefix('-').and(word.split(['=', '[']).next()) {
            match here.options.get(option) {
                Some(true) if !word.contains('=') => {
                    words.next();
                }
                Some(_) => {}
                None if here.is_open => {}
                None => {
                    let of = verbs.join(" ");
                    return Some(format!("'{of}' has no option {option}"));
                }
            }
        } else if here.verbs.contains(word) {
            verbs.push(word.clone());
            here = help(&verbs);
        } else if !here.verbs.is_empty() && is_literal(word) {
            return Some(format!("'{}' has no verb '{word}'", verbs.join(" ")));
        }
    }
    None
}

/// Whether a word is literal, and no placeholder such as `VERB`.
fn is_literal(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_lowercase()) && word.is_ascii()
}

/// The words after `program` in each command line that calls it. Prompts, `sudo`, variables, the
/// brackets of a synopsis and further commands of a pipe are dropped.
pub(crate) fn commands(line: &str, program: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let line = without_substitutions(line);
    for part in line.split("&&").flat_map(|part| part.split(';')) {
        let Some(words) = behind(part, program) else { continue };
        let words = words.iter().map(|word| word.trim_matches(BRACKETS).trim_end_matches("..."));
        let words = words.map(|word| word.trim_matches(BRACKETS)).filter(|word| !word.is_empty());
        found.push(words.map(str::to_owned).collect());
    }
    found
}

/// Replaces each `$(command)` in a line with one word.
fn without_substitutions(line: &str) -> String {
    let mut rest = String::from(line);
    while let Some(start) = rest.find("$(") {
        let end = rest[start..].find(')').map_or(rest.len(), |end| start + end + 1);
        rest.replace_range(start..end, "SUBSTITUTED");
    }
    rest
}

const BRACKETS: [char; 6] = ['[', ']', '(', ')', '"', '\''];

/// The words after the program's name, if the line calls it.
fn behind(line: &str, program: &str) -> Option<Vec<String>> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    while let [first, ..] = words[..]
        && (["$", "#", "%", "sudo"].contains(&first) || is_variable(first))
    {
        words.remove(0);
    }
    for name in program.split(' ') {
        if words.first()? != &name {
            return None;
        }
        words.remove(0);
    }
    let mut depth = 0_i32;
    let end = words.iter().position(|word| {
        let is_end = depth == 0 && ["|", ">", ">>", "2>&1", "<", "&", "#", "\\"].contains(word);
        depth += count(word, &['[', '(']) - count(word, &[']', ')']);
        is_end || word.starts_with("2>")
    });
    words.truncate(end.unwrap_or(words.len()));
    // In brackets it separates alternatives.
    words.retain(|word| *word != "|");
    Some(words.into_iter().flat_map(|word| word.split('|')).map(str::to_owned).collect())
}

fn is_variable(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|l| l.is_ascii_uppercase() || l == '_')
    })
}

fn count(word: &str, letters: &[char]) -> i32 {
    i32::try_from(word.chars().filter(|letter| letters.contains(letter)).count()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: &str = "\
Does it.

Usage: causeway [OPTIONS] <COMMAND>

Commands:
  up       Run the agent
  network  Networks [aliases: net]

Options:
      --json             Print JSON
      --instance <NAME>  Name of the instance
  -v, --verbose...       More
";
    const NETWORK: &str = "\
Usage: causeway network <COMMAND>

Commands:
  create  Create one

Options:
      --json  Print JSON
";
    const CREATE: &str = "\
Usage: causeway network create [OPTIONS] <NAME>

Options:
      --subnet <CIDR>
          A subnet
      --no-masquerade[=<FAMILY>]
          Keep
";

    fn check(line: &str) -> Option<String> {
        let commands = commands(line, "causeway");
        let mut help = |verbs: &[String]| {
            let verbs: Vec<_> = verbs.iter().map(String::as_str).collect();
            Help::parse(match verbs[..] {
                [] => TOP,
                ["network"] => NETWORK,
                ["network", "create"] => CREATE,
                _ => "",
            })
        };
        commands.iter().find_map(|words| wrong(words, &mut help))
    }

    #[test]
    fn help_lists_verbs_and_options() {
        let help = Help::parse(TOP);
        assert_eq!(help.verbs, ["up", "network", "net"].map(str::to_owned).into());
        let options =
            [("--json", false), ("--instance", true), ("-v", false), ("--verbose", false)];
        assert_eq!(help.options, options.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn lines_that_are_right_pass() {
        for line in [
            "$ sudo causeway --instance up network create blue --subnet 10.0.0.0/8",
            "causeway network create NAME [--subnet CIDR]... [--no-masquerade[=FAMILY]]",
            "causeway network create a --no-masquerade=ipv4 | jq '.[] | .name'",
            "A=1 causeway up; causeway --json network create x",
            "causeway VERB --json",
            "causeway network create --subnet $(ip a | cut -c x) b",
            "causeway network create NAME (--subnet CIDR | --no-masquerade)",
            "echo causeway nonsense",
        ] {
            assert_eq!(check(line), None, "{line}");
        }
    }

    #[test]
    fn verbs_and_options_that_are_not_there_are_found() {
        for (line, wrong) in [
            ("causeway down", "has no verb 'down'"),
            ("causeway network delete x", "'network' has no verb 'delete'"),
            ("causeway network create x --mtu 1400", "'network create' has no option --mtu"),
            ("true && causeway --verbos", "no option --verbos"),
            ("causeway network create [-x N]", "no option -x"),
        ] {
            let found = check(line).unwrap_or_default();
            assert!(found.contains(wrong), "{line}: {found}");
        }
    }
}
