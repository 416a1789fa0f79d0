//! What client and node say to each other about one answer, and what each may do next. Pure: plain data, a codec and two state machines, what a node loses to whom, and whom to ask first.

pub mod loss;
pub mod message;
pub mod payment;
pub mod router;
