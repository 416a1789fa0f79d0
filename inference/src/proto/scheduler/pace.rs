//! How many rows a step may have, from how long the last ones took; and how soon there is room again.

use std::time::Duration;

use crate::step::ROWS_MAX;

/// How long a step should take: half of the 50 ms in which a cancelled answer must stop, because one step may be twice as slow as those
/// before it (a longer context, a neighbour on the core).
pub const STEP_AIM: Duration = Duration::from_millis(25);
/// A refused client is never told to come back sooner, nor later than [`RETRY_MAX`].
pub const RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`RETRY_MIN`].
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// Rows of the first step: at 2,000 rows a second, 16 ms.
const ROWS_FIRST: u32 = 32;

/// The measurements.
#[derive(Debug)]
pub struct Pace {
    rows: u32,
    /// Rows a second, an average that forgets a step's weight by an eighth each step; 0 before the first.
    per_second: u64,
}

impl Default for Pace {
    /// Before any step.
    fn default() -> Self {
        Self { rows: ROWS_FIRST, per_second: 0 }
    }
}

impl Pace {
    /// Rows of the next step.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Takes in a step of `rows` rows.
    ///
    /// Too long: the rows that would have taken [`STEP_AIM`], but at least half of what was allowed: one slow step among quick ones is
    /// rather the neighbour's doing. Short and full: a quarter more.
    pub fn stepped(&mut self, rows: u32, took: Duration) {
        if rows == 0 {
            return;
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let aim = u64::try_from(STEP_AIM.as_micros()).unwrap_or(u64::MAX);
        if micros > aim {
            let fitting = u32::try_from(u64::from(rows) * aim / micros).unwrap_or(rows);
            self.rows = fitting.max(self.rows / 2).clamp(1, self.rows);
        } else if rows >= self.rows && micros < aim - aim / 4 {
            self.rows = (self.rows + self.rows / 4 + 1).min(u32::try_from(ROWS_MAX).unwrap_or(u32::MAX));
        }
        let rate = u64::from(rows) * 1_000_000 / micros;
        self.per_second = if self.per_second == 0 { rate } else { (self.per_second * 7 + rate) / 8 };
    }

    /// In what time one of `jobs` jobs ends that need so many rows together.
    #[must_use]
    pub fn wait(&self, rows: u64, jobs: usize) -> Duration {
        let per_second = self.per_second.max(1).saturating_mul(u64::try_from(jobs).unwrap_or(u64::MAX).max(1));
        Duration::from_millis(rows.saturating_mul(1_000) / per_second).clamp(RETRY_MIN, RETRY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of a machine with a fixed cost for a step and for a row, always full.
    fn settle(pace: &mut Pace, step_us: u64, row_us: u64, steps: usize) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..steps {
            let rows = pace.rows();
            took = Duration::from_micros(step_us + row_us * u64::from(rows));
            pace.stepped(rows, took);
        }
        took
    }

    #[test]
    fn full_steps_settle_below_the_aim_on_quick_and_slow_machines() {
        for (step_us, row_us, rows) in [(3_000, 50, ROWS_MAX), (3_000, 500, 30), (10_000, 5_000, 2), (2_000, 20_000, 1)] {
            let mut pace = Pace::default();
            let took = settle(&mut pace, step_us, row_us, 60);
            assert!(took <= STEP_AIM * 5 / 4, "{step_us} {row_us} {took:?}");
            assert!(usize::try_from(pace.rows()).unwrap() >= rows, "{} rows", pace.rows());
        }
    }

    #[test]
    fn one_slow_step_halves_at_most_and_is_made_up_for() {
        let mut pace = Pace::default();
        settle(&mut pace, 1_000, 80, 60);
        let before = pace.rows();
        pace.stepped(1, Duration::from_secs(3));
        assert_eq!(pace.rows(), before / 2);
        settle(&mut pace, 1_000, 80, 8);
        assert!(pace.rows() >= before * 9 / 10, "{} after {before}", pace.rows());
    }

    #[test]
    fn small_steps_say_nothing_about_large_ones() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.stepped(1, Duration::from_millis(4));
        }
        assert_eq!(pace.rows(), ROWS_FIRST);
    }

    #[test]
    fn a_wait_is_the_work_over_the_pace_within_its_bounds() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(1_000_000, 1), RETRY_MAX, "nothing measured yet");
        pace.stepped(100, Duration::from_millis(100));
        assert_eq!(pace.wait(8_000, 4), Duration::from_secs(2));
        assert_eq!(pace.wait(1, 4), RETRY_MIN);
        assert_eq!(pace.wait(u64::MAX, 1), RETRY_MAX);
    }
}
