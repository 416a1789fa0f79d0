//! Adapters of an engine on their ways: from files, from its folder, from a peer, and away again, while answers go on.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inference::adapter::AdapterFiles;
use inference::adapter::store::{FetchAdapter, FetchError, IMPORTS_MAX, StoreError};
use inference::engine::{EngineConfig, EngineError, EngineHandle, Start, Step};
use inference::proto::residency::AdapterId;
use inference::{Sampling, tiny};

/// Bytes of memory for two adapters of rank 8, of some 31 kB each.
const TWO: u64 = 80_000;
const TOKENS: u32 = 12;

struct Bench {
    folder: tempfile::TempDir,
    config: EngineConfig,
    /// None between two lives.
    engine: Option<EngineHandle>,
}

impl Bench {
    fn new(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        tiny::write_model(&model, 1).unwrap();
        let mut config = EngineConfig { adapters_dir: Some(folder.path().join("packed")), ..EngineConfig::new(model) };
        change(&mut config);
        let engine = Some(EngineHandle::start(config.clone()).unwrap());
        Self { folder, config, engine }
    }

    fn engine(&self) -> &EngineHandle {
        self.engine.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.engine = None;
        self.engine = Some(EngineHandle::start(self.config.clone()).unwrap());
    }

    fn adapter(&self, seed: u64) -> PathBuf {
        adapter(self.folder.path(), seed)
    }

    async fn loaded(&self, seed: u64) -> [u8; 32] {
        self.engine().load_adapter(&self.adapter(seed)).await.unwrap().hash
    }

    async fn run(&self, hash: [u8; 32]) -> Result<Vec<u32>, EngineError> {
        run(self.engine(), start().with_adapter(hash)).await
    }

    /// Packed files, by hash.
    fn files(&self) -> BTreeMap<String, PathBuf> {
        let bases = std::fs::read_dir(self.folder.path().join("packed")).unwrap();
        let files = bases.flat_map(|base| std::fs::read_dir(base.unwrap().path()).unwrap());
        let packed = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|ending| ending == "packed"));
        packed.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)).collect()
    }

    /// Turns a bit of a packed file's matrices.
    fn damage(&self, hash: [u8; 32]) {
        let path = &self.files()[&hex::encode(hash)];
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

fn adapter(folder: &Path, seed: u64) -> PathBuf {
    let dir = folder.join(format!("adapter-{seed}"));
    tiny::write_adapter(&dir, None, 8, seed).unwrap();
    dir
}

fn start() -> Start {
    let prompt = (0..20).map(|at| (at * 37 + at * at % 7) % 250 + 3).collect();
    Start::new(prompt, Sampling { temperature_milli: 900, top_k: 40, top_p_ppm: 950_000 }, [3; 32], TOKENS)
}

async fn run(engine: &EngineHandle, start: Start) -> Result<Vec<u32>, EngineError> {
    let mut generation = engine.begin(start).await?;
    generation.credit(TOKENS);
    let mut tokens = Vec::new();
    while let Step::Token { token, .. } = generation.next().await? {
        tokens.push(token);
    }
    Ok(tokens)
}

/// Folders by hash, as peers would give them; how often they were asked.
#[derive(Debug, Default)]
struct Peers {
    folders: Mutex<BTreeMap<AdapterId, PathBuf>>,
    asked: AtomicUsize,
}

impl FetchAdapter for Peers {
    fn fetch(&self, id: AdapterId, _: u64) -> Result<PathBuf, FetchError> {
        self.asked.fetch_add(1, SeqCst);
        self.folders.lock().unwrap().get(&id).cloned().ok_or_else(|| FetchError::Failed("the line is cut".to_owned()))
    }
}

impl Peers {
    /// Gives an adapter from now on; its hash.
    fn give(&self, path: PathBuf) -> [u8; 32] {
        let hash = AdapterFiles::read(&path).unwrap().hash();
        self.folders.lock().unwrap().insert(AdapterId(hash), path);
        hash
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

/// A bench whose engine asks peers.
fn with_peers() -> (Bench, Arc<Peers>) {
    let peers = Arc::<Peers>::default();
    let fetch: Arc<dyn FetchAdapter> = Arc::<Peers>::clone(&peers);
    (Bench::new(|config| config.fetch = Some(fetch)), peers)
}

/// What an answer is with an adapter that was imported and never left memory.
async fn expected(seed: u64) -> Vec<u32> {
    let bench = Bench::new(|_| {});
    bench.run(bench.loaded(seed).await).await.unwrap()
}

#[tokio::test]
async fn an_adapter_that_left_memory_comes_back_from_its_packed_file_with_the_same_tokens() {
    let bench = Bench::new(|config| config.adapters.memory_bytes = TWO);
    let mut hashes = Vec::new();
    for seed in 1..=6 {
        hashes.push(bench.loaded(seed).await);
        std::fs::remove_dir_all(bench.adapter(seed)).unwrap();
    }
    let mut first = Vec::new();
    for hash in &hashes {
        first.push(bench.run(*hash).await.unwrap());
    }
    assert_eq!(first[2], expected(3).await);
    let loaded = bench.engine().adapters().iter().filter(|listed| listed.is_loaded).count();
    assert!(loaded <= 2, "{loaded} are in memory");
    for (hash, first) in hashes.iter().zip(&first) {
        assert_eq!(bench.run(*hash).await.unwrap(), *first);
    }
}

#[tokio::test]
async fn an_engine_started_again_on_its_folder_serves_what_was_imported_before() {
    let mut bench = Bench::new(|_| {});
    let (one, two) = (bench.loaded(1).await, bench.loaded(2).await);
    let (first, second) = (bench.run(one).await.unwrap(), bench.run(two).await.unwrap());
    assert_eq!(bench.engine().replace_adapter("clinic", one).await.unwrap(), None);
    bench.engine().pin_adapter(two, true).await.unwrap();
    let before: Vec<_> = bench.engine().adapters().into_iter().map(|listed| (listed.info, listed.names, listed.is_pinned)).collect();
    match EngineHandle::start(bench.config.clone()) {
        Err(EngineError::Store(StoreError::InUse { .. })) => {}
        other => panic!("a folder has one engine: {other:?}"),
    }
    for seed in [1, 2] {
        std::fs::remove_dir_all(bench.folder.path().join(format!("adapter-{seed}"))).unwrap();
    }
    bench.restart();
    let after: Vec<_> = bench.engine().adapters().into_iter().map(|listed| (listed.info, listed.names, listed.is_pinned)).collect();
    assert_eq!(after, before);
    assert_eq!(bench.engine().adapter_named("clinic"), Some(AdapterId(one)));
    assert_eq!((bench.run(one).await.unwrap(), bench.run(two).await.unwrap()), (first, second));
    assert_eq!(bench.engine().stats().await.unwrap().adapters, 2);
}

#[tokio::test]
async fn a_pinned_adapter_stays_in_memory_while_others_come_and_go() {
    let bench = Bench::new(|config| config.adapters.memory_bytes = TWO);
    let pinned = bench.loaded(1).await;
    bench.engine().pin_adapter(pinned, true).await.unwrap();
    let mut others = Vec::new();
    for seed in 2..=4 {
        others.push(bench.loaded(seed).await);
    }
    let first = bench.run(pinned).await.unwrap();
    for hash in others.repeat(3) {
        bench.run(hash).await.unwrap();
        let listed = bench.engine().adapters().into_iter().find(|listed| listed.info.hash == pinned).unwrap();
        assert!(listed.is_loaded && listed.is_pinned);
    }
    let refused = bench.engine().pin_adapter(others[0], true).await.unwrap_err();
    assert!(matches!(refused, EngineError::Store(StoreError::PinnedTooMuch { .. })), "{refused}");
    assert_eq!(bench.run(pinned).await.unwrap(), first);
}

#[tokio::test]
async fn an_adapter_that_only_a_job_names_is_fetched_once_and_serves() {
    let (mut bench, peers) = with_peers();
    let hash = peers.give(bench.adapter(5));
    assert!(bench.engine().adapter(hash).is_none());
    let (one, two) = tokio::join!(bench.run(hash), bench.run(hash));
    let tokens = expected(5).await;
    assert_eq!((one.unwrap(), two.unwrap(), peers.asked()), (tokens.clone(), tokens.clone(), 1));
    assert_eq!(bench.engine().adapter(hash).unwrap().name, "adapter-5");
    bench.restart();
    assert_eq!((bench.run(hash).await.unwrap(), peers.asked()), (tokens, 1), "and is kept");
}

#[tokio::test]
async fn an_adapter_that_is_expected_is_in_memory_before_it_is_asked_for() {
    let (bench, peers) = with_peers();
    let hash = peers.give(bench.adapter(5));
    bench.engine().expect_adapter([9; 32]); // which nobody has
    bench.engine().expect_adapter(hash);
    while !bench.engine().adapters().iter().any(|listed| listed.info.hash == hash && listed.is_loaded) {
        tokio::task::yield_now().await;
    }
    let before = peers.asked();
    assert_eq!((bench.run(hash).await.unwrap(), peers.asked()), (expected(5).await, before), "its request asks nobody");
    Bench::new(|config| config.adapters_dir = None).engine().expect_adapter(hash); // keeps none
}

#[tokio::test]
async fn a_fetch_that_fails_ends_its_job_with_the_reason_and_others_go_on() {
    let (bench, peers) = with_peers();
    let base = run(bench.engine(), start()).await.unwrap();
    let path = bench.adapter(5);
    let hash = AdapterFiles::read(&path).unwrap().hash();
    let (lost, beside) = tokio::join!(bench.run(hash), run(bench.engine(), start()));
    match lost.unwrap_err() {
        EngineError::AdapterLost { hash: named, reason } => assert_eq!((named, reason.as_str()), (hash, "the line is cut")),
        other => panic!("{other}"),
    }
    assert_eq!(beside.unwrap(), base);
    // Nobody asks the peer again at once, and whoever would wait is told for how long.
    let refused = bench.run(hash).await.unwrap_err();
    assert!(matches!(refused, EngineError::Busy { what: "adapters", .. }) && peers.asked() == 1, "{refused}");
    // What a peer gives under another's hash is no better.
    let false_one = bench.adapter(6);
    let named = AdapterFiles::read(&bench.adapter(7)).unwrap().hash();
    peers.folders.lock().unwrap().insert(AdapterId(named), false_one);
    let error = bench.run(named).await.unwrap_err().to_string();
    assert!(error.contains(&hex::encode(named)) && error.contains("what came has hash"), "{error}");
    // An import does not wait for the peer.
    bench.engine().load_adapter(&path).await.unwrap();
    assert_eq!(bench.run(hash).await.unwrap(), expected(5).await);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_holds_up_its_job_for_a_while_and_nobody_else() {
    #[derive(Debug)]
    struct Silent(Mutex<Receiver<()>>);
    impl FetchAdapter for Silent {
        fn fetch(&self, _: AdapterId, _: u64) -> Result<PathBuf, FetchError> {
            let _ = self.0.lock().unwrap().recv();
            Err(FetchError::NotFound)
        }
    }
    let (hold, silent) = channel();
    let fetch: Arc<dyn FetchAdapter> = Arc::new(Silent(Mutex::new(silent)));
    let bench = Bench::new(|config| (config.fetch, config.adapter_wait_max) = (Some(fetch), Duration::from_millis(100)));
    let mut waiting = bench.engine().begin(start().with_adapter([9; 32])).await.unwrap();
    waiting.credit(TOKENS);
    assert_eq!(bench.run(bench.loaded(5).await).await.unwrap(), expected(5).await);
    let error = waiting.next().await.unwrap_err();
    assert!(matches!(&error, EngineError::AdapterLost { hash, reason } if *hash == [9; 32] && reason.contains("in time")), "{error}");
    drop(hold);
}

#[tokio::test]
async fn names_move_and_adapters_go_and_come_under_traffic_and_no_accepted_answer_is_lost() {
    let bench = Bench::new(|_| {});
    let (paths, tokens) = ([bench.adapter(1), bench.adapter(2)], [expected(1).await, expected(2).await]);
    let (one, two) = (bench.loaded(1).await, bench.loaded(2).await);
    let answers: BTreeMap<[u8; 32], Vec<u32>> = BTreeMap::from([(one, tokens[0].clone()), (two, tokens[1].clone())]);
    bench.engine().replace_adapter("clinic", one).await.unwrap();
    let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = (0..4).map(|_| {
        let (engine, answers) = (bench.engine().clone(), answers.clone());
        let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
        tokio::spawn(async move {
            while !is_over.load(SeqCst) {
                let AdapterId(hash) = engine.adapter_named("clinic").expect("the name always leads somewhere");
                match run(&engine, start().with_adapter(hash)).await {
                    Ok(tokens) => assert_eq!(tokens, answers[&hash]),
                    // Its name moved on before it was accepted.
                    Err(EngineError::UnknownAdapter(unknown)) => assert_eq!(unknown, hash),
                    Err(error) => panic!("{error}"),
                }
                answered.fetch_add(1, SeqCst);
                tokio::task::yield_now().await;
            }
        })
    });
    let asking: Vec<_> = asking.collect();
    for round in 0..12 {
        let (from, to) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        let (hashes, before) = ([one, two], answered.load(SeqCst));
        bench.engine().load_adapter(&paths[to]).await.unwrap();
        assert_eq!(bench.engine().replace_adapter("clinic", hashes[to]).await.unwrap(), Some(AdapterId(hashes[from])));
        assert!(bench.engine().unload_adapter(hashes[from]).await.unwrap());
        while answered.load(SeqCst) < before + 8 {
            tokio::task::yield_now().await;
        }
    }
    is_over.store(true, SeqCst);
    for task in asking {
        task.await.unwrap();
    }
    let stats = bench.engine().stats().await.unwrap();
    assert_eq!((stats.adapters, stats.generations), (1, 0), "what was removed went with its last answer");
    assert_eq!(bench.engine().adapters().len(), 1);
}

#[tokio::test]
async fn an_unloaded_adapter_ends_with_its_last_answer_also_where_peers_have_it() {
    let (mut bench, peers) = with_peers();
    let hash = peers.give(bench.adapter(5));
    let tokens = bench.run(hash).await.unwrap();
    let mut running = bench.engine().begin(start().with_adapter(hash)).await.unwrap();
    running.next().await.unwrap();
    assert!(bench.engine().unload_adapter(hash).await.unwrap());
    let refused = bench.run(hash).await.unwrap_err();
    assert!(matches!(refused, EngineError::UnknownAdapter(_)), "nobody keeps it here any longer: {refused}");
    let mut count = 1;
    while let Step::Token { .. } = running.next().await.unwrap() {
        count += 1;
    }
    assert_eq!((count, bench.engine().stats().await.unwrap().adapters, peers.asked()), (tokens.len(), 0, 1));
    assert_eq!((bench.run(hash).await.unwrap(), peers.asked()), (tokens, 2), "whoever names it then has it fetched again");
    assert!(bench.engine().unload_adapter(hash).await.unwrap());
    // A generation keeps its engine.
    drop(running);
    bench.engine = None;
    assert!(bench.files().is_empty(), "{:?}", bench.files());
}

#[tokio::test]
async fn a_damaged_file_is_never_served_and_is_imported_or_fetched_again() {
    let mut bench = Bench::new(|_| {});
    let (hash, whole) = (bench.loaded(5).await, bench.loaded(6).await);
    let (tokens, other) = (bench.run(hash).await.unwrap(), bench.run(whole).await.unwrap());
    bench.engine = None;
    bench.damage(hash);
    bench.restart();
    let (lost, beside) = tokio::join!(bench.run(hash), bench.run(whole));
    assert_eq!(beside.unwrap(), other);
    match lost.unwrap_err() {
        EngineError::AdapterLost { hash: named, reason } => assert!(named == hash && reason.contains("damaged"), "{reason}"),
        other => panic!("{other}"),
    }
    assert!(bench.engine().adapter(hash).is_none());
    assert_eq!(bench.loaded(5).await, hash);
    assert_eq!(bench.run(hash).await.unwrap(), tokens);

    let (mut bench, peers) = with_peers();
    assert_eq!(peers.give(bench.adapter(5)), bench.loaded(5).await);
    bench.engine = None;
    bench.damage(hash);
    bench.restart();
    assert_eq!((bench.run(hash).await.unwrap(), peers.asked()), (tokens, 1), "the job does not notice");
}

#[tokio::test]
async fn more_imports_than_turns_wait_and_all_come_in() {
    let bench = Bench::new(|_| {});
    let (paths, engine) = ((0..4 * IMPORTS_MAX as u64).map(|seed| bench.adapter(seed)).collect::<Vec<_>>(), bench.engine().clone());
    let imports = paths.into_iter().map(|path| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.load_adapter(&path).await.unwrap().hash })
    });
    for import in imports.collect::<Vec<_>>() {
        bench.run(import.await.unwrap()).await.unwrap();
    }
    assert_eq!(bench.files().len(), 4 * IMPORTS_MAX);
}

#[tokio::test]
async fn a_gguf_adapter_is_imported_from_its_file() {
    let bench = Bench::new(|_| {});
    let path = bench.folder.path().join("spoken.gguf");
    tiny::adapters::write_gguf_adapter(&path, Some(bench.engine().info().hash), 8, 5).unwrap();
    let info = bench.engine().load_adapter(&path).await.unwrap();
    assert_eq!((info.name.as_str(), info.rank, info.is_base_recorded), ("spoken", 8, true));
    assert_eq!(bench.engine().load_adapter(&path).await.unwrap(), info, "once more, it is only read");
    assert!(!bench.run(info.hash).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_engine_without_a_folder_says_so_and_serves_the_base() {
    let bench = Bench::new(|config| config.adapters_dir = None);
    let error = bench.engine().load_adapter(&bench.adapter(1)).await.unwrap_err();
    assert!(matches!(error, EngineError::Invalid(_)) && error.to_string().contains("folder"), "{error}");
    assert!(matches!(bench.run([9; 32]).await, Err(EngineError::UnknownAdapter(_))));
    assert!(bench.engine().adapters().is_empty());
    assert!(!run(bench.engine(), start()).await.unwrap().is_empty());
}
