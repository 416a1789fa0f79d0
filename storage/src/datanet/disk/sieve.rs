//! Sifts the candidates of many rows together: all but a few are told apart by their outlines, in the order of the file that holds them.
//!
//! A document's candidates grow with the index wherever documents share parts: with one of five paragraphs in common a band agrees once in 20 pairs. Reading a record and a set for each takes 3 us,
//! so 400 of them take a second a megabyte of text. Here a candidate is 8 bytes in a list, which is sorted by document when it is full; then outlines are read from front to back, and what
//! may be a near copy, nearly always one, is checked exactly, the earliest first: some 30 ns a candidate.
//!
//! The bound on comparisons cuts a row's candidates by priority, which the list knows nothing of. So a row is sifted only if its buckets together hold no more entries than the bound; every other
//! is [left](Sieve::long) to be walked, bucket beside bucket, and what a walk comes by within the bound is listed in turn.

use types::contribution::Priority;

use super::{
    DiskError, OnDisk,
    search::{Asking, damaged_record},
};
use crate::datanet::dedup::{Batch, CANDIDATES_MAX, Match, index::split, outline::Outline};

/// Most entries in the buckets of a row that is sifted. Tests have few, so that they come to walks.
const LISTED_MAX: usize = if cfg!(test) { 24 } else { CANDIDATES_MAX };
/// Candidates that are listed before they are sifted, 8 bytes each: a pass over the outlines of 10 million documents for two million candidates.
const PAIRS_MAX: usize = if cfg!(test) { 1 << 6 } else { 1 << 21 };
/// Candidates that passed, before they are checked: 32 bytes each.
const LIKELY_MAX: usize = if cfg!(test) { 1 << 3 } else { 1 << 16 };

/// Candidates of a batch's rows.
pub(super) struct Sieve<'i> {
    index: &'i OnDisk,
    batch: &'i Batch,
    before: Priority,
    outlines: Vec<Outline>,
    /// Entries in each row's buckets.
    entries: Vec<usize>,
    /// `document << 32 | row`.
    pairs: Vec<u64>,
    /// Row and document.
    likely: Vec<(u32, u32)>,
    found: Vec<Option<Match>>,
}

impl<'i> Sieve<'i> {
    pub(super) fn new(index: &'i OnDisk, batch: &'i Batch, before: Priority) -> Self {
        let outlines = (0..batch.len()).map(|row| Outline::of(batch.set(row))).collect();
        let (entries, found) = (vec![0; batch.len()], vec![None; batch.len()]);
        // Whole at once: a list that grows is held twice, and is left with twice the room.
        let pairs = Vec::with_capacity(PAIRS_MAX + LISTED_MAX);
        Self { index, batch, before, outlines, entries, pairs, likely: Vec::new(), found }
    }

    /// Lists the candidates of a row that have its key.
    pub(super) fn add(&mut self, row: u32, key: u32, asking: &mut Asking<'_>) -> Result<(), DiskError> {
        let bucket = asking.bucket(key)?;
        let entries = &mut self.entries[row as usize];
        *entries += bucket.len();
        if bucket.is_empty() || *entries > LISTED_MAX {
            return Ok(());
        }
        self.pairs.extend(asking.documents(bucket)?.map(|document| u64::from(document) << 32 | u64::from(row)));
        if self.pairs.len() >= PAIRS_MAX { self.sift() } else { Ok(()) }
    }

    /// Lists a candidate of a row.
    pub(super) fn list(&mut self, row: u32, document: u32) -> Result<(), DiskError> {
        self.pairs.push(u64::from(document) << 32 | u64::from(row));
        if self.pairs.len() >= PAIRS_MAX { self.sift() } else { Ok(()) }
    }

    /// Takes a near copy that is earlier than whatever is listed of its row.
    pub(super) fn tell(&mut self, row: u32, found: Match) {
        self.found[row as usize] = Some(found);
    }

    fn sift(&mut self) -> Result<(), DiskError> {
        let mut pairs = std::mem::take(&mut self.pairs);
        pairs.sort_unstable();
        pairs.dedup();
        let mut held = self.index.outlines();
        for (document, row) in pairs.drain(..).map(split) {
            if document >= self.index.documents {
                return Err(damaged_record(document));
            }
            if held.get(document)?.may_be_near(&self.outlines[row as usize]) {
                self.likely.push((row, document));
                if self.likely.len() == LIKELY_MAX {
                    self.settle()?;
                }
            }
        }
        self.pairs = pairs;
        Ok(())
    }

    /// Checks what passed, each row's earliest first.
    fn settle(&mut self) -> Result<(), DiskError> {
        let of = |(row, document)| Ok((row, self.index.priority(document)?, document));
        let mut likely = self.likely.drain(..).map(of).collect::<Result<Vec<_>, DiskError>>()?;
        likely.sort_unstable();
        for (row, priority, document) in likely {
            let found = &mut self.found[row as usize];
            if priority < self.before
                && found.is_none_or(|found| priority < found.priority)
                && let Some(overlap) = self.index.overlap(self.batch.set(row as usize), document)?
            {
                *found = Some(Match { priority, overlap });
            }
        }
        Ok(())
    }

    /// The rows that have more candidates than are listed; what was found of them is forgotten.
    pub(super) fn long(&mut self) -> Result<Vec<u32>, DiskError> {
        self.sift()?;
        self.settle()?;
        let long = (0..).zip(&self.entries).filter(|(_, entries)| **entries > LISTED_MAX).map(|(row, _)| row);
        let long: Vec<u32> = long.collect();
        long.iter().for_each(|row| self.found[*row as usize] = None);
        Ok(long)
    }

    /// The earliest near copy of each row.
    pub(super) fn finish(mut self) -> Result<Vec<Option<Match>>, DiskError> {
        self.sift()?;
        self.settle()?;
        Ok(self.found)
    }
}
