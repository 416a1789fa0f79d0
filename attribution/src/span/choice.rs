//! Candidates and the choice among them (PROTOCOL section 6).
//!
//! Ranks live in a heap. A candidate is cut only when it comes up: its rank is then never worse than that of its remnants, so nothing is
//! chosen too early, and a remnant that falls below m or theta could never have risen again. That holds of weights that are cut too ([`super::weight_of`]): a part
//! of a run that is cut as well starts no earlier and is shorter.

use std::{collections::BinaryHeap, ops::Range};

use types::text::WINDOW;

use super::Word;

/// Characters that end a sentence: no span holds one.
pub const DELIMITERS: [char; 7] = ['.', '!', '?', '。', '！', '？', '\n'];

/// Words `first..end` of the answer with their weight. The order is the rank: heavier, then earlier, then longer is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    weight: u32,
    first: std::cmp::Reverse<usize>,
    end: usize,
}

/// What a span must have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Least {
    pub(super) words: usize,
    pub(super) weight: u32,
}

/// Maximal runs of unmasked words without a delimiter between them.
pub(super) fn pieces(answer: &str, words: &[Word], masked: &[bool]) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    for (number, word) in words.iter().enumerate() {
        if masked[number] {
            continue;
        }
        let joins =
            |piece: &Range<usize>| piece.end == number && !answer[words[number - 1].range.end..word.range.start].contains(DELIMITERS);
        match pieces.last_mut().filter(|piece| joins(piece)) {
            Some(piece) => piece.end += 1,
            None => pieces.push(number..number + 1),
        }
    }
    pieces
}

/// Maximal matching runs of at most 256 bytes within a piece, as word numbers. `longest` tells how many bytes match from a word on.
pub(super) fn maximal(words: &[Word], piece: Range<usize>, longest: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut reached = piece.start;
    for first in piece.clone() {
        let start = words[first].range.start;
        let limit = start + longest(first).min(WINDOW);
        let end = first + words[first..piece.end].iter().take_while(|word| word.range.end <= limit).count();
        // A run that starts later and ends no later lies inside an earlier one.
        if end > reached.max(first) {
            found.push(first..end);
            reached = end;
        }
    }
    found
}

/// The chosen runs, ascending: best first, each cut out of all others, remnants ranked again.
pub(super) fn choose(words: &[Word], candidates: Vec<Range<usize>>, least: Least) -> Vec<Range<usize>> {
    let mut running = Vec::with_capacity(words.len() + 1);
    running.push(0);
    for word in words {
        running.push(running[running.len() - 1] + u64::from(word.weight));
    }
    let weigh = |run: &Range<usize>| u32::try_from(running[run.end] - running[run.start]).unwrap_or(u32::MAX);
    let ranked = |run: Range<usize>| {
        let weight = weigh(&run);
        (run.len() >= least.words.max(1) && weight >= least.weight).then_some(Candidate {
            weight,
            first: std::cmp::Reverse(run.start),
            end: run.end,
        })
    };
    let mut heap: BinaryHeap<Candidate> = candidates.into_iter().filter_map(ranked).collect();
    let mut taken = vec![false; words.len()];
    let mut chosen = Vec::new();
    while let Some(best) = heap.pop() {
        let run = best.first.0..best.end;
        if taken[run.clone()].contains(&true) {
            heap.extend(remnants(&taken, run).into_iter().filter_map(ranked));
        } else {
            taken[run.clone()].fill(true);
            chosen.push(run);
        }
    }
    chosen.sort_by_key(|run| run.start);
    chosen
}

/// Maximal runs of words in `run` that are not taken.
fn remnants(taken: &[bool], run: Range<usize>) -> Vec<Range<usize>> {
    let mut left: Vec<Range<usize>> = Vec::new();
    for number in run.filter(|number| !taken[*number]) {
        match left.last_mut().filter(|last| last.end == number) {
            Some(last) => last.end += 1,
            None => left.push(number..number + 1),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use types::text;

    use super::*;

    /// Maximal runs of an answer whose first `matching` bytes stand in some document.
    fn runs(answer: &str, matching: usize) -> Vec<Range<usize>> {
        let words: Vec<Word> = text::words(answer).into_iter().map(|range| Word { weight: 1, range }).collect();
        let all = 0..words.len();
        maximal(&words, all, |word| matching.saturating_sub(words[word].range.start))
    }

    #[test]
    fn a_run_within_another_is_no_candidate() {
        let answer = "one two three four five six seven eight";
        assert_eq!(runs(answer, answer.len()), vec![0..8]);
        assert_eq!(runs(answer, 13), vec![0..3]);
    }

    #[test]
    fn a_run_fills_the_window_to_its_last_byte() {
        // 51 words of five bytes with their space, then one that ends at byte 256, then one beyond.
        let answer = format!("{}x y", "abcd ".repeat(51));
        assert_eq!(answer.find(" y"), Some(WINDOW));
        assert_eq!(runs(&answer, answer.len()), vec![0..52, 1..53]);
    }
}
