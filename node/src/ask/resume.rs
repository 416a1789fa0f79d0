//! Taking an attempt up at its node where the connection broke, from the next token on: nothing of it is paid or received twice.
//!
//! Tries are few and short. A node that is gone for good would otherwise keep its client from the next one: where there is another, one try, of a second at most, and
//! the connection to the other is made meanwhile. Once that stands, the old node has had a head start of a quarter of a second and four round trips (a handshake is one,
//! taking up another), and has not answered, the answer goes on at the other: a dead node costs its detection (750 ms), the head start, and what beginning elsewhere takes.
//! At the last node there are tries for as long as a node keeps answers. If the answer has ended meanwhile its receipt is asked for, and where that bills all that came the
//! attempt is done; else it is lost like any other, and goes on elsewhere behind the tokens received.

use std::{future::pending, time::Duration};

use anyhow::Context as _;
use attribution::bundle::Bundle;
use inference::proto::{
    draft::Cause,
    message::{Delivered, FromClient, FromNode},
    recall::Recall,
    resume::{KEPT_WAIT, Resume},
    spending::Promise,
};
use p2p::client::Connection;
use tokio::time::{Instant, sleep, timeout};
use types::{id::NodeId, key::Signed, receipt::Reason};

use super::{
    Asker, Candidate, Event, Question,
    attempt::Under,
    kept::bundle_path,
    talk::{Stop, Talk},
    whole::{Progress, Tried},
};
use crate::{data::write_atomic, evidence, purse::Left};

/// Times one attempt is taken up at most.
const RESUMES_MAX: u32 = 8;
/// How long a node is tried where there is another one.
const ELSEWHERE_WAIT: Duration = Duration::from_secs(1);
/// How long the old node is alone in the race, beside [`ROUND_TRIPS`].
const HEAD_START: Duration = Duration::from_millis(250);
/// Round trips of the broken connection by which that is longer: a handshake, taking up, and as much again.
const ROUND_TRIPS: u32 = 4;
/// How long the node may take to say what became of an attempt that ended meanwhile.
const WORD_WAIT: Duration = Duration::from_secs(4);
/// Between two tries.
const TRY_LOOK: Duration = Duration::from_millis(500);

/// How an attempt goes on.
pub(super) enum TakenUp {
    /// By this stream.
    On(Box<Talk>),
    /// It had ended.
    Ended(Tried),
}

/// How often, and how long, an attempt's connection may break.
pub(super) struct Patience<'c> {
    next: Option<&'c Candidate>,
    head_start: Duration,
    left: u32,
}

impl<'c> Patience<'c> {
    /// For an attempt over a connection of that round trip, at the last node there is or before another one.
    pub(super) fn new(next: Option<&'c Candidate>, round_trip: Duration) -> Self {
        let head_start = round_trip.saturating_mul(ROUND_TRIPS).saturating_add(HEAD_START).min(ELSEWHERE_WAIT);
        Self { next, head_start, left: RESUMES_MAX }
    }
}

impl Asker {
    /// The stream with which an attempt goes on whose connection broke for the reason `why`.
    pub(super) async fn take_up(
        &self,
        question: &Question,
        candidate: &Candidate,
        under: &mut Under,
        progress: &mut Progress<'_>,
        patience: &mut Patience<'_>,
        why: String,
    ) -> Result<TakenUp, Stop> {
        progress.listener.hear(Event::TakingUp(candidate, under.asking.tokens().len(), &why));
        let wait = if patience.next.is_none() { KEPT_WAIT } else { ELSEWHERE_WAIT };
        let until = Instant::now() + wait;
        let lost = |why: &str, then: &Stop| Stop::Theirs(Cause::Broken, format!("{why}; it does not take the answer up ({then})"));
        let Some(left) = patience.left.checked_sub(1) else {
            return Err(Stop::Theirs(Cause::Broken, format!("{why}; it broke {} times", RESUMES_MAX + 1)));
        };
        patience.left = left;
        loop {
            let knock = timeout(until.saturating_duration_since(Instant::now()), self.knock(question, candidate, under));
            let tried = tokio::select! {
                biased;
                tried = knock => tried,
                (node, connection) = self.next(patience) => {
                    progress.ready = Some((node, connection));
                    return Err(lost(&why, &Stop::Lost(format!("no answer for {} ms", patience.head_start.as_millis()))));
                }
            };
            let stop = match tried {
                Ok(Ok(talk)) => {
                    progress.resumed += 1;
                    return Ok(TakenUp::On(Box::new(talk)));
                }
                Ok(Err((Stop::Gone(true, then), connection))) => {
                    let until = if patience.next.is_none() { until } else { Instant::now() };
                    let asked = self.ended(question, candidate, under, progress, connection.as_ref(), until).await?;
                    return asked.map(TakenUp::Ended).ok_or_else(|| lost(&why, &Stop::Gone(true, then)));
                }
                // The line may come back, and a stream that is there before may go.
                Ok(Err((stop @ (Stop::Lost(_) | Stop::Busy(..) | Stop::Theirs(Cause::Unreachable, _)), _))) => stop,
                Ok(Err((Stop::Mine(error), _))) => return Err(Stop::Mine(error)),
                Ok(Err((stop, _))) => return Err(lost(&why, &stop)),
                Err(_) => return Err(lost(&why, &Stop::Lost(format!("no answer for {} s", wait.as_secs())))),
            };
            if patience.next.is_some() || Instant::now() + TRY_LOOK >= until {
                return Err(lost(&why, &stop));
            }
            sleep(TRY_LOOK).await;
        }
    }

    /// A connection to the next node, once the one before has had its head start; never, if there is none.
    async fn next(&self, patience: &Patience<'_>) -> (NodeId, Connection) {
        if let Some(next) = patience.next {
            let (connected, ()) = tokio::join!(self.quic.connect(next.addr, Some(next.node)), sleep(patience.head_start));
            if let Ok(connection) = connected {
                return (next.node, connection);
            }
        }
        pending().await
    }

    /// One try: a connection, the index, and the voucher that was lost. With an error comes the connection, if there was one.
    async fn knock(&self, question: &Question, candidate: &Candidate, under: &Under) -> Result<Talk, (Stop, Option<Connection>)> {
        let unreachable = |error: String| Stop::Theirs(Cause::Unreachable, error);
        let connection =
            self.quic.connect(candidate.addr, Some(candidate.node)).await.map_err(|error| (unreachable(error.to_string()), None))?;
        match self.knock_over(&connection, question, under).await {
            Ok(talk) => Ok(talk),
            Err(stop) => Err((stop, Some(connection))),
        }
    }

    async fn knock_over(&self, connection: &Connection, question: &Question, under: &Under) -> Result<Talk, Stop> {
        let stream = connection.open_stream().await.map_err(|error| Stop::Theirs(Cause::Unreachable, error.to_string()))?;
        let mut talk = Talk::new(stream);
        if question.is_padded {
            talk.pad().await?;
        }
        let terms = under.asking.terms();
        let index = u32::try_from(under.asking.tokens().len()).map_err(anyhow::Error::from)?;
        let asked = Resume { node: under.begin.quote.document.node, request: terms.request, attempt: terms.attempt, index };
        talk.send(&FromClient::Resume(Box::new(Signed::new(&self.signer, &self.domains, asked)))).await?;
        let FromNode::Resumed { vouched } = talk.recv().await? else { return Err(Stop::out_of_order("the answer")) };
        if under.asking.resumed(vouched).map_err(Stop::misbehaved)?
            && let Some(voucher) = &under.last
        {
            talk.send(&FromClient::Voucher(Box::new(voucher.clone()))).await?;
        }
        Ok(talk)
    }

    /// What became of an attempt that ended while its connection was broken; nothing if that does not bring it to its end here. A node that is still at the receipt
    /// is asked again before `until`.
    async fn ended(
        &self,
        question: &Question,
        candidate: &Candidate,
        under: &mut Under,
        progress: &mut Progress<'_>,
        connection: Option<&Connection>,
        until: Instant,
    ) -> Result<Option<Tried>, Stop> {
        let terms = under.asking.terms();
        let asked = Recall { node: under.begin.quote.document.node, request: terms.request, attempt: terms.attempt };
        let Some(connection) = connection else { return Ok(None) };
        let word = loop {
            match timeout(WORD_WAIT, self.word_over(connection, asked, question.is_padded)).await {
                Ok(Err(Stop::Busy(..))) if Instant::now() + TRY_LOOK < until => sleep(TRY_LOOK).await,
                Ok(word) => break word,
                Err(_) => break Err(Stop::Lost(format!("no word for {} s", WORD_WAIT.as_secs()))),
            }
        };
        match word {
            Ok(FromNode::Receipt(delivered)) => self.unbilled(*delivered, under, progress).map(Some),
            Ok(FromNode::Kept { bundle }) => {
                let bundle = Bundle::from_json(bundle.as_bytes()).map_err(Stop::misbehaved)?;
                let reason = bundle.receipt.document.reason;
                let is_whole = under.asking.tokens().len() == under.asking.vouched() && matches!(reason, Reason::Stop | Reason::Length);
                let last = under.last.clone().filter(|last| is_whole && last.document == bundle.voucher.document);
                // Of a part of what came: the rest is asked for behind it, and the books follow this word when that has ended.
                let Some(voucher) = last else { return self.keep_part(candidate, under, &bundle).map(|()| None) };
                let delivered = Delivered {
                    receipt: bundle.receipt.document,
                    signature: bundle.receipt.signature,
                    answer: bundle.answer,
                    answer_salt: bundle.answer_salt,
                    openings: serde_json::to_string(&bundle.openings).map_err(anyhow::Error::from)?,
                    fingerprints: bundle.fingerprints,
                };
                let bundle = evidence::assemble(&self.domains, &under.begin, &voucher, delivered, under.asking.tokens());
                progress.draft.finish(reason);
                (progress.keep)(&progress.draft)?;
                self.receipted(question, under, progress, reason, bundle.map_err(Stop::misbehaved)?).map(Some)
            }
            Ok(_) => Err(Stop::out_of_order("a receipt")),
            Err(Stop::Mine(error)) => Err(Stop::Mine(error)),
            Err(stop) => {
                tracing::info!(%stop, "no word on an attempt that ended");
                Ok(None)
            }
        }
    }

    /// Keeps a receipt over a part of what came, so that its node need not be asked again; one that does not stand is none.
    fn keep_part(&self, candidate: &Candidate, under: &Under, bundle: &Bundle) -> Result<(), Stop> {
        let Some(voucher) = under.last.as_ref().map(|last| last.document) else { return Ok(()) };
        let at = (candidate.node, candidate.account, candidate.addr);
        let left = Left::new(voucher.request, voucher.attempt, at, self.payer, self.signer.address());
        let sum = voucher.cumulative.minus(voucher.base).map_err(anyhow::Error::from)?;
        let expiry = under.begin.lane.document.expiry;
        let promise = Promise { attempt: voucher.attempt, lane: voucher.lane, base: voucher.base, sum, expiry };
        match self.check_bundle(&left, &promise, bundle) {
            Ok(()) => {
                let path = bundle_path(&self.receipts, voucher.request, voucher.attempt);
                write_atomic(&path, bundle.to_json().as_bytes(), 0o600).with_context(|| path.display().to_string())?;
            }
            Err(why) => tracing::warn!(node = %candidate.node, why, "its word on an attempt that ended does not stand"),
        }
        Ok(())
    }
}
