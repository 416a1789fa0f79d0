//! The suite's events as plain data, each with its place on the chain.

use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32, NodeId},
    manifest::AssetKind,
    split::SplitTable,
    time::BlockRef,
    voucher::Lane,
};

use crate::case::Asked;

/// An event and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its block.
    pub block: BlockRef,
    /// Place among the block's logs.
    pub log: u32,
    /// Its transaction.
    pub transaction: Hash32,
    /// Time of its block, seconds since 1970 by the sequencer.
    pub time: u64,
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
    /// A frozen version's place is taken by another one.
    Redirected { asset: AssetId, from: u32, to: u32 },
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
    /// A node was asked for a leaf of a fragment that it signed for in block `signed_at`.
    CaseOpened { id: Hash32, opener: Address, asked: Asked, object: BlobId, fragment: u8, fragments: u8, signed_at: u64, deadline: u64 },
    /// The leaf was shown.
    CaseAnswered { id: Hash32, by: Address },
    /// Nobody showed it, or nobody needs to any more.
    CaseClosed { id: Hash32, node: Address, is_convicted: bool },
    /// Who made a contribution, or owns its Datanet, asks that it be erased.
    Erased { datanet: AssetId, number: u64, by: Address, object: BlobId, reason: Hash32 },
    /// An index root was posted.
    IndexPosted { version: AssetVersion, root: Hash32, parameters: u32, indexer: Address, window_ends: u64 },
    /// An index root was proven wrong; `is_marked` if its window had not ended.
    IndexRefuted { version: AssetVersion, root: Hash32, indexer: Address, mode: u8, is_marked: bool, reporter: Address },
    /// Attribution parameters were approved.
    ParametersApproved { parameters: u32, hash: Hash32 },
    /// The least data row changed.
    DataRowMinSet { bps: u16 },
    /// An operator registered or restarted its node.
    NodeRegistered { account: Address, node: NodeId, incarnation: u64, payout: Address, stake: Amount },
    /// An operator's stake changed.
    StakeChanged { account: Address, active: Amount, unbonding: Amount, unbonded_at: u64 },
    /// An operator's roles changed.
    RolesChanged { account: Address, roles: u8 },
    /// Stake was taken for a fault, and waits to be divided.
    Slashed {
        fault: Hash32,
        account: Address,
        amount: Amount,
        victim: Address,
        victim_amount: Amount,
        lane: Hash32,
        reporter: Address,
        release_at: u64,
        number: u8,
    },
    /// A slash was divided.
    SlashReleased { fault: Hash32, to_victim: Amount, covered: Amount, to_reporter: Amount, burned: Amount, insured: Amount },
    /// Stake was taken for a debt.
    Debited { account: Address, payer: Address, amount: Amount },
    /// So much of an account's stake is promised to payers by notes that they claimed.
    Pledged { account: Address, pledged: Amount },
    /// A payment that its payee did not take is kept for it.
    Credited { by: Custody, payee: Address, amount: Amount },
    /// A payee took what was kept for it.
    OwedWithdrawn { by: Custody, payee: Address, amount: Amount },
    /// Money came into the escrow.
    Deposited { payer: Address, amount: Amount },
    /// A payer asked to withdraw.
    WithdrawRequested { payer: Address, amount: Amount, thawed_at: u64 },
    /// A payer withdrew.
    Withdrawn { payer: Address, amount: Amount },
    /// A lane was collected for the first time: its body, which nothing else on the chain tells.
    LaneOpened { lane: Lane },
    /// A voucher was collected.
    Collected { lane: Hash32, payer: Address, node: Address, amount: Amount, cumulative: Amount },
    /// A payer allowed a key to sign for it, or raised its bounds.
    SignerSet { payer: Address, signer: Address, cap: Amount, expiry: u64 },
    /// A payer ended a key.
    SignerRevoked { payer: Address, signer: Address, revoked_at: u64 },
    /// A credit note was claimed on the chain.
    CreditClaimed { lane: Hash32, request: Hash32, node: Address, payer: Address, amount: Amount, settle_from: u64 },
    /// A claimed note was shown to have been honoured.
    CreditPaid { lane: Hash32, request: Hash32, amount: Amount },
    /// A claimed note was paid out of stake, as far as it reached.
    CreditSettled { lane: Hash32, request: Hash32, paid: Amount, left: Amount },
    /// An epoch opened.
    EpochOpened { epoch: u64, opened_at: u64, accepts_until: u64, payout_from: u64 },
    /// A node submitted its receipts root.
    NodeRootSubmitted { epoch: u64, node: Address, receipts: Hash32, count: u64, fees: Amount, block: u64 },
    /// A payout tree was posted.
    PayoutPosted { epoch: u64, root: Hash32, total: Amount, previous: Hash32, poster: Address, final_at: u64, bond: Amount },
    /// A payout was proven wrong and taken back.
    PayoutOverturned { epoch: u64, root: Hash32, poster: Address, reporter: Address, fault: Hash32 },
    /// A poster got its bond back.
    BondReturned { epoch: u64, poster: Address, bond: Amount },
    /// A poster lost its bond.
    BondTaken { epoch: u64, poster: Address, reporter: Address, to_reporter: Amount, burned: Amount },
    /// A receipt is void.
    ReceiptVoided { receipt: Hash32, verifier: Address },
    /// An account claimed.
    Claimed { account: Address, epoch: u64, amount: Amount, cumulative: Amount },
    /// A verifier accepted a proof about a receipt.
    FaultProven { fault: Fault, receipt: Hash32, node: Address, reporter: Address },
    /// A lane's refund is due in the payout of an epoch.
    RefundRequested { lane: Hash32, payer: Address, node: Address, epoch: u64, given_back: Amount },
    /// A node was asked for receipts of its root.
    ReceiptsChallenged { id: Hash32, epoch: u64, node: Address, first: u64, count: u64, deadline: u64 },
    /// A receipt was shown, asked for or not.
    ReceiptShown { id: Hash32, index: u64 },
    /// A client's request was held against a receipt.
    RequestChallenged { id: Hash32, receipt: Hash32, node: Address, request: Vec<u8>, deadline: u64 },
    /// A poster was asked for a leaf of its payout tree, or for a part of the leaf of `account`.
    PayoutChallenged { id: Hash32, epoch: u64, account: Option<Address>, index: u64, challenger: Address, deadline: u64 },
    /// A challenge for something else was answered.
    ChallengeAnswered { id: Hash32 },
    /// A challenge was not answered in time.
    Unanswered { id: Hash32, accused: Address, challenger: Address },
    /// Money was divided among stakers, or waits for one.
    RewardsReceived { amount: Amount },
    /// A staker took its share.
    RewardsClaimed { account: Address, amount: Amount },
    /// Money came into the insurance pool.
    Insured { amount: Amount },
    /// The insurance pool covered a victim.
    Covered { paid: Amount },
    /// A Datanet's rent was prepaid.
    RentPrepaid { datanet: AssetId, amount: Amount },
    /// Rent accrued.
    RentAccrued { datanet: AssetId, amount: Amount },
    /// A Datanet's owner asked for unspent rent back.
    RentWithdrawRequested { datanet: AssetId, amount: Amount, leaves_at: u64 },
    /// A Datanet's owner took unspent rent back.
    RentWithdrawn { datanet: AssetId, amount: Amount },
    /// Accrued rent went to a node that passed its audit, or is kept for it.
    RentPaid { datanet: AssetId, amount: Amount },
    /// Accrued rent that nobody earned is prepaid again.
    RentGivenBack { datanet: AssetId, amount: Amount },
    /// The L1 block of an epoch's beacon for checks is noted.
    BeaconAnnounced { epoch: u64, origin: u64 },
    /// That beacon.
    BeaconStored { epoch: u64, beacon: Hash32 },
    /// A node sealed what it found in an epoch.
    ChecksCommitted { epoch: u64, checker: Address, root: Hash32, count: u64 },
    /// It showed what it had sealed.
    ChecksRevealed { epoch: u64, checker: Address, root: Hash32 },
    /// The price of rent, from a time on.
    RentPriceSet { price: Amount, from: u64 },
}

/// A contract that keeps what a payee could not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Custody {
    /// `StakeManager`.
    Stake,
    /// `Settlement`.
    Settlement,
    /// `ReceiptChallenge`.
    Challenge,
    /// `DatanetRent`.
    Rent,
    /// `AuditRent`.
    Audits,
    /// `AuditCase`.
    Cases,
}

/// What was proven about a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// F1: a false span.
    FalseSpan {
        /// Its number.
        span: u16,
        /// Code of [`crate::fraud::Mode`].
        mode: u8,
    },
    /// F2: it leaves out, or has less than, a run of the answer.
    Omission {
        /// First byte of the run.
        start: u32,
        /// Its bytes.
        length: u16,
    },
    /// F9: a span pays the wrong account.
    Payee {
        /// Its number.
        span: u16,
        /// 0: not its document's payee; 1: a later holder's.
        mode: u8,
    },
    /// F1, F10: a span that may not be there, or weighs something else.
    Ineligible {
        /// Its number.
        span: u16,
        /// Which rule (P7); 8 is its weight.
        mode: u8,
    },
    /// F10: what the answer's leaves, or the receipt, say of weights.
    Weight {
        /// Which of them (P7).
        mode: u8,
    },
    /// F11: a mask that is none, or a missing one.
    Mask {
        /// Which (P7).
        mode: u8,
    },
    /// F3: another receipt of the node contradicts it.
    Equivocation,
    /// F3: it stands twice in submitted trees.
    Repeat,
    /// F6: it takes from a lane what the lane does not promise.
    Lane,
    /// F5: the block it names does not fit its node root's.
    Block,
    /// F4 to F6: it breaks a rule.
    Rule(u8),
}
