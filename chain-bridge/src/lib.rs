//! Put results on a chain, read facts from it.
//!
//! Pure, tested without a chain: [`outbox`] (one key, one transaction), [`lanes`] (vouchers and exposure), [`finality`] (reorganisations),
//! [`registry`] (views derived from events), [`fraud`] (proofs of false spans). The shell is behind feature `rpc` (default): the generated
//! bindings, a client of any OP-mode chain, deployment, a development chain on anvil, the follower that feeds the views, and encrypted key files.
//!
//! ```
//! use chain_bridge::lanes::{Terms, client::ClientLane};
//! use types::{amount::Amount, id::{Address, Hash32}, voucher::Lane};
//!
//! let lane = Lane { payer: Address([1; 20]), node: Address([2; 20]), cap: Amount(5_000), expiry: 900, nonce: 1 };
//! let terms = Terms {
//!     request: Hash32([3; 32]), attempt: 0, quote: Hash32([4; 32]), rate_in: Amount(1_000), rate_out: Amount(3_000),
//!     protocol_fee: Amount(5), first_token: 0, tokens_in: 10,
//! };
//! let voucher = ClientLane::new(lane).next_voucher(&terms, &[17, 42], Amount(100))?;
//! assert_eq!(voucher.cumulative, Amount(10 + 6 + 5));
//! # Ok::<(), chain_bridge::lanes::VoucherError>(())
//! ```
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
