//! The documents that a text stands in, earliest first, with what stands around it.
//!
//! Work: one search a segment, then about 2 log2(matches) minima for each place listed; what is not listed is counted and not looked at.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use types::id::Address;

use super::{DocumentRow, Index, Segment, order::as_index, segment::as_u64};

/// Where a text stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// Number of the Datanet.
    pub datanet: u8,
    /// First byte in the Datanet's segments.
    pub position: u64,
    /// Number of the document's row in its segment.
    pub number: u64,
    /// The document.
    pub row: DocumentRow,
    /// Who is paid for it: the payee of the first document of its cluster.
    pub payee: Address,
    /// First byte in the document.
    pub offset: u64,
    /// What stands before it in the document, cut at a character.
    pub before: &'a str,
    /// The text.
    pub text: &'a str,
    /// What stands behind it in the document, cut at a character.
    pub after: &'a str,
}

/// The places of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places<'a> {
    /// How many there are in all.
    pub count: u64,
    /// The first of them: by priority, then Datanet, then position.
    pub listed: Vec<Place<'a>>,
}

impl Index {
    /// The places of `pattern` (1 to 256 bytes without zero), at most `at_most` of them listed, each with at most `context` bytes of its document on
    /// either side. None of an empty pattern, of one that is longer, and of one that does not begin and end with a character.
    pub fn documents(&self, pattern: &[u8], at_most: usize, context: usize) -> Places<'_> {
        let mut listed = Vec::new();
        if std::str::from_utf8(pattern).is_ok() {
            for (datanet, start, segment) in self.segments().filter(|_| !pattern.is_empty()) {
                let first = ascending(segment, segment.range(pattern)).take(at_most);
                listed.extend(first.filter_map(|offset| self.place(datanet, start, segment, offset, pattern.len(), context)));
            }
        }
        listed.sort_by_key(|place| (place.row.priority, place.datanet, place.position));
        listed.truncate(at_most);
        Places { count: self.count(pattern), listed }
    }

    fn place<'a>(&'a self, datanet: u8, start: u64, segment: &'a Segment, at: u32, length: usize, context: usize) -> Option<Place<'a>> {
        let position = u64::from(at);
        let (number, row) = segment.document_at(position)?;
        // A document is canonical text, hence UTF-8; what a damaged file has there is none.
        let document = segment.text().get(usize::try_from(row.start).ok()?..usize::try_from(row.end()).ok()?)?;
        let document = std::str::from_utf8(document).ok()?;
        let from = usize::try_from(position.checked_sub(row.start)?).ok()?;
        let to = from.checked_add(length)?;
        let payee = self.datanets[usize::from(datanet)].head(&row)?.payee;
        let (before, after) = (document.get(..from)?, document.get(to..)?);
        Some(Place {
            datanet,
            position: start + position,
            number: as_u64(number),
            row,
            payee,
            offset: as_u64(from),
            before: &before[before.ceil_char_boundary(before.len().saturating_sub(context))..],
            text: document.get(from..to)?,
            after: &after[..after.floor_char_boundary(context)],
        })
    }
}

/// The offsets in a range of ranks, smallest first: the range's minimum, then those of what lies on both sides of it.
pub(super) fn ascending(segment: &Segment, ranks: Range<usize>) -> impl Iterator<Item = u32> {
    let mut left = BinaryHeap::new();
    let mut queued = Some(ranks).into_iter().collect::<Vec<_>>();
    std::iter::from_fn(move || {
        for ranks in queued.drain(..) {
            left.extend(segment.earliest(ranks.clone()).map(|offset| Reverse((offset, ranks.start, ranks.end))));
        }
        let Reverse((offset, start, end)) = left.pop()?;
        let rank = rank_of(segment, start..end, offset);
        queued.extend([start..rank, rank + 1..end]);
        Some(offset)
    })
}

/// The rank of the smallest offset of a range.
fn rank_of(segment: &Segment, mut ranks: Range<usize>, smallest: u32) -> usize {
    while ranks.len() > 1 {
        let middle = ranks.start + ranks.len() / 2;
        if segment.earliest(ranks.start..middle) == Some(smallest) { ranks.end = middle } else { ranks.start = middle }
    }
    ranks.start
}

/// The offset at a rank.
pub(super) fn offset_at(segment: &Segment, rank: usize) -> Option<usize> {
    segment.array().get(rank).map(as_index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::text;

    use super::*;
    use crate::sample::datanet;

    fn index(texts: &[&[String]]) -> Index {
        let datanets = (3..).zip(texts).map(|(asset, texts)| {
            let texts: Vec<(u8, &str)> = (1..).zip(texts.iter().map(String::as_str)).collect();
            datanet(asset, &texts)
        });
        Index::new(datanets.collect()).unwrap()
    }

    /// Datanet, document and offset of each place, by a scan.
    fn scanned(texts: &[&[String]], pattern: &str) -> Vec<(u8, usize, usize)> {
        let mut found = Vec::new();
        for (datanet, texts) in (0..).zip(texts) {
            for (number, document) in texts.iter().enumerate() {
                let starts =
                    text::words(document).into_iter().map(|word| word.start).filter(|start| document[*start..].starts_with(pattern));
                found.extend(starts.map(|start| (datanet, number, start)));
            }
        }
        // In the sample a document's block is its number, in every Datanet.
        found.sort_by_key(|(datanet, number, start)| (*number, *datanet, *start));
        found
    }

    proptest! {
        #[test]
        fn places_are_those_of_a_scan_earliest_first(
            one in proptest::collection::vec("[ab .é]{0,12}[abé]", 0..12), other in proptest::collection::vec("[ab .é]{0,12}[abé]", 0..4),
            pattern in "[abé]{1,2}( [ab])?", at_most in 0..9_usize, context in 0..9_usize,
        ) {
            let texts: [&[String]; 2] = [&one, &other];
            let (index, expected) = (index(&texts), scanned(&texts, &pattern));
            let found = index.documents(pattern.as_bytes(), at_most, context);
            prop_assert_eq!(found.count, as_u64(expected.len()));
            prop_assert_eq!(found.listed.len(), at_most.min(expected.len()));
            for (place, (datanet, number, start)) in found.listed.iter().zip(expected) {
                let document = &texts[usize::from(datanet)][number];
                prop_assert_eq!((place.datanet, place.offset, place.text), (datanet, as_u64(start), pattern.as_str()));
                prop_assert_eq!(place.row.priority.block, 10 + as_u64(number));
                prop_assert!(document[..start].ends_with(place.before) && document[start + pattern.len()..].starts_with(place.after));
                prop_assert!(place.before.len() <= context && place.after.len() <= context);
            }
        }
    }

    #[test]
    fn a_place_says_whose_document_it_is_and_what_stands_around_it() {
        let texts = ["Nothing of it.".to_owned(), "Gout is an arthritis; über gout.".to_owned()];
        let index = index(&[&texts]);
        let found = index.documents(b"gout", 5, 3);
        let place = &found.listed[0];
        assert_eq!((found.count, place.payee, place.before, place.text, place.after), (1, Address([2; 20]), "er ", "gout", "."));
        assert_eq!(index.documents(b"gout", 5, 4).listed[0].before, "ber ", "a character that is half within is left out");
    }

    #[test]
    fn what_no_document_holds_is_in_none() {
        let index = index(&[&["Gout is an arthritis.".to_owned()], &[]]);
        let long = "a".repeat(257);
        for pattern in ["", "out", "gout", ".", "\0", &long] {
            assert_eq!(index.documents(pattern.as_bytes(), 5, 5), Places::default(), "{pattern:?}");
        }
        assert_eq!(index.documents(b"Gout\xff", 5, 5), Places::default());
        let nothing = Index::new(vec![]).unwrap();
        assert_eq!((nothing.count(b"Gout"), nothing.documents(b"Gout", 5, 5)), (0, Places::default()));
    }
}
