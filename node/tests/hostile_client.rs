//! A client that cheats, frame by frame, against the real service over real streams: what it promised stands, what it forged is refused by name,
//! and nothing is charged that it did not sign.
//!
//! No chain is needed: deposits come from a fake, offers are given. The tiny model answers in milliseconds.

#![expect(clippy::unwrap_used, reason = "a test asserts by unwrapping, also in its helpers")]

#[path = "hostile_client/beginnings.rs"]
mod beginnings;
#[path = "hostile_client/checked.rs"]
mod checked;
#[path = "hostile_client/cut_off.rs"]
mod cut_off;
#[path = "hostile_client/fast.rs"]
mod fast;
#[path = "hostile_client/options.rs"]
mod options;
#[path = "hostile_client/padded.rs"]
mod padded;
#[path = "hostile_client/payments.rs"]
mod payments;
#[path = "hostile_client/resuming.rs"]
mod resuming;
#[path = "hostile_client/texts.rs"]
mod texts;
#[path = "hostile_client/world.rs"]
mod world;
