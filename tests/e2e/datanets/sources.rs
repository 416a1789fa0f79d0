//! Three contributors fill a Datanet from four real sources; one of them also brings near copies of another's rows and a row with a telephone number.
//!
//! The sources are what `cargo xtask fetch text` pins: definitions of the Human Phenotype Ontology, categories of ICD-10-CM, paragraphs of Python's reference
//! (rows of JSONL), and view 1003 of the Common Weakness Enumeration as its publisher's own CSV.

use std::path::PathBuf;

use harness::{Cluster, chain, cluster::text};
use serde_json::Value;

use super::{file, near_copy, with_phone};

/// Rows of a source that are brought.
const ROWS: usize = 120;
/// Words of a row that is brought a second time, at least: enough that one changed word leaves a near copy.
const WORDS_MIN: usize = 60;
/// Weaknesses in the CSV.
const WEAKNESSES: u64 = 130;

fn fetched(name: &str) -> PathBuf {
    let path = chain::root().join(".cache").join(name);
    assert!(path.is_file(), "{} is missing: run `cargo xtask fetch text`", path.display());
    path
}

/// The first rows of a file whose ids begin so.
fn rows(name: &str, prefix: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fetched(name)).expect("text");
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row"));
    let rows: Vec<Value> = all.filter(|row| row["id"].as_str().is_some_and(|id| id.starts_with(prefix))).take(ROWS).collect();
    assert_eq!(rows.len(), ROWS, "{name} has too few rows of {prefix}");
    rows
}

/// Documents that entered, those that the policy left out, and why.
async fn bring(cluster: &Cluster, number: usize, arguments: &[&str]) -> (u64, Vec<Value>) {
    let contribute = [&["datanet", "contribute", "library"], arguments, &["--drop-refused"]].concat();
    let done = cluster.run(&cluster.nodes[number], &contribute).await;
    (done["documents"].as_u64().unwrap_or_else(|| panic!("{done}")), done["dropped"].as_array().cloned().unwrap_or_default())
}

/// Node 0 owns it; nodes 1 to 3 contribute; node 4 reads.
pub(super) async fn three_fill_a_datanet_from_four(cluster: &Cluster) {
    let [owner, anna, _, _, reader] = &cluster.nodes[..] else { panic!("five nodes") };
    let policy = ["--near-copies", "block", "--personal-data", "block", "--tag", "reference"];
    cluster.run(owner, &[&["datanet", "create", "library", "--licence", "CC0-1.0"][..], &policy].concat()).await;
    let phenotypes = rows("demo/medical-a.jsonl", "HP:");
    let (first, left_out) = bring(cluster, 1, &[&file(cluster, "phenotypes.jsonl", &phenotypes)]).await;
    assert_eq!(first + left_out.len() as u64, ROWS as u64, "{left_out:?}");

    // Ben's own source with three of Anna's rows, a word changed in each, and a telephone number between them.
    let is_long = |row: &&Value| row["text"].as_str().is_some_and(|text| text.split(' ').count() >= WORDS_MIN);
    let copied: Vec<Value> = phenotypes.iter().filter(is_long).take(3).map(near_copy).collect();
    assert_eq!(copied.len(), 3, "three of {ROWS} definitions have {WORDS_MIN} words");
    let mut codes = rows("demo/medical-b.jsonl", "ICD10CM:");
    for (place, row) in [10, 50, 90].into_iter().zip(copied) {
        codes.insert(place, row);
    }
    codes.insert(70, with_phone());
    let path = file(cluster, "codes.jsonl", &codes);
    let error = cluster.refused(&cluster.nodes[2], &["datanet", "contribute", "library", &path]).await;
    assert!(error.contains("nothing was sent") && error.contains("row 71: personal-data") && !error.contains("901820"), "{error}");
    let (second, left_out) = bring(cluster, 2, &[&path]).await;
    assert_eq!(second + left_out.len() as u64, ROWS as u64 + 4, "{left_out:?}");
    let rule = |row: u64| {
        let found = left_out.iter().find(|dropped| dropped["row"] == row).unwrap_or_else(|| panic!("row {row} entered: {left_out:?}"));
        found.to_string()
    };
    assert!(rule(71).contains("telephone number") && !rule(71).contains("901820"), "{}", rule(71));
    for row in [11, 51, 92] {
        let why = rule(row);
        assert!(why.contains(" %") && why.contains(&anna.account.to_string()), "{why}");
    }

    let reference = file(cluster, "reference.jsonl", &rows("demo/python-a.jsonl", "py:"));
    let (third, _) = bring(cluster, 3, &[&reference]).await;
    let table = fetched("text/cwe-1003.csv");
    let columns = ["--text-column", "Description", "--title-column", "Name", "--id-column", "CWE-ID"];
    let (fourth, left_out) = bring(cluster, 3, &[&[text(&table)][..], &columns].concat()).await;
    assert_eq!(fourth + left_out.len() as u64, WEAKNESSES, "{left_out:?}");
    let entered = [first, second, third, fourth];
    assert!(entered.iter().all(|count| *count > 100), "{entered:?}");

    let published = cluster.run(owner, &["datanet", "publish", "library"]).await;
    assert_eq!(published["documents"], entered.iter().sum::<u64>(), "{published}");
    let out = cluster.path("library-out");
    cluster.run(reader, &["datanet", "fetch", "library", "--out", text(&out)]).await;
    let all: Vec<String> =
        (0..4).map(|number| std::fs::read_to_string(out.join(format!("contribution-{number}.jsonl"))).expect("a file")).collect();
    for (text, word) in all.iter().zip(["\"HP:", "\"ICD10CM:", "\"py:", "Improper Input Validation"]) {
        assert!(text.contains(word) && !text.contains("901820"), "{word} is not where it was brought");
    }
    assert!(!all[1].contains("another"), "a near copy of Anna's entered");
    cluster.say(&format!(
        "three contributors brought {entered:?} documents of four real sources; near copies and a telephone number stayed out"
    ));
}
