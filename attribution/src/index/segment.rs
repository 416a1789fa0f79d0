//! One immutable segment: contributions laid out in priority order, their word starts sorted, and what that commits to (P5).
//!
//! A segment is a view over bytes of one form ([`super::format`]), which lie in memory or in a mapped file. It adds the tree of its document rows,
//! since their numbers are the Datanet's: four bytes a row. All that is read of a file is some value whatever the file says, and nothing beyond it
//! is read; what is opened is hashed again from text, rows and entries, and leads to the roots or is not given.

use std::{borrow::Cow, ops::Range, sync::OnceLock};

use types::{
    id::Hash32,
    merkle::{self, Crown, CrownView},
    text::{LEAF_STRIDE, WINDOW, leaf_range, leaf_salt, prompt_root, text_root},
};

use super::{
    array::Array,
    build::{self, BuildError, Entry, Source},
    bytes::{Asked, Bytes},
    format::{ARRAY_STRIDE, Counts, FormatError, Header, PADDING, SECTIONS, Section, SegmentId},
    leaf::{ArrayLeaf, DocumentRow, Leaf, Opened, SegmentLeaf, TextLeaf},
    marks::{Marks, Tops},
    minimum::RangeMinimum,
    order::as_index,
    rows::{Contribution, Contributions, Documents, Numbering},
    salted::{SALT_BYTES, array_salt},
};

/// Longest text of one segment: one is built in little more memory than it has text.
pub const SEGMENT_BYTES_MAX: usize = 1 << 30;

/// An immutable, searchable, committed run of contributions.
#[derive(Debug)]
pub struct Segment {
    bytes: Bytes,
    header: Header,
    places: Places,
    numbering: Numbering,
    /// Of the rows as they are numbered now.
    document_tree: OnceLock<Crown>,
    /// The tops of a file: every search asks them first.
    tops: OnceLock<Vec<u8>>,
}

/// Where the sections lie.
#[derive(Debug)]
struct Places([Range<usize>; SECTIONS]);

impl Places {
    fn of(counts: &Counts) -> Self {
        Self(Section::ALL.map(|section| counts.range(section)))
    }
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
        build::build(entries, first_row)
    }

    /// The segment that these bytes are, whole and undamaged ([`Segment::verify`]); rows are numbered from zero.
    ///
    /// # Errors
    /// [`FormatError`] naming the part.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, FormatError> {
        let segment = Self::read(Bytes::Memory(bytes))?;
        segment.verify()?;
        Ok(segment)
    }

    /// The bytes of the segment: the same for the same contributions, whoever built it.
    pub fn to_bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The segment that these bytes say they are: header and length are looked at, sections are not.
    pub(crate) fn read(bytes: Bytes) -> Result<Self, FormatError> {
        let header = Header::decode(bytes.as_slice())?;
        let (expected, got) = (header.counts.total(), bytes.as_slice().len());
        if expected != got {
            return Err(FormatError::Length { expected: as_u64(expected), got: as_u64(got) });
        }
        let segment = Self::over(bytes, header, 0);
        segment.check_roots()?;
        Ok(segment)
    }

    /// The segment over bytes of a known header.
    pub(super) fn over(bytes: Bytes, header: Header, first_row: u64) -> Self {
        let places = Places::of(&header.counts);
        let numbering = Numbering { first_row, ..Numbering::default() };
        Self { bytes, header, places, numbering, document_tree: OnceLock::new(), tops: OnceLock::new() }
    }

    /// Whether both trees' topmost digests make the header's roots.
    fn check_roots(&self) -> Result<(), FormatError> {
        let roots =
            [(Section::TextTree, self.text_tree(), self.header.text_root), (Section::ArrayTree, self.array_tree(), self.header.array_root)];
        for (name, tree, expected) in roots {
            let got = tree.root();
            if got != expected {
                return Err(FormatError::Root { name, expected, got });
            }
        }
        Ok(())
    }

    /// Reads every byte and compares it with the header: some seconds per gigabyte.
    ///
    /// # Errors
    /// [`FormatError`] naming the first section that is not as it was written.
    pub fn verify(&self) -> Result<(), FormatError> {
        self.bytes.read_in_order(true);
        let is_damaged = |section: &&Section| {
            let content = self.bytes.as_slice().get(self.header.counts.filled(**section)).unwrap_or_default();
            *blake3::hash(content).as_bytes() != self.header.digest(**section)
        };
        let damaged = Section::ALL.iter().find(is_damaged);
        self.bytes.read_in_order(false);
        if let Some(name) = damaged {
            return Err(FormatError::Section { name: *name });
        }
        let got = SegmentId::of(self.contributions().iter().map(|contribution| contribution.label()));
        if got != self.header.id {
            return Err(FormatError::Foreign { expected: self.header.id, got });
        }
        self.check_roots()
    }

    /// Hashes every leaf again, and compares the trees with the header's roots: [`Segment::verify`] takes their upper levels as they are, which is enough
    /// of a file that this machine wrote, and not of another's. Some ten seconds a gigabyte.
    ///
    /// # Errors
    /// [`FormatError::Root`] naming the tree.
    pub fn verify_trees(&self) -> Result<(), FormatError> {
        let Counts { text, .. } = self.header.counts;
        let texts = Crown::in_parts((0..self.header.counts.text_leaves()).map(|leaf| self.committed_leaf(leaf)), as_u64(text));
        let (array, bytes) = (0..self.header.counts.array_leaves(), self.header.counts.array_leaf_bytes());
        let array = if self.is_salted() {
            let salts: Vec<Hash32> = self.salts().iter().copied().map(Hash32).collect();
            let salt = array_salt(&salts);
            Crown::in_parts(array.map(|leaf| [&leaf_salt(salt, leaf).0[..], self.array().leaf_bytes(leaf).as_ref()].concat()), bytes)
        } else {
            Crown::in_parts(array.map(|leaf| self.array().leaf_bytes(leaf)), bytes)
        };
        for (name, tree, view, expected) in [
            (Section::TextTree, texts, self.text_tree(), self.header.text_root),
            (Section::ArrayTree, array, self.array_tree(), self.header.array_root),
        ] {
            if tree.root() != expected || tree.view() != view {
                return Err(FormatError::Root { name, expected, got: tree.root() });
            }
        }
        Ok(())
    }

    /// Whether nobody has written to its file since it was opened; true of one in memory. One call of the system: it sees what goes through the file system, and
    /// no more ([`Segment::verify`] reads).
    pub fn is_unwritten(&self) -> bool {
        self.bytes.is_unwritten()
    }

    /// What its file was known by before it was read; nothing of one in memory.
    #[cfg(feature = "disk")]
    pub const fn stamp(&self) -> Option<crate::disk::Stamp> {
        self.bytes.stamp()
    }

    /// What it is of.
    pub const fn id(&self) -> SegmentId {
        self.header.id
    }

    /// Says that so many bytes at each of these places of a section will be read next.
    pub(super) fn want(&self, asked: &mut Asked, section: Section, places: impl Iterator<Item = usize> + Clone, bytes: usize) {
        let first = self.places.0[section as usize].start;
        self.bytes.want(asked, places.map(|place| first.saturating_add(place)), bytes);
    }

    fn section(&self, section: Section) -> &[u8] {
        self.bytes.as_slice().get(self.places.0[section as usize].clone()).unwrap_or_default()
    }

    /// The text, zero fill included.
    pub fn text(&self) -> &[u8] {
        let padded = self.section(Section::Text);
        &padded[..padded.len().saturating_sub(PADDING)]
    }

    /// Records of the contributions, and what stands behind them.
    fn records(&self) -> (&[u8], &[u8]) {
        let section = self.section(Section::Contributions);
        section.split_at_checked(self.header.counts.record_bytes()).unwrap_or_default()
    }

    fn contributions(&self) -> Contributions<'_> {
        Contributions::new(self.records().0)
    }

    /// Whether its leaves are salted: it is of a private Datanet.
    pub const fn is_salted(&self) -> bool {
        self.header.counts.is_salted
    }

    /// Salts of the contributions in their order; none of a segment without.
    fn salts(&self) -> &[[u8; SALT_BYTES]] {
        self.records().1.as_chunks().0
    }

    /// Its documents in order of priority and of place, which is one order.
    pub fn documents(&self) -> Documents<'_> {
        let starts = self.section(Section::Documents).as_chunks().0;
        Documents { contributions: self.contributions(), starts, numbering: &self.numbering }
    }

    /// Word starts in the order of what follows them.
    pub fn array(&self) -> Array<'_> {
        Array::new(self.section(Section::Array))
    }

    /// Of every fourth window, from the one before.
    pub(super) fn marks(&self) -> Marks<'_> {
        Marks::new(self.section(Section::Marks))
    }

    /// Whether it lies in a file.
    pub(super) const fn is_mapped(&self) -> bool {
        self.bytes.is_mapped()
    }

    /// Every 1,024th window, in memory.
    pub(super) fn tops(&self) -> Tops<'_> {
        let section = || self.section(Section::Tops);
        Tops::new(if self.is_mapped() { self.tops.get_or_init(|| section().to_vec()) } else { section() })
    }

    fn text_tree(&self) -> CrownView<'_> {
        let digests = self.section(Section::TextTree).as_chunks().0;
        CrownView::new(as_u64(self.header.counts.text_leaves()), as_u64(self.header.counts.text), digests)
            .expect("sections are as long as the counts make them")
    }

    fn array_tree(&self) -> CrownView<'_> {
        let digests = self.section(Section::ArrayTree).as_chunks().0;
        CrownView::new(as_u64(self.header.counts.array_leaves()), self.header.counts.array_leaf_bytes(), digests)
            .expect("sections are as long as the counts make them")
    }

    fn document_tree(&self) -> &Crown {
        self.document_tree.get_or_init(|| Crown::over(self.documents().iter().map(|row| row.bytes())))
    }

    /// Bytes it takes in memory; those of a mapped file are the system's, all but its tops.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.memory_bytes() + self.document_tree().memory_bytes() + self.tops.get().map_or(0, Vec::capacity)
    }

    /// Numbers the rows from `first_row`, and gives each the number in the Datanet of its cluster's first row, where that is another.
    pub(super) fn number_rows(&mut self, first_row: u64, cluster_of: impl Fn(&DocumentRow) -> Option<u64>) {
        let joined = self.documents().iter().enumerate().filter_map(|(number, row)| Some((number, cluster_of(&row)?)));
        let numbering = Numbering { first_row, clusters: joined.collect() };
        if numbering != self.numbering {
            self.numbering = numbering;
            self.document_tree = OnceLock::new();
        }
    }

    /// What it commits to when its text starts at `start` of the Datanet. Reads what every search needs: rows and tops.
    pub fn leaf(&self, start: u64) -> SegmentLeaf {
        self.tops();
        SegmentLeaf {
            text: self.header.text_root,
            documents: self.document_tree().root(),
            array: self.header.array_root,
            start,
            length: as_u64(self.header.counts.text),
            entries: as_u64(self.header.counts.entries),
        }
    }

    /// At most 256 bytes from `start`, which may reach beyond the document: a pattern holds no zero byte, so it compares with these as with what
    /// stands before the first zero of them, and no search looks for that.
    pub(super) fn window(&self, start: u32) -> &[u8] {
        let rest = self.text().get(as_index(start)..).unwrap_or_default();
        &rest[..rest.len().min(WINDOW)]
    }

    /// Smallest offset among a range of ranks: in a segment, that of the earliest holder.
    pub fn earliest(&self, ranks: Range<usize>) -> Option<u32> {
        RangeMinimum::new(self.section(Section::Minima).as_chunks().0, self.header.counts.entries).of(self.array(), ranks)
    }

    /// Number and row of the document that holds byte `offset`; nothing for a zero between documents.
    pub fn document_at(&self, offset: u64) -> Option<(usize, DocumentRow)> {
        self.documents().at(offset)
    }

    /// Bytes of text leaf `index`: it ends with its contribution.
    pub fn text_leaf(&self, index: usize) -> &[u8] {
        let end = self.contributions().end_at(index.saturating_mul(LEAF_STRIDE));
        self.text().get(leaf_range(index, end)).unwrap_or_default()
    }

    /// Root of these bytes of the text as contribution `number` commits to them, hashed anew; nothing beyond the text.
    pub fn text_root(&self, number: usize, bytes: Range<usize>) -> Option<Hash32> {
        let text = self.text().get(bytes)?;
        Some(match self.salts().get(number) {
            Some(salt) => prompt_root(text, Hash32(*salt)),
            None => text_root(text),
        })
    }

    /// What is hashed of text leaf `index`: behind its salt, if it has one.
    fn committed_leaf(&self, index: usize) -> Cow<'_, [u8]> {
        let text = self.text_leaf(index);
        if !self.is_salted() {
            return Cow::Borrowed(text);
        }
        let salted = |(number, contribution): (usize, Contribution)| {
            let salt = self.salts().get(number)?;
            let own = index.checked_sub(contribution.range().start / LEAF_STRIDE)?;
            Some([&leaf_salt(Hash32(*salt), own).0[..], text].concat())
        };
        let salted = self.contributions().at(index.saturating_mul(LEAF_STRIDE)).and_then(salted);
        salted.map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// Opens the text leaf in whose stride byte `offset` lies: in a private Datanet the salt stands before the text.
    pub(crate) fn open_text(&self, offset: u64) -> Option<Opened<TextLeaf>> {
        let index = offset / as_u64(LEAF_STRIDE);
        let opening = self.text_tree().open(index, |leaves| merkle::leaf_digests(leaves.map(|leaf| self.committed_leaf(leaf))))?;
        let leaf = TextLeaf(self.committed_leaf(usize::try_from(index).ok()?).into_owned());
        led(Opened { leaf, opening }, self.header.text_root)
    }

    /// Opens a document row.
    pub(crate) fn open_document(&self, number: usize) -> Option<Opened<DocumentRow>> {
        let rows = self.documents();
        let again = |numbers: Range<usize>| merkle::leaf_digests(numbers.filter_map(|number| rows.get(number)).map(|row| row.bytes()));
        Some(Opened { leaf: rows.get(number)?, opening: self.document_tree().open(as_u64(number), again)? })
    }

    /// Opens the array leaf that holds the entries at `rank` - 1 and at `rank`, which always stand in one: what lies between two neighbours, and
    /// what does not, is shown by it. At rank 0 the first leaf, at the number of entries the one that ends with the last; nothing beyond, and
    /// nothing of an empty array, and nothing of one in a private Datanet: no proof reads it, and it tells the order of words.
    pub fn open_array(&self, rank: u64) -> Option<Opened<ArrayLeaf>> {
        let array = self.array();
        let rank = usize::try_from(rank).ok().filter(|rank| *rank <= array.len() && !self.is_salted())?;
        let index = rank.saturating_sub(1) / ARRAY_STRIDE;
        let again = |leaves: Range<usize>| merkle::leaf_digests(leaves.map(|leaf| array.leaf(leaf).bytes()));
        let opening = self.array_tree().open(as_u64(index), again)?;
        led(Opened { leaf: array.leaf(index), opening }, self.header.array_root)
    }
}

/// What was opened, if it leads to `root`: upper levels of a tree may have changed where they lie.
fn led<T: Leaf>(opened: Opened<T>, root: Hash32) -> Option<Opened<T>> {
    (opened.root() == Some(root)).then_some(opened)
}

pub(crate) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
impl Segment {
    /// What a liar makes of this segment: sections changed, and trees, digests and identifier made to go with that.
    pub(crate) fn remade(&self, change: impl FnOnce(&dyn Fn(Section) -> Range<usize>, &mut [u8])) -> Self {
        let (counts, mut bytes) = (self.header.counts, self.to_bytes().to_vec());
        change(&|section| counts.range(section), &mut bytes);
        let changed = Self::over(Bytes::Memory(bytes.clone()), self.header.clone(), 0);
        let text = Crown::in_parts((0..counts.text_leaves()).map(|leaf| changed.text_leaf(leaf)), as_u64(counts.text));
        let array = Crown::in_parts((0..counts.array_leaves()).map(|leaf| changed.array().leaf_bytes(leaf)), counts.array_leaf_bytes());
        for (section, tree) in [(Section::TextTree, &text), (Section::ArrayTree, &array)] {
            bytes[counts.range(section)].copy_from_slice(tree.digests().as_flattened());
        }
        let digests = Section::ALL.map(|section| *blake3::hash(&bytes[counts.filled(section)]).as_bytes());
        let id = SegmentId::of(changed.contributions().iter().map(|contribution| contribution.label()));
        let header = Header { counts, text_root: text.root(), array_root: array.root(), id, digests };
        bytes[..super::format::HEADER_BYTES].copy_from_slice(&header.encode());
        Self::from_bytes(bytes).unwrap()
    }

    /// Where a section lies.
    pub(crate) fn place_of(&self, section: Section) -> Range<usize> {
        self.header.counts.range(section)
    }

    /// A segment of which nothing but its header was looked at.
    pub(crate) fn from_bytes_unread(bytes: Vec<u8>) -> Self {
        Self::read(Bytes::Memory(bytes)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use types::id::Address;

    use super::*;

    #[test]
    fn a_segment_of_prose_takes_less_than_two_bytes_a_byte_of_text() {
        // A word start every 5.2 bytes, documents of some 2 kB.
        let document = |number: u64| (0..363).map(|word| format!("{:04x} ", (number * 363 + word) * 40_503 % 65_521)).collect::<String>();
        let text: String = (0..500).map(|number| document(number).replace("0 ", "00000 ") + "\0").collect();
        let text_root = text_root(text.as_bytes());
        let source = Source { contributor: Address([1; 20]), block: 1, ordinal: 0, text_root, text: text.as_bytes() };
        let segment = Segment::build(&[source], 0).unwrap();
        let per_mille = segment.memory_bytes() * 1_000 / text.len();
        println!("{} bytes of text, {} entries, {per_mille} bytes for a thousand", text.len(), segment.array().len());
        assert!((1_850..2_000).contains(&per_mille), "{per_mille}");
        assert_eq!(Segment::from_bytes(segment.to_bytes().to_vec()).unwrap().leaf(0), segment.leaf(0));
    }
}
