//! Sends an object's fragments to their holders and waits until every one is on its holder's disk.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::bail;
use p2p::bulk::BulkEndpoint;
use serde::Serialize;
use storage::{
    erasure::Encoded,
    proto::message::{Refusal, Reply, Request},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use types::id::{Address, BlobId, NodeId};

use super::exchange::ask;

/// Longest wait for all acknowledgements.
const SPREAD_LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for one: the largest fragment at 3 Mbit/s.
const PUT_LIMIT: Duration = Duration::from_secs(60);
/// Before a holder is asked again: time for a block and an ad to reach it.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Fragments under way at once: 85 MiB of the largest.
const SENDING_MAX: usize = 4;

/// Where a fragment is to lie.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// The operator.
    pub account: Address,
    /// Its node.
    pub node: NodeId,
    /// Where the node serves bulk data.
    pub addr: SocketAddr,
}

/// A fragment that its holder acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// Which fragment.
    pub fragment: u8,
    /// The operator.
    pub account: Address,
    /// Its node.
    pub node: NodeId,
    /// The fragment's bytes.
    pub bytes: usize,
}

/// Sends fragment i to `holders[i]`; returns when all are acknowledged. Sending one again is harmless.
///
/// # Errors
/// The holders that did not acknowledge, each with its reason.
pub async fn spread(bulk: &Arc<BulkEndpoint>, encoded: Encoded, holders: &[Holder]) -> anyhow::Result<Vec<Placed>> {
    let manifest = Arc::new(encoded.manifest.encode());
    let (object, deadline) = (encoded.manifest.id(), Instant::now() + SPREAD_LIMIT);
    let mut waiting = (0..).zip(encoded.fragments).zip(holders.iter().copied());
    let (mut sending, mut placed, mut failed) = (JoinSet::new(), Vec::new(), BTreeMap::new());
    loop {
        while sending.len() < SENDING_MAX
            && let Some(((index, fragment), holder)) = waiting.next()
        {
            let (bulk, manifest) = (Arc::clone(bulk), Arc::clone(&manifest));
            sending.spawn(async move {
                let bytes = fragment.len();
                let request = Request::Put { manifest: manifest.to_vec(), index, fragment };
                (Placed { fragment: index, account: holder.account, node: holder.node, bytes }, put(&bulk, holder, &request, (object, index), deadline).await)
            });
        }
        match sending.join_next().await {
            None => break,
            Some(Ok((done, Ok(())))) => placed.push(done),
            Some(Ok((lost, Err(reason)))) => drop(failed.insert(lost.fragment, format!("fragment {} to {}: {reason}", lost.fragment, lost.node))),
            Some(Err(error)) => bail!("a sending task failed: {error}"),
        }
    }
    if !failed.is_empty() {
        bail!("object {object}: {} of {} fragments have no holder yet ({})", failed.len(), holders.len(), failed.into_values().collect::<Vec<_>>().join("; "));
    }
    placed.sort_by_key(|placed| placed.fragment);
    Ok(placed)
}

/// Asks until the holder has it: a holder that has not seen the block or an ad yet refuses at first.
async fn put(bulk: &BulkEndpoint, holder: Holder, request: &Request, wanted: (BlobId, u8), deadline: Instant) -> Result<(), String> {
    let mut last = "no answer in time".to_owned();
    let trying = async {
        loop {
            match ask(bulk, holder.node, holder.addr, request, PUT_LIMIT).await {
                Ok(Reply::Stored { object, index }) if (object, index) == wanted => return Ok(()),
                Ok(Reply::Refused(refusal)) if may_pass(&refusal) => last = refusal.to_string(),
                Ok(Reply::Refused(refusal)) => return Err(refusal.to_string()),
                Ok(_) => return Err("it answered another question".to_owned()),
                Err(error) => last = error.to_string(),
            }
            sleep(RETRY_AFTER).await;
        }
    };
    let ended = timeout_at(deadline, trying).await;
    ended.unwrap_or(Err(last))
}

const fn may_pass(refusal: &Refusal) -> bool {
    refusal.is_passing() || matches!(refusal, Refusal::NotHolder { .. } | Refusal::Unknown { .. })
}
