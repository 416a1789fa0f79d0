//! Bytes in a folder of files named by their content.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use types::id::BlobId;

use super::{AvailabilityError, DataAvailability, len};

/// A folder of files named by their content.
#[derive(Debug, Clone)]
pub struct LocalStore {
    folder: PathBuf,
}

impl LocalStore {
    /// The store in `folder`, which is made when something is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where a name's bytes lie.
    pub fn path(&self, blob: BlobId) -> PathBuf {
        self.folder.join(blob.to_string())
    }

    /// Forgets a name; one that is not there is forgotten already.
    ///
    /// # Errors
    /// [`AvailabilityError::File`].
    pub fn remove(&self, blob: BlobId) -> Result<(), AvailabilityError> {
        let path = self.path(blob);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(AvailabilityError::File { path, error }),
            _ => Ok(()),
        }
    }

    fn keep(&self, blob: BlobId, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        // Whole or not at all: a reader never meets half a file.
        let fresh = self.folder.join(format!("{blob}.{}.new", std::process::id()));
        let written = write_synced(&fresh, bytes).and_then(|()| fs::rename(&fresh, self.path(blob)));
        if let Err(error) = written {
            // A full disk must not be filled further by what could not be finished.
            drop(fs::remove_file(&fresh));
            return Err(error);
        }
        fs::File::open(&self.folder)?.sync_all()
    }
}

fn write_synced(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn checked(blob: BlobId, bytes: Vec<u8>, most: u64) -> Result<Option<Vec<u8>>, AvailabilityError> {
    let got = len(&bytes);
    if got > most {
        return Err(AvailabilityError::TooLong { what: blob.to_string(), got, most });
    }
    let named = BlobId::of(&bytes);
    if named == blob { Ok(Some(bytes)) } else { Err(AvailabilityError::Changed { expected: blob, got: named }) }
}

impl DataAvailability for LocalStore {
    type Error = AvailabilityError;

    async fn put(&self, bytes: &[u8]) -> Result<BlobId, AvailabilityError> {
        let blob = BlobId::of(bytes);
        // A damaged copy is replaced.
        if !matches!(self.get(blob, len(bytes)).await, Ok(Some(_))) {
            self.keep(blob, bytes).map_err(|error| AvailabilityError::File { path: self.path(blob), error })?;
        }
        Ok(blob)
    }

    async fn get(&self, blob: BlobId, most: u64) -> Result<Option<Vec<u8>>, AvailabilityError> {
        let path = self.path(blob);
        let failed = |error| AvailabilityError::File { path: path.clone(), error };
        let got = match fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if got > most {
            return Err(AvailabilityError::TooLong { what: path.display().to_string(), got, most });
        }
        checked(blob, fs::read(&path).map_err(failed)?, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_gives_back_what_was_put_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().join("blobs"));
        let blob = store.put(b"public").await.unwrap();
        assert_eq!(store.put(b"public").await.unwrap(), blob);
        assert_eq!(store.get(blob, 6).await.unwrap().as_deref(), Some(&b"public"[..]));
        assert_eq!(store.get(BlobId([1; 32]), 6).await.unwrap(), None);
        assert!(matches!(store.get(blob, 5).await, Err(AvailabilityError::TooLong { got: 6, most: 5, .. })));
        fs::write(store.path(blob), b"publiC").unwrap();
        assert!(matches!(store.get(blob, 6).await, Err(AvailabilityError::Changed { expected, .. }) if expected == blob));
        store.put(b"public").await.unwrap();
        assert!(store.get(blob, 6).await.unwrap().is_some(), "a damaged copy is replaced");
        assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 1, "nothing is left beside it");
        store.remove(blob).unwrap();
        store.remove(blob).unwrap();
        assert_eq!(store.get(blob, 6).await.unwrap(), None);
    }
}
