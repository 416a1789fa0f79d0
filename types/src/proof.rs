//! What proves that a receipt's attribution is false (P7): leaves and the ways to their roots, as plain data.
//!
//! `attribution` finds such proofs, `chain-bridge` packs them for the contract; between them nothing is computed. A proof of two Datanets of a
//! billion bytes is some 4 kB; none is longer than its receipt (54 kB at most) and 12 kB, but for that of W, which opens up to 120 leaves of the answer, 100 kB.

mod index;

pub use index::{Between, Gap, IndexClaim, Passed, SegmentFlaw};

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

/// A text at a place, a segment's or one of answer and prompt, and what shows that a word begins or ends there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The leaf in whose stride the place lies.
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

/// F1 and, of its weight, F10: a span that may not be there, or weighs something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ineligible {
    /// Number of the span.
    pub span: u16,
    /// What it breaks.
    pub rule: Rule,
}

/// What a span breaks, with what shows it. Answer's leaves are in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// No word of the answer starts where it starts: the leaf there.
    Start(Shown),
    /// No word of the answer ends where it ends.
    End {
        /// How many strides behind the span's first the first leaf shown stands.
        skipped: u8,
        /// From the leaf of the last word that starts within the span to that of the span's last byte.
        answer: Vec<Shown>,
    },
    /// No word of the document begins at its position.
    Document {
        /// The position under the index root.
        source: Source,
        /// The text there.
        passage: Passage,
    },
    /// It reaches over a sentence's end: the leaf of its first byte.
    Delimiter(Shown),
    /// It has too few words.
    FewWords {
        /// The 45 bytes of the receipt's parameters.
        parameters: Vec<u8>,
        /// From the leaf of its first byte to that of its last.
        answer: Vec<Shown>,
    },
    /// It weighs too little, as it says itself: the 45 bytes of the receipt's parameters.
    Light(Vec<u8>),
    /// The mask of this number lies over a part of it.
    Masked(u16),
    /// The span of this number lies over a part of it and ranks before it.
    Overlap(u16),
    /// Its weight is not that of its words: the leaves of its first byte and of its last, where they are two.
    Weight(Vec<Shown>),
    /// A run that answer and prompt share lies over a part of it.
    Copied(SharedRun),
    /// The span of this smaller number has the same bytes, weight and payee.
    Twin(u16),
}

impl Rule {
    /// Its number in P7.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Start(_) => 0,
            Self::End { .. } => 1,
            Self::Document { .. } => 2,
            Self::Delimiter(_) => 3,
            Self::FewWords { .. } => 4,
            Self::Light(_) => 5,
            Self::Masked(_) => 6,
            Self::Overlap(_) => 7,
            Self::Weight(_) => 8,
            Self::Copied(_) => 9,
            Self::Twin(_) => 10,
        }
    }

    fn shown(&self) -> Vec<&Shown> {
        match self {
            Self::Start(leaf) | Self::Delimiter(leaf) => vec![leaf],
            Self::End { answer, .. } | Self::FewWords { answer, .. } | Self::Weight(answer) => answer.iter().collect(),
            Self::Document { source, passage } => [source.shown(), passage.shown()].concat(),
            Self::Copied(run) => run.shown(),
            Self::Light(_) | Self::Masked(_) | Self::Overlap(_) | Self::Twin(_) => Vec::new(),
        }
    }

    const fn own_bytes(&self) -> usize {
        match self {
            Self::FewWords { parameters, .. } | Self::Light(parameters) | Self::Copied(SharedRun { parameters, .. }) => parameters.len(),
            _ => 2,
        }
    }
}

/// F10, mode 3: W is not the weight of the words that no mask covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Number of the answer's last leaf.
    pub last: u32,
    /// Of each stretch of masks that overlap or touch the leaf of its first byte and that of its last, then the answer's last; each left out that was the one before.
    pub answer: Vec<Shown>,
}

/// F10, modes 0 to 2, 4 and 5: a leaf of the answer says what is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FalseLeaf {
    /// Its number.
    pub number: u32,
    /// What is not so.
    pub why: Leaf,
}

/// What is false of an answer's leaf, with what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// The weight of a word is not the table's.
    Row {
        /// The 45 bytes of the receipt's parameters.
        parameters: Vec<u8>,
        /// The leaf.
        answer: Shown,
        /// Number of the word's row in it.
        row: u8,
        /// What the word table has for the word.
        table: TableEntry,
    },
    /// It is not told rightly what all words before it weigh: the leaf, and the one before it unless it is the first.
    Running(Vec<Shown>),
    /// A word has no row, or a row no word, or another length.
    Bounds {
        /// Where, in the leaf's stride.
        place: u8,
        /// The leaf.
        text: Passage,
    },
    /// It and the next one show different texts: both.
    Texts(Vec<Shown>),
    /// It is none.
    Form(Shown),
}

/// Where a word stands in the word table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableEntry {
    /// In this row.
    Known(Shown),
    /// Between these two, which follow each other.
    Between(Shown, Shown),
    /// Before this one, the first.
    BeforeFirst(Shown),
    /// Behind this one, the last.
    BehindLast(Shown),
    /// Nowhere: no row holds more than 255 bytes.
    TooLong,
}

impl TableEntry {
    /// Its number in P7.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Known(_) => 0,
            Self::Between(..) => 1,
            Self::BeforeFirst(_) => 2,
            Self::BehindLast(_) => 3,
            Self::TooLong => 4,
        }
    }

    fn shown(&self) -> Vec<&Shown> {
        match self {
            Self::Known(row) | Self::BeforeFirst(row) | Self::BehindLast(row) => vec![row],
            Self::Between(row, next) => vec![row, next],
            Self::TooLong => Vec::new(),
        }
    }
}

impl Leaf {
    /// Its number in P7.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Row { .. } => 0,
            Self::Running(_) => 1,
            Self::Bounds { .. } => 2,
            Self::Texts(_) => 4,
            Self::Form(_) => 5,
        }
    }

    fn shown(&self) -> Vec<&Shown> {
        match self {
            Self::Row { answer, table, .. } => std::iter::once(answer).chain(table.shown()).collect(),
            Self::Running(answer) | Self::Texts(answer) => answer.iter().collect(),
            Self::Bounds { text, .. } => text.shown(),
            Self::Form(answer) => vec![answer],
        }
    }
}

/// F11: a mask of the receipt is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FalseMask {
    /// Number of the mask.
    pub mask: u16,
    /// Why.
    pub flaw: Flaw,
}

/// Why a mask is none, with what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// It is empty, or not behind the mask before it.
    Form,
    /// It ends beyond the answer.
    AnswerEnd(Head),
    /// Its copy ends beyond the prompt.
    PromptEnd(Head),
    /// A byte differs.
    Bytes {
        /// Which, from the mask's first.
        at: u32,
        /// The answer's leaf in whose stride it stands.
        answer: Shown,
        /// The prompt's.
        prompt: Shown,
    },
    /// An edge is no word's.
    Bounds {
        /// 0: the mask's start, 1: its end, 2: its copy's start, 3: its copy's end.
        edge: u8,
        /// The text there.
        text: Passage,
    },
    /// It has too few words.
    FewWords {
        /// The 45 bytes of the receipt's parameters.
        parameters: Vec<u8>,
        /// From the leaf of its first byte to that of its last.
        answer: Vec<Shown>,
    },
    /// What stands beside it stands beside its copy too.
    Longer {
        /// Whether it stands before both.
        is_before: bool,
        /// How many bytes of it.
        length: u16,
        /// They, in the answer.
        answer: Passage,
        /// They, in the prompt.
        prompt: Passage,
    },
}

impl Flaw {
    /// Its number in P7.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Form => 0,
            Self::AnswerEnd(_) | Self::PromptEnd(_) => 1,
            Self::Bytes { .. } => 2,
            Self::Bounds { .. } => 3,
            Self::FewWords { .. } => 4,
            Self::Longer { .. } => 5,
        }
    }

    fn shown(&self) -> Vec<&Shown> {
        match self {
            Self::Form | Self::AnswerEnd(_) | Self::PromptEnd(_) => Vec::new(),
            Self::Bytes { answer, prompt, .. } => vec![answer, prompt],
            Self::Bounds { text, .. } => text.shown(),
            Self::FewWords { answer, .. } => answer.iter().collect(),
            Self::Longer { answer, prompt, .. } => [answer.shown(), prompt.shown()].concat(),
        }
    }
}

/// A run of m whole words or more that answer and prompt share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedRun {
    /// The 45 bytes of the receipt's parameters.
    pub parameters: Vec<u8>,
    /// First byte of the run in the answer.
    pub start: u32,
    /// Its bytes.
    pub length: u16,
    /// Its first byte in the prompt.
    pub prompt_start: u32,
    /// It, in the answer.
    pub answer: Passage,
    /// It, in the prompt.
    pub prompt: Passage,
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
    /// F1, F10.
    Ineligible(Ineligible),
    /// F10, mode 3.
    Total(Total),
    /// F10, the other modes.
    FalseLeaf(FalseLeaf),
    /// F11, modes 0 to 5.
    FalseMask(FalseMask),
    /// F11, mode 6: it lies in no mask.
    MissingMask(SharedRun),
}

impl Claim {
    /// Its name in P7.
    pub const fn fault(&self) -> &'static str {
        match self {
            Self::Omission(_) => "F2",
            Self::Payee(_) | Self::Holder(_) => "F9",
            Self::Ineligible(Ineligible { rule: Rule::Weight(_), .. }) | Self::Total(_) | Self::FalseLeaf(_) => "F10",
            Self::Ineligible(_) => "F1",
            Self::FalseMask(_) | Self::MissingMask(_) => "F11",
        }
    }

    /// The span that is void once this is proven; nothing where the receipt's division stands: also where one of two is false, and which of them is not told.
    pub const fn voids(&self) -> Option<u16> {
        match self {
            Self::Omission(_)
            | Self::Total(_)
            | Self::FalseLeaf(_)
            | Self::FalseMask(_)
            | Self::MissingMask(_)
            | Self::Ineligible(Ineligible { rule: Rule::Masked(_) | Rule::Overlap(_), .. }) => None,
            Self::Payee(Payee { span, .. }) | Self::Holder(Holder { span, .. }) | Self::Ineligible(Ineligible { span, .. }) => Some(*span),
        }
    }

    /// Bytes of its evidence, about: most of what it costs.
    pub fn size_bytes(&self) -> usize {
        let own = match self {
            Self::Ineligible(Ineligible { rule, .. }) => rule.own_bytes(),
            _ => 0,
        };
        own + self.shown().iter().map(|shown| shown.size_bytes()).sum::<usize>()
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
            Self::Ineligible(Ineligible { rule, .. }) => rule.shown(),
            Self::Total(Total { answer, .. }) => answer.iter().collect(),
            Self::FalseLeaf(FalseLeaf { why, .. }) => why.shown(),
            Self::FalseMask(FalseMask { flaw, .. }) => flaw.shown(),
            Self::MissingMask(run) => run.shown(),
        }
    }
}

impl SharedRun {
    fn shown(&self) -> Vec<&Shown> {
        [self.answer.shown(), self.prompt.shown()].concat()
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
