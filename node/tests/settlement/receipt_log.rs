//! A node's receipt log over its real store: nothing lost at a stop, nothing signed over a store that is not what was signed, no fork cosigned.

use std::sync::Arc;

use attribution::log::{
    Head,
    checkpoint::Checkpoint,
    entry,
    follow::{self, Followed, follow},
    note::{Key, Role, signature_lines},
    tile::{Resource, Tiles},
    tree::{Levels, consistency_ranges, inclusion_ranges, is_included, leaf_hash},
    witness::{AddCheckpoint, Refusal},
};
use node::{
    books::Books,
    service::receipt_log::{LogError, ReceiptLog, WitnessError},
};
use p2p::identity::NodeSeed;
use storage::store::{Config, Store};
use types::id::{Hash32, NodeId};

const ENTRIES: &str = "receipt-log";
const MARKS: &str = "marks";

fn books(folder: &std::path::Path) -> Arc<Books> {
    Arc::new(Books::new(Store::open(folder, Config::default()).unwrap().records()))
}

fn hash(number: u64) -> Hash32 {
    types::merkle::keccak(&[&number.to_be_bytes()])
}

/// Logs receipts of which nothing else is kept, all in one step.
fn log_all(books: &Books, numbers: std::ops::Range<u64>, hash: impl Fn(u64) -> Hash32) {
    let entries: Vec<_> = numbers.clone().map(|number| (number.to_be_bytes(), hash(number).0)).collect();
    let mark = numbers.end.to_be_bytes();
    let rows = entries.iter().map(|(key, hash)| (ENTRIES, key.as_slice(), hash.as_slice()));
    books.records().put_all(&rows.chain([(MARKS, b"signed".as_slice(), mark.as_slice())]).collect::<Vec<_>>()).unwrap();
}

fn grow(books: &Books, numbers: std::ops::Range<u64>) {
    log_all(books, numbers, hash);
}

fn seed(byte: u8) -> NodeSeed {
    NodeSeed::new([byte; 32])
}

fn open(books: &Arc<Books>) -> ReceiptLog {
    ReceiptLog::open(Arc::clone(books), &seed(1)).unwrap()
}

/// What a reader has of a log after asking it for the tiles of these ranges.
fn tiles(log: &ReceiptLog, size: u64, ranges: &[std::ops::Range<u64>]) -> Tiles {
    let mut tiles = Tiles::new(size);
    for tile in tiles.needed(ranges) {
        tiles.insert(tile, &log.resource(Resource::Tile(tile)).unwrap().unwrap()).unwrap();
    }
    tiles
}

#[test]
fn every_receipt_is_found_under_a_signed_head_and_later_heads_go_on_from_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let books = books(folder.path());
    let log = open(&books);
    assert_eq!(log.checkpoint().unwrap().head, Head::empty());
    assert_eq!(log.resource(Resource::parse("0/000.p/1").unwrap()).unwrap(), None, "nothing is served before a head covers it");
    let mut seen = None;
    for (from, to) in [(0, 3), (3, 256), (256, 300), (300, 300), (300, 530)] {
        grow(&books, from..to);
        let checkpoint = log.checkpoint().unwrap();
        assert_eq!(Checkpoint::open(checkpoint.note.to_string().as_bytes(), seed(1).node_id()).unwrap().head.size, to);
        let head = checkpoint.head;
        assert!(follow(seen, head, &tiles(&log, to, &follow::needed(seen, head))).is_ok());
        seen = Some(head);
        for number in [0, to / 2, to - 1] {
            let path = tiles(&log, to, &inclusion_ranges(number, to).unwrap()).inclusion(number).unwrap();
            let entry = entry::of_receipt(hash(number));
            assert!(is_included(leaf_hash(&entry), number, head, &path), "{number} of {to}");
        }
    }
    let bundle = log.resource(Resource::parse("entries/002.p/18").unwrap()).unwrap().unwrap();
    assert_eq!(entry::entries(&bundle, 18).unwrap()[17], entry::of_receipt(hash(529)));
    for path in ["entries/002.p/19", "0/002", "1/000", "1/000.p/3", "2/000.p/1", "7/000.p/1"] {
        assert_eq!(log.resource(Resource::parse(path).unwrap()).unwrap(), None, "{path} is past the head");
    }
    assert!(log.resource(Resource::parse("0/002.p/7").unwrap()).unwrap().is_some(), "tiles of earlier heads stay");
}

#[test]
fn a_stop_between_a_receipt_and_its_head_loses_no_entry_and_signs_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let books = books(folder.path());
    grow(&books, 0..40);
    let before = open(&books).checkpoint().unwrap();
    // Receipts that were kept, and the process ends before anybody asked for a head.
    grow(&books, 40..300);
    let log = open(&books);
    assert!(log.resource(Resource::parse("0/000.p/40").unwrap()).unwrap().is_some(), "a start stands by the head it had signed");
    assert_eq!(log.resource(Resource::parse("0/000.p/41").unwrap()).unwrap(), None, "and by no other before one is asked for");
    let now = log.checkpoint().unwrap().head;
    let tiles = tiles(&log, 300, &follow::needed(Some(before.head), now));
    assert_eq!((now.size, follow(Some(before.head), now, &tiles)), (300, Ok(Followed::Grown)));
    // A head that was kept, and the process ends before it is signed: it is signed by the next one.
    grow(&books, 300..310);
    let mut levels = Levels::new();
    (0..310).for_each(|number| levels.push(leaf_hash(&entry::of_receipt(hash(number)))));
    books.keep_log_head(levels.head()).unwrap();
    assert_eq!(open(&books).checkpoint().unwrap().head, levels.head());
}

#[test]
fn a_store_that_is_older_than_what_was_signed_or_damaged_signs_no_fork() {
    let folder = tempfile::tempdir().unwrap();
    let books = books(folder.path());
    grow(&books, 0..20);
    let log = open(&books);
    let head = log.checkpoint().unwrap().head;
    drop(log);
    books.keep_log_head(Head { size: 25, ..head }).unwrap();
    let refused = ReceiptLog::open(Arc::clone(&books), &seed(1)).unwrap_err();
    assert!(matches!(refused, LogError::Short { signed: 25, found: 20 }), "{refused}");
    books.keep_log_head(head).unwrap();
    books.records().put(ENTRIES, &7_u64.to_be_bytes(), &hash(99).0).unwrap();
    let refused = ReceiptLog::open(Arc::clone(&books), &seed(1)).unwrap_err();
    assert!(matches!(refused, LogError::Forked(20)), "{refused}");
    books.records().put(ENTRIES, &7_u64.to_be_bytes(), &hash(7).0).unwrap();
    assert_eq!(open(&books).checkpoint().unwrap().head, head);
    books.records().remove(ENTRIES, &7_u64.to_be_bytes()).unwrap();
    let refused = ReceiptLog::open(Arc::clone(&books), &seed(1)).unwrap_err().to_string();
    assert!(
        refused.contains("receipts") && refused.contains("missing"),
        "the entry is made again from its receipt, which is not there: {refused}"
    );
}

#[test]
fn a_witness_remembers_what_it_cosigned_through_a_restart_and_refuses_a_fork() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (logging, witnessing) = (books(one.path()), books(other.path()));
    grow(&logging, 0..10);
    let log = open(&logging);
    let witness = || ReceiptLog::open(Arc::clone(&witnessing), &seed(2)).unwrap();
    let asked = |log: &ReceiptLog, old: u64| {
        let checkpoint = log.checkpoint().unwrap();
        let size = checkpoint.head.size;
        let proof = tiles(log, size, &consistency_ranges(old, size).unwrap()).consistency(old).unwrap();
        AddCheckpoint { old, proof, note: checkpoint.note }.to_string()
    };
    let refused = |body: &str| match witness().cosign(body.as_bytes(), 5, |_| true).unwrap_err() {
        WitnessError::Refused(refusal) => refusal,
        error => panic!("{error}"),
    };
    let line = witness().cosign(asked(&log, 0).as_bytes(), 1_700_000_000, |_| true).unwrap();
    let mut cosigned = log.checkpoint().unwrap().note;
    cosigned.add(signature_lines(&line).unwrap());
    assert_eq!(cosigned.signed_at(&Key::new(Role::Witness, seed(2).node_id())), Ok(1_700_000_000));

    grow(&logging, 10..30);
    assert_eq!(refused(&asked(&log, 0)), Refusal::Conflict(10), "it tells what it cosigned last");
    assert!(witness().cosign(asked(&log, 10).as_bytes(), 5, |_| true).is_ok());
    let forked = tempfile::tempdir().unwrap();
    let forked = books(forked.path());
    log_all(&forked, 0..60, |number| hash(if number == 0 { 77 } else { number }));
    assert_eq!(refused(&asked(&open(&forked), 30)), Refusal::Inconsistent);
    let unknown =
        |is_witnessed: fn(NodeId) -> bool, witness: &ReceiptLog| witness.cosign(asked(&log, 30).as_bytes(), 5, is_witnessed).unwrap_err();
    assert!(matches!(unknown(|_| false, &witness()), WitnessError::Refused(Refusal::Unknown(_))), "nobody staked for it");
    assert!(matches!(unknown(|_| true, &log), WitnessError::Refused(Refusal::Unknown(_))), "no log is its own witness");
}
