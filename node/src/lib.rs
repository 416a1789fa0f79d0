//! The process: configuration, commands, services, and the wiring between the crates' cores.
//!
//! It must never hold protocol rules, message formats or arithmetic on money: those are in `types` and the domain crates, and a
//! service here only carries bytes between a stream and a core.

pub mod api;
pub mod ask;
pub mod audited;
pub mod books;
pub mod chain;
pub mod check;
pub mod command;
pub mod config;
pub mod corpus;
pub mod credit;
pub mod data;
pub mod datanet;
pub mod demo;
pub mod doctor;
pub mod evidence;
pub mod explain;
pub mod facts;
pub mod finalized;
pub mod metrics;
pub mod notice;
pub mod output;
pub mod payouts;
pub mod peers;
pub mod purse;
pub mod running;
pub mod service;
pub mod telemetry;
pub mod unshown;
pub mod when;
pub mod witnessing;
pub mod words;
