//! Put results on a chain, read facts from it.
//!
//! Pure, tested without a chain: [`outbox`] (one key, one transaction), [`lanes`] (which lanes an answer is begun on), [`finality`] (reorganisations),
//! [`registry`] (views derived from events), [`fraud`] (proofs of false spans), [`rent`] (claims of who passed its audits),
//! [`case`] (what nodes are asked for that they signed for). The shell is behind feature `rpc` (default): the generated
//! bindings, a client of any OP-mode chain, deployment, a development chain on anvil, the follower that feeds the views, encrypted key files, and
//! stores of public bytes by their BLAKE3.
//!
//! ```
//! use chain_bridge::outbox::{Action, Config, Fees, Intent, Outbox, Place};
//! use chain_bridge::chain::Call;
//! use types::{amount::Amount, id::Address};
//!
//! let call = Call { to: Some(Address([1; 20])), data: vec![], value: Amount(7) };
//! let mut outbox = Outbox::new(Config::default());
//! let rent = Intent { what: "rent".into(), origin: None, call, gas: 21_000, fees: Fees { most: 100, tip: 10 }, since: 0 };
//! assert_eq!(outbox.enqueue("rent of May", rent.clone(), 5, 0)?, Place::New);
//! // Asked again after a restart: the same nonce, never a second transaction.
//! assert_eq!(outbox.enqueue("rent of May", rent, 9, 3)?, Place::Waiting);
//! assert_eq!(outbox.due("rent of May", 3, 5), Some(Action::Send));
//! # Ok::<(), chain_bridge::outbox::OutboxError>(())
//! ```
//!
//! Deliberately absent: any decision about who is owed what (that is `attribution`'s), and configuration files (`node`'s).

mod bytes_hex;
pub mod case;
pub mod chain;
pub mod finality;
pub mod fraud;
pub mod lanes;
pub mod outbox;
pub mod registry;
pub mod rent;
pub mod time;

#[cfg(feature = "rpc")]
pub mod availability;
#[cfg(feature = "rpc")]
pub mod bindings;
#[cfg(feature = "rpc")]
pub mod client;
#[cfg(feature = "rpc")]
mod convert;
#[cfg(feature = "rpc")]
pub mod deploy;
#[cfg(feature = "rpc")]
pub mod devnet;
#[cfg(feature = "rpc")]
pub mod follow;
#[cfg(feature = "rpc")]
pub mod wallet;
