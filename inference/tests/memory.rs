//! What reading a model's files costs in memory, counted by the allocator: a small multiple of their bytes, whatever they say.
//!
//! One test, because the count is the process's.
#![allow(clippy::unwrap_used, missing_docs)]

mod counting;

use std::path::Path;

use counting::peak;
use inference::ModelInfo;
use inference::adapter::{AdapterFiles, Packed8, WEIGHTS_FILE};
use inference::gguf::{GgufFile, Header};
use inference::model::files::{ModelFiles, SafetensorsFile};
use inference::model::stored::{StoredFrame, StoredLayer};
use inference::model::tokenizer::{Named, Tokenizer};
use inference::tiny::{self, families::Tiny};

/// Fails if reading `bytes` bytes took more than `times` as many, and 64 KiB for what does not depend on them.
fn check<T>(what: &str, bytes: usize, times: usize, f: impl FnOnce() -> T) -> T {
    let (held, out) = peak(f);
    println!("{what}: {held} bytes held for {bytes}, {:.1} times", held as f64 / bytes as f64);
    assert!(held <= times * bytes + (64 << 10), "{what}: {held} bytes held for {bytes}");
    out
}

/// Everything of a model but its tokenizer, one layer at a time.
fn weights(files: &ModelFiles) {
    let config = files.config().unwrap();
    files.check(&config).unwrap();
    drop(StoredFrame::read(files, &config).unwrap());
    for index in 0..config.layers {
        drop(StoredLayer::read(files, &config, index).unwrap());
    }
}

/// A tokenizer of many short tokens: the most entries that its bytes can hold.
fn many_tokens(merges: bool) -> String {
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    let token = |id: usize| [id % 62, id / 62 % 62, id / 3_844].map(|at| letters[at]).into_iter().collect::<String>();
    let vocab: Vec<String> = (0..60_000).map(|id| format!("\"{}\":{id}", token(id))).collect();
    let merge = if merges { vec![r#"["",""]"#; 200_000].join(",") } else { String::new() };
    format!(
        r#"{{"added_tokens":[],"normalizer":null,"pre_tokenizer":{{"type":"ByteLevel","add_prefix_space":false}},"post_processor":null,"model":{{"type":"BPE","vocab":{{{}}},"merges":[{merge}]}}}}"#,
        vocab.join(",")
    )
}

/// Adapters: of rank 1 in halves, what grows most when it is packed, and files that promise much.
fn adapters(folder: &Path) {
    let path = folder.join("tiny.gguf");
    tiny::write_model(&path, 1).unwrap();
    let info = ModelInfo::read(&GgufFile::open(&path).unwrap()).unwrap();
    for rank in [1, 64] {
        let dir = folder.join("adapter");
        tiny::write_adapter(&dir, None, rank, 1).unwrap();
        let bytes = std::fs::read(dir.join(WEIGHTS_FILE)).unwrap().len();
        check(&format!("adapter of rank {rank}"), bytes, 8, || drop(Packed8::read(&dir, &info).unwrap()));
        tiny::adapters::write_gguf_adapter(&folder.join("adapter.gguf"), None, rank, 1).unwrap();
        check(&format!("GGUF adapter of rank {rank}"), bytes, 8, || drop(Packed8::read(&folder.join("adapter.gguf"), &info).unwrap()));
    }
    // Settings of a megabyte: of short keys, of deep lists, of patterns.
    let keys: Vec<String> = (0..100_000).map(|key| format!(r#""k{key}":0"#)).collect();
    let patterns: Vec<String> = (0..60_000).map(|key| format!(r#""p{key}":1"#)).collect();
    for (what, text) in [
        ("many settings", format!("{{{}}}", keys.join(","))),
        ("long lists", format!(r#"{{"peft_type":"LORA","x":[{}]}}"#, vec!["[]"; 300_000].join(","))),
        ("many targets", format!(r#"{{"peft_type":"LORA","r":1,"lora_alpha":1,"target_modules":[{}]}}"#, vec![r#""""#; 250_000].join(","))),
        ("many patterns", format!(r#"{{"peft_type":"LORA","r":1,"lora_alpha":1,"rank_pattern":{{{}}}}}"#, patterns.join(","))),
    ] {
        check(what, text.len(), 16, || drop(AdapterFiles::from_bytes("a".to_owned(), text.as_bytes(), Vec::new(), None)));
    }
    // A file of matrices that is nothing but a header of numbers, two bytes each.
    let header = format!(r#"{{"a":{{"dtype":"F32","shape":[{}0],"data_offsets":[0,0]}}}}"#, "0,".repeat(2_000_000));
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    check("an adapter of a header", file.len(), 2, || {
        let files = AdapterFiles::from_bytes("a".to_owned(), br#"{"peft_type":"LORA","r":1,"lora_alpha":1}"#, file, None).unwrap();
        let error = files.check().unwrap_err().to_string();
        assert!(error.contains("header has 4000054 bytes"), "{error}");
    });
    // A GGUF file that is nothing but metadata: read as far as a head may reach.
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([0u64, 1].iter().flat_map(|count| count.to_le_bytes()));
    file.extend([1u64.to_le_bytes().as_slice(), b"k", &9u32.to_le_bytes(), &8u32.to_le_bytes(), &4_000_000u64.to_le_bytes()].concat());
    file.resize(file.len() + 8 * 4_000_000, 0);
    let length = file.len();
    check("a GGUF adapter of metadata", length, 2, || {
        let error = AdapterFiles::from_gguf("a".to_owned(), file, None).unwrap_err().to_string();
        assert!(error.contains("the head of the GGUF file"), "{error}");
    });
}

#[test]
fn reading_a_models_files_holds_a_small_multiple_of_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for tiny in Tiny::ALL {
        let path = folder.path().join("tiny.gguf");
        let bytes = tiny.bytes(8, 1);
        std::fs::write(&path, &bytes).unwrap();
        let files = check(&format!("header of {tiny}"), bytes.len(), 1, || ModelFiles::open(&path).unwrap());
        check(&format!("weights of {tiny}"), bytes.len(), 1, || weights(&files));
        let config = files.config().unwrap();
        check(&format!("text of {tiny}"), bytes.len(), 4, || drop(files.text(&config).unwrap()));
    }

    for name in ["qwen2", "llama3"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models").join(name);
        let bytes = std::fs::read_dir(&path).unwrap().map(|entry| usize::try_from(entry.unwrap().metadata().unwrap().len()).unwrap()).sum();
        let files = check(&format!("folder of {name}"), bytes, 3, || ModelFiles::open(&path).unwrap());
        check(&format!("weights of the folder of {name}"), bytes, 1, || weights(&files));
    }

    // A header of the shortest entries there can be.
    let entries: Vec<String> =
        (0..60_000).map(|id| format!(r#""{id}":{{"dtype":"U8","shape":[],"data_offsets":[{id},{}]}}"#, id + 1)).collect();
    let header = format!("{{{}}}", entries.join(","));
    let path = folder.path().join("many.safetensors");
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + 60_000, 0);
    std::fs::write(&path, &file).unwrap();
    check("safetensors of 60,000 tensors", file.len(), 6, || drop(SafetensorsFile::open(&path).unwrap()));
    // What a header promises is not believed.
    std::fs::write(&path, (16u64 << 20).to_le_bytes()).unwrap();
    check("a promised header", 8, 1, || drop(SafetensorsFile::open(&path).unwrap_err()));

    adapters(folder.path());

    let named = || Named { end_of_turn: None, eos_ids: vec![0] };
    let json = many_tokens(false);
    check("tokenizer.json of 60,000 tokens", json.len(), 25, || {
        drop(Tokenizer::from_json(Path::new("t"), json.as_bytes(), named(), 60_000).unwrap());
    });
    let json = many_tokens(true);
    check("tokenizer.json of broken merges", json.len(), 16, || {
        drop(Tokenizer::from_json(Path::new("t"), json.as_bytes(), named(), 60_000).unwrap_err());
    });

    // An array of the shortest strings in a GGUF header.
    let mut gguf = b"GGUF\x03\0\0\0".to_vec();
    gguf.extend([0u64, 1].iter().flat_map(|count| count.to_le_bytes()));
    gguf.extend([1u64.to_le_bytes().as_slice(), b"k", &9u32.to_le_bytes(), &8u32.to_le_bytes(), &200_000u64.to_le_bytes()].concat());
    gguf.resize(gguf.len() + 8 * 200_000, 0);
    check("GGUF of empty strings", gguf.len(), 7, || drop(Header::parse(gguf.as_slice(), gguf.len() as u64).unwrap()));
}
