//! Where two sum trees differ of which one is shown leaf by leaf.
//!
//! Trees of one shape are descended by the siblings that come with each leaf: log2(n) + 1 leaves at most. Where they count differently the keys are
//! halved until two neighbours are found between which the trees part, as many leaves again.

use types::merkle::{SumOpening, SumTree, Summed};

/// Where a tree that is shown leaf by leaf is not the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// More must be shown to say so.
    Ask(u64),
    /// The leaf has the expected key and another content.
    Differs(u64),
    /// There is something beyond the leaves, which this one's siblings show.
    Filler(u64),
    /// The leaf and the next one do not ascend.
    Disordered(u64),
    /// No leaf with this key is expected.
    Foreign(u64),
    /// An expected leaf is not there: its place, and the leaves that stand before and behind where it should be.
    Missing { expected: usize, before: Option<u64>, after: Option<u64> },
    /// It is the expected one.
    Same,
}

/// Compares trees whose leaves ascend by a key.
pub(super) fn compare<'s, K: Ord + Copy>(
    expected: &[(K, Summed)],
    tree: &SumTree,
    shown: impl Fn(u64) -> Option<(K, Summed, &'s SumOpening)>,
) -> Spot {
    let Some((_, _, first)) = shown(0) else { return Spot::Ask(0) };
    let (count, length) = (first.leaves, u64::try_from(expected.len()).unwrap_or(u64::MAX));
    let at = |place: u64| usize::try_from(place).ok().and_then(|place| expected.get(place));
    let mut unequal = count.min(length);
    if count == length {
        match descend(count, tree, at, &shown) {
            Descent::Ends(spot) => return spot,
            Descent::OtherKey(place) => unequal = place,
        }
    }
    // Up to `equal` the keys are the expected ones there, at `unequal` they are not or one of both trees has ended.
    let mut equal: Option<u64> = None;
    loop {
        let from = equal.map_or(0, |place| place + 1);
        if from == unequal {
            break;
        }
        let middle = from + (unequal - from) / 2;
        let Some((key, ..)) = shown(middle) else { return Spot::Ask(middle) };
        if at(middle).is_some_and(|(expected, _)| *expected == key) {
            equal = Some(middle);
        } else {
            unequal = middle;
        }
    }
    let before = match equal.map(|place| (place, shown(place))) {
        Some((place, None)) => return Spot::Ask(place),
        Some((place, Some((key, ..)))) => Some((place, key)),
        None => None,
    };
    let here = match (unequal < count).then(|| shown(unequal)) {
        Some(None) => return Spot::Ask(unequal),
        Some(Some((key, ..))) => Some(key),
        None => None,
    };
    match (before, here, at(unequal)) {
        (Some((place, before)), Some(key), _) if key <= before => Spot::Disordered(place),
        (_, Some(key), Some((wanted, _))) if key > *wanted => {
            Spot::Missing { expected: usize::try_from(unequal).unwrap_or(usize::MAX), before: equal, after: Some(unequal) }
        }
        (_, None, Some(_)) => Spot::Missing { expected: usize::try_from(unequal).unwrap_or(usize::MAX), before: equal, after: None },
        (_, Some(_), _) => Spot::Foreign(unequal),
        (_, None, None) => Spot::Same,
    }
}

enum Descent {
    Ends(Spot),
    OtherKey(u64),
}

/// Of two trees of one shape: down to a leaf that differs, by the lowest sibling that does.
fn descend<'e, 's, K: Ord + Copy + 'e>(
    count: u64,
    tree: &SumTree,
    at: impl Fn(u64) -> Option<&'e (K, Summed)>,
    shown: &impl Fn(u64) -> Option<(K, Summed, &'s SumOpening)>,
) -> Descent {
    let mut place = 0;
    loop {
        let Some((key, summed, opening)) = shown(place) else { return Descent::Ends(Spot::Ask(place)) };
        let (Some((wanted, expected)), Some(way)) = (at(place), tree.open(place)) else { return Descent::Ends(Spot::Same) };
        if summed != *expected {
            return if key == *wanted { Descent::Ends(Spot::Differs(place)) } else { Descent::OtherKey(place) };
        }
        let differs = opening.siblings.iter().zip(&way.siblings).position(|(shown, expected)| shown != expected);
        let Some(level) = differs else { return Descent::Ends(Spot::Same) };
        let next = ((place >> level) ^ 1) << level;
        if next >= count {
            return Descent::Ends(Spot::Filler(place));
        }
        place = next;
    }
}
