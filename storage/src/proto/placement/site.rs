//! Where an operator stands: the network its registered address belongs to, and the region it says it keeps bytes in.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A network whose machines tend to fail together: the first 24 bits of an IPv4 address, the first 48 of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subnet {
    /// A /24.
    V4([u8; 3]),
    /// A /48.
    V6([u8; 6]),
}

impl Subnet {
    /// The subnet of an address. An IPv4 address in IPv6 form is the IPv4 address: else each operator would have two.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, ..] = address.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6([a, b, c, d, e, g]) => {
                let group = |high: u8, low: u8| u16::from_be_bytes([high, low]);
                write!(f, "{}/48", Ipv6Addr::new(group(*a, *b), group(*c, *d), group(*e, *g), 0, 0, 0, 0, 0))
            }
        }
    }
}

/// A country by its two capital letters (ISO 3166-1 alpha-2). An operator states it in the registry; nobody can prove it, so a residency rule
/// binds by contract and stake, not by cryptography.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region([u8; 2]);

/// Countries, dependent territories among them, that have two letters of their own: ISO 3166-1 of 2024.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD \
    CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF \
    GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN \
    KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA \
    NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI \
    SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI \
    VN VU WF WS YE YT ZA ZM ZW";

/// Not a region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is no region: write the two letters of a country, for example DE or US")]
pub struct RegionError {
    got: String,
}

impl Region {
    /// Its two letters.
    pub const fn letters(self) -> [u8; 2] {
        self.0
    }

    /// Whether a country has these letters. Whoever writes a rule or a configuration is asked; what is on record is read as it is, since the list changes.
    pub fn is_country(self) -> bool {
        COUNTRIES.split(' ').any(|country| country.as_bytes() == self.0)
    }
}

impl FromStr for Region {
    type Err = RegionError;

    fn from_str(text: &str) -> Result<Self, RegionError> {
        match text.as_bytes() {
            [a @ b'A'..=b'Z', b @ b'A'..=b'Z'] => Ok(Self([*a, *b])),
            _ => Err(RegionError { got: text.chars().take(20).collect() }),
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What placement knows of an operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Site {
    /// Network of its registered address. Without one it holds fragments only where subnets are not limited.
    pub subnet: Option<Subnet>,
    /// Where it says it keeps bytes. Without one it holds no fragment that must stay in a region.
    pub region: Option<Region>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_no_country_has_are_a_region_and_no_country() {
        assert_eq!(COUNTRIES.split(' ').count(), 249);
        let is_country = |text: &str| text.parse::<Region>().unwrap().is_country();
        assert!(COUNTRIES.split(' ').all(is_country));
        for other in ["XX", "ZZ", "UK", "EU", "AA"] {
            assert!(!is_country(other), "{other}");
        }
    }

    #[test]
    fn addresses_of_one_network_share_a_subnet_in_either_notation() {
        let subnet = |text: &str| Subnet::of(text.parse().unwrap());
        assert_eq!(subnet("203.0.113.7"), subnet("203.0.113.250"));
        assert_eq!(subnet("203.0.113.7"), subnet("::ffff:203.0.113.9"), "an IPv4 address is not a second one in IPv6 form");
        assert_ne!(subnet("203.0.113.7"), subnet("203.0.112.7"));
        assert_eq!(subnet("2001:db8:1::1"), subnet("2001:db8:1:ffff::2"));
        assert_ne!(subnet("2001:db8:1::1"), subnet("2001:db8:2::1"));
        assert_eq!(subnet("203.0.113.7").to_string(), "203.0.113.0/24");
        assert_eq!(subnet("2001:db8:1::1").to_string(), "2001:db8:1::/48");
    }

    #[test]
    fn a_region_is_two_capital_letters() {
        assert_eq!("DE".parse::<Region>().unwrap().to_string(), "DE");
        assert_eq!(serde_json::from_str::<Region>("\"US\"").unwrap(), "US".parse().unwrap());
        for text in ["", "D", "de", "DEU", "D1", "Ä"] {
            assert!(text.parse::<Region>().unwrap_err().to_string().contains("is no region"), "{text}");
        }
    }
}
