//! What the gate knows of each Datanet: an index of every accepted document, brought up to the chain before anything is held against it.
//!
//! An open Datanet's index lies in the data folder (`indexes/<datanet>`), in 64 MiB of memory however much was accepted, and is there again after a restart. A private
//! one's is in memory alone: hashes of its phrases on a disk would tell whoever has the disk, and guesses a phrase, whether it is in there.
//!
//! An index is nothing but what the chain and the shards say. What of it the chain has taken back, or the disk has changed, makes it be removed and read anew from the
//! shards; a fetch that fails, or a full disk, leaves what was reached.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as Blocking, MutexGuard, PoisonError},
};

use chain_bridge::registry::state::Accepted as Registered;
use storage::datanet::{AcceptError, DiskError, OnDisk};
use types::id::Address;

use super::{passed::Passed, *};

/// Most bytes that the index of one Datanet takes, merging included: some 30 GB of text.
const INDEX_BYTES_MAX: u64 = 64 << 30;

/// An index.
#[derive(Debug)]
enum Known {
    Memory(Box<Datanet>),
    Disk(Box<Datanet<OnDisk>>),
}

/// One Datanet's, opened when it is asked for.
#[derive(Debug, Default)]
struct Cell {
    /// One review at a time.
    turn: Mutex<()>,
    known: Blocking<Option<Known>>,
}

/// What is held against the index: an opened shard and whose it is.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) place: Place,
    pub(super) contributor: Address,
    pub(super) licence: Licence,
    pub(super) shard: Arc<Shard>,
}

/// Those of all Datanets.
#[derive(Debug)]
pub(super) struct Indexes {
    folder: PathBuf,
    /// What was looked at and is likely to be entered next.
    passed: Blocking<Passed>,
    cells: Mutex<BTreeMap<AssetId, Arc<Cell>>>,
}

/// The chain has taken back what the index holds.
#[derive(Debug, thiserror::Error)]
#[error("the contribution at block {} commitment {} is on the chain no longer", .0.block, .0.ordinal)]
struct TakenBack(Place);

impl Known {
    fn open(card: Card, folder: &Path) -> anyhow::Result<Self> {
        if card.is_private() {
            return Ok(Self::Memory(Box::new(Datanet::new(card))));
        }
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
        }
        Ok(Self::Disk(Box::new(Datanet::open(card, folder, INDEX_BYTES_MAX)?)))
    }

    fn entered(&self) -> BTreeMap<Place, Hash32> {
        let pair = |(place, accepted): (Place, &Accepted)| (place, accepted.text_root);
        match self {
            Self::Memory(datanet) => datanet.accepted().map(pair).collect(),
            Self::Disk(datanet) => datanet.accepted().map(pair).collect(),
        }
    }

    fn accept(&mut self, place: Place, accepted: Accepted, shard: &Shard) -> anyhow::Result<()> {
        match self {
            Self::Memory(datanet) => datanet.accept(place, accepted, shard)?,
            Self::Disk(datanet) => datanet.accept(place, accepted, shard)?,
        }
        Ok(())
    }

    fn gate(&mut self, judged: &Judged) -> anyhow::Result<Report> {
        let Judged { place, contributor, licence, shard } = judged;
        match self {
            Self::Memory(datanet) => Ok(datanet.gate_shard(*place, *contributor, licence, shard)),
            Self::Disk(datanet) => Ok(datanet.gate_shard(*place, *contributor, licence, shard)?),
        }
    }
}

impl Cell {
    /// Works with the index on a thread that may block. It goes on to its end if the caller is dropped.
    async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Option<Known>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let cell = Arc::clone(self);
        let work = move || {
            let mut known = cell.known.lock().unwrap_or_else(|poisoned| {
                let mut known = PoisonError::into_inner(poisoned);
                *known = None;
                known
            });
            let done = work(&mut known);
            // What failed is opened again, as far as it was durable.
            if done.is_err() {
                *known = None;
            }
            done
        };
        tokio::task::spawn_blocking(work).await.context("the index")?
    }
}

fn open(known: &mut Option<Known>) -> anyhow::Result<&mut Known> {
    known.as_mut().context("the index was closed meanwhile: try again")
}

fn place_of(accepted: &Registered) -> Place {
    Place { block: accepted.priority.block, ordinal: accepted.priority.ordinal }
}

/// Whether an error goes away when the index is made anew.
fn is_stale(error: &anyhow::Error) -> bool {
    let is_damage = match error.downcast_ref() {
        Some(AcceptError::PlaceTaken { .. }) => true,
        Some(AcceptError::Disk(error)) => error.is_damage(),
        _ => error.downcast_ref().is_some_and(DiskError::is_damage),
    };
    is_damage || error.is::<TakenBack>()
}

impl Indexes {
    /// Those in a folder, which is made when the first is.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, passed: Blocking::default(), cells: Mutex::default() }
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a shard opened that the gate is about to sign for.
    pub(super) fn pass(&self, id: AssetId, shard: Arc<Shard>) {
        self.passed().keep(id, shard);
    }

    /// Holds a contribution against everything that the chain has accepted.
    pub(super) async fn judge(&self, gate: &Gate, id: AssetId, judged: &Judged) -> anyhow::Result<Report> {
        let cell = Arc::clone(self.cells.lock().await.entry(id).or_default());
        let _turn = cell.turn.lock().await;
        let folder = self.folder.join(id.to_string());
        match self.attempt(gate, &cell, id, &folder, judged).await {
            Err(error) if is_stale(&error) => {
                tracing::warn!(datanet = %id, error = format!("{error:#}"), "the index of accepted documents is made anew from the shards");
                let away = folder.clone();
                let remove = move |known: &mut Option<Known>| {
                    *known = None;
                    OnDisk::remove(&away).with_context(|| format!("{}", away.display()))
                };
                cell.work(remove).await?;
                self.attempt(gate, &cell, id, &folder, judged).await
            }
            done => done,
        }
    }

    async fn attempt(&self, gate: &Gate, cell: &Arc<Cell>, id: AssetId, folder: &Path, judged: &Judged) -> anyhow::Result<Report> {
        // The newest there is: one from before the turn came may lack what another review has entered.
        let state = Arc::clone(&gate.snapshots.borrow().latest);
        let card = card_of(state.asset(id).with_context(|| format!("Datanet {id} is not registered"))?)?;
        let folder = folder.to_owned();
        let entered = cell.work(move |known| {
            let known = match known {
                Some(known) => known,
                none => none.insert(Known::open(card, &folder)?),
            };
            Ok(known.entered())
        });
        let entered = entered.await?;
        // What was erased on request counts as taken back: it is to leave this disk too.
        let on_chain: BTreeMap<Place, Hash32> =
            state.live_contributions(id).map(|accepted| (place_of(accepted), accepted.text_root)).collect();
        if let Some((place, _)) = entered.iter().find(|(place, text_root)| on_chain.get(place) != Some(text_root)) {
            return Err(TakenBack(*place).into());
        }
        let missing: Vec<Registered> =
            state.live_contributions(id).filter(|accepted| !entered.contains_key(&place_of(accepted))).cloned().collect();
        for accepted in &missing {
            let passed = self.passed().take(id, accepted.text_root);
            let shard = match passed {
                Some(shard) => shard,
                None => Arc::new(gate.shards.shard(&state, accepted).await?.0),
            };
            let facts = Accepted {
                contributor: accepted.contributor,
                text_root: accepted.text_root,
                documents: accepted.documents,
                object: accepted.object,
                text_salt: shard.text_salt(),
            };
            let place = place_of(accepted);
            cell.work(move |known| open(known)?.accept(place, facts, &shard)).await?;
        }
        let judged = judged.clone();
        cell.work(move |known| open(known)?.gate(&judged)).await
    }
}
