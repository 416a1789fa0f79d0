use chain_bridge::registry::state::Accepted;
use types::{
    contribution::Priority,
    id::{Address, AssetId},
};

use super::*;

const VERSION: AssetVersion = AssetVersion { asset: AssetId(2), version: 1 };

fn contribution(rows: &[(Option<&str>, Option<&str>, &str)]) -> LocalContribution {
    let documents: Vec<Document> = rows
        .iter()
        .map(|(id, title, text)| Document::new(id.map(str::to_owned), title.map(str::to_owned), text.as_bytes()).unwrap())
        .collect();
    let accepted = Accepted {
        datanet: VERSION.asset,
        number: 0,
        contributor: Address([1; 20]),
        text_root: Hash32([2; 32]),
        text_bytes: 1,
        documents: 1,
        priority: Priority::default(),
        licence: Hash32::ZERO,
        object: BlobId::ZERO,
        report: Hash32::ZERO,
        accepted: (1, 0),
    };
    LocalContribution { accepted, documents, text: Vec::new(), text_salt: None }
}

fn five() -> Vec<LocalContribution> {
    vec![
        contribution(&[(Some("a"), Some("Ataxia"), "text a"), (Some("b"), None, "text b"), (Some("c"), Some("Gout"), "text c")]),
        contribution(&[(Some("d"), None, "text d"), (None, None, "text e"), (Some("c-again"), None, "text c")]),
    ]
}

fn ids(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn select(
    trained: Option<Vec<String>>,
    held_out: Option<Vec<String>>,
    count: usize,
    held_out_count: usize,
) -> Result<Selection, SelectionError> {
    let contributions = five();
    Named::new(VERSION, &contributions).select(&Lists { trained, held_out }, count, held_out_count, "What is {title}?")
}

#[test]
fn lists_decide_and_titles_become_questions() {
    let selection = select(ids(&["c", "", "b"]), ids(&["a"]), 1, 1).unwrap();
    let shown: Vec<_> = selection.trained.iter().map(|example| (example.id.as_str(), example.prompt.as_deref())).collect();
    assert_eq!(shown, [("c", Some("What is Gout?")), ("b", None)]);
    assert_eq!(selection.held_out[0].text, "text a");
}

#[test]
fn without_lists_the_draw_is_by_hash_and_disjoint() {
    let selection = select(None, None, 3, 2).unwrap();
    assert_eq!(selection, select(None, None, 3, 2).unwrap());
    let names: BTreeSet<_> = selection.trained.iter().chain(&selection.held_out).map(|example| example.text.clone()).collect();
    assert_eq!((selection.trained.len(), selection.held_out.len(), names.len()), (3, 2, 5));
    let first = select(None, None, 1, 2).unwrap();
    assert_eq!(first.held_out, selection.held_out, "the held-out documents do not depend on how many are trained on");
    let rest = select(ids(&["a", "b"]), None, 1, 3).unwrap();
    assert!(rest.held_out.iter().all(|example| !["text a", "text b"].contains(&example.text.as_str())));
}

#[test]
fn documents_without_an_id_are_named_by_their_text() {
    let hash = BlobId::of(b"text e").to_string();
    let selection = select(ids(&[&hash]), ids(&["a"]), 1, 1).unwrap();
    assert_eq!((selection.trained[0].id.as_str(), selection.trained[0].text.as_str()), (hash.as_str(), "text e"));
}

#[test]
fn bad_lists_are_refused_by_name() {
    let check = |trained: Option<Vec<String>>, held_out: Option<Vec<String>>, count, held_out_count, says: &str| {
        let error = select(trained, held_out, count, held_out_count).expect_err(says).to_string();
        assert!(error.contains(says), "{says}: {error}");
    };
    check(ids(&["a", "x"]), None, 1, 1, "--documents, line 2: document \"x\" is not in Datanet 2@1");
    check(ids(&["a", "", "a"]), None, 1, 1, "--documents, line 3: document \"a\" is listed twice");
    check(ids(&["a"]), ids(&["nobody"]), 1, 1, "--held-out, line 1");
    check(ids(&["", ""]), None, 1, 1, "--documents lists no document");
    check(ids(&["a"]), ids(&[]), 1, 1, "--held-out lists no document");
    check(ids(&["a", "b"]), ids(&["b"]), 1, 1, "document \"b\" is held out and trained on");
    check(ids(&["c"]), ids(&["c-again"]), 1, 1, "document \"c-again\" has the text of document \"c\"");
    check(None, None, 0, 1, "--count is 0");
    check(None, None, 4, 2, "holds 5 different documents, 6 are needed");
    check(ids(&["a", "b"]), None, 1, 4, "different documents");
}

#[test]
fn an_id_of_two_texts_must_be_told_apart() {
    let contributions = vec![contribution(&[(Some("a"), None, "one"), (Some("a"), None, "two"), (Some("b"), None, "three")])];
    let named = Named::new(VERSION, &contributions);
    let lists = Lists { trained: ids(&["a"]), held_out: ids(&["b"]) };
    let error = named.select(&lists, 1, 1, "{title}").unwrap_err().to_string();
    assert!(error.contains(&BlobId::of(b"one").to_string()) && error.contains(" or "), "{error}");
    assert_eq!(named.name(BlobId::of(b"one")), BlobId::of(b"one").to_string());
}

#[test]
fn the_dataset_of_a_manifest_lists_no_held_out_document() {
    let selection = select(ids(&["b", "c"]), ids(&["a"]), 1, 1).unwrap();
    let value = dataset(VERSION, &five(), &selection);
    assert_eq!((&value["datanet"], &value["held_out"]["documents"]), (&"2@1".into(), &1.into()));
    assert!(!value.to_string().contains("text a") && !value.to_string().contains("\"a\""));
}
