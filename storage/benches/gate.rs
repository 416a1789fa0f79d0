//! The gate on real text: megabytes a second on one core.
//!
//! `cargo bench -p storage --bench gate -- FILE.jsonl...`: contributes the rows of all files, which are repeated with a mark until there are 32 MB, to an
//! empty Datanet. Prints rows as JSON lines: the whole report, and its parts by themselves (text root, personal data, shingles, signatures). Time is
//! that of the processor, so that others on the machine slow it less; the figure is the median of five runs.
//!
//! `... -- --fill BYTES FOLDER FILE.jsonl...`: enters so much text, drawn by a seeded generator from the rows, into an index in the folder, in contributions of 16 MB, and says after
//! each tenth what the gate makes of the next five contributions: the median of megabytes a second of processor and of clock, the peak of the process's memory, and bytes on disk. A folder that
//! holds some already is filled on, and what it holds is gated first. With `--drawn=BYTES` documents are so long instead of a kilobyte, and rows in a row make parts of a fifth of that.

use std::{env, error::Error, fs, hint::black_box, io::BufReader, path::Path, time::Instant};

use storage::datanet::{
    Accepted, Card, Contribution, Datanet, Document, Place, contribution_text,
    dedup::{Permutations, Shingler},
    read, scan,
    shard::Shard,
};
use types::id::{Address, BlobId};

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

const CONTRIBUTOR: Address = Address([1; 20]);
/// Text of a contribution as `datanet contribute` cuts them.
const CONTRIBUTION_BYTES: usize = 16 << 20;
/// Least bytes of a drawn document unless others are asked for, and most that one row gives.
const DRAWN_BYTES: usize = 1000;
const ROW_BYTES: usize = 400;

/// Documents of rows that SplitMix64 draws: two share a row now and then.
struct Generator {
    rows: Vec<String>,
    /// Least bytes of a document.
    drawn: usize,
    state: u64,
}

impl Generator {
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The contribution of a block, whatever was drawn before.
    fn contribution(&mut self, block: u64) -> Result<Contribution, Box<dyn Error>> {
        self.state = block.wrapping_mul(0xd1b5_4a32_d192_ed03).wrapping_add(4);
        let (mut documents, mut bytes) = (Vec::new(), 0);
        while bytes < CONTRIBUTION_BYTES {
            let mut text = String::new();
            while text.len() < self.drawn {
                let row = usize::try_from(self.draw() % u64::try_from(self.rows.len())?)?;
                text.push_str(&self.rows[row]);
                text.push('\n');
            }
            bytes += text.len();
            documents.push(Document::new(None, None, text.as_bytes())?);
        }
        Ok(Contribution { contributor: CONTRIBUTOR, licence: "CC-BY-4.0".parse()?, documents })
    }
}

/// The process's own peak in MB, from `/proc` (Linux).
fn peak_mb() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak in /proc/self/status")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0 / 1e6)
}

fn fill(bytes: usize, drawn: usize, folder: &Path, files: &[String]) -> Result<(), Box<dyn Error>> {
    let mut rows: Vec<String> = Vec::new();
    for file in files {
        for row in read::documents(BufReader::new(fs::File::open(file)?), read::Format::Jsonl, None)? {
            let row = &row.text()[..row.text().floor_char_boundary(ROW_BYTES)];
            match rows.last_mut().filter(|last| drawn > DRAWN_BYTES && last.len() < drawn / 5) {
                Some(last) => *last = format!("{last}\n{row}"),
                None => rows.push(row.to_owned()),
            }
        }
    }
    let mut generator = Generator { rows, drawn, state: 0 };
    let card = Card::new("bench".parse()?, String::new(), "CC-BY-4.0".parse()?, vec![], vec![])?;
    let mut datanet = Datanet::open(card, folder, u64::MAX)?;
    let held = usize::try_from(datanet.usage(CONTRIBUTOR).bytes)?;
    let (mut entered, mut told, mut accepting) = (held, held, 0.0);
    for block in u64::try_from(datanet.accepted().count())?.. {
        let contribution = generator.contribution(block)?;
        let len = contribution_text(&contribution.documents).len();
        let place = Place { block, ordinal: 0 };
        if entered >= told {
            told += bytes / 10;
            let (mut rates, mut clocks, mut notes) = (Vec::new(), Vec::new(), 0);
            for next in block..block + u64::try_from(RUNS)? {
                let contribution = generator.contribution(next)?;
                let mb = contribution_text(&contribution.documents).len() as f64 / 1e6;
                let (processor, clock) = (processor_s()?, Instant::now());
                notes = datanet.gate(Place { block: next, ordinal: 0 }, &contribution)?.notes.len();
                rates.push(mb / (processor_s()? - processor));
                clocks.push(mb / clock.elapsed().as_secs_f64());
            }
            rates.sort_by(f64::total_cmp);
            clocks.sort_by(f64::total_cmp);
            let (documents, kept) = (datanet.index().documents(), datanet.index().bytes());
            println!(
                r#"{{"figure":"storage.gate_at_mb_s","text_mb":{:.0},"documents":{documents},"ours":{:.2},"unit":"MB/s of processor","clock_mb_s":{:.2},"accept_mb_s":{:.2},"peak_mb":{:.0},"index_mb":{:.0},"notes":{}}}"#,
                entered as f64 / 1e6,
                rates[RUNS / 2],
                clocks[RUNS / 2],
                (entered - held) as f64 / 1e6 / accepting,
                peak_mb()?,
                kept as f64 / 1e6,
                notes
            );
        }
        if entered >= bytes {
            return Ok(());
        }
        let shard = Shard::of(contribution.documents);
        let accepted = Accepted {
            contributor: contribution.contributor,
            text_root: shard.text_root(),
            documents: u32::try_from(shard.documents().len())?,
            object: BlobId::ZERO,
            text_salt: None,
        };
        let start = processor_s()?;
        datanet.accept(place, accepted, &shard)?;
        datanet.commit()?;
        accepting += processor_s()? - start;
        entered += len;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if env::args().any(|argument| argument == "--fill") {
        let [bytes, folder, files @ ..] = &files[..] else { return Err("--fill BYTES FOLDER FILE.jsonl...".into()) };
        let drawn = env::args().find_map(|argument| argument.strip_prefix("--drawn=").map(str::parse)).transpose()?;
        return fill(bytes.parse()?, drawn.unwrap_or(DRAWN_BYTES), Path::new(folder), files);
    }
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
