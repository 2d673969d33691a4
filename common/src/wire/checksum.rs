//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are of the machine's own 16-bit words: the one's complement sum does not depend on byte
//! order, so nothing here swaps bytes.

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What a field's change from `old` to `new` adds to a sum over it; both given as sums of their
/// words, not necessarily folded.
#[inline(always)]
pub const fn delta(old: u32, new: u32) -> u16 {
    // ~m + m' (RFC 1624, equation 3). No change is minus zero there; plain zero can be told at a
    // glance.
    match fold(!fold(old) as u32 + fold(new) as u32) {
        0xffff => 0,
        delta => delta,
    }
}

/// The checksum field after the data it covers changed by `delta` (RFC 1624, equation 3).
#[inline(always)]
pub const fn update(field: u16, delta: u32) -> u16 {
    !fold(!field as u32 + delta)
}

/// The folded sum of some bytes, an odd last one padded with zero.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut total = 0u64;
    for pair in bytes.chunks(2) {
        total += u64::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_rfc_1624_holds() {
        // Section 4: the field is 0xdd2f, a word goes from 0x5555 to 0x3285, the new field is
        // 0x0000.
        assert_eq!(update(0xdd2f, u32::from(delta(0x5555, 0x3285))), 0x0000);
    }

    #[test]
    fn update_equals_full_sum() {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20_000 {
            let mut data = [0u8; 20];
            for chunk in data.chunks_mut(8) {
                let bytes = random().to_ne_bytes();
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            }
            // A packet's covered bytes are never all zero, where the two zeroes of one's complement
            // would differ.
            data[0] |= 1;
            let field = !sum(&data);
            let at = usize::try_from(random() % 8).unwrap() * 2 + 2;
            let old = u32::from(sum(&data[at..at + 2]));
            let fresh = (random() as u16).to_ne_bytes();
            data[at..at + 2].copy_from_slice(&fresh);
            let new = u32::from(sum(&data[at..at + 2]));
            assert_eq!(update(field, u32::from(delta(old, new))), !sum(&data));
        }
    }

    #[test]
    fn delta_of_no_change_is_zero() {
        for sum in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff] {
            assert_eq!(delta(sum, sum), 0);
        }
    }

    #[test]
    fn fold_carries_twice() {
        assert_eq!(fold(0xffff_ffff), 0xffff);
        assert_eq!(fold(0x0001_ffff), 1);
        assert_eq!(fold(0), 0);
    }
}
