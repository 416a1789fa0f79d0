//! What an independent script made of the same rules.

use serde_json::Value;
use types::{
    audit::AuditCommit,
    encoding::Document,
    id::BlobId,
    key::{Account, Domains, Signed, Signed65, recover},
};

use super::*;
use crate::{erasure::FragmentRoot, proto::repair::coordinators};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../tests/fixtures/storage_vectors.json")).unwrap()
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap().try_into().unwrap()
}

fn domains(vectors: &Value) -> Domains {
    let at = |name: &str| Address(bytes(&vectors["contracts"][name]));
    Domains {
        chain_id: vectors["chainId"].as_u64().unwrap(),
        escrow: at("InferenceEscrow"),
        registry: at("AssetRegistry"),
        settlement: at("Settlement"),
        stake: at("StakeManager"),
    }
}

fn check<D: Document + Copy>(vectors: &Value, at: usize, document: D) {
    let (domains, case) = (domains(vectors), &vectors["audit"]["documents"][at]);
    assert_eq!(case["name"], D::NAME);
    assert_eq!(format!("0x{}", hex::encode(document.encode())), case["body"].as_str().unwrap());
    assert_eq!(document.hash(), Hash32(bytes(&case["hash"])));
    assert_eq!(domains.digest(&document), Hash32(bytes(&case["digest"])));
    let signed = Signed::new(&Account::from_bytes(&bytes(&case["signer"])).unwrap(), &domains, document);
    assert_eq!(signed.signature, Signed65(bytes(&case["signature"])));
    assert_eq!(recover(&domains, &document, &signed.signature), Ok(Address(bytes(&case["account"]))));
}

#[test]
fn commitment_walk_and_verdict_are_those_of_the_vectors() {
    let vectors = vectors();
    let audit = &vectors["audit"];
    let texts: Vec<Vec<u8>> = [(40_000_u32, 251), (1_500, 241)]
        .map(|(length, modulus)| (0..length).map(|i| u8::try_from(i % modulus).unwrap()).collect())
        .to_vec();
    let holding = |(case, text): (&Value, &Vec<u8>)| Holding {
        object: BlobId(bytes(&case["object"])),
        fragment: u8::try_from(case["fragment"].as_u64().unwrap()).unwrap(),
        fragments: u8::try_from(case["fragments"].as_u64().unwrap()).unwrap(),
        bytes: u32::try_from(text.len()).unwrap(),
        root: FragmentRoot::of(text).keccak,
    };
    let cases = audit["fragments"].as_array().unwrap();
    let holdings = Holdings::new(cases.iter().zip(&texts).map(holding));
    for (entry, case) in holdings.entries().iter().zip(cases) {
        assert_eq!(entry.root, Hash32(bytes(&case["root"])));
    }
    assert_eq!(holdings.root(), Hash32(bytes(&audit["holdings"])));
    let seed = Seed {
        beacon: Hash32(bytes(&audit["beacon"])),
        node: Address(bytes(&audit["node"])),
        epoch: audit["epoch"].as_u64().unwrap(),
        holdings: holdings.root(),
        nonce: Hash32(bytes(&audit["nonce"])),
    };
    let mut places = audit["places"].as_array().unwrap().iter();
    let read = |holding: &Holding, place: u32| {
        let text = &texts[holdings.entries().iter().position(|entry| entry == holding).unwrap()];
        let start = usize::try_from(place).unwrap() << 14;
        Some(answer::Shown { bytes: text[start..start + holding.range_len(place)].to_vec(), siblings: Tops::of(text).siblings(place)? })
    };
    let mut chain = Chain::new(&seed, holdings.ranges());
    while let Some(place) = chain.next() {
        assert_eq!(Some(place), places.next().and_then(Value::as_u64));
        let (holding, range) = holdings.at(place).unwrap();
        chain.take(&read(holding, range).unwrap().bytes);
    }
    assert_eq!((places.next(), chain.digest()), (None, Hash32(bytes(&audit["digest"]))));
    let (checked, result) = Answer::walk(&seed, &holdings, read).check(&seed, &holdings);
    assert_eq!((checked.digest(), result), (chain.digest(), Ok(())));

    let block = audit["block"].as_u64().unwrap();
    check(&vectors, 0, AuditCommit { node: seed.node, epoch: seed.epoch, holdings: seed.holdings, ranges: holdings.ranges(), block });
    let seen = AuditVerdict {
        auditor: Address(bytes(&audit["documents"][1]["account"])),
        node: seed.node,
        epoch: seed.epoch,
        holdings: seed.holdings,
        nonce: seed.nonce,
        verdict: Verdict::Passed,
        right: RANGES,
        digest: chain.digest(),
        round_trip_us: 80_000,
        elapsed_us: 120_000,
    };
    check(&vectors, 1, seen);
}

#[test]
fn who_is_drawn_is_who_the_vectors_say() {
    let audit = &vectors()["audit"];
    let beacon = Hash32(bytes(&audit["beacon"]));
    let operators = || (0..40).map(|i| Address([i; 20]));
    let expected = |named: &Value| -> Vec<_> {
        named.as_array().unwrap().iter().map(|first| Address([u8::try_from(first.as_u64().unwrap()).unwrap(); 20])).collect()
    };
    let roll: Vec<_> = (0_u64..).zip(operators()).map(|(number, node)| Seat { node, subnet: number / 2 }).collect();
    for place in 0..roll.len() {
        assert_eq!(auditors(beacon, place, &roll), expected(&audit["auditors"][place]), "{place}");
    }
    assert_eq!(coordinators(beacon, BlobId([7; 32]), operators()), expected(&audit["coordinators"]));
}
