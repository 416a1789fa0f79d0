//! Marks on items found rotten: durable, so that a restart does not bring a fragment back into what this store says it has. Storing the item anew
//! takes its mark away; [`Store::recheck`] looks at what is marked, and forgets what was mended or released.

use types::id::BlobId;

use super::{Item, Store, StoreError, index};

/// Table of marked items.
const ROTTEN: &str = "rotten-items";

/// What looking at marked items again found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rechecked {
    /// Still not what was stored: for repair.
    pub rotten: Vec<Item>,
    /// Stored anew or released since.
    pub mended: Vec<Item>,
}

impl Store {
    /// Marks an item as rotten; says whether it was not before.
    ///
    /// # Errors
    /// What the index says.
    pub fn mark_rotten(&self, item: Item) -> Result<bool, StoreError> {
        Ok(self.records().insert_new(ROTTEN, &index::key(item), &[1])?)
    }

    /// Up to `limit` marked items, in order.
    ///
    /// # Errors
    /// What the index says.
    pub fn rotten(&self, limit: usize) -> Result<Vec<Item>, StoreError> {
        let found = self.records().scan(ROTTEN, &[], limit)?;
        found.iter().map(|(key, _)| Ok(index::item(key).map_err(index::IndexError::from)?)).collect()
    }

    /// Indices of the object's fragments kept here and not marked, ascending: what this store may say that it has.
    ///
    /// # Errors
    /// What the index says.
    pub fn sound_fragments_of(&self, object: BlobId) -> Result<Vec<u8>, StoreError> {
        let (mut sound, records) = (self.fragments_of(object)?, self.records());
        let mut failed = None;
        sound.retain(|index| match records.get(ROTTEN, &index::key(Item::Fragment { object, index: *index })) {
            Ok(mark) => mark.is_none(),
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        failed.map_or(Ok(sound), |error| Err(error.into()))
    }

    /// Reads up to `limit` marked items again.
    ///
    /// # Errors
    /// What the disk says.
    pub fn recheck(&self, limit: usize) -> Result<Rechecked, StoreError> {
        let mut rechecked = Rechecked::default();
        for item in self.rotten(limit)? {
            match self.get_item(item) {
                Err(StoreError::Corrupt(_)) => rechecked.rotten.push(item),
                Err(error) => return Err(error),
                Ok(_) => {
                    self.records().remove(ROTTEN, &index::key(item))?;
                    rechecked.mended.push(item);
                }
            }
        }
        Ok(rechecked)
    }

    /// Takes the mark of an item away that was just stored. One that stays is looked at by the next [`Store::recheck`].
    pub(super) fn unmark(&self, item: Item) {
        let (key, records) = (index::key(item), self.records());
        let removed = records.get(ROTTEN, &key).and_then(|mark| mark.map_or(Ok(false), |_| records.remove(ROTTEN, &key)));
        if let Err(error) = removed {
            tracing::debug!(%item, %error, "the mark of an item that was stored anew stays until it is looked at again");
        }
    }
}
