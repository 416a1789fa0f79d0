//! What contributors can and cannot change by what they add: copies, near copies, halves, and documents that nobody had.
//!
//! A share is a weight here: the pot and W of an answer do not depend on the index, so weights rise and fall as wei do.
//!
//! It is *not* true that a new document never raises another's share: it may take a span from one holder that had cut another's, whose own is whole
//! again. A test below shows the smallest case. What holds in every case drawn here (and in 60,000 drawn once): all others together are never paid
//! more than before, and a document that is paid nothing changes nobody's share.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use attribution::{
    index::{Clusters, DatanetIndex, Index, Segment, Source},
    parameters::{Parameters, WordTable},
    span::{Attribution, attribute},
};
use proptest::prelude::*;
use types::{
    contribution::Priority,
    id::{Address, AssetId, AssetVersion},
    text::text_root,
};

/// A contribution: who is paid, the block of its commitment, its documents.
#[derive(Debug, Clone, PartialEq)]
struct Contributed {
    who: u8,
    block: u64,
    documents: Vec<String>,
}

impl Contributed {
    fn of(who: u8, block: u64, text: &str) -> Self {
        Self { who, block, documents: vec![text.to_owned()] }
    }
}

/// Twelve words, the first the lightest; three of them in a row may be paid if they weigh 9 together.
const WORDS: [&str; 12] = ["an", "be", "cat", "dim", "eel", "far", "gum", "hat", "ink", "jam", "kit", "leg"];

fn parameters() -> Parameters {
    let rows = WORDS.iter().zip(1..).map(|(word, weight)| (Cow::Borrowed(*word), weight)).collect();
    Parameters::new(9, 3, 9, 12, WordTable::new(rows).unwrap())
}

fn index(contributions: &[Contributed], clusters: &Clusters) -> Index {
    let mut sorted = contributions.to_vec();
    sorted.sort_by_key(|c| c.block);
    let texts: Vec<String> = sorted.iter().map(|c| c.documents.iter().map(|d| format!("{d}\0")).collect()).collect();
    let source = |(c, text): (&Contributed, &'_ String)| (Address([c.who; 20]), c.block, text_root(text.as_bytes()), text.clone());
    let held: Vec<_> = sorted.iter().zip(&texts).map(source).collect();
    let source = |(contributor, block, text_root, text): &'_ (Address, u64, _, String)| Source {
        contributor: *contributor,
        block: *block,
        ordinal: 0,
        text_root: *text_root,
        text: Box::leak(text.clone().into_boxed_str()).as_bytes(),
    };
    let sources: Vec<_> = held.iter().map(source).collect();
    let segment = Segment::build(&sources, 0).unwrap();
    let version = AssetVersion { asset: AssetId(1), version: 1 };
    Index::new(vec![Arc::new(DatanetIndex::clustered(version, vec![segment], clusters).unwrap())]).unwrap()
}

fn attributed(contributions: &[Contributed], clusters: &Clusters, answer: &str) -> Attribution {
    attribute(&index(contributions, clusters), &parameters(), b"", answer).unwrap()
}

/// What each is paid.
fn shares(contributions: &[Contributed], clusters: &Clusters, answer: &str) -> BTreeMap<u8, u64> {
    let mut shares = BTreeMap::new();
    for span in attributed(contributions, clusters, answer).spans {
        *shares.entry(span.payee.0[0]).or_insert(0) += u64::from(span.weight);
    }
    shares
}

fn alone(contributions: &[Contributed], answer: &str) -> BTreeMap<u8, u64> {
    shares(contributions, &Clusters::default(), answer)
}

fn words(most: usize) -> impl Strategy<Value = String> {
    let word = prop_oneof![8 => prop::sample::select(WORDS[..6].to_vec()), 2 => prop::sample::select(WORDS.to_vec()), 1 => Just("leg.")];
    prop::collection::vec(word, 3..most).prop_map(|words| words.join(" "))
}

/// Contributions of holders 1 to 5 in blocks that leave room between them.
fn corpus() -> impl Strategy<Value = Vec<Contributed>> {
    let contribution = (1..6_u8, prop::collection::vec(words(14), 1..3));
    let numbered = |all: Vec<(u8, Vec<String>)>| {
        let number = |((who, documents), number): ((u8, Vec<String>), u64)| Contributed { who, block: 10 * number, documents };
        all.into_iter().zip(1..).map(number).collect()
    };
    prop::collection::vec(contribution, 1..6).prop_map(numbered)
}

/// An answer spliced from the corpus and from words of its own.
fn answer_of(contributions: &[Contributed], cuts: &[(prop::sample::Index, prop::sample::Index, prop::sample::Index)], own: &str) -> String {
    let documents: Vec<&String> = contributions.iter().flat_map(|c| &c.documents).collect();
    let cut = |(document, start, end): &(prop::sample::Index, prop::sample::Index, prop::sample::Index)| {
        let words: Vec<&str> = document.get(&documents).split(' ').collect();
        let start = start.index(words.len());
        words[start..=start + end.index(words.len() - start)].join(" ")
    };
    cuts.iter().map(cut).chain([own.to_owned()]).collect::<Vec<_>>().join(" ")
}

fn cuts() -> impl Strategy<Value = Vec<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>> {
    prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>(), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Gain 1.00, to the wei: of the author's own copies as of a stranger's.
    #[test]
    fn exact_copies_change_nothing_whoever_registers_them(corpus in corpus(), cuts in cuts(), own in words(6), copied in any::<prop::sample::Index>(), who in 1..8_u8, times in 1..4_u64) {
        let answer = answer_of(&corpus, &cuts, &own);
        let copy = copied.get(&corpus).clone();
        let copies = (0..times).map(|number| Contributed { who, block: copy.block + 1 + number, ..copy.clone() });
        let with: Vec<_> = corpus.iter().cloned().chain(copies).collect();
        let (before, after) = (attributed(&corpus, &Clusters::default(), &answer), attributed(&with, &Clusters::default(), &answer));
        let paid = |found: &Attribution| found.spans.iter().map(|span| (span.start, span.length, span.weight, span.payee)).collect::<Vec<_>>();
        prop_assert_eq!(paid(&before), paid(&after));
    }

    /// No span reaches over a sentence's end, so documents that end there hold as much.
    #[test]
    fn a_document_split_at_a_sentence_s_end_pays_the_same(corpus in corpus(), cuts in cuts(), own in words(6), as_contributions: bool) {
        let answer = answer_of(&corpus, &cuts, &own);
        let split = |contribution: &Contributed| {
            let documents: Vec<String> = contribution.documents.iter().flat_map(|text| text.split_inclusive(". ").map(|half| half.trim_end().to_owned())).collect();
            if as_contributions {
                documents.into_iter().zip(contribution.block..).map(|(text, block)| Contributed::of(contribution.who, block, &text)).collect()
            } else {
                vec![Contributed { documents, ..contribution.clone() }]
            }
        };
        let halves: Vec<Contributed> = corpus.iter().flat_map(split).collect();
        prop_assert_eq!(alone(&corpus, &answer), alone(&halves, &answer));
    }

    /// A later document that earns nothing is as if it were not there: nobody is harmed or helped by what only waits.
    #[test]
    fn who_is_paid_nothing_changes_nobody_s_share(corpus in corpus(), cuts in cuts(), own in words(6), added in words(14)) {
        let with = [corpus.as_slice(), &[Contributed::of(9, 1_000, &added)]].concat();
        let answer = answer_of(&with, &cuts, &own);
        let (before, after) = (alone(&corpus, &answer), alone(&with, &answer));
        if !after.contains_key(&9) {
            prop_assert_eq!(before, after);
        }
    }

    /// One of them may gain what another loses; see the test below.
    #[test]
    fn a_later_document_never_raises_what_all_others_are_paid_together(corpus in corpus(), cuts in cuts(), own in words(6), added in words(14)) {
        let with = [corpus.as_slice(), &[Contributed::of(9, 1_000, &added)]].concat();
        let answer = answer_of(&with, &cuts, &own);
        let of_others = |shares: &BTreeMap<u8, u64>| shares.iter().filter(|share| *share.0 != 9).map(|share| share.1).sum::<u64>();
        let (before, after) = (alone(&corpus, &answer), alone(&with, &answer));
        prop_assert!(of_others(&after) <= of_others(&before), "{:?} {:?} {:?}", answer, before, after);
    }

    /// A near copy's span pays the head of its cluster: whoever registers it is paid nothing for it, and the head loses nothing to it.
    #[test]
    fn a_near_copy_earns_its_registrant_nothing(corpus in corpus(), cuts in cuts(), own in words(6), copied in any::<prop::sample::Index>(), changed in any::<prop::sample::Index>(), word in prop::sample::select(WORDS.to_vec())) {
        let head = copied.get(&corpus).clone();
        let mut words: Vec<&str> = head.documents[0].split(' ').collect();
        let at = changed.index(words.len());
        words[at] = word;
        let near = Contributed::of(9, 1_000, &words.join(" "));
        let of = |contribution: &Contributed| Priority { block: contribution.block, ordinal: 0, document: 0 };
        let clusters = Clusters::new([(of(&near), of(&head))]).unwrap();
        let answer = answer_of(&[corpus.as_slice(), std::slice::from_ref(&near)].concat(), &cuts, &own);
        let after = shares(&[corpus.as_slice(), std::slice::from_ref(&near)].concat(), &clusters, &answer);
        prop_assert!(!after.contains_key(&9));
    }
}

/// The first's span is heavier than the second's and leaves too little of it. A new, still heavier one takes two of the first's words, too few of which
/// are left; the second's three are whole again.
#[test]
fn a_new_document_may_give_one_holder_what_another_s_span_had_taken() {
    let corpus = [Contributed::of(2, 10, "eel an cat"), Contributed::of(1, 20, "far an eel")];
    let answer = "an eel far an eel an cat";
    assert_eq!(alone(&corpus, answer), BTreeMap::from([(1, 12)]));
    let with = [corpus.as_slice(), &[Contributed::of(9, 30, "an eel far")]].concat();
    assert_eq!(alone(&with, answer), BTreeMap::from([(2, 9), (9, 12)]));
}

/// Numbers by splitmix64: the table below is the same on every machine.
fn random(seed: &mut u64, bound: usize) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
}

/// An author adds five near copies of a document of 60 words of its own vocabulary, three words of each another, all in its cluster; answers recite 20
/// words of it with one word changed. What the copies add is what they say as the answers do, by chance.
#[test]
fn five_near_copies_gain_their_author_at_most_a_twentieth() {
    let parameters = Parameters::builtin(1).unwrap();
    let mut seed = 6;
    let mut vocabulary: Vec<String> = Vec::new();
    for first in ["ka", "lo", "mi", "nu", "pe", "ra", "si", "to"] {
        for last in ["bex", "dov", "fim", "gul", "hap", "jor", "zin", "vat"] {
            vocabulary.push(format!("{first}{last}"));
        }
    }
    let (mut before, mut after) = (0, 0);
    for _ in 0..200 {
        let text: Vec<&str> = (0..60).map(|_| vocabulary[random(&mut seed, 64)].as_str()).collect();
        let original = Contributed::of(1, 10, &text.join(" "));
        let mut all = vec![original.clone()];
        for block in 11..16 {
            let mut near = text.clone();
            for _ in 0..3 {
                near[random(&mut seed, 60)] = &vocabulary[random(&mut seed, 64)];
            }
            all.push(Contributed::of(1, block, &near.join(" ")));
        }
        let of = |block| Priority { block, ordinal: 0, document: 0 };
        let clusters = Clusters::new((11..16).map(|block| (of(block), of(10)))).unwrap();
        let start = random(&mut seed, 40);
        let mut said = text[start..start + 20].to_vec();
        said[random(&mut seed, 20)] = &vocabulary[random(&mut seed, 64)];
        let paid = |contributions: &[Contributed], clusters: &Clusters| {
            let found = attribute(&index(contributions, clusters), parameters, b"", &said.join(" ")).unwrap();
            found.spans.iter().map(|span| u64::from(span.weight)).sum::<u64>()
        };
        before += paid(&[original], &Clusters::default());
        after += paid(&all, &clusters);
    }
    println!("near copies: {before} without, {after} with, gain {:.4}", after as f64 / before as f64);
    assert!(before <= after && 100 * after <= 105 * before, "{before} {after}");
}
