//! Objects that were erased on request, as holders stand to them: refused from the request's block on, and known to be gone once they are.

use anyhow::Context as _;
use chain_bridge::registry::Erasure;
use storage::proto::message::Refusal;
use types::{encoding::Writer, id::BlobId};

use super::{CHECKED, Keeping, Notice, TABLE};

/// Objects of which nothing is on this disk since they were erased, each with the place of its request: after another one there may be again.
const GONE: &str = "erased";
/// Who held an object when it was erased: a record as in the table of holders, 1 to 3 kB. Whoever asked for it to be erased learns from it whom it has not heard.
const HELD: &str = "holders-erased";

impl Keeping {
    /// The refusal that an object falls to; nothing if it is not erased.
    ///
    /// # Errors
    /// What the disk says.
    pub fn erased(&self, object: BlobId) -> anyhow::Result<Option<Refusal>> {
        let state = self.state();
        let Some(erasure) = state.erased_object(object) else { return Ok(None) };
        Ok(Some(Refusal::Erased { object, block: erasure.block(), is_gone: self.is_gone(object, erasure)? }))
    }

    /// Whether nothing of an object is on this disk since a request.
    ///
    /// # Errors
    /// What the disk says.
    pub fn is_gone(&self, object: BlobId, erasure: &Erasure) -> anyhow::Result<bool> {
        Ok(self.store.records().get(GONE, &object.0)? == Some(place(erasure)))
    }

    /// The record of an erased object's holders, as it last was.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn last_holders(&self, object: BlobId) -> anyhow::Result<Option<Vec<u8>>> {
        let records = self.store.records();
        Ok(match records.get(TABLE, &object.0)? {
            Some(record) => Some(record),
            None => records.get(HELD, &object.0)?,
        })
    }

    /// Writes down that nothing of it is left.
    ///
    /// # Errors
    /// What the disk says.
    pub fn note_gone(&self, object: BlobId, erasure: &Erasure) -> anyhow::Result<()> {
        self.store.records().put(GONE, &object.0, &place(erasure)).context("that an object is gone")
    }

    /// Releases an object's fragments and forgets who holds it; says how many fragments lay here. Blocks.
    ///
    /// # Errors
    /// What the disk says; it may be asked for again.
    pub fn drop_object(&self, object: BlobId) -> anyhow::Result<usize> {
        // First the record: repair and audits go by it. A run that was cut off has moved it already.
        let records = self.store.records();
        if let Some(record) = records.get(TABLE, &object.0)? {
            records.put(HELD, &object.0, &record)?;
        }
        records.remove(TABLE, &object.0)?;
        self.store.records().remove(CHECKED, &object.0)?;
        self.notice(Notice::Record(object));
        Ok(self.store.release_object(object)?)
    }
}

fn place(erasure: &Erasure) -> Vec<u8> {
    let (block, log) = erasure.place;
    Writer::new().u64(block).u32(log).finish()
}
