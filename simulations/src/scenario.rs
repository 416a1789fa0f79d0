//! One file per question.

pub mod durability;
pub mod sampling;
