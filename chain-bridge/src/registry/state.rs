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
    case::Cases,
    erasure::{Erasure, Erasures},
    event::{Event, Logged},
    money::{LaneBooks, Money, Overturned},
    object::Objects,
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

/// Everything derived from the events up to some block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    assets: BTreeMap<AssetId, Asset>,
    versions: BTreeMap<AssetVersion, Version>,
    reviewers: BTreeSet<(AssetId, Address, Address)>,
    commitments: BTreeMap<(Hash32, Address), (u64, u32)>,
    /// By Datanet, in priority order.
    pub(super) contributions: BTreeMap<AssetId, BTreeMap<(u64, u32, u64), Accepted>>,
    pub(super) objects: Objects,
    indexes: BTreeMap<AssetVersion, IndexRoot>,
    parameters: BTreeMap<u32, Hash32>,
    data_row_min: Option<u16>,
    operators: BTreeMap<Address, Operator>,
    escrows: BTreeMap<Address, Escrow>,
    epochs: BTreeMap<u64, Epoch>,
    claims: BTreeMap<Address, Amount>,
    /// Payout accounts, each from a block on.
    payouts: BTreeMap<Address, Vec<(u64, Address)>>,
    pub(super) money: Money,
    pub(super) erasures: Erasures,
    pub(super) cases: Cases,
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
            Event::Registered { .. }
            | Event::Transferred { .. }
            | Event::Published { .. }
            | Event::Frozen { .. }
            | Event::Redirected { .. } => self.apply_asset(logged, unknown),
            Event::ReviewerSet { .. } | Event::Committed { .. } | Event::Accepted { .. } => {
                self.apply_contribution(logged);
                Ok(())
            }
            Event::Erased { .. } => self.apply_erasure(logged, unknown),
            Event::CaseOpened { .. } | Event::CaseAnswered { .. } | Event::CaseClosed { .. } => {
                self.cases.apply(logged).ok_or_else(|| unknown("a slash case".into()))
            }
            Event::IndexPosted { version, root, parameters, indexer, window_ends } => {
                let index =
                    IndexRoot { root: *root, parameters: *parameters, indexer: *indexer, window_ends: *window_ends, block: place.0 };
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
            Event::NodeRegistered { .. } | Event::StakeChanged { .. } | Event::RolesChanged { .. } => {
                self.apply_stake(logged);
                Ok(())
            }
            Event::Deposited { .. }
            | Event::WithdrawRequested { .. }
            | Event::Withdrawn { .. }
            | Event::LaneOpened { .. }
            | Event::Collected { .. } => {
                self.apply_escrow(logged);
                Ok(())
            }
            Event::EpochOpened { .. }
            | Event::NodeRootSubmitted { .. }
            | Event::PayoutPosted { .. }
            | Event::PayoutOverturned { .. }
            | Event::BondReturned { .. }
            | Event::Claimed { .. } => self.apply_epoch(logged, unknown),
            Event::Slashed { .. }
            | Event::SlashReleased { .. }
            | Event::Debited { .. }
            | Event::Pledged { .. }
            | Event::Credited { .. }
            | Event::OwedWithdrawn { .. }
            | Event::FaultProven { .. }
            | Event::ReceiptVoided { .. }
            | Event::BondTaken { .. } => self.apply_fault(logged, unknown),
            Event::SignerSet { .. }
            | Event::SignerRevoked { .. }
            | Event::CreditClaimed { .. }
            | Event::CreditPaid { .. }
            | Event::CreditSettled { .. }
            | Event::RefundRequested { .. } => self.apply_credit(logged, unknown),
            Event::ReceiptsChallenged { .. }
            | Event::ReceiptShown { .. }
            | Event::RequestChallenged { .. }
            | Event::PayoutChallenged { .. }
            | Event::ChallengeAnswered { .. }
            | Event::Unanswered { .. } => self.apply_challenge(logged, unknown),
            Event::RewardsReceived { .. }
            | Event::RewardsClaimed { .. }
            | Event::Insured { .. }
            | Event::Covered { .. }
            | Event::RentPrepaid { .. }
            | Event::RentAccrued { .. }
            | Event::RentWithdrawRequested { .. }
            | Event::RentWithdrawn { .. }
            | Event::RentPaid { .. }
            | Event::RentGivenBack { .. }
            | Event::RentPriceSet { .. } => {
                self.apply_pool(&logged.event);
                Ok(())
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
                    superseded_by: None,
                };
                self.versions.insert(*version, published);
            }
            Event::Frozen { version } => {
                let known = self.versions.get_mut(version).ok_or_else(|| unknown(format!("version {version}")))?;
                known.frozen = Some(number);
            }
            Event::Redirected { asset, from, to } => {
                let version = AssetVersion { asset: *asset, version: *from };
                let known = self.versions.get_mut(&version).ok_or_else(|| unknown(format!("version {version}")))?;
                known.superseded_by = Some(*to);
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
                self.objects.accepted(*object, (*datanet, (*block, *ordinal, *number)), logged.block.hash);
                self.erasures.accepted(*object, *text_root);
            }
            _ => {}
        }
    }

    fn apply_erasure(&mut self, logged: &Logged, unknown: impl Fn(String) -> ViewError) -> Result<(), ViewError> {
        let Event::Erased { datanet, number, by, object, reason } = &logged.event else { return Ok(()) };
        let mut accepted = self.contributions.get(datanet).into_iter().flat_map(BTreeMap::values);
        let erased = accepted.find(|accepted| accepted.number == *number && accepted.object == *object);
        let erased = erased.ok_or_else(|| unknown(format!("contribution {number} of Datanet {datanet}")))?;
        let erasure = Erasure {
            datanet: *datanet,
            number: *number,
            by: *by,
            reason: *reason,
            object: *object,
            text_root: erased.text_root,
            report: erased.report,
            place: (logged.block.number, logged.log),
            time: logged.time,
        };
        self.erasures.request(erasure, self.contributions.values().flat_map(BTreeMap::values));
        Ok(())
    }

    fn apply_stake(&mut self, logged: &Logged) {
        match &logged.event {
            Event::NodeRegistered { account, node, incarnation, payout, stake } => {
                self.payouts.entry(*account).or_default().push((logged.block.number, *payout));
                let operator = self.operator_mut(*account);
                (operator.node, operator.incarnation, operator.payout, operator.active) = (*node, *incarnation, *payout, *stake);
            }
            // Comes before NodeRegistered when stake is added with the registration.
            Event::StakeChanged { account, active, unbonding, unbonded_at } => {
                let operator = self.operator_mut(*account);
                (operator.active, operator.unbonding, operator.unbonded_at) = (*active, *unbonding, *unbonded_at);
            }
            Event::RolesChanged { account, roles } => self.operator_mut(*account).roles = *roles,
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
            roles: 0,
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
            Event::LaneOpened { lane } => drop(self.money.bodies.insert(lane.id(), *lane)),
            Event::Collected { lane, payer, node, amount, cumulative } => {
                let escrow = self.escrows.entry(*payer).or_default();
                escrow.balance = Amount(escrow.balance.0.saturating_sub(amount.0));
                escrow.thawing = escrow.thawing.min(escrow.balance);
                let books = self.money.lanes.entry(*lane).or_insert_with(|| LaneBooks { payer: *payer, node: *node, collects: Vec::new() });
                books.collects.push((logged.time, *cumulative));
                self.money.collected = Amount(self.money.collected.0.saturating_add(amount.0));
            }
            _ => {}
        }
    }

    fn apply_epoch(&mut self, logged: &Logged, unknown: impl Fn(String) -> ViewError) -> Result<(), ViewError> {
        match &logged.event {
            Event::NodeRootSubmitted { epoch, node, receipts, count, fees, block } => {
                let known = self.epochs.get_mut(epoch).ok_or_else(|| unknown(format!("epoch {epoch}")))?;
                known.roots.insert(*node, SubmittedRoot { receipts: *receipts, count: *count, fees: *fees, block: *block });
            }
            Event::PayoutPosted { epoch, root, total, previous, poster, final_at, bond } => {
                let payout = Payout { root: *root, total: *total, previous: *previous, poster: *poster, final_at: *final_at, bond: *bond };
                self.epochs.get_mut(epoch).ok_or_else(|| unknown(format!("epoch {epoch}")))?.payout = Some(payout);
            }
            Event::PayoutOverturned { epoch, root, poster, reporter, fault } => {
                let known = self.epochs.get_mut(epoch).ok_or_else(|| unknown(format!("epoch {epoch}")))?;
                known.payout = None;
                known.overturned.push(Overturned { root: *root, poster: *poster, reporter: *reporter, fault: *fault });
            }
            Event::BondReturned { epoch, .. } => {
                let known = self.epochs.get_mut(epoch).ok_or_else(|| unknown(format!("epoch {epoch}")))?;
                if let Some(payout) = &mut known.payout {
                    payout.bond = Amount::ZERO;
                }
            }
            Event::EpochOpened { epoch, opened_at, accepts_until, payout_from } => {
                let opened = Epoch {
                    opened_at: *opened_at,
                    opened_block: logged.block.number,
                    accepts_until: *accepts_until,
                    payout_from: *payout_from,
                    roots: BTreeMap::new(),
                    payout: None,
                    overturned: Vec::new(),
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

    /// The version that stands for an asset now, as the registry's `currentOf`: the newest, or where its redirects lead; nothing if they lead
    /// to a frozen one.
    pub fn current(&self, asset: AssetId) -> Option<AssetVersion> {
        let newest = self.assets.get(&asset)?.versions;
        let mut version = newest;
        // Each step leads to a version that was active when it was made, so no more steps than versions.
        for _ in 0..=newest {
            let at = AssetVersion { asset, version };
            let known = self.versions.get(&at)?;
            if known.frozen.is_none() {
                return Some(at);
            }
            version = known.superseded_by?;
        }
        None
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

    /// Whom the owner of a Datanet has named to sign gate reports, beside itself.
    pub fn reviewers(&self, datanet: AssetId) -> impl Iterator<Item = Address> {
        let owner = self.assets.get(&datanet).map(Asset::owner);
        let named = self.reviewers.iter().filter(move |(of, by, _)| *of == datanet && Some(*by) == owner);
        named.map(|(_, _, reviewer)| *reviewer)
    }

    /// Block and ordinal of a commitment.
    pub fn commitment(&self, commitment: Hash32, contributor: Address) -> Option<(u64, u32)> {
        self.commitments.get(&(commitment, contributor)).copied()
    }

    /// A Datanet's contributions in priority order.
    pub fn contributions(&self, datanet: AssetId) -> impl Iterator<Item = &Accepted> {
        self.contributions.get(&datanet).into_iter().flat_map(BTreeMap::values)
    }

    /// The contributions of a Datanet that nobody asked to erase, in priority order: those that its next version holds.
    pub fn live_contributions(&self, datanet: AssetId) -> impl Iterator<Item = &Accepted> {
        self.contributions(datanet).filter(move |contribution| self.erasure(datanet, contribution.number).is_none())
    }

    /// The contributions that a version of a Datanet holds: those accepted before it was published and not erased before it, in priority order. One that
    /// was erased since is still among them: see [`State::erased_in_index`].
    pub fn contributions_of(&self, version: AssetVersion) -> impl Iterator<Item = &Accepted> {
        let published = self.versions.get(&version).map_or((0, 0), |version| version.published);
        let before = self.contributions(version.asset).filter(move |contribution| contribution.accepted < published);
        before.filter(move |contribution| self.erasure(version.asset, contribution.number).is_none_or(|erasure| erasure.place >= published))
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

    /// Who is paid for the answers of an operator that name `block`: its payout account then.
    pub fn payout_at(&self, account: Address, block: u64) -> Option<Address> {
        self.payouts.get(&account)?.iter().rev().find(|(from, _)| *from <= block).map(|(_, payout)| *payout)
    }

    /// The operator of a node key with the highest incarnation.
    pub fn operator_of(&self, node: NodeId) -> Option<&Operator> {
        self.operators.values().filter(|operator| operator.node == node).max_by_key(|operator| operator.incarnation)
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
}
