//! How often texts stand in an index and what stands behind them: n-grams, and the longest context that stands anywhere (the infinite-gram, arXiv
//! 2401.17377, section 3). Counts are exact, probabilities two counts.
//!
//! Over *words*: the unit is a word with all that stands before it up to the word before (` of`, `; the`), so that a text is one sequence of units
//! and counts add up. Over *bytes*: what follows a text that begins at a word start, byte by byte. Nothing reaches beyond its document.
//!
//! Work: a group of equal continuations costs one binary search, so what follows a common word costs by how many ways it is followed.

use std::{collections::BTreeMap, ops::Range};

use types::text::{self, WINDOW};

use super::{Index, Segment, documents::offset_at, segment::as_u64};
use crate::ratio::Ratio;

/// Longest context whose continuations are told apart: behind it at least as much again of the order is left.
pub const CONTEXT_BYTES_MAX: usize = WINDOW / 2;
/// Most different continuations that are counted of one context.
pub const CONTINUATIONS_MAX: usize = 1 << 16;

/// Why continuations are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatisticsError {
    /// Too long a context.
    #[error("the context has {0} bytes, at most {CONTEXT_BYTES_MAX} are looked behind: leave out its first words")]
    Context(usize),
    /// Too many ways to go on.
    #[error("more than {CONTINUATIONS_MAX} different continuations: give more context")]
    Continuations,
}

/// What follows a context, in whole words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NextWords {
    /// How often the context stands with its last word whole.
    pub count: u64,
    /// How often each next word follows, with what stands before it.
    pub next: BTreeMap<String, u64>,
    /// How often a document ends behind it, with or without marks.
    pub ends: u64,
    /// How often what follows is longer than is looked at.
    pub beyond: u64,
}

impl NextWords {
    /// Probability of a next word, given the context.
    pub fn probability(&self, next: &str) -> Ratio {
        Ratio::new(self.next.get(next).copied().unwrap_or_default(), self.count)
    }

    /// The likeliest next words; of equally likely ones the first by their bytes.
    pub fn likeliest(&self, at_most: usize) -> Vec<(&str, Ratio)> {
        let mut next: Vec<_> = self.next.iter().map(|(word, count)| (word.as_str(), Ratio::new(*count, self.count))).collect();
        next.sort_by_key(|(_, ratio)| std::cmp::Reverse(ratio.count));
        next.truncate(at_most);
        next
    }
}

impl Index {
    /// How often each byte follows `context`, which begins at a word start; nothing stands for the end of a document.
    ///
    /// # Errors
    /// [`StatisticsError::Context`].
    pub fn next_bytes(&self, context: &[u8]) -> Result<BTreeMap<Option<u8>, u64>, StatisticsError> {
        let mut next = BTreeMap::new();
        self.continuations(
            context,
            |rest| &rest[..rest.len().min(1)],
            |byte, count| *next.entry(byte.first().copied()).or_default() += count,
        )?;
        Ok(next)
    }

    /// What follows `context`, from the start of a word to the end of one, in whole words.
    ///
    /// # Errors
    /// [`StatisticsError`].
    pub fn next_words(&self, context: &str) -> Result<NextWords, StatisticsError> {
        let is_open = context.chars().next_back().is_some_and(|last| text::is_word(last) && !text::is_single(last));
        let room = WINDOW.saturating_sub(context.len());
        let mut found = NextWords::default();
        self.continuations(
            context.as_bytes(),
            |rest| unit(readable(rest), room).1.as_bytes(),
            |rest, count| {
                let rest = readable(rest);
                if is_open && rest.chars().next().is_some_and(continues) {
                    return;
                }
                found.count += count;
                match unit(rest, room) {
                    (Some(word), _) => *found.next.entry(word.to_owned()).or_default() += count,
                    (None, whole) if is_cut(whole, room) => found.beyond += count,
                    (None, _) => found.ends += count,
                }
            },
        )?;
        Ok(found)
    }

    /// How often `phrase` stands from the start of a word to the end of one.
    ///
    /// # Errors
    /// [`StatisticsError::Context`].
    pub fn count_words(&self, phrase: &str) -> Result<u64, StatisticsError> {
        let is_open = phrase.chars().next_back().is_some_and(|last| text::is_word(last) && !text::is_single(last));
        let mut whole = 0;
        let first = |rest: &[u8]| readable(rest).chars().next();
        self.continuations(
            phrase.as_bytes(),
            |rest| &rest[..first(rest).map_or(0, char::len_utf8)],
            |rest, count| whole += if is_open && first(rest).is_some_and(continues) { 0 } else { count },
        )?;
        Ok(whole)
    }

    /// The longest end of `text` that begins at a word and stands somewhere in whole words: the context of the infinite-gram. Empty if there is none.
    pub fn longest_suffix<'t>(&self, text: &'t str) -> &'t str {
        let words = text::words(text);
        let Some(end) = words.last().map(|word| word.end) else { return "" };
        let starts = words.iter().map(|word| word.start).filter(|start| end - start <= CONTEXT_BYTES_MAX);
        let mut ends = starts.map(|start| &text[start..end]);
        ends.find(|suffix| self.count_words(suffix).is_ok_and(|count| count > 0)).unwrap_or_default()
    }

    /// Calls `tell` with each different `key` of what follows `context`, as often as it does in each segment. A key is a beginning of what it is given
    /// (at most 256 bytes less the context's, cut at the document's end) that its own bytes decide, read from the left.
    fn continuations(
        &self,
        context: &[u8],
        key: impl for<'t> Fn(&'t [u8]) -> &'t [u8],
        mut tell: impl FnMut(&[u8], u64),
    ) -> Result<(), StatisticsError> {
        if context.len() > CONTEXT_BYTES_MAX {
            return Err(StatisticsError::Context(context.len()));
        }
        let mut ways = 0;
        for (_, _, segment) in self.segments().filter(|_| !context.is_empty()) {
            groups(segment, segment.range(context), context.len(), &mut ways, &key, &mut tell)?;
        }
        Ok(())
    }
}

/// Calls `tell` with each different `key` of what follows the first `skip` bytes at these ranks, and how many follow so; `ways` counts the calls, which
/// may be [`CONTINUATIONS_MAX`]. A key is a beginning of what it is given that its own bytes decide.
pub(super) fn groups(
    segment: &Segment,
    ranks: Range<usize>,
    skip: usize,
    ways: &mut usize,
    key: impl for<'t> Fn(&'t [u8]) -> &'t [u8],
    mut tell: impl FnMut(&[u8], u64),
) -> Result<(), StatisticsError> {
    let mut rank = ranks.start;
    while let Some(first) = (rank < ranks.end).then(|| rest(segment, rank, skip)).flatten() {
        let first = key(first);
        let is_same = |at: usize| rest(segment, at, skip).is_some_and(|rest| key(rest) == first);
        let end = boundary(rank + 1, ranks.end, is_same);
        tell(first, as_u64(end - rank));
        rank = end;
        *ways += 1;
        if *ways > CONTINUATIONS_MAX {
            return Err(StatisticsError::Continuations);
        }
    }
    Ok(())
}

/// The first rank from `start` on that does not belong: steps that double, then a binary search, so that small groups cost little.
fn boundary(start: usize, end: usize, belongs: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut step) = (start, 1);
    while low < end && belongs((low + step - 1).min(end - 1)) {
        low = (low + step).min(end);
        step *= 2;
    }
    let mut high = (low + step - 1).min(end);
    while low < high {
        let middle = low + (high - low) / 2;
        if belongs(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// What follows `skip` bytes at a rank, within its window and its document.
fn rest(segment: &Segment, rank: usize, skip: usize) -> Option<&[u8]> {
    let window = segment.text().get(offset_at(segment, rank)?..)?;
    let window = &window[..window.len().min(WINDOW)];
    let end = window.iter().position(|byte| *byte == 0).unwrap_or(window.len());
    window.get(skip..end)
}

/// The characters that are whole.
fn readable(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_else(|error| std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default())
}

/// Whether a character goes on with the word before it.
fn continues(next: char) -> bool {
    text::is_word(next) && !text::is_single(next)
}

/// Whether a text fills `room` up to a character that is not whole: the order ends with the window, and with it what can be told apart.
const fn is_cut(rest: &str, room: usize) -> bool {
    rest.len() + 4 > room
}

/// The first unit of `rest`, if it is seen to end there, and that unit with the character which shows that, or all there is.
fn unit(rest: &str, room: usize) -> (Option<&str>, &str) {
    let Some(start) = rest.find(|c| text::is_word(c) || text::is_single(c)) else { return (None, rest) };
    let mut letters = rest[start..].char_indices();
    let is_single = letters.next().is_some_and(|(_, first)| text::is_single(first));
    let end = letters.find(|(_, c)| is_single || !continues(*c));
    match end {
        Some((at, _)) if is_single => (Some(&rest[..start + at]), &rest[..start + at]),
        Some((at, c)) => (Some(&rest[..start + at]), &rest[..start + at + c.len_utf8()]),
        None if is_cut(rest, room) => (None, rest),
        // The document ends with the word.
        None => (Some(rest), rest),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::datanet;

    fn index(texts: &[&[String]]) -> Index {
        let datanets = (3..).zip(texts).map(|(asset, texts)| {
            let texts: Vec<(u8, &str)> = (1..).zip(texts.iter().map(String::as_str)).collect();
            datanet(asset, &texts)
        });
        Index::new(datanets.collect()).unwrap()
    }

    /// By a scan: places of the context in whole words, next words and ends.
    fn scanned(texts: &[&[String]], context: &str) -> NextWords {
        let mut found = NextWords::default();
        for document in texts.iter().flat_map(|texts| texts.iter()) {
            let words = text::words(document);
            for start in words.iter().map(|word| word.start).filter(|start| document[*start..].starts_with(context)) {
                let end = start + context.len();
                let Some(last) = words.iter().position(|word| word.end == end) else { continue };
                found.count += 1;
                match words.get(last + 1) {
                    Some(next) => *found.next.entry(document[end..next.end].to_owned()).or_default() += 1,
                    None => found.ends += 1,
                }
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn next_words_and_counts_are_those_of_a_scan(
            one in proptest::collection::vec("[ab .é中]{0,16}[abé中.]", 0..10), other in proptest::collection::vec("[ab .é中]{0,16}[ab]", 0..4),
            context in "[abé]{1,2}( [ab中])?",
        ) {
            let texts: [&[String]; 2] = [&one, &other];
            let (index, expected) = (index(&texts), scanned(&texts, &context));
            prop_assert_eq!(index.count_words(&context).unwrap(), expected.count);
            prop_assert_eq!(index.next_words(&context).unwrap(), expected);
        }

        #[test]
        fn next_bytes_are_those_of_a_scan_and_sum_to_the_count(texts in proptest::collection::vec("[ab .é]{0,16}[ab]", 0..10), context in "[ab]{1,2}( [ab])?") {
            let index = index(&[&texts]);
            let mut expected = BTreeMap::new();
            for document in &texts {
                let starts = text::words(document).into_iter().map(|word| word.start).filter(|start| document[*start..].starts_with(&context));
                for start in starts {
                    *expected.entry(document.as_bytes().get(start + context.len()).copied()).or_default() += 1;
                }
            }
            let found = index.next_bytes(context.as_bytes()).unwrap();
            prop_assert_eq!(found.values().sum::<u64>(), index.count(context.as_bytes()));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_boundary_is_found_from_any_start(start in 0..50_usize, length in 0..50_usize, edge in 0..120_usize) {
            let end = start + length;
            prop_assert_eq!(boundary(start, end, |at| at < edge), edge.clamp(start, end));
        }
    }

    #[test]
    fn probabilities_are_exact_and_back_off_to_the_longest_context_that_stands() {
        let texts = ["Gout is an arthritis. Gout is painful".to_owned(), "gouty, is an error; Gout is an arthritis".to_owned()];
        let index = index(&[&texts]);
        let next = index.next_words("Gout is").unwrap();
        assert_eq!((next.count, next.probability(" an"), next.probability(" painful")), (3, Ratio::new(2, 3), Ratio::new(1, 3)));
        assert_eq!(next.likeliest(1), [(" an", Ratio::new(2, 3))]);
        assert_eq!(index.longest_suffix("People say that gout is an"), "is an");
        assert_eq!(index.next_words("is an").unwrap().next, [(" arthritis".to_owned(), 2), (" error".to_owned(), 1)].into());
        assert_eq!((index.longest_suffix("unheard"), index.longest_suffix(""), index.longest_suffix("...")), ("", "", ""));
        assert_eq!(index.next_words("is an arthritis").unwrap().ends, 1, "the other goes on with a sentence");
    }

    #[test]
    fn what_is_too_long_to_be_told_apart_is_said_to_be() {
        let long = "b".repeat(300);
        let index = index(&[&[format!("a {long} c"), "a b".to_owned()]]);
        let next = index.next_words("a").unwrap();
        assert_eq!((next.count, next.beyond, next.probability(" b")), (2, 1, Ratio::new(1, 2)));
        let context = "a".repeat(CONTEXT_BYTES_MAX + 1);
        assert_eq!(index.next_words(&context), Err(StatisticsError::Context(context.len())));
        assert_eq!(index.next_bytes(context.as_bytes()), Err(StatisticsError::Context(context.len())));
        assert_eq!((index.next_words("").unwrap(), index.count_words("").unwrap()), (NextWords::default(), 0));
        let nothing = Index::new(vec![]).unwrap();
        assert_eq!(nothing.next_words("a").unwrap(), NextWords::default());
    }
}
