//! What a profile loses against f32, as JSON lines: perplexities of held-out text of three corpora.
//!
//! `cargo run -p inference --example perplexity -- MODEL.gguf [CACHE] [WINDOWS] [held-out|other] [--profile exact|fast]`
//!
//! `CACHE` is the folder that `cargo xtask fetch` fills (`.cache`). Which text is held out is fixed: a document is if the first byte of the
//! BLAKE3 of its text is even. The corpora are terms of the Human Phenotype Ontology, Python's reference and weaknesses of CWE 1003; their
//! documents in the order of the file, a paragraph each, are cut into windows of 512 tokens, of which the first `WINDOWS` (20) are read.
//! The other half is what rules were chosen on.
//!
//! Both graphs read a window in chunks of 128, so the most that is held are two chunks of logits: 50 MB.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use inference::backend::cpu::{Cpu, CpuConfig};
use inference::backend::{Backend, Outputs, Profile};
use inference::model::packed::PackedModel;
use inference::model::{Cache, Model, PREFILL_CHUNK, Text};
use inference::quality::Comparison;
use inference::step::{PAGE_TOKENS, Span, Step};

/// Tokens of a window.
const WINDOW: usize = 512;
/// Windows of a corpus: 10,220 positions, which leaves the ratio a standard error of 0.1 %.
const WINDOWS: usize = 20;

fn main() -> Result<()> {
    let (arguments, profile) = arguments(std::env::args().skip(1))?;
    let path = Path::new(arguments.first().context("the first argument is a GGUF file")?);
    let cache = Path::new(arguments.get(1).map_or(".cache", String::as_str));
    let windows: usize = arguments.get(2).map_or(Ok(WINDOWS), |text| text.parse()).context("the third argument is a number of windows")?;
    let held_out = match arguments.get(3).map(String::as_str) {
        None | Some("held-out") => true,
        Some("other") => false,
        Some(half) => bail!("{half:?} is neither held-out nor other"),
    };
    let (graph, text) = Model::load(path, None)?;
    let model = Arc::new(PackedModel::load(path, None, profile)?.0);
    let pages = u32::try_from(WINDOW)?.div_ceil(PAGE_TOKENS);
    let mut cpu = Cpu::new(model, &CpuConfig { rows: PREFILL_CHUNK, pages, ..CpuConfig::default() })?;
    for (corpus, file, documents) in [
        ("medical", "demo/medical-a.jsonl", rows as fn(&str) -> Result<Vec<String>>),
        ("python", "demo/python-a.jsonl", rows),
        ("cwe", "text/cwe-1003.csv", weaknesses),
    ] {
        let file = cache.join(file);
        let content = std::fs::read_to_string(&file).with_context(|| format!("{}: run `cargo xtask fetch`", file.display()))?;
        let half: Vec<String> = documents(&content)?.into_iter().filter(|text| is_held_out(text) == held_out).collect();
        let windows = cut(&half, &text, windows)?;
        let mut comparison = Comparison::default();
        for window in &windows {
            compare(&graph, &mut cpu, window, &mut comparison)?;
        }
        println!("{}", row(corpus, profile, windows.len(), &comparison));
    }
    Ok(())
}

/// What stands in order, and the profile that is named anywhere: `exact` if none is.
fn arguments(all: impl Iterator<Item = String>) -> Result<(Vec<String>, Profile)> {
    let (mut arguments, mut profile, mut all) = (Vec::new(), Profile::Exact, all);
    while let Some(argument) = all.next() {
        if argument != "--profile" {
            arguments.push(argument);
            continue;
        }
        profile = match all.next().as_deref() {
            Some("exact") => Profile::Exact,
            Some("fast") => Profile::Fast,
            other => bail!("--profile is exact or fast, not {other:?}"),
        };
    }
    Ok((arguments, profile))
}

fn row(corpus: &str, profile: Profile, windows: usize, comparison: &Comparison) -> serde_json::Value {
    let (perplexities, percent, divergence) = (comparison.perplexities(), comparison.percent(), comparison.divergence());
    serde_json::json!({
        "corpus": corpus,
        "profile": profile.name(),
        "n": windows,
        "tokens": comparison.positions(),
        "perplexity_f32": perplexities.0,
        "perplexity": perplexities.1,
        "percent": percent.0,
        "percent_error": percent.1,
        "divergence": divergence.0,
        "divergence_max": divergence.1,
        "agreement": comparison.agreement(),
    })
}

/// Whether a document is of the half that no rule was chosen on.
fn is_held_out(document: &str) -> bool {
    blake3::hash(document.as_bytes()).as_bytes()[0].is_multiple_of(2)
}

/// The first windows of the documents' text.
fn cut(documents: &[String], text: &Text, count: usize) -> Result<Vec<Vec<u32>>> {
    let mut tokens = Vec::new();
    for document in documents {
        tokens.extend(text.tokenizer.encode_plain(&format!("{document}\n\n"))?);
        if tokens.len() >= count * WINDOW {
            break;
        }
    }
    let windows: Vec<Vec<u32>> = tokens.chunks_exact(WINDOW).take(count).map(<[u32]>::to_vec).collect();
    ensure!(!windows.is_empty(), "no window of {WINDOW} tokens");
    Ok(windows)
}

/// Title and text of the rows of a dataset.
fn rows(content: &str) -> Result<Vec<String>> {
    let part = |row: &serde_json::Value, key: &str| row[key].as_str().map(str::to_owned).with_context(|| format!("a row without {key}"));
    let each = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line)?;
        Ok(format!("{}\n{}", part(&row, "title")?, part(&row, "text")?))
    };
    content.lines().map(each).collect()
}

/// Name, description and extended description of the weaknesses: the second, fifth and sixth field of a row.
fn weaknesses(content: &str) -> Result<Vec<String>> {
    let each = |row: Vec<String>| {
        let [_, name, _, _, description, extended, ..] = row.as_slice() else { bail!("a row of {} fields", row.len()) };
        Ok(format!("{name}\n{description} {extended}"))
    };
    fields(content).into_iter().skip(1).map(each).collect()
}

/// Rows of a file of comma separated values (RFC 4180).
fn fields(content: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = content.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            character => field.push(character),
        }
    }
    if !(row.is_empty() && field.is_empty()) {
        row.push(field);
        rows.push(row);
    }
    rows
}

/// Adds every position of a window that has a token behind it.
fn compare(graph: &Model, cpu: &mut Cpu, window: &[u32], comparison: &mut Comparison) -> Result<()> {
    let (mut cache, mut out) = (Cache::new(graph.config()), cpu.outputs());
    let vocabulary = graph.config().vocabulary;
    for (at, chunk) in window.chunks(PREFILL_CHUNK).enumerate() {
        let from = at * PREFILL_CHUNK;
        let expected = graph.forward_all(chunk, &mut cache, None)?;
        read(cpu, chunk, u32::try_from(from)?, &mut out)?;
        let rows = expected.chunks_exact(vocabulary).zip(out.logits.chunks_exact(vocabulary));
        for ((expected, got), next) in rows.zip(&window[from + 1..]) {
            comparison.add(expected, got, *next);
        }
    }
    Ok(())
}

/// Computes a chunk of the only sequence, with the logits of every row.
fn read(cpu: &mut Cpu, tokens: &[u32], from: u32, out: &mut Outputs) -> Result<()> {
    let rows = u32::try_from(tokens.len())?;
    let (positions, wanted): (Vec<u32>, Vec<u32>) = ((from..from + rows).collect(), (0..rows).collect());
    let page_table: Vec<u32> = (0..cpu.limits().pages).collect();
    let pages = (from + rows).div_ceil(PAGE_TOKENS);
    let step = Step {
        tokens,
        positions: &positions,
        spans: &[Span { first_row: 0, rows, first_page: 0, pages }],
        page_table: &page_table,
        segments: &[],
        segment_rows: &[],
        wanted: &wanted,
    };
    cpu.forward(&step, out)?;
    ensure!(out.failed.is_empty(), "rows failed");
    Ok(())
}
