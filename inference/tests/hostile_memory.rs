//! What files and frames of strangers cost in memory where every number in them lies: counted by the allocator, a small multiple of their bytes.
//!
//! `hostile_files.rs` damages at random and looks at the process from outside; here every place is tried. In binary heads each byte in turn begins a
//! number of four or eight bytes that says too much, in JSON each leaf and each list is put in the place of such a number, in frames each byte begins
//! the longest lengths there are. Whether a file is refused or taken, while it is read no more is held than its kind's share. Then it is not only read:
//! the model is planned, the adapter packed, the template rendered.
//!
//! One test, because the count is the process's. Nothing is drawn: cases are numbered, and the failure names the place. Cost: 6 s of processor.
#![allow(clippy::unwrap_used, missing_docs)]

mod counting;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use counting::peak;
use inference::adapter::{AdapterFiles, CONFIG_FILE, Packed8, WEIGHTS_FILE};
use inference::gguf::{GgufFile, Header};
use inference::model::files::{ModelFiles, SafetensorsFile};
use inference::model::stored::{StoredFrame, StoredLayer};
use inference::model::template::ChatTemplate;
use inference::proto::message::{FromClient, FromNode};
use inference::tiny::{self, families::Tiny};
use inference::{Message, ModelInfo, Role};
use serde_json::Value;
use types::options::Options;

/// Held whatever a file has: a buffer of 64 KiB to read through, and tables of a tokenizer or an engine of templates.
const BUFFERED: usize = 80 << 10;
/// Numbers that say too much: in eight bytes and in four.
const EIGHT: [u64; 7] = [u64::MAX, u64::MAX / 2, 1 << 40, 1 << 32, 1 << 24, 1 << 20, 70_000];
const FOUR: [u32; 4] = [u32::MAX, 1 << 30, 1 << 24, 1 << 20];
/// The same as they stand in JSON, and what has another type.
const WORDS: [&str; 12] =
    ["18446744073709551615", "9007199254740993", "4294967296", "16777216", "70000", "-1", "1e300", "0", "null", "\"\"", "[]", "{}"];

/// Cases of one kind.
struct Kind {
    name: &'static str,
    /// How many times its bytes may be held, and how many bytes beside them.
    bound: (usize, usize),
    refused: u32,
    taken: u32,
    /// The most that was held and of how many bytes, where it was the largest share of what may be.
    worst: (usize, usize),
}

impl Kind {
    fn new(name: &'static str, times: usize, flat: usize) -> Self {
        Self { name, bound: (times, flat), refused: 0, taken: 0, worst: (0, 1) }
    }

    fn most(&self, bytes: usize) -> usize {
        self.bound.0 * bytes + self.bound.1
    }

    /// Reads `bytes` bytes by `read`, which says whether they were taken.
    fn case(&mut self, place: impl std::fmt::Display, bytes: usize, read: impl FnOnce() -> bool) {
        let (held, is_taken) = peak(read);
        *if is_taken { &mut self.taken } else { &mut self.refused } += 1;
        assert!(held <= self.most(bytes), "{}, {place}: {held} bytes held for {bytes}", self.name);
        if held * self.most(self.worst.1) > self.worst.0 * self.most(bytes) {
            self.worst = (held, bytes);
        }
    }

    /// Says what was seen. Cases that are all refused, or all taken, would have tried nothing.
    fn end(self) {
        let Self { name, refused, taken, worst: (held, bytes), bound: (times, flat) } = self;
        println!("{name}: {refused} refused, {taken} taken; at worst {held} bytes held for {bytes}, {times} times and {flat} may be");
        assert!(refused > 0 && taken > 0, "{name}: {refused} refused, {taken} taken");
    }
}

/// `whole` with each number in turn at each byte of its first `head` that is a multiple of `stride`; calls `each` with the place.
fn numbers(whole: &[u8], head: usize, stride: usize, mut each: impl FnMut(&str, &[u8])) {
    for at in (0..head).step_by(stride) {
        let values = EIGHT.iter().map(|value| value.to_le_bytes().to_vec()).chain(FOUR.iter().map(|value| value.to_le_bytes().to_vec()));
        for value in values {
            let Some(end) = Some(at + value.len()).filter(|end| *end <= whole.len()) else { continue };
            let mut bytes = whole.to_vec();
            bytes[at..end].copy_from_slice(&value);
            each(&format!("byte {at} as {value:02x?}"), &bytes);
        }
    }
}

/// Places of a JSON text at which a value begins and ends: leaves, and lists and objects whole; every `stride`th.
fn places(value: &Value, stride: usize) -> Vec<String> {
    fn walk(value: &Value, pointer: &str, out: &mut Vec<String>) {
        out.push(pointer.to_owned());
        match value {
            Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| walk(item, &format!("{pointer}/{at}"), out)),
            Value::Object(fields) => {
                for (name, item) in fields {
                    walk(item, &format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")), out);
                }
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(value, "", &mut out);
    out.into_iter().step_by(stride).collect()
}

/// A JSON text with each of the words in the place of every `stride`th value of it.
fn words(text: &[u8], stride: usize, mut each: impl FnMut(&str, &[u8])) {
    let whole: Value = serde_json::from_slice(text).unwrap();
    for pointer in places(&whole, stride) {
        for word in WORDS {
            let mut value = whole.clone();
            *value.pointer_mut(&pointer).unwrap() = serde_json::from_str(word).unwrap();
            each(&format!("{pointer} as {word}"), value.to_string().as_bytes());
        }
    }
}

/// Bytes before the first tensor of a GGUF file.
fn head_of(whole: &[u8]) -> usize {
    let header = Header::parse(whole, whole.len() as u64).unwrap();
    usize::try_from(header.tensors.values().map(|tensor| tensor.offset).min().unwrap()).unwrap()
}

/// Reads all of a model: settings, weights a layer at a time, tokenizer and template.
fn read(path: &Path) -> bool {
    let all = || {
        let files = ModelFiles::open(path)?;
        let config = files.config()?;
        files.check(&config)?;
        drop(StoredFrame::read(&files, &config)?);
        for layer in 0..config.layers {
            drop(StoredLayer::read(&files, &config, layer)?);
        }
        files.text(&config).map(drop)
    };
    all().is_ok()
}

/// GGUF models: the head alone at every byte, the whole model at some.
fn models(folder: &Path) {
    let whole = tiny::model_bytes(1);
    let head = head_of(&whole);
    let mut heads = Kind::new("heads of GGUF files", 2, 1 << 10);
    // Only the head is there to be read; what it promises is measured by the length of the file.
    numbers(&whole[..head], head, 1, |place, bytes| {
        heads.case(place, whole.len(), || Header::parse(bytes, whole.len() as u64).is_ok());
    });
    heads.end();
    let mut models = Kind::new("GGUF models", 2, BUFFERED);
    let path = folder.join("model.gguf");
    for tiny in Tiny::ALL {
        let whole = tiny.bytes(1, 1);
        // Numbers stand at any byte: a stride that is prime meets each sort of place.
        numbers(&whole, head_of(&whole), 61, |place, bytes| {
            // What the head refuses was tried above.
            if Header::parse(bytes, bytes.len() as u64).is_ok() {
                fs::write(&path, bytes).unwrap();
                models.case(format!("{tiny}, {place}"), bytes.len(), || read(&path));
            }
        });
    }
    fs::write(&path, b"GGUF").unwrap();
    models.case("a cut one", 4, || GgufFile::open(&path).is_ok());
    models.end();
}

/// Folders of safetensors: the files' heads and every setting.
fn folders(folder: &Path) {
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models");
    for (of, name) in [("qwen2", "folder of qwen2"), ("llama3", "folder of llama3")] {
        let mut kind = Kind::new(name, 3, BUFFERED);
        let copy = folder.join(of);
        fs::create_dir(&copy).unwrap();
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for entry in fs::read_dir(published.join(of)).unwrap() {
            let entry = entry.unwrap();
            files.push((copy.join(entry.file_name()), fs::read(entry.path()).unwrap()));
        }
        files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let all: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        kind.case("as it was published", all, || read(&copy));
        for (path, whole) in &files {
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let mut one = |place: &str, bytes: &[u8]| {
                fs::write(path, bytes).unwrap();
                kind.case(format!("{file}, {place}"), all, || read(&copy));
            };
            if file.ends_with("json") {
                // A tokenizer has thousands of values of three sorts.
                words(whole, if file == "tokenizer.json" { 41 } else { 1 }, &mut one);
            } else {
                weights(whole, 3, &mut one);
            }
            fs::write(path, whole).unwrap();
        }
        kind.end();
    }
    let mut kind = Kind::new("heads of safetensors files", 2, BUFFERED);
    let path = folder.join("one.safetensors");
    let whole = fs::read(published.join("llama3/model.safetensors")).unwrap();
    let mut one = |place: &str, bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        kind.case(place, bytes.len(), || SafetensorsFile::open(&path).is_ok());
    };
    one("whole", &whole);
    weights(&whole, 1, &mut one);
    kind.end();
}

/// A file of safetensors with other numbers in its head, and with other lengths of it.
fn weights(whole: &[u8], stride: usize, mut each: impl FnMut(&str, &[u8])) {
    let head = 8 + usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    words(&whole[8..head], stride, |place, json| {
        each(place, &[&(json.len() as u64).to_le_bytes(), json, &whole[head..]].concat());
    });
    numbers(whole, 8, 1, each);
}

/// Adapters in both formats, packed if they are taken.
fn adapters(folder: &Path) {
    let path = folder.join("tiny.gguf");
    tiny::write_model(&path, 1).unwrap();
    let info = ModelInfo::read(&GgufFile::open(&path).unwrap()).unwrap();
    let dir = folder.join("adapter");
    tiny::write_adapter(&dir, None, 4, 9).unwrap();
    let (config, matrices) = (fs::read(dir.join(CONFIG_FILE)).unwrap(), fs::read(dir.join(WEIGHTS_FILE)).unwrap());
    let peft = |config: &[u8], matrices: &[u8]| {
        AdapterFiles::from_bytes("a".to_owned(), config, matrices.to_vec(), None).is_ok_and(|files| Packed8::new(&files, &info).is_ok())
    };
    let mut kind = Kind::new("adapters of PEFT", 4, 4 << 10);
    words(&config, 1, |place, config| kind.case(place, config.len() + matrices.len(), || peft(config, &matrices)));
    weights(&matrices, 1, |place, matrices| kind.case(place, config.len() + matrices.len(), || peft(&config, matrices)));
    kind.end();
    let mut kind = Kind::new("adapters of llama.cpp", 4, 4 << 10);
    let whole = tiny::adapters::gguf_adapter_bytes(None, 4, 9);
    numbers(&whole, head_of(&whole), 1, |place, bytes| {
        kind.case(place, bytes.len(), || {
            AdapterFiles::from_gguf("a".to_owned(), bytes.to_vec(), None).is_ok_and(|files| Packed8::new(&files, &info).is_ok())
        });
    });
    kind.end();
}

/// Templates of four families: each word and sign of each in turn is doubled, left out, or made a large number, and six messages are rendered.
fn templates(folder: &Path) {
    let path = folder.join("tiny.gguf");
    tiny::write_model(&path, 1).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    let tokenizer = files.text(&files.config().unwrap()).unwrap().tokenizer;
    let chats = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models/chats.json");
    let chats: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(chats).unwrap()).unwrap();
    let turns: Vec<Message> = (0..6)
        .map(|turn| Message { role: if turn % 2 == 0 { Role::User } else { Role::Assistant }, content: "x</think>".repeat(200) })
        .collect();
    let said: usize = turns.iter().map(|turn| turn.content.len()).sum();
    let mut kind = Kind::new("chat templates", 12, BUFFERED);
    for (name, chat) in &chats {
        let source = chat["template"].as_str().unwrap();
        let pieces: Vec<&str> = source.split_inclusive(|c: char| !c.is_alphanumeric()).collect();
        for at in 0..pieces.len() {
            for (what, other) in [("doubled", pieces[at].repeat(2)), ("left out", String::new()), ("a number", "4294967296 ".to_owned())] {
                let changed = [pieces[..at].concat(), other, pieces[at + 1..].concat()].concat();
                kind.case(format!("{name}, piece {at} {what}"), said + changed.len(), || {
                    ChatTemplate::new(Some(&changed), String::new(), String::new())
                        .is_ok_and(|template| template.render(&tokenizer, &turns, true).is_ok())
                });
            }
        }
    }
    kind.end();
}

/// Messages and options: at each byte of real ones the longest lengths in the wire's form (seven bits to a byte), and every cut.
fn frames() {
    let lengths: [&[u8]; 5] = [&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff, 0xff, 0xff, 0x7f], &[0x80, 0x80, 0x40], &[0xff, 0x7f], &[0xff; 9]];
    let options = Options {
        bias: (0..40).map(|token| (token, -5)).collect(),
        stop: vec!["a".into(), "stop here".into()],
        grammar: Some(types::options::Grammar::new(types::options::GrammarKind::Lark, "start: \"a\"")),
        ..Options::default()
    };
    let told = inference::proto::message::Told { bytes: b" is".to_vec(), ln_ppm: -5 };
    let token = FromNode::Token { index: 3, id: 40_000, bytes: b" gout".to_vec(), told: vec![told; 5] };
    let wire = postcard::to_allocvec(&token).unwrap();
    let mut kind = Kind::new("frames", 12, 256);
    for whole in [wire, options.encode()] {
        for at in 0..=whole.len() {
            for length in lengths.into_iter().chain([&[][..]]) {
                let bytes =
                    [&whole[..at], length, whole.get(at + length.len()..).filter(|_| !length.is_empty()).unwrap_or_default()].concat();
                kind.case(format!("byte {at} as {length:02x?}"), bytes.len(), || {
                    let client = FromClient::decode(&bytes).is_ok();
                    let node = FromNode::decode(&bytes).is_ok();
                    Options::decode(&bytes).is_ok() || client || node
                });
            }
        }
    }
    kind.end();
}

#[test]
fn no_number_in_a_file_or_a_frame_makes_its_reader_hold_more_than_a_small_multiple_of_it() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    folders(folder.path());
    adapters(folder.path());
    templates(folder.path());
    frames();
}
