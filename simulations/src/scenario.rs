//! One file per question.

pub mod audits;
pub mod durability;
pub mod sampling;
