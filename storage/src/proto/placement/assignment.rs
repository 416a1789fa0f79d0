//! Who holds an object's fragments now: placed once, for life, and moved by losses alone.
//!
//! A [`Move`] hands one fragment on and counts up that fragment's generation. Two halves of a network that cannot hear each other may move the
//! same fragment to two operators; of moves with equal generation the better-ranked new holder stands, of others the later generation, so
//! everyone who heard the same moves in whatever order names the same holders. Whether a move was made by somebody who may (a coordinator of
//! [`super::super::repair`], its signature, the new holder's word that it stored the bytes) is for the caller to check first.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::id::{Address, BlobId, Hash32};

use super::{Rules, Site, TooFewOperators, place, rank, replacement};
use crate::erasure::Profile;

/// A fragment changes hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The object.
    pub object: BlobId,
    /// Which fragment.
    pub fragment: u8,
    /// How often it moved, this time counted: 1 for the first.
    pub generation: u32,
    /// Who holds it from now on.
    pub to: Address,
}

/// The holders of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    seed: Hash32,
    object: BlobId,
    profile: Profile,
    rules: Rules,
    /// Generation and holder, by fragment.
    holders: Vec<(u32, Address)>,
}

impl Assignment {
    /// The first placement, by whoever could hold fragments when the object was registered.
    ///
    /// # Errors
    /// [`TooFewOperators`].
    pub fn new(
        seed: Hash32,
        object: BlobId,
        profile: Profile,
        sites: &BTreeMap<Address, Site>,
        rules: Rules,
    ) -> Result<Self, TooFewOperators> {
        let holders = place(seed, object, profile, sites, &rules)?.into_iter().map(|holder| (0, holder)).collect();
        Ok(Self { seed, object, profile, rules, holders })
    }

    /// The placement that a record names: fragment i with `holders[i]`. Whether these could be its holders is for the caller to check first.
    pub fn of_record(seed: Hash32, object: BlobId, profile: Profile, rules: Rules, holders: &[Address]) -> Self {
        Self { seed, object, profile, rules, holders: holders.iter().map(|holder| (0, *holder)).collect() }
    }

    /// How often a fragment has moved; nothing past the last.
    pub fn generation(&self, fragment: u8) -> Option<u32> {
        self.holders.get(usize::from(fragment)).map(|(generation, _)| *generation)
    }

    /// The object.
    pub const fn object(&self) -> BlobId {
        self.object
    }

    /// Its code.
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Fragment and holder, in order.
    pub fn holders(&self) -> impl ExactSizeIterator<Item = (u8, Address)> + '_ {
        (0..=u8::MAX).zip(&self.holders).map(|(fragment, (_, holder))| (fragment, *holder))
    }

    /// The holder of a fragment; nothing past the last.
    pub fn holder(&self, fragment: u8) -> Option<Address> {
        self.holders.get(usize::from(fragment)).map(|(_, holder)| *holder)
    }

    /// The fragment that an operator holds.
    pub fn held_by(&self, operator: Address) -> Option<u8> {
        self.holders().find(|(_, holder)| *holder == operator).map(|(fragment, _)| fragment)
    }

    /// Where `lost` fragments go: in order of index, each to the next rank that is not `unfit` (away, suspended, full) and keeps the caps among
    /// those that hold on. A fragment that nobody may take is left out.
    pub fn plan(&self, lost: &BTreeSet<u8>, sites: &BTreeMap<Address, Site>, unfit: &BTreeSet<Address>) -> Vec<Move> {
        let mut holding: BTreeSet<_> = self.holders().filter(|(fragment, _)| !lost.contains(fragment)).map(|(_, holder)| holder).collect();
        let mut moves = Vec::new();
        for (fragment, (generation, _)) in (0_u8..).zip(&self.holders).filter(|(fragment, _)| lost.contains(fragment)) {
            let to = replacement(self.seed, self.object, fragment, sites, &self.rules, &holding, unfit);
            if let Some(to) = to {
                holding.insert(to);
                moves.push(Move { object: self.object, fragment, generation: generation.saturating_add(1), to });
            }
        }
        moves
    }

    /// Takes in a move; true if it changes the holder.
    pub fn apply(&mut self, step: Move) -> bool {
        if step.object != self.object || self.held_by(step.to).is_some_and(|fragment| fragment != step.fragment) {
            return false;
        }
        let (seed, object) = (self.seed, self.object);
        let Some((generation, holder)) = self.holders.get_mut(usize::from(step.fragment)) else { return false };
        let order = |generation: u32, holder: Address| (generation, std::cmp::Reverse(rank(seed, object, step.fragment, holder)));
        let is_newer = order(step.generation, step.to) > order(*generation, *holder);
        if is_newer {
            (*generation, *holder) = (step.generation, step.to);
        }
        is_newer
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::sites, *};

    const SEED: Hash32 = Hash32([1; 32]);
    const OBJECT: BlobId = BlobId([2; 32]);

    fn assignment(sites: &BTreeMap<Address, Site>) -> Assignment {
        let profile = Profile::new(4, 12).unwrap();
        Assignment::new(SEED, OBJECT, profile, sites, Rules::of(profile, BTreeSet::new())).unwrap()
    }

    proptest! {
        #[test]
        fn losses_alone_move_fragments_and_caps_hold_ever_after(rounds in proptest::collection::vec(any::<u64>(), 1..12)) {
            let mut alive = sites(60, 20);
            let mut held = assignment(&alive);
            for round in rounds {
                let before: Vec<_> = held.holders().collect();
                let leavers: Vec<_> = alive.keys().copied().enumerate().filter(|(i, _)| round >> (i % 64) & 1 == 1).map(|(_, a)| a).take(6).collect();
                leavers.iter().for_each(|leaver| { alive.remove(leaver); });
                let lost: BTreeSet<_> = held.holders().filter(|(_, holder)| !alive.contains_key(holder)).map(|(fragment, _)| fragment).collect();
                let moves = held.plan(&lost, &alive, &BTreeSet::new());
                for step in &moves {
                    prop_assert!(held.apply(*step) && !held.apply(*step), "a move counts once");
                }
                for (fragment, holder) in before {
                    prop_assert!(lost.contains(&fragment) || held.holder(fragment) == Some(holder), "what was not lost stays");
                }
                let live: Vec<_> = held.holders().filter(|(_, holder)| alive.contains_key(holder)).map(|(_, holder)| holder).collect();
                let distinct: BTreeSet<_> = live.iter().collect();
                prop_assert_eq!(distinct.len(), live.len(), "one fragment per operator");
                let mut subnets = BTreeMap::<_, u32>::new();
                live.iter().for_each(|holder| *subnets.entry(alive[holder].subnet).or_default() += 1);
                prop_assert!(subnets.values().all(|count| *count <= 2), "{:?}", subnets);
                if moves.len() < lost.len() {
                    let caps = alive.iter().filter(|(operator, site)| !live.contains(operator) && subnets.get(&site.subnet).is_none_or(|count| *count < 2));
                    prop_assert_eq!(caps.count(), 0, "a fragment is left without a holder only if nobody may take it");
                }
            }
        }

        #[test]
        fn whoever_heard_the_same_moves_names_the_same_holders(order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle()) {
            let sites = sites(60, 30);
            let start = assignment(&sites);
            let free: Vec<_> = sites.keys().copied().filter(|operator| start.held_by(*operator).is_none()).take(8).collect();
            let steps: Vec<_> = free.iter().zip([(1, 3), (1, 3), (2, 3), (2, 3), (1, 5), (1, 5), (3, 7), (1, 7)])
                .map(|(to, (generation, fragment))| Move { object: OBJECT, fragment, generation, to: *to }).collect();
            let heard = |order: &[usize]| {
                let mut held = start.clone();
                order.iter().for_each(|i| { held.apply(steps[*i]); });
                held
            };
            prop_assert_eq!(heard(&order), heard(&[0, 1, 2, 3, 4, 5, 6, 7]));
        }
    }

    #[test]
    fn a_foreign_object_a_fragment_that_is_none_and_a_second_fragment_of_one_operator_change_nothing() {
        let sites = sites(60, 30);
        let start = assignment(&sites);
        let free = sites.keys().copied().find(|operator| start.held_by(*operator).is_none()).unwrap();
        let step = Move { object: OBJECT, fragment: 3, generation: 1, to: free };
        let second = start.holder(4).unwrap();
        for bad in [
            Move { object: BlobId::ZERO, ..step },
            Move { fragment: 12, ..step },
            Move { generation: 0, ..step },
            Move { to: second, ..step },
        ] {
            let mut held = start.clone();
            // Generation 0 is the first placement's, whose holder has the best rank among those that could.
            assert!(!held.apply(bad), "{bad:?}");
            assert_eq!(held, start);
        }
    }
}
