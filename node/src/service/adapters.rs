//! Adapters this node lacks: published for its base, fetched from staked nodes that serve them, kept under their content hash.
//!
//! What is fetched is decided by [`plan`] from the chain's books, the folder and the ads; fetching goes on beside serving, so that a slow provider
//! delays nobody's answers. Bounds: so many adapters, so many bytes on disk, one at a time, so long each. The indexing service finds the folder
//! and offers the adapter once its Datanets are indexed; its ad then names it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chain_bridge::registry::State;
use inference::{
    adapter::store::{FetchAdapter, FetchError},
    proto::residency::AdapterId,
};
use p2p::{bulk::BulkEndpoint, overlay::OverlayHandle, proto::ads::Ad};
use tokio::time::{MissedTickBehavior, timeout};
use types::{
    amount::Amount,
    id::{BlobId, NodeId},
    manifest::AssetKind,
};

use crate::{chain::Snapshots, data::DataDir, datanet::fetch_adapter};

/// How often ads and books are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Longest transfer of one adapter: half a gigabyte at 2 MB/s.
const FETCH_LIMIT: Duration = Duration::from_secs(300);
/// First wait after a failure; it doubles with each.
const RETRY_MIN: Duration = Duration::from_secs(5);
/// Longest wait.
const RETRY_MAX: Duration = Duration::from_secs(3_600);
/// Bytes of adapters on disk from which on nothing more is fetched.
const BYTES_MAX: u64 = 4 << 30;

/// The service's parts.
#[derive(Debug)]
pub struct Fetching {
    /// Where adapters are kept.
    pub data: DataDir,
    /// Content of the base that this node runs.
    pub base: BlobId,
    /// Most adapters, those here included.
    pub adapters_max: usize,
    /// Ads.
    pub overlay: OverlayHandle,
    /// Connections to providers.
    pub bulk: Arc<BulkEndpoint>,
    /// The chain's books.
    pub snapshots: Snapshots,
}

/// Adapters to fetch, in the order of their publication, each with who serves it.
pub type Wanted = Vec<(BlobId, Vec<(NodeId, SocketAddr)>)>;

/// The adapters of `base` that are published, indexed, not frozen, not in `here`, and served by a staked node; as many as `room` allows.
pub fn plan<'a>(state: &State, base: BlobId, here: &BTreeSet<BlobId>, ads: impl Iterator<Item = &'a Ad> + Clone, room: usize) -> Wanted {
    let is_ours = |parents: &[types::id::AssetVersion]| {
        parents.iter().any(|parent| {
            state.asset(parent.asset).is_some_and(|asset| asset.kind == AssetKind::Base)
                && state.version(*parent).is_some_and(|version| version.content == base)
        })
    };
    let mut published: Vec<_> = state
        .versions()
        .filter(|(version, _)| state.asset(version.asset).is_some_and(|asset| asset.kind == AssetKind::Adapter))
        .filter(|(version, published)| published.frozen.is_none() && state.index(*version).is_some() && is_ours(&published.parents))
        .map(|(_, published)| (published.published, published.content))
        .collect();
    published.sort();
    let mut wanted = Wanted::new();
    for (_, content) in published {
        if wanted.len() >= room {
            break;
        }
        if here.contains(&content) || wanted.iter().any(|(known, _)| *known == content) {
            continue;
        }
        let is_staked =
            |ad: &Ad| state.operator(ad.account).is_some_and(|operator| operator.node == ad.node && operator.active > Amount::ZERO);
        let serves = |ad: &&Ad| is_staked(ad) && ad.adapters.iter().any(|asset| asset.hash.0 == content.0);
        let providers: Vec<_> = ads.clone().filter(serves).map(|ad| (ad.node, ad.bulk_addr)).collect();
        if !providers.is_empty() {
            wanted.push((content, providers));
        }
    }
    wanted
}

impl Fetching {
    /// Fetches what is wanted, one after another, for ever.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed: BTreeMap<BlobId, (Instant, Duration)> = BTreeMap::new();
        loop {
            ticks.tick().await;
            let wanted = match self.wanted().await {
                Ok(wanted) => wanted,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "adapters to fetch");
                    continue;
                }
            };
            failed.retain(|hash, _| wanted.iter().any(|(wanted, _)| wanted == hash));
            let due = wanted.into_iter().find(|(hash, _)| failed.get(hash).is_none_or(|(due, _)| *due <= Instant::now()));
            let Some((hash, providers)) = due else { continue };
            let fetched = timeout(FETCH_LIMIT, fetch_adapter(&self.data, &self.bulk, hash, &providers)).await;
            match fetched.context("it took too long").and_then(|done| done) {
                Ok(_) => {
                    failed.remove(&hash);
                    tracing::info!(%hash, "adapter fetched");
                }
                Err(error) => {
                    let wait = failed.get(&hash).map_or(RETRY_MIN, |(_, wait)| wait.saturating_mul(2).min(RETRY_MAX));
                    tracing::warn!(%hash, retry_s = wait.as_secs(), error = format!("{error:#}"), "adapter not fetched");
                    failed.insert(hash, (Instant::now() + wait, wait));
                }
            }
        }
    }

    async fn wanted(&self) -> anyhow::Result<Wanted> {
        let data = self.data.clone();
        let (here, bytes) = tokio::task::spawn_blocking(move || kept(&data)).await??;
        let room = self.adapters_max.saturating_sub(here.len());
        if room == 0 || bytes >= BYTES_MAX {
            return Ok(Wanted::new());
        }
        let state = Arc::clone(&self.snapshots.borrow().latest);
        let ads = self.overlay.ads().await?;
        Ok(plan(&state, self.base, &here, ads.iter().map(|signed| signed.ad()), room))
    }
}

/// What the engine has dropped, or never had, it takes from the folder: its own packed form is a cache.
impl FetchAdapter for DataDir {
    fn fetch(&self, id: AdapterId, bytes_max: u64) -> Result<PathBuf, FetchError> {
        let folder = self.adapter(BlobId(id.0));
        let bytes = match bytes_of(&folder) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FetchError::NotFound),
            Err(error) => return Err(FetchError::Failed(format!("{}: {error}", folder.display()))),
        };
        if bytes > bytes_max { Err(FetchError::TooLarge { got: bytes, max: bytes_max }) } else { Ok(folder) }
    }
}

fn bytes_of(folder: &Path) -> io::Result<u64> {
    std::fs::read_dir(folder)?.try_fold(0_u64, |bytes, file| Ok(bytes.saturating_add(file?.metadata()?.len())))
}

/// The adapters in the folder and the bytes of their files.
fn kept(data: &DataDir) -> anyhow::Result<(BTreeSet<BlobId>, u64)> {
    let (mut here, mut bytes) = (BTreeSet::new(), 0_u64);
    for (hash, folder) in crate::command::adapter::present(data)? {
        bytes = bytes.saturating_add(bytes_of(&folder).with_context(|| folder.display().to_string())?);
        here.insert(hash);
    }
    Ok((here, bytes))
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use p2p::proto::ads::{AdAsset, AdSite, Services};
    use types::{
        id::{Address, AssetId, AssetVersion, Hash32},
        split::SplitTable,
        time::BlockRef,
    };

    use super::*;

    const BASE: BlobId = BlobId([1; 32]);

    fn version(asset: u64) -> AssetVersion {
        AssetVersion { asset: AssetId(asset), version: 1 }
    }

    fn content(asset: u64) -> BlobId {
        BlobId([u8::try_from(asset).unwrap(); 32])
    }

    /// A chain with base 1, another base 2, adapters 3 to 6 of base 1 and 7 of base 2; 5 has no index root yet, 6 is frozen. Node 1 has stake.
    fn state() -> State {
        let mut events = Vec::new();
        for asset in 1..=7_u64 {
            let (kind, parents) = match asset {
                1 | 2 => (AssetKind::Base, vec![]),
                7 => (AssetKind::Adapter, vec![version(2)]),
                _ => (AssetKind::Adapter, vec![version(1)]),
            };
            events.push(Event::Registered { asset: AssetId(asset), kind, owner: Address([9; 20]), uri: String::new() });
            events.push(Event::Published {
                version: version(asset),
                content: content(asset),
                parents,
                split: SplitTable::default(),
                datanets: vec![],
                licence: Hash32::ZERO,
                parent_share_min: 0,
            });
            if asset != 5 {
                let (root, indexer) = (Hash32([4; 32]), Address([9; 20]));
                events.push(Event::IndexPosted { version: version(asset), root, parameters: 1, indexer, window_ends: 0 });
            }
        }
        events.push(Event::Frozen { version: version(6) });
        let (account, node) = (Address([1; 20]), NodeId([1; 32]));
        events.push(Event::NodeRegistered { account, node, incarnation: 1, payout: account, stake: Amount(5) });
        let mut state = State::default();
        for (number, event) in (1..).zip(events) {
            let logged = Logged { block: BlockRef { number, hash: Hash32::ZERO }, log: 0, transaction: Hash32::ZERO, time: 0, event };
            state.apply(&logged).unwrap();
        }
        state
    }

    /// An ad of node `byte` that names every adapter.
    fn ad(byte: u8) -> Ad {
        let place = |asset| AdAsset { asset: AssetId(asset), version: 1, hash: Hash32(content(asset).0) };
        Ad {
            node: NodeId([byte; 32]),
            account: Address([byte; 20]),
            incarnation: 1,
            seq: 1,
            ttl_s: 10,
            client_addr: "127.0.0.1:1".parse().unwrap(),
            bulk_addr: "127.0.0.1:2".parse().unwrap(),
            overlay_addrs: vec![],
            site: AdSite::default(),
            services: Services::INFERENCE,
            bases: vec![],
            adapters: (3..=7).map(place).collect(),
            profile: Some(types::quote::Profile::Exact),
            rin: Amount::ZERO,
            rout: Amount::ZERO,
            queue: 0,
            ttft_ms: 0,
            tokens_per_s: 0,
            leaving: false,
        }
    }

    fn wanted(here: &[u64], ads: &[Ad], room: usize) -> Vec<BlobId> {
        let here = here.iter().map(|asset| content(*asset)).collect();
        plan(&state(), BASE, &here, ads.iter(), room).into_iter().map(|(hash, _)| hash).collect()
    }

    #[test]
    fn indexed_adapters_of_this_base_that_a_staked_node_serves_are_wanted_in_order_and_within_room() {
        let staked = [ad(1)];
        assert_eq!(wanted(&[], &staked, 16), [content(3), content(4)]);
        assert_eq!(wanted(&[3], &staked, 16), [content(4)]);
        assert_eq!(wanted(&[], &staked, 1), [content(3)]);
        assert!(wanted(&[], &staked, 0).is_empty());
    }

    #[test]
    fn the_engine_finds_an_adapter_in_the_folder_by_its_content_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        let id = AdapterId([7; 32]);
        assert_eq!(data.fetch(id, 10), Err(FetchError::NotFound));
        let path = data.adapter(BlobId(id.0));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("adapter_config.json"), [0; 4]).unwrap();
        std::fs::write(path.join("adapter_model.safetensors"), [0; 6]).unwrap();
        assert_eq!(data.fetch(id, 10), Ok(path));
        assert_eq!(data.fetch(id, 9), Err(FetchError::TooLarge { got: 10, max: 9 }));
    }

    #[test]
    fn a_node_without_stake_or_under_anothers_account_is_no_provider() {
        let stolen = Ad { account: Address([1; 20]), ..ad(2) };
        assert!(wanted(&[], &[ad(2), stolen], 16).is_empty());
        let providers = plan(&state(), BASE, &BTreeSet::new(), [ad(2), ad(1)].iter(), 16);
        assert!(providers.iter().all(|(_, nodes)| nodes.iter().map(|(node, _)| *node).eq([NodeId([1; 32])])));
    }
}
