//! The folder of a store: a packed file for each adapter, a table of names, a lock. Each base has a folder of its own in it, for a packed
//! adapter is of use with one base alone.
//!
//! Files appear whole or not at all to whoever opens the folder next: each is written under a name that no reader takes ([`PART`]), then
//! renamed. A power cut may leave a part, which is swept, or a file whose bytes were not written yet, which its length shows now or its digest
//! when it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::adapter::packed_file::{HEAD_BYTES_MAX, Head};
use crate::adapter::{AdapterInfo, Packed8, PackedFileError};
use crate::model::ModelInfo;
use crate::proto::residency::{AdapterId, Budget, KNOWN_MAX, Sizes};

use super::{NAME_BYTES_MAX, NAMES_MAX, StoreError, sizes};

/// Ending of a packed adapter's file; before it stands its hash in hex.
const ADAPTER: &str = ".packed";
/// Ending of a file that is being written.
const PART: &str = ".part";
const NAMES: &str = "names.json";
const LOCK: &str = "lock";
/// Bytes of the table: [`NAMES_MAX`] names at their longest, escaped, with a hash each, and as many pins.
const NAMES_BYTES_MAX: u64 = 8 << 20;

/// An adapter found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) info: AdapterInfo,
    pub(super) sizes: Sizes,
}

/// What survives a restart beside the adapters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) names: BTreeMap<String, AdapterId>,
    pub(super) pinned: BTreeSet<AdapterId>,
}

/// The table as it is written, hashes in hex.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    names: BTreeMap<String, String>,
    pinned: BTreeSet<String>,
}

/// Why an adapter's file gave none.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It cannot be read now.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// There is none, or it is of no use.
    #[error("its file is gone or of no use: {0}")]
    Bad(String),
}

/// A step of writing a file, named before it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the part.
    Create,
    /// Write half of its bytes.
    Half,
    /// Write the rest.
    Rest,
    /// Make the part durable.
    Sync,
    /// Give it its name.
    Rename,
    /// Make the name durable.
    SyncName,
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl Disk {
    /// Opens a folder, makes it if there is none, and removes what is of no use.
    pub(super) fn open(dir: &Path, model: &ModelInfo, budget: &Budget) -> Result<(Self, Vec<Found>, usize), StoreError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StoreError::Io { path, source }
        };
        let dir = &dir.join(hex::encode(&model.hash[..8]));
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let lock = dir.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(io(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: dir.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path: lock, source }),
        }
        let disk = Self { dir: dir.to_path_buf(), _lock: file };
        let (found, swept) = disk.sweep(model, budget).map_err(io(dir))?;
        Ok((disk, found, swept))
    }

    /// Finds adapters and removes every other file of a store's names. Files of other names are somebody's, and stay.
    fn sweep(&self, model: &ModelInfo, budget: &Budget) -> std::io::Result<(Vec<Found>, usize)> {
        let (mut found, mut swept, mut used) = (Vec::new(), 0, 0u64);
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let adapter = name.strip_suffix(ADAPTER);
            if adapter.is_none() && !name.ends_with(PART) {
                continue;
            }
            let fits = adapter.and_then(id).and_then(|id| self.look(id, model)).filter(|found| {
                let is_room = used.checked_add(found.sizes.disk).is_some_and(|sum| sum <= budget.disk_bytes);
                is_room && found.sizes.disk <= budget.file_bytes_max
            });
            match fits {
                Some(one) if found.len() < KNOWN_MAX => {
                    used += one.sizes.disk;
                    found.push(one);
                }
                _ => {
                    std::fs::remove_file(entry.path())?;
                    swept += 1;
                }
            }
        }
        found.sort_by_key(|found| found.info.hash);
        Ok((found, swept))
    }

    /// What the head of an adapter's file says, if the file is as long as that.
    fn look(&self, id: AdapterId, model: &ModelInfo) -> Option<Found> {
        let file = File::open(self.path(id)).ok()?;
        let length = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        let mut front = Vec::new();
        file.take(HEAD_BYTES_MAX as u64 + 64).read_to_end(&mut front).ok()?;
        let (head, end) = Head::parse(&front, model).ok()?;
        let is_whole = head.id == id.0 && length == end as u64 + head.matrix_bytes(model);
        let info = head.info(model);
        is_whole.then(|| Found { sizes: sizes(length, &info), info })
    }

    fn path(&self, id: AdapterId) -> PathBuf {
        self.dir.join(format!("{}{ADAPTER}", hex::encode(id.0)))
    }

    /// Reads an adapter of at most `bytes_max` bytes.
    pub(super) fn read(&self, id: AdapterId, bytes_max: u64, model: &ModelInfo) -> Result<Packed8, ReadError> {
        let file = match File::open(self.path(id)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(ReadError::Bad(error.to_string())),
            other => other?,
        };
        let length = file.metadata()?.len();
        if length > bytes_max {
            return Err(ReadError::Bad(format!("it has {length} bytes, {bytes_max} were written")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(|error| ReadError::Bad(error.to_string()))?);
        file.take(bytes_max).read_to_end(&mut bytes)?;
        let bad = |error: PackedFileError| ReadError::Bad(error.to_string());
        let packed = Packed8::decode(&bytes, model).map_err(bad)?;
        if packed.info().hash == id.0 { Ok(packed) } else { Err(ReadError::Bad("it is another adapter's".to_owned())) }
    }

    /// Writes an adapter beside its place: the part that [`Disk::publish`] gives its name.
    pub(super) fn prepare(&self, id: AdapterId, bytes: &[u8], at: &mut dyn FnMut(Step)) -> Result<Part, StoreError> {
        Part::write(self.path(id), bytes, at)
    }

    /// Removes an adapter's file; none is fine.
    pub(super) fn delete(&self, id: AdapterId) -> Result<(), StoreError> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Io { path, source }),
            _ => Ok(()),
        }
    }

    /// Reads the table of names; none is an empty one.
    pub(super) fn names(&self) -> Result<Names, StoreError> {
        let path = self.dir.join(NAMES);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(NAMES_BYTES_MAX + 1).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Names::default()),
            Err(source) => return Err(StoreError::Io { path, source }),
            Ok(_) => {}
        }
        Names::parse(&bytes).map_err(|problem| StoreError::Names { path, problem })
    }

    /// Writes the table of names, durably.
    pub(super) fn write_names(&self, names: &Names, at: &mut dyn FnMut(Step)) -> Result<(), StoreError> {
        let part = Part::write(self.dir.join(NAMES), &names.bytes(), at)?;
        part.sync(at)?;
        part.publish(at)?.sync(at)
    }
}

impl Names {
    fn bytes(&self) -> Vec<u8> {
        let names = self.names.iter().map(|(name, id)| (name.clone(), hex::encode(id.0))).collect();
        let pinned = self.pinned.iter().map(|id| hex::encode(id.0)).collect();
        serde_json::to_vec_pretty(&Table { names, pinned }).expect("plain data with string keys")
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > NAMES_BYTES_MAX {
            return Err(format!("it has more than {NAMES_BYTES_MAX} bytes"));
        }
        let table: Table = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if table.names.len() > NAMES_MAX || table.pinned.len() > KNOWN_MAX {
            return Err(format!("it has more than {NAMES_MAX} names or {KNOWN_MAX} pins"));
        }
        let hash = |text: &String| id(text).ok_or_else(|| format!("{text:?} is not a hash"));
        let name = |(name, text): (String, String)| {
            let id = hash(&text)?;
            if is_name(&name) { Ok((name, id)) } else { Err(format!("{name:?} is not a name")) }
        };
        Ok(Self {
            names: table.names.into_iter().map(name).collect::<Result<_, _>>()?,
            pinned: table.pinned.iter().map(hash).collect::<Result<_, _>>()?,
        })
    }
}

/// Whether an adapter may be called so.
pub(super) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn id(text: &str) -> Option<AdapterId> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    // One file for one hash, however it is spelt.
    (hex::encode(hash) == text).then_some(AdapterId(hash))
}

/// A file that is written and has not its name yet. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    part: PathBuf,
    path: PathBuf,
    is_published: bool,
}

impl Part {
    fn write(path: PathBuf, bytes: &[u8], at: &mut dyn FnMut(Step)) -> Result<Self, StoreError> {
        // Two writers of one adapter take two names; which of them is renamed last does not matter, the bytes are the same.
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let part = path.with_extension(format!("{number}{PART}"));
        at(Step::Create);
        let file = File::create_new(&part).map_err(|source| StoreError::Io { path: part.clone(), source })?;
        let mut this = Self { file, part, path, is_published: false };
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        for (step, bytes) in [(Step::Half, half), (Step::Rest, rest)] {
            at(step);
            this.file.write_all(bytes).map_err(|source| this.io(source))?;
        }
        Ok(this)
    }

    fn io(&self, source: std::io::Error) -> StoreError {
        StoreError::Io { path: self.part.clone(), source }
    }

    fn sync(&self, at: &mut dyn FnMut(Step)) -> Result<(), StoreError> {
        at(Step::Sync);
        self.file.sync_all().map_err(|source| self.io(source))
    }

    /// Gives it its name.
    pub(super) fn publish(mut self, at: &mut dyn FnMut(Step)) -> Result<Published, StoreError> {
        at(Step::Rename);
        std::fs::rename(&self.part, &self.path).map_err(|source| self.io(source))?;
        self.is_published = true;
        let file = self.file.try_clone().map_err(|source| self.io(source))?;
        Ok(Published { file, path: self.path.clone() })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // A panic is a crash that a test plays: it cleans nothing up.
        if !self.is_published && !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// A file with its name, not durable yet.
#[derive(Debug)]
pub(super) struct Published {
    file: File,
    path: PathBuf,
}

impl Published {
    /// Makes bytes and name durable.
    pub(super) fn sync(&self, at: &mut dyn FnMut(Step)) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        at(Step::SyncName);
        self.file.sync_all().map_err(io)?;
        let dir = self.path.parent().expect("a file in the store's folder");
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
    }
}

#[cfg(test)]
mod tests;
