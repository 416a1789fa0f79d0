//! An adapter's files, read to their ends within a bound; the large one is hashed behind the reading, by a second thread.
//!
//! Reading 20 MB from the page cache and hashing them take about 4 ms each, so together they take little more than one of them.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;

use super::AdapterError;

/// Bytes that are hashed while the next ones are read: they are in a cache of the machine still.
const PIECE_BYTES: usize = 256 << 10;

/// What was read, or none if there is no such file.
pub(super) fn optional(read: Result<Vec<u8>, AdapterError>) -> Result<Option<Vec<u8>>, AdapterError> {
    match read {
        Err(AdapterError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Reads a file.
///
/// # Errors
/// [`AdapterError::TooLarge`] beyond `max` bytes, or [`AdapterError::Io`].
pub(super) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, AdapterError> {
    let (file, room) = open(path, max)?;
    read_on(file, Vec::with_capacity(room), (path, max))
}

/// Reads behind `bytes` until the file ends: it may have grown since its length was asked.
fn read_on(file: File, mut bytes: Vec<u8>, (path, max): (&Path, u64)) -> Result<Vec<u8>, AdapterError> {
    file.take(max + 1 - bytes.len() as u64).read_to_end(&mut bytes).map_err(|source| io(path, source))?;
    if bytes.len() as u64 > max { Err(too_large(path, max)) } else { Ok(bytes) }
}

/// Reads a file and gives its BLAKE3 besides.
///
/// # Errors
/// As [`read_bounded`].
pub(super) fn read_hashed(path: &Path, max: u64) -> Result<(Vec<u8>, [u8; 32]), AdapterError> {
    let (mut file, length) = open(path, max)?;
    if length <= PIECE_BYTES {
        let bytes = read_on(file, Vec::with_capacity(length), (path, max))?;
        let hash = *blake3::hash(&bytes).as_bytes();
        return Ok((bytes, hash));
    }
    let mut bytes = vec![0; length];
    let (filled, mut hasher) = thread::scope(|scope| {
        let (read, to_hash) = channel::<&[u8]>();
        let hashing = scope.spawn(move || {
            let mut hasher = blake3::Hasher::new();
            to_hash.into_iter().for_each(|piece| {
                hasher.update(piece);
            });
            hasher
        });
        let filled = bytes.chunks_mut(PIECE_BYTES).try_fold(0, |filled, piece| {
            let count = fill(&mut file, piece)?;
            // It is heard until this end is dropped.
            let _ = read.send(&piece[..count]);
            Ok(filled + count)
        });
        drop(read);
        (filled, hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let filled = filled.map_err(|source| io(path, source))?;
    bytes.truncate(filled);
    let bytes = read_on(file, bytes, (path, max))?;
    hasher.update(&bytes[filled..]);
    Ok((bytes, *hasher.finalize().as_bytes()))
}

/// Opens a regular file and says how long it is.
fn open(path: &Path, max: u64) -> Result<(File, usize), AdapterError> {
    // Asked before it is opened: opening a pipe waits for a writer.
    let length = match std::fs::metadata(path).map_err(|source| io(path, source))? {
        metadata if metadata.is_file() => metadata.len(),
        metadata if metadata.is_dir() => return Err(io(path, ErrorKind::IsADirectory.into())),
        _ => return Err(io(path, std::io::Error::other("not a regular file: copy it to one first"))),
    };
    let length = usize::try_from(length).ok().filter(|_| length <= max).ok_or_else(|| too_large(path, max))?;
    Ok((File::open(path).map_err(|source| io(path, source))?, length))
}

/// Reads until `piece` is full or the file ends.
fn fill(file: &mut File, piece: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while count < piece.len() {
        match file.read(&mut piece[count..]) {
            Ok(0) => break,
            Ok(got) => count += got,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

fn io(path: &Path, source: std::io::Error) -> AdapterError {
    AdapterError::Io { path: path.to_path_buf(), source }
}

fn too_large(path: &Path, max: u64) -> AdapterError {
    AdapterError::TooLarge { path: path.to_path_buf(), max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_length_is_read_whole_and_has_the_hash_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 5 * PIECE_BYTES + 7] {
            let written: Vec<u8> = (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
            std::fs::write(&path, &written).unwrap();
            let (bytes, hash) = read_hashed(&path, length as u64).unwrap();
            assert!(bytes == written && hash == *blake3::hash(&written).as_bytes(), "{length} bytes");
            if length > 0 {
                let error = read_hashed(&path, length as u64 - 1).unwrap_err();
                assert!(matches!(error, AdapterError::TooLarge { max, .. } if max == length as u64 - 1), "{error}");
            }
        }
    }
}
