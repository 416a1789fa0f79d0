//! floor(256 log2(N / count)) in integers.
//!
//! Repeated squaring gives one binary digit of the logarithm per step. The quick path squares 62-bit bounds from below and above; where
//! they disagree about a digit (the ratio lies within 2^-54 of a step), the exact path squares numerator and denominator themselves.

use std::cmp::Ordering;

/// Fractional digits of a weight: 1/256 bit.
const DIGITS: u32 = 8;
/// Binary point of the bounds.
const POINT: u32 = 62;

/// floor(256 log2(`total` / `count`)); nothing if `count` is zero or above `total`.
pub fn weight(total: u64, count: u64) -> Option<u32> {
    if count == 0 || count > total {
        return None;
    }
    Some(bounded(total, count).unwrap_or_else(|| exact(total, count)))
}

/// Largest k with count 2^k <= total.
fn whole(total: u64, count: u64) -> u32 {
    let k = total.ilog2() - count.ilog2();
    if u128::from(count) << k <= u128::from(total) { k } else { k - 1 }
}

/// The quick path; nothing if the bounds do not decide.
fn bounded(total: u64, count: u64) -> Option<u32> {
    const TWO: u128 = 2 << POINT;
    let k = whole(total, count);
    let (numerator, denominator) = (u128::from(total) << POINT, u128::from(count) << k);
    let mut low = numerator / denominator;
    let mut high = numerator.div_ceil(denominator);
    let mut digits = k;
    for _ in 0..DIGITS {
        if high >= TWO {
            return None;
        }
        low = (low * low) >> POINT;
        high = (high * high).div_ceil(1 << POINT);
        digits <<= 1;
        if low >= TWO {
            digits |= 1;
            low >>= 1;
            high = high.div_ceil(2);
        } else if high >= TWO {
            return None;
        }
    }
    Some(digits)
}

/// The exact path: the ratio stays a fraction of two growing integers (at most 2 x 256 x 64 bits).
fn exact(total: u64, count: u64) -> u32 {
    let k = whole(total, count);
    let limbs = |wide: u128| vec![low_half(wide), low_half(wide >> 32), low_half(wide >> 64), low_half(wide >> 96)];
    let (mut numerator, mut denominator) = (limbs(u128::from(total)), limbs(u128::from(count) << k));
    let mut digits = k;
    for _ in 0..DIGITS {
        numerator = square(&numerator);
        denominator = square(&denominator);
        digits <<= 1;
        let twice = double(&denominator);
        if compare(&numerator, &twice) != Ordering::Less {
            digits |= 1;
            denominator = twice;
        }
    }
    digits
}

fn low_half(wide: u128) -> u32 {
    u32::try_from(wide & u128::from(u32::MAX)).expect("masked to 32 bits")
}

/// Square of little-endian limbs, without leading zeros.
fn square(a: &[u32]) -> Vec<u32> {
    let mut product = vec![0_u32; 2 * a.len()];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0_u64;
        for (j, y) in a.iter().enumerate() {
            let sum = u64::from(*x) * u64::from(*y) + u64::from(product[i + j]) + carry;
            product[i + j] = low_half(sum.into());
            carry = sum >> 32;
        }
        product[i + a.len()] = low_half(carry.into());
    }
    while product.last() == Some(&0) {
        product.pop();
    }
    product
}

fn double(a: &[u32]) -> Vec<u32> {
    let mut carry = 0;
    let mut twice: Vec<u32> = Vec::with_capacity(a.len() + 1);
    for x in a {
        twice.push(x << 1 | carry);
        carry = x >> 31;
    }
    if carry > 0 {
        twice.push(carry);
    }
    twice
}

/// Order of two numbers without leading zeros.
fn compare(a: &[u32], b: &[u32]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_equal_exact_integers_of_an_independent_script() {
        let mut tried = 0;
        for line in include_str!("../../fixtures/weights.tsv").lines() {
            let (name, value) = line.split_once('\t').unwrap();
            if let Some((total, count)) = name.split_once('/') {
                let (total, count) = (total.parse().unwrap(), count.parse().unwrap());
                assert_eq!(weight(total, count).unwrap().to_string(), value, "{name}");
                assert_eq!(exact(total, count).to_string(), value, "{name}");
                tried += 1;
            }
        }
        assert!(tried > 100, "{tried}");
    }

    #[test]
    fn powers_of_two_have_no_fraction_and_impossible_counts_no_weight() {
        assert_eq!(weight(1 << 40, 1 << 30), Some(2_560));
        assert_eq!(weight(7, 7), Some(0));
        assert_eq!(weight(7, 0), None);
        assert_eq!(weight(7, 8), None);
        assert_eq!(weight(u64::MAX, 1), Some(64 * 256 - 1));
    }

    proptest! {
        #[test]
        fn both_paths_agree(total in 1..u64::MAX, shift in 0..63_u32, low: u64) {
            let count = ((total >> shift) ^ (low & 0xff)).clamp(1, total);
            if let Some(quick) = bounded(total, count) {
                prop_assert_eq!(quick, exact(total, count));
            }
        }
    }
}
