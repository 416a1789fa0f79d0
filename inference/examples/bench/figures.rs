//! What was measured, and how it becomes rows: medians, shares of what the machine can do, the loss beyond the byte tax.

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::PROFILES;
use crate::limits::Limits;

/// A row as `cargo xtask bench` reads it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    figure: String,
    ours: f64,
    unit: &'static str,
    n: usize,
    note: String,
}

/// What one of the unit takes of the machine: bytes read from memory, products of two codes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) bytes: f64,
    pub(crate) products: f64,
}

/// Steps with different adapters beside steps with one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beside {
    /// Seconds of a step with one adapter.
    pub(crate) step_s: f64,
    /// Bytes that a step with different ones reads more.
    pub(crate) more_bytes: f64,
    /// The rate with different ones over that with one.
    pub(crate) ratio: f64,
}

impl Beside {
    /// Percent that are lost beyond the time to read the other adapters from memory, nothing overlapped. Stricter than [`loss`] where products, not bytes,
    /// bound a step: the tax on the whole of it is not due then.
    fn loss(&self, limits: &Limits) -> f64 {
        loss(self.ratio, self.step_s / (self.step_s + self.more_bytes / limits.read))
    }
}

/// A figure before the machine's limits are known.
#[derive(Debug)]
pub(crate) struct Found {
    figure: &'static str,
    unit: &'static str,
    /// One for each round.
    values: Vec<f64>,
    note: String,
    at_most: Option<Work>,
    /// Of a loss, what it is beyond.
    beside: Option<Beside>,
    /// Whether the figure is the share of the memory's bandwidth that `values` make of it, in percent.
    is_share: bool,
}

impl Found {
    /// Numbers of a second, each with this work.
    pub(crate) fn rate(figure: &'static str, values: Vec<f64>, work: Work, note: impl Into<String>) -> Self {
        Self { figure, unit: "tok/s", values, note: note.into(), at_most: Some(work), beside: None, is_share: false }
    }

    /// The share of the memory's bandwidth that such rates take.
    pub(crate) fn share(figure: &'static str, values: Vec<f64>, work: Work, note: impl Into<String>) -> Self {
        Self { unit: "%", is_share: true, ..Self::rate(figure, values, work, note) }
    }

    /// Values without a limit of the machine's.
    pub(crate) fn plain(figure: &'static str, unit: &'static str, values: Vec<f64>, note: impl Into<String>) -> Self {
        Self { figure, unit, values, note: note.into(), at_most: None, beside: None, is_share: false }
    }

    /// A loss in percent, with what tells it against the time that bytes take, too.
    pub(crate) fn loss(figure: &'static str, values: Vec<f64>, beside: Beside, note: impl Into<String>) -> Self {
        Self { beside: Some(beside), ..Self::plain(figure, "%", values, note) }
    }

    /// The same with a reason before its note.
    pub(crate) fn because(self, why: &str) -> Self {
        Self { note: format!("{why}; {}", self.note), ..self }
    }

    /// The row, now that the limits are known.
    ///
    /// # Errors
    /// If nothing was measured, or what is no number.
    pub(crate) fn row(&self, limits: &Limits) -> Result<Row> {
        ensure!(!self.values.is_empty() && self.values.iter().all(|value| value.is_finite()), "{}: {:?}", self.figure, self.values);
        let middle = median(&self.values);
        let share = |amount: f64, limit: f64| 100.0 * middle * amount / limit;
        let ours = if self.is_share { share(self.at_most.map_or(0.0, |work| work.bytes), limits.read) } else { middle };
        let mut note = self.note.clone();
        if let Some(work) = self.at_most {
            let (bytes, products) = (share(work.bytes, limits.read), share(work.products, limits.products));
            note += &format!(
                "; {bytes:.0} % of {:.1} GB/s read by as many threads, {products:.0} % of {:.0} billion byte products a second",
                limits.read / 1e9,
                limits.products / 1e9
            );
        }
        if let Some(beside) = self.beside {
            note += &format!("; {:.1} % beyond the time to read the others at {:.1} GB/s", beside.loss(limits), limits.read / 1e9);
        }
        let (least, most) = self.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), value| (l.min(*value), m.max(*value)));
        if !self.is_share {
            note += &format!("; rounds from {least:.1} to {most:.1}");
        }
        Ok(Row { figure: format!("engine.{}", self.figure), ours, unit: self.unit, n: self.values.len(), note })
    }
}

/// Which profile has the best median, the highest or the lowest, and how to say so.
pub(crate) fn best(values: &[Vec<f64>; PROFILES.len()], is_most: bool) -> (usize, String) {
    let medians = [median(&values[0]), median(&values[1])];
    let at = usize::from((medians[1] > medians[0]) == is_most);
    (at, format!("profile {}, the best ({} gives {:.1})", PROFILES[at], PROFILES[1 - at], medians[1 - at]))
}

/// The middle value, or the mean of the two in the middle. `values` is not empty.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// What reading the adapters of a step leaves of the rate with one: bytes of the base and one adapter over those of the base and all of them.
pub(crate) fn byte_tax(base: usize, adapters: &[usize]) -> f64 {
    let largest = adapters.iter().copied().max().unwrap_or(0);
    (base + largest) as f64 / (base + adapters.iter().sum::<usize>()) as f64
}

/// Percent that are lost beyond the tax: `ratio` is the rate with different adapters over that with the same. Below zero where something else than bytes is
/// the limit, so that the tax is not due in full.
pub(crate) fn loss(ratio: f64, tax: f64) -> f64 {
    100.0 * (1.0 - ratio / tax)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { read: 20e9, products: 100e9 };

    #[test]
    fn the_median_is_the_middle_one_and_of_an_even_number_between_two() {
        assert_eq!((median(&[9.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 30.0]), median(&[5.0])), (2.0, 3.0, 5.0));
    }

    #[test]
    fn of_two_profiles_the_best_is_named_beside_what_the_other_gives() {
        let values = [vec![4.0, 5.0, 6.0], vec![7.0, 8.0, 90.0]];
        assert_eq!(best(&values, true), (1, "profile fast, the best (exact gives 5.0)".to_owned()));
        assert_eq!(best(&values, false), (0, "profile exact, the best (fast gives 8.0)".to_owned()));
    }

    #[test]
    fn one_adapter_costs_no_tax_and_as_many_bytes_as_the_base_cost_half() {
        assert_eq!(byte_tax(100, &[5]), 1.0);
        assert_eq!(byte_tax(96, &[]), 1.0);
        assert_eq!(byte_tax(95, &[5; 21]), 0.5);
        // Ranks differ: one adapter is the largest, since the rows of one adapter stand for the slowest.
        assert_eq!(byte_tax(90, &[10, 20, 80]), 170.0 / 200.0);
    }

    #[test]
    fn what_the_tax_explains_is_no_loss() {
        assert_eq!(loss(0.5, 0.5), 0.0);
        assert_eq!(loss(0.375, 0.5), 25.0);
        assert_eq!(loss(1.0, 1.0), 0.0);
        assert!(loss(0.6, 0.5) < 0.0, "quicker than bytes allow");
    }

    #[test]
    fn against_time_only_the_other_adapters_bytes_are_taxed() {
        // 100 MB more at 20 GB/s take 5 ms beside a step of 15.
        let beside = |ratio| Beside { step_s: 0.015, more_bytes: 1e8, ratio }.loss(&LIMITS);
        assert!(beside(0.75).abs() < 1e-9 && (beside(0.6) - 20.0).abs() < 1e-9, "{} {}", beside(0.75), beside(0.6));
        let nothing = Beside { step_s: 0.015, more_bytes: 1e8, ratio: 0.75 };
        let row = Found::loss("mixed8_loss", vec![-3.0], nothing, "so").row(&LIMITS).unwrap();
        assert_eq!((row.ours, row.unit), (-3.0, "%"));
        assert!(row.note.starts_with("so; ") && row.note.contains("0.0 % beyond the time to read the others at 20.0 GB/s"), "{}", row.note);
    }

    #[test]
    fn a_rate_says_its_share_of_memory_and_products() {
        let work = Work { bytes: 1e8, products: 1e8 };
        let row = Found::rate("stream_tok_s", vec![90.0, 100.0, 500.0], work, "alone").row(&LIMITS).unwrap();
        assert_eq!((row.figure.as_str(), row.ours, row.n), ("engine.stream_tok_s", 100.0, 3));
        assert_eq!(
            row.note,
            "alone; 50 % of 20.0 GB/s read by as many threads, 10 % of 100 billion byte products a second; rounds from 90.0 to 500.0"
        );
        let share = Found::share("stream_bandwidth", vec![100.0], work, "x").row(&LIMITS).unwrap();
        assert_eq!((share.ours, share.unit), (50.0, "%"));
    }

    #[test]
    fn what_is_no_number_is_no_row() {
        for values in [vec![], vec![1.0, f64::NAN], vec![f64::INFINITY]] {
            assert!(Found::plain("check_ratio", "%", values, "").row(&LIMITS).is_err());
        }
        let row = Found::plain("check_ratio", "%", vec![3.0], "so").row(&LIMITS).unwrap();
        assert_eq!((row.ours, row.note.as_str()), (3.0, "so; rounds from 3.0 to 3.0"));
    }
}
