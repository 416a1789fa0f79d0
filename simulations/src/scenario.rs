//! One file per question.

pub mod sampling;
