//! F11: a mask of the receipt that is none, or one that is missing.

use std::ops::Range;

use types::{
    proof::{FalseMask, Flaw, SharedRun},
    receipt::{MASKS_MAX, Mask},
};

use super::{Case, dialogue::Text, weight};
use crate::span::mask_any;

/// Longest run that one leaf shows with the character behind it.
const RUN_BYTES_MAX: usize = 252;

/// Masks that are none, each for the first of its flaws; nothing of a receipt that bills nothing.
pub(super) fn false_masks(case: &Case<'_>) -> Vec<FalseMask> {
    let masks = if case.receipt.reason.is_billable() { &case.receipt.masks[..] } else { &[] };
    let before = std::iter::once(None).chain(masks.iter().map(Some));
    let flawed =
        before.zip(masks).zip(0..).filter_map(|((before, mask), number)| Some(FalseMask { mask: number, flaw: flaw(case, before, mask)? }));
    flawed.collect()
}

fn flaw(case: &Case<'_>, before: Option<&Mask>, mask: &Mask) -> Option<Flaw> {
    let end = |mask: &Mask| u64::from(mask.start) + u64::from(mask.length);
    if mask.length == 0 || before.is_some_and(|before| mask.start <= before.start || end(mask) <= end(before)) {
        return Some(Flaw::Form);
    }
    let (said, own) = (&case.said, weight::bytes(mask)?);
    if own.end > said.bytes.len() {
        return Some(Flaw::AnswerEnd(said.head()));
    }
    let asked = case.asked.as_ref().map(|asked| (asked, weight::bytes(&Mask { start: mask.prompt, ..*mask })));
    let asked = match asked {
        Some((asked, copy)) => {
            let copy = copy?;
            if copy.end > asked.bytes.len() {
                return Some(Flaw::PromptEnd(asked.head()));
            }
            Some((asked, copy))
        }
        None => None,
    };
    let copied = asked.as_ref().map(|(asked, copy)| (*asked, copy));
    copied
        .and_then(|(asked, copy)| differing(said, &own, asked, copy))
        .or_else(|| cut(said, &own, 0))
        .or_else(|| copied.and_then(|(asked, copy)| cut(asked, copy, 2)))
        .or_else(|| few_words(case, &own))
        .or_else(|| copied.and_then(|(asked, copy)| longer(said, &own, asked, copy)))
}

fn differing(said: &Text<'_>, own: &Range<usize>, asked: &Text<'_>, copy: &Range<usize>) -> Option<Flaw> {
    let at = said.bytes[own.clone()].iter().zip(&asked.bytes[copy.clone()]).position(|(own, copied)| own != copied)?;
    let leaf = |text: &Text<'_>, at: usize| text.passage(at).text;
    Some(Flaw::Bytes { at: u32::try_from(at).ok()?, answer: leaf(said, own.start + at), prompt: leaf(asked, copy.start + at) })
}

/// An edge of a run that is no word's; `first` is the number of the run's start among the edges.
fn cut(text: &Text<'_>, run: &Range<usize>, first: u8) -> Option<Flaw> {
    if !text.begins(run.start) {
        return Some(Flaw::Bounds { edge: first, text: text.passage(run.start) });
    }
    (!text.ends(run.end)).then(|| Flaw::Bounds { edge: first + 1, text: text.passage_behind(run.end) })
}

fn few_words(case: &Case<'_>, own: &Range<usize>) -> Option<Flaw> {
    let is_few = case.said.starting(own).len() < usize::from(case.parameters.m);
    is_few.then(|| Flaw::FewWords { parameters: case.parameters.encode(), answer: case.said.show_all(own.start, own.end) })
}

/// The next word of the answer behind a mask, or the one before it, if it stands beside the copy too.
fn longer(said: &Text<'_>, own: &Range<usize>, asked: &Text<'_>, copy: &Range<usize>) -> Option<Flaw> {
    let inside = said.starting(own);
    let shared = |length: usize, from: usize, to: Option<usize>| {
        let copied = to.and_then(|to| asked.bytes.get(to..to + length));
        length <= RUN_BYTES_MAX && copied == Some(&said.bytes[from..from + length])
    };
    if let Some(word) = said.words.get(inside.end) {
        let length = word.end - own.end;
        if shared(length, own.end, Some(copy.end)) && asked.ends(copy.end + length) {
            let beside = |text: &Text<'_>, at: usize| types::proof::Passage { before: None, ..text.passage(at) };
            let (answer, prompt) = (beside(said, own.end), beside(asked, copy.end));
            return Some(Flaw::Longer { is_before: false, length: u16::try_from(length).ok()?, answer, prompt });
        }
    }
    let word = said.words.get(inside.start.checked_sub(1)?)?;
    let length = own.start - word.start;
    let start = copy.start.checked_sub(length)?;
    (shared(length, word.start, Some(start)) && asked.begins(start)).then(|| Flaw::Longer {
        is_before: true,
        length: u16::try_from(length).expect("at most 252"),
        answer: said.passage(word.start),
        prompt: asked.passage(start),
    })
}

/// What masks are to hold: nothing where the prompt is not known.
pub(super) fn shared(case: &Case<'_>) -> Vec<Mask> {
    let found = case.asked.as_ref().and_then(|asked| mask_any(case.parameters, asked.bytes, case.text).ok());
    found.map(|found| found.masks).unwrap_or_default()
}

/// Of what answer and prompt share, `shared`, the runs that no mask of the receipt holds, as far as a leaf shows them and a receipt has masks: one convicts; nothing of a
/// receipt that bills nothing.
pub(super) fn missing_masks(case: &Case<'_>, shared: &[Mask]) -> Vec<SharedRun> {
    let is_held =
        |run: &Range<usize>| case.receipt.masks.iter().filter_map(weight::bytes).any(|held| held.start <= run.start && run.end <= held.end);
    let shared = if case.receipt.reason.is_billable() { shared } else { &[] };
    shared.iter().filter_map(|mask| show(case, mask, |run| !is_held(run))).take(MASKS_MAX).collect()
}

/// A run that answer and prompt share over a part of these bytes, as far as a leaf shows one.
pub(super) fn copied(case: &Case<'_>, shared: &[Mask], bytes: &Range<usize>) -> Option<SharedRun> {
    let shares = |one: &Range<usize>| one.start < bytes.end && bytes.start < one.end;
    let near = shared.iter().filter(|mask| weight::bytes(mask).is_some_and(|mask| shares(&mask)));
    near.into_iter().find_map(|mask| show(case, mask, shares))
}

/// The first run within a mask that is wanted.
fn show(case: &Case<'_>, mask: &Mask, is_wanted: impl Fn(&Range<usize>) -> bool) -> Option<SharedRun> {
    let (asked, said, own) = (case.asked.as_ref()?, &case.said, weight::bytes(mask)?);
    let offset = usize::try_from(mask.prompt).ok()?;
    let words = &said.words[said.starting(&own)];
    // As much from each word on as a leaf shows: the whole mask, if it does.
    let mut runs = (0..words.len()).filter_map(|first| {
        let start = words[first].start;
        let count = words[first..].iter().take_while(|word| word.end - start <= RUN_BYTES_MAX).count();
        (count >= usize::from(case.parameters.m).max(1)).then(|| start..words[first + count - 1].end)
    });
    let run = runs.find(is_wanted)?;
    let copy = offset + (run.start - own.start);
    Some(SharedRun {
        parameters: case.parameters.encode(),
        start: u32::try_from(run.start).ok()?,
        length: u16::try_from(run.len()).ok()?,
        prompt_start: u32::try_from(copy).ok()?,
        answer: said.passage(run.start),
        prompt: asked.passage(copy),
    })
}
