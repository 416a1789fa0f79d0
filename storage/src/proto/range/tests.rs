use proptest::prelude::*;
use types::id::{BlobId, Hash32};

use super::*;
use crate::erasure::{Encoded, ObjectManifest, Profile, encode as code};

/// An object whose first fragment is as long as that, and the fragment.
fn fragment(length: usize) -> (ObjectManifest, Vec<u8>) {
    let bytes: Vec<u8> = (0..3 * length).map(|i| u8::try_from((i * 7 + i / 251 + i / 65_537) % 256).unwrap()).collect();
    let Encoded { manifest, fragments } = code(&bytes, Hash32::ZERO, Profile::DEVNET).unwrap();
    assert_eq!(manifest.fragment_len(), length);
    (manifest, fragments[0].clone())
}

fn write(bytes: &[u8], run: Run, groups: u32) -> Vec<u8> {
    let tree = Tree::of(bytes);
    let mut encoder = Encoder::new(&tree, run).unwrap();
    let mut out = Vec::new();
    while !encoder.is_done() {
        encoder
            .fill(&tree, groups, &mut out, |at, place| {
                let at = usize::try_from(at).unwrap();
                place.copy_from_slice(&bytes[at..at + place.len()]);
                Ok::<_, ()>(())
            })
            .unwrap();
    }
    out
}

/// Feeds a decoder pieces of these lengths in turn; gives the blocks, what was wrong, and the bytes it did not want.
fn read(decoder: &mut Decoder, mut bytes: &[u8], pieces: &[usize]) -> (Vec<Block>, Option<Wrong>, usize) {
    let mut blocks = Vec::new();
    for piece in pieces.iter().cycle() {
        let space = decoder.space();
        assert!(space.len() <= GROUP_BYTES);
        let count = space.len().min(bytes.len()).min(*piece);
        if count == 0 {
            break;
        }
        space[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        match decoder.advance(count) {
            Ok(block) => blocks.extend(block),
            Err(wrong) => {
                assert_eq!(decoder.advance(1), Err(wrong));
                assert!(decoder.is_done() && decoder.space().is_empty());
                blocks.extend(decoder.take());
                return (blocks, Some(wrong), bytes.len());
            }
        }
        // However much was promised, memory follows what arrived.
        assert!(decoder.held_bytes() <= (1 + BLOCK_GROUPS as usize) * GROUP_BYTES);
    }
    blocks.extend(decoder.take());
    (blocks, None, bytes.len())
}

fn joined(blocks: &[Block]) -> Vec<u8> {
    blocks.iter().flat_map(|block| block.bytes().to_vec()).collect()
}

const LENGTHS: [usize; 9] =
    [1, 1_024, GROUP_BYTES, GROUP_BYTES + 1, 2 * GROUP_BYTES, 3 * GROUP_BYTES, 5 * GROUP_BYTES + 7, 100_000, 700_000];

#[test]
fn the_tree_over_groups_has_the_root_that_blake3_gives() {
    for length in LENGTHS {
        let (manifest, bytes) = fragment(length);
        let tree = Tree::of(&bytes);
        assert_eq!(tree.root(), BlobId::of(&bytes), "{length}");
        assert_eq!(tree.root(), manifest.fragments()[0].blake3);
    }
}

#[test]
fn every_range_of_every_shape_comes_back_and_costs_what_was_said() {
    for length in LENGTHS {
        let (manifest, bytes) = fragment(length);
        let groups = Run::all(length).count;
        for first in 0..groups {
            for count in 1..=groups - first {
                let run = Run { first, count };
                let sent = write(&bytes, run, 3);
                assert_eq!(sent.len(), run.encoded_len(length), "{length} {run:?}");
                let mut decoder = Decoder::new(&manifest, 0, run).unwrap();
                let (blocks, wrong, over) = read(&mut decoder, &sent, &[usize::MAX]);
                assert_eq!((wrong, over, decoder.is_done()), (None, 0, true));
                let end = (run.end() as usize * GROUP_BYTES).min(length);
                assert_eq!(joined(&blocks), bytes[first as usize * GROUP_BYTES..end]);
                assert!(blocks.iter().all(|block| block.run().count <= BLOCK_GROUPS));
            }
        }
    }
}

#[test]
fn the_bytes_of_a_range_are_pinned() {
    // Three groups: the root's pair, the left node's pair, two groups; of the second group alone the same without the first group's bytes.
    let (_, bytes) = fragment(2 * GROUP_BYTES + 5);
    let all = write(&bytes, Run { first: 0, count: 3 }, 9);
    assert_eq!(all.len(), 2 * 64 + bytes.len());
    let (left, right) = (&all[..32], &all[32..64]);
    assert_eq!(
        blake3::hazmat::merge_subtrees_root(left.try_into().unwrap(), right.try_into().unwrap(), blake3::hazmat::Mode::Hash),
        blake3::hash(&bytes)
    );
    assert_eq!(all[128..128 + 2 * GROUP_BYTES], bytes[..2 * GROUP_BYTES]);
    assert_eq!(all[128 + 2 * GROUP_BYTES..], bytes[2 * GROUP_BYTES..]);
    let second = write(&bytes, Run { first: 1, count: 1 }, 9);
    assert_eq!(second, [&all[..128], &bytes[GROUP_BYTES..2 * GROUP_BYTES]].concat());
}

#[test]
fn a_range_outside_the_fragment_is_none() {
    let (manifest, bytes) = fragment(100_000);
    let tree = Tree::of(&bytes);
    for run in [(0, 0), (7, 1), (0, 8), (6, 2), (u32::MAX, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
        let run = Run { first: run.0, count: run.1 };
        assert!(Encoder::new(&tree, run).is_none() && Decoder::new(&manifest, 0, run).is_none(), "{run:?}");
    }
    assert!(Decoder::new(&manifest, 5, Run { first: 0, count: 1 }).is_none(), "there are five fragments");
}

#[test]
fn a_holder_whose_bytes_changed_stops_before_it_sends_them() {
    let (_, mut bytes) = fragment(100_000);
    let tree = Tree::of(&bytes);
    bytes[40_000] ^= 1;
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&tree, Run::all(100_000)).unwrap();
    let read = |at: u64, place: &mut [u8]| {
        let at = usize::try_from(at).unwrap();
        place.copy_from_slice(&bytes[at..at + place.len()]);
        Ok::<_, ()>(())
    };
    let error = encoder.fill(&tree, 99, &mut out, read).unwrap_err();
    assert!(matches!(error, FillError::Changed { group: 2, .. }), "{error:?}");
    let mut encoder = Encoder::new(&tree, Run::all(100_000)).unwrap();
    assert_eq!(encoder.fill(&tree, 99, &mut out, |_, _| Err("gone")), Err(FillError::Read("gone")));
}

#[test]
fn blocks_make_a_fragment_only_in_their_order_and_all_of_them() {
    let (manifest, bytes) = fragment(700_000);
    let mut decoder = Decoder::new(&manifest, 0, Run::all(700_000)).unwrap();
    let (mut blocks, ..) = read(&mut decoder, &write(&bytes, Run::all(700_000), 99), &[usize::MAX]);
    assert_eq!(blocks.len(), 3);
    assert_eq!(whole(&manifest, 0, &blocks).unwrap().bytes(), bytes);
    assert_eq!(whole(&manifest, 1, &blocks), None);
    assert_eq!(whole(&manifest, 0, &blocks[..2]), None);
    blocks.swap(0, 1);
    assert_eq!(whole(&manifest, 0, &blocks), None);
}

#[test]
fn ranges_repeated_or_in_another_order_are_wrong_at_once() {
    let (manifest, bytes) = fragment(100_000);
    let all = write(&bytes, Run::all(100_000), 99);
    // Groups 0 and 1 lie behind the pairs of the root, of 0..4 and of 0..2.
    let (head, rest) = all.split_at(3 * 64);
    let (zero, one) = (&rest[..GROUP_BYTES], &rest[GROUP_BYTES..2 * GROUP_BYTES]);
    for (answer, good) in [([head, one, zero].concat(), 0), ([head, zero, zero].concat(), 1)] {
        let mut decoder = Decoder::new(&manifest, 0, Run::all(100_000)).unwrap();
        let (blocks, wrong, _) = read(&mut decoder, &answer, &[1_000]);
        assert_eq!(joined(&blocks), bytes[..good * GROUP_BYTES]);
        assert_eq!(wrong.map(|wrong| wrong.group), Some(u32::try_from(good).unwrap()));
    }
    // Another range than the one asked for, and another fragment's.
    let mut decoder = Decoder::new(&manifest, 0, Run { first: 0, count: 2 }).unwrap();
    assert!(read(&mut decoder, &write(&bytes, Run { first: 2, count: 2 }, 99), &[999]).1.is_some());
    let mut decoder = Decoder::new(&manifest, 1, Run::all(100_000)).unwrap();
    let (blocks, wrong, _) = read(&mut decoder, &all, &[999]);
    assert!(blocks.is_empty() && wrong.is_some_and(|wrong| wrong.expected == manifest.fragments()[1].blake3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_changed_byte_ends_the_range_in_its_group_and_what_was_good_is_kept(
        length in 1..300_000_usize, at in any::<prop::sample::Index>(), change in 1..=255_u8, pieces in prop::collection::vec(1..40_000_usize, 1..5),
        first in any::<prop::sample::Index>(), count in any::<prop::sample::Index>(),
    ) {
        let (manifest, bytes) = fragment(length);
        let groups = Run::all(length).count as usize;
        let first = first.index(groups);
        let count = 1 + count.index(groups - first);
        let run = Run { first: u32::try_from(first).unwrap(), count: u32::try_from(count).unwrap() };
        let mut sent = write(&bytes, run, 16);
        let place = at.index(sent.len());
        sent[place] ^= change;
        let mut decoder = Decoder::new(&manifest, 0, run).unwrap();
        let (blocks, wrong, unread) = read(&mut decoder, &sent, &pieces);
        prop_assert!(wrong.is_some());
        prop_assert!(sent.len() - unread > place && sent.len() - unread <= place + GROUP_BYTES, "it is noticed at the end of its pair or group");
        let good = joined(&blocks);
        prop_assert_eq!(&good[..], &bytes[first * GROUP_BYTES..first * GROUP_BYTES + good.len()]);
    }

    #[test]
    fn short_and_long_answers_give_what_is_good_and_no_more(
        length in 1..300_000_usize, cut in any::<prop::sample::Index>(), tail in prop::collection::vec(any::<u8>(), 0..2_000), piece in 1..70_000_usize,
    ) {
        let (manifest, bytes) = fragment(length);
        let run = Run::all(length);
        let sent = write(&bytes, run, 16);
        let short = &sent[..cut.index(sent.len())];
        let mut decoder = Decoder::new(&manifest, 0, run).unwrap();
        let (blocks, wrong, _) = read(&mut decoder, short, &[piece]);
        prop_assert!(wrong.is_none() && !decoder.is_done());
        let good = joined(&blocks);
        prop_assert_eq!(&good[..], &bytes[..good.len()]);
        prop_assert!(good.len() <= short.len() && short.len() < good.len() + GROUP_BYTES + 64 * 32);

        let mut decoder = Decoder::new(&manifest, 0, run).unwrap();
        let (blocks, wrong, unread) = read(&mut decoder, &[&sent[..], &tail].concat(), &[piece]);
        prop_assert_eq!((joined(&blocks), wrong, unread), (bytes, None, tail.len()));
    }

    #[test]
    fn decoding_never_panics_and_believes_nothing_made_up(
        length in 1..200_000_usize, answer in prop::collection::vec(any::<u8>(), 0..40_000), piece in 1..70_000_usize,
    ) {
        let (manifest, _) = fragment(length);
        let mut decoder = Decoder::new(&manifest, 0, Run::all(length)).unwrap();
        let (blocks, wrong, _) = read(&mut decoder, &answer, &[piece]);
        prop_assert!(blocks.is_empty() && decoder.held_bytes() <= GROUP_BYTES);
        let first = if length > GROUP_BYTES { PAIR_BYTES } else { length };
        prop_assert_eq!(wrong.is_some(), answer.len() >= first);
    }
}
