//! How often something was asked for lately: a count whose past weighs half as much every [`HALF_LIFE`].
//!
//! Instead of letting every count decay, a later use weighs more: `2^(time / HALF_LIFE)`. So a count changes only when something is
//! used, and two counts stand in one order for ever: a sorted set of them stays sorted, and the least popular is found without a look
//! at the others. A count is a floating number of 40 bits; between half-lives the power is taken along a straight line, at most 6 %
//! above the curve.

use std::time::Duration;

use types::time::Time;

/// In this time a use loses half its weight: long enough to outlive a conversation, short enough to follow the hour.
pub const HALF_LIFE: Duration = Duration::from_secs(600);

/// 1 as a mantissa.
const ONE: u64 = 1 << 40;

/// The count. Compared, the smaller is the less popular, at whatever time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Popularity {
    exponent: u64,
    /// Below twice [`ONE`], and not below it but where nothing was counted.
    mantissa: u64,
    last: Time,
}

impl Popularity {
    /// What one use weighs when it happens.
    pub const USE: u64 = 1 << 20;

    /// Counts a use.
    pub fn count(&mut self, now: Time) {
        let (exponent, mantissa) = weight(now);
        let most = self.exponent.max(exponent);
        let sum = shifted(self.mantissa, most - self.exponent) + shifted(mantissa, most - exponent);
        let carry = u64::from(sum >= 2 * ONE);
        (self.exponent, self.mantissa) = (most + carry, sum >> carry);
        self.last = self.last.max(now);
    }

    /// The weight at `now`, in parts of a use that happens then.
    #[must_use]
    pub fn at(&self, now: Time) -> u64 {
        let (exponent, mantissa) = weight(now.max(self.last));
        let whole = u128::from(self.mantissa) * u128::from(Self::USE);
        // Divided last, so that counts keep their order to the last part.
        match self.exponent.checked_sub(exponent) {
            Some(more @ 0..=60) => u64::try_from((whole << more) / u128::from(mantissa)).unwrap_or(u64::MAX),
            Some(_) => u64::MAX,
            None => {
                let share = u64::try_from(whole / u128::from(mantissa)).expect("at most twice a use");
                shifted(share, exponent - self.exponent)
            }
        }
    }
}

/// What a use at this time weighs.
fn weight(now: Time) -> (u64, u64) {
    let half = u64::try_from(HALF_LIFE.as_micros()).expect("ten minutes");
    let part = u128::from(ONE) * u128::from(now.0 % half) / u128::from(half);
    (now.0 / half, ONE + u64::try_from(part).expect("less than one"))
}

fn shifted(mantissa: u64, by: u64) -> u64 {
    u32::try_from(by).ok().and_then(|by| mantissa.checked_shr(by)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_use_weighs_half_after_each_half_life_and_nothing_in_the_end() {
        let mut popularity = Popularity::default();
        popularity.count(Time(5));
        let after = |halves: u32| popularity.at(Time(5).after(HALF_LIFE * halves / 2));
        assert_eq!((after(0), after(2), after(4)), (1 << 20, 1 << 19, 1 << 18));
        let between = 0.5f64.sqrt() * f64::from(1 << 20);
        let got = f64::from(u32::try_from(after(1)).unwrap());
        assert!(got <= between && got > between * 0.94, "{got} beside {between}");
        assert_eq!(after(2_000), 0);
        assert_eq!(popularity.at(Time(0)), 1 << 20, "a clock that goes back changes nothing");
        assert_eq!(Popularity::default().at(Time(7)), 0);
    }

    #[test]
    fn an_adapter_used_often_an_hour_ago_counts_less_than_one_used_now() {
        let (mut old, mut new) = (Popularity::default(), Popularity::default());
        for _ in 0..50 {
            old.count(Time(0));
        }
        let now = Time(0).after(HALF_LIFE * 6);
        new.count(now);
        assert!(old.at(now) < new.at(now) && old < new);
    }

    #[test]
    fn a_million_uses_at_once_are_counted() {
        let mut popularity = Popularity::default();
        let now = Time(0).after(HALF_LIFE * 1_000);
        (0..1_000_000).for_each(|_| popularity.count(now));
        let uses = popularity.at(now) / Popularity::USE;
        assert!((999_990..=1_000_000).contains(&uses), "{uses}");
        assert_eq!(popularity.at(now.after(HALF_LIFE * 3)), popularity.at(now) / 8);
    }

    proptest! {
        /// The order found at any later time is the order of the counts themselves.
        #[test]
        fn the_order_never_changes(
            uses in prop::collection::vec((any::<bool>(), 0u64..4_000_000_000), 1..60),
            later in 0u64..20_000_000_000,
        ) {
            let (mut first, mut second, mut now) = (Popularity::default(), Popularity::default(), 0);
            for (is_first, wait) in uses {
                now += wait;
                if is_first { first.count(Time(now)) } else { second.count(Time(now)) }
            }
            let (at, then) = (Time(now), Time(now + later));
            for time in [at, then] {
                let (a, b) = (first.at(time), second.at(time));
                prop_assert!((a <= b || first > second) && (b <= a || second > first), "{a} {b} {first:?} {second:?}");
            }
        }
    }
}
