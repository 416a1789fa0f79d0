//! The manifest: which runs, how many documents and which contributions count. What it does not name is not there.
//!
//! ```text
//! TRIBNEAR, version u8 (3), generation u64, next run u32, documents u32, shingles u64, words of broad outlines u64
//! contributions u32 x (block u64, ordinal u32, contributor 20, text root 32, documents u32, object 32, salt u8 [32], text bytes u64, first number u32)
//! runs u32 x (number u32, BLAKE3 of the header 32)
//! BLAKE3 of all this
//! ```
//!
//! A generation is one file, written and synced under a name of its own before the last one is removed; the highest that is whole counts. So there is always a whole
//! one, also on file systems that reorder a rename.

use types::{
    encoding::{DecodeError, Reader, Writer},
    id::Hash32,
};

use super::Entered;
use crate::datanet::{Accepted, Place};

const MAGIC: &[u8; 8] = b"TRIBNEAR";
const VERSION: u8 = 3;
const SUFFIX: &str = ".manifest";

/// What counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) generation: u64,
    /// Runs are numbered on from here: a name is never used twice.
    pub(super) next_run: u32,
    pub(super) documents: u32,
    pub(super) shingles: u64,
    pub(super) broad: u64,
    /// In the order in which they were entered.
    pub(super) entered: Vec<Entered>,
    /// Number and hash of each.
    pub(super) runs: Vec<(u32, [u8; 32])>,
}

/// The name of a generation's file.
pub(super) fn name(generation: u64) -> String {
    format!("{generation:016}{SUFFIX}")
}

/// The generation of a file of this name.
pub(super) fn generation(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let count = |len: usize| u32::try_from(len).expect("fewer than documents");
        let w = Writer::new()
            .bytes(MAGIC)
            .u8(VERSION)
            .u64(self.generation)
            .u32(self.next_run)
            .u32(self.documents)
            .u64(self.shingles)
            .u64(self.broad);
        let w = w.u32(count(self.entered.len())).each(&self.entered, |w, entered| {
            let Entered { place, accepted, text_bytes, first } = entered;
            let w = w.u64(place.block).u32(place.ordinal).address(accepted.contributor).hash(accepted.text_root);
            let w = w.u32(accepted.documents).blob(accepted.object);
            let w = match accepted.text_salt {
                Some(salt) => w.u8(1).hash(salt),
                None => w.u8(0),
            };
            w.u64(*text_bytes).u32(*first)
        });
        let w = w.u32(count(self.runs.len())).each(&self.runs, |w, (number, hash)| w.u32(*number).bytes(hash));
        let mut bytes = w.finish();
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bad = |field| DecodeError::Value { field, got: 0, expected: "TRIBNEAR version 3 and its hash" };
        let (body, hash) = bytes.split_last_chunk::<32>().ok_or_else(|| bad("hash"))?;
        if blake3::hash(body).as_bytes() != hash {
            return Err(bad("hash"));
        }
        let mut r = Reader::new(body);
        if r.bytes("magic", MAGIC.len())? != MAGIC || r.u8("version")? != VERSION {
            return Err(bad("version"));
        }
        let (generation, next_run) = (r.u64("generation")?, r.u32("next run")?);
        let (documents, shingles, broad) = (r.u32("documents")?, r.u64("shingles")?, r.u64("broad outlines")?);
        let (mut entered, mut runs) = (Vec::new(), Vec::new());
        for _ in 0..r.u32("contributions")? {
            let place = Place { block: r.u64("block")?, ordinal: r.u32("ordinal")? };
            let (contributor, text_root) = (r.address("contributor")?, r.hash("text root")?);
            let (documents, object) = (r.u32("documents")?, r.blob("object")?);
            let text_salt: Option<Hash32> = (r.u8("salt")? == 1).then(|| r.hash("salt")).transpose()?;
            let accepted = Accepted { contributor, text_root, documents, object, text_salt };
            entered.push(Entered { place, accepted, text_bytes: r.u64("text bytes")?, first: r.u32("first number")? });
        }
        for _ in 0..r.u32("runs")? {
            runs.push((r.u32("run")?, *r.bytes("hash", 32)?.first_chunk().expect("32 bytes")));
        }
        r.finish()?;
        Ok(Self { generation, next_run, documents, shingles, broad, entered, runs })
    }
}
