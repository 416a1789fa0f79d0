//! How well the gate tells near copies and personal data, beside others who were asked about the same rows.
//!
//! `cargo bench -p storage --bench quality -- PAIRS.jsonl PERSONAL.jsonl`: the files that `tests/fixtures/gate/pairs.py` and `personal.py` write, with what
//! datatrove and Presidio said in each row. Prints rows as JSON lines; ours and theirs are scored here, by the same lines.
//!
//! Near copies: all originals are in a Datanet, all copies come to its gate as one contribution. A copy is to be held back if it shares four fifths of the
//! shingles with its original, by the script's own count. Personal data: a labelled value is found if findings cover four fifths of its bytes; a
//! finding is right if it touches one. Names are left out: no pattern finds them, and the set has no labels for them.

use std::{env, error::Error, fs};

use serde::{Deserialize, de::DeserializeOwned};
use storage::datanet::{
    Accepted, Action, Card, Contribution, Datanet, Document, GatePolicy, Place, Rule,
    scan::{Kind, scan},
    shard::Shard,
};
use types::id::{Address, BlobId};

/// The first line of either file.
#[derive(Debug, Deserialize)]
struct Head {
    /// Who else was asked, with its version.
    peer: String,
}

#[derive(Debug, Deserialize)]
struct Pair {
    original: String,
    copy: String,
    shared: u32,
    union: u32,
    datatrove: bool,
}

#[derive(Debug, Deserialize)]
struct Row {
    text: String,
    /// First byte, the one behind the last, kind.
    labels: Vec<(usize, usize, String)>,
    presidio: Vec<(usize, usize)>,
}

/// What was to be found, what was of it, what was found in all, and how much of that was right.
#[derive(Debug, Default)]
struct Score {
    wanted: u32,
    found: u32,
    findings: u32,
    right: u32,
}

impl Score {
    fn pair(&mut self, is_near: bool, is_found: bool) {
        self.wanted += u32::from(is_near);
        self.found += u32::from(is_near && is_found);
        self.findings += u32::from(is_found);
        self.right += u32::from(is_near && is_found);
    }

    fn spans(&mut self, labels: &[(usize, usize, String)], findings: &[(usize, usize)]) {
        for (start, end, _) in labels {
            let covered = (*start..*end).filter(|at| findings.iter().any(|(low, high)| (low..high).contains(&at))).count();
            self.wanted += 1;
            self.found += u32::from(5 * covered >= 4 * (end - start));
        }
        for (low, high) in findings {
            self.findings += 1;
            self.right += u32::from(labels.iter().any(|(start, end, _)| low < end && start < high));
        }
    }

    /// Recall and precision; who found nothing was never wrong.
    fn rates(&self) -> (f64, f64) {
        let share = |part: u32, whole: u32| if whole == 0 { 1.0 } else { f64::from(part) / f64::from(whole) };
        (share(self.found, self.wanted), share(self.right, self.findings))
    }
}

fn lines<T: DeserializeOwned>(file: &str) -> Result<(Head, Vec<T>), Box<dyn Error>> {
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines();
    let head = serde_json::from_str(lines.next().ok_or("the file is empty")?)?;
    Ok((head, lines.map(serde_json::from_str).collect::<Result<_, _>>()?))
}

fn print(name: &str, peer: &str, rows: usize, note: &str, ours: &Score, theirs: &Score) {
    let ((recall, precision), (their_recall, their_precision)) = (ours.rates(), theirs.rates());
    for (figure, ours, theirs) in [("recall", recall, their_recall), ("precision", precision, their_precision)] {
        let row = serde_json::json!({
            "figure": format!("storage.{name}_{figure}"), "ours": ours, "unit": "", "n": rows, "note": note, "peer": peer, "peer_value": theirs,
        });
        println!("{row}");
    }
}

fn documents<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<Document>, Box<dyn Error>> {
    Ok(texts.map(|text| Document::new(None, None, text.as_bytes())).collect::<Result<_, _>>()?)
}

fn pairs(file: &str) -> Result<(), Box<dyn Error>> {
    let (head, pairs) = lines::<Pair>(file)?;
    let policy = GatePolicy { near_copies: Action::Quarantine, ..GatePolicy::default() };
    let card = Card::new("pairs".parse()?, String::new(), "CC0-1.0".parse()?, vec![], vec![])?.with_policy(policy)?;
    let mut datanet = Datanet::new(card);
    let originals = Shard::of(documents(pairs.iter().map(|pair| &pair.original))?);
    let accepted = Accepted {
        contributor: Address([1; 20]),
        text_root: originals.text_root(),
        documents: u32::try_from(originals.documents().len())?,
        object: BlobId::of(b"originals"),
        text_salt: None,
    };
    datanet.accept(Place { block: 1, ordinal: 0 }, accepted, &originals)?;
    let contributor = Address([2; 20]);
    let copies = Contribution { contributor, licence: "CC0-1.0".parse()?, documents: documents(pairs.iter().map(|pair| &pair.copy))? };
    let report = datanet.gate(Place { block: 2, ordinal: 0 }, &copies);
    if report.unlisted > 0 {
        return Err(format!("{} refusals are not listed: ask about fewer pairs at once", report.unlisted).into());
    }
    let (mut ours, mut theirs) = (Score::default(), Score::default());
    for (row, pair) in (1..).zip(&pairs) {
        let is_near = 5 * u64::from(pair.shared) >= 4 * u64::from(pair.union);
        ours.pair(is_near, report.refusals.iter().any(|refusal| refusal.row == row && refusal.rule == Rule::NearCopy));
        theirs.pair(is_near, pair.datatrove);
    }
    let likeness = |pair: &Pair| f64::from(pair.shared) / f64::from(pair.union);
    let (least, most) = pairs.iter().map(likeness).fold((1.0_f64, 0.0_f64), |(least, most), like| (least.min(like), most.max(like)));
    let note = format!(
        "{} pairs at a measured Jaccard of {least:.3} to {most:.3}, {} of them from 0.8 on; ours held back {}, datatrove by its defaults {}",
        pairs.len(),
        ours.wanted,
        ours.findings,
        theirs.findings
    );
    print("dedup", &head.peer, pairs.len(), &note, &ours, &theirs);
    Ok(())
}

fn personal(file: &str) -> Result<(), Box<dyn Error>> {
    let (head, rows) = lines::<Row>(file)?;
    let (mut ours, mut theirs) = (Score::default(), Score::default());
    for row in &rows {
        let found = scan(&row.text).into_iter().filter(|finding| finding.kind != Kind::Name);
        let found: Vec<_> = found.map(|finding| (finding.span.start, finding.span.end)).collect();
        ours.spans(&row.labels, &found);
        theirs.spans(&row.labels, &row.presidio);
    }
    let bare = rows.iter().filter(|row| row.labels.is_empty()).count();
    let note = format!(
        "{} values by Faker, {bare} rows of corpora without any; ours found {} and {} things that are none, Presidio {} and {}",
        ours.wanted,
        ours.found,
        ours.findings - ours.right,
        theirs.found,
        theirs.findings - theirs.right
    );
    print("pii", &head.peer, rows.len(), &note, &ours, &theirs);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [of_pairs, of_persons] = files.as_slice() else {
        return Err("name both files: cargo bench -p storage --bench quality -- PAIRS.jsonl PERSONAL.jsonl".into());
    };
    pairs(of_pairs)?;
    personal(of_persons)
}
