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
        self.shape.layers * self.shape.heads * token_bytes(self.shape.head_dim)
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

impl RegionMut<'_> {
    /// Writes the first tokens of a page from the bytes that [`Region::read`] gives; whole tokens, 64 at most. They are written as they are.
    ///
    /// # Panics
    /// As [`RegionMut::write`].
    pub fn fill(&mut self, page: u32, bytes: &[u8]) {
        let dim = self.head_dim;
        let mut codes = vec![0i8; 2 * dim];
        for (slot, token) in bytes.chunks_exact(token_bytes(dim)).enumerate() {
            codes.iter_mut().zip(token).for_each(|(code, byte)| *code = byte.cast_signed());
            let (key, value) = codes.split_at(dim);
            let [key_scale, value_scale] = scales(&token[2 * dim..]);
            self.write(page, slot, (key, key_scale), (value, value_scale));
        }
    }
}

/// The scales of a key and its value, behind their codes.
pub(crate) fn scales(bytes: &[u8]) -> [f32; 2] {
    let of = |at: usize| f32::from_le_bytes(*bytes[at..].first_chunk().expect("two scales of four bytes"));
    [of(0), of(4)]
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

    /// Reads a page back, token by token: the key's codes, the value's codes, the key's scale and the value's, little endian. What a digest of a page is
    /// made of, so it comes as bytes. Tokens that were never written come too, and mean nothing.
    ///
    /// # Panics
    /// If `out` has not [`PAGE_TOKENS`](crate::step::PAGE_TOKENS) times `2 head_dim + 8` bytes.
    pub fn read(&self, page: u32, out: &mut [u8]) {
        let dim = self.head_dim;
        let each = token_bytes(dim);
        assert!(out.len() == BLOCK_KEYS * each, "the bytes of a page of a head");
        let ((keys, values), (key_scales, value_scales)) = (self.codes(page), self.scales(page));
        let runs = keys.chunks_exact(RUN * dim).zip(out.chunks_exact_mut(RUN * each));
        for (run, out) in runs {
            for (at, quad) in run.chunks_exact(4 * RUN).enumerate() {
                for (key, out) in quad.as_chunks::<4>().0.iter().zip(out.chunks_exact_mut(each)) {
                    out[4 * at..][..4].copy_from_slice(&(u32::from_ne_bytes(*key) ^ 0x8080_8080).to_ne_bytes());
                }
            }
        }
        for (quad, out) in values.chunks_exact(4 * dim).zip(out.chunks_exact_mut(4 * each)) {
            let quad = quad.as_chunks::<4>().0;
            for (token, out) in out.chunks_exact_mut(each).enumerate() {
                out[dim..2 * dim].iter_mut().zip(quad).for_each(|(out, codes)| *out = codes[token]);
            }
        }
        for ((out, key), value) in out.chunks_exact_mut(each).zip(key_scales).zip(value_scales) {
            out[2 * dim..][..4].copy_from_slice(&key.to_le_bytes());
            out[2 * dim + 4..].copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Bytes of a token of one head, as [`Region::read`] has them.
#[must_use]
pub fn token_bytes(head_dim: usize) -> usize {
    2 * (head_dim + 4)
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
                let mut got = vec![0; BLOCK_KEYS * token_bytes(16)];
                cache.region(layer, head).read(page, &mut got);
                let token = &got[slot * token_bytes(16)..][..token_bytes(16)];
                let expected: Vec<u8> = key.iter().chain(&value).map(|code| code.cast_unsigned()).collect();
                assert_eq!((&token[..32], scales(&token[32..])), (&expected[..], [0.5, 2.0]));
                // Back into a page, and out again.
                cache.layer_mut(layer).take(head).fill(0, &got[..(slot + 1) * token_bytes(16)]);
                let mut again = vec![0; BLOCK_KEYS * token_bytes(16)];
                cache.region(layer, head).read(0, &mut again);
                assert_eq!(again[..(slot + 1) * token_bytes(16)], got[..(slot + 1) * token_bytes(16)]);
            }
        }
        assert_eq!(cache.token_bytes(), 2 * 2 * 2 * 20);
    }
}
