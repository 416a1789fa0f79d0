//! Keccak of many messages side by side, one in each lane of a vector.
//!
//! 64 bytes of text cost four permutations: three for their leaf of 320 bytes, one for a node above. In each of 24 rounds one state takes some
//! 150 operations on words: 330 ns, which allows 48 MB/s (one core of an AMD EPYC that has AVX-512, the permutation alone). Eight states in
//! registers of AVX-512 take 91 a round, since three operands are summed or a word is turned by one instruction: 450 ns for all, 280 MB/s. Four
//! in those of AVX2 take 420 ns, 150 MB/s. What it takes to bring bytes into lanes leaves four fifths of that. The path is chosen at run time.
//! The plain one is `sha3` itself, and every other is tested against it. Written as loops over arrays the permutation becomes vectors for
//! AVX-512 only: for AVX2, which turns no words, the compiler leaves it slower than one state after another.
//!
//! Messages go together that take as many permutations; padding makes their blocks alike. A batch that is not full goes through the lanes as
//! well, because two messages already take longer one after the other; one alone does not.

#[cfg(target_arch = "x86_64")]
mod batch;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use super::keccak;
use crate::id::Hash32;

/// How messages are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// One by one, on any machine; it defines the result.
    Scalar,
    /// Four at once.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Eight at once.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Path {
    /// Every path, the slowest first.
    #[cfg(target_arch = "x86_64")]
    const ALL: &[Self] = &[Self::Scalar, Self::Avx2, Self::Avx512];
    #[cfg(not(target_arch = "x86_64"))]
    const ALL: &[Self] = &[Self::Scalar];

    /// Whether this machine has it.
    fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
        }
    }

    /// The quickest that this machine has.
    fn best() -> Self {
        static BEST: OnceLock<Path> = OnceLock::new();
        *BEST.get_or_init(|| Self::ALL.iter().copied().rev().find(|path| path.is_available()).unwrap_or(Self::Scalar))
    }

    fn keccak_each<M: AsRef<[u8]>>(self, prefix: &[u8], messages: impl IntoIterator<Item = M>) -> Vec<Hash32> {
        match self {
            Self::Scalar => messages.into_iter().map(|message| keccak(&[prefix, message.as_ref()])).collect(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => batch::keccak_each(prefix, messages, x86::permute_4),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => batch::keccak_each(prefix, messages, x86::permute_8),
        }
    }
}

/// keccak256 of `prefix` and each message, in their order. As many messages are held at a time as there are lanes.
pub(super) fn keccak_each<M: AsRef<[u8]>>(prefix: &[u8], messages: impl IntoIterator<Item = M>) -> Vec<Hash32> {
    Path::best().keccak_each(prefix, messages)
}

#[cfg(test)]
mod tests;
