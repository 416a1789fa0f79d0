//! Machines without lanes: the plain path, which is never asked for by this name.

use super::{BLAKE3_LANES, head, least};

/// Whether this machine has the instructions.
pub(super) const fn is_here() -> bool {
    false
}

/// Calls `work`.
#[cfg(feature = "disk")]
pub(super) fn counting<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// The first 8 bytes of each message's BLAKE3.
pub(super) fn blake3_heads(messages: &[&[u8]; BLAKE3_LANES]) -> [u64; BLAKE3_LANES] {
    messages.map(head)
}

/// The least of `a[i] x + b[i]`.
pub(super) fn minima<const N: usize>(values: &[u64], a: &[u64; N], b: &[u64; N]) -> [u64; N] {
    std::array::from_fn(|i| least(values, a[i], b[i]))
}
