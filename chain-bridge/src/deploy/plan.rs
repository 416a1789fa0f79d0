//! What a deployment sends, in which order, and where everything will stand.

use std::{fs, io::Read as _, path::Path};

use alloy::{
    primitives::{Bytes, aliases::U96},
    sol_types::{SolCall, SolConstructor},
};
use serde::{Deserialize, Serialize};
use types::{amount::Amount, id::Address};

use super::{DeployConfig, Deployment, FILE_BYTES_MAX, FileError, check, replace};
use crate::{
    bindings::{
        AnswerVerifier, AssetRegistry, AuditCase, AuditRent, BillingVerifier, CheckBoard, DatanetRent, DatanetTreasury, Erasures,
        FraudVerifier, IndexVerifier, InferenceEscrow, InsurancePool, MaskVerifier, PayoutVerifier, ReceiptChallenge, RewardsVault,
        Settlement, SpanVerifier, StakeManager, WordRanges,
    },
    chain::{Call, error::ChainError, rpc::Rpc},
    convert::{account, address},
};

/// Where the suite will stand if `deployer` sends [`calls`] with consecutive nonces from `first_nonce` on.
pub fn plan(chain_id: u64, block: u64, deployer: Address, first_nonce: u64, config: DeployConfig) -> Deployment {
    let at = |place: u64| account(address(deployer).create(first_nonce + place));
    Deployment {
        chain_id,
        block,
        deployer,
        stake: at(0),
        insurance: at(1),
        rewards: at(2),
        settlement: at(3),
        escrow: at(4),
        registry: at(5),
        rent: at(6),
        fraud: at(7),
        billing: at(8),
        challenge: at(9),
        payout: at(10),
        treasury: at(11),
        audits: at(12),
        erasures: at(13),
        cases: at(14),
        words: at(15),
        spans: at(16),
        answers: at(17),
        masks: at(18),
        indexes: at(19),
        checks: at(20),
        config,
    }
}

/// The transactions of a deployment, in order, each with its name.
pub fn calls(deployment: &Deployment) -> Vec<(&'static str, Call)> {
    let mut calls = creations(deployment);
    calls.extend(introductions(deployment));
    calls
}

/// A deployment under way. Kept in a file until it is done, it is gone on with after a kill: what stands is not sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The deployer's nonce of the first transaction; the others follow without a gap.
    pub first_nonce: u64,
    /// Where everything will stand.
    pub deployment: Deployment,
}

impl Plan {
    /// A deployment that starts with the deployer's next transaction.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Argument`] for values that the constructors would refuse, or with which epochs would stall.
    pub async fn new(rpc: &Rpc, deployer: Address, config: DeployConfig) -> Result<Self, ChainError> {
        check::liveness(&config)?;
        Self::at_next(rpc, deployer, config).await
    }

    /// The same for windows as short as those of a development chain, whose few epochs never catch up with one another.
    pub(super) async fn at_next(rpc: &Rpc, deployer: Address, config: DeployConfig) -> Result<Self, ChainError> {
        check::constructors(&config)?;
        let block = rpc.latest().await?.block.number;
        let first_nonce = rpc.nonce(deployer, true).await?;
        Ok(Self { first_nonce, deployment: plan(rpc.chain_id(), block, deployer, first_nonce, config) })
    }

    /// Reads the file of a deployment under way; nothing if there is none.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn read(path: &Path) -> Result<Option<Self>, FileError> {
        let failed = |why: String| FileError { path: path.display().to_string(), why };
        let mut text = Vec::new();
        match fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text)) {
            Ok(_) => {
                let read = serde_json::from_slice(&text).map(Some);
                read.map_err(|error| failed(format!("not a deployment under way: {error}{}", super::advice(&error))))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Writes that file, whole or not at all.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(self).expect("plain data serialises");
        replace(path, text.as_bytes()).map_err(|error| FileError { path: path.display().to_string(), why: error.to_string() })
    }
}

fn u96(amount: Amount) -> U96 {
    U96::saturating_from(amount.0)
}

/// The contracts' creations, in order: the same as [`Deployment::contracts`].
pub(super) fn creations(deployment: &Deployment) -> Vec<(&'static str, Call)> {
    let c = &deployment.config;
    let (stake, settlement, registry) = (address(deployment.stake), address(deployment.settlement), address(deployment.registry));
    let stakes = StakeManager::constructorCall {
        unbondingSeconds_: c.unbonding_s,
        slashDelay_: c.slash_delay_s,
        minStake_: c.stake_min.0,
        minPosterStake_: c.poster_stake_min.0,
        minIndexerStake_: c.indexer_stake_min.0,
    };
    let books = Settlement::constructorCall {
        w1_: c.w1_s,
        w2_: c.w2_s,
        epochMinSeconds_: c.epoch_min_s,
        fallbackSeconds_: c.fallback_s,
        posterBond_: u96(c.poster_bond),
        stakeManager_: stake,
        protocol_: address(c.protocol),
        insurance_: address(deployment.insurance),
        stakers_: address(deployment.rewards),
        datanetTreasury_: address(deployment.treasury),
    };
    let escrow = InferenceEscrow::constructorCall {
        settlement_: settlement,
        stakeManager_: stake,
        thawSeconds_: c.thaw_s,
        honourSeconds_: c.honour_s,
    };
    let assets = AssetRegistry::constructorCall {
        governor_: address(c.governor),
        stakeManager_: stake,
        treasuries_: settlement,
        indexWindow_: c.index_window_s,
        minDataBps_: c.min_data_bps,
    };
    let rent = DatanetRent::constructorCall {
        registry_: registry,
        settlement_: settlement,
        governor_: address(c.governor),
        delaySeconds_: c.rent_delay_s,
        price_: u96(c.rent_price),
    };
    let fraud = FraudVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        graceBlocks_: c.grace_blocks,
        maxAgeBlocks_: c.max_age_blocks,
    };
    let billing = BillingVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        registry_: registry,
        graceBlocks_: c.grace_blocks,
    };
    let challenge = ReceiptChallenge::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        escrow_: address(deployment.escrow),
        bond_: c.challenge_bond.0,
        answerSeconds_: c.answer_s,
        payoutAnswerSeconds_: c.payout_answer_s,
    };
    let payout = PayoutVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        registry_: registry,
        escrow_: address(deployment.escrow),
        challenges_: address(deployment.challenge),
        maxAgeBlocks_: c.max_age_blocks,
    };
    let treasury = DatanetTreasury::constructorCall { registry_: registry, settlement_: settlement, delaySeconds_: c.treasury_delay_s };
    let audits =
        AuditRent::constructorCall { stakeManager_: stake, settlement_: settlement, rent_: address(deployment.rent), registry_: registry };
    let cases = AuditCase::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        registry_: registry,
        erasures_: address(deployment.erasures),
        bond_: c.case_bond.0,
        answerSeconds_: c.case_answer_s,
        ageBlocks_: c.case_age_blocks,
        blockSeconds_: c.block_s,
    };
    let spans = SpanVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        registry_: registry,
        ranges_: address(deployment.words),
    };
    let answers = AnswerVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        registry_: registry,
        ranges_: address(deployment.words),
    };
    let masks = MaskVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        registry_: registry,
        ranges_: address(deployment.words),
    };
    let indexes = IndexVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        registry_: registry,
        erasures_: address(deployment.erasures),
        ranges_: address(deployment.words),
    };
    let checks = CheckBoard::constructorCall { stakeManager_: stake, settlement_: settlement };
    vec![
        ("StakeManager", create(&StakeManager::BYTECODE, stakes.abi_encode())),
        ("InsurancePool", create(&InsurancePool::BYTECODE, InsurancePool::constructorCall { stakeManager_: stake }.abi_encode())),
        ("RewardsVault", create(&RewardsVault::BYTECODE, RewardsVault::constructorCall { stakeManager_: stake }.abi_encode())),
        ("Settlement", create(&Settlement::BYTECODE, books.abi_encode())),
        ("InferenceEscrow", create(&InferenceEscrow::BYTECODE, escrow.abi_encode())),
        ("AssetRegistry", create(&AssetRegistry::BYTECODE, assets.abi_encode())),
        ("DatanetRent", create(&DatanetRent::BYTECODE, rent.abi_encode())),
        ("FraudVerifier", create(&FraudVerifier::BYTECODE, fraud.abi_encode())),
        ("BillingVerifier", create(&BillingVerifier::BYTECODE, billing.abi_encode())),
        ("ReceiptChallenge", create(&ReceiptChallenge::BYTECODE, challenge.abi_encode())),
        ("PayoutVerifier", create(&PayoutVerifier::BYTECODE, payout.abi_encode())),
        ("DatanetTreasury", create(&DatanetTreasury::BYTECODE, treasury.abi_encode())),
        ("AuditRent", create(&AuditRent::BYTECODE, audits.abi_encode())),
        ("Erasures", create(&Erasures::BYTECODE, Erasures::constructorCall { registry_: registry }.abi_encode())),
        ("AuditCase", create(&AuditCase::BYTECODE, cases.abi_encode())),
        ("WordRanges", create(&WordRanges::BYTECODE, WordRanges::constructorCall {}.abi_encode())),
        ("SpanVerifier", create(&SpanVerifier::BYTECODE, spans.abi_encode())),
        ("AnswerVerifier", create(&AnswerVerifier::BYTECODE, answers.abi_encode())),
        ("MaskVerifier", create(&MaskVerifier::BYTECODE, masks.abi_encode())),
        ("IndexVerifier", create(&IndexVerifier::BYTECODE, indexes.abi_encode())),
        ("CheckBoard", create(&CheckBoard::BYTECODE, checks.abi_encode())),
    ]
}

/// The verifiers that may slash.
pub(super) fn verifiers(deployment: &Deployment) -> Vec<Address> {
    let of_bills = [deployment.fraud, deployment.billing, deployment.challenge, deployment.payout, deployment.cases];
    let of_attribution = [deployment.spans, deployment.answers, deployment.masks, deployment.indexes];
    [&of_bills[..], &of_attribution].concat()
}

/// The calls by which StakeManager and DatanetRent learn of those that stand after them.
fn introductions(deployment: &Deployment) -> [(&'static str, Call); 3] {
    let peers = StakeManager::setPeersCall {
        insurance_: address(deployment.insurance),
        rewards_: address(deployment.rewards),
        creditDesk_: address(deployment.escrow),
    };
    let named = StakeManager::setVerifiersCall { verifiers: verifiers(deployment).into_iter().map(address).collect() };
    let auditor = DatanetRent::setAuditorCall { auditor_: address(deployment.audits) };
    let call = |to, data| Call { to: Some(to), data, value: Amount::ZERO };
    [
        ("setPeers", call(deployment.stake, peers.abi_encode())),
        ("setVerifiers", call(deployment.stake, named.abi_encode())),
        ("setAuditor", call(deployment.rent, auditor.abi_encode())),
    ]
}

fn create(code: &Bytes, arguments: Vec<u8>) -> Call {
    Call { to: None, data: [code.as_ref(), &arguments].concat(), value: Amount::ZERO }
}
