//! An Ethernet address.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Six bytes as they stand in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered address derived from an IPv4 address, so that a container made again is reached at once by neighbours
    /// that still remember it.
    pub const fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x63, a, b, c, d])
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
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| anyhow::anyhow!("'{text}' is not a MAC address such as 02:63:ac:12:00:02"))?;
        }
        anyhow::ensure!(parts.next().is_none(), "'{text}' has more than six bytes");
        anyhow::ensure!(bytes[0] & 1 == 0, "'{text}' is a multicast address; a container needs a unicast one");
        anyhow::ensure!(bytes != [0; 6], "'{text}' is not a usable address");
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_reads_what_it_prints() {
        let mac = Mac::from_ipv4(Ipv4Addr::new(172, 18, 0, 2));
        assert_eq!(mac.to_string(), "02:63:ac:12:00:02");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
    }

    #[test]
    fn wrong_macs_are_refused() {
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
