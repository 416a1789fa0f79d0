//! What a Datanet knows of the documents that were accepted: in memory here, in a folder by `disk` (feature `disk`).

use std::{collections::BTreeMap, convert::Infallible};

use types::{contribution::Priority, id::BlobId};

use super::dedup::{Batch, Index, Match};

/// Accepted documents that can be asked for copies.
pub trait Known {
    /// Why it does not answer.
    type Error;

    /// For each text, by its digest, the earliest document that is exactly it.
    ///
    /// # Errors
    /// As the implementation says.
    fn firsts(&self, digests: &[BlobId]) -> Result<Vec<Option<Priority>>, Self::Error>;

    /// For each document of a batch, the earliest near copy before `before`.
    ///
    /// # Errors
    /// As the implementation says.
    fn earliest(&self, batch: &Batch, before: Priority) -> Result<Vec<Option<Match>>, Self::Error>;
}

/// All of it in memory: what one contribution is held against, and a private Datanet.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub(super) firsts: BTreeMap<BlobId, Priority>,
    pub(super) near: Index,
}

impl Known for Memory {
    type Error = Infallible;

    fn firsts(&self, digests: &[BlobId]) -> Result<Vec<Option<Priority>>, Infallible> {
        Ok(digests.iter().map(|digest| self.firsts.get(digest).copied()).collect())
    }

    fn earliest(&self, batch: &Batch, before: Priority) -> Result<Vec<Option<Match>>, Infallible> {
        let accepted = self.near.earlier_than(before);
        Ok(self.near.earliest(batch, |_| accepted))
    }
}
