//! Many operators, each with the production repair core, and real fragments of small objects that stand for large ones.
//!
//! Time goes in steps. Presence, announcements and moves reach every operator on the same side of a cut at once; work takes as long as its bytes over the lines
//! of those that read, send and take them (`carry`). A rebuild reads fragments where they are, verifies each against the manifest, computes with `erasure`, and puts; nothing is assumed to
//! have worked.
//!
//! *What grows with the square of the operators.* What each knows of each other is the point of running the cores, 50 bytes a pair: 0.45 GB at 3,000. A death is told
//! to all, the registry read by all once an epoch. What else was quadratic is not: who is registered is one shared table, coordinators are drawn where something is lost,
//! a look is at what changed, and fragments are counted again where somebody came or went.

mod carry;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use storage::{
    erasure::{self, ObjectManifest, Profile, VerifiedFragment},
    proto::{
        placement::{Assignment, Move, Rules, Site, Subnet},
        repair::{Config, Input, Method, Output, Repair, Work, floor},
    },
};
use types::{
    id::{Address, BlobId, Hash32},
    merkle::keccak,
    time::Time,
};

use self::carry::{Carried, carried};
pub use self::carry::{FRAGMENT_BYTES, LINE_BYTES_PER_S};
use super::count;
use crate::random::Random;

/// Bytes of a small object.
const OBJECT_BYTES: usize = 1_600;
/// Repair's epochs: a day, as on a production chain. Coordinators change with them, so three dead ones cost up to that.
const EPOCH_MS: u64 = 24 * 3_600 * 1_000;
/// How many times slower than others a slow operator is: at least so many.
pub const SLOW_TIMES_MIN: u64 = 10;

/// What a network is made of.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Operators.
    pub operators: u64,
    /// Subnets they are spread over.
    pub subnets: u64,
    /// Of the operators in the first subnet, beside its share of the others: a hosting centre.
    pub crowd: u64,
    /// Objects of 64 MiB.
    pub objects: u64,
    /// Of a hundred operators so many are slow.
    pub slow_percent: u64,
    /// They are up to so many times slower than others, and at least [`SLOW_TIMES_MIN`].
    pub slow_times: u64,
    /// Between two looks.
    pub step_ms: u64,
    /// Fixes everything.
    pub seed: u64,
}

/// Whether an operator runs, on which side of a cut it is, and how many times slower than others it reads and sends.
#[derive(Debug, Clone, Copy)]
struct Node {
    is_up: bool,
    side: u8,
    times: u64,
}

/// A time below the floor.
#[derive(Debug, Clone, Copy)]
struct Fall {
    since: Time,
    least: usize,
}

/// One object: what names it, and whether it is below its floor, or lost.
#[derive(Debug)]
struct Object {
    manifest: ObjectManifest,
    fall: Option<Fall>,
    is_lost: bool,
}

/// What happened so far.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Pieces of work begun.
    pub works: u64,
    /// Of them those by which nothing stood: too slow, or too few sources left.
    pub in_vain: u64,
    /// Of them by another for the same object and the same lost fragment at the same generation.
    pub doubled: u64,
    /// Fragments moved away from a holder that had them and answered: none may be.
    pub needless: u64,
    /// Most moves of one fragment in one generation.
    pub same_moves_max: u64,
    /// Bytes read and written by repair, as if objects were large.
    pub bytes: u64,
    /// Most bytes by which an operator's work exceeded its budget in any stretch of time: zero, if the core keeps it.
    pub over_budget: u64,
    /// From below the floor to mended, of each time.
    pub repair_h: Vec<f64>,
    /// How often so many fragments were the least that were left meanwhile.
    pub least: BTreeMap<usize, u64>,
    /// Operators that died.
    pub deaths: u64,
    /// Objects of which fewer than k fragments were left.
    pub lost: u64,
}

/// A piece of work under way.
#[derive(Debug)]
struct UnderWay {
    until: Time,
    me: Address,
    work: Work,
    carried: Carried,
}

/// The network.
#[derive(Debug)]
pub struct Net {
    /// The time now.
    pub now: Time,
    step_ms: u64,
    /// What happened so far.
    pub tally: Tally,
    config: Config,
    slow: (u64, u64),
    sites: BTreeMap<Address, Site>,
    /// What was told of them last.
    told_sites: Arc<BTreeMap<Address, Site>>,
    nodes: BTreeMap<Address, Node>,
    cores: BTreeMap<Address, Repair>,
    objects: BTreeMap<BlobId, Object>,
    /// Fragments on disks: by operator, then by object and fragment.
    disks: BTreeMap<Address, BTreeMap<(BlobId, u8), Vec<u8>>>,
    /// The same the other way round.
    copies: BTreeMap<(BlobId, u8), BTreeSet<Address>>,
    /// Objects whose fragments are to be counted again.
    stale: BTreeSet<BlobId>,
    under_way: Vec<UnderWay>,
    /// Who took a fragment over at its latest generation.
    moves: BTreeMap<(BlobId, u8), (u32, BTreeSet<Address>)>,
    /// What each operator's repair cost, and when: of the last days.
    spent: BTreeMap<Address, Vec<(Time, u64)>>,
    /// What moved while somebody could not hear it.
    history: Vec<Move>,
    epoch: u64,
    accounts: u64,
    random: Random,
}

/// An operator's account, by its number.
pub(super) fn account(number: u64) -> Address {
    let mut bytes = [0; 20];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Address(bytes)
}

impl Net {
    /// Operators spread evenly over subnets but for the crowd, and objects placed among them.
    pub fn new(world: &World) -> Self {
        let config = Config { look_every: std::time::Duration::from_millis(world.step_ms), ..Config::default() };
        let mut net = Self {
            now: Time(0),
            step_ms: world.step_ms,
            tally: Tally::default(),
            config,
            slow: (world.slow_percent, world.slow_times),
            sites: BTreeMap::new(),
            told_sites: Arc::default(),
            nodes: BTreeMap::new(),
            cores: BTreeMap::new(),
            objects: BTreeMap::new(),
            disks: BTreeMap::new(),
            copies: BTreeMap::new(),
            stale: BTreeSet::new(),
            under_way: Vec::new(),
            moves: BTreeMap::new(),
            spent: BTreeMap::new(),
            history: Vec::new(),
            epoch: 0,
            accounts: 0,
            random: Random::new(world.seed),
        };
        for number in 0..world.operators {
            net.join(if number < world.crowd { 0 } else { number % world.subnets });
        }
        let profile = storage::proto::placement::profile(&net.sites, &BTreeSet::new());
        (0..world.objects).for_each(|number| net.put(number, profile));
        net.tell_operators();
        net.tell_epoch();
        net.tell_presence();
        net
    }

    /// A fresh operator in a subnet.
    fn join(&mut self, subnet: u64) -> Address {
        let me = account(self.accounts);
        let [.., high, low] = subnet.to_be_bytes();
        let (percent, times) = self.slow;
        let is_slow = self.random.next() % 100 < percent;
        let times = if is_slow { SLOW_TIMES_MIN + self.random.next() % (times - SLOW_TIMES_MIN + 1) } else { 1 };
        self.sites.insert(me, Site { subnet: Some(Subnet::V4([10, high, low])), region: None });
        self.nodes.insert(me, Node { is_up: true, side: 0, times });
        self.cores.insert(me, Repair::new(me, self.config.clone(), self.now));
        self.accounts += 1;
        me
    }

    fn put(&mut self, number: u64, profile: Profile) {
        let bytes: Vec<u8> = (0..OBJECT_BYTES / 32).flat_map(|_| self.random.bytes()).chain(number.to_be_bytes()).collect();
        let encoded = erasure::encode(&bytes, Hash32::ZERO, profile).expect("a short object that is not empty");
        let id = encoded.manifest.id();
        let seed = Hash32(self.random.bytes());
        let rules = Rules::of(profile, BTreeSet::new());
        let assignment = Assignment::new(seed, id, profile, &self.sites, rules).expect("the profile was chosen by the places there are");
        for ((fragment, holder), bytes) in assignment.holders().zip(encoded.fragments) {
            self.store(id, fragment, holder, bytes);
        }
        for (_, holder) in assignment.holders() {
            self.tell(holder, Input::Watch { assignment: assignment.clone(), fragment_bytes: FRAGMENT_BYTES });
        }
        self.objects.insert(id, Object { manifest: encoded.manifest, fall: None, is_lost: false });
    }

    fn store(&mut self, object: BlobId, fragment: u8, holder: Address, bytes: Vec<u8>) {
        self.disks.entry(holder).or_default().insert((object, fragment), bytes);
        self.copies.entry((object, fragment)).or_default().insert(holder);
        self.stale.insert(object);
    }

    /// What an operator held is gone with it, or released.
    fn drop_copy(&mut self, object: BlobId, fragment: u8, holder: Address) {
        if let Some(copies) = self.copies.get_mut(&(object, fragment)) {
            copies.remove(&holder);
        }
        if let Some(disk) = self.disks.get_mut(&holder) {
            disk.remove(&(object, fragment));
        }
        self.stale.insert(object);
    }

    fn tell(&mut self, to: Address, input: Input) {
        let now = self.now;
        let outputs = self.cores.get_mut(&to).expect("an operator that joined").handle(now, input);
        self.carry_out(to, outputs);
    }

    /// Tells all the same, which asks nothing of anybody.
    fn tell_all(&mut self, input: &Input) {
        let now = self.now;
        for core in self.cores.values_mut() {
            let outputs = core.handle(now, input.clone());
            assert!(outputs.is_empty(), "nothing is to be done before a tick, not {outputs:?}");
        }
    }

    fn tell_operators(&mut self) {
        self.told_sites = Arc::new(self.sites.clone());
        self.tell_all(&Input::Operators { sites: Arc::clone(&self.told_sites) });
    }

    fn seed(&self) -> Hash32 {
        keccak(&[b"simulated epoch", &self.epoch.to_be_bytes()])
    }

    fn tell_epoch(&mut self) {
        self.epoch += 1;
        let seed = self.seed();
        self.tell_all(&Input::Epoch { seed });
    }

    /// Everyone that runs learns who answers it.
    fn tell_presence(&mut self) {
        let (now, nodes) = (self.now, &self.nodes);
        for (me, core) in &mut self.cores {
            let own = nodes[me];
            for (operator, node) in nodes.iter().filter(|_| own.is_up) {
                core.handle(now, Input::Seen { operator: *operator, is_online: node.is_up && node.side == own.side });
            }
        }
    }

    /// Operators that run.
    pub fn running(&self) -> Vec<Address> {
        self.nodes.iter().filter(|(_, node)| node.is_up).map(|(operator, _)| *operator).collect()
    }

    fn hear(&self, one: Address, other: Address) -> bool {
        let (one, other) = (self.nodes[&one], self.nodes[&other]);
        one.is_up && other.is_up && one.side == other.side
    }

    /// These operators stop, for good or until [`Net::revive`].
    pub fn kill(&mut self, operators: &[Address]) {
        for operator in operators {
            if let Some(node) = self.nodes.get_mut(operator) {
                node.is_up = false;
                self.tally.deaths += 1;
            }
        }
        self.recount(operators);
        self.tell_presence();
    }

    /// These operators run again, with all they held.
    pub fn revive(&mut self, operators: &[Address]) {
        for operator in operators {
            if let Some(node) = self.nodes.get_mut(operator) {
                node.is_up = true;
            }
        }
        self.recount(operators);
        self.tell_presence();
        self.tell_history();
    }

    /// What these operators hold counts otherwise than before.
    fn recount(&mut self, operators: &[Address]) {
        let held = operators.iter().filter_map(|operator| self.disks.get(operator)).flat_map(|disk| disk.keys());
        self.stale.extend(held.map(|(object, _)| *object));
        self.watch_objects();
    }

    /// An operator dies and its registration ends; another takes its place in the subnet at once. The others read the registry at the next epoch.
    pub fn replace(&mut self, operator: Address) {
        let subnet = self.sites.remove(&operator).and_then(|site| site.subnet);
        self.nodes.remove(&operator);
        self.cores.remove(&operator);
        self.spent.remove(&operator);
        let held: Vec<_> = self.disks.get(&operator).into_iter().flat_map(|disk| disk.keys().copied()).collect();
        held.into_iter().for_each(|(object, fragment)| self.drop_copy(object, fragment, operator));
        self.disks.remove(&operator);
        self.under_way.retain(|under_way| under_way.me != operator);
        self.tally.deaths += 1;
        // Nothing tells the network of it but silence.
        self.tell_all(&Input::Seen { operator, is_online: false });
        let Some(Subnet::V4([_, high, low])) = subnet else { unreachable!("subnets here are of IPv4") };
        let fresh = self.join(u64::from(u16::from_be_bytes([high, low])));
        self.tell_all(&Input::Seen { operator: fresh, is_online: true });
        self.tell(fresh, Input::Operators { sites: Arc::clone(&self.told_sites) });
        self.tell(fresh, Input::Epoch { seed: self.seed() });
        let others: Vec<_> = self.nodes.iter().map(|(other, node)| (*other, node.is_up && node.side == 0)).collect();
        others.into_iter().for_each(|(operator, is_online)| self.tell(fresh, Input::Seen { operator, is_online }));
        self.watch_objects();
    }

    /// Puts operators on the other side of a cut, or all on one.
    pub fn cut(&mut self, away: &[Address]) {
        self.nodes.values_mut().for_each(|node| node.side = 0);
        for operator in away {
            self.nodes.get_mut(operator).expect("an operator that joined").side = 1;
        }
        self.tell_presence();
        if away.is_empty() {
            self.tell_history();
        }
    }

    /// Whoever was away learns what moved; once nobody is, it need not be remembered.
    fn tell_history(&mut self) {
        let history = std::mem::take(&mut self.history);
        for to in self.running() {
            history.iter().for_each(|step| self.tell(to, Input::Moved(*step)));
        }
        if !self.is_whole() {
            self.history = history;
        }
    }

    fn is_whole(&self) -> bool {
        self.nodes.values().all(|node| node.is_up && node.side == 0)
    }

    /// Who holds a fragment that its own books give to another, who is heard and has it, lets it go; who holds nothing more of an object forgets it.
    pub fn release_surplus(&mut self) {
        let many = self.copies.iter().filter(|(_, holders)| holders.len() > 1);
        let surplus: Vec<_> = many
            .flat_map(|((object, fragment), holders)| holders.iter().map(move |holder| (*object, *fragment, *holder)))
            .filter(|(object, fragment, me)| {
                let named = self.cores[me].assignment(*object).and_then(|view| view.holder(*fragment));
                let has_it = |other: &Address| self.copies[&(*object, *fragment)].contains(other);
                named.is_some_and(|other| other != *me && self.hear_if_there(*me, other) && has_it(&other))
            })
            .collect();
        for (object, fragment, me) in surplus {
            self.drop_copy(object, fragment, me);
            if !self.disks.get(&me).is_some_and(|disk| disk.keys().any(|(held, _)| *held == object)) {
                self.tell(me, Input::Forget { object });
            }
        }
        self.watch_objects();
    }

    /// Copies of fragments beyond the first.
    pub fn duplicates(&self) -> usize {
        self.copies.values().map(|holders| holders.len().saturating_sub(1)).sum()
    }

    /// Fragments that have been handed on, and the highest generation of any.
    pub fn handed_on(&self) -> (usize, u32) {
        (self.moves.len(), self.moves.values().map(|(generation, _)| *generation).max().unwrap_or_default())
    }

    /// Lets time pass.
    pub fn run(&mut self, hours: f64) {
        let until = self.now.after(std::time::Duration::from_secs_f64(hours * 3_600.0));
        while self.now < until {
            self.step();
        }
    }

    fn step(&mut self) {
        let before = self.now.0 / 1_000 / EPOCH_MS;
        self.now = Time(self.now.0 + self.step_ms * 1_000);
        if self.now.0 / 1_000 / EPOCH_MS > before {
            self.tell_operators();
            self.tell_epoch();
            self.release_surplus();
        }
        let now = self.now;
        let (ended, going): (Vec<_>, Vec<_>) = std::mem::take(&mut self.under_way).into_iter().partition(|work| work.until <= now);
        self.under_way = going;
        for UnderWay { me, work, carried, .. } in ended {
            if self.nodes.get(&me).is_some_and(|node| node.is_up) {
                let stored = self.rebuild(me, &work, &carried);
                self.tally.in_vain += u64::from(stored.is_empty());
                self.tell(me, Input::Done { object: work.object, stored });
            }
        }
        for me in self.running() {
            if self.cores[&me].deadline() <= now {
                self.tell(me, Input::Tick);
            }
        }
        self.watch_objects();
    }

    fn carry_out(&mut self, me: Address, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Announce { object } => {
                    let others: Vec<_> =
                        self.holders_by(me, object).into_iter().filter(|to| *to != me && self.hear_if_there(me, *to)).collect();
                    others.into_iter().for_each(|to| self.tell(to, Input::Announced { object, by: me }));
                }
                Output::Rebuild(work) => self.begin(me, work),
                Output::Moved(step) => self.moved(me, step),
                Output::Stuck { .. } => {}
            }
        }
    }

    fn hear_if_there(&self, one: Address, other: Address) -> bool {
        self.nodes.contains_key(&one) && self.nodes.contains_key(&other) && self.hear(one, other)
    }

    fn holders_by(&self, me: Address, object: BlobId) -> Vec<Address> {
        let assignment = self.cores[&me].assignment(object);
        assignment.map(|assignment| assignment.holders().map(|(_, holder)| holder).collect()).unwrap_or_default()
    }

    fn begin(&mut self, me: Address, work: Work) {
        let data = usize::from(self.objects[&work.object].manifest.profile().data());
        let rate = |operator: Address| self.nodes.get(&operator).map_or(0, |node| LINE_BYTES_PER_S / node.times);
        let carried = carried(data, me, &work, rate);
        let is_double = |other: &UnderWay| {
            other.me != me
                && other.work.object == work.object
                && other.work.targets.iter().any(|target| work.targets.iter().any(|own| own.0 == target.0))
        };
        self.tally.doubled += u64::from(self.under_way.iter().any(is_double));
        let view = self.cores[&me].assignment(work.object).expect("who mends an object watches it");
        let is_needless = |(fragment, to): &&(u8, Address)| {
            let before = view.holder(*fragment).filter(|before| before != to);
            before.is_some_and(|before| self.hear_if_there(me, before) && self.copies[&(work.object, *fragment)].contains(&before))
        };
        self.tally.needless += count(work.targets.iter().filter(is_needless).count());
        self.tally.works += 1;
        let is_foreign = |holder: Address| u64::from(holder != me);
        let has_own = work.sources.iter().any(|(_, holder)| *holder == me);
        let pieces = count(data) - u64::from(has_own) + work.targets.iter().map(|(_, to)| is_foreign(*to)).sum::<u64>();
        self.tally.bytes += pieces * FRAGMENT_BYTES;
        self.spend(me, pieces * FRAGMENT_BYTES);
        self.under_way.push(UnderWay { until: Time(self.now.0 + carried.took_ms * 1_000), me, work, carried });
    }

    /// Notes what work costs, and how far that is above the budget in the stretch that ends now.
    fn spend(&mut self, me: Address, cost: u64) {
        let (now, Config { bytes_per_s, burst_bytes, .. }) = (self.now, self.config.clone());
        let spent = self.spent.entry(me).or_default();
        spent.push((now, cost));
        // What lies a day back was paid for a hundred times.
        spent.retain(|(at, _)| now.since(*at) < std::time::Duration::from_millis(EPOCH_MS));
        let (mut bytes, mut most) = (0, 0);
        for (at, cost) in spent.iter().rev() {
            (bytes, most) = (bytes + cost, most.max(*cost));
            let allowed = burst_bytes + now.since(*at).as_secs() * bytes_per_s + most;
            self.tally.over_budget = self.tally.over_budget.max(bytes.saturating_sub(allowed));
        }
    }

    /// Reads, verifies, computes and puts; what stands afterwards.
    fn rebuild(&mut self, me: Address, work: &Work, carried: &Carried) -> BTreeSet<u8> {
        let manifest = self.objects[&work.object].manifest.clone();
        let fragments = self.read(me, &manifest, &carried.read);
        if fragments.len() < usize::from(manifest.profile().data()) {
            return BTreeSet::new();
        }
        let made: Vec<(u8, Vec<u8>)> = match work.method {
            Method::Single => {
                let index = work.targets[0].0;
                let rebuilt = erasure::rebuild(&manifest, &fragments, index).expect("verified fragments that suffice");
                vec![(index, rebuilt.into_bytes())]
            }
            Method::Decode => {
                let object = erasure::reconstruct(&manifest, &fragments).expect("verified fragments that suffice");
                let again = erasure::encode(&object, manifest.text_root(), manifest.profile()).expect("it was an object before");
                assert_eq!(again.manifest.id(), manifest.id(), "the same object has the same fragments");
                (0_u8..).zip(again.fragments).collect()
            }
        };
        let made: BTreeMap<_, _> = made.into_iter().collect();
        let mut stored = BTreeSet::new();
        for (fragment, to) in &work.targets {
            if carried.given.contains(fragment) && self.hear_if_there(me, *to) {
                self.store(work.object, *fragment, *to, made[fragment].clone());
                stored.insert(*fragment);
            }
        }
        stored
    }

    fn read(&self, me: Address, manifest: &ObjectManifest, sources: &[(u8, Address)]) -> Vec<VerifiedFragment> {
        let reachable = sources.iter().filter(|(_, holder)| self.hear_if_there(me, *holder));
        let held = reachable.filter_map(|(fragment, holder)| Some((*fragment, self.disks.get(holder)?.get(&(manifest.id(), *fragment))?)));
        let verified = held.filter_map(|(fragment, bytes)| manifest.verify(fragment, bytes.clone()).ok());
        verified.take(manifest.profile().data().into()).collect()
    }

    fn moved(&mut self, me: Address, step: Move) {
        if !self.is_whole() {
            self.history.push(step);
        }
        let (generation, movers) = self.moves.entry((step.object, step.fragment)).or_default();
        if step.generation > *generation {
            (*generation, *movers) = (step.generation, BTreeSet::new());
        }
        if step.generation == *generation {
            movers.insert(step.to);
        }
        self.tally.same_moves_max = self.tally.same_moves_max.max(count(movers.len()));
        let assignment = self.cores[&me].assignment(step.object).expect("the mover watches what it moves").clone();
        // The new holder begins to watch; it may know the object already by an older book.
        if self.hear_if_there(me, step.to) {
            if self.cores[&step.to].assignment(step.object).is_none() {
                self.tell(step.to, Input::Watch { assignment: assignment.clone(), fragment_bytes: FRAGMENT_BYTES });
            }
            self.tell(step.to, Input::Moved(step));
        }
        for (_, holder) in assignment.holders() {
            if holder != me && self.hear_if_there(me, holder) {
                self.tell(holder, Input::Moved(step));
            }
        }
    }

    /// Measures from the moment an object falls below its floor to the one it is mended, of those of which something changed.
    fn watch_objects(&mut self) {
        let now = self.now;
        let lefts: Vec<_> =
            std::mem::take(&mut self.stale).into_iter().filter(|id| self.objects.contains_key(id)).map(|id| (id, self.left(id))).collect();
        for (id, left) in lefts {
            let object = self.objects.get_mut(&id).expect("an object that was counted");
            let profile = object.manifest.profile();
            if left < usize::from(profile.data()) && !object.is_lost {
                object.is_lost = true;
                self.tally.lost += 1;
            }
            if left < usize::from(floor(profile)) {
                let fall = object.fall.get_or_insert(Fall { since: now, least: left });
                fall.least = fall.least.min(left);
            // Work puts all that is lost at once; a holder that fell silent a moment ago is not lost yet, so all need not be there.
            } else if let Some(fall) = object.fall.take() {
                self.tally.repair_h.push(now.since(fall.since).as_secs_f64() / 3_600.0);
                *self.tally.least.entry(fall.least).or_default() += 1;
            }
        }
    }
}
