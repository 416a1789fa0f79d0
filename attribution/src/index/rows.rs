//! Contributions and documents where they lie: a record for each contribution, an offset for each row. The rest of a row follows.
//!
//! What is read here may be another's file: whatever the bytes are, a row is some row, and nothing is read beyond them.

use std::{collections::BTreeMap, ops::Range};

use types::{
    contribution::Priority,
    id::{Address, Hash32},
};

use super::{
    DocumentRow,
    array::word,
    format::{CONTRIBUTION_BYTES, Label},
    order::as_index,
    segment::as_u64,
};

/// One contribution as a segment keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contribution {
    pub(crate) text_root: Hash32,
    pub(crate) payee: Address,
    pub(crate) block: u64,
    pub(crate) ordinal: u32,
    /// First byte of its text in the segment.
    pub(crate) start: u32,
    /// Bytes of its text, the last zero included; none of what was erased.
    pub(crate) bytes: u32,
    /// Number of its first row.
    pub(crate) first_row: u32,
}

impl Contribution {
    pub(crate) fn encode(&self) -> [u8; CONTRIBUTION_BYTES] {
        let mut out = [0; CONTRIBUTION_BYTES];
        out[..32].copy_from_slice(&self.text_root.0);
        out[32..52].copy_from_slice(&self.payee.0);
        out[52..60].copy_from_slice(&self.block.to_le_bytes());
        for (place, number) in out[60..].as_chunks_mut::<4>().0.iter_mut().zip([self.ordinal, self.start, self.bytes, self.first_row]) {
            *place = number.to_le_bytes();
        }
        out
    }

    fn decode(bytes: &[u8; CONTRIBUTION_BYTES]) -> Self {
        let (mut text_root, mut payee) = (Hash32::ZERO, Address::ZERO);
        text_root.0.copy_from_slice(&bytes[..32]);
        payee.0.copy_from_slice(&bytes[32..52]);
        let block = u64::from_le_bytes(*bytes[52..].first_chunk().expect("a record is longer"));
        let numbers = bytes[60..].as_chunks::<4>().0;
        let [ordinal, start, bytes, first_row] = [0, 1, 2, 3].map(|place: usize| word(&numbers[place]));
        Self { text_root, payee, block, ordinal, start, bytes, first_row }
    }

    /// What it is without its text.
    pub(crate) fn label(&self) -> Label {
        let Self { text_root, payee, block, ordinal, bytes, .. } = *self;
        Label { block, ordinal, text_root, contributor: payee, bytes: bytes.into() }
    }

    pub(crate) fn range(&self) -> Range<usize> {
        let start = as_index(self.start);
        start..start.saturating_add(as_index(self.bytes))
    }
}

/// The contributions of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contributions<'a>(&'a [[u8; CONTRIBUTION_BYTES]]);

impl<'a> Contributions<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Contribution> + 'a {
        self.0.iter().map(Contribution::decode)
    }

    /// Number and record of the last contribution of which `is_before` holds; it holds of a first part of them.
    fn last_where(&self, is_before: impl Fn(&Contribution) -> bool) -> Option<(usize, Contribution)> {
        let number = self.0.partition_point(|record| is_before(&Contribution::decode(record))).checked_sub(1)?;
        Some((number, Contribution::decode(self.0.get(number)?)))
    }

    /// Number and record of the contribution in whose stride byte `start` stands.
    pub(crate) fn at(&self, start: usize) -> Option<(usize, Contribution)> {
        self.last_where(|contribution| as_index(contribution.start) <= start)
    }

    /// First byte after that contribution.
    pub(crate) fn end_at(&self, start: usize) -> usize {
        self.at(start).map_or(0, |(_, contribution)| contribution.range().end)
    }
}

/// Near copies' clusters, and the number of the first row.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbering {
    pub(crate) first_row: u64,
    /// By row, the number in the Datanet of the first document of its cluster, where that is another.
    pub(crate) clusters: BTreeMap<usize, u64>,
}

/// The documents of a segment in order of priority and of place, which is one order.
#[derive(Debug, Clone, Copy)]
pub struct Documents<'a> {
    pub(super) contributions: Contributions<'a>,
    pub(super) starts: &'a [[u8; 4]],
    pub(super) numbering: &'a Numbering,
}

impl<'a> Documents<'a> {
    /// Number of rows.
    pub const fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The row with this number.
    pub fn get(&self, number: usize) -> Option<DocumentRow> {
        let start = word(self.starts.get(number)?);
        let (place, contribution) = self.contributions.last_where(|contribution| as_index(contribution.first_row) <= number)?;
        let next = self.contributions.0.get(place + 1).map_or(self.len(), |next| as_index(Contribution::decode(next).first_row));
        let end = match self.starts.get(number + 1).filter(|_| number + 1 < next) {
            Some(next) => word(next),
            None => contribution.start.saturating_add(contribution.bytes),
        };
        // Each document is followed by a zero byte, a tombstone by nothing.
        let length = end.saturating_sub(start).saturating_sub(1);
        let document = u32::try_from(number).unwrap_or(u32::MAX).saturating_sub(contribution.first_row);
        let own = self.numbering.first_row.saturating_add(as_u64(number));
        Some(DocumentRow {
            text_root: contribution.text_root,
            start: start.into(),
            length,
            payee: contribution.payee,
            priority: Priority { block: contribution.block, ordinal: contribution.ordinal, document },
            cluster: self.numbering.clusters.get(&number).copied().unwrap_or(own),
        })
    }

    /// The rows in their order.
    pub fn iter(self) -> impl Iterator<Item = DocumentRow> + 'a {
        (0..self.len()).filter_map(move |number| self.get(number))
    }

    /// Number and row of the document that holds byte `offset`; nothing for a zero between documents.
    pub(super) fn at(&self, offset: u64) -> Option<(usize, DocumentRow)> {
        let number = self.starts.partition_point(|start| u64::from(word(start)) <= offset).checked_sub(1)?;
        self.get(number).filter(|row| offset < row.end()).map(|row| (number, row))
    }
}
