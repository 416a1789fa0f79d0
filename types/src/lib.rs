//! Shared vocabulary: the nouns that two or more crates must agree on bit for bit.
//!
//! Plain data without I/O, clock or async: ids, amounts, the one canonical encoding, keys and signatures, canonical text,
//! keccak trees, the signed documents of a request's life, and the integer split of a fee. The byte formats are the chapter
//! *Protocol* of `ARCHITECTURE.md`, cited here as P1 to P6; golden vectors made by an independent script hold both to it.
//!
//! Deliberately absent: transports, chains, tensors, and behaviour that only one crate uses.
//!
//! ```
//! use types::amount::Amount;
//! let fee = types::split::fee(1_200, 300, Amount(2_000), Amount(6_000), Amount(50))?;
//! assert_eq!(fee, Amount(4_250));
//! # Ok::<(), types::amount::AmountError>(())
//! ```

pub mod amount;
pub mod audit;
pub mod contribution;
pub mod encoding;
pub mod fingerprint;
pub mod id;
pub mod key;
pub mod manifest;
pub mod merkle;
pub mod operator;
pub mod options;
pub mod payout;
pub mod placement;
pub mod proof;
pub mod quote;
pub mod receipt;
pub mod request;
pub mod split;
pub mod text;
pub mod time;
pub mod voucher;
