//! A command's place among the nodes: the overlay to hear ads, a bulk endpoint to reach holders, both under a key of this run alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use chain_bridge::registry::State;
use p2p::{
    bulk::{BulkEndpoint, BulkLimits},
    client::{Client, Connection, Limits},
    identity::NodeSeed,
    overlay::{OverlayError, OverlayHandle},
    proto::ads::{Ad, Services, SignedAd},
};
use types::id::{Address, NodeId};

use super::Context;
use crate::{
    datanet::{
        keeping::suspended,
        placing::{self, Storers},
    },
    peers,
    service::settlement::loopback_any,
};

/// How long ads are awaited.
const ADS_WAIT: Duration = Duration::from_secs(15);
/// How long every registered operator's ad is awaited, so that contributor and holders see the same set.
const ALL_ADS_WAIT: Duration = Duration::from_secs(5);

/// How long it is awaited that a node which had no room for a fragment says so: an ad goes out within half a second of a change.
const FULL_WAIT: Duration = Duration::from_secs(4);

/// Most nodes without stake that are asked what they hold: names cost nothing, and there may be thousands.
const STRANGERS_MAX: usize = 96;

/// The network as a command uses it.
#[derive(Debug)]
pub(in crate::command) struct Network {
    pub(in crate::command) overlay: OverlayHandle,
    pub(in crate::command) bulk: Arc<BulkEndpoint>,
    /// Operators that were awaited once and did not come: a command asks for many objects, and waits for those who are away once.
    away: AtomicUsize,
}

/// Storage nodes and where they serve.
pub(in crate::command) type Storing = BTreeMap<NodeId, SocketAddr>;

impl Network {
    /// Joins through `bootstrap`, or through the configuration's addresses if there is none.
    pub(in crate::command) async fn join(context: &Context, bootstrap: &[String]) -> anyhow::Result<Self> {
        let mut config = context.config()?;
        if !bootstrap.is_empty() {
            config.bootstrap = bootstrap.to_vec();
        }
        let overlay = context.light_overlay(&config).await?;
        let bind = loopback_any(config.bulk);
        let bulk = Arc::new(BulkEndpoint::start(&NodeSeed::generate(), bind, &[], BulkLimits::default()).await?);
        peers::refuse(&context.data, &overlay, &bulk).await?;
        Ok(Self { overlay, bulk, away: AtomicUsize::new(0) })
    }

    /// Leaves in order.
    pub(in crate::command) async fn leave(self) {
        self.overlay.shutdown().await;
        self.bulk.close().await;
    }

    /// Registered operators that store, once at least `least` are heard of.
    pub(super) async fn operators(&self, state: &State, least: usize, chain_id: u64) -> anyhow::Result<Storers> {
        let heard = |ads: &[Arc<SignedAd>]| placing::storers(state, ads.iter().map(|signed| signed.ad()), chain_id);
        let staked = staked(state);
        // There is room for their ads, however many others there are.
        self.overlay.prefer(staked.iter().copied().collect()).await?;
        let staked = staked.len();
        // All of them if they come soon; those that do otherwise.
        let wanted = staked.saturating_sub(self.away.load(Ordering::Relaxed)).max(least);
        let all = self.overlay.wait_ads(|ads| heard(ads).len() >= wanted, ALL_ADS_WAIT).await;
        let waited = self.overlay.wait_ads(|ads| heard(ads).len() >= least, ADS_WAIT).await;
        let storers = heard(&self.overlay.ads().await?);
        if all.is_err() {
            self.away.store(staked.saturating_sub(storers.len()), Ordering::Relaxed);
        }
        if waited.is_err() {
            bail!(
                "{} registered operators that store are heard of, {least} are needed ({staked} are staked): start more nodes or give another --bootstrap",
                storers.len()
            );
        }
        Ok(storers)
    }

    /// Of them those that are given no fragments, since the others' books of audits have suspended them.
    pub(super) async fn suspended(&self, storers: &Storers) -> anyhow::Result<BTreeSet<Address>> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).context("randomness")?;
        suspended(&self.bulk, storers, u64::from_be_bytes(seed)).await
    }

    /// Of them those that may be given fragments.
    pub(super) async fn fit(&self, mut storers: Storers) -> anyhow::Result<Storers> {
        let suspended = self.suspended(&storers).await?;
        storers.retain(|operator, _| !suspended.contains(operator));
        Ok(storers)
    }

    /// Waits until nodes that had no room say so in their ads, which others hear too; not long, since one that never does may be passed over all the same.
    pub(super) async fn hears_full(&self, full: &BTreeSet<NodeId>) -> anyhow::Result<()> {
        let is_said = |ads: &[Arc<SignedAd>]| {
            !ads.iter().map(|signed| signed.ad()).any(|ad| full.contains(&ad.node) && ad.services.has(Services::ROOM))
        };
        match self.overlay.wait_ads(is_said, FULL_WAIT).await {
            Ok(_) | Err(OverlayError::Timeout { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Nodes that store and where they serve, once a registered one is heard of: all that have stake, and of the others [`STRANGERS_MAX`].
    pub(in crate::command) async fn storing(&self, state: &State, chain_id: u64) -> anyhow::Result<Storing> {
        self.operators(state, 1, chain_id).await?;
        Ok(storing(&self.overlay.ads().await?, &staked(state)))
    }

    /// The live ad of a node.
    pub(super) async fn ad_of(&self, node: NodeId) -> anyhow::Result<Ad> {
        let has = |ads: &[Arc<SignedAd>]| ads.iter().any(|signed| signed.ad().node == node);
        let ads = self.overlay.wait_ads(has, ADS_WAIT).await.with_context(|| format!("node {node} is not heard of: it must be running"))?;
        let ad = ads.iter().map(|signed| signed.ad()).find(|ad| ad.node == node);
        ad.cloned().context("an ad that was there is gone")
    }

    /// A connection to the gate of `owner`'s Datanets, as this folder's node if it has one: members of private Datanets are known by theirs.
    pub(super) async fn dial_gate(&self, context: &Context, state: &State, owner: Address) -> anyhow::Result<(Client, Connection)> {
        let gate = state.operator(owner).with_context(|| {
            format!("{owner}, who owns the Datanet, runs no registered node: nobody can look at contributions or let members read")
        })?;
        let shown = || format!("the gate, node {} of {owner}", gate.node);
        let ad = self.ad_of(gate.node).await.with_context(shown)?;
        let seed = if context.data.has(&context.data.seed())? { context.seed()? } else { NodeSeed::generate() };
        let client = Client::bind(loopback_any(ad.client_addr), &seed, Limits::default())?;
        let connection = client.connect(ad.client_addr, Some(ad.node)).await.with_context(shown)?;
        Ok((client, connection))
    }
}

/// Nodes of operators with stake.
pub(super) fn staked(state: &State) -> BTreeSet<NodeId> {
    state.operators().filter(|operator| operator.active.0 > 0).map(|operator| operator.node).collect()
}

fn storing(ads: &[Arc<SignedAd>], staked: &BTreeSet<NodeId>) -> Storing {
    let storing = ads.iter().map(|signed| signed.ad()).filter(|ad| ad.services.has(Services::STORAGE));
    let (known, strangers): (Vec<_>, Vec<_>) = storing.map(|ad| (ad.node, ad.bulk_addr)).partition(|(node, _)| staked.contains(node));
    known.into_iter().chain(strangers.into_iter().take(STRANGERS_MAX)).collect()
}
