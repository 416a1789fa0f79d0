use types::id::Hash32;

use super::*;
use crate::{
    erasure::{Encoded, Profile, encode},
    store::{Config, Store, crash::CrashDisk},
};

const TABLE: &str = "vouchers";

fn config() -> Config {
    Config { segment_bytes: 4_000, cache_bytes: 1 << 20, ..Config::default() }
}

fn object() -> Encoded {
    encode(&[5; 3_000], Hash32::ZERO, Profile::DEVNET).unwrap()
}

/// A manifest, five fragments and two blobs over three segments; one blob was released, one record kept.
fn filled(disk: &CrashDisk) -> Store {
    let store = Store::on(Arc::new(disk.clone()), config()).unwrap();
    let object = object();
    store.put(&[1; 700]).unwrap();
    for index in 0..5 {
        let fragment = object.manifest.verify(index, object.fragments[usize::from(index)].clone()).unwrap();
        store.put_fragment(&object.manifest, &fragment).unwrap();
    }
    store.put(&[2; 700]).unwrap();
    assert!(store.release(Item::Blob(BlobId::of(&[1; 700]))).unwrap());
    store.records().put(TABLE, b"key", b"value").unwrap();
    store
}

fn examine(disk: &CrashDisk) -> Examination {
    Examination::on(Arc::new(disk.clone())).unwrap()
}

/// Salvages, and says which items and records the new store holds.
fn salvage(examination: &Examination) -> (Vec<Item>, usize, Salvaged) {
    let fresh = Store::on(Arc::new(CrashDisk::default()), config()).unwrap();
    let salvaged = examination.salvage_to(&fresh).unwrap();
    assert_eq!(fresh.scrub(None, 1_000).unwrap().corrupt, []);
    (fresh.items(None, 1_000).unwrap(), fresh.records().scan(TABLE, b"", 10).unwrap().len(), salvaged)
}

fn kept(store: &Store) -> Vec<Item> {
    store.items(None, 1_000).unwrap()
}

#[test]
fn a_sound_store_has_no_damage_whether_it_was_closed_or_killed() {
    let disk = CrashDisk::default();
    let store = filled(&disk);
    let items = kept(&store);
    let killed = disk.copy();
    drop(store);
    for disk in [disk, killed] {
        let examination = examine(&disk);
        let report = examination.report();
        assert!(!report.is_damaged(), "{report:?}");
        assert_eq!(report.items, BTreeMap::from([(State::Whole, 7)]));
        assert_eq!((report.tables[0].table.as_str(), report.tables[0].records, report.tables[0].bytes), (TABLE, 1, 8));
        assert!(report.segments.len() > 2 && report.segments[0].dead_bytes == 784, "{report:?}");
        assert!(report.segments[0].picture.starts_with('.') && report.segments[0].picture.ends_with('#'));
        let (saved, records, salvaged) = salvage(&examination);
        assert_eq!((saved, records, salvaged.lost.len(), salvaged.is_unverified), (items.clone(), 1, 0, false));
    }
}

#[test]
fn a_check_changes_nothing() {
    let disk = CrashDisk::default();
    drop(filled(&disk));
    let before = disk.changes();
    salvage(&examine(&disk));
    assert_eq!(disk.changes(), before);
}

#[test]
fn what_was_written_after_the_index_was_told_is_no_damage_and_a_torn_tail_neither() {
    let disk = CrashDisk::default();
    let store = filled(&disk);
    let old = disk.copy();
    let late = store.put(&[3; 300]).unwrap();
    // The index of before with the segments of after, and half a record at the end.
    old.take_segments(&disk);
    let last = old.last_segment();
    old.append(&last, &[b'T'; 50]);
    let examination = examine(&old);
    let report = examination.report();
    assert!(!report.is_damaged(), "{report:?}");
    assert_eq!(report.items[&State::Unindexed], 1);
    assert_eq!(report.segments.last().unwrap().torn_bytes, 50);
    assert!(salvage(&examination).0.contains(&Item::Blob(late)));
}

#[test]
fn without_its_index_a_store_gives_every_item_back_and_no_released_one() {
    let disk = CrashDisk::default();
    let store = filled(&disk);
    let items = kept(&store);
    drop(store);
    disk.delete(index::FILE);
    let examination = examine(&disk);
    assert!(examination.report().is_damaged());
    assert_eq!(examination.report().index, IndexReport::Unreadable("missing".to_owned()));
    let (saved, records, salvaged) = salvage(&examination);
    assert_eq!((saved, records), (items, 0));
    assert_eq!(salvaged.tables_lost.len(), 1);
}

#[test]
fn an_index_with_any_page_changed_is_damage_and_no_item_is_lost_by_it() {
    let disk = CrashDisk::default();
    let store = filled(&disk);
    let items = kept(&store);
    drop(store);
    let len = disk.copy().len_of(index::FILE);
    let mut noticed = 0;
    for at in (0..len).step_by(4096) {
        let disk = disk.copy();
        for offset in 0..64.min(len - at) {
            disk.rot(index::FILE, at + offset);
        }
        let examination = examine(&disk);
        noticed += u32::from(examination.report().index != IndexReport::Whole);
        // Pages that nothing uses may hold anything; all others are noticed, and then the segments are believed.
        assert_eq!(salvage(&examination).0, items, "bytes from {at} of the index were changed");
    }
    assert!(noticed >= 4, "{noticed} of {} changes were noticed", len / 4096);
}

#[test]
fn a_segment_cut_anywhere_loses_what_was_cut_and_names_it() {
    let disk = CrashDisk::default();
    let store = filled(&disk);
    let items = kept(&store);
    drop(store);
    let name = segment::name(2);
    let len = disk.len_of(&name);
    for at in (0..len).step_by(131) {
        let disk = disk.copy();
        disk.shorten(&name, at);
        let examination = examine(&disk);
        let report = examination.report();
        assert!(report.is_damaged(), "cut at {at}");
        let missing: Vec<Item> = report.damaged.iter().map(|damaged| damaged.item).collect();
        assert!(report.damaged.iter().all(|damaged| damaged.state == State::Missing), "cut at {at}: {:?}", report.damaged);
        let (saved, _, salvaged) = salvage(&examination);
        let lost: Vec<Item> = salvaged.lost.iter().map(|lost| lost.item).collect();
        assert_eq!(lost, missing, "cut at {at}");
        let mut all = [saved, lost].concat();
        all.sort_unstable();
        assert_eq!(all, items, "cut at {at}: saved or named");
    }
    let gone = disk.copy();
    gone.delete(&name);
    let report = examine(&gone).report().clone();
    assert_eq!((report.segments[1].bytes, report.segments[1].picture.contains('x')), (None, true));
    assert!(report.damaged.iter().all(|damaged| (damaged.state, damaged.segment) == (State::Missing, 2)));
}

#[test]
fn a_flipped_bit_in_any_byte_of_a_record_s_header_hides_nothing() {
    let disk = CrashDisk::default();
    let store = filled(&disk);
    let items = kept(&store);
    drop(store);
    let name = segment::name(2);
    let first = items.iter().find(|item| matches!(item, Item::Fragment { .. })).unwrap();
    assert!(items.contains(first));
    for at in 12..12 + segment::RECORD_HEADER_BYTES {
        let disk = disk.copy();
        disk.rot(&name, at);
        let examination = examine(&disk);
        let report = examination.report();
        assert_eq!((report.damaged.len(), report.damaged[0].state, report.damaged[0].at), (1, State::HeaderDamaged, 12), "byte {at}");
        assert!(report.segments[1].picture.starts_with('x'));
        // The index knows where it stands: all is saved.
        assert_eq!(salvage(&examination).0, items, "byte {at}");
        // Without the index that one record is lost, and no other.
        disk.delete(index::FILE);
        let (saved, _, _) = salvage(&examine(&disk));
        assert_eq!(saved.len(), items.len() - 1, "byte {at}");
    }
}

#[test]
fn a_flipped_bit_in_a_payload_is_named_and_the_rest_is_saved() {
    let disk = CrashDisk::default();
    let store = filled(&disk);
    let items = kept(&store);
    drop(store);
    for at in [12 + 84, 12 + 84 + 500, 12 + 84 + 999] {
        let disk = disk.copy();
        disk.rot(&segment::name(2), at);
        let examination = examine(&disk);
        let damaged = &examination.report().damaged;
        assert_eq!((damaged.len(), damaged[0].state), (1, State::Corrupt));
        let (saved, _, salvaged) = salvage(&examination);
        assert_eq!((saved.len(), salvaged.lost.len(), salvaged.lost[0].item), (items.len() - 1, 1, damaged[0].item));
    }
}

#[test]
fn a_release_that_stands_inside_a_blob_speaks_for_nobody() {
    // Whoever has a blob kept chooses its bytes: a record of a release of another's item, found once the header before it is damaged.
    let disk = CrashDisk::default();
    let store = Store::on(Arc::new(disk.clone()), config()).unwrap();
    let victim = store.put(&[1; 200]).unwrap();
    let forged = CrashDisk::default().open("x").unwrap();
    segment::write(&*forged, 0, &segment::Header::release(Item::Blob(victim)), b"").unwrap();
    let mut bytes = vec![0; segment::RECORD_HEADER_BYTES];
    forged.read(0, &mut bytes).unwrap();
    let second = 12 + 84 + 200;
    store.put(&bytes).unwrap();
    drop(store);
    disk.rot(&segment::name(1), second + 7);
    disk.delete(index::FILE);
    assert_eq!(salvage(&examine(&disk)).0, [Item::Blob(victim)]);
}

#[test]
fn a_store_in_use_and_a_folder_without_one_are_told_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    assert!(matches!(Examination::of(&absent), Err(StoreError::Folder { .. })));
    assert!(!absent.exists());
    let error = Examination::of(folder.path()).unwrap_err().to_string();
    assert!(error.contains("holds no store"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let path = folder.path().join("store");
    let store = Store::open(&path, config()).unwrap();
    let id = store.put(b"hello").unwrap();
    assert!(matches!(Examination::of(&path), Err(StoreError::Locked { .. })));
    drop(store);
    let examination = Examination::of(&path).unwrap();
    assert!(matches!(Store::open(&path, config()), Err(StoreError::Locked { .. })), "no node starts while it is checked");
    let out = folder.path().join("out");
    assert_eq!(examination.salvage(&out).unwrap().items, 1);
    let error = examination.salvage(&out).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(Store::open(&out, config()).unwrap().get(id).unwrap().as_deref(), Some(&b"hello"[..]));
}
