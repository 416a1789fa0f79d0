//! A folder of files in several formats: told what it costs, killed in the middle, finished by the same command, written out again and recognised.

use harness::{Cluster, cluster::text};

use super::interrupted::{killed_at, nonce};

const CSV: &str =
    "id,title,text\n1,Ebb,\"The water falls, twice a day, \"\"as they say\"\".\"\n2,,The harbour of the three mills is dry at noon.\n";
const MARKDOWN: &str = "---\ntitle: On springs\n---\nA spring tide follows the full moon by a day or two.\n";
const JSONL: &str = "{\"text\": \"Neaps come with the quarters of the moon.\"}\n";

/// Three files, three contributions; the process dies after the first was accepted.
pub(super) async fn a_folder_enters_file_by_file_and_leaves_as_what_it_was(cluster: &Cluster) {
    let who = &cluster.nodes[1];
    let folder = cluster.path("many");
    std::fs::create_dir(&folder).expect("a new folder");
    for (name, bytes) in [("a.csv", CSV), ("b.md", MARKDOWN), ("c.jsonl", JSONL)] {
        std::fs::write(folder.join(name), bytes).expect("room on the disk");
    }
    let contribute = ["datanet", "contribute", "tides", text(&folder), "--per-file"];
    let sent = nonce(cluster, who).await;
    let dry = cluster.run(who, &[&contribute[..], &["--dry-run"]].concat()).await;
    assert_eq!((&dry["contributions"], &dry["documents"], &dry["transactions"]), (&3.into(), &4.into(), &6.into()), "{dry}");
    assert!(dry["stored_bytes"].as_u64() > dry["shard_bytes"].as_u64() && dry["fees_wei"].is_string(), "{dry}");
    assert_eq!(nonce(cluster, who).await, sent, "a dry run sends nothing");

    killed_at(cluster, who, &contribute, &["accepted as contribution"], |_| {}).await;
    let paid = nonce(cluster, who).await;
    assert!((sent + 4..=sent + 6).contains(&paid), "all are committed to together, the first is accepted, others may be: {}", paid - sent);
    let done = cluster.run(who, &contribute).await;
    assert_eq!((done["contributions"].as_array().map(Vec::len), &done["documents"]), (Some(3), &4.into()), "{done}");
    assert_eq!(nonce(cluster, who).await, sent + 6, "two transactions for each, none twice");
    let left = who.folder.join("pending");
    assert!(std::fs::read_dir(&left).expect("its records").next().is_none(), "the journal has served");
    cluster.say("a folder of three formats was contributed, through a kill");

    let out = cluster.path("exported");
    let exported = cluster.run(who, &["datanet", "export", "tides", "--out", text(&out), "--format", "croissant"]).await;
    // A dry run is refused what the import would be.
    let refused = cluster.refused(who, &["datanet", "import", text(&out), "--dry-run"]).await;
    assert!(refused.contains("belongs to"), "{refused}");
    let number = exported["datanet"].to_string();
    let imported = cluster.run(who, &["datanet", "import", text(&out), "--into", &number, "--dry-run"]).await;
    let roots: Vec<_> = exported["files"].as_array().expect("files").iter().map(|file| &file["text_root"]).collect();
    let read: Vec<_> = imported["files"].as_array().expect("files").iter().map(|file| &file["text_roots"][0]).collect();
    assert_eq!((roots, &imported["card"]["name"]), (read, &"tides".into()), "{imported}");
    for contribution in done["contributions"].as_array().expect("a list") {
        assert!(exported["files"].as_array().expect("files").iter().any(|file| file["text_root"] == contribution["text_root"]));
    }
    cluster.say("it was exported, and an import would give the same text roots");
}
