//! Memory and speed of a contributor that brings much: JSON rows on standard output.
//!
//! `cargo xtask bench storage` runs it. Five nodes that store, a chain, and one more process: `tributary datanet contribute`. Its peak is the kernel's
//! (`VmHWM`), read until it ends. What it contributes is made up here, by a seeded generator from the rows of real corpora.
//!
//! `contribute --bytes BYTES [--dry-run] CORPUS.jsonl...`: a dry run goes as far as the cost of what is read, checked, cut and compressed, which is where memory is
//! highest, without the network behind it: 10 GB kept by contributor, gate and five holders on one machine are some 60 GB of its disk.

mod generator;

use std::{path::PathBuf, process::Stdio, time::Duration};

use generator::Generator;
use harness::{Cluster, Setup, cluster::text};
use serde_json::{Value, json};

/// Time between two looks at the process. The kernel keeps its peak, so only growth in its last moments can be missed.
const LOOK: Duration = Duration::from_millis(100);

struct Arguments {
    bytes: u64,
    is_dry: bool,
    corpora: Vec<PathBuf>,
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments { bytes: 1_000_000_000, is_dry: false, corpora: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bytes" => arguments.bytes = words.next()?.parse().ok()?,
            "--dry-run" => arguments.is_dry = true,
            _ => arguments.corpora.push(word.into()),
        }
    }
    (!arguments.corpora.is_empty()).then_some(arguments)
}

/// Peak of a process in kB, while it runs.
fn peak_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

#[tokio::main]
async fn main() {
    let Some(arguments) = arguments() else {
        eprintln!("say what to make documents of: contribute --bytes BYTES [--dry-run] CORPUS.jsonl...");
        std::process::exit(2);
    };
    let cluster = Cluster::start(Setup { nodes: 5, ..Setup::default() }).await;
    cluster.run(&cluster.nodes[0], &["datanet", "create", "much", "--licence", "CC0-1.0"]).await;
    let file = cluster.path("much.jsonl");
    let documents = Generator::of(&arguments.corpora, 4).write(&file, arguments.bytes);
    cluster.say(&format!("{documents} documents, {} bytes are made", arguments.bytes));
    let mut words = vec!["datanet", "contribute", "much", text(&file)];
    if arguments.is_dry {
        words.push("--dry-run");
    }
    let started = std::time::Instant::now();
    let mut command = cluster.tributary.command(&cluster.nodes[2].folder, &words);
    let child = command.stderr(Stdio::inherit()).spawn().expect("the binary starts");
    let pid = child.id().expect("it runs");
    let ended = child.wait_with_output();
    tokio::pin!(ended);
    let mut peaks = Vec::new();
    let output = loop {
        tokio::select! {
            output = &mut ended => break output.expect("it ends"),
            () = tokio::time::sleep(LOOK) => peaks.extend(peak_kb(pid)),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    assert!(output.status.success(), "it ended with {}: {}", output.status, String::from_utf8_lossy(&output.stdout));
    let printed: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(printed["documents"], documents, "every document was contributed: {printed}");
    let (peak, half) = (peaks.iter().max().expect("it was seen"), &peaks[peaks.len() / 2]);
    let mb = |kb: &u64| f64::from(u32::try_from(*kb).expect("below 4 TB")) * 1_024.0 / 1e6;
    let megabytes = f64::from(u32::try_from(arguments.bytes / 1_000).expect("below 4 TB")) / 1e3;
    let way = if arguments.is_dry { "read, checked, cut and compressed (--dry-run)" } else { "contributed to five nodes" };
    let note = format!("{megabytes:.0} MB, {documents} documents, {way} in {seconds:.0} s; {:.0} MB at half the time", mb(half));
    println!("{}", json!({ "figure": "storage.contribute_rss_mb", "ours": mb(peak), "unit": "MB", "n": 1, "note": note }));
    let note = format!("{megabytes:.0} MB, {documents} documents, {way}; one process, five nodes and a chain share this machine");
    println!("{}", json!({ "figure": "storage.contribute_mb_s", "ours": megabytes / seconds, "unit": "MB/s", "n": 1, "note": note }));
    cluster.stop().await;
}
