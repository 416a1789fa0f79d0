//! Puts the contract suite on a chain, remembers where, and checks that it stands there.
//!
//! Twenty-four transactions in consecutive nonces, sent without waiting for one another: about three blocks. The addresses follow from deployer and nonce,
//! so each constructor names contracts that stand before it in the queue, and Settlement's the treasury that comes after it. What was deployed is compared byte for byte with what the embedded
//! artifacts give for the file's constructor values, immutables included: the creation code is run by `eth_call`, which returns the runtime code.

mod check;
mod plan;
mod send;
mod verify;

use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Address,
    key::Domains,
};

pub use self::{
    check::check_pace,
    plan::{Plan, calls, plan},
    send::deploy,
    verify::{Governors, governors, source_hashes, verify_code, verify_contract, verify_deployment},
};

/// Largest `registry.json` read; one holds about a kilobyte.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What the constructors are given. Times are seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployConfig {
    /// Window in which faults are proven, from an epoch's opening until its payout.
    pub w1_s: u64,
    /// Window between a payout and its finality.
    pub w2_s: u64,
    /// Least time between two epochs.
    pub epoch_min_s: u64,
    /// From when a payout is due until anybody may post it against the bond.
    pub fallback_s: u64,
    /// What a poster without the role attaches; below 2^96 wei.
    pub poster_bond: Amount,
    /// Least data row of a split table, in basis points.
    pub min_data_bps: u16,
    /// Wait of unbonding stake; longer than both windows.
    pub unbonding_s: u64,
    /// Wait between a slash and its division.
    pub slash_delay_s: u64,
    /// Least stake of a node.
    pub stake_min: Amount,
    /// Least stake of a poster, on top of what its other roles demand.
    pub poster_stake_min: Amount,
    /// Least stake of an indexer, on top of what its other roles demand.
    pub indexer_stake_min: Amount,
    /// Wait of a withdrawal from the escrow.
    pub thaw_s: u64,
    /// In which a node can pay a claimed credit note before its stake does; no less than `unbonding_s`.
    pub honour_s: u64,
    /// Window in which an index root may be challenged.
    pub index_window_s: u64,
    /// Wait of a rise of the rent, and of unspent rent that its owner takes back.
    pub rent_delay_s: u64,
    /// Wait of an accepted contribution until it shares in what its Datanet earns, and of a Datanet's first division.
    pub treasury_delay_s: u64,
    /// Rent in wei per GiB and epoch; below 2^96.
    pub rent_price: Amount,
    /// Blocks that a receipt may name beyond its node root's, and after a freeze.
    pub grace_blocks: u64,
    /// Blocks that a receipt may lie behind its node root; refunds wait as long after a lane's expiry.
    pub max_age_blocks: u64,
    /// Bond of a challenge, for each receipt: the most that its challenger pays for an answer.
    pub challenge_bond: Amount,
    /// In which a node answers a challenge.
    pub answer_s: u64,
    /// In which a poster does: its tree may be asked for level by level within W2.
    pub payout_answer_s: u64,
    /// Bond of a slash case: the most that its opener pays for the answer.
    pub case_bond: Amount,
    /// Before a slash case may be closed without an answer.
    pub case_answer_s: u64,
    /// Blocks after its own in which a commitment to holdings may open a case; with `case_answer_s` shorter than stake takes to unbond.
    pub case_age_blocks: u64,
    /// Seconds between two blocks of the chain, at most.
    pub block_s: u64,
    /// Takes the protocol's constant.
    pub protocol: Address,
    /// Approves parameters, sets the rent.
    pub governor: Address,
}

impl DeployConfig {
    /// Values for a network that people rely on: windows of a day and six hours, 14 days of unbonding, seven of thaw and of a slash's delay.
    pub const fn standard(protocol: Address, governor: Address) -> Self {
        const HOUR: u64 = 3_600;
        Self {
            w1_s: 24 * HOUR,
            w2_s: 6 * HOUR,
            epoch_min_s: 8 * HOUR,
            fallback_s: HOUR,
            poster_bond: Amount(5 * WEI_PER_OPEN),
            min_data_bps: 1_000,
            unbonding_s: 14 * 24 * HOUR,
            slash_delay_s: 7 * 24 * HOUR,
            stake_min: Amount(10 * WEI_PER_OPEN),
            poster_stake_min: Amount(5 * WEI_PER_OPEN),
            indexer_stake_min: Amount(WEI_PER_OPEN),
            thaw_s: 7 * 24 * HOUR,
            honour_s: 14 * 24 * HOUR,
            index_window_s: 24 * HOUR,
            rent_delay_s: 7 * 24 * HOUR,
            treasury_delay_s: 7 * 24 * HOUR,
            rent_price: Amount(WEI_PER_OPEN),
            grace_blocks: 16,
            // A day of two-second blocks: an epoch with its time for node roots takes two thirds of it.
            max_age_blocks: 43_200,
            // Who shows a receipt is given half of what it cost, at most this: three times the 151,114 gas of one shown alone, at 1 gwei.
            challenge_bond: Amount(WEI_PER_OPEN / 2_000),
            // Twice that is left of every window in which a challenge may be opened.
            answer_s: 2 * HOUR,
            // A 40th of W2: 36 questions one after the other, for a tree of 2^20 accounts and 2^16 parts of one of them, and 45 s to ask each.
            payout_answer_s: 540,
            // Ten times half of the 92,693 gas of an answer, at 1 gwei.
            case_bond: Amount(WEI_PER_OPEN / 2_000),
            // A long weekend: to notice, and to rebuild a fragment.
            case_answer_s: 72 * HOUR,
            // Four days of two-second blocks: an epoch of the network's audits, its outcome, and three days to ask. With the time to answer half of `unbonding_s`.
            case_age_blocks: 172_800,
            // Chains of the OP stack.
            block_s: 2,
            protocol,
            governor,
        }
    }
}

/// Where the suite stands: the content of `registry.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Chain id.
    pub chain_id: u64,
    /// Block before the first contract: events are read from the next on.
    pub block: u64,
    /// Who deployed; also the sender that reads name.
    pub deployer: Address,
    /// `StakeManager`.
    pub stake: Address,
    /// `InsurancePool`: takes data pots of answers without a weighed word.
    pub insurance: Address,
    /// `RewardsVault`: takes the stakers' share.
    pub rewards: Address,
    /// `Settlement`.
    pub settlement: Address,
    /// `InferenceEscrow`.
    pub escrow: Address,
    /// `AssetRegistry`.
    pub registry: Address,
    /// `DatanetRent`.
    pub rent: Address,
    /// `FraudVerifier`.
    pub fraud: Address,
    /// `BillingVerifier`.
    pub billing: Address,
    /// `ReceiptChallenge`.
    pub challenge: Address,
    /// `PayoutVerifier`.
    pub payout: Address,
    /// `DatanetTreasury`: divides what the treasuries of Datanets earn over who contributed.
    pub treasury: Address,
    /// `AuditRent`: says who audits whom, and who is paid rent for audits that it passed.
    pub audits: Address,
    /// `Erasures`: keeps which contributions are to be erased.
    pub erasures: Address,
    /// `AuditCase`: asks nodes for the bytes that they signed for, and has those slashed that do not show them.
    pub cases: Address,
    /// `WordRanges`: the word characters of Unicode, as code that is only read.
    pub words: Address,
    /// `SpanVerifier`: takes proofs of omitted spans and wrong payees.
    pub spans: Address,
    /// `AnswerVerifier`: takes proofs of spans that no rule allows, and of false weights.
    pub answers: Address,
    /// `MaskVerifier`: takes proofs of false and missing masks.
    pub masks: Address,
    /// `IndexVerifier`: takes proofs against the indexer of a version.
    pub indexes: Address,
    /// `CheckBoard`: keeps the beacon that draws receipts for checks, and what checkers sealed and showed.
    pub checks: Address,
    /// Constructor values.
    pub config: DeployConfig,
}

impl Deployment {
    /// What signatures name.
    pub const fn domains(&self) -> Domains {
        Domains { chain_id: self.chain_id, escrow: self.escrow, registry: self.registry, settlement: self.settlement, stake: self.stake }
    }

    /// Each contract with its address, in the order of deployment.
    pub fn contracts(&self) -> Vec<(&'static str, Address)> {
        vec![
            ("StakeManager", self.stake),
            ("InsurancePool", self.insurance),
            ("RewardsVault", self.rewards),
            ("Settlement", self.settlement),
            ("InferenceEscrow", self.escrow),
            ("AssetRegistry", self.registry),
            ("DatanetRent", self.rent),
            ("FraudVerifier", self.fraud),
            ("BillingVerifier", self.billing),
            ("ReceiptChallenge", self.challenge),
            ("PayoutVerifier", self.payout),
            ("DatanetTreasury", self.treasury),
            ("AuditRent", self.audits),
            ("Erasures", self.erasures),
            ("AuditCase", self.cases),
            ("WordRanges", self.words),
            ("SpanVerifier", self.spans),
            ("AnswerVerifier", self.answers),
            ("MaskVerifier", self.masks),
            ("IndexVerifier", self.indexes),
            ("CheckBoard", self.checks),
        ]
    }

    /// Reads `registry.json`.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let name = || path.display().to_string();
        let mut text = String::new();
        let read = fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
        read.map_err(|error| FileError { path: name(), why: error.to_string() })?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(FileError { path: name(), why: format!("not a deployment: more than {FILE_BYTES_MAX} bytes") });
        }
        serde_json::from_str(&text).map_err(|error| FileError { path: name(), why: format!("not a deployment: {error}{}", advice(&error)) })
    }

    /// Writes `registry.json`, whole or not at all.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(self).expect("plain data serialises");
        replace(path, text.as_bytes()).map_err(|error| FileError { path: path.display().to_string(), why: error.to_string() })
    }
}

/// What to do about a file that lacks a field: a program that knew of fewer contracts wrote it, and what it names does not take this one's proofs.
fn advice(error: &serde_json::Error) -> &'static str {
    if error.to_string().starts_with("missing field") {
        "; it is of an earlier suite, which this program cannot use: deploy the present one, or get its file from who did"
    } else {
        ""
    }
}

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct FileError {
    path: String,
    why: String,
}

/// Writes a file beside its place and moves it there, so that a crash leaves the old or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The new name too must survive a power cut: what is signed next counts on it.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::File::open(folder)?.sync_all()
}
