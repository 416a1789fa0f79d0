//! What attribution finds in many answers, counted: coverage, what it finds where nothing can be found, agreement with OLMoTrace's rules, times.
//!
//! - *Coverage* is the share of an answer's words that stand in a paid span. What the prompt held already is masked and never in one.
//! - *False positives* are the same share, of the same answers, over text that their model never saw: what is found there was not learned there.
//!   The caller says which text that is; nothing here can know.
//! - *Agreement*: OLMoTrace (arXiv 2504.07096, section 3) marks maximal runs of whole words that stand in the corpus and hold no delimiter, and of
//!   an answer of L tokens keeps the ceil(0.05 L) whose product of unigram probabilities is smallest. [`olmotrace`] applies that to this index, with
//!   words for tokens. It has no masks, no least length, no weight to reach and no payee; runs may overlap.
//! - Times are the caller's, this crate reads no clock; [`Times`] sorts them.
//!
//! Every figure is two counts. A verbatim match is not a cause: none of this says that an answer was made from what it matches.
//! Work: [`WordCounts`] takes one pass over all text (some 100 ns a word) and 40 bytes a distinct word; an answer takes one search a word.

use std::{collections::BTreeMap, ops::Range};

use serde::Serialize;
use types::text;

use crate::{
    index::Index,
    parameters,
    ratio::Ratio,
    span::{Attribution, maximal_runs},
};

/// What stands beside every figure and every match.
pub const NOT_A_CAUSE: &str = "a verbatim match is not a cause";

/// How often each word stands in an index: the unigrams of OLMoTrace's rule, with words for tokens.
#[derive(Debug, Default)]
pub struct WordCounts {
    counts: BTreeMap<Box<str>, u64>,
    total: u64,
}

impl WordCounts {
    /// Counts the words of every document of `index`.
    pub fn of(index: &Index) -> Self {
        let mut counts = Self::default();
        for segment in index.datanets().iter().flat_map(|datanet| datanet.segments()) {
            for document in segment.text().split(|byte| *byte == 0) {
                // A document is canonical text; what is not cannot have been indexed.
                counts.add(std::str::from_utf8(document).unwrap_or_default());
            }
        }
        counts
    }

    fn add(&mut self, document: &str) {
        for word in text::words(document) {
            let word = &document[word];
            match self.counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.counts.insert(word.into(), 1)),
            }
            self.total += 1;
        }
    }

    /// Words of all documents.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Probability of a word among all.
    pub fn probability(&self, word: &str) -> Ratio {
        Ratio::new(self.counts.get(word).copied().unwrap_or_default(), self.total)
    }

    /// -log2 of the product of the words' probabilities, in 1/256 bit and cut at each word; a word that stands nowhere counts as one that stands once.
    fn rarity(&self, words: impl Iterator<Item = u64>) -> u64 {
        words.map(|count| u64::from(parameters::weight(self.total.max(1), count.max(1)).unwrap_or_default())).sum()
    }
}

/// The runs that OLMoTrace's rules mark in an answer, as numbers of its words, ascending by start; they may overlap.
pub fn olmotrace(index: &Index, counts: &WordCounts, answer: &str, found: &Attribution) -> Vec<Range<usize>> {
    let words = &found.words;
    let word_count = |word: usize| counts.probability(&answer[words[word].range.clone()]).count;
    let mut runs: Vec<(u64, Range<usize>)> =
        maximal_runs(index, answer, words).into_iter().map(|run| (counts.rarity(run.clone().map(word_count)), run)).collect();
    // Smallest product first; of equal ones the earlier.
    runs.sort_by_key(|(rarity, run)| (std::cmp::Reverse(*rarity), run.start));
    runs.truncate(words.len().div_ceil(20));
    let mut kept: Vec<_> = runs.into_iter().map(|(_, run)| run).collect();
    kept.sort_by_key(|run| run.start);
    kept
}

/// How two ways of marking the same answers agree, in words and spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Spans that OLMoTrace's rules keep.
    pub spans: u64,
    /// Paid spans with exactly the same words.
    pub equal_spans: u64,
    /// Words that both mark.
    pub both: u64,
    /// Words in a paid span alone.
    pub only_paid: u64,
    /// Words that only OLMoTrace's rules mark.
    pub only_olmotrace: u64,
    /// Those of them that are not paid because the prompt held them.
    pub only_olmotrace_masked: u64,
}

impl Agreement {
    /// Words that both mark, of those that either does; what only masks keep apart left out.
    pub const fn overlap(&self) -> Ratio {
        Ratio::new(self.both, self.both + self.only_paid + self.only_olmotrace - self.only_olmotrace_masked)
    }
}

/// What attribution found in answers; sums of [`Tally::of`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Answers.
    pub answers: u64,
    /// Answers with at least one paid span.
    pub answers_with_spans: u64,
    /// Words of the answers.
    pub words: u64,
    /// Words that the prompt held already, in runs of at least m.
    pub masked: u64,
    /// Words in paid spans.
    pub attributed: u64,
    /// Paid spans.
    pub spans: u64,
    /// Weight of paid spans, in 1/256 bit.
    pub weight: u64,
    /// Weight of all unmasked words: what the data share is divided by.
    pub weight_total: u64,
    /// Beside OLMoTrace's rules on the same index.
    pub olmotrace: Agreement,
}

impl Tally {
    /// Counts one answer and what [`crate::span::attribute`] found in it over the same index. `counts` are the index's.
    pub fn of(index: &Index, counts: &WordCounts, answer: &str, found: &Attribution) -> Self {
        let paid = runs(found, found.spans.iter().map(|span| (u64::from(span.start), u64::from(span.length))));
        let masked = marks(found, &runs(found, found.masks.iter().map(|mask| (u64::from(mask.start), u64::from(mask.length)))));
        let theirs = olmotrace(index, counts, answer, found);
        let (is_paid, is_theirs) = (marks(found, &paid), marks(found, &theirs));
        let count = |is: &dyn Fn(usize) -> bool| length((0..found.words.len()).filter(|word| is(*word)).count());
        Self {
            answers: 1,
            answers_with_spans: u64::from(!paid.is_empty()),
            words: length(found.words.len()),
            masked: count(&|word| masked[word]),
            attributed: count(&|word| is_paid[word]),
            spans: length(paid.len()),
            weight: found.spans.iter().map(|span| u64::from(span.weight)).sum(),
            weight_total: found.weight_total,
            olmotrace: Agreement {
                spans: length(theirs.len()),
                equal_spans: length(paid.iter().filter(|run| theirs.contains(run)).count()),
                both: count(&|word| is_paid[word] && is_theirs[word]),
                only_paid: count(&|word| is_paid[word] && !is_theirs[word]),
                only_olmotrace: count(&|word| !is_paid[word] && is_theirs[word]),
                only_olmotrace_masked: count(&|word| masked[word] && is_theirs[word]),
            },
        }
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        let Self { answers, answers_with_spans, words, masked, attributed, spans, weight, weight_total, olmotrace } = other;
        self.answers += answers;
        self.answers_with_spans += answers_with_spans;
        self.words += words;
        self.masked += masked;
        self.attributed += attributed;
        self.spans += spans;
        self.weight += weight;
        self.weight_total += weight_total;
        let Agreement { spans, equal_spans, both, only_paid, only_olmotrace, only_olmotrace_masked } = olmotrace;
        self.olmotrace.spans += spans;
        self.olmotrace.equal_spans += equal_spans;
        self.olmotrace.both += both;
        self.olmotrace.only_paid += only_paid;
        self.olmotrace.only_olmotrace += only_olmotrace;
        self.olmotrace.only_olmotrace_masked += only_olmotrace_masked;
    }

    /// Share of the answers' words that stand in paid spans: coverage, or false positives where nothing was to be found.
    pub const fn coverage(&self) -> Ratio {
        Ratio::new(self.attributed, self.words)
    }

    /// Share of the answers' words that the prompt held already.
    pub const fn masked(&self) -> Ratio {
        Ratio::new(self.masked, self.words)
    }

    /// Share of the unmasked words' weight that is paid to contributors rather than to treasuries.
    pub const fn weight(&self) -> Ratio {
        Ratio::new(self.weight, self.weight_total)
    }
}

/// Ranges of bytes as ranges of words; they begin and end with words.
fn runs(found: &Attribution, ranges: impl Iterator<Item = (u64, u64)>) -> Vec<Range<usize>> {
    let first_from = |byte: u64| found.words.partition_point(|word| length(word.range.start) < byte);
    ranges.map(|(start, bytes)| first_from(start)..first_from(start + bytes)).collect()
}

/// For each word, whether a run holds it.
fn marks(found: &Attribution, runs: &[Range<usize>]) -> Vec<bool> {
    let mut marked = vec![false; found.words.len()];
    runs.iter().for_each(|run| marked[run.clone()].fill(true));
    marked
}

fn length(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

/// How long something took, many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Times {
    /// How many were measured.
    pub measured: u64,
    /// Half took no longer, in nanoseconds.
    pub median_ns: u64,
    /// 99 of 100 took no longer; the longest where fewer than 100 were measured.
    pub p99_ns: u64,
}

impl Times {
    /// By nearest rank; nothing of none.
    pub fn of(mut nanoseconds: Vec<u64>) -> Option<Self> {
        nanoseconds.sort_unstable();
        let ranked = |percent: usize| nanoseconds.get((nanoseconds.len() * percent).div_ceil(100).checked_sub(1)?).copied();
        Some(Self { measured: length(nanoseconds.len()), median_ns: ranked(50)?, p99_ns: ranked(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parameters::Parameters, sample::datanet, span::attribute};

    const HEARING: &str = "Bilateral sensorineural hearing impairment of congenital onset affecting speech.";
    const KIDNEY: &str = "A structural anomaly of the kidney parenchyma. See also the hearing of the kidney.";

    fn index(texts: &[&str]) -> Index {
        let texts: Vec<(u8, &str)> = (1..).zip(texts.iter().copied()).collect();
        Index::new(vec![datanet(3, &texts)]).unwrap()
    }

    fn tally(index: &Index, prompt: &str, answer: &str) -> (Tally, Vec<String>) {
        let counts = WordCounts::of(index);
        let found = attribute(index, Parameters::builtin(1).unwrap(), format!("\x02{prompt}\0").as_bytes(), answer).unwrap();
        let shown = |run: Range<usize>| answer[found.words[run.start].range.start..found.words[run.end - 1].range.end].to_owned();
        (Tally::of(index, &counts, answer, &found), olmotrace(index, &counts, answer, &found).into_iter().map(shown).collect())
    }

    #[test]
    fn words_are_counted_whole_and_as_they_are_written() {
        let counts = WordCounts::of(&index(&["The kidney, the kidneys.", "kidney"]));
        assert_eq!(counts.total(), 5);
        for (word, count) in [("kidney", 2), ("kidneys", 1), ("the", 1), ("The", 1), ("liver", 0)] {
            assert_eq!(counts.probability(word).count, count, "{word}");
        }
    }

    #[test]
    fn coverage_is_the_share_of_words_in_paid_spans_and_control_text_pays_for_none() {
        let answer = "It is a sensorineural hearing impairment of congenital onset affecting speech, they say.";
        let (found, kept) = tally(&index(&[HEARING, KIDNEY]), "What is it?", answer);
        assert_eq!((found.answers, found.answers_with_spans, found.spans), (1, 1, 1));
        assert_eq!(found.coverage(), Ratio::new(8, 13));
        assert_eq!(kept, ["sensorineural hearing impairment of congenital onset affecting speech"]);
        assert_eq!((found.olmotrace.equal_spans, found.olmotrace.overlap()), (1, Ratio::new(1, 1)));
        let (control, _) = tally(&index(&[KIDNEY]), "What is it?", answer);
        assert_eq!((control.attributed, control.spans, control.coverage()), (0, 0, Ratio::new(0, 13)));
    }

    #[test]
    fn what_the_prompt_held_is_masked_here_and_marked_by_the_other_rules() {
        let (found, _) = tally(&index(&[HEARING]), HEARING, HEARING);
        assert_eq!((found.words, found.masked, found.attributed), (9, 9, 0));
        assert_eq!((found.olmotrace.only_olmotrace, found.olmotrace.only_olmotrace_masked), (9, 9));
        assert_eq!(found.olmotrace.overlap().of, 0, "nothing that is not masked is marked by either");
    }

    #[test]
    fn the_other_rules_keep_one_run_for_every_twenty_words_and_the_rarest_first() {
        // 21 words, so two runs; "the kidney" and "of the" stand there too, and are likelier.
        let answer = "the kidney x of the x congenital onset affecting speech x sensorineural hearing impairment x x x x x x x";
        let (_, kept) = tally(&index(&[HEARING, KIDNEY]), "", answer);
        assert_eq!(kept, ["congenital onset affecting speech", "sensorineural hearing impairment"]);
        // No run goes over the end of a sentence, whatever stands on both sides.
        let (_, kept) = tally(&index(&[KIDNEY]), "", "anomaly of the kidney parenchyma. See also");
        assert_eq!(kept, ["anomaly of the kidney parenchyma"]);
    }

    #[test]
    fn an_answer_without_a_match_or_without_words_and_an_index_without_documents_count_nothing() {
        for (texts, answer, words) in [(&[HEARING][..], "Quite other words.", 3), (&[HEARING], "", 0), (&[], "Quite other words.", 3)] {
            let (found, kept) = tally(&index(texts), "", answer);
            let nothing = Tally { answers: 1, words, weight_total: found.weight_total, ..Tally::default() };
            assert_eq!((found, kept.len()), (nothing, 0), "{answer:?} over {texts:?}");
        }
        let none = Index::new(vec![]).unwrap();
        assert_eq!(tally(&none, "", "words").0.coverage(), Ratio::new(0, 1));
    }

    #[test]
    fn sums_of_tallies_are_those_of_their_counts() {
        let index = index(&[HEARING, KIDNEY]);
        let (one, _) = tally(&index, "", HEARING);
        let (other, _) = tally(&index, "", "quite other words");
        let mut sum = Tally::default();
        [one, other, other].iter().for_each(|tally| sum.add(tally));
        assert_eq!((sum.answers, sum.answers_with_spans, sum.words), (3, 1, one.words + 2 * other.words));
        assert_eq!((sum.attributed, sum.weight, sum.olmotrace), (one.attributed, one.weight, one.olmotrace));
    }

    #[test]
    fn times_go_by_nearest_rank() {
        assert_eq!(Times::of(vec![]), None);
        let of = |nanoseconds: Vec<u64>| Times::of(nanoseconds).unwrap();
        assert_eq!(of(vec![7]), Times { measured: 1, median_ns: 7, p99_ns: 7 });
        assert_eq!(of((1..=200).rev().collect()), Times { measured: 200, median_ns: 100, p99_ns: 198 });
        assert_eq!(of(vec![30, 10, 20]), Times { measured: 3, median_ns: 20, p99_ns: 30 });
    }
}
