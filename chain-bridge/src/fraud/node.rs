//! Faults that two receipts, or a receipt and its place, show: F3, the block of F5, the lane of F6. The same tests as `FraudVerifier`'s.

use types::{encoding::Document, receipt::Receipt, voucher::Lane};

use super::pack::Place;

/// Whether no honest node signs both: other bodies for one attempt; or, of receipts that bill something, output tokens of one request or wei of one
/// lane billed twice.
pub fn contradict(a: &Receipt, b: &Receipt) -> bool {
    if a.node != b.node || a.hash() == b.hash() {
        return false;
    }
    let are_billable = a.reason.is_billable() && b.reason.is_billable();
    let is_one_request = a.request == b.request;
    (is_one_request && (a.attempt == b.attempt || (are_billable && share_tokens(a, b))))
        || (are_billable && a.lane == b.lane && share_wei(a, b))
}

fn share_tokens(a: &Receipt, b: &Receipt) -> bool {
    let end = |receipt: &Receipt| u64::from(receipt.first_token) + u64::from(receipt.tokens_out);
    u64::from(a.first_token.max(b.first_token)) < end(a).min(end(b))
}

/// A lane's money is one line of wei: a receipt speaks for the last `fee` of them before its cumulative-after. One whose fee is above that, itself a
/// fault, reaches below the line's beginning.
fn share_wei(a: &Receipt, b: &Receipt) -> bool {
    let reaches =
        |from: &Receipt, to: &Receipt| from.cumulative_after.0.checked_add(to.fee.0).is_none_or(|end| end > to.cumulative_after.0);
    a.fee.0 > 0 && b.fee.0 > 0 && reaches(a, b) && reaches(b, a)
}

/// Whether one receipt stands at two places: paid twice.
pub fn is_repeat(receipt: &Receipt, first: &Place, second: &Place) -> bool {
    let leads = |place: &Place| place.root.node == receipt.node && place.root.holds(receipt.hash(), receipt.fee, &place.opening);
    leads(first) && leads(second) && (first.root.epoch, first.opening.index) != (second.root.epoch, second.opening.index)
}

/// Whether a lane promises what a receipt takes from it: the same payer and node, not expired at the named block, its cap not passed. A receipt that
/// bills nothing takes nothing.
pub fn is_promised(receipt: &Receipt, lane: &Lane) -> bool {
    !receipt.reason.is_billable()
        || ((lane.payer, lane.node) == (receipt.client, receipt.node)
            && receipt.block.number <= lane.expiry
            && receipt.cumulative_after <= lane.cap)
}

/// How the named block of a receipt misses its node root's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockFault {
    /// It comes after: nobody can have known it. Void, and slashed.
    Ahead,
    /// It lies too far behind: void, and no slash, since when a root is included is not the node's to choose.
    TooOld,
}

/// Whether the block a receipt names fits the one its node root was submitted in.
pub fn block_fault(receipt: &Receipt, place: &Place, grace_blocks: u64, max_age_blocks: u64) -> Option<BlockFault> {
    let named = receipt.block.number;
    if named.saturating_add(max_age_blocks) < place.block {
        return Some(BlockFault::TooOld);
    }
    (named > place.block.saturating_add(grace_blocks)).then_some(BlockFault::Ahead)
}
