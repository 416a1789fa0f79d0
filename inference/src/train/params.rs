//! The trained matrices as one flat vector, and AdamW over it.

use std::ops::Range;

use rayon::prelude::*;

use crate::model::{Config, Site, f64_from};
use crate::sampler::split_mix;
use crate::vector::CHUNK;

use super::TrainConfig;
use super::dense::turned;

/// Where each matrix lies in the flat vector.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) entries: Vec<Entry>,
    index: Vec<[Option<usize>; 7]>,
    pub(super) len: usize,
}

/// The two matrices of one linear layer: A `[rank, in]`, B `[out, rank]`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) layer: usize,
    pub(super) site: Site,
    pub(super) a: Range<usize>,
    pub(super) b: Range<usize>,
    pub(super) a_shape: (usize, usize),
    pub(super) b_shape: (usize, usize),
}

impl Layout {
    /// Matrices for the chosen sites of layers `first..`.
    pub(super) fn new(config: &TrainConfig, model: &Config, first: usize) -> Self {
        let mut entries = Vec::new();
        let mut index = vec![[None; 7]; model.layers];
        let mut len = 0;
        for (layer, slots) in index.iter_mut().enumerate().skip(first) {
            for &site in &config.targets {
                let (out, input) = site.shape(model);
                let a = len..len + config.rank * input;
                let b = a.end..a.end + out * config.rank;
                len = b.end;
                slots[site as usize] = Some(entries.len());
                let (a_shape, b_shape) = ((config.rank, input), (out, config.rank));
                entries.push(Entry { layer, site, a, b, a_shape, b_shape });
            }
        }
        Self { entries, index, len }
    }

    pub(super) fn entry(&self, layer: usize, site: Site) -> Option<(usize, &Entry)> {
        let index = self.index[layer][site as usize]?;
        Some((index, &self.entries[index]))
    }

    /// A uniform in +-1 / sqrt(in) as PEFT starts it, B zero.
    pub(super) fn initial(&self, seed: u64) -> Vec<f32> {
        let mut theta = vec![0f32; self.len];
        let mut state = split_mix(seed ^ 0x4c6f_5241);
        for entry in &self.entries {
            let bound = 1.0 / f64_from(entry.a_shape.1).sqrt();
            for slot in &mut theta[entry.a.clone()] {
                state = split_mix(state);
                #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "53 bits, rounded to f32")]
                let value = ((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0) as f32 * bound as f32;
                *slot = value;
            }
        }
        theta
    }

    /// The matrices in both orientations, in the order of the entries.
    pub(super) fn matrices(&self, theta: &[f32]) -> Vec<Trained> {
        let both = |entry: &Entry| {
            let (a, b) = (theta[entry.a.clone()].to_vec(), theta[entry.b.clone()].to_vec());
            Trained { a_turned: turned(&a, entry.a_shape.1), b_turned: turned(&b, entry.b_shape.1), a, b }
        };
        self.entries.iter().map(both).collect()
    }
}

/// The two matrices of one linear layer for a step.
pub(super) struct Trained {
    /// `[rank, in]`.
    pub(super) a: Vec<f32>,
    /// `[in, rank]`.
    pub(super) a_turned: Vec<f32>,
    /// `[out, rank]`.
    pub(super) b: Vec<f32>,
    /// `[rank, out]`.
    pub(super) b_turned: Vec<f32>,
}

/// `AdamW` (Loshchilov and Hutter 2019) with moments 0.9 and 0.999.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AdamW {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
    pub(super) step: u32,
}

const BETA_FIRST: f32 = 0.9;
const BETA_SECOND: f32 = 0.999;
const EPSILON: f32 = 1e-8;

impl AdamW {
    pub(super) fn new(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len], step: 0 }
    }

    /// One step; the gradient is scaled down to a norm of at most `clip`.
    pub(super) fn step(&mut self, theta: &mut [f32], gradient: &[f32], rate: f32, decay: f32, clip: f32) {
        self.step = self.step.saturating_add(1);
        let count = i32::try_from(self.step).unwrap_or(i32::MAX);
        let first_scale = 1.0 / (1.0 - BETA_FIRST.powi(count));
        let second_scale = 1.0 / (1.0 - BETA_SECOND.powi(count));
        let norm = norm(gradient);
        let scale = if norm > clip { clip / norm } else { 1.0 };
        theta
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(self.first.par_chunks_mut(CHUNK).zip(self.second.par_chunks_mut(CHUNK)))
            .for_each(|((theta, gradient), (first, second))| {
                for i in 0..theta.len() {
                    let g = gradient[i] * scale;
                    first[i] = BETA_FIRST * first[i] + (1.0 - BETA_FIRST) * g;
                    second[i] = BETA_SECOND * second[i] + (1.0 - BETA_SECOND) * g * g;
                    let step = first[i] * first_scale / ((second[i] * second_scale).sqrt() + EPSILON);
                    theta[i] -= rate * (step + decay * theta[i]);
                }
            });
    }
}

fn norm(gradient: &[f32]) -> f32 {
    let parts: Vec<f64> = gradient.par_chunks(CHUNK).map(|chunk| chunk.iter().map(|g| f64::from(*g) * f64::from(*g)).sum()).collect();
    #[expect(clippy::cast_possible_truncation, reason = "rounded to f32")]
    let norm = parts.iter().sum::<f64>().sqrt() as f32;
    norm
}
