//! Refunds over random lanes: what honest receipts leave is refuted by nothing, and each change of a refund that changes money is.

use chain_bridge::fraud::{
    payout::{Against, Billed, PayoutMode, Row, Shown},
    search::{Bodies, SearchError, first_fault, root_of, tree_of},
};
use types::{
    amount::Amount,
    encoding::Document,
    id::Address,
    payout::{PartLeaf, RefundOf, Witness},
    receipt::Receipt,
    voucher::Lane,
};

use super::{
    harness::open,
    money::{World, seal},
    payout::try_proof,
    transcript::cases,
};

/// SplitMix64: the same cases everywhere.
struct Rng(u64);

impl Rng {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }
}

const LANES: u64 = 4;

/// Two nodes, lanes of both, receipts that name any of them at any height, some void, some of them collected late or never; the refund of every lane
/// is due in the second epoch, whose W1 has ended.
fn world(rng: &mut Rng) -> World {
    let mut world = World::start();
    let lanes: Vec<Lane> =
        (0..LANES).map(|nonce| Lane { expiry: world.t.evm.block + 5, ..world.lane((nonce % 2) as u8, 50 + nonce) }).collect();
    // Receipts that say the same wei twice are not proven here; there is money for them.
    let fat = world.lane(0, 1);
    world.collect(&fat, 45);
    let mut collected = vec![0; lanes.len()];
    for (lane, sum) in lanes.iter().zip(&mut collected) {
        *sum = u128::from(1 + rng.below(3));
        world.collect(lane, *sum);
    }
    epoch(&mut world, &lanes, rng);
    for (lane, sum) in lanes.iter().zip(&mut collected) {
        let more = u128::from(rng.below(3));
        *sum += more;
        if more > 0 {
            world.collect(lane, *sum);
        }
    }
    world.end_epoch();
    world.t.evm.block = lanes[0].expiry + world.t.evm.deployment.config.max_age_blocks + 1;
    lanes.iter().for_each(|lane| world.request_refund(lane));
    world.epoch = 2;
    epoch(&mut world, &lanes, rng);
    world
}

fn epoch(world: &mut World, lanes: &[Lane], rng: &mut Rng) {
    for number in 0..2 {
        let count = 1 + rng.below(4);
        let rows: Vec<Bodies> = (0..count)
            .map(|_| world.bodies(number, &lanes[rng.below(LANES) as usize], u128::from(rng.below(5)), rng.below(u64::MAX), 1))
            .collect();
        world.submit(number, &rows);
        if number == 0 && rng.below(3) == 0 {
            world.make_void(&rows[0]);
        }
    }
    world.end_w1();
}

fn refunds(rows: &[(Row, Vec<Row>)]) -> Vec<(usize, usize, PartLeaf)> {
    let parts = rows.iter().enumerate().flat_map(|(leaf, (_, parts))| parts.iter().enumerate().map(move |(place, row)| (leaf, place, row)));
    parts.filter_map(|(leaf, place, row)| Some((leaf, place, row.part().filter(|part| part.refund.is_some())?))).collect()
}

/// All that mode 10 could be shown of a refund, where it reads evidence to its end.
fn every_proof(world: &World, shown: &Shown, leaf: usize, place: usize, of: &RefundOf) -> Vec<chain_bridge::fraud::payout::PayoutProof> {
    let mut proofs: Vec<_> = shown.prove_refund(leaf, place, Against::NoWitness).into_iter().collect();
    let mut opened = Vec::new();
    for ((epoch, node), bodies) in &world.receipts {
        let (root, block) = root_of(&world.t.evm.state, *epoch, *node).unwrap();
        let tree = tree_of(bodies).unwrap();
        let at = |(index, body)| (Witness { epoch: *epoch, node: *node, index }, root, block, tree.open(index).unwrap(), body);
        opened.extend((0..).zip(bodies).map(at));
    }
    let billed: Vec<(Witness, Billed<'_>)> = opened
        .iter()
        .map(|(at, root, block, opening, body)| {
            let (receipt, quote, manifest) = (&body.receipt[..], &body.quote[..], &body.manifest[..]);
            (*at, Billed { root, block: *block, opening, receipt, quote, manifest })
        })
        .collect();
    let named = billed.iter().find(|(at, _)| *at == of.witness).map(|(_, billed)| billed);
    for (_, other) in &billed {
        proofs.extend(shown.prove_refund(leaf, place, Against::Higher(other)));
        proofs.extend(shown.prove_refund(leaf, place, Against::Better(named, other)));
    }
    proofs.extend(named.and_then(|named| shown.prove_refund(leaf, place, Against::Witness(named))));
    proofs
}

#[test]
fn a_refund_that_receipts_leave_is_refuted_by_none_of_them() {
    for seed in 0..u64::from(cases(6)) {
        let mut world = world(&mut Rng(seed));
        let rows = seal(&world.expected());
        let shown = Shown::new(rows.clone()).unwrap();
        world.post(&shown, shown.total()).unwrap();
        assert_eq!(first_fault(&world.case(&shown, &shown)), Ok(None), "seed {seed}");
        let refunds = refunds(&rows);
        assert_eq!(refunds.len() as u64, LANES, "each lane's refund has its part, whatever it is worth");
        for (leaf, place, part) in refunds {
            for proof in every_proof(&world, &shown, leaf, place, &part.refund.unwrap()) {
                let refused = try_proof(&mut world, &proof).expect_err("an honest refund was refuted");
                assert!(refused.starts_with("payout holds"), "seed {seed}: {refused}");
            }
        }
    }
}

/// A refund with another amount or witness.
fn changed(rng: &mut Rng, world: &World, part: PartLeaf) -> PartLeaf {
    let of = part.refund.unwrap();
    let some = world.receipts.iter().nth(rng.below(world.receipts.len() as u64) as usize).unwrap();
    let witness = match rng.below(8) {
        0 => Witness::NONE,
        1 => Witness { epoch: 1 + rng.below(3), node: Address([7; 20]), index: 0 },
        2..5 => Witness { epoch: some.0.0, node: some.0.1, index: rng.below(some.1.len() as u64 + 1) },
        _ => of.witness,
    };
    let amount = match rng.below(6) {
        0 => Amount(part.amount.0 + 1),
        1 => Amount(part.amount.0.saturating_sub(1)),
        2 => Amount::ZERO,
        3 => open(u128::from(rng.below(4))),
        _ => part.amount,
    };
    PartLeaf { amount, refund: Some(RefundOf { witness, ..of }), ..part }
}

#[test]
fn each_change_of_a_refunds_amount_is_proven_and_another_witness_unless_it_leaves_as_much() {
    let (mut proven, mut as_much) = (0, 0);
    for seed in 0..u64::from(cases(6)) {
        let mut rng = Rng(seed ^ 0xfeed);
        let mut world = world(&mut rng);
        let (lines, before) = (world.expected(), world.t.evm.snapshot());
        let expected = Shown::new(seal(&lines)).unwrap();
        for (leaf, place, part) in refunds(&seal(&lines)) {
            for _ in 0..5 {
                let other = changed(&mut rng, &world, part);
                if other == part {
                    continue;
                }
                world.t.evm.restore(&before);
                let mut lines = lines.clone();
                lines[leaf].parts[place] = Row::from(&other);
                let shown = Shown::new(seal(&lines)).unwrap();
                world.post(&shown, shown.total()).unwrap();
                match first_fault(&world.case(&shown, &expected)) {
                    Ok(Some(proof)) => {
                        assert_eq!(proof.mode, PayoutMode::Refund);
                        try_proof(&mut world, &proof).unwrap_or_else(|error| panic!("seed {seed}, {part:?} as {other:?}: {error}"));
                        proven += 1;
                    }
                    Err(SearchError::Unprovable(why)) => {
                        assert_eq!(other.amount, part.amount, "seed {seed}, {part:?} as {other:?}: {why}");
                        assert!(leaves_as_much(&world, &other), "seed {seed}, {part:?} as {other:?}: {why}");
                        for proof in every_proof(&world, &shown, leaf, place, &other.refund.unwrap()) {
                            assert!(try_proof(&mut world, &proof).is_err(), "the search missed a proof");
                        }
                        as_much += 1;
                    }
                    found => panic!("seed {seed}, {part:?} as {other:?}: {found:?}"),
                }
            }
        }
    }
    assert!(proven > 20 && proven > 3 * as_much, "{proven} proven, {as_much} that pay the same");
}

/// Whether the receipt that a refund names, or none, gives its amount.
fn leaves_as_much(world: &World, part: &PartLeaf) -> bool {
    let RefundOf { lane, witness } = part.refund.unwrap();
    let collected = world.t.evm.state.lane_collected(lane);
    if witness == Witness::NONE {
        return part.amount == collected;
    }
    let body = &world.receipts[&(witness.epoch, witness.node)][witness.index as usize];
    let receipt = Receipt::decode(&body.receipt).unwrap();
    receipt.lane == lane && collected.0.saturating_sub(receipt.cumulative_after.0) == part.amount.0
}
