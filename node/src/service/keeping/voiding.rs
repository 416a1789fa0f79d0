//! Void objects: what a proof against a manifest does here. It is checked before anything follows, whoever sends it; then every fragment of the object and its
//! manifest are released, none is taken again, repair and audits forget it, and the proof is kept for those who do not know yet
//! ([`crate::service::upkeep`] shows it to them).
//!
//! A fragment that a living commitment of this node lists stays until that is over, offered to nobody: a contract that asks for its bytes cannot check such a proof, and who writes a
//! false manifest would else have every honest holder slashed.
//!
//! Checking costs an encoding of the object and memory of some times its size, so one long proof is taken in at a time, and it is checked only if something of the
//! object is here.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, ensure};
use p2p::stream::FrameStream;
use storage::{
    erasure::{PROOF_BYTES_MAX, Proof},
    proto::keeping::Reply,
};
use types::id::{BlobId, NodeId};

use super::{Keeping, Notice};
use crate::{
    datanet::{
        exchange::{recv_message, send_message},
        keeping::show,
    },
    service::auditing::bound,
};

impl Keeping {
    /// Takes one proof in.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn serve_proof(&self, remote: NodeId, stream: FrameStream) -> anyhow::Result<()> {
        let (mut sender, mut receiver) = stream.split();
        let bytes = recv_message(&mut receiver, PROOF_BYTES_MAX, Some(&self.proofs)).await?;
        let reply = match self.shown(bytes).await {
            Ok(()) => Reply::Heard,
            Err(error) => {
                tracing::info!(%remote, error = format!("{error:#}"), "a proof that voids nothing here");
                Reply::Refused(format!("{error:#}"))
            }
        };
        send_message(&mut sender, &reply.encode()).await?;
        Ok(())
    }

    async fn shown(&self, bytes: Vec<u8>) -> anyhow::Result<()> {
        let _turn = self.proofs.acquire().await?;
        let proof = tokio::task::spawn_blocking(move || Proof::decode(&bytes)).await??;
        let object = proof.object();
        let is_here = !self.store.fragments_of(object)?.is_empty() || self.record(object)?.is_some();
        ensure!(is_here, "nothing of object {object} is kept here");
        self.void(proof).await
    }

    /// Voids an object by a proof, which is checked.
    ///
    /// # Errors
    /// That it convicts nobody, or what the disk says.
    pub async fn void(&self, proof: Proof) -> anyhow::Result<()> {
        let (store, object) = (self.store.clone(), proof.object());
        // No list is made while this goes: what one names stays.
        let turn = self.turn.lock().await;
        let kept = self.bound_to(object)?;
        let is_settled = store.fragments_of(object)?.iter().all(|index| kept.contains(index));
        if store.is_void(object)? && is_settled && (kept.is_empty() || matches!(store.proof_of(object), Ok(Some(_)))) {
            return Ok(());
        }
        let voided = tokio::task::spawn_blocking(move || store.void_but(&proof, &kept)).await?;
        drop(turn);
        match voided {
            Ok(fragments) => {
                tracing::error!(%object, fragments, "an object is void: its manifest was proved to be a lie, nothing of it is kept")
            }
            Err(error) if self.store.is_void(object)? => {
                tracing::error!(%object, %error, "an object is void: its manifest was proved to be a lie; not all that follows was done");
            }
            Err(error) => return Err(error).context("a proof against a manifest"),
        }
        self.notice(Notice::Void(object));
        self.voided.notify_one();
        Ok(())
    }

    /// Voids an object here, and shows the proof to its other holders.
    ///
    /// # Errors
    /// As [`Keeping::void`].
    pub async fn void_everywhere(self: &Arc<Self>, proof: Proof) -> anyhow::Result<()> {
        let object = proof.object();
        self.void(proof.clone()).await?;
        let others = self.others(object).await?.into_iter().map(|(_, storer)| (storer.node, storer.addr)).collect();
        for (node, reason) in show(&self.bulk, others, &proof).await {
            tracing::info!(%object, %node, reason, "a holder does not void an object yet: it is shown the proof again");
        }
        Ok(())
    }

    /// Releases what is left of a void object, but for the fragments that a commitment of this node lists. Blocks, and not for async tasks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn release_void(&self, object: BlobId) -> anyhow::Result<usize> {
        let _turn = self.turn.blocking_lock();
        Ok(self.store.release_object_but(object, &self.bound_to(object)?)?)
    }

    /// Fragments of an object that this node is bound to show.
    ///
    /// # Errors
    /// What the disk says.
    fn bound_to(&self, object: BlobId) -> anyhow::Result<BTreeSet<u8>> {
        let bound = bound(self)?;
        Ok(bound.range((object, 0)..=(object, u8::MAX)).map(|(_, fragment)| *fragment).collect())
    }

    /// Whether an object is void.
    ///
    /// # Errors
    /// What the disk says.
    pub fn is_void(&self, object: BlobId) -> anyhow::Result<bool> {
        Ok(self.store.is_void(object)?)
    }
}
