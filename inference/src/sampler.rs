//! Logits to a token: a pure function of logits, options, what was said before, seed and position. Exact: every step is integer
//! arithmetic or IEEE 754 in a stated order with functions of our own, so equal logits give equal tokens on every machine.
//!
//! The order of steps ([`choose`]), with transformers' logits processors beside it:
//! 1. [`Options::bias`] is added (`SequenceBias`), then the repetition penalty over prompt and answer divides or multiplies
//!    (`RepetitionPenalty`), then frequency and presence penalties over the answer are taken off (OpenAI's formula; transformers has none).
//!    A grammar's mask bars the rest ([`TokenSet`]).
//! 2. At temperature 0 the largest logit is taken, of equal ones the lowest id.
//! 3. Top-k admits logits from the k-th largest up. Top-p looks at the `k` largest alone, as probabilities at the temperature, and admits
//!    logits from the largest `t` up for which those at least `t` sum to top-p of them all. Min-p admits those at least that fraction
//!    as likely as the likeliest. The same order as transformers', where temperature comes first too. Ties differ: whatever equals a
//!    boundary is admitted, where transformers' top-p cuts among equals by its sort; and of logits equal to the k-th no more than `k`
//!    weigh in top-p.
//! 4. Every token id at every position has its own Gumbel noise, drawn from the seed by counter; the choice is the largest of
//!    `logit + temperature x noise` among the admitted, of equal ones the lowest id (the Gumbel-max form of softmax sampling:
//!    Maddison et al. 2014, section 2). So a choice depends on no earlier choice, a checker can repeat any position alone, and
//!    "almost chosen" has a meaning: how far a score is below the best, in logits ([`judge`]).
//!
//! Probabilities are integers in units of 2^-40 of the largest ([`crate::numeric::weight`]), so their sums have no order.
//!
//! Cost over 49,152 logits (`examples/choose`): greedy, top-k or min-p below 60 us; with top-p about 0.2 ms, nearly all of it one exponential
//! per logit; without a filter about 0.1 ms, one hash per logit. Nothing is sorted but the few logits near a boundary, and noise is computed only
//! where a bound on it could still win.

mod counts;
mod judge;
mod logprob;
mod noise;
mod stop;
mod threshold;
mod tokens;

#[cfg(test)]
mod tests;

pub use counts::Counts;
pub use judge::{Judgement, TOLERANCE, judge, judge_within};
pub use logprob::LOGPROB_UNITS_PER_NAT;
#[cfg(any(test, feature = "model"))]
pub(crate) use noise::split_mix;
pub use stop::{Shown, Stops, text_len};
pub use tokens::TokenSet;
pub use types::options::{
    BIAS_MAX, BIAS_MILLI_MAX, FIXED_BYTES, GRAMMAR_BYTES_MAX, GRAMMAR_ENGINE, Grammar, GrammarKind, LOGPROBS_MAX, OPTIONS_BYTES_MAX,
    Options, OptionsError, PENALTY_MILLI_MAX, REPEAT_MILLI, STOP_BYTES_MAX, STOPS_MAX,
};
/// How a request's own fields say to choose tokens; [`Options`] has the rest.
pub use types::request::SamplingRule as Sampling;

use noise::{GUMBEL_PER_BIT, NOISE_BITS, Noise};
use threshold::{Peaks, threshold};

/// Most tokens of a vocabulary: their weights sum to less than 2^63.
pub const VOCABULARY_MAX: usize = 1 << 22;

/// A chosen token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its id.
    pub token: u32,
    /// If [`Options::logprobs`] asks: the chosen token, then the likeliest, descending, of equal ones the lowest id first (the chosen one
    /// may be among them). With each the natural logarithm of its probability in [`LOGPROB_UNITS_PER_NAT`], under the model's own
    /// distribution: before bias, penalties, mask, temperature and filters.
    pub logprobs: Option<Box<[(u32, i32)]>>,
}

/// Chooses a token, in the order of steps above. `position` counts the answer's tokens from 0.
///
/// Logits are finite, as a backend's are: it fails the row otherwise. One that is not is never chosen. None if no token is left: no
/// logit is finite, or `allowed` has none of them.
///
/// [`Chooser`] does the same without allocating each time.
///
/// # Panics
/// If there are more than [`VOCABULARY_MAX`] logits: no model file with so many is read.
#[must_use]
pub fn choose(
    logits: &[f32],
    options: &Options,
    seen: &Counts,
    allowed: Option<&TokenSet>,
    seed: &[u8; 32],
    position: u32,
) -> Option<Choice> {
    Chooser::default().choose(logits, options, seen, allowed, seed, position)
}

/// [`choose`] with room that is kept: 200 kB for 49,152 logits if options change logits, and as much for a filter that admits nearly all.
#[derive(Debug, Clone, Default)]
pub struct Chooser {
    adjusted: Vec<f32>,
    peaks: Peaks,
    near: Vec<f32>,
}

impl Chooser {
    /// As [`choose`].
    ///
    /// # Panics
    /// As [`choose`].
    #[must_use]
    pub fn choose(
        &mut self,
        logits: &[f32],
        options: &Options,
        seen: &Counts,
        allowed: Option<&TokenSet>,
        seed: &[u8; 32],
        position: u32,
    ) -> Option<Choice> {
        assert!(logits.len() <= VOCABULARY_MAX, "{} logits, at most {VOCABULARY_MAX} are read from a model file", logits.len());
        self.peaks.read(logits);
        let told = (options.logprobs > 0).then(|| logprob::likeliest(logits, &self.peaks, options.logprobs, &mut self.near));
        let is_changed = allowed.is_some() || !options.bias.is_empty() || options.has_penalties() || !self.peaks.is_finite();
        let scores = if is_changed {
            counts::adjust(logits, options, seen, allowed, &mut self.adjusted);
            self.peaks.read(&self.adjusted);
            &self.adjusted
        } else {
            logits
        };
        let token = if options.temperature_milli == 0 {
            self.peaks.first(scores)?
        } else {
            let least = threshold(scores, &self.peaks, options, &mut self.near)?;
            sample(scores, &self.peaks, least, options.temperature_milli, Noise::new(seed, position))?
        };
        Some(Choice { token, logprobs: told.flatten().map(|told| told.with(logits, token)) })
    }
}

/// The largest of `logit + temperature x noise` among logits of at least `least`.
fn sample(scores: &[f32], peaks: &Peaks, least: f32, temperature_milli: u32, noise: Noise) -> Option<u32> {
    let temperature = f64::from(temperature_milli) / 1_000.0;
    let first = peaks.first(scores)?;
    let mut best = (score(peaks.largest(), temperature, noise.gumbel(first)), first);
    for (start, peak, block) in peaks.blocks(scores).filter(|(_, peak, _)| *peak >= least) {
        let Some(hash_min) = hash_min(peak, best.0, temperature) else { continue };
        for (id, &logit) in (start..).zip(block) {
            let hash = noise.hash(id);
            if hash >= hash_min && logit >= least {
                let score = score(logit, temperature, noise::gumbel(hash));
                if score > best.0 || (score >= best.0 && id < best.1) {
                    best = (score, id);
                }
            }
        }
    }
    Some(best.1)
}

/// The smallest hash with which a logit of at most `peak` could still reach the score `best`; none if none could.
fn hash_min(peak: f32, best: f32, temperature: f64) -> Option<u64> {
    let (peak, best) = (f64::from(peak), f64::from(best));
    // Scores are rounded to `f32`: half a unit of each counts too.
    let rounding = (peak.abs() + best.abs()) / 4_194_304.0;
    let bits = ((best - peak - rounding) / (temperature * GUMBEL_PER_BIT)).floor() - 2.0;
    if bits < 1.0 {
        return Some(0);
    }
    (bits <= f64::from(NOISE_BITS)).then(|| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 53")]
        let bits = bits as u32;
        u64::MAX << (64 - bits)
    })
}

fn score(logit: f32, temperature: f64, noise: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant: scores are compared as f32")]
    let rounded = (f64::from(logit) + temperature * noise) as f32;
    rounded
}
