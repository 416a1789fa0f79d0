//! A line without an end: read up to the cap, no further, whatever follows.

use std::{
    io::Write as _,
    sync::mpsc,
    time::{Duration, Instant},
};

use harness::{Tributary, cluster::text};

use super::client;

/// The line: twenty-five times what a line may have.
const LINE_BYTES: usize = 100_000_000;
/// Most of it that may be taken: the cap of 4 MiB, and what a pipe and a reader's buffer hold.
const TAKEN_MAX: usize = 5 << 20;

/// The file is a pipe, so every byte that the command takes is counted: what it has not taken it cannot hold in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_100_mb_costs_4_mib_and_an_error() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let path = outer.path().join("endless.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    let (sender, taken) = mpsc::channel();
    let pipe = path.clone();
    std::thread::spawn(move || {
        let mut file = std::fs::OpenOptions::new().write(true).open(pipe).expect("the pipe opens once it is read");
        let (piece, mut written) = ([b'a'; 4_096], 0);
        while written < LINE_BYTES && file.write_all(&piece).is_ok() {
            written += piece.len();
        }
        // The test may have failed and gone.
        let _ = sender.send(written);
    });
    let started = Instant::now();
    let error = tributary.refused(&folder, &["datanet", "contribute", "surveys", text(&path)]).await;
    assert!(error.contains("line 1") && error.contains("longer than 4194304 bytes") && error.contains("split the document"), "{error}");
    let taken = taken.recv_timeout(Duration::from_secs(10)).expect("the writer is told that nobody reads");
    assert!(taken < TAKEN_MAX, "{taken} bytes of the line were taken");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
