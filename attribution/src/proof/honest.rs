//! Honest receipts of small random worlds, with word weights as they are and at the edge of what a span states: no finder says a word, and no contract's rule, read from P7 alone and
//! tried on every run, span, mask and leaf that evidence could be about, convicts.

use std::{borrow::Cow, ops::Range, sync::Arc};

use types::{
    contribution::Priority,
    id::{Address, AssetId, AssetVersion, Hash32},
    key::Signed,
    receipt::{Reason, Receipt},
    text::{LEAF_STRIDE, WINDOW, leaf_range, prompt_root, text_root, words},
};

use super::{Case, find, payee};
use crate::{
    answer::answer_leaves,
    bundle::verify_full_under,
    fault::Answer,
    index::{DatanetIndex, Index, Segment, Source},
    parameters::{Parameters, WordTable},
    proof::dialogue::Text,
    sample::{account, answer_under, datanet, sample},
    span::{DELIMITERS, attribute},
};

const SALT: Hash32 = Hash32([6; 32]);

/// The same numbers on every machine.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % end
    }

    fn prose(&mut self, count: usize) -> String {
        let word = |draw: &mut Self| ["a", "b", "cc", "The", "d", "ccd", "学", "é", "zz9", "a", "b"][draw.below(11)];
        let gap = |draw: &mut Self| [" ", " ", " ", " ", " ", " ", ", ", ". ", "。", "\n"][draw.below(10)];
        (0..count).flat_map(|_| [word(self), gap(self)]).collect::<String>().trim_end().to_owned()
    }

    /// Some words of a text that follow each other.
    fn piece<'t>(&mut self, text: &'t str) -> &'t str {
        let words = words(text);
        if words.is_empty() {
            return "";
        }
        let first = self.below(words.len());
        &text[words[first].start..words[(first + self.below(9)).min(words.len() - 1)].end]
    }
}

/// A set of weights, few words of which are more than a span states where it is heavy.
fn parameters(draw: &mut Draw, is_heavy: bool) -> Parameters {
    let max = u32::MAX;
    let weights = if is_heavy { [max / 2, max / 2 + 1, max, 0, 1, max / 3] } else { [1, 3, 10, 0, 5, 12] };
    let rows = ["a", "b", "cc", "d", "the"].into_iter().map(Cow::Borrowed).zip(weights).collect();
    let theta = if is_heavy { [0, max / 2, max - 1, max][draw.below(4)] } else { u32::try_from(draw.below(20)).unwrap() };
    Parameters::new(1, u8::try_from(1 + draw.below(4)).unwrap(), theta, weights[5], WordTable::new(rows).unwrap())
}

/// Everybody's documents, with what the model needs of them.
struct Held {
    index: Index,
    documents: Vec<Document>,
}

struct Document {
    text: String,
    starts: Vec<usize>,
    datanet: u8,
    /// Of its first byte.
    position: u64,
    priority: Priority,
}

fn held(draw: &mut Draw) -> Held {
    let (mut datanets, mut documents, mut block) = (Vec::new(), Vec::new(), 0);
    for number in 0..=u8::try_from(draw.below(2)).unwrap() {
        let mut texts = Vec::new();
        let mut start = 0_usize;
        for _ in 0..1 + draw.below(3) {
            block += 1;
            let mut whole = String::new();
            for document in 0..u32::try_from(1 + draw.below(2)).unwrap() {
                let count = 3 + draw.below(12);
                let text = draw.prose(count);
                let priority = Priority { block, ordinal: 0, document };
                let starts = words(&text).iter().map(|word| word.start).collect();
                documents.push(Document { starts, datanet: number, position: (start + whole.len()) as u64, priority, text: text.clone() });
                whole = format!("{whole}{text}\0");
            }
            start = (start + whole.len()).next_multiple_of(LEAF_STRIDE);
            texts.push((block, whole));
        }
        let source = |(block, text): &(u64, String)| (*block, text_root(text.as_bytes()), text.clone());
        let sources: Vec<_> = texts.iter().map(source).collect();
        let sources: Vec<_> = sources
            .iter()
            .map(|(block, text_root, text)| Source {
                contributor: Address([u8::try_from(*block).unwrap(); 20]),
                block: *block,
                ordinal: 0,
                text_root: *text_root,
                text: text.as_bytes(),
            })
            .collect();
        let version = AssetVersion { asset: AssetId(u64::from(number) + 1), version: 1 };
        datanets.push(Arc::new(DatanetIndex::new(version, vec![Segment::build(&sources, 0).unwrap()]).unwrap()));
    }
    Held { index: Index::new(datanets).unwrap(), documents }
}

impl Held {
    /// Places where a text stands at a word start: priority, Datanet, position.
    fn places<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (Priority, u8, u64)> + 'a {
        self.documents.iter().flat_map(move |document| {
            let held = document.starts.iter().filter(move |start| document.text[**start..].starts_with(text));
            held.map(|start| (document.priority, document.datanet, document.position + *start as u64))
        })
    }
}

/// One honest receipt and all that a contract could be shown of it.
struct Model<'a> {
    held: &'a Held,
    parameters: &'a Parameters,
    receipt: &'a Receipt,
    answer: &'a str,
    prompt: &'a str,
    leaves: Vec<Vec<u8>>,
    /// Rows of all leaves: start, length, weight.
    rows: Vec<(usize, usize, u32)>,
    asked: Vec<Range<usize>>,
}

const fn share(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

impl<'a> Model<'a> {
    fn new(held: &'a Held, parameters: &'a Parameters, receipt: &'a Receipt, answer: &'a str, prompt: &'a str) -> Self {
        let leaves = answer_leaves(answer, &crate::span::weigh(parameters, answer), SALT);
        let rows = leaves.iter().enumerate().flat_map(|(number, leaf)| {
            let rows = leaf[41..41 + 7 * usize::from(leaf[40])].as_chunks::<7>().0;
            rows.iter().map(move |row| {
                let start = number * LEAF_STRIDE + usize::from(row[0]);
                (start, usize::from(u16::from_be_bytes([row[1], row[2]])), u32::from_be_bytes([row[3], row[4], row[5], row[6]]))
            })
        });
        let rows = rows.collect();
        Self { held, parameters, receipt, answer, prompt, leaves, rows, asked: words(prompt) }
    }

    fn spans(&self) -> Vec<(Range<usize>, u32)> {
        let bytes = |start: u32, length: u16| start as usize..start as usize + usize::from(length);
        self.receipt.spans.iter().map(|span| (bytes(span.start, span.length), span.weight)).collect()
    }

    fn masks(&self) -> Vec<(Range<usize>, usize)> {
        self.receipt.masks.iter().map(|mask| (mask.start as usize..(mask.start + mask.length) as usize, mask.prompt as usize)).collect()
    }

    fn weight(&self, bytes: &Range<usize>) -> u64 {
        self.rows.iter().filter(|row| bytes.contains(&row.0)).map(|row| u64::from(row.2)).sum()
    }

    fn count(&self, bytes: &Range<usize>) -> usize {
        self.rows.iter().filter(|row| bytes.contains(&row.0)).count()
    }

    fn m(&self) -> usize {
        self.parameters.m.into()
    }

    /// Every run from a row's start to a row's end.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.rows.len()).flat_map(move |first| self.rows[first..].iter().map(move |row| self.rows[first].0..row.0 + row.1))
    }

    /// F2's rule for a run.
    fn is_omission(&self, run: &Range<usize>) -> bool {
        let weight = self.weight(run).min(u32::MAX.into());
        let text = &self.answer[run.clone()];
        let ranks_after = |(span, stated): &(Range<usize>, u32)| {
            let stated = u64::from(*stated);
            !share(span, run)
                || stated < weight
                || (stated == weight && (span.start > run.start || (span.start == run.start && span.end < run.end)))
        };
        run.len() <= WINDOW
            && self.count(run) >= self.m()
            && weight >= self.parameters.theta.into()
            && !text.contains(DELIMITERS)
            && self.masks().iter().all(|(mask, _)| !share(mask, run))
            && self.spans().iter().all(ranks_after)
            && self.held.places(text).next().is_some()
    }

    /// Whether a run stands in the prompt at a byte, as whole words in both.
    fn is_copy(&self, run: &Range<usize>, at: usize) -> bool {
        self.prompt.get(at..at + run.len()) == Some(&self.answer[run.clone()])
            && self.asked.iter().any(|word| word.start == at)
            && self.asked.iter().any(|word| word.end == at + run.len())
    }

    /// Runs of m words at least that answer and prompt share, and that a leaf shows, with where.
    fn copies(&self) -> Vec<(Range<usize>, usize)> {
        let long = self.runs().filter(|run| run.len() <= 252 && self.count(run) >= self.m());
        let places = |run: Range<usize>| {
            let found = self.asked.iter().map(|word| word.start).filter(|at| self.is_copy(&run, *at)).collect::<Vec<_>>();
            found.into_iter().map(move |at| (run.clone(), at))
        };
        long.flat_map(places).collect()
    }

    /// Which rule convicts, of all that there are.
    fn convictions(&self) -> Vec<String> {
        let mut found: Vec<String> = self.runs().filter(|run| self.is_omission(run)).map(|run| format!("F2 {run:?}")).collect();
        let (spans, masks, copies) = (self.spans(), self.masks(), self.copies());
        for (number, (bytes, weight)) in spans.iter().enumerate() {
            let span = &self.receipt.spans[number];
            let text = &self.answer[bytes.clone()];
            let named = self.held.places(text).find(|(_, datanet, position)| (*datanet, *position) == (span.datanet, span.position));
            let rules = [
                ("F9 holder", self.held.places(text).min() != named),
                ("start", self.rows.iter().all(|row| row.0 != bytes.start)),
                ("end", self.rows.iter().rfind(|row| bytes.contains(&row.0)).is_none_or(|row| row.0 + row.1 != bytes.end)),
                ("document", named.is_none()),
                ("delimiter", text.contains(DELIMITERS)),
                ("words", self.count(bytes) < self.m()),
                ("theta", *weight < self.parameters.theta),
                ("mask", masks.iter().any(|(mask, _)| share(mask, bytes))),
                ("overlap", spans.iter().enumerate().any(|(other, (bytes_of, _))| other != number && share(bytes_of, bytes))),
                ("weight", self.weight(bytes).min(u32::MAX.into()) != u64::from(*weight)),
                ("copied", copies.iter().any(|(run, _)| share(run, bytes))),
            ];
            found.extend(rules.iter().filter(|(_, convicts)| *convicts).map(|(rule, _)| format!("span {number}: {rule}")));
        }
        found.extend(
            copies
                .iter()
                .filter(|(run, _)| !masks.iter().any(|(mask, _)| mask.start <= run.start && run.end <= mask.end))
                .map(|run| format!("F11 missing {run:?}")),
        );
        for (number, (mask, at)) in masks.iter().enumerate() {
            let before = number.checked_sub(1).map(|before| &masks[before].0);
            let beside = |end: usize, start: usize, at: Option<usize>, is_before: bool| {
                let said = self.answer.get(start..end);
                let asked = at.and_then(|at| self.prompt.get(at..at + (end - start)));
                said.is_some()
                    && said == asked
                    && self.rows.iter().any(|row| if is_before { row.0 == start } else { row.0 + row.1 == end })
                    && self
                        .asked
                        .iter()
                        .any(|word| if is_before { Some(word.start) == at } else { word.end.checked_sub(end - start) == at })
            };
            let longer = (1..=252).any(|n| {
                beside(mask.end + n, mask.end, Some(at + mask.len()), false)
                    || mask.start.checked_sub(n).is_some_and(|start| beside(mask.start, start, at.checked_sub(n), true))
            });
            let rules = [
                ("form", mask.is_empty() || before.is_some_and(|before| mask.start <= before.start || mask.end <= before.end)),
                ("copy", !self.is_copy(mask, *at)),
                ("bounds", !self.runs().any(|run| run == *mask)),
                ("words", self.count(mask) < self.m()),
                ("longer", longer),
            ];
            found.extend(rules.iter().filter(|(_, convicts)| *convicts).map(|(rule, _)| format!("mask {number}: {rule}")));
        }
        found.extend(self.leaf_convictions());
        found
    }

    /// F10's rules.
    fn leaf_convictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        let (mut running, expected) = (0, words(self.answer));
        for (number, leaf) in self.leaves.iter().enumerate() {
            let stride = number * LEAF_STRIDE..(number + 1) * LEAF_STRIDE;
            let rows: Vec<_> = self.rows.iter().filter(|row| stride.contains(&row.0)).collect();
            let begin: Vec<_> = expected.iter().filter(|word| stride.contains(&word.start)).collect();
            let rules = [
                (
                    "rows",
                    rows.iter().map(|row| row.0..row.0 + row.1).collect::<Vec<_>>()
                        != begin.iter().map(|word| (*word).clone()).collect::<Vec<_>>(),
                ),
                ("weights", rows.iter().any(|row| row.2 != self.parameters.weight(&self.answer[row.0..row.0 + row.1]))),
                ("running", u64::from_be_bytes(leaf[32..40].try_into().unwrap()) != running),
                ("text", leaf[41 + 7 * rows.len()..] != self.answer.as_bytes()[leaf_range(number, self.answer.len())]),
            ];
            running += rows.iter().map(|row| u64::from(row.2)).sum::<u64>();
            found.extend(rules.iter().filter(|(_, convicts)| *convicts).map(|(rule, _)| format!("leaf {number}: {rule}")));
        }
        let masks = self.masks();
        let open = self.rows.iter().filter(|row| !masks.iter().any(|(mask, _)| mask.contains(&row.0)));
        if open.map(|row| u64::from(row.2)).sum::<u64>() != self.receipt.weight_total {
            found.push("W".to_owned());
        }
        found
    }
}

/// What Rust finds against a receipt, without its signature.
fn found(held: &Held, parameters: &Parameters, receipt: &Receipt, answer: &str, prompt: &str) -> usize {
    let committed = Answer::new(answer, SALT, parameters);
    let asked = Text::prompt(prompt.as_bytes(), SALT).filter(|asked| asked.root() == receipt.prompt_root);
    assert!(asked.is_some() && committed.root() == receipt.answer_root);
    let said = Text::answer(answer, &committed);
    let case = Case { receipt, text: answer, parameters, index: &held.index, answer: &committed, said, asked };
    case.claims(&mut None).unwrap().len() + payee::wrong_payees(receipt, &held.index).count()
}

#[test]
fn two_thousand_honest_receipts_of_light_and_heavy_words_are_convicted_of_nothing() {
    let (template, mut draw) = (sample().bundle.receipt.document, Draw(0x9e37_79b9_7f4a_7c15));
    // Receipts, with spans, with several, with masks, with a span cut to what it can state.
    let mut counts = [0_u32; 5];
    for case in 0..2_000 {
        let parameters = parameters(&mut draw, case % 2 == 0);
        let held = held(&mut draw);
        let mut answer = draw.prose(2);
        let mut prompt = format!("\u{2}{}", draw.prose(4));
        for _ in 0..1 + draw.below(4) {
            let text = held.documents[draw.below(held.documents.len())].text.clone();
            let (piece, copied, free) = (draw.piece(&text).to_owned(), draw.piece(&text).to_owned(), draw.prose(2));
            answer = format!("{answer} {piece} {free}");
            if draw.below(3) == 0 {
                (answer, prompt) = (format!("{answer} {copied}"), format!("{prompt} {copied}"));
            }
        }
        prompt.push('\0');
        let found_by_rule = attribute(&held.index, &parameters, prompt.as_bytes(), &answer).unwrap();
        let receipt = Receipt {
            index: held.index.root(),
            prompt_root: prompt_root(prompt.as_bytes(), SALT),
            answer_root: crate::answer::answer_root(&answer, &found_by_rule.words, SALT),
            weight_total: found_by_rule.weight_total,
            spans: found_by_rule.spans,
            masks: found_by_rule.masks,
            reason: Reason::Stop,
            ..template.clone()
        };
        assert_eq!(found(&held, &parameters, &receipt, &answer, &prompt), 0, "case {case}: {receipt:?} of {answer:?}");
        let model = Model::new(&held, &parameters, &receipt, &answer, &prompt);
        assert_eq!(model.convictions(), Vec::<String>::new(), "case {case}: {receipt:?} of {answer:?}");
        let is_cut = receipt.spans.iter().any(|span| span.weight == u32::MAX);
        for (count, holds) in
            counts.iter_mut().zip([true, !receipt.spans.is_empty(), receipt.spans.len() > 1, !receipt.masks.is_empty(), is_cut])
        {
            *count += u32::from(holds);
        }
        // A model that never convicts would prove nothing: without its first span a receipt omits it, or what stands in its place.
        if !receipt.spans.is_empty() {
            let mut lied = receipt.clone();
            lied.spans.remove(0);
            let model = Model::new(&held, &parameters, &lied, &answer, &prompt);
            assert!(model.convictions().iter().any(|rule| rule.starts_with("F2")), "case {case}: {lied:?} of {answer:?}");
            assert!(found(&held, &parameters, &lied, &answer, &prompt) > 0, "case {case}: {lied:?} of {answer:?}");
        }
    }
    assert!(counts[1..].iter().all(|count| *count > 200), "{counts:?}");
}

#[test]
fn a_receipt_of_weights_beyond_what_a_span_states_verifies_and_proves_nothing_until_it_lies() {
    let node = account(7);
    let rows = ["alpha", "beta", "gamma"].map(|word| (Cow::Borrowed(word), u32::MAX));
    let heavy = Parameters::new(1, 2, u32::MAX, 1, WordTable::new(rows.to_vec()).unwrap());
    // Two documents overlap in the answer: by what words weigh the second one's run is the heavier, by what spans state the first one's is the earlier.
    let index = Index::new(vec![datanet(3, &[(0xa1, "alpha beta one"), (0xa2, "beta gamma alpha beta two")])]).unwrap();
    let honest = answer_under(&heavy, &node, &index, 0, "Say alpha beta gamma alpha beta.");
    let [first, second] = honest.receipt.document.spans[..] else { panic!("{:?}", honest.receipt.document.spans) };
    assert_eq!((first.weight, first.payee, second.weight, second.payee), (u32::MAX, Address([0xa1; 20]), u32::MAX, Address([0xa2; 20])));
    verify_full_under(&honest, &heavy, &index).unwrap();
    let named = |change: &dyn Fn(&mut Receipt)| {
        let mut bundle = honest.clone();
        change(&mut bundle.receipt.document);
        bundle.receipt = Signed::new(&node, &bundle.domains, bundle.receipt.document);
        let found = find(&bundle, &heavy, &index).unwrap();
        found.iter().map(|proof| proof.claim.fault()).collect::<Vec<_>>()
    };
    assert_eq!(named(&|_| ()), [""; 0]);
    assert_eq!(named(&|receipt| receipt.spans.truncate(1)), ["F2"]);
    assert_eq!(named(&|receipt| receipt.spans = receipt.spans[1..].to_vec()), ["F2"]);
    assert_eq!(named(&|receipt| receipt.spans[0].weight -= 1), ["F1", "F10", "F2"]);
}
