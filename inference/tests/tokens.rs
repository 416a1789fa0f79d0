//! Tokens and prompts, against what the published libraries make of the same texts (`tests/fixtures/models/make.py`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use inference::gguf::{GgufFile, Header, Value};
use inference::model::template::ChatTemplate;
use inference::model::tokenizer::{Named, Tokenizer};
use inference::{Message, Role};
use serde::Deserialize;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models")
}

#[derive(Deserialize)]
struct Vectors {
    pieces: Vec<String>,
    texts: u64,
    tokenizers: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    /// Tokens of the first texts.
    first: Vec<Vec<u32>>,
    /// Eight digits for each text.
    digests: String,
}

fn vectors() -> Vectors {
    serde_json::from_slice(&std::fs::read(fixtures().join("tokens.json")).unwrap()).unwrap()
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The text of a number, as the script makes it.
fn text(number: u64, pieces: &[String]) -> String {
    let mut state = mix(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number + 1));
    let mut draw = |below: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(state) % below
    };
    let mut text = String::new();
    for _ in 0..=draw(24) {
        if draw(8) == 0 {
            // The order of the draws is the script's.
            let codes = [draw(0x80), draw(0x800), draw(0x1_0000), 0x1_0000 + draw(0x1_4000)];
            let code = codes[usize::try_from(draw(4)).unwrap()];
            text.push(char::from_u32(u32::try_from(code).unwrap()).unwrap_or(char::REPLACEMENT_CHARACTER));
        } else {
            text.push_str(&pieces[usize::try_from(draw(pieces.len() as u64)).unwrap()]);
        }
    }
    text
}

fn digest(ids: &[u32]) -> String {
    let mut out = 0xcbf2_9ce4_8422_2325_u64;
    for byte in ids.iter().flat_map(|id| id.to_le_bytes()) {
        out = (out ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{:08x}", (out >> 32) ^ (out & 0xffff_ffff))
}

/// Compares all texts. Decoded they are themselves, but for control tokens, for Qwen's composed form, and for SmolLM2's vocabulary, which lacks
/// some control characters.
fn check(name: &str, tokenizer: &Tokenizer) {
    let vectors = vectors();
    let expected = &vectors.tokenizers[name];
    assert_eq!(expected.digests.len() as u64, 8 * vectors.texts);
    for number in 0..vectors.texts {
        let text = text(number, &vectors.pieces);
        let got = tokenizer.encode(&text).unwrap();
        let index = usize::try_from(number).unwrap();
        if let Some(first) = expected.first.get(index) {
            assert_eq!(got, *first, "{name}, text {number}: {text:?}");
        }
        assert_eq!(digest(&got), expected.digests[8 * index..][..8], "{name}, text {number}: {text:?} gave {got:?}");
        if !["qwen2", "smollm2"].contains(&name) && tokenizer.control_in(&text).is_none() {
            assert_eq!(tokenizer.decode(&got), text.as_bytes(), "{name}, text {number}");
        }
    }
}

fn named() -> Named {
    Named { end_of_turn: None, eos_ids: vec![709] }
}

fn json(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("tokenizers").join(format!("{name}.json"))).unwrap()
}

fn from_json(name: &str) -> Tokenizer {
    Tokenizer::from_json(Path::new("tokenizer.json"), &json(name), named(), 720).unwrap()
}

/// The same vocabulary as a converter writes it into a GGUF header.
fn header(name: &str) -> Header {
    let json: serde_json::Value = serde_json::from_slice(&json(name)).unwrap();
    let mut tokens = vec![String::new(); 720];
    let mut kinds = vec![5; 720];
    let mut place = |id: &serde_json::Value, token: &str, kind: i64| {
        let id = usize::try_from(id.as_u64().unwrap()).unwrap();
        (tokens[id], kinds[id]) = (token.to_owned(), kind);
    };
    for (token, id) in json["model"]["vocab"].as_object().unwrap() {
        place(id, token, 1);
    }
    for added in json["added_tokens"].as_array().unwrap() {
        place(&added["id"], added["content"].as_str().unwrap(), if added["special"] == true { 3 } else { 4 });
    }
    for (id, token) in tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
        *token = format!("[PAD{id}]");
    }
    let merge = |merge: &serde_json::Value| format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
    let merges = json["model"]["merges"].as_array().unwrap().iter().map(merge).collect();
    let metadata = [
        ("tokenizer.ggml.model", Value::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Value::Text(name.into())),
        ("tokenizer.ggml.tokens", Value::Texts(tokens)),
        ("tokenizer.ggml.token_type", Value::Integers(kinds)),
        ("tokenizer.ggml.merges", Value::Texts(merges)),
        ("tokenizer.ggml.eos_token_id", Value::Unsigned(709)),
    ];
    Header { metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(), tensors: BTreeMap::new() }
}

#[test]
fn tokens_of_a_tokenizer_json_are_the_librarys() {
    for name in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
        check(name, &from_json(name));
    }
}

#[test]
fn tokens_of_a_gguf_header_are_the_librarys() {
    for name in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
        check(name, &Tokenizer::from_header(&header(name)).unwrap());
    }
}

#[test]
fn tokens_of_smollm2_are_the_librarys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/model/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing: run `cargo xtask fetch`", path.display());
    check("smollm2", &Tokenizer::from_header(GgufFile::open(&path).unwrap().header()).unwrap());
}

#[test]
fn a_long_run_of_white_space_is_cut_as_a_short_one_is() {
    for name in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
        let tokenizer = from_json(name);
        // The library's own expression engine gives up on a run this long and takes the rest for one word.
        let text = format!("a{}b 12 c", " ".repeat(1 << 20));
        let end = tokenizer.encode("b 12 c").unwrap();
        let got = tokenizer.encode(&text).unwrap();
        assert_eq!(got[got.len() - end.len() + 1..], end[1..], "{name}");
        assert_eq!(tokenizer.decode(&got), text.as_bytes(), "{name}");
    }
}

#[test]
fn rows_without_a_token_have_no_bytes_and_are_never_made() {
    for tokenizer in [from_json("qwen2"), Tokenizer::from_header(&header("qwen2")).unwrap()] {
        assert_eq!(tokenizer.decode(&[719, 714]), b"", "padding");
        assert_eq!(tokenizer.decode(&[720]), "\u{fffd}".as_bytes(), "outside");
        assert!(tokenizer.encode("[PAD719]").unwrap().iter().all(|id| *id < 709));
        assert_eq!(tokenizer.vocabulary(), 720);
    }
}

#[test]
fn the_first_token_is_put_before_a_plain_text_alone() {
    let tokenizer = from_json("llama-bpe");
    let bos = tokenizer.encode("<|begin_of_text|>").unwrap();
    assert_eq!(bos.len(), 1);
    assert_eq!(tokenizer.encode_plain("a").unwrap(), [bos, tokenizer.encode("a").unwrap()].concat());
    assert_eq!(from_json("qwen2").encode_plain("a").unwrap(), from_json("qwen2").encode("a").unwrap());
    // <|end_of_text|> and <|eot_id|> end an answer although only one token was named.
    assert_eq!(tokenizer.eos(), [709, 710, 713]);
    assert_eq!(from_json("qwen2").decode(&from_json("qwen2").encode("<think>x</think><|im_end|>").unwrap()), b"<think>x</think>");
}

#[test]
fn what_a_tokenizer_file_may_not_say_is_refused_by_name() {
    let text = String::from_utf8(json("llama-bpe")).unwrap();
    for (from, to, words) in [
        (r#""type":"BPE""#, r#""type":"Unigram""#, "model.type"),
        (r#""ignore_merges":true"#, r#""ignore_merges":true,"byte_fallback":true"#, "not the JSON expected"),
        (r#""byte_fallback":false"#, r#""byte_fallback":true"#, "model.byte_fallback"),
        (r#""dropout":null"#, r#""dropout":0.1"#, "model.dropout"),
        (r#""end_of_word_suffix":null"#, r#""end_of_word_suffix":"</w>""#, "model.end_of_word_suffix"),
        (r#""normalizer":null"#, r#""normalizer":{"type":"Lowercase"}"#, "normalizer"),
        (r"\\p{N}{1,3}", r"\\p{N}{1,4}", "pre_tokenizer"),
        (r#""behavior":"Isolated""#, r#""behavior":"Removed""#, "pre_tokenizer"),
        (r#""single":[{"SpecialToken":{"id":"<|begin_of_text|>""#, r#""single":[{"SpecialToken":{"id":"<|no|>""#, "post_processor"),
        (
            r#""id":709,"content":"<|begin_of_text|>","single_word":false"#,
            r#""id":709,"content":"<|begin_of_text|>","single_word":true"#,
            "single_word",
        ),
        (r#""id":709,"content""#, r#""id":720,"content""#, "ids below vocab_size"),
        (r#""id":709,"content""#, r#""id":1,"content""#, "one token for an id"),
        (r#""id":709,"content":"<|begin_of_text|>""#, r#""id":709,"content":"""#, "empty token"),
        (r#""vocab":{"!":0,"#, r#""vocab":{"!":0,"!":0,"#, "occurs twice"),
        (r#""merges":[["#, r#""merges":[["a"],["#, "two tokens"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from} is in the file");
        let error = Tokenizer::from_json(Path::new("folder/tokenizer.json"), changed.as_bytes(), named(), 720).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("folder/tokenizer.json"), "{to}: {error}");
    }
    let error = Tokenizer::from_json(Path::new("t"), text.as_bytes(), Named::default(), 720).unwrap_err().to_string();
    assert!(error.contains("eos_token"), "{error}");
    let mut wrong = header("qwen2");
    wrong.metadata.insert("tokenizer.ggml.pre".into(), Value::Text("tekken".into()));
    let error = Tokenizer::from_header(&wrong).unwrap_err().to_string();
    assert!(error.contains("tokenizer.ggml.pre") && error.contains("tekken") && error.contains("qwen2"), "{error}");
}

#[derive(Deserialize)]
struct Chats {
    template: String,
    chats: Vec<Chat>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<(Role, String)>,
    generate: bool,
    prompt: String,
}

#[test]
fn prompts_are_the_librarys() {
    let all: BTreeMap<String, Chats> = serde_json::from_slice(&std::fs::read(fixtures().join("chats.json")).unwrap()).unwrap();
    assert_eq!(all.len(), 4);
    let tokenizer = from_json("gpt-2");
    for (name, Chats { template, chats }) in all {
        let compiled = ChatTemplate::new(Some(&template), "<|begin_of_text|>".into(), "</s>".into()).unwrap();
        for Chat { messages, generate, prompt } in chats {
            let messages: Vec<Message> = messages.into_iter().map(|(role, content)| Message { role, content }).collect();
            assert_eq!(compiled.render(&tokenizer, &messages, generate).unwrap(), prompt, "{name}: {messages:?}");
        }
    }
}
