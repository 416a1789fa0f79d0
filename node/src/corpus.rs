//! Text to search and measure: files, folders, or a Datanet of which this machine has the contributions.
//!
//! A corpus is read whole: its text once, and as much again and some 1.2 bytes a byte for each index over it. A file is one part, a contribution
//! of a Datanet another; a place in an index leads back to the part, the document, and its title. Of a Datanet that is only searched nothing is
//! read but the parts in which something was found: its index is in files. An index over files is this machine's own: nobody committed to it,
//! nobody is paid by it.

mod reading;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use attribution::index::{DatanetIndex, Index, Segment, Source};
use chain_bridge::registry::{State, state::Accepted};
use storage::datanet::{Document, contribution_text, read::Columns};
use types::{
    contribution::Priority,
    id::{Address, AssetId, AssetVersion, BlobId},
    text::text_root,
};

use crate::{
    data::DataDir,
    datanet::{self, LocalContribution},
    words,
};

/// Most text of one corpus: with its index some 3 GB of memory.
pub const CORPUS_BYTES_MAX: u64 = 1 << 30;

/// Texts under one name.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    /// What it is called: the file, the folder, the Datanet.
    pub name: String,
    /// Its files or contributions, ascending by their places.
    pub parts: Vec<Part>,
    /// Files of a folder that no ending tells how to read.
    pub left_out: usize,
}

/// A file, or a contribution.
#[derive(Debug, Clone)]
pub struct Part {
    /// What it is called.
    pub name: String,
    /// Who contributed it; nobody is known to have written a file.
    pub contributor: Option<Address>,
    /// Block and ordinal of its commitment; of files their number.
    pub place: (u64, u32),
    /// Its documents, in order.
    pub documents: Vec<Document>,
}

impl Corpus {
    /// Reads a file, or the files below a folder that have a known ending.
    ///
    /// # Errors
    /// What is wrong with which file; that there is no document, or too much text.
    pub fn read(path: &Path, columns: &Columns) -> anyhow::Result<Self> {
        let (files, left_out) = reading::files(path)?;
        let mut bytes = 0_u64;
        let mut parts = Vec::with_capacity(files.len());
        for (ordinal, file) in (0..).zip(files) {
            let documents = reading::documents(&file, columns, &mut bytes)?;
            parts.push(Part { name: words::path(&file), contributor: None, place: (1, ordinal), documents });
        }
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        let corpus = Self { name: words::line(&name).into_owned(), parts, left_out };
        ensure!(corpus.documents().next().is_some(), "{} holds no document", words::path(path));
        Ok(corpus)
    }

    /// The contributions of a Datanet version, from the data folder.
    ///
    /// # Errors
    /// That one is not here, with the command that fetches it; that there is none.
    pub fn of_version(data: &DataDir, state: &State, version: AssetVersion, name: &str) -> anyhow::Result<Self> {
        let local = datanet::local_all(data, state, version)?;
        ensure!(!local.is_empty(), "Datanet {version} holds no document: contribute to it, and publish its next version");
        Ok(Self::of_contributions(name, &local))
    }

    /// Those contributions of a Datanet version that `is_wanted`, by block and ordinal. One whose text is not here is a part without documents.
    ///
    /// # Errors
    /// That one is here and cannot be read.
    pub fn of_places(
        data: &DataDir,
        state: &State,
        version: AssetVersion,
        name: &str,
        is_wanted: impl Fn((u64, u32)) -> bool,
    ) -> anyhow::Result<Self> {
        let wanted = state.contributions_of(version).filter(|accepted| is_wanted((accepted.priority.block, accepted.priority.ordinal)));
        let one = |accepted: &Accepted| {
            let nothing = || LocalContribution { accepted: accepted.clone(), documents: vec![], text: vec![], text_salt: None };
            anyhow::Ok(datanet::local(data, accepted)?.unwrap_or_else(nothing))
        };
        Ok(Self::of_contributions(name, &wanted.map(one).collect::<anyhow::Result<Vec<_>>>()?))
    }

    fn of_contributions(name: &str, local: &[LocalContribution]) -> Self {
        let part = |local: &LocalContribution| {
            let Accepted { number, contributor, priority, .. } = local.accepted;
            let (name, place) = (format!("contribution {number}"), (priority.block, priority.ordinal));
            Part { name, contributor: Some(contributor), place, documents: local.documents.clone() }
        };
        Self { name: name.to_owned(), parts: local.iter().map(part).collect(), left_out: 0 }
    }

    /// All its documents, in order.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.parts.iter().flat_map(|part| &part.documents)
    }

    /// How many documents, and bytes of text.
    pub fn size(&self) -> (u64, u64) {
        self.documents().fold((0, 0), |(count, bytes), document| (count + 1, bytes + document.text().len() as u64))
    }

    /// The part that a row of an index over this corpus speaks of, and the document if it was read.
    pub fn document(&self, priority: Priority) -> Option<(&Part, Option<&Document>)> {
        let part = self.parts.binary_search_by_key(&(priority.block, priority.ordinal), |part| part.place).ok()?;
        let part = &self.parts[part];
        Some((part, usize::try_from(priority.document).ok().and_then(|number| part.documents.get(number))))
    }

    /// What is in `is_first`, and what is not. A text that stands in both goes to the first alone.
    #[must_use]
    pub fn split(&self, is_first: impl Fn(&Document) -> bool) -> (Self, Self) {
        let taken: BTreeSet<BlobId> = self.documents().filter(|document| is_first(document)).map(Document::digest).collect();
        let only = |is_taken: bool| {
            let some = |part: &Part| {
                let documents: Vec<Document> =
                    part.documents.iter().filter(|document| taken.contains(&document.digest()) == is_taken).cloned().collect();
                (!documents.is_empty()).then(|| Part { documents, ..part.clone() })
            };
            Self { name: self.name.clone(), parts: self.parts.iter().filter_map(some).collect(), left_out: self.left_out }
        };
        (only(true), only(false))
    }

    /// An index of its own over it: 0.06 to 0.1 s per MB of text.
    ///
    /// # Errors
    /// Too much text.
    pub fn index(&self) -> anyhow::Result<Index> {
        let texts: Vec<String> = self.parts.iter().map(|part| contribution_text(&part.documents)).collect();
        let source =
            |(part, text): (&Part, &'_ String)| (part.contributor.unwrap_or(Address::ZERO), part.place, text_root(text.as_bytes()));
        let facts: Vec<_> = self.parts.iter().zip(&texts).map(source).collect();
        let sources: Vec<Source<'_>> = facts
            .iter()
            .zip(&texts)
            .map(|((contributor, (block, ordinal), text_root), text)| Source {
                contributor: *contributor,
                block: *block,
                ordinal: *ordinal,
                text_root: *text_root,
                text: text.as_bytes(),
            })
            .collect();
        let version = AssetVersion { asset: AssetId(0), version: 0 };
        let segment = Segment::build(&sources, 0).with_context(|| self.name.clone())?;
        Ok(Index::new(vec![Arc::new(DatanetIndex::new(version, vec![segment])?)])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(files: &[(&str, &str)]) -> anyhow::Result<Corpus> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Corpus::read(folder.path(), &Columns::default())
    }

    #[test]
    fn a_place_in_the_index_leads_back_to_the_file_and_its_document() {
        let rows = "{\"id\":\"x\",\"title\":\"Gout\",\"text\":\"Gout is an arthritis.\"}\n{\"text\":\"Nothing.\"}\n";
        let corpus = corpus(&[("a.txt", "A text about gout."), ("b.jsonl", rows), ("c.html", "left out")]).unwrap();
        assert_eq!((corpus.size(), corpus.left_out), ((3, 47), 1));
        let index = corpus.index().unwrap();
        let found = index.documents(b"Gout is", 5, 20);
        let (part, document) = corpus.document(found.listed[0].row.priority).unwrap();
        let document = document.unwrap();
        assert!(part.name.ends_with("b.jsonl"), "{}", part.name);
        assert_eq!((document.id(), document.title()), (Some("x"), Some("Gout")));
        let nowhere = Priority { block: 1, ordinal: 2, document: 0 };
        assert!(corpus.document(nowhere).is_none());
        assert!(corpus.document(Priority { block: 1, ordinal: 1, document: 2 }).unwrap().1.is_none());
    }

    #[test]
    fn a_text_that_is_there_twice_is_on_one_side_of_a_split() {
        let rows = "{\"id\":\"one\",\"text\":\"Same.\"}\n{\"id\":\"two\",\"text\":\"Same.\"}\n{\"id\":\"three\",\"text\":\"Other.\"}\n";
        let corpus = corpus(&[("a.jsonl", rows)]).unwrap();
        let (first, rest) = corpus.split(|document| document.id() == Some("two"));
        let ids = |corpus: &Corpus| corpus.documents().map(|document| document.id().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!((ids(&first), ids(&rest)), (vec!["one".to_owned(), "two".to_owned()], vec!["three".to_owned()]));
        let (none, all) = corpus.split(|_| false);
        assert_eq!((none.parts.len(), all.size().0), (0, 3));
    }
}
