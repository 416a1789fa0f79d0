//! The gate of the Datanets whose owner's (or reviewer's) account this node holds: looks at a contribution and signs what it found.
//!
//! Nothing is looked at whose salted commitment is not on the chain: priority is fixed before the text is shown. What is decided is decided by
//! [`Datanet::gate`]; this service brings it the documents of every accepted contribution, fetched where missing, and the shard that a
//! contributor sends. An accepted shard is kept, so that later contributions can be compared with it whatever becomes of its holders.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use chain_bridge::registry::State;
use p2p::stream::{FrameReceiver, FrameSender, FrameStream, StreamError};
use storage::{
    datanet::{Accepted, Contribution, Datanet, Licence, Place, Report, shard},
    erasure::OBJECT_BYTES_MAX,
    proto::gate::{Open, PIECE_BYTES, Reply},
};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};
use types::{
    id::{AssetId, Hash32, NodeId},
    key::{Account, Domains, Signed},
};

use crate::{
    chain::Snapshots,
    datanet::{Shards, card_of},
};

/// Contributions looked at once: each takes a few times its shard in memory.
const REVIEWS_MAX: usize = 2;
/// How long a commitment is awaited that its contributor says is made.
const COMMITTED_WAIT: Duration = Duration::from_secs(20);
/// How long a contribution waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(60);
/// How long the next piece of a shard is awaited.
const PIECE_WAIT: Duration = Duration::from_secs(15);
/// Longest review, fetching of what is compared included.
const REVIEW_LIMIT: Duration = Duration::from_secs(240);
/// How long the peer may take to read the last frame.
const LINGER: Duration = Duration::from_secs(5);

/// The service.
#[derive(Debug)]
pub struct Gate {
    account: Account,
    domains: Domains,
    shards: Arc<Shards>,
    snapshots: Snapshots,
    /// Datanets as far as their accepted documents were read.
    known: Mutex<BTreeMap<AssetId, Datanet>>,
    reviews: Semaphore,
}

/// Why a contribution is not looked at.
#[derive(Debug, thiserror::Error)]
enum Turned {
    /// The contributor can mend it.
    #[error("{0}")]
    Away(String),
    /// The stream ended.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The gate's own failure.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

fn away(reason: impl Into<String>) -> Turned {
    Turned::Away(reason.into())
}

impl Gate {
    /// A gate that signs with `account`.
    pub fn new(account: Account, domains: Domains, shards: Arc<Shards>, snapshots: Snapshots) -> Self {
        Self { account, domains, shards, snapshots, known: Mutex::default(), reviews: Semaphore::new(REVIEWS_MAX) }
    }

    /// Serves one stream whose first frame was `first`, to its end.
    pub async fn serve(&self, remote: NodeId, stream: FrameStream, first: Vec<u8>) {
        let (mut sender, mut receiver) = stream.split();
        let answer = match timeout(REVIEW_LIMIT, self.review(&mut sender, &mut receiver, &first)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Turned::Stream(error))) => return tracing::debug!(%remote, %error, "a contributor left"),
            Ok(Err(Turned::Away(reason))) => {
                tracing::info!(%remote, %reason, "a contribution was turned away");
                Reply::Refused { reason }
            }
            Ok(Err(Turned::Failed(error))) => {
                tracing::error!(error = format!("{error:#}"), "the gate failed");
                Reply::Refused { reason: format!("the gate cannot look at it now: {error:#}") }
            }
            Err(_) => Reply::Refused { reason: format!("the review took longer than {} s: try again", REVIEW_LIMIT.as_secs()) },
        };
        if timeout(LINGER, sender.send(&answer.encode())).await.is_ok_and(|sent| sent.is_ok()) {
            drop(sender.finish().await);
            drop(timeout(LINGER, sender.closed()).await);
        }
    }

    async fn review(&self, sender: &mut FrameSender, receiver: &mut FrameReceiver, first: &[u8]) -> Result<Reply, Turned> {
        let open = Open::decode(first).map_err(|error| away(error.to_string()))?;
        let licence: Licence = open.licence.parse().map_err(|error: storage::datanet::CardError| away(error.to_string()))?;
        let committed = open.commitment();
        let (state, place) = self.committed(committed, &open).await?;
        self.admit(&state, &open)?;
        let turn = timeout(TURN_WAIT, self.reviews.acquire()).await;
        let _turn =
            turn.map_err(|_| away("the gate is looking at other contributions: try again in a minute"))?.context("the gate is closed")?;
        sender.send(&Reply::Proceed.encode()).await?;
        let bytes = receive(receiver, open.shard_bytes).await?;
        let report = self.look(&state, place, &open, licence, bytes).await?;
        tracing::info!(datanet = %open.datanet, contributor = %open.contributor, accepted = report.accepted, refusals = report.refusals.len(), "reviewed");
        Ok(Reply::Reviewed { report: report.to_json(), verdict: Signed::new(&self.account, &self.domains, open.verdict(&report)) })
    }

    /// The books once they hold the commitment, and its place.
    async fn committed(&self, committed: Hash32, open: &Open) -> Result<(Arc<State>, Place), Turned> {
        let mut snapshots = self.snapshots.clone();
        let seen = snapshots.wait_for(|snapshot| snapshot.latest.commitment(committed, open.contributor).is_some());
        let seen = timeout(COMMITTED_WAIT, seen).await.map(|seen| seen.map(|snapshot| Arc::clone(&snapshot.latest)));
        let missing =
            || away(format!("commitment {committed} of {} is not on the chain: commit first, then show the text", open.contributor));
        let state = seen.map_err(|_| missing())?.context("the chain is no longer followed")?;
        let (block, ordinal) = state.commitment(committed, open.contributor).ok_or_else(missing)?;
        Ok((state, Place { block, ordinal }))
    }

    /// What speaks against looking at all.
    fn admit(&self, state: &State, open: &Open) -> Result<(), Turned> {
        let (datanet, me) = (open.datanet, self.account.address());
        if !state.is_reviewer(datanet, me) {
            let owner = state.asset(datanet).map_or_else(|| "nobody".to_owned(), |asset| asset.owner().to_string());
            return Err(away(format!("{me} does not review Datanet {datanet}, which belongs to {owner}: ask the owner's node")));
        }
        if let Some(known) = state.contributions(datanet).find(|accepted| accepted.text_root == open.text_root) {
            return Err(away(format!("this text is contribution {} of Datanet {datanet} already, by {}", known.number, known.contributor)));
        }
        if open.shard_bytes > OBJECT_BYTES_MAX as u64 {
            return Err(away(format!(
                "a shard of {} bytes, at most {OBJECT_BYTES_MAX} are taken: split the contribution",
                open.shard_bytes
            )));
        }
        Ok(())
    }

    /// Compares the shard with everything accepted; keeps it if it may enter.
    async fn look(&self, state: &State, place: Place, open: &Open, licence: Licence, bytes: Vec<u8>) -> Result<Report, Turned> {
        let text_root = open.text_root;
        let opened = tokio::task::spawn_blocking(move || shard::decode_as(text_root, &bytes).map(|shard| (shard, bytes)))
            .await
            .context("decoding")?;
        let (shard, bytes) = opened.map_err(|error| away(error.to_string()))?;
        let contribution = Contribution { contributor: open.contributor, licence, documents: shard.into_documents() };
        let mut known = self.known.lock().await;
        let report = match self.catch_up(&mut known, state, open.datanet).await {
            Ok(datanet) => datanet.gate(place, &contribution),
            Err(error) => {
                // What was entered may have been taken back by a reorganisation: the next review reads everything anew.
                known.remove(&open.datanet);
                return Err(error.into());
            }
        };
        if report.accepted {
            self.shards.keep(text_root, bytes).await?;
        }
        Ok(report)
    }

    /// The Datanet with every contribution that the chain has accepted.
    async fn catch_up<'k>(&self, known: &'k mut BTreeMap<AssetId, Datanet>, state: &State, id: AssetId) -> anyhow::Result<&'k mut Datanet> {
        let asset = state.asset(id).with_context(|| format!("Datanet {id} is not registered"))?;
        let card = card_of(asset)?;
        let datanet = known.entry(id).or_insert_with(|| Datanet::new(card));
        let entered: Vec<Hash32> = datanet.accepted().map(|(_, accepted)| accepted.text_root).collect();
        for accepted in state.contributions(id).filter(|accepted| !entered.contains(&accepted.text_root)) {
            let (local, _) = self.shards.contribution(accepted).await?;
            let place = Place { block: accepted.priority.block, ordinal: accepted.priority.ordinal };
            let facts = Accepted {
                contributor: accepted.contributor,
                text_root: accepted.text_root,
                documents: accepted.documents,
                object: accepted.object,
            };
            datanet.accept(place, facts, &local.documents)?;
        }
        Ok(datanet)
    }
}

/// Reads the pieces of a shard; memory grows with what arrives.
async fn receive(receiver: &mut FrameReceiver, bytes: u64) -> Result<Vec<u8>, Turned> {
    let mut shard = Vec::new();
    while (shard.len() as u64) < bytes {
        let piece = timeout(PIECE_WAIT, receiver.recv(PIECE_BYTES)).await.map_err(|_| away("the shard stopped arriving: try again"))??;
        let piece = piece.ok_or_else(|| away(format!("the shard ended after {} of {bytes} bytes", shard.len())))?;
        shard.extend_from_slice(&piece);
    }
    if shard.len() as u64 == bytes { Ok(shard) } else { Err(away(format!("{} bytes of shard came, {bytes} were announced", shard.len()))) }
}
