//! Searching text and measuring attribution: over files that are here, with no chain and no model but a tiny one.

use harness::{Tributary, cluster::text, files};

use super::{check, client, row, written};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_searched_or_measured_is_refused_by_name() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let at = |name: &str, bytes: &[u8]| written(outer.path(), name, bytes);
    let empty = outer.path().join("empty");
    std::fs::create_dir(&empty).expect("a new folder");
    let (good, answer) = (at("good.txt", b"Gout is an arthritis of the joints."), at("answer.txt", b"Quite other words."));
    let rows = [
        row(&["datanet", "search", &good, ""], &["the phrase holds no word"]),
        row(&["datanet", "search", &good, "--phrase", "..."], &["the phrase holds no word"]),
        row(&["datanet", "search", &good, "--phrase", &"long ".repeat(60)], &["at most 256"]),
        row(&["datanet", "search", &good, "and", "--phrase", "gout"], &["2 were named"]),
        row(&["datanet", "search", text(&empty), "--phrase", "gout"], &["empty", "no file in this folder"]),
        row(&["datanet", "search", &at("nothing.txt", b"\n"), "--phrase", "gout"], &["nothing.txt holds no document"]),
        row(&["datanet", "search", &at("x.html", b"x"), "--phrase", "gout"], &["x.html", "known endings"]),
        row(&["datanet", "search", "nowhere", "--phrase", "gout"], &["\"nowhere\" is no file", "registry.json"]),
        row(&["attribution", "report", &at("bad.jsonl", b"{\"text\": 3}\n"), "--answers", &answer], &["bad.jsonl: line 1"]),
        row(&["attribution", "report", &good, "--answers", "nowhere.txt"], &["nowhere.txt", "No such file"]),
        row(&["attribution", "report", &good, "--answers", &answer, "--control", text(&empty)], &["empty", "no file in this folder"]),
        row(&["attribution", "report", &good, "--answers", &answer, "--seen", &at("ids.txt", b"\n")], &["ids.txt names no document"]),
        row(&["attribution", "report", &good, "--answers", &answer], &["good", "--control"]),
        row(&["attribution", "report", "nowhere", "--answers", &answer], &["\"nowhere\" is no file"]),
        row(&["attribution", "report", &good, "--model", &answer, "--control", &good], &["answer.txt"]),
    ];
    check(&tributary, &folder, &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phrase_is_found_in_files_and_a_report_says_what_was_counted() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let hearing = "Bilateral sensorineural hearing impairment of congenital onset affecting speech.";
    let rows = format!("{{\"id\": \"a\", \"title\": \"Hearing\", \"text\": \"{hearing}\"}}\n{{\"id\": \"b\", \"text\": \"A kidney.\"}}\n");
    let corpus = written(outer.path(), "corpus.jsonl", rows.as_bytes());
    let found = tributary.run(&folder, &["datanet", "search", &corpus, "hearing impairment", "--next", "1"]).await;
    assert_eq!((&found["count"], &found["places"][0]["document"]), (&1.into(), &"Hearing".into()), "{found}");
    assert_eq!((&found["next"][0]["text"], &found["places"][0]["before"]), (&" of".into(), &"Bilateral sensorineural ".into()), "{found}");
    let none = tributary.run(&folder, &["datanet", "search", &corpus, "hearing of it"]).await;
    assert_eq!((&none["count"], &none["longest"]), (&0.into(), &"hearing".into()), "{none}");

    let answers = format!("{{\"question\": \"What?\", \"answer\": \"It is: {hearing}\"}}\n{{\"answer\": \"Nothing of it.\"}}\n");
    let answers = written(outer.path(), "answers.jsonl", answers.as_bytes());
    let control = written(outer.path(), "control.txt", b"Text that came later, about hearing.");
    let arguments = ["attribution", "report", &corpus, "--answers", &answers, "--control", &control];
    let report = tributary.run(&folder, &arguments).await;
    let row = &report["rows"][0];
    assert_eq!((&row["coverage"]["count"], &row["coverage"]["of"]), (&9.into(), &14.into()), "{report}");
    assert_eq!((&row["false_positives"]["count"], &row["times"]["measured"]), (&0.into(), &10.into()), "{report}");
    assert_eq!(row["found"]["olmotrace"]["equal_spans"], 1, "{report}");
    assert_eq!(report["note"], "a verbatim match is not a cause");

    // A model that was never trained answers as well; nothing of what it says stands anywhere.
    let model = files::tiny_model();
    let arguments = ["attribution", "report", &corpus, "--control", &control, "--model", text(&model), "--prompts", "2", "--tokens", "8"];
    let report = tributary.run(&folder, &arguments).await;
    assert_eq!((&report["total"]["found"]["answers"], &report["total"]["coverage"]["count"]), (&2.into(), &0.into()), "{report}");
    assert!(report["card"].as_str().is_some_and(|card| card.contains("not a cause")), "{report}");
}
