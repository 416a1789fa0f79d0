//! Questions about money that a node asks of the books.

use types::{
    amount::Amount,
    id::{Address, AssetId, Hash32},
    merkle::keccak,
    voucher::Lane,
};

use super::{Challenge, CreditClaim, Custody, LaneBooks, Proven, RefundDue, Rent, Session, Slash, State};

impl State {
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
