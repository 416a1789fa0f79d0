//! Scrubbing: reading what nobody asks for, before it is needed. [`Walk`] goes through a whole store in steps; the caller chooses the pace: at
//! 5 MB/s a store of 64 GiB is read in some four hours.

use serde::Serialize;

use super::{Corrupt, Item, Store, StoreError};

/// Items looked at in one step, at most: so many manifests are read in some 10 ms.
const STEP_ITEMS_MAX: usize = 1024;

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
    progress: Progress,
}

impl Walk {
    /// A round from the beginning.
    ///
    /// # Errors
    /// What the index says.
    pub fn new(store: &Store) -> Result<Self, StoreError> {
        let usage = store.usage()?;
        let progress = Progress { items_total: usage.items, bytes_total: usage.live_bytes, ..Progress::default() };
        Ok(Self { after: None, progress })
    }

    /// Hashes items until `budget_bytes` are read or the round is done, and at least one item; returns those found corrupt, for repair.
    ///
    /// # Errors
    /// What the disk says; the next step tries the same item again.
    pub fn step(&mut self, store: &Store, budget_bytes: u64) -> Result<Vec<Corrupt>, StoreError> {
        let (mut corrupt, mut bytes) = (Vec::new(), 0);
        for _ in 0..STEP_ITEMS_MAX {
            let scrubbed = store.scrub(self.after, 1)?;
            self.progress.is_done = scrubbed.last.is_none();
            let Some(last) = scrubbed.last else { break };
            self.after = Some(last);
            self.progress.items += 1;
            self.progress.bytes += scrubbed.bytes;
            self.progress.corrupt += super::as_u64(scrubbed.corrupt.len());
            corrupt.extend(scrubbed.corrupt);
            bytes += scrubbed.bytes;
            if bytes >= budget_bytes {
                break;
            }
        }
        Ok(corrupt)
    }

    /// How far it is.
    pub const fn progress(&self) -> Progress {
        self.progress
    }
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
