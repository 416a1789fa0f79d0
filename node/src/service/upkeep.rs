//! Upkeep of the store, by itself and in the background: what lies here is read for rot, what is released is collected, what is void is shown to holders that do not
//! know yet.
//!
//! *Scrub* (`scrubbing`). Every byte is read once in `keeping.scrub_days`, in pieces, faster than that never but for an operator who asks (`tributary storage repair`). What has
//! rotted is marked on the disk, so that this node no longer says that it has it, and given to repair as a failed audit is; a mark goes when the item is stored
//! anew. A store of 20 GiB and 14 days: 24 kB/s. *Collecting* takes segments that are half dead, at most `keeping.collect_bytes_per_s`. *Void objects* (`voids`): what a
//! crash left of one is released, and holders that still have fragments are shown the proof. *Fragments handed on* (`handed`) are released once their new holder has shown one. Both
//! are looked at per epoch and every ten minutes; holders of what is void also a second after it was voided here, then 2, 4, 8 s after that until none has any of it. *Room* is looked at every second: with too little of it on the disk or in the capacity the node's ad says that it takes no new fragments.
//!
//! Nothing here may be lost half-way: each step is one call of the store, which is whole or has no effect, and where a round is stands on the disk. The service runs on nodes that
//! store, and ends with its future.

mod handed;
mod scrubbing;
mod voids;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use storage::store::{Collected, Item};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use types::id::BlobId;

use self::scrubbing::Scrubbing;
use super::keeping::Keeping;
use crate::config::Keeping as Config;

/// How often there is something to do.
const TICK: Duration = Duration::from_secs(1);
/// How often marked items are read again, and a store without anything to collect is looked at.
const REST: Duration = Duration::from_secs(60);
/// How often it is looked for what is void or was handed on, beside epochs.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// How soon holders of an object that was voided here are looked at; twice as long each time one of them still has something of it, [`LOOK_EVERY`] at most.
const SHOW_AFTER: Duration = Duration::from_secs(1);
/// Bytes that one call of collecting may copy, while nobody else writes.
const COLLECT_STEP_BYTES: u64 = 1 << 20;
/// Marked items that are looked at at once, and told.
const ROTTEN_MAX: usize = 64;
/// Void objects that are told.
const VOIDS_MAX: usize = 64;

/// How upkeep stands, for the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The scrub.
    pub scrub: Scrub,
    /// Items that are marked as rotten and not yet mended: whose bytes are no longer what was stored, or are gone.
    pub rotten_items: u64,
    /// The first 64 of them, in words.
    pub rotten: Vec<String>,
    /// Bytes of segments that the disk had lost when the node started.
    pub lost_bytes: u64,
    /// Items that were in them, all marked then.
    pub lost_items: u64,
    /// Why what was to be erased on request is not gone yet; nothing if nothing of that kind is left.
    pub unerased: Option<String>,
    /// Objects of which fragments lie here and nothing says who holds the others, as after a salvage: asked of the other holders.
    pub unrecorded: u64,
    /// Bytes of segments that nothing lives in any more and that were not collected yet.
    pub dead_bytes: u64,
    /// Bytes of segments collected since the node started.
    pub collected_bytes: u64,
    /// Objects whose manifest was proved to be a lie; at most 64.
    pub void: Vec<BlobId>,
    /// Fragments released since the node started, each after its new holder had shown that it has it.
    pub handed_on: u64,
}

/// How the scrub stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scrub {
    /// Days in which a round is done; 0: the store is not read.
    pub days: u32,
    /// Bytes per second that are read now.
    pub bytes_per_s: u64,
    /// Items of this round that were read.
    pub items: u64,
    /// Items that it began with.
    pub items_total: u64,
    /// Bytes of this round that were read.
    pub bytes: u64,
    /// Bytes that it began with.
    pub bytes_total: u64,
    /// Items found rotten in it.
    pub corrupt: u64,
    /// When it began, in seconds since 1970.
    pub began_s: u64,
    /// When the round before it ended; nothing if there was none.
    pub last_round_s: Option<u64>,
}

/// What the operator sees of it, and says to it.
#[derive(Debug, Default)]
pub struct View {
    report: Mutex<Report>,
    look: Notify,
    seek: Notify,
}

impl View {
    /// How it stands.
    pub fn report(&self) -> Report {
        self.lock().clone()
    }

    /// Do everything now: read the whole store as fast as it may be read, and show proofs.
    pub fn look(&self) {
        self.look.notify_one();
        self.seek.notify_one();
    }

    /// Returns when the operator asks to look. May be dropped: what was asked meanwhile is not lost.
    pub async fn seek_asked(&self) {
        self.seek.notified().await;
    }

    /// Notes of how many objects fragments lie here without a record of their holders.
    pub fn note_unrecorded(&self, objects: u64) {
        self.lock().unrecorded = objects;
    }

    /// Notes why what was to be erased is not gone yet, or that it is.
    pub fn note_unerased(&self, why: Option<String>) {
        self.lock().unerased = why;
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service.
#[derive(Debug)]
pub struct Upkeep {
    keeping: Arc<Keeping>,
    view: Arc<View>,
    collect_bytes_per_s: u64,
    scrubbing: Scrubbing,
    collect_from: Instant,
    recheck_from: Instant,
    /// The marked item that was looked at last, so that all have their turn.
    rechecked: Option<Item>,
    /// The epoch whose look is done, and when that was.
    looked: Option<(u64, Instant)>,
    /// Void objects of which no holder has anything any more.
    settled: BTreeSet<BlobId>,
    /// When holders of the other void objects are looked at again, and how long it is until the time after that.
    show_at: Option<Instant>,
    pause: Duration,
    looking: JoinSet<Looked>,
}

/// What one look came to.
#[derive(Debug)]
struct Looked {
    shown: voids::Shown,
    released: u64,
}

impl Upkeep {
    /// Upkeep of a node's store.
    pub fn new(keeping: Arc<Keeping>, config: &Config, view: Arc<View>) -> Self {
        let now = Instant::now();
        Self {
            keeping,
            view,
            collect_bytes_per_s: config.collect_bytes_per_s,
            scrubbing: Scrubbing::new(config.scrub_days, config.scrub_bytes_per_s),
            collect_from: now,
            recheck_from: now,
            rechecked: None,
            looked: None,
            settled: BTreeSet::new(),
            show_at: None,
            pause: SHOW_AFTER,
            looking: JoinSet::new(),
        }
    }

    /// Keeps the store in order until dropped.
    pub async fn run(mut self) {
        let (view, keeping) = (Arc::clone(&self.view), Arc::clone(&self.keeping));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tick().await,
                () = view.look.notified() => self.hurry(),
                () = keeping.voided.notified() => (self.show_at, self.pause) = (Some(Instant::now()), SHOW_AFTER),
                Some(looked) = self.looking.join_next() => if let Ok(looked) = looked { self.note(looked) },
            }
        }
    }

    fn hurry(&mut self) {
        self.scrubbing.hurry();
        let now = Instant::now();
        (self.looked, self.recheck_from, self.collect_from) = (None, now, now);
    }

    fn note(&mut self, Looked { shown, released }: Looked) {
        self.settled.extend(shown.settled);
        // What was voided meanwhile is looked at sooner than that.
        if shown.is_more && self.show_at.is_none() {
            self.show_at = Some(Instant::now() + self.pause);
            self.pause = LOOK_EVERY.min(self.pause * 2);
        }
        self.view.lock().handed_on += released;
        if released > 0 {
            self.collect_from = Instant::now();
        }
    }

    async fn tick(&mut self) {
        let keeping = Arc::clone(&self.keeping);
        // One that panicked has said so; what the ad says stands for another second.
        drop(tokio::task::spawn_blocking(move || keeping.look_for_room()).await);
        for corrupt in self.scrubbing.step(&self.keeping).await {
            self.mark(corrupt.item);
        }
        self.collect().await;
        self.recheck().await;
        self.look();
        self.tell();
    }

    /// One look at a time.
    fn look(&mut self) {
        let (epoch, now) = (self.keeping.epoch(), Instant::now());
        let is_done = self.looked.is_some_and(|(of, at)| of == epoch && now - at < LOOK_EVERY);
        let is_shown = self.show_at.is_none_or(|at| now < at);
        if (is_done && is_shown) || !self.looking.is_empty() {
            return;
        }
        self.show_at = None;
        if !is_done {
            self.looked = Some((epoch, now));
        }
        let (keeping, settled) = (Arc::clone(&self.keeping), self.settled.clone());
        self.looking.spawn(async move {
            let shown = voids::show_all(&keeping, settled).await;
            let released = if is_done { 0 } else { handed::release_all(&keeping).await };
            Looked { shown, released }
        });
    }

    fn mark(&self, item: Item) {
        if let Err(error) = self.keeping.rotten(item) {
            tracing::error!(%item, %error, "has rotted, and cannot be marked");
        }
    }

    /// Collects for a second at most.
    async fn collect(&mut self) {
        let mut left = self.collect_bytes_per_s;
        while left > 0 && Instant::now() >= self.collect_from {
            let (store, budget) = (self.keeping.store.clone(), left.min(COLLECT_STEP_BYTES));
            let Ok(done) = tokio::task::spawn_blocking(move || store.collect(budget)).await else { return };
            match done {
                Ok(Collected { moved_bytes, freed_bytes, corrupt, is_done }) => {
                    corrupt.iter().for_each(|corrupt| self.mark(corrupt.item));
                    if freed_bytes > 0 {
                        tracing::info!(freed_bytes, "a segment of released items is gone");
                    }
                    self.view.lock().collected_bytes += freed_bytes;
                    // A step that copies nothing has read a page of the index.
                    left = left.saturating_sub(moved_bytes.max(COLLECT_STEP_BYTES / 64));
                    if is_done {
                        self.collect_from = Instant::now() + REST;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "released items are not collected: it is tried again in a minute");
                    self.collect_from = Instant::now() + REST;
                }
            }
        }
    }

    /// Looks at marked items again, and gives what is still rotten to repair again.
    async fn recheck(&mut self) {
        if Instant::now() < self.recheck_from {
            return;
        }
        self.recheck_from = Instant::now() + REST;
        let (store, after) = (self.keeping.store.clone(), self.rechecked);
        let Ok(done) = tokio::task::spawn_blocking(move || store.recheck(after, ROTTEN_MAX)).await else { return };
        match done {
            Ok(rechecked) => {
                self.rechecked = rechecked.last;
                rechecked.rotten.into_iter().for_each(|item| self.mark(item));
                rechecked.mended.iter().for_each(|item| tracing::info!(%item, "is whole again, or not kept any more"));
            }
            Err(error) => tracing::error!(%error, "what has rotted cannot be looked at again"),
        }
    }

    fn tell(&self) {
        let store = &self.keeping.store;
        let told = store
            .rotten(ROTTEN_MAX)
            .and_then(|rotten| Ok((rotten, store.rotten_count()?, store.usage()?.dead_bytes, store.voided(BlobId::ZERO, VOIDS_MAX)?)));
        let lost = store.recovery();
        let mut report = self.view.lock();
        report.scrub = self.scrubbing.report();
        match told {
            Ok((rotten, rotten_items, dead_bytes, void)) => {
                report.rotten = rotten.iter().map(ToString::to_string).collect();
                (report.rotten_items, report.lost_bytes, report.lost_items) = (rotten_items, lost.lost_bytes, lost.lost_items);
                (report.dead_bytes, report.void) = (dead_bytes, void);
            }
            Err(error) => tracing::error!(%error, "the store does not say how it stands"),
        }
    }
}
