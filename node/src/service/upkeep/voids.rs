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

/// What a look at void objects came to.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Those of which nobody who should hold it has anything any more.
    pub settled: BTreeSet<BlobId>,
    /// Whether there are others.
    pub is_more: bool,
}

/// Looks at every void object that is not `settled`.
pub(super) async fn show_all(keeping: &Arc<Keeping>, settled: BTreeSet<BlobId>) -> Shown {
    let (mut from, mut shown) = (BlobId::ZERO, Shown::default());
    loop {
        let found = match keeping.store.voided(from, SCAN) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "void objects cannot be listed");
                return Shown { is_more: true, ..shown };
            }
        };
        for object in found.iter().filter(|object| !settled.contains(*object)) {
            match show_one(keeping, *object).await {
                Ok(true) => drop(shown.settled.insert(*object)),
                Ok(false) => shown.is_more = true,
                Err(error) => {
                    shown.is_more = true;
                    tracing::warn!(%object, error = format!("{error:#}"), "the holders of a void object were not shown the proof");
                }
            }
        }
        match found.last() {
            Some(last) if found.len() == SCAN => from = next(*last),
            _ => return shown,
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
