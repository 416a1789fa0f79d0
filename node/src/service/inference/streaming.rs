//! Tokens out, vouchers in: what the engine makes is sent as far as it is paid for, until the answer has ended and all of it is.

use std::time::{Duration, Instant};

use inference::{
    Finish,
    engine::{EngineError, Generation, Start, Step},
    model::ModelError,
    proto::{
        message::{Begin, CLIENT_FRAME_MAX, FromClient, FromNode, RefusalCode, Told},
        payment::Serving,
        residency::AdapterId,
    },
};
use p2p::stream::{FrameReceiver, FrameSender};
use tokio::{
    task::{JoinError, JoinHandle},
    time::timeout,
};
use types::{key::Signed, options::Options, receipt::Reason, voucher::Voucher};

use super::{Answering, Broken, Escrow, Offer, VOUCHER_WAIT, duplicate, internal, refuse, say, signer};
use crate::books::BooksError;

/// What an answer's stream leaves behind, however it ends.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The last voucher taken.
    pub(super) voucher: Option<Signed<Voucher>>,
    /// Whether the attempt's note is on disk: from then on it is begun once.
    pub(super) is_noted: bool,
}

/// What is under way for an answer: its tokens, and its note on the way to the disk (false where there was one before).
pub(super) struct Work {
    pub(super) generation: Generation,
    pub(super) noted: JoinHandle<Result<bool, BooksError>>,
    pub(super) tokenizing: Duration,
}

/// That the request was noted just now, and never before.
fn is_new(noted: Result<Result<bool, BooksError>, JoinError>, begin: &Begin) -> Result<bool, Broken> {
    if noted.map_err(internal)?.map_err(internal)? { Ok(true) } else { Err(duplicate(begin)) }
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
            refuse(code, error.to_string())
        })
    }

    /// Streams until the answer has ended and is paid, or no voucher comes; what `kept` says holds also when this fails.
    pub(super) async fn stream_tokens(
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
        let (mut is_announced, mut credited) = (false, 0);
        while !serving.is_settled() {
            if let Some(reason) = serving.finished().filter(|_| !is_announced) {
                say(sender, &FromNode::Finished { reason }).await?;
                is_announced = true;
            }
            let computable = serving.computable();
            generation.credit(computable.saturating_sub(credited));
            credited = credited.max(computable);
            if serving.may_send() {
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
                            let (index, bytes) = (serving.token(token), self.engine.decode(&[token]));
                            let told = self.told(generation.logprobs().unwrap_or_default());
                            say(sender, &FromNode::Token { index, id: token, bytes, told }).await?;
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
                        // What came is paid for: else a grammar that ends nowhere would be a way to answers for nothing.
                        Err(EngineError::Constraint(error)) if error.is_clients_fault() => {
                            if !kept.is_noted {
                                kept.is_noted = is_new((&mut noted).await, begin)?;
                            }
                            tracing::info!(%error, "the client's grammar ended its answer");
                            serving.finish(Reason::Cancelled);
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
