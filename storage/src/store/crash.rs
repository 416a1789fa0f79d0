//! A disk that loses unsynced writes, and what a store promises on it: the power goes at every write in turn.
//!
//! Until a file is synced, each 512-byte sector of each write to it, each change of its length and its very name may or may not survive,
//! each by its own coin. That is harsher than real disks, which keep some order.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use types::{id::Hash32, merkle};

use super::{disk::Disk, disk::DiskFile, *};
use crate::erasure::{Encoded, Profile, encode};

const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, new) => {
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
            Self::Len(len) => bytes.resize(*len, 0),
        }
    }

    /// The pieces that may survive one without the other.
    fn pieces(self) -> Vec<Self> {
        let Self::Write(mut at, mut left) = self else { return vec![self] };
        let mut pieces = Vec::new();
        while !left.is_empty() {
            let rest = left.split_off((SECTOR - at % SECTOR).min(left.len()));
            let len = left.len();
            pieces.push(Self::Write(at, left));
            (at, left) = (at + len, rest);
        }
        pieces
    }
}

#[derive(Debug, Default)]
struct Contents {
    /// What reads see.
    current: Vec<u8>,
    /// What a power cut leaves for certain.
    durable: Vec<u8>,
    pending: Vec<Change>,
    is_named: bool,
}

/// What goes wrong once, without the power going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Write,
    Sync,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Contents>,
    changes: u64,
    power_until: Option<u64>,
    fault: Option<Fault>,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct CrashDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct CrashFile(CrashDisk, String);

impl CrashDisk {
    /// Lets the power go at the `nth` change from now, counted from 0.
    fn power_off_at(&self, nth: u64) {
        let mut state = self.0.lock().unwrap();
        state.power_until = Some(state.changes + nth);
    }

    fn changes(&self) -> u64 {
        self.0.lock().unwrap().changes
    }

    /// Makes the next such operation on a segment fail.
    pub(super) fn fail_next(&self, fault: Fault) {
        self.0.lock().unwrap().fault = Some(fault);
    }

    /// Flips a byte of a file where nobody looks.
    pub(super) fn rot(&self, name: &str, at: usize) {
        let mut state = self.0.lock().unwrap();
        let file = state.files.get_mut(name).unwrap();
        file.current[at] ^= 1;
        file.durable[at] ^= 1;
    }

    /// Cuts a file short without anyone noticing.
    pub(super) fn shorten(&self, name: &str, len: usize) {
        let mut state = self.0.lock().unwrap();
        let file = state.files.get_mut(name).unwrap();
        file.current.truncate(len);
        file.durable.truncate(len);
    }

    /// What is on the disk when the power comes back.
    fn reboot(&self, seed: u64) -> Self {
        let mut state = self.0.lock().unwrap();
        let mut draw = 0_u64;
        // Seeds 0 and 1 lose or keep everything; others toss for each piece.
        let mut survives = move || {
            draw += 1;
            match seed {
                0 => false,
                1 => true,
                _ => merkle::keccak(&[&seed.to_be_bytes(), &draw.to_be_bytes()]).0[0] & 1 == 1,
            }
        };
        let mut files = BTreeMap::new();
        for (name, contents) in std::mem::take(&mut state.files) {
            let mut bytes = contents.durable;
            for piece in contents.pending.into_iter().flat_map(Change::pieces) {
                if survives() {
                    piece.apply(&mut bytes);
                }
            }
            if contents.is_named || survives() {
                files.insert(name, Contents { current: bytes.clone(), durable: bytes, pending: vec![], is_named: true });
            }
        }
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    fn change(&self, name: &str, fault: Fault, act: impl FnOnce(&mut State)) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.power_until.is_some_and(|until| state.changes > until) {
            return Err(io::Error::other("the power is gone"));
        }
        if name.ends_with(".seg") && state.fault == Some(fault) {
            state.fault = None;
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.changes += 1;
        let is_last = state.power_until.is_some_and(|until| state.changes > until);
        // The change during which the power goes has happened in part: it is pending like all others; a sync has not happened.
        if !is_last || fault == Fault::Write {
            act(&mut state);
        }
        if is_last { Err(io::Error::other("the power went")) } else { Ok(()) }
    }
}

impl Disk for CrashDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        if !self.0.lock().unwrap().files.contains_key(name) {
            self.change(name, Fault::Write, |state| drop(state.files.insert(name.to_owned(), Contents::default())))?;
        }
        Ok(Arc::new(CrashFile(self.clone(), name.to_owned())))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().files.keys().cloned().collect())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.change("", Fault::Sync, |state| state.files.values_mut().for_each(|file| file.is_named = true))
    }
}

impl CrashFile {
    fn edit(&self, change: Change) -> io::Result<()> {
        self.0.change(&self.1, Fault::Write, |state| {
            let file = state.files.get_mut(&self.1).unwrap();
            change.apply(&mut file.current);
            file.pending.push(change);
        })
    }

    fn see<T>(&self, see: impl FnOnce(&[u8]) -> T) -> T {
        see(&self.0.0.lock().unwrap().files[&self.1].current)
    }
}

impl DiskFile for CrashFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.see(|bytes| bytes.len() as u64))
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        self.see(|bytes| bytes.get(at..at + out.len()).map(|bytes| out.copy_from_slice(bytes)))
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.edit(Change::Write(usize::try_from(at).unwrap(), bytes.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.edit(Change::Len(usize::try_from(len).unwrap()))
    }

    fn sync(&self) -> io::Result<()> {
        self.0.change(&self.1, Fault::Sync, |state| {
            let Contents { durable, pending, .. } = state.files.get_mut(&self.1).unwrap();
            pending.drain(..).for_each(|change| change.apply(durable));
        })
    }
}

/// Small enough that the script rolls over several segments.
fn config() -> Config {
    Config { segment_bytes: 4_000, cache_bytes: 1 << 20, ..Config::default() }
}

fn blob(number: u8) -> Vec<u8> {
    (0..=u8::MAX).cycle().skip(number.into()).take(200 + 290 * usize::from(number)).collect()
}

fn object() -> Encoded {
    encode(&blob(9), Hash32::ZERO, Profile::DEVNET).unwrap()
}

/// One write and how to look for it afterwards.
#[derive(Debug, Clone, Copy)]
enum Step {
    Blob(u8),
    Fragment(u8),
    Record(u8, u8),
}

const SCRIPT: [Step; 12] = [
    Step::Blob(1),
    Step::Record(1, 1),
    Step::Fragment(0),
    Step::Blob(7),
    Step::Record(1, 2),
    Step::Fragment(4),
    Step::Blob(8),
    Step::Blob(1),
    Step::Record(2, 1),
    Step::Blob(2),
    Step::Record(1, 3),
    Step::Fragment(2),
];

fn perform(store: &Store, object: &Encoded, step: Step) -> bool {
    match step {
        Step::Blob(number) => store.put(&blob(number)).is_ok(),
        Step::Fragment(index) => {
            let fragment = object.manifest.verify(index, object.fragments[usize::from(index)].clone()).unwrap();
            store.put_fragment(&object.manifest, &fragment).is_ok()
        }
        Step::Record(key, value) => store.records().put("vouchers", &[key], &[value]).is_ok(),
    }
}

/// Opens a store and performs steps until one fails; says how many were acknowledged, nothing if it did not open.
fn run(disk: &CrashDisk, object: &Encoded) -> Option<usize> {
    let store = Store::on(Arc::new(disk.clone()), config()).ok()?;
    Some(SCRIPT.iter().take_while(|step| perform(&store, object, **step)).count())
}

/// What was acknowledged is there, what was under way is there or not, and nothing else.
fn check(store: &Store, object: &Encoded, acknowledged: usize, seed: &str) {
    for step in &SCRIPT[..acknowledged] {
        match *step {
            Step::Blob(number) => assert_eq!(store.get(BlobId::of(&blob(number))).unwrap(), Some(blob(number)), "{seed}: {step:?}"),
            Step::Fragment(index) => {
                let bytes = store.get_fragment(object.manifest.id(), index).unwrap();
                assert_eq!(bytes.as_ref(), Some(&object.fragments[usize::from(index)]), "{seed}: {step:?}");
                assert_eq!(store.manifest(object.manifest.id()).unwrap().as_ref(), Some(&object.manifest), "{seed}");
            }
            Step::Record(key, _) => {
                let value = store.records().get("vouchers", &[key]).unwrap().expect("a record that was acknowledged")[0];
                let last = |upto: usize| {
                    SCRIPT[..upto].iter().rev().find_map(|s| if let Step::Record(k, v) = s { (*k == key).then_some(*v) } else { None })
                };
                let under_way = last(SCRIPT.len().min(acknowledged + 1));
                assert!([last(acknowledged), under_way].contains(&Some(value)), "{seed}: {step:?} holds {value}");
            }
        }
    }
    let scrubbed = store.scrub(None, 1_000).unwrap();
    assert_eq!(scrubbed.corrupt, [], "{seed}");
    assert_eq!(store.recovery().lost_bytes, 0, "{seed}");
}

#[test]
fn whatever_was_acknowledged_survives_a_power_cut_at_any_write() {
    let object = object();
    let whole = CrashDisk::default();
    assert_eq!(run(&whole, &object), Some(SCRIPT.len()));
    let changes = whole.changes();
    assert!(changes > 60, "the script makes {changes} changes");
    for nth in 0..changes {
        for coin in [0, 1, 1_000 + nth, 2_000 + nth] {
            let seed = format!("power off at change {nth}, coin {coin}");
            let disk = CrashDisk::default();
            disk.power_off_at(nth);
            let acknowledged = run(&disk, &object).unwrap_or(0);
            let disk = disk.reboot(coin);
            let store = Store::on(Arc::new(disk.clone()), config()).unwrap_or_else(|error| panic!("{seed}: {error}"));
            check(&store, &object, acknowledged, &seed);
            for step in SCRIPT {
                assert!(perform(&store, &object, step), "{seed}: {step:?} after the cut");
            }
            check(&store, &object, SCRIPT.len(), &seed);
        }
    }
}

#[test]
fn a_power_cut_during_recovery_loses_nothing_either() {
    let object = object();
    let whole = CrashDisk::default();
    run(&whole, &object).unwrap();
    for nth in (0..whole.changes()).step_by(3) {
        let disk = CrashDisk::default();
        disk.power_off_at(nth);
        let acknowledged = run(&disk, &object).unwrap_or(0);
        let mut disk = disk.reboot(3_000 + nth);
        for again in 0..8 {
            disk.power_off_at(again);
            drop(Store::on(Arc::new(disk.clone()), config()));
            disk = disk.reboot(4_000 + again);
        }
        let seed = format!("power off at change {nth}, then eight times while recovering");
        let store = Store::on(Arc::new(disk), config()).unwrap_or_else(|error| panic!("{seed}: {error}"));
        check(&store, &object, acknowledged, &seed);
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_recover() {
    let disk = CrashDisk::default();
    run(&disk, &object()).unwrap();
    let store = Store::on(Arc::new(disk), config()).unwrap();
    assert_eq!(store.recovery(), Recovery::default());
}
