//! Takes contributions out of the index: those that were erased on request, and those that the chain has taken back.
//!
//! Digests, shingles and outlines are overwritten where they stand, and the runs that name the documents are written anew without them: nothing that answers whether a phrase or a text was
//! there is left in a file. Numbers are not used again, and the end of a document's set stays, since the next one begins there; so the rest moves by no byte. The cost is a copy of those
//! runs, 170 bytes a document of theirs, beside the bytes that are overwritten; no shard is fetched, unpacked or sketched. *Against* tombstones that searches pass over: the bytes would stay.
//!
//! Order: everything is overwritten and synced, broad parities before the outlines that say where they stand, then the manifest stops counting it. A power cut between the two leaves a manifest
//! that counts what is partly overwritten: it is still [entered](OnDisk::entered), so whoever asks again does the same once more; a search that comes before finds damage, after which the index
//! is made anew.

use std::ops::Range;

use super::{
    DiskError, OnDisk, RECORD_BYTES, RECORDS, SETS, io_error,
    outlines::{BROAD, OUTLINE_BYTES, OUTLINES},
    search,
};
use crate::datanet::{Place, dedup::run::DIGESTS};

/// Records that are overwritten at once: 48 KiB.
const RECORDS_AT_ONCE: usize = 1 << 10;
/// Where in a record the end of its set stands: all that stays of it.
const END: Range<usize> = 32..40;

impl OnDisk {
    /// Takes contributions out. Nothing of them is in a file when this returns; places that are not entered are passed over.
    ///
    /// # Errors
    /// As [`OnDisk::insert`].
    pub(in super::super) fn forget(&mut self, places: &[Place]) -> Result<(), DiskError> {
        self.commit()?;
        let is_over = |place: &Place| places.contains(place);
        let over = self.entered.iter().filter(|entered| is_over(&entered.place) && entered.accepted.documents > 0);
        let gone: Vec<Range<u32>> = over.map(|entered| entered.first..entered.first + entered.accepted.documents).collect();
        self.is_stopped = true;
        self.leave_out(&gone)?;
        for numbers in &gone {
            self.blank_broad(numbers.clone())?;
        }
        self.broad.sync().map_err(io_error("write", BROAD))?;
        for numbers in &gone {
            self.blank(numbers.clone())?;
        }
        for (file, name) in self.growing() {
            file.sync().map_err(io_error("write", name))?;
        }
        self.entered.retain(|entered| !is_over(&entered.place));
        self.name()?;
        self.is_stopped = false;
        Ok(())
    }

    /// Documents whose numbers and room are used up and of which nothing is left.
    pub fn forgotten(&self) -> u32 {
        self.documents.saturating_sub(self.entered.iter().map(|entered| entered.accepted.documents).sum())
    }

    /// Writes the runs anew that name a document of these.
    fn leave_out(&mut self, gone: &[Range<u32>]) -> Result<(), DiskError> {
        // In the order of their numbers, as contributions are entered.
        let is_gone = |number: u32| {
            let begun = gone.partition_point(|numbers| numbers.start <= number);
            gone[..begun].last().is_some_and(|last| number < last.end)
        };
        for run in std::mem::take(&mut self.runs) {
            if run.count(DIGESTS, is_gone)? == 0 {
                self.runs.push(run);
                continue;
            }
            let left = run.without(self.disk.as_ref(), self.next_run, self.documents, is_gone)?;
            self.next_run += 1;
            self.merged.push(run.number);
            self.runs.extend(left);
        }
        Ok(())
    }

    fn blank_broad(&self, numbers: Range<u32>) -> Result<(), DiskError> {
        let mut outlines = self.outlines();
        for number in numbers {
            if let Some(words) = outlines.broad_of(number)? {
                self.broad.blank(words.start * 8..words.end * 8).map_err(io_error("write", BROAD))?;
            }
        }
        Ok(())
    }

    /// Overwrites sets, outlines and records of documents, which are some.
    fn blank(&self, numbers: Range<u32>) -> Result<(), DiskError> {
        let sets = match numbers.start.checked_sub(1) {
            Some(before) => self.end_of_set(before)?,
            None => 0,
        }..self.end_of_set(numbers.end - 1)?;
        self.sets.blank(sets.start * 8..sets.end * 8).map_err(io_error("write", SETS))?;
        let bytes = |each: usize| u64::from(numbers.start) * each as u64..u64::from(numbers.end) * each as u64;
        self.outlines.blank(bytes(OUTLINE_BYTES)).map_err(io_error("write", OUTLINES))?;
        let Range { start: mut at, end } = bytes(RECORD_BYTES);
        let mut records = Vec::new();
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(RECORDS_AT_ONCE * RECORD_BYTES);
            records.resize(len, 0);
            self.records.file().read(at, &mut records).map_err(io_error("read", RECORDS))?;
            for record in records.chunks_mut(RECORD_BYTES) {
                record[..END.start].fill(0);
                record[END.end..].fill(0);
            }
            self.records.file().write(at, &records).map_err(io_error("write", RECORDS))?;
            at += len as u64;
        }
        Ok(())
    }

    /// Where a document's set ends, which stays when the document goes.
    fn end_of_set(&self, number: u32) -> Result<u64, DiskError> {
        let mut bytes = [0; 8];
        let at = u64::from(number) * RECORD_BYTES as u64 + END.start as u64;
        self.records.file().read(at, &mut bytes).map_err(io_error("read", RECORDS))?;
        let end = u64::from_be_bytes(bytes);
        if end <= self.shingles { Ok(end) } else { Err(search::damaged_record(number)) }
    }
}
