//! Traces: what is done to a store, step by step, and what it must hold after any number of them.

use std::collections::BTreeMap;

use types::id::Hash32;

use super::{crash::CrashDisk, *};
use crate::erasure::{Encoded, Profile, encode};

/// One call. Objects and blobs are named by a number, from which their bytes follow.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Blob(u8),
    Fragment(u8, u8),
    Record(u8, u8),
    Unrecord(u8),
    ReleaseBlob(u8),
    ReleaseFragment(u8, u8),
    ReleaseObject(u8),
    /// Collect until nothing is worth it.
    Collect,
}

/// Small enough that traces roll over several segments.
pub(super) fn config() -> Config {
    Config { segment_bytes: 4_000, cache_bytes: 1 << 20, ..Config::default() }
}

pub(super) fn blob(number: u8) -> Vec<u8> {
    (0..=u8::MAX).cycle().skip(number.into()).take(200 + 290 * usize::from(number)).collect()
}

pub(super) fn object(number: u8) -> Encoded {
    encode(&blob(number), Hash32([number; 32]), Profile::DEVNET).unwrap()
}

const TABLE: &str = "vouchers";

/// What a store holds: items and records.
pub(super) type Held = (BTreeMap<Item, Vec<u8>>, BTreeMap<Vec<u8>, Vec<u8>>);

/// A trace with its objects made once.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) steps: Vec<Step>,
    objects: BTreeMap<u8, Encoded>,
}

impl Trace {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: Vec<Step> = steps.into_iter().collect();
        let numbers = steps.iter().filter_map(|step| match step {
            Step::Fragment(number, _) | Step::ReleaseFragment(number, _) | Step::ReleaseObject(number) => Some(*number),
            _ => None,
        });
        let objects = numbers.map(|number| (number, object(number))).collect();
        Self { steps, objects }
    }

    pub(super) fn perform(&self, store: &Store, step: Step) -> Result<(), String> {
        let told = |error: StoreError| error.to_string();
        match step {
            Step::Blob(number) => store.put(&blob(number)).map(drop).map_err(told),
            Step::Fragment(number, index) => {
                let Encoded { manifest, fragments } = &self.objects[&number];
                let fragment = manifest.verify(index, fragments[usize::from(index)].clone()).unwrap();
                store.put_fragment(manifest, &fragment).map_err(told)
            }
            Step::Record(key, value) => store.records().put(TABLE, &[key], &[value]).map_err(|error| error.to_string()),
            Step::Unrecord(key) => store.records().remove(TABLE, &[key]).map(drop).map_err(|error| error.to_string()),
            Step::ReleaseBlob(number) => store.release(Item::Blob(BlobId::of(&blob(number)))).map(drop).map_err(told),
            Step::ReleaseFragment(number, index) => {
                let object = self.objects[&number].manifest.id();
                store.release(Item::Fragment { object, index }).map(drop).map_err(told)
            }
            Step::ReleaseObject(number) => store.release_object(self.objects[&number].manifest.id()).map(drop).map_err(told),
            Step::Collect => loop {
                let collected = store.collect(1_500).map_err(told)?;
                assert_eq!(collected.corrupt, []);
                if collected.is_done {
                    return Ok(());
                }
            },
        }
    }

    /// Steps drawn by a seed, over few items so that they meet.
    pub(super) fn drawn(seed: u64, steps: u8) -> Self {
        Self::new((0..steps).map(|place| {
            let draw = types::merkle::keccak(&[b"trace", &seed.to_be_bytes(), &[place]]).0;
            let (item, index) = (1 + draw[1] % 4, draw[2] % 5);
            match draw[0] % 12 {
                0..3 => Step::Blob(item),
                3..6 => Step::Fragment(4 + item, index),
                6 => Step::Record(item, draw[3]),
                7 => Step::Unrecord(item),
                8 => Step::ReleaseBlob(item),
                9 => Step::ReleaseFragment(4 + item, index),
                10 => Step::ReleaseObject(4 + item),
                _ => Step::Collect,
            }
        }))
    }

    /// Opens a store and performs steps until one fails; says how many were acknowledged.
    pub(super) fn run(&self, disk: &CrashDisk) -> usize {
        let Ok(store) = Store::on(Arc::new(disk.clone()), config()) else { return 0 };
        self.steps.iter().take_while(|step| self.perform(&store, **step).is_ok()).count()
    }

    /// Every state on the way through a step: each record of it is whole or absent, in order.
    fn states(&self, held: &Held, step: Step) -> Vec<Held> {
        let mut states = Vec::new();
        let mut now = held.clone();
        let mut to = |change: &dyn Fn(&mut Held)| {
            change(&mut now);
            states.push(now.clone());
        };
        match step {
            Step::Blob(number) => to(&|held| drop(held.0.insert(Item::Blob(BlobId::of(&blob(number))), blob(number)))),
            Step::Fragment(number, index) => {
                let Encoded { manifest, fragments } = &self.objects[&number];
                let item = Item::Fragment { object: manifest.id(), index };
                to(&|held| drop(held.0.insert(Item::Blob(manifest.id()), manifest.encode())));
                to(&|held| drop(held.0.insert(item, fragments[usize::from(index)].clone())));
            }
            Step::Record(key, value) => to(&|held| drop(held.1.insert(vec![key], vec![value]))),
            Step::Unrecord(key) => to(&|held| drop(held.1.remove(&vec![key]))),
            Step::ReleaseBlob(number) => to(&|held| drop(held.0.remove(&Item::Blob(BlobId::of(&blob(number)))))),
            Step::ReleaseFragment(number, index) => {
                let object = self.objects[&number].manifest.id();
                to(&|held| drop(held.0.remove(&Item::Fragment { object, index })));
                to(&|held| {
                    if !held.0.keys().any(|item| matches!(item, Item::Fragment { object: of, .. } if *of == object)) {
                        held.0.remove(&Item::Blob(object));
                    }
                });
            }
            Step::ReleaseObject(number) => {
                let object = self.objects[&number].manifest.id();
                (0..=u8::MAX).for_each(|index| to(&|held| drop(held.0.remove(&Item::Fragment { object, index }))));
                to(&|held| drop(held.0.remove(&Item::Blob(object))));
            }
            Step::Collect => {}
        }
        states
    }

    /// What the store holds after the first `count` steps.
    pub(super) fn held_after(&self, count: usize) -> Held {
        self.steps[..count].iter().fold(Held::default(), |held, step| self.states(&held, *step).pop().unwrap_or(held))
    }

    /// What was acknowledged is there, the step after it in part, in order, and nothing else.
    pub(super) fn check(&self, store: &Store, acknowledged: usize, case: &str) {
        let seen = held(store, case);
        let base = self.held_after(acknowledged);
        let under_way = self.steps.get(acknowledged).map_or_else(Vec::new, |step| self.states(&base, *step));
        assert!(
            seen == base || under_way.contains(&seen),
            "{case}: {acknowledged} steps were acknowledged, the store holds {:?}",
            keys(&seen)
        );
        let walked = store.scrub(None, 1_000).unwrap();
        assert_eq!((walked.corrupt, walked.items), (vec![], seen.0.len()), "{case}");
        assert_eq!(store.recovery().lost_bytes, 0, "{case}");
        let usage = store.usage().unwrap();
        assert_eq!(usage, recounted(store, &usage), "{case}: what is counted along the way is what is there");
    }
}

fn recounted(store: &Store, usage: &Usage) -> Usage {
    let space = Space::count(&store.0.index, |_, _| {}).unwrap();
    // The open segment has no mark before its first record.
    let open = store.writer().segment;
    let header = if space.marks.contains_key(&open) { 0 } else { segment::HEADER_BYTES };
    let live: u64 = space.marks.keys().map(|segment| space.live(*segment)).sum();
    let dead = space.marks.keys().map(|segment| space.dead(*segment)).sum();
    Usage { used_bytes: space.used() + header, live_bytes: live, dead_bytes: dead, ..*usage }
}

fn keys(held: &Held) -> (Vec<String>, Vec<&Vec<u8>>) {
    (held.0.keys().map(ToString::to_string).collect(), held.1.values().collect())
}

/// All that a store holds.
pub(super) fn held(store: &Store, case: &str) -> Held {
    let read = |item: &Item| store.get_item(*item).unwrap_or_else(|error| panic!("{case}: {error}")).expect("an item that was listed");
    let items = store.items(None, 10_000).unwrap().into_iter().map(|item| (item, read(&item))).collect();
    (items, store.records().scan(TABLE, b"", 1_000).unwrap().into_iter().collect())
}

/// Cuts the power at every `stride`th change of the trace, opens the store, looks, and performs the whole trace again from there.
pub(super) fn survives_power_cuts(trace: &Trace, stride: usize) {
    let whole = CrashDisk::default();
    assert_eq!(trace.run(&whole), trace.steps.len());
    let changes = whole.changes();
    assert!(changes > 40, "the trace makes {changes} changes");
    for nth in (0..changes).step_by(stride) {
        for coin in [0, 1, 1_000 + nth, 2_000 + nth] {
            let case = format!("power off at change {nth}, coin {coin}");
            let disk = CrashDisk::default();
            disk.power_off_at(nth);
            let acknowledged = trace.run(&disk);
            let disk = disk.reboot(coin);
            let store = Store::on(Arc::new(disk), config()).unwrap_or_else(|error| panic!("{case}: {error}"));
            trace.check(&store, acknowledged, &case);
            for step in &trace.steps[acknowledged..] {
                trace.perform(&store, *step).unwrap_or_else(|error| panic!("{case}: {step:?} after the cut: {error}"));
            }
            trace.check(&store, trace.steps.len(), &case);
        }
    }
}
