//! Asks runs for buckets, and documents for their sets.
//!
//! The keys of a block of rows are asked for in ascending order, so that a run's keys are read from front to back in pieces of 64 KiB, where they are
//! dense, and a page each where they are not; the slots between two of them are passed by counting bits. What the buckets hold goes through the [sieve](super::sieve). The few rows with more candidates than may be compared are asked for once more:
//! each bucket that holds an earlier document becomes a [`Head`], and the heads of one row are walked side by side, in the order of priority, as the index in memory does, up to the bound; what a walk comes by is sifted as well. Rows that have
//! more heads together than [`HEADS_MAX`] are asked for in halves.

use std::{io, ops::Range};

use types::{contribution::Priority, id::BlobId};

use super::{
    DiskError, OnDisk,
    files::{BUFFER_BYTES, Window},
    runs::Run,
    sieve::Sieve,
};
use crate::datanet::dedup::{
    Batch, CANDIDATES_MAX, Match, Overlap,
    index::split,
    may_be_near, near,
    run::{Column, DIGESTS, first_slot, ones, page, pass, unpack},
};
use crate::lanes;

/// Most heads held: 20 bytes each. Tests hold few, so that they come to halves.
const HEADS_MAX: usize = if cfg!(test) { 1 << 7 } else { 1 << 18 };
/// Numbers of a bucket that are read at once once its first is no match.
const AHEAD: u32 = 64;
/// Entries of a slot that are all looked at: it has one or two but where texts are the same.
const FEW: usize = 8;
/// Bits of slots that are looked at together: a page has a tenth of that, but where texts are the same.
const SLOT_BITS_AT_ONCE: u64 = if cfg!(test) { 64 } else { 1 << 13 };

/// Candidates of a row that is walked which are checked one by one.
const CHECKED_MAX: usize = if cfg!(test) { 4 } else { 32 };

/// A row's bucket in a run, from an entry on.
#[derive(Debug, Clone, Copy)]
struct Head {
    row: u32,
    /// The document at `at`.
    document: u32,
    at: u32,
    end: u32,
    run: u16,
    column: u16,
}

/// A column that is asked for keys in ascending order.
pub(super) struct Asking<'r> {
    run: &'r Run,
    column: &'r Column,
    starts: &'r [u32],
    slots: Window<'r>,
    rests: Window<'r>,
    numbers: Window<'r>,
    /// Slots that were passed, and their entries.
    slot: u32,
    entry: u32,
    /// The last key, and its bucket.
    last: Option<(u32, Range<u32>)>,
}

fn bytes_of(count: u64, bits: u32) -> u64 {
    count * u64::from(bits) / 8
}

impl<'r> Asking<'r> {
    fn new(run: &'r Run, column: usize) -> Self {
        let (starts, column) = (&run.starts[column], &run.columns[column]);
        let window = |section: usize| Window::new(run.file.as_ref(), column.at[section + 1]);
        Self { run, column, starts, slots: window(1), rests: window(2), numbers: window(3), slot: 0, entry: 0, last: None }
    }

    /// The entries of a key.
    pub(super) fn bucket(&mut self, key: u32) -> Result<Range<u32>, DiskError> {
        if let Some((last, bucket)) = &self.last
            && *last == key
        {
            return Ok(bucket.clone());
        }
        let (slot, rest) = self.column.split(key);
        let in_slot = self.slot(slot).map_err(self.run.failed())?;
        let bucket = match in_slot.len() {
            0 => Ok(in_slot),
            1..=FEW => self.among(in_slot, rest),
            _ => self.equal(in_slot, rest),
        };
        let bucket = bucket.map_err(self.run.failed())?;
        self.last = Some((key, bucket.clone()));
        Ok(bucket)
    }

    /// The entries of a slot. Slots are passed from that of the last key on, or from the beginning of the page.
    fn slot(&mut self, slot: u32) -> io::Result<Range<u32>> {
        let page = page(slot);
        let (start, end) = (self.starts[page], self.starts[page + 1]);
        if start == end {
            return Ok(start..start);
        }
        let first = u32::try_from(first_slot(page)).expect("a page has 32 bits at most before it");
        if self.slot < first || self.slot > slot {
            (self.slot, self.entry) = (first, start);
        }
        let page_end = first_slot(page + 1) + u64::from(end);
        let mut count = 0;
        loop {
            let bit = u64::from(self.slot) + u64::from(self.entry) + u64::from(count);
            if bit >= page_end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let some = (page_end - bit).min(SLOT_BITS_AT_ONCE);
            let len = usize::try_from(some.div_ceil(8)).expect("few") + 8;
            let bytes = self.slots.get(self.column.at[1] + bit / 8, len)?;
            let from = usize::try_from(bit % 8).expect("below 8");
            let until = from + usize::try_from(some).expect("few");
            let ahead = slot - self.slot;
            let (passed, entries, more) = lanes::counting(|| {
                let (passed, entries) = pass(bytes, from, until, ahead);
                let at = from + (passed + entries) as usize;
                (passed, entries, if passed == ahead { ones(bytes, at, until) } else { 0 })
            });
            (self.slot, self.entry) = (self.slot + passed, self.entry + entries);
            if self.slot == slot {
                // A bucket may go on behind what was looked at.
                count += more;
                if u64::from(passed + entries + more) < some || bit + some == page_end {
                    return Ok(self.entry..self.entry + count);
                }
            }
        }
    }

    fn rest(&mut self, at: u32) -> io::Result<u32> {
        packed(&mut self.rests, self.column.at[2], at, self.column.rest_bits)
    }

    /// The same as [`Asking::equal`] for few entries: none is passed over, so the processor need not foresee which.
    fn among(&mut self, entries: Range<u32>, rest: u32) -> io::Result<Range<u32>> {
        let bits = self.column.rest_bits;
        let (first, end) = (u64::from(entries.start) * u64::from(bits), u64::from(entries.end) * u64::from(bits));
        let len = usize::try_from(end.div_ceil(8) - first / 8).expect("few") + 8;
        let bytes = self.rests.get(self.column.at[2] + first / 8, len)?;
        let (mut below, mut same, mut bit) = (0, 0, usize::try_from(first % 8).expect("below 8"));
        for _ in entries.clone() {
            let value = unpack(bytes, bit, bits);
            below += u32::from(value < rest);
            same += u32::from(value == rest);
            bit += bits as usize;
        }
        let from = entries.start + below;
        Ok(from..from + same)
    }

    /// The entries of a slot that have this rest.
    fn equal(&mut self, entries: Range<u32>, rest: u32) -> io::Result<Range<u32>> {
        let from = self.first(entries.clone(), u64::from(rest))?;
        if from == entries.end || self.rest(from)? != rest {
            return Ok(from..from);
        }
        Ok(from..self.first(from + 1..entries.end, u64::from(rest) + 1)?)
    }

    /// The first of these entries whose rest is at least `wanted`.
    fn first(&mut self, entries: Range<u32>, wanted: u64) -> io::Result<u32> {
        let (bits, Range { start: mut low, end: mut high }) = (self.column.rest_bits, entries);
        while bytes_of(u64::from(high - low), bits) > BUFFER_BYTES as u64 {
            let middle = low + (high - low) / 2;
            if u64::from(self.rest(middle)?) < wanted { low = middle + 1 } else { high = middle }
        }
        if low == high {
            return Ok(low);
        }
        let base = bytes_of(u64::from(low), bits);
        let len = (u64::from(high) * u64::from(bits)).div_ceil(8) - base;
        // Integers are unpacked from eight bytes, the last one too.
        let bytes = self.rests.get(self.column.at[2] + base, usize::try_from(len).expect("bounded above") + 8)?;
        let skipped = u64::from(low) * u64::from(bits) - 8 * base;
        let first = low;
        while low < high {
            let middle = low + (high - low) / 2;
            let bit = usize::try_from(skipped + u64::from(middle - first) * u64::from(bits)).expect("bounded above");
            if u64::from(unpack(bytes, bit, bits)) < wanted { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The documents of a bucket, in the order of priority; one that is read at once, as those that are sifted are.
    pub(super) fn documents(&mut self, bucket: Range<u32>) -> Result<impl Iterator<Item = u32>, DiskError> {
        let bits = self.run.shape.number_bits;
        let base = bytes_of(u64::from(bucket.start), bits);
        let end = (u64::from(bucket.end) * u64::from(bits)).div_ceil(8);
        let first = u64::from(bucket.start) * u64::from(bits) - 8 * base;
        // Integers are unpacked from eight bytes, the last one too.
        let len = usize::try_from(end - base).unwrap_or(usize::MAX) + 8;
        let bytes = self.numbers.get(self.column.at[3] + base, len).map_err(self.run.failed())?;
        let bit = move |at: u32| usize::try_from(first + u64::from(at) * u64::from(bits)).expect("as long as what was read");
        Ok((0..bucket.end - bucket.start).map(move |at| unpack(bytes, bit(at), bits)))
    }

    fn document(&mut self, at: u32) -> Result<u32, DiskError> {
        packed(&mut self.numbers, self.column.at[3], at, self.run.shape.number_bits).map_err(self.run.failed())
    }
}

/// One packed integer.
fn packed(window: &mut Window<'_>, section: u64, at: u32, bits: u32) -> io::Result<u32> {
    let base = bytes_of(u64::from(at), bits);
    let bit = usize::try_from(u64::from(at) * u64::from(bits) - 8 * base).expect("below 8");
    Ok(unpack(window.get(section + base, 8)?, bit, bits))
}

/// A bucket that is walked.
struct Walk<'r> {
    run: &'r Run,
    column: &'r Column,
    at: u32,
    end: u32,
    document: u32,
    priority: Priority,
    /// Documents behind this one that were read already, the next last.
    ahead: Vec<u32>,
}

impl OnDisk {
    /// For each text, the earliest document that has exactly it.
    pub(super) fn exact(&self, digests: &[BlobId]) -> Result<Vec<Option<Priority>>, DiskError> {
        let mut asked: Vec<(u32, u32)> = (0..).zip(digests).map(|(row, digest)| (digest_key(digest), row)).collect();
        asked.sort_unstable();
        let mut found: Vec<Option<Priority>> = vec![None; digests.len()];
        for run in &self.runs {
            let mut asking = Asking::new(run, DIGESTS);
            for (key, row) in &asked {
                for at in asking.bucket(*key)? {
                    let document = asking.document(at)?;
                    let record = self.record(document)?;
                    if digest_key(&record.digest) != *key {
                        return Err(damaged_record(document));
                    }
                    if record.digest == digests[*row as usize] {
                        let (priority, found) = (self.priority(document)?, &mut found[*row as usize]);
                        if found.is_none_or(|found| priority < found) {
                            *found = Some(priority);
                        }
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    /// The earliest near copy of each document of the batch among those before `before`.
    pub(super) fn nearest(&self, batch: &Batch, before: Priority) -> Result<Vec<Option<Match>>, DiskError> {
        let mut sieve = Sieve::new(self, batch, before);
        for run in &self.runs {
            for (column, asked) in batch.bands().iter().enumerate() {
                let mut asking = Asking::new(run, column);
                asked.iter().map(|entry| split(*entry)).try_for_each(|(key, row)| sieve.add(row, key, &mut asking))?;
            }
        }
        let mut left = vec![sieve.long()?];
        while let Some(rows) = left.pop() {
            let Some(mut heads) = self.heads(batch, &rows, before)? else {
                let (first, last) = rows.split_at(rows.len() / 2);
                left.extend([last.to_vec(), first.to_vec()]);
                continue;
            };
            heads.sort_unstable_by_key(|head| head.row);
            for heads in heads.chunk_by(|a, b| a.row == b.row) {
                self.walk(batch.set(heads[0].row as usize), heads, before, &mut sieve)?;
            }
        }
        sieve.finish()
    }

    /// The buckets of some rows that hold an earlier document; nothing if they are too many, of more than one row.
    fn heads(&self, batch: &Batch, rows: &[u32], before: Priority) -> Result<Option<Vec<Head>>, DiskError> {
        let mut heads = Vec::new();
        if rows.is_empty() {
            return Ok(Some(heads));
        }
        let mut is_asked = vec![false; batch.len()];
        rows.iter().for_each(|row| is_asked[*row as usize] = true);
        for (number, run) in (0..).zip(&self.runs) {
            for (column, asked) in (0..).zip(batch.bands()) {
                let mut asking = Asking::new(run, usize::from(column));
                for (key, row) in asked.iter().map(|entry| split(*entry)) {
                    if !is_asked[row as usize] {
                        continue;
                    }
                    let Range { start, end } = asking.bucket(key)?;
                    if start == end {
                        continue;
                    }
                    let document = asking.document(start)?;
                    if self.priority(document)? >= before {
                        continue;
                    }
                    if heads.len() == HEADS_MAX && rows.len() > 1 {
                        return Ok(None);
                    }
                    heads.push(Head { row, document, at: start, end, run: number, column });
                }
            }
        }
        Ok(Some(heads))
    }

    /// Walks the buckets of one row at once, earliest document first: the first few are checked as they come, since a text with many copies is found at once; the others are listed.
    fn walk(&self, set: &[u64], heads: &[Head], before: Priority, sieve: &mut Sieve<'_>) -> Result<(), DiskError> {
        let walk = |head: &Head| {
            let run = &self.runs[usize::from(head.run)];
            let column = &run.columns[usize::from(head.column)];
            let priority = self.priority(head.document)?;
            Ok(Walk { run, column, at: head.at, end: head.end, document: head.document, priority, ahead: Vec::new() })
        };
        let (row, mut outlines) = (heads[0].row, self.outlines());
        let mut walks = heads.iter().map(walk).collect::<Result<Vec<_>, DiskError>>()?;
        for nth in 0..CANDIDATES_MAX {
            let Some((priority, document)) = walks.iter().map(|walk| (walk.priority, walk.document)).min() else { break };
            if priority >= before {
                break;
            }
            if nth >= CHECKED_MAX {
                sieve.list(row, document)?;
            } else if outlines.may_be_near(document, sieve.rows(), row)?
                && let Some(overlap) = self.overlap(set, document)?
            {
                sieve.tell(row, Match { priority, overlap });
                break;
            }
            let mut at = 0;
            while at < walks.len() {
                if walks[at].document == document && !walks[at].step(self)? {
                    drop(walks.swap_remove(at));
                } else {
                    at += 1;
                }
            }
        }
        Ok(())
    }

    pub(super) fn overlap(&self, set: &[u64], document: u32) -> Result<Option<Overlap>, DiskError> {
        let record = self.record(document)?;
        if !may_be_near(set.len(), record.shingles()) {
            return Ok(None);
        }
        Ok(near(set, &self.set(document, &record)?))
    }
}

impl Walk<'_> {
    /// Goes to the bucket's next document; whether there is one.
    fn step(&mut self, index: &OnDisk) -> Result<bool, DiskError> {
        self.at += 1;
        if self.at == self.end {
            return Ok(false);
        }
        if self.ahead.is_empty() {
            let some = self.at..self.end.min(self.at + AHEAD);
            let mut window = Window::new(self.run.file.as_ref(), self.column.at[4]);
            let bits = self.run.shape.number_bits;
            let read = some.map(|at| packed(&mut window, self.column.at[3], at, bits));
            self.ahead = read.collect::<io::Result<_>>().map_err(self.run.failed())?;
            self.ahead.reverse();
        }
        self.document = self.ahead.pop().expect("filled above");
        self.priority = index.priority(self.document)?;
        Ok(true)
    }
}

/// The key of a digest.
pub(super) fn digest_key(digest: &BlobId) -> u32 {
    u32::from_be_bytes(*digest.0.first_chunk().expect("32 bytes hold 4"))
}

pub(super) fn damaged_record(document: u32) -> DiskError {
    DiskError::Damaged {
        file: super::RECORDS.into(),
        problem: format!("the record of document {document} is not the one that was written"),
    }
}
