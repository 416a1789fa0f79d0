//! Asking the other holders of an object what they have: their record of it is taken in, ours is told to who knows less, and who lacks its fragment is named.
//!
//! Once per epoch and object three coordinators ask n - 1 holders for a kilobyte each: 5,000 objects of 48 are 15,000 questions a day and node.

use std::sync::Arc;

use storage::proto::keeping::Record;
use types::id::BlobId;

use crate::{
    datanet::keeping::{look, tell},
    service::keeping::{Keeping, Notice},
};

/// Asks about each object, one after the other.
pub(super) async fn survey(keeping: Arc<Keeping>, objects: Vec<BlobId>) {
    for object in objects {
        if let Err(error) = survey_one(&keeping, object).await {
            tracing::debug!(%object, error = format!("{error:#}"), "its holders were not asked");
        }
    }
}

async fn survey_one(keeping: &Arc<Keeping>, object: BlobId) -> anyhow::Result<()> {
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
        let account = keeping.account_of(storer.node);
        if assignment.holder(*fragment) == account && account.is_some() && !word.indices.contains(fragment) {
            keeping.notice(Notice::Damaged { object, fragment: *fragment });
        }
        if word.record.as_ref().map_or(0, |known| 1 + known.handovers().len()) < 1 + record.handovers().len() {
            behind.push((storer.node, storer.addr));
        }
    }
    report(object, tell(&keeping.bulk, behind, &record).await, &record);
    Ok(())
}

fn report(object: BlobId, refused: Vec<(types::id::NodeId, String)>, record: &Record) {
    for (node, reason) in refused {
        tracing::debug!(%object, %node, reason, handovers = record.handovers().len(), "a holder does not take down what this node knows");
    }
}
