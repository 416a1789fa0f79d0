//! The form of a segment, the same in memory and in a file: a header, then nine sections whose places follow from four counts.
//!
//! | section | bytes | per byte of prose, a word start every 5.5 |
//! |---|---|---|
//! | text | the text, 256 zeros | 1 |
//! | contributions | 76 each: root, payee, block, ordinal, first byte, bytes, first row | less than 0.01 |
//! | documents | first byte of each row, 4 each | 0.002 |
//! | text tree | 32 for every 1,024 of text, and as much above | 0.0625 |
//! | array | 4 for each word start | 0.727 |
//! | marks | 1.5 for every fourth entry | 0.068 |
//! | tops | 18 for every 1,024th entry | 0.003 |
//! | minima | 4 for every 64th entry, a table over every 4,096th | 0.012 |
//! | array tree | 32 for every 240 entries, and as much above | 0.048 |
//!
//! 1.9 in all. A segment of a private Datanet has the salts of its contributions behind their records, 32 bytes each. Numbers are little-endian. Each section begins at a multiple of 64, and its digest counts what fills it up. Nothing in a header
//! says where a section lies or how long a file is: it could only say so wrongly. Header: magic, mode (0: plain, 1: salted), four counts, text root, array
//! root, identifier, nine BLAKE3 digests, zeros, and BLAKE3 of all that. The last byte of the magic is the form's number: a file of another form is built again.

use std::ops::Range;

use types::{
    id::{Address, Hash32},
    merkle::{crown_len, keccak},
    text::{LEAF_STRIDE, WINDOW},
};

use super::{
    ARRAY_LEAF_ENTRIES,
    marks::{CELL_BYTES, TOP_BYTES, cells_len, tops_len},
    minimum::minima_len,
    salted::SALT_BYTES,
    segment::as_u64,
};

/// Bytes before the first section.
pub(crate) const HEADER_BYTES: usize = 4_096;
/// Zeros behind the text, so that a whole window can be read anywhere.
pub(crate) const PADDING: usize = WINDOW;
/// What sections begin at multiples of.
const ALIGNMENT: usize = 64;
/// Bytes of one contribution's record.
pub(crate) const CONTRIBUTION_BYTES: usize = 76;
/// Entries from one array leaf to the next: one less than a leaf holds, so that neighbours always stand in one.
pub(crate) const ARRAY_STRIDE: usize = ARRAY_LEAF_ENTRIES - 1;
/// First bytes of every segment, and of one of this form.
const KIND: &[u8; 7] = b"TRIBSEG";
const MAGIC: &[u8; 8] = b"TRIBSEG\x02";
const DIGEST_BYTES: usize = 32;
/// Bytes of the header that say something: magic, mode, counts, two roots, the identifier, digests.
const SAID_BYTES: usize = 8 + 8 + 4 * 8 + 3 * DIGEST_BYTES + Section::ALL.len() * DIGEST_BYTES;

/// How many sections there are.
pub(crate) const SECTIONS: usize = 9;

/// A part of a segment's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Contributions, zero-filled between, and zeros behind.
    Text,
    /// Whose they are.
    Contributions,
    /// Where rows begin.
    Documents,
    /// Upper levels of the tree of text leaves.
    TextTree,
    /// Word starts in their order.
    Array,
    /// In which bit every fourth window differs from the fourth before it.
    Marks,
    /// What every 1,024th window begins with, and such a mark.
    Tops,
    /// Smallest entries of blocks.
    Minima,
    /// Upper levels of the tree of array leaves.
    ArrayTree,
}

impl Section {
    pub(crate) const ALL: [Self; SECTIONS] = [
        Self::Text,
        Self::Contributions,
        Self::Documents,
        Self::TextTree,
        Self::Array,
        Self::Marks,
        Self::Tops,
        Self::Minima,
        Self::ArrayTree,
    ];

    const fn place(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Contributions => "contributions",
            Self::Documents => "documents",
            Self::TextTree => "text tree",
            Self::Array => "array",
            Self::Marks => "marks",
            Self::Tops => "tops",
            Self::Minima => "minima",
            Self::ArrayTree => "array tree",
        })
    }
}

/// Why bytes are no segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Cut off, or something follows.
    #[error("the segment has {got} bytes, its header makes it {expected}: it was cut off or added to; build it again")]
    Length {
        /// Bytes there must be.
        expected: u64,
        /// Bytes there are.
        got: u64,
    },
    /// Not a header of this form.
    #[error("no segment of this form ({0}): build it again")]
    Header(&'static str),
    /// Other bytes than were written.
    #[error("section {name} of the segment is damaged: build it again")]
    Section {
        /// Which.
        name: Section,
    },
    /// The digests of a tree lead elsewhere.
    #[error("section {name} of the segment leads to root {got}, the header says {expected}: build it again")]
    Root {
        /// Which tree.
        name: Section,
        /// The header's.
        expected: Hash32,
        /// What the tree has.
        got: Hash32,
    },
    /// A segment of other contributions.
    #[error("the segment is of other contributions (identifier {got}, wanted is {expected}): build the one that is wanted")]
    Foreign {
        /// What was asked for.
        expected: SegmentId,
        /// What this is.
        got: SegmentId,
    },
}

/// What a segment is of: equal for equal contributions in equal order, whoever builds it, and known before it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId(pub Hash32);

impl std::fmt::Display for SegmentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A contribution without its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// L2 block of the commitment.
    pub block: u64,
    /// Its place among that block's commitments.
    pub ordinal: u32,
    /// The registered root of its text.
    pub text_root: Hash32,
    /// Who is paid; nobody where it was erased.
    pub contributor: Address,
    /// Bytes of text, none where it was erased.
    pub bytes: u64,
}

impl SegmentId {
    /// The identifier of the segment of these contributions, in order of priority.
    pub fn of(labels: impl IntoIterator<Item = Label>) -> Self {
        let fold = |id: Hash32, label: Label| {
            let Label { block, ordinal, text_root, contributor, bytes } = label;
            keccak(&[&id.0, &block.to_be_bytes(), &ordinal.to_be_bytes(), &text_root.0, &contributor.0, &bytes.to_be_bytes()])
        };
        Self(labels.into_iter().fold(keccak(&[b"tributary/segment/v1"]), fold))
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        format!("S{}.seg", hex::encode(&self.0.0[..8]))
    }
}

/// How much a segment holds, from which the places of its sections follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) text: usize,
    pub(crate) contributions: usize,
    pub(crate) documents: usize,
    pub(crate) entries: usize,
    /// Whether leaves are salted: each contribution has a salt then.
    pub(crate) is_salted: bool,
}

impl Counts {
    /// Bytes of the contributions' records, what stands behind them not counted.
    pub(crate) const fn record_bytes(&self) -> usize {
        self.contributions * CONTRIBUTION_BYTES
    }

    pub(crate) const fn text_leaves(&self) -> usize {
        self.text.div_ceil(LEAF_STRIDE)
    }

    pub(crate) const fn array_leaves(&self) -> usize {
        self.entries.div_ceil(ARRAY_STRIDE)
    }

    /// Bytes of all array leaves: five an entry, and each leaf but the last also holds the next one's first.
    pub(crate) fn array_leaf_bytes(&self) -> u64 {
        5 * as_u64(self.entries + self.array_leaves().saturating_sub(1))
    }

    /// Bytes of a section without what fills it up.
    pub(crate) fn bytes(&self, section: Section) -> usize {
        match section {
            Section::Text => self.text + PADDING,
            Section::Contributions => self.record_bytes() + if self.is_salted { self.contributions * SALT_BYTES } else { 0 },
            Section::Documents => self.documents * 4,
            Section::TextTree => crown_len(as_u64(self.text_leaves())) * DIGEST_BYTES,
            Section::Array => self.entries * 4,
            Section::Marks => cells_len(self.entries) * CELL_BYTES,
            Section::Tops => tops_len(self.entries) * TOP_BYTES,
            Section::Minima => minima_len(self.entries) * 4,
            Section::ArrayTree => crown_len(as_u64(self.array_leaves())) * DIGEST_BYTES,
        }
    }

    /// Where a section lies, what fills it up not counted.
    pub(crate) fn range(&self, section: Section) -> Range<usize> {
        let before = Section::ALL[..section.place()].iter();
        let start = before.fold(HEADER_BYTES, |at, section| at + self.bytes(*section).next_multiple_of(ALIGNMENT));
        start..start + self.bytes(section)
    }

    /// Where a section lies with what fills it up: what its digest counts.
    pub(crate) fn filled(&self, section: Section) -> Range<usize> {
        let range = self.range(section);
        range.start..range.end.next_multiple_of(ALIGNMENT)
    }

    /// Bytes of the whole segment.
    pub(crate) fn total(&self) -> usize {
        self.filled(Section::ArrayTree).end
    }
}

/// What the first bytes of a segment say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) counts: Counts,
    pub(crate) text_root: Hash32,
    pub(crate) array_root: Hash32,
    pub(crate) id: SegmentId,
    /// BLAKE3 of each section.
    pub(crate) digests: [[u8; DIGEST_BYTES]; SECTIONS],
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Counts { text, contributions, documents, entries, is_salted } = self.counts;
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend(MAGIC);
        out.extend(u64::from(is_salted).to_le_bytes());
        out.extend([text, contributions, documents, entries].iter().flat_map(|count| as_u64(*count).to_le_bytes()));
        out.extend([self.text_root, self.array_root, self.id.0].iter().flat_map(|hash| hash.0));
        out.extend(self.digests.as_flattened());
        out.resize(HEADER_BYTES - DIGEST_BYTES, 0);
        let sum = blake3::hash(&out);
        out.extend(sum.as_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let header =
            bytes.get(..HEADER_BYTES).ok_or_else(|| FormatError::Length { expected: as_u64(HEADER_BYTES), got: as_u64(bytes.len()) })?;
        if !header.starts_with(MAGIC) {
            let is_other = header.starts_with(KIND);
            return Err(FormatError::Header(if is_other { "it is of another version's form" } else { "it does not begin as one" }));
        }
        let (said, sum) = header.split_at(HEADER_BYTES - DIGEST_BYTES);
        if blake3::hash(said).as_bytes() != sum {
            return Err(FormatError::Header("its header is damaged"));
        }
        let is_salted = match said[8..16] {
            [0, 0, 0, 0, 0, 0, 0, 0] => false,
            [1, 0, 0, 0, 0, 0, 0, 0] => true,
            _ => return Err(FormatError::Header("its mode is unknown")),
        };
        if said[SAID_BYTES..].iter().any(|byte| *byte != 0) {
            return Err(FormatError::Header("its mode is unknown"));
        }
        let hash = |at: usize| {
            let mut hash = [0; DIGEST_BYTES];
            hash.copy_from_slice(&said[at..at + DIGEST_BYTES]);
            hash
        };
        let count = |place: usize| {
            let number = u64::from_le_bytes(*said[16 + 8 * place..].first_chunk().expect("the header was cut to its length"));
            // What a segment may hold at most: more would not fit its offsets.
            u32::try_from(number)
                .ok()
                .and_then(|number| usize::try_from(number).ok())
                .ok_or(FormatError::Header("its counts are too large"))
        };
        let counts = Counts { text: count(0)?, contributions: count(1)?, documents: count(2)?, entries: count(3)?, is_salted };
        let roots = 16 + 4 * 8;
        Ok(Self {
            counts,
            text_root: Hash32(hash(roots)),
            array_root: Hash32(hash(roots + DIGEST_BYTES)),
            id: SegmentId(Hash32(hash(roots + 2 * DIGEST_BYTES))),
            digests: std::array::from_fn(|place| hash(roots + (3 + place) * DIGEST_BYTES)),
        })
    }

    pub(crate) const fn digest(&self, section: Section) -> [u8; DIGEST_BYTES] {
        self.digests[section.place()]
    }
}
