//! An append-only log of receipts that anybody can hold a node to: tiles, checkpoints, proofs, witnesses.
//!
//! Goals: what a node has logged it cannot take back, change or show differently to two people without two signed heads that convict it; whoever holds a
//! receipt finds it in the log, and keeps a proof of it that needs no network. Non-goals: order between nodes, and the receipts themselves: an entry is a
//! hash ([`entry`]).
//!
//! The forms are those of the C2SP texts tlog-tiles, tlog-checkpoint, signed-note, tlog-cosignature, tlog-witness and tlog-proof; hashes are those of
//! RFC 6962 over SHA-256, and no keccak as in all that a contract reads.
//!
//! ```text
//! node    -- /checkpoint, /tile/<L>/<N>, /tile/entries/<N> -->  anybody: inclusion of a receipt, consistency with the head kept from last time
//! log     -- POST /add-checkpoint (old size, proof, head)  -->  witness: cosigns what continues the head it cosigned last
//! ```
//!
//! A log of n entries takes n x 33 bytes, its tree n x 32.1, of which [`tree::Levels`] holds an 8th of a byte per entry in memory. A proof has at most
//! [`tree::PROOF_LEN_MAX`] hashes, built from as many tiles of 8 kB or fewer.

pub mod base64;
pub mod checkpoint;
pub mod entry;
pub mod follow;
pub mod note;
pub mod proof;
pub mod quorum;
pub mod tile;
pub mod tree;
pub mod witness;

#[cfg(test)]
mod tests;

use std::fmt;

/// A SHA-256 hash of the tree; shown in base64, as checkpoints have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogHash(pub [u8; 32]);

impl fmt::Display for LogHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(&self.0))
    }
}

impl fmt::Debug for LogHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for LogHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How many entries, and the root over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// Root over the first `size` of them.
    pub root: LogHash,
}

impl Head {
    /// Bytes of [`Head::to_bytes`].
    pub const LEN: usize = 40;

    /// Of no entries.
    pub fn empty() -> Self {
        Self { size: 0, root: tree::empty_root() }
    }

    /// As it is kept on disk: size u64, root.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.size.to_be_bytes());
        bytes[8..].copy_from_slice(&self.root.0);
        bytes
    }

    /// The reverse; nothing for bytes of another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (size, root) = bytes.split_first_chunk::<8>()?;
        Some(Self { size: u64::from_be_bytes(*size), root: LogHash(root.try_into().ok()?) })
    }
}

/// Reads a decimal number without sign or leading zeroes, as all of these texts write numbers.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}
