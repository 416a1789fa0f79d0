use proptest::prelude::*;
use serde_json::Value;

use super::{super::*, *};

fn object(len: usize) -> Vec<u8> {
    (0_u32..).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).take(len).collect()
}

/// What a writer makes who encodes `object` and then changes `bytes` of fragment `index`, naming the fragments as they became.
fn lying(len: usize, profile: Profile, index: usize, at: usize) -> Encoded {
    let mut encoded = encode(&object(len), Hash32::ZERO, profile).unwrap();
    encoded.fragments[index][at] ^= 0x40;
    let roots = encoded.fragments.iter().map(|bytes| FragmentRoot::of(bytes)).collect();
    encoded.manifest = ObjectManifest::new(profile, &object(len), Hash32::ZERO, roots);
    encoded
}

fn verified(encoded: &Encoded, indices: impl IntoIterator<Item = u8>) -> Vec<VerifiedFragment> {
    indices.into_iter().map(|i| encoded.manifest.verify(i, encoded.fragments[usize::from(i)].clone()).unwrap()).collect()
}

/// The proof over the wire's bytes, checked by somebody else.
fn convicted(proof: &Proof) -> Voided {
    let bytes = proof.encode();
    let read = Proof::decode(&bytes).unwrap();
    assert_eq!((&read, read.encode()), (proof, bytes));
    read.check().unwrap()
}

#[test]
fn an_honest_manifest_cannot_be_convicted_by_any_of_its_fragments() {
    for profile in [Profile::DEVNET, Profile::for_operators(96)] {
        let encoded = encode(&object(50_000), Hash32([3; 32]), profile).unwrap();
        let (data, total) = (profile.data(), profile.total());
        for indices in [0..data, total - data..total, 0..total] {
            assert_eq!(Proof::find(&encoded.manifest, &verified(&encoded, indices)), Ok(None));
        }
        // Somebody claims it all the same.
        let fragments = verified(&encoded, 0..data).iter().map(|fragment| (fragment.index(), fragment.bytes().to_vec())).collect();
        let claim = Proof { manifest: encoded.manifest, evidence: Evidence::Fragments(fragments) };
        assert_eq!(Proof::decode(&claim.encode()).unwrap().check(), Err(ProofError::Honest));
    }
}

#[test]
fn a_fragment_that_is_no_part_of_the_code_is_convicted_by_whoever_has_one_more_in_a_few_kilobytes() {
    let profile = Profile::for_operators(96);
    for (index, at) in [(0, 0), (20, 5_000), (47, 12_499)] {
        let encoded = lying(200_000, profile, index, at);
        let proof = Proof::find(&encoded.manifest, &verified(&encoded, 0..48)).unwrap().unwrap();
        let voided = convicted(&proof);
        assert_eq!((voided.object(), voided.lie()), (encoded.manifest.id(), Lie::Column(u32::try_from(at / 1024).unwrap())));
        assert!(proof.encode().len() < 26_000, "{} bytes", proof.encode().len());
    }
}

#[test]
fn readers_with_just_enough_fragments_convict_by_what_they_read() {
    let encoded = lying(9_000, Profile::DEVNET, 1, 700);
    let object = encoded.manifest.id();
    // Who reads the false fragment sees another object; who does not encodes again and sees another fragment.
    let with = Proof::find(&encoded.manifest, &verified(&encoded, [0, 1, 2])).unwrap().unwrap();
    assert_eq!(convicted(&with), Voided { object, lie: Lie::Content });
    let without = Proof::find(&encoded.manifest, &verified(&encoded, [0, 2, 3])).unwrap().unwrap();
    assert_eq!(convicted(&without), Voided { object, lie: Lie::Fragment(1) });
    assert!(matches!(Proof::find(&encoded.manifest, &verified(&encoded, [0, 2])), Err(ReconstructError::TooFew { .. })));
}

#[test]
fn two_names_of_different_bytes_and_a_wrong_content_are_lies_too() {
    let encoded = encode(&object(9_000), Hash32::ZERO, Profile::DEVNET).unwrap();
    let mut roots = encoded.manifest.fragments().to_vec();
    roots[4].keccak = Hash32([1; 32]);
    let two_names = Encoded { manifest: ObjectManifest::new(Profile::DEVNET, &object(9_000), Hash32::ZERO, roots), ..encoded.clone() };
    let proof = Proof::find(&two_names.manifest, &verified(&two_names, 0..5)).unwrap().unwrap();
    assert_eq!(convicted(&proof).lie(), Lie::Fragment(4));
    let roots = encoded.manifest.fragments().to_vec();
    let other = Encoded { manifest: ObjectManifest::new(Profile::DEVNET, &[7; 9_000], Hash32::ZERO, roots), ..encoded };
    let proof = Proof::find(&other.manifest, &verified(&other, 0..5)).unwrap().unwrap();
    assert_eq!(convicted(&proof).lie(), Lie::Content);
}

#[test]
fn evidence_that_is_not_the_manifest_s_convicts_nobody() {
    let honest = encode(&object(9_000), Hash32::ZERO, Profile::DEVNET).unwrap();
    let forged = lying(9_000, Profile::DEVNET, 4, 10);
    for indices in [vec![0, 1, 2, 3, 4], vec![0, 1, 4]] {
        let proof = Proof::find(&forged.manifest, &verified(&forged, indices)).unwrap().unwrap();
        let proof = Proof { manifest: honest.manifest.clone(), ..proof };
        let error = proof.check().unwrap_err();
        assert!(
            matches!(error, ProofError::Leaf { index: 4, .. } | ProofError::Fragment(FragmentError::Corrupt { index: 4, .. })),
            "{error}"
        );
    }
}

#[test]
fn bytes_that_are_no_proof_are_refused() {
    let forged = lying(9_000, Profile::DEVNET, 4, 10);
    let small = Proof::find(&forged.manifest, &verified(&forged, 0..5)).unwrap().unwrap().encode();
    let large = Proof::find(&forged.manifest, &verified(&forged, [0, 1, 4])).unwrap().unwrap().encode();
    for bytes in [&small, &large] {
        assert!(Proof::decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "a byte too many");
        for len in [0, 1, 2, 398, 400, 404, bytes.len() - 1] {
            assert!(Proof::decode(&bytes[..len]).is_err(), "cut to {len}");
        }
        let with = |at: usize, byte: u8| Proof::decode(&[&bytes[..at], &[byte], &bytes[at + 1..]].concat());
        assert!(matches!(with(0, 3), Err(ProofError::Layout(_))));
        assert!(matches!(with(1, 2), Err(ProofError::Manifest(_))), "another codec");
        assert!(matches!(with(3, 48), Err(ProofError::Layout(_) | ProofError::Manifest(_))), "another profile");
    }
    let first = 1 + 399 + 4;
    let with = |at: usize, byte: u8| Proof::decode(&[&small[..at], &[byte], &small[at + 1..]].concat());
    assert!(matches!(with(first - 1, 3), Err(ProofError::Layout(DecodeError::Value { field: "leaf", .. }))));
    assert!(matches!(with(first, 5), Err(ProofError::Layout(DecodeError::Value { field: "index", .. }))));
    assert!(matches!(with(first, 2), Err(ProofError::Layout(DecodeError::Value { field: "index", .. }))), "not ascending");
    assert!(matches!(Proof::decode(&vec![1; PROOF_BYTES_MAX + 1]), Err(ProofError::TooLong { .. })));
}

#[test]
fn proofs_are_those_of_an_independent_implementation() {
    let all: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/storage_vectors.json")).unwrap();
    let vectors = &all["lie"];
    let number = |name: &str| usize::try_from(vectors[name].as_u64().unwrap()).unwrap();
    let bytes: Vec<u8> = (0..number("length")).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
    let mut encoded = encode(&bytes, Hash32([9; 32]), Profile::DEVNET).unwrap();
    encoded.fragments[number("fragment")][number("byte")] ^= 0x40;
    let roots = encoded.fragments.iter().map(|bytes| FragmentRoot::of(bytes)).collect();
    encoded.manifest = ObjectManifest::new(Profile::DEVNET, &bytes, Hash32([9; 32]), roots);
    assert_eq!(encoded.manifest.id().to_string(), vectors["object"].as_str().unwrap());
    for (name, indices) in [("column", vec![0, 1, 2, 3, 4]), ("fragments", vec![0, 3, 4])] {
        let proof = Proof::find(&encoded.manifest, &verified(&encoded, indices)).unwrap().unwrap();
        let (made, expected) = (proof.encode(), &vectors[name]);
        assert_eq!(made.len() as u64, expected["bytes"].as_u64().unwrap(), "{name}");
        assert_eq!(BlobId::of(&made).to_string(), expected["blake3"].as_str().unwrap(), "{name}");
        convicted(&proof);
    }
}

proptest! {
    #[test]
    fn decoding_a_proof_never_panics_and_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..1_500), kind in 0..4_u8, len in 1..600_u64) {
        let manifest = [&[1, 3, 5][..], &len.to_be_bytes(), &u32::try_from(len.div_ceil(3)).unwrap().to_be_bytes()].concat();
        for bytes in [bytes.clone(), [&[kind], &manifest[..], &bytes].concat()] {
            if let Ok(proof) = Proof::decode(&bytes) {
                prop_assert_eq!(proof.encode(), bytes);
                prop_assert!(proof.check().is_err());
            }
        }
    }
}
