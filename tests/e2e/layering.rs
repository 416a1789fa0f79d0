//! The shape of the workspace, as tests: who may import whom, what may be switched on, and what pure code may not name.
//!
//! The rules are `ARCHITECTURE.md`'s: a star around `types`, decisions in modules that hold no socket, file, clock, thread or
//! ambient randomness. Each rule is a function over plain data, tried below on input that breaks it, then on the workspace.

mod scan;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

const DOMAINS: [&str; 5] = ["p2p", "storage", "inference", "attribution", "chain-bridge"];
/// Features of the domain crates that bring sockets, files, tensors or chain libraries.
const SHELL_FEATURES: [&str; 7] = ["net", "disk", "kernels", "model", "engine", "cuda", "rpc"];
/// Libraries that compute and do not act: hashes, signatures, ciphers, codes, compression, serialisation, words for errors, the parser of a command line. All a
/// core may have without a feature; whatever is not here is taken for something that acts on the world.
const PURE_LIBRARIES: [&str; 20] = [
    "blake3",
    "chacha20poly1305",
    "clap",
    "curve25519-dalek",
    "ed25519-dalek",
    "hex",
    "k256",
    "postcard",
    "reed-solomon-erasure",
    "secp256k1",
    "serde",
    "serde_json",
    "sha2",
    "sha3",
    "spdx",
    "thiserror",
    "unicode-normalization",
    "x25519-dalek",
    "zeroize",
    "zstd",
];
/// Crates whose every module is looked at, those behind a shell feature left out: what `simulations` compiles.
const PURE: [&str; 7] = ["types", "p2p", "storage", "inference", "attribution", "chain-bridge", "simulations"];

/// One dependency as declared in a manifest of the workspace.
#[derive(Debug, Clone)]
struct Edge {
    from: String,
    to: String,
    is_ours: bool,
    is_optional: bool,
    is_dev: bool,
    default_features: bool,
    features: Vec<String>,
}

/// What the table of section 3 allows `from` to import of ours.
fn allowed(from: &str) -> Vec<&'static str> {
    match from {
        "p2p" | "storage" | "inference" | "attribution" | "chain-bridge" => vec!["types"],
        "node" | "simulations" => [&["types"], DOMAINS.as_slice()].concat(),
        "tests" => vec!["node", "types", "chain-bridge", "inference", "p2p"],
        _ => vec![],
    }
}

/// Each edge that breaks a rule, in words.
fn violations(edges: &[Edge]) -> Vec<String> {
    edges.iter().filter_map(violation).collect()
}

fn violation(edge: &Edge) -> Option<String> {
    let Edge { from, to, .. } = edge;
    if edge.is_ours {
        // The contracts' tests hold them against who finds the faults that they judge.
        if edge.is_dev && (from.as_str(), to.as_str()) == ("chain-bridge", "attribution") {
            return None;
        }
        if !allowed(from).contains(&to.as_str()) {
            return Some(format!("{from} must not import {to}: allowed are {:?}", allowed(from)));
        }
        if from == "simulations" && DOMAINS.contains(&to.as_str()) {
            if edge.default_features {
                return Some(format!("simulations must take {to} with default-features = false"));
            }
            if let Some(feature) = edge.features.iter().find(|feature| SHELL_FEATURES.contains(&feature.as_str())) {
                return Some(format!("simulations must not switch on `{feature}` of {to}"));
            }
        }
        return None;
    }
    if edge.is_dev || PURE_LIBRARIES.contains(&to.as_str()) || !PURE.contains(&from.as_str()) {
        return None;
    }
    if ["types", "simulations"].contains(&from.as_str()) {
        return Some(format!("{from} is pure and must not depend on {to}: allowed are {PURE_LIBRARIES:?}"));
    }
    (!edge.is_optional).then(|| format!("{from} must take {to} as an optional dependency behind its shell feature"))
}

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().other_options(["--offline".to_owned()]).exec().expect("cargo metadata")
}

fn edges(metadata: &Metadata) -> Vec<Edge> {
    let ours: BTreeSet<_> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let declared = metadata.packages.iter().flat_map(|package| package.dependencies.iter().map(move |dependency| (package, dependency)));
    declared
        .map(|(package, dependency)| Edge {
            from: package.name.to_string(),
            to: dependency.name.clone(),
            is_ours: dependency.path.is_some() && ours.contains(dependency.name.as_str()),
            is_optional: dependency.optional,
            is_dev: dependency.kind == DependencyKind::Development,
            default_features: dependency.uses_default_features,
            features: dependency.features.clone(),
        })
        .collect()
}

/// The source files of a crate, those of modules behind `#[cfg(test)]` or a shell feature left out. No module that stays may be a way
/// around the rule for another: a re-export is as good as its source.
fn pure_files(crate_dir: &Path) -> Vec<PathBuf> {
    let all = rust_files(&crate_dir.join("src"));
    let gated: Vec<PathBuf> = all.iter().flat_map(|file| gated_paths(file)).collect();
    all.into_iter().filter(|file| !gated.iter().any(|path| file.starts_with(path))).collect()
}

/// The files and folders of the gated child modules of `file`.
fn gated_paths(file: &Path) -> Vec<PathBuf> {
    let is_root = file.file_name().is_some_and(|name| name == "lib.rs" || name == "main.rs");
    let folder = if is_root { file.parent().expect("a file lies in a folder").to_owned() } else { file.with_extension("") };
    let names = scan::gated_modules(&read(file));
    names.iter().flat_map(|name| [folder.join(format!("{name}.rs")), folder.join(name)]).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
    out.sort();
    out
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn the_workspace_has_only_the_edges_of_the_table() {
    let found = violations(&edges(&metadata()));
    assert!(found.is_empty(), "edges outside the table:\n{}", found.join("\n"));
}

#[test]
fn every_crate_of_the_table_was_looked_at() {
    let metadata = metadata();
    let names: BTreeSet<_> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let table: BTreeSet<_> = DOMAINS.into_iter().chain(["types", "node", "simulations", "tests", "xtask"]).collect();
    assert_eq!(names, table, "a crate is missing from the table of this test or from the workspace");
    assert!(edges(&metadata).iter().filter(|edge| edge.is_ours).count() >= DOMAINS.len(), "the star has lost its edges");
}

#[test]
fn pure_modules_touch_no_socket_file_clock_thread_or_ambient_randomness() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for name in PURE {
        let files = pure_files(&root.join(name));
        assert!(files.len() > 1, "{name} has no pure modules: were they moved?");
        for file in files {
            let place = file.strip_prefix(&root).expect("below the root").display();
            found.extend(scan::forbidden(&read(&file)).into_iter().map(|finding| format!("{place}: {finding}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

mod rules {
    //! The rules themselves, on input that breaks them.

    use super::scan::{forbidden, gated_modules};
    use super::*;

    fn edge(from: &str, to: &str) -> Edge {
        let is_ours = ["types", "node", "xtask", "tests", "simulations"].contains(&to) || DOMAINS.contains(&to);
        Edge { from: from.into(), to: to.into(), is_ours, is_optional: false, is_dev: false, default_features: false, features: vec![] }
    }

    #[track_caller]
    fn check(text: &str, expected: &[(usize, &str)]) {
        let found = forbidden(text);
        let found: Vec<_> = found.iter().map(|finding| (finding.line, finding.path.as_str())).collect();
        assert_eq!(found, expected, "in {text:?}");
    }

    #[test]
    fn a_sideways_edge_is_caught() {
        assert_eq!(violations(&[edge("storage", "types"), edge("storage", "p2p")]).len(), 1);
        assert_eq!(
            violations(&[edge("types", "p2p"), edge("xtask", "types"), edge("simulations", "node"), edge("tests", "storage")]).len(),
            4
        );
    }

    #[test]
    fn a_sideways_edge_for_tests_only_is_caught() {
        assert_eq!(violations(&[Edge { is_dev: true, ..edge("inference", "attribution") }]).len(), 1);
    }

    #[test]
    fn a_shell_feature_in_the_simulation_is_caught() {
        assert!(violations(&[edge("simulations", "p2p")]).is_empty());
        assert_eq!(violations(&[Edge { default_features: true, ..edge("simulations", "p2p") }]).len(), 1);
        assert_eq!(violations(&[Edge { features: vec!["net".into()], ..edge("simulations", "p2p") }]).len(), 1);
    }

    #[test]
    fn an_unconditional_library_that_is_not_known_to_be_pure_is_caught() {
        assert_eq!(violations(&[edge("p2p", "tokio"), edge("types", "tokio"), edge("simulations", "getrandom")]).len(), 3);
        assert_eq!(violations(&[edge("attribution", "web-time"), edge("chain-bridge", "fastrand"), edge("storage", "hashbrown")]).len(), 3);
        assert!(violations(&[Edge { is_optional: true, ..edge("p2p", "tokio") }, edge("node", "tokio")]).is_empty());
        assert_eq!(violations(&[Edge { is_optional: true, ..edge("types", "tokio") }]).len(), 1);
        assert!(violations(&[edge("types", "k256"), Edge { is_dev: true, ..edge("types", "tempfile") }]).is_empty());
    }

    #[test]
    fn a_forbidden_path_is_caught_wherever_it_stands() {
        check("use std::collections::HashMap;", &[(1, "std::collections::HashMap")]);
        check("fn f() {\n    let t = std::time::Instant::now();\n}", &[(2, "std::time::Instant::now")]);
        check("async fn f(x: tokio::sync::Notify) {}", &[(1, "tokio::sync::Notify")]);
        check("let h: BTreeMap<u8, HashSet<u8>> = x;", &[(1, "HashSet")]);
        check(
            "std::thread::sleep(d); thread::spawn(f); rand::thread_rng()",
            &[(1, "std::thread::sleep"), (1, "thread::spawn"), (1, "rand::thread_rng")],
        );
        check(
            "let a = std::env::var(x); std::process::exit(1); std::io::stdin()",
            &[(1, "std::env::var"), (1, "std::process::exit"), (1, "std::io::stdin")],
        );
        check(
            "rand::rng().random(); rand::random::<u8>(); RandomState::new()",
            &[(1, "rand::rng"), (1, "rand::random"), (1, "RandomState::new")],
        );
        check(
            "thread::scope(f); std::thread::Builder::new(); rayon::join(a, b)",
            &[(1, "thread::scope"), (1, "std::thread::Builder::new"), (1, "rayon::join")],
        );
        check("thread_local! { static A: u8 = 0; }", &[(1, "thread_local")]);
    }

    #[test]
    fn a_forbidden_thing_under_another_name_is_caught() {
        check("use std::time::Instant as X;\nfn f() { X::now(); }", &[(1, "std::time::Instant")]);
        check("use std::{fs as f, time as clock};\nfn g() { clock::Instant::now(); }", &[(1, "std::fs"), (2, "clock::Instant::now")]);
        check("use std::collections::{hash_map::HashMap as Map, BTreeMap};", &[(1, "std::collections::hash_map::HashMap")]);
        check("use std as s;\nfn f() { s::fs::metadata(x); }", &[(1, "std as")]);
        check("use ::std::{self as s, fmt};", &[(1, "std self as")]);
        check("use std::*;\nfn f() { fs::read(x); }", &[(1, "std *"), (2, "fs::read")]);
        check("extern crate std;", &[(1, "extern crate")]);
        check("macro_rules! now { () => { std::time::Instant::now() } }", &[(1, "std::time::Instant::now")]);
        check("pub use std::fs;", &[(1, "std::fs")]);
    }

    #[test]
    fn a_file_from_elsewhere_is_caught() {
        check("#[path = \"../shell.rs\"]\nmod shell;", &[(1, "path =")]);
        check("include!(\"../shell.rs\");", &[(1, "include !")]);
        check("const A: &str = include_str!(\"a.tsv\"); let path = 1;", &[]);
    }

    #[test]
    fn a_braced_use_is_unfolded() {
        check(
            "use std::{\n    fmt, fs,\n    net::{IpAddr, TcpStream},\n    time::SystemTime,\n};\nuse b::Fs;",
            &[(2, "std::fs"), (3, "std::net::TcpStream"), (4, "std::time::SystemTime")],
        );
    }

    #[test]
    fn plain_addresses_and_readers_are_allowed() {
        check("use std::net::{IpAddr, SocketAddr};\nuse std::io::{Read, Write};\nfn f(at: Time, map: BTreeMap<u8, u8>) {}", &[]);
    }

    #[test]
    fn comments_strings_and_test_tails_are_ignored() {
        check("// tokio\n/* HashMap /* OsRng */ SystemTime */\n/// std::fs", &[]);
        check(r###"let a = "tokio \" HashMap"; let b = r#"std::fs " OsRng"#; let c = b"tokio"; let q = '"';"###, &[]);
        check("fn f<'a>(x: &'a str) {}\n#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}", &[]);
        check("#[cfg(feature = \"disk\")]\npub(crate) fn f(x: Result<A, B>) -> C\nwhere\n    A: B,\n{\n    std::fs::read(x)\n}", &[]);
    }

    #[test]
    fn what_follows_a_string_a_quote_or_a_test_item_is_still_read() {
        check("let url = \"http://a\"; tokio::spawn(f);", &[(1, "tokio::spawn")]);
        check("let q = '\\''; let h = HashMap::new(); let r = '\"';", &[(1, "HashMap::new")]);
        check("#[cfg(test)]\nuse std::{fs, io};\nuse std::fs;", &[(3, "std::fs")]);
        check("#[cfg(not(test))]\nuse std::fs;", &[(2, "std::fs")]);
        check("struct S {\n    #[cfg(test)]\n    a: u8,\n    b: HashMap<u8, u8>,\n}", &[(4, "HashMap")]);
    }

    #[test]
    fn a_module_behind_a_shell_feature_is_named() {
        let text = "mod a;\n#[cfg(feature = \"disk\")]\npub mod segment;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod inline { mod deep; }\n#[cfg(feature = \"json\")]\nmod c;";
        assert_eq!(gated_modules(text), ["segment", "tests"]);
    }
}
