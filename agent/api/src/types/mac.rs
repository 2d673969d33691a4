//! MAC addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A MAC address: six bytes in the order of the frame. In JSON a string: `02:63:ac:12:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered address derived from an IPv4 address. A container that is made again
    /// has the same one, so neighbour entries for it stay valid.
    pub const fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x63, a, b, c, d])
    }

    /// A locally administered address derived from an address of either family. An IPv6 address is
    /// hashed to four bytes; `attempt` counts up from 0 while the result collides.
    pub fn from_address(address: IpAddr, attempt: u32) -> Self {
        match address {
            IpAddr::V4(address) => Self::from_ipv4(address),
            IpAddr::V6(address) => {
                // FNV-1a, because the standard library's hashes may change between versions.
                let bytes = address.octets().into_iter().chain(attempt.to_be_bytes());
                let hash = bytes.fold(0x811c_9dc5, |hash: u32, byte| {
                    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
                });
                let [a, b, c, d] = hash.to_be_bytes();
                // A first byte of its own: no IPv4 address gives the same MAC.
                Self([0x06, 0x63, a, b, c, d])
            }
        }
    }

    /// The link-local address of an interface with this MAC: modified EUI-64 (RFC 4291 appendix
    /// A).
    pub const fn link_local(self) -> Ipv6Addr {
        let mac = self.0;
        let mut octets = [0; 16];
        (octets[0], octets[1]) = (0xfe, 0x80);
        (octets[8], octets[9], octets[10]) = (mac[0] ^ 2, mac[1], mac[2]);
        (octets[11], octets[12]) = (0xff, 0xfe);
        (octets[13], octets[14], octets[15]) = (mac[3], mac[4], mac[5]);
        Ipv6Addr::from_octets(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let colon = if place == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = parts
                .next()
                .filter(|part| {
                    part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit())
                })
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "'{text}' is not a MAC address such as 02:63:ac:12:00:02"
                    ))
                })?;
        }
        if parts.next().is_some() {
            return Err(Error::invalid(format!("'{text}' has more than six bytes")));
        }
        if bytes[0] & 1 != 0 {
            return Err(Error::invalid(format!("'{text}' is a multicast address"))
                .hint("give a unicast one"));
        }
        if bytes == [0; 6] {
            return Err(Error::invalid(format!("'{text}' is not a usable address")));
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        let mac = Mac::from_ipv4(Ipv4Addr::new(172, 18, 0, 2));
        assert_eq!(mac.to_string(), "02:63:ac:12:00:02");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
    }

    #[test]
    fn derives_from_address() {
        let of = |address: &str, attempt| Mac::from_address(address.parse().unwrap(), attempt);
        assert_eq!(of("172.18.0.2", 0), Mac::from_ipv4(Ipv4Addr::new(172, 18, 0, 2)));
        assert_eq!(
            of("2001:db8:18::2", 0).to_string(),
            "06:63:f3:40:2c:a5",
            "stable across versions"
        );
        for (one, other) in [
            (of("2001:db8:18::2", 0), of("2001:db8:18::3", 0)),
            (of("2001:db8:18::2", 0), of("2001:db8:19::2", 0)),
            (of("2001:db8:18::2", 0), of("2001:db8:18::2", 1)),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn link_local_matches_the_kernel() {
        for (mac, address) in [
            ("02:63:ac:12:00:02", "fe80::63:acff:fe12:2"),
            ("06:63:00:00:00:01", "fe80::463:ff:fe00:1"),
        ] {
            assert_eq!(
                mac.parse::<Mac>().unwrap().link_local(),
                address.parse::<Ipv6Addr>().unwrap()
            );
        }
    }

    #[test]
    fn refuses_invalid_text() {
        for text in [
            "",
            "02:63:ac:12:00",
            "02:63:ac:12:00:02:03",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "2:63:ac:12:0:2",
            "+2:63:ac:12:00:02",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
