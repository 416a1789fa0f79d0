//! What somebody has of an index under a posted root: all of it, or what receipts showed of it.

use std::collections::BTreeMap;

use types::{
    id::{AssetVersion, Hash32},
    merkle::{Opening, Tree, leaf_digests},
    proof::Shown,
};

use crate::{
    bundle::Bundle,
    index::{HeadOpenings, Index, Leaf, Opened, SpanOpenings},
};

/// No index has as many leaves: a position has 40 bits.
const NUMBER_MAX: u64 = 1 << 40;

/// A tree of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Text leaves.
    Text,
    /// Document rows.
    Documents,
    /// Array leaves.
    Array,
}

/// Leaves of an index with their ways to its root. Nothing is trusted: a leaf that does not lead there proves nothing.
pub trait Held {
    /// Numbers of the Datanets whose leaves are there, ascending.
    fn datanets(&self) -> Vec<u64>;
    /// A Datanet's leaf.
    fn datanet(&self, datanet: u64) -> Option<Shown>;
    /// Numbers of a Datanet's segments whose leaves are there, ascending.
    fn segments(&self, datanet: u64) -> Vec<u64>;
    /// A segment's leaf.
    fn segment(&self, datanet: u64, segment: u64) -> Option<Shown>;
    /// Numbers of the leaves of a tree that are there, ascending, from `from` on.
    fn numbers(&self, datanet: u64, segment: u64, part: Part, from: u64) -> Box<dyn Iterator<Item = u64> + '_>;
    /// A leaf with its way up.
    fn show(&self, datanet: u64, segment: u64, part: Part, number: u64) -> Option<Shown>;
    /// A leaf with its number and how many there are: as [`Held::show`], but for siblings, where they take time.
    fn bare(&self, datanet: u64, segment: u64, part: Part, number: u64) -> Option<Shown> {
        self.show(datanet, segment, part, number)
    }
}

/// Pieces of an index, from receipts under its root.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    datanets: BTreeMap<u64, Shown>,
    segments: BTreeMap<(u64, u64), Shown>,
    leaves: BTreeMap<(u64, u64, Part, u64), Shown>,
}

impl Pieces {
    /// Adds what a receipt's file shows of the index under `root`; false if it is of another.
    pub fn add(&mut self, bundle: &Bundle, root: Hash32) -> bool {
        if bundle.receipt.document.index != root {
            return false;
        }
        bundle.openings.iter().for_each(|of| self.add_span(of, root));
        true
    }

    fn add_span(&mut self, of: &SpanOpenings, root: Hash32) {
        // What stands under a private Datanet is read by no contract: its segments do not lead there.
        if of.datanet.root() != Some(root) || of.segment.root() != Some(of.datanet.leaf.segments) {
            return;
        }
        let (datanet, segment) = (of.datanet.opening.index, of.segment.opening.index);
        if datanet >= NUMBER_MAX || segment >= NUMBER_MAX {
            return;
        }
        self.datanets.insert(datanet, of.datanet.clone().into());
        self.segments.insert((datanet, segment), of.segment.clone().into());
        if let Some(text) = &of.text {
            self.leaf((datanet, segment, Part::Text), text, of.segment.leaf.text);
        }
        self.leaf((datanet, segment, Part::Documents), &of.document, of.segment.leaf.documents);
        let is_led =
            |head: &&HeadOpenings| head.segment.root() == Some(of.datanet.leaf.segments) && head.segment.opening.index < NUMBER_MAX;
        if let Some(head) = of.head.as_ref().filter(is_led) {
            let segment = head.segment.opening.index;
            self.segments.insert((datanet, segment), head.segment.clone().into());
            self.leaf((datanet, segment, Part::Documents), &head.document, head.segment.leaf.documents);
        }
    }

    fn leaf<T: Leaf + Clone>(&mut self, (datanet, segment, part): (u64, u64, Part), opened: &Opened<T>, root: Hash32) {
        if opened.root() == Some(root) && opened.opening.index < NUMBER_MAX {
            self.leaves.insert((datanet, segment, part, opened.opening.index), opened.clone().into());
        }
    }
}

impl Held for Pieces {
    fn datanets(&self) -> Vec<u64> {
        self.datanets.keys().copied().collect()
    }

    fn datanet(&self, datanet: u64) -> Option<Shown> {
        self.datanets.get(&datanet).cloned()
    }

    fn segments(&self, datanet: u64) -> Vec<u64> {
        self.segments.range((datanet, 0)..=(datanet, u64::MAX)).map(|((_, segment), _)| *segment).collect()
    }

    fn segment(&self, datanet: u64, segment: u64) -> Option<Shown> {
        self.segments.get(&(datanet, segment)).cloned()
    }

    fn numbers(&self, datanet: u64, segment: u64, part: Part, from: u64) -> Box<dyn Iterator<Item = u64> + '_> {
        let range = (datanet, segment, part, from)..=(datanet, segment, part, u64::MAX);
        Box::new(self.leaves.range(range).map(|((.., number), _)| *number))
    }

    fn show(&self, datanet: u64, segment: u64, part: Part, number: u64) -> Option<Shown> {
        self.leaves.get(&(datanet, segment, part, number)).cloned()
    }
}

/// A segment as lists of leaves, whatever they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLeaves {
    /// First byte in the Datanet.
    pub start: u64,
    /// Bytes of text.
    pub length: u64,
    /// Entries of the array.
    pub entries: u64,
    /// Text leaves.
    pub texts: Vec<Vec<u8>>,
    /// Document rows.
    pub rows: Vec<Vec<u8>>,
    /// Array leaves.
    pub array: Vec<Vec<u8>>,
}

/// A Datanet as lists of leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatanetLeaves {
    /// Asset and version.
    pub version: AssetVersion,
    /// Bytes of all segments.
    pub length: u64,
    /// Its segments.
    pub segments: Vec<SegmentLeaves>,
}

/// An index as lists of leaves: six times its text in memory, for small ones and for such as no builder makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaves(pub Vec<DatanetLeaves>);

impl Leaves {
    /// The leaves of an index.
    pub fn of(index: &Index) -> Self {
        let datanets = index.datanets().iter().map(|datanet| {
            let mut start = 0;
            let segments = datanet.segments().iter().map(|segment| {
                let part = segment.leaf(start);
                start += part.length;
                let texts = 0..usize::try_from(part.length).unwrap_or_default().div_ceil(types::text::LEAF_STRIDE);
                SegmentLeaves {
                    start: part.start,
                    length: part.length,
                    entries: part.entries,
                    texts: texts.map(|number| segment.text_leaf(number).to_vec()).collect(),
                    rows: segment.documents().iter().map(|row| row.bytes()).collect(),
                    array: (0..segment.array().len().div_ceil(15)).map(|number| segment.array().leaf(number).bytes()).collect(),
                }
            });
            DatanetLeaves { version: datanet.version(), segments: segments.collect(), length: datanet.bytes() }
        });
        Self(datanets.collect())
    }
}

/// Trees over lists of leaves, made anew from them.
#[derive(Debug, Clone)]
pub struct Laid {
    leaves: Leaves,
    /// Text, documents and array of each segment.
    trees: Vec<Vec<[Tree; 3]>>,
    /// Leaves of each Datanet's segments, and their tree.
    segments: Vec<(Vec<Vec<u8>>, Tree)>,
    datanets: Vec<Vec<u8>>,
    tree: Tree,
}

impl Laid {
    /// The index that these leaves make.
    pub fn new(leaves: Leaves) -> Self {
        let over = |leaves: &[Vec<u8>]| Tree::over(leaves.iter().map(Vec::as_slice));
        let (mut trees, mut segments, mut datanets) = (Vec::new(), Vec::new(), Vec::new());
        for datanet in &leaves.0 {
            let own: Vec<[Tree; 3]> = datanet
                .segments
                .iter()
                .map(|segment| [Tree::new(leaf_digests(&segment.texts), segment.length), over(&segment.rows), over(&segment.array)])
                .collect();
            let part = |(segment, [text, rows, array]): (&SegmentLeaves, &[Tree; 3])| {
                let roots = [text.root(), rows.root(), array.root()].map(|root| root.0).concat();
                [roots, [segment.start, segment.length, segment.entries].map(u64::to_be_bytes).concat()].concat()
            };
            let parts: Vec<Vec<u8>> = datanet.segments.iter().zip(&own).map(part).collect();
            let tree = over(&parts);
            let leaf = crate::index::DatanetLeaf { version: datanet.version, bytes: datanet.length, segments: tree.root() };
            datanets.push(leaf.bytes());
            segments.push((parts, tree));
            trees.push(own);
        }
        let tree = over(&datanets);
        Self { leaves, trees, segments, datanets, tree }
    }

    /// Its root.
    pub fn root(&self) -> Hash32 {
        self.tree.root()
    }

    fn part(&self, datanet: u64, segment: u64, part: Part) -> Option<(&[Vec<u8>], &Tree)> {
        let (datanet, segment) = (usize::try_from(datanet).ok()?, usize::try_from(segment).ok()?);
        let leaves = self.leaves.0.get(datanet)?.segments.get(segment)?;
        let [text, rows, array] = self.trees.get(datanet)?.get(segment)?;
        Some(match part {
            Part::Text => (&leaves.texts, text),
            Part::Documents => (&leaves.rows, rows),
            Part::Array => (&leaves.array, array),
        })
    }
}

fn count(leaves: usize) -> u64 {
    u64::try_from(leaves).unwrap_or(u64::MAX)
}

fn shown(leaves: &[Vec<u8>], tree: &Tree, number: u64) -> Option<Shown> {
    Some(Shown { leaf: leaves.get(usize::try_from(number).ok()?)?.clone(), opening: tree.open(number)? })
}

impl Held for Laid {
    fn datanets(&self) -> Vec<u64> {
        (0..count(self.datanets.len())).collect()
    }

    fn datanet(&self, datanet: u64) -> Option<Shown> {
        shown(&self.datanets, &self.tree, datanet)
    }

    fn segments(&self, datanet: u64) -> Vec<u64> {
        let segments = usize::try_from(datanet).ok().and_then(|datanet| self.segments.get(datanet));
        (0..segments.map_or(0, |(leaves, _)| count(leaves.len()))).collect()
    }

    fn segment(&self, datanet: u64, segment: u64) -> Option<Shown> {
        let (leaves, tree) = self.segments.get(usize::try_from(datanet).ok()?)?;
        shown(leaves, tree, segment)
    }

    fn numbers(&self, datanet: u64, segment: u64, part: Part, from: u64) -> Box<dyn Iterator<Item = u64> + '_> {
        Box::new(from..self.part(datanet, segment, part).map_or(0, |(leaves, _)| count(leaves.len())))
    }

    fn show(&self, datanet: u64, segment: u64, part: Part, number: u64) -> Option<Shown> {
        let (leaves, tree) = self.part(datanet, segment, part)?;
        shown(leaves, tree, number)
    }

    fn bare(&self, datanet: u64, segment: u64, part: Part, number: u64) -> Option<Shown> {
        let (leaves, _) = self.part(datanet, segment, part)?;
        let leaf = leaves.get(usize::try_from(number).ok()?)?.clone();
        Some(Shown { leaf, opening: Opening { leaves: count(leaves.len()), byte_length: 0, index: number, siblings: Vec::new() } })
    }
}
