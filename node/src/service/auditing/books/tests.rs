use storage::store::{Config, Store};
use types::key::{Account, Domains};

use super::*;

const BEACON: Hash32 = Hash32([1; 32]);

fn domains() -> Domains {
    Domains { chain_id: 1, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
}

fn account(number: u8) -> Account {
    Account::from_bytes(&[number; 32]).unwrap()
}

fn commit(number: u8, epoch: u64) -> Signed<AuditCommit> {
    let account = account(number);
    let document = AuditCommit { node: account.address(), epoch, holdings: Hash32([number; 32]), ranges: 1, block: 1 };
    Signed::new(&account, &domains(), document)
}

fn seen(auditor: &Account, node: Address, epoch: u64, verdict: Verdict) -> Signed<AuditVerdict> {
    let document = AuditVerdict {
        auditor: auditor.address(),
        node,
        epoch,
        holdings: Hash32([9; 32]),
        nonce: Hash32([8; 32]),
        verdict,
        right: 0,
        digest: Hash32::ZERO,
        round_trip_us: 1,
        elapsed_us: 1,
    };
    Signed::new(auditor, &domains(), document)
}

/// Ten nodes that committed in `epoch`, and the accounts of the first one's auditors.
fn drawn(books: &mut Books, epoch: u64) -> Vec<Account> {
    (1..=10).for_each(|number| books.commit(commit(number, epoch)).unwrap());
    let drawn = books.draw(epoch, BEACON, &BTreeMap::new(), &BTreeSet::from([Address([77; 20])]));
    assert_eq!(drawn.len(), 11, "everyone who committed, and one who is missed");
    let auditors = books.auditors(epoch, account(1).address());
    (1..=10).map(account).filter(|account| auditors.contains(&account.address())).collect()
}

fn open(folder: &std::path::Path) -> Books {
    Books::open(Store::open(folder, Config::default()).unwrap().records()).unwrap()
}

#[test]
fn two_equal_verdicts_settle_an_epoch_once_and_standing_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut books = open(folder.path());
    let node = account(1).address();
    for epoch in 3..5 {
        let auditors = drawn(&mut books, epoch);
        books.verdict(&seen(&auditors[0], node, epoch, Verdict::Failed)).unwrap();
        assert!(books.settle().unwrap().is_empty(), "one auditor alone decides nothing");
        books.verdict(&seen(&auditors[0], node, epoch, Verdict::Passed)).unwrap();
        let stranger = (1..=10).map(account).find(|other| auditors.iter().all(|one| one.address() != other.address())).unwrap();
        books.verdict(&seen(&stranger, node, epoch, Verdict::Failed)).unwrap();
        assert!(books.settle().unwrap().is_empty(), "nor does a second word of his, nor a stranger");
        books.verdict(&seen(&auditors[1], node, epoch, Verdict::Failed)).unwrap();
        let standing = if epoch == 3 { State::Warned } else { State::Suspended };
        assert_eq!(books.settle().unwrap(), [Outcome { epoch, node, ended: Ended::Failed, standing, is_case: false }]);
        assert!(books.settle().unwrap().is_empty());
        assert_eq!(books.verdicts(epoch, node).unwrap().len(), 2);
    }
    drop(books);
    let books = open(folder.path());
    assert_eq!((books.standing(node), books.suspended()), (State::Suspended, BTreeSet::from([node])));
    assert_eq!(books.outcomes(node, 1).unwrap(), [(4, Ended::Failed)]);
    assert!(books.outcomes(Address([0; 20]), 9).unwrap().is_empty());
}

#[test]
fn who_is_to_hold_something_is_drawn_whether_it_commits_to_nothing_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut books = open(folder.path());
    (1..=8).for_each(|number| books.commit(commit(number, 3)).unwrap());
    for number in [9, 10] {
        let mut empty = commit(number, 3);
        empty.document.ranges = 0;
        books.commit(Signed::new(&account(number), &domains(), empty.document)).unwrap();
    }
    // 9 says that it holds nothing, and others' records say the same; 10 is to hold something, as 77 is, who was not heard at all.
    let expected = BTreeSet::from([account(1).address(), account(10).address(), Address([77; 20])]);
    let drawn = books.draw(3, BEACON, &BTreeMap::new(), &expected);
    let shown: BTreeMap<Address, Option<u64>> =
        drawn.iter().map(|(node, _, commit)| (*node, commit.as_ref().map(|commit| commit.document.ranges))).collect();
    let committed = (1..=8).map(|number| (account(number).address(), Some(1)));
    assert_eq!(shown, committed.chain([(account(10).address(), Some(0)), (Address([77; 20]), None)]).collect::<BTreeMap<_, _>>());
    assert!(
        drawn.iter().all(|(_, auditors, _)| auditors.len() == 3 && !auditors.contains(&Address([77; 20]))),
        "who is not heard audits nobody"
    );
}

/// An own epoch in which account 1 committed to `ranges` ranges and nine others to one each; the accounts of its auditors if it is audited.
fn own_epoch(books: &mut Books, number: u64, ranges: u64, expected: &BTreeSet<Address>) -> Vec<Account> {
    let (epoch, node) = (super::super::OWN | number, account(1).address());
    for of in 1..=10 {
        let mut document = commit(of, epoch).document;
        document.ranges = if of == 1 { ranges } else { 1 };
        books.commit(Signed::new(&account(of), &domains(), document)).unwrap();
    }
    let drawn = books.draw(epoch, BEACON, &BTreeMap::new(), expected);
    assert_eq!(drawn.iter().any(|(of, ..)| *of == node), ranges > 0 || expected.contains(&node), "epoch {number}");
    let auditors = books.auditors(epoch, node);
    (1..=10).map(account).filter(|account| auditors.contains(&account.address())).collect()
}

/// What account 1's epochs up to now came to.
fn ended(books: &mut Books) -> Vec<(u64, Ended, State)> {
    let settled = books.settle().unwrap();
    assert!(settled.iter().all(|outcome| outcome.node == account(1).address()), "{settled:?}");
    settled.into_iter().map(|outcome| (super::super::number(outcome.epoch), outcome.ended, outcome.standing)).collect()
}

fn fails(books: &mut Books, number: u64, auditors: &[Account]) {
    for auditor in &auditors[..2] {
        books.verdict(&seen(auditor, account(1).address(), super::super::OWN | number, Verdict::Failed)).unwrap();
    }
}

#[test]
fn a_suspended_node_that_repair_has_emptied_lapses_and_the_first_failure_suspends_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut books = open(folder.path());
    let (node, none) = (account(1).address(), BTreeSet::new());
    for (number, standing) in [(1, State::Warned), (2, State::Suspended)] {
        let auditors = own_epoch(&mut books, number, 1, &none);
        fails(&mut books, number, &auditors);
        assert_eq!(ended(&mut books), [(number, Ended::Failed, standing)]);
    }
    assert_eq!(books.suspended(), BTreeSet::from([node]));
    // Repair has moved everything away: it commits to nothing, and nobody's records name it.
    let mut idle = Vec::new();
    for number in 3..=15 {
        let auditors = own_epoch(&mut books, number, 0, &none);
        if number == 5 {
            books.verdict(&seen(&auditors[0], node, super::super::OWN | number, Verdict::Late)).unwrap();
        }
        idle.extend(ended(&mut books));
    }
    assert_eq!(idle.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), (3..=7).collect::<Vec<_>>(), "eight epochs later each is over");
    // One in which it says that it holds nothing and records name it: it is looked for, and not idle.
    own_epoch(&mut books, 16, 0, &BTreeSet::from([node]));
    for number in 17..=24 {
        books.begin(super::super::OWN | number);
        idle.extend(ended(&mut books));
    }
    let expected: Vec<_> = (3..=15).map(|number| (number, Ended::Idle, State::Suspended)).collect();
    assert_eq!(idle, expected, "one auditor alone does not hold it back");
    let lifting = |books: &Books| books.lifting(node).map(|lifting| lifting.to_idle);
    assert_eq!(lifting(&books), Some(1));
    drop(books);
    let mut books = open(folder.path());
    assert_eq!((lifting(&books), books.suspended()), (Some(1), BTreeSet::from([node])), "the row is on the disk");

    own_epoch(&mut books, 25, 0, &none);
    for number in 26..=33 {
        assert!(ended(&mut books).is_empty());
        books.begin(super::super::OWN | number);
    }
    assert_eq!(ended(&mut books), [(25, Ended::Idle, State::Warned)]);
    assert!(books.suspended().is_empty() && books.lifting(node).is_none(), "it is given fragments again");
    // Nothing is written of who is not suspended.
    own_epoch(&mut books, 34, 0, &none);
    (35..=42).for_each(|number| books.begin(super::super::OWN | number));
    assert!(ended(&mut books).is_empty());

    let auditors = own_epoch(&mut books, 43, 1, &none);
    fails(&mut books, 43, &auditors);
    assert_eq!(ended(&mut books), [(43, Ended::Failed, State::Suspended)]);
    drop(books);
    let books = open(folder.path());
    assert_eq!((books.standing(node), lifting(&books)), (State::Suspended, Some(14)));
    let last = books.outcomes(node, 2).unwrap();
    let last: Vec<_> = last.into_iter().map(|(epoch, ended)| (super::super::number(epoch), ended)).collect();
    assert_eq!(last, [(25, Ended::Idle), (43, Ended::Failed)]);
}

#[test]
fn who_is_away_is_not_idle() {
    let folder = tempfile::tempdir().unwrap();
    let mut books = open(folder.path());
    for number in 1..=2 {
        let auditors = own_epoch(&mut books, number, 1, &BTreeSet::new());
        fails(&mut books, number, &auditors);
        ended(&mut books);
    }
    for number in 3..=40 {
        let epoch = super::super::OWN | number;
        (2..=10).for_each(|of| books.commit(commit(of, epoch)).unwrap());
        books.draw(epoch, BEACON, &BTreeMap::new(), &BTreeSet::new());
        assert!(ended(&mut books).is_empty());
    }
    assert_eq!(books.standing(account(1).address()), State::Suspended);
}

#[test]
fn a_suspended_node_is_not_audited_for_rent_and_no_passed_is_signed_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut books = open(folder.path());
    let node = account(1).address();
    let seats: Vec<Seat> = (1..=10).map(|number| Seat { node: account(number).address(), subnet: 0 }).collect();
    let paid = |books: &mut Books, number: u64| {
        (1..=10).for_each(|of| books.commit(commit(of, number)).unwrap());
        let drawn = books.draw_from(number, BEACON, seats.clone());
        (drawn.len(), drawn.iter().any(|(of, ..)| *of == node), books.is_paid(node, Verdict::Passed))
    };
    assert_eq!(paid(&mut books, 1), (10, true, true));
    for (epoch, rent) in [(3, (10, true, true)), (4, (9, false, false))] {
        let auditors = drawn(&mut books, super::super::OWN | epoch);
        auditors[..2].iter().for_each(|auditor| books.verdict(&seen(auditor, node, super::super::OWN | epoch, Verdict::Failed)).unwrap());
        books.settle().unwrap();
        assert_eq!(paid(&mut books, epoch), rent, "after {} failed epochs", epoch - 2);
    }
    drop(books);
    let mut books = open(folder.path());
    assert_eq!(paid(&mut books, 5), (9, false, false), "nor after a restart");
    assert!(!books.is_paid(account(2).address(), Verdict::Late) && books.is_paid(account(2).address(), Verdict::Passed));
}

#[test]
fn an_epoch_of_the_chain_goes_on_after_a_restart_where_it_stood() {
    let (folder, number) = (tempfile::tempdir().unwrap(), 3);
    let node = account(1).address();
    let seats: Vec<Seat> = (1..=10).map(|number| Seat { node: account(number).address(), subnet: 0 }).collect();
    let mut books = open(folder.path());
    (1..=10).for_each(|of| books.commit(commit(of, number)).unwrap());
    books.draw_from(number, BEACON, seats.clone());
    let drawn = books.auditors(number, node);
    let auditors: Vec<_> = (1..=10).map(account).filter(|account| drawn.contains(&account.address())).collect();
    books.verdict(&seen(&auditors[0], node, number, Verdict::Passed)).unwrap();
    assert!(books.challenge(number, Hash32([1; 32])).unwrap());
    let nonce = books.opening(number, node, Hash32([5; 32])).unwrap();
    drop(books);
    let mut books = open(folder.path());
    books.resume(number).unwrap();
    assert!(!books.challenge(number, Hash32([2; 32])).unwrap() && books.challenge(number, Hash32([1; 32])).unwrap());
    assert_eq!(books.opening(number, node, Hash32([6; 32])).unwrap(), nonce);
    let again = books.draw_from(number, BEACON, seats);
    assert_eq!((again.len(), books.auditors(number, node)), (10, drawn));
    assert!(books.verdict_of(number, node, auditors[0].address()).is_some() && books.passed(node).is_empty());
    books.verdict(&seen(&auditors[1], node, number, Verdict::Passed)).unwrap();
    assert_eq!((books.passed(node), books.passed(node)), (vec![number], vec![]));
    books.prune(number + 100, 0).unwrap();
    assert!(books.records.scan(HEARD, &[], 1).unwrap().is_empty() && !books.records.scan(VERDICTS, &[], 1).unwrap().is_empty());
}

#[test]
fn a_list_stays_as_long_as_the_chain_may_ask_for_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path());
    for epoch in 1..=3_u64 {
        let (of, key) = (super::super::OWN | epoch, (super::super::OWN | epoch).to_be_bytes());
        let mut document = commit(1, of).document;
        document.block = epoch * 100;
        let told = Told::Commit(Signed::new(&account(1), &domains(), document)).encode();
        books.records.put_all(&[(super::super::OWN_LISTS, &key, &[]), (super::super::COMMITS, &key, &told)]).unwrap();
    }
    let kept = || -> Vec<u64> {
        let found = books.records.scan(super::super::OWN_LISTS, &[], 9).unwrap();
        found.iter().map(|(key, _)| u64::from_be_bytes(*key.first_chunk().unwrap()) & !super::super::OWN).collect()
    };
    books.prune(super::super::OWN | 19, 200).unwrap();
    assert_eq!(kept(), [2, 3], "epoch 3 is one of the last sixteen, and what epoch 2 lists is still to be shown");
    books.prune(super::super::OWN | 40, 301).unwrap();
    assert_eq!(kept(), [] as [u64; 0]);
    assert_eq!(books.records.scan(super::super::COMMITS, &[], 9).unwrap().len(), 3, "that it has committed is never forgotten");
}

#[test]
fn nobody_joins_once_the_beacon_is_known_and_a_second_nonce_is_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut books = open(folder.path());
    drawn(&mut books, 3);
    books.commit(commit(11, 3)).unwrap();
    assert!(books.auditors(3, account(1).address()).iter().all(|auditor| *auditor != account(11).address()));
    let mut challenged = |byte| books.challenge(3, Hash32([byte; 32])).unwrap();
    assert!(challenged(1) && challenged(1) && !challenged(2));
    let node = account(2).address();
    assert!(books.post(3, node, (Instant::now(), Mail::Opened(BEACON))), "letters that come early wait");
    assert!(!books.post(3, Address([99; 20]), (Instant::now(), Mail::Opened(BEACON))), "about nobody");
    let mut mail = books.mailbox(3, node).unwrap();
    assert!(mail.try_recv().is_ok() && books.mailbox(3, node).is_none());
    for epoch in 4..100 {
        books.begin(epoch);
    }
    assert!(!books.has(3) && books.epochs.len() == EPOCHS_KEPT);
}
