//! `tributary doctor` on hosts that are spoilt one by one, and as an operator calls it.
//!
//! Nothing is timed: what must answer has a minute, what is silent on purpose is waited for half a second. Cost: some eight seconds, most of them waiting.

#![expect(clippy::unwrap_used, reason = "a test asserts by unwrapping, also in its helpers")]

use std::{collections::BTreeSet, process::Command};

use node::doctor::{
    Check, Finding, Level, examine,
    rehearse::{FAULTS, Host, Peer, rehearse},
};
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
