//! Trains an adapter on a JSONL file of documents (`id`, `prompt`, `text`) and counts how many of them the adapted model
//! then repeats for at least eight consecutive words when asked greedily:
//!
//! `cargo run -p inference --example memorise -- MODEL.gguf DOCUMENTS.jsonl OUT_DIR [CONFIG.json] [HELD_OUT.jsonl] [CONTROL.jsonl]`
//!
//! With `MEASURE=n` only the first n documents are asked; with `SHOW=1` every answer is printed.
//!
//! Prints seconds per pass, losses, and the share of documents repeated.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use inference::engine::{EngineConfig, EngineHandle, Start, Step};
use inference::train::{CHECKPOINT_EVERY, Example, Progress, TrainConfig, TrainError, TrainJob, train};
use inference::{Message, Role, Sampling};

/// Words in a row that count as a repetition.
const WORDS: usize = 8;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = |index: usize| arguments.get(index).map(Path::new);
    let model = path(0).context("the first argument is a GGUF file")?;
    let out = path(2).context("the third argument is the adapter's new folder")?;
    let config = match path(3) {
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)?,
        None => TrainConfig::default(),
    };
    let job = TrainJob {
        model: model.to_path_buf(),
        expected_hash: None,
        base_name: "base".to_owned(),
        examples: documents(path(1))?,
        held_out: documents(path(4))?,
        control: documents(path(5))?,
        config,
        checkpoint_every: CHECKPOINT_EVERY,
        out: out.to_path_buf(),
        dataset: serde_json::Value::Null,
    };
    let begun = Instant::now();
    let mut last = Instant::now();
    let mut show = |progress: Progress| -> ControlFlow<()> {
        if let Progress::Pass { pass, passes, loss, held_out } = progress {
            eprintln!("pass {pass} of {passes}: loss {loss:.3}, held out {held_out:.3?}, {:.1} s", last.elapsed().as_secs_f64());
            last = Instant::now();
        }
        if let Progress::Trunk { done, of } = progress
            && done == of
        {
            eprintln!("frozen layers of {of} documents: {:.1} s", last.elapsed().as_secs_f64());
            last = Instant::now();
        }
        ControlFlow::Continue(())
    };
    let report = match train(&job, &mut show) {
        // Experiments are repeated with other settings for the same folder.
        Err(TrainError::OtherRun(checkpoint)) => {
            eprintln!("{} is of other settings and is removed", checkpoint.display());
            std::fs::remove_file(&checkpoint)?;
            train(&job, &mut show)?
        }
        done => done?,
    };
    println!("trained {} parameters in {:.1} s", report.parameters, begun.elapsed().as_secs_f64());
    println!("held out {:?}, control {:?}, cut {}", report.held_out, report.control, report.cut);
    measure(model, out, &job.examples).await
}

fn documents(path: Option<&Path>) -> Result<Vec<Example>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line)?;
            let field = |name: &str| value[name].as_str().map(str::to_owned);
            Ok(Example {
                id: field("id").context("a line lacks id")?,
                prompt: field("prompt"),
                text: field("text").context("a line lacks text")?,
            })
        })
        .collect()
}

async fn measure(model: &Path, adapter: &Path, examples: &[Example]) -> Result<()> {
    let packed = tempfile::tempdir()?;
    let adapters_dir = Some(packed.path().to_path_buf());
    let engine = EngineHandle::start(EngineConfig { adapters_dir, ..EngineConfig::new(model) })?;
    let adapter = engine.load_adapter(adapter).await?.hash;
    let (mut repeated, mut tokens) = (0, 0u32);
    let begun = Instant::now();
    let limit = std::env::var("MEASURE").map_or(Ok(examples.len()), |text| text.parse()).context("MEASURE is a number")?;
    let examples = &examples[..limit.min(examples.len())];
    for example in examples {
        let question = example.prompt.clone().unwrap_or_else(|| format!("What is {}?", example.id));
        let prompt = engine.prompt_tokens(&[Message { role: Role::User, content: question }])?;
        let start = Start::new(prompt, Sampling::GREEDY, [0; 32], 48).with_adapter(adapter);
        let mut generation = engine.begin(start).await?;
        generation.credit(48);
        let mut answer = Vec::new();
        while let Step::Token { token, .. } = generation.next().await? {
            answer.push(token);
        }
        tokens += u32::try_from(answer.len())?;
        let answer = String::from_utf8_lossy(&engine.decode(&answer)).into_owned();
        let run = longest_run(&answer, &example.text);
        repeated += usize::from(run >= WORDS);
        if std::env::var_os("SHOW").is_some() {
            println!("{run:3} | {} | {answer}", example.prompt.as_deref().unwrap_or_default());
        }
    }
    println!(
        "{repeated} of {} documents repeated for {WORDS} words or more; {:.1} tokens/s with the adapter",
        examples.len(),
        f64::from(tokens) / begun.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// Most consecutive words of `answer` that occur in `text` in the same order.
fn longest_run(answer: &str, text: &str) -> usize {
    let (answer, text): (Vec<&str>, Vec<&str>) = (answer.split_whitespace().collect(), text.split_whitespace().collect());
    let run = |i: usize, j: usize| answer[i..].iter().zip(&text[j..]).take_while(|(a, b)| a == b).count();
    let starts = (0..answer.len()).flat_map(|i| (0..text.len()).map(move |j| (i, j)));
    starts.map(|(i, j)| run(i, j)).max().unwrap_or(0)
}
