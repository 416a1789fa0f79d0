//! What a log is of: one entry for each receipt that bills, by its hash, and bundles of entries.
//!
//! A hash and nothing else, of every privacy class alike. A receipt's body says who asked, on which lane, what it cost and where in a Datanet the answer's
//! words stand; it is shown with its epoch's root or not at all, and a log that showed it earlier, or showed one that is never posted, would tell what the
//! protocol does not. The hash tells nobody anything who lacks the receipt: the salted roots of prompt and answer in it cannot be guessed. What everybody
//! sees is how many receipts a node signed, and about when.

use types::id::Hash32;

use super::tree::TILE_HASHES;

/// First byte of an entry: a receipt's hash follows.
const RECEIPT: u8 = 1;
/// Bytes of a receipt's entry.
pub const ENTRY_BYTES: usize = 33;
/// Most bytes of a bundle that a reader takes: full of this log's entries, and as many again for kinds that come later.
pub const BUNDLE_BYTES_MAX: usize = 2 * (2 + ENTRY_BYTES) * TILE_HASHES;

/// The entry of a receipt.
pub fn of_receipt(hash: Hash32) -> [u8; ENTRY_BYTES] {
    let mut entry = [RECEIPT; ENTRY_BYTES];
    entry[1..].copy_from_slice(&hash.0);
    entry
}

/// A bundle: each entry behind its length.
///
/// # Panics
/// If an entry has more than 65,535 bytes; ours have [`ENTRY_BYTES`].
pub fn bundle<'e>(entries: impl IntoIterator<Item = &'e [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend(u16::try_from(entry.len()).expect("an entry is short").to_be_bytes());
        bytes.extend(entry);
    }
    bytes
}

/// Why bytes are no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Too long to be one.
    #[error("a bundle of {0} bytes, at most {BUNDLE_BYTES_MAX} are read")]
    TooLong(usize),
    /// It ends inside an entry.
    #[error("entry {0} of the bundle is cut off")]
    Cut(usize),
    /// Another number of entries than its path says.
    #[error("{got} entries in the bundle, expected {expected}")]
    Count {
        /// How many came.
        got: usize,
        /// How many its path says.
        expected: u16,
    },
}

/// The entries of a bundle that must hold `width` of them.
///
/// # Errors
/// [`BundleError`].
pub fn entries(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, BundleError> {
    if bytes.len() > BUNDLE_BYTES_MAX {
        return Err(BundleError::TooLong(bytes.len()));
    }
    let (mut found, mut rest) = (Vec::with_capacity(usize::from(width.min(256))), bytes);
    while !rest.is_empty() {
        let cut = BundleError::Cut(found.len());
        let Some((length, behind)) = rest.split_first_chunk::<2>() else { return Err(cut) };
        let Some((entry, behind)) = behind.split_at_checked(u16::from_be_bytes(*length).into()) else { return Err(cut) };
        if found.len() == usize::from(width) {
            return Err(BundleError::Count { got: found.len() + 1, expected: width });
        }
        found.push(entry);
        rest = behind;
    }
    if found.len() == usize::from(width) { Ok(found) } else { Err(BundleError::Count { got: found.len(), expected: width }) }
}
