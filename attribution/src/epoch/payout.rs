//! The payout tree: every account's cumulative amount, on top of the last final tree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, AmountError},
    id::{Address, Hash32},
    merkle::{SumOpening, SumTree},
    payout::{PartLeaf, PayoutLeaf, Witness, parts_root, payout_tree},
};

use super::division::{Parts, Workers, gather, one_by_one};
use crate::shares::Share;

/// What a lane collected beyond its receipts, back to its payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refund {
    /// The lane's node.
    pub node: Address,
    /// The lane.
    pub lane: Hash32,
    /// The lane's payer.
    pub client: Address,
    /// How much; it may be nothing.
    pub amount: Amount,
    /// The receipt that speaks for most of what the lane collected.
    pub witness: Witness,
}

impl Refund {
    /// Its part in the payer's line.
    pub fn part(&self) -> PartLeaf {
        PartLeaf::refund(self.node, self.lane, self.amount, self.witness)
    }
}

/// Why shares do not make a payout tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayoutError {
    /// A sum does not fit.
    #[error("the payout does not sum: {0}")]
    Amount(#[from] AmountError),
    /// One part given twice.
    #[error("part {part} of receipt {receipt} of node {node} is given twice")]
    Repeated {
        /// The node.
        node: Address,
        /// The receipt's place.
        receipt: u64,
        /// The part's code.
        part: u32,
    },
}

/// The payout tree with everything a claim needs.
#[derive(Debug)]
pub struct Payout {
    leaves: Vec<PayoutLeaf>,
    parts: Vec<Vec<PartLeaf>>,
    tree: SumTree,
}

/// What an account shows to be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its leaf.
    pub leaf: PayoutLeaf,
    /// The leaf's way to the payout root.
    pub opening: SumOpening,
    /// What makes the difference to the last tree, ascending.
    pub parts: Vec<PartLeaf>,
}

/// Accounts whose leaves are one piece of work: the few with most of the parts stand first, each alone.
const PIECE_ACCOUNTS: usize = 64;

impl Payout {
    /// The tree over `previous` (the last final tree's cumulative amounts) and the parts of each payee, ascending by their places.
    ///
    /// # Errors
    /// [`PayoutError`]; parts out of order count as repeated.
    pub fn over(previous: &BTreeMap<Address, Amount>, mut parts: Parts, workers: Workers<'_>) -> Result<Self, PayoutError> {
        for account in previous.keys() {
            parts.entry(*account).or_default();
        }
        let accounts: Vec<(Address, Vec<PartLeaf>)> = parts.into_iter().collect();
        let mut order: Vec<usize> = (0..accounts.len()).collect();
        order.sort_by_key(|place| std::cmp::Reverse(accounts[*place].1.len()));
        let pieces: Vec<&[usize]> = match order.split_at_checked(PIECE_ACCOUNTS) {
            Some((large, rest)) => large.chunks(1).chain(rest.chunks(PIECE_ACCOUNTS)).collect(),
            None => order.chunks(1).collect(),
        };
        let leaf = |place: &usize| {
            let (account, parts) = &accounts[*place];
            let before = previous.get(account).copied().unwrap_or_default();
            Ok((*place, leaf_of(*account, before, parts)?))
        };
        let found = gather(workers, pieces.len(), |piece| pieces[piece].iter().map(leaf).collect::<Result<Vec<_>, PayoutError>>());
        let mut leaves = found.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        leaves.sort_unstable_by_key(|(place, _)| *place);
        let leaves: Vec<PayoutLeaf> = leaves.into_iter().map(|(_, leaf)| leaf).collect();
        Ok(Self { tree: payout_tree(&leaves)?, leaves, parts: accounts.into_iter().map(|(_, parts)| parts).collect() })
    }

    /// The payout root.
    pub fn root(&self) -> Hash32 {
        self.tree.root()
    }

    /// Sum of all cumulative amounts.
    pub fn total(&self) -> Amount {
        self.tree.total()
    }

    /// Leaves ascending by account.
    pub fn leaves(&self) -> &[PayoutLeaf] {
        &self.leaves
    }

    /// New parts of each leaf, ascending.
    pub fn parts(&self) -> &[Vec<PartLeaf>] {
        &self.parts
    }

    /// Cumulative amounts for the next epoch to build on.
    pub fn cumulative(&self) -> BTreeMap<Address, Amount> {
        self.leaves.iter().map(|leaf| (leaf.account, leaf.cumulative)).collect()
    }

    /// What `account` claims with; nothing if it was never paid.
    pub fn claim(&self, account: Address) -> Option<Claim> {
        let place = self.leaves.binary_search_by_key(&account, |leaf| leaf.account).ok()?;
        let opening = self.tree.open(u64::try_from(place).ok()?)?;
        Some(Claim { leaf: self.leaves[place], opening, parts: self.parts[place].clone() })
    }
}

fn leaf_of(account: Address, previous: Amount, parts: &[PartLeaf]) -> Result<PayoutLeaf, PayoutError> {
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].place() >= pair[1].place()) {
        let PartLeaf { node, receipt, part, .. } = pair[1];
        return Err(PayoutError::Repeated { node, receipt, part });
    }
    let (root, total) = parts_root(parts)?;
    Ok(PayoutLeaf { account, previous, cumulative: previous.plus(total)?, parts: root })
}

/// The tree over `previous` (the last final tree's cumulative amounts), the shares of the epoch's final receipts, and refunds.
///
/// # Errors
/// [`PayoutError`].
pub fn build_payout(
    previous: &BTreeMap<Address, Amount>,
    shares: impl IntoIterator<Item = Share>,
    refunds: &[Refund],
) -> Result<Payout, PayoutError> {
    let refunds = refunds.iter().map(|refund| Share { payee: refund.client, part: refund.part() });
    let mut all: Vec<Share> = shares.into_iter().chain(refunds).collect();
    all.sort_by_key(|share| share.part.place());
    if let Some(pair) = all.windows(2).find(|pair| pair[0].part.place() == pair[1].part.place()) {
        let PartLeaf { node, receipt, part, .. } = pair[0].part;
        return Err(PayoutError::Repeated { node, receipt, part });
    }
    let mut parts = Parts::new();
    for share in all {
        parts.entry(share.payee).or_default().push(share.part);
    }
    Payout::over(previous, parts, &one_by_one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{merkle::Summed, payout::parts_tree};

    use super::*;
    use crate::{
        sample::sample,
        shares::{RolePayees, parts, payees},
    };

    fn roles() -> RolePayees {
        let account = |byte| Address([byte; 20]);
        RolePayees {
            protocol: account(1),
            node: Some(account(2)),
            agent: None,
            base: Some(account(3)),
            adapter: Some(account(4)),
            stakers: account(5),
            insurance: account(6),
        }
    }

    #[test]
    fn a_receipts_shares_name_every_payee_and_sum_to_its_fee() {
        let sample = sample();
        let (receipt, manifest) = (&sample.bundle.receipt.document, &sample.bundle.manifest);
        let protocol = sample.bundle.quote.document.protocol_fee;
        let shares = payees(receipt, 4, protocol, manifest, &roles(), |_| false).unwrap();
        assert_eq!(Amount::sum(shares.iter().map(|share| share.part.amount)), Ok(receipt.fee));
        for span in &receipt.spans {
            assert!(shares.iter().any(|share| share.payee == span.payee), "{}", span.payee);
        }
        assert_eq!(shares.len(), parts(receipt, protocol, manifest).unwrap().len());
        let missing = RolePayees { adapter: None, ..roles() };
        let held = payees(receipt, 4, protocol, manifest, &missing, |_| false).unwrap();
        let is_of_adapter = |share: &&Share| share.part.part == types::split::Part::Adapter.code();
        assert_eq!(held, shares.iter().filter(|share| !is_of_adapter(share)).copied().collect::<Vec<_>>(), "nobody holds the adapter");
        assert_eq!(held.len() + 1, shares.len());
    }

    fn share() -> impl Strategy<Value = Share> {
        (0..5_u8, 0..3_u8, 0..4_u64, 0..9_u32, any::<u64>()).prop_map(|(payee, node, receipt, part, amount)| Share {
            payee: Address([payee; 20]),
            part: PartLeaf { node: Address([node; 20]), receipt, part, amount: Amount(amount.into()), refund: None },
        })
    }

    proptest! {
        #[test]
        fn the_tree_sums_to_the_wei_and_does_not_depend_on_order(shares in proptest::collection::vec(share(), 0..30), previous in proptest::collection::btree_map(0..7_u8, any::<u64>(), 0..5), seed: u64) {
            let previous: BTreeMap<_, _> = previous.into_iter().map(|(account, amount)| (Address([account; 20]), Amount(amount.into()))).collect();
            let mut unique = BTreeMap::new();
            for share in shares {
                unique.insert(share.part.place(), share);
            }
            let shares: Vec<Share> = unique.into_values().collect();
            let refund = |lane, amount, witness| Refund { node: Address([1; 20]), lane: Hash32([lane; 32]), client: Address([6; 20]), amount: Amount(amount), witness };
            let refunds = [refund(2, 77, Witness::NONE), refund(3, 0, Witness { epoch: 1, node: Address([1; 20]), index: 0 })];
            let payout = build_payout(&previous, shares.clone(), &refunds).unwrap();

            let paid = shares.iter().map(|share| share.part.amount.0).sum::<u128>() + 77;
            prop_assert_eq!(payout.total().0, previous.values().map(|amount| amount.0).sum::<u128>() + paid);
            prop_assert!(payout.leaves().windows(2).all(|pair| pair[0].account < pair[1].account));
            for leaf in payout.leaves() {
                let claim = payout.claim(leaf.account).unwrap();
                prop_assert_eq!(claim.opening.root(Summed::leaf(&leaf.encode(), leaf.cumulative)), Some((payout.root(), payout.total())));
                prop_assert_eq!(parts_tree(&claim.parts).unwrap().root(), leaf.parts);
                let new = Amount::sum(claim.parts.iter().map(|part| part.amount)).unwrap();
                prop_assert_eq!(leaf.previous.plus(new), Ok(leaf.cumulative));
                prop_assert_eq!(leaf.previous, previous.get(&leaf.account).copied().unwrap_or_default());
            }
            let client = payout.claim(Address([6; 20])).unwrap();
            prop_assert_eq!(client.parts, refunds.map(|refund| refund.part()).to_vec(), "a refund of nothing has its part");
            let mut other = shares;
            let middle = usize::try_from(seed % 31).unwrap().min(other.len());
            other.rotate_left(middle);
            prop_assert_eq!(build_payout(&previous, other, &refunds).unwrap().root(), payout.root());
            let next = build_payout(&payout.cumulative(), [], &[]).unwrap();
            prop_assert_eq!(next.total(), payout.total());
        }
    }

    #[test]
    fn a_part_paid_twice_is_refused() {
        let part = PartLeaf { node: Address([1; 20]), receipt: 2, part: 3, amount: Amount(1), refund: None };
        let twice = [Share { payee: Address([1; 20]), part }, Share { payee: Address([2; 20]), part }];
        assert!(matches!(build_payout(&BTreeMap::new(), twice, &[]), Err(PayoutError::Repeated { receipt: 2, part: 3, .. })));
    }
}
