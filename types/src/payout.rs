//! Leaves of the payout tree and of each payee's parts (P6).

use serde::{Deserialize, Serialize};

use crate::{
    amount::{Amount, AmountError},
    encoding::Writer,
    id::{Address, Hash32},
    merkle::{SumTree, Summed},
    split::Part,
};

/// One wei-exact part: of which receipt, in which role, how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartLeaf {
    /// Node that signed the receipt.
    pub node: Address,
    /// Place in that node's epoch tree.
    pub receipt: u64,
    /// Part code, see [`Part::code`].
    pub part: u32,
    /// How much.
    pub amount: Amount,
}

impl PartLeaf {
    /// The part `part` of receipt number `receipt` of `node`.
    pub fn new(node: Address, receipt: u64, part: Part, amount: Amount) -> Self {
        Self { node, receipt, part: part.code(), amount }
    }

    /// Canonical bytes: 48.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.node).u64(self.receipt).u32(self.part).amount(self.amount).finish()
    }
}

/// The sum tree over ascending parts.
///
/// # Errors
/// [`AmountError::Overflow`].
pub fn parts_tree(parts: &[PartLeaf]) -> Result<SumTree, AmountError> {
    SumTree::new(parts.iter().map(|part| Summed::leaf(&part.encode(), part.amount)).collect())
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
