//! The kernel's paths for x86-64: sums of one block, transforms of one tile, writes past the caches. What is unsafe is only calling instructions
//! that the machine was found to have, and reading and writing vectors in arrays of their length.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{
    BLOCK, GROUP, Halves, Path,
    transform::{Row, TILE},
};

/// Copies past the caches, whole lines at a time. [`finish_writes`] must follow before another thread is told of it.
///
/// # Panics
/// If the two are not of one length.
pub(super) fn write_past_caches(to: &mut [u8], from: &[u8]) {
    let (head, from) = from.split_at(to.as_ptr().align_offset(64).min(from.len()));
    let (before, to) = to.split_at_mut(head.len());
    before.copy_from_slice(head);
    let (lines, rest) = to.as_chunks_mut::<64>();
    let (from, tail) = from.as_chunks::<64>();
    rest.copy_from_slice(tail);
    assert!(lines.len() == from.len(), "as many bytes as there is place for");
    for (line, from) in lines.iter_mut().zip(from) {
        for at in (0..64).step_by(16) {
            // SAFETY: 16 bytes are read from and written to arrays of 64 at a place of 0, 16, 32 or 48; the load needs no alignment, and what
            // is stored lies at a multiple of 16, since the lines begin at one of 64. Every x86-64 has the instructions.
            unsafe { _mm_stream_si128(line.as_mut_ptr().add(at).cast(), _mm_loadu_si128(from.as_ptr().add(at).cast())) };
        }
    }
}

/// Waits until what was written past the caches is in memory.
pub(super) fn finish_writes() {
    // SAFETY: every x86-64 has the instruction, and it touches no memory of ours.
    unsafe { _mm_sfence() };
}

/// One transform: its name and path, the machine's features, a vector of how many bytes and how to load, store, add and multiply it.
macro_rules! transform {
    ($name:ident, $columns:ident, $path:ident, $features:literal, $factor:ty, $width:literal, $load:expr, $store:expr, $add:expr, $times:expr) => {
        /// The tile of each parity fragment from those of the object: `data` rows of the object, then theirs; `data` factors for each coset.
        ///
        /// # Panics
        /// If the machine lacks the instructions, or counts do not agree.
        pub(super) fn $name(data: usize, factors: &[$factor], rows: &mut [Row]) {
            assert!(
                Path::$path.is_available() && factors.len() == rows.len(),
                "chosen only where the machine has it, a factor for each row"
            );
            // SAFETY: the machine has the instructions, asserted above.
            unsafe {
                match data {
                    16 => $columns::<16>(factors, rows),
                    4 => $columns::<4>(factors, rows),
                    _ => unreachable!("made for codes of 4 or 16 only"),
                }
            }
        }

        #[target_feature(enable = $features)]
        fn $columns<const N: usize>(factors: &[$factor], rows: &mut [Row]) {
            let (back, forth) = factors.split_first_chunk::<N>().expect("factors of the object's own coset");
            let (object, parity) = rows.split_first_chunk_mut::<N>().expect("its rows");
            for at in (0..TILE).step_by($width) {
                let mut own: [_; N] = std::array::from_fn(|row| $load(object[row].0[at..at + $width].as_array().expect("as many bytes")));
                let mut first = 0;
                for layer in 0..N.ilog2() {
                    let half = 1 << layer;
                    for block in 0..N / half / 2 {
                        for low in 2 * block * half..(2 * block + 1) * half {
                            own[low + half] = $add(own[low + half], own[low]);
                            // The first block's factor is zero.
                            if block > 0 {
                                own[low] = $add(own[low], $times(own[low + half], &back[first + block]));
                            }
                        }
                    }
                    first += N / half / 2;
                }
                for (coset, factors) in parity.as_chunks_mut::<N>().0.iter_mut().zip(forth.as_chunks::<N>().0) {
                    let mut values = own;
                    let mut first = N - 1;
                    for layer in (0..N.ilog2()).rev() {
                        let half = 1 << layer;
                        first -= N / half / 2;
                        for block in 0..N / half / 2 {
                            for low in 2 * block * half..(2 * block + 1) * half {
                                values[low] = $add(values[low], $times(values[low + half], &factors[first + block]));
                                values[low + half] = $add(values[low + half], values[low]);
                            }
                        }
                    }
                    for (row, value) in coset.iter_mut().zip(values) {
                        $store(row.0[at..at + $width].as_mut_array().expect("as many bytes"), value);
                    }
                }
            }
        }
    };
}

transform!(
    transform_gfni,
    gfni_columns,
    Gfni,
    "gfni,avx512f,avx512bw",
    u64,
    64,
    // SAFETY: 64 bytes are read from an array of 64; the load needs no alignment.
    |bytes: &[u8; 64]| unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) },
    // SAFETY: 64 bytes are written to an array of 64; the store needs no alignment.
    |bytes: &mut [u8; 64], value| unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), value) },
    |a, b| _mm512_xor_si512(a, b),
    |a, factor: &u64| _mm512_gf2p8affine_epi64_epi8::<0>(a, _mm512_set1_epi64(factor.cast_signed()))
);

transform!(
    transform_avx2,
    avx2_columns,
    Avx2,
    "avx2",
    Halves,
    32,
    // SAFETY: 32 bytes are read from an array of 32; the load needs no alignment.
    |bytes: &[u8; 32]| unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) },
    // SAFETY: 32 bytes are written to an array of 32; the store needs no alignment.
    |bytes: &mut [u8; 32], value| unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) },
    |a, b| _mm256_xor_si256(a, b),
    |a, factor: &Halves| avx2_product(avx2_split(a), factor)
);

/// The low and the high half of every byte.
#[inline]
#[target_feature(enable = "avx2")]
fn avx2_split(bytes: __m256i) -> [__m256i; 2] {
    let half = _mm256_set1_epi8(15);
    [_mm256_and_si256(bytes, half), _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), half)]
}

/// Every byte times the constant whose products these are.
#[inline]
#[target_feature(enable = "avx2")]
fn avx2_product([low, high]: [__m256i; 2], [lows, highs]: &Halves) -> __m256i {
    // SAFETY: 16 bytes are read from arrays of 16; the loads need no alignment.
    let (lows, highs) = unsafe { (_mm_loadu_si128(lows.as_ptr().cast()), _mm_loadu_si128(highs.as_ptr().cast())) };
    let low = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(lows), low);
    let high = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(highs), high);
    _mm256_xor_si256(low, high)
}

/// Sums of one block: `staged` holds a block of each input, `factors` one row for each of `sums`.
///
/// # Panics
/// If the machine lacks the instructions, or counts do not agree.
pub(super) fn gfni(factors: &[u64], staged: &[u8], sums: &mut [[u8; BLOCK]]) {
    assert!(Path::Gfni.is_available(), "chosen only where the machine has it");
    let columns = staged.len() / BLOCK;
    // SAFETY: the machine has GFNI and AVX-512 F and BW, asserted above.
    unsafe {
        match sums.len() {
            GROUP => gfni_rows::<GROUP>(factors, staged, sums),
            _ => sums.chunks_mut(1).zip(factors.chunks(columns)).for_each(|(sums, row)| gfni_rows::<1>(row, staged, sums)),
        }
    }
}

/// The same with AVX2.
///
/// # Panics
/// If the machine lacks the instructions, or counts do not agree.
pub(super) fn avx2(factors: &[Halves], staged: &[u8], sums: &mut [[u8; BLOCK]]) {
    assert!(Path::Avx2.is_available(), "chosen only where the machine has it");
    let columns = staged.len() / BLOCK;
    // SAFETY: the machine has AVX2, asserted above.
    unsafe {
        match sums.len() {
            GROUP => avx2_rows::<GROUP>(factors, staged, sums),
            _ => sums.chunks_mut(1).zip(factors.chunks(columns)).for_each(|(sums, row)| avx2_rows::<1>(row, staged, sums)),
        }
    }
}

#[target_feature(enable = "gfni,avx512f,avx512bw")]
fn gfni_rows<const N: usize>(factors: &[u64], staged: &[u8], sums: &mut [[u8; BLOCK]]) {
    let columns = staged.len() / BLOCK;
    let rows: [&[u64]; N] = std::array::from_fn(|row| &factors[row * columns..(row + 1) * columns]);
    for at in (0..BLOCK).step_by(64) {
        let mut totals = [_mm512_setzero_si512(); N];
        for (column, input) in staged.chunks_exact(BLOCK).enumerate() {
            let bytes: &[u8; 64] = input[at..at + 64].try_into().expect("64 bytes");
            // SAFETY: 64 bytes are read from an array of 64; the load needs no alignment.
            let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            for (total, row) in totals.iter_mut().zip(rows) {
                let map = _mm512_set1_epi64(row[column].cast_signed());
                *total = _mm512_xor_si512(*total, _mm512_gf2p8affine_epi64_epi8::<0>(bytes, map));
            }
        }
        for (total, sums) in totals.iter().zip(sums.iter_mut()) {
            let place: &mut [u8; 64] = (&mut sums[at..at + 64]).try_into().expect("64 bytes");
            // SAFETY: 64 bytes are written to an array of 64; the store needs no alignment.
            unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), *total) };
        }
    }
}

#[target_feature(enable = "avx2")]
fn avx2_rows<const N: usize>(factors: &[Halves], staged: &[u8], sums: &mut [[u8; BLOCK]]) {
    let columns = staged.len() / BLOCK;
    let rows: [&[Halves]; N] = std::array::from_fn(|row| &factors[row * columns..(row + 1) * columns]);
    for at in (0..BLOCK).step_by(32) {
        let mut totals = [_mm256_setzero_si256(); N];
        for (column, input) in staged.chunks_exact(BLOCK).enumerate() {
            let bytes: &[u8; 32] = input[at..at + 32].try_into().expect("32 bytes");
            // SAFETY: 32 bytes are read from an array of 32; the load needs no alignment.
            let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            let halves = avx2_split(bytes);
            for (total, row) in totals.iter_mut().zip(rows) {
                *total = _mm256_xor_si256(*total, avx2_product(halves, &row[column]));
            }
        }
        for (total, sums) in totals.iter().zip(sums.iter_mut()) {
            let place: &mut [u8; 32] = (&mut sums[at..at + 32]).try_into().expect("32 bytes");
            // SAFETY: 32 bytes are written to an array of 32; the store needs no alignment.
            unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), *total) };
        }
    }
}
