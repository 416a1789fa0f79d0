//! Where a text stands in a segment: counting, finding, the longest match, alone and for many texts at once.
//!
//! The guide holds what every 32nd entry begins with: two searches in it, which lie in a few pages (49 MB per GiB of text), leave 32 entries
//! unless more begin with the same eight bytes. So five probes of array and text remain of some 27, each of which may be a page that is not in
//! memory. Many texts are searched in lock step, first in the guide, then in the array: a first pass reads all entries, a second all windows, so that waits
//! for memory overlap, and those for a disk too: what is not in memory is asked for at once before it is read ([`super::bytes`]).

use std::ops::Range;

use types::text::WINDOW;

use super::{
    format::{GUIDE_STRIDE, Section},
    order::{KEY_BYTES, as_index, key_of},
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
    /// Keys of the guide that are before something; those up to `from` are, and it is likely that few more are.
    fn guided(&self, from: usize, is_before: impl Fn(u64) -> bool) -> usize {
        let rest = self.guide().get(from..).unwrap_or_default();
        let is_before = |bytes: &[u8; KEY_BYTES]| is_before(u64::from_le_bytes(*bytes));
        let (mut near, mut far) = (0, 1);
        while rest.get(far - 1).is_some_and(is_before) {
            (near, far) = (far, 2 * far);
        }
        from + near + rest[near..far.min(rest.len())].partition_point(is_before)
    }

    /// Ranks between which the first window lies that is not below `pattern`: all before the first are, the last is not, or is the end.
    fn lower_bounds(&self, pattern: &[u8]) -> Range<usize> {
        let (least, _) = keys(pattern);
        let below = self.guide().partition_point(|bytes| u64::from_le_bytes(*bytes) < least);
        self.between(below, self.guided(below, |key| key <= least))
    }

    /// The ranks between which it lies, given how many keys are below the pattern's least, and how many up to it.
    fn between(&self, below: usize, past: usize) -> Range<usize> {
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
        let past = self.guided(first.div_ceil(GUIDE_STRIDE), |key| key <= most);
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
        let lowers = self.lower_all(&patterns);
        let neighbours = |(number, rank): (usize, &usize)| [rank.checked_sub(1), Some(*rank)].map(|rank| Some((number, rank?)));
        let ranks = lowers.iter().enumerate().flat_map(neighbours).flatten().filter(|(_, rank)| *rank < self.array().len());
        let mut probes: Vec<Probe> = ranks.map(|(number, rank)| Probe { number, rank, start: u32::MAX }).collect();
        self.look(&mut probes);
        let mut longest = vec![0; patterns.len()];
        for probe in probes {
            longest[probe.number] = common(self.window(probe.start), patterns[probe.number]).max(longest[probe.number]);
        }
        longest
    }

    /// [`Segment::range`] of each pattern.
    pub fn range_all(&self, patterns: &[&[u8]]) -> Vec<Range<usize>> {
        let is_searched = |pattern: &&[u8]| pattern.len() <= WINDOW && zero_in(pattern).is_none();
        let known: Vec<&[u8]> = patterns.iter().copied().filter(is_searched).collect();
        let lowers = self.lower_all(&known);
        let past = lowers.iter().zip(&known).map(|(lower, pattern)| {
            let past = self.guided(lower.div_ceil(GUIDE_STRIDE), |key| key <= keys(pattern).1);
            (past * GUIDE_STRIDE).min(self.array().len()).max(*lower)
        });
        let open = lowers.iter().zip(past).map(|(lower, past)| *lower..past).collect();
        let ends = self.narrow(open, |number, window| window.starts_with(known[number]));
        let mut found = lowers.into_iter().zip(ends).map(|(lower, end)| lower..end);
        patterns.iter().map(|pattern| if is_searched(pattern) { found.next().unwrap_or(0..0) } else { 0..0 }).collect()
    }

    /// [`Segment::lower`] of each pattern.
    fn lower_all(&self, patterns: &[&[u8]]) -> Vec<usize> {
        let guide = self.guide();
        let least: Vec<u64> = patterns.iter().map(|pattern| keys(pattern).0).collect();
        let want = |probes: &mut [Probe]| self.want(Section::Guide, probes.iter().map(|probe| KEY_BYTES * probe.rank), KEY_BYTES);
        let is_below = |probe: &Probe| guide.get(probe.rank).is_some_and(|bytes| u64::from_le_bytes(*bytes) < least[probe.number]);
        let below = partition_all(vec![0..guide.len(); patterns.len()], want, is_below);
        let open = below.into_iter().zip(&least).map(|(below, least)| self.between(below, self.guided(below, |key| key <= *least)));
        self.narrow(open.collect(), |number, window| window < patterns[number])
    }

    /// The first of each range of ranks whose window is not before the pattern of that number.
    fn narrow(&self, open: Vec<Range<usize>>, is_before: impl Fn(usize, &[u8]) -> bool) -> Vec<usize> {
        partition_all(open, |probes| self.look(probes), |probe| is_before(probe.number, self.window(probe.start)))
    }

    /// Finds what entries stand at the ranks of these probes: all that is read for it and then of the text is asked for at once.
    fn look(&self, probes: &mut [Probe]) {
        self.want(Section::Array, probes.iter().map(|probe| 4 * probe.rank), 4);
        let array = self.array();
        probes.iter_mut().for_each(|probe| probe.start = array.get(probe.rank).unwrap_or(u32::MAX));
        self.want(Section::Text, probes.iter().map(|probe| as_index(probe.start)), WINDOW);
    }
}

/// A rank that is looked at for one of many patterns.
struct Probe {
    /// Which pattern.
    number: usize,
    rank: usize,
    /// The entry there, once it is read.
    start: u32,
}

/// [`partition`] of many ranges, step by step in all of them; `look` is told what will be looked at in a step.
fn partition_all(mut open: Vec<Range<usize>>, look: impl Fn(&mut [Probe]), is_before: impl Fn(&Probe) -> bool) -> Vec<usize> {
    let mut probes = Vec::with_capacity(open.len());
    loop {
        let middles = open.iter().enumerate().filter(|(_, ranks)| !ranks.is_empty());
        probes.clear();
        probes.extend(middles.map(|(number, ranks)| Probe { number, rank: ranks.start + ranks.len() / 2, start: u32::MAX }));
        if probes.is_empty() {
            return open.into_iter().map(|ranks| ranks.start).collect();
        }
        look(&mut probes);
        for probe in &probes {
            let ranks = &mut open[probe.number];
            *ranks = if is_before(probe) { probe.rank + 1..ranks.end } else { ranks.start..probe.rank };
        }
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
            let all = segment.range_all(&patterns.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let each = patterns.iter().map(|pattern| segment.range(pattern));
            prop_assert!(all.iter().zip(each).all(|(at_once, alone)| *at_once == alone || at_once.is_empty() && alone.is_empty()));
        }
    }
}
