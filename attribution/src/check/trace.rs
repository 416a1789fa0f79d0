//! The digest that shows that a checker looked: of everything that it recomputed, keyed by its account from the first byte on.
//!
//! A receipt tells what its checker will find if it is honest: text, spans, split. So a digest over these alone could be made by who never opened the index. What
//! the index says of each word of the answer stands in no receipt: in each segment the ranks of the suffix array whose text begins with the longest match, and how
//! long that match is. It takes one search per word and segment, which is the work; who has not done it cannot guess two ranks a word, and who copies another's digest
//! has one under another key.
//!
//! 330 words of an answer against four segments: 1,320 searches of some microseconds, 24 kB under one keccak.

use types::{
    encoding::Document as _,
    id::{Address, Hash32},
    merkle::keccak,
    text,
};

use super::{Reexecution, Verdict};
use crate::{
    bundle::Bundle,
    index::{Index, Segment},
    span::ANSWER_BYTES_MAX,
};

const DOMAIN: &[u8] = b"tributary/trace/v2";

/// Digest of what a checker recomputed of a receipt: it can be neither copied nor finished from another's.
pub fn trace(checker: Address, bundle: &Bundle, index: &Index, again: &Reexecution, verdict: Verdict) -> Hash32 {
    let tokens: Vec<u8> = bundle.continued.iter().chain(&bundle.token_ids).flat_map(|token| token.to_be_bytes()).collect();
    let option = |number: Option<u32>| [&[u8::from(number.is_some())][..], &number.unwrap_or_default().to_be_bytes()].concat();
    let found = [&[verdict.finding.code()][..], &verdict.position.to_be_bytes()].concat();
    trace_digest(
        checker,
        &[
            &bundle.receipt.document.encode(),
            &length(bundle.continued.len() + bundle.token_ids.len()),
            &tokens,
            &length(again.answer.len()),
            again.answer.as_bytes(),
            &option(again.wrong_token),
            &option(again.far_from),
            &option(again.tokens_in),
            &found,
            &searched(index, &again.answer),
        ],
    )
}

/// What the index says of each word of an answer: the number of words u32, then of each its first byte u32, and for each segment, Datanets in order and
/// segments in theirs, first and last-plus-one rank u64 of those that begin with the longest match, and its bytes u16. A longest match of nothing is the
/// whole array. Of an answer longer than any that is attributed, no word.
pub fn searched(index: &Index, answer: &str) -> Vec<u8> {
    let words = if answer.len() > ANSWER_BYTES_MAX { Vec::new() } else { text::words(answer) };
    let segments: Vec<&Segment> = index.datanets().iter().flat_map(|datanet| datanet.segments()).collect();
    let mut bytes = length(words.len()).to_vec();
    for word in words {
        bytes.extend(length(word.start));
        for segment in &segments {
            let pattern = &answer.as_bytes()[word.start..];
            let longest = segment.longest(pattern);
            let ranks = if longest == 0 { 0..segment.array().len() } else { segment.range(&pattern[..longest]) };
            bytes.extend(as_u64(ranks.start).to_be_bytes());
            bytes.extend(as_u64(ranks.end).to_be_bytes());
            bytes.extend(u16::try_from(longest).expect("a match is at most a window").to_be_bytes());
        }
    }
    bytes
}

/// keccak("tributary/trace/v2" || checker || parts).
pub fn trace_digest(checker: Address, parts: &[&[u8]]) -> Hash32 {
    let mut keyed: Vec<&[u8]> = vec![DOMAIN, &checker.0];
    keyed.extend(parts);
    keccak(&keyed)
}

fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).unwrap_or(u32::MAX).to_be_bytes()
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::judge,
        sample::{Sample, datanet, sample},
    };

    fn again(sample: &Sample) -> Reexecution {
        let tokens_in = Some(sample.bundle.receipt.document.tokens_in);
        Reexecution { wrong_token: None, far_from: None, answer: sample.bundle.answer.clone(), tokens_in }
    }

    #[test]
    fn a_trace_differs_by_checker_by_receipt_by_what_was_found_and_by_what_the_index_holds() {
        let sample = sample();
        let (again, me) = (again(&sample), Address([1; 20]));
        let verdict = judge(&sample.bundle, &sample.index, &again);
        let own = trace(me, &sample.bundle, &sample.index, &again, verdict);
        assert_eq!(own, trace(me, &sample.bundle, &sample.index, &again, verdict));
        assert_ne!(own, trace(Address([2; 20]), &sample.bundle, &sample.index, &again, verdict), "another's");
        let mut other = sample.bundle.clone();
        other.receipt.document.attempt += 1;
        assert_ne!(own, trace(me, &other, &sample.index, &again, verdict), "another receipt");
        let mut other = sample.bundle.clone();
        let moved = other.token_ids.remove(0);
        other.continued.push(moved);
        assert_eq!(own, trace(me, &other, &sample.index, &again, verdict), "the receipt says which tokens are its own");
        assert_ne!(own, trace(me, &sample.bundle, &sample.index, &again, Verdict { position: 1, ..verdict }));
        // A document that says nothing of the answer moves the ranks of all that stands behind it.
        let grown = Index::new(vec![
            datanet(
                3,
                &[(0xa1, "Something unrelated about kidneys, and a bit more."), (0xa2, crate::sample::FIRST), (0xa3, crate::sample::COPY)],
            ),
            datanet(4, &[(0xb1, crate::sample::SECOND)]),
        ]);
        assert_ne!(own, trace(me, &sample.bundle, &grown.unwrap(), &again, verdict), "another index");
    }

    #[test]
    fn what_is_searched_is_what_a_plain_look_at_every_window_finds() {
        let sample = sample();
        let answer = &sample.bundle.answer;
        let mut expected = length(text::words(answer).len()).to_vec();
        for word in text::words(answer) {
            expected.extend(length(word.start));
            let pattern = &answer.as_bytes()[word.start..];
            for segment in sample.index.datanets().iter().flat_map(|datanet| datanet.segments()) {
                let window = |start: u32| {
                    let text = &segment.text()[usize::try_from(start).unwrap()..];
                    text.iter().take(256).take_while(|byte| **byte != 0).copied().collect::<Vec<u8>>()
                };
                let windows: Vec<Vec<u8>> = segment.array().iter().map(window).collect();
                let common = |window: &Vec<u8>| window.iter().zip(pattern).take_while(|(a, b)| a == b).count();
                let longest = windows.iter().map(common).max().unwrap_or(0);
                let first = windows.iter().position(|window| common(window) >= longest).unwrap_or(0);
                let count = windows.iter().filter(|window| common(window) >= longest).count();
                expected.extend(as_u64(first).to_be_bytes());
                expected.extend(as_u64(first + count).to_be_bytes());
                expected.extend(u16::try_from(longest).unwrap().to_be_bytes());
            }
        }
        assert_eq!(hex::encode(searched(&sample.index, answer)), hex::encode(expected));
        assert_eq!(searched(&sample.index, ""), [0; 4]);
        assert_eq!(searched(&sample.index, &"a ".repeat(ANSWER_BYTES_MAX)), [0; 4]);
    }
}
