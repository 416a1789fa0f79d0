//! How far a claimed token is from the one that a checker chooses, and whether rounding could explain it: in the profile `candle-f32-b1` machines
//! differ by that, in `exact` by nothing.

use super::noise::Noise;
use super::{Counts, Options, TokenSet, choose, counts, score};
use crate::numeric::{exp64, ln};

/// Most a logit of an honest node may differ from a checker's, in the profile `candle-f32-b1`.
pub const TOLERANCE: f32 = 1e-3;

/// A checker's view of one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The token this function would choose.
    pub best: u32,
    /// How far the claimed token's score is below the best admitted one, in logits; infinite if the token is not admitted.
    pub margin: f32,
    /// Whether logits within the tolerance of these could have led to the claimed token.
    pub passes: bool,
}

/// Judges a claimed token against a checker's own logits, within [`TOLERANCE`].
///
/// Greedy: it passes if its logit is at most the tolerance below the largest. Seeded: it passes if it could be
/// admitted when logits move by the tolerance, and its score is at most the tolerance below the best of those that
/// stay admitted under the same movement. The movement of top-p's boundary is bounded by the factor
/// `exp(2 x tolerance / temperature)` on probabilities. This accepts a little more than strictly reachable, never less. Without a
/// finite logit no token passes, and the best is said to be 0.
#[must_use]
pub fn judge(
    logits: &[f32],
    options: &Options,
    seen: &Counts,
    allowed: Option<&TokenSet>,
    seed: &[u8; 32],
    position: u32,
    token: u32,
) -> Judgement {
    judge_within(TOLERANCE, logits, options, seen, allowed, seed, position, token)
}

/// [`judge`] within another tolerance, in logits.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "those of a choice, the token and the tolerance")]
pub fn judge_within(
    tolerance: f32,
    logits: &[f32],
    options: &Options,
    seen: &Counts,
    allowed: Option<&TokenSet>,
    seed: &[u8; 32],
    position: u32,
    token: u32,
) -> Judgement {
    let own = choose(logits, options, seen, allowed, seed, position);
    let best = own.map_or(0, |choice| choice.token);
    let mut scores = Vec::new();
    counts::adjust(logits, options, seen, allowed, &mut scores);
    let logits = scores.as_slice();
    let claimed = usize::try_from(token).ok().and_then(|index| logits.get(index)).copied();
    let refused = Judgement { best, margin: f32::INFINITY, passes: false };
    let Some(logit) = claimed.filter(|logit| logit.is_finite()) else {
        return refused;
    };
    if token == best {
        return Judgement { best, margin: 0.0, passes: true };
    }
    if options.temperature_milli == 0 {
        let largest = largest(ids(logits).map(|(_, logit)| logit)).unwrap_or(f32::NEG_INFINITY);
        let margin = largest - logit;
        return Judgement { best, margin, passes: margin <= tolerance };
    }
    if !Admission::new(logits, options, tolerance).admits(logit) {
        return refused;
    }
    let (noise, temperature) = (Noise::new(seed, position), f64::from(options.temperature_milli) / 1_000.0);
    let certain = Admission::new(logits, options, -tolerance);
    let admitted = ids(logits).filter(|(_, logit)| certain.admits(*logit));
    let rival = largest(admitted.map(|(id, logit)| score(logit, temperature, noise.gumbel(id))));
    let own = score(logit, temperature, noise.gumbel(token));
    // Nothing is certainly admitted only when the boundary itself is within the tolerance: then anything admitted may win.
    let margin = rival.map_or(0.0, |rival| (rival - own).max(0.0));
    Judgement { best, margin, passes: margin <= tolerance }
}

fn ids(logits: &[f32]) -> impl Iterator<Item = (u32, f32)> + '_ {
    (0u32..).zip(logits.iter().copied()).filter(|(_, logit)| logit.is_finite())
}

fn largest(scores: impl Iterator<Item = f32>) -> Option<f32> {
    scores.reduce(f32::max)
}

/// The smallest logit that may be chosen.
struct Admission {
    threshold: f32,
}

impl Admission {
    /// Admits more with a positive `slack`, fewer with a negative one; 0 is the rule itself.
    fn new(logits: &[f32], options: &Options, slack: f32) -> Self {
        let mut threshold = f32::NEG_INFINITY;
        let k = usize::try_from(options.top_k).unwrap_or(usize::MAX);
        let limits_k = k > 0 && k < logits.len();
        let limits_p = (1..1_000_000).contains(&options.top_p_ppm);
        if limits_k || limits_p {
            let mut sorted: Vec<f32> = ids(logits).map(|(_, logit)| logit).collect();
            if limits_k && k < sorted.len() {
                let (_, kth, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
                threshold = *kth - slack;
                sorted.truncate(k);
            }
            if limits_p {
                sorted.sort_unstable_by(|a, b| b.total_cmp(a));
                threshold = threshold.max(nucleus(&sorted, options, slack) - slack);
            }
        }
        if options.min_p_ppm > 0
            && let Some(largest) = largest(ids(logits).map(|(_, logit)| logit))
        {
            let below = ln(f64::from(options.min_p_ppm) / 1e6) * f64::from(options.temperature_milli) / 1_000.0;
            #[expect(clippy::cast_possible_truncation, reason = "a boundary that is known within the tolerance")]
            let least = (f64::from(largest) + below) as f32;
            // The largest moves as well.
            threshold = threshold.max(least - 2.0 * slack);
        }
        Self { threshold }
    }

    fn admits(&self, logit: f32) -> bool {
        logit >= self.threshold
    }
}

/// The last logit of the smallest set of largest probabilities whose sum reaches top-p.
fn nucleus(sorted: &[f32], options: &Options, slack: f32) -> f32 {
    let Some(&largest) = sorted.first() else { return f32::NEG_INFINITY };
    let temperature = f64::from(options.temperature_milli) / 1_000.0;
    let weight = |logit: f32| exp64(f64::from(logit - largest) / temperature);
    let total: f64 = sorted.iter().map(|&logit| weight(logit)).sum();
    let factor = exp64(2.0 * f64::from(slack) / temperature);
    let target = total * f64::from(options.top_p_ppm) / 1e6 * factor;
    let mut sum = 0.0;
    for &logit in sorted {
        sum += weight(logit);
        if sum >= target {
            return logit;
        }
    }
    sorted.last().copied().unwrap_or(f32::NEG_INFINITY)
}
