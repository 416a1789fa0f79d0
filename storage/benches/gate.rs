//! The gate on real text: megabytes a second on one core.
//!
//! `cargo bench -p storage --bench gate -- FILE.jsonl...`: contributes the rows of all files, which are repeated with a mark until there are 32 MB, to an
//! empty Datanet. Prints rows as JSON lines: the whole report, and its parts by themselves (text root, personal data, shingles, signatures). Time is
//! that of the processor, so that others on the machine slow it less; the figure is the median of five runs.

use std::{env, error::Error, fs, hint::black_box, io::BufReader};

use storage::datanet::{
    Card, Contribution, Datanet, Document, Place, contribution_text,
    dedup::{Permutations, Shingler},
    read, scan,
};
use types::id::Address;

const BYTES: usize = 32 << 20;
const RUNS: usize = 5;

/// Seconds of processor that this process has used, from `/proc` (Linux): nanoseconds are its scheduler's.
fn processor_s() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?;
    Ok(nanoseconds / 1e9)
}

fn measure(figure: &str, bytes: usize, note: &str, work: impl Fn()) -> Result<(), Box<dyn Error>> {
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let start = processor_s()?;
        work();
        rates.push(bytes as f64 / 1e6 / (processor_s()? - start));
    }
    rates.sort_by(f64::total_cmp);
    println!(r#"{{"figure":"{figure}","ours":{:.2},"unit":"MB/s","n":{RUNS},"note":"{note}"}}"#, rates[RUNS / 2]);
    Ok(())
}

/// The files' rows, then the same rows with every word marked by the number of the round, so that no round is a near copy of another.
fn documents(files: &[String]) -> Result<Vec<Document>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for file in files {
        rows.extend(read::documents(BufReader::new(fs::File::open(file)?), read::Format::Jsonl, None)?);
    }
    let (mut documents, mut bytes) = (Vec::new(), 0);
    for round in 0.. {
        for row in &rows {
            if bytes >= BYTES {
                return Ok(documents);
            }
            let marked = if round == 0 {
                row.text().to_owned()
            } else {
                row.text().replace(". ", &format!(" {round}. ")).replace(" the ", &format!(" the{round} "))
            };
            bytes += marked.len();
            documents.push(Document::new(None, None, marked.as_bytes())?);
        }
    }
    Ok(documents)
}

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if files.is_empty() {
        return Err("name the JSONL files to gate: cargo bench -p storage --bench gate -- FILE.jsonl...".into());
    }
    let documents = documents(&files)?;
    let text = contribution_text(&documents);
    let contribution = Contribution { contributor: Address([1; 20]), licence: "CC-BY-4.0".parse()?, documents };
    let datanet = Datanet::new(Card::new("bench".parse()?, String::new(), "CC-BY-4.0".parse()?, vec![], vec![])?);
    let note = format!("{} documents, {} bytes", contribution.documents.len(), text.len());
    measure("storage.gate_mb_s", text.len(), &note, || drop(black_box(datanet.gate(Place::default(), &contribution))))?;
    measure("storage.text_root_mb_s", text.len(), "part of it", || {
        black_box(types::text::text_root(text.as_bytes()));
    })?;
    let texts = || contribution.documents.iter().map(Document::text);
    measure("storage.scan_mb_s", text.len(), "part of it: personal data", || texts().for_each(|text| drop(black_box(scan::scan(text)))))?;
    let shingle = || {
        let mut shingler = Shingler::default();
        texts().map(|text| shingler.shingles(text)).collect::<Vec<_>>()
    };
    measure("storage.shingle_mb_s", text.len(), "part of it: words, BLAKE3, sorted sets", || drop(black_box(shingle())))?;
    let (sets, permutations) = (shingle(), Permutations::new());
    measure("storage.minhash_mb_s", text.len(), "part of it: 128 minima", || {
        for set in &sets {
            black_box(permutations.signature(set));
        }
    })
}
