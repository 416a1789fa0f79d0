//! Contributions that wait for two reviewers, on disk: a node that stops forgets none.
//!
//! Each is three files of mode 0600: the case (report, approvals), the shard, sealed if its Datanet is private, and what has its rows known when they are brought again ([`again`]). The case is written last, so it always has the
//! others. Who may have how many wait, and who makes room for whom, is [`shares`]' to say. A rejection ends a case: what was decided is kept apart ([`decided`]) with what has its rows known, and then the case goes with its
//! shard, whose text nobody needs any more. Other cases end when their contribution is on the chain, or [`EXPIRY_BLOCKS`] after they came: their commitment is void by then.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use chain_bridge::registry::State;
use storage::{
    datanet::{
        Report, Rule,
        review::{Again, Case},
        shard::Shard,
    },
    erasure::OBJECT_BYTES_MAX,
};
use tokio::sync::Mutex;
use types::id::{Address, AssetId, Hash32};

use super::{
    again::{self, Rows},
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
    /// What rows are hashed under.
    key: [u8; 32],
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    cases: BTreeMap<Key, Case>,
    decisions: Decisions,
}

/// A contribution whose rows are known.
#[derive(Debug)]
struct Before {
    path: PathBuf,
    commitment: Hash32,
    contributor: Address,
    since: u64,
    rejected_by: Option<Address>,
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
    /// The queue in a folder, which is made when something waits; `key` is what rows are hashed under.
    pub(super) fn open(folder: PathBuf, key: [u8; 32]) -> anyhow::Result<Self> {
        let (mut held, mut beside) = (Held::default(), Vec::new());
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
                    Some("shard" | again::SUFFIX) => {
                        beside.push(path);
                        continue;
                    }
                    _ => continue,
                };
                if let Err(error) = read {
                    tracing::warn!(path = %path.display(), error = format!("{error:#}"), "a waiting or decided contribution cannot be read and is passed over");
                }
            }
        }
        let queue = Self { folder, key, held: Mutex::default() };
        // A node that was killed between a decision and what follows from it.
        let rejected: Vec<Decided> = held.cases.values().filter_map(Decided::of).collect();
        for decided in rejected {
            queue.end(&mut held, decided)?;
        }
        let over: Vec<Key> = held.cases.keys().copied().filter(|key| held.decisions.get(*key).is_some()).collect();
        over.into_iter().for_each(|key| queue.forget(&mut held, key));
        let shards = held.cases.keys().map(|key| queue.path(*key, "shard"));
        let rows = held.cases.keys().copied().chain(held.decisions.iter().map(Decided::key)).map(|key| queue.path(key, again::SUFFIX));
        let needed: BTreeSet<PathBuf> = shards.chain(rows).collect();
        for path in beside {
            let Ok(facts) = std::fs::metadata(&path) else { continue };
            let is_damaged = path.extension().is_some_and(|extension| extension == again::SUFFIX) && !again::is_len(facts.len());
            if is_damaged || !needed.contains(&path) {
                tracing::warn!(path = %path.display(), is_damaged, "removed a shard, or rows, of what neither waits nor was rejected, or that was damaged");
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

    /// Whether a contribution could wait. Who has no place is not drawn: turned away and shown again, it would have one draw after another.
    pub(super) async fn may_wait(&self, datanet: AssetId, contributor: Address, shard_bytes: u64) -> Result<(), FullError> {
        shares::admit(&waiting(&self.held.lock().await.cases), datanet, contributor, shard_bytes).map(drop)
    }

    /// The shard of a case, as it is kept.
    pub(super) async fn shard(&self, case: &Case) -> anyhow::Result<Vec<u8>> {
        let path = self.path((case.datanet, case.commitment), "shard");
        let read = move || read_bounded(&path, OBJECT_BYTES_MAX as u64).with_context(|| format!("{}", path.display()));
        tokio::task::spawn_blocking(read).await?
    }

    /// The rows of a shard which reviewers of its Datanet have before them, or rejected, as part of another contribution: which, and one finding for each of those.
    pub(super) async fn again(&self, datanet: AssetId, shard: Arc<Shard>) -> anyhow::Result<(BTreeSet<u32>, Vec<Again>)> {
        let held = self.held.lock().await;
        let before = self.before(&held, datanet, None);
        drop(held);
        if before.is_empty() {
            return Ok((BTreeSet::new(), Vec::new()));
        }
        let key = self.key;
        tokio::task::spawn_blocking(move || {
            let rows = Rows::of(&key, shard.documents(), |_| false);
            let (mut all, mut found) = (BTreeSet::new(), Vec::new());
            for before in before {
                let Some(theirs) = read(&before.path)? else { continue };
                let shared = rows.shared(&theirs, before.rejected_by.is_none());
                all.extend(shared.iter().map(|(row, _)| *row));
                found.extend(shared.first().map(|(row, earlier_row)| before.found(*row, *earlier_row, shared.len() - 1)));
            }
            Ok((all, found))
        })
        .await
        .context("a thread")?
    }

    /// What a contribution to a Datanet is held against: what waits and is not approved, and what was rejected, in the order in which it came.
    fn before(&self, held: &Held, datanet: AssetId, but: Option<Key>) -> Vec<Before> {
        let cases = held.cases.values().filter(|case| case.accepted().is_none());
        let cases = cases.map(|case| ((case.datanet, case.commitment), case.report.contributor, case.since, None));
        let decided = held.decisions.iter().map(|one| (one.key(), one.contributor, one.since, Some(one.rejection.by)));
        let own = cases.chain(decided).filter(|(key, ..)| key.0 == datanet && Some(*key) != but);
        let one = |(key, contributor, since, rejected_by): (Key, Address, u64, Option<Address>)| Before {
            path: self.path(key, again::SUFFIX),
            commitment: key.1,
            contributor,
            since,
            rejected_by,
        };
        let mut before: Vec<Before> = own.map(one).collect();
        before.sort_by_key(|before| (before.since, before.commitment));
        before
    }

    /// Knows rows no longer that the chain has: whoever brings them is told so by the index.
    pub(super) async fn settle(&self, datanet: AssetId, shard: Arc<Shard>) -> anyhow::Result<()> {
        let held = self.held.lock().await;
        let key = self.key;
        self.release(&held, datanet, None, move || Ok(Rows::of(&key, shard.documents(), |_| false))).await
    }

    /// Forgets the rows of what waits or was rejected here and was erased since another gate let it in.
    pub(super) async fn forget_texts(&self, is_erased: impl Fn(AssetId, Hash32) -> bool) -> anyhow::Result<()> {
        let held = self.held.lock().await;
        let cases = held.cases.values().map(|case| ((case.datanet, case.commitment), case.report.text_root));
        let decided = held.decisions.iter().map(|one| (one.key(), one.text_root));
        for (key, _) in cases.chain(decided).filter(|(key, text_root)| is_erased(key.0, *text_root)) {
            remove(&self.path(key, again::SUFFIX))?;
        }
        Ok(())
    }

    /// Takes rows out of what is known of a Datanet, but for what is known of `but`.
    async fn release(
        &self,
        held: &Held,
        datanet: AssetId,
        but: Option<Key>,
        rows: impl FnOnce() -> anyhow::Result<Rows> + Send + 'static,
    ) -> anyhow::Result<()> {
        let before = self.before(held, datanet, but);
        if before.is_empty() {
            return Ok(());
        }
        let release = move || {
            let rows = rows()?;
            for Before { path, .. } in before {
                let Some(theirs) = read(&path)? else { continue };
                let left = theirs.without(&rows);
                if left.is_empty() {
                    remove(&path)?;
                } else if left != theirs {
                    write_atomic(&path, &left.encode(), 0o600).with_context(|| format!("{}", path.display()))?;
                }
            }
            Ok(())
        };
        tokio::task::spawn_blocking(release).await.context("a thread")?
    }

    /// Has a contribution wait; what has to make room for it goes. `again` are the rows of it that are known already.
    pub(super) async fn add(
        &self,
        case: Case,
        rows: Arc<Shard>,
        again: BTreeSet<u32>,
        shard: Vec<u8>,
    ) -> anyhow::Result<Result<(), FullError>> {
        let (key, is_drawn) = (self.key, case.report.refusals.iter().any(|refusal| refusal.rule == Rule::Sampled && refusal.row == 0));
        let known = move || Rows::of(&key, rows.documents(), |row| is_drawn || again.contains(&row)).encode();
        let known = tokio::task::spawn_blocking(known).await.context("a thread")?;
        let mut held = self.held.lock().await;
        let leaving = match shares::admit(&waiting(&held.cases), case.datanet, case.report.contributor, case.shard_bytes) {
            Ok(leaving) => leaving,
            Err(full) => return Ok(Err(full)),
        };
        for key in leaving {
            tracing::info!(datanet = %key.0, commitment = %key.1, "a waiting contribution makes room for that of somebody who has fewer");
            self.forget(&mut held, key);
        }
        let key = (case.datanet, case.commitment);
        for (kind, bytes) in [("shard", &shard), (again::SUFFIX, &known)] {
            let path = self.path(key, kind);
            write_atomic(&path, bytes, 0o600).with_context(|| format!("{}", path.display()))?;
        }
        self.write(&case)?;
        held.cases.insert(key, case);
        Ok(Ok(()))
    }

    /// Changes a case; what is changed is on disk when this returns, and the text of what is rejected is not. Rows that enough reviewers approved are not held against anybody any more.
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
        if case.accepted().is_some() {
            let path = self.path((datanet, commitment), again::SUFFIX);
            let rows = move || Ok(read(&path)?.unwrap_or_default());
            self.release(&held, datanet, Some((datanet, commitment)), rows).await?;
        }
        Ok(Ok(case))
    }

    /// Keeps a decision, then lets its case go with the shard.
    fn end(&self, held: &mut Held, decided: Decided) -> anyhow::Result<()> {
        let key = decided.key();
        held.decisions.keep(&self.folder, decided)?;
        self.forget(held, key);
        held.decisions.bound_rows(&self.folder, again::REJECTED_BYTES_MAX)
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
            self.forget(&mut held, key);
        }
        held.decisions.prune(&self.folder, |decided| is_old(decided.since));
    }

    fn forget(&self, held: &mut Held, key: Key) {
        held.cases.remove(&key);
        // The case first: one without its shard would be served as if it had one.
        for kind in ["json", "shard"] {
            let path = self.path(key, kind);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a contribution that waits no longer is left on the disk");
            }
        }
        let path = self.path(key, again::SUFFIX);
        // Rows of what was rejected stay with the decision.
        if held.decisions.get(key).is_none()
            && let Err(error) = remove(&path)
        {
            tracing::warn!(path = %path.display(), error = format!("{error:#}"), "rows of what waits no longer are left on the disk");
        }
    }

    fn write(&self, case: &Case) -> anyhow::Result<()> {
        let (path, bytes) = (self.path((case.datanet, case.commitment), "json"), serde_json::to_vec(case)?);
        ensure!(bytes.len() as u64 <= CASE_BYTES_MAX, "a report of {} bytes is too long to be kept", bytes.len());
        write_atomic(&path, &bytes, 0o600).with_context(|| format!("{}", path.display()))
    }
}

impl Before {
    fn found(&self, row: u32, earlier_row: u32, more: usize) -> Again {
        let Self { commitment, contributor, since, rejected_by, .. } = *self;
        Again { row, earlier_row, more: u32::try_from(more).unwrap_or(u32::MAX), commitment, contributor, since, rejected_by }
    }
}

/// The rows in a file; nothing if there is none: what had them waits no longer, or has lost them to others.
fn read(path: &Path) -> anyhow::Result<Option<Rows>> {
    let bytes = match read_bounded(path, again::FILE_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.with_context(|| format!("{}", path.display()))?,
    };
    Ok(Some(Rows::decode(&bytes).with_context(|| format!("{}", path.display()))?))
}

/// Removes a file that may have gone before.
fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("{}", path.display())),
        _ => Ok(()),
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
mod tests;
