//! What the books say of money.

use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use crate::registry::event::Fault;

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
