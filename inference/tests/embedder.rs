//! Sentence encoders against vectors of an independent implementation (`tests/fixtures/embeddings/make.py`), and folders that are refused.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::task::{Context, Waker};

use inference::embedder::{EmbedError, Embedder, EmbedderHandle, Embeddings, NUMBERS_MAX, TEXT_BYTES_MAX, TOKENS_MAX};
use serde::Deserialize;
use serde_json::{Value, json};

/// What rounding in f32 may change in a number of a vector of length 1.
const TOLERANCE: f32 = 2e-6;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/embeddings")
}

#[derive(Deserialize)]
struct Expected {
    text: String,
    tokens: Vec<u32>,
    mean: Vec<f32>,
    first: Vec<f32>,
}

fn expected(name: &str) -> Vec<Expected> {
    let mut all: BTreeMap<String, Vec<Expected>> = serde_json::from_slice(&fs::read(fixtures().join("vectors.json")).unwrap()).unwrap();
    all.remove(name).unwrap()
}

fn tiny() -> Embedder {
    Embedder::open(&fixtures().join("tiny-bert")).unwrap()
}

fn embed(embedder: &Embedder, texts: &[&str]) -> Result<Embeddings, EmbedError> {
    embedder.embed(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), || true)
}

fn same(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() < TOLERANCE, "{what}: number {index} is {got}, not {expected}");
    }
}

/// Copies the small encoder, changes its files, and says why it is refused.
fn refused(change: impl FnOnce(&Path)) -> String {
    let folder = copied();
    change(folder.path());
    match Embedder::open(folder.path()) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    }
}

fn copied() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    for name in ["config.json", "tokenizer.json", "modules.json", "model.safetensors", "1_Pooling/config.json"] {
        fs::copy(fixtures().join("tiny-bert").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn change(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

/// Changes the header of the weights, whose data stay.
fn change_header(folder: &Path, change: impl FnOnce(&mut Value)) {
    let file = folder.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let (prefix, rest) = bytes.split_at(8);
    let len = usize::try_from(u64::from_le_bytes(prefix.try_into().unwrap())).unwrap();
    let mut header: Value = serde_json::from_slice(&rest[..len]).unwrap();
    change(&mut header);
    let header = header.to_string();
    let mut out = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(&rest[len..]);
    fs::write(file, out).unwrap();
}

#[test]
fn a_small_encoder_gives_the_vectors_of_the_published_implementation() {
    let embedder = tiny();
    assert_eq!((embedder.info().name.as_str(), embedder.info().width, embedder.info().text_tokens_max), ("tiny-bert", 32, 64));
    let expected = expected("tiny-bert");
    for one in &expected {
        assert_eq!(embedder.tokens(&one.text).unwrap(), one.tokens, "{:?}", one.text);
        let got = embed(&embedder, &[&one.text]).unwrap();
        same(&got.vectors[0], &one.mean, &one.text);
        assert_eq!(got.tokens, one.tokens.len());
    }
    let texts: Vec<&str> = expected.iter().map(|one| one.text.as_str()).collect();
    let together = embed(&embedder, &texts).unwrap();
    assert_eq!(together.tokens, expected.iter().map(|one| one.tokens.len()).sum::<usize>());
    for (got, one) in together.vectors.iter().zip(&expected) {
        same(got, &one.mean, &format!("{:?} among others", one.text));
    }
}

#[test]
fn a_folder_that_says_so_is_read_at_its_first_row() {
    let folder = copied();
    let pooling = |value: &mut Value| *value = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false });
    change(&folder.path().join("1_Pooling/config.json"), pooling);
    let embedder = Embedder::open(folder.path()).unwrap();
    for one in expected("tiny-bert") {
        same(&embed(&embedder, &[&one.text]).unwrap().vectors[0], &one.first, &one.text);
    }
    assert_ne!(embedder.info().hash, tiny().info().hash, "what decides about the vectors is in the hash");
}

#[test]
fn minilm_gives_the_vectors_of_the_published_implementation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/embeddings/all-MiniLM-L6-v2");
    assert!(path.is_dir(), "{} is missing: run `cargo xtask fetch embeddings`", path.display());
    let embedder = Embedder::open(&path).unwrap();
    assert_eq!((embedder.info().width, embedder.info().text_tokens_max), (384, 512));
    let expected = expected("all-MiniLM-L6-v2");
    let texts: Vec<&str> = expected.iter().map(|one| one.text.as_str()).collect();
    for (text, one) in texts.iter().zip(&expected) {
        assert_eq!(embedder.tokens(text).unwrap(), one.tokens, "{text:?}");
    }
    let got = embed(&embedder, &texts).unwrap();
    for (vector, one) in got.vectors.iter().zip(&expected) {
        let told: Vec<f32> = vector.iter().step_by(4).copied().collect();
        same(&told, &one.mean, &one.text);
    }
    let cosine = |a: usize, b: usize| got.vectors[a].iter().zip(&got.vectors[b]).map(|(a, b)| a * b).sum::<f32>();
    println!("gout and gout {}, gout and a treaty {}", cosine(0, 1), cosine(0, 2));
    assert!(cosine(0, 1) > 0.5 && cosine(0, 2) < 0.3, "a question is near its answer: {} and {}", cosine(0, 1), cosine(0, 2));
}

#[test]
fn a_text_that_is_too_long_is_refused_with_its_place_and_the_limit() {
    let embedder = tiny();
    assert_eq!(embed(&embedder, &[&"gout ".repeat(62)]).unwrap().tokens, 64);
    let error = embed(&embedder, &["gout", &"gout ".repeat(63)]).unwrap_err();
    assert!(matches!(error, EmbedError::TextTokens { index: 1, got: 65, max: 64 }) && error.is_request_fault(), "{error}");
    let error = embed(&embedder, &[&"g".repeat(TEXT_BYTES_MAX + 1)]).unwrap_err();
    assert!(matches!(error, EmbedError::TextBytes { index: 0, .. }), "{error}");
    let many = vec!["gout ".repeat(62); TOKENS_MAX / 64 + 1];
    let error = embedder.embed(&many, || true).unwrap_err();
    assert!(matches!(error, EmbedError::Tokens { got, .. } if got == TOKENS_MAX + 64), "{error}");
}

#[test]
fn texts_that_nobody_waits_for_are_not_computed() {
    let asked = std::cell::Cell::new(0);
    let texts = vec!["gout ".repeat(60); 40];
    let wanted = || {
        asked.set(asked.get() + 1);
        asked.get() <= texts.len() + 1
    };
    assert!(matches!(tiny().embed(&texts, wanted).unwrap_err(), EmbedError::Left));
    assert_eq!(asked.get(), texts.len() + 2, "it is asked again behind the first pass");
}

#[tokio::test]
async fn a_handle_answers_many_at_once_and_gives_up_what_is_dropped() {
    let handle = EmbedderHandle::start(&fixtures().join("tiny-bert")).unwrap();
    let question = || "What is gout?".to_owned();
    let alone = handle.embed(0, vec![question()]).await.unwrap();
    let mut left = Box::pin(handle.embed(1, vec!["gout ".repeat(60); 200]));
    assert!(left.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(left);
    let (one, two) = tokio::join!(handle.embed(1, vec![question()]), handle.embed(1, vec!["x".to_owned(), question()]));
    same(&one.unwrap().vectors[0], &alone.vectors[0], "the first");
    same(&two.unwrap().vectors[1], &alone.vectors[0], "the second");
    let long = handle.embed(0, vec!["gout ".repeat(100)]).await.unwrap_err();
    assert!(long.is_request_fault(), "{long}");
}

#[test]
fn settings_that_the_graph_does_not_have_are_refused_by_name() {
    let config = |field: &str, value: Value| refused(|folder| change(&folder.join("config.json"), |config| config[field] = value));
    for (field, value) in [
        ("model_type", json!("roberta")),
        ("hidden_act", json!("relu")),
        ("position_embedding_type", json!("relative_key")),
        ("is_decoder", json!(true)),
        ("layer_norm_eps", json!(0)),
        ("layer_norm_eps", json!(1e300)),
        ("hidden_size", json!(u64::MAX)),
        ("intermediate_size", json!(1u64 << 40)),
        ("num_attention_heads", json!(5)),
        ("num_attention_heads", json!(1_000_000)),
        ("num_hidden_layers", json!(-1)),
        ("num_hidden_layers", json!(1u64 << 60)),
        ("vocab_size", json!(1u64 << 50)),
        ("max_position_embeddings", json!(1)),
        ("max_position_embeddings", json!(null)),
        ("quantization_config", json!({})),
    ] {
        let error = config(field, value.clone());
        assert!(error.contains(field) && error.contains("config.json"), "{field} = {value}: {error}");
    }
    // Within the limits, and more than the file has: known from the headers.
    for (field, value, tensor) in [
        ("num_hidden_layers", 100, "encoder.layer.2.attention.self.query.weight"),
        ("num_hidden_layers", 1, "encoder.layer.1"),
        ("hidden_size", 4_096, "embeddings.word_embeddings.weight"),
        ("vocab_size", 1 << 20, "embeddings.word_embeddings.weight"),
        ("intermediate_size", 16_384, "intermediate.dense.weight"),
        ("max_position_embeddings", 65_536, "embeddings.position_embeddings.weight"),
    ] {
        let error = config(field, json!(value));
        assert!(error.contains(tensor), "{field} = {value}: {error}");
    }
}

#[test]
fn weights_that_are_missing_misshapen_or_no_numbers_are_refused_by_name() {
    const WEIGHT: &str = "encoder.layer.1.output.dense.weight";
    let header = |change: fn(&mut Value)| refused(|folder| change_header(folder, change));
    let error = header(|header| drop(header.as_object_mut().unwrap().remove(WEIGHT)));
    assert!(error.contains(WEIGHT) && error.contains("missing"), "{error}");
    let error = header(|header| header[WEIGHT]["shape"] = json!([48, 32]));
    assert!(error.contains(WEIGHT) && error.contains("[48, 32]") && error.contains("[32, 48]"), "{error}");
    let error = header(|header| header[WEIGHT]["dtype"] = json!("I16"));
    assert!(error.contains(WEIGHT) && error.contains("F16"), "{error}");
    let error = header(|header| {
        let moved = header.as_object_mut().unwrap().remove(WEIGHT).unwrap();
        header["encoder.layer.2.output.dense.weight"] = moved;
        header[WEIGHT] = json!({ "dtype": "F16", "shape": [32, 48], "data_offsets": [0, u64::MAX] });
    });
    assert!(error.contains(WEIGHT) && error.contains("data_offsets"), "{error}");
    let error = refused(|folder| {
        let file = folder.join("model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&0x7e00u16.to_le_bytes());
        fs::write(file, bytes).unwrap();
    });
    assert!(error.contains("of tensor") && error.contains("NaN"), "{error}");
    let error = refused(|folder| fs::write(folder.join("model.safetensors"), u64::MAX.to_le_bytes()).unwrap());
    assert!(error.contains("header length"), "{error}");
}

#[test]
fn a_folder_that_is_no_sentence_encoder_is_refused_by_what_it_lacks() {
    for name in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"] {
        let error = refused(|folder| fs::remove_file(folder.join(name)).unwrap());
        assert!(error.contains(&format!("has no {name}")), "{name}: {error}");
    }
    let error = refused(|folder| {
        change(&folder.join("modules.json"), |modules| modules[2]["type"] = json!("sentence_transformers.models.Dense"));
    });
    assert!(error.contains("models.Dense"), "{error}");
    for pooling in
        [json!({ "pooling_mode_max_tokens": true }), json!({}), json!({ "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true })]
    {
        let error = refused(|folder| fs::write(folder.join("1_Pooling/config.json"), pooling.to_string()).unwrap());
        assert!(error.contains("pooling_mode"), "{pooling}: {error}");
    }
    assert!(Embedder::open(&fixtures().join("make.py")).unwrap_err().to_string().contains("not a folder"));
    assert!(Embedder::open(&fixtures().join("nothing")).is_err());
}

/// Calls an added token otherwise, wherever it stands, has it normalised and the spaces around it stripped.
fn called(file: &mut Value, name: &str, id: usize) {
    let old = file["added_tokens"][id]["content"].as_str().unwrap().to_owned();
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    vocab.remove(&old);
    vocab.insert(name.to_owned(), json!(id));
    if file["model"]["unk_token"] == old.as_str() {
        file["model"]["unk_token"] = json!(name);
    }
    for (field, value) in [("content", json!(name)), ("normalized", json!(true)), ("lstrip", json!(true)), ("rstrip", json!(true))] {
        file["added_tokens"][id][field] = value;
    }
}

/// What is changed of a file.
type Edit = fn(&mut Value);

#[test]
fn a_tokenizer_of_another_kind_is_refused_by_name() {
    let words = |edit: Edit| refused(|folder| change(&folder.join("tokenizer.json"), edit));
    let table: [(Edit, &str); 19] = [
        (|value| value["model"]["type"] = json!("BPE"), "model.type"),
        (|value| value["normalizer"] = json!({ "type": "NFC" }), "normalizer"),
        (|value| value["pre_tokenizer"] = json!({ "type": "Whitespace" }), "pre_tokenizer"),
        (|value| value["post_processor"]["single"] = json!([]), "post_processor"),
        (|value| value["model"]["vocab"]["gout"] = json!(142), "model.vocab"),
        (|value| value["model"]["vocab"]["gout"] = json!(7), "model.vocab"),
        (|value| value["model"]["unk_token"] = json!("nothing"), "model.unk_token"),
        (|value| value["model"]["max_input_chars_per_word"] = json!(1u64 << 40), "model.max_input_chars_per_word"),
        (|value| value["added_tokens"][0]["id"] = json!(9), "added_tokens"),
        (|value| value["model"]["continuing_subword_prefix"] = json!("#".repeat(17)), "model.continuing_subword_prefix"),
        (|value| called(value, &"u".repeat(65), 1), "model.unk_token"),
        (|value| value["normalizer"]["more"] = json!("n".repeat(65_536)), "normalizer"),
        (|value| value["pre_tokenizer"]["more"] = json!("n".repeat(65_536)), "pre_tokenizer"),
        (|value| value["post_processor"]["more"] = json!(vec![0; 65_536]), "post_processor"),
        // The library panics on texts with such tokens, or finds two tokens at one place.
        (|value| called(value, "   ", 4), "added_tokens"),
        (|value| called(value, " x", 4), "added_tokens"),
        (|value| called(value, "x\u{a0}", 4), "added_tokens"),
        (|value| called(value, "\u{1}\u{fffd}", 4), "added_tokens"),
        (
            |value| {
                called(value, "TWICE", 4);
                called(value, "twice", 3);
                value["post_processor"]["single"][2]["SpecialToken"]["id"] = json!("twice");
            },
            "added_tokens",
        ),
    ];
    for (edit, field) in table {
        let error = words(edit);
        assert!(error.contains(field) && error.contains("tokenizer.json"), "{field}: {error}");
    }
}

/// Makes the first number of a norm's weight another one, as bf16 in the same two bytes.
fn with_norm(norm: &str, bits: u16) -> EmbedError {
    let name = format!("{norm}.weight");
    let folder = copied();
    change_header(folder.path(), |header| header[&name]["dtype"] = json!("BF16"));
    let file = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let len = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..len]).unwrap();
    let at = len + usize::try_from(header[&name]["data_offsets"][0].as_u64().unwrap()).unwrap();
    bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    embed(&Embedder::open(folder.path()).unwrap(), &["gout"]).unwrap_err()
}

#[test]
fn numbers_whose_squares_leave_the_range_of_f32_are_an_error_and_no_vector() {
    // 4e25 and 2e38; before the last norm they would leave a row of biases, behind it a vector of zeros.
    for norm in ["embeddings.LayerNorm", "encoder.layer.0.output.LayerNorm", "encoder.layer.1.output.LayerNorm"] {
        for bits in [0x6a00, 0x7f00] {
            let error = with_norm(norm, bits);
            assert!(matches!(error, EmbedError::NotFinite { index: 0 }), "{norm}: {error}");
        }
    }
}

#[test]
fn a_folder_that_says_its_limit_is_held_to_it() {
    let limited = |said: Value| {
        let folder = copied();
        fs::write(folder.path().join("sentence_bert_config.json"), json!({ "max_seq_length": said }).to_string()).unwrap();
        Embedder::open(folder.path()).map(|embedder| embedder.info().text_tokens_max)
    };
    assert_eq!(limited(json!(20)).unwrap(), 20);
    assert_eq!(limited(json!(4_096)).unwrap(), 64, "there are no more positions");
    assert_eq!(limited(json!(null)).unwrap(), 64);
    for said in [json!(0), json!(2), json!("many"), json!(-1)] {
        let error = limited(said.clone()).unwrap_err().to_string();
        assert!(error.contains("max_seq_length") && error.contains("sentence_bert_config.json"), "{said}: {error}");
    }
}

#[test]
fn a_folder_that_says_so_reads_every_text_in_lower_case() {
    let folder = copied();
    // The tokenizer alone tells the cases apart, and keeps its marks.
    change(&folder.path().join("tokenizer.json"), |file| file["normalizer"]["lowercase"] = json!(false));
    let said = |said: Value| {
        fs::write(folder.path().join("sentence_bert_config.json"), json!({ "max_seq_length": null, "do_lower_case": said }).to_string())
            .unwrap();
        Embedder::open(folder.path())
    };
    let [apart, same] = [false, true].map(|lowers| said(json!(lowers)).unwrap());
    let tokens = |embedder: &Embedder, text: &str| embedder.tokens(text).unwrap();
    assert_ne!(tokens(&apart, "What is GOUT?"), tokens(&apart, "what is gout?"));
    assert_eq!(tokens(&same, "What is GOUT?"), tokens(&apart, "what is gout?"));
    assert_eq!(tokens(&same, "ΟΔΟΣ [SEP]"), tokens(&apart, "οδος [sep]"), "the last sigma of a word is another one; a mark is a word");
    assert_ne!(apart.info().hash, same.info().hash, "what decides about the vectors is in the hash");
    assert_eq!(said(json!(null)).unwrap().info().hash, apart.info().hash);
    for wrong in [json!("yes"), json!(1), json!([true])] {
        let error = said(wrong.clone()).unwrap_err().to_string();
        assert!(error.contains("do_lower_case") && error.contains("sentence_bert_config.json"), "{wrong}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn an_encoder_is_called_as_the_link_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("small");
    std::os::unix::fs::symlink(fixtures().join("tiny-bert").canonicalize().unwrap(), &link).unwrap();
    assert_eq!(Embedder::open(&link).unwrap().info().name, "small");
    assert_eq!(Embedder::open(&link.join("1_Pooling/..")).unwrap().info().name, "tiny-bert");
}

#[test]
fn more_numbers_than_one_answer_holds_are_refused_before_any_text_is_read() {
    let embedder = tiny();
    let most = NUMBERS_MAX / embedder.info().width;
    let error = embedder.embed(&vec!["gout".to_owned(); most + 1], || panic!("a text is read")).unwrap_err();
    assert!(matches!(error, EmbedError::Numbers { width: 32, max: NUMBERS_MAX, .. }) && error.is_request_fault(), "{error}");
}
