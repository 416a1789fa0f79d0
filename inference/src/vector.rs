//! Loops over f32 slices that the compiler turns into vector code, each with one fixed order of operations: no fused
//! multiply-add, eight partial sums, one tree at the end. So their results are the same bits on every machine.

use rayon::prelude::*;

/// Values one thread takes at a time: 64 KiB of f32.
pub(crate) const CHUNK: usize = 16_384;

/// Partial sums kept apart; two vectors of the baseline instruction set, one of the next.
const LANES: usize = 8;

/// Sum of products. Surplus elements of the longer slice are ignored.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    fold(lanes) + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Sum.
pub(crate) fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for part in whole {
        for (lane, value) in lanes.iter_mut().zip(part) {
            *lane += value;
        }
    }
    fold(lanes) + rest.iter().sum::<f32>()
}

fn fold(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// Adds `factor` times `values` to `out`.
pub(crate) fn add_scaled(out: &mut [f32], values: &[f32], factor: f32) {
    for (out, value) in out.iter_mut().zip(values) {
        *out += value * factor;
    }
}

/// `out[i]` = row i of `weight` times `x`; every output is exactly [`dot`] of its row.
pub(crate) fn rows_dot(out: &mut [f32], weight: &[f32], x: &[f32]) {
    let width = x.len();
    let (fours, rest) = out.as_chunks_mut::<4>();
    let (blocks, tail) = weight.split_at(fours.len() * 4 * width);
    for (out, block) in fours.iter_mut().zip(blocks.chunks_exact(4 * width)) {
        *out = dot_four(block, x);
    }
    for (out, row) in rest.iter_mut().zip(tail.chunks_exact(width)) {
        *out = dot(row, x);
    }
}

/// Four rows at a time: `x` is loaded once for them, and memory has four streams to prefetch.
fn dot_four(block: &[f32], x: &[f32]) -> [f32; 4] {
    let width = x.len();
    let (upper, lower) = block.split_at(2 * width);
    let (w0, w1) = upper.split_at(width);
    let (w2, w3) = lower.split_at(width);
    let mut lanes = [[0f32; LANES]; 4];
    let (x_whole, x_rest) = x.as_chunks::<LANES>();
    let whole = [w0, w1, w2, w3].map(|row| row.as_chunks::<LANES>().0);
    for ((((x, w0), w1), w2), w3) in x_whole.iter().zip(whole[0]).zip(whole[1]).zip(whole[2]).zip(whole[3]) {
        for i in 0..LANES {
            lanes[0][i] += w0[i] * x[i];
            lanes[1][i] += w1[i] * x[i];
            lanes[2][i] += w2[i] * x[i];
            lanes[3][i] += w3[i] * x[i];
        }
    }
    let done = x_whole.len() * LANES;
    let rest = [w0, w1, w2, w3].map(|row| row[done..].iter().zip(x_rest).map(|(a, b)| a * b).sum::<f32>());
    [0, 1, 2, 3].map(|row| fold(lanes[row]) + rest[row])
}

/// e^x to about 2 units in the last place, in a form that vectorises; saturates beyond -87 and 88.
#[inline]
pub(crate) fn exp(x: f32) -> f32 {
    // 2^n x e^r with |r| <= ln 2 / 2; adding 1.5 x 2^23 rounds to the nearest integer (Cephes expf).
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_6e-1;
    p = p * r + 0.5;
    let e = p * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
    e * power
}

/// 1 / (1 + e^-x).
#[inline]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// silu(gate) x up, split among threads.
pub(crate) fn gated(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut out = vec![0f32; gate.len()];
    out.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(|((out, gate), up)| {
        for ((out, &g), u) in out.iter_mut().zip(gate).zip(up) {
            *out = g * sigmoid(g) * u;
        }
    });
    out
}

/// Softmax in place.
pub(crate) fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for value in values.iter_mut() {
        *value = exp(*value - largest);
    }
    let scale = 1.0 / sum(values);
    for value in values {
        *value *= scale;
    }
}

/// `RMSNorm` of one row into `out`; returns 1 / rms.
pub(crate) fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) -> f32 {
    let mean = dot(x, x) / width_f32(x.len());
    let inverse = 1.0 / (mean + epsilon).sqrt();
    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * inverse * w;
    }
    inverse
}

/// Rotates the two halves of every head of a row (RoPE); `direction` -1 undoes it.
pub(crate) fn rotate(row: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32], direction: f32) {
    let half = head_dim / 2;
    for head in row.chunks_exact_mut(head_dim) {
        let (low, high) = head.split_at_mut(half);
        for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
            let (a, b, sine) = (*low, *high, sine * direction);
            *low = a * cosine - b * sine;
            *high = a * sine + b * cosine;
        }
    }
}

/// A row's width as f32: exact, widths are below 2^20.
pub(crate) fn width_f32(width: usize) -> f32 {
    let (high, low) = (width / 65_536, width % 65_536);
    f32::from(u16::try_from(high).unwrap_or(u16::MAX)) * 65_536.0 + f32::from(u16::try_from(low).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_exponential_is_close() {
        for i in -8_700..8_800 {
            let x = f32::from(i16::try_from(i).unwrap()) / 100.0;
            let got = f64::from(exp(x));
            let exact = f64::from(x).exp();
            assert!((got / exact - 1.0).abs() < 3e-7, "e^{x}: {got} {exact}");
        }
    }

    #[test]
    fn rows_taken_by_four_have_the_bits_of_rows_taken_alone() {
        for (rows, width) in [(1, 5), (4, 8), (7, 19), (13, 64)] {
            let mut state = 1u64;
            let mut values = |count: usize| -> Vec<f32> {
                let next = || {
                    state = crate::sampler::split_mix(state);
                    f32::from(u16::try_from(state & 0xffff).unwrap()) / 65_536.0 - 0.5
                };
                std::iter::repeat_with(next).take(count).collect()
            };
            let (weight, x) = (values(rows * width), values(width));
            let mut out = vec![0.0; rows];
            rows_dot(&mut out, &weight, &x);
            let alone: Vec<f32> = weight.chunks_exact(width).map(|row| dot(row, &x)).collect();
            assert_eq!(out, alone, "{rows} x {width}");
            let exact: f64 = weight[..width].iter().zip(&x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(out[0]) - exact).abs() < 1e-5);
        }
    }
}
