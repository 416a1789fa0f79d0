//! Contributions that wait for two reviewers, on disk: a node that stops forgets none.
//!
//! Each is two files of mode 0600: the case (report, approvals, rejection) and the shard, sealed if its Datanet is private. The shard is written first, so a
//! case always has one. Bounds: [`CASES_MAX`] cases and [`BYTES_MAX`] of shards; when full, what was decided longest ago goes first, and if all wait the
//! next contribution is turned away with words. A case ends when its contribution is on the chain, or [`EXPIRY_BLOCKS`] after it came: its commitment is void by then.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::State;
use storage::{
    datanet::{Report, review::Case},
    erasure::OBJECT_BYTES_MAX,
};
use tokio::sync::Mutex;
use types::id::{Address, AssetId, Hash32};

use crate::{
    data::{read_bounded, write_atomic},
    datanet::in_the_way,
};

/// Most contributions that wait or were decided lately.
const CASES_MAX: usize = 256;
/// Bytes of shards kept for reviewers.
const BYTES_MAX: u64 = 1 << 30;
/// Largest case: a report of as many findings as it lists.
const CASE_BYTES_MAX: u64 = 2 << 20;
/// Blocks after which a case is dropped: 30 days of two seconds, as long as a commitment counts.
const EXPIRY_BLOCKS: u64 = 30 * 24 * 3600 / 2;

type Key = (AssetId, Hash32);

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    folder: PathBuf,
    cases: Mutex<BTreeMap<Key, Case>>,
}

impl Queue {
    /// The queue in a folder, which is made when something waits.
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Self> {
        let mut cases = BTreeMap::new();
        if folder.exists() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
                let path = entry?.path();
                if path.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                let read = read_bounded(&path, CASE_BYTES_MAX).map(|bytes| serde_json::from_slice::<Case>(&bytes));
                match read {
                    Ok(Ok(case)) => drop(cases.insert((case.datanet, case.commitment), case)),
                    Ok(Err(error)) => tracing::warn!(path = %path.display(), %error, "a waiting contribution is damaged and passed over"),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "a waiting contribution cannot be read"),
                }
            }
        }
        Ok(Self { folder, cases: Mutex::new(cases) })
    }

    fn path(&self, (datanet, commitment): Key, kind: &str) -> PathBuf {
        self.folder.join(format!("{datanet}-{}.{kind}", hex::encode(commitment.0)))
    }

    /// What waits of a Datanet, or was decided lately, in the order in which it came.
    pub(super) async fn list(&self, datanet: AssetId) -> Vec<Case> {
        let mut cases: Vec<_> = self.cases.lock().await.values().filter(|case| case.datanet == datanet).cloned().collect();
        cases.sort_by_key(|case| (case.since, case.commitment));
        cases
    }

    /// One case.
    pub(super) async fn get(&self, datanet: AssetId, commitment: Hash32) -> Option<Case> {
        self.cases.lock().await.get(&(datanet, commitment)).cloned()
    }

    /// The case of somebody's text, under whatever commitment.
    pub(super) async fn of(&self, datanet: AssetId, contributor: Address, text_root: Hash32) -> Option<Case> {
        let is_it = |case: &&Case| (case.datanet, case.report.contributor, case.report.text_root) == (datanet, contributor, text_root);
        self.cases.lock().await.values().find(is_it).cloned()
    }

    /// The shard of a case, as it is kept.
    pub(super) async fn shard(&self, case: &Case) -> anyhow::Result<Vec<u8>> {
        let path = self.path((case.datanet, case.commitment), "shard");
        let read = move || read_bounded(&path, OBJECT_BYTES_MAX as u64).with_context(|| format!("{}", path.display()));
        tokio::task::spawn_blocking(read).await?
    }

    /// Has a contribution wait.
    pub(super) async fn add(&self, case: Case, shard: Vec<u8>) -> anyhow::Result<()> {
        let mut cases = self.cases.lock().await;
        while cases.len() >= CASES_MAX || held(&cases).saturating_add(case.shard_bytes) > BYTES_MAX {
            let decided = cases.iter().filter(|(_, case)| case.state() != "waits").min_by_key(|(_, case)| case.since);
            let Some(key) = decided.map(|(key, _)| *key) else {
                bail!("{} contributions wait for reviewers here already: try again when some are decided", cases.len())
            };
            self.forget(&mut cases, key);
        }
        let key = (case.datanet, case.commitment);
        let path = self.path(key, "shard");
        write_atomic(&path, &shard, 0o600).with_context(|| format!("{}", path.display()))?;
        self.write(&case)?;
        cases.insert(key, case);
        Ok(())
    }

    /// Changes a case; what is changed is on disk when this returns.
    pub(super) async fn change<E>(
        &self,
        datanet: AssetId,
        commitment: Hash32,
        change: impl FnOnce(&mut Case) -> Result<(), E>,
    ) -> anyhow::Result<Result<Case, E>> {
        let mut cases = self.cases.lock().await;
        let held = cases.get_mut(&(datanet, commitment)).context("it waits no longer")?;
        let mut case = held.clone();
        if let Err(error) = change(&mut case) {
            return Ok(Err(error));
        }
        self.write(&case)?;
        held.clone_from(&case);
        Ok(Ok(case))
    }

    /// Drops what is on the chain or, at block `tip`, too old.
    pub(super) async fn prune(&self, state: &State, tip: u64) {
        let mut cases = self.cases.lock().await;
        let is_over = |case: &Case| {
            let Report { contributor, text_root, .. } = case.report;
            let own = state.commitment(case.commitment, contributor);
            let is_in = in_the_way(state, case.datanet, text_root, contributor, own).is_some();
            is_in || case.since.saturating_add(EXPIRY_BLOCKS) < tip
        };
        let over: Vec<Key> = cases.iter().filter(|(_, case)| is_over(case)).map(|(key, _)| *key).collect();
        for key in over {
            self.forget(&mut cases, key);
        }
    }

    fn forget(&self, cases: &mut BTreeMap<Key, Case>, key: Key) {
        cases.remove(&key);
        // The case first: one without its shard would be served as if it had one.
        for kind in ["json", "shard"] {
            let path = self.path(key, kind);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a decided contribution is left on the disk");
            }
        }
    }

    fn write(&self, case: &Case) -> anyhow::Result<()> {
        let (path, bytes) = (self.path((case.datanet, case.commitment), "json"), serde_json::to_vec(case)?);
        ensure!(bytes.len() as u64 <= CASE_BYTES_MAX, "a report of {} bytes is too long to be kept", bytes.len());
        write_atomic(&path, &bytes, 0o600).with_context(|| format!("{}", path.display()))
    }
}

fn held(cases: &BTreeMap<Key, Case>) -> u64 {
    cases.values().fold(0, |sum: u64, case| sum.saturating_add(case.shard_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: AssetId = AssetId(4);

    fn case(number: u8, since: u64) -> Case {
        let report = Report {
            accepted: false,
            contributor: Address([number; 20]),
            text_root: Hash32([number; 32]),
            text_bytes: 3,
            documents: 1,
            refusals: vec![],
            unlisted: 0,
            notes: vec![],
            notes_unlisted: 0,
            approvals: vec![],
        };
        Case { datanet: NET, commitment: Hash32([number; 32]), since, shard_bytes: 3, report, approvals: vec![], rejection: None }
    }

    #[tokio::test]
    async fn what_waits_is_there_after_a_restart_and_a_damaged_file_is_passed_over() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("reviews");
        let queue = Queue::open(folder.clone()).unwrap();
        queue.add(case(2, 9), b"two".to_vec()).await.unwrap();
        queue.add(case(1, 7), b"one".to_vec()).await.unwrap();
        std::fs::write(folder.join("4-00.json"), b"{").unwrap();
        let again = Queue::open(folder).unwrap();
        assert_eq!(again.list(NET).await, [case(1, 7), case(2, 9)]);
        assert_eq!(again.list(AssetId(5)).await, []);
        assert_eq!(again.shard(&case(2, 9)).await.unwrap(), b"two");
        assert_eq!(again.of(NET, Address([1; 20]), Hash32([1; 32])).await, Some(case(1, 7)));
        assert_eq!(again.of(NET, Address([2; 20]), Hash32([1; 32])).await, None);
    }

    #[tokio::test]
    async fn a_change_that_fails_leaves_the_case_and_one_that_does_not_is_on_disk() {
        let outer = tempfile::tempdir().unwrap();
        let queue = Queue::open(outer.path().to_owned()).unwrap();
        queue.add(case(1, 7), b"one".to_vec()).await.unwrap();
        let key = Hash32([1; 32]);
        let refused = queue.change(NET, key, |case| {
            case.since = 99;
            Err("no")
        });
        assert_eq!(refused.await.unwrap(), Err("no"));
        assert_eq!(queue.get(NET, key).await.unwrap().since, 7);
        let changed = queue.change(NET, key, |case| {
            case.since = 8;
            Ok::<(), ()>(())
        });
        assert_eq!(changed.await.unwrap().unwrap().since, 8);
        assert_eq!(Queue::open(outer.path().to_owned()).unwrap().get(NET, key).await.unwrap().since, 8);
    }

    #[tokio::test]
    async fn a_full_queue_turns_the_next_away_and_the_rest_waits_on() {
        let outer = tempfile::tempdir().unwrap();
        let queue = Queue::open(outer.path().to_owned()).unwrap();
        let mut large = case(1, 7);
        large.shard_bytes = BYTES_MAX;
        queue.add(large, b"one".to_vec()).await.unwrap();
        let error = queue.add(case(2, 8), b"two".to_vec()).await.unwrap_err().to_string();
        assert!(error.contains("1 contributions wait"), "{error}");
        assert_eq!(queue.list(NET).await.len(), 1);
    }
}
