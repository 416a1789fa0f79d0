//! Carries out requests that contributions be erased, on every node that has a store: once one is final, fragments and local copies are deleted, and no
//! byte of them is left in a segment.
//!
//! Before that, from the request's block on, the node refuses the object ([`Keeping::erased`]) and repair no longer watches it; a reorganisation that takes
//! the request out brings both back. What is deleted is found by comparing the books with a table on the disk, so that a node that was off, or was killed
//! half-way, catches up when it is back. A gate also has an index of what it compares with: digests and hashes of phrases, which are taken out of it (`Indexes::forget_erased`) before an object counts as gone. A purge copies what lives beside the dead bytes ([`storage::store::Store::purge`]): one serves all requests that became final together.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::ensure;
use chain_bridge::registry::{Erasure, State};
use types::id::BlobId;

use super::{
    auditing,
    gate::{Indexes, Verdicts},
    keeping::{Keeping, Notice},
};
use crate::{data::DataDir, datanet::erased};

/// Bytes that one step of a purge copies: other writers wait for no longer than that takes.
const STEP_BYTES: u64 = 8 << 20;
/// When what failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug)]
pub struct Erasing {
    /// Fragments and records.
    pub keeping: Arc<Keeping>,
    /// Local copies.
    pub data: DataDir,
    /// What this node's gate compares with, and its reports on what the chain is about to take.
    pub traces: (Arc<Indexes>, Arc<Verdicts>),
}

impl Erasing {
    /// Follows the chain until it ends. May be dropped: what was begun is begun anew.
    pub async fn run(self) {
        let mut snapshots = self.keeping.snapshots.clone();
        let (mut told, mut seen) = (BTreeSet::new(), Arc::new(State::default()));
        loop {
            let (latest, finalized) = {
                let snapshot = snapshots.borrow_and_update();
                (Arc::clone(&snapshot.latest), Arc::clone(&snapshot.finalized))
            };
            self.tell(&latest, &mut told);
            // Books are compared as they change, which is not with every block.
            if !Arc::ptr_eq(&finalized, &seen) {
                match self.carry_out(&finalized).await {
                    Ok(()) => seen = finalized,
                    Err(error) => tracing::error!(error = format!("{error:#}"), "what is to be erased is not gone yet: trying again"),
                }
            }
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY_AFTER) => {}
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
            erased::sweep(&data, &state)?;
            drop_fallen(&keeping, &state)
        });
        let fallen = dropped.await??;
        if fallen.is_empty() {
            return Ok(());
        }
        indexes.forget_erased(finalized, &fallen.iter().map(|(object, _)| *object).collect()).await?;
        let keeping = Arc::clone(&self.keeping);
        tokio::task::spawn_blocking(move || fallen.iter().try_for_each(|(object, erasure)| keeping.note_gone(*object, erasure))).await?
    }
}

/// Deletes every object that is erased and not known to be gone, and says which. Blocks.
fn drop_fallen(keeping: &Keeping, finalized: &State) -> anyhow::Result<Vec<(BlobId, Erasure)>> {
    let mut fallen: Vec<(BlobId, Erasure)> = Vec::new();
    for (object, erasure) in finalized.erased_objects() {
        if !keeping.is_gone(object, erasure)? {
            fallen.push((object, *erasure));
        }
    }
    if fallen.is_empty() {
        return Ok(fallen);
    }
    for (object, erasure) in &fallen {
        let fragments = keeping.drop_object(*object)?;
        auditing::forget_object(&keeping.store, *object)?;
        tracing::info!(%object, fragments, "{erasure}");
    }
    let moved_bytes = purge(keeping)?;
    tracing::info!(objects = fallen.len(), moved_bytes, "what was erased on request is gone from this store");
    Ok(fallen)
}

fn purge(keeping: &Keeping) -> anyhow::Result<u64> {
    let purge = keeping.store.purge()?;
    let mut moved_bytes = 0;
    loop {
        let step = keeping.store.purge_step(purge, STEP_BYTES)?;
        moved_bytes += step.moved_bytes;
        for corrupt in &step.corrupt {
            tracing::error!(%corrupt, "found while erasing");
            if let storage::store::Item::Fragment { object, index: fragment } = corrupt.item {
                keeping.notice(Notice::Damaged { object, fragment });
            }
        }
        if step.is_done {
            let held = step.held;
            ensure!(held == 0, "{held} segments cannot go before damaged fragments in them are mended or released");
            return Ok(moved_bytes);
        }
    }
}
