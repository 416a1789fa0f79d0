//! Keccak-f[1600] of several states at once, for x86-64 (FIPS 202, section 3). What is unsafe is only calling instructions that the machine was
//! found to have, and reading and writing vectors in arrays of their length.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{
    Path,
    batch::{RATE, States},
};

/// What each round adds to the first word, section 3.2.5.
const ROUNDS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];
/// How far each word is turned, by place x + 5 y, section 3.2.2.
const TURNS: [u8; 25] = [0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56, 14];

/// One permutation: its name, that of its part behind the check, its path, the machine's feature, how many lanes, and on a vector of them: how to
/// load it, store it, fill it with a word, sum three, turn one, and take `a ^ (!b & c)`.
macro_rules! permutation {
    ($name:ident, $checked:ident, $path:ident, $feature:literal, $lanes:literal, $load:expr, $store:expr, $set:expr, $fill:expr, $sum:expr, $turn:expr, $choose:expr) => {
        /// Takes one block into each state and permutes them.
        ///
        /// # Panics
        /// If the machine lacks the instructions.
        pub(super) fn $name(states: &mut States<$lanes>, blocks: &[[u8; RATE]; $lanes]) {
            assert!(Path::$path.is_available(), "chosen only where the machine has it");
            // SAFETY: the machine has the instructions, asserted above.
            unsafe { $checked(states, blocks) }
        }

        #[target_feature(enable = $feature)]
        fn $checked(states: &mut States<$lanes>, blocks: &[[u8; RATE]; $lanes]) {
            // Loops, since methods of arrays are not compiled with the feature and stay calls.
            let mut state = [$fill(0); 25];
            for (lanes, words) in state.iter_mut().zip(&*states) {
                *lanes = $load(words);
            }
            for (place, lanes) in state.iter_mut().take(RATE / 8).enumerate() {
                let mut words = [0; $lanes];
                for (word, block) in words.iter_mut().zip(blocks) {
                    *word = i64::from_le_bytes(block.as_chunks().0[place]);
                }
                *lanes = $sum(*lanes, $set(words), $fill(0));
            }
            for round in ROUNDS {
                let columns: [_; 5] =
                    std::array::from_fn(|x| $sum($sum(state[x], state[x + 5], state[x + 10]), state[x + 15], state[x + 20]));
                let mut moved = state;
                for x in 0..5 {
                    let next = $turn(columns[(x + 1) % 5], 1);
                    for y in 0..5 {
                        let mixed = $sum(state[x + 5 * y], columns[(x + 4) % 5], next);
                        moved[y + 5 * ((2 * x + 3 * y) % 5)] = $turn(mixed, TURNS[x + 5 * y]);
                    }
                }
                for y in 0..5 {
                    for x in 0..5 {
                        state[x + 5 * y] = $choose(moved[x + 5 * y], moved[(x + 1) % 5 + 5 * y], moved[(x + 2) % 5 + 5 * y]);
                    }
                }
                state[0] = $sum(state[0], $fill(round), $fill(0));
            }
            for (words, lanes) in states.iter_mut().zip(state) {
                $store(words, lanes);
            }
        }
    };
}

permutation!(
    permute_8,
    permute_avx512,
    Avx512,
    "avx512f",
    8,
    // SAFETY: 64 bytes are read from an array of 64; the load needs no alignment.
    |words: &[u64; 8]| unsafe { _mm512_loadu_si512(words.as_ptr().cast()) },
    // SAFETY: 64 bytes are written to an array of 64; the store needs no alignment.
    |words: &mut [u64; 8], lanes| unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), lanes) },
    |[a, b, c, d, e, f, g, h]: [i64; 8]| _mm512_set_epi64(h, g, f, e, d, c, b, a),
    |word: u64| _mm512_set1_epi64(word.cast_signed()),
    |a, b, c| _mm512_ternarylogic_epi64::<0x96>(a, b, c),
    |a, by: u8| _mm512_rolv_epi64(a, _mm512_set1_epi64(by.into())),
    |a, b, c| _mm512_ternarylogic_epi64::<0xd2>(a, b, c)
);

permutation!(
    permute_4,
    permute_avx2,
    Avx2,
    "avx2",
    4,
    // SAFETY: 32 bytes are read from an array of 32; the load needs no alignment.
    |words: &[u64; 4]| unsafe { _mm256_loadu_si256(words.as_ptr().cast()) },
    // SAFETY: 32 bytes are written to an array of 32; the store needs no alignment.
    |words: &mut [u64; 4], lanes| unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), lanes) },
    |[a, b, c, d]: [i64; 4]| _mm256_set_epi64x(d, c, b, a),
    |word: u64| _mm256_set1_epi64x(word.cast_signed()),
    // The second and third first: what a column takes from its neighbours is then summed once for its five words.
    |a, b, c| _mm256_xor_si256(a, _mm256_xor_si256(b, c)),
    |a, by: u8| _mm256_or_si256(
        _mm256_sll_epi64(a, _mm_cvtsi32_si128(by.into())),
        // By 64 nothing is left.
        _mm256_srl_epi64(a, _mm_cvtsi32_si128(64 - i32::from(by)))
    ),
    |a, b, c| _mm256_xor_si256(a, _mm256_andnot_si256(b, c))
);
