//! Room and countries: fragments go where there is room for them and where the card lets them lie, when an object is spread and when it is mended.
//!
//! Seven nodes in Germany have room. Beside them one has a tiny capacity, one a disk whose reserve leaves nothing, and one says that it has room until it is asked; two are
//! elsewhere. Repair looks at objects once at the start and then only when its operator asks, so that what `storage repair` does is seen.

use std::{cell::Cell, collections::BTreeSet};

use futures::future::join_all;
use harness::{Cluster, Setup, chain, cluster::text, files};
use node::config::Config;
use serde_json::Value;

use super::{
    keeping::{held, place, row, running, status, until},
    storage::damage::rot,
};

const NODES: usize = 12;
/// Its capacity is eight of the smallest segments: less than a node keeps free.
const TINY: usize = 4;
/// The reserve of its disk is larger than any disk.
const RESERVED: usize = 5;
/// As [`RESERVED`], but it takes fragments as long as anything at all is free, so that it says it has room.
const HOPEFUL: usize = 6;
const ELSEWHERE: [usize; 2] = [10, 11];
const FRAGMENTS: usize = 5;
/// Contributions after which the hopeful one was drawn in all likelihood: each time five of eight are, and (3/8)^12 is 8 in a million.
const CONTRIBUTIONS_MAX: usize = 12;

fn configured(number: usize, config: &mut Config) {
    let keeping = &mut config.keeping;
    keeping.region = Some(if ELSEWHERE.contains(&number) { "US" } else { "DE" }.parse().expect("a country"));
    (keeping.epoch_blocks, keeping.scrub_bytes_per_s) = (8, 0);
    let repair = &mut keeping.repair;
    (repair.lost_after_s, repair.takeover_after_s, repair.retry_after_s, repair.look_every_s) = (5, 3, 1, 3_600);
    let store = &mut keeping.store;
    match number {
        TINY => (store.capacity_bytes, store.segment_bytes) = (512 << 10, 64 << 10),
        RESERVED => store.disk_reserve_bytes = 1 << 60,
        HOPEFUL => (store.disk_reserve_bytes, keeping.room_bytes) = (1 << 60, 0),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_go_where_there_is_room_and_where_they_may_lie() {
    let _alone = harness::alone().await;
    let number = Cell::new(0);
    let in_turn = |config: &mut Config| configured(number.replace(number.get() + 1), config);
    let mut cluster = Cluster::start_on(chain::devnet(), Setup { nodes: NODES, people: vec!["reader"], ..Setup::default() }, in_turn).await;
    let create = ["datanet", "create", "tides", "--licence", "CC0-1.0", "--region", "DE"];
    cluster.run(&cluster.nodes[0], &create).await;
    a_full_node_says_so(&cluster).await;
    a_gate_elsewhere_lets_nothing_in(&cluster).await;
    let objects = contributions_succeed_beside_full_nodes(&cluster).await;
    what_is_exported_is_imported_as_it_was(&cluster, objects.len()).await;
    let holders = mended_where_it_may_lie_when_the_operator_asks(&mut cluster, &objects[0]).await;
    what_rots_with_a_holder_that_has_no_room_goes_to_another(&mut cluster, &objects[0], holders).await;
    nothing_lies_elsewhere_or_with_the_full(&cluster).await;
    a_full_gate_gives_up_what_its_holders_show(&mut cluster).await;
    cluster.stop().await;
}

/// What its operator sees.
async fn a_full_node_says_so(cluster: &Cluster) {
    for (number, has_room) in [(0, true), (TINY, false), (RESERVED, false), (HOPEFUL, true)] {
        let status = status(cluster, number).await.expect("it answers");
        assert_eq!(status["has_room"], has_room, "{number}: {status}");
        assert!(status["disk_free_bytes"].as_u64() > Some(1 << 20), "{status}");
    }
    let [tiny, reserved] = [status(cluster, TINY).await, status(cluster, RESERVED).await].map(|status| status.expect("it answers"));
    assert_eq!((&tiny["capacity_bytes"], &reserved["disk_reserve_bytes"]), (&(512_u64 << 10).into(), &(1_u64 << 60).into()));
    assert_eq!((&reserved["free_bytes"], &reserved["used_bytes"]), (&0.into(), &12.into()), "its disk has none to give: {reserved}");
    cluster.say("full nodes say that they are");
}

/// A gate keeps a copy of what it lets in, and this one may not.
async fn a_gate_elsewhere_lets_nothing_in(cluster: &Cluster) {
    let owner = &cluster.nodes[ELSEWHERE[0]];
    cluster.run(owner, &["datanet", "create", "far", "--licence", "CC0-1.0", "--region", "DE"]).await;
    let file = files::jsonl(&cluster.path("far.jsonl"), &files::documents("far", 3));
    let error = cluster.refused(&cluster.nodes[1], &["datanet", "contribute", "far", text(&file)]).await;
    assert!(error.contains("stays in DE") && error.contains("stands in US: nothing was paid"), "{error}");
    assert!(!owner.folder.join("shards").exists(), "it keeps no copy");
    cluster.say("a gate in another country took nothing");
}

/// Contributes until the node that only says it has room was asked; returns the objects.
async fn contributions_succeed_beside_full_nodes(cluster: &Cluster) -> Vec<String> {
    let (mut objects, full) = (Vec::new(), [TINY, RESERVED, HOPEFUL]);
    for number in 0..CONTRIBUTIONS_MAX {
        let file = files::jsonl(&cluster.path(&format!("tide-{number}.jsonl")), &files::documents(&format!("tide{number}"), 20));
        let outcome = cluster.outcome(&cluster.nodes[1], &["datanet", "contribute", "tides", text(&file)]).await;
        let printed = &outcome.json;
        assert_eq!(outcome.code, Some(0), "{printed}: {}", outcome.errors);
        let holders: BTreeSet<_> =
            printed["holders"].as_array().expect("holders").iter().map(|one| place(cluster, &one["account"])).collect();
        assert_eq!(holders.len(), FRAGMENTS, "{printed}");
        assert!(holders.iter().all(|holder| !full.contains(holder) && !ELSEWHERE.contains(holder)), "{holders:?}");
        objects.push(printed["object"].as_str().expect("an object").to_owned());
        let hopeful = status(cluster, HOPEFUL).await.expect("it answers");
        if hopeful["has_room"] == false {
            assert!(cluster.nodes[HOPEFUL].log_text().contains("a fragment found no room"), "{hopeful}");
            cluster.say(&format!("the {number}. contribution went past a node that had said it has room"));
            return objects;
        }
    }
    panic!("the hopeful node was never drawn in {CONTRIBUTIONS_MAX} contributions");
}

/// Two holders are killed. Nothing happens by itself within the hour that repair waits; asked, it mends, and where the object may lie alone.
async fn mended_where_it_may_lie_when_the_operator_asks(cluster: &mut Cluster, object: &str) -> Vec<usize> {
    let named = |cluster: &Cluster, status: &Value| named(cluster, status, object);
    let mut holders = Vec::new();
    for number in running(cluster) {
        let status = status(cluster, number).await.expect("it answers");
        holders = named(cluster, &status).unwrap_or(holders);
    }
    assert_eq!(holders.len(), FRAGMENTS);
    let dying: Vec<_> = holders.iter().copied().filter(|holder| *holder > 1).take(2).collect();
    let left: Vec<_> = holders.iter().copied().filter(|holder| !dying.contains(holder)).collect();
    for (number, dead) in dying.iter().zip(1..) {
        cluster.nodes[*number].kill().await;
        let cluster: &Cluster = cluster;
        until("as many losses as died", || async {
            let status = status(cluster, left[0]).await.ok_or("it does not answer")?;
            let row = row(&status, object).ok_or("it is not watched")?;
            let lost = row["fragments"].as_array().map_or(0, |list| list.iter().filter(|fragment| fragment["stands"] == "lost").count());
            if lost == dead { Ok(()) } else { Err(row.to_string()) }
        })
        .await;
        contributed_again(cluster, object, dead).await;
    }
    let cluster: &Cluster = cluster;
    let is_begun = || cluster.nodes.iter().any(|node| node.log_text().contains("rebuilding"));
    assert!(!is_begun(), "repair looks once an hour here");
    cluster.say(&format!("{dying:?} are lost, and nobody mends by himself"));
    let mended = until("an object that is whole again", || async {
        let asked = join_all(left.iter().map(|number| cluster.run(&cluster.nodes[*number], &["storage", "repair"]))).await;
        assert!(asked.iter().all(|printed| printed["objects"].as_u64() >= Some(1)), "{asked:?}");
        let status = status(cluster, left[0]).await.ok_or("it does not answer")?;
        let row = row(&status, object).ok_or("it is not watched")?;
        let is_whole = held(row) == FRAGMENTS && row["is_due"] == false;
        is_whole.then(|| named(cluster, &status).expect("seen above")).ok_or_else(|| row.to_string())
    })
    .await;
    assert!(is_begun() && mended.iter().all(|holder| (0..4).contains(holder) || (7..10).contains(holder)), "{mended:?}");
    cluster.say(&format!("asked, they brought it back to {mended:?}"));
    mended
}

/// Who is named for an object, by fragment.
fn named(cluster: &Cluster, status: &Value, object: &str) -> Option<Vec<usize>> {
    Some(row(status, object)?["fragments"].as_array()?.iter().map(|fragment| place(cluster, &fragment["holder"])).collect())
}

/// Those that were killed run again and hold nothing. Of the holders one dies, and another has a disk that is full and rots: it answers all the time, and both fragments go to the two.
async fn what_rots_with_a_holder_that_has_no_room_goes_to_another(cluster: &mut Cluster, object: &str, holders: Vec<usize>) {
    let back: Vec<_> = (0..NODES).filter(|number| !cluster.nodes[*number].is_running()).collect();
    let mut others = holders.iter().copied().filter(|number| *number > 1);
    let (full, dead) = (others.next().expect("a holder"), others.next().expect("another"));
    for number in &back {
        cluster.start_node(*number).await;
    }
    cluster.stop_node(full).await;
    let fragment = rot(&cluster.nodes[full].folder.join("store"), object);
    cluster.nodes[full].configure(|config| {
        (config.keeping.store.disk_reserve_bytes, config.keeping.scrub_bytes_per_s) = (1 << 60, 5 << 20);
    });
    cluster.start_node(full).await;
    cluster.nodes[dead].kill().await;
    let cluster: &Cluster = cluster;
    let left: Vec<_> = holders.iter().copied().filter(|number| *number != dead).collect();
    let watcher = *left.iter().find(|number| **number != full).expect("three are left");
    let now = until("two fragments with new holders", || async {
        join_all(left.iter().map(|number| cluster.outcome(&cluster.nodes[*number], &["storage", "repair"]))).await;
        let status = status(cluster, watcher).await.ok_or("it does not answer")?;
        let row = row(&status, object).ok_or("it is not watched")?;
        let is_whole = held(row) == FRAGMENTS && row["is_due"] == false;
        let named = named(cluster, &status, object).expect("seen above");
        let is_moved = !named.contains(&full) && !named.contains(&dead);
        (is_whole && is_moved).then_some(named).ok_or_else(|| row.to_string())
    })
    .await;
    assert!(back.iter().all(|number| now.contains(number)), "{now:?} without {back:?}");
    let full_now = status(cluster, full).await.expect("it answers");
    assert_eq!(full_now["has_room"], false, "{full_now}");
    cluster.say(&format!("fragment {fragment} rotted with {full}, who has no room and answers: {now:?} hold the object now"));
}

/// Whoever brings the first contribution again demands no more than repair does: four of five, one of which may be gone.
async fn contributed_again(cluster: &Cluster, object: &str, dead: usize) {
    let file = cluster.path("tide-0.jsonl");
    let outcome = cluster.outcome(&cluster.nodes[1], &["datanet", "contribute", "tides", text(&file)]).await;
    let printed = &outcome.json;
    if dead == 1 {
        assert_eq!(outcome.code, Some(0), "{printed}: {}", outcome.errors);
        assert_eq!(
            (printed["object"].as_str(), printed["holders"].as_array().map(Vec::len)),
            (Some(object), Some(FRAGMENTS - 1)),
            "{printed}"
        );
        assert_eq!(printed["left_to_repair"].as_array().map(Vec::len), Some(1), "{printed}");
    } else {
        assert_ne!(outcome.code, Some(0), "{printed}");
        let error = printed["error"].as_str().unwrap_or_default();
        assert!(error.contains("3 of 5 fragments are stored"), "{outcome}");
    }
    cluster.say(&format!("with {dead} of five holders gone a contribution was brought again: {:?}", outcome.code));
}

async fn nothing_lies_elsewhere_or_with_the_full(cluster: &Cluster) {
    for number in [TINY, RESERVED, HOPEFUL].into_iter().chain(ELSEWHERE) {
        let status = status(cluster, number).await.expect("it answers");
        assert_eq!((&status["objects"], &status["used_bytes"]), (&Value::Array(vec![]), &12.into()), "{number}: {status}");
    }
    cluster.say("no fragment lies in another country, or with a node that has no room");
}

/// A gate that may keep no more copies than it has gives one up for the next, once its holders have shown that they have it.
async fn a_full_gate_gives_up_what_its_holders_show(cluster: &mut Cluster) {
    let before = copies(cluster);
    let held: u64 = before.iter().map(|(_, bytes)| bytes).sum();
    cluster.stop_node(0).await;
    cluster.nodes[0].configure(|config| config.keeping.copies_bytes = held);
    for number in (0..NODES).filter(|number| !cluster.nodes[*number].is_running()).collect::<Vec<_>>() {
        cluster.start_node(number).await;
    }
    cluster.all_know_each_other().await;
    let file = files::jsonl(&cluster.path("spring.jsonl"), &files::documents("spring", 20));
    cluster.run(&cluster.nodes[1], &["datanet", "contribute", "tides", text(&file)]).await;
    let after = copies(cluster);
    let is_gone = |name: &String| after.iter().all(|(left, _)| left != name);
    assert!(before.iter().any(|(name, _)| is_gone(name)), "{before:?}, then {after:?}");
    assert!(after.iter().map(|(_, bytes)| bytes).sum::<u64>() <= held, "{after:?} within {held}");
    assert!(cluster.nodes[0].log_text().contains("made room for another one"));
    cluster.say("a full gate gave up a copy that holders have shown");
}

/// The gate's whole copies: name and bytes.
fn copies(cluster: &Cluster) -> Vec<(String, u64)> {
    let folder = std::fs::read_dir(cluster.nodes[0].folder.join("shards")).expect("the gate's copies");
    let named = |entry: std::fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("its length").len());
    folder.map(|entry| named(entry.expect("a file"))).collect()
}

/// Somebody with an empty disk writes the Datanet out, told what follows from that; an owner in the same country makes another one of it.
async fn what_is_exported_is_imported_as_it_was(cluster: &Cluster, contributions: usize) {
    let out = cluster.path("exported");
    let outcome = cluster.outcome(cluster.person("reader"), &["datanet", "export", "tides", "--out", text(&out)]).await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    let told = outcome.json["residency"].as_str().unwrap_or_default();
    assert!(told.contains("stays in DE") && told.contains("you answer"), "{}", outcome.json);
    let exported: BTreeSet<_> = outcome.json["files"].as_array().expect("files").iter().map(|file| file["text_root"].to_string()).collect();
    assert_eq!(exported.len(), contributions, "{}", outcome.json);
    cluster.run(&cluster.nodes[0], &["datanet", "import", text(&out), "--name", "again"]).await;
    let shown = cluster.run(&cluster.nodes[0], &["datanet", "show", "again"]).await;
    assert_eq!(shown["card"]["policy"]["residency"], serde_json::json!(["DE"]), "{shown}");
    let again = cluster.path("again");
    let printed = cluster.run(cluster.person("reader"), &["datanet", "export", "again", "--out", text(&again)]).await;
    let imported: BTreeSet<_> = printed["files"].as_array().expect("files").iter().map(|file| file["text_root"].to_string()).collect();
    assert_eq!(imported, exported, "the same texts, from their holders");
    cluster.say("what was exported was imported as another Datanet, and has the same text roots");
}
