//! F2: what the rule would have chosen, and the receipt has nothing as good in its place.
//!
//! It is enough to look at what attribution chooses. Of the runs that it chooses and the receipt lacks, take the one of the highest rank: a span of the
//! receipt that overlaps it and outranks it, were it eligible, would be chosen itself or lie in what is.

use std::{cmp::Reverse, ops::Range};

use types::{
    proof::Omission,
    receipt::{Receipt, Span},
    text::LEAF_STRIDE,
};

use super::Case;
use crate::{
    index::ReadError,
    span::{Word, chosen, weight_of},
};

/// The proofs of every chosen run that is missing and that no span of the receipt outranks; nothing of a receipt that bills nothing.
pub(super) fn omitted<'a>(case: &'a Case<'_>) -> impl Iterator<Item = Result<Omission, ReadError>> + 'a {
    let (receipt, words) = (case.receipt, &case.answer.words);
    let runs = if receipt.reason.is_billable() {
        chosen(case.index, case.parameters, case.text, words, &covered(words, receipt))
    } else {
        Vec::new()
    };
    runs.into_iter().filter(|run| is_missing(receipt, &words[run.clone()])).map(|run| show(case, run))
}

/// For each word, whether a mask of the receipt shares a byte with it.
pub(crate) fn covered(words: &[Word], receipt: &Receipt) -> Vec<bool> {
    let mut covered = vec![false; words.len()];
    for mask in &receipt.masks {
        let (start, end) = (u64::from(mask.start), u64::from(mask.start) + u64::from(mask.length));
        let first = words.partition_point(|word| as_u64(word.range.end) <= start);
        let count = words[first..].partition_point(|word| as_u64(word.range.start) < end);
        covered[first..first + count].fill(true);
    }
    covered
}

/// Whether no mask shares a byte with a run, and each span of the receipt that does ranks after it: lighter, else later, else shorter.
fn is_missing(receipt: &Receipt, words: &[Word]) -> bool {
    let bytes = bytes(words);
    let (start, end) = (as_u64(bytes.start), as_u64(bytes.end));
    let weight = weight_of(words);
    let overlaps = |first: u32, length: u32| u64::from(first) < end && start < u64::from(first) + u64::from(length);
    !receipt.masks.iter().any(|mask| overlaps(mask.start, mask.length))
        && receipt.spans.iter().filter(|span| overlaps(span.start, span.length.into())).all(|span| ranks_after(span, weight, start..end))
}

/// Whether a span, by what the receipt says of it, ranks after a run of this weight in these bytes: lighter, else later, else shorter.
pub(crate) fn ranks_after(span: &Span, weight: u32, run: Range<u64>) -> bool {
    let (first, last) = (u64::from(span.start), u64::from(span.start) + u64::from(span.length));
    (Reverse(span.weight), first, Reverse(last)) > (Reverse(weight), run.start, Reverse(run.end))
}

/// [`ReadError::Unheld`] where the index has changed beneath what attribution found in it: nobody holds the run any more, and what else is not found nobody knows.
fn show(case: &Case<'_>, run: Range<usize>) -> Result<Omission, ReadError> {
    let words = &case.answer.words[run];
    let bytes = bytes(words);
    let held = case.index.holder(&case.text.as_bytes()[bytes.clone()]).ok_or(ReadError::Unheld)?;
    Ok(Omission {
        parameters: case.parameters.encode(),
        start: u32::try_from(bytes.start).expect("an answer's bytes fit 32 bits"),
        length: u16::try_from(bytes.len()).expect("at most a window"),
        answer: leaves(words, case.parameters.m.into()).into_iter().map(|leaf| case.answer.show(leaf)).collect(),
        datanet: held.datanet,
        position: held.position,
        source: case.index.show_source(held.datanet, held.position)?,
        passage: case.index.show_passage(held.datanet, held.position)?,
    })
}

/// The answer's leaves that show a run's bounds and weight, and at least `least` words of it: those in whose strides it begins, its last word begins and its
/// last byte stands, and of those between the ones with most of its words.
fn leaves(words: &[Word], least: usize) -> Vec<usize> {
    let bytes = bytes(words);
    let (first, last) = (bytes.start / LEAF_STRIDE, (bytes.end - 1) / LEAF_STRIDE);
    let seen = |leaf: usize| words.iter().filter(|word| word.range.start / LEAF_STRIDE == leaf).count();
    // A word that reaches over a stride's end stands in the rows of the leaf where it begins: that one shows where the run ends.
    let ends = words.last().map_or(first, |word| word.range.start / LEAF_STRIDE);
    let mut between: Vec<usize> = (first + 1..last).filter(|leaf| *leaf != ends).collect();
    between.sort_by_key(|leaf| Reverse(seen(*leaf)));
    let mut shown = vec![first, ends, last];
    shown.sort_unstable();
    shown.dedup();
    for leaf in between {
        if shown.iter().map(|leaf| seen(*leaf)).sum::<usize>() >= least {
            break;
        }
        shown.push(leaf);
    }
    shown.sort_unstable();
    shown
}

fn bytes(words: &[Word]) -> Range<usize> {
    match words {
        [] => 0..0,
        [first, ..] => first.range.start..words[words.len() - 1].range.end,
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_between_the_ends_are_shown_only_until_there_are_words_enough() {
        // A word at each of these bytes: three in the first stride, one in the second, two in the third, one in the fourth.
        let words: Vec<Word> = [50, 55, 60, 100, 130, 140, 200].iter().map(|at| Word { range: *at..at + 3, weight: 1 }).collect();
        for (least, expected) in [(1, vec![0, 3]), (4, vec![0, 3]), (5, vec![0, 2, 3]), (6, vec![0, 2, 3]), (7, vec![0, 1, 2, 3])] {
            assert_eq!(leaves(&words, least), expected, "{least}");
        }
        assert_eq!(leaves(&words[..2], 2), [0]);
        let long = [50..53, 190..193].map(|range| Word { range, weight: 1 });
        assert_eq!(leaves(&long, 1), [0, 2, 3], "the last word's row stands in the third");
    }
}
