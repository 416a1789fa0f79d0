//! Carries one [`Fetch`] out: sends its requests to holders, reports replies, losses and the passing of time.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use p2p::bulk::BulkEndpoint;
use storage::proto::{
    fetch::{Config, Evidence, Fetch, FetchError, Fetched, Input, Output},
    message::{Reply, Request},
};
use tokio::{task::JoinSet, time::Instant};
use types::{
    id::{BlobId, NodeId},
    time::Time,
};

use super::exchange::ask;

/// Longest wait for one answer here; the fetch itself is less patient, so this only ends what it has forgotten.
const ASK_LIMIT: Duration = Duration::from_secs(90);

/// How a fetch ended, and what its holders did wrong on the way.
#[derive(Debug)]
pub struct Outcome {
    /// The object, or why it did not come.
    pub result: Result<Fetched, FetchError>,
    /// Holders that sent something else than what the manifest names.
    pub blamed: Vec<Evidence>,
}

type Answer = (NodeId, Option<u8>, Option<Reply>);

/// Fetches `object` from the holders at these addresses, in this order of preference. May be dropped half-way.
pub async fn fetch(bulk: &Arc<BulkEndpoint>, object: BlobId, holders: &[(NodeId, SocketAddr)]) -> Outcome {
    let addrs: BTreeMap<NodeId, SocketAddr> = holders.iter().copied().collect();
    let mut fetch = Fetch::new(object, holders.iter().map(|(node, _)| *node), Config::default());
    let started = Instant::now();
    let now = || Time(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    let mut asked: JoinSet<Answer> = JoinSet::new();
    let mut blamed = Vec::new();
    let mut input = Input::Start;
    loop {
        for output in fetch.handle(now(), input) {
            match output {
                Output::Send { to, request } => send(&mut asked, bulk, to, addrs.get(&to).copied(), request),
                Output::Blame(evidence) => {
                    tracing::warn!(%evidence, "a holder sent wrong bytes");
                    blamed.push(evidence);
                }
                Output::Done(result) => return Outcome { result, blamed },
            }
        }
        // A fetch that is not done has asked somebody or waits for a time: one of the two arms ends.
        let due = fetch.deadline().map(|due| started + Duration::from_micros(due.0));
        input = tokio::select! {
            Some(answer) = asked.join_next() => match answer {
                Ok((from, index, Some(reply))) => Input::Reply { from, index, reply },
                Ok((from, index, None)) => Input::Lost { from, index },
                // A task that panicked has said so on standard error; its request runs into its deadline.
                Err(_) => Input::Tick,
            },
            () = super::sleep_until(due) => Input::Tick,
        };
    }
}

fn send(asked: &mut JoinSet<Answer>, bulk: &Arc<BulkEndpoint>, to: NodeId, addr: Option<SocketAddr>, request: Request) {
    let bulk = Arc::clone(bulk);
    let index = if let Request::Get { index, .. } = &request { Some(*index) } else { None };
    asked.spawn(async move {
        let Some(addr) = addr else { return (to, index, None) };
        match ask(&bulk, to, addr, &request, ASK_LIMIT).await {
            Ok(reply) => (to, index, Some(reply)),
            Err(error) => {
                tracing::debug!(holder = %to, %error, "no answer");
                (to, index, None)
            }
        }
    });
}
