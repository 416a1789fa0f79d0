//! Payout trees: lines, parts, and that something is not there.

use chain_bridge::fraud::{
    pack::Packer,
    payout::{Shown, read_part},
};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    merkle::SumOpening,
    payout::{PartLeaf, PayoutLeaf},
};

use super::{
    h,
    probe::{Asked, Probe},
    random::Rng,
    run,
};
use crate::harness::address;

#[test]
fn payout_trees_are_read_the_same() {
    run(8, |asked, rng| {
        let mut parts = rng.some(6, Rng::part);
        parts.sort_by_key(PartLeaf::place);
        parts.dedup_by_key(|part| part.place());
        let parts_root = types::payout::parts_tree(&parts).unwrap().root();
        let mut accounts = rng.some(5, |rng| Address([rng.below(9) as u8; 20]));
        accounts.sort_unstable();
        accounts.dedup();
        let sum = Amount::sum(parts.iter().map(|part| part.amount)).unwrap();
        let leaves: Vec<PayoutLeaf> = accounts
            .iter()
            .map(|account| {
                let previous = Amount(rng.number(120));
                PayoutLeaf { account: *account, previous, cumulative: previous.plus(sum).unwrap(), parts: parts_root }
            })
            .collect();
        let shown = Shown::of(leaves.iter().map(|leaf| (leaf, parts.as_slice()))).unwrap();
        let wanted = Address([rng.below(9) as u8; 20]);
        let part = rng.part();
        for (index, leaf) in leaves.iter().enumerate() {
            let evidence = chain_bridge::fraud::challenge::asked_leaf(&shown, index).unwrap();
            let found = asked.ask(&Probe::payoutLeafCall { root: h(shown.root()), evidence: evidence.into() }).unwrap();
            assert_eq!((found.account, found.previous, found.cumulative), (address(leaf.account), leaf.previous.0, leaf.cumulative.0));
            assert_eq!((found.partsRoot, found.index, found.count), (h(leaf.parts), index as u64, leaves.len() as u64));
        }
        match shown.absence(wanted) {
            Some(evidence) => {
                let call = Probe::requireAbsentCall { root: h(shown.root()), account: address(wanted), evidence: evidence.into() };
                assert!(asked.ask(&call).is_some(), "{wanted} is not in {accounts:?}");
            }
            None => assert!(accounts.contains(&wanted)),
        }
        // The absence of one place shows that of no place that is taken.
        if let (Some(evidence), Some(taken)) = (shown.absence(wanted), accounts.first()) {
            let call = Probe::requireAbsentCall { root: h(shown.root()), account: address(*taken), evidence: evidence.into() };
            assert!(asked.ask(&call).is_none());
        }
        same_part(asked, rng, &part, parts.first());
        if let (Some(line), Some(evidence)) = (leaves.first(), leaves.first().and_then(|leaf| shown.no_part(leaf.account, &part))) {
            let leaf = chain_bridge::fraud::challenge::asked_leaf(&shown, 0).unwrap();
            let call = Probe::requireNoPartCall {
                root: h(line.parts),
                key: key_of(&part),
                lane_: h(part.lane().unwrap_or(Hash32::ZERO)),
                evidence: evidence[1 + leaf.len()..].to_vec().into(),
            };
            assert!(asked.ask(&call).is_some(), "{part:?} is not in {parts:?}");
        }
    });
}

fn key_of(part: &PartLeaf) -> alloy::primitives::B256 {
    alloy::primitives::B256::from_slice(&part.encode()[..32])
}

fn same_part(asked: &mut Asked, rng: &mut Rng, part: &PartLeaf, other: Option<&PartLeaf>) {
    let key = Probe::keyOfCall { node: address(part.node), index: part.receipt, code: part.part };
    assert_eq!(asked.ask(&key), Some(key_of(part)));
    let fields = asked.ask(&Probe::fieldsOfCall { key: key_of(part) }).unwrap();
    assert_eq!((fields.node, fields.index, fields.code), (address(part.node), part.receipt, part.part));
    let content = rng.damage(part.encode());
    assert_eq!(asked.ask(&Probe::isPartCall { content: content.clone().into() }), Some(read_part(&content).is_some()), "{content:?}");
    if let Some(other) = other {
        let lane = |part: &PartLeaf| h(part.lane().unwrap_or(Hash32::ZERO));
        let call = Probe::isBeforeCall { key: key_of(part), lane_: lane(part), otherKey: key_of(other), otherLane: lane(other) };
        assert_eq!(asked.ask(&call), Some(part.place() < other.place()));
    }
    let tree = types::payout::parts_tree(std::slice::from_ref(part)).unwrap();
    let opening: SumOpening = tree.open(0).unwrap();
    let evidence = Packer::new().blob(&part.encode()).sum_opening(&opening).finish();
    let found = asked.ask(&Probe::payoutPartCall { root: h(tree.root()), evidence: evidence.into() }).unwrap();
    assert_eq!((found.key, found.amount, found.lane), (key_of(part), part.amount.0, h(part.lane().unwrap_or(Hash32::ZERO))));
    let witness = part.refund.map(|refund| refund.witness).unwrap_or_default();
    assert_eq!((found.witnessNode, found.witnessEpoch, found.witnessIndex), (address(witness.node), witness.epoch, witness.index));
}
