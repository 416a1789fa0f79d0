//! `tributary doctor` on hosts that are spoilt one by one, and as an operator calls it.
//!
//! Nothing is timed: what must answer has a minute, what is silent on purpose is waited for half a second. Cost: some eight seconds, most of them waiting.

#![expect(clippy::unwrap_used, reason = "a test asserts by unwrapping, also in its helpers")]

use std::{collections::BTreeSet, process::Command};

use node::doctor::{
    Check, Finding, Level, date, examine,
    rehearse::{FAULTS, Host, Peer, rehearse},
};
use proptest::prelude::*;
use serde_json::Value;

/// With what an order begins.
const VERBS: [&str; 25] = [
    "run",
    "write",
    "use",
    "remove",
    "look",
    "stop",
    "restart",
    "correct",
    "change",
    "restore",
    "give",
    "put",
    "set",
    "expose",
    "reinstall",
    "install",
    "make",
    "mount",
    "move",
    "fetch",
    "name",
    "start",
    "ask",
    "send",
    "take",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_named_and_nothing_whole_is_called_broken() {
    let done = rehearse().await.unwrap();
    for trial in &done.trials {
        assert!(trial.is_found, "{}: not named", trial.fault);
        assert!(trial.unexpected.is_empty(), "{}: {:#?}", trial.fault, trial.unexpected);
    }
    let figures: Vec<(&str, f64)> = done.rows().iter().map(|row| (row.figure, row.ours)).collect();
    assert_eq!(figures, [("network.doctor_found", 100.0), ("network.doctor_false_alarms", 0.0)]);
    let line: Value = serde_json::from_str(&done.rows()[0].to_string()).unwrap();
    assert_eq!((line["unit"].as_str(), line["n"].as_u64()), (Some("%"), Some(FAULTS.len() as u64)));
}

#[test]
fn every_check_has_a_fault_that_it_must_name() {
    let rehearsed: BTreeSet<Check> = FAULTS.iter().map(|fault| fault.check).collect();
    assert_eq!(rehearsed, Check::ALL.into_iter().collect());
    assert_eq!(rehearsed.len(), Check::ALL.len());
    let words: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.words).collect();
    assert_eq!(words.len(), FAULTS.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_come_in_order_with_a_fix_where_one_is_due_and_without_a_secret() {
    let peer = Peer::start().await.unwrap();
    let quick = [
        Check::KeyModes,
        Check::NodeSeed,
        Check::Wallet,
        Check::ConfigFile,
        Check::RegistryFile,
        Check::ChainId,
        Check::Gas,
        Check::Binding,
    ];
    for fault in FAULTS.iter().filter(|fault| quick.contains(&fault.check)) {
        let mut host = Host::good(&peer).await.unwrap();
        let secrets = host.secrets().unwrap();
        (fault.inject)(&mut host).unwrap();
        host.configure().unwrap();
        let findings = examine(&host.world).await;
        assert_eq!(findings.iter().map(|finding| finding.check).collect::<Vec<_>>(), Check::ALL, "{}", fault.words);
        for finding in findings.iter().filter(|finding| finding.is_alarm()) {
            let verb = finding.fix.as_deref().unwrap().split(' ').next().unwrap();
            assert!(VERBS.contains(&verb), "{}: {:?}", fault.words, finding.fix);
        }
        assert!(findings.iter().all(|finding| finding.is_alarm() == finding.fix.is_some() && !finding.said.is_empty()), "{}", fault.words);
        let said = serde_json::to_string(&findings).unwrap() + &format!("{:?}", host.world);
        for secret in secrets {
            assert!(!said.contains(&secret), "{}: {said}", fault.words);
        }
    }
    peer.stop().await;
}

/// What the program prints with these words, and its exit code.
fn printed(folder: &std::path::Path, words: &[&str]) -> (String, Option<i32>) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tributary"));
    program.env_clear().arg("--data-dir").arg(folder).arg("doctor").args(words);
    let done = program.output().unwrap();
    (String::from_utf8(done.stdout).unwrap(), done.status.code())
}

#[test]
fn an_empty_folder_is_told_to_be_set_up_and_nothing_is_made_in_it() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("none");
    let (text, code) = printed(&folder, &["--json"]);
    assert_eq!(code, Some(1), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    let findings = document["findings"].as_array().unwrap();
    assert_eq!(findings.len(), Check::ALL.len());
    let of = |check: &str| findings.iter().find(|finding| finding["check"] == check).unwrap();
    assert_eq!(of("data_folder")["level"], "bad");
    assert!(of("config_file")["fix"].as_str().unwrap().contains("init"), "{text}");
    // What rests on the configuration is not looked at, and is no alarm.
    assert_eq!((of("rpc")["level"].as_str(), of("bootstrap")["level"].as_str()), (Some("unknown"), Some("unknown")));
    assert_eq!(document["bad"].as_u64().unwrap(), findings.iter().filter(|finding| finding["level"] == "bad").count() as u64);
    assert!(!folder.exists());

    let (table, code) = printed(&folder, &[]);
    assert_eq!(code, Some(1));
    assert!(table.starts_with("check") && table.contains("\ndata folder: ") && table.contains("\n  fix: run `tributary"), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_hangs_and_a_configuration_that_is_not_read_leave_the_rest_looked_at() {
    let peer = Peer::start().await.unwrap();
    let level = |findings: &[Finding], check| findings.iter().find(|finding| finding.check == check).unwrap().level;
    for (words, unknown, whole) in [
        (
            "the endpoint hangs",
            vec![Check::ChainId, Check::Clock, Check::Stake, Check::Gas],
            vec![Check::ModelHash, Check::Bootstrap, Check::DiskWrite],
        ),
        (
            "a key is misspelt",
            vec![Check::Rpc, Check::Bootstrap, Check::ModelFile, Check::PortsFree],
            vec![Check::Wallet, Check::NodeSeed, Check::DiskWrite],
        ),
    ] {
        let mut host = Host::good(&peer).await.unwrap();
        (FAULTS.iter().find(|fault| fault.words == words).unwrap().inject)(&mut host).unwrap();
        host.configure().unwrap();
        let findings = examine(&host.world).await;
        for check in unknown {
            assert_eq!(level(&findings, check), Level::Unknown, "{words}: {check:?}");
        }
        for check in whole {
            assert_eq!(level(&findings, check), Level::Good, "{words}: {check:?}");
        }
    }
    peer.stop().await;
}

/// What one host says of one check.
async fn said(host: &Host, check: Check) -> Finding {
    host.configure().unwrap();
    examine(&host.world).await.into_iter().find(|finding| finding.check == check).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_misspelt_key_is_told_with_its_line_and_the_one_that_was_meant() {
    let peer = Peer::start().await.unwrap();
    let mut host = Host::good(&peer).await.unwrap();
    for (lines, place, fix) in [
        ("answer_max = 4\n", "line 1: unknown", "write answers_max,"),
        ("\nblk = \"127.0.0.1:1\"\n", "line 2: unknown", "write bulk,"),
        ("weather = \"fine\"\n", "line 1: unknown", "correct that line"),
    ] {
        lines.clone_into(&mut host.lines);
        let finding = said(&host, Check::ConfigFile).await;
        assert!(finding.said.contains(place) && finding.fix.as_deref().unwrap().starts_with(fix), "{finding:?}");
    }
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_slower_than_it_may_be_is_told_and_keeps_nothing_of_the_look() {
    let peer = Peer::start().await.unwrap();
    let mut host = Host::good(&peer).await.unwrap();
    host.world.patience.sync = std::time::Duration::ZERO;
    let finding = said(&host, Check::DiskWrite).await;
    assert_eq!(finding.level, Level::Warn, "{finding:?}");
    let left = std::fs::read_dir(host.data().path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with("doctor")).count(), 0);
    peer.stop().await;
}

#[test]
fn the_date_of_the_standard_is_read_and_written() {
    assert_eq!(date::read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    assert_eq!(date::written(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!((date::written(0).as_str(), date::read(&date::written(951_782_400))), ("Thu, 01 Jan 1970 00:00:00 GMT", Some(951_782_400)));
    assert_eq!(date::read("Thu, 29 Feb 2024 00:00:60 GMT"), date::read("Thu, 29 Feb 2024 00:00:59 GMT"));
    let no_dates = [
        "",
        "Sun, ",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT",
        "Sun, 0\u{e9} Nov",
    ];
    for text in no_dates {
        assert_eq!(date::read(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn a_date_that_is_written_is_read_as_the_same(seconds in 0_u64..253_402_300_800) {
        prop_assert_eq!(date::read(&date::written(seconds)), Some(seconds));
    }

    #[test]
    fn no_text_stops_the_reader_of_dates(text in ".{0,40}") {
        let _ = date::read(&text);
    }
}
