//! What the treasuries of Datanets earn, divided over who contributed (`DatanetTreasury`).

use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, AssetId},
};

use super::{ChainClient, Sent, logged};
use crate::{
    bindings::{DatanetTreasury, DatanetTreasury::Claimed},
    chain::error::ChainError,
    convert,
};

/// A Datanet's treasury as of its last division.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// What came in and is not divided yet, wei.
    #[serde(rename = "undivided_wei")]
    pub undivided: Amount,
    /// Bytes of all contributions that entered.
    pub text_bytes: u64,
    /// From when money is divided, seconds since 1970; 0 before the first contribution entered.
    pub opens_at: u64,
}

/// A contribution's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StreamShare {
    /// Whether it entered.
    pub has_entered: bool,
    /// What it may claim, wei.
    #[serde(rename = "earned_wei")]
    pub earned: Amount,
}

impl ChainClient {
    /// What a Datanet's treasury holds.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn treasury_stream(&self, datanet: AssetId) -> Result<Stream, ChainError> {
        let found = self.read(self.deployment().treasury, &DatanetTreasury::streamOfCall { asset: datanet.0 }).await?;
        Ok(Stream { undivided: Amount(found.undivided), text_bytes: found.textBytes, opens_at: found.opensAt })
    }

    /// What contribution `number` of a Datanet, in the order of acceptance, has of its treasury.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn treasury_share(&self, datanet: AssetId, number: u64) -> Result<StreamShare, ChainError> {
        let (treasury, contribution) = (self.deployment().treasury, alloy::primitives::U256::from(number));
        let entry = self.read(treasury, &DatanetTreasury::entryOfCall { asset: datanet.0, contribution }).await?;
        let earned = self.read(treasury, &DatanetTreasury::earnedCall { asset: datanet.0, contribution }).await?;
        Ok(StreamShare { has_entered: entry.textBytes != 0, earned: Amount(earned) })
    }

    /// Lets a contribution share in what a Datanet's treasury earns from now on; anybody may, once, when its wait is over.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn enter_contribution(&self, datanet: AssetId, number: u64) -> Result<Sent, ChainError> {
        let call = DatanetTreasury::enterCall { asset: datanet.0, contribution: alloy::primitives::U256::from(number) };
        self.write("enter contribution", None, self.deployment().treasury, &call, Amount::ZERO).await
    }

    /// Pays a contributor what its contribution earned of the treasury; returns whom and how much.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn claim_contribution(&self, datanet: AssetId, number: u64) -> Result<(Address, Amount, Sent), ChainError> {
        let call = DatanetTreasury::claimCall { asset: datanet.0, contribution: alloy::primitives::U256::from(number) };
        let sent = self.write("claim treasury share", None, self.deployment().treasury, &call, Amount::ZERO).await?;
        let event: Claimed = logged(&sent, self.deployment().treasury)?;
        Ok((convert::account(event.contributor), Amount(event.amount), sent))
    }
}
