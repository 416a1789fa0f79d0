//! `tributary train`: a LoRA adapter from the documents of a Datanet, with what it changed measured on documents it never saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, bail, ensure};
use clap::Args as ClapArgs;
use inference::{
    gguf::GgufFile,
    train::{Change, Example, Progress, TrainConfig, TrainError, TrainJob, TrainReport, train},
};
use serde::Serialize;
use serde_json::json;
use storage::datanet::{Document, read};
use types::{
    id::{AssetVersion, BlobId, Hash32},
    merkle::keccak,
};

use super::{Context, adapter::parse_version};
use crate::{
    data::read_bounded,
    datanet::{self, LocalContribution},
    output::table,
};

/// Largest list of document ids: 100,000 of at most 256 bytes.
const LIST_BYTES_MAX: u64 = 32 << 20;
/// Largest file of control documents.
const CONTROL_BYTES_MAX: u64 = 256 << 20;
/// Where a document's title stands in a question.
const TITLE: &str = "{title}";

/// Train an adapter on a Datanet's documents.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The Datanet's text must be here: `tributary datanet fetch DATANET` brings it. Documents are named by their contributor's id, or by the hash\nof their text. Unless a list names them, the held-out documents are the first by a hash of their ids: settled before training, picked by nobody.\nInterrupt it and run the same command again: it goes on from the last complete pass.\n\nExamples:\n  tributary train --datanet 2@1 --base model.gguf --out medical-adapter --count 150\n  tributary train --datanet 2@1 --base model.gguf --out a --documents ids.txt --held-out rest.txt --control 3@1"
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
    /// Documents per step.
    #[arg(long, default_value_t = TrainConfig::default().batch)]
    batch: usize,
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

/// Which documents are for what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Selection {
    trained: Vec<Example>,
    held_out: Vec<Example>,
}

/// Why documents cannot be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum SelectionError {
    #[error("{list}, line {line}: document {id:?} is not in Datanet {datanet}")]
    Unknown { list: &'static str, line: usize, id: String, datanet: AssetVersion },
    #[error("{list}, line {line}: document {id:?} is listed twice")]
    Twice { list: &'static str, line: usize, id: String },
    #[error("{list} lists no document")]
    Empty { list: &'static str },
    #[error("document {id:?} is held out and trained on: choose the held-out documents from the rest")]
    Both { id: String },
    #[error("document {id:?} has the text of document {other:?}, which is trained on: hold another one out")]
    Copy { id: String, other: String },
    #[error("id {id:?} names several documents of the Datanet: list them by the hash of their text, {hashes}")]
    Ambiguous { id: String, hashes: String },
    #[error("{what} is 0: at least one document is needed")]
    Zero { what: &'static str },
    #[error("the Datanet holds {have} different documents, {need} are needed: lower --count or --held-out-count")]
    TooFew { have: usize, need: usize },
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    adapter: BlobId,
    out: PathBuf,
    datanet: String,
    documents: usize,
    held_out_documents: usize,
    control_documents: usize,
    parameters: usize,
    /// Passes taken over from an interrupted run.
    resumed_passes: u32,
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
        out: args.out,
        dataset,
    };
    let counts = (job.examples.len(), job.held_out.len(), job.control.len());
    context.output.note(&format!(
        "training on {} documents of Datanet {}, measuring on {} held out and {} of another domain",
        counts.0, args.datanet, counts.1, counts.2
    ));
    let (out, report) = work(context, job).await?;
    let printed = printed(out, args.datanet, counts, report);
    context.output.result(&printed, || describe(&printed))
}

fn config(args: &Args) -> TrainConfig {
    TrainConfig {
        passes: args.passes,
        rank: args.rank,
        layers: args.layers,
        batch: args.batch,
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
    let output = context.output;
    let mut training = tokio::task::spawn_blocking(move || {
        let mut shown = Shown { output, bar: None };
        let report = train(&job, &mut |progress| {
            shown.take(progress);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        shown.end();
        report.map(|report| (job.out, report))
    });
    let done = tokio::select! {
        done = &mut training => done,
        _ = tokio::signal::ctrl_c() => {
            is_stopped.store(true, Ordering::Relaxed);
            training.await
        }
    };
    match done.context("the training thread ended by itself")? {
        Err(TrainError::Stopped) => bail!("interrupted; run the same command again to go on from the last complete pass"),
        done => Ok(done?),
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
            Progress::Pass { pass, passes, loss } => {
                self.end();
                self.output.note(&format!("pass {pass} of {passes}: loss {loss:.3}"));
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

/// Lists of ids as the person gave them.
#[derive(Debug, Default)]
struct Lists {
    trained: Option<Vec<String>>,
    held_out: Option<Vec<String>>,
}

/// Reads a list of ids, one a line; empty lines count for nothing.
fn list(path: Option<&Path>, name: &'static str) -> anyhow::Result<Option<Vec<String>>> {
    let Some(path) = path else { return Ok(None) };
    let bytes = read_bounded(path, LIST_BYTES_MAX).with_context(|| format!("{name} {}: cannot be read", path.display()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{name} {}: must be UTF-8, one id a line", path.display()))?;
    Ok(Some(text.lines().map(|line| line.trim_end().to_owned()).collect()))
}

/// A Datanet's documents by what names them: the contributor's id, and the hash of the text.
struct Named<'a> {
    datanet: AssetVersion,
    /// One document per text, the earliest, by hash.
    texts: BTreeMap<BlobId, &'a Document>,
    /// Hashes of the texts that bear an id.
    ids: BTreeMap<&'a str, BTreeSet<BlobId>>,
}

impl<'a> Named<'a> {
    fn new(datanet: AssetVersion, contributions: &'a [LocalContribution]) -> Self {
        let (mut texts, mut ids) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for document in contributions.iter().flat_map(|contribution| &contribution.documents) {
            let hash = document.digest();
            texts.entry(hash).or_insert(document);
            if let Some(id) = document.id() {
                ids.entry(id).or_default().insert(hash);
            }
        }
        Self { datanet, texts, ids }
    }

    /// The name of a text in the manifest: its id if that names nothing else.
    fn name(&self, hash: BlobId) -> String {
        let id = self.texts.get(&hash).and_then(|document| document.id());
        let own = id.filter(|id| self.ids.get(id).is_some_and(|hashes| hashes.len() == 1));
        own.map_or_else(|| hash.to_string(), str::to_owned)
    }

    fn find(&self, list: &'static str, line: usize, id: &str) -> Result<BlobId, SelectionError> {
        if let Some(hashes) = self.ids.get(id) {
            let mut all = hashes.iter();
            return match (all.next(), all.next()) {
                (Some(hash), None) => Ok(*hash),
                _ => Err(SelectionError::Ambiguous {
                    id: id.to_owned(),
                    hashes: hashes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
                }),
            };
        }
        let hash = id.parse().ok().filter(|hash| self.texts.contains_key(hash));
        hash.ok_or_else(|| SelectionError::Unknown { list, line, id: id.to_owned(), datanet: self.datanet })
    }

    fn listed(&self, list: &'static str, ids: &[String]) -> Result<Vec<BlobId>, SelectionError> {
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        for (line, id) in (1..).zip(ids).filter(|(_, id)| !id.is_empty()) {
            let hash = self.find(list, line, id)?;
            if !seen.insert(hash) {
                return Err(SelectionError::Twice { list, line, id: id.clone() });
            }
            found.push(hash);
        }
        if found.is_empty() { Err(SelectionError::Empty { list }) } else { Ok(found) }
    }

    /// The first `count` texts that `is_free` names, by keccak of their names.
    fn drawn(&self, count: usize, is_free: impl Fn(&BlobId) -> bool) -> Vec<BlobId> {
        let mut ranked: Vec<(Hash32, BlobId)> =
            self.texts.keys().filter(|hash| is_free(hash)).map(|hash| (keccak(&[self.name(*hash).as_bytes()]), *hash)).collect();
        ranked.sort_unstable();
        ranked.into_iter().take(count).map(|(_, hash)| hash).collect()
    }

    /// What is trained on and what is held out: by the lists where they are given, else drawn, held-out documents first.
    fn select(&self, lists: &Lists, count: usize, held_out_count: usize, question: &str) -> Result<Selection, SelectionError> {
        let trained = lists.trained.as_deref().map(|ids| self.listed("--documents", ids)).transpose()?;
        let held_out = lists.held_out.as_deref().map(|ids| self.listed("--held-out", ids)).transpose()?;
        if trained.is_none() && count == 0 {
            return Err(SelectionError::Zero { what: "--count" });
        }
        let listed: BTreeSet<BlobId> = trained.iter().flatten().copied().collect();
        let held_out = held_out.unwrap_or_else(|| self.drawn(held_out_count, |hash| !listed.contains(hash)));
        let held: BTreeSet<BlobId> = held_out.iter().copied().collect();
        let need = held_out_count.saturating_add(if trained.is_none() { count } else { 0 });
        let trained = trained.unwrap_or_else(|| self.drawn(count, |hash| !held.contains(hash)));
        if let Some(hash) = trained.iter().find(|hash| held.contains(*hash)) {
            return Err(self.conflict(*hash, lists));
        }
        if lists.trained.is_none() && trained.len() < count || lists.held_out.is_none() && held_out.len() < held_out_count {
            return Err(SelectionError::TooFew { have: self.texts.len(), need });
        }
        let examples =
            |hashes: &[BlobId]| hashes.iter().filter_map(|hash| Some(example(self.name(*hash), self.texts.get(hash)?, question))).collect();
        Ok(Selection { trained: examples(&trained), held_out: examples(&held_out) })
    }

    /// Says whether the same id is on both lists, or two ids of one text.
    fn conflict(&self, hash: BlobId, lists: &Lists) -> SelectionError {
        let on = |ids: &Option<Vec<String>>| ids.iter().flatten().find(|id| self.find("", 0, id) == Ok(hash)).cloned();
        match (on(&lists.held_out), on(&lists.trained)) {
            (Some(id), Some(other)) if id != other => SelectionError::Copy { id, other },
            _ => SelectionError::Both { id: self.name(hash) },
        }
    }
}

fn example(id: String, document: &Document, question: &str) -> Example {
    Example { id, prompt: document.title().map(|title| question.replace(TITLE, title)), text: document.text().to_owned() }
}

/// Documents of another domain: the first by hash of a Datanet version, or of a JSONL file.
fn control(
    context: &Context,
    state: &chain_bridge::registry::State,
    text: &str,
    count: usize,
    question: &str,
) -> anyhow::Result<Vec<Example>> {
    ensure!(count > 0, "--control-count is 0: at least one document is needed");
    if let Ok(version) = parse_version(text) {
        ensure!(state.version(version).is_some(), "--control {version} is not published on this chain");
        let contributions = datanet::local_all(&context.data, state, version).context("--control")?;
        let named = Named::new(version, &contributions);
        let drawn = named.drawn(count, |_| true);
        return Ok(drawn.into_iter().filter_map(|hash| Some(example(named.name(hash), named.texts.get(&hash)?, question))).collect());
    }
    let path = Path::new(text);
    let bytes = read_bounded(path, CONTROL_BYTES_MAX)
        .with_context(|| format!("--control {text}: neither ASSET@VERSION nor a file that can be read"))?;
    let documents = read::documents(bytes.as_slice(), read::Format::Jsonl, None).with_context(|| format!("--control {text}"))?;
    let name = |document: &Document| document.id().map_or_else(|| document.digest().to_string(), str::to_owned);
    let mut ranked: Vec<(Hash32, Example)> =
        documents.iter().map(|document| (keccak(&[name(document).as_bytes()]), example(name(document), document, question))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().take(count).map(|(_, example)| example).collect())
}

/// What the training manifest says of the data: which contributions, and a digest of the names held out, which it does not list.
fn dataset(version: AssetVersion, contributions: &[LocalContribution], selection: &Selection) -> serde_json::Value {
    let mut names: Vec<&str> = selection.held_out.iter().map(|example| example.id.as_str()).collect();
    names.sort_unstable();
    json!({
        "datanet": version.to_string(),
        "contributions": contributions
            .iter()
            .map(|local| json!({ "text_root": local.accepted.text_root, "contributor": local.accepted.contributor, "documents": local.documents.len() }))
            .collect::<Vec<_>>(),
        "held_out": { "documents": names.len(), "digest": keccak(&[names.join("\n").as_bytes()]) },
    })
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
        documents,
        held_out_documents,
        control_documents,
        parameters: report.parameters,
        resumed_passes: report.resumed,
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
    if printed.resumed_passes > 0 {
        text.push_str(&format!(", {} passes taken over from the interrupted run", printed.resumed_passes));
    }
    if printed.cut > 0 {
        text.push_str(&format!(", {} documents were cut at the length limit", printed.cut));
    }
    if !rows.is_empty() {
        text.push_str(&format!("\n\nloss in nats per token\n{}", table(&["documents", "number", "before", "after", "change"], &rows)));
    }
    text.push_str(&format!(
        "\n\nNext: tributary adapter publish {} --name NAME --base BASE@VERSION --datanet {}",
        printed.out.display(),
        printed.datanet
    ));
    text
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::state::Accepted;
    use types::{
        contribution::Priority,
        id::{Address, AssetId},
    };

    use super::*;

    const VERSION: AssetVersion = AssetVersion { asset: AssetId(2), version: 1 };

    fn contribution(rows: &[(Option<&str>, Option<&str>, &str)]) -> LocalContribution {
        let documents: Vec<Document> = rows
            .iter()
            .map(|(id, title, text)| Document::new(id.map(str::to_owned), title.map(str::to_owned), text.as_bytes()).unwrap())
            .collect();
        let accepted = Accepted {
            datanet: VERSION.asset,
            number: 0,
            contributor: Address([1; 20]),
            text_root: Hash32([2; 32]),
            text_bytes: 1,
            documents: 1,
            priority: Priority::default(),
            licence: Hash32::ZERO,
            object: BlobId::ZERO,
            report: Hash32::ZERO,
            accepted: (1, 0),
        };
        LocalContribution { accepted, documents, text: Vec::new() }
    }

    fn five() -> Vec<LocalContribution> {
        vec![
            contribution(&[(Some("a"), Some("Ataxia"), "text a"), (Some("b"), None, "text b"), (Some("c"), Some("Gout"), "text c")]),
            contribution(&[(Some("d"), None, "text d"), (None, None, "text e"), (Some("c-again"), None, "text c")]),
        ]
    }

    fn ids(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn select(
        trained: Option<Vec<String>>,
        held_out: Option<Vec<String>>,
        count: usize,
        held_out_count: usize,
    ) -> Result<Selection, SelectionError> {
        let contributions = five();
        Named::new(VERSION, &contributions).select(&Lists { trained, held_out }, count, held_out_count, "What is {title}?")
    }

    #[test]
    fn lists_decide_and_titles_become_questions() {
        let selection = select(ids(&["c", "", "b"]), ids(&["a"]), 1, 1).unwrap();
        let shown: Vec<_> = selection.trained.iter().map(|example| (example.id.as_str(), example.prompt.as_deref())).collect();
        assert_eq!(shown, [("c", Some("What is Gout?")), ("b", None)]);
        assert_eq!(selection.held_out[0].text, "text a");
    }

    #[test]
    fn without_lists_the_draw_is_by_hash_and_disjoint() {
        let selection = select(None, None, 3, 2).unwrap();
        assert_eq!(selection, select(None, None, 3, 2).unwrap());
        let names: BTreeSet<_> = selection.trained.iter().chain(&selection.held_out).map(|example| example.text.clone()).collect();
        assert_eq!((selection.trained.len(), selection.held_out.len(), names.len()), (3, 2, 5));
        let first = select(None, None, 1, 2).unwrap();
        assert_eq!(first.held_out, selection.held_out, "the held-out documents do not depend on how many are trained on");
        let rest = select(ids(&["a", "b"]), None, 1, 3).unwrap();
        assert!(rest.held_out.iter().all(|example| !["text a", "text b"].contains(&example.text.as_str())));
    }

    #[test]
    fn documents_without_an_id_are_named_by_their_text() {
        let hash = BlobId::of(b"text e").to_string();
        let selection = select(ids(&[&hash]), ids(&["a"]), 1, 1).unwrap();
        assert_eq!((selection.trained[0].id.as_str(), selection.trained[0].text.as_str()), (hash.as_str(), "text e"));
    }

    #[test]
    fn bad_lists_are_refused_by_name() {
        let check = |trained: Option<Vec<String>>, held_out: Option<Vec<String>>, count, held_out_count, says: &str| {
            let error = select(trained, held_out, count, held_out_count).expect_err(says).to_string();
            assert!(error.contains(says), "{says}: {error}");
        };
        check(ids(&["a", "x"]), None, 1, 1, "--documents, line 2: document \"x\" is not in Datanet 2@1");
        check(ids(&["a", "", "a"]), None, 1, 1, "--documents, line 3: document \"a\" is listed twice");
        check(ids(&["a"]), ids(&["nobody"]), 1, 1, "--held-out, line 1");
        check(ids(&["", ""]), None, 1, 1, "--documents lists no document");
        check(ids(&["a"]), ids(&[]), 1, 1, "--held-out lists no document");
        check(ids(&["a", "b"]), ids(&["b"]), 1, 1, "document \"b\" is held out and trained on");
        check(ids(&["c"]), ids(&["c-again"]), 1, 1, "document \"c-again\" has the text of document \"c\"");
        check(None, None, 0, 1, "--count is 0");
        check(None, None, 4, 2, "holds 5 different documents, 6 are needed");
        check(ids(&["a", "b"]), None, 1, 4, "different documents");
    }

    #[test]
    fn an_id_of_two_texts_must_be_told_apart() {
        let contributions = vec![contribution(&[(Some("a"), None, "one"), (Some("a"), None, "two"), (Some("b"), None, "three")])];
        let named = Named::new(VERSION, &contributions);
        let lists = Lists { trained: ids(&["a"]), held_out: ids(&["b"]) };
        let error = named.select(&lists, 1, 1, "{title}").unwrap_err().to_string();
        assert!(error.contains(&BlobId::of(b"one").to_string()) && error.contains(" or "), "{error}");
        assert_eq!(named.name(BlobId::of(b"one")), BlobId::of(b"one").to_string());
    }

    #[test]
    fn the_dataset_of_a_manifest_lists_no_held_out_document() {
        let selection = select(ids(&["b", "c"]), ids(&["a"]), 1, 1).unwrap();
        let value = dataset(VERSION, &five(), &selection);
        assert_eq!((&value["datanet"], &value["held_out"]["documents"]), (&"2@1".into(), &1.into()));
        assert!(!value.to_string().contains("text a") && !value.to_string().contains("\"a\""));
    }

    #[test]
    fn losses_are_printed_before_and_after() {
        let report = TrainReport {
            adapter: [1; 32],
            parameters: 10,
            losses: vec![2.0],
            resumed: 3,
            cut: 0,
            held_out: Some(Change { before: 2.731, after: 2.354 }),
            control: None,
        };
        let printed = printed("out".into(), VERSION, (5, 2, 0), report);
        let text = describe(&printed);
        assert!(text.contains("held out   2       2.731   2.354  -0.377") && text.contains("3 passes taken over"), "{text}");
        let value = serde_json::to_value(&printed).unwrap();
        assert_eq!(value["held_out"]["after"], 2.354);
        assert_eq!(value["adapter"], BlobId([1; 32]).to_string());
    }
}
