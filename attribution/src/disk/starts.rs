//! Which bytes of a text start words, one bit each, and the text beside them, read block by block from the file: it is never in memory whole.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use types::text::WINDOW;

use crate::index::{HEADER_BYTES, KEY_BYTES, is_ended, key_of};

/// Bytes read at a time, and what is read behind them so that no window is cut.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes of a [`Key`].
pub(super) const DEEP_BYTES: usize = 2 * KEY_BYTES;

/// Sixteen bytes of a window, cut at its end.
pub(super) type Key = (u64, u64);

/// The key that these bytes make, the first [`DEEP_BYTES`] of them.
pub(super) fn key(bytes: &[u8]) -> Key {
    let part = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| key_of(*bytes));
    let high = part(0);
    (high, if is_ended(high) { 0 } else { part(KEY_BYTES) })
}

/// Whether a window ends within this key.
pub(super) const fn is_end(key: Key) -> bool {
    is_ended(key.0) || is_ended(key.1)
}

/// A set of offsets.
#[derive(Debug, Default)]
pub(super) struct Starts {
    bits: Vec<u64>,
    count: usize,
}

impl Starts {
    /// Adds an offset, larger than all before.
    pub(super) fn push(&mut self, start: u32) {
        let place = usize::try_from(start / u64::BITS).expect("32 bits fit");
        if place >= self.bits.len() {
            self.bits.resize(place + 1, 0);
        }
        self.bits[place] |= 1 << (start % u64::BITS);
        self.count += 1;
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn memory_bytes(&self) -> usize {
        self.bits.capacity() * size_of::<u64>()
    }

    /// The offsets within a range of multiples of 64, ascending.
    fn within(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let last = range.end.div_ceil(64).min(self.bits.len());
        let words = self.bits.get(range.start / 64..last).unwrap_or_default().iter().zip(range.start / 64..);
        words.flat_map(|(bits, place)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(64 * place + usize::try_from(bit).expect("below 64"))
            })
        })
    }
}

/// The text in a segment's file.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) file: &'a File,
    /// Bytes of it, [`WINDOW`] zeros behind not counted.
    pub(super) len: usize,
}

impl Text<'_> {
    /// Fills `buffer` with what stands in the text from `at`, as far as the text and the zeros behind it reach.
    fn read(&self, at: usize, buffer: &mut Vec<u8>, most: usize) -> io::Result<()> {
        buffer.resize(most.min((self.len + WINDOW).saturating_sub(at)), 0);
        self.file.read_exact_at(buffer, (HEADER_BYTES + at) as u64)
    }

    /// The 256 bytes from `start`, all zero from the first zero on.
    pub(super) fn window(&self, start: u32, window: &mut [u8; WINDOW]) -> io::Result<()> {
        self.file.read_exact_at(window, HEADER_BYTES as u64 + u64::from(start))?;
        let end = window.iter().position(|byte| *byte == 0).unwrap_or(WINDOW);
        window[end..].fill(0);
        Ok(())
    }

    /// Gives every word start in a part of the text, a range of multiples of [`BLOCK_BYTES`], with its key.
    pub(super) fn scan(&self, starts: &Starts, part: Range<usize>, mut each: impl FnMut(u32, Key) -> io::Result<()>) -> io::Result<()> {
        let mut block = Vec::with_capacity(BLOCK_BYTES + WINDOW);
        for from in part.step_by(BLOCK_BYTES) {
            let to = (from + BLOCK_BYTES).min(self.len);
            self.read(from, &mut block, to - from + WINDOW)?;
            for start in starts.within(from..to) {
                each(u32::try_from(start).expect("segments are bounded below 2^32"), key(&block[start - from..]))?;
            }
        }
        Ok(())
    }

    /// Parts of the text for so many threads.
    pub(super) fn parts(&self, threads: usize) -> Vec<Range<usize>> {
        let blocks = self.len.div_ceil(BLOCK_BYTES);
        let each = blocks.div_ceil(threads.max(1)).max(1) * BLOCK_BYTES;
        (0..self.len).step_by(each).map(|from| from..(from + each).min(self.len)).collect()
    }

    /// A reader of places that ascend.
    pub(super) const fn reader(&self) -> Reader<'_> {
        Reader { text: self, from: 0, block: Vec::new() }
    }
}

/// Reads a text at places that ascend, block by block.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a Text<'a>,
    from: usize,
    block: Vec<u8>,
}

impl Reader<'_> {
    /// At least [`WINDOW`] bytes from `at`, or those up to the end of the zeros behind the text.
    pub(super) fn at(&mut self, at: usize) -> io::Result<&[u8]> {
        if at < self.from || at + WINDOW > self.from + self.block.len() {
            self.from = at;
            self.text.read(at, &mut self.block, BLOCK_BYTES / 4)?;
        }
        Ok(&self.block[at - self.from..])
    }
}
