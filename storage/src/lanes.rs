//! Hashes of many short messages side by side, one in each lane of a vector.
//!
//! The gate hashes five bytes of keccak for each byte of text, one BLAKE3 block and 128 multiplications for each word: one message at a time that is
//! 27, 13 and 9 ns a byte. With AVX-512, eight keccak states or sixteen BLAKE3 blocks go through the same instructions together, and eight
//! multiplications. The path is chosen at run time; the plain one is `types` and `blake3` themselves, and every other is tested against it.

#[cfg(not(target_arch = "x86_64"))]
mod none;
#[cfg(target_arch = "x86_64")]
mod x86;

use types::{
    id::Hash32,
    merkle,
    text::{LEAF_BYTES, LEAF_STRIDE, leaf_count, leaf_range},
};

#[cfg(not(target_arch = "x86_64"))]
use none as wide;
#[cfg(target_arch = "x86_64")]
use x86 as wide;

/// Messages of keccak at once.
const KECCAK_LANES: usize = 8;
/// Messages of BLAKE3 at once.
const BLAKE3_LANES: usize = 16;
/// Longest message of one BLAKE3 block.
const BLAKE3_BLOCK: usize = 64;

/// [`types::text::text_root`].
pub(crate) fn text_root(text: &[u8]) -> Hash32 {
    sealed(text.len(), text_top(text))
}

/// The root of a text of so many bytes under this top.
pub(crate) fn sealed(text_bytes: usize, top: Hash32) -> Hash32 {
    let bytes_of = |len: usize| u64::try_from(len).expect("a length in memory fits 64 bits");
    merkle::seal(bytes_of(leaf_count(text_bytes)), bytes_of(text_bytes), top)
}

/// [`types::text::text_top`].
pub(crate) fn text_top(text: &[u8]) -> Hash32 {
    if !wide::is_here() {
        return types::text::text_top(text);
    }
    let count = leaf_count(text.len());
    let whole = text.len().checked_sub(LEAF_BYTES).map_or(0, |spare| spare / LEAF_STRIDE + 1);
    let mut level = Vec::with_capacity(count.max(1).next_power_of_two());
    while level.len() + KECCAK_LANES <= whole {
        let leaves = std::array::from_fn(|lane| &text[leaf_range(level.len() + lane, text.len())]);
        level.extend(wide::keccak(0, leaves));
    }
    level.extend((level.len()..count).map(|index| merkle::leaf(&text[leaf_range(index, text.len())])));
    level.resize(count.max(1).next_power_of_two(), Hash32::ZERO);
    while level.len() > 1 {
        level = above(&level);
    }
    level[0]
}

/// Calls `work`, which counts bits, as it reads where a count is one instruction: without, it is a dozen.
#[cfg(feature = "disk")]
pub(crate) fn counting<R>(work: impl FnOnce() -> R) -> R {
    wide::counting(work)
}

/// The level above one of a tree.
fn above(level: &[Hash32]) -> Vec<Hash32> {
    let pairs = level.as_chunks::<2>().0;
    let (eights, rest) = pairs.as_chunks::<KECCAK_LANES>();
    let mut above = Vec::with_capacity(pairs.len());
    for eight in eights {
        let joined = eight.map(|[left, right]| {
            let mut both = [0; 64];
            both[..32].copy_from_slice(&left.0);
            both[32..].copy_from_slice(&right.0);
            both
        });
        above.extend(wide::keccak(1, joined.each_ref().map(<[u8; 64]>::as_slice)));
    }
    above.extend(rest.iter().map(|[left, right]| merkle::node(*left, *right)));
    above
}

/// The first 8 bytes, big-endian, of the BLAKE3 of each message.
pub(crate) fn blake3_heads<'a>(messages: impl Iterator<Item = &'a [u8]>) -> Vec<u64> {
    let is_wide = wide::is_here();
    let mut heads = Vec::with_capacity(messages.size_hint().0);
    // Places of the short messages that wait for the others of their sixteen.
    let (mut waiting, mut places) = ([&[][..]; BLAKE3_LANES], [0; BLAKE3_LANES]);
    let mut count = 0;
    for message in messages {
        if !is_wide || message.len() > BLAKE3_BLOCK {
            heads.push(head(message));
            continue;
        }
        (waiting[count], places[count]) = (message, heads.len());
        heads.push(0);
        count += 1;
        if count == BLAKE3_LANES {
            settle(&mut heads, &waiting, &places);
            count = 0;
        }
    }
    if count > 0 {
        // The lanes beyond hold empty messages, whose heads go to a place that is cut off.
        waiting[count..].fill(&[]);
        let spare = heads.len();
        heads.push(0);
        places[count..].fill(spare);
        settle(&mut heads, &waiting, &places);
        heads.truncate(spare);
    }
    heads
}

fn settle(heads: &mut [u64], waiting: &[&[u8]; BLAKE3_LANES], places: &[usize; BLAKE3_LANES]) {
    places.iter().zip(wide::blake3_heads(waiting)).for_each(|(place, head)| heads[*place] = head);
}

fn head(message: &[u8]) -> u64 {
    u64::from_be_bytes(*blake3::hash(message).as_bytes().first_chunk().expect("32 bytes hold 8"))
}

/// For each i the least of `a[i] x + b[i]` modulo 2^64 over `values`, or the largest number if there is none.
pub(crate) fn minima<const N: usize>(values: &[u64], a: &[u64; N], b: &[u64; N]) -> [u64; N] {
    const { assert!(N.is_multiple_of(32), "four vectors at a time") };
    if wide::is_here() { wide::minima(values, a, b) } else { std::array::from_fn(|i| least(values, a[i], b[i])) }
}

/// Four minima apart, so that none waits for the one before.
fn least(values: &[u64], a: u64, b: u64) -> u64 {
    let (fours, rest) = values.as_chunks::<4>();
    let mut least = [u64::MAX; 4];
    for four in fours {
        for (least, value) in least.iter_mut().zip(four) {
            *least = (*least).min(value.wrapping_mul(a).wrapping_add(b));
        }
    }
    let rest = rest.iter().map(|value| value.wrapping_mul(a).wrapping_add(b));
    least.into_iter().chain(rest).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(b"lanes").finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_text_root_is_that_of_the_plain_path() {
        let text = bytes(20_000);
        for len in (0..700).chain([767, 768, 769, 831, 832, 833, 1024, 4096, 4097, 16_384, 20_000]) {
            assert_eq!(text_root(&text[..len]), types::text::text_root(&text[..len]), "{len}");
            assert_eq!(text_top(&text[..len]), types::text::text_top(&text[..len]), "{len}");
        }
    }

    #[test]
    fn heads_are_those_of_the_plain_path_in_their_order() {
        let text = bytes(4000);
        for count in 0..50 {
            let messages: Vec<&[u8]> = (0..count).map(|at| &text[at..at + (at * 7) % 70]).collect();
            let plain: Vec<u64> = messages.iter().map(|message| head(message)).collect();
            assert_eq!(blake3_heads(messages.into_iter()), plain, "{count}");
        }
    }

    #[test]
    fn minima_are_those_of_the_plain_path() {
        let words = |from: usize| {
            bytes(8 * (from + 64))[8 * from..].as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word)).collect::<Vec<_>>()
        };
        let (a, b): ([u64; 64], [u64; 64]) = (words(0).try_into().unwrap(), words(64).try_into().unwrap());
        for count in 0..20 {
            let values = &words(128)[..count];
            let plain =
                std::array::from_fn(|i| values.iter().map(|value| value.wrapping_mul(a[i]).wrapping_add(b[i])).min().unwrap_or(u64::MAX));
            assert_eq!(minima(values, &a, &b), plain, "{count}");
            assert_eq!(std::array::from_fn::<u64, 64, _>(|i| least(values, a[i], b[i])), plain, "{count}");
        }
    }
}
