//! Asking the other holders of an object what they have: their record of it is taken in, ours is told to who knows less, who lacks its fragment is named, and who was thought to lack it and says
//! that it has it is asked for all of it: its word alone takes nothing back.
//!
//! Once per epoch and object three coordinators ask n - 1 holders for a kilobyte each: 5,000 objects of 48 are 15,000 questions a day and node.

use std::{collections::BTreeSet, sync::Arc};

use storage::proto::keeping::Record;
use types::id::{Address, BlobId};

use super::rebuild::{manifest_of, read};

use crate::{
    datanet::{
        keeping::{look, tell},
        placing::Storer,
    },
    service::keeping::{Keeping, Notice},
};

/// Asks about each object, one after the other; of each the fragments that are thought damaged.
pub(super) async fn survey(keeping: Arc<Keeping>, objects: Vec<(BlobId, BTreeSet<u8>)>) {
    for (object, damaged) in objects {
        if let Err(error) = survey_one(&keeping, object, &damaged).await {
            tracing::debug!(%object, error = format!("{error:#}"), "its holders were not asked");
        }
    }
}

async fn survey_one(keeping: &Arc<Keeping>, object: BlobId, damaged: &BTreeSet<u8>) -> anyhow::Result<()> {
    let asked = keeping.others(object).await?;
    let words = futures::future::join_all(asked.iter().map(|(_, storer)| look(&keeping.bulk, storer.node, storer.addr, object))).await;
    for record in words.iter().filter_map(|word| word.as_ref().ok()?.record.as_ref()) {
        if let Err(error) = keeping.take_in(record).await {
            tracing::warn!(%object, error = format!("{error:#}"), "a holder has a record that does not stand");
        }
    }
    // By what is known now: who gave its fragment on meanwhile lacks nothing.
    let Some(record) = keeping.record(object)? else { return Ok(()) };
    let assignment = keeping.registered(object)?.assignment(&record)?;
    let mut behind = Vec::new();
    for ((fragment, storer), word) in asked.iter().zip(&words) {
        // Silence is no loss.
        let Ok(word) = word else { continue };
        if let Some(by) = keeping.account_of(storer.node).filter(|account| assignment.holder(*fragment) == Some(*account)) {
            if !word.indices.contains(fragment) {
                keeping.notice(Notice::Damaged { object, fragment: *fragment });
            } else if damaged.contains(fragment) && shows(keeping, object, *fragment, by, *storer).await {
                keeping.notice(Notice::Shown { object, fragment: *fragment, by });
            }
        }
        if word.record.as_ref().map_or(0, |known| 1 + known.handovers().len()) < 1 + record.handovers().len() {
            behind.push((storer.node, storer.addr));
        }
    }
    report(object, tell(&keeping.bulk, behind, &record).await, &record);
    Ok(())
}

/// Whether a holder sends its whole fragment, every byte as the manifest names it.
async fn shows(keeping: &Keeping, object: BlobId, fragment: u8, by: Address, storer: Storer) -> bool {
    let shown = async {
        let manifest = manifest_of(keeping, object).await?;
        read(keeping, &manifest, fragment, by, Some(storer)).await.map_err(anyhow::Error::from)
    };
    let shown: anyhow::Result<_> = shown.await;
    if let Err(error) = &shown {
        tracing::info!(%object, fragment, %by, error = format!("{error:#}"), "a holder says that it has a fragment that was thought lost, and does not show it");
    }
    shown.is_ok()
}

fn report(object: BlobId, refused: Vec<(types::id::NodeId, String)>, record: &Record) {
    for (node, reason) in refused {
        tracing::debug!(%object, %node, reason, handovers = record.handovers().len(), "a holder does not take down what this node knows");
    }
}
