//! The folder after a crash at any point, and after a power cut that lost what was not synced.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::tests::{adapter, parts, tiny_model};
use super::*;

struct Bench {
    folder: tempfile::TempDir,
    model: ModelInfo,
    /// One that was stored long ago, and one that is being written.
    old: Packed8,
    new: Packed8,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = tiny_model(folder.path());
        let read = |rank| Packed8::read(&adapter(folder.path(), rank, 1), &model).unwrap();
        let (old, new) = (read(2), read(4));
        let this = Self { folder, model, old, new };
        this.write(&this.open().0, &this.old, &mut |_| {}).unwrap();
        this
    }

    fn open(&self) -> (Disk, Vec<Found>, usize) {
        Disk::open(&self.folder.path().join("store"), &self.model, &Budget::default()).unwrap()
    }

    fn write(&self, disk: &Disk, packed: &Packed8, at: &mut dyn FnMut(Step)) -> Result<(), StoreError> {
        disk.prepare(id_of(packed), &packed.encode(self.model.hash), at)?.publish(at)?.sync(at)
    }

    fn read(&self, disk: &Disk, packed: &Packed8) -> Result<Packed8, ReadError> {
        disk.read(id_of(packed), u64::MAX, &self.model)
    }

    /// Whether the old one is whole, and the new one whole or absent; says which.
    fn has_new(&self) -> bool {
        let (disk, found, _) = self.open();
        assert_eq!(parts(&self.read(&disk, &self.old).unwrap()), parts(&self.old));
        let files = std::fs::read_dir(&disk.dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let leftover: Vec<String> = files.filter(|name| name.ends_with(PART)).collect();
        assert!(leftover.is_empty(), "{leftover:?}");
        match self.read(&disk, &self.new) {
            Ok(new) => {
                assert_eq!((parts(&new), found.len()), (parts(&self.new), 2));
                true
            }
            Err(error) => {
                assert!(matches!(error, ReadError::Bad(_)), "{error}");
                false
            }
        }
    }
}

fn id_of(packed: &Packed8) -> AdapterId {
    AdapterId(packed.info().hash)
}

/// Runs until just before a step; false if it was never reached.
fn crashes(step: Step, run: impl FnOnce(&mut dyn FnMut(Step))) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(&mut |at| assert!(at != step, "the crash that this test plays")))).is_err()
}

#[test]
fn a_crash_at_any_step_leaves_an_adapter_whole_or_absent() {
    for (step, is_there) in [(Step::Create, false), (Step::Half, false), (Step::Rest, false), (Step::Rename, false), (Step::SyncName, true)]
    {
        let bench = Bench::new();
        let disk = bench.open().0;
        assert!(crashes(step, |at| bench.write(&disk, &bench.new, at).unwrap()), "{step:?}");
        drop(disk);
        assert_eq!(bench.has_new(), is_there, "{step:?}");
        // And it can be written again.
        bench.write(&bench.open().0, &bench.new, &mut |_| {}).unwrap();
        assert!(bench.has_new(), "{step:?}");
    }
}

#[test]
fn what_a_power_cut_has_torn_is_never_taken_for_an_adapter() {
    let bench = Bench::new();
    let disk = bench.open().0;
    bench.write(&disk, &bench.new, &mut |_| {}).unwrap();
    let path = disk.path(id_of(&bench.new));
    let whole = std::fs::read(&path).unwrap();
    drop(disk);
    assert!(bench.has_new());
    // Renamed, and of its bytes only some have reached the disk: cut off, or zeros where they should be.
    let pages = (0..whole.len()).step_by(4_096);
    for end in pages.clone().chain([1, 43, 60, whole.len() - 1]) {
        std::fs::write(&path, &whole[..end]).unwrap();
        assert!(!bench.has_new() && !path.exists(), "cut at {end} and swept");
    }
    for start in pages {
        let mut zeroed = whole.clone();
        let end = zeroed.len().min(start + 4_096);
        zeroed[start..end].fill(0);
        if zeroed == whole {
            continue;
        }
        std::fs::write(&path, &zeroed).unwrap();
        assert!(!bench.has_new(), "zeros from {start}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(bench.has_new());
}

#[test]
fn a_crash_at_any_step_leaves_the_old_names_or_the_new() {
    let bench = Bench::new();
    let table = |name: &str| Names { names: [(name.to_owned(), AdapterId([7; 32]))].into(), pinned: [AdapterId([8; 32])].into() };
    for step in [Step::Create, Step::Half, Step::Rest, Step::Sync, Step::Rename, Step::SyncName] {
        let disk = bench.open().0;
        disk.write_names(&table("old"), &mut |_| {}).unwrap();
        assert!(crashes(step, |at| disk.write_names(&table("new"), at).unwrap()), "{step:?}");
        drop(disk);
        let (disk, _, swept) = bench.open();
        assert_eq!(disk.names().unwrap(), table(if step == Step::SyncName { "new" } else { "old" }), "{step:?}");
        assert_eq!(swept, usize::from(!matches!(step, Step::Create | Step::SyncName)), "{step:?}");
    }
}

#[test]
fn the_bytes_of_names_are_synced_before_they_get_their_name() {
    let bench = Bench::new();
    let mut steps = Vec::new();
    bench.open().0.write_names(&Names::default(), &mut |step| steps.push(step)).unwrap();
    assert_eq!(steps, [Step::Create, Step::Half, Step::Rest, Step::Sync, Step::Rename, Step::SyncName]);
}

#[test]
fn a_broken_table_is_said_and_not_taken_for_an_empty_one() {
    let bench = Bench::new();
    let disk = bench.open().0;
    assert_eq!(disk.names().unwrap(), Names::default());
    let hash = "ab".repeat(32);
    for text in [
        String::new(),
        "{}".to_owned(),
        "[1]".to_owned(),
        r#"{"names":{},"pinned":["zz"]}"#.to_owned(),
        r#"{"names":{"":"HASH"},"pinned":[]}"#.replace("HASH", &hash),
        r#"{"names":{"a\n":"HASH"},"pinned":[]}"#.replace("HASH", &hash),
        r#"{"names":{"a":"HASH"},"pinned":[]}"#.replace("HASH", &hash.to_uppercase()),
        r#"{"names":{},"pinned":[],"more":1}"#.to_owned(),
    ] {
        std::fs::write(disk.dir.join(NAMES), &text).unwrap();
        let error = disk.names().unwrap_err().to_string();
        assert!(error.contains(NAMES) && error.contains("remove it"), "{text}: {error}");
    }
    std::fs::write(disk.dir.join(NAMES), r#"{"names":{"a":"HASH"},"pinned":[]}"#.replace("HASH", &hash)).unwrap();
    assert_eq!(disk.names().unwrap().names["a"], AdapterId([0xab; 32]));
}

#[test]
fn a_folder_is_one_process_s_and_others_files_stay() {
    let bench = Bench::new();
    let (disk, found, _) = bench.open();
    assert_eq!(found.len(), 1);
    let again = Disk::open(&bench.folder.path().join("store"), &bench.model, &Budget::default());
    assert!(matches!(again, Err(StoreError::InUse { .. })));
    // Another base has its own folder.
    let other = ModelInfo { hash: [3; 32], ..bench.model.clone() };
    assert_eq!(Disk::open(&bench.folder.path().join("store"), &other, &Budget::default()).unwrap().1, []);
    let notes = disk.dir.join("notes.txt");
    std::fs::write(&notes, "mine").unwrap();
    std::fs::write(disk.dir.join("0.3.part"), "left").unwrap();
    std::fs::write(disk.dir.join(format!("{}{ADAPTER}", "AB".repeat(32))), "not spelt so").unwrap();
    drop(disk);
    assert_eq!(bench.open().2, 2);
    assert!(notes.exists());
    // A smaller budget keeps less.
    let little = Budget { disk_bytes: 10, ..Budget::default() };
    let (_, found, swept) = Disk::open(&bench.folder.path().join("store"), &bench.model, &little).unwrap();
    assert_eq!((found.len(), swept), (0, 1));
}
