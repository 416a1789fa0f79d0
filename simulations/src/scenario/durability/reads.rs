//! Reads through the production core of fetching, while some holders are off, some slow, and some lie.
//!
//! Objects lie where the production placement puts them. What holders send goes through the production encoder and decoder of ranges, so a lie is found where a reader
//! finds it. A fragment is four groups of 16 KiB, each of which takes as long as the quarter of a large object's fragment. Who is off either cannot be dialled or says nothing at all; who
//! lies shows another manifest or changes bytes; who is slow sends all of it, ten to a hundred times later.
//!
//! A read decodes and hashes 1 MiB and hears some 200 events: about 5 ms.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use storage::{
    erasure::{self, ObjectManifest},
    proto::{
        fetch::{Config, Evidence, Fetch, Fetched, Input, Output, StreamEnd},
        message::{Refusal, Reply},
        placement::{Assignment, Rules, Site, Subnet, profile},
        range::{Decoder, Encoder, GROUP_BYTES, Run, Tree},
    },
};
use types::{
    id::{Address, BlobId, Hash32, NodeId},
    time::Time,
};

use super::{
    as_f64,
    model::read_nines,
    net::{FRAGMENT_BYTES, LINE_BYTES_PER_S, SLOW_TIMES_MIN, World, account},
};
use crate::random::Random;

/// Groups of a fragment.
const GROUPS: u64 = 4;
/// From one node to another and back.
const ROUND_TRIP_US: u64 = 40_000;
/// Until a node that is off is known not to be reachable.
const DIAL_US: u64 = 2_000_000;
/// Most objects that are read: 3.3 MB each.
const OBJECTS_MAX: u64 = 24;
/// Draws of who is off.
const ROUNDS: u64 = 20;
/// Most inputs of one fetch; it ends long before.
const INPUTS_MAX: u32 = 20_000;

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Reads {
    /// Reads tried.
    pub tried: u64,
    /// Objects that came back, decoded and hashed.
    pub good: u64,
    /// Operators that were off, slow, and lied, at a time.
    pub off: u64,
    /// Slow ones.
    pub slow: u64,
    /// Liars.
    pub lying: u64,
    /// Nines of a read by the closed form: who lies is as good as off.
    pub nines: f64,
    /// Proofs that a holder lied.
    pub blamed: u64,
    /// Of them against holders that did not: none may be.
    pub wronged: u64,
    /// Reads that asked a slow holder for something.
    pub met_slow: u64,
    /// Half of the reads took at most so long, and the longest.
    pub median_s: f64,
    /// The longest.
    pub longest_s: f64,
    /// What a slow holder's fragment takes: the slowest that was asked.
    pub slowest_fragment_s: f64,
    /// Groups asked for, over those needed, on average and at most.
    pub asked_mean: f64,
    /// At most.
    pub asked_max: f64,
    /// Groups that came, over those needed, on average and at most: a stream that is cancelled brings less than it was asked for.
    pub came_mean: f64,
    /// At most.
    pub came_max: f64,
}

/// How an operator behaves in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// So many times slower.
    Slow(u64),
    /// Cannot be dialled.
    Off,
    /// Nothing comes back at all.
    Silent,
    /// Shows another manifest.
    Forger,
    /// Sends other bytes.
    Liar,
}

struct Object {
    manifest: ObjectManifest,
    encoded: Vec<u8>,
    fragments: Vec<(Vec<u8>, Tree)>,
    holders: Vec<Address>,
    digest: BlobId,
}

/// Objects, and who has them.
struct Library {
    operators: Vec<Address>,
    objects: Vec<Object>,
}

fn node(operator: Address) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..20].copy_from_slice(&operator.0);
    NodeId(bytes)
}

fn operator(node: NodeId) -> Address {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&node.0[..20]);
    Address(bytes)
}

impl Library {
    fn new(world: &World, random: &mut Random) -> Self {
        let site = |number: u64| {
            let [.., high, low] = (number % world.subnets).to_be_bytes();
            Site { subnet: Some(Subnet::V4([10, high, low])), region: None }
        };
        let sites: BTreeMap<_, _> = (0..world.operators).map(|number| (account(number), site(number))).collect();
        let code = profile(&sites, &BTreeSet::new());
        let object = |random: &mut Random| {
            let length = usize::from(code.data()) * GROUP_BYTES * usize::try_from(GROUPS).expect("groups are few");
            let bytes: Vec<u8> = (0..length / 32).flat_map(|_| random.bytes()).collect();
            let encoded = erasure::encode(&bytes, Hash32::ZERO, code).expect("a short object that is not empty");
            let (seed, rules) = (Hash32(random.bytes()), Rules::of(code, BTreeSet::new()));
            let placed = Assignment::new(seed, encoded.manifest.id(), code, &sites, rules);
            let holders = placed.expect("the profile was chosen by the places there are").holders().map(|(_, holder)| holder).collect();
            let with_tree = |bytes: Vec<u8>| {
                let tree = Tree::of(&bytes);
                (bytes, tree)
            };
            Object {
                encoded: encoded.manifest.encode(),
                manifest: encoded.manifest,
                fragments: encoded.fragments.into_iter().map(with_tree).collect(),
                holders,
                digest: BlobId::of(&bytes),
            }
        };
        let objects = (0..world.objects.min(OBJECTS_MAX)).map(|_| object(random)).collect();
        Self { operators: sites.into_keys().collect(), objects }
    }
}

/// Reads objects of a world while a fifth of its operators is off and `lying_percent` of the others lie.
pub fn reads(world: &World, tries: u64, lying_percent: u64) -> Reads {
    let mut random = Random::new(world.seed);
    let library = Library::new(world, &mut random);
    let (off, lying) = (world.operators / 5, world.operators * lying_percent / 100);
    let slow = world.operators * world.slow_percent / 100;
    let mut tally = Tally::default();
    for round in 0..ROUNDS {
        let kinds = kinds(&library.operators, [off, lying, slow], world.slow_times, &mut random);
        for _ in 0..tries * (round + 1) / ROUNDS - tries * round / ROUNDS {
            let object = &library.objects[random.below(library.objects.len())];
            tally.add(object, &kinds, Read::new(object, &kinds).run(&library.operators, &mut random));
        }
    }
    tally.seconds.sort_unstable_by(f64::total_cmp);
    let (data, total) =
        library.objects.first().map_or((1, 1), |object| (object.manifest.profile().data(), object.manifest.profile().total()));
    let share = |count: u64| as_f64(count) / as_f64(world.operators);
    Reads {
        tried: tries,
        good: tally.good,
        off,
        slow,
        lying,
        nines: read_nines(data, total, share(off + lying)),
        blamed: tally.blamed,
        wronged: tally.wronged,
        met_slow: tally.met_slow,
        median_s: tally.seconds.get(tally.seconds.len() / 2).copied().unwrap_or_default(),
        longest_s: tally.seconds.last().copied().unwrap_or_default(),
        slowest_fragment_s: as_f64(group_us(tally.slowest) * GROUPS) / 1e6,
        asked_mean: tally.asked_sum / as_f64(tries.max(1)),
        asked_max: tally.asked_max,
        came_mean: tally.came_sum / as_f64(tries.max(1)),
        came_max: tally.came_max,
    }
}

/// Who behaves how: so many off, lying and slow, the others as they should.
fn kinds(operators: &[Address], [off, lying, slow]: [u64; 3], slow_times: u64, random: &mut Random) -> BTreeMap<Address, Kind> {
    let mut all = operators.to_vec();
    random.shuffle(&mut all);
    let kind = |number: u64, random: &mut Random| match number {
        _ if number < off => [Kind::Off, Kind::Silent][random.below(2)],
        _ if number < off + lying => [Kind::Forger, Kind::Liar][random.below(2)],
        _ if number < off + lying + slow => Kind::Slow(SLOW_TIMES_MIN + random.next() % (slow_times - SLOW_TIMES_MIN + 1)),
        _ => Kind::Plain,
    };
    (0..).zip(all).map(|(number, operator)| (operator, kind(number, random))).collect()
}

/// What a group takes on a holder's line.
const fn group_us(times: u64) -> u64 {
    FRAGMENT_BYTES * 1_000_000 / GROUPS / LINE_BYTES_PER_S * times
}

/// What the reads showed.
#[derive(Debug, Default)]
struct Tally {
    good: u64,
    blamed: u64,
    wronged: u64,
    met_slow: u64,
    slowest: u64,
    seconds: Vec<f64>,
    asked_sum: f64,
    asked_max: f64,
    came_sum: f64,
    came_max: f64,
}

/// How a read ended.
struct Ended {
    fetched: Option<Fetched>,
    blamed: Vec<Evidence>,
    asked: Vec<(Address, Run)>,
    came: u64,
    took_us: u64,
}

impl Tally {
    fn add(&mut self, object: &Object, kinds: &BTreeMap<Address, Kind>, ended: Ended) {
        self.good += u64::from(ended.fetched.is_some_and(|fetched| BlobId::of(&fetched.bytes) == object.digest));
        for evidence in &ended.blamed {
            let is_liar = matches!(kinds.get(&operator(evidence.holder)), Some(Kind::Forger | Kind::Liar));
            (self.blamed, self.wronged) = (self.blamed + 1, self.wronged + u64::from(!is_liar));
        }
        let times = |(holder, _): &(Address, Run)| if let Some(Kind::Slow(times)) = kinds.get(holder) { *times } else { 0 };
        let slowest = ended.asked.iter().map(times).max().unwrap_or_default();
        (self.met_slow, self.slowest) = (self.met_slow + u64::from(slowest > 0), self.slowest.max(slowest));
        self.seconds.push(as_f64(ended.took_us) / 1e6);
        let groups: u64 = ended.asked.iter().map(|(_, run)| u64::from(run.count)).sum();
        let needed = as_f64(GROUPS * u64::from(object.manifest.profile().data()));
        let (ratio, came) = (as_f64(groups) / needed, as_f64(ended.came) / needed);
        (self.came_sum, self.came_max) = (self.came_sum + came, self.came_max.max(came));
        (self.asked_sum, self.asked_max) = (self.asked_sum + ratio, self.asked_max.max(ratio));
    }
}

/// One read, and what is on its way.
struct Read<'a> {
    object: &'a Object,
    kinds: &'a BTreeMap<Address, Kind>,
    events: BTreeMap<(u64, u64), Input>,
    made: u64,
    now: u64,
    cancelled: BTreeSet<u32>,
    asked: Vec<(Address, Run)>,
    came: u64,
}

impl<'a> Read<'a> {
    const fn new(object: &'a Object, kinds: &'a BTreeMap<Address, Kind>) -> Self {
        Self { object, kinds, events: BTreeMap::new(), made: 0, now: 0, cancelled: BTreeSet::new(), asked: Vec::new(), came: 0 }
    }

    /// Runs the fetch to its end, the holders that the placement names asked first and the others in any order, as a node does.
    fn run(mut self, operators: &[Address], random: &mut Random) -> Ended {
        let mut others: Vec<_> = operators.iter().filter(|operator| !self.object.holders.contains(operator)).copied().collect();
        random.shuffle(&mut others);
        let candidates = self.object.holders.iter().copied().chain(others).map(node);
        // One of four groups stands for a MiB; a stream must bring a quarter of that in each window, so one group is more than is asked of a real one.
        let config = Config { progress_groups: 1, ..Config::default() };
        let mut fetch = Fetch::new(self.object.manifest.id(), candidates, config);
        let (mut blamed, mut input) = (Vec::new(), Input::Start);
        for _ in 0..INPUTS_MAX {
            for output in fetch.handle(Time(self.now), input) {
                match output {
                    Output::Locate { to } => self.locate(to),
                    Output::Read { stream, to, index, run } => self.read(stream, to, index, run),
                    Output::Cancel { stream } => drop(self.cancelled.insert(stream)),
                    Output::Blame(evidence) => blamed.push(evidence),
                    Output::Done(result) => {
                        return Ended { fetched: result.ok(), blamed, asked: self.asked, came: self.came, took_us: self.now };
                    }
                }
            }
            let due = fetch.deadline().expect("a fetch that waits has a deadline").0;
            input = self.next(due);
        }
        unreachable!("a fetch of {} ended after {INPUTS_MAX} inputs at the latest", self.object.manifest.id())
    }

    /// What happens next, no later than `due`.
    fn next(&mut self, due: u64) -> Input {
        let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= due) else {
            self.now = self.now.max(due);
            return Input::Tick;
        };
        self.now = self.now.max(entry.key().0);
        match entry.remove() {
            Input::Block { stream, .. } | Input::Ended { stream, .. } if self.cancelled.contains(&stream) => Input::Tick,
            event => {
                if let Input::Block { block, .. } = &event {
                    self.came += u64::from(block.run().count);
                }
                event
            }
        }
    }

    fn later(&mut self, wait_us: u64, input: Input) {
        self.made += 1;
        self.events.insert((self.now + wait_us, self.made), input);
    }

    fn kind(&self, holder: Address) -> Kind {
        self.kinds.get(&holder).copied().unwrap_or(Kind::Off)
    }

    fn locate(&mut self, to: NodeId) {
        let (object, holder) = (self.object.manifest.id(), operator(to));
        let held = (0_u8..).zip(&self.object.holders).filter(|(_, held_by)| **held_by == holder);
        let indices: Vec<u8> = held.map(|(index, _)| index).collect();
        let reply = match self.kind(holder) {
            Kind::Silent => return,
            Kind::Off => return self.later(DIAL_US, Input::Located { from: to, reply: None }),
            Kind::Forger => Reply::Located { object, manifest: b"another manifest".to_vec(), indices },
            Kind::Plain | Kind::Slow(_) | Kind::Liar if indices.is_empty() => Reply::Refused(Refusal::Unknown { object }),
            Kind::Plain | Kind::Slow(_) | Kind::Liar => Reply::Located { object, manifest: self.object.encoded.clone(), indices },
        };
        self.later(ROUND_TRIP_US, Input::Located { from: to, reply: Some(reply) });
    }

    /// What a holder sends, through the bytes of the wire.
    fn read(&mut self, stream: u32, to: NodeId, index: u8, run: Run) {
        let holder = operator(to);
        self.asked.push((holder, run));
        let (kind, (bytes, tree)) = (self.kind(holder), &self.object.fragments[usize::from(index)]);
        let group_us = group_us(if let Kind::Slow(times) = kind { times } else { 1 });
        let mut sent = Vec::with_capacity(run.encoded_len(bytes.len()));
        let get = |at: u64, place: &mut [u8]| {
            let at = usize::try_from(at).map_err(drop)?;
            place.copy_from_slice(bytes.get(at..at + place.len()).ok_or(())?);
            Ok::<_, ()>(())
        };
        let mut encoder = Encoder::new(tree, run).expect("a fetch asks for groups that there are");
        encoder.fill(tree, run.count, &mut sent, get).expect("a holder's tree is that of its fragment");
        if kind == Kind::Liar
            && let Some(last) = sent.last_mut()
        {
            *last ^= 1;
        }
        let mut decoder = Decoder::new(&self.object.manifest, index, run).expect("a fetch asks for groups that there are");
        let (mut rest, mut at_us, mut end) = (&sent[..], ROUND_TRIP_US, StreamEnd::Whole);
        while !rest.is_empty() {
            let space = decoder.space();
            let (piece, later) = rest.split_at(space.len().min(rest.len()));
            space.copy_from_slice(piece);
            (rest, at_us) = (later, at_us + if piece.len() == GROUP_BYTES { group_us } else { 0 });
            let (block, wrong) = match decoder.advance(piece.len()) {
                Ok(block) => (block.or_else(|| decoder.take()), None),
                Err(wrong) => (decoder.take(), Some(wrong)),
            };
            if let Some(block) = block {
                self.later(at_us, Input::Block { stream, from: to, block });
            }
            if let Some(wrong) = wrong {
                end = StreamEnd::Wrong(wrong);
                break;
            }
        }
        self.later(at_us, Input::Ended { stream, end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(slow_percent: u64) -> World {
        World { operators: 150, subnets: 75, crowd: 0, objects: 3, slow_percent, slow_times: 100, step_ms: 0, seed: 11 }
    }

    #[test]
    fn with_a_fifth_off_some_slow_and_some_lying_every_read_comes_back_and_nobody_honest_is_blamed() {
        let reads = reads(&world(10), 120, 5);
        assert_eq!((reads.good, reads.wronged), (120, 0), "{reads:?}");
        assert!(reads.blamed > 0 && reads.off == 30 && reads.lying == 7 && reads.slow == 15, "{reads:?}");
    }

    #[test]
    fn a_read_does_not_wait_for_the_slowest_and_pays_little_for_it() {
        let (with, without) = (reads(&world(20), 120, 0), reads(&world(0), 120, 0));
        assert!(with.good == 120 && with.met_slow > 60 && without.met_slow == 0, "{with:?}");
        assert!(without.longest_s < 1.0 && without.asked_max <= 1.0, "nothing is asked twice where nobody is late: {without:?}");
        // Measured: 0.61 s without slow ones; with them half of the reads within 1.66 s and all within 3.28 s, 1.31 times the groups asked for, 1.001 of which came, 1.016 at most.
        assert!(with.median_s < 3.0 * without.median_s && with.longest_s < 6.0 * without.median_s, "{with:?}");
        assert!(with.slowest_fragment_s > 40.0, "who waited for one would have waited long: {with:?}");
        assert!(with.asked_mean < 1.4 && with.came_mean < 1.02 && with.came_max <= 1.25, "{with:?}");
    }
}
