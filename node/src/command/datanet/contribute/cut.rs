//! Cuts what is read into shards: rows stream, one shard of them is held.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use storage::{
    datanet::{Document, read::ERRORS_MAX, shard},
    formats::{RowError, Rows},
};

use super::inputs::Inputs;

/// Rows of one shard, in bytes without compression. The one that the gate's rules look at takes some six times that (documents, their sketches and sorted bands, and those
/// of the shard before), the one read and the one written beside it some three times; each shard costs two transactions.
pub(super) const SHARD_BYTES: usize = 16 << 20;
/// Most documents of one shard: each costs 256 bytes of bands, 32 of entry and 72 of its own beside its text.
pub(super) const SHARD_DOCUMENTS_MAX: usize = 1 << 16;

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Spot {
    /// Number of the file, from 0.
    pub(in super::super) file: u32,
    /// Row in it, from 1.
    pub(in super::super) row: u32,
}

/// Rows for one shard.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) documents: Vec<Document>,
    pub(super) spots: Vec<Spot>,
    /// The last row that was taken.
    pub(super) end: Spot,
}

/// Reads the files of one contribution from a row on.
pub(super) struct Cutter {
    inputs: Arc<Inputs>,
    file: usize,
    rows: Option<Rows>,
    /// Read, and for the next shard.
    held: Option<(Spot, Document)>,
    is_per_file: bool,
    errors: Vec<RowError>,
    unlisted: usize,
    is_any: bool,
}

impl Cutter {
    /// From the beginning. `is_per_file`: no shard holds rows of two files.
    pub(super) const fn new(inputs: Arc<Inputs>, is_per_file: bool) -> Self {
        Self { inputs, file: 0, rows: None, held: None, is_per_file, errors: Vec::new(), unlisted: 0, is_any: false }
    }

    /// From behind the row `end` that an earlier run had taken.
    pub(super) fn behind(inputs: Arc<Inputs>, is_per_file: bool, end: Spot) -> anyhow::Result<Self> {
        let mut cutter = Self { file: usize::try_from(end.file)?, is_any: true, ..Self::new(inputs, is_per_file) };
        let mut rows = cutter.inputs.open(cutter.file)?;
        for _ in 0..end.row {
            rows.next().context("the file is shorter than it was")??;
        }
        cutter.rows = Some(rows);
        Ok(cutter)
    }

    fn row(&mut self) -> anyhow::Result<Option<(Spot, Document)>> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        while self.file < self.inputs.files.len() {
            let rows = match &mut self.rows {
                Some(rows) => rows,
                none => none.insert(self.inputs.open(self.file)?),
            };
            match rows.next() {
                Some(Ok(row)) => {
                    let spot =
                        Spot { file: u32::try_from(self.file)?, row: u32::try_from(row.number).context("a file of 2^32 rows: split it")? };
                    return Ok(Some((spot, row.document)));
                }
                Some(Err(error)) if self.errors.len() < ERRORS_MAX => self.errors.push(error),
                Some(Err(_)) => self.unlisted += 1,
                None => {
                    self.rows = None;
                    self.file += 1;
                }
            }
        }
        Ok(None)
    }

    /// The rows of the next shard; nothing behind the last one. Once a row is bad none is kept, and reading goes on to the end to show them all.
    pub(super) fn piece(&mut self) -> anyhow::Result<Option<Piece>> {
        let (mut documents, mut spots, mut bytes) = (Vec::new(), Vec::<Spot>::new(), 0);
        while let Some((spot, document)) = self.row()? {
            self.is_any = true;
            if !self.errors.is_empty() {
                documents.clear();
                spots.clear();
                continue;
            }
            let length = shard::row_len(&document);
            let is_full = bytes + length > SHARD_BYTES || documents.len() == SHARD_DOCUMENTS_MAX;
            let is_other = self.is_per_file && spots.last().is_some_and(|last| last.file != spot.file);
            if !documents.is_empty() && (is_full || is_other) {
                self.held = Some((spot, document));
                break;
            }
            bytes += length;
            documents.push(document);
            spots.push(spot);
        }
        if !self.errors.is_empty() {
            let mut lines: Vec<String> = self.errors.iter().map(ToString::to_string).collect();
            if self.unlisted > 0 {
                lines.push(format!("and {} more", self.unlisted));
            }
            bail!(lines.join("\n"));
        }
        match spots.last() {
            Some(end) => Ok(Some(Piece { end: *end, documents, spots })),
            None if self.is_any => Ok(None),
            None => {
                let name = self.inputs.files.first().map(|file| crate::words::path(&file.path)).unwrap_or_default();
                bail!("{name}: line 1: the file holds no document")
            }
        }
    }
}

/// Spots as stretches (first of them, how many): what a journal keeps of a million rows is one line.
pub(super) fn stretches(spots: &[Spot]) -> Vec<(Spot, u32)> {
    let mut all: Vec<(Spot, u32)> = Vec::new();
    for spot in spots {
        match all.last_mut() {
            Some((first, count)) if first.file == spot.file && first.row.checked_add(*count) == Some(spot.row) => *count += 1,
            _ => all.push((*spot, 1)),
        }
    }
    all
}

/// The spots of stretches.
pub(in super::super) fn spots(stretches: &[(Spot, u32)]) -> Vec<Spot> {
    let one = |(first, count): &(Spot, u32)| {
        let Spot { file, row } = *first;
        (0..*count).map(move |number| Spot { file, row: row.saturating_add(number) })
    };
    stretches.iter().flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use storage::formats::Columns;

    use super::*;

    fn inputs(folder: &tempfile::TempDir, files: &[(&str, String)]) -> Arc<Inputs> {
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let paths: Vec<_> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
        Arc::new(Inputs::find(&paths, None, Columns::default(), None).unwrap())
    }

    fn lines(count: usize, bytes: usize) -> String {
        (0..count).map(|number| format!("{{\"text\":\"{number} {}\"}}\n", "x".repeat(bytes))).collect()
    }

    #[test]
    fn shards_are_cut_at_their_size_and_a_later_run_goes_on_behind_any_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = inputs(&folder, &[("a.jsonl", lines(30, 900_000)), ("b.txt", "whole".into()), ("c.jsonl", lines(2, 10))]);
        let mut cutter = Cutter::new(Arc::clone(&inputs), false);
        let all: Vec<Piece> = std::iter::from_fn(|| cutter.piece().unwrap()).collect();
        assert_eq!(all.iter().map(|piece| piece.documents.len()).collect::<Vec<_>>(), [18, 15]);
        assert_eq!(all[1].end, Spot { file: 2, row: 2 });
        assert_eq!(spots(&stretches(&all[1].spots)), all[1].spots);
        assert_eq!(stretches(&all[1].spots).len(), 3);
        let mut cutter = Cutter::behind(inputs, false, all[0].end).unwrap();
        assert_eq!(cutter.piece().unwrap().unwrap().documents, all[1].documents);
        assert!(cutter.piece().unwrap().is_none());
    }

    #[test]
    fn files_stay_apart_where_they_shall() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = inputs(&folder, &[("a.jsonl", lines(3, 1)), ("b.jsonl", String::new()), ("c.jsonl", lines(2, 1))]);
        let mut cutter = Cutter::new(inputs, true);
        let counts: Vec<_> = std::iter::from_fn(|| cutter.piece().unwrap()).map(|piece| piece.documents.len()).collect();
        assert_eq!(counts, [3, 2]);
    }

    #[test]
    fn bad_rows_of_all_files_are_shown_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = inputs(&folder, &[("a.jsonl", "{\"text\":\"x\"}\n{\n".into()), ("b.csv", "text\n\"\"\n".into())]);
        let error = Cutter::new(inputs, false).piece().unwrap_err().to_string();
        assert!(error.contains("a.jsonl: line 2: not a document") && error.contains("b.csv: line 2: its text is missing"), "{error}");
        let empty = self::inputs(&folder, &[("e.jsonl", "\n\n".into())]);
        assert!(Cutter::new(empty, false).piece().unwrap_err().to_string().contains("holds no document"));
    }
}
