//! Where a text stands in a segment: counting, finding, the longest match, alone and for many texts at once.
//!
//! The guide holds what every 32nd entry begins with: two searches in it, which lie in a few pages (49 MB per GiB of text), leave 32 entries
//! unless more begin with the same eight bytes. So five probes of array and text remain of some 27, each of which may be a page that is not in
//! memory. Many texts are searched in lock step: a first pass reads all entries, a second all windows, so that waits for memory overlap.

use std::ops::Range;

use types::text::WINDOW;

use super::{
    format::GUIDE_STRIDE,
    order::{KEY_BYTES, key_of},
    segment::Segment,
};

/// What of a pattern counts: 256 bytes at most, up to the first zero, which stands nowhere.
pub(super) fn searched(pattern: &[u8]) -> &[u8] {
    let pattern = &pattern[..pattern.len().min(WINDOW)];
    &pattern[..zero_in(pattern).unwrap_or(pattern.len())]
}

fn zero_in(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == 0)
}

/// Length of the common prefix.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The smallest and the largest key of windows that begin with the pattern's first eight bytes.
fn keys(pattern: &[u8]) -> (u64, u64) {
    let filled = |fill: u8| {
        let mut bytes = [fill; KEY_BYTES];
        bytes.iter_mut().zip(pattern).for_each(|(place, byte)| *place = *byte);
        bytes
    };
    (key_of(filled(0)), u64::from_be_bytes(filled(u8::MAX)))
}

impl Segment {
    /// Keys of the guide below `key`, or up to it.
    fn guided(&self, is_before: impl Fn(u64) -> bool) -> usize {
        self.guide().partition_point(|bytes| is_before(u64::from_le_bytes(*bytes)))
    }

    /// Ranks between which the first window lies that is not below `pattern`: all before the first are, the last is not, or is the end.
    fn lower_bounds(&self, pattern: &[u8]) -> Range<usize> {
        let (least, _) = keys(pattern);
        let below = self.guided(|key| key < least);
        let past = self.guided(|key| key <= least);
        let last = (past * GUIDE_STRIDE).min(self.array().len());
        let first = below.checked_sub(1).map_or(0, |below| below * GUIDE_STRIDE + 1);
        first.min(last)..last
    }

    /// Rank of the first window that is not below `pattern`.
    fn lower(&self, pattern: &[u8]) -> usize {
        let array = self.array();
        partition(self.lower_bounds(pattern), |rank| array.get(rank).is_some_and(|start| self.window(start) < pattern))
    }

    /// Ranks of the array whose text starts with `pattern`: none if that holds a zero byte or more than 256.
    pub fn range(&self, pattern: &[u8]) -> Range<usize> {
        if pattern.len() > WINDOW || zero_in(pattern).is_some() {
            return 0..0;
        }
        let array = self.array();
        let first = self.lower(pattern);
        let (least, most) = keys(pattern);
        let past = self.guided(|key| key <= most);
        let last = (past * GUIDE_STRIDE).min(array.len()).max(first);
        // Of a pattern that a key holds whole, the key alone tells.
        let known = past
            .checked_sub(1)
            .filter(|place| pattern.len() <= KEY_BYTES && self.guide().get(*place).is_some_and(|key| u64::from_le_bytes(*key) >= least));
        let from = known.map_or(first, |place| (place * GUIDE_STRIDE + 1).clamp(first, last));
        first..partition(from..last, |rank| array.get(rank).is_some_and(|start| self.window(start).starts_with(pattern)))
    }

    /// How many word starts `pattern` stands at.
    pub fn count(&self, pattern: &[u8]) -> usize {
        self.range(pattern).len()
    }

    /// Bytes of the longest prefix of `pattern` (its first 256 bytes count) that stands at a word start; a zero byte stands nowhere.
    pub fn longest(&self, pattern: &[u8]) -> usize {
        let pattern = searched(pattern);
        self.longest_beside(self.lower(pattern), pattern)
    }

    /// Bytes of the longest match, given the rank of the first window that is not below `pattern`: one of its two neighbours has it.
    fn longest_beside(&self, rank: usize, pattern: &[u8]) -> usize {
        let array = self.array();
        let neighbours = [rank.checked_sub(1), Some(rank)].into_iter().flatten().filter_map(|rank| array.get(rank));
        neighbours.map(|start| common(self.window(start), pattern)).max().unwrap_or(0)
    }

    /// [`Segment::longest`] of each pattern.
    pub fn longest_all(&self, patterns: &[&[u8]]) -> Vec<usize> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| searched(pattern)).collect();
        let mut open: Vec<Range<usize>> = patterns.iter().map(|pattern| self.lower_bounds(pattern)).collect();
        let array = self.array();
        let mut probes: Vec<(usize, usize, u32)> = Vec::with_capacity(open.len());
        loop {
            let middles = open
                .iter()
                .enumerate()
                .filter(|(_, ranks)| !ranks.is_empty())
                .map(|(number, ranks)| (number, ranks.start + ranks.len() / 2));
            probes.clear();
            probes.extend(middles.map(|(number, rank)| (number, rank, array.get(rank).unwrap_or(u32::MAX))));
            if probes.is_empty() {
                break;
            }
            for (number, rank, start) in &probes {
                let ranks = &mut open[*number];
                *ranks = if self.window(*start) < patterns[*number] { rank + 1..ranks.end } else { ranks.start..*rank };
            }
        }
        open.iter().zip(patterns).map(|(ranks, pattern)| self.longest_beside(ranks.start, pattern)).collect()
    }
}

/// First of `ranks` of which `is_before` does not hold; it holds of a first part of them.
fn partition(ranks: Range<usize>, is_before: impl Fn(usize) -> bool) -> usize {
    let Range { mut start, mut end } = ranks;
    while start < end {
        let middle = start + (end - start) / 2;
        if is_before(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{id::Address, text};

    use super::*;
    use crate::index::Source;

    /// Every place of `pattern` at a word start, by reading all text.
    fn plain(text: &str, pattern: &[u8]) -> usize {
        let starts = |at: usize, document: &str| text::word_starts(document).map(|start| at + start).collect::<Vec<_>>();
        let mut at = 0;
        let mut count = 0;
        for document in text.split_inclusive('\0') {
            let end = at + document.len() - 1;
            count += starts(at, document)
                .into_iter()
                .filter(|start| text.as_bytes()[*start..end.min(start + WINDOW)].starts_with(pattern))
                .count();
            at += document.len();
        }
        count
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn count_and_longest_are_those_of_reading_all_text(
            words in proptest::collection::vec(prop_oneof![4 => "[ab]{1,3} ", 2 => "ababababab[ab] ", 1 => "[ab]\u{0}", 1 => "(学|é|क) ?", 1 => Just("aaaa aaaa ".repeat(30))], 1..120),
            patterns in proptest::collection::vec((any::<prop::sample::Index>(), 0..300_usize, prop_oneof![Just(""), Just("z"), Just("\u{1}")]), 1..30),
        ) {
            let text = format!("x{}x\0", words.concat());
            let source = Source { contributor: Address([1; 20]), block: 1, ordinal: 0, text_root: text::text_root(text.as_bytes()), text: text.as_bytes() };
            let segment = Segment::build(&[source], 0).unwrap();
            let patterns: Vec<Vec<u8>> = patterns.iter().map(|(at, length, tail)| {
                let at = at.index(text.len());
                [&text.as_bytes()[at..(at + length).min(text.len())], tail.as_bytes()].concat()
            }).collect();
            for pattern in &patterns {
                let is_findable = pattern.len() <= WINDOW && !pattern.contains(&0);
                let expected = if is_findable { plain(&text, pattern) } else { 0 };
                prop_assert_eq!(segment.count(pattern), expected, "{:?}", String::from_utf8_lossy(pattern));
                let longest = (0..=searched(pattern).len()).rev().find(|length| plain(&text, &pattern[..*length]) > 0);
                prop_assert_eq!(segment.longest(pattern), longest.unwrap_or(0));
            }
            let all = segment.longest_all(&patterns.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(all, patterns.iter().map(|pattern| segment.longest(pattern)).collect::<Vec<_>>());
        }
    }
}
