//! Openings that proofs need beyond those of an honest span (P7): a row with its number in the Datanet, and what stands before a place.

use types::{
    id::Hash32,
    proof::{Ahead, Head, Passage, Row, Shown, Source},
    text::{self, LEAF_STRIDE},
};

use super::{DatanetIndex, Index, Leaf, Opened, ReadError, Segment, segment::as_u64};

/// The most bytes of a character.
const CHARACTER_BYTES_MAX: usize = 4;

impl<T: Leaf> From<Opened<T>> for Shown {
    fn from(opened: Opened<T>) -> Self {
        Self { leaf: opened.leaf.bytes(), opening: opened.opening }
    }
}

/// Where a byte of an index stands.
struct At<'a> {
    datanet: &'a DatanetIndex,
    /// Number of the segment.
    place: usize,
    /// The byte's offset in it.
    offset: u64,
    nowhere: ReadError,
    changed: ReadError,
}

impl Index {
    /// Where a byte stands that is opened for a contract.
    fn at(&self, number: u8, position: u64) -> Result<At<'_>, ReadError> {
        let at = self.found(number, position)?;
        if at.datanet.is_private() { Err(ReadError::Private { datanet: number }) } else { Ok(at) }
    }

    fn found(&self, number: u8, position: u64) -> Result<At<'_>, ReadError> {
        let nowhere = ReadError::Nowhere { datanet: number, position };
        let datanet = self.datanets().get(usize::from(number)).ok_or(nowhere)?;
        let (place, offset) = datanet.place(position).ok_or(nowhere)?;
        let changed = ReadError::Changed { datanet: number, segment: datanet.segments()[place].id(), position };
        Ok(At { datanet, place, offset, nowhere, changed })
    }

    /// Datanet and segment of byte `position` of Datanet `number`.
    ///
    /// # Errors
    /// [`ReadError::Nowhere`] beyond its end, [`ReadError::Private`].
    pub fn show_source(&self, number: u8, position: u64) -> Result<Source, ReadError> {
        let At { datanet, place, changed, .. } = self.at(number, position)?;
        let segment = datanet.open_segment(place).ok_or(changed)?;
        Ok(Source { datanet: self.open_datanet(number).ok_or(changed)?.into(), segment: segment.into() })
    }

    /// The text at byte `position` of Datanet `number`, and the leaf before it where the character before the place does not stand in the first.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn show_passage(&self, number: u8, position: u64) -> Result<Passage, ReadError> {
        let At { datanet, place, offset, changed, .. } = self.at(number, position)?;
        let segment = &datanet.segments()[place];
        let text = Shown::from(segment.open_text(offset).ok_or(changed)?);
        let within = usize::try_from(offset % as_u64(LEAF_STRIDE)).expect("below 64");
        let earlier = offset.checked_sub(as_u64(LEAF_STRIDE)).filter(|_| is_cut_before(&text.leaf, within));
        let before = earlier.map(|earlier| segment.open_text(earlier).map(Shown::from).ok_or(changed)).transpose()?;
        Ok(Passage { text, before })
    }

    /// Whether a word begins at byte `position` of Datanet `number`.
    ///
    /// # Errors
    /// [`ReadError::Nowhere`] beyond its end.
    pub fn begins_word(&self, number: u8, position: u64) -> Result<bool, ReadError> {
        let At { datanet, place, offset, nowhere, .. } = self.found(number, position)?;
        let offset = usize::try_from(offset).map_err(|_| nowhere)?;
        let (before, behind) = datanet.segments()[place].text().split_at_checked(offset).ok_or(nowhere)?;
        let character = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        // The fewest bytes that are text are one character.
        let first = (1..=CHARACTER_BYTES_MAX.min(behind.len())).find_map(|count| character(&behind[..count]));
        let last = (1..=CHARACTER_BYTES_MAX.min(before.len())).find_map(|count| character(&before[before.len() - count..]));
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        Ok(text::words(&format!("{last}{first}")).iter().any(|word| word.start == last.len() && !first.is_empty()))
    }

    /// The row of the document that holds byte `position` of Datanet `number`, with what tells its number.
    ///
    /// # Errors
    /// [`ReadError::Nowhere`] where no document stands, [`ReadError::Private`].
    pub fn show_row(&self, number: u8, position: u64) -> Result<Row, ReadError> {
        let At { datanet, place, offset, nowhere, changed } = self.at(number, position)?;
        let (row, _) = datanet.segments()[place].document_at(offset).ok_or(nowhere)?;
        datanet.show_row_at(place, row).ok_or(changed)
    }

    /// Segment and row of the document that is paid for the one that holds byte `position`: the first of its cluster; nothing where that one leads its own.
    ///
    /// # Errors
    /// [`ReadError::Nowhere`] where no document stands, [`ReadError::Private`].
    pub fn show_head(&self, number: u8, position: u64) -> Result<Option<(Shown, Row)>, ReadError> {
        let At { datanet, place, offset, nowhere, changed } = self.at(number, position)?;
        let (row_number, row) = datanet.segments()[place].document_at(offset).ok_or(nowhere)?;
        let (head_place, head) = datanet.row_place(row.cluster).ok_or(changed)?;
        if (head_place, head) == (place, row_number) {
            return Ok(None);
        }
        let segment = datanet.open_segment(head_place).ok_or(changed)?;
        Ok(Some((segment.into(), datanet.show_row_at(head_place, head).ok_or(changed)?)))
    }
}

impl DatanetIndex {
    fn show_row_at(&self, place: usize, row: usize) -> Option<Row> {
        let ahead = (0..place).map(|place| {
            Some(Ahead { segment: self.open_segment(place)?.into(), documents: documents_head(self.segments().get(place)?)? })
        });
        Some(Row { row: self.segments().get(place)?.open_document(row)?.into(), ahead: ahead.collect::<Option<_>>()? })
    }
}

/// What is sealed in the root of a segment's rows: their number is what a proof counts.
fn documents_head(segment: &Segment) -> Option<Head> {
    if segment.documents().is_empty() {
        return Some(Head { leaves: 0, byte_length: 0, top: Hash32::ZERO });
    }
    let first = segment.open_document(0)?;
    let top = first.opening.top(&first.leaf.bytes())?;
    Some(Head { leaves: first.opening.leaves, byte_length: first.opening.byte_length, top })
}

/// Whether the character that ends before byte `place` of a leaf begins before the leaf does: what stands there of it are continuation bytes only.
pub(crate) fn is_cut_before(leaf: &[u8], place: usize) -> bool {
    place < CHARACTER_BYTES_MAX && leaf.iter().take(place).all(|byte| byte & 0xc0 == 0x80)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::{
        contribution::Priority,
        id::{Address, AssetId, AssetVersion},
        text::text_root,
    };

    use super::*;
    use crate::index::{Clusters, Source as Contribution};

    fn contribution(block: u64, text: &str) -> Contribution<'_> {
        let text = text.as_bytes();
        Contribution { contributor: Address([u8::try_from(block).unwrap(); 20]), block, ordinal: 0, text_root: text_root(text), text }
    }

    fn field(leaf: &[u8], at: usize) -> Hash32 {
        Hash32(leaf[at..at + 32].try_into().unwrap())
    }

    #[test]
    fn a_row_is_numbered_by_the_segments_ahead_of_its_own_and_led_to_its_clusters_first() {
        let (head, other, copy) =
            (contribution(2, "the same words here\0"), contribution(3, "a\0b\0"), contribution(7, "the same words, here\0"));
        let at = |block| Priority { block, ordinal: 0, document: 0 };
        let segments = [vec![head], vec![], vec![other], vec![copy]].map(|of| Segment::build(&of, 0).unwrap());
        let version = AssetVersion { asset: AssetId(1), version: 1 };
        let clusters = Clusters::new([(at(7), at(2))]).unwrap();
        let index = Index::new(vec![Arc::new(DatanetIndex::clustered(version, segments.into(), &clusters).unwrap())]).unwrap();
        let position = index.holder(b"same words, here").unwrap().position;
        let (source, row) = (index.show_source(0, position).unwrap(), index.show_row(0, position).unwrap());
        assert_eq!(source.datanet.opening.root(&source.datanet.leaf), Some(index.root()));
        assert_eq!(source.segment.opening.root(&source.segment.leaf), Some(field(&source.datanet.leaf, 20)));
        assert_eq!(row.row.opening.root(&row.row.leaf), Some(field(&source.segment.leaf, 32)));
        let counts: Vec<u64> = row.ahead.iter().map(|ahead| ahead.documents.leaves).collect();
        assert_eq!(counts, [1, 0, 2]);
        for (number, ahead) in row.ahead.iter().enumerate() {
            assert_eq!(ahead.segment.opening.index, number as u64);
            assert_eq!(ahead.segment.opening.root(&ahead.segment.leaf), Some(field(&source.datanet.leaf, 20)));
            let Head { leaves, byte_length, top } = ahead.documents;
            assert_eq!(types::merkle::seal(leaves, byte_length, top), field(&ahead.segment.leaf, 32), "{number}");
        }
        let (segment, head) = index.show_head(0, position).unwrap().unwrap();
        assert_eq!((segment.opening.index, head.row.opening.index, head.ahead.len()), (0, 0, 0));
        assert_eq!(head.row.leaf[41..61], [2; 20]);
        assert_eq!(index.show_head(0, 0), Ok(None));
        assert_eq!(index.show_source(0, 1 << 30), Err(ReadError::Nowhere { datanet: 0, position: 1 << 30 }));
        assert_eq!(index.show_row(1, 0), Err(ReadError::Nowhere { datanet: 1, position: 0 }));
    }

    #[test]
    fn the_leaf_before_is_shown_exactly_where_the_character_before_does_not_stand_in_the_leaf() {
        // Bytes 64 and 65 end a character of three bytes that begins at 63, byte 128 one of two.
        let text = format!("{}\u{0915} {}\u{00e9}b\0", "a".repeat(63), "c".repeat(60));
        assert_eq!((text.as_bytes()[64] & 0xc0, text.as_bytes()[66]), (0x80, b' '));
        let version = AssetVersion { asset: AssetId(1), version: 1 };
        let segment = Segment::build(&[contribution(1, &text), contribution(2, "next\0")], 0).unwrap();
        let index = Index::new(vec![Arc::new(DatanetIndex::new(version, vec![segment]).unwrap())]).unwrap();
        let shown = |position| index.show_passage(0, position).unwrap().before.map(|before| before.opening.index);
        let expected =
            [(0, None), (63, None), (64, Some(0)), (66, Some(0)), (67, None), (128, Some(1)), (129, Some(1)), (130, None), (192, Some(2))];
        for (position, before) in expected {
            assert_eq!(shown(position), before, "{position}");
        }
    }
}
