//! Serving: a peer's request carried out on the store. What may be served at all is [`Admission`](crate::proto::provide::Admission)'s, when
//! is [`Turns`](crate::proto::provide::Turns)'.
//!
//! A fragment is read in pieces, each group hashed on the way against the fragment's pairs; they are had by reading it once (1.5 ms for 4 MiB) and
//! may be kept by the caller: 16 KiB for that fragment, 87 KiB for the largest.

use std::{io, sync::Arc};

use types::id::BlobId;

use super::{Corrupt, Item, MOVES_MAX, Store, StoreError, as_u64, disk::DiskFile, index::Location, io_error, segment};
use crate::{
    erasure::ObjectManifest,
    proto::{
        message::{Refusal, Reply, Request},
        provide::{PIECE_BYTES, PIECE_GROUPS, PutFacts, PutPlan, plan_put},
        range::{Encoder, FillError, GROUP_BYTES, Growing, Run, Tree},
    },
};

impl Store {
    /// Carries a request out, but for the bytes of a range: those are [`Store::read_range`]'s. `assigned` says which fragment of an object placement gives
    /// this node. Blocks on the disk.
    ///
    /// Failures of this disk are logged here and told to the peer without detail.
    pub fn serve(&self, request: Request, assigned: impl FnOnce(&ObjectManifest) -> Option<u8>) -> Reply {
        match request {
            Request::Put { manifest, index, fragment, .. } => {
                let free_bytes = match self.free_bytes() {
                    Ok(free_bytes) => free_bytes,
                    Err(error) => {
                        tracing::error!(%error, "the store failed");
                        return Reply::Refused(Refusal::Failed);
                    }
                };
                let facts = |manifest: &ObjectManifest| PutFacts { free_bytes, assigned: assigned(manifest) };
                plan_put(&manifest, index, fragment, facts).map_or_else(Reply::Refused, |plan| self.keep(&plan))
            }
            Request::Locate { object } => self.located(object),
            Request::Read { object, index, run } => {
                self.read_range(object, index, run, None).map_or_else(Reply::Refused, |reading| reading.head())
            }
        }
    }

    fn keep(&self, PutPlan { manifest, fragment }: &PutPlan) -> Reply {
        match self.put_fragment(manifest, fragment) {
            Ok(()) => Reply::Stored { object: fragment.object(), index: fragment.index() },
            Err(error) => match error.no_room() {
                Some((free, need)) => Reply::Refused(Refusal::Full { free, need }),
                None => {
                    tracing::error!(%error, "the store failed");
                    Reply::Refused(Refusal::Failed)
                }
            },
        }
    }

    fn located(&self, object: BlobId) -> Reply {
        let held = self.get(object).and_then(|manifest| Ok((manifest, self.sound_fragments_of(object)?)));
        match held {
            Ok((Some(manifest), indices)) if !indices.is_empty() => Reply::Located { object, manifest, indices },
            Ok(_) => Reply::Refused(Refusal::Unknown { object }),
            Err(error) => {
                tracing::error!(%error, "the store failed");
                Reply::Refused(Refusal::Failed)
            }
        }
    }

    /// Begins to read groups of a fragment kept here. Without its `tree`, the whole fragment is read and hashed first. Blocks on the disk.
    ///
    /// # Errors
    /// The refusal to send: not kept here, no such groups, damaged, or the disk failed.
    pub fn read_range(&self, object: BlobId, index: u8, run: Run, tree: Option<Arc<Tree>>) -> Result<Reading, Refusal> {
        let item = Item::Fragment { object, index };
        let kept = self.kept(item).map_err(|error| self.refuse(object, index, &error))?.ok_or(Refusal::NotHolder { object, index })?;
        let expected = kept.location.hash;
        let tree = match tree.filter(|tree| tree.root() == expected) {
            Some(tree) => tree,
            None => Arc::new(kept.tree(item).map_err(|error| self.refuse(object, index, &error))?),
        };
        let invalid = || Refusal::Invalid { detail: format!("fragment {index} has {} groups", Run::all(tree.length()).count) };
        let encoder = Encoder::new(&tree, run).ok_or_else(invalid)?;
        Ok(Reading { object, index, run, kept, tree, encoder })
    }

    /// Bytes of a fragment as they stand on the disk, unchecked: for who has a digest of just these. Nothing if the fragment is not kept here or
    /// does not reach so far. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the disk does not reach so far, or what it says.
    pub fn peek_fragment(&self, object: BlobId, index: u8, at: u64, len: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let item = Item::Fragment { object, index };
        let end = at.saturating_add(as_u64(len));
        let Some(kept) = self.kept(item)?.filter(|kept| end <= kept.location.len.into()) else { return Ok(None) };
        let mut bytes = vec![0; len];
        kept.read(at, &mut bytes).map_err(|error| kept.failed(item, error))?;
        Ok(Some(bytes))
    }

    /// The refusal to send; what has rotted is marked.
    fn refuse(&self, object: BlobId, index: u8, error: &StoreError) -> Refusal {
        if matches!(error, StoreError::Corrupt(_)) {
            self.note_corrupt(Item::Fragment { object, index });
        }
        refusal(object, index, error)
    }

    /// Where an item stands, with its segment held open: collecting may delete the file, which is read to the end all the same.
    pub(super) fn kept(&self, item: Item) -> Result<Option<Kept>, StoreError> {
        let Some(mut location) = self.0.index.get(item)? else { return Ok(None) };
        for _ in 0..MOVES_MAX {
            if let Some(file) = self.segment(location.segment) {
                return Ok(Some(Kept { file, location }));
            }
            match self.0.index.get(item)? {
                Some(now) if now == location => break,
                Some(now) => location = now,
                None => return Ok(None),
            }
        }
        Err(Corrupt { item, expected: location.hash, got: None }.into())
    }
}

/// An item's record in a segment; the segment's file stays open as long as this.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    file: Arc<dyn DiskFile>,
    pub(super) location: Location,
}

impl Kept {
    pub(super) fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(self.location.at + as_u64(segment::RECORD_HEADER_BYTES) + at, out)
    }

    pub(super) fn failed(&self, item: Item, error: io::Error) -> StoreError {
        match segment::is_lost(&error) {
            true => Corrupt { item, expected: self.location.hash, got: None }.into(),
            false => io_error("read", segment::name(self.location.segment))(error),
        }
    }

    fn tree(&self, item: Item) -> Result<Tree, StoreError> {
        let (length, expected) = (usize::try_from(self.location.len).expect("32 bits fit a length"), self.location.hash);
        let (mut growing, mut piece) = (Growing::new(length), vec![0; PIECE_GROUPS as usize * GROUP_BYTES]);
        let mut at = 0;
        while at < length {
            let piece = &mut piece[..(length - at).min(PIECE_GROUPS as usize * GROUP_BYTES)];
            self.read(as_u64(at), piece).map_err(|error| self.failed(item, error))?;
            piece.chunks(GROUP_BYTES).for_each(|group| growing.push(group));
            at += piece.len();
        }
        let tree = growing.finish();
        match tree.root() {
            got if got == expected => Ok(tree),
            got => Err(Corrupt { item, expected, got: Some(got) }.into()),
        }
    }
}

/// Groups of a fragment being read.
#[derive(Debug)]
pub struct Reading {
    object: BlobId,
    index: u8,
    run: Run,
    kept: Kept,
    tree: Arc<Tree>,
    encoder: Encoder,
}

impl Reading {
    /// What is sent before the first piece.
    pub const fn head(&self) -> Reply {
        Reply::Range { object: self.object, index: self.index, run: self.run }
    }

    /// The fragment's pairs, for the next read of it.
    pub fn tree(&self) -> Arc<Tree> {
        Arc::clone(&self.tree)
    }

    /// Bytes of a piece, at most.
    pub fn piece_bytes(&self) -> usize {
        self.run.encoded_len(self.tree.length()).min(PIECE_BYTES)
    }

    /// Whether all pieces were read.
    pub fn is_done(&self) -> bool {
        self.encoder.is_done()
    }

    /// Puts the next piece into `out`, at most [`Reading::piece_bytes`]. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Store::read_range`]; what is damaged is not sent, and its pairs should be forgotten.
    pub fn piece(&mut self, out: &mut Vec<u8>) -> Result<(), Refusal> {
        out.clear();
        let Self { object, index, kept, tree, encoder, .. } = self;
        encoder.fill(tree, PIECE_GROUPS, out, |at, place| kept.read(at, place)).map_err(|error| {
            let item = Item::Fragment { object: *object, index: *index };
            let error = match error {
                FillError::Changed { expected, got, .. } => Corrupt { item, expected, got: Some(got) }.into(),
                FillError::Read(error) => kept.failed(item, error),
            };
            refusal(*object, *index, &error)
        })
    }
}

/// Told to the peer without detail; the log has it.
fn refusal(object: BlobId, index: u8, error: &StoreError) -> Refusal {
    tracing::error!(%error, "the store cannot serve a fragment it keeps");
    if matches!(error, StoreError::Corrupt(_)) { Refusal::Corrupt { object, index } } else { Refusal::Failed }
}
