//! Finding what is wrong with a posted payout, and proving it.
//!
//! Whoever has the posted tree and the tree that the receipts give compares them; the first fault becomes the cheapest proof that `PayoutVerifier`
//! takes. A tree that is right yields nothing. Where the contract leaves a doubt to the poster (money collected after W1 ended) there is no proof.
//! Cost: one pass over both trees, and the openings of one proof.

use std::collections::BTreeMap;

use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, Hash32},
    merkle::{SumOpening, SumTree},
    operator::{NodeRoot, receipt_leaf},
    payout::{PartLeaf, PayoutLeaf, RefundOf, Witness},
    receipt::{Receipt, fee_of},
};

use super::payout::{Against, Billed, Opened, PayoutProof, Row, Shown, is_refund, read_receipt};
use crate::registry::State;

/// A receipt of a node's tree with what its parts follow from, as bytes that hash to what they should.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bodies {
    /// The receipt.
    pub receipt: Vec<u8>,
    /// The quote it names.
    pub quote: Vec<u8>,
    /// The manifest it names.
    pub manifest: Vec<u8>,
}

/// The receipts behind the node roots of this epoch and of those before, each node's in its own order.
pub type Receipts = BTreeMap<(u64, Address), Vec<Bodies>>;

/// A posted payout beside what it should be.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The chain's books.
    pub state: &'a State,
    /// The epoch whose payout is pending.
    pub epoch: u64,
    /// What was posted.
    pub posted: &'a Shown,
    /// The last final tree; nothing before the first.
    pub last: Option<&'a Shown>,
    /// What the receipts give.
    pub expected: &'a Shown,
    /// The receipts.
    pub receipts: &'a Receipts,
}

/// Why no proof comes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// No payout is pending there.
    #[error("epoch {0} has no payout on the chain")]
    NotPosted(u64),
    /// The tree shown is another one.
    #[error("the tree shown has the root {got}, posted is {expected}")]
    OtherTree {
        /// Shown.
        got: Hash32,
        /// On the chain.
        expected: Hash32,
    },
    /// The receipts needed are not there.
    #[error("receipt {index} of node {node} in epoch {epoch} is not at hand: without it nothing can be proved of its parts")]
    NoReceipt {
        /// Epoch.
        epoch: u64,
        /// Node.
        node: Address,
        /// Place.
        index: u64,
    },
    /// Nothing the contract can be shown.
    #[error("the posted tree is not the one the receipts give, and no mode of the contract shows it: {0}")]
    Unprovable(String),
}

/// The first fault of a posted payout; nothing if it is the one the receipts give.
///
/// # Errors
/// [`SearchError`].
pub fn first_fault(case: &Case<'_>) -> Result<Option<PayoutProof>, SearchError> {
    let payout = case.state.epoch(case.epoch).and_then(|epoch| epoch.payout).ok_or(SearchError::NotPosted(case.epoch))?;
    if case.posted.root() != payout.root {
        return Err(SearchError::OtherTree { got: case.posted.root(), expected: payout.root });
    }
    if case.posted.total() != payout.total {
        return Ok(Some(case.posted.prove_head()));
    }
    if let Some(proof) = malformed(case.posted, case.last) {
        return Ok(Some(proof));
    }
    if case.posted.root() == case.expected.root() {
        return Ok(None);
    }
    match wrong_part(case)? {
        Some(proof) => Ok(Some(proof)),
        None => Err(nothing("the trees differ, and their parts do not")),
    }
}

fn nothing(why: &str) -> SearchError {
    SearchError::Unprovable(why.to_owned())
}

/// What the tree alone, and the one before it, show.
fn malformed(posted: &Shown, last: Option<&Shown>) -> Option<PayoutProof> {
    let rows = posted.leaves();
    if let Some(place) = rows.iter().position(|row| row.leaf().is_none()) {
        return posted.prove_leaf_form(place);
    }
    let leaves: Vec<PayoutLeaf> = rows.iter().filter_map(Row::leaf).collect();
    if let Some(place) = leaves.windows(2).position(|pair| pair[0].account >= pair[1].account) {
        return posted.prove_leaf_order(place);
    }
    for (place, leaf) in leaves.iter().enumerate() {
        let parts = posted.parts(place);
        if let Some(wrong) = parts.iter().position(|row| row.part().is_none()) {
            return posted.prove_part_form(place, wrong);
        }
        let parts: Vec<PartLeaf> = parts.iter().filter_map(Row::part).collect();
        if let Some(wrong) = parts.windows(2).position(|pair| pair[0].place() >= pair[1].place()) {
            return posted.prove_part_order(place, wrong);
        }
        let sum = Amount::sum(parts.iter().map(|part| part.amount)).and_then(|sum| sum.plus(leaf.previous));
        if sum != Ok(leaf.cumulative) {
            return posted.prove_sum(place);
        }
        let before = last.and_then(|last| last.line(leaf.account)).map_or(Amount::ZERO, |(_, before)| before.cumulative);
        if before != leaf.previous {
            return posted.prove_previous(place, last);
        }
    }
    let last = last?;
    let is_dropped = |row: &Row| row.leaf().is_some_and(|leaf| posted.line(leaf.account).is_none());
    last.leaves().iter().position(is_dropped).and_then(|place| posted.prove_dropped(place, last))
}

/// Parts of a well-formed tree with their accounts, by place in the tree.
fn parts_of(tree: &Shown) -> impl Iterator<Item = (usize, usize, Address, PartLeaf)> {
    let leaves = tree.leaves().iter().enumerate().filter_map(|(place, row)| Some((place, row.leaf()?.account)));
    leaves.flat_map(|(leaf, account)| {
        let parts = tree.parts(leaf).iter().enumerate();
        parts.filter_map(move |(place, row)| Some((leaf, place, account, row.part()?)))
    })
}

/// A part that stands where it should not, or one that is missing.
fn wrong_part(case: &Case<'_>) -> Result<Option<PayoutProof>, SearchError> {
    let expected: BTreeMap<_, PartLeaf> = parts_of(case.expected).map(|(_, _, account, part)| ((account, part.place()), part)).collect();
    let mut doubt = None;
    for (leaf, place, account, part) in parts_of(case.posted) {
        if expected.get(&(account, part.place())) == Some(&part) {
            continue;
        }
        match prove_wrong(case, (leaf, place), account, &part) {
            Ok(Some(proof)) => return Ok(Some(proof)),
            Ok(None) => doubt = Some(nothing("a part's proof could not be opened")),
            Err(error) => doubt = Some(error),
        }
    }
    // What another part shows is enough; only where none does is the doubt the answer.
    match (missing_part(case), doubt) {
        (Ok(Some(proof)), _) => Ok(Some(proof)),
        (_, Some(error)) => Err(error),
        (Ok(None), None) => Ok(None),
        (Err(error), None) => Err(error),
    }
}

/// The proof that a part of `account` at its place among the posted ones is not what the receipts give.
pub(super) fn prove_wrong(
    case: &Case<'_>,
    (leaf, place): (usize, usize),
    account: Address,
    part: &PartLeaf,
) -> Result<Option<PayoutProof>, SearchError> {
    if is_refund(part) { wrong_refund(case, leaf, place, account, part) } else { wrong_share(case, leaf, place, part) }
}

/// A node's root of an epoch, as its event gives it.
pub fn root_of(state: &State, epoch: u64, node: Address) -> Option<(NodeRoot, u64)> {
    let root = state.epoch(epoch)?.roots.get(&node)?;
    Some((NodeRoot { node, epoch, receipts: root.receipts, count: root.count, fees: root.fees }, root.block))
}

/// The tree of a node's receipts; nothing if their fees do not sum.
pub fn tree_of(bodies: &[Bodies]) -> Option<SumTree> {
    let leaf = |body: &Bodies| receipt_leaf(types::merkle::keccak(&[&body.receipt]), fee_of(&body.receipt));
    SumTree::new(bodies.iter().map(leaf).collect()).ok()
}

/// The receipt at a place, opened; why not, if it is not at hand.
fn opened_at<'a>(case: &Case<'a>, root: &NodeRoot, index: u64) -> Result<(&'a Bodies, SumOpening), SearchError> {
    let (epoch, node) = (root.epoch, root.node);
    let missing = || SearchError::NoReceipt { epoch, node, index };
    let bodies = case.receipts.get(&(epoch, node)).ok_or_else(missing)?;
    let body = usize::try_from(index).ok().and_then(|index| bodies.get(index)).ok_or_else(missing)?;
    let opening = tree_of(bodies).and_then(|tree| tree.open(index)).ok_or_else(|| nothing("a receipt stands beyond its tree"))?;
    Ok((body, opening))
}

const fn billed<'a>(root: &'a NodeRoot, block: u64, opening: &'a SumOpening, body: &'a Bodies) -> Billed<'a> {
    Billed { root, block, opening, receipt: body.receipt.as_slice(), quote: body.quote.as_slice(), manifest: body.manifest.as_slice() }
}

fn wrong_share(case: &Case<'_>, leaf: usize, place: usize, part: &PartLeaf) -> Result<Option<PayoutProof>, SearchError> {
    let (epoch, node, index) = (case.epoch, part.node, part.receipt);
    let Some((root, block)) = root_of(case.state, epoch, node) else { return Ok(case.posted.prove_part(leaf, place, Opened::Nothing)) };
    if index >= root.count || is_withheld(case.state, epoch, node) {
        return Ok(case.posted.prove_part(leaf, place, Opened::Root(&root, block)));
    }
    let (body, opening) = opened_at(case, &root, index)?;
    let billed = billed(&root, block, &opening, body);
    // What the contract takes for paid: collected when W1 ended, or at all where it does not know that any more.
    let is_unpaid = match read_receipt(&body.receipt, node) {
        None => true,
        Some(receipt) => {
            let collected = case.state.collected_by(receipt.lane, epoch);
            let collected = collected.unwrap_or_else(|| case.state.lane_collected(receipt.lane));
            // What bills nothing may name a quote that nobody has.
            !receipt.reason.is_billable() || is_out(case.state, epoch, &receipt) || collected < receipt.cumulative_after
        }
    };
    let opened = if is_unpaid { Opened::Receipt(&billed) } else { Opened::All(&billed) };
    if !is_unpaid && is_late(case, body, node) {
        return Err(nothing("a part is of a receipt that was collected too late, and its lane has collected after a later window since"));
    }
    Ok(case.posted.prove_part(leaf, place, opened))
}

/// Whether a receipt is one that the tree must leave out and that the contract lets stand: collected, not in time, and it does not know that any more.
fn is_late(case: &Case<'_>, body: &Bodies, node: Address) -> bool {
    let receipt = read_receipt(&body.receipt, node);
    receipt.is_some_and(|receipt| !case.state.is_paid(case.epoch, node, receipt.hash(), receipt.lane, receipt.cumulative_after))
}

/// Whether something came about before W1 of an epoch ended.
fn is_in_time(state: &State, epoch: u64, at: Option<u64>) -> bool {
    let until = state.epoch(epoch).map_or(0, |epoch| epoch.payout_from);
    at.is_some_and(|at| at < until)
}

fn is_withheld(state: &State, epoch: u64, node: Address) -> bool {
    is_in_time(state, epoch, state.withheld_at(epoch, node))
}

fn is_out(state: &State, epoch: u64, receipt: &Receipt) -> bool {
    is_in_time(state, epoch, state.voided_at(receipt.hash())) || is_withheld(state, epoch, receipt.node)
}

/// Up to where a receipt under a root speaks for what a lane has collected; nothing if it does not bound the lane's refund.
fn bound(case: &Case<'_>, (epoch, node): (u64, Address), body: &Bodies, lane: Hash32, collected: Amount) -> Option<Amount> {
    let receipt = read_receipt(&body.receipt, node)?;
    let is_bound = receipt.bills() && receipt.lane == lane && receipt.cumulative_after <= collected && !is_out(case.state, epoch, &receipt);
    is_bound.then_some(receipt.cumulative_after)
}

fn wrong_refund(case: &Case<'_>, leaf: usize, place: usize, account: Address, part: &PartLeaf) -> Result<Option<PayoutProof>, SearchError> {
    let Some(RefundOf { lane, witness }) = part.refund else { return Ok(None) };
    let against = |against: Against<'_>| Ok(case.posted.prove_refund(leaf, place, against));
    let collected = case.state.lane_collected(lane);
    let due = case.state.refund(lane).filter(|due| (due.epoch, due.payer, due.node) == (case.epoch, account, part.node));
    // Notes and slashes gave their part back already.
    let Some(left) = due.and_then(|due| collected.0.checked_sub(due.given_back.0)).filter(|left| part.amount.0 <= *left) else {
        return against(Against::Itself);
    };
    let (mut doubt, mut named) = (None, None);
    if witness == Witness::NONE {
        if part.amount.0 != left {
            return against(Against::NoWitness);
        }
    } else {
        let root = root_of(case.state, witness.epoch, witness.node).filter(|_| witness.epoch <= case.epoch);
        let Some((root, block)) = root else { return against(Against::NoRoot) };
        if witness.index >= root.count || is_withheld(case.state, witness.epoch, witness.node) {
            return against(Against::NoPlace(&root, block));
        }
        match opened_at(case, &root, witness.index) {
            Ok((body, opening)) => {
                let gives = bound(case, (witness.epoch, witness.node), body, lane, collected).map(|spoken| left.saturating_sub(spoken.0));
                if gives != Some(part.amount.0) {
                    return against(Against::Witness(&billed(&root, block, &opening, body)));
                }
                named = Some((root, block, opening, body));
            }
            Err(error) => doubt = Some(error),
        }
    }
    for ((epoch, node), bodies) in case.receipts.iter().filter(|((epoch, _), _)| *epoch <= case.epoch) {
        let is_too_high = |body: &Bodies| {
            bound(case, (*epoch, *node), body, lane, collected).is_some_and(|spoken| part.amount.0 > left.saturating_sub(spoken.0))
        };
        let Some((index, body)) = (0_u64..).zip(bodies).find(|(_, body)| is_too_high(body)) else { continue };
        let opening = tree_of(bodies).and_then(|tree| tree.open(index));
        let Some(((root, block), opening)) = root_of(case.state, *epoch, *node).zip(opening) else { continue };
        return against(Against::Higher(&billed(&root, block, &opening, body)));
    }
    if let Some(doubt) = doubt {
        return Err(doubt);
    }
    let best = best_witness(case, lane, collected).filter(|(place, _)| *place != witness);
    let (place, body) = best.ok_or_else(|| nothing("a refund is the one that the receipts give"))?;
    let opening = tree_of(&case.receipts[&(place.epoch, place.node)]).and_then(|tree| tree.open(place.index));
    let Some(((root, block), opening)) = root_of(case.state, place.epoch, place.node).zip(opening) else {
        return Err(nothing("the receipt that a refund should name does not stand under its root"));
    };
    let named = named.as_ref().map(|(root, block, opening, body)| billed(root, *block, opening, body));
    against(Against::Better(named.as_ref(), &billed(&root, block, &opening, body)))
}

/// The receipt that a lane's refund is to name: the one that reaches furthest, of several the first.
fn best_witness<'a>(case: &Case<'a>, lane: Hash32, collected: Amount) -> Option<(Witness, &'a Bodies)> {
    let mut best: Option<(Amount, Witness, &Bodies)> = None;
    for ((epoch, node), bodies) in case.receipts.iter().filter(|((epoch, _), _)| *epoch <= case.epoch) {
        for (index, body) in (0_u64..).zip(bodies) {
            let reach = bound(case, (*epoch, *node), body, lane, collected).unwrap_or_default();
            // Receipts come by epoch, node and place, so that the first of several stays.
            if reach > best.map_or(Amount::ZERO, |best| best.0) {
                best = Some((reach, Witness { epoch: *epoch, node: *node, index }, body));
            }
        }
    }
    best.map(|(_, place, body)| (place, body))
}

fn missing_part(case: &Case<'_>) -> Result<Option<PayoutProof>, SearchError> {
    let posted: BTreeMap<_, ()> = parts_of(case.posted).map(|(_, _, account, part)| ((account, part.place()), ())).collect();
    let mut doubt = None;
    for (_, _, account, part) in parts_of(case.expected).filter(|(_, _, account, part)| !posted.contains_key(&(*account, part.place()))) {
        match prove_missing(case, account, &part) {
            Ok(Some(proof)) => return Ok(Some(proof)),
            Ok(None) => {}
            Err(error) => doubt = Some(error),
        }
    }
    doubt.map_or(Ok(None), Err)
}

/// The proof that a part which the receipts give is not among those that `account` has in the posted tree.
pub(super) fn prove_missing(case: &Case<'_>, account: Address, part: &PartLeaf) -> Result<Option<PayoutProof>, SearchError> {
    if is_refund(part) {
        let left_out = || nothing("a refund is left out, and its absence could not be opened");
        return case.posted.prove_left_out(account, part).ok_or_else(left_out).map(Some);
    }
    let Some((root, block)) = root_of(case.state, case.epoch, part.node) else { return Ok(None) };
    let (body, opening) = opened_at(case, &root, part.receipt)?;
    let Some(receipt) = read_receipt(&body.receipt, part.node) else { return Ok(None) };
    if case.state.collected_by(receipt.lane, case.epoch).is_none() {
        return Err(nothing("the missing part's lane has collected after a later window since"));
    }
    Ok(case.posted.prove_missing(account, part, &billed(&root, block, &opening, body)))
}
