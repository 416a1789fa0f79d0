//! Payout trees that others ask for: those that this node keeps, never one that it would have to build for who asks.
//!
//! A tree is read from disk once, one at a time and beside the service, and stays in memory while it is asked for: 50 bytes a part and 150 a payee, so 50 MB
//! for a million parts, of [`TREES_MAX`] trees (the last final one, the one that waits, and one more). What is not kept is refused after one look at the
//! disk. A peer asks at most as often as [`RATE`] allows: a whole tree of a million parts in six seconds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use attribution::epoch::Payout;
use p2p::proto::limits::{Bucket, Rate};
use tokio::{sync::Mutex as AsyncMutex, time::timeout};
use types::{
    id::{Hash32, NodeId},
    time::Time,
};

/// Trees in memory.
const TREES_MAX: usize = 3;
/// How long a question waits for the trees that others asked for.
const LOAD_WAIT: Duration = Duration::from_secs(5);
/// Questions of one peer.
const RATE: Rate = Rate { burst: 256, pause: Duration::from_millis(25) };
/// Peers that are counted; of more the one that has not asked for longest is forgotten.
const PEERS_MAX: usize = 1_024;

/// What is shown to others, and how often they asked.
#[derive(Debug)]
pub struct Trees {
    /// The one asked for last stands last.
    trees: Mutex<Vec<Arc<Payout>>>,
    loading: AsyncMutex<()>,
    peers: Mutex<BTreeMap<NodeId, (Bucket, Time)>>,
    started: Instant,
}

impl Default for Trees {
    fn default() -> Self {
        Self { trees: Mutex::default(), loading: AsyncMutex::default(), peers: Mutex::default(), started: Instant::now() }
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trees {
    /// The tree of a root, if it is in memory.
    fn get(&self, root: Hash32) -> Option<Arc<Payout>> {
        let mut trees = locked(&self.trees);
        let place = trees.iter().position(|tree| tree.root() == root)?;
        let tree = trees.remove(place);
        trees.push(Arc::clone(&tree));
        Some(tree)
    }

    fn put(&self, tree: &Arc<Payout>) {
        let mut trees = locked(&self.trees);
        if trees.len() >= TREES_MAX {
            trees.remove(0);
        }
        trees.push(Arc::clone(tree));
    }

    /// The tree of a root, from memory or as `load` gives it; one is loaded at a time, however many ask.
    ///
    /// # Errors
    /// That of `load`, or that others are loaded.
    pub(super) async fn get_or_load(
        &self,
        root: Hash32,
        load: impl Future<Output = anyhow::Result<Option<Payout>>>,
    ) -> anyhow::Result<Option<Arc<Payout>>> {
        if let Some(tree) = self.get(root) {
            return Ok(Some(tree));
        }
        let _one = timeout(LOAD_WAIT, self.loading.lock()).await.context("other trees are read from disk: ask again in a moment")?;
        if let Some(tree) = self.get(root) {
            return Ok(Some(tree));
        }
        let Some(tree) = load.await?.filter(|tree| tree.root() == root) else { return Ok(None) };
        let tree = Arc::new(tree);
        self.put(&tree);
        Ok(Some(tree))
    }

    /// Counts a question of a peer; false if it asks too often.
    pub(super) fn may_ask(&self, peer: NodeId) -> bool {
        let now = Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.may_ask_at(peer, now)
    }

    fn may_ask_at(&self, peer: NodeId, now: Time) -> bool {
        let mut peers = locked(&self.peers);
        if peers.len() >= PEERS_MAX
            && !peers.contains_key(&peer)
            && let Some(longest) = peers.iter().min_by_key(|(_, (_, last))| *last).map(|(peer, _)| *peer)
        {
            peers.remove(&longest);
        }
        let (bucket, last) = peers.entry(peer).or_insert_with(|| (Bucket::full(RATE, now), now));
        *last = now;
        bucket.take(RATE, now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use attribution::epoch::{Parts, one_by_one};
    use futures::future::join_all;
    use types::{amount::Amount, id::Address, payout::PartLeaf, split::Part};

    use super::*;

    fn tree(account: u8) -> Payout {
        let part = PartLeaf::new(Address([9; 20]), 0, Part::Node, Amount(1));
        let parts: Parts = [(Address([account; 20]), vec![part])].into();
        Payout::over(&BTreeMap::new(), parts, &one_by_one).unwrap()
    }

    #[tokio::test]
    async fn a_tree_is_loaded_once_however_many_ask_at_once_and_epochs_that_alternate_are_not_loaded_again() {
        let (trees, loads) = (Trees::default(), AtomicUsize::new(0));
        let ask = |account: u8| {
            let (trees, loads) = (&trees, &loads);
            async move {
                let load = async {
                    loads.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Ok(Some(tree(account)))
                };
                trees.get_or_load(tree(account).root(), load).await.unwrap().unwrap().root()
            }
        };
        let roots = join_all((0..100).map(|number| ask(number % 3))).await;
        assert_eq!(loads.load(Ordering::Relaxed), 3);
        assert!((0..100).zip(roots).all(|(number, root)| root == tree(number % 3).root()));
        ask(7).await;
        assert_eq!(loads.load(Ordering::Relaxed), 4);
        assert_eq!(locked(&trees.trees).len(), TREES_MAX);
        assert!(trees.get(tree(7).root()).is_some(), "the one that was asked for last stays");
    }

    #[tokio::test]
    async fn what_is_not_kept_or_is_another_tree_is_not_shown() {
        let trees = Trees::default();
        assert!(trees.get_or_load(tree(1).root(), async { Ok(None) }).await.unwrap().is_none());
        assert!(trees.get_or_load(tree(1).root(), async { Ok(Some(tree(2))) }).await.unwrap().is_none());
        assert!(trees.get_or_load(tree(1).root(), async { anyhow::bail!("the disk") }).await.is_err());
        assert!(locked(&trees.trees).is_empty());
    }

    #[test]
    fn a_peer_that_asks_too_often_waits_and_keeps_no_other_from_asking() {
        let trees = Trees::default();
        let peer = |number: u16| NodeId([number.to_be_bytes(); 16].concat().try_into().unwrap());
        assert_eq!((0..1_000).filter(|_| trees.may_ask_at(peer(1), Time(0))).count(), RATE.burst as usize);
        assert!(trees.may_ask_at(peer(2), Time(0)));
        assert!(trees.may_ask_at(peer(1), Time(0).after(RATE.pause)), "one more after a pause");
        for number in 0..5_000 {
            trees.may_ask_at(peer(number), Time(1_000_000));
        }
        assert_eq!(locked(&trees.peers).len(), PEERS_MAX);
    }
}
