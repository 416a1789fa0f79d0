//! The holder's side of reads: pieces of fragments from the store to streams, each in its turn.
//!
//! Who sends next is [`Turns`]', which is pure; here its wishes wait, its grants wake them, and pieces are read on blocking threads. A stream whose
//! peer takes nothing for [`TAKE_LIMIT`] ends. Memory: one piece per open read ([`storage::proto::provide::PIECE_BYTES`]), and the pairs of the
//! 128 fragments read last (16 KiB for one of 4 MiB).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use p2p::stream::FrameSender;
use storage::{
    proto::{
        message::{Refusal, Reply},
        provide::{Pace, Turns},
        range::{Run, Tree},
    },
    store::{Item, Reading, Store},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use types::{
    id::{BlobId, NodeId},
    time::Time,
};

use super::exchange::{ROTTEN, send_message};

/// Longest time for a peer to take one piece: at 140 kbit/s.
pub const TAKE_LIMIT: Duration = Duration::from_secs(15);
/// Fragments whose pairs are kept. 128: 2 MiB of the common ones, 11 MiB of the largest.
const TREES_MAX: usize = 128;

/// What is read from a store and by whom.
#[derive(Debug)]
pub struct Reads {
    store: Store,
    started: Instant,
    waiting: Mutex<Waiting>,
    trees: Mutex<Trees>,
}

#[derive(Debug)]
struct Waiting {
    turns: Turns,
    wishes: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
}

#[derive(Debug, Default)]
struct Trees {
    uses: u64,
    kept: BTreeMap<(BlobId, u8), (u64, Arc<Tree>)>,
}

impl Reads {
    /// Serves from `store` at this pace.
    pub fn new(store: Store, pace: Pace) -> Self {
        let waiting = Waiting { turns: Turns::new(pace, Time(0)), wishes: BTreeMap::new(), next: 0 };
        Self { store, started: Instant::now(), waiting: Mutex::new(waiting), trees: Mutex::default() }
    }

    /// Answers one [`storage::proto::message::Request::Read`] to its end. May be dropped half-way: the stream is then to be reset.
    ///
    /// # Errors
    /// What the stream says, or that the peer stopped reading.
    pub async fn serve(&self, peer: NodeId, object: BlobId, index: u8, run: Run, sender: &mut FrameSender) -> anyhow::Result<()> {
        let (store, tree) = (self.store.clone(), self.trees().get(object, index));
        let begun = tokio::task::spawn_blocking(move || store.read_range(object, index, run, tree)).await?;
        let mut reading = match begun {
            Ok(reading) => reading,
            Err(refusal) => return Ok(send_message(sender, &Reply::Refused(refusal).encode()).await?),
        };
        self.trees().keep(object, index, reading.tree());
        timeout(TAKE_LIMIT, sender.send(&reading.head().encode())).await.context("the reader stopped reading")??;
        let mut piece = Vec::new();
        while !reading.is_done() {
            self.turn(peer, reading.piece_bytes()).await?;
            let read;
            (reading, piece, read) = next(reading, piece).await?;
            if let Err(refusal) = read {
                self.trees().forget(object, index);
                sender.reset(ROTTEN);
                if matches!(refusal, Refusal::Corrupt { .. }) {
                    let store = self.store.clone();
                    tokio::task::spawn_blocking(move || store.mark_rotten(Item::Fragment { object, index })).await??;
                }
                anyhow::bail!("fragment {index} of object {object}: {refusal}");
            }
            timeout(TAKE_LIMIT, sender.send_raw(&piece)).await.context("the reader stopped reading")??;
        }
        Ok(sender.finish().await?)
    }

    /// Waits until a piece of this peer may go.
    async fn turn(&self, peer: NodeId, bytes: usize) -> anyhow::Result<()> {
        let (sender, mut granted) = oneshot::channel();
        let now = self.now();
        let id = {
            let mut waiting = self.waiting();
            let id = waiting.next;
            waiting.next += 1;
            anyhow::ensure!(waiting.turns.wish(now, peer, id, bytes), "more peers read than are remembered");
            waiting.wishes.insert(id, sender);
            id
        };
        let _wish = Wish { reads: self, peer, id };
        loop {
            let next = self.waiting().pump(self.now());
            // Whoever waits also wakes the others; a millisecond more keeps a row of them from waking one by one.
            let wait = next.map_or(Duration::from_secs(1), |next| next.since(self.now())) + Duration::from_millis(1);
            tokio::select! {
                biased;
                done = &mut granted => return Ok(done?),
                () = sleep(wait) => {}
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trees(&self) -> MutexGuard<'_, Trees> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Wakes all whose turn it is, and says when to look again.
    fn pump(&mut self, now: Time) -> Option<Time> {
        while let Some(id) = self.turns.grant(now) {
            if let Some(wish) = self.wishes.remove(&id) {
                // One that is gone has withdrawn, or is about to.
                let _ = wish.send(());
            }
        }
        self.turns.next()
    }
}

/// Withdrawn when its read is dropped.
struct Wish<'r> {
    reads: &'r Reads,
    peer: NodeId,
    id: u64,
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        let mut waiting = self.reads.waiting();
        if waiting.wishes.remove(&self.id).is_some() {
            waiting.turns.withdraw(self.peer, self.id);
        }
    }
}

async fn next(mut reading: Reading, mut piece: Vec<u8>) -> anyhow::Result<(Reading, Vec<u8>, Result<(), Refusal>)> {
    let reading = tokio::task::spawn_blocking(move || {
        let read = reading.piece(&mut piece);
        (reading, piece, read)
    });
    Ok(reading.await?)
}

impl Trees {
    fn get(&mut self, object: BlobId, index: u8) -> Option<Arc<Tree>> {
        let (used, tree) = self.kept.get_mut(&(object, index))?;
        self.uses += 1;
        *used = self.uses;
        Some(Arc::clone(tree))
    }

    fn keep(&mut self, object: BlobId, index: u8, tree: Arc<Tree>) {
        self.uses += 1;
        self.kept.insert((object, index), (self.uses, tree));
        if self.kept.len() > TREES_MAX
            && let Some(oldest) = self.kept.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key)
        {
            self.kept.remove(&oldest);
        }
    }

    fn forget(&mut self, object: BlobId, index: u8) {
        self.kept.remove(&(object, index));
    }
}
