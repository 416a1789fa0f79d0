//! An accepted shard on its way to its holders, and the record that tells all of them who holds what.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use futures::future::join_all;
use storage::{
    erasure::{Encoded, Profile},
    proto::{
        keeping::Record,
        placement::{Draw, Rules, View},
        spread::SpreadError,
    },
};
use types::{
    contribution::Priority,
    id::{Address, BlobId, Hash32, NodeId},
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
    seeds::Seeds,
    spread::{Holder, Placed, spread},
};

/// What the chain has of a contribution.
pub(super) struct Facts {
    pub(super) number: u64,
    pub(super) text_root: Hash32,
    pub(super) text_bytes: u64,
    pub(super) documents: u32,
    pub(super) priority: Priority,
}

/// Where the fragments of an object lie.
struct Lies {
    placed: Vec<Placed>,
    holders: Vec<Holder>,
    /// Who holds what, if that was written down before.
    record: Option<Record>,
    /// Operators with room that were drawn for nothing, since others' books of audits have suspended them.
    suspended: Vec<Address>,
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
        let Lies { placed, holders, record, suspended } = self.place(&encoded, &registered).await.with_context(again)?;
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
            suspended,
        })
    }

    async fn registered(&self, object: BlobId) -> anyhow::Result<Registered> {
        let state = self.chain.state().await?;
        let found = Registered::find(&state, object)?;
        found.with_context(|| format!("object {object} is not registered"))
    }

    /// Has every fragment kept: where the record says that an earlier run or repair has left, else by the hash of the block that accepted the contribution, with
    /// nobody whom others' books of audits have suspended. In the place of a holder that does not take its fragment the next one is drawn, as long as holders let that pass.
    async fn place(&self, encoded: &Encoded, registered: &Registered) -> anyhow::Result<Lies> {
        let (object, profile) = (encoded.manifest.id(), encoded.manifest.profile());
        let mut storers = self.storers(profile).await?;
        if let Some(record) = self.recorded(registered, &storers).await? {
            let holders = named(registered, &record, &storers)?;
            let placed = self.spread_to(encoded, &holders, &mut BTreeSet::new()).await??;
            return Ok(Lies { placed, holders, record: Some(record), suspended: Vec::new() });
        }
        let suspended = self.network.suspended(&storers).await?;
        let is_passed_over = |operator: &&Address| storers.get(*operator).is_some_and(|storer| storer.has_room);
        let passed_over: Vec<Address> = suspended.iter().filter(is_passed_over).copied().collect();
        let rules = Rules::of(profile, registered.rules.regions.clone());
        let (mut draw, mut stored) = (Draw::new(registered.seed, object, profile, rules), BTreeSet::new());
        let mut failed: Option<SpreadError> = None;
        loop {
            storers.retain(|operator, _| !suspended.contains(operator));
            let drawn = draw.holders(View { sites: &placing::sites(&storers), full: &placing::full(&storers) });
            let drawn = match (drawn, failed.take()) {
                (Ok(drawn), _) => drawn,
                (Err(error), None) => return Err(error.into()),
                (Err(error), Some(failed)) => return Err(anyhow::Error::new(failed).context(error)),
            };
            let holders: Vec<_> = drawn.iter().filter_map(|account| Some(holder(*account, storers.get(account)?))).collect();
            let error = match self.spread_to(encoded, &holders, &mut stored).await? {
                Ok(placed) => return Ok(Lies { placed, holders, record: None, suspended: passed_over }),
                Err(error) => error,
            };
            let Some(unwilling) = error.unwilling() else { return Err(error.into()) };
            // At most as many rounds as there are operators: each leaves one out that was drawn.
            for left_out in holders.iter().filter(|holder| unwilling.contains(&holder.node)) {
                draw.leave_out(left_out.account);
                let why = error.failures.values().find(|(node, _)| *node == left_out.node).map(|(_, failure)| failure.to_string());
                let why = why.unwrap_or_default();
                self.context
                    .output
                    .note(&format!("{} does not take its fragment ({why}): another operator is drawn in its place", left_out.account));
            }
            self.network.hears_full(&error.full()).await?;
            storers = self.storers(profile).await?;
            failed = Some(error);
        }
    }

    async fn storers(&self, profile: Profile) -> anyhow::Result<Storers> {
        let state = self.chain.state().await?;
        self.network.operators(&state, profile.total().into(), self.chain.deployment().chain_id).await
    }

    async fn spread_to(
        &self,
        encoded: &Encoded,
        holders: &[Holder],
        stored: &mut BTreeSet<(u8, NodeId)>,
    ) -> anyhow::Result<Result<Vec<Placed>, SpreadError>> {
        let mut progress = self.context.output.progress("fragments kept by their holders", holders.len() as u64);
        let placed = spread(&self.network.bulk, encoded, holders, stored, |kept| progress.set(kept)).await;
        progress.finish();
        placed
    }

    /// What holders have written down of an object, taken together; nothing if none has.
    async fn recorded(&self, registered: &Registered, storers: &Storers) -> anyhow::Result<Option<Record>> {
        let (bulk, object) = (&self.network.bulk, registered.accepted.object);
        let epoch_blocks = self.context.config()?.keeping.epoch_blocks;
        let seeds = Seeds::new(self.chain.client.clone(), self.chain.snapshots(), epoch_blocks);
        let words = join_all(storers.values().map(|storer| look(bulk, storer.node, storer.addr, object))).await;
        let mut known: Option<Record> = None;
        for record in words.into_iter().filter_map(|word| word.ok()?.record) {
            if let Err(error) = registered.check(&seeds, &record, known.as_ref()).await {
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

fn holder(account: Address, storer: &Storer) -> Holder {
    Holder { account, node: storer.node, addr: storer.addr }
}

/// The holders that a record names, who all must be there.
fn named(registered: &Registered, record: &Record, storers: &Storers) -> anyhow::Result<Vec<Holder>> {
    let here = |(fragment, account): (u8, Address)| {
        let storer = storers.get(&account).with_context(|| {
            format!(
                "{account}, who holds fragment {fragment}, is not heard: start its node, or wait until its fragments are mended elsewhere"
            )
        })?;
        Ok(holder(account, storer))
    };
    registered.assignment(record)?.holders().map(here).collect()
}
