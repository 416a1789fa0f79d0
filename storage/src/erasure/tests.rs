use proptest::prelude::*;

use super::*;

fn bytes(len: usize) -> Vec<u8> {
    (0_u32..).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).take(len).collect()
}

fn verified(encoded: &Encoded, indices: impl IntoIterator<Item = u8>) -> Vec<VerifiedFragment> {
    indices.into_iter().map(|i| encoded.manifest.verify(i, encoded.fragments[usize::from(i)].clone()).unwrap()).collect()
}

#[test]
fn the_table_of_profiles_follows_the_number_of_operators() {
    let rows = [
        (0, 3, 5),
        (5, 3, 5),
        (11, 3, 5),
        (12, 3, 9),
        (23, 3, 9),
        (24, 4, 12),
        (59, 4, 12),
        (60, 10, 30),
        (95, 10, 30),
        (96, 16, 48),
        (10_000, 16, 48),
    ];
    for (operators, data, total) in rows {
        let profile = Profile::for_operators(operators);
        assert_eq!((profile.data(), profile.total()), (data, total), "{operators} operators");
    }
    assert_eq!(Profile::new(2, 5), Err(ProfileError { data: 2, total: 5 }));
}

#[test]
fn every_choice_of_three_of_five_gives_the_object_back() {
    for len in [1, 2, 3, 4, 1000, 1001] {
        let object = bytes(len);
        let encoded = encode(&object, Hash32::ZERO, Profile::DEVNET).unwrap();
        for a in 0..5 {
            for b in a + 1..5 {
                for c in b + 1..5 {
                    assert_eq!(reconstruct(&encoded.manifest, &verified(&encoded, [c, a, b])), Ok(object.clone()), "{len}: {a} {b} {c}");
                }
            }
        }
    }
}

#[test]
fn the_larger_profiles_survive_the_loss_of_every_data_fragment() {
    for operators in [12, 24, 60, 96] {
        let profile = Profile::for_operators(operators);
        let object = bytes(10_007);
        let encoded = encode(&object, Hash32([7; 32]), profile).unwrap();
        let parity = profile.data()..profile.data() * 2;
        assert_eq!(reconstruct(&encoded.manifest, &verified(&encoded, parity)), Ok(object));
    }
}

#[test]
fn a_corrupt_fragment_in_any_position_is_named_and_the_rest_suffice() {
    let object = bytes(3_000);
    let encoded = encode(&object, Hash32::ZERO, Profile::DEVNET).unwrap();
    for bad in 0..5_u8 {
        for at in [0, 499, 999] {
            let mut wrong = encoded.fragments[usize::from(bad)].clone();
            wrong[at] ^= 1;
            let error = encoded.manifest.verify(bad, wrong.clone()).unwrap_err();
            let expected = encoded.manifest.fragments()[usize::from(bad)].blake3;
            let object = encoded.manifest.id();
            assert_eq!(error, FragmentError::Corrupt { object, index: bad, expected, got: BlobId::of(&wrong), len: 1000 });
        }
        let rest = (0..5).filter(|index| *index != bad);
        assert_eq!(reconstruct(&encoded.manifest, &verified(&encoded, rest)), Ok(object.clone()));
    }
}

#[test]
fn at_sixteen_of_forty_eight_a_flipped_bit_in_any_fragment_is_named_and_it_is_rebuilt_from_others() {
    let profile = Profile::for_operators(96);
    let object = bytes(20_011);
    let encoded = encode(&object, Hash32::ZERO, profile).unwrap();
    let length = encoded.manifest.fragment_len();
    for bad in 0..48_u8 {
        let good = &encoded.fragments[usize::from(bad)];
        // Which bit follows from the fragment: a failure names it.
        let seed = blake3::hash(&[bad]);
        let bit = usize::from(u16::from_be_bytes([seed.as_bytes()[0], seed.as_bytes()[1]])) % (8 * length);
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (cut, grown) = (good[..length - 1].to_vec(), [good.as_slice(), &[0]].concat());
        for wrong in [flipped, cut, grown, vec![]] {
            let len = wrong.len();
            let error = encoded.manifest.verify(bad, wrong).unwrap_err();
            assert!(matches!(error, FragmentError::Corrupt { index, len: got, .. } if (index, got) == (bad, len)), "bit {bit}: {error}");
        }
        let others = || (0..48).cycle().skip(usize::from(bad) + 1).take(16);
        assert_eq!(reconstruct(&encoded.manifest, &verified(&encoded, others())), Ok(object.clone()), "without {bad}");
        assert_eq!(rebuild(&encoded.manifest, &verified(&encoded, others()), bad).unwrap().bytes(), good.as_slice());
    }
}

#[test]
fn all_that_may_be_lost_at_once_and_one_more_while_rebuilding_is_borne_from_the_first_rebuilt_fragment_on() {
    let profile = Profile::for_operators(96);
    let encoded = encode(&bytes(9_001), Hash32::ZERO, profile).unwrap();
    for first in 0..48_u8 {
        // Sixteen are left; one is rebuilt, then one of the sixteen is lost too.
        let left: Vec<u8> = (0..48).cycle().skip(first.into()).take(16).collect();
        let lost: Vec<u8> = (0..48).filter(|index| !left.contains(index)).collect();
        let mut held = verified(&encoded, left);
        let missing = |held: &[VerifiedFragment]| rebuild(&encoded.manifest, &held[1..], lost[1]);
        assert!(matches!(missing(&held), Err(RebuildError::Others(ReconstructError::TooFew { found: 15, needed: 16, .. }))));
        held.push(rebuild(&encoded.manifest, &held, lost[0]).unwrap());
        held.remove(0);
        for index in 0..48 {
            if held.iter().all(|fragment| fragment.index() != index) {
                held.push(rebuild(&encoded.manifest, &held, index).unwrap());
            }
        }
        let all: BTreeMap<u8, &[u8]> = held.iter().map(|fragment| (fragment.index(), fragment.bytes())).collect();
        assert!(all.into_values().eq(encoded.fragments.iter().map(Vec::as_slice)), "from {first} on");
    }
}

#[test]
fn fewer_fragments_than_needed_is_an_error_that_counts_distinct_ones() {
    let encoded = encode(&bytes(100), Hash32::ZERO, Profile::DEVNET).unwrap();
    let object = encoded.manifest.id();
    for given in [vec![], vec![1], vec![4, 0], vec![2, 2, 2]] {
        let found = given.iter().collect::<BTreeSet<_>>().len();
        assert_eq!(reconstruct(&encoded.manifest, &verified(&encoded, given)), Err(ReconstructError::TooFew { object, found, needed: 3 }));
    }
}

#[test]
fn a_fragment_beyond_the_last_or_of_another_object_is_refused() {
    let (one, two) = (encode(b"one", Hash32::ZERO, Profile::DEVNET).unwrap(), encode(b"two", Hash32::ZERO, Profile::DEVNET).unwrap());
    assert!(matches!(one.manifest.verify(5, vec![0]), Err(FragmentError::NoSuchIndex { index: 5, total: 5, .. })));
    let mixed = [verified(&one, [0, 1]), verified(&two, [2])].concat();
    assert_eq!(reconstruct(&one.manifest, &mixed), Err(ReconstructError::Foreign { object: one.manifest.id(), got: two.manifest.id() }));
}

#[test]
fn any_lost_fragment_comes_back_from_others_without_the_object() {
    for operators in [0, 12, 24, 60, 96] {
        let profile = Profile::for_operators(operators);
        let encoded = encode(&bytes(5_003), Hash32::ZERO, profile).unwrap();
        for lost in 0..profile.total() {
            // The last ones: for a data fragment a full inversion, for a parity fragment a mixed one.
            let others = (0..profile.total()).rev().filter(|index| *index != lost).take(profile.data().into());
            let rebuilt = rebuild(&encoded.manifest, &verified(&encoded, others), lost).unwrap();
            assert_eq!((rebuilt.index(), rebuilt.bytes()), (lost, &encoded.fragments[usize::from(lost)][..]));
        }
        let few = verified(&encoded, 1..profile.data());
        assert!(matches!(rebuild(&encoded.manifest, &few, 0), Err(RebuildError::Others(ReconstructError::TooFew { .. }))));
        let none = rebuild(&encoded.manifest, &[], profile.total()).unwrap_err();
        assert!(matches!(none, RebuildError::Fragment(FragmentError::NoSuchIndex { .. })));
    }
}

#[test]
fn a_fragment_that_is_no_part_of_the_code_is_found_when_it_is_rebuilt() {
    let mut encoded = encode(&bytes(300), Hash32::ZERO, Profile::DEVNET).unwrap();
    encoded.fragments[4][7] ^= 1;
    let roots = encoded.fragments.iter().map(|bytes| FragmentRoot::of(bytes)).collect();
    encoded.manifest = ObjectManifest::new(Profile::DEVNET, &bytes(300), Hash32::ZERO, roots);
    let error = rebuild(&encoded.manifest, &verified(&encoded, 0..3), 4).unwrap_err();
    assert!(matches!(error, RebuildError::Fragment(FragmentError::Corrupt { index: 4, .. })));
    assert!(matches!(reconstruct(&encoded.manifest, &verified(&encoded, [0, 1, 4])), Err(ReconstructError::FalseManifest { .. })));
}

#[test]
fn a_manifest_that_lies_about_the_content_is_blamed_on_the_uploader() {
    let encoded = encode(&bytes(100), Hash32::ZERO, Profile::DEVNET).unwrap();
    let mut forged = encoded.manifest.encode();
    forged[15] ^= 1;
    let manifest = ObjectManifest::decode(&forged).unwrap();
    let fragments: Vec<_> = (0..3).map(|i| manifest.verify(i, encoded.fragments[usize::from(i)].clone()).unwrap()).collect();
    assert!(matches!(reconstruct(&manifest, &fragments), Err(ReconstructError::FalseManifest { .. })));
}

#[test]
fn an_object_must_not_be_empty_or_too_long() {
    assert_eq!(encode(b"", Hash32::ZERO, Profile::DEVNET).unwrap_err(), EncodeError::Empty);
    let long = vec![0; OBJECT_BYTES_MAX + 1];
    assert!(matches!(encode(&long, Hash32::ZERO, Profile::DEVNET), Err(EncodeError::TooLong { .. })));
}

#[test]
fn the_bytes_of_a_manifest_are_pinned() {
    let encoded = encode(b"abcdefg", Hash32([9; 32]), Profile::DEVNET).unwrap();
    assert_eq!(encoded.fragments[..3], [b"abc".to_vec(), b"def".to_vec(), b"g\0\0".to_vec()]);
    // Computed apart from the library: rows 3 and 4 of V (V of the first three rows)^-1 with V[r][c] = r^c over x^8 + x^4 + x^3 + x^2 + 1.
    assert_eq!(encoded.fragments[3..].iter().map(hex::encode).collect::<Vec<_>>(), ["620705", "5d0b1c"]);
    let bytes = encoded.manifest.encode();
    assert_eq!(bytes.len(), 79 + 5 * 64);
    assert_eq!(hex::encode(&bytes[..15]), "010305000000000000000700000003");
    assert_eq!(bytes[15..47], BlobId::of(b"abcdefg").0);
    assert_eq!(bytes[47..79], [9; 32]);
    assert_eq!(bytes[79..111], BlobId::of(b"abc").0);
    assert_eq!(bytes[111..143], merkle::Tree::over([b"abc".as_slice()]).root().0);
    assert_eq!(encoded.manifest.id(), BlobId::of(&bytes));
}

#[test]
fn a_manifest_outside_its_bounds_is_refused() {
    let good = encode(b"abcdefg", Hash32::ZERO, Profile::DEVNET).unwrap().manifest.encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        ObjectManifest::decode(&bytes).unwrap_err().to_string()
    };
    assert!(with(0, 2).contains("codec holds 2"));
    assert!(with(1, 4).contains("4 of 5 fragments is no profile"));
    assert!(with(3, 1).contains("object length"));
    assert!(with(14, 4).contains("fragment length holds 4"));
    assert!(ObjectManifest::decode(&good[..good.len() - 1]).is_err());
    assert!(ObjectManifest::decode(&[good.clone(), vec![0]].concat()).is_err());
    assert!(matches!(ObjectManifest::decode_as(BlobId::ZERO, &good), Err(ManifestError::Mismatch { .. })));
}

proptest! {
    #[test]
    fn any_object_survives_any_loss_its_profile_allows(object in proptest::collection::vec(any::<u8>(), 1..600), row in 0..4_usize, order in any::<u64>()) {
        let profile = Profile::ALL[row].1;
        let encoded = encode(&object, Hash32::ZERO, profile).unwrap();
        prop_assert_eq!(&ObjectManifest::decode(&encoded.manifest.encode()).unwrap(), &encoded.manifest);
        let mut indices: Vec<u8> = (0..profile.total()).collect();
        indices.sort_by_key(|i| blake3::hash(&[&order.to_be_bytes()[..], &[*i]].concat()).as_bytes().to_owned());
        indices.truncate(profile.data().into());
        prop_assert_eq!(reconstruct(&encoded.manifest, &verified(&encoded, indices)).unwrap(), object);
    }

    #[test]
    fn decoding_a_manifest_never_panics_and_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..500), is_headed in any::<bool>()) {
        let head = if is_headed { vec![1, 3, 5, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1] } else { vec![] };
        let bytes = [head, bytes].concat();
        if let Ok(manifest) = ObjectManifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }
}
