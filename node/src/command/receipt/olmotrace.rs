//! A receipt's sources under the field names of OLMoTrace's backend (allenai/infinigram-api), for tools that read those.
//!
//! What differs is said here, because no field can: tokens are words, each with what stands before it, since a receipt says nothing of a tokenizer's
//! borders; every span is one that is paid, its first document the one whose holder is, and no document is drawn by lot; contexts are 250, 100 and
//! 40 words. What needs the index is null without it.

use std::path::Path;

use anyhow::{Context as _, ensure};
use attribution::{
    bundle::Bundle,
    index::{Index, Place},
    measure::NOT_A_CAUSE,
};
use serde::Serialize;
use types::{
    id::{Address, AssetVersion, Hash32},
    receipt::Span,
    text,
};

use super::{
    around::{Around, around},
    texts,
};
use crate::command::{Context, index::indexes};

/// Documents of a span, as many as its backend gives.
const DOCUMENTS_MAX: usize = 10;
/// Words of `textLong`, `text` and `textSnippet`.
const CONTEXT_WORDS: [usize; 3] = [250, 100, 40];
/// Bytes read on either side for the longest of them.
const CONTEXT_BYTES: usize = 4 << 10;

/// What its backend answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    /// Root of the index.
    index: Hash32,
    spans: Vec<Traced>,
    /// The answer's words, each with what stands before it; together the whole answer.
    input_tokens: Vec<String>,
    /// Not one of its fields.
    note: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Traced {
    /// First word.
    left: usize,
    /// Word behind the last.
    right: usize,
    length: usize,
    /// Places in the whole index.
    count: Option<u64>,
    /// Natural logarithm of the words' probabilities by the committed word table.
    unigram_logprob_sum: f64,
    text: String,
    /// Words have none.
    token_ids: Option<Vec<u32>>,
    documents: Vec<Document>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    /// Number of its row in its segment.
    document_index: u64,
    /// Bytes.
    document_length: u32,
    /// First byte of the span in it.
    needle_offset: u64,
    metadata: Metadata,
    text: String,
    text_long: Option<String>,
    text_snippet: String,
    blocked: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    datanet: Option<AssetVersion>,
    payee: Address,
    text_root: Hash32,
    block: u64,
    document: u32,
}

/// Prints it; `full` asks for the index, rebuilt from the data folder or from the folder named.
pub(super) async fn run(context: &Context, file: &Path, full: Option<Option<&Path>>) -> anyhow::Result<()> {
    let bundle = super::read(file)?;
    attribution::bundle::verify(&bundle).with_context(|| format!("{} does not verify and is not shown", file.display()))?;
    let index = match full {
        None => None,
        Some(Some(folder)) => Some(texts::from_folder(&indexes(context)?, folder, &bundle.manifest)?),
        Some(None) => Some(texts::from_data(context, &bundle.manifest).await.context("--full needs the text of every declared Datanet")?),
    };
    if let Some(index) = &index {
        let (signed, rebuilt) = (bundle.receipt.document.index, index.root());
        ensure!(
            signed == rebuilt,
            "the receipt is under index root {signed}, rebuilt from the texts it is {rebuilt}: they are not its texts"
        );
    }
    let response = response(&bundle, index.as_ref())?;
    let json = serde_json::to_string_pretty(&response)?;
    context.output.result(&response, || json)
}

fn response(bundle: &Bundle, index: Option<&Index>) -> anyhow::Result<Response> {
    let words = text::words(&bundle.answer);
    let receipt = &bundle.receipt.document;
    let spans = receipt.spans.iter().zip(&bundle.openings).map(|(span, opening)| {
        let start = usize::try_from(span.start)?;
        let end = start + usize::from(span.length);
        let text = bundle.answer.get(start..end).context("a span lies outside the answer")?;
        let first = |byte: usize| words.partition_point(|word| word.start < byte);
        let (left, right) = (first(start), first(end));
        let documents = match index {
            Some(index) => {
                let found = index.documents(text.as_bytes(), DOCUMENTS_MAX, CONTEXT_BYTES);
                found.listed.iter().map(|place| of_place(bundle, place)).collect()
            }
            None => vec![of_opening(bundle, span, text, around(span, opening), opening.document.opening.index)],
        };
        Ok(Traced {
            left,
            right,
            length: right - left,
            count: index.map(|index| index.count(text.as_bytes())),
            unigram_logprob_sum: -f64::from(span.weight) / 256.0 * std::f64::consts::LN_2,
            text: text.to_owned(),
            token_ids: None,
            documents,
        })
    });
    let spans = spans.collect::<anyhow::Result<_>>()?;
    Ok(Response { index: receipt.index, spans, input_tokens: tokens(&bundle.answer), note: NOT_A_CAUSE })
}

/// The answer in pieces: each word with what stands before it, and what stands behind the last.
fn tokens(answer: &str) -> Vec<String> {
    let ends = text::words(answer).into_iter().map(|word| word.end).chain([answer.len()]);
    let mut start = 0;
    let mut tokens: Vec<String> = ends.map(|end| answer[std::mem::replace(&mut start, end)..end].to_owned()).collect();
    tokens.pop_if(|last| last.is_empty());
    tokens
}

fn datanet(bundle: &Bundle, number: u8) -> Option<AssetVersion> {
    Some(bundle.manifest.datanets.get(usize::from(number))?.version)
}

fn of_place(bundle: &Bundle, place: &Place<'_>) -> Document {
    let [long, text, snippet] = CONTEXT_WORDS.map(|words| trimmed(place.before, place.text, place.after, words));
    Document {
        document_index: place.number,
        document_length: place.row.length,
        needle_offset: place.offset,
        metadata: Metadata {
            datanet: datanet(bundle, place.datanet),
            payee: place.payee,
            text_root: place.row.text_root,
            block: place.row.priority.block,
            document: place.row.priority.document,
        },
        text,
        text_long: Some(long),
        text_snippet: snippet,
        blocked: false,
    }
}

fn of_opening(bundle: &Bundle, span: &Span, quote: &str, around: Around, document_index: u64) -> Document {
    let [_, text, text_snippet] = CONTEXT_WORDS.map(|words| trimmed(&around.before, quote, &around.after, words));
    let Around { text_root, block, document, offset, document_bytes, .. } = around;
    Document {
        document_index,
        document_length: document_bytes,
        needle_offset: offset,
        metadata: Metadata { datanet: datanet(bundle, span.datanet), payee: span.payee, text_root, block, document },
        text,
        text_long: None,
        text_snippet,
        blocked: false,
    }
}

/// A text with so many words on both sides together, half of them before it.
fn trimmed(before: &str, text: &str, after: &str, words: usize) -> String {
    let (left, right) = (text::words(before), text::words(after));
    let first = left.len().checked_sub(words / 2);
    let from = first.map_or(0, |first| left.get(first).map_or(before.len(), |word| word.start));
    let to = right.get(words / 2).map_or(after.len(), |word| word.start);
    format!("{}{text}{}", &before[from..], &after[..to])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_whole_answer_in_order() {
        for (answer, expected) in [("One, two.", &["One", ", two", "."][..]), ("", &[]), ("...", &["..."]), ("a", &["a"])] {
            assert_eq!(tokens(answer), expected);
            assert_eq!(tokens(answer).concat(), answer);
        }
    }

    #[test]
    fn contexts_are_cut_to_words_on_both_sides() {
        assert_eq!(trimmed("one two three ", "gout", " four five six", 4), "two three gout four five ");
        assert_eq!(trimmed("one ", "gout", "", 4), "one gout");
        assert_eq!(trimmed("one two ", "gout", " three", 0), "gout ");
    }
}
