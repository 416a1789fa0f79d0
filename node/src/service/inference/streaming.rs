//! Tokens out, vouchers in: what the engine makes is sent as far as it is paid for, until the answer has ended and all of it is, or goes on by
//! another stream.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use inference::{
    Finish,
    engine::{Activations, EngineError, Generation, Start, Step},
    model::ModelError,
    proto::{
        message::{Begin, CLIENT_FRAME_MAX, FromClient, FromNode, Refusal, RefusalCode, Told},
        payment::Serving,
        residency::AdapterId,
    },
};
use p2p::stream::StreamError;
use tokio::{
    task::{JoinError, JoinHandle},
    time::{self, sleep_until, timeout},
};
use types::{key::Signed, options::Options, receipt::Reason, voucher::Voucher};

use super::{
    Answering, Broken, Escrow, Offer, SEND_WAIT, VOUCHER_WAIT, duplicate, internal, refuse,
    seats::{Arrival, Seat},
    signer,
    voice::{Line, Patience},
};
use crate::books::BooksError;

/// What an answer's stream leaves behind, however it ends.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The last voucher taken.
    pub(super) voucher: Option<Signed<Voucher>>,
    /// Whether the attempt's note is on disk: from then on it is begun once.
    pub(super) is_noted: bool,
}

/// What is under way for an answer, on whichever stream: its tokens, and its note on the way to the disk (false where there was one before).
pub(super) struct Work {
    generation: Generation,
    noted: JoinHandle<Result<bool, BooksError>>,
    tokenizing: Duration,
    started: Instant,
    credited: u32,
    /// What is told with the tokens that are not vouched for, the last ones sent: they may have to be sent again.
    told: VecDeque<Box<[(u32, i32)]>>,
    /// Until when the next voucher must be there, once nothing may be sent before it. No other stream moves that but by what it takes itself.
    due: Option<time::Instant>,
    /// With a client that reads slowly; no other stream renews it.
    patience: Patience,
    /// Tokens that came behind the first one, and in which time: while the client was to pay or to read, nothing counts.
    pub(super) behind_first: u32,
    pub(super) going: Duration,
}

impl Work {
    pub(super) fn new(generation: Generation, noted: JoinHandle<Result<bool, BooksError>>, tokenizing: Duration) -> Self {
        Self {
            generation,
            noted,
            tokenizing,
            started: Instant::now(),
            credited: 0,
            told: VecDeque::new(),
            due: None,
            patience: Patience::default(),
            behind_first: 0,
            going: Duration::ZERO,
        }
    }

    /// What fingerprints of the answer are made of, in a profile that needs them.
    pub(super) fn activations(&self) -> Option<Activations> {
        self.generation.activations()
    }

    /// Rows of the prompt that were computed, as [`Generation::computed`] counts them.
    pub(super) fn computed(&self) -> u32 {
        self.generation.computed()
    }

    /// For so long no voucher could come, whatever the client did.
    pub(super) fn wait_longer(&mut self, time: Duration) {
        self.due = self.due.map(|due| due + time);
    }
}

/// Why streaming stops.
pub(super) enum Halt {
    /// The answer has ended, or its client has left.
    Over,
    /// The client goes on by another stream.
    Taken(Box<Arrival>),
}

/// That the request was noted just now, and never before.
fn is_new(noted: Result<Result<bool, BooksError>, JoinError>, begin: &Begin) -> Result<bool, Broken> {
    if noted.map_err(internal)?.map_err(internal)? { Ok(true) } else { Err(duplicate(begin)) }
}

/// Says something, unless another stream takes the answer up meanwhile.
async fn heard(
    saying: impl Future<Output = Result<(), Broken>>,
    seat: &mut Seat<'_>,
    serving: &Serving,
) -> Result<Option<Arrival>, Broken> {
    tokio::pin!(saying);
    loop {
        let knock = tokio::select! {
            biased;
            said = &mut saying => return said.map(|()| None),
            knock = seat.knock() => knock,
        };
        if let Some(arrival) = seat.admit(knock, serving).await {
            return Ok(Some(arrival));
        }
    }
}

impl<E: Escrow> Answering<E> {
    pub(super) async fn begin_generation(
        &self,
        begin: &Begin,
        offer: &Offer,
        options: Options,
        prompt: Vec<u32>,
    ) -> Result<Generation, Broken> {
        if let Some((_, folder)) = offer.adapter.as_ref().filter(|(hash, _)| self.engine.adapter(hash.0).is_none()) {
            self.engine.load_adapter(folder).await.map_err(|e| refuse(RefusalCode::NotServed, e.to_string()))?;
        }
        let request = &begin.request.document;
        // Who pays is who shares what was computed before: strangers learn nothing from the time of a first token.
        let mut tenant = [0; 32];
        tenant[..20].copy_from_slice(&request.client.0);
        let start = Start {
            continued: begin.continued.clone(),
            adapters: offer.adapter.iter().map(|(hash, _)| (AdapterId(hash.0), 1.0)).collect(),
            payer: request.client,
            tenant,
            fingerprints: self.profile().needs_fingerprint(),
            ..Start::new(prompt, options, begin.request.seed().0, request.tokens_max)
        };
        self.engine.begin(start).await.map_err(|error| {
            let code = match &error {
                EngineError::ContextExceeded { .. } => RefusalCode::TooLong,
                EngineError::Busy { .. } => RefusalCode::Busy,
                EngineError::UnknownAdapter(_) | EngineError::AdapterLost { .. } => RefusalCode::NotServed,
                EngineError::Invalid(_) | EngineError::Options(_) | EngineError::Constraint(_) => RefusalCode::Invalid,
                // Of the tokens that the client continues from.
                EngineError::Model(ModelError::UnknownToken { .. }) => RefusalCode::Invalid,
                _ => RefusalCode::Internal,
            };
            let refusal = Refusal::new(code, error.to_string());
            Broken::Refused(match error {
                EngineError::Busy { retry_after, .. } => refusal.after(retry_after),
                _ => refusal,
            })
        })
    }

    /// Streams from the client's token `from` on, behind `opening`, until the answer has ended and is paid, or no voucher comes; what `kept` says holds also
    /// when this fails.
    pub(super) async fn stream_tokens(
        &self,
        (line, seat): (&mut Line, &mut Seat<'_>),
        (opening, from): (&FromNode, u32),
        begin: &Begin,
        serving: &mut Serving,
        work: &mut Work,
        kept: &mut Kept,
    ) -> Result<Halt, Broken> {
        let again = self.again(serving, work, from)?;
        let saying = async {
            for message in std::iter::once(opening).chain(&again) {
                line.voice.say(message).await?;
            }
            Ok(())
        };
        // One wait for all of it: a client that reads a frame now and then holds its answer no longer by taking it up.
        if let Some(arrival) = timeout(SEND_WAIT, heard(saying, seat, serving)).await.map_err(|_| Broken::Deaf)?? {
            return Ok(Halt::Taken(Box::new(arrival)));
        }
        work.wait_longer(line.voice.backlog());
        let mut is_announced = false;
        while !serving.is_settled() {
            if let Some(reason) = serving.finished().filter(|_| !is_announced) {
                if let Some(arrival) = heard(line.voice.end(&FromNode::Finished { reason }), seat, serving).await? {
                    return Ok(Halt::Taken(Box::new(arrival)));
                }
                is_announced = true;
            }
            let computable = serving.computable();
            work.generation.credit(computable.saturating_sub(work.credited));
            work.credited = work.credited.max(computable);
            let is_waiting = !serving.may_send();
            let due = if is_waiting {
                *work.due.get_or_insert_with(|| time::Instant::now() + VOUCHER_WAIT + line.voice.backlog())
            } else {
                time::Instant::now()
            };
            let can_take = !is_waiting && !line.voice.is_full();
            let (asked, is_going) = (Instant::now(), !serving.tokens().is_empty());
            let said = tokio::select! {
                biased;
                knock = seat.knock() => {
                    if let Some(arrival) = seat.admit(knock, serving).await {
                        return Ok(Halt::Taken(Box::new(arrival)));
                    }
                    None
                }
                frame = line.receiver.recv(CLIENT_FRAME_MAX) => {
                    match frame {
                        Ok(Some(frame)) => {
                            self.take_voucher(begin, serving, &frame, &mut kept.voucher)?;
                            work.due = None;
                            // Each is for more tokens than the one before.
                            work.patience.renew();
                            let unpaid = serving.tokens().len() - serving.vouched().len();
                            work.told.drain(..work.told.len().saturating_sub(unpaid));
                        }
                        Err(error @ StreamError::Lost(_)) => return Err(error.into()),
                        // A client that resets or leaves is billed for what it acknowledged.
                        Ok(None) | Err(_) => return Ok(Halt::Over),
                    }
                    None
                }
                () = sleep_until(due), if is_waiting => {
                    serving.finish(Reason::NoVoucher);
                    return Ok(Halt::Over);
                }
                () = line.voice.beat(), if !is_announced => {
                    if serving.tokens().len() == serving.vouched().len() {
                        work.patience.renew();
                    }
                    work.patience.hear(heard(line.voice.cell(), seat, serving)).await?
                }
                done = &mut work.noted, if !kept.is_noted => {
                    kept.is_noted = is_new(done, begin)?;
                    None
                }
                step = work.generation.next(), if can_take => {
                    if matches!(step, Ok(Step::Token { .. })) && !serving.tokens().is_empty() {
                        work.behind_first = work.behind_first.saturating_add(1);
                    }
                    if !kept.is_noted {
                        kept.is_noted = is_new((&mut work.noted).await, begin)?;
                    }
                    match step {
                        Ok(Step::Token { token, .. }) => {
                            if serving.tokens().is_empty() {
                                let took = work.tokenizing + work.started.elapsed();
                                self.speed.first(took);
                                self.metrics.first_token(took);
                                tracing::info!(engine_us = took.as_micros(), "first token");
                            }
                            let logprobs = work.generation.logprobs().unwrap_or_default();
                            work.told.push_back(logprobs.into());
                            let index = serving.token(token);
                            let message = self.token(index, token, logprobs);
                            work.patience.hear(heard(line.voice.say(&message), seat, serving)).await?
                        }
                        Ok(Step::End(finish)) => {
                            serving.finish(match finish {
                                Finish::Stop => Reason::Stop,
                                Finish::Length => Reason::Length,
                            });
                            None
                        }
                        // What came is paid for: else a grammar that ends nowhere would be a way to answers for nothing.
                        Err(EngineError::Constraint(error)) if error.is_clients_fault() => {
                            tracing::info!(%error, "the client's grammar ended its answer");
                            serving.finish(Reason::Cancelled);
                            None
                        }
                        Err(error) => {
                            tracing::error!(%error, "engine failed during an answer");
                            return Err(internal(error));
                        }
                    }
                }
            };
            if can_take && is_going {
                work.going += asked.elapsed();
            }
            if let Some(arrival) = said {
                return Ok(Halt::Taken(Box::new(arrival)));
            }
        }
        if !is_announced
            && let Some(reason) = serving.finished()
            && let Some(arrival) = heard(line.voice.end(&FromNode::Finished { reason }), seat, serving).await?
        {
            return Ok(Halt::Taken(Box::new(arrival)));
        }
        Ok(Halt::Over)
    }

    /// What was sent once and is to be sent again, from the token `from` on.
    fn again(&self, serving: &Serving, work: &Work, from: u32) -> Result<Vec<FromNode>, Broken> {
        let tokens = serving.behind(from).map_err(internal)?;
        let told = work.told.iter().skip(work.told.len().saturating_sub(tokens.len()));
        Ok((from..).zip(tokens.iter().zip(told)).map(|(index, (token, told))| self.token(index, *token, told)).collect())
    }

    fn token(&self, index: u32, id: u32, logprobs: &[(u32, i32)]) -> FromNode {
        FromNode::Token { index, id, bytes: self.engine.decode(&[id]), told: self.told(logprobs) }
    }

    fn told(&self, logprobs: &[(u32, i32)]) -> Vec<Told> {
        logprobs.iter().map(|&(token, ln_ppm)| Told { bytes: self.engine.decode(&[token]), ln_ppm }).collect()
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
                "the voucher promises {}, above the lane's cap of {}",
                voucher.document.cumulative.in_open(),
                begin.lane.document.cap.in_open()
            )));
        }
        serving.voucher(&voucher.document).map_err(|e| no(e.to_string()))?;
        *last = Some(*voucher);
        Ok(())
    }
}
