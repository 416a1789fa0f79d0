//! The index: where each item stands, and how far of each segment it has seen. One redb file, which the records share.
//!
//! Tables: `items`, kind u8, id, index u8 (34 bytes) to segment u32, offset u64, length u32, BLAKE3 (48 bytes); `gone`, the same for released
//! items, to the record that says so; `marks`, segment to the bytes indexed of it, 0 for a segment that is being dropped. All change in one commit,
//! and a commit is durable when it returns.

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use redb::{ReadTransaction, ReadableTableMetadata, Table, TableDefinition, TableError};
use types::{
    encoding::{DecodeError, Reader, Writer},
    id::BlobId,
};

use super::{
    Item, StoreError,
    base::Base,
    disk::{Disk, DiskFile},
    io_error, segment,
    space::Space,
};

pub(super) const FILE: &str = "index.redb";
pub(super) const FORMAT_FILE: &str = "FORMAT";
pub(super) const FORMAT: &str = "tributary store 1\n";
/// First bytes of every redb file.
const REDB_MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
const ITEMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items");
const GONE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("gone");
const MARKS: TableDefinition<'_, u32, u64> = TableDefinition::new("marks");
/// The mark of a segment whose file is being deleted: opening goes on with that.
pub(super) const DROPPED: u64 = 0;

/// Why the index did not answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database refused.
    #[error("the store's index ({FILE}) failed: {0}")]
    Database(#[source] Box<redb::Error>),
    /// An entry that was never written so.
    #[error("the store's index ({FILE}) holds a broken entry: {0}")]
    Entry(#[from] DecodeError),
    /// A sync failed.
    #[error("the store's index ({FILE}) is not written any more, since a sync of it failed: mend the disk and start again")]
    Stopped,
}

/// Any of redb's errors.
pub(super) fn failed(error: impl Into<redb::Error>) -> IndexError {
    IndexError::Database(Box::new(error.into()))
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u32,
    /// Offset of the record's header.
    pub(super) at: u64,
    /// Bytes of the payload.
    pub(super) len: u32,
    /// BLAKE3 of the payload.
    pub(super) hash: BlobId,
}

impl Location {
    fn encode(&self) -> Vec<u8> {
        Writer::new().u32(self.segment).u64(self.at).u32(self.len).blob(self.hash).finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let location = Self { segment: r.u32("segment")?, at: r.u64("offset")?, len: r.u32("length")?, hash: r.blob("hash")? };
        r.finish().map(|()| location)
    }
}

pub(super) fn key(item: Item) -> Vec<u8> {
    let (kind, index, id) = item.parts();
    Writer::new().u8(kind).blob(id).u8(index).finish()
}

pub(super) fn item(key: &[u8]) -> Result<Item, DecodeError> {
    let mut r = Reader::new(key);
    let (kind, id, index) = (r.u8("kind")?, r.blob("id")?, r.u8("index")?);
    r.finish()?;
    let got = kind.into();
    Item::of_parts(kind, index, id).ok_or(DecodeError::Value { field: "kind", got, expected: "1, blob, or 2, fragment" })
}

/// Opens the index, making it if the store is new.
///
/// The file `FORMAT` is written last, before the first segment: without either nothing was ever promised, so a half-made index may be started over. What was promised is looked through
/// without a byte written, so that a start that fails leaves it as it was found.
pub(super) fn open(disk: &dyn Disk, cache_bytes: usize) -> Result<Index, StoreError> {
    let names = disk.names().map_err(io_error("list", "the store's folder"))?;
    let has = |name: &str| names.iter().any(|known| known == name);
    let open = |name: &'static str| disk.open(name).map_err(io_error("open", name));
    let is_new = !has(FORMAT_FILE) || check_format(&*open(FORMAT_FILE)?)?;
    let is_promised = !is_new || names.iter().any(|name| segment::number(name).is_some());
    if is_promised {
        let unreadable = |why| StoreError::IndexUnreadable { why };
        look_through(has(FILE).then(|| open(FILE)).transpose()?, cache_bytes).map_err(unreadable)?;
    }
    let (format, file) = (open(FORMAT_FILE)?, open(FILE)?);
    if !is_promised && !has_magic(&*file).map_err(io_error("read", FILE))? {
        file.set_len(0).map_err(io_error("cut", FILE))?;
    }
    let index = Index(Arc::new(Base::open(file, cache_bytes)?));
    if is_new {
        index.commit(&Change::default())?;
        // The index must be there for certain before anything says so.
        let sync_names = || disk.sync_names().map_err(io_error("sync", "the store's folder"));
        sync_names()?;
        format
            .set_len(0)
            .and_then(|()| format.write(0, FORMAT.as_bytes()))
            .and_then(|()| format.sync())
            .map_err(io_error("write", FORMAT_FILE))?;
        sync_names()?;
    }
    Ok(index)
}

/// Reads marks and entries over a shadow: twice the pass that opening takes in any case, some 0.2 s for 300,000 items. In words why that cannot be done.
fn look_through(file: Option<Arc<dyn DiskFile>>, cache_bytes: usize) -> Result<(), String> {
    let file = file.ok_or("it is missing")?;
    guarded(|| Space::count(&Index::shadow(file, cache_bytes)?, |_, _| {}).map(drop).map_err(StoreError::from))
}

/// Runs what may stumble over damaged pages: redb answers one with an error or a panic.
pub(super) fn guarded<T, E: fmt::Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("its pages are damaged".to_owned()),
    }
}

/// Whether the store is new; an error if it is another format's.
fn check_format(file: &dyn DiskFile) -> Result<bool, StoreError> {
    let len = file.len().map_err(io_error("measure", FORMAT_FILE))?;
    let mut bytes = vec![0; usize::try_from(len).map_or(80, |len| len.min(80))];
    file.read(0, &mut bytes).map_err(io_error("read", FORMAT_FILE))?;
    // A torn first write is a beginning of the text, with zeros where its bytes did not arrive.
    let is_torn = bytes.len() <= FORMAT.len() && bytes.iter().zip(FORMAT.bytes()).all(|(got, expected)| [0, expected].contains(got));
    match (bytes == FORMAT.as_bytes(), is_torn) {
        (true, _) => Ok(false),
        (false, true) => Ok(true),
        (false, false) => Err(StoreError::Format { got: String::from_utf8_lossy(&bytes).into_owned(), expected: FORMAT }),
    }
}

fn has_magic(file: &dyn DiskFile) -> io::Result<bool> {
    let mut head = [0; REDB_MAGIC.len()];
    if file.len()? < super::as_u64(head.len()) {
        return Ok(false);
    }
    file.read(0, &mut head)?;
    Ok(head == REDB_MAGIC)
}

/// What the index says of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It stands there.
    Kept(Location),
    /// It was released; the record that says so stands there.
    Gone(Location),
    /// Nothing is said of it: the record that said it was released has no older one to speak against.
    Forgotten,
}

/// What changes in one commit, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    pub(super) entries: Vec<(Item, Entry)>,
    /// New marks; nothing: the segment is dropped and its file is gone.
    pub(super) marks: Vec<(u32, Option<u64>)>,
}

/// Which records a [`Index::page`] lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Kept,
    Gone,
}

/// The open index.
#[derive(Debug)]
pub(super) struct Index(Arc<Base>);

impl Index {
    /// The index in a file that is left as it is.
    pub(super) fn shadow(file: Arc<dyn DiskFile>, cache_bytes: usize) -> Result<Self, StoreError> {
        // redb would begin an empty file anew.
        if !has_magic(&*file).map_err(io_error("read", FILE))? {
            return Err(io_error("read", FILE)(io::Error::other("it does not begin as an index does")));
        }
        Ok(Self(Arc::new(Base::shadow(file, cache_bytes)?)))
    }

    /// Whether every page of the index in a file verifies.
    pub(super) fn verify(file: &Arc<dyn DiskFile>, cache_bytes: usize) -> Result<bool, IndexError> {
        Base::verify(file, cache_bytes)
    }

    /// The database, for the records.
    pub(super) fn base(&self) -> Arc<Base> {
        Arc::clone(&self.0)
    }

    /// Makes the change, durably, all or none. Returns the records that nothing points at any more.
    pub(super) fn commit(&self, change: &Change) -> Result<Vec<Location>, IndexError> {
        let transaction = self.0.write()?;
        let mut displaced = Vec::new();
        {
            let mut items = transaction.open_table(ITEMS).map_err(failed)?;
            let mut gone = transaction.open_table(GONE).map_err(failed)?;
            for (item, entry) in &change.entries {
                let key = key(*item);
                let (kept_at, gone_at) = match entry {
                    Entry::Kept(location) => (Some(location), None),
                    Entry::Gone(location) => (None, Some(location)),
                    Entry::Forgotten => (None, None),
                };
                displaced.extend(set(&mut items, &key, kept_at)?);
                displaced.extend(set(&mut gone, &key, gone_at)?);
            }
            let mut table = transaction.open_table(MARKS).map_err(failed)?;
            for (segment, mark) in &change.marks {
                match mark {
                    Some(mark) => table.insert(segment, mark).map_err(failed)?,
                    None => table.remove(segment).map_err(failed)?,
                };
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(displaced)
    }

    /// Whether a commit that reported a failure went through all the same, by its marks; if so, durably.
    pub(super) fn has(&self, change: &Change) -> Result<bool, IndexError> {
        let marks = self.marks()?;
        let went_through = change.marks.iter().all(|(segment, mark)| marks.get(segment) == mark.as_ref());
        if went_through {
            self.0.sync().map_err(|error| failed(redb::StorageError::Io(error)))?;
        }
        Ok(went_through)
    }

    /// Whether a sync failed: nothing is written any more.
    pub(super) fn is_unsynced(&self) -> bool {
        self.0.is_unsynced()
    }

    /// Where an item stands.
    pub(super) fn get(&self, item: Item) -> Result<Option<Location>, IndexError> {
        self.0.read(|transaction| {
            let entry = transaction.open_table(ITEMS).map_err(failed)?.get(key(item).as_slice()).map_err(failed)?;
            Ok(entry.map(|entry| Location::decode(entry.value())).transpose()?)
        })
    }

    /// Items kept.
    pub(super) fn len(&self) -> Result<u64, IndexError> {
        self.0.read(|transaction| transaction.open_table(ITEMS).map_err(failed)?.len().map_err(failed))
    }

    /// Up to `limit` items of a range, in order.
    pub(super) fn range(&self, range: RangeInclusive<Item>, limit: usize) -> Result<Vec<(Item, Location)>, IndexError> {
        self.range_of(Which::Kept, &range, limit)
    }

    fn range_of(&self, which: Which, range: &RangeInclusive<Item>, limit: usize) -> Result<Vec<(Item, Location)>, IndexError> {
        let (low, high) = (key(*range.start()), key(*range.end()));
        self.0.read(|transaction| {
            let Some(table) = open_table(transaction, which)? else { return Ok(Vec::new()) };
            let entries = table.range::<&[u8]>(low.as_slice()..=high.as_slice()).map_err(failed)?;
            let entry = |entry: Result<_, redb::StorageError>| {
                let (key, value): (redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, &[u8]>) = entry.map_err(failed)?;
                Ok((item(key.value())?, Location::decode(value.value())?))
            };
            entries.take(limit).map(entry).collect()
        })
    }

    /// Up to `limit` items after `after`, in order.
    pub(super) fn after(&self, after: Option<Item>, limit: usize) -> Result<Vec<(Item, Location)>, IndexError> {
        self.page(Which::Kept, after, limit)
    }

    /// Up to `limit` entries after `after`, in order.
    pub(super) fn page(&self, which: Which, after: Option<Item>, limit: usize) -> Result<Vec<(Item, Location)>, IndexError> {
        let low = after.unwrap_or(Item::Blob(BlobId::ZERO));
        let last = Item::Fragment { object: BlobId([0xff; 32]), index: u8::MAX };
        let mut items = self.range_of(which, &(low..=last), limit.saturating_add(1))?;
        items.retain(|(item, _)| Some(*item) != after);
        items.truncate(limit);
        Ok(items)
    }

    /// Bytes indexed of each segment that holds anything indexed.
    pub(super) fn marks(&self) -> Result<BTreeMap<u32, u64>, IndexError> {
        self.0.read(|transaction| {
            let table = transaction.open_table(MARKS).map_err(failed)?;
            let entries = table.range::<u32>(..).map_err(failed)?;
            entries.map(|entry| entry.map(|(segment, mark)| (segment.value(), mark.value())).map_err(failed)).collect()
        })
    }
}

type OpenTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The table; nothing in a store of before items could be released.
fn open_table(transaction: &ReadTransaction, which: Which) -> Result<Option<OpenTable>, IndexError> {
    match (transaction.open_table(if which == Which::Kept { ITEMS } else { GONE }), which) {
        (Ok(table), _) => Ok(Some(table)),
        (Err(TableError::TableDoesNotExist(_)), Which::Gone) => Ok(None),
        (Err(error), _) => Err(failed(error)),
    }
}

/// Puts `location` in place of what stood under `key`, and returns that.
fn set(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    key: &[u8],
    location: Option<&Location>,
) -> Result<Option<Location>, IndexError> {
    let old = match location {
        Some(location) => table.insert(key, location.encode().as_slice()).map_err(failed)?,
        None => table.remove(key).map_err(failed)?,
    };
    Ok(old.map(|old| Location::decode(old.value())).transpose()?)
}
