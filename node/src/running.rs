//! A running node: what is opened in which order, which task does what, and how all of it ends.
//!
//! Order: folder lock, keys, chain, store, engine, sockets, services. Each later part can fail without leaving the earlier ones half-used; on the
//! way down no answer is begun any longer and the ad says `leaving` first (`drain`), then streams are given `STOP_WAIT` to end.

mod admin;
mod drain;
mod escrow;
mod front;
mod share;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use chain_bridge::{availability::Calldata, deploy::check_pace};
use inference::{
    adapter::store::FetchAdapter,
    engine::{EngineConfig, EngineHandle},
    proto::resume::Bounds,
};
use p2p::{
    bulk::BulkEndpoint,
    client::{Limits, Server},
    identity::NodeSeed,
    overlay::{Multiaddr, Overlay, OverlayConfig, OverlayEvent, OverlayHandle},
    proto::ads::AdSite,
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
    net::TcpListener,
    sync::{Notify, RwLock, Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use types::{
    amount::Amount,
    id::{Address, BlobId, NodeId},
};

pub use self::drain::Drained;
use self::{
    escrow::ChainEscrow,
    front::{Front, accept, advertise},
};
use crate::{
    api::server::bind,
    books::Books,
    chain::{Chained, Snapshots},
    check,
    command::Context,
    config::{Availability, Config},
    data::{DataDir, DataLock, read_bounded, write_atomic},
    datanet::{Shards, copies::Elsewhere, placing::DEVELOPMENT_CHAIN, seeds::Seeds},
    metrics::Metrics,
    payouts::Payouts,
    peers,
    service::{
        adapters::Fetching,
        auditing::Auditing,
        checking::{Checking, draws::BoardDraws},
        erasing::Erasing,
        gate::{self, Gate},
        index::{Indexing, store::Indexes},
        inference::{Answering, Ledger, Offers, Seats, Speed, willing},
        keeping::{Keeping, NOTICES_MAX, report::Reporting},
        receipt_log::{self, ReceiptLog, witnesses::Witnesses},
        repair::{Mending, QUESTIONS_MAX, seek_records},
        settlement::{Settling, own::OwnRoots, trees::Trees},
        storage::Serving as StorageService,
        upkeep::{self, Upkeep},
    },
};

/// How long streams may take to end at a stop.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for peers of the bulk endpoint to hear that it closes.
const CLOSE_WAIT: Duration = Duration::from_secs(3);
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
    /// Where the receipt log is read; nothing if it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<SocketAddr>,
    /// Where /metrics, /healthz and /readyz are read; nothing if they are not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
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
    front: Arc<Front>,
    fenced: watch::Receiver<Option<u64>>,
    overlay: OverlayHandle,
    bulk: Arc<BulkEndpoint>,
    data: DataDir,
    _chain: Chained,
    _lock: DataLock,
}

impl Node {
    /// Opens everything and starts the services, as the configuration says.
    pub async fn start(context: &Context, config: Config) -> anyhow::Result<Self> {
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
        let engine = start_engine(&config, &data).await?;
        let (overlay, fenced) = start_overlay(&config, &seed, incarnation, peers::remembered(&data)).await?;
        let server = Server::bind(config.clients, &seed, Limits::default())?;
        let storage = StorageService::bind(config.bulk, &seed, data.clone()).await?;
        let bulk = storage.endpoint();
        peers::refuse(&data, &overlay, &bulk).await?;
        let site = AdSite { region: config.keeping.region.map(Region::letters), network: config.keeping.network };
        let (notices, noticed) = mpsc::channel(NOTICES_MAX);
        let (room_bytes, free_bytes) = (config.keeping.room_bytes, store.free_bytes()?);
        let room = Room::new(room_bytes, free_bytes);
        if config.storage && !room.is_open() {
            let (disk_free_bytes, disk_reserve_bytes) = (store.disk_available_bytes()?, config.keeping.store.disk_reserve_bytes);
            tracing::warn!(
                free_bytes,
                room_bytes,
                disk_free_bytes,
                disk_reserve_bytes,
                "this node takes no fragments: make room on the disk, raise [keeping.store] capacity_bytes, or lower disk_reserve_bytes or [keeping] room_bytes"
            );
        }
        let room = std::sync::RwLock::new(room);
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
            voided: Notify::new(),
        });
        let upkeep = Arc::<upkeep::View>::default();
        let auditing = Auditing::new(Arc::clone(&keeping), data.clone())?;
        let log_listener = config.log.map(|at| bind(at).with_context(|| format!("log = {at} in the configuration"))).transpose()?;
        let admin_listener = config.admin.map(|at| bind(at).with_context(|| format!("admin = {at} in the configuration"))).transpose()?;
        let addresses = Addresses {
            pid: std::process::id(),
            node: seed.node_id(),
            account: account.address(),
            overlay: overlay.listen_addrs().iter().map(ToString::to_string).collect(),
            clients: server.local_addr()?,
            bulk: storage.local_addr(),
            log: log_listener.as_ref().map(TcpListener::local_addr).transpose()?,
            admin: admin_listener.as_ref().map(TcpListener::local_addr).transpose()?,
        };
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let elsewhere = Elsewhere {
            overlay: overlay.clone(),
            bulk: storage.endpoint(),
            snapshots: snapshots.clone(),
            seeds: Seeds::new(chain.clone(), snapshots.clone(), config.keeping.epoch_blocks),
            chain_id: deployment.chain_id,
            store: keeping.store.clone(),
            scarce: std::sync::Mutex::default(),
        };
        let shards = Arc::new(Shards::of_node(data.clone(), &config.keeping, elsewhere));
        let offers = Arc::new(RwLock::new(Offers::new()));
        let (waiting_sender, waiting) = watch::channel(vec!["the node is starting".to_owned()]);
        if let Some(engine) = &engine {
            let indexing = Indexing {
                data: data.clone(),
                engine: engine.clone(),
                shards: Arc::clone(&shards),
                indexes: Arc::new(Indexes::of(&data, &config.attribution)),
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
            draws: Arc::new(BoardDraws { snapshots: snapshots.clone(), rule: config.checks.rule(), node: account.address() }),
        });
        spawn(&mut tasks, &stop, Arc::clone(&settling).run(config.settle_every_s));
        if config.checks.enabled {
            let checking = Checking {
                settling: Arc::clone(&settling),
                offers: Arc::clone(&offers),
                engine: engine.clone(),
                folder: data.checks(),
                config: config.checks,
            };
            spawn(&mut tasks, &stop, checking.run());
        }
        let willing = match (&engine, config.willing_to_lose) {
            (_, Some(willing)) => willing,
            (Some(engine), None) => willing(engine.info().config.context, config.rate_in, config.rate_out).context("rate_in, rate_out")?,
            (None, None) => Amount::ZERO,
        };
        let metrics = Arc::<Metrics>::default();
        let answering = engine.map(|engine| Answering {
            metrics: Arc::clone(&metrics),
            engine,
            account: account.clone(),
            domains: deployment.domains(),
            rates: (config.rate_in, config.rate_out),
            offers: Arc::clone(&offers),
            snapshots: snapshots.clone(),
            books: Arc::clone(&books),
            escrow: ChainEscrow { client: chain.clone(), snapshots: snapshots.clone(), willing },
            ledger: Ledger::new(willing),
            speed: Speed::default(),
            seats: Seats::new(Bounds::of(config.answers_max)),
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
        let traces = gate.traces();
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
            running: watch::Sender::new(0),
            node: seed.node_id(),
            site,
            keeping: Arc::clone(&keeping),
            metrics,
            started: Instant::now(),
            is_leaving: AtomicBool::new(false),
        });
        if let Some(listener) = log_listener {
            let log = open_log(Arc::clone(&front.books), &seed).await?;
            let witnesses = Witnesses::new(config.log_witnesses.clone())?;
            tasks.spawn(receipt_log::http::serve(log, witnesses, snapshots.clone(), listener, stop.clone()));
        }
        if let Some(listener) = admin_listener {
            tasks.spawn(admin::serve(Arc::clone(&front), listener, stop.clone()));
        }
        spawn(&mut tasks, &stop, prefer_operators(overlay.clone(), snapshots.clone()));
        spawn(&mut tasks, &stop, storage.run(Arc::clone(&keeping), Arc::clone(&auditing), Pace::of(config.serve_bytes_per_s)));
        spawn(&mut tasks, &stop, Erasing { keeping: Arc::clone(&keeping), data: data.clone(), traces, view: Arc::clone(&upkeep) }.run());
        spawn(&mut tasks, &stop, Arc::clone(&auditing).run_cases());
        if config.storage {
            let mending = Mending::new(Arc::clone(&keeping), config.keeping.repair.config());
            spawn(&mut tasks, &stop, seek_records(Arc::clone(&keeping), Arc::clone(&upkeep)));
            spawn(&mut tasks, &stop, Upkeep::new(Arc::clone(&keeping), &config.keeping, upkeep).run());
            spawn(&mut tasks, &stop, mending.run(noticed, asked));
            spawn(&mut tasks, &stop, Arc::clone(&auditing).run());
        }
        // Not cut short like the others: answers under way are still receipted for what was promised.
        tasks.spawn(accept(server, Arc::clone(&front), stop.clone()));
        spawn(&mut tasks, &stop, peers::remember(data.clone(), overlay.clone()));
        spawn(&mut tasks, &stop, peers::keep_refusing(data.clone(), overlay.clone(), Arc::clone(&keeping.bulk)));
        spawn(&mut tasks, &stop, advertise(Arc::clone(&front), config, addresses.clone()));
        write_atomic(&Addresses::path(&data), &serde_json::to_vec_pretty(&addresses)?, 0o644)?;
        Ok(Self { addresses, stop, tasks, front, fenced, overlay, bulk, data, _chain: chained, _lock: lock })
    }

    /// Waits until the node must end by itself: why.
    pub async fn failed(&mut self) -> String {
        let Self { tasks, fenced, .. } = self;
        tokio::select! {
            Ok(later) = fenced.wait_for(Option::is_some) => format!(
                "another process with this node's key has started later (start {} of it): one key runs once, so this one ends. Keep one of the two folders; if this \
                 one is an older copy, its receipts are not all there",
                later.unwrap_or_default()
            ),
            _ = tasks.join_next() => "a service of the node ended by itself: see the log (TRIBUTARY_LOG=info)".to_owned(),
        }
    }

    /// Begins no answer any longer, tells the network, and waits for those under way.
    pub async fn drain(&self) -> Drained {
        drain::drain(&self.front, self.begun()).await
    }

    /// Answers under way.
    pub fn begun(&self) -> u32 {
        *self.front.running.borrow()
    }

    /// What has come by now of `begun` answers.
    pub fn drained(&self, begun: u32) -> Drained {
        drain::drained(&self.front, begun)
    }

    /// Says goodbye, stops every task and waits for them.
    pub async fn stop(mut self) {
        self.overlay.shutdown().await;
        self.stop.cancel();
        let ended = timeout(STOP_WAIT, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            self.tasks.abort_all();
        }
        // Peers are told, and do not wait for a node that is gone; one that does not answer holds up nobody.
        if timeout(CLOSE_WAIT, self.bulk.close()).await.is_err() {
            tracing::debug!("the bulk endpoint did not close in time");
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

/// Reads the whole log once, which takes a second for a million receipts.
async fn open_log(books: Arc<Books>, seed: &NodeSeed) -> anyhow::Result<Arc<ReceiptLog>> {
    let seed = seed.clone();
    let log = tokio::task::spawn_blocking(move || ReceiptLog::open(books, &seed)).await?;
    Ok(Arc::new(log.context("the receipt log")?))
}

async fn start_engine(config: &Config, data: &DataDir) -> anyhow::Result<Option<EngineHandle>> {
    let Some(model) = config.model.clone() else { return Ok(None) };
    let adapters_dir = Some(data.packed_adapters());
    let fetch: Option<Arc<dyn FetchAdapter>> = Some(Arc::new(data.clone()));
    let settings = EngineConfig {
        profile: config.profile.profile(),
        sequences_max: config.answers_max,
        adapters_dir,
        fetch,
        ..EngineConfig::new(&model)
    };
    let engine = tokio::task::spawn_blocking(move || EngineHandle::start(settings)).await?;
    engine.map(Some).with_context(|| format!("{}", model.display()))
}

/// The overlay, and the start of a later process with this key once one is heard of.
async fn start_overlay(
    config: &Config,
    seed: &NodeSeed,
    incarnation: u64,
    remembered: Vec<Multiaddr>,
) -> anyhow::Result<(OverlayHandle, watch::Receiver<Option<u64>>)> {
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
    let (fencing, fenced) = watch::channel(None);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            tracing::debug!(?event, "overlay");
            if let OverlayEvent::Fenced { incarnation } = event {
                fencing.send_replace(Some(incarnation));
            }
        }
    });
    Ok((overlay, fenced))
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
