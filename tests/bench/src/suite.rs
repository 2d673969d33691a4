//! All comparisons, in groups that share hosts.

use std::time::Duration;

use causeway_tests::family::{Family, V4, V6};

use crate::{
    contender::{Contender, Publishes},
    forwarding::{Comparison, Effort},
    tcp::{self, Exchange},
    traffic::{Flows, Way},
};

/// Comparisons on the same hosts.
#[derive(Clone, Debug)]
pub struct Group {
    /// The published ports.
    pub publishes: Publishes,
    /// Comparisons of forwarding, by name.
    pub comparisons: Vec<(String, Comparison)>,
    /// Exchanges between processes.
    pub exchanges: Vec<(Exchange, Way)>,
}

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What the targets need, in less than four minutes.
    Quick,
    /// The same with more rounds.
    Usual,
    /// Everything.
    Full,
}

impl Size {
    /// A comparison of forwarding or an exchange.
    pub const fn effort(self) -> Effort {
        let (rounds, turn) = match self {
            Self::Quick => (9, 60),
            Self::Usual => (15, 100),
            Self::Full => (31, 150),
        };
        Effort { rounds, turn: Duration::from_millis(turn), new_flows: 100_000 }
    }
}

/// The comparisons of forwarding whose names contain one of the words. All without words.
pub fn forwarding(size: Size, only: &[String]) -> Vec<Group> {
    let mut groups = Vec::new();
    let all = |publishes| Group { publishes, comparisons: Vec::new(), exchanges: Vec::new() };
    let mut first = all(Publishes::Singles(1));
    // On hosts of their own, since tables for so many flows are slower for few flows too.
    let mut big = all(Publishes::Singles(1));
    let sizes: &[u32] = if size == Size::Quick { &[1_000] } else { &[1, 1_000] };
    for (way, word) in [(Way::Inwards, "published"), (Way::Outwards, "masquerade")] {
        let unless_quick = if size == Size::Quick { &Family::ALL[..1] } else { &Family::ALL };
        for flows in sizes {
            first.add(
                &format!("{word}, {}", count(*flows, "flow")),
                way,
                Flows::Of(*flows),
                &Family::ALL,
            );
        }
        let families = if way == Way::Inwards { &Family::ALL } else { unless_quick };
        first.add(&format!("{word}, new flows"), way, Flows::New, families);
        if size != Size::Quick || way == Way::Inwards {
            big.add(
                &format!("{word}, {}", count(900_000, "flow")),
                way,
                Flows::Of(900_000),
                unless_quick,
            );
        }
    }
    first.add("container to container", Way::Across, Flows::Of(1_000), &Family::ALL);
    if size != Size::Quick {
        first.add(
            "published, 1,000 flows, from the wire",
            Way::Wire,
            Flows::Of(1_000),
            &Family::ALL,
        );
        first.add("martians, from the wire", Way::Martian, Flows::Of(1_000), &Family::ALL);
    }
    let ways = [Way::Inwards, Way::Outwards];
    first.exchanges =
        Exchange::ALL.into_iter().flat_map(|exchange| ways.map(|way| (exchange, way))).collect();
    if size == Size::Quick {
        first
            .exchanges
            .retain(|(exchange, way)| *exchange == Exchange::Stream || *way == Way::Inwards);
    }
    groups.push(first);
    groups.push(big);
    let more: &[Publishes] = match size {
        Size::Quick => &[Publishes::Singles(5_000), Publishes::Range(5_000)],
        Size::Usual | Size::Full => &[
            Publishes::Singles(100),
            Publishes::Singles(1_000),
            Publishes::Singles(5_000),
            Publishes::Range(5_000),
            Publishes::Singles(10_000),
            Publishes::Range(10_000),
        ],
    };
    for publishes in more {
        let mut group = all(*publishes);
        let word = match publishes {
            Publishes::Singles(ports) => count((*ports).into(), "publish"),
            Publishes::Range(ports) => format!("a range of {}", count((*ports).into(), "port")),
        };
        group.add(&format!("published, new flows, {word}"), Way::Inwards, Flows::New, &[V4]);
        if size != Size::Quick || matches!(publishes, Publishes::Singles(_)) {
            group.add(
                &format!("published, 1,000 flows, {word}"),
                Way::Inwards,
                Flows::Of(1_000),
                &[V4],
            );
        }
        groups.push(group);
    }
    let names: Vec<String> = groups.iter().flat_map(Group::names).collect();
    for group in &mut groups {
        group.comparisons.retain(|(name, _)| wanted(name, only, &names));
        group.exchanges.retain(|(exchange, way)| wanted(&tcp::name(*exchange, *way), only, &names));
    }
    groups.retain(|group| group.names().next().is_some());
    groups
}

/// Whether `--only` selects it: by its whole name, or by a part that is not the whole name of
/// another.
pub fn wanted(name: &str, only: &[String], all: &[String]) -> bool {
    only.is_empty()
        || only
            .iter()
            .any(|word| name == word || (name.contains(word.as_str()) && !all.contains(word)))
}

impl Group {
    /// Comparisons of one name are adjacent.
    fn add(&mut self, name: &str, way: Way, flows: Flows, families: &[Family]) {
        for family in families {
            let name = if *family == V4 { name.to_owned() } else { by_ipv6(name) };
            self.comparisons.push((
                name,
                Comparison { way, family: *family, flows, publishes: self.publishes },
            ));
        }
    }

    /// Names of the comparisons.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let exchanges = self.exchanges.iter().map(|(exchange, way)| tcp::name(*exchange, *way));
        self.comparisons.iter().map(|(name, _)| name.clone()).chain(exchanges)
    }

    /// Whether a contender takes part.
    pub fn has(&self, contender: Contender) -> bool {
        self.comparisons.iter().any(|(_, comparison)| contender.takes_part(comparison))
            || self.exchanges.iter().any(|(_, way)| contender.exchanges(*way))
    }

    /// Number of figures for those contenders.
    pub fn turns(&self, contenders: &[Contender]) -> usize {
        let figures = |contender: &Contender| {
            self.comparisons
                .iter()
                .filter(|(_, comparison)| contender.takes_part(comparison))
                .count()
                + self.exchanges.iter().filter(|(_, way)| contender.exchanges(*way)).count()
        };
        contenders.iter().map(figures).sum()
    }

    /// The families of the packets.
    pub fn families(&self) -> Vec<Family> {
        let is_there = |family: &Family| {
            self.comparisons.iter().any(|(_, comparison)| comparison.family == *family)
                || (*family == V4 && !self.exchanges.is_empty())
        };
        Family::ALL.into_iter().filter(is_there).collect()
    }

    /// The largest number of concurrent flows.
    pub fn flows(&self) -> u32 {
        let flows = |(_, comparison): &(String, Comparison)| match comparison.flows {
            Flows::Of(flows) => flows,
            Flows::New => 0,
        };
        self.comparisons.iter().map(flows).max().unwrap_or_default()
    }
}

/// The name of an IPv6 comparison.
pub fn by_ipv6(name: &str) -> String {
    format!("{name}, {V6}")
}

/// `1,000 flows`.
pub fn count(number: u32, noun: &str) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let plural = match (number, noun.ends_with("sh")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{grouped} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_nouns_inflected() {
        assert_eq!(count(1, "flow"), "1 flow");
        assert_eq!(count(900_000, "flow"), "900,000 flows");
        assert_eq!(count(5_000, "publish"), "5,000 publishes");
    }

    #[test]
    fn only_selects_by_substring() {
        let groups = forwarding(Size::Quick, &["5,000 publishes".to_owned()]);
        let names: Vec<_> = groups
            .iter()
            .flat_map(|group| &group.comparisons)
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            names,
            ["published, new flows, 5,000 publishes", "published, 1,000 flows, 5,000 publishes"]
        );
        let groups = forwarding(Size::Quick, &["published, 1,000 flows".to_owned()]);
        assert_eq!(groups.iter().map(|group| group.comparisons.len()).collect::<Vec<_>>(), [1]);
        assert_eq!(groups[0].families(), [V4]);
    }

    #[test]
    fn families_alternate_in_established_rows() {
        let groups = forwarding(Size::Quick, &[]);
        for name in [
            "published, 1,000 flows",
            "masquerade, 1,000 flows",
            "container to container",
            "published, new flows",
        ] {
            let at = groups[0].comparisons.iter().position(|(of, _)| of == name).unwrap();
            let [(_, four), (of_six, six)] = &groups[0].comparisons[at..at + 2] else {
                unreachable!()
            };
            assert_eq!(*of_six, by_ipv6(name));
            assert!(four.is_beside(six) && four.family != six.family);
        }
    }
}
