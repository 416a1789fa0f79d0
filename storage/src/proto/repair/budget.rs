//! A token bucket in bytes: what repair may take from a link over time.
//!
//! Work is let in whole and its cost taken out at once, below zero if need be, and what comes next waits until the debt is paid. So one piece
//! dearer than the bucket still runs, and over any time t at most burst + rate t + one piece is let in.

use std::time::Duration;

use types::time::Time;

/// Bytes that may be spent now, filling at a steady rate.
#[derive(Debug, Clone)]
pub struct Budget {
    rate: u64,
    burst: u64,
    /// Bytes times 1,000,000, so that filling loses nothing to rounding. Below zero: spent ahead.
    level: i128,
    filled: Time,
}

/// Microbytes in a byte.
const MICRO: i128 = 1_000_000;

impl Budget {
    /// A full bucket: `rate` bytes per second, `burst` bytes at most.
    pub fn new(rate: u64, burst: u64, now: Time) -> Self {
        Self { rate, burst, level: i128::from(burst) * MICRO, filled: now }
    }

    /// Takes `cost` bytes if none are owed; false: not yet.
    pub fn spend(&mut self, now: Time, cost: u64) -> bool {
        self.fill(now);
        // A cheap piece waits for its own cost, a dear one for a full bucket.
        let needed = i128::from(cost.min(self.burst)) * MICRO;
        let may = self.level >= needed;
        if may {
            self.level -= i128::from(cost) * MICRO;
        }
        may
    }

    /// How long until `cost` bytes may be spent; nothing: never, the rate is zero.
    pub fn wait(&self, now: Time, cost: u64) -> Option<Duration> {
        let mut later = self.clone();
        later.fill(now);
        let lack = i128::from(cost.min(self.burst)) * MICRO - later.level;
        let Ok(lack @ 1..) = u128::try_from(lack) else { return Some(Duration::ZERO) };
        (self.rate > 0).then(|| Duration::from_micros(u64::try_from(lack.div_ceil(self.rate.into())).unwrap_or(u64::MAX)))
    }

    fn fill(&mut self, now: Time) {
        // A microsecond at one byte per second is one microbyte.
        let gained = i128::try_from(now.since(self.filled).as_micros()).unwrap_or(i128::MAX).saturating_mul(self.rate.into());
        self.level = self.level.saturating_add(gained).min(i128::from(self.burst) * MICRO);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_piece_dearer_than_the_bucket_runs_and_the_next_waits_for_the_debt() {
        let mut budget = Budget::new(10, 100, Time(0));
        assert!(budget.spend(Time(0), 250) && !budget.spend(Time(0), 1));
        assert_eq!(budget.wait(Time(0), 1), Some(Duration::from_micros(15_100_000)), "150 owed and one more, at 10 per second");
        assert!(!budget.spend(Time(15_099_999), 1) && budget.spend(Time(15_100_000), 1));
        assert_eq!(Budget::new(0, 0, Time(0)).wait(Time(0), 1), Some(Duration::ZERO));
        let mut dry = Budget::new(0, 5, Time(0));
        assert!(dry.spend(Time(0), 5) && dry.wait(Time(9), 1).is_none());
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_lets_in_more_than_burst_rate_and_one_piece(
            rate in 0..1_000_u64, burst in 0..5_000_u64, asks in proptest::collection::vec((0..3_000_000_u64, 0..3_000_u64), 1..60),
        ) {
            let (mut budget, mut now, mut let_in) = (Budget::new(rate, burst, Time(0)), Time(0), Vec::<(Time, u64)>::new());
            for (step, cost) in asks {
                now = Time(now.0 + step);
                let wait = budget.wait(now, cost);
                let may = budget.spend(now, cost);
                prop_assert_eq!(may, wait == Some(Duration::ZERO));
                if may { let_in.push((now, cost)); }
            }
            for first in 0..let_in.len() {
                let (mut bytes, mut most) = (0_u128, 0);
                for (at, cost) in &let_in[first..] {
                    bytes += u128::from(*cost);
                    most = most.max(*cost);
                    let stretch = u128::from(at.0 - let_in[first].0.0);
                    let limit = u128::from(burst) + stretch * u128::from(rate) / 1_000_000 + u128::from(most) + 1;
                    prop_assert!(bytes <= limit, "{} bytes in {} us, at most {}", bytes, stretch, limit);
                }
            }
        }
    }
}
