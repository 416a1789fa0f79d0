//! The data folder: what lies where, who may open it, and files written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use types::id::BlobId;

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The folder or a file in it cannot be read or written.
    #[error("{path}: {source}: check that the folder exists and belongs to you")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("{0} is in use by another tributary process: stop that one, or give this one its own --data-dir")]
    Locked(PathBuf),
    /// It was never set up.
    #[error("{0} has no node in it: run `tributary --data-dir {0} init` first")]
    Uninitialised(PathBuf),
}

/// A node's or client's folder.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

/// Exclusive hold on a data folder; released when dropped or when the process ends.
#[derive(Debug)]
pub struct DataLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl DataDir {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join("tributary.toml")
    }

    /// ed25519 seed of the node, hex, mode 0600.
    pub fn seed(&self) -> PathBuf {
        self.0.join("node.seed")
    }

    /// Encrypted settlement key.
    pub fn wallet(&self) -> PathBuf {
        self.0.join("wallet.json")
    }

    /// Contract addresses of the deployment.
    pub fn registry(&self) -> PathBuf {
        self.0.join("registry.json")
    }

    /// Transactions that are not yet final: those of the running node, or those of commands, which may run beside it.
    pub fn outbox(&self, is_node: bool) -> PathBuf {
        self.0.join(if is_node { "outbox-node.json" } else { "outbox-commands.json" })
    }

    /// The fragment store and durable records of a running node.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Adapters, one folder each, named by content hash.
    pub fn adapter(&self, hash: BlobId) -> PathBuf {
        self.0.join("adapters").join(hash.to_string())
    }

    /// Folder of all adapters.
    pub fn adapters(&self) -> PathBuf {
        self.0.join("adapters")
    }

    /// A model file, named by content hash.
    pub fn model(&self, hash: BlobId) -> PathBuf {
        self.0.join("models").join(format!("{hash}.gguf"))
    }

    /// Folder of all models.
    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    /// A contribution's shard, named by its text root in hex.
    pub fn shard(&self, text_root: types::id::Hash32) -> PathBuf {
        self.0.join("shards").join(format!("{}.shard", hex::encode(text_root.0)))
    }

    /// A client's lanes and nonce.
    pub fn client(&self) -> PathBuf {
        self.0.join("client.json")
    }

    /// Bundles a client received.
    pub fn receipts(&self) -> PathBuf {
        self.0.join("receipts")
    }

    /// Creates the folder (mode 0700) if it is missing.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn create(&self) -> Result<(), DataError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(|source| self.io(&self.0, source))
    }

    /// Takes the folder for this process alone.
    ///
    /// # Errors
    /// [`DataError::Locked`] if another process has it, [`DataError::Io`].
    pub fn lock(&self) -> Result<DataLock, DataError> {
        let path = self.0.join("lock");
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(|source| self.io(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(DataLock(file)),
            Err(fs::TryLockError::WouldBlock) => Err(DataError::Locked(self.0.clone())),
            Err(fs::TryLockError::Error(source)) => Err(self.io(&path, source)),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as a property of the folder at its callers")]
    fn io(&self, path: &Path, source: io::Error) -> DataError {
        DataError::Io { path: path.to_owned(), source }
    }
}

/// Writes `bytes` so that a crash leaves the old file or the new one; the file is synced before it takes its name.
///
/// # Errors
/// What the file system says.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("path has no folder"))?;
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().ok_or_else(|| io::Error::other("path has no file name"))?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = folder.join(name);
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&fresh)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// What the file system says, or that the file is larger.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let len = fs::metadata(path)?.len();
    if len > most {
        return Err(io::Error::other(format!("{} holds {len} bytes, at most {most} are allowed", path.display())));
    }
    fs::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        let lock = data.lock().unwrap();
        assert!(matches!(data.lock(), Err(DataError::Locked(_))));
        drop(lock);
        assert!(data.lock().is_ok());
    }

    #[test]
    fn an_atomic_write_replaces_the_whole_file_and_sets_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/secret");
        write_atomic(&path, b"first, longer", 0o600).unwrap();
        write_atomic(&path, b"second", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
