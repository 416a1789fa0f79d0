//! What the store asks of a disk, and the folder that answers. Tests put a disk in its place that loses unsynced writes.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::StoreError;

/// A flat set of named files.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file for reading and writing, empty if it was absent.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Deletes a file; an error of kind `NotFound` if there is none. Whoever has it open goes on reading.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Names of the files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes the existence and the absence of files durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Bytes that the file system has left for this process, whatever else it holds.
    fn available_bytes(&self) -> io::Result<u64>;
}

/// A file at whose every position one can read and write.
pub(crate) trait DiskFile: fmt::Debug + Send + Sync {
    /// Bytes in it.
    fn len(&self) -> io::Result<u64>;
    /// Fills `out`; an error of kind `UnexpectedEof` past the end.
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes`.
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts off or fills with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync(&self) -> io::Result<()>;
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, at)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A folder locked for this process until dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

const LOCK: &str = "LOCK";

impl Folder {
    /// Takes the folder, making it if it is absent.
    pub(crate) fn lock(path: &Path) -> Result<Self, StoreError> {
        let unusable = |error| StoreError::Folder { folder: path.to_owned(), error };
        fs::create_dir_all(path).map_err(unusable)?;
        let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { folder: path.to_owned(), owner: owner(&mut lock) }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        note_owner(&mut lock).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

/// The process number in the lock file, for the other process's error.
fn owner(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn note_owner(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

impl Disk for Folder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        // Not for other users of the machine: bundles and pieces of private Datanets lie here.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn available_bytes(&self) -> io::Result<u64> {
        available_bytes(&self.path)
    }
}

/// Bytes that the file system under `path` has left for a process without privileges.
///
/// # Errors
/// What the system says.
pub fn available_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
