//! A segment built as a file in a given memory, and what it answers: speed, size, peak memory, searches, spans of an answer of some 450 tokens.
//!
//! `cargo bench -p attribution --bench build --profile dev -- FOLDER MEGABYTES MEMORY_MB THREADS [FILE]`. The text is a walk over the words of FILE
//! (without one, of the word table): a run of 3 to 8 words, then on from another place where the last of them stands, one document in twenty a copy
//! of an earlier one. It comes in contributions of 16 MB that are made while the build reads them, and their time is taken off. Peak memory is
//! Linux's `VmHWM` from the build's start.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    env,
    error::Error,
    fs,
    hint::black_box,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use attribution::{
    disk::{BuildOptions, OwnedEntry, build_segment, open_segment},
    index::{DatanetIndex, Index},
    parameters::Parameters,
    span::attribute,
};
use types::{
    id::{Address, AssetId, AssetVersion},
    text::{canonical_lossy, text_root},
};

const CONTRIBUTION_BYTES: usize = 16_000_000;
const RUNS: usize = 1_000;

/// Text of any length out of one of some length.
struct Walk {
    words: Vec<String>,
    places: BTreeMap<String, Vec<u32>>,
    state: u64,
    at: usize,
}

impl Walk {
    fn over(text: &str) -> Result<Self, Box<dyn Error>> {
        let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
        let mut places: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (word, place) in words.iter().zip(0..) {
            places.entry(word.clone()).or_default().push(place);
        }
        if words.is_empty() { Err("the file holds no word".into()) } else { Ok(Self { words, places, state: 7, at: 0 }) }
    }

    fn next(&mut self) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 33).expect("31 bits")
    }

    fn text(&mut self, bytes: usize) -> String {
        let mut out = String::with_capacity(bytes + 100);
        while out.len() < bytes {
            for _ in 0..3 + self.next() % 6 {
                out.push_str(&self.words[self.at]);
                self.at = (self.at + 1) % self.words.len();
            }
            let draw = self.next();
            let last = &self.words[(self.at + self.words.len() - 1) % self.words.len()];
            let others = &self.places[last];
            self.at = (usize::try_from(others[draw % others.len()]).expect("32 bits") + 1) % self.words.len();
        }
        out
    }

    fn contribution(&mut self, bytes: usize) -> String {
        let (mut out, mut starts) = (String::with_capacity(bytes + 5_000), Vec::new());
        while out.len() < bytes {
            let start = out.len();
            match starts.get(self.next() % (20 * (starts.len() + 1))) {
                Some((from, to)) => out.extend_from_within_of(*from, *to),
                None => out.push_str(&self.text(2_000)),
            }
            starts.push((start, out.len()));
            out.push('\0');
        }
        out
    }
}

trait Again {
    fn extend_from_within_of(&mut self, from: usize, to: usize);
}

impl Again for String {
    fn extend_from_within_of(&mut self, from: usize, to: usize) {
        let copy = self[from..to].to_owned();
        self.push_str(&copy);
    }
}

/// A line of `/proc/self/status` in kB, of 1,024 bytes.
fn status_kb(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Seconds of processor time so far, of all threads: ticks of a hundredth of a second.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn at(sorted: &[f64], per_cent: usize) -> f64 {
    sorted[(sorted.len() - 1) * per_cent / 100]
}

/// Median and 99th percentile of what `work` takes, in microseconds.
fn micros(mut work: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (at(&times, 50), at(&times, 99))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let argument = |place: usize, otherwise: usize| arguments.get(place).map_or(Ok(otherwise), |text| text.parse::<usize>());
    let folder = arguments.first().map_or_else(|| env::temp_dir().join("attribution-build"), PathBuf::from);
    let (bytes, memory, threads) = (argument(1, 20)? * 1_000_000, argument(2, 1_024)?, argument(3, 1)?);
    let words = || Parameters::builtin(1).map(|parameters| parameters.table().rows().iter().map(|row| format!("{} ", row.0)).collect());
    let source: String = match arguments.get(4) {
        Some(path) => canonical_lossy(&fs::read(path)?),
        None => words().ok_or("set 1 is built in")?,
    };
    let mut walk = Walk::over(&source)?;
    let (mut made, mut made_cpu, mut sample) = (Duration::ZERO, 0.0, String::new());
    let contributions = (1..=bytes.div_ceil(CONTRIBUTION_BYTES)).map(|block| {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let text = walk.contribution(CONTRIBUTION_BYTES.min(bytes));
        sample.push_str(&text[..text.floor_char_boundary(400_000)]);
        let entry = OwnedEntry::Text {
            contributor: Address([1; 20]),
            block: block as u64,
            ordinal: 0,
            text_root: text_root(text.as_bytes()),
            text: text.into_bytes(),
        };
        made += start.elapsed();
        made_cpu += cpu_seconds() - cpu;
        Ok::<_, Infallible>(entry)
    });
    let options = BuildOptions { memory_bytes: (memory as u64) << 20, threads: NonZeroUsize::new(threads).ok_or("at least one thread")? };
    // Only what the build takes counts, and what the walk keeps is told.
    fs::write("/proc/self/clear_refs", "5")?;
    let before = status_kb("VmRSS:").unwrap_or(0);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let path = build_segment(&folder, contributions, &options, &mut |_| ControlFlow::Continue(()))?;
    let (taken, taken_cpu) = (start.elapsed() - made, cpu_seconds() - cpu - made_cpu);
    let peak = status_kb("VmHWM:").unwrap_or(0);
    let opening = Instant::now();
    let segment = open_segment(&path, None)?;
    let opened = opening.elapsed();
    let (text, file) = (segment.text().len() as f64, fs::metadata(&path)?.len() as f64);
    println!(
        "build: {:.1} MB, {} word starts, {threads} threads, {memory} MiB: {:.1} s, {:.1} MB/s, by processor time {:.1}; {:.3} bytes a byte; VmHWM {} MB, of which {} MB before",
        text / 1e6,
        segment.array().len(),
        taken.as_secs_f64(),
        text / 1e6 / taken.as_secs_f64(),
        text / 1e6 / taken_cpu,
        file / text,
        peak * 1_024 / 1_000_000,
        before * 1_024 / 1_000_000,
    );
    let verifying = Instant::now();
    segment.verify()?;
    println!(
        "open: {:.0} us; verify: {:.2} s, which brings the file into memory",
        opened.as_secs_f64() * 1e6,
        verifying.elapsed().as_secs_f64()
    );
    let datanet = DatanetIndex::new(AssetVersion { asset: AssetId(1), version: 1 }, vec![segment])?;
    let index = Index::new(vec![Arc::new(datanet)])?;

    let mut place = 3_usize;
    let mut draw = || {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        place >> 33
    };
    // Five words, as stand somewhere.
    let patterns: Vec<String> = (0..RUNS)
        .map(|_| {
            let from = sample.floor_char_boundary(draw() % (sample.len() - 400));
            let words: Vec<&str> = sample[from..].split(['\0', ' ']).skip(1).filter(|word| !word.is_empty()).take(5).collect();
            words.join(" ")
        })
        .collect();
    let mut next = patterns.iter().cycle();
    let mut pattern = || next.next().map_or(&b""[..], |pattern| pattern.as_bytes());
    let (count, find, longest) = (
        micros(|| {
            black_box(index.count(pattern()));
        }),
        micros(|| {
            black_box(index.holder(pattern()));
        }),
        micros(|| {
            black_box(index.find_longest(pattern()));
        }),
    );
    println!(
        "five words, p50 / p99 in us: count {:.2} / {:.2}, earliest holder {:.2} / {:.2}, longest {:.2} / {:.2}",
        count.0, count.1, find.0, find.1, longest.0, longest.1
    );

    // Answers of some 450 tokens (1,950 bytes): quotes of some 90 bytes between words of their own.
    let answers: Vec<String> = (0..50)
        .map(|_| {
            let mut answer = String::new();
            while answer.len() < 1_950 {
                let from = sample.floor_char_boundary(draw() % (sample.len() - 400));
                answer.extend(sample[from..].chars().take(90).map(|c| if c == '\0' { ' ' } else { c }));
                answer.push_str(" which was said before, ");
            }
            canonical_lossy(answer.as_bytes())
        })
        .collect();
    let parameters = Parameters::builtin(1).ok_or("set 1 is built in")?;
    let prompt = [&[2][..], b"What is said about this, and by whom?", &[0]].concat();
    let mut next = answers.iter().cycle();
    let mut spans = 0;
    let (p50, p99) = micros(|| {
        let found = next.next().map(|answer| attribute(&index, parameters, &prompt, answer));
        spans += found.and_then(Result::ok).map_or(0, |found| found.spans.len());
    });
    println!("spans of an answer of 1,950 bytes: p50 {:.2} ms, p99 {:.2} ms, {} in the mean", p50 / 1e3, p99 / 1e3, spans / RUNS);
    fs::remove_file(path)?;
    Ok(())
}
