//! Whose contributions may wait for reviewers, and who makes room for whom: nobody holds all the room of an owner's node, and no Datanet that of the others.
//!
//! A contributor and a Datanet have shares that nobody else can take from them by number. Where the whole is full all the same (many accounts, each within its share: every one of its contributions is
//! a commitment paid for), a newcomer has the place of the latest of whoever has most, if that is more than the newcomer would have. What nobody has approved yet alone makes room: its contributor keeps its
//! commitment, and shows it again. Pure.

use std::{cmp::Reverse, collections::BTreeMap};

use types::id::{Address, AssetId, Hash32};

/// What a contribution is named by.
pub(super) type Key = (AssetId, Hash32);

/// Contributions and bytes of their shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) cases: u64,
    pub(super) bytes: u64,
}

/// Most of a gate: a case is 2 MiB in memory at worst, 2 KiB as a rule.
pub(super) const ALL: Amount = Amount { cases: 256, bytes: 1 << 30 };
/// Most of one Datanet: half.
pub(super) const OF_DATANET: Amount = Amount { cases: 128, bytes: 1 << 29 };
/// Most of one contributor, in all Datanets of the gate: two shards of the largest size, or a morning's work of two reviewers.
pub(super) const OF_CONTRIBUTOR: Amount = Amount { cases: 16, bytes: 1 << 27 };

/// What waits, or is approved and not brought yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) key: Key,
    pub(super) contributor: Address,
    pub(super) bytes: u64,
    pub(super) since: u64,
    /// Nobody has approved it.
    pub(super) may_go: bool,
}

/// Why something cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FullError {
    /// Its contributor has its share.
    #[error(
        "{} of your contributions ({} bytes) wait for reviewers here, at most {} ({} bytes) of one contributor do: finish those that are approved, and bring others when more are decided",
        .0.cases, .0.bytes, OF_CONTRIBUTOR.cases, OF_CONTRIBUTOR.bytes
    )]
    Contributor(Amount),
    /// There is no room, and nobody has more than the newcomer.
    #[error("{} contributions of {} contributors wait for reviewers here, and none of them has more than you would: try again when some are decided", .cases, .contributors)]
    Gate {
        /// How many wait.
        cases: u64,
        /// Whose they are.
        contributors: usize,
    },
}

impl Amount {
    fn of<'w>(waiting: impl Iterator<Item = &'w Waiting>) -> Self {
        waiting.fold(Self::default(), |sum, one| sum.with(one.bytes))
    }

    const fn with(self, bytes: u64) -> Self {
        Self { cases: self.cases.saturating_add(1), bytes: self.bytes.saturating_add(bytes) }
    }

    const fn is_within(self, most: Self) -> bool {
        self.cases <= most.cases && self.bytes <= most.bytes
    }

    /// What is left of `most`.
    const fn left(self, most: Self) -> Self {
        Self { cases: most.cases.saturating_sub(self.cases), bytes: most.bytes.saturating_sub(self.bytes) }
    }
}

/// What a contributor may still have wait.
pub(super) fn room(waiting: &[Waiting], contributor: Address) -> Amount {
    Amount::of(waiting.iter().filter(|one| one.contributor == contributor)).left(OF_CONTRIBUTOR)
}

/// What has to make room for a contribution to `datanet` of so many bytes.
pub(super) fn admit(waiting: &[Waiting], datanet: AssetId, contributor: Address, bytes: u64) -> Result<Vec<Key>, FullError> {
    let own = Amount::of(waiting.iter().filter(|one| one.contributor == contributor));
    if !own.with(bytes).is_within(OF_CONTRIBUTOR) {
        return Err(FullError::Contributor(own));
    }
    let (mut left, mut leaving) = (waiting.to_vec(), Vec::new());
    for (only, most) in [(Some(datanet), OF_DATANET), (None, ALL)] {
        loop {
            let scope: Vec<Waiting> = left.iter().copied().filter(|one| only.is_none_or(|only| one.key.0 == only)).collect();
            let sum = Amount::of(scope.iter()).with(bytes);
            if sum.is_within(most) {
                break;
            }
            let key = next_to_go(&scope, contributor, bytes, sum.cases <= most.cases)
                .ok_or_else(|| FullError::Gate { cases: sum.cases.saturating_sub(1), contributors: by_contributor(&scope).len() })?;
            left.retain(|one| one.key != key);
            leaving.push(key);
        }
    }
    Ok(leaving)
}

fn by_contributor(scope: &[Waiting]) -> BTreeMap<Address, Amount> {
    let mut sums = BTreeMap::<Address, Amount>::new();
    for one in scope {
        let sum = sums.entry(one.contributor).or_default();
        *sum = sum.with(one.bytes);
    }
    sums
}

/// The latest of whoever has most, in bytes or in number, if that is more than the newcomer would have.
fn next_to_go(scope: &[Waiting], newcomer: Address, bytes: u64, by_bytes: bool) -> Option<Key> {
    let weight = |amount: Amount| if by_bytes { amount.bytes } else { amount.cases };
    let sums = by_contributor(scope);
    let own = weight(sums.get(&newcomer).copied().unwrap_or_default().with(bytes));
    let may_go = |contributor: &Address| scope.iter().any(|one| one.contributor == *contributor && one.may_go);
    let most = sums.iter().filter(|(contributor, sum)| weight(**sum) > own && may_go(contributor));
    let (contributor, _) = most.max_by_key(|(contributor, sum)| (weight(**sum), Reverse(**contributor)))?;
    let latest = scope.iter().filter(|one| one.contributor == *contributor && one.may_go).max_by_key(|one| (one.since, one.key));
    latest.map(|one| one.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(number: u16, datanet: u64, contributor: u8, bytes: u64) -> Waiting {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&number.to_be_bytes());
        Waiting {
            key: (AssetId(datanet), Hash32(hash)),
            contributor: Address([contributor; 20]),
            bytes,
            since: number.into(),
            may_go: true,
        }
    }

    fn ask(held: &[Waiting], datanet: u64, contributor: u8, bytes: u64) -> Result<Vec<Key>, FullError> {
        admit(held, AssetId(datanet), Address([contributor; 20]), bytes)
    }

    #[test]
    fn one_account_takes_its_share_and_others_go_on_waiting_in_every_datanet() {
        let mut held = Vec::new();
        for number in 0..262 {
            match ask(&held, 1 + u64::from(number % 2), 1, 3) {
                Ok(leaving) => {
                    assert_eq!(leaving, []);
                    held.push(waiting(number, 1 + u64::from(number % 2), 1, 3));
                }
                Err(error) => assert!(error.to_string().starts_with("16 of your contributions (48 bytes) wait"), "{error}"),
            }
        }
        assert_eq!(held.len(), 16);
        assert_eq!(room(&held, Address([1; 20])), Amount { cases: 0, bytes: OF_CONTRIBUTOR.bytes - 48 });
        for contributor in 2..10 {
            assert_eq!(ask(&held, 1, contributor, OF_CONTRIBUTOR.bytes), Ok(vec![]));
            assert_eq!(room(&held, Address([contributor; 20])), OF_CONTRIBUTOR);
        }
        assert!(matches!(ask(&held, 1, 9, OF_CONTRIBUTOR.bytes + 1), Err(FullError::Contributor(_))));
    }

    #[test]
    fn who_has_least_finds_room_where_all_of_it_is_taken_and_what_is_half_approved_stays() {
        let of_datanet = u16::try_from(OF_DATANET.cases).unwrap();
        // Eight accounts with their shares fill one Datanet.
        let mut held: Vec<_> = (0..of_datanet).map(|number| waiting(number, 1, u8::try_from(number % 8).unwrap(), 3)).collect();
        assert_eq!(ask(&held, 1, 99, 3), Ok(vec![held[120].key]), "the latest of one that has most");
        assert_eq!(ask(&held, 2, 99, 3), Ok(vec![]), "another Datanet has room of its own");
        held[120].may_go = false;
        assert_eq!(ask(&held, 1, 99, 3), Ok(vec![held[112].key]));
        // As many accounts as places: nobody has more than a newcomer would.
        let held: Vec<_> = (0..of_datanet).map(|number| waiting(number, 1, u8::try_from(number).unwrap(), 3)).collect();
        assert_eq!(ask(&held, 1, 200, 3), Err(FullError::Gate { cases: OF_DATANET.cases, contributors: held.len() }));
        // Bytes: four that take all of them, one of which makes room for something small.
        let held: Vec<_> = (0..4).map(|number| waiting(number, 1, u8::try_from(number).unwrap(), OF_CONTRIBUTOR.bytes)).collect();
        assert_eq!(ask(&held, 1, 99, 3), Ok(vec![held[0].key]));
        let held: Vec<_> =
            (0..8).map(|number| waiting(number, (number % 4).into(), u8::try_from(number).unwrap(), OF_CONTRIBUTOR.bytes)).collect();
        assert_eq!(ask(&held, 9, 99, 3), Ok(vec![held[0].key]), "all bytes of the gate");
    }
}
