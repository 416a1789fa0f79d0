//! The index: where each item stands, and how far of each segment it has seen. One redb file, which the records share.
//!
//! Tables: `items`, kind u8, id, index u8 (34 bytes) to segment u32, offset u64, length u32, BLAKE3 (48 bytes); `marks`, segment to the bytes
//! indexed of it. Both change in one commit, and a commit is durable when it returns.

use std::{collections::BTreeMap, io, ops::RangeInclusive, sync::Arc};

use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};
use types::{
    encoding::{DecodeError, Reader, Writer},
    id::BlobId,
};

use super::{
    Item, StoreError,
    disk::{Disk, DiskFile},
    io_error,
};

const FILE: &str = "index.redb";
const FORMAT_FILE: &str = "FORMAT";
const FORMAT: &str = "tributary store 1\n";
/// First bytes of every redb file.
const REDB_MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
const ITEMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items");
const MARKS: TableDefinition<'_, u32, u64> = TableDefinition::new("marks");

/// Why the index did not answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database refused.
    #[error("the store's index ({FILE}) failed: {0}")]
    Database(#[source] Box<redb::Error>),
    /// An entry that was never written so.
    #[error("the store's index ({FILE}) holds a broken entry: {0}")]
    Entry(#[from] DecodeError),
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

fn key(item: Item) -> Vec<u8> {
    let (kind, index, id) = item.parts();
    Writer::new().u8(kind).blob(id).u8(index).finish()
}

fn item(key: &[u8]) -> Result<Item, DecodeError> {
    let mut r = Reader::new(key);
    let (kind, id, index) = (r.u8("kind")?, r.blob("id")?, r.u8("index")?);
    r.finish()?;
    let got = kind.into();
    Item::of_parts(kind, index, id).ok_or(DecodeError::Value { field: "kind", got, expected: "1, blob, or 2, fragment" })
}

/// Opens the index, making it if the store is new.
///
/// The file `FORMAT` is written last: without it nothing was ever promised, so a half-made index may be started over.
pub(super) fn open(disk: &dyn Disk, cache_bytes: usize) -> Result<Index, StoreError> {
    let format = disk.open(FORMAT_FILE).map_err(io_error("open", FORMAT_FILE))?;
    let is_new = check_format(&*format)?;
    let file = disk.open(FILE).map_err(io_error("open", FILE))?;
    if is_new && !has_magic(&*file).map_err(io_error("read", FILE))? {
        file.set_len(0).map_err(io_error("cut", FILE))?;
    }
    let database = Database::builder().set_cache_size(cache_bytes).create_with_backend(Backend(file)).map_err(failed)?;
    let index = Index(Arc::new(database));
    if is_new {
        index.commit(&[], &[])?;
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

/// The open index.
#[derive(Debug)]
pub(super) struct Index(Arc<Database>);

impl Index {
    /// The database, for the records.
    pub(super) fn database(&self) -> Arc<Database> {
        Arc::clone(&self.0)
    }

    /// Enters items and marks, durably, all or none.
    pub(super) fn commit(&self, items: &[(Item, Location)], marks: &[(u32, u64)]) -> Result<(), IndexError> {
        let change = self.0.begin_write().map_err(failed)?;
        {
            let mut table = change.open_table(ITEMS).map_err(failed)?;
            for (item, location) in items {
                table.insert(key(*item).as_slice(), location.encode().as_slice()).map_err(failed)?;
            }
            let mut table = change.open_table(MARKS).map_err(failed)?;
            for (segment, mark) in marks {
                table.insert(segment, mark).map_err(failed)?;
            }
        }
        change.commit().map_err(failed)
    }

    /// Where an item stands.
    pub(super) fn get(&self, item: Item) -> Result<Option<Location>, IndexError> {
        let table = self.0.begin_read().map_err(failed)?.open_table(ITEMS).map_err(failed)?;
        let entry = table.get(key(item).as_slice()).map_err(failed)?;
        Ok(entry.map(|entry| Location::decode(entry.value())).transpose()?)
    }

    /// Up to `limit` items of a range, in order.
    pub(super) fn range(&self, range: RangeInclusive<Item>, limit: usize) -> Result<Vec<(Item, Location)>, IndexError> {
        let (low, high) = (key(*range.start()), key(*range.end()));
        let table = self.0.begin_read().map_err(failed)?.open_table(ITEMS).map_err(failed)?;
        let entries = table.range::<&[u8]>(low.as_slice()..=high.as_slice()).map_err(failed)?;
        let entry = |entry: Result<_, redb::StorageError>| {
            let (key, value): (redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, &[u8]>) = entry.map_err(failed)?;
            Ok((item(key.value())?, Location::decode(value.value())?))
        };
        entries.take(limit).map(entry).collect()
    }

    /// Up to `limit` items after `after`, in order.
    pub(super) fn after(&self, after: Option<Item>, limit: usize) -> Result<Vec<(Item, Location)>, IndexError> {
        let low = after.unwrap_or(Item::Blob(BlobId::ZERO));
        let last = Item::Fragment { object: BlobId([0xff; 32]), index: u8::MAX };
        let mut items = self.range(low..=last, limit.saturating_add(1))?;
        items.retain(|(item, _)| Some(*item) != after);
        items.truncate(limit);
        Ok(items)
    }

    /// Bytes indexed of each segment that holds anything indexed.
    pub(super) fn marks(&self) -> Result<BTreeMap<u32, u64>, IndexError> {
        let table = self.0.begin_read().map_err(failed)?.open_table(MARKS).map_err(failed)?;
        let entries = table.range::<u32>(..).map_err(failed)?;
        entries.map(|entry| entry.map(|(segment, mark)| (segment.value(), mark.value())).map_err(failed)).collect()
    }
}

/// A disk file under redb. The folder's lock stands in for redb's own.
#[derive(Debug)]
struct Backend(Arc<dyn DiskFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(at, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(at, bytes)
    }
}
