//! How long a node takes to attribute an answer: spans, masks, shares' weights, and the openings that go into the receipt.

use std::{fs, hint::black_box, io::BufReader, path::Path, sync::Arc, time::Instant};

use anyhow::{Context as _, Result, ensure};
use attribution::index::{DatanetIndex, Index, Segment, Source};
use inference::{Message, Role, engine::EngineHandle, proto::message::Turn};
use node::{
    evidence,
    service::{index::store::Indexes, inference::Offer},
};
use storage::datanet::{Document, contribution_text, read};
use types::{
    id::{Address, AssetId, AssetVersion},
    manifest::Manifest,
    text::{canonical_lossy, text_root},
};

use crate::{median, row};

/// Bytes of text that are searched.
const TEXT_BYTES: usize = 9_000_000;
/// Tokens of the answer.
const TOKENS: usize = 256;
const RUNS: usize = 101;
/// Words taken from one document into the answer, and what stands between two such runs.
const QUOTED_WORDS: usize = 14;
const BETWEEN: &str = ", which is not all there is to say, and ";

/// Times the attribution of an answer of [`TOKENS`] tokens over the demonstration's contributions.
///
/// # Errors
/// If there are no contributions, or the answer draws on none of them.
pub(crate) fn measure(engine: &EngineHandle, data: &Path, manifest: Manifest) -> Result<()> {
    let documents = documents(data)?;
    let real = contribution_text(&documents);
    // Repeated only where there is less than asked for.
    let mut text = real.clone();
    let mut again = documents.iter().cycle();
    while text.len() < TEXT_BYTES {
        text.extend(again.next().iter().flat_map(|document| [document.text(), "\0"]));
    }
    let root = text_root(text.as_bytes());
    let source = Source { contributor: Address([1; 20]), block: 1, ordinal: 0, text_root: root, text: text.as_bytes() };
    let datanet = DatanetIndex::new(AssetVersion { asset: AssetId(1), version: 1 }, vec![Segment::build(&[source], 0)?])?;
    let offer =
        Offer { manifest, index: Arc::new(Index::new(vec![Arc::new(datanet)])?), adapter: None, indexes: Arc::new(Indexes::in_memory()) };
    let answer = answer(engine, &documents)?;
    let prompt = evidence::prompt_bytes(&[Turn { role: 2, content: "What is said about this?".into() }]).map_err(anyhow::Error::msg)?;
    let (mut times_ms, mut spans) = (Vec::with_capacity(RUNS), 0);
    for _ in 0..RUNS {
        let start = Instant::now();
        let (attributed, openings) = black_box(evidence::attribute(&offer, &prompt, black_box(&answer))?);
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(openings.len() == attributed.spans.len(), "every span has its openings");
        spans = attributed.spans.len();
    }
    ensure!(spans > 0, "the answer quotes documents, and no span was found");
    let note = format!(
        "{TOKENS} tokens, {} bytes, {spans} spans with their openings, over {} bytes of text: {} bytes of documents, the first of them repeated",
        answer.len(),
        text.len(),
        real.len()
    );
    row("first.attribute_ms", median(times_ms), RUNS, note)
}

/// Every document of the folder's contributions, in order of the files' names.
fn documents(data: &Path) -> Result<Vec<Document>> {
    let mut paths: Vec<_> = fs::read_dir(data)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    let mut documents = Vec::new();
    for path in paths {
        let file = BufReader::new(fs::File::open(&path)?);
        documents.extend(read::documents(file, read::Format::Jsonl, None).with_context(|| path.display().to_string())?);
    }
    ensure!(!documents.is_empty(), "{} holds no contribution: run `cargo xtask fetch text`", data.display());
    Ok(documents)
}

/// An answer of [`TOKENS`] tokens by the model's own count: runs of words from documents all over the text, other words between.
fn answer(engine: &EngineHandle, documents: &[Document]) -> Result<String> {
    let long: Vec<&str> = documents.iter().map(Document::text).filter(|text| text.split(' ').count() > QUOTED_WORDS).collect();
    let step = (long.len() / 32).max(1);
    let quotes = long.iter().step_by(step).map(|text| text.split(' ').take(QUOTED_WORDS).collect::<Vec<_>>().join(" "));
    let all = quotes.collect::<Vec<_>>().join(BETWEEN);
    let tokens = |content: &str| engine.prompt_tokens(&[Message { role: Role::User, content: content.to_owned() }]);
    let (longer, other) = (tokens(&all)?, tokens("?")?);
    let template = longer.iter().zip(&other).take_while(|(one, two)| one == two).count();
    let ours = longer.get(template..template + TOKENS).context("the documents are too short for an answer")?;
    Ok(canonical_lossy(&engine.decode(ours)))
}
