//! Documents without end from the rows of real corpora, the same for the same seed: each is some rows that a generator of 64 bits draws, so that two
//! share the words of a row now and then and are no near copies (of a million documents of eight rows out of sixty thousand).

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// Least bytes of a document.
const DOCUMENT_BYTES: usize = 1_000;
/// Most bytes that one row gives.
const ROW_BYTES: usize = 400;

/// Draws documents.
#[derive(Debug)]
pub(crate) struct Generator {
    rows: Vec<String>,
    state: u64,
}

impl Generator {
    /// From the `text` of JSONL files.
    pub(crate) fn of(corpora: &[PathBuf], seed: u64) -> Self {
        let mut rows = Vec::new();
        for path in corpora {
            let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for line in BufReader::new(file).lines() {
                let row: Value = serde_json::from_str(&line.expect("text")).expect("a JSON object a line");
                let text = row["text"].as_str().expect("a text").trim();
                rows.push(text[..text.floor_char_boundary(ROW_BYTES.min(text.len()))].to_owned());
            }
        }
        assert!(rows.len() > 1_000, "too few rows to draw from");
        Self { rows, state: seed }
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn document(&mut self) -> String {
        let mut text = String::new();
        while text.len() < DOCUMENT_BYTES {
            let count = u64::try_from(self.rows.len()).expect("rows in memory");
            let row = usize::try_from(self.draw() % count).expect("below the count");
            text.push_str(&self.rows[row]);
            text.push('\n');
        }
        text
    }

    /// Writes documents of `bytes` bytes of text in all; returns how many.
    pub(crate) fn write(&mut self, path: &Path, bytes: u64) -> u64 {
        let mut out = BufWriter::new(File::create(path).expect("a new file"));
        let (mut written, mut count) = (0, 0);
        while written < bytes {
            let text = self.document();
            written += u64::try_from(text.len()).expect("in memory");
            count += 1;
            serde_json::to_writer(&mut out, &json!({ "id": count, "text": text })).expect("room on the disk");
            out.write_all(b"\n").expect("room on the disk");
        }
        out.flush().expect("room on the disk");
        count
    }
}
