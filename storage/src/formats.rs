//! Documents from files of others' formats, one at a time, and back into them.
//!
//! [`rows`] reads JSONL, CSV, Parquet, Markdown or plain text as an iterator: memory is one row (Parquet: one page of each of three columns), whatever
//! the file's size. An error names the file, its line or row, the rule and the fix. After an error of one row reading goes on, so that one run shows
//! all that must be mended; after one of the file's structure it ends. A column that somebody named must be there ([`Columns`]); UTF-16 is told apart. [`write::Writer`] writes documents so that the same rows are read back.
//!
//! | format | a document is | bounds |
//! |---|---|---|
//! | JSONL | a line, keys by [`Columns`] | line of [`LINE_BYTES_MAX`] |
//! | CSV, TSV | a record under a header row (RFC 4180), columns by [`Columns`] | record of [`LINE_BYTES_MAX`] |
//! | Parquet | a row, flat columns by [`Columns`]; `parquet.rs` says what is read and what is refused | pages of [`parquet::PAGE_BYTES_MAX`] |
//! | Markdown | the file; title from its front matter, else its first heading | a document's |
//! | text | the file | a document's |
//!
//! Nothing here opens a file: the caller does, and says its name.

mod csv;
mod markdown;
pub mod parquet;
pub mod write;

use std::{
    fmt,
    io::{BufRead as _, BufReader, Read, Seek},
};

pub use crate::datanet::read::{Columns, LINE_BYTES_MAX};
use crate::datanet::{
    Document, DocumentError,
    read::{self, Problem as ReadProblem},
};

/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 16;

/// How a file holds documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// A table with a header row, fields apart by commas.
    Csv,
    /// The same, fields apart by tabulators.
    Tsv,
    /// Columns in row groups.
    Parquet,
    /// One document, with or without front matter.
    Markdown,
    /// One document.
    Text,
}

impl Format {
    /// Endings that tell a format, as [`Format::of_extension`] knows them.
    pub const ENDINGS: &str = ".jsonl, .ndjson, .csv, .tsv, .parquet, .md, .markdown, .txt, .text";

    /// The format that a file name's ending stands for.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "parquet" => Some(Self::Parquet),
            "md" | "markdown" => Some(Self::Markdown),
            "txt" | "text" => Some(Self::Text),
            _ => None,
        }
    }

    /// Whether a file of it is one document.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Markdown | Self::Text)
    }
}

/// What bytes come from. Only Parquet seeks.
pub trait Source: Read + Seek + Send {}

impl<T: Read + Seek + Send> Source for T {}

/// What a file is called, and what its columns are.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// The file, as errors name it.
    pub file: String,
    /// Title of a document that fills its file and brings none.
    pub title: Option<String>,
    /// Columns of a table.
    pub columns: Columns,
}

/// A document and its place among the file's, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub number: u64,
    /// The document.
    pub document: Document,
}

/// Where in a file something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A line, counted from 1.
    Line(u64),
    /// A row, counted from 1.
    Row(u64),
    /// No place of its own.
    File,
}

impl At {
    /// The line, unless the problem is the whole file's.
    const fn of(error: &read::LineError) -> Self {
        if matches!(error.problem, ReadProblem::Column { .. }) { Self::File } else { Self::Line(error.line) }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}: "),
            Self::Row(row) => write!(f, "row {row}: "),
            Self::File => Ok(()),
        }
    }
}

/// What is wrong with a row or a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// As lines and documents are read anywhere.
    #[error(transparent)]
    Read(#[from] ReadProblem),
    /// A file in another encoding.
    #[error("the file is UTF-16, not UTF-8: save it as UTF-8")]
    Utf16,
    /// A record that the format does not allow.
    #[error("not a record of CSV: {0}")]
    Csv(String),
    /// A record that is too long; reading stopped there.
    #[error(
        "the record is longer than {LINE_BYTES_MAX} bytes, reading stopped: is a quotation mark not closed? A document has at most {} bytes",
        crate::datanet::TEXT_BYTES_MAX
    )]
    RecordTooLong,
    /// A quoted field without an end.
    #[error("a quotation mark is opened and never closed: close it, and write each mark inside of a quoted field twice")]
    Quote,
    /// Something behind the end of a quoted field.
    #[error(
        "something stands between the quotation mark that ends a field and the separator: write each mark inside of a quoted field twice"
    )]
    Stray,
    /// A row without a text.
    #[error("its text is missing: leave the row out, or give it one")]
    NoText,
    /// A Parquet file that cannot be read, and the fix.
    #[error("{0}")]
    Parquet(String),
}

impl From<DocumentError> for Problem {
    fn from(error: DocumentError) -> Self {
        Self::Read(error.into())
    }
}

/// A problem, its file and its place.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {at}{problem}")]
pub struct RowError {
    /// The file.
    pub file: String,
    /// Where in it.
    pub at: At,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// Documents of one file, in its order.
pub type Rows = Box<dyn Iterator<Item = Result<Row, RowError>> + Send>;

/// Reads a file row by row. What is wrong with the file as a whole comes as the first item.
pub fn rows(source: impl Source + 'static, format: Format, naming: Naming) -> Rows {
    let Naming { file, title, columns } = naming;
    if format == Format::Parquet {
        return match parquet::Parquet::open(source, &columns) {
            Ok(table) => numbered(file, table),
            Err(problem) => numbered(file, std::iter::once(Err((At::File, problem)))),
        };
    }
    let mut source = BufReader::with_capacity(BUFFER_BYTES, source);
    let problem = match source.fill_buf() {
        Ok(start) if is_utf16(start) => Some(Problem::Utf16),
        Ok(_) => None,
        Err(error) => Some(Problem::Read(error.into())),
    };
    if let Some(problem) = problem {
        return numbered(file, std::iter::once(Err((At::File, problem))));
    }
    match format {
        Format::Jsonl => {
            let mut lines = read::jsonl_of(source, columns);
            let next = move || {
                let row = lines.next()?;
                Some(row.map_err(|error| (At::of(&error), error.problem.into())))
            };
            numbered(file, std::iter::from_fn(next))
        }
        Format::Csv => numbered(file, csv::Csv::new(source, b',', columns)),
        Format::Tsv => numbered(file, csv::Csv::new(source, b'\t', columns)),
        Format::Markdown => {
            let document = markdown::document(source, title.as_deref());
            numbered(file, std::iter::once(document.map_err(|error| (At::Line(error.line), error.problem.into()))))
        }
        Format::Parquet => unreachable!("it was opened above"),
        Format::Text => {
            let document = read::text(source, title.as_deref());
            numbered(file, std::iter::once(document.map_err(|error| (At::Line(error.line), error.problem.into()))))
        }
    }
}

/// By its mark of byte order, or by the zero that stands beside each of the first two letters of Latin text.
const fn is_utf16(start: &[u8]) -> bool {
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] => *a != 0 && *b != 0,
        _ => false,
    }
}

/// What a reader of one format yields.
type Item = Result<Document, (At, Problem)>;

fn numbered(file: String, documents: impl Iterator<Item = Item> + Send + 'static) -> Rows {
    let mut number = 0;
    Box::new(documents.map(move |item| match item {
        Ok(document) => {
            number += 1;
            Ok(Row { number, document })
        }
        Err((at, problem)) => Err(RowError { file: file.clone(), at, problem }),
    }))
}

#[cfg(test)]
mod tests;
