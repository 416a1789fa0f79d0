//! Slash cases on the deployed suite: opened, answered and closed with what Rust packs, over random holdings and leaves; and the books that follow from the events.

use chain_bridge::{
    bindings::{AssetRegistry, AuditCase, Erasures},
    case::{Asked, PART_BYTES, Question, parts_of},
    registry::event::Custody,
};
use types::{
    amount::Amount,
    audit::{AuditCommit, HeldFragment},
    key::Signed,
    merkle::{Tree, keccak},
};

use super::{
    differential::random::Rng,
    harness::{Evm, account, open},
    rent::{NET, contribute, object},
    transcript::cases,
};

const NODE: u8 = 1;
const OPENER: u8 = 2;
const TEXTS: u32 = 4;

/// A bonded node that holds a fragment of each contribution.
struct World {
    evm: Evm,
    rng: Rng,
    fragments: Vec<Vec<u8>>,
    held: Vec<HeldFragment>,
}

impl World {
    fn new() -> Self {
        let mut evm = Evm::new();
        evm.bond(&account(NODE), open(100));
        let (owner, registry) = (account(7), evm.deployment.registry);
        evm.call(owner.address(), registry, &AssetRegistry::registerCall { kind: 3, uri: "card".into() }, Amount::ZERO).unwrap();
        (0..TEXTS).for_each(|number| contribute(&mut evm, &owner, number, 100));
        let mut world = Self { evm, rng: Rng(11), fragments: Vec::new(), held: Vec::new() };
        world.later(1, 2);
        world
    }

    fn later(&mut self, blocks: u64, seconds: u64) {
        (self.evm.block, self.evm.time) = (self.evm.block + blocks, self.evm.time + seconds);
    }

    /// Fragments of random lengths, and what the node signs of them now.
    fn commit(&mut self) -> Signed<AuditCommit> {
        self.fragments.clear();
        for _ in 0..TEXTS {
            let length = if self.rng.is(3) { 1 + self.rng.below(3_000) } else { 1_024 * (1 + self.rng.below(40)) };
            let seed = self.rng.u32();
            self.fragments.push((0..length as u32).map(|i| (i.wrapping_mul(seed | 1) >> 7) as u8).collect());
        }
        let held = |(number, bytes): (u32, &Vec<u8>)| HeldFragment {
            object: object(number),
            fragment: number as u8,
            fragments: 48,
            bytes: bytes.len() as u32,
            root: Tree::over(bytes.chunks(PART_BYTES)).root(),
        };
        self.held = (0..).zip(&self.fragments).map(held).collect();
        let leaves: Vec<_> = self.held.iter().map(HeldFragment::leaf).collect();
        let holdings = Tree::over(leaves.iter().map(Vec::as_slice)).root();
        // An epoch of the network's own count: the contract looks at the block alone.
        let epoch = (1 << 63) | (self.evm.block / 8);
        let said = AuditCommit { node: account(NODE).address(), epoch, holdings, ranges: 9, block: self.evm.block };
        Signed::new(&account(NODE), &self.evm.deployment.domains(), said)
    }

    fn question(&mut self, commit: &Signed<AuditCommit>, place: usize) -> Question {
        let part = self.rng.below(parts_of(self.held[place].bytes).into()) as u32;
        Question::new(commit.clone(), &self.held, place, (NET, place as u32), part).unwrap()
    }

    fn open(&mut self, question: &Question) -> Result<Asked, String> {
        let call = question.call(&self.evm.deployment);
        self.evm.send(account(OPENER).address(), call).map(|_| question.asked())
    }

    fn owed(&mut self) -> u128 {
        let at = self.evm.deployment.cases;
        let owed = self.evm.view(at, &AuditCase::owedCall(super::harness::address(account(OPENER).address()))).unwrap().to::<u128>();
        assert_eq!(self.evm.state.owed(Custody::Cases, account(OPENER).address()).0, owed);
        owed
    }
}

#[test]
fn what_rust_asks_and_answers_is_what_the_contract_asks_and_takes() {
    let mut world = World::new();
    let node = account(NODE).address();
    let mut asked_in_all = 0;
    for _ in 0..cases(30) {
        let commit = world.commit();
        for place in 0..TEXTS as usize {
            let question = world.question(&commit, place);
            let asked = world.open(&question).unwrap();
            let case = *world.evm.state.case(asked.id()).unwrap();
            assert_eq!((case.asked, case.object, case.fragment), (asked, object(place as u32), place as u8));
            assert_eq!((case.signed_at, case.deadline), (commit.document.block, world.evm.time + 600));
            assert_eq!(world.evm.state.cases_of(node).count(), 1);
            let mut answer = asked.answer(&world.fragments[place]).unwrap();
            answer.bytes[0] ^= 1;
            let call = answer.call(&world.evm.deployment);
            assert!(world.evm.send(node, call).unwrap_err().starts_with("wrong root"));
            answer.bytes[0] ^= 1;
            let call = answer.call(&world.evm.deployment);
            world.evm.send(node, call).unwrap();
            assert_eq!(world.evm.state.cases().count(), 0);
            asked_in_all += 1;
            // Gas is free here: the whole bond is the opener's again.
            assert_eq!(world.owed(), asked_in_all * open(1).0);
        }
        world.later(1, 2);
    }
    let deployment = &world.evm.deployment;
    assert_eq!(world.evm.balance(deployment.cases).0, asked_in_all * open(1).0);
    assert_eq!(world.evm.state.operator(node).unwrap().active, open(100));
}

#[test]
fn silence_takes_a_tenth_once_for_all_that_was_signed_before() {
    let mut world = World::new();
    let node = account(NODE).address();
    let commit = world.commit();
    let questions: Vec<_> = (0..2).map(|place| world.question(&commit, place)).collect();
    let asked: Vec<_> = questions.iter().map(|question| world.open(question).unwrap()).collect();
    assert!(world.open(&questions[0]).unwrap_err().starts_with("known case"));
    let anybody = account(9).address();
    let close = |world: &mut World, asked: &Asked| {
        let call = asked.close_call(&world.evm.deployment);
        world.evm.send(anybody, call)
    };
    assert!(close(&mut world, &asked[0]).unwrap_err().starts_with("still open"));
    world.later(50, 600);
    close(&mut world, &asked[0]).unwrap();
    assert_eq!(world.evm.state.convicted_at(node), Some(world.evm.block));
    assert_eq!(world.evm.state.operator(node).unwrap().active, open(90));
    let mut word = [0_u8; 32];
    word[31] = 96;
    let mut words = word.to_vec();
    words.extend([[0; 12].as_slice(), &node.0].concat());
    words.extend([[0; 24].as_slice(), &commit.document.block.to_be_bytes()].concat());
    word[31] = 2;
    words.extend(word);
    words.extend([b"S1".as_slice(), &[0; 30]].concat());
    let slash = world.evm.state.slashes().iter().find(|slash| slash.account == node).unwrap();
    assert_eq!((slash.fault, slash.amount, slash.reporter), (keccak(&[&words]), open(10), account(OPENER).address()));
    // The other case takes nothing any more, and what was signed opens none.
    close(&mut world, &asked[1]).unwrap();
    assert_eq!((world.evm.state.operator(node).unwrap().active, world.evm.state.cases().count()), (open(90), 0));
    let third = world.question(&commit, 2);
    assert!(world.open(&third).unwrap_err().starts_with("convicted since"));
    // Both bonds went straight back.
    assert_eq!((world.owed(), world.evm.balance(world.evm.deployment.cases)), (0, Amount::ZERO));
    // What it signs from the next block on counts, twice as much.
    world.later(1, 2);
    let commit = world.commit();
    let again = world.question(&commit, 3);
    let asked = world.open(&again).unwrap();
    world.later(1, 600);
    close(&mut world, &asked).unwrap();
    assert_eq!(world.evm.state.operator(node).unwrap().active, open(72));
}

#[test]
fn what_was_erased_ends_without_a_slash_and_old_words_open_nothing() {
    let mut world = World::new();
    let node = account(NODE).address();
    let commit = world.commit();
    let (first, second) = (world.question(&commit, 0), world.question(&commit, 1));
    let asked = world.open(&first).unwrap();
    let erase = Erasures::eraseCall { datanet: NET.0, contribution: alloy::primitives::U256::ZERO, reasonHash: [1; 32].into() };
    world.evm.call(account(7).address(), world.evm.deployment.erasures, &erase, Amount::ZERO).unwrap();
    let call = asked.close_call(&world.evm.deployment);
    world.evm.send(account(9).address(), call).unwrap();
    assert_eq!((world.evm.state.convicted_at(node), world.evm.state.operator(node).unwrap().active), (None, open(100)));
    assert!(world.open(&first).unwrap_err().starts_with("erased on request"));
    world.later(256, 512);
    let at_its_age = world.evm.snapshot();
    world.open(&second).unwrap();
    world.evm.restore(&at_its_age);
    world.later(1, 2);
    assert!(world.open(&second).unwrap_err().starts_with("too old"));
    let foreign = Question { commit: Signed { signature: types::key::Signed65([27; 65]), ..commit }, ..second };
    world.evm.restore(&at_its_age);
    assert!(world.open(&foreign).unwrap_err().starts_with("commit signature"));
}
