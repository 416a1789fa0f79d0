//! The bytes in which a half-done fetch lies on a disk.
//!
//! `TRIBPART`, version u8 (1), manifest length u16, the manifest; then per record: fragment u8, first group u32, groups u32 (1 to
//! [`RECORD_GROUPS`]), and the range's bytes as they travel. Big-endian. Nothing else is needed: the manifest is checked against the object's id, each
//! group against the manifest, so a torn, rotten or forged file costs what is wrong in it and never a wrong byte.

use types::{
    encoding::{Reader, Writer},
    id::BlobId,
};

use super::parts::{RECORD_GROUPS, Record};
use crate::{
    erasure::{MANIFEST_BYTES_MAX, ObjectManifest},
    proto::range::Run,
};

const MAGIC: &[u8; 8] = b"TRIBPART";
const VERSION: u8 = 1;
/// Bytes before the manifest.
pub const HEAD_BYTES: usize = 8 + 1 + 2;
/// Bytes before a record's range.
pub const RECORD_HEAD_BYTES: usize = 1 + 4 + 4;

/// The file's beginning: head and manifest.
pub fn head(manifest: &ObjectManifest) -> Vec<u8> {
    let manifest = manifest.encode();
    let length = u16::try_from(manifest.len()).expect("a manifest has at most 3,151 bytes");
    [&MAGIC[..], &[VERSION], &length.to_be_bytes(), &manifest].concat()
}

/// Bytes of the manifest that follows a head; nothing if it is no head.
pub fn manifest_len(head: &[u8; HEAD_BYTES]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes([head[9], head[10]]));
    (head[..8] == *MAGIC && head[8] == VERSION && length <= MANIFEST_BYTES_MAX).then_some(length)
}

/// The manifest, if it is `object`'s.
pub fn manifest(object: BlobId, bytes: &[u8]) -> Option<ObjectManifest> {
    ObjectManifest::decode_as(object, bytes).ok()
}

/// A record's bytes.
pub fn record(Record { index, run, bytes }: &Record) -> Vec<u8> {
    [Writer::new().u8(*index).u32(run.first).u32(run.count).finish(), bytes.clone()].concat()
}

/// What a record's head says: fragment, groups and the bytes that follow; nothing if the object has no such range.
pub fn record_head(manifest: &ObjectManifest, head: &[u8; RECORD_HEAD_BYTES]) -> Option<(u8, Run, usize)> {
    let mut reader = Reader::new(head);
    let (index, first, count) = (reader.u8("fragment").ok()?, reader.u32("first").ok()?, reader.u32("count").ok()?);
    let run = Run { first, count };
    let is_ours = index < manifest.profile().total() && count <= RECORD_GROUPS && run.fits(manifest.fragment_len());
    is_ours.then(|| (index, run, run.encoded_len(manifest.fragment_len())))
}
