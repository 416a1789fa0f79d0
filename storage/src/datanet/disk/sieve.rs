//! Sifts the candidates of many rows together: all but a few are told apart by their outlines, in the order of the file that holds them.
//!
//! A document's candidates grow with the index wherever documents share parts: with one of five paragraphs in common a band agrees once in 20 pairs. Reading a record and a set for each takes 3 us,
//! so 400 of them take a second a megabyte of text. Here a candidate is 4 bytes in the list of a *stretch* of 4,096 documents, whose outlines are 128 KiB: when so many wait that memory is used up, a
//! stretch is read at a time and what waits for it is told apart where the processor has it at hand. What may be a near copy, nearly always one, is checked exactly, the earliest first: some
//! 10 ns a candidate. *Against* one list that is sorted by document: it took twice that, and twice the memory, hence twice the passes over the outlines.
//!
//! The bound on comparisons cuts a row's candidates by priority, which the lists know nothing of. So a row is sifted only if its buckets together hold no more entries than the bound; every other
//! is [left](Sieve::long) to be walked, bucket beside bucket, and what a walk comes by within the bound is listed in turn.

use types::contribution::Priority;

use super::{
    DiskError, OnDisk, io_error,
    outlines::{Held, Likeness, OUTLINE_BYTES, OUTLINES, Outlines, Rows, damaged},
    search::{Asking, damaged_record},
};
use crate::{
    datanet::dedup::{Batch, CANDIDATES_MAX, Match},
    lanes,
};

/// Most entries in the buckets of a row that is sifted. Tests have few, so that they come to walks.
const LISTED_MAX: usize = if cfg!(test) { 24 } else { CANDIDATES_MAX };
/// Bits of a document's number within its stretch, and of a row: 32 together.
const STRETCH_BITS: u32 = if cfg!(test) { 4 } else { 12 };
const ROW_BITS: u32 = 20;
/// Documents of a stretch.
const STRETCH: usize = 1 << STRETCH_BITS;
/// Candidates of a link of a stretch's list.
const LINK: usize = if cfg!(test) { 4 } else { 128 };
/// Links of all lists, 512 bytes each: 7.5 million candidates, as many as 15,000 rows have among 9 million documents if they have 500 each.
const LINKS_MAX: usize = if cfg!(test) { 16 } else { 60_000 };
/// Fewest candidates of a stretch that is read as a whole: of fewer, each outline is read by itself.
const WHOLE_MIN: usize = STRETCH / 16;
/// Candidates that passed, before they are checked: 32 bytes each.
const LIKELY_MAX: usize = if cfg!(test) { 1 << 3 } else { 1 << 15 };
/// Candidates that wait for broad parities, 8 bytes each.
const OPEN_MAX: usize = if cfg!(test) { 1 << 3 } else { 1 << 16 };
/// No link.
const NONE: u32 = u32::MAX;

/// Candidates by stretch: lists of links, each of which says the one before.
struct Pairs {
    /// `document in its stretch << 20 | row`, a link after another.
    values: Vec<u32>,
    before: Vec<u32>,
    /// Last link of each stretch, and how many it holds.
    last: Vec<(u32, u32)>,
}

impl Pairs {
    fn new(documents: u32) -> Self {
        let stretches = usize::try_from(documents).unwrap_or(usize::MAX).div_ceil(STRETCH);
        Self { values: Vec::new(), before: Vec::new(), last: vec![(NONE, 0); stretches] }
    }

    /// Lists a candidate; whether there was room.
    #[inline]
    fn push(&mut self, row: u32, document: u32) -> bool {
        let last = &mut self.last[(document >> STRETCH_BITS) as usize];
        if last.0 == NONE || last.1 as usize == LINK {
            if self.before.len() == LINKS_MAX {
                return false;
            }
            if self.values.capacity() == 0 {
                // Whole at once: a list that grows is held twice. What is not used is never touched.
                self.values.reserve_exact(LINKS_MAX * LINK);
            }
            self.before.push(last.0);
            self.values.resize(self.before.len() * LINK, 0);
            *last = (u32::try_from(self.before.len() - 1).expect("few links"), 0);
        }
        let within = document & ((1 << STRETCH_BITS) - 1);
        self.values[last.0 as usize * LINK + last.1 as usize] = within << ROW_BITS | row;
        last.1 += 1;
        true
    }

    /// The links of a stretch, the last first.
    fn links(&self, stretch: usize) -> impl Iterator<Item = &[u32]> {
        let mut next = self.last[stretch];
        std::iter::from_fn(move || {
            let (link, count) = next;
            let start = (link != NONE).then_some(link as usize * LINK)?;
            next = (self.before[link as usize], u32::try_from(LINK).expect("few"));
            Some(&self.values[start..start + count as usize])
        })
    }

    fn clear(&mut self) {
        self.values.clear();
        self.before.clear();
        self.last.fill((NONE, 0));
    }
}

/// Candidates of a batch's rows.
pub(super) struct Sieve<'i> {
    index: &'i OnDisk,
    batch: &'i Batch,
    before: Priority,
    rows: Rows,
    /// Entries in each row's buckets.
    entries: Vec<usize>,
    pairs: Pairs,
    /// Document and row, that wait for broad parities.
    open: Vec<(u32, u32)>,
    /// Row and document.
    likely: Vec<(u32, u32)>,
    found: Vec<Option<Match>>,
}

impl<'i> Sieve<'i> {
    pub(super) fn new(index: &'i OnDisk, batch: &'i Batch, before: Priority) -> Self {
        assert!(batch.len() <= 1 << ROW_BITS, "a contribution has no more rows");
        let (entries, found) = (vec![0; batch.len()], vec![None; batch.len()]);
        let pairs = Pairs::new(index.documents);
        Self { index, batch, before, rows: Rows::new(batch), entries, pairs, open: Vec::new(), likely: Vec::new(), found }
    }

    /// The rows' outlines.
    pub(super) const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Lists the candidates of a row that have its key.
    pub(super) fn add(&mut self, row: u32, key: u32, asking: &mut Asking<'_>) -> Result<(), DiskError> {
        let bucket = asking.bucket(key)?;
        if bucket.is_empty() {
            return Ok(());
        }
        let entries = &mut self.entries[row as usize];
        *entries += bucket.len();
        if *entries > LISTED_MAX {
            return Ok(());
        }
        asking.documents(bucket)?.try_for_each(|document| self.list(row, document))
    }

    /// Lists a candidate of a row.
    #[inline]
    pub(super) fn list(&mut self, row: u32, document: u32) -> Result<(), DiskError> {
        if document >= self.index.documents {
            return Err(damaged_record(document));
        }
        if !self.pairs.push(row, document) {
            self.sift()?;
            assert!(self.pairs.push(row, document), "what was sifted is listed no more");
        }
        Ok(())
    }

    /// Takes a near copy that is earlier than whatever is listed of its row.
    pub(super) fn tell(&mut self, row: u32, found: Match) {
        self.found[row as usize] = Some(found);
    }

    fn sift(&mut self) -> Result<(), DiskError> {
        let mut pairs = std::mem::replace(&mut self.pairs, Pairs::new(0));
        let (mut outlines, mut buffer, mut few) = (self.index.outlines(), Vec::new(), Vec::<u32>::new());
        for stretch in 0..pairs.last.len() {
            let first = u32::try_from(stretch * STRETCH).expect("below the number of documents");
            if pairs.links(stretch).map(<[u32]>::len).sum::<usize>() < WHOLE_MIN {
                few.clear();
                few.extend(pairs.links(stretch).flatten());
                few.sort_unstable();
                for value in &few {
                    let (row, document) = (value & ((1 << ROW_BITS) - 1), first + (value >> ROW_BITS));
                    self.note(row, document, outlines.held(document)?.beside(&self.rows.outlines[row as usize]));
                }
                self.relieve(&mut outlines)?;
                continue;
            }
            self.index.stretch(first, &mut buffer)?;
            for link in pairs.links(stretch) {
                lanes::counting(|| self.sift_link(first, link, &buffer))?;
                self.relieve(&mut outlines)?;
            }
        }
        pairs.clear();
        self.pairs = pairs;
        self.close(&mut outlines)
    }

    #[inline]
    fn sift_link(&mut self, first: u32, link: &[u32], outlines: &[u8]) -> Result<(), DiskError> {
        for value in link {
            let (row, within) = (value & ((1 << ROW_BITS) - 1), value >> ROW_BITS);
            let bytes = &outlines[within as usize * OUTLINE_BYTES..][..OUTLINE_BYTES];
            let held = Held::decode(first + within, bytes).ok_or_else(|| damaged(first + within))?;
            self.note(row, first + within, held.beside(&self.rows.outlines[row as usize]));
        }
        Ok(())
    }

    #[inline]
    fn note(&mut self, row: u32, document: u32, likeness: Likeness) {
        match likeness {
            Likeness::Apart => {}
            Likeness::Near => self.likely.push((row, document)),
            Likeness::Open => self.open.push((document, row)),
        }
    }

    /// Goes on with what passed, once it is much.
    fn relieve(&mut self, outlines: &mut Outlines<'_>) -> Result<(), DiskError> {
        if self.open.len() >= OPEN_MAX {
            self.close(outlines)?;
        }
        if self.likely.len() >= LIKELY_MAX { self.settle() } else { Ok(()) }
    }

    /// Holds broad parities against each other, in the order of their file.
    fn close(&mut self, outlines: &mut Outlines<'_>) -> Result<(), DiskError> {
        let mut open = std::mem::take(&mut self.open);
        open.sort_unstable();
        open.dedup();
        for (document, row) in open.drain(..) {
            if outlines.may_be_near(document, &self.rows, row)? {
                self.likely.push((row, document));
                if self.likely.len() >= LIKELY_MAX {
                    self.settle()?;
                }
            }
        }
        self.open = open;
        Ok(())
    }

    /// Checks what passed, each row's earliest first.
    fn settle(&mut self) -> Result<(), DiskError> {
        let of = |(row, document)| Ok((row, self.index.priority(document)?, document));
        let mut likely = self.likely.drain(..).map(of).collect::<Result<Vec<_>, DiskError>>()?;
        likely.sort_unstable();
        likely.dedup();
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

impl OnDisk {
    /// Reads the outlines of the stretch that begins with this document.
    fn stretch(&self, first: u32, buffer: &mut Vec<u8>) -> Result<(), DiskError> {
        let count = usize::try_from(self.documents - first).unwrap_or(usize::MAX).min(STRETCH);
        buffer.resize(count * OUTLINE_BYTES, 0);
        self.outlines.file().read(u64::from(first) * OUTLINE_BYTES as u64, buffer).map_err(io_error("read", OUTLINES))
    }
}
