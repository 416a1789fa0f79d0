//! The stakers' share, the insurance pool, rent for Datanets, redirects of versions.

use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, AssetId, AssetVersion},
    voucher::Lane,
};

use super::{ChainClient, Sent, logged};
use crate::{
    bindings::{AssetRegistry, DatanetRent, PayoutVerifier, RewardsVault},
    chain::error::ChainError,
    convert,
    registry::money::Rent,
};

impl ChainClient {
    /// Takes what the account's stake has earned; returns how much.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn claim_rewards(&self) -> Result<(Amount, Sent), ChainError> {
        let sent = self.write("claim stakers' share", None, self.deployment().rewards, &RewardsVault::claimCall {}, Amount::ZERO).await?;
        let event: RewardsVault::Claimed = logged(&sent, self.deployment().rewards)?;
        Ok((wei(event.amount)?, sent))
    }

    /// What an account's stake has earned and not taken.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn rewards_of(&self, account: Address) -> Result<Amount, ChainError> {
        let call = RewardsVault::earnedCall { account: convert::address(account) };
        wei(self.read(self.deployment().rewards, &call).await?)
    }

    /// Prepays a Datanet's rent.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn prepay_rent(&self, datanet: AssetId, value: Amount) -> Result<Sent, ChainError> {
        self.write("prepay rent", None, self.deployment().rent, &DatanetRent::prepayCall { datanet: datanet.0 }, value).await
    }

    /// Charges a Datanet for the epochs since its last charge; anybody may.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn accrue_rent(&self, datanet: AssetId) -> Result<Sent, ChainError> {
        self.write("accrue rent", None, self.deployment().rent, &DatanetRent::accrueCall { datanet: datanet.0 }, Amount::ZERO).await
    }

    /// Asks for unspent rent back; the Datanet's owner alone may.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn request_rent_back(&self, datanet: AssetId, amount: Amount) -> Result<Sent, ChainError> {
        let call = DatanetRent::requestWithdrawCall { datanet: datanet.0, amount: amount.0 };
        self.write("request rent back", None, self.deployment().rent, &call, Amount::ZERO).await
    }

    /// Takes unspent rent back after the delay.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn withdraw_rent(&self, datanet: AssetId) -> Result<Sent, ChainError> {
        self.write("withdraw rent", None, self.deployment().rent, &DatanetRent::withdrawCall { datanet: datanet.0 }, Amount::ZERO).await
    }

    /// The price of rent, in wei per GiB and epoch.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn rent_price(&self) -> Result<Amount, ChainError> {
        let price = self.read(self.deployment().rent, &DatanetRent::priceCall {}).await?;
        Ok(Amount(price.to::<u128>()))
    }

    /// A Datanet's rent as of its last charge.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn rent_of(&self, datanet: AssetId) -> Result<Rent, ChainError> {
        let found = self.read(self.deployment().rent, &DatanetRent::accountOfCall { datanet: datanet.0 }).await?;
        Ok(Rent {
            prepaid: Amount(found.prepaid),
            accrued: Amount(found.accrued),
            leaving: Amount(found.leaving),
            leaves_at: found.leavesAt,
        })
    }

    /// Ends a version and puts another active one of the same asset in its place, in one transaction; an earlier one rolls back.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn redirect(&self, from: AssetVersion, to: u32) -> Result<Sent, ChainError> {
        let call = AssetRegistry::redirectCall { asset: from.asset.0, from: from.version, to };
        self.write("redirect version", None, self.deployment().registry, &call, Amount::ZERO).await
    }

    /// Asks, as the lane's payer, for what an expired lane collected above its receipts, in the next epoch's payout. From then on neither notes nor
    /// slashes give anything back on the lane: release those that wait before. `absence` is empty the first time; later it shows that the last
    /// final tree left the refund out.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn request_refund(&self, lane: &Lane, absence: &[u8]) -> Result<(u64, Sent), ChainError> {
        let call = PayoutVerifier::requestRefundCall { lane: lane.encode().into(), absence: absence.to_vec().into() };
        let sent = self.write("request refund", None, self.deployment().payout, &call, Amount::ZERO).await?;
        let event: PayoutVerifier::RefundRequested = logged(&sent, self.deployment().payout)?;
        Ok((event.epoch, sent))
    }
}

fn wei(amount: alloy::primitives::U256) -> Result<Amount, ChainError> {
    amount.try_into().map(Amount).map_err(|_| ChainError::Unreadable { what: "an amount", why: "beyond 2^128 wei".into() })
}
