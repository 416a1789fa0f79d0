//! What infini-gram is asked (`tests/fixtures/attribution/peer.py`): the first part of the same text as its tokens, and queries like ours.
//!
//! A token is a word: the most frequent [`VOCABULARY`] ones each have a number, all others share one.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use types::text;

use crate::walk::Random;

const VOCABULARY: usize = 60_000;
/// What stands before each document.
const SEPARATOR: [u8; 2] = [0xff; 2];
const PATTERNS: usize = 1_000;
const ANSWERS: usize = 50;
const ANSWER_TOKENS: usize = 450;

/// Writes `tokenized.0`, `offset.0` and `queries.json` to `folder`.
pub(crate) fn write(folder: &Path, text: &[u8]) -> Result<(), Box<dyn Error>> {
    let text = &text[..text.iter().rposition(|byte| *byte == 0).ok_or("no document")?];
    let text = std::str::from_utf8(text)?;
    let documents = || text.split('\0').filter(|document| !document.is_empty());
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for document in documents() {
        text::words(document).into_iter().for_each(|word| *counts.entry(&document[word]).or_default() += 1);
    }
    let mut ranked: Vec<(u32, &str)> = counts.into_iter().map(|(word, count)| (count, word)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    let numbers: BTreeMap<&str, u16> = ranked.iter().take(VOCABULARY).map(|(_, word)| *word).zip(0..).collect();
    let other = u16::try_from(VOCABULARY)?;
    fs::create_dir_all(folder)?;
    let (mut tokens, mut offsets) =
        (BufWriter::new(File::create(folder.join("tokenized.0"))?), BufWriter::new(File::create(folder.join("offset.0"))?));
    let (mut at, mut all) = (0_u64, Vec::new());
    for document in documents() {
        offsets.write_all(&at.to_le_bytes())?;
        tokens.write_all(&SEPARATOR)?;
        let words = text::words(document);
        at += 2 * (words.len() as u64 + 1);
        for word in words {
            let number = numbers.get(&document[word]).copied().unwrap_or(other);
            tokens.write_all(&number.to_le_bytes())?;
            all.push(number);
        }
    }
    tokens.flush()?;
    offsets.flush()?;
    let mut random = Random(11);
    let mut run = |length: usize| {
        let at = random.next() % all.len().saturating_sub(length).max(1);
        all[at..all.len().min(at + length)].to_vec()
    };
    let patterns: Vec<Vec<u16>> = (0..PATTERNS).map(|_| run(5)).collect();
    // As ours: some 16 words quoted, four in between.
    let mut answer = || {
        let mut answer = Vec::new();
        while answer.len() < ANSWER_TOKENS {
            answer.extend(run(16));
            (0..4).for_each(|_| answer.extend(run(1)));
        }
        answer.truncate(ANSWER_TOKENS);
        answer
    };
    let answers: Vec<Vec<u16>> = (0..ANSWERS).map(|_| answer()).collect();
    let queries = serde_json::json!({ "text_bytes": text.len(), "tokens": all.len(), "patterns": patterns, "answers": answers });
    fs::write(folder.join("queries.json"), queries.to_string())?;
    Ok(())
}
