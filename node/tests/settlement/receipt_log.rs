//! A node's receipt log over its real store: nothing lost at a stop, nothing signed over a store that is not what was signed, no fork cosigned.

use std::sync::Arc;

use attribution::log::{
    Head,
    checkpoint::Checkpoint,
    entry,
    follow::{self, Followed, follow},
    note::{Key, Role, SIGNATURES_MAX, Signer, signature_lines},
    quorum,
    tile::{Resource, Tiles},
    tree::{Levels, consistency_ranges, inclusion_ranges, is_included, leaf_hash},
    witness::{AddCheckpoint, Refusal},
};
use chain_bridge::{
    follow::Snapshot,
    registry::{Event, Logged, State},
};
use node::{
    books::Books,
    service::receipt_log::{LogError, ReceiptLog, WitnessError, http, witnesses::Witnesses},
    witnessing::Witness,
};
use p2p::identity::NodeSeed;
use storage::store::{Config, Store};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::{
    amount::Amount,
    id::{Address, Hash32, NodeId},
    time::BlockRef,
};

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

#[test]
fn a_witness_that_signs_a_head_many_times_leaves_the_others_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let logging = books(folder.path());
    grow(&logging, 0..5);
    let log = open(&logging);
    let signed = log.checkpoint().unwrap();
    let line = |by: u8, at_s: u64| Signer::new(Role::Witness, seed(by).expose()).sign(signed.note.text(), at_s).to_string();
    let many: String = (0..SIGNATURES_MAX as u64).map(|at_s| line(2, at_s)).collect();
    log.keep_cosignature(signed.head, &many, seed(2).node_id()).unwrap();
    log.keep_cosignature(signed.head, &line(3, 7), seed(3).node_id()).unwrap();
    let witnesses = [seed(2).node_id(), seed(3).node_id()];
    assert_eq!(quorum::cosigned(&log.signed(), &witnesses, 2).map(|said| said.len()), Ok(2));
}

#[test]
fn what_a_witness_said_is_served_with_the_head_through_a_restart_and_not_with_another_head() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (logging, witnessing) = (books(one.path()), books(other.path()));
    grow(&logging, 0..300);
    let (log, witness) = (open(&logging), ReceiptLog::open(witnessing, &seed(2)).unwrap());
    let (signed, by) = (log.checkpoint().unwrap(), seed(2).node_id());
    let said = |checkpoint: &Checkpoint| checkpoint.note.signed_at(&Key::new(Role::Witness, by)).ok();
    let request = AddCheckpoint { old: 0, proof: log.consistency(0, signed.head).unwrap().unwrap(), note: signed.note.clone() };
    let line = witness.cosign(request.to_string().as_bytes(), 1_700_000_000, |_| true).unwrap();
    assert!(log.keep_cosignature(signed.head, &line, seed(3).node_id()).is_err(), "another witness's word is not this one's");
    assert!(log.keep_cosignature(signed.head, "words", by).is_err());
    log.keep_cosignature(signed.head, &line, by).unwrap();
    assert_eq!((said(&log.signed()), said(&log.checkpoint().unwrap())), (Some(1_700_000_000), Some(1_700_000_000)));
    drop(log);
    let log = open(&logging);
    assert_eq!(said(&log.checkpoint().unwrap()), Some(1_700_000_000), "it is kept");

    grow(&logging, 300..700);
    let later = log.checkpoint().unwrap();
    assert_eq!((later.head.size, said(&later)), (700, None), "of this one nobody has said anything");
    log.keep_cosignature(signed.head, &line, by).unwrap();
    assert_eq!(said(&log.signed()), None, "what comes late is of no head that is served");
    let request = AddCheckpoint { old: 300, proof: log.consistency(300, later.head).unwrap().unwrap(), note: later.note.clone() };
    let line = witness.cosign(request.to_string().as_bytes(), 1_700_000_100, |_| true).unwrap();
    log.keep_cosignature(later.head, &line, by).unwrap();
    assert_eq!(log.consistency(701, later.head).unwrap(), None, "it has fewer entries");
    drop(log);
    assert_eq!(said(&open(&logging).signed()), Some(1_700_000_100));
}

/// A log's server, for which these operators are staked, until it is dropped.
async fn served(log: Arc<ReceiptLog>, witnesses: Vec<Witness>, staked: &[NodeId]) -> (String, DropGuard) {
    let mut state = State::default();
    for (node, byte) in staked.iter().zip(1..) {
        let account = Address([byte; 20]);
        let event = Event::NodeRegistered { account, node: *node, incarnation: 1, payout: account, stake: Amount(5) };
        state.apply(&Logged { block: BlockRef::default(), log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
    }
    let (_, snapshots) = watch::channel(Arc::new(Snapshot { latest: Arc::new(state), ..Snapshot::default() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, stop) = (format!("http://{}", listener.local_addr().unwrap()), CancellationToken::new());
    tokio::spawn(http::serve(log, Witnesses::new(witnesses).unwrap(), snapshots, listener, stop.clone()));
    (url, stop.drop_guard())
}

#[tokio::test]
async fn whoever_reads_a_head_finds_its_witnesses_signatures_and_one_that_is_away_keeps_nobody_waiting() {
    let folders = [1, 2].map(|_| tempfile::tempdir().unwrap());
    let (logging, witnessing) = (books(folders[0].path()), books(folders[1].path()));
    let (log, node, by) = (Arc::new(open(&logging)), seed(1).node_id(), seed(2).node_id());
    let (witness, _running) = served(Arc::new(ReceiptLog::open(witnessing, &seed(2)).unwrap()), vec![], &[node]).await;
    // Nobody listens at the address of the other.
    let named = [format!("{by}@{witness}"), format!("{}@http://127.0.0.1:1", seed(3).node_id())];
    let (url, _serving) = served(log, named.iter().map(|text| text.parse().unwrap()).collect(), &[]).await;
    for size in [0, 3, 300] {
        grow(&logging, 0..size);
        let answer = reqwest::get(format!("{url}/checkpoint")).await.unwrap().text().await.unwrap();
        let checkpoint = Checkpoint::open(answer.as_bytes(), node).unwrap();
        let nodes = [by, seed(3).node_id()];
        let words = quorum::cosigned(&checkpoint, &nodes, usize::from(size > 0)).unwrap();
        let signers: Vec<NodeId> = words.iter().map(|cosigned| cosigned.node).collect();
        assert_eq!((checkpoint.head.size, signers), (size, if size > 0 { vec![by] } else { vec![] }), "{answer}");
    }
}
