//! Answering clients: one bidirectional stream per generation, tokens paid as they arrive, a receipt at the end.
//!
//! Carries frames between a stream, the engine and [`Serving`]; what may happen next is decided there. Per answer of n tokens:
//! n token frames, 1 + n / 64 + 1 vouchers to verify (about 100 µs each), one attribution, one signature. An answer whose connection broke waits for
//! its client at its seat ([`Seats`]).

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use attribution::{index::Index, transcript::wrap};
use chain_bridge::lanes::SessionRight;
use inference::{
    Message, Role,
    engine::{EngineError, EngineHandle},
    proto::{
        message::{Begin, CLIENT_FRAME_MAX, FromClient, FromNode, Refusal, RefusalCode, Turn},
        payment::{Serving, Terms},
    },
};
use p2p::stream::{FrameStream, StreamError};
use tokio::{
    sync::{RwLock, oneshot},
    time::timeout,
};
use types::{
    amount::Amount,
    encoding::{Body, Document as _},
    id::{Address, BlobId, ExchangeKey, Hash32},
    key::{Account, Domains, Signed},
    manifest::Manifest,
    quote::{PROTOCOL_FEE, Profile, Quote},
    receipt::Reason,
    time::BlockRef,
};

mod admission;
mod ledger;
mod recalling;
mod receipting;
mod resuming;
mod seats;
mod speed;
mod streaming;
pub(crate) mod unbilled;
mod voice;

pub use ledger::{Ledger, willing};
use receipting::Given;
pub use seats::Seats;
pub use speed::Speed;
use streaming::{Halt, Kept, Work};
use voice::{Line, Voice};

use crate::{
    books::{Books, Taken},
    chain::Snapshots,
    metrics::Metrics,
    service::index::store::Indexes,
};

/// How long a voucher is awaited before the answer ends unpaid (PROTOCOL section 1).
const VOUCHER_WAIT: Duration = Duration::from_secs(10);
/// How long a client may take between two frames of its own before an answer begins.
const FRAME_WAIT: Duration = Duration::from_secs(30);
/// How long a client may take to make room for a frame of ours: who does not read holds a stream that others want.
const SEND_WAIT: Duration = Duration::from_secs(10);
/// How long an answer that was kept for a client which is back for something else may take to end.
const DISMISS_WAIT: Duration = Duration::from_secs(3);
/// Offers made on one stream: a client compares manifests on streams of their own, so more only keep the stream open.
const QUOTES_MAX: u32 = 4;
/// Blocks an offer stands.
const QUOTE_BLOCKS: u64 = 120;
/// Most output tokens of one answer.
pub(super) const TOKENS_MAX: u32 = 4_096;

/// Something this node answers under.
#[derive(Debug)]
pub struct Offer {
    /// The manifest.
    pub manifest: Manifest,
    /// Committed index over its Datanets.
    pub index: Arc<Index>,
    /// Folder of the adapter, if the manifest names one.
    pub adapter: Option<(BlobId, PathBuf)>,
    /// Where the index's files are: told of one that has changed.
    pub indexes: Arc<Indexes>,
}

/// Offers by manifest root, replaced whole when the chain or the disk changes.
pub type Offers = BTreeMap<Hash32, Arc<Offer>>;

/// What answering needs of the chain at the moment of a request.
pub trait Escrow: Send + Sync + 'static {
    /// What `payer` has deposited and not asked back; where that is above `enough`, it may be a moment old.
    fn free_balance(&self, payer: Address, enough: Amount) -> impl Future<Output = anyhow::Result<Amount>> + Send;

    /// What the escrow says of a key that signs for `payer`; nothing if it may not.
    fn session(&self, payer: Address, signer: Address) -> impl Future<Output = anyhow::Result<Option<SessionRight>>> + Send;
}

/// The service's parts.
#[derive(Debug)]
pub struct Answering<E> {
    /// The engine.
    pub engine: EngineHandle,
    /// The node's settlement key.
    pub account: Account,
    /// Signature domains.
    pub domains: Domains,
    /// Prices: wei per 1,000 input and output tokens.
    pub rates: (Amount, Amount),
    /// What is served now.
    pub offers: Arc<RwLock<Offers>>,
    /// The chain.
    pub snapshots: Snapshots,
    /// Requests seen, lanes, receipts.
    pub books: Arc<Books>,
    /// Deposits.
    pub escrow: E,
    /// What clients cost and did not pay.
    pub ledger: Ledger,
    /// What is counted of it.
    pub metrics: Arc<Metrics>,
    /// How quick its answers were.
    pub speed: Speed,
    /// Answers under way, and which of them are kept for clients that are gone.
    pub seats: Seats,
}

/// Where a conversation leads.
enum Next {
    /// Everything was said.
    Ended,
    /// The stream goes to an answer under way.
    Joins(oneshot::Sender<Line>),
}

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the client sent nothing in time")]
    Silent,
    #[error("the client read nothing in time")]
    Deaf,
}

fn refuse(code: RefusalCode, message: impl Into<String>) -> Broken {
    Broken::Refused(Refusal::new(code, message))
}

fn duplicate(begin: &Begin) -> Broken {
    let (request, attempt) = (begin.request.document.id(), begin.attempt);
    refuse(RefusalCode::Duplicate, format!("request {request} attempt {attempt} was begun before: sign a new request"))
}

/// Who signs the lane and the vouchers of an answer.
fn signer(begin: &Begin) -> Address {
    begin.session.unwrap_or(begin.lane.document.payer)
}

fn internal(error: impl std::fmt::Display) -> Broken {
    refuse(RefusalCode::Internal, format!("the node failed: {error}"))
}

impl<E: Escrow> Answering<E> {
    fn head(&self) -> BlockRef {
        self.snapshots.borrow().tip
    }

    /// The numeric rules that this node answers under.
    pub fn profile(&self) -> Profile {
        self.engine.profile()
    }

    /// Serves one stream whose first frame is `first`, to its end.
    pub async fn serve(&self, stream: FrameStream, first: Vec<u8>) {
        let (sender, receiver) = stream.split();
        let mut line = Line { voice: Voice::new(sender), receiver };
        // The last frames are delivered before the stream is dropped; a peer that is gone ends this at once.
        match self.converse(&mut line, first).await {
            Ok(Next::Ended) => line.voice.finish(VOUCHER_WAIT).await,
            // An answer that ended meanwhile drops it: its client sees a reset and asks for the receipt.
            Ok(Next::Joins(answer)) => drop(answer.send(line)),
            Err(Broken::Refused(refusal)) => {
                tracing::info!(code = ?refusal.code, reason = %refusal.message, "refused");
                self.metrics.refused(refusal.code);
                if line.voice.reply(&FromNode::Refused(refusal)).await.is_ok() {
                    line.voice.finish(VOUCHER_WAIT).await;
                }
            }
            Err(Broken::Silent) => {
                tracing::debug!("the client said nothing more");
                line.voice.finish(VOUCHER_WAIT).await;
            }
            // Nobody is there to whom a last frame could be delivered: the stream is free again at once.
            Err(other) => {
                tracing::debug!(reason = %other, "stream ended");
                line.voice.reset(p2p::stream::code::DROPPED);
            }
        }
    }

    async fn converse(&self, line: &mut Line, first: Vec<u8>) -> Result<Next, Broken> {
        let mut frame = first;
        let (mut quotes, mut last_quote, mut exchange) = (0, None, None);
        loop {
            let message = FromClient::decode(&frame).map_err(|error| refuse(RefusalCode::Invalid, error.to_string()))?;
            match message {
                FromClient::QuoteAsk { manifest, profile, class, tokens_max } => {
                    quotes += 1;
                    if quotes > QUOTES_MAX {
                        return Err(refuse(
                            RefusalCode::Invalid,
                            format!("{QUOTES_MAX} quotes were made on this stream: begin, or open another one"),
                        ));
                    }
                    let head = self.head();
                    let offer = self.offer(manifest).await?;
                    self.admit_profile(profile)?;
                    // Who asks for its price will probably ask it: its adapter comes in meanwhile.
                    if let Some((adapter, _)) = &offer.adapter {
                        self.engine.expect_adapter(adapter.0);
                    }
                    let quote = Quote {
                        node: self.account.address(),
                        manifest,
                        profile,
                        class,
                        rate_in: self.rates.0,
                        rate_out: self.rates.1,
                        protocol_fee: PROTOCOL_FEE,
                        tokens_max: tokens_max.min(TOKENS_MAX),
                        block: head,
                        expiry: head.number + QUOTE_BLOCKS,
                    };
                    let quote = Signed::new(&self.account, &self.domains, quote);
                    line.voice.reply(&FromNode::Quote(quote.clone())).await?;
                    last_quote = Some(quote);
                }
                FromClient::Begin(begin) => {
                    return self.answer(line, *begin, (last_quote.as_ref(), exchange)).await.map(|()| Next::Ended);
                }
                FromClient::Exchange(_) if exchange.is_some() => {
                    return Err(refuse(RefusalCode::Invalid, "this stream has an exchange key already"));
                }
                // Looked at now: once an answer is paid for, its receipt does not wait for a key.
                FromClient::Exchange(key) => {
                    wrap::check(key).map_err(|bad| refuse(RefusalCode::Invalid, bad.to_string()))?;
                    exchange = Some(key);
                }
                FromClient::Recall(asked) => {
                    let word = self.recall(&asked).await?;
                    return line.voice.reply(&word).await.map(|()| Next::Ended);
                }
                FromClient::Resume(asked) => return self.resume(&asked).await.map(Next::Joins),
                FromClient::Padded if line.voice.is_padded() => {
                    return Err(refuse(RefusalCode::Invalid, "this stream is padded already"));
                }
                FromClient::Padded => line.voice.pad(),
                FromClient::Voucher(_) => return Err(refuse(RefusalCode::Invalid, "a voucher came before the answer began")),
                FromClient::Check { .. } | FromClient::Status => {
                    return Err(refuse(RefusalCode::Invalid, "checks and status take a stream of their own"));
                }
            }
            frame = timeout(FRAME_WAIT, line.receiver.recv(CLIENT_FRAME_MAX)).await.map_err(|_| Broken::Silent)??.ok_or(Broken::Silent)?;
        }
    }

    /// What is served under a manifest. A version that the chain has frozen is refused from the block on that says so, also while the offers still
    /// wait for another one's Datanet: what is answered under it would be void, and the node's fault.
    async fn offer(&self, manifest: Hash32) -> Result<Arc<Offer>, Broken> {
        if self.seats.is_closed() {
            return Err(refuse(RefusalCode::NotServed, "this node is leaving: ask another one"));
        }
        if self.snapshots.borrow().is_halted {
            let why = "this node's chain is not the one it counted by: it serves nothing until its operator has looked; ask another one";
            return Err(refuse(RefusalCode::NotServed, why));
        }
        let offer = self.offers.read().await.get(&manifest).cloned();
        let offer = offer
            .ok_or_else(|| refuse(RefusalCode::NotServed, format!("this node does not serve manifest {manifest}: ask another one")))?;
        let state = Arc::clone(&self.snapshots.borrow().latest);
        let Manifest { assets, datanets, .. } = &offer.manifest;
        let mut versions = assets.iter().map(|asset| asset.version).chain(datanets.iter().map(|datanet| datanet.version));
        match versions.find_map(|version| Some((version, state.version(version)?.frozen?))) {
            Some((version, block)) => Err(refuse(
                RefusalCode::NotServed,
                format!("version {version} was frozen in block {block}: nothing is billed for it, use a newer one"),
            )),
            None => Ok(offer),
        }
    }

    /// Answers `begin`; `quoted` is the quote made on this stream and `exchange` the key given on it, if there are any. `line` is the stream that the answer ended on.
    async fn answer(
        &self,
        line: &mut Line,
        begin: Begin,
        (quoted, exchange): (Option<&Signed<Quote>>, Option<ExchangeKey>),
    ) -> Result<(), Broken> {
        let offer = self.offer(begin.request.document.manifest).await?;
        let (lane, request, payer) = (begin.lane.document.id(), begin.request.document.id(), begin.lane.document.payer);
        let known = self.books.lane(lane).map_err(internal)?;
        let known = known.filter(|record| record.session == begin.session);
        let options = self.admit(&begin, &offer, quoted, known.as_ref().map(|record| &record.lane))?;
        if let Some(wait) = self.ledger.wait(payer) {
            let why = format!("{payer} has taken prompts and tokens here without paying: it is served again in {} s", wait.as_secs() + 1);
            return Err(Refusal::new(RefusalCode::Busy, why).after(wait).into());
        }
        let arrived = Instant::now();
        let turns = messages(&begin.turns).map_err(|why| refuse(RefusalCode::Invalid, why))?;
        // A megabyte takes longer than any other client's connection may be silent.
        let engine = self.engine.clone();
        let prompt = tokio::task::spawn_blocking(move || engine.prompt_tokens(&turns)).await.map_err(internal)?;
        let prompt = prompt.map_err(|error| refuse(RefusalCode::Invalid, error.to_string()))?;
        let tokenizing = arrived.elapsed();
        // Before what it would cost: of a question that nobody can answer that is not its trouble.
        let (tokens, most) = (prompt.len() + begin.continued.len(), self.engine.info().config.context);
        if tokens >= most {
            return Err(refuse(RefusalCode::TooLong, EngineError::ContextExceeded { prompt: tokens, max: most }.to_string()));
        }
        // Declared first, so that it is left last: who waits for its end finds lane and request free.
        let mut seat = self.seats.seat();
        let taken = |taken| match taken {
            Taken::Lane => refuse(
                RefusalCode::Busy,
                format!("an answer that lane {lane} pays has not ended here yet: ask again in some seconds, or use a second lane"),
            ),
            Taken::Request => refuse(
                RefusalCode::Busy,
                format!("an earlier try at request {request} has not ended here yet: ask again in some seconds, it is then gone on with"),
            ),
        };
        let held = match self.books.hold(lane, request) {
            Ok(held) => held,
            // A client that asks anew does not come back for what is kept for it.
            Err(_) if self.seats.dismiss(signer(&begin), request, Some(lane), DISMISS_WAIT).await => {
                self.books.hold(lane, request).map_err(taken)?
            }
            Err(error) => return Err(taken(error)),
        };
        self.admit_continuation(&begin)?;
        let base = self.books.lane(lane).map_err(internal)?.map_or(Amount::ZERO, |record| record.voucher.document.cumulative);
        let collected = self.snapshots.borrow().latest.lane_collected(lane);
        if collected > base {
            return Err(refuse(
                RefusalCode::Lane,
                format!(
                    "the chain has collected {} on lane {lane}, this node has receipts for {}: use another lane",
                    collected.in_open(),
                    base.in_open()
                ),
            ));
        }
        let tokens_in = u32::try_from(prompt.len() + begin.continued.len()).map_err(internal)?;
        let terms = Terms {
            lane,
            request,
            attempt: begin.attempt,
            quote: begin.quote.document.hash(),
            continued: begin.continued.clone(),
            tokens_in,
            base,
            rate_in: begin.quote.document.rate_in,
            rate_out: begin.quote.document.rate_out,
            protocol_fee: begin.quote.document.protocol_fee,
        };
        let first_token = terms.first_token().map_err(internal)?;
        let tokens_max = begin.request.document.tokens_max.min(begin.quote.document.tokens_max).saturating_sub(first_token);
        if tokens_max == 0 {
            return Err(refuse(RefusalCode::Invalid, "no output token is left to ask for: the prompt alone is not answered"));
        }
        let budget = self.budget(&begin, &terms, tokens_max, &held).await?;
        let mut serving = Serving::new(terms, tokens_max, budget).map_err(|error| refuse(RefusalCode::Voucher, error.to_string()))?;
        let stop = options.stop.clone();
        let generation = self.begin_generation(&begin, &offer, options, prompt).await?;
        // The note reaches the disk while the prompt is read; no token leaves before it.
        let (books, attempt, note) = (Arc::clone(&self.books), begin.attempt, unbilled::begun(&begin, serving.terms())?);
        let noted = tokio::task::spawn_blocking(move || books.begin_request(request, attempt, &note));
        let mut work = Work::new(generation, noted, tokenizing);
        let mut kept = Kept::default();
        seat.take((request, attempt), payer, signer(&begin), lane);
        let (mut opening, mut from) = (FromNode::Begun { tokens_in, base }, 0);
        let ended = loop {
            let (way, said) = ((&mut *line, &mut seat), (&opening, from));
            let arrival = match self.stream_tokens(way, said, &begin, &mut serving, &mut work, &mut kept).await {
                Ok(Halt::Over) => break Ok(()),
                Ok(Halt::Taken(arrival)) => *arrival,
                // What nobody has paid for yet is not kept for anybody.
                Err(error) if error.is_lost() && kept.is_noted && kept.voucher.is_some() => {
                    let gone = tokio::time::Instant::now();
                    let Some(arrival) = seat.wait(&serving).await else { break Err(error) };
                    work.wait_longer(gone.elapsed());
                    arrival
                }
                Err(error) => break Err(error),
            };
            tracing::info!(%request, tokens = arrival.index, "the answer is taken up");
            std::mem::replace(line, arrival.line).voice.reset(p2p::stream::code::CANCELLED);
            let asked = tokio::time::Instant::now();
            if let Err(why) = self.admit_again(&begin).await {
                serving.finish(Reason::Cancelled);
                break Err(why);
            }
            work.wait_longer(asked.elapsed());
            let vouched = u32::try_from(serving.vouched().len()).map_err(internal)?;
            (opening, from) = (FromNode::Resumed { vouched }, arrival.index);
        };
        // Its engine is free while the receipt is made.
        let (activations, computed) = (work.activations(), work.computed());
        self.speed.rest(work.behind_first, work.going);
        drop(work);
        match &ended {
            // The node's own failure bills nothing, and the client has that in writing, unless the attempt may be begun again: no attempt has two receipts.
            Err(Broken::Refused(refusal)) if refusal.code == RefusalCode::Internal && kept.is_noted => {
                let receipt = self.failed_now(&begin, Reason::EngineFailure)?;
                drop(line.voice.reply(&FromNode::Receipt(Box::new(receipt))).await);
                return ended;
            }
            // An answer that was given before is not given again.
            Err(Broken::Refused(refusal)) if refusal.code == RefusalCode::Duplicate => return ended,
            Ok(()) if serving.tokens().is_empty() && serving.finished().is_some() && kept.is_noted => {
                let receipt = self.failed_now(&begin, Reason::Empty)?;
                return line.voice.reply(&FromNode::Receipt(Box::new(receipt))).await;
            }
            _ => {}
        }
        // What this node broke off itself cost its client's patience, not the node.
        if !matches!(&ended, Err(Broken::Refused(refusal)) if refusal.code == RefusalCode::Internal) {
            self.ledger.settle(payer, &serving, computed).map_err(internal)?;
        }
        let Some(voucher) = kept.voucher else {
            ended?;
            tracing::info!(request = %begin.request.document.id(), "no voucher came: nothing is charged");
            return Ok(());
        };
        // What was promised stands, whatever the client sent next or that it left.
        let (delivered, wrap) = self.receipt(&begin, &offer, &serving, &stop, Given { voucher, exchange }, activations).await?;
        self.metrics.receipt(&delivered.receipt);
        ended?;
        if let Some(wrap) = wrap {
            line.voice.reply(&FromNode::Wrapped { wrap: Body(wrap.encode().to_vec()) }).await?;
        }
        line.voice.reply(&FromNode::Receipt(Box::new(delivered))).await
    }
}

/// The conversation as the engine takes it.
pub fn messages(turns: &[Turn]) -> Result<Vec<Message>, String> {
    turns
        .iter()
        .map(|turn| {
            let role = match turn.role {
                1 => Role::System,
                2 => Role::User,
                3 => Role::Assistant,
                other => return Err(format!("role {other} is unknown: 1 system, 2 user, 3 assistant")),
            };
            Ok(Message { role, content: turn.content.clone() })
        })
        .collect()
}
