//! What a client's deposit and a session key's right count for, by the books and by the chain.

use anyhow::Context as _;
use chain_bridge::{
    chain::{Certainty, error::ChainError},
    client::ChainClient,
    lanes::SessionRight,
    registry::money::Session,
};
use types::{amount::Amount, id::Address};

use crate::{chain::Snapshots, service::inference::Escrow};

/// Deposits by the books that follow the chain, and by the chain itself where the books show too little: an answer whose deposit is known waits for
/// no question.
///
/// A deposit counts as far as the safe block has it, since that is replaced only if the L1 is; beyond, the latest block's counts up to what the node is
/// willing to lose to one client. So whoever deposits can ask at once for a little, and a reorganisation of the sequencer costs no more than that.
/// What is asked back counts no more from the latest block on. A session key counts from the safe block on alone.
#[derive(Debug)]
pub(super) struct ChainEscrow {
    pub(super) client: ChainClient,
    pub(super) snapshots: Snapshots,
    /// What one client may cost, in wei.
    pub(super) willing: Amount,
}

/// What counts of a deposit of `latest` wei, of which `certain` will stay.
fn counted(latest: Amount, certain: Amount, willing: Amount) -> Amount {
    latest.min(Amount(certain.0.saturating_add(willing.0)))
}

impl Escrow for ChainEscrow {
    async fn free_balance(&self, payer: Address, enough: Amount) -> anyhow::Result<Amount> {
        let known = {
            let snapshot = self.snapshots.borrow();
            let free = || counted(snapshot.latest.free(payer), snapshot.finalized.free(payer), self.willing);
            snapshot.problem.is_none().then(free)
        };
        if let Some(free) = known.filter(|free| *free >= enough) {
            return Ok(free);
        }
        let safe = match self.client.at(Certainty::Safe).free_balance(payer).await {
            // The escrow itself is younger than the safe block.
            Err(ChainError::NoCode { .. }) => Amount::ZERO,
            other => other?,
        };
        Ok(counted(self.client.free_balance(payer).await?, safe, self.willing))
    }

    async fn session(&self, payer: Address, signer: Address) -> anyhow::Result<Option<SessionRight>> {
        // The books know what was authorised, the chain alone what was collected by the key's signature.
        let Some(latest) = self.client.session_of(payer, signer).await? else { return Ok(None) };
        let is_known = |known: Session| (known.cap, known.expiry, known.revoked_at) == (latest.cap, latest.expiry, latest.revoked_at);
        if self.snapshots.borrow().finalized.session(payer, signer).is_some_and(is_known) {
            return Ok(Some(latest));
        }
        let safe = match self.client.at(Certainty::Safe).session_of(payer, signer).await {
            // The escrow itself is younger than the safe block.
            Err(ChainError::NoCode { .. }) => None,
            other => other?,
        };
        let safe = safe.with_context(|| format!("{signer} was authorised in a block that may still be replaced: ask again in a moment"))?;
        Ok(Some(certain_right(latest, safe)))
    }
}

/// What of a session key's right stays whatever becomes of the blocks behind the safe one. A request that the key signed must be shown to the chain when it is asked for
/// (F6), and is none there if the key was never authorised: so, unlike a deposit, nothing of it counts before.
fn certain_right(latest: SessionRight, safe: SessionRight) -> SessionRight {
    let revoked_at = [latest.revoked_at, safe.revoked_at].into_iter().flatten().min();
    SessionRight { cap: latest.cap.min(safe.cap), spent: latest.spent.max(safe.spent), expiry: latest.expiry.min(safe.expiry), revoked_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_session_key_counts_what_no_reorganisation_takes_back() {
        let right = |cap, spent, expiry, revoked_at| SessionRight { cap: Amount(cap), spent: Amount(spent), expiry, revoked_at };
        let safe = right(100, 10, 50, None);
        assert_eq!(certain_right(safe, safe), safe);
        assert_eq!(certain_right(right(900, 10, 90, None), safe), safe, "a cap that was raised a moment ago");
        assert_eq!(certain_right(right(20, 40, 30, Some(7)), safe), right(20, 40, 30, Some(7)), "what was taken away counts at once");
        assert_eq!(certain_right(safe, right(100, 10, 50, Some(7))), right(100, 10, 50, Some(7)), "a revocation that was taken back");
    }

    #[test]
    fn of_a_deposit_that_may_be_taken_back_only_what_the_node_would_lose_counts() {
        let counts = |latest, certain, willing| counted(Amount(latest), Amount(certain), Amount(willing)).0;
        assert_eq!(counts(1_000, 0, 7), 7, "nothing of it is certain");
        assert_eq!(counts(1_000, 400, 7), 407);
        assert_eq!(counts(1_000, 1_000, 0), 1_000);
        assert_eq!(counts(300, 1_000, 7), 300, "asked back since");
        assert_eq!(counts(5, u128::MAX, 7), 5);
    }
}
