//! What a request to erase a contribution means on this machine, and how others are asked what they have of it.
//!
//! From the request's block on nobody serves, takes or mends the object, and no index over its text is built or answered under. Bytes are deleted when the
//! request is final: fragments in the store (`service/erasing.rs`), and here the shard, what an unfinished fetch of it left, and the gate's report, which may quote it. Files that somebody wrote
//! elsewhere (`datanet export`, `fetch --out`, what was contributed from) are that person's own, and so are quotes in receipts.

use std::{collections::BTreeSet, fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use chain_bridge::registry::{Erasure, State, state::Accepted};
use p2p::bulk::BulkEndpoint;
use serde::Serialize;
use storage::proto::{
    keeping::{HandedOver, Record},
    message::{Refusal, Reply, Request},
};
use tokio::task::JoinSet;
use types::{
    id::{Address, AssetVersion, BlobId, NodeId},
    key::{Domains, verify},
};

use super::{exchange::ask, keeping::look};
use crate::{data::DataDir, service::index::unneeded};

/// Longest wait for a node's word about one object.
const WORD_LIMIT: Duration = Duration::from_secs(10);

/// A version's text cannot be had whole any more, and nothing is wrong with anybody's disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {next}", .erasures.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
pub struct Erased {
    /// The requests.
    pub erasures: Vec<Erasure>,
    next: String,
}

/// Refuses a version whose index holds an erased contribution.
///
/// # Errors
/// [`Erased`], with the requests and what is left to do.
pub fn check(state: &State, version: AssetVersion) -> Result<(), Erased> {
    let erasures: Vec<Erasure> = state.erased_in_index(version).into_iter().copied().collect();
    let Some(first) = erasures.first() else { return Ok(()) };
    let datanet = first.datanet;
    let next = format!(
        "version {version} held it and is read, trained on and answered under no more: `tributary datanet publish {datanet}` gives a version without it, \
         and what declares {version} needs a next version that declares that one"
    );
    Err(Erased { erasures, next })
}

/// Refuses one contribution that is erased.
///
/// # Errors
/// [`Erased`].
pub fn check_contribution(state: &State, accepted: &Accepted) -> Result<(), Erased> {
    match state.erasure(accepted.datanet, accepted.number) {
        None => Ok(()),
        Some(erasure) => Err(Erased { erasures: vec![*erasure], next: "nobody serves it any more".to_owned() }),
    }
}

/// Deletes what this folder has of texts that are erased in `finalized`, segments of indexes too; says of how many texts there was a copy.
///
/// # Errors
/// What the disk says.
pub fn sweep(data: &DataDir, finalized: &State) -> anyhow::Result<usize> {
    // A report may quote the rows it found something in, whoever else has the text.
    for erasure in finalized.erasures() {
        remove(&data.report(erasure.report), erasure)?;
    }
    let mut swept = 0;
    for (text_root, erasure) in finalized.erased_texts() {
        let half = data.fetching().join(format!("{}.part", erasure.object));
        let is_found = [data.shard(text_root), half]
            .iter()
            .try_fold(false, |is_found, path| Ok::<_, anyhow::Error>(remove(path, erasure)? || is_found))?;
        if is_found {
            tracing::info!(%text_root, "deleted the local copy: {erasure}");
            swept += 1;
        }
    }
    let files = unneeded::forget(data, finalized)?;
    if files > 0 {
        tracing::info!(files, "deleted segments of indexes in which erased text stood");
    }
    Ok(swept)
}

/// Deletes a file; says whether it was there.
fn remove(path: &Path, erasure: &Erasure) -> anyhow::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{}: cannot be deleted, and {erasure}", path.display())),
    }
}

/// What a node has of an erased object, by its own word: nobody can show that bytes are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Nothing is on its disk, and it takes nothing.
    Gone,
    /// It serves nothing and takes nothing; the bytes go when the request is final there.
    Refuses,
    /// It serves this many fragments: it has not heard of the request.
    Serves(usize),
    /// It has nothing, and has not heard of the request.
    HasNothing,
    /// No answer, in words.
    Silent(String),
}

impl Word {
    /// Whether nothing is left to wait for.
    pub const fn is_confirmed(&self) -> bool {
        matches!(self, Self::Gone)
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => f.write_str("confirms: nothing is on its disk"),
            Self::Refuses => f.write_str("serves it no more, and deletes it when the request is final"),
            Self::Serves(fragments) => write!(f, "still serves {fragments} fragments: it has not heard of the request"),
            Self::HasNothing => f.write_str("has nothing, and has not heard of the request"),
            Self::Silent(why) => write!(f, "did not answer: {why}"),
        }
    }
}

/// Asks nodes, all at once, what they have of an erased object; in their order.
pub async fn words(bulk: &Arc<BulkEndpoint>, nodes: impl IntoIterator<Item = (NodeId, SocketAddr)>, object: BlobId) -> Vec<(NodeId, Word)> {
    let mut asking = JoinSet::new();
    for (node, addr) in nodes {
        let bulk = Arc::clone(bulk);
        asking.spawn(async move { (node, word(&bulk, node, addr, object).await) });
    }
    let mut words = asking.join_all().await;
    words.sort_by_key(|(node, _)| *node);
    words
}

/// Who holds or held fragments of an erased object by its record, as far as nodes that are asked tell one that its contributor has signed; nothing if none does. Holders keep it when they delete the rest.
pub async fn recorded(
    bulk: &Arc<BulkEndpoint>,
    nodes: impl IntoIterator<Item = (NodeId, SocketAddr)>,
    state: &State,
    domains: &Domains,
    object: BlobId,
) -> Option<BTreeSet<Address>> {
    let mut asking = JoinSet::new();
    for (node, addr) in nodes {
        let bulk = Arc::clone(bulk);
        asking.spawn(async move { look(&bulk, node, addr, object).await.ok()?.record });
    }
    let contributions = state.assets().flat_map(|asset| state.contributions(asset.id)).filter(|accepted| accepted.object == object);
    let contributors: BTreeSet<Address> = contributions.map(|accepted| accepted.contributor).collect();
    let records = asking.join_all().await.into_iter().flatten();
    let sets: Vec<_> =
        records.filter_map(|record| named(&record, &contributors, domains, |account| state.operator(account).is_some())).collect();
    (!sets.is_empty()).then(|| sets.into_iter().flatten().collect())
}

/// Whom a record names, placed or handed to; nothing if none of the object's contributors has signed it. A handover counts by its new holder's signature, and only of an operator: anybody can name and sign for an account of its own.
fn named(
    record: &Record,
    contributors: &BTreeSet<Address>,
    domains: &Domains,
    is_operator: impl Fn(Address) -> bool,
) -> Option<BTreeSet<Address>> {
    let contributor = record.placement().contributor;
    let is_placed = contributors.contains(&contributor) && record.signed_placement().verify(domains, contributor).is_ok();
    is_placed.then(|| {
        let took = |moved: &&HandedOver| {
            let to = moved.handover.to;
            moved.handover.object == record.object() && is_operator(to) && verify(domains, &moved.handover, &moved.to, to).is_ok()
        };
        let took = record.handovers().filter(took).map(|moved| moved.handover.to);
        record.placement().holders.iter().copied().chain(took).collect()
    })
}

async fn word(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, object: BlobId) -> Word {
    match ask(bulk, node, addr, &Request::Locate { object }, WORD_LIMIT).await {
        Ok(Reply::Refused(Refusal::Erased { is_gone: true, .. })) => Word::Gone,
        Ok(Reply::Refused(Refusal::Erased { .. })) => Word::Refuses,
        Ok(Reply::Refused(Refusal::Unknown { .. })) => Word::HasNothing,
        Ok(Reply::Located { indices, .. }) => Word::Serves(indices.len()),
        Ok(Reply::Refused(refusal)) => Word::Silent(refusal.to_string()),
        Ok(_) => Word::Silent("it answered another question".to_owned()),
        Err(error) => Word::Silent(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use types::{
        key::{Account, Signed, Signed65},
        placement::{Handover, Placement},
    };

    use super::*;

    #[test]
    fn holders_of_an_erased_object_are_those_of_a_record_that_its_contributor_has_signed() {
        let key = |byte| Account::from_bytes(&[byte; 32]).unwrap();
        let (anna, liar) = (key(1), key(2));
        let [escrow, registry, settlement, stake] = [3, 4, 5, 6].map(|byte| Address([byte; 20]));
        let domains = Domains { chain_id: 1, escrow, registry, settlement, stake };
        let (object, account) = (BlobId([5; 32]), |byte| Address([byte; 20]));
        let placed = |by: &Account| {
            let placement = Placement { contributor: by.address(), object, block: 1, data: 3, holders: (1..6).map(account).collect() };
            Record::new(Signed::new(by, &domains, placement))
        };
        let contributors = BTreeSet::from([anna.address()]);
        let of = |record: &Record, is_operator: bool| named(record, &contributors, &domains, |_| is_operator);
        let mut record = placed(&anna);
        assert_eq!(of(&record, true), Some((1..6).map(account).collect()));
        assert_eq!(of(&placed(&liar), true), None, "a stranger's");
        let handover = Handover { by: account(1), epoch: 1, object, fragment: 2, generation: 1, to: liar.address() };
        let unsigned = HandedOver { handover: Handover { to: account(9), ..handover }, by: Signed65([1; 65]), to: Signed65([2; 65]) };
        record.add(unsigned).unwrap();
        let signed = HandedOver { handover, by: Signed65([1; 65]), to: Signed::new(&liar, &domains, handover).signature };
        record.add(signed).unwrap();
        assert_eq!(
            of(&record, true).map(|all| (all.len(), all.contains(&liar.address()))),
            Some((6, true)),
            "who has signed that it took it"
        );
        assert_eq!(of(&record, false).map(|all| all.len()), Some(5), "an account that anybody may have made");
    }
}
