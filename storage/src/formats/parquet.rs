//! Parquet, three flat columns of it: text, and title and id if they are there.
//!
//! The library decodes; what it is given was bounded before. A footer is parsed by it after the schema's depth and the footer's length were looked at
//! ([`FOOTER_BYTES_MAX`]); pages come from a reader of our own, which refuses sizes, counts and encodings that allocate what they claim. What a
//! decoder still panics on is caught at each batch and told as an error of the file. Compression: none, snappy, zstd. Memory: one page of each
//! column, compressed and not.

mod pages;
mod thrift;

use std::{
    collections::VecDeque,
    io::{Read, Seek, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

use parquet::{
    basic::Type,
    column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader},
    data_type::{ByteArray, DataType},
    errors::ParquetError,
    file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader},
    schema::types::ColumnDescPtr,
};

pub use self::pages::PAGE_BYTES_MAX;
use self::{pages::Pages, thrift::Reader};
use super::{At, Columns, Item, Problem};
use crate::datanet::{Document, DocumentError, read::Problem as ReadProblem};

/// Longest footer: some ten thousand row groups of three columns.
pub const FOOTER_BYTES_MAX: usize = 4 << 20;
/// Most nodes of a schema.
const SCHEMA_NODES_MAX: usize = 4096;
/// Deepest schema: the library walks it by recursion.
const SCHEMA_DEPTH_MAX: usize = 32;
/// Rows decoded at once; their values are parts of their pages, so they cost their places only.
const BATCH_ROWS: usize = 64;
const MAGIC: &[u8; 4] = b"PAR1";

/// A value of a cell.
#[derive(Debug)]
enum Cell {
    Bytes(ByteArray),
    Number(i64),
}

/// One column of a row group.
struct Column {
    reader: ColumnReader,
    is_optional: bool,
}

/// The columns of the row group that is being read.
struct Group {
    text: Column,
    title: Option<Column>,
    id: Option<Column>,
    left: u64,
}

/// Cells of one row: id, title, text.
type Cells = [Option<Cell>; 3];

/// Documents of a Parquet file.
pub(super) struct Parquet<R> {
    source: Arc<Mutex<R>>,
    length: u64,
    metadata: ParquetMetaData,
    /// Places of text, title and id among the columns.
    places: (usize, Option<usize>, Option<usize>),
    next_group: usize,
    group: Option<Group>,
    rows: VecDeque<Cells>,
    row: u64,
    is_done: bool,
}

/// What the library says, or that it cannot go on.
fn guarded<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    // What a panic leaves half-done is never used again: the reader ends after any error of structure.
    let caught = catch_unwind(AssertUnwindSafe(work));
    caught.unwrap_or_else(|_| Err(Problem::Parquet("the file is broken: its decoder gave up; write it anew".into())))
}

fn said(error: &ParquetError) -> Problem {
    let words = error.to_string();
    Problem::Parquet(format!("not a readable Parquet file: {}", words.strip_prefix("Parquet error: ").unwrap_or(&words)))
}

fn broken(words: &str) -> Problem {
    Problem::Parquet(format!("not a readable Parquet file: {words}"))
}

impl<R: Read + Seek + Send + 'static> Parquet<R> {
    /// Reads the footer and finds the columns.
    ///
    /// # Errors
    /// [`Problem`] if it is no such file, or the column of the text is not there.
    pub(super) fn open(mut source: R, columns: &Columns) -> Result<Self, Problem> {
        let (length, footer) = footer(&mut source)?;
        bounded_schema(&footer).ok_or_else(|| broken("its schema is broken, or deeper than 32 levels"))?;
        let metadata = guarded(|| ParquetMetaDataReader::decode_metadata(&footer).map_err(|error| said(&error)))?;
        let places = guarded(|| places(&metadata, columns))?;
        let source = Arc::new(Mutex::new(source));
        Ok(Self { source, length, metadata, places, next_group: 0, group: None, rows: VecDeque::new(), row: 0, is_done: false })
    }

    /// Decodes the next rows; false at the end of the file.
    fn refill(&mut self) -> Result<bool, Problem> {
        loop {
            let Some(group) = &mut self.group else {
                if self.next_group == self.metadata.num_row_groups() {
                    return Ok(false);
                }
                self.group = Some(self.open_group(self.next_group)?);
                self.next_group += 1;
                continue;
            };
            if group.left == 0 {
                self.group = None;
                continue;
            }
            let count = usize::try_from(group.left).unwrap_or(usize::MAX).min(BATCH_ROWS);
            let mut texts = group.text.cells(count)?.into_iter();
            let others = |column: &mut Option<Column>| column.as_mut().map(|column| column.cells(count)).transpose();
            let (titles, ids) = (others(&mut group.title)?, others(&mut group.id)?);
            let read = texts.len();
            if read == 0 || [&titles, &ids].into_iter().flatten().any(|cells| cells.len() != read) {
                return Err(broken("its columns have different lengths"));
            }
            group.left -= u64::try_from(read).unwrap_or(u64::MAX).min(group.left);
            let (mut titles, mut ids) = (titles.unwrap_or_default().into_iter(), ids.unwrap_or_default().into_iter());
            self.rows.extend((0..read).map(|_| [ids.next().flatten(), titles.next().flatten(), texts.next().flatten()]));
            return Ok(true);
        }
    }

    fn open_group(&self, number: usize) -> Result<Group, Problem> {
        let group = self.metadata.row_group(number);
        let left = u64::try_from(group.num_rows()).map_err(|_| broken("a row group has a negative number of rows"))?;
        let column = |place: usize| {
            let chunk = group.columns().get(place).ok_or_else(|| broken("a row group lacks a column"))?;
            self.column(chunk)
        };
        let (text, title, id) = self.places;
        Ok(Group { text: column(text)?, title: title.map(column).transpose()?, id: id.map(column).transpose()?, left })
    }

    fn column(&self, chunk: &ColumnChunkMetaData) -> Result<Column, Problem> {
        let number = |value: i64| u64::try_from(value).map_err(|_| broken("a column chunk lies before the file"));
        let data = number(chunk.data_page_offset())?;
        let start = match chunk.dictionary_page_offset() {
            Some(dictionary) if dictionary > 0 => number(dictionary)?.min(data),
            _ => data,
        };
        let length = number(chunk.compressed_size())?;
        if start.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(broken("a column chunk reaches beyond the file"));
        }
        let pages = Pages::new(Arc::clone(&self.source), start, length, chunk.compression());
        let descriptor = chunk.column_descr_ptr();
        let is_optional = descriptor.max_def_level() > 0;
        Ok(Column { reader: get_column_reader(descriptor, Box::new(pages)), is_optional })
    }
}

impl Column {
    /// At most `count` cells.
    fn cells(&mut self, count: usize) -> Result<Vec<Option<Cell>>, Problem> {
        let is_optional = self.is_optional;
        match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => cells(reader, count, is_optional, Cell::Bytes),
            ColumnReader::Int32ColumnReader(reader) => cells(reader, count, is_optional, |number| Cell::Number(number.into())),
            ColumnReader::Int64ColumnReader(reader) => cells(reader, count, is_optional, Cell::Number),
            _ => Err(broken("a column is neither text nor an integer")),
        }
    }
}

fn cells<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    count: usize,
    is_optional: bool,
    cell: impl Fn(T::T) -> Cell,
) -> Result<Vec<Option<Cell>>, Problem> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let defined = is_optional.then_some(&mut levels);
    let (rows, ..) = reader.read_records(count, defined, None, &mut values).map_err(|error| said(&error))?;
    let mut values = values.into_iter().map(cell);
    if !is_optional {
        return Ok(values.map(Some).collect());
    }
    let cells = levels.iter().map(|level| if *level > 0 { values.next() } else { None }).take(rows);
    Ok(cells.collect())
}

/// The file's length and its footer.
fn footer(source: &mut (impl Read + Seek)) -> Result<(u64, Vec<u8>), Problem> {
    let io = |error: std::io::Error| Problem::Read(ReadProblem::Io(error));
    let length = source.seek(SeekFrom::End(0)).map_err(io)?;
    let Some(tail_at) = length.checked_sub(8).filter(|at| *at >= 4) else {
        return Err(broken("it is too short to be one"));
    };
    let mut tail = [0; 8];
    source.seek(SeekFrom::Start(tail_at)).map_err(io)?;
    source.read_exact(&mut tail).map_err(io)?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic != *MAGIC {
        return Err(broken("it does not end as one (encrypted files are not read)"));
    }
    let bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
    let start = tail_at.checked_sub(bytes).filter(|start| *start >= 4);
    let Some(start) = start.filter(|_| bytes <= FOOTER_BYTES_MAX as u64) else {
        return Err(broken(&format!(
            "its footer has {bytes} bytes, at most {FOOTER_BYTES_MAX} within the file are read: write it anew with larger row groups"
        )));
    };
    source.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut footer = Vec::new();
    source.by_ref().take(bytes).read_to_end(&mut footer).map_err(io)?;
    Ok((length, footer))
}

/// Walks the schema of a footer without recursion: nothing if it is broken, too large or too deep for who walks it after us.
fn bounded_schema(footer: &[u8]) -> Option<()> {
    let mut reader = Reader::new(footer);
    let mut last = 0;
    loop {
        let (number, kind) = reader.field(last)?;
        last = number;
        match (number, kind) {
            (_, 0) => return None,
            (2, 9) => break,
            _ => reader.skip(kind, 8)?,
        }
    }
    let (kind, count) = reader.list()?;
    if kind != 12 || count > SCHEMA_NODES_MAX {
        return None;
    }
    // Children still to come at each level.
    let mut open: Vec<u32> = Vec::new();
    for _ in 0..count {
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        let children = reader.fields()?.int(5).unwrap_or_default();
        let children =
            u32::try_from(children).ok().filter(|children| usize::try_from(*children).is_ok_and(|children| children <= count))?;
        if children > 0 {
            open.push(children);
        }
        if open.len() > SCHEMA_DEPTH_MAX {
            return None;
        }
    }
    Some(())
}

fn places(metadata: &ParquetMetaData, columns: &Columns) -> Result<(usize, Option<usize>, Option<usize>), Problem> {
    let all = metadata.file_metadata().schema_descr().columns();
    let place = |wanted: &str| all.iter().position(|column| column.path().string() == wanted);
    let flat = |place: usize| {
        let column: &ColumnDescPtr = &all[place];
        let is_read = column.max_rep_level() == 0 && column.max_def_level() <= 1;
        let words = format!("column {} is a list or part of one: name a column of plain texts", column.path().string());
        if is_read { Ok(place) } else { Err(Problem::Parquet(words)) }
    };
    let names: Vec<String> = all.iter().map(|column| column.path().string()).collect();
    columns.check(&names)?;
    let of = |what: &'static str, wanted: &str| {
        let place = place(wanted).map(flat).transpose()?;
        place.map(|place| held(what, &all[place]).map(|()| place)).transpose()
    };
    let text = of("text", &columns.text)?.ok_or_else(|| broken("its columns changed"))?;
    Ok((text, of("title", &columns.title)?, of("id", &columns.id)?))
}

/// Whether a column holds what can be a text, a title or an id.
fn held(what: &'static str, column: &ColumnDescPtr) -> Result<(), Problem> {
    let holds = match column.physical_type() {
        Type::BYTE_ARRAY => return Ok(()),
        Type::INT32 | Type::INT64 if what != "text" => return Ok(()),
        Type::INT32 | Type::INT64 => "integers",
        Type::FLOAT | Type::DOUBLE => "floating-point numbers",
        Type::BOOLEAN => "truth values",
        Type::INT96 => "times",
        Type::FIXED_LEN_BYTE_ARRAY => "bytes of a fixed length",
    };
    let wanted = if what == "text" { "texts are read" } else { "texts and integers are read" };
    let name: String = column.path().string().chars().take(40).collect();
    let words =
        format!("column {name:?} holds {holds}, and as {what} {wanted}: write it as one of these, or name another with --{what}-column");
    Err(Problem::Parquet(words))
}

fn document([id, title, text]: Cells) -> Result<Document, Problem> {
    let label = |field: &'static str, cell: Option<Cell>| match cell {
        None => Ok(None),
        Some(Cell::Number(number)) => Ok(Some(number.to_string())),
        Some(Cell::Bytes(bytes)) => {
            let text = std::str::from_utf8(bytes.data())
                .map_err(|error| DocumentError::Label { field, problem: types::text::TextError::Utf8(error.valid_up_to()) })?;
            Ok::<_, Problem>(Some(text.to_owned()).filter(|text| !text.is_empty()))
        }
    };
    let (id, title) = (label("id", id)?, label("title", title)?);
    match text {
        Some(Cell::Bytes(text)) => Ok(Document::new(id, title, text.data())?),
        Some(Cell::Number(_)) => Err(broken("the column of the text holds integers")),
        None => Err(Problem::NoText),
    }
}

impl<R: Read + Seek + Send + 'static> Iterator for Parquet<R> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(cells) = self.rows.pop_front() {
                self.row += 1;
                let row = self.row;
                return Some(guarded(|| document(cells)).map_err(|problem| (At::Row(row), problem)));
            }
            if self.is_done {
                return None;
            }
            match guarded(|| self.refill()) {
                Ok(true) => {}
                Ok(false) => self.is_done = true,
                Err(problem) => {
                    self.is_done = true;
                    return Some(Err((At::Row(self.row + 1), problem)));
                }
            }
        }
    }
}
