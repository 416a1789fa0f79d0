//! Why a store does not do what is asked.

use std::{io, path::PathBuf};

use types::id::BlobId;

use super::{
    Item,
    index::{self, IndexError},
    records::RecordError,
    segment,
};
use crate::erasure::{ManifestError, ProofError};

/// An item whose bytes on this disk are no longer what was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{item} is damaged on this disk: expected {expected}, {}: it must be fetched from other holders and stored anew", found(.got))]
pub struct Corrupt {
    /// The item.
    pub item: Item,
    /// Hash of what was stored.
    pub expected: BlobId,
    /// Hash of what is there; nothing if it cannot even be read.
    pub got: Option<BlobId>,
}

fn found(got: &Option<BlobId>) -> String {
    got.map_or_else(|| "found it gone or unreadable".to_owned(), |got| format!("found {got}"))
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the folder.
    #[error("{} is in use by another process{}: stop it, or choose another folder", folder.display(), owner.map(|pid| format!(" ({pid})")).unwrap_or_default())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The other process, if it said so.
        owner: Option<u32>,
    },
    /// The folder cannot be used.
    #[error("{} cannot be used as a store ({error}): check that it exists, is yours and may be written, or choose another folder", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The folder holds something else, or a later format.
    #[error("the store's format is {got:?}, this program reads {expected:?}: use the program that wrote it, or another folder")]
    Format {
        /// What stands there.
        got: String,
        /// What should.
        expected: &'static str,
    },
    /// The system refused.
    #[error("cannot {doing} {file}: {error}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        file: String,
        /// What the system said.
        error: io::Error,
    },
    /// The index, which cannot be made anew from what else is kept, is broken.
    #[error(
        "the store's index ({}) cannot be read ({why}): nothing was changed; `tributary storage check` says what is damaged, and with `--salvage DIR` it writes what verifies, and the records that can be read, into a new folder to be put in the store's place",
        index::FILE
    )]
    IndexUnreadable {
        /// What was found.
        why: String,
    },
    /// The index refused.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// No room by configuration.
    #[error("the store is full: {used} of {capacity} bytes used, {need} needed: raise capacity_bytes, or release items and collect")]
    Full {
        /// Bytes in segments.
        used: u64,
        /// Bytes allowed: for items what is reserved is left out.
        capacity: u64,
        /// Bytes the items take.
        need: u64,
    },
    /// No room on the disk.
    #[error(
        "the disk is full: {available} bytes are free there, {need} are needed and {reserve} are kept for everything else: make room, or lower disk_reserve_bytes"
    )]
    DiskFull {
        /// Bytes that the file system has left.
        available: u64,
        /// [`super::Config::disk_reserve_bytes`].
        reserve: u64,
        /// Bytes the items take.
        need: u64,
    },
    /// An item longer than the store takes.
    #[error("{item} has {got} bytes, at most {max} are kept as one item")]
    TooLong {
        /// The item.
        item: Item,
        /// Its bytes.
        got: usize,
        /// [`super::ITEM_BYTES_MAX`].
        max: usize,
    },
    /// The disk's bytes changed.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A manifest that is still needed.
    #[error("{object} names {fragments} fragments that are kept here: release the object")]
    InUse {
        /// The manifest's object.
        object: BlobId,
        /// Fragments kept.
        fragments: usize,
    },
    /// A fragment and a manifest that do not belong together.
    #[error("a fragment of object {got} was given with the manifest of object {manifest}")]
    Foreign {
        /// The manifest's object.
        manifest: BlobId,
        /// The fragment's.
        got: BlobId,
    },
    /// What was stored as a manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An object whose manifest was proved to lie.
    #[error("object {object} is void: its manifest was proved to be false, nothing of it is kept")]
    Void {
        /// The object.
        object: BlobId,
    },
    /// What was to void an object convicts nobody.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A record could not be read or kept.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An earlier write failed in a way that leaves the disk's state unknown.
    #[error("the store stopped writing after: {cause}: mend the disk and start again")]
    Stopped {
        /// The earlier failure.
        cause: String,
    },
}

impl StoreError {
    /// Bytes that were free and bytes that were needed, if there was no room.
    pub const fn no_room(&self) -> Option<(u64, u64)> {
        match self {
            Self::Full { used, capacity, need } => Some((capacity.saturating_sub(*used), *need)),
            Self::DiskFull { available, reserve, need } => Some((available.saturating_sub(*reserve), *need)),
            _ => None,
        }
    }

    /// Whether the file system had no room for a write.
    pub(super) fn is_disk_full(&self) -> bool {
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { error, .. } if kinds.contains(&error.kind()))
    }

    /// Whether a sync failed, so that nobody knows what the disk holds.
    pub(super) fn is_unsynced(&self) -> bool {
        matches!(self, Self::Io { doing: segment::SYNC, .. } | Self::Index(IndexError::Stopped))
    }
}
