//! The store with the scheduler's residency, as an engine joins them: beside a plain account under random operations, and alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use proptest::prelude::*;
use types::time::Time;

use super::*;
use crate::gguf::GgufFile;
use crate::proto::residency::{RETRY_AFTER, Residency, Tier};
use crate::step::Slot;
use crate::tiny;

/// More than any answer takes.
const LONG: Duration = Duration::from_secs(30);

/// The tiny model's shape and hash.
pub(crate) fn tiny_model(folder: &Path) -> ModelInfo {
    let path = folder.join("tiny.gguf");
    if !path.exists() {
        tiny::write_model(&path, 1).unwrap();
    }
    ModelInfo::read(&GgufFile::open(&path).unwrap()).unwrap()
}

/// A folder with a tiny adapter.
pub(crate) fn adapter(folder: &Path, rank: usize, seed: u64) -> PathBuf {
    let path = folder.join(format!("adapter-{rank}-{seed}"));
    tiny::write_adapter(&path, None, rank, seed).unwrap();
    path
}

/// Codes and scales of every matrix.
pub(crate) fn parts(packed: &Packed8) -> Vec<(Vec<f32>, Vec<u8>)> {
    use crate::model::Site;
    let pairs = (0..packed.layers()).flat_map(|layer| Site::ALL.map(|site| packed.pair(layer, site)));
    let both = pairs.flatten().flat_map(|pair| [pair.a.parts(), pair.b.parts()]);
    both.map(|(scales, codes)| (scales.to_vec(), codes.to_vec())).collect()
}

/// A request's adapters, and what it holds of them.
type Job = (Vec<(AdapterId, f32)>, Vec<Arc<Packed8>>);

/// Folders by hash, as peers would give them; some lie, and some do not answer.
#[derive(Debug, Default)]
struct Peers {
    folders: Mutex<BTreeMap<AdapterId, PathBuf>>,
}

impl FetchAdapter for Peers {
    fn fetch(&self, id: AdapterId, _: u64) -> Result<PathBuf, FetchError> {
        self.folders.lock().unwrap().get(&id).cloned().ok_or(FetchError::NotFound)
    }
}

/// What an engine does with a store.
struct Engine {
    folder: tempfile::TempDir,
    model: ModelInfo,
    budget: Budget,
    peers: Arc<Peers>,
    store: Option<AdapterStore>,
    residency: Residency,
    woken: Receiver<()>,
    device: BTreeMap<Slot, (AdapterId, Arc<Packed8>)>,
    moving: BTreeSet<AdapterId>,
    now: u64,
}

impl Engine {
    fn new(budget: Budget) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = tiny_model(folder.path());
        let residency = Residency::new(budget.clone());
        let (device, moving) = (BTreeMap::new(), BTreeSet::new());
        let mut this =
            Self { folder, model, budget, peers: Arc::default(), store: None, residency, woken: channel().1, device, moving, now: 1 };
        this.restart();
        this
    }

    fn restart(&mut self) -> Opened {
        self.store = None;
        let (wake, woken): (Sender<()>, _) = channel();
        let wake = Mutex::new(wake);
        let fetch: Arc<dyn FetchAdapter> = Arc::<Peers>::clone(&self.peers);
        let wake = move || {
            let _ = wake.lock().unwrap().send(());
        };
        let (store, opened) =
            AdapterStore::open(&self.folder.path().join("store"), self.model.clone(), self.budget.clone(), Some(fetch), wake).unwrap();
        (self.store, self.woken) = (Some(store), woken);
        self.residency = Residency::new(self.budget.clone());
        self.device.clear();
        self.moving.clear();
        opened
    }

    fn store(&self) -> &AdapterStore {
        self.store.as_ref().unwrap()
    }

    /// Hands notices on and carries out what follows, until nothing moves.
    fn settle(&mut self) {
        loop {
            self.turn();
            if self.moving.is_empty() {
                return;
            }
            self.woken.recv_timeout(LONG).expect("every move is answered");
        }
    }

    fn turn(&mut self) {
        loop {
            let notice = self.store().notice();
            if let Some((id, event)) = notice {
                if matches!(event, Event::Loaded | Event::Failed | Event::Gone | Event::OnDisk(_)) {
                    self.moving.remove(&id);
                }
                self.residency.handle(id, event, Time(self.now));
            }
            let actions: Vec<Action> = self.residency.actions().collect();
            if notice.is_none() && actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Attach { id, slot } => {
                        let packed = self.store().packed(id).expect("what is in memory is there");
                        assert!(self.device.insert(slot, (id, packed)).is_none());
                    }
                    Action::Detach(slot) => assert!(self.device.remove(&slot).is_some()),
                    Action::Fetch { id, .. } | Action::Load(id) => {
                        self.moving.insert(id);
                    }
                    Action::Delete(id) => {
                        // A load that is given up is not answered.
                        self.moving.remove(&id);
                    }
                    Action::Unload(_) => {}
                }
                self.store().act(action);
            }
        }
    }

    fn insert(&mut self, rank: usize, seed: u64) -> (AdapterId, AdapterInfo) {
        let path = adapter(self.folder.path(), rank, seed);
        let info = self.store().insert(&path).unwrap();
        self.settle();
        (AdapterId(info.hash), info)
    }

    /// A job with these adapters waits until they are in memory; true if it runs.
    fn begin(&mut self, set: &[(AdapterId, f32)]) -> bool {
        set.iter().for_each(|(id, _)| assert!(self.residency.want(*id, Time(self.now))));
        self.residency.join(set);
        // Three moves for each: fetch, load, and one for what had to go before.
        for _ in 0..=3 * set.len() {
            self.residency.need(std::iter::once(set), Time(self.now));
            self.settle();
        }
        self.residency.need(std::iter::empty(), Time(self.now));
        let runs = self.residency.hold(set);
        self.turn();
        if !runs {
            self.residency.leave(set);
            self.settle();
        }
        runs
    }

    fn end(&mut self, set: &[(AdapterId, f32)]) {
        self.residency.release(set);
        self.residency.leave(set);
        self.settle();
    }

    fn attached(&self, id: AdapterId) -> Arc<Packed8> {
        let Tier::Device(slot) = self.residency.tier(id) else { panic!("{id:?} is not on the device") };
        Arc::clone(&self.device[&slot].1)
    }

    fn files(&self) -> BTreeMap<AdapterId, u64> {
        let dir = self.folder.path().join("store").join(hex::encode(&self.model.hash[..8]));
        let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        let of = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            let mut hash = [0; 32];
            hex::decode_to_slice(name.strip_suffix(".packed")?, &mut hash).unwrap();
            Some((AdapterId(hash), entry.metadata().unwrap().len()))
        };
        entries.filter_map(of).collect()
    }

    fn file(&self, id: AdapterId) -> PathBuf {
        self.folder.path().join("store").join(hex::encode(&self.model.hash[..8])).join(format!("{}.packed", hex::encode(id.0)))
    }
}

fn one(id: AdapterId) -> [(AdapterId, f32); 1] {
    [(id, 1.0)]
}

#[test]
fn an_imported_adapter_is_loaded_named_found_again_and_whole() {
    let mut engine = Engine::new(Budget::default());
    let (id, info) = engine.insert(4, 1);
    assert_eq!((info.rank, info.name.as_str(), info.is_base_recorded), (4, "adapter-4-1", false));
    assert_eq!(engine.store().replace("clinic", id).unwrap(), None);
    engine.store().pin(id, true).unwrap();
    assert!(engine.begin(&one(id)));
    let direct = Packed8::read(&engine.folder.path().join("adapter-4-1"), &engine.model).unwrap();
    assert_eq!(parts(&engine.attached(id)), parts(&direct));
    assert_eq!(engine.restart(), Opened { found: 1, swept: 0 });
    engine.settle();
    assert_eq!((engine.store().resolve("clinic"), engine.store().info(id)), (Some(id), Some(info.clone())));
    let listed = Listed { info, names: vec!["clinic".to_owned()], is_loaded: true, is_pinned: true };
    assert_eq!(engine.store().list(), [listed], "what is pinned is loaded at the start");
    assert!(engine.begin(&one(id)));
    assert_eq!(parts(&engine.attached(id)), parts(&direct), "from the disk of the store");
}

#[test]
fn a_name_moves_to_another_adapter_and_a_removed_one_goes_without_dropping_a_request() {
    let mut engine = Engine::new(Budget::default());
    let (old, new) = (engine.insert(2, 1).0, engine.insert(2, 2).0);
    assert_eq!(engine.store().replace("clinic", old).unwrap(), None);
    assert!(engine.begin(&one(old)));
    let running = engine.attached(old);
    assert_eq!(engine.store().replace("clinic", new).unwrap(), Some(old));
    assert_eq!(engine.store().resolve("clinic"), Some(new));
    assert!(engine.store().remove(old).unwrap() && !engine.store().remove(old).unwrap());
    engine.settle();
    assert!(Arc::ptr_eq(&running, &engine.attached(old)), "the request that runs has what it had");
    assert_eq!((engine.store().info(old), engine.store().list().len()), (None, 1));
    assert!(engine.begin(&one(new)));
    engine.end(&one(old));
    assert_eq!(engine.residency.tier(old), Tier::Network);
    assert!(engine.store().packed(old).is_none() && engine.store().packed(new).is_some());
    assert_eq!(running.info().hash, old.0, "and may go on with it");
    engine.store = None;
    assert_eq!(engine.files().keys().copied().collect::<Vec<_>>(), [new]);
}

#[test]
fn one_that_is_damaged_on_disk_is_dropped_and_fetched_again() {
    let mut engine = Engine::new(Budget::default());
    let (id, _) = engine.insert(3, 1);
    engine.restart();
    let path = engine.file(id);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    engine.settle();
    assert!(!engine.begin(&one(id)), "nobody else has it");
    assert!(engine.store().reason(id).unwrap().contains("no peer"), "{:?}", engine.store().reason(id));
    assert!(!path.exists());
    engine.peers.folders.lock().unwrap().insert(id, engine.folder.path().join("adapter-3-1"));
    engine.now += u64::try_from(RETRY_AFTER.as_micros()).unwrap();
    assert!(engine.begin(&one(id)));
    assert_eq!(engine.attached(id).info().hash, id.0);
}

/// What the scheduler decides and what comes in meet on the way: it never asks for the removal of what it has not heard of.
#[test]
fn one_that_comes_in_while_it_goes_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (model, path, dir) = (tiny_model(folder.path()), adapter(folder.path(), 2, 1), folder.path().join("store"));
    let open = || AdapterStore::open(&dir, model.clone(), Budget::default(), None, || {}).unwrap();
    let (store, _) = open();
    let mut residency = Residency::new(Budget::default());
    let id = AdapterId(store.insert(&path).unwrap().hash);
    assert!(store.remove(id).unwrap());
    while let Some((id, event)) = store.notice() {
        residency.handle(id, event, Time(1));
    }
    let actions: Vec<Action> = residency.actions().collect();
    assert_eq!(actions, [Action::Delete(id)]);
    store.insert(&path).unwrap();
    store.act(actions[0]);
    assert_eq!(store.resolve("clinic"), None);
    assert_eq!(store.replace("clinic", id).unwrap(), None, "it is here");
    let (noticed, event) = store.notice().unwrap();
    residency.handle(noticed, event, Time(1));
    assert_eq!((residency.tier(id), store.notice()), (Tier::Disk, None));
    drop(store);
    assert_eq!(open().0.resolve("clinic"), Some(id));
}

#[test]
fn one_removed_and_still_used_is_not_found_at_the_next_start() {
    let mut engine = Engine::new(Budget::default());
    let (id, _) = engine.insert(2, 1);
    assert!(engine.begin(&one(id)));
    assert!(engine.store().remove(id).unwrap());
    engine.settle();
    assert!(engine.file(id).exists(), "until its last request ends");
    assert_eq!(engine.restart(), Opened::default());
}

#[test]
fn a_peer_that_sends_another_adapter_or_none_gives_nothing() {
    let mut engine = Engine::new(Budget::default());
    let (true_one, false_one) = (adapter(engine.folder.path(), 2, 1), adapter(engine.folder.path(), 2, 2));
    let id = AdapterId(Packed8::read(&true_one, &engine.model).unwrap().info().hash);
    let missing = engine.folder.path().join("missing");
    for (path, word) in [(false_one, "what came has hash"), (missing, "cannot read")] {
        engine.peers.folders.lock().unwrap().insert(id, path);
        assert!(!engine.begin(&one(id)));
        let reason = engine.store().reason(id).unwrap();
        assert!(reason.contains(word), "{reason}");
        assert!(engine.files().is_empty() && engine.store().list().is_empty());
        engine.now += u64::try_from(RETRY_AFTER.as_micros()).unwrap();
    }
    engine.peers.folders.lock().unwrap().insert(id, true_one);
    assert!(engine.begin(&one(id)));
}

#[test]
fn an_announced_adapter_is_there_before_its_request() {
    let mut engine = Engine::new(Budget::default());
    let path = adapter(engine.folder.path(), 2, 1);
    let id = AdapterId(Packed8::read(&path, &engine.model).unwrap().info().hash);
    engine.peers.folders.lock().unwrap().insert(id, path);
    assert!(engine.store().may_have(id) && engine.store().info(id).is_none());
    engine.store().want(id).unwrap();
    engine.settle();
    assert_eq!(engine.residency.tier(id), Tier::Memory);
}

#[test]
fn nothing_waits_for_a_peer_that_does_not_answer() {
    #[derive(Debug)]
    struct Slow(Mutex<Receiver<PathBuf>>);
    impl FetchAdapter for Slow {
        fn fetch(&self, _: AdapterId, _: u64) -> Result<PathBuf, FetchError> {
            self.0.lock().unwrap().recv().map_err(|error| FetchError::Failed(error.to_string()))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let path = adapter(folder.path(), 2, 1);
    let id = AdapterId(Packed8::read(&path, &model).unwrap().info().hash);
    let (answer, slow) = channel();
    let (wake, woken) = channel();
    let wake = Mutex::new(wake);
    let wake = move || wake.lock().unwrap().send(()).unwrap_or(());
    let fetch: Arc<dyn FetchAdapter> = Arc::new(Slow(Mutex::new(slow)));
    let (store, _) = AdapterStore::open(&folder.path().join("store"), model, Budget::default(), Some(fetch), wake).unwrap();
    store.act(Action::Fetch { id, bytes_max: 1 << 20 });
    assert_eq!(store.notice(), None);
    // While the peer is silent another comes in and is loaded.
    let other = AdapterId(store.insert(&adapter(folder.path(), 2, 2)).unwrap().hash);
    assert!(matches!(store.notice(), Some((got, Event::OnDisk(_))) if got == other));
    store.act(Action::Load(other));
    assert_eq!(store.notice(), Some((other, Event::Loaded)), "what was just packed is not read again");
    store.act(Action::Unload(other));
    store.act(Action::Load(other));
    let next = || loop {
        if let Some(notice) = store.notice() {
            return notice;
        }
        woken.recv_timeout(LONG).expect("an answer comes");
    };
    assert_eq!(next(), (other, Event::Loaded), "from disk, on the store's thread");
    answer.send(path).unwrap();
    assert!(matches!(next(), (got, Event::OnDisk(_)) if got == id));
    // The second fetching thread waits still; without its peer it ends.
    drop(answer);
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let small = adapter(folder.path(), 2, 1);
    let bytes = Packed8::read(&small, &model).unwrap().info().bytes;
    let budget = Budget { memory_bytes: 2 * bytes, ..Budget::default() };
    let dir = folder.path().join("store");
    let open = |budget: &Budget| AdapterStore::open(&dir, model.clone(), budget.clone(), None, || {});
    let (store, _) = open(&budget).unwrap();
    assert!(matches!(open(&budget), Err(StoreError::InUse { .. })));
    let id = AdapterId(store.insert(&small).unwrap().hash);
    let (second, unknown) = (AdapterId(store.insert(&adapter(folder.path(), 2, 2)).unwrap().hash), AdapterId([1; 32]));
    assert!(matches!(store.insert(&adapter(folder.path(), 256, 1)), Err(StoreError::TooLarge { tier: "memory", .. })));
    assert!(matches!(store.insert(&folder.path().join("nothing")), Err(StoreError::Adapter(AdapterError::Io { .. }))));
    assert!(matches!(store.pin(unknown, true), Err(StoreError::Unknown(got)) if got == unknown));
    assert!(matches!(store.replace("name", unknown), Err(StoreError::Unknown(_))));
    for name in ["", "a\nb", &"x".repeat(NAME_BYTES_MAX + 1)] {
        assert!(matches!(store.replace(name, id), Err(StoreError::BadName)), "{name:?}");
    }
    store.pin(id, true).unwrap();
    store.pin(id, true).unwrap();
    assert!(matches!(store.pin(second, true), Err(StoreError::PinnedTooMuch { .. })), "half of memory is one of them");
    store.pin(id, false).unwrap();
    store.pin(second, true).unwrap();
    assert!(!store.may_have(unknown) && !store.remove(unknown).unwrap());
    store.act(Action::Fetch { id: unknown, bytes_max: 9 });
    assert!(std::iter::from_fn(|| store.notice()).any(|notice| notice == (unknown, Event::Failed)), "nobody to fetch from");
    while store.want(unknown).is_ok() {}
    assert!(matches!(store.want(unknown), Err(StoreError::Busy { max: NOTICES_MAX, .. })));
    assert!(matches!(store.insert(&adapter(folder.path(), 2, 3)), Err(StoreError::Busy { .. })));
    assert_eq!(store.insert(&small).unwrap().hash, id.0, "what is here is only read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Six adapters; memory for about three, disk for about five.
    #[test]
    fn under_random_operations_tiers_names_and_requests_are_what_a_plain_account_says(
        operations in prop::collection::vec((0u8..16, 0usize..6, 0usize..6, any::<bool>()), 1..40),
    ) {
        let ranks = [1, 2, 16, 17, 20, 4];
        let mut engine = Engine::new(Budget::default());
        let folders: Vec<PathBuf> = (0..).zip(ranks).map(|(seed, rank)| adapter(engine.folder.path(), rank, seed)).collect();
        let packed: Vec<Packed8> = folders.iter().map(|path| Packed8::read(path, &engine.model).unwrap()).collect();
        let ids: Vec<AdapterId> = packed.iter().map(|packed| AdapterId(packed.info().hash)).collect();
        let each = packed[0].info().bytes;
        engine.budget = Budget { slots: 3, device_bytes: 4 * each, memory_bytes: 5 * each, disk_bytes: 8 * each, file_bytes_max: 3 * each };
        // Half of them can be fetched.
        engine.peers.folders.lock().unwrap().extend(ids.iter().copied().zip(folders.iter().cloned()).step_by(2));
        engine.restart();
        let mut names: BTreeMap<String, AdapterId> = BTreeMap::new();
        let mut pinned: BTreeSet<AdapterId> = BTreeSet::new();
        let mut jobs: Vec<Job> = Vec::new();
        for (what, which, other, is) in operations {
            engine.now += 1_000_000 * u64::try_from(1 + other * other).unwrap();
            let (id, name) = (ids[which], format!("name {}", other % 3));
            match what {
                0..=2 => {
                    let info = engine.store().insert(&folders[which]).unwrap();
                    prop_assert_eq!(&info, packed[which].info());
                }
                3 => {
                    let is_here = engine.store().info(id).is_some();
                    prop_assert_eq!(engine.store().remove(id).unwrap(), is_here);
                    if is_here {
                        names.retain(|_, named| *named != id);
                        pinned.remove(&id);
                    }
                }
                4 | 5 => match engine.store().pin(id, is) {
                    Ok(()) => {
                        if is { pinned.insert(id) } else { pinned.remove(&id) };
                    }
                    Err(StoreError::Unknown(_)) => prop_assert!(engine.store().info(id).is_none()),
                    Err(StoreError::PinnedTooMuch { got, max }) => prop_assert!(is && got > max),
                    Err(error) => prop_assert!(false, "{error}"),
                },
                6 | 7 => match engine.store().replace(&name, id) {
                    Ok(before) => prop_assert_eq!(before, names.insert(name, id)),
                    Err(error) => prop_assert!(matches!(error, StoreError::Unknown(_)) && engine.store().info(id).is_none()),
                },
                8 => prop_assert_eq!(engine.store().forget(&name).unwrap(), names.remove(&name)),
                9 => engine.store().want(id).unwrap(),
                10..=12 if jobs.len() < 3 => {
                    let set = if is { vec![(id, 1.0)] } else { vec![(id, 1.0), (ids[other], 0.5)] };
                    if engine.begin(&set) {
                        let held = set.iter().map(|(id, _)| engine.attached(*id)).collect();
                        jobs.push((set, held));
                    }
                }
                13 if !jobs.is_empty() => {
                    let (set, _) = jobs.swap_remove(which % jobs.len());
                    engine.end(&set);
                }
                14 if engine.residency.tier(id) == Tier::Disk => {
                    let path = engine.file(id);
                    let mut bytes = std::fs::read(&path).unwrap();
                    let at = bytes.len() - 1 - other;
                    bytes[at] ^= 1;
                    std::fs::write(&path, bytes).unwrap();
                }
                15 => {
                    jobs.clear();
                    engine.restart();
                }
                _ => {}
            }
            engine.settle();
            // What runs has what it was given, wherever everything else went.
            for (set, held) in &jobs {
                for ((id, _), packed) in set.iter().zip(held) {
                    prop_assert!(Arc::ptr_eq(packed, &engine.attached(*id)) && packed.info().hash == id.0);
                }
            }
            for (name, id) in &names {
                prop_assert_eq!(engine.store().resolve(name), Some(*id));
            }
            let listed = engine.store().list();
            for Listed { info, names: own, is_loaded, is_pinned } in &listed {
                let id = AdapterId(info.hash);
                let expected: Vec<&String> = names.iter().filter(|(_, named)| **named == id).map(|(name, _)| name).collect();
                prop_assert_eq!(own.iter().collect::<Vec<_>>(), expected);
                prop_assert_eq!((*is_loaded, *is_pinned), (engine.store().packed(id).is_some(), pinned.contains(&id)));
            }
            // The store and the scheduler's residency agree on every tier.
            let state = engine.store().shared.state();
            let (mut in_memory, mut on_disk) = (0, 0);
            for id in &ids {
                let (entry, tier) = (state.entries.get(id), engine.residency.tier(*id));
                prop_assert_eq!(entry.is_some(), tier >= Tier::Disk, "{:?} {:?}", id, tier);
                prop_assert_eq!(entry.is_some_and(|entry| entry.packed.is_some()), tier >= Tier::Memory, "{:?} {:?}", id, tier);
                in_memory += entry.and_then(|entry| entry.packed.as_ref()).map_or(0, |packed| packed.info().bytes);
                on_disk += entry.map_or(0, |entry| entry.sizes.disk);
            }
            drop(state);
            prop_assert!(in_memory <= engine.budget.memory_bytes && on_disk <= engine.budget.disk_bytes, "{in_memory} {on_disk}");
        }
        // Closed, its folder holds what it said, without what was removed and used still, and nothing else.
        jobs.clear();
        let state = engine.store().shared.state();
        let kept = state.entries.iter().filter(|(_, entry)| !entry.is_retired).map(|(id, entry)| (*id, entry.sizes.disk));
        let kept: BTreeMap<_, _> = kept.collect();
        drop(state);
        engine.store = None;
        prop_assert_eq!(engine.files(), kept);
    }
}
