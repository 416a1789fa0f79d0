//! The array against an independent suffix array: libsais sorts all suffixes without bound, the tie rule does the rest.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod texts;

use attribution::index::{Segment, Source};
use libsais::SuffixArrayConstruction;
use types::{
    id::Address,
    text::{WINDOW, text_root, word_starts},
};

/// At most 256 bytes from `start`, up to the document's end.
fn window(text: &[u8], start: i32) -> &[u8] {
    let rest = &text[usize::try_from(start).unwrap()..];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    &rest[..end.min(WINDOW)]
}

/// Word starts in the order of all that follows them, then those of equal windows by place.
fn expected(text: &str) -> Vec<u32> {
    let bytes = text.as_bytes();
    let mut is_start = vec![false; bytes.len()];
    let mut at = 0;
    for document in text.split_inclusive('\0') {
        word_starts(document).for_each(|start| is_start[at + start] = true);
        at += document.len();
    }
    let all: Vec<i32> = SuffixArrayConstruction::for_text(bytes).in_owned_buffer32().single_threaded().run().unwrap().into_vec();
    let mut starts: Vec<i32> = all.into_iter().filter(|start| is_start[usize::try_from(*start).unwrap()]).collect();
    for equal in starts.chunk_by_mut(|a, b| window(bytes, *a) == window(bytes, *b)) {
        equal.sort_unstable();
    }
    starts.into_iter().map(|start| u32::try_from(start).unwrap()).collect()
}

fn check(name: &str, text: &str) {
    let source =
        Source { contributor: Address([1; 20]), block: 1, ordinal: 0, text_root: text_root(text.as_bytes()), text: text.as_bytes() };
    let segment = Segment::build(&[source], 0).unwrap();
    assert!(segment.array().iter().eq(expected(text)), "{name}");
}

#[test]
fn the_array_is_that_of_libsais_after_the_tie_rule() {
    texts::prose(2, 200_000).iter().for_each(|text| check("prose", text));
    for (name, texts) in texts::pathological(40_000) {
        check(name, &texts[0]);
    }
}
