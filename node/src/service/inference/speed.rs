//! How quick this node's own answers were of late: what it tells of itself, so that who chooses among nodes need not guess.
//!
//! Medians of the last [`KEPT`] answers: half of them would have to be odd before one odd answer shows. 1 KB in all, and 128 numbers sorted when
//! an ad is made.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Answers that count.
const KEPT: usize = 64;
/// An answer of fewer tokens behind its first says nothing of speed.
const TOKENS_MIN: u32 = 8;

/// What was measured.
#[derive(Debug, Default)]
pub struct Speed {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    first_ms: VecDeque<u32>,
    per_s: VecDeque<u16>,
}

/// Takes one in, and lets the oldest go where there is no room.
fn keep<T>(list: &mut VecDeque<T>, one: T) {
    if list.len() == KEPT {
        list.pop_front();
    }
    list.push_back(one);
}

/// The middle one; of two the larger.
fn median<T: Ord + Copy>(list: &VecDeque<T>) -> Option<T> {
    let mut sorted: Vec<T> = list.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

impl Speed {
    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        // Each change is one step that does not panic.
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A first token came so long after its question; never 0, which stands for nothing measured.
    pub fn first(&self, took: Duration) {
        let took = u32::try_from(took.as_millis()).unwrap_or(u32::MAX).max(1);
        self.with(|seen| keep(&mut seen.first_ms, took));
    }

    /// `tokens` came behind an answer's first one in `took`, in which nobody was waited for.
    pub fn rest(&self, tokens: u32, took: Duration) {
        if tokens < TOKENS_MIN {
            return;
        }
        let per_s = u128::from(tokens) * 1_000_000 / took.as_micros().max(1);
        self.with(|seen| keep(&mut seen.per_s, u16::try_from(per_s).unwrap_or(u16::MAX).max(1)));
    }

    /// Medians as an ad bears them: milliseconds to the first token, and tokens a second of one answer; 0 where none was measured.
    pub fn medians(&self) -> (u32, u16) {
        self.with(|seen| (median(&seen.first_ms).unwrap_or_default(), median(&seen.per_s).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_node_that_has_answered_nobody_says_that_it_does_not_know() {
        let speed = Speed::default();
        assert_eq!(speed.medians(), (0, 0));
        speed.rest(TOKENS_MIN - 1, SECOND);
        assert_eq!(speed.medians(), (0, 0), "seven tokens are no speed");
        speed.first(Duration::ZERO);
        speed.rest(u32::MAX, Duration::ZERO);
        assert_eq!(speed.medians(), (1, u16::MAX), "nothing measured is never told as quick");
    }

    #[test]
    fn one_odd_answer_changes_nothing_and_old_ones_are_forgotten() {
        let speed = Speed::default();
        for _ in 0..2 {
            speed.first(Duration::from_millis(40));
            speed.rest(200, SECOND);
        }
        speed.first(Duration::from_secs(50));
        speed.rest(10, 5 * SECOND);
        assert_eq!(speed.medians(), (40, 200));
        for _ in 0..1_000 {
            speed.first(Duration::from_millis(90));
            speed.rest(100, SECOND);
        }
        assert_eq!(speed.medians(), (90, 100));
        assert_eq!(speed.with(|seen| (seen.first_ms.len(), seen.per_s.len())), (KEPT, KEPT));
    }
}
