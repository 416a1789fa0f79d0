//! What a node holds, as its auditor learns it: its commitment, asked for if nobody told it here, and page by page the list behind it, of which every entry is shown.
//!
//! An entry is believed by the object's record, checked against the registry and this node's own, and by a manifest that hashes to the object. What fails is either the node's doing ([`Unlisted::Silent`]) or
//! this node's ([`Unlisted::Trouble`]).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{bail, ensure};
use storage::{
    erasure::ObjectManifest,
    proto::{
        audit::{
            Holding, Holdings,
            message::{Ask, Listed, Reply},
        },
        keeping::{Record, RecordError},
    },
};
use types::{
    audit::AuditCommit,
    id::{Address, BlobId},
    key::Signed,
};

use super::{
    Auditing,
    auditor::{Assignment, ask},
    holdings,
};
use crate::{
    datanet::placing::{self, Storer},
    service::{
        keeping::{Keeping, Notice},
        repair::next,
    },
};

/// Longest wait for a page of a list: a megabyte at 3 Mbit/s, after some seconds in which the node waits for the beacon.
const PAGE_LIMIT: Duration = Duration::from_secs(15);
/// Times that a node is asked for its list, and the wait between two: it may be behind with the chain, or at its limit.
const LIST_ATTEMPTS: u32 = 3;
const LIST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait for a commitment: who has made none yet lists what it holds first.
const COMMITMENT_LIMIT: Duration = Duration::from_secs(15);
/// Blocks from a commitment in an epoch of the chain to its audit, with some turns that nobody takes.
const COMMITTED_BLOCKS: u64 = 64;

/// Why the list of what a node holds is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unlisted {
    /// The node shows none that counts: its own doing.
    #[error("{0:#}")]
    Silent(anyhow::Error),
    /// This node cannot tell.
    #[error("{0:#}")]
    Trouble(anyhow::Error),
}

impl Unlisted {
    fn silent(error: impl Into<anyhow::Error>) -> Self {
        Self::Silent(error.into())
    }
}

/// What a node holds: its commitment, asked for if it was not heard, and the list behind it.
pub(super) async fn learn(auditing: &Arc<Auditing>, storer: Option<Storer>, of: &mut Assignment) -> Result<Holdings, Unlisted> {
    let storer = storer.ok_or_else(|| Unlisted::silent(anyhow::anyhow!("it is not heard")))?;
    let mut attempt = 1;
    loop {
        let learned = learn_once(auditing, storer, of).await;
        match learned {
            Err(Unlisted::Silent(error)) if attempt < LIST_ATTEMPTS => {
                tracing::debug!(node = %of.node, error = format!("{error:#}"), "a node is asked for its list again");
                attempt += 1;
                tokio::time::sleep(LIST_WAIT).await;
            }
            learned => return learned,
        }
    }
}

async fn learn_once(auditing: &Arc<Auditing>, storer: Storer, of: &mut Assignment) -> Result<Holdings, Unlisted> {
    let commit = match &of.commit {
        Some(commit) => commit.document,
        None => {
            let commit = committed(auditing, storer, of).await.map_err(Unlisted::Silent)?;
            let document = commit.document;
            of.commit = Some(commit);
            document
        }
    };
    list(auditing, storer, &commit).await
}

/// What a node says that it committed to, whose word about it was not heard here. It is bound by it from now on: the walk follows from a nonce that nobody knows yet.
async fn committed(auditing: &Arc<Auditing>, storer: Storer, of: &Assignment) -> anyhow::Result<Signed<AuditCommit>> {
    let asked = Ask::Commitment { epoch: of.epoch };
    match ask(&auditing.keeping.bulk, storer.node, storer.addr, &asked, COMMITMENT_LIMIT).await? {
        Reply::Commitment(signed) => {
            let AuditCommit { node, epoch, .. } = signed.document;
            ensure!((node, epoch) == (of.node, of.epoch), "it shows the commitment of another node or epoch");
            ensure!(
                auditing.is_of_its_epoch(&signed.document),
                "its commitment names block {}, which is none of its epoch",
                signed.document.block
            );
            signed.verify(&auditing.keeping.chain.domains(), of.node)?;
            Ok(*signed)
        }
        Reply::Refused(reason) => bail!("it shows no commitment: {}", crate::words::line(&reason)),
        Reply::Here | Reply::Answer(_) | Reply::Verdict(_) | Reply::Holdings { .. } => bail!("it answered another question"),
    }
}

/// The list behind a commitment, every entry of it shown.
async fn list(auditing: &Arc<Auditing>, storer: Storer, commit: &AuditCommit) -> Result<Holdings, Unlisted> {
    let keeping = &auditing.keeping;
    let (mut entries, mut from) = (BTreeMap::new(), BlobId::ZERO);
    loop {
        let (page, is_more) = page(keeping, storer, commit.epoch, from).await?;
        for listed in &page {
            let holding = shown(keeping, commit.node, listed).await?;
            entries.insert(holding.object, holding);
        }
        if entries.len() as u64 > commit.ranges {
            return Err(Unlisted::silent(anyhow::anyhow!("it lists more than it committed to")));
        }
        match entries.last_key_value() {
            Some((last, _)) if is_more && *last >= from => from = next(*last),
            _ if is_more => return Err(Unlisted::silent(anyhow::anyhow!("it lists nothing new"))),
            _ => break,
        }
    }
    for (object, fragment) in holdings::known_of(keeping, commit.node).map_err(Unlisted::Trouble)? {
        if entries.contains_key(&object) || has_moved_lately(keeping, object, commit.epoch).map_err(Unlisted::Trouble)? {
            continue;
        }
        keeping.notice(Notice::Damaged { object, fragment });
        return Err(Unlisted::silent(anyhow::anyhow!("it leaves out fragment {fragment} of object {object}")));
    }
    let holdings = Holdings::new(entries.into_values());
    if holdings.root() != commit.holdings || holdings.ranges() != commit.ranges {
        return Err(Unlisted::silent(anyhow::anyhow!("its list is not what it committed to")));
    }
    Ok(holdings)
}

/// One page of the list.
async fn page(keeping: &Keeping, storer: Storer, epoch: u64, from: BlobId) -> Result<(Vec<Listed>, bool), Unlisted> {
    let reply = ask(&keeping.bulk, storer.node, storer.addr, &Ask::Holdings { epoch, from }, PAGE_LIMIT).await;
    match reply.map_err(Unlisted::Silent)? {
        Reply::Holdings { page, is_more } => Ok((page, is_more)),
        // Whoever has to delete an object cannot show that it holds it, and no list without it is what it committed to.
        Reply::Refused(reason) if has_erased_lately(keeping) => {
            Err(Unlisted::Trouble(anyhow::anyhow!("{reason}; objects were erased on request since")))
        }
        Reply::Refused(reason) => Err(Unlisted::Silent(anyhow::anyhow!("it shows no list: {}", crate::words::line(&reason)))),
        Reply::Here | Reply::Answer(_) | Reply::Verdict(_) | Reply::Commitment(_) => {
            Err(Unlisted::silent(anyhow::anyhow!("it answered another question")))
        }
    }
}

/// Whether anything was erased on request since nodes committed. Who is refused a list then says *unknown*: it costs whoever hides behind that a contribution and its erasure for each epoch.
fn has_erased_lately(keeping: &Keeping) -> bool {
    let tip = keeping.snapshots.borrow().tip.number;
    keeping.state().erased_objects().any(|(_, erasure)| is_late(keeping, erasure.block(), tip))
}

/// Whether a block is so late that it may have come after commitments to this epoch.
fn is_late(keeping: &Keeping, block: u64, tip: u64) -> bool {
    block.saturating_add(keeping.epoch_blocks).saturating_add(COMMITTED_BLOCKS) > tip
}

/// Checks one entry: the record stands, names the node, and the manifest is the object's.
async fn shown(keeping: &Keeping, node: Address, listed: &Listed) -> Result<Holding, Unlisted> {
    let record = Record::decode(&listed.record).map_err(Unlisted::silent)?;
    let object = record.object();
    let state = keeping.state();
    if let Some(erasure) = state.erased_object(object) {
        let is_late = is_late(keeping, erasure.block(), keeping.snapshots.borrow().tip.number);
        let error = anyhow::anyhow!("it lists object {object}, which was erased on request");
        return Err(if is_late { Unlisted::Trouble(error) } else { Unlisted::Silent(error) });
    }
    if placing::registered(&state, object).is_none() {
        return Err(Unlisted::silent(anyhow::anyhow!("it lists object {object}, which nobody contributed")));
    }
    let registered = keeping.registered(object).map_err(Unlisted::Trouble)?;
    let own = keeping.record(object).map_err(Unlisted::Trouble)?;
    registered.check(&keeping.seeds, &record, own.as_ref()).await.map_err(|error| {
        // Else the chain does not answer.
        if error.is::<RecordError>() { Unlisted::Silent(error) } else { Unlisted::Trouble(error) }
    })?;
    // Of two placements that a contributor has signed each holder keeps the first that it took: the node is held to its own.
    let merged = own.and_then(|mut own| own.merge(&record).is_ok().then_some(own)).unwrap_or(record);
    let assigned = registered.assignment(&merged).map_err(Unlisted::silent)?.held_by(node);
    let fragment = assigned
        .or_else(|| once_held(&merged, node))
        .ok_or_else(|| Unlisted::silent(anyhow::anyhow!("it lists object {object}, of which it was never given a fragment")))?;
    let manifest = ObjectManifest::decode_as(object, &listed.manifest).map_err(Unlisted::silent)?;
    holdings::holding(&manifest, fragment).map_err(Unlisted::Silent)
}

/// The fragment that a node held before it was handed to another: who was away does not know of that yet, and shows what it still has.
fn once_held(record: &Record, node: Address) -> Option<u8> {
    let placed = record.placement().holders.iter().position(|holder| *holder == node);
    let given = record.handovers().filter(|moved| moved.handover.to == node).map(|moved| moved.handover.fragment).last();
    given.or_else(|| placed.and_then(|place| u8::try_from(place).ok()))
}

/// Whether an object came, or something of it moved, about when the node committed or since: then two honest lists may differ.
pub(super) fn has_moved_lately(keeping: &Keeping, object: BlobId, epoch: u64) -> anyhow::Result<bool> {
    let tip = keeping.snapshots.borrow().tip.number;
    let is_new = placing::registered(&keeping.state(), object).is_none_or(|accepted| is_late(keeping, accepted.accepted.0, tip));
    if is_new {
        return Ok(true);
    }
    // In the chain's epochs nodes commit when they see them open.
    let epoch =
        if super::is_own(epoch) { super::number(epoch) } else { keeping.epoch().saturating_sub(COMMITTED_BLOCKS / keeping.epoch_blocks) };
    let record = keeping.record(object)?;
    Ok(record.is_some_and(|record| record.epochs().iter().any(|moved| moved + 1 >= epoch)))
}
