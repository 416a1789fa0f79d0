//! How often somebody may do something: a token bucket, without a clock of its own.

use std::time::Duration;

use types::time::Time;

/// What a bucket holds at most and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Times at once after a long rest.
    pub burst: u32,
    /// Time for one more.
    pub pause: Duration,
}

/// One who is limited. Full at the beginning.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    left: u32,
    since: Time,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn full(rate: Rate, now: Time) -> Self {
        Self { left: rate.burst, since: now }
    }

    /// Takes one; false if there is none.
    pub fn take(&mut self, rate: Rate, now: Time) -> bool {
        let filled = now.since(self.since).as_micros().checked_div(rate.pause.as_micros()).unwrap_or(u128::MAX);
        let filled = u32::try_from(filled).unwrap_or(u32::MAX);
        if filled >= rate.burst.saturating_sub(self.left) {
            (self.left, self.since) = (rate.burst, now);
        } else {
            self.left += filled;
            // What is begun of the next one is not lost.
            self.since = self.since.after(rate.pause.saturating_mul(filled));
        }
        let has_one = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, pause: Duration::from_micros(100) };

    #[test]
    fn a_burst_passes_then_one_per_pause() {
        let mut bucket = Bucket::full(RATE, Time(0));
        let passed: Vec<u64> = (0..1_000).filter(|now| bucket.take(RATE, Time(*now))).collect();
        assert_eq!(passed, [0, 1, 2, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    }

    #[test]
    fn a_rest_fills_it_to_the_burst_and_no_further() {
        let mut bucket = Bucket::full(RATE, Time(0));
        while bucket.take(RATE, Time(0)) {}
        let passed = (0..10).filter(|_| bucket.take(RATE, Time(u64::MAX))).count();
        assert_eq!(passed, 3);
    }
}
