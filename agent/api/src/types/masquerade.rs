//! Families whose sources are translated to the uplink's address. In JSON and in the configuration
//! file true, false, `"ipv4"` or `"ipv6"`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::family::Family;

/// Whether sources are translated, per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masquerade {
    v4: bool,
    v6: bool,
}

impl Masquerade {
    /// For both families.
    pub const ON: Self = Self { v4: true, v6: true };
    /// For none.
    pub const OFF: Self = Self { v4: false, v6: false };

    /// For one family alone.
    pub const fn only(family: Family) -> Self {
        match family {
            Family::V4 => Self { v6: false, ..Self::ON },
            Family::V6 => Self { v4: false, ..Self::ON },
        }
    }

    /// Whether sources of that family are translated.
    pub const fn has(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Normalized for a network of these families: the setting of an absent family is dropped.
    #[must_use]
    pub fn among(self, families: &[Family]) -> Self {
        match families {
            [only] if self.has(*only) => Self::ON,
            [_] => Self::OFF,
            _ => self,
        }
    }

    fn word(self) -> Option<&'static str> {
        let Self { v4, v6 } = self;
        (v4 != v6).then_some(if v4 { Family::V4.name() } else { Family::V6.name() })
    }
}

/// `masquerade`, `masquerade ipv6`, or empty for no family.
impl fmt::Display for Masquerade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word() {
            Some(family) => write!(f, "masquerade {family}"),
            None if *self == Self::ON => f.write_str("masquerade"),
            None => Ok(()),
        }
    }
}

impl Serialize for Masquerade {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.word() {
            Some(family) => serializer.serialize_str(family),
            None => serializer.serialize_bool(self.v4),
        }
    }
}

impl<'de> Deserialize<'de> for Masquerade {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl de::Visitor<'_> for Written {
            type Value = Masquerade;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, \"ipv4\" or \"ipv6\"")
            }

            fn visit_bool<E>(self, on: bool) -> Result<Masquerade, E> {
                Ok(if on { Masquerade::ON } else { Masquerade::OFF })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Masquerade, E> {
                let family =
                    text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(Masquerade::only(family))
            }
        }

        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for (masquerade, printed, policy) in [
            (Masquerade::ON, json!(true), "masquerade"),
            (Masquerade::OFF, json!(false), ""),
            (Masquerade::only(Family::V4), json!("ipv4"), "masquerade ipv4"),
            (Masquerade::only(Family::V6), json!("ipv6"), "masquerade ipv6"),
        ] {
            assert_eq!(serde_json::to_value(masquerade).unwrap(), printed);
            assert_eq!(serde_json::from_value::<Masquerade>(printed).unwrap(), masquerade);
            assert_eq!(masquerade.to_string(), policy);
        }
        for wrong in [json!("both"), json!(1), json!(null)] {
            let error = serde_json::from_value::<Masquerade>(wrong).unwrap_err().to_string();
            assert!(error.contains("expected true, false, \"ipv4\" or \"ipv6\""), "{error}");
        }
    }

    #[test]
    fn absent_family_is_dropped() {
        for family in Family::ALL {
            assert_eq!(Masquerade::only(family).among(&[family]), Masquerade::ON);
            assert_eq!(Masquerade::only(family).among(&[family.other()]), Masquerade::OFF);
            assert_eq!(Masquerade::only(family).among(&Family::ALL), Masquerade::only(family));
        }
    }
}
