//! The order of the array (P5): word starts by at most 256 bytes of what follows in their document, ties by offset.
//!
//! A window ends before the first zero byte, which is its document's end: what stands in the next document decides nothing, so two segments'
//! entries merge by what they begin with, and one text leaf shows all that a place is ordered by. Of two windows, of which one begins the
//! other, the shorter comes first.
//!
//! Eight bytes at a time become one big-endian key, zeros from the window's end on, so that keys compare as windows do. A level sorts
//! (key, offset) pairs and descends into groups of equal keys in which no window has ended: 16 bytes per entry, at most 32 levels.

use types::text::WINDOW;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 8;

/// The offsets in `starts` in order. `padded` is the segment's text with [`WINDOW`] zeros behind it.
pub(crate) fn sorted(padded: &[u8], starts: &[u32]) -> Vec<u32> {
    let mut items: Vec<(u64, u32)> = starts.iter().map(|start| (0, *start)).collect();
    sort_from(padded, &mut items, 0);
    let mut order: Vec<u32> = items.into_iter().map(|(_, start)| start).collect();
    // A vector made in the place of another may keep its room.
    order.shrink_to_fit();
    order
}

/// Orders items whose windows are equal before byte `depth`, and have not ended there.
fn sort_from(padded: &[u8], items: &mut [(u64, u32)], depth: usize) {
    for (key, start) in items.iter_mut() {
        *key = key_at(padded, as_index(*start) + depth);
    }
    // Where nothing follows that could tell two apart, this is the order by offset already.
    items.sort_unstable();
    let depth = depth + KEY_BYTES;
    if depth < WINDOW {
        for group in items.chunk_by_mut(|a, b| a.0 == b.0).filter(|group| group.len() > 1 && !is_ended(group[0].0)) {
            sort_from(padded, group, depth);
        }
    }
}

/// `start` as an index of a slice.
pub(crate) fn as_index(start: u32) -> usize {
    usize::try_from(start).expect("32 bits fit the address space of every supported machine")
}

/// Eight bytes from `at`, all zero from the first zero on.
pub(crate) fn key_at(padded: &[u8], at: usize) -> u64 {
    key_of(*padded[at..].first_chunk().expect("a window's worth of zeros follows the text"))
}

/// These bytes as a number, all zero from the first zero on.
pub(crate) fn key_of(bytes: [u8; KEY_BYTES]) -> u64 {
    let key = u64::from_be_bytes(bytes);
    // The highest bit of each byte that is zero, and of no other: seven bits and 127 carry into the eighth unless all are zero.
    let low = u64::from_be_bytes([0x7f; 8]);
    let zeros = !(((key & low) + low) | key | low);
    // From the first zero on: nothing is shifted out where there is none.
    let from_zero = u64::MAX.checked_shr(zeros.leading_zeros()).unwrap_or(0);
    key & !from_zero
}

/// Whether a window ends within this key.
pub(crate) const fn is_ended(key: u64) -> bool {
    key & 0xff == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// At most 256 bytes from `start`, up to the document's end.
    fn window(text: &[u8], start: u32) -> &[u8] {
        let rest = &text[as_index(start)..];
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        &rest[..end.min(WINDOW)]
    }

    /// The order as the protocol words it.
    fn plain(text: &[u8], starts: &[u32]) -> Vec<u32> {
        let mut starts = starts.to_vec();
        starts.sort_by(|a, b| window(text, *a).cmp(window(text, *b)).then(a.cmp(b)));
        starts
    }

    fn padded(text: &[u8]) -> Vec<u8> {
        [text, &[0; WINDOW]].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn the_order_is_that_of_plain_comparison(mut text in proptest::collection::vec(prop_oneof![6 => Just(b'a'), 2 => Just(b'b'), 1 => Just(0_u8), 1 => Just(1_u8), 1 => Just(0x80_u8)], 0..1_500)) {
            text.push(0);
            let starts: Vec<u32> = (0..text.len()).filter(|at| text[*at] != 0).map(|at| u32::try_from(at).unwrap()).collect();
            prop_assert_eq!(sorted(&padded(&text), &starts), plain(&text, &starts));
        }

        #[test]
        fn long_runs_of_few_letters_are_ordered_as_by_plain_comparison(runs in proptest::collection::vec((prop_oneof![Just(b'a'), Just(b'b')], 1..600_usize, any::<bool>()), 1..6)) {
            let text: Vec<u8> = runs.iter().flat_map(|(letter, count, ends)| {
                std::iter::repeat_n(*letter, *count).chain(ends.then_some(0))
            }).chain([0]).collect();
            let starts: Vec<u32> = (0..text.len()).filter(|at| text[*at] != 0).map(|at| u32::try_from(at).unwrap()).collect();
            prop_assert_eq!(sorted(&padded(&text), &starts), plain(&text, &starts));
        }

        #[test]
        fn a_key_is_eight_bytes_cut_at_the_first_zero(bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1_u8), Just(0x7f_u8), Just(0x80_u8), Just(0xff_u8)], 8)) {
            let kept = bytes.iter().take_while(|byte| **byte != 0).count();
            let expected: Vec<u8> = bytes[..kept].iter().copied().chain(std::iter::repeat_n(0, 8 - kept)).collect();
            let key = key_at(&bytes, 0);
            prop_assert_eq!(key.to_be_bytes().to_vec(), expected);
            prop_assert_eq!(is_ended(key), kept < 8);
        }
    }

    #[test]
    fn what_follows_a_documents_end_decides_nothing() {
        // The next document differs, so did the order before windows ended with theirs.
        let text = b"same\0z\0same\0a\0same\0";
        assert_eq!(sorted(&padded(text), &[0, 7, 14]), [0, 7, 14]);
    }

    #[test]
    fn a_window_that_begins_another_comes_before_it() {
        let text = b"one two\0one\0one\x01\0";
        assert_eq!(sorted(&padded(text), &[0, 8, 12]), [8, 12, 0]);
        assert_eq!(plain(text, &[0, 8, 12]), [8, 12, 0]);
    }

    #[test]
    fn beyond_256_equal_bytes_the_offset_decides() {
        let mut text = vec![b'a'; 600];
        text[599] = 0;
        let starts: Vec<u32> = (0..599).collect();
        let order = sorted(&padded(&text), &starts);
        assert_eq!(order, plain(&text, &starts));
        assert_eq!(order[..3], [598, 597, 596]);
        assert_eq!(order[order.len() - 344..], (0..344).collect::<Vec<u32>>());
    }
}
