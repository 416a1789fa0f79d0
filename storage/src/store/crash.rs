//! A disk that loses unsynced writes, fills up, and fails to sync.
//!
//! Until a file is synced, each 512-byte sector of each write to it, each change of its length and its very name may or may not survive,
//! each by its own coin. That is harsher than real disks, which keep some order.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use types::merkle;

use super::disk::{Disk, DiskFile};

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
pub(crate) enum Fault {
    Write,
    Sync,
}

/// What goes wrong from some change on, until it is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plight {
    /// No write goes through, wherever; cutting and deleting do.
    Full,
    /// Overwriting goes through, growing does not.
    Cramped,
    /// One write does not go through.
    Once,
    /// One sync does not go through.
    Unsynced,
}

/// What a change does to the room on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Grows,
    Overwrites,
    Shrinks,
    Syncs,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Contents>,
    /// Deleted, and still there after a power cut if the coin says so.
    removed: Vec<(String, Contents)>,
    changes: u64,
    power_until: Option<u64>,
    fault: Option<Fault>,
    plight: Option<(u64, Plight)>,
    /// What others take of the file system.
    taken_bytes: u64,
    /// Bytes that cannot be read any more, by file.
    spoiled: Vec<(String, usize)>,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct CrashDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct CrashFile(CrashDisk, String);

impl CrashDisk {
    /// Lets the power go at the `nth` change from now, counted from 0.
    pub(crate) fn power_off_at(&self, nth: u64) {
        let mut state = self.0.lock().unwrap();
        state.power_until = Some(state.changes + nth);
    }

    /// Leaves so many bytes of the file system free; other changes of the disk do not count.
    pub(crate) fn leave(&self, available_bytes: u64) {
        self.0.lock().unwrap().taken_bytes = u64::MAX - available_bytes;
    }

    pub(crate) fn changes(&self) -> u64 {
        self.0.lock().unwrap().changes
    }

    /// Brings a plight at the `nth` change from now, counted from 0.
    pub(crate) fn strike_at(&self, nth: u64, plight: Plight) {
        let mut state = self.0.lock().unwrap();
        state.plight = Some((state.changes + nth, plight));
    }

    /// Makes room again.
    pub(crate) fn mend(&self) {
        self.0.lock().unwrap().plight = None;
    }

    /// The disk as it is, for another owner.
    pub(crate) fn copy(&self) -> Self {
        let state = self.0.lock().unwrap();
        let file = |contents: &Contents| Contents {
            current: contents.current.clone(),
            durable: contents.current.clone(),
            pending: vec![],
            is_named: true,
        };
        let files = state.files.iter().map(|(name, contents)| (name.clone(), file(contents))).collect();
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    /// Every file with its bytes.
    pub(super) fn contents(&self) -> Vec<(String, Vec<u8>)> {
        self.0.lock().unwrap().files.iter().map(|(name, contents)| (name.clone(), contents.current.clone())).collect()
    }

    /// Bytes of a file.
    pub(crate) fn len_of(&self, name: &str) -> usize {
        self.0.lock().unwrap().files[name].current.len()
    }

    /// Whether a file is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap().files.contains_key(name)
    }

    /// Loses a file.
    pub(crate) fn delete(&self, name: &str) {
        self.0.lock().unwrap().files.remove(name).unwrap();
    }

    /// The segment of the highest number.
    pub(crate) fn last_segment(&self) -> String {
        let state = self.0.lock().unwrap();
        state.files.keys().rfind(|name| name.ends_with(".seg")).unwrap().clone()
    }

    /// Has another disk's segments in place of its own.
    pub(crate) fn take_segments(&self, other: &Self) {
        let theirs = std::mem::take(&mut other.copy().0.lock().unwrap().files);
        let mut state = self.0.lock().unwrap();
        state.files.retain(|name, _| !name.ends_with(".seg"));
        state.files.extend(theirs.into_iter().filter(|(name, _)| name.ends_with(".seg")));
    }

    /// Writes after the end of a file where nobody looks.
    pub(crate) fn append(&self, name: &str, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap();
        let file = state.files.get_mut(name).unwrap();
        file.current.extend_from_slice(bytes);
        file.durable.extend_from_slice(bytes);
    }

    /// Makes the next such operation on a segment fail.
    pub(crate) fn fail_next(&self, fault: Fault) {
        self.0.lock().unwrap().fault = Some(fault);
    }

    /// Flips a byte of a file where nobody looks.
    pub(crate) fn rot(&self, name: &str, at: usize) {
        let mut state = self.0.lock().unwrap();
        let file = state.files.get_mut(name).unwrap();
        file.current[at] ^= 1;
        file.durable[at] ^= 1;
    }

    /// Makes a byte of a file unreadable, as a sector is that the disk gives up.
    pub(crate) fn spoil(&self, name: &str, at: usize) {
        self.0.lock().unwrap().spoiled.push((name.to_owned(), at));
    }

    /// Cuts a file short without anyone noticing.
    pub(crate) fn shorten(&self, name: &str, len: usize) {
        let mut state = self.0.lock().unwrap();
        let file = state.files.get_mut(name).unwrap();
        file.current.truncate(len);
        file.durable.truncate(len);
    }

    /// What is on the disk when the power comes back, though the disk goes on: what was not synced is lost or kept by coins.
    pub(crate) fn copy_lossy(&self, seed: u64) -> Self {
        let state = self.0.lock().unwrap();
        let file = |contents: &Contents| Contents {
            current: contents.current.clone(),
            durable: contents.durable.clone(),
            pending: contents.pending.clone(),
            is_named: contents.is_named,
        };
        let files = state.files.iter().map(|(name, contents)| (name.clone(), file(contents))).collect();
        let removed = state.removed.iter().map(|(name, contents)| (name.clone(), file(contents))).collect();
        Self(Arc::new(Mutex::new(State { files, removed, ..State::default() }))).reboot(seed)
    }

    /// What is on the disk when the power comes back.
    pub(crate) fn reboot(&self, seed: u64) -> Self {
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
        let removed: Vec<_> = std::mem::take(&mut state.removed).into_iter().filter(|_| survives()).collect();
        for (name, contents) in std::mem::take(&mut state.files).into_iter().chain(removed) {
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

    fn change(&self, name: &str, effect: Effect, act: impl FnOnce(&mut State)) -> io::Result<()> {
        let fault = if effect == Effect::Syncs { Fault::Sync } else { Fault::Write };
        let mut state = self.0.lock().unwrap();
        if state.power_until.is_some_and(|until| state.changes > until) {
            return Err(io::Error::other("the power is gone"));
        }
        if name.ends_with(".seg") && state.fault == Some(fault) {
            state.fault = None;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some((from, plight)) = state.plight
            && state.changes >= from
        {
            let strikes = match plight {
                Plight::Full | Plight::Once => matches!(effect, Effect::Grows | Effect::Overwrites),
                Plight::Cramped => effect == Effect::Grows,
                Plight::Unsynced => effect == Effect::Syncs,
            };
            if strikes {
                if matches!(plight, Plight::Once | Plight::Unsynced) {
                    state.plight = None;
                }
                return Err(if plight == Plight::Unsynced {
                    io::Error::other("the disk does not answer")
                } else {
                    io::ErrorKind::StorageFull.into()
                });
            }
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
            self.change(name, Effect::Grows, |state| drop(state.files.insert(name.to_owned(), Contents::default())))?;
        }
        Ok(Arc::new(CrashFile(self.clone(), name.to_owned())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if !self.0.lock().unwrap().files.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(name, Effect::Shrinks, |state| {
            let contents = state.files.remove(name).unwrap();
            if contents.is_named {
                state.removed.push((name.to_owned(), contents));
            }
        })
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().files.keys().cloned().collect())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.change("", Effect::Syncs, |state| {
            state.files.values_mut().for_each(|file| file.is_named = true);
            state.removed.clear();
        })
    }

    fn available_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX - self.0.lock().unwrap().taken_bytes)
    }
}

impl CrashFile {
    fn edit(&self, change: Change) -> io::Result<()> {
        let effect = match &change {
            Change::Write(at, bytes) if at + bytes.len() <= self.see(<[u8]>::len) => Effect::Overwrites,
            Change::Len(len) if *len <= self.see(<[u8]>::len) => Effect::Shrinks,
            _ => Effect::Grows,
        };
        self.0.change(&self.1, effect, |state| {
            let file = state.files.get_mut(&self.1).unwrap();
            change.apply(&mut file.current);
            file.pending.push(change);
        })
    }

    fn see<T>(&self, see: impl FnOnce(&[u8]) -> T) -> T {
        let state = self.0.0.lock().unwrap();
        // Whoever has a deleted file open goes on reading it.
        let removed = || state.removed.iter().find(|(name, _)| *name == self.1).map(|(_, contents)| contents);
        see(state.files.get(&self.1).or_else(removed).map_or(&[][..], |contents| &contents.current))
    }
}

impl DiskFile for CrashFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.see(|bytes| bytes.len() as u64))
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        if self.0.0.lock().unwrap().spoiled.iter().any(|(name, place)| *name == self.1 && (at..at + out.len()).contains(place)) {
            return Err(rustix::io::Errno::IO.into());
        }
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
        self.0.change(&self.1, Effect::Syncs, |state| {
            let Contents { durable, pending, .. } = state.files.get_mut(&self.1).unwrap();
            pending.drain(..).for_each(|change| change.apply(durable));
        })
    }
}
