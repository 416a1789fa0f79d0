//! What a store promises when the power goes, the disk is full, or a sync fails, at every change it makes in turn.

use super::{
    crash::{CrashDisk, Plight},
    trace::{Step, Trace, config, held, survives_power_cuts},
    *,
};

/// Puts, records, releases and collecting, over several segments.
fn life() -> Trace {
    Trace::new([
        Step::Blob(1),
        Step::Record(1, 1),
        Step::Fragment(9, 0),
        Step::Blob(7),
        Step::Record(1, 2),
        Step::ReleaseBlob(1),
        Step::Fragment(9, 4),
        Step::Blob(8),
        Step::ReleaseBlob(7),
        Step::Blob(1),
        Step::Record(2, 1),
        Step::ReleaseFragment(9, 0),
        Step::Collect,
        Step::Blob(2),
        Step::ReleaseFragment(9, 4),
        Step::Fragment(9, 2),
        Step::Fragment(9, 3),
        Step::ReleaseBlob(8),
        Step::Unrecord(2),
        Step::Collect,
        Step::ReleaseObject(9),
        Step::Blob(6),
        Step::Record(1, 3),
        Step::Blob(7),
        Step::ReleaseBlob(2),
        Step::ReleaseBlob(1),
        Step::Collect,
    ])
}

#[test]
fn whatever_was_acknowledged_survives_a_power_cut_at_any_write_of_puts_releases_and_collecting() {
    survives_power_cuts(&life(), 1);
}

#[test]
fn a_power_cut_during_recovery_loses_nothing_either() {
    let trace = life();
    let whole = CrashDisk::default();
    trace.run(&whole);
    for nth in (0..whole.changes()).step_by(5) {
        let disk = CrashDisk::default();
        disk.power_off_at(nth);
        let acknowledged = trace.run(&disk);
        let mut disk = disk.reboot(3_000 + nth);
        for again in 0..8 {
            disk.power_off_at(again);
            drop(Store::on(Arc::new(disk.clone()), config()));
            disk = disk.reboot(4_000 + again);
        }
        let case = format!("power off at change {nth}, then eight times while recovering");
        let store = Store::on(Arc::new(disk), config()).unwrap_or_else(|error| panic!("{case}: {error}"));
        trace.check(&store, acknowledged, &case);
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_recover() {
    let disk = CrashDisk::default();
    life().run(&disk);
    let store = Store::on(Arc::new(disk), config()).unwrap();
    assert_eq!(store.recovery(), Recovery::default());
}

/// Goes through the trace on a disk that is struck at change `nth`; where a step fails, looks at the store as it runs, mends the disk, and
/// goes on with the same store.
fn struck(trace: &Trace, nth: u64, plight: Plight) {
    let case = format!("{plight:?} at change {nth}");
    let disk = CrashDisk::default();
    disk.strike_at(nth, plight);
    let store = match Store::on(Arc::new(disk.clone()), config()) {
        Ok(store) => store,
        Err(_) => {
            disk.mend();
            Store::on(Arc::new(disk.clone()), config()).unwrap_or_else(|error| panic!("{case}: opening again: {error}"))
        }
    };
    for (done, step) in trace.steps.iter().enumerate() {
        let Err(error) = trace.perform(&store, *step) else { continue };
        assert!(!error.contains("start again"), "{case}: {step:?}: a full disk stops no store: {error}");
        assert_eq!(held(&store, &case), trace.held_after(done), "{case}: {step:?} failed, what was there before is read: {error}");
        disk.mend();
        trace.perform(&store, *step).unwrap_or_else(|error| panic!("{case}: {step:?} after room was made: {error}"));
    }
    disk.mend();
    trace.check(&store, trace.steps.len(), &case);
    drop(store);
    let store = Store::on(Arc::new(disk), config()).unwrap_or_else(|error| panic!("{case}: {error}"));
    trace.check(&store, trace.steps.len(), &case);
}

#[test]
fn a_disk_that_fills_up_at_any_write_stops_that_call_alone_and_what_was_kept_is_read_meanwhile() {
    let trace = life();
    let whole = CrashDisk::default();
    trace.run(&whole);
    for plight in [Plight::Full, Plight::Cramped, Plight::Once] {
        (0..whole.changes()).for_each(|nth| struck(&trace, nth, plight));
    }
}

#[test]
fn a_sync_that_fails_stops_writing_until_the_store_is_opened_again_and_loses_nothing_acknowledged() {
    let trace = life();
    let whole = CrashDisk::default();
    trace.run(&whole);
    for nth in 0..whole.changes() {
        let case = format!("a sync fails at change {nth} or after");
        let disk = CrashDisk::default();
        disk.strike_at(nth, Plight::Unsynced);
        let Ok(store) = Store::on(Arc::new(disk.clone()), config()) else { continue };
        let acknowledged = trace.steps.iter().take_while(|step| trace.perform(&store, **step).is_ok()).count();
        if acknowledged < trace.steps.len() {
            let before = trace.held_after(acknowledged);
            for (item, bytes) in &before.0 {
                // What a step that failed released may be gone already; nothing else is.
                if let Some(got) = store.get_item(*item).unwrap_or_else(|error| panic!("{case}: {item}: {error}")) {
                    assert_eq!(&got, bytes, "{case}: {item}");
                }
            }
            let error = store.put(b"later").unwrap_err().to_string();
            assert!(error.contains("start again"), "{case}: {error}");
        }
        drop(store);
        for coin in [0, 1, 5_000 + nth] {
            let store = Store::on(Arc::new(disk.copy_lossy(coin)), config()).unwrap_or_else(|error| panic!("{case}: {error}"));
            trace.check(&store, acknowledged, &case);
            store.put(b"later").unwrap();
        }
    }
}

/// Traces that `cargo xtask soak store` draws; the gate takes the first few.
const TRACES: u64 = 3;

#[test]
fn traces_drawn_by_a_seed_keep_what_was_acknowledged_whatever_the_disk_does() {
    let count = std::env::var("TRIBUTARY_STORE_TRACES").map_or(TRACES, |count| count.parse().expect("a number of traces"));
    for seed in 0..count {
        println!("trace {seed}");
        let trace = Trace::drawn(seed, 20);
        let whole = CrashDisk::default();
        assert_eq!(trace.run(&whole), trace.steps.len(), "seed {seed}");
        survives_power_cuts(&trace, 7);
        for nth in (0..whole.changes()).step_by(11) {
            [Plight::Full, Plight::Cramped, Plight::Once].into_iter().for_each(|plight| struck(&trace, nth, plight));
        }
    }
}

/// What a node does to its store, in order: `service::storage` keeps fragments, `books` keeps records beside them.
mod node {
    use super::*;

    /// A contributor's five fragments as five holders get them, one after the other on one store; a voucher and a receipt are kept between.
    #[test]
    fn a_contribution_is_kept_up_to_any_power_cut() {
        survives_power_cuts(
            &Trace::new([
                Step::Record(0, 1),
                Step::Fragment(3, 0),
                Step::Record(1, 1),
                Step::Fragment(3, 1),
                Step::Fragment(3, 2),
                Step::Record(1, 2),
                Step::Fragment(3, 3),
                Step::Fragment(3, 4),
                Step::Record(2, 1),
            ]),
            1,
        );
    }

    /// Encoding a version: several objects at once, fragments of which arrive mixed, some twice since their acknowledgement was lost.
    #[test]
    fn a_version_of_several_objects_is_kept_up_to_any_power_cut() {
        survives_power_cuts(
            &Trace::new([
                Step::Fragment(2, 0),
                Step::Fragment(4, 3),
                Step::Fragment(2, 0),
                Step::Fragment(6, 1),
                Step::Record(0, 7),
                Step::Fragment(4, 3),
                Step::Fragment(9, 2),
                Step::Fragment(6, 4),
            ]),
            1,
        );
    }

    /// Repair: sources are read, the rebuilt fragment is put, the surplus copy of another is released, and its bytes are collected.
    #[test]
    fn a_repair_is_kept_up_to_any_power_cut() {
        survives_power_cuts(
            &Trace::new([
                Step::Fragment(5, 1),
                Step::Fragment(8, 1),
                Step::Record(3, 1),
                Step::Fragment(5, 3),
                Step::ReleaseFragment(5, 1),
                Step::Fragment(7, 0),
                Step::Record(3, 2),
                Step::ReleaseObject(8),
                Step::Collect,
                Step::Fragment(8, 4),
                Step::Unrecord(3),
            ]),
            1,
        );
    }
}

#[test]
fn a_reader_of_segments_alone_is_told_of_every_release() {
    // Without the index, the last record of an item says whether it is kept: collecting must not lose a release before what it speaks against.
    let trace = life();
    let disk = CrashDisk::default();
    let store = Store::on(Arc::new(disk), config()).unwrap();
    for count in 0..trace.steps.len() {
        trace.perform(&store, trace.steps[count]).unwrap();
        let segments = store.0.segments.read().unwrap().clone();
        let mut last = BTreeMap::new();
        for (number, file) in &segments {
            let (records, end) = segment::scan(&**file, *number, segment::HEADER_BYTES, file.len().unwrap()).unwrap();
            assert_eq!(end, file.len().unwrap());
            last.extend(records);
        }
        let kept: Vec<Item> = last.into_iter().filter(|(_, entry)| matches!(entry, index::Entry::Kept(_))).map(|(item, _)| item).collect();
        assert_eq!(kept, store.items(None, 1_000).unwrap(), "after step {count}");
    }
}
