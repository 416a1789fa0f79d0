//! What the owner keeps of a job, and what its rows of a step come to: tokens chosen, or judged.
//!
//! Here each job looks at nothing but its own rows, so jobs of a step are worked out side by side. A sampled choice over a vocabulary of 49,152
//! takes 0.1 to 0.2 ms ([`sampler`]).

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::Finish;
use crate::backend::{Backend, Outputs};
use crate::model::ModelError;
use crate::proto::scheduler::{CHOSEN_MAX, JobId, Outcome, Planned};
use crate::step::{Page, Step};
use crate::verify::{Checked, Digests, Hidden, Progress, Trace};

use super::EngineError;
use super::guide::Guide;
use super::line::{Line, Told};

/// A job.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) job: JobId,
    pub(super) line: Arc<Line>,
    pub(super) guide: Box<Guide>,
    pub(super) seed: [u8; 32],
    /// Of the tokens that are about to be sent.
    pub(super) told: Vec<Told>,
    pub(super) trace: Option<Trace>,
    pub(super) kind: Kind,
    /// Why its rows have no result.
    pub(super) trouble: Option<EngineError>,
}

/// What is wanted of it.
#[derive(Debug)]
pub(super) enum Kind {
    Answer {
        /// Number of the next token.
        index: u32,
        /// Tokens the caller allowed and has not got.
        credit: u32,
    },
    Replay {
        progress: Progress,
        /// Tokens of the sequence before the first one judged.
        from: u32,
        /// Number of the first one judged.
        index: u32,
        reply: Option<oneshot::Sender<Result<Checked, EngineError>>>,
    },
}

/// A step and what came of it.
#[derive(Debug)]
pub(super) struct Results<'a, B> {
    pub(super) backend: &'a B,
    pub(super) step: Step<'a>,
    pub(super) out: &'a Outputs,
    pub(super) eos: &'a [u32],
    pub(super) vocabulary: usize,
}

impl<B: Backend> Results<'_, B> {
    fn logits(&self, wanted: usize) -> &[f32] {
        &self.out.logits[wanted * self.vocabulary..][..self.vocabulary]
    }

    /// What the head read.
    fn hidden(&self, wanted: usize) -> Hidden<'_> {
        let rows = self.step.wanted.len();
        let (width, groups) = (self.out.hidden.len() / rows, self.out.hidden_scales.len() / rows);
        Hidden {
            codes: &self.out.hidden[wanted * width..][..width],
            scales: &self.out.hidden_scales[wanted * groups..][..groups],
            zeros: &self.out.hidden_zeros[wanted * groups..][..groups],
        }
    }

    fn position(&self, row: u32) -> u32 {
        self.step.positions[index(row)]
    }

    /// The first row of a job that failed, if one did that does not stand behind a guess.
    fn failed(&self, planned: &Planned) -> Option<u32> {
        let first = self.out.failed.partition_point(|row| *row < planned.first_row);
        let given = planned.first_row + planned.rows - length(planned.guesses());
        self.out.failed.get(first).copied().filter(|row| *row < given)
    }

    fn has_failed(&self, wanted: usize) -> bool {
        self.out.failed.binary_search(&self.step.wanted[wanted]).is_ok()
    }

    /// Digest of a page of the job that is `at` in the step.
    pub(super) fn page_digest(&self, at: usize) -> impl Fn(usize, u32) -> [u8; 32] + '_ {
        let span = self.step.spans[at];
        move |page, tokens| self.backend.page_digest(Page(self.step.page_table[index(span.first_page) + page]), tokens)
    }
}

impl Work {
    /// Takes in what the job's rows came to; `at` is its place in the step. None if there was nothing to choose.
    pub(super) fn take<B: Backend>(&mut self, at: usize, planned: &Planned, results: &Results<'_, B>) -> Option<Outcome> {
        if let Some(row) = results.failed(planned) {
            return Some(self.fail(not_finite(results.position(row))));
        }
        let given = planned.rows - length(planned.guesses());
        let (mut rows, mut outcome) = (given, None);
        if planned.is_chosen() {
            let (right, chosen) = self.choose(planned, results);
            rows += right;
            outcome = Some(chosen);
        } else if let Err(trouble) = self.judge(planned, results) {
            return Some(self.fail(trouble));
        }
        let end = results.position(planned.first_row) + rows;
        if let Some(trace) = &mut self.trace {
            trace.reached(end, results.page_digest(at));
        }
        outcome
    }

    fn fail(&mut self, trouble: EngineError) -> Outcome {
        self.trouble = Some(trouble);
        Outcome::Failed
    }

    /// Chooses behind the last given token, and behind each guess while guesses are right; sends what it chose. Says how many guesses were.
    fn choose<B: Backend>(&mut self, planned: &Planned, results: &Results<'_, B>) -> (u32, Outcome) {
        let Kind::Answer { index: number, credit } = &mut self.kind else { unreachable!("only for answers something is chosen") };
        let (mut tokens, mut count, mut right, mut finish, mut failed) = ([0; CHOSEN_MAX], 0, 0, None, None);
        for at in 0..index(planned.wanted) {
            let wanted = index(planned.first_wanted) + at;
            let position = results.position(results.step.wanted[wanted]);
            if results.has_failed(wanted) {
                failed = Some(not_finite(position));
                break;
            }
            right = u32::try_from(at).unwrap_or(u32::MAX);
            let choice = self.guide.choose(results.logits(wanted), &self.seed, *number);
            let choice = match choice.and_then(|choice| choice.ok_or_else(|| not_finite(position))) {
                Ok(choice) => choice,
                Err(trouble) => {
                    failed = Some(trouble);
                    break;
                }
            };
            let token = choice.token;
            if let Some(trace) = &mut self.trace {
                trace.chosen(results.hidden(wanted), position, token);
            }
            if results.eos.contains(&token) {
                finish = Some(Finish::Stop);
                break;
            }
            self.line.read(results.hidden(wanted));
            tokens[count] = token;
            count += 1;
            *number += 1;
            self.told.extend(choice.logprobs);
            match self.guide.push(token) {
                Ok(false) => {}
                Ok(true) => {
                    finish = Some(Finish::Stop);
                    break;
                }
                Err(trouble) => {
                    failed = Some(trouble);
                    break;
                }
            }
            if planned.guesses().get(at) != Some(&token) {
                break;
            }
        }
        *credit = credit.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        if count > 0 {
            self.line.send(&tokens[..count], self.told.drain(..));
        }
        let outcome = match failed {
            Some(trouble) => self.fail(trouble),
            None => Outcome::Chosen { tokens, count, finish },
        };
        (right, outcome)
    }

    /// Judges what was claimed, as far as its rows go.
    ///
    /// # Errors
    /// Why nothing could be chosen somewhere.
    fn judge<B: Backend>(&mut self, planned: &Planned, results: &Results<'_, B>) -> Result<(), EngineError> {
        let Kind::Replay { progress, from, index: first, .. } = &mut self.kind else { return Ok(()) };
        for at in 0..planned.wanted {
            let wanted = index(planned.first_wanted + at);
            let position = planned.position + at;
            // Each position once, in order: the scheduler gives none again after a preemption.
            if progress.complete().is_some() || position + 1 != *from + progress.checked() {
                return Ok(());
            }
            let number = *first + progress.checked();
            let logits = results.logits(wanted);
            let best = self.guide.choose(logits, &self.seed, number)?.ok_or_else(|| not_finite(position))?.token;
            if let Some(trace) = &mut self.trace {
                trace.chosen(results.hidden(wanted), position, best);
            }
            let claimed = progress.claimed();
            let (rule, place) = (progress.rule(), (&self.seed, number));
            progress.judge(number, results.eos, |token| self.guide.judge(rule, logits, place, token, best));
            if let Some(token) = claimed {
                self.line.read(results.hidden(wanted));
                if progress.complete().is_none() {
                    self.guide.push(token)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the caller has to allow more before anything can be computed for it.
    pub(super) fn is_waited_for(&self) -> bool {
        matches!(self.kind, Kind::Answer { credit: 0, .. })
    }

    /// Whether all that was asked of a replay is known.
    pub(super) fn is_replayed(&self) -> bool {
        matches!(&self.kind, Kind::Replay { progress, .. } if progress.complete().is_some())
    }

    /// Tells the caller how it ended. `digests` closes the trace.
    pub(super) fn end(self, how: Result<Finish, EngineError>, digests: impl FnOnce(Trace) -> Digests) {
        let digests = |trace: Option<Trace>| trace.map(digests);
        match self.kind {
            Kind::Answer { .. } => self.line.end(how.map(|finish| (finish, digests(self.trace)))),
            Kind::Replay { progress, reply, .. } => {
                let result = match progress.complete() {
                    Some(replay) => Ok(Checked { replay, digests: digests(self.trace).unwrap_or_default() }),
                    // A replay that ended without one was stopped or failed.
                    None => Err(how.err().unwrap_or(EngineError::Ended)),
                };
                if let Some(reply) = reply {
                    // Who asked may have gone.
                    let _ = reply.send(result);
                }
            }
        }
    }
}

fn not_finite(position: u32) -> EngineError {
    ModelError::NotFinite { position }.into()
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("an index of a checked step")
}

fn length(guesses: &[u32]) -> u32 {
    u32::try_from(guesses.len()).expect("a few guesses")
}
