//! One answer over all its attempts: nodes are asked in turn until one has answered with a receipt, and what that cost is counted whatever happens.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use attribution::bundle::Bundle;
use inference::{
    proto::{
        draft::{Cause, Draft, End},
        message::Told,
        spending::day_of,
    },
    sampler::{Stops, text_len},
};
use p2p::client::Connection;
use types::{
    amount::{Amount, AmountError},
    id::NodeId,
    key::Signed,
    receipt::{Reason, Receipt},
    text,
};

use super::{
    Abandoned, Answered, Asker, Candidate, Event, Keep, Listener, Question, Unanswered,
    attempts::attempts,
    kept::{bundle_path, kept_bundle},
    recall::Recalled,
};
use crate::{
    evidence,
    notice::{Notice, now_s},
    output::money,
    purse::{Asked, Running},
};

/// Most nodes tried for one answer.
const ATTEMPTS_MAX: u16 = 8;
/// Times one node is tried for one answer, unless it says no for good.
const TRIES_MAX: u8 = 2;
/// How long busy nodes are waited for where there is no other: an answer that its client left ends within ten seconds.
const BUSY_WAIT: Duration = Duration::from_secs(20);

/// How one attempt ended.
pub(super) enum Tried {
    Done {
        bundle: Box<Bundle>,
        reason: Reason,
    },
    /// Another node, or this one later.
    Lost(Cause, String),
    /// Another node only.
    Refused(Cause, String),
    /// The node signed that it charges nothing: another node, unless no node would say more.
    Unbilled(Cause, String),
}

/// What all attempts of an answer share.
pub(super) struct Progress<'e> {
    pub(super) draft: Draft,
    /// What may be shown of the text: not a stop string, and not yet what may become one.
    pub(super) stops: Stops,
    /// Counted in the books of spending, with what is promised in this run.
    pub(super) running: Running,
    pub(super) prompt_bytes: Vec<u8>,
    started: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    abandoned: Vec<Abandoned>,
    /// Reached while the node before was given up.
    pub(super) ready: Option<(NodeId, Connection)>,
    /// Times an attempt was taken up.
    pub(super) resumed: u32,
    /// Receipts with fee 0.
    pub(super) signed: Vec<Signed<Receipt>>,
    /// Until when a busy node is waited for.
    pub(super) patience: Instant,
    /// The shortest time after which a node that had no room may have some.
    retry: Option<Duration>,
    pub(super) keep: Keep<'e>,
    pub(super) listener: &'e mut dyn Listener,
}

impl Asker {
    /// Goes on with a request where `draft` stands, after what was [`Asker::recall`]ed of it, asking `candidates` in order until one has answered;
    /// `keep` is given the draft whenever it must not be forgotten. Nothing is sent if the answer could exceed a cap.
    ///
    /// May be dropped half-way: the node is told by the reset of its stream, and what was promised counts until [`Asker::recall`] has the node's word,
    /// as after a process that died.
    pub async fn go_on(
        &self,
        question: &Question,
        mut draft: Draft,
        recalled: &[Recalled],
        candidates: &[Candidate],
        keep: Keep<'_>,
        listener: &mut dyn Listener,
    ) -> anyhow::Result<Answered> {
        if candidates.is_empty() {
            bail!("no node offers this: check the name with `tributary status`, or start a node that serves it");
        }
        let prompt_bytes = evidence::prompt_bytes(&question.turns).map_err(anyhow::Error::msg)?;
        self.settle_draft(&mut draft, recalled)?;
        let request = draft.request().document;
        let asked = (question.options.sampling(), question.options.digest());
        ensure!(asked == (request.sampling, request.options), "the request that was begun has other options: ask anew");
        let mut stops = Stops::new(&question.options.stop);
        stops.push(draft.bytes());
        let (before, day) = (draft.cost()?, day_of(now_s()));
        let asked = Asked { request: request.id(), key: self.signer.address(), limit: request.spending_limit, before, day };
        let running = self.purse.begin(&self.domains, self.caps, asked)?;
        let had_ended: Vec<bool> = draft.tries().iter().map(|one| one.end.is_some()).collect();
        let mut progress = Progress {
            draft,
            stops,
            running,
            prompt_bytes,
            started: Instant::now(),
            first_token: None,
            last_token: None,
            abandoned: Vec::new(),
            ready: None,
            resumed: 0,
            signed: Vec::new(),
            patience: Instant::now() + BUSY_WAIT,
            retry: None,
            keep,
            listener,
        };
        let ended = self.try_all(question, candidates, &mut progress).await;
        progress.show_rest();
        progress.draft.fail(Cause::Interrupted, "this client failed", false);
        (progress.keep)(&progress.draft)?;
        let (paid, settled) = receipts(&progress.draft, &had_ended)?;
        self.purse.end(&self.domains, &progress.running, paid, settled)?;
        let ended = ended?;
        let notice = Notice::of(&progress.draft, ended.is_ok(), std::mem::take(&mut progress.signed)).map(|notice| {
            let kept = notice.keep(&self.failures);
            if let Err(error) = &kept {
                tracing::warn!(error = format!("{error:#}"), "the failure notice was not kept");
            }
            (notice, kept.ok())
        });
        match (ended, notice) {
            (Ok((node, bundle, reason)), notice) => {
                let kept = bundle_path(&self.receipts, bundle.receipt.document.request, bundle.receipt.document.attempt);
                let attempts = attempts(&progress.draft, &self.receipts);
                Ok(Answered { notice, attempts, ..finish(question, progress, node, *bundle, kept, reason) })
            }
            (Err(why), None) => bail!(why),
            (Err(why), Some((notice, kept))) => {
                let (text, is_whole, retry) = (whole_text(question, &progress.draft), progress.draft.ended().is_some(), progress.retry);
                Err(Unanswered { why, text, is_whole, notice, kept, retry }.into())
            }
        }
    }

    /// Tries nodes until one has answered with a receipt; else why none has, in words. An error is the client's own.
    async fn try_all(
        &self,
        question: &Question,
        candidates: &[Candidate],
        progress: &mut Progress<'_>,
    ) -> anyhow::Result<Result<(NodeId, Box<Bundle>, Reason), String>> {
        if let Some(bundle) = kept_bundle(&self.receipts, &progress.draft)
            && let Some(candidate) = candidates.iter().find(|candidate| candidate.account == bundle.receipt.document.node)
        {
            progress.draft.receipt(bundle.receipt.document.fee);
            let reason = bundle.receipt.document.reason;
            return Ok(Ok((candidate.node, Box::new(bundle), reason)));
        }
        if progress.draft.ended().is_some() {
            return Ok(Err("the whole answer came before, and no receipt for its end: it is not asked for again".to_owned()));
        }
        let mut waiting: VecDeque<(&Candidate, u8)> = candidates.iter().map(|candidate| (candidate, 1)).collect();
        for _ in 0..ATTEMPTS_MAX {
            let Some((candidate, tries)) = waiting.pop_front() else { break };
            progress.listener.hear(Event::Asking(candidate));
            let had = progress.draft.tokens().len();
            let attempt = progress.draft.begin(candidate.account)?;
            (progress.keep)(&progress.draft)?;
            let next = waiting.front().map(|(next, _)| *next);
            let (cause, reason, is_signed) = match self.attempt(question, candidate, attempt, next, progress).await? {
                Tried::Done { bundle, reason } => {
                    progress.draft.receipt(bundle.receipt.document.fee);
                    return Ok(Ok((candidate.node, bundle, reason)));
                }
                Tried::Lost(cause, reason) => {
                    if tries < TRIES_MAX {
                        waiting.push_back((candidate, tries + 1));
                    }
                    (cause, reason, false)
                }
                Tried::Refused(cause, reason) => (cause, reason, false),
                Tried::Unbilled(cause, reason) => {
                    if cause == Cause::EngineFailure && tries < TRIES_MAX {
                        waiting.push_back((candidate, tries + 1));
                    }
                    (cause, reason, true)
                }
            };
            let cause = if progress.draft.ended().is_some() && !is_signed { Cause::NoReceipt } else { cause };
            progress.draft.fail(cause, reason.clone(), is_signed);
            (progress.keep)(&progress.draft)?;
            tracing::warn!(node = %candidate.node, %reason, "trying another node");
            let abandoned = Abandoned { node: candidate.node, tokens: progress.draft.tokens().len() - had, reason, gap_ms: None };
            progress.listener.hear(Event::Abandoned(&abandoned, cause));
            progress.abandoned.push(abandoned);
            if cause == Cause::Empty {
                // The model ends here at every node: what came before is the whole answer.
                progress.draft.finish(Reason::Stop);
                return Ok(Err("the model has nothing more to say, and what came before has no receipt".to_owned()));
            }
            if progress.draft.ended().is_some() {
                return Ok(Err(format!(
                    "{} delivered the whole answer and no receipt that stands ({}): up to {} were promised for it",
                    candidate.node,
                    progress.abandoned.last().map_or("", |abandoned| &abandoned.reason),
                    money(progress.draft.cost()?)
                )));
            }
        }
        let reasons: Vec<String> = progress.abandoned.iter().map(|a| format!("{}: {}", a.node, a.reason)).collect();
        Ok(Err(format!("no node answered:\n  {}", reasons.join("\n  "))))
    }
}

impl Progress<'_> {
    /// A node has no room, and may have some after `wait`.
    pub(super) fn busy_for(&mut self, wait: Option<Duration>) {
        self.retry = self.retry.into_iter().chain(wait).min();
    }

    pub(super) fn token(&mut self, id: u32, bytes: &[u8], told: &[Told]) {
        let now = Instant::now();
        if let Some(gap) = self.abandoned.last_mut().filter(|abandoned| abandoned.gap_ms.is_none()) {
            let since = self.last_token.unwrap_or(self.started);
            gap.gap_ms = Some(millis(now - since));
        }
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
        self.draft.token(id, bytes);
        let shown = self.stops.push(bytes).bytes;
        self.listener.hear(Event::Token(&shown, self.draft.tokens().len(), told));
    }

    /// Shows what was held back as the beginning of a stop string and is none.
    fn show_rest(&mut self) {
        let rest = self.stops.held();
        if !rest.is_empty() {
            self.listener.hear(Event::Token(rest, self.draft.tokens().len(), &[]));
        }
    }
}

/// The text of all tokens so far, up to a stop string.
fn whole_text(question: &Question, draft: &Draft) -> String {
    text::canonical_lossy(&draft.bytes()[..text_len(&question.options.stop, &[], draft.bytes())])
}

/// What receipts charge that came since `had_ended` was read, and which attempts have one of any kind.
fn receipts(draft: &Draft, had_ended: &[bool]) -> Result<(Amount, BTreeSet<u16>), AmountError> {
    let (mut paid, mut settled) = (Amount::ZERO, BTreeSet::new());
    for ((attempt, one), place) in (0..).zip(draft.tries()).zip(0..) {
        match &one.end {
            Some(End::Receipt { fee }) => {
                if !had_ended.get(place).copied().unwrap_or_default() {
                    paid = paid.plus(*fee)?;
                }
                settled.insert(attempt);
            }
            Some(End::Failed { is_signed: true, .. }) => drop(settled.insert(attempt)),
            _ => {}
        }
    }
    Ok((paid, settled))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn finish(question: &Question, progress: Progress<'_>, node: NodeId, bundle: Bundle, kept: PathBuf, reason: Reason) -> Answered {
    let first = progress.first_token.unwrap_or(progress.started);
    let seconds = progress.last_token.map_or(0.0, |last| (last - first).as_secs_f64());
    let after_first = u32::try_from(progress.draft.tokens().len().saturating_sub(1)).unwrap_or(u32::MAX);
    Answered {
        text: whole_text(question, &progress.draft),
        node,
        bundle,
        kept,
        ttft_ms: millis(first - progress.started),
        tokens_per_s: if seconds > 0.0 { f64::from(after_first) / seconds } else { 0.0 },
        tokens: progress.draft.tokens().to_vec(),
        abandoned: progress.abandoned,
        resumed: progress.resumed,
        reason,
        attempts: Vec::new(),
        notice: None,
    }
}
