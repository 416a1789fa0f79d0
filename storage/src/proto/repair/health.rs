//! How an object stands: what is held, away and lost, when repair is due, how urgent it is, and who does it.
//!
//! *Floor.* Repair waits until fewer than r fragments are left, then brings all n back: a decode reads k fragments whatever it rebuilds, so half of the
//! redundancy at once, (n - k) / 2 fragments, costs k reads and as many writes, where one at a time would read k for each. r = k + (n - k) / 2:
//! 32 of 16/48, 20 of 10/30, 8 of 4/12, 6 of 3/9 and 4 of 3/5. For the four wide profiles that is 2 k, the rows of the durability table; with r
//! lower, the k + (r - k) that stand between a late repair and a loss shrink, with r higher traffic per repaired fragment grows as k / (n - r).
//! The devnet's 3/5 thus repairs only after a second loss, when it reads 3 and writes 2.
//!
//! *Urgency.* Time until k are left if losses go on as they did: (left - k) over the losses per time of this very object in a window, to which those of a
//! 90-day node life are added so that a quiet object has a rate too. Whole numbers, so all nodes order alike.

use std::{collections::BTreeMap, time::Duration};

use types::{
    id::{Address, BlobId, Hash32},
    merkle::keccak,
};

use crate::erasure::Profile;

/// Who may repair an object in one epoch: the elected one and two backups.
pub const COORDINATORS: usize = 3;
/// Losses are counted over this long.
pub const WINDOW: Duration = Duration::from_secs(30 * 86_400);
/// Life of a node that nothing is known of.
const LIFE: Duration = Duration::from_secs(90 * 86_400);

/// Repair is due when fewer fragments than this are left.
pub const fn floor(profile: Profile) -> u8 {
    profile.data() + (profile.total() - profile.data()) / 2
}

/// How one fragment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its holder answers.
    Held,
    /// Its holder does not answer, and may come back with it.
    Away,
    /// Its holder is gone for good or away too long, or says that the bytes are damaged.
    Lost,
}

/// How an object stands: one entry per fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The object's code.
    pub profile: Profile,
    /// By fragment: its holder and how it stands.
    pub fragments: BTreeMap<u8, (Address, Standing)>,
}

impl Health {
    fn count(&self, standing: Standing) -> usize {
        self.fragments.values().filter(|(_, of)| *of == standing).count()
    }

    /// Fragments that could be read now.
    pub fn held(&self) -> usize {
        self.count(Standing::Held)
    }

    /// Fragments that are not lost.
    pub fn left(&self) -> usize {
        self.fragments.len() - self.count(Standing::Lost)
    }

    /// Whether fewer are left than [`floor`] asks for.
    pub fn is_due(&self) -> bool {
        self.left() < usize::from(floor(self.profile))
    }

    /// Whether the object can be read now.
    pub fn is_readable(&self) -> bool {
        self.held() >= usize::from(self.profile.data())
    }
}

/// Expected time until only k fragments are left; less is more urgent. `losses` happened within [`WINDOW`].
pub fn time_left(profile: Profile, left: usize, losses: usize) -> Duration {
    let spare = u128::try_from(left.saturating_sub(profile.data().into())).expect("fragments are few");
    // Losses in the window, times 3 LIFE so that the prior is whole: n fragments lose n WINDOW / LIFE of themselves.
    let (window, life) = (WINDOW.as_micros(), LIFE.as_micros());
    let prior = u128::from(profile.total()) * window;
    let rate = u128::try_from(losses).expect("losses are counted up to the fragments there are") * life + prior;
    Duration::from_micros(u64::try_from(spare * window * life / rate).unwrap_or(u64::MAX))
}

/// The coordinators of an object in the epoch of `seed`, best first: the holders with the lowest keccak("tributary/repair/v1", seed, object, operator).
/// Holders, because they know the object, have one of the k fragments already, and because a node then watches what it holds and nothing else.
pub fn coordinators(seed: Hash32, object: BlobId, holders: impl IntoIterator<Item = Address>) -> Vec<Address> {
    let mut ranked: Vec<_> =
        holders.into_iter().map(|operator| (keccak(&[b"tributary/repair/v1", &seed.0, &object.0, &operator.0]), operator)).collect();
    ranked.sort_unstable();
    ranked.truncate(COORDINATORS);
    ranked.into_iter().map(|(_, operator)| operator).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(data: u8, total: u8) -> Profile {
        Profile::new(data, total).unwrap()
    }

    #[test]
    fn the_floor_is_half_of_the_redundancy() {
        let floors = [(16, 48), (10, 30), (4, 12), (3, 9), (3, 5)].map(|(data, total)| floor(code(data, total)));
        assert_eq!(floors, [32, 20, 8, 6, 4]);
    }

    #[test]
    fn fewer_left_and_more_losses_are_more_urgent() {
        let left = |left, losses| time_left(code(16, 48), left, losses);
        assert_eq!(left(16, 0), Duration::ZERO);
        assert_eq!(left(10, 0), Duration::ZERO);
        // 16 spare, 48 holders of 90 days each lose 16 in 30 days.
        assert_eq!(left(32, 0), WINDOW);
        assert_eq!(left(32, 16), WINDOW / 2, "as many again were lost: twice as fast");
        assert!(left(31, 0) < left(32, 0) && left(32, 1) < left(32, 0));
        let (small, large) = (time_left(code(4, 12), 8, 0), time_left(code(16, 48), 32, 0));
        assert_eq!(small, large, "the same share of the redundancy lasts as long");
    }

    #[test]
    fn every_holder_coordinates_in_turn_as_epochs_go_by() {
        let holders: Vec<_> = (0..12).map(|i| Address([i; 20])).collect();
        let mut first = BTreeMap::<_, u32>::new();
        for epoch in 0_u32..1_200 {
            let elected = coordinators(keccak(&[&epoch.to_be_bytes()]), BlobId([1; 32]), holders.iter().copied());
            assert_eq!(elected.len(), COORDINATORS);
            *first.entry(elected[0]).or_default() += 1;
            let mut shuffled = holders.clone();
            shuffled.reverse();
            assert_eq!(elected, coordinators(keccak(&[&epoch.to_be_bytes()]), BlobId([1; 32]), shuffled));
        }
        // 100 each, standard deviation 9.6.
        assert!(first.len() == 12 && first.values().all(|count| (50..=150).contains(count)), "{first:?}");
        assert_eq!(coordinators(Hash32::ZERO, BlobId([1; 32]), [Address([7; 20])]), [Address([7; 20])]);
    }
}
