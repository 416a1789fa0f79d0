//! Stake: registering a node, adding, leaving.

use types::{
    amount::Amount,
    id::{Address, NodeId},
};

use super::{ChainClient, Sent};
use crate::{bindings::StakeManager, chain::error::ChainError, convert, registry::state::Operator};

impl ChainClient {
    /// Registers the account's node, or a restart of it under a higher incarnation, and adds `value` to its stake.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn stake(&self, node: NodeId, incarnation: u64, payout: Address, value: Amount) -> Result<Sent, ChainError> {
        let call = StakeManager::stakeCall { nodeId: node.0.into(), incarnation, payout: convert::address(payout) };
        self.write("stake", None, self.deployment().stake, &call, value).await
    }

    /// Adds to the account's stake.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn increase_stake(&self, value: Amount) -> Result<Sent, ChainError> {
        self.write("increase stake", None, self.deployment().stake, &StakeManager::increaseCall {}, value).await
    }

    /// Starts to withdraw stake.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn unbond(&self, amount: Amount) -> Result<Sent, ChainError> {
        self.write("unbond", None, self.deployment().stake, &StakeManager::unbondCall { amount: amount.0 }, Amount::ZERO).await
    }

    /// Takes unbonded stake back.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn withdraw_stake(&self) -> Result<Sent, ChainError> {
        self.write("withdraw stake", None, self.deployment().stake, &StakeManager::withdrawCall {}, Amount::ZERO).await
    }

    /// Active stake.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn stake_of(&self, account: Address) -> Result<Amount, ChainError> {
        let stake = self.read(self.deployment().stake, &StakeManager::stakeOfCall { account: convert::address(account) }).await?;
        Ok(Amount(stake))
    }

    /// Stake that a fault can take: active and unbonding.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn slashable_of(&self, account: Address) -> Result<Amount, ChainError> {
        let stake = self.read(self.deployment().stake, &StakeManager::slashableOfCall { account: convert::address(account) }).await?;
        Ok(Amount(stake))
    }

    /// Whether an account holds the least stake.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn is_bonded(&self, account: Address) -> Result<bool, ChainError> {
        self.read(self.deployment().stake, &StakeManager::isBondedCall { account: convert::address(account) }).await
    }

    /// What is known of an operator; nothing if it never registered.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn operator(&self, account: Address) -> Result<Option<Operator>, ChainError> {
        let found = self.read(self.deployment().stake, &StakeManager::nodeOfCall { account: convert::address(account) }).await?;
        Ok((!found.nodeId.is_zero()).then(|| Operator {
            account,
            node: NodeId(found.nodeId.0),
            incarnation: found.incarnation,
            payout: convert::account(found.payout),
            active: Amount(found.active),
            unbonding: Amount(found.unbonding),
            unbonded_at: found.unbondedAt,
        }))
    }
}
