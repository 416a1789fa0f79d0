//! Adapters in memory and on disk, brought in and packed beside the engine's thread.
//!
//! Who decides is [`Residency`](crate::proto::residency::Residency) in the scheduler: what is fetched, loaded, kept and dropped, within the
//! budgets of all tiers. The store is its hands and its catalogue. It carries out [`Action`]s on own threads ([`AdapterStore::act`] only
//! notes them), tells what came of them ([`AdapterStore::notice`], each to be handed to the scheduler as it is), and answers from memory: where
//! a name leads ([`AdapterStore::resolve`]), and the packed form that a device attaches ([`AdapterStore::packed`]).
//!
//! So an engine's owner, with `wake` as one of its commands, does between two steps:
//!
//! ```text
//! while let Some((id, event)) = store.notice() { scheduler.handle(now, Input::Adapter { id, event }) -> outputs }
//! of outputs, in order and before the next notice:
//!                       Adapter(Attach { id, slot }) => device.attach(slot, &store.packed(id) (there since `Loaded`)),
//!                       Adapter(Detach(slot))        => device.detach(slot),
//!                       Adapter(action)              => store.act(action)
//! ```
//!
//! What is loaded is shared: whoever has an [`Arc`] of it, a device's slot or a step, keeps it, whatever is unloaded, deleted or replaced
//! meanwhile. A name is moved to another adapter between two requests ([`AdapterStore::replace`]); those begun before go on with the old one.
//!
//! | tier | what |
//! |---|---|
//! | memory | [`Packed8`], 5 MB at rank 16 on SmolLM2-135M |
//! | disk | the same bytes in a file each (`packed_file`), its digest checked when read; names and pins in `names.json` |
//! | network | [`FetchAdapter`], whose folder is checked against the hash asked for and packed |
//!
//! The disk is a cache: what a power cut tears is found by its digest, dropped, and fetched or imported again. Only names and pins must
//! survive: they are written aside, synced and renamed, once the disk has taken all that came in before them.
//!
//! Bounds: [`KNOWN_MAX`](crate::proto::residency::KNOWN_MAX) adapters, [`NAMES_MAX`] names, [`IMPORTS_MAX`] imports at a time and
//! [`IMPORTS_WAITING_MAX`] waiting, [`NOTICES_MAX`] notices waiting, and as many moves as [`Residency`](crate::proto::residency::Residency) starts. At rank 16 on SmolLM2-135M an import reads, hashes
//! and packs 20 MB on two threads, a load reads and hashes 5 MB on one: `examples/bench` measures both.

mod catalogue;
mod disk;
mod unsynced;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::model::ModelInfo;
use crate::proto::residency::{Action, AdapterId, Budget, Event, Sizes};

use super::{AdapterError, AdapterInfo, Packed8};

use disk::Disk;
use work::Shared;

/// Names that adapters may have together.
pub const NAMES_MAX: usize = 4_096;
/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 200;
/// Imports at a time ([`AdapterStore::insert`]): each may hold a file of half a gigabyte.
pub const IMPORTS_MAX: usize = 2;
/// Imports that may wait for their turn, those under way included: each holds a thread of its caller's.
pub const IMPORTS_WAITING_MAX: usize = 64;
/// Notices that wait until nothing more is accepted; answers to actions are never refused, and are as few as moves.
pub const NOTICES_MAX: usize = 4_096;
/// Reasons of failures that are remembered.
const REASONS_MAX: usize = 64;

/// Gets an adapter's files from elsewhere.
pub trait FetchAdapter: std::fmt::Debug + Send + Sync {
    /// Gets the files of the adapter with this content hash, of at most so many bytes together, and says where they lie: a folder or a
    /// GGUF file, which stays whose it is. Called on a thread of the store; returns within a deadline of its own, for closing the
    /// store waits for it.
    ///
    /// # Errors
    /// Any [`FetchError`]; it is not tried again for a while.
    fn fetch(&self, id: AdapterId, bytes_max: u64) -> Result<PathBuf, FetchError>;
}

/// Why files could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody asked has it.
    #[error("no peer has it")]
    NotFound,
    /// It is larger than asked for.
    #[error("it has {got} bytes, at most {max} are accepted")]
    TooLarge {
        /// Its bytes.
        got: u64,
        /// The most accepted.
        max: u64,
    },
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

/// Why the store refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder of the store cannot be used.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the folder.
    #[error("{path} is in use by another process: give this one a folder of its own")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The table of names cannot be read.
    #[error("{path} is not readable ({problem}): remove it and name the adapters again; they stay")]
    Names {
        /// The table.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The adapter is refused.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// It fits no tier.
    #[error("the adapter takes {got} bytes of {tier}, at most {max} are allowed: raise the budget or use a lower rank")]
    TooLarge {
        /// Which tier.
        tier: &'static str,
        /// What it takes.
        got: u64,
        /// What it may take.
        max: u64,
    },
    /// No such adapter is here.
    #[error("adapter {} is not here: import it first", hex::encode(.0.0))]
    Unknown(AdapterId),
    /// A name that cannot be used.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes and no control characters")]
    BadName,
    /// Pinned adapters would take too much memory.
    #[error("pinned adapters would take {got} bytes, at most {max}, half of memory, may be pinned: unpin another")]
    PinnedTooMuch {
        /// What they would take.
        got: u64,
        /// What they may take.
        max: u64,
    },
    /// As much as allowed is going on or kept.
    #[error("{max} {what} already: try again later")]
    Busy {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
}

/// What a store found when it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// Adapters on disk.
    pub found: usize,
    /// Files that were removed: leftovers of an interrupted write, damaged ones, of another version or base, or beyond the budget.
    pub swept: usize,
}

/// An adapter as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub info: AdapterInfo,
    /// Names that lead to it, sorted.
    pub names: Vec<String>,
    /// Whether it is in memory.
    pub is_loaded: bool,
    /// Whether it is to stay there.
    pub is_pinned: bool,
}

/// The store of one model. Dropping it ends its threads.
#[derive(Debug)]
pub struct AdapterStore {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl AdapterStore {
    /// Opens a folder, alone in this process and among all others, sweeps it, and starts the threads: one that loads, one that has
    /// the disk take what was written and, with a `fetch`, as many as fetch at a time. `budget` is the scheduler's. `wake` is called, from any
    /// thread, when there is a notice; it must not wait and must not call the store.
    ///
    /// What was found on disk comes as the first notices.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::InUse`] or [`StoreError::Names`].
    pub fn open(
        dir: &Path,
        model: ModelInfo,
        budget: Budget,
        fetch: Option<Arc<dyn FetchAdapter>>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Opened), StoreError> {
        let (disk, found, swept) = Disk::open(dir, &model, &budget)?;
        let table = disk.names()?;
        let opened = Opened { found: found.len(), swept };
        let shared = Arc::new(Shared::new(disk, model, budget, fetch, Box::new(wake), found, table));
        let mut store = Self { shared, threads: Vec::new() };
        store.start(dir)?;
        (store.shared.wake)();
        Ok((store, opened))
    }

    fn start(&mut self, dir: &Path) -> Result<(), StoreError> {
        let fetchers = if self.shared.fetch.is_some() { crate::proto::residency::FETCHES_MAX } else { 0 };
        let io = |source| StoreError::Io { path: dir.to_path_buf(), source };
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let shared = Arc::clone(&self.shared);
        self.threads.push(named("adapter-load").spawn(move || shared.load_until_closed()).map_err(io)?);
        let shared = Arc::clone(&self.shared);
        self.threads.push(named("adapter-sync").spawn(move || shared.sync_until_closed()).map_err(io)?);
        for _ in 0..fetchers {
            let shared = Arc::clone(&self.shared);
            self.threads.push(named("adapter-fetch").spawn(move || shared.fetch_until_closed()).map_err(io)?);
        }
        Ok(())
    }

    /// The oldest thing that happened and was not taken yet, for the scheduler (`Input::Adapter`). Never waits.
    #[must_use]
    pub fn notice(&self) -> Option<(AdapterId, Event)> {
        self.shared.state().notices.pop_front()
    }

    /// Begins what the scheduler asks; never waits, reads or writes. [`Action::Attach`] and [`Action::Detach`] are the device's: nothing
    /// happens here.
    pub fn act(&self, action: Action) {
        self.shared.act(action);
    }

    /// The packed form of one that is in memory.
    #[must_use]
    pub fn packed(&self, id: AdapterId) -> Option<Arc<Packed8>> {
        self.shared.state().entries.get(&id)?.packed.clone()
    }

    /// What is known of one that is here and wanted.
    #[must_use]
    pub fn info(&self, id: AdapterId) -> Option<AdapterInfo> {
        self.shared.state().wanted(id).map(|entry| entry.info.clone())
    }

    /// Whether a request may name it: it is here, or may be fetched. One that is being removed is neither until it is gone, so that requests
    /// which follow one another do not keep it for ever.
    #[must_use]
    pub fn may_have(&self, id: AdapterId) -> bool {
        self.shared.state().entries.get(&id).map_or_else(|| self.shared.fetch.is_some(), |entry| !entry.is_retired)
    }

    /// How many are on disk, those that are being removed included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.state().entries.len()
    }

    /// Where a name leads.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<AdapterId> {
        self.shared.state().names.get(name).copied()
    }

    /// Why the last fetch or load of one failed, in words; none once it came in.
    #[must_use]
    pub fn reason(&self, id: AdapterId) -> Option<String> {
        self.shared.state().reason(id).map(str::to_owned)
    }

    /// Announces a use, so that the adapter is fetched and loaded ahead if there is room.
    ///
    /// # Errors
    /// [`StoreError::Busy`].
    pub fn want(&self, id: AdapterId) -> Result<(), StoreError> {
        self.shared.tell(id, Event::Wanted)
    }

    /// Imports an adapter from a folder or a GGUF file: reads, checks, packs, and puts the packed form on disk; durable it is some milliseconds later, and before
    /// any name or pin that is written after this. It stays where it came from too. One that is here already is only read. Works on the
    /// caller's thread and one more; waits for its turn.
    ///
    /// # Errors
    /// [`StoreError::Adapter`], [`StoreError::TooLarge`], [`StoreError::Io`] or [`StoreError::Busy`].
    pub fn insert(&self, path: &Path) -> Result<AdapterInfo, StoreError> {
        self.shared.insert(path)
    }

    /// Keeps an adapter in memory, or no longer; remembered across restarts.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::PinnedTooMuch`], [`StoreError::Busy`] or [`StoreError::Io`].
    pub fn pin(&self, id: AdapterId, is_pinned: bool) -> Result<(), StoreError> {
        self.shared.pin(id, is_pinned)
    }

    /// Lets a name lead to an adapter from now on; says where it led before. Requests that were begun keep what they have. The one before
    /// stays, without the name, until it is [`AdapterStore::remove`]d or gives way to more popular ones.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::BadName`], [`StoreError::Busy`] or [`StoreError::Io`].
    pub fn replace(&self, name: &str, id: AdapterId) -> Result<Option<AdapterId>, StoreError> {
        self.shared.replace(name, id)
    }

    /// Takes a name away, and leaves its adapter.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn forget(&self, name: &str) -> Result<Option<AdapterId>, StoreError> {
        self.shared.forget(name)
    }

    /// Removes an adapter with its names: no request gets it any more, those accepted before still do, then its memory and files go.
    /// False if it is not here.
    ///
    /// # Errors
    /// [`StoreError::Busy`] or [`StoreError::Io`].
    pub fn remove(&self, id: AdapterId) -> Result<bool, StoreError> {
        self.shared.remove(id)
    }

    /// All that is here and wanted, by hash.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.shared.state().list()
    }
}

impl Drop for AdapterStore {
    fn drop(&mut self) {
        self.shared.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the adapter store has panicked");
            }
        }
    }
}

/// Bytes of an adapter in files and in memory.
fn sizes(file_bytes: u64, info: &AdapterInfo) -> Sizes {
    Sizes { disk: file_bytes, memory: info.bytes }
}

#[cfg(test)]
pub(crate) mod tests;
