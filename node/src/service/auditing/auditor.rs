//! One audit by this node: the shell of `storage::proto::audit::Audit`.
//!
//! What the node committed to is fetched page by page and believed as far as it is shown: each fragment by the object's record, checked against the
//! registry and this node's own, and by a manifest that hashes to the object. A list that is not what was committed to, or leaves out a fragment that this node's records
//! name the node for since before the epoch, is signed for by nobody (*unknown*); the left-out fragment is told to repair.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use p2p::bulk::BulkEndpoint;
use serde::Serialize;
use storage::{
    erasure::ObjectManifest,
    proto::{
        audit::{
            Answer, Audit, Holdings, Pace, Seed,
            auditor::{Input, Output, PATIENCE, READ_MAX, READS_MIN, ROUND_TRIP_MAX},
            message::{Ask, Listed, REPLY_BYTES_MAX, Reply, SignedAnswer},
        },
        keeping::Record,
    },
};
use tokio::time::Instant;
use types::{
    audit::{AuditCommit, AuditVerdict, Verdict},
    id::{Address, BlobId, Hash32, NodeId},
    key::Signed,
    merkle::keccak,
    time::Time,
};

use super::{AUDIT_ALPN, Auditing, Mail, Mailbox, answering::check_answer, holdings};
use crate::{
    data::write_atomic,
    datanet::{exchange::round, placing::Storer},
    service::{
        keeping::{Keeping, Notice},
        repair::next,
    },
};

/// Longest wait for a page of a list: a megabyte at 3 Mbit/s, after some seconds in which the node waits for the beacon.
const PAGE_LIMIT: Duration = Duration::from_secs(15);
/// A read counts as no shorter than this, what a disk that turns takes: from the page cache of an idle machine an auditor would grant an honest node
/// microseconds. With it a node is caught fetching from a round trip of 37 ms to its source on, whatever tricks it plays.
const READ_LEAST: Duration = Duration::from_millis(5);
/// Blocks from a commitment in an epoch of the chain to its audit, with some turns that nobody takes.
const COMMITTED_BLOCKS: u64 = 64;
/// Longest wait for another auditor to hear a nonce.
const OPENED_LIMIT: Duration = Duration::from_secs(10);
/// Answers of failed audits that are kept as evidence; a network in which more fail has other worries.
const EVIDENCE_MAX: usize = 256;

/// What this node is to audit.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) epoch: u64,
    pub(super) beacon: Hash32,
    pub(super) node: Address,
    /// What the node committed to; nothing if this node heard of nothing.
    pub(super) commit: Option<Signed<AuditCommit>>,
    pub(super) is_opener: bool,
    /// All three, the opener first.
    pub(super) auditors: Vec<Address>,
    pub(super) pace: Pace,
}

/// Asks one question over the audits' protocol. May be dropped half-way.
pub(super) async fn ask(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, ask: &Ask, limit: Duration) -> anyhow::Result<Reply> {
    Ok(Reply::decode(&round(bulk, (node, addr), AUDIT_ALPN, &ask.encode(), REPLY_BYTES_MAX, limit).await?)?)
}

/// How fast this node reads ranges of its own fragments, which is what it grants others; what it can grant at most if it holds too little to measure.
pub(super) async fn pace(keeping: &Keeping, own: Option<Arc<holdings::Own>>) -> Pace {
    let most = || Pace::of(&[READ_MAX; READS_MIN]).expect("as many reads as are asked for");
    let Some(own) = own else { return most() };
    let store = keeping.store.clone();
    let measured = tokio::task::spawn_blocking(move || {
        let ranges = own.holdings.ranges();
        let mut reads = Vec::new();
        for number in 0..u32::try_from(READS_MIN).unwrap_or(u32::MAX) {
            // Any places do, so long as they are spread.
            let draw = keccak(&[&own.holdings.root().0, &number.to_be_bytes()]);
            let high = u64::from_be_bytes(*draw.0.first_chunk().expect("a hash has 32 bytes"));
            let Some((holding, place)) = high.checked_rem(ranges).and_then(|at| own.holdings.at(at)) else { break };
            let started = std::time::Instant::now();
            if let Some(shown) = holdings::open(&store, holding, place) {
                // Hashed as its place in the walk is.
                std::hint::black_box(keccak(&[&shown.bytes]));
                reads.push(started.elapsed().max(READ_LEAST));
            }
        }
        Pace::of(&reads)
    });
    measured.await.ok().flatten().unwrap_or_else(most)
}

/// Audits one node; nothing if there is nothing to say of it.
pub(super) async fn audit(auditing: &Arc<Auditing>, of: Assignment, mut mail: Mailbox) -> Option<AuditVerdict> {
    let (keeping, node, epoch) = (&auditing.keeping, of.node, of.epoch);
    let storer = keeping.storers().await.ok()?.get(&node).copied();
    let committed = of.commit.as_ref().map(|commit| commit.document);
    let listed = match (storer, &committed) {
        (Some(storer), Some(commit)) => list(auditing, storer, commit).await,
        _ => Err(anyhow::anyhow!("it committed to nothing, or is not heard")),
    };
    let (holdings, is_known) = match listed {
        Ok(holdings) => (holdings, true),
        Err(error) => {
            tracing::info!(%node, epoch, error = format!("{error:#}"), "what a node holds is not known here");
            (Holdings::new([]), false)
        }
    };
    let root = committed.map_or(Hash32::ZERO, |commit| commit.holdings);
    let mut nonce = [0; 32];
    if of.is_opener && getrandom::fill(&mut nonce).is_err() {
        return None;
    }
    let mut nonce = Hash32(nonce);
    // An audit that a restart broke off is opened by the same nonce: the node answers no second one.
    if of.is_opener && !super::is_own(epoch) {
        let kept = auditing.books().opening(epoch, node, nonce);
        match kept {
            Ok(kept) => nonce = kept,
            Err(error) => {
                tracing::error!(%node, epoch, error = format!("{error:#}"), "an audit is not opened");
                return None;
            }
        }
    }
    let seed = Seed { beacon: of.beacon, node, epoch, holdings: root, nonce };
    let objects = holdings.entries().iter().map(|holding| holding.object).collect();
    let core = if of.is_opener { Audit::opener } else { Audit::witness };
    let core = core(keeping.me(), seed, holdings, of.pace);
    let mut line = Line { auditing, of: &of, storer, core, objects, started: Instant::now(), is_known, failed: None };
    let verdict = line.run(&mut mail).await;
    if let (Verdict::Failed, Some((nonce, answer))) = (verdict.verdict, &line.failed)
        && let Err(error) = keep_evidence(auditing, &of, &verdict, *nonce, answer)
    {
        tracing::error!(%node, epoch, error = format!("{error:#}"), "the answer of a failed audit is not kept");
    }
    Some(verdict)
}

/// The list behind a commitment, every entry of it shown.
async fn list(auditing: &Arc<Auditing>, storer: Storer, commit: &AuditCommit) -> anyhow::Result<Holdings> {
    let keeping = &auditing.keeping;
    let (mut entries, mut from) = (BTreeMap::new(), BlobId::ZERO);
    loop {
        let asked = Ask::Holdings { epoch: commit.epoch, from };
        let (page, is_more) = match ask(&keeping.bulk, storer.node, storer.addr, &asked, PAGE_LIMIT).await? {
            Reply::Holdings { page, is_more } => (page, is_more),
            Reply::Refused(reason) => bail!("{reason}"),
            Reply::Here | Reply::Answer(_) | Reply::Verdict(_) => bail!("it answered another question"),
        };
        for listed in &page {
            let holding = shown(keeping, commit.node, listed).await?;
            entries.insert(holding.object, holding);
        }
        ensure!(entries.len() as u64 <= commit.ranges, "it lists more than it committed to");
        match entries.last_key_value() {
            Some((last, _)) if is_more && *last >= from => from = next(*last),
            _ if is_more => bail!("it lists nothing new"),
            _ => break,
        }
    }
    for (object, fragment) in holdings::known_of(keeping, commit.node)? {
        if entries.contains_key(&object) || has_moved_lately(keeping, object, commit.epoch)? {
            continue;
        }
        keeping.notice(Notice::Damaged { object, fragment });
        bail!("it leaves out fragment {fragment} of object {object}");
    }
    let holdings = Holdings::new(entries.into_values());
    ensure!(holdings.root() == commit.holdings && holdings.ranges() == commit.ranges, "its list is not what it committed to");
    Ok(holdings)
}

/// Checks one entry: the record stands, names the node, and the manifest is the object's.
async fn shown(keeping: &Keeping, node: Address, listed: &Listed) -> anyhow::Result<storage::proto::audit::Holding> {
    let record = Record::decode(&listed.record)?;
    let registered = keeping.registered(record.object())?;
    let own = keeping.record(record.object())?;
    registered.check(&keeping.seeds, &record, own.as_ref()).await?;
    let record = match own {
        Some(mut own) => own.merge(&record).map(|_| own)?,
        None => record,
    };
    let object = record.object();
    let fragment = registered.assignment(&record)?.held_by(node).with_context(|| format!("no fragment of object {object} is its own"))?;
    let manifest = ObjectManifest::decode_as(object, &listed.manifest)?;
    holdings::holding(&manifest, fragment)
}

/// Whether an object came, or something of it moved, about when the node committed or since: then two honest lists may differ.
fn has_moved_lately(keeping: &Keeping, object: BlobId, epoch: u64) -> anyhow::Result<bool> {
    let tip = keeping.snapshots.borrow().tip.number;
    let is_new = crate::datanet::placing::registered(&keeping.state(), object)
        .is_none_or(|accepted| accepted.accepted.0 + keeping.epoch_blocks + COMMITTED_BLOCKS > tip);
    if is_new {
        return Ok(true);
    }
    // In the chain's epochs nodes commit when they see them open.
    let epoch =
        if super::is_own(epoch) { super::number(epoch) } else { keeping.epoch().saturating_sub(COMMITTED_BLOCKS / keeping.epoch_blocks) };
    let record = keeping.record(object)?;
    Ok(record.is_some_and(|record| record.epochs().iter().any(|moved| moved + 1 >= epoch)))
}

/// The audit under way.
struct Line<'a> {
    auditing: &'a Arc<Auditing>,
    of: &'a Assignment,
    storer: Option<Storer>,
    core: Audit,
    /// What it listed.
    objects: Vec<BlobId>,
    started: Instant,
    /// Whether the list behind the commitment is known.
    is_known: bool,
    /// The last answer that came.
    failed: Option<(Hash32, Box<SignedAnswer>)>,
}

impl Line<'_> {
    fn at(&self, instant: Instant) -> Time {
        Time(u64::try_from(instant.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX))
    }

    fn handle(&mut self, at: Instant, input: Input) -> Option<Output> {
        let now = self.at(at);
        self.core.handle(now, input).pop()
    }

    async fn run(&mut self, mail: &mut Mailbox) -> AuditVerdict {
        let mut output = self.handle(self.started, Input::Start);
        loop {
            output = match output {
                Some(Output::Done(verdict)) => return verdict,
                Some(Output::Ping) => self.ping().await,
                Some(Output::Challenge { nonce }) => self.challenge(nonce).await,
                None => self.wait(mail).await,
            };
        }
    }

    async fn ask(&self, question: &Ask, limit: Duration) -> anyhow::Result<Reply> {
        let storer = self.storer.context("it is not heard")?;
        ask(&self.auditing.keeping.bulk, storer.node, storer.addr, question, limit).await
    }

    async fn ping(&mut self) -> Option<Output> {
        let sent = Instant::now();
        match self.ask(&Ask::Ping, ROUND_TRIP_MAX).await {
            // It is there, and what it holds is not known: nothing can be said of it.
            Ok(Reply::Here) if !self.is_known => self.handle(Instant::now(), Input::Trouble),
            Ok(Reply::Here) => self.handle(Instant::now(), Input::Pong),
            _ => {
                tokio::time::sleep_until(sent + ROUND_TRIP_MAX).await;
                self.tick().await
            }
        }
    }

    /// Waits for the core's deadline, and tells it.
    async fn tick(&mut self) -> Option<Output> {
        let due = self.core.deadline().map_or(self.started, |due| self.started + Duration::from_micros(due.0));
        tokio::time::sleep_until(due).await;
        self.handle(Instant::now(), Input::Tick)
    }

    /// The opener's challenge: to the node, and its nonce to the witnesses, at once.
    async fn challenge(&mut self, nonce: Hash32) -> Option<Output> {
        let (epoch, node, keeping) = (self.of.epoch, self.of.node, &self.auditing.keeping);
        let storers = keeping.storers().await.unwrap_or_default();
        let witnesses = self.of.auditors.iter().skip(1).filter_map(|witness| storers.get(witness).copied());
        let opened = Ask::Opened { epoch, node, nonce };
        let telling = witnesses.map(|witness| ask(&keeping.bulk, witness.node, witness.addr, &opened, OPENED_LIMIT));
        let telling = futures::future::join_all(telling);
        let asked = Ask::Challenge { epoch, nonce };
        let asking = async { (self.ask(&asked, PATIENCE).await, Instant::now()) };
        let (told, (reply, arrived)) = tokio::join!(telling, asking);
        for error in told.into_iter().filter_map(Result::err) {
            tracing::debug!(%node, epoch, error = format!("{error:#}"), "a witness did not hear a nonce");
        }
        match reply {
            Ok(Reply::Answer(answer)) => {
                if let Some(output) = self.answered(arrived, nonce, answer) {
                    return Some(output);
                }
            }
            Ok(Reply::Refused(reason)) => {
                tracing::info!(%node, epoch, reason, "a node does not answer its challenge");
                let state = keeping.state();
                if self.objects.iter().any(|object| state.erased_object(*object).is_some()) {
                    // What it committed to was erased on request since: nothing can be said of it.
                    return self.handle(Instant::now(), Input::Trouble);
                }
            }
            Ok(_) => tracing::info!(%node, epoch, "a node answered another question than its challenge"),
            Err(error) => tracing::info!(%node, epoch, error = format!("{error:#}"), "a node does not answer its challenge"),
        }
        self.tick().await
    }

    /// Judges an answer, if it is the node's own word.
    fn answered(&mut self, arrived: Instant, nonce: Hash32, answer: Box<SignedAnswer>) -> Option<Output> {
        let node = self.storer?.node;
        if let Err(error) = check_answer(node, self.of.epoch, nonce, &answer) {
            tracing::info!(%node, error = format!("{error:#}"), "an answer that its node has not signed");
            return None;
        }
        let bytes = answer.bytes.clone();
        self.failed = Some((nonce, answer));
        self.handle(arrived, Input::Answered { bytes })
    }

    /// A witness's wait for the nonce, then for the answer; an answer that came first waits for its nonce.
    async fn wait(&mut self, mail: &mut Mailbox) -> Option<Output> {
        let (mut opened, mut early) = (None, None);
        loop {
            let due = self.core.deadline().map_or(self.started, |due| self.started + Duration::from_micros(due.0));
            let (at, letter) = match tokio::time::timeout_at(due, mail.recv()).await {
                Ok(Some(letter)) => letter,
                // Nobody can write any more, or it took too long.
                Ok(None) | Err(_) => return self.tick().await,
            };
            match letter {
                Mail::Opened(nonce) if opened.is_none() => {
                    opened = Some(nonce);
                    self.handle(at.max(self.started), Input::Opened { nonce });
                }
                Mail::Answered(nonce, answer) => early = Some((at, nonce, answer)),
                Mail::Opened(_) => {}
            }
            if let Some(nonce) = opened
                && let Some((at, of, answer)) = early.take()
                && of == nonce
                && let Some(output) = self.answered(at.max(self.started), nonce, answer)
            {
                return Some(output);
            }
        }
    }
}

/// What an auditor keeps of an audit that failed: enough for anyone to judge it again.
#[derive(Debug, Serialize)]
struct Evidence<'a> {
    commit: Option<Signed<AuditCommit>>,
    verdict: AuditVerdict,
    beacon: Hash32,
    nonce: Hash32,
    auditors: &'a [Address],
    /// The answer, hex, and its node's signature over it.
    answer: String,
    signature: String,
    /// What is wrong with it, in words.
    fault: String,
}

fn keep_evidence(auditing: &Auditing, of: &Assignment, verdict: &AuditVerdict, nonce: Hash32, answer: &SignedAnswer) -> anyhow::Result<()> {
    let folder = auditing.data.path().join("evidence");
    std::fs::create_dir_all(&folder)?;
    if std::fs::read_dir(&folder)?.count() >= EVIDENCE_MAX {
        bail!("{} holds {EVIDENCE_MAX} files already: move them away", folder.display());
    }
    let fault = match Answer::decode(&answer.bytes) {
        Ok(Answer::Missing(range)) => format!("the node says that it lacks range {range} of the walk"),
        Ok(Answer::Ranges(_)) => format!("range {} of the walk is not what was committed to", verdict.right),
        Err(error) => error.to_string(),
    };
    let evidence = Evidence {
        commit: of.commit.clone(),
        verdict: *verdict,
        beacon: of.beacon,
        nonce,
        auditors: &of.auditors,
        answer: hex::encode(&answer.bytes),
        signature: hex::encode(answer.signature),
        fault,
    };
    let path =
        folder.join(format!("audit-{}{}-{}.json", if super::is_own(of.epoch) { "" } else { "rent-" }, super::number(of.epoch), of.node));
    Ok(write_atomic(&path, &serde_json::to_vec_pretty(&evidence)?, 0o644)?)
}
