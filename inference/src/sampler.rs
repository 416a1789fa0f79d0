//! Logits to a token: a pure function of logits, settings, seed and position.
//!
//! Sampling is counter-based. Every token id at every position has its own noise, derived from the seed by BLAKE3
//! and SplitMix64, and the choice is the largest of `logit + temperature x Gumbel noise` among the admitted
//! tokens (the Gumbel-max form of softmax sampling: Maddison et al. 2014, section 2). So a choice depends on no
//! state and no earlier choice, a checker can repeat any position alone, and "almost chosen" has a meaning: how far
//! a score is below the best, in logits.
//!
//! Ties go to the lowest id. Logarithms of the noise are f64: two machines may differ by about 1e-15 in the noise,
//! far inside the tolerance of the profile.
//!
//! Cost: one BLAKE3 hash per position, one pass over the logits, and per admitted token about 20 ns of noise
//! (1 ms for a vocabulary of 49,152 without top-k; nothing when greedy).

use serde::{Deserialize, Serialize};

/// Most a logit of an honest node may differ from a checker's, in the profile `candle-f32-b1`.
pub const TOLERANCE: f32 = 1e-3;

/// How to choose tokens. Integers, because they are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// Temperature in thousandths; 0 takes the largest logit.
    pub temperature_milli: u32,
    /// Only the `top_k` largest logits are admitted; 0 admits all.
    pub top_k: u32,
    /// Only the smallest set of largest probabilities that sums to this many millionths is admitted;
    /// 0 and anything from 1,000,000 admit all.
    pub top_p_ppm: u32,
}

impl Sampling {
    /// Always the largest logit.
    pub const GREEDY: Self = Self { temperature_milli: 0, top_k: 0, top_p_ppm: 0 };
}

/// A checker's view of one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The token this function would choose.
    pub best: u32,
    /// How far the claimed token's score is below the best admitted one, in logits; infinite if the token is not admitted.
    pub margin: f32,
    /// Whether logits within [`TOLERANCE`] of these could have led to the claimed token.
    pub passes: bool,
}

/// Chooses a token. `position` counts the answer's tokens from 0. Empty logits give 0.
///
/// A NaN never wins; a vocabulary of nothing but NaN gives 0.
#[must_use]
pub fn choose(logits: &[f32], sampling: Sampling, seed: &[u8; 32], position: u32) -> u32 {
    if sampling.temperature_milli == 0 {
        return argmax(ids(logits)).map_or(0, |(id, _)| id);
    }
    let admitted = Admission::new(logits, sampling, 0.0);
    let noise = Noise::new(seed, position);
    argmax(ids(logits).filter(|(_, logit)| admitted.admits(*logit)).map(|(id, logit)| (id, score(logit, sampling, &noise, id))))
        .map_or(0, |(id, _)| id)
}

/// Judges a claimed token against a checker's own logits.
///
/// Greedy: it passes if its logit is at most [`TOLERANCE`] below the largest. Seeded: it passes if it could be
/// admitted when logits move by the tolerance, and its score is at most the tolerance below the best of those that
/// stay admitted under the same movement. The movement of top-p's boundary is bounded by the factor
/// `exp(2 x tolerance / temperature)` on probabilities. This accepts a little more than strictly reachable, never less.
#[must_use]
pub fn judge(logits: &[f32], sampling: Sampling, seed: &[u8; 32], position: u32, token: u32) -> Judgement {
    let best = choose(logits, sampling, seed, position);
    let claimed = usize::try_from(token).ok().and_then(|index| logits.get(index)).copied();
    let refused = Judgement { best, margin: f32::INFINITY, passes: false };
    let Some(logit) = claimed.filter(|logit| !logit.is_nan()) else {
        return refused;
    };
    if token == best {
        return Judgement { best, margin: 0.0, passes: true };
    }
    if sampling.temperature_milli == 0 {
        let largest = argmax(ids(logits)).map_or(f32::NEG_INFINITY, |(_, logit)| logit);
        let margin = largest - logit;
        return Judgement { best, margin, passes: margin <= TOLERANCE };
    }
    if !Admission::new(logits, sampling, TOLERANCE).admits(logit) {
        return refused;
    }
    let noise = Noise::new(seed, position);
    let certain = Admission::new(logits, sampling, -TOLERANCE);
    let rival = argmax(ids(logits).filter(|(_, logit)| certain.admits(*logit)).map(|(id, logit)| (id, score(logit, sampling, &noise, id))));
    let own = score(logit, sampling, &noise, token);
    // Nothing is certainly admitted only when the boundary itself is within the tolerance: then anything admitted may win.
    let margin = rival.map_or(0.0, |(_, rival)| (rival - own).max(0.0));
    Judgement { best, margin, passes: margin <= TOLERANCE }
}

fn ids(logits: &[f32]) -> impl Iterator<Item = (u32, f32)> + '_ {
    (0u32..).zip(logits.iter().copied())
}

fn argmax(scores: impl Iterator<Item = (u32, f32)>) -> Option<(u32, f32)> {
    let mut best: Option<(u32, f32)> = None;
    for (id, score) in scores {
        if !score.is_nan() && best.is_none_or(|(_, top)| score > top) {
            best = Some((id, score));
        }
    }
    best
}

fn score(logit: f32, sampling: Sampling, noise: &Noise, id: u32) -> f32 {
    let temperature = f64::from(sampling.temperature_milli) / 1_000.0;
    let sum = f64::from(logit) + temperature * noise.gumbel(id);
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant: scores are compared as f32")]
    let rounded = sum as f32;
    rounded
}

/// The smallest logit that may be chosen.
struct Admission {
    threshold: f32,
}

impl Admission {
    /// Admits more with a positive `slack`, fewer with a negative one; 0 is the rule itself.
    fn new(logits: &[f32], sampling: Sampling, slack: f32) -> Self {
        let mut threshold = f32::NEG_INFINITY;
        let k = usize::try_from(sampling.top_k).unwrap_or(usize::MAX);
        let limits_k = k > 0 && k < logits.len();
        let limits_p = (1..1_000_000).contains(&sampling.top_p_ppm);
        if limits_k || limits_p {
            let mut sorted: Vec<f32> = logits.iter().copied().filter(|logit| !logit.is_nan()).collect();
            if limits_k && k < sorted.len() {
                let (_, kth, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
                threshold = *kth - slack;
                sorted.truncate(k);
            }
            if limits_p {
                sorted.sort_unstable_by(|a, b| b.total_cmp(a));
                threshold = threshold.max(nucleus(&sorted, sampling, slack) - slack);
            }
        }
        Self { threshold }
    }

    fn admits(&self, logit: f32) -> bool {
        logit >= self.threshold
    }
}

/// The last logit of the smallest set of largest probabilities whose sum reaches top-p.
fn nucleus(sorted: &[f32], sampling: Sampling, slack: f32) -> f32 {
    let Some(&largest) = sorted.first() else { return f32::NEG_INFINITY };
    let temperature = f64::from(sampling.temperature_milli) / 1_000.0;
    let weight = |logit: f32| (f64::from(logit - largest) / temperature).exp();
    let total: f64 = sorted.iter().map(|&logit| weight(logit)).sum();
    let factor = (2.0 * f64::from(slack) / temperature).exp();
    let target = total * f64::from(sampling.top_p_ppm) / 1e6 * factor;
    let mut sum = 0.0;
    for &logit in sorted {
        sum += weight(logit);
        if sum >= target {
            return logit;
        }
    }
    sorted.last().copied().unwrap_or(f32::NEG_INFINITY)
}

/// The noise of one position: a keyed stream indexed by token id.
struct Noise {
    key: u64,
}

impl Noise {
    fn new(seed: &[u8; 32], position: u32) -> Self {
        let digest = blake3::keyed_hash(seed, &position.to_le_bytes());
        let (words, _) = digest.as_bytes().as_chunks::<8>();
        Self { key: u64::from_le_bytes(words[0]) }
    }

    /// Standard Gumbel noise of a token: -ln(-ln u), u uniform in (0, 1) with 53 bits.
    fn gumbel(&self, id: u32) -> f64 {
        let bits = split_mix(self.key.wrapping_add(u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
        let uniform = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -(-uniform.ln()).ln()
    }
}

/// The output function of SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) fn split_mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: [u8; 32] = [9; 32];

    fn warm(temperature_milli: u32, top_k: u32, top_p_ppm: u32) -> Sampling {
        Sampling { temperature_milli, top_k, top_p_ppm }
    }

    #[test]
    fn greedy_takes_the_lowest_of_equal_ids() {
        assert_eq!(choose(&[1.0, 3.0, 3.0, f32::NAN], Sampling::GREEDY, &SEED, 0), 1);
    }

    #[test]
    fn choices_are_stable_across_releases() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.37).sin()).collect();
        let got: Vec<u32> = (0..8).map(|p| choose(&logits, warm(1_000, 0, 0), &SEED, p)).collect();
        assert_eq!(got, GOLDEN);
    }
    const GOLDEN: [u32; 8] = [38, 26, 31, 47, 10, 22, 13, 38];

    #[test]
    fn frequencies_follow_the_softmax() {
        // Weights 1 : 2 : 4 at temperature 1; 3 standard errors of the largest share over n draws.
        let logits = [0.0, 2f32.ln(), 4f32.ln()];
        let n = 20_000u32;
        let mut counts = [0u32; 3];
        for position in 0..n {
            counts[choose(&logits, warm(1_000, 0, 0), &SEED, position) as usize] += 1;
        }
        for (count, share) in counts.iter().zip([1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0]) {
            let expected = f64::from(n) * share;
            let error = 3.0 * (f64::from(n) * share * (1.0 - share)).sqrt();
            assert!((f64::from(*count) - expected).abs() < error, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_admit_only_the_largest() {
        let logits = [5.0, 4.0, 0.0, 1.0];
        for position in 0..500 {
            assert!(choose(&logits, warm(3_000, 2, 0), &SEED, position) < 2);
            assert_eq!(choose(&logits, warm(1_000, 0, 500_000), &SEED, position), 0);
        }
    }

    #[test]
    fn a_token_just_outside_the_tolerance_fails() {
        let logits = [1.0, 1.0 - 0.9e-3, 1.0 - 2e-3];
        assert!(judge(&logits, Sampling::GREEDY, &SEED, 0, 0).passes);
        assert!(judge(&logits, Sampling::GREEDY, &SEED, 0, 1).passes);
        let judged = judge(&logits, Sampling::GREEDY, &SEED, 0, 2);
        assert!(!judged.passes && judged.best == 0, "{judged:?}");
        assert!(!judge(&logits, Sampling::GREEDY, &SEED, 0, 3).passes);
    }

    proptest! {
        /// Whoever samples with logits that differ by less than half the tolerance passes the check.
        #[test]
        fn honest_rounding_always_passes(
            logits in prop::collection::vec(-8f32..8.0, 2..60),
            jitter in prop::collection::vec(-0.45e-3f32..0.45e-3, 60),
            temperature in prop::sample::select(vec![0u32, 200, 700, 1_000, 1_500]),
            top_k in 0u32..8,
            top_p in prop::sample::select(vec![0u32, 300_000, 900_000, 999_000]),
            position in any::<u32>(),
        ) {
            let sampling = warm(temperature, top_k, top_p);
            let moved: Vec<f32> = logits.iter().zip(&jitter).map(|(a, b)| a + b).collect();
            let token = choose(&moved, sampling, &SEED, position);
            let judged = judge(&logits, sampling, &SEED, position, token);
            prop_assert!(judged.passes, "{judged:?}");
        }
    }
}
