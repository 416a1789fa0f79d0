//! The redb database under the index and the records, kept usable when the disk under it is not.
//!
//! redb gives a database up for good after its first failed read or write; a full disk would take the index down with every item behind it. So
//! it is opened anew: to go on writing if it can, else for reading alone over a [`Shadow`] that keeps in memory what redb would write while it
//! opens. A database that was given up writes nothing more, or two would write one file. After a failed sync nothing is written until the store is opened again, as with segments: what the disk holds then is unknown.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{Database, ReadTransaction, ReadableDatabase, StorageBackend, StorageError, TransactionError, WriteTransaction};

use super::{
    disk::DiskFile,
    index::{IndexError, failed},
};

/// A page of a [`Shadow`]: redb's own page, so that most writes cover whole ones.
const PAGE: usize = 4096;

/// What went wrong under a database.
#[derive(Debug, Default)]
struct Trouble {
    /// Some call failed: the database is given up, and no call goes through any more.
    is_given_up: AtomicBool,
    /// Held for reading by each call, for writing once before another database is opened in this one's place.
    calls: RwLock<()>,
    /// A sync failed, under this database or an earlier one.
    is_unsynced: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
struct Opened {
    database: Arc<Database>,
    trouble: Arc<Trouble>,
    /// Over a [`Shadow`].
    is_shadow: bool,
}

impl Opened {
    fn is_given_up(&self) -> bool {
        self.trouble.is_given_up.load(Ordering::Acquire)
    }

    /// Waits for the calls under way; after them none goes through.
    fn retire(&self) {
        drop(self.trouble.calls.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The database. It is opened again by the first call after it failed.
#[derive(Debug)]
pub(super) struct Base {
    file: Arc<dyn DiskFile>,
    cache_bytes: usize,
    is_unsynced: Arc<AtomicBool>,
    opened: RwLock<Opened>,
}

impl Base {
    /// Opens the database in `file`, making it if the file is empty.
    pub(super) fn open(file: Arc<dyn DiskFile>, cache_bytes: usize) -> Result<Self, IndexError> {
        let is_unsynced = Arc::default();
        let opened = RwLock::new(live(&file, cache_bytes, &is_unsynced)?);
        Ok(Self { file, cache_bytes, is_unsynced, opened })
    }

    /// Opens the database for reading alone; the file is left as it is.
    pub(super) fn shadow(file: Arc<dyn DiskFile>, cache_bytes: usize) -> Result<Self, IndexError> {
        let is_unsynced = Arc::new(AtomicBool::new(true));
        let opened = RwLock::new(shadow(&file, cache_bytes, &is_unsynced)?);
        Ok(Self { file, cache_bytes, is_unsynced, opened })
    }

    /// Whether every page that the database uses verifies; the file is left as it is.
    pub(super) fn verify(file: &Arc<dyn DiskFile>, cache_bytes: usize) -> Result<bool, IndexError> {
        let mut opened = shadow(file, cache_bytes, &Arc::default())?;
        Arc::get_mut(&mut opened.database).expect("nobody else has it yet").check_integrity().map_err(failed)
    }

    /// Whether a sync failed: nothing is written any more.
    pub(super) fn is_unsynced(&self) -> bool {
        self.is_unsynced.load(Ordering::Acquire)
    }

    /// Makes what the file holds durable, whoever wrote it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync().inspect_err(|_| self.is_unsynced.store(true, Ordering::Release))
    }

    /// Reads by `work`, once more if the database failed under it.
    pub(super) fn read<T>(&self, work: impl Fn(&ReadTransaction) -> Result<T, IndexError>) -> Result<T, IndexError> {
        let attempt = || {
            let opened = self.readable()?;
            let result = opened.database.begin_read().map_err(failed).and_then(|transaction| work(&transaction));
            Ok::<_, IndexError>((result, opened.is_given_up()))
        };
        match attempt()? {
            (Err(_), true) => attempt()?.0,
            (result, _) => result,
        }
    }

    /// Begins a change.
    pub(super) fn write(&self) -> Result<WriteTransaction, IndexError> {
        match self.writable()?.begin_write() {
            // Another's change failed while this one waited for its turn.
            Err(TransactionError::Storage(StorageError::PreviousIo)) => self.writable()?.begin_write().map_err(failed),
            begun => begun.map_err(failed),
        }
    }

    fn current(&self) -> Opened {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn readable(&self) -> Result<Opened, IndexError> {
        let opened = self.current();
        if !opened.is_given_up() {
            return Ok(opened);
        }
        let mut place = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if place.is_given_up() {
            place.retire();
            let is_writable = !self.is_unsynced();
            let again = is_writable.then(|| live(&self.file, self.cache_bytes, &self.is_unsynced).ok()).flatten();
            *place = again.map_or_else(|| shadow(&self.file, self.cache_bytes, &self.is_unsynced), Ok)?;
        }
        Ok(place.clone())
    }

    fn writable(&self) -> Result<Arc<Database>, IndexError> {
        if self.is_unsynced() {
            return Err(IndexError::Stopped);
        }
        let opened = self.current();
        if !opened.is_given_up() && !opened.is_shadow {
            return Ok(opened.database);
        }
        let mut place = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if place.is_given_up() || place.is_shadow {
            place.retire();
            // If this fails too, what is open goes on being read.
            *place = live(&self.file, self.cache_bytes, &self.is_unsynced)?;
        }
        Ok(Arc::clone(&place.database))
    }
}

fn live(file: &Arc<dyn DiskFile>, cache_bytes: usize, is_unsynced: &Arc<AtomicBool>) -> Result<Opened, IndexError> {
    let trouble = Arc::new(Trouble { is_unsynced: Arc::clone(is_unsynced), ..Trouble::default() });
    let backend = Live { file: Arc::clone(file), trouble: Arc::clone(&trouble) };
    opened(backend, cache_bytes, trouble, false)
}

fn shadow(file: &Arc<dyn DiskFile>, cache_bytes: usize, is_unsynced: &Arc<AtomicBool>) -> Result<Opened, IndexError> {
    let len = file.len().map_err(|error| failed(StorageError::Io(error)))?;
    let trouble = Arc::new(Trouble { is_unsynced: Arc::clone(is_unsynced), ..Trouble::default() });
    opened(
        Shadow { file: Arc::clone(file), over: Mutex::new(Over { below: len, len, pages: BTreeMap::new() }) },
        cache_bytes,
        trouble,
        true,
    )
}

fn opened(backend: impl StorageBackend, cache_bytes: usize, trouble: Arc<Trouble>, is_shadow: bool) -> Result<Opened, IndexError> {
    let database = Database::builder().set_cache_size(cache_bytes).create_with_backend(backend).map_err(failed)?;
    Ok(Opened { database: Arc::new(database), trouble, is_shadow })
}

/// A disk file under redb. The folder's lock stands in for redb's own.
#[derive(Debug)]
struct Live {
    file: Arc<dyn DiskFile>,
    trouble: Arc<Trouble>,
}

impl Live {
    fn call<T>(&self, call: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        let _under_way = self.trouble.calls.read().unwrap_or_else(PoisonError::into_inner);
        if self.trouble.is_given_up.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier call failed"));
        }
        call(&*self.file).inspect_err(|_| self.trouble.is_given_up.store(true, Ordering::Release))
    }
}

impl StorageBackend for Live {
    fn len(&self) -> io::Result<u64> {
        self.call(|file| file.len())
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.call(|file| file.read(at, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(|file| file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(|file| file.sync().inspect_err(|_| self.trouble.is_unsynced.store(true, Ordering::Release)))
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(|file| file.write(at, bytes))
    }
}

/// A file that is read and never written: what is written to it stays in memory. redb writes while it opens, as much as its own page of settings
/// and the pages of its free space: some 4 MiB for an index of a million items.
#[derive(Debug)]
struct Shadow {
    file: Arc<dyn DiskFile>,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    /// Bytes of the file that are still seen.
    below: u64,
    len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Shadow {
    fn page(&self, over: &Over, number: u64) -> io::Result<Box<[u8; PAGE]>> {
        if let Some(page) = over.pages.get(&number) {
            return Ok(page.clone());
        }
        let (mut page, start) = (Box::new([0; PAGE]), number * super::as_u64(PAGE));
        let there = usize::try_from(over.below.saturating_sub(start)).unwrap_or(PAGE).min(PAGE);
        if there > 0 {
            self.file.read(start, &mut page[..there])?;
        }
        Ok(page)
    }
}

/// The pages that `len` bytes at `at` touch: number, offset in it, bytes.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let page = super::as_u64(PAGE);
    let (mut at, mut left) = (at, len);
    std::iter::from_fn(move || {
        let start = usize::try_from(at % page).expect("less than a page");
        let piece = (at / page, start, left.min(PAGE - start));
        (at, left) = (at + super::as_u64(piece.2), left - piece.2);
        (piece.2 > 0).then_some(piece)
    })
}

impl StorageBackend for Shadow {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over.lock().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if at.saturating_add(super::as_u64(out.len())) > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        for (number, start, len) in pieces(at, out.len()) {
            out[done..done + len].copy_from_slice(&self.page(&over, number)?[start..start + len]);
            done += len;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if len < over.len {
            let last = len / super::as_u64(PAGE);
            if !len.is_multiple_of(super::as_u64(PAGE)) {
                let mut page = self.page(&over, last)?;
                page[usize::try_from(len % super::as_u64(PAGE)).expect("less than a page")..].fill(0);
                over.pages.insert(last, page);
            }
            over.pages.retain(|number, _| number * super::as_u64(PAGE) < len);
        }
        (over.below, over.len) = (over.below.min(len), len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        for (number, start, len) in pieces(at, bytes.len()) {
            let mut page = self.page(&over, number)?;
            page[start..start + len].copy_from_slice(&bytes[done..done + len]);
            over.pages.insert(number, page);
            done += len;
        }
        over.len = over.len.max(at.saturating_add(super::as_u64(bytes.len())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{crash::CrashDisk, disk::Disk as _},
        *,
    };

    proptest! {
        #[test]
        fn a_shadow_reads_like_the_file_it_stands_for_and_leaves_it_alone(
            begun in proptest::collection::vec(any::<u8>(), 0..9_000),
            steps in proptest::collection::vec((0..12_000_u64, proptest::collection::vec(any::<u8>(), 0..5_000), any::<bool>()), 0..12),
        ) {
            let disk = CrashDisk::default();
            let file = disk.open("a").unwrap();
            file.write(0, &begun).unwrap();
            let len = file.len().unwrap();
            let shadow = Shadow { file: Arc::clone(&file), over: Mutex::new(Over { below: len, len, pages: BTreeMap::new() }) };
            let mut plain = begun.clone();
            for (at, bytes, is_cut) in steps {
                let start = usize::try_from(at).unwrap();
                if is_cut {
                    shadow.set_len(at).unwrap();
                    plain.resize(start, 0);
                } else {
                    shadow.write(at, &bytes).unwrap();
                    plain.resize(plain.len().max(start + bytes.len()), 0);
                    plain[start..start + bytes.len()].copy_from_slice(&bytes);
                }
                prop_assert_eq!(shadow.len().unwrap(), plain.len() as u64);
                let mut seen = vec![0; plain.len()];
                shadow.read(0, &mut seen).unwrap();
                prop_assert_eq!(&seen, &plain);
                prop_assert!(shadow.read(1, &mut seen).is_err());
            }
            let mut left = vec![0; begun.len()];
            file.read(0, &mut left).unwrap();
            prop_assert_eq!(left, begun);
        }
    }
}
