//! The books against the truth: what nodes hold vouchers for, what they have collected, and what is gone for good.

use proptest::prelude::*;

use super::*;

const KEY: Address = Address([7; 20]);

fn id(number: usize) -> Hash32 {
    let mut request = [0; 32];
    request[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
    Hash32(request)
}

fn caps(request: u128, day: u128, key: u128) -> Caps {
    Caps { per_request: Some(Amount(request)), per_day: Some(Amount(day)), per_key: Some(Amount(key)) }
}

fn begin(books: &mut Spending, caps: Caps, request: usize, most: u128, day: u64) -> Result<(), Refused> {
    books.begin(caps, id(request), KEY, Amount(most), Amount::ZERO, day)
}

fn paid(sum: u128) -> Outcome {
    Outcome { paid: Amount(sum), ..Outcome::default() }
}

fn promise(lane: usize, base: u128, sum: u128, expiry: u64) -> Promise {
    Promise { attempt: 0, lane: id(lane), base: Amount(base), sum: Amount(sum), expiry }
}

#[test]
fn each_cap_refuses_with_what_was_counted_and_the_way_to_change_it() {
    let caps = caps(50, 90, 130);
    let mut books = Spending::default();
    assert!(begin(&mut books, caps, 1, 51, 3).unwrap_err().to_string().contains("`per_request`"));
    begin(&mut books, caps, 1, 50, 3).unwrap();
    let refused = begin(&mut books, caps, 2, 41, 3).unwrap_err();
    assert_eq!(refused, Refused::Day { counted: Amount(50), asked: Amount(41), cap: Amount(90) });
    assert!(refused.to_string().contains("0.00000000000000005 OPEN is spent") && refused.to_string().contains("`per_day`"), "{refused}");
    begin(&mut books, caps, 2, 40, 3).unwrap();
    let refused = begin(&mut books, caps, 3, 41, 4).unwrap_err();
    assert_eq!(refused, Refused::Key { key: KEY, counted: Amount(90), asked: Amount(41), cap: Amount(130) });
    begin(&mut books, caps, 3, 40, 4).unwrap();
}

#[test]
fn a_receipt_lowers_what_a_promise_counted() {
    let caps = caps(50, 50, 1_000);
    let mut books = Spending::default();
    begin(&mut books, caps, 1, 50, 3).unwrap();
    assert!(begin(&mut books, caps, 2, 1, 3).is_err());
    books.end(id(1), paid(12));
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(12)), Ok(Amount(12))));
    begin(&mut books, caps, 2, 38, 3).unwrap();
    assert!(begin(&mut books, caps, 3, 1, 3).is_err());
}

#[test]
fn a_receipt_that_is_recalled_counts_in_place_of_its_promise_once() {
    let caps = caps(50, 50, 1_000);
    let mut books = Spending::default();
    begin(&mut books, caps, 1, 50, 3).unwrap();
    books.died(id(1), Some(vec![promise(8, 5, 30, 99), Promise { attempt: 1, ..promise(9, 0, 11, 99) }]));
    assert_eq!((books.today(), books.owed(id(1), 0)), (Ok(Amount(41)), Some(promise(8, 5, 30, 99))));
    assert!(books.settle(id(1), 0, Amount(12)));
    assert_eq!((books.today(), books.of_key(KEY), books.owed(id(1), 0)), (Ok(Amount(23)), Ok(Amount(23)), None));
    assert!(!books.settle(id(1), 0, Amount(12)), "a second time nothing is counted");
    assert!(!books.settle(id(2), 1, Amount(12)) && books.settle(id(1), 1, Amount::ZERO));
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(12)), Ok(Amount(12))));
}

#[test]
fn a_request_that_is_gone_on_with_counts_once() {
    let caps = caps(50, 100, 1_000);
    let mut books = Spending::default();
    begin(&mut books, caps, 1, 50, 3).unwrap();
    // Begun twice by whoever holds it: nothing changes.
    begin(&mut books, caps, 1, 50, 3).unwrap();
    assert_eq!(books.today(), Ok(Amount(50)));
    books.died(id(1), Some(vec![promise(1, 0, 20, 9)]));
    assert_eq!(books.today(), Ok(Amount(20)));
    books.begin(caps, id(1), KEY, Amount(50), Amount(20), 3).unwrap();
    assert_eq!(books.today(), Ok(Amount(50)));
    books.end(id(1), paid(13));
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(33)), Ok(Amount(33))));
    // The receipt of the first attempt was on the disk: what it charges takes the place of what was promised.
    books.begin(caps, id(1), KEY, Amount(50), Amount(33), 3).unwrap();
    books.end(id(1), Outcome { paid: Amount(20), settled: [0].into(), promised: vec![] });
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(33)), Ok(Amount(33))));
}

#[test]
fn a_process_that_died_has_what_it_promised_counted_until_its_lane_expires_and_nothing_else() {
    let mut books = Spending::default();
    let left = |books: &Spending| (books.today().unwrap().0, books.of_key(KEY).unwrap().0);
    for request in 1..=4 {
        begin(&mut books, Caps::default(), request, 50, 3).unwrap();
    }
    assert_eq!(left(&books), (200, 200));
    books.died(id(1), Some(vec![]));
    assert_eq!(left(&books), (150, 150), "nothing was promised in the first");
    books.died(id(2), Some(vec![promise(2, 100, 7, 9), promise(3, 0, 5, 11)]));
    assert_eq!(left(&books), (112, 112));
    books.died(id(3), None);
    assert_eq!(left(&books), (112, 112), "one without a note may have promised everything");
    // While the last block of a lane is not final, its vouchers may still be collected.
    let collected: BTreeMap<_, _> = [(id(2), Amount(103)), (id(3), Amount(0))].into();
    assert_eq!(books.expired(9, 9).len(), 0);
    books.reckon(9, &collected);
    assert_eq!(left(&books), (112, 112));
    assert_eq!(books.expired(10, 9), [id(2)].into());
    books.reckon(10, &collected);
    assert_eq!(left(&books), (108, 108), "3 of 7 wei were collected");
    books.reckon(12, &[(id(2), Amount(103))].into());
    assert_eq!(left(&books), (108, 108), "nobody asked the chain about the other lane");
    books.reckon(12, &collected);
    assert_eq!(left(&books), (103, 103), "none of its 5 wei was");
    books.turn_to(4);
    assert_eq!(left(&books), (0, 103));
    books.died(id(4), Some(vec![]));
    assert_eq!(left(&books), (0, 53), "the third one's 50 and the 3 that were collected");
}

#[test]
fn a_clock_set_back_frees_nothing_and_a_new_day_does() {
    let caps = caps(50, 50, 1_000);
    let mut books = Spending::default();
    begin(&mut books, caps, 1, 50, 3).unwrap();
    assert!(begin(&mut books, caps, 2, 50, 2).is_err());
    begin(&mut books, caps, 2, 50, 4).unwrap();
    books.end(id(1), paid(30));
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(50)), Ok(Amount(80))));
    books.turn_to(9);
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount::ZERO), Ok(Amount(80))), "it may still be under way");
}

#[test]
fn requests_and_promises_left_behind_are_bounded_and_stay_counted() {
    let mut books = Spending::default();
    for request in 0..OPEN_MAX + 10 {
        begin(&mut books, Caps::default(), request, 1, 1).unwrap();
    }
    assert_eq!(books.open.len(), OPEN_MAX);
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(1_034)), Ok(Amount(1_034))));
    let mut books = Spending::default();
    for request in 0..OWED_MAX + 10 {
        begin(&mut books, Caps::default(), request, 1, 1).unwrap();
        books.died(id(request), Some(vec![promise(request, 0, 1, u64::try_from(request).unwrap())]));
    }
    assert_eq!(books.owed.len(), OWED_MAX);
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(2_058)), Ok(Amount(2_058))));
}

#[test]
fn books_of_an_earlier_build_are_read() {
    let key = format!("0x{}", "07".repeat(20));
    let request = format!("0x{}", "01".repeat(32));
    let text = format!(
        r#"{{"day":3,"spent":"4","keys":{{"{key}":"9"}},"open":{{"{request}":{{"key":"{key}","day":3,"before":"0","most":"5"}}}}}}"#
    );
    let mut books: Spending = serde_json::from_str(&text).unwrap();
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(9)), Ok(Amount(14))));
    // Its process noted nothing.
    let request = books.open().next().unwrap();
    books.died(request, None);
    assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(9)), Ok(Amount(14))));
}

/// What happens to one of a few requests at a time.
#[derive(Debug, Clone)]
enum Op {
    /// Begins in a place that is free: key, limit.
    Begin(usize, u8, u128),
    /// Its attempt promises a share, in 1/255, of what is left.
    Promise(usize, u8),
    /// Its attempt ends without a word; the next one begins.
    Next(usize),
    /// It ends: with a receipt for what was promised, with a signed word that nothing is charged, or without either.
    End(usize, End),
    /// Its process is killed.
    Kill(usize),
    /// A killed one is gone on with.
    Resume(usize),
    /// A node collects a share, in 1/255, of what it holds a voucher for.
    Collect(usize, u8),
    /// Blocks pass.
    Blocks(u64),
    /// The books are compared with the chain.
    Reckon,
    /// The clock moves, also back.
    Clock(u64),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Receipt,
    Nothing,
    Silence,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let slot = || 0..5_usize;
    let end = prop_oneof![Just(End::Receipt), Just(End::Nothing), Just(End::Silence)];
    let op = prop_oneof![
        4 => (slot(), 0..3_u8, 0..60_u128).prop_map(|(slot, key, limit)| Op::Begin(slot, key, limit)),
        6 => (slot(), any::<u8>()).prop_map(|(slot, share)| Op::Promise(slot, share)),
        2 => slot().prop_map(Op::Next),
        3 => (slot(), end).prop_map(|(slot, end)| Op::End(slot, end)),
        3 => slot().prop_map(Op::Kill),
        2 => slot().prop_map(Op::Resume),
        4 => (any::<usize>(), any::<u8>()).prop_map(|(lane, share)| Op::Collect(lane, share)),
        2 => (1..9_u64).prop_map(Op::Blocks),
        2 => Just(Op::Reckon),
        1 => (0..5_u64).prop_map(Op::Clock),
    ];
    proptest::collection::vec(op, 0..150)
}

/// A lane that one attempt promised on, as the chain and its node have it.
#[derive(Debug, Clone, Copy)]
struct Lane {
    request: usize,
    attempt: u16,
    key: u8,
    day: u64,
    base: u128,
    sum: u128,
    expiry: u64,
    collected: u128,
    /// A receipt came: what it charges.
    receipt: Option<u128>,
}

/// One request over all its runs.
#[derive(Debug, Clone)]
struct Asked {
    number: usize,
    key: u8,
    limit: u128,
    day: u64,
    is_running: bool,
    /// Lanes of this run, by place.
    lanes: Vec<usize>,
    attempts: u16,
}

/// The production books, and the truth beside them.
struct World {
    caps: Caps,
    books: Spending,
    lanes: Vec<Lane>,
    slots: BTreeMap<usize, Asked>,
    requests: usize,
    block: u64,
    clock: u64,
}

impl World {
    /// What a request has cost or may still cost by the client's draft: receipts, and promises without one.
    fn cost(&self, number: usize) -> u128 {
        let lanes = self.lanes.iter().filter(|lane| lane.request == number);
        lanes.map(|lane| lane.receipt.unwrap_or(lane.sum)).sum()
    }

    fn promise_of(lane: &Lane, place: usize) -> Promise {
        Promise { attempt: lane.attempt, lane: id(place), base: Amount(lane.base), sum: Amount(lane.sum), expiry: lane.expiry }
    }

    fn noted(&self, asked: &Asked) -> Vec<Promise> {
        asked.lanes.iter().map(|place| Self::promise_of(&self.lanes[*place], *place)).collect()
    }

    /// What a shell does before anything is asked: notes of processes that died are taken up.
    fn sweep(&mut self) {
        let dead: Vec<usize> = self
            .slots
            .iter()
            .filter(|(_, asked)| !asked.is_running && self.books.open.contains_key(&id(asked.number)))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in dead {
            let asked = self.slots[&slot].clone();
            self.books.died(id(asked.number), Some(self.noted(&asked)));
        }
    }

    fn reckon(&mut self) {
        let last_final = self.block.saturating_sub(2);
        let collected = self.books.expired(last_final, usize::MAX).into_iter().map(|lane| {
            let place = usize::try_from(u64::from_be_bytes(lane.0[..8].try_into().unwrap())).unwrap();
            (lane, Amount(self.lanes[place].base + self.lanes[place].collected))
        });
        let collected = collected.collect();
        self.books.reckon(last_final, &collected);
    }

    fn begin(&mut self, slot: usize, asked: Asked) {
        self.sweep();
        let before = Amount(self.cost(asked.number));
        let key = Address([asked.key; 20]);
        if self.books.begin(self.caps, id(asked.number), key, Amount(asked.limit), before, self.clock).is_ok() {
            self.slots.insert(slot, Asked { is_running: true, lanes: vec![], day: self.books.day, ..asked });
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Begin(slot, key, limit) if !self.slots.contains_key(&slot) => {
                self.requests += 1;
                let asked = Asked { number: self.requests, key, limit, day: 0, is_running: true, lanes: vec![], attempts: 0 };
                self.begin(slot, asked);
            }
            Op::Resume(slot) => {
                if let Some(asked) = self.slots.get(&slot).filter(|asked| !asked.is_running).cloned() {
                    self.begin(slot, Asked { attempts: asked.attempts + 1, ..asked });
                }
            }
            Op::Promise(slot, share) => {
                let Some(asked) = self.slots.get(&slot).filter(|asked| asked.is_running).cloned() else { return };
                let rest = (asked.limit - self.cost(asked.number)) * u128::from(share) / 255;
                let open = asked.lanes.iter().copied().find(|place| self.lanes[*place].attempt == asked.attempts);
                match open {
                    Some(place) => self.lanes[place].sum += rest,
                    None => {
                        self.lanes.push(Lane {
                            request: asked.number,
                            attempt: asked.attempts,
                            key: asked.key,
                            day: asked.day,
                            base: u128::from(share),
                            sum: rest,
                            expiry: self.block + 10,
                            collected: 0,
                            receipt: None,
                        });
                        self.slots.get_mut(&slot).unwrap().lanes.push(self.lanes.len() - 1);
                    }
                }
            }
            Op::Next(slot) => {
                if let Some(asked) = self.slots.get_mut(&slot).filter(|asked| asked.is_running) {
                    asked.attempts += 1;
                }
            }
            Op::End(slot, end) => {
                let Some(asked) = self.slots.get(&slot).filter(|asked| asked.is_running).cloned() else { return };
                self.slots.remove(&slot);
                let promised = self.noted(&asked);
                let current = asked.lanes.iter().copied().find(|place| self.lanes[*place].attempt == asked.attempts);
                let mut outcome = Outcome { promised, ..Outcome::default() };
                if let Some(place) = current {
                    let lane = &mut self.lanes[place];
                    lane.receipt = match end {
                        End::Receipt => Some(lane.sum),
                        // A node keeps its word, or is convicted by it.
                        End::Nothing if lane.collected == 0 => Some(0),
                        End::Nothing | End::Silence => None,
                    };
                    if let Some(fee) = lane.receipt {
                        outcome.paid = Amount(fee);
                        outcome.settled.insert(asked.attempts);
                    }
                }
                self.books.end(id(asked.number), outcome);
            }
            Op::Kill(slot) => {
                if let Some(asked) = self.slots.get_mut(&slot) {
                    asked.is_running = false;
                }
            }
            Op::Collect(place, share) => {
                let block = self.block;
                let count = self.lanes.len().max(1);
                if let Some(lane) = self.lanes.get_mut(place % count).filter(|lane| block <= lane.expiry && lane.receipt != Some(0)) {
                    lane.collected = lane.collected.max(lane.sum * u128::from(share) / 255);
                }
            }
            Op::Blocks(count) => self.block += count,
            Op::Reckon => self.reckon(),
            Op::Clock(day) => self.clock = day,
            Op::Begin(..) => {}
        }
    }

    /// What nodes have of a lane, or can still come to have.
    fn can_be_collected(&self, lane: &Lane) -> u128 {
        match lane.receipt {
            Some(fee) => fee,
            None if self.block <= lane.expiry => lane.sum,
            None => lane.collected,
        }
    }

    fn truth(&self, is_meant: impl Fn(&Lane) -> bool) -> u128 {
        self.lanes.iter().filter(|lane| is_meant(lane)).map(|lane| self.can_be_collected(lane)).sum()
    }

    fn check(&self, per_day: u128, per_key: u128) {
        for key in 0..3 {
            let (truth, counted) = (self.truth(|lane| lane.key == key), self.books.of_key(Address([key; 20])).unwrap().0);
            assert!(truth <= counted, "key {key}: nodes can collect {truth}, {counted} are counted");
            assert!(counted <= per_key, "key {key}: {counted} are counted");
        }
        let (truth, counted) = (self.truth(|lane| lane.day == self.books.day), self.books.today().unwrap().0);
        assert!(truth <= counted && counted <= per_day, "nodes can collect {truth} of the day's {counted}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_counts_is_never_less_than_nodes_can_collect_never_above_a_cap_and_exact_once_everything_has_ended(
        ops in ops(),
        per_day in 0..200_u128,
        per_key in 0..300_u128,
    ) {
        let mut world = World {
            caps: caps(40, per_day, per_key),
            books: Spending::default(),
            lanes: vec![],
            slots: BTreeMap::new(),
            requests: 0,
            block: 1,
            clock: 0,
        };
        for op in ops {
            world.step(op);
            world.check(per_day, per_key);
            // Whatever was written comes back: each step may be the last of its process.
            let text = serde_json::to_string(&world.books).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Spending>(&text).unwrap(), &world.books);
        }
        // Every process is killed, every lane expires, the chain is asked.
        world.slots.values_mut().for_each(|asked| asked.is_running = false);
        world.sweep();
        world.check(per_day, per_key);
        world.block += 20;
        world.reckon();
        for key in 0..3 {
            let truth = world.truth(|lane| lane.key == key);
            prop_assert_eq!(world.books.of_key(Address([key; 20])), Ok(Amount(truth)), "key {}", key);
        }
        let truth = world.truth(|lane| lane.day == world.books.day);
        prop_assert_eq!(world.books.today(), Ok(Amount(truth)));
    }
}
