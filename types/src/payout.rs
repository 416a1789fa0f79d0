//! Leaves of the payout tree and of each payee's parts (P6).

use serde::{Deserialize, Serialize};

use crate::{
    amount::{Amount, AmountError},
    encoding::Writer,
    id::{Address, Hash32},
    merkle::{SumTree, Summed, sum_root},
    split::Part,
};

/// Receipt index of a refund: it stands after every receipt's parts of its node.
pub const REFUND_INDEX: u64 = u64::MAX;

/// One wei-exact part: of which receipt, in which role, how much; or a lane's refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartLeaf {
    /// Node that signed the receipt.
    pub node: Address,
    /// Place in that node's epoch tree.
    pub receipt: u64,
    /// Part code, see [`Part::code`].
    pub part: u32,
    /// How much; never zero.
    pub amount: Amount,
    /// The lane that a refund is of; nothing in every other part.
    pub lane: Option<Hash32>,
}

impl PartLeaf {
    /// The part `part` of receipt number `receipt` of `node`.
    pub fn new(node: Address, receipt: u64, part: Part, amount: Amount) -> Self {
        Self { node, receipt, part: part.code(), amount, lane: None }
    }

    /// The refund of what `lane` to `node` collected above its receipts.
    pub fn refund(node: Address, lane: Hash32, amount: Amount) -> Self {
        Self { node, receipt: REFUND_INDEX, part: Part::Refund.code(), amount, lane: Some(lane) }
    }

    /// Its place among the parts of one payee: parts ascend by it.
    pub const fn place(&self) -> (Address, u64, u32, Option<Hash32>) {
        (self.node, self.receipt, self.part, self.lane)
    }

    /// Canonical bytes: 48, of a refund 80.
    pub fn encode(&self) -> Vec<u8> {
        let (bytes, length) = self.packed();
        bytes[..length].to_vec()
    }

    /// Its place in the parts tree: an epoch of a million answers has ten million of these, so nothing is allocated.
    pub fn summed(&self) -> Summed {
        let (bytes, length) = self.packed();
        Summed::leaf(&bytes[..length], self.amount)
    }

    fn packed(&self) -> ([u8; 80], usize) {
        let mut bytes = [0; 80];
        bytes[..20].copy_from_slice(&self.node.0);
        bytes[20..28].copy_from_slice(&self.receipt.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.part.to_be_bytes());
        bytes[32..48].copy_from_slice(&self.amount.0.to_be_bytes());
        let Some(lane) = self.lane else { return (bytes, 48) };
        bytes[48..].copy_from_slice(&lane.0);
        (bytes, 80)
    }
}

/// The sum tree over ascending parts.
///
/// # Errors
/// [`AmountError::Overflow`].
pub fn parts_tree(parts: &[PartLeaf]) -> Result<SumTree, AmountError> {
    SumTree::new(parts.iter().map(PartLeaf::summed).collect())
}

/// Root and total of that tree, without keeping it.
///
/// # Errors
/// [`AmountError::Overflow`].
pub fn parts_root(parts: &[PartLeaf]) -> Result<(Hash32, Amount), AmountError> {
    sum_root(parts.iter().map(PartLeaf::summed).collect())
}

/// One account's line of the payout tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayoutLeaf {
    /// The payee.
    pub account: Address,
    /// Cumulative amount in the last final tree.
    pub previous: Amount,
    /// Cumulative amount now.
    pub cumulative: Amount,
    /// Root of the parts that make the difference.
    pub parts: Hash32,
}

impl PayoutLeaf {
    /// Canonical bytes: 84.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.account).amount(self.previous).amount(self.cumulative).hash(self.parts).finish()
    }

    /// Its place in the sum tree: the amount is the cumulative one.
    pub fn summed(&self) -> Summed {
        Summed::leaf(&self.encode(), self.cumulative)
    }
}

/// The payout sum tree over leaves ascending by account.
///
/// # Errors
/// [`AmountError::Overflow`].
pub fn payout_tree(leaves: &[PayoutLeaf]) -> Result<SumTree, AmountError> {
    SumTree::new(leaves.iter().map(PayoutLeaf::summed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refund_is_80_bytes_and_stands_behind_every_receipt_of_its_node() {
        let node = Address([3; 20]);
        let refund = PartLeaf::refund(node, Hash32([9; 32]), Amount(5));
        let part = PartLeaf::new(node, u64::MAX - 1, Part::Span(u16::MAX), Amount(5));
        assert_eq!((refund.encode().len(), part.encode().len()), (80, 48));
        for parts in [&[][..], &[part], &[part, refund], &[part, refund, PartLeaf::refund(node, Hash32([10; 32]), Amount(1))]] {
            let tree = parts_tree(parts).unwrap();
            assert_eq!(parts_root(parts), Ok((tree.root(), tree.total())));
        }
        assert!(part.place() < refund.place() && refund.place() < PartLeaf::refund(node, Hash32([10; 32]), Amount(1)).place());
    }
}
