//! The compiled contracts in this process: thousands of proofs and documents a second, without a node.

#![allow(clippy::unwrap_used, reason = "a test crate: what fails here is the test")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]

#[path = "../../src/fraud/fixture.rs"]
mod fixture;
mod harness;
mod transcript;

mod attributed;
mod billing;
mod case;
mod challenge;
mod differential;
mod divided;
mod fields;
mod gas;
mod indexes;
mod left_out;
mod money;
mod payout;
mod places;
mod refunds;
mod rent;
mod spans;
mod withheld;
