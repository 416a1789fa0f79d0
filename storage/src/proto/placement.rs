//! Placement: which operator holds which fragment, the same for everyone who knows the seed and the operators.
//!
//! For each fragment the operators are ranked by keccak("tributary/placement/v1", seed, object, fragment u8, operator); fragments choose in order
//! of index, each taking the highest-ranked operator that holds none of the object yet and whose subnet holds fewer than [`SUBNET_MAX`] (the
//! devnet's profile has no such limit, its nodes are one machine). An object that must stay in some regions knows only the operators there.
//! The seed is drawn after the object is registered, so nobody can register an object that lands on operators of his choice; the choice is for
//! life, and on loss the next rank takes over under the same caps ([`Assignment`]).
//!
//! Caps never make the order of choosing matter for *whether* all fragments find a place: each takes one of the places that the subnets offer, and
//! any operator may take any fragment, so placing fails only if there are fewer places than fragments ([`places`]).
//!
//! Cost: 48 fragments over 1,000 operators are 48,000 hashes of 107 bytes, at half a microsecond each 24 ms; one replacement is 1,000 hashes. What the caps are for:
//! with two of 48 fragments per subnet, an object outlives the loss of any 16 subnets at once.

mod assignment;
mod check;
mod site;

use std::collections::{BTreeMap, BTreeSet};

use types::{
    id::{Address, BlobId, Hash32},
    merkle::keccak,
};

pub use self::{
    assignment::{Assignment, Move},
    check::{Draw, DrawError, Misplaced, View, check, check_sites, tolerance},
    site::{Region, RegionError, Site, Subnet},
};
use crate::erasure::Profile;

/// Most fragments of one object in one subnet: two, so that the registered addresses of a hosting centre count as few, not as many.
pub const SUBNET_MAX: u8 = 2;

/// What the holders of an object must respect beside one fragment per operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Most fragments in one subnet; nothing: no limit.
    pub subnet_max: Option<u8>,
    /// Regions that may hold the object; empty: all.
    pub regions: BTreeSet<Region>,
}

impl Rules {
    /// The rules of a profile, for an object that may be kept in `regions` (empty: anywhere).
    pub fn of(profile: Profile, regions: BTreeSet<Region>) -> Self {
        Self { subnet_max: (profile != Profile::DEVNET).then_some(SUBNET_MAX), regions }
    }

    /// Whether an operator at `site` may hold fragments at all.
    fn admit(&self, site: &Site) -> bool {
        let is_in_region = self.regions.is_empty() || site.region.is_some_and(|region| self.regions.contains(&region));
        is_in_region && (self.subnet_max.is_none() || site.subnet.is_some())
    }

    /// Whether one more fragment at `site` keeps the cap of its subnet, beside those at `taken`.
    fn leave_room(&self, site: &Site, taken: &BTreeMap<Option<Subnet>, u8>) -> bool {
        self.subnet_max.is_none_or(|most| taken.get(&site.subnet).is_none_or(|count| *count < most))
    }
}

/// How many fragments of one object the operators could hold under `rules`.
pub fn places(sites: &BTreeMap<Address, Site>, rules: &Rules) -> usize {
    let mut subnets = BTreeMap::<_, usize>::new();
    sites.values().filter(|site| rules.admit(site)).for_each(|site| *subnets.entry(site.subnet).or_default() += 1);
    let most = rules.subnet_max.map_or(usize::MAX, usize::from);
    subnets.values().map(|count| (*count).min(most)).sum()
}

/// The profile of a new object that may be kept in `regions` (empty: anywhere). Operators beyond the cap of their subnet do not count, since they
/// could never hold a fragment beside the others: a thousand addresses of one hosting centre are two.
pub fn profile(sites: &BTreeMap<Address, Site>, regions: &BTreeSet<Region>) -> Profile {
    Profile::for_operators(places(sites, &Rules { subnet_max: Some(SUBNET_MAX), regions: regions.clone() }))
}

/// Who is given no new fragments, by the words of operators that were asked whom their books of audits have suspended: those whom more than half name. Outcomes of audits are
/// the same for all who heard the verdicts, so honest ones differ for moments alone; fewer liars than half neither shut anybody out nor let anybody in.
pub fn suspended<'w>(words: impl IntoIterator<Item = &'w BTreeSet<Address>>) -> BTreeSet<Address> {
    let (mut named, mut count) = (BTreeMap::<Address, usize>::new(), 0);
    for word in words {
        count += 1;
        word.iter().for_each(|operator| *named.entry(*operator).or_default() += 1);
    }
    named.into_iter().filter(|(_, by)| 2 * by > count).map(|(operator, _)| operator).collect()
}

/// Too few operators for one fragment each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{have} operators can hold fragments, an object of {need} fragments needs one for each: wait for more operators (in other subnets, in the object's regions) or use a smaller profile"
)]
pub struct TooFewOperators {
    /// Operators that could, each with one fragment and within the cap of its subnet.
    pub have: usize,
    /// Fragments to place.
    pub need: usize,
}

/// The holder of each fragment, by index, under the object's rules.
///
/// # Errors
/// [`TooFewOperators`]: the rules leave fewer places than fragments.
pub fn place(
    seed: Hash32,
    object: BlobId,
    profile: Profile,
    sites: &BTreeMap<Address, Site>,
    rules: &Rules,
) -> Result<Vec<Address>, TooFewOperators> {
    let too_few = || TooFewOperators { have: places(sites, rules), need: profile.total().into() };
    let (mut holders, mut holding) = (Vec::with_capacity(profile.total().into()), BTreeSet::new());
    for fragment in 0..profile.total() {
        let holder = replacement(seed, object, fragment, sites, rules, &holding, &BTreeSet::new()).ok_or_else(too_few)?;
        holding.insert(holder);
        holders.push(holder);
    }
    Ok(holders)
}

/// The highest-ranked operator that may take `fragment` beside those `holding` others of the object, and is not `unfit`.
pub fn replacement(
    seed: Hash32,
    object: BlobId,
    fragment: u8,
    sites: &BTreeMap<Address, Site>,
    rules: &Rules,
    holding: &BTreeSet<Address>,
    unfit: &BTreeSet<Address>,
) -> Option<Address> {
    let mut taken = BTreeMap::<_, u8>::new();
    holding.iter().filter_map(|holder| sites.get(holder)).for_each(|site| *taken.entry(site.subnet).or_default() += 1);
    let may = |(operator, site): &(&Address, &Site)| {
        rules.admit(site) && rules.leave_room(site, &taken) && !holding.contains(operator) && !unfit.contains(operator)
    };
    let best = sites.iter().filter(may).min_by_key(|(operator, _)| (rank(seed, object, fragment, **operator), **operator));
    best.map(|(operator, _)| *operator)
}

/// The holder of each fragment, by index, one per operator and nothing else: what the devnet's profile asks for.
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
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    const SEED: Hash32 = Hash32([1; 32]);
    const OBJECT: BlobId = BlobId([2; 32]);

    fn operators(count: u8) -> BTreeSet<Address> {
        (0..count).map(|i| Address([i; 20])).collect()
    }

    /// Operators spread evenly over so many /24 networks, those of even number in Germany.
    pub(super) fn sites(operators: u8, subnets: u8) -> BTreeMap<Address, Site> {
        let site = |i: u8| Site {
            subnet: Some(Subnet::of(IpAddr::V4(Ipv4Addr::new(10, 0, i % subnets, i)))),
            region: Some(if i.is_multiple_of(2) { "DE" } else { "US" }.parse().unwrap()),
        };
        (0..operators).map(|i| (Address([i; 20]), site(i))).collect()
    }

    fn code(data: u8, total: u8) -> Profile {
        Profile::new(data, total).unwrap()
    }

    #[test]
    fn without_limits_the_holders_are_the_pinned_ones() {
        let mut anywhere = sites(8, 1);
        anywhere.values_mut().for_each(|site| *site = Site::default());
        let rules = Rules::of(Profile::DEVNET, BTreeSet::new());
        assert_eq!(
            place(SEED, OBJECT, Profile::DEVNET, &anywhere, &rules),
            holders(SEED, OBJECT, Profile::DEVNET, &anywhere.keys().copied().collect())
        );
    }

    #[test]
    fn the_profile_counts_operators_that_could_hold_together() {
        let none = BTreeSet::new();
        assert_eq!(profile(&sites(150, 75), &none), code(16, 48));
        assert_eq!(profile(&sites(150, 30), &none), code(10, 30), "60 places in 30 subnets");
        assert_eq!(profile(&sites(12, 6), &none), code(3, 9), "any four of them may go");
        assert_eq!(profile(&sites(150, 1), &none), Profile::DEVNET, "one hosting centre is two places");
        assert_eq!(profile(&sites(60, 60), &BTreeSet::from(["DE".parse().unwrap()])), code(4, 12), "half of them are there");
    }

    #[test]
    fn an_operator_without_an_address_holds_nothing_where_subnets_are_limited() {
        let mut some = sites(24, 12);
        some.insert(Address([200; 20]), Site { subnet: None, region: None });
        let placed = place(SEED, OBJECT, code(4, 12), &some, &Rules::of(code(4, 12), BTreeSet::new())).unwrap();
        assert!(!placed.contains(&Address([200; 20])));
        assert_eq!(places(&some, &Rules::of(code(4, 12), BTreeSet::new())), 24);
        assert_eq!(places(&some, &Rules::default()), 25);
    }

    #[test]
    fn whom_more_than_half_have_suspended_is_placed_nowhere() {
        let word = |names: &[u8]| -> BTreeSet<Address> { names.iter().map(|name| Address([*name; 20])).collect() };
        assert_eq!(suspended(&[]), word(&[]), "nobody was asked");
        assert_eq!(suspended(&[word(&[1, 2]), word(&[1]), word(&[1, 3]), word(&[]), word(&[2])]), word(&[1]), "3 of 5");
        assert_eq!(suspended(&[word(&[1]), word(&[])]), word(&[]), "half is not more than half");
        let mut fit = sites(24, 12);
        let rules = Rules::of(code(4, 12), BTreeSet::new());
        let before = place(SEED, OBJECT, code(4, 12), &fit, &rules).unwrap();
        let out = suspended(&[BTreeSet::from([before[0], before[5]])]);
        fit.retain(|operator, _| !out.contains(operator));
        let after = place(SEED, OBJECT, code(4, 12), &fit, &rules).unwrap();
        assert!(after.iter().all(|holder| !out.contains(holder)) && after.len() == 12);
    }

    #[test]
    fn too_few_places_are_told_as_places() {
        let error = place(SEED, OBJECT, code(4, 12), &sites(100, 5), &Rules::of(code(4, 12), BTreeSet::new())).unwrap_err();
        assert_eq!(error, TooFewOperators { have: 10, need: 12 });
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
        fn caps_and_residency_hold_whenever_there_is_room(count in 1..120_u8, subnets in 1..40_u8, object in any::<[u8; 32]>(), stays in any::<bool>()) {
            let sites = sites(count, subnets);
            let regions = if stays { BTreeSet::from(["DE".parse().unwrap()]) } else { BTreeSet::new() };
            let (profile, rules) = (code(4, 12), Rules::of(code(4, 12), regions));
            let room = places(&sites, &rules);
            match place(SEED, BlobId(object), profile, &sites, &rules) {
                Err(error) => prop_assert_eq!((room < 12, error), (true, TooFewOperators { have: room, need: 12 })),
                Ok(placed) => {
                    prop_assert!(room >= 12);
                    prop_assert_eq!(placed.iter().collect::<BTreeSet<_>>().len(), 12);
                    let mut taken = BTreeMap::<_, u8>::new();
                    placed.iter().for_each(|holder| *taken.entry(sites[holder].subnet).or_default() += 1);
                    prop_assert!(taken.values().all(|count| *count <= SUBNET_MAX));
                    prop_assert!(!stays || placed.iter().all(|holder| holder.0[0].is_multiple_of(2)));
                }
            }
        }

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
