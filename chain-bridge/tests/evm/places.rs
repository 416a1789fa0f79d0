//! F3 and F5 with places in submitted trees: openings that Rust makes lead where the contract says.

use chain_bridge::{
    bindings::{ReceiptChallenge, Settlement},
    fraud::{
        calldata::Proof,
        node::{BlockFault, block_fault, is_repeat},
        pack::Place,
    },
};
use types::{
    amount::Amount,
    encoding::Document,
    id::Hash32,
    key::Signed,
    merkle::SumTree,
    operator::{NAMED_BYTES_MAX, NodeRoot, RECEIPTS_MAX, receipt_leaf},
    receipt::Receipt,
};

use super::{harness::account, transcript::Transcript};

/// Submits receipts as the node's root of the next epoch; returns their places.
pub(crate) fn submit(t: &mut Transcript, receipts: &[Receipt]) -> Vec<Place> {
    t.evm.time += t.evm.deployment.config.w1_s;
    let tree = SumTree::new(receipts.iter().map(|receipt| receipt_leaf(receipt.hash(), receipt.fee)).collect()).unwrap();
    let epoch = t.evm.view(t.evm.deployment.settlement, &Settlement::submissionEpochCall {}).unwrap();
    let root = NodeRoot { node: t.node.address(), epoch, receipts: tree.root(), count: receipts.len() as u64, fees: tree.total() };
    let signed = Signed::new(&t.node, &t.evm.deployment.domains(), root);
    let call = Settlement::submitNodeRootCall { body: root.encode().into(), signature: signed.signature.0.to_vec().into() };
    t.evm.call(account(5).address(), t.evm.deployment.settlement, &call, Amount::ZERO).unwrap();
    let block = t.evm.state.epoch(epoch).unwrap().roots[&t.node.address()].block;
    (0..receipts.len() as u64).map(|index| Place { root, block, opening: tree.open(index).unwrap() }).collect()
}

#[test]
fn a_root_of_more_receipts_than_anybody_could_ask_for_is_refused() {
    let mut t = Transcript::new();
    let settlement = t.evm.deployment.settlement;
    assert_eq!(t.evm.view(settlement, &Settlement::RECEIPTS_MAXCall {}).unwrap(), RECEIPTS_MAX);
    let epoch = t.evm.view(settlement, &Settlement::submissionEpochCall {}).unwrap();
    let named = t.evm.view(t.evm.deployment.challenge, &ReceiptChallenge::NAMED_BYTES_MAXCall {}).unwrap();
    assert_eq!(named, alloy::primitives::U256::from(NAMED_BYTES_MAX), "what counts as shown is the same off the chain and on it");
    let mut submit = |count| {
        let root = NodeRoot { node: t.node.address(), epoch, receipts: Hash32([1; 32]), count, fees: Amount::ZERO };
        let signed = Signed::new(&t.node, &t.evm.deployment.domains(), root);
        let call = Settlement::submitNodeRootCall { body: root.encode().into(), signature: signed.signature.0.to_vec().into() };
        t.evm.call(account(5).address(), settlement, &call, Amount::ZERO)
    };
    let refused = submit(RECEIPTS_MAX + 1).unwrap_err();
    assert!(refused.starts_with("too many receipts"), "{refused}");
    submit(RECEIPTS_MAX).unwrap();
}

#[test]
fn a_receipt_that_stands_twice_is_slashed_and_two_that_stand_once_are_not() {
    let mut t = Transcript::new();
    let reporter = account(4).address();
    let receipt = t.receipt.clone();
    let other = Receipt { attempt: 1, ..receipt.clone() };
    let first = submit(&mut t, &[receipt.clone(), other.clone(), receipt.clone()]);
    let second = submit(&mut t, &[other.clone(), receipt.clone()]);
    for (a, b, of, expected) in [
        (&first[0], &first[2], &receipt, true),
        (&first[0], &second[1], &receipt, true),
        (&first[1], &second[0], &other, true),
        (&first[0], &first[0], &receipt, false),
        (&first[0], &first[1], &receipt, false),
    ] {
        assert_eq!(is_repeat(of, a, b), expected);
        let done = t.evm.try_proof(reporter, &Proof::repeat(of, a, b));
        assert_eq!(done.is_ok(), expected, "{done:?}");
    }
}

#[test]
fn a_named_block_outside_its_window_is_refuted_to_the_block() {
    let mut t = Transcript::new();
    let (grace, age) = (t.evm.deployment.config.grace_blocks, t.evm.deployment.config.max_age_blocks);
    let (reporter, at) = (account(4).address(), t.evm.block);
    let named = [at + grace, at + grace + 1, at - age, at - age - 1, at];
    let receipts = named.map(|number| {
        let mut receipt = t.receipt.clone();
        receipt.block.number = number;
        receipt
    });
    let places = submit(&mut t, &receipts);
    assert_eq!(places[0].block, at);
    let expected = [None, Some(BlockFault::Ahead), None, Some(BlockFault::TooOld), None];
    for ((receipt, place), expected) in receipts.iter().zip(&places).zip(expected) {
        assert_eq!(block_fault(receipt, place, grace, age), expected, "{}", receipt.block.number);
        let done = t.evm.try_proof(reporter, &Proof::block(receipt, place));
        assert_eq!(done.is_ok(), expected.is_some(), "{}: {done:?}", receipt.block.number);
    }
}
