//! The chain as a command or a service sees it: a client, and the books derived from its events.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use chain_bridge::{
    chain::{Header, error::ChainError},
    client::ChainClient,
    deploy::Deployment,
    follow::{FollowError, Follower, Snapshot, still_final},
    registry::State,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use types::key::Account;

use crate::{
    data::DataDir,
    finalized::{Alarm, LastFinal},
};

/// How often the chain is looked at: half a block of the devnet, a quarter of the OP Stack's.
const POLL: Duration = Duration::from_millis(500);
/// How long the books may take to reach the chain's head.
const CATCH_UP: Duration = Duration::from_secs(60);

/// How often the log repeats an alarm.
const REMIND: Duration = Duration::from_secs(60);

/// Snapshots of the books as they come.
pub type Snapshots = watch::Receiver<Arc<Snapshot>>;

/// A client and its follower.
#[derive(Debug)]
pub struct Chained {
    /// Sends and reads.
    pub client: ChainClient,
    follower: Follower,
    /// Known when the chain was opened; the follower tells of later ones.
    alarm: Option<Alarm>,
}

impl Chained {
    /// Connects and starts to follow; with `account`, transactions can be sent. What was final before is not known: for whoever keeps no folder.
    pub async fn open(rpc: &str, deployment: Deployment, account: Option<Account>) -> anyhow::Result<Self> {
        let from = deployment.block;
        let client = ChainClient::connect(rpc, deployment, account).await?;
        let follower = Follower::start(client.clone(), from, POLL);
        Ok(Self { client, follower, alarm: None })
    }

    /// The same for a data folder: the last finalized block that it knows is looked for first, and kept as it advances. With an [`Alarm`] nothing can be
    /// sent, now or when it comes later.
    pub async fn open_in(data: &DataDir, rpc: &str, deployment: Deployment, account: Option<Account>) -> anyhow::Result<Self> {
        let kept = LastFinal::of(data, &deployment);
        let known = kept.read()?;
        let from = deployment.block;
        let client = ChainClient::connect(rpc, deployment, account).await?;
        let alarm = alarm_of(&client, &kept).await?;
        match &alarm {
            Some(alarm) => client.stop_sending(alarm.to_string()),
            // A command may end before the follower has looked once.
            None => kept.advance(client.heads().await?.finalized)?,
        }
        let follower = Follower::start_after(client.clone(), from, POLL, known);
        tokio::spawn(keep(follower.subscribe(), kept, client.clone()));
        Ok(Self { client, follower, alarm })
    }

    /// What is wrong with the chain's finality, if anything is.
    pub fn alarm(&self) -> Option<Alarm> {
        let url = self.client.rpc().url();
        self.alarm.clone().or_else(|| alarm_in(&self.follower.snapshot(), url))
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
        if let Some(alarm) = self.alarm() {
            return Err(alarm.into());
        }
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

/// The alarm that a snapshot of the books at an endpoint brings.
pub fn alarm_in(snapshot: &Snapshot, url: &str) -> Option<Alarm> {
    snapshot.changed.map(|changed| Alarm { changed, url: url.to_owned() })
}

/// Whether the chain still has what the folder knows as final. An endpoint that has not come so far is an error: it is no other chain.
pub async fn alarm_of(client: &ChainClient, kept: &LastFinal) -> anyhow::Result<Option<Alarm>> {
    let Some(known) = kept.read()? else { return Ok(None) };
    let Err(error) = still_final(client, known).await else { return Ok(None) };
    match error.changed() {
        Some(changed) => Ok(Some(Alarm { changed, url: client.rpc().url().to_owned() })),
        None if matches!(error, FollowError::Lagging { .. }) => Err(anyhow::Error::new(error).context(format!(
            "{}: if the chain was begun anew, `tributary chain accept-finalized` takes its own finalized block instead",
            kept.path().display()
        ))),
        None => Err(error.into()),
    }
}

/// Keeps the finalized block on disk as it advances; once it has changed, lets nothing be sent, and says so again and again.
async fn keep(mut snapshots: Snapshots, kept: LastFinal, client: ChainClient) {
    let mut remind_at = None;
    loop {
        let (block, alarm) = {
            let snapshot = snapshots.borrow_and_update();
            (snapshot.final_block, alarm_in(&snapshot, client.rpc().url()))
        };
        if let Some(alarm) = &alarm {
            client.stop_sending(alarm.to_string());
            tracing::error!("{alarm}");
            remind_at = Some(Instant::now() + REMIND);
        }
        if block.number > 0 {
            let kept = kept.clone();
            match tokio::task::spawn_blocking(move || kept.advance(block)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "a restart will not know what is final now"),
                Err(_) => return,
            }
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = sleep_until(remind_at.unwrap_or_else(|| Instant::now() + REMIND)), if remind_at.is_some() => {}
        }
    }
}
