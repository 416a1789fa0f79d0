//! Who is paid which wei of an epoch (PROTOCOL sections 5 and 7, Protocol P6): one rule for who posts a tree and for who rebuilds one.
//!
//! What is paid the chain decides: not void, not withheld, its lane collected as far as it says, when W1 ended. A receipt whose fee does not
//! divide has no parts, nor has a role that nobody holds; neither keeps another receipt from its own. A refund is due in the epoch that its
//! request names and in no other: what the lane collected less what was given back on it before the request, and less the largest
//! cumulative-after, of what was collected, among the billed receipts so far that name it and were not void or withheld. Its part names the place of that
//! receipt, and stands there even if nothing is left: so that both a wrong refund and its absence can be shown.
//!
//! A receipt with three spans has about ten parts, each one keccak and another one in its tree: near 20 microseconds a receipt on one core.
//! Pieces of the work depend on nothing but their own nodes or accounts, so a shell may run them at once ([`Workers`]); the result is the same.

use std::{cmp::Reverse, collections::BTreeMap, sync::OnceLock};

use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, AmountError},
    encoding::{Body, Document as _},
    id::{Address, Hash32},
    manifest::{AssetKind, Manifest},
    payout::{PartLeaf, Witness},
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

/// Up to where a receipt speaks for its lane's money, and where it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reach {
    /// Its cumulative-after.
    amount: Amount,
    witness: Witness,
}

impl Reach {
    /// The one that reaches further; of two that reach equally far the one whose witness is smaller. Nothing reaches to zero.
    fn further(self, other: Self) -> Self {
        let order = |reach: &Self| (reach.amount, Reverse(reach.witness));
        let furthest = if order(&self) < order(&other) { other } else { self };
        if furthest.amount == Amount::ZERO { Self::default() } else { furthest }
    }
}

/// Up to where the receipts of a lane speak for its money, as far as a refund may need it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The furthest that the lane had collected when its epoch's W1 ended.
    reached: Reach,
    /// Those above that: they count if the lane collects them later.
    beyond: Vec<Reach>,
}

impl Standing {
    fn note(&mut self, reach: Reach, is_collected: bool) {
        if is_collected {
            // Zero as amount makes way for every other one, whatever its witness.
            self.reached = reach.further(self.reached);
        } else {
            self.beyond.push(reach);
        }
    }

    fn join(&mut self, other: Self) {
        self.reached = self.reached.further(other.reached);
        self.beyond.extend(other.beyond);
    }

    /// The furthest of what the lane has collected by now.
    fn furthest(&self, collected: Amount) -> Reach {
        let later = self.beyond.iter().filter(|reach| reach.amount <= collected);
        later.fold(self.reached, |furthest, reach| furthest.further(*reach))
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
    /// It names bytes that are no quote, or shows none.
    #[error("what it names as its quote is none")]
    NoQuote,
    /// It names bytes that are no manifest, or shows none.
    #[error("what it names as its manifest is none")]
    NoManifest,
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
        let mut manifests = Manifests::default();
        for (node, items) in &pieces[number] {
            let at = At { epoch, node: **node, submitted: roots.get(*node).map_or(0, |root| root.block) };
            for (place, item) in (0..).zip(*items) {
                piece.take(facts, accounts, &at, place, item, &mut manifests);
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
    division.refunds = due.iter().map(|due| refund(due, standing)).collect();
    division.refunds.sort_by_key(|refund| (refund.node, refund.lane));
    for refund in &division.refunds {
        let parts = division.parts.entry(refund.client).or_default();
        let part = refund.part();
        let place = parts.partition_point(|other| other.place() < part.place());
        parts.insert(place, part);
    }
    division
}

fn refund(due: &RefundFacts, standing: &BTreeMap<Hash32, Standing>) -> Refund {
    let Reach { amount: spoken, witness } = standing.get(&due.lane).map(|stands| stands.furthest(due.collected)).unwrap_or_default();
    let amount = Amount(due.collected.0.saturating_sub(due.given_back.0).saturating_sub(spoken.0));
    Refund { node: due.node, lane: due.lane, client: due.payer, amount, witness }
}

/// Answers of one node mostly have one manifest: the last one is not read again.
#[derive(Debug, Default)]
struct Manifests<'r>(Option<(&'r Body, Option<Manifest>)>);

impl<'r> Manifests<'r> {
    fn of(&mut self, item: &'r ReceiptItem) -> Option<&Manifest> {
        let body = item.manifest.as_ref()?;
        if self.0.as_ref().is_none_or(|(last, _)| *last != body) {
            self.0 = Some((body, item.manifest()));
        }
        self.0.as_ref()?.1.as_ref()
    }
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
    fn take<'r>(
        &mut self,
        facts: &impl Facts,
        accounts: &Accounts,
        at: &At,
        place: u64,
        item: &'r ReceiptItem,
        manifests: &mut Manifests<'r>,
    ) {
        let shares = self.is_paid(facts, at, place, &item.receipt.document).and_then(|()| {
            // What is still to come when the root is submitted cannot change who is paid.
            let block = item.receipt.document.block.number.min(at.submitted);
            shares_of(facts, accounts, (at.epoch, place, block), item, manifests)
        });
        match shares {
            Ok(shares) => {
                for share in shares {
                    self.parts.entry(share.payee).or_default().push(share.part);
                }
            }
            Err(why) => self.unpaid.push(Unpaid { node: at.node, receipt: place, why }),
        }
    }

    fn is_paid(&mut self, facts: &impl Facts, at: &At, place: u64, receipt: &Receipt) -> Result<(), UnpaidWhy> {
        if receipt.node != at.node || facts.is_out(at.epoch, at.node, receipt.hash()) {
            return Err(UnpaidWhy::Out);
        }
        let is_collected = facts.is_collected(at.epoch, receipt.lane, receipt.cumulative_after);
        // Whatever is not out bounds the lane's refund, divided or not; but what bills nothing speaks for nothing, whatever lane it names.
        if receipt.bills() {
            let witness = Witness { epoch: at.epoch, node: at.node, index: place };
            self.standing.entry(receipt.lane).or_default().note(Reach { amount: receipt.cumulative_after, witness }, is_collected);
        }
        if is_collected { Ok(()) } else { Err(UnpaidWhy::NotCollected) }
    }
}

/// Whom a paid receipt pays, as the contract divides it. One that may not be billed needs no quote and no manifest for having no parts.
fn shares_of<'r>(
    facts: &impl Facts,
    accounts: &Accounts,
    (epoch, place, block): (u64, u64, u64),
    item: &'r ReceiptItem,
    manifests: &mut Manifests<'r>,
) -> Result<Vec<Share>, UnpaidWhy> {
    let receipt = &item.receipt.document;
    if !receipt.reason.is_billable() {
        return shares::unbilled(receipt).map(|()| Vec::new()).map_err(UnpaidWhy::Indivisible);
    }
    let quote = item.quote().ok_or(UnpaidWhy::NoQuote)?;
    let manifest = manifests.of(item).ok_or(UnpaidWhy::NoManifest)?;
    let spans = receipt.spans.iter().map(|span| u64::from(span.weight)).sum::<u64>();
    if spans > receipt.weight_total {
        return Err(ShareError::Amount(AmountError::Short { have: receipt.weight_total.into(), need: spans.into() }).into());
    }
    if !manifest.split.is_whole() {
        return Err(ShareError::Amount(AmountError::Overflow("split table")).into());
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
    let hash = receipt.hash();
    let is_false = |span| facts.is_span_out(epoch, hash, span);
    Ok(shares::payees(receipt, place, quote.protocol_fee, manifest, &roles, is_false)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn witness(epoch: u64, node: u8, index: u64) -> Witness {
        Witness { epoch, node: Address([node; 20]), index }
    }

    fn standing(notes: &[(u128, bool)]) -> Standing {
        let mut standing = Standing::default();
        for (index, (amount, is_collected)) in (0..).zip(notes) {
            standing.note(Reach { amount: Amount(*amount), witness: witness(1, 1, index) }, *is_collected);
        }
        standing
    }

    /// What goes back of `collected`, and the place of the receipt behind which it begins.
    fn left(notes: &[(u128, bool)], collected: u128) -> (u128, Option<u64>) {
        let furthest = standing(notes).furthest(Amount(collected));
        (collected - furthest.amount.0, (furthest.witness != Witness::NONE).then_some(furthest.witness.index))
    }

    #[test]
    fn a_refund_is_what_no_receipt_speaks_for_that_was_not_out() {
        assert_eq!(left(&[], 100), (100, None));
        assert_eq!(left(&[(40, true), (10, true)], 100), (60, Some(0)));
        assert_eq!(left(&[(100, true)], 100), (0, Some(0)));
        assert_eq!(left(&[(40, true), (70, false), (120, false)], 100), (30, Some(1)), "collected later, not paid, not refunded");
        assert_eq!(left(&[(120, false)], 100), (100, None), "above all that was ever collected it binds nothing");
        assert_eq!(left(&[(0, true), (0, false)], 100), (100, None), "what speaks for nothing is no witness");
        assert_eq!(
            left(&[(0, true), (40, true), (40, false), (40, true)], 100),
            (60, Some(1)),
            "the first of those that reach equally far"
        );
    }

    proptest! {
        #[test]
        fn the_witness_is_the_smallest_of_the_furthest_however_the_receipts_come(notes in prop::collection::vec((0..5_u128, 1..4_u64, 1..3_u8, 0..3_u64, any::<bool>()), 0..12), collected in 0..5_u128, cut: usize) {
            let reach = |(amount, epoch, node, index, _): &(u128, u64, u8, u64, bool)| Reach { amount: Amount(*amount), witness: witness(*epoch, *node, *index) };
            // What was collected when W1 ended was collected.
            let notes: Vec<_> = notes.into_iter().map(|note| (note.0, note.1, note.2, note.3, note.4 && note.0 <= collected)).collect();
            let of = |notes: &[(u128, u64, u8, u64, bool)]| {
                let mut standing = Standing::default();
                notes.iter().for_each(|note| standing.note(reach(note), note.4));
                standing
            };
            let (before, after) = notes.split_at(cut % (notes.len() + 1));
            let mut joined = of(after);
            joined.join(of(before));
            let most = notes.iter().map(|note| note.0).filter(|amount| *amount <= collected && *amount > 0).max();
            let smallest = most.and_then(|most| notes.iter().filter(|note| note.0 == most).map(|note| reach(note).witness).min());
            let expected = Reach { amount: Amount(most.unwrap_or_default()), witness: smallest.unwrap_or_default() };
            prop_assert_eq!(of(&notes).furthest(Amount(collected)), expected);
            prop_assert_eq!(joined.furthest(Amount(collected)), expected);
        }

        #[test]
        fn receipts_over_disjoint_stretches_and_a_refund_never_come_to_more_than_was_collected(stretches in prop::collection::vec((0..100_u128, 0..20_u128), 0..12), collected in 0..1_500_u128) {
            let (mut at, mut paid, mut notes) = (0, 0, Vec::new());
            for (fee, gap) in stretches {
                at += gap + fee;
                notes.push((at, at <= collected));
                paid += if at <= collected { fee } else { 0 };
            }
            prop_assert!(paid + left(&notes, collected).0 <= collected);
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
