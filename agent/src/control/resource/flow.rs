//! Flows and counters, read from the datapath.

use std::{collections::BTreeMap, net::IpAddr};

use causeway_api::{
    Direction, Flow, Flushed, Stats,
    types::{
        flow::FlowProtocol,
        flow_filter::{Candidate, FlowFilter},
    },
};

use crate::{control::agent::Agent, datapath::FlowRecord};

type Owners<'a> = BTreeMap<IpAddr, (&'a str, &'a str)>;

impl Agent {
    pub(in crate::control) fn flow_list(&self, filter: &FlowFilter) -> anyhow::Result<Vec<Flow>> {
        self.check_filter(filter)?;
        let owners = self.owners();
        let mut records = self.installed.datapath.flows()?;
        records.retain(|record| filter.admits(&candidate(record, &owners)));
        Ok(records.iter().map(|record| view_flow(record, &owners)).collect())
    }

    pub(in crate::control) fn flow_flush(
        &mut self,
        filter: &FlowFilter,
    ) -> anyhow::Result<Flushed> {
        self.check_filter(filter)?;
        let owners = self.owners();
        let flows = self
            .installed
            .datapath
            .end_flows(|record| filter.admits(&candidate(record, &owners)))?;
        Ok(Flushed { flows })
    }

    /// Fails if a name in the filter does not exist: an empty list would be taken for an answer.
    fn check_filter(&self, filter: &FlowFilter) -> anyhow::Result<()> {
        filter.container.as_deref().map(|name| self.state.container(name)).transpose()?;
        filter.network.as_deref().map(|name| self.state.network(name)).transpose()?;
        Ok(())
    }

    /// The containers' and networks' names by the endpoints' addresses.
    fn owners(&self) -> Owners<'_> {
        let mut owners = Owners::new();
        for container in self.state.containers.values() {
            for endpoint in &container.endpoints {
                let owner = (container.name.as_str(), endpoint.network.as_str());
                owners.extend(endpoint.addresses.iter().map(|address| (address.addr(), owner)));
            }
        }
        owners
    }

    pub(in crate::control) fn stats(&self) -> anyhow::Result<Stats> {
        let reasons = self.installed.datapath.counters().reasons()?;
        Ok(Stats {
            reasons: reasons
                .into_iter()
                .map(|(reason, count)| (reason.to_owned(), count))
                .collect(),
            uplinks: self.host.drivers.view(&self.host.uplinks),
        })
    }
}

fn candidate<'a>(record: &FlowRecord, owners: &Owners<'a>) -> Candidate<'a> {
    let owner = owners.get(&record.container);
    let ((source, destination), (answering, answered)) = (record.forward, record.reply);
    Candidate {
        container: owner.map(|(container, _)| *container),
        network: owner.map(|(_, network)| *network),
        protocol: record.protocol,
        state: record.state,
        addresses: [source, destination, answering, answered].map(|address| address.ip()),
    }
}

fn view_flow(record: &FlowRecord, owners: &Owners<'_>) -> Flow {
    let owner = owners.get(&record.container);
    let direction = |(source, destination): (std::net::SocketAddr, std::net::SocketAddr)| {
        Direction { source, destination }
    };
    Flow {
        protocol: FlowProtocol(record.protocol),
        state: record.state,
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
            state: causeway_api::types::flow::FlowState::Established,
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
            (flow.protocol, flow.container.as_deref(), flow.network.as_deref()),
            (FlowProtocol(17), Some("web"), Some("default"))
        );
        assert_eq!(flow.reply.destination.to_string(), "10.0.2.15:5000");
        let flow = view_flow(&FlowRecord { protocol: 47, ..record }, &BTreeMap::new());
        assert_eq!((flow.protocol, flow.container), (FlowProtocol(47), None));
    }
}
