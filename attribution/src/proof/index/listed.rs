//! Which places of a segment its array lists, in memory that grows with what is held of the array and not with what a leaf says that there is.

use std::collections::BTreeSet;

/// Bits of a word.
const BITS: u64 = 64;
/// Entries of a leaf.
const LEAF_ENTRIES: u64 = 16;

/// Places in a segment's text.
#[derive(Debug)]
pub(super) enum Listed {
    /// One by one, where few leaves of the array are there.
    Few(BTreeSet<u64>),
    /// A bit for each byte of text: an eighth of it, and at most eight bytes for each entry that is held.
    Many(Vec<u64>),
}

impl Listed {
    /// None yet, of a segment that says to have `length` bytes of text, of whose array so many leaves are there.
    pub(super) fn of(length: u64, leaves: usize) -> Self {
        let entries = u64::try_from(leaves).unwrap_or(u64::MAX).saturating_mul(LEAF_ENTRIES);
        match usize::try_from(length.div_ceil(BITS)) {
            Ok(words) if length.div_ceil(BITS) <= entries => Self::Many(vec![0; words]),
            _ => Self::Few(BTreeSet::new()),
        }
    }

    /// Adds places; those beyond the text are none.
    pub(super) fn extend(&mut self, places: impl Iterator<Item = u64>) {
        match self {
            Self::Few(listed) => listed.extend(places),
            Self::Many(bits) => places.for_each(|place| {
                if let Some(word) = usize::try_from(place / BITS).ok().and_then(|word| bits.get_mut(word)) {
                    *word |= 1 << (place % BITS);
                }
            }),
        }
    }

    /// Whether a place is listed.
    pub(super) fn holds(&self, place: u64) -> bool {
        match self {
            Self::Few(listed) => listed.contains(&place),
            Self::Many(bits) => {
                usize::try_from(place / BITS).ok().and_then(|word| bits.get(word)).is_some_and(|word| word & (1 << (place % BITS)) != 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_listed_alike_in_both_forms_and_none_is_made_for_what_a_leaf_only_says() {
        let places = [0, 1, 63, 64, 700, 1_000, 1 << 39];
        let (mut few, mut many) = (Listed::of(1 << 40, 7), Listed::of(1_001, 7));
        assert!(matches!(few, Listed::Few(_)) && matches!(many, Listed::Many(_)));
        few.extend(places.into_iter());
        many.extend(places.into_iter());
        for place in (0..1_100).chain([u64::MAX]) {
            assert_eq!((few.holds(place), many.holds(place)), (places.contains(&place), places.contains(&place)), "{place}");
        }
        assert!(matches!(Listed::of(0, 0), Listed::Many(bits) if bits.is_empty()));
    }
}
