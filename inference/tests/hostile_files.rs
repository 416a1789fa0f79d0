//! Real model and adapter files, damaged by a seeded loop: whatever a stranger's file says, it is loaded or refused in words, and costs memory in
//! proportion to its bytes. Each loop runs for a fixed time; a failure names the case, which is all that is needed to repeat it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use inference::{
    Message, ModelInfo, Role,
    adapter::{AdapterFiles, CONFIG_FILE, Lora, Packed8, WEIGHTS_FILE},
    embedder::Embedder,
    gguf::{GgufFile, Header},
    model::{Cache, Model, template::ChatTemplate},
    tiny::{self, families::Tiny},
};
use serde_json::{Value, json};

/// How long each loop damages files.
const FOR: Duration = Duration::from_secs(4);
/// Most address space that a loop may add to what loading the whole file once took: the file has 118 kB.
const GROWTH_MAX_KB: u64 = 256 << 10;

/// `SplitMix64`.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// A damaged copy: one to three changes, most of them in the first `head` bytes, where a file says what the rest means.
fn damaged(whole: &[u8], head: usize, stream: &mut Stream) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=stream.below(3) {
        let end = if stream.below(8) == 0 { bytes.len() } else { head.min(bytes.len()) };
        let at = stream.below(end);
        let rest = bytes.len() - at;
        match stream.below(7) {
            0 => bytes[at] = u8::try_from(stream.below(256)).unwrap(),
            1 => bytes[at] ^= 1 << stream.below(8),
            // A number of eight bytes where one may stand: huge, just out of range, or small.
            2 if rest >= 8 => {
                let value = [u64::MAX, u64::MAX / 2, 1 << 40, 1 << 32, 1 << 24, 70_000, 0][stream.below(7)];
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            3 if rest >= 4 => bytes[at..at + 4].copy_from_slice(&[u32::MAX, 1 << 30, 1 << 20, 0][stream.below(4)].to_le_bytes()),
            4 => bytes.truncate(at),
            5 => {
                let length = stream.below(16).min(rest);
                bytes.drain(at..at + length);
            }
            _ => {
                let length = stream.below(16).min(rest);
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Largest address space that this process has had, kB.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Damages `whole` until the time is up; `load` says whether it was taken. Returns how often it was refused and taken.
fn damage(whole: &[u8], head: usize, mut load: impl FnMut(&[u8]) -> bool) -> [u64; 2] {
    assert!(load(whole), "the whole file is taken");
    let (before, started, mut counts) = (peak_kb(), Instant::now(), [0, 0]);
    for case in 0_u64.. {
        if started.elapsed() > FOR {
            break;
        }
        let bytes = damaged(whole, head, &mut Stream(case));
        let taken = catch_unwind(AssertUnwindSafe(|| load(&bytes))).unwrap_or_else(|_| panic!("case {case} panics"));
        counts[usize::from(taken)] += 1;
        let growth = peak_kb() - before;
        assert!(growth <= GROWTH_MAX_KB, "case {case}: a file of {} bytes takes {growth} kB", bytes.len());
    }
    counts
}

/// Loads a model and, if it is taken, does with it what a question does.
fn ask(path: &Path) -> Result<(), String> {
    let (model, text) = Model::load(path, None).map_err(|error| error.to_string())?;
    let turn = Message { role: Role::User, content: "What is gout?".to_owned() };
    // A template or a vocabulary that cannot say it refuses here.
    let Ok(prompt) = text.template.render(&text.tokenizer, &[turn], true) else { return Ok(()) };
    let Ok(tokens) = text.tokenizer.encode(&prompt) else { return Ok(()) };
    let tokens = &tokens[..tokens.len().min(16)];
    if let Ok(logits) = model.forward(tokens, &mut Cache::new(model.config()), None) {
        assert_eq!(logits.len(), model.config().vocabulary);
    }
    Ok(())
}

#[test]
fn every_cut_in_a_models_header_is_refused_as_a_cut() {
    let whole = tiny::model_bytes(1);
    let head = whole.len() - tensor_bytes(&whole);
    for length in 0..head {
        let error = Header::parse(&whole[..length], u64::try_from(length).unwrap()).expect_err("a cut file").to_string();
        assert!(error.contains("the file is cut off"), "cut at {length}: {error}");
    }
}

/// Bytes from the first tensor on.
fn tensor_bytes(whole: &[u8]) -> usize {
    let header = Header::parse(whole, u64::try_from(whole.len()).unwrap()).unwrap();
    let first = header.tensors.values().map(|tensor| tensor.offset).min().unwrap();
    whole.len() - usize::try_from(first).unwrap()
}

#[test]
fn a_damaged_model_is_refused_or_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gguf");
    let whole = tiny::model_bytes(1);
    let head = whole.len() - tensor_bytes(&whole);
    let [refused, taken] = damage(&whole, head, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let outcome = ask(&path);
        assert!(!matches!(&outcome, Err(words) if words.is_empty()));
        outcome.is_ok()
    });
    println!("{refused} damaged models were refused, {taken} were taken");
    assert!(refused > 0 && taken > 0, "the damage is neither always fatal nor never: {refused} refused, {taken} taken");
}

#[test]
fn a_damaged_model_of_any_family_is_refused_or_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gguf");
    let whole = [Tiny::Llama3, Tiny::Qwen2, Tiny::Qwen3].map(|tiny| tiny.bytes(1, 1));
    let mut turn = 0;
    let [refused, taken] = damage(&whole[0], 1, |_| {
        let whole = &whole[turn % whole.len()];
        let head = whole.len() - tensor_bytes(whole);
        let hurt = if turn < 3 { whole.clone() } else { damaged(whole, head, &mut Stream(turn as u64)) };
        turn += 1;
        std::fs::write(&path, hurt).unwrap();
        ask(&path).is_ok()
    });
    println!("{refused} damaged models were refused, {taken} were taken");
    assert!(refused > 0 && taken >= 2, "the whole ones at least are taken: {refused} refused, {taken} taken");
}

fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models")
}

/// Copies of the published folders in one, and all their files.
fn copied() -> (tempfile::TempDir, Vec<(PathBuf, Vec<u8>)>) {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for of in ["qwen2", "llama3"] {
        std::fs::create_dir(folder.path().join(of)).unwrap();
        for entry in std::fs::read_dir(published().join(of)).unwrap() {
            let entry = entry.unwrap();
            let (path, bytes) = (folder.path().join(of).join(entry.file_name()), std::fs::read(entry.path()).unwrap());
            std::fs::write(&path, &bytes).unwrap();
            files.push((path, bytes));
        }
    }
    files.sort();
    (folder, files)
}

/// Loads the folder of a file.
fn ask_beside(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap();
    ask(folder).inspect_err(|words| assert!(words.contains(folder.to_str().unwrap()), "{words}"))
}

/// Changes one file after the other by `change`, which is given the file's bytes and the number of the turn, and has its folder loaded.
fn damage_files(
    files: &[(PathBuf, Vec<u8>)],
    load: impl Fn(&Path) -> Result<(), String>,
    change: impl Fn(&Path, &[u8], u64) -> Vec<u8>,
) -> [u64; 2] {
    let mut turn = 0;
    damage(&files[0].1, 1, |_| {
        let (path, bytes) = &files[turn % files.len()];
        // The first time the files are as they were published.
        if turn > 0 {
            std::fs::write(path, change(path, bytes, turn as u64)).unwrap();
        }
        let outcome = load(path);
        std::fs::write(path, bytes).unwrap();
        turn += 1;
        assert!(!matches!(&outcome, Err(words) if words.is_empty()), "turn {turn}, {}", path.display());
        outcome.is_ok()
    })
}

#[test]
fn a_folder_with_a_damaged_file_is_refused_or_answers() {
    let (_folder, files) = copied();
    let [refused, taken] = damage_files(&files, ask_beside, |path, bytes, turn| {
        let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
        damaged(bytes, if is_weights { 8 + 2_000.min(bytes.len()) } else { bytes.len() }, &mut Stream(turn))
    });
    println!("{refused} damaged folders were refused, {taken} were taken");
    assert!(refused > 0 && taken > 0);
}

/// Puts something else in place of one value of a file of JSON: what is refused then is the meaning, not the form.
fn mangle(value: &mut Value, stream: &mut Stream) {
    let count = match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if count > 0 && stream.below(8) != 0 {
        let index = stream.below(count);
        return match value {
            Value::Array(items) => mangle(&mut items[index], stream),
            Value::Object(fields) => mangle(fields.values_mut().nth(index).unwrap(), stream),
            _ => unreachable!("it has items"),
        };
    }
    *value = match stream.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(u64::MAX),
        3 => json!(-1),
        4 => json!(1e300),
        5 => json!(stream.below(300)),
        6 => json!("\u{10ffff}\u{0}"),
        7 => json!(""),
        8 => json!([]),
        9 => json!({}),
        10 => json!([[[{ "a": [null] }]]]),
        _ => json!(1_u64 << stream.below(40)),
    };
}

/// A file of JSON with something else in place of one value.
fn mangled(bytes: &[u8], turn: u64) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    mangle(&mut value, &mut Stream(turn));
    value.to_string().into_bytes()
}

#[test]
fn a_folder_whose_settings_say_something_else_is_refused_or_answers() {
    let (_folder, files) = copied();
    let json: Vec<_> = files.into_iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "json")).collect();
    let [refused, taken] = damage_files(&json, ask_beside, |_, bytes, turn| mangled(bytes, turn));
    println!("{refused} changed folders were refused, {taken} were taken");
    assert!(refused > 0 && taken > 0);
}

/// A copy of a small sentence encoder with a file of limits, and all its files.
fn encoder() -> (tempfile::TempDir, Vec<(PathBuf, Vec<u8>)>) {
    let (folder, published) = (tempfile::tempdir().unwrap(), published().join("../embeddings/tiny-bert"));
    std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    let limits = json!({ "max_seq_length": 48, "do_lower_case": true }).to_string().into_bytes();
    let mut files = vec![(folder.path().join("sentence_bert_config.json"), limits)];
    for name in ["config.json", "tokenizer.json", "modules.json", "model.safetensors", "1_Pooling/config.json"] {
        files.push((folder.path().join(name), std::fs::read(published.join(name)).unwrap()));
    }
    for (path, bytes) in &files {
        std::fs::write(path, bytes).unwrap();
    }
    (folder, files)
}

/// Loads an encoder and, if it is taken, has it read what a stranger may send.
fn embed(folder: &Path) -> Result<(), String> {
    let embedder = Embedder::open(folder).map_err(|error| error.to_string())?;
    let texts = ["What is gout?", "", "[SEP] [CLS]\u{0}\u{fffd} Ümläut 痛風 x\u{301}", "gout gout gout gout gout gout gout gout"];
    // A vector, or words.
    match embedder.embed(&texts.map(str::to_owned), || true) {
        Ok(embeddings) => assert!(embeddings.vectors.iter().flatten().all(|number| number.is_finite())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

#[test]
fn an_encoder_with_a_damaged_file_is_refused_or_reads_texts() {
    let (folder, files) = encoder();
    let [refused, taken] = damage_files(
        &files,
        |_| embed(folder.path()),
        |path, bytes, turn| {
            let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
            damaged(bytes, if is_weights { 8 + 2_000.min(bytes.len()) } else { bytes.len() }, &mut Stream(turn))
        },
    );
    println!("{refused} damaged encoders were refused, {taken} were taken");
    assert!(refused > 0 && taken > 0);
}

#[test]
fn an_encoder_whose_settings_say_something_else_is_refused_or_reads_texts() {
    let (folder, files) = encoder();
    let json: Vec<_> = files.into_iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "json")).collect();
    let [refused, taken] = damage_files(&json, |_| embed(folder.path()), |_, bytes, turn| mangled(bytes, turn));
    println!("{refused} changed encoders were refused, {taken} were taken");
    assert!(refused > 0 && taken > 0);
}

#[test]
fn a_damaged_template_is_refused_or_writes_within_its_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny::write_model(&path, 1).unwrap();
    let tokenizer = Model::load(&path, None).unwrap().1.tokenizer;
    let chats: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(published().join("chats.json")).unwrap()).unwrap();
    let sources: Vec<&str> = chats.values().map(|chat| chat["template"].as_str().unwrap()).collect();
    let turns: Vec<Message> = (0..6)
        .map(|turn| Message { role: if turn % 2 == 0 { Role::User } else { Role::Assistant }, content: "x</think>".repeat(200) })
        .collect();
    let whole = sources.concat();
    let mut turn = 0u64;
    let [refused, taken] = damage(whole.as_bytes(), whole.len(), |_| {
        turn += 1;
        let stream = &mut Stream(turn);
        let mut bytes = sources[stream.below(sources.len())].as_bytes().to_vec();
        // A piece of one template in another: names and tags stay whole more often than when bytes change.
        if turn > 1 {
            let other = sources[stream.below(sources.len())].as_bytes();
            let from = stream.below(other.len());
            let piece = &other[from..(from + stream.below(200)).min(other.len())];
            let at = stream.below(bytes.len());
            let end = (at + stream.below(60)).min(bytes.len());
            bytes.splice(at..end, piece.iter().copied());
            if stream.below(3) == 0 {
                bytes = damaged(&bytes, bytes.len(), stream);
            }
        }
        let source = String::from_utf8_lossy(&bytes);
        let Ok(template) = ChatTemplate::new(Some(&source), String::new(), String::new()) else { return false };
        template.render(&tokenizer, &turns, true).is_ok()
    });
    println!("{refused} damaged templates were refused, {taken} rendered");
    assert!(refused > 0 && taken > 0);
}

#[test]
fn damaged_matrices_are_refused_or_fit() {
    let (folder, info) = bench();
    let config = std::fs::read(folder.path().join("a").join(CONFIG_FILE)).unwrap();
    let whole = std::fs::read(folder.path().join("a").join(WEIGHTS_FILE)).unwrap();
    let head = 8 + usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let [refused, taken] = damage(&whole, head, |bytes| {
        let files = AdapterFiles::from_bytes("damaged".to_owned(), &config, bytes.to_vec(), None).unwrap();
        let fits = Lora::new(&files, &info);
        assert!(files.check().is_ok() || fits.is_err(), "what does not pass the first check is never applied");
        fits.is_ok()
    });
    println!("{refused} damaged adapters were refused, {taken} were taken");
    assert!(refused > 0);
}

#[test]
fn damaged_gguf_adapters_are_refused_or_fit() {
    let (_folder, info) = bench();
    let whole = tiny::adapters::gguf_adapter_bytes(None, 4, 9);
    let head = whole.len() - tensor_bytes(&whole);
    let [refused, taken] = damage(&whole, head, |bytes| {
        let Ok(files) = AdapterFiles::from_gguf("damaged".to_owned(), bytes.to_vec(), None) else { return false };
        let fits = Lora::new(&files, &info);
        assert!(files.check().is_ok() || fits.is_err(), "what does not pass the first check is never applied");
        assert!(fits.is_ok() || Packed8::new(&files, &info).is_err(), "packed or not, it is refused");
        fits.is_ok()
    });
    println!("{refused} damaged adapters were refused, {taken} were taken");
    assert!(refused > 0 && taken > 0);
}

#[test]
fn damaged_settings_are_refused_or_read() {
    let (folder, info) = bench();
    let weights = std::fs::read(folder.path().join("a").join(WEIGHTS_FILE)).unwrap();
    let whole = std::fs::read(folder.path().join("a").join(CONFIG_FILE)).unwrap();
    let [refused, _] = damage(&whole, whole.len(), |bytes| {
        AdapterFiles::from_bytes("damaged".to_owned(), bytes, weights.clone(), None).is_ok_and(|files| Lora::new(&files, &info).is_ok())
    });
    assert!(refused > 0);
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    for path in ["/dev/zero", "/dev/null", "/proc"] {
        let error = GgufFile::open(Path::new(path)).unwrap_err().to_string();
        assert!(error.contains(path) && error.contains("not a regular file"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("link.gguf")).unwrap();
    assert!(GgufFile::open(&folder.path().join("link.gguf")).is_err());
    std::os::unix::fs::symlink("/dev/zero", folder.path().join(CONFIG_FILE)).unwrap();
    let error = AdapterFiles::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains(CONFIG_FILE) && error.contains("not a regular file"), "{error}");
}

fn bench() -> (tempfile::TempDir, ModelInfo) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny::write_model(&path, 1).unwrap();
    let info = Model::load(&path, None).unwrap().0.info().clone();
    tiny::write_adapter(&folder.path().join("a"), None, 4, 9).unwrap();
    (folder, info)
}
