//! Measurements are costs: less is better, and "times as good" always means the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{contender::Contender, statistics::Spread};

/// One comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Name on the command line and in files.
    pub name: String,
    /// The metric.
    pub metric: Metric,
    /// Costs by contender.
    pub figures: BTreeMap<Contender, Figure>,
}

/// The results of one contender.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// Cost per round, in the unit of the metric.
    pub rounds: Vec<f64>,
    /// Number sent in all rounds.
    #[serde(default)]
    pub sent: u64,
    /// Number that did not arrive, or not as expected.
    #[serde(default)]
    pub lost: u64,
}

/// The metric of a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Nanoseconds per packet, including the cost of the measurement.
    Packet,
    /// Nanoseconds per MiB.
    Stream,
    /// Median latency, in microseconds.
    Median,
    /// 99th percentile of latency, in microseconds.
    P99,
    /// 99.9th percentile of latency, in microseconds.
    P999,
    /// Mean time per operation, in microseconds.
    Operation,
    /// CPU time per operation in microseconds, of both ends and the path between.
    Cpu,
    /// Milliseconds.
    Milliseconds,
}

impl Metric {
    /// Unit in tables.
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

    /// Name and unit, where a measurement has several metrics.
    pub const fn unit_of_latency(self) -> Option<&'static str> {
        match self {
            Self::Packet | Self::Stream | Self::Milliseconds => None,
            Self::Median | Self::P99 | Self::P999 | Self::Operation | Self::Cpu => {
                Some(self.unit())
            }
        }
    }

    /// The cost as a rate, where that is usual.
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

    /// How many times as good causeway is as another contender, per round: a disturbance affects
    /// all turns of a round.
    pub fn ratio(&self, against: Contender) -> Option<Spread> {
        let (ours, theirs) = (self.figures.get(&Contender::Causeway)?, self.figures.get(&against)?);
        Spread::of(theirs.rounds.iter().zip(&ours.rounds).map(|(theirs, ours)| theirs / ours))
    }

    /// How many times as good causeway is here as in another measurement, net of the floor if
    /// `net`. Only meaningful if both took turns.
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

    /// The contenders that lost packets, in words. Their cost covers only packets that arrived.
    pub fn losses(&self) -> Vec<String> {
        let lossy = self.figures.iter().filter(|(_, figure)| figure.lost > 0);
        let told = |(contender, figure): (&Contender, &Figure)| {
            format!("{}: {contender} lost {} of {} packets", self.name, figure.lost, figure.sent)
        };
        lossy.map(told).collect()
    }

    /// Cost of a contender net of the floor.
    pub fn net(&self, of: Contender) -> Option<Spread> {
        Spread::of(self.net_rounds(of)?)
    }

    /// How many times as good causeway is as another contender, both net of the floor.
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
