//! A store in trouble: one item that cannot be read, a segment that is gone, an index that is broken, a capacity below what is kept, a disk without room.

use types::id::Hash32;

use super::{
    crash::{CrashDisk, Plight},
    *,
};
use crate::erasure::{Encoded, Profile, encode};

const FIRST: &str = "00000001.seg";

/// Four blobs of [`blob`] fill a segment.
fn config() -> Config {
    Config { segment_bytes: 4_000, cache_bytes: 1 << 20, ..Config::default() }
}

fn on(disk: &CrashDisk, config: Config) -> Store {
    Store::on(Arc::new(disk.clone()), config).unwrap()
}

fn blob(number: u8) -> Vec<u8> {
    vec![number; 900]
}

fn filled(store: &Store, count: u8) -> Vec<BlobId> {
    (0..count).map(|number| store.put(&blob(number)).unwrap()).collect()
}

fn object() -> Encoded {
    encode(&[5; 3_000], Hash32::ZERO, Profile::DEVNET).unwrap()
}

fn put_fragment(store: &Store, object: &Encoded, index: u8) {
    let fragment = object.manifest.verify(index, object.fragments[usize::from(index)].clone()).unwrap();
    store.put_fragment(&object.manifest, &fragment).unwrap();
}

fn release(store: &Store, ids: impl IntoIterator<Item = BlobId>) {
    for id in ids {
        assert!(store.release(Item::Blob(id)).unwrap());
    }
}

/// Collects to the end; returns the most bytes that were in segments meanwhile.
fn collect(store: &Store) -> u64 {
    let mut most = store.used_bytes();
    for _ in 0..10_000 {
        let done = store.collect(2_000).unwrap();
        assert_eq!(done.corrupt, []);
        most = most.max(store.used_bytes());
        if done.is_done {
            return most;
        }
    }
    panic!("collecting does not end: {:?}", store.usage());
}

fn purge(store: &Store) -> (Purged, u64) {
    let (purge, mut most) = (store.purge().unwrap(), 0);
    for _ in 0..10_000 {
        let done = store.purge_step(purge, 2_000).unwrap();
        most = most.max(store.used_bytes());
        if done.is_done {
            return (done, most);
        }
    }
    panic!("the purge does not end: {:?}", store.usage());
}

fn is_on(disk: &CrashDisk, number: u8) -> bool {
    disk.contents().iter().any(|(_, bytes)| bytes.windows(64).any(|window| window == [number; 64]))
}

#[test]
fn a_capacity_lowered_below_what_is_kept_keeps_nobody_from_releasing_purging_and_collecting() {
    // One segment that was never closed, and many.
    for segment_bytes in [1 << 20, 4_000] {
        let disk = CrashDisk::default();
        let before = Config { segment_bytes, ..config() };
        let ids = filled(&on(&disk, before.clone()), 40);
        let store = on(&disk, Config { capacity_bytes: 8_000, ..before });
        let used = store.used_bytes();
        assert!(used > 39_000 && store.free_bytes().unwrap() == 0);
        assert!(matches!(store.put(b"more"), Err(StoreError::Full { .. })), "items stay out");
        release(&store, [ids[3]]);
        let (done, most) = purge(&store);
        assert_eq!((done.held, is_on(&disk, 3), is_on(&disk, 4)), (0, false, true), "segments of {segment_bytes}");
        // What is copied is a segment at a time.
        assert!(most <= used + segment_bytes.min(used) + 1_000, "{most} of {used}");
        let Location { segment, at, .. } = store.0.index.get(Item::Blob(ids[10])).unwrap().unwrap();
        disk.rot(&segment::name(segment), usize::try_from(at).unwrap() + 84 + 5);
        store.put(&blob(10)).unwrap();
        assert_eq!(store.get(ids[10]).unwrap(), Some(blob(10)), "what is damaged is mended");
        release(&store, ids[4..36].iter().copied());
        let most = collect(&store);
        let after = store.usage().unwrap();
        assert!(after.used_bytes < 12_000 && after.items == 7, "items and releases: {after:?}");
        assert!(most <= used + 12_000, "a copy of what lives, beside what is to go: {most} of {used}");
        for (number, id) in (0..).zip(&ids) {
            let is_kept = !(3..36).contains(&number);
            assert_eq!(store.get(*id).unwrap(), is_kept.then(|| blob(number)));
        }
        release(&store, ids[..3].iter().chain(&ids[36..]).copied());
        collect(&store);
        store.put(b"more").unwrap();
        drop(store);
        assert_eq!(on(&disk, config()).recovery(), Recovery::default());
    }
}

#[test]
fn on_a_disk_without_room_what_is_empty_goes_first_and_then_the_segment_in_which_least_lives() {
    let disk = CrashDisk::default();
    let store = on(&disk, config());
    let ids = filled(&store, 20);
    // Of the first segment one goes, of the second three, of the third all.
    release(&store, ids[3..4].iter().chain(&ids[5..12]).copied());
    disk.leave(1_500);
    let purge = store.purge().unwrap();
    assert!(!disk.has("00000003.seg") && disk.has("00000002.seg"));
    let error = loop {
        match store.purge_step(purge, 2_000) {
            Ok(step) => assert!(!step.is_done),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::DiskFull { available: 1_500, reserve: 0, need: 2_952 }), "{error}");
    assert!(!disk.has("00000002.seg") && !is_on(&disk, 5) && is_on(&disk, 3));
    assert_eq!(store.get(ids[4]).unwrap(), Some(blob(4)));
    disk.leave(3_000);
    while !store.purge_step(purge, 2_000).unwrap().is_done {}
    assert!(!is_on(&disk, 3) && store.get(ids[0]).unwrap().is_some());
}

#[test]
fn a_release_that_finds_no_room_on_the_disk_drops_what_is_empty_and_is_done_then() {
    let disk = CrashDisk::default();
    let store = on(&disk, config());
    let ids = filled(&store, 10);
    disk.strike_at(0, Plight::Once);
    let error = store.release(Item::Blob(ids[9])).unwrap_err();
    assert!(error.is_disk_full() && store.get(ids[9]).unwrap().is_some(), "nothing is empty: {error}");
    release(&store, ids[..4].iter().copied());
    assert!(disk.has(FIRST));
    disk.strike_at(0, Plight::Once);
    release(&store, [ids[9]]);
    assert!(!disk.has(FIRST) && store.get(ids[9]).unwrap().is_none());
    drop(store);
    let store = on(&disk, config());
    assert_eq!((store.recovery(), store.usage().unwrap().items), (Recovery::default(), 5));
}

#[test]
fn what_was_lost_with_a_segment_is_marked_when_the_store_is_opened_and_storing_it_anew_ends_that() {
    let disk = CrashDisk::default();
    let store = on(&disk, config());
    let object = object();
    let id = object.manifest.id();
    (0..3).for_each(|index| put_fragment(&store, &object, index));
    let kept = filled(&store, 9);
    let in_first = |item: &Item| store.0.index.get(*item).unwrap().unwrap().segment == 1;
    let lost: Vec<Item> = store.items(None, 100).unwrap().into_iter().filter(in_first).collect();
    let (used, gone) = (store.used_bytes(), disk.len_of(FIRST) as u64);
    drop(store);
    assert!(lost.contains(&Item::Blob(id)) && lost.contains(&Item::Fragment { object: id, index: 0 }));
    disk.delete(FIRST);
    for _ in 0..2 {
        let store = on(&disk, config());
        assert_eq!(store.recovery(), Recovery { lost_bytes: gone, lost_items: lost.len() as u64, ..Recovery::default() });
        assert_eq!((store.rotten(100).unwrap(), store.rotten_count().unwrap()), (lost.clone(), lost.len() as u64));
        assert_eq!((store.fragments_of(id).unwrap(), store.sound_fragments_of(id).unwrap()), (vec![0, 1, 2], vec![]));
        assert!(store.used_bytes() <= used - gone + segment::HEADER_BYTES, "what is gone takes no room");
        assert_eq!(store.get(kept[8]).unwrap(), Some(blob(8)), "the rest is read");
    }
    let store = on(&disk, config());
    assert_eq!(purge(&store).0.held, 0, "no byte is in a file that is gone");
    (0..3).for_each(|index| put_fragment(&store, &object, index));
    (0..9).for_each(|number| assert_eq!(store.put(&blob(number)).unwrap(), kept[usize::from(number)]));
    assert_eq!((store.rotten_count().unwrap(), store.sound_fragments_of(id).unwrap()), (0, vec![0, 1, 2]));
    collect(&store);
    drop(store);
    assert_eq!(on(&disk, config()).recovery(), Recovery::default(), "nothing speaks of the segment any more");
}

#[test]
fn a_damaged_manifest_is_marked_by_its_first_reader_and_brought_back_without_its_fragments() {
    let disk = CrashDisk::default();
    let store = on(&disk, Config::default());
    let (first, second) = (object(), encode(&[6; 3_000], Hash32::ZERO, Profile::DEVNET).unwrap());
    let (id, other) = (first.manifest.id(), second.manifest.id());
    [&first, &second].into_iter().for_each(|object| put_fragment(&store, object, 1));
    disk.rot(FIRST, 150);
    assert_eq!(store.rotten_count().unwrap(), 0, "nobody has looked");
    assert!(matches!(store.manifest(id), Err(StoreError::Corrupt(Corrupt { item: Item::Blob(found), .. })) if found == id));
    assert_eq!(store.rotten(9).unwrap(), [Item::Blob(id)]);
    assert_eq!((store.sound_fragments_of(id).unwrap(), store.sound_fragments_of(other).unwrap()), (vec![], vec![1]));
    assert_eq!(store.get_fragment(id, 1).unwrap().as_ref(), Some(&first.fragments[1]));
    let used = store.used_bytes();
    put_fragment(&store, &first, 1);
    assert_eq!(store.used_bytes(), used + 84 + first.manifest.encode().len() as u64);
    assert_eq!((store.rotten_count().unwrap(), store.sound_fragments_of(id).unwrap()), (0, vec![1]));
    assert_eq!(store.manifest(id).unwrap(), Some(first.manifest));
}

#[test]
fn a_sector_that_cannot_be_read_costs_its_item_and_stops_neither_a_walk_nor_collecting() {
    let disk = CrashDisk::default();
    let store = on(&disk, config());
    let ids = filled(&store, 12);
    disk.spoil(FIRST, 12 + 84 + 400);
    let mut walk = Walk::new(&store).unwrap();
    let mut corrupt = Vec::new();
    for _ in 0..100 {
        corrupt.extend(walk.step(&store, 1_000).unwrap());
    }
    assert_eq!((walk.progress().is_done, walk.progress().items), (true, 12));
    assert_eq!(corrupt.iter().map(|found| (found.item, found.got)).collect::<Vec<_>>(), [(Item::Blob(ids[0]), None)]);
    assert!(matches!(store.get(ids[0]), Err(StoreError::Corrupt(Corrupt { got: None, .. }))));
    assert_eq!(store.rotten(9).unwrap(), [Item::Blob(ids[0])]);
    release(&store, ids[1..8].iter().copied());
    let mut found = Vec::new();
    for _ in 0..100 {
        found.extend(store.collect(10_000).unwrap().corrupt);
    }
    assert!(found.len() == 1 && !disk.has("00000002.seg"), "the next segment goes all the same: {found:?}");
    store.put(&blob(0)).unwrap();
    collect(&store);
    assert!(!disk.has(FIRST) && store.get(ids[0]).unwrap() == Some(blob(0)));
}

#[test]
fn all_marked_items_are_looked_at_in_turn() {
    let store = on(&CrashDisk::default(), config());
    let items: Vec<Item> = filled(&store, 5).into_iter().map(Item::Blob).collect();
    items.iter().for_each(|item| assert!(store.mark_rotten(*item).unwrap()));
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let step = store.recheck(after, 2).unwrap();
        seen.extend(step.mended);
        after = step.last;
        if after.is_none() {
            break;
        }
    }
    let mut items = items;
    items.sort_unstable();
    assert_eq!((seen, store.rotten_count().unwrap()), (items, 0));
}

#[test]
fn a_broken_index_is_named_with_the_way_out_and_a_start_that_fails_changes_nothing() {
    let whole = CrashDisk::default();
    drop(filled(&on(&whole, config()), 9));
    let len = whole.len_of(index::FILE);
    let check = |what: &str, disk: &CrashDisk| {
        let (before, changes) = (disk.contents(), disk.changes());
        let error = Store::on(Arc::new(disk.clone()), config()).unwrap_err();
        assert!(matches!(error, StoreError::IndexUnreadable { .. }), "{what}: {error}");
        let told = error.to_string();
        for part in ["index.redb", "tributary storage check", "--salvage DIR", "nothing was changed"] {
            assert!(told.contains(part), "{what}: {told}");
        }
        assert!((disk.contents() == before) && disk.changes() == changes, "{what}");
    };
    for cut in [0, 5, 100, 4_096, len / 4] {
        let disk = whole.copy();
        disk.shorten(index::FILE, cut);
        check(&format!("cut to {cut}"), &disk);
    }
    let disk = whole.copy();
    disk.delete(index::FILE);
    check("gone", &disk);
    disk.delete(index::FORMAT_FILE);
    check("gone with FORMAT, while there are segments", &disk);
    let disk = whole.copy();
    disk.delete(index::FORMAT_FILE);
    assert_eq!(on(&disk, config()).usage().unwrap().items, 9, "FORMAT alone is written anew");
    let mut refused = 0;
    for at in (0..len).step_by(4_096) {
        let disk = whole.copy();
        (at..(at + 64).min(len)).for_each(|at| disk.rot(index::FILE, at));
        if Store::on(Arc::new(disk.copy()), config()).is_err() {
            check(&format!("bytes from {at} changed"), &disk);
            refused += 1;
        }
    }
    assert!(refused > 0, "some pages are needed");
}
