//! Residency under random operations, beside a plain account of every tier.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn id(number: u8) -> AdapterId {
    AdapterId([number; 32])
}

fn set(numbers: &[u8]) -> Vec<(AdapterId, f32)> {
    numbers.iter().map(|number| (id(*number), 1.0)).collect()
}

/// Sizes of 1 to 4 in memory, twice that in files.
fn sizes(id: AdapterId) -> Sizes {
    let memory = u64::from(id.0[0] % 4 + 1);
    Sizes { disk: 2 * memory, memory }
}

fn budget() -> Budget {
    Budget { slots: 3, device_bytes: 8, memory_bytes: 10, disk_bytes: 40, file_bytes_max: 8 }
}

/// Carries out what is asked and keeps its own account.
struct Shell {
    residency: Residency,
    moves: Vec<Action>,
    disk: BTreeSet<AdapterId>,
    memory: BTreeSet<AdapterId>,
    device: BTreeMap<Slot, AdapterId>,
    done: Vec<Action>,
}

impl Shell {
    fn new(budget: Budget) -> Self {
        let residency = Residency::new(budget);
        Self { residency, moves: Vec::new(), disk: BTreeSet::new(), memory: BTreeSet::new(), device: BTreeMap::new(), done: Vec::new() }
    }

    fn act(&mut self) {
        for action in self.residency.actions().collect::<Vec<_>>() {
            self.done.push(action);
            match action {
                Action::Fetch { id, bytes_max } => {
                    assert!(!self.disk.contains(&id) && bytes_max == 8);
                    self.moves.push(action);
                }
                Action::Load(id) => {
                    assert!(self.disk.contains(&id) && !self.memory.contains(&id), "only what is on disk is loaded");
                    self.moves.push(action);
                }
                Action::Attach { id, slot } => {
                    assert!(self.memory.contains(&id) && slot.0 < 3, "only what is in memory goes to the device");
                    assert_eq!(self.device.insert(slot, id), None);
                }
                Action::Detach(slot) => assert!(self.device.remove(&slot).is_some()),
                Action::Unload(id) => assert!(self.memory.remove(&id) && !self.device.values().any(|other| *other == id)),
                Action::Delete(id) => {
                    assert!(self.disk.remove(&id) && !self.memory.contains(&id));
                    // A load that is under way comes to nothing, and is not answered.
                    self.moves.retain(|action| *action != Action::Load(id));
                }
            }
        }
        let memory = |ids: &mut dyn Iterator<Item = &AdapterId>| -> u64 { ids.map(|id| sizes(*id).memory).sum() };
        let moving = |fetch| self.moves.iter().filter(move |action| matches!(action, Action::Fetch { .. }) == fetch);
        let loading: Vec<AdapterId> =
            moving(false).filter_map(|action| if let Action::Load(id) = action { Some(*id) } else { None }).collect();
        let files: u64 = self.disk.iter().map(|id| sizes(*id).disk).sum();
        let expected = (
            memory(&mut self.device.values()),
            memory(&mut self.memory.iter()) + memory(&mut loading.iter()),
            files + 8 * u64::try_from(moving(true).count()).unwrap(),
        );
        assert_eq!(self.residency.used(), expected, "what it counts is what there is");
        let (device, memory, disk) = expected;
        assert!(device <= 8 && memory <= 10 && disk <= 40, "{expected:?}");
        assert_eq!(*self.residency.known.views(), self.residency.known.views_by_scan(), "the views are what a look at every entry gives");
    }

    fn deliver(&mut self, at: usize, fails: bool, now: Time) {
        if self.moves.is_empty() {
            return;
        }
        let action = self.moves.swap_remove(at % self.moves.len());
        let (id, event) = match action {
            Action::Fetch { id, .. } | Action::Load(id) if fails => (id, Event::Failed),
            Action::Fetch { id, .. } => {
                self.disk.insert(id);
                (id, Event::OnDisk(sizes(id)))
            }
            Action::Load(id) => {
                self.memory.insert(id);
                (id, Event::Loaded)
            }
            _ => unreachable!("only moves wait"),
        };
        self.residency.handle(id, event, now);
        self.act();
    }

    /// Gets these into memory.
    fn bring(&mut self, numbers: &[u8], now: Time) {
        for number in numbers {
            self.residency.want(id(*number), now);
        }
        let sets = set(numbers);
        self.residency.need(std::iter::once(sets.as_slice()), now);
        self.act();
        while !self.moves.is_empty() {
            self.deliver(0, false, now);
        }
    }

    fn tiers(&self, numbers: &[u8]) -> Vec<Tier> {
        numbers.iter().map(|number| self.residency.tier(id(*number))).collect()
    }
}

#[test]
fn an_adapter_comes_from_a_peer_to_the_device_in_three_moves() {
    let mut shell = Shell::new(budget());
    shell.bring(&[4], Time(0));
    assert!(shell.residency.hold(&set(&[4])));
    shell.act();
    let expected = [Action::Fetch { id: id(4), bytes_max: 8 }, Action::Load(id(4)), Action::Attach { id: id(4), slot: Slot(0) }];
    assert_eq!((shell.done, shell.residency.tier(id(4))), (expected.to_vec(), Tier::Device(Slot(0))));
}

#[test]
fn what_its_last_job_left_is_not_asked_of_a_peer_again() {
    let mut shell = Shell::new(budget());
    let own = set(&[4]);
    shell.residency.join(&own);
    shell.bring(&[4], Time(0));
    assert!(shell.residency.hold(&own));
    shell.residency.handle(id(4), Event::Retired, Time(1));
    shell.residency.release(&own);
    shell.residency.leave(&own);
    // Whatever happens next, before another job waits.
    shell.disk.insert(id(5));
    shell.residency.handle(id(5), Event::OnDisk(sizes(id(5))), Time(1));
    shell.done.clear();
    shell.act();
    assert_eq!((shell.residency.tier(id(4)), shell.moves), (Tier::Network, vec![]));
}

#[test]
fn the_least_popular_makes_room_and_what_is_held_or_pinned_does_not() {
    let mut shell = Shell::new(budget());
    // 4 is 1 byte, 5 is 2, 6 is 3, 7 is 4: together all of memory.
    shell.bring(&[4], Time(0));
    shell.bring(&[5], Time(1));
    shell.bring(&[6], Time(2));
    shell.bring(&[7], Time(3));
    shell.residency.want(id(4), Time(4));
    assert_eq!(shell.tiers(&[4, 5, 6, 7]), [Tier::Memory; 4]);
    shell.bring(&[8], Time(5));
    assert_eq!(
        shell.tiers(&[4, 5, 6, 7, 8]),
        [Tier::Memory, Tier::Disk, Tier::Memory, Tier::Memory, Tier::Memory],
        "5 was used before 6 and 7"
    );
    assert!(shell.residency.pin(id(6), true, Time(6)) && shell.residency.hold(&set(&[7])));
    shell.act();
    shell.bring(&[5], Time(7));
    assert_eq!(shell.tiers(&[5, 6]), [Tier::Memory, Tier::Memory]);
    assert!(matches!(shell.tiers(&[7])[0], Tier::Device(_)));
    assert!(!shell.residency.pin(id(7), true, Time(8)), "3 + 4 is more than half of 10");
    assert!(!shell.residency.pin(id(99), true, Time(8)), "nobody knows its size");
}

#[test]
fn two_jobs_never_hold_half_a_set_each() {
    let mut shell = Shell::new(budget());
    for number in [3, 7, 11, 15] {
        shell.residency.want(id(number), Time(0));
    }
    // Four adapters of 4 bytes, two sets of two; memory has room for one set.
    let sets = [set(&[3, 7]), set(&[11, 15])];
    for round in 0..40 {
        shell.residency.need(sets.iter().map(Vec::as_slice), Time(0));
        shell.act();
        shell.deliver(round * 7, false, Time(0));
    }
    assert!(shell.residency.hold(&sets[0]), "the first job's set is whole");
    assert!(!shell.residency.hold(&sets[1]));
    shell.act();
    shell.residency.release(&sets[0]);
    shell.residency.need(std::iter::once(sets[1].as_slice()), Time(1));
    shell.act();
    while !shell.moves.is_empty() {
        shell.deliver(0, false, Time(1));
    }
    assert!(shell.residency.hold(&sets[1]));
    shell.act();
}

#[test]
fn what_is_asked_for_often_is_loaded_before_it_is_asked_for_again() {
    let mut shell = Shell::new(budget());
    shell.bring(&[7], Time(0));
    // 5 lies on disk, unasked; 6 was asked for three times while nobody waits for it.
    for number in [5, 6] {
        shell.disk.insert(id(number));
        shell.residency.handle(id(number), Event::OnDisk(sizes(id(number))), Time(1));
    }
    shell.residency.need(std::iter::empty(), Time(2));
    (0..3).for_each(|at| assert!(shell.residency.want(id(6), Time(2 + at))));
    shell.residency.need(std::iter::empty(), Time(5));
    shell.act();
    assert_eq!(shell.moves, [Action::Load(id(6))]);
    shell.deliver(0, false, Time(6));
    assert!(shell.moves.is_empty() && shell.tiers(&[5]) == [Tier::Disk], "5 is not worth it");
}

#[test]
fn a_failed_move_frees_its_room_and_is_not_tried_again_at_once() {
    let mut shell = Shell::new(budget());
    shell.residency.want(id(4), Time(0));
    let sets = set(&[4]);
    shell.residency.need(std::iter::once(sets.as_slice()), Time(0));
    shell.act();
    shell.deliver(0, true, Time(1));
    assert_eq!((shell.residency.used(), shell.residency.wait(id(4), Time(1))), ((0, 0, 0), Some(RETRY_AFTER)));
    shell.residency.need(std::iter::once(sets.as_slice()), Time(2));
    shell.act();
    assert!(shell.moves.is_empty());
    let later = Time(1).after(RETRY_AFTER);
    shell.residency.need(std::iter::once(sets.as_slice()), later);
    shell.act();
    assert_eq!(shell.moves.len(), 1);
}

#[test]
fn one_too_large_for_a_tier_never_enters_it() {
    let mut shell = Shell::new(budget());
    shell.residency.want(id(1), Time(0));
    shell.residency.handle(id(1), Event::OnDisk(Sizes { disk: 3, memory: 9 }), Time(0));
    assert_eq!(shell.residency.actions().collect::<Vec<_>>(), [Action::Delete(id(1))], "9 bytes never fit the device's 8");
    assert!(shell.residency.wait(id(1), Time(0)).is_some());
    assert_eq!(shell.residency.used(), (0, 0, 0));
}

#[test]
fn known_adapters_are_bounded() {
    let mut residency = Residency::new(budget());
    for number in 0..u64::try_from(KNOWN_MAX + 100).unwrap() {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        assert!(residency.want(AdapterId(bytes), Time(number)));
    }
    assert_eq!(residency.known.len(), KNOWN_MAX);
}

#[test]
fn an_adapter_with_a_job_is_not_forgotten_for_another() {
    let mut residency = Residency::new(budget());
    let number = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        AdapterId(bytes)
    };
    for at in 0..KNOWN_MAX {
        assert!(residency.want(number(at), Time(0)));
        residency.join(&[(number(at), 1.0)]);
    }
    assert!(!residency.want(number(KNOWN_MAX), Time(1)), "each of them has a job");
    residency.leave(&[(number(7), 1.0)]);
    assert!(residency.want(number(KNOWN_MAX), Time(1)));
    assert!(residency.known.get(number(7)).is_none() && residency.known.len() == KNOWN_MAX);
}

#[test]
fn what_is_not_wanted_any_more_goes_with_its_last_job() {
    let mut shell = Shell::new(budget());
    let sets = set(&[4]);
    shell.residency.join(&sets);
    shell.residency.join(&sets);
    shell.bring(&[4], Time(0));
    assert!(shell.residency.hold(&sets) && shell.residency.pin(id(4), true, Time(0)));
    shell.act();
    shell.residency.handle(id(4), Event::Retired, Time(1));
    shell.act();
    shell.residency.release(&sets);
    shell.residency.leave(&sets);
    shell.act();
    assert!(shell.residency.hold(&sets), "the second job finds it");
    shell.act();
    shell.residency.release(&sets);
    shell.residency.leave(&sets);
    shell.residency.need(std::iter::empty(), Time(2));
    shell.act();
    assert_eq!((shell.tiers(&[4]), shell.residency.used()), (vec![Tier::Network], (0, 0, 0)));
    // One that comes back in between stays.
    shell.bring(&[5], Time(3));
    shell.residency.join(&set(&[5]));
    shell.residency.handle(id(5), Event::Retired, Time(4));
    shell.residency.handle(id(5), Event::OnDisk(sizes(id(5))), Time(5));
    shell.residency.leave(&set(&[5]));
    shell.act();
    assert_eq!(shell.tiers(&[5]), [Tier::Memory]);
}

#[test]
fn one_that_is_expected_is_fetched_and_loaded_unless_more_popular_ones_would_go() {
    let mut shell = Shell::new(budget());
    shell.residency.handle(id(4), Event::Wanted, Time(0));
    shell.act();
    assert_eq!(shell.moves, [Action::Fetch { id: id(4), bytes_max: 8 }]);
    shell.deliver(0, false, Time(1));
    assert_eq!(shell.moves, [Action::Load(id(4))]);
    shell.deliver(0, false, Time(1));
    assert_eq!(shell.tiers(&[4]), [Tier::Memory]);
    // Memory is full of what was just used: 1 + 4 + 4 of 10, and 3 are asked for.
    shell.bring(&[3, 7], Time(2));
    shell.residency.need(std::iter::empty(), Time(2));
    shell.residency.handle(id(6), Event::Wanted, Time(3));
    shell.act();
    shell.deliver(0, false, Time(3));
    assert!(shell.moves.is_empty() && shell.tiers(&[6]) == [Tier::Disk]);
    let later = Time(3).after(HALF_LIFE * 4);
    shell.residency.handle(id(6), Event::Wanted, later);
    shell.act();
    assert_eq!(shell.moves, [Action::Load(id(6))], "the others were not used for long");
}

#[test]
fn what_was_retired_and_went_for_room_is_fetched_again_for_its_job_and_counted_to_the_end() {
    let mut shell = Shell::new(Budget { disk_bytes: 8, ..budget() });
    let (mine, other, now) = (set(&[1]), set(&[2]), Time(0));
    shell.residency.handle(id(1), Event::OnDisk(sizes(id(1))), now);
    shell.disk.insert(id(1));
    shell.residency.join(&mine);
    shell.residency.handle(id(1), Event::Retired, now);
    shell.act();
    // Its job waits: another's fetch takes the room.
    assert!(shell.residency.want(id(2), now));
    shell.residency.need([&other[..]].into_iter(), now);
    shell.act();
    assert_eq!(shell.done, [Action::Delete(id(1)), Action::Fetch { id: id(2), bytes_max: 8 }]);
    shell.deliver(0, true, now);
    shell.residency.need([&mine[..]].into_iter(), now);
    shell.act();
    assert_eq!(shell.moves, [Action::Fetch { id: id(1), bytes_max: 8 }]);
    shell.residency.leave(&mine);
    shell.act();
    assert_eq!(shell.residency.used(), (0, 0, 8), "the fetch is under way");
    shell.deliver(0, false, now);
    assert_eq!(shell.residency.tier(id(1)), Tier::Disk);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_budget_is_exceeded_and_what_is_held_stays(
        operations in prop::collection::vec((0u8..14, prop::collection::vec(1u8..12, 1..4), any::<usize>(), any::<bool>()), 1..200),
    ) {
        let mut shell = Shell::new(budget());
        let (mut held, mut joined) = (Vec::<Vec<(AdapterId, f32)>>::new(), Vec::<Vec<(AdapterId, f32)>>::new());
        for (at, (what, numbers, which, is)) in (0u64..).zip(operations) {
            let now = Time(at * 7_000_000);
            match what {
                0 | 1 => numbers.iter().for_each(|number| assert!(shell.residency.want(id(*number), now))),
                2 => {
                    let sets: Vec<_> = numbers.iter().map(|number| set(&[*number, *number % 5 + 1])).collect();
                    shell.residency.need(sets.iter().map(Vec::as_slice), now);
                }
                3..=5 => shell.deliver(which, what == 5 && is, now),
                6 => {
                    let set = set(&numbers);
                    if shell.residency.hold(&set) {
                        held.push(set);
                    }
                }
                7 if !held.is_empty() => {
                    let set = held.swap_remove(which % held.len());
                    shell.residency.release(&set);
                }
                8 => {
                    shell.residency.pin(id(numbers[0]), is, now);
                }
                // A shell whose move is under way answers that first.
                9 if !shell.moves.iter().any(|action| matches!(action, Action::Fetch { id: moving, .. } | Action::Load(moving) if *moving == id(numbers[0]))) => {
                    shell.residency.handle(id(numbers[0]), Event::Gone, now);
                }
                10 => shell.residency.handle(id(numbers[0]), if is { Event::Retired } else { Event::Wanted }, now),
                11 => shell.residency.handle(id(numbers[0]), Event::Pinned(is), now),
                12 => {
                    let set = set(&numbers);
                    set.iter().for_each(|(id, _)| assert!(shell.residency.want(*id, now)));
                    shell.residency.join(&set);
                    joined.push(set);
                }
                13 if !joined.is_empty() => {
                    let set = joined.swap_remove(which % joined.len());
                    shell.residency.leave(&set);
                }
                _ => {}
            }
            shell.act();
            for (id, _) in joined.iter().flatten() {
                prop_assert!(shell.residency.known.get(*id).is_some(), "what a job uses is known");
            }
            for (id, _) in held.iter().flatten() {
                prop_assert!(matches!(shell.residency.tier(*id), Tier::Device(slot) if shell.device[&slot] == *id), "what is held is on the device");
            }
            for (id, entry) in shell.residency.known.iter() {
                prop_assert_eq!(entry.in_memory, shell.memory.contains(id));
                prop_assert_eq!(entry.sizes.is_some(), shell.disk.contains(id));
            }
        }
        let pinned: u64 = shell.residency.known.iter().map(|(_, entry)| entry).filter(|entry| entry.is_pinned).map(Entry::memory).sum();
        prop_assert!(pinned <= 5);
    }
}
