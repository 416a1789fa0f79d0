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
    is_kept: bool,
}

impl HeldName {
    /// One that [`Once::begin`] has just given out.
    pub(super) const fn new(books: Arc<Books>, name: Name) -> Self {
        Self { books, name, record: Vec::new(), is_kept: false }
    }

    /// The key.
    pub(super) const fn name(&self) -> Name {
        self.name
    }
}

impl Drop for HeldName {
    fn drop(&mut self) {
        if !self.is_kept {
            self.books.once().forget(self.name);
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
        if let Some(once) = &mut self.once
            && once.record.len() <= RECORD_MAX
        {
            once.record.extend_from_slice(bytes);
        }
    }

    /// What was recorded, unless it grew too long to keep.
    pub(super) fn recorded(&mut self) -> Option<Vec<u8>> {
        let record = std::mem::take(&mut self.once.as_mut()?.record);
        (record.len() <= RECORD_MAX).then_some(record)
    }

    /// Keeps what was answered.
    pub(super) fn keep(&mut self, kept: Kept) {
        if let Some(once) = &mut self.once {
            once.books.once().keep(once.name, kept);
            once.is_kept = true;
        }
    }
}
