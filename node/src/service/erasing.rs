//! Carries out requests that contributions be erased, on every node that has a store: once one is final, fragments and local copies are deleted, and no
//! byte of them is left in a segment.
//!
//! Before that, from the request's block on, the node refuses the object ([`Keeping::erased`]) and repair no longer watches it; a reorganisation that takes
//! the request out brings both back. What is deleted is found by comparing the books with a table on the disk, so that a node that was off, or was killed
//! half-way, catches up when it is back. A gate also has an index of what it compares with: digests and hashes of phrases, which are taken out of it (`Indexes::forget_erased`) before an object counts as gone. A purge copies what lives beside the dead bytes ([`storage::store::Store::purge`]): one serves all requests that became final together.
//!
//! What fails is tried again after a wait, whatever the chain says meanwhile, and told in `storage status` until it is done. One object that cannot be released keeps no other from going.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::ensure;
use chain_bridge::registry::{Erasure, State};
use tokio::time::{Instant, sleep_until};
use types::id::BlobId;

use super::{
    auditing,
    gate::{Indexes, Verdicts},
    keeping::{Keeping, Notice},
    upkeep::View,
};
use crate::{data::DataDir, datanet::erased};

/// Bytes that one step of a purge copies: other writers wait for no longer than that takes.
const STEP_BYTES: u64 = 8 << 20;
/// When what failed is tried again: 10 s, in which a disk may have been given room, and twice as long each time after.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Longest wait: who makes room sees what comes of it within minutes.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(160);

/// The service.
#[derive(Debug)]
pub struct Erasing {
    /// Fragments and records.
    pub keeping: Arc<Keeping>,
    /// Local copies.
    pub data: DataDir,
    /// What this node's gate compares with, and its reports on what the chain is about to take.
    pub traces: (Arc<Indexes>, Arc<Verdicts>),
    /// Where the operator is told what is not gone yet.
    pub view: Arc<View>,
}

/// When something is tried again that failed.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    from: Option<Instant>,
}

impl Retry {
    fn is_due(&self, now: Instant) -> bool {
        self.from.is_none_or(|from| from <= now)
    }

    fn failed(&mut self, now: Instant) {
        let wait = RETRY_AFTER.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(RETRY_AFTER_MAX);
        (self.failures, self.from) = (self.failures.saturating_add(1), Some(now + wait));
    }
}

impl Erasing {
    /// Follows the chain until it ends. May be dropped: what was begun is begun anew.
    pub async fn run(self) {
        let mut snapshots = self.keeping.snapshots.clone();
        let (mut told, mut seen, mut retry) = (BTreeSet::new(), Arc::new(State::default()), Retry::default());
        loop {
            let (latest, finalized) = {
                let snapshot = snapshots.borrow_and_update();
                (Arc::clone(&snapshot.latest), Arc::clone(&snapshot.finalized))
            };
            self.tell(&latest, &mut told);
            // Books are compared as they change, which is not with every block.
            if !Arc::ptr_eq(&finalized, &seen) && retry.is_due(Instant::now()) {
                let done = self.carry_out(&finalized).await;
                self.view.note_unerased(done.as_ref().err().map(|error| format!("{error:#}")));
                match done {
                    Ok(()) => (seen, retry) = (finalized, Retry::default()),
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "what is to be erased is not gone yet: trying again");
                        retry.failed(Instant::now());
                    }
                }
            }
            let again = async {
                match retry.from.filter(|from| *from > Instant::now()) {
                    Some(from) => sleep_until(from).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// Has repair look at what fell, and at what a reorganisation brought back.
    fn tell(&self, latest: &State, told: &mut BTreeSet<BlobId>) {
        let now: BTreeSet<BlobId> = latest.erased_objects().map(|(object, _)| object).collect();
        now.symmetric_difference(told).for_each(|object| self.keeping.notice(Notice::Record(*object)));
        *told = now;
    }

    async fn carry_out(&self, finalized: &Arc<State>) -> anyhow::Result<()> {
        let (indexes, verdicts) = &self.traces;
        // A report that has not moved to where it is looked for would come back there. No commitment counts as void here: the gate sees to those.
        verdicts.prune(finalized, 0).await?;
        let (keeping, data, state) = (Arc::clone(&self.keeping), self.data.clone(), Arc::clone(finalized));
        let dropped = tokio::task::spawn_blocking(move || {
            // A copy that cannot be deleted keeps no fragment here.
            let swept = erased::sweep(&data, &state);
            let (fallen, failed) = drop_fallen(&keeping, &state)?;
            anyhow::Ok((fallen, swept.err().or(failed)))
        });
        let (fallen, failed) = dropped.await??;
        if !fallen.is_empty() {
            indexes.forget_erased(finalized, &fallen.iter().map(|(object, _)| *object).collect()).await?;
            let keeping = Arc::clone(&self.keeping);
            tokio::task::spawn_blocking(move || fallen.iter().try_for_each(|(object, erasure)| keeping.note_gone(*object, erasure)))
                .await??;
        }
        failed.map_or(Ok(()), Err)
    }
}

/// What was deleted, and why something else could not be.
type Dropped = (Vec<(BlobId, Erasure)>, Option<anyhow::Error>);

/// Deletes every object that is erased and not known to be gone, and says which. Blocks.
fn drop_fallen(keeping: &Keeping, finalized: &State) -> anyhow::Result<Dropped> {
    let mut fallen: Vec<(BlobId, Erasure)> = Vec::new();
    for (object, erasure) in finalized.erased_objects() {
        if !keeping.is_gone(object, erasure)? {
            fallen.push((object, *erasure));
        }
    }
    if fallen.is_empty() {
        return Ok((fallen, None));
    }
    let mut failed = None;
    fallen.retain(|(object, erasure)| match release(keeping, *object) {
        Ok(fragments) => {
            tracing::info!(%object, fragments, "{erasure}");
            true
        }
        Err(error) => {
            failed = Some(error.context(format!("object {object}")));
            false
        }
    });
    let moved_bytes = purge(keeping)?;
    if !fallen.is_empty() {
        tracing::info!(objects = fallen.len(), moved_bytes, "what was erased on request is gone from this store");
    }
    Ok((fallen, failed))
}

fn release(keeping: &Keeping, object: BlobId) -> anyhow::Result<usize> {
    let fragments = keeping.drop_object(object)?;
    auditing::forget_object(&keeping.store, object)?;
    Ok(fragments)
}

fn purge(keeping: &Keeping) -> anyhow::Result<u64> {
    let purge = keeping.store.purge()?;
    let mut moved_bytes = 0;
    loop {
        let step = keeping.store.purge_step(purge, STEP_BYTES)?;
        moved_bytes += step.moved_bytes;
        for corrupt in &step.corrupt {
            tracing::error!(%corrupt, "found while erasing");
            if let Err(error) = keeping.rotten(corrupt.item) {
                tracing::error!(item = %corrupt.item, %error, "has rotted, and cannot be marked");
            }
        }
        if step.is_done {
            let held = step.held;
            ensure!(held == 0, "{held} segments cannot go before damaged fragments in them are mended or released");
            return Ok(moved_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_again_after_longer_and_longer_waits_whatever_happens_meanwhile() {
        let (mut retry, mut now, mut waits) = (Retry::default(), Instant::now(), Vec::new());
        for _ in 0..7 {
            assert!(retry.is_due(now));
            retry.failed(now);
            let from = retry.from.unwrap();
            // A block each second.
            assert!((0..10).all(|second| !retry.is_due(now + Duration::from_secs(second))));
            waits.push((from - now).as_secs());
            now = from;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 160, 160]);
    }
}
