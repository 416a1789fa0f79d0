//! All of an index as what is held of it: leaves are read where its segments lie, in memory or in mapped files, and hashed again when they are shown.
//!
//! Another's segment says of its trees what it likes. Whatever is shown leads to the roots in its header or is not shown, so that such a file proves nothing;
//! [`Segment::verify_trees`] says beforehand whether every leaf leads there. Memory: of a mapped segment the pages under a leaf, and the upper levels of
//! the tree of its rows.

use types::{merkle::Opening, proof::Shown, text::LEAF_STRIDE};

use super::{
    held::{Held, Part},
    own_leaf,
};
use crate::index::{ARRAY_LEAF_ENTRIES, Index, Segment};

/// An index with all its leaves, whoever made it.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a>(pub &'a Index);

impl Whole<'_> {
    fn at(&self, datanet: u64, segment: u64) -> Option<&Segment> {
        let (datanet, segment) = (usize::try_from(datanet).ok()?, usize::try_from(segment).ok()?);
        self.0.datanets().get(datanet)?.segments().get(segment)
    }
}

/// Leaves of a tree of a segment.
fn count(segment: &Segment, part: Part) -> u64 {
    let leaves = match part {
        Part::Text => segment.text().len().div_ceil(LEAF_STRIDE),
        Part::Documents => segment.documents().len(),
        Part::Array => segment.array().len().div_ceil(ARRAY_LEAF_ENTRIES - 1),
    };
    as_u64(leaves)
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Held for Whole<'_> {
    fn datanets(&self) -> Vec<u64> {
        (0..as_u64(self.0.datanets().len())).collect()
    }

    fn datanet(&self, datanet: u64) -> Option<Shown> {
        self.0.open_datanet(u8::try_from(datanet).ok()?).map(Shown::from)
    }

    fn segments(&self, datanet: u64) -> Vec<u64> {
        let datanet = usize::try_from(datanet).ok().and_then(|datanet| self.0.datanets().get(datanet));
        (0..datanet.map_or(0, |datanet| as_u64(datanet.segments().len()))).collect()
    }

    fn segment(&self, datanet: u64, segment: u64) -> Option<Shown> {
        let datanet = self.0.datanets().get(usize::try_from(datanet).ok()?)?;
        datanet.open_segment(usize::try_from(segment).ok()?).map(Shown::from)
    }

    fn numbers(&self, datanet: u64, segment: u64, part: Part, from: u64) -> Box<dyn Iterator<Item = u64> + '_> {
        Box::new(from..self.at(datanet, segment).map_or(0, |segment| count(segment, part)))
    }

    fn show(&self, datanet: u64, segment: u64, part: Part, number: u64) -> Option<Shown> {
        let segment = self.at(datanet, segment).filter(|segment| number < count(segment, part))?;
        match part {
            Part::Text => segment.open_text(number.checked_mul(as_u64(LEAF_STRIDE))?).map(Shown::from),
            Part::Documents => segment.open_document(usize::try_from(number).ok()?).map(Shown::from),
            // The rank after a leaf's first entry stands in no other leaf.
            Part::Array => segment.open_array(number.checked_mul(as_u64(ARRAY_LEAF_ENTRIES) - 1)? + 1).map(Shown::from),
        }
    }

    fn bare(&self, datanet: u64, segment: u64, part: Part, number: u64) -> Option<Shown> {
        let segment = self.at(datanet, segment)?;
        let leaves = count(segment, part);
        let leaf = own_leaf(segment, part, number).filter(|_| number < leaves)?;
        Some(Shown { leaf, opening: Opening { leaves, byte_length: 0, index: number, siblings: Vec::new() } })
    }
}
