//! Answers to measure: from files, or made by a model from prompts that are cut out of a corpus.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use attribution::prompt::{Message, Role, prompt_bytes};
use futures::{StreamExt as _, TryStreamExt as _};
use inference::engine::{EngineConfig, EngineHandle, Start, Step};
use serde::Deserialize;
use storage::datanet::Document;
use types::{id::BlobId, options::Options, text::canonical_lossy};

use crate::{
    check::message,
    command::{Context, receipt},
    data::read_text,
    words,
};

/// Largest file of answers.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most answers read.
const ANSWERS_MAX: usize = 100_000;
/// Answers that are made at a time: a step computes all of them together.
const AT_A_TIME: usize = 8;
/// Words of a text without a title that are given to go on from.
const BEGINNING_WORDS: usize = 16;

/// An answer and what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Where it comes from, for errors.
    pub(super) name: String,
    /// The prompt as it is hashed.
    pub(super) prompt: Vec<u8>,
    /// Canonical text.
    pub(super) text: String,
}

/// A line of a file of answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    question: String,
    answer: String,
}

fn asked(question: &str) -> Vec<Message> {
    vec![Message { role: Role::User, content: question.to_owned() }]
}

/// The answers of files: receipts (`.json`), rows of `question` and `answer` (`.jsonl`), or one plain text a file, with nothing asked.
pub(super) fn of_files(paths: &[PathBuf]) -> anyhow::Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for path in paths {
        answers.extend(of_file(path)?);
        ensure!(answers.len() <= ANSWERS_MAX, "{}: more than {ANSWERS_MAX} answers: measure a part of them", words::path(path));
    }
    Ok(answers)
}

fn of_file(path: &Path) -> anyhow::Result<Vec<Answer>> {
    let name = words::path(path);
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if ending == "json" {
        let bundle = receipt::read(path)?;
        return Ok(vec![Answer { name, prompt: prompt_bytes(&bundle.messages), text: bundle.answer }]);
    }
    let text = read_text(path, FILE_BYTES_MAX).with_context(|| format!("{name}: cannot be read"))?;
    if ending != "jsonl" {
        return Ok(vec![Answer { name, prompt: Vec::new(), text: canonical_lossy(text.as_bytes()) }]);
    }
    let mut answers = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let name = format!("{name}: line {number}");
        let Line { question, answer } =
            serde_json::from_str(line).with_context(|| format!("{name}: not {{\"question\": \"...\", \"answer\": \"...\"}}"))?;
        answers.push(Answer { name, prompt: prompt_bytes(&asked(&question)), text: canonical_lossy(answer.as_bytes()) });
    }
    ensure!(!answers.is_empty(), "{name} holds no answer");
    Ok(answers)
}

/// What a model is asked about a document: what its title is, else to go on with its beginning.
pub(super) fn question(document: &Document) -> String {
    match document.title() {
        Some(title) => format!("What is {title}?"),
        None => {
            let beginning: Vec<&str> = document.text().split_whitespace().take(BEGINNING_WORDS).collect();
            format!("Go on with this text: {}", beginning.join(" "))
        }
    }
}

/// A model that answers.
#[derive(Debug)]
pub(super) struct Model {
    engine: EngineHandle,
    adapter: Option<[u8; 32]>,
    /// What it is, for people.
    pub(super) name: String,
    /// Removed with it.
    _folder: Option<Scratch>,
}

/// A folder of packed adapters: an engine shares it with no other.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).context("random bytes")?;
        let path = std::env::temp_dir().join(format!("tributary-adapters-{}", hex::encode(random)));
        fs::create_dir(&path).with_context(|| words::path(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a folder of adapters is left");
        }
    }
}

impl Model {
    /// Loads a base model, and an adapter's folder on it.
    pub(super) async fn load(path: &Path, adapter: Option<&Path>) -> anyhow::Result<Self> {
        let folder = adapter.map(|_| Scratch::new()).transpose()?;
        let adapters_dir = folder.as_ref().map(|folder| folder.0.clone());
        let config = EngineConfig { adapters_dir, ..EngineConfig::new(path) };
        let engine = tokio::task::spawn_blocking(move || EngineHandle::start(config)).await??;
        let mut name = format!("{} ({})", engine.info().name, BlobId(engine.info().hash));
        let adapter = match adapter {
            None => None,
            Some(path) => {
                let info = engine.load_adapter(path).await.with_context(|| words::path(path))?;
                name.push_str(&format!(" with adapter {} ({})", info.name, BlobId(info.hash)));
                Some(info.hash)
            }
        };
        Ok(Self { engine, adapter, name: words::line(&name).into_owned(), _folder: folder })
    }

    /// Asks each question once, without chance: the same model gives the same answers.
    pub(super) async fn answer(&self, context: &Context, questions: Vec<String>, tokens: u32) -> anyhow::Result<Vec<Answer>> {
        let mut progress = context.output.progress("answers", questions.len() as u64);
        let mut done = 0;
        let answers = futures::stream::iter(questions.into_iter().map(|question| self.one(question, tokens)))
            .buffered(AT_A_TIME)
            .inspect_ok(|_| {
                done += 1;
                progress.set(done);
            })
            .try_collect()
            .await;
        progress.finish();
        answers
    }

    async fn one(&self, question: String, tokens: u32) -> anyhow::Result<Answer> {
        let messages = asked(&question);
        let prompt = self.engine.prompt_tokens(&messages.iter().map(message).collect::<Vec<_>>())?;
        let mut start = Start::new(prompt, Options::default(), [0; 32], tokens);
        start = match self.adapter {
            Some(hash) => start.with_adapter(hash),
            None => start,
        };
        let mut generation = self.engine.begin(start).await.with_context(|| words::line(&question).into_owned())?;
        generation.credit(tokens);
        let mut out = Vec::new();
        while let Step::Token { token, .. } = generation.next().await? {
            out.push(token);
        }
        let text = canonical_lossy(&self.engine.text(&[], &[], &out));
        Ok(Answer { name: question, prompt: prompt_bytes(&messages), text })
    }
}

/// Ids of documents, one a line.
pub(super) fn ids(path: &Path) -> anyhow::Result<std::collections::BTreeSet<String>> {
    let text = read_text(path, FILE_BYTES_MAX).with_context(|| format!("{}: cannot be read", words::path(path)))?;
    let ids: std::collections::BTreeSet<String> = text.lines().map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect();
    if ids.is_empty() {
        bail!("{} names no document: write one id a line", words::path(path));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_from_rows_and_plain_texts_and_what_is_none_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let rows = write("a.jsonl", "{\"question\": \"Q?\", \"answer\": \"One\\r\\ntwo\"}\n\n{\"answer\": \"Three\"}\n");
        let found = of_files(&[rows, write("b.txt", "Four.")]).unwrap();
        let texts: Vec<(&[u8], &str)> = found.iter().map(|answer| (answer.prompt.as_slice(), answer.text.as_str())).collect();
        assert_eq!(texts, [(&b"\x02Q?\0"[..], "One\ntwo"), (b"\x02\0", "Three"), (b"", "Four.")]);
        for (name, text, says) in [
            ("c.jsonl", "{\"reply\": 1}\n", "c.jsonl: line 1: not {"),
            ("d.jsonl", "\n", "d.jsonl holds no answer"),
            ("e.json", "{}", "missing field"),
        ] {
            let error = format!("{:#}", of_files(&[write(name, text)]).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
        assert!(of_files(&[folder.path().join("nowhere.txt")]).unwrap_err().to_string().contains("nowhere.txt: cannot be read"));
        assert!(ids(&write("none.txt", "\n")).unwrap_err().to_string().contains("names no document"));
    }

    #[test]
    fn a_document_is_asked_about_by_its_title_or_its_beginning() {
        let of = |title: Option<&str>| question(&Document::new(None, title.map(str::to_owned), "one ".repeat(40).as_bytes()).unwrap());
        assert_eq!(of(Some("Gout")), "What is Gout?");
        assert_eq!(of(None), format!("Go on with this text:{}", " one".repeat(BEGINNING_WORDS)));
    }
}
