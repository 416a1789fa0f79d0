//! What an answer holds while it lasts: a place among those at once, its tokens of the key's minute, its idempotency key. Dropped, it gives them back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use types::time::Time;

use super::{
    idempotency::{Kept, Name, Once},
    limits::Meter,
    source::Usage,
};

/// Most bytes of a stream that are recorded under an idempotency key: 4,096 tokens with their envelopes and logarithms.
const RECORD_MAX: usize = 16 << 20;

/// The gateway's books.
#[derive(Debug)]
pub(super) struct Books {
    since: Instant,
    meters: Vec<Mutex<Meter>>,
    once: Mutex<Once>,
}

impl Books {
    /// One meter per key, in their order.
    pub(super) fn new(limits: impl Iterator<Item = super::limits::Limits>) -> Self {
        let meters = limits.map(|limits| Mutex::new(Meter::new(limits, Time(0)))).collect();
        Self { since: Instant::now(), meters, once: Mutex::default() }
    }

    /// Microseconds of this gateway's own clock.
    pub(super) fn now(&self) -> Time {
        Time(0).after(self.since.elapsed())
    }

    /// The meter of a key.
    pub(super) fn meter(&self, key: usize) -> MutexGuard<'_, Meter> {
        locked(&self.meters[key])
    }

    /// Idempotency keys.
    pub(super) fn once(&self) -> MutexGuard<'_, Once> {
        locked(&self.once)
    }
}

/// Books are changed by whole steps that do not panic: what another thread left is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An idempotency key that is held.
#[derive(Debug)]
pub(super) struct HeldName {
    books: Arc<Books>,
    name: Name,
    record: Vec<u8>,
    /// Whether it grew too long to keep, by itself or with all others under way.
    is_over: bool,
    is_kept: bool,
}

impl HeldName {
    /// One that [`Once::begin`] has just given out.
    pub(super) const fn new(books: Arc<Books>, name: Name) -> Self {
        Self { books, name, record: Vec::new(), is_over: false, is_kept: false }
    }

    /// The key.
    pub(super) const fn name(&self) -> Name {
        self.name
    }
}

impl Drop for HeldName {
    fn drop(&mut self) {
        let mut once = self.books.once();
        once.unrecord(self.record.len());
        if !self.is_kept {
            once.forget(self.name);
        }
    }
}

/// Tokens taken from a key's minute.
#[derive(Debug)]
pub(super) struct Taken {
    books: Arc<Books>,
    key: usize,
    taken: u32,
    used: u32,
}

impl Taken {
    /// Those that [`Meter::begin`] has just given out; `used` are read in any case.
    pub(super) const fn new(books: Arc<Books>, key: usize, taken: u32, used: u32) -> Self {
        Self { books, key, taken, used }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let now = self.books.now();
        self.books.meter(self.key).end(now, self.taken, self.used);
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) taken: Taken,
    pub(super) once: Option<HeldName>,
    pub(super) _place: OwnedSemaphorePermit,
}

impl Lease {
    /// A token was passed on.
    pub(super) fn token(&mut self) {
        self.taken.used = self.taken.used.saturating_add(1);
    }

    /// What was counted in the end.
    pub(super) fn used(&mut self, usage: Usage) {
        self.taken.used = usage.tokens_in.saturating_add(usage.tokens_out);
    }

    /// Notes what was sent, where it may be asked for again.
    pub(super) fn record(&mut self, bytes: &[u8]) {
        let Some(held) = self.once.as_mut().filter(|held| !held.is_over) else { return };
        let mut once = held.books.once();
        if held.record.len() + bytes.len() <= RECORD_MAX && once.record(bytes.len()) {
            held.record.extend_from_slice(bytes);
        } else {
            once.unrecord(held.record.len());
            (held.record, held.is_over) = (Vec::new(), true);
        }
    }

    /// What was recorded, unless it grew too long to keep.
    pub(super) fn recorded(&mut self) -> Option<Vec<u8>> {
        let held = self.once.as_mut().filter(|held| !held.is_over)?;
        let record = std::mem::take(&mut held.record);
        held.books.once().unrecord(record.len());
        Some(record)
    }

    /// Keeps what was answered.
    pub(super) fn keep(&mut self, kept: Kept) {
        if let Some(once) = &mut self.once {
            once.books.once().keep(once.name, kept);
            once.is_kept = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::{super::idempotency::BYTES_MAX, *};

    fn lease(books: &Arc<Books>, key: &str) -> Lease {
        let name = Name::new("user", key).unwrap();
        books.once().begin(Time(0), 0, name, [0; 32]).unwrap();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Lease { taken: Taken::new(Arc::clone(books), 0, 0, 0), once: Some(HeldName::new(Arc::clone(books), name)), _place: place }
    }

    #[tokio::test]
    async fn answers_under_way_record_no_more_together_than_may_be_kept() {
        let limits = super::super::limits::Limits { requests_per_minute: 10, tokens_per_minute: 10, running_max: 10 };
        let books = Arc::new(Books::new([limits].into_iter()));
        let most = BYTES_MAX / RECORD_MAX;
        let part = vec![b'a'; RECORD_MAX];
        let mut leases: Vec<Lease> = (0..=most).map(|number| lease(&books, &number.to_string())).collect();
        for lease in &mut leases {
            lease.record(&part);
        }
        let recorded = |lease: &Lease| lease.once.as_ref().map_or(0, |held| held.record.len());
        assert_eq!(leases.iter().map(recorded).sum::<usize>(), BYTES_MAX);
        let mut over = leases.pop().unwrap();
        assert_eq!(over.recorded(), None, "it is not kept, and never in part");
        leases.clear();
        over.record(b"a");
        assert_eq!(over.recorded(), None, "what was left out once does not come back");
        let mut next = lease(&books, "next");
        next.record(&part);
        assert_eq!(next.recorded().map(|record| record.len()), Some(RECORD_MAX), "who has ended gave its room back");
        next.record(b"a");
        drop(next);
        assert!((0..most).all(|_| books.once().record(RECORD_MAX)), "all of it is free again");
    }
}
