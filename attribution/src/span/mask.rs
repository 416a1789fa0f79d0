//! Masks: what the answer only repeats from its prompt.

use types::receipt::Mask;

use super::{Word, automaton::Automaton};

/// The maximal runs of at least `m` words of the answer whose bytes stand in the prompt, each with the smallest prompt offset.
///
/// A run goes from a word's start to a word's end in the answer; in the prompt its bytes may stand anywhere. Zero and role bytes are in no
/// canonical answer, so no run reaches from one message into the next.
pub(super) fn masks(prompt: &[u8], answer: &[u8], words: &[Word], m: usize) -> Vec<Mask> {
    let automaton = Automaton::new(prompt);
    let mut cursor = automaton.start();
    let mut read = 0;
    let mut first = 0;
    let mut runs: Vec<(usize, usize, Mask)> = Vec::new();
    for (last, word) in words.iter().enumerate() {
        for byte in &answer[read..word.range.end] {
            cursor = automaton.read(cursor, *byte);
        }
        read = word.range.end;
        let shared = read - usize::try_from(cursor.length).expect("no longer than what was read");
        first += words[first..=last].iter().take_while(|word| word.range.start < shared).count();
        if first > last {
            continue;
        }
        let (start, length) = (words[first].range.start, read - words[first].range.start);
        let mask = Mask { start: narrow(start), length: narrow(length), prompt: automaton.first_offset(cursor, narrow(length)) };
        // A later end with the same first word is the longer run; with a later first word neither holds the other.
        match runs.last_mut().filter(|run| run.0 == first) {
            Some(run) => *run = (first, last, mask),
            None => runs.push((first, last, mask)),
        }
    }
    runs.into_iter().filter(|(first, last, _)| last - first + 1 >= m).map(|(_, _, mask)| mask).collect()
}

/// For each word, whether a mask covers it.
pub(super) fn masked(words: &[Word], masks: &[Mask]) -> Vec<bool> {
    let mut covered = vec![false; words.len()];
    let mut from = 0;
    for mask in masks {
        let (start, end) = (u64::from(mask.start), u64::from(mask.start) + u64::from(mask.length));
        let begins = |word: &Word| super::as_u64(word.range.start) >= start;
        from += words[from..].iter().take_while(|word| !begins(word)).count();
        for (word, covered) in words[from..].iter().zip(&mut covered[from..]).take_while(|(word, _)| super::as_u64(word.range.start) < end) {
            *covered |= begins(word);
        }
    }
    covered
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).expect("answers are bounded well below 2^32 bytes")
}
