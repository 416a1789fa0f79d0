//! Carries one [`Fetch`] out: opens its streams to holders, reports blocks, ends and the passing of time, and writes down what came.
//!
//! A fetch that takes longer than [`SAVE_AFTER`] leaves its good groups in the data folder, a second behind at most, so that a process that was
//! killed and starts the same fetch again asks only for what is missing. One that failed gives its parts back for the next try.

mod partial;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use p2p::bulk::BulkEndpoint;
use storage::{
    erasure::{ObjectManifest, is_reencoded},
    proto::{
        fetch::{Config, Evidence, Fetch, FetchError, Fetched, Input, Output, Parts, StreamEnd},
        message::{Reply, Request},
        range::Block,
    },
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;
use types::{
    id::{BlobId, NodeId},
    time::Time,
};

use self::partial::Partial;
use super::exchange::{Wanted, ask, read_range};

/// Longest wait for one answer to a Locate here; the fetch itself is less patient.
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// Blocks on their way from streams to the fetch: 8 MiB.
const BLOCKS_MAX: usize = 32;
/// A fetch that ends sooner is not written down: asking again is as quick.
pub const SAVE_AFTER: Duration = Duration::from_secs(2);
/// How often what came is written down.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How a fetch ended, and what its holders did wrong on the way.
#[derive(Debug)]
pub struct Outcome {
    /// The object, or why it did not come.
    pub result: Result<Fetched, FetchError>,
    /// Holders that sent something else than what the manifest names.
    pub blamed: Vec<Evidence>,
    /// What came of an object that did not come whole, for the next try.
    pub kept: Option<Kept>,
    /// Bytes of that by holder.
    pub received: BTreeMap<NodeId, u64>,
}

/// Parts of an object, and the file they are in.
#[derive(Debug)]
pub struct Kept {
    parts: Parts,
    partial: Partial,
}

/// A task's last word.
enum Ended {
    Located(NodeId, Option<Reply>),
    Stream(u32, StreamEnd),
}

struct Streams {
    bulk: Arc<BulkEndpoint>,
    addrs: BTreeMap<NodeId, SocketAddr>,
    tasks: JoinSet<Ended>,
    /// Who sends, and how to end it.
    open: BTreeMap<u32, (NodeId, CancellationToken)>,
    blocks: mpsc::Sender<(u32, Block)>,
}

/// Fetches `object` from the holders at these addresses, in this order of preference, going on with what an earlier try `kept`, or with what an
/// earlier process left in `folder`. May be dropped half-way.
pub async fn fetch(
    bulk: &Arc<BulkEndpoint>,
    object: BlobId,
    holders: &[(NodeId, SocketAddr)],
    folder: Option<&Path>,
    kept: Option<Kept>,
) -> Outcome {
    let config = Config { is_reencoded: is_reencoded(object, bulk.node()), ..Config::default() };
    let mut fetch = Fetch::new(object, holders.iter().map(|(node, _)| *node), config);
    let mut partial = Partial::none();
    match (kept, folder) {
        (Some(kept), _) => (fetch, partial) = (fetch.with_parts(kept.parts), kept.partial),
        (None, Some(folder)) => (fetch, partial) = Partial::resume(folder, object, fetch).await,
        (None, None) => {}
    }
    let (sender, mut blocks) = mpsc::channel(BLOCKS_MAX);
    let addrs = holders.iter().copied().collect();
    let mut streams = Streams { bulk: Arc::clone(bulk), addrs, tasks: JoinSet::new(), open: BTreeMap::new(), blocks: sender };
    let started = Instant::now();
    let now = || Time(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    let mut saving = interval_at(started + SAVE_AFTER, SAVE_EVERY);
    saving.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut blamed = Vec::new();
    let mut input = Input::Start;
    loop {
        for output in fetch.handle(now(), input) {
            match output {
                Output::Locate { to } => streams.locate(object, to),
                Output::Read { stream, to, index, run } => {
                    if let Some(manifest) = fetch.parts_mut().map(|parts| parts.manifest().clone()) {
                        streams.read(manifest, Wanted { stream, node: to, addr: streams.addr(to), index, run });
                    }
                }
                Output::Cancel { stream } => streams.cancel(stream),
                Output::Blame(evidence) => {
                    tracing::warn!(%evidence, "a holder sent wrong bytes");
                    blamed.push(evidence);
                }
                Output::Done(result) => {
                    if result.is_ok() {
                        partial.remove();
                        return Outcome { result, blamed, kept: None, received: BTreeMap::new() };
                    }
                    partial.save(folder, &mut fetch).await;
                    let received = fetch.received().clone();
                    let kept = fetch.into_parts().map(|parts| Kept { parts, partial });
                    return Outcome { result, blamed, kept, received };
                }
            }
        }
        // A fetch that is not done has asked somebody or waits for a time: one of the arms ends. Blocks go before the ends of their streams.
        let due = fetch.deadline().map(|due| started + Duration::from_micros(due.0));
        input = tokio::select! {
            biased;
            Some((stream, block)) = blocks.recv() => streams.block(stream, block),
            Some(ended) = streams.tasks.join_next() => streams.ended(ended.ok()),
            _ = saving.tick() => {
                partial.save(folder, &mut fetch).await;
                Input::Tick
            }
            () = super::sleep_until(due) => Input::Tick,
        };
    }
}

impl Streams {
    fn addr(&self, node: NodeId) -> SocketAddr {
        // Only candidates are asked, and each came with its address.
        self.addrs.get(&node).copied().unwrap_or_else(|| SocketAddr::from(([0; 4], 0)))
    }

    fn locate(&mut self, object: BlobId, to: NodeId) {
        let (bulk, addr) = (Arc::clone(&self.bulk), self.addr(to));
        self.tasks.spawn(async move {
            match ask(&bulk, to, addr, &Request::Locate { object }, ASK_LIMIT).await {
                Ok(reply) => Ended::Located(to, Some(reply)),
                Err(error) => {
                    tracing::debug!(holder = %to, %error, "no answer");
                    Ended::Located(to, None)
                }
            }
        });
    }

    fn read(&mut self, manifest: ObjectManifest, wanted: Wanted) {
        let (bulk, blocks, cancel) = (Arc::clone(&self.bulk), self.blocks.clone(), CancellationToken::new());
        self.open.insert(wanted.stream, (wanted.node, cancel.clone()));
        self.tasks.spawn(async move { Ended::Stream(wanted.stream, read_range(&bulk, &manifest, &wanted, &blocks, &cancel).await) });
    }

    fn cancel(&mut self, stream: u32) {
        // Its task still says what it had, and then that it ended.
        if let Some((_, cancel)) = self.open.get(&stream) {
            cancel.cancel();
        }
    }

    fn block(&self, stream: u32, block: Block) -> Input {
        match self.open.get(&stream) {
            Some((from, _)) => Input::Block { stream, from: *from, block },
            None => Input::Tick,
        }
    }

    fn ended(&mut self, ended: Option<Ended>) -> Input {
        match ended {
            Some(Ended::Located(from, reply)) => Input::Located { from, reply },
            Some(Ended::Stream(stream, end)) => {
                self.open.remove(&stream);
                Input::Ended { stream, end }
            }
            // A task that panicked has said so on standard error; its stream runs into its deadline.
            None => Input::Tick,
        }
    }
}

#[cfg(test)]
mod tests;
