//! Requests that contributions be erased (`Erasures`).

use alloy::primitives::U256;
use types::{
    amount::Amount,
    id::{AssetId, Hash32},
    merkle::keccak,
};

use super::{ChainClient, Sent};
use crate::{bindings::Erasures, chain::error::ChainError, convert};

/// What a request says of why: keccak("tributary/erasure/v1" || salt || reason). Behind the salt nobody guesses the reason; who keeps both can show it.
pub fn reason_hash(salt: Hash32, reason: &str) -> Hash32 {
    keccak(&[b"tributary/erasure/v1", &salt.0, reason.as_bytes()])
}

impl ChainClient {
    /// Asks that contribution `number` of a Datanet, in the order of acceptance, be erased: by its contributor or the Datanet's owner, once, for good.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn erase_contribution(&self, datanet: AssetId, number: u64, reason: Hash32) -> Result<Sent, ChainError> {
        let call = Erasures::eraseCall { datanet: datanet.0, contribution: U256::from(number), reasonHash: convert::word(reason) };
        self.write("erase contribution", None, self.deployment().erasures, &call, Amount::ZERO).await
    }
}
