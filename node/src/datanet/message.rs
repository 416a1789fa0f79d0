//! Frames between a contributor and the gate of a Datanet, on a client stream whose first frame begins with the gate's service tag.
//!
//! ```text
//! contributor                              gate
//! Open (Datanet, salt, text root, sizes) -->   is the commitment on the chain? is this the Datanet's licence?
//!                                       <--   Proceed
//! pieces of the shard, plain frames ------>
//!                                       <--   Reviewed (report, signed verdict)
//! ```
//! A refusal may stand in place of any answer; nothing follows it. The report is JSON with one form, its digest is in the signed verdict,
//! which the registry takes if it accepts. Sizes: an opening is about 200 bytes, a report 300 and about 300 for each refused row, at most a
//! thousand of them.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::{
    contribution::GateReport,
    id::{Address, AssetId, Hash32},
    key::Signed,
};

/// Largest opening.
pub const OPEN_FRAME_MAX: usize = 4 << 10;
/// Largest piece of a shard.
pub const PIECE_BYTES: usize = 256 << 10;
/// Largest frame of a gate: a report of a thousand refusals.
pub const GATE_FRAME_MAX: usize = 2 << 20;

/// How a contribution is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The Datanet.
    pub datanet: AssetId,
    /// Who contributes.
    pub contributor: Address,
    /// Opens the commitment.
    pub salt: Hash32,
    /// Root of the contribution text.
    pub text_root: Hash32,
    /// The licence the contributor gives, as an SPDX expression.
    pub licence: String,
    /// Bytes of the shard that follows.
    pub shard_bytes: u64,
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGate {
    /// Send the shard.
    Proceed,
    /// The gate has looked.
    Reviewed {
        /// The report in its one JSON form.
        report: String,
        /// The verdict, signed by the reviewer.
        verdict: Signed<GateReport>,
    },
    /// The gate does not look at all.
    Refused {
        /// Why, and the fix.
        reason: String,
    },
}

/// Bytes that are no message.
#[derive(Debug, thiserror::Error)]
#[error("not a message of a gate: {0}")]
pub struct MessageError(#[from] postcard::Error);

/// The message's bytes.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("plain data always serialises")
}

/// Reads a peer's bytes, all of them.
///
/// # Errors
/// [`MessageError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        _ => Err(postcard::Error::DeserializeBadEncoding.into()),
    }
}
