//! What a holder checks of the places that somebody else drew, and how far two views of the network may differ.
//!
//! Who stores is known from ads alone, and no two nodes hear the same ads at every moment: an operator starts, another fills up, a third does not answer the
//! contributor. So a holder does not ask whether it would have drawn the same, but who was *passed over*: operators that it hears, that have room and may hold the fragment
//! beside those named before it, and that rank better than the one named. An honest draw from the same view passes over nobody; one operator more or
//! less in a view is one operator passed over, however many places that moves. At most [`tolerance`] of them are let pass.
//!
//! *What that is worth to who cheats.* Passing over an operator takes it out of the draw: of the object's holders one goes and one comes. So a contributor that
//! places by its own wish wins as many places as the tolerance, an eighth of all, for operators of its own; an object that loses all of those still
//! stands above the floor of repair. An operator that says it has no room takes itself out and nobody else: its place goes to the next rank, and whoever
//! has many operators gains nothing by it, since one goes and one comes here too (and a neighbour in its subnet may come, where the cap kept one out). What a holder has not heard it does not judge: a rank needs an address alone,
//! a cap needs a site.
//!
//! Cost: as drawing, 48,000 hashes for 48 fragments over 1,000 operators, 24 ms.

use std::collections::{BTreeMap, BTreeSet};

use types::id::{Address, BlobId, Hash32};

use super::{Region, Rules, Site, Subnet, TooFewOperators, place, rank};
use crate::erasure::Profile;

/// Operators that a placement may pass over: an eighth of the fragments, and one at least. 1 of 3/5, 3/9 and 4/12, 3 of 10/30, 6 of 16/48: with two nodes in a hundred starting,
/// stopping or filling up in the seconds that an ad takes, two views of a hundred operators differ by two.
pub const fn tolerance(profile: Profile) -> usize {
    let eighth = profile.total() as usize / 8;
    if eighth == 0 { 1 } else { eighth }
}

/// What is known of the operators that store.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Where each stands.
    pub sites: &'a BTreeMap<Address, Site>,
    /// Those that say they have no room for more.
    pub full: &'a BTreeSet<Address>,
}

impl View<'_> {
    /// Where those stand that take new fragments.
    pub fn takers(&self) -> BTreeMap<Address, Site> {
        self.sites.iter().filter(|(operator, _)| !self.full.contains(*operator)).map(|(operator, site)| (*operator, *site)).collect()
    }
}

/// Why the holders that somebody names are not those of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Another number than there are fragments.
    #[error("{got} holders are named for {expected} fragments")]
    Count {
        /// Holders named.
        got: usize,
        /// Fragments.
        expected: usize,
    },
    /// One operator with two fragments.
    #[error("{0} is named as the holder of two fragments")]
    Twice(Address),
    /// One that is given no new fragments, by the books of audits of who says so.
    #[error("{0} is suspended by its audits and takes no new fragment")]
    Suspended(Address),
    /// Bytes would leave their countries.
    #[error("{operator} keeps bytes in {}, the object stays in {}", .region.map_or_else(|| "no country that it states".to_owned(), |region| region.to_string()), list(.regions))]
    Elsewhere {
        /// Who.
        operator: Address,
        /// Where it says it stands.
        region: Option<Region>,
        /// Where the object may be.
        regions: BTreeSet<Region>,
    },
    /// No subnet, where subnets are limited.
    #[error("{0} has no public address, and an object of this code counts the networks of its holders")]
    Nowhere(Address),
    /// Too many in one subnet.
    #[error("more than {most} of its holders stand in {subnet}")]
    Crowded {
        /// The network.
        subnet: Subnet,
        /// Holders that may.
        most: u8,
    },
    /// Operators that should hold a fragment do not.
    #[error("{} operators rank better than the holders that are named, at most {most} may be passed over: {}", .operators.len(), list(.operators))]
    PassedOver {
        /// Who.
        operators: BTreeSet<Address>,
        /// [`tolerance`].
        most: usize,
    },
}

/// At most three of them, in words.
fn list<T: std::fmt::Display>(items: &BTreeSet<T>) -> String {
    let named: Vec<_> = items.iter().take(3).map(ToString::to_string).collect();
    let more = items.len() - named.len();
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

/// Whether `holders`, named for the fragments of an object in order of index, are those that its placement gives, as far as `view` goes.
///
/// # Errors
/// [`Misplaced`].
pub fn check(seed: Hash32, object: BlobId, profile: Profile, holders: &[Address], view: View<'_>, rules: &Rules) -> Result<(), Misplaced> {
    if holders.len() != usize::from(profile.total()) {
        return Err(Misplaced::Count { got: holders.len(), expected: profile.total().into() });
    }
    let mut named = BTreeSet::new();
    if let Some(twice) = holders.iter().find(|holder| !named.insert(**holder)) {
        return Err(Misplaced::Twice(*twice));
    }
    check_sites(holders, view.sites, rules)?;
    let (takers, most) = (view.takers(), tolerance(profile));
    let operators = passed_over(seed, object, holders, view.sites, &takers, rules);
    if operators.len() > most { Err(Misplaced::PassedOver { operators, most }) } else { Ok(()) }
}

/// Whether operators may hold fragments of one object beside each other, as far as it is known where they stand.
///
/// # Errors
/// [`Misplaced`].
pub fn check_sites(holders: &[Address], sites: &BTreeMap<Address, Site>, rules: &Rules) -> Result<(), Misplaced> {
    let mut taken = BTreeMap::<Subnet, u8>::new();
    for (operator, site) in holders.iter().filter_map(|holder| Some((*holder, sites.get(holder)?))) {
        if !rules.regions.is_empty() && site.region.is_none_or(|region| !rules.regions.contains(&region)) {
            return Err(Misplaced::Elsewhere { operator, region: site.region, regions: rules.regions.clone() });
        }
        let Some(most) = rules.subnet_max else { continue };
        let subnet = site.subnet.ok_or(Misplaced::Nowhere(operator))?;
        let count = taken.entry(subnet).or_default();
        *count = count.saturating_add(1);
        if *count > most {
            return Err(Misplaced::Crowded { subnet, most });
        }
    }
    Ok(())
}

/// Operators with a better rank for some fragment than its holder, which could have taken it beside the holders of the fragments before.
fn passed_over(
    seed: Hash32,
    object: BlobId,
    holders: &[Address],
    sites: &BTreeMap<Address, Site>,
    takers: &BTreeMap<Address, Site>,
    rules: &Rules,
) -> BTreeSet<Address> {
    let (mut holding, mut taken, mut passed) = (BTreeSet::new(), BTreeMap::<Option<Subnet>, u8>::new(), BTreeSet::new());
    for (fragment, holder) in (0_u8..).zip(holders) {
        let own = (rank(seed, object, fragment, *holder), *holder);
        let may = |operator: &Address, site: &Site| {
            rules.admit(site) && rules.leave_room(site, &taken) && !holding.contains(operator) && !passed.contains(operator)
        };
        let better = |operator: &Address| (rank(seed, object, fragment, *operator), *operator) < own;
        let found: Vec<_> = takers.iter().filter(|(operator, site)| may(operator, site) && better(operator)).map(|(who, _)| *who).collect();
        passed.extend(found);
        holding.insert(*holder);
        if let Some(site) = sites.get(holder) {
            let count = taken.entry(site.subnet).or_default();
            *count = count.saturating_add(1);
        }
    }
    passed
}

/// Who is asked to hold an object, drawn anew as operators turn out not to take their fragment.
#[derive(Debug, Clone)]
pub struct Draw {
    seed: Hash32,
    object: BlobId,
    profile: Profile,
    rules: Rules,
    left_out: BTreeSet<Address>,
}

/// Why an object has no holders.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrawError {
    /// Too few operators.
    #[error(transparent)]
    TooFew(#[from] TooFewOperators),
    /// More operators say they take fragments and do not than holders let a contributor pass over.
    #[error("{} operators that say they store did not take their fragment, and holders let at most {most} be passed over: {}", .operators.len(), list(.operators))]
    TooMany {
        /// Who.
        operators: BTreeSet<Address>,
        /// [`tolerance`].
        most: usize,
    },
}

impl Draw {
    /// Of an object.
    pub const fn new(seed: Hash32, object: BlobId, profile: Profile, rules: Rules) -> Self {
        Self { seed, object, profile, rules, left_out: BTreeSet::new() }
    }

    /// The holders of all fragments among those that store and have room, without the ones that did not take theirs. Of these only who goes on saying
    /// that it has room counts as passed over.
    ///
    /// # Errors
    /// [`DrawError`].
    pub fn holders(&self, view: View<'_>) -> Result<Vec<Address>, DrawError> {
        let mut takers = view.takers();
        let operators: BTreeSet<_> = self.left_out.iter().copied().filter(|operator| takers.remove(operator).is_some()).collect();
        let most = tolerance(self.profile);
        if operators.len() > most {
            return Err(DrawError::TooMany { operators, most });
        }
        Ok(place(self.seed, self.object, self.profile, &takers, &self.rules)?)
    }

    /// Leaves an operator out from now on; true if it was not already.
    pub fn leave_out(&mut self, operator: Address) -> bool {
        self.left_out.insert(operator)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::{super::tests::sites, *};

    const SEED: Hash32 = Hash32([1; 32]);
    const OBJECT: BlobId = BlobId([2; 32]);

    fn code(data: u8, total: u8) -> Profile {
        Profile::new(data, total).unwrap()
    }

    fn rules(profile: Profile) -> Rules {
        Rules::of(profile, BTreeSet::new())
    }

    fn drawn(profile: Profile, sites: &BTreeMap<Address, Site>) -> Vec<Address> {
        place(SEED, OBJECT, profile, sites, &rules(profile)).unwrap()
    }

    fn seen(profile: Profile, holders: &[Address], sites: &BTreeMap<Address, Site>, full: &[Address]) -> Result<(), Misplaced> {
        let full = full.iter().copied().collect();
        check(SEED, OBJECT, profile, holders, View { sites, full: &full }, &rules(profile))
    }

    #[test]
    fn the_tolerance_is_an_eighth_and_never_takes_an_object_to_its_floor() {
        for (data, total, most) in [(3, 5, 1), (4, 12, 1), (10, 30, 3), (16, 48, 6)] {
            let profile = code(data, total);
            assert_eq!(tolerance(profile), most);
            assert!(usize::from(total) - most >= crate::proto::repair::floor(profile).into());
        }
    }

    #[test]
    fn a_contributor_that_places_by_its_wish_is_refused_with_who_was_passed_over() {
        let profile = code(4, 12);
        let all = sites(60, 30);
        let own: Vec<_> = (0..12).map(|i| Address([5 * i; 20])).collect();
        let Err(Misplaced::PassedOver { operators, most: 1 }) = seen(profile, &own, &all, &[]) else { panic!("twelve of its own") };
        assert!(
            operators.len() > 12 && drawn(profile, &all).iter().filter(|best| !own.contains(best)).all(|best| operators.contains(best))
        );
        let mut turned = drawn(profile, &all);
        turned.rotate_left(1);
        let error = seen(profile, &turned, &all, &[]).unwrap_err().to_string();
        assert!(error.contains("rank better") && error.contains("at most 1 may be passed over") && error.contains("more"), "{error}");
    }

    #[test]
    fn what_breaks_a_cap_is_refused_by_its_name() {
        let profile = code(4, 12);
        let mut all = sites(60, 30);
        let good = drawn(profile, &all);
        let with = |at: usize, who: Address| {
            let mut holders = good.clone();
            holders[at] = who;
            holders
        };
        assert_eq!(seen(profile, &good, &all, &[]), Ok(()));
        assert_eq!(seen(profile, &good[1..], &all, &[]), Err(Misplaced::Count { got: 11, expected: 12 }));
        assert_eq!(seen(profile, &with(3, good[9]), &all, &[]), Err(Misplaced::Twice(good[9])));
        let subnet = all[&good[0]].subnet.unwrap();
        let crowd = [200, 201].map(|byte| Address([byte; 20]));
        for name in crowd {
            all.insert(name, Site { subnet: Some(subnet), region: None });
        }
        let mut crowded = with(5, crowd[0]);
        crowded[6] = crowd[1];
        assert_eq!(seen(profile, &crowded, &all, &[]), Err(Misplaced::Crowded { subnet, most: 2 }));
        all.insert(Address([202; 20]), Site::default());
        assert_eq!(seen(profile, &with(5, Address([202; 20])), &all, &[]), Err(Misplaced::Nowhere(Address([202; 20]))));
        let germany = Rules::of(profile, BTreeSet::from(["DE".parse().unwrap()]));
        let none = BTreeSet::new();
        let error = check(SEED, OBJECT, profile, &good, View { sites: &all, full: &none }, &germany).unwrap_err().to_string();
        assert!(error.contains("keeps bytes in US, the object stays in DE"), "{error}");
    }

    #[test]
    fn whoever_has_no_room_is_not_passed_over_and_one_that_only_says_it_has_may_be() {
        let profile = Profile::DEVNET;
        let all = sites(8, 8);
        let first = drawn(profile, &all);
        let mut draw = Draw::new(SEED, OBJECT, profile, rules(profile));
        assert!(draw.leave_out(first[2]) && !draw.leave_out(first[2]));
        let none = BTreeSet::new();
        let second = draw.holders(View { sites: &all, full: &none }).unwrap();
        assert!(!second.contains(&first[2]));
        assert_eq!(seen(profile, &second, &all, &[]), Ok(()), "one operator may be passed over");
        draw.leave_out(first[0]);
        let error = draw.holders(View { sites: &all, full: &none }).unwrap_err();
        assert!(matches!(&error, DrawError::TooMany { operators, most: 1 } if operators.len() == 2), "{error}");
        // Once one of them says so, it is none that was passed over.
        let full = BTreeSet::from([first[0]]);
        let third = draw.holders(View { sites: &all, full: &full }).unwrap();
        assert!(!third.contains(&first[0]) && !third.contains(&first[2]));
        assert_eq!(seen(profile, &third, &all, &[first[0]]), Ok(()));
        assert!(matches!(seen(profile, &third, &all, &[]), Err(Misplaced::PassedOver { .. })), "to who has not heard it yet");
        let full = all.keys().copied().take(4).collect();
        assert!(matches!(draw.holders(View { sites: &all, full: &full }), Err(DrawError::TooFew(_))));
    }

    #[test]
    fn a_holder_that_nobody_hears_stands_if_its_rank_does() {
        let profile = code(4, 12);
        let (all, mut known) = (sites(60, 30), sites(60, 30));
        let holders = drawn(profile, &all);
        known.remove(&holders[4]);
        assert_eq!(seen(profile, &holders, &known, &[]), Ok(()));
        let outsider = (100..=255).map(|byte| Address([byte; 20])).max_by_key(|who| rank(SEED, OBJECT, 4, *who)).unwrap();
        let mut wished = holders;
        wished[4] = outsider;
        assert!(matches!(seen(profile, &wished, &known, &[]), Err(Misplaced::PassedOver { .. })), "the worst rank of all");
    }

    proptest! {
        #[test]
        fn an_honest_draw_stands_before_everyone_whose_view_differs_by_few(
            count in 40..90_u8, object in any::<[u8; 32]>(), missing in any::<u8>(), unheard in any::<u8>(),
        ) {
            let (object, profile) = (BlobId(object), code(10, 30));
            let all = sites(count, count);
            let without = |number: u8| {
                let mut some = all.clone();
                some.remove(&Address([number % count; 20]));
                some
            };
            let holders = place(SEED, object, profile, &without(missing), &rules(profile)).unwrap();
            let none = BTreeSet::new();
            for sites in [&all, &without(missing), &without(unheard)] {
                prop_assert_eq!(check(SEED, object, profile, &holders, View { sites, full: &none }, &rules(profile)), Ok(()));
            }
        }

        #[test]
        fn leaving_operators_out_wins_no_more_places_than_were_left_out(
            count in 20..60_u8, object in any::<[u8; 32]>(), own in 1..10_u8, gone in proptest::collection::btree_set(any::<u8>(), 0..4),
        ) {
            let (object, profile) = (BlobId(object), code(4, 12));
            let all = sites(count, 30.min(count));
            let mine = |holders: &[Address]| holders.iter().filter(|holder| holder.0[0] % own == 0).count();
            let mut fewer = all.clone();
            gone.iter().for_each(|number| { fewer.remove(&Address([number % count; 20])); });
            let free = Rules { subnet_max: None, regions: BTreeSet::new() };
            let draw = |sites: &BTreeMap<Address, Site>| place(SEED, object, profile, sites, &free);
            if let (Ok(before), Ok(after)) = (draw(&all), draw(&fewer)) {
                prop_assert!(mine(&after) <= mine(&before) + gone.len());
                // Who leaves out its own wins nothing at all.
                if gone.iter().all(|number| (number % count) % own == 0) {
                    prop_assert!(mine(&after) <= mine(&before));
                }
            }
        }
    }

    #[test]
    fn sites_of_one_network_are_counted_as_far_as_they_are_known() {
        let in_net = |last: u8| Site { subnet: Some(Subnet::of(IpAddr::from([10, 0, 0, last]))), region: None };
        let known: BTreeMap<_, _> = (1..=3).map(|last| (Address([last; 20]), in_net(last))).collect();
        let names: Vec<_> = (1..=3).map(|last| Address([last; 20])).collect();
        let limited = rules(code(4, 12));
        assert!(matches!(check_sites(&names, &known, &limited), Err(Misplaced::Crowded { most: 2, .. })));
        assert_eq!(check_sites(&names, &known, &rules(Profile::DEVNET)), Ok(()));
        let fewer = known.into_iter().skip(1).collect();
        assert_eq!(check_sites(&names, &fewer, &limited), Ok(()), "one is not heard");
    }
}
