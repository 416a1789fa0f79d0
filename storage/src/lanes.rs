//! Hashes of many short messages side by side, one in each lane of a vector.
//!
//! For each word of a text the gate takes one BLAKE3 block and 128 multiplications: one at a time that is 13 and 9 ns a byte. With AVX-512, sixteen
//! BLAKE3 blocks go through the same instructions together, and eight multiplications. The path is chosen at run time; the plain one is `blake3`
//! itself, and every other is tested against it. Text roots have lanes of their own (`types::merkle`).

#[cfg(not(target_arch = "x86_64"))]
mod none;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(target_arch = "x86_64"))]
use none as wide;
#[cfg(target_arch = "x86_64")]
use x86 as wide;

/// Messages of BLAKE3 at once.
const BLAKE3_LANES: usize = 16;
/// Longest message of one BLAKE3 block.
const BLAKE3_BLOCK: usize = 64;

/// Calls `work`, which counts bits, as it reads where a count is one instruction: without, it is a dozen.
#[cfg(feature = "disk")]
pub(crate) fn counting<R>(work: impl FnOnce() -> R) -> R {
    wide::counting(work)
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
