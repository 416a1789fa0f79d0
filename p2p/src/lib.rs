//! Authenticated byte streams and gossip between peers.
//!
//! Owns identity on the wire, framing, the table of capability ads, and three transports under one ed25519 key: libp2p for the
//! overlay ([`overlay`]), quinn for clients ([`client`]), iroh for bulk data between nodes ([`bulk`]). The three keep separate
//! sockets: quinn and iroh's QUIC cannot share one, and libp2p hides its own.
//!
//! Never knows what a blob, a token or a payment is; never repeats a request on behalf of a protocol; never hands out an
//! unbounded queue.
//!
//! Feature `net` (default): everything that touches a socket. Without it remain the pure parts, [`frame`], [`proto`] and the
//! signatures of [`identity`], which simulations drive.
//!
//! ```
//! use p2p::identity::{NodeSeed, verify_chatter};
//! let seed = NodeSeed::new([7; 32]);
//! let signature = seed.sign_chatter("ad", b"body");
//! assert!(verify_chatter(seed.node_id(), "ad", b"body", &signature).is_ok());
//! ```

pub mod frame;
pub mod identity;
pub mod proto;

#[cfg(feature = "net")]
pub mod bulk;
#[cfg(feature = "net")]
pub mod client;
#[cfg(feature = "net")]
pub mod memory;
#[cfg(feature = "net")]
pub mod overlay;
#[cfg(feature = "net")]
pub mod stream;
#[cfg(feature = "net")]
pub mod tap;
