//! One file per question.

pub mod attribution;
pub mod audits;
pub mod durability;
pub mod sampling;
