//! CSV with a header row (RFC 4180). Records may span lines inside of quotes; one has at most [`LINE_BYTES_MAX`] bytes.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use super::{At, BUFFER_BYTES, Columns, Item, LINE_BYTES_MAX, Problem};
use crate::datanet::{Document, DocumentError, read::Problem as ReadProblem};

/// A source that gives so many bytes and no more until it is filled up, so that one record cannot take the whole file into memory.
#[derive(Debug)]
struct Capped<R> {
    source: R,
    left: usize,
    is_spent: bool,
    marks: Marks,
}

/// Where the last byte stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Before a field.
    Start,
    /// In a field without marks, in which a mark is a letter like others.
    Plain,
    Quoted,
    /// Behind a mark in a quoted field: its end, or the first half of a mark.
    Closed,
    /// Behind a quoted field and a blank.
    Behind,
}

/// Follows quotation marks as the library does, which tells nobody where one was opened that is never closed, nor that something stood behind one.
#[derive(Debug)]
struct Marks {
    delimiter: u8,
    inside: Inside,
    bytes: u64,
    line: u64,
    /// Line of the mark that was opened last.
    opened: u64,
    /// Byte and line of what stands behind the end of a quoted field, once a record; no more than the reader's buffer has records.
    strays: VecDeque<(u64, u64)>,
    is_stray: bool,
}

impl Marks {
    const fn new(delimiter: u8) -> Self {
        Self { delimiter, inside: Inside::Start, bytes: 0, line: 1, opened: 1, strays: VecDeque::new(), is_stray: false }
    }

    fn follow(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.inside = self.behind(*byte);
            self.line += u64::from(*byte == b'\n');
            self.bytes += 1;
        }
    }

    fn behind(&mut self, byte: u8) -> Inside {
        match (self.inside, byte) {
            (Inside::Quoted, b'"') => Inside::Closed,
            (Inside::Quoted, _) | (Inside::Closed, b'"') => Inside::Quoted,
            (Inside::Start, b'"') => {
                self.opened = self.line;
                Inside::Quoted
            }
            // A mark of byte order stands before the first field.
            (Inside::Start, 0xef | 0xbb | 0xbf) if self.bytes < 3 => Inside::Start,
            (_, b'\n' | b'\r') => {
                self.is_stray = false;
                Inside::Start
            }
            (_, byte) if byte == self.delimiter => Inside::Start,
            (Inside::Closed | Inside::Behind, b' ' | b'\t') => Inside::Behind,
            (Inside::Closed | Inside::Behind, _) => {
                if !std::mem::replace(&mut self.is_stray, true) {
                    self.strays.push_back((self.bytes, self.line));
                }
                Inside::Plain
            }
            (Inside::Start | Inside::Plain, _) => Inside::Plain,
        }
    }

    /// The line of the first stray before a byte; those before it are forgotten.
    fn stray(&mut self, before: u64) -> Option<u64> {
        let mut first = None;
        while let Some((_, line)) = self.strays.pop_front_if(|(byte, _)| *byte < before) {
            first.get_or_insert(line);
        }
        first
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left);
        if most == 0 && !buffer.is_empty() {
            self.is_spent = true;
            return Err(io::Error::other("the record is too long"));
        }
        let read = self.source.read(&mut buffer[..most])?;
        self.left -= read;
        self.marks.follow(&buffer[..read]);
        Ok(read)
    }
}

/// Places of the columns in a record.
#[derive(Debug, Clone, Copy)]
struct Places {
    text: usize,
    title: Option<usize>,
    id: Option<usize>,
}

/// Documents of a table.
#[derive(Debug)]
pub(super) struct Csv<R> {
    reader: csv::Reader<Capped<R>>,
    columns: Columns,
    places: Option<Places>,
    /// Fields of the header.
    names_len: usize,
    record: ByteRecord,
    /// Line of a stray mark in it.
    stray: Option<u64>,
    is_done: bool,
}

impl<R: Read> Csv<R> {
    /// Reads `source`, whose fields are apart by `delimiter`.
    pub(super) fn new(source: R, delimiter: u8, columns: Columns) -> Self {
        let source = Capped { source, left: 0, is_spent: false, marks: Marks::new(delimiter) };
        let reader =
            ReaderBuilder::new().delimiter(delimiter).has_headers(false).buffer_capacity(BUFFER_BYTES).flexible(true).from_reader(source);
        Self { reader, columns, places: None, names_len: 0, record: ByteRecord::new(), stray: None, is_done: false }
    }

    /// The next record and its line; nothing at the end.
    fn record(&mut self) -> Result<Option<u64>, (At, Problem)> {
        self.reader.get_mut().left = LINE_BYTES_MAX;
        let line = self.reader.position().line();
        let read = self.reader.read_byte_record(&mut self.record);
        let line = self.record.position().map_or(line, csv::Position::line);
        let end = self.reader.position().byte();
        let marks = &mut self.reader.get_mut().marks;
        self.stray = marks.stray(end);
        match read {
            Ok(true) => Ok(Some(line)),
            Ok(false) if marks.inside == Inside::Quoted => Err((At::Line(marks.opened), Problem::Quote)),
            Ok(false) => Ok(None),
            Err(error) => Err((At::Line(line), self.said(error))),
        }
    }

    fn said(&self, error: csv::Error) -> Problem {
        if self.reader.get_ref().is_spent {
            return Problem::RecordTooLong;
        }
        let words = error.to_string();
        match error.into_kind() {
            ErrorKind::Io(error) => Problem::Read(ReadProblem::Io(error)),
            _ => Problem::Csv(words),
        }
    }

    /// Finds the columns in the header row.
    fn header(&mut self) -> Result<Option<Places>, (At, Problem)> {
        if self.record()?.is_none() {
            return Ok(None);
        }
        if let Some(line) = self.stray {
            return Err((At::Line(line), Problem::Stray));
        }
        let names: Vec<&[u8]> = self.record.iter().collect();
        let mut names: Vec<String> = names.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        if let Some(first) = names.first_mut() {
            *first = first.trim_start_matches('\u{feff}').to_owned();
        }
        self.columns.check(&names).map_err(|problem| (At::Line(1), problem.into()))?;
        let place = |wanted: &str| names.iter().position(|name| name == wanted);
        let text = place(&self.columns.text);
        self.places = text.map(|text| Places { text, title: place(&self.columns.title), id: place(&self.columns.id) });
        self.names_len = names.len();
        Ok(self.places)
    }

    fn document(&mut self) -> Option<Item> {
        let places = match self.places.map_or_else(|| self.header(), |places| Ok(Some(places))) {
            Ok(places) => places?,
            Err(error) => {
                self.is_done = true;
                return Some(Err(error));
            }
        };
        match self.record() {
            Ok(Some(line)) => Some(match self.stray {
                Some(line) => Err((At::Line(line), Problem::Stray)),
                None => self.row(places).map_err(|problem| (At::Line(line), problem)),
            }),
            Ok(None) => None,
            Err(error) => {
                // What follows a record that has no end cannot be told apart from it.
                self.is_done = true;
                Some(Err(error))
            }
        }
    }

    fn row(&self, places: Places) -> Result<Document, Problem> {
        // Some exporters end every row, but not the header, with a separator: what stands behind the last column must be empty.
        let has_more = self.record.iter().skip(self.names_len).any(|field| !field.is_empty());
        if self.record.len() < self.names_len || has_more {
            let (got, wanted) = (self.record.len(), self.names_len);
            return Err(Problem::Csv(format!(
                "it has {got} fields, the header has {wanted}: put fields that hold a separator into quotation marks"
            )));
        }
        let field = |place: usize| self.record.get(place).unwrap_or_default();
        let label = |name: &'static str, place: Option<usize>| {
            let bytes = place.map(field).filter(|bytes| !bytes.is_empty());
            bytes.map(|bytes| String::from_utf8(bytes.to_vec()).map_err(|error| utf8(name, error.utf8_error().valid_up_to()))).transpose()
        };
        let (id, title) = (label("id", places.id)?, label("title", places.title)?);
        let text = field(places.text);
        if text.is_empty() { Err(Problem::NoText) } else { Ok(Document::new(id, title, text)?) }
    }
}

fn utf8(field: &'static str, at: usize) -> Problem {
    DocumentError::Label { field, problem: types::text::TextError::Utf8(at) }.into()
}

impl<R: Read> Iterator for Csv<R> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.is_done {
            return None;
        }
        let item = self.document();
        self.is_done |= item.is_none();
        item
    }
}
