//! A running node: what is opened in which order, which task does what, and how all of it ends.
//!
//! Order: folder lock, keys, chain, store, engine, sockets, services. Each later part can fail without leaving the earlier ones half-used; on the
//! way down the ad says `leaving` first, then streams are given `STOP_WAIT` to end.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU32, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use attribution::bundle::Bundle;
use chain_bridge::{
    availability::Calldata,
    chain::{Certainty, error::ChainError},
    client::ChainClient,
    deploy::check_pace,
    lanes::SessionRight,
    registry::money::Session,
};
use inference::{
    engine::{EngineConfig, EngineHandle},
    proto::message::{CLIENT_FRAME_MAX, FromClient, FromNode, Refusal, RefusalCode, Status, encode},
};
use p2p::{
    client::{Connection, Limits, Server},
    identity::NodeSeed,
    overlay::{Multiaddr, Overlay, OverlayConfig, OverlayHandle},
    proto::ads::{ADAPTERS_MAX, Ad, AdAsset, AdSite, Services},
    stream::FrameStream,
};
use serde::{Deserialize, Serialize};
use storage::{
    proto::{
        placement::Region,
        provide::{Pace, Room},
    },
    store::Store,
};
use tokio::{
    sync::{RwLock, Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use types::{
    amount::Amount,
    id::{Address, BlobId, Hash32, NodeId},
    manifest::AssetKind,
};

use crate::{
    books::Books,
    chain::{Chained, Snapshots, alarm_in},
    check,
    command::Context,
    config::{Availability, Config},
    data::{DataDir, DataLock, read_bounded, write_atomic},
    datanet::{Shards, copies::Copies, placing::DEVELOPMENT_CHAIN, seeds::Seeds},
    payouts::Payouts,
    peers,
    service::{
        GATE_TAG, INFERENCE_TAG, KEEPING_TAG, SETTLEMENT_TAG,
        adapters::Fetching,
        auditing::Auditing,
        erasing::Erasing,
        gate::{self, Gate},
        index::Indexing,
        inference::{Answering, Escrow, Ledger, Offers},
        keeping::{Keeping, NOTICES_MAX, report::Reporting},
        repair::{Mending, QUESTIONS_MAX},
        settlement::{Settling, own::OwnRoots, trees::Trees},
        storage::Serving as StorageService,
        upkeep::{self, Upkeep},
    },
};

/// How long streams may take to end at a stop.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How long a stream may take to send its first frame.
const FIRST_FRAME_WAIT: Duration = Duration::from_secs(10);
/// Streams served at once over all connections.
const STREAMS_MAX: usize = 256;
/// Seconds an ad counts; a dead node disappears from every table after it.
const AD_TTL_S: u16 = 12;
/// How often the adapters folder is looked at for new arrivals.
const RESCAN: Duration = Duration::from_secs(3);

/// Largest `run.json` read.
const ADDRESSES_BYTES_MAX: u64 = 64 << 10;

/// Where a running node can be reached, written to `run.json` for the commands of its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// Process id.
    pub pid: u32,
    /// The node.
    pub node: NodeId,
    /// Its account.
    pub account: Address,
    /// Overlay addresses: what others are given as bootstrap.
    pub overlay: Vec<String>,
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where nodes fetch bulk data.
    pub bulk: SocketAddr,
}

impl Addresses {
    /// The file in a data folder.
    pub fn path(data: &DataDir) -> PathBuf {
        data.path().join("run.json")
    }

    /// Reads where the node of a data folder is reached.
    pub fn read(data: &DataDir) -> anyhow::Result<Self> {
        let path = Self::path(data);
        let bytes = read_bounded(&path, ADDRESSES_BYTES_MAX)
            .with_context(|| format!("{}: no node runs with this folder; start it with `tributary run`", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: restart the node, which writes it anew", path.display()))
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Where it is reached.
    pub addresses: Addresses,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    overlay: OverlayHandle,
    data: DataDir,
    _chain: Chained,
    _lock: DataLock,
}

/// What answers to streams of clients.
struct Front {
    answering: Option<Answering<ChainEscrow>>,
    checks: check::Checks,
    gate: Gate,
    settling: Arc<Settling>,
    reporting: Reporting,
    overlay: OverlayHandle,
    waiting: watch::Receiver<Vec<String>>,
    offers: Arc<RwLock<Offers>>,
    books: Arc<Books>,
    running: AtomicU32,
    node: NodeId,
    site: AdSite,
    keeping: Arc<Keeping>,
    started: Instant,
}

/// Deposits by the books that follow the chain, and by the chain itself where the books show too little: an answer whose deposit is known waits for
/// no question.
///
/// A deposit counts as far as the safe block has it, since that is replaced only if the L1 is; beyond, the latest block's counts up to what the node is
/// willing to lose to one client. So whoever deposits can ask at once for a little, and a reorganisation of the sequencer costs no more than that.
/// What is asked back counts no more from the latest block on. A session key counts from the safe block on alone.
#[derive(Debug)]
pub struct ChainEscrow {
    client: ChainClient,
    snapshots: Snapshots,
    /// What one client may cost, in wei.
    willing: Amount,
}

/// What counts of a deposit of `latest` wei, of which `certain` will stay.
fn counted(latest: Amount, certain: Amount, willing: Amount) -> Amount {
    latest.min(Amount(certain.0.saturating_add(willing.0)))
}

impl Escrow for ChainEscrow {
    async fn free_balance(&self, payer: Address, enough: Amount) -> anyhow::Result<Amount> {
        let known = {
            let snapshot = self.snapshots.borrow();
            let free = || counted(snapshot.latest.free(payer), snapshot.finalized.free(payer), self.willing);
            snapshot.problem.is_none().then(free)
        };
        if let Some(free) = known.filter(|free| *free >= enough) {
            return Ok(free);
        }
        let safe = match self.client.at(Certainty::Safe).free_balance(payer).await {
            // The escrow itself is younger than the safe block.
            Err(ChainError::NoCode { .. }) => Amount::ZERO,
            other => other?,
        };
        Ok(counted(self.client.free_balance(payer).await?, safe, self.willing))
    }

    async fn session(&self, payer: Address, signer: Address) -> anyhow::Result<Option<SessionRight>> {
        // The books know what was authorised, the chain alone what was collected by the key's signature.
        let Some(latest) = self.client.session_of(payer, signer).await? else { return Ok(None) };
        let is_known = |known: Session| (known.cap, known.expiry, known.revoked_at) == (latest.cap, latest.expiry, latest.revoked_at);
        if self.snapshots.borrow().finalized.session(payer, signer).is_some_and(is_known) {
            return Ok(Some(latest));
        }
        let safe = match self.client.at(Certainty::Safe).session_of(payer, signer).await {
            // The escrow itself is younger than the safe block.
            Err(ChainError::NoCode { .. }) => None,
            other => other?,
        };
        let safe = safe.with_context(|| format!("{signer} was authorised in a block that may still be replaced: ask again in a moment"))?;
        Ok(Some(certain_right(latest, safe)))
    }
}

/// What of a session key's right stays whatever becomes of the blocks behind the safe one. A request that the key signed must be shown to the chain when it is asked for
/// (F6), and is none there if the key was never authorised: so, unlike a deposit, nothing of it counts before.
fn certain_right(latest: SessionRight, safe: SessionRight) -> SessionRight {
    let revoked_at = [latest.revoked_at, safe.revoked_at].into_iter().flatten().min();
    SessionRight { cap: latest.cap.min(safe.cap), spent: latest.spent.max(safe.spent), expiry: latest.expiry.min(safe.expiry), revoked_at }
}

impl Node {
    /// Opens everything and starts the services.
    pub async fn start(context: &Context) -> anyhow::Result<Self> {
        let config = context.config()?;
        let data = context.data.clone();
        let seed = context.seed()?;
        let lock = data.lock()?;
        let account = context.account()?;
        let deployment = context.deployment()?;
        let chained = Chained::open_in(&data, &config.rpc, deployment.clone(), Some(account.clone())).await?;
        check_pace(&deployment.config, &chained.client.heads().await?)?;
        ensure!(
            config.keeping.network.is_none() || deployment.chain_id == DEVELOPMENT_CHAIN,
            "keeping.network in the configuration is for development chains (id {DEVELOPMENT_CHAIN}), this chain has id {}: remove it; a node counts where its own address is",
            deployment.chain_id
        );
        // With an alarm the node runs, to say so; nothing of its money moves.
        if chained.alarm().is_none() {
            if let (_, Some(error)) = chained.keep_outbox(&data.outbox(true)).await? {
                tracing::warn!(%error, "a transaction of an earlier process was not finished");
            }
            chained.state().await?;
        }
        let (chain, snapshots) = (chained.client.clone(), chained.snapshots());
        let store = Store::open(&data.store(), config.keeping.store.clone()).with_context(|| format!("{}", data.store().display()))?;
        let books = Arc::new(Books::new(store.records()));
        let incarnation = books.next_incarnation()?;
        let engine = start_engine(&config).await?;
        let overlay = start_overlay(&config, &seed, incarnation, peers::remembered(&data)).await?;
        let server = Server::bind(config.clients, &seed, Limits::default())?;
        let storage = StorageService::bind(config.bulk, &seed, data.clone()).await?;
        peers::refuse(&data, &overlay, &storage.endpoint()).await?;
        let site = AdSite { region: config.keeping.region.map(Region::letters), network: config.keeping.network };
        let (notices, noticed) = mpsc::channel(NOTICES_MAX);
        let room = std::sync::RwLock::new(Room::new(config.keeping.room_bytes, store.free_bytes()?));
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let keeping = Arc::new(Keeping {
            store,
            snapshots: snapshots.clone(),
            overlay: overlay.clone(),
            chain: chain.clone(),
            bulk: storage.endpoint(),
            account: account.clone(),
            seed: seed.clone(),
            site,
            epoch_blocks: config.keeping.epoch_blocks,
            seeds: Seeds::new(chain.clone(), snapshots.clone(), config.keeping.epoch_blocks),
            room,
            audit_roll: config.keeping.audit_roll,
            open_cases: config.keeping.open_cases,
            is_storing: config.storage,
            notices,
            unfit: std::sync::RwLock::default(),
            turn: tokio::sync::Mutex::new(()),
            proofs: Semaphore::new(1),
        });
        let upkeep = Arc::<upkeep::View>::default();
        let auditing = Auditing::new(Arc::clone(&keeping), data.clone())?;
        let addresses = Addresses {
            pid: std::process::id(),
            node: seed.node_id(),
            account: account.address(),
            overlay: overlay.listen_addrs().iter().map(ToString::to_string).collect(),
            clients: server.local_addr()?,
            bulk: storage.local_addr(),
        };
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let shards = Arc::new(Shards::new(data.clone(), overlay.clone(), storage.endpoint(), Copies::of_node(&config.keeping)));
        let offers = Arc::new(RwLock::new(Offers::new()));
        let (waiting_sender, waiting) = watch::channel(vec!["the node is starting".to_owned()]);
        if let Some(engine) = &engine {
            let indexing = Indexing {
                data: data.clone(),
                engine: engine.clone(),
                shards: Arc::clone(&shards),
                chain: chain.clone(),
                is_indexer: config.indexer,
                offers: Arc::clone(&offers),
                waiting: waiting_sender,
            };
            if config.adapters_max > 0 {
                let fetching = Fetching {
                    data: data.clone(),
                    base: BlobId(engine.info().hash),
                    adapters_max: config.adapters_max,
                    overlay: overlay.clone(),
                    bulk: storage.endpoint(),
                    snapshots: snapshots.clone(),
                };
                spawn(&mut tasks, &stop, fetching.run());
            }
            let (rescan, rescans) = mpsc::channel(1);
            spawn(&mut tasks, &stop, indexing.run(snapshots.clone(), rescans));
            spawn(&mut tasks, &stop, watch_adapters(data.clone(), rescan));
        } else {
            waiting_sender.send_replace(vec!["no model is configured: this node only stores".to_owned()]);
        }
        let settling = Arc::new(Settling {
            account: account.clone(),
            node: seed.node_id(),
            deployment: deployment.clone(),
            chain: chain.clone(),
            books: Arc::clone(&books),
            payouts: Payouts::new(data.payouts()),
            calldata: match config.settlement.availability {
                Availability::Local => None,
                Availability::Calldata => Some(Calldata::own(chain.clone())?),
            },
            overlay: overlay.clone(),
            seed: seed.clone(),
            is_poster: config.poster,
            // A node that settles only when asked does nothing by itself.
            is_relaying: config.settlement.relay && config.settle_every_s > 0,
            watches: config.watch_payouts,
            snapshots: snapshots.clone(),
            turn: tokio::sync::Mutex::new(()),
            notes: std::sync::Mutex::default(),
            trees: Trees::default(),
            own_roots: OwnRoots::default(),
        });
        spawn(&mut tasks, &stop, Arc::clone(&settling).run(config.settle_every_s));
        let answering = engine.map(|engine| Answering {
            engine,
            account: account.clone(),
            domains: deployment.domains(),
            rates: (config.rate_in, config.rate_out),
            offers: Arc::clone(&offers),
            snapshots: snapshots.clone(),
            books: Arc::clone(&books),
            escrow: ChainEscrow { client: chain.clone(), snapshots: snapshots.clone(), willing: config.willing_to_lose },
            ledger: Ledger::new(config.willing_to_lose),
        });
        let gate = Gate::open(gate::Keeping {
            account: account.clone(),
            seed: seed.clone(),
            domains: deployment.domains(),
            data: data.clone(),
            shards: Arc::clone(&shards),
            snapshots: snapshots.clone(),
            chain: chain.clone(),
            holding: Arc::clone(&keeping),
        })?;
        let front = Arc::new(Front {
            answering,
            checks: check::Checks::new(seed.node_id()),
            gate,
            settling,
            reporting: Reporting { keeping: Arc::clone(&keeping), auditing: Arc::clone(&auditing), upkeep: Arc::clone(&upkeep), questions },
            overlay: overlay.clone(),
            waiting,
            offers: Arc::clone(&offers),
            books,
            running: AtomicU32::new(0),
            node: seed.node_id(),
            site,
            keeping: Arc::clone(&keeping),
            started: Instant::now(),
        });
        spawn(&mut tasks, &stop, prefer_operators(overlay.clone(), snapshots.clone()));
        spawn(&mut tasks, &stop, storage.run(Arc::clone(&keeping), Arc::clone(&auditing), Pace::of(config.serve_bytes_per_s)));
        spawn(&mut tasks, &stop, Erasing { keeping: Arc::clone(&keeping), data: data.clone(), view: Arc::clone(&upkeep) }.run());
        spawn(&mut tasks, &stop, Arc::clone(&auditing).run_cases());
        if config.storage {
            let mending = Mending::new(Arc::clone(&keeping), config.keeping.repair.config());
            spawn(&mut tasks, &stop, Upkeep::new(Arc::clone(&keeping), &config.keeping, upkeep).run());
            spawn(&mut tasks, &stop, mending.run(noticed, asked));
            spawn(&mut tasks, &stop, Arc::clone(&auditing).run());
        }
        // Not cut short like the others: answers under way are still receipted for what was promised.
        tasks.spawn(accept(server, Arc::clone(&front), stop.clone()));
        spawn(&mut tasks, &stop, peers::remember(data.clone(), overlay.clone()));
        spawn(&mut tasks, &stop, peers::keep_refusing(data.clone(), overlay.clone(), Arc::clone(&keeping.bulk)));
        spawn(&mut tasks, &stop, advertise(front, config, addresses.clone()));
        write_atomic(&Addresses::path(&data), &serde_json::to_vec_pretty(&addresses)?, 0o644)?;
        Ok(Self { addresses, stop, tasks, overlay, data, _chain: chained, _lock: lock })
    }

    /// Waits until a service ends by itself, which only a fault makes it do.
    pub async fn failed(&mut self) {
        drop(self.tasks.join_next().await);
    }

    /// Says goodbye, stops every task and waits for them.
    pub async fn stop(mut self) {
        self.overlay.shutdown().await;
        self.stop.cancel();
        let ended = timeout(STOP_WAIT, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            self.tasks.abort_all();
        }
        // The file only helps the operator's commands; a stale one names a process that is gone.
        drop(std::fs::remove_file(Addresses::path(&self.data)));
    }
}

fn spawn(tasks: &mut JoinSet<()>, stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    });
}

async fn start_engine(config: &Config) -> anyhow::Result<Option<EngineHandle>> {
    let Some(model) = config.model.clone() else { return Ok(None) };
    let settings = EngineConfig { sequences_max: config.answers_max, ..EngineConfig::new(&model) };
    let engine = tokio::task::spawn_blocking(move || EngineHandle::start(settings)).await?;
    engine.map(Some).with_context(|| format!("{}", model.display()))
}

async fn start_overlay(config: &Config, seed: &NodeSeed, incarnation: u64, remembered: Vec<Multiaddr>) -> anyhow::Result<OverlayHandle> {
    let (ip, port) = (config.overlay.ip(), config.overlay.port());
    let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
    let listen = [format!("/{family}/{ip}/udp/{port}/quic-v1"), format!("/{family}/{ip}/tcp/{port}")];
    let listen = listen.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>().context("overlay address")?;
    let mut bootstrap = config
        .bootstrap
        .iter()
        .map(|text| text.parse().with_context(|| format!("bootstrap {text:?} is no multiaddress")))
        .collect::<Result<Vec<_>, _>>()?;
    bootstrap.extend(remembered);
    let (overlay, mut events) = Overlay::start(OverlayConfig { seed: seed.clone(), incarnation, listen, bootstrap, gossip: true }).await?;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            tracing::debug!(?event, "overlay")
        }
    });
    Ok(overlay)
}

/// Keeps the overlay's list of nodes that strangers cannot crowd out: those with stake, the largest first.
async fn prefer_operators(overlay: OverlayHandle, mut snapshots: Snapshots) {
    let mut known = Vec::new();
    loop {
        let state = Arc::clone(&snapshots.borrow_and_update().latest);
        let mut staked: Vec<_> = state.operators().filter(|operator| operator.active > Amount::ZERO).collect();
        staked.sort_by_key(|operator| (std::cmp::Reverse(operator.active), operator.node));
        let nodes: Vec<NodeId> = staked.iter().map(|operator| operator.node).collect();
        if nodes != known {
            if overlay.prefer(nodes.clone()).await.is_err() {
                return;
            }
            known = nodes;
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// Asks for a look at the adapters whenever a folder came or went.
async fn watch_adapters(data: DataDir, rescan: mpsc::Sender<()>) {
    let mut known = Vec::new();
    let mut ticks = tokio::time::interval(RESCAN);
    loop {
        ticks.tick().await;
        match crate::command::adapter::present(&data) {
            Ok(found) if found != known => {
                known = found;
                if rescan.send(()).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "adapters folder"),
        }
    }
}

async fn accept(mut server: Server, front: Arc<Front>, stop: CancellationToken) {
    let streams = Arc::new(Semaphore::new(STREAMS_MAX));
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
    server.close(p2p::stream::code::SHUTDOWN).await;
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(connection: Connection, front: Arc<Front>, streams: Arc<Semaphore>) {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_stream() => {
                let Ok(mut stream) = stream else { break };
                let Ok(permit) = Arc::clone(&streams).try_acquire_owned() else {
                    stream.reset(p2p::stream::code::BUSY);
                    continue;
                };
                let (front, remote) = (Arc::clone(&front), connection.remote());
                serving.spawn(async move {
                    front.serve(remote, stream).await;
                    drop(permit);
                });
            }
            Some(_) = serving.join_next() => {}
        }
    }
    // The peer is gone: its answers end by themselves at their next frame, with receipts for what was vouched.
    while serving.join_next().await.is_some() {}
}

impl Front {
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
                    let refusal = Refusal { code: RefusalCode::NotServed, message: "this node only stores: ask another one".into() };
                    return reply_with(stream, &FromNode::Refused(refusal)).await;
                };
                self.running.fetch_add(1, Ordering::Relaxed);
                answering.serve(stream, frame).await;
                self.running.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        };
        let message =
            reply.unwrap_or_else(|error| FromNode::Refused(Refusal { code: RefusalCode::Internal, message: format!("{error:#}") }));
        say(&mut stream, &message).await;
        linger(stream).await;
    }

    async fn status(&self) -> anyhow::Result<FromNode> {
        let (receipts, posted) = self.books.counts()?;
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        Ok(FromNode::Status(Status {
            node: self.node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            peers: count(self.overlay.peers().await?.len()),
            providers: count(self.overlay.ads().await?.len()),
            running: self.running.load(Ordering::Relaxed),
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
    fn why_waiting(&self) -> Vec<String> {
        let settling = &self.settling;
        let alarm = alarm_in(&settling.snapshots.borrow(), settling.chain.rpc().url());
        alarm.iter().map(ToString::to_string).chain(self.waiting.borrow().iter().cloned()).collect()
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
fn resident_bytes() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).context("/proc/self/statm has no second field")?.parse()?;
    Ok(pages * 4_096)
}

/// Keeps the signed ad true: at once when what is served changes, else as the overlay repeats it.
async fn advertise(front: Arc<Front>, config: Config, addresses: Addresses) {
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
            rin: config.rate_in,
            rout: config.rate_out,
            queue: u16::try_from(self.running.load(Ordering::Relaxed)).unwrap_or(u16::MAX),
            ttft_ms: 0,
            tokens_per_s: 0,
            leaving: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_session_key_counts_what_no_reorganisation_takes_back() {
        let right = |cap, spent, expiry, revoked_at| SessionRight { cap: Amount(cap), spent: Amount(spent), expiry, revoked_at };
        let safe = right(100, 10, 50, None);
        assert_eq!(certain_right(safe, safe), safe);
        assert_eq!(certain_right(right(900, 10, 90, None), safe), safe, "a cap that was raised a moment ago");
        assert_eq!(certain_right(right(20, 40, 30, Some(7)), safe), right(20, 40, 30, Some(7)), "what was taken away counts at once");
        assert_eq!(certain_right(safe, right(100, 10, 50, Some(7))), right(100, 10, 50, Some(7)), "a revocation that was taken back");
    }

    #[test]
    fn of_a_deposit_that_may_be_taken_back_only_what_the_node_would_lose_counts() {
        let counts = |latest, certain, willing| counted(Amount(latest), Amount(certain), Amount(willing)).0;
        assert_eq!(counts(1_000, 0, 7), 7, "nothing of it is certain");
        assert_eq!(counts(1_000, 400, 7), 407);
        assert_eq!(counts(1_000, 1_000, 0), 1_000);
        assert_eq!(counts(300, 1_000, 7), 300, "asked back since");
        assert_eq!(counts(5, u128::MAX, 7), 5);
    }
}
