//! What this node can answer under: versions of the registry whose files are here and whose index, rebuilt from the contributions
//! themselves, has the posted root.
//!
//! Building costs 0.06 to 0.1 s per MB of text once per Datanet version, a third of it the search for near copies, which are paid through the
//! first document of their cluster; the result is shared between manifests and kept in memory (2.1 to 2.6 bytes per byte of text, most where
//! rows are short; while near copies are looked for, 8 a word and 300 a document more). An indexer also posts the root of a version that has none.

mod files;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use attribution::{
    index::{Clusters, DatanetIndex, Entry, Index, Segment, Source, Tombstone},
    parameters::Parameters,
};
use chain_bridge::{
    client::ChainClient,
    registry::{State, state::Accepted},
};
use inference::engine::EngineHandle;
use storage::datanet::{Document, dedup::clusters_of};
use tokio::sync::{RwLock, watch};
use types::{
    contribution::Priority,
    id::{AssetVersion, BlobId, Hash32},
    manifest::{AssetKind, Manifest},
};

use super::inference::{Offer, Offers};
use crate::{
    chain::Snapshots,
    data::DataDir,
    datanet::{LocalContribution, Shards, erased, terms},
};

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

impl Indexing {
    /// Follows the chain until it ends; every change of its state is looked at once.
    pub async fn run(self, mut snapshots: Snapshots, mut rescan: tokio::sync::mpsc::Receiver<()>) {
        let mut built = Built::new();
        let mut posted = BTreeSet::new();
        let (mut seen, mut is_asked) = (Arc::new(State::default()), true);
        loop {
            let state = Arc::clone(&snapshots.borrow_and_update().latest);
            // Snapshots come with every block; only changed books or folders are looked at.
            if !Arc::ptr_eq(&state, &seen) || is_asked {
                self.refresh(&state, &mut built, &mut posted).await;
                (seen, is_asked) = (state, false);
            }
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                asked = rescan.recv() => match asked {
                    Some(()) => is_asked = true,
                    None => return,
                },
            }
        }
    }

    async fn refresh(&self, state: &State, built: &mut Built, posted: &mut BTreeSet<AssetVersion>) {
        let (mut offers, mut waiting) = (Offers::new(), Vec::new());
        // The text of what was erased on request leaves the memory too, once the answers under way have ended.
        built.retain(|version, _| erased::check(state, *version).is_ok());
        for (version, published) in state.versions() {
            let kind = state.asset(version.asset).map(|asset| asset.kind);
            if published.frozen.is_some() || !matches!(kind, Some(AssetKind::Base | AssetKind::Adapter | AssetKind::Agent)) {
                continue;
            }
            match self.consider(state, version, built, posted).await {
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
        state: &State,
        version: AssetVersion,
        built: &mut Built,
        posted: &mut BTreeSet<AssetVersion>,
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
        Ok(Some(Offer { manifest, index, adapter }))
    }

    async fn index(&self, state: &State, datanets: &[AssetVersion], built: &mut Built) -> anyhow::Result<Arc<Index>> {
        let mut parts = Vec::with_capacity(datanets.len());
        for version in datanets {
            erased::check(state, *version)?;
            if !built.contains_key(version) {
                let contributions = self.shards.ensure(state, *version).await.with_context(|| format!("Datanet {version}"))?;
                let (version, tombstones) = (*version, tombstones(state, *version));
                let datanet = tokio::task::spawn_blocking(move || build(version, &contributions, &tombstones))
                    .await?
                    .with_context(|| format!("Datanet {version}"))?;
                built.insert(version, Arc::new(datanet));
            }
            parts.push(Arc::clone(built.get(version).context("just built")?));
        }
        Ok(Arc::new(Index::new(parts)?))
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

/// What was erased from a Datanet before a version of it was published: rows without text of that version's index.
pub fn tombstones(state: &State, version: AssetVersion) -> Vec<Accepted> {
    state.tombstones_of(version).cloned().collect()
}

/// Builds the index of one Datanet version from its contributions and tombstones, each in priority order. Near copies are those among the
/// contributions given: one whose cluster's first document was erased is paid for itself, or through the next.
pub fn build(version: AssetVersion, contributions: &[LocalContribution], tombstones: &[Accepted]) -> anyhow::Result<DatanetIndex> {
    anyhow::ensure!(
        contributions.iter().all(|local| local.text_salt.is_none()),
        "Datanet {version} is private: its leaves are salted, and spans are proven by plain ones"
    );
    let texts = contributions.iter().map(|local| {
        let source = Source {
            contributor: local.accepted.contributor,
            block: local.accepted.priority.block,
            ordinal: local.accepted.priority.ordinal,
            text_root: local.accepted.text_root,
            text: &local.text,
        };
        (local.accepted.priority, Entry::Text(source))
    });
    let buried = tombstones.iter().map(|accepted| {
        let Accepted { priority, text_root, .. } = *accepted;
        (priority, Entry::Erased(Tombstone { block: priority.block, ordinal: priority.ordinal, text_root }))
    });
    let mut entries: Vec<_> = texts.chain(buried).collect();
    entries.sort_by_key(|(priority, _)| *priority);
    let entries: Vec<Entry<'_>> = entries.into_iter().map(|(_, entry)| entry).collect();
    let segment = Segment::build_entries(&entries, 0)?;
    Ok(DatanetIndex::clustered(version, vec![segment], &clusters(contributions)?)?)
}

/// The near copies among contributions, by the rule of the gate.
fn clusters(contributions: &[LocalContribution]) -> anyhow::Result<Clusters> {
    let texts = contributions.iter().map(|local| {
        let first = Priority { document: 0, ..local.accepted.priority };
        (first, local.documents.iter().map(Document::text))
    });
    let members = clusters_of(texts)?;
    Ok(Clusters::new(members.iter().map(|member| (member.document, member.cluster)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
