//! The committed index over Datanets: search, earliest holder, openings, root (P5).
//!
//! An index is a list of Datanet versions in manifest order; a Datanet is a list of immutable [`Segment`]s; a segment holds contributions in
//! order of priority. A text *matches* where its bytes stand from a word start of a document on (they may end inside a longer word there).
//!
//! A search of one text costs a search of some keys that stay in memory, a look at 256 marks that lie together, and three comparisons of at most 256 bytes:
//! a few microseconds.

mod array;
mod build;
mod bytes;
mod cluster;
mod documents;
mod format;
mod layout;
mod leaf;
mod marks;
mod minimum;
mod openings;
mod order;
mod query;
mod rows;
mod salted;
mod segment;
mod statistics;
pub mod tokens;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use types::{
    contribution::Priority,
    id::{Address, AssetVersion, Hash32},
    manifest::DATANETS_MAX,
    merkle::Tree,
};

pub use array::Array;
pub use build::{BuildError, Entry, Source, Tombstone};
pub use cluster::{ClusterError, Clusters};
pub use documents::{Place, Places};
pub use format::{FormatError, Label, Section, SegmentId};
pub use layout::layout;
pub use leaf::{ARRAY_LEAF_ENTRIES, ArrayLeaf, DatanetLeaf, DocumentRow, HeadOpenings, Leaf, Opened, SegmentLeaf, SpanOpenings, TextLeaf};
pub(crate) use openings::is_cut_before;
pub use rows::Documents;
pub use salted::{SALT_BYTES, veiled};
pub use segment::{SEGMENT_BYTES_MAX, Segment};
pub use statistics::{CONTEXT_BYTES_MAX, CONTINUATIONS_MAX, NextWords, StatisticsError};
#[cfg(feature = "disk")]
pub(crate) use {
    build::{Both, Laid, Summary, Table, in_turn},
    bytes::Bytes,
    format::{HEADER_BYTES, PADDING, SECTIONS},
    marks::{ALIKE, CELL_BYTES, MARK_STRIDE, Marks, TOP_KEY_BYTES, TOP_STRIDE, cell, cells_len, parting, top_key, tops_len},
    order::{KEY_BYTES, as_index, is_ended, key_of},
};

use segment::as_u64;

/// Longest text of one Datanet: positions are signed in 40 bits.
pub const DATANET_BYTES_MAX: u64 = 1 << 40;

/// Why segments or Datanets do not make an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Positions would not fit.
    #[error("Datanet {version} would hold {got} bytes, at most {DATANET_BYTES_MAX} have positions: start another Datanet")]
    TooLong {
        /// The Datanet.
        version: AssetVersion,
        /// Bytes it would hold.
        got: u64,
    },
    /// More Datanets than a manifest declares.
    #[error("{0} Datanets in one index, at most {DATANETS_MAX} can be declared")]
    TooMany(usize),
    /// A near copy whose cluster's first document is in no segment.
    #[error(
        "document {document:?} of Datanet {version} belongs to the cluster of {head:?}, which is not there: find clusters among this version's contributions"
    )]
    Cluster {
        /// The Datanet.
        version: AssetVersion,
        /// The near copy.
        document: Priority,
        /// The document it follows.
        head: Priority,
    },
    /// Segments with salted leaves and others.
    #[error("some segments of Datanet {0} have salted leaves and others plain ones: a Datanet is private or it is not")]
    Mixed(AssetVersion),
}

/// Why nothing can be shown of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No document stands there.
    #[error("no document of Datanet number {datanet} holds byte {position}")]
    Nowhere {
        /// Number of the Datanet.
        datanet: u8,
        /// The byte.
        position: u64,
    },
    /// What lies in memory or in a file is not what the root was made over.
    #[error(
        "segment {segment} of Datanet number {datanet} has changed under its index (byte {position} opens to no root): set its file aside and build it again"
    )]
    Changed {
        /// Number of the Datanet.
        datanet: u8,
        /// The segment.
        segment: SegmentId,
        /// The byte.
        position: u64,
    },
    /// Its file is not the one that was read whole before: what a search did not find in it may have stood there.
    #[error(
        "the file of segment {segment} of Datanet number {datanet} was written to after it was opened: it is read whole before anything is answered from it again"
    )]
    Written {
        /// Number of the Datanet.
        datanet: u8,
        /// The segment.
        segment: SegmentId,
    },
    /// No contract reads salted leaves.
    #[error(
        "Datanet number {datanet} is private: its leaves are salted, and no contract reads such leaves: nothing that lies there is proven on the chain"
    )]
    Private {
        /// Number of the Datanet.
        datanet: u8,
    },
    /// What a search found is not there when it is looked for again.
    #[error("the index has changed under the search: check its segments (`index verify`), and build those anew that are damaged")]
    Unheld,
}

/// One version of a Datanet.
#[derive(Debug)]
pub struct DatanetIndex {
    version: AssetVersion,
    segments: Vec<Segment>,
    /// First byte of each segment in the Datanet.
    starts: Vec<u64>,
    bytes: u64,
    is_private: bool,
    tree: Tree,
}

impl DatanetIndex {
    /// Puts segments one after the other. Every document is paid for itself.
    ///
    /// # Errors
    /// [`IndexError::TooLong`], [`IndexError::Mixed`].
    pub fn new(version: AssetVersion, segments: Vec<Segment>) -> Result<Self, IndexError> {
        Self::clustered(version, segments, &Clusters::default())
    }

    /// [`DatanetIndex::new`] with near copies, each of which is paid through the first document of its cluster, in whichever segment that stands.
    ///
    /// # Errors
    /// [`IndexError::TooLong`], [`IndexError::Cluster`], [`IndexError::Mixed`].
    pub fn clustered(version: AssetVersion, mut segments: Vec<Segment>, clusters: &Clusters) -> Result<Self, IndexError> {
        let mut starts = Vec::with_capacity(segments.len());
        let mut bytes = 0;
        for segment in &segments {
            starts.push(bytes);
            bytes += as_u64(segment.text().len());
        }
        if bytes > DATANET_BYTES_MAX {
            return Err(IndexError::TooLong { version, got: bytes });
        }
        let is_private = segments.iter().any(Segment::is_salted);
        // A segment of what was erased alone has no leaf that could be salted.
        if is_private && segments.iter().any(|segment| !segment.is_salted() && !segment.text().is_empty()) {
            return Err(IndexError::Mixed(version));
        }
        join(version, &mut segments, clusters)?;
        let leaves: Vec<_> = segments.iter().zip(&starts).map(|(segment, start)| segment.leaf(*start).bytes()).collect();
        let tree = Tree::over(leaves.iter().map(Vec::as_slice));
        Ok(Self { version, segments, starts, bytes, is_private, tree })
    }

    /// Asset and version.
    pub const fn version(&self) -> AssetVersion {
        self.version
    }

    /// Its segments in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes of all segments.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether its leaves are salted.
    pub const fn is_private(&self) -> bool {
        self.is_private
    }

    /// Its leaf in an index.
    pub fn leaf(&self) -> DatanetLeaf {
        let segments = if self.is_private { veiled(self.tree.root()) } else { self.tree.root() };
        DatanetLeaf { version: self.version, bytes: self.bytes, segments }
    }

    /// Segment and row number in it of the Datanet's row `number`.
    fn row_place(&self, number: u64) -> Option<(usize, usize)> {
        let mut row = usize::try_from(number).ok()?;
        for (place, segment) in self.segments.iter().enumerate() {
            match row.checked_sub(segment.documents().len()) {
                Some(later) => row = later,
                None => return Some((place, row)),
            }
        }
        None
    }

    /// The first document of the cluster that `row` is in; nothing if the Datanet lacks it.
    fn head(&self, row: &DocumentRow) -> Option<DocumentRow> {
        let (place, number) = self.row_place(row.cluster)?;
        self.segments[place].documents().get(number)
    }

    pub(crate) fn open_segment(&self, place: usize) -> Option<Opened<SegmentLeaf>> {
        Some(Opened { leaf: self.segments.get(place)?.leaf(*self.starts.get(place)?), opening: self.tree.open(as_u64(place))? })
    }

    fn open_head(&self, row: &DocumentRow) -> Option<HeadOpenings> {
        let (place, number) = self.row_place(row.cluster)?;
        Some(HeadOpenings { document: self.segments[place].open_document(number)?, segment: self.open_segment(place)? })
    }

    /// Number of the segment that holds byte `position`, and the byte's offset in it.
    fn place(&self, position: u64) -> Option<(usize, u64)> {
        if position >= self.bytes {
            return None;
        }
        let number = self.starts.partition_point(|start| *start <= position).checked_sub(1)?;
        Some((number, position - self.starts[number]))
    }
}

/// Numbers the rows of all segments and gives each the number of its cluster's first.
fn join(version: AssetVersion, segments: &mut [Segment], clusters: &Clusters) -> Result<(), IndexError> {
    let mut heads: BTreeMap<Priority, Option<u64>> = clusters.joined().map(|(_, head)| (head, None)).collect();
    // Nothing is left of a tombstone that could be copied: it leads no other row.
    let documents = || segments.iter().flat_map(|segment| segment.documents().iter());
    for (row, number) in documents().zip(0..).filter(|(row, _)| row.length > 0) {
        if let Some(head) = heads.get_mut(&row.priority) {
            *head = Some(number);
        }
    }
    let head_of = |row: &DocumentRow| clusters.head(row.priority).filter(|_| row.length > 0);
    let number_of = |head: Priority| heads.get(&head).copied().flatten();
    if let Some((document, head)) =
        documents().filter_map(|row| Some((row.priority, head_of(&row)?))).find(|(_, head)| number_of(*head).is_none())
    {
        return Err(IndexError::Cluster { version, document, head });
    }
    let mut first = 0;
    for segment in segments {
        segment.number_rows(first, |row| head_of(row).and_then(number_of));
        first += as_u64(segment.documents().len());
    }
    Ok(())
}

/// Where the earliest holder of a text has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Number of the Datanet.
    pub datanet: u8,
    /// First byte in the Datanet's segments.
    pub position: u64,
    /// The document.
    pub row: DocumentRow,
    /// Who is paid: the payee of the first document of its cluster.
    pub payee: Address,
}

/// Datanet versions in manifest order, under one root.
#[derive(Debug)]
pub struct Index {
    datanets: Vec<Arc<DatanetIndex>>,
    tree: Tree,
}

impl Index {
    /// The index over `datanets` in the order of the manifest; they may be shared between indexes.
    ///
    /// # Errors
    /// [`IndexError::TooMany`].
    pub fn new(datanets: Vec<Arc<DatanetIndex>>) -> Result<Self, IndexError> {
        if datanets.len() > DATANETS_MAX {
            return Err(IndexError::TooMany(datanets.len()));
        }
        let leaves: Vec<_> = datanets.iter().map(|datanet| datanet.leaf().bytes()).collect();
        let tree = Tree::over(leaves.iter().map(Vec::as_slice));
        Ok(Self { datanets, tree })
    }

    /// Its Datanets in order.
    pub fn datanets(&self) -> &[Arc<DatanetIndex>] {
        &self.datanets
    }

    /// The index root.
    pub fn root(&self) -> Hash32 {
        self.tree.root()
    }

    /// The digest under the root's head.
    pub fn top(&self) -> Hash32 {
        self.tree.top()
    }

    /// Bytes of the longest prefix of `pattern` that matches in any Datanet; its first 256 bytes count, and a zero byte stands nowhere.
    pub fn find_longest(&self, pattern: &[u8]) -> usize {
        self.segments().map(|(_, _, segment)| segment.longest(pattern)).max().unwrap_or(0)
    }

    /// [`Index::find_longest`] of what stands in `answer` from each of `starts`, all at once; a start beyond it matches nothing.
    pub fn longest_all(&self, answer: &str, starts: &[usize]) -> Vec<u16> {
        let patterns: Vec<&[u8]> = starts.iter().map(|start| answer.as_bytes().get(*start..).unwrap_or_default()).collect();
        let mut longest = vec![0; starts.len()];
        for (_, _, segment) in self.segments() {
            for (most, got) in longest.iter_mut().zip(segment.longest_all(&patterns)) {
                *most = (*most).max(u16::try_from(got).expect("a match is at most a window"));
            }
        }
        longest
    }

    /// How many word starts of all Datanets `pattern` (1 to 256 bytes without zero) stands at; it may end inside a longer word there.
    pub fn count(&self, pattern: &[u8]) -> u64 {
        if pattern.is_empty() {
            return 0;
        }
        self.segments().map(|(_, _, segment)| as_u64(segment.count(pattern))).sum()
    }

    /// The earliest holder of `pattern` (1 to 256 bytes without zero): smallest priority over all segments and Datanets, then smallest
    /// Datanet number, then smallest position.
    pub fn holder(&self, pattern: &[u8]) -> Option<Holder> {
        self.earliest(|segment| segment.range(pattern))
    }

    /// [`Index::holder`] of each pattern, all searched at once.
    pub fn holders(&self, patterns: &[&[u8]]) -> Vec<Option<Holder>> {
        let ranges: Vec<Vec<Range<usize>>> = self.segments().map(|(_, _, segment)| segment.range_all(patterns)).collect();
        let holder = |number: usize| {
            let mut of_segment = ranges.iter();
            self.earliest(|_| of_segment.next().map_or(0..0, |ranges| ranges[number].clone()))
        };
        (0..patterns.len()).map(holder).collect()
    }

    /// The earliest holder, given the ranks in each segment, which is asked in its turn.
    fn earliest(&self, mut ranks: impl FnMut(&Segment) -> Range<usize>) -> Option<Holder> {
        let held = self.segments().filter_map(|(datanet, start, segment)| {
            let offset = u64::from(segment.earliest(ranks(segment))?);
            let (_, row) = segment.document_at(offset)?;
            Some((datanet, start + offset, row))
        });
        let (datanet, position, row) = held.min_by_key(|(datanet, position, row)| (row.priority, *datanet, *position))?;
        let payee = self.datanets[usize::from(datanet)].head(&row)?.payee;
        Some(Holder { datanet, position, row, payee })
    }

    /// Every segment with its Datanet's number and its start in the Datanet.
    fn segments(&self) -> impl Iterator<Item = (u8, u64, &Segment)> {
        let numbered = self.datanets.iter().zip(0_u8..);
        numbered.flat_map(|(datanet, number)| {
            datanet.segments.iter().zip(&datanet.starts).map(move |(segment, start)| (number, *start, segment))
        })
    }

    /// Whether every segment's file is as it was opened. To be asked after a search and before its result is signed: a match that is shown leads to the root, one that is
    /// missing is shown by nothing. Some microseconds: one call of the system a segment.
    ///
    /// # Errors
    /// [`ReadError::Written`] naming the first that is not.
    pub fn check_unwritten(&self) -> Result<(), ReadError> {
        let written = self.segments().find(|(_, _, segment)| !segment.is_unwritten());
        written.map_or(Ok(()), |(datanet, _, segment)| Err(ReadError::Written { datanet, segment: segment.id() }))
    }

    /// Opens the Datanet leaf with this number.
    pub fn open_datanet(&self, number: u8) -> Option<Opened<DatanetLeaf>> {
        let leaf = self.datanets.get(usize::from(number))?.leaf();
        Some(Opened { leaf, opening: self.tree.open(number.into())? })
    }

    /// Opens the segment that holds byte `position` of a Datanet, and the text leaf in whose stride the byte lies.
    pub fn open_text(&self, number: u8, position: u64) -> Option<(Opened<SegmentLeaf>, Opened<TextLeaf>)> {
        let datanet = self.datanets.get(usize::from(number))?;
        let (place, offset) = datanet.place(position)?;
        Some((datanet.open_segment(place)?, datanet.segments[place].open_text(offset)?))
    }

    /// Opens the array leaf of a segment that holds the entries at `rank` - 1 and `rank` ([`Segment::open_array`]), and the segment.
    pub fn open_array(&self, number: u8, segment: usize, rank: u64) -> Option<(Opened<SegmentLeaf>, Opened<ArrayLeaf>)> {
        let datanet = self.datanets.get(usize::from(number))?;
        Some((datanet.open_segment(segment)?, datanet.segments[segment].open_array(rank)?))
    }

    /// Everything that proves a span's text, payee and Datanet under the root; of a private Datanet the text too, behind its salt, which is for grant holders.
    ///
    /// # Errors
    /// [`ReadError::Nowhere`] where no document stands, [`ReadError::Changed`] where what stands there does not lead to the root any more.
    pub fn open_span(&self, number: u8, position: u64) -> Result<SpanOpenings, ReadError> {
        let nowhere = ReadError::Nowhere { datanet: number, position };
        let datanet = self.datanets.get(usize::from(number)).ok_or(nowhere)?;
        let (place, offset) = datanet.place(position).ok_or(nowhere)?;
        let (row_number, row) = datanet.segments[place].document_at(offset).ok_or(nowhere)?;
        let changed = ReadError::Changed { datanet: number, segment: datanet.segments[place].id(), position };
        let (segment, text) = self.open_text(number, position).ok_or(changed)?;
        let is_head = datanet.row_place(row.cluster) == Some((place, row_number));
        Ok(SpanOpenings {
            text: Some(text),
            document: datanet.segments[place].open_document(row_number).ok_or(changed)?,
            segment,
            datanet: self.open_datanet(number).ok_or(changed)?,
            head: if is_head { None } else { Some(datanet.open_head(&row).ok_or(changed)?) },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{
        contribution::Priority,
        id::{Address, AssetId},
        text::{LEAF_STRIDE, text_root},
    };

    use super::*;

    fn source(contributor: u8, block: u64, text: &str) -> Source<'_> {
        Source { contributor: Address([contributor; 20]), block, ordinal: 0, text_root: text_root(text.as_bytes()), text: text.as_bytes() }
    }

    fn datanet(asset: u64, sources: &[&[Source<'_>]]) -> Arc<DatanetIndex> {
        let mut rows = 0;
        let segments = sources.iter().map(|sources| {
            let segment = Segment::build(sources, rows).unwrap();
            rows += segment.documents().len() as u64;
            segment
        });
        Arc::new(DatanetIndex::new(AssetVersion { asset: AssetId(asset), version: 1 }, segments.collect()).unwrap())
    }

    #[test]
    fn contributions_start_at_multiples_of_64_and_keep_their_leaves() {
        let long = format!("{}\0second document\0", "word ".repeat(40));
        let datanet = datanet(1, &[&[source(1, 5, "one two\0three\0"), source(2, 6, &long), source(3, 7, "last\0")]]);
        let segment = &datanet.segments()[0];
        let starts: Vec<_> = segment.documents().iter().map(|row| row.start).collect();
        assert_eq!(starts, [0, 8, 64, 265, 320]);
        assert_eq!(segment.documents().get(3).unwrap().priority, types::contribution::Priority { block: 6, ordinal: 0, document: 1 });
        assert_eq!(segment.text().len(), 325);
        assert_eq!(segment.text_leaf(0), b"one two\0three\0");
        for index in 0..long.len().div_ceil(LEAF_STRIDE) {
            assert_eq!(segment.text_leaf(1 + index), &long.as_bytes()[types::text::leaf_range(index, long.len())], "{index}");
        }
        assert_eq!(segment.text_leaf(5), b"last\0");
        assert!(segment.document_at(7).is_none());
        assert_eq!(segment.document_at(8).unwrap().0, 1);
        assert!(segment.document_at(14).is_none());
    }

    #[test]
    fn the_earliest_holder_is_found_over_segments_and_datanets() {
        let first = datanet(1, &[&[source(1, 50, "x same words here\0")], &[source(2, 20, "y same words here\0")]]);
        let second = datanet(2, &[&[source(3, 10, "z same words there\0"), source(4, 30, "same words here\0same words here\0")]]);
        let index = Index::new(vec![first, second]).unwrap();
        let holder = index.holder(b"same words here").unwrap();
        assert_eq!((holder.datanet, holder.position, holder.row.payee), (0, 18 + 2, Address([2; 20])));
        let holder = index.holder(b"same words").unwrap();
        assert_eq!((holder.datanet, holder.position, holder.row.payee), (1, 2, Address([3; 20])));
        assert_eq!(index.find_longest(b"same words here!"), 15);
        assert_eq!(index.find_longest(b"ame words here"), 0);
        assert!(index.holder(b"nowhere").is_none());
        let patterns: [&[u8]; 3] = [b"same words here", b"nowhere", b"same words"];
        assert_eq!(index.holders(&patterns), patterns.map(|pattern| index.holder(pattern)));
    }

    #[test]
    fn openings_lead_to_the_index_root() {
        let long = "some longer text of many words ".repeat(30) + "\0";
        let index = Index::new(vec![
            datanet(1, &[&[source(1, 1, "a\0")], &[source(2, 2, &long), source(3, 3, "tail end\0")]]),
            datanet(2, &[&[source(4, 4, "b\0")]]),
        ])
        .unwrap();
        for position in [0, 2, 500, 2 + 960] {
            let open = index.open_span(0, position).unwrap();
            assert_eq!(open.datanet.root(), Some(index.root()));
            assert_eq!(open.segment.root(), Some(open.datanet.leaf.segments));
            assert_eq!(open.text.unwrap().root(), Some(open.segment.leaf.text));
            assert_eq!(open.document.root(), Some(open.segment.leaf.documents));
        }
        for (datanet, position) in [(0, 1), (0, 1 << 20), (2, 0)] {
            assert_eq!(index.open_span(datanet, position), Err(ReadError::Nowhere { datanet, position }));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn two_neighbours_of_the_array_open_in_one_leaf(words in prop_oneof![0..40_usize, 220..280_usize, 470..490_usize]) {
            let text = (0..words).map(|word| format!("{} ", word * 7 % 31)).collect::<String>() + "\0";
            let sources = [source(1, 1, "a\0"), source(2, 2, &text)];
            let index = Index::new(vec![datanet(1, &[&sources[..words.min(1) + 1]]), datanet(2, &[&[]])]).unwrap();
            let entries = index.datanets()[0].segments()[0].array();
            for rank in 0..=entries.len() {
                let (segment, leaf) = index.open_array(0, 0, rank as u64).unwrap();
                prop_assert_eq!(segment.root(), Some(index.datanets()[0].leaf().segments));
                prop_assert_eq!(leaf.root(), Some(segment.leaf.array));
                let first = usize::try_from(leaf.opening.index).unwrap() * (ARRAY_LEAF_ENTRIES - 1);
                let held = |rank: usize| rank.checked_sub(first).and_then(|place| leaf.leaf.0.get(place)).copied();
                if let Some(before) = rank.checked_sub(1) {
                    prop_assert_eq!(held(before), entries.get(before).map(u64::from));
                }
                prop_assert_eq!(held(rank), entries.get(rank).map(u64::from));
                let read: Opened<ArrayLeaf> = serde_json::from_str(&serde_json::to_string(&leaf).unwrap()).unwrap();
                prop_assert_eq!(read, leaf);
            }
            prop_assert!(index.open_array(0, 0, entries.len() as u64 + 1).is_none());
            prop_assert!(index.open_array(0, 1, 0).is_none() && index.open_array(1, 0, 0).is_none() && index.open_array(2, 0, 0).is_none());
        }
    }

    #[test]
    fn an_array_leaf_with_no_entry_one_too_many_or_one_too_large_is_refused() {
        for entries in [vec![], vec![0; 17], vec![1, 1_u64 << 40]] {
            assert!(serde_json::from_value::<ArrayLeaf>(serde_json::json!(entries)).is_err(), "{entries:?}");
        }
    }

    #[test]
    fn a_near_copy_is_paid_through_the_first_document_of_its_cluster_whichever_segment_that_is_in() {
        let at = |block| Priority { block, ordinal: 0, document: 0 };
        let version = AssetVersion { asset: AssetId(1), version: 1 };
        // The cluster's first document stands in a later segment.
        let (copy, other, head) = (source(1, 5, "the same words, here\0"), source(2, 6, "other\0"), source(3, 2, "the same words here\0"));
        let build = |clusters: &[(Priority, Priority)]| {
            let segments = vec![Segment::build(&[copy, other], 0).unwrap(), Segment::build(&[head], 2).unwrap()];
            DatanetIndex::clustered(version, segments, &Clusters::new(clusters.iter().copied()).unwrap())
        };
        let index = Index::new(vec![Arc::new(build(&[(at(5), at(2))]).unwrap())]).unwrap();
        let rows: Vec<_> =
            index.datanets()[0].segments().iter().flat_map(|segment| segment.documents().iter()).map(|row| row.cluster).collect();
        assert_eq!(rows, [2, 1, 2]);
        let holder = index.holder(b"same words, here").unwrap();
        assert_eq!((holder.position, holder.row.payee, holder.payee), (4, Address([1; 20]), Address([3; 20])));
        let open = index.open_span(0, 4).unwrap();
        let shown = open.head.unwrap();
        assert_eq!((shown.document.leaf.payee, shown.document.opening.index), (Address([3; 20]), 0));
        assert_eq!(shown.document.root(), Some(shown.segment.leaf.documents));
        assert_eq!((open.document.root(), shown.segment.root()), (Some(open.segment.leaf.documents), Some(open.datanet.leaf.segments)));
        // Rows are numbered over all segments, whatever these were built with.
        let alone = Index::new(vec![Arc::new(build(&[]).unwrap())]).unwrap();
        let misnumbered = vec![Segment::build(&[copy, other], 7).unwrap(), Segment::build(&[head], 0).unwrap()];
        assert_eq!(DatanetIndex::new(version, misnumbered).unwrap().leaf(), alone.datanets()[0].leaf());
        assert_ne!(alone.root(), index.root());
        let missing = build(&[(at(6), at(3))]).unwrap_err();
        assert_eq!(missing, IndexError::Cluster { version, document: at(6), head: at(3) });
    }

    #[test]
    fn a_pattern_is_not_found_beyond_a_documents_end_or_256_bytes() {
        let long = "a".repeat(300) + "\0";
        let index = Index::new(vec![datanet(1, &[&[source(1, 1, "one\0two\0"), source(2, 2, &long)]])]).unwrap();
        assert_eq!((index.find_longest(b"one\0two"), index.find_longest(b"\0two")), (3, 0));
        assert!(index.holder(b"one\0two").is_none() && index.holder(b"\0").is_none());
        assert_eq!(index.find_longest(&[b'a'; 300]), 256);
        assert!(index.holder(&[b'a'; 256]).is_some() && index.holder(&[b'a'; 257]).is_none());
    }

    #[test]
    fn a_tombstone_is_a_row_that_no_span_can_lie_in_and_the_next_holder_is_found() {
        let gone = text_root(b"the same words here, and more\0");
        let tombstone = |block| Entry::Erased(Tombstone { block, ordinal: 0, text_root: gone });
        let build = |entries: &[Entry<'_>]| {
            let segment = Segment::build_entries(entries, 0).unwrap();
            let version = AssetVersion { asset: AssetId(1), version: 2 };
            Index::new(vec![Arc::new(DatanetIndex::new(version, vec![segment]).unwrap())]).unwrap()
        };
        let (first, second) = (source(2, 5, "one\0two\0"), source(3, 9, "x the same words here\0"));
        let index = build(&[tombstone(1), Entry::Text(first), tombstone(7), Entry::Text(second), tombstone(11)]);
        let rows: Vec<_> = index.datanets()[0].segments()[0].documents().iter().map(|row| (row.start, row.length, row.cluster)).collect();
        assert_eq!(rows, [(0, 0, 0), (0, 3, 1), (4, 3, 2), (64, 0, 3), (64, 21, 4), (128, 0, 5)]);
        let holder = index.holder(b"the same words here").unwrap();
        assert_eq!((holder.position, holder.row.payee), (66, Address([3; 20])));
        for position in [0, 2, 4, 66] {
            let open = index.open_span(0, position).unwrap();
            assert!(open.document.leaf.length > 0 && open.document.root() == Some(open.segment.leaf.documents), "{position}");
            assert_eq!((open.segment.root(), open.datanet.root()), (Some(open.datanet.leaf.segments), Some(index.root())), "{position}");
        }
        assert!(index.open_span(0, 3).is_err() && index.open_span(0, 128).is_err());
        let segment = &index.datanets()[0].segments()[0];
        let buried = segment.open_document(3).unwrap();
        assert_eq!((buried.leaf.text_root, buried.leaf.payee, buried.root()), (gone, Address::ZERO, Some(segment.leaf(0).documents)));
        // It is part of what is committed to, and of nothing else.
        let without = build(&[Entry::Text(first), Entry::Text(second)]);
        assert_ne!(index.root(), without.root());
        let parts = |index: &Index| (index.datanets()[0].segments()[0].leaf(0).text, index.datanets()[0].segments()[0].leaf(0).array);
        assert_eq!(parts(&index), parts(&without));
        let order = Segment::build_entries(&[Entry::Text(second), tombstone(9)], 0);
        assert_eq!(order.unwrap_err(), BuildError::Order { source_number: 1 });
    }

    #[test]
    fn what_is_not_the_registered_text_is_refused_by_number() {
        let good = source(1, 1, "a\0");
        let build = |source: Source<'_>| Segment::build(&[good, source], 0).unwrap_err();
        assert_eq!(build(source(2, 1, "b\0")), BuildError::Order { source_number: 1 });
        assert!(matches!(build(Source { text: b"c\0", ..source(2, 2, "b\0") }), BuildError::TextRoot { source_number: 1, .. }));
        for text in ["no end", "", "\0", "a\0\0"] {
            assert!(matches!(build(source(2, 2, text)), BuildError::Documents { source_number: 1, .. }), "{text:?}");
        }
    }

    #[test]
    fn an_empty_index_answers_and_has_a_root() {
        let index = Index::new(vec![]).unwrap();
        assert_eq!(index.find_longest(b"a"), 0);
        assert!(index.holder(b"a").is_none());
        let empty = Index::new(vec![datanet(1, &[&[]])]).unwrap();
        assert_eq!(empty.find_longest(b"a"), 0);
        assert_ne!(empty.root(), index.root());
    }
}
