//! Who may hold which fragment of a contribution. Pure; contributor and holder compute it alike.
//!
//! The seed is the hash of the block that accepted the contribution: known to everyone from then on, and to nobody when what is stored was
//! fixed by the gate's signature. Operators are those with stake whose ad offers storage, each at the site of its ad: the network of its bulk
//! address and the country it states. The rule decides once, when an object is spread: a holder that hears another set of ads than the contributor refuses,
//! and the contributor asks again once both have heard the same. From then on the record that all holders keep says who holds what
//! ([`storage::proto::keeping`]), and only losses change it.
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
    erasure::{ObjectManifest, Profile},
    proto::placement::{self, Region, Rules, Site, Subnet, TooFewOperators},
};
use types::{
    id::{Address, AssetId, BlobId, Hash32, NodeId},
    manifest::AssetKind,
};

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
        Some((*of_node.get(&ad.node)?, Storer { node: ad.node, addr: ad.bulk_addr, site }))
    };
    storing.filter_map(storer).collect()
}

/// Their sites, as placement wants them.
pub fn sites(storers: &Storers) -> BTreeMap<Address, Site> {
    storers.iter().map(|(account, storer)| (*account, storer.site)).collect()
}

/// The contribution whose shard is `object`, unless all that name it are erased; of several the one that was accepted first, since its contributor placed it for life.
pub fn registered(state: &State, object: BlobId) -> Option<&Accepted> {
    let datanets = || state.assets().filter(|asset| asset.kind == AssetKind::Datanet);
    let named = || datanets().flat_map(|asset| state.contributions(asset.id)).filter(move |accepted| accepted.object == object);
    let is_live = named().any(|accepted| state.erasure(accepted.datanet, accepted.number).is_none());
    named().min_by_key(|accepted| accepted.accepted).filter(|_| is_live)
}

/// The countries that a Datanet's objects may be kept in, by `policy.residency` of its card: a country or a list of them; empty: all.
///
/// # Errors
/// That the Datanet is unknown, or names something else than countries: then nobody may hold its objects.
pub fn residency(state: &State, datanet: AssetId) -> anyhow::Result<BTreeSet<Region>> {
    let asset = state.asset(datanet).with_context(|| format!("Datanet {datanet} is not registered"))?;
    Ok(super::card_of(asset)?.policy().residency.iter().copied().collect())
}

/// The profile of a new object that may be kept in `regions` (empty: anywhere).
pub fn profile(storers: &Storers, regions: &BTreeSet<Region>) -> Profile {
    placement::profile(&sites(storers), regions)
}

/// The holder of each fragment, by index, when an object is spread first.
///
/// # Errors
/// [`TooFewOperators`].
pub fn place(
    seed: Hash32,
    object: BlobId,
    profile: Profile,
    storers: &Storers,
    regions: &BTreeSet<Region>,
) -> Result<Vec<(Address, Storer)>, TooFewOperators> {
    let placed = placement::place(seed, object, profile, &sites(storers), &Rules::of(profile, regions.clone()))?;
    Ok(placed.into_iter().map(|account| (account, storers[&account])).collect())
}

/// The fragment of an object that `me` is to hold when it is spread first; nothing if none, or if the object's text is not the registered one.
pub fn assigned(
    accepted: &Accepted,
    manifest: &ObjectManifest,
    seed: Hash32,
    storers: &Storers,
    regions: &BTreeSet<Region>,
    me: Address,
) -> Option<u8> {
    if accepted.object != manifest.id() || accepted.text_root != manifest.text_root() {
        return None;
    }
    let placed = place(seed, manifest.id(), manifest.profile(), storers, regions).ok()?;
    let index = placed.iter().position(|(account, _)| *account == me)?;
    u8::try_from(index).ok()
}

/// Whether the holders that a first placement names, as far as it is known where they stand, keep its rules: what a holder can check of the others' places.
pub fn keeps_rules(holders: &[Address], storers: &Storers, rules: &Rules) -> bool {
    let known: Vec<_> = holders.iter().filter_map(|holder| storers.get(holder)).map(|storer| storer.site).collect();
    let mut taken = BTreeMap::<_, usize>::new();
    known.iter().filter_map(|site| site.subnet).for_each(|subnet| *taken.entry(subnet).or_default() += 1);
    let is_in_region = |site: &Site| rules.regions.is_empty() || site.region.is_some_and(|region| rules.regions.contains(&region));
    known.iter().all(is_in_region) && rules.subnet_max.is_none_or(|most| taken.values().all(|count| *count <= usize::from(most)))
}

#[cfg(test)]
mod tests {
    use storage::erasure::encode;
    use types::{contribution::Priority, id::AssetId};

    use super::*;

    fn accepted(manifest: &ObjectManifest) -> Accepted {
        Accepted {
            datanet: AssetId(1),
            number: 0,
            contributor: Address([9; 20]),
            text_root: manifest.text_root(),
            text_bytes: 3,
            documents: 1,
            priority: Priority { block: 7, ordinal: 0, document: 0 },
            licence: Hash32::ZERO,
            object: manifest.id(),
            report: Hash32::ZERO,
            accepted: (8, 0),
        }
    }

    /// So many operators, two in each /24, every third in Germany.
    fn many(count: u8) -> Storers {
        let one = |byte: u8| {
            let addr = SocketAddr::from(([10, 0, byte / 2, byte], 1));
            let stated = AdSite { region: byte.is_multiple_of(3).then_some(*b"DE"), network: None };
            (Address([byte; 20]), Storer { node: NodeId([byte; 32]), addr, site: site(addr.ip(), stated, 1) })
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn every_operator_of_five_is_assigned_the_fragment_that_placement_gives_it() {
        let manifest = encode(b"shard", Hash32([4; 32]), Profile::DEVNET).unwrap().manifest;
        let (accepted, storers, anywhere) = (accepted(&manifest), many(5), BTreeSet::new());
        let placed = place(Hash32([1; 32]), manifest.id(), Profile::DEVNET, &storers, &anywhere).unwrap();
        for (index, (account, storer)) in (0..).zip(placed) {
            assert_eq!(assigned(&accepted, &manifest, Hash32([1; 32]), &storers, &anywhere, account), Some(index));
            assert_eq!(storers[&account], storer);
        }
        assert_eq!(assigned(&accepted, &manifest, Hash32([1; 32]), &storers, &anywhere, Address([6; 20])), None);
    }

    #[test]
    fn an_object_that_is_not_the_registered_one_is_assigned_to_nobody() {
        let manifest = encode(b"shard", Hash32([4; 32]), Profile::DEVNET).unwrap().manifest;
        let other_text = Accepted { text_root: Hash32([5; 32]), ..accepted(&manifest) };
        let other_object = Accepted { object: BlobId([5; 32]), ..accepted(&manifest) };
        for accepted in [other_text, other_object] {
            assert_eq!(assigned(&accepted, &manifest, Hash32([1; 32]), &many(5), &BTreeSet::new(), Address([1; 20])), None);
        }
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
    fn caps_and_countries_decide_over_profile_and_places() {
        let (storers, germany) = (many(90), BTreeSet::from(["DE".parse().unwrap()]));
        assert_eq!((profile(&storers, &BTreeSet::new()).total(), profile(&storers, &germany).total()), (30, 12));
        let placed = place(Hash32([1; 32]), BlobId([2; 32]), Profile::new(4, 12).unwrap(), &storers, &germany).unwrap();
        assert!(placed.iter().all(|(account, _)| account.0[0].is_multiple_of(3)));
        let holders: Vec<_> = placed.iter().map(|(account, _)| *account).collect();
        let rules = Rules::of(Profile::new(4, 12).unwrap(), germany);
        assert!(keeps_rules(&holders, &storers, &rules));
        assert!(!keeps_rules(&[holders[0], Address([1; 20])], &storers, &rules), "one is elsewhere");
        assert!(keeps_rules(&[holders[0], Address([200; 20])], &storers, &rules), "one is not heard");
        let crowded = Storers::from([1, 2, 3].map(|byte| (Address([byte; 20]), many(1)[&Address([1; 20])])));
        let names: Vec<_> = crowded.keys().copied().collect();
        assert!(!keeps_rules(&names, &crowded, &Rules::of(Profile::new(4, 12).unwrap(), BTreeSet::new())), "three in one /24");
        assert!(keeps_rules(&names, &crowded, &Rules::of(Profile::DEVNET, BTreeSet::new())));
    }
}
