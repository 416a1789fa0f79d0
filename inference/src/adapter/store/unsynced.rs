//! What has its name and is not durable yet.
//!
//! It is made durable in its order, on a thread of its own: a disk takes 2 to 30 ms for that, and neither an import nor the request behind it waits for
//! it. Whoever writes names waits ([`Unsynced::settle`]), so that after a power cut no name leads to what the disk had not taken.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

/// Files that wait, each held open: a whole round of imports and fetches on a slow disk. Who brings one more makes it durable itself.
const WAITING_MAX: usize = 16;

/// The line of them.
#[derive(Debug)]
pub(super) struct Unsynced<T> {
    line: Mutex<Line<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    /// How many ever came, and how many of those are through.
    came: u64,
    done: u64,
    is_closed: bool,
}

impl<T> Unsynced<T> {
    pub(super) fn new() -> Self {
        Self { line: Mutex::new(Line { waiting: VecDeque::new(), came: 0, done: 0, is_closed: false }), changed: Condvar::new() }
    }

    fn line(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().expect("nothing panics while it is held")
    }

    /// Puts one into the line.
    ///
    /// # Errors
    /// Gives it back if there is no room or nobody takes it any more.
    pub(super) fn push(&self, one: T) -> Result<(), T> {
        let mut line = self.line();
        if line.is_closed || line.waiting.len() == WAITING_MAX {
            return Err(one);
        }
        line.waiting.push_back(one);
        line.came += 1;
        drop(line);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes one after the other until the line is closed and empty.
    pub(super) fn take_until_closed(&self, mut sync: impl FnMut(T)) {
        loop {
            let mut line = self.line();
            while line.waiting.is_empty() && !line.is_closed {
                line = self.changed.wait(line).expect("nothing panics while it is held");
            }
            let Some(one) = line.waiting.pop_front() else { return };
            drop(line);
            sync(one);
            self.line().done += 1;
            self.changed.notify_all();
        }
    }

    /// Waits until all that came so far are through.
    pub(super) fn settle(&self) {
        let mut line = self.line();
        let came = line.came;
        while line.done < came {
            line = self.changed.wait(line).expect("nothing panics while it is held");
        }
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        self.line().is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_writes_names_waits_for_all_that_came_before() {
        let (line, order) = (Unsynced::new(), Mutex::new(Vec::new()));
        let note = |what: &str| order.lock().unwrap().push(what.to_owned());
        std::thread::scope(|scope| {
            let (allow, allowed) = channel::<()>();
            scope.spawn(|| {
                line.take_until_closed(move |one: u32| {
                    allowed.recv().unwrap();
                    note(&format!("synced {one}"));
                });
            });
            line.push(1).unwrap();
            line.push(2).unwrap();
            let named = scope.spawn(|| {
                line.settle();
                note("named");
            });
            allow.send(()).unwrap();
            allow.send(()).unwrap();
            named.join().unwrap();
            line.settle();
            line.close();
            assert_eq!(line.push(3), Err(3), "nobody takes it any more");
        });
        assert_eq!(order.into_inner().unwrap(), ["synced 1", "synced 2", "named"]);
    }

    #[test]
    fn what_waits_when_it_closes_is_taken_and_one_too_many_is_given_back() {
        let line = Unsynced::new();
        for one in 0..WAITING_MAX {
            line.push(one).unwrap();
        }
        assert_eq!(line.push(99), Err(99));
        line.close();
        let mut taken = Vec::new();
        line.take_until_closed(|one| taken.push(one));
        assert_eq!(taken, (0..WAITING_MAX).collect::<Vec<_>>());
    }
}
