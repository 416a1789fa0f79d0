//! The suite's events as plain data, each with its place on the chain.

use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32, NodeId},
    manifest::AssetKind,
    split::SplitTable,
    time::BlockRef,
};

/// An event and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its block.
    pub block: BlockRef,
    /// Place among the block's logs.
    pub log: u32,
    /// Its transaction.
    pub transaction: Hash32,
    /// What happened.
    pub event: Event,
}

/// What happened. Amounts are wei; times are seconds since 1970 by the sequencer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as in the contracts, whose NatSpec explains them")]
pub enum Event {
    /// An asset was registered.
    Registered { asset: AssetId, kind: AssetKind, owner: Address, uri: String },
    /// An asset has a new owner (also the first).
    Transferred { asset: AssetId, to: Address },
    /// A version was published.
    Published {
        version: AssetVersion,
        content: BlobId,
        parents: Vec<AssetVersion>,
        split: SplitTable,
        datanets: Vec<AssetVersion>,
        licence: Hash32,
        parent_share_min: u16,
    },
    /// A version was frozen.
    Frozen { version: AssetVersion },
    /// A Datanet's owner named a reviewer, or no longer.
    ReviewerSet { datanet: AssetId, owner: Address, reviewer: Address, is_allowed: bool },
    /// A contributor committed to a text nobody has seen.
    Committed { commitment: Hash32, contributor: Address, block: u64, ordinal: u32 },
    /// A contribution was accepted; block and ordinal are its commitment's.
    Accepted {
        datanet: AssetId,
        number: u64,
        contributor: Address,
        text_root: Hash32,
        text_bytes: u64,
        documents: u32,
        block: u64,
        ordinal: u32,
        licence: Hash32,
        object: BlobId,
        report: Hash32,
    },
    /// An index root was posted.
    IndexPosted { version: AssetVersion, root: Hash32, parameters: u32, indexer: Address, window_ends: u64 },
    /// Attribution parameters were approved.
    ParametersApproved { parameters: u32, hash: Hash32 },
    /// The least data row changed.
    DataRowMinSet { bps: u16 },
    /// An operator registered or restarted its node.
    NodeRegistered { account: Address, node: NodeId, incarnation: u64, payout: Address, stake: Amount },
    /// An operator's stake changed.
    StakeChanged { account: Address, active: Amount, unbonding: Amount, unbonded_at: u64 },
    /// Stake was taken.
    Slashed {
        account: Address,
        amount: Amount,
        victim: Address,
        victim_amount: Amount,
        reporter: Address,
        reporter_amount: Amount,
        burned: Amount,
        insured: Amount,
        fault: Hash32,
    },
    /// Money came into the escrow.
    Deposited { payer: Address, amount: Amount },
    /// A payer asked to withdraw.
    WithdrawRequested { payer: Address, amount: Amount, thawed_at: u64 },
    /// A payer withdrew.
    Withdrawn { payer: Address, amount: Amount },
    /// A voucher was collected.
    Collected { lane: Hash32, payer: Address, node: Address, amount: Amount, cumulative: Amount },
    /// An epoch opened.
    EpochOpened { epoch: u64, opened_at: u64, accepts_until: u64, payout_from: u64 },
    /// A node submitted its receipts root.
    NodeRootSubmitted { epoch: u64, node: Address, receipts: Hash32, count: u64, fees: Amount },
    /// A payout tree was posted.
    PayoutPosted { epoch: u64, root: Hash32, total: Amount, previous: Hash32, poster: Address, final_at: u64 },
    /// An account claimed.
    Claimed { account: Address, epoch: u64, amount: Amount, cumulative: Amount },
    /// A false span was proven.
    FalseSpanProven { receipt: Hash32, node: Address, span: u16, amount: Amount, fault: Hash32, reporter: Address },
}
