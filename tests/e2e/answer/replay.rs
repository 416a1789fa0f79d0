//! A stranger rebuilds every payout from a copied folder, and finds any byte of it that was changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{Cluster, Tributary, cluster::text};
use serde_json::Value;
use types::id::Address;

/// An exported folder that was copied, and what its honest replay printed.
#[derive(Debug)]
pub(super) struct Export {
    folder: PathBuf,
    replayed: Value,
}

/// Exports every epoch so far, copies the folder, and replays the copy against the chain.
pub(super) async fn every_payout_follows_from_a_copied_folder(cluster: &Cluster) -> Export {
    let client = cluster.person("client");
    let shown = cluster.run(client, &["epoch", "show"]).await;
    let (epoch, out, folder) = (shown["epoch"].to_string(), cluster.path("exported"), cluster.path("copied"));
    assert_eq!(shown["payout"]["is_final"], true, "{shown}");
    let exported = cluster.run(client, &["epoch", "export", &epoch, "--out", text(&out)]).await;
    copy(&out, &folder);
    let replayed = cluster.run(client, &["audit", "replay", text(&folder)]).await;
    assert_eq!((&replayed["id"], &replayed["is_on_chain"]), (&exported["id"], &true.into()), "{replayed}");
    let searched = cluster.run(client, &["audit", "prove", text(&folder), "--dry-run"]).await;
    assert_eq!(
        (&searched["faults"], &searched["receipts"]),
        (&Value::Array(vec![]), &exported["receipts"]),
        "nobody of it can be proved wrong"
    );
    let last = replayed["epochs"].as_array().and_then(|all| all.last()).unwrap_or_else(|| panic!("no epoch: {replayed}"));
    assert_eq!((&last["root"], &last["total_wei"]), (&shown["payout"]["root"], &shown["payout"]["total_wei"]));
    let again = cluster.run(client, &["epoch", "export", &epoch, "--out", text(&out)]).await;
    assert_eq!(again["receipts"], exported["receipts"], "a folder is continued");

    let author = cluster.person("author").account;
    let of_author = cluster.run(client, &["epoch", "show", &epoch, "--account", &author.to_string()]).await;
    let line = row(last, author);
    assert_eq!(of_author["claim"]["line"]["cumulative_wei"], line["cumulative_wei"], "{of_author}");
    let asset = cluster.run(client, &["registry", "show", "tiny"]).await;
    assert_eq!((&asset["owner"], &asset["versions"][0]["status"]), (&author.to_string().into(), &"active".into()), "{asset}");
    cluster.say("every payout follows from a copied folder");
    Export { folder, replayed }
}

fn row(epoch: &Value, account: Address) -> &Value {
    let rows = epoch["accounts"].as_array().unwrap_or_else(|| panic!("no accounts: {epoch}"));
    let found = rows.iter().find(|row| row["account"] == account.to_string());
    found.unwrap_or_else(|| panic!("{account} is not in {epoch}"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder is made");
    for entry in fs::read_dir(from).expect("a folder is read") {
        let entry = entry.expect("an entry is read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}

/// With nothing but the folder: the honest one gives the same payouts, and one changed byte of any file is found and named.
pub(super) async fn any_changed_byte_is_found(offline: &Tributary, anywhere: &Path, export: &Export) {
    let folder = text(&export.folder);
    let replayed = offline.run(anywhere, &["audit", "replay", folder]).await;
    assert_eq!((&replayed["epochs"], &replayed["is_on_chain"]), (&export.replayed["epochs"], &false.into()));
    let blobs = fs::read_dir(export.folder.join("blobs")).expect("the blobs are listed");
    let mut files: Vec<PathBuf> = blobs.map(|entry| entry.expect("an entry is read").path()).collect();
    files.push(export.folder.join("index.json"));
    let mut named = Vec::new();
    for file in &files {
        let good = fs::read(file).expect("a file is read");
        let places = if good.is_empty() { vec![] } else { vec![0, good.len() / 3, good.len() / 2, good.len() - 1] };
        for place in places {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(file, &bad).expect("a file is written");
            named.push(offline.refused(anywhere, &["audit", "replay", folder]).await);
        }
        fs::write(file, &good).expect("a file is written");
    }
    for words in ["receipt 0", "node 0x", "account 0x", "event ", "manifest 0", "index.json"] {
        assert!(named.iter().any(|error| error.contains(words)), "nothing named {words:?}: {named:#?}");
    }
    assert_eq!(offline.run(anywhere, &["audit", "replay", folder]).await["epochs"], export.replayed["epochs"]);
}
