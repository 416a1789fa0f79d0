//! Segments: append-only files of records.
//!
//! A file starts with `TRIBSEG1` and its number u32 (12 bytes). A record is a header of 84 bytes, big-endian, and the payload: `TREC`, kind u8 (1
//! blob, 2 fragment, 3 and 4 their release), index u8, two zero bytes, id 32, payload length u32, payload BLAKE3 32, and the first 8 bytes of the BLAKE3
//! of all that. A torn record fails one of the two hashes. Of several records of an item the last one counts; a release has no payload.

use std::{io, sync::Arc};

use rustix::io::Errno;
use types::{
    encoding::{DecodeError, Reader, Writer},
    id::BlobId,
};

use super::{
    ITEM_BYTES_MAX, Item, Recovery, Segments, StoreError, as_u64,
    disk::{Disk, DiskFile},
    index::{self, Change, Entry, Index, Location},
    io_error,
};

const MAGIC: &[u8; 8] = b"TRIBSEG1";
/// Bytes before the first record.
pub(super) const HEADER_BYTES: u64 = 12;
pub(super) const RECORD_MAGIC: &[u8; 4] = b"TREC";
pub(super) const RECORD_HEADER_BYTES: usize = 84;
const CHECKED_BYTES: usize = RECORD_HEADER_BYTES - 8;
const SUFFIX: &str = ".seg";
/// What was being done when a sync failed; see [`StoreError::is_unsynced`].
pub(super) const SYNC: &str = "sync";

/// File name of a segment.
pub(super) fn name(segment: u32) -> String {
    format!("{segment:08}{SUFFIX}")
}

/// The number of a segment by its file's name.
pub(super) fn number(name: &str) -> Option<u32> {
    name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 8)?.parse().ok()
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) item: Item,
    /// Says that the item was released.
    pub(super) is_release: bool,
    pub(super) len: u32,
    pub(super) hash: BlobId,
}

/// Added to the kind of an item in the record of its release.
const RELEASE: u8 = 2;

impl Header {
    pub(super) fn new(item: Item, hash: BlobId, bytes: &[u8]) -> Self {
        Self { item, is_release: false, len: u32::try_from(bytes.len()).expect("items are bounded"), hash }
    }

    /// The record that an item was released.
    pub(super) fn release(item: Item) -> Self {
        Self { item, is_release: true, len: 0, hash: BlobId::of(b"") }
    }

    /// Bytes of header and payload.
    pub(super) fn record_len(&self) -> u64 {
        record_len(self.len)
    }

    /// What the index says once the record stands at `at`.
    pub(super) const fn entry(&self, segment: u32, at: u64) -> Entry {
        let location = self.location(segment, at);
        if self.is_release { Entry::Gone(location) } else { Entry::Kept(location) }
    }

    /// The index's entry for a record at `at`.
    pub(super) const fn location(&self, segment: u32, at: u64) -> Location {
        Location { segment, at, len: self.len, hash: self.hash }
    }

    fn encode(&self) -> Vec<u8> {
        let (kind, index, id) = self.item.parts();
        let kind = if self.is_release { kind + RELEASE } else { kind };
        let w = Writer::new().bytes(RECORD_MAGIC).u8(kind).u8(index).u16(0).blob(id).u32(self.len).blob(self.hash);
        let bytes = w.finish();
        let check = check(&bytes);
        [bytes, check].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        let mut r = Reader::new(bytes);
        let magic = r.bytes("record magic", 4)?;
        let (kind, index, spare, id) = (r.u8("kind")?, r.u8("index")?, r.u16("spare")?, r.blob("id")?);
        let (len, hash) = (r.u32("length")?, r.blob("hash")?);
        let is_checked = r.bytes("check", 8)? == check(&bytes[..CHECKED_BYTES]);
        let fits = usize::try_from(len).is_ok_and(|len| len <= ITEM_BYTES_MAX);
        let is_release = kind > RELEASE;
        let is_sound = !is_release || (len, hash) == (0, BlobId::of(b""));
        let kind = if is_release { kind - RELEASE } else { kind };
        let item = Item::of_parts(kind, index, id).filter(|_| magic == RECORD_MAGIC && spare == 0 && is_checked && fits && is_sound);
        r.finish()?;
        Ok(item.map(|item| Self { item, is_release, len, hash }))
    }
}

/// Bytes of a record with a payload of `len` bytes.
pub(super) fn record_len(len: u32) -> u64 {
    as_u64(RECORD_HEADER_BYTES) + u64::from(len)
}

fn check(bytes: &[u8]) -> Vec<u8> {
    BlobId::of(bytes).0[..8].to_vec()
}

impl Item {
    /// Kind code, fragment index, id.
    pub(super) const fn parts(self) -> (u8, u8, BlobId) {
        match self {
            Self::Blob(id) => (1, 0, id),
            Self::Fragment { object, index } => (2, index, object),
        }
    }

    /// The item of these parts, if they are one's.
    pub(super) const fn of_parts(kind: u8, index: u8, id: BlobId) -> Option<Self> {
        match (kind, index) {
            (1, 0) => Some(Self::Blob(id)),
            (2, index) => Some(Self::Fragment { object: id, index }),
            _ => None,
        }
    }
}

/// Starts a segment; on return it exists durably.
pub(super) fn create(disk: &dyn Disk, segment: u32) -> Result<Arc<dyn DiskFile>, StoreError> {
    let name = name(segment);
    let file = disk.open(&name).map_err(io_error("open", &name))?;
    start(&*file, segment)?;
    disk.sync_names().map_err(io_error(SYNC, "the store's folder"))?;
    Ok(file)
}

fn start(file: &dyn DiskFile, segment: u32) -> Result<(), StoreError> {
    let head = [&MAGIC[..], &segment.to_be_bytes()].concat();
    file.set_len(0).and_then(|()| file.write(0, &head)).map_err(io_error("write", name(segment)))?;
    file.sync().map_err(io_error(SYNC, name(segment)))
}

/// Writes a record, not yet durably.
pub(super) fn write(file: &dyn DiskFile, at: u64, header: &Header, bytes: &[u8]) -> io::Result<()> {
    file.write(at, &header.encode())?;
    file.write(at + as_u64(RECORD_HEADER_BYTES), bytes)
}

/// The payload's bytes as they stand.
pub(super) fn payload(file: &dyn DiskFile, Location { at, len, .. }: Location) -> io::Result<Vec<u8>> {
    let at = at.saturating_add(as_u64(RECORD_HEADER_BYTES));
    if at.saturating_add(len.into()) > file.len()? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; usize::try_from(len).expect("32 bits fit a length")];
    file.read(at, &mut bytes)?;
    Ok(bytes)
}

/// Whether a read failed since the disk does not have these bytes any more: the file ends before them, or its sector cannot be read. Other failures are those of the whole
/// disk, or of this process, and say nothing of one item.
pub(super) fn is_lost(error: &io::Error) -> bool {
    let lost = [Errno::IO, Errno::BADMSG].map(|errno| Some(errno.raw_os_error()));
    error.kind() == io::ErrorKind::UnexpectedEof || lost.contains(&error.raw_os_error())
}

/// Opens every segment, takes in what the index has not seen, cuts torn tails off.
pub(super) fn recover(disk: &dyn Disk, index: &Index) -> Result<(Segments, Recovery), StoreError> {
    let (mut marks, mut segments, mut recovery) = (index.marks()?, Segments::new(), Recovery::default());
    for (segment, _) in marks.extract_if(.., |_, mark| *mark == index::DROPPED) {
        finish_drop(disk, index, segment)?;
    }
    let mut numbers: Vec<u32> =
        disk.names().map_err(io_error("list", "the store's folder"))?.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    for &segment in &numbers {
        let file = disk.open(&name(segment)).map_err(io_error("open", name(segment)))?;
        let mark = marks.get(&segment).copied();
        recover_one(index, segment, &*file, mark, &mut recovery)?;
        segments.insert(segment, file);
    }
    recovery.lost_bytes += marks.iter().filter(|(segment, _)| !segments.contains_key(segment)).map(|(_, mark)| mark).sum::<u64>();
    Ok((segments, recovery))
}

/// Deletes the file of a segment that is marked as dropped.
pub(super) fn finish_drop(disk: &dyn Disk, index: &Index, segment: u32) -> Result<(), StoreError> {
    match disk.remove(&name(segment)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("delete", name(segment))(error)),
    }
    disk.sync_names().map_err(io_error(SYNC, "the store's folder"))?;
    index.commit(&Change { entries: vec![], marks: vec![(segment, None)] })?;
    Ok(())
}

fn recover_one(index: &Index, segment: u32, file: &dyn DiskFile, mark: Option<u64>, recovery: &mut Recovery) -> Result<(), StoreError> {
    let io = |doing| io_error(doing, name(segment));
    let len = file.len().map_err(io("measure"))?;
    let from = match mark {
        Some(mark) => mark,
        None if is_started(file, segment, len).map_err(io("read"))? => HEADER_BYTES,
        None => {
            recovery.torn_bytes += len;
            start(file, segment)?;
            index.commit(&Change { entries: vec![], marks: vec![(segment, Some(HEADER_BYTES))] })?;
            return Ok(());
        }
    };
    recovery.lost_bytes += from.saturating_sub(len);
    if len < from {
        return Ok(());
    }
    let (found, end) = scan(file, segment, from, len).map_err(io("read"))?;
    if end < len {
        recovery.torn_bytes += len - end;
        file.set_len(end).map_err(io("cut"))?;
    }
    if mark != Some(end) {
        // What was read may still be only in the system's memory.
        file.sync().map_err(io(SYNC))?;
        recovery.adopted += as_u64(found.len());
        index.commit(&Change { entries: found, marks: vec![(segment, Some(end))] })?;
    }
    Ok(())
}

/// Whether the segment begins as it should.
pub(super) fn is_started(file: &dyn DiskFile, segment: u32, len: u64) -> io::Result<bool> {
    if len < HEADER_BYTES {
        return Ok(false);
    }
    let mut head = [0; 12];
    file.read(0, &mut head)?;
    Ok(head[..8] == *MAGIC && head[8..] == segment.to_be_bytes())
}

/// Whole records from `from` on, and where the last of them ends.
pub(super) fn scan(file: &dyn DiskFile, segment: u32, from: u64, len: u64) -> io::Result<(Vec<(Item, Entry)>, u64)> {
    let (mut found, mut at) = (Vec::new(), from);
    while at + as_u64(RECORD_HEADER_BYTES) <= len {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        match file.read(at, &mut bytes) {
            Err(error) if is_lost(&error) => break,
            result => result?,
        }
        let Some(header) = Header::decode(&bytes).ok().flatten().filter(|header| at + header.record_len() <= len) else { break };
        match payload(file, header.location(segment, at)) {
            Ok(bytes) if BlobId::of(&bytes) == header.hash => {}
            Err(error) if !is_lost(&error) => return Err(error),
            Ok(_) | Err(_) => break,
        }
        found.push((header.item, header.entry(segment, at)));
        at += header.record_len();
    }
    Ok((found, at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_of_a_record_header_are_pinned() {
        let item = Item::Fragment { object: BlobId([0x11; 32]), index: 3 };
        let bytes = Header::new(item, BlobId([0x22; 32]), &[0; 258]).encode();
        let checked = format!("{}02030000{}00000102{}", hex::encode("TREC"), "11".repeat(32), "22".repeat(32));
        assert_eq!(hex::encode(&bytes[..76]), checked);
        assert_eq!(bytes[76..], BlobId::of(&hex::decode(checked).unwrap()).0[..8]);
        assert_eq!(
            (name(7), number("00000007.seg"), number("7.seg"), number("index.redb")),
            ("00000007.seg".to_owned(), Some(7), None, None)
        );
    }

    #[test]
    fn a_release_names_its_item_and_has_no_payload() {
        let header = Header::release(Item::Fragment { object: BlobId([0x11; 32]), index: 3 });
        let bytes = header.encode();
        assert_eq!((bytes[4], &bytes[40..44]), (4, &[0; 4][..]));
        assert_eq!(Header::decode(&bytes), Ok(Some(header)));
        let long = Header { len: 1, ..header }.encode();
        assert_eq!(Header::decode(&long), Ok(None));
    }

    proptest! {
        #[test]
        fn a_header_with_any_byte_changed_is_no_header(at in 0..84_usize, change in 1..=255_u8) {
            let header = Header::new(Item::Blob(BlobId([1; 32])), BlobId([1; 32]), b"abc");
            let mut bytes = header.encode();
            prop_assert_eq!(Header::decode(&bytes), Ok(Some(header)));
            bytes[at] ^= change;
            prop_assert_eq!(Header::decode(&bytes), Ok(None));
        }

        #[test]
        fn decoding_a_header_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Header::decode(&bytes);
        }
    }
}
