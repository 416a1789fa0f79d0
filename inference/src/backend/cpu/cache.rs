//! Keys and values in pages of 64 tokens, in the order in which kernels read them.
//!
//! A *region* is one key head of one layer: all pages of it, one after another, so that tasks may write heads apart and a
//! step reads a head's page as 128 `head_dim` bytes and 512 of scales. In a page the keys stand in four runs of sixteen
//! tokens, a lane each: quads of four elements, 64 bytes, stored as `code + 128` (the unsigned operand; the query's sum
//! takes the surplus off again). The values stand in sixteen quads of four tokens: element `d` of tokens `4 q` to `4 q + 3`
//! in bytes `4 d` to `4 d + 3`, signed (a softmax weight is the unsigned operand).
//!
//! SmolLM2-135M: 30 layers of 3 heads of 64: 12.2 kB for a token, 783 kB for a page of all layers. Whatever a page held
//! before does not matter: tokens behind the query's own are never looked at as numbers.

use std::ops::Range;

use crate::numeric::BLOCK_KEYS;

use super::arena::Lines;
use super::share::Parts;

/// Tokens of a run of keys.
const RUN: usize = 16;

/// Sizes of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    /// Layers of the model.
    pub layers: usize,
    /// Key heads of a layer.
    pub heads: usize,
    /// Width of a head; a multiple of 16.
    pub head_dim: usize,
    /// Pages.
    pub pages: usize,
}

/// Keys and values of every sequence.
#[derive(Debug)]
pub struct KvCache {
    shape: CacheShape,
    codes: Lines,
    scales: Vec<f32>,
}

/// One head of one layer, to read.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    head_dim: usize,
    codes: &'a [u8],
    scales: &'a [f32],
}

/// One head of one layer, to write.
#[derive(Debug)]
pub struct RegionMut<'a> {
    head_dim: usize,
    codes: &'a mut [u8],
    scales: &'a mut [f32],
}

/// The heads of a layer, each of which one task takes.
#[derive(Debug)]
pub struct LayerMut<'a> {
    head_dim: usize,
    codes: Parts<'a, u8>,
    scales: Parts<'a, f32>,
}

/// What a query sees: its own position and all before.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The head.
    pub region: Region<'a>,
    /// Pages of the sequence, in order of positions.
    pub pages: &'a [u32],
    /// Number of positions, at least 1.
    pub keys: usize,
}

impl Seen<'_> {
    /// Panics unless there is a key, and a page for each.
    ///
    /// # Panics
    /// If not: a caller's mistake. A page number out of the cache panics where it is read.
    #[inline]
    pub fn check(&self) {
        assert!(self.keys > 0 && self.pages.len() * BLOCK_KEYS >= self.keys, "{} keys in {} pages", self.keys, self.pages.len());
    }
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Panics
    /// If `head_dim` is not a multiple of 16, or sizes overflow.
    #[must_use]
    pub fn new(shape: CacheShape) -> Self {
        assert!(shape.head_dim > 0 && shape.head_dim.is_multiple_of(16), "a head of {}", shape.head_dim);
        let heads = shape.layers.checked_mul(shape.heads).and_then(|heads| heads.checked_mul(shape.pages)).expect("a number of pages");
        let bytes = heads.checked_mul(page_codes(shape.head_dim)).expect("a length in memory");
        Self { shape, codes: Lines::zeroed(bytes), scales: vec![0.0; heads * 2 * BLOCK_KEYS] }
    }

    /// Sizes.
    #[must_use]
    pub fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Bytes that a token takes in all layers.
    #[must_use]
    pub fn token_bytes(&self) -> usize {
        self.shape.layers * self.shape.heads * 2 * (self.shape.head_dim + 4)
    }

    /// One head of one layer.
    #[must_use]
    pub fn region(&self, layer: usize, head: usize) -> Region<'_> {
        let (codes, scales) = self.ranges(layer, head..head + 1);
        Region { head_dim: self.shape.head_dim, codes: &self.codes.bytes()[codes], scales: &self.scales[scales] }
    }

    /// The heads of a layer, to write.
    #[must_use]
    pub fn layer_mut(&mut self, layer: usize) -> LayerMut<'_> {
        let shape = self.shape;
        let (codes, scales) = self.ranges(layer, 0..shape.heads);
        LayerMut {
            head_dim: shape.head_dim,
            codes: Parts::new(&mut self.codes.bytes_mut()[codes], shape.pages * page_codes(shape.head_dim)),
            scales: Parts::new(&mut self.scales[scales], shape.pages * 2 * BLOCK_KEYS),
        }
    }

    /// Copies a page, all layers of it: the fork of a sequence whose last page is not full.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        for region in 0..self.shape.layers * self.shape.heads {
            let (first, each) = (region * self.shape.pages, page_codes(self.shape.head_dim));
            let at = |page: u32, each: usize| (first + index(page)) * each;
            self.codes.bytes_mut().copy_within(at(from, each)..at(from, each) + each, at(to, each));
            let each = 2 * BLOCK_KEYS;
            self.scales.copy_within(at(from, each)..at(from, each) + each, at(to, each));
        }
    }

    fn ranges(&self, layer: usize, heads: Range<usize>) -> (Range<usize>, Range<usize>) {
        assert!(layer < self.shape.layers && heads.end <= self.shape.heads, "head {heads:?} of layer {layer}");
        let pages = |head: usize| (layer * self.shape.heads + head) * self.shape.pages;
        let (from, to) = (pages(heads.start), pages(heads.end));
        let (codes, scales) = (page_codes(self.shape.head_dim), 2 * BLOCK_KEYS);
        (from * codes..to * codes, from * scales..to * scales)
    }
}

impl LayerMut<'_> {
    /// Takes a head.
    ///
    /// # Panics
    /// If it is taken, or there is no such head.
    #[must_use]
    pub fn take(&self, head: usize) -> RegionMut<'_> {
        RegionMut { head_dim: self.head_dim, codes: self.codes.take(head), scales: self.scales.take(head) }
    }
}

impl RegionMut<'_> {
    /// Writes a token: `key` and `value` are codes of `head_dim`, `slot` is the position modulo 64.
    ///
    /// # Panics
    /// If lengths, the page or the slot are not those of the cache.
    pub fn write(&mut self, page: u32, slot: usize, (key, key_scale): (&[i8], f32), (value, value_scale): (&[i8], f32)) {
        let dim = self.head_dim;
        assert!(slot < BLOCK_KEYS && key.len() == dim && value.len() == dim, "a token of the cache");
        let page_scales = &mut self.scales[index(page) * 2 * BLOCK_KEYS..][..2 * BLOCK_KEYS];
        (page_scales[slot], page_scales[BLOCK_KEYS + slot]) = (key_scale, value_scale);
        let (keys, values) = self.codes[index(page) * page_codes(dim)..][..page_codes(dim)].split_at_mut(BLOCK_KEYS * dim);
        let run = &mut keys[slot / RUN * RUN * dim..][..RUN * dim];
        let (quads, _) = key.as_chunks::<4>();
        for (quad, place) in quads.iter().zip(run.chunks_exact_mut(4 * RUN)) {
            place[slot % RUN * 4..][..4].copy_from_slice(&quad.map(|code| code.cast_unsigned() ^ 0x80));
        }
        let row = &mut values[slot / 4 * 4 * dim..][..4 * dim];
        for (code, place) in value.iter().zip(row.chunks_exact_mut(4)) {
            place[slot % 4] = code.cast_unsigned();
        }
    }
}

impl<'a> Region<'a> {
    /// Width of the head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Keys and values of a page as they stand.
    #[must_use]
    pub fn codes(&self, page: u32) -> (&'a [u8], &'a [u8]) {
        let each = page_codes(self.head_dim);
        self.codes[index(page) * each..][..each].split_at(BLOCK_KEYS * self.head_dim)
    }

    /// Scales of a page: of its 64 keys, of its 64 values.
    #[must_use]
    pub fn scales(&self, page: u32) -> (&'a [f32], &'a [f32]) {
        self.scales[index(page) * 2 * BLOCK_KEYS..][..2 * BLOCK_KEYS].split_at(BLOCK_KEYS)
    }

    /// Reads a token back: key codes, value codes, their scales. What a digest of a page is made of.
    pub fn token(&self, page: u32, slot: usize, key: &mut [i8], value: &mut [i8]) -> (f32, f32) {
        let (keys, values) = self.codes(page);
        for (at, (key, value)) in key.iter_mut().zip(value).enumerate() {
            let byte = keys[(slot / RUN * self.head_dim + at / 4 * 4) * RUN + slot % RUN * 4 + at % 4];
            *key = (byte ^ 0x80).cast_signed();
            *value = values[(slot / 4 * self.head_dim + at) * 4 + slot % 4].cast_signed();
        }
        let (key_scales, value_scales) = self.scales(page);
        (key_scales[slot], value_scales[slot])
    }
}

/// Bytes of codes of a page of one head: keys and values.
fn page_codes(head_dim: usize) -> usize {
    2 * BLOCK_KEYS * head_dim
}

fn index(page: u32) -> usize {
    usize::try_from(page).expect("a page number is an index")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_written_and_pages_are_copied_whole() {
        let mut cache = KvCache::new(CacheShape { layers: 2, heads: 2, head_dim: 16, pages: 3 });
        let codes = |seed: usize| -> Vec<i8> { (0..16).map(|at| i8::try_from((seed * 31 + at * 7) % 255).unwrap_or(-128)).collect() };
        for (layer, head, slot) in [(0, 0, 0), (0, 1, 63), (1, 0, 17), (1, 1, 30)] {
            let (key, value) = (codes(slot + 1), codes(slot + 100));
            cache.layer_mut(layer).take(head).write(1, slot, (&key, 0.5), (&value, 2.0));
            cache.copy_page(1, 2);
            for page in [1, 2] {
                let (mut got_key, mut got_value) = (vec![0; 16], vec![0; 16]);
                let scales = cache.region(layer, head).token(page, slot, &mut got_key, &mut got_value);
                assert_eq!((got_key, got_value, scales), (key.clone(), value.clone(), (0.5, 2.0)));
            }
        }
        assert_eq!(cache.token_bytes(), 2 * 2 * 2 * 20);
    }
}
