//! What answers to clients: their connections and streams, each handed to the service that its first byte names, and the ad that says what is answered.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use attribution::bundle::Bundle;
use inference::proto::message::{CLIENT_FRAME_MAX, FromClient, FromNode, REASONS_MAX, Refusal, RefusalCode, Status, encode};
use p2p::{
    client::{Connection, Server},
    overlay::OverlayHandle,
    proto::ads::{ADAPTERS_MAX, Ad, AdAsset, AdSite, Services},
    stream::FrameStream,
};
use tokio::{
    sync::{RwLock, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use types::{
    id::{Hash32, NodeId},
    manifest::AssetKind,
};

use super::{Addresses, STOP_WAIT, escrow::ChainEscrow, share::Shares};
use crate::{
    books::Books,
    chain::alarm_in,
    check,
    config::Config,
    metrics::Metrics,
    service::{
        GATE_TAG, INFERENCE_TAG, KEEPING_TAG, SETTLEMENT_TAG,
        gate::Gate,
        inference::{Answering, Offers},
        keeping::{Keeping, report::Reporting},
        settlement::Settling,
    },
};

/// How long a stream may take to send its first frame.
const FIRST_FRAME_WAIT: Duration = Duration::from_secs(10);
/// Streams served at once over all connections.
const STREAMS_MAX: usize = 256;
/// Seconds an ad counts; a dead node disappears from every table after it.
const AD_TTL_S: u16 = 12;

/// What answers to streams of clients.
pub(super) struct Front {
    pub(super) answering: Option<Answering<ChainEscrow>>,
    pub(super) checks: check::Checks,
    pub(super) gate: Gate,
    pub(super) settling: Arc<Settling>,
    pub(super) reporting: Reporting,
    pub(super) overlay: OverlayHandle,
    pub(super) waiting: watch::Receiver<Vec<String>>,
    pub(super) offers: Arc<RwLock<Offers>>,
    pub(super) books: Arc<Books>,
    /// Streams that talk of answers.
    pub(super) running: watch::Sender<u32>,
    pub(super) node: NodeId,
    pub(super) site: AdSite,
    pub(super) keeping: Arc<Keeping>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) started: Instant,
    /// No answer is begun any longer, and the ad says so.
    pub(super) is_leaving: AtomicBool,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("node", &self.node).field("running", &self.running).finish_non_exhaustive()
    }
}

/// One of those that are counted, until it is dropped: also by a panic, which would else hold up every stop.
struct Counted<'c>(&'c watch::Sender<u32>);

impl<'c> Counted<'c> {
    fn one(count: &'c watch::Sender<u32>) -> Self {
        count.send_modify(|count| *count = count.saturating_add(1));
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Serves connections until the node stops; answers under way are ended first.
pub(super) async fn accept(mut server: Server, front: Arc<Front>, stop: CancellationToken) {
    let streams = Shares::new(STREAMS_MAX);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            connection = server.accept() => match connection {
                Some(connection) => {
                    connections.spawn(serve_connection(connection, Arc::clone(&front), Arc::clone(&streams)));
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    front.leave();
    server.close(p2p::stream::code::SHUTDOWN).await;
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(connection: Connection, front: Arc<Front>, streams: Arc<Shares>) {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_stream() => {
                let Ok(mut stream) = stream else { break };
                let Some(place) = streams.take(connection.remote_addr().ip()) else {
                    stream.reset(p2p::stream::code::BUSY);
                    continue;
                };
                let (front, remote) = (Arc::clone(&front), connection.remote());
                serving.spawn(async move {
                    front.serve(remote, stream).await;
                    drop(place);
                });
            }
            Some(_) = serving.join_next() => {}
        }
    }
    // The peer is gone: its answers end by themselves at their next frame, with receipts for what was vouched.
    while serving.join_next().await.is_some() {}
}

impl Front {
    /// Begins no answer from here on. Those of clients that are gone end: nobody can come back for them.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
        if let Some(answering) = &self.answering {
            answering.seats.close();
        }
    }

    async fn serve(&self, remote: NodeId, mut stream: FrameStream) {
        let Ok(Ok(Some(mut frame))) = timeout(FIRST_FRAME_WAIT, stream.recv(CLIENT_FRAME_MAX)).await else { return };
        let Some(tag) = (!frame.is_empty()).then(|| frame.remove(0)) else { return };
        match tag {
            INFERENCE_TAG => self.inference(remote, stream, frame).await,
            GATE_TAG => self.gate.serve(remote, stream, frame).await,
            SETTLEMENT_TAG => self.settling.serve(remote, stream, &frame).await,
            KEEPING_TAG => self.reporting.serve(remote, stream, &frame).await,
            _ => stream.reset(p2p::stream::code::PROTOCOL),
        }
    }

    async fn inference(&self, remote: NodeId, mut stream: FrameStream, frame: Vec<u8>) {
        let reply = match FromClient::decode(&frame) {
            Ok(FromClient::Status) => self.status().await,
            Ok(FromClient::Check { bundle }) => self.check(remote, &bundle).await,
            _ => {
                let Some(answering) = &self.answering else {
                    let refusal = Refusal::new(RefusalCode::NotServed, "this node only stores: ask another one");
                    return reply_with(stream, &FromNode::Refused(refusal)).await;
                };
                let _counted = Counted::one(&self.running);
                return answering.serve(stream, frame).await;
            }
        };
        let message = reply.unwrap_or_else(|error| FromNode::Refused(Refusal::new(RefusalCode::Internal, format!("{error:#}"))));
        say(&mut stream, &message).await;
        linger(stream).await;
    }

    async fn status(&self) -> anyhow::Result<FromNode> {
        let (receipts, posted) = self.books.counts()?;
        let running = *self.running.borrow();
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        Ok(FromNode::Status(Status {
            node: self.node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            peers: count(self.overlay.peers().await?.len()),
            providers: count(self.overlay.ads().await?.len()),
            running,
            manifests: self.offers.read().await.keys().copied().collect(),
            waiting: self.why_waiting(),
            receipts,
            receipts_unposted: receipts.saturating_sub(posted),
            memory_bytes: resident_bytes()?,
            watches: self.settling.is_poster || self.settling.watches,
            watching: self.settling.watching(),
        }))
    }

    /// Why something is not served; an alarm comes first.
    pub(super) fn why_waiting(&self) -> Vec<String> {
        let settling = &self.settling;
        let alarm = alarm_in(&settling.snapshots.borrow(), settling.chain.rpc().url());
        alarm.iter().map(ToString::to_string).chain(self.waiting.borrow().iter().cloned()).take(REASONS_MAX).collect()
    }

    async fn check(&self, remote: NodeId, bundle: &str) -> anyhow::Result<FromNode> {
        let answering = self.answering.as_ref().context("this node has no model to check with")?;
        let state = Arc::clone(&answering.snapshots.borrow().latest);
        let _turn = match self.checks.admit(remote, &state) {
            Ok(turn) => turn,
            Err(refusal) => return Ok(FromNode::Refused(refusal)),
        };
        let bundle = Bundle::from_json(bundle.as_bytes())?;
        let report = check::check_bundle(answering, &bundle).await?;
        Ok(FromNode::Checked(report))
    }
}

async fn reply_with(mut stream: FrameStream, message: &FromNode) {
    say(&mut stream, message).await;
    linger(stream).await;
}

/// Sends the one reply; a peer that does not read it does not keep the stream.
async fn say(stream: &mut FrameStream, message: &FromNode) {
    let frame = encode(message);
    let sending = async {
        if stream.send(&frame).await.is_ok() {
            drop(stream.finish().await);
        }
    };
    drop(timeout(STOP_WAIT, sending).await);
}

/// Keeps a finished stream until the peer has read it.
async fn linger(stream: FrameStream) {
    let (mut sender, _receiver) = stream.split();
    drop(timeout(STOP_WAIT, sender.closed()).await);
}

/// Resident memory of this process, from the kernel's own count of pages.
pub(super) fn resident_bytes() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).context("/proc/self/statm has no second field")?.parse()?;
    Ok(pages * 4_096)
}

/// Keeps the signed ad true: at once when what is served changes, else as the overlay repeats it.
pub(super) async fn advertise(front: Arc<Front>, config: Config, addresses: Addresses) {
    let mut last = None;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        let ad = front.ad(&config, &addresses).await;
        if last.as_ref() != Some(&ad) {
            if let Err(error) = front.overlay.set_ad(ad.clone()).await {
                tracing::warn!(%error, "ad refused");
            }
            last = Some(ad);
        }
    }
}

impl Front {
    async fn ad(&self, config: &Config, addresses: &Addresses) -> Ad {
        let (mut bases, mut adapters) = (BTreeMap::new(), BTreeMap::new());
        for offer in self.offers.read().await.values() {
            for asset in &offer.manifest.assets {
                let place = AdAsset { asset: asset.version.asset, version: asset.version.version, hash: Hash32(asset.content.0) };
                match asset.kind {
                    AssetKind::Base => bases.insert(asset.version, place),
                    AssetKind::Adapter => adapters.insert(asset.version, place),
                    AssetKind::Agent | AssetKind::Datanet => None,
                };
            }
        }
        let mut services = Services::default();
        for (is_on, service) in [
            (!bases.is_empty(), Services::INFERENCE),
            (config.storage, Services::STORAGE),
            (config.storage && self.keeping.has_room(), Services::ROOM),
            (config.indexer, Services::INDEXER),
        ] {
            if is_on {
                services = services.with(service);
            }
        }
        let (ttft_ms, tokens_per_s) = self.answering.as_ref().map_or((0, 0), |answering| answering.speed.medians());
        Ad {
            node: self.node,
            account: addresses.account,
            incarnation: 0,
            seq: 0,
            ttl_s: AD_TTL_S,
            client_addr: addresses.clients,
            bulk_addr: addresses.bulk,
            overlay_addrs: Vec::new(),
            site: self.site,
            services,
            bases: bases.into_values().collect(),
            // One more would make the whole ad invalid, and the node invisible.
            adapters: adapters.into_values().take(ADAPTERS_MAX).collect(),
            profile: self.answering.as_ref().map(Answering::profile),
            rin: config.rate_in,
            rout: config.rate_out,
            queue: u16::try_from(*self.running.borrow()).unwrap_or(u16::MAX),
            ttft_ms,
            tokens_per_s,
            leaving: self.is_leaving.load(Ordering::Relaxed),
        }
    }
}
