//! Contributions as this machine has them: read from the data folder, fetched from their holders when missing.
//!
//! A shard is believed only after its text root was derived from its rows; what another place wrote under the right name is fetched anew.
//! Kept on disk as one file per contribution, written whole or not at all, as many as [`Copies`] lets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use chain_bridge::registry::{State, state::Accepted};
use p2p::{
    bulk::BulkEndpoint,
    overlay::{OverlayError, OverlayHandle},
    proto::ads::{Ad, Services},
};
use serde::Serialize;
use storage::{
    datanet::{
        Document, Place, contribution_text,
        shard::{self, Shard},
    },
    erasure::OBJECT_BYTES_MAX,
    proto::fetch::{Evidence, FetchError},
};
use tokio::sync::Mutex;
use types::id::{AssetVersion, BlobId, Hash32, NodeId};

use super::{
    copies::{self, Copies, Elsewhere, Making},
    erased, fetching,
    keeping::{self, Word, look},
    seals,
};
use crate::{
    config::Keeping,
    data::{DataDir, read_bounded, write_atomic},
};

/// How long ads of storage nodes are awaited before a fetch.
const ADS_WAIT: Duration = Duration::from_secs(15);
/// Times a fetch is tried: holders may be starting, and their ads on the way.
const ATTEMPTS: u32 = 3;
/// Wait between two of them.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A contribution with its text.
#[derive(Debug, Clone)]
pub struct LocalContribution {
    /// What the registry says of it.
    pub accepted: Accepted,
    /// Its documents, in order.
    pub documents: Vec<Document>,
    /// Its text: each document and a zero byte.
    pub text: Vec<u8>,
    /// Salt of its leaves, if the Datanet is private.
    pub text_salt: Option<Hash32>,
}

impl LocalContribution {
    fn of(accepted: &Accepted, shard: Shard) -> Self {
        let (text_salt, documents) = (shard.text_salt(), shard.into_documents());
        let text = contribution_text(&documents).into_bytes();
        Self { accepted: accepted.clone(), documents, text, text_salt }
    }
}

/// Where a contribution came from.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Origin {
    /// Bytes of good fragments by holder; empty if the shard was here.
    pub holders: BTreeMap<NodeId, u64>,
    /// Holders that sent wrong bytes, in words.
    pub blamed: Vec<String>,
}

/// The contributions of this machine.
#[derive(Debug)]
pub struct Shards {
    data: DataDir,
    overlay: OverlayHandle,
    bulk: Arc<BulkEndpoint>,
    copies: Copies,
    /// Whom a node asks before it gives a copy up; a command gives none up.
    elsewhere: Option<Elsewhere>,
    /// One fetch at a time: the next caller finds the file.
    fetching: Mutex<()>,
}

/// Reads a contribution from the data folder; nothing if it is not there.
///
/// # Errors
/// That the file cannot be read, or is not the registered contribution.
pub fn local(data: &DataDir, accepted: &Accepted) -> anyhow::Result<Option<LocalContribution>> {
    Ok(on_disk(data, accepted)?.map(|shard| LocalContribution::of(accepted, shard)))
}

/// The same, opened and no more.
fn on_disk(data: &DataDir, accepted: &Accepted) -> anyhow::Result<Option<Shard>> {
    let path = data.shard(accepted.text_root);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_bounded(&path, OBJECT_BYTES_MAX as u64)?;
    Ok(Some(open(data, accepted, &bytes).with_context(|| format!("{}", path.display()))?))
}

/// All contributions of a Datanet version from the data folder, in priority order.
///
/// # Errors
/// [`erased::Erased`]; that one is missing, with the command that fetches it, or damaged.
pub fn local_all(data: &DataDir, state: &State, version: AssetVersion) -> anyhow::Result<Vec<LocalContribution>> {
    erased::check(state, version)?;
    let one = |accepted: &Accepted| {
        let missing = || {
            format!("contribution {} of Datanet {version} is not here: run `tributary datanet fetch {}`", accepted.number, version.asset)
        };
        local(data, accepted)?.with_context(missing)
    };
    state.contributions_of(version).map(one).collect()
}

/// Opens a shard that must be the registered contribution; a sealed one with the keys of this folder's node.
fn open(data: &DataDir, accepted: &Accepted, bytes: &[u8]) -> anyhow::Result<Shard> {
    if seals::is_sealed(bytes) {
        let place = Place { block: accepted.priority.block, ordinal: accepted.priority.ordinal };
        return seals::open(data, accepted.datanet, place, accepted.text_root, bytes);
    }
    Ok(shard::decode_as(accepted.text_root, bytes)?)
}

/// Keeps a shard under its text root.
///
/// # Errors
/// What the disk says.
pub fn keep(data: &DataDir, text_root: Hash32, bytes: &[u8]) -> anyhow::Result<()> {
    let path = data.shard(text_root);
    write_atomic(&path, bytes, 0o644).with_context(|| format!("{}", path.display()))
}

impl Shards {
    /// The contributions in `data`; missing ones come by `bulk` from nodes that `overlay` knows.
    pub fn new(data: DataDir, overlay: OverlayHandle, bulk: Arc<BulkEndpoint>, copies: Copies) -> Self {
        Self { data, overlay, bulk, copies, elsewhere: None, fetching: Mutex::new(()) }
    }

    /// Those of a node, which gives up what can be had elsewhere.
    pub fn of_node(data: DataDir, keeping: &Keeping, elsewhere: Elsewhere) -> Self {
        let (overlay, bulk) = (elsewhere.overlay.clone(), Arc::clone(&elsewhere.bulk));
        Self { elsewhere: Some(elsewhere), ..Self::new(data, overlay, bulk, Copies::of_node(keeping)) }
    }

    /// What may be kept here.
    pub const fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Keeps a shard whose text root was derived from its rows, in the place of others if there is no room.
    ///
    /// # Errors
    /// That there is no room, or what the disk says.
    pub async fn keep(&self, text_root: Hash32, bytes: Vec<u8>) -> anyhow::Result<()> {
        let _turn = self.fetching.lock().await;
        self.make_room(bytes.len() as u64).await?;
        let data = self.data.clone();
        tokio::task::spawn_blocking(move || keep(&data, text_root, &bytes)).await?
    }

    /// Gives up copies that can be had elsewhere until `need` more bytes fit.
    async fn make_room(&self, need: u64) -> anyhow::Result<()> {
        let (data, copies) = (self.data.clone(), self.copies);
        if tokio::task::spawn_blocking(move || copies.fits(&data, need)).await?? {
            return self.give_up(Vec::new(), need).await;
        }
        let settled = match &self.elsewhere {
            Some(elsewhere) => {
                let (finalized, latest) = {
                    let snapshot = elsewhere.snapshots.borrow();
                    (Arc::clone(&snapshot.finalized), Arc::clone(&snapshot.latest))
                };
                let mut settled = tokio::task::spawn_blocking(move || copies.settled(&finalized, &latest)).await?;
                settled.retain(|_, objects| !objects.iter().any(|object| elsewhere.is_scarce(*object)));
                settled
            }
            None => copies::Settled::new(),
        };
        let (data, texts) = (self.data.clone(), settled.keys().copied().collect::<BTreeSet<_>>());
        let making = tokio::task::spawn_blocking(move || copies.begin(&data, need, |text_root| texts.contains(&text_root)));
        let mut making: Making = making.await??;
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.choose(&mut making, &settled).await;
        }
        self.give_up(making.end()?, need).await
    }

    async fn give_up(&self, gone: Vec<Hash32>, need: u64) -> anyhow::Result<()> {
        let (data, copies) = (self.data.clone(), self.copies);
        tokio::task::spawn_blocking(move || copies.finish(&data, &gone, need)).await?
    }

    /// The contributions of a Datanet version in priority order; missing ones are fetched.
    ///
    /// # Errors
    /// [`erased::Erased`]; that one cannot be had, with each holder's reason.
    pub async fn ensure(&self, state: &State, version: AssetVersion) -> anyhow::Result<Vec<LocalContribution>> {
        erased::check(state, version)?;
        let mut all = Vec::new();
        for accepted in state.contributions_of(version) {
            all.push(self.contribution(state, accepted).await?.0);
        }
        Ok(all)
    }

    /// One contribution, and where it came from.
    ///
    /// # Errors
    /// As [`Shards::ensure`].
    pub async fn contribution(&self, state: &State, accepted: &Accepted) -> anyhow::Result<(LocalContribution, Origin)> {
        let (shard, origin) = self.shard(state, accepted).await?;
        let accepted = accepted.clone();
        let local = tokio::task::spawn_blocking(move || LocalContribution::of(&accepted, shard));
        Ok((local.await?, origin))
    }

    /// The shard of one contribution, opened, and where it came from.
    ///
    /// # Errors
    /// As [`Shards::ensure`].
    pub async fn shard(&self, state: &State, accepted: &Accepted) -> anyhow::Result<(Shard, Origin)> {
        let _turn = self.fetching.lock().await;
        self.copies.may_keep(state, accepted.datanet)?;
        let (data, wanted) = (self.data.clone(), accepted.clone());
        let here = tokio::task::spawn_blocking(move || {
            let here = on_disk(&data, &wanted);
            if matches!(here, Ok(Some(_))) {
                copies::used(&data.shard(wanted.text_root));
            }
            here
        });
        match here.await? {
            Ok(Some(here)) => return Ok((here, Origin::default())),
            Ok(None) => {}
            Err(error) => tracing::warn!(error = format!("{error:#}"), "a shard on this disk is not what was registered: fetching it anew"),
        }
        self.fetch(state, accepted).await.with_context(|| format!("contribution {} of Datanet {}", accepted.number, accepted.datanet))
    }

    async fn fetch(&self, state: &State, accepted: &Accepted) -> anyhow::Result<(Shard, Origin)> {
        let (mut blamed, mut kept, mut holders_of) = (Vec::new(), None, BTreeMap::<NodeId, u64>::new());
        let (mut attempt, halves, mut named) = (1, self.data.fetching(), BTreeSet::new());
        let fetched = loop {
            let holders = self.holders(state, accepted.object, &named, attempt).await?;
            let outcome = fetching::fetch(&self.bulk, accepted.object, &holders, Some(&halves), kept.take()).await;
            blamed.extend(outcome.blamed.iter().map(Evidence::to_string));
            kept = outcome.kept;
            let received = outcome.result.as_ref().map_or(&outcome.received, |fetched| &fetched.received);
            for (holder, bytes) in received {
                *holders_of.entry(*holder).or_default() += bytes;
            }
            match outcome.result {
                Ok(fetched) => break fetched,
                Err(FetchError::Lied { error, proof }) => {
                    let holders = self.all_holders(state, accepted.object, holders, &outcome.received).await?;
                    let asked = holders.len();
                    let unmoved = keeping::show(&self.bulk, holders, &proof).await;
                    let reasons: String = unmoved.iter().map(|(node, reason)| format!("; not {node}: {reason}")).collect();
                    bail!(
                        "{error}; the object is void, and {} of {asked} nodes that store were shown the proof and keep nothing of it{reasons}",
                        asked - unmoved.len()
                    );
                }
                Err(error) if attempt < ATTEMPTS => {
                    tracing::info!(%error, attempt, "trying again");
                    attempt += 1;
                    // Of many operators the first who were asked may hold little: one of those who do knows the others.
                    let known = holders.iter().find(|(node, _)| outcome.received.contains_key(node));
                    if let Some((node, addr)) = known {
                        named = self.named(state, accepted.object, *node, *addr).await;
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(error) if blamed.is_empty() => return Err(error.into()),
                Err(error) => bail!("{error}; {}", blamed.join("; ")),
            }
        };
        let (data, accepted) = (self.data.clone(), accepted.clone());
        let (text_root, bytes_len) = (accepted.text_root, fetched.bytes.len() as u64);
        let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let shard = open(&data, &accepted, &fetched.bytes).with_context(|| format!("object {} from its holders", accepted.object))?;
            Ok((shard, data, fetched.bytes))
        });
        let (shard, data, bytes) = opened.await??;
        // What is not the contribution costs nobody's copy.
        self.make_room(bytes_len).await?;
        tokio::task::spawn_blocking(move || keep(&data, text_root, &bytes)).await??;
        Ok((shard, Origin { holders: holders_of, blamed }))
    }

    /// Storage nodes heard of, once an operator with stake is among them; without one in time, whoever was heard of.
    async fn holders(
        &self,
        state: &State,
        object: BlobId,
        named: &BTreeSet<NodeId>,
        attempt: u32,
    ) -> anyhow::Result<Vec<(NodeId, SocketAddr)>> {
        let staked: BTreeSet<NodeId> = state.operators().filter(|operator| operator.active.0 > 0).map(|operator| operator.node).collect();
        // Theirs are the ads for which there is room, however many others there are.
        self.overlay.prefer(staked.iter().copied().collect()).await?;
        let is_storing = |ad: &Ad| ad.services.has(Services::STORAGE);
        let is_enough = |ads: &[Arc<p2p::proto::ads::SignedAd>]| {
            ads.iter().any(|signed| is_storing(signed.ad()) && (staked.is_empty() || staked.contains(&signed.ad().node)))
        };
        let ads = match self.overlay.wait_ads(is_enough, ADS_WAIT).await {
            Err(OverlayError::Timeout { .. }) => self.overlay.ads().await?,
            ads => ads?,
        };
        let storing = ads.iter().map(|signed| signed.ad()).filter(|ad| is_storing(ad));
        let mut holders = in_order(object, named, &staked, storing.map(|ad| (ad.node, ad.bulk_addr)));
        anyhow::ensure!(!holders.is_empty(), "no node that stores is known: give the --bootstrap address of a running node");
        if attempt < ATTEMPTS && holders.iter().any(|(node, _)| staked.contains(node)) {
            // A stranger that claims to hold everything may well be the first to answer: it is asked when operators did not suffice twice, the second
            // time with ads that were on their way.
            holders.retain(|(node, _)| staked.contains(node));
        }
        Ok(holders)
    }

    /// Those who were `asked`, and whoever else is named by the record of one that `sent` something: the few heard of first suffice to read, a proof is for all
    /// who hold.
    async fn all_holders(
        &self,
        state: &State,
        object: BlobId,
        asked: Vec<(NodeId, SocketAddr)>,
        sent: &BTreeMap<NodeId, u64>,
    ) -> anyhow::Result<Vec<(NodeId, SocketAddr)>> {
        let senders = asked.iter().filter(|(node, _)| sent.contains_key(node));
        let records = futures::future::join_all(senders.map(|(node, addr)| self.named(state, object, *node, *addr))).await;
        let named: BTreeSet<NodeId> = records.into_iter().flatten().collect();
        let are_heard =
            |ads: &[Arc<p2p::proto::ads::SignedAd>]| named.iter().all(|node| ads.iter().any(|signed| signed.ad().node == *node));
        match self.overlay.wait_ads(are_heard, ADS_WAIT).await {
            Ok(_) | Err(OverlayError::Timeout { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let mut holders: BTreeMap<_, _> = asked.into_iter().collect();
        let ads = self.overlay.ads().await?;
        holders.extend(ads.iter().map(|signed| signed.ad()).filter(|ad| named.contains(&ad.node)).map(|ad| (ad.node, ad.bulk_addr)));
        Ok(holders.into_iter().collect())
    }

    /// The operators that a holder's record of an object names. It only says whom to ask: what they send is checked, and so the record need not be.
    async fn named(&self, state: &State, object: BlobId, node: NodeId, addr: SocketAddr) -> BTreeSet<NodeId> {
        match look(&self.bulk, node, addr, object).await {
            Ok(Word { record: Some(record), .. }) => {
                let moved = record.handovers().map(|moved| moved.handover.to);
                let accounts = record.placement().holders.iter().copied().chain(moved);
                accounts.filter_map(|account| Some(state.operator(account)?.node)).collect()
            }
            Ok(Word { record: None, .. }) => BTreeSet::new(),
            Err(error) => {
                tracing::debug!(%node, error = format!("{error:#}"), "a holder does not say who else holds");
                BTreeSet::new()
            }
        }
    }
}

/// Candidates in the order in which they are asked: those that a holder named, then those with stake, since names cost nothing and a fetch asks few at once
/// ([`storage::proto::fetch::WAVE`]); else in an order that differs by object, so that no node is everybody's first.
fn in_order(
    object: BlobId,
    named: &BTreeSet<NodeId>,
    staked: &BTreeSet<NodeId>,
    storing: impl Iterator<Item = (NodeId, SocketAddr)>,
) -> Vec<(NodeId, SocketAddr)> {
    let mut holders: Vec<_> = storing.collect();
    holders.sort_by_key(|(node, _)| (!named.contains(node), !staked.contains(node), BlobId::of(&[object.0, node.0].concat())));
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_stake_are_asked_first_however_many_claim_to_hold_everything() {
        let named = |number: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            NodeId(bytes)
        };
        let at = SocketAddr::from(([127, 0, 0, 1], 1));
        let staked = BTreeSet::from([7, 900, 3_999].map(named));
        let ordered = |object: u8| -> Vec<NodeId> {
            let all = (0..4_096).map(|number| (named(number), at));
            in_order(BlobId([object; 32]), &BTreeSet::new(), &staked, all).into_iter().map(|(node, _)| node).collect()
        };
        let all = (0..4_096).map(|number| (named(number), at));
        assert_eq!(in_order(BlobId([1; 32]), &BTreeSet::from([named(900)]), &staked, all)[0].0, named(900), "whom a holder named");
        let (one, two) = (ordered(1), ordered(2));
        assert_eq!((one[..3].iter().copied().collect::<BTreeSet<_>>(), one.len()), (staked.clone(), 4_096));
        assert_eq!(two[..3].iter().copied().collect::<BTreeSet<_>>(), staked);
        assert_ne!(one, two, "another object, another first");
    }
}
