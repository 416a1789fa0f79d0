//! What client and node say to each other about one answer, and what each may do next. Pure: plain data, a codec and two state machines, what a node loses
//! to whom, whom to ask first, and what a client must not forget: what it may spend, what it has promised, what it has asked before.

pub mod draft;
pub mod loss;
pub mod message;
pub mod once;
pub mod payment;
pub mod recall;
pub mod router;
pub mod spending;

#[cfg(test)]
mod retries;
