//! Parity by the additive Fourier transform, for codes whose data fragments are a power of two: the bytes that the matrix gives, with fewer
//! products (Lin, Chung and Han, "Novel polynomial basis and its application to Reed-Solomon erasure codes", FOCS 2014).
//!
//! Byte `i` of a column is the value at point `i` of one polynomial of a degree below `data`. Points 0 to `data` - 1 are a subspace of the
//! field, and the others its cosets: one transform back over the former gives coefficients, one forth over each of the latter gives its
//! values. At 16 of 48 that is 17 and 2 x 32 products for 16 bytes in place of 512; a column of 16 vectors stays in registers throughout, so
//! that again it is memory that limits.

use super::{Factors, Halves, Path, assert_shapes};
use crate::erasure::field::{inverse, mul};

/// Bytes of each fragment that are worked on before the next: those of 48 fit in a first-level cache together.
pub(super) const TILE: usize = 512;

/// Bytes of all outputs from which on they are written past the caches: they would not stay there until they are read, and a line that is
/// written whole need not be fetched first.
pub(super) const PAST_CACHES: usize = 16 << 20;

/// A tile of one fragment. One vector longer than a power of two, so that those of all fragments do not drive each other out of the cache.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Row(pub(super) [u8; TILE + 64]);

/// Parity of one code, made ready for a path.
#[derive(Debug)]
pub(in crate::erasure) struct Transform {
    path: Path,
    data: usize,
    /// As many for each coset as it has points, the object's own first: layer by layer, the last one unused.
    factors: Factors,
}

impl Transform {
    /// For a code of so many fragments, if it has the form. A path that this machine lacks is replaced by the scalar one.
    pub(in crate::erasure) fn new(path: Path, data: u8, total: u8) -> Option<Self> {
        if !matches!(data, 4 | 16) || !total.is_multiple_of(data) {
            return None;
        }
        let path = if path.is_available() { path } else { Path::Scalar };
        let cells: Vec<u8> = (0..total).step_by(data.into()).flat_map(|coset| factors(coset, data)).collect();
        Some(Self { path, data: data.into(), factors: Factors::of(path, &cells) })
    }

    /// Fills `outputs`, the fragments after the first, from `inputs`, those; all are of one length.
    ///
    /// # Panics
    /// If counts or lengths are not those of the code: a caller's mistake.
    pub(in crate::erasure) fn apply(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        let length = assert_shapes((inputs, self.data), (outputs, self.factors.count() - self.data));
        let writer = Writer::new(outputs.len() * length);
        let mut rows = vec![Row([0; TILE + 64]); self.factors.count()];
        // The first tile ends with a cache line of the first output; other large buffers lie as that one does.
        let mut to = 0;
        while to < length {
            let from = to;
            to = (from + TILE - (outputs[0].as_ptr().addr() + from) % 64).min(length);
            // What lies behind a short tile is worked on and not written.
            rows.iter_mut().zip(inputs).for_each(|(row, input)| row.0[..to - from].copy_from_slice(&input[from..to]));
            self.tile(&mut rows);
            outputs.iter_mut().zip(&rows[self.data..]).for_each(|(output, row)| writer.write(&mut output[from..to], &row.0[..to - from]));
        }
    }

    fn tile(&self, rows: &mut [Row]) {
        match (&self.factors, self.path) {
            #[cfg(target_arch = "x86_64")]
            (Factors::Affine(factors), _) => super::x86::transform_gfni(self.data, factors, rows),
            #[cfg(target_arch = "x86_64")]
            (Factors::Halves(factors), Path::Avx2) => super::x86::transform_avx2(self.data, factors, rows),
            (Factors::Halves(factors), _) => scalar(self.data, factors, rows),
            #[cfg(not(target_arch = "x86_64"))]
            (Factors::Affine(_), _) => unreachable!("made only where the machine has the instruction"),
        }
    }
}

/// Writes outputs piece by piece; all are in memory when it is dropped.
pub(super) struct Writer {
    past_caches: bool,
}

impl Writer {
    /// For so many bytes in all.
    pub(super) const fn new(bytes: usize) -> Self {
        Self { past_caches: cfg!(target_arch = "x86_64") && bytes >= PAST_CACHES }
    }

    pub(super) fn write(&self, to: &mut [u8], from: &[u8]) {
        match self.past_caches {
            #[cfg(target_arch = "x86_64")]
            true => super::x86::write_past_caches(to, from),
            _ => to.copy_from_slice(from),
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for Writer {
    /// Writes past the caches are ordered with no others: whoever is told of them next, in another thread, must find them.
    fn drop(&mut self) {
        if self.past_caches {
            super::x86::finish_writes();
        }
    }
}

/// Factors of one coset, layer by layer: s(point) / s(2^layer), where s is the polynomial that is zero on every point below 2^layer.
fn factors(coset: u8, data: u8) -> Vec<u8> {
    let vanishing = |layer: u32, point: u8| (0..1_u8 << layer).fold(1, |product, zero| mul(product, point ^ zero));
    let blocks = (0..data.ilog2()).flat_map(|layer| (0..data).step_by(2 << layer).map(move |block| (layer, block)));
    let mut all: Vec<u8> =
        blocks.map(|(layer, block)| mul(vanishing(layer, coset ^ block), inverse(vanishing(layer, 1 << layer)))).collect();
    all.resize(data.into(), 0);
    all
}

/// Every pair of points that one layer joins, with the place of its factor; layers from the lowest.
fn pairs(data: usize) -> impl DoubleEndedIterator<Item = (usize, usize, usize)> {
    let first = move |layer: u32| data - (data >> layer);
    let block = move |layer: u32, at: usize| {
        (at << (layer + 1)..(at << (layer + 1)) + (1 << layer)).map(move |low| (low, low + (1 << layer), first(layer) + at))
    };
    (0..data.ilog2()).flat_map(move |layer| (0..data >> (layer + 1)).flat_map(move |at| block(layer, at)))
}

fn scalar(data: usize, factors: &[Halves], rows: &mut [Row]) {
    let add = |to: &mut Row, from: &Row| to.0.iter_mut().zip(from.0).for_each(|(to, from)| *to ^= from);
    let add_product = |to: &mut Row, from: &Row, [low, high]: &Halves| {
        let product = |byte: u8| low[usize::from(byte & 15)] ^ high[usize::from(byte >> 4)];
        to.0.iter_mut().zip(from.0).for_each(|(to, from)| *to ^= product(from));
    };
    let (object, parity) = rows.split_at_mut(data);
    let (back, forth) = factors.split_at(data);
    for (low, high, factor) in pairs(data) {
        let [low, high] = object.get_disjoint_mut([low, high]).expect("two points of the object's own coset");
        add(high, low);
        add_product(low, high, &back[factor]);
    }
    for (coset, factors) in parity.chunks_exact_mut(data).zip(forth.chunks_exact(data)) {
        coset.clone_from_slice(object);
        for (low, high, factor) in pairs(data).rev() {
            let [low, high] = coset.get_disjoint_mut([low, high]).expect("two points of one coset");
            add_product(low, high, &factors[factor]);
            add(high, low);
        }
    }
}
