//! What is shipped for operators speaks of what there is: every query of the dashboard and of the alert rules names series that a node prints, with labels that they have, and
//! the unit of systemd calls the program as it can be called.

use std::{collections::BTreeSet, path::Path};

use node::metrics::{Facts, Metrics};
use serde_json::Value;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("packaging").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every `expr` in a document.
fn queries_of(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| queries_of(field, into));
        }
        Value::Array(all) => all.iter().for_each(|one| queries_of(one, into)),
        _ => {}
    }
}

/// The words of a query that begin as our names do, each with what its braces hold.
fn selectors(query: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find("tributary_") {
        let from = &rest[at..];
        let end = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(from.len());
        let (name, behind) = from.split_at(end);
        let matchers = behind.strip_prefix('{').and_then(|inside| inside.split('}').next()).unwrap_or_default();
        found.push((name.to_owned(), matchers.split(',').filter(|one| !one.is_empty()).map(|one| one.trim().to_owned()).collect()));
        rest = behind;
    }
    found
}

#[test]
fn every_query_of_the_dashboard_and_of_the_alerts_finds_the_series_that_it_names() {
    let live = Metrics::default().render(&Facts::default());
    let series: Vec<&str> =
        live.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').map_or(line, |(name, _)| name)).collect();
    let mut queries = Vec::new();
    queries_of(&serde_json::from_str(&shipped("dashboard.json")).expect("JSON"), &mut queries);
    let in_dashboard = queries.len();
    queries.extend(shipped("alerts.yml").lines().filter_map(|line| Some(line.trim().strip_prefix("expr: ")?.to_owned())));
    assert!(in_dashboard >= 12 && queries.len() >= in_dashboard + 9, "{queries:?}");
    let mut named = BTreeSet::new();
    for query in &queries {
        let selectors = selectors(query);
        assert!(!selectors.is_empty() || query.starts_with("up{"), "{query} names nothing of ours");
        for (name, matchers) in selectors {
            let of_name = |line: &&&str| line.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
            let has_all = |line: &&str| matchers.iter().all(|matcher| line.contains(matcher.as_str()));
            assert!(series.iter().filter(of_name).any(has_all), "{query}: nothing prints {name} with {matchers:?}");
            named.insert(name);
        }
        for label in query.split("by (").skip(1).filter_map(|behind| behind.split(')').next()).filter(|label| *label != "le") {
            assert!(series.iter().any(|line| line.contains(&format!("{{{label}="))), "{query}: no series has the label {label}");
        }
    }
    assert!(named.len() >= 16, "{named:?}");
}

#[test]
fn a_query_of_a_series_that_there_is_not_would_be_found() {
    assert_eq!(
        selectors("sum(rate(tributary_x_total{a=\"b\", c=\"d\"}[5m])) / tributary_y"),
        [("tributary_x_total".to_owned(), vec!["a=\"b\"".to_owned(), "c=\"d\"".to_owned()]), ("tributary_y".to_owned(), vec![]),]
    );
}

#[test]
fn the_unit_of_systemd_calls_the_program_as_it_can_be_called() {
    let unit = shipped("tributary.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a program");
    let words: Vec<&str> = line.split_whitespace().chain(["--help"]).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(&words[1..])
        .env("CREDENTIALS_DIRECTORY", folder.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("Join the network and serve"), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    let seconds: u64 =
        unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).and_then(|text| text.parse().ok()).expect("seconds");
    assert!(seconds > 40, "a node drains for 25 s, streams end in 5, and the bulk endpoint closes in 3");
}
