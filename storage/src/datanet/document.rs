//! Documents: the unit of credit. One that exists is canonical, so every hash of it is the same everywhere.

use types::{
    id::BlobId,
    text::{TextError, canonical_document},
};

/// Longest text of one document, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Longest title, in bytes.
pub const TITLE_BYTES_MAX: usize = 1 << 10;
/// Longest id, in bytes.
pub const ID_BYTES_MAX: usize = 256;

/// A document in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    id: Option<String>,
    title: Option<String>,
    text: String,
}

/// Why something is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The text is not acceptable.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The title or id is not acceptable as text.
    #[error("{field}: {problem}")]
    Label {
        /// Which one.
        field: &'static str,
        /// What is wrong.
        problem: TextError,
    },
    /// The title or id has more than one line.
    #[error("{0} holds a line break: write it on one line")]
    Lines(&'static str),
    /// Too long.
    #[error("{field} has {got} bytes, at most {max} are allowed: {fix}")]
    TooLong {
        /// Which part.
        field: &'static str,
        /// Its bytes.
        got: usize,
        /// Bytes allowed.
        max: usize,
        /// What to do.
        fix: &'static str,
    },
}

impl Document {
    /// Brings a document into canonical form. The title, if any, becomes the prompt when an adapter is trained on it.
    ///
    /// # Errors
    /// [`DocumentError`] naming the part, the byte and the fix.
    pub fn new(id: Option<String>, title: Option<String>, text: &[u8]) -> Result<Self, DocumentError> {
        let id = id.map(|id| label("id", &id, ID_BYTES_MAX)).transpose()?;
        let title = title.map(|title| label("title", &title, TITLE_BYTES_MAX)).transpose()?;
        let too_long = |got| DocumentError::TooLong { field: "text", got, max: TEXT_BYTES_MAX, fix: "split it into several documents" };
        // Canonical form can shorten a text to a third at most; what is longer than that need not be looked at.
        if text.len() > 3 * TEXT_BYTES_MAX {
            return Err(too_long(text.len()));
        }
        let text = canonical_document(text)?;
        if text.len() > TEXT_BYTES_MAX { Err(too_long(text.len())) } else { Ok(Self { id, title, text }) }
    }

    /// The contributor's own name for it.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Its title.
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Its canonical text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What exact copies share: BLAKE3 of the canonical text. Title and id do not count.
    pub fn digest(&self) -> BlobId {
        BlobId::of(self.text.as_bytes())
    }
}

fn label(field: &'static str, given: &str, max: usize) -> Result<String, DocumentError> {
    if given.len() > 3 * max {
        return Err(DocumentError::TooLong { field, got: given.len(), max, fix: "shorten it" });
    }
    let text = canonical_document(given.as_bytes()).map_err(|problem| DocumentError::Label { field, problem })?;
    if text.contains('\n') {
        return Err(DocumentError::Lines(field));
    }
    if text.len() > max { Err(DocumentError::TooLong { field, got: text.len(), max, fix: "shorten it" }) } else { Ok(text) }
}

/// The text a contribution commits to: for each document its canonical text and one zero byte.
pub fn contribution_text(documents: &[Document]) -> String {
    let mut text = String::with_capacity(documents.iter().map(|document| document.text.len() + 1).sum());
    for document in documents {
        text.push_str(&document.text);
        text.push('\0');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_brought_into_canonical_form() {
        let document = Document::new(Some("7".into()), Some("Cafe\u{301}".into()), "a\r\nb e\u{301}".as_bytes()).unwrap();
        assert_eq!((document.id(), document.title(), document.text()), (Some("7"), Some("Caf\u{e9}"), "a\nb \u{e9}"));
        assert_eq!(document.digest(), Document::new(None, None, "a\nb \u{e9}".as_bytes()).unwrap().digest());
    }

    #[test]
    fn what_cannot_be_a_document_is_refused_with_its_fix() {
        let check = |title: Option<&str>, text: &[u8], words: &str| {
            let error = Document::new(None, title.map(str::to_owned), text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check(None, b"", "the document is empty");
        check(None, b"a\xff", "invalid UTF-8 at byte 1");
        check(None, b"a\x07", "control character U+0007 at byte 1");
        check(None, &vec![b'a'; TEXT_BYTES_MAX + 1], "split it into several documents");
        check(None, &vec![b'a'; 3 * TEXT_BYTES_MAX + 1], "split it into several documents");
        check(Some("a\nb"), b"x", "title holds a line break");
        check(Some(""), b"x", "title: the document is empty");
        check(Some(&"t".repeat(TITLE_BYTES_MAX + 1)), b"x", "title has 1025 bytes");
    }

    #[test]
    fn contribution_text_ends_every_document_with_a_zero() {
        let documents = ["ab", "c"].map(|text| Document::new(None, None, text.as_bytes()).unwrap());
        assert_eq!(contribution_text(&documents), "ab\0c\0");
        assert_eq!(contribution_text(&[]), "");
    }
}
