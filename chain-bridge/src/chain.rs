//! What the rest of the crate asks of a chain. Narrow on purpose: submit a call, read blocks and events, nothing that mirrors a client library.
//!
//! The follower ([`crate::follow`]) is written against [`Chain`], so that its reorganisation handling is tried on a chain of the test's making.

#[cfg(feature = "rpc")]
pub mod decode;
#[cfg(feature = "rpc")]
pub mod error;
#[cfg(feature = "rpc")]
pub mod revert;
#[cfg(feature = "rpc")]
pub mod rpc;

use std::{error::Error, future::Future};

use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    time::BlockRef,
};

use crate::registry::Logged;

/// One call of a contract, or a plain transfer when `data` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Whom it calls; nothing creates a contract from `data`.
    pub to: Option<Address>,
    /// Calldata.
    #[serde(with = "crate::bytes_hex")]
    pub data: Vec<u8>,
    /// Wei sent along.
    pub value: Amount,
}

/// A transaction that was handed to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TxRef(pub Hash32);

/// A block's place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number and hash.
    pub block: BlockRef,
    /// Hash of the block before.
    pub parent: Hash32,
    /// Seconds since 1970, by the sequencer.
    pub timestamp: u64,
}

/// How far the chain is, in three degrees of certainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// Known from the sequencer alone: may still be replaced.
    pub latest: BlockRef,
    /// Derivable from the L1: replaced only if the L1 is.
    pub safe: BlockRef,
    /// Derived from finalized L1 blocks: never replaced.
    pub finalized: BlockRef,
    /// Seconds since 1970 of the latest block.
    pub timestamp: u64,
    /// Seconds since 1970 of the safe block.
    pub safe_timestamp: u64,
    /// Seconds since 1970 of the finalized block: what the chain's time had reached for good.
    pub finalized_timestamp: u64,
}

/// How certain it is that a block stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// Known from the sequencer alone.
    Pending,
    /// Derivable from the L1.
    Safe,
    /// Derived from finalized L1 blocks.
    Final,
}

impl Certainty {
    /// The head in JSON-RPC.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Pending => "latest",
            Self::Safe => "safe",
            Self::Final => "finalized",
        }
    }
}

impl std::fmt::Display for Certainty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Safe => "safe",
            Self::Final => "final",
        })
    }
}

impl Heads {
    /// How certain the block of a number is.
    pub const fn certainty_of_block(&self, number: u64) -> Certainty {
        certainty(number, self.safe.number, self.finalized.number)
    }

    /// How certain it is what happened at a time: blocks have later ones than those before them.
    pub const fn certainty_at(&self, timestamp: u64) -> Certainty {
        certainty(timestamp, self.safe_timestamp, self.finalized_timestamp)
    }
}

const fn certainty(place: u64, safe: u64, finalized: u64) -> Certainty {
    if place <= finalized {
        Certainty::Final
    } else if place <= safe {
        Certainty::Safe
    } else {
        Certainty::Pending
    }
}

/// A chain, as far as this crate needs one.
pub trait Chain: Send + Sync {
    /// Why it could not answer.
    type Error: Error + Send + Sync + 'static;

    /// Signs and hands over one call; returns as soon as the chain has taken it.
    fn submit(&self, key: &str, call: Call) -> impl Future<Output = Result<TxRef, Self::Error>> + Send;

    /// The three heads.
    fn head(&self) -> impl Future<Output = Result<Heads, Self::Error>> + Send;

    /// The canonical block of a number; nothing past the head.
    fn header(&self, number: u64) -> impl Future<Output = Result<Option<Header>, Self::Error>> + Send;

    /// The suite's events in blocks `from..=to`, in order.
    fn events(&self, from: u64, to: u64) -> impl Future<Output = Result<Vec<Logged>, Self::Error>> + Send;

    /// The suite's events of exactly these blocks, each asked for by its hash. An endpoint that does not know a block must fail: its silence
    /// would be taken for a block without events.
    fn events_of(&self, blocks: &[BlockRef]) -> impl Future<Output = Result<Vec<Logged>, Self::Error>> + Send;
}
