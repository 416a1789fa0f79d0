//! Keeping: who holds an object, written down so that everyone concerned says the same.
//!
//! Goals: the holders of an object are those that its contributor's spread ended with, for life, whoever is online later; a fragment moves by the word of
//! a coordinator *and* of its new holder, and not otherwise; a holder that was away learns what moved from any other. Non-goals: an index of all
//! objects (the registry names them), finding holders without one (a reader asks nodes what they hold).
//!
//! Flow. A spread that is done ends with the contributor's signed [`types::placement::Placement`], told to every holder ([`message::Ask::Tell`]), each of which checks it
//! and has it on its disk before it answers. Repair gives a fragment on with [`message::Ask::Take`]: record, coordinator's signature, manifest, bytes; the new holder
//! stores, signs the same [`types::placement::Handover`], and the coordinator tells the record with both signatures to all holders. Whoever hears a record
//! takes in what is new of it ([`Record::merge`]): a union of signed facts, so order and repetition do not matter. [`message::Ask::Record`] asks for one.
//!
//! *Why records and not the rule alone.* Placement is drawn from the operators that store, and who stores is known from ads alone; a rule computed again later
//! gives other holders. *Against* the chain as the record: 48 addresses an object are 1,000 bytes of calldata, and moves as much again each month.
//! *Against* a record signed by all holders: one that is away would hold up what the others agree on.
//!
//! *Cost.* 48 holders: 1,091 bytes, and 215 for each move. With 90 days of life an object sees 195 moves a year; [`record::MOVES_MAX`] are five years of them.

pub mod message;
pub mod record;
pub mod tally;

pub use self::{
    message::{Ask, Reply},
    record::{HandedOver, Known, Record, RecordError},
};

#[cfg(test)]
mod vectors;
