//! Which receipts of an epoch are backed by collected money, and what was collected for nothing (PROTOCOL sections 5 and 7).
//!
//! A lane's money is one line of wei, numbered from 0. A receipt speaks for the stretch (cumulative-after - fee, cumulative-after]; it counts if
//! its node and client are the lane's, the stretch was collected when the node submitted its root, and no receipt or refund of this tree or an
//! earlier one has taken from it. So no tree owes more than its lanes brought in, whatever nodes sign and clients deposit, one voucher pays one
//! receipt, and a receipt posted twice is paid once. What was collected so long ago that no receipt may speak for it any more goes back to the payer.

use std::collections::BTreeMap;

use types::{
    amount::Amount,
    id::{Address, Hash32},
    receipt::Receipt,
};

use super::Refund;

/// Blocks after which what was collected and not receipted is its payer's: contracts void a receipt that names a block this far behind its
/// posting, and no voucher is older than the block its answer names.
pub const REFUND_BLOCKS: u64 = 256;

/// A lane as the chain has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneFunds {
    /// Who paid.
    pub payer: Address,
    /// Who was paid.
    pub node: Address,
    /// Collected when the node submitted its root of the epoch; zero if it submitted none.
    pub collected: Amount,
    /// Collected [`REFUND_BLOCKS`] before the epoch opened.
    pub settled: Amount,
}

/// What an epoch's receipts come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Funding {
    /// By node, the places of its receipts that count, ascending.
    pub counted: BTreeMap<Address, Vec<u64>>,
    /// What goes back, ascending by node and place.
    pub refunds: Vec<Refund>,
    /// Up to where each lane's money is spoken for now: what the next epoch builds on.
    pub standing: BTreeMap<Hash32, Amount>,
}

/// Sorts out an epoch: `standing` is the tree's before, `receipts` are each node's in the order of its root.
pub fn fund(
    standing: &BTreeMap<Hash32, Amount>,
    lanes: &BTreeMap<Hash32, LaneFunds>,
    receipts: &BTreeMap<Address, Vec<&Receipt>>,
) -> Funding {
    let mut funding = Funding { standing: standing.clone(), ..Funding::default() };
    for (node, receipts) in receipts {
        let mut counted = Vec::new();
        for (place, receipt) in (0..).zip(receipts) {
            let stands = funding.standing.get(&receipt.lane).copied().unwrap_or_default();
            if lanes.get(&receipt.lane).is_some_and(|lane| is_backed(*node, receipt, lane, stands)) {
                funding.standing.insert(receipt.lane, receipt.cumulative_after);
                counted.push(place);
            }
        }
        funding.counted.insert(*node, counted);
    }
    let mut places: BTreeMap<Address, u64> = BTreeMap::new();
    for (id, lane) in lanes {
        let stands = funding.standing.get(id).copied().unwrap_or_default();
        let Some(amount) = lane.settled.minus(stands).ok().filter(|amount| *amount > Amount::ZERO) else { continue };
        funding.standing.insert(*id, lane.settled);
        // Places behind the node's last receipt: a lane may have none in this epoch, and a node several such lanes.
        let first = receipts.get(&lane.node).map_or(0, |receipts| u64::try_from(receipts.len()).unwrap_or(u64::MAX));
        let place = places.entry(lane.node).or_insert(first);
        funding.refunds.push(Refund { node: lane.node, receipt: *place, client: lane.payer, amount });
        *place = place.saturating_add(1);
    }
    funding.refunds.sort_by_key(|refund| (refund.node, refund.receipt));
    funding
}

fn is_backed(node: Address, receipt: &Receipt, lane: &LaneFunds, stands: Amount) -> bool {
    let is_theirs = receipt.node == node && lane.node == node && lane.payer == receipt.client;
    let is_billable = receipt.reason.is_billable();
    let base = receipt.cumulative_after.minus(receipt.fee);
    is_theirs && is_billable && base.is_ok_and(|base| base >= stands) && receipt.cumulative_after <= lane.collected
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

    fn lane(collected: u128, settled: u128) -> LaneFunds {
        LaneFunds { payer: PAYER, node: NODE, collected: Amount(collected), settled: Amount(settled) }
    }

    fn run(standing: u128, lane: LaneFunds, receipts: &[Receipt]) -> (Vec<u64>, Vec<(u64, u128)>, u128) {
        let standing = BTreeMap::from([(LANE, Amount(standing))]);
        let receipts = BTreeMap::from([(NODE, receipts.iter().collect())]);
        let funding = fund(&standing, &BTreeMap::from([(LANE, lane)]), &receipts);
        assert!(funding.refunds.iter().all(|refund| refund.client == PAYER && refund.node == NODE));
        let refunds = funding.refunds.iter().map(|refund| (refund.receipt, refund.amount.0)).collect();
        (funding.counted[&NODE].clone(), refunds, funding.standing[&LANE].0)
    }

    #[test]
    fn receipts_count_as_far_as_their_lane_was_collected() {
        let both = [receipt(LANE, 0, 40), receipt(LANE, 40, 60)];
        assert_eq!(run(0, lane(100, 0), &both), (vec![0, 1], vec![], 100));
        assert_eq!(run(0, lane(99, 0), &both), (vec![0], vec![], 40), "the deposit did not reach");
        assert_eq!(run(0, lane(0, 0), &both), (vec![], vec![], 0));
    }

    #[test]
    fn one_voucher_sum_pays_one_receipt_within_an_epoch_and_across_epochs() {
        let twice = [receipt(LANE, 0, 40), receipt(LANE, 0, 40), receipt(LANE, 10, 60), receipt(LANE, 40, 30)];
        assert_eq!(run(0, lane(100, 0), &twice), (vec![0, 3], vec![], 70));
        assert_eq!(run(70, lane(100, 0), &twice), (vec![], vec![], 70), "posted again in a later epoch");
    }

    #[test]
    fn a_receipt_on_a_lane_of_others_or_over_more_than_it_says_does_not_count() {
        let strange = LaneFunds { payer: Address([9; 20]), ..lane(100, 0) };
        assert_eq!(run(0, strange, &[receipt(LANE, 0, 40)]).0, [0_u64; 0]);
        let foreign = LaneFunds { node: Address([9; 20]), ..lane(100, 0) };
        assert_eq!(run(0, foreign, &[receipt(LANE, 0, 40)]).0, [0_u64; 0]);
        let inflated = Receipt { fee: Amount(90), ..receipt(LANE, 0, 40) };
        assert_eq!(run(0, lane(100, 0), &[inflated]).0, [0_u64; 0], "a fee above the lane's own sum");
    }

    #[test]
    fn what_was_collected_long_ago_without_a_receipt_goes_back_once() {
        assert_eq!(run(0, lane(100, 100), &[receipt(LANE, 0, 40)]), (vec![0], vec![(1, 60)], 100));
        assert_eq!(run(100, lane(100, 100), &[]), (vec![], vec![], 100), "not twice");
        assert_eq!(run(0, lane(100, 0), &[receipt(LANE, 0, 40)]).1, [], "its receipt may still come");
        assert_eq!(
            run(100, lane(100, 100), &[receipt(LANE, 40, 60)]).0,
            [0_u64; 0],
            "a receipt that comes after the refund is not paid too"
        );
    }

    #[test]
    fn lanes_of_a_node_that_posts_nothing_are_refunded_at_places_of_their_own() {
        let lanes: BTreeMap<Hash32, LaneFunds> = (1..=3_u8).map(|byte| (Hash32([byte; 32]), lane(0, u128::from(byte)))).collect();
        let refunds = fund(&BTreeMap::new(), &lanes, &BTreeMap::new()).refunds;
        assert_eq!(refunds.iter().map(|refund| (refund.receipt, refund.amount.0)).collect::<Vec<_>>(), [(0, 1), (1, 2), (2, 3)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_lane_ever_pays_out_more_than_it_brought_in(epochs in prop::collection::vec((0..200_u128, 0..200_u128, prop::collection::vec((0..3_u8, 0..200_u128, 0..100_u128), 0..8)), 1..6)) {
            let (mut standing, mut collected, mut settled, mut paid) = (BTreeMap::new(), [0_u128; 3], [0_u128; 3], [0_u128; 3]);
            let body = receipt(LANE, 0, 1);
            for (more, old, receipts) in epochs {
                for lane in 0..3 {
                    collected[lane] += more;
                    settled[lane] = settled[lane].max(old.min(collected[lane]));
                }
                let id = |lane: u8| Hash32([lane; 32]);
                let lanes = (0..3_u8).map(|number| (id(number), lane(collected[usize::from(number)], settled[usize::from(number)]))).collect();
                let receipts: Vec<Receipt> = receipts.into_iter().map(|(lane, base, fee)| Receipt { lane: id(lane), fee: Amount(fee), cumulative_after: Amount(base + fee), ..body.clone() }).collect();
                let funding = fund(&standing, &lanes, &BTreeMap::from([(NODE, receipts.iter().collect())]));
                for place in &funding.counted[&NODE] {
                    let receipt = &receipts[usize::try_from(*place).unwrap()];
                    paid[usize::from(receipt.lane.0[0])] += receipt.fee.0;
                }
                let refunded: u128 = funding.refunds.iter().map(|refund| refund.amount.0).sum();
                let moved: u128 = (0..3_u8).map(|number| funding.standing.get(&id(number)).map_or(0, |amount| amount.0)).sum();
                paid[0] += refunded;
                prop_assert!(paid.iter().sum::<u128>() <= moved && moved <= collected.iter().sum::<u128>());
                standing = funding.standing;
            }
        }
    }
}
