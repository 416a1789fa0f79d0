//! A contributor whose process is killed in the middle: the same command goes on, pays nothing twice, and loses nothing.

use std::{process::Stdio, time::Duration};

use harness::{Cluster, Party, cluster::text, files};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

/// Documents of the contribution.
const DOCUMENTS: usize = 40;
/// Longest from the command's start to the line at which it is killed.
const LINE_WAIT: Duration = Duration::from_secs(60);

/// Killed once between commitment and gate, once between acceptance and spreading.
pub(super) async fn a_contribution_killed_twice_is_finished_by_the_same_command(cluster: &Cluster) {
    let who = &cluster.nodes[3];
    let file = files::jsonl(&cluster.path("interrupted.jsonl"), &files::documents("ebb", DOCUMENTS));
    let contribute = ["datanet", "contribute", "tides", text(&file)];
    let sent = nonce(cluster, who).await;

    killed_at(cluster, who, &contribute, &["committed in block"], |_| {}).await;
    assert_eq!(nonce(cluster, who).await, sent + 1, "the commitment");
    cluster.say("a contributor was killed after its commitment");

    // Three holders stand still from the commitment on, so that the fragments cannot be where they belong when the process dies.
    let still = [1, 2, 4].map(|number: usize| &cluster.nodes[number]);
    let lines = ["committed in block", "accepted as contribution"];
    let line = killed_at(cluster, who, &contribute, &lines, |line| {
        if line.starts_with(lines[0]) {
            signal(&still, "-STOP");
        }
    })
    .await;
    signal(&still, "-CONT");
    let number: u64 = line.split([' ', ';']).find_map(|word| word.parse().ok()).expect("the contribution's number");
    assert_eq!(nonce(cluster, who).await, sent + 2, "the acceptance; the commitment is not paid again");
    let number = number.to_string();
    let reader = super::reader(cluster, "impatient").await;
    let verify = ["datanet", "verify", "tides", "--contribution", &number];
    let error = cluster.refused(&reader, &verify).await;
    assert!(error.contains("not whole") && error.contains("run `datanet contribute` again"), "{error}");
    cluster.say("it was killed again after the acceptance, before its fragments were spread, and the reader is told what mends that");

    let done = cluster.run(who, &contribute).await;
    assert_eq!((done["contribution"].to_string(), &done["documents"]), (number.clone(), &DOCUMENTS.into()), "{done}");
    let rows = done["transactions"].as_array().expect("a list");
    assert!(rows.iter().all(|row| row["is_resumed"] == true), "nothing is paid again: {done}");
    assert_eq!(done["holders"].as_array().map(Vec::len), Some(5), "{done}");
    assert_eq!(nonce(cluster, who).await, sent + 2);
    let left = who.folder.join("pending");
    assert!(!left.exists() || std::fs::read_dir(&left).expect("its records").next().is_none(), "the record has served");
    let whole = cluster.run(&reader, &verify).await;
    assert_eq!(whole[0]["fragments"].as_object().map(serde_json::Map::len), Some(5), "{whole}");
    let fetched = cluster.run(&reader, &["datanet", "fetch", "tides", "--contribution", &number]).await;
    assert_eq!(fetched["contributions"][0]["documents"], DOCUMENTS, "{fetched}");
    cluster.say("the same command finished it without a transaction");
}

/// Transactions that an account has sent, those not yet in a block too.
pub(super) async fn nonce(cluster: &Cluster, party: &Party) -> u64 {
    cluster.chain.rpc().nonce(party.account, true).await.expect("the chain answers")
}

/// Sends a signal to nodes.
fn signal(nodes: &[&Party], signal: &str) {
    let pids = nodes.iter().map(|node| node.addresses.as_ref().expect("the node runs").pid.to_string());
    let done = std::process::Command::new("sh").args(["-c", "kill \"$@\"", "sh", signal]).args(pids).status().expect("the shell runs");
    assert!(done.success());
}

/// Runs a command as a person would, tells `heard` each line, and kills it as soon as it has said lines that begin like `beginnings`, in this order;
/// returns the last one.
pub(super) async fn killed_at(cluster: &Cluster, party: &Party, arguments: &[&str], beginnings: &[&str], heard: impl Fn(&str)) -> String {
    let mut child = cluster.tributary.plain(&party.folder, arguments).stdout(Stdio::null()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let awaited = async {
        let (mut said, mut awaited) = (Vec::new(), beginnings.iter().peekable());
        while let Some(line) = lines.next_line().await.expect("text") {
            heard(&line);
            if awaited.next_if(|beginning| line.starts_with(**beginning)).is_some() && awaited.peek().is_none() {
                return line;
            }
            said.push(line);
        }
        panic!("the command ended without saying {beginnings:?}: {said:?}")
    };
    let line = timeout(LINE_WAIT, awaited).await.unwrap_or_else(|_| panic!("{beginnings:?} was not said within {LINE_WAIT:?}"));
    child.kill().await.expect("the command is killed");
    line
}
