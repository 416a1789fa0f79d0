use types::id::Hash32;

use super::{
    crash::{CrashDisk, Fault},
    *,
};
use crate::erasure::{Encoded, FragmentRoot, Profile, encode};

fn on(disk: &CrashDisk) -> Store {
    Store::on(Arc::new(disk.clone()), Config::default()).unwrap()
}

fn object() -> Encoded {
    encode(&[5; 3_000], Hash32::ZERO, Profile::DEVNET).unwrap()
}

fn put_fragment(store: &Store, object: &Encoded, index: u8) {
    let fragment = object.manifest.verify(index, object.fragments[usize::from(index)].clone()).unwrap();
    store.put_fragment(&object.manifest, &fragment).unwrap();
}

#[test]
fn a_real_folder_keeps_items_and_records_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/store");
    let object = object();
    let (id, used) = {
        let store = Store::open(&path, Config::default()).unwrap();
        put_fragment(&store, &object, 1);
        put_fragment(&store, &object, 4);
        store.records().put("receipts", b"k", b"v").unwrap();
        (store.put(b"hello").unwrap(), store.used_bytes())
    };
    let store = Store::open(&path, Config::default()).unwrap();
    assert_eq!((store.recovery(), store.used_bytes()), (Recovery::default(), used));
    assert_eq!(store.get(id).unwrap().as_deref(), Some(&b"hello"[..]));
    assert_eq!(store.fragments_of(object.manifest.id()).unwrap(), [1, 4]);
    assert_eq!(store.get_fragment(object.manifest.id(), 4).unwrap().as_ref(), Some(&object.fragments[4]));
    assert_eq!(store.get_fragment(object.manifest.id(), 0).unwrap(), None);
    assert_eq!(store.manifest(object.manifest.id()).unwrap(), Some(object.manifest.clone()));
    assert_eq!(store.records().get("receipts", b"k").unwrap().as_deref(), Some(&b"v"[..]));
    let items = store.items(None, 10).unwrap();
    assert_eq!(items.len(), 4);
    assert_eq!(store.items(Some(items[1]), 10).unwrap(), items[2..]);
}

#[test]
fn a_second_owner_of_a_folder_is_told_who_has_it_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::open(folder.path(), Config::default()).unwrap();
    let error = Store::open(folder.path(), Config::default()).unwrap_err().to_string();
    let pid = std::process::id().to_string();
    for word in [folder.path().to_str().unwrap(), "in use by another process", &pid, "choose another folder"] {
        assert!(error.contains(word), "{error}");
    }
    drop(first);
    Store::open(folder.path(), Config::default()).unwrap();
}

#[test]
fn a_folder_that_is_none_or_another_format_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(Store::open(&file, Config::default()), Err(StoreError::Folder { .. })));
    std::fs::write(folder.path().join("FORMAT"), "tributary store 9\n").unwrap();
    let error = Store::open(folder.path(), Config::default()).unwrap_err().to_string();
    assert!(error.contains("tributary store 9") && error.contains("tributary store 1"), "{error}");
}

#[test]
fn keeping_an_item_again_takes_no_room() {
    let store = on(&CrashDisk::default());
    let object = object();
    put_fragment(&store, &object, 0);
    let used = store.used_bytes();
    put_fragment(&store, &object, 0);
    assert_eq!(store.used_bytes(), used);
    put_fragment(&store, &object, 1);
    assert_eq!(store.used_bytes(), used + 84 + 1_000, "the manifest is there already");
}

#[test]
fn rot_is_reported_by_item_in_every_position_and_mended_by_storing_anew() {
    let object = object();
    for index in 0..5 {
        let disk = CrashDisk::default();
        let store = on(&disk);
        (0..5).for_each(|index| put_fragment(&store, &object, index));
        let first = 12 + 84 + object.manifest.encode().len();
        disk.rot("00000001.seg", first + usize::from(index) * (84 + 1_000) + 84 + 500);
        let item = Item::Fragment { object: object.manifest.id(), index };
        let error = store.get_fragment(object.manifest.id(), index).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(Corrupt { item: found, got: Some(_), .. }) if found == item), "{error}");
        assert!(error.to_string().starts_with(&format!("fragment {index} of object {} is damaged on this disk", object.manifest.id())));
        let scrubbed = store.scrub(None, 100).unwrap();
        assert_eq!((scrubbed.items, scrubbed.corrupt.len(), scrubbed.corrupt[0].item), (6, 1, item));
        put_fragment(&store, &object, index);
        assert_eq!(store.get_fragment(object.manifest.id(), index).unwrap().as_ref(), Some(&object.fragments[usize::from(index)]));
        assert_eq!(store.scrub(None, 100).unwrap().corrupt, []);
    }
}

#[test]
fn a_segment_the_disk_cut_short_is_reported_and_its_items_can_be_stored_anew() {
    let disk = CrashDisk::default();
    let ids: Vec<_> = [&[1; 500][..], &[2; 500], &[3; 500]].map(|bytes| on(&disk).put(bytes).unwrap()).into();
    disk.shorten("00000001.seg", 12 + 2 * 584 + 100);
    let store = on(&disk);
    assert_eq!(store.recovery(), Recovery { lost_bytes: 484, lost_items: 1, ..Recovery::default() });
    assert_eq!(store.get(ids[1]).unwrap(), Some(vec![2; 500]));
    assert!(matches!(store.get(ids[2]), Err(StoreError::Corrupt(Corrupt { got: None, .. }))));
    store.put(&[3; 500]).unwrap();
    assert_eq!(store.get(ids[2]).unwrap(), Some(vec![3; 500]));
    drop(store);
    assert_eq!(on(&disk).get(ids[2]).unwrap(), Some(vec![3; 500]));
}

#[test]
fn a_full_disk_stops_that_put_and_no_later_one() {
    let disk = CrashDisk::default();
    let store = on(&disk);
    let kept = store.put(b"before").unwrap();
    disk.fail_next(Fault::Write);
    let error = store.put(b"during").unwrap_err().to_string();
    assert!(error.contains("cannot write 00000001.seg"), "{error}");
    assert_eq!(store.get(BlobId::of(b"during")).unwrap(), None);
    let after = store.put(b"after").unwrap();
    drop(store);
    let store = on(&disk);
    assert_eq!(store.recovery(), Recovery::default());
    assert!(store.get(kept).unwrap().is_some() && store.get(after).unwrap().is_some());
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_the_store_is_opened_again() {
    let disk = CrashDisk::default();
    let store = on(&disk);
    let kept = store.put(b"before").unwrap();
    disk.fail_next(Fault::Sync);
    assert!(matches!(store.put(b"during"), Err(StoreError::Io { doing: "sync", .. })));
    let error = store.put(b"after").unwrap_err();
    assert!(matches!(&error, StoreError::Stopped { cause } if cause.contains("cannot sync 00000001.seg")), "{error}");
    assert!(store.get(kept).unwrap().is_some(), "reading goes on");
    drop(store);
    on(&disk).put(b"after").unwrap();
}

#[test]
fn capacity_and_item_size_are_bounds() {
    let store = Store::on(Arc::new(CrashDisk::default()), Config { capacity_bytes: 1_000, ..Config::default() }).unwrap();
    store.put(&[1; 500]).unwrap();
    let error = store.put(&[2; 500]).unwrap_err();
    assert!(matches!(error, StoreError::Full { capacity: 875, need: 584, .. }), "an eighth is kept free for releases: {error}");
    assert!(store.free_bytes().unwrap() < 584);
    assert!(matches!(store.put(&vec![0; ITEM_BYTES_MAX + 1]), Err(StoreError::TooLong { .. })));
    let (one, two) = (object(), encode(b"two", Hash32::ZERO, Profile::DEVNET).unwrap());
    let fragment = two.manifest.verify(0, two.fragments[0].clone()).unwrap();
    assert!(matches!(store.put_fragment(&one.manifest, &fragment), Err(StoreError::Foreign { .. })));
}

#[test]
fn the_reserve_of_the_disk_is_left_free_by_items_and_used_by_releases_and_collecting() {
    let disk = CrashDisk::default();
    let config = Config { capacity_bytes: 40_000, segment_bytes: 4_000, disk_reserve_bytes: 10_000, ..Config::default() };
    let store = Store::on(Arc::new(disk.clone()), config).unwrap();
    let kept: Vec<_> = (0..4_u8).map(|byte| store.put(&[byte; 3_000]).unwrap()).collect();
    disk.leave(10_583);
    let error = store.put(&[9; 500]).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { available: 10_583, reserve: 10_000, need: 584 }), "{error}");
    assert_eq!((error.no_room(), store.free_bytes().unwrap()), (Some((583, 584)), 583));
    let usage = store.usage().unwrap();
    assert_eq!((usage.free_bytes, usage.disk_available_bytes, usage.disk_reserve_bytes), (583, 10_583, 10_000));
    disk.leave(9_000);
    assert_eq!((store.free_bytes().unwrap(), store.usage().unwrap().free_bytes), (0, 0), "others have filled it further");
    assert!(store.get(kept[0]).unwrap().is_some());
    assert_eq!(store.put(&[1; 3_000]).unwrap(), kept[1], "what is here needs no room");
    for id in &kept[..3] {
        assert!(store.release(Item::Blob(*id)).unwrap());
    }
    let mut freed = 0;
    loop {
        let done = store.collect(1 << 20).unwrap();
        freed += done.freed_bytes;
        if done.is_done {
            break;
        }
    }
    assert!(freed >= 9_000, "{freed} bytes were given back");
    disk.leave(10_584);
    store.put(&[9; 500]).unwrap();
}

#[test]
fn a_folder_knows_what_its_file_system_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let config = |disk_reserve_bytes| Config { disk_reserve_bytes, ..Config::default() };
    let available = available_bytes(folder.path()).unwrap();
    assert!(available > 1 << 20, "a test has some room: {available}");
    let store = Store::open(folder.path(), config(0)).unwrap();
    assert!(store.free_bytes().unwrap() > 0);
    let id = store.put(b"kept").unwrap();
    drop(store);
    let store = Store::open(folder.path(), config(u64::MAX)).unwrap();
    assert!(matches!(store.put(b"more"), Err(StoreError::DiskFull { reserve: u64::MAX, .. })));
    assert_eq!((store.free_bytes().unwrap(), store.get(id).unwrap()), (0, Some(b"kept".to_vec())));
    assert!(available_bytes(Path::new("/nowhere/at/all")).is_err());
}

#[test]
fn a_release_ends_an_item_s_stay_and_the_last_fragment_takes_the_manifest_with_it() {
    let disk = CrashDisk::default();
    let store = on(&disk);
    let (object, blob) = (object(), store.put(b"blob").unwrap());
    let id = object.manifest.id();
    put_fragment(&store, &object, 1);
    put_fragment(&store, &object, 4);
    let error = store.release(Item::Blob(id)).unwrap_err();
    assert!(matches!(error, StoreError::InUse { fragments: 2, .. }), "{error}");
    assert!(store.release(Item::Fragment { object: id, index: 1 }).unwrap());
    assert!(!store.release(Item::Fragment { object: id, index: 1 }).unwrap(), "it is gone already");
    assert_eq!((store.get_fragment(id, 1).unwrap(), store.fragments_of(id).unwrap()), (None, vec![4]));
    assert!(store.release(Item::Fragment { object: id, index: 4 }).unwrap() && store.release(Item::Blob(blob)).unwrap());
    assert_eq!((store.manifest(id).unwrap(), store.items(None, 10).unwrap()), (None, vec![]));
    drop(store);
    let store = on(&disk);
    assert_eq!((store.recovery(), store.items(None, 10).unwrap()), (Recovery::default(), vec![]));
    put_fragment(&store, &object, 1);
    assert_eq!(store.release_object(id).unwrap(), 1);
    assert_eq!(store.release_object(id).unwrap(), 0);
}

/// A store of small segments, with a sixth of its blobs left.
fn thinned(disk: &CrashDisk) -> (Store, Vec<BlobId>) {
    let store = Store::on(Arc::new(disk.clone()), Config { segment_bytes: 4_000, ..Config::default() }).unwrap();
    let ids: Vec<_> = (0..60_u8).map(|number| store.put(&[number; 900]).unwrap()).collect();
    for (_, id) in ids.iter().enumerate().filter(|(place, _)| place % 6 != 0) {
        store.release(Item::Blob(*id)).unwrap();
    }
    (store, ids.into_iter().step_by(6).collect())
}

#[test]
fn collecting_frees_what_was_released_in_bounded_steps_while_the_rest_is_read() {
    let disk = CrashDisk::default();
    let (store, left) = thinned(&disk);
    let before = store.usage().unwrap();
    assert!(before.dead_bytes > 45_000, "{before:?}");
    let (mut freed, mut steps) = (0, 0);
    loop {
        let collected = store.collect(1_000).unwrap();
        assert!(collected.moved_bytes <= 1_000 && collected.corrupt.is_empty());
        freed += collected.freed_bytes;
        steps += 1;
        left.iter().for_each(|id| assert!(store.get(*id).unwrap().is_some(), "step {steps}"));
        if collected.is_done {
            break;
        }
    }
    let after = store.usage().unwrap();
    assert_eq!((after.items, store.used_bytes()), (10, after.used_bytes));
    assert!(steps > 20 && freed > 50_000 && after.used_bytes < 25_000, "{steps} steps, {freed} freed, {after:?}");
    assert!(after.dead_bytes <= after.live_bytes + 4_000, "{after:?}");
    drop(store);
    let store = on(&disk);
    assert_eq!((store.recovery(), store.usage().unwrap().items), (Recovery::default(), 10));
    assert_eq!(store.scrub(None, 100).unwrap().corrupt, []);
}

#[test]
fn a_rotten_item_is_reported_by_collecting_and_holds_its_segment_until_it_is_mended() {
    let disk = CrashDisk::default();
    let (store, left) = thinned(&disk);
    // The second segment's only live one, by its payload.
    let rotten = left[1];
    let bytes = [6; 900];
    let Location { segment, at, .. } = store.0.index.get(Item::Blob(rotten)).unwrap().unwrap();
    disk.rot(&segment::name(segment), usize::try_from(at).unwrap() + 84 + 450);
    let run = || {
        let mut corrupt = Vec::new();
        loop {
            let collected = store.collect(10_000).unwrap();
            corrupt.extend(collected.corrupt);
            if collected.is_done {
                return corrupt;
            }
        }
    };
    let corrupt = run();
    assert_eq!((corrupt.len(), corrupt[0].item), (1, Item::Blob(rotten)));
    assert!(matches!(store.get(rotten), Err(StoreError::Corrupt(_))), "it is still known to have been here");
    assert!(disk.has(&segment::name(segment)));
    assert_eq!(run(), []);
    store.put(&bytes).unwrap();
    assert_eq!(run(), []);
    assert!(!disk.has(&segment::name(segment)), "mended: the segment goes");
    assert_eq!(store.get(rotten).unwrap().as_deref(), Some(&bytes[..]));
}

#[test]
fn a_store_that_is_full_takes_releases_and_after_collecting_items_again() {
    let config = Config { capacity_bytes: 40_000, segment_bytes: 4_000, ..Config::default() };
    let store = Store::on(Arc::new(CrashDisk::default()), config).unwrap();
    let mut ids = Vec::new();
    let error = loop {
        let bytes = [u8::try_from(ids.len()).unwrap(); 900];
        match store.put(&bytes) {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(store.usage().unwrap().reserved_bytes, 4_000);
    for id in ids.iter().step_by(2) {
        store.release(Item::Blob(*id)).unwrap();
    }
    assert!(matches!(store.put(&[200; 900]), Err(StoreError::Full { .. })), "nothing was collected yet");
    while !store.collect(2_000).unwrap().is_done {}
    for number in 200..210 {
        store.put(&[number; 900]).unwrap();
    }
    ids.iter().skip(1).step_by(2).for_each(|id| assert!(store.get(*id).unwrap().is_some()));
}

#[test]
fn a_walk_looks_at_everything_once_in_bounded_steps_and_says_how_far_it_is() {
    let disk = CrashDisk::default();
    let store = on(&disk);
    let ids: Vec<_> = (0..20_u8).map(|number| store.put(&[number; 1_000]).unwrap()).collect();
    for place in [3, 11] {
        disk.rot("00000001.seg", 12 + place * 1_084 + 84 + 7);
    }
    let (mut walk, mut corrupt, mut seen) = (Walk::new(&store).unwrap(), Vec::new(), 0);
    while !walk.progress().is_done {
        corrupt.extend(walk.step(&store, 2_500).unwrap().into_iter().map(|corrupt| corrupt.item));
        assert!(walk.progress().items - seen <= 3, "a step reads its bytes and no more");
        seen = walk.progress().items;
    }
    let progress = walk.progress();
    assert_eq!((progress.items, progress.items_total, progress.bytes, progress.bytes_total, progress.corrupt), (20, 20, 20_000, 21_680, 2));
    corrupt.sort_unstable();
    let mut expected = [Item::Blob(ids[3]), Item::Blob(ids[11])];
    expected.sort_unstable();
    assert_eq!(corrupt, expected);
}

#[test]
fn a_walk_goes_on_where_it_was_written_down_and_reads_a_large_item_over_several_steps() {
    let disk = CrashDisk::default();
    let store = on(&disk);
    let large = store.put(&vec![7; 300_000]).unwrap();
    store.put(&[8; 1_000]).unwrap();
    disk.rot("00000001.seg", 12 + 84 + 299_999);
    let (mut walk, mut corrupt, mut steps) = (Walk::new(&store).unwrap(), Vec::new(), 0);
    while !walk.progress().is_done {
        let before = walk.progress().bytes;
        corrupt.extend(walk.step(&store, 50_000).unwrap());
        assert!(walk.progress().bytes - before <= 50_000, "no more than it may");
        steps += 1;
        if steps == 3 {
            walk = Walk::resume(&store, &walk.place()).unwrap();
        }
        assert!(steps < 20);
    }
    assert_eq!((walk.progress().bytes, walk.progress().items, walk.progress().corrupt), (301_000, 2, 1));
    assert_eq!(corrupt.iter().map(|corrupt| corrupt.item).collect::<Vec<_>>(), [Item::Blob(large)]);
    assert_eq!(Walk::resume(&store, &walk.place()).unwrap().progress(), walk.progress());
    assert_eq!(Walk::resume(&store, b"no place").unwrap().progress(), Walk::new(&store).unwrap().progress());
}

#[test]
fn a_rotten_fragment_stays_marked_over_a_restart_until_it_is_stored_anew() {
    let disk = CrashDisk::default();
    let (store, encoded) = (on(&disk), object());
    let id = encoded.manifest.id();
    [0, 1].into_iter().for_each(|index| put_fragment(&store, &encoded, index));
    let item = Item::Fragment { object: id, index: 1 };
    let len = disk.len_of("00000001.seg");
    disk.rot("00000001.seg", len - 3);
    assert!(store.mark_rotten(item).unwrap() && !store.mark_rotten(item).unwrap());
    drop(store);
    let store = on(&disk);
    assert_eq!((store.rotten(9).unwrap(), store.sound_fragments_of(id).unwrap()), (vec![item], vec![0]));
    assert_eq!(store.fragments_of(id).unwrap(), [0, 1], "it is still kept");
    assert_eq!(store.recheck(None, 9).unwrap(), Rechecked { rotten: vec![item], mended: vec![], last: Some(item) });
    put_fragment(&store, &encoded, 1);
    assert_eq!((store.rotten(9).unwrap(), store.sound_fragments_of(id).unwrap()), (vec![], vec![0, 1]));
    store.mark_rotten(item).unwrap();
    assert_eq!(
        store.recheck(None, 9).unwrap(),
        Rechecked { rotten: vec![], mended: vec![item], last: Some(item) },
        "a mark without a cause"
    );
}

/// Fragments of one object under the name of another's content, and the proof of that.
fn lying() -> (Encoded, crate::erasure::Proof) {
    let mut lying = object();
    let mut bytes = lying.manifest.encode();
    bytes[20] ^= 1;
    lying.manifest = ObjectManifest::decode(&bytes).unwrap();
    let fragments: Vec<_> =
        (0..3_u8).map(|index| lying.manifest.verify(index, lying.fragments[usize::from(index)].clone()).unwrap()).collect();
    let proof = crate::erasure::Proof::find(&lying.manifest, &fragments).unwrap().unwrap();
    (lying, proof)
}

#[test]
fn what_somebody_is_bound_to_show_of_a_void_object_stays_until_it_is_released() {
    let store = on(&CrashDisk::default());
    let (lying, proof) = lying();
    let (void, kept) = (lying.manifest.id(), BTreeSet::from([2]));
    (0..3).for_each(|index| put_fragment(&store, &lying, index));
    assert_eq!(store.void_but(&proof, &kept).unwrap(), 2);
    assert!(store.is_void(void).unwrap() && store.proof_of(void).unwrap() == Some(proof.clone()));
    assert_eq!(store.get_fragment(void, 2).unwrap().as_deref(), Some(lying.fragments[2].as_slice()));
    assert!(store.manifest(void).unwrap().is_some() && store.fragments_of(void).unwrap() == [2]);
    let fragment = lying.manifest.verify(0, lying.fragments[0].clone()).unwrap();
    assert!(matches!(store.put_fragment(&lying.manifest, &fragment), Err(StoreError::Void { .. })), "none is taken again");
    assert_eq!(store.release_object_but(void, &kept).unwrap(), 0);
    assert_eq!(store.release_object_but(void, &BTreeSet::new()).unwrap(), 1);
    assert!(store.manifest(void).unwrap().is_none() && store.fragments_of(void).unwrap().is_empty() && store.is_void(void).unwrap());
}

#[test]
fn an_object_that_was_proved_false_is_released_and_never_kept_again() {
    let store = on(&CrashDisk::default());
    put_fragment(&store, &object(), 0);
    let (lying, proof) = lying();
    put_fragment(&store, &lying, 0);
    put_fragment(&store, &lying, 2);
    let fragments: Vec<_> =
        (0..3_u8).map(|index| lying.manifest.verify(index, lying.fragments[usize::from(index)].clone()).unwrap()).collect();
    let (proof, void) = (crate::erasure::Proof::decode(&proof.encode()).unwrap(), lying.manifest.id());
    assert_eq!(store.void(&proof).unwrap(), 2);
    assert!(matches!(store.put_fragment(&lying.manifest, &fragments[1]), Err(StoreError::Void { .. })));
    assert_eq!((store.proof_of(void).unwrap(), store.voided(BlobId::ZERO, 9).unwrap()), (Some(proof.clone()), vec![void]));
    assert_eq!(store.void(&proof).unwrap(), 0, "once is enough");
    assert_eq!(store.proof_of(object().manifest.id()).unwrap(), None);
    assert_eq!(store.fragments_of(object().manifest.id()).unwrap(), [0], "the honest one stays");
}

#[test]
fn an_index_of_three_thousand_fragments_takes_two_mebibytes_at_most() {
    let disk = CrashDisk::default();
    let store = on(&disk);
    for number in 0..3_000_u32 {
        let object = encode(&number.to_be_bytes(), Hash32::ZERO, Profile::DEVNET).unwrap();
        put_fragment(&store, &object, 0);
    }
    drop(store);
    let bytes = disk.len_of("index.redb") / 3_000;
    // `tests/overhead.rs` counts with it. The file grows by doubling.
    assert!(bytes <= 720, "{bytes} bytes a fragment");
}

#[test]
fn handles_on_several_threads_keep_everything() {
    let store = on(&CrashDisk::default());
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let store = store.clone();
            scope.spawn(move || (0..25_u8).for_each(|i| assert_eq!(store.put(&[thread, i]).unwrap(), BlobId::of(&[thread, i]))));
        }
    });
    assert_eq!(store.items(None, 1_000).unwrap().len(), 100);
    assert_eq!(store.scrub(None, 1_000).unwrap().corrupt, []);
}

#[test]
fn records_are_read_in_key_order_and_one_of_two_racing_inserts_wins() {
    let records = on(&CrashDisk::default()).records();
    assert_eq!(records.get("requests", b"a").unwrap(), None);
    assert_eq!(records.scan("requests", b"", 10).unwrap(), []);
    assert!(records.insert_new("requests", b"b", b"1").unwrap());
    assert!(!records.insert_new("requests", b"b", b"2").unwrap());
    records.put_all(&[("requests", b"a", b"0"), ("requests", b"c", b"3"), ("other", b"b", b"x")]).unwrap();
    let all: Vec<_> = records.scan("requests", b"", 10).unwrap();
    assert_eq!(all, [(b"a".to_vec(), b"0".to_vec()), (b"b".to_vec(), b"1".to_vec()), (b"c".to_vec(), b"3".to_vec())]);
    assert_eq!(records.scan("requests", b"b", 1).unwrap(), all[1..2]);
    let raise = |to: u8| records.update("requests", b"a", |old| old.is_none_or(|old| old[0] < to).then(|| vec![to]));
    assert!(raise(b'5').unwrap() && !raise(b'4').unwrap());
    assert_eq!(records.get("requests", b"a").unwrap(), Some(b"5".to_vec()));
    assert!(records.remove("requests", b"a").unwrap() && !records.remove("requests", b"a").unwrap());
}

#[test]
fn records_are_bounded() {
    let records = on(&CrashDisk::default()).records();
    for table in ["", "Receipts", "a/b", &"a".repeat(33)] {
        assert!(matches!(records.put(table, b"k", b"v"), Err(RecordError::Table { .. })), "{table:?}");
    }
    assert!(matches!(records.put("a", &[0; KEY_BYTES_MAX + 1], b""), Err(RecordError::TooLong { part: "key", .. })));
    assert!(matches!(records.put("a", b"k", &vec![0; VALUE_BYTES_MAX + 1]), Err(RecordError::TooLong { part: "value", .. })));
    let large = vec![0; VALUE_BYTES_MAX];
    for key in 0..4_u8 {
        records.put("a", &[key], &large).unwrap();
    }
    assert_eq!(records.scan("a", b"", 10).unwrap().len(), 1, "a scan ends before it holds more than its bytes");
}

/// Five stores that hold an object, and a fetch over them.
mod network {
    use std::collections::{BTreeMap, VecDeque};

    use types::{id::NodeId, time::Time};

    use super::*;
    use crate::proto::{
        fetch::{self, Fetch, FetchError, Fetched, StreamEnd},
        message::{Refusal, Reply, Request},
        provide::PIECE_BYTES,
        range::{Block, Decoder, Run},
        spread::{self, Spread},
    };

    struct Network {
        object: Encoded,
        bytes: Vec<u8>,
        disks: Vec<CrashDisk>,
        stores: BTreeMap<NodeId, Store>,
    }

    fn node(index: u8) -> NodeId {
        NodeId([index; 32])
    }

    /// Both ways over the wire's bytes.
    fn call(store: &Store, at: NodeId, request: &Request) -> Reply {
        let request = Request::decode(&request.encode()).unwrap();
        Reply::decode(&store.serve(request, |_| Some(at.0[0])).encode()).unwrap()
    }

    /// A range, read as its holder sends it and checked as its reader does.
    fn read(store: &Store, manifest: &ObjectManifest, index: u8, run: Run) -> Result<Vec<Block>, Refusal> {
        let mut reading = store.read_range(manifest.id(), index, run, None)?;
        let (mut decoder, mut piece, mut blocks) = (Decoder::new(manifest, index, run).unwrap(), Vec::new(), Vec::new());
        while !reading.is_done() {
            reading.piece(&mut piece)?;
            assert!(piece.len() <= PIECE_BYTES);
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let space = decoder.space();
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                blocks.extend(decoder.advance(count).unwrap());
            }
        }
        assert!(decoder.is_done());
        Ok(blocks)
    }

    impl Network {
        fn spread() -> Self {
            let bytes: Vec<u8> = (0..=250).cycle().take(10_000).collect();
            Self::spread_of(encode(&bytes, Hash32::ZERO, Profile::DEVNET).unwrap(), bytes)
        }

        fn spread_of(object: Encoded, bytes: Vec<u8>) -> Self {
            let disks: Vec<_> = (0..5).map(|_| CrashDisk::default()).collect();
            let stores: BTreeMap<_, _> = (0..5).map(|index| (node(index), on(&disks[usize::from(index)]))).collect();
            let mut spread = Spread::new(object.manifest.id(), (0..5).map(node), spread::Config::default());
            let mut inputs = VecDeque::from([spread::Input::Start]);
            while let Some(input) = inputs.pop_front() {
                for output in spread.handle(Time(0), input) {
                    match output {
                        spread::Output::Send { to, index } => {
                            let fragment = object.fragments[usize::from(index)].clone();
                            let reply = call(
                                &stores[&to],
                                to,
                                &Request::Put { manifest: object.manifest.encode(), index, fragment, holders: vec![] },
                            );
                            inputs.push_back(spread::Input::Reply { index, reply });
                        }
                        spread::Output::Done(result) => assert_eq!(result.unwrap().len(), 5),
                    }
                }
            }
            Self { object, bytes, disks, stores }
        }

        fn fetch(&self) -> Result<Fetched, FetchError> {
            self.fetch_as(fetch::Config::default())
        }

        fn fetch_as(&self, config: fetch::Config) -> Result<Fetched, FetchError> {
            let mut fetch = Fetch::new(self.object.manifest.id(), (0..5).map(node), config);
            let mut inputs = VecDeque::from([fetch::Input::Start]);
            loop {
                let (now, input) =
                    inputs.pop_front().map_or_else(|| (fetch.deadline().unwrap(), fetch::Input::Tick), |input| (Time(0), input));
                for output in fetch.handle(now, input) {
                    match output {
                        fetch::Output::Locate { to } => {
                            let request = Request::Locate { object: self.object.manifest.id() };
                            let reply = self.stores.get(&to).map(|store| call(store, to, &request));
                            inputs.push_back(fetch::Input::Located { from: to, reply });
                        }
                        fetch::Output::Read { stream, to, index, run } => {
                            let end = match read(&self.stores[&to], &self.object.manifest, index, run) {
                                Ok(blocks) => {
                                    inputs.extend(blocks.into_iter().map(|block| fetch::Input::Block { stream, from: to, block }));
                                    StreamEnd::Whole
                                }
                                Err(refusal) => StreamEnd::Refused(refusal),
                            };
                            inputs.push_back(fetch::Input::Ended { stream, end });
                        }
                        fetch::Output::Cancel { .. } => {}
                        fetch::Output::Blame(evidence) => panic!("{evidence}"),
                        fetch::Output::Done(result) => return result,
                    }
                }
            }
        }

        /// Changes a byte of the fragment on a holder's disk while its store is open.
        fn rot(&self, holder: u8) {
            let before = 12 + 84 + self.object.manifest.encode().len() + 84;
            self.disks[usize::from(holder)].rot("00000001.seg", before + 77);
        }
    }

    #[test]
    fn an_object_spread_over_five_stores_comes_back_from_any_three() {
        for a in 0..5 {
            for b in a + 1..5 {
                let mut network = Network::spread();
                network.stores.remove(&node(a));
                network.stores.remove(&node(b));
                let fetched = network.fetch().unwrap();
                assert_eq!(fetched.bytes, network.bytes);
                assert_eq!(fetched.received.values().sum::<u64>(), 3 * 3_334);
            }
        }
    }

    #[test]
    fn a_fragment_that_rotted_on_its_holders_disk_is_refused_by_the_holder_and_fetched_elsewhere() {
        for holder in 0..5 {
            let network = Network::spread();
            network.rot(holder);
            let object = network.object.manifest.id();
            let request = Request::Read { object, index: holder, run: Run { first: 0, count: 1 } };
            let reply = call(&network.stores[&node(holder)], node(holder), &request);
            assert_eq!(reply, Reply::Refused(Refusal::Corrupt { object, index: holder }));
            assert_eq!(network.fetch().unwrap().bytes, network.bytes);
        }
    }

    #[test]
    fn a_reader_of_an_object_whose_manifest_lies_gets_the_proof_by_which_every_holder_voids_it() {
        let mut lying = object();
        let mut manifest = lying.manifest.encode();
        manifest[20] ^= 1;
        lying.manifest = ObjectManifest::decode(&manifest).unwrap();
        let network = Network::spread_of(lying, vec![]);
        let FetchError::Lied { proof, error } = network.fetch().unwrap_err() else { panic!("no proof came") };
        assert!(error.to_string().contains("manifest is false"), "{error}");
        let proof = crate::erasure::Proof::decode(&proof.encode()).unwrap();
        assert_eq!(proof.object(), network.object.manifest.id());
        network.stores.values().for_each(|store| assert_eq!(store.void(&proof).unwrap(), 1));
        assert!(matches!(network.fetch(), Err(FetchError::NoManifest { .. })));
    }

    /// A writer that changes one fragment after it encoded and names it as it became: whoever reads it with others reads no object.
    #[test]
    fn of_an_object_that_is_no_code_word_readers_get_what_was_encoded_or_the_proof_that_voids_it() {
        let bytes: Vec<u8> = (0..=250).cycle().take(10_000).collect();
        for changed in 0..5_usize {
            let mut lying = encode(&bytes, Hash32::ZERO, Profile::DEVNET).unwrap();
            lying.fragments[changed][77] ^= 1;
            // 79 bytes of head, then two hashes for each fragment.
            let (mut manifest, at) = (lying.manifest.encode(), 79 + 64 * changed);
            let named = FragmentRoot::of(&lying.fragments[changed]);
            manifest[at..at + 64].copy_from_slice(&[named.blake3.0, named.keccak.0].concat());
            lying.manifest = ObjectManifest::decode(&manifest).unwrap();
            let network = Network::spread_of(lying, bytes.clone());
            let mut proofs = Vec::new();
            for choice in (0_u8..32).filter(|choice| choice.count_ones() == 3) {
                let stores = network.stores.iter().filter(|(node, _)| choice >> node.0[0] & 1 == 1);
                let three = Network {
                    object: network.object.clone(),
                    bytes: Vec::new(),
                    disks: Vec::new(),
                    stores: stores.map(|(node, store)| (*node, store.clone())).collect(),
                };
                match three.fetch() {
                    Ok(fetched) => {
                        assert!(fetched.bytes == bytes && choice >> changed & 1 == 0, "three of {choice:05b} with {changed} false")
                    }
                    Err(FetchError::Lied { proof, .. }) => proofs.push(proof),
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(proofs.len(), 6, "two others of four read it with the false one");
            for proof in &proofs {
                let proof = crate::erasure::Proof::decode(&proof.encode()).unwrap();
                assert_eq!(proof.check().unwrap().object(), network.object.manifest.id());
                for store in network.stores.values() {
                    store.void(&proof).unwrap();
                }
            }
            assert!(matches!(network.fetch(), Err(FetchError::NoManifest { .. })));
            let put = Request::Put {
                manifest: network.object.manifest.encode(),
                index: 0,
                fragment: network.object.fragments[0].clone(),
                holders: vec![],
            };
            assert!(matches!(call(&network.stores[&node(0)], node(0), &put), Reply::Refused(_)), "a void object was kept again");
        }
    }

    #[test]
    fn a_fragment_bent_on_its_way_at_any_place_in_any_position_is_refused_and_nothing_of_it_is_kept() {
        let object = encode(&[5; 300], Hash32::ZERO, Profile::DEVNET).unwrap();
        let (id, manifest) = (object.manifest.id(), object.manifest.encode());
        for index in 0..5_u8 {
            let good = &object.fragments[usize::from(index)];
            let flipped = (0..8 * good.len()).map(|bit| {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                (manifest.clone(), bytes)
            });
            let cut = (0..good.len()).map(|len| (manifest.clone(), good[..len].to_vec()));
            let grown = [1, 100, 100_000].map(|more| (manifest.clone(), [good.as_slice(), &vec![0; more]].concat()));
            let other_codec = (0..=255).filter(|codec| *codec != 1).map(|codec| ([&[codec][..], &manifest[1..]].concat(), good.clone()));
            let other_fragment = [(manifest.clone(), object.fragments[usize::from((index + 1) % 5)].clone())];
            // The first fragments of a constant are equal, so that one may stand for another.
            let other_fragment = other_fragment.into_iter().filter(|(_, bytes)| bytes != good);
            let store = on(&CrashDisk::default());
            let used = store.used_bytes();
            for (manifest, fragment) in flipped.chain(cut).chain(grown).chain(other_codec).chain(other_fragment) {
                let reply = call(&store, node(index), &Request::Put { manifest, index, fragment, holders: vec![] });
                assert!(matches!(reply, Reply::Refused(Refusal::Invalid { .. })), "fragment {index}: {reply:?}");
            }
            assert_eq!((store.fragments_of(id).unwrap(), store.used_bytes()), (vec![], used));
            let reply =
                call(&store, node(index), &Request::Put { manifest: manifest.clone(), index, fragment: good.clone(), holders: vec![] });
            assert_eq!(reply, Reply::Stored { object: id, index });
        }
    }

    #[test]
    fn a_bit_flipped_on_the_disk_at_any_place_in_any_position_is_never_sent() {
        let object = encode(&[5; 300], Hash32::ZERO, Profile::DEVNET).unwrap();
        let id = object.manifest.id();
        for index in 0..5_u8 {
            let disk = CrashDisk::default();
            let store = on(&disk);
            put_fragment(&store, &object, index);
            let length = object.manifest.fragment_len();
            let begin = 12 + 84 + object.manifest.encode().len() + 84;
            for at in begin..begin + length {
                disk.rot("00000001.seg", at);
                assert!(matches!(store.get_fragment(id, index), Err(StoreError::Corrupt(_))), "byte {at}");
                assert_eq!(
                    read(&store, &object.manifest, index, Run::all(length)),
                    Err(Refusal::Corrupt { object: id, index }),
                    "byte {at}"
                );
                disk.rot("00000001.seg", at);
            }
            assert_eq!(store.get_fragment(id, index).unwrap().as_ref(), Some(&object.fragments[usize::from(index)]));
        }
    }

    #[test]
    fn a_reader_that_encodes_again_proves_a_false_fragment_that_it_did_not_need() {
        let mut lying = object();
        // The last fragment is another object's, under its right names.
        let other = encode(&vec![9; lying.manifest.length()], Hash32::ZERO, Profile::DEVNET).unwrap();
        let (mut manifest, other_manifest) = (lying.manifest.encode(), other.manifest.encode());
        let last = manifest.len() - 64;
        manifest[last..].copy_from_slice(&other_manifest[last..]);
        lying.manifest = ObjectManifest::decode(&manifest).unwrap();
        lying.fragments[4] = other.fragments[4].clone();
        let bytes = crate::erasure::reconstruct(
            &lying.manifest,
            &(0..3_u8).map(|index| lying.manifest.verify(index, lying.fragments[usize::from(index)].clone()).unwrap()).collect::<Vec<_>>(),
        )
        .unwrap();
        let network = Network::spread_of(lying, bytes.clone());
        assert_eq!(network.fetch().unwrap().bytes, bytes, "who does not look sees nothing");
        let config = fetch::Config { is_reencoded: true, ..fetch::Config::default() };
        let FetchError::Lied { proof, error } = network.fetch_as(config).unwrap_err() else { panic!("no proof came") };
        assert!(error.to_string().contains("another fragment 4"), "{error}");
        let lie = proof.check().unwrap().lie();
        assert_eq!(lie, crate::erasure::Lie::Fragment(4));
        network.stores.values().for_each(|store| assert_eq!(store.void(&proof).unwrap(), 1));
    }

    #[test]
    fn one_reader_in_sixteen_encodes_an_object_again_and_none_can_be_told_beforehand() {
        let object = object().manifest.id();
        let readers = (0..1_600_u32).map(|number| NodeId(BlobId::of(&number.to_be_bytes()).0));
        let drawn = readers.filter(|reader| crate::erasure::is_reencoded(object, *reader)).count();
        assert!((60..=140).contains(&drawn), "{drawn} of 1,600");
    }

    #[test]
    fn with_three_of_five_rotten_the_error_names_each_holder_object_and_fragment() {
        let network = Network::spread();
        (0..3).for_each(|holder| network.rot(holder));
        let error = network.fetch().unwrap_err();
        assert!(matches!(error, FetchError::TooFew { found: 2, needed: 3, .. }));
        for holder in 0..3 {
            let words = format!("{}: fragment {holder} of object {} is damaged", node(holder), network.object.manifest.id());
            assert!(error.to_string().contains(&words), "{error}");
        }
    }

    #[test]
    fn a_store_answers_for_what_it_does_not_hold() {
        let network = Network::spread();
        let (store, object) = (&network.stores[&node(0)], network.object.manifest.id());
        let refused = |request| {
            if let Reply::Refused(refusal) = call(store, node(0), &request) { refusal.to_string() } else { panic!("it answered") }
        };
        assert!(refused(Request::Read { object, index: 3, run: Run { first: 0, count: 1 } }).contains("not the holder of fragment 3"));
        assert!(refused(Request::Read { object, index: 0, run: Run { first: 1, count: 1 } }).contains("fragment 0 has 1 groups"));
        assert!(refused(Request::Locate { object: BlobId::ZERO }).contains("nothing is known"));
        let put = Request::Put {
            manifest: network.object.manifest.encode(),
            index: 1,
            fragment: network.object.fragments[1].clone(),
            holders: vec![],
        };
        assert!(refused(put).contains("not the holder of fragment 1"));
    }

    #[test]
    fn what_rots_after_its_pairs_were_kept_is_not_sent() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * 700_000).collect();
        let object = encode(&bytes, Hash32::ZERO, Profile::DEVNET).unwrap();
        let (disk, id) = (CrashDisk::default(), object.manifest.id());
        let store = on(&disk);
        put_fragment(&store, &object, 0);
        let run = Run::all(700_000);
        let tree = store.read_range(id, 0, run, None).unwrap().tree();
        disk.rot("00000001.seg", 12 + 84 + object.manifest.encode().len() + 84 + 600_000);
        let mut reading = store.read_range(id, 0, run, Some(tree)).unwrap();
        let mut piece = Vec::new();
        assert_eq!((reading.piece(&mut piece), reading.piece(&mut piece)), (Ok(()), Ok(())));
        assert_eq!(reading.piece(&mut piece), Err(Refusal::Corrupt { object: id, index: 0 }));
        assert_eq!(read(&store, &object.manifest, 0, run), Err(Refusal::Corrupt { object: id, index: 0 }));
    }

    #[test]
    fn a_fragment_that_collecting_moves_is_read_to_its_end_and_found_in_its_new_place() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * 700_000).collect();
        let object = encode(&bytes, Hash32::ZERO, Profile::DEVNET).unwrap();
        let (folder, id) = (tempfile::tempdir().unwrap(), object.manifest.id());
        let store = Store::open(folder.path(), Config { segment_bytes: 2_200_000, ..Config::default() }).unwrap();
        [0, 1, 3, 2].into_iter().for_each(|index| put_fragment(&store, &object, index));
        let mut reading = store.read_range(id, 0, Run::all(700_000), None).unwrap();
        let (mut piece, mut pieces) = (Vec::new(), 1);
        reading.piece(&mut piece).unwrap();
        for index in [1, 3] {
            assert!(store.release(Item::Fragment { object: id, index }).unwrap());
        }
        while !store.collect(1 << 20).unwrap().is_done {}
        assert!(!folder.path().join("00000001.seg").exists(), "it was dropped");
        while !reading.is_done() {
            reading.piece(&mut piece).unwrap();
            pieces += 1;
        }
        assert!(pieces > 2);
        let blocks = read(&store, &object.manifest, 0, Run::all(700_000)).unwrap();
        assert!(blocks.iter().flat_map(Block::bytes).eq(&object.fragments[0]));
        assert_eq!(store.peek_fragment(id, 0, 699_000, 1_000).unwrap().as_deref(), Some(&object.fragments[0][699_000..]));
        assert_eq!(store.peek_fragment(id, 0, 699_000, 1_001).unwrap(), None);
        assert_eq!(store.peek_fragment(id, 1, 0, 1).unwrap(), None);
    }
}
