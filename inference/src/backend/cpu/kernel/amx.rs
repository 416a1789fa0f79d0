//! Tiles: sixteen rows by sixteen outputs by one group, 8,192 products an instruction (16,384 in groups of 64).
//!
//! Tile registers are written through [`Tiles`], which has two implementations: the instructions ([`Registers`]), and a model of the eight
//! registers in plain code ([`Model`]). So what surrounds the instructions, and that is all but seven lines of assembly, is tested on machines
//! that do not have them. Sixteen rows at a time go through tiles; what is left, and every other kernel, is that of AVX-512: the bits are the
//! same. A group of 32 fills half a tile, and then its sums are combined in sixteen vectors: those, not the tiles, are the limit in `exact`.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;

use super::super::arena::LINE;
use super::super::pack::{PANEL, Packed};
use super::super::share::OutTile;
use super::{Calls, Kernels, Path, avx512, check_product};
use crate::numeric::{CodeRows, Codes, Zero};

pub(super) static KERNELS: Kernels = Kernels {
    path: Path::Amx,
    quantise_range: avx512::quantise_range,
    quantise: avx512::quantise,
    gemv: avx512::product,
    gemm: product,
    // Its groups are of 96 and 128, which tiles of 64 do not take; of these AVX-512 computes 72 to 82 % of the products that it can at most, from 32 rows on.
    recoded: avx512::recoded,
    norm: avx512::norm,
    rotate: avx512::rotate,
    attend: avx512::attend,
    gated: avx512::gated,
    shrink: avx512::shrink,
    expand: avx512::expand,
    calls: Calls::new(),
};

/// Rows of a tile.
const TILE: usize = 16;
/// Tiles of rows that are worked on beside each other; with one of codes and one of weights for them they fit into eight registers.
const TILES: usize = 4;

/// The tile registers, as far as a product needs them: 0 to 3 hold sums, 4 and 5 codes of rows, 6 weights.
pub trait Tiles {
    /// Sets the shapes: sums of 16 rows by 64 bytes, codes of 16 rows by `group` bytes, weights of `group / 4` rows by 64 bytes.
    fn configure(&mut self, group: usize);
    /// Clears a register.
    fn zero<const T: usize>(&mut self);
    /// Loads a register: its rows stand every `stride` bytes.
    ///
    /// # Panics
    /// If `from` is too short for them.
    fn load<const T: usize>(&mut self, from: &[u8], stride: usize);
    /// Adds to `C` the products of the signed bytes of `A` with the unsigned bytes of `B`.
    fn dot<const C: usize, const A: usize, const B: usize>(&mut self);
    /// Writes a register of sums.
    fn store<const T: usize>(&mut self, to: &mut [[i32; PANEL]; TILE]);
    /// Gives the registers back: a thread that holds them costs more to switch.
    fn release(&mut self);
}

/// Rows and bytes of each register.
fn shapes(group: usize) -> [(usize, usize); 8] {
    let (sums, codes, weights) = ((TILE, 64), (TILE, group), (group / 4, 64));
    [sums, sums, sums, sums, codes, codes, weights, weights]
}

/// The registers of this machine.
#[derive(Debug)]
pub struct Registers {
    shapes: [(usize, usize); 8],
}

impl Registers {
    /// None if the machine has none, or the system does not let us.
    #[must_use]
    pub fn new() -> Option<Self> {
        is_available().then_some(Self { shapes: shapes(64) })
    }
}

impl Tiles for Registers {
    fn configure(&mut self, group: usize) {
        assert!(group == 32 || group == 64, "groups of {group}");
        self.shapes = shapes(group);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for (at, (rows, bytes)) in self.shapes.into_iter().enumerate() {
            config.0[16 + 2 * at] = u8::try_from(bytes).expect("at most 64");
            config.0[48 + at] = u8::try_from(rows).expect("at most 16");
        }
        // SAFETY: the machine and the system have tiles (`new`); reads the 64 bytes of a valid configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags)) };
    }

    #[inline]
    fn zero<const T: usize>(&mut self) {
        const { assert!(T < 8, "eight registers") };
        // SAFETY: changes one register, which the compiler does not use.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, preserves_flags)) };
    }

    #[inline]
    fn load<const T: usize>(&mut self, from: &[u8], stride: usize) {
        let (rows, bytes) = self.shapes[T];
        assert!(from.len() >= (rows - 1) * stride + bytes, "every row of the register");
        // SAFETY: reads the rows of this register's shape, which were found to be inside `from`.
        unsafe {
            asm!("tileloadd tmm{t}, [{from} + {stride}*1]", t = const T, from = in(reg) from.as_ptr(), stride = in(reg) stride, options(nostack, preserves_flags));
        }
    }

    #[inline]
    fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
        // SAFETY: changes one register; the shapes agree, as `shapes` makes them.
        unsafe { asm!("tdpbsud tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B, options(nostack, preserves_flags)) };
    }

    #[inline]
    fn store<const T: usize>(&mut self, to: &mut [[i32; PANEL]; TILE]) {
        const { assert!(T < TILES, "a register of sums") };
        // SAFETY: writes 16 rows of 64 bytes, which is what `to` has.
        unsafe {
            asm!("tilestored [{to} + {stride}*1], tmm{t}", t = const T, to = in(reg) to.as_mut_ptr(), stride = in(reg) 64_usize, options(nostack, preserves_flags));
        }
    }

    fn release(&mut self) {
        // SAFETY: changes the registers only.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags)) };
    }
}

/// What `ldtilecfg` reads: a palette, then bytes and rows of each register.
#[repr(align(64))]
struct Config([u8; 64]);

/// The registers in plain code: what the instructions are specified to do (Intel, Architecture Instruction Set Extensions, chapter 3).
#[derive(Debug)]
pub struct Model {
    shapes: Option<[(usize, usize); 8]>,
    registers: [[[u8; 64]; TILE]; 8],
}

impl Model {
    /// Registers without a configuration.
    #[must_use]
    pub fn new() -> Self {
        Self { shapes: None, registers: [[[0xa5; 64]; TILE]; 8] }
    }

    fn shape(&self, tile: usize) -> (usize, usize) {
        self.shapes.expect("configured before it is used: the instruction would fault")[tile]
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Tiles for Model {
    fn configure(&mut self, group: usize) {
        (self.shapes, self.registers) = (Some(shapes(group)), [[[0; 64]; TILE]; 8]);
    }

    fn zero<const T: usize>(&mut self) {
        let _configured = self.shape(T);
        self.registers[T] = [[0; 64]; TILE];
    }

    fn load<const T: usize>(&mut self, from: &[u8], stride: usize) {
        let (rows, bytes) = self.shape(T);
        self.registers[T] = [[0; 64]; TILE];
        for (row, place) in self.registers[T].iter_mut().take(rows).enumerate() {
            place[..bytes].copy_from_slice(&from[row * stride..][..bytes]);
        }
    }

    fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
        let (c, a, b) = (self.shape(C), self.shape(A), self.shape(B));
        assert!(c.0 == a.0 && a.1 == 4 * b.0 && c.1 == b.1, "shapes that agree: the instruction would fault");
        for row in 0..c.0 {
            for column in 0..c.1 / 4 {
                let place = 4 * column..4 * column + 4;
                let mut sum = i32::from_le_bytes(self.registers[C][row][place.clone()].try_into().expect("four bytes"));
                for quad in 0..b.0 {
                    for at in 0..4 {
                        let code = self.registers[A][row][4 * quad + at].cast_signed();
                        sum = sum.wrapping_add(i32::from(code) * i32::from(self.registers[B][quad][4 * column + at]));
                    }
                }
                self.registers[C][row][place].copy_from_slice(&sum.to_le_bytes());
            }
        }
    }

    fn store<const T: usize>(&mut self, to: &mut [[i32; PANEL]; TILE]) {
        let (rows, bytes) = self.shape(T);
        for (row, to) in self.registers[T].iter().zip(to).take(rows) {
            for (column, to) in to.iter_mut().enumerate().take(bytes / 4) {
                *to = i32::from_le_bytes(row[4 * column..4 * column + 4].try_into().expect("four bytes"));
            }
        }
    }

    fn release(&mut self) {
        self.shapes = None;
    }
}

/// Whether this machine has tiles of bytes and the system lets this process use them; asked of both once. Threads that exist already
/// have the permission too.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_tiles() && is_permitted())
}

fn has_tiles() -> bool {
    if !is_x86_feature_detected!("xsave") {
        return false;
    }
    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: reading which registers the system saves changes nothing; the caller found the instruction.
        unsafe { _xgetbv(0) }
    }
    // Of leaf 7: tiles, tiles of bytes. Of the saved registers: tile configuration, tile data.
    let has_instructions = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx >> 24 & 3 == 3;
    // SAFETY: the machine and the system have `xgetbv`, as found above.
    has_instructions && unsafe { saved() } >> 17 & 3 == 3
}

/// Asks Linux for tile registers (`ARCH_REQ_XCOMP_PERM`, component 18): it saves 8 KiB more for each thread that uses them.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: a permission for this process; no memory is read or written.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

fn product(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    let mut registers = Registers::new().expect("this table is given out only where the machine has tiles");
    product_on(&mut registers, w, panels, rows, out);
}

/// A product by way of tiles; what is below sixteen rows, as AVX-512 has it.
///
/// # Panics
/// If the machine lacks AVX-512, or shapes do not agree.
pub fn product_on<T: Tiles>(tiles: &mut T, w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    assert!(avx512::is_available(), "what surrounds the tiles is of AVX-512");
    check_product(w, &panels, rows, out);
    let whole = rows.rows / TILE * TILE;
    if whole > 0 {
        tiles.configure(w.group());
        for panel in panels.clone() {
            let column = (panel - panels.start) * PANEL;
            for row in (0..whole).step_by(TILES * TILE) {
                let part = rows.part(row, (whole - row).min(TILES * TILE));
                // SAFETY: the machine has the instructions, asserted above.
                unsafe { block(tiles, w, panel, &part, out, (row, column)) };
            }
        }
        tiles.release();
    }
    if whole < rows.rows {
        avx512::product_from(w, panels, rows, whole, out);
    }
}

/// One panel for 16, 32, 48 or 64 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn block<T: Tiles>(tiles: &mut T, w: &Packed, panel: usize, rows: &CodeRows<'_>, out: &mut OutTile<'_>, (row, column): (usize, usize)) {
    let (bytes, count) = (w.panel(panel), rows.rows / TILE);
    let mut acc = [[_mm512_setzero_ps(); TILE]; TILES];
    let mut unpacked = [0u8; 8 * LINE];
    for group in 0..rows.groups() {
        let place = w.place(group);
        let codes = &bytes[place.codes..];
        let quads: &[u8] = match w.codes() {
            Codes::U4 { .. } => {
                unpack(codes, &mut unpacked);
                &unpacked
            }
            Codes::S8 => &codes[..w.group() / 4 * LINE],
        };
        tiles.load::<6>(quads, LINE);
        let all = stored_sums(quads);
        let mut sums = [[[0i32; PANEL]; TILE]; TILES];
        sum::<T, 0, 4>(tiles, rows, group, &mut sums[0]);
        if count > 1 {
            sum::<T, 1, 5>(tiles, rows, group, &mut sums[1]);
        }
        if count > 2 {
            sum::<T, 2, 4>(tiles, rows, group, &mut sums[2]);
        }
        if count > 3 {
            sum::<T, 3, 5>(tiles, rows, group, &mut sums[3]);
        }
        for (tile, (acc, sums)) in acc.iter_mut().zip(&sums).take(count).enumerate() {
            combine((w.codes(), &bytes[place.scales..], all), &rows.part(tile * TILE, TILE), group, sums, acc);
        }
    }
    for (r, acc) in acc.iter().flatten().enumerate().take(rows.rows) {
        avx512::store(&mut out.row(row + r)[column..], *acc);
    }
}

/// The dot products of tile `S` of the rows with the weights in register 6, by way of register `A`.
#[inline]
fn sum<T: Tiles, const S: usize, const A: usize>(tiles: &mut T, rows: &CodeRows<'_>, group: usize, sums: &mut [[i32; PANEL]; TILE]) {
    let codes = &rows.codes[S * TILE * rows.columns + group * rows.group..];
    // SAFETY: the same bytes, seen as unsigned: registers have no sign of their own.
    let codes = unsafe { std::slice::from_raw_parts(codes.as_ptr().cast::<u8>(), codes.len()) };
    tiles.zero::<S>();
    tiles.load::<A>(codes, rows.columns);
    tiles.dot::<S, A, 6>();
    tiles.store::<S>(sums);
}

/// Takes the two codes of each byte apart: eight quads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn unpack(codes: &[u8], quads: &mut [u8; 8 * LINE]) {
    let half = _mm512_set1_epi8(15);
    let (low, high) = quads.split_at_mut(4 * LINE);
    for ((line, low), high) in codes.chunks_exact(LINE).zip(low.chunks_exact_mut(LINE)).zip(high.chunks_exact_mut(LINE)) {
        // SAFETY: a line is read and two are written, each of 64 bytes; no alignment is needed.
        unsafe {
            let both = _mm512_loadu_si512(line.as_ptr().cast());
            _mm512_storeu_si512(low.as_mut_ptr().cast(), _mm512_and_si512(both, half));
            _mm512_storeu_si512(high.as_mut_ptr().cast(), _mm512_and_si512(_mm512_srli_epi16::<4>(both), half));
        }
    }
}

/// Sums of the codes of a group as they are stored: what a zero of activations is multiplied by.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn stored_sums(quads: &[u8]) -> __m512i {
    quads.as_chunks::<LINE>().0.iter().fold(_mm512_setzero_si512(), |sums, line| {
        // SAFETY: a line of 64 bytes; no alignment is needed.
        _mm512_dpbusd_epi32(sums, unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }, _mm512_set1_epi8(1))
    })
}

/// Adds a group's sums to sixteen rows, as [`crate::numeric::product`] has it; of the weights come how they are stored, their scales, and the
/// sums of their codes.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512vnni,f16c")]
fn combine(
    (codes, scales, all): (Codes, &[u8], __m512i),
    rows: &CodeRows<'_>,
    group: usize,
    sums: &[[i32; PANEL]; TILE],
    acc: &mut [__m512; TILE],
) {
    let halves: &[u8; 32] = scales.first_chunk().expect("sixteen scales");
    // SAFETY: 32 bytes are read from an array of 32.
    let scale = _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) });
    let (above, min) = match codes {
        Codes::U4 { min: true } => {
            let halves: &[u8; 32] = scales[32..].first_chunk().expect("sixteen minimums");
            // SAFETY: 32 bytes are read from an array of 32.
            (0, Some(_mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) })))
        }
        Codes::U4 { min: false } => (8, None),
        Codes::S8 => (128, None),
    };
    // A row's zero goes with the sum of the weights' codes, and its sum with what these are stored above.
    let all = _mm512_or_si512(all, _mm512_set1_epi32(-above << 16));
    for (r, (sums, acc)) in sums.iter().zip(acc).enumerate() {
        let place = r * rows.groups() + group;
        // SAFETY: 64 bytes are read from an array of 64.
        let dot = unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) };
        let Zero { zero, sum } = rows.zeros[place];
        let dot = _mm512_dpwssd_epi32(dot, all, _mm512_set1_epi32(i32::from(sum) << 16 | (i32::from(zero) & 0xffff)));
        let step = _mm512_mul_ps(scale, _mm512_set1_ps(rows.scales[place]));
        *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), step, *acc);
        if let Some(min) = min {
            *acc = _mm512_fmadd_ps(min, _mm512_set1_ps(rows.offsets[place]), *acc);
        }
    }
}
