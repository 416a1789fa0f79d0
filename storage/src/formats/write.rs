//! Documents out: JSONL, CSV or Parquet whose rows are read back as the same documents.
//!
//! Parquet: one row group per `GROUP_BYTES` of text, zstd, plain encoding, columns id, title, text; memory is one row group.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{ByteArray, ByteArrayType},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};
use serde::Serialize;

use super::Format;
use crate::datanet::Document;

/// Text of a row group.
const GROUP_BYTES: usize = 8 << 20;
/// Most rows of a row group: their places in memory.
const GROUP_ROWS: usize = 1 << 16;
/// zstd's own default: levels above cost several times as long for some hundredths of the size.
const ZSTD_LEVEL: i32 = 3;
const SCHEMA: &str = "message datanet { optional binary id (STRING); optional binary title (STRING); required binary text (STRING); }";

/// Columns of a table as written, in this order.
pub const COLUMNS: [&str; 3] = ["id", "title", "text"];

/// Why documents cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Whole files hold one document.
    #[error("{0:?} holds one document a file: write jsonl, csv or parquet")]
    Format(Format),
    /// The place they go to.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The library's word.
    #[error("Parquet cannot be written: {0}")]
    Parquet(#[from] ParquetError),
}

impl From<csv::Error> for WriteError {
    fn from(error: csv::Error) -> Self {
        Self::Io(error.into())
    }
}

/// Writes documents one after another.
pub struct Writer<W: Write + Send>(Inner<W>);

enum Inner<W: Write + Send> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
    Parquet { file: Box<SerializedFileWriter<W>>, rows: Vec<Document>, bytes: usize },
}

#[derive(Serialize)]
struct Line<'d> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'d str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'d str>,
    text: &'d str,
}

impl<W: Write + Send> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format = match self.0 {
            Inner::Jsonl(_) => "Jsonl",
            Inner::Csv(_) => "Csv",
            Inner::Parquet { .. } => "Parquet",
        };
        f.debug_tuple("Writer").field(&format).finish()
    }
}

impl<W: Write + Send> Writer<W> {
    /// Begins a file of `format` in `out`.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn new(out: W, format: Format) -> Result<Self, WriteError> {
        Ok(Self(match format {
            Format::Jsonl => Inner::Jsonl(out),
            Format::Csv | Format::Tsv => {
                let delimiter = if format == Format::Csv { b',' } else { b'\t' };
                let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
                writer.write_record(COLUMNS)?;
                Inner::Csv(Box::new(writer))
            }
            Format::Parquet => Inner::Parquet { file: Box::new(parquet(out)?), rows: Vec::new(), bytes: 0 },
            Format::Markdown | Format::Text => return Err(WriteError::Format(format)),
        }))
    }

    /// Writes a document.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn push(&mut self, document: &Document) -> Result<(), WriteError> {
        let (id, title, text) = (document.id(), document.title(), document.text());
        match &mut self.0 {
            Inner::Jsonl(out) => {
                serde_json::to_writer(&mut *out, &Line { id, title, text }).map_err(io::Error::from)?;
                Ok(out.write_all(b"\n")?)
            }
            Inner::Csv(writer) => Ok(writer.write_record([id.unwrap_or_default(), title.unwrap_or_default(), text])?),
            Inner::Parquet { file, rows, bytes } => {
                *bytes += text.len();
                rows.push(document.clone());
                if *bytes >= GROUP_BYTES || rows.len() == GROUP_ROWS {
                    group(file, rows)?;
                    rows.clear();
                    *bytes = 0;
                }
                Ok(())
            }
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(self) -> Result<W, WriteError> {
        match self.0 {
            Inner::Jsonl(mut out) => {
                out.flush()?;
                Ok(out)
            }
            Inner::Csv(writer) => Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?),
            Inner::Parquet { mut file, rows, .. } => {
                if !rows.is_empty() {
                    group(&mut file, &rows)?;
                }
                Ok(file.into_inner()?)
            }
        }
    }
}

fn parquet<W: Write + Send>(out: W) -> Result<SerializedFileWriter<W>, WriteError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        // The same documents give the same bytes, whatever version of us or of the library wrote them.
        .set_created_by("tributary".to_owned())
        .build();
    let schema = parse_message_type(SCHEMA).expect("a constant schema");
    Ok(SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?)
}

fn group<W: Write + Send>(file: &mut SerializedFileWriter<W>, rows: &[Document]) -> Result<(), WriteError> {
    let mut group = file.next_row_group()?;
    for column in COLUMNS {
        let mut writer = group.next_column()?.expect("as many columns as the schema has");
        let cell = |row: &Document| match column {
            "id" => row.id().map(ByteArray::from),
            "title" => row.title().map(ByteArray::from),
            _ => Some(ByteArray::from(row.text())),
        };
        let cells: Vec<Option<ByteArray>> = rows.iter().map(cell).collect();
        let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
        let values: Vec<ByteArray> = cells.into_iter().flatten().collect();
        let levels = (column != "text").then_some(&levels[..]);
        writer.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
        writer.close()?;
    }
    group.close()?;
    Ok(())
}
