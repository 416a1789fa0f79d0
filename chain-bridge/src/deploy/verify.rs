//! Compares what stands on a chain with what a deployment's file says.

use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};
use types::{
    id::{Address, Hash32},
    merkle::keccak,
};

use super::{
    Deployment,
    plan::{creations, verifiers},
};
use crate::{
    bindings::{
        ARTIFACTS, AnswerVerifier, AssetRegistry, AuditCase, AuditRent, BillingVerifier, CheckBoard, DatanetRent, DatanetTreasury,
        Erasures, FraudVerifier, IndexVerifier, InferenceEscrow, InsurancePool, MaskVerifier, PayoutVerifier, ReceiptChallenge,
        RewardsVault, Settlement, SpanVerifier, StakeManager,
    },
    chain::{error::ChainError, rpc::Rpc},
    convert::{account, address},
};

/// Checks that a deployment is on this chain, each contract with this program's code but for its immutable values; these too are compared
/// before money goes there ([`verify_contract`]). One round trip of about 450 kB.
///
/// # Errors
/// [`ChainError::WrongChain`] with both ids, [`ChainError::NoCode`] and [`ChainError::OtherCode`] with the contract's name.
pub async fn verify_deployment(rpc: &Rpc, deployment: &Deployment) -> Result<(), ChainError> {
    if rpc.chain_id() != deployment.chain_id {
        return Err(ChainError::WrongChain { url: rpc.url().to_owned(), expected: deployment.chain_id, got: rpc.chain_id() });
    }
    let contracts = deployment.contracts();
    let found = rpc.codes(&contracts.iter().map(|(_, address)| *address).collect::<Vec<_>>()).await?;
    for (((contract, address), artifact), code) in contracts.into_iter().zip(codes()).zip(found) {
        if code.is_empty() {
            return Err(ChainError::NoCode { contract, address });
        }
        let (expected, got) = match artifact {
            Code::Compiled(creation) => {
                let (expected, got) = without_immutables(creation, &code);
                (keccak(&[&expected]), keccak(&[&got]))
            }
            Code::Made(expected) => (expected, keccak(&[&code])),
        };
        if expected != got {
            return Err(ChainError::OtherCode { contract, address, expected, got });
        }
    }
    Ok(())
}

/// Runtime code by an artifact and as it was found, both with zeros for immutable values, so that they are equal if only these differ. The
/// artifact's creation code ends with the runtime code, where each immutable value is a 32-byte zero that is pushed.
fn without_immutables(creation: &[u8], found: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const PUSH32: u8 = 0x7f;
    const INVALID: u8 = 0xfe;
    // The constructor's code ends with an opcode that nothing else ends with: a part of the code is not the code.
    let start = creation.len().checked_sub(found.len()).filter(|start| creation[..*start].ends_with(&[INVALID]));
    let Some(start) = start else { return (creation.to_vec(), found.to_vec()) };
    let (expected, mut got) = (creation[start..].to_vec(), found.to_vec());
    let mut place = 0;
    while let Some(word) = expected.get(place + 1..place + 33) {
        if expected[place] == PUSH32 && word.iter().all(|byte| *byte == 0) {
            got[place + 1..place + 33].fill(0);
            place += 33;
        } else {
            place += 1;
        }
    }
    (expected, got)
}

/// What the code of a contract is held against.
#[derive(Debug, Clone, Copy)]
enum Code {
    /// Its artifact's creation code, up to the end of the runtime code in it.
    Compiled(&'static [u8]),
    /// Keccak of the code that its constructor makes up.
    Made(Hash32),
}

/// Keccak of the code of `WordRanges`, as those that read it have it: `WORD_RANGES_HASH`.
const WORD_RANGES_HASH: Hash32 = Hash32([
    0xde, 0xc1, 0x19, 0x04, 0xca, 0xb5, 0xc9, 0x81, 0x75, 0x98, 0x6c, 0xa2, 0x8d, 0x6a, 0xe1, 0x0e, 0x10, 0xe3, 0x29, 0x00, 0x05, 0x73,
    0x8c, 0xa5, 0x35, 0xe0, 0xc9, 0x6a, 0xf4, 0xff, 0x3f, 0x62,
]);

/// A constant that a constructor copies.
const CONSTANT_BYTES: usize = 32;

/// What each contract's code is held against, in the order of [`Deployment::contracts`].
fn codes() -> Vec<Code> {
    let compiled: [&'static [u8]; 15] = [
        &StakeManager::BYTECODE,
        &InsurancePool::BYTECODE,
        &RewardsVault::BYTECODE,
        &Settlement::BYTECODE,
        &InferenceEscrow::BYTECODE,
        &AssetRegistry::BYTECODE,
        &DatanetRent::BYTECODE,
        &FraudVerifier::BYTECODE,
        &BillingVerifier::BYTECODE,
        &ReceiptChallenge::BYTECODE,
        &PayoutVerifier::BYTECODE,
        &DatanetTreasury::BYTECODE,
        &AuditRent::BYTECODE,
        &Erasures::BYTECODE,
        &AuditCase::BYTECODE,
    ];
    // The hash that their constructors compare with stands behind their code.
    let of_words: [&'static [u8]; 4] =
        [&SpanVerifier::BYTECODE, &AnswerVerifier::BYTECODE, &MaskVerifier::BYTECODE, &IndexVerifier::BYTECODE];
    let of_words = of_words.map(|creation| Code::Compiled(&creation[..creation.len().saturating_sub(CONSTANT_BYTES)]));
    compiled
        .into_iter()
        .map(Code::Compiled)
        .chain([Code::Made(WORD_RANGES_HASH)])
        .chain(of_words)
        .chain([Code::Compiled(&CheckBoard::BYTECODE)])
        .collect()
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
/// verifiers that StakeManager knows, and the auditor that DatanetRent does. A dozen calls of 25 kB: for `deploy` and for whoever is about to trust a deployment file.
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
        ("auditor", deployment.audits, read(rpc, deployment, deployment.rent, &DatanetRent::auditorCall {}).await?),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_words_is_held_against_the_hash_that_the_contracts_state() {
        let source = include_str!("../../contracts/src/WordRanges.sol");
        assert!(source.contains(&format!("bytes32 constant WORD_RANGES_HASH = {WORD_RANGES_HASH};")));
    }

    #[test]
    fn every_contract_is_created_and_held_against_its_code_in_one_order() {
        let config = super::super::DeployConfig::standard(Address([1; 20]), Address([2; 20]));
        let deployment = super::super::plan(901, 7, Address([3; 20]), 5, config);
        let names: Vec<_> = deployment.contracts().into_iter().map(|(name, _)| name).collect();
        let created = creations(&deployment);
        assert_eq!(created.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
        assert_eq!(codes().len(), names.len());
        for (place, (name, at)) in (5..).zip(deployment.contracts()) {
            assert_eq!(account(address(deployment.deployer).create(place)), at, "{name}");
        }
        for ((name, call), code) in created.iter().zip(codes()) {
            assert!(!matches!(code, Code::Compiled(code) if !call.data.starts_with(code)), "{name}");
        }
        let known: Vec<_> = verifiers(&deployment);
        assert!(deployment.contracts().iter().filter(|(_, at)| known.contains(at)).count() == known.len());
    }

    #[test]
    fn the_file_of_an_earlier_suite_is_refused_with_what_to_do() {
        let config = super::super::DeployConfig::standard(Address([1; 20]), Address([2; 20]));
        let deployment = super::super::plan(901, 7, Address([3; 20]), 5, config);
        let (folder, mut file) = (tempfile::tempdir().unwrap(), serde_json::to_value(&deployment).unwrap());
        let path = folder.path().join("registry.json");
        deployment.write(&path).unwrap();
        assert_eq!(Deployment::read(&path).unwrap(), deployment);
        file.as_object_mut().unwrap().remove("spans");
        std::fs::write(&path, file.to_string()).unwrap();
        let error = Deployment::read(&path).unwrap_err().to_string();
        assert!(error.contains("missing field `spans`") && error.contains("of an earlier suite"), "{error}");
    }

    #[test]
    fn only_immutable_values_may_differ_from_the_artifact() {
        let word = [&[0x7f][..], &[0; 32]].concat();
        let runtime = [&[0x60, 1][..], &word, &[0x50, 0, 0]].concat();
        let creation = [&[1, 2, 0xfe][..], &runtime].concat();
        let same = |found: &[u8]| {
            let (expected, got) = without_immutables(&creation, found);
            expected == got
        };
        let mut found = runtime.clone();
        assert!(same(&found));
        found[3..35].fill(9);
        assert!(same(&found), "an immutable value was filled in");
        for place in [0, 1, 2, 35, 36, 37] {
            let mut other = found.clone();
            other[place] ^= 1;
            assert!(!same(&other), "byte {place}");
        }
        assert!(!same(&found[1..]) && !same(&[]) && !same(&[&[9; 3][..], &found].concat()) && !same(&[0; 99]));
    }
}
