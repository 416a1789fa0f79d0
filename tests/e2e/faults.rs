//! Faults of a live network of ten processes, one after another on one chain: a reader and a holder are killed in the middle of a fetch, the network falls
//! apart into four and six and heals, and a coordinator is killed in the middle of a rebuild.
//!
//! Ten operators give the code 3/5, which bears two losses of an object and is mended when two are lost. Epochs of eight seconds stand for days, and patience
//! is in seconds; `TRIBUTARY_FAULT_ROUNDS` has all of it happen more often than once. A network falls apart as operators would make it: each side's nodes refuse the other side's (`node::peers`), so that no connection between
//! them lasts, in either direction and on either transport; the chain is seen by both.

mod broken_off;
mod parted;
mod taken_over;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::future::join_all;
use harness::{Cluster, Party, Setup, chain, cluster::text, files};
use node::config::Config;
use serde_json::Value;

const NODES: usize = 10;
/// Documents of a contribution: 60 kB, fragments of some kB.
const DOCUMENTS: usize = 300;
/// Holders of one object, and how many of them suffice.
const FRAGMENTS: usize = 5;
const ENOUGH: usize = 3;
/// Objects: any four of five holders among ten leave sides that each of the scenes needs.
const SUBJECTS: [&str; 4] = ["tide", "wind", "fog", "snow"];
/// Longest wait for anything here: the silence of a killed node is noticed after 16 s, an epoch has eight.
const WAIT: Duration = Duration::from_secs(80);
const LOOK: Duration = Duration::from_millis(300);

fn quick(config: &mut Config) {
    let keeping = &mut config.keeping;
    (keeping.epoch_blocks, keeping.scrub_bytes_per_s) = (8, 0);
    let repair = &mut keeping.repair;
    (repair.lost_after_s, repair.takeover_after_s, repair.retry_after_s, repair.look_every_s) = (4, 2, 1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_nodes_outlive_killed_readers_holders_and_coordinators_and_a_partition() {
    let _alone = harness::alone().await;
    let mut cluster = Cluster::start_on(chain::devnet(), Setup { nodes: NODES, ..Setup::default() }, quick).await;
    cluster.run(&cluster.nodes[0], &["datanet", "create", "tides", "--licence", "CC0-1.0"]).await;
    let objects = join_all((1..).zip(SUBJECTS).map(|(number, subject)| contribute(&cluster, number, subject))).await;
    cluster.say("four contributions lie on five disks each");
    for round in 0..rounds() {
        let object = &objects[round % objects.len()];
        broken_off::a_reader_and_a_holder_are_killed_while_they_fetch(&mut cluster, object, round).await;
        parted::four_and_six_are_apart_for_a_while(&cluster, &objects, round).await;
        taken_over::a_coordinator_is_killed_while_it_hands_fragments_over(&mut cluster, object, round).await;
    }
    cluster.stop().await;
}

/// Times that everything happens: once, unless `TRIBUTARY_FAULT_ROUNDS` names another number.
fn rounds() -> usize {
    std::env::var("TRIBUTARY_FAULT_ROUNDS").map_or(1, |text| text.parse().expect("TRIBUTARY_FAULT_ROUNDS is a number"))
}

/// A contribution's object.
#[derive(Debug, Clone)]
struct Object {
    id: String,
    /// Number of the contribution.
    number: String,
    /// Nodes that were given a fragment at first, by fragment.
    placed: Vec<usize>,
    /// Nodes that hold one now, by fragment.
    holders: Vec<usize>,
    /// Bytes of a fragment.
    fragment_bytes: u64,
}

async fn contribute(cluster: &Cluster, number: usize, subject: &str) -> Object {
    let file = files::jsonl(&cluster.path(&format!("{subject}.jsonl")), &files::documents(subject, DOCUMENTS));
    let printed = cluster.run(&cluster.nodes[number], &["datanet", "contribute", "tides", text(&file)]).await;
    let rows = printed["holders"].as_array().expect("holders");
    let holders: Vec<usize> = rows.iter().map(|holder| place(cluster, &holder["account"])).collect();
    assert_eq!(holders.iter().collect::<BTreeSet<_>>().len(), FRAGMENTS, "{printed}");
    Object {
        id: printed["object"].as_str().expect("an object id").to_owned(),
        number: printed["contribution"].to_string(),
        placed: holders.clone(),
        holders,
        fragment_bytes: rows[0]["bytes"].as_u64().expect("bytes"),
    }
}

/// The node behind an account in a document.
fn place(cluster: &Cluster, account: &Value) -> usize {
    let account = account.as_str().expect("an account");
    cluster.nodes.iter().position(|node| node.account.to_string() == account).expect("an account of the cluster")
}

/// Asks until something is so.
///
/// # Panics
/// After [`WAIT`], with what was seen last.
async fn until<T, F: Future<Output = Result<T, String>>>(what: &str, look: Duration, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        match ask().await {
            Ok(done) => return done,
            Err(seen) => assert!(Instant::now() < deadline, "{what} did not come about within {} s: {seen}", WAIT.as_secs()),
        }
        tokio::time::sleep(look).await;
    }
}

fn running(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.nodes.len()).filter(|number| cluster.nodes[*number].is_running()).collect()
}

/// An object as one node that holds a fragment of it sees it.
struct Row {
    /// Nodes, by fragment.
    holders: Vec<usize>,
    held: usize,
    is_due: bool,
    is_mending: bool,
}

/// What a node says of an object; nothing while it holds nothing of it.
///
/// # Errors
/// That it does not answer.
async fn row(cluster: &Cluster, number: usize, object: &Object) -> Result<Option<Row>, String> {
    let outcome = cluster.outcome(&cluster.nodes[number], &["storage", "status"]).await;
    if outcome.code != Some(0) {
        return Err(format!("{number} does not answer: {outcome}"));
    }
    let rows = outcome.json["objects"].as_array().cloned().unwrap_or_default();
    let Some(row) = rows.into_iter().find(|row| row["object"] == object.id.as_str()) else { return Ok(None) };
    let fragments = row["fragments"].as_array().cloned().unwrap_or_default();
    Ok(Some(Row {
        holders: fragments.iter().map(|fragment| place(cluster, &fragment["holder"])).collect(),
        held: fragments.iter().filter(|fragment| fragment["stands"] == "held").count(),
        is_due: row["is_due"] == true,
        is_mending: row["is_mending"] == true,
    }))
}

/// Waits until all running nodes that hold something of an object name the same five holders, all of which run, hold it and say so themselves.
async fn one_record_of_five_who_hold_it(cluster: &Cluster, object: &Object) -> Vec<usize> {
    one_record(cluster, object, &[]).await
}

/// The same, but that of some it does not matter whether they hold it: who was killed counts until its silence is noticed, and then as lost.
async fn one_record(cluster: &Cluster, object: &Object, but: &[usize]) -> Vec<usize> {
    until("one record of holders that answer", LOOK, || async {
        let all = join_all(running(cluster).into_iter().map(|number| async move { (number, row(cluster, number, object).await) })).await;
        let mut seen = Vec::new();
        for (number, row) in all {
            if let Some(row) = row? {
                seen.push((number, row));
            }
        }
        let named: BTreeSet<&Vec<usize>> = seen.iter().map(|(_, row)| &row.holders).collect();
        let by: BTreeSet<usize> = seen.iter().map(|(number, _)| *number).collect();
        let lost = |row: &Row| row.holders.iter().filter(|holder| but.contains(holder)).count();
        let is_calm = |row: &Row| row.held + lost(row) == FRAGMENTS && !row.is_due && !row.is_mending;
        let is_there = |holder: &usize| by.contains(holder) || but.contains(holder);
        match named.first() {
            Some(holders) if named.len() == 1 && holders.iter().all(is_there) && seen.iter().all(|(_, row)| is_calm(row)) => {
                Ok((*holders).clone())
            }
            _ => Err(format!("{:?}", seen.iter().map(|(number, row)| (number, &row.holders, row.held, row.is_due)).collect::<Vec<_>>())),
        }
    })
    .await
}

/// Fragments of an object that lie with a node, by its log: those that it was given or took, without those that it released.
///
/// They may be more than the record names it for. A fragment that moved stays where it was too while a commitment there lists it, for 32 blocks and until the next epoch's look, and until its
/// new holder shows it; readers find it there.
fn lying(log: &str, number: usize, object: &Object) -> BTreeSet<u8> {
    let placed = (0..).zip(&object.placed).filter(|(_, holder)| **holder == number).map(|(fragment, _)| fragment);
    let (mut lying, id): (BTreeSet<u8>, _) = (placed.collect(), object.id.trim_start_matches("0x"));
    for line in log.lines().filter(|line| line.contains(id)) {
        let fragment = || -> Option<u8> { line.split_once("fragment=")?.1.split_whitespace().next()?.parse().ok() };
        if line.contains("holding a fragment from now on") {
            lying.extend(fragment());
        } else if line.contains("a fragment that was handed on is released here")
            && let Some(fragment) = fragment()
        {
            lying.remove(&fragment);
        }
    }
    lying
}

/// Times a node has begun to rebuild an object, by its log.
fn rebuilds(node: &Party, object: &Object) -> usize {
    let id = object.id.trim_start_matches("0x");
    node.log_text().lines().filter(|line| line.contains("rebuilding") && line.contains(id)).count()
}

/// Sends a signal to nodes: `-STOP` lets them stand still, `-CONT` go on.
fn signal(nodes: &[&Party], signal: &str) {
    let pids = nodes.iter().map(|node| node.addresses.as_ref().expect("the node runs").pid.to_string());
    let done = std::process::Command::new("sh").args(["-c", "kill \"$@\"", "sh", signal]).args(pids).status().expect("the shell runs");
    assert!(done.success());
}
