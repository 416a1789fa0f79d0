//! GGUF model files, versions 2 and 3: header, metadata, and tensors read one at a time.
//!
//! The file may come from a stranger, so every size it declares is checked against the bytes that are left
//! before anything is allocated. Memory for the header is at most about four times the header's own bytes
//! (a string of eight bytes on disk costs a `String` of 24). Tensors are read on demand, never mapped: after
//! a tensor is dequantised nothing of the file stays in memory.
//!
//! A 98 MB file with 272 tensors and 98,000 strings parses in about 30 ms; reading all tensors moves the
//! file once.

mod cursor;
mod quant;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cursor::Cursor;
pub use quant::TensorType;
pub(crate) use quant::f16_to_f32;

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

/// What is wrong with a file, and where.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The first four bytes are not `GGUF`.
    #[error("this is not a GGUF file: it starts with {got:02x?}, expected \"GGUF\"")]
    BadMagic {
        /// The first bytes found.
        got: [u8; 4],
    },
    /// A version this reader does not know.
    #[error("GGUF version {got} is not supported, expected 2 or 3: convert the file again")]
    Version {
        /// The version in the file.
        got: u32,
    },
    /// A field reaches past the end of the file.
    #[error("the file is cut off: {field} at byte {offset} needs {need} bytes, {have} are left; download it again")]
    Truncated {
        /// The field being read.
        field: String,
        /// Its position in the file, in bytes.
        offset: u64,
        /// Bytes it declares.
        need: u64,
        /// Bytes the file still has.
        have: u64,
    },
    /// A declared size is above this reader's limit.
    #[error("{field} at byte {offset} declares {value}, at most {limit} is accepted")]
    TooLarge {
        /// The field being read.
        field: String,
        /// Its position in the file, in bytes.
        offset: u64,
        /// The value declared.
        value: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A field has a value that has no meaning.
    #[error("{field} at byte {offset} is {value}: {expected}")]
    Invalid {
        /// The field being read.
        field: String,
        /// Its position in the file, in bytes.
        offset: u64,
        /// What was found.
        value: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A tensor is stored in a block format this reader does not decode.
    #[error("tensor {tensor} has type {type_id}; F32, F16, Q4_0, Q4_1 and Q8_0 are supported")]
    UnsupportedType {
        /// The tensor.
        tensor: String,
        /// The type number in the file.
        type_id: u32,
    },
    /// A metadata key the model needs is absent.
    #[error("metadata key {key} is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A metadata key holds another kind of value.
    #[error("metadata key {key} is not {expected}")]
    WrongKind {
        /// The key.
        key: String,
        /// The kind that was expected.
        expected: &'static str,
    },
    /// A tensor the model needs is absent.
    #[error("tensor {tensor} is missing")]
    MissingTensor {
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than the metadata implies.
    #[error("tensor {tensor} has shape {got:?}, the metadata implies {expected:?}")]
    WrongShape {
        /// The tensor.
        tensor: String,
        /// The shape implied by the metadata, rows first.
        expected: Vec<u64>,
        /// The shape in the file, rows first.
        got: Vec<u64>,
    },
}

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

    /// Reads one tensor and dequantises it to f32, in row order.
    ///
    /// `shape` is what the model expects, rows first.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`], [`GgufError::WrongShape`] or [`GgufError::Io`].
    pub fn tensor(&self, name: &str, shape: &[u64]) -> Result<Vec<f32>, GgufError> {
        let info = self.header.tensor(name)?;
        if info.shape != shape {
            return Err(GgufError::WrongShape { tensor: name.to_owned(), expected: shape.to_vec(), got: info.shape.clone() });
        }
        let too_large = || GgufError::TooLarge {
            field: format!("tensor {name}"),
            offset: info.offset,
            value: info.size_bytes,
            limit: usize::MAX as u64,
        };
        let mut bytes = vec![0u8; usize::try_from(info.size_bytes).map_err(|_| too_large())?];
        self.file.read_exact_at(&mut bytes, info.offset).map_err(|e| self.io(e))?;
        Ok(info.kind.dequantise(&bytes))
    }

    fn io(&self, source: std::io::Error) -> GgufError {
        GgufError::Io { path: self.path.clone(), source }
    }
}

impl GgufError {
    /// Puts the real path into an error of a reader that did not know it.
    fn at(self, path: &Path) -> Self {
        match self {
            Self::Io { source, .. } => Self::Io { path: path.to_path_buf(), source },
            other => other,
        }
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

/// A tensor entry before its place in the file is checked.
struct Declared {
    name: String,
    at: u64,
    shape: Vec<u64>,
    type_id: u32,
    offset: u64,
}

fn parse_tensor<R: Read>(cursor: &mut Cursor<R>, index: u64) -> Result<Declared, GgufError> {
    let at = cursor.offset();
    let name = cursor.text(&format!("name of tensor {index}"))?;
    let dimensions_at = cursor.offset();
    let dimensions = cursor.u32("dimension count")?;
    if dimensions == 0 || dimensions > DIMENSIONS_MAX {
        return Err(GgufError::TooLarge {
            field: format!("dimension count of tensor {name}"),
            offset: dimensions_at,
            value: u64::from(dimensions),
            limit: u64::from(DIMENSIONS_MAX),
        });
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(cursor.u64(&name)?);
    }
    shape.reverse();
    let type_id = cursor.u32(&name)?;
    let offset = cursor.u64(&name)?;
    Ok(Declared { name, at, shape, type_id, offset })
}

/// Checks that every tensor lies inside the file, and that together they do not claim more bytes than it has:
/// overlapping entries would let a small file stand for a large model.
fn place_tensors(declared: Vec<Declared>, data: u64, alignment: u64, len: u64) -> Result<BTreeMap<String, TensorInfo>, GgufError> {
    let mut tensors = BTreeMap::new();
    let mut left = len.saturating_sub(data);
    for entry in declared {
        let at = entry.at;
        let name = entry.name.clone();
        let info = place_tensor(entry, data, alignment, len)?;
        if info.size_bytes > left {
            return Err(GgufError::Truncated { field: format!("data of tensor {name}"), offset: at, need: info.size_bytes, have: left });
        }
        left -= info.size_bytes;
        if tensors.insert(name.clone(), info).is_some() {
            return Err(GgufError::Invalid {
                field: "tensor name".to_owned(),
                offset: at,
                value: name,
                expected: "each tensor may occur once",
            });
        }
    }
    Ok(tensors)
}

fn place_tensor(entry: Declared, data: u64, alignment: u64, len: u64) -> Result<TensorInfo, GgufError> {
    let Declared { name, at, shape, type_id, offset } = entry;
    let kind = TensorType::from_id(type_id).ok_or_else(|| GgufError::UnsupportedType { tensor: name.clone(), type_id })?;
    let too_large = |value| GgufError::TooLarge { field: format!("size of tensor {name}"), offset: at, value, limit: len };
    let elements = shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side)).ok_or_else(|| too_large(u64::MAX))?;
    let row = shape.last().copied().unwrap_or(0);
    if row == 0 || row % kind.block_elements() != 0 {
        return Err(GgufError::Invalid {
            field: format!("row length of tensor {name}"),
            offset: at,
            value: row.to_string(),
            expected: "a positive multiple of the type's block (32 for quantised types)",
        });
    }
    let size_bytes = (elements / kind.block_elements()).checked_mul(kind.block_bytes()).ok_or_else(|| too_large(u64::MAX))?;
    if offset % alignment != 0 {
        return Err(GgufError::Invalid {
            field: format!("offset of tensor {name}"),
            offset: at,
            value: offset.to_string(),
            expected: "a multiple of general.alignment",
        });
    }
    let start = data.checked_add(offset).ok_or_else(|| too_large(offset))?;
    let have = len.saturating_sub(start);
    if size_bytes > have {
        return Err(GgufError::Truncated { field: format!("data of tensor {name}"), offset: start, need: size_bytes, have });
    }
    Ok(TensorInfo { shape, kind, offset: start, size_bytes, elements })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header with one metadata entry and one 2 x 32 Q8_0 tensor.
    fn sample() -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(1u64.to_le_bytes());
        out.extend(1u64.to_le_bytes());
        text(&mut out, "general.name");
        out.extend(8u32.to_le_bytes());
        text(&mut out, "sample");
        text(&mut out, "w");
        out.extend(2u32.to_le_bytes());
        out.extend(32u64.to_le_bytes());
        out.extend(2u64.to_le_bytes());
        out.extend(8u32.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.resize(out.len().next_multiple_of(32), 0);
        for row in [1i8, -2] {
            out.extend(half_one());
            out.extend([row.to_le_bytes()[0]; 32]);
        }
        out
    }

    fn text(out: &mut Vec<u8>, value: &str) {
        out.extend((value.len() as u64).to_le_bytes());
        out.extend(value.as_bytes());
    }

    fn half_one() -> [u8; 2] {
        0x3c00u16.to_le_bytes()
    }

    fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
        Header::parse(bytes, bytes.len() as u64)
    }

    #[test]
    fn a_tensor_is_read_and_dequantised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, sample()).unwrap();
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.header().text("general.name").unwrap(), "sample");
        let values = file.tensor("w", &[2, 32]).unwrap();
        assert_eq!(values[..32], [1.0; 32]);
        assert_eq!(values[32..], [-2.0; 32]);
        assert_eq!(file.hash().unwrap(), *blake3::hash(&sample()).as_bytes());
    }

    #[test]
    fn every_prefix_of_a_file_is_refused_by_name() {
        let bytes = sample();
        for len in 0..bytes.len() {
            match parse(&bytes[..len]) {
                Err(GgufError::Truncated { field, need, have, .. }) => {
                    assert!(!field.is_empty() && need > have, "prefix of {len}");
                }
                other => panic!("prefix of {len} gave {other:?}"),
            }
        }
    }

    #[test]
    fn an_oversized_count_names_field_offset_and_limit() {
        let mut bytes = sample();
        bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        let error = parse(&bytes).unwrap_err();
        assert!(
            matches!(&error, GgufError::TooLarge { field, offset: 16, limit: METADATA_ENTRIES_MAX, .. } if field == "metadata count"),
            "{error}"
        );
    }

    #[test]
    fn a_string_longer_than_the_file_is_refused_before_it_is_allocated() {
        let mut bytes = sample();
        bytes[24..32].copy_from_slice(&500_000u64.to_le_bytes());
        let error = parse(&bytes).unwrap_err();
        assert!(matches!(error, GgufError::Truncated { offset: 32, need: 500_000, .. }), "{error}");
    }

    #[test]
    fn another_type_and_another_version_are_refused() {
        let mut bytes = sample();
        let at = bytes.len() - 68 - 32 + (bytes.len() % 32);
        let type_at = (0..bytes.len() - 12).find(|&i| bytes[i..i + 12] == [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] && i > 60).unwrap_or(at);
        bytes[type_at] = 12;
        assert!(matches!(parse(&bytes), Err(GgufError::UnsupportedType { type_id: 12, .. })));
        bytes[4] = 1;
        assert!(matches!(parse(&bytes), Err(GgufError::Version { got: 1 })));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(flips in prop::collection::vec((0usize..200, any::<u8>()), 1..8)) {
            let mut bytes = sample();
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let _ = parse(&bytes);
        }

        #[test]
        fn parsing_noise_never_panics(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = b"GGUF\x03\0\0\0".to_vec();
            bytes.extend(tail);
            let _ = parse(&bytes);
        }
    }
}
