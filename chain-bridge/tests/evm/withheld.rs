//! A poster that shows its tree only where the chain makes it: what is asked, answered, settled and proven, each step by the compiled contracts.

use chain_bridge::fraud::{
    calldata::Step,
    challenge::{leaf_evidence, part_evidence},
    pack::Packer,
    payout::{PayoutMode, Row, Shown},
    withheld::{Answers, Case, Next, Question, next},
};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    merkle::{SumTree, Summed, keccak},
};

use super::{
    harness::account,
    money::{Line, World, seal},
    payout::{CHANGES, Change, try_proof, with_something_beyond},
    transcript::cases,
};

/// How a watched payout ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// A proof that the verifier takes.
    Proven(PayoutMode),
    /// The poster could not show what it was asked for.
    Silence(Question),
    /// A proof that the verifier refuses.
    Refused(PayoutMode),
    /// Nothing to prove.
    Nothing,
}

fn case<'a>(world: &'a World, expected: &'a Shown) -> Case<'a> {
    Case { state: &world.t.evm.state, epoch: world.epoch, expected, last: world.last.as_ref(), receipts: &world.receipts }
}

/// Asks until it ends; the poster answers with what `show` gives, as far as the contract takes it. Also how many questions that took.
fn watch(world: &mut World, expected: &Shown, show: impl Fn(&Question) -> Option<Vec<u8>>) -> (End, usize) {
    let (asker, poster) = (account(4).address(), world.t.node.address());
    let root = world.t.evm.state.epoch(world.epoch).unwrap().payout.unwrap().root;
    let mut answers = Answers::default();
    for asked in 0..120 {
        let (question, leaf) = match next(&case(world, expected), &answers).unwrap() {
            Next::Ask(question, leaf) => (question, leaf),
            Next::Proof(proof) => {
                let taken = try_proof(world, &proof);
                return (if taken.is_ok() { End::Proven(proof.mode) } else { End::Refused(proof.mode) }, asked);
            }
            Next::Nothing(_) => return (End::Nothing, asked),
        };
        let ask = match &question {
            Question::Leaf(index) => Step::ask_leaf(*index),
            Question::Part { index, .. } => Step::ask_part(leaf, *index),
        };
        world.t.evm.step(asker, &ask).unwrap_or_else(|error| panic!("{question:?}: {error}"));
        let shown = show(&question).filter(|evidence| {
            let step = match &question {
                Question::Leaf(index) => Step::show_leaf(*index, evidence.clone()),
                Question::Part { index, .. } => Step::show_part(*index, evidence.clone()),
            };
            world.t.evm.step(poster, &step).is_ok()
        });
        let Some(evidence) = shown else {
            world.t.evm.time += world.t.evm.deployment.config.answer_s;
            let settle = match &question {
                Question::Leaf(index) => Step::settle_leaf(*index),
                Question::Part { leaf, index, .. } => Step::settle_part(*leaf, *index),
            };
            world.t.evm.step(asker, &settle).unwrap_or_else(|error| panic!("{question:?}: {error}"));
            assert!(world.t.evm.state.epoch(world.epoch).unwrap().payout.is_none(), "it is taken back");
            return (End::Silence(question), asked);
        };
        answers.take(&evidence, root);
    }
    panic!("no end");
}

/// What the poster of a tree answers.
fn by_tree(posted: &Shown) -> impl Fn(&Question) -> Option<Vec<u8>> {
    |question| match question {
        Question::Leaf(index) => Some(leaf_evidence(posted, *index)),
        Question::Part { leaf, index, .. } => part_evidence(posted, *leaf as usize, *index),
    }
}

fn change(world: &World, honest: &[Line], to: &Change) -> Shown {
    let mut lines = honest.to_vec();
    if let Change::Lines(to) = to {
        to(world, &mut lines);
    }
    let mut rows = seal(&lines);
    if let Change::Rows(to) = to {
        to(&mut rows);
    }
    Shown::new(rows).unwrap()
}

#[test]
fn each_change_of_a_tree_that_is_shown_only_on_the_chain_is_taken_back() {
    for seed in 0..u64::from(cases(1)) {
        let mut world = World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xfeed_5678_9abc_def1);
        let (honest, before) = (world.expected(), world.t.evm.snapshot());
        let expected = Shown::new(seal(&honest)).unwrap();
        let mut modes = std::collections::BTreeSet::new();
        for (what, mode, to) in &CHANGES {
            world.t.evm.restore(&before);
            let posted = change(&world, &honest, to);
            let total = if matches!(to, Change::Total) { Amount(posted.total().0 - 1) } else { posted.total() };
            world.post(&posted, total).unwrap_or_else(|error| panic!("{what}: {error}"));
            let (end, asked) = watch(&mut world, &expected, by_tree(&posted));
            assert!(asked <= 24, "{what}: {asked} questions");
            match end {
                End::Proven(found) => drop(modes.insert(found)),
                // What is no leaf or no part the contract does not let anybody show.
                End::Silence(_) => assert!([PayoutMode::LeafForm, PayoutMode::PartForm].contains(mode), "{what}: {end:?}"),
                other => panic!("{what}: {other:?}"),
            }
        }
        let all = PayoutMode::ALL.into_iter().filter(|mode| ![PayoutMode::LeafForm, PayoutMode::PartForm].contains(mode));
        assert_eq!(modes, all.collect(), "every other mode was proven");
    }
}

#[test]
fn of_an_honest_tree_nothing_is_proven_even_by_who_expects_another() {
    for seed in 0..u64::from(cases(1)) {
        let mut world = World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1);
        let honest = world.expected();
        let posted = Shown::new(seal(&honest)).unwrap();
        world.post(&posted, posted.total()).unwrap();
        let before = world.t.evm.snapshot();
        assert_eq!(watch(&mut world, &posted, by_tree(&posted)).0, End::Nothing);
        let mut refused = std::collections::BTreeSet::new();
        for (what, _, to) in &CHANGES {
            world.t.evm.restore(&before);
            let mistaken = change(&world, &honest, to);
            match watch(&mut world, &mistaken, by_tree(&posted)).0 {
                End::Nothing => {}
                End::Refused(mode) => drop(refused.insert(mode)),
                other => panic!("{what}: {other:?}"),
            }
        }
        for mode in [PayoutMode::Part, PayoutMode::Missing, PayoutMode::LeftOut] {
            assert!(refused.contains(&mode), "{mode:?} was built and refused: {refused:?}");
        }
    }
}

#[test]
fn lines_without_money_that_no_proof_shows_hide_no_fault_behind_them() {
    let mut world = World::new(11);
    let honest = world.expected();
    let expected = Shown::new(seal(&honest)).unwrap();
    let mut lines = honest;
    let last = lines.len() - 1;
    let moved = lines.iter().rposition(|line| line.parts.len() > 1).unwrap();
    let mut part = lines[moved].parts[0].part().unwrap();
    part.amount.0 -= 1;
    lines[moved].parts[0] = Row::from(&part);
    let empty = |byte| Line { account: Address([byte; 20]), previous: Amount::ZERO, parts: vec![] };
    lines.push(Line { account: Address([0xff; 20]), ..empty(0) });
    lines.splice(0..0, [empty(0), empty(1)]);
    assert!(last > 2);
    let posted = Shown::new(seal(&lines)).unwrap();
    world.post(&posted, posted.total()).unwrap();
    let (end, asked) = watch(&mut world, &expected, by_tree(&posted));
    assert_eq!(end, End::Proven(PayoutMode::Part), "after {asked} questions");
}

/// A leaf's opening in a tree that says it has more leaves than anybody can show: levels of `above` over the real ones.
fn deeper(shown: &Shown, place: usize, above: &[Summed], count: u64) -> Vec<u8> {
    let leaves: Vec<Summed> = shown.leaves().iter().map(|row| Summed::leaf(&row.bytes, row.amount)).collect();
    let mut opening = SumTree::new(leaves).unwrap().open(place as u64).unwrap();
    opening.leaves = count;
    opening.siblings.extend(above);
    Packer::new().raw(&shown.leaves()[place].bytes).sum_opening(&opening).finish()
}

#[test]
fn a_tree_that_says_it_has_more_leaves_than_any_memory_holds_is_taken_back() {
    for levels in [41, 64] {
        let mut world = World::new(21);
        let expected = Shown::new(seal(&world.expected())).unwrap();
        let depth = expected.leaves().len().next_power_of_two().trailing_zeros() as usize;
        let above = vec![Summed { digest: Hash32([7; 32]), sum: Amount::ZERO }; levels - depth];
        let count = 1_u64.checked_shl(levels as u32).unwrap_or(u64::MAX);
        let first = deeper(&expected, 0, &above, count);
        // The root is that of the opening's head: climb from the first leaf.
        let leaves: Vec<Summed> = expected.leaves().iter().map(|row| Summed::leaf(&row.bytes, row.amount)).collect();
        let mut top = SumTree::new(leaves).unwrap().top();
        for sibling in &above {
            let bytes = [&[1][..], &top.digest.0, &top.sum.0.to_be_bytes(), &sibling.digest.0, &sibling.sum.0.to_be_bytes()].concat();
            top = Summed { digest: keccak(&[&bytes]), sum: top.sum };
        }
        let root = keccak(&[&[3], &count.to_be_bytes(), &top.sum.0.to_be_bytes(), &top.digest.0]);
        world.post_root(root, top.sum).unwrap();
        let known = expected.leaves().len() as u64;
        let show = |question: &Question| match question {
            Question::Leaf(0) => Some(first.clone()),
            Question::Leaf(index) if *index < known => Some(deeper(&expected, *index as usize, &above, count)),
            _ => None,
        };
        let (end, asked) = watch(&mut world, &expected, show);
        assert!(matches!(end, End::Silence(Question::Leaf(_)) | End::Proven(_)), "{levels} levels: {end:?}");
        assert!(asked > 0, "its first leaf was shown and read");
    }
}

#[test]
fn money_beyond_the_leaves_is_proven_by_a_leaf_that_shows_it() {
    let mut world = World::new(77);
    let (rows, tree) = with_something_beyond();
    let show = |index: u64| {
        let mut opening = tree.open(index.min(2)).unwrap();
        opening.leaves = 3;
        Packer::new().raw(&rows[index.min(2) as usize].bytes).sum_opening(&opening).finish()
    };
    let expected = Shown::new(rows.iter().map(|row| (row.clone(), vec![])).collect()).unwrap();
    let mut opening = tree.open(0).unwrap();
    opening.leaves = 3;
    let (root, total) = opening.root(Summed::leaf(&rows[0].bytes, rows[0].amount)).unwrap();
    world.post_root(root, total).unwrap();
    let (end, _) = watch(&mut world, &expected, |question| match question {
        Question::Leaf(index) => Some(show(*index)),
        Question::Part { .. } => None,
    });
    assert_eq!(end, End::Proven(PayoutMode::LeafForm));
}
