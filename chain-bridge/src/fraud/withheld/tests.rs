use std::collections::BTreeMap;

use types::{id::Hash32, payout::parts_tree, split::Part, time::BlockRef};

use super::{
    super::{
        challenge::{leaf_evidence, part_evidence},
        payout::Opened,
    },
    *,
};
use crate::registry::event::{Event, Logged};

/// Each account's parts of an epoch.
type Parts = BTreeMap<Address, Vec<PartLeaf>>;

/// The tree of these parts on top of what was paid before.
fn tree(previous: &BTreeMap<Address, Amount>, parts: &Parts) -> Shown {
    let accounts: std::collections::BTreeSet<Address> = previous.keys().chain(parts.keys()).copied().collect();
    let line = |account: Address| {
        let (parts, previous) = (parts.get(&account).cloned().unwrap_or_default(), previous.get(&account).copied().unwrap_or_default());
        let tree = parts_tree(&parts).unwrap();
        (PayoutLeaf { account, previous, cumulative: previous.plus(tree.total()).unwrap(), parts: tree.root() }, parts)
    };
    let lines: Vec<_> = accounts.into_iter().map(line).collect();
    Shown::of(lines.iter().map(|(leaf, parts)| (leaf, parts.as_slice()))).unwrap()
}

fn cumulative(tree: &Shown) -> BTreeMap<Address, Amount> {
    tree.leaves().iter().filter_map(Row::leaf).map(|leaf| (leaf.account, leaf.cumulative)).collect()
}

fn books(root: Hash32, total: Amount) -> State {
    let mut state = State::default();
    let opened = Event::EpochOpened { epoch: 1, opened_at: 10, accepts_until: 15, payout_from: 25 };
    let (previous, poster) = (Hash32::ZERO, Address([5; 20]));
    let posted = Event::PayoutPosted { epoch: 1, root, total, previous, poster, final_at: 99, bond: Amount::ZERO };
    for (log, event) in (0..).zip([opened, posted]) {
        let block = BlockRef { number: 100, hash: Hash32::ZERO };
        state.apply(&Logged { block, time: 12, transaction: Hash32::ZERO, log, event }).unwrap();
    }
    state
}

/// Each account's parts, of a node that submitted no root: whatever differs of them is provable without a receipt.
fn parts(accounts: &BTreeMap<u8, u64>) -> Parts {
    let part = |receipt| PartLeaf::new(Address([9; 20]), 2 * receipt, Part::Node, Amount(10 + u128::from(receipt)));
    accounts.iter().map(|(account, count)| (Address([*account; 20]), (0..*count).map(part).collect())).collect()
}

/// Asks a poster that has `posted` until something is proven; what, and after how many questions.
fn ask_on(case: &Case<'_>, posted: &Shown) -> (Next, usize) {
    let mut answers = Answers::default();
    for asked in 0..100 {
        match next(case, &answers).unwrap() {
            Next::Ask(Question::Leaf(index), _) => answers.take(&leaf_evidence(posted, index), posted.root()),
            Next::Ask(Question::Part { leaf, index, .. }, _) => {
                let place = usize::try_from(leaf).unwrap();
                answers.take(&part_evidence(posted, place, index).unwrap(), posted.root());
            }
            done => return (done, asked),
        }
    }
    panic!("a hundred questions and no end");
}

/// Whether a proof is one that the whole tree gives for its mode.
fn is_openable(proof: &PayoutProof, posted: &Shown, last: Option<&Shown>) -> bool {
    let of_leaf = |place: usize| {
        let parts = (0..posted.parts(place).len()).filter_map(move |part| posted.prove_part(place, part, Opened::Nothing));
        let alone = [posted.prove_sum(place), posted.prove_previous(place, last), posted.prove_leaf_order(place)];
        alone.into_iter().flatten().chain(parts).collect::<Vec<_>>()
    };
    let dropped = last.into_iter().flat_map(|last| (0..last.leaves().len()).filter_map(|place| posted.prove_dropped(place, last)));
    (0..posted.leaves().len()).flat_map(of_leaf).chain(dropped).chain([posted.prove_head()]).any(|known| known == *proof)
}

/// A generator of small numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A tree that is wrong in the way of `kind`, beside the right one and the one before both.
fn wrong_tree(numbers: &mut Numbers, kind: u64) -> (Shown, Shown, Shown) {
    let accounts = (0..=numbers.below(39)).map(|_| (u8::try_from(numbers.below(256)).unwrap(), 1 + numbers.below(8))).collect();
    let right = parts(&accounts);
    let chosen = *right.keys().nth(usize::try_from(numbers.below(right.len() as u64)).unwrap()).unwrap();
    let last = tree(&BTreeMap::from([(chosen, Amount(3))]), &Parts::new());
    let expected = tree(&cumulative(&last), &right);
    let (mut wrong, mut previous) = (right, cumulative(&last));
    let rows = wrong.get_mut(&chosen).unwrap();
    match kind {
        0 => {
            let at = usize::try_from(numbers.below(rows.len() as u64)).unwrap();
            rows[at].amount.0 += 1;
        }
        1 => {
            let account = Address([u8::try_from(numbers.below(256)).unwrap(); 20]);
            wrong.entry(account).or_default().insert(0, PartLeaf::new(Address([8; 20]), 1, Part::Node, Amount(7)));
        }
        2 => drop(previous.insert(chosen, Amount(4))),
        3 => {
            let extra = PartLeaf::new(Address([9; 20]), 3, Part::Node, Amount(1));
            let at = rows.partition_point(|row| row.place() < extra.place());
            rows.insert(at, extra);
        }
        _ => {
            wrong.remove(&chosen);
            previous.remove(&chosen);
        }
    }
    (last, expected, tree(&previous, &wrong))
}

#[test]
fn a_wrong_tree_that_is_shown_only_where_it_must_be_is_proven_in_as_many_answers_as_its_levels() {
    for seed in 0..300 {
        let mut numbers = Numbers(seed);
        let kind = numbers.below(5);
        let (last, expected, wrong) = wrong_tree(&mut numbers, kind);
        let posted = wrong;
        let (state, receipts) = (books(posted.root(), posted.total()), Receipts::new());
        let case = Case { state: &state, epoch: 1, expected: &expected, last: Some(&last), receipts: &receipts };
        match ask_on(&case, &posted) {
            (Next::Proof(proof), asked) => {
                let is_openable = is_openable(&proof, &posted, Some(&last));
                assert!(is_openable, "seed {seed}, kind {kind}: {:?}", proof.mode);
                // Levels of 41 leaves and of 10 parts, twice where the keys are halved, and the neighbours.
                assert!(asked <= 2 * (6 + 1) + 2 * (4 + 1) + 2, "seed {seed}, kind {kind}: {asked} questions");
            }
            other => panic!("seed {seed}, kind {kind}: {other:?}"),
        }
        let state = books(expected.root(), expected.total());
        let right = Case { state: &state, ..case };
        let (done, _) = ask_on(&right, &expected);
        assert!(matches!(done, Next::Nothing(_)), "seed {seed}: a right tree is proven wrong: {done:?}");
    }
}

#[test]
fn bytes_that_no_poster_showed_never_panic() {
    let tree = tree(&BTreeMap::new(), &parts(&BTreeMap::from([(1, 2), (2, 1)])));
    let whole = part_evidence(&tree, 0, 0).unwrap();
    for cut in 0..whole.len() {
        Answers::default().take(&whole[..cut], tree.root());
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[cut] ^= 1 << bit;
            let mut answers = Answers::default();
            answers.take(&bytes, tree.root());
            assert!(answers.parts.is_empty(), "byte {cut}, bit {bit}: another tree's part was taken");
        }
    }
}

#[test]
fn a_total_that_the_tree_does_not_have_is_proven_by_one_leaf() {
    let expected = tree(&BTreeMap::new(), &parts(&BTreeMap::from([(1, 2), (2, 1)])));
    let posted = expected.clone();
    let (state, receipts) = (books(posted.root(), Amount(posted.total().0 + 1)), Receipts::new());
    let case = Case { state: &state, epoch: 1, expected: &expected, last: None, receipts: &receipts };
    let (done, asked) = ask_on(&case, &posted);
    assert_eq!((done, asked), (Next::Proof(posted.prove_head()), 1));
}
