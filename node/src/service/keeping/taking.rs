//! Taking a fragment that repair hands over: from a coordinator of this epoch or the one before, of a holder that is not heard here or has lost it and has no room
//! to take it back, with bytes that the manifest names. The new holder signs when fragment and record are on its disk.

use anyhow::{Context as _, bail, ensure};
use storage::{
    proto::{
        keeping::{HandedOver, Record, Reply, message::Take},
        message::Refusal,
        placement::Assignment,
        provide::{PutFacts, PutPlan, plan_put},
        repair::coordinators,
    },
    store::StoreError,
};
use types::{
    id::{Address, NodeId},
    key::verify,
    placement::Handover,
};

use super::Keeping;
use crate::datanet::{
    keeping::{Registered, look},
    placing,
};

impl Keeping {
    pub(super) async fn take(&self, remote: NodeId, take: Take) -> anyhow::Result<Reply> {
        let Take { record: told, handover, by, manifest, fragment } = take;
        let told = Record::decode(&told)?;
        ensure!(told.object() == handover.object, "the record is of another object");
        let registered = self.registered(told.object())?;
        let _turn = self.turn.lock().await;
        let own = self.record(told.object())?;
        registered.check(&self.seeds, &told, own.as_ref()).await?;
        let mut record = match own {
            Some(mut own) => own.merge(&told).map(|_| own)?,
            None => told,
        };
        let assignment = registered.assignment(&record)?;
        let domains = self.chain.domains();
        verify(&domains, &handover, &by, handover.by)?;
        ensure!(self.account_of(remote) == Some(handover.by), "{} is to hand it over itself", handover.by);
        let signed = HandedOver { handover, by, to: self.account.sign(&domains, &handover) };
        // What was taken and whose acknowledgement was lost is acknowledged again.
        if assignment.held_by(self.me()) != Some(handover.fragment) {
            self.may_take(&handover, &registered, &record, &assignment).await?;
        }
        let (store, index) = (self.store.clone(), handover.fragment);
        let kept = tokio::task::spawn_blocking(move || -> anyhow::Result<usize> {
            let facts = PutFacts { free_bytes: store.free_bytes()?, assigned: Some(index) };
            let PutPlan { manifest, fragment } = plan_put(&manifest, index, fragment, |_| facts)?;
            ensure!(manifest.id() == handover.object, "the manifest is of another object");
            store.put_fragment(&manifest, &fragment)?;
            Ok(fragment.bytes().len())
        });
        let bytes = match kept.await? {
            Ok(bytes) => bytes,
            Err(error) => {
                let (free, need) = no_room(&error).ok_or(error)?;
                self.no_room(need);
                return Ok(Reply::Full { free, need });
            }
        };
        record.add(signed)?;
        self.keep(&record).await?;
        tracing::info!(object = %handover.object, fragment = index, bytes, "holding a fragment from now on");
        Ok(Reply::Taken(signed.to))
    }

    async fn may_take(&self, handover: &Handover, registered: &Registered, record: &Record, now: &Assignment) -> anyhow::Result<()> {
        let Handover { by, epoch, object, fragment, generation, to } = *handover;
        ensure!(to == self.me(), "it is handed to {to}, which is another operator");
        let current = self.epoch();
        // The sender may be a block ahead; work begun at the end of an epoch ends in the next one.
        ensure!((epoch..=epoch.saturating_add(1)).contains(&current) || epoch == current + 1, "epoch {epoch} is not now: it is {current}");
        let seed = self.seeds.of(epoch).await?.with_context(|| format!("epoch {epoch} has not begun"))?;
        let before = registered.assignment_before(epoch, record)?;
        let elected = coordinators(seed, object, before.holders().map(|(_, holder)| holder));
        ensure!(elected.contains(&by), "{by} is no coordinator of object {object} in epoch {epoch}");
        let (old, moves) = now.holder(fragment).zip(now.generation(fragment)).context("the object has no such fragment")?;
        ensure!(generation == moves.saturating_add(1), "fragment {fragment} moved {moves} times, this is said to be move {generation}");
        if let Some(held) = now.held_by(to) {
            bail!("this node holds fragment {held} of the object already");
        }
        let storers = self.storers().await?;
        if let Some(answering) = storers.get(&old).filter(|_| !self.is_unfit(old)) {
            ensure!(!answering.has_room, "{old} answers, and holds fragment {fragment} or has room to take it back");
            // Its ad says for itself alone that it takes nothing, and so does its word that it has lost what it held: neither is the sender's.
            let word = look(&self.bulk, answering.node, answering.addr, object).await;
            let word = word.with_context(|| format!("{old}, who has no room, does not say whether it holds fragment {fragment}"))?;
            ensure!(!word.indices.contains(&fragment), "{old} answers, and holds fragment {fragment}");
        }
        let others = now.holders().filter(|(at, _)| *at != fragment).map(|(_, holder)| holder);
        let after: Vec<Address> = others.filter(|holder| storers.contains_key(holder)).chain([to]).collect();
        placing::check_sites(&after, &storers, &registered.rules_of(record)?).context("its place breaks the rules")
    }
}

/// Bytes that were free and bytes that were needed, if that is why a fragment was not kept.
fn no_room(error: &anyhow::Error) -> Option<(u64, u64)> {
    match error.downcast_ref::<Refusal>() {
        Some(Refusal::Full { free, need }) => Some((*free, *need)),
        _ => error.downcast_ref::<StoreError>().and_then(StoreError::no_room),
    }
}
