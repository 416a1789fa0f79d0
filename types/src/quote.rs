//! Quotes: a node's signed offer (P4).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    amount::Amount,
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, Hash32},
    time::BlockRef,
};

/// The protocol's constant per answer, P of PROTOCOL section 5: 0.0001 OPEN. It pays checkers, storage of bodies and insurance.
pub const PROTOCOL_FEE: Amount = Amount(100_000_000_000_000);

/// The numeric rules an answer was computed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Profile {
    /// f32 by candle at batch 1: checked token by token within 1e-3, never slashed. What was signed under it is read still; nobody offers it any more.
    #[serde(rename = "candle-f32-b1")]
    CandleF32B1,
    /// The same bits on every machine, alone and in any batch: checked token by token without tolerance.
    #[serde(rename = "exact")]
    Exact,
    /// Whatever is quickest: machines differ by more than rounding, so fingerprints of activations are compared, within a tolerance.
    #[serde(rename = "fast")]
    Fast,
}

impl Profile {
    /// All of them, by code.
    pub const ALL: [Self; 3] = [Self::CandleF32B1, Self::Exact, Self::Fast];

    /// Code in documents.
    pub const fn code(self) -> u8 {
        match self {
            Self::CandleF32B1 => 1,
            Self::Exact => 2,
            Self::Fast => 3,
        }
    }

    /// Name in JSON and in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CandleF32B1 => "candle-f32-b1",
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }

    /// Whether a receipt may commit to activations. Those of `candle-f32-b1` are not compared between machines, so its root is zero.
    pub const fn has_fingerprint(self) -> bool {
        !matches!(self, Self::CandleF32B1)
    }

    /// Whether a billed receipt must commit to activations: no other evidence shows what computed it.
    pub const fn needs_fingerprint(self) -> bool {
        matches!(self, Self::Fast)
    }

    /// Whether a re-execution that finds other tokens is a proof: the bits are the same on every machine. Without that it is evidence, on which nobody is
    /// slashed.
    pub const fn is_proved(self) -> bool {
        matches!(self, Self::Exact)
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let got = r.u8("profile")?;
        Self::ALL.into_iter().find(|profile| profile.code() == got).ok_or_else(|| DecodeError::Value {
            field: "profile",
            got: got.into(),
            expected: "1 (candle-f32-b1), 2 (exact) or 3 (fast)",
        })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who may ever read the transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Published with the receipt.
    Open,
    /// Kept for drawn checkers.
    Checked,
    /// No third party.
    Sealed,
}

impl Class {
    /// Code in documents.
    pub const fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Checked => 2,
            Self::Sealed => 3,
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("class")? {
            1 => Ok(Self::Open),
            2 => Ok(Self::Checked),
            3 => Ok(Self::Sealed),
            got => Err(DecodeError::Value { field: "class", got: got.into(), expected: "1 open, 2 checked or 3 sealed" }),
        }
    }
}

/// A node's offer to answer under a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quote {
    /// The node's account.
    pub node: Address,
    /// What would answer.
    pub manifest: Hash32,
    /// Numeric rules.
    pub profile: Profile,
    /// Privacy class.
    pub class: Class,
    /// Wei per 1,000 input tokens.
    pub rate_in: Amount,
    /// Wei per 1,000 output tokens.
    pub rate_out: Amount,
    /// The protocol's constant at the quoted block.
    pub protocol_fee: Amount,
    /// Most output tokens.
    pub tokens_max: u32,
    /// Block the offer was made at.
    pub block: BlockRef,
    /// Last block at which it may be accepted.
    pub expiry: u64,
}

impl Document for Quote {
    const NAME: &'static str = "Quote";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new()
            .address(self.node)
            .hash(self.manifest)
            .u8(self.profile.code())
            .u8(self.class.code())
            .amount(self.rate_in)
            .amount(self.rate_out)
            .amount(self.protocol_fee)
            .u32(self.tokens_max)
            .block(self.block)
            .u64(self.expiry)
            .finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let quote = Self {
            node: r.address("node")?,
            manifest: r.hash("manifest")?,
            profile: Profile::read(&mut r)?,
            class: Class::read(&mut r)?,
            rate_in: r.amount("rate in")?,
            rate_out: r.amount("rate out")?,
            protocol_fee: r.amount("protocol fee")?,
            tokens_max: r.u32("tokens max")?,
            block: r.block("block")?,
            expiry: r.u64("expiry")?,
        };
        r.finish().map(|()| quote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_have_codes_and_names_of_their_own_and_no_other_code_is_read() {
        for (place, profile) in (1..).zip(Profile::ALL) {
            assert_eq!(profile.code(), place);
            assert_eq!(serde_json::to_value(profile).unwrap(), profile.to_string(), "JSON has the same name");
            assert_eq!(Profile::read(&mut Reader::new(&[place])), Ok(profile));
        }
        for code in (0..=u8::MAX).filter(|code| !(1..=3).contains(code)) {
            assert!(
                matches!(Profile::read(&mut Reader::new(&[code])), Err(DecodeError::Value { field: "profile", got, .. }) if got == u64::from(code))
            );
        }
        assert_eq!(Profile::ALL.map(Profile::has_fingerprint), [false, true, true]);
        assert_eq!(Profile::ALL.map(Profile::needs_fingerprint), [false, false, true]);
        assert_eq!(Profile::ALL.map(Profile::is_proved), [false, true, false]);
    }
}
