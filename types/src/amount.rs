//! Money: integer wei of OPEN with checked arithmetic only.
//!
//! 10^9 OPEN of 10^18 wei are 10^27 < 2^90, so `u128` holds every sum that can exist; an overflow is a forged number, never a large one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Wei in one OPEN.
pub const WEI_PER_OPEN: u128 = 1_000_000_000_000_000_000;

/// A number of wei. JSON carries it as a decimal string, since doubles would round it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub u128);

/// Why an amount could not be computed or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// A sum or product does not fit.
    #[error("amount overflows: {0}")]
    Overflow(&'static str),
    /// A difference would be negative.
    #[error("{have} wei are less than the {need} wei needed")]
    Short {
        /// What there is.
        have: u128,
        /// What is needed.
        need: u128,
    },
    /// Text that is no amount.
    #[error("{0:?} is no amount: write wei (\"1500000\") or OPEN with the unit (\"1.5 OPEN\", at most 18 decimals)")]
    Syntax(String),
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Sum.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] past 2^128.
    pub fn plus(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_add(other.0).map(Self).ok_or(AmountError::Overflow("sum"))
    }

    /// Difference.
    ///
    /// # Errors
    /// [`AmountError::Short`] if `other` is larger.
    pub fn minus(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_sub(other.0).map(Self).ok_or(AmountError::Short { have: self.0, need: other.0 })
    }

    /// Sum of many.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] past 2^128.
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Result<Self, AmountError> {
        amounts.into_iter().try_fold(Self::ZERO, Self::plus)
    }

    /// The amount in OPEN with as many decimals as it has, for people.
    pub fn in_open(self) -> String {
        let (whole, rest) = (self.0 / WEI_PER_OPEN, self.0 % WEI_PER_OPEN);
        let decimals = format!("{rest:018}");
        match decimals.trim_end_matches('0') {
            "" => format!("{whole} OPEN"),
            decimals => format!("{whole}.{decimals} OPEN"),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let syntax = || AmountError::Syntax(text.chars().take(60).collect());
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let Some(open) = text.strip_suffix("OPEN").map(str::trim) else {
            return if digits(text) { text.parse().map(Self).map_err(|_| AmountError::Overflow("number")) } else { Err(syntax()) };
        };
        let (whole, decimals) = open.split_once('.').unwrap_or((open, "0"));
        if !digits(whole) || !digits(decimals) || decimals.len() > 18 {
            return Err(syntax());
        }
        let whole: u128 = whole.parse().map_err(|_| AmountError::Overflow("number"))?;
        let rest: u128 = format!("{decimals:0<18}").parse().map_err(|_| syntax())?;
        whole.checked_mul(WEI_PER_OPEN).and_then(|wei| wei.checked_add(rest)).map(Self).ok_or(AmountError::Overflow("number"))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(&self.0) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u128::deserialize(deserializer).map(Self);
        }
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_wei_and_open() {
        for (text, wei) in [
            ("0", 0),
            ("1500", 1_500),
            ("1.5 OPEN", 1_500_000_000_000_000_000),
            ("2OPEN", 2 * WEI_PER_OPEN),
            ("0.000000000000000001 OPEN", 1),
        ] {
            assert_eq!(text.parse(), Ok(Amount(wei)), "{text}");
        }
        for text in ["", "-1", "1.5", "1e3", ".5 OPEN", "1. OPEN", "1.0000000000000000001 OPEN", "+1"] {
            assert!(matches!(text.parse::<Amount>(), Err(AmountError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn open_is_printed_without_loss() {
        assert_eq!(Amount(1_500_000_000_000_000_000).in_open(), "1.5 OPEN");
        assert_eq!(Amount(1).in_open(), "0.000000000000000001 OPEN");
        assert_eq!(Amount(u128::MAX).in_open().parse(), Ok(Amount(u128::MAX)));
    }
}
