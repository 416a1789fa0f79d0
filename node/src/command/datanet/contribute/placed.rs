//! An accepted shard on its way to its holders, and the record that tells all of them who holds what.
//!
//! The first run ends when every fragment lies with a holder that was drawn for it, others in the place of those that do not take theirs. Once the contributor has signed who holds what, nobody is drawn any
//! more: a run over a record sends what is missing to the named holders that are heard, and ends when as many hold and know it as an object has that repair leaves alone
//! ([`SpreadError::is_left_to_repair`]). What the others should hold is mended with the first fragments that are lost, by those who have the record; who comes back hears it from them.

use std::{collections::BTreeSet, fmt};

use anyhow::{Context as _, ensure};
use futures::future::join_all;
use serde::Serialize;
use storage::{
    erasure::Encoded,
    proto::{
        keeping::Record,
        placement::{Draw, Rules, View},
        repair::floor,
        spread::{Failure, SpreadError},
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
    spread::{self, Holder, Placed},
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
    /// What is left to repair, if there is a record.
    left: Vec<Left>,
    /// Operators with room that were drawn for nothing, since others' books of audits have suspended them.
    suspended: Vec<Address>,
}

/// A fragment that its holder has not got, and that is left to repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    fragment: u8,
    account: Address,
    why: String,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fragment, account, why } = self;
        write!(
            f,
            "fragment {fragment} is not with {account} ({why}): enough others are kept, and it is mended with the next ones that are lost"
        )
    }
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
        let Lies { placed, holders, record, left, suspended } = self.place(&encoded, &registered).await.with_context(again)?;
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
            left_to_repair: left,
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
        // As many as a run over a record needs.
        let storers = self.storers(floor(profile)).await?;
        if let Some(record) = self.recorded(registered, &storers).await? {
            let holders = self.named(registered, &record, &storers).await?;
            let mut stored = BTreeSet::new();
            let (placed, left) = match self.spread_to(encoded, &holders, &mut stored).await? {
                Ok(placed) => (placed, Vec::new()),
                Err(error) if error.is_left_to_repair(profile) => (spread::placed(encoded, &holders, &stored), left(&holders, &error)),
                Err(error) => return Err(error.into()),
            };
            return Ok(Lies { placed, holders, record: Some(record), left, suspended: Vec::new() });
        }
        let mut storers = self.storers(profile.total()).await?;
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
                Ok(placed) => return Ok(Lies { placed, holders, record: None, left: Vec::new(), suspended: passed_over }),
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
            storers = self.storers(profile.total()).await?;
            failed = Some(error);
        }
    }

    async fn storers(&self, least: u8) -> anyhow::Result<Storers> {
        let state = self.chain.state().await?;
        self.network.operators(&state, least.into(), self.chain.deployment().chain_id).await
    }

    async fn spread_to(
        &self,
        encoded: &Encoded,
        holders: &[Holder],
        stored: &mut BTreeSet<(u8, NodeId)>,
    ) -> anyhow::Result<Result<Vec<Placed>, SpreadError>> {
        let mut progress = self.context.output.progress("fragments kept by their holders", holders.len() as u64);
        let placed = spread::spread(&self.network.bulk, encoded, holders, stored, |kept| progress.set(kept)).await;
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
        let is_known = record.is_some();
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
        let heard: Vec<_> = holders.iter().filter_map(|holder| Some((holder.node, holder.addr?))).collect();
        let asked = heard.len();
        let refused = tell(&self.network.bulk, heard, &record).await;
        // A first record is known to all, or it is not signed for good; one that stands is passed on by those who know it.
        let needed = if is_known { floor(encoded.manifest.profile()).into() } else { holders.len() };
        let list: Vec<_> = refused.iter().map(|(node, reason)| format!("{node}: {reason}")).collect();
        let (took, all) = (asked - refused.len(), holders.len());
        ensure!(took >= needed, "{took} of {all} holders took down who holds what, {needed} have to: {}", list.join("; "));
        Ok(())
    }

    /// The holders that a record names, heard or not.
    async fn named(&self, registered: &Registered, record: &Record, storers: &Storers) -> anyhow::Result<Vec<Holder>> {
        let state = self.chain.state().await?;
        let one = |(_, account): (u8, Address)| match storers.get(&account) {
            Some(storer) => Ok(holder(account, storer)),
            None => {
                let operator = state.operator(account).with_context(|| format!("{account}, whom the record names, is no operator"))?;
                Ok(Holder { account, node: operator.node, addr: None })
            }
        };
        registered.assignment(record)?.holders().map(one).collect()
    }
}

fn holder(account: Address, storer: &Storer) -> Holder {
    Holder { account, node: storer.node, addr: Some(storer.addr) }
}

/// What a spread left to repair.
fn left(holders: &[Holder], error: &SpreadError) -> Vec<Left> {
    let one = |(fragment, (_, failure)): (&u8, &(NodeId, Failure))| {
        let account = holders.get(usize::from(*fragment))?.account;
        Some(Left { fragment: *fragment, account, why: failure.to_string() })
    };
    error.failures.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_left_to_repair_names_the_fragment_its_holder_and_why() {
        let holders = [1, 2, 3].map(|byte| Holder { account: Address([byte; 20]), node: NodeId([byte; 32]), addr: None });
        let failures = BTreeMap::from([(2, (NodeId([3; 32]), Failure::Unheard))]);
        let error = SpreadError { object: BlobId([1; 32]), stored: 2, total: 3, failures };
        let expected = Left { fragment: 2, account: Address([3; 20]), why: "not heard".into() };
        assert_eq!(left(&holders, &error), std::slice::from_ref(&expected));
        assert!(expected.to_string().starts_with(&format!("fragment 2 is not with {} (not heard)", Address([3; 20]))), "{expected}");
    }
}
