//! Many operators, each with the production repair core, and real fragments of small objects that stand for large ones.
//!
//! Time goes in steps. Presence, announcements and moves reach every operator on the same side of a cut at once; work takes as long as its bytes over the
//! worker's link. A rebuild reads fragments where they are, verifies each against the manifest, computes with `erasure`, and puts; nothing is assumed to
//! have worked.

use std::collections::{BTreeMap, BTreeSet};

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

use crate::random::Random;

/// Bytes of each fragment of the object that a small one stands for: 64 MiB at 16 of 48.
pub const FRAGMENT_BYTES: u64 = 4 << 20;
/// Bytes of a small object.
const OBJECT_BYTES: usize = 1_600;
/// Bytes per second of a plain operator's link for repair; a slow one has a tenth.
const LINK_BYTES_PER_S: u64 = 8 << 20;
/// Repair's epochs: coordinators change every hour, so that three dead ones cost no more than that.
const EPOCH_MS: u64 = 3_600 * 1_000;

/// Whether an operator runs, on which side of a cut it is, and how fast its link is.
#[derive(Debug, Clone, Copy)]
struct Node {
    is_up: bool,
    side: u8,
    is_slow: bool,
}

/// One object: what names it, and when it fell below its floor, if it is there now.
#[derive(Debug)]
struct Object {
    manifest: ObjectManifest,
    fell: Option<Time>,
    is_lost: bool,
}

/// What happened so far.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Pieces of work begun.
    pub works: u64,
    /// Of them by another for the same object and the same lost fragment at the same generation.
    pub doubled: u64,
    /// Most moves of one fragment in one generation.
    pub same_moves_max: u64,
    /// Bytes read and written by repair, as if objects were large.
    pub bytes: u64,
    /// From below the floor to mended, of each time.
    pub repair_h: Vec<f64>,
    /// Operators that died.
    pub deaths: u64,
    /// Objects of which fewer than k fragments were left.
    pub lost: u64,
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
    sites: BTreeMap<Address, Site>,
    nodes: BTreeMap<Address, Node>,
    cores: BTreeMap<Address, Repair>,
    objects: BTreeMap<BlobId, Object>,
    /// Fragments on disks: by object and fragment, then by operator.
    disks: BTreeMap<(BlobId, u8), BTreeMap<Address, Vec<u8>>>,
    under_way: Vec<(Time, Address, Work)>,
    moves: BTreeMap<(BlobId, u8, u32), BTreeSet<Address>>,
    history: Vec<Move>,
    epoch: u64,
    accounts: u64,
    random: Random,
}

fn account(number: u64) -> Address {
    let mut bytes = [0; 20];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Address(bytes)
}

impl Net {
    /// `operators` spread evenly over `subnets`, every tenth with a slow link, and `objects` placed among them.
    pub fn new(operators: u64, subnets: u64, objects: u64, step_ms: u64, seed: u64) -> Self {
        let config = Config { look_every: std::time::Duration::from_millis(step_ms), ..Config::default() };
        let mut net = Self {
            now: Time(0),
            step_ms,
            tally: Tally::default(),
            config,
            sites: BTreeMap::new(),
            nodes: BTreeMap::new(),
            cores: BTreeMap::new(),
            objects: BTreeMap::new(),
            disks: BTreeMap::new(),
            under_way: Vec::new(),
            moves: BTreeMap::new(),
            history: Vec::new(),
            epoch: 0,
            accounts: 0,
            random: Random::new(seed),
        };
        for number in 0..operators {
            net.join(number % subnets);
        }
        let profile = storage::proto::placement::profile(&net.sites, &BTreeSet::new());
        (0..objects).for_each(|number| net.put(number, profile));
        net.tell_operators();
        net.tell_epoch();
        net.tell_presence();
        net
    }

    /// A fresh operator in a subnet.
    fn join(&mut self, subnet: u64) -> Address {
        let me = account(self.accounts);
        let [.., high, low] = subnet.to_be_bytes();
        self.sites.insert(me, Site { subnet: Some(Subnet::V4([10, high, low])), region: None });
        self.nodes.insert(me, Node { is_up: true, side: 0, is_slow: self.accounts % 10 == 9 });
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
            self.disks.entry((id, fragment)).or_default().insert(holder, bytes);
        }
        for (_, holder) in assignment.holders() {
            self.tell(holder, Input::Watch { assignment: assignment.clone(), fragment_bytes: FRAGMENT_BYTES });
        }
        self.objects.insert(id, Object { manifest: encoded.manifest, fell: None, is_lost: false });
    }

    fn tell(&mut self, to: Address, input: Input) {
        let now = self.now;
        let outputs = self.cores.get_mut(&to).expect("an operator that joined").handle(now, input);
        self.carry_out(to, outputs);
    }

    fn tell_operators(&mut self) {
        let sites = self.sites.clone();
        self.everyone().into_iter().for_each(|to| self.tell(to, Input::Operators { sites: sites.clone() }));
    }

    fn tell_epoch(&mut self) {
        self.epoch += 1;
        let seed = keccak(&[b"simulated epoch", &self.epoch.to_be_bytes()]);
        self.everyone().into_iter().for_each(|to| self.tell(to, Input::Epoch { seed }));
    }

    /// Everyone that runs learns who answers it.
    fn tell_presence(&mut self) {
        let everyone = self.everyone();
        for me in self.running() {
            for operator in &everyone {
                let is_online = self.hear(me, *operator);
                self.tell(me, Input::Seen { operator: *operator, is_online });
            }
        }
    }

    fn everyone(&self) -> Vec<Address> {
        self.sites.keys().copied().collect()
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
        self.tell_presence();
        self.watch_objects();
    }

    /// These operators run again, with all they held.
    pub fn revive(&mut self, operators: &[Address]) {
        for operator in operators {
            if let Some(node) = self.nodes.get_mut(operator) {
                node.is_up = true;
            }
        }
        self.tell_presence();
        self.tell_history();
        self.watch_objects();
    }

    /// An operator dies and its registration ends; another takes its place in the subnet at once.
    pub fn replace(&mut self, operator: Address) {
        let subnet = self.sites.remove(&operator).and_then(|site| site.subnet);
        self.nodes.remove(&operator);
        self.cores.remove(&operator);
        self.disks.values_mut().for_each(|disks| drop(disks.remove(&operator)));
        self.under_way.retain(|(_, me, _)| *me != operator);
        self.tally.deaths += 1;
        let everyone = self.everyone();
        // Nothing tells the network of it but silence: it stays an operator in the books of the others, and away.
        everyone.iter().for_each(|to| self.tell(*to, Input::Seen { operator, is_online: false }));
        let Some(Subnet::V4([_, high, low])) = subnet else { unreachable!("subnets here are of IPv4") };
        let fresh = self.join(u64::from(u16::from_be_bytes([high, low])));
        self.tell_operators();
        let seed = keccak(&[b"simulated epoch", &self.epoch.to_be_bytes()]);
        self.tell(fresh, Input::Epoch { seed });
        for other in self.everyone() {
            let is_online = self.hear(fresh, other);
            self.tell(fresh, Input::Seen { operator: other, is_online });
            self.tell(other, Input::Seen { operator: fresh, is_online });
        }
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

    /// Whoever was away learns what moved.
    fn tell_history(&mut self) {
        let history = self.history.clone();
        for to in self.running() {
            history.iter().for_each(|step| self.tell(to, Input::Moved(*step)));
        }
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
            self.tell_epoch();
        }
        let now = self.now;
        let (ended, going): (Vec<_>, Vec<_>) = std::mem::take(&mut self.under_way).into_iter().partition(|(until, ..)| *until <= now);
        self.under_way = going;
        for (_, me, work) in ended {
            if self.nodes.get(&me).is_some_and(|node| node.is_up) {
                let stored = self.rebuild(me, &work);
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
        let data = u64::from(self.objects[&work.object].manifest.profile().data());
        let bytes = (data + u64::try_from(work.targets.len()).expect("fragments are few")) * FRAGMENT_BYTES;
        let link = if self.nodes[&me].is_slow { LINK_BYTES_PER_S / 10 } else { LINK_BYTES_PER_S };
        let is_double = |(_, other, begun): &(Time, Address, Work)| {
            *other != me
                && begun.object == work.object
                && begun.targets.iter().any(|target| work.targets.iter().any(|own| own.0 == target.0))
        };
        self.tally.doubled += u64::from(self.under_way.iter().any(is_double));
        self.tally.works += 1;
        self.tally.bytes += bytes;
        self.under_way.push((Time(self.now.0 + bytes * 1_000_000 / link), me, work));
    }

    /// Reads, verifies, computes and puts; what stands afterwards.
    fn rebuild(&mut self, me: Address, work: &Work) -> BTreeSet<u8> {
        let manifest = self.objects[&work.object].manifest.clone();
        let fragments = self.read(me, &manifest, &work.sources);
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
            if self.hear_if_there(me, *to) {
                self.disks.entry((work.object, *fragment)).or_default().insert(*to, made[fragment].clone());
                stored.insert(*fragment);
            }
        }
        stored
    }

    fn read(&self, me: Address, manifest: &ObjectManifest, sources: &[(u8, Address)]) -> Vec<VerifiedFragment> {
        let reachable = sources.iter().filter(|(_, holder)| self.hear_if_there(me, *holder));
        let held = reachable.filter_map(|(fragment, holder)| Some((*fragment, self.disks.get(&(manifest.id(), *fragment))?.get(holder)?)));
        let verified = held.filter_map(|(fragment, bytes)| manifest.verify(fragment, bytes.clone()).ok());
        verified.take(manifest.profile().data().into()).collect()
    }

    fn moved(&mut self, me: Address, step: Move) {
        self.history.push(step);
        let movers = self.moves.entry((step.object, step.fragment, step.generation)).or_default();
        movers.insert(step.to);
        self.tally.same_moves_max = self.tally.same_moves_max.max(u64::try_from(movers.len()).expect("movers are few"));
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

    /// Fragments of an object that are on the disk of an operator that runs, each counted once.
    fn left(&self, id: BlobId) -> usize {
        let on = |fragment: u8| {
            let disks = self.disks.get(&(id, fragment));
            disks.is_some_and(|disks| disks.keys().any(|operator| self.nodes.get(operator).is_some_and(|node| node.is_up)))
        };
        (0..self.objects[&id].manifest.profile().total()).filter(|fragment| on(*fragment)).count()
    }

    /// Fragments left of each object.
    pub fn lefts(&self) -> Vec<usize> {
        self.objects.keys().map(|id| self.left(*id)).collect()
    }

    /// Fragments of each object on disks of others than `away`.
    pub fn seen_without(&self, away: &[Address]) -> Vec<usize> {
        let on = |id: BlobId, fragment: u8| {
            let disks = self.disks.get(&(id, fragment));
            disks.is_some_and(|disks| disks.keys().any(|operator| !away.contains(operator)))
        };
        let of = |(id, object): (&BlobId, &Object)| (0..object.manifest.profile().total()).filter(|fragment| on(*id, *fragment)).count();
        self.objects.iter().map(of).collect()
    }

    /// Hours since the beginning.
    pub fn now_h(&self) -> f64 {
        self.now.since(Time(0)).as_secs_f64() / 3_600.0
    }

    /// Measures from the moment an object falls below its floor to the one it is mended.
    fn watch_objects(&mut self) {
        let now = self.now;
        let lefts: Vec<_> = self.objects.keys().map(|id| (*id, self.left(*id))).collect();
        for (id, left) in lefts {
            let object = self.objects.get_mut(&id).expect("an object that was counted");
            let profile = object.manifest.profile();
            if left < usize::from(floor(profile)) {
                object.fell.get_or_insert(now);
            }
            if left < usize::from(profile.data()) && !object.is_lost {
                object.is_lost = true;
                self.tally.lost += 1;
            }
            // Work puts all that is lost at once; a holder that fell silent a moment ago is not lost yet, so all need not be there.
            if left >= usize::from(floor(profile))
                && let Some(fell) = object.fell.take()
            {
                self.tally.repair_h.push(now.since(fell).as_secs_f64() / 3_600.0);
            }
        }
    }

    /// The profile of the objects.
    pub fn profile(&self) -> Profile {
        self.objects.values().next().map_or(Profile::DEVNET, |object| object.manifest.profile())
    }

    /// Whether all who run and watch an object name the same holders.
    pub fn agrees(&self) -> bool {
        self.objects.keys().all(|id| {
            let views: BTreeSet<Vec<_>> = self
                .running()
                .iter()
                .filter_map(|me| self.cores[me].assignment(*id).filter(|view| view.held_by(*me).is_some()))
                .map(|view| view.holders().collect())
                .collect();
            views.len() <= 1
        })
    }

    /// Reads a random object from whoever runs, decodes and compares it; false if too few fragments answer.
    pub fn read_one(&mut self) -> bool {
        let at = self.random.below(self.objects.len());
        let (id, object) = self.objects.iter().nth(at).expect("below the number of objects");
        let running = self.running();
        let Some(me) = running.first() else { return false };
        let found = (0..object.manifest.profile().total()).filter_map(|fragment| {
            let holder = self.disks.get(&(*id, fragment))?.keys().find(|operator| self.hear_if_there(*me, **operator));
            holder.map(|holder| (fragment, *holder))
        });
        let sources: Vec<_> = found.collect();
        let fragments = self.read(*me, &object.manifest, &sources);
        erasure::reconstruct(&object.manifest, &fragments).is_ok()
    }

    /// So many operators that run, drawn at random.
    pub fn draw(&mut self, count: usize) -> Vec<Address> {
        let mut running = self.running();
        self.random.shuffle(&mut running);
        running.truncate(count);
        running
    }

    /// All operators in the subnets that hold most of the first object.
    pub fn worst_subnets(&self, count: usize) -> Vec<Address> {
        let mut held = BTreeMap::<_, usize>::new();
        if let Some(first) = self.objects.keys().next() {
            let disks = self.disks.iter().filter(|((object, _), _)| object == first).flat_map(|(_, disks)| disks.keys());
            disks.for_each(|operator| *held.entry(self.sites[operator].subnet).or_default() += 1);
        }
        let mut worst: Vec<_> = held.into_iter().collect();
        worst.sort_unstable_by_key(|(subnet, fragments)| (std::cmp::Reverse(*fragments), *subnet));
        worst.truncate(count);
        let is_there = |site: &Site| worst.iter().any(|(subnet, _)| *subnet == site.subnet);
        self.sites.iter().filter(|(_, site)| is_there(site)).map(|(operator, _)| *operator).collect()
    }

    /// Hours until the next death when each of the operators lives `life_h` on average: an exponential time.
    pub fn next_death_h(&mut self, life_h: f64) -> f64 {
        let operators = u32::try_from(self.nodes.len()).expect("operators are few");
        -self.random.share().ln() * life_h / f64::from(operators)
    }
}
