//! Answer and prompt as proofs open them: a leaf, and what shows where words begin and end in it.

use std::ops::Range;

use types::{
    id::Hash32,
    merkle::{Tree, leaf_digests},
    proof::{Head, Passage, Shown},
    text::{self, LEAF_STRIDE, leaf_count, prompt_leaf},
};

use crate::{fault::Answer, index::is_cut_before, span::PROMPT_BYTES_MAX};

/// A text both sides signed to, with what opens it.
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    /// Its words, in order.
    pub(super) words: Vec<Range<usize>>,
    leaves: Leaves<'a>,
}

enum Leaves<'a> {
    Answer(&'a Answer),
    Prompt { salt: Hash32, tree: Tree },
}

impl<'a> Text<'a> {
    pub(super) fn answer(text: &'a str, answer: &'a Answer) -> Self {
        let words = answer.words.iter().map(|word| word.range.clone()).collect();
        Self { bytes: text.as_bytes(), words, leaves: Leaves::Answer(answer) }
    }

    /// Nothing of bytes that no prompt of a receipt has.
    pub(super) fn prompt(bytes: &'a [u8], salt: Hash32) -> Option<Self> {
        let words = text::words(std::str::from_utf8(bytes).ok().filter(|text| text.len() <= PROMPT_BYTES_MAX)?);
        let digests = leaf_digests((0..leaf_count(bytes.len())).map(|leaf| prompt_leaf(bytes, salt, leaf)));
        Some(Self { bytes, words, leaves: Leaves::Prompt { salt, tree: Tree::new(digests, as_u64(bytes.len())) } })
    }

    fn tree(&self) -> &Tree {
        match &self.leaves {
            Leaves::Answer(answer) => answer.tree(),
            Leaves::Prompt { tree, .. } => tree,
        }
    }

    pub(super) fn root(&self) -> Hash32 {
        self.tree().root()
    }

    pub(super) fn head(&self) -> Head {
        Head { leaves: as_u64(leaf_count(self.bytes.len())), byte_length: as_u64(self.bytes.len()), top: self.tree().top() }
    }

    /// Leaf `number`; nothing is shown of one beyond the text.
    pub(super) fn show(&self, number: usize) -> Shown {
        match &self.leaves {
            Leaves::Answer(answer) => answer.show(number),
            Leaves::Prompt { salt, tree } => tree
                .open(as_u64(number))
                .map_or_else(Shown::nothing, |opening| Shown { leaf: prompt_leaf(self.bytes, *salt, number), opening }),
        }
    }

    /// The leaves from that of byte `first` to that of the byte before `end`, which comes after it.
    pub(super) fn show_all(&self, first: usize, end: usize) -> Vec<Shown> {
        (first / LEAF_STRIDE..=(end - 1) / LEAF_STRIDE).map(|leaf| self.show(leaf)).collect()
    }

    /// Byte `at` in the leaf in whose stride it stands, and the one before where the character before it does not stand in that.
    pub(super) fn passage(&self, at: usize) -> Passage {
        self.passage_in(at / LEAF_STRIDE, at)
    }

    /// The same in the leaf of the byte before it, which there is.
    pub(super) fn passage_behind(&self, at: usize) -> Passage {
        self.passage_in((at - 1) / LEAF_STRIDE, at)
    }

    fn passage_in(&self, leaf: usize, at: usize) -> Passage {
        let begin = leaf * LEAF_STRIDE;
        let is_cut = leaf > 0 && is_cut_before(&self.bytes[begin..], at - begin);
        Passage { text: self.show(leaf), before: is_cut.then(|| self.show(leaf - 1)) }
    }

    pub(super) fn begins(&self, at: usize) -> bool {
        self.words.binary_search_by_key(&at, |word| word.start).is_ok()
    }

    pub(super) fn ends(&self, at: usize) -> bool {
        self.words.binary_search_by_key(&at, |word| word.end).is_ok()
    }

    /// Numbers of the words that start in a range of bytes.
    pub(super) fn starting(&self, bytes: &Range<usize>) -> Range<usize> {
        let below = |end: usize| self.words.partition_point(|word| word.start < end);
        below(bytes.start)..below(bytes.end).max(below(bytes.start))
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}
