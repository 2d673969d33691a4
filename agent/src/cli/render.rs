//! Output for people: tables for lists, one line per field for an object. Programs use `--json`,
//! which prints the objects of [`causeway_api`].

use causeway_api::{
    Change, Container, ContainerState, Endpoint, Flow, Flushed, Network, Publish, Removed, Stats,
    XdpMode,
};
use causeway_common::abi::drop_reason::DropReason;
use comfy_table::{Table, presets};

/// A row of a list's table.
pub(super) trait Row {
    /// The column headings.
    const HEAD: &'static [&'static str];
    /// The cells.
    fn row(&self) -> Vec<String>;
}

/// A list as a table.
pub(super) fn table<T: Row>(rows: &[T]) -> String {
    lay_out(T::HEAD, rows.iter().map(Row::row))
}

impl Row for Network {
    const HEAD: &'static [&'static str] =
        &["NAME", "SUBNET", "GATEWAY", "BRIDGE", "MTU", "POLICY", "CONTAINERS"];

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            join(&self.subnets),
            join(&self.gateways),
            self.bridge.clone(),
            self.mtu.to_string(),
            policy(self),
            self.containers.len().to_string(),
        ]
    }
}

impl Row for Container {
    const HEAD: &'static [&'static str] =
        &["NAME", "STATE", "NETWORK", "ADDRESS", "HOST SIDE", "NETNS", "PUBLISHED"];

    fn row(&self) -> Vec<String> {
        let of_each = |text: fn(&Endpoint) -> String| join(self.endpoints.iter().map(text));
        vec![
            self.name.clone(),
            container_state(self).to_owned(),
            of_each(|endpoint| endpoint.network.clone()),
            of_each(|endpoint| join(endpoint.addresses.iter().map(ipnet::IpNet::addr))),
            of_each(|endpoint| endpoint.host_side.clone()),
            self.netns.display().to_string(),
            join(self.publishes.iter().map(arrow)),
        ]
    }
}

impl Row for Publish {
    const HEAD: &'static [&'static str] =
        &["CONTAINER", "HOST", "CONTAINER PORT", "PROTOCOL", "FROM", "DRAINING"];

    fn row(&self) -> Vec<String> {
        let draining = self
            .draining
            .iter()
            .map(|drain| format!("{} for {} s", drain.container, drain.ends_in_s));
        vec![
            self.container.clone(),
            host(self),
            self.container_port.to_string(),
            self.protocol.to_string(),
            from(self),
            or_dash(join(draining)),
        ]
    }
}

impl Row for Flow {
    const HEAD: &'static [&'static str] =
        &["PROTOCOL", "STATE", "CONTAINER", "FORWARD", "REPLY", "PACKETS", "BYTES", "EXPIRES IN S"];

    fn row(&self) -> Vec<String> {
        let direction = |direction: &causeway_api::Direction| {
            format!("{} > {}", direction.source, direction.destination)
        };
        vec![
            self.protocol.to_string(),
            self.state.to_string(),
            self.container.clone().unwrap_or_else(|| "-".to_owned()),
            direction(&self.forward),
            direction(&self.reply),
            self.packets.to_string(),
            self.bytes.to_string(),
            self.expires_in_s.to_string(),
        ]
    }
}

/// Changes, one per line.
pub(super) fn changes(changes: &[Change]) -> String {
    let lines: Vec<String> = changes.iter().map(|change| format!("{change}\n")).collect();
    lines.concat()
}

/// Every field of a network.
pub(super) fn network(network: &Network) -> String {
    lines(&[
        ("name", network.name.clone()),
        ("subnet", join(&network.subnets)),
        ("gateway", join(&network.gateways)),
        ("bridge", network.bridge.clone()),
        ("mtu", format!("{} bytes", network.mtu)),
        ("policy", policy(network)),
        (
            "timeouts",
            join(
                network.timeouts.iter().map(|(timeout, seconds)| format!("{timeout} {seconds} s")),
            ),
        ),
        ("ports", network.ports.to_string()),
        ("mapping", network.mapping.to_string()),
        (
            "max flows",
            network
                .max_flows
                .map_or_else(|| "half of the table".to_owned(), |flows| flows.to_string()),
        ),
        ("containers", or_dash(join(&network.containers))),
    ])
}

/// Every field of a container.
pub(super) fn container(container: &Container) -> String {
    let mut pairs = vec![
        ("name", container.name.clone()),
        ("state", container_state(container).to_owned()),
        ("netns", container.netns.display().to_string()),
    ];
    for endpoint in &container.endpoints {
        pairs.extend([
            ("network", endpoint.network.clone()),
            ("address", join(&endpoint.addresses)),
            ("gateway", or_dash(join(&endpoint.gateways))),
            ("mac", endpoint.mac.to_string()),
            ("interface", endpoint.interface.clone()),
            ("host side", endpoint.host_side.clone()),
            ("device", endpoint.device.to_string()),
            ("mtu", format!("{} bytes", endpoint.mtu)),
        ]);
    }
    pairs.push(("published", or_dash(join(container.publishes.iter().map(arrow)))));
    lines(&pairs)
}

/// The result of an action on a network.
pub(super) fn network_done(done: &str, network: &Network) -> String {
    format!("{done} network {}: {} on {}\n", network.name, join(&network.subnets), network.bridge)
}

/// The result of an action on a container.
pub(super) fn container_done(done: &str, container: &Container) -> String {
    let addresses = container.endpoints.iter().map(|endpoint| {
        format!(
            "{} on {}",
            join(endpoint.addresses.iter().map(ipnet::IpNet::addr)),
            endpoint.network
        )
    });
    format!("{done} container {}: {}\n", container.name, join(addresses))
}

/// The result of an action on a publish.
pub(super) fn publish_done(done: &str, publish: &Publish) -> String {
    format!("{done} {} in {}\n", arrow(publish), publish.container)
}

/// The result of `publish move`.
pub(super) fn publish_moved(publish: &Publish) -> String {
    let drains = publish.draining.iter();
    let drains = drains.map(|drain| {
        format!("; in {} flows finish for {} s at most", drain.container, drain.ends_in_s)
    });
    format!("moved {} to {}{}\n", arrow(publish), publish.container, drains.collect::<String>())
}

/// The result of `down`.
pub(super) fn removed(removed: &Removed) -> String {
    let counts = [(removed.containers.len(), "container"), (removed.networks.len(), "network")];
    let some: Vec<String> = counts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, noun)| count(*number as u64, noun))
        .collect();
    if !removed.files.is_empty() {
        return format!("removed {}\n", join(removed.files.iter().map(|file| file.display())));
    }
    match some.as_slice() {
        [] => "removed the datapath; there were no networks\n".to_owned(),
        some => format!("removed {}\n", some.join(" and ")),
    }
}

/// The result of `flows flush`.
pub(super) fn flushed(flushed: &Flushed) -> String {
    format!("ended {}\n", count(flushed.flows, "flow"))
}

/// The counters and the uplinks.
pub(super) fn stats(stats: &Stats) -> String {
    let rows = stats.reasons.iter().map(|(name, count)| {
        // The agent may be of a later version, with a reason that is not known here.
        let fate = DropReason::from_name(name).map_or("?", |reason| reason.fate().name());
        vec![name.clone(), fate.to_owned(), count.to_string()]
    });
    let uplinks = stats.uplinks.iter().map(|uplink| {
        let xdp = match uplink.xdp {
            XdpMode::Native => "native".to_owned(),
            XdpMode::Off => {
                format!("off: {}", uplink.why.as_deref().unwrap_or("no reason is known"))
            }
        };
        vec![uplink.interface.clone(), xdp]
    });
    format!(
        "{}\n{}",
        lay_out(&["REASON", "FATE", "PACKETS"], rows),
        lay_out(&["UPLINK", "XDP"], uplinks)
    )
}

fn lay_out(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn lines(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect();
    lines.concat()
}

fn policy(network: &Network) -> String {
    let leaving =
        if network.internal { "internal".to_owned() } else { network.masquerade.to_string() };
    let among = if network.icc { String::new() } else { "no-icc".to_owned() };
    or_dash(join([leaving, among].iter().filter(|word| !word.is_empty())))
}

fn container_state(container: &Container) -> &'static str {
    match container.state {
        ContainerState::Running => "running",
        ContainerState::Gone => "gone",
    }
}

/// `8080 > 80/tcp`.
fn arrow(publish: &Publish) -> String {
    format!("{} > {}/{}", host(publish), publish.container_port, publish.protocol)
}

fn host(publish: &Publish) -> String {
    match publish.host_address {
        None => publish.host_port.to_string(),
        Some(std::net::IpAddr::V6(address)) => format!("[{address}]:{}", publish.host_port),
        Some(std::net::IpAddr::V4(address)) => format!("{address}:{}", publish.host_port),
    }
}

fn from(publish: &Publish) -> String {
    let from = &publish.options.from;
    if from.is_empty() { "any".to_owned() } else { join(from) }
}

fn join(items: impl IntoIterator<Item = impl ToString>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(", ")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_api::types::{family::Family, masquerade::Masquerade, publish::PublishOptions};

    #[test]
    fn stats_show_fate_of_each_reason() {
        let reasons = [("no-route", 3), ("to-host", 5), ("of-a-later-version", 1)];
        let reasons = reasons.map(|(name, count)| (name.to_owned(), count)).into();
        let text = super::stats(&Stats { reasons, uplinks: Vec::new() });
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[..4],
            [
                vec!["REASON", "FATE", "PACKETS"],
                vec!["no-route", "drop", "3"],
                vec!["of-a-later-version", "?", "1"],
                vec!["to-host", "punt", "5"],
            ]
        );
    }

    fn publish(host_address: Option<&str>) -> Publish {
        Publish {
            container: "web".to_owned(),
            protocol: "tcp".parse().unwrap(),
            host_address: host_address.map(|address| address.parse().unwrap()),
            host_port: "8080".parse().unwrap(),
            container_port: "80".parse().unwrap(),
            options: PublishOptions::default(),
            draining: Vec::new(),
        }
    }

    #[test]
    fn tables_have_no_trailing_blanks() {
        let rows = [publish(None), publish(Some("127.0.0.1")), publish(Some("2001:db8::1"))];
        assert_eq!(
            table(&rows),
            "CONTAINER  HOST                CONTAINER PORT  PROTOCOL  FROM  DRAINING\n\
             web        8080                80              tcp       any   -\n\
             web        127.0.0.1:8080      80              tcp       any   -\n\
             web        [2001:db8::1]:8080  80              tcp       any   -\n"
        );
    }

    #[test]
    fn empty_table_is_its_head() {
        assert_eq!(
            table::<Publish>(&[]),
            "CONTAINER  HOST  CONTAINER PORT  PROTOCOL  FROM  DRAINING\n"
        );
    }

    #[test]
    fn object_has_one_line_per_field() {
        let network = Network {
            name: "front".to_owned(),
            subnets: vec!["10.20.0.0/16".parse().unwrap()],
            gateways: vec!["10.20.0.1".parse().unwrap()],
            bridge: "cw1".to_owned(),
            mtu: 1500,
            internal: true,
            masquerade: Masquerade::ON,
            icc: false,
            timeouts: [(causeway_api::types::flow_options::Timeout::Udp, 30)].into(),
            ports: causeway_api::types::publish::PortRange::MASQUERADE,
            mapping: causeway_api::types::flow_options::Mapping::Symmetric,
            max_flows: None,
            containers: Vec::new(),
        };
        let text = super::network(&network);
        assert!(text.contains("\npolicy      internal, no-icc\n"), "{text}");
        assert!(text.contains("\nmtu         1500 bytes\n"), "{text}");
        assert!(
            text.contains(
                "\ntimeouts    udp 30 s\nports       1024-32767\nmapping     symmetric\n"
            ),
            "{text}"
        );
        assert!(text.contains("\nmax flows   half of the table\n"), "{text}");
        assert!(text.ends_with("\ncontainers  -\n"), "{text}");
        let policy_of =
            |masquerade| policy(&Network { masquerade, internal: false, ..network.clone() });
        assert_eq!(policy_of(Masquerade::ON), "masquerade, no-icc");
        assert_eq!(policy_of(Masquerade::only(Family::V4)), "masquerade ipv4, no-icc");
        assert_eq!(policy_of(Masquerade::OFF), "no-icc");
    }

    #[test]
    fn move_names_where_flows_drain() {
        assert_eq!(publish_moved(&publish(None)), "moved 8080 > 80/tcp to web\n");
        let draining = vec![causeway_api::Draining { container: "old".to_owned(), ends_in_s: 7 }];
        assert_eq!(
            publish_moved(&Publish { draining, ..publish(None) }),
            "moved 8080 > 80/tcp to web; in old flows finish for 7 s at most\n"
        );
    }

    #[test]
    fn one_is_singular() {
        let removed = Removed {
            networks: vec!["default".to_owned()],
            containers: Vec::new(),
            files: Vec::new(),
        };
        assert_eq!(super::removed(&removed), "removed 1 network\n");
        let removed = Removed {
            networks: Vec::new(),
            files: vec!["/run/causeway/lab.sock".into()],
            ..removed
        };
        assert_eq!(super::removed(&removed), "removed /run/causeway/lab.sock\n");
        assert_eq!(flushed(&Flushed { flows: 1 }), "ended 1 flow\n");
    }
}
