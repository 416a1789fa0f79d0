//! Records of a small object among operators whose keys the test has.

use proptest::prelude::*;
use types::{key::Account, merkle::keccak};

use super::*;

const OBJECT: BlobId = BlobId([7; 32]);
const SEED: Hash32 = Hash32([1; 32]);
const BLOCK: u64 = 12;

fn domains() -> Domains {
    Domains { chain_id: 1, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
}

fn key(number: u8) -> Account {
    Account::from_bytes(&[number + 1; 32]).unwrap()
}

fn name(number: u8) -> Address {
    key(number).address()
}

/// Fragment i with operator i; the contributor is 100.
fn record() -> Record {
    let holders = (0..5).map(name).collect();
    let document = Placement { contributor: name(100), object: OBJECT, block: BLOCK, data: 3, holders };
    Record::new(Signed::new(&key(100), &domains(), document))
}

fn seed_of(epoch: u64) -> Hash32 {
    keccak(&[&epoch.to_be_bytes()])
}

fn check(record: &Record, checked: Option<&Record>) -> Result<(), RecordError> {
    let epochs: BTreeMap<_, _> = (0..100).map(|epoch| (epoch, seed_of(epoch))).collect();
    let known = Known { domains: &domains(), contributor: name(100), block: BLOCK, seed: SEED, epochs: &epochs };
    record.verify(&known, checked)
}

/// The `place`th coordinator of an epoch by a record's holders at its begin.
fn coordinator(record: &Record, epoch: u64, place: usize) -> u8 {
    let before = record.assignment_before(epoch, SEED, Rules::default()).unwrap();
    let elected = coordinators(seed_of(epoch), OBJECT, before.holders().map(|(_, holder)| holder));
    (0..30).find(|number| name(*number) == elected[place]).unwrap()
}

fn moved(by: u8, epoch: u64, fragment: u8, generation: u32, to: u8) -> HandedOver {
    let handover = Handover { by: name(by), epoch, object: OBJECT, fragment, generation, to: name(to) };
    HandedOver { handover, by: key(by).sign(&domains(), &handover), to: key(to).sign(&domains(), &handover) }
}

#[test]
fn a_placement_stands_for_life_and_a_handover_by_a_coordinator_changes_it() {
    let mut record = record();
    assert_eq!(check(&record, None), Ok(()));
    let first = coordinator(&record, 3, 0);
    let lost = (0..5).find(|number| *number != first).unwrap();
    assert_eq!(record.add(moved(first, 3, lost, 1, 9)), Ok(true));
    assert_eq!(check(&record, None), Ok(()));
    let holders = record.assignment(SEED, Rules::default()).unwrap();
    assert_eq!((holders.holder(lost), holders.held_by(name(lost))), (Some(name(9)), None));
    assert_eq!(record.assignment_before(3, SEED, Rules::default()).unwrap().holder(lost), Some(name(lost)), "the epoch began before");
    // In the next epoch the new holder may coordinate, who gave its fragment on may not.
    let second = coordinator(&record, 4, 1);
    record.add(moved(second, 4, lost, 2, 10)).unwrap();
    assert_eq!(check(&record, None), Ok(()));
    assert_eq!(record.assignment(SEED, Rules::default()).unwrap().holder(lost), Some(name(10)));
    assert_eq!(Record::decode(&record.encode()), Ok(record));
}

#[test]
fn what_nobody_who_may_has_signed_is_refused_by_name() {
    let base = record();
    let first = coordinator(&base, 3, 0);
    let fragment = (0..5).find(|number| *number != first).unwrap();
    let with = |moved| {
        let mut record = base.clone();
        record.add(moved).unwrap();
        check(&record, Some(&base))
    };
    let good = moved(first, 3, fragment, 1, 9);
    assert_eq!(with(good), Ok(()));
    assert!(matches!(with(moved(20, 3, fragment, 1, 9)), Err(RecordError::Unelected { epoch: 3, .. })), "a stranger");
    let idle = (0..5).find(|number| (0..3).all(|place| coordinator(&base, 3, place) != *number)).unwrap();
    assert!(matches!(with(moved(idle, 3, fragment, 1, 9)), Err(RecordError::Unelected { epoch: 3, .. })), "a holder whose turn it is not");
    assert!(matches!(with(moved(first, 300, fragment, 1, 9)), Err(RecordError::Early { epoch: 300 })));
    assert!(matches!(with(moved(first, 3, 5, 1, 9)), Err(RecordError::Stray { fragment: 5, .. })));
    assert!(matches!(with(HandedOver { to: good.by, ..good }), Err(RecordError::Signature(_))), "the new holder said nothing");
    assert!(matches!(with(HandedOver { by: good.to, ..good }), Err(RecordError::Signature(_))), "the coordinator said nothing");
    let other = Handover { generation: 9, ..good.handover };
    assert!(matches!(with(HandedOver { handover: other, ..good }), Err(RecordError::Signature(_))), "of another generation");

    let placed = |change: fn(&mut Placement)| {
        let mut document = base.placement().clone();
        change(&mut document);
        Record::new(Signed::new(&key(100), &domains(), document))
    };
    assert!(matches!(check(&placed(|p| p.block = 13), None), Err(RecordError::Foreign { block: BLOCK, .. })));
    assert!(matches!(check(&placed(|p| p.holders[1] = p.holders[0]), None), Err(RecordError::Twice(_))));
    assert!(matches!(check(&placed(|p| p.data = 4), None), Err(RecordError::Profile { data: 4, holders: 5 })));
    let stolen = Record::new(Signed::new(&key(99), &domains(), base.placement().clone()));
    assert!(matches!(check(&stolen, None), Err(RecordError::Signature(_))));
    let mut mine = base.clone();
    assert_eq!(mine.merge(&placed(|p| p.holders.swap(0, 1))), Err(RecordError::Placed(OBJECT)), "placement is for life");
    assert_eq!(mine, base);
}

#[test]
fn an_operator_that_gave_one_fragment_on_takes_another_in_whatever_order_that_is_heard() {
    let mut record = record();
    let by = coordinator(&record, 3, 0);
    let [a, b] = [0, 1, 2].into_iter().filter(|number| *number != by).take(2).collect::<Vec<_>>()[..] else { unreachable!() };
    // The second in order of keys frees the operator that the first gives a fragment to.
    record.add(moved(by, 3, a, 1, b)).unwrap();
    record.add(moved(by, 3, b, 1, 9)).unwrap();
    let held = record.assignment(SEED, Rules::default()).unwrap();
    assert_eq!((held.holder(a), held.holder(b)), (Some(name(b)), Some(name(9))));
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Record::decode(&bytes);
    }

    #[test]
    fn whoever_heard_the_same_handovers_in_whatever_order_has_the_same_record(order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let base = record();
        let by = coordinator(&base, 3, 0);
        let moves: Vec<_> = (0..6).map(|i| moved(by, 3, i % 5, 1 + u32::from(i), 9 + i)).collect();
        let told = |order: &[usize]| {
            let mut record = base.clone();
            for i in order {
                let mut other = base.clone();
                other.add(moves[*i]).unwrap();
                record.merge(&other).unwrap();
            }
            record
        };
        let (one, two) = (told(&order), told(&[0, 1, 2, 3, 4, 5]));
        prop_assert_eq!(one.encode(), two.encode());
        prop_assert_eq!(one.assignment(SEED, Rules::default()), two.assignment(SEED, Rules::default()));
    }
}
