//! Receipt logs that cannot be asked, proofs that prove nothing: each refused by name, nothing written.

use harness::{Tributary, chain::root, cluster::text};

use super::{check, client, row, written};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_proofs_that_are_none_are_refused_by_name() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let receipt = root().join("tests/fixtures/bundles/honest-two-datanets.json");
    let (receipt, node) = (text(&receipt), "ab".repeat(32));
    let nobody = ["--log", "http://127.0.0.1:1", "--node", &node];
    let proof = |name: &str, words: &str, bytes: &[u8]| {
        let path = written(outer.path(), name, bytes);
        row(&["receipt", "log", "verify", receipt, "--proof", &path, "--node", &node], &[name, words])
    };
    let long = vec![b'a'; 200_000];
    let rows = [
        row(&["receipt", "log", "show"], &["no node runs with this folder", "--log URL"]),
        row(
            &["receipt", "log", "show", "--log", "nowhere", "--node", &node],
            &["\"nowhere\" is no address of a log", "http://127.0.0.1:7404"],
        ),
        row(&["receipt", "log", "show", "--log", "ftp://127.0.0.1/", "--node", &node], &["is no address of a log"]),
        row(&["receipt", "log", "show", "--log", "http://127.0.0.1:1"], &["--node NODE_ID is needed"]),
        row(&[&["receipt", "log", "verify"][..], &nobody].concat(), &["127.0.0.1:1/checkpoint", "the log does not answer"]),
        row(&[&["receipt", "log", "prove", receipt][..], &nobody].concat(), &["the log does not answer"]),
        row(&[&["receipt", "log", "prove", "nowhere.json"][..], &nobody].concat(), &["nowhere.json"]),
        row(&["receipt", "log", "verify", receipt, "--proof", "nowhere.tlog-proof", "--node", &node], &["nowhere.tlog-proof"]),
        row(&["receipt", "log", "verify", receipt, "--proof", receipt], &["--node NODE_ID is needed"]),
        row(&["audit", "prove", receipt, "--leaves", "nowhere.json"], &["nowhere.json", "cannot be read"]),
        row(&["audit", "prove", receipt, "--leaves", receipt], &["no leaves of an answer", "byte_length"]),
        row(&["audit", "prove", text(&folder), "--leaves", receipt], &["--leaves are those of one answer"]),
        proof("empty.tlog-proof", "no empty line", b""),
        proof("other.tlog-proof", "first line", b"hello\n\nworld\n"),
        proof("index.tlog-proof", "index", b"c2sp.org/tlog-proof@v1\nindex 07\n\nlog\n"),
        proof("hash.tlog-proof", "no hash", b"c2sp.org/tlog-proof@v1\nindex 7\nAAAA\n\nlog\n"),
        proof("unsigned.tlog-proof", "no empty line stands between", b"c2sp.org/tlog-proof@v1\nindex 0\n\nlog\n1\nroot\n"),
        proof("long.tlog-proof", "at most", &long),
    ];
    check(&tributary, &folder, &rows).await;
}
