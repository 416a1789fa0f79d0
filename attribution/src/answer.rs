//! The committed form of an answer: salted leaves that carry text and word weights (P3).
//!
//! A leaf is 41 bytes of head, 7 per word that starts in its stride (at most 64), and at most 320 bytes of text.

use types::{
    encoding::Writer,
    id::Hash32,
    merkle::{self, Tree},
    text::{LEAF_STRIDE, leaf_count, leaf_range, leaf_salt},
};

use crate::{
    index::{Opened, TextLeaf},
    span::Word,
};

/// Longest word length a leaf can state.
const WORD_BYTES_MAX: usize = 65_535;

/// Bytes of every answer leaf, in order. `words` are all words of `answer`, ascending.
pub fn answer_leaves(answer: &str, words: &[Word], salt: Hash32) -> Vec<Vec<u8>> {
    let mut running = 0_u64;
    let mut next = 0;
    let mut leaves = Vec::with_capacity(leaf_count(answer.len()));
    for index in 0..leaf_count(answer.len()) {
        let start = index * LEAF_STRIDE;
        let here = &words[next..];
        let here = &here[..here.partition_point(|word| word.range.start < start + LEAF_STRIDE)];
        let count = u8::try_from(here.len()).expect("at most one word starts at each of 64 bytes");
        let head = Writer::new().hash(leaf_salt(salt, index)).u64(running).u8(count);
        let rows = here.iter().fold(head, |leaf, word| {
            let offset = u8::try_from(word.range.start - start).expect("below the stride");
            let length = u16::try_from(word.range.len().min(WORD_BYTES_MAX)).expect("capped");
            leaf.u8(offset).u16(length).u32(word.weight)
        });
        leaves.push(rows.bytes(&answer.as_bytes()[leaf_range(index, answer.len())]).finish());
        running += here.iter().map(|word| u64::from(word.weight)).sum::<u64>();
        next += here.len();
    }
    leaves
}

/// The tree over the answer's leaves; it states the answer's length.
pub fn answer_tree(answer: &str, words: &[Word], salt: Hash32) -> Tree {
    let digests = merkle::leaf_digests(answer_leaves(answer, words, salt));
    Tree::new(digests, u64::try_from(answer.len()).expect("a length in memory fits 64 bits"))
}

/// The salted answer root.
pub fn answer_root(answer: &str, words: &[Word], salt: Hash32) -> Hash32 {
    answer_tree(answer, words, salt).root()
}

/// Opens the leaf in whose stride byte `offset` lies; nothing past the answer.
pub fn open_answer(answer: &str, words: &[Word], salt: Hash32, offset: usize) -> Option<Opened<TextLeaf>> {
    let index = offset / LEAF_STRIDE;
    let leaf = answer_leaves(answer, words, salt).into_iter().nth(index)?;
    Some(Opened { leaf: TextLeaf(leaf), opening: answer_tree(answer, words, salt).open(u64::try_from(index).ok()?)? })
}
