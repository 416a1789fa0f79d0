//! F1 beyond false bytes, and F10 of a span: spans that no rule allows, or that weigh something else than their words.
//!
//! A span loses its part only by what is shown to be false of itself. That a mask, or a heavier span, lies over it costs the node its stake and nobody a part: one of the
//! two is the lie, and which one only the prompt, or the index, says. Where the prompt is known and one leaf shows what it shares with the answer, that voids; and of two spans
//! that say the same the second. A span that a false one, or a false mask, lies over is not accused at all: what lies over it falls by itself.

use std::{cmp::Reverse, ops::Range};

use types::{
    proof::{FalseMask, Ineligible, Rule},
    receipt::{Mask, Span},
    text::{LEAF_STRIDE, WINDOW},
};

use super::{Case, mask, weight};
use crate::{index::ReadError, span::DELIMITERS};

/// Every rule that a span breaks. `flawed` are the masks that are none, `shared` what answer and prompt share. A rule that only text of a private Datanet shows to
/// be broken goes to `hidden`.
pub(super) fn ineligible(
    case: &Case<'_>,
    flawed: &[FalseMask],
    shared: &[Mask],
    hidden: &mut Option<ReadError>,
) -> Result<Vec<Ineligible>, ReadError> {
    let spans = &case.receipt.spans;
    let masks: Vec<(u16, Range<usize>)> = (0..)
        .zip(&case.receipt.masks)
        .filter(|(number, _)| flawed.iter().all(|flawed| flawed.mask != *number))
        .filter_map(|(number, mask)| Some((number, weight::bytes(mask)?)))
        .collect();
    let mut broken = Vec::with_capacity(spans.len());
    for span in spans {
        let mut rules = by_itself(case, span, hidden)?;
        let over = || masks.iter().find(|(_, mask)| overlap(mask, &bytes(span))).map(|(number, _)| Rule::Masked(*number));
        rules.extend(mask::copied(case, shared, &bytes(span)).map(Rule::Copied).or_else(over));
        broken.push(rules);
    }
    // From the highest rank down, as the choice goes: what is outranked outranks nothing.
    let mut ranked: Vec<usize> = (0..spans.len()).collect();
    ranked
        .sort_by_key(|number| (Reverse(spans[*number].weight), bytes(&spans[*number]).start, Reverse(bytes(&spans[*number]).end), *number));
    let mut standing: Vec<usize> = Vec::new();
    for number in ranked {
        let over = standing.iter().find(|other| overlap(&bytes(&spans[**other]), &bytes(&spans[number])));
        let twin = spans[..number].iter().position(|other| is_twin(other, &spans[number]));
        if let Some(twin) = twin.and_then(|twin| u16::try_from(twin).ok()) {
            broken[number].push(Rule::Twin(twin));
            continue;
        }
        match over.and_then(|other| u16::try_from(*other).ok()) {
            Some(other) => broken[number].push(Rule::Overlap(other)),
            None if broken[number].is_empty() => standing.push(number),
            None => {}
        }
    }
    Ok((0..).zip(broken).flat_map(|(span, rules)| rules.into_iter().map(move |rule| Ineligible { span, rule })).collect())
}

fn bytes(span: &Span) -> Range<usize> {
    let start = usize::try_from(span.start).expect("at least 32 bits");
    start..start + usize::from(span.length)
}

/// Whether two spans pay the same for the same bytes.
fn is_twin(one: &Span, other: &Span) -> bool {
    (one.start, one.length, one.weight, one.payee) == (other.start, other.length, other.weight, other.payee)
}

const fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

/// What a span breaks whatever else the receipt says.
fn by_itself(case: &Case<'_>, span: &Span, hidden: &mut Option<ReadError>) -> Result<Vec<Rule>, ReadError> {
    let mut rules = Vec::new();
    if span.weight < case.parameters.theta {
        rules.push(Rule::Light(case.parameters.encode()));
    }
    match case.index.begins_word(span.datanet, span.position) {
        Ok(true) | Err(ReadError::Nowhere { .. }) => {}
        Ok(false) => match case.index.show_source(span.datanet, span.position) {
            Ok(source) => rules.push(Rule::Document { source, passage: case.index.show_passage(span.datanet, span.position)? }),
            Err(private @ ReadError::Private { .. }) => *hidden = Some(private),
            Err(error) => return Err(error),
        },
        Err(changed) => return Err(changed),
    }
    let bytes = bytes(span);
    if (1..=WINDOW).contains(&bytes.len()) && bytes.end <= case.said.bytes.len() {
        rules.extend(by_answer(case, span, &bytes));
    }
    Ok(rules)
}

fn by_answer(case: &Case<'_>, span: &Span, bytes: &Range<usize>) -> Vec<Rule> {
    let said = &case.said;
    let words = said.starting(bytes);
    let mut rules = Vec::new();
    if !said.begins(bytes.start) {
        rules.push(Rule::Start(said.show(bytes.start / LEAF_STRIDE)));
    }
    if let Some(last) = said.words[words.clone()].last().filter(|last| last.end != bytes.end) {
        let skipped = u8::try_from(last.start / LEAF_STRIDE - bytes.start / LEAF_STRIDE).expect("a window reaches into five strides");
        rules.push(Rule::End { skipped, answer: said.show_all(last.start, bytes.end) });
    }
    let mut character = [0; 4];
    let mut holds = |delimiter: char| {
        let sought = delimiter.encode_utf8(&mut character).as_bytes();
        said.bytes[bytes.clone()].windows(sought.len()).any(|window| window == sought)
    };
    if DELIMITERS.into_iter().any(&mut holds) {
        rules.push(Rule::Delimiter(said.show(bytes.start / LEAF_STRIDE)));
    }
    if words.len() < usize::from(case.parameters.m) {
        rules.push(Rule::FewWords { parameters: case.parameters.encode(), answer: said.show_all(bytes.start, bytes.end) });
    }
    if u64::from(span.weight) != case.weight(bytes).min(u64::from(u32::MAX)) {
        let mut leaves = vec![bytes.start / LEAF_STRIDE, (bytes.end - 1) / LEAF_STRIDE];
        leaves.dedup();
        rules.push(Rule::Weight(leaves.into_iter().map(|leaf| said.show(leaf)).collect()));
    }
    rules
}
