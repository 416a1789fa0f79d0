//! Many repairs in one network of the mind: presence, announcements and moves travel within a side, work takes five minutes.

use proptest::prelude::*;
use types::merkle::keccak;

use super::*;
use crate::{
    erasure::Profile,
    proto::placement::{self, Rules, Subnet},
};

const MINUTE: u64 = 60_000_000;

fn operator(index: u8) -> Address {
    Address([index; 20])
}

fn sites(count: u8) -> BTreeMap<Address, Site> {
    let site = |i: u8| Site { subnet: Some(Subnet::V4([10, 0, i / 2])), region: None };
    (0..count).map(|i| (operator(i), site(i))).collect()
}

fn object(index: u8) -> BlobId {
    BlobId([index; 32])
}

fn code(data: u8, total: u8) -> Profile {
    Profile::new(data, total).unwrap()
}

struct Net {
    now: Time,
    sites: BTreeMap<Address, Site>,
    objects: u8,
    cores: BTreeMap<Address, Repair>,
    /// Whether it runs, and on which side of a cut.
    state: BTreeMap<Address, (bool, u8)>,
    /// Who has the bytes.
    stored: BTreeMap<(BlobId, u8), BTreeSet<Address>>,
    under_way: Vec<(Time, Address, Work)>,
    works: Vec<(Time, Address, Work)>,
    moves: Vec<Move>,
    stuck: Vec<(Address, BlobId)>,
    /// Whose work comes to nothing.
    failing: BTreeSet<Address>,
    /// Whether every look is at everything.
    is_thorough: bool,
    /// Who has no room, though nobody was told.
    full: BTreeSet<Address>,
}

impl Net {
    fn new(operators: u8, objects: u8, profile: Profile, config: &Config) -> Self {
        let sites = sites(operators);
        let mut net = Self {
            now: Time(0),
            objects,
            cores: sites.keys().map(|me| (*me, Repair::new(*me, config.clone(), Time(0)))).collect(),
            state: sites.keys().map(|me| (*me, (true, 0))).collect(),
            sites,
            stored: BTreeMap::new(),
            under_way: Vec::new(),
            works: Vec::new(),
            moves: Vec::new(),
            stuck: Vec::new(),
            failing: BTreeSet::new(),
            is_thorough: false,
            full: BTreeSet::new(),
        };
        for index in 0..objects {
            let rules = Rules::of(profile, BTreeSet::new());
            let assignment = Assignment::new(Hash32([9; 32]), object(index), profile, &net.sites, rules).unwrap();
            for (fragment, holder) in assignment.holders() {
                net.stored.insert((object(index), fragment), BTreeSet::from([holder]));
            }
            net.tell_all(&Input::Watch { assignment, fragment_bytes: 4 << 20 });
        }
        net.tell_all(&Input::Operators { sites: Arc::new(net.sites.clone()) });
        net.epoch(0);
        net.presence();
        net
    }

    fn epoch(&mut self, number: u8) {
        self.tell_all(&Input::Epoch { seed: keccak(&[&[number]]) });
    }

    fn tell_all(&mut self, input: &Input) {
        let now = self.now;
        self.cores.values_mut().for_each(|core| assert!(core.handle(now, input.clone()).is_empty()));
    }

    fn hears(&self, a: Address, b: Address) -> bool {
        self.state[&a].0 && self.state[&b].0 && self.state[&a].1 == self.state[&b].1
    }

    /// Everyone learns who answers; who was cut off or down also learns what moved meanwhile.
    fn presence(&mut self) {
        let (now, moves) = (self.now, self.moves.clone());
        let all: Vec<_> = self.sites.keys().copied().collect();
        for me in all.iter().filter(|me| self.state[me].0) {
            for other in &all {
                let is_online = self.hears(*me, *other);
                self.cores.get_mut(me).unwrap().handle(now, Input::Seen { operator: *other, is_online });
            }
            let is_whole = self.state.values().all(|(_, side)| *side == 0);
            if is_whole {
                moves.iter().for_each(|step| drop(self.cores.get_mut(me).unwrap().handle(now, Input::Moved(*step))));
            }
        }
    }

    fn set(&mut self, operators: impl IntoIterator<Item = u8>, state: (bool, u8)) {
        self.state.extend(operators.into_iter().map(|i| (operator(i), state)));
        self.presence();
    }

    fn tell_side(&mut self, from: Address, input: &Input) {
        let hearers: Vec<_> = self.sites.keys().copied().filter(|to| *to != from && self.hears(from, *to)).collect();
        hearers.iter().for_each(|to| drop(self.cores.get_mut(to).unwrap().handle(self.now, input.clone())));
    }

    fn carry_out(&mut self, me: Address, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Announce { object } => self.tell_side(me, &Input::Announced { object, by: me }),
                Output::Rebuild(work) => {
                    self.works.push((self.now, me, work.clone()));
                    self.under_way.push((Time(self.now.0 + 5 * MINUTE), me, work));
                }
                Output::Moved(step) => {
                    self.moves.push(step);
                    self.tell_side(me, &Input::Moved(step));
                }
                Output::Stuck { object, .. } => self.stuck.push((me, object)),
            }
        }
    }

    fn finish(&mut self, me: Address, work: &Work) {
        let good = work.sources.iter().filter(|(fragment, holder)| {
            self.hears(me, *holder) && self.stored.get(&(work.object, *fragment)).is_some_and(|holders| holders.contains(holder))
        });
        let is_enough =
            !self.failing.contains(&me) && good.count() >= usize::from(self.cores[&me].assignment(work.object).unwrap().profile().data());
        let mut stored = BTreeSet::new();
        let reached: Vec<_> = work.targets.iter().filter(|(_, holder)| is_enough && self.hears(me, *holder)).collect();
        for (fragment, holder) in reached {
            if self.full.contains(holder) {
                assert!(self.cores.get_mut(&me).unwrap().handle(self.now, Input::Full { operator: *holder }).is_empty());
                continue;
            }
            stored.insert(*fragment);
            self.stored.entry((work.object, *fragment)).or_default().insert(*holder);
        }
        let outputs = self.cores.get_mut(&me).unwrap().handle(self.now, Input::Done { object: work.object, stored });
        self.carry_out(me, outputs);
    }

    fn run(&mut self, minutes: u64) {
        for _ in 0..minutes {
            self.now = Time(self.now.0 + MINUTE);
            let (ended, going) = std::mem::take(&mut self.under_way).into_iter().partition(|(until, ..)| *until <= self.now);
            self.under_way = going;
            for (_, me, work) in ended {
                if self.state[&me].0 {
                    self.finish(me, &work);
                }
            }
            for me in self.sites.keys().copied().collect::<Vec<_>>() {
                let core = self.cores.get_mut(&me).unwrap();
                if self.is_thorough {
                    core.objects.values_mut().for_each(|object| object.is_fresh = true);
                }
                if self.state[&me].0 && core.deadline() <= self.now {
                    let outputs = core.handle(self.now, Input::Tick);
                    self.carry_out(me, outputs);
                }
            }
        }
    }

    /// By the books of `me`: fragments of each object whose holder runs and has the bytes.
    fn left(&self, me: u8) -> Vec<usize> {
        let of = |index: u8| {
            let assignment = self.cores[&operator(me)].assignment(object(index)).unwrap();
            let is_there =
                |(fragment, holder): &(u8, Address)| self.state[holder].0 && self.stored[&(object(index), *fragment)].contains(holder);
            assignment.holders().filter(is_there).count()
        };
        (0..self.objects).map(of).collect()
    }
}

#[test]
fn objects_below_the_floor_come_back_to_all_and_the_others_are_left_alone() {
    let mut net = Net::new(40, 20, code(4, 12), &Config::default());
    net.set(0..14, (false, 0));
    let before = net.left(39);
    assert!(before.iter().any(|left| *left < 8) && before.iter().any(|left| (8..12).contains(left)), "{before:?}");
    net.run(4 * 60 - 1);
    assert!(net.works.is_empty(), "away is not lost before its time");
    net.run(120);
    let after = net.left(39);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(*after, if *before < 8 { 12 } else { *before });
    }
    let due: BTreeSet<_> = (0..20).filter(|index| before[usize::from(*index)] < 8).map(object).collect();
    assert_eq!(net.works.len(), due.len(), "each was mended once");
    for (_, me, work) in &net.works {
        assert!(due.contains(&work.object) && work.method == Method::Decode);
        assert!(work.sources.len() >= 4 && work.sources[0].1 == *me, "its own fragment costs nothing");
        assert!(work.targets.iter().all(|(_, to)| to.0[0] >= 14), "nothing is sent to the dead");
    }
}

#[test]
fn a_quiet_coordinator_is_replaced_by_its_backups_one_after_the_other() {
    let elected = |net: &Net| {
        let holders = net.cores[&operator(0)].assignment(object(0)).unwrap().holders().map(|(_, holder)| holder);
        coordinators(keccak(&[&[0]]), object(0), holders)
    };
    for dead in 0..=COORDINATORS {
        let mut net = Net::new(30, 1, code(4, 12), &Config::default());
        let elected = elected(&net);
        let holders: Vec<_> = net.cores[&operator(0)].assignment(object(0)).unwrap().holders().map(|(_, holder)| holder).collect();
        let others = holders.iter().filter(|holder| !elected.contains(holder));
        let dying: Vec<_> = elected.iter().take(dead).chain(others).take(5.max(dead)).map(|address| address.0[0]).collect();
        net.set(dying, (false, 0));
        net.run(4 * 60 + 10 * u64::try_from(dead).unwrap() + 2);
        if dead == COORDINATORS {
            assert!(net.works.is_empty());
            net.epoch(1);
            net.run(25);
        }
        assert_eq!(net.works.len(), 1, "with {dead} of the coordinators down");
        if dead < COORDINATORS {
            assert_eq!(net.works[0].1, elected[dead]);
        }
    }
}

#[test]
fn a_coordinator_whose_work_comes_to_nothing_leaves_the_turn_to_its_backups() {
    for failing in 1..COORDINATORS {
        let mut net = Net::new(30, 1, code(4, 12), &Config::default());
        let holders: Vec<_> = net.cores[&operator(0)].assignment(object(0)).unwrap().holders().map(|(_, holder)| holder).collect();
        let elected = coordinators(keccak(&[&[0]]), object(0), holders.iter().copied());
        net.failing.extend(&elected[..failing]);
        net.set(holders.iter().filter(|holder| !elected.contains(holder)).take(5).map(|holder| holder.0[0]), (false, 0));
        net.run(4 * 60 + 60);
        assert_eq!(net.left(elected[0].0[0]), [12], "within an hour, though {failing} announce again and again what they cannot do");
        assert_eq!(net.works.last().map(|(_, me, _)| *me), Some(elected[failing]));
        assert!(net.works.len() <= 2 * failing + 1, "{} pieces of work", net.works.len());
    }
}

#[test]
fn holders_that_come_back_in_time_cost_nothing() {
    let mut net = Net::new(30, 10, code(4, 12), &Config::default());
    for round in 0..5 {
        net.set(round * 5..round * 5 + 10, (false, 0));
        net.run(3 * 60 + 50);
        net.set(0..30, (true, 0));
        net.run(30);
    }
    assert!(net.works.is_empty() && net.moves.is_empty() && net.stuck.is_empty());
}

#[test]
fn a_partition_of_ten_minutes_moves_nothing_and_one_of_twelve_hours_is_mended_by_the_larger_side_alone() {
    let mut net = Net::new(50, 20, code(4, 12), &Config::default());
    net.set(0..20, (true, 1));
    net.run(10);
    net.set(0..20, (true, 0));
    net.run(60);
    assert!(net.works.is_empty());

    net.set(0..20, (true, 1));
    net.run(12 * 60);
    assert!(!net.works.is_empty() && net.works.iter().all(|(_, me, _)| me.0[0] >= 20), "who sees fewer than half mends nothing");
    net.set(0..20, (true, 0));
    let healed = net.works.len();
    net.run(12 * 60);
    assert_eq!(net.works.len(), healed, "nothing is mended twice after the cut heals");
    let mut times = BTreeMap::<_, u32>::new();
    net.works.iter().for_each(|(_, _, work)| *times.entry(work.object).or_default() += 1);
    assert!(times.values().all(|count| *count == 1), "{times:?}");
    for index in 0..20 {
        let views: BTreeSet<Vec<_>> = net.cores.values().map(|core| core.assignment(object(index)).unwrap().holders().collect()).collect();
        assert_eq!(views.len(), 1, "all name the same holders");
    }
}

#[test]
fn more_losses_while_repairing_are_mended_in_the_next_round() {
    let mut net = Net::new(40, 1, code(4, 12), &Config::default());
    let holders: Vec<_> = net.cores[&operator(0)].assignment(object(0)).unwrap().holders().map(|(_, holder)| holder).collect();
    let elected = coordinators(keccak(&[&[0]]), object(0), holders.iter().copied());
    let others: Vec<_> = holders.iter().filter(|holder| **holder != elected[0]).map(|holder| holder.0[0]).collect();
    // n - k at once: the least that still gives the object back.
    net.set(others[..8].to_vec(), (false, 0));
    while net.works.is_empty() {
        net.run(1);
    }
    // A target dies under the work, before anything stands there.
    let target = net.works[0].2.targets[0].1;
    net.set([target.0[0]], (false, 0));
    net.run(9 * 60);
    assert_eq!(net.left(elected[0].0[0]), [12]);
    assert!(
        net.works.len() >= 2
            && net.works[1].2.targets.iter().any(|(fragment, to)| *fragment == net.works[0].2.targets[0].0 && *to != target)
    );
}

#[test]
fn too_few_fragments_are_told_once_and_mended_when_a_holder_returns() {
    let mut net = Net::new(40, 1, code(4, 12), &Config::default());
    let holders: Vec<_> = net.cores[&operator(0)].assignment(object(0)).unwrap().holders().map(|(_, holder)| holder.0[0]).collect();
    let elected = coordinators(keccak(&[&[0]]), object(0), holders.iter().map(|holder| operator(*holder)));
    let keep: Vec<_> = elected.iter().map(|address| address.0[0]).collect();
    let gone: Vec<_> = holders.iter().copied().filter(|holder| !keep.contains(holder)).collect();
    net.set(gone.clone(), (false, 0));
    net.run(6 * 60);
    assert!(net.works.is_empty());
    assert_eq!(net.stuck.len(), COORDINATORS, "each coordinator says so once");
    net.set([gone[0]], (true, 0));
    net.run(30);
    assert_eq!(net.left(keep[0]), [12]);
}

#[test]
fn a_holder_mends_its_own_damaged_fragment_alone_and_keeps_it() {
    let mut net = Net::new(30, 2, code(4, 12), &Config::default());
    let holder = net.cores[&operator(0)].assignment(object(1)).unwrap().holder(5).unwrap();
    net.tell_all(&Input::Damaged { object: object(1), fragment: 5 });
    net.tell_all(&Input::Damaged { object: object(1), fragment: 12 });
    net.run(30);
    assert_eq!(net.works.len(), 1);
    let (_, me, work) = &net.works[0];
    assert_eq!((*me, work.method, work.targets.clone()), (holder, Method::Single, vec![(5, holder)]));
    assert!(net.moves.is_empty() && !work.sources.contains(&(5, holder)));
    let health = net.cores[&holder].health(net.now, object(1)).unwrap();
    assert_eq!((health.left(), health.held()), (12, 12));
}

#[test]
fn an_operator_without_room_is_left_alone_longer_and_longer_and_the_next_rank_holds_instead() {
    let mut net = Net::new(40, 20, code(4, 12), &Config::default());
    net.set(0..14, (false, 0));
    net.full = (14..20).map(operator).collect();
    net.run(4 * 60 + 120);
    assert!(net.left(39).iter().all(|left| *left >= 8), "{:?}", net.left(39));
    assert!(net.moves.iter().all(|step| !net.full.contains(&step.to)));
    let mut times = BTreeMap::<_, u32>::new();
    for (_, me, work) in &net.works {
        work.targets.iter().filter(|(_, to)| net.full.contains(to)).for_each(|(_, to)| *times.entry((*me, *to)).or_default() += 1);
    }
    // Two hours hold 24 waits of five minutes, and four of 10, 20, 40 and 80.
    assert!(!times.is_empty() && times.values().all(|times| *times <= 4), "{times:?}");
    net.full.clear();
    // More than half are left, so that silence is loss after four hours.
    net.set(20..25, (false, 0));
    net.run(5 * 60);
    // Where all coordinators are among the dead, the next epoch has others.
    net.epoch(1);
    net.run(19 * 60);
    assert!(net.left(39).iter().all(|left| *left >= 8), "{:?}", net.left(39));
    assert!(net.moves.iter().any(|step| (14..20).contains(&step.to.0[0])), "with room they hold again");
}

#[test]
fn a_coordinator_that_finds_no_room_keeps_its_turn_and_asks_the_next_ones_soon() {
    let run = |full: BTreeSet<Address>| {
        let mut net = Net::new(30, 1, code(4, 12), &Config::default());
        let holders: Vec<_> = net.cores[&operator(0)].assignment(object(0)).unwrap().holders().map(|(_, holder)| holder).collect();
        let elected = coordinators(keccak(&[&[0]]), object(0), holders.iter().copied());
        net.full = full;
        net.set(holders.iter().filter(|holder| !elected.contains(holder)).take(5).map(|holder| holder.0[0]), (false, 0));
        net.run(4 * 60 + 60);
        net
    };
    let with_room = run(BTreeSet::new());
    let [(_, me, work)] = &with_room.works[..] else { panic!("{:?}", with_room.works) };
    let without = run(work.targets.iter().map(|(_, to)| *to).collect());
    let [(failed, first, _), (again, second, _)] = &without.works[..] else { panic!("{:?}", without.works) };
    assert_eq!((first, second, without.left(me.0[0])), (me, me, vec![12]));
    assert!(again.since(*failed) < Config::default().rest(true), "it is not in vain to learn who has no room");
}

#[test]
fn what_is_damaged_leaves_a_holder_that_says_it_has_no_room_is_suspended_or_gone_and_waits_with_one_that_only_refuses() {
    let run = |change: &dyn Fn(&mut Net, Address)| {
        let mut net = Net::new(30, 1, code(4, 12), &Config::default());
        let holders: Vec<_> = net.cores[&operator(0)].assignment(object(0)).unwrap().holders().collect();
        let elected = coordinators(keccak(&[&[0]]), object(0), holders.iter().map(|(_, holder)| *holder));
        let mut others = holders.into_iter().filter(|(_, holder)| !elected.contains(holder));
        // Five others leave for good, so the object is due whatever becomes of the damaged one.
        let (fragment, holder) = others.next().unwrap();
        let gone: Vec<_> = others.take(5).map(|(_, holder)| holder).collect();
        net.set(gone.iter().map(|holder| holder.0[0]), (false, 0));
        gone.iter().for_each(|operator| net.tell_all(&Input::Gone { operator: *operator }));
        net.failing.insert(holder);
        net.tell_all(&Input::Damaged { object: object(0), fragment });
        change(&mut net, holder);
        net.run(60);
        assert!(net.moves.iter().filter(|step| step.fragment != fragment).count() >= 5, "the others are mended: {:?}", net.moves);
        net.moves.iter().any(|step| step.fragment == fragment)
    };
    let unfit = |suspended: &[Address], without_room: &[Address]| Input::Unfit {
        operators: suspended.iter().copied().collect(),
        without_room: without_room.iter().copied().collect(),
    };
    assert!(!run(&|_, _| {}), "it stays where it is");
    assert!(run(&|net, holder| net.tell_all(&unfit(&[], &[holder]))), "full by its own word");
    assert!(!run(&|net, holder| net.full = BTreeSet::from([holder])), "full by its refusal, which nobody else has heard");
    assert!(
        run(&|net, holder| {
            net.full = BTreeSet::from([holder]);
            net.tell_all(&unfit(&[], &[holder]));
        }),
        "it has refused and says so"
    );
    assert!(run(&|net, holder| net.tell_all(&unfit(&[holder], &[holder]))), "suspended, full or not");
    assert!(run(&|net, holder| {
        net.set([holder.0[0]], (false, 0));
        net.tell_all(&Input::Gone { operator: holder });
    }));
}

#[test]
fn what_is_damaged_with_a_full_holder_costs_nobody_work_before_the_object_is_due() {
    let mut net = Net::new(30, 1, code(4, 12), &Config::default());
    let holders: Vec<_> = net.cores[&operator(0)].assignment(object(0)).unwrap().holders().collect();
    let full: BTreeSet<_> = holders[..4].iter().map(|(_, holder)| *holder).collect();
    net.tell_all(&Input::Unfit { operators: BTreeSet::new(), without_room: full.clone() });
    net.full = full;
    for (fragment, _) in &holders[..4] {
        net.tell_all(&Input::Damaged { object: object(0), fragment: *fragment });
    }
    net.run(60);
    assert!(net.moves.is_empty(), "8 of 12 are left, which is the floor: {:?}", net.moves);
    net.tell_all(&Input::Damaged { object: object(0), fragment: holders[4].0 });
    net.run(60);
    let moved: BTreeSet<_> = net.moves.iter().map(|step| step.fragment).collect();
    assert_eq!(moved, holders[..4].iter().map(|(fragment, _)| *fragment).collect(), "the fifth is mended where it is");
    let works = net.works.iter().filter(|(.., work)| work.targets.len() > 1).count();
    assert_eq!((works, net.left(holders[5].1.0[0])), (1, vec![12]), "in one piece of work");
}

#[test]
fn a_refusal_doubles_the_rest_up_to_six_hours() {
    let config = Config::default();
    let (me, full) = (operator(0), operator(1));
    let mut core = Repair::new(me, config, Time(0));
    core.handle(Time(0), Input::Operators { sites: Arc::new(sites(30)) });
    let mut rests = Vec::new();
    for _ in 0..9 {
        core.handle(Time(0), Input::Full { operator: full });
        let until = core.full[&full].1;
        assert!(core.is_full(Time(until.0 - 1), full) && !core.is_full(until, full));
        rests.push(until.0 / MINUTE);
    }
    assert_eq!(rests, [10, 20, 40, 80, 160, 320, 360, 360, 360]);
    core.handle(Time(0), Input::Operators { sites: Arc::new(sites(1)) });
    assert!(core.full.is_empty(), "who is registered no more is forgotten");
}

#[test]
fn an_operator_that_left_for_good_is_lost_at_once_and_half_a_network_after_three_days() {
    let mut net = Net::new(40, 10, code(4, 12), &Config::default());
    net.set(0..14, (false, 0));
    (0..14).for_each(|i| net.tell_all(&Input::Gone { operator: operator(i) }));
    net.run(90);
    assert!(net.left(39).iter().all(|left| *left >= 8));

    let mut net = Net::new(40, 10, code(4, 12), &Config::default());
    net.set(0..22, (false, 0));
    net.run(71 * 60);
    assert!(net.works.is_empty(), "more than half seem away: this may be the side that is cut off");
    net.run(3 * 60);
    assert!(!net.works.is_empty());
}

#[test]
fn the_most_urgent_comes_first_and_the_budget_holds() {
    let config = Config { bytes_per_s: 64 << 10, burst_bytes: 1 << 20, at_once: 1, ..Config::default() };
    let mut net = Net::new(40, 20, code(4, 12), &config);
    net.set(0..14, (false, 0));
    let before = net.left(39);
    net.run(12 * 60);
    let after = net.left(39);
    assert!(after.iter().all(|left| *left >= 8), "slow, not never: {after:?}");
    for me in net.sites.keys() {
        let own: Vec<_> = net.works.iter().filter(|(_, by, _)| by == me).collect();
        for pair in own.windows(2) {
            let cost = |work: &Work| u64::try_from(4 - 1 + work.targets.len()).unwrap() << 22;
            let paid = (pair[1].0.0 - pair[0].0.0) / 1_000_000 * (64 << 10) + (1 << 20);
            assert!(cost(&pair[0].2) <= paid + cost(&pair[1].2), "the first is paid for before the second starts");
            let left = |work: &Work| before[usize::from(work.object.0[0])];
            assert!(left(&pair[0].2) <= left(&pair[1].2), "fewest left first");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_fails_the_bounds_hold_and_calm_mends_all(events in proptest::collection::vec((0..30_u8, 0..4_u8, 1..300_u64), 1..12)) {
        let mut net = Net::new(30, 4, code(4, 12), &Config::default());
        for (number, (who, what, minutes)) in (1..).zip(events) {
            match what {
                0 => net.set(who..who.saturating_add(3).min(30), (false, 0)),
                1 => net.set(0..12, (true, 1)),
                2 => net.set(0..30, (true, 0)),
                _ => net.tell_all(&Input::Damaged { object: object(who % 4), fragment: who % 12 }),
            }
            net.run(minutes);
            let mut times = BTreeMap::<_, usize>::new();
            net.moves.iter().for_each(|step| *times.entry((step.object, step.fragment, step.generation)).or_default() += 1);
            prop_assert!(times.values().all(|count| *count <= COORDINATORS), "{:?}", times);
            net.works.clear();
            net.epoch(number);
        }
        net.set(0..30, (true, 0));
        for number in 100..106 {
            net.epoch(number);
            net.run(60);
        }
        for core in net.cores.values() {
            for index in 0..4 {
                let health = core.health(net.now, object(index)).unwrap();
                prop_assert!(!health.is_due() && health.is_readable(), "{:?}", health);
                let assignment = core.assignment(object(index)).unwrap();
                let holders: BTreeSet<_> = assignment.holders().map(|(_, holder)| holder).collect();
                prop_assert_eq!(holders.len(), 12);
                let mut subnets = BTreeMap::<_, u8>::new();
                holders.iter().for_each(|holder| *subnets.entry(net.sites[holder].subnet).or_default() += 1);
                prop_assert!(subnets.values().all(|count| *count <= placement::SUBNET_MAX));
            }
        }
    }

    #[test]
    fn a_look_at_what_may_have_changed_finds_what_a_look_at_everything_does(
        events in proptest::collection::vec((0..30_u8, 0..6_u8, 1..400_u64), 1..10),
    ) {
        let run = |is_thorough| {
            let mut net = Net::new(30, 4, code(4, 12), &Config::default());
            net.is_thorough = is_thorough;
            for (number, (who, what, minutes)) in (1..).zip(&events) {
                match what {
                    0 => net.set(*who..who.saturating_add(5).min(30), (false, 0)),
                    1 => net.set(0..16, (true, 1)),
                    2 => net.set(0..30, (true, 0)),
                    3 => net.tell_all(&Input::Gone { operator: operator(*who) }),
                    4 => net.epoch(number),
                    _ => net.tell_all(&Input::Damaged { object: object(who % 4), fragment: who % 12 }),
                }
                net.run(*minutes);
            }
            (net.works, net.moves, net.stuck)
        };
        prop_assert_eq!(run(false), run(true));
    }
}

#[test]
fn damage_is_taken_back_when_its_holder_has_shown_the_fragment_and_by_nobody_else() {
    let (profile, me) = (code(3, 5), operator(0));
    let mut core = Repair::new(me, Config::default(), Time(0));
    core.handle(Time(0), Input::Operators { sites: Arc::new(sites(5)) });
    core.handle(Time(0), Input::Epoch { seed: Hash32([1; 32]) });
    let assignment = Assignment::new(Hash32([9; 32]), object(0), profile, &sites(5), Rules::of(profile, BTreeSet::new())).unwrap();
    let (fragment, holder) = assignment.holders().find(|(_, holder)| *holder != me).unwrap();
    core.handle(Time(0), Input::Watch { assignment, fragment_bytes: 1 });
    for index in 0..5 {
        core.handle(Time(0), Input::Seen { operator: operator(index), is_online: true });
    }
    let stands = |core: &Repair| core.health(Time(1), object(0)).unwrap().fragments[&fragment].1;
    core.handle(Time(0), Input::Damaged { object: object(0), fragment });
    core.handle(Time(0), Input::Tick);
    assert_eq!((stands(&core), core.damaged(object(0))), (Standing::Lost, BTreeSet::from([fragment])));
    core.handle(Time(0), Input::Shown { object: object(0), fragment, by: me });
    assert_eq!(stands(&core), Standing::Lost, "another's word");
    core.handle(Time(0), Input::Shown { object: object(0), fragment, by: holder });
    assert_eq!((stands(&core), core.damaged(object(0))), (Standing::Held, BTreeSet::new()));
}
