//! A stranger rebuilds every payout from a copied folder, and finds any byte of it that was changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{Cluster, Tributary, cluster::text};
use serde_json::Value;
use types::id::Address;

use super::forged;

/// An exported folder that was copied, and what its honest replay printed.
#[derive(Debug)]
pub(super) struct Export {
    pub(super) folder: PathBuf,
    replayed: Value,
    /// Whose word the events are.
    exporter: Address,
}

/// Exports every epoch so far, copies the folder, and replays the copy against the chain.
pub(super) async fn every_payout_follows_from_a_copied_folder(cluster: &Cluster) -> Export {
    let client = cluster.person("client");
    let shown = cluster.run(client, &["epoch", "show"]).await;
    let (epoch, out, folder) = (shown["epoch"].to_string(), cluster.path("exported"), cluster.path("copied"));
    assert_eq!(shown["payout"]["is_final"], true, "{shown}");
    let hurried = cluster.refused(client, &["epoch", "export", &epoch, "--out", text(&out), "--within", "0"]).await;
    assert!(hurried.contains("--within SECONDS") && !out.join("index.json").exists(), "nodes take longer than no time: {hurried}");
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
    assert_eq!(replayed["signed_by"], client.account.to_string(), "{replayed}");
    Export { folder, replayed, exporter: client.account }
}

/// Some epochs of the folder, a range that it does not hold, and the answers whose bundles are here searched once more.
pub(super) async fn epochs_are_shown_by_their_range_and_paid_as_a_new_search_has_it(
    offline: &Tributary,
    client: &Path,
    export: &Export,
    texts: &Path,
) {
    let (folder, all) = (text(&export.folder), export.replayed["epochs"].as_array().expect("epochs"));
    let last = all.last().expect("an epoch");
    let number = last["epoch"].to_string();
    let shown = offline.run(client, &["audit", "replay", folder, "--from", &number, "--to", &number]).await;
    assert_eq!(shown["epochs"], Value::Array(vec![last.clone()]), "it stands on all before it, which are rebuilt and not shown");
    for (range, words) in
        [(["--from", "9999", "--to", "9999"], "the folder holds the payouts of"), (["--from", "2", "--to", "1"], "is after --to")]
    {
        let refused = offline.refused(client, &[&["audit", "replay", folder][..], &range].concat()).await;
        assert!(refused.contains(words), "{refused}");
    }
    let again = offline.run(client, &["audit", "replay", folder, "--reattribute", "1", "--texts", text(texts)]).await;
    let found = &again["reattributed"];
    let rows = found["accounts"].as_array().unwrap_or_else(|| panic!("no accounts: {again}"));
    assert!(found["reattributed"].as_u64() >= Some(1) && found["changed"] == 0, "{found}");
    assert!(!rows.is_empty() && rows.iter().all(|row| row["difference_wei"] == "0"), "{found}");
    // Nothing is rare enough any more: no span is left, and what they were paid is the treasury's.
    let set = export.folder.with_extension("set.json");
    fs::write(&set, r#"{"id": 2, "m": 255, "theta": 4000000000, "unknown": 6000}"#).expect("a set is written");
    let other = ["audit", "replay", folder, "--reattribute", "2", "--parameters", text(&set), "--texts", text(texts)];
    let other = offline.run(client, &other).await;
    let rows = other["reattributed"]["accounts"].as_array().unwrap_or_else(|| panic!("no accounts: {other}"));
    let wei = |row: &Value| row["difference_wei"].as_str().and_then(|text| text.parse::<i128>().ok()).expect("a difference");
    assert!(rows.iter().any(|row| wei(row) < 0) && rows.iter().map(wei).sum::<i128>() == 0, "what one loses another gains: {other}");
    let unknown = offline.refused(client, &["audit", "replay", folder, "--reattribute", "2", "--texts", text(texts)]).await;
    assert!(unknown.contains("parameters 2 are not built in"), "{unknown}");
}

fn row(epoch: &Value, account: Address) -> &Value {
    let rows = epoch["accounts"].as_array().unwrap_or_else(|| panic!("no accounts: {epoch}"));
    let found = rows.iter().find(|row| row["account"] == account.to_string());
    found.unwrap_or_else(|| panic!("{account} is not in {epoch}"))
}

pub(super) fn copy(from: &Path, to: &Path) {
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
    files_missing_added_and_renamed_are_found(offline, anywhere, export, &files).await;
    what_is_changed_with_its_hashes_is_found(offline, anywhere, export).await;
    forged::no_value_is_changed_unnoticed(offline, anywhere, export, export.exporter).await;
    let by = offline.refused(anywhere, &["audit", "replay", folder, "--by", &Address::ZERO.to_string()]).await;
    assert!(by.contains(&format!("signed by {}", export.exporter)), "{by}");
    for words in ["receipt 0", "node 0x", "account 0x", "event ", "manifest 0", "index.json"] {
        assert!(named.iter().any(|error| error.contains(words)), "nothing named {words:?}: {named:#?}");
    }
    assert_eq!(offline.run(anywhere, &["audit", "replay", folder]).await["epochs"], export.replayed["epochs"]);
}

/// Without one of its files, with one more, or with one under another name, the folder is no longer the export.
async fn files_missing_added_and_renamed_are_found(offline: &Tributary, anywhere: &Path, export: &Export, files: &[PathBuf]) {
    let refused = async || offline.refused(anywhere, &["audit", "replay", text(&export.folder)]).await;
    for file in files {
        let (name, other) = (text(file), file.with_file_name("ab".repeat(32)));
        let shown = file.file_name().and_then(|name| name.to_str()).expect("a name");
        let hidden = file.with_extension("hidden");
        fs::rename(file, &hidden).expect("a file is renamed");
        fs::rename(&hidden, export.folder.with_extension("kept")).expect("a file is moved away");
        let error = refused().await;
        assert!(error.contains(shown) && error.contains("cannot be read"), "without {name}: {error}");
        fs::rename(export.folder.with_extension("kept"), &other).expect("a file is brought back");
        let error = refused().await;
        assert!(error.contains(shown), "{name} under another name: {error}");
        fs::rename(&other, file).expect("a file has its name again");
    }
    for more in ["blobs/notes.txt".to_owned(), format!("blobs/{}", "cd".repeat(32)), "notes.txt".to_owned()] {
        let path = export.folder.join(&more);
        fs::write(&path, "nothing").expect("a file is written");
        let error = refused().await;
        assert!(error.contains(text(&path)) && error.contains("remove it"), "with {more}: {error}");
        fs::remove_file(path).expect("a file is removed");
    }
}

/// A forger who makes every hash of the folder right again: the signatures, the trees on the chain and the chain's own events still say otherwise.
async fn what_is_changed_with_its_hashes_is_found(offline: &Tributary, anywhere: &Path, export: &Export) {
    type Forge = fn(&mut Value) -> bool;
    let forgeries: [(&str, Forge); 5] = [
        ("a receipt's fee", |of| of.pointer_mut("/receipt/document/fee").is_some_and(raised)),
        ("a receipt's signature", |of| of.pointer_mut("/receipt/signature").is_some_and(flipped)),
        ("a quote", |of| of.pointer_mut("/quote").is_some_and(flipped)),
        ("a manifest", |of| of.is_string() && flipped(of)),
        ("a collected amount", |of| of["topics"][0] == collected() && of.pointer_mut("/data").is_some_and(lowered)),
    ];
    let forged = export.folder.with_extension("forged");
    for (what, forge) in forgeries {
        copy(&export.folder, &forged);
        assert!(rewritten(&forged, forge), "the folder holds {what}");
        let error = offline.refused(anywhere, &["audit", "replay", text(&forged)]).await;
        assert!(error.contains("the export's signature does not stand") || !error.contains("index.json"), "{what}: {error}");
        // The forger takes the exporter's signature off: the folder is nobody's word, and still at odds with itself.
        forged::disown(&forged);
        let error = offline.refused(anywhere, &["audit", "replay", text(&forged)]).await;
        assert!(!error.contains("was changed") && !error.contains("disagree"), "{what}: every hash was made right again: {error}");
        println!("    {what} changed with every hash: {error}");
        fs::remove_dir_all(&forged).expect("the forged copy is removed");
    }
}

/// One wei more; false if there is no amount.
fn raised(value: &mut Value) -> bool {
    let Some(wei) = value.as_str().and_then(|text| text.parse::<u128>().ok()) else { return false };
    *value = (wei + 1).to_string().into();
    true
}

/// The first topic of the escrow's event.
fn collected() -> String {
    types::merkle::keccak(&[b"Collected(bytes32,address,address,uint128,uint128)"]).to_string()
}

/// One wei less in the last word of an event's data.
fn lowered(value: &mut Value) -> bool {
    let Some((rest, last)) = value.as_str().and_then(|text| text.split_at_checked(text.len().saturating_sub(32))) else { return false };
    let Ok(wei) = u128::from_str_radix(last, 16) else { return false };
    *value = format!("{rest}{:032x}", wei - 1).into();
    true
}

/// A digit of it replaced; false if there are too few.
fn flipped(value: &mut Value) -> bool {
    let Some(text) = value.as_str().filter(|text| text.len() > 64) else { return false };
    let mut digits = text.to_owned().into_bytes();
    // One of r.
    digits[60] = if digits[60] == b'1' { b'2' } else { b'1' };
    *value = String::from_utf8(digits).expect("digits").into();
    true
}

/// Changes the last record of the folder that `forge` can change, and makes record hash, file name, index and id right again.
fn rewritten(folder: &Path, forge: fn(&mut Value) -> bool) -> bool {
    let b3 = |bytes: &[u8]| types::id::BlobId::of(bytes).to_string();
    let index_path = folder.join("index.json");
    let mut index = fs::read_to_string(&index_path).expect("an index");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder.join("blobs")).expect("blobs").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        let good = fs::read_to_string(&path).expect("a file of records");
        let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
        let mut is_forged = false;
        for line in lines.iter_mut().rev() {
            let mut sealed: Value = serde_json::from_str(line).expect("a record");
            if (sealed["of"].is_object() || sealed["of"].is_string()) && forge(&mut sealed["of"]) {
                // The order of a record's fields is the program's own: what is not changed keeps its bytes.
                *line = spelled(line, &sealed["of"], &b3);
                is_forged = true;
                break;
            }
        }
        if !is_forged {
            continue;
        }
        let bad = lines.iter().fold(String::new(), |text, line| text + line + "\n");
        let (old, new) = (b3(good.as_bytes()), b3(bad.as_bytes()));
        assert_ne!(old, new, "the record was changed");
        fs::remove_file(&path).expect("the old file goes");
        fs::write(path.with_file_name(&new), &bad).expect("the new file comes");
        index = index.replace(&old, &new);
        assert_eq!(good.len(), bad.len(), "the index says how many bytes there are");
        index = forged::renamed(&index);
        fs::write(index_path, index).expect("the index is written");
        return true;
    }
    false
}

/// The content of an index as its id is computed: without the spaces of its indentation.
pub(super) fn index_content(index: &str) -> String {
    let compact: String = index.lines().map(str::trim_start).collect::<Vec<_>>().join("").replace("\": ", "\":");
    let (_, rest) = compact.split_once("\"content\":").expect("a content");
    rest.split_once(",\"id\":").expect("an id behind it").0.to_owned()
}

/// A line with what differs of its record replaced in place, and its BLAKE3 made right.
fn spelled(line: &str, of: &Value, b3: &impl Fn(&[u8]) -> String) -> String {
    let before: Value = serde_json::from_str(line).expect("a record");
    let (mut old, mut new) = (Vec::new(), Vec::new());
    if before["of"].is_string() {
        (old, new) = (vec![before["of"].to_string()], vec![of.to_string()]);
    }
    differing(&before["of"], of, &mut old, &mut new);
    let (_, rest) = line.split_once("{\"of\":").expect("a record");
    let (record, _) = rest.rsplit_once(",\"b3\":").expect("its BLAKE3");
    assert_eq!(old.len(), 1, "one value was changed: {old:?}");
    let record = record.replacen(&old[0], &new[0], 1);
    format!("{{\"of\":{record},\"b3\":\"{}\"}}", b3(record.as_bytes()))
}

/// Where two values differ, as `"key":value`.
fn differing(one: &Value, other: &Value, old: &mut Vec<String>, new: &mut Vec<String>) {
    let Some(fields) = one.as_object() else { return };
    for (key, value) in fields {
        if value.is_object() {
            differing(value, &other[key], old, new);
        } else if *value != other[key] {
            old.push(format!("\"{key}\":{value}"));
            new.push(format!("\"{key}\":{}", other[key]));
        }
    }
}
