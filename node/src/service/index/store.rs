//! Segments as this machine keeps them: `attribution/<Datanet>/S*.seg`, immutable and named by what they are of, `R*.rows` with the near copies of
//! all segments of a version.
//!
//! A file is read whole and held against its header once in a process, before anything is answered from it: some seconds a gigabyte from a disk, a
//! sixtieth of what it takes to build it. One that is damaged, cut off or of something else is set aside (`.damaged`) and built again from
//! contributions, which come one at a time. Who builds has the turn in a Datanet's folder; whoever waited for it finds the files. A build that was
//! broken off goes on where it stood. Without a data folder everything is built in memory.
//!
//! The index of a private Datanet is built in memory, anew in each process: no disk shows its text. That takes three bytes a byte of text.
//!
//! Disk: 1.9 bytes a byte of text, and for a while as much again of a segment that is being built. Memory: what the operator gives, one
//! contribution, and what the search for near copies takes (`near`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use attribution::{
    disk::{BuildFileError, BuildOptions, OpenError, OwnedEntry, Progress, Stamp, build_segment, open_segment},
    index::{BuildError, Clusters, DatanetIndex, Entry, FormatError, Index, IndexError, Segment, SegmentId, Tombstone},
};
use chain_bridge::registry::{State, state::Accepted};
use tokio::sync::Notify;
use types::{
    id::{AssetId, AssetVersion, Hash32},
    text::LEAF_STRIDE,
};

use super::{
    near,
    plan::{Piece, Plan, Planned},
    unneeded,
};
use crate::{
    config::Attribution,
    data::{DataDir, read_bounded, write_atomic},
    datanet::LocalContribution,
};

/// Ending of a file that was set aside.
pub(super) const DAMAGED: &str = "damaged";
/// The file that who builds in a folder has locked.
pub(super) const TURN: &str = "turn";

/// Why a version has no index here.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be used.
    #[error("{path}: {error}: it holds the index of a Datanet, and must be yours to write")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A segment is not here, and neither is its text.
    #[error("segment {file} of Datanet {version} is not on this machine and cannot be built: {why:#}")]
    Missing {
        /// The Datanet.
        version: AssetVersion,
        /// The segment's file.
        file: String,
        /// Why its text is not to be had.
        why: anyhow::Error,
    },
    /// A contribution is not as long as the registry says.
    #[error("contribution {number} of Datanet {version} has {got} bytes of text, registered are {expected}: fetch it again")]
    Length {
        /// The Datanet.
        version: AssetVersion,
        /// The contribution.
        number: u64,
        /// Bytes of its text.
        got: u64,
        /// Bytes registered.
        expected: u64,
    },
    /// A segment cannot be built.
    #[error("segment {file} of Datanet {version}: {error}")]
    Build {
        /// The Datanet.
        version: AssetVersion,
        /// The segment's file.
        file: String,
        /// Why.
        error: BuildFileError,
    },
    /// Contributions that make no segment in memory.
    #[error("Datanet {version}: {error}")]
    Contributions {
        /// The Datanet.
        version: AssetVersion,
        /// Why.
        error: BuildError,
    },
    /// A contribution with a salt to a Datanet that the books do not say is private.
    #[error("contribution {number} of Datanet {version} has salted leaves, and the Datanet is not private: no file of its text is made")]
    Salted {
        /// The Datanet.
        version: AssetVersion,
        /// The contribution.
        number: u64,
    },
    /// Segments that make no index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Near copies cannot be found.
    #[error("near copies in Datanet {version} are not found: {why:#}")]
    Near {
        /// The Datanet.
        version: AssetVersion,
        /// Why.
        why: anyhow::Error,
    },
}

/// Where a contribution's text comes from.
pub type Texts<'a> = dyn FnMut(&Accepted) -> anyhow::Result<LocalContribution> + 'a;

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The segment, from 1.
    pub segment: usize,
    /// Segments of the version.
    pub of: usize,
    /// Registered bytes of its text.
    pub text_bytes: u64,
    /// Within it.
    pub progress: Progress,
}

/// Who is told of the progress, and may break off.
pub type Told<'a> = dyn FnMut(Step) -> ControlFlow<()> + 'a;

/// Goes on whatever comes.
pub fn go_on(_: Step) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// What was done for an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Numbers of the segments that were built, from 0; the others were here.
    pub built: Vec<usize>,
    /// Whether near copies were looked for.
    pub is_searched: bool,
    /// What was set aside, and why.
    pub set_aside: Vec<String>,
}

/// A file of a segment as it is found.
#[derive(Debug)]
pub enum Found {
    /// It is what it should be.
    Whole(Box<Segment>),
    /// It is not there.
    Missing,
    /// It is not to be answered from.
    Damaged(FormatError),
}

/// The indexes of this machine.
#[derive(Debug)]
pub struct Indexes {
    folder: Option<PathBuf>,
    options: BuildOptions,
    /// Segments that this process has read whole.
    read: Mutex<BTreeMap<SegmentId, Stamp>>,
    /// Segments that were found changed while they were answered from.
    changed: Mutex<BTreeSet<SegmentId>>,
    /// Woken when there is one.
    noted: Notify,
}

impl Indexes {
    /// Those in a data folder; in memory if there is no such folder.
    pub fn of(data: &DataDir, config: &Attribution) -> Self {
        Self::new(data.path().is_dir().then(|| data.attribution()), config)
    }

    /// None but what is asked for, in memory.
    pub fn in_memory() -> Self {
        Self::new(None, &Attribution::default())
    }

    fn new(folder: Option<PathBuf>, config: &Attribution) -> Self {
        let options = BuildOptions { memory_bytes: config.memory.0, threads: config.threads };
        Self { folder, options, read: Mutex::default(), changed: Mutex::default(), noted: Notify::new() }
    }

    /// A Datanet's folder.
    pub fn folder(&self, datanet: AssetId) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(datanet.to_string()))
    }

    /// Where the files of a plan lie; nowhere if there are to be none.
    pub fn folder_of(&self, plan: &Plan) -> Option<PathBuf> {
        self.folder(plan.version.asset).filter(|_| !plan.is_private)
    }

    /// The index of a version: what is here is opened, what is not is built from `texts`, which are asked for in order of priority, one at a time,
    /// and only where they are needed. Blocks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(&self, plan: &Plan, texts: &mut Texts<'_>, told: &mut Told<'_>) -> Result<(DatanetIndex, Made), StoreError> {
        let mut made = Made::default();
        let Some(folder) = self.folder_of(plan) else {
            let segments = plan.segments.iter().map(|planned| in_memory(plan.version, planned, texts)).collect::<Result<Vec<_>, _>>()?;
            made = Made { built: (0..segments.len()).collect(), is_searched: true, ..made };
            let clusters = search(plan.version, &segments)?;
            return Ok((DatanetIndex::clustered(plan.version, segments, &clusters)?, made));
        };
        let mut found = Vec::with_capacity(plan.segments.len());
        for planned in &plan.segments {
            found.push(self.look(&folder, planned.id)?);
        }
        let is_here = found.iter().all(|found| matches!(found, Found::Whole(_)));
        let turn = if is_here { None } else { Some(Turn::take(&folder)?) };
        let mut segments = Vec::with_capacity(found.len());
        for (number, (found, planned)) in found.into_iter().zip(&plan.segments).enumerate() {
            segments.push(match found {
                Found::Whole(segment) => *segment,
                _ => self.again(&folder, plan, number, planned, texts, told, &mut made)?,
            });
        }
        let clusters = Self::near_copies(&folder, plan, &segments, turn, &mut made)?;
        Ok((DatanetIndex::clustered(plan.version, segments, &clusters)?, made))
    }

    /// The index over these contributions, without what was erased of them, and no others: in memory. Blocks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn over(version: AssetVersion, held: Vec<LocalContribution>, erased: &[Accepted]) -> Result<DatanetIndex, StoreError> {
        let is_private = held.iter().any(|local| local.text_salt.is_some());
        let plan = Plan::new(version, held.iter().map(|local| local.accepted.clone()), erased.iter().cloned()).private(is_private);
        let mut by_number: BTreeMap<u64, LocalContribution> = held.into_iter().map(|local| (local.accepted.number, local)).collect();
        let mut texts = |accepted: &Accepted| by_number.remove(&accepted.number).context("a contribution's text is asked for twice");
        Ok(Self::in_memory().open(&plan, &mut texts, &mut go_on)?.0)
    }

    /// A segment's file in `folder`, read whole unless it was before.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn look(&self, folder: &Path, id: SegmentId) -> Result<Found, StoreError> {
        let path = folder.join(id.file_name());
        let failed = |error| StoreError::File { path: path.clone(), error };
        let segment = match open_segment(&path, Some(id)) {
            Ok(segment) => segment,
            Err(OpenError::Format { error, .. }) => return Ok(Found::Damaged(error)),
            Err(OpenError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(OpenError::File { error, .. }) => return Err(failed(error)),
        };
        // As it was when it was opened: whoever writes to it while it is read has written since.
        let is_read = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied() == segment.stamp();
        if !is_read {
            if let Err(error) = segment.verify() {
                return Ok(Found::Damaged(error));
            }
            self.note(&segment);
        }
        Ok(Found::Whole(Box::new(segment)))
    }

    fn note(&self, segment: &Segment) {
        if let Some(stamp) = segment.stamp() {
            self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(segment.id(), stamp);
        }
    }

    /// A segment that was not here when it was looked for: whoever had the turn may have built it since.
    #[expect(clippy::too_many_arguments, reason = "what a build needs, passed on by its only caller")]
    fn again(
        &self,
        folder: &Path,
        plan: &Plan,
        number: usize,
        planned: &Planned,
        texts: &mut Texts<'_>,
        told: &mut Told<'_>,
        made: &mut Made,
    ) -> Result<Segment, StoreError> {
        match self.look(folder, planned.id)? {
            Found::Whole(segment) => return Ok(*segment),
            Found::Missing => {}
            Found::Damaged(error) => made.set_aside.push(set_aside(&folder.join(planned.id.file_name()), &error)?),
        }
        let mut step = |progress| told(Step { segment: number + 1, of: plan.segments.len(), text_bytes: planned.text_bytes(), progress });
        let segment = self.build(folder, plan.version, planned, texts, &mut step)?;
        made.built.push(number);
        Ok(segment)
    }

    fn build(
        &self,
        folder: &Path,
        version: AssetVersion,
        planned: &Planned,
        texts: &mut Texts<'_>,
        step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Segment, StoreError> {
        let file = planned.id.file_name();
        let mut refused = None;
        let entries = planned.pieces.iter().map(|piece| {
            let open = |entry| match entry {
                OwnedEntry::Text { salt: Some(_), .. } => Err(StoreError::Salted { version, number: piece.accepted.number }),
                entry => Ok(entry),
            };
            entry(version, &file, piece, texts).and_then(open).map_err(|error| {
                // The builder is told that there was one; which it was is kept here.
                refused = Some(error);
                "it is refused"
            })
        });
        let built = build_segment(folder, entries, &self.options, step);
        let path = match (built, refused) {
            (_, Some(refused)) => return Err(refused),
            (Ok(path), None) => path,
            (Err(error), None) => return Err(StoreError::Build { version, file, error }),
        };
        let failed = |error| StoreError::File { path: path.clone(), error };
        match open_segment(&path, Some(planned.id)) {
            Ok(segment) => {
                self.note(&segment);
                Ok(segment)
            }
            Err(OpenError::File { error, .. }) => Err(failed(error)),
            Err(OpenError::Format { error, .. }) => Err(failed(io::Error::other(error))),
        }
    }

    fn near_copies(folder: &Path, plan: &Plan, segments: &[Segment], turn: Option<Turn>, made: &mut Made) -> Result<Clusters, StoreError> {
        let wrong = match read_near(folder, plan, segments)? {
            Some(Ok(clusters)) => return Ok(clusters),
            Some(Err(error)) => Some(error),
            None => None,
        };
        let _turn = match turn {
            Some(turn) => turn,
            None => Turn::take(folder)?,
        };
        let (name, path) = (plan.rows_file(), folder.join(plan.rows_file()));
        // Whoever had the turn before may have written it.
        if let Some(Ok(clusters)) = read_near(folder, plan, segments)? {
            return Ok(clusters);
        }
        if let Some(error) = wrong {
            made.set_aside.push(set_aside(&path, &error)?);
        }
        let clusters = search(plan.version, segments)?;
        made.is_searched = true;
        write_atomic(&path, &near::encode(&name, &clusters), 0o644).map_err(|error| StoreError::File { path, error })?;
        Ok(clusters)
    }

    /// The file of one segment of a plan.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn look_at(&self, plan: &Plan, planned: &Planned) -> Result<Found, StoreError> {
        self.folder_of(plan).map_or(Ok(Found::Missing), |folder| self.look(&folder, planned.id))
    }

    /// The root of an index over a plan whose segments are all whole, by its file of near copies; nothing where that is not here, and what is wrong
    /// where it is damaged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_of(&self, plan: &Plan) -> Result<anyhow::Result<Option<Hash32>>, StoreError> {
        let mut segments = Vec::with_capacity(plan.segments.len());
        for planned in &plan.segments {
            match self.look_at(plan, planned)? {
                Found::Whole(segment) => segments.push(*segment),
                _ => return Ok(Ok(None)),
            }
        }
        let Some(folder) = self.folder_of(plan) else { return Ok(Ok(None)) };
        match read_near(&folder, plan, &segments)? {
            Some(Ok(clusters)) => {
                let datanet = DatanetIndex::clustered(plan.version, segments, &clusters)?;
                Ok(Ok(Some(Index::new(vec![Arc::new(datanet)])?.root())))
            }
            Some(Err(error)) => Ok(Err(error)),
            None => Ok(Ok(None)),
        }
    }

    /// Contributions of a plan whose text is needed, because a segment is not here or damaged.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn needed<'p>(&self, plan: &'p Plan) -> Result<Vec<&'p Accepted>, StoreError> {
        let mut needed = Vec::new();
        for planned in &plan.segments {
            let found = self.folder_of(plan).map(|folder| self.look(&folder, planned.id)).transpose()?;
            if !matches!(found, Some(Found::Whole(_))) {
                needed.extend(planned.texts());
            }
        }
        Ok(needed)
    }

    /// Notes that a segment was found changed under its index.
    pub fn suspect(&self, segment: SegmentId) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(&segment);
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(segment);
        self.noted.notify_one();
    }

    /// Ends when a segment was so noted.
    pub async fn suspected(&self) {
        self.noted.notified().await;
    }

    /// The segments so noted; they are noted no more.
    pub fn take_suspects(&self) -> BTreeSet<SegmentId> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Deletes what no version in use names. Blocks.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn prune(&self, state: &State) -> Result<usize, StoreError> {
        self.folder.as_ref().map_or(Ok(0), |folder| unneeded::prune(folder, state))
    }
}

/// Takes a file out of the way; says so.
fn set_aside(path: &Path, why: &dyn std::fmt::Display) -> Result<String, StoreError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".");
    aside.push(DAMAGED);
    fs::rename(path, &aside).map_err(|error| StoreError::File { path: path.to_owned(), error })?;
    let said = format!("{}: {why}; it was set aside", path.display());
    tracing::warn!(path = %path.display(), %why, "a file of an index was set aside, it is made again");
    Ok(said)
}

/// The one builder of a Datanet's folder; others wait.
#[derive(Debug)]
struct Turn(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Turn {
    fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(TURN);
        let failed = |error| StoreError::File { path: path.clone(), error };
        fs::create_dir_all(folder).map_err(failed)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(Self(file))
    }
}

/// A contribution as a builder takes it.
fn entry(version: AssetVersion, file: &str, piece: &Piece, texts: &mut Texts<'_>) -> Result<OwnedEntry, StoreError> {
    let Accepted { number, contributor, text_root, text_bytes, priority, .. } = piece.accepted;
    if piece.is_erased {
        return Ok(OwnedEntry::Erased(Tombstone { block: priority.block, ordinal: priority.ordinal, text_root }));
    }
    let local = texts(&piece.accepted).map_err(|why| StoreError::Missing { version, file: file.to_owned(), why })?;
    let got = local.text.len() as u64;
    if got != text_bytes {
        return Err(StoreError::Length { version, number, got, expected: text_bytes });
    }
    let LocalContribution { text, text_salt: salt, .. } = local;
    Ok(OwnedEntry::Text { contributor, block: priority.block, ordinal: priority.ordinal, text_root, text, salt })
}

/// A segment without a file, for who has no data folder.
fn in_memory(version: AssetVersion, planned: &Planned, texts: &mut Texts<'_>) -> Result<Segment, StoreError> {
    let file = planned.id.file_name();
    let owned = planned.pieces.iter().map(|piece| entry(version, &file, piece, texts)).collect::<Result<Vec<_>, _>>()?;
    let entries: Vec<Entry<'_>> = owned.iter().map(OwnedEntry::as_entry).collect();
    Segment::build_entries(&entries, 0).map_err(|error| StoreError::Contributions { version, error })
}

/// What the file of near copies says; nothing if there is none.
fn read_near(folder: &Path, plan: &Plan, segments: &[Segment]) -> Result<Option<anyhow::Result<Clusters>>, StoreError> {
    let (name, path) = (plan.rows_file(), folder.join(plan.rows_file()));
    let documents = segments.iter().map(|segment| segment.documents().len() as u64).sum();
    match read_bounded(&path, near::bytes_max(documents)) {
        Ok(bytes) => Ok(Some(near::decode(&name, &bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Too long a file is a wrong one.
        Err(error) if error.kind() == io::ErrorKind::Other => Ok(Some(Err(error.into()))),
        Err(error) => Err(StoreError::File { path, error }),
    }
}

/// The index over segments of another's folder, with the near copies that its file there says; with those that a search finds where it has none.
///
/// # Errors
/// [`StoreError::Near`] if the file is none, [`StoreError::Index`] if they make no index.
pub fn assembled(folder: &Path, version: AssetVersion, segments: Vec<Segment>) -> Result<DatanetIndex, StoreError> {
    let planned = segments.iter().map(|segment| Planned { id: segment.id(), pieces: Vec::new() }).collect();
    let plan = Plan { version, segments: planned, is_private: segments.iter().any(Segment::is_salted) };
    let clusters = match read_near(folder, &plan, &segments)? {
        Some(read) => read.map_err(|why| StoreError::Near { version, why })?,
        None => search(version, &segments)?,
    };
    Ok(DatanetIndex::clustered(version, segments, &clusters)?)
}

/// The number of the first contribution whose text in a segment is not the registered one. The segment is one of this plan.
pub fn misread(segment: &Segment, planned: &Planned) -> Option<u64> {
    let mut at = 0_usize;
    for (place, Piece { accepted, .. }) in planned.pieces.iter().enumerate().filter(|(_, piece)| !piece.is_erased) {
        at = at.next_multiple_of(LEAF_STRIDE);
        let end = usize::try_from(accepted.text_bytes).ok().and_then(|bytes| at.checked_add(bytes));
        if end.and_then(|end| segment.text_root(place, at..end)) != Some(accepted.text_root) {
            return Some(accepted.number);
        }
        at = end.unwrap_or(at);
    }
    None
}

fn search(version: AssetVersion, segments: &[Segment]) -> Result<Clusters, StoreError> {
    near::found(segments).map_err(|why| StoreError::Near { version, why })
}

#[cfg(test)]
mod tests;
