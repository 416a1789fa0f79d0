//! Which documents are trained on, which are held out, which are of another domain: by lists, or by a hash that nobody picks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, ensure};
use inference::train::Example;
use serde_json::json;
use storage::datanet::{Document, read};
use types::{
    id::{AssetVersion, BlobId, Hash32},
    merkle::keccak,
};

use super::{Context, TITLE, parse_version};
use crate::{
    data::read_bounded,
    datanet::{self, LocalContribution},
};

/// Largest list of document ids: 100,000 of at most 256 bytes.
const LIST_BYTES_MAX: u64 = 32 << 20;
/// Largest file of control documents.
const CONTROL_BYTES_MAX: u64 = 256 << 20;

/// Which documents are for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) trained: Vec<Example>,
    pub(super) held_out: Vec<Example>,
}

/// Why documents cannot be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelectionError {
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

/// Lists of ids as the person gave them.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) trained: Option<Vec<String>>,
    pub(super) held_out: Option<Vec<String>>,
}

/// Reads a list of ids, one a line; empty lines count for nothing.
pub(super) fn list(path: Option<&Path>, name: &'static str) -> anyhow::Result<Option<Vec<String>>> {
    let Some(path) = path else { return Ok(None) };
    let bytes = read_bounded(path, LIST_BYTES_MAX).with_context(|| format!("{name} {}: cannot be read", path.display()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{name} {}: must be UTF-8, one id a line", path.display()))?;
    Ok(Some(text.lines().map(|line| line.trim_end().to_owned()).collect()))
}

/// A Datanet's documents by what names them: the contributor's id, and the hash of the text.
pub(super) struct Named<'a> {
    datanet: AssetVersion,
    /// One document per text, the earliest, by hash.
    texts: BTreeMap<BlobId, &'a Document>,
    /// Hashes of the texts that bear an id.
    ids: BTreeMap<&'a str, BTreeSet<BlobId>>,
}

impl<'a> Named<'a> {
    pub(super) fn new(datanet: AssetVersion, contributions: &'a [LocalContribution]) -> Self {
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
    pub(super) fn select(&self, lists: &Lists, count: usize, held_out_count: usize, question: &str) -> Result<Selection, SelectionError> {
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
pub(super) fn control(
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
pub(super) fn dataset(version: AssetVersion, contributions: &[LocalContribution], selection: &Selection) -> serde_json::Value {
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

#[cfg(test)]
mod tests;
