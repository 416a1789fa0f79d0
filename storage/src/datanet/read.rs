//! Files in: JSONL, one document a line, or plain text, one document a file.
//!
//! - JSONL: `{"text": "...", "title": "...", "id": "..."}`; `text` is required, `title` and `id` are optional (an integer id is taken as text),
//!   other keys are left out, blank lines skipped.
//! - Plain text: the whole file is one document. Paragraphs are not documents: what earns must be cut by its contributor.
//!
//! Lines are read through a fixed cap, so a 100 MB line costs [`LINE_BYTES_MAX`] of memory and an error, after which nothing more is read.
//! Every other error names its line and the fix, and reading goes on, so one run shows all that must be mended.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    io::{self, BufRead, Read},
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};
use types::text::TextError;

use super::{DOCUMENTS_MAX, Document, DocumentError, TEXT_BYTES_MAX, shard};
use crate::erasure::OBJECT_BYTES_MAX;

/// Longest line of JSONL: a document of the largest size with every other character escaped.
pub const LINE_BYTES_MAX: usize = 4 << 20;
/// Most of a file that is one document: canonical form can shorten a text to a third at most.
const WHOLE_BYTES_MAX: usize = 3 * TEXT_BYTES_MAX;
/// Most columns that an error lists.
pub const COLUMNS_SHOWN_MAX: usize = 20;
/// Most letters of each.
const COLUMN_SHOWN_CHARS: usize = 40;
/// Most errors that [`documents`] lists; the rest are counted.
pub const ERRORS_MAX: usize = 20;

/// How a file holds documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// One document.
    Text,
}

impl Format {
    /// The format that a file name's ending stands for: `jsonl`, `ndjson`; `txt`, `md`, `text`.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "txt" | "md" | "text" => Some(Self::Text),
            _ => None,
        }
    }
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Not JSON, or not of the right shape.
    #[error("not a document: {0}: write one JSON object a line, {{\"text\": \"...\"}}, \"title\" and \"id\" optional")]
    Json(String),
    /// Not a document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A column that was named is not in the file.
    #[error("there is no column {wanted:?}, the file has {}: name the one that holds the {what} with --{what}-column", .has.join(", "))]
    Column {
        /// What it is to hold: text, title or id.
        what: &'static str,
        /// The column that was looked for.
        wanted: String,
        /// Columns there are, at most [`COLUMNS_SHOWN_MAX`].
        has: Vec<String>,
    },
    /// A file that is one document, and too long for one; reading stopped there.
    #[error(
        "the file is one document and has more than {WHOLE_BYTES_MAX} bytes, a document has at most {TEXT_BYTES_MAX} bytes of text: split it, or write its parts as lines of a .jsonl file"
    )]
    TextTooLong,
    /// Longer than a line may be; reading stopped there.
    #[error(
        "the line is longer than {LINE_BYTES_MAX} bytes, reading stopped: split the document, one has at most {TEXT_BYTES_MAX} bytes of text"
    )]
    LineTooLong,
    /// More than one contribution holds; reading stopped there.
    #[error(
        "the documents up to here are more than one contribution holds ({OBJECT_BYTES_MAX} bytes, {DOCUMENTS_MAX} documents), reading stopped: split the file"
    )]
    FileTooLong,
    /// Nothing in the file.
    #[error("the file holds no document")]
    NoDocument,
    /// The file cannot be read on.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A problem and its place.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct LineError {
    /// Line of the file, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// All that is wrong with a file.
#[derive(Debug)]
pub struct ReadError {
    /// The first errors, at most [`ERRORS_MAX`].
    pub errors: Vec<LineError>,
    /// Errors beyond those.
    pub unlisted: usize,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.errors.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))?;
        if self.unlisted == 0 { Ok(()) } else { write!(f, "\nand {} more", self.unlisted) }
    }
}

impl std::error::Error for ReadError {}

/// Reads a whole file. `title` names the document of a plain text; JSONL rows bring their own.
///
/// # Errors
/// [`ReadError`] with every line that must be mended; no document is returned then.
pub fn documents(input: impl BufRead, format: Format, title: Option<&str>) -> Result<Vec<Document>, ReadError> {
    match format {
        Format::Jsonl => {
            let mut rows = jsonl(input);
            collect(std::iter::from_fn(|| rows.next().map(|row| (rows.line, row))), OBJECT_BYTES_MAX)
        }
        Format::Text => collect(std::iter::once((1, text(input, title))), OBJECT_BYTES_MAX),
    }
}

/// Rows with their lines; a file of documents that fill more than `most` bytes of a shard is not read on.
fn collect(rows: impl Iterator<Item = (u64, Result<Document, LineError>)>, most: usize) -> Result<Vec<Document>, ReadError> {
    let (mut documents, mut errors, mut unlisted) = (Vec::new(), Vec::new(), 0);
    let mut bytes = shard::encoded_len(&[]);
    for (line, row) in rows {
        match row {
            Ok(document) => {
                bytes = bytes.saturating_add(shard::row_len(&document));
                if bytes > most || documents.len() == DOCUMENTS_MAX {
                    errors.push(LineError { line, problem: Problem::FileTooLong });
                    break;
                }
                documents.push(document);
            }
            Err(error) if errors.len() < ERRORS_MAX => errors.push(error),
            Err(_) => unlisted += 1,
        }
    }
    if errors.is_empty() && documents.is_empty() {
        errors.push(LineError { line: 1, problem: Problem::NoDocument });
    }
    if errors.is_empty() { Ok(documents) } else { Err(ReadError { errors, unlisted }) }
}

/// Reads a plain text as one document.
///
/// # Errors
/// [`LineError`] at the line that is not text.
pub fn text(input: impl BufRead, title: Option<&str>) -> Result<Document, LineError> {
    whole(None, title.map(str::to_owned), &bounded(input)?)
}

/// A whole file, which is to be one document, without a mark of byte order. Of one that is too long no more than that is read.
pub(crate) fn bounded(input: impl BufRead) -> Result<Vec<u8>, LineError> {
    let mut bytes = Vec::new();
    let wrong = |problem| LineError { line: 1, problem };
    let mark = 3;
    let cap = WHOLE_BYTES_MAX + mark + 1;
    input.take(u64::try_from(cap).expect("a constant")).read_to_end(&mut bytes).map_err(|error| wrong(error.into()))?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..mark);
    }
    if bytes.len() > WHOLE_BYTES_MAX { Err(wrong(Problem::TextTooLong)) } else { Ok(bytes) }
}

/// A file's bytes as one document.
pub(crate) fn whole(id: Option<String>, title: Option<String>, bytes: &[u8]) -> Result<Document, LineError> {
    Document::new(id, title, bytes).map_err(|problem| LineError { line: line_of(bytes, &problem), problem: problem.into() })
}

/// The line of the byte that a text error names.
fn line_of(bytes: &[u8], problem: &DocumentError) -> u64 {
    let byte = match problem {
        DocumentError::Text(TextError::Utf8(at) | TextError::Control { at, .. }) => *at,
        _ => 0,
    };
    let feeds = bytes[..byte.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(feeds).map_or(u64::MAX, |feeds| feeds + 1)
}

/// Reads JSONL line by line. The iterator ends after a line that is too long or a failure to read.
pub fn jsonl<R: BufRead>(input: R) -> Jsonl<R> {
    jsonl_of(input, Columns::default())
}

/// [`jsonl`] with keys of one's own.
pub const fn jsonl_of<R: BufRead>(input: R, columns: Columns) -> Jsonl<R> {
    Jsonl { input, columns, line: 0, is_done: false, seen: Seen { keys: BTreeSet::new(), is_title: false, is_id: false } }
}

/// Which columns (keys of JSON) of a table hold what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The text; required.
    pub text: String,
    /// The title; may be missing.
    pub title: String,
    /// The id; may be missing.
    pub id: String,
    /// Somebody said what holds the titles: a table without that column is refused.
    pub is_title_named: bool,
    /// The same of the ids.
    pub is_id_named: bool,
}

impl Columns {
    /// What is wrong with a table that has these columns.
    ///
    /// # Errors
    /// [`Problem::Column`]: the text's is not there, or one that was named.
    pub fn check(&self, has: &[impl AsRef<str>]) -> Result<(), Problem> {
        let wanted = [("text", &self.text, true), ("title", &self.title, self.is_title_named), ("id", &self.id, self.is_id_named)];
        let missing = wanted.into_iter().find(|(_, wanted, must)| *must && !has.iter().any(|name| name.as_ref() == wanted.as_str()));
        missing.map_or(Ok(()), |(what, wanted, _)| Err(no_column(what, wanted, has.iter().map(AsRef::as_ref))))
    }
}

fn no_column<'h>(what: &'static str, wanted: &str, has: impl Iterator<Item = &'h str>) -> Problem {
    let has = has.take(COLUMNS_SHOWN_MAX).map(|name| name.chars().take(COLUMN_SHOWN_CHARS).collect()).collect();
    Problem::Column { what, wanted: wanted.to_owned(), has }
}

impl Default for Columns {
    fn default() -> Self {
        Self { text: "text".into(), title: "title".into(), id: "id".into(), is_title_named: false, is_id_named: false }
    }
}

/// Documents of a JSONL file, made by [`jsonl`].
#[derive(Debug)]
pub struct Jsonl<R> {
    input: R,
    columns: Columns,
    line: u64,
    is_done: bool,
    seen: Seen,
}

/// Keys of the lines so far, as far as they are asked for.
#[derive(Debug)]
struct Seen {
    /// The first of them, if a column was named.
    keys: BTreeSet<String>,
    is_title: bool,
    is_id: bool,
}

impl Seen {
    fn note(&mut self, key: &str, columns: &Columns) {
        if !(columns.is_title_named || columns.is_id_named) {
            return;
        }
        self.is_title |= key == columns.title;
        self.is_id |= key == columns.id;
        if self.keys.len() < COLUMNS_SHOWN_MAX && !self.keys.contains(key) {
            self.keys.insert(key.chars().take(COLUMN_SHOWN_CHARS).collect());
        }
    }

    /// A line may lack a title or an id; a file in which none has the key that was named is another than was meant.
    fn missing(&self, columns: &Columns) -> Option<Problem> {
        let named =
            [("title", &columns.title, columns.is_title_named && !self.is_title), ("id", &columns.id, columns.is_id_named && !self.is_id)];
        let missing = named.into_iter().find(|(.., is_missing)| *is_missing && !self.keys.is_empty());
        missing.map(|(what, wanted, _)| no_column(what, wanted, self.keys.iter().map(String::as_str)))
    }
}

impl<R> Jsonl<R> {
    /// The line that was read last, counted from 1.
    pub const fn line(&self) -> u64 {
        self.line
    }
}

impl<R: BufRead> Iterator for Jsonl<R> {
    type Item = Result<Document, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            self.line += 1;
            let row = match line(&mut self.input) {
                Ok(None) => {
                    self.is_done = true;
                    let line = self.line.saturating_sub(1).max(1);
                    return self.seen.missing(&self.columns).map(|problem| Err(LineError { line, problem }));
                }
                Ok(Some(bytes)) => row(&bytes, self.line == 1, &self.columns, &mut self.seen).transpose(),
                Err(problem) => {
                    self.is_done = true;
                    Some(Err(problem))
                }
            };
            if let Some(row) = row {
                return Some(row.map_err(|problem| LineError { line: self.line, problem }));
            }
        }
        None
    }
}

/// The next line without its end; nothing at the end of the file.
fn line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, Problem> {
    let mut bytes = Vec::new();
    let cap = u64::try_from(LINE_BYTES_MAX).expect("a constant") + 1;
    input.by_ref().take(cap).read_until(b'\n', &mut bytes)?;
    match bytes.last() {
        None => return Ok(None),
        Some(b'\n') => drop(bytes.pop()),
        Some(_) if bytes.len() > LINE_BYTES_MAX => return Err(Problem::LineTooLong),
        Some(_) => {}
    }
    Ok(Some(bytes))
}

struct Row<'a> {
    text: Cow<'a, str>,
    title: Option<String>,
    id: Option<RowId>,
}

#[derive(Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads an object by the keys of [`Columns`]; what other keys hold is skipped.
struct RowOf<'c>(&'c Columns, &'c mut Seen);

impl<'de> DeserializeSeed<'de> for RowOf<'_> {
    type Value = Row<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowOf<'_> {
    type Value = Row<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with \"{}\"", self.0.text)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
        let Columns { text: text_key, title: title_key, id: id_key, .. } = self.0;
        let (mut text, mut title, mut id) = (None, None, None);
        while let Some(Borrowed(key)) = map.next_key()? {
            self.1.note(&key, self.0);
            let twice = |is_known: bool| if is_known { Err(A::Error::custom(format_args!("duplicate field `{key}`"))) } else { Ok(()) };
            if *key == **text_key {
                twice(text.is_some())?;
                text = Some(map.next_value::<Borrowed<'de>>()?.0);
            } else if *key == **title_key {
                twice(title.is_some())?;
                title = Some(map.next_value::<Option<String>>()?);
            } else if *key == **id_key {
                twice(id.is_some())?;
                id = Some(map.next_value::<Option<RowId>>()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let text = text.ok_or_else(|| A::Error::custom(format_args!("missing field `{text_key}`")))?;
        Ok(Row { text, title: title.flatten(), id: id.flatten() })
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "\"id\" must be a string or an integer")]
enum RowId {
    Text(String),
    Number(i64),
}

/// The document of one line; nothing if the line is blank.
fn row(bytes: &[u8], is_first: bool, columns: &Columns, seen: &mut Seen) -> Result<Option<Document>, Problem> {
    let bytes = if is_first { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
    let text = std::str::from_utf8(bytes).map_err(|error| DocumentError::from(TextError::Utf8(error.valid_up_to())))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let row = RowOf(columns, seen).deserialize(&mut json).and_then(|row| json.end().map(|()| row));
    let row = row.map_err(|error| Problem::Json(said(&error)))?;
    let id = row.id.map(|id| match id {
        RowId::Text(text) => text,
        RowId::Number(number) => number.to_string(),
    });
    let present = |label: Option<String>| label.filter(|label| !label.is_empty());
    Ok(Some(Document::new(present(id), present(row.title), row.text.as_bytes())?))
}

/// The parser's words, with the column only: the line it counts is always its first.
fn said(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    if error.column() == 0 { words.to_owned() } else { format!("{words} at column {}", error.column()) }
}

#[cfg(test)]
mod tests;
