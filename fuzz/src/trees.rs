//! Trees that somebody else keeps: tiles of a log, openings under keccak roots, leaves of an answer.

use attribution::{
    check::Shown,
    epoch::Claim,
    index::{HeadOpenings, SpanOpenings},
    log::{
        Head, LogHash,
        follow::{follow, needed},
        tile::Tiles,
        tree::{consistency_ranges, inclusion_ranges, is_consistent, is_included, leaf_hash},
    },
    parameters::Parameters,
    proof::{Committed, find_in_leaves},
};
use serde_json::json;
use types::{
    amount::Amount,
    id::Hash32,
    key::Signed,
    merkle::{Opening, SumOpening, Summed, Tree, leaf, leaf_digests, root},
};

use crate::{
    bundles::WORLD,
    edits::{Numbers, edited},
    receipts::DOMAINS,
};

/// Hashes of a whole tile.
const TILE_WIDTH: u64 = 256;

/// Sizes, numbers and hashes of tiles.
pub(crate) fn tiles(bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let shift = u32::from(numbers.byte() % 64);
    let [size, old, index] = [(); 3].map(|()| numbers.wide::<8>() >> shift);
    let hashes: Vec<LogHash> = numbers.0.as_chunks::<32>().0.iter().copied().map(LogHash).collect();
    let hash = |number: usize| hashes.get(number % hashes.len().max(1)).copied().unwrap_or(LogHash([0; 32]));
    let mut tiles = Tiles::new(size);
    let ranges = needed(Some(Head { size: old, root: hash(0) }), Head { size, root: hash(1) });
    let wanted = inclusion_ranges(index, size).into_iter().chain(consistency_ranges(old, size)).flatten().chain(ranges).collect::<Vec<_>>();
    for (number, tile) in tiles.needed(&wanted).into_iter().take(hashes.len()).enumerate() {
        let content: Vec<u8> = (0..usize::from(tile.width())).flat_map(|place| hash(number + place).0).collect();
        assert_eq!(tiles.insert(tile, &content), Ok(()));
        assert!(tiles.insert(tile, &content[1..]).is_err());
    }
    let heads = tiles.head(size).ok().zip(tiles.head(old.min(size)).ok());
    let (included, consistent) = (tiles.inclusion(index), tiles.consistency(old));
    if let Some((head, before)) = heads {
        assert!(follow(None, head, &tiles).is_ok(), "what the tiles lead to is followed");
        // Higher tiles are to be made of lower ones, which these are not.
        if size < TILE_WIDTH {
            if let Ok(proof) = &consistent {
                assert!(is_consistent(before, head, proof), "a proof from tiles that are there does not hold: {old} to {size}");
            }
            if let Ok(proof) = &included {
                let own = tiles.root(&(index..index + 1)).expect("an entry whose proof was made");
                assert!(is_included(own, index, head, proof), "entry {index} of {size}");
            }
        }
    }
    let head = Head { size, root: hash(1) };
    let _ = follow(Some(Head { size: old, root: hash(0) }), head, &tiles);
    let _ = (is_included(leaf_hash(b"entry"), index, head, &hashes), is_consistent(Head { size: old, root: hash(0) }, head, &hashes));
}

pub(crate) fn tile_seeds() -> Vec<Vec<u8>> {
    let of = |shift: u8, size: u64, old: u64, index: u64, hashes: usize| {
        let numbers = [size, old, index].map(|number| (number << shift).to_be_bytes()).concat();
        let hashes: Vec<u8> = (0..hashes).flat_map(|number| leaf(&number.to_be_bytes()).0).collect();
        [&[shift][..], &numbers, &hashes].concat()
    };
    vec![
        of(0, 7, 3, 5, 9),
        of(0, 256, 255, 0, 4),
        of(0, 70_000, 65_536, 69_999, 12),
        of(40, 300, 257, 256, 6),
        of(0, u64::MAX, 1, 9, 3),
        of(3, 1, 0, 0, 1),
    ]
}

/// What a proof is edited from: all openings of this tree's own evidence.
fn evidence() -> serde_json::Value {
    let world = &*WORLD;
    let bundle = world.bundles.iter().max_by_key(|bundle| bundle.openings.len()).expect("right bundles");
    let tree = Tree::over([&b"one"[..], b"two", b"three"]);
    let sum = SumOpening { leaves: 3, index: 1, siblings: vec![Summed::leaf(b"a", Amount(4)), Summed::leaf(b"b", Amount(5))] };
    json!({ "spans": bundle.openings, "opening": tree.open(1), "sum": sum, "leaf": [1, 2, 3] })
}

/// Openings that were edited, then leaves of an answer as they are.
pub(crate) fn proofs(bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    if numbers.byte() & 1 == 0 {
        let edited = edited(evidence(), &mut numbers);
        let part = |name: &str| edited.get(name).cloned().unwrap_or_default();
        for opening in part("spans").as_array().cloned().unwrap_or_default() {
            if let Ok(span) = serde_json::from_value::<SpanOpenings>(opening) {
                let _ = (span.is_private(), span.shown_text().map(<[u8]>::len), span.document.root(), span.datanet.root());
                let _ = span.head.as_ref().map(|HeadOpenings { document, segment }| (document.root(), segment.root()));
                let _ = span.datanet.leaf.kind(span.segment.root().unwrap_or(Hash32::ZERO));
                assert_eq!(
                    postcard::to_allocvec(&span.segment).ok().and_then(|bytes| postcard::from_bytes(&bytes).ok()),
                    Some(span.segment)
                );
            }
        }
        if let Ok(opening) = serde_json::from_value::<Opening>(part("opening")) {
            let _ = opening.root(b"two");
        }
        if let Ok(opening) = serde_json::from_value::<SumOpening>(part("sum")) {
            let _ = opening.root(Summed::leaf(b"c", Amount(u128::MAX)));
        }
        return;
    }
    let which = numbers.byte();
    if which & 1 == 0 {
        if let Ok(shown) = postcard::from_bytes::<Shown>(numbers.0) {
            let _ = shown.verify(Hash32::ZERO, Hash32::ZERO, 3);
        }
        if let Ok(claim) = postcard::from_bytes::<Claim>(numbers.0) {
            let _ = claim.opening.root(claim.leaf.summed());
        }
        return;
    }
    // Leaves of an answer that a node committed to: lengths and bytes as they come.
    let world = &*WORLD;
    let byte_length = numbers.wide::<3>();
    let mut leaves = Vec::new();
    while !numbers.is_empty() && leaves.len() < 40 {
        let length = usize::from(numbers.byte()) + if numbers.byte() & 1 == 0 { 0 } else { 256 };
        let (leaf, rest) = numbers.0.split_at(length.min(numbers.0.len()));
        leaves.push(leaf.to_vec());
        numbers.0 = rest;
    }
    let mut receipt = world.bundles[usize::from(which >> 1) % world.bundles.len()].receipt.document.clone();
    receipt.answer_root = root(leaf_digests(&leaves), byte_length);
    receipt.node = world.account.address();
    let signed = Signed::new(&world.account, &DOMAINS, receipt);
    let committed = Committed { leaves: &leaves, byte_length };
    let _ = find_in_leaves(&DOMAINS, &signed, committed, Parameters::builtin(1).expect("built in"));
}

pub(crate) fn proof_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0], vec![0, 0, 0, 9, 0, 0, 7], vec![0, 0, 0, 30, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], vec![1, 0, 0, 0, 0]];
    for (which, bundle) in (0_u8..).zip(&WORLD.bundles) {
        let words = attribution::span::weigh(Parameters::builtin(1).expect("built in"), &bundle.answer);
        let mut seed = vec![1, which << 1 | 1];
        seed.extend(&u32::try_from(bundle.answer.len()).expect("short").to_be_bytes()[1..]);
        for leaf in attribution::answer::answer_leaves(&bundle.answer, &words, bundle.answer_salt) {
            seed.extend([u8::try_from(leaf.len() % 256).expect("below 256"), u8::try_from(leaf.len() / 256).expect("short")]);
            seed.extend(leaf);
        }
        seeds.push(seed);
    }
    seeds
}
