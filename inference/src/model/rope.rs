//! Rotary positions: how fast each pair of a head turns, with the scalings that published models use.
//!
//! Pair i of a head of width d turns by `base^(-2i/d)` radians per token (Su et al. 2021, section 3.4.2). Llama 3.1 and later slow the
//! slow pairs down so that a longer context fits in the turns seen in training; GGUF files carry that as one divisor per pair. All is in
//! double precision by [`crate::numeric`], so that every machine has the same frequencies.

use crate::numeric::rope_frequency;

/// What is done to the frequencies after training.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Nothing.
    None,
    /// Every frequency is divided by the factor.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Llama 3.1: pairs that turn less than `low` times in the original context are divided by the factor, pairs that turn more than
    /// `high` times are left, those between are mixed.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Turns below which the factor applies in full.
        low: f64,
        /// Turns above which nothing changes; above `low`.
        high: f64,
        /// Context of the training before, in tokens.
        original_context: f64,
    },
    /// A divisor for each pair, from the file (`rope_freqs.weight`).
    Divisors(Vec<f32>),
}

/// Radians per token of each pair of a head: `head_dim / 2` of them.
#[must_use]
pub fn frequencies(base: f64, head_dim: usize, scaling: &Scaling) -> Vec<f64> {
    let half = head_dim / 2;
    let width = |number: usize| u32::try_from(number).expect("a head of the checked configuration");
    let plain = (0..half).map(|pair| rope_frequency(base, width(pair), width(head_dim)));
    match scaling {
        Scaling::None => plain.collect(),
        Scaling::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
        Scaling::Divisors(divisors) => plain.zip(divisors).map(|(frequency, divisor)| frequency / f64::from(*divisor)).collect(),
        Scaling::Llama3 { factor, low, high, original_context } => {
            plain.map(|frequency| llama3(frequency, *factor, *low, *high, *original_context)).collect()
        }
    }
}

fn llama3(frequency: f64, factor: f64, low: f64, high: f64, context: f64) -> f64 {
    let turns = context * frequency / std::f64::consts::TAU;
    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
    frequency * (kept + (1.0 - kept) / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_3_keeps_fast_pairs_and_slows_slow_ones() {
        let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8_192.0 };
        let (plain, scaled) = (frequencies(500_000.0, 128, &Scaling::None), frequencies(500_000.0, 128, &scaling));
        assert_eq!(plain[..29], scaled[..29], "more than four turns in 8,192 tokens");
        assert!(scaled[30] < plain[30] && scaled[30] > plain[30] / 8.0);
        for (plain, scaled) in plain[35..].iter().zip(&scaled[35..]) {
            assert!((plain / scaled - 8.0).abs() < 1e-12, "less than one turn");
        }
    }

    #[test]
    fn divisors_of_a_file_are_applied_pair_by_pair() {
        let close = |got: Vec<f64>, expected: [f64; 2]| got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-15);
        assert!(close(frequencies(16.0, 4, &Scaling::Divisors(vec![1.0, 8.0])), [1.0, 0.25 / 8.0]));
        assert!(close(frequencies(16.0, 4, &Scaling::Linear { factor: 2.0 }), [0.5, 0.125]));
    }
}
