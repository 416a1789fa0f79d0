use std::fs::File;

use storage::{datanet::shard, formats};

use super::{reading::*, *};

fn contributions() -> Vec<Vec<Document>> {
    let document = |id: Option<&str>, title: Option<&str>, text: &str| {
        Document::new(id.map(str::to_owned), title.map(str::to_owned), text.as_bytes()).unwrap()
    };
    vec![
        vec![document(Some("1"), Some("Ebb, \"and\" flow"), "One\n\ntwo, three."), document(None, None, "caf\u{e9}")],
        vec![document(None, Some("Flow"), " It rises.")],
    ]
}

fn card() -> Card {
    let policy = r#"{"name":"tides","description":"Of the sea.","licence":"MIT OR Apache-2.0","languages":["en"],"tags":["sea"],"policy":{"near_copies":"block"}}"#;
    serde_json::from_str(policy).unwrap()
}

fn exported(folder: &Path, layout: Layout) -> Manifest {
    let mut export = Export::begin(folder, layout, 7, card()).unwrap();
    for (number, documents) in (0..).zip(contributions()) {
        export.add(number, Address([1; 20]), shard::text_root(&documents), &documents).unwrap();
    }
    let about = About { version: "2.0.0".into(), published: "2026-11-21".into(), url: "https://example.org/7".into() };
    export.end(&about).unwrap()
}

fn roots(imported: &Imported) -> Vec<Hash32> {
    let root = |found: &Found| {
        let format = Format::of_extension(found.path.extension().unwrap().to_str().unwrap()).unwrap();
        let naming = formats::Naming { columns: imported.columns.clone(), ..formats::Naming::default() };
        let rows: Vec<_> = formats::rows(File::open(&found.path).unwrap(), format, naming).map(|row| row.unwrap().document).collect();
        shard::text_root(&rows)
    };
    imported.files.iter().map(root).collect()
}

#[test]
fn what_is_exported_is_imported_with_the_same_text_roots_and_card() {
    let expected: Vec<_> = contributions().iter().map(|documents| shard::text_root(documents)).collect();
    for layout in [Layout::Jsonl, Layout::Csv, Layout::Parquet, Layout::Huggingface, Layout::Croissant] {
        let folder = tempfile::tempdir().unwrap();
        exported(folder.path(), layout);
        let imported = import(folder.path(), Said::default()).unwrap();
        assert_eq!((imported.card.clone(), imported.by, roots(&imported)), (card(), MANIFEST, expected.clone()), "{layout:?}");
        assert_eq!(imported.files.iter().map(|found| found.text_root.unwrap()).collect::<Vec<_>>(), expected);
        // Another name changes nothing else, the policy least of all.
        let renamed = import(folder.path(), Said { name: Some("again".into()), ..Said::default() }).unwrap();
        assert_eq!((renamed.card.name().as_str(), renamed.card.policy(), renamed.by), ("again", card().policy(), MANIFEST));
        // As others would have it: without our manifest the rows and all of the card but its policy are there.
        fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        let Ok(imported) = import(folder.path(), Said::default()) else {
            assert!([Layout::Jsonl, Layout::Csv, Layout::Parquet].contains(&layout));
            continue;
        };
        assert_eq!(
            (imported.card.clone().with_policy(card().policy().clone()).unwrap(), roots(&imported)),
            (card(), expected.clone()),
            "{layout:?}"
        );
    }
}

#[test]
fn a_changed_file_a_missing_one_and_one_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    exported(folder.path(), Layout::Croissant);
    assert!(Export::begin(folder.path(), Layout::Csv, 7, card()).unwrap_err().to_string().contains("holds something already"));
    let file = folder.path().join("data/contribution-00000.parquet");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, [&b"x"[..], &bytes[1..]].concat()).unwrap();
    assert!(import(folder.path(), Said::default()).unwrap_err().to_string().contains("SHA-256"));
    fs::remove_file(folder.path().join(MANIFEST)).unwrap();
    assert!(import(folder.path(), Said::default()).unwrap_err().to_string().contains("SHA-256"), "the croissant states it too");
    fs::remove_file(&file).unwrap();
    assert!(import(folder.path(), Said::default()).unwrap_err().to_string().contains("cannot be read"));
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret.parquet"), &bytes).unwrap();
    std::os::unix::fs::symlink(outer.path().join("secret.parquet"), &file).unwrap();
    assert!(import(folder.path(), Said::default()).unwrap_err().to_string().contains("leads out of"));
    let bare = tempfile::tempdir().unwrap();
    assert!(import(bare.path(), Said::default()).unwrap_err().to_string().contains("datanet contribute takes files"));
}

#[test]
fn bytes_that_are_stated_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    exported(folder.path(), Layout::Croissant);
    let changed = |name: &str, change: &dyn Fn(&str) -> String| {
        let path = folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(&text)).unwrap();
        let error = import(folder.path(), Said::default()).unwrap_err().to_string();
        assert!(error.contains("bytes, 9999999 are stated"), "{name}: {error}");
    };
    let bytes = fs::metadata(folder.path().join("data/contribution-00001.parquet")).unwrap().len();
    changed(MANIFEST, &|text| text.replace(&format!("\"bytes\": {bytes}"), "\"bytes\": 9999999"));
    fs::remove_file(folder.path().join(MANIFEST)).unwrap();
    changed(CROISSANT, &|text| text.replace(&format!("{bytes} B"), "9999999 B"));
}

#[test]
fn a_private_datanet_is_written_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let outer = tempfile::tempdir().unwrap();
    for (layout, is_private) in [(Layout::Jsonl, true), (Layout::Huggingface, true), (Layout::Croissant, true), (Layout::Jsonl, false)] {
        let folder = outer.path().join(format!("{layout:?}-{is_private}/deep"));
        let mut export = Export::begin(&folder, layout, 7, card().with_privacy(is_private)).unwrap();
        export.add(0, Address([1; 20]), Hash32::ZERO, &contributions()[0]).unwrap();
        let about = About { version: "2.0.0".into(), published: "2026-11-21".into(), url: "https://example.org/7".into() };
        export.end(&about).unwrap();
        let mut open = vec![folder.parent().unwrap().to_owned()];
        while let Some(path) = open.pop() {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o077;
            assert!(!is_private || mode == 0, "{}: {mode:o}", path.display());
            if path.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        if layout != Layout::Jsonl {
            fs::remove_file(folder.join(MANIFEST)).unwrap();
            assert!(import(&folder, Said::default()).unwrap().card.is_private(), "{layout:?}: it stays private without our manifest");
        }
    }
}

/// A folder of some files with a README of this front matter: the files that are taken, and what is left out and why.
fn listed(front: &str) -> (Vec<String>, Vec<(String, String)>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(README), format!("---\nlicense: mit\n{front}---\n")).unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    for name in ["data/a.jsonl", "data/b.json", "data/c.csv.gz", "notes.txt"] {
        fs::write(folder.path().join(name), "{\"text\":\"x\"}").unwrap();
    }
    std::os::unix::fs::symlink("/dev/null", folder.path().join("data/d.jsonl")).unwrap();
    let imported = import(folder.path(), Said { name: Some("rows".into()), ..Said::default() }).unwrap();
    let below = |path: &Path| path.strip_prefix(folder.path()).unwrap_or(path).display().to_string();
    let files = imported.files.iter().map(|found| below(&found.path)).collect();
    let mut left_out: Vec<_> = imported.left_out.iter().map(|one| (below(Path::new(&one.path)), one.why.clone())).collect();
    left_out.sort();
    (files, left_out)
}

#[test]
fn what_a_card_means_and_is_not_taken_is_named() {
    let named = |front: &str, expected: &[(&str, &str)]| {
        let (files, left_out) = listed(front);
        assert_eq!(files, ["data/a.jsonl"], "{front}");
        assert_eq!(left_out.len(), expected.len(), "{front}: {left_out:?}");
        for ((path, why), (expected, words)) in left_out.iter().zip(expected) {
            assert!(path == expected && why.contains(words), "{front}: {path}: {why}");
        }
    };
    let of_data = [("data/b.json", "ending .json"), ("data/c.csv.gz", "unpack it first"), ("data/d.jsonl", "leads out of the folder")];
    named("", &[&of_data[..], &[("notes.txt", "a document of its own")]].concat());
    let unnamed = "README.md does not name it";
    named("configs:\n- config_name: a\n  data_files: data/*\n", &[&of_data[..], &[("notes.txt", unnamed)]].concat());
    let beside = [("data/b.json", unnamed), ("data/c.csv.gz", unnamed), ("data/d.jsonl", "leads out of"), ("notes.txt", unnamed)];
    named("configs:\n- config_name: a\n  data_files: data/a.jsonl\n", &beside);
    let more = [("README.md", "configuration b is not read"), ("data/*.csv", "no file here is called so")];
    named(
        "configs:\n- config_name: a\n  data_files:\n  - data/*.jsonl\n  - data/*.csv\n- config_name: b\n  data_files: more.csv\n",
        &[&more[..], &beside[..]].concat(),
    );
}

#[test]
fn what_lies_beside_the_files_of_an_export_is_named_and_its_attendants_are_not() {
    for (layout, by) in [
        (Layout::Jsonl, MANIFEST),
        (Layout::Huggingface, MANIFEST),
        (Layout::Croissant, MANIFEST),
        (Layout::Croissant, CROISSANT),
        (Layout::Huggingface, README),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        exported(folder.path(), layout);
        if by != MANIFEST {
            fs::remove_file(at(MANIFEST)).unwrap();
        }
        for attendant in ["LICENSE", "CITATION.cff", ".gitattributes"] {
            fs::write(at(attendant), "x").unwrap();
        }
        let told = || {
            let imported = import(folder.path(), Said::default()).unwrap();
            assert_eq!((imported.by, imported.files.len()), (by, 2), "{layout:?}");
            let mut told: Vec<_> = imported
                .left_out
                .iter()
                .map(|one| {
                    let path = Path::new(&one.path);
                    path.strip_prefix(folder.path()).unwrap_or(path).display().to_string()
                })
                .collect();
            told.sort();
            (told, crate::command::datanet::left_out::agreed(&imported.left_out, false).map_err(|error| error.to_string()))
        };
        let (nothing, agreed) = told();
        assert!(agreed.is_ok() && nothing == [".gitattributes"; 0], "{layout:?} {by}: {nothing:?}");
        fs::create_dir_all(at("data/.cache")).unwrap();
        fs::create_dir_all(at("more")).unwrap();
        for name in ["more.jsonl", "extra.bin", "data/LICENSE", "more/z.txt"] {
            fs::write(at(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("/dev/null", at("data/link.parquet")).unwrap();
        let (named, agreed) = told();
        assert_eq!(named, ["data/.cache", "data/LICENSE", "data/link.parquet", "extra.bin", "more.jsonl", "more/z.txt"], "{layout:?} {by}");
        let error = agreed.unwrap_err();
        assert!(error.contains("more.jsonl: ") && error.contains("--skip-unknown") && !error.contains(".cache"), "{error}");
    }
}

/// A Hugging Face export without our manifest, whose README is changed.
fn stripped(is_private: bool, file: &str, change: impl Fn(&str) -> String, is_public: bool) -> Result<bool, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut export = Export::begin(folder.path(), Layout::Huggingface, 7, card().with_privacy(is_private)).unwrap();
    export.add(0, Address([1; 20]), Hash32::ZERO, &contributions()[0]).unwrap();
    let about = About { version: "2.0.0".into(), published: "2026-11-21".into(), url: "https://example.org/7".into() };
    export.end(&about).unwrap();
    fs::remove_file(folder.path().join(MANIFEST)).unwrap();
    fs::rename(folder.path().join("data/contribution-00000.parquet"), folder.path().join(file)).unwrap();
    let readme = folder.path().join(README);
    fs::write(&readme, change(&fs::read_to_string(&readme).unwrap())).unwrap();
    let imported = import(folder.path(), Said { is_public, ..Said::default() });
    imported.map(|imported| imported.card.is_private()).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_private_export_stays_private_however_its_readme_says_so_and_needs_a_word_where_it_does_not() {
    const OURS: &str = "data/contribution-00000.parquet";
    let written = |words: &'static str| move |text: &str| text.replace("private: true\n", words);
    for words in ["private: yes\n", "private: On\n", "private: 'TRUE'\n", "\"private\": Y # members\n"] {
        assert_eq!(stripped(true, OURS, written(words), false), Ok(true), "{words}");
        let error = stripped(true, OURS, written(words), true).unwrap_err();
        assert!(error.contains("README.md says that members alone") && error.contains("leave --public out"), "{error}");
    }
    let error = stripped(true, OURS, written("private: 1\n"), true).unwrap_err();
    assert!(error.contains("line 5 of README.md says \"private: 1\""), "{error}");
    let error = stripped(true, OURS, written(""), false).unwrap_err();
    assert!(error.contains("--public if everybody may read it") && error.contains("private: true (members alone)"), "{error}");
    assert_eq!(stripped(true, OURS, written(""), true), Ok(false), "the user's word");
    assert_eq!(stripped(true, "data/train.parquet", written(""), false), Ok(false), "a repository of somebody else never states it");
    assert_eq!(stripped(false, OURS, str::to_owned, false), Ok(false), "an open export states it too");
}

#[test]
fn descriptions_that_differ_in_who_may_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    exported(folder.path(), Layout::Croissant);
    let refused = |words: &str| {
        let error = format!("{:#}", import(folder.path(), Said::default()).unwrap_err());
        assert!(error.contains(words), "{error}");
    };
    fs::write(folder.path().join(README), "---\nprivate: yes\n---\n").unwrap();
    refused("README.md says that members alone may read it, tributary.json and croissant.json that everybody may");
    fs::write(folder.path().join(README), "---\nprivate: sometimes\n---\n").unwrap();
    refused("line 2 of README.md says");
    fs::remove_file(folder.path().join(MANIFEST)).unwrap();
    fs::write(folder.path().join(README), "---\nprivate: yes\n---\n").unwrap();
    refused("README.md says that members alone may read it, croissant.json that everybody may");
    fs::write(folder.path().join(README), "# No front matter, private: yes\n").unwrap();
    assert!(!import(folder.path(), Said::default()).unwrap().card.is_private());
    let path = folder.path().join(CROISSANT);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"Everybody\"", "\"By appointment\"")).unwrap();
    refused("conditionsOfAccess says \"By appointment\"");
    fs::write(&path, text.replace("conditionsOfAccess", "more")).unwrap();
    refused("--public if everybody may read it");
}
