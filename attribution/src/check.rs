//! The cross-check: which receipts are checked by whom, and what a checker signs (PROTOCOL section 9).

mod draw;
mod verdict;

pub use draw::{Draw, DrawRule, ELIGIBLE_MIN, Operators, OperatorsError, draw};
pub use verdict::{Reexecution, Verdict, judge, trace_digest};
