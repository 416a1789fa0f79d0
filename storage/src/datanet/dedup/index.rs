//! The index of documents by their bands, in memory: immutable sorted runs, merged as they grow. One contribution's rows stand in it, and it is the model of the one on disk.
//!
//! Documents are ranked by priority. A run holds, for each of the 32 bands, `key << 32 | rank` in ascending order, so a bucket lists its documents
//! earliest first. A contribution is one run; a run is merged with its neighbour once that is less than four times as long, so a document is copied
//! some log(n) times and a million of them stand in at most ten runs. A contribution that is accepted late and ranks among earlier
//! ones moves the ranks after it: one pass, the order of every run stays.
//!
//! Bounds: per document 256 bytes of bands, 32 of entry, 8 per shingle; [`SHINGLES_MAX`] in all. A document is compared with at most
//! [`CANDIDATES_MAX`] others, the earliest that share a band: whoever fills buckets with texts that share a band and nothing else makes others'
//! copies dearer to find by so much and no more.

use types::contribution::Priority;

use super::{BANDS, Overlap, Permutations, Shingler, near};

/// Most shingles an index in memory holds: 2 GiB of them, some 1.6 GB of text.
pub const SHINGLES_MAX: usize = 1 << 28;
/// Most documents that one is compared with. Templated rows of real corpora stay below; a comparison costs about a microsecond.
pub const CANDIDATES_MAX: usize = 1 << 12;

/// Why documents do not enter an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It would hold too much.
    #[error("{got} shingles, an index in memory holds at most {SHINGLES_MAX}: open another Datanet for what comes next")]
    Full {
        /// With the new ones.
        got: usize,
    },
    /// Documents of one contribution are not next to each other in the order of priority.
    #[error("documents from priority {first:?} on reach across one that is there already")]
    Interleaved {
        /// The first of them.
        first: Priority,
    },
}

/// Documents that follow each other in priority, with their sets and bands.
#[derive(Debug, Clone)]
pub struct Batch {
    first: Priority,
    /// End of each document's set in `sets`.
    ends: Vec<usize>,
    sets: Vec<u64>,
    run: Run,
}

impl Batch {
    /// Sketches `texts`, whose first has priority `first` and whose others are numbered on from it.
    pub fn new<'a>(permutations: &Permutations, first: Priority, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut ends, mut sets, mut run) = (Vec::new(), Vec::new(), Run::default());
        let mut shingler = Shingler::default();
        for (number, text) in (0_u32..).zip(texts) {
            let set = shingler.shingles(text);
            if let Some(signature) = permutations.signature(&set) {
                for (band, key) in run.bands.iter_mut().zip(signature.keys()) {
                    band.push(u64::from(key) << 32 | u64::from(number));
                }
            }
            sets.extend_from_slice(&set);
            ends.push(sets.len());
        }
        run.bands.iter_mut().for_each(|band| band.sort_unstable());
        Self { first, ends, sets, run }
    }

    /// Documents in it.
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Per band, `key << 32 | number in the batch` ascending.
    #[cfg(feature = "disk")]
    pub(crate) const fn bands(&self) -> &[Vec<u64>; BANDS] {
        &self.run.bands
    }

    /// The shingles of document `number` of the batch.
    pub fn set(&self, number: usize) -> &[u64] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.sets[start..self.ends[number]]
    }
}

/// A near copy that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Priority of the earlier document.
    pub priority: Priority,
    /// What both share.
    pub overlap: Overlap,
}

/// Accepted documents, searchable for near copies.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// In the order of priority; a document's rank is its place here.
    pub(super) entries: Vec<Entry>,
    pub(super) runs: Vec<Run>,
    sets: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) priority: Priority,
    start: usize,
    len: usize,
}

/// Per band, `key << 32 | rank` ascending.
#[derive(Debug, Clone)]
pub(super) struct Run {
    bands: [Vec<u64>; BANDS],
}

impl Default for Run {
    fn default() -> Self {
        Self { bands: [const { Vec::new() }; BANDS] }
    }
}

/// Where a document's bucket starts in a run.
#[derive(Debug, Clone, Copy)]
struct Head {
    row: u32,
    key: u32,
    at: u32,
    run: u16,
    band: u16,
}

const fn rank(entry: u64) -> u32 {
    (entry & 0xffff_ffff) as u32 // cut to the low half on purpose
}

const fn key(entry: u64) -> u32 {
    (entry >> 32) as u32 // 32 bits are left
}

/// Key and number of an entry.
#[cfg(feature = "disk")]
pub(crate) const fn split(entry: u64) -> (u32, u32) {
    (key(entry), rank(entry))
}

impl Index {
    /// One without documents.
    pub const fn new() -> Self {
        Self { entries: Vec::new(), runs: Vec::new(), sets: Vec::new() }
    }

    /// Documents in it.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many of its documents are earlier than `priority`.
    pub fn earlier_than(&self, priority: Priority) -> u32 {
        u32::try_from(self.entries.partition_point(|entry| entry.priority < priority)).unwrap_or(u32::MAX)
    }

    /// Enters documents.
    ///
    /// # Errors
    /// [`IndexError`] if there is no room or the batch reaches across a document that is there; nothing is entered then.
    pub fn insert(&mut self, batch: &Batch) -> Result<(), IndexError> {
        let got = self.sets.len() + batch.sets.len();
        if got > SHINGLES_MAX || u32::try_from(self.entries.len() + batch.len()).is_err() {
            return Err(IndexError::Full { got });
        }
        let at = self.entries.partition_point(|entry| entry.priority < batch.first);
        let numbered = |number: usize| {
            let document = u32::try_from(number).ok().and_then(|number| batch.first.document.checked_add(number));
            Priority { document: document.unwrap_or(u32::MAX), ..batch.first }
        };
        let last = numbered(batch.len().saturating_sub(1));
        if self.entries.get(at).is_some_and(|next| next.priority <= last) {
            return Err(IndexError::Interleaved { first: batch.first });
        }
        let (rank_at, added) = (at as u64, batch.len() as u64); // usize is at most 64 bits
        for entry in self.runs.iter_mut().flat_map(|run| run.bands.iter_mut().flatten()) {
            if u64::from(rank(*entry)) >= rank_at {
                *entry += added;
            }
        }
        let base = self.sets.len();
        let entries = (0..batch.len()).map(|number| {
            let start = number.checked_sub(1).map_or(0, |before| batch.ends[before]);
            Entry { priority: numbered(number), start: base + start, len: batch.ends[number] - start }
        });
        self.entries.splice(at..at, entries);
        self.sets.extend_from_slice(&batch.sets);
        let mut run = batch.run.clone();
        run.bands.iter_mut().flatten().for_each(|entry| *entry += rank_at);
        self.push(run);
        Ok(())
    }

    fn push(&mut self, run: Run) {
        self.runs.push(run);
        while let [.., before, last] = &self.runs[..]
            && before.bands[0].len() < 4 * last.bands[0].len()
        {
            let last = self.runs.pop().expect("two runs");
            let before = self.runs.pop().expect("two runs");
            self.runs.push(before.merged(&last));
        }
    }

    pub(super) fn set(&self, rank: u32) -> &[u64] {
        let Entry { start, len, .. } = self.entries[rank as usize];
        &self.sets[start..start + len]
    }

    /// For each document of the batch, the earliest near copy among this index's documents that are ranked below `before(number)`.
    pub fn earliest(&self, batch: &Batch, before: impl Fn(u32) -> u32) -> Vec<Option<Match>> {
        let mut found = vec![None; batch.len()];
        self.search(
            &batch.run,
            &before,
            |number| batch.set(number as usize),
            |number, rank, overlap| {
                found[number as usize] = Some(Match { priority: self.entries[rank as usize].priority, overlap });
            },
        );
        found
    }

    /// The earliest near copy of each document of `run`, told by `tell(document, rank, overlap)`.
    pub(super) fn search<'a>(
        &self,
        run: &Run,
        before: &impl Fn(u32) -> u32,
        set: impl Fn(u32) -> &'a [u64],
        mut tell: impl FnMut(u32, u32, Overlap),
    ) {
        let mut heads = self.heads(run, before);
        heads.sort_unstable_by_key(|head| head.row);
        for heads in heads.chunk_by_mut(|a, b| a.row == b.row) {
            let row = heads[0].row;
            if let Some((rank, overlap)) = self.first_near(set(row), heads, before(row)) {
                tell(row, rank, overlap);
            }
        }
    }

    /// The buckets of `run`'s documents that hold an earlier document.
    fn heads(&self, run: &Run, before: &impl Fn(u32) -> u32) -> Vec<Head> {
        let mut heads = Vec::new();
        for (number, held) in (0..).zip(&self.runs) {
            for (band, (asked, held)) in (0..).zip(run.bands.iter().zip(&held.bands)) {
                let mut at = 0;
                for entry in asked {
                    at = seek(held, at, key(*entry));
                    let Some(first) = held.get(at) else { break };
                    if key(*first) == key(*entry) && rank(*first) < before(rank(*entry)) {
                        let at = u32::try_from(at).expect("a band has as many entries as there are documents at most");
                        heads.push(Head { row: rank(*entry), key: key(*entry), at, run: number, band });
                    }
                }
            }
        }
        heads
    }

    /// Walks several buckets at once, earliest document first.
    fn first_near(&self, set: &[u64], heads: &mut [Head], before: u32) -> Option<(u32, Overlap)> {
        let at = |head: &Head| {
            let entry = self.runs[usize::from(head.run)].bands[usize::from(head.band)].get(head.at as usize)?;
            Some(rank(*entry)).filter(|rank| key(*entry) == head.key && *rank < before)
        };
        for _ in 0..CANDIDATES_MAX {
            let candidate = heads.iter().filter_map(at).min()?;
            if let Some(overlap) = near(set, self.set(candidate)) {
                return Some((candidate, overlap));
            }
            heads.iter_mut().filter(|head| at(head) == Some(candidate)).for_each(|head| head.at += 1);
        }
        None
    }
}

impl Run {
    fn merged(&self, other: &Self) -> Self {
        let mut bands = [const { Vec::new() }; BANDS];
        for (merged, (a, b)) in bands.iter_mut().zip(self.bands.iter().zip(&other.bands)) {
            *merged = merge(a, b);
        }
        Self { bands }
    }
}

fn merge(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x <= y {
            merged.push(*x);
            i += 1;
        } else {
            merged.push(*y);
            j += 1;
        }
    }
    merged.extend_from_slice(&a[i..]);
    merged.extend_from_slice(&b[j..]);
    merged
}

/// The first place from `from` on whose key is at least `wanted`, by steps that double.
fn seek(entries: &[u64], from: usize, wanted: u32) -> usize {
    let wanted = u64::from(wanted) << 32;
    let (mut low, mut step) = (from, 1);
    while entries.get(low + step - 1).is_some_and(|entry| *entry < wanted) {
        low += step;
        step *= 2;
    }
    let high = (low + step).min(entries.len());
    low + entries[low..high].partition_point(|entry| *entry < wanted)
}
