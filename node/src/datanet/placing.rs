//! Who may hold which fragment of a contribution. Pure; contributor and holder compute it alike.
//!
//! The seed is the hash of the block that accepted the contribution: known to everyone from then on, and to nobody when what is stored was
//! fixed by the gate's signature. Operators are those with stake whose ad offers storage, each at the site of its ad: the network of its bulk
//! address and the country it states, and fragments go to those that say they have room. The rule decides once, when an object is spread: the contributor names all
//! holders to each, and a holder that hears another set of ads refuses if more were passed over than views may differ by
//! ([`storage::proto::placement::tolerance`]). From then on the record that all holders keep says who holds what ([`storage::proto::keeping`]), and
//! only losses change it.
//!
//! *Countries.* An object that must stay in some countries is held there alone, fragments by the rule, whole copies by [`may_keep`]: a node that states
//! another country or none neither looks at contributions to such a Datanet nor indexes it. A person who reads is told and decides.
//!
//! A loopback address is no network: such nodes hold fragments where subnets are not limited (3/5), unless they state one, which counts on a
//! development chain alone ([`DEVELOPMENT_CHAIN`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::Context as _;
use chain_bridge::registry::{State, state::Accepted};
use p2p::proto::ads::{Ad, AdSite, Services};
use storage::{
    erasure::Profile,
    proto::placement::{self, Misplaced, Region, Rules, Site, Subnet, View},
};
use types::id::{Address, AssetId, BlobId, Hash32, NodeId};

/// Chain id of development chains, where nodes may state the network they count in.
pub const DEVELOPMENT_CHAIN: u64 = 31_337;

/// An operator that stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storer {
    /// Its node.
    pub node: NodeId,
    /// Where the node serves bulk data.
    pub addr: SocketAddr,
    /// Where it stands.
    pub site: Site,
    /// Whether it takes new fragments.
    pub has_room: bool,
}

/// Operators that store, by account.
pub type Storers = BTreeMap<Address, Storer>;

/// Where a node stands that serves bulk data at `addr` and says `stated` of itself.
pub fn site(addr: IpAddr, stated: AdSite, chain_id: u64) -> Site {
    let network = stated.network.filter(|_| chain_id == DEVELOPMENT_CHAIN).or_else(|| (!addr.to_canonical().is_loopback()).then_some(addr));
    let region = stated.region.and_then(|letters| std::str::from_utf8(&letters).ok()?.parse::<Region>().ok());
    Site { subnet: network.map(Subnet::of), region }
}

/// Operators that may hold fragments: registered, with active stake, and saying in their ad that they store.
pub fn storers<'a>(state: &State, ads: impl IntoIterator<Item = &'a Ad>, chain_id: u64) -> Storers {
    let of_node: BTreeMap<_, _> =
        state.operators().filter(|operator| operator.active.0 > 0).map(|operator| (operator.node, operator.account)).collect();
    let storing = ads.into_iter().filter(|ad| ad.services.has(Services::STORAGE));
    let storer = |ad: &Ad| {
        let site = site(ad.bulk_addr.ip(), ad.site, chain_id);
        let has_room = ad.services.has(Services::ROOM);
        Some((*of_node.get(&ad.node)?, Storer { node: ad.node, addr: ad.bulk_addr, site, has_room }))
    };
    storing.filter_map(storer).collect()
}

/// Their sites, as placement wants them.
pub fn sites(storers: &Storers) -> BTreeMap<Address, Site> {
    storers.iter().map(|(account, storer)| (*account, storer.site)).collect()
}

/// Those of them that have no room.
pub fn full(storers: &Storers) -> BTreeSet<Address> {
    storers.iter().filter(|(_, storer)| !storer.has_room).map(|(account, _)| *account).collect()
}

/// The contribution whose shard is `object`, unless all that name it are erased; of several the one that was accepted first, since its contributor placed it for life.
pub fn registered(state: &State, object: BlobId) -> Option<&Accepted> {
    state.contribution_of(object).map(|(accepted, _)| accepted)
}

/// The countries that a Datanet's objects may be kept in, by `policy.residency` of its card: a country or a list of them; empty: all.
///
/// # Errors
/// That the Datanet is unknown, or names something else than countries: then nobody may hold its objects.
pub fn residency(state: &State, datanet: AssetId) -> anyhow::Result<BTreeSet<Region>> {
    let asset = state.asset(datanet).with_context(|| format!("Datanet {datanet} is not registered"))?;
    Ok(super::card_of(asset)?.policy().residency.iter().copied().collect())
}

/// Why whole copies of a Datanet's texts may not be kept by who stands in `region`; nothing if they may.
///
/// # Errors
/// As [`residency`].
pub fn may_keep(state: &State, datanet: AssetId, region: Option<Region>) -> anyhow::Result<Option<String>> {
    Ok(outside(&residency(state, datanet)?, region).map(|why| format!("Datanet {datanet} {why}")))
}

/// What a person in `region` is told who makes a copy of a Datanet's texts; nothing if it may lie there.
///
/// # Errors
/// As [`residency`].
pub fn told_of_copy(state: &State, datanet: AssetId, region: Option<Region>) -> anyhow::Result<Option<String>> {
    let why = may_keep(state, datanet, region)?;
    Ok(why.map(|why| format!("{why}. Nodes keep to that by themselves; for the copy that is made here you answer")))
}

/// What a contributor is told whose Datanet stays in `regions` while its gate, which keeps a copy of what it lets in, says of itself that it stands in `region`; nothing if it may let rows in.
pub fn told_of_gate(regions: &BTreeSet<Region>, region: Option<Region>) -> Option<String> {
    outside(regions, region)?;
    let names: Vec<_> = regions.iter().map(ToString::to_string).collect();
    let there = region.map_or_else(|| "states no country".to_owned(), |region| format!("says that it stands in {region}"));
    Some(format!(
        "the Datanet stays in {}, and its gate, which keeps a copy of what it lets in, {there}: nothing was paid; the gate's owner states one of them as `region` under [keeping] in its configuration and starts it again",
        names.join(", ")
    ))
}

fn outside(regions: &BTreeSet<Region>, region: Option<Region>) -> Option<String> {
    if regions.is_empty() || region.is_some_and(|region| regions.contains(&region)) {
        return None;
    }
    let names: Vec<_> = regions.iter().map(ToString::to_string).collect();
    let here = region.map_or_else(|| "no country is stated here".to_owned(), |region| format!("this is {region}"));
    Some(format!("stays in {}, and {here} ([keeping] region): its texts are kept where they may be", names.join(", ")))
}

/// The profile of a new object that may be kept in `regions` (empty: anywhere), by those who have room for it.
pub fn profile(storers: &Storers, regions: &BTreeSet<Region>) -> Profile {
    let takers: Storers = storers.iter().filter(|(_, storer)| storer.has_room).map(|(account, storer)| (*account, *storer)).collect();
    placement::profile(&sites(&takers), regions)
}

/// Whether the holders that somebody names for an object are those of its placement, as far as this node hears.
///
/// # Errors
/// [`Misplaced`].
pub fn check(
    seed: Hash32,
    object: BlobId,
    profile: Profile,
    holders: &[Address],
    storers: &Storers,
    rules: &Rules,
) -> Result<(), Misplaced> {
    placement::check(seed, object, profile, holders, View { sites: &sites(storers), full: &full(storers) }, rules)
}

/// Whether operators may hold fragments of an object beside each other, as far as it is known where they stand.
///
/// # Errors
/// [`Misplaced`].
pub fn check_sites(holders: &[Address], storers: &Storers, rules: &Rules) -> Result<(), Misplaced> {
    placement::check_sites(holders, &sites(storers), rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many operators, two in each /24, every third in Germany.
    fn many(count: u8) -> Storers {
        let one = |byte: u8| {
            let addr = SocketAddr::from(([10, 0, byte / 2, byte], 1));
            let stated = AdSite { region: byte.is_multiple_of(3).then_some(*b"DE"), network: None };
            (Address([byte; 20]), Storer { node: NodeId([byte; 32]), addr, site: site(addr.ip(), stated, 1), has_room: true })
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn a_loopback_address_is_no_network_and_a_stated_one_counts_on_a_development_chain_alone() {
        let (loopback, public) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([203, 0, 113, 7]));
        let stated = AdSite { region: Some(*b"DE"), network: Some(IpAddr::from([10, 0, 3, 1])) };
        let of = |addr, chain_id| site(addr, stated, chain_id).subnet.map(|subnet| subnet.to_string());
        assert_eq!(of(loopback, DEVELOPMENT_CHAIN), Some("10.0.3.0/24".to_owned()));
        assert_eq!((of(loopback, 10), of(public, 10)), (None, Some("203.0.113.0/24".to_owned())));
        assert_eq!(site(loopback, AdSite::default(), DEVELOPMENT_CHAIN), Site::default());
        assert_eq!(site(loopback, stated, 10).region, Some("DE".parse().unwrap()));
        assert_eq!(site(loopback, AdSite { region: Some([0xff; 2]), network: None }, 10).region, None);
    }

    #[test]
    fn countries_and_those_without_room_decide_over_the_profile() {
        let (mut storers, germany) = (many(90), BTreeSet::from(["DE".parse().unwrap()]));
        assert_eq!((profile(&storers, &BTreeSet::new()).total(), profile(&storers, &germany).total()), (30, 12));
        storers.values_mut().take(40).for_each(|storer| storer.has_room = false);
        assert_eq!((profile(&storers, &BTreeSet::new()).total(), profile(&storers, &germany).total()), (12, 9));
        assert_eq!(full(&storers).len(), 40);
        let (profile, object, seed) = (Profile::new(4, 12).unwrap(), BlobId([2; 32]), Hash32([1; 32]));
        let rules = Rules::of(profile, BTreeSet::new());
        let placed =
            placement::place(seed, object, profile, &View { sites: &sites(&storers), full: &full(&storers) }.takers(), &rules).unwrap();
        assert!(placed.iter().all(|holder| storers[holder].has_room));
        assert_eq!(check(seed, object, profile, &placed, &storers, &rules), Ok(()));
        assert!(
            matches!(check(seed, object, profile, &placed, &many(90), &rules), Err(Misplaced::PassedOver { .. })),
            "to who heard of no full disk"
        );
        assert!(check_sites(&placed, &storers, &Rules::of(profile, germany)).is_err());
    }

    #[test]
    fn whole_copies_stay_where_the_card_says() {
        let (anywhere, europe) = (BTreeSet::new(), ["CH", "DE"].map(|letters| letters.parse::<Region>().unwrap()).into());
        let germany = Some("DE".parse().unwrap());
        assert_eq!((outside(&anywhere, None), outside(&europe, germany)), (None, None));
        let words = outside(&europe, Some("US".parse().unwrap())).unwrap();
        assert!(words.contains("stays in CH, DE, and this is US"), "{words}");
        assert!(outside(&europe, None).unwrap().contains("no country is stated here"));
        assert_eq!((told_of_gate(&anywhere, None), told_of_gate(&europe, germany)), (None, None));
        let words = told_of_gate(&europe, None).unwrap();
        assert!(words.contains("its gate") && words.contains("states no country: nothing was paid"), "{words}");
    }
}
