//! One immutable segment: contributions laid out in priority order, their word starts sorted, and what that commits to (P5).
//!
//! Memory per byte of text, of prose with a word start every 5.2 bytes and documents of 1.9 kB: 1 for the text, 0.76 for the array, 0.28 for its
//! minima, 0.06 for rows, and 0.12 for three trees: 2.21 in all, measured below. Trees keep their levels from the fourth up ([`Crown`]): whole
//! ones of text and rows alone would make it 3.23, and up to 4.3 where the leaves are just more than a power of two. An opening hashes 16 leaves
//! again instead, some 30 microseconds; an answer opens two dozen. The build adds 16 bytes per word start while it sorts.

use std::ops::Range;

use types::{
    contribution::Priority,
    id::{Address, Hash32},
    merkle::{self, Crown, Growing},
    text::{self, LEAF_STRIDE, WINDOW, leaf_range},
};

use super::{
    leaf::{ARRAY_LEAF_ENTRIES, ArrayLeaf, DocumentRow, Leaf as _, Opened, SegmentLeaf, TextLeaf},
    minimum::RangeMinimum,
    order::{as_index, sorted},
};

/// Longest text of one segment: offsets are held in 32 bits.
pub const SEGMENT_BYTES_MAX: usize = 1 << 31;
/// Entries from one array leaf to the next: one less than a leaf holds, so that neighbours always stand in one.
const ARRAY_STRIDE: usize = ARRAY_LEAF_ENTRIES - 1;
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
    text_tree: Crown,
    document_tree: Crown,
    array_tree: Crown,
}

/// The text under construction, with what its leaves fold to.
#[derive(Default)]
struct Layout {
    text: Vec<u8>,
    leaves: Growing,
    contributions: Vec<Range<usize>>,
    documents: Vec<DocumentRow>,
    starts: Vec<u32>,
}

impl Segment {
    /// Lays out and indexes `sources`, ascending by (block, ordinal). `first_row` is the number of document rows in the Datanet's earlier
    /// segments. Every document is a cluster of its own, until [`super::DatanetIndex::clustered`] says otherwise.
    ///
    /// # Errors
    /// [`BuildError`] naming the contribution.
    pub fn build(sources: &[Source<'_>], first_row: u64) -> Result<Self, BuildError> {
        let entries: Vec<Entry<'_>> = sources.iter().copied().map(Entry::Text).collect();
        Self::build_entries(&entries, first_row)
    }

    /// [`Segment::build`] with tombstones, each of which is one row.
    ///
    /// # Errors
    /// As [`Segment::build`].
    pub fn build_entries(entries: &[Entry<'_>], first_row: u64) -> Result<Self, BuildError> {
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
            row.cluster = number;
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

    /// Bytes it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let trees = self.text_tree.memory_bytes() + self.document_tree.memory_bytes() + self.array_tree.memory_bytes();
        let rows = self.documents.capacity() * size_of::<DocumentRow>() + self.contributions.capacity() * size_of::<Range<usize>>();
        self.padded.capacity() + self.array.capacity() * size_of::<u32>() + self.minima.memory_bytes() + rows + trees
    }

    /// Gives each row, by its number here, the number in the Datanet of its cluster's first row.
    pub(super) fn set_clusters(&mut self, cluster_of: impl Fn(usize, &DocumentRow) -> u64) {
        let mut is_changed = false;
        for (number, row) in self.documents.iter_mut().enumerate() {
            let cluster = cluster_of(number, row);
            is_changed |= cluster != row.cluster;
            row.cluster = cluster;
        }
        if is_changed {
            self.document_tree = Crown::over(self.documents.iter().map(DocumentRow::bytes));
        }
    }

    /// What it commits to when its text starts at `start` of the Datanet.
    pub fn leaf(&self, start: u64) -> SegmentLeaf {
        SegmentLeaf {
            text: self.text_tree.root(),
            documents: self.document_tree.root(),
            array: self.array_tree.root(),
            start,
            length: as_u64(self.text().len()),
            entries: as_u64(self.array.len()),
        }
    }

    /// At most 256 bytes from `start`, which may reach beyond the document: a pattern holds no zero byte, so it compares with these as with what
    /// stands before the first zero of them, and no search looks for that.
    fn window(&self, start: u32) -> &[u8] {
        let rest = &self.text()[as_index(start)..];
        &rest[..rest.len().min(WINDOW)]
    }

    /// Bytes of the longest prefix of `pattern` (its first 256 bytes count) that stands at a word start; a zero byte stands nowhere.
    pub fn longest(&self, pattern: &[u8]) -> usize {
        let pattern = &pattern[..pattern.len().min(WINDOW)];
        let pattern = &pattern[..zero_in(pattern).unwrap_or(pattern.len())];
        let rank = self.array.partition_point(|start| self.window(*start) < pattern);
        let neighbours = self.array[rank.saturating_sub(1)..(rank + 1).min(self.array.len())].iter();
        neighbours.map(|start| common(self.window(*start), pattern)).max().unwrap_or(0)
    }

    /// Ranks of the array whose text starts with `pattern`: none if that holds a zero byte or more than 256.
    pub fn range(&self, pattern: &[u8]) -> Range<usize> {
        if pattern.len() > WINDOW || zero_in(pattern).is_some() {
            return 0..0;
        }
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
        let again = |leaves: Range<usize>| merkle::leaf_digests(leaves.map(|leaf| self.text_leaf(leaf)));
        let opening = self.text_tree.open(index, again)?;
        Some(Opened { leaf: TextLeaf(self.text_leaf(usize::try_from(index).ok()?).to_vec()), opening })
    }

    /// Opens a document row.
    pub(super) fn open_document(&self, number: usize) -> Option<Opened<DocumentRow>> {
        let again = |rows: Range<usize>| merkle::leaf_digests(self.documents[rows].iter().map(DocumentRow::bytes));
        Some(Opened { leaf: *self.documents.get(number)?, opening: self.document_tree.open(as_u64(number), again)? })
    }

    /// Opens the array leaf that holds the entries at `rank` - 1 and at `rank`, which always stand in one: what lies between two neighbours, and
    /// what does not, is shown by it. At rank 0 the first leaf, at the number of entries the one that ends with the last; nothing beyond, and
    /// nothing of an empty array.
    pub fn open_array(&self, rank: u64) -> Option<Opened<ArrayLeaf>> {
        let rank = usize::try_from(rank).ok().filter(|rank| *rank <= self.array.len())?;
        let index = rank.saturating_sub(1) / ARRAY_STRIDE;
        let again = |leaves: Range<usize>| merkle::leaf_digests(leaves.map(|leaf| array_leaf(&self.array, leaf).bytes()));
        let opening = self.array_tree.open(as_u64(index), again)?;
        Some(Opened { leaf: array_leaf(&self.array, index), opening })
    }
}

impl Layout {
    fn append(&mut self, number: usize, source: &Source<'_>) -> Result<(), BuildError> {
        let digests: Vec<Hash32> = merkle::leaf_digests(text::leaves(source.text));
        let got = merkle::root(digests.clone(), as_u64(source.text.len()));
        if got != source.text_root {
            return Err(BuildError::TextRoot { source_number: number, got, expected: source.text_root });
        }
        self.leaves.extend(&digests);
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
        self.documents.shrink_to_fit();
        self.contributions.shrink_to_fit();
        let array = sorted(&self.text, &self.starts);
        Segment {
            minima: RangeMinimum::new(&array),
            text_tree: self.leaves.finish(length),
            document_tree: Crown::over(self.documents.iter().map(DocumentRow::bytes)),
            array_tree: Crown::over((0..array.len().div_ceil(ARRAY_STRIDE)).map(|leaf| array_leaf(&array, leaf).bytes())),
            padded: self.text,
            contributions: self.contributions,
            documents: self.documents,
            array,
        }
    }
}

/// Leaf j of an array: entries [15 j, 15 j + 16).
fn array_leaf(array: &[u32], index: usize) -> ArrayLeaf {
    let first = index * ARRAY_STRIDE;
    ArrayLeaf(array[first..(first + ARRAY_LEAF_ENTRIES).min(array.len())].iter().copied().map(u64::from).collect())
}

fn zero_in(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == 0)
}

/// Length of the common prefix.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

pub(super) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_prose_takes_little_more_than_two_bytes_a_byte_of_text() {
        // A word start every 5.2 bytes, documents of some 2 kB.
        let document = |number: u64| (0..363).map(|word| format!("{:04x} ", (number * 363 + word) * 40_503 % 65_521)).collect::<String>();
        let text: String = (0..500).map(|number| document(number).replace("0 ", "00000 ") + "\0").collect();
        let source = Source {
            contributor: Address([1; 20]),
            block: 1,
            ordinal: 0,
            text_root: text::text_root(text.as_bytes()),
            text: text.as_bytes(),
        };
        let segment = Segment::build(&[source], 0).unwrap();
        let per_mille = segment.memory_bytes() * 1_000 / text.len();
        println!("{} bytes of text, {} entries, {per_mille} bytes for a thousand", text.len(), segment.array().len());
        assert!((1_900..2_300).contains(&per_mille), "{per_mille}");
    }
}
