//! Carries one [`Spread`] out: sends each fragment to its holder and reports replies, losses and the passing of time.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use p2p::bulk::BulkEndpoint;
use serde::Serialize;
use storage::{
    erasure::Encoded,
    proto::{
        message::{Reply, Request},
        spread::{Config, Input, Output, Spread, SpreadError},
    },
};
use tokio::{task::JoinSet, time::Instant};
use types::{
    id::{Address, NodeId},
    time::Time,
};

use super::exchange::ask;

/// Longest wait for one answer here; the spread itself is less patient, so this only ends what it has forgotten.
const ASK_LIMIT: Duration = Duration::from_secs(90);
/// Times a fragment is sent, a second apart: a holder refuses until the block and the ads that its sender knows have reached it too.
const ATTEMPTS: u8 = 20;

/// Where a fragment is to lie.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// The operator.
    pub account: Address,
    /// Its node.
    pub node: NodeId,
    /// Where the node serves bulk data; nothing if it is not heard.
    pub addr: Option<SocketAddr>,
}

/// A fragment that its holder acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// Which fragment.
    pub fragment: usize,
    /// The operator.
    pub account: Address,
    /// Its node.
    pub node: NodeId,
    /// The fragment's bytes.
    pub bytes: usize,
}

type Answer = (u8, Option<Reply>);

/// Sends fragment i to `holders[i]`, if that is heard, but for what is `stored` there already; returns when all are acknowledged, and tells `kept` how many are. Sending one again is
/// harmless. What was acknowledged is in `stored` however it ends. May be dropped half-way.
///
/// # Errors
/// The holders that did not acknowledge, each with its reason ([`SpreadError`]).
pub async fn spread(
    bulk: &Arc<BulkEndpoint>,
    encoded: &Encoded,
    holders: &[Holder],
    stored: &mut BTreeSet<(u8, NodeId)>,
    mut kept: impl FnMut(u64),
) -> anyhow::Result<Result<Vec<Placed>, SpreadError>> {
    let manifest = encoded.manifest.encode();
    let accounts: Vec<Address> = holders.iter().map(|holder| holder.account).collect();
    let config = Config { attempts: ATTEMPTS, ..Config::default() };
    let unheard = (0..=u8::MAX).zip(holders).filter(|(_, holder)| holder.addr.is_none()).map(|(index, _)| index).collect();
    let mut spread = Spread::new(encoded.manifest.id(), holders.iter().map(|holder| holder.node), config).after(stored).without(&unheard);
    let started = Instant::now();
    let now = || Time(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    let mut asked: JoinSet<Answer> = JoinSet::new();
    let mut input = Input::Start;
    loop {
        for output in spread.handle(now(), input) {
            match output {
                Output::Send { index, .. } => {
                    let place = usize::from(index);
                    let holder = *holders.get(place).context("a fragment without a holder")?;
                    let fragment = encoded.fragments.get(place).context("a holder without a fragment")?.clone();
                    let request = Request::Put { manifest: manifest.clone(), index, fragment, holders: accounts.clone() };
                    let addr = holder.addr.context("nothing is sent to who is not heard")?;
                    send(&mut asked, bulk, (holder.node, addr), index, request);
                }
                Output::Done(done) => {
                    stored.extend(spread.stored());
                    return Ok(done.map(|_| placed(encoded, holders, stored)));
                }
            }
        }
        // A spread that is not done has sent something or waits for a time: one of the two arms ends.
        let due = spread.deadline().map(|due| started + Duration::from_micros(due.0));
        input = tokio::select! {
            Some(answer) = asked.join_next() => match answer {
                Ok((index, Some(reply))) => {
                    if matches!(reply, Reply::Stored { .. }) {
                        // This one is taken in by the next turn.
                        kept(spread.stored().len() as u64 + 1);
                    }
                    Input::Reply { index, reply }
                }
                Ok((index, None)) => Input::Lost { index },
                // A task that panicked has said so on standard error; its request runs into its deadline.
                Err(_) => Input::Tick,
            },
            () = super::sleep_until(due) => Input::Tick,
        };
    }
}

fn send(asked: &mut JoinSet<Answer>, bulk: &Arc<BulkEndpoint>, (node, addr): (NodeId, SocketAddr), index: u8, request: Request) {
    let bulk = Arc::clone(bulk);
    asked.spawn(async move {
        match ask(&bulk, node, addr, &request, ASK_LIMIT).await {
            Ok(reply) => (index, Some(reply)),
            Err(error) => {
                tracing::debug!(holder = %node, index, %error, "a fragment was not taken");
                (index, None)
            }
        }
    });
}

/// The fragments that are with these holders.
pub fn placed(encoded: &Encoded, holders: &[Holder], stored: &BTreeSet<(u8, NodeId)>) -> Vec<Placed> {
    let pairs = (0..=u8::MAX).zip(holders.iter().zip(&encoded.fragments));
    let kept = pairs.filter(|(index, (holder, _))| stored.contains(&(*index, holder.node)));
    kept.map(|(index, (holder, bytes))| Placed { fragment: index.into(), account: holder.account, node: holder.node, bytes: bytes.len() })
        .collect()
}
