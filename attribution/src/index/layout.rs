//! Which contributions of a Datanet make which segment (P5): a function of what the registry lists, so that every builder agrees.
//!
//! Contributions come in order of acceptance. Each begins as a segment of its own; while the one before the last holds less than twice what the
//! last does, and both together at most [`SEGMENT_BYTES_MAX`], these two become one. So sizes at least halve from one segment to the next, as the
//! digits of a counter do, unless two are too large to join: some 24 segments at most below the cap, and fewer than two more for each full cap of
//! text. A byte is indexed anew only when its segment grows, in the mean, by half: some 50 times at most from a contribution to a full segment.
//! What is accepted later moves no bound before the segments that it joins, so their files stay as they are.
//!
//! The cap: every builder holds some bytes in memory for each byte of one segment's text, and a search asks each segment once. At 2^30 four
//! gigabytes are four to eight segments, and one is built in a gigabyte.
//!
//! Registered bytes count, those of an erased contribution too: what is erased changes the segment it stood in and no other's bounds.

use std::ops::Range;

use super::segment::{SEGMENT_BYTES_MAX, as_u64};

/// The segments of a Datanet as ranges of its contributions, given the registered text bytes of each in order of acceptance.
pub fn layout(registered_bytes: &[u64]) -> Vec<Range<usize>> {
    let most = as_u64(SEGMENT_BYTES_MAX);
    let mut segments: Vec<(Range<usize>, u64)> = Vec::new();
    for (number, bytes) in registered_bytes.iter().enumerate() {
        let (mut range, mut bytes) = (number..number + 1, bytes.saturating_add(FILL_BYTES));
        while let Some((previous, before)) =
            segments.pop_if(|(_, before)| *before < bytes.saturating_mul(2) && before.saturating_add(bytes) <= most)
        {
            range = previous.start..range.end;
            bytes = before.saturating_add(bytes);
        }
        segments.push((range, bytes));
    }
    segments.into_iter().map(|(range, _)| range).collect()
}

/// Counted for each contribution beside its text: at most so much is filled in before it.
const FILL_BYTES: u64 = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weight(registered: &[u64], range: &Range<usize>) -> u64 {
        registered[range.clone()].iter().map(|bytes| bytes + FILL_BYTES).sum()
    }

    proptest! {
        #[test]
        fn segments_divide_the_contributions_are_bounded_and_few(registered in proptest::collection::vec(prop_oneof![0..50_u64, 1_000..1_u64 << 20, 1_u64 << 20..1_u64 << 26], 0..300)) {
            let segments = layout(&registered);
            prop_assert!(segments.iter().flat_map(Clone::clone).eq(0..registered.len()));
            let most = SEGMENT_BYTES_MAX as u64;
            for pair in segments.windows(2) {
                let [before, after] = [&pair[0], &pair[1]].map(|range| weight(&registered, range));
                prop_assert!(before >= 2 * after || before + after > most, "{before} {after}");
            }
            let total: u64 = weight(&registered, &(0..registered.len()));
            prop_assert!(segments.len() as u64 <= 31 + 2 * total.div_ceil(most));
            prop_assert!(segments.iter().all(|range| weight(&registered, range) <= most));
        }

        #[test]
        fn what_is_accepted_later_moves_no_bound_before_the_segments_it_joins(registered in proptest::collection::vec(0..(1_u64 << 26), 1..200)) {
            for len in 1..registered.len() {
                let (now, next) = (layout(&registered[..len]), layout(&registered[..len + 1]));
                let (last, kept) = next.split_last().unwrap();
                prop_assert_eq!(kept, &now[..kept.len()]);
                prop_assert!(last.end == len + 1);
            }
        }
    }

    #[test]
    fn equal_contributions_make_segments_as_digits_of_their_number() {
        let sizes = |count| layout(&vec![1_000; count]).iter().map(ExactSizeIterator::len).collect::<Vec<_>>();
        assert_eq!(sizes(0), Vec::<usize>::new());
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(2), [2]);
        assert_eq!(sizes(3), [2, 1]);
        assert_eq!(sizes(4), [4]);
        assert_eq!(sizes(7), [4, 2, 1]);
        assert_eq!(sizes(8), [8]);
        // Of 64 MiB sixteen are just too many, so eight and eight stay apart.
        assert_eq!(layout(&[1 << 26; 33]).len(), 5);
    }
}
