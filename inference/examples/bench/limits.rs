//! What the machine can do at most, with as many threads as the engine has, and a neighbour that takes a core of it.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use inference::backend::cpu::kernel::limits;
use inference::backend::cpu::pool::Pool;

/// More than the last cache of any machine this runs on.
const MEMORY_BYTES: usize = 256 << 20;
/// The best of so many times counts: a limit is what can be had.
const TIMES: usize = 8;
/// Rounds of products at a time: some milliseconds.
const PRODUCTS: usize = 2_000;

/// Bytes read from memory, and products of two codes, a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) read: f64,
    pub(crate) products: f64,
}

impl Limits {
    /// Measures both, with so many threads.
    pub(crate) fn measure(threads: NonZeroUsize) -> Self {
        let (pool, memory) = (Pool::new(threads), vec![1u8; MEMORY_BYTES]);
        let each = memory.len() / threads;
        let read = best(&pool, &|thread| {
            black_box(limits::read(&memory[thread * each..][..each]));
        });
        let products = best(&pool, &|_| {
            black_box(limits::products(PRODUCTS));
        });
        let count = limits::products(1).0 as f64 * (PRODUCTS * threads.get()) as f64;
        Self { read: (each * threads.get()) as f64 / read, products: count / products }
    }

    /// Of two measurements the better: others on the machine take from it, nobody adds.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { read: self.read.max(other.read), products: self.products.max(other.products) }
    }
}

/// Seconds of the best time that every thread of the pool has done `work` once.
fn best(pool: &Pool, work: &(dyn Fn(usize) + Sync)) -> f64 {
    (0..TIMES).fold(f64::INFINITY, |least, _| {
        let begun = Instant::now();
        pool.run(pool.threads(), work);
        least.min(begun.elapsed().as_secs_f64())
    })
}

/// A thread that computes without end, until it is dropped.
#[derive(Debug)]
pub(crate) struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                black_box(limits::products(1));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a neighbour only multiplies");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_measurements_the_better_of_each_counts() {
        let (one, other) = (Limits { read: 1.0, products: 4.0 }, Limits { read: 2.0, products: 3.0 });
        let both = one.or(other);
        assert_eq!((both.read, both.products), (2.0, 4.0));
    }
}
