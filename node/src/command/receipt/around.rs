//! What stands around a source, by the opening of the committed text alone: one text leaf, at most 63 bytes before and 256 from there on.

use std::fmt;

use attribution::index::SpanOpenings;
use serde::Serialize;
use types::{id::Hash32, receipt::Span, text::LEAF_STRIDE};

/// A source's place and what stands around it in its document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Around {
    /// What stands before it, as far as the leaf goes.
    pub before: String,
    /// What stands behind it, as far as the leaf goes.
    pub after: String,
    /// Root of the contribution that holds the document.
    pub text_root: Hash32,
    /// Block of its commitment.
    pub block: u64,
    /// Number of the document in it, from 0.
    pub document: u32,
    /// First byte in the document.
    pub offset: u64,
    /// Bytes of the document.
    pub document_bytes: u32,
    /// Whether its text lies in a private Datanet and is not shown: what stands around it is for grant holders.
    pub is_hidden: bool,
}

impl fmt::Display for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text_root, block, document, offset, document_bytes, is_hidden, .. } = self;
        let hidden = if *is_hidden { "; its text lies in a private Datanet: shown to grant holders" } else { "" };
        write!(
            f,
            "byte {offset} of {document_bytes} of document {document} of the contribution {text_root}, committed in block {block}{hidden}"
        )
    }
}

/// Reads the openings of a span; of openings that do not verify nothing is shown that is not there.
pub fn around(span: &Span, opening: &SpanOpenings) -> Around {
    let row = &opening.document.leaf;
    let (before, after) = beside(opening.shown_text().unwrap_or_default(), place(span, opening), span.length.into());
    Around {
        before,
        after,
        text_root: row.text_root,
        block: row.priority.block,
        document: row.priority.document,
        offset: span.position.saturating_sub(opening.segment.leaf.start).saturating_sub(row.start),
        document_bytes: row.length,
        is_hidden: opening.text.is_none(),
    }
}

/// First byte of a span in its text leaf.
fn place(span: &Span, opening: &SpanOpenings) -> usize {
    let offset = span.position.saturating_sub(opening.segment.leaf.start);
    usize::try_from(offset % LEAF_STRIDE as u64).unwrap_or_default()
}

/// What stands in a leaf on both sides of some bytes, up to the zero bytes that divide documents, whole characters alone.
fn beside(leaf: &[u8], at: usize, length: usize) -> (String, String) {
    let before = &leaf[..at.min(leaf.len())];
    let before = before.rsplit(|byte| *byte == 0).next().unwrap_or_default();
    // The leaf may begin within a character.
    let first = before.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or(before.len());
    let after = leaf.get(at.saturating_add(length)..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    let whole = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) => String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned(),
    };
    (whole(&before[first..]), whole(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_characters_of_the_same_document_stand_around_a_source() {
        let is = |leaf: &[u8], at, length, before: &str, after: &str| {
            assert_eq!(beside(leaf, at, length), (before.to_owned(), after.to_owned()))
        };
        is(b"other\0a gout b\0next", 8, 4, "a ", " b");
        // The leaf begins and ends within a character.
        is(b"\xa9 gout \xc3", 2, 4, " ", " ");
        is("é gout é".as_bytes(), 3, 4, "é ", " é");
        is(b"gout", 0, 4, "", "");
        // What a stranger's file could say.
        is(b"gout", 9, 4, "gout", "");
        is(b"", 0, usize::MAX, "", "");
    }
}
