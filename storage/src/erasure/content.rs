//! The hash of an object whose bytes come in any order.
//!
//! BLAKE3 is a tree, so parts of [`PART_BYTES`] can be hashed as soon as they are whole, while others are still on their way. What is left at the end is to join them:
//! 1024 parts of 64 MiB are 1023 hashes of two children, 0.1 ms; hashing all of it then takes 15 ms in which nothing else goes on.

use std::ops::Range;

use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use types::id::BlobId;

/// Bytes of a part: a power of two of BLAKE3's chunks, so that parts are subtrees, and as many as one pass of its widest code takes four times.
const PART_BYTES: usize = 64 << 10;

type Hash = [u8; 32];

/// Hashes of the parts that were whole so far: 32 bytes for 64 KiB.
#[derive(Debug)]
pub(crate) struct Content {
    length: usize,
    parts: Vec<Option<Hash>>,
}

impl Content {
    /// Nothing yet of `length` bytes.
    pub(crate) fn new(length: usize) -> Self {
        Self { length, parts: vec![None; length.div_ceil(PART_BYTES)] }
    }

    /// Bytes of a part in the object.
    fn range(&self, part: usize) -> Range<usize> {
        part * PART_BYTES..((part + 1) * PART_BYTES).min(self.length)
    }

    /// Says that bytes came at `range` of the object, and hashes what is whole by `is_here` and was not hashed.
    pub(crate) fn came(&mut self, object: &[u8], range: Range<usize>, is_here: impl Fn(Range<usize>) -> bool) {
        for part in range.start / PART_BYTES..range.end.min(self.length).div_ceil(PART_BYTES) {
            let bytes = self.range(part);
            if self.parts[part].is_none() && is_here(bytes.clone()) {
                self.parts[part] = Some(hash(part, &object[bytes]));
            }
        }
    }

    /// The hash of `content`, of which all parts that were hashed still stand as they came.
    pub(crate) fn finish(&self, content: &[u8]) -> BlobId {
        if self.parts.len() < 2 {
            return BlobId::of(content);
        }
        let parts = (0..).zip(&self.parts).map(|(part, known)| known.unwrap_or_else(|| hash(part, &content[self.range(part)])));
        let parts: Vec<Hash> = parts.collect();
        let (left, right) = parts.split_at(left(parts.len()));
        BlobId(*merge_subtrees_root(&join(left), &join(right), Mode::Hash).as_bytes())
    }
}

/// Parts on the left of a node of so many: the largest power of two that leaves some on the right.
const fn left(parts: usize) -> usize {
    parts.next_power_of_two() / 2
}

fn join(parts: &[Hash]) -> Hash {
    if let [part] = parts {
        return *part;
    }
    let (left, right) = parts.split_at(left(parts.len()));
    merge_subtrees_non_root(&join(left), &join(right), Mode::Hash)
}

fn hash(part: usize, bytes: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(part as u64 * PART_BYTES as u64).update(bytes);
    hasher.finalize_non_root()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTHS: [usize; 12] = [
        0,
        1,
        PART_BYTES - 1,
        PART_BYTES,
        PART_BYTES + 1,
        2 * PART_BYTES,
        2 * PART_BYTES + 1,
        3 * PART_BYTES,
        4 * PART_BYTES - 1,
        5 * PART_BYTES + 1023,
        8 * PART_BYTES,
        9 * PART_BYTES + 1024,
    ];

    proptest! {
        #[test]
        fn pieces_in_any_order_and_some_of_them_twice_or_never_give_the_hash_of_the_whole(
            length in proptest::sample::select(LENGTHS.to_vec()),
            piece in 1_000_usize..100_000,
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let object: Vec<u8> = (0..length).map(|at| u8::try_from(at * at % 251).unwrap()).collect();
            // What has not come is another byte until it comes.
            let (mut bytes, mut here) = (vec![0xee; length], vec![false; length]);
            let mut content = Content::new(length);
            for index in order.iter().filter(|_| length > 0) {
                let start = index.index(length.div_ceil(piece)) * piece;
                let range = start..(start + piece).min(length);
                bytes[range.clone()].copy_from_slice(&object[range.clone()]);
                here[range.clone()].fill(true);
                content.came(&bytes, range, |range| here[range].iter().all(|here| *here));
            }
            prop_assert_eq!(content.finish(&object), BlobId::of(&object));
        }
    }

    #[test]
    fn a_part_is_hashed_when_it_is_whole_and_not_at_the_end() {
        let object = vec![7; 3 * PART_BYTES];
        let mut content = Content::new(object.len());
        content.came(&object, 0..PART_BYTES + 1, |range| range.end <= PART_BYTES + 1);
        assert_eq!(content.parts.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
        // Only what was not hashed is looked at: the first part may be gone.
        let changed = [vec![8; PART_BYTES], vec![7; 2 * PART_BYTES]].concat();
        assert_eq!(content.finish(&changed), BlobId::of(&object));
    }
}
