//! What a request to erase a contribution means on this machine, and how others are asked what they have of it.
//!
//! From the request's block on nobody serves, takes or mends the object, and no index over its text is built or answered under. Bytes are deleted when the
//! request is final: fragments in the store (`service/erasing.rs`), and here the shard, what an unfinished fetch of it left, and the gate's report, which may quote it. Files that somebody wrote
//! elsewhere (`datanet export`, `fetch --out`, what was contributed from) are that person's own, and so are quotes in receipts.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use chain_bridge::registry::{Erasure, State, state::Accepted};
use p2p::bulk::BulkEndpoint;
use serde::Serialize;
use storage::proto::message::{Refusal, Reply, Request};
use tokio::task::JoinSet;
use types::id::{AssetVersion, BlobId, NodeId};

use super::exchange::ask;
use crate::data::DataDir;

/// Longest wait for a node's word about one object.
const WORD_LIMIT: Duration = Duration::from_secs(10);

/// A version's text cannot be had whole any more, and nothing is wrong with anybody's disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {next}", .erasures.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
pub struct Erased {
    /// The requests.
    pub erasures: Vec<Erasure>,
    next: String,
}

/// Refuses a version whose index holds an erased contribution.
///
/// # Errors
/// [`Erased`], with the requests and what is left to do.
pub fn check(state: &State, version: AssetVersion) -> Result<(), Erased> {
    let erasures: Vec<Erasure> = state.erased_in_index(version).into_iter().copied().collect();
    let Some(first) = erasures.first() else { return Ok(()) };
    let datanet = first.datanet;
    let next = format!(
        "version {version} held it and is read, trained on and answered under no more: `tributary datanet publish {datanet}` gives a version without it, \
         and what declares {version} needs a next version that declares that one"
    );
    Err(Erased { erasures, next })
}

/// Refuses one contribution that is erased.
///
/// # Errors
/// [`Erased`].
pub fn check_contribution(state: &State, accepted: &Accepted) -> Result<(), Erased> {
    match state.erasure(accepted.datanet, accepted.number) {
        None => Ok(()),
        Some(erasure) => Err(Erased { erasures: vec![*erasure], next: "nobody serves it any more".to_owned() }),
    }
}

/// Deletes what this folder has of texts that are erased in `finalized`; says of how many there was something.
///
/// # Errors
/// What the disk says.
pub fn sweep(data: &DataDir, finalized: &State) -> anyhow::Result<usize> {
    // A report may quote the rows it found something in, whoever else has the text.
    for erasure in finalized.erasures() {
        remove(&data.report(erasure.report), erasure)?;
    }
    let mut swept = 0;
    for (text_root, erasure) in finalized.erased_texts() {
        let half = data.fetching().join(format!("{}.part", erasure.object));
        let is_found = [data.shard(text_root), half]
            .iter()
            .try_fold(false, |is_found, path| Ok::<_, anyhow::Error>(remove(path, erasure)? || is_found))?;
        if is_found {
            tracing::info!(%text_root, "deleted the local copy: {erasure}");
            swept += 1;
        }
    }
    Ok(swept)
}

/// Deletes a file; says whether it was there.
fn remove(path: &Path, erasure: &Erasure) -> anyhow::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{}: cannot be deleted, and {erasure}", path.display())),
    }
}

/// What a node has of an erased object, by its own word: nobody can show that bytes are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Nothing is on its disk, and it takes nothing.
    Gone,
    /// It serves nothing and takes nothing; the bytes go when the request is final there.
    Refuses,
    /// It serves this many fragments: it has not heard of the request.
    Serves(usize),
    /// It has nothing, and has not heard of the request.
    HasNothing,
    /// No answer, in words.
    Silent(String),
}

impl Word {
    /// Whether nothing is left to wait for.
    pub const fn is_confirmed(&self) -> bool {
        matches!(self, Self::Gone)
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => f.write_str("confirms: nothing is on its disk"),
            Self::Refuses => f.write_str("serves it no more, and deletes it when the request is final"),
            Self::Serves(fragments) => write!(f, "still serves {fragments} fragments: it has not heard of the request"),
            Self::HasNothing => f.write_str("has nothing, and has not heard of the request"),
            Self::Silent(why) => write!(f, "did not answer: {why}"),
        }
    }
}

/// Asks nodes, all at once, what they have of an erased object; in their order.
pub async fn words(bulk: &Arc<BulkEndpoint>, nodes: impl IntoIterator<Item = (NodeId, SocketAddr)>, object: BlobId) -> Vec<(NodeId, Word)> {
    let mut asking = JoinSet::new();
    for (node, addr) in nodes {
        let bulk = Arc::clone(bulk);
        asking.spawn(async move { (node, word(&bulk, node, addr, object).await) });
    }
    let mut words = asking.join_all().await;
    words.sort_by_key(|(node, _)| *node);
    words
}

async fn word(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, object: BlobId) -> Word {
    match ask(bulk, node, addr, &Request::Locate { object }, WORD_LIMIT).await {
        Ok(Reply::Refused(Refusal::Erased { is_gone: true, .. })) => Word::Gone,
        Ok(Reply::Refused(Refusal::Erased { .. })) => Word::Refuses,
        Ok(Reply::Refused(Refusal::Unknown { .. })) => Word::HasNothing,
        Ok(Reply::Located { indices, .. }) => Word::Serves(indices.len()),
        Ok(Reply::Refused(refusal)) => Word::Silent(refusal.to_string()),
        Ok(_) => Word::Silent("it answered another question".to_owned()),
        Err(error) => Word::Silent(error.to_string()),
    }
}
