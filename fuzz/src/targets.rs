//! The targets by name.

use crate::{bundles, index_file, memory::Bound, messages, receipts, texts, trees};

/// One of them.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) memory: Bound,
    pub(crate) run: fn(&[u8]),
    /// Inputs to begin with.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

/// A message of some bytes becomes structs of some dozens, in vectors that double as they grow; the rest is what errors and hashes take.
const DECODED: Bound = Bound { each: 96, more: 64 << 10 };
/// A list of a message that says how long it is has up to 1 MiB set aside for it (serde's bound), and lists lie three deep.
const LISTED: Bound = Bound { each: 96, more: 4 << 20 };
/// Some bytes stand for a file of some thousand, or for tiles of 8 kB.
const EDITED: Bound = Bound { each: 96, more: 4 << 20 };

pub(crate) const TARGETS: [Target; 9] = [
    Target { name: "bundle", memory: DECODED, run: bundles::file, seeds: bundles::file_seeds },
    Target { name: "claim", memory: EDITED, run: bundles::claim, seeds: bundles::claim_seeds },
    Target { name: "index_file", memory: EDITED, run: index_file::run, seeds: index_file::seeds },
    Target { name: "log_text", memory: DECODED, run: texts::run, seeds: texts::seeds },
    Target { name: "log_tile", memory: EDITED, run: trees::tiles, seeds: trees::tile_seeds },
    Target { name: "message", memory: LISTED, run: messages::run, seeds: messages::seeds },
    Target { name: "proof", memory: EDITED, run: trees::proofs, seeds: trees::proof_seeds },
    Target { name: "receipt", memory: DECODED, run: receipts::run, seeds: receipts::seeds },
    Target { name: "transcript", memory: EDITED, run: messages::transcript, seeds: messages::transcript_seeds },
];
