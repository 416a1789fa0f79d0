//! What this node can answer under: versions of the registry whose files are here and whose index, made from the contributions themselves, has
//! the posted root.
//!
//! An index is files in the data folder ([`store`]), segments as the layout divides a Datanet ([`plan`]), mapped and shared between manifests. A
//! restart opens them; a new version builds the segments that it has alone, 0.06 to 0.1 s per MB of text, a third of it the search for near copies
//! (`near`), which are paid through the first document of their cluster. An indexer also posts the root of a version that has none.

mod files;
mod near;
pub mod plan;
mod rereading;
pub mod store;
pub mod unneeded;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use attribution::{
    disk::Progress,
    index::{DatanetIndex, Index},
    parameters::Parameters,
};
use chain_bridge::{client::ChainClient, registry::State};
use inference::engine::EngineHandle;
use storage::seal::log::Purpose;
use tokio::{
    runtime::Handle,
    sync::{RwLock, watch},
};
use types::{
    id::{AssetVersion, BlobId, Hash32},
    manifest::{AssetKind, Manifest},
};

use self::{
    plan::Plan,
    store::{Indexes, Step},
};
use super::inference::{Offer, Offers};
use crate::{
    chain::Snapshots,
    data::DataDir,
    datanet::{Shards, erased, granted, terms},
};

/// What takes less long is not told of.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// Attribution parameters that this build carries and an indexer posts roots under.
pub const PARAMETERS: u32 = 1;

/// The service's parts.
#[derive(Debug)]
pub struct Indexing {
    /// The data folder: adapters.
    pub data: DataDir,
    /// The engine, whose model decides which base is served.
    pub engine: EngineHandle,
    /// Fetches contributions.
    pub shards: Arc<Shards>,
    /// Keeps what is built of them.
    pub indexes: Arc<Indexes>,
    /// The chain.
    pub chain: ChainClient,
    /// Whether to post roots.
    pub is_indexer: bool,
    /// What is served.
    pub offers: Arc<RwLock<Offers>>,
    /// Why something is not served, in plain words.
    pub waiting: watch::Sender<Vec<String>>,
}

/// Datanet versions indexed so far.
type Built = BTreeMap<AssetVersion, Arc<DatanetIndex>>;

/// Grants to serve private Datanets, as they were last looked at.
#[derive(Debug)]
struct Grants {
    /// The chain's block then.
    block: u64,
    /// The last block in which all hold that something is served by.
    until: u64,
}

impl Default for Grants {
    fn default() -> Self {
        Self { block: 0, until: u64::MAX }
    }
}

impl Grants {
    /// Whether this node may serve what these Datanets, of which some are private, hold.
    fn hold(&mut self, data: &DataDir, state: &State, declared: &[AssetVersion]) -> anyhow::Result<()> {
        self.until = self.until.min(granted::until(data, state, declared, self.block, Purpose::Serve)?);
        Ok(())
    }
}

impl Indexing {
    /// Follows the chain until it ends; every change of its state is looked at once. What is answered from is read again beside it.
    pub async fn run(self, snapshots: Snapshots, rescan: tokio::sync::mpsc::Receiver<()>) {
        let reading = rereading::run(Arc::clone(&self.offers), Arc::clone(&self.indexes));
        tokio::select! {
            () = self.follow(snapshots, rescan) => {}
            () = reading => {}
        }
    }

    async fn follow(self, mut snapshots: Snapshots, mut rescan: tokio::sync::mpsc::Receiver<()>) {
        let (mut built, mut pruned_at) = (Built::new(), None);
        let (mut posted, mut grants) = (BTreeSet::new(), Grants::default());
        let (mut seen, mut is_asked) = (Arc::new(State::default()), true);
        loop {
            let (state, block) = {
                let snapshot = snapshots.borrow_and_update();
                (Arc::clone(&snapshot.latest), snapshot.tip.number)
            };
            // Snapshots come with every block; only changed books or folders are looked at, and grants that end.
            if !Arc::ptr_eq(&state, &seen) || is_asked || block > grants.until {
                grants = Grants { block, until: u64::MAX };
                let count = self.refresh(&state, &mut built, &mut posted, &mut grants).await;
                // What is built or erased makes other files useless; so may whatever happened while this node was away.
                let erased = state.erasures().count();
                if count > 0 || pruned_at != Some(erased) {
                    self.prune(&state).await;
                    pruned_at = Some(erased);
                }
                (seen, is_asked) = (state, false);
            }
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                asked = rescan.recv() => match asked {
                    Some(()) => is_asked = true,
                    None => return,
                },
                () = self.indexes.suspected() => is_asked = true,
            }
        }
    }

    /// Looks at everything anew; how many indexes were opened that were not before.
    async fn refresh(&self, state: &Arc<State>, built: &mut Built, posted: &mut BTreeSet<AssetVersion>, grants: &mut Grants) -> usize {
        self.withdraw_changed(built).await;
        let (mut offers, mut waiting) = (Offers::new(), Vec::new());
        // The text of what was erased on request leaves the memory too, once the answers under way have ended.
        built.retain(|version, _| erased::check(state, *version).is_ok() && grants.hold(&self.data, state, &[*version]).is_ok());
        let kept = built.len();
        for (version, published) in state.versions() {
            let kind = state.asset(version.asset).map(|asset| asset.kind);
            if published.frozen.is_some() || !matches!(kind, Some(AssetKind::Base | AssetKind::Adapter | AssetKind::Agent)) {
                continue;
            }
            match self.consider(state, version, built, posted, grants).await {
                Ok(Some(offer)) => {
                    offers.insert(offer.manifest.root(), Arc::new(offer));
                }
                Ok(None) => {}
                Err(error) => waiting.push(format!("version {version}: {error:#}")),
            }
        }
        if waiting != *self.waiting.borrow() {
            waiting.iter().for_each(|reason| tracing::info!(%reason, "not served yet"));
            self.waiting.send_replace(waiting);
        }
        *self.offers.write().await = offers;
        self.unload_missing().await;
        built.len().saturating_sub(kept)
    }

    /// Nothing is answered any more from a segment that was found changed: it is read whole again, and built again if need be.
    async fn withdraw_changed(&self, built: &mut Built) {
        let changed = self.indexes.take_suspects();
        if changed.is_empty() {
            return;
        }
        let is_hit = |datanet: &DatanetIndex| datanet.segments().iter().any(|segment| changed.contains(&segment.id()));
        built.retain(|_, datanet| !is_hit(datanet));
        self.offers.write().await.retain(|_, offer| !offer.index.datanets().iter().any(|datanet| is_hit(datanet)));
    }

    /// Files that no version in use names are deleted.
    async fn prune(&self, state: &Arc<State>) {
        let (indexes, state) = (Arc::clone(&self.indexes), Arc::clone(state));
        match tokio::task::spawn_blocking(move || indexes.prune(&state)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(files)) => tracing::info!(files, "deleted files of indexes that no version in use needs"),
            Ok(Err(error)) => tracing::warn!(%error, "files of indexes that no version needs are still there"),
            Err(error) => tracing::warn!(%error, "deleting files of indexes ended early"),
        }
    }

    /// What was taken out of the data folder leaves the engine's cache too, with the last answer that uses it.
    async fn unload_missing(&self) {
        let is_missing = |hash: &[u8; 32]| !self.data.adapter(BlobId(*hash)).exists();
        for hash in self.engine.adapters().into_iter().map(|listed| listed.info.hash).filter(is_missing) {
            match self.engine.unload_adapter(hash).await {
                Ok(_) => tracing::info!(hash = %BlobId(hash), "adapter unloaded: its folder is gone"),
                Err(error) => tracing::warn!(%error, hash = %BlobId(hash), "adapter not unloaded"),
            }
        }
    }

    /// The offer for a version; nothing if its files are not meant for this node.
    async fn consider(
        &self,
        state: &Arc<State>,
        version: AssetVersion,
        built: &mut Built,
        posted: &mut BTreeSet<AssetVersion>,
        grants: &mut Grants,
    ) -> anyhow::Result<Option<Offer>> {
        let published = state.version(version).context("not published")?;
        let files = files::files(state, version)?;
        if files.base != BlobId(self.engine.info().hash) {
            return Ok(None);
        }
        let adapter = files.adapter.map(|content| (content, self.data.adapter(content)));
        if adapter.as_ref().is_some_and(|(_, folder)| !folder.exists()) {
            return Ok(None);
        }
        // Whoever declared it: what a card forbids is neither indexed nor answered under here.
        terms::may_serve(state, &published.datanets)?;
        grants.hold(&self.data, state, &published.datanets)?;
        let index = self.index(state, &published.datanets, built).await?;
        if state.index(version).is_none() {
            if self.is_indexer && posted.insert(version) {
                let sent = self.post(state, version, index.root()).await;
                if sent.is_err() {
                    posted.remove(&version);
                }
                sent?;
            }
            bail!("its index root is not on the chain yet");
        }
        let manifest = state.manifest(version)?;
        check_root(&manifest, &index)?;
        check_parameters(manifest.parameters, state.parameters(manifest.parameters))?;
        Ok(Some(Offer { manifest, index, adapter, indexes: Arc::clone(&self.indexes) }))
    }

    async fn index(&self, state: &Arc<State>, datanets: &[AssetVersion], built: &mut Built) -> anyhow::Result<Arc<Index>> {
        let mut parts = Vec::with_capacity(datanets.len());
        for version in datanets {
            erased::check(state, *version)?;
            if !built.contains_key(version) {
                built.insert(*version, Arc::new(self.opened(state, *version).await.with_context(|| format!("Datanet {version}"))?));
            }
            parts.push(Arc::clone(built.get(version).context("just built")?));
        }
        Ok(Arc::new(Index::new(parts)?))
    }

    /// The index of a version, from files; what is missing of it is built from contributions, which are fetched one at a time. Whoever drops this
    /// breaks the build off: the next one goes on from there.
    async fn opened(&self, state: &Arc<State>, version: AssetVersion) -> anyhow::Result<DatanetIndex> {
        let plan = Plan::of(state, version)?;
        let (indexes, shards, state) = (Arc::clone(&self.indexes), Arc::clone(&self.shards), Arc::clone(state));
        let (runtime, waiting) = (Handle::current(), self.waiting.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(Arc::clone(&stop));
        let building = tokio::task::spawn_blocking(move || {
            let mut tell = Telling::new(version, waiting);
            let told = &mut |step| {
                tell.note(step);
                if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            indexes.open(&plan, &mut |accepted| Ok(runtime.block_on(shards.contribution(&state, accepted))?.0), told)
        });
        let (datanet, made) = building.await??;
        tracing::info!(%version, built = made.built.len(), of = datanet.segments().len(), "the index of a Datanet is open");
        Ok(datanet)
    }

    async fn post(&self, state: &State, version: AssetVersion, root: Hash32) -> anyhow::Result<()> {
        check_parameters(PARAMETERS, state.parameters(PARAMETERS))?;
        self.chain.post_index_root(version, root, PARAMETERS).await?;
        tracing::info!(%version, %root, "posted an index root");
        Ok(())
    }
}

/// Whether the chain's parameters of this number are those of this build: answers weighed by others would cost the stake (F10).
fn check_parameters(number: u32, approved: Option<Hash32>) -> anyhow::Result<()> {
    let ours = Parameters::builtin(number).with_context(|| format!("this build carries no attribution parameters {number}"))?.hash();
    match approved {
        Some(approved) if approved == ours => Ok(()),
        Some(approved) => {
            bail!(
                "parameters {number} have hash {ours} in this build, {approved} on the chain: use the build that goes with this deployment"
            )
        }
        None => bail!("parameters {number} are not approved on the chain"),
    }
}

fn check_root(manifest: &Manifest, index: &Index) -> anyhow::Result<()> {
    if manifest.index != index.root() {
        bail!(
            "the posted index root is {}, rebuilt from the contributions it is {}: the indexer is wrong or this build is. The registry takes one root \
             per version, so it cannot be replaced: the owner publishes a next version, which gets a root of its own, and freezes this one",
            manifest.index,
            index.root()
        );
    }
    Ok(())
}

/// Tells the work it was begun for that nobody waits for it.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What an operator hears of a build that takes a while: why nothing is served yet, and lines in the log.
struct Telling {
    version: AssetVersion,
    waiting: watch::Sender<Vec<String>>,
    begun: Instant,
    told: String,
}

impl Telling {
    fn new(version: AssetVersion, waiting: watch::Sender<Vec<String>>) -> Self {
        Self { version, waiting, begun: Instant::now(), told: String::new() }
    }

    fn note(&mut self, step: Step) {
        let said = words(self.version, step);
        if said != self.told && self.begun.elapsed() >= TOLD_AFTER {
            tracing::info!("{said}");
            self.waiting.send_replace(vec![said.clone()]);
            self.told = said;
        }
    }
}

/// How far a build is, to a tenth.
fn words(version: AssetVersion, step: Step) -> String {
    let tenths = |done: u64, of: u64| done.saturating_mul(10).checked_div(of).unwrap_or(10).min(10) * 10;
    let (what, percent) = match step.progress {
        Progress::Laid { bytes } => ("reading contributions", tenths(bytes, step.text_bytes)),
        Progress::Sorted { entries, of } => ("sorting words", tenths(entries, of)),
    };
    format!("Datanet {version}: segment {} of {} of its index is being built, {what}, {percent} %", step.segment, step.of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_build_says_how_far_it_is_to_a_tenth() {
        let version = AssetVersion { asset: types::id::AssetId(3), version: 2 };
        let at = |progress| words(version, Step { segment: 1, of: 2, text_bytes: 1_000, progress });
        assert_eq!(
            at(Progress::Laid { bytes: 999 }),
            "Datanet 3@2: segment 1 of 2 of its index is being built, reading contributions, 90 %"
        );
        assert!(at(Progress::Sorted { entries: 0, of: 0 }).ends_with("sorting words, 100 %"));
        assert!(at(Progress::Sorted { entries: 51, of: 100 }).ends_with("50 %"));
    }

    #[test]
    fn only_parameters_that_the_chain_and_this_build_agree_on_are_answered_under() {
        let ours = Parameters::builtin(PARAMETERS).unwrap().hash();
        assert!(check_parameters(PARAMETERS, Some(ours)).is_ok());
        let refused = |number, approved| check_parameters(number, approved).unwrap_err().to_string();
        assert!(refused(PARAMETERS, Some(Hash32([7; 32]))).contains("use the build that goes with this deployment"));
        assert!(refused(PARAMETERS, None).contains("not approved"));
        assert!(refused(PARAMETERS + 1, Some(ours)).contains("carries no attribution parameters 2"));
    }
}
