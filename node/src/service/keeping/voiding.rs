//! Void objects: what a proof against a manifest does here. It is checked before anything follows, whoever sends it; then every fragment of the object and its
//! manifest are released, none is taken again, repair and audits forget it, and the proof is kept for those who do not know yet
//! ([`crate::service::upkeep`] shows it to them).
//!
//! Checking costs an encoding of the object and memory of some times its size, so one long proof is taken in at a time, and it is checked only if something of the
//! object is here.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use p2p::stream::FrameStream;
use storage::{
    erasure::{PROOF_BYTES_MAX, Proof},
    proto::keeping::Reply,
};
use types::id::{BlobId, NodeId};

use super::{Keeping, Notice};
use crate::datanet::{
    exchange::{recv_message, send_message},
    keeping::show,
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
        if store.is_void(object)? && store.fragments_of(object)?.is_empty() {
            return Ok(());
        }
        let voided = tokio::task::spawn_blocking(move || store.void(&proof)).await?;
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

    /// Whether an object is void.
    ///
    /// # Errors
    /// What the disk says.
    pub fn is_void(&self, object: BlobId) -> anyhow::Result<bool> {
        Ok(self.store.is_void(object)?)
    }
}
