//! The engine on a generated model: pulls, fairness, cancelling, bounds, replay, adapters.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use inference::adapter::AdapterError;
use inference::engine::{EngineConfig, EngineError, EngineHandle, Start, Step};
use inference::model::ModelError;
use inference::verify::{Claim, replay};
use inference::{Finish, Message, Role, Sampling, tiny};

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
        let mut config = EngineConfig::new(model);
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
        let mut generation = self.engine.begin(start).await.unwrap();
        let mut tokens = Vec::new();
        loop {
            match generation.next().await.unwrap() {
                Step::Token { token, .. } => tokens.push(token),
                Step::End(finish) => return (tokens, finish),
            }
        }
    }

    fn adapter(&self, name: &str, seed: u64) -> PathBuf {
        let dir = self.folder.path().join(name);
        tiny::write_adapter(&dir, Some(self.engine.info().hash), 8, seed).unwrap();
        dir
    }

    fn claim(&self, tokens: Vec<u32>, sampling: Sampling) -> Claim {
        Claim { prompt: self.prompt(), continued: Vec::new(), tokens, adapter: None, sampling, seed: SEED, finish: None }
    }
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
async fn generations_share_a_bounded_number_of_cached_tokens() {
    let bench = Bench::new(|config| config.cached_tokens_max = 300);
    let held = bench.engine.begin(bench.start(WARM, 200)).await.unwrap();
    let refused = bench.engine.begin(bench.start(WARM, 200)).await.unwrap_err();
    assert!(matches!(refused, EngineError::Busy { what: "cached tokens", max: 300, .. }), "{refused}");
    assert!(bench.engine.begin(bench.start(WARM, 20)).await.is_ok());
    drop(held);
    assert!(bench.engine.begin(bench.start(WARM, 200)).await.is_ok());
}

#[tokio::test]
async fn too_long_a_prompt_and_an_unknown_adapter_are_refused() {
    let bench = Bench::new(|_| {});
    let long = Start { prompt: vec![5; 512], ..bench.start(WARM, 5) };
    let error = bench.engine.begin(long).await.unwrap_err();
    assert!(matches!(error, EngineError::ContextExceeded { prompt: 512, max: 512 }), "{error}");
    let error = bench.engine.begin(Start { adapter: Some([7; 32]), ..bench.start(WARM, 5) }).await.unwrap_err();
    assert!(matches!(error, EngineError::UnknownAdapter(hash) if hash == [7; 32]));
    let mut generation = bench.engine.begin(Start { prompt: vec![5, 4_000], ..bench.start(WARM, 5) }).await.unwrap();
    let error = generation.next().await.unwrap_err();
    assert!(matches!(error, EngineError::Model(ModelError::UnknownToken { token: 4_000, .. })), "{error}");
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
    let with = |adapter| Start { adapter, ..bench.start(Sampling::GREEDY, 16) };
    let base = bench.run(with(None)).await;
    let first = bench.run(with(Some(one.hash))).await;
    let (a, b, c) = tokio::join!(bench.run(with(Some(one.hash))), bench.run(with(Some(two.hash))), bench.run(with(None)));
    assert_eq!((&a, &c), (&first, &base));
    assert!(a != b && b != c && a != c, "{a:?} {b:?} {c:?}");
    let claim = Claim { adapter: Some(one.hash), ..bench.claim(a.0.clone(), Sampling::GREEDY) };
    assert_eq!(replay(&bench.engine, claim).await.unwrap().mismatch, None);
    assert!(replay(&bench.engine, bench.claim(a.0, Sampling::GREEDY)).await.unwrap().mismatch.is_some());
    assert!(bench.engine.unload_adapter(one.hash).await.unwrap());
    assert!(matches!(bench.engine.begin(with(Some(one.hash))).await, Err(EngineError::UnknownAdapter(_))));
}

/// Finite numbers, as every adapter's must be, and yet no product of them is: the first token of an answer would be the lowest id, the second too.
#[tokio::test]
async fn an_adapter_whose_numbers_overflow_fails_and_answers_nothing() {
    let bench = Bench::new(|_| {});
    let dir = bench.adapter("overflowing", 1);
    let path = dir.join(inference::adapter::WEIGHTS_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    bytes[header..].chunks_exact_mut(4).for_each(|number| number.copy_from_slice(&f32::MAX.to_le_bytes()));
    std::fs::write(&path, bytes).unwrap();
    let adapter = bench.engine.load_adapter(&dir).await.unwrap().hash;
    let mut generation = bench.engine.begin(Start { adapter: Some(adapter), ..bench.start(Sampling::GREEDY, 4) }).await.unwrap();
    let error = generation.next().await.unwrap_err();
    assert!(matches!(error, EngineError::Model(ModelError::NotFinite { .. })), "{error}");
    assert!(error.to_string().contains("not finite"), "{error}");
    assert_eq!(bench.run(bench.start(Sampling::GREEDY, 4)).await.0.len(), 4, "others are served as before");
}

#[tokio::test]
async fn an_adapter_of_another_base_is_refused_with_both_hashes() {
    let bench = Bench::new(|_| {});
    let dir = bench.folder.path().join("foreign");
    tiny::write_adapter(&dir, Some([0xcd; 32]), 8, 1).unwrap();
    let error = bench.engine.load_adapter(&dir).await.unwrap_err();
    assert!(matches!(error, AdapterError::OtherBase { .. }));
    let text = error.to_string();
    assert!(text.contains(&"cd".repeat(32)) && text.contains(&hex::encode(bench.engine.info().hash)), "{text}");
}
