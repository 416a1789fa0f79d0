//! Records of holders on the way between nodes: asking for one, telling one, checking one against the chain.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{bail, ensure};
use chain_bridge::registry::{State, state::Accepted};
use futures::StreamExt as _;
use p2p::bulk::BulkEndpoint;
use storage::{
    erasure::Proof,
    proto::{
        keeping::{Ask, Known, Record, Reply, message::REPLY_BYTES_MAX},
        placement::{self, Assignment, Rules},
    },
};
use tokio::task::JoinSet;
use types::{
    id::{Address, BlobId, Hash32, NodeId},
    merkle::keccak,
};

use super::{
    exchange::{AskError, round},
    placing::{self, Storers},
    seeds::Seeds,
};
use crate::words;

/// Protocol name of records.
pub const KEEPING_ALPN: &[u8] = b"tributary/keeping/1";
/// Protocol name of proofs against manifests: the proof's bytes, then a [`Reply`].
pub const VOID_ALPN: &[u8] = b"tributary/void/1";
/// Longest wait for a proof to be taken and checked: the largest object at 4 Mbit/s.
const PROOF_LIMIT: Duration = Duration::from_secs(140);
/// Nodes that are shown a proof at once.
const SHOWN_AT_ONCE: usize = 4;
/// Operators that are asked who is suspended: with a third of liars among them more than half are honest but once in a thousand times.
const BOOKS_MAX: usize = 64;
/// Longest wait for a word about a record.
pub const WORD_LIMIT: Duration = Duration::from_secs(10);

/// Asks the node at `addr`; gives up after `limit`. May be dropped half-way.
///
/// # Errors
/// That there is no stream, no answer in time, or none that can be read.
pub async fn ask(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, ask: &Ask, limit: Duration) -> anyhow::Result<Reply> {
    Ok(Reply::decode(&round(bulk, (node, addr), KEEPING_ALPN, &ask.encode(), REPLY_BYTES_MAX, limit).await?)?)
}

/// A contribution with what its records are checked against.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The contribution.
    pub accepted: Accepted,
    /// The hash of the block that accepted it: what is stored was fixed before anybody knew it.
    pub seed: Hash32,
    /// Where its object may be kept.
    pub rules: Rules,
}

impl Registered {
    /// What the chain has of `object`; nothing if it is not registered. The books alone tell: whoever looks at thousands of objects asks the chain nothing.
    ///
    /// # Errors
    /// The card's.
    pub fn find(state: &State, object: BlobId) -> anyhow::Result<Option<Self>> {
        let Some((accepted, seed)) = state.contribution_of(object) else { return Ok(None) };
        let regions = placing::residency(state, accepted.datanet)?;
        // The cap of subnets is the profile's, which the record names.
        Ok(Some(Self { accepted: accepted.clone(), seed, rules: Rules { subnet_max: None, regions } }))
    }

    /// Checks a record, but for what `checked` has of it.
    ///
    /// # Errors
    /// What is wrong with it, or the chain's.
    pub async fn check(&self, seeds: &Seeds, record: &Record, checked: Option<&Record>) -> anyhow::Result<()> {
        let (domains, mut epochs) = (seeds.domains(), BTreeMap::new());
        let (contributor, (block, _), seed) = (self.accepted.contributor, self.accepted.accepted, self.seed);
        // Words first: only who holds a fragment and has signed for it makes this node ask the chain.
        record.verify_words(&Known { domains: &domains, contributor, block, seed, epochs: &epochs }, checked)?;
        for epoch in record.new_epochs(checked) {
            if let Some(seed) = seeds.of(epoch).await? {
                epochs.insert(epoch, seed);
            }
        }
        record.verify_turns(&Known { domains: &domains, contributor, block, seed, epochs: &epochs }, checked)?;
        Ok(())
    }

    /// Who holds the object by a record.
    ///
    /// # Errors
    /// That the record names no code.
    pub fn assignment(&self, record: &Record) -> anyhow::Result<Assignment> {
        Ok(record.assignment(self.seed, self.rules_of(record)?)?)
    }

    /// Who held it when an epoch began.
    ///
    /// # Errors
    /// That the record names no code.
    pub fn assignment_before(&self, epoch: u64, record: &Record) -> anyhow::Result<Assignment> {
        Ok(record.assignment_before(epoch, self.seed, self.rules_of(record)?)?)
    }

    /// The rules of the object's code.
    ///
    /// # Errors
    /// That the record names no code.
    pub fn rules_of(&self, record: &Record) -> anyhow::Result<Rules> {
        Ok(Rules::of(record.profile()?, self.rules.regions.clone()))
    }
}

/// What one node answered about an object.
#[derive(Debug, Clone)]
pub struct Word {
    /// Its record, not checked yet.
    pub record: Option<Record>,
    /// Fragments of the object that lie with it.
    pub indices: Vec<u8>,
}

/// What a node has of an object.
///
/// # Errors
/// That it does not answer, or something else.
pub async fn look(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, object: BlobId) -> anyhow::Result<Word> {
    match ask(bulk, node, addr, &Ask::Record(object), WORD_LIMIT).await? {
        Reply::Record { record, indices } if record.is_empty() => Ok(Word { record: None, indices }),
        Reply::Record { record, indices } => {
            let record = Record::decode(&record)?;
            ensure!(record.object() == object, "it sent the record of another object");
            Ok(Word { record: Some(record), indices })
        }
        Reply::Refused(reason) => bail!("{}", words::line(&reason)),
        Reply::Heard | Reply::Taken(_) | Reply::Suspended(_) | Reply::Full { .. } => bail!("it answered another question"),
    }
}

/// Operators that are given no new fragments, by the words of at most `BOOKS_MAX` of `storers`, drawn by `seed`.
///
/// # Errors
/// That none of them says.
pub async fn suspended(bulk: &BulkEndpoint, storers: &Storers, seed: u64) -> anyhow::Result<BTreeSet<Address>> {
    let mut drawn: Vec<_> = storers.iter().collect();
    drawn.sort_by_key(|(account, _)| keccak(&[b"whose books", &seed.to_be_bytes(), &account.0]));
    let asks = drawn.into_iter().take(BOOKS_MAX).map(|(_, storer)| ask(bulk, storer.node, storer.addr, &Ask::Suspended, WORD_LIMIT));
    let words = futures::future::join_all(asks).await.into_iter().filter_map(|word| match word {
        Ok(Reply::Suspended(operators)) => Some(operators.into_iter().collect::<BTreeSet<Address>>()),
        Ok(_) | Err(_) => None,
    });
    let words: Vec<_> = words.collect();
    ensure!(!words.is_empty(), "none of {} operators says who is suspended by its books of audits", storers.len().min(BOOKS_MAX));
    Ok(placement::suspended(&words))
}

/// Tells a record to nodes at once; returns what each that did not take it said.
pub async fn tell(bulk: &std::sync::Arc<BulkEndpoint>, to: Vec<(NodeId, SocketAddr)>, record: &Record) -> Vec<(NodeId, String)> {
    let (bytes, mut telling) = (record.encode(), JoinSet::new());
    for (node, addr) in to {
        let (bulk, told) = (std::sync::Arc::clone(bulk), Ask::Tell(bytes.clone()));
        telling.spawn(async move {
            match ask(&bulk, node, addr, &told, WORD_LIMIT).await {
                Ok(Reply::Heard) => None,
                Ok(Reply::Refused(reason)) => Some((node, words::line(&reason).into_owned())),
                Ok(_) => Some((node, "it answered another question".to_owned())),
                Err(error) => Some((node, format!("{error:#}"))),
            }
        });
    }
    telling.join_all().await.into_iter().flatten().collect()
}

/// Shows nodes the proof that an object's manifest is a lie; returns what each that does not void the object said. Who does not answer is shown it twice: a
/// connection may break under load.
pub async fn show(bulk: &BulkEndpoint, to: Vec<(NodeId, SocketAddr)>, proof: &Proof) -> Vec<(NodeId, String)> {
    let bytes = proof.encode();
    let one = |(node, addr): (NodeId, SocketAddr)| {
        let bytes = &bytes;
        async move {
            let asking = || round(bulk, (node, addr), VOID_ALPN, bytes, REPLY_BYTES_MAX, PROOF_LIMIT);
            let reply = match asking().await {
                Err(AskError::Bulk(_) | AskError::Stream(_)) => asking().await,
                reply => reply,
            };
            match reply.map_err(anyhow::Error::from).and_then(|reply| Ok(Reply::decode(&reply)?)) {
                Ok(Reply::Heard) => None,
                Ok(Reply::Refused(reason)) => Some((node, words::line(&reason).into_owned())),
                Ok(_) => Some((node, "it answered another question".to_owned())),
                Err(error) => Some((node, format!("{error:#}"))),
            }
        }
    };
    futures::stream::iter(to.into_iter().map(one)).buffer_unordered(SHOWN_AT_ONCE).filter_map(std::future::ready).collect().await
}
