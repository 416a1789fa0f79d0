use chain_bridge::registry::{Event, Logged, State};
use storage::{
    datanet::{self, Document, Report, contribution_text, shard},
    erasure::{self, Encoded, Profile},
};
use types::{id::AssetId, text::text_root, time::BlockRef};

use super::{
    cut::Spot,
    pending::{Pending, Unfinished, forget, pending_path, same_object},
    rows::Rows,
    *,
};
use crate::{
    data::{DataDir, write_atomic},
    datanet::shards::keep,
};

const ME: Address = Address([1; 20]);
const NET: AssetId = AssetId(7);

fn documents(texts: &[&str]) -> Vec<Document> {
    texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect()
}

fn rows(texts: &[&str]) -> Rows {
    let documents = documents(texts);
    let spots = (1..).map(|row| Spot { file: 0, row }).take(documents.len()).collect();
    Rows { spots, documents, names: Arc::new(vec!["a.jsonl".into()]), dropped: Vec::new(), redacted: Vec::new() }
}

/// Books with one accepted contribution of `contributor`.
fn books(contributor: Address, documents: &[Document]) -> (State, Encoded) {
    let text = contribution_text(documents);
    let root = text_root(text.as_bytes());
    let encoded = erasure::encode(&shard::encode(documents).unwrap(), root, Profile::DEVNET).unwrap();
    let event = Event::Accepted {
        datanet: NET,
        number: 0,
        contributor,
        text_root: root,
        text_bytes: text.len() as u64,
        documents: u32::try_from(documents.len()).unwrap(),
        block: 4,
        ordinal: 0,
        licence: Hash32::ZERO,
        object: encoded.manifest.id(),
        report: Hash32::ZERO,
    };
    let mut state = State::default();
    state.apply(&Logged { block: BlockRef { number: 5, hash: Hash32::ZERO }, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
    (state, encoded)
}

fn report(refused: &[u32]) -> Report {
    let refusal = |row: &u32| datanet::Refusal {
        row: *row,
        rule: datanet::Rule::Duplicate,
        action: Action::Block,
        detail: format!("copy {row}"),
        fix: "leave it out".into(),
        preview: None,
        earlier: None,
    };
    let refusals = refused.iter().map(refusal).collect();
    Report {
        accepted: false,
        contributor: ME,
        text_root: Hash32::ZERO,
        text_bytes: 0,
        documents: 0,
        refusals,
        unlisted: 0,
        notes: vec![],
        notes_unlisted: 0,
        approvals: vec![],
    }
}

#[test]
fn refused_rows_leave_under_the_files_own_numbers() {
    let mut rows = rows(&["a", "b", "c", "d"]);
    rows.drop_refused(&report(&[1, 3])).unwrap();
    assert!(rows.reasons(&report(&[2])).contains("row 4: duplicate: copy 2; leave it out"), "the second row left is the file's fourth");
    rows.drop_refused(&report(&[2])).unwrap();
    assert_eq!(rows.documents, documents(&["b"]));
    assert_eq!(rows.dropped.iter().map(|dropped| dropped.row).collect::<Vec<_>>(), [1, 3, 4]);
}

#[test]
fn of_several_files_each_row_is_named_with_its_own() {
    let spots = vec![Spot { file: 0, row: 9 }, Spot { file: 1, row: 1 }];
    let names = Arc::new(vec!["a.csv".to_owned(), "b.md".to_owned()]);
    let mut rows = Rows { spots, names, ..rows(&["a", "b"]) };
    assert!(rows.reasons(&report(&[1, 2])).contains("a.csv: row 9: duplicate: copy 1"));
    rows.drop_refused(&report(&[2])).unwrap();
    assert_eq!((rows.dropped[0].file.as_deref(), rows.dropped[0].row), (Some("b.md"), 1));
}

#[test]
fn a_gate_that_refuses_rows_there_are_not_or_none_at_all_is_an_error() {
    assert!(rows(&["a"]).drop_refused(&report(&[2])).is_err());
    assert!(rows(&["a"]).drop_refused(&report(&[])).is_err());
    assert!(rows(&["a"]).drop_refused(&report(&[0])).is_err());
    assert!(rows(&["a"]).drop_refused(&report(&[1])).unwrap_err().to_string().contains("nothing to contribute"));
}

#[test]
fn an_interrupted_contribution_is_found_again_also_after_rows_were_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::new(folder.path());
    let (file, left) = (rows(&["copy", "new"]), documents(&["new"]));
    let (state, encoded) = books(ME, &left);
    let file_root = file.text_root();
    let found = |me| Unfinished::read(&data, &state, NET, me).unwrap().of(file_root).map(|accepted| accepted.object);
    assert_eq!(found(ME), None);
    let root = encoded.manifest.text_root();
    let pending = Pending { datanet: NET, text_root: root, salt: Hash32::ZERO, file_root, text_salt: None, registered: None };
    write_atomic(&pending_path(&data, NET, root), &serde_json::to_vec(&pending).unwrap(), 0o600).unwrap();
    assert_eq!(found(ME), Some(encoded.manifest.id()));
    assert_eq!(found(Address([2; 20])), None, "somebody else's");
    let accepted = state.contributions(NET).next().unwrap();
    let of_file = || Ok(file.documents.clone());
    assert!(same_object(&data, accepted, of_file).is_err(), "the file alone does not give the accepted shard");
    keep(&data, root, &shard::encode(&left).unwrap()).unwrap();
    assert_eq!(same_object(&data, accepted, of_file).unwrap().manifest, encoded.manifest);
    std::fs::write(data.pending().join(format!("{}-00.json", AssetId(NET.0 * 10 + 1))), b"{").unwrap();
    assert_eq!(Unfinished::read(&data, &state, NET, ME).unwrap().records(file_root), [root]);
    let damaged = data.pending().join(format!("{NET}-00.json"));
    std::fs::write(&damaged, b"{").unwrap();
    let error = format!("{:#}", Unfinished::read(&data, &state, NET, ME).map(drop).unwrap_err());
    assert!(error.contains(&damaged.display().to_string()) && error.contains("remove it"), "{error}");
    std::fs::remove_file(&damaged).unwrap();
    forget(&data, NET, root);
    assert_eq!(found(ME), None);
}

#[test]
fn rows_that_wait_for_reviewers_stay_when_others_are_left_out() {
    let mut rows = rows(&["a", "b", "c"]);
    let mut mixed = report(&[1, 3]);
    mixed.refusals[1].action = Action::Quarantine;
    rows.drop_refused(&mixed).unwrap();
    assert_eq!(rows.documents, documents(&["b", "c"]));
    let mut held = report(&[2]);
    held.refusals[0].action = Action::Quarantine;
    rows.drop_refused(&held).unwrap();
    assert_eq!(rows.documents, documents(&["b"]), "where nothing else speaks against it, what is held is what is left out");
}

#[test]
fn a_rehearsal_refuses_by_the_rules_of_the_datanet_and_its_licence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.jsonl");
    std::fs::write(&file, "{\"text\": \"Ebb and flow.\"}\n{\"text\": \"Write to ada@example.org about it.\"}\n").unwrap();
    let inputs = Arc::new(Inputs::find(&[file], None, Columns::default(), None).unwrap());
    let checked = |personal_data, licence: &str| {
        let (name, of_net) = ("tides".parse().unwrap(), "CC0-1.0".parse().unwrap());
        let policy = datanet::GatePolicy { personal_data, ..datanet::GatePolicy::default() };
        let card = Card::new(name, String::new(), of_net, Vec::new(), Vec::new()).and_then(|card| card.with_policy(policy)).unwrap();
        let licence = licence.parse().unwrap();
        let rules = Rules { datanet: NET, card: &card, me: ME, licence: &licence, drop_refused: false, redact: false };
        check_all(&inputs, &rules).map_err(|error| error.to_string())
    };
    assert_eq!(checked(Action::Note, "CC0-1.0"), Ok(()));
    let error = checked(Action::Block, "CC0-1.0").unwrap_err();
    assert!(error.contains("nothing was sent; this would be refused") && error.contains("row 2"), "{error}");
    let error = checked(Action::Note, "CC-BY-NC-4.0").unwrap_err();
    assert!(error.contains("nothing was sent; this would be refused"), "{error}");
}
