//! The life of a Datanet: its policy handles copies and personal data as its card says, reviewers decide, members alone read a private one.

mod gate;
mod private;
mod sources;
mod wire;

use std::os::unix::fs::PermissionsExt as _;

use harness::{Cluster, Party, Setup, cluster::text, files};
use serde_json::{Value, json};

/// A text of words that no other has: one word changed leaves a near copy.
pub(super) fn survey(subject: &str, number: usize) -> Value {
    let words: Vec<String> = (0..80).map(|word| format!("{subject}{number}w{word}")).collect();
    json!({ "id": format!("{subject}-{number}"), "title": format!("{subject} {number}"), "text": words.join(" ") })
}

/// The same with another word in its middle: 71 of 81 shingles are shared.
fn near_copy(of: &Value) -> Value {
    let changed = of["text"].as_str().expect("a text").split(' ').enumerate();
    let words: Vec<&str> = changed.map(|(at, word)| if at == 40 { "another" } else { word }).collect();
    json!({ "id": "copy", "title": "A copy", "text": words.join(" ") })
}

fn with_phone() -> Value {
    json!({ "id": "phone", "title": "A guide", "text": "Ask the guide of the northern lighthouse before high water; call +49 30 901820 in the morning." })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_contributors_copies_and_personal_data_are_handled_as_the_card_says() {
    let _alone = harness::alone().await;
    let cluster = Cluster::start_tapped(Setup { nodes: 5, ..Setup::default() }).await;
    let owner = &cluster.nodes[0];
    let made: [(&str, &[&str]); 4] = [
        ("notes", &["--near-copies", "quarantine", "--personal-data", "redact", "--tag", "sea", "--description", "Surveys of the coast."]),
        ("strict", &["--near-copies", "block", "--personal-data", "block", "--rows-max", "3"]),
        ("drawn", &["--sample", "100"]),
        ("few", &["--contributors", "listed"]),
    ];
    for (name, options) in made {
        cluster.run(owner, &[&["datanet", "create", name, "--licence", "CC0-1.0"], options].concat()).await;
    }
    let reviewer = cluster.nodes[4].account.to_string();
    for name in ["notes", "drawn"] {
        cluster.run(owner, &["datanet", "reviewer", "add", name, &reviewer]).await;
    }
    cluster.say("four Datanets are there, two with a second reviewer");
    quarantined_then_approved(&cluster).await;
    redacted(&cluster).await;
    rejected(&cluster).await;
    blocked(&cluster).await;
    drawn(&cluster).await;
    listed(&cluster).await;
    shown_searched_and_verified(&cluster).await;
    private::only_members_read(&cluster).await;
    wire::shows_private_texts_to_their_gate_alone(&cluster).await;
    sources::three_fill_a_datanet_from_four(&cluster).await;
    gate::keeps_limits_and_slots(&cluster).await;
    rows_enter_no_strangers_datanet_by_its_name(&cluster).await;
    bad_input(&cluster).await;
    cluster.stop().await;
}

fn file(cluster: &Cluster, name: &str, documents: &[Value]) -> String {
    text(&files::jsonl(&cluster.path(name), documents)).to_owned()
}

/// The first bytes of the commitment of the one that waits.
async fn waiting(cluster: &Cluster, reviewer: &Party, datanet: &str) -> String {
    let queue = cluster.run(reviewer, &["datanet", "review", datanet]).await;
    let waits: Vec<&Value> = queue.as_array().expect("a list").iter().filter(|case| case["state"] == "waits").collect();
    assert_eq!(waits.len(), 1, "{queue:#}");
    waits[0]["commitment"].as_str().expect("a commitment").chars().take(14).collect()
}

/// Ben's near copies of Anna's rows wait until two reviewers let them in; the same command then goes on.
async fn quarantined_then_approved(cluster: &Cluster) {
    let [owner, anna, ben, _, reviewer] = &cluster.nodes[..] else { panic!("five nodes") };
    let rows: Vec<Value> = (0..20).map(|number| survey("tide", number)).collect();
    let first = cluster.run(anna, &["datanet", "contribute", "notes", &file(cluster, "anna.jsonl", &rows)]).await;
    assert_eq!((&first["documents"], &first["approved_by"]), (&20.into(), &json!([])), "{first}");
    let copies = [survey("wind", 1), near_copy(&rows[7]), near_copy(&rows[3])];
    let contribute = ["datanet", "contribute", "notes", &file(cluster, "ben.jsonl", &copies)];
    let held = cluster.run(ben, &contribute).await;
    assert_eq!((&held["waits"], held["findings"].as_array().map(Vec::len)), (&true.into(), Some(2)), "{held}");
    let finding = &held["findings"][0];
    assert_eq!((&finding["row"], &finding["rule"], &finding["action"]), (&2.into(), &"near-copy".into(), &"quarantine".into()));
    assert!(
        finding["detail"].as_str().is_some_and(|detail| detail.contains("87.6 %") && detail.contains(&anna.account.to_string())),
        "{finding}"
    );

    let commitment = waiting(cluster, reviewer, "notes").await;
    let shown = cluster.run(reviewer, &["datanet", "review", "notes", &commitment]).await;
    let rows: Vec<&Value> = shown["rows"].as_array().expect("rows").iter().map(|row| &row["row"]).collect();
    assert_eq!(rows, [2, 3], "only the rows with findings: {shown}");
    let error = cluster.refused(ben, &["datanet", "approve", "notes", &commitment]).await;
    assert!(error.contains("does not review"), "{error}");
    let once = cluster.run(reviewer, &["datanet", "approve", "notes", &commitment]).await;
    assert_eq!(once["state"], "waits");
    let again = cluster.run(ben, &contribute).await;
    assert_eq!(
        (&again["waits"], again["approved_by"].as_array().map(Vec::len)),
        (&true.into(), Some(1)),
        "one approval is not enough: {again}"
    );
    assert_eq!(cluster.run(owner, &["datanet", "approve", "notes", &commitment]).await["state"], "approved");
    let done = cluster.run(ben, &contribute).await;
    assert_eq!((&done["documents"], done["approved_by"].as_array().map(Vec::len)), (&3.into(), Some(2)), "{done}");
    cluster.say("near copies waited, two reviewers let them in, the same command went on");
}

/// A row with a phone number, whose id is an address: previewed, then redacted; neither is anywhere in what is fetched.
async fn redacted(cluster: &Cluster) {
    let (cara, reader) = (&cluster.nodes[3], &cluster.nodes[2]);
    let mut row = with_phone();
    row["id"] = "carol@example.com".into();
    let path = file(cluster, "cara.jsonl", &[survey("fog", 1), row]);
    let error = cluster.refused(cara, &["datanet", "contribute", "notes", &path]).await;
    for words in ["row 2: personal-data", "it would read", "in the id: e-mail address", "it would read: row-2", "--redact brings"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(!error.contains("901820") && !error.contains("carol@"), "neither is repeated: {error}");
    let done = cluster.run(cara, &["datanet", "contribute", "notes", &path, "--redact"]).await;
    assert_eq!((&done["documents"], &done["redacted"][0]["row"]), (&2.into(), &2.into()), "{done}");
    let out = cluster.path("notes-out");
    cluster.run(reader, &["datanet", "fetch", "notes", "--out", text(&out)]).await;
    let all: String =
        (0..3).map(|number| std::fs::read_to_string(out.join(format!("contribution-{number}.jsonl"))).expect("a file")).collect();
    assert!(all.contains("Ask the guide of the northern lighthouse") && !all.contains("901820"), "{all}");
    assert!(all.contains("\"row-2\"") && !all.contains("carol"), "{all}");
    cluster.say("a phone number was redacted after a preview");
}

/// One reviewer's rejection ends it, and the contributor reads why; the row is known when it is brought among others.
async fn rejected(cluster: &Cluster) {
    let (ben, reviewer) = (&cluster.nodes[2], &cluster.nodes[4]);
    let contribute = ["datanet", "contribute", "notes", &file(cluster, "again.jsonl", &[near_copy(&survey("tide", 11))])];
    assert_eq!(cluster.run(ben, &contribute).await["waits"], true);
    let commitment = waiting(cluster, reviewer, "notes").await;
    let error = cluster.refused(reviewer, &["datanet", "reject", "notes", &commitment]).await;
    assert!(error.contains("--reason"), "{error}");
    let rejected = cluster.run(reviewer, &["datanet", "reject", "notes", &commitment, "--reason", "a copy of survey 11"]).await;
    assert_eq!(rejected["state"], "rejected");
    let error = cluster.refused(ben, &contribute).await;
    assert!(error.contains("a copy of survey 11") && error.contains(&reviewer.account.to_string()), "{error}");
    // Another account brings the row among others.
    let others = file(cluster, "others.jsonl", &[survey("hail", 1), near_copy(&survey("tide", 11))]);
    let held = cluster.run(&cluster.nodes[1], &["datanet", "contribute", "notes", &others]).await;
    let findings: Vec<(&Value, &Value)> =
        held["findings"].as_array().expect("findings").iter().map(|finding| (&finding["row"], &finding["rule"])).collect();
    assert_eq!(findings, [(&json!(2), &json!("near-copy")), (&json!(2), &json!("rejected"))], "{held}");
    cluster.say("a rejection ended a contribution with its reason");
}

/// A Datanet that blocks: refused with every row and reason, and what is left enters; limits per contributor hold.
async fn blocked(cluster: &Cluster) {
    let cara = &cluster.nodes[3];
    let path = file(cluster, "strict.jsonl", &[survey("rain", 1), with_phone(), survey("rain", 2)]);
    let error = cluster.refused(cara, &["datanet", "contribute", "strict", &path]).await;
    assert!(error.contains("nothing was sent") && error.contains("row 2: personal-data"), "{error}");
    let done = cluster.run(cara, &["datanet", "contribute", "strict", &path, "--drop-refused"]).await;
    assert_eq!((&done["documents"], &done["dropped"][0]["row"]), (&2.into(), &2.into()), "{done}");
    let fates = cluster.run(cara, &["datanet", "rows", "strict"]).await;
    assert_eq!(fates["counts"], json!({ "accepted": 2, "left-out": 1 }), "{fates:#}");
    assert_eq!((&fates["rows"][2]["row"], &fates["rows"][2]["rules"]), (&json!(2), &json!(["personal-data"])), "{fates:#}");
    let more = file(cluster, "more.jsonl", &[survey("rain", 3), survey("rain", 4)]);
    let error = cluster.refused(cara, &["datanet", "contribute", "strict", &more]).await;
    assert!(error.contains("contributor-limit") && error.contains("bring at most 1 rows"), "{error}");
    let copy = file(cluster, "copy.jsonl", &[near_copy(&survey("rain", 1))]);
    let error = cluster.refused(&cluster.nodes[1], &["datanet", "contribute", "strict", &copy]).await;
    assert!(error.contains("near-copy"), "{error}");
    cluster.say("what a strict Datanet blocks did not enter");
}

/// With a share of 100 percent a contribution that passes is looked at all the same.
async fn drawn(cluster: &Cluster) {
    let [owner, anna, .., reviewer] = &cluster.nodes[..] else { panic!("five nodes") };
    let contribute = ["datanet", "contribute", "drawn", &file(cluster, "drawn.jsonl", &[survey("snow", 1)])];
    let held = cluster.run(anna, &contribute).await;
    assert_eq!((&held["waits"], &held["findings"][0]["rule"]), (&true.into(), &"sampled".into()), "{held}");
    let commitment = waiting(cluster, owner, "drawn").await;
    for party in [owner, reviewer] {
        cluster.run(party, &["datanet", "approve", "drawn", &commitment]).await;
    }
    assert_eq!(cluster.run(anna, &contribute).await["approved_by"].as_array().map(Vec::len), Some(2));
    cluster.say("a drawn contribution was looked at by two");
}

/// Nobody contributes to a Datanet of listed contributors before it is listed, and nothing is paid for being told so.
async fn listed(cluster: &Cluster) {
    let [owner, _, ben, ..] = &cluster.nodes[..] else { panic!("five nodes") };
    let (path, account) = (file(cluster, "few.jsonl", &[survey("hail", 1)]), ben.account.to_string());
    let error = cluster.refused(ben, &["datanet", "contribute", "few", &path]).await;
    assert!(error.contains("listed contributors only") && error.contains(&account), "{error}");
    cluster.run(owner, &["datanet", "members", "few", "--add", &account]).await;
    assert_eq!(cluster.run(ben, &["datanet", "contribute", "few", &path]).await["documents"], 1);
    let members = cluster.run(&cluster.nodes[3], &["datanet", "members", "few"]).await;
    let rows = members["members"].as_array().expect("rows");
    assert!(rows.iter().any(|row| row["member"] == account.as_str() && row["what"] == "1 contributions, listed"), "{members}");
    cluster.say("a listed contributor contributed");
}

async fn shown_searched_and_verified(cluster: &Cluster) {
    let [owner, anna, ben, ..] = &cluster.nodes[..] else { panic!("five nodes") };
    cluster.run(owner, &["datanet", "publish", "notes"]).await;
    let shown = cluster.run(ben, &["datanet", "show", "notes"]).await;
    assert_eq!(
        (&shown["card"]["policy"]["personal_data"], &shown["card"]["policy"]["near_copies"]),
        (&"redact".into(), &"quarantine".into())
    );
    assert_eq!(shown["reviewers"], json!([cluster.nodes[4].account]));
    assert_eq!((&shown["versions"][0]["contributions"], shown["contributions"].as_array().map(Vec::len)), (&3.into(), Some(3)), "{shown}");
    let found = cluster.run(ben, &["datanet", "search", "coast"]).await;
    assert_eq!((found.as_array().map(Vec::len), &found[0]["name"]), (Some(1), &"notes".into()), "{found}");
    // Ben's folder knows where his rows stood; another one has the report from the gate, and both say whose rows two of them repeat.
    let health = ["datanet", "rows", "notes", "--health"];
    let elsewhere = ["datanet", "rows", "notes", "--contributor", &ben.account.to_string()];
    for fates in [cluster.run(ben, &health).await, cluster.run(anna, &elsewhere).await] {
        let copies: Vec<&Value> = fates["rows"].as_array().expect("rows").iter().filter(|row| row["fate"] == "copy").collect();
        let repeats: Vec<(&Value, &Value, &Value)> =
            copies.iter().map(|row| (&row["row"], &row["earlier"]["owner"], &row["earlier"]["per_mille"])).collect();
        let anna = json!(anna.account);
        assert_eq!(repeats, [(&json!(2), &anna, &json!(876)), (&json!(3), &anna, &json!(876))], "{fates:#}");
        let held = &fates["contributions"][0]["health"]["held"];
        assert!(held.is_null() || held.as_array().is_some_and(|held| held.len() == 5), "{fates:#}");
    }
    // Anna's own node has its report; Ben's and Cara's come from the gate.
    let rows = cluster.run(anna, &["datanet", "verify", "notes"]).await;
    let reports: Vec<(&Value, &Value)> = rows.as_array().expect("rows").iter().map(|row| (&row["report"], &row["approvals"])).collect();
    assert_eq!(reports, [(&json!(true), &json!(0)), (&json!(true), &json!(2)), (&json!(true), &json!(0))], "{rows}");
    let earned = cluster.run(ben, &["datanet", "earnings", "notes", "--contributor", &ben.account.to_string()]).await;
    let of = &earned["contributions"][0];
    let versions = of["versions"].as_array().map(Vec::len);
    assert_eq!((versions, &of["answers_wei"], &of["treasury"]["has_entered"]), (Some(1), &"0".into(), &false.into()), "{earned}");
    cluster.say("card, reports and earnings are shown as they are");
}

/// Whoever likes takes a name: what was exported from a private Datanet, or is under another licence, does not go where a name leads.
async fn rows_enter_no_strangers_datanet_by_its_name(cluster: &Cluster) {
    let (owner, stranger) = (&cluster.nodes[0], &cluster.nodes[2]);
    let made = cluster.run(stranger, &["datanet", "create", "wards-2", "--licence", "CC0-1.0"]).await;
    let number = made["asset"].to_string();
    let out = cluster.path("wards-exported");
    cluster.run(owner, &["datanet", "export", "wards", "--out", text(&out), "--format", "jsonl"]).await;
    let mode = |path: &std::path::Path| path.metadata().expect("it was written").permissions().mode() & 0o777;
    assert_eq!([mode(&out), mode(&out.join("contribution-00000.jsonl")), mode(&out.join("tributary.json"))], [0o700, 0o600, 0o600]);
    let other = cluster.path("other-licence");
    std::fs::create_dir(&other).expect("a new folder");
    let readme = "---\npretty_name: wards-2\nlicense: cc-by-nc-4.0\nconfigs:\n- config_name: default\n  data_files: rows.jsonl\n---\n";
    std::fs::write(other.join("README.md"), readme).expect("room on the disk");
    files::jsonl(&other.join("rows.jsonl"), &[survey("ward", 1)]);
    let (wards, other) = (text(&out), text(&other));
    let rows: [(&[&str], &str); 5] = [
        (&["datanet", "import", wards, "--name", "wards-2"], "belongs to"),
        (&["datanet", "import", wards, "--into", &number], "everybody would read its rows"),
        (&["datanet", "import", other], "belongs to"),
        (&["datanet", "import", other, "--into", &number], "the folder is under CC-BY-NC-4.0"),
        (&["datanet", "import", other, "--into", "999999"], "no Datanet has the number"),
    ];
    for (arguments, words) in rows {
        let error = cluster.refused(owner, arguments).await;
        assert!(error.contains(words), "`tributary {}` was refused without {words:?}: {error}", arguments.join(" "));
        let dry = cluster.refused(owner, &[arguments, &["--dry-run"]].concat()).await;
        assert_eq!(dry, error, "a dry run of `tributary {}` says something else", arguments.join(" "));
    }
    let shown = cluster.run(stranger, &["datanet", "show", "wards-2"]).await;
    assert_eq!(shown["contributions"], json!([]), "{shown}");
    cluster.say("rows enter nobody's Datanet by its name, and none under another privacy or licence");
}

/// What people type wrong is refused in words that say what and how else, and nothing is written.
async fn bad_input(cluster: &Cluster) {
    let (owner, stranger) = (&cluster.nodes[0], &cluster.nodes[2]);
    let node = stranger.node.to_string();
    let account = stranger.account.to_string();
    let rows: &[(&Party, &[&str], &str)] = &[
        (owner, &["datanet", "create", "notes", "--licence", "MIT"], "is called notes already"),
        (owner, &["datanet", "create", "x", "--licence", "MIT", "--sample", "101"], "percentage"),
        (owner, &["datanet", "create", "x", "--licence", "MIT", "--rows-max", "0"], "nobody contribute"),
        (owner, &["datanet", "create", "X", "--licence", "MIT"], "lower-case letters"),
        (owner, &["datanet", "create", "x", "--licence", "MIT", "--description", "a\u{1b}[2J"], "--description: character 2 is U+001B"),
        (owner, &["datanet", "reject", "notes", "0x00", "--reason", "a\nb"], "--reason: character 2 is U+000A"),
        (owner, &["datanet", "show", "none"], "no Datanet is called \"none\""),
        (stranger, &["datanet", "reviewer", "add", "notes", &account], "its owner names reviewers"),
        (owner, &["datanet", "reviewer", "add", "notes", &cluster.nodes[4].account.to_string()], "already"),
        (owner, &["datanet", "reviewer", "remove", "notes", &account], "is no reviewer"),
        (stranger, &["datanet", "members", "notes", "--add", &account], "its owner lists contributors"),
        (stranger, &["datanet", "review", "notes"], "does not review"),
        (owner, &["datanet", "approve", "notes", "zz"], "waits under \"zz\""),
        (owner, &["datanet", "approve", "drawn", "0x00"], "nothing waits"),
        (owner, &["datanet", "grant", "notes", &node, "--purpose", "read", "--until", "9d"], "is open: everybody reads it"),
        (owner, &["datanet", "grant", "wards", &node, "--purpose", "read", "--until", "1"], "already: give a later one"),
        (owner, &["datanet", "grant", "wards", &node, "--purpose", "read", "--until", "soon"], "days from now"),
        (stranger, &["datanet", "grant", "wards", &node, "--purpose", "read", "--until", "9d"], "its owner says who reads it"),
        (owner, &["datanet", "revoke", "wards", &node], "has no grant"),
        (stranger, &["datanet", "log", "notes"], "is open"),
        (stranger, &["datanet", "log", "wards"], "is no member"),
        (stranger, &["datanet", "earnings", "few", "--contributor", &owner.account.to_string()], "no accepted contribution of"),
        (stranger, &["datanet", "earnings", "few", "--receipts", "nowhere"], "nowhere"),
    ];
    for (party, arguments, words) in rows {
        let before = files::listing(&party.folder.join("seals"));
        let error = cluster.refused(party, arguments).await;
        assert!(error.contains(words), "`tributary {}` was refused without {words:?}: {error}", arguments.join(" "));
        assert_eq!(files::listing(&party.folder.join("seals")), before, "{arguments:?}");
    }
    let wrong = [
        &["datanet", "create", "x", "--licence", "MIT", "--personal-data", "forbid"][..],
        &["datanet", "create", "x", "--licence", "MIT", "--region", "Germany"],
        &["datanet", "create", "x", "--licence", "MIT", "--region", "XX"],
        &["datanet", "grant", "wards", &node, "--purpose", "steal", "--until", "9d"],
        &["datanet", "grant", "wards", "me", "--purpose", "read", "--until", "9d"],
        &["datanet", "reviewer", "add", "notes", "me"],
    ];
    for arguments in wrong {
        let outcome = cluster.outcome(owner, arguments).await;
        assert_eq!(outcome.code, Some(2), "{outcome}");
        assert!(outcome.json["error"].as_str().is_some_and(|error| error.contains("invalid value")), "{outcome}");
    }
    cluster.say("what was typed wrong was refused in words");
}
