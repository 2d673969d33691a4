//! Flows and counters, read from the datapath.

use std::{collections::BTreeMap, net::IpAddr};

use super::Agent;
use crate::{
    api::{Direction, Flow, Flushed, Stats},
    datapath::FlowRecord,
};

impl Agent {
    pub(super) fn flow_list(&self) -> anyhow::Result<Vec<Flow>> {
        let mut owners: BTreeMap<IpAddr, (&str, &str)> = BTreeMap::new();
        for container in self.state.containers.values() {
            for endpoint in &container.endpoints {
                let owner = (container.name.as_str(), endpoint.network.as_str());
                owners.extend(endpoint.addresses.iter().map(|address| (address.addr(), owner)));
            }
        }
        let records = self.datapath.flows()?;
        Ok(records.iter().map(|record| view_flow(record, &owners)).collect())
    }

    pub(super) fn flow_flush(&mut self) -> anyhow::Result<Flushed> {
        Ok(Flushed { flows: self.datapath.flush_flows()? })
    }

    pub(super) fn stats(&self) -> anyhow::Result<Stats> {
        let reasons = self.datapath.reasons()?;
        Ok(Stats { reasons: reasons.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect() })
    }
}

fn view_flow(record: &FlowRecord, owners: &BTreeMap<IpAddr, (&str, &str)>) -> Flow {
    let owner = owners.get(&record.container);
    let direction = |(source, destination): (std::net::SocketAddr, std::net::SocketAddr)| Direction {
        source: source.to_string(),
        destination: destination.to_string(),
    };
    Flow {
        protocol: match record.protocol {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            132 => "sctp".to_owned(),
            other => other.to_string(),
        },
        state: record.state.to_owned(),
        container: owner.map(|(container, _)| (*container).to_owned()),
        network: owner.map(|(_, network)| (*network).to_owned()),
        forward: direction(record.forward),
        reply: direction(record.reply),
        packets: record.packets,
        bytes: record.bytes,
        expires_in_s: record.expires_in_s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_names_its_container_while_there_is_one() {
        let record = FlowRecord {
            protocol: 17,
            state: "established",
            container: "172.18.0.2".parse().unwrap(),
            forward: ("172.18.0.2:5000".parse().unwrap(), "203.0.113.9:53".parse().unwrap()),
            reply: ("203.0.113.9:53".parse().unwrap(), "10.0.2.15:5000".parse().unwrap()),
            packets: 2,
            bytes: 120,
            expires_in_s: 29,
        };
        let owners = BTreeMap::from([("172.18.0.2".parse().unwrap(), ("web", "default"))]);
        let flow = view_flow(&record, &owners);
        assert_eq!(
            (flow.protocol.as_str(), flow.container.as_deref(), flow.network.as_deref()),
            ("udp", Some("web"), Some("default"))
        );
        assert_eq!(flow.reply.destination, "10.0.2.15:5000");
        let flow = view_flow(&FlowRecord { protocol: 132, ..record }, &BTreeMap::new());
        assert_eq!((flow.protocol.as_str(), flow.container), ("132", None));
    }
}
