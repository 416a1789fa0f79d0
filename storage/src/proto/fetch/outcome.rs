//! How a fetch may be tuned, and how it can end.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use types::id::{BlobId, NodeId};

use crate::{
    erasure::{ManifestError, ObjectManifest, Proof, ReconstructError},
    proto::message::Refusal,
};

/// Failures that an error's text names.
const LISTED_MAX: usize = 16;

/// How patient a fetch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Wait for one Locate. 5 s: a small message, twice around the world with losses.
    pub locate_timeout: Duration,
    /// A stream must bring [`Config::progress_groups`], or what it still owes if that is less, in each such time. 20 s.
    pub progress_window: Duration,
    /// See [`Config::progress_window`]. 16: 256 KiB, so a stream below 13 KB/s is given up; sixteen streams over 3 Mbit/s bring 23 KB/s each.
    pub progress_groups: u32,
    /// Times one holder is asked for one fragment and brings little. 3: once, and twice after a passing refusal or a loss.
    pub attempts: u8,
    /// Wait before asking a busy holder again. 500 ms.
    pub retry_after: Duration,
    /// Fragments that are read at once while they bring [`Config::few_bytes_per_s`]. 4: on loopback sixteen connections bring an eighth less than four, each with fewer packets
    /// at a time (`node/benches/fetch.rs`).
    pub few: usize,
    /// What is enough of the first few streams together. 100 MB/s: a gigabit line is full.
    pub few_bytes_per_s: u64,
    /// How long the first few may bring nothing before all that are needed are read at once. 20 ms: a handshake and a round trip nearby.
    pub few_wait: Duration,
    /// How long fragments that must be decoded are not asked for while a candidate has not said what it holds. 30 ms: what decoding takes.
    pub data_first: Duration,
    /// The least time after which a stream may count as late. 500 ms: two round trips around the world, so that a pause is not taken for a pace.
    pub hedge_after: Duration,
    /// Encode what came again, and look whether the manifest names these fragments ([`is_reencoded`](crate::erasure::is_reencoded)). No: the caller draws.
    pub is_reencoded: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            locate_timeout: Duration::from_secs(5),
            progress_window: Duration::from_secs(20),
            progress_groups: 16,
            attempts: 3,
            retry_after: Duration::from_millis(500),
            few: 4,
            few_bytes_per_s: 100_000_000,
            few_wait: Duration::from_millis(20),
            data_first: Duration::from_millis(30),
            hedge_after: Duration::from_millis(500),
            is_reencoded: false,
        }
    }
}

/// An object, and who sent how much of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The object's manifest.
    pub manifest: ObjectManifest,
    /// The object, hashed.
    pub bytes: Vec<u8>,
    /// Bytes of good fragments by holder.
    pub received: BTreeMap<NodeId, u64>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("object", &self.manifest.id())
            .field("bytes", &self.bytes.len())
            .field("received", &self.received)
            .finish()
    }
}

/// What a holder sent instead of what the manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("holder {holder} sent {got} as {}object {object}, the manifest names {expected}", place(*fragment))]
pub struct Evidence {
    /// Who.
    pub holder: NodeId,
    /// The object.
    pub object: BlobId,
    /// Which fragment, and the first group of 16 KiB below the node of its tree that is wrong; nothing: the manifest itself.
    pub fragment: Option<(u8, u32)>,
    /// What it should be: the manifest's hash of the fragment, or of a part of it as the pairs before show.
    pub expected: BlobId,
    /// What it is.
    pub got: BlobId,
}

fn place(fragment: Option<(u8, u32)>) -> String {
    fragment.map_or_else(|| "the manifest of ".to_owned(), |(index, group)| format!("fragment {index} from group {group} on of "))
}

/// Why a request to a holder came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It refused.
    Refused(Refusal),
    /// It was too slow.
    TimedOut,
    /// It could not be reached, or broke off.
    Lost,
    /// It sent wrong bytes.
    Wrong,
    /// It answered something else than was asked.
    OffTopic,
}

impl Failure {
    /// Whether the same may succeed a little later.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_passing(),
            Self::TimedOut | Self::Lost => true,
            Self::Wrong | Self::OffTopic => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Lost => f.write_str("not reachable"),
            Self::Wrong => f.write_str("sent wrong bytes"),
            Self::OffTopic => f.write_str("answered another question"),
        }
    }
}

/// Why an object did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No candidate had its manifest.
    #[error("no manifest of object {object} from {asked} holders{}: check that its holders run", list(failures))]
    NoManifest {
        /// The object.
        object: BlobId,
        /// Candidates asked.
        asked: usize,
        /// The last failure of each.
        failures: BTreeMap<NodeId, Failure>,
    },
    /// Fewer fragments than the code needs.
    #[error("object {object} needs {needed} fragments, {found} were found{}: start more of its holders and try again", list(failures))]
    TooFew {
        /// The object.
        object: BlobId,
        /// Good fragments that came.
        found: usize,
        /// Fragments that suffice.
        needed: usize,
        /// The last failure of each holder.
        failures: BTreeMap<NodeId, Failure>,
    },
    /// The object's own manifest is broken: its uploader made it so.
    #[error("the manifest of the object itself is broken, no holder has another: {0}")]
    Manifest(#[from] ManifestError),
    /// The fragments are what the manifest names, but do not make the object.
    #[error(transparent)]
    Reconstruct(#[from] ReconstructError),
    /// The same, with the proof that convicts the manifest's author before everybody.
    #[error("{error}")]
    Lied {
        /// What the fragments give.
        error: ReconstructError,
        /// Manifest and fragments.
        proof: Box<Proof>,
    },
}

/// The failures, those of holders that know nothing of the object last.
fn list(failures: &BTreeMap<NodeId, Failure>) -> String {
    let mut all: Vec<_> = failures.iter().collect();
    all.sort_by_key(|(_, failure)| matches!(failure, Failure::Refused(Refusal::Unknown { .. })));
    let mut each: Vec<_> = all.iter().take(LISTED_MAX).map(|(holder, failure)| format!("{holder}: {failure}")).collect();
    if let Some(more) = all.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
        each.push(format!("and {more} more"));
    }
    if each.is_empty() { String::new() } else { format!(" ({})", each.join("; ")) }
}
