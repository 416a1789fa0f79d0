//! The paid network as a source of answers: each question is signed, paid by vouchers and receipted as `tributary ask` does it, in one process.
//!
//! A reader that lags behind keeps the node waiting for its next voucher. One that goes away drops the question: the node sees its stream reset, and
//! what was promised stays counted until the node has said what it charges, which is asked of it at once and then every [`RECALL`].

mod asking;
mod noting;
mod passing;
mod telling;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chain_bridge::registry::State;
use inference::proto::message::Turn;
use p2p::{client::Client, overlay::OverlayHandle};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{
    id::{Address, AssetVersion},
    key::{Account, Domains},
    manifest::{AssetKind, Manifest},
    time::BlockRef,
};

use self::{asking::turn, telling::failed};
use super::{
    Serve,
    local::Local,
    names::{self, Offered},
};
use crate::{
    api::{
        Bounds, Kind, Refusal,
        adapters::Load,
        source::{Answers, Ask, EVENTS_MAX, Embedded, Event, Extra, Listed},
    },
    chain::{Chained, Snapshots},
    command::{
        Context,
        adapter::parse_version,
        ask::{Experience, fits},
        wallet::session,
    },
    config::Spending,
};

/// What a request says beside temperature, top-k and top-p: all but a seed, which follows from its signature.
const CARRIED: [Extra; 8] =
    [Extra::MinP, Extra::Repeat, Extra::Presence, Extra::Frequency, Extra::Bias, Extra::Stop, Extra::Logprobs, Extra::Grammar];
/// Most models of a list.
const MODELS_MAX: usize = 1_000;
/// Most adapters under names of an admin's.
const LOADED_MAX: usize = 256;
/// How long the first adverts are awaited at the start, so that the first list of models is not empty.
const ADS_WAIT: Duration = Duration::from_secs(15);

/// The network.
#[derive(Debug, Clone)]
pub(super) struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Context,
    chain: Chained,
    snapshots: Snapshots,
    overlay: OverlayHandle,
    payer: Address,
    signer: Account,
    domains: Domains,
    spending: Spending,
    serve: Serve,
    /// What makes embeddings, which no node does.
    local: Option<Local>,
    /// A socket per family and reach of the nodes that were asked.
    sockets: Mutex<BTreeMap<SocketAddr, Client>>,
    /// Adapters under names of an admin's.
    loaded: Mutex<BTreeMap<String, AssetVersion>>,
    names: Mutex<Option<Names>>,
    /// What it saw of the nodes it asked.
    experience: Experience,
    /// An answer was left: its node is asked what it charges.
    left: Notify,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What may be asked, as of a block.
#[derive(Debug, Clone)]
struct Names {
    at: BlockRef,
    all: Arc<Vec<Offered>>,
}

/// A question that is ready to be asked.
#[derive(Debug)]
struct Prepared {
    state: Arc<State>,
    manifest: Manifest,
    turns: Vec<Turn>,
    ask: Ask,
}

/// A gateway's bounds before the network: a reader is given up before its node, which wants the next voucher within ten seconds, gives up the client.
pub(super) fn bounds() -> Bounds {
    Bounds { reader_wait: Duration::from_secs(8), ..Bounds::default() }
}

impl Network {
    /// Joins it: the wallet's or session's key is opened, the chain followed, the overlay heard.
    pub(super) async fn open(context: &Context, serve: Serve, local: Option<Local>) -> anyhow::Result<Self> {
        let mut config = context.config()?;
        if !serve.bootstrap.is_empty() {
            config.bootstrap.clone_from(&serve.bootstrap);
        }
        let chain = context.chain_reader().await?;
        let state = chain.state().await?;
        let (payer, signer) = match &serve.session {
            Some(name) => {
                let now = chain.head().await?.block.number;
                (session::payer(context, name)?, session::live(context, name, &chain, now).await?.0)
            }
            None => context.account().map(|wallet| (wallet.address(), wallet))?,
        };
        let overlay = context.light_overlay(&config).await?;
        let is_offered = |ad: &p2p::proto::ads::Ad| {
            let manifests = state.assets().filter_map(|asset| state.manifest(state.meant(asset.id)?).ok());
            manifests.into_iter().any(|manifest| fits(ad, &state, &manifest, serve.profile.profile()))
        };
        if overlay.wait_ads(|ads| ads.iter().any(|signed| is_offered(signed.ad())), ADS_WAIT).await.is_err() {
            context.output.note("no registered node is heard yet: the list of models is empty until one is");
        }
        let inner = Arc::new(Inner {
            context: context.clone(),
            snapshots: chain.snapshots(),
            domains: chain.deployment().domains(),
            chain,
            overlay,
            payer,
            signer,
            spending: config.spending,
            serve,
            local,
            sockets: Mutex::default(),
            loaded: Mutex::default(),
            names: Mutex::default(),
            experience: Experience::new(0),
            left: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        inner.tasks.spawn(Arc::clone(&inner).keep_books());
        Ok(Self(inner))
    }

    /// Ends what still runs and leaves the overlay.
    pub(super) async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.overlay.shutdown().await;
    }
}

impl Answers for Network {
    async fn models(&self) -> Result<Vec<Listed>, Refusal> {
        let (state, all) = self.0.names()?;
        let ads = self.0.overlay.ads().await.map_err(|error| failed(&error.into()))?;
        let is_served = |one: &&Offered| ads.iter().any(|signed| fits(signed.ad(), &state, &one.manifest, self.0.serve.profile.profile()));
        // The operator's own name comes first, as an admin's do: what is registered under it is asked by number and version.
        let is_other = |one: &&Offered| self.0.local.as_ref().is_none_or(|local| !local.is_meant(&one.listed.id));
        let served = all.iter().filter(is_other).filter(is_served).map(|one| &one.listed);
        Ok(self.0.listed_here().into_iter().chain(served).take(MODELS_MAX).cloned().collect())
    }

    fn carries(&self) -> &[Extra] {
        &CARRIED
    }

    async fn begin(&self, ask: Ask) -> Result<mpsc::Receiver<Event>, Refusal> {
        if let Some(local) = self.0.local.as_ref().filter(|local| local.is_meant(&ask.model)) {
            return Err(local.no_answers());
        }
        let options = &ask.choosing.options;
        options.check(usize::MAX).map_err(|error| Refusal::new(Kind::Invalid, "invalid_value", error.to_string()))?;
        let (state, all) = self.0.names()?;
        let manifest = names::meant(&state, &all, self.0.listed_here(), &ask.model)?;
        let turns = ask.messages.iter().enumerate().map(|(number, message)| turn(number, message)).collect::<Result<_, _>>()?;
        let (to, events) = mpsc::channel(EVENTS_MAX);
        let (inner, prepared) = (Arc::clone(&self.0), Prepared { state, manifest, turns, ask });
        self.0.tasks.spawn(async move {
            let ended = tokio::select! {
                biased;
                () = to.closed() => None,
                () = inner.stop.cancelled() => Some(Err(Refusal::new(Kind::Busy, "gateway_stops", "the gateway stops: ask again in a moment"))),
                ended = inner.answer(&prepared, &to) => Some(ended),
            };
            match ended {
                None => inner.left.notify_one(),
                Some(Ok(finished)) => drop(to.send(Event::Finished(Box::new(finished))).await),
                Some(Err(refusal)) => {
                    inner.left.notify_one();
                    drop(to.send(Event::Failed(refusal)).await);
                }
            }
        });
        Ok(events)
    }

    async fn embed(&self, asker: usize, model: &str, texts: Vec<String>) -> Result<Embedded, Refusal> {
        if let Some(local) = self.0.local.as_ref().filter(|local| local.is_meant(model)) {
            return local.embed(asker, texts).await;
        }
        let (state, all) = self.0.names()?;
        names::meant(&state, &all, self.0.listed_here(), model)?;
        let fix =
            self.0.listed_here().map_or_else(|| "use /v1/chat/completions".to_owned(), |local| format!("{} makes them here", local.id));
        let message = format!("{model} makes no embeddings, nodes answer conversations: {fix}");
        Err(Refusal::field("model", "no_embeddings", message))
    }

    async fn load(&self, load: Load) -> Result<Listed, Refusal> {
        self.0.load(load)
    }

    async fn unload(&self, name: &str) -> Result<(), Refusal> {
        let gone = locked(&self.0.loaded).remove(name);
        *locked(&self.0.names) = None;
        let message = format!("no adapter was loaded as {name}: what the registry names cannot be unloaded here");
        gone.map(drop).ok_or_else(|| Refusal { kind: Kind::Missing, ..Refusal::field("lora_name", "adapter_not_found", message) })
    }
}

impl Inner {
    /// Books of the chain as they are followed.
    fn state(&self) -> Result<(BlockRef, Arc<State>), Refusal> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        match self.chain.alarm() {
            Some(alarm) => Err(failed(&alarm.into())),
            None if snapshot.is_halted => Err(failed(&anyhow::anyhow!(
                "following the chain has stopped: {}",
                snapshot.problem.as_deref().unwrap_or("no reason is known")
            ))),
            None => Ok((snapshot.tip, Arc::clone(&snapshot.latest))),
        }
    }

    /// What makes embeddings, as it is listed.
    fn listed_here(&self) -> Option<&Listed> {
        self.local.as_ref().map(Local::listed)
    }

    /// What may be asked now; made anew with each block.
    fn names(&self) -> Result<(Arc<State>, Arc<Vec<Offered>>), Refusal> {
        let (at, state) = self.state()?;
        let mut names = locked(&self.names);
        if names.as_ref().is_none_or(|names| names.at != at) {
            *names = Some(Names { at, all: Arc::new(names::offered(&state, &locked(&self.loaded))) });
        }
        let all = names.as_ref().map(|names| Arc::clone(&names.all)).unwrap_or_default();
        Ok((state, all))
    }

    fn load(&self, load: Load) -> Result<Listed, Refusal> {
        let (_, state) = self.state()?;
        let wrong = |message: String| Refusal::field("lora_path", "adapter_not_found", message);
        let version =
            parse_version(&load.path).map_err(|error| wrong(format!("lora_path: {error}; files are not loaded over the network")))?;
        let is_adapter = state.asset(version.asset).is_some_and(|asset| asset.kind == AssetKind::Adapter);
        let offered = names::of(&state, version, &load.name).filter(|_| is_adapter);
        let offered =
            offered.ok_or_else(|| wrong(format!("{version} is no adapter of the registry, or is frozen: GET /v1/models lists some")))?;
        let mut loaded = locked(&self.loaded);
        let is_other = loaded.get(&load.name).is_some_and(|known| *known != version);
        if is_other && !load.may_replace {
            let message = format!("{} is another adapter already: unload it first, or give load_inplace", load.name);
            return Err(Refusal::field("lora_name", "adapter_exists", message));
        }
        if loaded.len() >= LOADED_MAX && !loaded.contains_key(&load.name) {
            let message = format!("{LOADED_MAX} adapters are loaded, no more fit: unload one");
            return Err(Refusal::field("lora_name", "adapters_full", message));
        }
        loaded.insert(load.name, version);
        drop(loaded);
        *locked(&self.names) = None;
        Ok(offered.listed)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is changed by one step that does not panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
