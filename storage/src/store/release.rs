//! Releasing: what is kept no longer. A record says so in the open segment, durable before the call returns, so that nobody who reads the
//! segments without the index brings the item back. The bytes go when [`Store::collect`] reaches their segment.

use types::id::BlobId;

use super::{Item, Store, StoreError, segment::Header};
use crate::erasure::Voided;

/// Table of objects whose manifests were proved to lie.
const VOIDED: &str = "voided-objects";

impl Store {
    /// Releases an item; says whether it was kept here. The last fragment of an object takes the object's manifest with it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] for a manifest whose fragments are kept here, [`StoreError::Full`] if not even the record of the release fits before
    /// something is collected, or what the disk says; then the item is still kept.
    pub fn release(&self, item: Item) -> Result<bool, StoreError> {
        let mut writer = self.writing()?;
        if self.0.index.get(item)?.is_none() {
            return Ok(false);
        }
        let mut gone = vec![item];
        match item {
            Item::Blob(id) => {
                let fragments = self.fragments_of(id)?.len();
                if fragments > 0 {
                    return Err(StoreError::InUse { object: id, fragments });
                }
            }
            Item::Fragment { object, index } => {
                let manifest = Item::Blob(object);
                if self.fragments_of(object)? == [index] && self.0.index.get(manifest)?.is_some() {
                    gone.push(manifest);
                }
            }
        }
        self.note_releases(&mut writer, &gone)?;
        Ok(true)
    }

    /// Releases every fragment of an object and its manifest, all or none; says how many fragments were kept here.
    ///
    /// # Errors
    /// As [`Store::release`].
    pub fn release_object(&self, object: BlobId) -> Result<usize, StoreError> {
        let mut writer = self.writing()?;
        let fragments = self.fragments_of(object)?;
        let mut gone: Vec<Item> = fragments.iter().map(|index| Item::Fragment { object, index: *index }).collect();
        if self.0.index.get(Item::Blob(object))?.is_some() {
            gone.push(Item::Blob(object));
        }
        if !gone.is_empty() {
            self.note_releases(&mut writer, &gone)?;
        }
        Ok(fragments.len())
    }

    /// Keeps nothing of an object whose manifest was proved to lie, now and later; says how many fragments were kept here.
    ///
    /// # Errors
    /// As [`Store::release`].
    pub fn void(&self, voided: &Voided) -> Result<usize, StoreError> {
        let object = voided.object();
        // First the word, then the release: what is put in between is released with the rest.
        self.records().put(VOIDED, &object.0, &[1])?;
        self.release_object(object)
    }

    /// Whether an object was proved to have no meaning.
    ///
    /// # Errors
    /// What the index says.
    pub fn is_void(&self, object: BlobId) -> Result<bool, StoreError> {
        Ok(self.records().get(VOIDED, &object.0)?.is_some())
    }

    fn note_releases(&self, writer: &mut super::Writer, gone: &[Item]) -> Result<(), StoreError> {
        let records: Vec<(Header, &[u8])> = gone.iter().map(|item| (Header::release(*item), &[][..])).collect();
        self.append(writer, &records, &[], self.0.config.releasable_bytes())
    }
}
