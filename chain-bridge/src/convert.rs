//! Between our ids and alloy's: the same bytes under other names.

use alloy::primitives::{self, B256, U256};
use types::{
    amount::Amount,
    id::{self, BlobId, Hash32},
    merkle,
};

use crate::bindings::{FraudTrees, SettlementTrees};

pub(crate) fn address(address: id::Address) -> primitives::Address {
    primitives::Address::from(address.0)
}

pub(crate) fn account(address: primitives::Address) -> id::Address {
    id::Address(address.into_array())
}

pub(crate) const fn word(hash: Hash32) -> B256 {
    B256::new(hash.0)
}

pub(crate) const fn hash(word: B256) -> Hash32 {
    Hash32(word.0)
}

pub(crate) const fn blob(word: B256) -> BlobId {
    BlobId(word.0)
}

pub(crate) const fn amount(wei: u128) -> Amount {
    Amount(wei)
}

/// A number that the contracts keep below 2^64, whatever a broken endpoint says.
pub(crate) fn small(number: U256) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

pub(crate) fn siblings(opening: &merkle::SumOpening) -> Vec<SettlementTrees::SumSibling> {
    opening.siblings.iter().map(|sibling| SettlementTrees::SumSibling { digest: word(sibling.digest), sum: sibling.sum.0 }).collect()
}

pub(crate) fn opening(opening: Option<&merkle::Opening>) -> FraudTrees::Opening {
    opening.map_or_else(
        || FraudTrees::Opening { count: 0, length: 0, index: 0, siblings: vec![] },
        |opening| FraudTrees::Opening {
            count: opening.leaves,
            length: opening.byte_length,
            index: opening.index,
            siblings: opening.siblings.iter().copied().map(word).collect(),
        },
    )
}
