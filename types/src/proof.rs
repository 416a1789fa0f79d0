//! What proves that a receipt's attribution is false (P7): leaves and the ways to their roots, as plain data.
//!
//! `attribution` finds such proofs, `chain-bridge` packs them for the contract; between them nothing is computed. A proof of two Datanets of a
//! billion bytes is some 4 kB; none is longer than its receipt (54 kB at most) and 12 kB.

use crate::{id::Hash32, key::Signed65, merkle::Opening};

/// A leaf's bytes and its way up; both empty where nothing is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Leaf bytes.
    pub leaf: Vec<u8>,
    /// The way up.
    pub opening: Opening,
}

impl Shown {
    /// A leaf of no tree.
    pub const fn nothing() -> Self {
        Self { leaf: Vec::new(), opening: Opening { leaves: 0, byte_length: 0, index: 0, siblings: Vec::new() } }
    }

    /// Bytes that it takes in evidence, about.
    pub const fn size_bytes(&self) -> usize {
        self.leaf.len() + 32 * self.opening.siblings.len() + 20
    }
}

/// What stands above all leaves of a tree, and what is sealed in with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Leaves under the root.
    pub leaves: u64,
    /// Byte length the root states.
    pub byte_length: u64,
    /// Digest above all leaves.
    pub top: Hash32,
}

/// From an index root to the segment that holds a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The Datanet's leaf, under the index root.
    pub datanet: Shown,
    /// The segment's leaf, under the Datanet's segments root.
    pub segment: Shown,
}

/// A segment's text at a place, and what shows that a word begins there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The text leaf in whose stride the place lies.
    pub text: Shown,
    /// The leaf before it, where only that shows the character before the place.
    pub before: Option<Shown>,
}

/// A segment ahead of another, with the number of its documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Its leaf, under the Datanet's segments root.
    pub segment: Shown,
    /// Head of its documents' root.
    pub documents: Head,
}

/// A document's row, and what tells its number in the Datanet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The row, under its segment's documents root.
    pub row: Shown,
    /// The segments ahead of its own, from the first.
    pub ahead: Vec<Ahead>,
}

/// F2: an eligible run of the answer stands in a Datanet, and every span of the receipt that overlaps it ranks after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omission {
    /// The 45 bytes of the receipt's parameters.
    pub parameters: Vec<u8>,
    /// First byte of the run in the answer.
    pub start: u32,
    /// Its bytes, at most a window.
    pub length: u16,
    /// The answer's leaves in whose strides it begins and ends, and as many between as show m words of it; ascending, at most five.
    pub answer: Vec<Shown>,
    /// Number of the Datanet that holds it.
    pub datanet: u8,
    /// Where, in the Datanet.
    pub position: u64,
    /// That place under the index root.
    pub source: Source,
    /// The text there.
    pub passage: Passage,
}

/// F9, mode 0: a span pays another account than the document it names, or the first of that one's cluster, does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payee {
    /// Number of the span.
    pub span: u16,
    /// Its place under the index root.
    pub source: Source,
    /// The document that holds the place.
    pub row: Row,
    /// Segment and row of the first document of the cluster; nothing where the document leads its own.
    pub head: Option<(Shown, Row)>,
}

/// F9, mode 1: a span's bytes have an earlier holder than the one it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Number of the span.
    pub span: u16,
    /// The answer's leaf in whose stride the span begins.
    pub answer: Shown,
    /// The named place under the index root.
    pub named: Source,
    /// The document that holds it.
    pub named_row: Shown,
    /// Number of the earlier holder's Datanet.
    pub datanet: u8,
    /// Where, in that Datanet.
    pub position: u64,
    /// That place under the index root.
    pub source: Source,
    /// The earlier document.
    pub row: Shown,
    /// The text there.
    pub passage: Passage,
}

/// What is wrong, with what shows it.
#[expect(clippy::large_enum_variant, reason = "a receipt has a handful")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// F2.
    Omission(Omission),
    /// F9, mode 0.
    Payee(Payee),
    /// F9, mode 1.
    Holder(Holder),
}

impl Claim {
    /// Its name in P7.
    pub const fn fault(&self) -> &'static str {
        match self {
            Self::Omission(_) => "F2",
            Self::Payee(_) | Self::Holder(_) => "F9",
        }
    }

    /// The span that is void once this is proven; nothing where the receipt's division stands.
    pub const fn voids(&self) -> Option<u16> {
        match self {
            Self::Omission(_) => None,
            Self::Payee(Payee { span, .. }) | Self::Holder(Holder { span, .. }) => Some(*span),
        }
    }

    /// Bytes of its evidence, about: most of what it costs.
    pub fn size_bytes(&self) -> usize {
        self.shown().iter().map(|shown| shown.size_bytes()).sum()
    }

    /// Everything that is opened.
    fn shown(&self) -> Vec<&Shown> {
        match self {
            Self::Omission(Omission { answer, source, passage, .. }) => [answer.iter().collect(), source.shown(), passage.shown()].concat(),
            Self::Payee(Payee { source, row, head, .. }) => {
                let head = head.iter().flat_map(|(segment, row)| [vec![segment], row.shown()].concat());
                [source.shown(), row.shown(), head.collect()].concat()
            }
            Self::Holder(Holder { answer, named, named_row, source, row, passage, .. }) => {
                [vec![answer, named_row, row], named.shown(), source.shown(), passage.shown()].concat()
            }
        }
    }
}

impl Source {
    fn shown(&self) -> Vec<&Shown> {
        vec![&self.datanet, &self.segment]
    }
}

impl Passage {
    fn shown(&self) -> Vec<&Shown> {
        std::iter::once(&self.text).chain(&self.before).collect()
    }
}

impl Row {
    fn shown(&self) -> Vec<&Shown> {
        std::iter::once(&self.row).chain(self.ahead.iter().map(|ahead| &ahead.segment)).collect()
    }
}

/// A claim against a receipt, with the receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The receipt's canonical body.
    pub receipt: Vec<u8>,
    /// The node's signature over it.
    pub signature: Signed65,
    /// What is wrong with it.
    pub claim: Claim,
}
