//! Shares and probabilities as two counts: nothing is lost, and whoever reads a figure sees what it was counted over.

use std::{cmp::Ordering, fmt};

use serde::Serialize;

/// So many of so many. Two are equal where their values are: 1 of 2 and 2 of 4.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Ratio {
    /// How many.
    pub count: u64,
    /// Of how many.
    pub of: u64,
}

impl Ratio {
    /// `count` of `of`.
    pub const fn new(count: u64, of: u64) -> Self {
        Self { count, of }
    }

    /// The share in hundredths of a percent, to the nearest; nothing of nothing has no share.
    pub fn basis_points(self) -> Option<u64> {
        let doubled = u128::from(self.of) * 2;
        let points = (u128::from(self.count) * 20_000 + u128::from(self.of)).checked_div(doubled)?;
        u64::try_from(points).ok()
    }

    /// This value beside another; of nothing there is none.
    fn compared(self, other: Self) -> Option<Ordering> {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        (self.of > 0 && other.of > 0).then(|| product(self.count, other.of).cmp(&product(other.count, self.of)))
    }
}

impl PartialEq for Ratio {
    fn eq(&self, other: &Self) -> bool {
        self.compared(*other).map_or((self.count, self.of) == (other.count, other.of), Ordering::is_eq)
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.compared(*other)
    }
}

impl fmt::Display for Ratio {
    /// Percent with its counts: `12.50 % (1 of 8)`; `none (0 of 0)` where there is nothing to count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, of } = self;
        match self.basis_points() {
            Some(points) => write!(f, "{}.{:02} % ({count} of {of})", points / 100, points % 100),
            None => write!(f, "none ({count} of {of})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_to_the_nearest_and_stands_beside_its_counts() {
        for (count, of, text) in [
            (0, 0, "none (0 of 0)"),
            (0, 7, "0.00 % (0 of 7)"),
            (1, 8, "12.50 % (1 of 8)"),
            (2, 3, "66.67 % (2 of 3)"),
            (1, 3, "33.33 % (1 of 3)"),
            (1, 20_000, "0.01 % (1 of 20000)"),
            (1, 20_001, "0.00 % (1 of 20001)"),
            (u64::MAX, u64::MAX, "100.00 % (18446744073709551615 of 18446744073709551615)"),
        ] {
            assert_eq!(Ratio::new(count, of).to_string(), text);
        }
    }

    #[test]
    fn equal_shares_are_equal_whatever_they_were_counted_over() {
        assert_eq!(Ratio::new(1, 2), Ratio::new(2, 4));
        assert!(Ratio::new(1, 3) < Ratio::new(1, 2) && Ratio::new(u64::MAX - 1, u64::MAX) < Ratio::new(1, 1));
        assert_ne!(Ratio::new(0, 0), Ratio::new(0, 1));
        assert_eq!(Ratio::new(0, 0).partial_cmp(&Ratio::new(1, 2)), None);
    }
}
