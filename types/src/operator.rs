//! What operators sign for the chain: which key is theirs, and what they claim for an epoch (P4).

use serde::{Deserialize, Serialize};

use crate::{
    amount::Amount,
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, Hash32, NodeId},
    merkle::{SumOpening, Summed, keccak},
};

/// Binds a settlement account to a node key; a higher incarnation fences older copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeBinding {
    /// The account.
    pub account: Address,
    /// The node.
    pub node: NodeId,
    /// Rises with each new copy of the identity.
    pub incarnation: u64,
}

impl Document for NodeBinding {
    const NAME: &'static str = "NodeBinding";
    const CONTRACT: Contract = Contract::Stake;

    fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.account).node(self.node).u64(self.incarnation).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let binding = Self { account: r.address("account")?, node: r.node("node")?, incarnation: r.u64("incarnation")? };
        r.finish().map(|()| binding)
    }
}

/// Most receipts under one root: `Settlement` refuses a root of more, because everybody who needs its receipts fetches, or asks for, each of them (near
/// 1.5 KB), and its node must be able to show all of them on the chain within a challenge's time: at 82,614 gas each 2^16 fill 181 blocks of 30
/// million gas, six minutes of two-second blocks; 2^20 would fill every block for 96 minutes. Those beyond wait for the next epoch.
pub const RECEIPTS_MAX: u64 = 1 << 16;

/// Most bytes of what a receipt names as its quote, or as its manifest, to count as shown: it may name other bytes than those of a quote (154) or a manifest
/// (1,465 at most), and a proof about its payout must carry them in one transaction.
pub const NAMED_BYTES_MAX: usize = 4_096;

/// A node's receipts of one epoch, in one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRoot {
    /// The node's account.
    pub node: Address,
    /// The epoch.
    pub epoch: u64,
    /// Root of the sum tree over receipt hashes in the node's order, each with its receipt's fee.
    pub receipts: Hash32,
    /// How many; [`RECEIPTS_MAX`] at most, or no contract takes it.
    pub count: u64,
    /// Sum of their fees.
    pub fees: Amount,
}

/// A receipt's leaf in its node's tree: its hash, and its fee as the amount.
pub fn receipt_leaf(receipt: Hash32, fee: Amount) -> Summed {
    Summed::leaf(&receipt.0, fee)
}

impl NodeRoot {
    /// What `Settlement` keeps of it when it is submitted in block `block`: keccak(body || block u64).
    pub fn slot(&self, block: u64) -> Hash32 {
        keccak(&[&self.encode(), &block.to_be_bytes()])
    }

    /// Whether a receipt with this hash and fee stands at the opening's place. Count and sum must be those of the tree: a node that lies about either can
    /// open no receipt at all, so that what it says of a fee binds it.
    pub fn holds(&self, receipt: Hash32, fee: Amount, opening: &SumOpening) -> bool {
        opening.leaves == self.count && opening.root(receipt_leaf(receipt, fee)) == Some((self.receipts, self.fees))
    }
}

impl Document for NodeRoot {
    const NAME: &'static str = "NodeRoot";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.node).u64(self.epoch).hash(self.receipts).u64(self.count).amount(self.fees).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let root = Self {
            node: r.address("node")?,
            epoch: r.u64("epoch")?,
            receipts: r.hash("receipts")?,
            count: r.u64("count")?,
            fees: r.amount("fees")?,
        };
        r.finish().map(|()| root)
    }
}
