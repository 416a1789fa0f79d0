//! A segment's file: opened with typed refusals, written so that it is there whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::Map;
use crate::index::{Bytes, FormatError, Segment, SegmentId};

/// Why a file is not opened as a segment.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// It is none, a damaged one, or another than was wanted.
    #[error("{path}: {error}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: FormatError,
    },
}

impl OpenError {
    /// Whether building the segment again helps.
    pub const fn is_rebuilt(&self) -> bool {
        matches!(self, Self::Format { .. })
    }
}

/// Maps the segment at `path`, of the contributions `expected` if they are named. Header, length and roots are checked, which takes microseconds;
/// [`Segment::verify`] reads the rest.
///
/// # Errors
/// [`OpenError`] with the path.
pub fn open_segment(path: &Path, expected: Option<SegmentId>) -> Result<Segment, OpenError> {
    let failed = |error| OpenError::File { path: path.to_owned(), error };
    let map = Map::of(File::open(path).map_err(failed)?).map_err(failed)?;
    let refuse = |error| OpenError::Format { path: path.to_owned(), error };
    let segment = Segment::read(Bytes::Mapped(map)).map_err(refuse)?;
    match expected.filter(|expected| *expected != segment.id()) {
        Some(expected) => Err(refuse(FormatError::Foreign { expected, got: segment.id() })),
        None => Ok(segment),
    }
}

/// Writes a segment to `folder` under the name that its identifier gives it.
///
/// # Errors
/// What the system says.
pub fn write_segment(folder: &Path, segment: &Segment) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = folder.join(segment.id().file_name());
    let unfinished = path.with_extension("part");
    let mut file = File::create(&unfinished)?;
    file.write_all(segment.to_bytes())?;
    publish(&file, &unfinished, &path)?;
    Ok(path)
}

/// Gives a file that is written its name, so that it has it after a power cut too.
pub(super) fn publish(file: &File, unfinished: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}
