//! Where a text stands in a segment: counting, finding, the longest match, alone and for many texts at once.
//!
//! The guide holds what every 32nd entry begins with: two searches in it, which lie in a few pages (49 MB per GiB of text), leave 32 entries
//! unless more begin with the same eight bytes. So five probes of array and text remain of some 27, each of which may be a page that is not in
//! memory. Many texts are searched in lock step, first in the guide, then in the array: a first pass reads all entries, a second all windows, so that waits
//! for memory overlap, and those for a disk too: what is not in memory is asked for at once before it is read ([`super::bytes`]).
//!
//! Where a text's last place stands is looked for from its first on, in steps that double: most that are searched stand in few places, of very many that
//! begin with the same eight bytes.

use std::ops::Range;

use types::text::WINDOW;

use super::{
    bytes::Asked,
    format::{GUIDE_STRIDE, Section},
    order::{KEY_BYTES, as_index, key_of},
    segment::Segment,
};

/// Bytes of a window that are asked for where two are compared: more are equal of few, and those are often in the same page.
const COMPARED: usize = 64;

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
        let guide = self.guide();
        partition(Open::near(from..guide.len()), |place| guide.get(place).is_some_and(|bytes| is_before(u64::from_le_bytes(*bytes))))
    }

    /// Likewise of many, each of which is open between two keys.
    fn guided_all(&self, asked: &mut Asked, open: Vec<Open>, is_before: impl Fn(usize, u64) -> bool) -> Vec<usize> {
        let guide = self.guide();
        let want = |probes: &mut [Probe]| self.want(asked, Section::Guide, probes.iter().map(|probe| KEY_BYTES * probe.rank), KEY_BYTES);
        let is_before = |probe: &Probe| guide.get(probe.rank).is_some_and(|bytes| is_before(probe.number, u64::from_le_bytes(*bytes)));
        partition_all(open, want, is_before)
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
        partition(Open::all(self.lower_bounds(pattern)), |rank| array.get(rank).is_some_and(|start| self.window(start) < pattern))
    }

    /// Ranks of the array whose text starts with `pattern`: none if that holds a zero byte or more than 256.
    pub fn range(&self, pattern: &[u8]) -> Range<usize> {
        if pattern.len() > WINDOW || zero_in(pattern).is_some() {
            return 0..0;
        }
        let array = self.array();
        let first = self.lower(pattern);
        let past = self.guided(first.div_ceil(GUIDE_STRIDE), |key| key <= keys(pattern).1);
        first..partition(self.last_bounds(first, past, pattern), |rank| {
            array.get(rank).is_some_and(|start| self.window(start).starts_with(pattern))
        })
    }

    /// Where the first window lies that does not begin with `pattern`, given the first one that is not below it, and how many keys are up to the
    /// pattern's most.
    fn last_bounds(&self, first: usize, past: usize, pattern: &[u8]) -> Open {
        let (least, _) = keys(pattern);
        let last = (past * GUIDE_STRIDE).min(self.array().len()).max(first);
        // Of a pattern that a key holds whole, the key alone tells.
        let known = past
            .checked_sub(1)
            .filter(|place| pattern.len() <= KEY_BYTES && self.guide().get(*place).is_some_and(|key| u64::from_le_bytes(*key) >= least));
        match known {
            Some(place) => Open::all((place * GUIDE_STRIDE + 1).clamp(first, last)..last),
            None => Open::near(first..last),
        }
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
        let mut asked = Asked::default();
        let lowers = self.lower_all(&mut asked, &patterns);
        let neighbours = |(number, rank): (usize, &usize)| [rank.checked_sub(1), Some(*rank)].map(|rank| Some((number, rank?)));
        let ranks = lowers.iter().enumerate().flat_map(neighbours).flatten().filter(|(_, rank)| *rank < self.array().len());
        let mut probes: Vec<Probe> = ranks.map(|(number, rank)| Probe { number, rank, start: u32::MAX }).collect();
        self.look(&mut asked, &mut probes, WINDOW);
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
        let mut asked = Asked::default();
        let lowers = self.lower_all(&mut asked, &known);
        let open = lowers.iter().map(|lower| Open::near(lower.div_ceil(GUIDE_STRIDE)..self.guide().len())).collect();
        let past = self.guided_all(&mut asked, open, |number, key| key <= keys(known[number]).1);
        let open = lowers.iter().zip(past).zip(&known).map(|((lower, past), pattern)| self.last_bounds(*lower, past, pattern)).collect();
        let ends = self.narrow(&mut asked, open, |number, window| window.starts_with(known[number]));
        let mut found = lowers.into_iter().zip(ends).map(|(lower, end)| lower..end);
        patterns.iter().map(|pattern| if is_searched(pattern) { found.next().unwrap_or(0..0) } else { 0..0 }).collect()
    }

    /// [`Segment::lower`] of each pattern.
    fn lower_all(&self, asked: &mut Asked, patterns: &[&[u8]]) -> Vec<usize> {
        let least: Vec<u64> = patterns.iter().map(|pattern| keys(pattern).0).collect();
        let last = self.guide().len();
        let below = self.guided_all(asked, vec![Open::all(0..last); patterns.len()], |number, key| key < least[number]);
        // Few more are looked at: where none waits for a disk, one pattern after the other is quicker.
        let past = if asked.is_cold() {
            self.guided_all(asked, below.iter().map(|below| Open::near(*below..last)).collect(), |number, key| key <= least[number])
        } else {
            below.iter().zip(&least).map(|(below, least)| self.guided(*below, |key| key <= *least)).collect()
        };
        let open = below.into_iter().zip(past).map(|(below, past)| Open::all(self.between(below, past))).collect();
        self.narrow(asked, open, |number, window| window < patterns[number])
    }

    /// The first of each range of ranks whose window is not before the pattern of that number.
    fn narrow(&self, asked: &mut Asked, open: Vec<Open>, is_before: impl Fn(usize, &[u8]) -> bool) -> Vec<usize> {
        partition_all(open, |probes| self.look(asked, probes, COMPARED), |probe| is_before(probe.number, self.window(probe.start)))
    }

    /// Finds what entries stand at the ranks of these probes: all that is read for it, and then so many bytes of each window, is asked for at once.
    fn look(&self, asked: &mut Asked, probes: &mut [Probe], bytes: usize) {
        self.want(asked, Section::Array, probes.iter().map(|probe| 4 * probe.rank), 4);
        let array = self.array();
        probes.iter_mut().for_each(|probe| probe.start = array.get(probe.rank).unwrap_or(u32::MAX));
        self.want(asked, Section::Text, probes.iter().map(|probe| as_index(probe.start)), bytes);
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

/// Ranks of which a first part is before something, and what is known of where that ends: it is their start, their end or between.
#[derive(Debug, Clone)]
struct Open {
    ranks: Range<usize>,
    /// How far to look ahead of the start; not at all, but at the middle, if zero.
    step: usize,
}

impl Open {
    /// Anywhere.
    const fn all(ranks: Range<usize>) -> Self {
        Self { ranks, step: 0 }
    }

    /// Near the start, as it is likely.
    const fn near(ranks: Range<usize>) -> Self {
        Self { ranks, step: 1 }
    }

    /// The rank to look at next; none where all is known.
    fn next(&self) -> Option<usize> {
        let middle = self.ranks.len() / 2;
        let ahead = self.step.checked_sub(1).map_or(middle, |ahead| ahead.min(middle));
        (!self.ranks.is_empty()).then_some(self.ranks.start + ahead)
    }

    /// Whether that rank is before it.
    fn told(&mut self, rank: usize, is_before: bool) {
        if is_before {
            self.ranks.start = rank + 1;
            self.step = self.step.saturating_mul(2);
        } else {
            (self.ranks.end, self.step) = (rank, 0);
        }
    }
}

/// [`partition`] of many ranges, step by step in all of them; `look` is told what will be looked at in a step.
fn partition_all(mut open: Vec<Open>, mut look: impl FnMut(&mut [Probe]), is_before: impl Fn(&Probe) -> bool) -> Vec<usize> {
    let mut probes = Vec::with_capacity(open.len());
    loop {
        probes.clear();
        probes.extend(open.iter().enumerate().filter_map(|(number, open)| Some(Probe { number, rank: open.next()?, start: u32::MAX })));
        if probes.is_empty() {
            return open.into_iter().map(|open| open.ranks.start).collect();
        }
        look(&mut probes);
        for probe in &probes {
            open[probe.number].told(probe.rank, is_before(probe));
        }
    }
}

/// First of a range of which `is_before` does not hold; it holds of a first part of it.
fn partition(mut open: Open, is_before: impl Fn(usize) -> bool) -> usize {
    while let Some(rank) = open.next() {
        open.told(rank, is_before(rank));
    }
    open.ranks.start
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

    /// The ranks of `pattern` and its longest match, by looking at every window.
    fn by_all_windows(windows: &[&[u8]], pattern: &[u8]) -> (usize, Range<usize>, usize) {
        let first = windows.partition_point(|window| *window < pattern);
        let many = windows[first..].iter().take_while(|window| window.starts_with(pattern)).count();
        (first, first..first + many, windows.iter().map(|window| common(window, pattern)).max().unwrap_or(0))
    }

    #[test]
    fn searches_in_step_find_what_every_window_shows_in_texts_of_few_words() {
        let (mut before, mut fibonacci) = ("b ".to_owned(), "a ".to_owned());
        while fibonacci.len() < 3_000 {
            (before, fibonacci) = (fibonacci.clone(), fibonacci + &before);
        }
        let headers = |number: u32| format!("Subject: the same subject {}\0", number.wrapping_mul(2_654_435_761) >> 22);
        let texts = [
            fibonacci + "\0",
            (0..700).map(headers).collect(),
            "same ".repeat(1_500) + "\0",
            "same\0".repeat(1_500),
            format!("{}\0", "x".repeat(3_000)),
            format!("{}{}z\0", "12345678".repeat(40), " 12345678".repeat(900)),
        ];
        for text in texts {
            let root = text::text_root(text.as_bytes());
            let source = Source { contributor: Address([1; 20]), block: 1, ordinal: 0, text_root: root, text: text.as_bytes() };
            let segment = Segment::build(&[source], 0).unwrap();
            let windows: Vec<&[u8]> = segment.array().iter().map(|start| searched(segment.window(start))).collect();
            let mut patterns: Vec<Vec<u8>> = vec![Vec::new(), vec![0xff; 9], b"\x01".to_vec()];
            for rank in (0..windows.len()).step_by(windows.len().div_ceil(25)).chain(windows.len().checked_sub(1)) {
                for length in [1, 7, 8, 9, 16, 40, 255, 256] {
                    let begun = &windows[rank][..windows[rank].len().min(length)];
                    patterns.extend([&b""[..], b"\x01", b"~"].map(|tail| [&begun[..begun.len().min(WINDOW - tail.len())], tail].concat()));
                }
            }
            let patterns: Vec<&[u8]> = patterns.iter().map(Vec::as_slice).collect();
            let expected: Vec<_> = patterns.iter().map(|pattern| by_all_windows(&windows, pattern)).collect();
            let all = segment.range_all(&patterns).into_iter().zip(segment.longest_all(&patterns));
            for ((pattern, (first, ranks, longest)), got) in patterns.iter().zip(expected).zip(all) {
                let pattern_text = String::from_utf8_lossy(pattern);
                assert_eq!((segment.lower(pattern), segment.range(pattern)), (first, ranks.clone()), "{pattern_text}");
                assert_eq!((got, segment.longest(pattern)), ((ranks, longest), longest), "{pattern_text}");
            }
        }
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
