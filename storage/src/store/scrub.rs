//! Scrubbing: reading what nobody asks for, before it is needed. [`Walk`] goes through a whole store in steps; the caller chooses the pace: at
//! 5 MB/s a store of 64 GiB is read in some four hours. What rotted is marked ([`Store::mark_rotten`]) and left to repair.

use serde::Serialize;

use types::{
    encoding::{Reader, Writer},
    id::BlobId,
};

use super::{
    Corrupt, Item, Store, StoreError,
    index::{self, Location},
    serve::Kept,
};

/// Items looked at in one step, at most: so many manifests are read in some 10 ms.
const STEP_ITEMS_MAX: usize = 1024;
/// Bytes read at once, so that who reads a fragment for somebody waits for little: 2 ms at 125 MB/s.
const PIECE_BYTES: usize = 256 << 10;

/// What one step of scrubbing found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Items hashed.
    pub items: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Items that are no longer what was stored.
    pub corrupt: Vec<Corrupt>,
    /// The last item looked at, to go on after; nothing at the end.
    pub last: Option<Item>,
}

/// How far a [`Walk`] is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Items hashed.
    pub items: u64,
    /// Items kept when the walk began.
    pub items_total: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Bytes that lived when the walk began, with their headers.
    pub bytes_total: u64,
    /// Items found corrupt.
    pub corrupt: u64,
    /// Everything was looked at.
    pub is_done: bool,
}

/// One round over everything a store keeps. What is stored while it goes on may be looked at or not.
#[derive(Debug, Clone)]
pub struct Walk {
    after: Option<Item>,
    open: Option<Open>,
    progress: Progress,
}

/// An item half read. Its segment's file stays open: collecting may drop it meanwhile.
#[derive(Debug, Clone)]
struct Open {
    item: Item,
    kept: Kept,
    at: u64,
    hasher: blake3::Hasher,
}

/// How an item's reading ended.
enum Ended {
    Sound,
    Corrupt(Corrupt),
    /// The budget is spent.
    NotYet,
}

impl Walk {
    /// A round from the beginning.
    ///
    /// # Errors
    /// What the index says.
    pub fn new(store: &Store) -> Result<Self, StoreError> {
        let usage = store.usage()?;
        let progress = Progress { items_total: usage.items, bytes_total: usage.live_bytes, ..Progress::default() };
        Ok(Self { after: None, open: None, progress })
    }

    /// Goes on with a round where [`Walk::place`] was written down; a new one if the bytes are not that. An item that was half read is begun again.
    ///
    /// # Errors
    /// What the index says.
    pub fn resume(store: &Store, place: &[u8]) -> Result<Self, StoreError> {
        let fresh = Self::new(store)?;
        Ok(decode(place).map_or(fresh, |(after, progress)| Self { after, open: None, progress }))
    }

    /// How far the round is, for [`Walk::resume`].
    pub fn place(&self) -> Vec<u8> {
        let Progress { items, items_total, bytes, bytes_total, corrupt, is_done } = self.progress;
        let bytes = bytes - self.open.as_ref().map_or(0, |open| open.at);
        let w = Writer::new().u8(is_done.into()).u64(items).u64(items_total).u64(bytes).u64(bytes_total).u64(corrupt);
        w.bytes(&self.after.map(index::key).unwrap_or_default()).finish()
    }

    /// Hashes items until `budget_bytes` are read or the round is done; a large item over several steps. Returns those found corrupt, for repair.
    ///
    /// # Errors
    /// What the disk says; the next step goes on from there.
    pub fn step(&mut self, store: &Store, budget_bytes: u64) -> Result<Vec<Corrupt>, StoreError> {
        let (mut corrupt, mut left) = (Vec::new(), budget_bytes.max(1));
        for _ in 0..STEP_ITEMS_MAX {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => {
                    let Some((item, location)) = store.0.index.after(self.after, 1)?.into_iter().next() else {
                        self.progress.is_done = true;
                        break;
                    };
                    match store.kept(item) {
                        Ok(Some(kept)) => Open { item, kept, at: 0, hasher: blake3::Hasher::new() },
                        // Released since the index was read.
                        Ok(None) => {
                            self.after = Some(item);
                            continue;
                        }
                        Err(StoreError::Corrupt(found)) => {
                            self.ended(store, (item, location), Some(found), &mut corrupt)?;
                            continue;
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
            let before = open.at;
            let ended = open.read(&mut left);
            self.progress.bytes += open.at - before;
            let (item, location) = (open.item, open.kept.location);
            let found = match ended {
                Ok(Ended::Sound) => None,
                Ok(Ended::Corrupt(found)) => Some(found),
                Ok(Ended::NotYet) => {
                    self.open = Some(open);
                    break;
                }
                Err(error) => {
                    self.open = Some(open);
                    return Err(error);
                }
            };
            self.ended(store, (item, location), found, &mut corrupt)?;
            if left == 0 {
                break;
            }
        }
        Ok(corrupt)
    }

    fn ended(
        &mut self,
        store: &Store,
        (item, location): (Item, Location),
        found: Option<Corrupt>,
        corrupt: &mut Vec<Corrupt>,
    ) -> Result<(), StoreError> {
        if let Some(found) = found
            // It may have been stored anew, collected or released since.
            && store.0.index.get(item)? == Some(location)
        {
            self.progress.corrupt += 1;
            corrupt.push(found);
        }
        self.after = Some(item);
        self.progress.items += 1;
        Ok(())
    }

    /// How far it is.
    pub const fn progress(&self) -> Progress {
        self.progress
    }
}

impl Open {
    fn read(&mut self, left: &mut u64) -> Result<Ended, StoreError> {
        let (length, expected) = (u64::from(self.kept.location.len), self.kept.location.hash);
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(length).unwrap_or(PIECE_BYTES))];
        while self.at < length {
            let most = (length - self.at).min(*left).min(super::as_u64(piece.len()));
            if most == 0 {
                return Ok(Ended::NotYet);
            }
            let part = &mut piece[..usize::try_from(most).expect("at most a piece")];
            if let Err(error) = self.kept.read(self.at, part) {
                return match self.kept.failed(self.item, error) {
                    StoreError::Corrupt(found) => Ok(Ended::Corrupt(found)),
                    error => Err(error),
                };
            }
            self.hasher.update(part);
            (self.at, *left) = (self.at + most, *left - most);
        }
        Ok(match BlobId(*self.hasher.finalize().as_bytes()) {
            got if got == expected => Ended::Sound,
            got => Ended::Corrupt(Corrupt { item: self.item, expected, got: Some(got) }),
        })
    }
}

fn decode(place: &[u8]) -> Option<(Option<Item>, Progress)> {
    let mut r = Reader::new(place);
    let is_done = r.u8("done").ok()? == 1;
    let mut number = || r.u64("progress").ok();
    let progress =
        Progress { items: number()?, items_total: number()?, bytes: number()?, bytes_total: number()?, corrupt: number()?, is_done };
    let rest = place.get(41..)?;
    let after = if rest.is_empty() { None } else { Some(index::item(rest).ok()?) };
    Some((after, progress))
}

impl Store {
    /// Hashes up to `limit` items after `after`. The caller chooses the pace: a step reads its items once, one at a time in memory.
    ///
    /// # Errors
    /// What the disk says; damage is no error but what [`Scrubbed`] reports.
    pub fn scrub(&self, after: Option<Item>, limit: usize) -> Result<Scrubbed, StoreError> {
        let mut scrubbed = Scrubbed::default();
        for (item, location) in self.0.index.after(after, limit)? {
            match self.read(item, location) {
                Ok(_) => {}
                // The item may have been stored anew since the index was read.
                Err(StoreError::Corrupt(corrupt)) if self.0.index.get(item)? == Some(location) => scrubbed.corrupt.push(corrupt),
                Err(StoreError::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
            scrubbed.items += 1;
            scrubbed.bytes += u64::from(location.len);
            scrubbed.last = Some(item);
        }
        Ok(scrubbed)
    }
}
