//! What nodes and payees ask each other about an epoch: receipts behind a node root, transcripts of their answers, lines of a payout tree.
//!
//! One question and one answer per stream. A page of receipts is at most [`RECEIPTS_PAGE`] of about 600 bytes plus spans, one of a payout tree
//! [`LINES_PAGE`] leaves and parts of about 90 bytes; whoever asks rebuilds the root and trusts nothing else.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::{
    encoding::{Body, read_list},
    id::Address,
    key::Signed,
    manifest::Manifest,
    merkle::SumOpening,
    payout::{PartLeaf, PayoutLeaf},
    quote::Quote,
    receipt::Receipt,
};

use crate::{
    epoch::replay::Line,
    transcript::{
        TRANSCRIPTS_PAGE, Transcript,
        ask::{Shown, TranscriptAsk, Withheld},
    },
};

/// Largest question.
pub const ASK_BYTES_MAX: usize = 1 << 10;
/// Largest answer.
pub const REPLY_BYTES_MAX: usize = 8 << 20;
/// Receipts of one page.
pub const RECEIPTS_PAGE: usize = 64;

/// Leaves and parts of one page of a payout tree.
pub const LINES_PAGE: usize = 4_096;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// The asked node's own receipts of an epoch, from a place in its order.
    Receipts {
        /// Epoch.
        epoch: u64,
        /// First place wanted.
        from: u64,
    },
    /// An account's line in the asked poster's payout tree of an epoch.
    Payout {
        /// Epoch.
        epoch: u64,
        /// The payee.
        account: Address,
    },
    /// Collect and post now; only the node's own operator may ask.
    Settle,
    /// The asked node's payout tree of an epoch from a place on: whole but for the parts before that place.
    Lines {
        /// Epoch.
        epoch: u64,
        /// First line wanted.
        line: u64,
        /// First part of it wanted.
        part: u64,
    },
    /// A node's receipts of an epoch as the asked node fetched them, from a place in their order: for who finds that node gone.
    ReceiptsOf {
        /// The node whose they are.
        node: Address,
        /// Epoch.
        epoch: u64,
        /// First place wanted.
        from: u64,
    },
    /// What the asked node shows of its own answers of an epoch, from a place in its receipts' order.
    Transcripts {
        /// Epoch.
        epoch: u64,
        /// First place wanted.
        from: u64,
    },
    /// The sealed transcript of one of the asked node's answers, for its client or a checker who was drawn.
    Sealed(Box<Signed<TranscriptAsk>>),
}

/// A receipt with what its split needs. One that may be billed comes with both bodies, as it would have to on the chain; another may leave them out.
/// They are bytes: a receipt may name some that are no quote or no manifest, and then it has no parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptItem {
    /// The receipt.
    pub receipt: Signed<Receipt>,
    /// What it names as its quote, for the protocol's constant.
    pub quote: Option<Body>,
    /// What it names as its manifest, for split table and treasuries.
    pub manifest: Option<Body>,
}

impl ReceiptItem {
    /// A receipt with its quote and manifest.
    pub fn new(receipt: Signed<Receipt>, quote: &Quote, manifest: &Manifest) -> Self {
        Self { receipt, quote: Some(Body::of(quote)), manifest: Some(Body::of(manifest)) }
    }

    /// The quote; nothing if it was left out or the bytes are none.
    pub fn quote(&self) -> Option<Quote> {
        self.quote.as_ref()?.read().ok()
    }

    /// The manifest; nothing if it was left out or the bytes are none.
    pub fn manifest(&self) -> Option<Manifest> {
        self.manifest.as_ref()?.read().ok()
    }
}

/// An account's line of a payout tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutLine {
    /// Epoch.
    pub epoch: u64,
    /// The leaf.
    pub leaf: PayoutLeaf,
    /// Its way to the root.
    pub opening: SumOpening,
    /// The parts that make the difference to the tree before.
    pub parts: Vec<PartLeaf>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// A page of receipts, in order; empty past the end.
    Receipts(Vec<ReceiptItem>),
    /// The line; nothing if the account is not in the tree.
    Payout(Option<PayoutLine>),
    /// What settling did, in words.
    Settled(String),
    /// No, and why.
    Refused(String),
    /// A page of a payout tree: [`LINES_PAGE`] leaves and parts, fewer at its end. A line that a page cuts goes on in the next one, whose first
    /// line has the same leaf.
    Lines(Vec<Line>),
    /// A page of transcripts, one for each receipt from the place asked for on; empty past the end. Read no further than a page goes: one that is not shown is a byte
    /// on the wire and two dozen in memory.
    Transcripts(#[serde(deserialize_with = "read_list::<_, _, TRANSCRIPTS_PAGE>")] Vec<Transcript>),
    /// A sealed transcript with its key, for who asked.
    Sealed(Box<Shown>),
    /// No sealed transcript, and why.
    Withheld(Withheld),
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes are no settlement message: {why}")]
pub struct MessageError {
    len: usize,
    why: String,
}

/// Encodes a question or an answer.
///
/// # Panics
/// Never for the messages of this module: each is plain data.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_allocvec(message).expect("plain data always encodes")
}

/// Reads a question or an answer; the whole of `bytes` must be it.
///
/// # Errors
/// [`MessageError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    let malformed = |why: String| MessageError { len: bytes.len(), why };
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(malformed(format!("{} bytes follow it", rest.len()))),
        Err(error) => Err(malformed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn questions_round_trip_and_a_longer_frame_is_refused() {
        let ask = Ask::Payout { epoch: 3, account: Address([7; 20]) };
        let mut bytes = encode(&ask);
        assert_eq!(decode::<Ask>(&bytes), Ok(ask));
        bytes.push(0);
        assert!(decode::<Ask>(&bytes).is_err());
    }

    #[test]
    fn a_page_is_read_to_its_bound_and_no_further() {
        let page = |count| Reply::Transcripts(vec![Transcript::Closed; count]);
        assert_eq!(decode::<Reply>(&encode(&page(TRANSCRIPTS_PAGE))), Ok(page(TRANSCRIPTS_PAGE)));
        // A byte each on the wire, two dozen in memory.
        let refused = decode::<Reply>(&encode(&page(1 << 20)));
        assert!(refused.is_err(), "a page of a million");
        assert!(decode::<Reply>(&encode(&page(TRANSCRIPTS_PAGE + 1))).is_err());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Ask>(&bytes);
            let _ = decode::<Reply>(&bytes);
        }
    }
}
