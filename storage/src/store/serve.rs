//! Serving: a peer's request carried out on the store. What may be served at all is [`Admission`](crate::proto::provide::Admission)'s.

use types::id::BlobId;

use super::{Store, StoreError};
use crate::{
    erasure::ObjectManifest,
    proto::{
        message::{Refusal, Reply, Request},
        provide::{Damaged, PutFacts, PutPlan, answer_get, plan_put},
    },
};

impl Store {
    /// Carries a request out. `assigned` says which fragment of an object placement gives this node. Blocks on the disk.
    ///
    /// Failures of this disk are logged here and told to the peer without detail.
    pub fn serve(&self, request: Request, assigned: impl FnOnce(&ObjectManifest) -> Option<u8>) -> Reply {
        match request {
            Request::Put { manifest, index, fragment } => {
                let facts = |manifest: &ObjectManifest| PutFacts { free_bytes: self.free_bytes(), assigned: assigned(manifest) };
                plan_put(&manifest, index, fragment, facts).map_or_else(Reply::Refused, |plan| self.keep(&plan))
            }
            Request::Locate { object } => self.located(object),
            Request::Get { object, index } => answer_get(object, index, self.get_fragment(object, index).map_err(|error| damage(&error))),
        }
    }

    fn keep(&self, PutPlan { manifest, fragment }: &PutPlan) -> Reply {
        match self.put_fragment(manifest, fragment) {
            Ok(()) => Reply::Stored { object: fragment.object(), index: fragment.index() },
            Err(StoreError::Full { used, capacity, need }) => Reply::Refused(Refusal::Full { free: capacity.saturating_sub(used), need }),
            Err(error) => {
                damage(&error);
                Reply::Refused(Refusal::Failed)
            }
        }
    }

    fn located(&self, object: BlobId) -> Reply {
        let held = self.get(object).and_then(|manifest| Ok((manifest, self.fragments_of(object)?)));
        match held {
            Ok((Some(manifest), indices)) if !indices.is_empty() => Reply::Located { object, manifest, indices },
            Ok(_) => Reply::Refused(Refusal::Unknown { object }),
            Err(error) => {
                damage(&error);
                Reply::Refused(Refusal::Failed)
            }
        }
    }
}

fn damage(error: &StoreError) -> Damaged {
    tracing::error!(%error, "the store cannot serve an item it keeps");
    if matches!(error, StoreError::Corrupt(_)) { Damaged::Rotten } else { Damaged::Disk }
}
