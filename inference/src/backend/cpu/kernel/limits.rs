//! What a machine can do at most, measured where figures are: byte dot products of a core, and bytes read from memory.
#![allow(unsafe_code)]

use std::time::Duration;

#[cfg(target_arch = "x86_64")]
use super::Path;

/// Runs `rounds` times 1,024 byte dot products of 64 (or what the best path of this machine has instead), in 16 chains that do not wait
/// for each other; answers how many products of two codes that was, and something that depends on all of them.
#[must_use]
pub fn products(rounds: usize) -> (u64, i32) {
    #[cfg(target_arch = "x86_64")]
    if Path::Avx512.is_available() {
        // SAFETY: the machine has the instructions, as just found.
        return (rounds as u64 * 1024 * 64, unsafe { x86::dots512(rounds) });
    }
    #[cfg(target_arch = "x86_64")]
    if Path::Avx2.is_available() {
        // SAFETY: the machine has the instructions, as just found.
        return (rounds as u64 * 1024 * 32, unsafe { x86::dots256(rounds) });
    }
    let codes: [i8; 64] = std::hint::black_box([3; 64]);
    let mut sum = 0i32;
    for _ in 0..rounds * 1024 {
        sum = sum.wrapping_add(std::hint::black_box(&codes).iter().map(|code| i32::from(*code) * i32::from(*code)).sum::<i32>());
    }
    (rounds as u64 * 1024 * 64, sum)
}

/// Reads every byte once, in order, by the widest loads of the machine and no arithmetic to speak of.
#[must_use]
pub fn read(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if Path::Avx512.is_available() {
        // SAFETY: the machine has the instructions, as just found.
        return unsafe { x86::read512(bytes) };
    }
    bytes.as_chunks::<8>().0.iter().fold(0, |sum, part| sum ^ u64::from_ne_bytes(*part))
}

/// Processor time of this thread, so that others on the machine disturb a measurement less; elsewhere than on Linux the time since the
/// first call.
#[must_use]
pub fn processor_time() -> Duration {
    clock(
        #[cfg(target_os = "linux")]
        libc::CLOCK_THREAD_CPUTIME_ID,
    )
}

/// Processor time of all threads of this process; elsewhere than on Linux the time since the first call.
#[must_use]
pub fn process_time() -> Duration {
    clock(
        #[cfg(target_os = "linux")]
        libc::CLOCK_PROCESS_CPUTIME_ID,
    )
}

#[cfg(target_os = "linux")]
fn clock(which: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, which is ours.
    let done = unsafe { libc::clock_gettime(which, &raw mut time) };
    assert!(done == 0, "every thread and process has a clock");
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("below a second"))
}

#[cfg(not(target_os = "linux"))]
fn clock() -> Duration {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn dots512(rounds: usize) -> i32 {
        let (a, b) = std::hint::black_box((_mm512_set1_epi8(3), _mm512_set1_epi8(2)));
        let mut sums = [_mm512_setzero_si512(); 16];
        for _ in 0..rounds * 64 {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        sums.into_iter().fold(0, |all, sum| all ^ _mm512_reduce_add_epi32(sum))
    }

    /// Multiplies and adds as the AVX2 path does for four bits: two instructions for 32 products.
    #[target_feature(enable = "avx2")]
    pub(super) fn dots256(rounds: usize) -> i32 {
        let (a, b) = std::hint::black_box((_mm256_set1_epi8(3), _mm256_set1_epi8(2)));
        let mut sums = [_mm256_setzero_si256(); 8];
        for _ in 0..rounds * 128 {
            for sum in &mut sums {
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(a, _mm256_xor_si256(b, *sum)));
            }
        }
        sums.into_iter().fold(0, |all, sum| all ^ _mm256_extract_epi32::<0>(sum))
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn read512(bytes: &[u8]) -> u64 {
        let mut sums = [_mm512_setzero_si512(); 4];
        for part in bytes.as_chunks::<256>().0 {
            for (at, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 64 of the 256 bytes; no alignment is needed. By way of a mask, as in the kernels.
                let line = unsafe { _mm512_maskz_loadu_epi32(!0, part.as_ptr().wrapping_add(64 * at).cast()) };
                *sum = _mm512_xor_si512(*sum, line);
            }
            for line in 0..4 {
                _mm_prefetch::<_MM_HINT_T0>(part.as_ptr().wrapping_add(2048 + 64 * line).cast());
            }
        }
        sums.into_iter().fold(0, |all, sum| all ^ _mm512_reduce_add_epi64(sum).cast_unsigned())
    }
}
