//! The order of the array (P5): word starts by at most 256 bytes of what follows in the segment, ties by offset.
//!
//! Eight bytes at a time become one big-endian key, so that keys compare as the bytes do. A level sorts (key, offset) pairs and descends into
//! groups of equal keys: 16 bytes per entry, at most 32 levels.

use std::cmp::Reverse;

use types::text::WINDOW;

const KEY_BYTES: usize = 8;

/// The offsets in `starts` in order. `padded` is the segment's text with [`WINDOW`] zeros behind it.
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
    for group in items.chunk_by_mut(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
        if depth < WINDOW {
            sort_from(padded, group, depth);
        } else {
            shortest_first(padded.len() - WINDOW, group);
        }
    }
}

/// Among equal windows, those that the segment's end cuts short are beginnings of the others, so they come first, the shortest ahead.
fn shortest_first(length: usize, group: &mut [(u64, u32)]) {
    let whole = |start: u32| as_index(start) + WINDOW <= length;
    group.sort_unstable_by_key(|(_, start)| if whole(*start) { (true, *start, Reverse(0)) } else { (false, 0, Reverse(*start)) });
}

/// `start` as an index of a slice.
pub(super) fn as_index(start: u32) -> usize {
    usize::try_from(start).expect("32 bits fit the address space of every supported machine")
}

fn key_at(padded: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(*padded[at..].first_chunk().expect("a window's worth of zeros follows the text"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The order as the protocol words it.
    fn plain(text: &[u8], starts: &[u32]) -> Vec<u32> {
        let window = |start: u32| &text[as_index(start)..text.len().min(as_index(start) + WINDOW)];
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
            let padded = [text.clone(), vec![0; WINDOW]].concat();
            prop_assert_eq!(sorted(&padded, &starts), plain(&text, &starts));
        }
    }

    #[test]
    fn windows_cut_by_the_end_of_the_text_come_before_what_they_begin() {
        let mut text = b"a".to_vec();
        text.extend([0; 300]);
        text.extend(b"a\0a\0");
        let padded = [text.clone(), vec![0; WINDOW]].concat();
        assert_eq!(sorted(&padded, &[0, 301, 303]), [303, 0, 301]);
        assert_eq!(plain(&text, &[0, 301, 303]), [303, 0, 301]);
        let end = [vec![b'x'], vec![0; 20]].concat();
        let text = [end.clone(), end].concat();
        assert_eq!(sorted(&[text.clone(), vec![0; WINDOW]].concat(), &[0, 21]), plain(&text, &[0, 21]));
    }

    #[test]
    fn beyond_256_equal_bytes_the_offset_decides() {
        let mut text = vec![b'a'; 600];
        text[599] = 0;
        let padded = [text.clone(), vec![0; WINDOW]].concat();
        let starts: Vec<u32> = (0..599).collect();
        let order = sorted(&padded, &starts);
        assert_eq!(order, plain(&text, &starts));
        assert_eq!(&order[order.len() - 3..], &[341, 342, 343]);
    }
}
