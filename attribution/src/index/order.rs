//! The order of the array (P5): word starts by what follows, up to and with the zero that ends the document, at most 256 bytes; ties by offset.
//!
//! Eight bytes at a time become one big-endian key, zeroed behind the document's end, so that keys compare as the bytes do. A level sorts
//! (key, offset) pairs and descends into groups of equal keys that no document ends in: 16 bytes per entry, at most 32 levels.

use types::text::WINDOW;

const KEY_BYTES: usize = 8;
const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// The offsets in `starts` (each below `padded.len() - 8`) in order. `padded` is the segment's text with eight zeros behind it.
pub(super) fn sorted(padded: &[u8], starts: &[u32]) -> Vec<u32> {
    let mut items: Vec<(u64, u32)> = starts.iter().map(|start| (0, *start)).collect();
    sort_from(padded, &mut items, 0);
    items.into_iter().map(|(_, start)| start).collect()
}

fn sort_from(padded: &[u8], items: &mut [(u64, u32)], depth: usize) {
    for (key, start) in items.iter_mut() {
        *key = key_at(padded, as_index(*start) + depth);
    }
    items.sort_unstable();
    let depth = depth + KEY_BYTES;
    if depth == WINDOW {
        return;
    }
    for group in items.chunk_by_mut(|a, b| a.0 == b.0) {
        if group.len() > 1 && !has_zero(group[0].0) {
            sort_from(padded, group, depth);
        }
    }
}

/// `start` as an index of a slice.
pub(super) fn as_index(start: u32) -> usize {
    usize::try_from(start).expect("32 bits fit the address space of every supported machine")
}

/// Bytes `at..at + 8`, zeroed from the first zero on.
fn key_at(padded: &[u8], at: usize) -> u64 {
    let chunk = padded[at..].first_chunk().expect("no key starts beyond the last document's zero, and eight zeros follow it");
    let key = u64::from_be_bytes(*chunk);
    match zeros(key) {
        0 => key,
        zeros => key & !(u64::MAX >> (zeros.leading_zeros() & !7)),
    }
}

/// The top bit of every zero byte, exactly.
const fn zeros(key: u64) -> u64 {
    !(((key & LOW_BITS) + LOW_BITS) | key | LOW_BITS)
}

const fn has_zero(key: u64) -> bool {
    zeros(key) != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The order as the protocol words it.
    fn plain(text: &[u8], starts: &[u32]) -> Vec<u32> {
        let window = |start: u32| {
            let rest = &text[as_index(start)..];
            let end = rest.iter().position(|b| *b == 0).map_or(rest.len(), |zero| zero + 1);
            &rest[..end.min(WINDOW)]
        };
        let mut starts = starts.to_vec();
        starts.sort_by(|a, b| window(*a).cmp(window(*b)).then(a.cmp(b)));
        starts
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn the_order_is_that_of_plain_comparison(mut text in proptest::collection::vec(prop_oneof![6 => Just(b'a'), 2 => Just(b'b'), 1 => Just(0_u8), 1 => Just(1_u8), 1 => Just(0x80_u8)], 0..1_500)) {
            text.push(0);
            let starts: Vec<u32> = (0..text.len()).filter(|at| text[*at] != 0).map(|at| u32::try_from(at).unwrap()).collect();
            let mut padded = text.clone();
            padded.extend([0; 8]);
            prop_assert_eq!(sorted(&padded, &starts), plain(&text, &starts));
        }
    }

    #[test]
    fn beyond_256_equal_bytes_the_offset_decides() {
        let mut text = vec![b'a'; 600];
        text[599] = 0;
        let padded = [text.clone(), vec![0; 8]].concat();
        let starts: Vec<u32> = (0..599).collect();
        let order = sorted(&padded, &starts);
        assert_eq!(order, plain(&text, &starts));
        assert_eq!(&order[order.len() - 3..], &[341, 342, 343]);
    }
}
