//! Scrubbing: reading what nobody asks for, before it is needed.

use super::{Corrupt, Item, Store, StoreError};

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
