//! Why a model file is refused: the field, its position, what it says and what would be accepted.

use std::path::{Path, PathBuf};

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
    #[error("tensor {tensor} has type {type_id}; F32, F16, BF16, Q4_0, Q4_1 and Q8_0 are supported: convert the file to one of them")]
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

impl GgufError {
    /// Puts the real path into an error of a reader that did not know it.
    pub(super) fn at(self, path: &Path) -> Self {
        match self {
            Self::Io { source, .. } => Self::Io { path: path.to_path_buf(), source },
            other => other,
        }
    }
}
