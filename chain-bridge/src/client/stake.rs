//! Stake: registering a node, roles, adding, leaving, dividing what a fault took.

use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, NodeId},
    voucher::Lane,
};

use super::{ChainClient, Sent, key, logged};
use crate::{
    bindings::StakeManager,
    chain::error::ChainError,
    convert,
    registry::{
        money::{Division, Slash},
        state::Operator,
    },
};

impl ChainClient {
    /// Registers the account's node, or a restart of it under a higher incarnation, and adds `value` to its stake.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn stake(&self, node: NodeId, incarnation: u64, payout: Address, value: Amount) -> Result<Sent, ChainError> {
        let call = StakeManager::stakeCall { nodeId: node.0.into(), incarnation, payout: convert::address(payout) };
        self.write("stake", None, self.deployment().stake, &call, value).await
    }

    /// Takes on roles (see [`crate::registry::money`]) beside the node's, and adds `value` to the stake, which must reach what all of them demand.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn join(&self, roles: u8, value: Amount) -> Result<Sent, ChainError> {
        self.write("take on roles", None, self.deployment().stake, &StakeManager::joinCall { roles }, value).await
    }

    /// Gives up roles; the stake stays until it is unbonded.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn quit(&self, roles: u8) -> Result<Sent, ChainError> {
        self.write("give up roles", None, self.deployment().stake, &StakeManager::quitCall { roles }, Amount::ZERO).await
    }

    /// Whether an account has every one of some roles and the stake for all it has.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn is_bonded_as(&self, account: Address, roles: u8) -> Result<bool, ChainError> {
        let call = StakeManager::isBondedAsCall { account: convert::address(account), roles };
        self.read(self.deployment().stake, &call).await
    }

    /// The bond that a node's open fees are held against: what a fault of today can surely take; zero for who is no bonded node, whose roots are refused.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn bond_of(&self, account: Address) -> Result<Amount, ChainError> {
        let (is_bonded, bond): (bool, u128) =
            self.read(self.deployment().stake, &StakeManager::bondOfCall { account: convert::address(account) }).await?.into();
        Ok(if is_bonded { Amount(bond) } else { Amount::ZERO })
    }

    /// Active stake that a set of roles demands.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn least_stake(&self, roles: u8) -> Result<Amount, ChainError> {
        let least = self.read(self.deployment().stake, &StakeManager::leastStakeCall { roles }).await?;
        least.try_into().map(Amount).map_err(|_| ChainError::Unreadable { what: "the least stake", why: "beyond 2^128 wei".into() })
    }

    /// Divides a slash whose delay is over; anybody may. Its fields are those of its event; `lane` is the body behind its lane's id, which says whose
    /// loss is repaid, and may be left out where there is no victim or the lane collected nothing.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn release_slash(&self, slash: &Slash, lane: Option<&Lane>) -> Result<(Division, Sent), ChainError> {
        let queued = StakeManager::Slash {
            faultHash: convert::word(slash.fault),
            account: convert::address(slash.account),
            amount: slash.amount.0,
            victim: convert::address(slash.victim),
            victimAmount: slash.victim_amount.0,
            lane: convert::word(slash.lane),
            reporter: convert::address(slash.reporter),
            releaseAt: slash.release_at,
        };
        let key = key("release", &[slash.fault]);
        let call = StakeManager::releaseCall { queued, lane: lane.map(Document::encode).unwrap_or_default().into() };
        let sent = self.write("release slash", key, self.deployment().stake, &call, Amount::ZERO).await?;
        let event: StakeManager::SlashReleased = logged(&sent, self.deployment().stake)?;
        let division = Division {
            to_victim: Amount(event.toVictim),
            covered: Amount(event.covered),
            to_reporter: Amount(event.toReporter),
            burned: Amount(event.burned),
            insured: Amount(event.insured),
        };
        Ok((division, sent))
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

    /// Faults of an account within 90 days, as far as they are kept: each makes the next one dearer.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn recent_faults(&self, account: Address) -> Result<u64, ChainError> {
        let call = StakeManager::recentFaultsCall { account: convert::address(account) };
        Ok(convert::small(self.read(self.deployment().stake, &call).await?))
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
            roles: found.roles,
        }))
    }
}
