//! Keys and values of one sequence, grown as it grows.

use candle_core::{DType, Device, Tensor};

use super::Config;

/// Tokens for which room is made at first; afterwards room doubles.
const FIRST_CAPACITY: usize = 256;

/// Keys and values of every layer, each `[kv_heads, capacity, head_dim]` in f32.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<Option<(Tensor, Tensor)>>,
    len: usize,
    context: usize,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { layers: vec![None; config.layers], len: 0, context: config.context }
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

    /// Writes new keys and values of a layer behind the held ones; returns all, as views.
    pub(super) fn append(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        let added = k.dim(1)?;
        let total = self.len + added;
        let held = self.layers[layer].take();
        let (keys, values) = match held {
            Some(pair) if pair.0.dim(1)? >= total => pair,
            held => self.grow(held, k, total)?,
        };
        keys.slice_set(&k.contiguous()?, 1, self.len)?;
        values.slice_set(&v.contiguous()?, 1, self.len)?;
        let views = (keys.narrow(1, 0, total)?, values.narrow(1, 0, total)?);
        self.layers[layer] = Some((keys, values));
        Ok(views)
    }

    fn grow(&self, held: Option<(Tensor, Tensor)>, like: &Tensor, total: usize) -> candle_core::Result<(Tensor, Tensor)> {
        let (heads, _, head_dim) = like.dims3()?;
        let capacity = total.next_multiple_of(FIRST_CAPACITY).max(self.len * 2).min(self.context.max(total));
        let room = || Tensor::zeros((heads, capacity, head_dim), DType::F32, &Device::Cpu);
        let (keys, values) = (room()?, room()?);
        if let Some((old_keys, old_values)) = held {
            keys.slice_set(&old_keys, 1, 0)?;
            values.slice_set(&old_values, 1, 0)?;
        }
        Ok((keys, values))
    }

    /// Counts tokens that every layer has appended.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}
