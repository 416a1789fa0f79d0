//! Twelve nodes keep what they were given: four are killed and every document is still read, what was lost comes back to others while one more is
//! killed, all who hold an object name the same holders, a disk that has rotted fails its audit and is mended, and who does not answer for what it signed loses stake.
//!
//! Operators whose networks nobody knows give the code 3/5, which bears two losses of an object: the four are chosen so that two holders of each are among them. In networks of their
//! own ([`four`]) twelve give 3/9, and any four may go. Epochs of eight
//! seconds stand for days, and patience is in seconds.

mod audits;
mod four;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::future::join_all;
use harness::{Cluster, Setup, chain, cluster::text, files};
use node::config::Config;
use serde_json::Value;

const NODES: usize = 12;
const DOCUMENTS: usize = 30;
/// Holders of one object.
const FRAGMENTS: usize = 5;
/// Fewest fragments that are left alone.
const FLOOR: usize = 4;
/// Longest wait for anything here: silence is noticed after 17 s, an epoch has eight.
const WAIT: Duration = Duration::from_secs(80);
const LOOK: Duration = Duration::from_millis(400);

fn quick(config: &mut Config) {
    let keeping = &mut config.keeping;
    (keeping.epoch_blocks, keeping.scrub_bytes_per_s) = (8, 0);
    let repair = &mut keeping.repair;
    (repair.lost_after_s, repair.takeover_after_s, repair.retry_after_s, repair.look_every_s) = (5, 3, 1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_nodes_keep_their_objects_through_losses_and_rot() {
    let _alone = harness::alone().await;
    let mut cluster = Cluster::start_on(chain::devnet(), Setup { nodes: NODES, ..Setup::default() }, quick).await;
    cluster.run(&cluster.nodes[0], &["datanet", "create", "tides", "--licence", "CC0-1.0"]).await;
    let objects: Vec<Object> = join_all([1, 2].map(|number| contribute_on(&cluster, number, FRAGMENTS))).await;
    cluster.say("two contributions lie on five disks each");

    let dying = dying(&objects);
    for number in &dying {
        cluster.nodes[*number].kill().await;
    }
    cluster.say(&format!("{dying:?} were killed: two holders of each contribution are among them"));
    everything_is_read(&cluster, "first").await;
    let victim = mended_while_another_dies(&mut cluster, &objects).await;
    everything_is_read(&cluster, "second").await;
    for object in &objects {
        everyone_names_the_same_holders(&cluster, object).await;
    }
    comes_back(&mut cluster, victim).await;
    what_was_handed_on_is_released(&mut cluster, &dying, &objects[0]).await;
    audits::rot_is_found_mended_and_asked_for_on_the_chain(&mut cluster, &dying, &objects).await;
    cluster.stop().await;
}

/// A contribution's object and the nodes that were given a fragment of it.
struct Object {
    id: String,
    holders: BTreeSet<usize>,
}

async fn contribute_on(cluster: &Cluster, number: usize, fragments: usize) -> Object {
    let subject = ["", "tide", "wind"][number];
    let file = files::jsonl(&cluster.path(&format!("{subject}.jsonl")), &files::documents(subject, DOCUMENTS));
    let printed = cluster.run(&cluster.nodes[number], &["datanet", "contribute", "tides", text(&file)]).await;
    let id = printed["object"].as_str().expect("an object id").to_owned();
    let holders: BTreeSet<_> =
        printed["holders"].as_array().expect("holders").iter().map(|holder| place(cluster, &holder["account"])).collect();
    assert_eq!(holders.len(), fragments, "{printed}");
    Object { id, holders }
}

/// The node behind an account in a document.
pub(crate) fn place(cluster: &Cluster, account: &Value) -> usize {
    let account = account.as_str().expect("an account");
    cluster.nodes.iter().position(|node| node.account.to_string() == account).expect("an account of the cluster")
}

/// Four nodes, two holders of each object among them, none of them the one that everybody was told of; a node that holds nothing is left beside them.
fn dying(objects: &[Object]) -> Vec<usize> {
    let is_right = |four: &[usize]| {
        let lost = |object: &Object| four.iter().filter(|number| object.holders.contains(number)).count();
        objects.iter().all(|object| lost(object) == 2) && (1..NODES).any(|number| !four.contains(&number) && is_idle(objects, number))
    };
    let mut found = Vec::new();
    for choice in 0_u32..1 << NODES {
        let four: Vec<usize> = (1..NODES).filter(|number| choice >> number & 1 == 1).collect();
        if choice & 1 == 0 && four.len() == 4 && is_right(&four) {
            found = four;
            break;
        }
    }
    assert_eq!(found.len(), 4, "any two sets of five among twelve leave such a choice");
    found
}

fn is_idle(objects: &[Object], number: usize) -> bool {
    objects.iter().all(|object| !object.holders.contains(&number))
}

/// Somebody with an empty disk reads every document.
async fn everything_is_read(cluster: &Cluster, name: &str) {
    let reader = cluster.join(name, &[]).await;
    let fetched = cluster.run(&reader, &["datanet", "fetch", "tides"]).await;
    let documents: u64 = fetched["contributions"].as_array().expect("a list").iter().filter_map(|one| one["documents"].as_u64()).sum();
    assert_eq!(documents, 2 * DOCUMENTS as u64, "{fetched}");
    cluster.say("every document was read");
}

/// What a node's operator is told, or nothing while the node is busy.
pub(crate) async fn status(cluster: &Cluster, number: usize) -> Option<Value> {
    let outcome = cluster.outcome(&cluster.nodes[number], &["storage", "status"]).await;
    (outcome.code == Some(0)).then_some(outcome.json)
}

pub(crate) fn running(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.nodes.len()).filter(|number| cluster.nodes[*number].is_running()).collect()
}

/// Asks until something is so.
///
/// # Panics
/// After [`WAIT`], with what was seen last.
pub(crate) async fn until<T, F: Future<Output = Result<T, String>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        match ask().await {
            Ok(done) => return done,
            Err(seen) => assert!(Instant::now() < deadline, "{what} did not come about within {} s: {seen}", WAIT.as_secs()),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The row of an object in a status.
pub(crate) fn row<'v>(status: &'v Value, object: &str) -> Option<&'v Value> {
    status["objects"].as_array()?.iter().find(|row| row["object"] == object)
}

pub(crate) fn held(row: &Value) -> usize {
    row["fragments"].as_array().map_or(0, |list| list.iter().filter(|fragment| fragment["stands"] == "held").count())
}

/// As soon as somebody rebuilds, a node that holds nothing yet is killed too, and told; every object comes back all the same.
async fn mended_while_another_dies(cluster: &mut Cluster, objects: &[Object]) -> usize {
    let seen: &Cluster = cluster;
    until("a rebuild", || async {
        let is_begun = seen.nodes.iter().any(|node| node.log_text().contains("rebuilding"));
        is_begun.then_some(()).ok_or_else(|| "no log tells of one".to_owned())
    })
    .await;
    let victim = running(cluster).into_iter().find(|number| *number > 0 && is_idle(objects, *number)).expect("one was left");
    cluster.nodes[victim].kill().await;
    cluster.say(&format!("{victim} was killed while others rebuilt"));
    let cluster: &Cluster = cluster;
    for object in objects {
        let watchers: Vec<_> = running(cluster).into_iter().filter(|number| object.holders.contains(number)).collect();
        let watcher = watchers[0];
        until("an object that is whole again", || async {
            let status = status(cluster, watcher).await.ok_or("its holder does not answer")?;
            let row = row(&status, &object.id).ok_or_else(|| format!("{watcher} holds nothing of it: {status}"))?;
            let is_whole = held(row) >= FLOOR && row["is_due"] == false && row["is_mending"] == false;
            is_whole.then_some(()).ok_or_else(|| row.to_string())
        })
        .await;
    }
    cluster.say("both contributions are whole again");
    victim
}

/// It may be listed for a fragment that it took just before it died: back, it shows that to whoever had it before, and with it losing two more of five leaves
/// the three that are needed.
async fn comes_back(cluster: &mut Cluster, number: usize) {
    cluster.start_node(number).await;
    let cluster: &Cluster = cluster;
    until("a node that is back", || async { status(cluster, number).await.map(drop).ok_or_else(|| "it does not answer".to_owned()) }).await;
    cluster.say(&format!("{number}, killed while others rebuilt, is back"));
}

/// Every running holder of an object names the same holders, and these are running.
async fn everyone_names_the_same_holders(cluster: &Cluster, object: &Object) {
    let holders = until("one list of holders", || async {
        let mut named = BTreeMap::<Vec<usize>, Vec<usize>>::new();
        for number in running(cluster) {
            let status = status(cluster, number).await.ok_or("a node does not answer")?;
            let Some(row) = row(&status, &object.id) else { continue };
            let list =
                row["fragments"].as_array().ok_or("no fragments")?.iter().map(|fragment| place(cluster, &fragment["holder"])).collect();
            named.entry(list).or_default().push(number);
        }
        let (Some((holders, by)), 1) = (named.pop_first(), named.len() + 1) else { return Err(format!("{named:?}")) };
        let live: Vec<_> = holders.iter().copied().filter(|number| cluster.nodes[*number].is_running()).collect();
        let agree = live.len() >= FLOOR && live.iter().all(|holder| by.contains(holder));
        if agree { Ok(holders) } else { Err(format!("{by:?} name {holders:?}")) }
    })
    .await;
    cluster.say(&format!("all running holders agree: {holders:?}"));
}

/// Who was killed comes back with its fragment, which another has taken over and shows: it is released.
async fn what_was_handed_on_is_released(cluster: &mut Cluster, dying: &[usize], object: &Object) {
    let number = *dying.iter().find(|number| object.holders.contains(number)).expect("two of its holders were killed");
    cluster.start_node(number).await;
    let cluster: &Cluster = cluster;
    until("a fragment that was let go", || async {
        // It looks by itself once per epoch and every ten minutes; asked, at once.
        cluster.run(&cluster.nodes[number], &["storage", "repair"]).await;
        let status = status(cluster, number).await.ok_or("the node does not answer")?;
        let is_gone = status["upkeep"]["handed_on"].as_u64() >= Some(1);
        is_gone.then_some(()).ok_or_else(|| status["upkeep"].to_string())
    })
    .await;
    cluster.say(&format!("{number} came back, and released what another holds now"));
}
