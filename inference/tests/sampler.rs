//! Choosing tokens and encoding options, against an independent script (`tests/fixtures/make_sampler_vectors.py`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use inference::sampler::{Counts, Grammar, GrammarKind, Options, TokenSet, choose};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    encodings: Vec<Encoding>,
    /// Cases left out because they hang on the last bits.
    unclear: u32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Encoding {
    options: Asked,
    bytes: String,
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    temperature_milli: u32,
    top_k: u32,
    top_p_ppm: u32,
    min_p_ppm: u32,
    repeat_milli: u32,
    presence_milli: i32,
    frequency_milli: i32,
    bias: Vec<(u32, i32)>,
    stop: Vec<String>,
    logprobs: u8,
    grammar: Option<AskedGrammar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedGrammar {
    kind: String,
    engine: u16,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Logits in sixteenths.
    logits_16: Vec<i16>,
    options: Asked,
    prompt: Vec<u32>,
    answer: Vec<u32>,
    allowed: Option<Vec<u32>>,
    seed: String,
    /// Of the first of `tokens`.
    position: u32,
    tokens: Vec<u32>,
    /// Told with the first of `tokens`.
    logprobs: Option<Vec<(u32, i32)>>,
}

fn vectors() -> Vectors {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/sampler_vectors.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

impl From<Asked> for Options {
    fn from(asked: Asked) -> Self {
        Self {
            temperature_milli: asked.temperature_milli,
            top_k: asked.top_k,
            top_p_ppm: asked.top_p_ppm,
            min_p_ppm: asked.min_p_ppm,
            repeat_milli: asked.repeat_milli,
            presence_milli: asked.presence_milli,
            frequency_milli: asked.frequency_milli,
            bias: asked.bias,
            stop: asked.stop,
            logprobs: asked.logprobs,
            grammar: asked.grammar.map(|grammar| Grammar {
                engine: grammar.engine,
                kind: if grammar.kind == "lark" { GrammarKind::Lark } else { GrammarKind::Schema },
                source: grammar.source,
            }),
        }
    }
}

#[test]
fn options_have_the_bytes_and_the_hash_of_the_vectors() {
    let encodings = vectors().encodings;
    assert!(encodings.len() >= 8, "{} encodings", encodings.len());
    for Encoding { options, bytes, digest } in encodings {
        let options = Options::from(options);
        assert_eq!(hex::encode(options.encode()), bytes, "{options:?}");
        assert_eq!(hex::encode(options.digest().0), digest, "{options:?}");
        assert_eq!(Options::decode(&hex::decode(bytes).unwrap()), Ok(options));
    }
}

#[test]
fn tokens_are_chosen_as_the_vectors_say() {
    let Vectors { cases, unclear, .. } = vectors();
    assert!(cases.len() >= 100 && unclear < 20, "{} cases, {unclear} left out", cases.len());
    let mut told = 0;
    for (number, case) in cases.into_iter().enumerate() {
        let logits: Vec<f32> = case.logits_16.iter().map(|&sixteenths| f32::from(sixteenths) / 16.0).collect();
        let options = Options::from(case.options);
        options.check(logits.len()).unwrap();
        let mut seen = Counts::new(&case.prompt);
        case.answer.iter().for_each(|&token| seen.push(token));
        let allowed = case.allowed.map(|tokens| {
            let mut set = TokenSet::new(logits.len());
            set.extend(tokens);
            set
        });
        let seed: [u8; 32] = hex::decode(case.seed).unwrap().try_into().unwrap();
        let choices: Vec<_> = (case.position..)
            .take(case.tokens.len())
            .map(|position| choose(&logits, &options, &seen, allowed.as_ref(), &seed, position).unwrap())
            .collect();
        let tokens: Vec<u32> = choices.iter().map(|choice| choice.token).collect();
        assert_eq!(tokens, case.tokens, "case {number}: {options:?}");
        assert_eq!(choices[0].logprobs.as_deref(), case.logprobs.as_deref(), "case {number}");
        told += u32::from(case.logprobs.is_some());
    }
    assert!(told > 30, "{told} cases tell logarithms");
}
