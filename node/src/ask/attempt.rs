//! One node's try at an answer, frame by frame: its quote and its receipt are checked like a stranger's, and nothing is promised that is not kept first.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use attribution::{bundle::Bundle, transcript::wrap::ExchangeSecret};
use inference::{
    proto::{
        draft::Cause,
        message::{Begin, Delivered, FromClient, FromNode, Told},
        payment::{Asking, Terms, match_quote},
        spending::Promise,
    },
    sampler::text_len,
};
use p2p::client::Connection;
use tokio::time::timeout;
use types::{
    encoding::{Body, Document as _},
    key::Signed,
    quote::{Class, Quote},
    receipt::Reason,
    request::Request,
    text,
    voucher::Voucher,
};

use super::{
    Asker, Candidate, Event, Question,
    kept::bundle_path,
    key::ReceiptKey,
    resume::{Patience, TakenUp},
    talk::{Stop, Talk},
    unbilled::Expected,
    whole::{Progress, Tried},
};
use crate::{
    data::write_atomic,
    evidence,
    output::money,
    purse::{HeldLane, Left},
};

/// Most bytes of text of one token: a node that sends more fills this client's memory, not its answer.
const TOKEN_BYTES_MAX: usize = 1 << 10;
/// Blocks behind the head that a quote may name: contracts void a receipt that names an older one.
const QUOTE_AGE_MAX: u64 = 256;
/// Lanes that a node may refuse in one attempt: more, and it is not the lanes.
const LANES_REFUSED_MAX: u8 = 3;
/// How long a node's handshake is waited for where there is another one.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// Between two tries at a busy node.
const BUSY_LOOK: Duration = Duration::from_millis(500);

/// Whether a token is one, and told with it is what was asked for: `logprobs` of the likeliest at most, and not one where none was.
fn check_token(bytes: &[u8], told: &[Told], logprobs: u8) -> Result<(), Stop> {
    if let Some(long) = [bytes.len()].into_iter().chain(told.iter().map(|one| one.bytes.len())).find(|len| *len > TOKEN_BYTES_MAX) {
        return Err(Stop::misbehaved(format!("it sent {long} bytes of text for one token, at most {TOKEN_BYTES_MAX} are taken")));
    }
    let most = if logprobs == 0 { 0 } else { 1 + usize::from(logprobs) };
    if told.len() > most || (told.is_empty() && most > 0) || told.iter().any(|one| one.ln_ppm > 0) {
        return Err(Stop::misbehaved(format!("it told how likely {} tokens were, {most} were asked for", told.len())));
    }
    Ok(())
}

/// What an attempt that was begun has, on whichever stream it goes on.
pub(super) struct Under {
    pub(super) begin: Begin,
    pub(super) expected: Expected,
    pub(super) lane: HeldLane,
    pub(super) asking: Asking,
    /// Where its text begins in the request's.
    pub(super) first_byte: usize,
    /// The last voucher signed.
    pub(super) last: Option<Signed<Voucher>>,
    /// Whether it comes in cells.
    pub(super) is_padded: bool,
}

impl Asker {
    /// One node's try, before `next` if there is another one. An error is the client's own; whatever the node does wrong is [`Tried::Lost`]. A node that has something under
    /// way which must end first is waited for if it is the last one; what an earlier process left there is such a thing.
    pub(super) async fn attempt(
        &self,
        question: &Question,
        candidate: &Candidate,
        attempt: u16,
        next: Option<&Candidate>,
        progress: &mut Progress<'_>,
    ) -> anyhow::Result<Tried> {
        let connection = match self.reached(candidate, next.is_none(), progress).await {
            Ok(connection) => connection,
            Err(why) => return Ok(Tried::Lost(Cause::Unreachable, why)),
        };
        progress.listener.hear(Event::Connected(candidate));
        let (mut is_told, mut refused) = (false, 0);
        loop {
            match self.stream(question, candidate, (attempt, next), &connection, progress).await {
                Ok(tried) => return Ok(tried),
                Err(Stop::Mine(error)) => return Err(error),
                Err(Stop::Theirs(cause, reason)) => return Ok(Tried::Lost(cause, reason)),
                Err(Stop::Refused(cause, reason)) => return Ok(Tried::Refused(cause, reason)),
                Err(Stop::Busy(reason, _)) if next.is_none() && Instant::now() < progress.patience => {
                    if !is_told {
                        progress.listener.hear(Event::Waiting(candidate, &reason));
                        is_told = true;
                    }
                    tokio::time::sleep(BUSY_LOOK).await;
                }
                // Nothing was begun on that lane, and it is not taken again: the same attempt goes on by the next one.
                Err(Stop::Lane(reason)) if refused < LANES_REFUSED_MAX => {
                    tracing::info!(node = %candidate.node, %reason, "taking another lane");
                    refused += 1;
                }
                Err(Stop::Busy(reason, wait)) => {
                    progress.busy_for(wait);
                    return Ok(Tried::Lost(Cause::Refused, reason));
                }
                Err(Stop::Lane(reason) | Stop::Gone(_, reason)) => return Ok(Tried::Lost(Cause::Refused, reason)),
                Err(Stop::Lost(reason)) => return Ok(Tried::Lost(Cause::Broken, reason)),
            }
        }
    }

    /// A connection to a node: the one that was made while the node before was given up, or a new one.
    async fn reached(&self, candidate: &Candidate, is_last: bool, progress: &mut Progress<'_>) -> Result<Connection, String> {
        if let Some((node, connection)) = progress.ready.take()
            && node == candidate.node
            && connection.loss().is_none()
        {
            return Ok(connection);
        }
        let connecting = self.quic.connect(candidate.addr, Some(candidate.node));
        if is_last {
            return connecting.await.map_err(|error| error.to_string());
        }
        match timeout(CONNECT_WAIT, connecting).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no connection within {} s", CONNECT_WAIT.as_secs())),
        }
    }

    /// The same over one stream, and where its connection breaks over as many as take the answer up. Each is cancelled unless it brings the attempt to
    /// its end.
    async fn stream(
        &self,
        question: &Question,
        candidate: &Candidate,
        (attempt, next): (u16, Option<&Candidate>),
        connection: &Connection,
        progress: &mut Progress<'_>,
    ) -> Result<Tried, Stop> {
        let stream = connection.open_stream().await.map_err(|error| Stop::Theirs(Cause::Unreachable, error.to_string()))?;
        let mut talk = Talk::new(stream);
        let mut under = match self.open(question, candidate, attempt, progress, &mut talk).await {
            Ok(under) => under,
            Err(stop) => {
                talk.cancel();
                return Err(stop);
            }
        };
        let mut patience = Patience::new(next, connection.round_trip());
        loop {
            let why = match self.follow(question, candidate, &mut under, progress, &mut talk).await {
                Ok(tried) => return Ok(tried),
                // What nobody has paid for yet no node keeps.
                Err(Stop::Lost(why)) if under.last.is_some() => why,
                // What was begun is not begun again over the same connection, whatever the node says.
                Err(Stop::Busy(why, _) | Stop::Lane(why) | Stop::Gone(_, why)) => {
                    talk.cancel();
                    return Err(Stop::Theirs(Cause::Broken, why));
                }
                Err(stop) => {
                    talk.cancel();
                    return Err(stop);
                }
            };
            talk = match self.take_up(question, candidate, &mut under, progress, &mut patience, why).await? {
                TakenUp::On(talk) => *talk,
                TakenUp::Ended(tried) => return Ok(tried),
            };
        }
    }

    /// Quote and beginning of an attempt.
    async fn open(
        &self,
        question: &Question,
        candidate: &Candidate,
        attempt: u16,
        progress: &mut Progress<'_>,
        talk: &mut Talk,
    ) -> Result<Under, Stop> {
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
        progress.listener.hear(Event::Quoted(&quote.document));
        if question.is_padded {
            talk.pad().await?;
        }
        if request.class == Class::Checked {
            talk.send(&FromClient::Exchange(ExchangeSecret::of(&self.signer).public())).await?;
        }
        let continued = progress.draft.tokens().to_vec();
        let begin = Begin {
            request: progress.draft.request().clone(),
            options: question.options.beside(),
            attempt,
            quote: quote.clone(),
            lane: lane.lane().clone(),
            session: Some(self.signer.address()).filter(|signer| *signer != payer),
            manifest: question.manifest.clone(),
            turns: question.turns.clone(),
            prompt_salt: progress.draft.prompt_salt(),
            continued: continued.clone(),
        };
        let sent = talk.send(&FromClient::Begin(Box::new(begin.clone()))).await;
        // Checked while the node reads on: nothing is promised before the first voucher.
        self.check_quote(candidate, &request, &quote)?;
        let said = match sent {
            Ok(()) => talk.recv().await,
            Err(stop) => Err(stop),
        };
        if let Err(Stop::Lane(_)) = &said {
            // No voucher of this attempt is out on it, and none comes: its sum is no longer ours to continue.
            lane.promise()?;
        }
        let FromNode::Begun { tokens_in, base } = said? else { return Err(Stop::out_of_order("the beginning")) };
        progress.listener.hear(Event::Begun);
        if base != lane.cumulative() {
            // The vouchers behind it stand, but this lane's sum is no longer ours to continue.
            lane.promise()?;
            return Err(Stop::misbehaved(format!(
                "its books have the lane at {}, this client's last receipt at {}",
                money(base),
                money(lane.cumulative())
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
        let asking = Asking::new(terms, progress.prompt_bytes.len(), question.turns.len(), tokens_max, room).map_err(Stop::misbehaved)?;
        Ok(Under { begin, expected, lane, asking, first_byte: progress.draft.bytes().len(), last: None, is_padded: question.is_padded })
    }

    /// What follows a beginning, up to the receipt; on another stream from where the last one broke.
    async fn follow(
        &self,
        question: &Question,
        candidate: &Candidate,
        under: &mut Under,
        progress: &mut Progress<'_>,
        talk: &mut Talk,
    ) -> Result<Tried, Stop> {
        let reason = loop {
            match talk.recv().await? {
                FromNode::Token { .. } if progress.stops.is_found() => {
                    return Err(Stop::misbehaved("it sent a token behind the stop string that ends the answer"));
                }
                FromNode::Token { index, id, bytes, told } => {
                    check_token(&bytes, &told, question.options.logprobs)?;
                    let due = under.asking.token(index, id).map_err(Stop::misbehaved)?;
                    progress.token(id, &bytes, &told);
                    if let Some(voucher) = due {
                        self.promise(talk, under, candidate, voucher, progress).await?;
                    }
                    progress.listener.ready().await;
                }
                FromNode::Finished { reason } => break reason,
                FromNode::Receipt(delivered) => return self.unbilled(*delivered, under, progress),
                _ => return Err(Stop::out_of_order("a token")),
            }
        };
        if let Some(voucher) = under.asking.rest().map_err(Stop::misbehaved)? {
            self.promise(talk, under, candidate, voucher, progress).await?;
        }
        let Some(voucher) = under.last.clone() else {
            // With its receipt it is the model's end, without one the node's.
            return match talk.recv().await {
                Ok(FromNode::Receipt(delivered)) => self.unbilled(*delivered, under, progress),
                _ => Err(Stop::misbehaved("it ended the answer without a token")),
            };
        };
        progress.draft.finish(reason);
        (progress.keep)(&progress.draft)?;
        let (delivered, wrap) = match talk.recv().await? {
            FromNode::Receipt(delivered) => (delivered, None),
            FromNode::Wrapped { wrap } => match talk.recv().await? {
                FromNode::Receipt(delivered) => (delivered, Some(wrap)),
                _ => return Err(Stop::out_of_order("the receipt")),
            },
            _ => return Err(Stop::out_of_order("the receipt")),
        };
        if !delivered.receipt.reason.is_billable() {
            return self.unbilled(*delivered, under, progress);
        }
        let bundle =
            evidence::assemble(&self.domains, &under.begin, &voucher, *delivered, under.asking.tokens()).map_err(Stop::misbehaved)?;
        if let Some(wrap) = wrap {
            self.keep_key(&bundle, &wrap);
        }
        self.receipted(question, under, progress, reason, bundle)
    }

    /// Keeps the wrapped key of the transcript beside the bundle: who loses the bundle has it back by it. The receipt stands without it.
    fn keep_key(&self, bundle: &Bundle, wrap: &Body) {
        let kept = ReceiptKey::read(bundle, &wrap.0, &ExchangeSecret::of(&self.signer)).and_then(|key| key.keep(&self.receipts));
        if let Err(error) = kept {
            tracing::warn!(
                error = format!("{error:#}"),
                "no key to the transcript that the node keeps of the answer: do not lose its receipt's file"
            );
        }
    }

    /// The receipt of the whole answer, checked against what was streamed.
    pub(super) fn receipted(
        &self,
        question: &Question,
        under: &mut Under,
        progress: &Progress<'_>,
        reason: Reason,
        bundle: Bundle,
    ) -> Result<Tried, Stop> {
        let (before, bytes) = progress.draft.bytes().split_at(under.first_byte);
        let text = text::canonical_lossy(&bytes[..text_len(&question.options.stop, before, bytes)]);
        if bundle.answer != text {
            return Err(Stop::misbehaved("the receipt's answer is not the text that was streamed"));
        }
        if bundle.receipt.document.reason != reason {
            let said = bundle.receipt.document.reason;
            return Err(Stop::misbehaved(format!("its receipt says the answer ended by {said:?}, its stream {reason:?}")));
        }
        self.check(&bundle, &mut under.lane)?;
        Ok(Tried::Done { bundle: Box::new(bundle), reason })
    }

    /// The node signed that it charges nothing: once that is verified, its vouchers of this attempt count no more and the lane stands where it did.
    pub(super) fn unbilled(&self, delivered: Delivered, under: &mut Under, progress: &mut Progress<'_>) -> Result<Tried, Stop> {
        let receipt = Signed { document: delivered.receipt, signature: delivered.signature };
        let cause = under.expected.check(&self.domains, &receipt).map_err(Stop::misbehaved)?;
        progress.running.forget(receipt.document.attempt)?;
        if under.lane.is_promised() {
            under.lane.settle(under.lane.cumulative())?;
        }
        let why = format!("receipt {} with fee 0", receipt.document.hash());
        progress.signed.push(receipt);
        Ok(Tried::Unbilled(cause, why))
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
        under: &mut Under,
        candidate: &Candidate,
        voucher: Voucher,
        progress: &mut Progress<'_>,
    ) -> Result<(), Stop> {
        let (attempt, lane) = (voucher.attempt, &mut under.lane);
        if !lane.is_promised() {
            lane.promise()?;
            // Whom a later process asks, should this one not live to see the receipt.
            let at = (candidate.node, candidate.account, candidate.addr);
            let left = Left::new(voucher.request, attempt, at, self.payer, self.signer.address());
            self.purse.leave(&self.domains, &Left { is_padded: under.is_padded, ..left })?;
        }
        let sum = voucher.cumulative.minus(voucher.base).map_err(anyhow::Error::from)?;
        progress.draft.promise(sum);
        (progress.keep)(&progress.draft)?;
        let expiry = lane.lane().document.expiry;
        progress.running.promise(Promise { attempt, lane: voucher.lane, base: voucher.base, sum, expiry })?;
        let signed = Signed::new(&self.signer, &self.domains, voucher);
        // It may be lost on its way, and is then sent again: what was signed for once is signed for once.
        under.last = Some(signed.clone());
        talk.send(&FromClient::Voucher(Box::new(signed))).await
    }

    /// The receipt is checked like a stranger's before the lane's books move.
    fn check(&self, bundle: &Bundle, lane: &mut HeldLane) -> Result<(), Stop> {
        attribution::bundle::verify(bundle).map_err(|fault| Stop::misbehaved(format!("its receipt does not stand: {fault}")))?;
        let path = bundle_path(&self.receipts, bundle.receipt.document.request, bundle.receipt.document.attempt);
        write_atomic(&path, bundle.to_json().as_bytes(), 0o600).with_context(|| path.display().to_string())?;
        lane.settle(bundle.voucher.document.cumulative)?;
        Ok(())
    }
}
