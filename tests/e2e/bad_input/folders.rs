//! Who may read what: secrets lie in files of their owner alone and nowhere else, and somebody else's folder is an error, not an empty one.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use harness::{Tributary, cluster::text, files};

use super::{assert_refused, check, client, row, written};

/// Mode bits of a file.
fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the mode is set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_lie_in_files_of_their_owner_and_are_never_said() {
    let tributary = Tributary::find();
    let outer = tempfile::tempdir().expect("a temporary folder");
    let folder = outer.path().join("a/new/client");
    let secret = "c0ffee".repeat(10) + "beef";
    let key = written(outer.path(), "settlement.key", format!("0x{secret}\n").as_bytes());
    let mut init = tributary.command(&folder, &["init", "--port", "0", "--key-file", &key]);
    init.env("TRIBUTARY_LOG", "trace");
    let made = Tributary::finish(init, "init".into()).await;
    assert_eq!(made.code, Some(0), "{made}");
    let said = [made.out.clone(), made.errors.clone()].concat();
    for (path, expected) in [(folder.clone(), 0o700), (folder.join("node.seed"), 0o600), (folder.join("wallet.json"), 0o600)] {
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
    let seed = std::fs::read_to_string(folder.join("node.seed")).expect("the seed");
    assert_eq!(seed.trim().len(), 64);
    for words in [secret.as_str(), seed.trim(), harness::process::PASSWORD] {
        assert!(!said.contains(words), "init says a secret: {said}");
        for path in files::listing(&folder).into_keys().filter(|path| path.is_file() && !path.ends_with("node.seed")) {
            let kept = String::from_utf8_lossy(&std::fs::read(&path).expect("a file")).to_lowercase();
            assert!(!kept.contains(words), "{} holds a secret in clear", path.display());
        }
    }
    set_mode(&folder.join("node.seed"), 0o640);
    check(&tributary, &folder, &[row(&["run"], &["node.seed", "mode 640", "chmod 600"])]).await;

    // What an interrupted init left, or `wallet new` made, is kept.
    set_mode(&folder.join("node.seed"), 0o600);
    std::fs::remove_file(folder.join("tributary.toml")).expect("the configuration");
    check(&tributary, &folder, &[row(&["init", "--key-file", &key], &["wallet.json", "leave --key-file out"])]).await;
    let again = tributary.run(&folder, &["init", "--port", "0"]).await;
    assert_eq!(
        (&again["node"], &again["account"], &again["is_kept"]),
        (&made.json["node"], &made.json["account"], &true.into()),
        "{again}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_folder_is_refused_and_not_taken_for_an_empty_one() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    // The superuser may read everything, so it sends somebody else; others lock themselves out.
    let is_root = std::fs::metadata("/proc/self").expect("this process").uid() == 0;
    let runner = if is_root {
        set_mode(outer.path(), 0o755);
        tributary.copied(outer.path())
    } else {
        set_mode(&folder, 0);
        tributary.clone()
    };
    let commands: [&[&str]; 8] = [
        &["run"],
        &["status"],
        &["init", "--port", "0"],
        &["wallet", "new"],
        &["model", "list"],
        &["adapter", "list"],
        &["ask", "--with", "x", "why?"],
        &["datanet", "list"],
    ];
    for arguments in commands {
        let mut command = runner.command(&folder, arguments);
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        let words = ["Permission denied", text(&folder), "belongs to you"].map(str::to_owned);
        assert_refused(Tributary::finish(command, arguments.join(" ")).await, &words);
    }
    set_mode(&folder, 0o700);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_is_refused_at_once() {
    let tributary = Tributary::find();
    let (outer, folder) = client(&tributary).await;
    let place = text(outer.path());
    let other = outer.path().join("other");
    // Nobody writes to it: whoever opens it waits for good.
    let pipe = text(&outer.path().join("pipe.jsonl")).to_owned();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    let mixed = outer.path().join("mixed");
    std::fs::create_dir(&mixed).expect("a new folder");
    for name in ["a.jsonl", "b.json", "c.csv.gz"] {
        written(&mixed, name, b"{\"text\": \"x\"}\n");
    }
    let mixed = text(&mixed).to_owned();
    let (page, text_file) = (written(outer.path(), "page.html", b"<p>x</p>"), written(outer.path(), "plain.txt", b"x"));
    let table = written(outer.path(), "table.csv", b"name,text\na,x\n");
    check(
        &tributary,
        &folder,
        &[
            row(&["model", "pull", "/dev/zero"], &["/dev/zero", "not a regular file"]),
            row(&["model", "pull", place], &[place, "not a regular file"]),
            row(&["adapter", "import", "/dev/zero"], &["/dev/zero"]),
            row(&["receipt", "verify", "/dev/zero"], &["/dev/zero", "more than"]),
            row(&["receipt", "verify", place], &[place, "directory"]),
            row(&["datanet", "contribute", "surveys", place], &[place, "pipe.jsonl: not a regular file", "--skip-unknown"]),
            row(&["datanet", "contribute", "surveys", "/dev/zero"], &["/dev/zero", "not a regular file"]),
            row(&["datanet", "contribute", "surveys", &pipe], &["pipe.jsonl", "not a regular file"]),
            row(&["datanet", "contribute", "surveys", &mixed], &["b.json", "ending .json", "c.csv.gz", "unpack it", "--skip-unknown"]),
            row(&["datanet", "contribute", "surveys", &page], &["page.html", ".jsonl, .ndjson", "--format"]),
            row(&["datanet", "contribute", "surveys", &text_file, "--title-column", "x"], &["columns of a table"]),
            row(
                &["datanet", "contribute", "surveys", &table, "--id-column", "nope"],
                &["table.csv", "\"nope\"", "name, text", "--id-column"],
            ),
            row(&["wallet", "show", "--registry", "/dev/zero"], &["/dev/zero", "not a deployment"]),
            row(&["wallet", "show", "--password-file", "/dev/zero"], &["registry.json"]),
        ],
    )
    .await;
    for arguments in [["init", "--key-file", "/dev/zero"], ["init", "--password-file", "/dev/zero"], ["init", "--model", "/dev/zero"]] {
        assert_refused(tributary.outcome(&other, &arguments).await, &["/dev/zero".to_owned()]);
        assert!(!other.exists(), "a refused init leaves nothing behind");
    }
    assert_refused(
        tributary.outcome(&other, &["init", "--bootstrap", "127.0.0.1:7401"]).await,
        &["bootstrap".to_owned(), "is no multiaddress".to_owned(), "/ip4/".to_owned()],
    );
    std::fs::write(folder.join("tributary.toml"), b"rpc = \"\xff\"").expect("a configuration");
    check(&tributary, &folder, &[row(&["run"], &["tributary.toml", "UTF-8"])]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_and_a_closed_pipe_are_said_in_words() {
    let tributary = Tributary::find();
    let (_outer, folder) = client(&tributary).await;
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device that is always full");
    let mut command = tributary.plain(&folder, &["model", "list"]);
    command.stdout(full());
    let ended = command.spawn().expect("the binary starts").wait_with_output().await.expect("it ends");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && errors.contains("could not be printed"), "{ended:?}");
    // Neither the error nor the log can be written: what is left is the exit code.
    let mut command = tributary.plain(&folder, &["model", "pull", "nowhere.gguf"]);
    command.stderr(full());
    let ended = command.spawn().expect("the binary starts").wait_with_output().await.expect("it ends");
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(1), &b""[..]), "{ended:?}");
    // A command line that says nothing is refused in the form that was asked for.
    let outcome = tributary.outcome(&folder, &["ask"]).await;
    assert!(outcome.code == Some(2) && outcome.json["error"].as_str().is_some_and(|error| error.contains("--with")), "{outcome}");
}
