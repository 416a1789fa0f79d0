//! Pure machines: events and `now` go in, verdicts come out. No socket, clock, thread or randomness.

pub mod ads;
pub mod dial;
pub mod limits;
