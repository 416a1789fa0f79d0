//! The books themselves, and the questions a node asks of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    contribution::Priority,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32, NodeId},
    manifest::AssetKind,
    split::SplitTable,
};

use super::{
    ViewError,
    event::{Event, Logged},
};

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
    /// Block and log index of the submission.
    pub submitted: (u64, u32),
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
    /// Payout.
    pub payout: Option<Payout>,
}

/// What was collected on a lane: 24 bytes for each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedLane {
    /// Who paid.
    pub payer: Address,
    /// Who was paid.
    pub node: Address,
    /// Block and log index of each collection and the cumulative amount after it, ascending.
    pub collected: Vec<((u64, u32), Amount)>,
}

impl CollectedLane {
    /// Collected before `place` (block and log index).
    pub fn before(&self, place: (u64, u32)) -> Amount {
        let count = self.collected.partition_point(|(at, _)| *at < place);
        count.checked_sub(1).and_then(|last| self.collected.get(last)).map_or(Amount::ZERO, |(_, cumulative)| *cumulative)
    }
}

/// A slash that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slash {
    /// Block.
    pub block: u64,
    /// Transaction.
    pub transaction: Hash32,
    /// Who lost it.
    pub account: Address,
    /// How much.
    pub amount: Amount,
    /// To the victim.
    pub victim_amount: Amount,
    /// To the reporter.
    pub reporter_amount: Amount,
    /// Burned.
    pub burned: Amount,
    /// Fault hash.
    pub fault: Hash32,
}

/// Everything derived from the events up to some block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    assets: BTreeMap<AssetId, Asset>,
    versions: BTreeMap<AssetVersion, Version>,
    reviewers: BTreeSet<(AssetId, Address, Address)>,
    commitments: BTreeMap<(Hash32, Address), (u64, u32)>,
    /// By Datanet, in priority order.
    contributions: BTreeMap<AssetId, BTreeMap<(u64, u32, u64), Accepted>>,
    indexes: BTreeMap<AssetVersion, IndexRoot>,
    parameters: BTreeMap<u32, Hash32>,
    data_row_min: Option<u16>,
    operators: BTreeMap<Address, Operator>,
    escrows: BTreeMap<Address, Escrow>,
    lanes: BTreeMap<Hash32, CollectedLane>,
    collected: Amount,
    epochs: BTreeMap<u64, Epoch>,
    claims: BTreeMap<Address, Amount>,
    slashes: Vec<Slash>,
}

impl State {
    /// Applies one event.
    ///
    /// # Errors
    /// [`ViewError::Unknown`] if it speaks of something no earlier event made.
    pub fn apply(&mut self, logged: &Logged) -> Result<(), ViewError> {
        let place = (logged.block.number, logged.log);
        let unknown = |what: String| ViewError::Unknown { block: place.0, log: place.1, what };
        match &logged.event {
            Event::Registered { .. } | Event::Transferred { .. } | Event::Published { .. } | Event::Frozen { .. } => {
                self.apply_asset(logged, unknown)
            }
            Event::ReviewerSet { .. } | Event::Committed { .. } | Event::Accepted { .. } => {
                self.apply_contribution(logged);
                Ok(())
            }
            Event::IndexPosted { version, root, parameters, indexer, window_ends } => {
                let index = IndexRoot { root: *root, parameters: *parameters, indexer: *indexer, window_ends: *window_ends };
                self.indexes.insert(*version, index);
                Ok(())
            }
            Event::ParametersApproved { parameters, hash } => {
                self.parameters.insert(*parameters, *hash);
                Ok(())
            }
            Event::DataRowMinSet { bps } => {
                self.data_row_min = Some(*bps);
                Ok(())
            }
            Event::NodeRegistered { .. } | Event::StakeChanged { .. } | Event::Slashed { .. } | Event::FalseSpanProven { .. } => {
                self.apply_stake(logged);
                Ok(())
            }
            Event::Deposited { .. } | Event::WithdrawRequested { .. } | Event::Withdrawn { .. } | Event::Collected { .. } => {
                self.apply_escrow(logged);
                Ok(())
            }
            Event::EpochOpened { .. } | Event::NodeRootSubmitted { .. } | Event::PayoutPosted { .. } | Event::Claimed { .. } => {
                self.apply_epoch(logged, unknown)
            }
        }
    }

    fn apply_asset(&mut self, logged: &Logged, unknown: impl Fn(String) -> ViewError) -> Result<(), ViewError> {
        let number = logged.block.number;
        match &logged.event {
            // The token's Transfer comes first: the asset is made there, its kind and uri are filled in here.
            Event::Registered { asset, kind, owner, uri } => {
                let entry = self.assets.entry(*asset);
                let entry = entry.or_insert_with(|| Asset {
                    id: *asset,
                    kind: *kind,
                    uri: String::new(),
                    owners: vec![(number, *owner)],
                    versions: 0,
                });
                (entry.kind, entry.uri) = (*kind, uri.clone());
            }
            Event::Transferred { asset, to } => match self.assets.get_mut(asset) {
                Some(known) => known.owners.push((number, *to)),
                None => {
                    let made = Asset { id: *asset, kind: AssetKind::Datanet, uri: String::new(), owners: vec![(number, *to)], versions: 0 };
                    self.assets.insert(*asset, made);
                }
            },
            Event::Published { version, content, parents, split, datanets, licence, parent_share_min } => {
                let asset = self.assets.get_mut(&version.asset).ok_or_else(|| unknown(format!("asset {}", version.asset)))?;
                asset.versions = asset.versions.max(version.version);
                let published = Version {
                    content: *content,
                    parents: parents.clone(),
                    split: *split,
                    datanets: datanets.clone(),
                    licence: *licence,
                    parent_share_min: *parent_share_min,
                    published: (number, logged.log),
                    frozen: None,
                };
                self.versions.insert(*version, published);
            }
            Event::Frozen { version } => {
                let known = self.versions.get_mut(version).ok_or_else(|| unknown(format!("version {version}")))?;
                known.frozen = Some(number);
            }
            _ => {}
        }
        Ok(())
    }

    fn apply_contribution(&mut self, logged: &Logged) {
        match &logged.event {
            Event::ReviewerSet { datanet, owner, reviewer, is_allowed: true } => {
                self.reviewers.insert((*datanet, *owner, *reviewer));
            }
            Event::ReviewerSet { datanet, owner, reviewer, is_allowed: false } => {
                self.reviewers.remove(&(*datanet, *owner, *reviewer));
            }
            Event::Committed { commitment, contributor, block, ordinal } => {
                self.commitments.insert((*commitment, *contributor), (*block, *ordinal));
            }
            Event::Accepted { datanet, number, contributor, text_root, text_bytes, documents, block, ordinal, licence, object, report } => {
                let accepted = Accepted {
                    datanet: *datanet,
                    number: *number,
                    contributor: *contributor,
                    text_root: *text_root,
                    text_bytes: *text_bytes,
                    documents: *documents,
                    priority: Priority { block: *block, ordinal: *ordinal, document: 0 },
                    licence: *licence,
                    object: *object,
                    report: *report,
                    accepted: (logged.block.number, logged.log),
                };
                self.contributions.entry(*datanet).or_default().insert((*block, *ordinal, *number), accepted);
            }
            _ => {}
        }
    }

    fn apply_stake(&mut self, logged: &Logged) {
        match &logged.event {
            Event::NodeRegistered { account, node, incarnation, payout, stake } => {
                let operator = self.operator_mut(*account);
                (operator.node, operator.incarnation, operator.payout, operator.active) = (*node, *incarnation, *payout, *stake);
            }
            // Comes before NodeRegistered when stake is added with the registration.
            Event::StakeChanged { account, active, unbonding, unbonded_at } => {
                let operator = self.operator_mut(*account);
                (operator.active, operator.unbonding, operator.unbonded_at) = (*active, *unbonding, *unbonded_at);
            }
            Event::Slashed { account, amount, victim_amount, reporter_amount, burned, fault, .. } => self.slashes.push(Slash {
                block: logged.block.number,
                transaction: logged.transaction,
                account: *account,
                amount: *amount,
                victim_amount: *victim_amount,
                reporter_amount: *reporter_amount,
                burned: *burned,
                fault: *fault,
            }),
            _ => {}
        }
    }

    fn operator_mut(&mut self, account: Address) -> &mut Operator {
        self.operators.entry(account).or_insert(Operator {
            account,
            node: NodeId::ZERO,
            incarnation: 0,
            payout: account,
            active: Amount::ZERO,
            unbonding: Amount::ZERO,
            unbonded_at: 0,
        })
    }

    fn apply_escrow(&mut self, logged: &Logged) {
        match &logged.event {
            Event::Deposited { payer, amount } => {
                let escrow = self.escrows.entry(*payer).or_default();
                escrow.balance = Amount(escrow.balance.0.saturating_add(amount.0));
            }
            Event::WithdrawRequested { payer, amount, thawed_at } => {
                let escrow = self.escrows.entry(*payer).or_default();
                (escrow.thawing, escrow.thawed_at) = (*amount, *thawed_at);
            }
            Event::Withdrawn { payer, amount } => {
                let escrow = self.escrows.entry(*payer).or_default();
                *escrow = Escrow { balance: Amount(escrow.balance.0.saturating_sub(amount.0)), ..Escrow::default() };
            }
            Event::Collected { lane, payer, node, amount, cumulative } => {
                let escrow = self.escrows.entry(*payer).or_default();
                escrow.balance = Amount(escrow.balance.0.saturating_sub(amount.0));
                escrow.thawing = escrow.thawing.min(escrow.balance);
                let known = self.lanes.entry(*lane);
                let known = known.or_insert_with(|| CollectedLane { payer: *payer, node: *node, collected: Vec::new() });
                known.collected.push(((logged.block.number, logged.log), *cumulative));
                self.collected = Amount(self.collected.0.saturating_add(amount.0));
            }
            _ => {}
        }
    }

    fn apply_epoch(&mut self, logged: &Logged, unknown: impl Fn(String) -> ViewError) -> Result<(), ViewError> {
        match &logged.event {
            Event::NodeRootSubmitted { epoch, node, receipts, count, fees } => {
                let known = self.epochs.get_mut(epoch).ok_or_else(|| unknown(format!("epoch {epoch}")))?;
                known.roots.insert(
                    *node,
                    SubmittedRoot { receipts: *receipts, count: *count, fees: *fees, submitted: (logged.block.number, logged.log) },
                );
            }
            Event::PayoutPosted { epoch, root, total, previous, poster, final_at } => {
                let payout = Payout { root: *root, total: *total, previous: *previous, poster: *poster, final_at: *final_at };
                self.epochs.get_mut(epoch).ok_or_else(|| unknown(format!("epoch {epoch}")))?.payout = Some(payout);
            }
            Event::EpochOpened { epoch, opened_at, accepts_until, payout_from } => {
                let opened = Epoch {
                    opened_at: *opened_at,
                    opened_block: logged.block.number,
                    accepts_until: *accepts_until,
                    payout_from: *payout_from,
                    roots: BTreeMap::new(),
                    payout: None,
                };
                self.epochs.insert(*epoch, opened);
            }
            Event::Claimed { account, cumulative, .. } => {
                self.claims.insert(*account, *cumulative);
            }
            _ => {}
        }
        Ok(())
    }

    /// One asset.
    pub fn asset(&self, id: AssetId) -> Option<&Asset> {
        self.assets.get(&id)
    }

    /// All assets, by number.
    pub fn assets(&self) -> impl Iterator<Item = &Asset> {
        self.assets.values()
    }

    /// One version.
    pub fn version(&self, version: AssetVersion) -> Option<&Version> {
        self.versions.get(&version)
    }

    /// All versions, by asset and number.
    pub fn versions(&self) -> impl Iterator<Item = (AssetVersion, &Version)> {
        self.versions.iter().map(|(version, published)| (*version, published))
    }

    /// The newest version of an asset that is not frozen.
    pub fn newest(&self, asset: AssetId) -> Option<AssetVersion> {
        let range = AssetVersion { asset, version: 0 }..=AssetVersion { asset, version: u32::MAX };
        self.versions.range(range).rev().find(|(_, published)| published.frozen.is_none()).map(|(version, _)| *version)
    }

    /// Whether an answer that names `block` may be billed for a version: published by then and not frozen before it.
    pub fn is_billable(&self, version: AssetVersion, block: u64) -> bool {
        self.versions.get(&version).is_some_and(|v| v.published.0 <= block && v.frozen.is_none_or(|frozen| block <= frozen))
    }

    /// Who is paid for an asset in an answer that names `block`: its owner then.
    pub fn payee_at(&self, asset: AssetId, block: u64) -> Option<Address> {
        self.assets.get(&asset).map(|asset| asset.owner_at(block)).filter(|owner| *owner != Address::ZERO)
    }

    /// Whether `account` may sign gate reports of a Datanet.
    pub fn is_reviewer(&self, datanet: AssetId, account: Address) -> bool {
        self.assets.get(&datanet).is_some_and(|asset| {
            let owner = asset.owner();
            account == owner || self.reviewers.contains(&(datanet, owner, account))
        })
    }

    /// Block and ordinal of a commitment.
    pub fn commitment(&self, commitment: Hash32, contributor: Address) -> Option<(u64, u32)> {
        self.commitments.get(&(commitment, contributor)).copied()
    }

    /// A Datanet's contributions in priority order.
    pub fn contributions(&self, datanet: AssetId) -> impl Iterator<Item = &Accepted> {
        self.contributions.get(&datanet).into_iter().flat_map(BTreeMap::values)
    }

    /// The contributions that a version of a Datanet holds: those accepted before it was published, in priority order.
    pub fn contributions_of(&self, version: AssetVersion) -> impl Iterator<Item = &Accepted> {
        let published = self.versions.get(&version).map_or((0, 0), |version| version.published);
        self.contributions(version.asset).filter(move |contribution| contribution.accepted < published)
    }

    /// The index root of a version.
    pub fn index(&self, version: AssetVersion) -> Option<&IndexRoot> {
        self.indexes.get(&version)
    }

    /// Hash of approved parameters.
    pub fn parameters(&self, id: u32) -> Option<Hash32> {
        self.parameters.get(&id).copied()
    }

    /// Least data row, if it was changed since deployment, in basis points.
    pub const fn data_row_min(&self) -> Option<u16> {
        self.data_row_min
    }

    /// All operators, by account.
    pub fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.operators.values()
    }

    /// One operator.
    pub fn operator(&self, account: Address) -> Option<&Operator> {
        self.operators.get(&account)
    }

    /// A payer's deposit.
    pub fn escrow(&self, payer: Address) -> Escrow {
        self.escrows.get(&payer).copied().unwrap_or_default()
    }

    /// Deposit of a payer that is not being withdrawn.
    pub fn free(&self, payer: Address) -> Amount {
        let escrow = self.escrow(payer);
        Amount(escrow.balance.0.saturating_sub(escrow.thawing.0))
    }

    /// Collected on a lane.
    pub fn lane_collected(&self, lane: Hash32) -> Amount {
        self.lanes.get(&lane).and_then(|lane| lane.collected.last()).map_or(Amount::ZERO, |(_, cumulative)| *cumulative)
    }

    /// All lanes on which something was collected, by id.
    pub fn lanes(&self) -> impl Iterator<Item = (Hash32, &CollectedLane)> {
        self.lanes.iter().map(|(id, lane)| (*id, lane))
    }

    /// Collected in all.
    pub const fn collected(&self) -> Amount {
        self.collected
    }

    /// One epoch.
    pub fn epoch(&self, epoch: u64) -> Option<&Epoch> {
        self.epochs.get(&epoch)
    }

    /// All epochs.
    pub fn epochs(&self) -> impl Iterator<Item = (u64, &Epoch)> {
        self.epochs.iter().map(|(number, epoch)| (*number, epoch))
    }

    /// The last epoch that opened.
    pub fn current_epoch(&self) -> Option<(u64, &Epoch)> {
        self.epochs.last_key_value().map(|(number, epoch)| (*number, epoch))
    }

    /// The last payout that is final at `timestamp`.
    pub fn final_payout(&self, timestamp: u64) -> Option<(u64, Payout)> {
        let posted = self.epochs.iter().rev().filter_map(|(number, epoch)| Some((*number, epoch.payout?)));
        posted.into_iter().find(|(_, payout)| payout.final_at <= timestamp)
    }

    /// Claimed by an account since deployment.
    pub fn claimed(&self, account: Address) -> Amount {
        self.claims.get(&account).copied().unwrap_or_default()
    }

    /// All slashes, oldest first.
    pub fn slashes(&self) -> &[Slash] {
        &self.slashes
    }
}
