//! Leaves of the payout tree and of each payee's parts (P6).

use serde::{Deserialize, Serialize};

use crate::{
    amount::{Amount, AmountError},
    encoding::{DecodeError, Reader, Writer},
    id::{Address, Hash32},
    merkle::{SumTree, Summed, sum_root},
    split::Part,
};

/// Receipt index of a refund: it stands after every receipt's parts of its node.
pub const REFUND_INDEX: u64 = u64::MAX;

/// Bytes of a part of a receipt.
const PART_BYTES: usize = 48;
/// Bytes of a refund's part: then its lane and its witness.
const REFUND_BYTES: usize = 116;

/// Where the receipt stands that speaks for most of a lane's money: under which node's root of which epoch, at which place. Ordered by epoch first:
/// of several that reach equally far the smallest is named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// The epoch.
    pub epoch: u64,
    /// The node whose root it is.
    pub node: Address,
    /// Its place under that root.
    pub index: u64,
}

impl Witness {
    /// No receipt speaks for any of the money.
    pub const NONE: Self = Self { epoch: 0, node: Address::ZERO, index: 0 };

    /// Canonical bytes: 36, node first.
    pub fn encode(&self) -> [u8; 36] {
        let mut bytes = [0; 36];
        bytes[..20].copy_from_slice(&self.node.0);
        bytes[20..28].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[28..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }
}

/// What a refund's part says beyond a receipt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundOf {
    /// The lane.
    pub lane: Hash32,
    /// The receipt that the refund begins behind; [`Witness::NONE`] if the whole lane goes back.
    pub witness: Witness,
}

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
    /// How much; zero only in a refund.
    pub amount: Amount,
    /// What a refund is of; nothing in every other part.
    pub refund: Option<RefundOf>,
}

impl PartLeaf {
    /// The part `part` of receipt number `receipt` of `node`.
    pub fn new(node: Address, receipt: u64, part: Part, amount: Amount) -> Self {
        Self { node, receipt, part: part.code(), amount, refund: None }
    }

    /// The refund of what `lane` to `node` collected above the receipt at `witness`. One that is due has its part even when nothing is left.
    pub fn refund(node: Address, lane: Hash32, amount: Amount, witness: Witness) -> Self {
        Self { node, receipt: REFUND_INDEX, part: Part::Refund.code(), amount, refund: Some(RefundOf { lane, witness }) }
    }

    /// The lane of a refund.
    pub fn lane(&self) -> Option<Hash32> {
        self.refund.map(|refund| refund.lane)
    }

    /// Its place among the parts of one payee: parts ascend by it.
    pub fn place(&self) -> (Address, u64, u32, Option<Hash32>) {
        (self.node, self.receipt, self.part, self.lane())
    }

    /// Canonical bytes: 48, of a refund 116.
    pub fn encode(&self) -> Vec<u8> {
        let (bytes, length) = self.packed();
        bytes[..length].to_vec()
    }

    /// Reads canonical bytes. Their amount may be zero in any part: which one may hold none is the verifier's to say.
    ///
    /// # Errors
    /// [`DecodeError`] for another length. Whether the codes of a refund come with a refund's bytes is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (node, receipt, part) = (r.address("node")?, r.u64("receipt index")?, r.u32("part")?);
        let amount = r.amount("amount")?;
        let refund = if r.left() == 0 {
            None
        } else {
            let lane = r.hash("lane")?;
            let (node, epoch, index) = (r.address("witness node")?, r.u64("witness epoch")?, r.u64("witness index")?);
            Some(RefundOf { lane, witness: Witness { epoch, node, index } })
        };
        r.finish().map(|()| Self { node, receipt, part, amount, refund })
    }

    /// Its place in the parts tree: an epoch of a million answers has ten million of these, so nothing is allocated.
    pub fn summed(&self) -> Summed {
        let (bytes, length) = self.packed();
        Summed::leaf(&bytes[..length], self.amount)
    }

    fn packed(&self) -> ([u8; REFUND_BYTES], usize) {
        let mut bytes = [0; REFUND_BYTES];
        bytes[..20].copy_from_slice(&self.node.0);
        bytes[20..28].copy_from_slice(&self.receipt.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.part.to_be_bytes());
        bytes[32..PART_BYTES].copy_from_slice(&self.amount.0.to_be_bytes());
        let Some(refund) = self.refund else { return (bytes, PART_BYTES) };
        bytes[PART_BYTES..80].copy_from_slice(&refund.lane.0);
        bytes[80..].copy_from_slice(&refund.witness.encode());
        (bytes, REFUND_BYTES)
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
    fn a_refund_is_116_bytes_and_stands_behind_every_receipt_of_its_node() {
        let node = Address([3; 20]);
        let witness = Witness { epoch: 1, node: Address([4; 20]), index: 2 };
        let refund = |lane, amount| PartLeaf::refund(node, Hash32([lane; 32]), Amount(amount), witness);
        let part = PartLeaf::new(node, u64::MAX - 1, Part::Span(u16::MAX), Amount(5));
        assert_eq!((refund(9, 5).encode().len(), part.encode().len()), (116, 48));
        for parts in [&[][..], &[part], &[part, refund(9, 5)], &[part, refund(9, 0), refund(10, 1)]] {
            let tree = parts_tree(parts).unwrap();
            assert_eq!(parts_root(parts), Ok((tree.root(), tree.total())));
            assert!(parts.iter().all(|part| PartLeaf::decode(&part.encode()) == Ok(*part)));
        }
        assert!(part.place() < refund(9, 5).place() && refund(9, 5).place() < refund(10, 1).place());
    }

    #[test]
    fn a_part_has_one_of_two_lengths() {
        let refund = PartLeaf::refund(Address([3; 20]), Hash32([9; 32]), Amount::ZERO, Witness::NONE).encode();
        for length in 0..=refund.len() {
            assert_eq!(PartLeaf::decode(&refund[..length]).is_ok(), [PART_BYTES, REFUND_BYTES].contains(&length), "{length}");
        }
        assert!(PartLeaf::decode(&[refund.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn of_two_witnesses_the_earlier_epoch_is_smaller_whatever_its_node() {
        let witness = |epoch, node, index| Witness { epoch, node: Address([node; 20]), index };
        assert!(witness(1, 9, 9) < witness(2, 1, 1) && witness(1, 1, 9) < witness(1, 2, 0) && witness(1, 1, 1) < witness(1, 1, 2));
        assert_eq!(Witness::NONE.encode(), [0; 36]);
    }
}
