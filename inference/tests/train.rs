//! Training on a generated model: what is written, that it loads, resumes and repeats.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use inference::adapter::{AdapterFiles, MANIFEST_FILE};
use inference::engine::{EngineConfig, EngineHandle, Start, Step};
use inference::gguf::GgufFile;
use inference::train::{Arithmetic, CHECKPOINT_EVERY, Example, Progress, TrainConfig, TrainError, TrainJob, TrainReport, train};
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
        held_out: vec![example("unseen", Some("What is c?"), "into one tone")],
        control: vec![example("control", None, "0123 4567")],
        config: TrainConfig { rank: 8, learning_rate: 0.01, passes: 30, layers: 1, batch: 2, ..TrainConfig::default() },
        checkpoint_every: CHECKPOINT_EVERY,
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
    let text = String::from_utf8(bytes).unwrap();
    assert!(!text.contains("unseen") && !text.contains("into one tone"));
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
    assert_eq!((resumed.resumed, resumed.resumed_steps, resumed.losses.len()), (4, 8, 2));
    same(&whole, &expected, &broken, &resumed);
}

/// Both folders hold the same bytes, and both reports the same losses.
#[track_caller]
fn same(whole: &TrainJob, expected: &TrainReport, other: &TrainJob, got: &TrainReport) {
    assert_eq!(got.adapter, expected.adapter);
    assert_eq!((got.held_out, got.control), (expected.held_out, expected.control));
    assert_eq!(got.losses, expected.losses[got.resumed as usize..]);
    let names = |job: &TrainJob| -> BTreeSet<_> { std::fs::read_dir(&job.out).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    assert_eq!(names(other), names(whole));
    for name in names(whole) {
        assert!(std::fs::read(whole.out.join(&name)).unwrap() == std::fs::read(other.out.join(&name)).unwrap(), "{name:?}");
    }
}

/// A job of seven documents: four batches a pass, so two steps with two batches each, or four with one.
fn longer(folder: &Path, out: &str, accumulate: usize) -> TrainJob {
    let mut job = job(folder, out);
    job.examples.extend((0..4).map(|i| example(&format!("more {i}"), None, &"one to ten ".repeat(i + 1))));
    job.config = TrainConfig { passes: 3, accumulate, warm_up: 3, ..job.config };
    job
}

fn stop_at(step_of_run: usize) -> impl FnMut(Progress) -> ControlFlow<()> {
    let mut made = 0;
    move |progress| {
        made += usize::from(matches!(progress, Progress::Step { .. }));
        if made >= step_of_run { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn a_run_stopped_after_any_step_goes_on_from_it_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (accumulate, steps) in [(1, 12), (2, 6), (3, 6)] {
        let whole = longer(folder.path(), &format!("whole{accumulate}"), accumulate);
        let expected = run(&whole);
        for stop in 1..=steps {
            let broken = TrainJob { out: folder.path().join(format!("broken{accumulate}-{stop}")), ..whole.clone() };
            assert!(matches!(train(&broken, &mut stop_at(stop)), Err(TrainError::Stopped)));
            let resumed = run(&broken);
            assert_eq!(resumed.resumed_steps as usize, stop, "{accumulate} batches a step");
            same(&whole, &expected, &broken, &resumed);
        }
    }
}

/// What a kill leaves: the last checkpoint that was due, and any part of the next one beside it.
#[test]
fn a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut whole = longer(folder.path(), "whole", 2);
    whole.checkpoint_every = NonZeroU32::new(2).unwrap();
    whole.config.batch = 1;
    let (mut steps, mut due, mut next) = (0, Vec::new(), Vec::new());
    let checkpoint = |job: &TrainJob| partial(job).join("checkpoint.safetensors");
    let expected = train(&whole, &mut |progress| {
        if let Progress::Step { .. } = progress {
            steps += 1;
            match steps {
                3 => due = std::fs::read(checkpoint(&whole)).unwrap(),
                5 => next = std::fs::read(checkpoint(&whole)).unwrap(),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_ne!(due, next);
    for written in [0, 1, next.len() / 2, next.len()] {
        let killed = TrainJob { out: folder.path().join(format!("killed{written}")), checkpoint_every: CHECKPOINT_EVERY, ..whole.clone() };
        std::fs::create_dir(partial(&killed)).unwrap();
        std::fs::write(checkpoint(&killed), &due).unwrap();
        std::fs::write(checkpoint(&killed).with_extension("tmp"), &next[..written]).unwrap();
        let resumed = run(&killed);
        assert_eq!((resumed.resumed, resumed.resumed_steps), (0, 2));
        same(&whole, &expected, &killed, &resumed);
    }
}

#[test]
fn a_damaged_checkpoint_is_named_and_nothing_begins_anew_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let job = longer(folder.path(), "adapter", 1);
    assert!(matches!(train(&job, &mut stop_at(3)), Err(TrainError::Stopped)));
    let path = partial(&job).join("checkpoint.safetensors");
    let good = std::fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    for bytes in [Vec::new(), b"{}".to_vec(), good[..good.len() / 2].to_vec(), good[..good.len() - 1].to_vec(), flipped(good.len() - 5)] {
        std::fs::write(&path, &bytes).unwrap();
        let error = train(&job, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, TrainError::Checkpoint { .. }), "{error}");
        assert!(error.to_string().contains("checkpoint.safetensors") && error.to_string().contains("remove it"), "{error}");
    }
    std::fs::write(&path, &good).unwrap();
    assert_eq!(run(&job).resumed_steps, 3);
}

#[test]
fn a_checkpoint_of_which_any_field_changed_is_named_as_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let job = longer(folder.path(), "adapter", 1);
    assert!(matches!(train(&job, &mut stop_at(6)), Err(TrainError::Stopped)));
    let path = partial(&job).join("checkpoint.safetensors");
    let good = std::fs::read(&path).unwrap();
    for field in ["manifest", "pass", "made", "step", "total", "counted", "losses", "digest"] {
        let name = format!("\"{field}\":\"");
        let at = good.windows(name.len()).position(|window| window == name.as_bytes()).unwrap() + name.len();
        let mut bytes = good.clone();
        // A digit in any base.
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        std::fs::write(&path, &bytes).unwrap();
        let error = train(&job, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, TrainError::Checkpoint { .. }) && error.to_string().contains("damaged"), "{field}: {error}");
    }
    std::fs::write(&path, &good).unwrap();
    assert_eq!((run(&job).resumed, job.out.exists()), (1, true));
}

/// The batches of a step share its counted tokens: two of two documents move the matrices as one of four does, but for rounding.
#[test]
fn accumulated_batches_learn_as_one_large_batch_does() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |name: &str, batch, accumulate| {
        let mut job = longer(folder.path(), name, accumulate);
        (job.config.batch, job.config.passes) = (batch, 6);
        run(&job).losses
    };
    let (large, small) = (losses("large", 4, 1), losses("small", 2, 2));
    assert!(large[5] < large[0] / 2.0, "{large:?}");
    for (large, small) in large.iter().zip(&small) {
        assert!((large / small - 1.0).abs() < 1e-2, "{large} {small}");
    }
}

#[test]
fn losses_on_held_out_documents_are_told_after_every_pass_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let job = longer(folder.path(), "adapter", 1);
    let mut told = Vec::new();
    let report = train(&job, &mut |progress| {
        if let Progress::Pass { held_out, .. } = progress {
            told.push(held_out.unwrap());
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let held_out = report.held_out.unwrap();
    assert_eq!((told.len(), told[2]), (3, held_out.after));
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(job.out.join(MANIFEST_FILE)).unwrap()).unwrap();
    let near = |value: &serde_json::Value, loss: f64| assert!((value.as_f64().unwrap() / 1e6 - loss).abs() < 1e-6, "{value} {loss}");
    near(&manifest["measured"]["held_out"]["before"], held_out.before);
    near(&manifest["measured"]["held_out"]["after"], held_out.after);
    near(&manifest["measured"]["control"]["after"], report.control.unwrap().after);
    near(&manifest["measured"]["passes"][1], report.losses[1]);
    assert_eq!(manifest["config"]["arithmetic"], "i16");
    assert_eq!((manifest["config"]["accumulate"].as_u64(), manifest["config"]["warm_up"].as_u64()), (Some(1), Some(3)));
}

#[test]
fn both_arithmetics_learn_the_same_and_say_which_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, float] = [("whole", Arithmetic::I16), ("float", Arithmetic::F32)].map(|(name, arithmetic)| {
        let mut job = longer(folder.path(), name, 1);
        job.config.arithmetic = arithmetic;
        (run(&job), std::fs::read_to_string(job.out.join(MANIFEST_FILE)).unwrap())
    });
    assert!(whole.1.contains("\"arithmetic\": \"i16\"") && float.1.contains("\"arithmetic\": \"f32\""));
    let (whole, float) = (whole.0.losses, float.0.losses);
    // Later passes drift apart as far as a machine's vectors make them.
    assert!((whole[0] / float[0] - 1.0).abs() < 1e-2, "{whole:?} {float:?}");
    assert!(whole[2] < whole[0] && float[2] < float[0], "{whole:?} {float:?}");
}

#[test]
fn an_unfinished_run_with_another_manifest_is_named_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path(), "adapter");
    job.config.passes = 3;
    let stop = train(&job, &mut |progress| match progress {
        Progress::Pass { pass: 2, .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stop, Err(TrainError::Stopped)));
    let files = ["checkpoint.safetensors", MANIFEST_FILE].map(|name| partial(&job).join(name));
    let kept = files.each_ref().map(|path| std::fs::read(path).unwrap());
    job.examples[0].text.push('!');
    for rank in [8, 4, 16] {
        job.config.rank = rank;
        let error = train(&job, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, TrainError::OtherRun(_)) && error.to_string().contains("other settings"), "{error}");
        assert!(files.each_ref().map(|path| std::fs::read(path).unwrap()) == kept, "rank {rank}: both files are as they were");
    }
    std::fs::remove_file(&files[0]).unwrap();
    assert_eq!(run(&job).resumed, 0);
}

#[test]
fn a_base_whose_own_loss_is_no_number_is_refused_by_name_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for arithmetic in [Arithmetic::I16, Arithmetic::F32] {
        let mut job = job(folder.path(), "adapter");
        job.config = TrainConfig { passes: 1, arithmetic, ..job.config };
        // Finite, as every number of the file is; its product with most inputs is not.
        let norm = GgufFile::open(&job.model).unwrap().header().tensor("output_norm.weight").unwrap().clone();
        let mut bytes = std::fs::read(&job.model).unwrap();
        let start = usize::try_from(norm.offset).unwrap();
        bytes[start..][..4 * tiny::HIDDEN].as_chunks_mut::<4>().0.fill(f32::MAX.to_le_bytes());
        std::fs::write(&job.model, bytes).unwrap();
        let before = std::fs::read_dir(folder.path()).unwrap().count();
        let error = train(&job, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, TrainError::BaseLoss { loss } if !loss.is_finite()), "{arithmetic:?}: {error}");
        assert!(error.to_string().contains("before any training") && error.to_string().contains("take another base"), "{error}");
        assert!(!job.out.exists() && !partial(&job).exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before);
    }
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
    assert!(refuse(&|job| job.config.accumulate = 0).contains("accumulate is 0, expected 1 to 1,024 batches"));
    assert!(refuse(&|job| job.config.accumulate = 1_025).contains("accumulate is 1025"));
    assert!(refuse(&|job| job.config.warm_up = 100_001).contains("warm_up is 100001, expected 0 to 100,000 steps"));
    assert!(refuse(&|job| job.config.weight_decay = -0.1).contains("weight_decay is -0.1"));
    assert!(refuse(&|job| job.config.passes = 0).contains("passes is 0"));
    assert!(refuse(&|job| job.config.passes = 100_001).contains("passes is 100001, expected 1 to 100,000"));
    assert!(refuse(&|job| job.config.learning_rate = 1e-60).contains("learning_rate is 0.0"));
    assert!(refuse(&|job| job.config.clip = 1e60).contains("clip is 1000"));
    assert!(refuse(&|job| job.config.weight_decay = 1e60).contains("weight_decay is 1000"));
    assert!(refuse(&|job| job.expected_hash = Some([1; 32])).contains(&"01".repeat(32)));
    std::fs::create_dir(folder.path().join("there")).unwrap();
    let mut job = job(folder.path(), "there");
    job.config.passes = 1;
    assert!(matches!(train(&job, &mut |_| ControlFlow::Continue(())), Err(TrainError::Exists(_))));
}
