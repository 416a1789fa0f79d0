//! A line without an end: read up to the cap, no further, whatever follows.

use std::time::{Duration, Instant};

use harness::{Tributary, cluster::text};

use super::client;

/// The line. Who reads all of it is at it for minutes, who keeps it has no room.
const LINE_BYTES: u64 = 1 << 40;

/// The file has a hole in the place of its bytes. How many are taken up to the cap is counted by a test of the reader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_an_end_costs_its_cap_and_an_error() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let path = outer.path().join("endless.jsonl");
    let file = std::fs::File::create(&path).expect("a new file");
    file.set_len(LINE_BYTES).expect("a hole costs no room");
    let started = Instant::now();
    let error = tributary.refused(&folder, &["datanet", "contribute", "surveys", text(&path)]).await;
    assert!(error.contains("line 1") && error.contains("longer than 4194304 bytes") && error.contains("split the document"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
