//! The closed form that the simulation stands beside: a chain over the fragments that are left.
//!
//! Each fragment is lost after an exponential life; from `due` left on repair runs, takes an exponential time and brings all back; below k the object is
//! gone. Mean time to loss, without any subtraction that would lose digits: from n the chain falls to `due` in sum of 1/(j rate) over j > due; there it is lost with
//! q = product of j rate / (j rate + repair) over k <= j <= due, else repaired, after times that are sums of positive terms; so the mean is
//! (fall + stay) / q. Real repair times are not exponential and losses not independent: the figure ranks designs, it promises nothing.

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
}
