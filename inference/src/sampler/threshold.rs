//! The smallest logit that may be chosen, without sorting the vocabulary.

use super::Options;
use crate::numeric::{WEIGHT_ONE, ln, weight};

/// Logits of a block: its largest is kept, so that most blocks are passed over by one comparison.
const BLOCK: usize = 64;
/// Elements handled side by side: a vector of AVX-512, four of SSE2.
const LANES: usize = 16;

/// The largest finite logit of each block of a vocabulary.
#[derive(Debug, Clone, Default)]
pub(super) struct Peaks {
    /// Minus infinity for a block without a finite logit.
    peaks: Vec<f32>,
    largest: Option<f32>,
    is_finite: bool,
}

impl Peaks {
    /// Takes the place of what was there.
    pub(super) fn read(&mut self, logits: &[f32]) {
        self.peaks.clear();
        self.is_finite = true;
        for block in logits.chunks(BLOCK) {
            let (peak, is_finite) = peak(block);
            self.peaks.push(peak);
            self.is_finite &= is_finite;
        }
        self.largest = self.peaks.iter().copied().reduce(larger).filter(|largest| largest.is_finite());
    }

    /// Whether every logit is finite.
    pub(super) fn is_finite(&self) -> bool {
        self.is_finite
    }

    /// The largest finite logit; minus infinity without one.
    pub(super) fn largest(&self) -> f32 {
        self.largest.unwrap_or(f32::NEG_INFINITY)
    }

    /// The lowest id with the largest finite logit.
    pub(super) fn first(&self, logits: &[f32]) -> Option<u32> {
        let largest = self.largest?;
        let (start, _, block) = self.blocks(logits).find(|(_, peak, _)| *peak >= largest)?;
        (start..).zip(block).find(|(_, logit)| **logit == largest).map(|(id, _)| id)
    }

    /// Each block with its first id and its largest logit.
    pub(super) fn blocks<'a>(&'a self, logits: &'a [f32]) -> impl Iterator<Item = (u32, f32, &'a [f32])> + 'a {
        (0u32..).step_by(BLOCK).zip(&self.peaks).zip(logits.chunks(BLOCK)).map(|((start, peak), block)| (start, *peak, block))
    }

    /// A logit that at least `count` others reach, high enough that few more do; minus infinity if blocks are too few to say.
    pub(super) fn floor(&self, count: usize, room: &mut Vec<f32>) -> f32 {
        if count == 0 || count > self.peaks.len() {
            return f32::NEG_INFINITY;
        }
        room.clear();
        room.extend_from_slice(&self.peaks);
        *room.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    }
}

fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The largest finite logit, and whether all are finite.
fn peak(block: &[f32]) -> (f32, bool) {
    let (rows, rest) = block.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    // Finite: it stays 0. Else it becomes a NaN.
    let mut zeros = [0f32; LANES];
    for row in rows {
        for lane in 0..LANES {
            lanes[lane] = if row[lane] > lanes[lane] && row[lane] < f32::INFINITY { row[lane] } else { lanes[lane] };
            zeros[lane] += row[lane] * 0.0;
        }
    }
    let finite = rest.iter().copied().filter(|logit| logit.is_finite());
    let peak = lanes.into_iter().chain(finite).fold(f32::NEG_INFINITY, larger);
    (peak, rest.iter().all(|logit| logit.is_finite()) && zeros.iter().all(|zero| *zero == 0.0))
}

/// The smallest logit that top-k, top-p and min-p admit together; none without a finite logit. `scores` has no infinity but minus.
pub(super) fn threshold(scores: &[f32], peaks: &Peaks, options: &Options, near: &mut Vec<f32>) -> Option<f32> {
    let largest = peaks.largest?;
    let scale = 1_000.0 / f64::from(options.temperature_milli);
    let k = usize::try_from(options.top_k).unwrap_or(usize::MAX);
    let limits_k = k > 0 && k < scores.len() && {
        let floor = peaks.floor(k, near);
        collect(scores, peaks, floor, near);
        // A floor says that at least k reach it, and hides how many do not.
        floor > f32::NEG_INFINITY || k < near.len()
    };
    let mut least = f32::MIN;
    if limits_k {
        least = *near.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
        near.truncate(k);
    }
    if (1..1_000_000).contains(&options.top_p_ppm) {
        let total = if limits_k { total(near, largest, scale) } else { total(scores, largest, scale) };
        let target = u64::try_from((u128::from(total) * u128::from(options.top_p_ppm)).div_ceil(1_000_000)).expect("less than the total");
        if !limits_k {
            collect(scores, peaks, floor_of_mass(total - target, scores.len(), largest, scale), near);
        }
        least = larger(least, nucleus(near, target, largest, scale));
    }
    if options.min_p_ppm > 0 {
        least = larger(least, min_p(options.min_p_ppm, largest, scale));
    }
    Some(least)
}

/// Gathers finite logits of at least `floor`.
fn collect(scores: &[f32], peaks: &Peaks, floor: f32, into: &mut Vec<f32>) {
    into.clear();
    let floor = floor.max(f32::MIN);
    for (_, _, block) in peaks.blocks(scores).filter(|(_, peak, _)| *peak >= floor) {
        into.extend(block.iter().copied().filter(|score| *score >= floor));
    }
}

/// Weight of a logit at temperature `1 / scale`, the largest's being [`WEIGHT_ONE`]. The difference is an `f32`.
#[inline(always)]
fn weigh(score: f32, largest: f32, scale: f64) -> u64 {
    weight(f64::from(score - largest) * scale)
}

/// Weights of all logits together: at most 2^22 of 2^40, so the sum is below 2^63. Two at a time, about 3 ns each.
pub(super) fn total(scores: &[f32], largest: f32, scale: f64) -> u64 {
    scores.iter().fold(0u64, |sum, score| sum.wrapping_add(weigh(*score, largest, scale)))
}

/// A logit below which all of `count` together weigh no more than `spare`, with room for rounding.
///
/// What weighs at most `spare / count` adds up to at most `spare`. So top-p's boundary lies above, and only the few logits from here up
/// need be looked at.
fn floor_of_mass(spare: u64, count: usize, largest: f32, scale: f64) -> f32 {
    let each = spare / u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    #[expect(clippy::cast_precision_loss, reason = "a bound")]
    let below = ln((each as f64 + 0.5) / WEIGHT_ONE as f64) - 1e-6;
    let largest = f64::from(largest);
    let floor = largest + below / scale;
    #[expect(clippy::cast_possible_truncation, reason = "a bound, lowered by more than rounding")]
    let floor = (floor - (largest.abs() + floor.abs()) * 1e-6) as f32;
    floor
}

/// The largest of `near` for which those at least as large weigh `target` together; the smallest if they never do.
///
/// Halves what is left at each step, as quickselect does, so the time is proportional to its length. Reorders `near`.
fn nucleus(near: &mut [f32], target: u64, largest: f32, scale: f64) -> f32 {
    let (mut left, mut missing) = (near, target);
    while left.len() > 1 {
        let middle = left.len() / 2;
        left.select_nth_unstable_by(middle, |a, b| b.total_cmp(a));
        let above = total(&left[..middle], largest, scale);
        // The boundary is among the first `middle` if they alone reach the target, else behind them.
        if above >= missing {
            left = &mut left[..middle];
        } else {
            missing -= above;
            left = &mut left[middle..];
        }
    }
    left.first().copied().unwrap_or(f32::MIN)
}

/// The smallest `f32` that is at least `largest + temperature x ln(min-p)`.
fn min_p(ppm: u32, largest: f32, scale: f64) -> f32 {
    let exact = f64::from(largest) + ln(f64::from(ppm.min(1_000_000)) / 1e6) / scale;
    #[expect(clippy::cast_possible_truncation, reason = "rounding is put right")]
    let near = exact as f32;
    if f64::from(near) < exact { near.next_up() } else { near }
}
