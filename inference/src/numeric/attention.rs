//! Attention over keys and values that are `i8`, one scale for each head and token.

use super::{LANES, MAGNITUDE_MIN, exp, fold, magnitude, small, weight_code, weight_steps};

/// Keys whose weights share a scale: a block is of absolute positions, so it does not depend on batches or chunks. Also the
/// tokens of a page of the cache.
pub const BLOCK_KEYS: usize = 64;

/// The queries of one token that share a key head, quantised after their rotation: a group of `head_dim` for each.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// `[heads, head_dim]`.
    pub codes: &'a [i8],
    /// Of each head.
    pub scales: &'a [f32],
    /// Sum of each head's codes.
    pub sums: &'a [i32],
    /// What scores are multiplied by: `1 / sqrt(head_dim)`, rounded to `f32`.
    pub factor: f32,
}

impl Queries<'_> {
    /// Number of heads.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.scales.len()
    }

    /// Width of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.codes.len() / self.scales.len().max(1)
    }
}

/// The keys and values of one head, of the positions from 0 to the query's own.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// `[keys, head_dim]`, after rotation.
    pub keys: &'a [i8],
    /// Of each key.
    pub key_scales: &'a [f32],
    /// `[keys, head_dim]`.
    pub values: &'a [i8],
    /// Of each value.
    pub value_scales: &'a [f32],
}

/// `out: [heads, head_dim]`, for each query head over all keys.
///
/// 1. With `step = scale of the query * factor` rounded once, `score = (dot as f32) * (step * scale of the key)`.
/// 2. `largest` of all scores; `p = exp(score - largest)`; `sum` of all `p`, rule 3, partial sum `position mod 16`.
/// 3. Over blocks of [`BLOCK_KEYS`] positions ascending, over the keys that are there and no others: `t = p * scale of the value`, of which
///    none is negative, so their codes go from 0 to 255. With the block's largest `t` below [`MAGNITUDE_MIN`] nothing is added; else the
///    block's scale is `largest / 255`, and a code `t * (255 / largest)` rounded to the nearest integer, halves to even; `dot` of these
///    codes with a column of the values' codes; `acc = (dot as f32).mul_add(scale of the block, acc)`.
/// 4. `out = acc * (1 / sum)`.
///
/// # Panics
/// If there is no key, or lengths do not agree: a caller's mistake.
#[inline(always)]
pub fn attend(queries: &Queries<'_>, keys: &Keys<'_>, scores: &mut [f32], out: &mut [f32]) {
    let (count, dim) = (keys.key_scales.len(), queries.head_dim());
    assert!(count > 0 && keys.value_scales.len() == count && scores.len() == count, "a scale and a score for each key");
    assert!(keys.keys.len() == count * dim && keys.values.len() == count * dim && out.len() == queries.codes.len(), "whole heads");
    for (head, (query, out)) in queries.codes.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
        let step = queries.scales[head] * queries.factor;
        for ((score, key), scale) in scores.iter_mut().zip(keys.keys.chunks_exact(dim)).zip(keys.key_scales) {
            let dot: i32 = query.iter().zip(key).map(|(q, k)| i32::from(*q) * i32::from(*k)).sum();
            *score = small(dot) * (step * scale);
        }
        let largest = scores.iter().fold(f32::NEG_INFINITY, |most, score| most.max(*score));
        let mut lanes = [0f32; LANES];
        for (at, score) in scores.iter_mut().enumerate() {
            *score = exp(*score - largest);
            lanes[at % LANES] += *score;
        }
        out.fill(0.0);
        for (block, weights) in scores.chunks_mut(BLOCK_KEYS).enumerate() {
            let from = block * BLOCK_KEYS;
            mix(weights, &keys.value_scales[from..][..weights.len()], &keys.values[from * dim..][..weights.len() * dim], out);
        }
        let inverse = 1.0 / fold(lanes);
        out.iter_mut().for_each(|out| *out *= inverse);
    }
}

/// Adds one block; `weights` come back as its codes' values before rounding.
#[inline(always)]
fn mix(weights: &mut [f32], scales: &[f32], values: &[i8], out: &mut [f32]) {
    weights.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
    let amax = f32::from_bits(magnitude(weights));
    if amax < MAGNITUDE_MIN {
        return; // every code is 0, and adding 0 x 0 changes nothing
    }
    let (scale, inverse) = weight_steps(amax);
    let dim = out.len();
    for (at, out) in out.iter_mut().enumerate() {
        let dot: i32 =
            weights.iter().zip(values[at..].iter().step_by(dim)).map(|(w, v)| i32::from(weight_code(w * inverse)) * i32::from(*v)).sum();
        *out = small(dot).mul_add(scale, *out);
    }
}
