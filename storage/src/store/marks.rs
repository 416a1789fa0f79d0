//! Marks on items found rotten: durable, so that a restart does not bring a fragment back into what this store says it has. Whoever reads finds rot, not the scrub alone, so every read that finds it
//! marks it; opening marks what was lost with a segment. Storing the item anew takes its mark away; [`Store::recheck`] looks at what is marked, and forgets what was mended or released.

use types::id::BlobId;

use super::{Item, Store, StoreError, index};

/// Table of marked items.
const ROTTEN: &str = "rotten-items";
/// Marks written in one commit while a store is opened: a lost segment of 256 MiB may have held thousands of items.
const BATCH: usize = 1024;

/// What looking at marked items again found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rechecked {
    /// Still not what was stored: for repair.
    pub rotten: Vec<Item>,
    /// Stored anew or released since.
    pub mended: Vec<Item>,
    /// The last item looked at, to go on after; nothing at the end.
    pub last: Option<Item>,
}

impl Store {
    /// Marks an item as rotten; says whether it was not before.
    ///
    /// # Errors
    /// What the index says.
    pub fn mark_rotten(&self, item: Item) -> Result<bool, StoreError> {
        if self.is_rotten(item)? {
            return Ok(false);
        }
        let is_new = self.records().insert_new(ROTTEN, &index::key(item), &[1])?;
        if is_new {
            tracing::error!(%item, "is no longer what was stored: it is marked, and had anew from other holders if there are any");
        }
        Ok(is_new)
    }

    /// Whether an item is marked.
    ///
    /// # Errors
    /// What the index says.
    pub fn is_rotten(&self, item: Item) -> Result<bool, StoreError> {
        Ok(self.records().get(ROTTEN, &index::key(item))?.is_some())
    }

    /// Items that are marked.
    ///
    /// # Errors
    /// What the index says.
    pub fn rotten_count(&self) -> Result<u64, StoreError> {
        Ok(self.records().count(ROTTEN)?)
    }

    /// Up to `limit` marked items, in order.
    ///
    /// # Errors
    /// What the index says.
    pub fn rotten(&self, limit: usize) -> Result<Vec<Item>, StoreError> {
        self.rotten_after(None, limit)
    }

    fn rotten_after(&self, after: Option<Item>, limit: usize) -> Result<Vec<Item>, StoreError> {
        // The least key after it.
        let from = after.map_or_else(Vec::new, |item| [index::key(item), vec![0]].concat());
        let found = self.records().scan(ROTTEN, &from, limit)?;
        found.iter().map(|(key, _)| Ok(index::item(key).map_err(index::IndexError::from)?)).collect()
    }

    /// Indices of the object's fragments kept here and not marked, ascending: what this store may say that it has. None while the object's manifest is marked, without which
    /// no fragment can be shown to be one.
    ///
    /// # Errors
    /// What the index says.
    pub fn sound_fragments_of(&self, object: BlobId) -> Result<Vec<u8>, StoreError> {
        let (kept, mut sound) = (self.fragments_of(object)?, Vec::new());
        if kept.is_empty() || self.is_rotten(Item::Blob(object))? {
            return Ok(sound);
        }
        for index in kept {
            if !self.is_rotten(Item::Fragment { object, index })? {
                sound.push(index);
            }
        }
        Ok(sound)
    }

    /// Reads up to `limit` marked items after `after` again.
    ///
    /// # Errors
    /// What the disk says.
    pub fn recheck(&self, after: Option<Item>, limit: usize) -> Result<Rechecked, StoreError> {
        let mut rechecked = Rechecked::default();
        for item in self.rotten_after(after, limit)? {
            match self.get_item(item) {
                Err(StoreError::Corrupt(_)) => rechecked.rotten.push(item),
                Err(error) => return Err(error),
                Ok(_) => {
                    self.records().remove(ROTTEN, &index::key(item))?;
                    rechecked.mended.push(item);
                }
            }
            rechecked.last = Some(item);
        }
        Ok(rechecked)
    }

    /// Marks what a read found. If that fails the next reader finds it again.
    pub(super) fn note_corrupt(&self, item: Item) {
        if let Err(error) = self.mark_rotten(item) {
            tracing::error!(%item, %error, "has rotted, and cannot be marked");
        }
    }

    /// Marks what opening found to be gone with a segment or its end. A disk that is too full for marks keeps nobody from opening the store: whoever reads such an item finds it again.
    pub(super) fn mark_lost(&self, lost: &[Item]) {
        let keys: Vec<Vec<u8>> = lost.iter().map(|item| index::key(*item)).collect();
        for batch in keys.chunks(BATCH) {
            let marks: Vec<(&str, &[u8], &[u8])> = batch.iter().map(|key| (ROTTEN, key.as_slice(), &[1][..])).collect();
            if let Err(error) = self.records().put_all(&marks) {
                return tracing::error!(%error, items = lost.len(), "items are gone from the disk, and cannot all be marked");
            }
        }
    }

    /// Takes the mark of an item away that was just stored, or found to be whole by who would store it. One that stays is looked at by the next [`Store::recheck`].
    pub(super) fn unmark(&self, item: Item) {
        let (key, records) = (index::key(item), self.records());
        let removed = records.get(ROTTEN, &key).and_then(|mark| mark.map_or(Ok(false), |_| records.remove(ROTTEN, &key)));
        if let Err(error) = removed {
            tracing::debug!(%item, %error, "the mark of an item that was stored anew stays until it is looked at again");
        }
    }
}
