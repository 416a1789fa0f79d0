//! One table of functions for each instruction set. All give the bits of [`crate::numeric`]; the quickest that the machine
//! has is chosen once, at run time, and tests and benchmarks may ask for any other.
//!
//! | path | products | needs |
//! |---|---|---|
//! | [`Path::Scalar`] | plain loops | nothing; with fused multiply-adds of the machine where it has them |
//! | [`Path::Avx2`] | `vpmaddubsw` on magnitudes, so that no sum of two leaves 16 bits | AVX2, FMA, F16C |
//! | [`Path::Avx512`] | `vpdpbusd`, 64 products an instruction | AVX-512 F, BW, VL, DQ, VNNI |
//! | [`Path::Amx`] | `tdpbsud`, 8,192 products an instruction, for many rows; else as `Avx512` | AMX-INT8 and the above |
//! | [`Path::Neon`], [`Path::NeonDot`] | `smull`, `sdot` | 64-bit Arm |
//!
//! Where the time goes, for `Q4_1`: one row reads 320 bytes for 512 products, so memory is what limits; from about eight
//! rows on it is the products. A group of 32 takes 8 `vpdpbusd` for sixteen outputs, one `vpdpwssd` for the row's zero, and then a conversion,
//! the product of the scales and two fused multiply-adds: four of these on the same two ports, so at most 8 of 12 of the peak. (Sums of the
//! weights' codes, which zeros are multiplied by, are made once for all rows of a tile: as bytes they would be 10 % more to read.) Of 32 rows and more
//! the path of AVX-512 unpacks codes once for all of them, and has 24 sums beside each other where a tile has one: half of the peak in place of two fifths.
//!
//! The profile `fast` has weights with one scale for each output ([`super::recoded`]): a group of 96 takes 24 `vpdpbusd`, one `vpdpwssd`, a conversion and a
//! fused multiply-add, so at most 24 of 27 of the peak.

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod limits;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::numeric::{BLOCK_KEYS, CodeRows, CodesMut, Queries, Zero};

use super::cache::Seen;
use super::pack::{PANEL, Packed, PackedRows};
use super::recoded::{Recoded, Weights};
use super::share::OutTile;

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Plain code, on any machine.
    Scalar,
    /// 256-bit vectors of x86-64.
    Avx2,
    /// 512-bit vectors of x86-64 with byte dot products.
    Avx512,
    /// Tiles of x86-64.
    Amx,
    /// 128-bit vectors of Arm.
    Neon,
    /// The same with byte dot products.
    NeonDot,
}

impl Path {
    /// Every path, on each architecture the slowest first.
    pub const ALL: [Self; 6] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Amx, Self::Neon, Self::NeonDot];

    /// Whether this machine has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => avx512::is_available() && amx::is_available(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
            _ => false,
        }
    }

    /// Its table.
    ///
    /// # Panics
    /// If this machine does not have it.
    #[must_use]
    pub fn kernels(self) -> &'static Kernels {
        assert!(self.is_available(), "{self:?} is chosen only where the machine has it");
        match self {
            Self::Scalar => &scalar::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Self::Amx => &amx::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => &neon::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => &neon::DOT_KERNELS,
            _ => &scalar::KERNELS,
        }
    }
}

/// The paths that this machine has, the slowest first.
#[must_use]
pub fn available() -> Vec<Path> {
    Path::ALL.into_iter().filter(|path| path.is_available()).collect()
}

/// The table to use: the best that the machine has, or the best that is not above `at_most`.
#[must_use]
pub fn select(at_most: Option<Path>) -> &'static Kernels {
    static BEST: OnceLock<Path> = OnceLock::new();
    let best = |limit: Path| Path::ALL.into_iter().rev().find(|path| *path <= limit && path.is_available()).unwrap_or(Path::Scalar);
    at_most.map_or_else(|| *BEST.get_or_init(|| best(Path::NeonDot)), best).kernels()
}

/// Quantises inputs of products, one row or several on end: [`crate::numeric::quantise_range`]. False if any of them fails.
pub type QuantiseRange = fn(x: &[f32], group: usize, out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool;
/// Quantises heads or ranks, one row or several on end: [`crate::numeric::quantise`]. False if any of them fails.
pub type Quantise = fn(x: &[f32], group: usize, out: &mut CodesMut<'_>) -> bool;
/// `out = w . rows` for the outputs of `panels`: [`crate::numeric::product`]. The tile's columns are those outputs.
pub type Gemm = fn(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>);
/// `out = w . rows` for the outputs of `panels`: [`crate::numeric::recoded_product`]. The tile's columns are those outputs.
pub type RecodedGemm = fn(w: &Recoded, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>);
/// `RMSNorm` of a row: [`crate::numeric::norm`]. False if it fails.
pub type Norm = fn(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> bool;
/// Rotates heads of one position: [`crate::numeric::rotate`].
pub type Rotate = fn(heads: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]);
/// Queries of one token that share a key head: [`crate::numeric::attend`]. `scores` has [`scores_len`] elements.
pub type Attend = fn(queries: &Queries<'_>, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]);
/// `gate = silu(gate) * up`: [`crate::numeric::gated`].
pub type Gated = fn(gate: &mut [f32], up: &[f32]);
/// [`crate::numeric::shrink`] for the rows in `which`, in this order: `out: [which.len(), 16 * panels of a]`.
pub type Shrink = fn(a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &mut [f32]);
/// [`crate::numeric::expand`] onto the rows in `which`, in this order, of the outputs of `panels`.
pub type Expand = fn(b: &PackedRows, panels: Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &mut OutTile<'_>);

/// The quantised ranks of a segment's rows ([`crate::numeric::rank_codes`]).
#[derive(Debug, Clone, Copy)]
pub struct RankRows<'a> {
    /// `[rows of the segment, columns of b]`.
    pub codes: &'a [i8],
    /// Of each row.
    pub scales: &'a [f32],
    /// Of each row: sum of its codes.
    pub sums: &'a [i32],
    /// What the request multiplies its adapter by.
    pub request: f32,
}

/// Elements that [`Attend`] works on: the scores of every head, in whole blocks.
#[must_use]
pub fn scores_len(heads: usize, keys: usize) -> usize {
    heads * keys.next_multiple_of(BLOCK_KEYS)
}

/// The functions of one path. Each checks what it is given once, and panics on what a caller got wrong.
#[derive(Debug)]
pub struct Kernels {
    /// Which path.
    pub path: Path,
    /// See [`QuantiseRange`].
    pub quantise_range: QuantiseRange,
    /// See [`Quantise`].
    pub quantise: Quantise,
    /// See [`Gemm`]: for few rows, bound by memory.
    pub gemv: Gemm,
    /// See [`Gemm`]: for many rows, bound by products.
    pub gemm: Gemm,
    /// See [`RecodedGemm`]: for any number of rows.
    pub recoded: RecodedGemm,
    /// See [`Norm`].
    pub norm: Norm,
    /// See [`Rotate`].
    pub rotate: Rotate,
    /// See [`Attend`].
    pub attend: Attend,
    /// See [`Gated`].
    pub gated: Gated,
    /// See [`Shrink`].
    pub shrink: Shrink,
    /// See [`Expand`].
    pub expand: Expand,
    calls: Calls,
}

/// How often a path was used in this process.
#[derive(Debug)]
struct Calls {
    products: AtomicU64,
    attends: AtomicU64,
    adapters: AtomicU64,
}

/// Rows up to which [`Kernels::product`] takes the kernel for few.
pub const GEMV_ROWS_MAX: usize = 4;
/// Rows from which the codes of a file are unpacked once for all of them, where a path does so: that takes as long as some rows.
pub const MANY_ROWS: usize = 32;
/// Rows up to which weights of the profile `fast` are read one panel after another, because memory is what limits.
pub const FEW_ROWS_MAX: usize = 8;

impl Kernels {
    /// A product by the kernel for few or for many rows; the bits are the same. Counted.
    ///
    /// # Panics
    /// If shapes do not agree: a caller's mistake.
    pub fn product(&self, w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
        self.calls.products.fetch_add(1, Ordering::Relaxed);
        let kernel = if rows.rows <= GEMV_ROWS_MAX { self.gemv } else { self.gemm };
        kernel(w, panels, rows, out);
    }

    /// A product by weights of either profile, counted.
    ///
    /// # Panics
    /// If shapes do not agree: a caller's mistake.
    pub fn multiply(&self, w: &Weights, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
        match w {
            Weights::Grouped(w) => self.product(w, panels, rows, out),
            Weights::Recoded(w) => {
                self.calls.products.fetch_add(1, Ordering::Relaxed);
                (self.recoded)(w, panels, rows, out);
            }
        }
    }

    /// Attention, counted; see [`Attend`].
    ///
    /// # Panics
    /// If shapes do not agree: a caller's mistake.
    pub fn attention(&self, queries: &Queries<'_>, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]) {
        self.calls.attends.fetch_add(1, Ordering::Relaxed);
        (self.attend)(queries, seen, scores, out);
    }

    /// The expansion of an adapter, counted; see [`Expand`].
    ///
    /// # Panics
    /// If shapes do not agree: a caller's mistake.
    pub fn expansion(&self, b: &PackedRows, panels: Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &mut OutTile<'_>) {
        self.calls.adapters.fetch_add(1, Ordering::Relaxed);
        (self.expand)(b, panels, ranks, which, out);
    }

    /// Products, attentions and expansions of this path so far.
    #[must_use]
    pub fn calls(&self) -> [u64; 3] {
        [&self.calls.products, &self.calls.attends, &self.calls.adapters].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Calls {
    const fn new() -> Self {
        Self { products: AtomicU64::new(0), attends: AtomicU64::new(0), adapters: AtomicU64::new(0) }
    }
}

/// Panics unless a product's shapes agree. After it a kernel reads panels, rows and the tile without looking again.
#[inline]
fn check_product(w: &Packed, panels: &Range<usize>, rows: &CodeRows<'_>, out: &OutTile<'_>) {
    rows.check();
    assert!(w.columns() == rows.columns && w.group() == rows.group, "inputs in the groups of the weights");
    assert!(panels.start <= panels.end && panels.end <= w.panels(), "panels of the matrix");
    assert!(out.rows() == rows.rows && out.columns() == w.outputs_of(panels), "the tile has the outputs of the panels");
}

/// The same for recoded weights.
#[inline]
fn check_recoded(w: &Recoded, panels: &Range<usize>, rows: &CodeRows<'_>, out: &OutTile<'_>) {
    rows.check();
    assert!(w.columns() == rows.columns && w.group() == rows.group, "inputs in the groups of the weights");
    assert!(panels.start <= panels.end && panels.end <= w.panels(), "panels of the matrix");
    assert!(out.rows() == rows.rows && out.columns() == w.outputs_of(panels), "the tile has the outputs of the panels");
}

/// The same for a shrink.
#[inline]
fn check_shrink(a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &[f32]) {
    rows.check();
    assert!(a.columns() == rows.columns && rows.group.is_multiple_of(16), "inputs of the site");
    assert!(which.iter().all(|row| usize::try_from(*row).is_ok_and(|row| row < rows.rows)), "rows of the batch");
    assert!(out.len() == which.len() * a.panels() * PANEL, "ranks of every row");
}

/// The same for an expansion.
#[inline]
fn check_expand(b: &PackedRows, panels: &Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &OutTile<'_>) {
    assert!(ranks.codes.len() == which.len() * b.columns(), "ranks of every row");
    assert!(ranks.scales.len() == which.len() && ranks.sums.len() == which.len(), "a scale and a sum of every row");
    assert!(panels.start <= panels.end && panels.end <= b.panels(), "panels of the matrix");
    assert!(out.columns() == b.outputs_of(panels), "the tile has the outputs of the panels");
    assert!(which.iter().all(|row| usize::try_from(*row).is_ok_and(|row| row < out.rows())), "rows of the batch");
}

/// The same for attention.
#[inline]
fn check_attend(queries: &Queries<'_>, seen: &Seen<'_>, scores: &[f32], out: &[f32]) {
    seen.check();
    let heads = queries.heads();
    assert!(heads > 0 && queries.sums.len() == heads && queries.codes.len() == heads * seen.region.head_dim(), "whole heads");
    assert!(out.len() == queries.codes.len(), "an output for each element of a head");
    assert!(scores.len() >= scores_len(heads, seen.keys), "scores of whole blocks");
}
