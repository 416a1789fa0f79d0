//! The forward pass of an encoder: embedding, layers with a norm behind each half, one vector per text.
//!
//! Products of all rows are candle's. Attention is computed by plain loops, a task per text and head: texts are short, and candle asks the system for its
//! processors on every product (`model::linear`), a tenth of a millisecond for each text, layer and product of attention. Scores of one text and head
//! are kept a row at a time.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::config::{Config, Pooling};
use super::weights::{Linear, Norm, Weights};
use crate::model::linear;
use crate::vector::{self, CHUNK, add_scaled, dot, rows_dot, softmax, width_f32};

/// Rows of one text: where they begin and how many there are.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
}

/// Vectors of length 1 of texts that are computed together; token ids are of the vocabulary, and texts not longer than its positions.
pub(super) fn vectors(weights: &Weights, config: &Config, texts: &[Vec<u32>]) -> candle_core::Result<Vec<Vec<f32>>> {
    let mut spans = Vec::with_capacity(texts.len());
    let mut start = 0;
    for text in texts {
        spans.push(Span { start, len: text.len() });
        start += text.len();
    }
    let mut rows = embedded(weights, config, texts);
    for layer in &weights.layers {
        let input = tensor(rows, config.hidden)?;
        let [query, key, value] = [&layer.query, &layer.key, &layer.value].map(|linear| product(&input, linear));
        let mixed = attended(&query?, &key?, &value?, &spans, config);
        let mixed = product(&tensor(mixed, config.hidden)?, &layer.output)?;
        let middle = tensor(normed(mixed, &input, &layer.attention_norm, config.epsilon)?, config.hidden)?;
        let mut wide = product(&middle, &layer.up)?;
        wide.par_chunks_mut(CHUNK).for_each(|part| part.iter_mut().for_each(|value| *value = gelu(*value)));
        let narrow = product(&tensor(wide, config.feed_forward)?, &layer.down)?;
        rows = normed(narrow, &middle, &layer.norm, config.epsilon)?;
    }
    Ok(spans.iter().map(|span| pooled(&rows[span.start * config.hidden..][..span.len * config.hidden], config)).collect())
}

/// Sums of the embeddings of each token and of its position, normed.
fn embedded(weights: &Weights, config: &Config, texts: &[Vec<u32>]) -> Vec<f32> {
    let hidden = config.hidden;
    let mut rows = Vec::with_capacity(texts.iter().map(Vec::len).sum::<usize>() * hidden);
    for text in texts {
        for (token, position) in text.iter().zip(weights.positions.chunks_exact(hidden)) {
            let at = usize::try_from(*token).expect("an id of the vocabulary") * hidden;
            rows.extend(weights.words[at..at + hidden].iter().zip(position).map(|(word, position)| word + position));
        }
    }
    rows.par_chunks_mut(hidden).with_min_len(32).for_each(|row| layer_norm(row, &weights.norm, config.epsilon));
    rows
}

fn tensor(values: Vec<f32>, width: usize) -> candle_core::Result<Tensor> {
    let rows = values.len() / width;
    Tensor::from_vec(values, (rows, width), &Device::Cpu)
}

/// `input: [rows, in]` times the weight's transpose, plus the bias: `[rows, out]`.
fn product(input: &Tensor, Linear { weight, bias }: &Linear) -> candle_core::Result<Vec<f32>> {
    let mut out = linear::read(&linear::apply(input, weight)?, <[f32]>::to_vec)?;
    out.par_chunks_mut(bias.len()).with_min_len(32).for_each(|row| row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias));
    Ok(out)
}

/// `LayerNorm` of what a half of a layer gave plus what went into it.
fn normed(mut rows: Vec<f32>, input: &Tensor, norm: &Norm, epsilon: f32) -> candle_core::Result<Vec<f32>> {
    let width = norm.weight.len();
    linear::read(input, |input| {
        rows.par_chunks_mut(width).zip(input.par_chunks(width)).with_min_len(32).for_each(|(row, input)| {
            row.iter_mut().zip(input).for_each(|(value, input)| *value += input);
            layer_norm(row, norm, epsilon);
        });
    })?;
    Ok(rows)
}

/// Two passes: the mean is taken off before squares are summed, which keeps their digits. A row whose squares f32 does not hold becomes no numbers.
fn layer_norm(row: &mut [f32], norm: &Norm, epsilon: f32) {
    let width = width_f32(row.len());
    let mean = vector::sum(row) / width;
    row.iter_mut().for_each(|value| *value -= mean);
    let variance = dot(row, row) / width + epsilon;
    // An infinite one would make the scale 0, and every such row the bias.
    let scale = if variance.is_finite() { 1.0 / variance.sqrt() } else { f32::NAN };
    for ((value, weight), bias) in row.iter_mut().zip(&norm.weight).zip(&norm.bias) {
        *value = *value * scale * weight + bias;
    }
}

/// Attention of every token to all tokens of its own text: `[rows, hidden]`.
fn attended(query: &[f32], key: &[f32], value: &[f32], spans: &[Span], config: &Config) -> Vec<f32> {
    let (hidden, width) = (config.hidden, config.head());
    let tasks: Vec<(Span, usize)> = spans.iter().flat_map(|span| (0..config.heads).map(|head| (*span, head))).collect();
    let heads: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|(span, head)| {
            let part = |rows: &[f32]| -> Vec<f32> {
                let rows = rows[span.start * hidden..][..span.len * hidden].chunks_exact(hidden);
                rows.flat_map(|row| &row[head * width..][..width]).copied().collect()
            };
            one_head(&part(query), &part(key), &part(value), span.len, width)
        })
        .collect();
    let mut out = vec![0f32; query.len()];
    for ((span, head), values) in tasks.iter().zip(&heads) {
        let rows = out[span.start * hidden..][..span.len * hidden].chunks_exact_mut(hidden);
        for (row, value) in rows.zip(values.chunks_exact(width)) {
            row[head * width..][..width].copy_from_slice(value);
        }
    }
    out
}

/// One head of one text: queries, keys and values are `[len, width]`, and so is what comes back.
fn one_head(query: &[f32], key: &[f32], value: &[f32], len: usize, width: usize) -> Vec<f32> {
    let scale = 1.0 / width_f32(width).sqrt();
    // Values by column, so that both products run along rows.
    let columns: Vec<f32> = (0..width).flat_map(|column| value.iter().skip(column).step_by(width)).copied().collect();
    let (mut out, mut scores) = (vec![0f32; query.len()], vec![0f32; len]);
    for (query, out) in query.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        rows_dot(&mut scores, key, query);
        scores.iter_mut().for_each(|score| *score *= scale);
        softmax(&mut scores);
        rows_dot(out, &columns, &scores);
    }
    out
}

/// x times the probability that a normal number is below x (Hendrycks and Gimpel 2016), to about 2e-7 of the larger of x and 1.
///
/// The complement of the error function is rational in 1 / (1 + p z) times e^(-z^2) (Abramowitz and Stegun 1964, 7.1.26: 1.5e-7). It is used for |x|, so
/// that nothing cancels below zero.
#[inline]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152_1;
    p = p * t + 1.421_413_8;
    p = p * t - 0.284_496_72;
    p = p * t + 0.254_829_6;
    let beyond = 0.5 * p * t * vector::exp(-z * z);
    if x < 0.0 { x * beyond } else { x - x * beyond }
}

/// One vector of a text's rows, of length 1; not a number where f32 cannot tell the length.
fn pooled(rows: &[f32], config: &Config) -> Vec<f32> {
    let mut out = rows[..config.hidden].to_vec();
    if config.pooling == Pooling::Mean {
        // Not divided by their number: only the direction stays.
        rows.chunks_exact(config.hidden).skip(1).for_each(|row| add_scaled(&mut out, row, 1.0));
    }
    let scale = 1.0 / dot(&out, &out).sqrt();
    // Squares beyond f32 would make it 0, and every such text the same vector of nothing.
    let scale = if scale.is_normal() { scale } else { f32::NAN };
    out.iter_mut().for_each(|value| *value *= scale);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_is_that_of_tables() {
        // x times the normal distribution function, from its published values.
        for (x, expected) in
            [(0.0, 0.0), (0.5, 0.345_731_23), (1.0, 0.841_344_8), (2.0, 1.954_499_7), (-1.0, -0.158_655_26), (-3.0, -0.004_049_694_6)]
        {
            let got = gelu(x);
            assert!((got - expected).abs() < 5e-7, "{x}: {got} {expected}");
        }
        assert!(gelu(-40.0).abs() < 1e-30, "{}", gelu(-40.0));
        assert_eq!(gelu(40.0).to_bits(), 40f32.to_bits());
        assert!(gelu(f32::NAN).is_nan());
    }

    #[test]
    fn a_row_whose_squares_f32_does_not_hold_is_no_row_of_biases() {
        let norm = Norm { weight: vec![1.0; 2], bias: vec![0.5; 2] };
        for huge in [1e20, 1e30, f32::MAX] {
            let mut row = [huge, -huge];
            layer_norm(&mut row, &norm, 1e-12);
            assert!(row.iter().all(|value| value.is_nan()), "{huge}: {row:?}");
        }
        let mut row = [1e18, -1e18];
        layer_norm(&mut row, &norm, 1e-12);
        assert!((row[0] - 1.5).abs() < 1e-6 && (row[1] + 0.5).abs() < 1e-6, "{row:?}");
    }

    #[test]
    fn attention_to_equal_keys_is_the_mean_of_the_values() {
        let out = one_head(&[1.0, 2.0, 3.0, 4.0], &[1.0, 1.0, 1.0, 1.0], &[0.0, 2.0, 4.0, 6.0], 2, 2);
        for (got, expected) in out.iter().zip([2.0, 4.0, 2.0, 4.0]) {
            assert!((got - expected).abs() < 1e-6, "{out:?}");
        }
    }
}
