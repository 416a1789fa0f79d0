//! The books of money beside deposits and epochs: lanes, credit claims, refunds, slashes, void receipts, challenges, pools, rent.
//!
//! What a poster's tree must hold follows from here and the receipts: which receipt is void and since when, what a lane had collected when W1
//! ended, which refunds are due. Times are the sequencer's, in seconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::{Address, AssetId, Hash32},
    merkle::keccak,
    voucher::Lane,
};

use super::{
    State, ViewError,
    event::{Custody, Event, Fault, Logged},
};

/// Role bit: answers clients and submits node roots.
pub const ROLE_NODE: u8 = 1;
/// Role bit: posts payout trees.
pub const ROLE_POSTER: u8 = 2;
/// Role bit: posts index roots.
pub const ROLE_INDEXER: u8 = 4;

/// What is known of a lane that was collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneBooks {
    /// Who pays.
    pub payer: Address,
    /// Who is paid for.
    pub node: Address,
    /// Time and cumulative amount of each collect, oldest first.
    pub collects: Vec<(u64, Amount)>,
}

impl LaneBooks {
    /// Collected so far.
    pub fn collected(&self) -> Amount {
        self.collects.last().map_or(Amount::ZERO, |(_, cumulative)| *cumulative)
    }

    /// Collected before `time`.
    pub fn collected_before(&self, time: u64) -> Amount {
        self.collects.iter().rev().find(|(at, _)| *at < time).map_or(Amount::ZERO, |(_, cumulative)| *cumulative)
    }
}

/// How a slash was divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Division {
    /// To the victim, out of the slash.
    pub to_victim: Amount,
    /// To the victim, out of the insurance pool.
    pub covered: Amount,
    /// To the reporter.
    pub to_reporter: Amount,
    /// Burned.
    pub burned: Amount,
    /// To the insurance pool.
    pub insured: Amount,
}

/// A slash: in its queue, or divided. With these fields anybody releases it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slash {
    /// Block.
    pub block: u64,
    /// Transaction.
    pub transaction: Hash32,
    /// Fault hash.
    pub fault: Hash32,
    /// Who lost it.
    pub account: Address,
    /// How much.
    pub amount: Amount,
    /// Who is paid first; zero if nobody.
    pub victim: Address,
    /// What the victim lost.
    pub victim_amount: Amount,
    /// The lane it was charged on; zero if there is no victim.
    pub lane: Hash32,
    /// Who proved it; zero if nobody.
    pub reporter: Address,
    /// From when on it may be divided.
    pub release_at: u64,
    /// Which fault of the account it was, among those remembered.
    pub number: u8,
    /// How it was divided; nothing while it waits.
    pub released: Option<Division>,
}

/// A payout that was proven wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overturned {
    /// Its root.
    pub root: Hash32,
    /// Who posted it.
    pub poster: Address,
    /// Who proved it wrong.
    pub reporter: Address,
    /// Fault hash.
    pub fault: Hash32,
}

/// A key that signs for a payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Most that may be collected by its signature.
    pub cap: Amount,
    /// Last block.
    pub expiry: u64,
    /// When a revocation takes effect, if it was revoked.
    pub revoked_at: Option<u64>,
}

/// How far a credit claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreditState {
    /// Not paid in full.
    Open,
    /// Paid, with the node's own money or out of its stake.
    Settled,
}

/// A credit note that was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditClaim {
    /// Who owes.
    pub node: Address,
    /// Whom.
    pub payer: Address,
    /// Still owed.
    pub left: Amount,
    /// Paid out of stake.
    pub paid: Amount,
    /// From when on it is paid out of stake.
    pub settle_from: u64,
    /// State.
    pub state: CreditState,
}

/// A lane's refund: due in the payout of one epoch and in no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundDue {
    /// The epoch.
    pub epoch: u64,
    /// Who gets it.
    pub payer: Address,
    /// Whose lane it was.
    pub node: Address,
    /// What notes and slashes had given back on it before; nothing is given back after.
    pub given_back: Amount,
}

/// What a challenge asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChallengeOf {
    /// Receipts of a node's root.
    Receipts {
        /// Epoch.
        epoch: u64,
        /// Node.
        node: Address,
        /// Place of the first in its tree.
        first: u64,
        /// How many.
        count: u64,
    },
    /// The request behind a receipt.
    Request {
        /// Receipt hash.
        receipt: Hash32,
        /// Its node.
        node: Address,
        /// The request that does not fit, as its client signed it.
        request: Vec<u8>,
    },
    /// A leaf of the pending payout tree.
    Leaf {
        /// Epoch.
        epoch: u64,
        /// Place.
        index: u64,
    },
    /// A part of a leaf.
    Part {
        /// Epoch.
        epoch: u64,
        /// The leaf's account.
        account: Address,
        /// Place.
        index: u64,
    },
}

/// A challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// What it asks for.
    pub of: ChallengeOf,
    /// Whose bond it holds, where it is about a payout: who may ask it back.
    pub challenger: Option<Address>,
    /// Until when it can be answered.
    pub deadline: u64,
    /// How many of the receipts it asks for were shown; they are shown in order.
    pub shown: u64,
    /// Whether it was answered or settled.
    pub is_closed: bool,
}

/// A proof that a verifier accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// What.
    pub fault: Fault,
    /// About which receipt.
    pub receipt: Hash32,
    /// Whose.
    pub node: Address,
    /// By whom.
    pub reporter: Address,
}

/// A Datanet's rent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rent {
    /// Prepaid and not accrued.
    pub prepaid: Amount,
    /// Accrued and not paid.
    pub accrued: Amount,
    /// Asked back by the owner; part of what is prepaid.
    pub leaving: Amount,
    /// When the latter may be taken.
    pub leaves_at: u64,
}

/// The maps behind [`State`]'s questions about money.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Money {
    pub(super) lanes: BTreeMap<Hash32, LaneBooks>,
    pub(super) bodies: BTreeMap<Hash32, Lane>,
    pub(super) collected: Amount,
    sessions: BTreeMap<(Address, Address), Session>,
    credits: BTreeMap<(Hash32, Hash32), CreditClaim>,
    refunds: BTreeMap<Hash32, RefundDue>,
    slashes: Vec<Slash>,
    debits: BTreeMap<Address, Amount>,
    pledges: BTreeMap<Address, Amount>,
    owed: BTreeMap<(Custody, Address), Amount>,
    voided: BTreeMap<Hash32, u64>,
    withheld: BTreeMap<(u64, Address), u64>,
    challenges: BTreeMap<Hash32, Challenge>,
    proven: Vec<Proven>,
    bonds_taken: Amount,
    rents: BTreeMap<AssetId, Rent>,
    rent_price: Option<(Amount, u64)>,
    rewards_received: Amount,
    rewards_claimed: BTreeMap<Address, Amount>,
    insured: Amount,
}

const fn add(to: &mut Amount, amount: Amount) {
    *to = Amount(to.0.saturating_add(amount.0));
}

const fn take(from: &mut Amount, amount: Amount) {
    *from = Amount(from.0.saturating_sub(amount.0));
}

impl State {
    pub(super) fn apply_fault(&mut self, logged: &Logged, unknown: impl Fn(String) -> ViewError) -> Result<(), ViewError> {
        let money = &mut self.money;
        match &logged.event {
            Event::Slashed { fault, account, amount, victim, victim_amount, lane, reporter, release_at, number } => {
                money.slashes.push(Slash {
                    block: logged.block.number,
                    transaction: logged.transaction,
                    fault: *fault,
                    account: *account,
                    amount: *amount,
                    victim: *victim,
                    victim_amount: *victim_amount,
                    lane: *lane,
                    reporter: *reporter,
                    release_at: *release_at,
                    number: *number,
                    released: None,
                })
            }
            Event::SlashReleased { fault, to_victim, covered, to_reporter, burned, insured } => {
                let slash = money.slashes.iter_mut().find(|slash| slash.fault == *fault);
                let slash = slash.ok_or_else(|| unknown(format!("the slash for fault {fault}")))?;
                slash.released = Some(Division {
                    to_victim: *to_victim,
                    covered: *covered,
                    to_reporter: *to_reporter,
                    burned: *burned,
                    insured: *insured,
                });
            }
            Event::Debited { account, amount, .. } => add(money.debits.entry(*account).or_default(), *amount),
            Event::Pledged { account, pledged } => {
                money.pledges.insert(*account, *pledged);
            }
            Event::Credited { by, payee, amount } => add(money.owed.entry((*by, *payee)).or_default(), *amount),
            Event::OwedWithdrawn { by, payee, amount } => {
                let owed = money.owed.get_mut(&(*by, *payee)).ok_or_else(|| unknown(format!("what is owed to {payee}")))?;
                take(owed, *amount);
            }
            Event::FaultProven { fault, receipt, node, reporter } => {
                money.proven.push(Proven { fault: *fault, receipt: *receipt, node: *node, reporter: *reporter });
            }
            Event::ReceiptVoided { receipt, .. } => {
                money.voided.insert(*receipt, logged.time);
            }
            Event::BondTaken { to_reporter, burned, .. } => {
                add(&mut money.bonds_taken, *to_reporter);
                add(&mut money.bonds_taken, *burned);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn apply_credit(&mut self, logged: &Logged, unknown: impl Fn(String) -> ViewError) -> Result<(), ViewError> {
        let money = &mut self.money;
        match &logged.event {
            Event::SignerSet { payer, signer, cap, expiry } => {
                money.sessions.insert((*payer, *signer), Session { cap: *cap, expiry: *expiry, revoked_at: None });
            }
            Event::SignerRevoked { payer, signer, revoked_at } => {
                let session = money.sessions.get_mut(&(*payer, *signer)).ok_or_else(|| unknown(format!("signer {signer} of {payer}")))?;
                session.revoked_at = Some(*revoked_at);
            }
            Event::CreditClaimed { lane, request, node, payer, amount, settle_from } => {
                let claim = CreditClaim {
                    node: *node,
                    payer: *payer,
                    left: *amount,
                    paid: Amount::ZERO,
                    settle_from: *settle_from,
                    state: CreditState::Open,
                };
                money.credits.insert((*lane, *request), claim);
            }
            Event::CreditPaid { lane, request, amount } => {
                let claim =
                    money.credits.get_mut(&(*lane, *request)).ok_or_else(|| unknown(format!("the credit claim of request {request}")))?;
                add(&mut claim.paid, *amount);
                (claim.left, claim.state) = (Amount::ZERO, CreditState::Settled);
            }
            Event::CreditSettled { lane, request, paid, left } => {
                let claim =
                    money.credits.get_mut(&(*lane, *request)).ok_or_else(|| unknown(format!("the credit claim of request {request}")))?;
                add(&mut claim.paid, *paid);
                claim.left = *left;
                claim.state = if *left == Amount::ZERO { CreditState::Settled } else { CreditState::Open };
            }
            Event::RefundRequested { lane, payer, node, epoch, given_back } => {
                money.refunds.insert(*lane, RefundDue { epoch: *epoch, payer: *payer, node: *node, given_back: *given_back });
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn apply_challenge(&mut self, logged: &Logged, unknown: impl Fn(String) -> ViewError) -> Result<(), ViewError> {
        let challenges = &mut self.money.challenges;
        let mut open = |id: &Hash32, deadline: &u64, of: ChallengeOf, challenger: Option<Address>| {
            challenges.insert(*id, Challenge { of, challenger, deadline: *deadline, shown: 0, is_closed: false });
        };
        match &logged.event {
            Event::ReceiptsChallenged { id, epoch, node, first, count, deadline } => {
                open(id, deadline, ChallengeOf::Receipts { epoch: *epoch, node: *node, first: *first, count: *count }, None);
            }
            // What nobody asked for belongs to no challenge.
            Event::ReceiptShown { id, index } => {
                if let Some(challenge) = challenges.get_mut(id)
                    && let ChallengeOf::Receipts { first, count, .. } = challenge.of
                {
                    challenge.shown = index.saturating_sub(first).saturating_add(1);
                    challenge.is_closed = challenge.shown >= count;
                }
            }
            Event::RequestChallenged { id, receipt, node, request, deadline } => {
                open(id, deadline, ChallengeOf::Request { receipt: *receipt, node: *node, request: request.clone() }, None);
            }
            Event::PayoutChallenged { id, epoch, account, index, challenger, deadline } => {
                let of = match account {
                    None => ChallengeOf::Leaf { epoch: *epoch, index: *index },
                    Some(account) => ChallengeOf::Part { epoch: *epoch, account: *account, index: *index },
                };
                open(id, deadline, of, Some(*challenger));
            }
            Event::ChallengeAnswered { id } => {
                challenges.get_mut(id).ok_or_else(|| unknown(format!("challenge {id}")))?.is_closed = true;
            }
            Event::Unanswered { id, .. } => {
                let challenge = challenges.get_mut(id).ok_or_else(|| unknown(format!("challenge {id}")))?;
                challenge.is_closed = true;
                if let ChallengeOf::Receipts { epoch, node, .. } = challenge.of {
                    self.money.withheld.entry((epoch, node)).or_insert(logged.time);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn apply_pool(&mut self, event: &Event) {
        let money = &mut self.money;
        match event {
            Event::RewardsReceived { amount } => add(&mut money.rewards_received, *amount),
            Event::RewardsClaimed { account, amount } => add(money.rewards_claimed.entry(*account).or_default(), *amount),
            Event::Insured { amount } => add(&mut money.insured, *amount),
            Event::Covered { paid } => take(&mut money.insured, *paid),
            Event::RentPrepaid { datanet, amount } => add(&mut money.rents.entry(*datanet).or_default().prepaid, *amount),
            Event::RentAccrued { datanet, amount } => {
                let rent = money.rents.entry(*datanet).or_default();
                take(&mut rent.prepaid, *amount);
                add(&mut rent.accrued, *amount);
                rent.leaving = rent.leaving.min(rent.prepaid);
            }
            Event::RentWithdrawRequested { datanet, amount, leaves_at } => {
                let rent = money.rents.entry(*datanet).or_default();
                (rent.leaving, rent.leaves_at) = (*amount, *leaves_at);
            }
            Event::RentWithdrawn { datanet, amount } => {
                let rent = money.rents.entry(*datanet).or_default();
                take(&mut rent.prepaid, *amount);
                (rent.leaving, rent.leaves_at) = (Amount::ZERO, 0);
            }
            Event::RentPaid { datanet, amount } => take(&mut money.rents.entry(*datanet).or_default().accrued, *amount),
            Event::RentGivenBack { datanet, amount } => {
                let rent = money.rents.entry(*datanet).or_default();
                take(&mut rent.accrued, *amount);
                add(&mut rent.prepaid, *amount);
            }
            Event::RentPriceSet { price, from } => money.rent_price = Some((*price, *from)),
            _ => {}
        }
    }

    /// What is known of a lane that was collected.
    pub fn lane(&self, lane: Hash32) -> Option<&LaneBooks> {
        self.money.lanes.get(&lane)
    }

    /// The body of a lane that was collected: what `release` needs for a slash with a victim.
    pub fn lane_body(&self, lane: Hash32) -> Option<Lane> {
        self.money.bodies.get(&lane).copied()
    }

    /// Every lane that was collected, by its id.
    pub fn lane_bodies(&self) -> impl Iterator<Item = (Hash32, &Lane)> {
        self.money.bodies.iter().map(|(id, lane)| (*id, lane))
    }

    /// Collected on a lane.
    pub fn lane_collected(&self, lane: Hash32) -> Amount {
        self.lane(lane).map_or(Amount::ZERO, LaneBooks::collected)
    }

    /// Collected in all.
    pub const fn collected(&self) -> Amount {
        self.money.collected
    }

    /// A key that a payer lets sign.
    pub fn session(&self, payer: Address, signer: Address) -> Option<Session> {
        self.money.sessions.get(&(payer, signer)).copied()
    }

    /// The claim on a credit note.
    pub fn credit(&self, lane: Hash32, request: Hash32) -> Option<CreditClaim> {
        self.money.credits.get(&(lane, request)).copied()
    }

    /// All credit claims, by lane and request.
    pub fn credits(&self) -> impl Iterator<Item = (Hash32, Hash32, CreditClaim)> {
        self.money.credits.iter().map(|((lane, request), claim)| (*lane, *request, *claim))
    }

    /// A lane's refund, if it was asked for.
    pub fn refund(&self, lane: Hash32) -> Option<RefundDue> {
        self.money.refunds.get(&lane).copied()
    }

    /// The refunds that are due in the payout of an epoch, by lane, each with what the lane had collected. The amount is that less what was given back
    /// before and less the highest cumulative amount, up to that, of the lane's receipts that were not out.
    pub fn refunds_due(&self, epoch: u64) -> impl Iterator<Item = (Hash32, RefundDue, Amount)> {
        let due = self.money.refunds.iter().filter(move |(_, due)| due.epoch == epoch);
        due.map(|(lane, due)| (*lane, *due, self.lane_collected(*lane)))
    }

    /// When a receipt became void.
    pub fn voided_at(&self, receipt: Hash32) -> Option<u64> {
        self.money.voided.get(&receipt).copied()
    }

    /// When a node was found to withhold a receipt of an epoch.
    pub fn withheld_at(&self, epoch: u64, node: Address) -> Option<u64> {
        self.money.withheld.get(&(epoch, node)).copied()
    }

    /// Whether a receipt under a node's root of `epoch` has parts in the payout tree: not void and its node withholding nothing when W1 ended, and
    /// its lane collected by then as far as it says. What came later is not to be paid in this epoch and fails no tree that holds it.
    pub fn is_paid(&self, epoch: u64, node: Address, receipt: Hash32, lane: Hash32, cumulative_after: Amount) -> bool {
        !self.is_out(epoch, node, receipt) && self.is_collected(epoch, lane, cumulative_after)
    }

    /// Whether a receipt under a node's root of `epoch` was void, or its node found to withhold one, when W1 ended; or there is no such epoch.
    pub fn is_out(&self, epoch: u64, node: Address, receipt: Hash32) -> bool {
        let Some(due) = self.epoch(epoch).map(|epoch| epoch.payout_from) else { return true };
        let out = |at: Option<u64>| at.is_some_and(|at| at < due);
        out(self.voided_at(receipt)) || out(self.withheld_at(epoch, node))
    }

    /// Whether a span of a receipt had been proven false when W1 of `epoch` ended.
    pub fn is_span_out(&self, epoch: u64, receipt: Hash32, span: u16) -> bool {
        let Some(due) = self.epoch(epoch).map(|epoch| epoch.payout_from).filter(|_| !self.money.voided.is_empty()) else { return false };
        self.voided_at(keccak(&[&receipt.0, &span.to_be_bytes()])).is_some_and(|at| at < due)
    }

    /// Whether a lane had collected at least `cumulative_after` when W1 of `epoch` ended.
    pub fn is_collected(&self, epoch: u64, lane: Hash32, cumulative_after: Amount) -> bool {
        let Some(due) = self.epoch(epoch).map(|epoch| epoch.payout_from) else { return false };
        cumulative_after == Amount::ZERO || self.lane(lane).is_some_and(|lane| lane.collected_before(due) >= cumulative_after)
    }

    /// What a lane had collected when W1 of `epoch` ended, as the escrow knows it (`collectedBy`): nothing if the lane collected after W1 of a later epoch
    /// had ended, too, or more since than its books hold.
    pub fn collected_by(&self, lane: Hash32, epoch: u64) -> Option<Amount> {
        let due = self.epoch(epoch)?.payout_from;
        let Some(books) = self.lane(lane) else { return Some(Amount::ZERO) };
        let last = books.collects.last().map_or(0, |(at, _)| *at);
        if self.epoch(epoch.saturating_add(1)).is_some_and(|later| last >= later.payout_from) {
            return None;
        }
        let then = books.collected_before(due);
        let since = books.collected().0.saturating_sub(then.0);
        (since < (1 << 80) - 1).then_some(then)
    }

    /// All slashes, oldest first.
    pub fn slashes(&self) -> &[Slash] {
        &self.money.slashes
    }

    /// All proofs that verifiers accepted, oldest first.
    pub fn proven(&self) -> &[Proven] {
        &self.money.proven
    }

    /// A challenge by its id.
    pub fn challenge(&self, id: Hash32) -> Option<&Challenge> {
        self.money.challenges.get(&id)
    }

    /// All challenges, by id.
    pub fn challenges(&self) -> impl Iterator<Item = (Hash32, &Challenge)> {
        self.money.challenges.iter().map(|(id, challenge)| (*id, challenge))
    }

    /// Challenges that wait for an answer or a settlement, by id.
    pub fn open_challenges(&self) -> impl Iterator<Item = (Hash32, &Challenge)> {
        self.money.challenges.iter().filter(|(_, challenge)| !challenge.is_closed).map(|(id, challenge)| (*id, challenge))
    }

    /// What a contract keeps for a payee that did not take it. Those of challenges are never lowered: their contract does not say when they leave.
    pub fn owed(&self, by: Custody, payee: Address) -> Amount {
        self.money.owed.get(&(by, payee)).copied().unwrap_or_default()
    }

    /// Stake that was taken from an account for debts.
    pub fn debited(&self, account: Address) -> Amount {
        self.money.debits.get(&account).copied().unwrap_or_default()
    }

    /// Stake of an account that claimed credit notes may take: it covers no new fees.
    pub fn pledged(&self, account: Address) -> Amount {
        self.money.pledges.get(&account).copied().unwrap_or_default()
    }

    /// Posters' bonds that were taken, in all.
    pub const fn bonds_taken(&self) -> Amount {
        self.money.bonds_taken
    }

    /// A Datanet's rent.
    pub fn rent(&self, datanet: AssetId) -> Rent {
        self.money.rents.get(&datanet).copied().unwrap_or_default()
    }

    /// The last announced price of rent, in wei per GiB and epoch, and since when it holds.
    pub const fn rent_price(&self) -> Option<(Amount, u64)> {
        self.money.rent_price
    }

    /// What the vault of the stakers' share received.
    pub const fn rewards_received(&self) -> Amount {
        self.money.rewards_received
    }

    /// What a staker took out of it.
    pub fn rewards_claimed(&self, account: Address) -> Amount {
        self.money.rewards_claimed.get(&account).copied().unwrap_or_default()
    }

    /// What the insurance pool holds.
    pub const fn insured(&self) -> Amount {
        self.money.insured
    }
}
