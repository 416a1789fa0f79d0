//! What nobody answered in time: settled by who holds trees, or its bond asked back.

use anyhow::Context as _;
use chain_bridge::{
    fraud::{
        calldata::{Pending, Step},
        challenge::Stretch,
        search::root_of,
    },
    registry::{State, money::ChallengeOf},
};
use types::{encoding::Document as _, id::Hash32};

use super::super::Settling;

/// A challenge whose time to answer is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overdue {
    pub(super) id: Hash32,
    pub(super) deadline: u64,
    /// Whether its bond is this node's.
    pub(super) is_own: bool,
}

/// What an overdue challenge of a payout is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// The payout that is pending: it is settled.
    Pending(Pending),
    /// One that was taken back, and its bond is this node's to ask back.
    Former,
    /// Nothing that this node can do now.
    Nothing,
}

impl Overdue {
    /// What it is about, where `pending` is the epoch's payout by the books, if it has one.
    fn about(&self, pending: Option<Pending>, now: u64, (w2_s, answer_s): (u64, u64)) -> About {
        // One about an earlier payout of the epoch was made before this one was posted.
        match pending.filter(|pending| self.deadline >= pending.posted_at.saturating_add(answer_s)) {
            Some(pending) if now < pending.posted_at.saturating_add(w2_s) => About::Pending(pending),
            None if self.is_own && now >= self.deadline.saturating_add(answer_s) => About::Former,
            _ => About::Nothing,
        }
    }
}

impl Settling {
    /// What settles a challenge that was not answered, whoever made it; nothing if it cannot be settled any more, or needs what is not at hand. The bond
    /// of one about a payout that was taken back otherwise is asked back by its challenger.
    pub(super) async fn settled(&self, state: &State, of: &ChallengeOf, overdue: &Overdue, now: u64) -> anyhow::Result<Option<Step>> {
        let (w2_s, answer_s) = (self.deployment.config.w2_s, self.deployment.config.payout_answer_s);
        match of {
            ChallengeOf::Receipts { epoch, node, first, count } => Ok(root_of(state, *epoch, *node)
                .map(|(root, block)| Step::settle_receipts(&Stretch { root, block, first: *first, count: *count }))),
            ChallengeOf::Leaf { epoch, index } | ChallengeOf::Part { epoch, index, .. } => {
                let payout = state.epoch(*epoch).and_then(|epoch| epoch.payout);
                let pending = payout.and_then(|payout| Pending::of(*epoch, &payout, w2_s));
                let pending = match overdue.about(pending, now, (w2_s, answer_s)) {
                    About::Pending(pending) => pending,
                    About::Former => return Ok(Some(Step::reclaim(overdue.id))),
                    About::Nothing => return Ok(None),
                };
                if matches!(of, ChallengeOf::Leaf { .. }) {
                    return Ok((pending.leaf_challenge(*index) == overdue.id).then(|| Step::settle_leaf(*index)));
                }
                let (id, index) = (overdue.id, *index);
                let leaf =
                    tokio::task::spawn_blocking(move || pending.leaf_of(id, index)).await.context("the search ended before its time")?;
                Ok(leaf.map(|leaf| Step::settle_part(leaf, index)))
            }
            ChallengeOf::Request { receipt, node, .. } => {
                let roots = state.epochs().filter_map(|(number, epoch)| Some((number, epoch.roots.get(node)?)));
                for (number, root) in roots {
                    let items = self.at_hand(number, *node, root)?.unwrap_or_default();
                    if let Some(item) = items.iter().find(|item| item.receipt.document.hash() == *receipt) {
                        return Ok(Some(Step::settle_request(&item.receipt.document.encode())));
                    }
                }
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withheld_part_of_a_pending_payout_is_settled_whoever_asked_and_a_former_payouts_bond_is_asked_back() {
        let pending = Pending { epoch: 1, root: Hash32([1; 32]), posted_at: 1_000 };
        let overdue = |deadline, is_own| Overdue { id: Hash32([2; 32]), deadline, is_own };
        let about = |overdue: Overdue, pending, now| overdue.about(pending, now, (300, 30));
        for is_own in [false, true] {
            assert_eq!(about(overdue(1_030, is_own), Some(pending), 1_030), About::Pending(pending));
            assert_eq!(about(overdue(1_030, is_own), Some(pending), 1_300), About::Nothing, "the payout is final");
        }
        // Of a payout before it: the same place may be asked for again, under another id.
        assert_eq!(about(overdue(990, false), Some(pending), 1_030), About::Nothing);
        assert_eq!(about(overdue(990, true), Some(pending), 1_019), About::Nothing, "its bond is not free yet");
        assert_eq!(about(overdue(990, true), Some(pending), 1_020), About::Former);
        assert_eq!(about(overdue(990, true), None, 1_020), About::Former);
        assert_eq!(about(overdue(990, false), None, 1_020), About::Nothing);
    }
}
