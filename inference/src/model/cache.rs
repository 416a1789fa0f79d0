//! Keys and values of one sequence, grown as it grows.

use candle_core::{Device, Tensor};

use super::Config;

/// Tokens by which room grows: at most this many are held in vain, and a context of 8,192 is copied 32 times.
const GROWTH: usize = 256;

/// Keys and values of every layer in f32; keys are already rotated.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
    len: usize,
    capacity: usize,
    kv_heads: usize,
    head_dim: usize,
    context: usize,
}

/// One layer: `[kv_heads, capacity, head_dim]`, twice.
#[derive(Debug, Default)]
struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            layers: (0..config.layers).map(|_| LayerCache::default()).collect(),
            len: 0,
            capacity: 0,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            context: config.context,
        }
    }

    /// Tokens held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `added` more tokens in every layer.
    pub(super) fn reserve(&mut self, added: usize) {
        let total = self.len + added;
        if total <= self.capacity {
            return;
        }
        let capacity = total.next_multiple_of(GROWTH).min(self.context.max(total));
        let held = self.len * self.head_dim;
        let (old, new) = (self.capacity * self.head_dim, capacity * self.head_dim);
        for layer in &mut self.layers {
            for part in [&mut layer.keys, &mut layer.values] {
                let mut grown = vec![0f32; self.kv_heads * new];
                for head in 0..self.kv_heads {
                    let kept = part.get(head * old..head * old + held).unwrap_or_default();
                    grown[head * new..][..kept.len()].copy_from_slice(kept);
                }
                *part = grown;
            }
        }
        self.capacity = capacity;
    }

    /// Writes keys and values of new tokens behind the held ones; each `[kv_heads, tokens, head_dim]`, room was reserved.
    pub(super) fn write(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let stride = self.capacity * self.head_dim;
        let start = self.len * self.head_dim;
        let LayerCache { keys: all_keys, values: all_values } = &mut self.layers[layer];
        for (to, from) in [(all_keys, keys), (all_values, values)] {
            let len = from.len() / self.kv_heads;
            for (head, part) in from.chunks_exact(len).enumerate() {
                to[head * stride + start..][..len].copy_from_slice(part);
            }
        }
    }

    /// Keys and values of one head for the first `total` tokens, each `[total, head_dim]`.
    pub(super) fn head(&self, layer: usize, head: usize, total: usize) -> (&[f32], &[f32]) {
        let start = head * self.capacity * self.head_dim;
        let range = start..start + total * self.head_dim;
        (&self.layers[layer].keys[range.clone()], &self.layers[layer].values[range])
    }

    /// Keys and values of a layer for the first `total` tokens as tensors, `[kv_heads, total, head_dim]`, copied.
    pub(super) fn tensors(&self, layer: usize, total: usize) -> candle_core::Result<(Tensor, Tensor)> {
        let mut keys = Vec::with_capacity(self.kv_heads * total * self.head_dim);
        let mut values = Vec::with_capacity(keys.capacity());
        for head in 0..self.kv_heads {
            let (head_keys, head_values) = self.head(layer, head, total);
            keys.extend_from_slice(head_keys);
            values.extend_from_slice(head_values);
        }
        let shape = (self.kv_heads, total, self.head_dim);
        Ok((Tensor::from_vec(keys, shape, &Device::Cpu)?, Tensor::from_vec(values, shape, &Device::Cpu)?))
    }

    /// Counts tokens that every layer has written.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}
