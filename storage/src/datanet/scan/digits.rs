//! Digits in groups, and the checksums over them.

use super::plain::is_boundary;

/// Most digits a rule wants.
const DIGITS_MAX: usize = 24;

/// Groups of digits with one separator of one kind between them: ` `, `-` or `.`.
#[derive(Debug)]
pub(super) struct Groups {
    digits: [u8; DIGITS_MAX],
    /// Digits read up to the end of each group, and where in the text that is.
    ends: Vec<(usize, usize)>,
    separator: Option<u8>,
}

impl Groups {
    /// Reads from `at`, where a digit stands.
    pub(super) fn read(bytes: &[u8], mut at: usize) -> Self {
        let mut groups = Self { digits: [0; DIGITS_MAX], ends: Vec::new(), separator: None };
        let mut count = 0;
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        loop {
            while is_digit(at) && count < DIGITS_MAX {
                groups.digits[count] = bytes[at] - b'0';
                (count, at) = (count + 1, at + 1);
            }
            groups.ends.push((count, at));
            let separator = bytes.get(at).copied().filter(|byte| matches!(byte, b' ' | b'-' | b'.'));
            if count == DIGITS_MAX
                || separator.is_none()
                || !is_digit(at + 1)
                || groups.separator.is_some_and(|held| Some(held) != separator)
            {
                return groups;
            }
            groups.separator = separator;
            at += 1;
        }
    }

    /// The digits and the end of the first groups if those have these lengths and nothing goes on behind them.
    pub(super) fn shaped(&self, bytes: &[u8], shape: &[usize]) -> Option<(&[u8], usize)> {
        let mut before = 0;
        for (wanted, (count, _)) in shape.iter().zip(&self.ends) {
            if count - before != *wanted {
                return None;
            }
            before = *count;
        }
        let (count, end) = *self.ends.get(shape.len().checked_sub(1)?)?;
        let goes_on = self.ends.len() > shape.len() && self.separator != Some(b' ');
        (!goes_on && is_boundary(bytes, end)).then(|| (&self.digits[..count], end))
    }

    /// Whether the first groups have these lengths, whatever follows.
    pub(super) fn shaped_start(&self, shape: &[usize]) -> bool {
        let mut before = 0;
        let lengths = self.ends.iter().map(|(count, _)| count - std::mem::replace(&mut before, *count));
        self.ends.len() >= shape.len() && lengths.zip(shape).all(|(len, wanted)| len == *wanted)
    }

    /// What stands between the groups, if there are two.
    pub(super) const fn separator(&self) -> Option<u8> {
        self.separator
    }
}

/// Whether digits before `at` belong to the same number: `12.`, `12,`, `a-` or `a/` stands there.
pub(super) fn continues(bytes: &[u8], at: usize) -> bool {
    let Some([before, mark]) = at.checked_sub(2).and_then(|start| bytes[start..at].first_chunk()) else { return false };
    match mark {
        b'.' | b',' => before.is_ascii_digit(),
        b'-' | b'/' | b'_' => before.is_ascii_alphanumeric(),
        _ => false,
    }
}

/// The sum of digits times weights.
pub(super) fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

/// ISO/IEC 7812: every second digit from the right doubled, its digits summed.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 = digits.iter().rev().enumerate().map(|(at, digit)| u32::from(if at % 2 == 1 { doubled(*digit) } else { *digit })).sum();
    sum.is_multiple_of(10)
}

/// ISO 7064 MOD 11,10 over all digits, the last of them the check digit.
pub(super) fn mod_11_10(digits: &[u8]) -> bool {
    let Some((check, rest)) = digits.split_last() else { return false };
    let product = rest.iter().fold(10_u32, |product, digit| {
        let sum = (product + u32::from(*digit)) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(*check)
}

/// Verhoeff's check over the dihedral group of order ten.
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    let times = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + (b - 5)) % 5,
        (false, true) => 5 + ((a - 5) + 5 - b) % 5,
        (false, false) => ((a - 5) + 5 - (b - 5)) % 5,
    };
    const STEP: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let check = digits.iter().rev().enumerate().fold(0, |check, (at, digit)| {
        let moved = (0..at % 8).fold(*digit, |digit, _| STEP[usize::from(digit)]);
        times(check, moved)
    });
    check == 0
}

/// The remainder by 97 of a number written in digits and letters, a letter standing for its place in the alphabet plus nine.
pub(super) fn mod_97(symbols: impl Iterator<Item = u8>) -> Option<u32> {
    symbols.map(|symbol| char::from(symbol).to_digit(36)).try_fold(0, |rest: u32, value| {
        let value = value?;
        Some((rest * if value > 9 { 100 } else { 10 } + value) % 97)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
    }

    #[test]
    fn checksums_hold_for_published_examples_and_for_no_neighbour() {
        type Check = fn(&[u8]) -> bool;
        // ISO/IEC 7812 annex B; BZSt's example of a Steuer-ID; UIDAI's of an Aadhaar; Verhoeff's own.
        let examples: [(&str, Check); 5] =
            [("49927398716", luhn), ("4111111111111111", luhn), ("86095742719", mod_11_10), ("47036892816", mod_11_10), ("2363", verhoeff)];
        for (text, check) in examples {
            let right = digits(text);
            assert!(check(&right), "{text}");
            for at in 0..right.len() {
                for other in (0..10).filter(|digit| *digit != right[at]) {
                    let mut wrong = right.clone();
                    wrong[at] = other;
                    assert!(!check(&wrong), "{wrong:?}");
                }
            }
        }
        assert_eq!(mod_97(b"3214282912345698765432161182".iter().copied()), Some(1));
        assert_eq!(mod_97(b"12-".iter().copied()), None);
    }
}
