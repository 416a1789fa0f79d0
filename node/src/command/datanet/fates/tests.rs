use storage::datanet::Report;
use types::{
    contribution::Priority,
    id::{AssetId, BlobId},
};

use super::*;
use crate::{
    command::datanet::{
        contribute::{Dropped, Spot},
        findings::Finding,
    },
    data::DataDir,
};

const ME: Address = Address([1; 20]);
const OTHER: Address = Address([2; 20]);
const ROOT: Hash32 = Hash32([7; 32]);

fn found(row: u32, rule: Rule, action: Action, earlier: Option<Earlier>) -> Refusal {
    Refusal { row, rule, action, detail: format!("{} of {row}", rule.label()), fix: "mend it".into(), preview: None, earlier }
}

fn earlier() -> Earlier {
    Earlier { owner: OTHER, contribution: Some(Hash32([9; 32])), row: 4, per_mille: 876 }
}

fn report(refusals: Vec<Refusal>, notes: Vec<Refusal>) -> Report {
    Report {
        accepted: refusals.is_empty(),
        contributor: ME,
        text_root: ROOT,
        text_bytes: 40,
        documents: 4,
        refusals,
        unlisted: 0,
        notes,
        notes_unlisted: 0,
        approvals: vec![],
    }
}

fn accepted() -> Accepted {
    Accepted {
        datanet: AssetId(3),
        number: 5,
        contributor: ME,
        text_root: ROOT,
        text_bytes: 40,
        documents: 4,
        priority: Priority::default(),
        licence: Hash32::ZERO,
        object: BlobId([3; 32]),
        report: Hash32::ZERO,
        accepted: (0, 0),
    }
}

/// Rows 1, 2, 4 and 6 of a file were shown; 3 was left out at the gate, 5 before.
fn brought(data: &DataDir, report: &Report) -> Record {
    let dropped = |row: u32, rule: Rule, earlier| Dropped { row, file: None, reason: "a copy".into(), rule: rule.label().into(), earlier };
    let redacted = Finding {
        row: Some(4),
        file: None,
        rule: "personal-data".into(),
        action: "redact".into(),
        detail: "a phone number".into(),
        fix: "contribute the redacted rows".into(),
        preview: None,
    };
    let key = (AssetId(3), ME, Hash32([8; 32]));
    let files = ["a.jsonl".to_owned()];
    Record::cut(key, &files, vec![dropped(5, Rule::Repeated, None)], vec![redacted]).keep(data).unwrap();
    let stretches = vec![(Spot { file: 0, row: 1 }, 2), (Spot { file: 0, row: 4 }, 1), (Spot { file: 0, row: 6 }, 1)];
    let all = [dropped(3, Rule::Duplicate, Some(earlier())), dropped(5, Rule::Repeated, None)];
    Record::of(key, data, &files).unwrap().shown(data, report, stretches, &all).unwrap();
    let records = |net, who| brought::all(data, AssetId(net), who).unwrap().records;
    assert!(records(3, OTHER).is_empty() && records(30, ME).is_empty());
    let damaged = data.path().join("brought").join(format!("{}-00.json", AssetId(3)));
    std::fs::write(&damaged, b"{").unwrap();
    let all = brought::all(data, AssetId(3), ME).unwrap();
    assert!(
        all.damaged.len() == 1 && all.damaged[0].contains(&damaged.display().to_string()) && all.damaged[0].contains("remove it"),
        "{all:?}"
    );
    let mut kept = all.records;
    assert_eq!(kept.len(), 1);
    kept.remove(0)
}

fn listed(known: &Known<'_>, skip: u64, limit: u64) -> Listed {
    let mut listed = Listed { skip, limit, ..Listed::default() };
    known.list(&mut listed);
    listed
}

fn fates(listed: &Listed) -> Vec<(u32, &'static str)> {
    listed.rows.iter().map(|row| (row.row, row.fate.label())).collect()
}

#[test]
fn each_row_of_an_accepted_contribution_has_its_place_its_rule_and_whose_row_it_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::new(folder.path());
    let notes = vec![found(2, Rule::NearCopy, Action::Note, Some(earlier())), found(3, Rule::PersonalData, Action::Note, None)];
    let report = report(vec![], notes);
    let (brought, accepted) = (brought(&data, &report), accepted());
    let known = Known { accepted: Some(&accepted), is_erased: false, brought: Some(&brought), report: Some(&report) };
    let all = listed(&known, 0, 100);
    let expected = [(1, "accepted"), (2, "copy"), (4, "accepted"), (6, "accepted"), (5, "left-out"), (3, "left-out")];
    assert_eq!(fates(&all), expected);
    assert_eq!(all.rows[1].earlier, Some(earlier()));
    assert_eq!((all.rows[2].rules.as_slice(), all.rows[2].redacted), (&["personal-data".to_owned()][..], true));
    assert_eq!((all.rows[5].earlier, all.rows[5].rules[0].as_str()), (Some(earlier()), "duplicate"));
    assert_eq!(all.counts, BTreeMap::from([("accepted", 3), ("copy", 1), ("left-out", 2)]));
    let some = listed(&known, 1, 2);
    assert_eq!((fates(&some), some.seen), (vec![(2, "copy"), (4, "accepted")], 6));
    assert_eq!(some.counts, all.counts, "what is not listed is counted");
    let value = serde_json::to_value(&all.rows[1]).unwrap();
    assert_eq!((&value["fate"], &value["earlier"]["per_mille"], &value["earlier"]["row"]), (&"copy".into(), &876.into(), &4.into()));
    // Erased: every row of it.
    let erased = Known { is_erased: true, ..known };
    assert_eq!(listed(&erased, 0, 3).rows.iter().map(|row| row.fate).collect::<Vec<_>>(), [Fate::Erased; 3]);
}

#[test]
fn rows_of_a_refused_contribution_say_which_rule_refused_them_and_the_rest_that_it_was_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::new(folder.path());
    let blocked = report(
        vec![found(2, Rule::Duplicate, Action::Block, Some(earlier())), found(0, Rule::ContributorLimit, Action::Block, None)],
        vec![],
    );
    let brought = brought(&data, &blocked);
    let known = Known { accepted: None, is_erased: false, brought: Some(&brought), report: Some(&blocked) };
    assert_eq!(fates(&listed(&known, 0, 4)), [(1, "not-entered"), (2, "refused"), (4, "not-entered"), (6, "not-entered")]);
    assert!(known.remarks()[0].starts_with("contributor-limit: contributor-limit of 0; mend it"), "{:?}", known.remarks());
    let held = report(vec![found(2, Rule::NearCopy, Action::Quarantine, Some(earlier()))], vec![]);
    let known = Known { accepted: None, is_erased: false, brought: None, report: Some(&held) };
    assert_eq!(listed(&known, 0, 4).counts, BTreeMap::from([("waits", 4)]));
}

#[test]
fn without_records_and_report_the_chains_rows_are_there_by_their_numbers() {
    let accepted = accepted();
    let known = Known { accepted: Some(&accepted), is_erased: false, brought: None, report: None };
    assert_eq!(fates(&listed(&known, 2, 10)), [(3, "accepted"), (4, "accepted")]);
}

#[test]
fn the_table_shows_what_a_person_asks_for_and_how_to_see_the_rest() {
    let row = Row {
        file: Some("a.jsonl".into()),
        row: 7,
        fate: Fate::Copy,
        contribution: Some(5),
        rules: vec!["near-copy".into()],
        found: vec!["87.6 % of the shingles".into()],
        earlier: Some(earlier()),
        redacted: true,
    };
    let health = Health { fragments: Some(5), held: vec![0, 1, 3], holders: vec![NodeId([1; 32])] };
    let whole = Whole { contribution: Some(5), text_root: ROOT, documents: 4, object: None, remarks: vec![], health: Some(health) };
    let counts = BTreeMap::from([("accepted", 3), ("copy", 1)]);
    let printed = Printed {
        asset: 3,
        name: "notes".into(),
        contributor: ME,
        counts,
        contributions: vec![whole],
        rows: vec![row],
        unlisted: 3,
        skipped: 0,
    };
    let text = describe(&printed);
    for part in ["3 accepted, 1 copy", "a.jsonl: 7", "87.6 % row 4 of 0x0202", "redacted; ", "3 of 5 by 1 nodes", "and 3 more of 4 rows"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("filled by --health"), "it is filled: {text}");
    let contributions = printed.contributions.into_iter().map(|whole| Whole { health: None, ..whole }).collect();
    let text = describe(&Printed { contributions, ..printed });
    assert!(text.contains("\"fragments held\" is filled by --health"), "{text}");
}

#[test]
fn rows_that_are_not_listed_are_said_to_be_where_they_are() {
    for (skipped, listed, unlisted, words) in [
        (0, 10, 0, None),
        (0, 200, 8_130, Some("and 8130 more of 8330 rows")),
        (200, 200, 8_130, Some("200 rows stand before these and 7930 behind, of 8330")),
        (8_200, 130, 8_200, Some("8200 rows stand before these and 0 behind")),
        (8_330, 0, 8_330, Some("there are 8330 rows, and --skip passes over all of them")),
        (0, 0, 8_330, Some("and 8330 more of 8330 rows")),
    ] {
        let said = elsewhere(skipped, listed, unlisted);
        assert_eq!(said.is_some(), words.is_some(), "{said:?}");
        assert!(words.is_none_or(|words| said.as_ref().is_some_and(|said| said.starts_with(words))), "{said:?}");
    }
}
