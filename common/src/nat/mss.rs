//! MSS clamping: the maximum segment size that a SYN announces (RFC 9293 section 3.7.1) is lowered
//! to what the narrower of the two sides carries.
//!
//! The MTUs of the container's network and of the uplink are both known here, while either end sees
//! only its own link. A lower MSS stays, and an absent option is not added.

use crate::{
    abi::translation::Translation,
    env::Env,
    wire::{
        packet::{Packet, Payload},
        parse::Parse,
        tcp,
        tcp_options::HEADER,
    },
};

/// Largest MSS that a packet may announce, in bytes. None if it is no SYN, or both sides have the
/// same MTU or no limit.
#[inline(always)]
pub fn limit<A: Parse>(
    packet: &Packet<A>,
    translation: &Translation<A>,
    env: &impl Env<A>,
) -> Option<u16> {
    if packet.payload != Payload::Tcp || packet.flags & tcp::SYN == 0 || translation.mtu == 0 {
        return None;
    }
    let back = env.flow(&translation.tuple.reversed())?.translation.mtu;
    if back == translation.mtu || back == 0 {
        return None;
    }
    Some(back.min(translation.mtu).saturating_sub((size_of::<A::Header>() + HEADER) as u16))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::wire::{address::V6, tcp_options::MssSearch};
    use crate::{
        testing::fixture::{C1_SIDE, Fixture, UPLINK, answer, families, left, model, packet, udp},
        wire::{checksum, ethernet::ETHERNET, ipv6, protocol},
    };

    /// A TCP header with options, and its checksum without addresses.
    fn header(options: &[u8]) -> Vec<u8> {
        let mut header =
            std::vec![0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0, 2, 0xff, 0xff, 0, 0, 0, 0];
        header.extend(options);
        header[12] = u8::try_from(header.len() / 4).unwrap() << 4;
        let sum = !checksum::sum(&header);
        header[16..18].copy_from_slice(&sum.to_ne_bytes());
        header
    }

    /// Lowers the header's MSS to 1360, and updates its checksum. Returns true if the MSS was
    /// larger.
    fn lowered(frame: &mut [u8]) -> bool {
        let mut search = MssSearch::new(0);
        let mut steps = 0;
        while search.step(frame).is_continue() {
            steps += 1;
        }
        assert!(steps <= MssSearch::STEPS);
        let delta = search.lower(frame, 1360).unwrap();
        let old = u16::from_ne_bytes([frame[16], frame[17]]);
        frame[16..18].copy_from_slice(&checksum::update(old, u32::from(delta)).to_ne_bytes());
        delta != 0
    }

    #[test]
    fn lowers_larger_mss_and_updates_checksum() {
        for (what, options, at) in [
            ("alone", &[2, 4, 0x05, 0xb4][..], 2),
            ("behind another", &[3, 3, 7, 1, 2, 4, 0x05, 0xb4], 6),
            ("across two words", &[1, 2, 4, 0x05, 0xb4, 1, 1, 0], 3),
            (
                "after the longest other",
                &[&[8, 34][..], &[9; 32], &[1, 1, 2, 4, 0x05, 0xb4]].concat(),
                38,
            ),
            ("after as many as there may be", &[&[1; 36][..], &[2, 4, 0x05, 0xb4]].concat(), 38),
        ] {
            let mut frame = header(options);
            assert!(lowered(&mut frame), "{what}");
            let mut wanted = options.to_vec();
            wanted[at..at + 2].copy_from_slice(&1360_u16.to_be_bytes());
            assert_eq!(frame, header(&wanted), "{what}");
        }
    }

    /// The bytes before the header look like the option, and must not be taken for it.
    #[test]
    fn finds_option_at_any_header_offset() {
        const OPTION: [u8; 4] = [2, 4, 0x05, 0xb4];
        let last = ETHERNET + ipv6::LONGEST;
        assert!(last <= V6::PAYLOAD_MASK);
        for tcp_at in (ETHERNET + 20..=last).step_by(2) {
            let before: Vec<u8> = OPTION.into_iter().cycle().take(tcp_at).collect();
            let mut frame = [&before[..], &header(&OPTION)].concat();
            let mut search = MssSearch::new(tcp_at);
            while search.step(&frame[..]).is_continue() {}
            assert!(search.lower(&mut frame[..], 1360).is_some_and(|delta| delta != 0), "{tcp_at}");
            assert_eq!(frame[..tcp_at], before, "{tcp_at}");
            assert_eq!(frame[tcp_at + 22..], 1360_u16.to_be_bytes(), "{tcp_at}");
        }
    }

    families!(limit_is_the_narrower_mtu);

    fn limit_is_the_narrower_mtu<A: Fixture>() {
        let mss_for = |mtu: usize| Some(u16::try_from(mtu - size_of::<A::Header>() - 20).unwrap());
        for (inside, outside, expected) in [
            (1500, 1400, mss_for(1400)),
            (1400, 1500, mss_for(1400)),
            (1500, 1500, None),
            (1280, 9000, mss_for(1280)),
        ] {
            let mut model = model::<A>();
            model.uplinks.get_mut(&UPLINK).unwrap().mtu = outside;
            model.endpoints.get_mut(&A::C1).unwrap().mtu = inside;
            let syn = packet(C1_SIDE, (A::C1, 4000), (A::WORLD, 80), protocol::TCP, tcp::SYN);
            let there = left(&model, &syn).unwrap();
            assert_eq!(limit(&syn, &there, &model), expected, "{inside} {outside}");
            let answer = answer(&there, tcp::SYN | tcp::ACK);
            let back = left(&model, &answer).unwrap();
            assert_eq!(limit(&answer, &back, &model), expected, "{inside} {outside}");
            for flags in [tcp::ACK, tcp::FIN, tcp::RST] {
                assert_eq!(limit(&Packet { flags, ..syn }, &there, &model), None);
            }
            let datagram = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 80));
            let there = left(&model, &datagram).unwrap();
            assert_eq!(limit(&datagram, &there, &model), None);
        }
        let model = model::<A>();
        let neighbours = packet(C1_SIDE, (A::C1, 4000), (A::C2, 80), protocol::TCP, tcp::SYN);
        let there = left(&model, &neighbours).unwrap();
        assert_eq!(limit(&neighbours, &there, &model), None, "both ends are on one bridge");
    }

    #[test]
    fn leaves_other_options_unchanged() {
        for (what, options) in [
            ("no options", &[][..]),
            ("equal", &[2, 4, 0x05, 0x50]),
            ("smaller", &[2, 4, 0x02, 0x18]),
            ("no MSS among them", &[1, 1, 4, 2]),
            ("behind the end of the list", &[0, 0, 0, 0, 2, 4, 0x05, 0xb4]),
            ("of another length", &[2, 3, 0x05, 0xb4]),
            ("behind one of no length", &[8, 0, 1, 1, 2, 4, 0x05, 0xb4]),
            ("behind one that is longer than the header", &[8, 40, 1, 1, 2, 4, 0x05, 0xb4]),
            ("half in the data", &[1, 1, 2, 4]),
        ] {
            let mut frame = header(options);
            // Payload that looks like more options.
            frame.extend([0x05, 0xb4, 2, 4, 0x05, 0xb4]);
            let before = frame.clone();
            assert!(!lowered(&mut frame), "{what}");
            assert_eq!(frame, before, "{what}");
        }
    }

    #[test]
    fn search_stays_within_header() {
        let mut state = 1_u64;
        let mut found = 0;
        for _ in 0..100_000 {
            let mut frame = [0_u8; 64];
            for byte in &mut frame {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 40) as u8 & if state >> 62 == 0 { 0xff } else { 7 };
            }
            frame[12] = 0xf0;
            let after = frame[60..].to_vec();
            found += u32::from(lowered(&mut frame));
            assert_eq!(frame[60..], after);
        }
        assert!(found > 100);
    }
}
