//! F7 against the compiled verifier: a tree that its receipts give is wrong in no mode; each change of it is found, and the proof is taken.

use chain_bridge::fraud::{
    calldata::Proof,
    challenge::asked_leaf,
    payout::{Against, Billed, Opened, PayoutMode, PayoutProof, Row, Shown},
    search::{Case, SearchError, first_fault, root_of, tree_of},
};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    merkle::{SumTree, Summed},
    payout::{PartLeaf, PayoutLeaf, RefundOf, Witness},
    split::Part,
};

use super::{
    harness::{account, open},
    money::{Line, Lines, Rows, World, a_treasury, no_parts, seal},
    transcript::cases,
};

/// A change of a right tree: its lines before roots and sums are written, its rows afterwards, or the total beside it.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    Lines(fn(&World, &mut Lines)),
    Rows(fn(&mut Rows)),
    Total,
}

fn line(lines: &mut Lines, account: Address) -> &mut Line {
    lines.iter_mut().find(|line| line.account == account).unwrap()
}

fn with_parts(lines: &mut Lines) -> &mut Line {
    lines.iter_mut().find(|line| line.parts.len() > 1).unwrap()
}

fn change(row: &mut Row, to: impl FnOnce(&mut PartLeaf)) {
    let mut part = row.part().unwrap();
    to(&mut part);
    *row = Row::from(&part);
}

fn is_part(row: &Row, is_so: impl Fn(&PartLeaf) -> bool) -> bool {
    row.part().is_some_and(|part| is_so(&part))
}

/// Moves a part to another account; where it belongs by its place.
fn give(lines: &mut Lines, to: Address, part: PartLeaf) {
    let parts = &mut line(lines, to).parts;
    let at = parts.iter().position(|row| is_part(row, |other| other.place() > part.place())).unwrap_or(parts.len());
    parts.insert(at, Row::from(&part));
}

fn take(lines: &mut Lines, is_so: impl Fn(&PartLeaf) -> bool) -> PartLeaf {
    let line = lines.iter_mut().find(|line| line.parts.iter().any(|row| is_part(row, &is_so))).unwrap();
    let at = line.parts.iter().position(|row| is_part(row, &is_so)).unwrap();
    line.parts.remove(at).part().unwrap()
}

/// A receipt of the second epoch that has no parts, by the place of its node.
fn unpaid(world: &World, number: u8, index: u64) -> PartLeaf {
    PartLeaf::new(world.node(number).address(), index, Part::Node, Amount(1_000))
}

/// Changes the first refund that is so.
fn refund(lines: &mut Lines, is_so: fn(&PartLeaf, &RefundOf) -> bool, to: impl FnOnce(&mut PartLeaf, &mut RefundOf)) {
    let rows = lines.iter_mut().flat_map(|line| &mut line.parts);
    let row = rows.into_iter().find(|row| is_part(row, |part| part.refund.is_some_and(|of| is_so(part, &of)))).unwrap();
    change(row, |part| {
        let mut of = part.refund.unwrap();
        to(part, &mut of);
        part.refund = Some(of);
    });
}

/// A refund of a lane that nobody asked for.
fn not_due(world: &World) -> PartLeaf {
    PartLeaf::refund(world.t.node.address(), Hash32([1; 32]), Amount(9), Witness::NONE)
}

pub(crate) const CHANGES: [(&str, PayoutMode, Change); 49] = [
    ("total", PayoutMode::Head, Change::Total),
    ("a leaf's bytes", PayoutMode::LeafForm, Change::Rows(|rows| rows[0].0.bytes.push(0))),
    ("a leaf's amount", PayoutMode::LeafForm, Change::Rows(|rows| rows[1].0.amount.0 -= 1)),
    ("leaves swapped", PayoutMode::LeafOrder, Change::Lines(|_, lines| lines.swap(0, 1))),
    (
        "last leaves swapped",
        PayoutMode::LeafOrder,
        Change::Lines(|_, lines| {
            let last = lines.len() - 1;
            lines.swap(last - 1, last);
        }),
    ),
    (
        "one account twice",
        PayoutMode::LeafOrder,
        Change::Lines(|_, lines| {
            let twin = Line { previous: Amount::ZERO, parts: vec![], ..lines[0].clone() };
            lines.insert(0, twin);
        }),
    ),
    (
        "sum below",
        PayoutMode::Sum,
        Change::Rows(|rows| {
            let mut leaf = rows[0].0.leaf().unwrap();
            leaf.cumulative.0 -= 1;
            rows[0].0 = Row::from(&leaf);
        }),
    ),
    (
        "sum without parts",
        PayoutMode::Sum,
        Change::Rows(|rows| {
            let place = rows.iter().position(|(_, parts)| !parts.is_empty()).unwrap();
            let mut leaf = rows[place].0.leaf().unwrap();
            leaf.parts = no_parts();
            rows[place] = (Row::from(&leaf), vec![]);
        }),
    ),
    (
        "previous below",
        PayoutMode::Previous,
        Change::Lines(|_, lines| {
            lines.iter_mut().find(|line| line.previous.0 > 0).unwrap().previous.0 -= 1;
        }),
    ),
    (
        "previous of nobody",
        PayoutMode::Previous,
        Change::Lines(|_, lines| {
            lines.insert(0, Line { account: Address([0; 20]), previous: Amount(5), parts: vec![] });
        }),
    ),
    (
        "previous of the last nobody",
        PayoutMode::Previous,
        Change::Lines(|_, lines| {
            lines.push(Line { account: Address([0xff; 20]), previous: Amount(5), parts: vec![] });
        }),
    ),
    (
        "an account dropped",
        PayoutMode::Dropped,
        Change::Lines(|_, lines| {
            // What is dropped must be made up for: the total may not fall.
            let at = lines.iter().position(|line| line.previous.0 > 0 && line.parts.is_empty()).unwrap();
            lines.remove(at);
        }),
    ),
    ("a part's bytes", PayoutMode::PartForm, Change::Lines(|_, lines| with_parts(lines).parts[0].bytes.push(0))),
    ("a part's amount", PayoutMode::PartForm, Change::Lines(|_, lines| with_parts(lines).parts[1].amount.0 -= 1)),
    (
        "a part of nothing",
        PayoutMode::PartForm,
        Change::Lines(|_, lines| {
            change(&mut with_parts(lines).parts[0], |part| part.amount = Amount::ZERO);
            with_parts(lines).parts[0].amount = Amount::ZERO;
        }),
    ),
    ("parts swapped", PayoutMode::PartOrder, Change::Lines(|_, lines| with_parts(lines).parts.swap(0, 1))),
    (
        "a part twice",
        PayoutMode::PartOrder,
        Change::Lines(|_, lines| {
            let parts = &mut with_parts(lines).parts;
            let mut half = parts[0].part().unwrap();
            half.amount.0 /= 2;
            parts[0] = Row::from(&half);
            parts.insert(0, Row::from(&half));
        }),
    ),
    ("a part below", PayoutMode::Part, Change::Lines(|_, lines| change(&mut with_parts(lines).parts[0], |part| part.amount.0 -= 1))),
    ("a part above", PayoutMode::Part, Change::Lines(|_, lines| change(&mut with_parts(lines).parts[0], |part| part.amount.0 += 1))),
    (
        "a part of another account",
        PayoutMode::Part,
        Change::Lines(|world, lines| {
            let part = take(lines, |part| part.part == Part::Treasury(0).code());
            assert!(lines.iter().any(|line| line.account == a_treasury()));
            give(lines, world.t.node.address(), part);
        }),
    ),
    (
        "a span's part to the node",
        PayoutMode::Part,
        Change::Lines(|world, lines| {
            let part = take(lines, |part| part.part >= Part::Span(0).code() && part.refund.is_none());
            give(lines, world.t.node.address(), part);
        }),
    ),
    (
        "a code that is none",
        PayoutMode::Part,
        Change::Lines(|world, lines| {
            give(lines, a_treasury(), PartLeaf { part: 7, ..unpaid(world, 0, 0) });
        }),
    ),
    (
        "a treasury that is none",
        PayoutMode::Part,
        Change::Lines(|world, lines| {
            give(lines, a_treasury(), PartLeaf { part: Part::Treasury(1).code(), ..unpaid(world, 0, 0) });
        }),
    ),
    (
        "a node without a root",
        PayoutMode::Part,
        Change::Lines(|world, lines| {
            give(lines, a_treasury(), PartLeaf { node: Address([3; 20]), ..unpaid(world, 0, 0) });
        }),
    ),
    ("a receipt beyond the count", PayoutMode::Part, Change::Lines(|world, lines| give(lines, a_treasury(), unpaid(world, 0, 4)))),
    (
        "a receipt that bills nothing",
        PayoutMode::Part,
        Change::Lines(|world, lines| {
            give(lines, world.t.node.address(), unpaid(world, 0, 3));
        }),
    ),
    ("a void receipt", PayoutMode::Part, Change::Lines(|world, lines| give(lines, world.t.node.address(), unpaid(world, 0, 1)))),
    (
        "a receipt not collected",
        PayoutMode::Part,
        Change::Lines(|world, lines| {
            give(lines, world.other.address(), unpaid(world, 1, 1));
        }),
    ),
    (
        "a part missing",
        PayoutMode::Missing,
        Change::Lines(|_, lines| {
            take(lines, |part| part.part == Part::Node.code());
        }),
    ),
    (
        "the first part missing",
        PayoutMode::Missing,
        Change::Lines(|_, lines| {
            let first = with_parts(lines).parts[0].part().unwrap();
            take(lines, |part| *part == first);
        }),
    ),
    (
        "an account without its parts",
        PayoutMode::Missing,
        Change::Lines(|_, lines| {
            lines.iter_mut().find(|line| line.account == a_treasury()).unwrap().parts.clear();
        }),
    ),
    (
        "a refund to another",
        PayoutMode::Refund,
        Change::Lines(|world, lines| {
            let part = take(lines, |part| part.refund.is_some());
            give(lines, world.t.node.address(), part);
        }),
    ),
    (
        "a refund too high",
        PayoutMode::Refund,
        Change::Lines(|_, lines| {
            refund(lines, |part, _| part.amount.0 > open(2).0, |part, _| part.amount.0 += 1);
        }),
    ),
    (
        "a refund too low",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |part, _| part.amount.0 > open(2).0, |part, _| part.amount.0 -= 1)),
    ),
    (
        "a refund of a wei",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |part, _| part.amount.0 > open(2).0, |part, _| part.amount.0 = 1)),
    ),
    (
        "a refund of nothing that is one of a wei",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |part, _| part.amount.0 == 0, |part, _| part.amount.0 = 1)),
    ),
    (
        "a whole lane's refund too low",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |_, of| of.witness == Witness::NONE, |part, _| part.amount.0 -= 1)),
    ),
    (
        "a whole lane's refund too high",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |_, of| of.witness == Witness::NONE, |part, _| part.amount.0 += 1)),
    ),
    (
        "a whole lane's refund with a witness",
        PayoutMode::Refund,
        Change::Lines(|world, lines| {
            let witness = Witness { epoch: 1, node: world.t.node.address(), index: 0 };
            refund(lines, |_, of| of.witness == Witness::NONE, |_, of| of.witness = witness);
        }),
    ),
    (
        "a refund without its witness",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |part, _| part.amount.0 > open(2).0, |_, of| of.witness = Witness::NONE)),
    ),
    (
        "a refund behind an earlier receipt",
        PayoutMode::Refund,
        Change::Lines(|_, lines| {
            refund(
                lines,
                |part, _| part.amount.0 > open(2).0,
                |part, of| {
                    of.witness.index = 1;
                    part.amount = open(6);
                },
            );
        }),
    ),
    (
        "a witness of another lane",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |part, _| part.amount.0 > open(2).0, |_, of| of.witness.index = 0)),
    ),
    (
        "a witness beyond its root",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |part, _| part.amount.0 > open(2).0, |_, of| of.witness.index = 4)),
    ),
    (
        "a witness of a node without a root",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |part, _| part.amount.0 == 0, |_, of| of.witness.node = Address([3; 20]))),
    ),
    (
        "a witness to come",
        PayoutMode::Refund,
        Change::Lines(|_, lines| refund(lines, |part, _| part.amount.0 == 0, |_, of| of.witness.epoch = 3)),
    ),
    (
        "a refund left out",
        PayoutMode::LeftOut,
        Change::Lines(|_, lines| {
            take(lines, |part| part.refund.is_some() && part.amount.0 > open(2).0);
        }),
    ),
    (
        "a refund of nothing left out",
        PayoutMode::LeftOut,
        Change::Lines(|_, lines| {
            take(lines, |part| part.refund.is_some() && part.amount.0 == 0);
        }),
    ),
    (
        "all refunds left out",
        PayoutMode::LeftOut,
        Change::Lines(|_, lines| {
            let client = account(super::money::CLIENT).address();
            lines.retain(|line| line.account != client);
        }),
    ),
    (
        "a refund of a lane that is not due",
        PayoutMode::Refund,
        Change::Lines(|world, lines| {
            give(lines, world.t.node.address(), not_due(world));
        }),
    ),
];

/// Every proof about every row of a tree, whatever it opens that the contract reads to its end.
fn every_proof(case: &Case<'_>) -> Vec<PayoutProof> {
    let (posted, mut proofs) = (case.posted, vec![case.posted.prove_head()]);
    for leaf in 0..posted.leaves().len() {
        proofs.extend(posted.prove_leaf_form(leaf));
        proofs.extend(posted.prove_leaf_order(leaf));
        proofs.extend(posted.prove_sum(leaf));
        proofs.extend(posted.prove_previous(leaf, case.last));
        for place in 0..posted.parts(leaf).len() {
            proofs.extend(posted.prove_part_form(leaf, place));
            proofs.extend(posted.prove_part_order(leaf, place));
        }
    }
    let last = case.last.unwrap();
    for leaf in 0..last.leaves().len() {
        assert!(posted.prove_dropped(leaf, last).is_none(), "who is there was not dropped");
        // Two neighbours that it does not stand between.
        for pair in 1..posted.leaves().len() {
            let leaves = [asked_leaf(last, leaf), Some(vec![3]), asked_leaf(posted, pair - 1), asked_leaf(posted, pair)];
            proofs.push(PayoutProof { mode: PayoutMode::Dropped, evidence: leaves.into_iter().flatten().flatten().collect() });
        }
    }
    let unasked = PartLeaf::refund(Address([0x77; 20]), Hash32([1; 32]), Amount(9), Witness::NONE);
    proofs.extend(posted.prove_left_out(Address([0x77; 20]), &unasked));
    for ((epoch, node), bodies) in case.receipts {
        let Some((root, block)) = root_of(case.state, *epoch, *node) else { continue };
        for (index, body) in (0..).zip(bodies) {
            let opening = tree_of(bodies).unwrap().open(index).unwrap();
            let billed =
                Billed { root: &root, block, opening: &opening, receipt: &body.receipt, quote: &body.quote, manifest: &body.manifest };
            for leaf in 0..posted.leaves().len() {
                for (place, row) in posted.parts(leaf).iter().enumerate() {
                    let part = row.part().unwrap();
                    if *epoch == case.epoch && (part.node, part.receipt) == (*node, index) {
                        proofs.extend(posted.prove_part(leaf, place, Opened::All(&billed)));
                    }
                    let Some(of) = part.refund else { continue };
                    assert!(posted.prove_left_out(line_of(posted, leaf), &part).is_none(), "what is there was not left out");
                    proofs.extend(posted.prove_refund(leaf, place, Against::NoWitness));
                    proofs.extend(posted.prove_refund(leaf, place, Against::Higher(&billed)));
                    if of.witness == (Witness { epoch: *epoch, node: *node, index }) {
                        proofs.extend(posted.prove_refund(leaf, place, Against::Witness(&billed)));
                    }
                }
            }
            // A part that nobody has: of a role nobody holds, of a receipt that is void or not collected.
            for code in [0, 1, 2, 3, 4, 5, 6, 7, 256, 257, 65_536, 65_537] {
                let part = PartLeaf { node: *node, receipt: index, part: code, amount: Amount(1), refund: None };
                proofs.extend(posted.prove_missing(Address([0x77; 20]), &part, &billed));
            }
        }
    }
    proofs
}

fn line_of(shown: &Shown, leaf: usize) -> Address {
    shown.leaves()[leaf].leaf().unwrap().account
}

pub(crate) fn try_proof(world: &mut World, proof: &PayoutProof) -> Result<u64, String> {
    world.t.evm.try_proof(account(4).address(), &Proof::payout(proof)).map(|done| done.gas)
}

#[test]
fn a_tree_that_its_receipts_give_is_wrong_in_no_mode() {
    for seed in 0..u64::from(cases(4)) {
        let mut world = World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1);
        let shown = Shown::new(seal(&world.expected())).unwrap();
        world.post(&shown, shown.total()).unwrap();
        let case = world.case(&shown, &shown);
        assert_eq!(first_fault(&case), Ok(None), "seed {seed}");
        let proofs = every_proof(&case);
        let mut modes = std::collections::BTreeSet::new();
        for proof in proofs {
            modes.insert(proof.mode);
            let done = try_proof(&mut world, &proof);
            let refused = done.expect_err("an honest tree was refuted");
            assert!(!refused.starts_with("trailing") && !refused.starts_with("truncated"), "seed {seed}, {:?}: {refused}", proof.mode);
        }
        assert_eq!(modes.len(), PayoutMode::ALL.len(), "every mode was tried: {modes:?}");
    }
}

#[test]
fn each_change_of_a_tree_is_found_and_proven_in_its_mode() {
    for seed in 0..u64::from(cases(1)) {
        let mut world = World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xfeed_5678_9abc_def1);
        let (honest, before) = (world.expected(), world.t.evm.snapshot());
        let expected = Shown::new(seal(&honest)).unwrap();
        for (what, mode, to) in CHANGES {
            world.t.evm.restore(&before);
            let mut lines = honest.clone();
            if let Change::Lines(to) = to {
                to(&world, &mut lines);
            }
            let mut rows = seal(&lines);
            if let Change::Rows(to) = to {
                to(&mut rows);
            }
            let shown = Shown::new(rows).unwrap();
            let total = if matches!(to, Change::Total) { Amount(shown.total().0 - 1) } else { shown.total() };
            world.post(&shown, total).unwrap_or_else(|error| panic!("{what}: {error}"));
            let proof = first_fault(&world.case(&shown, &expected)).unwrap_or_else(|error| panic!("{what}: {error}"));
            let proof = proof.unwrap_or_else(|| panic!("{what}: nothing found"));
            assert_eq!(proof.mode, mode, "{what}");
            let gas = try_proof(&mut world, &proof).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(gas < 400_000, "{what}: {gas} gas");
        }
    }
}

/// Three lines, and a tree over them that has something beyond them.
pub(crate) fn with_something_beyond() -> (Vec<Row>, SumTree) {
    let row = |byte| {
        let account = Address([byte; 20]);
        Row::from(&PayoutLeaf { account, previous: Amount::ZERO, cumulative: open(2), parts: no_parts() })
    };
    let rows: Vec<Row> = (1..4).map(row).collect();
    let mut leaves: Vec<Summed> = rows.iter().map(|row| Summed::leaf(&row.bytes, row.amount)).collect();
    leaves.push(Summed { digest: Hash32([7; 32]), sum: Amount::ZERO });
    (rows, SumTree::new(leaves).unwrap())
}

#[test]
fn a_tree_with_something_beyond_its_leaves_is_refuted() {
    let mut world = World::new(77);
    let (rows, tree) = with_something_beyond();
    let mut opening = tree.open(2).unwrap();
    opening.leaves = 3;
    let (root, total) = opening.root(Summed::leaf(&rows[2].bytes, rows[2].amount)).unwrap();
    world.post_root(root, total).unwrap();
    let packer = chain_bridge::fraud::pack::Packer::new().blob(&rows[2].bytes);
    let evidence = packer.raw(&rows[2].amount.0.to_be_bytes()).sum_opening(&opening).finish();
    try_proof(&mut world, &PayoutProof { mode: PayoutMode::LeafForm, evidence }).unwrap();
}

#[test]
fn a_refund_names_the_first_of_the_receipts_that_leave_it() {
    let mut world = World::new(5);
    let expected = world.expected();
    let mut lines = expected.clone();
    // The later of two receipts that leave as little.
    let later = Witness { epoch: 2, node: world.other.address(), index: 2 };
    refund(&mut lines, |part, _| part.amount.0 == 0, |_, of| of.witness = later);
    let (expected, shown) = (Shown::new(seal(&expected)).unwrap(), Shown::new(seal(&lines)).unwrap());
    world.post(&shown, shown.total()).unwrap();
    let found = first_fault(&world.case(&expected, &expected));
    assert!(matches!(found, Err(SearchError::OtherTree { .. })), "{found:?}");
    let proof = first_fault(&world.case(&shown, &expected)).unwrap().expect("one set of receipts gives one root");
    assert_eq!(proof.mode, PayoutMode::Refund);
    try_proof(&mut world, &proof).unwrap();
}
