//! Answering clients: one bidirectional stream per generation, tokens paid as they arrive, a receipt at the end.
//!
//! Carries frames between a stream, the engine and [`Serving`]; what may happen next is decided there. Per answer of n tokens:
//! n token frames, 1 + n / 64 + 1 vouchers to verify (about 100 µs each), one attribution, one signature.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use attribution::{answer::answer_root, index::Index};
use chain_bridge::lanes::{self, SessionRight};
use inference::{
    Finish, Message, Role, Sampling,
    engine::{EngineError, EngineHandle, Generation, Start, Step},
    proto::{
        message::{Begin, CLIENT_FRAME_MAX, Delivered, FromClient, FromNode, Refusal, RefusalCode, Turn, encode},
        payment::{Serving, Terms, match_quote},
    },
};
use p2p::stream::{FrameReceiver, FrameSender, FrameStream, StreamError};
use tokio::{
    sync::RwLock,
    task::{JoinError, JoinHandle},
    time::timeout,
};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, BlobId, Hash32},
    key::{Account, Domains, Signed},
    manifest::Manifest,
    quote::{PROTOCOL_FEE, Quote},
    receipt::{Reason, Receipt},
    text,
    time::BlockRef,
    voucher::{Lane, Voucher},
};

mod ledger;
pub(crate) mod unbilled;

pub use ledger::Ledger;

use crate::{
    books::{Books, BooksError, Held, Taken},
    chain::Snapshots,
    evidence,
};

/// How long a voucher is awaited before the answer ends unpaid (PROTOCOL section 1).
const VOUCHER_WAIT: Duration = Duration::from_secs(10);
/// How long a client may take between two frames of its own before an answer begins.
const FRAME_WAIT: Duration = Duration::from_secs(30);
/// How long a client may take to make room for a frame of ours: who does not read holds a stream that others want.
const SEND_WAIT: Duration = Duration::from_secs(10);
/// Offers made on one stream: a client compares manifests on streams of their own, so more only keep the stream open.
const QUOTES_MAX: u32 = 4;
/// Blocks an offer stands.
const QUOTE_BLOCKS: u64 = 120;
/// Most output tokens of one answer.
const TOKENS_MAX: u32 = 4_096;

/// Something this node answers under.
#[derive(Debug)]
pub struct Offer {
    /// The manifest.
    pub manifest: Manifest,
    /// Committed index over its Datanets.
    pub index: Arc<Index>,
    /// Folder of the adapter, if the manifest names one.
    pub adapter: Option<(BlobId, PathBuf)>,
}

/// Offers by manifest root, replaced whole when the chain or the disk changes.
pub type Offers = BTreeMap<Hash32, Arc<Offer>>;

/// What an answer's stream leaves behind, however it ends.
#[derive(Debug, Default)]
struct Kept {
    /// The last voucher taken.
    voucher: Option<Signed<Voucher>>,
    /// Whether the attempt's note is on disk: from then on it is begun once.
    is_noted: bool,
}

/// What is under way for an answer: its tokens, and its note on the way to the disk (false where there was one before).
struct Work {
    generation: Generation,
    noted: JoinHandle<Result<bool, BooksError>>,
    tokenizing: Duration,
}

/// That the request was noted just now, and never before.
fn is_new(noted: Result<Result<bool, BooksError>, JoinError>, begin: &Begin) -> Result<bool, Broken> {
    if noted.map_err(internal)?.map_err(internal)? { Ok(true) } else { Err(duplicate(begin)) }
}

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
    Broken::Refused(Refusal { code, message: message.into() })
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

async fn say(sender: &mut FrameSender, message: &FromNode) -> Result<(), Broken> {
    Ok(timeout(SEND_WAIT, sender.send(&encode(message))).await.map_err(|_| Broken::Deaf)??)
}

impl<E: Escrow> Answering<E> {
    fn head(&self) -> BlockRef {
        self.snapshots.borrow().tip
    }

    /// Serves one stream whose first frame is `first`, to its end.
    pub async fn serve(&self, stream: FrameStream, first: Vec<u8>) {
        let (mut sender, mut receiver) = stream.split();
        let ended = self.converse(&mut sender, &mut receiver, first).await;
        match ended {
            Ok(()) => drop(timeout(SEND_WAIT, sender.finish()).await),
            Err(Broken::Refused(refusal)) => {
                tracing::info!(code = ?refusal.code, reason = %refusal.message, "refused");
                if say(&mut sender, &FromNode::Refused(refusal)).await.is_ok() {
                    drop(timeout(SEND_WAIT, sender.finish()).await);
                }
            }
            Err(Broken::Silent) => {
                tracing::debug!("the client said nothing more");
                drop(timeout(SEND_WAIT, sender.finish()).await);
            }
            // Nobody is there to whom a last frame could be delivered: the stream is free again at once.
            Err(other) => {
                tracing::debug!(reason = %other, "stream ended");
                sender.reset(p2p::stream::code::DROPPED);
                return;
            }
        }
        // The last frames are delivered before the stream is dropped; a peer that is gone ends this at once.
        drop(timeout(VOUCHER_WAIT, sender.closed()).await);
    }

    async fn converse(&self, sender: &mut FrameSender, receiver: &mut FrameReceiver, first: Vec<u8>) -> Result<(), Broken> {
        let mut frame = first;
        let (mut quotes, mut last_quote) = (0, None);
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
                    self.offer(manifest).await?;
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
                    say(sender, &FromNode::Quote(quote.clone())).await?;
                    last_quote = Some(quote);
                }
                FromClient::Begin(begin) => return self.answer(sender, receiver, *begin, last_quote.as_ref()).await,
                FromClient::Voucher(_) => return Err(refuse(RefusalCode::Invalid, "a voucher came before the answer began")),
                FromClient::Check { .. } | FromClient::Status => {
                    return Err(refuse(RefusalCode::Invalid, "checks and status take a stream of their own"));
                }
            }
            frame = timeout(FRAME_WAIT, receiver.recv(CLIENT_FRAME_MAX)).await.map_err(|_| Broken::Silent)??.ok_or(Broken::Silent)?;
        }
    }

    /// What is served under a manifest. A version that the chain has frozen is refused from the block on that says so, also while the offers still
    /// wait for another one's Datanet: what is answered under it would be void, and the node's fault.
    async fn offer(&self, manifest: Hash32) -> Result<Arc<Offer>, Broken> {
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

    /// Answers `begin`; `quoted` is the quote made on this stream, if there is one.
    async fn answer(
        &self,
        sender: &mut FrameSender,
        receiver: &mut FrameReceiver,
        begin: Begin,
        quoted: Option<&Signed<Quote>>,
    ) -> Result<(), Broken> {
        let offer = self.offer(begin.request.document.manifest).await?;
        let (lane, request, payer) = (begin.lane.document.id(), begin.request.document.id(), begin.lane.document.payer);
        let known = self.books.lane(lane).map_err(internal)?;
        let known = known.filter(|record| record.session == begin.session);
        self.admit(&begin, &offer, quoted, known.as_ref().map(|record| &record.lane))?;
        let arrived = Instant::now();
        let turns = messages(&begin.turns).map_err(|why| refuse(RefusalCode::Invalid, why))?;
        let prompt = self.engine.prompt_tokens(&turns).map_err(|error| refuse(RefusalCode::Invalid, error.to_string()))?;
        let tokenizing = arrived.elapsed();
        if let Some(wait) = self.ledger.wait(payer) {
            return Err(refuse(
                RefusalCode::Busy,
                format!("{payer} has taken prompts and tokens here without paying: it is served again in {} s", wait.as_secs() + 1),
            ));
        }
        let held = self.books.hold(lane, request).map_err(|taken| match taken {
            Taken::Lane => refuse(RefusalCode::Busy, format!("lane {lane} is paying another answer: use a second lane")),
            Taken::Request => refuse(RefusalCode::Duplicate, format!("request {request} is being answered here: sign a new one")),
        })?;
        self.admit_continuation(&begin)?;
        let base = self.books.lane(lane).map_err(internal)?.map_or(Amount::ZERO, |record| record.voucher.document.cumulative);
        let collected = self.snapshots.borrow().latest.lane_collected(lane);
        if collected > base {
            return Err(refuse(
                RefusalCode::Busy,
                format!("the chain has collected {collected} wei on lane {lane}, this node has receipts for {base}: use another lane"),
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
        let generation = self.begin_generation(&begin, &offer, prompt).await?;
        // The note reaches the disk while the prompt is read; no token leaves before it.
        let (books, attempt) = (Arc::clone(&self.books), begin.attempt);
        let noted = tokio::task::spawn_blocking(move || books.begin_request(request, attempt));
        let work = Work { generation, noted, tokenizing };
        let mut kept = Kept::default();
        let ended = match say(sender, &FromNode::Begun { tokens_in, base }).await {
            Ok(()) => self.stream_tokens(sender, receiver, &begin, &mut serving, work, &mut kept).await,
            Err(error) => Err(error),
        };
        match &ended {
            // The node's own failure bills nothing, and the client has that in writing, unless the attempt may be begun again: no attempt has two receipts.
            Err(Broken::Refused(refusal)) if refusal.code == RefusalCode::Internal && kept.is_noted => {
                let receipt = self.unbilled(&begin, &serving, Reason::EngineFailure)?;
                drop(say(sender, &FromNode::Receipt(Box::new(receipt))).await);
                return ended;
            }
            // An answer that was given before is not given again.
            Err(Broken::Refused(refusal)) if refusal.code == RefusalCode::Duplicate => return ended,
            Ok(()) if serving.tokens().is_empty() && serving.finished().is_some() && kept.is_noted => {
                let receipt = self.unbilled(&begin, &serving, Reason::Empty)?;
                return say(sender, &FromNode::Receipt(Box::new(receipt))).await;
            }
            _ => {}
        }
        self.ledger.settle(payer, &serving).map_err(internal)?;
        let Some(voucher) = kept.voucher else {
            ended?;
            tracing::info!(request = %begin.request.document.id(), "no voucher came: nothing is charged");
            return Ok(());
        };
        // What was promised stands, whatever the client sent next or that it left.
        let delivered = self.receipt(&begin, &offer, &serving, voucher).await?;
        ended?;
        say(sender, &FromNode::Receipt(Box::new(delivered))).await
    }

    /// Two receipts of one request must cover different tokens (F3), whatever a client signs: what was billed here is not billed again.
    fn admit_continuation(&self, begin: &Begin) -> Result<(), Broken> {
        let request = begin.request.document.id();
        let billed = self.books.billed_to(request).map_err(internal)?;
        if billed > 0 && begin.continued.len() < usize::try_from(billed).map_err(internal)? {
            return Err(refuse(
                RefusalCode::Duplicate,
                format!("request {request} was billed here up to token {billed}: continue from there, or sign a new request"),
            ));
        }
        Ok(())
    }

    /// Checks everything the client signed. What this node made on the same stream, or verified for an earlier answer, is not verified again.
    fn admit(&self, begin: &Begin, offer: &Offer, quoted: Option<&Signed<Quote>>, known: Option<&Signed<Lane>>) -> Result<(), Broken> {
        let (request, quote) = (&begin.request.document, &begin.quote.document);
        let invalid = |why: String| refuse(RefusalCode::Invalid, why);
        let me = self.account.address();
        let head = self.head();
        // Whether a session key is live is asked of the escrow before anything is served.
        let by_session = begin.session.is_some_and(|session| begin.request.verify(&self.domains, session).is_ok());
        if !by_session {
            begin.request.verify(&self.domains, request.client).map_err(|e| invalid(e.to_string()))?;
        }
        if quoted != Some(&begin.quote) {
            begin.quote.verify(&self.domains, me).map_err(|e| refuse(RefusalCode::Quote, e.to_string()))?;
        }
        if quote.node != me || quote.expiry < head.number {
            return Err(refuse(
                RefusalCode::Quote,
                format!("the quote of block {} has expired or is another node's: ask for a new one", quote.block.number),
            ));
        }
        match_quote(quote, request).map_err(|e| refuse(RefusalCode::Quote, e.to_string()))?;
        if begin.manifest != offer.manifest {
            return Err(invalid("the manifest sent is not the one the request names".into()));
        }
        lanes::admit(&begin.lane, known, &self.domains, request.client, signer(begin), me, head.number)
            .map_err(|e| refuse(RefusalCode::Voucher, e.to_string()))?;
        let prompt_bytes = evidence::prompt_bytes(&begin.turns).map_err(invalid)?;
        if text::prompt_root(&prompt_bytes, begin.prompt_salt) != request.prompt_root {
            return Err(invalid("the prompt sent is not the one the request commits to".into()));
        }
        Ok(())
    }

    /// What this answer may cost: the spending limit, what the lane's cap leaves, what the client has deposited and no other answer here
    /// has set aside. As much of the deposit as `tokens_max` tokens can need is set aside for this one.
    async fn budget(&self, begin: &Begin, terms: &Terms, tokens_max: u32, held: &Held<'_>) -> Result<Amount, Broken> {
        let no = |why: String| refuse(RefusalCode::Voucher, why);
        let lane_left = begin.lane.document.cap.minus(terms.base).map_err(|e| no(format!("the lane's cap is used up: {e}")))?;
        let payer = begin.lane.document.payer;
        let (least, most) = (terms.due(1).map_err(|e| no(e.to_string()))?, terms.due(tokens_max).map_err(|e| no(e.to_string()))?);
        let limit = begin.request.document.spending_limit.min(lane_left);
        if limit < least {
            return Err(no(format!(
                "the answer costs {least} wei with its first token, the spending limit and the lane leave {limit}: raise the limit"
            )));
        }
        let session = match begin.session {
            Some(signer) => Some((signer, self.session_left(payer, signer).await?)),
            None => None,
        };
        let owed = self.books.uncollected(payer, None).map_err(internal)?;
        let enough = held.reserved(payer).plus(owed).and_then(|others| others.plus(limit.min(most))).map_err(|e| no(e.to_string()))?;
        let deposit = self.escrow.free_balance(payer, enough).await;
        let deposit =
            deposit.map_err(|e| refuse(RefusalCode::Busy, format!("the chain cannot be asked for the client's deposit: {e:#}")))?;
        let free = deposit.minus(owed).unwrap_or_default();
        let granted = held.reserve(payer, session, free, limit.min(most));
        if let Some((signer, left)) = session.filter(|(_, left)| granted < least && *left < free) {
            return Err(no(format!(
                "the session key {signer} is good for {left} wei beside its other answers here, this one costs {least} with its first token: raise its cap with `tributary wallet session add`"
            )));
        }
        if granted < least {
            return Err(no(format!(
                "{payer} has {free} wei of free deposit beside its other answers here, this one costs {least} with its first token: deposit OPEN first"
            )));
        }
        Ok(granted)
    }

    /// What may still be collected by a session key's signature, less what this node holds receipts for.
    async fn session_left(&self, payer: Address, signer: Address) -> Result<Amount, Broken> {
        let right = self.escrow.session(payer, signer).await;
        let right =
            right.map_err(|e| refuse(RefusalCode::Busy, format!("the chain cannot be asked for the client's session key: {e:#}")))?;
        let left = lanes::admit_session(right, payer, signer, self.head().number);
        let left = left.map_err(|e| refuse(RefusalCode::Voucher, e.to_string()))?;
        Ok(left.minus(self.books.uncollected(payer, Some(signer)).map_err(internal)?).unwrap_or_default())
    }

    async fn begin_generation(&self, begin: &Begin, offer: &Offer, prompt: Vec<u32>) -> Result<Generation, Broken> {
        if let Some((_, folder)) = &offer.adapter {
            self.engine.load_adapter(folder).await.map_err(|e| refuse(RefusalCode::NotServed, e.to_string()))?;
        }
        let rule = begin.request.document.sampling;
        let start = Start {
            prompt,
            continued: begin.continued.clone(),
            adapter: offer.adapter.as_ref().map(|(hash, _)| hash.0),
            sampling: Sampling { temperature_milli: rule.temperature_milli, top_k: rule.top_k, top_p_ppm: rule.top_p_ppm },
            seed: begin.request.seed().0,
            max_tokens: begin.request.document.tokens_max,
        };
        self.engine.begin(start).await.map_err(|error| {
            let code = match &error {
                EngineError::ContextExceeded { .. } => RefusalCode::TooLong,
                EngineError::Busy { .. } => RefusalCode::Busy,
                EngineError::UnknownAdapter(_) => RefusalCode::NotServed,
                EngineError::Invalid(_) => RefusalCode::Invalid,
                _ => RefusalCode::Internal,
            };
            refuse(code, error.to_string())
        })
    }

    /// Streams until the answer has ended and is paid, or no voucher comes; what `kept` says holds also when this fails.
    async fn stream_tokens(
        &self,
        sender: &mut FrameSender,
        receiver: &mut FrameReceiver,
        begin: &Begin,
        serving: &mut Serving,
        work: Work,
        kept: &mut Kept,
    ) -> Result<(), Broken> {
        let Work { mut generation, mut noted, tokenizing } = work;
        let started = Instant::now();
        let mut is_announced = false;
        while !serving.is_settled() {
            if let Some(reason) = serving.finished().filter(|_| !is_announced) {
                say(sender, &FromNode::Finished { reason }).await?;
                is_announced = true;
            }
            if serving.may_produce() {
                tokio::select! {
                    biased;
                    frame = receiver.recv(CLIENT_FRAME_MAX) => match frame {
                        Ok(Some(frame)) => self.take_voucher(begin, serving, &frame, &mut kept.voucher)?,
                        // A client that resets or leaves is billed for what it acknowledged.
                        Ok(None) | Err(_) => return Ok(()),
                    },
                    done = &mut noted, if !kept.is_noted => kept.is_noted = is_new(done, begin)?,
                    step = generation.next() => match step {
                        Ok(Step::Token { token, .. }) => {
                            if serving.tokens().is_empty() {
                                tracing::info!(engine_us = (tokenizing + started.elapsed()).as_micros(), "first token");
                            }
                            if !kept.is_noted {
                                kept.is_noted = is_new((&mut noted).await, begin)?;
                            }
                            let index = serving.token(token);
                            say(sender, &FromNode::Token { index, id: token, bytes: self.engine.decode(&[token]) }).await?;
                        }
                        Ok(Step::End(finish)) => {
                            if !kept.is_noted {
                                kept.is_noted = is_new((&mut noted).await, begin)?;
                            }
                            serving.finish(match finish {
                                Finish::Stop => Reason::Stop,
                                Finish::Length => Reason::Length,
                            });
                        }
                        Err(error) => {
                            if !kept.is_noted {
                                kept.is_noted = is_new((&mut noted).await, begin)?;
                            }
                            tracing::error!(%error, "engine failed during an answer");
                            return Err(internal(error));
                        }
                    },
                }
            } else {
                match timeout(VOUCHER_WAIT, receiver.recv(CLIENT_FRAME_MAX)).await {
                    Ok(Ok(Some(frame))) => self.take_voucher(begin, serving, &frame, &mut kept.voucher)?,
                    Ok(Ok(None) | Err(_)) => return Ok(()),
                    Err(_) => {
                        serving.finish(Reason::NoVoucher);
                        return Ok(());
                    }
                }
            }
        }
        if !is_announced && let Some(reason) = serving.finished() {
            say(sender, &FromNode::Finished { reason }).await?;
        }
        Ok(())
    }

    fn take_voucher(&self, begin: &Begin, serving: &mut Serving, frame: &[u8], last: &mut Option<Signed<Voucher>>) -> Result<(), Broken> {
        let message = FromClient::decode(frame).map_err(|error| refuse(RefusalCode::Invalid, error.to_string()))?;
        let FromClient::Voucher(voucher) = message else {
            return Err(refuse(RefusalCode::Invalid, "only vouchers may follow the beginning of an answer"));
        };
        let no = |error: String| refuse(RefusalCode::Voucher, error);
        voucher.verify(&self.domains, signer(begin)).map_err(|e| no(e.to_string()))?;
        if voucher.document.cumulative > begin.lane.document.cap {
            return Err(no(format!(
                "the voucher promises {} wei, above the lane's cap of {}",
                voucher.document.cumulative, begin.lane.document.cap
            )));
        }
        serving.voucher(&voucher.document).map_err(|e| no(e.to_string()))?;
        *last = Some(*voucher);
        Ok(())
    }

    /// Attributes the vouched prefix, signs the receipt, and keeps both before anything is sent.
    async fn receipt(&self, begin: &Begin, offer: &Arc<Offer>, serving: &Serving, voucher: Signed<Voucher>) -> Result<Delivered, Broken> {
        let vouched = serving.vouched().to_vec();
        let answer = text::canonical_lossy(&self.engine.decode(&vouched));
        let prompt_bytes = evidence::prompt_bytes(&begin.turns).map_err(|why| refuse(RefusalCode::Invalid, why))?;
        let (attributed, openings) = {
            let (offer, answer) = (Arc::clone(offer), answer.clone());
            let work = tokio::task::spawn_blocking(move || evidence::attribute(&offer, &prompt_bytes, &answer));
            work.await.map_err(internal)?.map_err(internal)?
        };
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(internal)?;
        let answer_salt = Hash32(salt);
        let terms = serving.terms();
        let tokens_out = u32::try_from(vouched.len()).map_err(internal)?;
        let receipt = Receipt {
            request: terms.request,
            attempt: terms.attempt,
            client: begin.request.document.client,
            node: self.account.address(),
            lane: terms.lane,
            cumulative_after: voucher.document.cumulative,
            manifest: begin.request.document.manifest,
            index: offer.manifest.index,
            parameters: offer.manifest.parameters,
            profile: begin.request.document.profile,
            class: begin.request.document.class,
            block: begin.quote.document.block,
            prompt_root: begin.request.document.prompt_root,
            answer_root: answer_root(&answer, &attributed.words, answer_salt),
            token_ids: terms.token_ids(&vouched),
            tokens_in: terms.tokens_in,
            first_token: terms.first_token().map_err(internal)?,
            tokens_out,
            quote: terms.quote,
            fee: terms.due(tokens_out).map_err(internal)?,
            // A receipt over a prefix of what was sent does not say that the model ended there.
            reason: serving.finished().filter(|_| serving.is_settled()).unwrap_or(Reason::Cancelled),
            weight_total: attributed.weight_total,
            fingerprint_root: Hash32::ZERO,
            assets: attribution::bundle::assets(&offer.manifest),
            spans: attributed.spans,
            masks: attributed.masks,
        };
        let signed = Signed::new(&self.account, &self.domains, receipt);
        let openings = serde_json::to_string(&openings).map_err(internal)?;
        let delivered = Delivered { receipt: signed.document, signature: signed.signature, answer, answer_salt, openings };
        let bundle = evidence::assemble(&self.domains, begin, &voucher, delivered.clone(), &vouched).map_err(internal)?;
        self.books.keep_receipt(&bundle, &begin.lane, &voucher).map_err(internal)?;
        Ok(delivered)
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
