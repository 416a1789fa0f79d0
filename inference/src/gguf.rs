//! GGUF model files, versions 2 and 3: header, metadata, and tensors read one at a time.
//!
//! The file may come from a stranger, so every size it declares is checked against the bytes that are left
//! before anything is allocated. Memory for the header is at most about six times the header's own bytes
//! (an empty string of eight bytes on disk costs a `String` of 24, in an array that grows by doubling). Tensors are read on demand, never mapped: after
//! a tensor is dequantised nothing of the file stays in memory.
//!
//! A 98 MB file with 272 tensors and 98,000 strings parses in about 30 ms; reading all tensors moves the
//! file once.

mod cursor;
mod error;
mod place;
mod quant;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cursor::Cursor;
pub use error::GgufError;
use place::{parse_tensor, place_tensors};
pub use quant::TensorType;

/// Metadata entries a file may declare; real ones hold 30 to 60.
pub const METADATA_ENTRIES_MAX: u64 = 65_536;
/// Tensors a file may declare; a model of 128 layers holds about 1,200.
pub const TENSORS_MAX: u64 = 65_536;
/// Bytes of a single string; chat templates reach tens of kilobytes.
pub const STRING_BYTES_MAX: u64 = 1 << 20;
/// Items of one array; the largest vocabularies are near 300,000.
pub const ARRAY_ITEMS_MAX: u64 = 1 << 22;
/// Dimensions of a tensor, as the format itself limits it.
pub const DIMENSIONS_MAX: u32 = 4;
/// Largest alignment of the data section.
pub const ALIGNMENT_MAX: u64 = 1 << 16;

/// A metadata value. Arrays hold plain values only: nested arrays are refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned integer, widened.
    Unsigned(u64),
    /// Any signed integer, widened.
    Signed(i64),
    /// A float of either width.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A UTF-8 string.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// An array of integers of any width.
    Integers(Vec<i64>),
    /// An array of floats.
    Floats(Vec<f32>),
    /// An array of booleans.
    Bools(Vec<bool>),
}

/// Where a tensor lies and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Shape, rows first (the file stores the reverse).
    pub shape: Vec<u64>,
    /// Storage format.
    pub kind: TensorType,
    /// Offset from the start of the file, in bytes.
    pub offset: u64,
    /// Length, in bytes.
    pub size_bytes: u64,
    /// Product of the shape.
    pub elements: u64,
}

/// The parsed head of a file: everything but the tensors' bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// An open model file.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: File,
    len: u64,
    header: Header,
}

impl GgufFile {
    /// Opens a file and parses its header.
    ///
    /// # Errors
    /// Any [`GgufError`]; a field that is cut off or oversized is named with its position.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.to_path_buf(), source };
        // Asked before it is opened: opening a pipe waits for a writer, and tensors are read by position.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("not a regular file: copy it to one first")));
        }
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let reader = BufReader::with_capacity(1 << 16, file.try_clone().map_err(io)?);
        let header = Header::parse(reader, len).map_err(|error| error.at(path))?;
        Ok(Self { path: path.to_path_buf(), file, len, header })
    }

    /// The parsed header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file's path, as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file when it was opened, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an open model file is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// BLAKE3 of the whole file, read through the handle that is already open.
    ///
    /// # Errors
    /// [`GgufError::Io`] if the file cannot be read.
    pub fn hash(&self) -> Result<[u8; 32], GgufError> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0u8; 1 << 20];
        let mut offset = 0u64;
        loop {
            let count = self.file.read_at(&mut buffer, offset).map_err(|e| self.io(e))?;
            if count == 0 {
                return Ok(*hasher.finalize().as_bytes());
            }
            hasher.update(&buffer[..count]);
            offset += count as u64;
        }
    }

    /// Reads one tensor's bytes as they are stored.
    ///
    /// `shape` is what the model expects, rows first.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`], [`GgufError::WrongShape`] or [`GgufError::Io`].
    pub fn bytes(&self, name: &str, shape: &[u64]) -> Result<(TensorType, Vec<u8>), GgufError> {
        let info = self.header.shaped(name, shape)?;
        let too_large = || GgufError::TooLarge {
            field: format!("tensor {name}"),
            offset: info.offset,
            value: info.size_bytes,
            limit: usize::MAX as u64,
        };
        let mut bytes = vec![0u8; usize::try_from(info.size_bytes).map_err(|_| too_large())?];
        self.file.read_exact_at(&mut bytes, info.offset).map_err(|e| self.io(e))?;
        Ok((info.kind, bytes))
    }

    /// Reads one tensor and dequantises it to f32, in row order.
    ///
    /// # Errors
    /// As [`GgufFile::bytes`].
    pub fn tensor(&self, name: &str, shape: &[u64]) -> Result<Vec<f32>, GgufError> {
        let (kind, bytes) = self.bytes(name, shape)?;
        Ok(kind.dequantise(&bytes))
    }

    fn io(&self, source: std::io::Error) -> GgufError {
        GgufError::Io { path: self.path.clone(), source }
    }
}

impl Header {
    /// Parses a header from the first bytes of a file of `len` bytes.
    ///
    /// # Errors
    /// Any [`GgufError`] but the ones about missing keys.
    pub fn parse(reader: impl Read, len: u64) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(reader, len);
        let got = cursor.bytes::<4>("magic")?;
        if &got != b"GGUF" {
            return Err(GgufError::BadMagic { got });
        }
        let version = cursor.u32("version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { got: version });
        }
        // The shortest tensor entry is 32 bytes (empty name, one dimension), the shortest metadata entry 13.
        let tensor_count = cursor.count("tensor count", 32, TENSORS_MAX)?;
        let entry_count = cursor.count("metadata count", 13, METADATA_ENTRIES_MAX)?;
        let metadata = parse_metadata(&mut cursor, entry_count)?;
        let alignment = alignment(&metadata)?;
        let mut declared = Vec::new();
        for index in 0..tensor_count {
            declared.push(parse_tensor(&mut cursor, index)?);
        }
        let data = cursor.offset().next_multiple_of(alignment);
        Ok(Self { metadata, tensors: place_tensors(declared, data, alignment, len)? })
    }

    /// A tensor's entry.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.tensors.get(name).ok_or_else(|| GgufError::MissingTensor { tensor: name.to_owned() })
    }

    /// A tensor's entry, if it has the shape a model expects, rows first.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] or [`GgufError::WrongShape`].
    pub fn shaped(&self, name: &str, shape: &[u64]) -> Result<&TensorInfo, GgufError> {
        let info = self.tensor(name)?;
        if info.shape != shape {
            return Err(GgufError::WrongShape { tensor: name.to_owned(), expected: shape.to_vec(), got: info.shape.clone() });
        }
        Ok(info)
    }

    /// A metadata value that must be there.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`].
    pub fn value(&self, key: &str) -> Result<&Value, GgufError> {
        self.metadata.get(key).ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
    }

    /// A non-negative integer.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongKind`].
    pub fn unsigned(&self, key: &str) -> Result<u64, GgufError> {
        match self.value(key)? {
            Value::Unsigned(value) => Ok(*value),
            Value::Signed(value) if *value >= 0 => Ok(value.unsigned_abs()),
            _ => Err(GgufError::WrongKind { key: key.to_owned(), expected: "a non-negative integer" }),
        }
    }

    /// A float.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongKind`].
    pub fn float(&self, key: &str) -> Result<f64, GgufError> {
        match self.value(key)? {
            Value::Float(value) => Ok(*value),
            _ => Err(GgufError::WrongKind { key: key.to_owned(), expected: "a float" }),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongKind`].
    pub fn text(&self, key: &str) -> Result<&str, GgufError> {
        match self.value(key)? {
            Value::Text(value) => Ok(value),
            _ => Err(GgufError::WrongKind { key: key.to_owned(), expected: "a string" }),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongKind`].
    pub fn texts(&self, key: &str) -> Result<&[String], GgufError> {
        match self.value(key)? {
            Value::Texts(value) => Ok(value),
            _ => Err(GgufError::WrongKind { key: key.to_owned(), expected: "an array of strings" }),
        }
    }

    /// An array of integers.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongKind`].
    pub fn integers(&self, key: &str) -> Result<&[i64], GgufError> {
        match self.value(key)? {
            Value::Integers(value) => Ok(value),
            _ => Err(GgufError::WrongKind { key: key.to_owned(), expected: "an array of integers" }),
        }
    }
}

fn parse_metadata<R: Read>(cursor: &mut Cursor<R>, count: u64) -> Result<BTreeMap<String, Value>, GgufError> {
    let mut metadata = BTreeMap::new();
    for index in 0..count {
        let offset = cursor.offset();
        let key = cursor.text(&format!("metadata key {index}"))?;
        let value = cursor.value(&key)?;
        if metadata.contains_key(&key) {
            return Err(GgufError::Invalid {
                field: format!("metadata key {index}"),
                offset,
                value: key,
                expected: "each key may occur once",
            });
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let invalid = |value: String| GgufError::Invalid {
        field: "general.alignment".to_owned(),
        offset: 0,
        value,
        expected: "a power of two between 1 and 65,536",
    };
    match metadata.get("general.alignment") {
        None => Ok(32),
        Some(Value::Unsigned(value)) if value.is_power_of_two() && *value <= ALIGNMENT_MAX => Ok(*value),
        Some(other) => Err(invalid(format!("{other:?}"))),
    }
}

#[cfg(test)]
mod tests;
