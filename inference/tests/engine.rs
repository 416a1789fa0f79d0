//! The engine on a generated model: pulls and credit, batches, cancelling, bounds, preemption, replay, adapters.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use inference::adapter::AdapterError;
use inference::adapter::store::StoreError;
use inference::backend::Profile;
use inference::engine::{EngineConfig, EngineError, EngineHandle, Generation, Start, Stats, Step};
use inference::model::{ModelError, Site};
use inference::proto::residency::AdapterId;
use inference::proto::scheduler::{RETRY_MAX, RETRY_MIN};
use inference::verify::{Claim, Digests, check, replay};
use inference::{Finish, Message, Role, Sampling, tiny};
use types::id::Address;

const SEED: [u8; 32] = [3; 32];
const WARM: Sampling = Sampling { temperature_milli: 900, top_k: 40, top_p_ppm: 950_000 };

struct Bench {
    folder: tempfile::TempDir,
    engine: EngineHandle,
}

impl Bench {
    fn new(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        tiny::write_model(&model, 1).unwrap();
        let mut config = EngineConfig { adapters_dir: Some(folder.path().join("packed")), ..EngineConfig::new(model) };
        change(&mut config);
        Self { engine: EngineHandle::start(config).unwrap(), folder }
    }

    fn prompt(&self) -> Vec<u32> {
        self.engine.prompt_tokens(&[Message { role: Role::User, content: "an étale 12 note".into() }]).unwrap()
    }

    fn start(&self, sampling: Sampling, max_tokens: u32) -> Start {
        Start::new(self.prompt(), sampling, SEED, max_tokens)
    }

    async fn run(&self, start: Start) -> (Vec<u32>, Finish) {
        let (tokens, finish, _) = run(&self.engine, start, 0).await.unwrap();
        (tokens, finish)
    }

    async fn stats(&self) -> Stats {
        self.engine.stats().await.unwrap()
    }

    async fn loaded(&self, name: &str, seed: u64) -> [u8; 32] {
        self.engine.load_adapter(&self.adapter(name, seed)).await.unwrap().hash
    }

    fn adapter(&self, name: &str, seed: u64) -> PathBuf {
        let dir = self.folder.path().join(name);
        tiny::write_adapter(&dir, Some(self.engine.info().hash), 8, seed).unwrap();
        dir
    }

    fn claim(&self, tokens: Vec<u32>, sampling: Sampling) -> Claim {
        Claim { prompt: self.prompt(), continued: Vec::new(), tokens, adapters: vec![], options: sampling.into(), seed: SEED, finish: None }
    }
}

/// An answer, with `ahead` tokens allowed at once.
async fn run(engine: &EngineHandle, start: Start, ahead: u32) -> Result<(Vec<u32>, Finish, Option<Digests>), EngineError> {
    pull(engine.begin(start).await?, ahead).await
}

async fn pull(mut generation: Generation, ahead: u32) -> Result<(Vec<u32>, Finish, Option<Digests>), EngineError> {
    generation.credit(ahead);
    let mut tokens = Vec::new();
    loop {
        match generation.next().await? {
            Step::Token { token, .. } => tokens.push(token),
            Step::End(finish) => return Ok((tokens, finish, generation.digests().cloned())),
        }
    }
}

/// Answers of all, in their order. All are accepted before one of them may go on: on a busy machine the first would be over before the last came.
async fn together(engine: &EngineHandle, starts: Vec<Start>, ahead: u32) -> Vec<(Vec<u32>, Finish, Option<Digests>)> {
    let mut begun = Vec::new();
    for start in starts {
        begun.push(engine.begin(start).await.unwrap());
    }
    let tasks: Vec<_> = begun.into_iter().map(|generation| tokio::spawn(pull(generation, ahead))).collect();
    let mut out = Vec::new();
    for task in tasks {
        out.push(task.await.unwrap().unwrap());
    }
    out
}

fn tokens(count: u32, salt: u32) -> Vec<u32> {
    (0..count).map(|at| (at * 37 + salt * 11 + at * at % 7) % 250 + 3).collect()
}

#[tokio::test]
async fn a_prompt_becomes_chat_tokens_and_bytes_come_back() {
    let bench = Bench::new(|_| {});
    let prompt = bench.prompt();
    assert_eq!(prompt[0], 1, "the template's first control token is one token");
    let text = String::from_utf8(bench.engine.decode(&prompt)).unwrap();
    assert_eq!(text, "user\nan étale 12 note\nassistant\n");
    assert_eq!(bench.engine.decode(&[u32::MAX]), "\u{fffd}".as_bytes());
}

#[tokio::test]
async fn equal_seeds_repeat_and_other_seeds_differ() {
    let bench = Bench::new(|_| {});
    let first = bench.run(bench.start(WARM, 24)).await;
    assert_eq!(first, bench.run(bench.start(WARM, 24)).await);
    let other = bench.run(Start { seed: [4; 32], ..bench.start(WARM, 24) }).await;
    assert_ne!(first, other);
}

#[tokio::test]
async fn an_answer_continued_elsewhere_is_the_same_answer() {
    let bench = Bench::new(|_| {});
    for sampling in [Sampling::GREEDY, WARM] {
        let (whole, finish) = bench.run(bench.start(sampling, 20)).await;
        assert!(whole.len() > 6, "{whole:?}");
        let cut = 5;
        let mut generation = bench.engine.begin(Start { continued: whole[..cut].to_vec(), ..bench.start(sampling, 20) }).await.unwrap();
        let first = generation.next().await.unwrap();
        assert_eq!(first, Step::Token { token: whole[cut], index: 5 });
        let mut rest = vec![whole[cut]];
        let ended = loop {
            match generation.next().await.unwrap() {
                Step::Token { token, .. } => rest.push(token),
                Step::End(finish) => break finish,
            }
        };
        assert_eq!((&whole[cut..], finish), (&rest[..], ended));
        assert!(matches!(generation.next().await, Err(EngineError::Ended)));
    }
}

#[tokio::test]
async fn a_caller_that_stops_pulling_holds_nobody_up() {
    let bench = Bench::new(|config| config.sequences_max = 2);
    let mut idle = bench.engine.begin(bench.start(WARM, 200)).await.unwrap();
    idle.next().await.unwrap();
    let (tokens, _) = bench.run(bench.start(WARM, 10)).await;
    assert!(!tokens.is_empty());
    assert!(matches!(idle.next().await.unwrap(), Step::Token { index: 1, .. }));
}

#[tokio::test]
async fn interleaved_generations_do_not_disturb_one_another() {
    let bench = Bench::new(|_| {});
    let alone = bench.run(bench.start(WARM, 16)).await;
    let (a, b, c) = tokio::join!(
        bench.run(bench.start(WARM, 16)),
        bench.run(Start { seed: [8; 32], ..bench.start(WARM, 16) }),
        bench.run(bench.start(WARM, 16)),
    );
    assert_eq!(a, alone);
    assert_eq!(c, alone);
    assert_ne!(b, alone);
}

#[tokio::test]
async fn a_generation_counts_the_rows_that_were_computed_for_it_and_no_others() {
    let bench = Bench::new(|_| {});
    let asked = Start { prompt: vec![5; 200], ..bench.start(Sampling::GREEDY, 4) };
    let mut first = bench.engine.begin(asked.clone()).await.unwrap();
    assert_eq!(first.computed(), 0, "nothing is computed before a pull");
    first.next().await.unwrap();
    assert_eq!(first.computed(), 200);
    first.next().await.unwrap();
    assert_eq!(first.computed(), 201, "a guess is nobody's row");
    drop(first);
    let mut again = bench.engine.begin(asked).await.unwrap();
    again.next().await.unwrap();
    assert!((1..200).contains(&again.computed()), "{} rows: what was there was not computed", again.computed());
}

#[tokio::test]
async fn a_dropped_future_loses_no_token() {
    let bench = Bench::new(|_| {});
    let (whole, _) = bench.run(bench.start(WARM, 12)).await;
    let mut generation = bench.engine.begin(bench.start(WARM, 12)).await.unwrap();
    let mut tokens = Vec::new();
    loop {
        let Ok(step) = tokio::time::timeout(Duration::from_micros(20), generation.next()).await else {
            continue;
        };
        match step.unwrap() {
            Step::Token { token, .. } => tokens.push(token),
            Step::End(_) => break,
        }
    }
    assert_eq!(tokens, whole);
}

#[tokio::test]
async fn dropping_a_generation_frees_its_place() {
    let bench = Bench::new(|config| config.sequences_max = 1);
    let held = bench.engine.begin(bench.start(WARM, 50)).await.unwrap();
    let refused = bench.engine.begin(bench.start(WARM, 50)).await.unwrap_err();
    assert!(matches!(refused, EngineError::Busy { running: 1, max: 1, .. }), "{refused}");
    drop(held);
    assert!(bench.engine.begin(bench.start(WARM, 50)).await.is_ok());
}

#[tokio::test]
async fn beyond_its_bounds_an_engine_says_how_many_there_are_and_when_to_come_back() {
    let bench = Bench::new(|config| config.sequences_max = 2);
    let held = [bench.engine.begin(bench.start(WARM, 50)).await.unwrap(), bench.engine.begin(bench.start(WARM, 50)).await.unwrap()];
    match bench.engine.begin(bench.start(WARM, 50)).await.unwrap_err() {
        EngineError::Busy { what: "generations", running: 2, max: 2, retry_after } => {
            assert!((RETRY_MIN..=RETRY_MAX).contains(&retry_after), "{retry_after:?}");
        }
        other => panic!("{other}"),
    }
    // Checks have places of their own.
    assert!(replay(&bench.engine, bench.claim(tokens(3, 1), WARM)).await.is_ok());
    drop(held);
    assert!(bench.engine.begin(bench.start(WARM, 50)).await.is_ok());
}

#[tokio::test]
async fn too_long_a_prompt_and_what_no_step_can_take_are_refused_before_they_begin() {
    let bench = Bench::new(|_| {});
    let refused = async |start| bench.engine.begin(start).await.unwrap_err();
    let error = refused(Start { prompt: vec![5; 512], ..bench.start(WARM, 5) }).await;
    assert!(matches!(error, EngineError::ContextExceeded { prompt: 512, max: 512 }), "{error}");
    let error = refused(bench.start(WARM, 5).with_adapter([7; 32])).await;
    assert!(matches!(error, EngineError::UnknownAdapter(hash) if hash == [7; 32]));
    for start in [Start { prompt: vec![5, 4_000], ..bench.start(WARM, 5) }, Start { continued: vec![4_000], ..bench.start(WARM, 5) }] {
        let error = refused(start).await;
        assert!(matches!(error, EngineError::Model(ModelError::UnknownToken { token: 4_000, vocabulary: 300 })), "{error}");
    }
    assert!(matches!(refused(Start { prompt: vec![], ..bench.start(WARM, 5) }).await, EngineError::Invalid(_)));
    let hash = bench.loaded("a", 1).await;
    let scaled = |scale| Start { adapters: vec![(AdapterId(hash), scale)], ..bench.start(WARM, 5) };
    assert!(matches!(refused(scaled(f32::NAN)).await, EngineError::Invalid(_)));
    let five = Start { adapters: vec![(AdapterId(hash), 1.0); 5], ..bench.start(WARM, 5) };
    assert!(matches!(refused(five).await, EngineError::Invalid(_)));
    // Pages bound a prompt as the context does.
    let small = Bench::new(|config| config.cached_tokens_max = 128);
    let error = small.engine.begin(Start { prompt: vec![5; 128], ..small.start(WARM, 5) }).await.unwrap_err();
    assert!(matches!(error, EngineError::ContextExceeded { prompt: 128, max: 128 }), "{error}");
    assert_eq!(bench.stats().await.generations + small.stats().await.generations, 0);
}

#[tokio::test]
async fn an_answer_ends_at_the_context() {
    let bench = Bench::new(|_| {});
    let start = Start { prompt: vec![5; 500], ..bench.start(Sampling::GREEDY, 100) };
    let (tokens, finish) = bench.run(start).await;
    assert!(finish == Finish::Stop || tokens.len() == 12, "{} tokens", tokens.len());
}

#[tokio::test]
async fn a_wrong_hash_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny.gguf");
    tiny::write_model(&model, 1).unwrap();
    let config = EngineConfig { expected_hash: Some([0xab; 32]), ..EngineConfig::new(&model) };
    let error = EngineHandle::start(config).unwrap_err().to_string();
    let real = blake3::hash(&tiny::model_bytes(1)).to_hex();
    assert!(error.contains(real.as_str()) && error.contains(&"ab".repeat(32)), "{error}");
}

#[tokio::test]
async fn a_replay_accepts_honest_answers_and_names_a_tampered_token() {
    let bench = Bench::new(|_| {});
    for sampling in [Sampling::GREEDY, WARM] {
        let (tokens, _) = bench.run(bench.start(sampling, 20)).await;
        let honest = replay(&bench.engine, bench.claim(tokens.clone(), sampling)).await.unwrap();
        assert_eq!(honest.mismatch, None);
        assert_eq!(honest.checked as usize, tokens.len());
        for at in [0, 7, tokens.len() - 1] {
            let mut forged = tokens.clone();
            forged[at] = (forged[at] + 101) % 300;
            let found = replay(&bench.engine, bench.claim(forged.clone(), sampling)).await.unwrap();
            let mismatch = found.mismatch.unwrap();
            assert_eq!((mismatch.position as usize, mismatch.expected, mismatch.got), (at, tokens[at], forged[at]));
        }
        let mut late = bench.claim(tokens[6..].to_vec(), sampling);
        late.continued = tokens[..6].to_vec();
        let found = replay(&bench.engine, late).await.unwrap();
        assert_eq!((found.checked as usize, found.mismatch), (tokens.len() - 6, None));
    }
}

#[tokio::test]
async fn a_false_claim_that_the_model_stopped_is_found() {
    let bench = Bench::new(|_| {});
    let (tokens, _) = bench.run(bench.start(WARM, 10)).await;
    let claim = Claim { finish: Some(Finish::Stop), ..bench.claim(tokens[..4].to_vec(), WARM) };
    let found = replay(&bench.engine, claim).await.unwrap();
    let mismatch = found.mismatch.unwrap();
    assert_eq!((found.checked, mismatch.position, mismatch.expected), (4, 4, tokens[4]));
}

#[tokio::test]
async fn two_adapters_serve_at_once_and_change_the_answer() {
    let bench = Bench::new(|_| {});
    let one = bench.engine.load_adapter(&bench.adapter("one", 11)).await.unwrap();
    let two = bench.engine.load_adapter(&bench.adapter("two", 12)).await.unwrap();
    assert_eq!((one.rank, one.name.as_str()), (8, "one"));
    assert_ne!(one.hash, two.hash);
    let with = |adapter: Option<[u8; 32]>| adapter.into_iter().fold(bench.start(Sampling::GREEDY, 16), Start::with_adapter);
    let base = bench.run(with(None)).await;
    let first = bench.run(with(Some(one.hash))).await;
    let (a, b, c) = tokio::join!(bench.run(with(Some(one.hash))), bench.run(with(Some(two.hash))), bench.run(with(None)));
    assert_eq!((&a, &c), (&first, &base));
    assert!(a != b && b != c && a != c, "{a:?} {b:?} {c:?}");
    let claim = Claim { adapters: vec![(AdapterId(one.hash), 1.0)], ..bench.claim(a.0.clone(), Sampling::GREEDY) };
    assert_eq!(replay(&bench.engine, claim).await.unwrap().mismatch, None);
    assert!(replay(&bench.engine, bench.claim(a.0, Sampling::GREEDY)).await.unwrap().mismatch.is_some());
    assert!(bench.engine.unload_adapter(one.hash).await.unwrap());
    assert!(matches!(bench.engine.begin(with(Some(one.hash))).await, Err(EngineError::UnknownAdapter(_))));
}

/// Finite numbers, as every adapter's must be, and yet no product of them is within what the profile computes with.
#[tokio::test]
async fn an_adapter_whose_numbers_are_beyond_the_profile_is_refused_by_tensor() {
    let bench = Bench::new(|_| {});
    let dir = bench.adapter("overflowing", 1);
    let path = dir.join(inference::adapter::WEIGHTS_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    bytes[header..].chunks_exact_mut(4).for_each(|number| number.copy_from_slice(&1e30f32.to_le_bytes()));
    std::fs::write(&path, bytes).unwrap();
    let error = bench.engine.load_adapter(&dir).await.unwrap_err();
    let refused = |error: &AdapterError| matches!(error, AdapterError::NotFinite { tensor } if tensor.contains("lora_"));
    assert!(matches!(&error, EngineError::Store(StoreError::Adapter(error)) if refused(error)), "{error}");
}

#[tokio::test]
async fn a_request_whose_numbers_overflow_fails_and_answers_nothing() {
    let bench = Bench::new(|_| {});
    let hash = bench.loaded("a", 1).await;
    let scaled = |scale| Start { adapters: vec![(AdapterId(hash), scale)], ..bench.start(Sampling::GREEDY, 4) };
    let mut generation = bench.engine.begin(scaled(1e30)).await.unwrap();
    let error = generation.next().await.unwrap_err();
    assert!(matches!(error, EngineError::Model(ModelError::NotFinite { position: 0 })), "{error}");
    assert!(error.to_string().contains("not finite"), "{error}");
    assert!(matches!(generation.next().await, Err(EngineError::Ended)));
    let claim = Claim { adapters: vec![(AdapterId(hash), 1e30)], ..bench.claim(tokens(5, 1), WARM) };
    let error = replay(&bench.engine, claim).await.unwrap_err();
    assert!(matches!(error, EngineError::Model(ModelError::NotFinite { .. })), "{error}");
    assert_eq!(bench.run(bench.start(Sampling::GREEDY, 4)).await.0.len(), 4, "others are served as before");
}

#[tokio::test]
async fn an_adapter_of_another_base_is_refused_with_both_hashes() {
    let bench = Bench::new(|_| {});
    let dir = bench.folder.path().join("foreign");
    tiny::write_adapter(&dir, Some([0xcd; 32]), 8, 1).unwrap();
    let error = bench.engine.load_adapter(&dir).await.unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::Adapter(AdapterError::OtherBase { .. }))));
    let text = error.to_string();
    assert!(text.contains(&"cd".repeat(32)) && text.contains(&hex::encode(bench.engine.info().hash)), "{text}");
}

#[tokio::test]
async fn the_engine_says_by_which_rules_it_computes() {
    let bench = Bench::new(|_| {});
    assert_eq!((bench.engine.profile(), bench.engine.profile().name()), (Profile::Exact, "exact"));
}

/// Requests that differ in everything: prompts of one token and of several pages, none to three adapters, all ways of choosing.
fn various(adapters: &[[u8; 32]]) -> Vec<Start> {
    let of = |at: u32| {
        let sampling = [Sampling::GREEDY, WARM, Sampling { temperature_milli: 700, top_k: 0, top_p_ppm: 0 }][at as usize % 3];
        let sets: [&[(usize, f32)]; 5] = [&[], &[(0, 1.0)], &[(1, 0.5), (0, 1.0)], &[(2, 2.0)], &[(0, 1.0), (1, 0.5), (2, -1.0)]];
        let set = sets[at as usize % 5].iter().map(|(which, scale)| (AdapterId(adapters[*which]), *scale)).collect();
        let payer = Address([u8::try_from(at % 4).unwrap(); 20]);
        let start =
            Start::new(tokens([1, 20, 64, 150, 130][at as usize % 5] + at % 7, at / 2), sampling, [u8::try_from(at).unwrap(); 32], 40);
        Start { adapters: set, payer, tenant: [u8::try_from(at / 4 % 2).unwrap(); 32], digests: true, ..start }
    };
    (0..24).map(of).collect()
}

#[tokio::test]
async fn many_answers_at_once_are_each_bit_for_bit_what_they_are_alone() {
    let plain = |config: &mut EngineConfig| (config.guesses, config.threads) = (false, std::num::NonZeroUsize::new(1));
    let (alone, batch) = (Bench::new(plain), Bench::new(|_| {}));
    let mut adapters = Vec::new();
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        adapters.push(alone.loaded(name, seed).await);
        assert_eq!(batch.loaded(name, seed).await, adapters[adapters.len() - 1]);
    }
    let mut expected = Vec::new();
    for start in various(&adapters) {
        // A prefix computed for somebody else is not used.
        expected.push(run(&alone.engine, Start { tenant: start.seed, ..start }, 0).await.unwrap());
    }
    let steps = alone.stats().await.counters.steps;
    for ahead in [40, 3, 0] {
        let got = together(&batch.engine, various(&adapters), ahead).await;
        for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert_eq!(got, expected, "request {at}, {ahead} ahead");
        }
        let stats = batch.stats().await;
        assert!(ahead < 40 || stats.counters.steps * 2 < steps, "the same answers in fewer steps than {steps}: {stats:?}");
        assert_eq!((stats.generations, stats.running, stats.waiting), (0, 0, 0));
    }
}

#[tokio::test]
async fn eight_adapters_at_once_cost_one_base_product_for_each_site_and_step() {
    let bench = Bench::new(|_| {});
    let mut starts = Vec::new();
    for at in 0..8u8 {
        let hash = bench.loaded(&format!("a{at}"), u64::from(at) + 20).await;
        starts.push(Start::new(tokens(20, 1), WARM, [at; 32], 200).with_adapter(hash));
    }
    // Brings the adapters in: one that comes while the others compute has them go on without it.
    together(&bench.engine, starts.iter().map(|start| Start { max_tokens: 1, ..start.clone() }).collect(), 1).await;
    let before = bench.stats().await.counters;
    together(&bench.engine, starts, 200).await;
    let after = bench.stats().await.counters;
    let (steps, rows) = (after.steps - before.steps, after.rows - before.rows);
    let products: Vec<u64> = after.products.iter().zip(&before.products).map(|(after, before)| after - before).collect();
    let layers = tiny::LAYERS as u64;
    assert_eq!(products[..7], [steps * layers; 7], "each site once a step, however many adapters");
    assert!(products[7] <= steps);
    for site in Site::ALL {
        let segments = after.adapters[site as usize] - before.adapters[site as usize];
        assert!(segments > 2 * steps * layers, "{segments} segments of {site:?} in {steps} steps: adapters shared steps");
    }
    assert!(rows > 2 * steps, "{rows} rows in {steps} steps");
}

#[tokio::test]
async fn few_pages_make_answers_give_way_and_change_none() {
    let wide = Bench::new(|_| {});
    let narrow = Bench::new(|config| config.cached_tokens_max = 6 * 64);
    let start = |at: u32| Start {
        payer: Address([u8::try_from(at % 3).unwrap(); 20]),
        digests: true,
        ..Start::new(tokens(90 + at, at), WARM, [u8::try_from(at).unwrap(); 32], 150)
    };
    let mut expected = Vec::new();
    for at in 0..6 {
        expected.push(run(&wide.engine, start(at), 0).await.unwrap());
    }
    let got = together(&narrow.engine, (0..6).map(start).collect(), 150).await;
    assert_eq!(got, expected);
    let stats = narrow.stats().await;
    assert!(stats.preempted > 0, "{stats:?}");
    assert_eq!((stats.pages, stats.pages_available), (6, 6), "nothing is held when all is over");
}

#[tokio::test]
async fn guesses_are_right_and_change_nothing() {
    let (with, without) = (Bench::new(|_| {}), Bench::new(|config| config.guesses = false));
    let repeating = |at: u32| Start { digests: true, ..Start::new(tokens(12, at).repeat(4), Sampling::GREEDY, SEED, 200) };
    for at in 0..6 {
        let (expected, got) =
            (run(&without.engine, repeating(at), 200).await.unwrap(), run(&with.engine, repeating(at), 200).await.unwrap());
        assert_eq!(got, expected, "prompt {at}");
    }
    let (stats, plain) = (with.stats().await, without.stats().await);
    assert!(stats.guessed_right > 50 && plain.guessed == 0, "{stats:?}");
    assert!(
        stats.counters.steps < plain.counters.steps,
        "a right guess saves a step: {} and {}",
        stats.counters.steps,
        plain.counters.steps
    );
}

/// A step takes [`inference::proto::scheduler::STEP_AIM`], half of the 50 ms that a dropped answer may still be worked on.
#[tokio::test]
async fn an_answer_that_is_dropped_under_load_is_gone_after_the_step_under_way() {
    let bench = Bench::new(|_| {});
    for _ in 0..5 {
        let mut held = Vec::new();
        for at in 0..24 {
            let mut generation = bench.engine.begin(Start::new(tokens(400, at), WARM, SEED, 100)).await.unwrap();
            // Its prompt and one token: so none ends by itself.
            generation.credit(1);
            held.push(generation);
        }
        held[0].next().await.unwrap();
        drop(held.pop());
        // Commands are taken between steps: the first one after the drop finds it done.
        assert_eq!(bench.stats().await.generations, 23, "a step under way is waited for, and no other");
        drop(held);
        assert_eq!(bench.stats().await.generations, 0);
    }
    let stats = bench.stats().await;
    assert_eq!(stats.pages_available, stats.pages);
}

#[tokio::test]
async fn a_dropped_beginning_and_a_dropped_replay_leave_nothing() {
    let bench = Bench::new(|_| {});
    for _ in 0..50 {
        drop(tokio::time::timeout(Duration::ZERO, bench.engine.begin(bench.start(WARM, 50))).await);
        let claim = replay(&bench.engine, bench.claim(tokens(300, 1), WARM));
        let _ = tokio::time::timeout(Duration::from_micros(30), claim).await;
    }
    let stats = bench.stats().await;
    assert_eq!((stats.generations, stats.replays, stats.running), (0, 0, 0));
}

#[tokio::test]
async fn digests_of_a_check_equal_those_of_the_answer_and_tell_where_another_differs() {
    let bench = Bench::new(|_| {});
    let hash = bench.loaded("a", 5).await;
    let mut stopped = 0;
    for (at, max_tokens) in (0..12u32).map(|at| (at, [1, 60, 250][at as usize % 3])) {
        let sampling = Sampling { temperature_milli: 3_000, top_k: 0, top_p_ppm: 0 };
        let adapters = if at % 2 == 0 { vec![] } else { vec![(AdapterId(hash), 0.5)] };
        let (prompt, seed) = (tokens(30 + 20 * at, at), [u8::try_from(at).unwrap(); 32]);
        let start = Start { adapters: adapters.clone(), digests: true, ..Start::new(prompt.clone(), sampling, seed, max_tokens) };
        let (tokens, finish, digests) = run(&bench.engine, start.clone(), max_tokens).await.unwrap();
        stopped += u32::from(finish == Finish::Stop);
        let (claim, digests) =
            (Claim { prompt, continued: vec![], tokens, adapters, options: sampling.into(), seed, finish: Some(finish) }, digests.unwrap());
        let before = bench.stats().await.counters;
        let checked = check(&bench.engine, claim.clone()).await.unwrap();
        let after = bench.stats().await.counters;
        assert_eq!((checked.replay.mismatch, checked.replay.checked as usize), (None, claim.tokens.len()));
        assert_eq!(checked.digests, digests, "request {at}");
        assert_eq!(digests.positions.len(), claim.tokens.len() + usize::from(finish == Finish::Stop));
        // One pass: every row once.
        let rows = claim.prompt.len() + claim.tokens.len() - usize::from(finish == Finish::Length);
        assert_eq!(after.rows - before.rows, rows as u64);
        assert!(after.steps - before.steps < rows as u64, "{} steps", after.steps - before.steps);
        if claim.tokens.len() > 12 {
            let mut forged = claim.clone();
            forged.tokens[9] = (forged.tokens[9] + 1) % 250 + 3;
            let found = check(&bench.engine, forged).await.unwrap();
            assert_eq!(found.replay.mismatch.map(|mismatch| (mismatch.position, mismatch.expected)), Some((9, claim.tokens[9])));
            assert_eq!(found.digests.positions, digests.positions[..10], "up to the choice itself both computed the same");
            // What was continued from is taken as given, and nothing of it is judged.
            let late = Claim { continued: claim.tokens[..5].to_vec(), tokens: claim.tokens[5..].to_vec(), ..claim.clone() };
            let late = check(&bench.engine, late).await.unwrap();
            assert_eq!((late.replay.mismatch, &late.digests.positions[..]), (None, &digests.positions[5..]));
            assert_eq!(late.digests.pages, digests.pages);
            let continued = Start { continued: claim.tokens[..5].to_vec(), ..start };
            let (_, _, again) = run(&bench.engine, continued, max_tokens).await.unwrap();
            assert_eq!(again.unwrap(), late.digests);
        }
    }
    assert!((1..12).contains(&stopped), "{stopped} of 12 answers end by themselves");
}

#[tokio::test]
async fn a_claim_of_what_cannot_be_an_answer_is_judged_and_not_computed() {
    let bench = Bench::new(|_| {});
    let (answer, _) = bench.run(bench.start(WARM, 8)).await;
    for wrong in [4_000, u32::MAX, bench.engine.eos()[0]] {
        let mut tokens = answer.clone();
        tokens[3] = wrong;
        let found = replay(&bench.engine, bench.claim(tokens, WARM)).await.unwrap();
        let mismatch = found.mismatch.unwrap();
        assert_eq!((found.checked, mismatch.position, mismatch.expected, mismatch.got), (3, 3, answer[3], wrong));
        assert!(mismatch.margin.is_infinite());
    }
    let empty = replay(&bench.engine, bench.claim(vec![], WARM)).await.unwrap();
    assert_eq!((empty.checked, empty.mismatch), (0, None));
    let unknown = bench.claim(answer, WARM);
    let error = replay(&bench.engine, Claim { prompt: vec![4_000], ..unknown }).await.unwrap_err();
    assert!(matches!(error, EngineError::Model(ModelError::UnknownToken { .. })), "{error}");
}

#[tokio::test]
async fn an_adapter_unloaded_while_it_answers_answers_to_the_end() {
    let bench = Bench::new(|_| {});
    let hash = bench.loaded("a", 5).await;
    let start = || bench.start(Sampling::GREEDY, 30).with_adapter(hash);
    let expected = bench.run(start()).await;
    let (mut running, mut waiting) = (bench.engine.begin(start()).await.unwrap(), bench.engine.begin(start()).await.unwrap());
    let Step::Token { token: first, .. } = running.next().await.unwrap() else { panic!("an answer of one token") };
    assert!(bench.engine.unload_adapter(hash).await.unwrap());
    assert!(!bench.engine.unload_adapter(hash).await.unwrap(), "it is unloaded once");
    assert!(matches!(bench.engine.begin(start()).await, Err(EngineError::UnknownAdapter(_))));
    let mut rest = vec![first];
    while let Step::Token { token, .. } = running.next().await.unwrap() {
        rest.push(token);
    }
    let mut other = Vec::new();
    while let Step::Token { token, .. } = waiting.next().await.unwrap() {
        other.push(token);
    }
    assert_eq!((&rest, &other), (&expected.0, &expected.0));
    let stats = bench.stats().await;
    assert_eq!((stats.adapters, stats.adapter_bytes), (0, (0, 0)), "then it is gone");
    bench.loaded("a", 5).await;
    assert_eq!(bench.run(start()).await, expected, "and may come back");
}

#[tokio::test]
async fn adapters_beyond_the_room_come_and_go_by_request() {
    // A tiny adapter takes some 31 kB packed: two fit.
    let bench = Bench::new(|config| config.adapters.memory_bytes = 80_000);
    let mut hashes = Vec::new();
    for at in 0..9u8 {
        hashes.push(bench.loaded(&format!("a{at}"), u64::from(at) + 60).await);
    }
    let start = |hash| bench.start(Sampling::GREEDY, 12).with_adapter(hash);
    let mut expected = Vec::new();
    for hash in &hashes {
        expected.push(bench.run(start(*hash)).await);
    }
    let got = together(&bench.engine, hashes.iter().rev().map(|hash| start(*hash)).collect(), 12).await;
    for ((got, finish, _), expected) in got.iter().rev().zip(&expected) {
        assert_eq!((got, finish), (&expected.0, &expected.1));
    }
    let (device, memory) = bench.stats().await.adapter_bytes;
    assert!(0 < device && device <= memory && memory <= 80_000, "{device} {memory}");
    // One that went is what it was, whatever became of the folder it was imported from.
    for hash in [1, 2, 3, 4].repeat(3) {
        bench.run(start(hashes[hash])).await;
    }
    tiny::write_adapter(&bench.folder.path().join("a0"), Some(bench.engine.info().hash), 8, 1_000).unwrap();
    assert_eq!(bench.run(start(hashes[0])).await, expected[0]);
    let big = Bench::new(|config| config.adapters.memory_bytes = 1_000);
    let error = big.engine.load_adapter(&big.adapter("a", 1)).await.unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::TooLarge { tier: "memory", max: 1_000, .. })), "{error}");
}

#[tokio::test]
async fn a_generation_keeps_its_engine_running() {
    let bench = Bench::new(|_| {});
    let mut generation = bench.engine.begin(bench.start(WARM, 5)).await.unwrap();
    drop(bench);
    assert!(matches!(generation.next().await.unwrap(), Step::Token { index: 0, .. }));
}
