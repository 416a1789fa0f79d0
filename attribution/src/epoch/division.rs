//! Who is paid which wei of an epoch (PROTOCOL sections 5 and 7, Protocol P6): one rule for who posts a tree and for who rebuilds one.
//!
//! What is paid the chain decides: not void, not withheld, its lane collected as far as it says, when W1 ended. A receipt whose fee does not
//! divide has no parts, nor has a role that nobody holds; neither keeps another receipt from its own. A refund is due in the epoch that its
//! request names and in no other: what the lane collected less what was given back on it before the request, and less the largest
//! cumulative-after, of what was collected, among the receipts so far that name it and were not void or withheld.
//!
//! A receipt with three spans has about ten parts, each one keccak and another one in its tree: near 20 microseconds a receipt on one core.
//! Pieces of the work depend on nothing but their own nodes or accounts, so a shell may run them at once ([`Workers`]); the result is the same.

use std::{collections::BTreeMap, sync::OnceLock};

use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, AmountError},
    encoding::Document as _,
    id::{Address, Hash32},
    manifest::{AssetKind, Manifest},
    payout::PartLeaf,
    receipt::Receipt,
};

use super::{
    Refund,
    replay::{Accounts, Facts, RefundFacts},
};
use crate::{
    message::ReceiptItem,
    shares::{self, RolePayees, Share, ShareError},
};

/// Runs `work(0)` to `work(count - 1)`, each once, in any order or at once, and returns when all have ended.
pub type Workers<'w> = &'w (dyn Fn(usize, &(dyn Fn(usize) + Sync)) + Sync);

/// [`Workers`] without a second thread.
pub fn one_by_one(count: usize, work: &(dyn Fn(usize) + Sync)) {
    (0..count).for_each(work);
}

/// Results of `count` pieces of work in their order.
pub(super) fn gather<T: Send + Sync>(workers: Workers<'_>, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let found: Vec<OnceLock<T>> = (0..count).map(|_| OnceLock::new()).collect();
    workers(count, &|piece| {
        found[piece].get_or_init(|| work(piece));
    });
    // A piece that the workers left out is done here: nobody's missing work makes a smaller tree.
    found.into_iter().enumerate().map(|(piece, slot)| slot.into_inner().unwrap_or_else(|| work(piece))).collect()
}

/// Parts of each payee, ascending by their places.
pub type Parts = BTreeMap<Address, Vec<PartLeaf>>;

/// Up to where the receipts of a lane speak for its money, as far as a refund may need it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Largest cumulative-after that the lane had collected when its epoch's W1 ended.
    reached: Amount,
    /// Cumulative-afters above that: they count if the lane collects them later.
    beyond: Vec<Amount>,
}

impl Standing {
    fn note(&mut self, cumulative_after: Amount, is_collected: bool) {
        if is_collected {
            self.reached = self.reached.max(cumulative_after);
        } else {
            self.beyond.push(cumulative_after);
        }
    }

    fn join(&mut self, other: Self) {
        self.reached = self.reached.max(other.reached);
        self.beyond.extend(other.beyond);
    }

    /// What goes back of `collected`.
    fn left_of(&self, collected: Amount) -> Amount {
        let later = self.beyond.iter().filter(|amount| **amount <= collected).max().copied().unwrap_or_default();
        Amount(collected.0.saturating_sub(self.reached.max(later).0))
    }
}

/// Why a receipt under a root has no parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpaidWhy {
    /// Void, or withheld.
    #[error("it was void, or its node withheld a receipt, when the window of faults ended")]
    Out,
    /// Not collected.
    #[error("its lane had not collected it when the window of faults ended")]
    NotCollected,
    /// No fee, or one that does not divide.
    #[error("{0}")]
    Indivisible(#[from] ShareError),
}

/// A receipt under a root that has no parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpaid {
    /// Its node.
    pub node: Address,
    /// Its place.
    pub receipt: u64,
    /// Why.
    pub why: UnpaidWhy,
}

/// What an epoch's receipts come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Division {
    /// Parts of each payee, refunds among them.
    pub parts: Parts,
    /// Receipts without parts.
    pub unpaid: Vec<Unpaid>,
    /// What goes back, ascending by node and lane.
    pub refunds: Vec<Refund>,
}

/// Divides an epoch: `receipts` are each node's in the order of its root, already compared with it; `standing` is what the epochs before left
/// and is led on to this one.
pub fn divide<F: Facts + Sync>(
    facts: &F,
    accounts: &Accounts,
    epoch: u64,
    receipts: &BTreeMap<Address, Vec<ReceiptItem>>,
    due: &[RefundFacts],
    standing: &mut BTreeMap<Hash32, Standing>,
    workers: Workers<'_>,
) -> Division {
    let pieces = pieces(receipts);
    let roots = facts.epoch(epoch).map(|epoch| epoch.roots).unwrap_or_default();
    let work = |number: usize| {
        let mut piece = Piece::default();
        for (node, items) in &pieces[number] {
            let at = At { epoch, node: **node, submitted: roots.get(*node).map_or(0, |root| root.block) };
            for (place, item) in (0..).zip(*items) {
                piece.take(facts, accounts, &at, place, item);
            }
        }
        piece
    };
    let mut division = Division::default();
    for piece in gather(workers, pieces.len(), work) {
        // Pieces ascend by node, so what is appended stands behind what is there.
        for (payee, mut parts) in piece.parts {
            division.parts.entry(payee).or_default().append(&mut parts);
        }
        for (lane, stands) in piece.standing {
            standing.entry(lane).or_default().join(stands);
        }
        division.unpaid.extend(piece.unpaid);
    }
    division.refunds = due.iter().map(|due| refund(due, standing)).filter(|refund| refund.amount != Amount::ZERO).collect();
    division.refunds.sort_by_key(|refund| (refund.node, refund.lane));
    for refund in &division.refunds {
        let parts = division.parts.entry(refund.client).or_default();
        let part = PartLeaf::refund(refund.node, refund.lane, refund.amount);
        let place = parts.partition_point(|other| other.place() < part.place());
        parts.insert(place, part);
    }
    division
}

fn refund(due: &RefundFacts, standing: &BTreeMap<Hash32, Standing>) -> Refund {
    let left = standing.get(&due.lane).map_or(due.collected, |stands| stands.left_of(due.collected));
    let amount = Amount(left.0.saturating_sub(due.given_back.0));
    Refund { node: due.node, lane: due.lane, client: due.payer, amount }
}

/// Receipts of one piece of work: few pieces, so that little is put together afterwards, and enough to keep several cores busy to the end.
const PIECE_RECEIPTS: usize = 32_768;

type OfNode<'r> = (&'r Address, &'r [ReceiptItem]);

/// Runs of whole nodes, ascending, of about [`PIECE_RECEIPTS`] receipts.
fn pieces(receipts: &BTreeMap<Address, Vec<ReceiptItem>>) -> Vec<Vec<OfNode<'_>>> {
    let mut pieces: Vec<Vec<OfNode<'_>>> = Vec::new();
    let mut filled = PIECE_RECEIPTS;
    for (node, items) in receipts {
        if filled >= PIECE_RECEIPTS {
            pieces.push(Vec::new());
            filled = 0;
        }
        filled += items.len();
        pieces.last_mut().expect("one was pushed").push((node, items));
    }
    pieces
}

/// What the receipts of some nodes come to.
#[derive(Debug, Default)]
struct Piece {
    parts: Parts,
    standing: BTreeMap<Hash32, Standing>,
    unpaid: Vec<Unpaid>,
}

/// Under which root receipts stand.
#[derive(Debug)]
struct At {
    epoch: u64,
    node: Address,
    /// Block that the root was submitted in.
    submitted: u64,
}

impl Piece {
    fn take(&mut self, facts: &impl Facts, accounts: &Accounts, at: &At, place: u64, item: &ReceiptItem) {
        match self.shares(facts, accounts, at, place, item) {
            Ok(shares) => {
                for share in shares {
                    self.parts.entry(share.payee).or_default().push(share.part);
                }
            }
            Err(why) => self.unpaid.push(Unpaid { node: at.node, receipt: place, why }),
        }
    }

    fn shares(
        &mut self,
        facts: &impl Facts,
        accounts: &Accounts,
        at: &At,
        place: u64,
        item: &ReceiptItem,
    ) -> Result<Vec<Share>, UnpaidWhy> {
        let receipt = &item.receipt.document;
        if receipt.node != at.node || facts.is_out(at.epoch, at.node, receipt.hash()) {
            return Err(UnpaidWhy::Out);
        }
        let is_collected = facts.is_collected(at.epoch, receipt.lane, receipt.cumulative_after);
        // Whatever is not out bounds the lane's refund, divided or not.
        self.standing.entry(receipt.lane).or_default().note(receipt.cumulative_after, is_collected);
        if !is_collected {
            return Err(UnpaidWhy::NotCollected);
        }
        // What is still to come when the root is submitted cannot change who is paid.
        let block = receipt.block.number.min(at.submitted);
        Ok(shares_of(facts, accounts, (place, block), receipt, item.quote.protocol_fee, &item.manifest)?)
    }
}

/// Whom a paid receipt pays, as the contract divides it.
fn shares_of(
    facts: &impl Facts,
    accounts: &Accounts,
    (place, block): (u64, u64),
    receipt: &Receipt,
    protocol_fee: Amount,
    manifest: &Manifest,
) -> Result<Vec<Share>, ShareError> {
    let spans = receipt.spans.iter().map(|span| u64::from(span.weight)).sum::<u64>();
    if spans > receipt.weight_total {
        return Err(ShareError::Amount(AmountError::Short { have: receipt.weight_total.into(), need: spans.into() }));
    }
    if !manifest.split.is_whole() {
        return Err(ShareError::Amount(AmountError::Overflow("split table")));
    }
    let owner = |kind: AssetKind| manifest.asset(kind).and_then(|asset| facts.owner_at(asset.version.asset, block));
    let roles = RolePayees {
        protocol: accounts.protocol,
        node: facts.payout_at(receipt.node, block),
        agent: owner(AssetKind::Agent),
        base: owner(AssetKind::Base),
        adapter: owner(AssetKind::Adapter),
        stakers: accounts.stakers,
        insurance: accounts.insurance,
    };
    shares::payees(receipt, place, protocol_fee, manifest, &roles)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standing(notes: &[(u128, bool)]) -> Standing {
        let mut standing = Standing::default();
        notes.iter().for_each(|(amount, is_collected)| standing.note(Amount(*amount), *is_collected));
        standing
    }

    #[test]
    fn a_refund_is_what_no_receipt_speaks_for_that_was_not_out() {
        assert_eq!(standing(&[]).left_of(Amount(100)), Amount(100));
        assert_eq!(standing(&[(40, true), (10, true)]).left_of(Amount(100)), Amount(60));
        assert_eq!(standing(&[(100, true)]).left_of(Amount(100)), Amount::ZERO);
        assert_eq!(
            standing(&[(40, true), (70, false), (120, false)]).left_of(Amount(100)),
            Amount(30),
            "collected later, not paid, not refunded"
        );
        assert_eq!(standing(&[(120, false)]).left_of(Amount(100)), Amount(100), "above all that was ever collected it binds nothing");
    }

    proptest! {
        #[test]
        fn receipts_over_disjoint_stretches_and_a_refund_never_come_to_more_than_was_collected(stretches in prop::collection::vec((0..100_u128, 0..20_u128), 0..12), collected in 0..1_500_u128) {
            let (mut at, mut paid, mut standing) = (0, 0, Standing::default());
            for (fee, gap) in stretches {
                at += gap + fee;
                standing.note(Amount(at), at <= collected);
                paid += if at <= collected { fee } else { 0 };
            }
            prop_assert!(paid + standing.left_of(Amount(collected)).0 <= collected);
        }
    }

    #[test]
    fn workers_that_leave_pieces_out_or_turn_them_around_change_nothing() {
        let squares = |workers: Workers<'_>| gather(workers, 9, |piece| piece * piece);
        let expected: Vec<usize> = (0..9).map(|piece| piece * piece).collect();
        assert_eq!(squares(&one_by_one), expected);
        assert_eq!(squares(&|count, work| (0..count).rev().for_each(work)), expected);
        assert_eq!(squares(&|_, _| {}), expected);
    }
}
