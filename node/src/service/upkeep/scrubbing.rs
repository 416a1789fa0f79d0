//! The scrub: a [`Walk`] at the pace that brings it round in time, its place written down every minute.

use std::time::Duration;

use storage::store::{Corrupt, Store, StoreError, Walk};
use tokio::time::Instant;
use types::encoding::{Reader, Writer};

use super::Scrub;
use crate::{notice::now_s, service::keeping::Keeping};

/// Where the round stands: when it began, when the one before ended, its place.
const TABLE: &str = "upkeep";
const KEY: &[u8] = b"scrub";
/// How often that is written down.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Bytes that are read in a second at most, so that a pause is not made up for in one breath.
const STEP_BYTES_MAX: u64 = 8 << 20;
/// Bytes for which it is worth to go to the disk, unless the store is small.
const STEP_BYTES: u64 = 256 << 10;
/// The same, at least.
const STEP_BYTES_MIN: u64 = 4 << 10;
/// Wait after the disk did not answer.
const REST: Duration = Duration::from_secs(60);
const DAY_S: u64 = 24 * 60 * 60;

/// Bytes per second that read `bytes` within three quarters of `days`: the rest is for what comes meanwhile, and for a node that is off at times.
fn pace(bytes: u64, days: u32, most: u64) -> u64 {
    let time_s = (u64::from(days) * DAY_S * 3 / 4).max(1);
    bytes.div_ceil(time_s).clamp(1, most.max(1))
}

#[derive(Debug)]
pub(super) struct Scrubbing {
    days: u32,
    /// Bytes per second at most; 0: nothing is read.
    most: u64,
    walk: Option<Walk>,
    began_s: u64,
    ended_s: Option<u64>,
    /// Bytes that may be read now.
    credit: u64,
    counted: Instant,
    saved: Instant,
    from: Instant,
    rate: u64,
    is_hurried: bool,
}

impl Scrubbing {
    pub(super) fn new(days: u32, most: u64) -> Self {
        let now = Instant::now();
        Self {
            days,
            most,
            walk: None,
            began_s: 0,
            ended_s: None,
            credit: 0,
            counted: now,
            saved: now,
            from: now,
            rate: 0,
            is_hurried: false,
        }
    }

    /// One round from the beginning as fast as may be.
    pub(super) fn hurry(&mut self) {
        (self.is_hurried, self.walk, self.began_s) = (self.most > 0, None, 0);
    }

    /// Reads as much as the time since allows; returns what has rotted.
    pub(super) async fn step(&mut self, keeping: &Keeping) -> Vec<Corrupt> {
        let now = Instant::now();
        if self.most == 0 || now < self.from {
            return Vec::new();
        }
        match self.try_step(&keeping.store).await {
            Ok(corrupt) => corrupt,
            Err(error) => {
                tracing::error!(%error, "the disk cannot be read for rot: it is tried again in a minute");
                self.from = Instant::now() + REST;
                Vec::new()
            }
        }
    }

    async fn try_step(&mut self, store: &Store) -> Result<Vec<Corrupt>, StoreError> {
        let (now, live) = (Instant::now(), store.usage()?.live_bytes);
        self.rate = if self.is_hurried { self.most } else { pace(live, self.days, self.most) };
        let elapsed_us = u64::try_from((now - self.counted).as_micros()).unwrap_or(u64::MAX);
        let earned = u128::from(self.rate) * u128::from(elapsed_us) / 1_000_000;
        if earned == 0 {
            return Ok(Vec::new());
        }
        self.counted = now;
        self.credit = self.credit.saturating_add(u64::try_from(earned).unwrap_or(u64::MAX)).min(STEP_BYTES_MAX);
        if self.credit < (live / 64).clamp(STEP_BYTES_MIN, STEP_BYTES) && !self.is_hurried {
            return Ok(Vec::new());
        }
        let mut walk = match self.walk.take() {
            Some(walk) if !walk.progress().is_done => walk,
            _ => self.begin(store)?,
        };
        let (before, budget, reading) = (walk.progress().bytes, self.credit, store.clone());
        let stepped = tokio::task::spawn_blocking(move || {
            let found = walk.step(&reading, budget);
            (walk, found)
        });
        // A step that panicked has said so: the round goes on where it was written down.
        let Ok((walk, found)) = stepped.await else { return Ok(Vec::new()) };
        self.credit = self.credit.saturating_sub(walk.progress().bytes - before);
        let (corrupt, is_done) = (found?, walk.progress().is_done);
        if is_done {
            let progress = walk.progress();
            tracing::info!(items = progress.items, bytes = progress.bytes, corrupt = progress.corrupt, "everything that is kept was read");
            (self.ended_s, self.is_hurried, self.credit) = (Some(now_s()), false, 0);
        }
        if is_done || now - self.saved >= SAVE_EVERY {
            self.saved = now;
            self.save(store, &walk)?;
        }
        self.walk = Some(walk);
        Ok(corrupt)
    }

    /// The round of before the restart, or after it a new one.
    fn begin(&mut self, store: &Store) -> Result<Walk, StoreError> {
        let kept = store.records().get(TABLE, KEY)?;
        let kept = kept.as_deref().and_then(read);
        if let Some((_, ended_s, _)) = kept {
            self.ended_s = self.ended_s.or(ended_s);
        }
        if let Some((began_s, _, place)) = kept.filter(|_| !self.is_hurried) {
            let walk = Walk::resume(store, place)?;
            if !walk.progress().is_done {
                self.began_s = began_s;
                return Ok(walk);
            }
        }
        self.began_s = now_s();
        Walk::new(store)
    }

    fn save(&self, store: &Store, walk: &Walk) -> Result<(), StoreError> {
        let value = Writer::new().u64(self.began_s).u64(self.ended_s.unwrap_or(0)).bytes(&walk.place()).finish();
        Ok(store.records().put(TABLE, KEY, &value)?)
    }

    pub(super) fn report(&self) -> Scrub {
        let days = if self.most == 0 { 0 } else { self.days };
        let progress = self.walk.as_ref().map(Walk::progress).unwrap_or_default();
        Scrub {
            days,
            bytes_per_s: self.rate,
            items: progress.items,
            items_total: progress.items_total,
            bytes: progress.bytes,
            bytes_total: progress.bytes_total,
            corrupt: progress.corrupt,
            began_s: self.began_s,
            last_round_s: self.ended_s,
        }
    }
}

type Kept<'a> = (u64, Option<u64>, &'a [u8]);

fn read(bytes: &[u8]) -> Option<Kept<'_>> {
    let mut r = Reader::new(bytes);
    let (began_s, ended_s) = (r.u64("began").ok()?, r.u64("ended").ok()?);
    Some((began_s, Some(ended_s).filter(|ended_s| *ended_s > 0), bytes.get(16..)?))
}

#[cfg(test)]
mod tests {
    use storage::store::Config;

    use super::*;

    #[test]
    fn a_round_takes_three_quarters_of_its_days_if_the_disk_may_be_read_so_fast() {
        assert_eq!(pace(20 << 30, 14, 5 << 20), 23_673);
        assert_eq!((pace(0, 14, 5 << 20), pace(u64::MAX, 1, 5 << 20), pace(1 << 40, 1, 1_000)), (1, 5 << 20, 1_000));
    }

    #[tokio::test]
    async fn a_round_goes_on_after_a_restart_and_one_that_is_asked_for_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Config::default()).unwrap();
        for number in 0..30_u8 {
            store.put(&[number; 10_000]).unwrap();
        }
        let mut first = Scrubbing::new(14, 100_000);
        let mut walk = first.begin(&store).unwrap();
        walk.step(&store, 45_000).unwrap();
        first.save(&store, &walk).unwrap();
        let mut second = Scrubbing::new(14, 100_000);
        assert_eq!((second.begin(&store).unwrap().progress().bytes, second.began_s), (40_000, first.began_s), "the half-read one anew");
        second.hurry();
        assert_eq!(second.begin(&store).unwrap().progress().bytes, 0);
        second.hurry();
        let mut rounds = 0;
        while second.ended_s.is_none() {
            second.counted -= Duration::from_secs(1);
            assert!(second.try_step(&store).await.unwrap().is_empty());
            rounds += 1;
            assert!(rounds < 20);
        }
        assert!(rounds >= 3, "300,000 bytes at 100,000 a second: {rounds}");
        assert!((second.report().items, second.is_hurried) == (30, false) && second.report().last_round_s.is_some());
        let mut third = Scrubbing::new(14, 100_000);
        assert_eq!(third.begin(&store).unwrap().progress().bytes, 0, "the round was done");
        assert_eq!(third.ended_s, second.ended_s);
    }
}
