use std::sync::Arc;

use proptest::{prelude::*, sample::Index as Pick};
use types::{
    id::{AssetId, AssetVersion},
    key::Signed,
    proof::Claim,
    receipt::Reason,
    text::{self, prompt_root, text_root},
};

use super::*;
use crate::{
    answer::answer_root,
    bundle::openings,
    fault::find_false_spans,
    index::{DatanetIndex, Segment, Source},
    proof::find,
    sample::{COPY, FIRST, Sample, account, answer, private_sample, sample},
    span::DELIMITERS,
};

/// A document, by whom, and the block of its commitment.
type Text = (u64, u8, String);

fn index(texts: &[Text]) -> Index {
    let texts: Vec<Text> = texts.iter().map(|(block, who, text)| (*block, *who, format!("{text}\0"))).collect();
    let sources: Vec<_> = texts
        .iter()
        .map(|(block, who, text)| Source {
            contributor: Address([*who; 20]),
            block: *block,
            ordinal: 0,
            text_root: text_root(text.as_bytes()),
            text: text.as_bytes(),
        })
        .collect();
    let version = AssetVersion { asset: AssetId(3), version: 1 };
    Index::new(vec![Arc::new(DatanetIndex::new(version, vec![Segment::build(&sources, 0).unwrap()]).unwrap())]).unwrap()
}

fn parameters() -> &'static Parameters {
    Parameters::builtin(1).unwrap()
}

fn of(bundle: &Bundle, who: u8, texts: &[Text]) -> Vec<Missed> {
    let mine: Vec<Text> = texts.iter().filter(|(_, whose, _)| *whose == who).cloned().collect();
    let watched = watch(bundle, Mine { account: Address([who; 20]), index: &index(&mine) }, parameters());
    assert_eq!(watched.unread, None);
    watched.missed
}

/// The bundle with its receipt changed, and signed and opened anew.
fn lied(sample: &Sample, change: impl FnOnce(&mut Receipt)) -> Bundle {
    let mut bundle = sample.bundle.clone();
    change(&mut bundle.receipt.document);
    bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
    if let Ok(opened) = openings(&sample.index, &bundle.receipt.document.spans) {
        bundle.openings = opened;
    }
    bundle
}

#[test]
fn each_way_to_keep_something_from_a_contributor_is_named_and_an_honest_receipt_keeps_nothing() {
    let sample = sample();
    let (a, b) = ((11, 0xa2, FIRST.to_owned()), (10, 0xb1, crate::sample::SECOND.to_owned()));
    let texts = [a, (12, 0xa3, COPY.to_owned()), b];
    let [first, second] = sample.bundle.receipt.document.spans[..] else { panic!("two spans") };
    let named = |bundle: &Bundle, who: u8| of(bundle, who, &texts).into_iter().map(|missed| missed.wrong).collect::<Vec<_>>();
    let check = |change: &dyn Fn(&mut Receipt), who: u8, expected: &[Wrong]| {
        assert_eq!(named(&lied(&sample, change), who), expected, "{who:x}");
    };
    for who in [0xa2, 0xa3, 0xb1, 0xcc] {
        check(&|_| {}, who, &[]);
    }
    let omit = |receipt: &mut Receipt| {
        receipt.spans.remove(0);
    };
    check(&omit, 0xa2, &[Wrong::Omitted]);
    check(&omit, 0xb1, &[]);
    check(&|receipt| receipt.spans.clear(), 0xb1, &[Wrong::Omitted]);
    let shorten = |receipt: &mut Receipt| (receipt.spans[1].length, receipt.spans[1].weight) = (second.length - 13, second.weight - 1);
    check(&shorten, 0xb1, &[Wrong::Shortened(1)]);
    check(&shorten, 0xa2, &[]);
    check(&|receipt| receipt.spans[0].payee = receipt.node, 0xa2, &[Wrong::Reassigned(0)]);
    check(&|receipt| receipt.spans[1].payee = Address([0xa2; 20]), 0xa2, &[Wrong::Invented(1)]);
    check(&|receipt| receipt.spans[1].payee = Address([0xa2; 20]), 0xb1, &[Wrong::Reassigned(1)]);
    let text = sample.index.datanets()[0].segments()[0].text();
    let copy = text.windows(COPY.len()).position(|window| window == COPY.as_bytes()).unwrap();
    let later = |receipt: &mut Receipt| {
        let position = (copy + COPY.find("sensorineural").unwrap()) as u64;
        (receipt.spans[0].position, receipt.spans[0].payee) = (position, Address([0xa3; 20]));
    };
    check(&later, 0xa2, &[Wrong::Later(0)]);
    check(&later, 0xa3, &[]);
    let hide = |receipt: &mut Receipt| {
        receipt.spans.remove(0);
        receipt.masks.insert(0, Mask { start: first.start, length: first.length.into(), prompt: 0 });
    };
    check(&hide, 0xa2, &[Wrong::Hidden(0)]);
    let missed = of(&lied(&sample, omit), 0xa2, &texts)[0];
    assert_eq!((missed.start, missed.length), (first.start, u32::from(first.length)));
    assert_eq!((missed.holder.map(|priority| priority.block), missed.wrong.fault()), (Some(11), Some("F2")));

    // Evidence that leads nowhere hides nothing: what it does not show is what is asked about.
    let mut unshown = lied(&sample, later);
    unshown.openings[0].segment.leaf.length += 1;
    assert_eq!(named(&unshown, 0xa2), [Wrong::Unshown(0)]);
    unshown.openings.clear();
    assert_eq!(named(&unshown, 0xa2), [Wrong::Unshown(0)]);
    // Nobody is paid by what bills nothing, and other parameters are another rule.
    check(&|receipt| (receipt.spans, receipt.reason) = (vec![], Reason::EngineFailure), 0xa2, &[]);
    check(&|receipt| (receipt.spans, receipt.parameters) = (vec![], 2), 0xa2, &[]);
}

#[test]
fn what_is_left_of_a_run_beside_a_heavier_span_is_missed_too() {
    // The heavier quote takes the middle of mine; the receipt leaves out what remains on the left.
    let words: Vec<String> = (0..30).map(|number| format!("qux{number}zed")).collect();
    let (mine, theirs) = (words[..20].join(" "), words[12..].join(" "));
    let texts = [(10, 0xa1, mine), (11, 0xb2, theirs)];
    let (index, node) = (index(&texts), account(7));
    let bundle = answer(&node, &index, 0, &words.join(" "));
    assert_eq!(bundle.receipt.document.spans.len(), 2);
    let sample = Sample { node, index, bundle };
    let left = lied(&sample, |receipt| receipt.spans.truncate(1));
    let kept = left.receipt.document.spans[0];
    let (loser, winner) = if kept.start == 0 { (0xb2, 0xa1) } else { (0xa1, 0xb2) };
    let missed = of(&left, loser, &texts);
    assert_eq!(missed.iter().map(|missed| missed.wrong).collect::<Vec<_>>(), [Wrong::Omitted]);
    assert_eq!(missed[0].length, u32::from(sample.bundle.receipt.document.spans[1].length));
    assert_eq!(of(&left, winner, &texts), []);
}

/// Whether a text holds bytes from one of its words on.
fn holds(text: &str, bytes: &[u8]) -> bool {
    text::words(text).iter().any(|word| text.as_bytes()[word.start..].starts_with(bytes))
}

/// F2 by its words: an eligible run of mine that no mask touches and every span that overlaps ranks after; all of them, without any search structure.
fn outstanding(bundle: &Bundle, mine: &[&Text]) -> Vec<(u32, u32)> {
    let (receipt, answer, parameters) = (&bundle.receipt.document, &bundle.answer, parameters());
    let words = span::weigh(parameters, answer);
    let mut found = Vec::new();
    for first in 0..words.len() {
        for last in first + usize::from(parameters.m) - 1..words.len() {
            let (start, end) = (words[first].range.start, words[last].range.end);
            let weight: u64 = words[first..=last].iter().map(|word| u64::from(word.weight)).sum();
            let overlaps = |from: u32, length: u32| (from as usize) < end && start < from as usize + length as usize;
            let is_run = end - start <= WINDOW
                && weight >= parameters.theta.into()
                && !answer[start..end].contains(DELIMITERS)
                && mine.iter().any(|(_, _, text)| holds(text, &answer.as_bytes()[start..end]))
                && !receipt.masks.iter().any(|mask| overlaps(mask.start, mask.length))
                && receipt.spans.iter().filter(|span| overlaps(span.start, span.length.into())).all(|span| {
                    let ends = u64::from(span.start) + u64::from(span.length);
                    let (theirs, ours) = ((u64::from(span.weight), ends), (weight, end as u64));
                    theirs.0 < ours.0
                        || theirs.0 == ours.0 && (span.start as usize > start || span.start as usize == start && theirs.1 < ours.1)
                });
            if is_run {
                found.push((u32::try_from(start).unwrap(), u32::try_from(end - start).unwrap()));
            }
        }
    }
    found
}

/// F9 by its words, span by span, from the whole index and the texts.
fn misdirected(bundle: &Bundle, index: &Index, me: Address, mine: &[&Text]) -> Vec<Wrong> {
    let one = |(number, span): (u16, &Span)| {
        let start = span.start as usize;
        let bytes = bundle.answer.as_bytes().get(start..start + usize::from(span.length)).filter(|bytes| !bytes.is_empty())?;
        let named = index.open_span(span.datanet, span.position).ok();
        let stands = mine.iter().any(|(_, _, text)| holds(text, bytes));
        let earlier = |block: u64| mine.iter().any(|(own, _, text)| *own < block && holds(text, bytes));
        let right = named.as_ref().map(|open| open.document.leaf.payee);
        match named {
            _ if span.payee == me => (!stands && right != Some(me)).then_some(Wrong::Invented(number)),
            Some(_) if right == Some(me) => Some(Wrong::Reassigned(number)),
            Some(open) => earlier(open.document.leaf.priority.block).then_some(Wrong::Later(number)),
            None => stands.then_some(Wrong::Unshown(number)),
        }
    };
    (0..).zip(&bundle.receipt.document.spans).filter_map(one).collect()
}

/// Five phrases of nine rare words.
fn phrase(number: usize) -> Vec<String> {
    (0..9).map(|word| format!("zor{number}bel{word}k")).collect()
}

fn spoken() -> impl Strategy<Value = String> {
    let piece = (0..5_usize, 0..4_usize, 6..10_usize).prop_map(|(number, from, to)| phrase(number)[from..to.max(from + 1)].join(" "));
    let joined = (piece, prop_oneof![Just(" "), Just(" and "), Just(". ")]);
    prop::collection::vec(joined, 1..4)
        .prop_map(|pieces| pieces.into_iter().map(|(text, behind)| text + behind).collect::<String>() + "end")
}

#[derive(Debug, Clone)]
enum Lie {
    Omit(Pick),
    Shorten(Pick),
    Reassign(Pick, u8),
    Move(Pick, Pick),
    Mask(Pick),
    Weigh(Pick, i8),
}

fn lie() -> impl Strategy<Value = Lie> {
    let pick = any::<Pick>;
    prop_oneof![
        pick().prop_map(Lie::Omit),
        pick().prop_map(Lie::Shorten),
        (pick(), 0xa1..0xa5_u8).prop_map(|(span, who)| Lie::Reassign(span, who)),
        (pick(), pick()).prop_map(|(span, place)| Lie::Move(span, place)),
        pick().prop_map(Lie::Mask),
        (pick(), -1..2_i8).prop_map(|(span, by)| Lie::Weigh(span, by)),
    ]
}

fn tell(lie: &Lie, receipt: &mut Receipt, answer: &str, index: &Index) {
    if receipt.spans.is_empty() {
        return;
    }
    let count = receipt.spans.len();
    let number = |pick: &Pick| pick.index(count);
    match lie {
        Lie::Omit(pick) => drop(receipt.spans.remove(number(pick))),
        Lie::Reassign(pick, who) => receipt.spans[number(pick)].payee = Address([*who; 20]),
        Lie::Weigh(pick, by) => {
            let span = number(pick);
            receipt.spans[span].weight = receipt.spans[span].weight.saturating_add_signed((*by).into());
        }
        Lie::Shorten(pick) => {
            let span = number(pick);
            let span = &mut receipt.spans[span];
            let quote = &answer[span.start as usize..][..span.length.into()];
            let words = text::words(quote);
            let Some(before) = words.len().checked_sub(2) else { return };
            span.weight -= parameters().weight(&quote[words[before + 1].clone()]);
            span.length = u16::try_from(words[before].end).unwrap();
        }
        Lie::Move(pick, place) => {
            let span = number(pick);
            let span = &mut receipt.spans[span];
            let (quote, text) = (&answer.as_bytes()[span.start as usize..][..span.length.into()], index.datanets()[0].segments()[0].text());
            let places: Vec<usize> = (0..text.len()).filter(|at| text[*at..].starts_with(quote)).collect();
            span.position = places[place.index(places.len())] as u64;
            span.payee = index.open_span(0, span.position).unwrap().document.leaf.payee;
        }
        Lie::Mask(pick) => {
            let span = receipt.spans.remove(number(pick));
            receipt.masks.push(Mask { start: span.start, length: span.length.into(), prompt: 0 });
            receipt.masks.sort_by_key(|mask| mask.start);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_contributor_alone_finds_exactly_what_the_rules_say_of_its_own_text_and_the_whole_index_proves_it(
        spoken in prop::collection::vec((0xa1..0xa4_u8, spoken()), 1..6),
        answer in spoken(),
        lies in prop::collection::vec(lie(), 0..3),
    ) {
        let texts: Vec<Text> = (10..).zip(&spoken).map(|(block, (who, text))| (block, *who, text.clone())).collect();
        let (full, node) = (index(&texts), account(7));
        let honest = crate::sample::answer(&node, &full, 0, &answer);
        let sample = Sample { node, index: full, bundle: honest };
        let told = lied(&sample, |receipt| lies.iter().for_each(|lie| tell(lie, receipt, &answer, &sample.index)));
        let is_masked_truly = told.receipt.document.masks == sample.bundle.receipt.document.masks;
        for who in 0xa1..0xa4 {
            prop_assert_eq!(of(&sample.bundle, who, &texts), vec![], "an honest receipt");
            let mine: Vec<&Text> = texts.iter().filter(|(_, whose, _)| *whose == who).collect();
            let found = of(&told, who, &texts);
            let is_run = |missed: &&Missed| matches!(missed.wrong, Wrong::Omitted | Wrong::Shortened(_));
            let expected = outstanding(&told, &mine);
            prop_assert_eq!(found.iter().any(|missed| is_run(&missed)), !expected.is_empty());
            for missed in found.iter().filter(is_run) {
                prop_assert!(expected.contains(&(missed.start, missed.length)), "{:?}", missed);
            }
            let mut others: Vec<Wrong> = found.iter().map(|missed| missed.wrong).collect();
            others.retain(|wrong| !matches!(wrong, Wrong::Omitted | Wrong::Shortened(_) | Wrong::Hidden(_)));
            others.sort();
            let mut named = misdirected(&told, &sample.index, Address([who; 20]), &mine);
            named.sort();
            prop_assert_eq!(others, named);
            prop_assert!(!is_masked_truly || found.iter().all(|missed| !matches!(missed.wrong, Wrong::Hidden(_))));
            if !found.is_empty() {
                let proofs = find(&told, parameters(), &sample.index).unwrap();
                prop_assert!(!proofs.is_empty() || !find_false_spans(&told, &sample.index).unwrap().is_empty(), "{:?}", found);
            }
        }
    }
}

/// The sample's node has answered this, and found nothing and these masks in it; if another question is given, to that.
fn told(sample: &Sample, question: Option<&str>, answer: &str, masks: Vec<Mask>) -> Bundle {
    let mut bundle = sample.bundle.clone();
    bundle.answer = answer.to_owned();
    if let Some(question) = question {
        bundle.messages.truncate(1);
        bundle.messages[0].content = question.to_owned();
    }
    let words = span::weigh(parameters(), answer);
    let root = answer_root(answer, &words, bundle.answer_salt);
    let covered = |word: &Word| {
        masks.iter().any(|mask| overlap(&range(mask.start, mask.length), &(as_u64(word.range.start)..as_u64(word.range.end))))
    };
    let total = words.iter().filter(|word| !covered(word)).map(|word| u64::from(word.weight)).sum();
    let prompt = prompt_root(&prompt_bytes(&bundle.messages), bundle.prompt_salt);
    let receipt = &mut bundle.receipt.document;
    (receipt.answer_root, receipt.prompt_root, receipt.weight_total) = (root, prompt, total);
    (receipt.spans, receipt.masks) = (vec![], masks);
    bundle.openings.clear();
    bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
    bundle
}

fn mask(answer: &str, quote: &str, prompt: u32) -> Mask {
    Mask { start: u32::try_from(answer.find(quote).unwrap()).unwrap(), length: u32::try_from(quote.len()).unwrap(), prompt }
}

/// How many false masks and how many missing ones the whole index proves.
fn proven_masks(sample: &Sample, bundle: &Bundle) -> [usize; 2] {
    let proofs = find(bundle, parameters(), &sample.index).unwrap();
    let count = |is_it: fn(&Claim) -> bool| proofs.iter().filter(|proof| is_it(&proof.claim)).count();
    [count(|claim| matches!(claim, Claim::FalseMask(_))), count(|claim| matches!(claim, Claim::MissingMask(_)))]
}

#[test]
fn neither_control_characters_nor_a_thousand_true_masks_hide_a_false_one() {
    let (sample, texts) = (sample(), [(11, 0xa2, FIRST.to_owned())]);
    let quote = &FIRST[..FIRST.find('.').unwrap()];
    let wrongs = |bundle: &Bundle| of(bundle, 0xa2, &texts).iter().map(|missed| missed.wrong).collect::<Vec<_>>();
    for before in ["It is: ", "It\u{1} is: ", "It\0 is: ", "It\u{2}is: \u{1f}"] {
        let answer = format!("{before}{quote}.");
        let bundle = told(&sample, None, &answer, vec![mask(&answer, quote, 1)]);
        assert_eq!(wrongs(&bundle), [Wrong::Hidden(0)], "{before:?}");
        assert_eq!(proven_masks(&sample, &bundle), [1, 0], "{before:?}");
    }
    // Six words of the prompt over and over, more often than a receipt has masks; the last of them is over what the prompt does not hold.
    let (asked, count) = ("a b a b a b", MASKS_MAX + 7);
    let answer = format!("{}{quote}.", format!("{asked} z ").repeat(count));
    let true_ones = (0..MASKS_MAX - 1).map(|number| Mask { start: u32::try_from(14 * number).unwrap(), length: 11, prompt: 1 });
    let masks: Vec<Mask> = true_ones.chain([mask(&answer, quote, 1)]).collect();
    let bundle = told(&sample, Some(asked), &answer, masks);
    assert_eq!(wrongs(&bundle), [Wrong::Hidden(u16::try_from(MASKS_MAX - 1).unwrap())]);
    let [false_ones, missing] = proven_masks(&sample, &bundle);
    assert_eq!((false_ones, missing), (1, count - (MASKS_MAX - 1)), "and those that found no room are missing");
}

#[test]
fn a_mask_that_is_missing_is_told_to_whom_it_costs_a_part_also_behind_control_characters() {
    let sample = sample();
    let texts = [(11, 0xa2, FIRST.to_owned()), (10, 0xb1, crate::sample::SECOND.to_owned()), (12, 0xa3, COPY.to_owned())];
    let [true_one] = sample.bundle.receipt.document.masks[..] else { panic!("one mask") };
    let unmasked = lied(&sample, |receipt| receipt.masks.clear());
    for who in [0xa2, 0xb1] {
        let missed = of(&unmasked, who, &texts);
        let [missed] = missed[..] else { panic!("{missed:?}") };
        assert_eq!(
            (missed.wrong, missed.wrong.fault(), missed.start, missed.length),
            (Wrong::Unmasked, Some("F11"), true_one.start, true_one.length)
        );
    }
    assert_eq!(of(&unmasked, 0xa3, &texts), [], "it is paid by nothing of this receipt");
    assert_eq!(proven_masks(&sample, &unmasked), [0, 1]);
    let answer = format!("\u{7}{}", sample.bundle.answer);
    let mut hidden = told(&sample, None, &answer, vec![]);
    let moved = sample.bundle.receipt.document.spans.iter().map(|span| Span { start: span.start + 1, ..*span });
    hidden.receipt.document.spans = moved.collect();
    hidden.receipt = Signed::new(&sample.node, &hidden.domains, hidden.receipt.document);
    hidden.openings = sample.bundle.openings.clone();
    assert_eq!(of(&hidden, 0xa2, &texts).iter().map(|missed| missed.wrong).collect::<Vec<_>>(), [Wrong::Unmasked]);
    assert_eq!(proven_masks(&sample, &hidden), [0, 1]);
}

#[test]
fn what_is_too_long_to_be_attributed_is_said_not_to_be_looked_at() {
    let sample = sample();
    let mine = Mine { account: Address([0xa2; 20]), index: &sample.index };
    let answer = "word ".repeat(span::ANSWER_BYTES_MAX / 5 + 1);
    let watched = watch(&told(&sample, None, &answer, vec![]), mine, parameters());
    assert_eq!(watched, Watched { missed: vec![], unread: Some(AttributeError::AnswerTooLong(answer.len())) });
    let question = "word ".repeat(span::PROMPT_BYTES_MAX / 5 + 1);
    let quote = &FIRST[..FIRST.find('.').unwrap()];
    let watched = watch(&told(&sample, Some(&question), quote, vec![]), mine, parameters());
    assert!(matches!(watched.unread, Some(AttributeError::PromptTooLong(_))), "{watched:?}");
    assert_eq!(watched.missed.iter().map(|missed| missed.wrong).collect::<Vec<_>>(), [Wrong::Omitted], "spans are looked at all the same");
}

#[test]
fn who_watches_is_not_told_that_a_private_datanets_spans_are_unshown_since_their_rows_are_there() {
    let bundle = private_sample().bundle;
    assert!(bundle.openings[0].text.is_none());
    for (block, who, text) in [(11, 0xa2, FIRST), (12, 0xa3, COPY)] {
        assert_eq!(of(&bundle, who, &[(block, who, text.to_owned())]), [], "{who:x}");
    }
    // Who committed to the same words before is told so.
    let earlier = of(&bundle, 0xa3, &[(2, 0xa3, COPY.to_owned())]);
    assert!(earlier.iter().any(|missed| missed.wrong == Wrong::Later(0)), "{earlier:?}");
}
