//! Asking: a quote, tokens paid as they arrive, a receipt checked before it is kept, and another node when one dies.
//!
//! Carries frames between streams and [`Asking`]; the client's own record of tokens is what its vouchers say and what a failover continues from.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use attribution::bundle::Bundle;
use inference::proto::{
    message::{Begin, FromClient, FromNode, NODE_FRAME_MAX, RefusalCode, Turn, encode},
    payment::{Asking, Terms, match_quote},
};
use p2p::{client::Client, stream::FrameStream};
use serde::Serialize;
use tokio::time::timeout;
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32, NodeId},
    key::{Account, Domains, Signed},
    manifest::Manifest,
    quote::{Class, Profile, Quote},
    receipt::Reason,
    request::{Request, SamplingRule},
    text,
    voucher::Voucher,
};

use crate::{
    data::write_atomic,
    evidence,
    purse::{HeldLane, LaneTerms, Purse},
    service::INFERENCE_TAG,
};

/// How long the next frame of a node is awaited: the first token of a long prompt is the slowest.
const FRAME_WAIT: Duration = Duration::from_secs(60);
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
#[derive(Debug, Clone, Serialize)]
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
}

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
    /// Who pays.
    pub account: Account,
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
}

/// How one attempt ended.
enum Attempt {
    Done {
        bundle: Box<Bundle>,
        reason: Reason,
    },
    /// Another node, or this one later.
    Lost(String),
    /// Another node only.
    Refused(String),
}

/// What all attempts of an answer share.
struct Progress<'e> {
    signed: Signed<Request>,
    prompt_salt: Hash32,
    prompt_bytes: Vec<u8>,
    tokens: Vec<u32>,
    bytes: Vec<u8>,
    /// Promised to nodes that gave no receipt: they may collect it, so it counts as spent.
    promised: Amount,
    /// Why the model ended, once a node said so.
    ended: Option<Reason>,
    started: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    abandoned: Vec<Abandoned>,
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
        if candidates.is_empty() {
            bail!("no node offers this: check the name with `tributary status`, or start a node that serves it");
        }
        let mut progress = self.sign(question, on_event)?;
        let mut waiting: VecDeque<(&Candidate, u8)> = candidates.iter().map(|candidate| (candidate, 1)).collect();
        for attempt in 0..ATTEMPTS_MAX {
            let Some((candidate, tries)) = waiting.pop_front() else { break };
            (progress.on_event)(Event::Asking(candidate));
            let had = progress.tokens.len();
            let reason = match self.attempt(question, candidate, attempt, &mut progress).await? {
                Attempt::Done { bundle, reason } => {
                    let kept = bundle_path(&self.receipts, &bundle);
                    return Ok(finish(progress, candidate.node, *bundle, kept, reason));
                }
                Attempt::Lost(reason) => {
                    if tries < TRIES_MAX {
                        waiting.push_back((candidate, tries + 1));
                    }
                    reason
                }
                Attempt::Refused(reason) => reason,
            };
            tracing::warn!(node = %candidate.node, %reason, "trying another node");
            let abandoned = Abandoned { node: candidate.node, tokens: progress.tokens.len() - had, reason, gap_ms: None };
            (progress.on_event)(Event::Abandoned(&abandoned));
            progress.abandoned.push(abandoned);
            if progress.ended.is_some() {
                bail!(
                    "{} delivered the whole answer and no receipt that stands ({}): up to {} wei were promised for it",
                    candidate.node,
                    progress.abandoned.last().map_or("", |abandoned| &abandoned.reason),
                    progress.promised
                );
            }
        }
        let reasons: Vec<String> = progress.abandoned.iter().map(|a| format!("{}: {}", a.node, a.reason)).collect();
        bail!("no node answered:\n  {}", reasons.join("\n  "))
    }

    fn sign<'e>(&self, question: &Question, on_event: &'e mut (dyn FnMut(Event<'_>) + Send)) -> anyhow::Result<Progress<'e>> {
        let prompt_bytes = evidence::prompt_bytes(&question.turns).map_err(anyhow::Error::msg)?;
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).context("no randomness from the system")?;
        let prompt_salt = Hash32(salt);
        let request = Request {
            client: self.account.address(),
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
        Ok(Progress {
            signed: Signed::new(&self.account, &self.domains, request),
            prompt_salt,
            prompt_bytes,
            tokens: Vec::new(),
            bytes: Vec::new(),
            promised: Amount::ZERO,
            ended: None,
            started: Instant::now(),
            first_token: None,
            last_token: None,
            abandoned: Vec::new(),
            on_event,
        })
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
            Err(error) => return Ok(Attempt::Lost(error.to_string())),
        };
        (progress.on_event)(Event::Connected(candidate));
        let stream = match connection.open_stream().await {
            Ok(stream) => stream,
            Err(error) => return Ok(Attempt::Lost(error.to_string())),
        };
        let mut talk = Talk { stream, is_opened: false };
        let outcome = self.converse(question, candidate, attempt, progress, &mut talk).await;
        match outcome {
            Ok(done) => Ok(done),
            Err(Stop::Mine(error)) => Err(error),
            Err(Stop::Theirs(reason)) => {
                talk.stream.reset(p2p::stream::code::CANCELLED);
                Ok(Attempt::Lost(reason))
            }
            Err(Stop::Refused(reason)) => {
                talk.stream.reset(p2p::stream::code::CANCELLED);
                Ok(Attempt::Refused(reason))
            }
        }
    }

    async fn converse(
        &self,
        question: &Question,
        candidate: &Candidate,
        attempt: u16,
        progress: &mut Progress<'_>,
        talk: &mut Talk,
    ) -> Result<Attempt, Stop> {
        let request = progress.signed.document;
        let room = request.spending_limit.minus(progress.promised).unwrap_or_default();
        if room == Amount::ZERO {
            return Err(anyhow::anyhow!("the spending limit is promised to nodes that gave no receipt: ask again with a new limit").into());
        }
        let ask = FromClient::QuoteAsk {
            manifest: request.manifest,
            profile: request.profile,
            class: request.class,
            tokens_max: question.tokens_max,
        };
        talk.send(&ask).await?;
        // The lane is taken from the disk while the quote is on its way.
        let mut lane = self.purse.hold_lane(&self.account, &self.domains, candidate.account, self.lanes, room)?;
        let FromNode::Quote(quote) = talk.recv().await? else { return Err(Stop::out_of_order("a quote")) };
        (progress.on_event)(Event::Quoted(&quote.document));
        let begin = Begin {
            request: progress.signed.clone(),
            attempt,
            quote: quote.clone(),
            lane: lane.lane().clone(),
            manifest: question.manifest.clone(),
            turns: question.turns.clone(),
            prompt_salt: progress.prompt_salt,
            continued: progress.tokens.clone(),
        };
        talk.send(&FromClient::Begin(Box::new(begin.clone()))).await?;
        // Checked while the node reads on: nothing is promised before the first voucher.
        self.check_quote(candidate, &request, &quote)?;
        let FromNode::Begun { tokens_in, base } = talk.recv().await? else { return Err(Stop::out_of_order("the beginning")) };
        (progress.on_event)(Event::Begun);
        if base != lane.cumulative() {
            // The vouchers behind it stand, but this lane's sum is no longer ours to continue.
            lane.promise()?;
            return Err(Stop::Theirs(format!(
                "its books have the lane at {base} wei, this client's last receipt at {}",
                lane.cumulative()
            )));
        }
        let terms = Terms {
            lane: lane.lane().document.id(),
            request: request.id(),
            attempt,
            quote: quote.document.hash(),
            continued: progress.tokens.clone(),
            tokens_in,
            base,
            rate_in: quote.document.rate_in,
            rate_out: quote.document.rate_out,
            protocol_fee: quote.document.protocol_fee,
        };
        let tokens_max =
            request.tokens_max.min(quote.document.tokens_max).saturating_sub(terms.first_token().map_err(anyhow::Error::from)?);
        let mut asking = Asking::new(terms, progress.prompt_bytes.len(), question.turns.len(), tokens_max, room)
            .map_err(|e| Stop::Theirs(e.to_string()))?;
        let first_byte = progress.bytes.len();
        let mut last: Option<Signed<Voucher>> = None;
        let reason = loop {
            match talk.recv().await? {
                FromNode::Token { bytes, .. } if bytes.len() > TOKEN_BYTES_MAX => {
                    return Err(Stop::Theirs(format!(
                        "it sent {} bytes of text for one token, at most {TOKEN_BYTES_MAX} are taken",
                        bytes.len()
                    )));
                }
                FromNode::Token { index, id, bytes } => {
                    let due = asking.token(index, id).map_err(|e| Stop::Theirs(e.to_string()))?;
                    progress.token(id, &bytes);
                    if let Some(voucher) = due {
                        last = Some(self.promise(talk, &mut lane, voucher, progress).await?);
                    }
                }
                FromNode::Finished { reason } => break reason,
                _ => return Err(Stop::out_of_order("a token")),
            }
        };
        if let Some(voucher) = asking.rest().map_err(|e| Stop::Theirs(e.to_string()))? {
            last = Some(self.promise(talk, &mut lane, voucher, progress).await?);
        }
        let Some(voucher) = last else {
            return Err(Stop::Theirs("it ended the answer without a token".into()));
        };
        progress.ended = Some(reason);
        let FromNode::Receipt(delivered) = talk.recv().await? else { return Err(Stop::out_of_order("the receipt")) };
        let text = text::canonical_lossy(&progress.bytes[first_byte..]);
        if delivered.answer != text {
            return Err(Stop::Theirs("the receipt's answer is not the text that was streamed".into()));
        }
        let bundle =
            evidence::assemble(&self.domains, &begin, &voucher, *delivered, asking.tokens()).map_err(|e| Stop::Theirs(e.to_string()))?;
        if bundle.receipt.document.reason != reason {
            let said = bundle.receipt.document.reason;
            return Err(Stop::Theirs(format!("its receipt says the answer ended by {said:?}, its stream {reason:?}")));
        }
        self.check(&bundle, &mut lane, &voucher)?;
        Ok(Attempt::Done { bundle: Box::new(bundle), reason })
    }

    /// Whether a quote is the node's own, recent, and within the request's limits.
    fn check_quote(&self, candidate: &Candidate, request: &Request, quote: &Signed<Quote>) -> Result<(), Stop> {
        quote.verify(&self.domains, candidate.account).map_err(|e| Stop::Theirs(e.to_string()))?;
        if quote.document.node != candidate.account || quote.document.block.number.saturating_add(QUOTE_AGE_MAX) < self.lanes.now {
            return Err(Stop::Theirs(format!(
                "its quote is {}'s and names block {}, the chain was at {} when the question was asked",
                quote.document.node, quote.document.block.number, self.lanes.now
            )));
        }
        match_quote(&quote.document, request).map_err(|e| Stop::Theirs(e.to_string()))
    }

    /// Signs and sends a voucher; that the lane carries an open promise is on disk before the first one is signed.
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
        let sum = voucher.cumulative.minus(voucher.base).map_err(anyhow::Error::from)?;
        progress.promised = progress.promised.minus(lane.note_promise(sum)).and_then(|rest| rest.plus(sum)).map_err(anyhow::Error::from)?;
        let signed = Signed::new(&self.account, &self.domains, voucher);
        talk.send(&FromClient::Voucher(Box::new(signed.clone()))).await?;
        Ok(signed)
    }

    /// The receipt is checked like a stranger's before the lane's books move.
    fn check(&self, bundle: &Bundle, lane: &mut HeldLane, voucher: &Signed<Voucher>) -> Result<(), Stop> {
        attribution::bundle::verify(bundle).map_err(|fault| Stop::Theirs(format!("its receipt does not stand: {fault}")))?;
        let path = bundle_path(&self.receipts, bundle);
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
        self.tokens.push(id);
        self.bytes.extend_from_slice(bytes);
        (self.on_event)(Event::Token(bytes, self.tokens.len()));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where a bundle is kept.
fn bundle_path(folder: &Path, bundle: &Bundle) -> PathBuf {
    let receipt = &bundle.receipt.document;
    folder.join(format!("{}-{}.json", hex::encode(&receipt.request.0[..8]), receipt.attempt))
}

fn finish(progress: Progress<'_>, node: NodeId, bundle: Bundle, kept: PathBuf, reason: Reason) -> Answered {
    let first = progress.first_token.unwrap_or(progress.started);
    let seconds = progress.last_token.map_or(0.0, |last| (last - first).as_secs_f64());
    let after_first = u32::try_from(progress.tokens.len().saturating_sub(1)).unwrap_or(u32::MAX);
    Answered {
        text: text::canonical_lossy(&progress.bytes),
        node,
        bundle,
        kept,
        ttft_ms: millis(first - progress.started),
        tokens_per_s: if seconds > 0.0 { f64::from(after_first) / seconds } else { 0.0 },
        tokens: progress.tokens,
        abandoned: progress.abandoned,
        reason,
    }
}

/// Why an attempt stops: through a failure of this client, which ends the answer, or by the node, which moves it elsewhere. A node's no, whatever
/// it blames, ends nothing: one that refuses everybody would otherwise keep its clients from all others.
enum Stop {
    Mine(anyhow::Error),
    Theirs(String),
    Refused(String),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Mine(error)
    }
}

impl Stop {
    fn out_of_order(expected: &str) -> Self {
        Self::Theirs(format!("it sent something else where {expected} was due"))
    }
}

/// One stream of frames with its service tag on the first.
struct Talk {
    stream: FrameStream,
    is_opened: bool,
}

impl Talk {
    async fn send(&mut self, message: &FromClient) -> Result<(), Stop> {
        let mut frame = encode(message);
        if !self.is_opened {
            frame.insert(0, INFERENCE_TAG);
            self.is_opened = true;
        }
        match self.stream.send(&frame).await {
            Ok(()) => Ok(()),
            // A node that refuses stops reading: what it said is still to be read.
            Err(error) => match self.recv().await {
                Err(refused) => Err(refused),
                Ok(_) => Err(Stop::Theirs(error.to_string())),
            },
        }
    }

    async fn recv(&mut self) -> Result<FromNode, Stop> {
        let frame = match timeout(FRAME_WAIT, self.stream.recv(NODE_FRAME_MAX)).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return Err(Stop::Theirs("it ended the stream early".into())),
            Ok(Err(error)) => return Err(Stop::Theirs(error.to_string())),
            Err(_) => return Err(Stop::Theirs(format!("it sent nothing for {} s", FRAME_WAIT.as_secs()))),
        };
        match FromNode::decode(&frame).map_err(|error| Stop::Theirs(error.to_string()))? {
            FromNode::Refused(refusal) if refusal.code.is_retryable() => Err(Stop::Theirs(refusal.message)),
            FromNode::Refused(refusal) if refusal.code == RefusalCode::Duplicate => Err(Stop::Theirs(refusal.message)),
            FromNode::Refused(refusal) => Err(Stop::Refused(format!("the node refuses: {}", refusal.message))),
            message => Ok(message),
        }
    }
}
