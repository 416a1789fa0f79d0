//! A few named files under one content hash, as adapters travel between nodes.
//!
//! The content hash is BLAKE3 of the files' own hashes in a fixed order (32 zero bytes for an absent one), so the list that a provider sends is
//! checked before a byte of a file is asked for, and each file before it takes its place. One bulk stream per request: [`Ask::Files`] is
//! answered by [`Answer::Files`]; [`Ask::Bytes`] by [`Answer::Bytes`], then plain frames to the end of the file.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::id::BlobId;

/// Files of one set.
pub const FILES: usize = 3;
/// Largest request, and largest answer before a file's bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// BLAKE3 of its bytes.
    pub digest: BlobId,
    /// Its bytes.
    pub bytes: u64,
}

/// The files in their order; an absent one is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList(pub [Option<FileEntry>; FILES]);

/// A file as its reader will have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRule {
    /// Its name.
    pub name: &'static str,
    /// Most bytes it may have.
    pub bytes_max: u64,
    /// Whether a set without it is refused.
    pub is_needed: bool,
}

/// What is asked of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Which files are these?
    Files {
        /// Content hash.
        content: BlobId,
    },
    /// A file from an offset on.
    Bytes {
        /// Content hash.
        content: BlobId,
        /// Hash of the file.
        digest: BlobId,
        /// First byte wanted.
        offset: u64,
    },
}

/// What a provider answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The files.
    Files(FileList),
    /// So many bytes follow.
    Bytes(u64),
    /// Not here.
    Unknown,
}

/// Why bytes are no message, or a list is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// Longer than a message may be.
    #[error("a message of {got} bytes, at most {MESSAGE_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes.
        got: usize,
    },
    /// Not the encoding.
    #[error("not a message about files: {0}")]
    Encoding(#[from] postcard::Error),
    /// Bytes after the end.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// Another set.
    #[error("the list of files makes content {got}, {expected} was asked for")]
    Content {
        /// What was asked for.
        expected: BlobId,
        /// What the list makes.
        got: BlobId,
    },
    /// A file beyond its bound.
    #[error("{name} is said to have {got} bytes, at most {max} are accepted")]
    FileTooLong {
        /// The file.
        name: &'static str,
        /// Bytes stated.
        got: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// A file that must be there.
    #[error("the list has no {0}")]
    Missing(&'static str),
}

impl FileList {
    /// The content hash that the files make.
    pub fn content(&self) -> BlobId {
        let digests: Vec<u8> = self.0.iter().flat_map(|file| file.map_or([0; 32], |file| file.digest.0)).collect();
        BlobId::of(&digests)
    }

    /// Checks a provider's list before anything is asked for.
    ///
    /// # Errors
    /// [`FilesError`] naming the file.
    pub fn check(&self, content: BlobId, rules: &[FileRule; FILES]) -> Result<(), FilesError> {
        let got = self.content();
        if got != content {
            return Err(FilesError::Content { expected: content, got });
        }
        for (FileRule { name, bytes_max, is_needed }, file) in rules.iter().zip(self.0) {
            match file {
                Some(FileEntry { bytes, .. }) if bytes > *bytes_max => {
                    return Err(FilesError::FileTooLong { name, got: bytes, max: *bytes_max });
                }
                None if *is_needed => return Err(FilesError::Missing(name)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FilesError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(FilesError::TooLong { got: bytes.len() });
    }
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        (_, rest) => Err(FilesError::Trailing(rest.len())),
    }
}

impl Ask {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always serialises")
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FilesError> {
        decode(bytes)
    }
}

impl Answer {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always serialises")
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FilesError> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: [FileRule; FILES] = [
        FileRule { name: "config", bytes_max: 10, is_needed: true },
        FileRule { name: "weights", bytes_max: 100, is_needed: true },
        FileRule { name: "manifest", bytes_max: 10, is_needed: false },
    ];

    fn entry(byte: u8, bytes: u64) -> Option<FileEntry> {
        Some(FileEntry { digest: BlobId([byte; 32]), bytes })
    }

    #[test]
    fn a_list_that_is_not_the_set_is_refused_before_anything_is_asked_for() {
        let list = FileList([entry(1, 10), entry(2, 100), None]);
        assert_eq!(list.content(), BlobId::of(&[[1; 32], [2; 32], [0; 32]].concat()));
        assert_eq!(list.check(list.content(), &RULES), Ok(()));
        assert_eq!(list.check(BlobId::ZERO, &RULES), Err(FilesError::Content { expected: BlobId::ZERO, got: list.content() }));
        let huge = FileList([entry(1, 10), entry(2, 101), None]);
        assert_eq!(huge.check(huge.content(), &RULES), Err(FilesError::FileTooLong { name: "weights", got: 101, max: 100 }));
        let none = FileList([entry(1, 10), None, None]);
        assert_eq!(none.check(none.content(), &RULES), Err(FilesError::Missing("weights")));
    }

    #[test]
    fn the_bytes_of_messages_are_pinned() {
        let id = format!("20{}", "ab".repeat(32));
        let (content, digest) = (BlobId([0xab; 32]), BlobId([0xab; 32]));
        assert_eq!(hex::encode(Ask::Files { content }.encode()), format!("00{id}"));
        assert_eq!(hex::encode(Ask::Bytes { content, digest, offset: 300 }.encode()), format!("01{id}{id}ac02"));
        assert_eq!(hex::encode(Answer::Files(FileList([entry(0xab, 5), None, None])).encode()), format!("0001{id}050000"));
        assert_eq!(hex::encode(Answer::Bytes(5).encode()), "0105");
        assert_eq!(hex::encode(Answer::Unknown.encode()), "02");
    }

    proptest! {
        #[test]
        fn messages_round_trip_and_decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), sizes in any::<[Option<u64>; 3]>(), offset in any::<u64>()) {
            let list = FileList(sizes.map(|size| size.map(|bytes| FileEntry { digest: BlobId([3; 32]), bytes })));
            prop_assert_eq!(Answer::decode(&Answer::Files(list).encode()), Ok(Answer::Files(list)));
            let ask = Ask::Bytes { content: list.content(), digest: BlobId([4; 32]), offset };
            prop_assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
            let _ = (Ask::decode(&bytes), Answer::decode(&bytes));
        }
    }
}
