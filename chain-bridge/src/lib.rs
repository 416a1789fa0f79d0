//! Put results on a chain, read facts from it.
//!
//! Pure, tested without a chain: [`outbox`] (one key, one transaction), [`lanes`] (vouchers and exposure), [`finality`] (reorganisations),
//! [`registry`] (views derived from events), [`fraud`] (proofs of false spans). The shell is behind feature `rpc` (default): the generated
//! bindings, a client of any OP-mode chain, deployment, a development chain on anvil, the follower that feeds the views, and encrypted key files.
//!
//! Deliberately absent: any decision about who is owed what (that is `attribution`'s), and configuration files (`node`'s).

mod bytes_hex;
pub mod chain;
pub mod finality;
pub mod fraud;
pub mod lanes;
pub mod outbox;
pub mod registry;

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
