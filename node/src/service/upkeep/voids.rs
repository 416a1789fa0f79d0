//! Void objects: what a crash left of one is released, and holders that still have fragments of it are shown the proof. A holder was away when it was found,
//! or its disk had no room for the word.

use std::{collections::BTreeSet, sync::Arc};

use types::id::BlobId;

use crate::{
    datanet::keeping::{look, show},
    service::{keeping::Keeping, repair::next},
};

/// Void objects read from the table in one step.
const SCAN: usize = 256;

/// Looks at every void object that is not `settled`; returns those of which nobody who should hold it has anything any more.
pub(super) async fn show_all(keeping: &Arc<Keeping>, settled: BTreeSet<BlobId>) -> BTreeSet<BlobId> {
    let (mut from, mut done) = (BlobId::ZERO, BTreeSet::new());
    loop {
        let found = match keeping.store.voided(from, SCAN) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "void objects cannot be listed");
                return done;
            }
        };
        for object in found.iter().filter(|object| !settled.contains(*object)) {
            match show_one(keeping, *object).await {
                Ok(true) => drop(done.insert(*object)),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%object, error = format!("{error:#}"), "the holders of a void object were not shown the proof")
                }
            }
        }
        match found.last() {
            Some(last) if found.len() == SCAN => from = next(*last),
            _ => return done,
        }
    }
}

/// Whether nobody has anything of it any more.
async fn show_one(keeping: &Arc<Keeping>, object: BlobId) -> anyhow::Result<bool> {
    let holding = Arc::clone(keeping);
    let proof = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        holding.release_void(object)?;
        Ok((holding.store.proof_of(object)?, holding.store.fragments_of(object)?.is_empty()))
    });
    let (proof, is_gone) = proof.await??;
    let (Some(proof), Some(record)) = (proof, keeping.record(object)?) else { return Ok(is_gone) };
    let others = keeping.others(object).await?;
    let words = futures::future::join_all(others.iter().map(|(_, storer)| look(&keeping.bulk, storer.node, storer.addr, object))).await;
    let has = |word: &anyhow::Result<crate::datanet::keeping::Word>| word.as_ref().is_ok_and(|word| !word.indices.is_empty());
    let unaware: Vec<_> =
        others.iter().zip(&words).filter(|(_, word)| has(word)).map(|((_, storer), _)| (storer.node, storer.addr)).collect();
    let everyone_answered = words.iter().all(Result::is_ok) && others.len() + 1 >= record.placement().holders.len();
    let count = unaware.len();
    let refused = show(&keeping.bulk, unaware, &proof).await;
    if count > 0 {
        tracing::info!(%object, count, refused = refused.len(), "holders of a void object were shown the proof");
    }
    Ok(everyone_answered && count == 0 && is_gone)
}
