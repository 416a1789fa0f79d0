//! Figures of attribution: an index built as a file, and what it answers. Prints rows as JSON lines.
//!
//!     cargo run --release -p attribution --example attribution_bench -- FOLDER MEGABYTES COLD_MEGABYTES SOURCE...
//!     ... attribution_bench asked FOLDER SEGMENT...
//!     ... attribution_bench hard FOLDER MEGABYTES SOURCE...
//!
//! The text is made from the sources by a seeded walk (`walk.rs`), so the same everywhere; it lies in the segments alone. An index of MEGABYTES is built
//! by one thread in 1 GiB, then by two, each in a process of its own; asked in memory; and asked with none of it in the system's cache, or another of
//! COLD_MEGABYTES, if that is more. libsais sorts the suffixes of a part of the same text; the folder is left with that part and queries as infini-gram
//! reads them. The rest is removed. The second form asks segments that lie there, made by `build FOLDER MEGABYTES MEMORY_MIB THREADS SOURCE...`: in memory,
//! then cold. The third builds and asks texts that are hard to sort beside ordinary text, and fails where one takes too much (`hard.rs`).

mod answers;
mod built;
mod evidence;
mod hard;
mod meter;
mod peer;
mod walk;

use std::{
    env,
    error::Error,
    fs::{self, File},
    hint::black_box,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use attribution::{
    bundle::verify,
    disk::open_segment,
    index::{DatanetIndex, Index, Segment},
    parameters::Parameters,
    span::attribute,
};
use libsais::SuffixArrayConstruction;
use types::id::{AssetId, AssetVersion};

use answers::{ANSWER_BYTES, Draw};
use built::{Built, Wanted};
use evidence::Terms;
use meter::{Times, pages_read, process_seconds, row, tell};
use walk::Random;

type Outcome<T> = Result<T, Box<dyn Error>>;

const MEMORY_MIB: u64 = 1_024;
/// Answers and patterns asked in memory, and answers asked cold.
const WARM: usize = 1_000;
const COLD: usize = 100;
/// Text that others index.
const PEER_BYTES: usize = 40_000_000;
const PAGE_BYTES: usize = 4_096;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(("build", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        println!("{}", serde_json::to_string(&Wanted::from_arguments(rest)?.here()?)?);
        return Ok(());
    }
    if let Some((first, rest)) = arguments.split_first().filter(|(first, _)| first.starts_with("hard")) {
        return if first == "hard-one" { hard::one(rest) } else { hard::all(rest) };
    }
    if let [first, folder, segments @ ..] = arguments.as_slice()
        && first == "asked"
    {
        let built = Built::lying(segments.iter().map(PathBuf::from).collect())?;
        in_memory(&built, Path::new(folder))?;
        return cold(&built);
    }
    let [folder, megabytes, cold_megabytes, sources @ ..] = arguments.as_slice() else {
        return Err("attribution_bench FOLDER MEGABYTES COLD_MEGABYTES SOURCE...".into());
    };
    let (megabytes, cold_megabytes): (usize, usize) = (megabytes.parse()?, cold_megabytes.parse()?);
    let sources = sources.iter().map(PathBuf::from).collect();
    let wanted = Wanted { folder: Path::new(folder).join("index"), megabytes, memory_mb: MEMORY_MIB, threads: 1, sources };

    tell(&format!("{megabytes} MB are made and indexed by two threads, then by one"));
    let two = Wanted { threads: 2, ..wanted.clone() }.apart()?;
    two.remove()?;
    let one = wanted.apart()?;
    tell("asked in memory");
    in_memory(&one, Path::new(folder))?;
    built(&one, &two);
    if cold_megabytes > megabytes {
        one.remove()?;
        tell(&format!("{cold_megabytes} MB are made and indexed by one thread"));
        let large = Wanted { megabytes: cold_megabytes, ..wanted }.apart()?;
        peak(&large);
        cold(&large)?;
        large.remove()?;
    } else {
        peak(&one);
        cold(&one)?;
        one.remove()?;
    }
    Ok(())
}

fn corpus(built: &Built) -> String {
    format!("{:.0} MB of text in {} segments, one document in {} a copy", built.text / 1e6, built.segments.len(), walk::COPIED)
}

/// Speed and size of the builds.
fn built(one: &Built, two: &Built) {
    let note = |built: &Built| format!("{}; {:.1} MB/s by the clock in {MEMORY_MIB} MiB", corpus(built), built.rate());
    row("build_mb_s", one.per_core(), "MB/s", 1, &format!("in a second of one processor, written and synchronised; {}", note(one)));
    let twice = format!("by the clock with two threads against one; by processor time {:.1} MB/s; {}", two.per_core(), note(two));
    row("build_scaling", two.rate() / one.rate(), "x", 1, &twice);
    row("index_ratio", one.index / one.text, "B/B", 1, &corpus(one));
}

fn peak(built: &Built) {
    let note = format!(
        "VmHWM of the building process with --memory 1G, of which {:.0} MB the maker of the text; {}",
        built.before_mb,
        corpus(built)
    );
    row("build_rss_mb", built.peak_mb, "MB", 1, &note);
}

fn index(segments: Vec<Segment>) -> Outcome<Index> {
    let version = AssetVersion { asset: AssetId(1), version: 1 };
    Ok(Index::new(vec![Arc::new(DatanetIndex::new(version, segments)?)])?)
}

fn parameters() -> Outcome<&'static Parameters> {
    Ok(Parameters::builtin(1).ok_or("set 1 is built in")?)
}

/// Questions to an index that is in memory, its receipts, and what others need.
fn in_memory(built: &Built, folder: &Path) -> Outcome<()> {
    let segments = built.segments.iter().map(|path| Ok(Segment::from_bytes(fs::read(path)?)?)).collect::<Outcome<Vec<_>>>()?;
    let mut draw = Draw::new(&segments, 3);
    let patterns: Vec<Vec<u8>> = (0..WARM).map(|_| draw.pattern()).collect();
    let answers: Vec<String> = (0..WARM).map(|_| draw.answer()).collect();
    let text = segments.first().ok_or("no segment")?.text();
    let part = &text[..text.len().min(PEER_BYTES)];
    peer::write(&folder.join("peer"), part)?;
    tell("libsais sorts a part of the same text");
    libsais(part)?;
    let index = index(segments)?;
    let parameters = parameters()?;
    let corpus = corpus(built);

    let five = |times: &Times, mean: f64, what: &str| {
        let (last, mean) = (times.at(99) * 1e6, mean * 1e6);
        format!("{what} of five words, p50; p99 {last:.2} us, {mean:.2} us of a processor in the mean; in memory, {corpus}")
    };
    let (count, each) = Times::with_mean(&patterns, |pattern| {
        black_box(index.count(pattern));
    });
    row("count_us", count.at(50) * 1e6, "us", count.len(), &five(&count, each, "count"));
    let (find, each) = Times::with_mean(&patterns, |pattern| {
        black_box(index.holder(pattern));
    });
    row("find_us", find.at(50) * 1e6, "us", find.len(), &five(&find, each, "earliest holder"));

    let terms = Terms::over(&index).ok_or("keys of repeated bytes")?;
    let prompt = terms.prompt();
    let mut found = Vec::with_capacity(answers.len());
    let (spans, each) = Times::with_mean(&answers, |answer| found.push(attribute(&index, parameters, &prompt, answer)));
    let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mean = found.iter().map(|found| found.spans.len()).sum::<usize>() / found.len();
    let note = format!(
        "spans of an answer of {ANSWER_BYTES} bytes, some 450 tokens, {mean} spans and {:.2} ms of a processor in the mean; in memory, {corpus}",
        each * 1e3
    );
    row("spans_p50_ms", spans.at(50) * 1e3, "ms", spans.len(), &note);
    row("spans_p99_ms", spans.at(99) * 1e3, "ms", spans.len(), &note);

    let inputs: Vec<_> = answers.iter().zip(&found).map(|(answer, found)| Ok((answer, found, terms.voucher()?))).collect::<Outcome<_>>()?;
    let mut bundles = Vec::with_capacity(inputs.len());
    let (made, each) =
        Times::with_mean(&inputs, |(answer, found, voucher)| bundles.push(terms.bundle(&index, answer, found, voucher.clone())));
    let bundles = bundles.into_iter().collect::<Outcome<Vec<_>>>()?;
    let note = format!(
        "from spans to a signed receipt with openings of all, p50; p99 {:.2} ms, {:.2} ms of a processor in the mean; {mean} spans, {corpus}",
        made.at(99) * 1e3,
        each * 1e3
    );
    row("receipt_ms", made.at(50) * 1e3, "ms", made.len(), &note);
    let mut faults = None;
    let (verified, each) = Times::with_mean(&bundles, |bundle| faults = verify(bundle).err().or_else(|| faults.take()));
    if let Some(faults) = faults {
        return Err(format!("an honest bundle is refused: {faults:?}").into());
    }
    let (last, processor) = (verified.at(99) * 1e3, each * 1e3);
    let note = format!("a bundle alone, p50; p99 {last:.2} ms, {processor:.2} ms of a processor in the mean; {mean} spans");
    row("verify_ms", verified.at(50) * 1e3, "ms", verified.len(), &note);
    Ok(())
}

/// The suffix array of a text by libsais, all bytes of it.
fn libsais(text: &[u8]) -> Outcome<()> {
    let start = process_seconds();
    let sorted = SuffixArrayConstruction::for_text(text).in_owned_buffer32().single_threaded().run();
    black_box(sorted.map_err(|_| "libsais failed")?);
    let rate = text.len() as f64 / 1e6 / (process_seconds() - start);
    row("build_mb_s.peer.libsais", rate, "MB/s", 1, &format!("{} MB of the same text, one thread, in memory", text.len() / 1_000_000));
    Ok(())
}

/// Tells the system to keep nothing of a file that nobody has mapped.
fn forget(path: &Path) -> Outcome<()> {
    let mut from = std::ffi::OsString::from("if=");
    from.push(path);
    let status = Command::new("dd").arg(from).args(["iflag=nocache", "count=0", "status=none"]).status()?;
    if status.success() { Ok(()) } else { Err("dd (GNU coreutils) does not drop a file from the cache".into()) }
}

/// Spans of answers with nothing of the index in memory, before each of them.
fn cold(built: &Built) -> Outcome<()> {
    let open = || -> Outcome<Vec<Segment>> { built.segments.iter().map(|path| Ok(open_segment(path, None)?)).collect() };
    let answers: Vec<String> = {
        let segments = open()?;
        let mut draw = Draw::new(&segments, 5);
        (0..COLD).map(|_| draw.answer()).collect()
    };
    let (parameters, prompt) = (parameters()?, [&[2][..], b"What is said about this, and by whom?", &[0]].concat());
    tell("asked cold");
    let (mut failed, mut read, mut waited) = (None, 0.0, 0.0);
    let prepare = |_: &String| -> Outcome<Index> {
        built.segments.iter().try_for_each(|path| forget(path))?;
        // The rows, which opening reads, are in memory then, as they are in a node.
        index(open()?)
    };
    let times = Times::prepared(&answers, prepare, |answer, index| {
        let before = pages_read();
        failed = attribute(&index, parameters, &prompt, answer).err().or_else(|| failed.take());
        let after = pages_read();
        (read, waited) = (read + after.0 - before.0, waited + after.1 - before.1);
    })?;
    failed.map_or(Ok(()), Err)?;
    let each = times.len() as f64;
    let note = format!(
        "an answer of {ANSWER_BYTES} bytes, nothing of the index in the system's cache before each; p50 {:.1} ms; {:.0} pages in the mean, of which {:.0} were \
         touched before they were asked for; a page of it at random {:.0} us; {}",
        times.at(50) * 1e3,
        read / each,
        waited / each,
        page(built)? * 1e6,
        corpus(built)
    );
    row("spans_cold_p99_ms", times.at(99) * 1e3, "ms", times.len(), &note);
    Ok(())
}

/// Seconds that a page takes at a random place of the first segment, the median of 200.
fn page(built: &Built) -> Outcome<f64> {
    let path = built.segments.first().ok_or("no segment")?;
    forget(path)?;
    let (file, mut random, mut bytes) = (File::open(path)?, Random(9), vec![0; PAGE_BYTES]);
    let pages = usize::try_from(file.metadata()?.len())? / PAGE_BYTES;
    let places: Vec<u64> = (0..200).map(|_| (random.next() % pages * PAGE_BYTES) as u64).collect();
    let mut failed = None;
    let times = Times::each(&places, |place| failed = file.read_exact_at(&mut bytes, *place).err().or_else(|| failed.take()));
    failed.map_or(Ok(()), Err)?;
    Ok(times.at(50))
}
