//! `tributary train`: a LoRA adapter from the documents of a Datanet, with what it changed measured on documents it never saw.

mod select;

use std::{
    num::NonZeroU32,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, bail, ensure};
use clap::Args as ClapArgs;
use inference::{
    gguf::GgufFile,
    train::{Arithmetic, CHECKPOINT_EVERY, Change, Progress, TrainConfig, TrainError, TrainJob, TrainReport, train},
};
use serde::Serialize;
use types::id::{AssetVersion, BlobId};

use self::select::{Lists, Named, control, dataset, list};
use super::{Context, adapter::parse_version};
use crate::{
    datanet::{self, terms},
    output::table,
};

/// Where a document's title stands in a question.
const TITLE: &str = "{title}";

/// Train an adapter on a Datanet's documents.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The Datanet's text must be here: `tributary datanet fetch DATANET` brings it. Documents are named by their contributor's id, or by the hash\nof their text. Unless a list names them, the held-out documents are the first by a hash of their ids: settled before training, picked by nobody.\nInterrupt it and run the same command again: it goes on from the last step, or after a kill from the last checkpoint, and ends with the same bytes.\n\nExamples:\n  tributary train --datanet 2@1 --base model.gguf --out medical-adapter --count 150\n  tributary train --datanet 2@1 --base model.gguf --out a --documents ids.txt --held-out rest.txt --control 3@1"
)]
pub struct Args {
    /// Datanet version to train on, as ASSET@VERSION.
    #[arg(long, value_parser = parse_version, value_name = "ASSET@VERSION")]
    datanet: AssetVersion,
    /// Base model file.
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Folder for the adapter; it appears when everything in it is complete.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Ids of the documents to train on, one a line [default: the first --count by hash].
    #[arg(long, value_name = "FILE")]
    documents: Option<PathBuf>,
    /// Ids of the documents to measure on, one a line [default: the first --held-out-count by hash of the rest].
    #[arg(long, value_name = "FILE")]
    held_out: Option<PathBuf>,
    /// Documents to train on, if no list names them.
    #[arg(long, default_value_t = 150, conflicts_with = "documents")]
    count: usize,
    /// Documents to hold out, if no list names them.
    #[arg(long, default_value_t = 30, conflicts_with = "held_out")]
    held_out_count: usize,
    /// Another domain to measure on: a Datanet version, or a JSONL file.
    #[arg(long, value_name = "ASSET@VERSION or FILE")]
    control: Option<String>,
    /// Documents of it to measure on.
    #[arg(long, default_value_t = 30)]
    control_count: usize,
    /// Times every document is seen.
    #[arg(long, default_value_t = TrainConfig::default().passes)]
    passes: u32,
    /// Rank of the matrices.
    #[arg(long, default_value_t = TrainConfig::default().rank)]
    rank: usize,
    /// Number of layers, counted from the output, that get matrices.
    #[arg(long, default_value_t = TrainConfig::default().layers)]
    layers: usize,
    /// Documents computed at once.
    #[arg(long, default_value_t = TrainConfig::default().batch)]
    batch: usize,
    /// Batches per step: their gradients are added before the matrices move, so memory stays that of one.
    #[arg(long, value_name = "BATCHES", default_value_t = TrainConfig::default().accumulate)]
    accumulate: usize,
    /// Steps over which the learning rate rises. The rise is multiplied with a half cosine from 1 to a tenth over the whole run: a rise of as many steps as
    /// the run has, or more, never reaches the largest rate.
    #[arg(long, value_name = "STEPS", default_value_t = TrainConfig::default().warm_up)]
    warm_up: u32,
    /// Steps between checkpoints; a pass ends with one, too.
    #[arg(long, value_name = "STEPS", default_value_t = CHECKPOINT_EVERY)]
    checkpoint_every: NonZeroU32,
    /// Products with frozen weights in f32 instead of whole numbers of sixteen bits: about three times the processor time with AVX-512 VNNI, for comparison.
    #[arg(long)]
    f32: bool,
    /// Largest learning rate.
    #[arg(long, default_value_t = TrainConfig::default().learning_rate)]
    learning_rate: f64,
    /// Tokens of a document with its question; longer ones are cut.
    #[arg(long, default_value_t = TrainConfig::default().max_length)]
    max_length: usize,
    /// Seed of the first matrices and of the order of documents.
    #[arg(long, default_value_t = TrainConfig::default().seed)]
    seed: u64,
    /// The question that a titled document answers; {title} stands for the title.
    #[arg(long, default_value = "What is {title}?")]
    question: String,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    adapter: BlobId,
    out: PathBuf,
    datanet: String,
    /// The licence that the adapter has to have, if the Datanet is share-alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    licence: Option<String>,
    documents: usize,
    held_out_documents: usize,
    control_documents: usize,
    parameters: usize,
    /// Complete passes taken over from an interrupted run.
    resumed_passes: u32,
    /// Steps taken over from it, those of complete passes included.
    resumed_steps: u32,
    /// Documents that were cut.
    cut: usize,
    /// Mean loss of each pass of this run, nats per token.
    losses: Vec<f64>,
    /// On documents never seen, nats per token.
    held_out: Option<Change>,
    /// On another domain, nats per token.
    control: Option<Change>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    ensure!(args.question.contains(TITLE), "--question {:?} does not say where the title goes: write {TITLE} in it", args.question);
    let state = context.chain_reader().await?.state().await?;
    ensure!(state.version(args.datanet).is_some(), "Datanet version {} is not published on this chain", args.datanet);
    let asset = state.asset(args.datanet.asset).with_context(|| format!("Datanet {} is not registered", args.datanet.asset))?;
    datanet::card_of(asset)?;
    terms::may_train(&state, asset.id)?;
    let licence = terms::alike_licence(&state, asset.id).map(|licence| licence.to_string());
    if let Some(licence) = &licence {
        context.output.note(&format!("Datanet {} is share-alike: what is trained on it is passed on under {licence}", asset.id));
    }
    let contributions = datanet::local_all(&context.data, &state, args.datanet)?;
    let lists = Lists { trained: list(args.documents.as_deref(), "--documents")?, held_out: list(args.held_out.as_deref(), "--held-out")? };
    let named = Named::new(args.datanet, &contributions);
    let selection = named.select(&lists, args.count, args.held_out_count, &args.question)?;
    let control = match &args.control {
        None => Vec::new(),
        Some(text) => control(context, &state, text, args.control_count, &args.question)?,
    };
    let base = GgufFile::open(&args.base).with_context(|| format!("{}", args.base.display()))?;
    let base_name = base.header().text("general.name").unwrap_or("unnamed").to_owned();
    let dataset = dataset(args.datanet, &contributions, &selection);
    let config = config(&args);
    let job = TrainJob {
        model: args.base,
        expected_hash: None,
        base_name,
        examples: selection.trained,
        held_out: selection.held_out,
        control,
        config,
        checkpoint_every: args.checkpoint_every,
        out: args.out,
        dataset,
    };
    let counts = (job.examples.len(), job.held_out.len(), job.control.len());
    context.output.note(&format!(
        "training on {} documents of Datanet {}, measuring on {} held out and {} of another domain",
        counts.0, args.datanet, counts.1, counts.2
    ));
    let (out, report) = work(context, job).await?;
    let printed = Printed { licence, ..printed(out, args.datanet, counts, report) };
    context.output.result(&printed, || describe(&printed))
}

fn config(args: &Args) -> TrainConfig {
    TrainConfig {
        passes: args.passes,
        rank: args.rank,
        layers: args.layers,
        batch: args.batch,
        accumulate: args.accumulate,
        warm_up: args.warm_up,
        arithmetic: if args.f32 { Arithmetic::F32 } else { TrainConfig::default().arithmetic },
        learning_rate: args.learning_rate,
        max_length: args.max_length,
        seed: args.seed,
        ..TrainConfig::default()
    }
}

/// Trains on a thread of its own; an interrupt ends it after the step under way, its checkpoint stays.
async fn work(context: &Context, job: TrainJob) -> anyhow::Result<(PathBuf, TrainReport)> {
    let is_stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_stopped);
    let output = context.output.clone();
    let mut training = tokio::task::spawn_blocking(move || {
        let mut shown = Shown { output, bar: None };
        let report = train(&job, &mut |progress| {
            shown.take(progress);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        shown.end();
        (job.out, report)
    });
    let done = tokio::select! {
        done = &mut training => done,
        _ = tokio::signal::ctrl_c() => {
            is_stopped.store(true, Ordering::Relaxed);
            training.await
        }
    };
    match done.context("the training thread ended by itself")? {
        (_, Err(TrainError::Stopped)) => bail!("interrupted; run the same command again to go on from the last step"),
        (out, report) => Ok((out, report?)),
    }
}

/// What a person sees of a run.
struct Shown {
    output: crate::output::Output,
    bar: Option<(String, crate::output::Progress)>,
}

impl Shown {
    fn take(&mut self, progress: Progress) {
        match progress {
            Progress::Trunk { done, of } => self.set("frozen layers, documents", done, of),
            Progress::Step { pass, passes, step, steps, .. } => self.set(&format!("pass {pass} of {passes}, steps"), step, steps),
            Progress::Pass { pass, passes, loss, held_out } => {
                self.end();
                let held_out = held_out.map_or_else(String::new, |loss| format!(", on held-out documents {loss:.3}"));
                self.output.note(&format!("pass {pass} of {passes}: loss {loss:.3}{held_out}"));
            }
        }
    }

    fn set(&mut self, what: &str, done: usize, of: usize) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        if self.bar.as_ref().is_none_or(|(shown, _)| shown != what) {
            self.end();
            self.bar = Some((what.to_owned(), self.output.progress(what, number(of))));
        }
        if let Some((_, bar)) = &mut self.bar {
            bar.set(number(done));
        }
        if done >= of {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish();
        }
    }
}

fn printed(
    out: PathBuf,
    datanet: AssetVersion,
    (documents, held_out_documents, control_documents): (usize, usize, usize),
    report: TrainReport,
) -> Printed {
    Printed {
        adapter: BlobId(report.adapter),
        out,
        datanet: datanet.to_string(),
        licence: None,
        documents,
        held_out_documents,
        control_documents,
        parameters: report.parameters,
        resumed_passes: report.resumed,
        resumed_steps: report.resumed_steps,
        cut: report.cut,
        losses: report.losses,
        held_out: report.held_out,
        control: report.control,
    }
}

fn describe(printed: &Printed) -> String {
    let row = |name: &str, documents: usize, change: Option<Change>| {
        change.map(|change| {
            vec![
                name.to_owned(),
                documents.to_string(),
                format!("{:.3}", change.before),
                format!("{:.3}", change.after),
                format!("{:+.3}", change.after - change.before),
            ]
        })
    };
    let rows: Vec<Vec<String>> =
        [row("held out", printed.held_out_documents, printed.held_out), row("control", printed.control_documents, printed.control)]
            .into_iter()
            .flatten()
            .collect();
    let mut text = format!(
        "adapter {} in {}\n{} parameters trained on {} documents of Datanet {}",
        printed.adapter,
        printed.out.display(),
        printed.parameters,
        printed.documents,
        printed.datanet
    );
    if printed.resumed_steps > 0 {
        text.push_str(&format!(", {} steps taken over from the interrupted run", printed.resumed_steps));
    }
    if printed.cut > 0 {
        text.push_str(&format!(", {} documents were cut at the length limit", printed.cut));
    }
    if !rows.is_empty() {
        text.push_str(&format!("\n\nloss in nats per token\n{}", table(&["documents", "number", "before", "after", "change"], &rows)));
    }
    let licence = printed.licence.as_ref().map_or_else(String::new, |licence| format!(" --licence \"{licence}\""));
    text.push_str(&format!(
        "\n\nNext: tributary adapter publish {} --name NAME --base BASE@VERSION --datanet {}{licence}",
        printed.out.display(),
        printed.datanet
    ));
    text
}

#[cfg(test)]
mod tests {
    use types::id::AssetId;

    use super::*;

    const VERSION: AssetVersion = AssetVersion { asset: AssetId(2), version: 1 };

    #[test]
    fn losses_are_printed_before_and_after() {
        let report = TrainReport {
            adapter: [1; 32],
            parameters: 10,
            losses: vec![2.0],
            resumed: 3,
            resumed_steps: 57,
            cut: 0,
            held_out: Some(Change { before: 2.731, after: 2.354 }),
            control: None,
        };
        let printed = Printed { licence: Some("CC-BY-SA-4.0".into()), ..printed("out".into(), VERSION, (5, 2, 0), report) };
        let text = describe(&printed);
        assert!(text.contains("held out   2       2.731   2.354  -0.377") && text.contains("57 steps taken over"), "{text}");
        assert!(text.ends_with("--datanet 2@1 --licence \"CC-BY-SA-4.0\""), "{text}");
        let value = serde_json::to_value(&printed).unwrap();
        assert_eq!(value["held_out"]["after"], 2.354);
        assert_eq!(value["adapter"], BlobId([1; 32]).to_string());
    }
}
