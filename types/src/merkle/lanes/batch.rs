//! From messages to blocks side by side, and from states to digests.

use super::super::keccak;
use crate::id::Hash32;

/// Bytes that keccak256 takes in before each permutation.
pub(super) const RATE: usize = 136;

/// The words of `N` states, by place x + 5 y.
pub(super) type States<const N: usize> = [[u64; N]; 25];

/// Takes one block into each state and permutes them.
type Permute<const N: usize> = fn(&mut States<N>, &[[u8; RATE]; N]);

/// Permutations of a message of so many bytes: at least one byte of padding follows it.
const fn blocks(len: usize) -> usize {
    len / RATE + 1
}

/// keccak256 of `prefix` and each message, `N` at a time.
pub(super) fn keccak_each<const N: usize, M: AsRef<[u8]>>(
    prefix: &[u8],
    messages: impl IntoIterator<Item = M>,
    permute: Permute<N>,
) -> Vec<Hash32> {
    let messages = messages.into_iter();
    let mut digests = Vec::with_capacity(messages.size_hint().0);
    let (mut batch, mut blocks_each) = (Vec::with_capacity(N), 0);
    for message in messages {
        let blocks = blocks(prefix.len() + message.as_ref().len());
        if batch.len() == N || blocks_each != blocks {
            settle(&mut digests, prefix, &batch, blocks_each, permute);
            batch.clear();
            blocks_each = blocks;
        }
        batch.push(message);
    }
    settle(&mut digests, prefix, &batch, blocks_each, permute);
    digests
}

/// Hashes a batch of messages of `blocks_each` blocks each.
fn settle<const N: usize, M: AsRef<[u8]>>(digests: &mut Vec<Hash32>, prefix: &[u8], batch: &[M], blocks_each: usize, permute: Permute<N>) {
    if let [message] = batch {
        digests.push(keccak(&[prefix, message.as_ref()]));
        return;
    }
    // Lanes beyond the batch take in nothing, and nobody reads them.
    let mut states = [[0; N]; 25];
    for block in 0..blocks_each {
        let mut padded = [[0; RATE]; N];
        for (padded, message) in padded.iter_mut().zip(batch) {
            fill(padded, prefix, message.as_ref(), block);
        }
        permute(&mut states, &padded);
    }
    digests.extend((0..batch.len()).map(|lane| {
        let mut digest = Hash32::ZERO;
        for (bytes, states) in digest.0.as_chunks_mut().0.iter_mut().zip(&states) {
            *bytes = states[lane].to_le_bytes();
        }
        digest
    }));
}

/// Writes block number `block` of the padded message to a place that holds zeros.
fn fill(padded: &mut [u8; RATE], prefix: &[u8], message: &[u8], block: usize) {
    let from = block * RATE;
    let end = prefix.len() + message.len();
    if let Some(whole) = from.checked_sub(prefix.len()).and_then(|from| message.get(from..)?.first_chunk()) {
        *padded = *whole;
        return;
    }
    let mut at = 0;
    for part in [prefix, message] {
        let (start, stop) = (at.max(from), (at + part.len()).min(from + RATE));
        if start < stop {
            padded[start - from..stop - from].copy_from_slice(&part[start - at..stop - at]);
        }
        at += part.len();
    }
    if end < from + RATE {
        padded[end - from] = 1;
        padded[RATE - 1] |= 0x80;
    }
}
