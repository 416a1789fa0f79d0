//! Shards: the file that carries a contribution's documents.
//!
//! The text root is what a contribution *is*; the shard is a container for it, named by its BLAKE3 in the object manifest. Whoever opens
//! one re-derives the text root from the rows, so a container cannot smuggle in another text. It does so once: a [`Shard`] carries its rows and the root that
//! they gave, and nothing changes either, so what is asked of it later, to be let in or entered, takes that root and hashes nothing.
//!
//! Layout, big-endian: `TRIBSHRD`, version u8 (1), compression u8 (0 none, 1 zstd), documents u32, contribution-text bytes u64, text root; then the
//! rows, per document id length u16, title length u16, text length u32, id, title, text (length 0 of id or title: absent). 54 bytes, and 8 per
//! document. Under compression 1 the rows are one zstd frame (RFC 8878) behind their length u32. Every text is canonical, so the rows of a text have
//! one form; a frame has many, and its bytes are nobody's identity.
//!
//! A frame is unpacked into a buffer of the stated length, which is at most [`EXPANSION_MAX`] times the frame's and with the head at most
//! [`OBJECT_BYTES_MAX`]; it must be one whole frame that says that length too, without a dictionary, and nothing may follow it. Text shrinks to a
//! third; what shrinks by more than [`EXPANSION_MAX`] is written plain.

use types::{
    encoding::{DecodeError, Reader, Writer},
    id::Hash32,
};

use super::{DOCUMENTS_MAX, Document, DocumentError, contribution_text, private};
use crate::erasure::OBJECT_BYTES_MAX;

const MAGIC: &[u8; 8] = b"TRIBSHRD";
const VERSION: u8 = 1;
const COMPRESSION_NONE: u8 = 0;
const COMPRESSION_ZSTD: u8 = 1;
/// Most bytes of rows that a byte of frame may stand for: a peer's shard costs a small multiple of what arrived.
pub const EXPANSION_MAX: usize = 32;
/// zstd's own default. Level 9 takes four times as long for three hundredths of the size of prose.
const ZSTD_LEVEL: i32 = 3;
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
    /// Compressed rows that are not what they say.
    #[error("broken shard: its compressed rows {0}")]
    Frame(String),
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

/// An opened shard: its rows checked, its text root derived from them. There is no other way to one, so its root is nobody's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    documents: Vec<Document>,
    text_root: Hash32,
    text_salt: Option<Hash32>,
    text_bytes: u64,
}

impl Shard {
    /// Rows that need not be opened: their root is derived here.
    pub fn of(documents: Vec<Document>) -> Self {
        let (text_root, text_bytes) = {
            let text = contribution_text(&documents);
            (types::text::text_root(text.as_bytes()), bytes_of(text.len()))
        };
        Self { documents, text_root, text_salt: None, text_bytes }
    }

    /// The same rows under the root over leaves that carry a salt: a private Datanet's.
    #[must_use]
    pub fn salted(self, salt: Hash32) -> Self {
        let text_root = private::root(contribution_text(&self.documents).as_bytes(), Some(salt));
        Self { text_root, text_salt: Some(salt), ..self }
    }

    /// The documents, in order.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The documents, taken out.
    pub fn into_documents(self) -> Vec<Document> {
        self.documents
    }

    /// Root of the contribution text, derived from the rows; over salted leaves if there is a salt.
    pub const fn text_root(&self) -> Hash32 {
        self.text_root
    }

    /// Salt of the leaves, if the root is that of a private text.
    pub const fn text_salt(&self) -> Option<Hash32> {
        self.text_salt
    }

    /// Bytes of the contribution text.
    pub const fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// The shard, if its root is the registered one.
    ///
    /// # Errors
    /// [`ShardError::TextRoot`] naming both.
    pub fn expected(self, text_root: Hash32) -> Result<Self, ShardError> {
        let derived = self.text_root;
        if derived == text_root { Ok(self) } else { Err(ShardError::TextRoot { expected: text_root, derived }) }
    }
}

/// Root of the contribution text of `documents`.
pub fn text_root(documents: &[Document]) -> Hash32 {
    types::text::text_root(contribution_text(documents).as_bytes())
}

/// Bytes of the shard of `documents` without compression: the most that [`encode`] writes.
pub fn encoded_len(documents: &[Document]) -> usize {
    HEAD_BYTES + documents.iter().map(row_len).sum::<usize>()
}

/// Bytes of one document in a shard without compression.
pub fn row_len(document: &Document) -> usize {
    ROW_HEAD_BYTES + document.id().map_or(0, str::len) + document.title().map_or(0, str::len) + document.text().len()
}

/// A shard with what its contribution states of the text, all of it from one pass over the text's leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The shard.
    pub bytes: Vec<u8>,
    /// Root of its text.
    pub text_root: Hash32,
    /// Top of the tree under the root: [`super::private::top`] without a salt.
    pub text_top: Hash32,
    /// Bytes of the text.
    pub text_bytes: u64,
}

/// Writes `documents` as a shard, compressed if that is shorter.
///
/// # Errors
/// [`ShardError`] if there are none, or too many.
pub fn encode(documents: &[Document]) -> Result<Vec<u8>, ShardError> {
    write(documents).map(|written| written.bytes)
}

/// [`encode`], with what was derived on the way.
///
/// # Errors
/// As [`encode`].
pub fn write(documents: &[Document]) -> Result<Written, ShardError> {
    let plain = plain(documents)?;
    Ok(match compressed(&plain.bytes) {
        Some(bytes) => Written { bytes, ..plain },
        None => plain,
    })
}

/// Writes `documents` as a shard without compression: the one form that other versions of the compressor give as well.
///
/// # Errors
/// As [`encode`].
pub fn encode_plain(documents: &[Document]) -> Result<Vec<u8>, ShardError> {
    plain(documents).map(|written| written.bytes)
}

fn plain(documents: &[Document]) -> Result<Written, ShardError> {
    let (count, bytes) = (documents.len(), encoded_len(documents));
    match count {
        0 => return Err(ShardError::Empty),
        _ if count > DOCUMENTS_MAX => return Err(ShardError::TooMany { got: count, max: DOCUMENTS_MAX }),
        _ if bytes > OBJECT_BYTES_MAX => return Err(ShardError::TooLong { got: bytes, max: OBJECT_BYTES_MAX }),
        _ => {}
    }
    let (text_bytes, text_top) = {
        let text = contribution_text(documents);
        (text.len(), types::text::text_top(text.as_bytes()))
    };
    let text_root = types::text::root_over(text_bytes, text_top);
    let text_bytes = bytes_of(text_bytes);
    let head = Writer::new().bytes(MAGIC).u8(VERSION).u8(COMPRESSION_NONE).u32(narrow(count)).u64(text_bytes).hash(text_root);
    Ok(Written { bytes: head.each(documents, row).finish(), text_root, text_top, text_bytes })
}

/// The same shard with its rows compressed; nothing if that is no gain, or one that a reader would not believe.
fn compressed(plain: &[u8]) -> Option<Vec<u8>> {
    let (head, rows) = plain.split_at_checked(HEAD_BYTES)?;
    let frame = zstd::bulk::compress(rows, ZSTD_LEVEL).ok()?;
    let is_believed = rows.len() <= frame.len().saturating_mul(EXPANSION_MAX);
    if !is_believed || HEAD_BYTES + 4 + frame.len() >= plain.len() {
        return None;
    }
    let length = u32::try_from(rows.len()).ok()?.to_be_bytes();
    let mut shard = [head, &length, &frame].concat();
    shard[MAGIC.len() + 1] = COMPRESSION_ZSTD;
    Some(shard)
}

/// The rows of a frame behind their length.
fn unpacked(packed: &[u8]) -> Result<Vec<u8>, ShardError> {
    let bad = |words: String| Err(ShardError::Frame(words));
    let (length, frame) = packed.split_first_chunk().ok_or(DecodeError::Short { field: "rows length", need: 4, left: packed.len() })?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > frame.len().saturating_mul(EXPANSION_MAX) || length > OBJECT_BYTES_MAX - HEAD_BYTES {
        return bad(format!("are {length} bytes out of {}: at most {EXPANSION_MAX} times as many are believed", frame.len()));
    }
    match zstd::zstd_safe::find_frame_compressed_size(frame) {
        Ok(whole) if whole == frame.len() => {}
        Ok(whole) => return bad(format!("are a frame of {whole} bytes in {}", frame.len())),
        Err(_) => return bad("are no frame of zstd".into()),
    }
    match zstd::zstd_safe::get_frame_content_size(frame) {
        Ok(Some(says)) if u64::try_from(length) == Ok(says) => {}
        says => return bad(format!("are {length} bytes, their frame says {}", says.ok().flatten().unwrap_or_default())),
    }
    match zstd::bulk::decompress(frame, length) {
        Ok(rows) if rows.len() == length => Ok(rows),
        Ok(rows) => bad(format!("unpack to {} bytes, {length} were stated", rows.len())),
        Err(error) => bad(format!("do not unpack: {error}")),
    }
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

fn bytes_of(len: usize) -> u64 {
    u64::try_from(len).expect("a length in memory fits 64 bits")
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
    let count = r.u32("documents")?;
    let (text_bytes, expected) = (r.u64("text bytes")?, r.hash("text root")?);
    let documents = match compression {
        COMPRESSION_NONE => {
            let documents = rows(&mut r, count)?;
            r.finish()?;
            documents
        }
        COMPRESSION_ZSTD => {
            let rows_bytes = unpacked(&bytes[HEAD_BYTES..])?;
            let mut r = Reader::new(&rows_bytes);
            let documents = rows(&mut r, count)?;
            r.finish()?;
            documents
        }
        other => {
            return Err(DecodeError::Value { field: "compression", got: other.into(), expected: "0, none, or 1, zstd" }.into());
        }
    };
    let shard = Shard::of(documents);
    if shard.text_bytes != text_bytes {
        return Err(ShardError::TextRoot { expected, derived: shard.text_root });
    }
    shard.expected(expected)
}

/// Opens the shard of a contribution registered with `text_root`.
///
/// # Errors
/// [`ShardError::TextRoot`] naming both roots if it is another contribution's, and what [`decode`] returns.
pub fn decode_as(text_root: Hash32, bytes: &[u8]) -> Result<Shard, ShardError> {
    decode(bytes)?.expected(text_root)
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
    use super::*;
    use proptest::prelude::*;

    fn document(id: Option<&str>, title: Option<&str>, text: &str) -> Document {
        Document::new(id.map(str::to_owned), title.map(str::to_owned), text.as_bytes()).unwrap()
    }

    #[test]
    fn the_bytes_of_a_shard_are_pinned() {
        let bytes = encode(&[document(Some("7"), Some("T"), "ab"), document(None, None, "c")]).unwrap();
        // Too short to gain by compression: what was written before there was any.
        let root = types::text::text_root(b"ab\0c\0");
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
    fn what_is_derived_while_a_shard_is_written_is_what_its_text_gives() {
        for rows in [vec![document(None, None, "c")], prose()] {
            let text = contribution_text(&rows);
            let Written { bytes, text_root, text_top, text_bytes } = write(&rows).unwrap();
            assert_eq!(bytes, encode(&rows).unwrap());
            assert_eq!(text_root, types::text::text_root(text.as_bytes()));
            assert_eq!((text_top, text_bytes), (types::text::text_top(text.as_bytes()), text.len() as u64));
            assert_eq!(decode_as(text_root, &bytes).unwrap().documents(), rows);
        }
    }

    #[test]
    fn a_shard_of_another_text_is_refused_naming_both_roots() {
        let bytes = encode(&[document(None, None, "ab")]).unwrap();
        let error = decode_as(Hash32([9; 32]), &bytes).unwrap_err().to_string();
        assert!(error.contains(&Hash32([9; 32]).to_string()) && error.contains(&types::text::text_root(b"ab\0").to_string()));
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
        assert!(matches!(with(9, 2), ShardError::Layout(DecodeError::Value { field: "compression", .. })));
        assert!(matches!(with(9, 1), ShardError::Frame(_)));
        assert!(matches!(with(10, 255), ShardError::TooMany { .. }));
        assert!(matches!(with(13, 200), ShardError::Layout(DecodeError::Short { field: "rows", .. })));
        assert!(matches!(with(bytes.len() - 1, b'\r'), ShardError::NotCanonical { row: 2 }));
        assert!(matches!(with(bytes.len() - 1, 7), ShardError::Row { row: 2, .. }));
        assert_eq!(encode(&[]), Err(ShardError::Empty));
    }

    fn prose() -> Vec<Document> {
        (0..40)
            .map(|row| document(None, Some("Tides"), &format!("The tide of day {row} rose to {} metres above the mark.", row % 7)))
            .collect()
    }

    /// By an independent script; its frame is a single raw block, so that no version of a compressor decides it.
    #[test]
    fn shards_of_the_vectors_are_read_in_both_forms() {
        let all: serde_json::Value = serde_json::from_str(include_str!("../../../tests/fixtures/storage_vectors.json")).unwrap();
        let bytes = |name: &str| hex::decode(all["shard"][name].as_str().unwrap().trim_start_matches("0x")).unwrap();
        let documents = [document(Some("7"), Some("T"), "ab"), document(None, None, "c")];
        assert_eq!(encode_plain(&documents).unwrap(), bytes("plain"));
        for name in ["plain", "zstd"] {
            let shard = decode_as(Hash32(bytes("textRoot").try_into().unwrap()), &bytes(name)).unwrap();
            assert_eq!(shard.documents(), documents, "{name}");
        }
    }

    #[test]
    fn rows_are_compressed_where_that_is_shorter_and_both_forms_are_one_text() {
        let documents = prose();
        let (shard, plain) = (encode(&documents).unwrap(), encode_plain(&documents).unwrap());
        assert!(shard.len() < plain.len() / 2 && shard[9] == 1 && plain[9] == 0, "{} of {}", shard.len(), plain.len());
        assert_eq!(decode(&shard).unwrap(), decode(&plain).unwrap());
        assert_eq!(encoded_len(&documents), plain.len());
        let same = [document(None, None, &"a".repeat(100_000))];
        assert_eq!(encode(&same).unwrap()[9], 0, "a text that shrinks to nothing would not be believed");
    }

    #[test]
    fn what_a_frame_claims_is_not_believed() {
        let shard = encode(&prose()).unwrap();
        let rows = encoded_len(&prose()) - HEAD_BYTES;
        let with = |length: usize, frame: &[u8]| {
            let length = u32::try_from(length).unwrap().to_be_bytes();
            decode(&[&shard[..HEAD_BYTES], &length, frame].concat()).unwrap_err().to_string()
        };
        let frame = &shard[HEAD_BYTES + 4..];
        for (length, frame, words) in [
            (rows + 1, frame, "their frame says"),
            (rows - 1, frame, "their frame says"),
            (frame.len() * EXPANSION_MAX + 1, frame, "times as many are believed"),
            (OBJECT_BYTES_MAX, &vec![0; OBJECT_BYTES_MAX / EXPANSION_MAX + 64][..], "are believed"),
            (rows, &[frame, &[0]].concat()[..], "are a frame of"),
            (rows, &[frame, frame].concat()[..], "are a frame of"),
            // A frame to be skipped in front.
            (rows, &[&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], frame].concat()[..], "are a frame of"),
            (rows, &frame[..frame.len() - 1], "no frame"),
            (rows, &b""[..], "are believed"),
        ] {
            let error = with(length, frame);
            assert!(error.contains(words), "{words}: {error}");
        }
        let mut smuggled = shard.clone();
        smuggled[30] ^= 1;
        assert!(matches!(decode(&smuggled), Err(ShardError::TextRoot { .. })));
        for at in HEAD_BYTES..shard.len() {
            let mut broken = shard.clone();
            broken[at] ^= 0x10;
            // A frame has no checksum: what its bytes give must still be the stated text. Titles are the object hash's to keep.
            let is_text = |read: &Shard| contribution_text(read.documents()) == contribution_text(&prose());
            assert!(decode(&broken).as_ref().map_or(true, is_text), "{at}");
        }
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
                prop_assert_eq!(encode_plain(read.documents()).unwrap(), shard);
            }
        }
    }
}
