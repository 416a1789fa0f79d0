//! Between our ids and alloy's: the same bytes under other names.

use alloy::primitives::{self, B256, U256};
use types::{
    amount::Amount,
    id::{self, BlobId, Hash32},
    merkle,
};

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

/// Siblings of a sum tree as the contracts read them: digest and sum, packed.
pub(crate) fn siblings(opening: &merkle::SumOpening) -> primitives::Bytes {
    opening.siblings.iter().flat_map(|sibling| sibling.digest.0.into_iter().chain(sibling.sum.0.to_be_bytes())).collect()
}
