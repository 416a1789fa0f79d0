//! What a reorganisation does to a root that was signed: as long as its epoch takes roots it is sent again; once the finalized chain shows that the
//! epoch has closed without it, its receipts are free again and stand under the next root. `crate::books::roots` keeps a receipt from
//! standing under two.
//!
//! Only what is finalized says that a root is lost: a later epoch is open there, or the time for roots is over. Each settling looks at the roots
//! that are not final, a handful. A receipt may lie `maxAgeBlocks` behind its root at most (F5 would void it), so what grew too old is told
//! with its sum and never posted; its payer may ask its money back.

use anyhow::Context as _;
use attribution::{bundle::Bundle, epoch};
use chain_bridge::{chain::error::ChainError, follow::Snapshot, registry::State};
use types::{amount::Amount, id::Address, key::Signed};

use super::Settling;
use crate::books::{
    Posting,
    roots::{Fate, Step},
};

/// Blocks that a root may wait for its inclusion: the outbox raises its fee after three.
const INCLUSION_BLOCKS: u64 = 4;

/// What became of the root of `own` of an epoch; `finalized_at` is the time of the finalized block.
fn fate(own: Address, number: u64, finalized: &State, finalized_at: u64, latest: &State) -> Fate {
    let has = |state: &State| state.epoch(number).is_some_and(|epoch| epoch.roots.contains_key(&own));
    let is_over = finalized.epoch(number).is_some_and(|epoch| epoch.accepts_until <= finalized_at);
    if has(finalized) {
        Fate::Final
    } else if is_over || finalized.current_epoch().is_some_and(|(newest, _)| newest > number) {
        Fate::Lost
    } else if has(latest) {
        Fate::Open
    } else {
        Fate::Missing
    }
}

/// The receipts that a root submitted after block `head` may cover; the others are told with their sum.
pub(super) fn young_enough(items: Vec<(u64, Bundle)>, head: u64, age_max: u64) -> Vec<(u64, Bundle)> {
    let is_old = |bundle: &Bundle| is_too_old(bundle.receipt.document.block.number, head, age_max);
    let (old, young): (Vec<_>, Vec<_>) = items.into_iter().partition(|(_, bundle)| is_old(bundle));
    if !old.is_empty() {
        let fees = Amount(old.iter().fold(0_u128, |sum, (_, bundle)| sum.saturating_add(bundle.receipt.document.fee.0)));
        let oldest = old.iter().map(|(_, bundle)| bundle.receipt.document.block.number).min();
        tracing::warn!(receipts = old.len(), %fees, oldest, head, age_max, "receipts name blocks too old for a root and are never paid");
    }
    young
}

const fn is_too_old(block: u64, head: u64, age_max: u64) -> bool {
    block.saturating_add(age_max) < head.saturating_add(INCLUSION_BLOCKS)
}

impl Settling {
    /// Looks after the roots that the finalized chain does not hold yet. Returns why one of them is not on the chain, if the chain refuses it now.
    pub(super) async fn stand_again(&self, snapshot: &Snapshot) -> anyhow::Result<Option<ChainError>> {
        let unsettled = self.books.unsettled()?;
        let Some(heads) = snapshot.heads.filter(|_| !unsettled.is_empty()) else { return Ok(None) };
        let header = self.chain.rpc().header(heads.finalized.number).await?.context("the finalized block is gone")?;
        anyhow::ensure!(header.block == heads.finalized, "the chain's finalized block changed while it was looked at");
        let own = self.account.address();
        let (mut all_final, mut refused) = (true, None);
        for (number, posting) in unsettled {
            let fate = fate(own, number, &snapshot.finalized, header.timestamp, &snapshot.latest);
            let roots = self.books.roots()?;
            match roots.step(number, fate) {
                Step::Keep => {}
                Step::TakeBack => {
                    let receipts = self.books.take_back(number)?;
                    tracing::warn!(epoch = number, receipts, "the chain dropped this node's root: its receipts stand under the next one");
                }
                Step::Send => refused = self.send_again(number, &posting).await?,
                Step::Never => tracing::error!(epoch = number, "a root has receipts of another one that may stand: it is not sent"),
            }
            // One that shares receipts with another is remembered until that one is lost.
            all_final &= matches!(fate, Fate::Lost) || (matches!(fate, Fate::Final) && !roots.overlaps(number));
            if all_final {
                self.books.settled_before(number.saturating_add(1))?;
            }
        }
        Ok(refused)
    }

    /// Hands the same root over again: its key finds the transaction that a reorganisation took out, if it is not in a block already.
    async fn send_again(&self, number: u64, posting: &Posting) -> anyhow::Result<Option<ChainError>> {
        let receipts: Vec<_> = self.books.receipts(&posting.numbers)?.into_iter().map(|bundle| bundle.receipt).collect();
        let root = epoch::node_root(self.account.address(), number, &receipts)?;
        match self.chain.submit_node_root(&Signed::new(&self.account, &self.deployment.domains(), root)).await {
            Ok(_) => Ok(None),
            // The epoch has closed in blocks that are not final yet, or another copy was faster: both are known later.
            Err(error @ ChainError::Reverted { .. }) => {
                tracing::debug!(epoch = number, %error, "a root that the chain does not have");
                Ok(Some(error))
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::event::{Event, Logged};
    use types::{id::Hash32, time::BlockRef};

    use super::*;

    const OWN: Address = Address([7; 20]);

    /// Books in which epochs opened at 10, 20 and so on, each taking roots for five seconds, with the roots of `own` in those named.
    fn books(epochs: u64, own: &[u64]) -> State {
        let mut state = State::default();
        let mut apply = |log: u32, event| {
            let block = BlockRef { number: 5, hash: Hash32::ZERO };
            state.apply(&Logged { block, time: 5, transaction: Hash32::ZERO, log, event }).unwrap();
        };
        for epoch in 1..=epochs {
            apply(0, Event::EpochOpened { epoch, opened_at: 10 * epoch, accepts_until: 10 * epoch + 5, payout_from: 10 * epoch + 15 });
            if own.contains(&epoch) {
                let (receipts, fees) = (Hash32([1; 32]), Amount(1));
                apply(1, Event::NodeRootSubmitted { epoch, node: OWN, receipts, count: 1, fees, block: 5 });
            }
        }
        state
    }

    #[test]
    fn only_the_finalized_chain_says_that_a_root_is_lost() {
        let at = |finalized: &State, time, latest: &State| fate(OWN, 1, finalized, time, latest);
        let (none, open, with) = (books(0, &[]), books(1, &[]), books(1, &[1]));
        assert_eq!(at(&none, 3, &with), Fate::Open);
        assert_eq!(at(&with, 12, &with), Fate::Final);
        assert_eq!(at(&none, 100, &none), Fate::Missing, "an epoch that nobody opened takes it whenever it comes");
        assert_eq!(at(&open, 14, &open), Fate::Missing);
        assert_eq!(at(&open, 14, &books(2, &[])), Fate::Missing, "that the epoch has closed is not final");
        assert_eq!(at(&open, 15, &open), Fate::Lost, "the time for roots is over");
        assert_eq!(at(&books(2, &[2]), 21, &books(2, &[2])), Fate::Lost, "a later epoch is open");
        assert_eq!(at(&books(2, &[1]), 21, &books(2, &[1])), Fate::Final);
    }

    #[test]
    fn a_receipt_is_too_old_before_its_block_lies_an_age_behind() {
        assert!(!is_too_old(100, 352, 256));
        assert!(is_too_old(100, 353, 256), "a root in block 357 would void it");
        assert!(!is_too_old(u64::MAX, 5, 256));
    }
}
