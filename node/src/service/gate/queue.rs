//! Contributions that wait for two reviewers, on disk: a node that stops forgets none.
//!
//! Each is two files of mode 0600: the case (report, approvals) and the shard, sealed if its Datanet is private. The shard is written first, so a case always has one. Who may have how many wait, and who makes room for
//! whom, is [`shares`]' to say. A rejection ends a case: what was decided is kept apart ([`decided`]), and then the case goes with its shard, whose rows nobody needs any more. Other cases end when
//! their contribution is on the chain, or [`EXPIRY_BLOCKS`] after they came: their commitment is void by then.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, ensure};
use chain_bridge::registry::State;
use storage::{
    datanet::{Report, review::Case},
    erasure::OBJECT_BYTES_MAX,
};
use tokio::sync::Mutex;
use types::id::{Address, AssetId, Hash32};

use super::{
    decided::{self, Decided, Decisions},
    shares::{self, Amount, FullError, Key, Waiting},
};
use crate::{
    data::{read_bounded, write_atomic},
    datanet::in_the_way,
};

/// Largest case: a report of as many findings as it lists.
const CASE_BYTES_MAX: u64 = 2 << 20;
/// Blocks after which a case is dropped: 30 days of two seconds, as long as a commitment counts.
pub(super) const EXPIRY_BLOCKS: u64 = 30 * 24 * 3600 / 2;
/// Most decisions that are listed, the latest: their list is one answer.
const LISTED_MAX: usize = 256;

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    folder: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    cases: BTreeMap<Key, Case>,
    decisions: Decisions,
}

/// What became of a contribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Became {
    /// It waits, or is approved.
    Case(Box<Case>),
    /// It was rejected.
    Rejected(Box<Decided>),
}

impl Queue {
    /// The queue in a folder, which is made when something waits.
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Self> {
        let (mut held, mut shards) = (Held::default(), Vec::new());
        if folder.exists() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
                let path = entry?.path();
                let read = match path.extension().and_then(|extension| extension.to_str()) {
                    Some("json") => read_bounded(&path, CASE_BYTES_MAX).map_err(anyhow::Error::from).and_then(|bytes| {
                        let case: Case = serde_json::from_slice(&bytes)?;
                        held.cases.insert((case.datanet, case.commitment), case);
                        Ok(())
                    }),
                    Some(decided::SUFFIX) => held.decisions.load(&path),
                    Some("shard") => {
                        shards.push(path);
                        continue;
                    }
                    _ => continue,
                };
                if let Err(error) = read {
                    tracing::warn!(path = %path.display(), error = format!("{error:#}"), "a waiting or decided contribution cannot be read and is passed over");
                }
            }
        }
        let queue = Self { folder, held: Mutex::default() };
        // A node that was killed between a decision and what follows from it.
        let rejected: Vec<Decided> = held.cases.values().filter_map(Decided::of).collect();
        for decided in rejected {
            queue.end(&mut held, decided)?;
        }
        let over: Vec<Key> = held.cases.keys().copied().filter(|key| held.decisions.get(*key).is_some()).collect();
        over.into_iter().for_each(|key| queue.forget(&mut held.cases, key));
        for path in shards {
            let is_of = |key: &Key| queue.path(*key, "shard") == path;
            if path.exists() && !held.cases.keys().any(is_of) {
                tracing::warn!(path = %path.display(), "removed a shard that waits for nobody");
                std::fs::remove_file(&path).with_context(|| format!("{}", path.display()))?;
            }
        }
        Ok(Self { held: Mutex::new(held), ..queue })
    }

    fn path(&self, (datanet, commitment): Key, kind: &str) -> PathBuf {
        self.folder.join(format!("{datanet}-{}.{kind}", hex::encode(commitment.0)))
    }

    /// What waits of a Datanet, or is approved, in the order in which it came, and what was rejected lately.
    pub(super) async fn list(&self, datanet: AssetId) -> (Vec<Case>, Vec<Decided>) {
        let held = self.held.lock().await;
        let mut cases: Vec<_> = held.cases.values().filter(|case| case.datanet == datanet).cloned().collect();
        let mut decided: Vec<_> = held.decisions.iter().filter(|decided| decided.datanet == datanet).cloned().collect();
        cases.sort_by_key(|case| (case.since, case.commitment));
        decided.sort_by_key(|decided| (decided.since, decided.commitment));
        decided.drain(..decided.len().saturating_sub(LISTED_MAX));
        (cases, decided)
    }

    /// One contribution.
    pub(super) async fn get(&self, datanet: AssetId, commitment: Hash32) -> Option<Became> {
        let held = self.held.lock().await;
        let case = held.cases.get(&(datanet, commitment)).map(|case| Became::Case(Box::new(case.clone())));
        case.or_else(|| held.decisions.get((datanet, commitment)).map(|decided| Became::Rejected(Box::new(decided.clone()))))
    }

    /// What became of somebody's text, under whatever commitment.
    pub(super) async fn of(&self, datanet: AssetId, contributor: Address, text_root: Hash32) -> Option<Became> {
        let held = self.held.lock().await;
        let is_it = |case: &&Case| (case.datanet, case.report.contributor, case.report.text_root) == (datanet, contributor, text_root);
        let was_it = |one: &&Decided| (one.datanet, one.contributor, one.text_root) == (datanet, contributor, text_root);
        let case = held.cases.values().find(is_it).map(|case| Became::Case(Box::new(case.clone())));
        case.or_else(|| held.decisions.iter().find(was_it).map(|decided| Became::Rejected(Box::new(decided.clone()))))
    }

    /// What a contributor may still have wait.
    pub(super) async fn room(&self, contributor: Address) -> Amount {
        shares::room(&waiting(&self.held.lock().await.cases), contributor)
    }

    /// The shard of a case, as it is kept.
    pub(super) async fn shard(&self, case: &Case) -> anyhow::Result<Vec<u8>> {
        let path = self.path((case.datanet, case.commitment), "shard");
        let read = move || read_bounded(&path, OBJECT_BYTES_MAX as u64).with_context(|| format!("{}", path.display()));
        tokio::task::spawn_blocking(read).await?
    }

    /// Has a contribution wait; what has to make room for it goes.
    pub(super) async fn add(&self, case: Case, shard: Vec<u8>) -> anyhow::Result<Result<(), FullError>> {
        let mut held = self.held.lock().await;
        let leaving = match shares::admit(&waiting(&held.cases), case.datanet, case.report.contributor, case.shard_bytes) {
            Ok(leaving) => leaving,
            Err(full) => return Ok(Err(full)),
        };
        for key in leaving {
            tracing::info!(datanet = %key.0, commitment = %key.1, "a waiting contribution makes room for that of somebody who has fewer");
            self.forget(&mut held.cases, key);
        }
        let key = (case.datanet, case.commitment);
        let path = self.path(key, "shard");
        write_atomic(&path, &shard, 0o600).with_context(|| format!("{}", path.display()))?;
        self.write(&case)?;
        held.cases.insert(key, case);
        Ok(Ok(()))
    }

    /// Changes a case; what is changed is on disk when this returns, and the rows of what is rejected are not.
    pub(super) async fn change<E>(
        &self,
        datanet: AssetId,
        commitment: Hash32,
        change: impl FnOnce(&mut Case) -> Result<(), E>,
    ) -> anyhow::Result<Result<Case, E>> {
        let mut held = self.held.lock().await;
        let mut case = held.cases.get(&(datanet, commitment)).context("it waits no longer")?.clone();
        if let Err(error) = change(&mut case) {
            return Ok(Err(error));
        }
        match Decided::of(&case) {
            Some(decided) => self.end(&mut held, decided)?,
            None => {
                self.write(&case)?;
                held.cases.insert((datanet, commitment), case.clone());
            }
        }
        Ok(Ok(case))
    }

    /// Keeps a decision, then lets its case go with the shard.
    fn end(&self, held: &mut Held, decided: Decided) -> anyhow::Result<()> {
        let key = decided.key();
        held.decisions.keep(&self.folder, decided)?;
        self.forget(&mut held.cases, key);
        Ok(())
    }

    /// Drops what is on the chain or, at block `tip`, too old.
    pub(super) async fn prune(&self, state: &State, tip: u64) {
        let mut held = self.held.lock().await;
        let is_old = |since: u64| since.saturating_add(EXPIRY_BLOCKS) < tip;
        let is_over = |case: &Case| {
            let Report { contributor, text_root, .. } = case.report;
            let own = state.commitment(case.commitment, contributor);
            let is_in = in_the_way(state, case.datanet, text_root, contributor, own).is_some();
            is_in || is_old(case.since)
        };
        let over: Vec<Key> = held.cases.iter().filter(|(_, case)| is_over(case)).map(|(key, _)| *key).collect();
        for key in over {
            self.forget(&mut held.cases, key);
        }
        held.decisions.prune(&self.folder, |decided| is_old(decided.since));
    }

    fn forget(&self, cases: &mut BTreeMap<Key, Case>, key: Key) {
        cases.remove(&key);
        // The case first: one without its shard would be served as if it had one.
        for kind in ["json", "shard"] {
            let path = self.path(key, kind);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a contribution that waits no longer is left on the disk");
            }
        }
    }

    fn write(&self, case: &Case) -> anyhow::Result<()> {
        let (path, bytes) = (self.path((case.datanet, case.commitment), "json"), serde_json::to_vec(case)?);
        ensure!(bytes.len() as u64 <= CASE_BYTES_MAX, "a report of {} bytes is too long to be kept", bytes.len());
        write_atomic(&path, &bytes, 0o600).with_context(|| format!("{}", path.display()))
    }
}

fn waiting(cases: &BTreeMap<Key, Case>) -> Vec<Waiting> {
    let one = |(key, case): (&Key, &Case)| Waiting {
        key: *key,
        contributor: case.report.contributor,
        bytes: case.shard_bytes,
        since: case.since,
        may_go: case.approvals.is_empty(),
    };
    cases.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use storage::datanet::review::{Act, Rejection, ReviewAct};
    use types::{
        id::NodeId,
        key::{Signed, Signed65},
    };

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
        queue.add(case(2, 9), b"two".to_vec()).await.unwrap().unwrap();
        queue.add(case(1, 7), b"one".to_vec()).await.unwrap().unwrap();
        std::fs::write(folder.join("4-00.json"), b"{").unwrap();
        std::fs::write(folder.join("4-00.shard"), b"rows of nobody's").unwrap();
        let again = Queue::open(folder.clone()).unwrap();
        assert!(!folder.join("4-00.shard").exists(), "a node was killed before it wrote the case");
        assert_eq!(again.list(NET).await, (vec![case(1, 7), case(2, 9)], vec![]));
        assert_eq!(again.list(AssetId(5)).await, (vec![], vec![]));
        assert_eq!(again.shard(&case(2, 9)).await.unwrap(), b"two");
        assert_eq!(again.of(NET, Address([1; 20]), Hash32([1; 32])).await, Some(Became::Case(Box::new(case(1, 7)))));
        assert_eq!(again.of(NET, Address([2; 20]), Hash32([1; 32])).await, None);
    }

    #[tokio::test]
    async fn a_change_that_fails_leaves_the_case_and_one_that_does_not_is_on_disk() {
        let outer = tempfile::tempdir().unwrap();
        let queue = Queue::open(outer.path().to_owned()).unwrap();
        queue.add(case(1, 7), b"one".to_vec()).await.unwrap().unwrap();
        let since = |queue: Option<Became>| match queue {
            Some(Became::Case(case)) => case.since,
            other => panic!("{other:?}"),
        };
        let key = Hash32([1; 32]);
        let refused = queue.change(NET, key, |case| {
            case.since = 99;
            Err("no")
        });
        assert_eq!(refused.await.unwrap(), Err("no"));
        assert_eq!(since(queue.get(NET, key).await), 7);
        let changed = queue.change(NET, key, |case| {
            case.since = 8;
            Ok::<(), ()>(())
        });
        assert_eq!(changed.await.unwrap().unwrap().since, 8);
        assert_eq!(since(Queue::open(outer.path().to_owned()).unwrap().get(NET, key).await), 8);
    }

    /// An account's case; all of them may be taken for one contributor's by their number.
    fn of(contributor: u8, number: u16) -> Case {
        let mut commitment = [0; 32];
        commitment[..2].copy_from_slice(&number.to_be_bytes());
        let mut case = case(contributor, number.into());
        (case.commitment, case.report.text_root) = (Hash32(commitment), Hash32(commitment));
        case
    }

    #[tokio::test]
    async fn one_account_with_many_files_leaves_the_queue_to_the_others_and_is_told_what_it_has() {
        let outer = tempfile::tempdir().unwrap();
        let queue = Queue::open(outer.path().to_owned()).unwrap();
        for number in 0..262 {
            let added = queue.add(of(1, number), b"one".to_vec()).await.unwrap();
            assert_eq!(added.is_ok(), number < 16, "{number}");
        }
        let full = queue.add(of(1, 300), b"one".to_vec()).await.unwrap().unwrap_err().to_string();
        assert!(full.contains("16 of your contributions") && full.contains("at most 16"), "{full}");
        assert_eq!((queue.room(Address([1; 20])).await.cases, queue.room(Address([2; 20])).await), (0, shares::OF_CONTRIBUTOR));
        queue.add(of(2, 301), b"two".to_vec()).await.unwrap().unwrap();
        assert_eq!(queue.list(NET).await.0.len(), 17);
    }

    fn rejection(case: &Case) -> Rejection {
        let act = ReviewAct {
            datanet: case.datanet,
            commitment: case.commitment,
            report: case.report.digest(),
            act: Act::Reject,
            reason: Hash32::ZERO,
            gate: NodeId([9; 32]),
            block: 9,
        };
        Rejection { act: Signed { document: act, signature: Signed65([7; 65]) }, by: Address([8; 20]), reason: "a copy".into() }
    }

    #[tokio::test]
    async fn a_rejection_is_known_after_its_rows_have_left_the_disk_and_however_much_waits() {
        let outer = tempfile::tempdir().unwrap();
        let queue = Queue::open(outer.path().to_owned()).unwrap();
        queue.add(case(1, 7), b"rows of a person".to_vec()).await.unwrap().unwrap();
        let reject = |case: &mut Case| {
            case.rejection = Some(rejection(case));
            Ok::<(), ()>(())
        };
        let rejected = queue.change(NET, Hash32([1; 32]), reject).await.unwrap().unwrap();
        assert_eq!(rejected.state(), "rejected");
        let names =
            || std::fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
        assert_eq!(names(), [format!("4-{}.decided", "01".repeat(32))], "neither case nor shard is left");
        for number in 0..300 {
            let is_taken = queue.add(of(1, 1000 + number), b"one".to_vec()).await.unwrap().is_ok();
            assert_eq!(is_taken, number < 16, "a contributor's share");
        }
        let again = Queue::open(outer.path().to_owned()).unwrap();
        let Some(Became::Rejected(decided)) = again.of(NET, Address([1; 20]), Hash32([1; 32])).await else { panic!("it is known") };
        assert_eq!(decided.words(), format!("reviewer {} rejected it: a copy", Address([8; 20])));
        assert_eq!((again.list(NET).await.1.len(), again.list(NET).await.0.len()), (1, 16));
        again.prune(&State::default(), 8 + EXPIRY_BLOCKS + 2000).await;
        assert_eq!(again.of(NET, Address([1; 20]), Hash32([1; 32])).await, None, "its commitment is void");
        assert!(names().is_empty());
    }

    #[tokio::test]
    async fn a_node_killed_after_a_rejection_was_written_ends_the_case_when_it_starts() {
        let outer = tempfile::tempdir().unwrap();
        let queue = Queue::open(outer.path().to_owned()).unwrap();
        queue.add(case(1, 7), b"rows".to_vec()).await.unwrap().unwrap();
        let half = Case { rejection: Some(rejection(&case(1, 7))), ..case(1, 7) };
        queue.write(&half).unwrap();
        let again = Queue::open(outer.path().to_owned()).unwrap();
        assert!(matches!(again.get(NET, Hash32([1; 32])).await, Some(Became::Rejected(_))));
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
    }
}
