//! The data folder: what lies where, who may open it, and files written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
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

    /// Lines and trees of payouts.
    pub fn payouts(&self) -> PathBuf {
        self.0.join("payouts")
    }

    /// Adapters, one folder each, named by content hash.
    pub fn adapter(&self, hash: BlobId) -> PathBuf {
        self.0.join("adapters").join(hash.to_string())
    }

    /// Folder of all adapters.
    pub fn adapters(&self) -> PathBuf {
        self.0.join("adapters")
    }

    /// The running node's engine keeps adapters here as it computes with them: a cache, made again from the folders of [`DataDir::adapters`].
    pub fn packed_adapters(&self) -> PathBuf {
        self.adapters().join("packed")
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
        self.shards().join(format!("{}.shard", hex::encode(text_root.0)))
    }

    /// Whole copies of contributions.
    pub fn shards(&self) -> PathBuf {
        self.0.join("shards")
    }

    /// Contributions of this folder's wallet that are not finished: a record of each.
    pub fn pending(&self) -> PathBuf {
        self.0.join("pending")
    }

    /// A gate's report, named by its digest in hex.
    pub fn report(&self, digest: types::id::Hash32) -> PathBuf {
        self.0.join("reports").join(format!("{}.json", hex::encode(digest.0)))
    }

    /// Reports of this gate's verdicts that are not accepted yet.
    pub fn signed(&self) -> PathBuf {
        self.0.join("signed")
    }

    /// Indexes of accepted documents, one folder each, of the Datanets whose gate this node is.
    pub fn indexes(&self) -> PathBuf {
        self.0.join("indexes")
    }

    /// Indexes of Datanets that answers are attributed to, one folder each: made again from contributions where they are damaged.
    pub fn attribution(&self) -> PathBuf {
        self.0.join("attribution")
    }

    /// Contributions that wait at this node for reviewers.
    pub fn reviews(&self) -> PathBuf {
        self.0.join("reviews")
    }

    /// Shards on their way to this gate, or whole ones whose turn has not come.
    pub fn arriving(&self) -> PathBuf {
        self.0.join("arriving")
    }

    /// Reports of contributions that this gate refused.
    pub fn refusals(&self) -> PathBuf {
        self.0.join("refusals")
    }

    /// What this gate's verdicts that are not accepted yet take of contributors' limits.
    pub fn reserved(&self) -> PathBuf {
        self.0.join("reserved")
    }

    /// Whom the owner of a Datanet lets contribute.
    pub fn contributors(&self, datanet: types::id::AssetId) -> PathBuf {
        self.0.join("contributors").join(format!("{datanet}.json"))
    }

    /// Log of a private Datanet, with the keys in it wrapped for its members.
    pub fn seal_log(&self, datanet: types::id::AssetId) -> PathBuf {
        self.0.join("seals").join(format!("{datanet}.log"))
    }

    /// Fetches that were broken off, one file an object; each is removed when its object is whole.
    pub fn fetching(&self) -> PathBuf {
        self.0.join("fetching")
    }

    /// Nodes that its operator wants nothing to do with.
    pub fn refused(&self) -> PathBuf {
        self.0.join("refused")
    }

    /// A client's lanes and nonce.
    pub fn client(&self) -> PathBuf {
        self.0.join("client.json")
    }

    /// Bundles a client received.
    pub fn receipts(&self) -> PathBuf {
        self.0.join("receipts")
    }

    /// Heads of nodes' receipt logs that this folder saw last.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Credit notes: those that this node signed, and those that this client claimed.
    pub fn credits(&self) -> PathBuf {
        self.0.join("credits")
    }

    /// Audits that this node passed, a file for each epoch.
    pub fn audits(&self) -> PathBuf {
        self.0.join("audits")
    }

    /// This node's checks of other nodes' answers, a file for each epoch.
    pub fn checks(&self) -> PathBuf {
        self.0.join("checks")
    }

    /// Failure notices of a client.
    pub fn failures(&self) -> PathBuf {
        self.0.join("failures")
    }

    /// Session keys of a client.
    pub fn sessions(&self) -> PathBuf {
        self.0.join("sessions")
    }

    /// What came of the answers under way when the node was last told to stop.
    pub fn last_stop(&self) -> PathBuf {
        self.0.join("last-stop.json")
    }

    /// Digests of the gateway's API keys.
    pub fn gateway_keys(&self) -> PathBuf {
        self.0.join("gateway-keys.json")
    }

    /// Creates the folder (mode 0700) if it is missing. One that is there and empty is closed to others too; one that holds something keeps its
    /// mode, because it may be somebody's home: what is secret in it has a mode of its own.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn create(&self) -> Result<(), DataError> {
        let failed = |source| self.io(&self.0, source);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(failed)?;
        let is_open = fs::metadata(&self.0).map_err(failed)?.permissions().mode() & 0o077 != 0;
        if is_open && fs::read_dir(&self.0).map_err(failed)?.next().is_none() {
            fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        Ok(())
    }

    /// Whether a file of this folder is there. A folder that may not be looked into is an error, not an empty one.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn has(&self, path: &Path) -> Result<bool, DataError> {
        path.try_exists().map_err(|source| self.io(path, source))
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
    let folder = folder_of(path)?;
    fs::create_dir_all(folder)?;
    let fresh = fresh_name(folder, path)?;
    let written = write_synced(&fresh, bytes, mode).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        // A full disk must not be filled further by what could not be finished; the first error is the one to tell.
        drop(fs::remove_file(&fresh));
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

/// What a command may do with a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and say so.
    Keep,
    /// Write over it.
    Replace,
}

impl Existing {
    /// By a command's `--force`.
    pub const fn by(is_forced: bool) -> Self {
        if is_forced { Self::Replace } else { Self::Keep }
    }
}

/// Why a file that somebody named was not written.
#[derive(Debug, thiserror::Error)]
pub enum OutError {
    /// It is there.
    #[error("{0} is there already and was left as it is: name another file, or write over it with --force")]
    Exists(PathBuf),
    /// The file system.
    #[error("{path}: cannot be written: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
}

/// Whether a file that somebody named may be written, before what goes into it is made; [`write_out`] looks again.
///
/// # Errors
/// [`OutError::Exists`].
pub fn may_write(path: &Path, existing: Existing) -> Result<(), OutError> {
    // A link that leads nowhere is something too.
    if existing == Existing::Keep && path.symlink_metadata().is_ok() { Err(OutError::Exists(path.to_owned())) } else { Ok(()) }
}

/// Writes a file that somebody named, whole or not at all; one that is there is only replaced if that is said.
///
/// # Errors
/// [`OutError`].
pub fn write_out(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> Result<(), OutError> {
    let failed = |source| OutError::Io { path: path.to_owned(), source };
    if existing == Existing::Replace {
        return write_atomic(path, bytes, mode).map_err(failed);
    }
    may_write(path, existing)?;
    let folder = folder_of(path).map_err(failed)?;
    fs::create_dir_all(folder).map_err(failed)?;
    let fresh = fresh_name(folder, path).map_err(failed)?;
    // The name is taken by a link, which fails where there is one: of two writers at once one finds the other's file.
    let written = write_synced(&fresh, bytes, mode).and_then(|()| fs::hard_link(&fresh, path));
    drop(fs::remove_file(&fresh));
    match written {
        Ok(()) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(OutError::Exists(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

fn fresh_name(folder: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("path has no file name"))?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    Ok(folder.join(name))
}

/// The folder of a file; of a bare name the one that this process works in.
fn folder_of(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or_else(|| io::Error::other("path has no folder"))?;
    Ok(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a file of at most `most` bytes. The bytes are counted as they come: devices and pipes have no length to ask for.
///
/// # Errors
/// What the file system says, or that the file is larger.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("{} holds more than {most} bytes, at most that many are allowed", path.display())));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// As [`read_bounded`], and that the file is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_bounded(path, most)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8 text at byte {}", error.utf8_error().valid_up_to())))
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

    #[test]
    fn a_named_file_that_is_there_is_left_alone_unless_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/note.json");
        write_out(&path, b"first", 0o600, Existing::Keep).unwrap();
        let refused = write_out(&path, b"second", 0o600, Existing::Keep).unwrap_err().to_string();
        assert!(refused.contains("note.json is there already") && refused.contains("--force"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write_out(&path, b"second", 0o644, Existing::Replace).unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().permissions().mode() & 0o777), (b"second".to_vec(), 0o644));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing unfinished is left");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
        assert!(matches!(write_out(&link, b"x", 0o600, Existing::Keep), Err(OutError::Exists(_))));
    }

    #[test]
    fn a_write_that_cannot_be_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("in the way")).unwrap();
        assert!(write_atomic(&path, b"bytes", 0o600).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the unfinished file is gone");
    }

    #[test]
    fn a_bare_name_lies_in_the_working_folder() {
        assert_eq!(folder_of(Path::new("receipt.json")).unwrap(), Path::new("."));
        assert_eq!(folder_of(Path::new("a/receipt.json")).unwrap(), Path::new("a"));
        assert!(folder_of(Path::new("/")).is_err());
    }

    #[test]
    fn a_device_without_end_is_read_to_the_cap() {
        let error = read_bounded(Path::new("/dev/zero"), 1_000).unwrap_err().to_string();
        assert!(error.contains("/dev/zero holds more than 1000 bytes"), "{error}");
        assert_eq!(read_bounded(Path::new("/dev/null"), 0).unwrap(), b"");
        let folder = tempfile::tempdir().unwrap();
        assert!(read_bounded(folder.path(), 1_000).unwrap_err().to_string().contains("directory"));
        fs::write(folder.path().join("four"), [0xff; 4]).unwrap();
        assert_eq!(read_bounded(&folder.path().join("four"), 4).unwrap().len(), 4);
        assert!(read_bounded(&folder.path().join("four"), 3).is_err());
        assert!(read_text(&folder.path().join("four"), 4).unwrap_err().to_string().contains("byte 0"));
    }

    #[test]
    fn a_new_or_empty_folder_is_closed_to_others_and_a_full_one_left_alone() {
        let outer = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let set = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let (new, empty, full) = (outer.path().join("a/new"), outer.path().join("empty"), outer.path().join("full"));
        fs::create_dir_all(&empty).unwrap();
        fs::create_dir_all(full.join("something")).unwrap();
        set(&empty);
        set(&full);
        for path in [&new, &empty, &full] {
            DataDir::new(path).create().unwrap();
        }
        assert_eq!([mode(&new), mode(&empty), mode(&full)], [0o700, 0o700, 0o755]);
    }
}
