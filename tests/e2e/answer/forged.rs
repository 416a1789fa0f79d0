//! A forger who makes every hash of a folder right again. Receipts, quotes, manifests and trees are signed or follow from what is, so no value of them
//! can be changed; the chain's events are the word of who exported them, so his signature must not stand over others.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{Tributary, cluster::text};
use serde_json::Value;
use types::id::Address;

use super::replay::{Export, copy};

/// Values changed in one run, of some thousand: each takes a copy and a replay.
const CHANGES: usize = 160;
/// Files whose records are the chain's, by what only they hold.
const CHAIN_RECORDS: [&str; 3] = ["\"deployer\"", "\"topics\"", "\"of\":{\"block\":{"];

/// A value of a record: its file, line and place in it.
#[derive(Debug, Clone)]
struct Place {
    file: PathBuf,
    line: usize,
    pointer: String,
}

/// Changes values all over the folder, each with every hash made right again.
pub(super) async fn no_value_is_changed_unnoticed(offline: &Tributary, anywhere: &Path, export: &Export, exporter: Address) {
    let (forged, exporter) = (export.folder.with_extension("forged"), exporter.to_string());
    let places = places(&export.folder);
    let step = places.len().div_ceil(CHANGES);
    let (mut tried, mut unsigned) = (0, Vec::new());
    for place in places.iter().step_by(step) {
        copy(&export.folder, &forged);
        let is_changed = rewritten(&forged, place);
        if is_changed {
            tried += 1;
            let error = offline.refused(anywhere, &["audit", "replay", text(&forged)]).await;
            assert!(!error.contains("disagree") && !error.contains("the file was changed"), "{place:?}: its hashes are right: {error}");
            disown(&forged);
            let error = offline.refused(anywhere, &["audit", "replay", text(&forged), "--by", &exporter]).await;
            assert!(error.contains("signed by nobody"), "{place:?}: {error}");
            // With nobody's word for it.
            let outcome = offline.outcome(anywhere, &["audit", "replay", text(&forged)]).await;
            if outcome.code == Some(0) {
                assert_eq!(outcome.json["signed_by"], Value::Null, "{outcome}");
                unsigned.push(place.clone());
            }
        }
        fs::remove_dir_all(&forged).expect("the forged copy is removed");
    }
    println!("    {tried} of {} values changed with every hash; {} pass where nobody's word is asked for", places.len(), unsigned.len());
    assert!(tried > CHANGES / 2, "{tried} of {} values could be changed", places.len());
    for place in unsigned {
        let content = fs::read_to_string(export.folder.join("blobs").join(&place.file)).expect("a file of records");
        assert!(CHAIN_RECORDS.iter().any(|words| content.contains(words)), "{place:?} is signed, or follows from what is");
        for word in ["transaction", "hash", "log"] {
            assert!(!place.pointer.contains(word) || content.contains("\"of\":{\"block\":{"), "{place:?}: nothing depends on it");
        }
    }
}

/// Every value of every record that is no list of records.
fn places(folder: &Path) -> Vec<Place> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("blobs")).expect("blobs").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let content = fs::read_to_string(&path).expect("a file of records");
        for (line, record) in content.lines().enumerate() {
            let sealed: Value = serde_json::from_str(record).expect("a record");
            let mut pointers = Vec::new();
            values(&sealed["of"], "", &mut pointers);
            let file = PathBuf::from(path.file_name().expect("a name"));
            found.extend(pointers.into_iter().map(|pointer| Place { file: file.clone(), line, pointer }));
        }
    }
    found
}

fn values(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| values(value, &format!("{at}/{name}"), found)),
        Value::Array(list) if list.iter().all(Value::is_string) => found.extend((0..list.len()).map(|place| format!("{at}/{place}"))),
        Value::Array(_) | Value::Null => {}
        _ => found.push(at.to_owned()),
    }
}

/// Another value of the same kind and length, if there is one.
fn other(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(is_so) => Some((!is_so).into()),
        Value::Number(number) => {
            let number = number.as_u64()?;
            [number + 1, number.checked_sub(1)?]
                .into_iter()
                .find(|other| other.to_string().len() == number.to_string().len())
                .map(Value::from)
        }
        Value::String(text) => {
            let (rest, last) = text.split_at_checked(text.len().checked_sub(1)?)?;
            Some(format!("{rest}{}", if last == "1" { "2" } else { "1" }).into())
        }
        _ => None,
    }
}

/// Changes a value and makes record hash, file name, index and id right again; false if the value has no other of its length.
fn rewritten(folder: &Path, place: &Place) -> bool {
    let b3 = |bytes: &[u8]| types::id::BlobId::of(bytes).to_string();
    let path = folder.join("blobs").join(&place.file);
    let good = fs::read_to_string(&path).expect("a file of records");
    let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
    let Some(line) = changed(&lines[place.line], &place.pointer, &b3) else { return false };
    lines[place.line] = line;
    let bad = lines.iter().fold(String::new(), |text, line| text + line + "\n");
    let (old, new) = (b3(good.as_bytes()), b3(bad.as_bytes()));
    fs::remove_file(&path).expect("the old file goes");
    fs::write(path.with_file_name(&new), &bad).expect("the new file comes");
    let index_path = folder.join("index.json");
    let index = fs::read_to_string(&index_path).expect("an index").replace(&old, &new);
    fs::write(index_path, renamed(&index)).expect("the index is written");
    true
}

/// The index with its id made right.
pub(super) fn renamed(index: &str) -> String {
    let id: Value = serde_json::from_str(index).expect("an index");
    let content = super::replay::index_content(index);
    index.replace(id["id"].as_str().expect("an id"), &types::id::BlobId::of(content.as_bytes()).to_string())
}

/// Takes the exporter's signature off.
pub(super) fn disown(folder: &Path) {
    let path = folder.join("index.json");
    let index = fs::read_to_string(&path).expect("an index");
    let (before, by) = index.split_once("\"by\": {").expect("a signature");
    let (_, after) = by.split_once('}').expect("its end");
    fs::write(path, format!("{before}\"by\": null{after}")).expect("the index is written");
}

/// A line with one value replaced in place, and its BLAKE3 made right; the order of a record's fields is the program's own.
fn changed(line: &str, pointer: &str, b3: &impl Fn(&[u8]) -> String) -> Option<String> {
    let sealed: Value = serde_json::from_str(line).expect("a record");
    // A string of a list is changed with its list.
    let (parent, name) = pointer.rsplit_once('/')?;
    let (at, key) = if name.parse::<usize>().is_ok() { (parent, parent.rsplit_once('/')?.1) } else { (pointer, name) };
    let old = sealed["of"].pointer(at)?.clone();
    let new = match &old {
        Value::Array(list) => {
            let place: usize = name.parse().ok()?;
            let mut list = list.clone();
            list[place] = other(&list[place])?;
            Value::Array(list)
        }
        value => other(value)?,
    };
    let (_, rest) = line.split_once("{\"of\":").expect("a record");
    let (record, _) = rest.rsplit_once(",\"b3\":").expect("its BLAKE3");
    let replaced = record.replacen(&format!("\"{key}\":{old}"), &format!("\"{key}\":{new}"), 1);
    (replaced != record).then(|| format!("{{\"of\":{replaced},\"b3\":\"{}\"}}", b3(replaced.as_bytes())))
}
