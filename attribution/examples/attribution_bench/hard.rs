//! Texts that are hard to sort or to lay out, at size, each beside ordinary text: what building and asking takes of memory and of time.
//!
//! Each is built in a process of its own, by one thread in [`MEMORY_MIB`], and asked there. What counts is measured against ordinary text of the same
//! run: seconds of a processor for a megabyte of text, and for a question. Held at once: what was given, and the contribution at hand.

use std::{
    convert::Infallible, env, fs, hint::black_box, iter, num::NonZeroUsize, ops::ControlFlow, path::PathBuf, process::Command, sync::Arc,
};

use attribution::{
    disk::{BuildOptions, OwnedEntry, build_segment, open_segment},
    index::{DatanetIndex, Index, Segment},
};
use serde::{Deserialize, Serialize};
use types::{
    id::{Address, AssetId, AssetVersion},
    text::{canonical_lossy, text_root},
};

use crate::{
    Outcome,
    meter::{process_seconds, status_mb, tell, thread_seconds},
    walk::{Random, Walk},
};

/// Memory that a build is given: an eighth of a byte for each byte of text, and room for a fiftieth of what equal beginnings would take at once.
const MEMORY_MIB: u64 = 128;
/// What a build may hold above that: the program, and what an allocator keeps.
const MEMORY_SPARE_MB: f64 = 16.0;
/// Most that a megabyte may take of what one of ordinary text takes. Words of one letter are 3.9 times as many, and 32 keys deep where prose is 2 or 3:
/// one repeated word takes about 12 times as long.
const BUILD_TIMES_MAX: f64 = 20.0;
/// Most that a question may take of what one to ordinary text takes: 256 bytes are compared at each of 27 places, where prose differs in the first few.
const ASKED_TIMES_MAX: f64 = 8.0;
/// Bytes of a contribution, but where one word has all of them.
const CONTRIBUTION_BYTES: usize = 4_000_000;
/// Questions, and the longest.
const ASKED: usize = 20_000;
const PATTERN_BYTES_MAX: usize = 256;

/// A text by name; the first is what others are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Ordinary,
    Byte,
    GiantWord,
    Word,
    Fibonacci,
    Headers,
    Scripts,
}

impl Text {
    const ALL: [Self; 7] = [Self::Ordinary, Self::Byte, Self::GiantWord, Self::Word, Self::Fibonacci, Self::Headers, Self::Scripts];

    const fn name(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary text",
            Self::Byte => "one repeated byte",
            Self::GiantWord => "one giant word",
            Self::Word => "one repeated word",
            Self::Fibonacci => "a Fibonacci string",
            Self::Headers => "equal headers",
            Self::Scripts => "eight scripts without spaces",
        }
    }

    /// Contributions of so many bytes together.
    fn contributions(self, bytes: usize, sources: &[PathBuf]) -> Outcome<Box<dyn Iterator<Item = OwnedEntry>>> {
        Ok(match self {
            Self::Ordinary => {
                let texts: std::io::Result<Vec<String>> = sources.iter().map(|path| Ok(canonical_lossy(&fs::read(path)?))).collect();
                let mut walk = Walk::over(texts?.join(" ")).ok_or("the sources hold no word")?;
                Box::new((0..bytes.div_ceil(CONTRIBUTION_BYTES)).map(move |_| walk.contribution()))
            }
            // One document, one word, one contribution.
            Self::Byte => whole(move || of_one_word("", "a", bytes, "")),
            Self::GiantWord => whole(move || of_one_word("x ", "ab", bytes, " y")),
            Self::Word => pieces(bytes, || "a ".repeat(CONTRIBUTION_BYTES / 2) + "\0"),
            Self::Fibonacci => {
                // Letter n of the infinite one is known by itself: the next piece goes on where the last one ended.
                let (mut zeros, mut ones) = (0_u64, 0_u64);
                pieces(bytes, move || {
                    let letter = |_| if rabbit(&mut zeros, &mut ones) { "b " } else { "a " };
                    (0..CONTRIBUTION_BYTES / 2).map(letter).collect::<String>() + "\0"
                })
            }
            Self::Headers => {
                let header = "this file is part of the project, which is free software: you can redistribute it under its licence";
                let mut number = 0_u32;
                pieces(bytes, move || {
                    let mut text = String::with_capacity(CONTRIBUTION_BYTES + 200);
                    while text.len() < CONTRIBUTION_BYTES {
                        text.push_str(header);
                        text.push_str([" 0\0", " 1\0", " 2\0", " 3\0", " 4\0", " 5\0", " 6\0"][usize::try_from(number % 7).unwrap_or(0)]);
                        number += 1;
                    }
                    text
                })
            }
            Self::Scripts => {
                let mut random = Random(5);
                pieces(bytes, move || scripts(&mut random))
            }
        })
    }
}

/// One document, made where it stays: two of it would count as memory held.
fn of_one_word(before: &str, letters: &str, bytes: usize, behind: &str) -> String {
    let mut text = String::with_capacity(bytes + before.len() + behind.len() + 1);
    text.push_str(before);
    text.extend(iter::repeat_n(letters, bytes / letters.len()));
    text.push_str(behind);
    text.push('\0');
    text
}

/// One contribution.
fn whole(text: impl Fn() -> String + 'static) -> Box<dyn Iterator<Item = OwnedEntry>> {
    Box::new(iter::once_with(move || entry(1, text())))
}

/// As many contributions as make so many bytes.
fn pieces(bytes: usize, mut text: impl FnMut() -> String + 'static) -> Box<dyn Iterator<Item = OwnedEntry>> {
    Box::new((1..=u64::try_from(bytes.div_ceil(CONTRIBUTION_BYTES)).unwrap_or(u64::MAX)).map(move |block| entry(block, text())))
}

fn entry(block: u64, text: String) -> OwnedEntry {
    let text = text.into_bytes();
    OwnedEntry::Text { contributor: Address([1; 20]), block, ordinal: 0, text_root: text_root(&text), text, salt: None }
}

/// The next letter of the infinite Fibonacci word, as cutting sequence of the golden slope: b where a whole number is crossed.
fn rabbit(all: &mut u64, ones: &mut u64) -> bool {
    *all += 1;
    // The ones among the first n are the largest m with m phi^2 <= n, where phi^2 = (3 + sqrt 5) / 2: in integers m sqrt 5 <= 2 n - 3 m.
    let (n, m) = (i128::from(*all), i128::from(*ones) + 1);
    let left = 2 * n - 3 * m;
    let is_crossed = left >= 0 && left * left >= 5 * m * m;
    *ones += u64::from(is_crossed);
    is_crossed
}

/// Han, kana, Thai, Khmer, Lao, Tibetan, Burmese, Hangul: none puts spaces between words.
fn scripts(random: &mut Random) -> String {
    const SCRIPTS: [&str; 8] = [
        "学而时习之不亦说乎有朋自远方来",
        "かなもじばかりのぶんしょうです",
        "สวัสดีชาวโลกทั้งหลาย",
        "សួស្តីពិភពលោកទាំងមូល",
        "ສະບາຍດີຊາວໂລກທັງຫຼາຍ",
        "བོད་སྐད་ཡིག་དང་ཚིག",
        "မင်္ဂလာပါကမ္ဘာလောက",
        "안녕하세요세계여러분",
    ];
    let mut text = String::with_capacity(CONTRIBUTION_BYTES + 200);
    while text.len() < CONTRIBUTION_BYTES {
        let script = SCRIPTS[random.next() % SCRIPTS.len()];
        let from = script.ceil_char_boundary(random.next() % script.len());
        text.push_str(&script[from..]);
    }
    text.push('\0');
    text
}

/// What one took.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Taken {
    text_mb: f64,
    /// Word starts.
    entries: usize,
    index_mb: f64,
    /// Seconds of a processor for a megabyte of text.
    build_s: f64,
    /// Above what the process held before, and the largest contribution.
    held_mb: f64,
    contribution_mb: f64,
    /// Seconds of a processor for a question: count, then longest match.
    asked_s: f64,
}

/// Builds and asks each apart, prints what it took, and says which are above what they may take.
pub(crate) fn all(arguments: &[String]) -> Outcome<()> {
    let [folder, megabytes, ..] = arguments else { return Err("hard FOLDER MEGABYTES SOURCE...".into()) };
    let _: usize = megabytes.parse()?;
    let mut ordinary: Option<Taken> = None;
    let mut above = Vec::new();
    println!("{:>28} | text MB | M words | index MB | ms/MB | times | held MB | ask us | times", "");
    for (number, text) in Text::ALL.into_iter().enumerate() {
        tell(&format!("{} in {MEMORY_MIB} MiB", text.name()));
        let mut child = Command::new(env::current_exe()?);
        let output = child.args(["hard-one", &number.to_string()]).args(arguments).stderr(std::process::Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("{}: the process ended with {}", text.name(), output.status).into());
        }
        let taken: Taken = serde_json::from_slice(&output.stdout)?;
        let against = ordinary.get_or_insert_with(|| taken.clone());
        let (build, asked) = (taken.build_s / against.build_s, taken.asked_s / against.asked_s);
        println!(
            "{:>28} | {:7.1} | {:7.2} | {:8.1} | {:5.0} | {build:5.2} | {:7.1} | {:6.2} | {asked:5.2}",
            text.name(),
            taken.text_mb,
            taken.entries as f64 / 1e6,
            taken.index_mb,
            taken.build_s * 1e3,
            taken.held_mb,
            taken.asked_s * 1e6
        );
        let memory = (MEMORY_MIB << 20) as f64 / 1e6 + MEMORY_SPARE_MB;
        let limits = [
            ("times the time of ordinary text to build", build, BUILD_TIMES_MAX),
            ("times the time of ordinary text to ask", asked, ASKED_TIMES_MAX),
            ("MB of memory", taken.held_mb, memory),
        ];
        above.extend(limits.into_iter().filter(|(_, got, most)| got > most).map(|(what, got, most)| {
            let name = text.name();
            format!("{name} took {got:.1} {what}, at most {most:.1} are allowed")
        }));
    }
    let folder = PathBuf::from(folder);
    if folder.is_dir() && fs::read_dir(&folder)?.next().is_none() {
        fs::remove_dir(&folder)?;
    }
    if above.is_empty() { Ok(()) } else { Err(above.join("; ").into()) }
}

/// Builds and asks one here.
pub(crate) fn one(arguments: &[String]) -> Outcome<()> {
    let [number, folder, megabytes, sources @ ..] = arguments else { return Err("hard-one NUMBER FOLDER MEGABYTES SOURCE...".into()) };
    let text = *Text::ALL.get(number.parse::<usize>()?).ok_or("there is no such text")?;
    let sources: Vec<PathBuf> = sources.iter().map(PathBuf::from).collect();
    let mut contributions = text.contributions(megabytes.parse::<usize>()? * 1_000_000, &sources)?;
    fs::write("/proc/self/clear_refs", "5")?;
    let (before_mb, processors) = (status_mb("VmRSS:"), process_seconds());
    let (mut made_s, mut largest, mut peak_mb) = (0.0, 0, 0_f64);
    let entries = iter::from_fn(|| {
        peak_mb = peak_mb.max(status_mb("VmHWM:"));
        let start = thread_seconds();
        let entry = contributions.next();
        made_s += thread_seconds() - start;
        // What its making took, its root's digests above all, is no part of the build's peak.
        drop(fs::write("/proc/self/clear_refs", "5"));
        if let Some(OwnedEntry::Text { text, .. }) = &entry {
            largest = largest.max(text.len());
        }
        entry.map(Ok::<_, Infallible>)
    });
    let options = BuildOptions { memory_bytes: MEMORY_MIB << 20, threads: NonZeroUsize::MIN };
    let path = build_segment(&PathBuf::from(folder), entries, &options, &mut |_| ControlFlow::Continue(()))?;
    let build_s = process_seconds() - processors - made_s;
    let contribution_mb = largest as f64 / 1e6;
    let held_mb = peak_mb.max(status_mb("VmHWM:")) - before_mb - contribution_mb;
    let segment = open_segment(&path, None)?;
    segment.verify()?;
    let text_mb = segment.text().len() as f64 / 1e6;
    let (entries, index_mb) = (segment.array().len(), fs::metadata(&path)?.len() as f64 / 1e6);
    let asked_s = asked(segment)?;
    fs::remove_file(&path)?;
    let taken = Taken { text_mb, entries, index_mb, build_s: build_s / text_mb, held_mb, contribution_mb, asked_s };
    println!("{}", serde_json::to_string(&taken)?);
    Ok(())
}

/// Seconds of a processor for one of the questions, each of a run of the text from a word start on: how often it stands, and its longest match.
fn asked(segment: Segment) -> Outcome<f64> {
    let mut random = Random(3);
    let patterns: Vec<Vec<u8>> = (0..ASKED)
        .filter_map(|_| {
            let start = usize::try_from(segment.array().get(random.next() % segment.array().len().max(1))?).ok()?;
            let length = 1 + random.next() % PATTERN_BYTES_MAX;
            let run = segment.text().get(start..)?;
            let run = &run[..run.len().min(length)];
            Some(run.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
        })
        .collect();
    let version = AssetVersion { asset: AssetId(1), version: 1 };
    let index = Index::new(vec![Arc::new(DatanetIndex::new(version, vec![segment])?)])?;
    let ask = |patterns: &[Vec<u8>]| {
        patterns.iter().for_each(|pattern| {
            black_box((index.count(pattern), index.find_longest(pattern)));
        });
    };
    // Once for the pages.
    ask(&patterns);
    let start = thread_seconds();
    ask(&patterns);
    Ok((thread_seconds() - start) / patterns.len().max(1) as f64)
}
