//! Capability ads: what a node says of itself, signed, every few seconds.
//!
//! Goals: everyone learns who serves what within seconds of one bootstrap address; a restarted node displaces its own ghost;
//! a silent node disappears within its time to live. Non-goals: trust. An ad is its author's claim; stake, price and honesty are
//! checked against the chain and the answers.
//!
//! Flow: a node signs [`Ad`] (purpose `ad`) with a rising [`Ad::seq`] and gossips it every third of [`Ad::ttl_s`]; each receiver
//! checks the bytes ([`ClaimedAd::decode`]), asks its [`AdTable`] whether this is news, only then checks the signature
//! ([`ClaimedAd::verify`]: the costly step), and forwards what it accepted.
//!
//! Wire: signature (64 bytes), then the ad in postcard. Back of the envelope: about 250 bytes with one base and two adapters,
//! 45 more per adapter, so 200 nodes at one ad per 10 s are 5 KB/s before gossip's duplicates, and 20 signature checks a second.

mod table;

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use types::amount::Amount;
use types::id::{Address, AssetId, Hash32, NodeId};
use types::quote::Profile;

pub use table::{AUTHOR_RATE, AdTable, Ignored, PREFERRED_MAX, TABLE_BYTES_MAX, TABLE_LIVE_MAX, TABLE_NODES_MAX};

use crate::identity::{NodeSeed, SIGNATURE_LEN, verify_chatter};

/// What the signature is for: part of the signed bytes.
pub const AD_PURPOSE: &str = "ad";
/// Longest encoded ad in bytes: 256 adapters at 45 bytes, and room for the rest.
pub const AD_LEN_MAX: usize = 16 << 10;
/// Longest time to live in seconds: a dead node is gone from every table after it.
pub const TTL_MAX_S: u16 = 30;
/// Most base models one node serves.
pub const BASES_MAX: usize = 16;
/// Most adapters one node serves.
pub const ADAPTERS_MAX: usize = 256;
/// Most overlay addresses in an ad: TCP and QUIC, IPv4 and IPv6.
pub const OVERLAY_ADDRS_MAX: usize = 4;
/// Longest overlay address in bytes of text, its peer id included.
pub const OVERLAY_ADDR_LEN_MAX: usize = 128;

/// What a node offers, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Services(u8);

impl Services {
    /// Answers prompts.
    pub const INFERENCE: Self = Self(1);
    /// Holds fragments and answers for them.
    pub const STORAGE: Self = Self(2);
    /// Builds and posts indexes.
    pub const INDEXER: Self = Self(4);
    /// Takes new fragments: it has room for them. Beside [`Services::STORAGE`]; a node that is full still holds what it has.
    pub const ROOM: Self = Self(8);
    const ALL: u8 = 15;

    /// The services of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True when every service of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A registered asset that a node has loaded or holds, and the content it means by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AdAsset {
    /// Number in the registry.
    pub asset: AssetId,
    /// Version.
    pub version: u32,
    /// Content hash of that version.
    pub hash: Hash32,
}

/// Where a node says it keeps bytes. Nobody can prove it; what follows from it is decided by whoever reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdSite {
    /// Country, as two capital letters.
    pub region: Option<[u8; 2]>,
    /// An address in whose network the node is to count, in place of [`Ad::bulk_addr`]'s: on development chains, whose nodes share one machine. Others pass
    /// it over.
    pub network: Option<IpAddr>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ad {
    /// Who says it; signs it.
    pub node: NodeId,
    /// The account it is paid on.
    pub account: Address,
    /// Rises with every start of the process: a later one fences the earlier.
    pub incarnation: u64,
    /// Rises with every ad of one incarnation.
    pub seq: u64,
    /// How long the ad counts after its arrival, in seconds, 1 to [`TTL_MAX_S`].
    pub ttl_s: u16,
    /// Where clients connect (QUIC, [`crate`]'s client protocol).
    pub client_addr: SocketAddr,
    /// Where nodes fetch bulk data (iroh).
    pub bulk_addr: SocketAddr,
    /// Where overlay peers dial: multiaddresses as text, at most [`OVERLAY_ADDRS_MAX`].
    #[serde(deserialize_with = "bounded::<_, _, OVERLAY_ADDRS_MAX>")]
    pub overlay_addrs: Vec<String>,
    /// Where it keeps bytes.
    pub site: AdSite,
    /// What it offers.
    pub services: Services,
    /// Base models served, at most [`BASES_MAX`].
    #[serde(deserialize_with = "bounded::<_, _, BASES_MAX>")]
    pub bases: Vec<AdAsset>,
    /// Adapters served, at most [`ADAPTERS_MAX`].
    #[serde(deserialize_with = "bounded::<_, _, ADAPTERS_MAX>")]
    pub adapters: Vec<AdAsset>,
    /// Numeric rules that it answers under; nothing if it answers nobody.
    pub profile: Option<Profile>,
    /// Price per thousand prompt tokens.
    pub rin: Amount,
    /// Price per thousand output tokens.
    pub rout: Amount,
    /// Requests waiting now.
    pub queue: u16,
    /// Recent time to first token, in milliseconds; 0 says that none was measured.
    pub ttft_ms: u32,
    /// Recent output speed of one stream, in tokens per second; 0 says that none was measured.
    pub tokens_per_s: u16,
    /// True in the last ad of an incarnation: the node is going.
    pub leaving: bool,
}

/// Why bytes are not an ad. All are the author's or the forwarder's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdError {
    /// Longer than [`AD_LEN_MAX`].
    #[error("ad of {got} bytes, at most {max} allowed")]
    TooLong {
        /// Length in bytes.
        got: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Not the wire format.
    #[error("ad does not decode: {0}")]
    Malformed(String),
    /// A field is out of its range.
    #[error("ad field {field}: {reason}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong, and the range.
        reason: String,
    },
    /// The signature does not hold.
    #[error("ad is not signed by {node}")]
    BadSignature {
        /// The author it claims.
        node: NodeId,
    },
}

impl Ad {
    fn check(&self) -> Result<(), AdError> {
        let field = |field, reason: String| Err(AdError::Field { field, reason });
        if self.ttl_s == 0 || self.ttl_s > TTL_MAX_S {
            return field("ttl_s", format!("{} s, 1 to {TTL_MAX_S} allowed", self.ttl_s));
        }
        for (name, got, max) in [
            ("bases", self.bases.len(), BASES_MAX),
            ("adapters", self.adapters.len(), ADAPTERS_MAX),
            ("overlay_addrs", self.overlay_addrs.len(), OVERLAY_ADDRS_MAX),
        ] {
            if got > max {
                return field(name, format!("{got} entries, at most {max} allowed"));
            }
        }
        if let Some(addr) = self.overlay_addrs.iter().find(|addr| addr.len() > OVERLAY_ADDR_LEN_MAX) {
            return field("overlay_addrs", format!("{} bytes, at most {OVERLAY_ADDR_LEN_MAX} allowed", addr.len()));
        }
        if self.services.0 & !Services::ALL != 0 {
            return field("services", format!("unknown bits in {:#x}", self.services.0));
        }
        if let Some(region) = self.site.region.filter(|region| !region.iter().all(u8::is_ascii_uppercase)) {
            return field("site", format!("region {region:?}, two capital letters expected"));
        }
        Ok(())
    }
}

/// An ad whose bytes are in order but whose signature nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedAd {
    ad: Ad,
    bytes: Vec<u8>,
}

impl ClaimedAd {
    /// Reads the wire format. Costs no signature check, and allocates no more than the bytes hold.
    ///
    /// # Errors
    /// All of [`AdError`] but [`AdError::BadSignature`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AdError> {
        if bytes.len() > AD_LEN_MAX {
            return Err(AdError::TooLong { got: bytes.len(), max: AD_LEN_MAX });
        }
        let body = bytes.get(SIGNATURE_LEN..).ok_or_else(|| AdError::Malformed("shorter than a signature".into()))?;
        let (ad, rest) = postcard::take_from_bytes::<Ad>(body).map_err(|error| AdError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(AdError::Malformed(format!("{} bytes follow its end", rest.len())));
        }
        ad.check()?;
        Ok(Self { ad, bytes: bytes.to_vec() })
    }

    /// What it says, unproven.
    #[must_use]
    pub fn claim(&self) -> &Ad {
        &self.ad
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`AdError::BadSignature`].
    pub fn verify(self) -> Result<SignedAd, AdError> {
        let bad = AdError::BadSignature { node: self.ad.node };
        let Some((signature, body)) = self.bytes.split_first_chunk::<SIGNATURE_LEN>() else { return Err(bad) };
        verify_chatter(self.ad.node, AD_PURPOSE, body, signature).map_err(|_| bad)?;
        Ok(SignedAd { ad: self.ad, bytes: self.bytes })
    }
}

/// An ad proven to be its author's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAd {
    ad: Ad,
    bytes: Vec<u8>,
}

impl SignedAd {
    /// Signs `ad` as its author; `ad.node` becomes the seed's node.
    ///
    /// # Errors
    /// [`AdError::Field`] and [`AdError::TooLong`]: what receivers would refuse.
    pub fn sign(seed: &NodeSeed, mut ad: Ad) -> Result<Self, AdError> {
        ad.node = seed.node_id();
        ad.check()?;
        let body = postcard::to_allocvec(&ad).map_err(|error| AdError::Malformed(error.to_string()))?;
        let bytes = [seed.sign_chatter(AD_PURPOSE, &body).as_slice(), &body].concat();
        if bytes.len() > AD_LEN_MAX {
            return Err(AdError::TooLong { got: bytes.len(), max: AD_LEN_MAX });
        }
        Ok(Self { ad, bytes })
    }

    /// Reads and checks everything: [`ClaimedAd::decode`], then [`ClaimedAd::verify`].
    ///
    /// # Errors
    /// [`AdError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AdError> {
        ClaimedAd::decode(bytes)?.verify()
    }

    /// The wire format.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    #[must_use]
    pub fn ad(&self) -> &Ad {
        &self.ad
    }
}

/// Reads a list of at most `MAX` entries. The declared length is compared first, and memory is taken as entries arrive: serde's
/// own reading would reserve up to a megabyte on the word of the sender.
fn bounded<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            if let Some(declared) = entries.size_hint().filter(|&declared| declared > MAX) {
                return Err(A::Error::invalid_length(declared, &self));
            }
            let mut list = Vec::new();
            while let Some(entry) = entries.next_element()? {
                if list.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                list.push(entry);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, MAX>(PhantomData))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A plain ad of a test node.
    pub(crate) fn ad(incarnation: u64, seq: u64) -> Ad {
        Ad {
            node: NodeId::ZERO,
            account: Address([3; 20]),
            incarnation,
            seq,
            ttl_s: 10,
            client_addr: "127.0.0.1:4001".parse().unwrap(),
            bulk_addr: "[::1]:4002".parse().unwrap(),
            overlay_addrs: vec!["/ip4/127.0.0.1/udp/4003/quic-v1".into()],
            site: AdSite { region: Some(*b"DE"), network: None },
            services: Services::INFERENCE.with(Services::STORAGE),
            bases: vec![asset(1)],
            adapters: vec![asset(2), asset(3)],
            profile: Some(Profile::Exact),
            rin: Amount(2_000),
            rout: Amount(6_000),
            queue: 1,
            ttft_ms: 40,
            tokens_per_s: 200,
            leaving: false,
        }
    }

    fn asset(number: u64) -> AdAsset {
        AdAsset { asset: AssetId(number), version: 1, hash: Hash32([7; 32]) }
    }

    /// The node of a test, by one byte.
    pub(crate) fn seed(byte: u8) -> NodeSeed {
        NodeSeed::new([byte; 32])
    }

    #[test]
    fn an_ad_is_read_back_as_signed() {
        let signed = SignedAd::sign(&seed(1), ad(1, 1)).unwrap();
        assert_eq!(signed.ad().node, seed(1).node_id());
        assert_eq!(SignedAd::decode(signed.bytes()), Ok(signed.clone()));
        assert!(signed.bytes().len() < 400, "{} bytes", signed.bytes().len());
    }

    #[test]
    fn the_largest_ad_fits_its_limit() {
        let assets = |count: usize| (0..count).map(|number| asset(u64::MAX - number as u64)).collect::<Vec<_>>();
        let mut largest = ad(u64::MAX, u64::MAX);
        largest.bases = assets(BASES_MAX);
        largest.adapters = assets(ADAPTERS_MAX);
        largest.overlay_addrs = vec!["x".repeat(OVERLAY_ADDR_LEN_MAX); OVERLAY_ADDRS_MAX];
        largest.rin = Amount(u128::MAX);
        let signed = SignedAd::sign(&seed(1), largest).unwrap();
        assert_eq!(SignedAd::decode(signed.bytes()), Ok(signed));
    }

    #[test]
    fn a_field_out_of_range_is_named_by_both_sides() {
        type Spoil = fn(&mut Ad);
        let cases: [(&str, Spoil); 6] = [
            ("ttl_s", |ad| ad.ttl_s = 0),
            ("ttl_s", |ad| ad.ttl_s = TTL_MAX_S + 1),
            ("adapters", |ad| ad.adapters = vec![asset(1); ADAPTERS_MAX + 1]),
            ("bases", |ad| ad.bases = vec![asset(1); BASES_MAX + 1]),
            ("overlay_addrs", |ad| ad.overlay_addrs = vec!["x".repeat(OVERLAY_ADDR_LEN_MAX + 1)]),
            ("services", |ad| ad.services = Services(16)),
        ];
        for (name, spoil) in cases {
            let mut spoilt = ad(1, 1);
            spoil(&mut spoilt);
            let Err(AdError::Field { field, .. }) = SignedAd::sign(&seed(1), spoilt.clone()) else { panic!("{name} was signed") };
            assert_eq!(field, name);
            let wire = [vec![0; SIGNATURE_LEN], postcard::to_allocvec(&spoilt).unwrap()].concat();
            assert!(ClaimedAd::decode(&wire).is_err(), "{name} was read");
        }
    }

    #[test]
    fn a_changed_byte_is_refused() {
        let signed = SignedAd::sign(&seed(1), ad(1, 1)).unwrap();
        for place in 0..signed.bytes().len() {
            let mut bent = signed.bytes().to_vec();
            bent[place] ^= 1;
            assert!(SignedAd::decode(&bent).is_err(), "byte {place} changed unnoticed");
        }
        let longer = [signed.bytes(), &[0]].concat();
        assert!(matches!(SignedAd::decode(&longer), Err(AdError::Malformed(_))));
    }

    #[test]
    fn a_declared_count_above_the_limit_is_refused_before_it_is_read() {
        let mut bytes = &[0xff, 0xff, 0xff, 0xff, 0x0f][..];
        let mut deserializer = postcard::Deserializer::from_bytes(bytes);
        let read = bounded::<_, u64, 16>(&mut deserializer);
        assert!(read.is_err());
        bytes = &[16];
        let mut deserializer = postcard::Deserializer::from_bytes(bytes);
        assert!(bounded::<_, u64, 16>(&mut deserializer).is_err(), "16 declared, none sent");
        // 17 declared, and bytes that are no number: what is wrong is the count, before any entry is looked at.
        let mut sent = [0xff; 18];
        sent[0] = 17;
        let mut deserializer = postcard::Deserializer::from_bytes(&sent);
        assert_eq!(bounded::<_, u64, 16>(&mut deserializer), Err(postcard::Error::SerdeDeCustom));
    }

    #[test]
    fn a_list_that_declares_no_count_ends_at_the_limit() {
        let read = |count: u64| {
            let uncounted = (0..count).filter(|_| true);
            bounded::<_, u64, 16>(serde::de::value::SeqDeserializer::<_, serde::de::value::Error>::new(uncounted))
        };
        assert_eq!(read(16).map(|list| list.len()), Ok(16));
        assert!(read(17).is_err());
    }

    #[test]
    fn bytes_longer_than_any_ad_are_refused_by_their_length() {
        let too_long = Err(AdError::TooLong { got: AD_LEN_MAX + 1, max: AD_LEN_MAX });
        assert_eq!(ClaimedAd::decode(&[0; AD_LEN_MAX + 1]), too_long);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _refused = SignedAd::decode(&bytes);
        }

        #[test]
        fn truncated_and_bent_ads_never_panic(cut in 0usize..400, place in 0usize..400, with: u8) {
            let mut bytes = SignedAd::sign(&seed(1), ad(1, 1)).unwrap().bytes().to_vec();
            if let Some(byte) = bytes.get_mut(place) {
                *byte = with;
            }
            bytes.truncate(cut);
            let _refused = SignedAd::decode(&bytes);
        }

        #[test]
        fn every_allowed_ad_is_read_back(
            incarnation: u64, seq: u64, ttl_s in 1..=TTL_MAX_S, services in 0u8..16, rin: u128, rout: u128,
            queue: u16, ttft_ms: u32, tokens_per_s: u16, leaving: bool,
            adapters in prop::collection::vec((any::<u64>(), any::<u32>(), any::<[u8; 32]>()), 0..20),
            profile in prop::option::of(prop::sample::select(Profile::ALL.to_vec())),
        ) {
            let adapters = adapters.into_iter()
                .map(|(asset, version, hash)| AdAsset { asset: AssetId(asset), version, hash: Hash32(hash) }).collect();
            let services = Services(services);
            let (rin, rout) = (Amount(rin), Amount(rout));
            let ad = Ad { ttl_s, services, adapters, profile, rin, rout, queue, ttft_ms, tokens_per_s, leaving, ..ad(incarnation, seq) };
            let signed = SignedAd::sign(&seed(1), ad).unwrap();
            prop_assert_eq!(SignedAd::decode(signed.bytes()), Ok(signed));
        }
    }
}
