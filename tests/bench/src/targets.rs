//! Targets: ratios within one run.

use serde::Serialize;

use crate::{
    contender::Contender,
    measurement::{Measurement, Metric},
    suite::by_ipv6,
};

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    name: &'static str,
    metric: Metric,
    /// Whether it is net of the floor.
    net: bool,
    against: Against,
    /// The required ratio.
    factor: f64,
}

#[derive(Clone, Copy, Debug)]
enum Against {
    Other(Contender),
    /// Another measurement of causeway; plain routing in both shows how the machine was at the
    /// time.
    Itself(&'static str),
    /// IPv6 compared with IPv4, both with causeway.
    Families,
}

/// A target and its result.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The target, in words.
    pub what: String,
    /// The required ratio.
    pub target: f64,
    /// The measured ratio.
    pub ratio: f64,
}

impl Outcome {
    /// Whether the target is met.
    pub fn reached(&self) -> bool {
        self.ratio >= self.target
    }
}

const fn target(name: &'static str, metric: Metric, against: Contender, factor: f64) -> Target {
    Target { name, metric, net: false, against: Against::Other(against), factor }
}

const fn net(name: &'static str, against: Contender, factor: f64) -> Target {
    Target { name, metric: Metric::Packet, net: true, against: Against::Other(against), factor }
}

/// IPv6 may cost at most 15 % more than IPv4.
const fn families(name: &'static str, net: bool) -> Target {
    Target { name, metric: Metric::Packet, net, against: Against::Families, factor: 1.0 / 1.15 }
}

/// Must not cost more than an earlier build, within the precision of the measurement.
const fn before(name: &'static str) -> Target {
    target(name, Metric::Packet, Contender::CausewayBefore, 0.98)
}

const REQUESTS: &str = "TCP request/response, published";
const CONNECTIONS: &str = "TCP connect/request/response/close, published";

/// All targets, in the order of the table.
const TARGETS: [Target; 35] = {
    use Contender::{IptablesLegacy as Legacy, NftMap, Plain};
    use Metric::{Median, Operation, P99, Packet, Stream};
    [
        target("published, 1,000 flows", Packet, Legacy, 2.8),
        target("published, 1,000 flows", Packet, Plain, 2.0),
        net("published, 1,000 flows", Legacy, 6.0),
        net("published, 1,000 flows", Plain, 3.0),
        target("published, 900,000 flows", Packet, Legacy, 2.8),
        target("masquerade, 1,000 flows", Packet, Legacy, 2.8),
        target("masquerade, 1,000 flows", Packet, Plain, 2.0),
        target("published, new flows", Packet, Legacy, 4.0),
        target("published, new flows, 5,000 publishes", Packet, Legacy, 60.0),
        target("published, new flows, 5,000 publishes", Packet, NftMap, 2.0),
        Target {
            name: "published, new flows, 5,000 publishes",
            metric: Packet,
            net: false,
            against: Against::Itself("published, new flows"),
            factor: 0.95,
        },
        Target {
            name: "published, new flows, a range of 5,000 ports",
            metric: Packet,
            net: false,
            against: Against::Itself("published, new flows"),
            factor: 0.95,
        },
        target("container to container", Packet, Plain, 2.0),
        target(CONNECTIONS, Operation, Legacy, 1.2),
        target(CONNECTIONS, Operation, Plain, 1.0),
        target(REQUESTS, Median, Legacy, 1.0 / 0.85),
        target(REQUESTS, Median, Plain, 1.0 / 0.95),
        target(REQUESTS, P99, Legacy, 1.0 / 0.85),
        target(REQUESTS, P99, Plain, 1.0 / 0.95),
        target("TCP stream, published", Stream, Legacy, 1.0),
        target("TCP stream, published", Stream, Plain, 1.0),
        target("TCP stream, masquerade", Stream, Legacy, 1.0),
        target("TCP stream, masquerade", Stream, Plain, 1.0),
        families("published, 1,000 flows", false),
        families("published, 1,000 flows", true),
        families("masquerade, 1,000 flows", false),
        families("masquerade, 1,000 flows", true),
        families("container to container", false),
        families("container to container", true),
        families("published, new flows", false),
        families("published, new flows", true),
        before("published, 1,000 flows"),
        before("masquerade, 1,000 flows"),
        before("container to container"),
        before("published, new flows"),
    ]
};

/// The targets that were measured.
pub fn outcomes(measurements: &[Measurement]) -> Vec<Outcome> {
    let find =
        |name: &str, metric| measurements.iter().find(|m| m.name == name && m.metric == metric);
    let outcome = |target: &Target| {
        let measurement = find(target.name, target.metric)?;
        let (ratio, against) = match target.against {
            Against::Other(other) if target.net => {
                (measurement.net_ratio(other)?.median, format!("{other}, net of the floor"))
            }
            Against::Other(other) => (measurement.ratio(other)?.median, other.to_string()),
            Against::Itself(name) => {
                let ratio = |measurement: &Measurement| {
                    measurement.ratio(Contender::Plain).map(|ratio| ratio.median)
                };
                (
                    ratio(measurement)? / ratio(find(name, target.metric)?)?,
                    format!("itself, {name}"),
                )
            }
            Against::Families => {
                let by_ipv6 = find(&by_ipv6(target.name), target.metric)?;
                let net = if target.net { ", net of the floor" } else { "" };
                let what = format!("{}: against {}{net}", by_ipv6.name, target.name);
                return Some(Outcome {
                    what,
                    target: target.factor,
                    ratio: by_ipv6.ratio_to(measurement, target.net)?.median,
                });
            }
        };
        let metric = match target.metric.unit_of_latency() {
            Some(unit) => format!(" ({unit})"),
            None => String::new(),
        };
        let what = format!("{}{metric}: against {against}", target.name);
        Some(Outcome { what, target: target.factor, ratio })
    };
    TARGETS.iter().filter_map(outcome).collect()
}
