//! One segment, record by record, by nothing but its own bytes.

use std::io;

use types::id::BlobId;

use super::super::{
    as_u64,
    disk::DiskFile,
    segment::{HEADER_BYTES, Header, RECORD_HEADER_BYTES, RECORD_MAGIC, is_started, payload},
};

/// Bytes read at once while a header is searched.
const WINDOW: usize = 1 << 20;

/// A record whose header verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) at: u64,
    pub(super) header: Header,
    /// Its payload verifies too.
    pub(super) is_whole: bool,
    /// A header before it did not verify, so that it was searched: it may stand inside another's payload.
    pub(super) is_searched: bool,
}

/// A segment's records, and the bytes that are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Walked {
    pub(super) len: u64,
    /// The segment begins as it should.
    pub(super) is_started: bool,
    pub(super) records: Vec<Found>,
    /// From and to of what no verified header covers, in order.
    pub(super) gaps: Vec<(u64, u64)>,
}

/// Walks a segment to its end.
pub(super) fn walk(file: &dyn DiskFile, segment: u32) -> io::Result<Walked> {
    let len = file.len()?;
    // A first sector that cannot be read is as one that is wrong.
    let is_started = is_started(file, segment, len).unwrap_or(false);
    let mut walked = Walked { len, is_started, ..Walked::default() };
    let (mut at, mut is_searched) = (HEADER_BYTES, false);
    while at < len {
        match header(file, at, len) {
            Some(header) => {
                let is_whole = payload(file, header.location(segment, at)).is_ok_and(|bytes| BlobId::of(&bytes) == header.hash);
                walked.records.push(Found { at, header, is_whole, is_searched });
                at += header.record_len();
            }
            None => {
                let next = search(file, at + 1, len);
                walked.gaps.push((at, next));
                (at, is_searched) = (next, true);
            }
        }
    }
    Ok(walked)
}

/// The header at a place, if one verifies there and its payload fits.
fn header(file: &dyn DiskFile, at: u64, len: u64) -> Option<Header> {
    let mut bytes = [0; RECORD_HEADER_BYTES];
    if at.saturating_add(as_u64(RECORD_HEADER_BYTES)) > len {
        return None;
    }
    file.read(at, &mut bytes).ok()?;
    Header::decode(&bytes).ok().flatten().filter(|header| at + header.record_len() <= len)
}

/// Where the next header stands that verifies, or the end. A window that cannot be read is passed over.
fn search(file: &dyn DiskFile, from: u64, len: u64) -> u64 {
    let mut start = from;
    while start.saturating_add(as_u64(RECORD_HEADER_BYTES)) <= len {
        let size = usize::try_from(len - start).map_or(WINDOW, |left| left.min(WINDOW));
        let mut bytes = vec![0; size];
        if file.read(start, &mut bytes).is_ok() {
            let places = bytes.windows(RECORD_MAGIC.len()).enumerate().filter(|(_, window)| *window == RECORD_MAGIC);
            for at in places.map(|(place, _)| start + as_u64(place)) {
                if header(file, at, len).is_some() {
                    return at;
                }
            }
        }
        // A magic may lie across two windows.
        start += as_u64(size.saturating_sub(RECORD_MAGIC.len() - 1).max(1));
    }
    len
}
