use proptest::prelude::*;
use serde_json::Value;
use types::id::Hash32;

use super::{
    checkpoint::{self, Checkpoint, CheckpointError},
    entry,
    note::{Key, Note, NoteError, Role, Signer, signature_lines},
    proof::{Proof, ProofError},
    tile::{self, Resource, Tile, TileError, Tiles},
    tree::{Levels, consistency_ranges, inclusion_ranges, is_consistent, is_included, leaf_hash, node_hash},
    witness::{AddCheckpoint, Refusal},
    *,
};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/log_vectors.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn hash(value: &Value) -> LogHash {
    LogHash(bytes(value).try_into().unwrap())
}

fn hashes(value: &Value) -> Vec<LogHash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// The entry that the vectors have at a place.
fn made(number: u64) -> [u8; entry::ENTRY_BYTES] {
    use sha2::Digest as _;
    entry::of_receipt(Hash32(sha2::Sha256::digest(number.to_be_bytes()).into()))
}

/// Another one.
fn other(number: u64) -> [u8; entry::ENTRY_BYTES] {
    made(number + (1 << 32))
}

fn levels(size: u64) -> Levels {
    let mut levels = Levels::new();
    (0..size).for_each(|number| levels.push(leaf_hash(&made(number))));
    levels
}

/// What a log serves of a tile.
fn served(entries: &dyn Fn(u64) -> [u8; entry::ENTRY_BYTES], levels: &Levels, tile: Tile) -> Vec<u8> {
    match tile.level() {
        0 => tile::to_bytes(&tile.entries().map(|number| leaf_hash(&entries(number))).collect::<Vec<_>>()),
        _ => tile::to_bytes(levels.upper(tile).unwrap()),
    }
}

/// The same and the root over the first entries.
fn with(mut ranges: Vec<std::ops::Range<u64>>, first: u64) -> Vec<std::ops::Range<u64>> {
    ranges.push(0..first);
    ranges
}

/// A reader's tiles for the proofs over these ranges.
fn fetched(levels: &Levels, ranges: &[std::ops::Range<u64>]) -> Tiles {
    let mut tiles = Tiles::new(levels.size());
    for tile in tiles.needed(ranges) {
        tiles.insert(tile, &served(&made, levels, tile)).unwrap();
    }
    tiles
}

#[test]
fn the_tree_of_certificate_transparencys_own_leaves_has_its_known_roots() {
    let mut levels = Levels::new();
    assert_eq!(levels.head(), Head::empty());
    for known in vectors()["known"].as_array().unwrap() {
        levels.push(leaf_hash(&bytes(&known["leaf"])));
        assert_eq!(levels.head().root, hash(&known["root"]), "{} leaves", levels.size());
    }
}

#[test]
fn roots_proofs_and_tiles_are_those_of_an_independent_program() {
    use sha2::Digest as _;
    let mut levels = Levels::new();
    for tree in vectors()["trees"].as_array().unwrap() {
        let size = number(&tree["size"]);
        (levels.size()..size).for_each(|number| levels.push(leaf_hash(&made(number))));
        let head = levels.head();
        assert_eq!(head, Head { size, root: hash(&tree["root"]) });
        for row in tree["inclusion"].as_array().unwrap() {
            let index = number(&row["index"]);
            let proof = fetched(&levels, &inclusion_ranges(index, size).unwrap()).inclusion(index).unwrap();
            assert_eq!(proof, hashes(&row["path"]), "entry {index} of {size}");
            assert!(is_included(leaf_hash(&made(index)), index, head, &proof));
        }
        for row in tree["consistency"].as_array().unwrap() {
            let old = number(&row["old"]);
            let tiles = fetched(&levels, &with(consistency_ranges(old, size).unwrap(), old));
            let proof = tiles.consistency(old).unwrap();
            assert_eq!(proof, hashes(&row["proof"]), "{old} of {size}");
            assert!(is_consistent(tiles.head(old).unwrap(), head, &proof));
        }
        for row in tree["tiles"].as_array().unwrap() {
            let tile = Tile::at(u8::try_from(number(&row["level"])).unwrap(), number(&row["index"]), size).unwrap();
            let found = served(&made, &levels, tile);
            assert_eq!((u64::from(tile.width()), sha2::Sha256::digest(&found).to_vec()), (number(&row["width"]), bytes(&row["sha256"])));
        }
    }
}

#[test]
fn a_path_has_one_spelling_and_names_one_tile() {
    for row in vectors()["paths"].as_array().unwrap() {
        let (index, path) = (number(&row["index"]), row["path"].as_str().unwrap());
        for (kind, width) in [("0", ""), ("63", ""), ("entries", ""), ("0", ".p/1"), ("entries", ".p/255")] {
            let path = format!("{kind}/{path}{width}");
            let resource = Resource::parse(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(resource.to_string(), format!("tile/{path}"));
            let (Resource::Tile(tile) | Resource::Entries(tile)) = resource;
            assert_eq!(tile.index(), index);
        }
    }
    for path in [
        "",
        "0",
        "0/",
        "0/0",
        "0/00",
        "0/0000",
        "00/000",
        "64/000",
        "0/x000/000",
        "0/001/000",
        "0/x001/0",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/000.p/",
        "0/-01",
        "0/+01",
        "a/000",
        "0/000/",
        "/000",
        "entries/x000/001",
        "0/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(Resource::parse(path), None, "{path}");
    }
}

#[test]
fn a_tile_of_another_length_and_one_that_was_not_fetched_are_named() {
    let mut tiles = Tiles::new(300);
    let tile = Tile::at(0, 1, 300).unwrap();
    assert_eq!(tile.width(), 44);
    let error = tiles.insert(tile, &[0; 32 * 43]).unwrap_err();
    assert_eq!(error.to_string(), "tile/0/001.p/44 has 1376 bytes, expected 1408");
    assert_eq!(tiles.inclusion(1), Err(TileError::Missing("tile/0/000".into())));
    assert_eq!(tiles.inclusion(300), Err(TileError::Past { index: 300, size: 300 }));
    assert_eq!((Tile::at(0, 2, 300), Tile::at(1, 0, 255), Tile::at(8, 0, u64::MAX)), (None, None, None), "no empty tile is served");
}

#[test]
fn a_log_that_changed_dropped_or_inserted_an_entry_gives_no_proof_that_stands() {
    let old = levels(300).head();
    type Lie = fn(u64) -> [u8; entry::ENTRY_BYTES];
    let lies: [(&str, Lie); 3] = [
        ("an entry changed", |number| if number == 7 { other(7) } else { made(number) }),
        ("an entry dropped", |number| made(if number < 7 { number } else { number + 1 })),
        ("an entry inserted", |number| if number < 7 { made(number) } else { made(number - 1) }),
    ];
    for (what, lie) in lies {
        let mut forked = Levels::new();
        (0..700).for_each(|number| forked.push(leaf_hash(&lie(number))));
        let ranges = [consistency_ranges(300, 700).unwrap(), vec![0..300, 0..700]].concat();
        let mut tiles = Tiles::new(700);
        for tile in tiles.needed(&ranges) {
            tiles.insert(tile, &served(&lie, &forked, tile)).unwrap();
        }
        assert_eq!(tiles.head(700).unwrap(), forked.head(), "{what}: the tiles are those of the signed head");
        assert_ne!(tiles.head(300).unwrap(), old, "{what}: they show that the head of before is of another log");
        assert!(!is_consistent(old, forked.head(), &tiles.consistency(300).unwrap()), "{what}");
    }
    let shorter = levels(200).head();
    assert!(!is_consistent(old, shorter, &[]) && consistency_ranges(300, 200).is_none(), "a log that lost entries goes on from nothing");
}

#[test]
fn checkpoints_cosignatures_and_proofs_are_those_of_an_independent_program() {
    let vectors = vectors();
    let of = &vectors["texts"];
    let text = |field: &str| of[field].as_str().unwrap();
    let seed = |field: &str| -> [u8; 32] { bytes(&of[field]).try_into().unwrap() };
    let (log, witness) = (Signer::new(Role::Log, &seed("logSeed")), Signer::new(Role::Witness, &seed("witnessSeed")));
    let levels = levels(600);
    let mut signed = checkpoint::sign(&log, levels.head());
    assert_eq!((signed.note.to_string().as_str(), log.key().verifier().as_str()), (text("checkpoint"), text("verifier")));
    let cosigned = witness.sign(signed.note.text(), number(&of["time"]));
    assert_eq!(cosigned.to_string(), text("cosignature"));
    assert_eq!(signature_lines(text("cosignature")).unwrap(), std::slice::from_ref(&cosigned));

    let old = number(&of["old"]);
    let proof = fetched(&levels, &consistency_ranges(old, 600).unwrap()).consistency(old).unwrap();
    let request = AddCheckpoint { old, proof, note: signed.note.clone() };
    assert_eq!(request.to_string(), text("request"));
    assert_eq!(AddCheckpoint::parse(text("request").as_bytes()), Ok(request));

    signed.note.add([cosigned]);
    let index = number(&of["index"]);
    let path = fetched(&levels, &inclusion_ranges(index, 600).unwrap()).inclusion(index).unwrap();
    let proof = Proof { index, path, checkpoint: signed };
    assert_eq!(proof.to_text(), text("proof"));
    let read = Proof::open(text("proof").as_bytes(), log.key().node()).unwrap();
    assert_eq!((read.verify(&made(index)), read.checkpoint.note.signed_at(witness.key())), (Ok(()), Ok(number(&of["time"]))));
    assert_eq!(read.verify(&made(index + 1)), Err(ProofError::Root { index, size: 600 }));
}

#[test]
fn a_checkpoint_of_another_log_or_another_signer_is_refused_by_name() {
    let (own, foreign) = (Signer::new(Role::Log, &[1; 32]), Signer::new(Role::Log, &[2; 32]));
    let signed = checkpoint::sign(&own, levels(3).head());
    let text = signed.note.to_string();
    assert_eq!(Checkpoint::open(text.as_bytes(), own.key().node()), Ok(signed.clone()));
    assert!(matches!(Checkpoint::open(text.as_bytes(), foreign.key().node()), Err(CheckpointError::Origin { .. })));
    let mut posing = Note::unsigned(signed.note.text().to_owned());
    posing.add([foreign.sign(posing.text(), 0)]);
    let unsigned = CheckpointError::Note(NoteError::Unsigned(own.key().name().to_owned()));
    assert_eq!(Checkpoint::open(posing.to_string().as_bytes(), own.key().node()), Err(unsigned));
    let raised = text.replacen("\n3\n", "\n4\n", 1);
    let bad = CheckpointError::Note(NoteError::Signature(own.key().name().to_owned()));
    assert_eq!(Checkpoint::open(raised.as_bytes(), own.key().node()), Err(bad));
    // The log's key as a witness: another name, another text.
    assert!(signed.note.signed_at(Signer::new(Role::Witness, &[1; 32]).key()).is_err());
    assert_eq!(Key::node_of_origin(own.key().name()), Some(own.key().node()));
    assert_eq!(Key::node_of_origin(&own.key().name().to_uppercase()), None);
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let root = levels(3).head().root;
    for text in [
        "",
        "\n",
        "log\n",
        "log\n3\n",
        "log\n03\nROOT\n",
        "log\n+3\nROOT\n",
        "log\n3\nrOOT\n",
        "\n3\nROOT\n",
        "log\n3\nROOT\n\n",
        "log\n18446744073709551616\nROOT\n",
    ] {
        assert!(checkpoint::read(&text.replace("ROOT", &root.to_string())).is_err(), "{text:?}");
    }
    let extended = format!("log\n3\n{root}\nmore\n");
    assert_eq!(checkpoint::read(&extended).unwrap(), ("log", Head { size: 3, root }));
}

#[test]
fn a_witness_cosigns_what_goes_on_and_refuses_forks_by_their_status() {
    let log = Signer::new(Role::Log, &[1; 32]);
    let (before, now) = (levels(100).head(), levels(400));
    let proof = fetched(&now, &consistency_ranges(100, 400).unwrap()).consistency(100).unwrap();
    let request = |old: u64, proof: &[LogHash], head: Head| {
        let asked = AddCheckpoint { old, proof: proof.to_vec(), note: checkpoint::sign(&log, head).note };
        AddCheckpoint::parse(asked.to_string().as_bytes()).unwrap()
    };
    let judged = |request: &AddCheckpoint, last| request.judge(log.key(), last).map_err(|refusal| (refusal.status(), refusal));
    let forked = Head { root: node_hash(before.root, before.root), ..now.head() };

    assert_eq!(judged(&request(0, &[], before), None), Ok(before), "the first head needs no proof");
    assert_eq!(judged(&request(100, &[], before), Some(before)), Ok(before), "the same head again is cosigned again");
    assert_eq!(judged(&request(100, &proof, now.head()), Some(before)), Ok(now.head()));
    assert_eq!(judged(&request(100, &proof, forked), Some(before)), Err((422, Refusal::Inconsistent)));
    assert_eq!(judged(&request(100, &proof[1..], now.head()), Some(before)), Err((422, Refusal::Inconsistent)));
    assert_eq!(judged(&request(100, &proof, before), Some(before)), Err((422, Refusal::Inconsistent)), "a proof of nothing is none");
    assert_eq!(judged(&request(0, &[], now.head()), Some(before)), Err((409, Refusal::Conflict(100))), "it is told what was cosigned last");
    assert_eq!(
        judged(&request(400, &[], forked), Some(now.head())),
        Err((409, Refusal::Conflict(400))),
        "two heads of one size are a fork"
    );
    assert_eq!(judged(&request(400, &[], before), Some(now.head())).unwrap_err().0, 400);
    assert_eq!(judged(&request(0, &proof, now.head()), None), Err((422, Refusal::Inconsistent)));
    assert_eq!(judged(&request(0, &[], Head { size: 0, root: before.root }), None).unwrap_err().0, 409, "nothing has one root");

    let foreign = Signer::new(Role::Log, &[2; 32]);
    let mut posing = request(100, &proof, now.head());
    let text = posing.note.text().to_owned();
    posing.note = Note::unsigned(text);
    posing.note.add([foreign.sign(posing.note.text(), 0)]);
    assert_eq!(judged(&posing, Some(before)).unwrap_err().0, 403);
    assert_eq!(request(100, &proof, now.head()).judge(foreign.key(), None).unwrap_err().status(), 404);
}

#[test]
fn requests_that_are_none_are_malformed() {
    let text = vectors()["texts"]["request"].as_str().unwrap().to_owned();
    for bad in ["old 05", "old", "new 5", "old -5", "old 5 ", "OLD 5"] {
        assert_eq!(AddCheckpoint::parse(text.replacen("old 5", bad, 1).as_bytes()).unwrap_err().status(), 400, "{bad}");
    }
    let line = format!("{}\n", LogHash([7; 32]));
    let long = text.replacen("old 5\n", &format!("old 5\n{}", line.repeat(witness::PROOF_LINES_MAX + 1)), 1);
    assert_eq!(AddCheckpoint::parse(long.as_bytes()).unwrap_err().status(), 400);
    assert_eq!(AddCheckpoint::parse(&vec![b'a'; witness::REQUEST_BYTES_MAX + 1]).unwrap_err().status(), 400);
}

#[test]
fn bundles_come_back_and_one_that_is_cut_or_miscounted_is_refused() {
    let made: Vec<_> = (0..3).map(made).collect();
    let bundle = entry::bundle(made.iter().map(<[u8; 33]>::as_slice));
    assert_eq!(entry::entries(&bundle, 3).unwrap(), made);
    for length in 0..bundle.len() {
        assert!(entry::entries(&bundle[..length], 3).is_err(), "{length} bytes");
    }
    assert_eq!(entry::entries(&bundle, 2), Err(entry::BundleError::Count { got: 3, expected: 2 }));
    assert_eq!(entry::entries(&bundle, 4), Err(entry::BundleError::Count { got: 3, expected: 4 }));
    let empty = vec![0; entry::BUNDLE_BYTES_MAX + 2];
    assert_eq!(entry::entries(&empty, 256), Err(entry::BundleError::TooLong(empty.len())));
}

#[test]
fn a_head_is_kept_in_forty_bytes() {
    let head = levels(3).head();
    assert_eq!(Head::from_bytes(&head.to_bytes()), Some(head));
    for length in [0, 7, 39, 41] {
        assert_eq!(Head::from_bytes(&vec![0; length]), None);
    }
}

proptest! {
    #[test]
    fn every_proof_stands_and_none_with_a_hash_changed(size in 1_u64..1_200, index in any::<u64>(), old in any::<u64>(), at in any::<prop::sample::Index>()) {
        let (index, old) = (index % size, 1 + old % size);
        let levels = levels(size);
        let tiles = fetched(&levels, &with([inclusion_ranges(index, size).unwrap(), consistency_ranges(old, size).unwrap()].concat(), old));
        let (head, leaf) = (levels.head(), leaf_hash(&made(index)));
        let path = tiles.inclusion(index).unwrap();
        prop_assert!(is_included(leaf, index, head, &path));
        prop_assert!(!is_included(leaf, index ^ 1, head, &path) || size == 1);
        let before = tiles.head(old).unwrap();
        let proof = tiles.consistency(old).unwrap();
        prop_assert!(is_consistent(before, head, &proof));
        let changed = |hashes: &[LogHash]| {
            let mut hashes = hashes.to_vec();
            let place = at.index(hashes.len());
            hashes[place].0[3] ^= 1;
            hashes
        };
        if !path.is_empty() {
            prop_assert!(!is_included(leaf, index, head, &changed(&path)));
            prop_assert!(!is_included(leaf, index, head, &path[1..]));
        }
        if !proof.is_empty() {
            prop_assert!(!is_consistent(before, head, &changed(&proof)));
            prop_assert!(!is_consistent(before, head, &proof[1..]));
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), size in any::<u64>(), index in any::<u64>(), level in any::<u8>()) {
        let node = Signer::new(Role::Log, &[1; 32]).key().node();
        let _ = (Note::parse(&bytes), Checkpoint::open(&bytes, node), Proof::open(&bytes, node), AddCheckpoint::parse(&bytes));
        let _ = (entry::entries(&bytes, level.into()), Head::from_bytes(&bytes), Tile::at(level, index, size));
        let (hashes, _) = bytes.as_chunks::<32>();
        let hashes: Vec<LogHash> = hashes.iter().copied().map(LogHash).collect();
        let head = Head { size, root: LogHash([1; 32]) };
        let _ = (is_included(LogHash([2; 32]), index, head, &hashes), is_consistent(Head { size: index, root: head.root }, head, &hashes));
        let ranges = inclusion_ranges(index, size).into_iter().chain(consistency_ranges(index, size)).flatten().collect::<Vec<_>>();
        prop_assert!(ranges.len() <= 2 * tree::PROOF_LEN_MAX + 1 && Tiles::new(size).needed(&ranges).len() <= 64 * ranges.len());
    }

    #[test]
    fn a_text_with_a_byte_changed_is_refused_or_says_the_same(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let signed = checkpoint::sign(&Signer::new(Role::Log, &[1; 32]), levels(3).head());
        let mut bytes = signed.note.to_string().into_bytes();
        let place = at.index(bytes.len());
        bytes[place] = to;
        let node = Signer::new(Role::Log, &[1; 32]).key().node();
        if let Ok(read) = Checkpoint::open(&bytes, node) {
            prop_assert_eq!(read, signed);
        }
    }

    #[test]
    fn paths_never_panic(path in "[0-9a-z/.]{0,70}") {
        if let Some(resource) = Resource::parse(&path) {
            prop_assert_eq!(resource.to_string(), format!("tile/{path}"));
        }
    }
}
