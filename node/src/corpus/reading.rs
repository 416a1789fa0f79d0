//! Files as documents. What contributions are read from is read as they are ([`storage::formats`]); beside it
//! - plain text, cut at form feeds, and where that leaves more than [`PIECE_BYTES`], between paragraphs or lines;
//! - `.obo`, an ontology: each living term's definition under its name;
//! - `.xml`: the text between tags, a line each, cut as plain text is.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use storage::{
    datanet::{Document, read::Columns},
    formats::{self, Format, Naming},
};
use types::text::canonical_lossy;

use super::CORPUS_BYTES_MAX;
use crate::{data::read_bounded, words};

/// Longest piece that a plain text is cut to: some pages.
const PIECE_BYTES: usize = 4 << 10;
/// Most files of a folder.
const FILES_MAX: usize = 10_000;
/// Deepest folder.
const DEPTH_MAX: usize = 16;
/// First line of a section that is its title, at most.
const HEADING_BYTES_MAX: usize = 120;
/// Endings beside those of [`Format`].
const OTHER_ENDINGS: &str = ".obo, .xml";

/// What an ending says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rows(Format),
    Sections,
    Ontology,
    Markup,
}

fn kind(path: &Path) -> Option<Kind> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match (ending.as_str(), Format::of_extension(&ending)) {
        ("obo", _) => Kind::Ontology,
        ("xml", _) => Kind::Markup,
        (_, Some(Format::Text)) => Kind::Sections,
        (_, Some(format)) => Kind::Rows(format),
        _ => return None,
    })
}

/// The file, or those below a folder that can be read, in the order of their names; and how many others there are.
pub(super) fn files(path: &Path) -> anyhow::Result<(Vec<PathBuf>, usize)> {
    let about = fs::metadata(path).with_context(|| format!("{}: cannot be read", words::path(path)))?;
    let endings = format!("{}, {OTHER_ENDINGS}", Format::ENDINGS);
    if !about.is_dir() {
        // A pipe that nobody writes to is waited for for good, and a device has no end.
        ensure!(about.is_file(), "{}: not a regular file", words::path(path));
        ensure!(kind(path).is_some(), "{}: nothing tells how it is read: known endings are {endings}", words::path(path));
        return Ok((vec![path.to_owned()], 0));
    }
    let (mut found, mut left_out) = (Vec::new(), 0);
    below(path, 0, &mut found, &mut left_out)?;
    ensure!(!found.is_empty(), "{}: no file in this folder can be read: known endings are {endings}", words::path(path));
    Ok((found, left_out))
}

fn below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>, left_out: &mut usize) -> anyhow::Result<()> {
    ensure!(depth <= DEPTH_MAX, "{}: folders are nested deeper than {DEPTH_MAX}", words::path(folder));
    let unread = || format!("{}: cannot be read", words::path(folder));
    let mut entries = fs::read_dir(folder).with_context(unread)?.collect::<Result<Vec<_>, _>>().with_context(unread)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, about) = (entry.path(), entry.file_type().with_context(unread)?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if about.is_dir() {
            below(&path, depth + 1, found, left_out)?;
        } else if about.is_file() && kind(&path).is_some() {
            found.push(path);
        } else {
            *left_out += 1;
        }
        ensure!(found.len() <= FILES_MAX, "{}: more than {FILES_MAX} files: name a folder below it", words::path(folder));
    }
    Ok(())
}

/// The documents of a file; `bytes` counts the text of all files read so far.
pub(super) fn documents(path: &Path, columns: &Columns, bytes: &mut u64) -> anyhow::Result<Vec<Document>> {
    let Some(kind) = kind(path) else { bail!("{}: nothing tells how it is read", words::path(path)) };
    let documents = match kind {
        Kind::Rows(format) => rows(path, format, columns, *bytes)?,
        Kind::Sections => sections(&whole(path)?),
        Kind::Ontology => ontology(&whole(path)?),
        Kind::Markup => sections(&between_tags(&whole(path)?)),
    };
    *bytes += documents.iter().map(|document| document.text().len() as u64).sum::<u64>();
    ensure!(*bytes <= CORPUS_BYTES_MAX, "{}: {}", words::path(path), too_long());
    Ok(documents)
}

fn too_long() -> String {
    format!("up to here there are more than {CORPUS_BYTES_MAX} bytes of text: measure a part of it")
}

fn rows(path: &Path, format: Format, columns: &Columns, before: u64) -> anyhow::Result<Vec<Document>> {
    let file = File::open(path).with_context(|| format!("{}: cannot be read", words::path(path)))?;
    let title = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let naming = Naming { file: words::path(path), title, columns: columns.clone() };
    let (mut documents, mut bytes) = (Vec::new(), before);
    for row in formats::rows(file, format, naming) {
        let document = row?.document;
        bytes += document.text().len() as u64;
        ensure!(bytes <= CORPUS_BYTES_MAX, "{}: {}", words::path(path), too_long());
        documents.push(document);
    }
    Ok(documents)
}

/// A file as text; what is no UTF-8 in it becomes U+FFFD.
fn whole(path: &Path) -> anyhow::Result<String> {
    let bytes = read_bounded(path, CORPUS_BYTES_MAX).with_context(|| format!("{}: cannot be read", words::path(path)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A document of canonical text; nothing of a text that is empty then.
fn document(id: Option<&str>, title: Option<&str>, text: &str) -> Option<Document> {
    let line = |text: &str| canonical_lossy(text.as_bytes()).split_whitespace().collect::<Vec<_>>().join(" ");
    let text = canonical_lossy(text.trim().as_bytes());
    // A label that is none is left out: the text is what counts.
    Document::new(id.map(line), title.map(line), text.as_bytes()).or_else(|_| Document::new(None, None, text.as_bytes())).ok()
}

/// Sections between form feeds, each with its first line for a title; what is too long is cut.
fn sections(text: &str) -> Vec<Document> {
    let is_divided = text.contains('\x0c');
    let mut documents = Vec::new();
    for section in text.split('\x0c') {
        let heading = section.trim_start().lines().next().filter(|line| is_divided && line.len() <= HEADING_BYTES_MAX);
        documents.extend(pieces(section).into_iter().filter_map(|piece| document(None, heading, piece)));
    }
    documents
}

/// Pieces of at most [`PIECE_BYTES`], cut behind an empty line where there is one, else behind a line, else behind a blank or a character.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while text.len() > PIECE_BYTES {
        let most = text.floor_char_boundary(PIECE_BYTES);
        let behind = |mark: &str| text[..most].rfind(mark).map(|at| at + mark.len()).filter(|at| *at > PIECE_BYTES / 4);
        let cut = behind("\n\n").or_else(|| behind("\n")).or_else(|| behind(" ")).unwrap_or(most);
        pieces.push(&text[..cut]);
        text = &text[cut..];
    }
    pieces.push(text);
    pieces
}

/// Definitions of an OBO file's living terms: `def: "..."` with the marks that the format escapes.
fn ontology(text: &str) -> Vec<Document> {
    let term = |stanza: &str| {
        let stanza = stanza.split("\n[").next().unwrap_or_default();
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let definition = quoted(field("def")?)?;
        let is_living = field("is_obsolete") != Some("true");
        if is_living { document(field("id"), field("name"), &definition) } else { None }
    };
    text.split("[Term]\n").skip(1).filter_map(term).collect()
}

/// What stands between the first quotation mark and the next that is not escaped.
fn quoted(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut letters = text.strip_prefix('"')?.chars();
    loop {
        match letters.next()? {
            '"' => return Some(out),
            '\\' => match letters.next()? {
                'n' | 't' => out.push(' '),
                letter => out.push(letter),
            },
            letter => out.push(letter),
        }
    }
}

/// The text between tags, a line for each that holds a word.
fn between_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len() / 2);
    for piece in text.split('<').skip(1).filter_map(|piece| Some(piece.split_once('>')?.1.trim())).filter(|piece| !piece.is_empty()) {
        out.push_str(&unescaped(piece));
        out.push('\n');
    }
    out
}

/// The five entities that every XML has; another stays as it is written.
fn unescaped(text: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    named.iter().fold(text.to_owned(), |text, (entity, letter)| text.replace(entity, letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(documents: &[Document]) -> Vec<(Option<&str>, &str)> {
        documents.iter().map(|document| (document.title(), document.text())).collect()
    }

    #[test]
    fn living_terms_of_an_ontology_are_documents_under_their_names() {
        let text = "format-version: 1.2\n\n[Term]\nid: HP:1\nname: Gout\ndef: \"An \\\"arthritis\\\".\" [x]\n\n[Term]\nid: HP:2\nname: Old\nis_obsolete: true\ndef: \"Gone.\" []\n\n[Term]\nid: HP:3\nname: Bare\n\n[Typedef]\ndef: \"No term.\" []\n";
        let found = ontology(text);
        assert_eq!((texts(&found), found[0].id()), (vec![(Some("Gout"), "An \"arthritis\".")], Some("HP:1")));
        assert!(ontology("").is_empty() && ontology("[Term]\ndef: \"open").is_empty() && ontology("[Term]\ndef: \"a\\").is_empty());
    }

    #[test]
    fn text_between_tags_stands_on_lines_of_its_own() {
        assert_eq!(between_tags("<?xml?><a>\n <b>Gout &amp;lt; &lt;x</b> tail<c/></a>"), "Gout &lt; <x\ntail\n");
        assert_eq!((between_tags("no tags").as_str(), between_tags("<open").as_str()), ("", ""));
    }

    #[test]
    fn sections_are_cut_between_paragraphs_and_lose_nothing() {
        assert_eq!(
            texts(&sections("\x0cassert\nBody one.\x0cdel\nBody two.")),
            [(Some("assert"), "assert\nBody one."), (Some("del"), "del\nBody two.")]
        );
        let paragraph = "word ".repeat(150);
        let long = vec![paragraph.trim(); 20].join("\n\n");
        let pieces = pieces(&long);
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.len() <= PIECE_BYTES), "{}", pieces.len());
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| piece.ends_with("\n\n")));
        assert_eq!(pieces.concat(), long);
        for text in ["é".repeat(5_000), "a".repeat(9_000), String::new()] {
            assert_eq!(super::pieces(&text).concat(), text);
        }
        assert!(sections("").is_empty() && sections(" \x0c\n").is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("empty")).unwrap();
        fs::write(at("x.html"), "x").unwrap();
        fs::write(at("bad.jsonl"), "{\"text\": 3}\n").unwrap();
        for (name, says) in [("nowhere", "cannot be read"), ("empty", "no file in this folder"), ("x.html", "known endings are .jsonl")] {
            let error = format!("{:#}", files(&at(name)).unwrap_err());
            assert!(error.contains(name) && error.contains(says), "{error}");
        }
        assert!(files(Path::new("/dev/zero")).unwrap_err().to_string().contains("not a regular file"));
        let error = documents(&at("bad.jsonl"), &Columns::default(), &mut 0).unwrap_err().to_string();
        assert!(error.contains("bad.jsonl: line 1"), "{error}");
        assert_eq!(files(folder.path()).unwrap(), (vec![at("bad.jsonl")], 1));
    }
}
