//! Bundles of honest answers and of lies about them, in `tests/fixtures/bundles`: this crate's verifier and the one in Python
//! (`tests/fixtures/verify_bundle.py --check`) read the same files and must name the same fields.
//!
//! `TRIBUTARY_WRITE_FIXTURES=1 cargo test -p attribution --test bundles` writes them; all of it is deterministic, signatures too (RFC 6979).

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod honest;
mod lies;

use std::{collections::BTreeMap, fs, path::PathBuf};

use attribution::bundle::{Bundle, BundleError, verify};

/// The bundle as a file: on one line, since nobody reads it by eye.
fn json(bundle: &Bundle) -> String {
    serde_json::to_string(bundle).unwrap() + "\n"
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/bundles")
}

/// Every field that is named, in the order of the checks, each once; none if the bundle stands.
fn fields(file: &[u8]) -> Vec<String> {
    let named = match Bundle::from_json(file) {
        Ok(bundle) => verify(&bundle).err().map_or_else(Vec::new, |faults| faults.0.into_iter().map(|fault| fault.field).collect()),
        Err(BundleError::Json { place, .. }) if !place.is_empty() => vec![place.trim_end_matches(": ").to_owned()],
        Err(_) => vec!["file".to_owned()],
    };
    let mut once: Vec<String> = Vec::new();
    named.into_iter().for_each(|field| {
        if !once.contains(&field) {
            once.push(field)
        }
    });
    once
}

/// Name and content of every file, and the fields that are named in it.
fn made() -> (BTreeMap<String, String>, BTreeMap<String, Vec<String>>) {
    let (mut files, mut expected) = (BTreeMap::new(), BTreeMap::new());
    let honest = honest::all();
    let mut wrong = Vec::new();
    let honest_files = honest.iter().map(|(name, bundle)| (format!("honest-{name}"), None, json(bundle)));
    for (name, first, file) in honest_files
        .chain(lies::all(&honest).into_iter().map(|(name, field, file)| (name, Some(field).filter(|field| *field != lies::STANDS), file)))
    {
        let named = fields(file.as_bytes());
        if named.first().map(String::as_str) != first {
            wrong.push(format!("{name}: {named:?}, expected {first:?} first"));
        }
        assert!(files.insert(format!("{name}.json"), file).is_none(), "{name} is there twice");
        expected.insert(format!("{name}.json"), named);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    files.insert("expected.json".to_owned(), serde_json::to_string_pretty(&expected).unwrap() + "\n");
    (files, expected)
}

#[test]
fn the_committed_bundles_are_what_this_code_makes_and_each_lie_is_named_by_its_field() {
    let (files, _) = made();
    if std::env::var_os("TRIBUTARY_WRITE_FIXTURES").is_some() {
        fs::create_dir_all(folder()).unwrap();
        for old in fs::read_dir(folder()).unwrap() {
            fs::remove_file(old.unwrap().path()).unwrap();
        }
        files.iter().for_each(|(name, file)| fs::write(folder().join(name), file).unwrap());
    }
    for (name, file) in &files {
        let is_same = fs::read_to_string(folder().join(name)).is_ok_and(|committed| committed == *file);
        assert!(is_same, "{name} is another: run this test with TRIBUTARY_WRITE_FIXTURES=1 and tests/fixtures/verify_bundle.py --check");
    }
    let committed = fs::read_dir(folder()).unwrap().count();
    assert_eq!(committed, files.len(), "a file lies in the folder that this code does not make");
}

#[test]
fn the_committed_files_are_accepted_and_refused_as_the_list_beside_them_says() {
    let expected: BTreeMap<String, Vec<String>> = serde_json::from_slice(&fs::read(folder().join("expected.json")).unwrap()).unwrap();
    let differing: Vec<_> =
        expected.iter().filter(|(name, named)| fields(&fs::read(folder().join(name)).unwrap()) != **named).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "{differing:?}");
    let honest = expected.iter().filter(|(name, _)| name.starts_with("honest-"));
    assert!(honest.clone().count() >= 6 && honest.into_iter().all(|(_, named)| named.is_empty()));
}
