//! The books themselves: what each event changes in them.

mod reading;
mod records;

use std::collections::{BTreeMap, BTreeSet};

use types::{
    amount::Amount,
    contribution::Priority,
    id::{Address, AssetId, AssetVersion, Hash32, NodeId},
    manifest::AssetKind,
};

pub use records::{Accepted, Asset, Epoch, Escrow, IndexRoot, Operator, Payout, Refuted, SubmittedRoot, Version};

use super::{
    ViewError,
    case::Cases,
    check::Boards,
    erasure::{Erasure, Erasures},
    event::{Event, Logged},
    money::{LaneBooks, Money, Overturned},
    object::Objects,
};

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
    refuted: BTreeMap<AssetVersion, Refuted>,
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
    pub(super) boards: Boards,
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
            Event::BeaconAnnounced { .. } | Event::BeaconStored { .. } | Event::ChecksCommitted { .. } | Event::ChecksRevealed { .. } => {
                let staked = || self.operators.values().filter(|operator| operator.active > Amount::ZERO);
                self.boards.apply(&logged.event, || staked().map(|operator| (operator.account, operator.active)).collect());
                Ok(())
            }
            Event::IndexPosted { version, root, parameters, indexer, window_ends } => {
                let index =
                    IndexRoot { root: *root, parameters: *parameters, indexer: *indexer, window_ends: *window_ends, block: place.0 };
                self.indexes.insert(*version, index);
                Ok(())
            }
            Event::IndexRefuted { version, root, mode, reporter, .. } => {
                let refuted = Refuted { root: *root, mode: *mode, reporter: *reporter, block: place.0 };
                // One proof suffices: the first.
                self.refuted.entry(*version).or_insert(refuted);
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
}
