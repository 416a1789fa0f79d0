//! The state of one generation, and the one unit of work it can do next. Counts and chooses; a backend computes.

use crate::backend::Backend;
use crate::model::{ModelError, PREFILL_CHUNK};
use crate::sampler;
use crate::{Finish, Sampling};

use super::{EngineError, Start, Step};

/// A generation on the owner thread.
pub(super) struct Sequence<B: Backend> {
    cache: B::Sequence,
    /// Tokens not yet computed: at first prompt and continuation, later the last chosen token.
    pending: Vec<u32>,
    sampling: Sampling,
    seed: [u8; 32],
    /// Position of the next token in the answer.
    index: u32,
    max_tokens: u32,
    /// Tokens computed or pending, to know when the context is full.
    length: usize,
    context: usize,
}

impl<B: Backend> Sequence<B> {
    /// Checks a request against the model and prepares its state.
    pub(super) fn new(start: &Start, backend: &B) -> Result<Self, EngineError> {
        let max = usize::try_from(backend.info().context).unwrap_or(usize::MAX);
        let length = start.prompt.len() + start.continued.len();
        if start.prompt.is_empty() {
            return Err(EngineError::Invalid("the prompt is empty: give at least one token"));
        }
        if length >= max {
            return Err(EngineError::ContextExceeded { prompt: length, max });
        }
        let index = u32::try_from(start.continued.len())
            .map_err(|_| EngineError::Invalid("the continuation has more tokens than can be counted"))?;
        Ok(Self {
            cache: backend.sequence(),
            pending: start.prompt.iter().chain(&start.continued).copied().collect(),
            sampling: start.sampling,
            seed: start.seed,
            index,
            max_tokens: start.max_tokens,
            length,
            context: max,
        })
    }

    /// Tokens it may hold in the end; what admission counts.
    pub(super) fn length_max(&self) -> usize {
        let left = usize::try_from(self.max_tokens.saturating_sub(self.index)).unwrap_or(usize::MAX);
        self.length.saturating_add(left).min(self.context)
    }

    /// Position of the next token in the answer.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Computes one chunk. Returns logits once nothing is pending.
    pub(super) fn compute(&mut self, backend: &B, adapter: Option<&B::Adapter>) -> Result<Option<Vec<f32>>, ModelError> {
        let count = self.pending.len().min(PREFILL_CHUNK);
        let logits = backend.forward(&mut self.cache, &self.pending[..count], adapter)?;
        self.pending.drain(..count);
        if !self.pending.is_empty() {
            return Ok(None);
        }
        // About 20 us over 49,152 logits, beside milliseconds for the token.
        match logits.iter().position(|logit| !logit.is_finite()) {
            Some(token) => Err(ModelError::NotFinite { token, logit: logits[token] }),
            None => Ok(Some(logits)),
        }
    }

    /// What follows without computing anything: the answer may already be as long as it may be.
    pub(super) fn already_ended(&self) -> Option<Finish> {
        (self.index >= self.max_tokens || self.length >= self.context).then_some(Finish::Length)
    }

    /// Takes a chosen token into the answer.
    pub(super) fn push(&mut self, token: u32) {
        self.pending.push(token);
        self.index += 1;
        self.length += 1;
    }

    /// Does one unit of a pull: a chunk of the prompt (no step yet) or the next token.
    pub(super) fn unit(&mut self, backend: &B, adapter: Option<&B::Adapter>, eos: &[u32]) -> Result<Option<Step>, ModelError> {
        if let Some(finish) = self.already_ended() {
            return Ok(Some(Step::End(finish)));
        }
        let Some(logits) = self.compute(backend, adapter)? else {
            return Ok(None);
        };
        let token = sampler::choose(&logits, self.sampling, &self.seed, self.index);
        if eos.contains(&token) {
            return Ok(Some(Step::End(Finish::Stop)));
        }
        let step = Step::Token { token, index: self.index };
        self.push(token);
        Ok(Some(step))
    }

    /// Judges one claimed token at the current position against logits just computed.
    pub(super) fn judge(&self, logits: &[f32], token: u32) -> sampler::Judgement {
        sampler::judge(logits, self.sampling, &self.seed, self.index, token)
    }
}
