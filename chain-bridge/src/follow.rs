//! Follows the chain: polls heads, keeps [`Cursor`] and [`View`] in step, publishes a snapshot after every change.
//!
//! Written against [`Chain`], so that reorganisations are tried on a chain that a test makes up. Up to a finalized block events are read in
//! ranges; above it block by block, each known by its hash. When the endpoint is down the last snapshot stands, with the problem beside it; when a
//! finalized block changes, following stops for good (`is_halted`): nothing may be counted until a person looked. The last finalized block that an
//! earlier process knew is looked for before the first event is read, so that no restart forgets what was counted by.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use types::time::BlockRef;

use crate::{
    chain::{Chain, Header, Heads},
    finality::{Changed, Cursor, FinalityError},
    registry::{Logged, State, View, ViewError},
};

/// Most blocks followed in one round, so that a snapshot is published while catching up.
const ROUND_MAX: u64 = 256;
/// Longest pause between two tries while the endpoint is down.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What is known at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The chain's heads; nothing before the first answer.
    pub heads: Option<Heads>,
    /// The block that `latest` stands at.
    pub tip: BlockRef,
    /// Books at the tip: may be taken back.
    pub latest: Arc<State>,
    /// The block that `finalized` stands at; block 0 before anything is known.
    pub final_block: BlockRef,
    /// Books at the finalized block: count money by these.
    pub finalized: Arc<State>,
    /// Why the last round failed, if it did; the books are those of the round before.
    pub problem: Option<String>,
    /// Whether following has stopped for good.
    pub is_halted: bool,
    /// The final block that changed, if following has stopped for that.
    pub changed: Option<Changed>,
}

impl Snapshot {
    /// Whether the books stand at the chain's latest block as far as known.
    pub fn is_current(&self) -> bool {
        self.problem.is_none() && self.heads.is_some_and(|heads| heads.latest == self.tip)
    }
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError<E> {
    /// The chain did not answer.
    #[error(transparent)]
    Chain(E),
    /// The blocks make no chain.
    #[error(transparent)]
    Finality(FinalityError),
    /// The events make no state.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The chain changed while it was read.
    #[error("the chain was reorganised while block {0} was read")]
    Moved(u64),
    /// The endpoint has not seen what was final before.
    #[error("the endpoint stands at block {latest} and block {finalized} was final already: it lags behind, wait or use another one")]
    Lagging {
        /// The endpoint's latest block.
        latest: u64,
        /// The finalized block of the books.
        finalized: u64,
    },
}

impl<E> FollowError<E> {
    /// The final block that changed, if that is why.
    pub const fn changed(&self) -> Option<Changed> {
        match self {
            Self::Finality(error) => error.changed(),
            _ => None,
        }
    }

    const fn must_halt(&self) -> bool {
        match self {
            Self::Chain(_) | Self::Moved(_) | Self::Lagging { .. } => false,
            Self::Finality(error) => error.must_halt(),
            Self::View(_) => true,
        }
    }
}

/// The running follower. Dropping it stops it.
#[derive(Debug)]
pub struct Follower {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Follows `chain` from block `from` (the deployment's), looking every `poll`.
    pub fn start<C: Chain + 'static>(chain: C, from: u64, poll: Duration) -> Self {
        Self::start_after(chain, from, poll, None)
    }

    /// The same after another process, which knew `last_final` as the finalized block: a chain that has another one there is not followed.
    pub fn start_after<C: Chain + 'static>(chain: C, from: u64, poll: Duration, last_final: Option<BlockRef>) -> Self {
        let (sender, snapshot) = watch::channel(Arc::new(Snapshot::default()));
        let following = Following { last_final, ..Following::new(from) };
        let task = tokio::spawn(run(following, chain, poll, sender));
        Self { snapshot, task }
    }

    /// The snapshots as they come.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// The last snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Waits for a snapshot that `is_it` accepts; nothing if following has stopped or `patience` passed.
    pub async fn wait_for(&self, patience: Duration, is_it: impl Fn(&Snapshot) -> bool) -> Option<Arc<Snapshot>> {
        let mut snapshots = self.subscribe();
        let found = tokio::time::timeout(patience, snapshots.wait_for(|snapshot| snapshot.is_halted || is_it(snapshot))).await;
        let found = Arc::clone(&*found.ok()?.ok()?);
        is_it(&found).then_some(found)
    }

    /// Stops following and waits until its task has ended.
    pub async fn stop(mut self) {
        self.task.abort();
        // An aborted task ends with an error that says so.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<C: Chain>(mut following: Following, chain: C, poll: Duration, sender: watch::Sender<Arc<Snapshot>>) {
    let mut pause = poll;
    loop {
        let result = following.round(&chain).await;
        let (problem, is_halted) = match &result {
            Ok(_) => (None, false),
            Err(error) => (Some(error.to_string()), error.must_halt()),
        };
        if let Some(problem) = &problem {
            tracing::warn!(%problem, is_halted, "following the chain failed");
        }
        let changed = result.as_ref().err().and_then(FollowError::changed);
        let snapshot = Snapshot { changed, ..following.snapshot(problem, is_halted) };
        let is_new = {
            let last = sender.borrow();
            last.heads != snapshot.heads
                || last.tip != snapshot.tip
                || last.problem != snapshot.problem
                || last.is_halted != snapshot.is_halted
        };
        if is_new && sender.send(Arc::new(snapshot)).is_err() {
            return;
        }
        if is_halted {
            // Whoever waits for a change goes on waiting: the last snapshot says that nothing comes, and why.
            sender.closed().await;
            return;
        }
        pause = match result {
            // Behind by more than one round: go on at once.
            Ok(true) => continue,
            Ok(false) => poll,
            Err(_) => (pause * 2).min(PAUSE_MAX).max(poll),
        };
        tokio::time::sleep(pause).await;
    }
}

/// The state of following, without its task.
#[derive(Debug)]
struct Following {
    from: u64,
    /// What an earlier process knew to be final, until the chain is seen to have it.
    last_final: Option<BlockRef>,
    cursor: Option<Cursor>,
    view: View,
    heads: Option<Heads>,
}

impl Following {
    fn new(from: u64) -> Self {
        Self { from, last_final: None, cursor: None, view: View::new(), heads: None }
    }

    fn snapshot(&self, problem: Option<String>, is_halted: bool) -> Snapshot {
        let tip = self.cursor.as_ref().map(Cursor::tip).unwrap_or_default();
        let final_block = self.cursor.as_ref().map(Cursor::finalized).unwrap_or_default();
        let (latest, finalized) = (self.view.latest(), self.view.finalized());
        Snapshot { heads: self.heads, tip, latest, final_block, finalized, problem, is_halted, changed: None }
    }

    /// Follows as far as one round goes; says whether more is there already.
    async fn round<C: Chain>(&mut self, chain: &C) -> Result<bool, FollowError<C::Error>> {
        if let Some(was) = self.last_final {
            still_final(chain, was).await?;
            self.last_final = None;
        }
        let heads = chain.head().await.map_err(FollowError::Chain)?;
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => {
                let origin = self.from.min(heads.finalized.number);
                let header = chain.header(origin).await.map_err(FollowError::Chain)?;
                Cursor::new(header.ok_or(FollowError::Moved(origin))?.block)
            }
        };
        let result = self.follow(&mut cursor, chain, &heads).await;
        let is_behind = cursor.tip().number < heads.latest.number;
        self.cursor = Some(cursor);
        self.heads = Some(heads);
        result.map(|()| is_behind)
    }

    async fn follow<C: Chain>(&mut self, cursor: &mut Cursor, chain: &C, heads: &Heads) -> Result<(), FollowError<C::Error>> {
        self.take_back(cursor, chain, heads).await?;
        self.catch_up(cursor, chain, heads).await?;
        let mut headers = Vec::new();
        let mut parent = cursor.tip();
        while parent.number < heads.latest.number && headers.len() < usize::try_from(ROUND_MAX).unwrap_or(usize::MAX) {
            let number = parent.number.saturating_add(1);
            let Some(header) = chain.header(number).await.map_err(FollowError::Chain)? else { break };
            if header.parent != parent.hash {
                return Err(FollowError::Moved(number));
            }
            parent = header.block;
            headers.push(header);
        }
        self.apply(cursor, chain, headers).await?;
        cursor.finalize(heads.finalized).map_err(FollowError::Finality)?;
        self.view.finalize(cursor.finalized().number)?;
        Ok(())
    }

    /// Drops blocks that the chain no longer has. An endpoint that has not even reached the finalized block says nothing about the others:
    /// one of several behind an address may lag, and its silence is no other chain.
    async fn take_back<C: Chain>(&mut self, cursor: &mut Cursor, chain: &C, heads: &Heads) -> Result<(), FollowError<C::Error>> {
        let finalized = cursor.finalized().number;
        if heads.latest.number < finalized {
            return Err(FollowError::Lagging { latest: heads.latest.number, finalized });
        }
        loop {
            let tip = cursor.tip();
            if tip == heads.latest {
                return Ok(());
            }
            let now = chain.header(tip.number).await.map_err(FollowError::Chain)?;
            if now.is_some_and(|now| now.block == tip) {
                return Ok(());
            }
            if now.is_none() && cursor.open() == 0 {
                return Err(FollowError::Lagging { latest: heads.latest.number, finalized });
            }
            cursor.pop(now.map_or(heads.latest, |now| now.block)).map_err(FollowError::Finality)?;
            self.view.rollback(cursor.tip().number)?;
        }
    }

    /// Reads final blocks in ranges.
    async fn catch_up<C: Chain>(&mut self, cursor: &mut Cursor, chain: &C, heads: &Heads) -> Result<(), FollowError<C::Error>> {
        let tip = cursor.tip().number;
        if cursor.open() > 0 || heads.finalized.number <= tip {
            return Ok(());
        }
        let events = in_order(chain.events(tip.saturating_add(1), heads.finalized.number).await.map_err(FollowError::Chain)?)?;
        self.view.apply_final(&events)?;
        cursor.skip_to(heads.finalized).map_err(FollowError::Finality)
    }

    /// Takes blocks with their events; nothing is taken unless the events are those of exactly these blocks.
    async fn apply<C: Chain>(&mut self, cursor: &mut Cursor, chain: &C, headers: Vec<Header>) -> Result<(), FollowError<C::Error>> {
        if headers.is_empty() {
            return Ok(());
        }
        let blocks: Vec<BlockRef> = headers.iter().map(|header| header.block).collect();
        let mut events = in_order(chain.events_of(&blocks).await.map_err(FollowError::Chain)?)?;
        let foreign = events.iter().find(|event| !headers.iter().any(|header| header.block == event.block));
        if let Some(event) = foreign {
            return Err(FollowError::Moved(event.block.number));
        }
        for header in headers {
            let (here, rest): (Vec<Logged>, Vec<Logged>) = events.into_iter().partition(|event| event.block == header.block);
            events = rest;
            self.view.apply(header.block, here)?;
            cursor.push(&header).map_err(FollowError::Finality)?;
        }
        Ok(())
    }
}

/// Looks for a block that was final once.
///
/// # Errors
/// [`FinalityError::FinalizedChanged`] if the chain has another one there, [`FollowError::Lagging`] if it has none yet, [`FollowError::Chain`].
pub async fn still_final<C: Chain>(chain: &C, was: BlockRef) -> Result<(), FollowError<C::Error>> {
    match chain.header(was.number).await.map_err(FollowError::Chain)? {
        Some(now) if now.block == was => Ok(()),
        Some(now) => Err(FollowError::Finality(FinalityError::FinalizedChanged { was, now: now.block })),
        None => {
            let latest = chain.head().await.map_err(FollowError::Chain)?.latest.number;
            Err(FollowError::Lagging { latest, finalized: was.number })
        }
    }
}

/// Events in the order of the chain, each once, whatever the order and however often the endpoint told them. Two that claim one place are of
/// two chains.
fn in_order<E>(mut events: Vec<Logged>) -> Result<Vec<Logged>, FollowError<E>> {
    events.sort_by_key(|event| (event.block.number, event.log));
    events.dedup();
    let place = |event: &Logged| (event.block.number, event.log);
    match events
        .windows(2)
        .find(|pair| place(&pair[0]) == place(&pair[1]) || (pair[0].block.number == pair[1].block.number && pair[0].block != pair[1].block))
    {
        Some(pair) => Err(FollowError::Moved(pair[1].block.number)),
        None => Ok(events),
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests;
