//! Shards: the file that carries a contribution's documents.
//!
//! The text root is what a contribution *is*; the shard is a container for it, named by its BLAKE3 in the object manifest. Whoever opens
//! one re-derives the text root from the rows, so a container cannot smuggle in another text.
//!
//! Layout, big-endian: `TRIBSHRD`, version u8 (1), compression u8 (0, none), documents u32, contribution-text bytes u64, text root; then per
//! document id length u16, title length u16, text length u32, id, title, text (length 0 of id or title: absent). 54 bytes, and 8 per document.
//! Every text is canonical: a shard has one form.

use types::{
    encoding::{DecodeError, Reader, Writer},
    id::Hash32,
    text::text_root,
};

use super::{DOCUMENTS_MAX, Document, DocumentError, contribution_text};
use crate::erasure::OBJECT_BYTES_MAX;

const MAGIC: &[u8; 8] = b"TRIBSHRD";
const VERSION: u8 = 1;
const COMPRESSION_NONE: u8 = 0;
const HEAD_BYTES: usize = 54;
const ROW_HEAD_BYTES: usize = 8;

/// Why documents do not become a shard, or bytes are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Nothing in it.
    #[error("a shard holds at least one document")]
    Empty,
    /// Too many documents.
    #[error("{got} documents, a shard holds at most {max}: split the contribution")]
    TooMany {
        /// How many.
        got: usize,
        /// How many may be.
        max: usize,
    },
    /// Too many bytes.
    #[error("{got} bytes, a shard holds at most {max}: split the contribution")]
    TooLong {
        /// Bytes.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Another kind of file.
    #[error("not a shard: the first bytes are {got}, expected TRIBSHRD version 1")]
    Magic {
        /// What stands there, in hex.
        got: String,
    },
    /// Not the layout.
    #[error("broken shard: {0}")]
    Layout(#[from] DecodeError),
    /// A row that is no document.
    #[error("broken shard: row {row}: {problem}")]
    Row {
        /// Which, counted from 1.
        row: u32,
        /// What is wrong.
        problem: DocumentError,
    },
    /// A row that is a document in another form.
    #[error("broken shard: row {row} is not in canonical form")]
    NotCanonical {
        /// Which, counted from 1.
        row: u32,
    },
    /// The rows are not the text the shard was said to hold.
    #[error("the shard's rows give text root {derived}, {expected} was expected: this is not the registered contribution")]
    TextRoot {
        /// What was registered or stated.
        expected: Hash32,
        /// What the rows give.
        derived: Hash32,
    },
}

/// An opened shard: its rows checked, its text root derived from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    documents: Vec<Document>,
    text_root: Hash32,
}

impl Shard {
    /// The documents, in order.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The documents, taken out.
    pub fn into_documents(self) -> Vec<Document> {
        self.documents
    }

    /// Root of the contribution text, derived from the rows.
    pub const fn text_root(&self) -> Hash32 {
        self.text_root
    }
}

/// Bytes of the shard of `documents`.
pub fn encoded_len(documents: &[Document]) -> usize {
    HEAD_BYTES + documents.iter().map(row_len).sum::<usize>()
}

/// Bytes of one document in a shard.
pub(super) fn row_len(document: &Document) -> usize {
    ROW_HEAD_BYTES + document.id().map_or(0, str::len) + document.title().map_or(0, str::len) + document.text().len()
}

/// Writes `documents` as a shard.
///
/// # Errors
/// [`ShardError`] if there are none, or too many.
pub fn encode(documents: &[Document]) -> Result<Vec<u8>, ShardError> {
    let (count, bytes) = (documents.len(), encoded_len(documents));
    match count {
        0 => return Err(ShardError::Empty),
        _ if count > DOCUMENTS_MAX => return Err(ShardError::TooMany { got: count, max: DOCUMENTS_MAX }),
        _ if bytes > OBJECT_BYTES_MAX => return Err(ShardError::TooLong { got: bytes, max: OBJECT_BYTES_MAX }),
        _ => {}
    }
    let text = contribution_text(documents);
    let head = Writer::new()
        .bytes(MAGIC)
        .u8(VERSION)
        .u8(COMPRESSION_NONE)
        .u32(narrow(count))
        .u64(u64::try_from(text.len()).expect("bounded above"))
        .hash(text_root(text.as_bytes()));
    Ok(head.each(documents, row).finish())
}

fn row(w: Writer, document: &Document) -> Writer {
    let (id, title) = (document.id().unwrap_or_default(), document.title().unwrap_or_default());
    w.u16(narrow(id.len()))
        .u16(narrow(title.len()))
        .u32(narrow(document.text().len()))
        .bytes(id.as_bytes())
        .bytes(title.as_bytes())
        .bytes(document.text().as_bytes())
}

fn narrow<T: TryFrom<usize, Error: std::fmt::Debug>>(len: usize) -> T {
    T::try_from(len).expect("documents are bounded where they are made")
}

/// Opens a shard. Every row is checked to be canonical and the stated text root to be that of the rows.
///
/// # Errors
/// [`ShardError`] naming the row.
pub fn decode(bytes: &[u8]) -> Result<Shard, ShardError> {
    if bytes.len() > OBJECT_BYTES_MAX {
        return Err(ShardError::TooLong { got: bytes.len(), max: OBJECT_BYTES_MAX });
    }
    let mut r = Reader::new(bytes);
    let magic = r.bytes("magic", MAGIC.len() + 1)?;
    if magic != [&MAGIC[..], &[VERSION]].concat() {
        return Err(ShardError::Magic { got: hex::encode(magic) });
    }
    let compression = r.u8("compression")?;
    if compression != COMPRESSION_NONE {
        return Err(DecodeError::Value { field: "compression", got: compression.into(), expected: "0, none" }.into());
    }
    let count = r.u32("documents")?;
    let (text_bytes, expected) = (r.u64("text bytes")?, r.hash("text root")?);
    let documents = rows(&mut r, count)?;
    r.finish()?;
    let text = contribution_text(&documents);
    let derived = text_root(text.as_bytes());
    if u64::try_from(text.len()) != Ok(text_bytes) || derived != expected {
        return Err(ShardError::TextRoot { expected, derived });
    }
    Ok(Shard { documents, text_root: derived })
}

/// Opens the shard of a contribution registered with `text_root`.
///
/// # Errors
/// [`ShardError::TextRoot`] naming both roots if it is another contribution's, and what [`decode`] returns.
pub fn decode_as(text_root: Hash32, bytes: &[u8]) -> Result<Shard, ShardError> {
    let shard = decode(bytes)?;
    if shard.text_root == text_root { Ok(shard) } else { Err(ShardError::TextRoot { expected: text_root, derived: shard.text_root }) }
}

fn rows(r: &mut Reader<'_>, count: u32) -> Result<Vec<Document>, ShardError> {
    let rows = usize::try_from(count).unwrap_or(usize::MAX);
    if rows == 0 {
        return Err(ShardError::Empty);
    }
    if rows > DOCUMENTS_MAX {
        return Err(ShardError::TooMany { got: rows, max: DOCUMENTS_MAX });
    }
    let need = rows * ROW_HEAD_BYTES;
    if need > r.left() {
        return Err(DecodeError::Short { field: "rows", need, left: r.left() }.into());
    }
    (1..=count).map(|row| document(r, row)).collect()
}

fn document(r: &mut Reader<'_>, row: u32) -> Result<Document, ShardError> {
    let (id, title, text) = (usize::from(r.u16("id length")?), usize::from(r.u16("title length")?), r.u32("text length")?);
    let text = usize::try_from(text).unwrap_or(usize::MAX);
    let (id, title, text) = (label(r, row, id)?, label(r, row, title)?, r.bytes("text", text)?);
    let document =
        Document::new(id.map(str::to_owned), title.map(str::to_owned), text).map_err(|problem| ShardError::Row { row, problem })?;
    let is_canonical = document.text().as_bytes() == text && document.id() == id && document.title() == title;
    if is_canonical { Ok(document) } else { Err(ShardError::NotCanonical { row }) }
}

fn label<'a>(r: &mut Reader<'a>, row: u32, len: usize) -> Result<Option<&'a str>, ShardError> {
    let bytes = r.bytes("label", len)?;
    let text = std::str::from_utf8(bytes).map_err(|_| ShardError::NotCanonical { row })?;
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(id: Option<&str>, title: Option<&str>, text: &str) -> Document {
        Document::new(id.map(str::to_owned), title.map(str::to_owned), text.as_bytes()).unwrap()
    }

    #[test]
    fn the_bytes_of_a_shard_are_pinned() {
        let bytes = encode(&[document(Some("7"), Some("T"), "ab"), document(None, None, "c")]).unwrap();
        let root = text_root(b"ab\0c\0");
        let rows = "0001000100000002".to_owned() + &hex::encode("7Tab") + "0000000000000001" + &hex::encode("c");
        assert_eq!(
            hex::encode(&bytes),
            format!("{}0100{}{}{}{rows}", hex::encode("TRIBSHRD"), "00000002", "0000000000000005", hex::encode(root.0))
        );
        let shard = decode_as(root, &bytes).unwrap();
        assert_eq!(shard.documents()[0].title(), Some("T"));
        assert_eq!(encoded_len(shard.documents()), bytes.len());
    }

    #[test]
    fn a_shard_of_another_text_is_refused_naming_both_roots() {
        let bytes = encode(&[document(None, None, "ab")]).unwrap();
        let error = decode_as(Hash32([9; 32]), &bytes).unwrap_err().to_string();
        assert!(error.contains(&Hash32([9; 32]).to_string()) && error.contains(&text_root(b"ab\0").to_string()));
        let mut smuggled = bytes.clone();
        *smuggled.last_mut().unwrap() = b'c';
        assert!(matches!(decode(&smuggled), Err(ShardError::TextRoot { .. })));
    }

    #[test]
    fn broken_shards_are_refused() {
        let bytes = encode(&[document(None, None, "ab"), document(None, None, "cd")]).unwrap();
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len}");
        }
        assert!(matches!(decode(&[bytes.clone(), vec![0]].concat()), Err(ShardError::Layout(DecodeError::Trailing(1)))));
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            decode(&bytes).unwrap_err()
        };
        assert!(matches!(with(0, b'X'), ShardError::Magic { .. }));
        assert!(matches!(with(8, 2), ShardError::Magic { .. }));
        assert!(matches!(with(9, 1), ShardError::Layout(DecodeError::Value { field: "compression", .. })));
        assert!(matches!(with(10, 255), ShardError::TooMany { .. }));
        assert!(matches!(with(13, 200), ShardError::Layout(DecodeError::Short { field: "rows", .. })));
        assert!(matches!(with(bytes.len() - 1, b'\r'), ShardError::NotCanonical { row: 2 }));
        assert!(matches!(with(bytes.len() - 1, 7), ShardError::Row { row: 2, .. }));
        assert_eq!(encode(&[]), Err(ShardError::Empty));
    }

    proptest! {
        #[test]
        fn shards_round_trip(rows in proptest::collection::vec(("\\PC{0,8}", "\\PC{0,8}", "\\PC{1,40}x"), 1..20)) {
            let label = |text: &str| (!text.trim().is_empty()).then(|| text.to_owned());
            let documents: Vec<_> = rows.iter().map(|(id, title, text)| Document::new(label(id), label(title), text.as_bytes()).unwrap()).collect();
            let bytes = encode(&documents).unwrap();
            prop_assert_eq!(decode(&bytes).unwrap().into_documents(), documents);
        }

        #[test]
        fn decoding_never_panics_and_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..200), change in any::<(u16, u8)>()) {
            let _ = decode(&bytes);
            let mut shard = encode(&[document(Some("i"), Some("t"), "some text"), document(None, None, "more")]).unwrap();
            let at = usize::from(change.0) % shard.len();
            shard[at] = change.1;
            if let Ok(read) = decode(&shard) {
                prop_assert_eq!(encode(read.documents()).unwrap(), shard);
            }
        }
    }
}
