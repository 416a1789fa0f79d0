//! The shell on a real chain: anvil in OP mode, the real contracts, real signatures.
//!
//! anvil comes with `npm ci` in `chain-bridge/contracts`, or is named by `TRIBUTARY_ANVIL`; without it these tests fail and say so.

#![allow(clippy::unwrap_used, reason = "a test crate: what fails here is the test")]

mod harness;

mod assets;
mod attributed;
mod availability;
mod cases;
mod checks;
mod deploying;
mod devnet;
mod epoch;
mod flaky;
mod fraud;
mod indexes;
mod payees;
mod refused;
mod reorg;
mod sending;
