//! Text in fewer bits, which compare as it does: a code of pairs of bytes.
//!
//! Each pair of bytes has a code, a frequent one a short one. Codes ascend as pairs do and none begins another, so what two windows' codes say, one
//! pair after the other, compares as the windows do. A frequent pair takes fewer bits than two bytes have, so a key of codes
//! says more of a window than one of bytes. Which code it is decides how soon windows are told apart and nothing else.

use crate::index::as_index;

/// All pairs.
const PAIRS: usize = 1 << 16;
/// Bits of the longest code.
const LONGEST: u32 = 24;
/// What is said whole of a window that is said to its end.
pub(super) const ENDED: u8 = 0;

/// Bits by which a code is looked up.
const LOOKED_UP: u32 = 12;

/// A code: of each pair the bits of it, highest first, and in the lowest byte how many they are.
#[derive(Debug)]
pub(super) struct Code {
    codes: Vec<u32>,
    /// Of whatever bits a code begins with, how many codes are below those and zeros.
    below: Vec<u32>,
}

/// Where two windows part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// In this bit.
    Bit(u16),
    /// In the pair behind so many, of which not all is said.
    Pair(u8),
}

/// In which bit two windows part that differ in a pair, behind so many that are the same.
pub(super) fn parting_bit(pairs: u8, a: u16, b: u16) -> u16 {
    let bits = u32::from(pairs) * u16::BITS + (a ^ b).leading_zeros();
    u16::try_from(bits).expect("a window has 2,048 bits")
}

impl Code {
    /// A code for text whose pairs of neighbours are so frequent: one count for each of the 65,536 pairs, the first byte being the higher one.
    ///
    /// Pairs are divided where the halves weigh the same as nearly as can be, which costs two bits at most above the least, and into equally many
    /// where codes would become too long.
    pub(super) fn of(counts: &[u32]) -> Self {
        let sums: Vec<u64> = std::iter::once(0)
            .chain(counts.iter().scan(0, |sum, count| {
                *sum += u64::from(*count) + 1;
                Some(*sum)
            }))
            .collect();
        let mut codes = vec![0; counts.len()];
        let mut left = vec![(0, counts.len(), 0_u32, 0_u32)];
        while let Some((first, end, bits, length)) = left.pop() {
            if end - first == 1 {
                codes[first] = bits | length;
                continue;
            }
            let least = (end - first - 1).ilog2() + 1;
            let middle = if length + least < LONGEST {
                let half = u64::midpoint(sums[first], sums[end]);
                let after = first + sums[first..end].partition_point(|sum| *sum <= half);
                let is_before_nearer = after == end || half - sums[after - 1] < sums[after] - half;
                (after - usize::from(is_before_nearer)).clamp(first + 1, end - 1)
            } else {
                usize::midpoint(first, end)
            };
            left.push((first, middle, bits, length + 1));
            left.push((middle, end, bits | 1 << (31 - length), length + 1));
        }
        let below = (0..=1 << LOOKED_UP).map(|first: u32| codes.partition_point(|code| code >> 8 < first << (LONGEST - LOOKED_UP)));
        let below = below.map(|count| u32::try_from(count).expect("there are 65,536 pairs")).collect();
        Self { codes, below }
    }

    /// The pair whose code these bits begin with, and the length of that.
    fn read(&self, bits: u128) -> (u16, u32) {
        let bits = u32::try_from(bits >> (u128::BITS - LONGEST)).expect("a code has so many bits");
        let first = usize::try_from(bits >> (LONGEST - LOOKED_UP)).expect("a few bits");
        let [from, to] = [self.below[first], self.below[first + 1]].map(as_index);
        let up_to = from + self.codes[from..to].partition_point(|code| code >> 8 <= bits);
        let pair = up_to.saturating_sub(1);
        (u16::try_from(pair).expect("there are 65,536 pairs"), self.codes[pair] & 0xff)
    }

    /// Where two windows part of which other codes are written, so many bits of each, the highest.
    pub(super) fn parting(&self, a: u128, b: u128, written: u32) -> Parting {
        let differs = (a ^ b).leading_zeros();
        let (mut at, mut pairs) = (0, 0);
        loop {
            let (pair, length) = self.read(a << at);
            if at + length > differs {
                let (other, also) = self.read(b << at);
                let is_said = at + length.max(also) <= written;
                return if is_said { Parting::Bit(parting_bit(pairs, pair, other)) } else { Parting::Pair(pairs) };
            }
            at += length;
            pairs += 1;
        }
    }

    /// Writes what `window` begins with, up to its first zero byte: as much as `out` holds, the lowest `unused` bits of its last word left zero. At least
    /// [`LONGEST`] bits must be left in that word. Returns how many pairs are said whole, or [`ENDED`] if all are: the bits alone decide that.
    pub(super) fn write(&self, window: &[u8], out: &mut [u64], unused: u32) -> u8 {
        out.fill(0);
        let last = out.len() - 1;
        let (mut place, mut word, mut free, mut pairs) = (0, 0, u64::BITS, 0);
        for pair in window.as_chunks().0 {
            // Nothing counts behind a zero.
            let pair = if pair[0] == 0 { 0 } else { u16::from_be_bytes(*pair) };
            let coded = self.codes[usize::from(pair)];
            let (bits, length) = (u64::from(coded & !0xff) << u32::BITS, coded & 0xff);
            word |= bits >> (u64::BITS - free);
            if place == last && length > free - unused {
                out[last] = word & u64::MAX << unused;
                return pairs;
            }
            if length < free {
                free -= length;
            } else {
                out[place] = word;
                place += 1;
                word = bits << free;
                free += u64::BITS - length;
            }
            if pair.to_be_bytes()[1] == 0 {
                break;
            }
            pairs += 1;
        }
        out[place] = word;
        ENDED
    }
}

/// Counts pairs of neighbours.
#[derive(Debug)]
pub(super) struct Counts(Vec<u32>);

impl Counts {
    pub(super) fn new() -> Self {
        Self(vec![0; PAIRS])
    }

    /// Adds those of a piece of text, which must be short enough that no count goes beyond 32 bits.
    pub(super) fn add(&mut self, text: &[u8]) {
        for pair in text.array_windows() {
            self.0[usize::from(u16::from_be_bytes(*pair))] += 1;
        }
    }

    pub(super) fn code(&self) -> Code {
        Code::of(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::text::WINDOW;

    use super::*;
    use crate::index::parting;

    fn ended(window: &[u8]) -> &[u8] {
        &window[..window.iter().position(|byte| *byte == 0).unwrap_or(window.len())]
    }

    fn windows() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop_oneof![8 => Just(b'a'), 4 => Just(b'b'), 1 => Just(0_u8), 1 => Just(1_u8), 1 => Just(0xff_u8), 1 => any::<u8>()];
        proptest::collection::vec(bytes, WINDOW)
    }

    proptest! {
        #[test]
        fn codes_compare_as_windows_do(a in windows(), b in windows(), same in 0..WINDOW, words in 1..6_usize, unused in 8..40_u32, seed in any::<u32>()) {
            let mut counts = Counts::new();
            counts.0.iter_mut().zip(0_u32..).for_each(|(count, pair)| *count = (pair ^ seed).wrapping_mul(2_654_435_761) >> (pair % 31));
            counts.add(&a);
            let code = counts.code();
            let b = [&a[..same], &b[same..]].concat();
            let written = |window: &[u8]| {
                let mut out = vec![u64::MAX; words];
                let said = code.write(window, &mut out, unused);
                assert!(out[words - 1].trailing_zeros() >= unused);
                (out, said)
            };
            let ((first, said), (second, also)) = (written(&a), written(&b));
            let order = ended(&a).cmp(ended(&b));
            if words == 2 && first != second {
                let number = |of: &[u64]| u128::from(of[0]) << 64 | u128::from(of[1]);
                let expected = parting(&a, &b);
                match code.parting(number(&first), number(&second), 128 - unused) {
                    Parting::Bit(bit) => prop_assert_eq!(bit, expected),
                    Parting::Pair(pairs) => {
                        let pair = |window: &[u8]| {
                            let bytes = ended(window).iter().copied().chain([0; 2]).skip(2 * usize::from(pairs)).collect::<Vec<u8>>();
                            u16::from_be_bytes([bytes[0], bytes[1]])
                        };
                        prop_assert_eq!(parting_bit(pairs, pair(&a), pair(&b)), expected);
                    }
                }
            }
            if first == second {
                prop_assert_eq!(said, also);
                let whole = 2 * usize::from(said);
                let is_so = if said == ENDED { order.is_eq() } else { a[..whole] == b[..whole] && !a[..whole].contains(&0) };
                prop_assert!(is_so, "{said}");
            } else {
                prop_assert_eq!(first.cmp(&second), order);
            }
        }
    }

    #[test]
    fn codes_ascend_and_none_begins_another_or_is_too_long() {
        let steep: Vec<u32> = (0..PAIRS).map(|pair| 1_u32.checked_shl(u32::try_from(pair % 60).unwrap()).unwrap_or(0)).collect();
        let fibonacci: Vec<u32> = (0..PAIRS)
            .scan((1_u32, 1_u32), |(a, b), _| {
                (*a, *b) = (*b, a.saturating_add(*b));
                Some(*a)
            })
            .collect();
        for counts in [vec![0; PAIRS], steep, fibonacci] {
            let Code { codes, .. } = Code::of(&counts);
            let mut next = 0_u64;
            for code in codes {
                let (bits, length) = (u64::from(code >> 8), code & 0xff);
                assert!((1..=LONGEST).contains(&length) && bits == next, "{code:x}");
                next = bits + (1 << (LONGEST - length));
            }
            assert_eq!(next, 1 << LONGEST);
        }
    }
}
