//! A private Datanet: no disk shows its text, a member reads it and the log says so, and who was a member reads nothing that comes after.

use harness::{Cluster, Party, cluster::text, files};
use serde_json::{Value, json};

use super::file;

/// Words of the private texts that nothing else holds.
pub(super) const FIRST: &str = "the patient of the third ward walks again since the new treatment";
pub(super) const SECOND: &str = "the nurse of the second ward counts the linen twice before noon";
/// Bytes of each piece of the texts that is looked for: any 23 bytes of a text hold one, and none stands in random bytes by chance.
const WINDOW: usize = 12;

pub(super) fn row(name: &str, words: &str) -> Value {
    json!({ "id": name, "title": name, "text": words })
}

fn nobodys_disk_shows(cluster: &Cluster, people: &[&Party], texts: &[&str]) {
    let windows: Vec<&[u8]> = texts.iter().flat_map(|text| text.as_bytes().chunks_exact(WINDOW)).collect();
    let shown = |bytes: &[u8]| -> Vec<String> {
        let places = bytes.iter().enumerate().filter_map(|(at, byte)| {
            let held = || bytes.get(at..at + WINDOW).unwrap_or_default();
            windows.iter().find(|window| window[0] == *byte && **window == held())
        });
        places.map(|window| String::from_utf8_lossy(window).into_owned()).collect()
    };
    for party in cluster.nodes.iter().chain(people.iter().copied()) {
        let found: Vec<_> = files::walk(&party.folder, &shown).into_iter().filter(|(_, shown)| !shown.is_empty()).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

async fn head(cluster: &Cluster) -> u64 {
    cluster.chain.latest().await.expect("the chain answers").block.number
}

/// Node 0 owns it, node 1 contributes, somebody new reads.
pub(super) async fn only_members_read(cluster: &Cluster) {
    let [owner, anna, ben, ..] = &cluster.nodes[..] else { panic!("five nodes") };
    let member = cluster.join("member", &[]).await;
    let brief = cluster.join("brief", &[]).await;
    let created = cluster.run(owner, &["datanet", "create", "wards", "--licence", "CC0-1.0", "--private"]).await;
    assert_eq!(created["private"], true);
    let contribute = ["datanet", "contribute", "wards", &file(cluster, "wards-1.jsonl", &[row("one", FIRST)])];
    let first = cluster.run(anna, &contribute).await;
    nobodys_disk_shows(cluster, &[], &[FIRST]);
    cluster.say("a private text is on five disks, and no disk shows it");

    let error = cluster.refused(&member, &["datanet", "fetch", "wards"]).await;
    assert!(error.contains("is no member") && error.contains("datanet grant") && error.contains(&member.node.to_string()), "{error}");
    let until = (head(cluster).await + 100_000).to_string();
    let (node, other) = (member.node.to_string(), brief.node.to_string());
    cluster.run(owner, &["datanet", "grant", "wards", &node, "--purpose", "read", "--until", &until]).await;
    let error = cluster.refused(&member, &["datanet", "fetch", "wards", "--purpose", "train"]).await;
    assert!(error.contains("is to read, not to train"), "{error}");
    let out = cluster.path("wards-out");
    let fetched = cluster.run(&member, &["datanet", "fetch", "wards", "--out", text(&out)]).await;
    assert_eq!(fetched["contributions"][0]["text_root"], first["text_root"]);
    assert!(std::fs::read_to_string(out.join("contribution-0.jsonl")).expect("the text").contains(FIRST));
    let log = cluster.run(&member, &["datanet", "log", "wards"]).await;
    let reads: Vec<&Value> = log["entries"].as_array().expect("entries").iter().filter(|entry| entry["event"] == "read").collect();
    assert_eq!((reads.len(), &reads[0]["author"]), (1, &node.as_str().into()), "{log}");
    assert_eq!(cluster.run(owner, &["datanet", "log", "wards"]).await["length"], log["length"], "owner and member see one log");
    cluster.say("a member read it, and the log says so");

    let soon = head(cluster).await + 20;
    cluster.run(owner, &["datanet", "grant", "wards", &other, "--purpose", "read", "--until", &soon.to_string()]).await;
    let revoked = cluster.run(owner, &["datanet", "revoke", "wards", &node]).await;
    assert_eq!(revoked["epoch"], 1);
    while head(cluster).await <= soon {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    cluster.run(ben, &["datanet", "contribute", "wards", &file(cluster, "wards-2.jsonl", &[row("two", SECOND)])]).await;
    let error = cluster.refused(&member, &["datanet", "fetch", "wards"]).await;
    assert!(error.contains("has no grant") && error.contains(&owner.account.to_string()), "{error}");
    let error = cluster.refused(&brief, &["datanet", "fetch", "wards"]).await;
    assert!(error.contains("ended with block"), "{error}");
    // The keys that they have open nothing of what came after: the newest one was wrapped for the owner alone.
    let log = cluster.run(owner, &["datanet", "log", "wards"]).await;
    let is_key = |entry: &&Value| entry["event"] == "key";
    let keys: Vec<&str> =
        log["entries"].as_array().expect("entries").iter().filter(is_key).filter_map(|entry| entry["detail"].as_str()).collect();
    assert_eq!((keys.first(), keys.len() >= 2), (Some(&"epoch 0, for 1 nodes"), true), "{log}");
    assert!(keys.last().is_some_and(|last| last.ends_with("for 1 nodes")), "{log}");
    let rows = cluster.run(owner, &["datanet", "fetch", "wards"]).await;
    assert_eq!(rows["contributions"].as_array().map(Vec::len), Some(2), "its owner reads all: {rows}");
    nobodys_disk_shows(cluster, &[&member, &brief], &[FIRST, SECOND]);
    cluster.say("who was revoked and whose grant ran out read nothing new");
}
