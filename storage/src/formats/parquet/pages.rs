//! Pages of one column chunk, read one at a time and bounded before anything is allocated for them.
//!
//! The library's own page reader believes sizes and counts of a header: a dictionary of two thousand million empty values, or a page of two gigabytes
//! made of a kilobyte, would be allocated before it is looked at, and a failed allocation ends the process. So headers are parsed here, and a page
//! gets to the decoder only with an encoding and counts that its bytes can hold.

use std::{
    io::{Read, Seek, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding},
    column::page::{Page, PageMetadata, PageReader},
    errors::{ParquetError, Result},
};

use super::thrift::{Fields, Reader};

/// Longest page, compressed or not. Writers aim at 1 MiB and exceed it where rows are long: a thousand documents of 64 KiB.
pub const PAGE_BYTES_MAX: usize = 64 << 20;
/// Longest header: statistics inside of it are cut by writers to kilobytes.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Most values of a dictionary: 40 MB of entries. Writers give a dictionary up at 1 to 2 MiB.
const DICTIONARY_VALUES_MAX: u32 = 1 << 20;

/// What a page header says.
#[derive(Debug)]
struct Header {
    bytes: usize,
    kind: i64,
    plain_bytes: usize,
    stored_bytes: usize,
    fields: Fields,
}

/// The pages of a column chunk.
#[derive(Debug)]
pub(super) struct Pages<R> {
    source: Arc<Mutex<R>>,
    at: u64,
    left: u64,
    compression: Compression,
}

fn bad(words: impl Into<String>) -> ParquetError {
    ParquetError::General(words.into())
}

impl<R: Read + Seek> Pages<R> {
    /// The chunk of `length` bytes at `start`.
    pub(super) const fn new(source: Arc<Mutex<R>>, start: u64, length: u64, compression: Compression) -> Self {
        Self { source, at: start, left: length, compression }
    }

    fn bytes(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        source.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        source.by_ref().take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        drop(source);
        Ok(bytes)
    }

    fn header(&self) -> Result<Header> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(HEADER_BYTES_MAX);
        let bytes = self.bytes(self.at, length)?;
        let mut reader = Reader::new(&bytes);
        let fields = reader.fields().ok_or_else(|| bad("a page header is broken"))?;
        let size = |field: i16, name: &str| {
            let size = fields.int(field).and_then(|size| usize::try_from(size).ok());
            let size = size.ok_or_else(|| bad(format!("a page header has no {name} size")))?;
            if size > PAGE_BYTES_MAX {
                return Err(bad(format!(
                    "a page has {size} bytes, at most {PAGE_BYTES_MAX} are read: write the file anew with smaller pages (pyarrow: data_page_size, write_batch_size)"
                )));
            }
            Ok(size)
        };
        let kind = fields.int(1).ok_or_else(|| bad("a page header has no type"))?;
        Ok(Header { bytes: reader.at(), kind, plain_bytes: size(2, "uncompressed")?, stored_bytes: size(3, "compressed")?, fields })
    }

    /// Header and page; nothing at the end of the chunk.
    fn next_page(&mut self) -> Result<Option<Page>> {
        while self.left > 0 {
            let header = self.header()?;
            let whole = u64::try_from(header.bytes + header.stored_bytes).map_err(|error| bad(error.to_string()))?;
            self.left = self.left.checked_sub(whole).ok_or_else(|| bad("a page reaches beyond its column chunk"))?;
            let start = self.at + u64::try_from(header.bytes).map_err(|error| bad(error.to_string()))?;
            self.at += whole;
            // An index page holds nothing that is read.
            if header.kind == 1 {
                continue;
            }
            let stored = self.bytes(start, header.stored_bytes)?;
            if stored.len() != header.stored_bytes {
                return Err(bad("the file ends within a page"));
            }
            return self.page(&header, stored).map(Some);
        }
        Ok(None)
    }

    fn page(&self, header: &Header, stored: Vec<u8>) -> Result<Page> {
        match header.kind {
            0 => self.data(header, stored),
            2 => self.dictionary(header, stored),
            3 => self.data_v2(header, stored),
            other => Err(bad(format!("a page of type {other} is not known"))),
        }
    }

    fn data(&self, header: &Header, stored: Vec<u8>) -> Result<Page> {
        let fields = header.fields.inner(5).ok_or_else(|| bad("a data page has no data page header"))?;
        // Levels of flat columns are RLE; the older packing is written by nobody and decoded by code that nobody tries.
        for level in [3, 4] {
            if fields.int(level) != Some(3) {
                return Err(bad("levels are not encoded as RLE: write the file anew (pyarrow does it)"));
            }
        }
        Ok(Page::DataPage {
            num_values: count(fields, 1)?,
            encoding: encoding(fields, 2)?,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            buf: self.plain(&stored, header.plain_bytes)?.into(),
            statistics: None,
        })
    }

    fn data_v2(&self, header: &Header, mut stored: Vec<u8>) -> Result<Page> {
        let fields = header.fields.inner(8).ok_or_else(|| bad("a data page has no data page header"))?;
        let (definition, repetition) = (count(fields, 5)?, count(fields, 6)?);
        let levels = usize::try_from(u64::from(definition) + u64::from(repetition)).unwrap_or(usize::MAX);
        if levels > stored.len() || levels > header.plain_bytes {
            return Err(bad("the levels of a page are longer than the page"));
        }
        let is_compressed = fields.bool(7).unwrap_or(true);
        let buf = if is_compressed {
            let values = self.plain(&stored[levels..], header.plain_bytes - levels)?;
            stored.truncate(levels);
            stored.extend_from_slice(&values);
            stored
        } else {
            sized(stored, header.plain_bytes)?
        };
        Ok(Page::DataPageV2 {
            num_values: count(fields, 1)?,
            num_nulls: count(fields, 2)?,
            num_rows: count(fields, 3)?,
            encoding: encoding(fields, 4)?,
            def_levels_byte_len: definition,
            rep_levels_byte_len: repetition,
            is_compressed,
            buf: buf.into(),
            statistics: None,
        })
    }

    fn dictionary(&self, header: &Header, stored: Vec<u8>) -> Result<Page> {
        let fields = header.fields.inner(7).ok_or_else(|| bad("a dictionary page has no dictionary page header"))?;
        let num_values = count(fields, 1)?;
        let buf: Bytes = self.plain(&stored, header.plain_bytes)?.into();
        // A value takes four bytes at least: a length, or an integer.
        if num_values > DICTIONARY_VALUES_MAX || usize::try_from(num_values).is_ok_and(|count| count.saturating_mul(4) > buf.len()) {
            return Err(bad(format!("a dictionary of {} bytes says that it holds {num_values} values", buf.len())));
        }
        Ok(Page::DictionaryPage { buf, num_values, encoding: Encoding::PLAIN, is_sorted: false })
    }

    fn plain(&self, stored: &[u8], length: usize) -> Result<Vec<u8>> {
        let plain = match self.compression {
            Compression::UNCOMPRESSED => stored.to_vec(),
            _ if length == 0 => Vec::new(),
            Compression::ZSTD(_) => zstd::bulk::decompress(stored, length)?,
            Compression::SNAPPY => {
                let says = snap::raw::decompress_len(stored).map_err(|error| bad(error.to_string()))?;
                if says != length {
                    return Err(bad(format!("a page of {length} bytes says that it unpacks to {says}")));
                }
                snap::raw::Decoder::new().decompress_vec(stored).map_err(|error| bad(error.to_string()))?
            }
            other => {
                return Err(bad(format!("columns are compressed by {other}, which is not read: write the file anew with zstd or snappy")));
            }
        };
        sized(plain, length)
    }
}

fn sized(bytes: Vec<u8>, length: usize) -> Result<Vec<u8>> {
    if bytes.len() == length { Ok(bytes) } else { Err(bad(format!("a page unpacks to {} bytes, its header says {length}", bytes.len()))) }
}

fn count(fields: &Fields, field: i16) -> Result<u32> {
    fields.count(field).ok_or_else(|| bad("a page header lacks a count, or has a negative one"))
}

/// Encodings whose decoders allocate by what is there. Delta encodings begin with a count that is believed.
fn encoding(fields: &Fields, field: i16) -> Result<Encoding> {
    match fields.int(field) {
        Some(0) => Ok(Encoding::PLAIN),
        Some(2) => Ok(Encoding::PLAIN_DICTIONARY),
        Some(8) => Ok(Encoding::RLE_DICTIONARY),
        other => Err(bad(format!(
            "values have encoding {}, read are plain and dictionary: write the file anew without delta encodings (pyarrow's default)",
            other.unwrap_or(-1)
        ))),
    }
}

impl<R: Read + Seek> Iterator for Pages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_page().transpose()
    }
}

impl<R: Read + Seek + Send> PageReader for Pages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.next_page()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Err(bad("pages are read in order"))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(bad("pages are read in order"))
    }
}
