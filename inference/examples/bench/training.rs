//! Tokens that training takes in a second of processor time, on documents as long as a step of PyTorch's peft was measured on.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Result, ensure};
use inference::backend::cpu::kernel::limits::process_time;
use inference::train::{Arithmetic, CHECKPOINT_EVERY, Example, Progress, TrainConfig, TrainJob, train};

use crate::figures::Found;
use crate::{RANK, Settings};

/// Tokens fed of each document; the one behind them is only predicted.
const FED: usize = 256;
/// Documents of a step.
const DOCUMENTS: usize = 2;
/// Layers that are trained: more than any model here has, so all.
const LAYERS: usize = 1_000;

/// Tokens of a second of processor time, of all threads: matrices of rank 16 on every linear layer, every token counted, steps of 2 x 256 tokens. The first
/// step is not counted, nor what happens once a run: reading the model, packing its weights, the adapter's files.
pub(crate) fn steps(settings: &Settings) -> Result<Vec<Found>> {
    let figure = |name, arithmetic: Arithmetic, note: &str| -> Result<Found> {
        let note = format!("{note}; rank {RANK} on every linear layer, {DOCUMENTS} x {FED} tokens a step, {} threads", settings.threads);
        Ok(Found::plain(name, "tok/CPU-s", rates(settings, arithmetic)?, note))
    };
    Ok(vec![
        figure("train_tok_cpu_s", Arithmetic::I16, "frozen products in whole numbers")?,
        figure("train_f32_tok_cpu_s", Arithmetic::F32, "all in f32")?,
    ])
}

fn rates(settings: &Settings, arithmetic: Arithmetic) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let config =
        TrainConfig { rank: RANK, layers: LAYERS, batch: DOCUMENTS, max_length: FED + 1, passes: 1, arithmetic, ..TrainConfig::default() };
    let job = TrainJob {
        model: settings.model.clone(),
        expected_hash: None,
        base_name: "base".to_owned(),
        examples: (0..DOCUMENTS * (settings.rounds + 1)).map(document).collect(),
        held_out: Vec::new(),
        control: Vec::new(),
        config,
        checkpoint_every: CHECKPOINT_EVERY,
        out: folder.path().join("adapter"),
        dataset: serde_json::Value::Null,
    };
    let mut times: Vec<Duration> = Vec::new();
    let threads = rayon::ThreadPoolBuilder::new().num_threads(settings.threads.get()).build()?;
    let report = threads.install(|| {
        let trained = train(&job, &mut |progress| {
            if let Progress::Step { .. } = progress {
                times.push(process_time());
            }
            ControlFlow::Continue(())
        });
        trained.map_err(anyhow::Error::from)
    })?;
    ensure!(report.cut == job.examples.len(), "a document is shorter than {FED} tokens");
    let rate = |pair: &[Duration]| (DOCUMENTS * FED) as f64 / (pair[1] - pair[0]).as_secs_f64();
    Ok(times.windows(2).map(rate).collect())
}

/// A text of more than enough tokens, different for each number.
fn document(number: usize) -> Example {
    let sentence =
        |line: usize| format!("Of document {number} this is line {line}, after {} others and before the next. ", line * (number + 3) % 97);
    Example { id: number.to_string(), prompt: None, text: (0..FED / 8).map(sentence).collect() }
}
