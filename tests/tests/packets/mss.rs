//! MSS clamping.

use causeway::datapath::Entry;
use causeway_tests::{
    bench::{
        BRIDGE_MAC, mac_of,
        rows::{C1, C2, Names, from, outside, set_up},
        with_bench,
    },
    families,
    family::Family,
    packet::{IpFrame, Options, Payload},
    raw::flag::{ACK, SYN},
};

families!(clamps_syn_to_narrower_mtu);

fn clamps_syn_to_narrower_mtu(family: Family) {
    let Names { c1, c2, host, world, .. } = Names::of(family);
    let fits = |mtu: usize| u16::try_from(mtu - family.header() - 20).expect("a small MTU");
    with_bench(|bench| {
        set_up(bench);
        // The networks of the bench have MTU 1500.
        for (mtu, most) in [(1400, fits(1400)), (9000, fits(1500)), (1500, u16::MAX)] {
            bench.put_uplink(mtu);
            for (what, before, value_at) in [
                ("alone", vec![], 2),
                ("behind others", vec![4, 2, 3, 3, 7, 1], 8),
                ("across two words", vec![1], 3),
            ] {
                let values = [536, fits(1400), fits(1400) + 1, fits(1500), fits(1500) + 1, 8960];
                for (value, units) in values.into_iter().flat_map(|value| [(value, 0), (value, 10)])
                {
                    let options = |value: u16| {
                        let mut options = [&before[..], &[2, 4], &value.to_be_bytes()].concat();
                        options.resize(options.len().next_multiple_of(4), 0);
                        assert_eq!(options[value_at..value_at + 2], value.to_be_bytes());
                        options
                    };
                    let what = format!(
                        "{value}, {what}, behind {units} units of IP options, uplink MTU {mtu}"
                    );
                    bench.flush();
                    let tcp = |source, destination, flags, value| {
                        Payload::TcpOptions(source, destination, flags, options(value))
                    };
                    let behind =
                        |frame: IpFrame| IpFrame { options: Options::Units(units), ..frame };
                    let check = |input, sent: &IpFrame, leaves: IpFrame| {
                        let entry = if input == "up0" { Entry::Uplink } else { Entry::HostSide };
                        assert_eq!(
                            bench.kernel(entry, input, &sent.bytes()).frame,
                            leaves.bytes(),
                            "{what}"
                        );
                    };
                    let to_c1 = (mac_of(C1), BRIDGE_MAC);

                    let syn = behind(from(c1, world, tcp(4000, 80, SYN, value)));
                    let payload = tcp(4000, 80, SYN, value.min(most));
                    // The first packet of a flow, and a repetition.
                    for _ in 0..2 {
                        check(
                            "h1",
                            &syn,
                            IpFrame {
                                source: host,
                                ttl: 63,
                                payload: payload.clone(),
                                ..syn.clone()
                            },
                        );
                    }
                    let answer =
                        behind(outside(bench, world, host, tcp(80, 4000, SYN | ACK, value)));
                    let payload = tcp(80, 4000, SYN | ACK, value.min(most));
                    check(
                        "up0",
                        &answer,
                        IpFrame {
                            macs: to_c1,
                            destination: c1,
                            ttl: 63,
                            payload,
                            ..answer.clone()
                        },
                    );
                    // Packets without SYN stay unchanged.
                    let data = behind(from(c1, world, tcp(4000, 80, ACK, value)));
                    check("h1", &data, IpFrame { source: host, ttl: 63, ..data.clone() });
                    // Through a publish the outside begins.
                    let published =
                        behind(outside(bench, world, host, tcp(4000, 5000, SYN, value)));
                    let payload = tcp(4000, 80, SYN, value.min(most));
                    check(
                        "up0",
                        &published,
                        IpFrame {
                            macs: to_c1,
                            destination: c1,
                            ttl: 63,
                            payload,
                            ..published.clone()
                        },
                    );
                    // Traffic between containers does not cross the uplink.
                    let neighbours = behind(from(c1, c2, tcp(4000, 80, SYN, value)));
                    check(
                        "h1",
                        &neighbours,
                        IpFrame { macs: (mac_of(C2), mac_of(C1)), ..neighbours.clone() },
                    );
                }
            }
        }
    });
}
