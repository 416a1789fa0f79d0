//! What an independent script made of the same rules.

use serde_json::Value;
use types::{
    encoding::Document,
    id::{Address, BlobId, Hash32},
    key::{Account, Domains, Signed, Signed65},
    placement::{Handover, Placement},
};

use super::*;

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap().try_into().unwrap()
}

/// Holds one document to its vector; returns its signer and signature.
fn check<D: Document + Clone>(domains: &Domains, case: &Value, document: &D) -> (Address, Signed65) {
    assert_eq!(case["name"], D::NAME);
    assert_eq!(format!("0x{}", hex::encode(document.encode())), case["body"].as_str().unwrap());
    assert_eq!(domains.digest(document), Hash32(bytes(&case["digest"])));
    let signed = Signed::new(&Account::from_bytes(&bytes(&case["signer"])).unwrap(), domains, document.clone());
    assert_eq!(signed.signature, Signed65(bytes(&case["signature"])));
    (Address(bytes(&case["account"])), signed.signature)
}

#[test]
fn placement_handover_and_record_are_those_of_the_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/storage_vectors.json")).unwrap();
    let at = |name: &str| Address(bytes(&vectors["contracts"][name]));
    let domains = Domains {
        chain_id: vectors["chainId"].as_u64().unwrap(),
        escrow: at("InferenceEscrow"),
        registry: at("AssetRegistry"),
        settlement: at("Settlement"),
        stake: at("StakeManager"),
    };
    let cases = &vectors["keeping"]["documents"];
    let account = |case: usize| Address(bytes(&cases[case]["account"]));
    let object = BlobId([7; 32]);
    let holders = std::iter::once(account(1)).chain((1..5).map(|byte| Address([byte; 20]))).collect();
    let placement = Placement { contributor: account(0), object, block: 12, data: 3, holders };
    let (_, signature) = check(&domains, &cases[0], &placement);
    let handover = Handover { by: account(1), epoch: 4, object, fragment: 2, generation: 1, to: account(2) };
    let ((_, by), (_, to)) = (check(&domains, &cases[1], &handover), check(&domains, &cases[2], &handover));
    let mut record = Record::new(Signed { document: placement, signature });
    record.add(HandedOver { handover, by, to }).unwrap();
    assert_eq!(format!("0x{}", hex::encode(record.encode())), vectors["keeping"]["record"].as_str().unwrap());
}
