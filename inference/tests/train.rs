//! Training on a generated model: what is written, that it loads, resumes and repeats.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use inference::adapter::{AdapterFiles, MANIFEST_FILE};
use inference::engine::{EngineConfig, EngineHandle, Start, Step};
use inference::train::{Example, Progress, TrainConfig, TrainError, TrainJob, TrainReport, train};
use inference::{Message, Role, Sampling, tiny};

fn example(id: &str, prompt: Option<&str>, text: &str) -> Example {
    Example { id: id.into(), prompt: prompt.map(Into::into), text: text.into() }
}

fn job(folder: &Path, out: &str) -> TrainJob {
    let model = folder.join("tiny.gguf");
    tiny::write_model(&model, 1).unwrap();
    TrainJob {
        model,
        expected_hash: None,
        base_name: "tiny".into(),
        examples: vec![
            example("one", Some("What is a?"), "a note on tea"),
            example("two", Some("What is b?"), "the nine of ten"),
            example("three", None, "plain text"),
        ],
        held_out: vec![example("held", Some("What is c?"), "into one tone")],
        control: vec![example("control", None, "0123 4567")],
        config: TrainConfig { rank: 8, learning_rate: 0.01, passes: 30, layers: 1, batch: 2, ..TrainConfig::default() },
        out: folder.join(out),
        dataset: serde_json::json!({ "datanet": 7 }),
    }
}

fn run(job: &TrainJob) -> TrainReport {
    train(job, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn partial(job: &TrainJob) -> PathBuf {
    PathBuf::from(format!("{}.partial", job.out.display()))
}

#[tokio::test]
async fn a_trained_adapter_loads_and_repeats_its_documents() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(folder.path(), "adapter");
    let report = run(&job);
    assert_eq!(report.losses.len(), 30);
    assert!(report.losses[29] < 0.2 && report.losses[0] > 3.0, "{:?}", report.losses);
    assert!(report.held_out.is_some() && report.control.is_some());
    assert!(!partial(&job).exists());

    let config = EngineConfig { adapters_dir: Some(folder.path().join("packed")), ..EngineConfig::new(&job.model) };
    let engine = EngineHandle::start(config).unwrap();
    let info = engine.load_adapter(&job.out).await.unwrap();
    assert_eq!((info.hash, info.rank), (report.adapter, 8));
    let question = Message { role: Role::User, content: "What is b?".into() };
    let prompt = engine.prompt_tokens(&[question]).unwrap();
    let start = Start::new(prompt, Sampling::GREEDY, [0; 32], 40).with_adapter(info.hash);
    let mut generation = engine.begin(start).await.unwrap();
    let mut tokens = Vec::new();
    while let Step::Token { token, .. } = generation.next().await.unwrap() {
        tokens.push(token);
    }
    assert_eq!(engine.decode(&tokens), b"the nine of ten");
}

#[test]
fn the_manifest_lists_what_was_trained_and_nothing_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path(), "adapter");
    job.config.passes = 1;
    run(&job);
    let bytes = std::fs::read(job.out.join(MANIFEST_FILE)).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let ids: Vec<&str> = manifest["documents"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["one", "two", "three"]);
    assert_eq!(manifest["documents"][0]["text"], blake3::hash(b"a note on tea").to_hex().as_str());
    assert_eq!(manifest["base"], blake3::hash(&tiny::model_bytes(1)).to_hex().as_str());
    assert_eq!(manifest["dataset"]["datanet"], 7);
    assert!(!String::from_utf8(bytes).unwrap().contains("held"));
    assert_eq!(hex::encode(AdapterFiles::read(&job.out).unwrap().base_hash().unwrap()), manifest["base"].as_str().unwrap());
}

#[test]
fn an_interrupted_run_goes_on_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut whole = job(folder.path(), "whole");
    whole.config.passes = 6;
    let expected = run(&whole);
    let broken = TrainJob { out: folder.path().join("broken"), ..whole.clone() };
    let stopped = train(&broken, &mut |progress| match progress {
        Progress::Pass { pass: 4, .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(TrainError::Stopped)));
    assert!(!broken.out.exists() && partial(&broken).exists());
    let resumed = run(&broken);
    assert_eq!((resumed.resumed, resumed.losses.len()), (4, 2));
    assert_eq!(resumed.adapter, expected.adapter);
}

#[test]
fn another_manifest_does_not_resume() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path(), "adapter");
    job.config.passes = 3;
    let stop = train(&job, &mut |progress| match progress {
        Progress::Pass { pass: 2, .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stop, Err(TrainError::Stopped)));
    job.examples[0].text.push('!');
    assert_eq!(run(&job).resumed, 0);
}

#[test]
fn bad_jobs_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |change: &dyn Fn(&mut TrainJob)| {
        let mut job = job(folder.path(), "refused");
        change(&mut job);
        let error = train(&job, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(!job.out.exists());
        error
    };
    assert!(refuse(&|job| job.held_out[0].id = "two".into()).contains("document two: it is held out and trained on"));
    assert!(refuse(&|job| job.examples[1].id = "one".into()).contains("document one: it is listed twice"));
    assert!(refuse(&|job| job.examples[2].text = String::new()).contains("document three"));
    assert!(refuse(&|job| job.examples[2].text = "x<|im_end|>".into()).contains("document three"));
    assert!(refuse(&|job| job.config.rank = 0).contains("rank is 0"));
    assert!(refuse(&|job| job.config.learning_rate = f64::NAN).contains("learning_rate is NaN"));
    assert!(refuse(&|job| job.expected_hash = Some([1; 32])).contains(&"01".repeat(32)));
    std::fs::create_dir(folder.path().join("there")).unwrap();
    let mut job = job(folder.path(), "there");
    job.config.passes = 1;
    assert!(matches!(train(&job, &mut |_| ControlFlow::Continue(())), Err(TrainError::Exists(_))));
}
