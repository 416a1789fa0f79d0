//! One safetensors file: a JSON header of names, formats, shapes and places, then the data.
//!
//! The header is read by itself and checked against the file's length before any tensor is: a name occurs once, every tensor lies in the
//! file and has the length that its shape implies, and together they claim no more bytes than the file has. A header costs at most about four times
//! its own bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::FilesError;
use crate::gguf::TensorType;

/// Longest header in bytes; a model of 128 layers has about 150,000.
pub const HEADER_BYTES_MAX: u64 = 16 << 20;
/// Tensors of one file.
pub const ENTRIES_MAX: usize = 65_536;
/// Dimensions of a tensor.
const DIMENSIONS_MAX: usize = 8;

/// An open file.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: File,
    len: u64,
    data: u64,
    entries: BTreeMap<String, Entry>,
}

/// A tensor as the header declares it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Entry {
    fn kind(&self) -> Option<TensorType> {
        match self.dtype.as_str() {
            "F32" => Some(TensorType::F32),
            "F16" => Some(TensorType::F16),
            "BF16" => Some(TensorType::BF16),
            _ => None,
        }
    }
}

/// Bytes of one element of a format that may stand in a file, whether this engine computes with it or not.
fn element_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
        "I16" | "U16" | "F16" | "BF16" => 2,
        "I32" | "U32" | "F32" => 4,
        "I64" | "U64" | "F64" => 8,
        _ => return None,
    })
}

impl SafetensorsFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// Any [`FilesError`] but `Absent`.
    pub fn open(path: &Path) -> Result<Self, FilesError> {
        let io = |source| FilesError::Io { path: path.to_path_buf(), source };
        // Asked before it is opened: opening a pipe waits for a writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("not a regular file: copy it to one first")));
        }
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let invalid = |field: &str, value: String, expected| FilesError::Invalid {
            file: path.to_path_buf(),
            field: field.to_owned(),
            value,
            expected,
        };
        if len < 8 {
            return Err(invalid("length", format!("{len} bytes"), "8 bytes of header length, a header and data: download it again"));
        }
        let mut prefix = [0u8; 8];
        file.read_exact_at(&mut prefix, 0).map_err(io)?;
        let header = u64::from_le_bytes(prefix);
        if header > HEADER_BYTES_MAX.min(len - 8) {
            let expected = "at most 16 MiB and what the file holds: it is cut off, or no safetensors file";
            return Err(invalid("header length", header.to_string(), expected));
        }
        let mut bytes =
            vec![
                0u8;
                usize::try_from(header).map_err(|_| invalid("header length", header.to_string(), "a length that fits this machine"))?
            ];
        file.read_exact_at(&mut bytes, 8).map_err(io)?;
        let Entries(entries) = serde_json::from_slice(&bytes)
            .map_err(|error| FilesError::Json { file: path.to_path_buf(), problem: format!("header: {error}") })?;
        let data = 8 + header;
        place(&entries, len - data).map_err(|(field, value, expected)| invalid(&field, value, expected))?;
        Ok(Self { path: path.to_path_buf(), file, len, data, entries })
    }

    /// Length of the file, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an open file is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Names of its tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The file's path, as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Feeds the whole file to a hasher.
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) -> Result<(), FilesError> {
        let mut buffer = vec![0u8; 1 << 20];
        let mut offset = 0u64;
        loop {
            let count = self.file.read_at(&mut buffer, offset).map_err(|source| self.io(source))?;
            if count == 0 {
                return Ok(());
            }
            hasher.update(&buffer[..count]);
            offset += count as u64;
        }
    }

    /// The format of a tensor, if it is there with the shape a model expects.
    pub(super) fn shaped(&self, name: &str, shape: &[u64]) -> Result<TensorType, FilesError> {
        self.entry(name, shape).map(|(kind, _)| kind)
    }

    fn entry(&self, name: &str, shape: &[u64]) -> Result<(TensorType, &Entry), FilesError> {
        let invalid = |of, value: String, expected| FilesError::Invalid {
            file: self.path.clone(),
            field: format!("{of} of tensor {name}"),
            value,
            expected,
        };
        let Some(entry) = self.entries.get(name) else {
            return Err(FilesError::Missing {
                file: self.path.clone(),
                field: format!("tensor {name}"),
                expected: "every tensor that config.json implies",
            });
        };
        if entry.shape != shape {
            let value = format!("{:?} where config.json implies {shape:?}", entry.shape);
            return Err(invalid("shape", value, "the shape that config.json implies: both files must be of one model"));
        }
        let kind = entry.kind().ok_or_else(|| invalid("dtype", entry.dtype.clone(), "F32, F16 or BF16: save the model in one of them"))?;
        Ok((kind, entry))
    }

    /// Reads a tensor as it is stored.
    pub(super) fn bytes(&self, name: &str, shape: &[u64]) -> Result<(TensorType, Vec<u8>), FilesError> {
        let (kind, entry) = self.entry(name, shape)?;
        let [begin, end] = entry.data_offsets;
        let too_large = || FilesError::TooLarge { file: self.path.clone(), got: end - begin, max: usize::MAX as u64 };
        let mut bytes = vec![0u8; usize::try_from(end - begin).map_err(|_| too_large())?];
        self.file.read_exact_at(&mut bytes, self.data + begin).map_err(|source| self.io(source))?;
        Ok((kind, bytes))
    }

    fn io(&self, source: std::io::Error) -> FilesError {
        FilesError::Io { path: self.path.clone(), source }
    }
}

/// Checks every entry against the data; what is wrong as field, value and what was expected.
fn place(entries: &BTreeMap<String, Entry>, data: u64) -> Result<(), (String, String, &'static str)> {
    let mut left = data;
    for (name, entry) in entries {
        let wrong = |of: &str, value: String, expected| Err((format!("{of} of tensor {name}"), value, expected));
        let [begin, end] = entry.data_offsets;
        if begin > end || end > data {
            return wrong(
                "data_offsets",
                format!("{begin}..{end} of {data} bytes"),
                "a range in the data: the file is cut off, download it again",
            );
        }
        let Some(bytes) = element_bytes(&entry.dtype) else {
            return wrong("dtype", entry.dtype.clone(), "a format of whole bytes: F32, F16 or BF16 for weights");
        };
        if entry.shape.len() > DIMENSIONS_MAX {
            return wrong("shape", format!("{} dimensions", entry.shape.len()), "at most 8");
        }
        let size = entry.shape.iter().try_fold(bytes, |product, &side| product.checked_mul(side));
        if size != Some(end - begin) {
            return wrong(
                "data_offsets",
                format!("{} bytes for shape {:?}", end - begin, entry.shape),
                "the length that shape and dtype imply",
            );
        }
        // Overlapping entries would let a small file stand for a large model.
        left = match left.checked_sub(end - begin) {
            Some(left) => left,
            None => return wrong("data_offsets", format!("{begin}..{end}"), "a range that no other tensor has"),
        };
    }
    Ok(())
}

/// The header's object, without its `__metadata__`.
struct Entries(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    }
                    let entry = map.next_value::<Entry>()?;
                    if entries.len() == ENTRIES_MAX {
                        return Err(A::Error::custom(format!("more than {ENTRIES_MAX} tensors")));
                    }
                    if entries.insert(name.clone(), entry).is_some() {
                        return Err(A::Error::custom(format!("tensor {name} occurs twice")));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(header: &str, data: usize) -> Result<SafetensorsFile, FilesError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        std::fs::write(&path, bytes).unwrap();
        SafetensorsFile::open(&path)
    }

    #[test]
    fn a_tensor_is_read_where_the_header_says() {
        let header = r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]}}"#;
        let file = open(header, 16).unwrap();
        assert_eq!(file.bytes("w", &[2, 3]).unwrap(), (TensorType::F16, vec![7; 12]));
        assert_eq!(file.names().collect::<Vec<_>>(), ["w"]);
        let error = file.bytes("w", &[3, 2]).unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains("[2, 3]") && error.contains("[3, 2]"), "{error}");
        assert!(file.bytes("v", &[2, 3]).unwrap_err().to_string().contains("tensor v is missing"));
    }

    #[test]
    fn what_a_header_must_not_say_is_refused_by_name() {
        for (header, data, words) in [
            (
                r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
                8,
                "occurs twice",
            ),
            (r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7, "cut off"),
            (r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "imply"),
            (r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, "data_offsets"),
            (r#"{"w":{"dtype":"Q5","shape":[2],"data_offsets":[0,8]}}"#, 8, "dtype of tensor w is Q5"),
            (r#"{"w":{"dtype":"F32","shape":[18446744073709551615,9],"data_offsets":[0,8]}}"#, 8, "imply"),
            (
                r#"{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
                8,
                "no other",
            ),
            ("[]", 0, "not the JSON expected"),
        ] {
            let error = open(header, data).expect_err(header).to_string();
            assert!(error.contains(words) && error.contains("model.safetensors"), "{header}: {error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short.safetensors");
        std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
        assert!(SafetensorsFile::open(&path).unwrap_err().to_string().contains("header length"));
    }

    #[test]
    fn weights_of_another_kind_are_refused_when_they_are_asked_for() {
        let file = open(r#"{"w":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}"#, 2).unwrap();
        assert!(file.shaped("w", &[2]).unwrap_err().to_string().contains("F32, F16 or BF16"));
    }
}
