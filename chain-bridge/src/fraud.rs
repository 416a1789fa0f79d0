//! Proofs of faults. Here F1, the false span: which opened leaves show that a receipt's span is not what its Datanet holds; [`node`] has F3, the block
//! of F5 and the lane of F6, [`rules`] F4 to F6, [`payout`] F7 in each of its modes, [`search`] the first fault of a posted payout, [`challenge`] what only
//! silence proves (F8, F6 by request, F7 withheld), [`withheld`] what to ask of a payout that nobody shows, [`spans`] F2 and F9, [`indexes`] X1 to X5, [`pack`] the evidence
//! as the verifiers read it.
//!
//! Pure: [`prove`] does what the contract does, on the same openings, and chooses the cheapest of its five modes; it refuses a true span with
//! [`FraudError::SpanIsTrue`], so an honest receipt yields no proof and no gas is spent on one. The calldata is `fraud::calldata` (feature `rpc`).
//! Size: receipt (500 B + 40 per span), two text leaves (320 B) and four paths of at most 40 x 32 B: below 8 KB.

#[cfg(feature = "rpc")]
pub mod calldata;
pub mod challenge;
pub mod indexes;
pub mod node;
pub mod pack;
pub mod payout;
pub mod rules;
pub mod search;
pub mod spans;
pub mod withheld;

use serde::{Deserialize, Serialize};
use types::{
    encoding::{DecodeError, Document, Reader},
    id::{Address, Hash32},
    key::{Domains, SignatureError, Signed, Signed65},
    merkle::{Opening, keccak},
    receipt::{Receipt, Span},
    text::{LEAF_STRIDE, WINDOW},
};

/// A leaf with its way to a root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The leaf's bytes.
    #[serde(with = "crate::bytes_hex")]
    pub leaf: Vec<u8>,
    /// Its opening; nothing for a tree without leaves.
    pub opening: Option<Opening>,
}

/// What an accuser opens. Answer: the leaf in whose stride the span starts (or any leaf, for a span beyond the answer's end). Datanet: the leaf of
/// the span's Datanet in the index tree (or any, for a Datanet that is not there). Segment: the one that holds the span's position.
/// Text: the leaf of the segment's text in whose stride the span's source starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Answer leaf under the receipt's answer root.
    pub answer: Opened,
    /// Datanet leaf under the receipt's index root.
    pub datanet: Opened,
    /// Segment leaf under the Datanet's segments root.
    pub segment: Opened,
    /// Text leaf under the segment's text root.
    pub text: Opened,
}

/// Why the span is false, hence what the proof opens. The numbers are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Empty or longer than a span may be.
    Length,
    /// Beyond the answer's end.
    AnswerEnd,
    /// A Datanet the index does not have.
    DatanetIndex,
    /// Beyond its Datanet's end.
    DatanetEnd,
    /// The bytes differ.
    Bytes,
}

impl Mode {
    /// Code in the contract.
    pub const fn code(self) -> u8 {
        match self {
            Self::Length => 0,
            Self::AnswerEnd => 1,
            Self::DatanetIndex => 2,
            Self::DatanetEnd => 3,
            Self::Bytes => 4,
        }
    }
}

/// A proof that a span is false; its openings are those its mode uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FalseSpan {
    /// Why.
    pub mode: Mode,
    /// The receipt's body.
    #[serde(with = "crate::bytes_hex")]
    pub receipt: Vec<u8>,
    /// The node's signature.
    pub signature: Signed65,
    /// Number of the span.
    pub span: u16,
    /// Top of a tree whose head is shown instead of a leaf.
    pub top: Hash32,
    /// Openings.
    pub evidence: Evidence,
}

/// Why there is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FraudError {
    /// The span says the truth.
    #[error("span {0} is true: the answer and the Datanet hold the same bytes there")]
    SpanIsTrue(u16),
    /// No such span.
    #[error("the receipt has {spans} spans, there is no span {span}")]
    NoSuchSpan {
        /// Asked for.
        span: u16,
        /// There are.
        spans: usize,
    },
    /// The node did not sign it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A leaf is not what it should be.
    #[error("the {what} leaf: {error}")]
    Leaf {
        /// Which.
        what: &'static str,
        /// Why.
        error: DecodeError,
    },
    /// An opening that does not lead where it should.
    #[error("the {what} opening leads to {got}, expected root {expected}: the evidence belongs to another version")]
    WrongRoot {
        /// Which.
        what: &'static str,
        /// The root it must lead to.
        expected: Hash32,
        /// Where it leads.
        got: String,
    },
    /// The wrong leaf.
    #[error("the {what} opening shows leaf {got}, the span needs leaf {expected}")]
    WrongLeaf {
        /// Which.
        what: &'static str,
        /// Needed.
        expected: u64,
        /// Shown.
        got: u64,
    },
    /// The segment opened does not hold the position.
    #[error("position {position} lies outside the opened segment ({start} to {end})")]
    OutsideSegment {
        /// The span's.
        position: u64,
        /// First byte.
        start: u64,
        /// One past the last.
        end: u64,
    },
}

/// The part of a Datanet leaf that a proof reads.
struct DatanetLeaf {
    length: u64,
    segments: Hash32,
}

/// The part of a segment leaf that a proof reads.
struct SegmentLeaf {
    text: Hash32,
    start: u64,
    length: u64,
}

/// The proof that span `span` of a receipt is false.
///
/// # Errors
/// [`FraudError::SpanIsTrue`] if it is not; otherwise what is wrong with the evidence.
pub fn prove(domains: &Domains, receipt: &Signed<Receipt>, span: u16, evidence: &Evidence) -> Result<FalseSpan, FraudError> {
    let body = &receipt.document;
    receipt.verify(domains, body.node)?;
    let claimed = body.spans.get(usize::from(span)).ok_or(FraudError::NoSuchSpan { span, spans: body.spans.len() })?;
    let (mode, top, evidence) = falsify(body, span, claimed, evidence)?;
    Ok(FalseSpan { mode, receipt: body.encode(), signature: receipt.signature, span, top, evidence })
}

fn falsify(receipt: &Receipt, number: u16, span: &Span, given: &Evidence) -> Result<(Mode, Hash32, Evidence), FraudError> {
    if span.length == 0 || usize::from(span.length) > WINDOW {
        return Ok((Mode::Length, Hash32::ZERO, Evidence::default()));
    }
    let answer = head(&given.answer);
    require("answer", receipt.answer_root, answer.root)?;
    if u64::from(span.start) + u64::from(span.length) > answer.length {
        let evidence = Evidence { answer: given.answer.clone(), ..Evidence::default() };
        return Ok((Mode::AnswerEnd, answer.top, evidence));
    }
    let index = head(&given.datanet);
    require("index", receipt.index, index.root)?;
    let only_datanet = || Evidence { datanet: given.datanet.clone(), ..Evidence::default() };
    if u64::from(span.datanet) >= index.count {
        return Ok((Mode::DatanetIndex, index.top, only_datanet()));
    }
    require_leaf("Datanet", u64::from(span.datanet), &given.datanet)?;
    let datanet = read_datanet(&given.datanet.leaf)?;
    if span.position.saturating_add(u64::from(span.length)) > datanet.length {
        return Ok((Mode::DatanetEnd, Hash32::ZERO, only_datanet()));
    }
    if bytes_differ(span, &datanet, given)? { Ok((Mode::Bytes, Hash32::ZERO, given.clone())) } else { Err(FraudError::SpanIsTrue(number)) }
}

fn bytes_differ(span: &Span, datanet: &DatanetLeaf, given: &Evidence) -> Result<bool, FraudError> {
    let start = u64::from(span.start);
    require_leaf("answer", start / stride(), &given.answer)?;
    require("segments", datanet.segments, head(&given.segment).root)?;
    let segment = read_segment(&given.segment.leaf)?;
    let end = segment.start.saturating_add(segment.length);
    let offset = span.position.checked_sub(segment.start).filter(|offset| *offset < segment.length);
    let offset = offset.ok_or(FraudError::OutsideSegment { position: span.position, start: segment.start, end })?;
    require("text", segment.text, head(&given.text).root)?;
    require_leaf("text", offset / stride(), &given.text)?;
    let answered = window(answer_text(&given.answer.leaf), start % stride(), span.length);
    let source = window(&given.text.leaf, offset % stride(), span.length);
    Ok(answered.is_none() || answered != source)
}

fn stride() -> u64 {
    u64::try_from(LEAF_STRIDE).expect("64 fits")
}

/// The text inside an answer leaf: after salt 32, running weight 8, word count 1 and words of 7 bytes. Empty if malformed.
fn answer_text(leaf: &[u8]) -> &[u8] {
    let words = leaf.get(40).map_or(0, |count| usize::from(*count));
    leaf.get(41 + 7 * words..).unwrap_or(&[])
}

fn window(text: &[u8], start: u64, length: u16) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    text.get(start..start + usize::from(length))
}

/// What a root binds beside its leaves.
struct Head {
    count: u64,
    length: u64,
    top: Hash32,
    root: Hash32,
}

/// The head of the tree an opened leaf belongs to; the head of an empty tree where nothing is opened.
fn head(opened: &Opened) -> Head {
    let seal = |count: u64, length: u64, top: Hash32| keccak(&[&[3], &count.to_be_bytes(), &length.to_be_bytes(), &top.0]);
    let Some(opening) = &opened.opening else {
        return Head { count: 0, length: 0, top: Hash32::ZERO, root: seal(0, 0, Hash32::ZERO) };
    };
    let mut top = keccak(&[&[0], &opened.leaf]);
    for (level, sibling) in opening.siblings.iter().enumerate() {
        let is_left = level >= 64 || opening.index >> level & 1 == 0;
        top = if is_left { keccak(&[&[1], &top.0, &sibling.0]) } else { keccak(&[&[1], &sibling.0, &top.0]) };
    }
    // `Opening::root` refuses impossible shapes; those lead to no root of ours.
    let root = opening.root(&opened.leaf).unwrap_or(Hash32::ZERO);
    Head { count: opening.leaves, length: opening.byte_length, top, root }
}

fn require(what: &'static str, expected: Hash32, got: Hash32) -> Result<(), FraudError> {
    if expected == got { Ok(()) } else { Err(FraudError::WrongRoot { what, expected, got: got.to_string() }) }
}

fn require_leaf(what: &'static str, expected: u64, opened: &Opened) -> Result<(), FraudError> {
    let got = opened.opening.as_ref().map_or(u64::MAX, |opening| opening.index);
    if got == expected { Ok(()) } else { Err(FraudError::WrongLeaf { what, expected, got }) }
}

fn read_datanet(leaf: &[u8]) -> Result<DatanetLeaf, FraudError> {
    let read = || {
        let mut r = Reader::new(leaf);
        r.asset("asset")?;
        let datanet = DatanetLeaf { length: r.u64("bytes")?, segments: r.hash("segments root")? };
        r.finish().map(|()| datanet)
    };
    read().map_err(|error| FraudError::Leaf { what: "Datanet", error })
}

fn read_segment(leaf: &[u8]) -> Result<SegmentLeaf, FraudError> {
    let read = || {
        let mut r = Reader::new(leaf);
        let text = r.hash("text root")?;
        r.hash("document root")?;
        r.hash("array root")?;
        let (start, length) = (r.u64("start")?, r.u64("length")?);
        r.u64("entries")?;
        r.finish().map(|()| SegmentLeaf { text, start, length })
    };
    read().map_err(|error| FraudError::Leaf { what: "segment", error })
}

/// Who is accused: the node that signed the receipt.
pub const fn accused(receipt: &Signed<Receipt>) -> Address {
    receipt.document.node
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod fixture;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests;
