//! What was measured: costs, so that less is better and "times as good" means the same of
//! everything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{contender::Contender, statistics::Spread};

/// One comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// What it is called on the command line and in files.
    pub name: String,
    /// What the cost is of.
    pub metric: Metric,
    /// The costs of each contender.
    pub figures: BTreeMap<Contender, Figure>,
}

/// What one contender had.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// The cost in each round, in the metric's unit.
    pub rounds: Vec<f64>,
    /// What was sent in all rounds together.
    #[serde(default)]
    pub sent: u64,
    /// What of it did not arrive, or not as it should.
    #[serde(default)]
    pub lost: u64,
}

/// What a cost is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Nanoseconds for a packet, all that is measured with it included.
    Packet,
    /// Nanoseconds for a MiB.
    Stream,
    /// Microseconds that half of the operations do not take.
    Median,
    /// Microseconds that 99 % of the operations do not take.
    P99,
    /// Microseconds that 99.9 % of the operations do not take.
    P999,
    /// Microseconds from one operation to the next, in the mean.
    Operation,
    /// Microseconds of a CPU for an operation: both ends and what is between them.
    Cpu,
    /// Milliseconds.
    Milliseconds,
}

impl Metric {
    /// Its unit in tables.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Packet => "ns/packet",
            Self::Stream => "ns/MiB",
            Self::Median => "µs, p50",
            Self::P99 => "µs, p99",
            Self::P999 => "µs, p99.9",
            Self::Operation => "µs/operation",
            Self::Cpu => "µs CPU/operation",
            Self::Milliseconds => "ms",
        }
    }

    /// Its unit where a measurement has several metrics.
    pub const fn unit_of_latency(self) -> Option<&'static str> {
        match self {
            Self::Packet | Self::Stream | Self::Milliseconds => None,
            Self::Median | Self::P99 | Self::P999 | Self::Operation | Self::Cpu => {
                Some(self.unit())
            }
        }
    }

    /// The same as a rate, where that is what people say.
    pub fn rate(self, cost: f64) -> Option<String> {
        match self {
            Self::Packet => Some(format!("{:.2} Mpps", 1e3 / cost)),
            Self::Stream => Some(format!("{:.1} Gbit/s", 8.0 * f64::from(1 << 20) / cost)),
            Self::Operation => Some(format!("{:.1} k/s", 1e3 / cost)),
            Self::Median | Self::P99 | Self::P999 | Self::Cpu | Self::Milliseconds => None,
        }
    }
}

impl Measurement {
    /// The cost of one contender.
    pub fn cost(&self, of: Contender) -> Option<Spread> {
        Spread::of(self.figures.get(&of)?.rounds.iter().copied())
    }

    /// How many times as good causeway is as another: of each round, since what disturbs a round
    /// disturbs all of it.
    pub fn ratio(&self, against: Contender) -> Option<Spread> {
        let (ours, theirs) = (self.figures.get(&Contender::Causeway)?, self.figures.get(&against)?);
        Spread::of(theirs.rounds.iter().zip(&ours.rounds).map(|(theirs, ours)| theirs / ours))
    }

    /// How many times as good causeway is here as in another measurement, both net of the floor if
    /// so wanted. It says something of those whose rounds were taken in turn.
    pub fn ratio_to(&self, other: &Self, net: bool) -> Option<Spread> {
        let rounds = |of: &Self| {
            if net {
                of.net_rounds(Contender::Causeway)
            } else {
                Some(of.figures.get(&Contender::Causeway)?.rounds.clone())
            }
        };
        Spread::of(rounds(other)?.iter().zip(rounds(self)?).map(|(theirs, ours)| theirs / ours))
    }

    /// Who lost packets, so that the cost is only of those that arrived: in words.
    pub fn losses(&self) -> Vec<String> {
        let lossy = self.figures.iter().filter(|(_, figure)| figure.lost > 0);
        let told = |(contender, figure): (&Contender, &Figure)| {
            format!("{}: {contender} lost {} of {} packets", self.name, figure.lost, figure.sent)
        };
        lossy.map(told).collect()
    }

    /// A contender's cost net of the floor.
    pub fn net(&self, of: Contender) -> Option<Spread> {
        Spread::of(self.net_rounds(of)?)
    }

    /// How many times as good causeway is as another, both net of the floor.
    pub fn net_ratio(&self, against: Contender) -> Option<Spread> {
        let (ours, theirs) = (self.net_rounds(Contender::Causeway)?, self.net_rounds(against)?);
        Spread::of(theirs.iter().zip(&ours).map(|(theirs, ours)| theirs / ours))
    }

    fn net_rounds(&self, of: Contender) -> Option<Vec<f64>> {
        let (rounds, floor) =
            (&self.figures.get(&of)?.rounds, &self.figures.get(&Contender::Floor)?.rounds);
        Some(rounds.iter().zip(floor).map(|(cost, floor)| cost - floor).collect())
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact")]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_per_round_and_net_of_the_floor() {
        let figure = |rounds: [f64; 2]| Figure { rounds: rounds.into(), ..Figure::default() };
        let measurement = Measurement {
            name: "test".into(),
            metric: Metric::Packet,
            // The second round was disturbed.
            figures: BTreeMap::from([
                (Contender::Floor, figure([100.0, 200.0])),
                (Contender::Plain, figure([400.0, 800.0])),
                (Contender::Causeway, figure([200.0, 400.0])),
            ]),
        };
        assert_eq!(measurement.ratio(Contender::Plain).unwrap().median, 2.0);
        assert_eq!(measurement.net_ratio(Contender::Plain).unwrap().median, 3.0);
        assert_eq!(measurement.net(Contender::Causeway).unwrap().median, 150.0);
        assert_eq!(measurement.ratio(Contender::NftMap), None);
        let other = Measurement {
            figures: BTreeMap::from([
                (Contender::Floor, figure([100.0, 200.0])),
                (Contender::Causeway, figure([300.0, 600.0])),
            ]),
            ..measurement.clone()
        };
        assert_eq!(measurement.ratio_to(&other, false).unwrap().median, 1.5);
        assert_eq!(measurement.ratio_to(&other, true).unwrap().median, 2.0);
    }
}
