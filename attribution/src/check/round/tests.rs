use std::collections::BTreeSet;

use proptest::prelude::*;
use types::receipt::Finding;

use super::*;
use crate::check::ELIGIBLE_MIN;

const RULE: DrawRule = DrawRule { rate: u32::MAX, checkers: 2, eligible_min: ELIGIBLE_MIN };
const BEACON: Hash32 = Hash32([6; 32]);

fn account(byte: u8) -> Address {
    Address([byte; 20])
}

fn operators(count: u8) -> Operators {
    Operators::new(&(1..=count).map(|byte| (account(byte), u128::from(byte))).collect::<Vec<_>>()).unwrap()
}

fn receipts(node: u8, count: u64) -> Vec<Hash32> {
    (0..count).map(|number| keccak(&[&[node], &number.to_be_bytes()])).collect()
}

fn agrees(trace: u8) -> Outcome {
    Outcome::Judged { finding: Finding::Agrees, position: 0, trace: Hash32([trace; 32]) }
}

/// An epoch with roots until 100, seals until 200, shows until 300, and the beacon stored.
fn facts<'a>(time: u64, nodes: &'a [Address], operators: &'a Operators) -> Facts<'a> {
    Facts {
        time,
        accepts_until: 100,
        sealed_until: 200,
        shown_until: 300,
        is_ripe: Some(true),
        beacon: Some(BEACON),
        nodes,
        operators,
        said: None,
    }
}

fn round(checker: u8) -> Round {
    Round::new(3, account(checker), RULE, Hash32([9; 32]))
}

#[test]
fn the_beacon_is_announced_when_roots_are_over_and_stored_when_the_l1_has_come_so_far() {
    let (operators, mut round) = (operators(6), round(1));
    let nodes = [account(2)];
    let before = |time, is_ripe| Facts { is_ripe, beacon: None, ..facts(time, &nodes, &operators) };
    assert_eq!(round.steps(&before(99, None)), []);
    assert_eq!(round.steps(&before(100, None)), [Step::Announce]);
    assert_eq!(round.steps(&before(100, Some(false))), []);
    assert_eq!(round.steps(&before(199, Some(true))), [Step::Store]);
    assert_eq!(round.steps(&before(200, Some(true))), [], "nothing can be sealed any more");
    assert_eq!(round.steps(&Facts { nodes: &[], ..before(100, None) }), [], "there is nothing to check");
    let few = Operators::new(&[(account(1), 1), (account(2), 1)]).unwrap();
    assert_eq!(round.steps(&Facts { operators: &few, ..before(100, None) }), [], "nobody could be drawn");
}

#[test]
fn a_round_fetches_checks_seals_and_shows_and_each_failed_step_comes_again() {
    let operators = operators(6);
    let nodes = [account(1), account(2), account(3)];
    let mut round = round(1);
    let at = |time| facts(time, &nodes, &operators);
    let wanted = [Step::Fetch(account(2)), Step::Fetch(account(3))];
    assert_eq!(round.steps(&at(110)), wanted, "nobody checks its own answers");
    assert_eq!(round.steps(&at(111)), wanted);
    let own = round.fetched(account(2), &receipts(2, 40), BEACON, &operators);
    assert!((1..40).contains(&own), "{own}");
    assert_eq!(round.fetched(account(2), &receipts(2, 40), BEACON, &operators), 0, "once");
    round.unreachable(account(3));
    let open = round.steps(&at(112));
    assert_eq!(u64::try_from(open.len()).unwrap(), own);
    for step in open {
        let Step::Check(drawn) = step else { panic!("{step:?}") };
        assert_eq!(receipts(2, 40)[usize::try_from(drawn.index).unwrap()], drawn.receipt);
        round.checked(&drawn, agrees(1));
        round.checked(&drawn, Outcome::Withheld);
    }
    let steps = round.steps(&at(113));
    let stacked = round.sealed().unwrap().clone();
    assert_eq!(steps, [Step::Seal { root: stacked.sealed(), count: own }]);
    assert!(stacked.checks().iter().all(|check| check.outcome == agrees(1)), "the first word counts");
    assert_eq!(round.steps(&at(114)), steps, "until the chain has it");

    let said = |time, is_shown| Facts { said: Some((stacked.sealed(), is_shown)), ..at(time) };
    assert_eq!(round.steps(&said(115, false)), []);
    assert_eq!(round.steps(&said(200, false)), [Step::Show(stacked.shown())]);
    assert_eq!(round.steps(&said(201, true)), []);
    assert_eq!(round.steps(&said(300, false)), []);
    assert_eq!(round.steps(&at(200)), [], "nothing is shown that was not sealed");

    // After a restart the same is sealed and shown, and nothing else.
    let mut again = Round::resumed(3, account(1), RULE, stacked.checks().to_vec());
    assert_eq!(again.steps(&at(116)), steps);
    assert_eq!(again.fetched(account(3), &receipts(3, 40), BEACON, &operators), 0);
    assert_eq!(again.steps(&said(200, false)), [Step::Show(stacked.shown())]);
    let other = Facts { said: Some((Hash32([1; 32]), false)), ..at(200) };
    assert_eq!(again.steps(&other), [], "another root is on the chain: nothing here opens it");
}

#[test]
fn what_is_not_looked_at_in_time_is_sealed_as_that_and_costs_no_other_check() {
    let operators = operators(6);
    let nodes = [account(2), account(3)];
    let mut round = round(1);
    round.fetched(account(2), &receipts(2, 40), BEACON, &operators);
    let first = *round.drawn().keys().next().unwrap();
    round.checked(&first, Outcome::Withheld);
    assert!(round.steps(&facts(174, &nodes, &operators)).len() > 1);
    let steps = round.steps(&facts(175, &nodes, &operators));
    assert!(matches!(&steps[..], [Step::Seal { .. }]), "{steps:?}");
    let outcomes: Vec<_> = round.sealed().unwrap().checks().iter().map(|check| check.outcome).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Withheld).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Withheld | Outcome::Unable)));
    round.checked(&first, agrees(1));
    assert_eq!(round.steps(&facts(176, &nodes, &operators)), steps, "what was sealed stays");
}

#[test]
fn who_is_drawn_for_nothing_or_has_no_stake_seals_nothing_and_too_few_operators_leave_answers_unchecked() {
    let (few, nodes) = (operators(5), [account(2)]);
    let mut round = round(1);
    round.fetched(account(2), &receipts(2, 9), BEACON, &few);
    assert_eq!(round.read()[&account(2)], Read { receipts: Some(9), drawn: 0, unchecked: 9 });
    assert_eq!(round.steps(&facts(120, &nodes, &few)), []);
    let enough = operators(6);
    let mut stranger = Round::new(3, account(99), RULE, Hash32::ZERO);
    assert_eq!(stranger.steps(&facts(120, &nodes, &enough)), []);
}

#[test]
fn a_round_takes_no_more_checks_than_it_can_hold_and_counts_the_others() {
    let operators = Operators::new(&[
        (account(1), u128::from(u64::MAX)),
        (account(2), 1),
        (account(3), 1),
        (account(4), 1),
        (account(5), 1),
        (account(6), 1),
    ])
    .unwrap();
    let mut round = round(1);
    let many = receipts(2, as_u64(CHECKS_MAX) + 100);
    assert_eq!(round.fetched(account(2), &many, BEACON, &operators), as_u64(CHECKS_MAX));
    assert!((90..=100).contains(&round.left_out()), "{}", round.left_out());
}

#[test]
fn salts_differ_by_receipt_and_by_secret() {
    let operators = operators(6);
    let stacked = |secret: u8| {
        let mut round = Round::new(3, account(1), RULE, Hash32([secret; 32]));
        round.fetched(account(2), &receipts(2, 40), BEACON, &operators);
        round.steps(&facts(190, &[account(2)], &operators));
        round.sealed().unwrap().clone()
    };
    let (one, other) = (stacked(1), stacked(2));
    let salts: BTreeSet<_> = one.checks().iter().chain(other.checks()).map(|check| check.salt).collect();
    assert_eq!(salts.len(), one.checks().len() + other.checks().len());
    assert_ne!((one.sealed(), one.shown()), (other.sealed(), other.shown()));
    assert_eq!(one.sealed(), stacked(1).sealed());
}

/// Anything that may be told to a round.
#[derive(Debug, Clone)]
enum Told {
    Steps { time: u64, is_ripe: Option<bool>, is_stored: bool, is_said: bool },
    Fetched { node: u8, count: u64 },
    Unreachable(u8),
    Checked { which: prop::sample::Index, outcome: u8 },
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        (90..310_u64, any::<Option<bool>>(), any::<bool>(), any::<bool>()).prop_map(|(time, is_ripe, is_stored, is_said)| Told::Steps {
            time,
            is_ripe,
            is_stored,
            is_said
        }),
        (1..8_u8, 0..30_u64).prop_map(|(node, count)| Told::Fetched { node, count }),
        (1..8_u8).prop_map(Told::Unreachable),
        (any::<prop::sample::Index>(), 0..3_u8).prop_map(|(which, outcome)| Told::Checked { which, outcome }),
    ]
}

proptest! {
    #[test]
    fn whatever_a_round_is_told_and_when_it_seals_one_root_and_shows_what_it_sealed(all in proptest::collection::vec(told(), 0..60)) {
        let operators = operators(7);
        let nodes: Vec<Address> = (1..8).map(account).collect();
        let mut round = round(3);
        let mut roots = BTreeSet::new();
        for told in all {
            match told {
                Told::Fetched { node, count } => drop(round.fetched(account(node), &receipts(node, count), BEACON, &operators)),
                Told::Unreachable(node) => round.unreachable(account(node)),
                Told::Checked { which, outcome } => {
                    let keys: Vec<Drawn> = round.drawn().keys().copied().collect();
                    if !keys.is_empty() {
                        round.checked(which.get(&keys), [agrees(1), Outcome::Withheld, Outcome::Unable][usize::from(outcome)]);
                    }
                }
                Told::Steps { time, is_ripe, is_stored, is_said } => {
                    let said = round.sealed().filter(|_| is_said).map(|stacked| (stacked.sealed(), false));
                    let facts = Facts { is_ripe, beacon: is_stored.then_some(BEACON), said, ..facts(time, &nodes, &operators) };
                    for step in round.steps(&facts) {
                        match step {
                            Step::Announce => prop_assert!(!is_stored && is_ripe.is_none() && (100..200).contains(&time)),
                            Step::Store => prop_assert!(!is_stored && is_ripe == Some(true) && (100..200).contains(&time)),
                            Step::Fetch(node) => prop_assert!(node != account(3) && round.sealed().is_none()),
                            Step::Check(drawn) => prop_assert!(drawn.node != account(3) && round.drawn()[&drawn].is_none()),
                            Step::Seal { root, count } => {
                                prop_assert!(time < 200 && said.is_none() && count > 0);
                                roots.insert(root);
                                let stacked = round.sealed().unwrap();
                                let opened = stacked.open(count - 1).unwrap();
                                prop_assert_eq!(opened.verify(root, stacked.shown(), count), Ok(()));
                            }
                            Step::Show(root) => prop_assert!((200..300).contains(&time) && root == round.sealed().unwrap().shown()),
                        }
                    }
                }
            }
        }
        prop_assert!(roots.len() <= 1);
    }
}
