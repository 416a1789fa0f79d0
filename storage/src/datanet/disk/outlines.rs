//! The outlines of documents' sets, one after another in a file: what candidates are sifted by before their sets are read.
//!
//! 32 bytes each: three words, shingles u32, check u32. The words of a set of up to `NARROW_MAX` shingles are its parity; those of a larger one say where in the file of broad parities its own
//! stands, in words, and are its check and zero. A search reads hundreds of them for each document it asks for, so a check is a multiplication a word instead of a hash: a disk errs, it does not
//! choose its errors. Candidates of many rows are sifted together, by stretches of the file, which is read from front to back: 290 MB at 9 million documents, whatever the number of candidates,
//! instead of a system call for each.

use std::ops::Range;

use super::{DiskError, files::Window, io_error};
use crate::datanet::dedup::{
    Batch, may_be_near,
    outline::{NARROW_MAX, Outline, broad, broad_apart, broad_words, may_differ},
};

/// The file of outlines.
pub(super) const OUTLINES: &str = "outlines";
/// The file of broad parities.
pub(super) const BROAD: &str = "broad";
/// Bytes of an outline.
pub(super) const OUTLINE_BYTES: usize = 32;

/// A document's outline as it stands in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    count: u32,
    words: [u64; 3],
}

/// What stands in the files for the document of this number, whose broad parity would stand at word `at`: an outline, and that parity's words, if the set is large.
pub(super) fn encode(number: u32, set: &[u64], at: u64) -> ([u8; OUTLINE_BYTES], Vec<u8>) {
    let (outline, mut parity) = (Outline::of(set), Vec::new());
    let mut held = Held { count: outline.count, words: outline.parity };
    if outline.count > NARROW_MAX {
        parity = broad(set);
        held.words = [at, broad_check(&parity), 0];
    }
    let mut bytes = [0; OUTLINE_BYTES];
    let own = u64::from(held.count) << 32 | u64::from(held.check(number));
    for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(held.words.iter().chain([&own])) {
        *bytes = word.to_be_bytes();
    }
    (bytes, parity.iter().flat_map(|word| word.to_be_bytes()).collect())
}

/// Each step maps 64 bits one to one, so whatever differs in one word differs at the end.
#[inline]
const fn mixed(mixed: u64, word: u64) -> u64 {
    let mixed = (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

const SEED: u64 = 0x243f_6a88_85a3_08d3;

fn broad_check(parity: &[u64]) -> u64 {
    parity.iter().fold(SEED, |so_far, word| mixed(so_far, *word))
}

/// The high and the low half.
#[inline]
fn halves(word: u64) -> [u32; 2] {
    [word >> 32, word & 0xffff_ffff].map(|half| u32::try_from(half).expect("32 bits"))
}

impl Held {
    #[inline]
    fn check(&self, number: u32) -> u32 {
        let own = u64::from(self.count) << 32 | u64::from(number);
        halves(self.words.iter().chain([&own]).fold(SEED, |so_far, word| mixed(so_far, *word)))[0]
    }

    /// The outline of document `number`; nothing if these are not its bytes.
    #[inline]
    pub(super) fn decode(number: u32, bytes: &[u8]) -> Option<Self> {
        let ([a, b, c, own], []) = bytes.as_chunks::<8>() else { return None };
        let [count, check] = halves(u64::from_be_bytes(*own));
        let held = Self { count, words: [a, b, c].map(|word| u64::from_be_bytes(*word)) };
        (held.check(number) == check).then_some(held)
    }

    /// What follows for a row.
    #[inline]
    pub(super) fn beside(&self, own: &Outline) -> Likeness {
        if self.count <= NARROW_MAX {
            let theirs = Outline { count: self.count, parity: self.words };
            return if theirs.may_be_near(own) { Likeness::Near } else { Likeness::Apart };
        }
        if may_differ(self.count, own.count, 0) { Likeness::Open } else { Likeness::Apart }
    }
}

/// What an outline says of a document and a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// They are no near copies.
    Apart,
    /// They may be.
    Near,
    /// Broad parities have to tell.
    Open,
}

/// The outlines of a batch's rows.
pub(super) struct Rows {
    pub(super) outlines: Vec<Outline>,
    /// Broad parities of the rows that may be near a set which has one.
    broad: Vec<u64>,
    /// Where in `broad` each row's stands.
    starts: Vec<usize>,
}

impl Rows {
    pub(super) fn new(batch: &Batch) -> Self {
        let mut rows = Self { outlines: Vec::with_capacity(batch.len()), broad: Vec::new(), starts: Vec::with_capacity(batch.len() + 1) };
        let large = usize::try_from(NARROW_MAX).expect("few") + 1;
        for set in (0..batch.len()).map(|row| batch.set(row)) {
            rows.outlines.push(Outline::of(set));
            rows.starts.push(rows.broad.len());
            if set.len() >= large || may_be_near(set.len(), large) {
                rows.broad.extend(broad(set));
            }
        }
        rows.starts.push(rows.broad.len());
        rows
    }

    fn broad(&self, row: u32) -> &[u64] {
        let row = row as usize;
        &self.broad[self.starts[row]..self.starts[row + 1]]
    }
}

/// Outlines that are read one by one.
pub(super) struct Outlines<'f> {
    window: Window<'f>,
    broad: Window<'f>,
    broad_len: u64,
    /// The last one and whose it is.
    last: Option<(u32, Held)>,
    /// The last broad parity and where it stands.
    parity: (Option<u64>, Vec<u64>),
}

impl<'f> Outlines<'f> {
    /// Over both files; the second has so many words.
    pub(super) const fn new(window: Window<'f>, broad: Window<'f>, broad_len: u64) -> Self {
        Self { window, broad, broad_len, last: None, parity: (None, Vec::new()) }
    }

    /// The outline of a document.
    pub(super) fn held(&mut self, number: u32) -> Result<Held, DiskError> {
        if let Some((last, held)) = self.last
            && last == number
        {
            return Ok(held);
        }
        let bytes = self.window.get(u64::from(number) * OUTLINE_BYTES as u64, OUTLINE_BYTES).map_err(io_error("read", OUTLINES))?;
        let held = Held::decode(number, bytes).ok_or_else(|| damaged(number))?;
        self.last = Some((number, held));
        Ok(held)
    }

    /// Where in the file of broad parities that of a document stands, if it has one: words. Nothing either if its outline is blank.
    pub(super) fn broad_of(&mut self, number: u32) -> Result<Option<Range<u64>>, DiskError> {
        let bytes = self.window.get(u64::from(number) * OUTLINE_BYTES as u64, OUTLINE_BYTES).map_err(io_error("read", OUTLINES))?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let held = Held::decode(number, bytes).ok_or_else(|| damaged(number))?;
        let words = held.words[0]..held.words[0].saturating_add(broad_words(held.count) as u64);
        match held.count > NARROW_MAX {
            true if words.end > self.broad_len => Err(damaged(number)),
            is_broad => Ok(is_broad.then_some(words)),
        }
    }

    /// Whether a row may be a near copy of a document.
    pub(super) fn may_be_near(&mut self, number: u32, rows: &Rows, row: u32) -> Result<bool, DiskError> {
        let (held, own) = (self.held(number)?, &rows.outlines[row as usize]);
        match held.beside(own) {
            Likeness::Apart => Ok(false),
            Likeness::Near => Ok(true),
            Likeness::Open => {
                let apart = self.broad_apart(number, held, rows.broad(row))?;
                Ok(may_differ(held.count, own.count, apart))
            }
        }
    }

    fn broad_apart(&mut self, number: u32, held: Held, own: &[u64]) -> Result<u32, DiskError> {
        let (at, words) = (held.words[0], broad_words(held.count));
        if self.parity.0 != Some(at) {
            let damaged = || DiskError::Damaged {
                file: BROAD.into(),
                problem: format!("the parity of document {number} is not the one that was written"),
            };
            if at.checked_add(words as u64).is_none_or(|end| end > self.broad_len) {
                return Err(damaged());
            }
            let bytes = self.broad.get(at * 8, words * 8).map_err(io_error("read", BROAD))?;
            self.parity.0 = None;
            self.parity.1.clear();
            self.parity.1.extend(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word)));
            if broad_check(&self.parity.1) != held.words[1] {
                return Err(damaged());
            }
            self.parity.0 = Some(at);
        }
        Ok(crate::lanes::counting(|| broad_apart(&self.parity.1, own)))
    }
}

pub(super) fn damaged(number: u32) -> DiskError {
    DiskError::Damaged { file: OUTLINES.into(), problem: format!("the outline of document {number} is not the one that was written") }
}
