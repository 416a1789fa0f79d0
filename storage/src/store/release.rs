//! Releasing: what is kept no longer. A record says so in the open segment, durable before the call returns, so that nobody who reads the
//! segments without the index brings the item back. The bytes go when [`Store::collect`] reaches their segment.

use std::collections::BTreeSet;

use types::id::BlobId;

use super::{Item, PAST_CAPACITY, Store, StoreError, segment::Header};
use crate::erasure::Proof;

/// Table of objects whose manifests were proved to lie: to the name of the proof, or to one byte if it found no room.
const VOIDED: &str = "voided-objects";

impl Store {
    /// Releases an item; says whether it was kept here. The last fragment of an object takes the object's manifest with it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] for a manifest whose fragments are kept here, or what the disk says; then the item is still kept. No capacity is so low that it keeps anybody
    /// from releasing.
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
        self.release_object_but(object, &BTreeSet::new())
    }

    /// The same but for some fragments, and but for the manifest if one of them is kept here; says how many others were.
    ///
    /// # Errors
    /// As [`Store::release`].
    pub fn release_object_but(&self, object: BlobId, kept: &BTreeSet<u8>) -> Result<usize, StoreError> {
        let mut writer = self.writing()?;
        let (stay, fragments): (Vec<u8>, Vec<u8>) = self.fragments_of(object)?.into_iter().partition(|index| kept.contains(index));
        let mut gone: Vec<Item> = fragments.iter().map(|index| Item::Fragment { object, index: *index }).collect();
        if stay.is_empty() && self.0.index.get(Item::Blob(object))?.is_some() {
            gone.push(Item::Blob(object));
        }
        if !gone.is_empty() {
            self.note_releases(&mut writer, &gone)?;
        }
        Ok(fragments.len())
    }

    /// Keeps nothing of an object whose manifest is proved to lie, now and later, but the proof; says how many fragments were kept here. Doing it again
    /// finishes what failed.
    ///
    /// # Errors
    /// [`StoreError::Proof`] if it convicts nobody, and as [`Store::release`]. If the proof alone found no room the object is void all the same, and
    /// nobody can be shown why.
    pub fn void(&self, proof: &Proof) -> Result<usize, StoreError> {
        self.void_but(proof, &BTreeSet::new())
    }

    /// The same, but some fragments stay for now ([`Store::release_object_but`]), for whoever is bound to show them; none is taken again.
    ///
    /// # Errors
    /// As [`Store::void`].
    pub fn void_but(&self, proof: &Proof, kept: &BTreeSet<u8>) -> Result<usize, StoreError> {
        let (object, records) = (proof.check()?.object(), self.records());
        // First the word, then the release: what is put in between is released with the rest.
        records.insert_new(VOIDED, &object.0, &[1])?;
        let fragments = self.release_object_but(object, kept)?;
        let proof = self.put(&proof.encode())?;
        records.put(VOIDED, &object.0, &proof.0)?;
        Ok(fragments)
    }

    /// The proof by which an object is void; nothing if it is not, or if the proof found no room.
    ///
    /// # Errors
    /// As [`Store::get`], and [`StoreError::Proof`] if what is kept is none.
    pub fn proof_of(&self, object: BlobId) -> Result<Option<Proof>, StoreError> {
        let Some(name) = self.records().get(VOIDED, &object.0)? else { return Ok(None) };
        let Ok(name) = <[u8; 32]>::try_from(name.as_slice()) else { return Ok(None) };
        Ok(self.get(BlobId(name))?.map(|bytes| Proof::decode(&bytes)).transpose()?)
    }

    /// Objects that are void, from `from` on, at most `limit`, in order.
    ///
    /// # Errors
    /// What the index says.
    pub fn voided(&self, from: BlobId, limit: usize) -> Result<Vec<BlobId>, StoreError> {
        let found = self.records().scan(VOIDED, &from.0, limit)?;
        Ok(found.into_iter().filter_map(|(object, _)| object.try_into().ok().map(BlobId)).collect())
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
        match self.append(writer, &records, &[], PAST_CAPACITY) {
            // What is empty goes without a byte written to a segment.
            Err(error) if error.is_disk_full() && writer.stopped.is_none() && self.drop_empty(writer)? > 0 => {
                self.append(writer, &records, &[], PAST_CAPACITY)
            }
            result => result,
        }
    }
}
