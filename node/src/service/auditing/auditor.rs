//! One audit by this node: the shell of `storage::proto::audit::Audit`.
//!
//! What the node committed to is fetched page by page and believed as far as it is shown: each fragment by the object's record, checked against the
//! registry and this node's own, and by a manifest that hashes to the object. Whose commitment was not heard is asked for it. A node that shows none, or a list that is not what it
//! committed to, or one that leaves out a living fragment that this node's records name it for since before the epoch, is audited as one that is silent
//! ([`Audit::without_list`]); the left-out fragment is told to repair. *Unknown* is said for this node's own trouble alone: its disk, the chain it asks, a line over which nobody
//! answers, and an object that was erased on request since the node committed.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use p2p::bulk::BulkEndpoint;
use serde::Serialize;
use storage::{
    erasure::ObjectManifest,
    proto::{
        audit::{
            Answer, Audit, Holdings, Pace, Seed,
            auditor::{Input, Output, PATIENCE, READS_MIN, ROUND_TRIP_MAX},
            message::{Ask, Listed, REPLY_BYTES_MAX, Reply, SignedAnswer},
        },
        keeping::{Record, RecordError},
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
    unshown::Unshown,
};

/// Longest wait for a page of a list: a megabyte at 3 Mbit/s, after some seconds in which the node waits for the beacon.
const PAGE_LIMIT: Duration = Duration::from_secs(15);
/// Times that a node is asked for its list, and the wait between two: it may be behind with the chain, or at its limit.
const LIST_ATTEMPTS: u32 = 3;
const LIST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait for a commitment: who has made none yet lists what it holds first.
const COMMITMENT_LIMIT: Duration = Duration::from_secs(15);
/// Others of whom one must answer before a node is said to be offline.
const OTHERS_MAX: usize = 8;
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

/// How fast this node reads ranges of its own fragments, which is what it grants others; nothing if it holds too little to measure.
pub(super) async fn pace(keeping: &Keeping, own: Option<Arc<holdings::Own>>) -> Option<Pace> {
    let (own, store) = (own?, keeping.store.clone());
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
                reads.push(started.elapsed());
            }
        }
        Pace::measured(&reads)
    });
    measured.await.ok().flatten()
}

/// Why the list of what a node holds is not known.
#[derive(Debug, thiserror::Error)]
enum Unlisted {
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

/// Audits one node; nothing if there is nothing to say of it.
pub(super) async fn audit(auditing: &Arc<Auditing>, mut of: Assignment, mut mail: Mailbox) -> Option<AuditVerdict> {
    // Letters that come while the list is learned count from when they came: who delays its list gains no time for its answer.
    let started = Instant::now();
    let (keeping, node, epoch) = (&auditing.keeping, of.node, of.epoch);
    let storer = match keeping.storers().await {
        Ok(storers) => storers.get(&node).copied(),
        Err(error) => {
            tracing::warn!(%node, epoch, error = format!("{error:#}"), "an audit is left out: this node is about to stop");
            return None;
        }
    };
    let listed = learn(auditing, storer, &mut of).await;
    if let Err(error) = &listed {
        tracing::info!(%node, epoch = super::number(epoch), %error, "what a node holds is not known here");
    }
    let is_trouble = matches!(listed, Err(Unlisted::Trouble(_)));
    let nonce = of.nonce(auditing)?;
    let listed = listed.ok();
    let (core, objects) = match listed.clone() {
        Some(holdings) => {
            let objects = holdings.entries().iter().map(|holding| holding.object).collect();
            let seed = Seed { beacon: of.beacon, node, epoch, holdings: holdings.root(), nonce };
            let core = if of.is_opener { Audit::opener } else { Audit::witness };
            (core(keeping.me(), seed, holdings, of.pace), objects)
        }
        None => {
            let seed = Seed { beacon: of.beacon, node, epoch, holdings: Hash32::ZERO, nonce };
            (Audit::without_list(keeping.me(), seed, of.is_opener), Vec::new())
        }
    };
    let mut line = Line { auditing, of: &of, storer, core, objects, started, is_trouble, failed: None };
    let verdict = line.run(&mut mail).await;
    if let (Verdict::Failed, Some((nonce, answer))) = (verdict.verdict, &line.failed)
        && let Err(error) = keep_evidence(auditing, &of, &verdict, *nonce, answer, listed.as_ref())
    {
        tracing::error!(%node, epoch, error = format!("{error:#}"), "the answer of a failed audit is not kept");
    }
    // Rent is paid on `passed`, and none to who is suspended: it may have become so since the draw.
    let is_paid = super::is_own(epoch) || verdict.verdict != Verdict::Passed || auditing.books().is_paid(node, verdict.verdict);
    if !is_paid {
        tracing::info!(%node, epoch, "a suspended node gets no verdict that rent is paid on");
    }
    is_paid.then_some(verdict)
}

impl Assignment {
    /// What an opener challenges with, zero for a witness; nothing if none can be drawn or kept.
    fn nonce(&self, auditing: &Auditing) -> Option<Hash32> {
        let Self { epoch, node, is_opener, .. } = *self;
        let mut nonce = [0; 32];
        if is_opener && getrandom::fill(&mut nonce).is_err() {
            return None;
        }
        // An audit that a restart broke off is opened by the same nonce: the node answers no second one.
        if !is_opener || super::is_own(epoch) {
            return Some(Hash32(nonce));
        }
        let kept = auditing.books().opening(epoch, node, Hash32(nonce));
        match kept {
            Ok(kept) => Some(kept),
            Err(error) => {
                tracing::error!(%node, epoch, error = format!("{error:#}"), "an audit is not opened");
                None
            }
        }
    }
}

/// What a node holds: its commitment, asked for if it was not heard, and the list behind it.
async fn learn(auditing: &Arc<Auditing>, storer: Option<Storer>, of: &mut Assignment) -> Result<Holdings, Unlisted> {
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
        Reply::Refused(reason) => bail!("it shows no commitment: {reason}"),
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
    for (object, fragment) in holdings::known_of(keeping, commit.node).await.map_err(Unlisted::Trouble)? {
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
        Reply::Refused(reason) => Err(Unlisted::Silent(anyhow::anyhow!("it shows no list: {reason}"))),
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
async fn shown(keeping: &Keeping, node: Address, listed: &Listed) -> Result<storage::proto::audit::Holding, Unlisted> {
    let record = Record::decode(&listed.record).map_err(Unlisted::silent)?;
    let object = record.object();
    let state = keeping.state();
    if let Some(erasure) = state.erased_object(object) {
        let is_late = is_late(keeping, erasure.block(), keeping.snapshots.borrow().tip.number);
        let error = anyhow::anyhow!("it lists object {object}, which was erased on request");
        return Err(if is_late { Unlisted::Trouble(error) } else { Unlisted::Silent(error) });
    }
    if crate::datanet::placing::registered(&state, object).is_none() {
        return Err(Unlisted::silent(anyhow::anyhow!("it lists object {object}, which nobody contributed")));
    }
    let registered = keeping.registered(object).await.map_err(Unlisted::Trouble)?;
    let own = keeping.record(object).map_err(Unlisted::Trouble)?;
    registered.check(&keeping.chain, keeping.epoch_blocks, &record, own.as_ref()).await.map_err(|error| {
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
    let is_new =
        crate::datanet::placing::registered(&keeping.state(), object).is_none_or(|accepted| is_late(keeping, accepted.accepted.0, tip));
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
    /// Whether this node cannot tell what the node holds, by its own doing.
    is_trouble: bool,
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
        let mut output = self.handle(Instant::now(), Input::Start);
        loop {
            output = match output {
                Some(Output::Done(verdict)) if verdict.verdict == Verdict::Offline && self.hears_nobody().await => {
                    tracing::warn!(node = %self.of.node, "nobody else answers either: it is this node's line that fails");
                    return AuditVerdict { verdict: Verdict::Unknown, ..verdict };
                }
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
            // It is there, and what it holds is not known here: nothing can be said of it.
            Ok(Reply::Here) if self.is_trouble => self.handle(Instant::now(), Input::Trouble),
            Ok(Reply::Here) => self.handle(Instant::now(), Input::Pong),
            _ => {
                tokio::time::sleep_until(sent + ROUND_TRIP_MAX).await;
                self.tick().await
            }
        }
    }

    /// Whether nobody of some others answers a ping.
    async fn hears_nobody(&self) -> bool {
        let keeping = &self.auditing.keeping;
        let storers = keeping.storers().await.unwrap_or_default();
        let others = storers.into_iter().filter(|(account, _)| *account != self.of.node && *account != keeping.me());
        let asks = others.take(OTHERS_MAX).map(|(_, storer)| async move {
            // Longer than a ping may take: whether there is a line at all is asked, not how fast it is.
            matches!(ask(&keeping.bulk, storer.node, storer.addr, &Ask::Ping, OPENED_LIMIT).await, Ok(Reply::Here))
        });
        !futures::future::join_all(asks).await.contains(&true)
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
    /// What the node did not show, if the answer tells: a slash case is opened with it.
    unshown: Option<Unshown>,
}

/// What an answer does not show, in words and as a slash case needs it.
fn fault(of: &Assignment, nonce: Hash32, answer: &SignedAnswer, holdings: Option<&Holdings>) -> (String, Option<Unshown>) {
    let Some(holdings) = holdings else { return ("it showed no list of what it holds".to_owned(), None) };
    let seed = Seed { beacon: of.beacon, node: of.node, epoch: of.epoch, holdings: holdings.root(), nonce };
    let fault = match Answer::decode(&answer.bytes).map(|answer| answer.check(&seed, holdings).1) {
        Ok(Err(fault)) => fault,
        Ok(Ok(())) => return ("it shows the whole walk".to_owned(), None),
        Err(error) => return (error.to_string(), None),
    };
    let unshown = fault.unshown().zip(of.commit.clone()).and_then(|((object, fragment, range), commit)| {
        let place = holdings.entries().iter().position(|held| (held.object, held.fragment) == (object, fragment))?;
        Some(Unshown { commit, held: holdings.entries()[place].held(), opening: holdings.open(place)?, range })
    });
    (fault.to_string(), unshown)
}

fn keep_evidence(
    auditing: &Auditing,
    of: &Assignment,
    verdict: &AuditVerdict,
    nonce: Hash32,
    answer: &SignedAnswer,
    holdings: Option<&Holdings>,
) -> anyhow::Result<()> {
    let folder = auditing.data.path().join("evidence");
    std::fs::create_dir_all(&folder)?;
    if std::fs::read_dir(&folder)?.count() >= EVIDENCE_MAX {
        bail!("{} holds {EVIDENCE_MAX} files already: move them away", folder.display());
    }
    let (fault, unshown) = fault(of, nonce, answer, holdings);
    let evidence = Evidence {
        commit: of.commit.clone(),
        verdict: *verdict,
        beacon: of.beacon,
        nonce,
        auditors: &of.auditors,
        answer: hex::encode(&answer.bytes),
        signature: hex::encode(answer.signature),
        fault,
        unshown,
    };
    let path =
        folder.join(format!("audit-{}{}-{}.json", if super::is_own(of.epoch) { "" } else { "rent-" }, super::number(of.epoch), of.node));
    Ok(write_atomic(&path, &serde_json::to_vec_pretty(&evidence)?, 0o644)?)
}
