//! The closed form that the simulation stands beside: a chain over the fragments that are left.
//!
//! Each fragment is lost after an exponential life; from `due` left on repair runs, takes an exponential time and brings all back; below k the object is
//! gone. Mean time to loss, without any subtraction that would lose digits: from n the chain falls to `due` in sum of 1/(j rate) over j > due; there it is lost with
//! q = product of j rate / (j rate + repair) over k <= j <= due, else repaired, after times that are sums of positive terms; so the mean is
//! (fall + stay) / q. Real repair times are not exponential and losses not independent: the figure ranks designs, it promises nothing.

use super::as_f64;

/// Hours in a year.
const YEAR_H: f64 = 365.0 * 24.0;

/// An object and its circumstances.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    /// Fragments that suffice.
    pub data: u8,
    /// Fragments there are.
    pub total: u8,
    /// Repair runs when so many are left, or fewer.
    pub due: u8,
    /// Mean life of a fragment's holder, in hours.
    pub life_h: f64,
    /// Mean time from due to all, in hours.
    pub repair_h: f64,
}

impl Chain {
    /// Mean time from all fragments until all are back again, losses that are final left out, in hours.
    pub fn cycle_h(&self) -> f64 {
        self.fall_h() + self.repair_h
    }

    /// Repairs expected within `hours` of an object that begins with all fragments: what a renewal process has for hours well above one cycle, of which the
    /// falls spread as sums of exponential times do and the repairs as one.
    pub fn repairs(&self, hours: f64) -> f64 {
        let falls = (self.due + 1..=self.total).map(|left| (self.life_h / f64::from(left)).powi(2)).sum::<f64>();
        let (mean, variance) = (self.cycle_h(), falls + self.repair_h.powi(2));
        // A repair is counted when it ends, as a cycle does.
        (hours / mean + (variance - mean.powi(2)) / (2.0 * mean.powi(2))).max(0.0)
    }

    /// Chance that a repair ends when exactly so many fragments more than those that made it due were lost.
    pub fn deeper(&self, more: u8) -> f64 {
        self.at_least_deeper(more) - self.at_least_deeper(more + 1)
    }

    /// Chance that so many or more are lost before a repair ends.
    pub fn at_least_deeper(&self, more: u8) -> f64 {
        let fails = |left: u8| f64::from(left) / self.life_h;
        (self.due - more + 1..=self.due).map(|left| fails(left) / (fails(left) + 1.0 / self.repair_h)).product()
    }

    fn fall_h(&self) -> f64 {
        (self.due + 1..=self.total).map(|left| self.life_h / f64::from(left)).sum()
    }

    /// Mean time until the object is lost, in hours.
    pub fn mean_h(&self) -> f64 {
        let fails = |left: u8| f64::from(left) / self.life_h;
        let mends = 1.0 / self.repair_h;
        let fall = self.fall_h();
        let (mut reached, mut stay) = (1.0, 0.0);
        for left in (self.data..=self.due).rev() {
            let leaves = fails(left) + mends;
            stay += reached / leaves;
            reached *= fails(left) / leaves;
        }
        (fall + stay) / reached
    }

    /// Nines of the chance that the object is there after a year.
    pub fn nines(&self) -> f64 {
        -(-(-YEAR_H / self.mean_h()).exp_m1()).log10()
    }
}

/// Nines of the chance that an object can be read while each holder is off with this chance, independently.
pub fn read_nines(data: u8, total: u8, off: f64) -> f64 {
    // C(n, j) (1 - off)^j off^(n - j) for every j below k, each from the one before.
    let mut term = off.powi(total.into());
    let mut unreadable = term;
    for on in 1..data {
        term *= f64::from(total - on + 1) / f64::from(on) * (1.0 - off) / off;
        unreadable += term;
    }
    -unreadable.log10()
}

/// Chance that more than `spare` of an object's `total` fragments are lost when `dying` of `operators` die, each as likely as another. Nothing: fewer
/// operators are left than the fragments need.
pub fn below(total: u8, spare: u8, operators: u64, dying: u64) -> Option<f64> {
    let left = operators.checked_sub(dying).filter(|left| *left >= total.into())?;
    // Hypergeometric: none is lost, then each number from the one before.
    let share = |part: u64, whole: u64| as_f64(part) / as_f64(whole);
    let mut lost = (0..u64::from(total)).map(|i| share(left - i, operators - i)).product::<f64>();
    let mut at_most = lost;
    for x in 0..u64::from(spare) {
        lost *= share(dying.saturating_sub(x) * (u64::from(total) - x), (x + 1) * (left - u64::from(total) + x + 1));
        at_most += lost;
    }
    Some((1.0 - at_most).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_gives_the_published_table() {
        let table = [
            ((4, 12, 8), [2.5, 3.0, 5.1, 8.0, 8.6]),
            ((10, 20, 15), [1.6, 2.1, 4.4, 7.7, 8.4]),
            ((10, 30, 20), [3.9, 4.4, 8.4, 14.5, 15.2]),
            ((16, 48, 32), [4.7, 5.1, 10.7, 19.6, 20.3]),
            ((20, 60, 40), [5.0, 5.5, 11.8, 22.6, 23.3]),
            ((29, 80, 52), [4.5, 4.9, 11.4, 22.9, 23.7]),
        ];
        for ((data, total, due), nines) in table {
            let circumstances = [(30.0, 24.0), (90.0, 72.0), (90.0, 24.0), (90.0, 6.0), (365.0, 24.0)];
            for ((life_d, repair_h), expected) in circumstances.into_iter().zip(nines) {
                let got = Chain { data, total, due, life_h: life_d * 24.0, repair_h }.nines();
                // The table rounds to a tenth, from 20 on to a whole.
                assert!((got - expected).abs() < 0.35, "{data}/{total} at {due}, {life_d} d, {repair_h} h: {got}, expected {expected}");
            }
        }
    }

    #[test]
    fn reads_have_the_published_nines() {
        for ((data, total), off, expected) in
            [((16, 48), 0.2, 12.4), ((4, 12), 0.2, 4.2), ((16, 48), 1.0 / 3.0, 6.2), ((29, 80), 0.1, 32.0)]
        {
            let got = read_nines(data, total, off);
            assert!((got - expected).abs() < 0.5, "{data}/{total} with {off} off: {got}, expected {expected}");
        }
    }

    #[test]
    fn the_chance_to_fall_below_the_floor_is_that_of_counting_all_cases() {
        // Three fragments on five operators of which two die: of ten pairs three take two fragments, six one, one none.
        let close = |got: Option<f64>, expected: f64| assert!((got.unwrap() - expected).abs() < 1e-12, "{got:?}, expected {expected}");
        close(below(3, 0, 5, 2), 0.9);
        close(below(3, 1, 5, 2), 0.3);
        close(below(3, 2, 5, 2), 0.0);
        assert_eq!(below(3, 1, 5, 3), None);
        // A third of 150: 16 of 48 are lost on average, so about half of the objects lose more.
        assert!((0.3..0.5).contains(&below(48, 16, 150, 50).unwrap()));
    }

    #[test]
    fn what_is_lost_while_a_repair_is_awaited_sums_to_one() {
        let chain = Chain { data: 16, total: 48, due: 31, life_h: 2_160.0, repair_h: 4.5 };
        let sum = (0..15).map(|more| chain.deeper(more)).sum::<f64>();
        assert!((sum - 1.0).abs() < 1e-9 && (0.92..0.95).contains(&chain.deeper(0)), "{sum}");
        // 38 days to fall: in a year nine and a half cycles, of which the first begins whole.
        assert!((8.5..9.5).contains(&chain.repairs(8_760.0)), "{}", chain.repairs(8_760.0));
    }
}
