//! One audit by this node: the shell of `storage::proto::audit::Audit`.
//!
//! What the node committed to is learned first (`learning`). A node that shows no commitment, or a list that is not what it committed to, or one that leaves out a living fragment
//! that this node's records name it for since before the epoch, is audited as one that is silent ([`Audit::without_list`]); the left-out fragment is told to repair.
//! *Unknown* is said for this node's own trouble alone: its disk, the chain it asks, a line over which nobody answers, and an object that was erased on request since the node committed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use p2p::bulk::BulkEndpoint;
use storage::proto::audit::{
    Audit, Pace, Seed,
    auditor::{Input, Output, PATIENCE, READS_MIN, ROUND_TRIP_MAX},
    message::{Ask, REPLY_BYTES_MAX, Reply, SignedAnswer},
};
use tokio::time::Instant;
use types::{
    audit::{AuditCommit, AuditVerdict, Verdict},
    id::{Address, BlobId, Hash32, NodeId},
    key::Signed,
    merkle::keccak,
    time::Time,
};

use super::{
    AUDIT_ALPN, Auditing, Mail, Mailbox,
    answering::check_answer,
    evidence::keep_evidence,
    holdings,
    learning::{Unlisted, learn},
};
use crate::{
    datanet::{exchange::round, placing::Storer},
    service::keeping::Keeping,
};

/// Others of whom one must answer before a node is said to be offline.
const OTHERS_MAX: usize = 8;
/// Longest wait for another auditor to hear a nonce.
const OPENED_LIMIT: Duration = Duration::from_secs(10);

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
        && let Err(error) = keep_evidence(auditing, &of, &verdict, *nonce, answer, listed.as_ref()).await
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
                Some(Output::Done(verdict)) => return self.unless_alone(verdict).await,
                Some(Output::Ping) => self.ping().await,
                Some(Output::Challenge { nonce }) => self.challenge(nonce).await,
                None => self.wait(mail).await,
            };
        }
    }

    /// A verdict, or *unknown* in place of *offline* where it is this node's line that fails.
    async fn unless_alone(&self, verdict: AuditVerdict) -> AuditVerdict {
        if verdict.verdict != Verdict::Offline || !self.hears_nobody().await {
            return verdict;
        }
        tracing::warn!(node = %self.of.node, "nobody else answers either: it is this node's line that fails");
        AuditVerdict { verdict: Verdict::Unknown, ..verdict }
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
