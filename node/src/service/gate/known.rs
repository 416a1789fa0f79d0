//! What the gate knows of each Datanet: an index of every accepted document, brought up to the chain before anything is held against it.
//!
//! An open Datanet's index lies in the data folder (`indexes/<datanet>`), in 64 MiB of memory however much was accepted, and is there again after a restart. A private
//! one's is in memory alone: hashes of its phrases on a disk would tell whoever has the disk, and guesses a phrase, whether it is in there.
//!
//! An index is nothing but what the chain and the shards say. What the chain has taken back, and what was erased on request, is taken out of it: at the latest when the request is final, before the node says that nothing is
//! on its disk (`Indexes::forget_erased`). What the disk has changed makes the index be removed and read anew from the shards, and so does what was taken out once it is more than what is left, since its
//! room stays taken; a fetch that fails, or a full disk, leaves what was reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as Blocking, MutexGuard, PoisonError},
};

use chain_bridge::registry::state::Accepted as Registered;
use storage::datanet::{AcceptError, DiskError, OnDisk};
use types::id::Address;

use super::{passed::Passed, queue::Queue, *};

/// Most bytes that the index of one Datanet takes, merging included: some 30 GB of text.
const INDEX_BYTES_MAX: u64 = 64 << 30;

/// Fewest documents taken out for which an index is made anew: below, an index of few documents would be made anew again and again.
const FORGOTTEN_MIN: u32 = 1 << 16;

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
pub struct Indexes {
    folder: PathBuf,
    /// What knows rows that are not accepted.
    queue: Arc<Queue>,
    /// What was looked at and is likely to be entered next.
    passed: Blocking<Passed>,
    cells: Mutex<BTreeMap<AssetId, Arc<Cell>>>,
}

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

    /// Takes out what the chain has no more; what is in memory is begun anew.
    fn forget(&mut self, places: &[Place]) -> anyhow::Result<()> {
        match self {
            Self::Memory(datanet) => **datanet = Datanet::new(datanet.card().clone()),
            Self::Disk(datanet) => datanet.forget(places)?,
        }
        Ok(())
    }

    /// Whether more of its room is used up by what was taken out than by what is in it.
    fn is_spent(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Disk(datanet) => {
                let (all, forgotten) = (datanet.index().documents(), datanet.index().forgotten());
                forgotten > all - forgotten && forgotten >= FORGOTTEN_MIN
            }
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
    match error.downcast_ref() {
        Some(AcceptError::PlaceTaken { .. }) => true,
        Some(AcceptError::Disk(error)) => error.is_damage(),
        _ => error.downcast_ref().is_some_and(DiskError::is_damage),
    }
}

/// Places of `entered` where the chain has another text by now, or none.
fn gone(entered: &BTreeMap<Place, Hash32>, on_chain: &BTreeMap<Place, Hash32>) -> Vec<Place> {
    entered.iter().filter(|(place, text_root)| on_chain.get(place) != Some(text_root)).map(|(place, _)| *place).collect()
}

/// Takes out what the chain has no more; the places that are left.
fn forget(known: &mut Option<Known>, folder: &Path, on_chain: &BTreeMap<Place, Hash32>) -> anyhow::Result<BTreeMap<Place, Hash32>> {
    let index = open(known)?;
    let mut entered = index.entered();
    let gone = gone(&entered, on_chain);
    if gone.is_empty() {
        return Ok(entered);
    }
    index.forget(&gone)?;
    if index.is_spent() {
        let card = match &*index {
            Known::Memory(datanet) => datanet.card().clone(),
            Known::Disk(datanet) => datanet.card().clone(),
        };
        *known = None;
        OnDisk::remove(folder).with_context(|| format!("{}", folder.display()))?;
        *known = Some(Known::open(card, folder)?);
    }
    entered = open(known)?.entered();
    Ok(entered)
}

fn live(state: &State, id: AssetId) -> BTreeMap<Place, Hash32> {
    state.live_contributions(id).map(|accepted| (place_of(accepted), accepted.text_root)).collect()
}

impl Indexes {
    /// Those in a folder, which is made when the first is.
    pub(super) fn new(folder: PathBuf, queue: Arc<Queue>) -> Self {
        Self { folder, queue, passed: Blocking::default(), cells: Mutex::default() }
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a shard opened that the gate is about to sign for.
    pub(super) fn pass(&self, id: AssetId, shard: Arc<Shard>) {
        self.passed().keep(id, shard);
    }

    /// Takes out of every index on this disk, and of the rows that wait or were rejected, what was erased in `finalized`, of objects that fell: nothing of them is there when this returns. An index that is damaged goes as a whole.
    pub(in crate::service) async fn forget_erased(&self, finalized: &Arc<State>, fallen: &BTreeSet<BlobId>) -> anyhow::Result<()> {
        let is_erased = |id: AssetId, text_root: Hash32| {
            let is_it = |one: &Registered| one.text_root == text_root && fallen.contains(&one.object);
            finalized.contributions(id).any(|one| is_it(one) && finalized.erasure(id, one.number).is_some())
        };
        self.queue.forget_texts(is_erased).await?;
        for id in self.on_disk().await? {
            let is_fallen = |accepted: &Registered| fallen.contains(&accepted.object) && finalized.erasure(id, accepted.number).is_some();
            if finalized.contributions(id).any(is_fallen) {
                self.forget_of(id, finalized).await?;
            }
        }
        Ok(())
    }

    async fn on_disk(&self) -> anyhow::Result<Vec<AssetId>> {
        let folder = self.folder.clone();
        let names = move || -> anyhow::Result<Vec<AssetId>> {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries.with_context(|| format!("{}", folder.display()))?,
            };
            let mut ids = Vec::new();
            for entry in entries {
                let name = entry.with_context(|| format!("{}", folder.display()))?.file_name();
                ids.extend(name.to_str().and_then(|name| name.parse().ok()).map(AssetId));
            }
            Ok(ids)
        };
        tokio::task::spawn_blocking(names).await.context("a thread")?
    }

    async fn forget_of(&self, id: AssetId, finalized: &Arc<State>) -> anyhow::Result<()> {
        let cell = Arc::clone(self.cells.lock().await.entry(id).or_default());
        let _turn = cell.turn.lock().await;
        let card = card_of(finalized.asset(id).with_context(|| format!("Datanet {id} is not registered"))?)?;
        let erased: BTreeSet<Place> =
            finalized.contributions(id).filter(|one| finalized.erasure(id, one.number).is_some()).map(place_of).collect();
        let (folder, away) = (self.folder.join(id.to_string()), self.folder.join(id.to_string()));
        let work = move |known: &mut Option<Known>| {
            if known.is_none() {
                *known = Some(Known::open(card, &folder)?);
            }
            // What the latest block has and the final one has not is none of the business here.
            let kept: BTreeMap<Place, Hash32> = open(known)?.entered().into_iter().filter(|(place, _)| !erased.contains(place)).collect();
            forget(known, &folder, &kept).map(drop)
        };
        match cell.work(work).await {
            Err(error) if is_stale(&error) => {
                tracing::warn!(datanet = %id, error = format!("{error:#}"), "the index of accepted documents goes as a whole: something in it was to be erased");
                cell.work(move |_| OnDisk::remove(&away).with_context(|| format!("{}", away.display()))).await
            }
            done => done,
        }
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
        // What was erased on request counts as taken back from its first block on.
        let (folder, on_chain) = (folder.to_owned(), live(&state, id));
        let entered = cell.work(move |known| {
            if known.is_none() {
                *known = Some(Known::open(card, &folder)?);
            }
            forget(known, &folder, &on_chain)
        });
        let entered = entered.await?;
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
            let rows = Arc::clone(&shard);
            cell.work(move |known| open(known)?.accept(place, facts, &shard)).await?;
            // From here on the index knows them, and forgets them when they are erased.
            self.queue.settle(id, rows).await?;
        }
        let judged = judged.clone();
        cell.work(move |known| open(known)?.gate(&judged)).await
    }
}

#[cfg(test)]
mod tests {
    use storage::datanet::Document;

    use super::*;

    fn shard(text: &str) -> Shard {
        Shard::of(vec![Document::new(None, None, text.as_bytes()).unwrap()])
    }

    #[test]
    fn what_the_chain_has_no_more_is_taken_out_of_the_folder_and_the_rest_is_not_made_anew() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("4");
        let card = Card::new("medical".parse().unwrap(), "Terms.".into(), "CC-BY-4.0".parse().unwrap(), vec![], vec![]).unwrap();
        let mut known = Some(Known::open(card, &folder).unwrap());
        let mut on_chain = BTreeMap::new();
        for (block, text) in [(7, "a text about the tides of the northern coast"), (8, "another one about fog")] {
            let (place, shard) = (Place { block, ordinal: 0 }, shard(text));
            let (text_root, contributor) = (shard.text_root(), Address([1; 20]));
            let accepted = Accepted { contributor, text_root, documents: 1, object: BlobId::ZERO, text_salt: None };
            open(&mut known).unwrap().accept(place, accepted, &shard).unwrap();
            on_chain.insert(place, text_root);
        }
        assert_eq!(forget(&mut known, &folder, &on_chain).unwrap(), on_chain);
        let is_there = |text: &str| {
            let digest = shard(text).documents()[0].digest();
            let files = fs::read_dir(&folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
            files.into_iter().any(|bytes| bytes.windows(32).any(|window| window == digest.0))
        };
        on_chain.remove(&Place { block: 7, ordinal: 0 });
        assert_eq!(forget(&mut known, &folder, &on_chain).unwrap(), on_chain);
        assert!(!is_there("a text about the tides of the northern coast") && is_there("another one about fog"));
        assert_eq!(open(&mut known).unwrap().entered(), on_chain);
        let Some(Known::Disk(datanet)) = &known else { panic!("an open Datanet's index is on the disk") };
        assert_eq!((datanet.index().documents(), datanet.index().forgotten()), (2, 1), "its number is used up: nothing was made anew");
        // Another text at the same place is not the one that is known.
        let other = BTreeMap::from([(Place { block: 8, ordinal: 0 }, Hash32([9; 32]))]);
        assert_eq!(forget(&mut known, &folder, &other).unwrap(), BTreeMap::new());
    }
}
