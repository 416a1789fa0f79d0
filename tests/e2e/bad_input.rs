//! Bad input at the command line: each is refused in words that name what and the fix, and nothing is written or paid.
//!
//! What only a hostile peer sends is tried by programs that speak the protocol themselves, since no command can: vouchers above their lane, replayed or
//! for another node in `node/tests/hostile_client.rs`, wrong bytes of a holder in `node/tests/datanet/liar.rs`.

mod attribution;
mod chain;
mod endless;
mod folders;
mod log;
mod money;

use std::path::{Path, PathBuf};

use harness::{Outcome, Tributary, cluster::text, files};

/// A command line that must be refused, and words of the refusal.
#[derive(Debug)]
struct Row {
    arguments: Vec<String>,
    words: Vec<String>,
}

fn row(arguments: &[&str], words: &[&str]) -> Row {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    Row { arguments: owned(arguments), words: owned(words) }
}

/// Runs each row; the folder must be afterwards what it was before.
async fn check(tributary: &Tributary, folder: &Path, rows: &[Row]) {
    for Row { arguments, words } in rows {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let before = files::listing(folder);
        let outcome = tributary.outcome(folder, &arguments).await;
        assert_refused(outcome, words);
        assert_eq!(files::listing(folder), before, "`tributary {}` was refused, yet something was written", arguments.join(" "));
    }
}

fn assert_refused(outcome: Outcome, words: &[String]) {
    let shown = outcome.shown.clone();
    let error = outcome.refusal();
    println!("    {}\n      {error}", shown.chars().take(100).collect::<String>());
    for word in words {
        assert!(error.contains(word.as_str()), "`tributary {shown}` was refused without {word:?}: {error}");
    }
}

/// A folder that `init` has set up, in one that is removed afterwards.
async fn client(tributary: &Tributary) -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().expect("a temporary folder");
    let folder = outer.path().join("client");
    tributary.run(&folder, &["init", "--port", "0"]).await;
    (outer, folder)
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file is written");
    text(&path).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_that_are_not_what_they_claim_are_refused() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let (model, bytes) = (files::tiny_model(), files::tiny_model_bytes());
    let pulled = tributary.run(&folder, &["model", "pull", text(&model)]).await;
    let (hash, other) = (pulled["hash"].as_str().expect("a hash"), "ab".repeat(32));
    let mut rows = vec![
        row(&["model", "pull", text(&model), "--hash", &other], &[hash, &other, "fetch it again"]),
        row(&["model", "pull", "nowhere.gguf"], &["nowhere.gguf", "No such file"]),
    ];
    for length in [0, 3, 20, 300, bytes.len() / 2, bytes.len() - 33] {
        let name = format!("cut-at-{length}.gguf");
        let path = written(outer.path(), &name, &bytes[..length]);
        rows.push(row(&["model", "pull", &path], &[&name, "the file is cut off"]));
    }
    // Counts of tensors and of settings, length of the first key, count of the first list: each larger than any file.
    let list = bytes.windows(21).position(|window| window == b"tokenizer.ggml.tokens").expect("the list of tokens") + 21 + 4 + 4;
    for (name, at) in [("tensors", 8), ("settings", 16), ("key", 24), ("list", list)] {
        let mut broken = bytes.clone();
        broken[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        let path = written(outer.path(), &format!("oversized-{name}.gguf"), &broken);
        rows.push(row(&["model", "pull", &path], &[&format!("oversized-{name}.gguf"), "declares 9223372036854775807, at most"]));
    }
    check(&tributary, &folder, &rows).await;
    assert_eq!(tributary.run(&folder, &["model", "list"]).await.as_array().map(Vec::len), Some(1), "only the good model was kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapters_that_are_not_what_they_claim_are_refused() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let good = files::adapter(&outer.path().join("good"), |_, _, _| {});
    tributary.run(&folder, &["adapter", "import", text(&good)]).await;
    let broken = |name: &str, settings: &str| {
        let path = files::adapter(&outer.path().join(name), |_, _, _| {});
        written(&path, "adapter_config.json", settings.as_bytes());
        text(&path).to_owned()
    };
    let without = outer.path().join("without");
    std::fs::create_dir(&without).expect("a new folder");
    written(&without, "adapter_config.json", b"{}");
    let rows = [
        row(&["adapter", "import", "nowhere"], &["nowhere", "adapter_config.json", "No such file"]),
        row(&["adapter", "import", text(&without)], &["adapter_model.safetensors", "No such file"]),
        row(&["adapter", "import", &broken("no-json", "peft")], &["adapter_config.json is not readable"]),
        row(&["adapter", "import", &broken("prefix", r#"{"peft_type": "PREFIX_TUNING", "r": 1, "lora_alpha": 1}"#)], &["PREFIX_TUNING"]),
    ];
    check(&tributary, &folder, &rows).await;
    assert_eq!(tributary.run(&folder, &["adapter", "list"]).await.as_array().map(Vec::len), Some(1), "only the good adapter was kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_cannot_be_read_are_refused_by_line_before_anything_else() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let contribute = |name: &str, bytes: &[u8], words: &[&str]| {
        let path = written(outer.path(), name, bytes);
        row(&["datanet", "contribute", "surveys", &path], &[words, &[name]].concat())
    };
    let good = "{\"text\": \"A whole document.\"}\n";
    let with = |bad: &[u8]| [good.as_bytes(), bad, b"\n", good.replace("whole", "second").as_bytes()].concat();
    let rows = [
        contribute("broken.jsonl", &with(b"{\"text\": \"no end"), &["line 2", "write one JSON object a line"]),
        contribute("key.jsonl", &with(b"{\"txt\": \"another key\"}"), &["line 2", "text"]),
        contribute("empty.jsonl", &with(b"{\"text\": \"\"}"), &["line 2", "empty"]),
        contribute("blank.jsonl", &with(b"{\"text\": \" \\n \"}"), &["line 2"]),
        contribute("utf8.jsonl", &with(b"{\"text\": \"\xff\xfe\"}"), &["line 2", "UTF-8"]),
        contribute("control.jsonl", &with(b"{\"text\": \"a bell: \\u0007\"}"), &["line 2"]),
        contribute("two.jsonl", &[with(b"{"), with(b"[]")].concat(), &["line 2", "line 5"]),
        contribute("nothing.jsonl", b"", &["holds no document"]),
        contribute("utf8.txt", b"plain \xff text", &["UTF-8"]),
        row(&["datanet", "contribute", "surveys", "nowhere.jsonl"], &["nowhere.jsonl", "No such file"]),
        row(&["datanet", "create", "../x", "--licence", "MIT"], &["\"../x\" is no Datanet name", "lower-case letters"]),
        row(&["datanet", "create", "Surveys", "--licence", "MIT"], &["is no Datanet name"]),
        row(&["datanet", "create", "surveys", "--licence", "do what you want"], &["SPDX"]),
        row(&["datanet", "create", "surveys", "--licence", "MIT", "--language", "no language"], &["is no language tag"]),
    ];
    check(&tributary, &folder, &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_keys_and_configurations_that_cannot_work_are_refused() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let rows = [
        row(&["init"], &["exists already", "--data-dir"]),
        row(&["wallet", "new"], &["exists already", "only copy"]),
        row(&["status"], &["no node runs with this folder", "tributary run"]),
        row(&["run"], &["registry.json", "--registry"]),
        row(&["ask", "--with", "tiny", "why?"], &["registry.json"]),
        row(&["receipt", "verify", "nowhere.json"], &["nowhere.json", "No such file"]),
        row(&["receipt", "verify", &written(outer.path(), "no-bundle.json", b"{\"surprise\": 1}")], &["no-bundle.json", "surprise"]),
        row(&["receipt", "verify", &written(outer.path(), "cut.json", b"{\"domains\": ")], &["cut.json", "EOF"]),
    ];
    check(&tributary, &folder, &rows).await;

    // A file where a folder is expected: as unreadable as another user's folder, for root too.
    let occupied = outer.path().join("occupied");
    std::fs::write(&occupied, "not a folder").expect("a file is written");
    for arguments in [&["init", "--port", "0"][..], &["model", "pull", text(&files::tiny_model())]] {
        assert_refused(tributary.outcome(&occupied, arguments).await, &["occupied".to_owned()]);
        assert_eq!(std::fs::read(&occupied).expect("the file"), b"not a folder");
    }
    let other = outer.path().join("other");
    let key = written(outer.path(), "short.key", b"abcdef");
    for (arguments, words) in [(["init", "--key-file", &key], "64 hex digits"), (["init", "--port", "65534"], "65534")] {
        assert_refused(tributary.outcome(&other, &arguments).await, &[words.to_owned()]);
        assert!(!other.exists(), "a refused init leaves nothing behind");
    }
    let mut without = tributary.command(&other, &["init"]);
    without.env("TRIBUTARY_PASSWORD", "");
    assert_refused(Tributary::finish(without, "init without a password".into()).await, &["password is empty".to_owned()]);
    assert!(!other.exists());

    let path = folder.join("tributary.toml");
    let config = std::fs::read_to_string(&path).expect("the configuration");
    let changed = |from: &str, to: &str| {
        assert!(config.contains(from), "the configuration has no {from}");
        std::fs::write(&path, config.replacen(from, to, 1)).expect("the configuration is written");
    };
    for (from, to, word) in [
        ("storage", "storrage", "storrage"),
        ("http://", "ftp://", "rpc"),
        ("answers_max = 32", "answers_max = 0", "answers_max"),
        ("indexer = false", "indexer = 7", "indexer"),
    ] {
        changed(from, to);
        check(&tributary, &folder, &[row(&["run"], &[word])]).await;
    }
}
