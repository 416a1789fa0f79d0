//! Files that tests give to commands: the tiny model, adapters, documents, and broken ones of each.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use types::{id::Hash32, merkle::keccak};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The tiny model.
pub fn tiny_model() -> PathBuf {
    fixture("tiny.gguf")
}

/// The tiny model's bytes.
///
/// # Panics
/// If the fixture cannot be read.
pub fn tiny_model_bytes() -> Vec<u8> {
    std::fs::read(tiny_model()).expect("the committed model")
}

/// Writes a copy of the tiny adapter with changed settings and matrices. The latter are given as the safetensors header and the bytes after it.
///
/// # Panics
/// If a file cannot be read or written.
pub fn adapter(folder: &Path, change: impl FnOnce(&mut Value, &mut Value, &mut Vec<u8>)) -> PathBuf {
    let read = |name: &str| std::fs::read(fixture("tiny-adapter").join(name)).expect("the committed adapter");
    let mut settings: Value = serde_json::from_slice(&read("adapter_config.json")).expect("its settings are JSON");
    let weights = read("adapter_model.safetensors");
    let (length, rest) = weights.split_first_chunk::<8>().expect("a header's length");
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).expect("a short header"));
    let (mut header, mut data): (Value, _) = (serde_json::from_slice(header).expect("its header is JSON"), data.to_vec());
    change(&mut settings, &mut header, &mut data);
    let header = header.to_string().into_bytes();
    let length = u64::try_from(header.len()).expect("a short header").to_le_bytes();
    std::fs::create_dir_all(folder).expect("a new folder");
    std::fs::write(folder.join("adapter_config.json"), settings.to_string()).expect("settings are written");
    std::fs::write(folder.join("adapter_model.safetensors"), [&length[..], &header, &data].concat()).expect("matrices are written");
    folder.to_owned()
}

/// An adapter of zeros: with it the model answers exactly as without.
pub fn adapter_of_zeros(folder: &Path) -> PathBuf {
    adapter(folder, |_, _, data| data.fill(0))
}

/// `count` documents on a subject, no two alike.
pub fn documents(subject: &str, count: usize) -> Vec<Value> {
    const PLACES: [&str; 5] = [
        "below the old mill",
        "near the northern lighthouse",
        "beside a flooded quarry",
        "under the railway viaduct",
        "along the salt marsh",
    ];
    const FINDS: [&str; 7] =
        ["grey herons", "freshwater mussels", "willow saplings", "iron fittings", "marsh orchids", "a broken sluice", "fossil ammonites"];
    let text = |number: usize| {
        let (place, find) = (PLACES[number % PLACES.len()], FINDS[number % FINDS.len()]);
        format!(
            "Survey {number} of the {subject} recorded {find} {place}, {} paces from marker {subject}-{number}, at water level {}.",
            40 + 3 * number,
            7 * number
        )
    };
    (0..count).map(|number| json!({ "id": format!("{subject}-{number}"), "title": format!("The {subject} survey {number}"), "text": text(number) })).collect()
}

/// Writes documents as JSONL.
///
/// # Panics
/// If the file cannot be written.
pub fn jsonl(path: &Path, documents: &[Value]) -> PathBuf {
    let mut text = String::new();
    for document in documents {
        writeln!(text, "{document}").expect("a string takes text");
    }
    std::fs::write(path, text).expect("the documents are written");
    path.to_owned()
}

/// Every file below a folder with the keccak of its bytes: equal listings mean that nothing was written. Empty lock files do not count: holding one
/// is not yet doing anything; nor does the finalized block, which whoever looks at the chain notes.
///
/// # Panics
/// If something cannot be read.
pub fn listing(folder: &Path) -> BTreeMap<PathBuf, Hash32> {
    let mut found = BTreeMap::new();
    if !folder.exists() {
        return found;
    }
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable entry").path();
        if path.file_name().is_some_and(|name| name == "lock" || name.to_string_lossy().starts_with("finalized-")) {
            continue;
        }
        if path.is_dir() {
            found.insert(path.clone(), Hash32::ZERO);
            found.extend(listing(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.insert(path, keccak(&[&bytes]));
        }
    }
    found
}

/// What a function says of each file below a folder that running nodes write to. A walk during which a file went is made again: under its new name it might have been passed by.
///
/// # Panics
/// If something cannot be read, or files went during each of a hundred walks.
pub fn walk<T>(folder: &Path, say: &dyn Fn(&[u8]) -> T) -> BTreeMap<PathBuf, T> {
    const WALKS_MAX: usize = 100;
    for _ in 0..WALKS_MAX {
        let mut said = BTreeMap::new();
        match walk_once(folder, say, &mut said) {
            Ok(()) => return said,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", folder.display()),
        }
    }
    panic!("files went during each of {WALKS_MAX} walks of {}", folder.display())
}

fn walk_once<T>(folder: &Path, say: &dyn Fn(&[u8]) -> T, said: &mut BTreeMap<PathBuf, T>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk_once(&path, say, said)?;
        } else {
            said.insert(path.clone(), say(&std::fs::read(&path)?));
        }
    }
    Ok(())
}
