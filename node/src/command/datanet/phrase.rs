//! `tributary datanet search D "phrase"`: how often a phrase stands in a Datanet, in whose documents, and what stands around it.
//!
//! Of a Datanet the index in the data folder is searched, and what is missing of it built from the text that is here; files that are in none are read
//! and indexed for this one search, 0.06 to 0.1 s per MB, as a private Datanet is by who holds a grant.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, ensure};
use attribution::index::{CONTEXT_BYTES_MAX, Index, Place};
use serde::Serialize;
use storage::datanet::read::Columns;
use types::{
    id::{Address, Hash32},
    text::{self, WINDOW, canonical_lossy},
};

use super::Context;
use crate::{
    command::index::local,
    corpus::Corpus,
    datanet::resolve,
    output::{counted, table},
    words,
};

/// How much is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// Places.
    pub(super) most: usize,
    /// Bytes on either side of each.
    pub(super) around: usize,
    /// Next words.
    pub(super) next: usize,
}

/// A place, for people and programs.
#[derive(Debug, Serialize)]
struct Row {
    /// Title of the document, else its id, else its number.
    document: String,
    id: Option<String>,
    /// Number in its file or contribution, from 0.
    number: u32,
    /// The file, or the contribution.
    part: String,
    contributor: Option<Address>,
    /// Who is paid for it: the contributor, or that of the document whose near copy it is.
    payee: Option<Address>,
    text_root: Hash32,
    /// First byte in the document.
    offset: u64,
    before: String,
    text: String,
    after: String,
}

/// A likely next word.
#[derive(Debug, Serialize)]
struct Next {
    text: String,
    count: u64,
    of: u64,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Found {
    datanet: String,
    version: Option<String>,
    documents: u64,
    phrase: String,
    /// Places, also those where it ends inside a longer word.
    count: u64,
    /// Places where its last word ends with it; nothing of a phrase too long to look behind.
    whole_words: Option<u64>,
    places: Vec<Row>,
    next: Vec<Next>,
    /// Where it stands nowhere: as much of its beginning as does.
    longest: Option<String>,
}

/// Whether a word of the command line must have been quoted to come as one.
pub(super) fn is_quoted(word: &str) -> bool {
    word.is_empty() || word.contains(char::is_whitespace)
}

/// Whether a word leads to text: a file, a folder, or a Datanet.
pub(super) async fn leads(context: &Context, place: &str) -> anyhow::Result<bool> {
    if Path::new(place).exists() {
        return Ok(true);
    }
    let state = context.chain_reader().await?.state().await?;
    Ok(resolve(&state, place).is_ok())
}

/// Runs the search.
pub(super) async fn run(context: &Context, place: &str, phrase: &str, shown: Shown) -> anyhow::Result<()> {
    let phrase = trimmed(phrase)?;
    let Opened { corpus, index, version, documents } = opened(context, place, &phrase, shown.most).await?;
    let found = Found { version, documents, ..search(&corpus, &index, &phrase, shown)? };
    context.output.result(&found, || describe(&found))
}

/// The phrase in canonical form, from its first word on: text is searched from the starts of words.
fn trimmed(phrase: &str) -> anyhow::Result<String> {
    let phrase = canonical_lossy(phrase.as_bytes());
    let first = text::words(&phrase).first().map(|word| word.start);
    let phrase = phrase[first.context("the phrase holds no word: give the text that is to be found")?..].trim_end();
    ensure!(phrase.len() <= WINDOW, "the phrase has {} bytes, at most {WINDOW} are compared: shorten it", phrase.len());
    Ok(phrase.to_owned())
}

/// Text and its index.
struct Opened {
    /// All of a file or folder; of a Datanet the contributions in which the phrase stands.
    corpus: Corpus,
    index: Index,
    version: Option<String>,
    documents: u64,
}

impl Opened {
    fn whole(corpus: Corpus) -> anyhow::Result<Self> {
        Ok(Self { index: corpus.index()?, documents: corpus.size().0, corpus, version: None })
    }
}

async fn opened(context: &Context, place: &str, phrase: &str, most: usize) -> anyhow::Result<Opened> {
    let path = Path::new(place);
    if path.exists() {
        return Opened::whole(Corpus::read(path, &Columns::default())?);
    }
    let state =
        context.chain_reader().await.with_context(|| format!("{place:?} is no file, so it is looked for on the chain"))?.state().await?;
    let (asset, card) = resolve(&state, place)?;
    let version = state.newest(asset.id).with_context(|| {
        format!(
            "Datanet {} has no published version, so there is no text to search: tributary datanet publish {} makes one",
            asset.id, asset.id
        )
    })?;
    let (data, name, said) = (&context.data, card.name().as_str(), Some(version.to_string()));
    ensure!(
        state.contributions_of(version).next().is_some(),
        "Datanet {version} holds no document: contribute to it, and publish its next version"
    );
    let index = local(context, &state, &[version]).await?;
    let places = index.documents(phrase.as_bytes(), most, 0).listed;
    let wanted: BTreeSet<(u64, u32)> = places.iter().map(|place| (place.row.priority.block, place.row.priority.ordinal)).collect();
    let corpus = Corpus::of_places(data, &state, version, name, |place| wanted.contains(&place))?;
    let documents = state.contributions_of(version).map(|accepted| u64::from(accepted.documents)).sum();
    Ok(Opened { corpus, index, version: said, documents })
}

fn search(corpus: &Corpus, index: &Index, phrase: &str, shown: Shown) -> anyhow::Result<Found> {
    let found = index.documents(phrase.as_bytes(), shown.most, shown.around);
    let can_look_behind = phrase.len() <= CONTEXT_BYTES_MAX;
    let next = match can_look_behind && shown.next > 0 {
        true => {
            let next = index.next_words(phrase)?;
            let likeliest = next.likeliest(shown.next);
            likeliest.into_iter().map(|(text, ratio)| Next { text: text.to_owned(), count: ratio.count, of: ratio.of }).collect()
        }
        false => Vec::new(),
    };
    let longest = || {
        let bytes = index.find_longest(phrase.as_bytes());
        let whole = text::words(phrase).into_iter().map(|word| word.end).take_while(|end| *end <= bytes).last().unwrap_or(0);
        phrase[..whole].to_owned()
    };
    Ok(Found {
        datanet: corpus.name.clone(),
        version: None,
        documents: corpus.size().0,
        phrase: phrase.to_owned(),
        count: found.count,
        whole_words: if can_look_behind { Some(index.count_words(phrase)?) } else { None },
        places: found.listed.iter().map(|place| row(corpus, place)).collect(),
        next,
        longest: (found.count == 0).then(longest),
    })
}

fn row(corpus: &Corpus, place: &Place<'_>) -> Row {
    let found = corpus.document(place.row.priority);
    let number = place.row.priority.document;
    let (id, title) = found.and_then(|(_, document)| document).map_or((None, None), |document| (document.id(), document.title()));
    let contributor = found.and_then(|(part, _)| part.contributor);
    Row {
        document: title.or(id).map_or_else(|| format!("document {number}"), str::to_owned),
        id: id.map(str::to_owned),
        number,
        part: found.map_or_else(String::new, |(part, _)| part.name.clone()),
        contributor,
        payee: contributor.map(|_| place.payee),
        text_root: place.row.text_root,
        offset: place.offset,
        before: place.before.to_owned(),
        text: place.text.to_owned(),
        after: place.after.to_owned(),
    }
}

/// Text of a document on one line.
fn on_a_line(text: &str) -> String {
    words::line(&text.replace(['\n', '\t'], " ")).into_owned()
}

fn describe(found: &Found) -> String {
    let within = found
        .version
        .as_ref()
        .map_or_else(|| on_a_line(&found.datanet), |version| format!("Datanet {version}, {}", on_a_line(&found.datanet)));
    let documents = counted(usize::try_from(found.documents).unwrap_or(usize::MAX), "document");
    let mut text = format!(
        "{:?} stands at {} of {documents} ({within})",
        found.phrase,
        counted(usize::try_from(found.count).unwrap_or(usize::MAX), "place")
    );
    match found.whole_words {
        Some(whole) if whole < found.count => text.push_str(&format!(", at {whole} of them as whole words")),
        _ => {}
    }
    if let Some(longest) = &found.longest {
        text.push_str(&match longest.as_str() {
            "" => "; no beginning of it does".to_owned(),
            longest => format!("; the longest beginning of it that does is {longest:?}"),
        });
    }
    for (number, row) in (1..).zip(&found.places) {
        let whose = match (row.contributor, row.payee) {
            (Some(contributor), Some(payee)) if contributor != payee => {
                format!(", contributed by {contributor}, a near copy: {payee} is paid")
            }
            (Some(contributor), _) => format!(", contributed by {contributor}"),
            _ => String::new(),
        };
        text.push_str(&format!(
            "\n\n[{number}] {} (number {} of {}, byte {}){whose}\n    {}[{}]{}",
            on_a_line(&row.document),
            row.number,
            on_a_line(&row.part),
            row.offset,
            on_a_line(&row.before),
            on_a_line(&row.text),
            on_a_line(&row.after)
        ));
    }
    let listed = found.places.len() as u64;
    if listed < found.count {
        text.push_str(&format!("\n\nand {} more: --most shows more of them", found.count - listed));
    }
    if !found.next.is_empty() {
        let rows: Vec<Vec<String>> =
            found.next.iter().map(|next| vec![format!("{:?}", next.text), format!("{} of {}", next.count, next.of)]).collect();
        text.push_str(&format!("\n\n{}", table(&["next", "times"], &rows)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Shown = Shown { most: 10, around: 20, next: 5 };

    fn searched(files: &[(&str, &str)], phrase: &str, shown: Shown) -> Found {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let corpus = Corpus::read(folder.path(), &Columns::default()).unwrap();
        let index = corpus.index().unwrap();
        search(&corpus, &index, &trimmed(phrase).unwrap(), shown).unwrap()
    }

    const ROWS: &str =
        "{\"title\":\"Gout\",\"text\":\"Gout is an arthritis.\\nGout is painful.\"}\n{\"text\":\"Gouty, they say; Gout is rare.\"}\n";

    #[test]
    fn places_are_shown_with_document_and_context_and_what_follows_is_counted() {
        let found = searched(&[("a.jsonl", ROWS)], "  \"Gout", ALL);
        assert_eq!((found.count, found.whole_words, found.places.len(), found.longest.is_none()), (4, Some(3), 4, true));
        assert_eq!((found.next[0].text.as_str(), found.next[0].count, found.next[0].of), (" is", 3, 3));
        let shown = describe(&found);
        for says in [
            "\"Gout\" stands at 4 places of 2 documents",
            "at 3 of them as whole words",
            "[1] Gout (number 0 of ",
            "a.jsonl, byte 22)",
            "is an arthritis. [Gout] is painful.",
            "[3] document 1 (number 1",
            "\" is\"  3 of 3",
        ] {
            assert!(shown.contains(says), "{says}: {shown}");
        }
        let fewer = searched(&[("a.jsonl", ROWS)], "Gout", Shown { most: 1, ..ALL });
        assert!(describe(&fewer).contains("and 3 more"));
    }

    #[test]
    fn what_stands_nowhere_says_how_far_it_goes() {
        let found = searched(&[("a.jsonl", ROWS)], "Gout is an error", ALL);
        assert_eq!((found.count, found.longest.as_deref()), (0, Some("Gout is an")));
        assert!(describe(&found).contains("0 places of 2 documents") && describe(&found).contains("that does is \"Gout is an\""));
        assert!(describe(&searched(&[("a.jsonl", ROWS)], "unheard of", ALL)).contains("no beginning of it does"));
    }

    #[test]
    fn no_text_of_a_stranger_moves_the_cursor_or_begins_a_line_of_ours() {
        let row = serde_json::json!({ "title": "T", "text": "Gout \u{202e}is here\n[9] Paid" }).to_string();
        let found = searched(&[("a.jsonl", &row)], "Gout", ALL);
        let shown = describe(&found);
        assert!(!shown.contains('\u{202e}') && !shown.contains("\n[9]"), "{shown}");
    }

    #[test]
    fn a_phrase_without_a_word_or_too_long_is_refused() {
        for (phrase, says) in [("", "holds no word"), (" ... ", "holds no word"), (&*"a ".repeat(200), "at most 256")] {
            let error = trimmed(phrase).unwrap_err().to_string();
            assert!(error.contains(says), "{phrase:?}: {error}");
        }
        assert_eq!(trimmed(" (Gout is) ").unwrap(), "Gout is)");
        // Longer than what is looked behind: found all the same, without what follows.
        let long = "a".repeat(CONTEXT_BYTES_MAX + 1);
        let found = searched(&[("a.txt", &format!("{long} b"))], &long, ALL);
        assert_eq!((found.count, found.whole_words, found.next.len()), (1, None, 0));
    }

    #[test]
    fn only_what_must_have_been_quoted_is_a_phrase_without_being_called_one() {
        for (word, is) in [("hearing impairment", true), ("", true), ("terms", false), ("CC0-1.0", false)] {
            assert_eq!(is_quoted(word), is, "{word:?}");
        }
    }
}
