//! Which bytes of a text start words, one bit each, and the text beside them, read block by block from the file: it is never in memory whole.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use types::text::WINDOW;

use super::code::{Code, Counts};
use crate::index::{HEADER_BYTES, KEY_BYTES, as_index, is_ended, key_of};

/// Bytes read at a time, and what is read behind them so that no window is cut.
const BLOCK_BYTES: usize = 1 << 20;
/// Pieces of the text that are read for a code, and bytes of each.
const SAMPLED_PIECES: usize = 64;
const SAMPLED_BYTES: usize = 1 << 16;
/// Bytes of a [`Key`].
pub(super) const DEEP_BYTES: usize = 2 * KEY_BYTES;

/// Sixteen bytes of a window, all zero from its end on.
pub(super) type Key = (u64, u64);

/// The key that these bytes make, the first [`DEEP_BYTES`] of them.
pub(super) fn key(bytes: &[u8]) -> Key {
    let halves = bytes.first_chunk::<DEEP_BYTES>().expect("a window's worth of zeros follows the text").as_chunks().0;
    let high = key_of(halves[0]);
    (high, if is_ended(high) { 0 } else { key_of(halves[1]) })
}

/// A key as one number: compared without a branch.
pub(super) fn wide((high, low): Key) -> u128 {
    u128::from(high) << u64::BITS | u128::from(low)
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

    /// Bits of the offsets in a range that begins at a multiple of 64, and what the first of each word stands for; ascending.
    fn words(&self, range: Range<usize>) -> impl Iterator<Item = (u64, usize)> {
        let last = range.end.div_ceil(64).min(self.bits.len());
        let words = self.bits.get(range.start / 64..last).unwrap_or_default();
        words.iter().zip(range.start / 64..).map(|(bits, place)| (*bits, 64 * place))
    }

    /// Every so manyth offset, the first being the first.
    fn sampled(&self, every: usize) -> impl Iterator<Item = usize> {
        let (mut seen, mut wanted) = (0, 0);
        self.words(0..64 * self.bits.len()).flat_map(move |(mut bits, first)| {
            let (mut found, end) = (Vec::new(), seen + as_index(bits.count_ones()));
            while wanted < end {
                while seen < wanted {
                    bits &= bits - 1;
                    seen += 1;
                }
                found.push(first + as_index(bits.trailing_zeros()));
                wanted += every;
            }
            seen = end;
            found
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
            for (mut bits, first) in starts.words(from..to) {
                while bits != 0 {
                    let start = first + as_index(bits.trailing_zeros());
                    bits &= bits - 1;
                    each(u32::try_from(start).expect("segments are bounded below 2^32"), key(&block[start - from..]))?;
                }
            }
        }
        Ok(())
    }

    /// The keys of every so manyth word start.
    pub(super) fn sample(&self, starts: &Starts, every: usize) -> io::Result<Vec<Key>> {
        let mut bytes = Vec::new();
        let keys = starts.sampled(every.max(1)).map(|start| {
            self.read(start, &mut bytes, WINDOW)?;
            Ok(key(&bytes))
        });
        keys.collect()
    }

    /// A code by what pairs of bytes are frequent in some pieces of it.
    pub(super) fn code(&self) -> io::Result<Code> {
        let (mut counts, mut piece) = (Counts::new(), Vec::new());
        for from in (0..self.len).step_by((self.len / SAMPLED_PIECES).max(SAMPLED_BYTES)) {
            self.read(from, &mut piece, SAMPLED_BYTES)?;
            counts.add(&piece);
        }
        Ok(counts.code())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_so_manyth_offset_is_a_sample(gaps in proptest::collection::vec(1..200_u32, 0..300), every in 1..40_usize) {
            let mut starts = Starts::default();
            let all: Vec<u32> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            all.iter().for_each(|start| starts.push(*start));
            let expected: Vec<usize> = all.iter().step_by(every).map(|start| as_index(*start)).collect();
            prop_assert_eq!(starts.sampled(every).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn a_key_is_sixteen_bytes_cut_at_the_first_zero(bytes in proptest::collection::vec(prop_oneof![8 => Just(b'a'), 1 => Just(0_u8), 1 => Just(0xff_u8)], 16..20)) {
            let kept: Vec<u8> = bytes[..16].iter().copied().take_while(|byte| *byte != 0).collect();
            let (high, low) = key(&bytes);
            let got = [high.to_be_bytes(), low.to_be_bytes()].concat();
            prop_assert_eq!(&got[..kept.len()], &kept[..]);
            prop_assert!(got[kept.len()..].iter().all(|byte| *byte == 0));
        }
    }
}
