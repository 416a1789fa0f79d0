use proptest::prelude::*;

use super::*;

fn noise(len: usize, salt: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key("noise").update(&salt.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Every path that this machine has gives what `sha3` gives for each message by itself.
#[track_caller]
fn check(prefix: &[u8], messages: &[Vec<u8>]) {
    let expected: Vec<Hash32> = messages.iter().map(|message| keccak(&[prefix, message])).collect();
    for path in Path::ALL.iter().filter(|path| path.is_available()) {
        let lens: Vec<usize> = messages.iter().map(Vec::len).collect();
        assert!(path.keccak_each(prefix, messages) == expected, "{path:?}, {} bytes, then {lens:?}", prefix.len());
    }
    assert!(keccak_each(prefix, messages) == expected, "the path that is taken");
}

#[test]
fn no_message_has_no_digest() {
    check(&[], &[]);
    check(&[1], &[]);
}

#[test]
fn every_path_hashes_any_count_of_equal_messages_at_every_length_around_its_blocks() {
    for len in [0, 1, 7, 8, 9, 63, 64, 65, 96, 134, 135, 136, 137, 271, 272, 273, 320, 321, 352, 407, 408, 409, 1024] {
        for count in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17] {
            let messages: Vec<_> = (0..count).map(|salt| noise(len, salt)).collect();
            check(&[], &messages);
            check(&[1], &messages);
        }
    }
}

#[test]
fn every_length_beside_the_next_is_hashed_in_its_place() {
    let messages: Vec<_> = (0..700).map(|len| noise(len, 1)).collect();
    check(&[0], &messages);
    check(&[], &messages.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn a_prefix_of_any_length_is_hashed_before_each_message() {
    for prefix in [0, 1, 17, 135, 136, 137, 300] {
        for len in [0, 1, 40, 135, 136, 137] {
            check(&noise(prefix, 2), &(0..9).map(|salt| noise(len, salt)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn bytes_that_are_all_ones_or_all_zeros_are_no_exception() {
    for byte in [0, 0xff] {
        check(&[byte], &vec![vec![byte; 321]; 11]);
    }
}

#[test]
fn an_empty_message_has_the_known_digest_in_every_lane() {
    let known = hex::decode("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470").unwrap();
    for path in Path::ALL.iter().filter(|path| path.is_available()) {
        assert!(path.keccak_each(&[], [[0_u8; 0]; 8]).iter().all(|digest| digest.0[..] == known), "{path:?}");
    }
}

proptest! {
    #[test]
    fn paths_agree_on_any_messages(lens in proptest::collection::vec(0..900_usize, 0..40), prefix in 0..40_usize, salt in any::<u64>()) {
        let messages: Vec<_> = lens.iter().zip(0_u64..).map(|(len, at)| noise(*len, salt.wrapping_add(at))).collect();
        check(&noise(prefix, salt), &messages);
    }

    #[test]
    fn paths_agree_on_runs_of_equal_messages(runs in proptest::collection::vec((0..500_usize, 1..20_u64), 0..6), salt in any::<u64>()) {
        let messages: Vec<_> = runs.iter().flat_map(|(len, count)| (0..*count).map(|at| noise(*len, salt.wrapping_add(at)))).collect();
        check(&[0], &messages);
    }
}
