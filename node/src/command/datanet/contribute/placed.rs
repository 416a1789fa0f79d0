//! An accepted shard on its way to its holders, and the record that tells all of them who holds what.

use anyhow::{Context as _, ensure};
use futures::future::join_all;
use storage::{erasure::Encoded, proto::keeping::Record};
use types::{
    contribution::Priority,
    id::{Address, BlobId, Hash32},
    key::Signed,
    placement::Placement,
};

use super::{
    rows::Dropped,
    run::{Contributed, Run},
};
use crate::datanet::{
    keeping::{Registered, look, tell},
    placing::{self, Storer, Storers},
    spread::{Holder, spread},
};

/// What the chain has of a contribution.
pub(super) struct Facts {
    pub(super) number: u64,
    pub(super) text_root: Hash32,
    pub(super) text_bytes: u64,
    pub(super) documents: u32,
    pub(super) priority: Priority,
}

impl Run<'_> {
    pub(super) async fn spread(&self, facts: Facts, encoded: Encoded, dropped: Vec<Dropped>) -> anyhow::Result<Contributed> {
        let object = encoded.manifest.id();
        let again = || {
            format!(
                "contribution {} of Datanet {} is accepted, but not yet where it belongs: run the same command again",
                facts.number, self.datanet
            )
        };
        let registered = self.registered(object).await.with_context(again)?;
        let (seed_block, _) = registered.accepted.accepted;
        let (holders, record) = self.holders(&encoded, &registered).await.with_context(again)?;
        let mut progress = self.context.output.progress("fragments kept by their holders", holders.len() as u64);
        let placed = spread(&self.network.bulk, &encoded, &holders, |kept| progress.set(kept)).await;
        progress.finish();
        let placed = placed.with_context(again)?;
        self.tell(&encoded, &holders, record, seed_block).await.with_context(again)?;
        Ok(Contributed {
            datanet: self.datanet.0,
            contribution: facts.number,
            contributor: self.me,
            text_root: facts.text_root,
            object,
            documents: facts.documents,
            text_bytes: facts.text_bytes,
            priority: facts.priority,
            seed_block,
            dropped,
            redacted: Vec::new(),
            notes: Vec::new(),
            approved_by: Vec::new(),
            holders: placed,
        })
    }

    async fn registered(&self, object: BlobId) -> anyhow::Result<Registered> {
        let state = self.chain.state().await?;
        let found = Registered::find(&self.chain.client, &state, object).await?;
        found.with_context(|| format!("object {object} is not registered"))
    }

    /// The holders, with the record that names them if an earlier run or repair has left one; else by the hash of the block that accepted it.
    async fn holders(&self, encoded: &Encoded, registered: &Registered) -> anyhow::Result<(Vec<Holder>, Option<Record>)> {
        let manifest = &encoded.manifest;
        let state = self.chain.state().await?;
        let chain_id = self.chain.deployment().chain_id;
        let storers = self.network.operators(&state, manifest.profile().total().into(), chain_id).await?;
        let holder = |(account, storer): (Address, Storer)| Holder { account, node: storer.node, addr: storer.addr };
        let record = self.recorded(registered, &storers).await?;
        let Some(record) = record else {
            let fit = self.network.fit(storers).await?;
            let placed = placing::place(registered.seed, manifest.id(), manifest.profile(), &fit, &registered.rules.regions)?;
            return Ok((placed.into_iter().map(holder).collect(), None));
        };
        let assignment = registered.assignment(&record)?;
        let here = |(fragment, account): (u8, Address)| {
            let storer = storers.get(&account).with_context(|| format!("{account}, who holds fragment {fragment}, is not heard: start its node, or wait until its fragments are mended elsewhere"))?;
            Ok(holder((account, *storer)))
        };
        Ok((assignment.holders().map(here).collect::<anyhow::Result<_>>()?, Some(record)))
    }

    /// What holders have written down of an object, taken together; nothing if none has.
    async fn recorded(&self, registered: &Registered, storers: &Storers) -> anyhow::Result<Option<Record>> {
        let (bulk, object) = (&self.network.bulk, registered.accepted.object);
        let epoch_blocks = self.context.config()?.keeping.epoch_blocks;
        let words = join_all(storers.values().map(|storer| look(bulk, storer.node, storer.addr, object))).await;
        let mut known: Option<Record> = None;
        for record in words.into_iter().filter_map(|word| word.ok()?.record) {
            if let Err(error) = registered.check(&self.chain.client, epoch_blocks, &record, known.as_ref()).await {
                tracing::warn!(%object, error = format!("{error:#}"), "a holder has a record that does not stand");
                continue;
            }
            match &mut known {
                None => known = Some(record),
                Some(known) => {
                    known.merge(&record)?;
                }
            }
        }
        Ok(known)
    }

    /// Tells every holder who holds what, so that they all know the same from now on.
    async fn tell(&self, encoded: &Encoded, holders: &[Holder], record: Option<Record>, block: u64) -> anyhow::Result<()> {
        let record = match record {
            Some(record) => record,
            None => {
                let client = &self.chain.client;
                let document = Placement {
                    contributor: self.me,
                    object: encoded.manifest.id(),
                    block,
                    data: encoded.manifest.profile().data(),
                    holders: holders.iter().map(|holder| holder.account).collect(),
                };
                Record::new(Signed::new(client.account("signing who holds a contribution")?, &client.domains(), document))
            }
        };
        let refused = tell(&self.network.bulk, holders.iter().map(|holder| (holder.node, holder.addr)).collect(), &record).await;
        let list: Vec<_> = refused.iter().map(|(node, reason)| format!("{node}: {reason}")).collect();
        ensure!(list.is_empty(), "{} of {} holders did not take down who holds what: {}", list.len(), holders.len(), list.join("; "));
        Ok(())
    }
}
