//! Threads for the parts of a step: they wake within microseconds, and nobody waits for one that was put aside.
//!
//! A step of decoding has about 150 parallel parts of 5 to 50 microseconds, so waking by the system (3 to 10 us) for each
//! would cost a third of it, and spinning without a limit loses everything as soon as a neighbour wants the core: 218 tokens
//! a second became 3 for an engine with barriers that spin. Hence: workers look for work for at most [`SPINS`] pauses, then
//! sleep. Work is cut into many small tasks, claimed one by one from a counter. Who calls works too, and can finish everything alone; it waits
//! only for tasks that a worker has claimed, never for a worker that has claimed nothing.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

/// Pauses before a thread without work sleeps: about 5 us where a pause takes 15 to 40 ns, and never a slice of the system's
/// scheduler (3 ms).
pub const SPINS: u32 = 200;

/// Tasks of one call.
pub const TASKS_MAX: usize = 1 << 20;

type Task = dyn Fn(usize) + Sync;
type Panic = Box<dyn Any + Send>;

/// A fixed number of threads that work for whoever calls.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Tasks of the job in the upper half, the next unclaimed one in the lower. Who raises the lower half has claimed a task of the job
    /// that stands there at this moment, whatever it had seen before.
    claims: AtomicU64,
    /// The job. Written while every claimed task is done, read only with a claim in hand.
    task: UnsafeCell<Option<*const Task>>,
    /// Tasks that are not done.
    left: AtomicUsize,
    /// Whether the caller sleeps until `left` is 0, and who it is.
    waits: AtomicBool,
    caller: Mutex<Option<Thread>>,
    /// Whether somebody's job runs.
    busy: AtomicBool,
    /// Of each worker, whether it sleeps.
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    /// The first panic of a job.
    panic: Mutex<Option<Panic>>,
}

// SAFETY: `task` is written by the one caller that holds `busy`, when no task is claimed, and read by holders of a claim.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `task` is only followed with a claim in hand, while its caller waits.
unsafe impl Send for Shared {}

impl Pool {
    /// `threads` in all: whoever calls is one of them.
    ///
    /// # Panics
    /// If the system gives no thread.
    #[must_use]
    pub fn new(threads: NonZeroUsize) -> Self {
        let workers = threads.get() - 1;
        let shared = Arc::new(Shared {
            claims: AtomicU64::new(0),
            task: UnsafeCell::new(None),
            left: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
            caller: Mutex::new(None),
            busy: AtomicBool::new(false),
            asleep: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let start = |worker: usize| {
            let shared = Arc::clone(&shared);
            let work = move || shared.work(worker);
            thread::Builder::new().name(format!("compute-{worker}")).spawn(work).expect("the system has a thread for us")
        };
        let workers = (0..workers).map(start).collect();
        Self { shared, workers }
    }

    /// Threads, whoever calls among them.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)` to `task(tasks - 1)`, each once, in any order, on any of the threads; returns when all are done. What the tasks wrote is then
    /// seen by the caller. From inside a task, or while another thread's job runs, everything runs on the caller.
    ///
    /// # Panics
    /// With the first panic of a task, when all others are done; if there are more than [`TASKS_MAX`].
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        assert!(tasks <= TASKS_MAX, "{tasks} tasks");
        if tasks < 2 || self.workers.is_empty() || self.shared.busy.swap(true, Ordering::Acquire) {
            (0..tasks).for_each(task);
            return;
        }
        self.lead(tasks, task);
        let panic = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// The caller's side of a job; `busy` is held. No panic leaves it, so the task outlives every claim.
    fn lead(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime is taken away. Whoever follows the pointer holds a claim of this job, and this function returns
        // only when every task is done.
        let pointer: *const Task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &Task>(task) };
        // SAFETY: no task is claimed or unclaimed, so nobody else looks at it; `busy` keeps other callers away.
        unsafe { *shared.task.get() = Some(pointer) };
        shared.left.store(tasks, Ordering::Relaxed);
        shared.claims.store((tasks as u64) << 32, Ordering::SeqCst);
        self.wake(tasks - 1);
        while shared.help() {}
        for _ in 0..SPINS {
            if shared.left.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        *lock(&shared.caller) = Some(thread::current());
        shared.waits.store(true, Ordering::SeqCst);
        while shared.left.load(Ordering::SeqCst) != 0 {
            thread::park();
        }
        shared.waits.store(false, Ordering::Relaxed);
    }

    /// Wakes up to `most` sleeping workers.
    fn wake(&self, most: usize) {
        let mut woken = 0;
        for (asleep, worker) in self.shared.asleep.iter().zip(&self.workers) {
            if woken < most && asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
                woken += 1;
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its tasks, so it has none of its own to hand on.
            let _ended = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Shared {
    /// A worker's life.
    fn work(&self, worker: usize) {
        while !self.stop.load(Ordering::SeqCst) {
            if self.help() {
                continue;
            }
            if (0..SPINS).any(|_| {
                std::hint::spin_loop();
                self.has_work()
            }) {
                continue;
            }
            self.asleep[worker].store(true, Ordering::SeqCst);
            // Looked at once more after it is known that this one sleeps: a job from before that wakes nobody.
            while self.asleep[worker].load(Ordering::SeqCst) && !self.has_work() && !self.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            self.asleep[worker].store(false, Ordering::SeqCst);
        }
    }

    fn has_work(&self) -> bool {
        unclaimed(self.claims.load(Ordering::SeqCst)).is_some()
    }

    /// Claims and runs one task; false if none was unclaimed.
    fn help(&self) -> bool {
        let mut claims = self.claims.load(Ordering::Acquire);
        let at = loop {
            let Some(at) = unclaimed(claims) else { return false };
            match self.claims.compare_exchange_weak(claims, claims + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break at,
                Err(now) => claims = now,
            }
        };
        // SAFETY: a task of this job is claimed and not done, so the caller still waits, the pointer is its own and what it points to lives.
        let task = unsafe { (*self.task.get()).map(|task| &*task) }.expect("a job with tasks has one");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(at))) {
            lock(&self.panic).get_or_insert(panic);
        }
        // The task may not be touched from here on.
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1
            && self.waits.load(Ordering::SeqCst)
            && let Some(caller) = &*lock(&self.caller)
        {
            caller.unpark();
        }
        true
    }
}

/// The next task that nobody has claimed.
fn unclaimed(claims: u64) -> Option<usize> {
    let (tasks, next) = (claims >> 32, claims & 0xffff_ffff);
    (next < tasks).then(|| usize::try_from(next).expect("below TASKS_MAX"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap())
    }

    #[test]
    fn every_task_runs_once_in_many_jobs_of_every_size() {
        let pool = pool(3);
        for round in 0..20_000usize {
            let counts: [AtomicUsize; 17] = std::array::from_fn(|_| AtomicUsize::new(0));
            let tasks = round % 18;
            pool.run(tasks, &|task| {
                counts[task].fetch_add(1, Ordering::Relaxed);
            });
            for (at, count) in counts.iter().enumerate() {
                assert_eq!(count.load(Ordering::Relaxed), usize::from(at < tasks), "task {at} of {tasks}, round {round}");
            }
        }
    }

    #[test]
    fn sleeping_workers_wake_for_a_job() {
        let pool = pool(2);
        for _ in 0..50 {
            // Until the worker sleeps; it does so by itself after its spins.
            while !pool.shared.asleep[0].load(Ordering::SeqCst) {
                thread::yield_now();
            }
            // Two tasks that each wait for the other: they end only if two threads run them.
            let met = AtomicUsize::new(0);
            pool.run(2, &|_| {
                met.fetch_add(1, Ordering::SeqCst);
                while met.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn the_caller_finishes_alone_while_the_worker_is_held_elsewhere() {
        let pool = pool(2);
        let (is_held, release) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            // Another caller's job holds the worker and that caller, each in one task.
            scope.spawn(|| {
                pool.run(2, &|_| {
                    is_held.store(true, Ordering::SeqCst);
                    while !release.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                });
            });
            while !is_held.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let done = AtomicUsize::new(0);
            pool.run(100, &|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.load(Ordering::Relaxed), 100);
            release.store(true, Ordering::SeqCst);
        });
    }

    #[test]
    fn a_job_from_inside_a_task_runs_where_it_is() {
        let (pool, done) = (pool(2), AtomicUsize::new(0));
        pool.run(4, &|_| {
            pool.run(3, &|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(done.load(Ordering::Relaxed), 12);
    }

    #[test]
    fn a_panic_reaches_the_caller_after_all_other_tasks_and_the_pool_goes_on() {
        let (pool, done) = (pool(2), AtomicUsize::new(0));
        let run = || {
            pool.run(50, &|task| {
                assert!(task != 7, "task seven");
                done.fetch_add(1, Ordering::Relaxed);
            });
        };
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"task seven"));
        assert_eq!(done.load(Ordering::Relaxed), 49);
        pool.run(2, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 51);
    }
}
