//! Which receipts of an epoch have parts, and what goes back to payers (PROTOCOL sections 5 and 7, Protocol P6).
//!
//! Which receipts are paid the chain decides: not void, not withheld, and their lane collected as far as they say, when W1 ended. Two receipts
//! that speak for one stretch of a lane are a fault and void, so what is paid on a lane is never above what it brought in. A refund is due in the
//! epoch that its request names and in no other: what the lane collected less the largest cumulative-after of its paid receipts so far.

use std::collections::BTreeMap;

use types::{
    amount::Amount,
    id::{Address, Hash32},
    receipt::Receipt,
};

use super::Refund;

/// A lane whose refund is due in the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueRefund {
    /// The lane.
    pub lane: Hash32,
    /// Its node.
    pub node: Address,
    /// Its payer.
    pub payer: Address,
    /// All that was collected on it: it has expired, so no more will be.
    pub collected: Amount,
}

/// What an epoch's receipts come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Funding {
    /// By node, the places of its receipts that are paid, ascending.
    pub counted: BTreeMap<Address, Vec<u64>>,
    /// What goes back, ascending by node and lane.
    pub refunds: Vec<Refund>,
    /// Largest cumulative-after of each lane's paid receipts up to here: what the next epoch builds on.
    pub standing: BTreeMap<Hash32, Amount>,
}

/// Sorts out an epoch: `standing` is the tree's before, `receipts` are each node's in the order of its root, `is_paid` is the chain's word.
pub fn fund(
    standing: &BTreeMap<Hash32, Amount>,
    receipts: &BTreeMap<Address, Vec<&Receipt>>,
    is_paid: impl Fn(Address, &Receipt) -> bool,
    due: impl IntoIterator<Item = DueRefund>,
) -> Funding {
    let mut funding = Funding { standing: standing.clone(), ..Funding::default() };
    for (node, receipts) in receipts {
        let paid = (0..).zip(receipts).filter(|(_, receipt)| receipt.node == *node && is_paid(*node, receipt));
        let mut counted = Vec::new();
        for (place, receipt) in paid {
            let stands = funding.standing.entry(receipt.lane).or_default();
            *stands = receipt.cumulative_after.max(*stands);
            counted.push(place);
        }
        funding.counted.insert(*node, counted);
    }
    for DueRefund { lane, node, payer, collected } in due {
        let stands = funding.standing.get(&lane).copied().unwrap_or_default();
        if let Some(amount) = collected.minus(stands).ok().filter(|amount| *amount > Amount::ZERO) {
            funding.refunds.push(Refund { node, lane, client: payer, amount });
        }
    }
    funding.refunds.sort_by_key(|refund| (refund.node, refund.lane));
    funding
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::sample;

    const LANE: Hash32 = Hash32([5; 32]);
    const NODE: Address = Address([1; 20]);
    const PAYER: Address = Address([2; 20]);

    fn receipt(lane: Hash32, base: u128, fee: u128) -> Receipt {
        let body = sample().bundle.receipt.document;
        Receipt { node: NODE, client: PAYER, lane, fee: Amount(fee), cumulative_after: Amount(base + fee), ..body }
    }

    fn due(collected: u128) -> DueRefund {
        DueRefund { lane: LANE, node: NODE, payer: PAYER, collected: Amount(collected) }
    }

    fn run(standing: u128, collected: u128, receipts: &[Receipt], due: Option<DueRefund>) -> (Vec<u64>, Vec<u128>, u128) {
        let standing = BTreeMap::from([(LANE, Amount(standing))]);
        let receipts = BTreeMap::from([(NODE, receipts.iter().collect())]);
        let funding = fund(&standing, &receipts, |_, receipt| receipt.cumulative_after <= Amount(collected), due);
        assert!(funding.refunds.iter().all(|refund| refund.client == PAYER && refund.node == NODE && refund.lane == LANE));
        let refunds = funding.refunds.iter().map(|refund| refund.amount.0).collect();
        (funding.counted[&NODE].clone(), refunds, funding.standing[&LANE].0)
    }

    #[test]
    fn receipts_are_paid_as_far_as_the_chain_says() {
        let both = [receipt(LANE, 0, 40), receipt(LANE, 40, 60)];
        assert_eq!(run(0, 100, &both, None), (vec![0, 1], vec![], 100));
        assert_eq!(run(0, 99, &both, None), (vec![0], vec![], 40), "the deposit did not reach");
        assert_eq!(run(0, 0, &both, None), (vec![], vec![], 0));
        let foreign = Receipt { node: Address([9; 20]), ..receipt(LANE, 0, 40) };
        assert_eq!(run(0, 100, &[foreign], None).0, [0_u64; 0], "another node's under this node's root");
    }

    #[test]
    fn a_refund_is_what_no_paid_receipt_of_this_or_an_earlier_epoch_speaks_for() {
        assert_eq!(run(0, 100, &[receipt(LANE, 0, 40)], Some(due(100))), (vec![0], vec![60], 40));
        assert_eq!(run(70, 100, &[receipt(LANE, 0, 40)], Some(due(100))), (vec![0], vec![30], 70));
        assert_eq!(run(100, 100, &[], Some(due(100))), (vec![], vec![], 100), "nothing is left");
        assert_eq!(run(0, 100, &[], None).1, [0_u128; 0], "not asked for");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn receipts_over_disjoint_stretches_and_a_refund_never_come_to_more_than_was_collected(fees in prop::collection::vec((0..100_u128, 0..20_u128), 0..12), collected in 0..1_500_u128, epochs in 1..4_usize) {
            let mut at = 0;
            let receipts: Vec<Receipt> = fees.iter().map(|(fee, gap)| { let made = receipt(LANE, at + gap, *fee); at += gap + fee; made }).collect();
            let (mut standing, mut paid) = (BTreeMap::new(), 0);
            let size = receipts.len().div_ceil(epochs).max(1);
            for chunk in receipts.chunks(size) {
                let funding = fund(&standing, &BTreeMap::from([(NODE, chunk.iter().collect())]), |_, receipt| receipt.cumulative_after.0 <= collected, None);
                paid += funding.counted[&NODE].iter().map(|place| chunk[usize::try_from(*place).unwrap()].fee.0).sum::<u128>();
                standing = funding.standing;
            }
            let last = fund(&standing, &BTreeMap::new(), |_, _| false, Some(due(collected)));
            paid += last.refunds.iter().map(|refund| refund.amount.0).sum::<u128>();
            prop_assert!(paid <= collected);
        }
    }
}
