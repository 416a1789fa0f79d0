//! Whose data an answer drew on, what each is owed, and how that is checked.
pub mod answer;
pub mod bundle;
pub mod check;
pub mod epoch;
pub mod fault;
pub mod index;
pub mod message;
pub mod parameters;
pub mod prompt;
#[cfg(test)]
pub(crate) mod sample;
pub mod shares;
pub mod span;
