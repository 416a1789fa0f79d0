//! Trees and sum trees, openings that lead somewhere and ones that do not.

use chain_bridge::fraud::pack::Packer;
use types::{
    amount::Amount,
    encoding::Document,
    merkle::{Opening, SumTree, Summed, Tree},
    operator::{NodeRoot, receipt_leaf},
};

use super::{h, probe::Probe, random::Rng, run};

#[test]
fn trees_open_to_the_same_roots() {
    run(5, |asked, rng| {
        let leaves = rng.some(20, |rng| rng.text(90));
        let tree = Tree::over(leaves.iter().map(Vec::as_slice));
        let length = leaves.iter().map(Vec::len).sum::<usize>() as u64;
        let call = Probe::treeRootCall { count: leaves.len() as u64, length, top: h(tree.top()) };
        assert_eq!(asked.ask(&call), Some(h(tree.root())));
        let count = rng.number(40) as u64;
        let depths = asked.ask(&Probe::treeDepthCall { count });
        let expected = count.max(1).next_power_of_two().trailing_zeros();
        assert_eq!(depths.map(|d| (d.ofClaims, d.ofProofs)), Some((expected.try_into().unwrap(), expected.try_into().unwrap())), "{count}");
        if leaves.is_empty() {
            return;
        }
        let index = rng.below(leaves.len() as u64);
        let content = leaves[index as usize].clone();
        let mut opening = tree.open(index).unwrap();
        if rng.is(2) {
            spoil(rng, &mut opening);
        }
        let packed = Packer::new().opening(&opening).finish();
        let call =
            Probe::packedOpeningCall { content: content.clone().into(), index: opening.index.try_into().unwrap(), evidence: packed.into() };
        let got = asked.ask(&call).map(|opened| (opened.root, opened.count, opened.length));
        assert_eq!(got, opening.root(&content).map(|root| (h(root), opening.leaves, opening.byte_length)), "{opening:?}");
    });
}

/// Makes an opening lead elsewhere, or nowhere.
fn spoil(rng: &mut Rng, opening: &mut Opening) {
    match rng.below(6) {
        0 => opening.leaves = rng.below(40),
        1 => opening.byte_length = rng.u64(),
        2 => opening.index = rng.below(opening.leaves + 2),
        3 => drop(opening.siblings.pop()),
        4 => opening.siblings.push(rng.hash()),
        _ => {
            if let Some(sibling) = opening.siblings.first_mut() {
                *sibling = rng.hash();
            }
        }
    }
}

#[test]
fn sum_trees_open_to_the_same_roots_and_totals() {
    run(6, |asked, rng| {
        let rows = rng.some(12, |rng| (rng.text(60), Amount(rng.number(128) >> (4 * rng.below(2)))));
        let leaves: Vec<Summed> = rows.iter().map(|(bytes, amount)| Summed::leaf(bytes, *amount)).collect();
        // A total beyond 128 bits is no tree.
        let Ok(tree) = SumTree::new(leaves) else { return };
        let call = Probe::sumRootCall { count: rows.len() as u64, total: tree.total().0, top: h(tree.top().digest) };
        assert_eq!(asked.ask(&call), Some(h(tree.root())));
        if rows.is_empty() {
            return;
        }
        let index = rng.below(rows.len() as u64);
        let (content, mut amount) = rows[index as usize].clone();
        let mut opening = tree.open(index).unwrap();
        match rng.below(10) {
            0 => opening.leaves = rng.below(40),
            1 => opening.index = rng.below(opening.leaves + 2),
            2 => drop(opening.siblings.pop()),
            3 => opening.siblings.push(Summed { digest: rng.hash(), sum: rng.amount() }),
            4 => amount = rng.amount(),
            5 => {
                if let Some(sibling) = opening.siblings.first_mut() {
                    sibling.sum = rng.amount();
                }
            }
            _ => {}
        }
        let own = opening.root(Summed::leaf(&content, amount));
        let call = Probe::packedSumOpeningCall {
            content: content.clone().into(),
            amount: amount.0,
            evidence: Packer::new().sum_opening(&opening).finish().into(),
        };
        let got = asked.ask(&call);
        assert_eq!(got.as_ref().map(|got| (got.root, got.total)), own.map(|(root, total)| (h(root), total.0)), "{opening:?}");
        if own == Some((tree.root(), tree.total())) {
            assert!(got.is_some_and(|got| got.fill), "what lies beyond the leaves of an honest tree is nothing");
        }
        let siblings: Vec<u8> = opening.siblings.iter().flat_map(|s| [s.digest.0.as_slice(), &s.sum.0.to_be_bytes()].concat()).collect();
        let call = Probe::sumRootOfCall {
            content: content.into(),
            amount: amount.0,
            index: opening.index,
            count: opening.leaves,
            siblings: siblings.into(),
        };
        assert_eq!(asked.ask(&call).map(|got| (got.root, got.total)), own.map(|(root, total)| (h(root), total.0)), "claims");
    });
}

/// What a node root says of the receipts under it, honest or not.
#[test]
fn receipts_open_under_node_roots_the_same() {
    run(9, |asked, rng| {
        let receipts = rng.some(12, |rng| (rng.hash(), Amount(rng.number(120))));
        let Ok(tree) = SumTree::new(receipts.iter().map(|(hash, fee)| receipt_leaf(*hash, *fee)).collect()) else { return };
        if receipts.is_empty() {
            return;
        }
        let count = receipts.len() as u64;
        let mut root = NodeRoot { node: rng.address(), epoch: rng.u64(), receipts: tree.root(), count, fees: tree.total() };
        let index = rng.below(count);
        let (mut hash, mut fee) = receipts[index as usize];
        let mut opening = tree.open(index).unwrap();
        let lie = rng.below(12);
        match lie {
            0 => root.count = rng.below(40),
            1 => root.fees = rng.amount(),
            2 => root.receipts = rng.hash(),
            3 => opening.index = rng.below(count + 2),
            4 => hash = rng.hash(),
            5 => fee = rng.amount(),
            6 => drop(opening.siblings.pop()),
            7 => opening.siblings.push(Summed { digest: rng.hash(), sum: rng.amount() }),
            8 => {
                if let Some(sibling) = opening.siblings.first_mut() {
                    sibling.sum = rng.amount();
                }
            }
            _ => {}
        }
        // Evidence repeats no count: the root's is what counts.
        opening.leaves = root.count;
        let call = Probe::requireReceiptAtCall {
            nodeRootBody: root.encode().into(),
            index: opening.index,
            receiptHash: h(hash),
            fee_: fee.0,
            evidence: Packer::new().siblings(&opening.siblings).finish().into(),
        };
        let (taken, own) = (asked.ask(&call).is_some(), root.holds(hash, fee, &opening));
        assert_eq!(taken, own, "{root:?} {opening:?}");
        assert!(lie < 9 || taken, "an honest place opens");
    });
}
