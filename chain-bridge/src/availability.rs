//! Where public bytes are kept so that anybody can have them by their BLAKE3: a folder, or the chain's own calldata.
//!
//! What comes back is always checked against its name, so a store is trusted for nothing but being there. Goals: bytes that outlive a restart (folder),
//! and bytes that outlive who kept them or no longer answers (calldata). Non-goals: to find bytes by anything but their name or a check of the reader's,
//! and to keep them for ever: execution clients may prune old blocks.
//!
//! Back of the envelope for calldata, lines of a payout with 2,000 payees: 80 bytes a payee and 36 a part, so 160 kB and, for an epoch of 10,000 answers
//! with ten parts each, 3.6 MB. A transaction carries [`CALLDATA_MAX`], so that is 31 of them. An OP chain asks 40 gas a byte that is not zero (10 of one
//! that is) for transactions that carry little else, and 21,000 each: 5 million gas a transaction, 150 million for all, beside the L1's fee for
//! as many bytes, which hardly compress. So it is for posters who want their trees to be checked without them, and for no default.

mod calldata;
mod chunk;
mod local;

use std::{error::Error, future::Future, io, path::PathBuf};

pub use calldata::{Calldata, Cost, Found, Looked, Progress, SCAN_BLOCKS_MAX};
pub use chunk::{CALLDATA_MAX, CHUNK_BYTES, CHUNKS_MAX, Joining, chunks};
pub use local::LocalStore;
use types::id::BlobId;

use crate::chain::error::ChainError;

/// Why bytes cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum AvailabilityError {
    /// Too many.
    #[error("{what} has {got} bytes, at most {most} are taken")]
    TooLong {
        /// What.
        what: String,
        /// How many.
        got: u64,
        /// The bound.
        most: u64,
    },
    /// Other bytes under the name.
    #[error("what is kept as {expected} has the BLAKE3 {got}: it was changed")]
    Changed {
        /// Asked for.
        expected: BlobId,
        /// Found.
        got: BlobId,
    },
    /// The file system.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// A store of public bytes by their BLAKE3.
pub trait DataAvailability: Send + Sync {
    /// Why it could not.
    type Error: Error + Send + Sync + 'static;

    /// Keeps bytes; what is kept already is not kept twice.
    fn put(&self, bytes: &[u8]) -> impl Future<Output = Result<BlobId, Self::Error>> + Send;

    /// The bytes of a name, at most `most` of them; nothing if the store does not have them.
    fn get(&self, blob: BlobId, most: u64) -> impl Future<Output = Result<Option<Vec<u8>>, Self::Error>> + Send;
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
