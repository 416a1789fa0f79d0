//! What has come of an object: bytes in their places, and which groups of which fragment they are.
//!
//! Fragments that are parts of the object lie in one buffer, in order, so that nothing is copied together at the end; others have their own. Pages of
//! either are the system's until bytes come. A fragment's pairs are kept too (64 bytes a group): with them whatever has come can be written
//! down so that it proves itself when it is read ([`Parts::unsaved`]).

use std::collections::{BTreeMap, BTreeSet};

use super::FetchError;
use crate::{
    erasure::{self, Content, ObjectManifest, Proof, ReconstructError, VerifiedFragment, false_fragment},
    proto::range::{Block, Decoder, Encoder, GROUP_BYTES, Run, Shape, Tree},
};

/// Most groups of one [`Record`]: 1 MiB.
pub const RECORD_GROUPS: u32 = 64;

/// Good bytes of an object's fragments. Survives a fetch that failed, for the next one.
#[derive(Debug)]
pub struct Parts {
    manifest: ObjectManifest,
    /// The fragments that are the object, in order.
    object: Vec<u8>,
    content: Content,
    others: BTreeMap<u8, Vec<u8>>,
    fragments: BTreeMap<u8, Fragment>,
}

#[derive(Debug)]
struct Fragment {
    tree: Tree,
    /// Per group.
    has: Vec<bool>,
    saved: Vec<bool>,
    count: u32,
}

/// Groups of one fragment, as they would travel: what a half-done fetch leaves on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which fragment.
    pub index: u8,
    /// Which groups, at most [`RECORD_GROUPS`].
    pub run: Run,
    /// [`Run::encoded_len`] bytes.
    pub bytes: Vec<u8>,
}

impl Record {
    /// The groups, each checked against the manifest; nothing if they are not its.
    pub fn open(&self, manifest: &ObjectManifest) -> Option<Vec<Block>> {
        let mut decoder = Decoder::new(manifest, self.index, self.run)?;
        let (mut rest, mut blocks) = (&self.bytes[..], Vec::new());
        while !decoder.is_done() {
            let space = decoder.space();
            let (piece, later) = rest.split_at_checked(space.len())?;
            space.copy_from_slice(piece);
            rest = later;
            blocks.extend(decoder.advance(piece.len()).ok()?);
        }
        rest.is_empty().then_some(blocks)
    }
}

impl Parts {
    pub(super) fn new(manifest: ObjectManifest) -> Self {
        let object = vec![0; usize::from(manifest.profile().data()) * manifest.fragment_len()];
        let content = Content::new(manifest.length());
        Self { manifest, object, content, others: BTreeMap::new(), fragments: BTreeMap::new() }
    }

    /// The object's manifest.
    pub const fn manifest(&self) -> &ObjectManifest {
        &self.manifest
    }

    /// Bytes of the object's fragments that are here.
    pub fn bytes(&self) -> u64 {
        let shape = Shape::of(self.manifest.fragment_len());
        let groups = self.fragments.values().flat_map(|fragment| (0..).zip(&fragment.has)).filter(|(_, has)| **has);
        groups.map(|(group, _)| u64::try_from(shape.group_len(group)).unwrap_or(0)).sum()
    }

    pub(super) fn groups(&self) -> u32 {
        Run::all(self.manifest.fragment_len()).count
    }

    /// Groups of a fragment that are here.
    pub(super) fn count(&self, index: u8) -> u32 {
        self.fragments.get(&index).map_or(0, |fragment| fragment.count)
    }

    pub(super) fn is_whole(&self, index: u8) -> bool {
        self.count(index) == self.groups()
    }

    /// Fragments that are here.
    pub(super) fn whole(&self) -> usize {
        self.fragments.values().filter(|fragment| fragment.count == self.groups()).count()
    }

    /// Groups of a fragment that are not here, in rows.
    pub(super) fn missing(&self, index: u8) -> Vec<Run> {
        match self.fragments.get(&index) {
            Some(fragment) => runs(&fragment.has, false, u32::MAX),
            None => vec![Run { first: 0, count: self.groups() }],
        }
    }

    /// Takes a block in; gives the bytes of it that are new. A block of another object is none.
    pub(super) fn place(&mut self, block: &Block) -> u64 {
        let (index, length) = (block.index(), self.manifest.fragment_len());
        let Some(root) = self.manifest.fragments().get(usize::from(index)).filter(|_| block.object() == self.manifest.id()) else {
            return 0;
        };
        let (shape, groups) = (Shape::of(length), self.groups() as usize);
        let fragment = self.fragments.entry(index).or_insert_with(|| Fragment {
            tree: Tree::unknown(root.blake3, length),
            has: vec![false; groups],
            saved: vec![false; groups],
            count: 0,
        });
        block.pairs().iter().for_each(|(place, pair)| fragment.tree.learn(*place, *pair));
        let Run { first, .. } = block.run();
        let start = shape.offset(first);
        let place = match self.object.chunks_mut(length).nth(index.into()) {
            Some(place) => place,
            None => self.others.entry(index).or_insert_with(|| vec![0; length]).as_mut_slice(),
        };
        if let Some(place) = place.get_mut(start..start + block.bytes().len()) {
            place.copy_from_slice(block.bytes());
        }
        let mut new = 0;
        for group in first..block.run().end() {
            if let Some(has) = fragment.has.get_mut(group as usize).filter(|has| !**has) {
                (*has, fragment.count) = (true, fragment.count + 1);
                new += u64::try_from(shape.group_len(group)).unwrap_or(0);
            }
        }
        if new > 0 {
            self.hash(usize::from(index) * length + start, block.bytes().len());
        }
        new
    }

    /// Hashes what is whole of the object now that bytes came at a place of it.
    fn hash(&mut self, at: usize, length: usize) {
        let (fragments, shape) = (&self.fragments, Shape::of(self.manifest.fragment_len()));
        self.content.came(&self.object, at..at + length, |range| {
            let first = range.start / shape.length();
            (first..range.end.div_ceil(shape.length())).all(|index| {
                let has = u8::try_from(index).ok().and_then(|index| fragments.get(&index)).map_or(&[][..], |fragment| &fragment.has);
                let start = range.start.saturating_sub(index * shape.length());
                let end = (range.end - index * shape.length()).min(shape.length());
                has.get(start / GROUP_BYTES..end.div_ceil(GROUP_BYTES)).is_some_and(|has| has.iter().all(|has| *has))
            })
        });
    }

    /// Says that groups need not be written down: they were read from where they would be.
    pub(super) fn note_saved(&mut self, index: u8, run: Run) {
        if let Some(fragment) = self.fragments.get_mut(&index) {
            let saved = fragment.saved.get_mut(run.first as usize..run.end() as usize);
            saved.into_iter().flatten().for_each(|saved| *saved = true);
        }
    }

    /// What is here and was not given out yet, `limit` records at most.
    pub fn unsaved(&mut self, limit: usize) -> Vec<Record> {
        let mut wanted = Vec::new();
        for (index, fragment) in &self.fragments {
            let new: Vec<bool> = fragment.has.iter().zip(&fragment.saved).map(|(has, saved)| *has && !saved).collect();
            wanted.extend(runs(&new, true, RECORD_GROUPS).into_iter().map(|run| (*index, run)));
        }
        wanted.truncate(limit);
        let records: Vec<_> = wanted.into_iter().filter_map(|(index, run)| self.record(index, run)).collect();
        records.iter().for_each(|record| self.note_saved(record.index, record.run));
        records
    }

    fn record(&self, index: u8, run: Run) -> Option<Record> {
        let tree = &self.fragments.get(&index)?.tree;
        let bytes_of = self.fragment(index)?;
        let mut bytes = Vec::with_capacity(run.encoded_len(tree.length()));
        let mut encoder = Encoder::new(tree, run)?;
        let read = |at: u64, place: &mut [u8]| {
            let at = usize::try_from(at).map_err(drop)?;
            place.copy_from_slice(bytes_of.get(at..at + place.len()).ok_or(())?);
            Ok::<_, ()>(())
        };
        encoder.fill(tree, run.count, &mut bytes, read).ok()?;
        Some(Record { index, run, bytes })
    }

    fn fragment(&self, index: u8) -> Option<&[u8]> {
        match self.object.chunks(self.manifest.fragment_len()).nth(index.into()) {
            Some(part) => Some(part),
            None => self.others.get(&index).map(Vec::as_slice),
        }
    }

    /// The object, once as many fragments are here as suffice. Where they make another than the manifest says, or, if that `is_reencoded`, the object
    /// makes others, the proof of it.
    pub(super) fn finish(mut self, is_reencoded: bool) -> Result<(ObjectManifest, Vec<u8>), FetchError> {
        let data = self.manifest.profile().data();
        let whole: BTreeSet<u8> = self.fragments.keys().copied().filter(|index| self.is_whole(*index)).collect();
        let here = whole.iter().filter(|index| **index < data).map(|index| usize::from(*index)).collect();
        let others = self.others.iter().filter(|(index, _)| whole.contains(index));
        let others = others.map(|(index, bytes)| (usize::from(*index), bytes.as_slice())).collect();
        match erasure::complete(&self.manifest, &mut self.object, &here, &others, &self.content) {
            Ok(()) => match is_reencoded.then(|| false_fragment(&self.manifest, &self.object)).flatten() {
                None => Ok((self.manifest, self.object)),
                Some(fragment) => {
                    // Its padding, which was cut off, is zero.
                    self.object.resize(usize::from(data) * self.manifest.fragment_len(), 0);
                    Err(self.lied(ReconstructError::FalseFragment { object: self.manifest.id(), fragment }, &whole))
                }
            },
            Err(error) => Err(self.lied(error, &whole)),
        }
    }

    fn lied(&self, error: ReconstructError, whole: &BTreeSet<u8>) -> FetchError {
        match Proof::find(&self.manifest, &self.verified(whole)) {
            Ok(Some(proof)) => FetchError::Lied { error, proof: Box::new(proof) },
            _ => error.into(),
        }
    }

    /// Copies of whole fragments.
    fn verified(&self, whole: &BTreeSet<u8>) -> Vec<VerifiedFragment> {
        whole.iter().filter_map(|index| self.manifest.assembled(*index, self.fragment(*index)?.to_vec())).collect()
    }
}

/// Rows of places where `flags` are `wanted`, each at most so long.
fn runs(flags: &[bool], wanted: bool, longest: u32) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (group, _) in (0..).zip(flags).filter(|(_, flag)| **flag == wanted) {
        match runs.last_mut() {
            Some(run) if run.end() == group && run.count < longest => run.count += 1,
            _ => runs.push(Run { first: group, count: 1 }),
        }
    }
    runs
}
