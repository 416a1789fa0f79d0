//! One immutable segment: contributions laid out in priority order, their word starts sorted, and what that commits to (P5).
//!
//! Per text byte in memory: 1 for the text, 1 for the text tree, and about 1.1 for array, minima and rows (prose has a word start every
//! 5.5 bytes): about 3.1. The build adds 16 bytes per word start while it sorts.

use std::{collections::BTreeMap, ops::Range};

use types::{
    contribution::Priority,
    id::{Address, Hash32},
    merkle::{self, Tree},
    text::{self, LEAF_STRIDE, WINDOW, leaf_range},
};

use super::{
    leaf::{DocumentRow, Leaf as _, Opened, SegmentLeaf, TextLeaf},
    minimum::RangeMinimum,
    order::{as_index, sorted},
};

/// Longest text of one segment: offsets are held in 32 bits.
pub const SEGMENT_BYTES_MAX: usize = 1 << 31;
/// Entries that one array leaf holds beyond those of the next: neighbours always stand in one leaf.
const ARRAY_STRIDE: usize = 15;
/// Zeros behind the text, so that a whole window can be read anywhere.
const PADDING: usize = WINDOW;

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
    /// One that was erased: a row of no bytes and no payee, in which no span can lie.
    Erased(Tombstone),
}

impl Entry<'_> {
    const fn order(&self) -> (u64, u32) {
        match self {
            Self::Text(source) => (source.block, source.ordinal),
            Self::Erased(tombstone) => (tombstone.block, tombstone.ordinal),
        }
    }

    const fn text_len(&self) -> usize {
        match self {
            Self::Text(source) => source.text.len(),
            Self::Erased(_) => 0,
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
    /// A cluster begins with its earliest document, which joined no other.
    #[error("row {row} is said to belong to the cluster of row {cluster}, which is not an earlier document that leads its own cluster")]
    Cluster {
        /// The row.
        row: u64,
        /// The row it should follow.
        cluster: u64,
    },
    /// Too much text.
    #[error("the segment would hold {got} bytes, at most {SEGMENT_BYTES_MAX} fit: split the contributions over several segments")]
    TooLong {
        /// Bytes it would hold.
        got: usize,
    },
}

/// An immutable, searchable, committed run of contributions.
#[derive(Debug)]
pub struct Segment {
    /// The text and [`PADDING`] zeros.
    padded: Vec<u8>,
    /// Bytes of each contribution, its last zero included.
    contributions: Vec<Range<usize>>,
    documents: Vec<DocumentRow>,
    array: Vec<u32>,
    minima: RangeMinimum,
    text_tree: Tree,
    document_tree: Tree,
    array_root: Hash32,
}

/// The text under construction, with the digests of its leaves.
#[derive(Default)]
struct Layout {
    text: Vec<u8>,
    digests: Vec<Hash32>,
    contributions: Vec<Range<usize>>,
    documents: Vec<DocumentRow>,
    starts: Vec<u32>,
}

impl Segment {
    /// Lays out and indexes `sources`, ascending by (block, ordinal). `first_row` is the number of document rows in the Datanet's earlier
    /// segments. Every document is a cluster of its own.
    ///
    /// # Errors
    /// [`BuildError`] naming the contribution.
    pub fn build(sources: &[Source<'_>], first_row: u64) -> Result<Self, BuildError> {
        Self::build_clustered(sources, first_row, &BTreeMap::new())
    }

    /// [`Segment::build`] with near copies: `clusters` gives, for the Datanet's rows that joined another document's cluster, the row number of
    /// that cluster's first document.
    ///
    /// # Errors
    /// [`BuildError`] naming the contribution, or the row whose cluster does not begin before it.
    pub fn build_clustered(sources: &[Source<'_>], first_row: u64, clusters: &BTreeMap<u64, u64>) -> Result<Self, BuildError> {
        let entries: Vec<Entry<'_>> = sources.iter().copied().map(Entry::Text).collect();
        Self::build_entries(&entries, first_row, clusters)
    }

    /// [`Segment::build_clustered`] with tombstones, each of which is one row.
    ///
    /// # Errors
    /// As [`Segment::build_clustered`].
    pub fn build_entries(entries: &[Entry<'_>], first_row: u64, clusters: &BTreeMap<u64, u64>) -> Result<Self, BuildError> {
        if let Some((row, cluster)) = clusters.iter().find(|(row, cluster)| cluster >= row || clusters.contains_key(cluster)) {
            return Err(BuildError::Cluster { row: *row, cluster: *cluster });
        }
        let total = entries.iter().fold(0_usize, |sum, entry| sum.saturating_add(entry.text_len()).saturating_add(LEAF_STRIDE));
        if total > SEGMENT_BYTES_MAX {
            return Err(BuildError::TooLong { got: total });
        }
        let mut layout = Layout { text: Vec::with_capacity(total + PADDING), ..Layout::default() };
        for (number, entry) in entries.iter().enumerate() {
            let is_later = number.checked_sub(1).is_none_or(|before| entries[before].order() < entry.order());
            if !is_later {
                return Err(BuildError::Order { source_number: number });
            }
            match entry {
                Entry::Text(source) => layout.append(number, source)?,
                Entry::Erased(tombstone) => layout.bury(tombstone),
            }
        }
        for (row, number) in layout.documents.iter_mut().zip(first_row..) {
            row.cluster = clusters.get(&number).copied().unwrap_or(number);
        }
        Ok(layout.index())
    }

    /// The text, zero fill included.
    pub fn text(&self) -> &[u8] {
        &self.padded[..self.padded.len() - PADDING]
    }

    /// Its documents in order of priority and of place, which is one order.
    pub fn documents(&self) -> &[DocumentRow] {
        &self.documents
    }

    /// Word starts in the order of what follows them.
    pub fn array(&self) -> &[u32] {
        &self.array
    }

    /// What it commits to when its text starts at `start` of the Datanet.
    pub fn leaf(&self, start: u64) -> SegmentLeaf {
        SegmentLeaf {
            text: self.text_tree.root(),
            documents: self.document_tree.root(),
            array: self.array_root,
            start,
            length: as_u64(self.text().len()),
            entries: as_u64(self.array.len()),
        }
    }

    /// At most 256 bytes from `start`.
    fn window(&self, start: u32) -> &[u8] {
        let rest = &self.text()[as_index(start)..];
        &rest[..rest.len().min(WINDOW)]
    }

    /// Bytes of the longest prefix of `pattern` (its first 256 bytes count) that stands at a word start. `pattern` holds no zero byte.
    pub fn longest(&self, pattern: &[u8]) -> usize {
        let pattern = &pattern[..pattern.len().min(WINDOW)];
        let rank = self.array.partition_point(|start| self.window(*start) < pattern);
        let neighbours = self.array[rank.saturating_sub(1)..(rank + 1).min(self.array.len())].iter();
        neighbours.map(|start| common(self.window(*start), pattern)).max().unwrap_or(0)
    }

    /// Ranks of the array whose text starts with `pattern`, at most 256 bytes without zero.
    pub fn range(&self, pattern: &[u8]) -> Range<usize> {
        let first = self.array.partition_point(|start| self.window(*start) < pattern);
        let count = self.array[first..].partition_point(|start| self.window(*start).starts_with(pattern));
        first..first + count
    }

    /// Smallest offset among a range of ranks: in a segment, that of the earliest holder.
    pub fn earliest(&self, ranks: Range<usize>) -> Option<u32> {
        self.minima.of(&self.array, ranks)
    }

    /// Number and row of the document that holds byte `offset`; nothing for a zero between documents.
    pub fn document_at(&self, offset: u64) -> Option<(usize, &DocumentRow)> {
        let number = self.documents.partition_point(|row| row.start <= offset).checked_sub(1)?;
        let row = &self.documents[number];
        (offset < row.end()).then_some((number, row))
    }

    /// Bytes of text leaf `index`: it ends with its contribution.
    pub fn text_leaf(&self, index: usize) -> &[u8] {
        let start = index * LEAF_STRIDE;
        let number = self.contributions.partition_point(|bytes| bytes.start <= start);
        let end = number.checked_sub(1).map_or(0, |number| self.contributions[number].end);
        &self.text()[leaf_range(index, end)]
    }

    /// Opens the text leaf in whose stride byte `offset` lies.
    pub(super) fn open_text(&self, offset: u64) -> Option<Opened<TextLeaf>> {
        let index = offset / as_u64(LEAF_STRIDE);
        let opening = self.text_tree.open(index)?;
        Some(Opened { leaf: TextLeaf(self.text_leaf(usize::try_from(index).ok()?).to_vec()), opening })
    }

    /// Opens a document row.
    pub(super) fn open_document(&self, number: usize) -> Option<Opened<DocumentRow>> {
        Some(Opened { leaf: *self.documents.get(number)?, opening: self.document_tree.open(as_u64(number))? })
    }
}

impl Layout {
    fn append(&mut self, number: usize, source: &Source<'_>) -> Result<(), BuildError> {
        let digests: Vec<Hash32> = merkle::leaf_digests(text::leaves(source.text));
        let got = merkle::root(digests.clone(), as_u64(source.text.len()));
        if got != source.text_root {
            return Err(BuildError::TextRoot { source_number: number, got, expected: source.text_root });
        }
        self.digests.extend(digests);
        self.text.resize(self.text.len().next_multiple_of(LEAF_STRIDE), 0);
        let start = self.text.len();
        self.contributions.push(start..start + source.text.len());
        let refuse = |reason| BuildError::Documents { source_number: number, reason };
        let text = std::str::from_utf8(source.text).map_err(|_| refuse("it is not UTF-8"))?;
        let documents = text.strip_suffix('\0').ok_or_else(|| refuse("it does not end with a zero byte"))?;
        for (document, content) in documents.split('\0').enumerate() {
            if content.is_empty() {
                return Err(refuse("it holds an empty document"));
            }
            let document = u32::try_from(document).map_err(|_| refuse("it holds more than 2^32 documents"))?;
            self.add_document(source, document, content);
        }
        Ok(())
    }

    /// Where the text would begin stands a row of no bytes: the text before it ends, and the next one begins, at or before it.
    fn bury(&mut self, tombstone: &Tombstone) {
        let Tombstone { block, ordinal, text_root } = *tombstone;
        self.documents.push(DocumentRow {
            text_root,
            start: as_u64(self.text.len().next_multiple_of(LEAF_STRIDE)),
            length: 0,
            payee: Address::ZERO,
            priority: Priority { block, ordinal, document: 0 },
            cluster: 0,
        });
    }

    fn add_document(&mut self, source: &Source<'_>, document: u32, content: &str) {
        let start = self.text.len();
        let offset = |at: usize| u32::try_from(start + at).expect("segments are bounded well below 2^32 bytes");
        self.starts.extend(text::words(content).into_iter().map(|word| offset(word.start)));
        self.documents.push(DocumentRow {
            text_root: source.text_root,
            start: as_u64(start),
            length: u32::try_from(content.len()).expect("segments are bounded well below 2^32 bytes"),
            payee: source.contributor,
            priority: Priority { block: source.block, ordinal: source.ordinal, document },
            cluster: 0,
        });
        self.text.extend_from_slice(content.as_bytes());
        self.text.push(0);
    }

    fn index(mut self) -> Segment {
        let length = as_u64(self.text.len());
        self.text.extend([0; PADDING]);
        let array = sorted(&self.text, &self.starts);
        let rows: Vec<_> = self.documents.iter().map(DocumentRow::bytes).collect();
        Segment {
            minima: RangeMinimum::new(&array),
            text_tree: Tree::new(self.digests, length),
            document_tree: Tree::over(rows.iter().map(Vec::as_slice)),
            array_root: array_root(&array),
            padded: self.text,
            contributions: self.contributions,
            documents: self.documents,
            array,
        }
    }
}

/// Root over array leaves: leaf j holds entries [15 j, 15 j + 16), five bytes each.
fn array_root(array: &[u32]) -> Hash32 {
    let mut total = 0;
    let leaf = |first: usize| {
        let entries = &array[first..(first + ARRAY_STRIDE + 1).min(array.len())];
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| [0].into_iter().chain(entry.to_be_bytes())).collect();
        total += as_u64(bytes.len());
        bytes
    };
    let digests = merkle::leaf_digests((0..array.len()).step_by(ARRAY_STRIDE).map(leaf));
    merkle::root(digests, total)
}

/// Length of the common prefix.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

pub(super) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}
