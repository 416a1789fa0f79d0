//! Logarithms of probabilities, as integers that two nodes can compare.

use super::threshold::{Peaks, total};
use crate::numeric::{WEIGHT_ONE, ln};

/// Units of a logarithm told: millionths of a nat. Natural logarithms, rounded to nearest even.
pub const LOGPROB_UNITS_PER_NAT: u32 = 1_000_000;

/// The likeliest tokens of a model's own distribution, and what logarithms need.
pub(super) struct Likeliest {
    tokens: Vec<(u32, f32)>,
    largest: f32,
    /// Logarithm of the sum of probabilities, the largest being 1.
    normal: f64,
}

/// The `count` likeliest; none without a finite logit.
pub(super) fn likeliest(logits: &[f32], peaks: &Peaks, count: u8, room: &mut Vec<f32>) -> Option<Likeliest> {
    peaks.first(logits)?;
    let (count, largest) = (usize::from(count), peaks.largest());
    let floor = peaks.floor(count, room).max(f32::MIN);
    let mut tokens: Vec<(u32, f32)> = Vec::new();
    for (start, _, block) in peaks.blocks(logits).filter(|(_, peak, _)| *peak >= floor) {
        tokens.extend((start..).zip(block.iter().copied()).filter(|(_, logit)| *logit >= floor && logit.is_finite()));
    }
    // Ids ascend, and the sort is stable: of equal logits the lowest id comes first.
    tokens.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("finite logits compare"));
    tokens.truncate(count);
    #[expect(clippy::cast_precision_loss, reason = "rounded once, from at most 2^62")]
    let normal = ln(total(logits, largest, 1.0) as f64 / WEIGHT_ONE as f64);
    Some(Likeliest { tokens, largest, normal })
}

impl Likeliest {
    /// The chosen token and the likeliest, with their logarithms.
    pub(super) fn with(self, logits: &[f32], chosen: u32) -> Box<[(u32, i32)]> {
        let own = usize::try_from(chosen).ok().and_then(|index| logits.get(index)).copied().unwrap_or(f32::NEG_INFINITY);
        [(chosen, own)].iter().chain(&self.tokens).map(|&(token, logit)| (token, self.units(logit))).collect()
    }

    /// `(logit - largest) - ln(sum)`, the first difference an `f32`, in units; at least `i32::MIN`.
    fn units(&self, logit: f32) -> i32 {
        let nats = f64::from(logit - self.largest) - self.normal;
        let units = (nats * f64::from(LOGPROB_UNITS_PER_NAT)).round_ties_even();
        #[expect(clippy::cast_possible_truncation, reason = "clamped by the cast, which is meant")]
        let clamped = units as i32;
        clamped
    }
}
