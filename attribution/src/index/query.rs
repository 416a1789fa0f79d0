//! Where a text stands in a segment: counting, finding, the longest match, alone and for many texts at once.
//!
//! Tops and marks ([`super::marks`]) tell of every fourth window which one a pattern shares most with, and that one is read: so the pattern's place is known
//! but for three entries, of which two are looked at. A longest match is what is shared with one of those that were looked at: any other shares no more. Tops stay in memory,
//! 256 marks lie together, and so do the four entries: four or five places of a file are read for a word, of some fifteen that comparing windows alone would read.
//! Many texts are searched in lock step: a first pass reads all entries, a second all windows, so that waits for memory overlap, and those for a disk too: what is not
//! in memory is asked for at once before it is read ([`super::bytes`]).
//!
//! Where a text's last place stands the marks tell as well: of windows that begin alike each has a mark beyond that.

use std::{hint::black_box, ops::Range};

use types::text::WINDOW;

use super::{
    bytes::Asked,
    format::Section,
    marks::{CELL_BYTES, MARK_STRIDE, TOP_MARKS, TOP_STRIDE, is_set, parting, settled, shared},
    order::as_index,
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

/// Where a pattern belongs among the marked windows.
#[derive(Debug, Clone, Copy)]
struct Met {
    /// How many of them are before it.
    place: usize,
    /// Bytes that it shares with one of them, of all of them the most.
    longest: usize,
}

impl Segment {
    /// How many marked windows there are.
    fn marked(&self) -> usize {
        self.array().len().div_ceil(MARK_STRIDE)
    }

    /// The marked windows among which a pattern belongs that so many tops are before: those from the last of these tops up to the next.
    fn among(&self, tops: usize) -> Range<usize> {
        let first = tops.saturating_sub(1) * TOP_MARKS;
        first..(first + TOP_MARKS + 1).min(self.marked())
    }

    /// The ranks between the marked windows where so many of them are before a pattern: the first window that is not stands there, or is the next.
    fn between(&self, place: usize) -> Range<usize> {
        let first = place.checked_sub(1).map_or(0, |last| last * MARK_STRIDE + 1);
        first..(place * MARK_STRIDE).min(self.array().len()).max(first)
    }

    /// The bit in which `pattern` parts from the window at a rank.
    fn parts(&self, rank: usize, pattern: &[u8]) -> u16 {
        self.array().get(rank).map_or(0, |start| parting(self.window(start), pattern))
    }

    fn meet(&self, pattern: &[u8]) -> Met {
        let (tops, marks) = (self.tops(), self.marks());
        let untold = tops.untold(pattern);
        let before = if untold.is_empty() {
            untold.start
        } else {
            let met = tops.likeliest(&untold, pattern);
            settled(&untold, |top| tops.mark(top), met, self.parts(met * TOP_STRIDE, pattern), pattern)
        };
        let among = self.among(before);
        let met = marks.likeliest(&among, pattern);
        let parting = self.parts(met * MARK_STRIDE, pattern);
        Met { place: settled(&among, |place| marks.get(place), met, parting, pattern), longest: shared(pattern, parting) }
    }

    /// Rank of the first window that is not below `pattern`, and bytes of the longest match with any.
    fn lower(&self, pattern: &[u8], met: Met) -> (usize, usize) {
        let mut longest = met.longest;
        let rank = partition(Open::all(self.between(met.place)), |rank| {
            let parting = self.parts(rank, pattern);
            longest = longest.max(shared(pattern, parting));
            is_set(pattern, parting)
        });
        (rank, longest)
    }

    /// Ranks of the array whose text starts with `pattern`: none if that holds a zero byte or more than 256.
    pub fn range(&self, pattern: &[u8]) -> Range<usize> {
        if pattern.len() > WINDOW || zero_in(pattern).is_some() {
            return 0..0;
        }
        let met = self.meet(pattern);
        let run = self.run_top(pattern, met).map(|top| self.last_bounds(pattern, met, top));
        self.fetch([self.between(met.place), run.as_ref().map_or(0..0, |open| open.ranks.clone())]);
        let (first, longest) = self.lower(pattern, met);
        if longest < pattern.len() {
            return first..first;
        }
        let open = run.unwrap_or_else(|| Open::near(first..self.between(met.place).end.max(first)));
        let array = self.array();
        first..partition(open, |rank| array.get(rank).is_some_and(|start| self.window(start).starts_with(pattern))).max(first)
    }

    /// Reads a byte of each window at these ranks, which are few, so that they come from memory at once; not of a file, where each may be a page that is not there.
    fn fetch(&self, ranks: [Range<usize>; 2]) {
        if !self.is_mapped() {
            let (array, text) = (self.array(), self.text());
            let starts = ranks.into_iter().flat_map(|ranks| array.slice(ranks).iter());
            black_box(starts.fold(0, |sum, start| sum ^ text.get(as_index(start)).copied().unwrap_or(0)));
        }
    }

    /// The last top up to which marked windows begin with `pattern`, or the one before them; nothing where no marked window does.
    fn run_top(&self, pattern: &[u8], met: Met) -> Option<usize> {
        if met.longest < pattern.len() {
            return None;
        }
        let next = met.place.div_ceil(TOP_MARKS);
        let ends_before = || (met.place + 1..=next * TOP_MARKS).any(|place| self.is_run_end(place, pattern));
        if met.place < next * TOP_MARKS && ends_before() {
            return Some(next.saturating_sub(1));
        }
        Some(self.tops().run_end(next, pattern).saturating_sub(1))
    }

    /// Whether the marked window at a place does not begin with `pattern`, as the one before it does.
    fn is_run_end(&self, place: usize, pattern: &[u8]) -> bool {
        place >= self.marked() || usize::from(self.marks().get(place)) < 8 * pattern.len()
    }

    /// Between which ranks the first window lies that does not begin with `pattern`, given the last top up to which marked ones do.
    fn last_bounds(&self, pattern: &[u8], met: Met, top: usize) -> Open {
        let from = (top * TOP_MARKS).max(met.place);
        let end = (from + 1..=from + TOP_MARKS).find(|place| self.is_run_end(*place, pattern)).unwrap_or(from + TOP_MARKS);
        Open::all(self.between(end.min(self.marked())))
    }

    /// How many word starts `pattern` stands at.
    pub fn count(&self, pattern: &[u8]) -> usize {
        self.range(pattern).len()
    }

    /// Bytes of the longest prefix of `pattern` (its first 256 bytes count) that stands at a word start; a zero byte stands nowhere.
    pub fn longest(&self, pattern: &[u8]) -> usize {
        let pattern = searched(pattern);
        let met = self.meet(pattern);
        if met.longest == pattern.len() { met.longest } else { self.lower(pattern, met).1 }
    }

    /// [`Segment::longest`] of each pattern.
    pub fn longest_all(&self, patterns: &[&[u8]]) -> Vec<usize> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| searched(pattern)).collect();
        let mut asked = Asked::default();
        let met = self.meet_all(&mut asked, &patterns);
        let is_left = |(met, pattern): &(&Met, &&[u8])| met.longest < pattern.len();
        let open = met.iter().zip(&patterns).map(|of| if is_left(&of) { self.between(of.0.place) } else { 0..0 });
        let open: Vec<Range<usize>> = open.collect();
        self.lower_all(&mut asked, &patterns, &met, open).into_iter().map(|(_, longest)| longest).collect()
    }

    /// [`Segment::range`] of each pattern.
    pub fn range_all(&self, patterns: &[&[u8]]) -> Vec<Range<usize>> {
        let is_searched = |pattern: &&[u8]| pattern.len() <= WINDOW && zero_in(pattern).is_none();
        let known: Vec<&[u8]> = patterns.iter().copied().filter(is_searched).collect();
        let mut asked = Asked::default();
        let met = self.meet_all(&mut asked, &known);
        let lowers = self.lower_all(&mut asked, &known, &met, met.iter().map(|met| self.between(met.place)).collect());
        let tops: Vec<Option<usize>> = known.iter().zip(&met).map(|(pattern, met)| self.run_top(pattern, *met)).collect();
        self.want_marks(&mut asked, tops.iter().flatten().map(|top| top * TOP_MARKS));
        let bounds = |number: usize| {
            let ((first, longest), met, pattern): (_, Met, &[u8]) = (lowers[number], met[number], known[number]);
            match tops[number] {
                _ if longest < pattern.len() => Open::all(first..first),
                Some(top) => self.last_bounds(pattern, met, top),
                None => Open::near(first..self.between(met.place).end.max(first)),
            }
        };
        let ends = self.narrow(&mut asked, (0..known.len()).map(bounds).collect(), |number, window| window.starts_with(known[number]));
        let mut found = lowers.into_iter().zip(ends).map(|((first, _), end)| first..end.max(first));
        patterns.iter().map(|pattern| if is_searched(pattern) { found.next().unwrap_or(0..0) } else { 0..0 }).collect()
    }

    /// [`Segment::meet`] of each pattern.
    fn meet_all(&self, asked: &mut Asked, patterns: &[&[u8]]) -> Vec<Met> {
        let (tops, marks) = (self.tops(), self.marks());
        let untold: Vec<Range<usize>> = patterns.iter().map(|pattern| tops.untold(pattern)).collect();
        let mut before: Vec<usize> = untold.iter().map(|untold| untold.start).collect();
        let open = untold.iter().enumerate().filter(|(_, untold)| !untold.is_empty());
        let top = |(number, untold): (usize, &Range<usize>)| (number, tops.likeliest(untold, patterns[number]));
        let met: Vec<(usize, usize)> = open.map(top).collect();
        let mut probes: Vec<Probe> = met.iter().map(|(number, top)| Probe::at(*number, top * TOP_STRIDE)).collect();
        self.look(asked, &mut probes);
        for (Probe { number, start, .. }, (_, top)) in probes.into_iter().zip(met) {
            let parting = parting(self.window(start), patterns[number]);
            before[number] = settled(&untold[number], |top| tops.mark(top), top, parting, patterns[number]);
        }
        let among: Vec<Range<usize>> = before.into_iter().map(|tops| self.among(tops)).collect();
        self.want_marks(asked, among.iter().map(|among| among.start));
        let met = among.iter().zip(patterns).map(|(among, pattern)| marks.likeliest(among, pattern));
        let met: Vec<usize> = met.collect();
        let mut probes: Vec<Probe> = met.iter().enumerate().map(|(number, place)| Probe::at(number, place * MARK_STRIDE)).collect();
        self.look(asked, &mut probes);
        let settle = |(Probe { number, start, .. }, met): (Probe, usize)| {
            let pattern = patterns[number];
            let parting = parting(self.window(start), pattern);
            Met { place: settled(&among[number], |place| marks.get(place), met, parting, pattern), longest: shared(pattern, parting) }
        };
        probes.into_iter().zip(met).map(settle).collect()
    }

    /// [`Segment::lower`] of each pattern, of which so many ranks are open.
    fn lower_all(&self, asked: &mut Asked, patterns: &[&[u8]], met: &[Met], open: Vec<Range<usize>>) -> Vec<(usize, usize)> {
        let mut longest: Vec<usize> = met.iter().map(|met| met.longest).collect();
        let ranks = self.narrow(asked, open.into_iter().map(Open::all).collect(), |number, window| {
            let parting = parting(window, patterns[number]);
            longest[number] = longest[number].max(shared(patterns[number], parting));
            is_set(patterns[number], parting)
        });
        ranks.into_iter().zip(longest).collect()
    }

    /// Says that the marks between two tops will be read from each of these places on.
    fn want_marks(&self, asked: &mut Asked, places: impl Iterator<Item = usize> + Clone) {
        self.want(asked, Section::Marks, places.map(|place| place / 2 * CELL_BYTES), (TOP_MARKS / 2 + 1) * CELL_BYTES);
    }

    /// The first of each range of ranks whose window is not before the pattern of that number.
    fn narrow(&self, asked: &mut Asked, open: Vec<Open>, mut is_before: impl FnMut(usize, &[u8]) -> bool) -> Vec<usize> {
        partition_all(open, |probes| self.look(asked, probes), |probe| is_before(probe.number, self.window(probe.start)))
    }

    /// Finds what entries stand at the ranks of these probes: all that is read for it, and then what windows begin with, is asked for at once.
    fn look(&self, asked: &mut Asked, probes: &mut [Probe]) {
        self.want(asked, Section::Array, probes.iter().map(|probe| 4 * probe.rank), 4);
        let array = self.array();
        probes.iter_mut().for_each(|probe| probe.start = array.get(probe.rank).unwrap_or(u32::MAX));
        self.want(asked, Section::Text, probes.iter().map(|probe| as_index(probe.start)), COMPARED);
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

impl Probe {
    const fn at(number: usize, rank: usize) -> Self {
        Self { number, rank, start: u32::MAX }
    }
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
fn partition_all(mut open: Vec<Open>, mut look: impl FnMut(&mut [Probe]), mut is_before: impl FnMut(&Probe) -> bool) -> Vec<usize> {
    let mut probes = Vec::with_capacity(open.len());
    loop {
        probes.clear();
        probes.extend(open.iter().enumerate().filter_map(|(number, open)| Some(Probe::at(number, open.next()?))));
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
fn partition(mut open: Open, mut is_before: impl FnMut(usize) -> bool) -> usize {
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

    /// Length of the common prefix.
    fn common(a: &[u8], b: &[u8]) -> usize {
        a.iter().zip(b).take_while(|(a, b)| a == b).count()
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
                let lower = segment.lower(pattern, segment.meet(pattern)).0;
                assert_eq!((lower, segment.range(pattern)), (first, ranks.clone()), "{pattern_text}");
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
