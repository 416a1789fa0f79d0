//! The books of money beside deposits and epochs: lanes, credit claims, refunds, slashes, void receipts, challenges, pools, rent.
//!
//! What a poster's tree must hold follows from here and the receipts: which receipt is void and since when, what a lane had collected when W1
//! ended, which refunds are due. Times are the sequencer's, in seconds since 1970.

mod reading;
mod records;

use std::collections::BTreeMap;

use types::{
    amount::Amount,
    id::{Address, AssetId, Hash32},
    voucher::Lane,
};

pub use records::{
    Challenge, ChallengeOf, CreditClaim, CreditState, Division, LaneBooks, Overturned, Proven, RefundDue, Rent, Session, Slash,
};

use super::{
    State, ViewError,
    event::{Custody, Event, Logged},
};

/// Role bit: answers clients and submits node roots.
pub const ROLE_NODE: u8 = 1;
/// Role bit: posts payout trees.
pub const ROLE_POSTER: u8 = 2;
/// Role bit: posts index roots.
pub const ROLE_INDEXER: u8 = 4;

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
}
