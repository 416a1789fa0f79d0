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
    cluster.until_final(cluster.person("client")).await;
    cluster.say("one node serves the base, for a deposit that is final");

    caps_refuse_before_anything_is_sent(&cluster).await;
    let asked = a_key_is_paid_once(&cluster).await;
    a_client_killed_in_the_middle_goes_on_under_the_same_request(&cluster).await;
    let by_session = a_session_key_pays_up_to_its_cap(&cluster).await;
    a_killed_question_without_a_key_frees_what_it_had_not_promised(&cluster).await;
    named_files_are_not_written_over(&cluster, &asked).await;
    settle(&cluster).await;
    what_a_session_spent_is_shown_and_a_revoked_one_signs_nothing(&cluster, &by_session).await;
    let note = notes_that_cannot_be_claimed_are_refused_before_anything_is_sent(&cluster, &asked).await;
    a_claim_is_paid_by_the_node(&cluster, &asked, &note).await;
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
    refused(cluster, &["--max-fee", "0.041 OPEN"], &["cap per request is 0.04 OPEN", "per_request", "--max-fee"]).await;
    assert_eq!(receipts(cluster).await, 0);
    let answer = ask(cluster, &["--max-fee", "0.04 OPEN"]).await;
    let fee = wei(&answer["fee_wei"]);
    assert!(fee > 0 && fee < 5_000_000_000_000_000, "{answer}");
    // The receipt has lowered what the promise counted: the limit fits again, one that does not is refused with what was spent.
    client.configure(|config| config.spending.per_day = Some(types::amount::Amount(2 * fee)));
    let limit = (fee + 1).to_string();
    refused(
        cluster,
        &["--max-fee", &limit],
        &[&format!("{} is spent", types::amount::Amount(fee).in_open()), "cap per day", "per_day", "midnight UTC"],
    )
    .await;
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
    let failing = ["--idempotency-key", "dear", "--max-fee", "5"];
    for _ in 0..2 {
        let command = [&["ask", "--with", "tiny"], &failing[..], &[QUESTION]].concat();
        let outcome = cluster.outcome(cluster.person("client"), &command).await;
        let notice = &outcome.json["notice"];
        assert_eq!((&notice["charged_wei"], &notice["promised_wei"], &notice["is_answered"]), (&"0".into(), &"0".into(), &false.into()));
        assert_eq!((&notice["failed"][0]["cause"], &notice["failed"][0]["is_signed"]), (&"unpaid".into(), &false.into()), "{outcome}");
        assert!(outcome.refusal().contains("spending limit"));
    }
    let listed = cluster.run(cluster.person("client"), &["receipt", "failures"]).await;
    assert!(listed.as_array().is_some_and(|all| !all.is_empty() && all[0]["failed"][0]["words"].is_string()), "{listed}");
    assert_eq!(receipts(cluster).await, signed);
    cluster.say("a key is answered once and paid once");
    receipt(&first)
}

/// The client's output is a pipe with little room left, so it stops in the middle of the answer, its first voucher given.
async fn a_client_killed_in_the_middle_goes_on_under_the_same_request(cluster: &Cluster) {
    let client = cluster.person("client");
    let whole = ask(cluster, &[]).await;
    let before = receipts(cluster).await;
    let arguments = ["ask", "--with", "tiny", "--tokens", "96", "--idempotency-key", "killed", QUESTION];
    let mut killed = stopped_in_the_middle(cluster, &arguments).await;
    let record = wait_record(&client.folder).await;
    killed.child.kill().await.expect("the client is killed");
    let begun: Value = serde_json::from_slice(&std::fs::read(&record).expect("a record")).expect("JSON");
    let promised = begun["draft"]["tries"][0]["promised"].as_str().expect("a promise").to_owned();
    let kept = begun["draft"]["tokens"].as_array().expect("tokens").len();
    assert!(promised != "0" && kept > 0 && begun["answer"].is_null(), "{begun}");
    // At once: the node may still be at the answer that was left, and is waited for.
    let answer = cluster.run(client, &arguments).await;
    assert_eq!(answer["answer"], whole["answer"], "it goes on where it stood");
    assert_eq!(receipts(cluster).await, before + 2);
    let bundle: Value = serde_json::from_slice(&std::fs::read(receipt(&answer)).expect("a bundle")).expect("JSON");
    let billed = &bundle["receipt"]["document"];
    assert_eq!((&billed["first_token"], &billed["attempt"]), (&kept.into(), &1.into()), "no token is billed twice: {billed}");
    assert_eq!(bundle["request"], begun["draft"]["request"], "the same request goes on");
    // The node was asked what became of the attempt that the killed process was cut off from: its receipt is there, nothing is only promised.
    let recalled = &answer["recalled"][0];
    assert_eq!((&recalled["promised_wei"], &recalled["charged_wei"]), (&promised.clone().into(), &promised.clone().into()), "{answer}");
    assert_eq!(answer["notice"], Value::Null, "{answer}");
    let (attempts, node) = (&answer["attempts"], &cluster.nodes[0].account.to_string());
    let row = |place: usize| (attempts[place]["node"].as_str(), wei(&attempts[place]["charged_at_most_wei"]), &attempts[place]["receipt"]);
    assert_eq!(row(0), (Some(node.as_str()), wei(&promised.clone().into()), &recalled["word"]), "{attempts}");
    let first = cluster.run(client, &["receipt", "verify", attempts[0]["receipt"].as_str().expect("a receipt")]).await;
    assert_eq!(first["is_ok"], true, "{first}");
    assert_eq!(row(1), (Some(node.as_str()), wei(&answer["fee_wei"]), &answer["receipt"]), "{attempts}");
    assert_eq!((attempts[0]["tokens"].as_u64(), attempts.as_array().map(Vec::len)), (u64::try_from(kept).ok(), Some(2)), "{attempts}");
    assert_eq!(wei(&answer["at_most_wei"]), row(0).1 + row(1).1, "{answer}");
    let shown = cluster.tributary.plain(&client.folder, &arguments).output().await.expect("it runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for words in ["by its 2 receipts", "attempt 0 at", "attempt 1 at", "with a receipt"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let again = cluster.run(client, &arguments).await;
    for field in ["receipt", "attempts", "at_most_wei", "fee_wei"] {
        assert_eq!((&again["is_repeated"], &again[field]), (&true.into(), &answer[field]));
    }
    assert_eq!(receipts(cluster).await, before + 2);
    cluster.say("a client killed in the middle went on under the same request and paid no token twice");
}

/// A client that has stopped in the middle of its answer.
struct Stopped {
    child: tokio::process::Child,
    _reader: std::io::PipeReader,
}

/// Runs a question whose output is a pipe with little room left, until it goes no further: the node has its first voucher, for it sends no second token
/// without.
async fn stopped_in_the_middle(cluster: &Cluster, arguments: &[&str]) -> Stopped {
    const PIPE_BYTES: usize = 64 << 10;
    /// Of text: far from the 64 tokens of the second voucher.
    const ROOM: usize = 64;
    /// More than any one token has, and less than can be in the pipe when the next does not fit.
    const SEVERAL_TOKENS: usize = 32;
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&vec![b'\n'; PIPE_BYTES - ROOM]).expect("a pipe takes 64 KiB");
    let mut asking = cluster.tributary.plain(&cluster.person("client").folder, arguments);
    let child = asking.stdout(Stdio::from(writer)).stderr(Stdio::null()).spawn().expect("the client starts");
    let deadline = Instant::now() + WAIT;
    while usize::try_from(rustix::io::ioctl_fionread(&reader).expect("a pipe")).expect("64 KiB") < PIPE_BYTES - ROOM + SEVERAL_TOKENS {
        assert!(Instant::now() < deadline, "no tokens came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Stopped { child, _reader: reader }
}

/// Of a limit of 0.02 OPEN only what was promised stays counted: a question that may cost 0.025 fits the session's 0.03.
async fn a_killed_question_without_a_key_frees_what_it_had_not_promised(cluster: &Cluster) {
    let client = cluster.person("client");
    let before = receipts(cluster).await;
    let arguments = ["ask", "--with", "tiny", "--tokens", "96", "--session", "phone", "--max-fee", "0.02 OPEN", QUESTION];
    let mut killed = stopped_in_the_middle(cluster, &arguments).await;
    let deadline = Instant::now() + WAIT;
    while !has_noted(&client.folder) {
        assert!(Instant::now() < deadline, "nothing was promised");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refused(cluster, &["--session", "phone", "--max-fee", "0.025 OPEN"], &["has spent or promised"]).await;
    killed.child.kill().await.expect("the client is killed");
    let answer = ask(cluster, &["--session", "phone", "--max-fee", "0.025 OPEN"]).await;
    assert!(wei(&answer["fee_wei"]) > 0);
    let deadline = Instant::now() + WAIT;
    while receipts(cluster).await < before + 2 {
        assert!(Instant::now() < deadline, "the node did not receipt what was promised");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    // Whoever asks next has the books say what the receipt charges.
    let recalled = match answer["recalled"].clone() {
        Value::Array(all) if !all[0]["charged_wei"].is_null() => all,
        // The node was still at it.
        _ => ask(cluster, &["--session", "phone", "--max-fee", "0.01 OPEN"]).await["recalled"].as_array().cloned().unwrap_or_default(),
    };
    assert_eq!(recalled.len(), 1, "{recalled:?}");
    assert!(wei(&recalled[0]["charged_wei"]) > 0 && recalled[0]["charged_wei"] == recalled[0]["promised_wei"], "{recalled:?}");
    cluster.say("a killed question without a key counts what it had promised, and from the next one on what its receipt charges");
}

/// Whether a process has noted a promise.
fn has_noted(folder: &Path) -> bool {
    let deployments = std::fs::read_dir(folder.join("purse/asking")).into_iter().flatten().flatten();
    let files = deployments.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|extension| extension == "json"))
}

/// Nothing is asked, paid or signed for a file that could not be written.
async fn named_files_are_not_written_over(cluster: &Cluster, asked: &Path) {
    let (client, file, before) = (cluster.person("client"), cluster.path("mine.txt"), receipts(cluster).await);
    std::fs::write(&file, "mine").expect("a file");
    let tries: [(&harness::Party, Vec<&str>); 3] = [
        (client, vec!["ask", "--with", "tiny", "--receipt", text(&file), QUESTION]),
        (client, vec!["receipt", "show", text(asked), "--html", text(&file)]),
        (&cluster.nodes[0], vec!["refund", text(asked), "--out", text(&file)]),
    ];
    for (party, arguments) in &tries {
        let error = cluster.refused(party, arguments).await;
        assert!(error.contains("is there already") && error.contains("--force"), "{error}");
    }
    assert_eq!((std::fs::read_to_string(&file).expect("a file"), receipts(cluster).await), ("mine".to_owned(), before));
    cluster.run(client, &["receipt", "show", text(asked), "--html", text(&file), "--force"]).await;
    assert!(std::fs::read_to_string(&file).expect("a file").contains("<html"));
    cluster.say("named files are not written over unless it is said");
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
    refused(
        cluster,
        &["--session", "phone", "--max-fee", "0.03 OPEN"],
        &[&format!("has spent or promised {}", types::amount::Amount(fee).in_open()), "session add"],
    )
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
    // Three answers, one of them of a client that was killed: all that was promised was collected.
    assert_eq!(row["promised_wei"], row["spent_wei"], "{listed}");
    assert!(wei(&row["spent_wei"]) > wei(&bundle["receipt"]["document"]["fee"]), "{listed}");
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
    let expired = cluster.path("expired.json");
    refund(&expired, &["--amount", "70000", "--blocks", "0"]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The first one can no longer be claimed: it makes room.
    refund(&good, &["--amount", "70000"]).await;
    let note: Value = serde_json::from_slice(&std::fs::read(&good).expect("a note")).expect("JSON");
    let second = cluster.refused(node, &["refund", text(asked), "--amount", "80000", "--out", text(&cluster.path("more.json"))]).await;
    assert!(second.contains("a note over 0.00000000000007 OPEN on this answer was signed before"), "{second}");
    let again = cluster.run(node, &["refund", text(asked), "--out", text(&good), "--force"]).await;
    assert_eq!((&again["is_repeated"], &again["amount_wei"]), (&true.into(), &"70000".into()), "{again}");
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&good).expect("a note")).expect("JSON"), note, "the first one");
    // A node that has lost its notes signs another one, which its client will not take for the first.
    std::fs::remove_dir_all(node.folder.join("credits")).expect("the node's notes");
    refund(&cluster.path("second.json"), &["--amount", "60000"]).await;
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

/// Sets what an account has, as only a test's chain can.
async fn has(cluster: &Cluster, account: types::id::Address, wei: u128) {
    let set = serde_json::json!([account.to_string(), format!("{wei:#x}")]);
    let _done: Value = cluster.chain.rpc().request("anvil_setBalance", set).await.expect("anvil sets a balance");
}

async fn a_claim_is_paid_by_the_node(cluster: &Cluster, asked: &Path, note: &Path) {
    let (client, before) = (cluster.person("client"), deposit(cluster).await);
    let node = &cluster.nodes[0];
    // The node has nothing to pay with at first.
    let balance = cluster.chain.balance(node.account).await.expect("the chain answers");
    has(cluster, node.account, 0).await;
    let claimed = cluster.run(client, &["claim", "--credit", text(note)]).await;
    assert_eq!((&claimed["state"], &claimed["amount_wei"]), (&"claimed".into(), &"70000".into()), "{claimed}");
    let error = cluster.refused(client, &["claim", "--credit", text(&cluster.path("second.json"))]).await;
    assert!(error.contains("another note on this answer, over 0.00000000000007 OPEN, was claimed before"), "{error}");
    let deadline = Instant::now() + WAIT;
    while !node.log_text().contains("a credit note was not paid") {
        assert!(Instant::now() < deadline, "the node did not try to pay");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    has(cluster, node.account, balance.0).await;
    loop {
        let now = cluster.run(client, &["claim", "--credit", text(note)]).await;
        if now["state"] == "paid" {
            break;
        }
        assert!(Instant::now() < deadline && now["state"] != "settled", "the running node pays by itself: {now}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(deposit(cluster).await, before + 70_000);
    // Paid and gone from the node's folder: the chain knows that there was one.
    std::fs::remove_dir_all(node.folder.join("credits")).expect("the node's notes");
    let error = cluster.refused(node, &["refund", text(asked), "--out", text(&cluster.path("third.json"))]).await;
    assert!(error.contains("a note on this answer was claimed already"), "{error}");
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
