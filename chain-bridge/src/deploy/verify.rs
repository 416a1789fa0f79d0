//! Compares what stands on a chain with what a deployment's file says.

use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};
use types::{id::Address, merkle::keccak};

use super::{
    Deployment,
    plan::{creations, verifiers},
};
use crate::{
    bindings::{ARTIFACTS, AssetRegistry, DatanetRent, StakeManager},
    chain::{error::ChainError, rpc::Rpc},
    convert::{account, address},
};

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

/// Compares the code of one contract of the file with its artifact, byte for byte: before money goes there, and not back from anybody else's. An address that
/// is not the file's is not looked at. Two calls of 25 kB.
///
/// # Errors
/// [`ChainError::OtherCode`] with the contract's name; [`ChainError`] of the endpoint.
pub async fn verify_contract(rpc: &Rpc, deployment: &Deployment, to: Address) -> Result<(), ChainError> {
    let mut known = deployment.contracts().into_iter().zip(creations(deployment));
    let Some(((contract, address), (_, creation))) = known.find(|((_, address), _)| *address == to) else { return Ok(()) };
    let found = rpc.code(address).await?;
    let expected = rpc.run_creation(deployment.deployer, &creation.data).await?;
    if found != expected {
        return Err(ChainError::OtherCode { contract, address, expected: keccak(&[&expected]), got: keccak(&[&found]) });
    }
    Ok(())
}

/// Compares what stands on the chain with the embedded artifacts and the file, byte for byte, and reads back what no code tells: the peers and
/// verifiers that StakeManager knows. A dozen calls of 25 kB: for `deploy` and for whoever is about to trust a deployment file.
///
/// # Errors
/// As [`verify_deployment`]; [`ChainError::OtherCode`], [`ChainError::OtherPeer`] with the contract's name.
pub async fn verify_code(rpc: &Rpc, deployment: &Deployment) -> Result<(), ChainError> {
    verify_deployment(rpc, deployment).await?;
    for (_, address) in deployment.contracts() {
        verify_contract(rpc, deployment, address).await?;
    }
    let stake = deployment.stake;
    let peers = [
        ("insurance", deployment.insurance, read(rpc, deployment, stake, &StakeManager::insuranceCall {}).await?),
        ("rewards", deployment.rewards, read(rpc, deployment, stake, &StakeManager::rewardsCall {}).await?),
        ("credit desk", deployment.escrow, read(rpc, deployment, stake, &StakeManager::creditDeskCall {}).await?),
    ];
    for (what, expected, got) in peers {
        let got = account(got);
        if got != expected {
            return Err(ChainError::OtherPeer { what, expected, got });
        }
    }
    for verifier in verifiers(deployment) {
        if !read(rpc, deployment, stake, &StakeManager::isVerifierCall(address(verifier))).await? {
            return Err(ChainError::OtherPeer { what: "verifier", expected: verifier, got: Address::ZERO });
        }
    }
    Ok(())
}

/// Who governs what a governor may: not fixed by code, since either may hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Governors {
    /// Approves attribution parameters.
    pub assets_governor: Address,
    /// Sets the rent.
    pub rent_governor: Address,
}

/// Reads who governs now.
///
/// # Errors
/// [`ChainError`].
pub async fn governors(rpc: &Rpc, deployment: &Deployment) -> Result<Governors, ChainError> {
    let assets = read(rpc, deployment, deployment.registry, &AssetRegistry::governorCall {}).await?;
    let rent = read(rpc, deployment, deployment.rent, &DatanetRent::governorCall {}).await?;
    Ok(Governors { assets_governor: account(assets), rent_governor: account(rent) })
}

async fn read<C: SolCall>(rpc: &Rpc, deployment: &Deployment, to: Address, call: &C) -> Result<C::Return, ChainError> {
    let data = rpc.call(deployment.deployer, to, &call.abi_encode(), None).await?;
    C::abi_decode_returns(&data).map_err(|error| ChainError::Unreadable { what: C::SIGNATURE, why: error.to_string() })
}

/// Hash of the sources that each embedded artifact was compiled from: what a reader compares with a fresh compile.
pub fn source_hashes() -> Vec<(&'static str, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Artifact {
        source_hash: String,
    }
    let read = |text: &str| serde_json::from_str::<Artifact>(text).expect("embedded artifacts name their source hash").source_hash;
    ARTIFACTS.iter().map(|(name, text)| (*name, read(text))).collect()
}
