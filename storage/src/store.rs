//! The store: fragments, manifests and blobs in append-only segments, found through a redb index; small records beside it.
//!
//! Promise: what [`Store::put`], [`Store::put_fragment`] or a [`Records`] call returned for survives a power cut at any later moment, and what
//! was being written at that moment is wholly there or wholly absent. A put costs two syncs: segment, then index. The index is only ever
//! behind the segments: on opening, whole records past its mark are taken in, a torn tail is cut off. `DESIGN.md` has the format and the
//! trade-offs.
//!
//! Every read is hashed: a byte that rotted on the disk is reported by item ([`Corrupt`]) and marked, never returned; putting the item anew mends it.
//! After a failed sync nothing more is written until the store is opened again, because what the disk then holds is unknown. A full disk stops
//! one call; reading goes on, and so does writing once there is room. Items leave [`Config::disk_reserve_bytes`] of the file system free.
//!
//! [`Store::release`] ends an item's stay, [`Store::collect`] frees its bytes when that is worth it and [`Store::purge`] whatever it costs, [`Walk`] looks for rot; each in steps that may run beside everything
//! else.
//!
//! Calls block; an async caller runs them on its blocking threads. A [`Store`] is a cheap handle; one process owns a folder at a time.

mod base;
pub mod check;
mod collect;
pub(crate) mod disk;
mod error;
mod index;
mod marks;
mod purge;
mod records;
mod release;
mod scrub;
mod segment;
mod serve;
mod space;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};
use types::id::BlobId;

pub use self::{
    collect::Collected,
    disk::available_bytes,
    error::{Corrupt, StoreError},
    index::IndexError,
    marks::Rechecked,
    purge::{Purge, Purged},
    records::{KEY_BYTES_MAX, KeyValue, RecordError, Records, SCAN_BYTES_MAX, TABLE_LEN_MAX, VALUE_BYTES_MAX},
    scrub::{Progress, Scrubbed, Walk},
    serve::Reading,
    space::Usage,
};
use self::{
    collect::Sweep,
    disk::{Disk, DiskFile, Folder},
    index::{Change, Index, Location},
    segment::Header,
    space::Space,
};
use crate::erasure::{ObjectManifest, PROOF_BYTES_MAX, VerifiedFragment};

/// What a store may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of segments the store may fill, with what is kept free for releasing and collecting ([`Usage`]). 64 GiB: a small operator's disk, some
    /// 3,000 of the largest fragments.
    pub capacity_bytes: u64,
    /// A segment is closed once it holds this much. 256 MiB: a dozen of the largest fragments, scanned in under a second.
    pub segment_bytes: u64,
    /// Bytes of the file system that are left to everything else: nothing is put while fewer are free. 1 GiB: the node's own books, copies and logs grow for weeks in
    /// it, and releasing and collecting, which need some to give more back, go on below it.
    pub disk_reserve_bytes: u64,
    /// Memory for index pages. 32 MiB: the whole index of some 300,000 items.
    pub cache_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { capacity_bytes: 64 << 30, segment_bytes: 256 << 20, disk_reserve_bytes: 1 << 30, cache_bytes: 32 << 20 }
    }
}

/// Something the store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A blob by its BLAKE3: an object manifest, an adapter, a model file.
    Blob(BlobId),
    /// A fragment of an object.
    Fragment {
        /// The object: the id of its manifest.
        object: BlobId,
        /// Which fragment.
        index: u8,
    },
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(id) => write!(f, "blob {id}"),
            Self::Fragment { object, index } => write!(f, "fragment {index} of object {object}"),
        }
    }
}

/// Largest item: the proof against the manifest of the largest object, which is the object with its manifest.
pub const ITEM_BYTES_MAX: usize = PROOF_BYTES_MAX;

/// No bound by capacity, for what gives room back.
const PAST_CAPACITY: u64 = u64::MAX;

/// Times a reader follows an item that moves while it is read. Each move takes a whole segment collected.
const MOVES_MAX: usize = 4;

/// What opening a store found after the last stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whole items past the index's mark, taken in.
    pub adopted: u64,
    /// Bytes of torn tails, cut off.
    pub torn_bytes: u64,
    /// Bytes that had been synced and are gone: the disk lost them.
    pub lost_bytes: u64,
    /// Items that were in them and were not stored anew since. They are marked as rotten ([`Store::rotten`]) and read as [`Corrupt`].
    pub lost_items: u64,
}

/// Handle to an open store.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

/// Open segments by number.
type Segments = BTreeMap<u32, Arc<dyn DiskFile>>;

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    config: Config,
    index: Index,
    segments: RwLock<Segments>,
    writer: Mutex<Writer>,
    recovery: Recovery,
}

#[derive(Debug)]
struct Writer {
    segment: u32,
    file: Arc<dyn DiskFile>,
    /// Where the next record goes.
    end: u64,
    /// Bytes by segment.
    space: Space,
    /// The segment being collected.
    sweep: Option<Sweep>,
    /// Segments that cannot be dropped before their rotten items are stored anew.
    held: BTreeSet<u32>,
    /// Set once the disk's state is unknown.
    stopped: Option<String>,
}

fn io_error(doing: &'static str, file: impl Into<String>) -> impl FnOnce(io::Error) -> StoreError {
    let file = file.into();
    move |error| StoreError::Io { doing, file, error }
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).expect("a length in memory fits 64 bits")
}

impl Store {
    /// Opens the store in `folder`, making it if need be, and mends what the last stop left.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, [`StoreError::Folder`], [`StoreError::Format`], or what the disk says.
    pub fn open(folder: &Path, config: Config) -> Result<Self, StoreError> {
        let store = Self::on(Arc::new(Folder::lock(folder)?), config)?;
        let Recovery { adopted, torn_bytes, lost_bytes, lost_items } = store.0.recovery;
        if adopted > 0 || torn_bytes > 0 {
            tracing::warn!(folder = %folder.display(), adopted, torn_bytes, "store recovered after an unclean stop");
        }
        if lost_bytes > 0 {
            tracing::error!(folder = %folder.display(), lost_bytes, lost_items, "the disk has lost segments or their ends: what was in them is marked, and had anew from other holders if there are any");
        }
        Ok(store)
    }

    fn on(disk: Arc<dyn Disk>, config: Config) -> Result<Self, StoreError> {
        let index = index::open(&*disk, config.cache_bytes)?;
        let (segments, mut recovery) = segment::recover(&*disk, &index)?;
        let lens = segments.iter().map(|(id, file)| Ok((*id, file.len().map_err(io_error("measure", segment::name(*id)))?)));
        let (lens, mut lost) = (lens.collect::<Result<BTreeMap<u32, u64>, StoreError>>()?, Vec::new());
        let mut space = Space::count(&index, |item, location| {
            let end = location.at.saturating_add(segment::record_len(location.len));
            if lens.get(&location.segment).is_none_or(|len| *len < end) {
                lost.push(item);
            }
        })?;
        space.absent = space.marks.keys().copied().filter(|segment| !lens.contains_key(segment)).collect();
        recovery.lost_items = as_u64(lost.len());
        // A segment that lost bytes is never appended to: its mark lies beyond its end.
        let open = segments
            .last_key_value()
            .filter(|(id, file)| Some(**id) == space.marks.keys().last().copied() && file.len().ok() == space.marks.get(id).copied());
        let (segment, file, end) = match open {
            Some((id, file)) => (*id, Arc::clone(file), space.marks[id]),
            None => {
                let id = segments.keys().chain(space.marks.keys()).max().map_or(1, |id| id + 1);
                space.marks.insert(id, segment::HEADER_BYTES);
                (id, segment::create(&*disk, id)?, segment::HEADER_BYTES)
            }
        };
        let writer = Writer { segment, file: Arc::clone(&file), end, space, sweep: None, held: BTreeSet::new(), stopped: None };
        let segments = RwLock::new(segments.into_iter().chain([(segment, file)]).collect());
        let store = Self(Arc::new(Inner { disk, config, index, segments, writer: Mutex::new(writer), recovery }));
        store.mark_lost(&lost);
        Ok(store)
    }

    /// What opening found.
    pub fn recovery(&self) -> Recovery {
        self.0.recovery
    }

    /// Bytes in segments.
    pub fn used_bytes(&self) -> u64 {
        self.writer().space.used()
    }

    /// Bytes that items may still fill: of the capacity, and of the disk. Asks the file system.
    ///
    /// # Errors
    /// What the system says.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let of_capacity = self.0.config.fillable_bytes().saturating_sub(self.used_bytes());
        Ok(of_capacity.min(self.disk_available_bytes()?.saturating_sub(self.0.config.disk_reserve_bytes)))
    }

    /// Bytes that the file system under the store has left.
    ///
    /// # Errors
    /// What the system says.
    pub fn disk_available_bytes(&self) -> Result<u64, StoreError> {
        self.0.disk.available_bytes().map_err(io_error("ask for the free bytes of", "the disk"))
    }

    /// Small records kept beside the items.
    pub fn records(&self) -> Records {
        Records::new(self.0.index.base())
    }

    /// Keeps `bytes` under their BLAKE3 name. On return they are on the disk; keeping them again changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was kept.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        let id = BlobId::of(bytes);
        self.put_items(&[(Item::Blob(id), id, bytes)]).map(|()| id)
    }

    /// Keeps a fragment and the manifest that names it; never the fragment without the manifest.
    ///
    /// # Errors
    /// [`StoreError`]; then the fragment was not kept.
    pub fn put_fragment(&self, manifest: &ObjectManifest, fragment: &VerifiedFragment) -> Result<(), StoreError> {
        if fragment.object() != manifest.id() {
            return Err(StoreError::Foreign { manifest: manifest.id(), got: fragment.object() });
        }
        if self.is_void(manifest.id())? {
            return Err(StoreError::Void { object: manifest.id() });
        }
        let item = Item::Fragment { object: fragment.object(), index: fragment.index() };
        let manifest_bytes = manifest.encode();
        self.put_items(&[(Item::Blob(manifest.id()), manifest.id(), &manifest_bytes), (item, fragment.blake3(), fragment.bytes())])
    }

    /// The blob's bytes, hashed; nothing if it is not kept here.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the disk changed them, or what the disk says.
    pub fn get(&self, id: BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_item(Item::Blob(id))
    }

    /// The fragment's bytes, hashed; nothing if it is not kept here.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the disk changed them, or what the disk says.
    pub fn get_fragment(&self, object: BlobId, index: u8) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_item(Item::Fragment { object, index })
    }

    /// The manifest of an object of which something is kept here.
    ///
    /// # Errors
    /// As [`Store::get`], and [`StoreError::Manifest`] if the blob of that name is no manifest.
    pub fn manifest(&self, object: BlobId) -> Result<Option<ObjectManifest>, StoreError> {
        let bytes = self.get(object)?;
        Ok(bytes.map(|bytes| ObjectManifest::decode_as(object, &bytes)).transpose()?)
    }

    /// Indices of the object's fragments kept here, ascending.
    ///
    /// # Errors
    /// What the index says.
    pub fn fragments_of(&self, object: BlobId) -> Result<Vec<u8>, StoreError> {
        let range = Item::Fragment { object, index: 0 }..=Item::Fragment { object, index: u8::MAX };
        let items = self.0.index.range(range, usize::from(u8::MAX) + 1)?;
        Ok(items.into_iter().filter_map(|(item, _)| if let Item::Fragment { index, .. } = item { Some(index) } else { None }).collect())
    }

    /// Up to `limit` items kept here, in order, after `after`.
    ///
    /// # Errors
    /// What the index says.
    pub fn items(&self, after: Option<Item>, limit: usize) -> Result<Vec<Item>, StoreError> {
        Ok(self.0.index.after(after, limit)?.into_iter().map(|(item, _)| item).collect())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic while writing leaves `stopped` unset but the index behind the segment, which opening mends; so going on is safe.
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer, if it may write.
    fn writing(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let writer = self.writer();
        match &writer.stopped {
            Some(cause) => Err(StoreError::Stopped { cause: cause.clone() }),
            // A record's sync failed.
            None if self.0.index.is_unsynced() => Err(IndexError::Stopped.into()),
            None => Ok(writer),
        }
    }

    fn with_segments<T>(&self, change: impl FnOnce(&mut Segments) -> T) -> T {
        change(&mut self.0.segments.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn segment(&self, id: u32) -> Option<Arc<dyn DiskFile>> {
        self.0.segments.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn get_item(&self, item: Item) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut location) = self.0.index.get(item)? else { return Ok(None) };
        for _ in 0..MOVES_MAX {
            match self.read(item, location) {
                // Collecting may have moved the item since the index was read.
                Err(StoreError::Corrupt(corrupt)) => match self.0.index.get(item)? {
                    Some(now) if now == location => {
                        self.note_corrupt(item);
                        return Err(corrupt.into());
                    }
                    Some(now) => location = now,
                    None => return Ok(None),
                },
                result => return result.map(Some),
            }
        }
        self.read(item, location).map(Some)
    }

    fn read(&self, item: Item, location: Location) -> Result<Vec<u8>, StoreError> {
        let expected = location.hash;
        let cut_short = Corrupt { item, expected, got: None };
        let file = self.segment(location.segment).ok_or(cut_short)?;
        match segment::payload(&*file, location) {
            Ok(bytes) => match BlobId::of(&bytes) {
                got if got == expected => Ok(bytes),
                got => Err(Corrupt { item, expected, got: Some(got) }.into()),
            },
            Err(error) if segment::is_lost(&error) => Err(cut_short.into()),
            Err(error) => Err(io_error("read", segment::name(location.segment))(error)),
        }
    }

    /// Whether the item is kept and its bytes are still what was stored.
    fn is_intact(&self, item: Item, hash: BlobId) -> Result<bool, StoreError> {
        match self.0.index.get(item)? {
            Some(location) if location.hash == hash => match self.read(item, location) {
                Ok(_) => Ok(true),
                Err(StoreError::Corrupt(_)) => Ok(false),
                Err(error) => Err(error),
            },
            _ => Ok(false),
        }
    }

    fn put_items(&self, items: &[(Item, BlobId, &[u8])]) -> Result<(), StoreError> {
        if let Some((item, _, bytes)) = items.iter().find(|(_, _, bytes)| bytes.len() > ITEM_BYTES_MAX) {
            return Err(StoreError::TooLong { item: *item, got: bytes.len(), max: ITEM_BYTES_MAX });
        }
        let mut writer = self.writing()?;
        let mut missing = Vec::with_capacity(items.len());
        for (item, hash, bytes) in items {
            if !self.is_intact(*item, *hash)? {
                missing.push((Header::new(*item, *hash, bytes), *bytes));
            }
        }
        if missing.is_empty() {
            items.iter().for_each(|(item, ..)| self.unmark(*item));
            return Ok(());
        }
        let need: u64 = missing.iter().map(|(header, _)| header.record_len()).sum();
        let (available, reserve) = (self.disk_available_bytes()?, self.0.config.disk_reserve_bytes);
        if need > available.saturating_sub(reserve) {
            return Err(StoreError::DiskFull { available, reserve, need });
        }
        // What takes the place of a damaged copy is no more than what was kept: without it that copy would hold its segment, and what is to leave the disk with it.
        let mut is_mending = true;
        for (header, _) in &missing {
            is_mending &= self.0.index.get(header.item)?.is_some_and(|kept| kept.hash == header.hash);
        }
        self.append(&mut writer, &missing, &[], if is_mending { PAST_CAPACITY } else { self.0.config.fillable_bytes() })?;
        drop(writer);
        items.iter().for_each(|(item, ..)| self.unmark(*item));
        Ok(())
    }

    fn next_segment(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let id = writer.segment + 1;
        // A half-made segment is begun anew by the next put, or, without a mark, by opening.
        let file = segment::create(&*self.0.disk, id).inspect_err(|error| {
            if error.is_unsynced() {
                writer.stopped = Some(error.to_string());
            }
        })?;
        self.with_segments(|segments| drop(segments.insert(id, Arc::clone(&file))));
        (writer.segment, writer.file, writer.end) = (id, file, segment::HEADER_BYTES);
        writer.space.marks.insert(id, segment::HEADER_BYTES);
        Ok(())
    }

    /// Segment first, synced; then the index, synced. All segments together take at most `capacity` afterwards, or are left as they are.
    fn append(&self, writer: &mut Writer, records: &[(Header, &[u8])], forgotten: &[Item], capacity: u64) -> Result<(), StoreError> {
        let need: u64 = records.iter().map(|(header, _)| header.record_len()).sum();
        let used = writer.space.used();
        if used.saturating_add(need) > capacity {
            return Err(StoreError::Full { used, capacity, need });
        }
        if writer.end > segment::HEADER_BYTES && writer.end + need > self.0.config.segment_bytes {
            self.next_segment(writer)?;
        }
        let (segment, name) = (writer.segment, segment::name(writer.segment));
        let (mut at, mut change) = (writer.end, Change::default());
        for (header, bytes) in records {
            if let Err(error) = segment::write(&*writer.file, at, header, bytes) {
                return Err(undo(writer, io_error("write", name)(error)));
            }
            change.entries.push((header.item, header.entry(segment, at)));
            at += header.record_len();
        }
        change.entries.extend(forgotten.iter().map(|item| (*item, index::Entry::Forgotten)));
        change.marks.push((segment, Some(at)));
        if let Err(error) = writer.file.sync().map_err(io_error(segment::SYNC, name)) {
            writer.stopped = Some(error.to_string());
            return Err(error);
        }
        self.commit(writer, &change)?;
        writer.end = at;
        Ok(())
    }

    /// Changes the index and what is counted of it. If that fails, the segment is cut back to where the index stands.
    fn commit(&self, writer: &mut Writer, change: &Change) -> Result<(), StoreError> {
        let index = &self.0.index;
        let error = match index.commit(change) {
            Ok(displaced) => {
                writer.space.follow(change, &displaced);
                return Ok(());
            }
            Err(error) => StoreError::from(error),
        };
        // A commit that failed may have gone through all the same; whoever cannot tell must not write on.
        let went_through = if index.is_unsynced() {
            Err(error.to_string())
        } else {
            index.has(change).map_err(|second| format!("{error}, then {second}"))
        };
        match went_through {
            Ok(true) => {
                let mut space = Space::count(index, |_, _| {})?;
                space.absent = std::mem::take(&mut writer.space.absent);
                writer.space = space;
                Ok(())
            }
            Ok(false) => Err(undo(writer, error)),
            Err(cause) => {
                writer.stopped = Some(cause);
                Err(error)
            }
        }
    }
}

/// Cuts a failed append off, so that a full disk stops this put only; if that fails too, nothing more is written.
fn undo(writer: &mut Writer, error: StoreError) -> StoreError {
    if let Err(second) = writer.file.set_len(writer.end) {
        writer.stopped = Some(format!("{error}, then cannot cut it off: {second}"));
    }
    error
}

#[cfg(test)]
pub(crate) mod crash;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod trouble;
