//! Puts the contract suite on a chain and remembers where.
//!
//! Six transactions in consecutive nonces, sent without waiting for one another: two blocks. The addresses follow from deployer and nonce, so each
//! constructor names contracts that stand before it in the queue.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use alloy::{
    primitives::Bytes,
    sol_types::{SolCall, SolConstructor},
};
use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::Address,
    key::{Account, Domains},
};

use crate::{
    bindings::{AssetRegistry, FraudVerifier, InferenceEscrow, Settlement, StakeManager},
    chain::{Call, error::ChainError, rpc::Rpc},
    client::send::{Sender, Sent},
    convert::address,
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
    /// Least data row of a split table, in basis points.
    pub min_data_bps: u16,
    /// Wait of unbonding stake.
    pub unbonding_s: u64,
    /// Least stake of an operator.
    pub stake_min: Amount,
    /// Wait of a withdrawal from the escrow.
    pub thaw_s: u64,
    /// Window in which an index root may be challenged.
    pub index_window_s: u64,
    /// Takes the protocol's constant.
    pub protocol: Address,
    /// The insurance pool.
    pub insurance: Address,
    /// Takes the stakers' share.
    pub stakers: Address,
    /// Approves parameters.
    pub governor: Address,
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
    /// `InferenceEscrow`.
    pub escrow: Address,
    /// `AssetRegistry`.
    pub registry: Address,
    /// `Settlement`.
    pub settlement: Address,
    /// `StakeManager`.
    pub stake: Address,
    /// `FraudVerifier`.
    pub fraud: Address,
    /// Constructor values.
    pub config: DeployConfig,
}

impl Deployment {
    /// What signatures name.
    pub const fn domains(&self) -> Domains {
        Domains { chain_id: self.chain_id, escrow: self.escrow, registry: self.registry, settlement: self.settlement, stake: self.stake }
    }

    /// Each contract with its address.
    pub const fn contracts(&self) -> [(&'static str, Address); 5] {
        [
            ("StakeManager", self.stake),
            ("Settlement", self.settlement),
            ("InferenceEscrow", self.escrow),
            ("AssetRegistry", self.registry),
            ("FraudVerifier", self.fraud),
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
        serde_json::from_str(&text).map_err(|error| FileError { path: name(), why: format!("not a deployment: {error}") })
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
    fs::rename(&beside, path)
}

/// Deploys the suite with `deployer`'s money.
///
/// # Errors
/// [`ChainError`].
pub async fn deploy(rpc: &Rpc, deployer: &Account, config: DeployConfig) -> Result<Deployment, ChainError> {
    let sender = Sender::new(rpc.clone(), deployer.clone());
    let block = rpc.latest().await?.block.number;
    let first = rpc.nonce(deployer.address(), true).await?;
    let at = |place: u64| crate::convert::account(address(deployer.address()).create(first + place));
    let deployment = Deployment {
        chain_id: rpc.chain_id(),
        block,
        deployer: deployer.address(),
        stake: at(0),
        settlement: at(1),
        escrow: at(2),
        registry: at(3),
        fraud: at(4),
        config,
    };
    let calls = creations(&deployment);
    let mut sends = Vec::new();
    for (name, call) in calls {
        // In order: each waits for its nonce, none for its inclusion.
        sends.push((name, sender.hand_over(name, name, call, Some(CREATE_GAS)).await?));
    }
    for (name, hash) in sends {
        let sent: Sent = sender.await_inclusion(name, name, hash).await?;
        let expected = deployment.contracts().into_iter().find(|(contract, _)| *contract == name).map(|(_, address)| address);
        if expected.is_some() && sent.contract != expected {
            return Err(ChainError::Argument(format!(
                "{name} was created at {:?} instead of {expected:?}: the deployer's key is in use elsewhere, use one of its own",
                sent.contract
            )));
        }
    }
    verify_deployment(rpc, &deployment).await?;
    Ok(deployment)
}

/// Gas limit of each deployment transaction: the largest contract (23.7 kB) takes 5.3 million, the block 30.
const CREATE_GAS: u64 = 7_000_000;

/// The transactions of a deployment, in order.
fn creations(deployment: &Deployment) -> Vec<(&'static str, Call)> {
    let c = &deployment.config;
    let stake =
        StakeManager::constructorCall { unbondingSeconds_: c.unbonding_s, minStake_: c.stake_min.0, insurance_: address(c.insurance) };
    let settlement = Settlement::constructorCall {
        w1_: c.w1_s,
        w2_: c.w2_s,
        epochMinSeconds_: c.epoch_min_s,
        stakeManager_: address(deployment.stake),
        protocol_: address(c.protocol),
        insurance_: address(c.insurance),
        stakers_: address(c.stakers),
    };
    let escrow = InferenceEscrow::constructorCall { settlement_: address(deployment.settlement), thawSeconds_: c.thaw_s };
    let registry = AssetRegistry::constructorCall {
        governor_: address(c.governor),
        stakeManager_: address(deployment.stake),
        indexWindow_: c.index_window_s,
        minDataBps_: c.min_data_bps,
    };
    let fraud = FraudVerifier::constructorCall { stakeManager_: address(deployment.stake), settlement_: address(deployment.settlement) };
    let verifier = StakeManager::setVerifierCall { verifier_: address(deployment.fraud) };
    vec![
        ("StakeManager", create(&StakeManager::BYTECODE, stake.abi_encode())),
        ("Settlement", create(&Settlement::BYTECODE, settlement.abi_encode())),
        ("InferenceEscrow", create(&InferenceEscrow::BYTECODE, escrow.abi_encode())),
        ("AssetRegistry", create(&AssetRegistry::BYTECODE, registry.abi_encode())),
        ("FraudVerifier", create(&FraudVerifier::BYTECODE, fraud.abi_encode())),
        ("setVerifier", Call { to: Some(deployment.stake), data: verifier.abi_encode(), value: Amount::ZERO }),
    ]
}

fn create(code: &Bytes, arguments: Vec<u8>) -> Call {
    Call { to: None, data: [code.as_ref(), &arguments].concat(), value: Amount::ZERO }
}

/// Checks that a deployment is on this chain.
///
/// # Errors
/// [`ChainError::WrongChain`] with both ids, [`ChainError::NoCode`] with the contract's name.
pub async fn verify_deployment(rpc: &Rpc, deployment: &Deployment) -> Result<(), ChainError> {
    if rpc.chain_id() != deployment.chain_id {
        return Err(ChainError::WrongChain { url: rpc.url().to_owned(), expected: deployment.chain_id, got: rpc.chain_id() });
    }
    for (contract, address) in deployment.contracts() {
        if !rpc.has_code(address).await? {
            return Err(ChainError::NoCode { contract, address });
        }
    }
    Ok(())
}
