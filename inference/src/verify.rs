//! Re-execution of another node's answer, in the profile `candle-f32-b1`.
//!
//! The claimed tokens are fed to the model one at a time (teacher-forced, batch 1), so a checker computes every position
//! with the same context as the node did, whatever it would have chosen itself. A token passes if it is this engine's
//! own choice or within [`TOLERANCE`](crate::sampler::TOLERANCE) of it ([`sampler::judge`](crate::sampler::judge)).
//! Between positions the engine serves others.
//!
//! Cost: as much as producing the answer. What it does not catch: a node that consistently prefers the other of two
//! near-equal tokens.

use crate::engine::{EngineError, EngineHandle, Start};
use crate::sampler::Judgement;
use crate::{Finish, Sampling};

/// What another node says it produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Tokens of the prompt, with the template around it.
    pub prompt: Vec<u32>,
    /// Tokens of the answer that came before this attempt; taken as given.
    pub continued: Vec<u32>,
    /// Tokens to check.
    pub tokens: Vec<u32>,
    /// Content hash of the adapter, which must be loaded.
    pub adapter: Option<[u8; 32]>,
    /// How tokens were chosen.
    pub sampling: Sampling,
    /// Seed of the choices.
    pub seed: [u8; 32],
    /// With [`Finish::Stop`] an end token must follow the last token. [`Finish::Length`] and none are not checked here:
    /// the caller compares counts.
    pub finish: Option<Finish>,
}

impl Claim {
    /// The request as an engine would have begun it.
    pub(crate) fn start(&self) -> Start {
        Start {
            prompt: self.prompt.clone(),
            continued: self.continued.clone(),
            adapter: self.adapter,
            sampling: self.sampling,
            seed: self.seed,
            max_tokens: u32::try_from(self.continued.len() + self.tokens.len()).unwrap_or(u32::MAX).saturating_add(1),
        }
    }
}

/// What a replay found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replay {
    /// Positions that passed.
    pub checked: u32,
    /// The first that did not; the replay ends there.
    pub mismatch: Option<Mismatch>,
}

/// A position that does not follow from the request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mismatch {
    /// Position in the answer, counted from its very first token (the continued ones included).
    pub position: u32,
    /// What this engine chooses.
    pub expected: u32,
    /// What was claimed.
    pub got: u32,
    /// How far the claim is below the choice, in logits; infinite if it could not be chosen at all.
    pub margin: f32,
}

/// Checks a claim token by token. The adapter must be loaded. Dropping the future stops the replay.
///
/// # Errors
/// [`EngineError`] if the claim cannot be run at all: unknown adapter, too long, no prompt, engine busy.
pub async fn replay(engine: &EngineHandle, claim: Claim) -> Result<Replay, EngineError> {
    engine.replay(claim).await
}

/// Where a replay stands. Pure: it is told judgements and decides when it is over.
#[derive(Debug)]
pub(crate) struct Progress {
    tokens: Vec<u32>,
    stop: bool,
    checked: u32,
    result: Option<Replay>,
}

impl Progress {
    pub(crate) fn new(tokens: Vec<u32>, finish: Option<Finish>) -> Self {
        let stop = finish == Some(Finish::Stop);
        let empty = tokens.is_empty() && !stop;
        let result = empty.then_some(Replay { checked: 0, mismatch: None });
        Self { tokens, stop, checked: 0, result }
    }

    /// The result, once there is one.
    pub(crate) fn complete(&self) -> Option<Replay> {
        self.result
    }

    /// Takes the judgement of one position. Returns the token to feed next.
    pub(crate) fn judge(&mut self, position: u32, eos: &[u32], judge: impl Fn(u32) -> Judgement) -> Option<u32> {
        let next = usize::try_from(self.checked).ok().and_then(|index| self.tokens.get(index)).copied();
        match next {
            Some(token) => {
                let mut judgement = judge(token);
                if eos.contains(&token) {
                    // An end token is never part of an answer.
                    judgement = Judgement { passes: false, margin: f32::INFINITY, ..judgement };
                }
                self.take(position, token, judgement, true);
            }
            None => self.judge_stop(position, eos, judge),
        }
        next.filter(|_| self.result.is_none())
    }

    fn judge_stop(&mut self, position: u32, eos: &[u32], judge: impl Fn(u32) -> Judgement) {
        let closest = eos.iter().map(|&token| (token, judge(token))).min_by(|a, b| a.1.margin.total_cmp(&b.1.margin));
        if let Some((token, judgement)) = closest {
            self.take(position, token, judgement, false);
        }
    }

    fn take(&mut self, position: u32, got: u32, judgement: Judgement, is_token: bool) {
        if !judgement.passes {
            let Judgement { best, margin, .. } = judgement;
            let mismatch = Mismatch { position, expected: best, got, margin };
            self.result = Some(Replay { checked: self.checked, mismatch: Some(mismatch) });
            return;
        }
        self.checked += u32::from(is_token);
        let all = usize::try_from(self.checked).is_ok_and(|checked| checked >= self.tokens.len());
        if !is_token || (all && !self.stop) {
            self.result = Some(Replay { checked: self.checked, mismatch: None });
        }
    }
}
