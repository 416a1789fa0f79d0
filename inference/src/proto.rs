//! What client and node say to each other about one answer, and what each may do next. Pure: plain data, a codec and two state machines, what a node loses
//! to whom, whom to ask first, and what a client must not forget: what it may spend, what it has promised, what it has asked before.
//!
//! Also what an engine decides: which jobs run and what the next step computes ([`scheduler`]), who gets its rows ([`fair`]), which pages hold what ([`pages`]),
//! where adapters are ([`residency`]), and what an answer may go on with ([`lookup`]).

pub mod draft;
pub mod fair;
pub mod lookup;
pub mod loss;
pub mod message;
pub mod once;
pub mod padding;
pub mod pages;
pub mod payment;
pub mod recall;
pub mod residency;
pub mod resume;
pub mod router;
pub mod scheduler;
pub mod spending;

#[cfg(test)]
mod retries;
