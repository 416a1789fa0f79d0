//! A client's money over one real node and a real chain: caps, questions asked once under a key, session keys, notices of what failed, and money given back
//! by credit notes, which the node pays or its stake.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use harness::{Cluster, Setup, cluster::text, files};
use serde_json::Value;

const QUESTION: &str = "What is gout?";
/// Longest that something of the node's or the chain's is awaited.
const WAIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_spends_within_its_caps_pays_once_and_gets_back_what_it_is_owed() {
    let _alone = harness::alone().await;
    let people = vec!["author", "client"];
    let mut cluster = Cluster::start(Setup { nodes: 1, model: Some(files::tiny_model()), people }).await;
    let model = files::tiny_model();
    cluster.run(cluster.person("author"), &["model", "publish", text(&model), "--name", "tiny"]).await;
    cluster.run(cluster.person("client"), &["wallet", "deposit", "5 OPEN"]).await;
    cluster.all_nodes(60, "serving the base", |status| status["manifests"].as_array().is_some_and(|all| !all.is_empty())).await;
    cluster.say("one node serves the base");

    caps_refuse_before_anything_is_sent(&cluster).await;
    let asked = a_key_is_paid_once(&cluster).await;
    a_client_killed_in_the_middle_goes_on_under_the_same_request(&cluster).await;
    let by_session = a_session_key_pays_up_to_its_cap(&cluster).await;
    settle(&cluster).await;
    what_a_session_spent_is_shown_and_a_revoked_one_signs_nothing(&cluster, &by_session).await;
    let note = notes_that_cannot_be_claimed_are_refused_before_anything_is_sent(&cluster, &asked).await;
    a_claim_is_paid_by_the_node(&cluster, &note).await;
    a_claim_that_the_node_does_not_pay_is_paid_by_its_stake(&mut cluster, &by_session).await;
    drop(cluster.stop().await);
}

async fn ask(cluster: &Cluster, options: &[&str]) -> Value {
    cluster.run(cluster.person("client"), &[&["ask", "--with", "tiny", "--tokens", "96"], options, &[QUESTION]].concat()).await
}

async fn refused(cluster: &Cluster, options: &[&str], words: &[&str]) {
    let error = cluster.refused(cluster.person("client"), &[&["ask", "--with", "tiny"], options, &[QUESTION]].concat()).await;
    println!("    {error}");
    for word in words {
        assert!(error.contains(word), "`ask {}` was refused without {word:?}: {error}", options.join(" "));
    }
}

fn wei(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number of wei"))
}

/// Receipts that the node has signed so far.
async fn receipts(cluster: &Cluster) -> u64 {
    cluster.run(&cluster.nodes[0], &["status"]).await["receipts"].as_u64().expect("a count")
}

fn receipt(answer: &Value) -> PathBuf {
    PathBuf::from(answer["receipt"].as_str().unwrap_or_else(|| panic!("no receipt was kept: {answer}")))
}

async fn caps_refuse_before_anything_is_sent(cluster: &Cluster) {
    let client = cluster.person("client");
    client.configure(|config| {
        config.spending.per_request = Some("0.04 OPEN".parse().expect("an amount"));
        config.spending.per_day = Some("0.05 OPEN".parse().expect("an amount"));
    });
    refused(cluster, &["--max-fee", "0.041 OPEN"], &["cap per request is 40000000000000000 wei", "per_request", "--max-fee"]).await;
    assert_eq!(receipts(cluster).await, 0);
    let answer = ask(cluster, &["--max-fee", "0.04 OPEN"]).await;
    let fee = wei(&answer["fee_wei"]);
    assert!(fee > 0 && fee < 5_000_000_000_000_000, "{answer}");
    // The receipt has lowered what the promise counted: the limit fits again, one that does not is refused with what was spent.
    client.configure(|config| config.spending.per_day = Some(types::amount::Amount(2 * fee)));
    let limit = (fee + 1).to_string();
    refused(cluster, &["--max-fee", &limit], &[&format!("{fee} wei are spent"), "cap per day", "per_day", "midnight UTC"]).await;
    assert_eq!(receipts(cluster).await, 1, "nothing was asked");
    let limit = fee.to_string();
    assert_eq!(wei(&ask(cluster, &["--max-fee", &limit]).await["fee_wei"]), fee, "the day's last wei");
    refused(cluster, &["--max-fee", "1"], &["cap per day"]).await;
    client.configure(|config| config.spending.per_day = None);
    cluster.say("caps refuse before anything is sent");
}

/// Returns the receipt.
async fn a_key_is_paid_once(cluster: &Cluster) -> PathBuf {
    let key = ["--idempotency-key", "first"];
    let first = ask(cluster, &key).await;
    let signed = receipts(cluster).await;
    let again = ask(cluster, &key).await;
    assert_eq!((&first["is_repeated"], &again["is_repeated"]), (&false.into(), &true.into()));
    for field in ["answer", "receipt", "fee_wei", "node", "tokens"] {
        assert_eq!(first[field], again[field], "{field}");
    }
    assert_eq!(receipts(cluster).await, signed, "nothing was asked or paid again");
    refused(
        cluster,
        &["--idempotency-key", "first", "--temperature", "7"],
        &["used for something else", "--temperature was \"0\", is \"7\""],
    )
    .await;
    // A question that failed may be asked again under its key, and fails again in words.
    let failing = ["--idempotency-key", "dear", "--rate-in", "5"];
    for _ in 0..2 {
        let command = [&["ask", "--with", "tiny"], &failing[..], &[QUESTION]].concat();
        let outcome = cluster.outcome(cluster.person("client"), &command).await;
        let notice = &outcome.json["notice"];
        assert_eq!((&notice["charged_wei"], &notice["promised_wei"], &notice["is_answered"]), (&"0".into(), &"0".into(), &false.into()));
        assert_eq!((&notice["failed"][0]["cause"], &notice["failed"][0]["is_signed"]), (&"unfit".into(), &false.into()), "{outcome}");
        assert!(outcome.refusal().contains("input rate"));
    }
    let listed = cluster.run(cluster.person("client"), &["receipt", "failures"]).await;
    assert!(listed.as_array().is_some_and(|all| !all.is_empty() && all[0]["failed"][0]["words"].is_string()), "{listed}");
    assert_eq!(receipts(cluster).await, signed);
    cluster.say("a key is answered once and paid once");
    receipt(&first)
}

/// The client's output is a pipe with little room left, so it stops in the middle of the answer, its first voucher given.
async fn a_client_killed_in_the_middle_goes_on_under_the_same_request(cluster: &Cluster) {
    const PIPE_BYTES: usize = 64 << 10;
    const ROOM: usize = 24;
    let client = cluster.person("client");
    let whole = ask(cluster, &[]).await;
    let before = receipts(cluster).await;
    let arguments = ["ask", "--with", "tiny", "--tokens", "96", "--idempotency-key", "killed", QUESTION];
    let (_reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&vec![b'\n'; PIPE_BYTES - ROOM]).expect("a pipe takes 64 KiB");
    let mut asking = cluster.tributary.plain(&client.folder, &arguments);
    let mut child = asking.stdout(Stdio::from(writer)).stderr(Stdio::null()).spawn().expect("the client starts");
    let record = wait_record(&client.folder).await;
    child.kill().await.expect("the client is killed");
    let begun: Value = serde_json::from_slice(&std::fs::read(&record).expect("a record")).expect("JSON");
    let promised = begun["draft"]["tries"][0]["promised"].as_str().expect("a promise").to_owned();
    let kept = begun["draft"]["tokens"].as_array().expect("tokens").len();
    assert!(promised != "0" && kept > 0 && begun["answer"].is_null(), "{begun}");
    let deadline = Instant::now() + WAIT;
    while receipts(cluster).await == before {
        assert!(Instant::now() < deadline, "the node did not receipt what was promised");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let answer = cluster.run(client, &arguments).await;
    assert_eq!(answer["answer"], whole["answer"], "it goes on where it stood");
    assert_eq!(receipts(cluster).await, before + 2);
    let bundle: Value = serde_json::from_slice(&std::fs::read(receipt(&answer)).expect("a bundle")).expect("JSON");
    let billed = &bundle["receipt"]["document"];
    assert_eq!((&billed["first_token"], &billed["attempt"]), (&kept.into(), &1.into()), "no token is billed twice: {billed}");
    assert_eq!(bundle["request"], begun["draft"]["request"], "the same request goes on");
    let notice = &answer["notice"];
    assert_eq!((&notice["promised_wei"], &notice["failed"][0]["cause"]), (&promised.into(), &"interrupted".into()), "{notice}");
    let again = cluster.run(client, &arguments).await;
    assert_eq!((&again["is_repeated"], &again["receipt"]), (&true.into(), &answer["receipt"]));
    assert_eq!(receipts(cluster).await, before + 2);
    cluster.say("a client killed in the middle went on under the same request and paid no token twice");
}

/// The record of the key under which something was promised and no answer kept yet.
async fn wait_record(folder: &Path) -> PathBuf {
    let deadline = Instant::now() + WAIT;
    loop {
        let all = std::fs::read_dir(folder.join("purse/answers")).into_iter().flatten().flatten();
        for deployment in all {
            for entry in std::fs::read_dir(deployment.path()).expect("a folder").flatten() {
                let path = entry.path();
                if path.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap_or_default()).unwrap_or_default();
                let promised = record["draft"]["tries"][0]["promised"].as_str().unwrap_or("0");
                if record["answer"].is_null() && promised != "0" {
                    return path;
                }
            }
        }
        assert!(Instant::now() < deadline, "no promise was kept");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns the receipt.
async fn a_session_key_pays_up_to_its_cap(cluster: &Cluster) -> PathBuf {
    let client = cluster.person("client");
    let added = cluster.run(client, &["wallet", "session", "add", "phone", "--cap", "0.03 OPEN", "--expires", "12h"]).await;
    assert_eq!((&added["sessions"][0]["state"], &added["sessions"][0]["spent_wei"]), (&"live".into(), &"0".into()), "{added}");
    // The wallet's own key is not needed to ask by a session.
    let (wallet, away) = (client.folder.join("wallet.json"), client.folder.join("wallet.away"));
    std::fs::rename(&wallet, &away).expect("the wallet is put away");
    let answer = ask(cluster, &["--session", "phone"]).await;
    std::fs::rename(&away, &wallet).expect("the wallet is back");
    let bundle: Value = serde_json::from_slice(&std::fs::read(receipt(&answer)).expect("a bundle")).expect("JSON");
    assert_eq!(bundle["session"], added["sessions"][0]["signer"]);
    assert_eq!(bundle["lane"]["document"]["payer"], client.account.to_string());
    let verified = cluster.run(client, &["receipt", "verify", text(&receipt(&answer))]).await;
    assert_eq!(verified["is_ok"], true, "{verified}");
    assert!(verified["unchecked"].to_string().contains("which signed request, lane and voucher"), "{verified}");
    let fee = wei(&answer["fee_wei"]);
    refused(cluster, &["--session", "phone", "--max-fee", "0.03 OPEN"], &[&format!("has spent or promised {fee} wei"), "session add"])
        .await;
    refused(cluster, &["--session", "nobody"], &["no session is called nobody", "phone"]).await;
    let shrunk = cluster.refused(client, &["wallet", "session", "add", "phone", "--cap", "0.01 OPEN", "--expires", "12h"]).await;
    assert!(shrunk.contains("both may only grow"), "{shrunk}");
    cluster.say("a session key signed request, lane and vouchers with the wallet put away, and its cap holds");
    receipt(&answer)
}

async fn what_a_session_spent_is_shown_and_a_revoked_one_signs_nothing(cluster: &Cluster, by_session: &Path) {
    let client = cluster.person("client");
    let bundle: Value = serde_json::from_slice(&std::fs::read(by_session).expect("a bundle")).expect("JSON");
    let listed = cluster.run(client, &["wallet", "session", "list"]).await;
    let row = &listed["sessions"][0];
    assert_eq!((&row["spent_wei"], &row["promised_wei"]), (&bundle["receipt"]["document"]["fee"], &row["spent_wei"]), "{listed}");
    let revoked = cluster.run(client, &["wallet", "session", "revoke", "phone"]).await;
    assert_eq!(revoked["sessions"][0]["state"], "revoked", "{revoked}");
    refused(cluster, &["--session", "phone"], &["revoked"]).await;
    cluster.say("the chain counted what the session signed; revoked, it signs nothing more");
}

/// Asks the node to settle until it has no receipt left; outside the seconds in which roots are taken it refuses.
async fn settle(cluster: &Cluster) {
    let deadline = Instant::now() + WAIT;
    while cluster.run(&cluster.nodes[0], &["status"]).await["receipts_unposted"] != 0 {
        let last = cluster.outcome(&cluster.nodes[0], &["settle"]).await;
        assert!(Instant::now() < deadline, "the node has receipts that are not posted: {last}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    cluster.say("every receipt is collected and posted");
}

/// Returns a note that can be claimed.
async fn notes_that_cannot_be_claimed_are_refused_before_anything_is_sent(cluster: &Cluster, asked: &Path) -> PathBuf {
    let (node, client) = (&cluster.nodes[0], cluster.person("client"));
    let good = cluster.path("note.json");
    let refund = async |out: &Path, more: &[&str]| {
        cluster.run(node, &[&["refund", text(asked), "--out", text(out)], more].concat()).await;
    };
    let error = cluster.refused(node, &["refund", text(asked), "--amount", "1 OPEN"]).await;
    assert!(error.contains("cannot be given back of an answer that cost"), "{error}");
    let error = cluster.refused(client, &["refund", text(asked), "--amount", "5"]).await;
    assert!(error.contains("only the node that was paid can give back"), "{error}");
    refund(&good, &["--amount", "70000"]).await;
    let note: Value = serde_json::from_slice(&std::fs::read(&good).expect("a note")).expect("JSON");
    let expired = cluster.path("expired.json");
    refund(&expired, &["--amount", "70000", "--blocks", "0"]).await;
    let balance = cluster.run(client, &["wallet", "show"]).await["balance_wei"].clone();
    let tried = async |name: &str, words: &str, change: &dyn Fn(&mut Value)| {
        let path = cluster.path(name);
        let mut changed = note.clone();
        change(&mut changed);
        std::fs::write(&path, changed.to_string()).expect("a note is written");
        let error = cluster.refused(client, &["claim", "--credit", text(&path)]).await;
        println!("    {error}");
        assert!(error.contains(words), "{name}: {error}");
    };
    tried("other-lane.json", "the note is for lane", &|note| note["lane"]["nonce"] = 77.into()).await;
    tried("other-payer.json", "the note is for lane", &|note| note["lane"]["payer"] = node.account.to_string().into()).await;
    tried("forged.json", "is not the node's", &|note| note["note"]["document"]["amount"] = "70001".into()).await;
    tried("above.json", "is not the node's", &|note| note["note"]["document"]["cumulative"] = "99".into()).await;
    tried("broken.json", "no credit note", &|note| note["note"] = Value::Null).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let error = cluster.refused(client, &["claim", "--credit", text(&expired)]).await;
    assert!(error.contains("could be claimed until block"), "{error}");
    let stranger = cluster.refused(cluster.person("author"), &["claim", "--credit", text(&good)]).await;
    assert!(stranger.contains("only the payer can claim it"), "{stranger}");
    assert_eq!(cluster.run(client, &["wallet", "show"]).await["balance_wei"], balance, "nothing was sent");
    cluster.say("notes that cannot be claimed are refused in words");
    good
}

async fn deposit(cluster: &Cluster) -> u128 {
    wei(&cluster.run(cluster.person("client"), &["wallet", "show"]).await["escrow"]["balance_wei"])
}

async fn a_claim_is_paid_by_the_node(cluster: &Cluster, note: &Path) {
    let (client, before) = (cluster.person("client"), deposit(cluster).await);
    let claimed = cluster.run(client, &["claim", "--credit", text(note)]).await;
    assert_eq!((&claimed["state"], &claimed["amount_wei"]), (&"claimed".into(), &"70000".into()), "{claimed}");
    let deadline = Instant::now() + WAIT;
    loop {
        let now = cluster.run(client, &["claim", "--credit", text(note)]).await;
        if now["state"] == "paid" {
            break;
        }
        assert!(Instant::now() < deadline && now["state"] != "settled", "the running node pays by itself: {now}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(deposit(cluster).await, before + 70_000);
    cluster.say("the running node paid a claimed credit note with its own money");
}

async fn a_claim_that_the_node_does_not_pay_is_paid_by_its_stake(cluster: &mut Cluster, receipt: &Path) {
    let note = cluster.path("unpaid.json");
    cluster.run(&cluster.nodes[0], &["refund", text(receipt), "--amount", "1234", "--out", text(&note)]).await;
    cluster.stop_node(0).await;
    let (client, before) = (cluster.person("client"), deposit(cluster).await);
    let node = cluster.nodes[0].account;
    let stake = cluster.chain.stake_of(node).await.expect("the chain answers").0;
    assert_eq!(cluster.run(client, &["claim", "--credit", text(&note)]).await["state"], "claimed");
    assert_eq!(cluster.run(client, &["claim", "--credit", text(&note)]).await["state"], "waiting");
    let deadline = Instant::now() + WAIT;
    loop {
        let now = cluster.run(client, &["claim", "--credit", text(&note)]).await;
        if now["state"] == "settled" {
            assert_eq!(now["left_wei"], "0", "{now}");
            break;
        }
        assert!(Instant::now() < deadline && now["state"] == "waiting", "{now}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(deposit(cluster).await, before + 1_234);
    assert_eq!(cluster.chain.stake_of(node).await.expect("the chain answers").0, stake - 1_234);
    cluster.say("a claim that the node did not pay came out of its stake");
}
