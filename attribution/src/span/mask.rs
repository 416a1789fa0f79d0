//! Masks: what the answer only repeats from its prompt.

use std::{collections::BTreeMap, ops::Range};

use types::{receipt::Mask, text};

use super::{Word, as_u64, automaton::Automaton};

/// Texts as sequences of numbered words and of the numbered gaps between them: word 0, gap, word 1, ... Equal numbers mean equal bytes.
#[derive(Default)]
struct Alphabet<'a>(BTreeMap<&'a str, u32>);

impl<'a> Alphabet<'a> {
    fn spell(&mut self, text: &'a str, words: impl Iterator<Item = Range<usize>>) -> Vec<u32> {
        let mut symbols = Vec::new();
        let mut end = 0;
        for word in words {
            if !symbols.is_empty() {
                symbols.push(self.symbol(&text[end..word.start]));
            }
            end = word.end;
            symbols.push(self.symbol(&text[word]));
        }
        symbols
    }

    fn symbol(&mut self, piece: &'a str) -> u32 {
        let next = narrow(self.0.len());
        *self.0.entry(piece).or_insert(next)
    }
}

/// The maximal runs of at least `m` words that the answer shares with one message of the prompt, each at its smallest prompt offset.
///
/// A run goes from a word's start to a word's end in both. Role and zero bytes are in no canonical answer, hence in no gap it has: no run
/// reaches from one message into the next.
pub(super) fn masks(prompt: &str, answer: &str, words: &[Word], m: usize) -> Vec<Mask> {
    let mut alphabet = Alphabet::default();
    let prompt_words = text::words(prompt);
    let automaton = Automaton::new(&alphabet.spell(prompt, prompt_words.iter().cloned()));
    let read = alphabet.spell(answer, words.iter().map(|word| word.range.clone()));
    let mut cursor = Automaton::start();
    let mut runs: Vec<(Range<usize>, Mask)> = Vec::new();
    for (place, symbol) in read.into_iter().enumerate() {
        cursor = automaton.read(cursor, symbol);
        // Words stand at even places; a shared suffix that begins with a gap begins a word later.
        if place % 2 == 1 || cursor.length == 0 {
            continue;
        }
        let symbols = cursor.length - u32::from(cursor.length.is_multiple_of(2));
        let count = wide(symbols / 2) + 1;
        let run = place / 2 + 1 - count..place / 2 + 1;
        let (start, end) = (words[run.start].range.start, words[run.end - 1].range.end);
        let first = prompt_words[wide(automaton.first_place(cursor, symbols)) / 2].start;
        let mask = Mask { start: narrow(start), length: narrow(end - start), prompt: narrow(first) };
        // A later end with the same first word is the longer run; with a later first word neither holds the other.
        match runs.last_mut().filter(|last| last.0.start == run.start) {
            Some(last) => *last = (run, mask),
            None => runs.push((run, mask)),
        }
    }
    runs.into_iter().filter(|(run, _)| run.len() >= m).map(|(_, mask)| mask).collect()
}

/// For each word, whether a mask covers it; masks ascend by start.
pub(super) fn covered(words: &[Word], masks: &[Mask]) -> Vec<bool> {
    let mut covered = vec![false; words.len()];
    // Masks overlap: a word is looked at once, however many cover it.
    let mut done = 0;
    for mask in masks {
        let (start, end) = (u64::from(mask.start), u64::from(mask.start) + u64::from(mask.length));
        let first = done.max(words.partition_point(|word| as_u64(word.range.start) < start));
        let count = words[first..].partition_point(|word| as_u64(word.range.start) < end);
        covered[first..first + count].fill(true);
        done = first + count;
    }
    covered
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).expect("answers and prompts are bounded well below 2^32 bytes")
}

fn wide(length: u32) -> usize {
    usize::try_from(length).expect("32 bits fit memory")
}
