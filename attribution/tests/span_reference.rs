//! The search, the choice and the masks against a slow reading of the rule's own words over the raw text, on thousands of small corpora made
//! to collide: few words, repeated documents, delimiters and scripts without spaces.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{borrow::Cow, ops::Range, sync::Arc};

use attribution::{
    index::{DatanetIndex, Index, Segment, Source},
    parameters::{Parameters, WordTable},
    span::{DELIMITERS, attribute},
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use types::{
    contribution::Priority,
    id::{Address, AssetId, AssetVersion},
    receipt::{Mask, Span},
    text,
};

/// A contribution before it is indexed.
#[derive(Debug, Clone)]
struct Contributed {
    contributor: Address,
    block: u64,
    documents: Vec<String>,
}

/// Datanets as lists of segments as lists of contributions.
type Corpus = Vec<Vec<Vec<Contributed>>>;

/// A document where the rule sees it.
struct Held {
    datanet: u8,
    start: u64,
    priority: Priority,
    payee: Address,
    text: String,
}

fn index(corpus: &Corpus) -> Index {
    let datanets = corpus.iter().zip(1..).map(|(segments, asset)| {
        let mut rows = 0;
        let segments = segments.iter().map(|contributions| {
            let texts: Vec<String> = contributions.iter().map(|c| c.documents.iter().map(|d| format!("{d}\0")).collect()).collect();
            let sources: Vec<Source<'_>> = contributions
                .iter()
                .zip(&texts)
                .map(|(c, text)| Source {
                    contributor: c.contributor,
                    block: c.block,
                    ordinal: 0,
                    text_root: text::text_root(text.as_bytes()),
                    text: text.as_bytes(),
                })
                .collect();
            let segment = Segment::build(&sources, rows).unwrap();
            rows += segment.documents().len() as u64;
            segment
        });
        Arc::new(DatanetIndex::new(AssetVersion { asset: AssetId(asset), version: 1 }, segments.collect()).unwrap())
    });
    Index::new(datanets.collect()).unwrap()
}

/// The documents laid out as P5 says, in order of priority, then Datanet, then place.
fn held(corpus: &Corpus) -> Vec<Held> {
    let mut held = Vec::new();
    for (segments, datanet) in corpus.iter().zip(0..) {
        let mut at = 0;
        for segment in segments {
            let mut offset = 0_u64;
            for contribution in segment {
                offset = offset.next_multiple_of(64);
                for (document, number) in contribution.documents.iter().zip(0..) {
                    let priority = Priority { block: contribution.block, ordinal: 0, document: number };
                    held.push(Held { datanet, start: at + offset, priority, payee: contribution.contributor, text: document.clone() });
                    offset += document.len() as u64 + 1;
                }
            }
            at += offset;
        }
    }
    held.sort_by_key(|document| (document.priority, document.datanet, document.start));
    held
}

/// Where a text stands first, from a word start on.
fn first_holder<'a>(held: &'a [Held], wanted: &str) -> Option<(&'a Held, u64)> {
    held.iter().find_map(|document| {
        let place =
            text::words(&document.text).into_iter().map(|word| word.start).find(|start| document.text[*start..].starts_with(wanted))?;
        Some((document, document.start + place as u64))
    })
}

struct Rule<'a> {
    parameters: &'a Parameters,
    held: &'a [Held],
    prompt: &'a str,
    answer: &'a str,
    words: Vec<Range<usize>>,
}

impl Rule<'_> {
    fn bytes(&self, run: &Range<usize>) -> Range<usize> {
        self.words[run.start].start..self.words[run.end - 1].end
    }

    fn text(&self, run: &Range<usize>) -> &str {
        &self.answer[self.bytes(run)]
    }

    /// As a span states it, and runs are ranked: 2^32 - 1 at most.
    fn weight(&self, run: &Range<usize>) -> u64 {
        let sum = run.clone().map(|word| u64::from(self.parameters.weight(self.text(&(word..word + 1))))).sum::<u64>();
        sum.min(u64::from(u32::MAX))
    }

    /// Every run of words of the answer.
    fn runs(&self) -> Vec<Range<usize>> {
        (0..self.words.len()).flat_map(|first| (first + 1..=self.words.len()).map(move |end| first..end)).collect()
    }

    /// Those that lie in no longer one.
    fn longest(runs: Vec<Range<usize>>) -> Vec<Range<usize>> {
        let inside = |a: &Range<usize>, b: &Range<usize>| a != b && b.start <= a.start && a.end <= b.end;
        runs.iter().filter(|run| !runs.iter().any(|other| inside(run, other))).cloned().collect()
    }

    /// Where the run stands first in the prompt, from a word's start to a word's end.
    fn prompt_offset(&self, run: &Range<usize>) -> Option<usize> {
        let words = text::words(self.prompt);
        let wanted = self.text(run);
        words
            .iter()
            .map(|word| word.start)
            .find(|start| self.prompt[*start..].starts_with(wanted) && words.iter().any(|word| word.end == start + wanted.len()))
    }

    fn masked_runs(&self) -> Vec<Range<usize>> {
        let shared = self.runs().into_iter().filter(|run| self.prompt_offset(run).is_some()).collect();
        Self::longest(shared).into_iter().filter(|run| run.len() >= usize::from(self.parameters.m)).collect()
    }

    fn is_enough(&self, run: &Range<usize>) -> bool {
        run.len() >= usize::from(self.parameters.m) && self.weight(run) >= u64::from(self.parameters.theta)
    }

    fn spans(&self) -> Vec<Range<usize>> {
        let masks = self.masked_runs();
        let in_a_piece = |run: &Range<usize>| run.clone().all(|word| !masks.iter().any(|mask| mask.contains(&word)));
        let matching = self.runs().into_iter().filter(|run| {
            self.bytes(run).len() <= 256
                && in_a_piece(run)
                && !self.text(run).contains(DELIMITERS)
                && first_holder(self.held, self.text(run)).is_some()
        });
        let mut left: Vec<_> = Self::longest(matching.collect()).into_iter().filter(|run| self.is_enough(run)).collect();
        let mut chosen = Vec::new();
        loop {
            left.sort_by_key(|run| (std::cmp::Reverse(self.weight(run)), run.start, std::cmp::Reverse(run.end)));
            if left.is_empty() {
                break;
            }
            let best = left.remove(0);
            left = left
                .into_iter()
                .flat_map(|run| [run.start..run.end.min(best.start), run.start.max(best.end)..run.end])
                .filter(|run| run.start < run.end && self.is_enough(run))
                .collect();
            chosen.push(best);
        }
        chosen.sort_by_key(|run| run.start);
        chosen
    }

    fn span(&self, run: &Range<usize>) -> Span {
        let (document, position) = first_holder(self.held, self.text(run)).unwrap();
        let bytes = self.bytes(run);
        Span {
            start: u32::try_from(bytes.start).unwrap(),
            length: u16::try_from(bytes.len()).unwrap(),
            datanet: document.datanet,
            position,
            weight: u32::try_from(self.weight(run)).unwrap(),
            payee: document.payee,
        }
    }

    fn mask(&self, run: &Range<usize>) -> Mask {
        let (bytes, prompt) = (self.bytes(run), self.prompt_offset(run).unwrap());
        let narrow = |n: usize| u32::try_from(n).unwrap();
        Mask { start: narrow(bytes.start), length: narrow(bytes.len()), prompt: narrow(prompt) }
    }
}

/// Attributes both ways and compares everything; returns the numbers of spans and masks.
fn check(corpus: &Corpus, parameters: &Parameters, messages: &[String], answer: &str) -> (usize, usize) {
    let prompt: String = messages.iter().map(|message| format!("\u{2}{message}\0")).collect();
    let got = attribute(&index(corpus), parameters, prompt.as_bytes(), answer).unwrap();
    let held = held(corpus);
    let rule = Rule { parameters, held: &held, prompt: &prompt, answer, words: text::words(answer) };
    let masks = rule.masked_runs();
    assert_eq!(got.masks, masks.iter().map(|run| rule.mask(run)).collect::<Vec<_>>(), "masks of {answer:?}");
    assert_eq!(got.spans, rule.spans().iter().map(|run| rule.span(run)).collect::<Vec<_>>(), "spans of {answer:?}");
    let unmasked = (0..rule.words.len()).filter(|word| !masks.iter().any(|mask| mask.contains(word)));
    assert_eq!(got.weight_total, unmasked.map(|word| rule.weight(&(word..word + 1))).sum::<u64>(), "W of {answer:?}");
    (got.spans.len(), got.masks.len())
}

fn parameters(m: u8, theta: u32) -> Parameters {
    let rows = [("a", 1), ("b", 3), ("cc", 10), ("d", 0), ("the", 5)].map(|(word, weight)| (Cow::Borrowed(word), weight));
    Parameters::new(9, m, theta, 12, WordTable::new(rows.to_vec()).unwrap())
}

fn word() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("a"), 4 => Just("b"), 2 => Just("cc"), 2 => Just("The"), 1 => Just("d"), 1 => Just("ccd"), 1 => Just("学"), 1 => Just("é"), 1 => Just("zz9")]
}

fn gap() -> impl Strategy<Value = &'static str> {
    prop_oneof![12 => Just(" "), 1 => Just(". "), 1 => Just("\n"), 1 => Just(", "), 1 => Just("  "), 1 => Just("。"), 1 => Just("")]
}

fn prose(words: Range<usize>) -> impl Strategy<Value = String> {
    proptest::collection::vec((word(), gap()), words).prop_map(|parts| parts.into_iter().flat_map(|(word, gap)| [word, gap]).collect())
}

fn document() -> impl Strategy<Value = String> {
    prose(1..14).prop_filter("documents hold text", |text| !text.trim().is_empty())
}

fn corpus() -> impl Strategy<Value = Corpus> {
    let contribution = (1_u8..5, proptest::collection::vec(document(), 1..4)).prop_map(|(who, documents)| Contributed {
        contributor: Address([who; 20]),
        block: 0,
        documents,
    });
    let segment = proptest::collection::vec(contribution, 0..5);
    let datanets = proptest::collection::vec(proptest::collection::vec(segment, 1..3), 1..3);
    (datanets, proptest::collection::vec(any::<u16>(), 27)).prop_map(|(mut corpus, order)| {
        // Blocks rise within a segment and mix between segments and Datanets; each is used once.
        for (number, segment) in corpus.iter_mut().flatten().enumerate() {
            let mut blocks: Vec<u64> =
                (0..segment.len()).map(|i| u64::from(order[(3 * number + i) % 27]) * 100 + (3 * number + i) as u64).collect();
            blocks.sort_unstable();
            segment.iter_mut().zip(blocks).for_each(|(contribution, block)| contribution.block = block);
        }
        corpus
    })
}

/// An answer of pieces of documents, of the prompt, and of free text.
fn answer(corpus: &Corpus, messages: &[String], free: &[String], cuts: &[(u16, u16, u16)]) -> String {
    let pool: Vec<&String> = corpus.iter().flatten().flatten().flat_map(|c| &c.documents).chain(messages).chain(free).collect();
    cuts.iter()
        .map(|(which, from, length)| {
            let text: Vec<char> = pool[usize::from(*which) % pool.len()].chars().collect();
            let from = usize::from(*from) % text.len().max(1);
            text[from.min(text.len())..text.len().min(from + usize::from(*length) % 40)].iter().collect::<String>() + " "
        })
        .collect()
}

prop_compose! {
    /// Corpus, messages, answer, m and theta.
    fn case()(
        corpus in corpus(),
        messages in proptest::collection::vec(prose(0..12), 0..2),
        free in proptest::collection::vec(prose(0..12), 1..3),
        cuts in proptest::collection::vec(any::<(u16, u16, u16)>(), 2..8),
        m in 0..4_u8,
        theta in 0..20_u32,
    ) -> (Corpus, Vec<String>, String, u8, u32) {
        let answer = answer(&corpus, &messages, &free, &cuts);
        (corpus, messages, answer, m, theta)
    }
}

/// Weights of which a few words come to more than a span states.
fn heavy(m: u8, theta: u32) -> Parameters {
    let rows = [("a", u32::MAX / 2), ("b", u32::MAX / 2 + 1), ("cc", u32::MAX), ("d", 0), ("the", 1)];
    let rows = rows.map(|(word, weight)| (Cow::Borrowed(word), weight)).to_vec();
    Parameters::new(9, m, theta, u32::MAX / 3, WordTable::new(rows).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn attribution_is_what_the_rule_says((corpus, messages, answer, m, theta) in case()) {
        check(&corpus, &parameters(m, theta), &messages, &answer);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn attribution_by_weights_beyond_what_a_span_states_is_what_the_rule_says((corpus, messages, answer, m, theta) in case()) {
        let theta = [0, u32::MAX / 2, u32::MAX - 1, u32::MAX][(theta % 4) as usize];
        check(&corpus, &heavy(m, theta), &messages, &answer);
    }
}

#[test]
fn the_cases_compared_are_not_empty_ones() {
    let mut runner = TestRunner::deterministic();
    let (mut several_spans, mut both) = (0, 0);
    for _ in 0..1_000 {
        let (corpus, messages, answer, m, theta) = case().new_tree(&mut runner).unwrap().current();
        let (spans, masks) = check(&corpus, &parameters(m, theta), &messages, &answer);
        several_spans += usize::from(spans > 1);
        both += usize::from(spans > 0 && masks > 0);
    }
    assert!(several_spans > 300 && both > 100, "{several_spans} with several spans, {both} with spans and masks");
}

fn one(documents: &[&str]) -> Corpus {
    let contribution = |(number, text): (usize, &&str)| Contributed {
        contributor: Address([u8::try_from(number).unwrap() + 1; 20]),
        block: number as u64,
        documents: vec![(*text).to_owned()],
    };
    vec![vec![documents.iter().enumerate().map(contribution).collect()]]
}

#[test]
fn windows_of_a_match_longer_than_256_bytes_compete_and_leave_remnants() {
    let long: String = (0..90).map(|i| format!("w{} ", i % 61)).collect();
    assert_eq!(check(&one(&[&long]), &parameters(6, 60), &[], &long).0, 2);
    let (spans, masks) = check(&one(&[&long]), &parameters(6, 60), &[long[60..200].to_owned()], &long);
    assert!(spans > 0 && masks > 0);
}

#[test]
fn a_heavier_later_candidate_cuts_an_earlier_one_and_the_remnant_finds_its_own_holder() {
    // Document 2 has the heavy run; what is left of document 1's run stands first in document 3... which came later than document 1.
    let corpus = one(&["a b a b a zz9", "x a zz9 zz9 zz9 zz9", "y a b a b"]);
    let got = check(&corpus, &parameters(3, 5), &[], "a b a b a zz9 zz9 zz9 zz9");
    assert_eq!(got, (2, 0));
}

#[test]
fn hand_made_vectors_hold() {
    for line in include_str!("../fixtures/spans.txt").split("\n---\n").filter(|case| !case.trim().is_empty()) {
        let part = |name: &str| line.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned();
        let documents: Vec<String> = line.lines().filter_map(|l| l.strip_prefix("document:")).map(|d| d.trim().to_owned()).collect();
        let corpus = one(&documents.iter().map(String::as_str).collect::<Vec<_>>());
        let prompt = [&[2], part("prompt:").as_bytes(), &[0]].concat();
        let answer = part("answer:");
        let got = attribute(&index(&corpus), Parameters::builtin(1).unwrap(), &prompt, &answer).unwrap();
        let spans: Vec<String> =
            got.spans.iter().map(|s| format!("{}:{} @{} payee {}", s.start, s.length, s.position, s.payee.0[0])).collect();
        let masks: Vec<String> = got.masks.iter().map(|m| format!("{}:{} @{}", m.start, m.length, m.prompt)).collect();
        assert_eq!((spans.join("; "), masks.join("; ")), (part("spans:"), part("masks:")), "{}", part("case:"));
        check(&corpus, Parameters::builtin(1).unwrap(), &[part("prompt:")], &answer);
    }
}

#[test]
fn the_longest_allowed_answer_is_attributed_in_bounded_time() {
    let answer = "a ".repeat(32 << 10);
    let index = index(&one(&[&answer]));
    // Whatever it repeats from the prompt is one mask; without a prompt every window competes with its neighbours.
    let masked = attribute(&index, &parameters(6, 6), &[&[2], answer.as_bytes(), &[0]].concat(), &answer).unwrap();
    assert_eq!((masked.masks.len(), masked.spans.len(), masked.weight_total), (1, 0, 0));
    let free = attribute(&index, &parameters(6, 6), b"", &answer).unwrap();
    assert_eq!(free.spans.iter().map(|span| u64::from(span.weight)).sum::<u64>(), free.weight_total);
    assert!(attribute(&index, &parameters(6, 6), b"", &(answer + "a")).is_err());
    assert!(attribute(&index, &parameters(6, 6), b"", "a\0b").is_err());
}
