//! Fee and split in integers: what an answer costs and who gets which wei (P6).

use serde::{Deserialize, Serialize};

use crate::amount::{Amount, AmountError};

/// Basis points that a split table divides.
pub const SPLIT_TOTAL: u16 = 10_000;

/// How an asset's fee is divided, in basis points; the sum is [`SPLIT_TOTAL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitTable {
    /// The answering node.
    pub node: u16,
    /// The agent's owner.
    pub agent: u16,
    /// The base model's owner.
    pub base: u16,
    /// The adapter's owner.
    pub adapter: u16,
    /// Contributors and treasuries.
    pub data: u16,
    /// Stakers.
    pub stakers: u16,
}

impl SplitTable {
    /// The rows in canonical order: node, agent, base, adapter, data, stakers.
    pub const fn rows(&self) -> [u16; 6] {
        [self.node, self.agent, self.base, self.adapter, self.data, self.stakers]
    }

    /// A table from rows in canonical order.
    pub const fn from_rows([node, agent, base, adapter, data, stakers]: [u16; 6]) -> Self {
        Self { node, agent, base, adapter, data, stakers }
    }

    /// Whether the rows sum to [`SPLIT_TOTAL`].
    pub fn is_whole(&self) -> bool {
        self.rows().into_iter().map(u32::from).sum::<u32>() == u32::from(SPLIT_TOTAL)
    }
}

/// Fee of an answer: floor((`tokens_in` x `rate_in` + `tokens_out` x `rate_out`) / 1000) + `protocol`. Rates are wei per 1,000 tokens.
///
/// # Errors
/// [`AmountError::Overflow`].
pub fn fee(tokens_in: u32, tokens_out: u32, rate_in: Amount, rate_out: Amount, protocol: Amount) -> Result<Amount, AmountError> {
    let (tokens_in, tokens_out) = (u128::from(tokens_in), u128::from(tokens_out));
    let times = |a: u128, b: u128| a.checked_mul(b).map(Amount).ok_or(AmountError::Overflow("fee"));
    // Each rate is whole thousands and a rest: so nothing on the way exceeds what comes out, and the contract, which has 256 bits, agrees.
    let whole = times(tokens_in, rate_in.0 / 1_000)?.plus(times(tokens_out, rate_out.0 / 1_000)?)?;
    let rest = (tokens_in * (rate_in.0 % 1_000) + tokens_out * (rate_out.0 % 1_000)) / 1_000;
    whole.plus(Amount(rest))?.plus(protocol)
}

/// floor(a x b / c) without losing the product's high half; nothing if c is zero or the quotient overflows.
pub fn mul_div(a: u128, b: u128, c: u128) -> Option<u128> {
    if let Some(product) = a.checked_mul(b) {
        return product.checked_div(c);
    }
    // Long division of the 256-bit product, bit by bit: at most 128 steps, on amounts near 2^128 only.
    let (high, low) = wide_mul(a, b);
    if c == 0 || high >= c {
        return None;
    }
    let (mut rest, mut quotient) = (high, 0_u128);
    for bit in (0..128).rev() {
        let carry = rest >> 127;
        rest = (rest << 1) | (low >> bit & 1);
        quotient <<= 1;
        if carry == 1 || rest >= c {
            rest = rest.wrapping_sub(c);
            quotient |= 1;
        }
    }
    Some(quotient)
}

fn wide_mul(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (low, mid, cross, high) = (a0 * b0, a1 * b0, a0 * b1, a1 * b1);
    let middle = (low >> 64) + (mid & LOW) + (cross & LOW);
    (high + (mid >> 64) + (cross >> 64) + (middle >> 64), (middle << 64) | (low & LOW))
}

/// Divides `total` by `weights` with the sequential remainder: x = left * w / weight left. The shares sum to `total` exactly; the last payee
/// with weight takes the rounding. Nothing if all weights are zero.
pub fn sequential_remainder(total: Amount, weights: &[u64]) -> Option<Vec<Amount>> {
    let mut weight_left: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let mut left = total.0;
    if weight_left == 0 {
        return None;
    }
    let shares = weights.iter().map(|weight| {
        let weight = u128::from(*weight);
        let share =
            if weight == 0 { 0 } else { mul_div(left, weight, weight_left).expect("weight <= weight left, so the share <= what is left") };
        left -= share;
        weight_left -= weight;
        Amount(share)
    });
    Some(shares.collect())
}

/// Who a part of a fee is for, as the parts tree codes it (P6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The protocol's constant.
    Protocol,
    /// The answering node.
    Node,
    /// The agent's owner.
    Agent,
    /// The base model's owner.
    Base,
    /// The adapter's owner.
    Adapter,
    /// Stakers.
    Stakers,
    /// The insurance pool.
    Insurance,
    /// Treasury of the manifest's Datanet with this number.
    Treasury(u8),
    /// Payee of the receipt's span with this number.
    Span(u16),
    /// The client: collected beyond its receipts.
    Refund,
}

impl Part {
    /// The code in a part leaf.
    pub fn code(self) -> u32 {
        match self {
            Self::Protocol => 0,
            Self::Node => 1,
            Self::Agent => 2,
            Self::Base => 3,
            Self::Adapter => 4,
            Self::Stakers => 5,
            Self::Insurance => 6,
            Self::Treasury(datanet) => 256 + u32::from(datanet),
            Self::Span(span) => 65_536 + u32::from(span),
            Self::Refund => 1 << 24,
        }
    }
}

/// Parts of one fee: every wei of it, in ascending code order, parts of zero left out.
///
/// `spans` are the receipt's span weights, `total_weight` its W, `treasuries` the manifest's Datanet weights.
///
/// # Errors
/// [`AmountError`] if `protocol` exceeds `fee` or span weights exceed `total_weight` so that the pot would be overdrawn.
pub fn parts(
    fee: Amount,
    protocol: Amount,
    table: &SplitTable,
    spans: &[u32],
    total_weight: u64,
    treasuries: &[u64],
) -> Result<Vec<(Part, Amount)>, AmountError> {
    let roles = table.rows().map(u64::from);
    let shares = sequential_remainder(fee.minus(protocol)?, &roles).ok_or(AmountError::Overflow("split table without weight"))?;
    let mut parts = vec![
        (Part::Protocol, protocol),
        (Part::Node, shares[0]),
        (Part::Agent, shares[1]),
        (Part::Base, shares[2]),
        (Part::Adapter, shares[3]),
        (Part::Stakers, shares[5]),
    ];
    parts.extend(data_parts(shares[4], spans, total_weight, treasuries)?);
    parts.retain(|(_, amount)| *amount != Amount::ZERO);
    parts.sort_by_key(|(part, _)| part.code());
    Ok(parts)
}

fn data_parts(pot: Amount, spans: &[u32], total_weight: u64, treasuries: &[u64]) -> Result<Vec<(Part, Amount)>, AmountError> {
    if total_weight == 0 || treasuries.is_empty() {
        return Ok(vec![(Part::Insurance, pot)]);
    }
    let mut left = pot;
    let mut parts = Vec::with_capacity(spans.len() + treasuries.len());
    for (number, weight) in spans.iter().enumerate() {
        let share = Amount(mul_div(pot.0, u128::from(*weight), u128::from(total_weight)).ok_or(AmountError::Overflow("span share"))?);
        left = left.minus(share)?;
        let number = u16::try_from(number).map_err(|_| AmountError::Overflow("span number"))?;
        parts.push((Part::Span(number), share));
    }
    match sequential_remainder(left, treasuries) {
        Some(shares) => {
            for (number, share) in shares.into_iter().enumerate() {
                parts.push((Part::Treasury(u8::try_from(number).map_err(|_| AmountError::Overflow("Datanet number"))?), share));
            }
        }
        None => parts.push((Part::Insurance, left)),
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_sum_to_the_total_for_every_input(total: u128, weights in proptest::collection::vec(any::<u64>(), 1..9)) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let shares = sequential_remainder(Amount(total), &weights).unwrap();
            prop_assert_eq!(Amount::sum(shares.iter().copied()), Ok(Amount(total)));
            for (share, weight) in shares.iter().zip(&weights) {
                prop_assert!(*weight > 0 || share.0 == 0);
            }
        }

        #[test]
        fn parts_sum_to_the_fee_for_every_input(fee: u128, protocol: u64, rows: [u16; 6], spans in proptest::collection::vec(0..1_000_u32, 0..9), more: u32, treasuries in proptest::collection::vec(any::<u64>(), 0..4)) {
            prop_assume!(fee >= u128::from(protocol) && rows.iter().any(|r| *r > 0));
            let weight = spans.iter().map(|w| u64::from(*w)).sum::<u64>() + u64::from(more);
            let parts = parts(Amount(fee), Amount(u128::from(protocol)), &SplitTable::from_rows(rows), &spans, weight, &treasuries).unwrap();
            prop_assert_eq!(Amount::sum(parts.iter().map(|p| p.1)), Ok(Amount(fee)));
            prop_assert!(parts.windows(2).all(|pair| pair[0].0.code() < pair[1].0.code()));
        }

        #[test]
        fn mul_div_agrees_with_plain_arithmetic_where_that_fits(a: u64, b: u64, c: u64) {
            prop_assume!(c > 0);
            prop_assert_eq!(mul_div(u128::from(a), u128::from(b), u128::from(c)), Some(u128::from(a) * u128::from(b) / u128::from(c)));
        }

        #[test]
        fn mul_div_undoes_a_wide_product(a: u128, b: u128) {
            prop_assume!(b > 0);
            prop_assert_eq!(mul_div(a, b, b), Some(a));
        }
    }

    #[test]
    fn spans_heavier_than_the_answer_are_refused() {
        let table = SplitTable { data: SPLIT_TOTAL, ..SplitTable::default() };
        assert!(parts(Amount(100), Amount(0), &table, &[90, 90], 100, &[1]).is_err());
    }

    #[test]
    fn an_answer_of_no_datanet_pays_insurance_whatever_its_spans_say() {
        let table = SplitTable { data: SPLIT_TOTAL, ..SplitTable::default() };
        assert_eq!(parts(Amount(100), Amount(0), &table, &[50], 100, &[]).unwrap(), [(Part::Insurance, Amount(100))]);
    }

    #[test]
    fn a_fee_is_refused_only_where_it_does_not_fit() {
        let most = Amount(u128::MAX);
        assert_eq!(fee(1_000, 0, most, most, Amount(0)), Ok(most), "the product has 138 bits, the fee 128");
        assert_eq!(fee(999, 1, most, most, Amount(0)), Ok(most));
        assert!(fee(1_000, 1, most, most, Amount(0)).is_err() && fee(1_000, 0, most, most, Amount(1)).is_err());
        assert_eq!(fee(3, 7, Amount(1_999), Amount(1), Amount(5)), Ok(Amount(11)), "6,004 thousandths and 5");
    }

    #[test]
    fn a_quotient_beyond_128_bits_is_none() {
        assert_eq!(mul_div(1 << 127, 2, 1), None, "2^128 is the first that does not fit");
        assert_eq!(mul_div(1 << 127, 4, 2), None);
        assert_eq!(mul_div(u128::MAX, 3, 3), Some(u128::MAX));
        assert_eq!((mul_div(1, 1, 0), mul_div(u128::MAX, 2, 0)), (None, None));
    }

    #[test]
    fn part_codes_are_those_of_the_part_leaves() {
        let roles = [Part::Protocol, Part::Node, Part::Agent, Part::Base, Part::Adapter, Part::Stakers, Part::Insurance];
        assert_eq!(roles.map(Part::code), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!([Part::Treasury(0), Part::Treasury(255)].map(Part::code), [256, 511]);
        assert_eq!([Part::Span(0), Part::Span(u16::MAX)].map(Part::code), [65_536, 131_071]);
        assert_eq!(Part::Refund.code(), 16_777_216);
    }

    #[test]
    fn an_answer_without_weight_pays_insurance() {
        let table = SplitTable { node: 5_000, data: 5_000, ..SplitTable::default() };
        assert_eq!(
            parts(Amount(101), Amount(1), &table, &[], 0, &[7]).unwrap(),
            [(Part::Protocol, Amount(1)), (Part::Node, Amount(50)), (Part::Insurance, Amount(50))]
        );
    }
}
