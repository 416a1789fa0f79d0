//! Placement: which operator holds which fragment, the same for everyone who knows the seed and the operators.
//!
//! For each fragment the operators are ranked by keccak("tributary/placement/v1", seed, object, fragment u8, operator); fragments choose in order
//! of index, each taking the highest-ranked operator that holds none of the object yet. The seed is drawn after the object is registered, so
//! nobody can register an object that lands on operators of his choice; the choice is for life, and on loss the next rank takes over.
//! 48 fragments over 1,000 operators are 48,000 hashes of 107 bytes.

use std::collections::BTreeSet;

use types::{
    id::{Address, BlobId, Hash32},
    merkle::keccak,
};

use crate::erasure::Profile;

/// Too few operators for one fragment each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{have} operators can hold fragments, an object of {need} fragments needs one for each: wait for more operators or use a smaller profile"
)]
pub struct TooFewOperators {
    /// Operators there are.
    pub have: usize,
    /// Fragments to place.
    pub need: usize,
}

/// The holder of each fragment, by index.
///
/// # Errors
/// [`TooFewOperators`]: no operator holds two fragments of an object.
pub fn holders(seed: Hash32, object: BlobId, profile: Profile, operators: &BTreeSet<Address>) -> Result<Vec<Address>, TooFewOperators> {
    let too_few = TooFewOperators { have: operators.len(), need: profile.total().into() };
    let (mut holders, mut taken) = (Vec::with_capacity(profile.total().into()), BTreeSet::new());
    for fragment in 0..profile.total() {
        let holder = successor(seed, object, fragment, operators, &taken).ok_or(too_few)?;
        taken.insert(holder);
        holders.push(holder);
    }
    Ok(holders)
}

/// The highest-ranked operator for `fragment` that is not `taken`: the next holder when one is lost.
pub fn successor(seed: Hash32, object: BlobId, fragment: u8, operators: &BTreeSet<Address>, taken: &BTreeSet<Address>) -> Option<Address> {
    let rank = |operator: &&Address| (rank(seed, object, fragment, **operator), **operator);
    operators.difference(taken).min_by_key(rank).copied()
}

/// Lower is better.
fn rank(seed: Hash32, object: BlobId, fragment: u8, operator: Address) -> Hash32 {
    keccak(&[b"tributary/placement/v1", &seed.0, &object.0, &[fragment], &operator.0])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SEED: Hash32 = Hash32([1; 32]);
    const OBJECT: BlobId = BlobId([2; 32]);

    fn operators(count: u8) -> BTreeSet<Address> {
        (0..count).map(|i| Address([i; 20])).collect()
    }

    #[test]
    fn five_operators_hold_one_fragment_each_and_four_are_too_few() {
        let holders_of = holders(SEED, OBJECT, Profile::DEVNET, &operators(5)).unwrap();
        assert_eq!(holders_of.iter().copied().collect::<BTreeSet<_>>(), operators(5));
        let error = holders(SEED, OBJECT, Profile::DEVNET, &operators(4)).unwrap_err();
        assert_eq!(error, TooFewOperators { have: 4, need: 5 });
    }

    #[test]
    fn the_order_is_pinned() {
        // Computed apart, by another keccak.
        let order: Vec<_> = holders(SEED, OBJECT, Profile::DEVNET, &operators(8)).unwrap().iter().map(|holder| holder.0[0]).collect();
        assert_eq!(order, [7, 1, 3, 0, 2]);
    }

    #[test]
    fn another_seed_object_or_fragment_gives_another_order() {
        let many = operators(200);
        let first = |seed, object, fragment| successor(seed, object, fragment, &many, &BTreeSet::new());
        let base = first(SEED, OBJECT, 0);
        assert!(base != first(Hash32::ZERO, OBJECT, 0) && base != first(SEED, BlobId::ZERO, 0) && base != first(SEED, OBJECT, 1));
    }

    #[test]
    fn load_is_even_within_chance() {
        let (many, mut load) = (operators(100), BTreeMap::<Address, u32>::new());
        for object in 0..2_000_u32 {
            for holder in holders(SEED, BlobId::of(&object.to_be_bytes()), Profile::DEVNET, &many).unwrap() {
                *load.entry(holder).or_default() += 1;
            }
        }
        // 10,000 fragments over 100 operators: 100 each, standard deviation 10.
        assert!(load.len() == 100 && load.values().all(|fragments| (50..=150).contains(fragments)), "{load:?}");
    }

    proptest! {
        #[test]
        fn an_operator_that_leaves_moves_few_fragments(count in 12..60_u8, leaver in any::<u8>(), object in any::<[u8; 32]>()) {
            let all = operators(count);
            let leaver = Address([leaver % count; 20]);
            let rest: BTreeSet<_> = all.iter().copied().filter(|operator| *operator != leaver).collect();
            let place = |operators| holders(SEED, BlobId(object), Profile::DEVNET, operators).unwrap();
            let (before, after) = (place(&all), place(&rest));
            if before.contains(&leaver) {
                prop_assert!(!after.contains(&leaver));
                let taken: BTreeSet<_> = before.iter().copied().collect();
                let index = before.iter().position(|holder| *holder == leaver).unwrap();
                let next = successor(SEED, BlobId(object), u8::try_from(index).unwrap(), &rest, &taken).unwrap();
                prop_assert!(!taken.contains(&next), "the successor holds nothing of the object yet");
            } else {
                prop_assert_eq!(before, after);
            }
        }
    }
}
