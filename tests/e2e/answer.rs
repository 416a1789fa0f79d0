//! One answer from end to end on five nodes: attributed, receipted, checked, paid, and punished when false.
//!
//! The tiny model's words mean nothing, and that is enough: what it says without a Datanet is contributed as documents by two people, so the same
//! answer under an adapter of zeros draws on both, word for word, and each is paid. All steps share one cluster, whose start is most of the cost.

mod forged;
mod indexes;
mod leaves;
pub(crate) mod money;
mod recovered;
mod refusals;
mod replay;
mod tamper;
mod watched;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use futures::future::join_all;
use harness::{Cluster, Setup, Tributary, cluster::text, files};
use serde_json::Value;
use types::id::Address;

/// What is asked; the tiny model answers both with more than six different words.
const QUESTIONS: [&str; 2] = ["What is gout?", "Who are you?"];
/// Documents of each contribution beside the one that holds an answer.
const DOCUMENTS: usize = 20;

/// The versions that the steps refer to.
#[derive(Debug)]
struct Assets {
    base: String,
    datanet: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_attributed_checked_and_paid_and_a_false_one_is_punished() {
    let _alone = harness::alone().await;
    let people = vec!["author", "client", "vanishing", "auditor"];
    let setup = Setup { nodes: 5, model: Some(files::tiny_model()), people };
    let cluster = Cluster::start_on(harness::chain::devnet_unbonding(watched::SHOWN_S), setup, |_| {}).await;
    let base = publish_base(&cluster).await;
    let plain = join_all(QUESTIONS.map(|question| ask(&cluster, "tiny", question))).await;
    assert!(plain.iter().all(|answer| answer["sources"] == Value::Array(vec![])), "a base without Datanets has no sources: {plain:?}");
    cluster.say("the base answered, with nobody to pay for its words");

    let (datanet, ()) = tokio::join!(contribute(&cluster, &plain), a_client_that_vanishes_is_not_charged(&cluster, &plain));
    let assets = Assets { base, datanet };
    publish_adapters(&cluster, &assets).await;
    let (attributed, from_trained) =
        tokio::join!(join_all(QUESTIONS.map(|question| ask(&cluster, "echo", question))), ask(&cluster, "trained", QUESTIONS[0]));
    words_are_paid_to_those_who_brought_them(&cluster, &plain, &attributed);
    assert_ne!(from_trained["answer"], plain[0]["answer"], "training changes what the model says");
    cluster.say("two adapters answered at once; each contributor is named with their words");

    recovered::a_lost_receipt_is_had_back_by_its_client_alone(&cluster, &receipt(&attributed[0])).await;
    let open = watched::an_open_answer(&cluster).await;
    let receipts: Vec<PathBuf> = plain.iter().chain(&attributed).chain([&from_trained, &open]).map(receipt).collect();
    refusals::nothing_is_charged(&cluster, &assets).await;
    let own = money::a_later_answer_of_the_client_that_vanished(&cluster).await;
    let receipts: Vec<PathBuf> = receipts.into_iter().chain([own]).collect();
    tokio::join!(
        money::every_wei_is_paid_out(&cluster, &receipts),
        another_node_executes_it_again(&cluster, &receipts[2]),
        honest_receipts_are_not_accused(&cluster, &receipts)
    );
    let export = replay::every_payout_follows_from_a_copied_folder(&cluster).await;
    watched::a_contributor_finds_what_published_answers_keep_from_it(&cluster, &receipts).await;
    let forged = a_forged_span_costs_stake(&cluster, &receipts[2]).await;
    leaves::who_was_shown_an_answers_leaves_proves_what_its_bundle_hides(&cluster, &receipts[3]).await;
    let texts = keep_texts(&cluster, &receipts[2]).await;
    indexes::are_built_verified_and_mended(&cluster, cluster.person("client")).await;
    let keys = tamper::keys(&cluster);
    let client = cluster.person("client").folder.clone();
    let _folder = cluster.stop().await;

    // From here on no process runs: the binary, the bundle and (for --full) the texts are all there is.
    let offline = Tributary::find();
    for receipt in &receipts {
        let verified = offline.run(&client, &["receipt", "verify", text(receipt)]).await;
        assert_eq!((&verified["is_ok"], &verified["is_full"]), (&true.into(), &false.into()), "{verified}");
    }
    let model = files::tiny_model();
    let read = offline.run(&client, &["receipt", "verify", text(&receipts[2]), "--model", text(&model)]).await;
    assert!(
        read["checks"].as_array().is_some_and(|all| all.iter().any(|check| check["check"] == "reading" && check["is_ok"] == true)),
        "{read}"
    );
    let full = offline.run(&client, &["receipt", "verify", text(&receipts[2]), "--full", "--texts", text(&texts)]).await;
    assert_eq!((&full["is_ok"], &full["is_full"]), (&true.into(), &true.into()), "{full}");
    assert!(offline.refused(&client, &["receipt", "verify", text(&forged)]).await.contains("span 0"));
    replay::epochs_are_shown_by_their_range_and_paid_as_a_new_search_has_it(&offline, &client, &export, &texts).await;
    replay::any_changed_byte_is_found(&offline, &client, &export).await;
    tamper::every_changed_field_is_named(&offline, &client, &receipts[2], &keys, &texts).await;
}

/// The bundle that an answer was kept in.
fn receipt(answer: &Value) -> PathBuf {
    PathBuf::from(answer["receipt"].as_str().unwrap_or_else(|| panic!("no receipt was kept: {answer}")))
}

async fn ask(cluster: &Cluster, with: &str, question: &str) -> Value {
    cluster.run(cluster.person("client"), &["ask", "--with", with, "--tokens", "96", question]).await
}

/// ASSET@VERSION that a publication printed.
fn version(printed: &Value) -> String {
    printed["version"].as_str().unwrap_or_else(|| panic!("no version was printed: {printed}")).to_owned()
}

async fn publish_base(cluster: &Cluster) -> String {
    let model = files::tiny_model();
    let publish = ["model", "publish", text(&model), "--name", "tiny"];
    let deposits = join_all(["client", "vanishing"].map(|name| cluster.run(cluster.person(name), &["wallet", "deposit", "5 OPEN"])));
    let (published, _) = tokio::join!(cluster.run(cluster.person("author"), &publish), deposits);
    serve(cluster, 1).await;
    join_all(["client", "vanishing"].map(|name| cluster.until_final(cluster.person(name)))).await;
    version(&published)
}

/// Waits until every node serves that many versions.
async fn serve(cluster: &Cluster, versions: usize) {
    cluster
        .all_nodes(60, &format!("serving {versions} versions"), |status| {
            status["manifests"].as_array().is_some_and(|all| all.len() >= versions)
        })
        .await;
}

/// A Datanet of node 0 with two contributors, nodes 2 and 3; each brings one of the answers among other documents.
async fn contribute(cluster: &Cluster, answers: &[Value]) -> String {
    cluster.run(&cluster.nodes[0], &["datanet", "create", "surveys", "--licence", "CC-BY-4.0", "--language", "en"]).await;
    let bring = |node: usize, subject: &'static str, answer: &Value| {
        let mut documents = files::documents(subject, DOCUMENTS);
        documents.push(serde_json::json!({ "id": format!("{subject}-said"), "text": answer["answer"] }));
        let file = files::jsonl(&cluster.path(&format!("{subject}.jsonl")), &documents);
        async move { cluster.run(&cluster.nodes[node], &["datanet", "contribute", "surveys", text(&file)]).await }
    };
    let brought = tokio::join!(bring(2, "river", &answers[0]), bring(3, "harbour", &answers[1]));
    for printed in [&brought.0, &brought.1] {
        assert_eq!(printed["documents"], DOCUMENTS + 1, "{printed}");
        assert_eq!(printed["holders"].as_array().map(Vec::len), Some(5), "one fragment on each node: {printed}");
    }
    let published = cluster.run(&cluster.nodes[0], &["datanet", "publish", "surveys"]).await;
    assert_eq!((&published["contributions"], &published["documents"]), (&2.into(), &(2 * (DOCUMENTS + 1)).into()));
    cluster.say("a Datanet of two contributors is published");
    version(&published)
}

/// An adapter of zeros and a trained one on the Datanet, brought to every node.
async fn publish_adapters(cluster: &Cluster, assets: &Assets) {
    let author = cluster.person("author");
    let (zeros, trained) = (files::adapter_of_zeros(&cluster.path("zeros")), cluster.path("trained"));
    cluster.run(author, &["datanet", "fetch", "surveys"]).await;
    let lists = ["train", "held-out"].map(|name| cluster.path(&format!("{name}.txt")));
    std::fs::write(&lists[0], "river-0\nriver-1\nharbour-2\n").expect("a list is written");
    std::fs::write(&lists[1], "harbour-7\n").expect("a list is written");
    let model = files::tiny_model();
    let [documents, held_out] = [text(&lists[0]), text(&lists[1])];
    let settings = ["--passes", "2", "--rank", "4", "--layers", "2"];
    let arguments = [
        "train",
        "--datanet",
        &assets.datanet,
        "--base",
        text(&model),
        "--out",
        text(&trained),
        "--documents",
        documents,
        "--held-out",
        held_out,
    ];
    let report = cluster.run(author, &[&arguments[..], &settings].concat()).await;
    assert_eq!((&report["documents"], &report["held_out_documents"]), (&3.into(), &1.into()), "{report}");
    let loss = ["before", "after"].map(|when| report["held_out"][when].as_f64().unwrap_or_else(|| panic!("no loss {when}: {report}")));
    assert!(loss[0] > 0.0 && loss[0] != loss[1], "two passes change the loss on what was held out: {report}");
    for (folder, name) in [(&zeros, "echo"), (&trained, "trained")] {
        cluster
            .run(author, &["adapter", "publish", text(folder), "--name", name, "--base", &assets.base, "--datanet", &assets.datanet])
            .await;
        cluster.run_on_all(&["adapter", "import", text(folder)]).await;
    }
    serve(cluster, 3).await;
    cluster.say("an adapter was trained; every node serves the base and two adapters");
}

fn words_are_paid_to_those_who_brought_them(cluster: &Cluster, plain: &[Value], attributed: &[Value]) {
    for ((plain, answer), node) in plain.iter().zip(attributed).zip([2, 3]) {
        assert_eq!(plain["answer"], answer["answer"], "an adapter of zeros changes nothing");
        let sources = answer["sources"].as_array().expect("a list of sources");
        assert!(!sources.is_empty(), "words that stand in a Datanet were not found: {answer}");
        let contributor = cluster.nodes[node].account.to_string();
        for source in sources {
            let quote = source["quote"].as_str().expect("the words");
            assert!(answer["answer"].as_str().is_some_and(|text| text.contains(quote)) && types::text::words(quote).len() >= 6, "{source}");
            assert_eq!(source["contributor"], contributor, "{source}");
            assert_ne!(source["amount_wei"], "0", "{source}");
        }
    }
}

/// The client's output is a pipe that is full, so it stops for ever at the first token, before it signs a voucher.
async fn a_client_that_vanishes_is_not_charged(cluster: &Cluster, plain: &[Value]) {
    const NOTED: &str = "no voucher came: nothing is charged";
    const PIPE_BYTES: usize = 64 << 10;
    let client = cluster.person("vanishing");
    let before = cluster.run(client, &["wallet", "show"]).await;
    // A token that shows nothing, such as half a letter, would not stop it.
    let is_shown = |answer: &Value| answer["answer"].as_str().is_some_and(|text| text.starts_with(|first: char| first.is_ascii_graphic()));
    let question = QUESTIONS.iter().zip(plain).find(|(_, answer)| is_shown(answer)).map(|(question, _)| *question);
    let question = question.unwrap_or_else(|| panic!("no answer begins with a letter: {plain:?}"));
    let (_reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'\n'; PIPE_BYTES]).expect("a pipe takes 64 KiB");
    let mut asking = cluster.tributary.plain(&client.folder, &["ask", "--with", "tiny", question]);
    let mut child = asking.stdout(Stdio::from(writer)).stderr(Stdio::null()).spawn().expect("the client starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !cluster.nodes.iter().any(|node| node.log_text().contains(NOTED)) {
        assert!(Instant::now() < deadline, "no node noted an answer without a voucher");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    child.kill().await.expect("the client is killed");
    let after = cluster.run(client, &["wallet", "show"]).await;
    assert_eq!(before["escrow"], after["escrow"], "the deposit is untouched");
    cluster.say("a client that vanished before its first voucher is charged nothing");
}

/// A node that did not answer runs the model again: it agrees, and with a token changed it names that token.
async fn another_node_executes_it_again(cluster: &Cluster, receipt: &Path) {
    let bundle = tamper::read(receipt);
    let answered: Address = bundle["receipt"]["document"]["node"].as_str().and_then(|text| text.parse().ok()).expect("a node's account");
    let others: Vec<_> = cluster.nodes.iter().filter(|node| node.account != answered).take(2).collect();
    let (asker, other) = (others[0], others[1].node.to_string());
    // Whoever has nothing at stake would have the work done for nothing.
    let refused = cluster.refused(cluster.person("auditor"), &["audit", "check", text(receipt), "--node", &other]).await;
    assert!(refused.contains("stake on the chain"), "{refused}");
    let honest = cluster.run(asker, &["audit", "check", text(receipt), "--node", &other]).await;
    assert_eq!(honest["finding"], "agrees", "{honest}");
    let position = bundle["token_ids"].as_array().expect("token ids").len() / 2;
    let mut changed = bundle;
    let token = changed["token_ids"][position].as_u64().expect("a token");
    changed["token_ids"][position] = if token == 40 { 41 } else { 40 }.into();
    let path = tamper::write(&cluster.path("changed-token.json"), &changed);
    let caught = cluster.run(asker, &["audit", "check", text(&path), "--node", &other]).await;
    assert_eq!((&caught["finding"], &caught["position"]), (&"token".into(), &position.into()), "{caught}");
    cluster.say("another node executed an answer again and found a changed token");
}

async fn honest_receipts_are_not_accused(cluster: &Cluster, receipts: &[PathBuf]) {
    for receipt in receipts {
        let found = cluster.run(cluster.person("auditor"), &["audit", "prove", text(receipt)]).await;
        assert_eq!((&found["faults"], &found["transaction"]), (&Value::Array(vec![]), &Value::Null), "{found}");
    }
    cluster.say("an audit finds nothing in honest receipts");
}

/// A span moved to where the Datanet says something else, signed with the node's own key; proven by somebody who holds only the bundle.
async fn a_forged_span_costs_stake(cluster: &Cluster, receipt: &Path) -> PathBuf {
    let bundle = tamper::read(receipt);
    let forged = tamper::signed_anew(&bundle, &tamper::keys(cluster), |receipt| {
        receipt.spans[0].position = receipt.spans[0].position.saturating_sub(640) + 64
    });
    let path = tamper::write(&cluster.path("forged.json"), &forged);
    let node: Address = forged["receipt"]["document"]["node"].as_str().and_then(|text| text.parse().ok()).expect("a node's account");
    let before = cluster.chain.stake_of(node).await.expect("the chain answers");
    each_form_of_a_false_span_is_provable(cluster, &bundle).await;
    let dry = cluster.run(cluster.person("auditor"), &["audit", "prove", text(&path), "--dry-run"]).await;
    assert_eq!((&dry["is_provable"], &dry["transaction"]), (&true.into(), &Value::Null), "{dry}");
    let proven = cluster.run(cluster.person("auditor"), &["audit", "prove", text(&path)]).await;
    let after = cluster.chain.stake_of(node).await.expect("the chain answers");
    assert!(after < before, "the stake of {node} is still {after}: {proven}");
    assert_eq!(
        (&proven["slash"]["stake_before_wei"], &proven["slash"]["stake_after_wei"]),
        (&before.to_string().into(), &after.to_string().into())
    );
    cluster.say("a forged span was proven on the chain and cost stake");
    path
}

/// The chain's own contract would take a proof of every way in which a span can be false.
async fn each_form_of_a_false_span_is_provable(cluster: &Cluster, bundle: &Value) {
    let path = cluster.path("false.json");
    for (mode, change) in tamper::FALSE_SPANS {
        tamper::write(&path, &tamper::signed_anew(bundle, &tamper::keys(cluster), change));
        let dry = cluster.run(cluster.person("auditor"), &["audit", "prove", text(&path), "--dry-run"]).await;
        assert_eq!((&dry["is_provable"], &dry["faults"][0]["mode"]), (&true.into(), &mode.into()), "{dry}");
    }
    for (fault, mode, change) in tamper::MISDIRECTED {
        tamper::write(&path, &tamper::signed_anew(bundle, &tamper::keys(cluster), change));
        let dry = cluster.run(cluster.person("auditor"), &["audit", "prove", text(&path), "--dry-run"]).await;
        let (found, shown) = (&dry["faults"][0]["fault"], &dry["faults"][0]["mode"]);
        assert_eq!((&dry["is_provable"], found, shown), (&true.into(), &fault.into(), &mode.into()), "{dry}");
    }
    cluster.say("the chain would take a proof of every kind of false, omitted and misdirected span, of false weights and masks");
}

/// What `receipt verify --full` needs without a chain.
async fn keep_texts(cluster: &Cluster, receipt: &Path) -> PathBuf {
    let client = cluster.person("client");
    cluster.run(client, &["datanet", "fetch", "surveys"]).await;
    let folder = cluster.path("texts");
    let kept = cluster.run(client, &["receipt", "texts", text(receipt), "--out", text(&folder)]).await;
    assert_eq!(kept["contributions"], 2, "{kept}");
    folder
}
