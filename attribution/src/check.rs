//! The cross-check: which receipts are checked by whom, what a checker recomputes, seals and shows (PROTOCOL section 9).

mod draw;
mod leaf;
pub mod round;
mod trace;
mod verdict;

pub use draw::{Draw, DrawRule, ELIGIBLE_MIN, Operators, OperatorsError, draw};
pub use leaf::{CHECK_BYTES, Check, Outcome, Shown, ShownError, Stacked};
pub use trace::{searched, trace, trace_digest};
pub use verdict::{Reexecution, Verdict, judge};
