//! Which receipts of a node count, in which order, and which convict it (F3).

use std::collections::{BTreeMap, BTreeSet};

use types::{
    amount::{Amount, AmountError},
    encoding::Document as _,
    id::{Address, Hash32},
    key::{Domains, SignatureError, Signed},
    merkle::{SumTree, Summed, sum_root},
    operator::{NodeRoot, RECEIPTS_MAX, receipt_leaf},
    receipt::Receipt,
};

/// Why a receipt does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedWhy {
    /// Signed by nobody or by somebody else.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Another node's.
    #[error("the receipt is of node {got}, collected are those of {expected}")]
    Node {
        /// The receipt's node.
        got: Address,
        /// The one collected for.
        expected: Address,
    },
    /// An answer that may not be billed is.
    #[error("the receipt bills {0} wei for an answer that failed")]
    NotBillable(Amount),
}

/// A receipt that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its hash.
    pub receipt: Hash32,
    /// Why.
    pub why: RefusedWhy,
}

/// Two receipts that one honest node never signs both of: different bodies for one attempt, or one output token billed twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equivocation {
    /// The one with the smaller hash.
    pub first: Signed<Receipt>,
    /// The other.
    pub second: Signed<Receipt>,
}

/// A node's receipts, sorted out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Those that count, by block, request and attempt.
    pub receipts: Vec<Signed<Receipt>>,
    /// Pairs that contradict each other; neither of a pair counts. Each receipt that contradicts another is in one, at most two pairs a receipt.
    pub equivocations: Vec<Equivocation>,
    /// What was refused, by hash.
    pub refused: Vec<Refused>,
}

/// Sorts out the receipts of `node`: foreign and unsigned ones refused, repeated ones dropped, contradicting ones set aside, the rest in order.
pub fn collect(domains: &Domains, node: Address, receipts: impl IntoIterator<Item = Signed<Receipt>>) -> Collected {
    let mut valid: BTreeMap<Hash32, Signed<Receipt>> = BTreeMap::new();
    let mut refused: BTreeMap<Hash32, RefusedWhy> = BTreeMap::new();
    for receipt in receipts {
        let hash = receipt.document.hash();
        match check(domains, node, &receipt) {
            Ok(()) => drop(valid.insert(hash, receipt)),
            Err(why) => drop(refused.insert(hash, why)),
        }
    }
    // A valid signature over a body outweighs a broken copy of it.
    refused.retain(|hash, _| !valid.contains_key(hash));
    let (equivocations, void) = contradictions(&valid);
    let mut receipts: Vec<_> = valid.into_iter().filter(|(hash, _)| !void.contains(hash)).map(|(_, receipt)| receipt).collect();
    receipts.sort_by_key(|receipt| (receipt.document.block.number, receipt.document.request, receipt.document.attempt));
    Collected { receipts, equivocations, refused: refused.into_iter().map(|(receipt, why)| Refused { receipt, why }).collect() }
}

fn check(domains: &Domains, node: Address, receipt: &Signed<Receipt>) -> Result<(), RefusedWhy> {
    let body = &receipt.document;
    if body.node != node {
        return Err(RefusedWhy::Node { got: body.node, expected: node });
    }
    if !body.reason.is_billable() && body.fee != Amount::ZERO {
        return Err(RefusedWhy::NotBillable(body.fee));
    }
    Ok(receipt.verify(domains, node)?)
}

/// Pairs within one request or one lane that exclude each other, and the hashes of all in them: every receipt that contradicts another is in a pair, and
/// there are at most three pairs a receipt, however many a node signed (attempts are its own to number).
fn contradictions(valid: &BTreeMap<Hash32, Signed<Receipt>>) -> (Vec<Equivocation>, BTreeSet<Hash32>) {
    let mut requests: BTreeMap<Hash32, Vec<Hash32>> = BTreeMap::new();
    for (hash, receipt) in valid {
        requests.entry(receipt.document.request).or_default().push(*hash);
    }
    let mut pairs = BTreeSet::new();
    for same in requests.values() {
        pairs.extend(same_attempt(valid, same));
        pairs.extend(billed_twice(valid, same, |receipt| {
            let start = u128::from(receipt.first_token);
            (start, start + u128::from(receipt.tokens_out))
        }));
    }
    let mut lanes: BTreeMap<Hash32, Vec<Hash32>> = BTreeMap::new();
    for (hash, receipt) in valid {
        lanes.entry(receipt.document.lane).or_default().push(*hash);
    }
    for same in lanes.values() {
        let stretch = |receipt: &Receipt| (receipt.cumulative_after.0.saturating_sub(receipt.fee.0), receipt.cumulative_after.0);
        pairs.extend(billed_twice(valid, same, stretch));
    }
    let void = pairs.iter().flat_map(|(first, second)| [*first, *second]).collect();
    let equivocation = |(first, second)| Equivocation { first: valid[&first].clone(), second: valid[&second].clone() };
    (pairs.into_iter().map(equivocation).collect(), void)
}

/// The first receipt of each attempt with each other one of it.
fn same_attempt(valid: &BTreeMap<Hash32, Signed<Receipt>>, same: &[Hash32]) -> Vec<(Hash32, Hash32)> {
    let mut first_of = BTreeMap::new();
    same.iter()
        .filter_map(|hash| {
            let first = *first_of.entry(valid[hash].document.attempt).or_insert(*hash);
            (first != *hash).then(|| ordered(first, *hash))
        })
        .collect()
}

/// Billed receipts in the order of where they start (tokens of a request, wei of a lane), each that starts before an earlier one ended paired with the one that reaches furthest.
/// None is missed: of two that overlap, the later one starts before the furthest end; and the earlier one either starts before an end itself or
/// is the furthest when its successor comes, which starts no later than the other.
fn billed_twice(
    valid: &BTreeMap<Hash32, Signed<Receipt>>,
    same: &[Hash32],
    stretch: impl Fn(&Receipt) -> (u128, u128),
) -> Vec<(Hash32, Hash32)> {
    let mut billed: Vec<_> = same
        .iter()
        .map(|hash| (&valid[hash].document, *hash))
        .filter(|(receipt, _)| receipt.reason.is_billable())
        .map(|(receipt, hash)| (stretch(receipt), hash))
        .filter(|((start, end), _)| start < end)
        .map(|((start, end), hash)| (start, end, hash))
        .collect();
    billed.sort_unstable();
    let mut furthest: Option<(u128, Hash32)> = None;
    let mut pairs = Vec::new();
    for (start, end, hash) in billed {
        if let Some((_, other)) = furthest.filter(|(reached, _)| start < *reached) {
            pairs.push(ordered(other, hash));
        }
        if furthest.is_none_or(|(reached, _)| end > reached) {
            furthest = Some((end, hash));
        }
    }
    pairs
}

fn ordered(a: Hash32, b: Hash32) -> (Hash32, Hash32) {
    (a.min(b), a.max(b))
}

/// The sum tree over receipt hashes in the node's order, each with its fee.
///
/// # Errors
/// [`AmountError::Overflow`] if the fees do not sum.
pub fn receipts_tree(receipts: &[Signed<Receipt>]) -> Result<SumTree, AmountError> {
    SumTree::new(receipts.iter().map(|receipt| leaf(&receipt.document)).collect())
}

/// Why receipts make no root that a node can submit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// More than one root covers.
    #[error("{got} receipts, at most {RECEIPTS_MAX} stand under one root: leave the others to the next epoch")]
    TooMany {
        /// How many there are.
        got: usize,
    },
    /// Their fees do not sum.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

/// What the node signs for an epoch.
///
/// # Errors
/// [`RootError`].
pub fn node_root(node: Address, epoch: u64, receipts: &[Signed<Receipt>]) -> Result<NodeRoot, RootError> {
    may_stand(receipts.len())?;
    Ok(root_over(node, epoch, receipts.iter().map(|receipt| &receipt.document))?)
}

/// Whether so many receipts stand under one root.
fn may_stand(count: usize) -> Result<(), RootError> {
    u64::try_from(count).ok().filter(|count| *count <= RECEIPTS_MAX).map(|_| ()).ok_or(RootError::TooMany { got: count })
}

/// The same over receipts that lie elsewhere; no tree is kept.
pub(super) fn root_over<'r>(node: Address, epoch: u64, receipts: impl Iterator<Item = &'r Receipt>) -> Result<NodeRoot, AmountError> {
    let leaves: Vec<Summed> = receipts.map(leaf).collect();
    let count = u64::try_from(leaves.len()).expect("a length in memory fits 64 bits");
    let (receipts, fees) = sum_root(leaves)?;
    Ok(NodeRoot { node, epoch, receipts, count, fees })
}

fn leaf(receipt: &Receipt) -> Summed {
    receipt_leaf(receipt.hash(), receipt.fee)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::receipt::Reason;

    use super::*;
    use crate::sample::{ANSWER, account, answer, sample};

    fn some() -> (Domains, Address, Vec<Signed<Receipt>>) {
        let sample = sample();
        let receipts = (0_u8..4)
            .map(|nonce| answer(&sample.node, &sample.index, nonce.into(), &ANSWER[..ANSWER.len() - usize::from(nonce)]))
            // Each answer is paid on a lane of its own.
            .zip(1_u8..)
            .map(|(bundle, lane)| changed(&bundle.receipt, &sample.bundle.domains, |receipt| receipt.lane = Hash32([lane; 32])))
            .collect();
        (sample.bundle.domains, sample.node.address(), receipts)
    }

    #[test]
    fn a_root_covers_at_most_what_the_contract_takes() {
        assert_eq!(may_stand(1 << 16), Ok(()));
        assert_eq!(may_stand((1 << 16) + 1), Err(RootError::TooMany { got: 65_537 }));
        assert!(may_stand(usize::MAX).is_err());
    }

    fn changed(receipt: &Signed<Receipt>, domains: &Domains, change: impl FnOnce(&mut Receipt)) -> Signed<Receipt> {
        let mut document = receipt.document.clone();
        change(&mut document);
        Signed::new(&account(7), domains, document)
    }

    #[test]
    fn receipts_of_other_requests_that_speak_for_the_same_wei_of_a_lane_are_equivocations() {
        let (domains, node, receipts) = some();
        let on_lane = |at: usize, fee, cumulative| {
            changed(&receipts[at], &domains, |r| (r.lane, r.fee, r.cumulative_after) = (Hash32([9; 32]), Amount(fee), Amount(cumulative)))
        };
        let (first, shares, behind) = (on_lane(0, 100, 100), on_lane(1, 51, 150), on_lane(2, 50, 200));
        let collected = collect(&domains, node, [first.clone(), shares.clone(), behind.clone()]);
        assert_eq!(collected.equivocations.len(), 1);
        assert_eq!(collected.receipts, std::slice::from_ref(&behind));
        let disjoint = collect(&domains, node, [first, on_lane(1, 50, 150), behind]);
        assert_eq!((disjoint.equivocations.len(), disjoint.receipts.len()), (0, 3), "stretches that meet share no wei");
    }

    #[test]
    fn two_bodies_of_one_attempt_and_tokens_billed_twice_are_equivocations_and_void() {
        let (domains, node, receipts) = some();
        let other_body = changed(&receipts[0], &domains, |r| r.weight_total += 1);
        let overlap = changed(&receipts[1], &domains, |r| (r.attempt, r.first_token) = (1, 59));
        let disjoint = changed(&receipts[2], &domains, |r| (r.attempt, r.first_token, r.lane.0[1]) = (1, 60, 0));
        let unbilled = changed(&receipts[3], &domains, |r| (r.attempt, r.reason, r.fee) = (1, Reason::EngineFailure, Amount(0)));
        let all = receipts.iter().cloned().chain([other_body, overlap, disjoint, unbilled]);
        let collected = collect(&domains, node, all);
        assert_eq!(collected.equivocations.len(), 2);
        assert_eq!(collected.receipts.len(), 4);
        assert!(
            collected.receipts.iter().all(|r| ![receipts[0].document.request, receipts[1].document.request].contains(&r.document.request))
        );
    }

    #[test]
    fn foreign_unsigned_and_wrongly_billed_receipts_are_refused_by_hash() {
        let (domains, node, receipts) = some();
        let foreign = changed(&receipts[0], &domains, |r| r.node = account(9).address());
        let unsigned = Signed { document: Receipt { weight_total: 5, ..receipts[1].document.clone() }, ..receipts[1].clone() };
        let failed = changed(&receipts[2], &domains, |r| r.reason = Reason::Empty);
        let collected = collect(&domains, node, [foreign, unsigned, failed]);
        assert_eq!((collected.receipts.len(), collected.refused.len()), (0, 3));
    }

    #[test]
    fn the_node_root_states_count_and_sum() {
        let (domains, node, receipts) = some();
        let collected = collect(&domains, node, receipts.iter().cloned().chain(receipts.clone()));
        let root = node_root(node, 3, &collected.receipts).unwrap();
        assert_eq!((root.count, root.fees), (4, Amount(4 * receipts[0].document.fee.0)));
        let (tree, third) = (receipts_tree(&collected.receipts).unwrap(), &collected.receipts[2].document);
        assert!(root.holds(third.hash(), third.fee, &tree.open(2).unwrap()));
        assert!(!root.holds(third.hash(), third.fee, &tree.open(1).unwrap()));
        let dear = changed(&receipts[0], &domains, |r| r.fee = Amount(u128::MAX));
        assert!(node_root(node, 3, &[dear.clone(), dear.clone()]).is_err() && receipts_tree(&[dear.clone(), dear]).is_err());
    }

    #[test]
    fn a_failed_attempt_contradicts_no_other_whichever_hash_is_smaller() {
        let (domains, node, receipts) = some();
        let failed =
            |number: u16| changed(&receipts[0], &domains, |r| (r.attempt, r.reason, r.fee) = (number, Reason::EngineFailure, Amount(0)));
        let all: Vec<_> = (1..9).map(failed).chain([receipts[0].clone()]).collect();
        let smaller = all.iter().filter(|r| r.document.hash() < receipts[0].document.hash()).count();
        assert!((1..8).contains(&smaller), "{smaller} of 8 hashes are smaller: both orders are tried");
        let collected = collect(&domains, node, all);
        assert_eq!((collected.equivocations, collected.receipts.len()), (vec![], 9));
    }

    #[test]
    fn a_broken_copy_of_a_good_receipt_refuses_nothing() {
        let (domains, node, receipts) = some();
        let broken = Signed { signature: receipts[1].signature, ..receipts[0].clone() };
        for both in [[broken.clone(), receipts[0].clone()], [receipts[0].clone(), broken]] {
            let collected = collect(&domains, node, both);
            assert_eq!((collected.receipts, collected.refused), (vec![receipts[0].clone()], vec![]));
        }
    }

    #[test]
    fn receipts_stand_by_block_then_request_then_attempt() {
        let (domains, node, receipts) = some();
        let later =
            |receipt: &Signed<Receipt>| changed(receipt, &domains, |r| (r.attempt, r.first_token, r.lane.0[1]) = (1, r.tokens_out, 0));
        let early = changed(&receipts[3], &domains, |r| r.block.number -= 1);
        let all = receipts[..3].iter().cloned().chain(receipts[..3].iter().map(later)).chain([early.clone()]);
        let collected = collect(&domains, node, all).receipts;
        assert_eq!((collected.len(), &collected[0]), (7, &early));
        let order: Vec<_> = collected[1..].iter().map(|r| (r.document.request, r.document.attempt)).collect();
        let mut requests: Vec<_> = receipts[..3].iter().map(|r| r.document.request).collect();
        requests.sort_unstable();
        assert_eq!(order, requests.into_iter().flat_map(|request| [(request, 0), (request, 1)]).collect::<Vec<_>>());
    }

    #[test]
    fn a_node_that_signs_an_attempt_ten_thousand_times_is_convicted_by_as_many_pairs() {
        let body = some().2.remove(0);
        let count = 10_000_u64;
        let valid: BTreeMap<_, _> = (0..count).map(|n| (types::merkle::leaf(&n.to_be_bytes()), body.clone())).collect();
        let (pairs, void) = contradictions(&valid);
        assert_eq!((pairs.len() as u64, void.len() as u64), (count - 1, count));
    }

    /// The rule's own words.
    fn contradict(a: &Receipt, b: &Receipt) -> bool {
        let tokens = |receipt: &Receipt| u64::from(receipt.first_token)..u64::from(receipt.first_token) + u64::from(receipt.tokens_out);
        let share_a_token = tokens(a).any(|token| tokens(b).contains(&token));
        let wei = |receipt: &Receipt| receipt.cumulative_after.0 - receipt.fee.0..receipt.cumulative_after.0;
        let share_a_wei = wei(a).any(|wei_of| wei(b).contains(&wei_of));
        let are_billed = a.reason.is_billable() && b.reason.is_billable();
        (a.request == b.request && (a.attempt == b.attempt || (are_billed && share_a_token)))
            || (a.lane == b.lane && are_billed && share_a_wei)
    }

    proptest! {
        #[test]
        fn exactly_what_contradicts_another_receipt_is_void(bodies in proptest::collection::vec((0..2_u8, 0..12_u16, 0..12_u32, 0..4_u32, any::<bool>(), any::<[u8; 4]>(), (0..3_u8, 0..4_u128, 0..20_u128)), 0..14)) {
            let sample = sample().bundle.receipt;
            let valid: BTreeMap<Hash32, Signed<Receipt>> = bodies.iter().map(|(request, attempt, first_token, tokens_out, failed, salt, (lane, fee, base))| {
                let mut one = sample.clone();
                let reason = if *failed { Reason::EngineFailure } else { Reason::Stop };
                one.document = Receipt { request: Hash32([*request; 32]), attempt: *attempt, first_token: *first_token, tokens_out: *tokens_out, reason, lane: Hash32([*lane; 32]), fee: Amount(*fee), cumulative_after: Amount(base + fee), ..one.document };
                (types::merkle::leaf(salt), one)
            }).collect();
            let (pairs, void) = contradictions(&valid);
            let expected = valid.iter().filter(|(hash, one)| valid.iter().any(|(other, two)| other != *hash && contradict(&one.document, &two.document)));
            prop_assert_eq!(void, expected.map(|(hash, _)| *hash).collect::<BTreeSet<_>>());
            prop_assert!(pairs.iter().all(|pair| contradict(&pair.first.document, &pair.second.document)));
            prop_assert!(pairs.len() <= 3 * valid.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn the_order_of_arrival_changes_nothing(order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle()) {
            let (domains, node, mut receipts) = some();
            receipts.push(changed(&receipts[0], &domains, |r| r.weight_total += 1));
            receipts.push(receipts[2].clone());
            let shuffled = order.into_iter().map(|place| receipts[place].clone());
            prop_assert_eq!(collect(&domains, node, shuffled), collect(&domains, node, receipts.clone()));
        }
    }
}
