//! What the books say of assets, operators, deposits and epochs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    contribution::Priority,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32, NodeId},
    manifest::AssetKind,
    split::SplitTable,
};

use crate::registry::money::Overturned;

/// A registered asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// Number.
    pub id: AssetId,
    /// Kind.
    pub kind: AssetKind,
    /// Where its card is.
    pub uri: String,
    /// Owners, each from a block on.
    pub owners: Vec<(u64, Address)>,
    /// Published versions; they count from 1.
    pub versions: u32,
}

impl Asset {
    /// Owner now.
    pub fn owner(&self) -> Address {
        self.owners.last().map_or(Address::ZERO, |(_, owner)| *owner)
    }

    /// Owner at the end of a block; zero before registration.
    pub fn owner_at(&self, block: u64) -> Address {
        self.owners.iter().rev().find(|(from, _)| *from <= block).map_or(Address::ZERO, |(_, owner)| *owner)
    }
}

/// A published version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Content hash.
    pub content: BlobId,
    /// Base, and adapter of an agent.
    pub parents: Vec<AssetVersion>,
    /// Split table.
    pub split: SplitTable,
    /// Declared Datanets.
    pub datanets: Vec<AssetVersion>,
    /// keccak of the SPDX licence expression.
    pub licence: Hash32,
    /// Least row a child must give this version's owner, in basis points.
    pub parent_share_min: u16,
    /// Block and log index of publication.
    pub published: (u64, u32),
    /// Block of the freeze, if frozen.
    pub frozen: Option<u64>,
    /// The version that took its place, if one did.
    pub superseded_by: Option<u32>,
}

/// An accepted contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The Datanet.
    pub datanet: AssetId,
    /// Place in the order of acceptance.
    pub number: u64,
    /// Who is paid.
    pub contributor: Address,
    /// Root of its text.
    pub text_root: Hash32,
    /// Bytes of its text.
    pub text_bytes: u64,
    /// Documents.
    pub documents: u32,
    /// Priority of its first document.
    pub priority: Priority,
    /// Licence.
    pub licence: Hash32,
    /// Manifest of its stored fragments.
    pub object: BlobId,
    /// Digest of the gate report.
    pub report: Hash32,
    /// Block and log index of acceptance.
    pub accepted: (u64, u32),
}

/// A posted index root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRoot {
    /// The root.
    pub root: Hash32,
    /// Parameters that answers are attributed by.
    pub parameters: u32,
    /// Who posted it.
    pub indexer: Address,
    /// When challenges end.
    pub window_ends: u64,
    /// Block it was posted in: an answer that names an earlier one cannot use it.
    pub block: u64,
}

/// That an index root was proven wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuted {
    /// The root.
    pub root: Hash32,
    /// Which fault (P7).
    pub mode: u8,
    /// Who proved it.
    pub reporter: Address,
    /// In which block.
    pub block: u64,
}

/// An operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Settlement account.
    pub account: Address,
    /// Node key.
    pub node: NodeId,
    /// Incarnation.
    pub incarnation: u64,
    /// Payout account.
    pub payout: Address,
    /// Active stake.
    pub active: Amount,
    /// Stake that is being withdrawn; slashable still.
    pub unbonding: Amount,
    /// When the latter may be withdrawn.
    pub unbonded_at: u64,
    /// Role bits: see [`crate::registry::money`].
    pub roles: u8,
}

/// A payer's deposit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escrow {
    /// All of it.
    pub balance: Amount,
    /// Asked back; part of the balance.
    pub thawing: Amount,
    /// When the latter may be taken.
    pub thawed_at: u64,
}

/// A node's root within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedRoot {
    /// Receipts root.
    pub receipts: Hash32,
    /// Receipts.
    pub count: u64,
    /// Sum of their fees.
    pub fees: Amount,
    /// Block of submission: who opens the root on chain names it.
    pub block: u64,
}

/// A posted payout tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Root.
    pub root: Hash32,
    /// Total of all cumulative amounts.
    pub total: Amount,
    /// Root it builds on.
    pub previous: Hash32,
    /// Who posted it.
    pub poster: Address,
    /// When it is final.
    pub final_at: u64,
    /// What a poster without the role attached and has not been given back.
    pub bond: Amount,
}

/// A settlement period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Opened.
    pub opened_at: u64,
    /// The block of the opening.
    pub opened_block: u64,
    /// Node roots are taken until then.
    pub accepts_until: u64,
    /// A payout may be posted from then.
    pub payout_from: u64,
    /// Roots by node.
    pub roots: BTreeMap<Address, SubmittedRoot>,
    /// Payout; nothing again once it was overturned.
    pub payout: Option<Payout>,
    /// Payouts that were taken back, oldest first.
    pub overturned: Vec<Overturned>,
}
