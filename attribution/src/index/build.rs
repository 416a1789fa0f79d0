//! A segment built in memory: contributions laid out one after the other, word starts sorted, and what both commit to.
//!
//! Beside the segment itself it takes 16 bytes for each word start while they are sorted: three bytes per byte of prose.

use std::{convert::Infallible, ops::Range};

use types::{
    id::{Address, Hash32},
    merkle::{self, Crown, Growing},
    text::{self, LEAF_STRIDE, WINDOW, leaf_count, leaf_range, salted_digests},
};

use super::{
    array::Array,
    bytes::Bytes,
    format::{ARRAY_STRIDE, Counts, HEADER_BYTES, Header, Label, PADDING, SECTIONS, Section, SegmentId},
    marks::{MARK_STRIDE, Marking},
    minimum::Minima,
    order::{as_index, sorted},
    rows::Contribution,
    salted,
    segment::{SEGMENT_BYTES_MAX, Segment, as_u64},
};

/// Leaves hashed at a time: as many as fill the lanes many times, and no more memory.
const LEAVES_AT_ONCE: usize = 4_096;

/// A contribution as the registry accepted it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Who is paid.
    pub contributor: Address,
    /// L2 block of the commitment.
    pub block: u64,
    /// Its place among that block's commitments.
    pub ordinal: u32,
    /// The registered root of `text`.
    pub text_root: Hash32,
    /// Its documents, each followed by a zero byte.
    pub text: &'a [u8],
}

/// A contribution that was erased before the version it would stand in was published: its root and its place in the order stay, its text is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// L2 block of the commitment.
    pub block: u64,
    /// Its place among that block's commitments.
    pub ordinal: u32,
    /// The registered root of the text that is gone.
    pub text_root: Hash32,
}

/// What stands in a segment, in order of priority.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// A contribution.
    Text(Source<'a>),
    /// A contribution to a private Datanet, with the salt of its leaves: the root that it registered is over salted ones.
    Salted(Source<'a>, Hash32),
    /// One that was erased: a row of no bytes and no payee, in which no span can lie.
    Erased(Tombstone),
}

impl<'a> Entry<'a> {
    /// The contribution, and the salt of its leaves if there is one; nothing of one that was erased.
    const fn source(&self) -> Option<(&Source<'a>, Option<Hash32>)> {
        match self {
            Self::Text(source) => Some((source, None)),
            Self::Salted(source, salt) => Some((source, Some(*salt))),
            Self::Erased(_) => None,
        }
    }

    const fn order(&self) -> (u64, u32) {
        match self {
            Self::Text(source) | Self::Salted(source, _) => (source.block, source.ordinal),
            Self::Erased(tombstone) => (tombstone.block, tombstone.ordinal),
        }
    }

    const fn text(&self) -> &[u8] {
        match self {
            Self::Text(source) | Self::Salted(source, _) => source.text,
            Self::Erased(_) => &[],
        }
    }

    /// What it is without its text: of all of a segment's they make its [`SegmentId`].
    pub fn label(&self) -> Label {
        let bytes = as_u64(self.text().len());
        match *self {
            Self::Text(Source { contributor, block, ordinal, text_root, .. })
            | Self::Salted(Source { contributor, block, ordinal, text_root, .. }, _) => {
                Label { block, ordinal, text_root, contributor, bytes }
            }
            Self::Erased(Tombstone { block, ordinal, text_root }) => Label { block, ordinal, text_root, contributor: Address::ZERO, bytes },
        }
    }
}

/// Why contributions do not make a segment. `source` is the number of the contribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Priorities must rise.
    #[error("contribution {source_number} was committed before the one ahead of it: sort them by block and ordinal")]
    Order {
        /// Which contribution.
        source_number: usize,
    },
    /// Not the text that was registered.
    #[error("contribution {source_number} has text root {got}, registered is {expected}: fetch its text again")]
    TextRoot {
        /// Which contribution.
        source_number: usize,
        /// Root of the text given.
        got: Hash32,
        /// Root registered.
        expected: Hash32,
    },
    /// Not documents, each followed by a zero byte.
    #[error(
        "contribution {source_number} is no contribution text ({reason}): it must be canonical documents, each followed by one zero byte"
    )]
    Documents {
        /// Which contribution.
        source_number: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Some leaves are salted and others are not: no Datanet is private in part.
    #[error("contribution {source_number} has {}, those ahead of it have {}: a Datanet is private or it is not", salts(*is_salted), salts(!*is_salted))]
    Mixed {
        /// Which contribution.
        source_number: usize,
        /// Whether it has a salt.
        is_salted: bool,
    },
    /// Too much text.
    #[error("the segment would hold {got} bytes, at most {SEGMENT_BYTES_MAX} fit: split the contributions over several segments")]
    TooLong {
        /// Bytes it would hold.
        got: usize,
    },
}

const fn salts(is_salted: bool) -> &'static str {
    if is_salted { "salted leaves" } else { "plain leaves" }
}

/// What is known of a segment's contributions while they are laid out, all but their text and its words.
#[derive(Debug, Default)]
pub(crate) struct Table {
    leaves: Growing,
    contributions: Vec<u8>,
    documents: Vec<u8>,
    labels: Vec<Label>,
    /// Salts by contribution, zero where there is none.
    salts: Vec<Hash32>,
    /// Whether the texts have salts; nothing as long as there is no text.
    is_salted: Option<bool>,
    /// Priority of the last contribution.
    last: Option<(u64, u32)>,
    /// Bytes of text, up to the last contribution's end.
    text: usize,
}

/// Does two things, at once or one after the other.
pub(crate) type Both<'a> = &'a dyn Fn(&mut (dyn FnMut() + Send), &mut dyn FnMut());

/// One after the other.
pub(crate) fn in_turn(first: &mut (dyn FnMut() + Send), second: &mut dyn FnMut()) {
    first();
    second();
}

/// What laying out a contribution came to.
pub(crate) struct Placed {
    /// First byte of its text in the segment: zeros fill up what is before.
    pub(crate) start: usize,
}

impl Table {
    /// Checks a contribution and gives it its place; `word` is told where each word starts, ascending. It is hashed by the first of `both`, and
    /// read by the second.
    pub(crate) fn add(&mut self, entry: &Entry<'_>, both: Both<'_>, mut word: impl FnMut(u32)) -> Result<Placed, BuildError> {
        let source_number = self.labels.len();
        if self.last.is_some_and(|last| last >= entry.order()) {
            return Err(BuildError::Order { source_number });
        }
        self.last = Some(entry.order());
        let (label, text) = (entry.label(), entry.text());
        let start = self.text.next_multiple_of(LEAF_STRIDE);
        let end = start.saturating_add(text.len());
        if end > SEGMENT_BYTES_MAX {
            return Err(BuildError::TooLong { got: end });
        }
        let first_row = self.document_count();
        if let Some((source, salt)) = entry.source() {
            let is_salted = salt.is_some();
            if *self.is_salted.get_or_insert(is_salted) != is_salted {
                return Err(BuildError::Mixed { source_number, is_salted });
            }
            let Self { leaves, documents, .. } = self;
            let (mut hashed, mut laid) = (Ok(()), Ok(()));
            both(&mut || hashed = hash(leaves, source_number, source, salt), &mut || {
                laid = add_documents(documents, source_number, source.text, start, &mut word);
            });
            hashed.and(laid)?;
            self.text = end;
        } else {
            self.documents.extend(offset(start).to_le_bytes());
        }
        let Label { block, ordinal, text_root, contributor: payee, .. } = label;
        let (start_offset, bytes, first_row) = (offset(start), offset(text.len()), offset(first_row));
        let contribution = Contribution { text_root, payee, block, ordinal, start: start_offset, bytes, first_row };
        self.contributions.extend(contribution.encode());
        self.labels.push(label);
        self.salts.push(entry.source().and_then(|(_, salt)| salt).unwrap_or(Hash32::ZERO));
        Ok(Placed { start })
    }

    fn document_count(&self) -> usize {
        self.documents.len() / 4
    }

    /// What it comes to with so many word starts: counts, the tree of text leaves, the identifier, and two sections.
    pub(crate) fn finish(mut self, entries: usize) -> Laid {
        let is_salted = self.is_salted == Some(true);
        let counts = Counts { text: self.text, contributions: self.labels.len(), documents: self.document_count(), entries, is_salted };
        if is_salted {
            self.contributions.extend(self.salts.iter().flat_map(|salt| salt.0));
        }
        Laid {
            counts,
            id: SegmentId::of(self.labels),
            text_tree: self.leaves.finish(as_u64(self.text)),
            contributions: self.contributions,
            documents: self.documents,
            array_salt: is_salted.then(|| salted::array_salt(&self.salts)),
        }
    }
}

/// Folds a contribution's leaves into the segment's tree, and into its own, which must have the registered root.
fn hash(tree: &mut Growing, source_number: usize, source: &Source<'_>, salt: Option<Hash32>) -> Result<(), BuildError> {
    let (mut own, count, bytes) = (Growing::default(), leaf_count(source.text.len()), source.text.len());
    for first in (0..count).step_by(LEAVES_AT_ONCE) {
        let leaves = first..(first + LEAVES_AT_ONCE).min(count);
        let digests = match salt {
            Some(salt) => salted_digests(source.text, salt, leaves),
            None => merkle::leaf_digests(leaves.map(|leaf| &source.text[leaf_range(leaf, bytes)])),
        };
        own.extend(&digests);
        tree.extend(&digests);
    }
    let got = own.finish(as_u64(source.text.len())).root();
    if got == source.text_root { Ok(()) } else { Err(BuildError::TextRoot { source_number, got, expected: source.text_root }) }
}

/// Notes where the documents of a contribution that starts at `start` begin, and their words.
fn add_documents(
    starts: &mut Vec<u8>,
    source_number: usize,
    text: &[u8],
    start: usize,
    word: &mut impl FnMut(u32),
) -> Result<(), BuildError> {
    let refuse = |reason| BuildError::Documents { source_number, reason };
    let text = std::str::from_utf8(text).map_err(|_| refuse("it is not UTF-8"))?;
    let documents = text.strip_suffix('\0').ok_or_else(|| refuse("it does not end with a zero byte"))?;
    let mut at = start;
    for document in documents.split('\0') {
        if document.is_empty() {
            return Err(refuse("it holds an empty document"));
        }
        starts.extend(offset(at).to_le_bytes());
        text::word_starts(document).for_each(|start| word(offset(at + start)));
        at += document.len() + 1;
    }
    Ok(())
}

/// Contributions with their places.
pub(crate) struct Laid {
    pub(crate) counts: Counts,
    pub(crate) id: SegmentId,
    pub(crate) text_tree: Crown,
    pub(crate) contributions: Vec<u8>,
    pub(crate) documents: Vec<u8>,
    /// What array leaves lie behind, in a private Datanet.
    array_salt: Option<Hash32>,
}

/// What follows from an array: minima and tree.
pub(crate) struct Summary {
    pub(crate) minima: Vec<u32>,
    pub(crate) tree: Crown,
}

/// A part of the array by itself: what minima and tree take of it.
pub(crate) struct Piece {
    minima: Minima,
    leaves: Vec<Hash32>,
}

/// Entries of a piece: whole leaves, and whole blocks of minima.
const PIECE_ENTRIES: usize = LEAVES_AT_ONCE * ARRAY_STRIDE;

impl Laid {
    /// Piece `number`, whose entries, those of [`Laid::piece_ranks`], have these bytes.
    pub(crate) fn piece(&self, number: usize, bytes: &[u8]) -> Piece {
        let entries = Array::new(bytes);
        let own = entries.len().min(PIECE_ENTRIES);
        let mut minima = Minima::default();
        entries.slice(0..own).iter().for_each(|entry| minima.push(entry));
        let count = own.div_ceil(ARRAY_STRIDE);
        let leaves = match self.array_salt {
            Some(salt) => salted::array_digests(entries, salt, number * LEAVES_AT_ONCE, count),
            None => merkle::leaf_digests((0..count).map(|leaf| entries.leaf_bytes(leaf))),
        };
        Piece { minima, leaves }
    }

    /// How many pieces the array has.
    pub(crate) const fn pieces(&self) -> usize {
        self.counts.entries.div_ceil(PIECE_ENTRIES)
    }

    /// The ranks that a piece is made of: its own, and the next one's first, which its last leaf holds too.
    pub(crate) fn piece_ranks(&self, number: usize) -> Range<usize> {
        let first = number * PIECE_ENTRIES;
        first..(first + PIECE_ENTRIES + 1).min(self.counts.entries)
    }

    /// What an array commits to, from its pieces in order.
    pub(crate) fn summary<E>(&self, pieces: impl Iterator<Item = Result<Piece, E>>) -> Result<Summary, E> {
        let (mut minima, mut tree) = (Minima::default(), Growing::default());
        for piece in pieces {
            let piece = piece?;
            minima.append(piece.minima);
            tree.extend(&piece.leaves);
        }
        Ok(Summary { minima: minima.finish(), tree: tree.finish(self.counts.array_leaf_bytes()) })
    }

    /// The header over these roots and digests of sections.
    pub(crate) fn header(&self, array_root: Hash32, digests: [[u8; 32]; SECTIONS]) -> Header {
        Header { counts: self.counts, text_root: self.text_tree.root(), array_root, id: self.id, digests }
    }
}

/// An offset or a number in a segment.
fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("segments are bounded well below 2^32 bytes")
}

/// Lays out and indexes `entries`.
pub(super) fn build(entries: &[Entry<'_>], first_row: u64) -> Result<Segment, BuildError> {
    let total = entries.iter().fold(0_usize, |sum, entry| sum.saturating_add(entry.text().len()).saturating_add(LEAF_STRIDE));
    if total > SEGMENT_BYTES_MAX {
        return Err(BuildError::TooLong { got: total });
    }
    let (mut table, mut starts) = (Table::default(), Vec::new());
    // Room for what follows the text as well: about as much again of prose.
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 2 * total + PADDING);
    bytes.resize(HEADER_BYTES, 0);
    for entry in entries {
        let placed = table.add(entry, &in_turn, |start| starts.push(start))?;
        if let Some((source, _)) = entry.source() {
            bytes.resize(HEADER_BYTES + placed.start, 0);
            bytes.extend_from_slice(source.text);
        }
    }
    let laid = table.finish(starts.len());
    bytes.resize(HEADER_BYTES + laid.counts.text + PADDING, 0);
    let array: Vec<u8> = sorted(&bytes[HEADER_BYTES..], &starts).into_iter().flat_map(u32::to_le_bytes).collect();
    drop(starts);
    let piece = |number: usize| {
        let ranks = laid.piece_ranks(number);
        Ok::<_, Infallible>(laid.piece(number, &array[4 * ranks.start..4 * ranks.end]))
    };
    let Ok(summary) = laid.summary((0..laid.pieces()).map(piece));
    let text = &bytes[laid.counts.range(Section::Text)];
    let mut marking = Marking::default();
    let window = |start: u32| &text[as_index(start)..][..WINDOW];
    Array::new(&array).iter().step_by(MARK_STRIDE).for_each(|start| marking.push(window(start)));
    let (marks, tops) = marking.finish();
    let minima: Vec<u8> = summary.minima.iter().flat_map(|word| word.to_le_bytes()).collect();
    let tail: [(Section, &[u8]); SECTIONS - 1] = [
        (Section::Contributions, &laid.contributions),
        (Section::Documents, &laid.documents),
        (Section::TextTree, laid.text_tree.digests().as_flattened()),
        (Section::Array, &array),
        (Section::Marks, &marks),
        (Section::Tops, &tops),
        (Section::Minima, &minima),
        (Section::ArrayTree, summary.tree.digests().as_flattened()),
    ];
    for (section, content) in tail {
        bytes.resize(laid.counts.range(section).start, 0);
        bytes.extend_from_slice(content);
    }
    bytes.resize(laid.counts.total(), 0);
    bytes.shrink_to_fit();
    let digests = Section::ALL.map(|section| *blake3::hash(&bytes[laid.counts.filled(section)]).as_bytes());
    let header = laid.header(summary.tree.root(), digests);
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    Ok(Segment::over(Bytes::Memory(bytes), header, first_row))
}
