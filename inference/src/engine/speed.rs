//! Tokens per second of a running engine, for benches.

use std::time::{Duration, Instant};

use crate::Sampling;

use super::{EngineError, EngineHandle, Start, Step};

/// One measurement. The engine should be otherwise idle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// From the first pull to the first token.
    pub first_token: Duration,
    /// Tokens after the first; fewer than asked for if the model ended its answer.
    pub decoded: u32,
    /// Time for those.
    pub decode: Duration,
}

impl Speed {
    /// Prompt tokens per second; the first choice is part of the time.
    #[must_use]
    pub fn prefill_per_s(&self) -> f64 {
        crate::model::f64_from(self.prompt) / self.first_token.as_secs_f64()
    }

    /// Answer tokens per second after the first.
    #[must_use]
    pub fn decode_per_s(&self) -> f64 {
        f64::from(self.decoded) / self.decode.as_secs_f64()
    }
}

impl EngineHandle {
    /// Runs a prompt of `prompt` tokens from all over the vocabulary and decodes `tokens` more, greedily.
    ///
    /// # Errors
    /// As [`begin`](Self::begin) and [`next`](super::Generation::next).
    pub async fn measure(&self, prompt: u32, tokens: u32, adapter: Option<[u8; 32]>) -> Result<Speed, EngineError> {
        let vocabulary = u32::try_from(self.info().config.vocabulary).unwrap_or(u32::MAX);
        let ids: Vec<u32> = (0..prompt).map(|i| i.wrapping_mul(7_919).wrapping_add(1_000) % vocabulary).collect();
        let start = Start { adapter, ..Start::new(ids, Sampling::GREEDY, [0; 32], tokens.saturating_add(1)) };
        let mut generation = self.begin(start).await?;
        let begun = Instant::now();
        generation.next().await?;
        let first_token = begun.elapsed();
        let begun = Instant::now();
        let mut decoded = 0;
        while let Step::Token { .. } = generation.next().await? {
            decoded += 1;
        }
        Ok(Speed { prompt: usize::try_from(prompt).unwrap_or(usize::MAX), first_token, decoded, decode: begun.elapsed() })
    }
}
