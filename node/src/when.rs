//! Times for people: those of [`chain_bridge::time`], and this machine's own.

use std::time::{SystemTime, UNIX_EPOCH};

pub use chain_bridge::time::{ago, lasting, utc, when};

/// This machine's time, in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
