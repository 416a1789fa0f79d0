//! One file per question.

pub mod attribution;
pub mod audits;
pub mod checks;
pub mod durability;
pub mod routing;
pub mod sampling;
