//! Quotes: a node's signed offer (P4).

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
    /// f32 by candle at batch 1: checked token by token within 1e-3, never slashed.
    #[serde(rename = "candle-f32-b1")]
    CandleF32B1,
}

impl Profile {
    /// Code in documents.
    pub const fn code(self) -> u8 {
        match self {
            Self::CandleF32B1 => 1,
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("profile")? {
            1 => Ok(Self::CandleF32B1),
            got => Err(DecodeError::Value { field: "profile", got: got.into(), expected: "1 (candle-f32-b1)" }),
        }
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
