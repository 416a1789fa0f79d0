//! Asking: a quote, tokens paid as they arrive, a receipt checked before it is kept, and another node when one dies.
//!
//! Carries frames between streams and [`Asking`]; the client's own record of tokens ([`Draft`]) is what its vouchers say, what a failover continues from
//! and, where the shell keeps it, what a second process goes on with after a crash. What may be spent is asked of the purse before anything is sent.

mod talk;
mod unbilled;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use attribution::bundle::{BUNDLE_BYTES_MAX, Bundle};
use inference::proto::{
    draft::{Cause, Draft},
    message::{Begin, FromClient, FromNode, Turn},
    payment::{Asking, Terms, match_quote},
    spending::{Caps, day_of},
};
use p2p::client::Client;
use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32, NodeId},
    key::{Account, Domains, Signed},
    manifest::Manifest,
    quote::{Class, Profile, Quote},
    receipt::{Reason, Receipt},
    request::{Request, SamplingRule},
    text,
    voucher::Voucher,
};

use self::{
    talk::{Stop, Talk},
    unbilled::Expected,
};
use crate::{
    data::{read_bounded, write_atomic},
    evidence,
    notice::{Notice, now_s},
    purse::{HeldLane, LaneTerms, Purse},
};

/// Most nodes tried for one answer.
const ATTEMPTS_MAX: u16 = 8;
/// Times one node is tried for one answer, unless it says no for good.
const TRIES_MAX: u8 = 2;
/// Most bytes of text of one token: a node that sends more fills this client's memory, not its answer.
const TOKEN_BYTES_MAX: usize = 1 << 10;
/// Blocks behind the head that a quote may name: contracts void a receipt that names an older one.
const QUOTE_AGE_MAX: u64 = 256;

/// A node to ask, with where it is.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its registered account.
    pub account: Address,
    /// Where it listens for clients.
    pub addr: std::net::SocketAddr,
}

/// What to ask.
#[derive(Debug, Clone)]
pub struct Question {
    /// From the purse; it also drew the order of equal providers.
    pub nonce: u64,
    /// The conversation; contents are made canonical before they are signed.
    pub turns: Vec<Turn>,
    /// What shall answer.
    pub manifest: Manifest,
    /// Privacy class.
    pub class: Class,
    /// Sampling.
    pub sampling: SamplingRule,
    /// Most output tokens.
    pub tokens_max: u32,
    /// Most that may be spent.
    pub spending_limit: Amount,
    /// Most wei per 1,000 input and output tokens.
    pub rates_max: (Amount, Amount),
}

/// A node that was given up, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Abandoned {
    /// The node.
    pub node: NodeId,
    /// Tokens received from it.
    pub tokens: usize,
    /// Why.
    pub reason: String,
    /// Milliseconds from its last sign of life to the first token elsewhere, once there is one.
    pub gap_ms: Option<u64>,
}

/// An answer with its evidence.
#[derive(Debug)]
pub struct Answered {
    /// Canonical text of all attempts' tokens.
    pub text: String,
    /// The node that ended it.
    pub node: NodeId,
    /// All output tokens.
    pub tokens: Vec<u32>,
    /// The bundle of the attempt that ended the answer.
    pub bundle: Bundle,
    /// Where it is kept.
    pub kept: PathBuf,
    /// Nodes given up on the way.
    pub abandoned: Vec<Abandoned>,
    /// Milliseconds from the question to the first token.
    pub ttft_ms: u64,
    /// Output tokens per second after the first.
    pub tokens_per_s: f64,
    /// Why it ended.
    pub reason: Reason,
    /// What was not billed on the way, if anything, and where that is kept.
    pub notice: Option<(Notice, Option<PathBuf>)>,
}

/// No answer, or none that is billed.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unanswered {
    /// In words.
    pub why: String,
    /// What was received, canonical.
    pub text: String,
    /// Whether that is all of it.
    pub is_whole: bool,
    /// What failed, and what it may cost.
    pub notice: Notice,
    /// Where the notice is kept.
    pub kept: Option<PathBuf>,
}

/// Keeps a request's state; it must be on disk when this returns.
pub type Keep<'k> = &'k mut (dyn FnMut(&Draft) -> anyhow::Result<()> + Send);

/// What happens while an answer streams.
#[derive(Debug)]
pub enum Event<'a> {
    /// A node was chosen.
    Asking(&'a Candidate),
    /// Its handshake is done; the quote comes next.
    Connected(&'a Candidate),
    /// Its quote is signed and within the request's limits.
    Quoted(&'a Quote),
    /// It has checked request, lane and deposit, and noted the request; the prompt runs from here.
    Begun,
    /// A token arrived, with the number of tokens so far.
    Token(&'a [u8], usize),
    /// A node was given up.
    Abandoned(&'a Abandoned),
}

/// A client.
#[derive(Debug)]
pub struct Asker {
    /// Who asks and pays.
    pub payer: Address,
    /// Who signs requests, lanes and vouchers: the payer itself, or a session key that it lets sign.
    pub signer: Account,
    /// What may be spent.
    pub caps: Caps,
    /// Signature domains.
    pub domains: Domains,
    /// Nonce and lanes.
    pub purse: Purse,
    /// QUIC.
    pub quic: Client,
    /// Terms of new lanes.
    pub lanes: LaneTerms,
    /// Folder of the bundles: each is there before its lane's books move.
    pub receipts: PathBuf,
    /// Folder of the failure notices.
    pub failures: PathBuf,
}

/// How one attempt ended.
enum Attempt {
    Done {
        bundle: Box<Bundle>,
        reason: Reason,
    },
    /// Another node, or this one later.
    Lost(Cause, String),
    /// Another node only.
    Refused(String),
    /// The node signed that it charges nothing: another node, unless no node would say more.
    Unbilled(Cause, String),
}

/// What all attempts of an answer share.
struct Progress<'e> {
    draft: Draft,
    prompt_bytes: Vec<u8>,
    started: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    abandoned: Vec<Abandoned>,
    /// Receipts with fee 0.
    signed: Vec<Signed<Receipt>>,
    keep: Keep<'e>,
    on_event: &'e mut (dyn FnMut(Event<'_>) + Send),
}

impl Asker {
    /// Asks `candidates` in order until one has answered.
    pub async fn ask(
        &self,
        question: &Question,
        candidates: &[Candidate],
        on_event: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> anyhow::Result<Answered> {
        let draft = self.sign(question)?;
        self.go_on(question, draft, candidates, &mut |_| Ok(()), on_event).await
    }

    /// Signs the request of a question.
    pub fn sign(&self, question: &Question) -> anyhow::Result<Draft> {
        let prompt_bytes = evidence::prompt_bytes(&question.turns).map_err(anyhow::Error::msg)?;
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).context("no randomness from the system")?;
        let prompt_salt = Hash32(salt);
        let request = Request {
            client: self.payer,
            nonce: question.nonce,
            manifest: question.manifest.root(),
            rate_in_max: question.rates_max.0,
            rate_out_max: question.rates_max.1,
            profile: Profile::CandleF32B1,
            class: question.class,
            sampling: question.sampling,
            prompt_root: text::prompt_root(&prompt_bytes, prompt_salt),
            tokens_max: question.tokens_max,
            spending_limit: question.spending_limit,
        };
        Ok(Draft::new(Signed::new(&self.signer, &self.domains, request), prompt_salt))
    }

    /// Goes on with a request where `draft` stands, asking `candidates` in order until one has answered; `keep` is given the draft whenever it must not
    /// be forgotten. Nothing is sent if the answer could exceed a cap.
    pub async fn go_on(
        &self,
        question: &Question,
        draft: Draft,
        candidates: &[Candidate],
        keep: Keep<'_>,
        on_event: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> anyhow::Result<Answered> {
        if candidates.is_empty() {
            bail!("no node offers this: check the name with `tributary status`, or start a node that serves it");
        }
        let prompt_bytes = evidence::prompt_bytes(&question.turns).map_err(anyhow::Error::msg)?;
        let request = draft.request().document;
        let (id, before, day) = (request.id(), draft.cost()?, day_of(now_s()));
        self.purse
            .spending(&self.domains, |books| books.begin(self.caps, id, self.signer.address(), request.spending_limit, before, day))?;
        let mut progress = Progress {
            draft,
            prompt_bytes,
            started: Instant::now(),
            first_token: None,
            last_token: None,
            abandoned: Vec::new(),
            signed: Vec::new(),
            keep,
            on_event,
        };
        let ended = self.try_all(question, candidates, &mut progress).await;
        progress.draft.fail(Cause::Interrupted, "this client failed", false);
        (progress.keep)(&progress.draft)?;
        let cost = progress.draft.cost()?;
        self.purse.spending(&self.domains, |books| {
            books.end(id, cost);
            Ok::<_, std::convert::Infallible>(())
        })?;
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
                Ok(Answered { notice, ..finish(progress, node, *bundle, kept, reason) })
            }
            (Err(why), None) => bail!(why),
            (Err(why), Some((notice, kept))) => {
                let (text, is_whole) = (text::canonical_lossy(progress.draft.bytes()), progress.draft.ended().is_some());
                Err(Unanswered { why, text, is_whole, notice, kept }.into())
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
            (progress.on_event)(Event::Asking(candidate));
            let had = progress.draft.tokens().len();
            let attempt = progress.draft.begin(candidate.account)?;
            (progress.keep)(&progress.draft)?;
            let (cause, reason, is_signed) = match self.attempt(question, candidate, attempt, progress).await? {
                Attempt::Done { bundle, reason } => {
                    progress.draft.receipt(bundle.receipt.document.fee);
                    return Ok(Ok((candidate.node, bundle, reason)));
                }
                Attempt::Lost(cause, reason) => {
                    if tries < TRIES_MAX {
                        waiting.push_back((candidate, tries + 1));
                    }
                    (cause, reason, false)
                }
                Attempt::Refused(reason) => (Cause::Refused, reason, false),
                Attempt::Unbilled(cause, reason) => {
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
            (progress.on_event)(Event::Abandoned(&abandoned));
            progress.abandoned.push(abandoned);
            if cause == Cause::Empty {
                // The model ends here at every node: what came before is the whole answer.
                progress.draft.finish(Reason::Stop);
                return Ok(Err("the model has nothing more to say, and what came before has no receipt".to_owned()));
            }
            if progress.draft.ended().is_some() {
                return Ok(Err(format!(
                    "{} delivered the whole answer and no receipt that stands ({}): up to {} wei were promised for it",
                    candidate.node,
                    progress.abandoned.last().map_or("", |abandoned| &abandoned.reason),
                    progress.draft.cost()?
                )));
            }
        }
        let reasons: Vec<String> = progress.abandoned.iter().map(|a| format!("{}: {}", a.node, a.reason)).collect();
        Ok(Err(format!("no node answered:\n  {}", reasons.join("\n  "))))
    }

    /// One node's try. An error is the client's own; whatever the node does wrong is [`Attempt::Lost`].
    async fn attempt(
        &self,
        question: &Question,
        candidate: &Candidate,
        attempt: u16,
        progress: &mut Progress<'_>,
    ) -> anyhow::Result<Attempt> {
        let connection = match self.quic.connect(candidate.addr, Some(candidate.node)).await {
            Ok(connection) => connection,
            Err(error) => return Ok(Attempt::Lost(Cause::Unreachable, error.to_string())),
        };
        (progress.on_event)(Event::Connected(candidate));
        let stream = match connection.open_stream().await {
            Ok(stream) => stream,
            Err(error) => return Ok(Attempt::Lost(Cause::Unreachable, error.to_string())),
        };
        let mut talk = Talk::new(stream);
        let outcome = self.converse(question, candidate, attempt, progress, &mut talk).await;
        let given_up = match outcome {
            Ok(done) => return Ok(done),
            Err(Stop::Mine(error)) => return Err(error),
            Err(Stop::Theirs(cause, reason)) => Attempt::Lost(cause, reason),
            Err(Stop::Refused(reason)) => Attempt::Refused(reason),
        };
        talk.cancel();
        Ok(given_up)
    }

    async fn converse(
        &self,
        question: &Question,
        candidate: &Candidate,
        attempt: u16,
        progress: &mut Progress<'_>,
        talk: &mut Talk,
    ) -> Result<Attempt, Stop> {
        let request = progress.draft.request().document;
        let room = progress.draft.room().map_err(anyhow::Error::from)?;
        let ask = FromClient::QuoteAsk {
            manifest: request.manifest,
            profile: request.profile,
            class: request.class,
            tokens_max: question.tokens_max,
        };
        talk.send(&ask).await?;
        // The lane is taken from the disk while the quote is on its way.
        let payer = self.payer;
        let mut lane = self.purse.hold_lane(payer, &self.signer, &self.domains, candidate.account, self.lanes, room)?;
        let FromNode::Quote(quote) = talk.recv().await? else { return Err(Stop::out_of_order("a quote")) };
        (progress.on_event)(Event::Quoted(&quote.document));
        let continued = progress.draft.tokens().to_vec();
        let begin = Begin {
            request: progress.draft.request().clone(),
            attempt,
            quote: quote.clone(),
            lane: lane.lane().clone(),
            session: Some(self.signer.address()).filter(|signer| *signer != payer),
            manifest: question.manifest.clone(),
            turns: question.turns.clone(),
            prompt_salt: progress.draft.prompt_salt(),
            continued: continued.clone(),
        };
        talk.send(&FromClient::Begin(Box::new(begin.clone()))).await?;
        // Checked while the node reads on: nothing is promised before the first voucher.
        self.check_quote(candidate, &request, &quote)?;
        let FromNode::Begun { tokens_in, base } = talk.recv().await? else { return Err(Stop::out_of_order("the beginning")) };
        (progress.on_event)(Event::Begun);
        if base != lane.cumulative() {
            // The vouchers behind it stand, but this lane's sum is no longer ours to continue.
            lane.promise()?;
            return Err(Stop::misbehaved(format!(
                "its books have the lane at {base} wei, this client's last receipt at {}",
                lane.cumulative()
            )));
        }
        let terms = Terms {
            lane: lane.lane().document.id(),
            request: request.id(),
            attempt,
            quote: quote.document.hash(),
            continued,
            tokens_in,
            base,
            rate_in: quote.document.rate_in,
            rate_out: quote.document.rate_out,
            protocol_fee: quote.document.protocol_fee,
        };
        let expected = Expected::new(&begin, &terms);
        let tokens_max =
            request.tokens_max.min(quote.document.tokens_max).saturating_sub(terms.first_token().map_err(anyhow::Error::from)?);
        let mut asking =
            Asking::new(terms, progress.prompt_bytes.len(), question.turns.len(), tokens_max, room).map_err(Stop::misbehaved)?;
        let first_byte = progress.draft.bytes().len();
        let mut last: Option<Signed<Voucher>> = None;
        let reason = loop {
            match talk.recv().await? {
                FromNode::Token { bytes, .. } if bytes.len() > TOKEN_BYTES_MAX => {
                    return Err(Stop::misbehaved(format!(
                        "it sent {} bytes of text for one token, at most {TOKEN_BYTES_MAX} are taken",
                        bytes.len()
                    )));
                }
                FromNode::Token { index, id, bytes } => {
                    let due = asking.token(index, id).map_err(Stop::misbehaved)?;
                    progress.token(id, &bytes);
                    if let Some(voucher) = due {
                        last = Some(self.promise(talk, &mut lane, voucher, progress).await?);
                    }
                }
                FromNode::Finished { reason } => break reason,
                FromNode::Receipt(delivered) => return self.unbilled(&expected, *delivered, &mut lane, progress),
                _ => return Err(Stop::out_of_order("a token")),
            }
        };
        if let Some(voucher) = asking.rest().map_err(Stop::misbehaved)? {
            last = Some(self.promise(talk, &mut lane, voucher, progress).await?);
        }
        let Some(voucher) = last else {
            // With its receipt it is the model's end, without one the node's.
            return match talk.recv().await {
                Ok(FromNode::Receipt(delivered)) => self.unbilled(&expected, *delivered, &mut lane, progress),
                _ => Err(Stop::misbehaved("it ended the answer without a token")),
            };
        };
        progress.draft.finish(reason);
        (progress.keep)(&progress.draft)?;
        let FromNode::Receipt(delivered) = talk.recv().await? else { return Err(Stop::out_of_order("the receipt")) };
        if !delivered.receipt.reason.is_billable() {
            return self.unbilled(&expected, *delivered, &mut lane, progress);
        }
        let text = text::canonical_lossy(&progress.draft.bytes()[first_byte..]);
        if delivered.answer != text {
            return Err(Stop::misbehaved("the receipt's answer is not the text that was streamed"));
        }
        let bundle = evidence::assemble(&self.domains, &begin, &voucher, *delivered, asking.tokens()).map_err(Stop::misbehaved)?;
        if bundle.receipt.document.reason != reason {
            let said = bundle.receipt.document.reason;
            return Err(Stop::misbehaved(format!("its receipt says the answer ended by {said:?}, its stream {reason:?}")));
        }
        self.check(&bundle, &mut lane, &voucher)?;
        Ok(Attempt::Done { bundle: Box::new(bundle), reason })
    }

    /// The node signed that it charges nothing: once that is verified, its vouchers of this attempt count no more and the lane stands where it did.
    fn unbilled(
        &self,
        expected: &Expected,
        delivered: inference::proto::message::Delivered,
        lane: &mut HeldLane,
        progress: &mut Progress<'_>,
    ) -> Result<Attempt, Stop> {
        let receipt = Signed { document: delivered.receipt, signature: delivered.signature };
        let cause = expected.check(&self.domains, &receipt).map_err(Stop::misbehaved)?;
        if lane.is_promised() {
            lane.settle(lane.cumulative())?;
        }
        let why = format!("receipt {} with fee 0", receipt.document.hash());
        progress.signed.push(receipt);
        Ok(Attempt::Unbilled(cause, why))
    }

    /// Whether a quote is the node's own, recent, and within the request's limits.
    fn check_quote(&self, candidate: &Candidate, request: &Request, quote: &Signed<Quote>) -> Result<(), Stop> {
        quote.verify(&self.domains, candidate.account).map_err(Stop::misbehaved)?;
        if quote.document.node != candidate.account || quote.document.block.number.saturating_add(QUOTE_AGE_MAX) < self.lanes.now {
            return Err(Stop::misbehaved(format!(
                "its quote is {}'s and names block {}, the chain was at {} when the question was asked",
                quote.document.node, quote.document.block.number, self.lanes.now
            )));
        }
        match_quote(&quote.document, request).map_err(|error| Stop::Theirs(Cause::Unfit, error.to_string()))
    }

    /// Signs and sends a voucher; that the lane carries an open promise, and what the voucher covers, is kept before it is signed.
    async fn promise(
        &self,
        talk: &mut Talk,
        lane: &mut HeldLane,
        voucher: Voucher,
        progress: &mut Progress<'_>,
    ) -> Result<Signed<Voucher>, Stop> {
        if !lane.is_promised() {
            lane.promise()?;
        }
        progress.draft.promise(voucher.cumulative.minus(voucher.base).map_err(anyhow::Error::from)?);
        (progress.keep)(&progress.draft)?;
        let signed = Signed::new(&self.signer, &self.domains, voucher);
        talk.send(&FromClient::Voucher(Box::new(signed.clone()))).await?;
        Ok(signed)
    }

    /// The receipt is checked like a stranger's before the lane's books move.
    fn check(&self, bundle: &Bundle, lane: &mut HeldLane, voucher: &Signed<Voucher>) -> Result<(), Stop> {
        attribution::bundle::verify(bundle).map_err(|fault| Stop::misbehaved(format!("its receipt does not stand: {fault}")))?;
        let path = bundle_path(&self.receipts, bundle.receipt.document.request, bundle.receipt.document.attempt);
        write_atomic(&path, bundle.to_json().as_bytes(), 0o600).with_context(|| path.display().to_string())?;
        lane.settle(voucher.document.cumulative)?;
        Ok(())
    }
}

impl Progress<'_> {
    fn token(&mut self, id: u32, bytes: &[u8]) {
        let now = Instant::now();
        if let Some(gap) = self.abandoned.last_mut().filter(|abandoned| abandoned.gap_ms.is_none()) {
            let since = self.last_token.unwrap_or(self.started);
            gap.gap_ms = Some(millis(now - since));
        }
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
        self.draft.token(id, bytes);
        (self.on_event)(Event::Token(bytes, self.draft.tokens().len()));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where the bundle of an attempt is kept.
fn bundle_path(folder: &Path, request: Hash32, attempt: u16) -> PathBuf {
    folder.join(format!("{}-{attempt}.json", hex::encode(&request.0[..8])))
}

/// The bundle of the last attempt of a request that was answered, if this client died after it was kept and before it was noted.
fn kept_bundle(folder: &Path, draft: &Draft) -> Option<Bundle> {
    draft.ended()?;
    let attempt = u16::try_from(draft.tries().len().checked_sub(1)?).ok()?;
    let request = draft.request().document.id();
    let bytes = read_bounded(&bundle_path(folder, request, attempt), BUNDLE_BYTES_MAX as u64).ok()?;
    let bundle = Bundle::from_json(&bytes).ok()?;
    let receipt = &bundle.receipt.document;
    let is_its = receipt.request == request && receipt.attempt == attempt && receipt.reason.is_billable();
    (is_its && attribution::bundle::verify(&bundle).is_ok()).then_some(bundle)
}

fn finish(progress: Progress<'_>, node: NodeId, bundle: Bundle, kept: PathBuf, reason: Reason) -> Answered {
    let first = progress.first_token.unwrap_or(progress.started);
    let seconds = progress.last_token.map_or(0.0, |last| (last - first).as_secs_f64());
    let after_first = u32::try_from(progress.draft.tokens().len().saturating_sub(1)).unwrap_or(u32::MAX);
    Answered {
        text: text::canonical_lossy(progress.draft.bytes()),
        node,
        bundle,
        kept,
        ttft_ms: millis(first - progress.started),
        tokens_per_s: if seconds > 0.0 { f64::from(after_first) / seconds } else { 0.0 },
        tokens: progress.draft.tokens().to_vec(),
        abandoned: progress.abandoned,
        reason,
        notice: None,
    }
}
