//! The chain as a command or a service sees it: a client, and the books derived from its events.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use chain_bridge::{
    chain::{Header, error::ChainError},
    client::ChainClient,
    deploy::Deployment,
    follow::{Follower, Snapshot},
    registry::State,
};
use tokio::sync::watch;
use types::key::Account;

/// How often the chain is looked at: half a block of the devnet, a quarter of the OP Stack's.
const POLL: Duration = Duration::from_millis(500);
/// How long the books may take to reach the chain's head.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Snapshots of the books as they come.
pub type Snapshots = watch::Receiver<Arc<Snapshot>>;

/// A client and its follower.
#[derive(Debug)]
pub struct Chained {
    /// Sends and reads.
    pub client: ChainClient,
    follower: Follower,
}

impl Chained {
    /// Connects and starts to follow; with `account`, transactions can be sent.
    pub async fn open(rpc: &str, deployment: Deployment, account: Option<Account>) -> anyhow::Result<Self> {
        let from = deployment.block;
        let client = ChainClient::connect(rpc, deployment, account).await?;
        let follower = Follower::start(client.clone(), from, POLL);
        Ok(Self { client, follower })
    }

    /// Remembers transactions in `outbox` from now on, and finishes what an earlier process left there. One that the chain refuses by now is reported and
    /// left behind; it holds nothing up. Tells the keys of those that were finished, and what the first other one met.
    pub async fn keep_outbox(&self, outbox: &std::path::Path) -> anyhow::Result<(Vec<String>, Option<ChainError>)> {
        match self.client.keep_outbox(outbox).await {
            Ok(finished) => {
                if !finished.is_empty() {
                    tracing::info!(count = finished.len(), "transactions of an earlier process are in a block");
                }
                Ok((finished, None))
            }
            Err(error @ (ChainError::OutboxFile { .. } | ChainError::NoAccount { .. })) => Err(error.into()),
            Err(error) => {
                tracing::info!(%error, "a transaction of an earlier process was not finished");
                Ok((Vec::new(), Some(error)))
            }
        }
    }

    /// The books at the chain's latest block, once they have caught up with where it is now.
    pub async fn state(&self) -> anyhow::Result<Arc<State>> {
        let head = self.head().await?.block.number;
        let snapshot = self.follower.wait_for(CATCH_UP, |snapshot| snapshot.problem.is_none() && snapshot.tip.number >= head).await;
        let last = self.follower.snapshot();
        if last.is_halted {
            bail!("following the chain has stopped: {}", last.problem.as_deref().unwrap_or("a finalized block changed"));
        }
        let why = || {
            format!(
                "the chain's events could not be read within {} s: {}",
                CATCH_UP.as_secs(),
                last.problem.as_deref().unwrap_or("too many blocks behind")
            )
        };
        Ok(Arc::clone(&snapshot.with_context(why)?.latest))
    }

    /// The latest block.
    pub async fn head(&self) -> anyhow::Result<Header> {
        Ok(self.client.latest().await?)
    }

    /// The deployment.
    pub fn deployment(&self) -> &Deployment {
        self.client.deployment()
    }

    /// Snapshots as they come.
    pub fn snapshots(&self) -> Snapshots {
        self.follower.subscribe()
    }
}
