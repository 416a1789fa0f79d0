//! Answers of the tiny model, whose text means nothing, held to a grammar: what comes out is what the schema describes, every time.
#![allow(clippy::unwrap_used, missing_docs)]

use inference::constraint::{Allowed, Constraint, Grammars, STEPS_MAX};
use inference::model::Model;
use inference::model::tokenizer::Tokenizer;
use inference::sampler::{Chooser, Counts, Grammar, GrammarKind, Options, Stops, TokenSet};
use inference::{model, tiny};
use serde_json::{Value, json};

struct Bench {
    model: Model,
    tokenizer: Tokenizer,
    grammars: Grammars,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny::write_model(&path, 1).unwrap();
        let (model, text) = Model::load(&path, None).unwrap();
        let grammars = Grammars::new(&text.tokenizer).unwrap();
        Self { model, tokenizer: text.tokenizer, grammars }
    }

    /// An answer of at most 250 tokens to a prompt of a few, as a generation makes it; and whether it ended.
    fn answer(&self, options: &Options, seed: u8) -> (Vec<u8>, bool) {
        options.check(self.tokenizer.vocabulary()).unwrap();
        let prompt = self.tokenizer.encode("answer: ").unwrap();
        let mut guided = self.grammars.begin(options.grammar.as_ref().unwrap()).unwrap();
        let (mut cache, mut chooser) = (model::Cache::new(self.model.config()), Chooser::default());
        let (mut seen, mut allowed, mut stops) = (Counts::new(&prompt), TokenSet::default(), Stops::new(&options.stop));
        let mut logits = self.model.forward(&prompt, &mut cache, None).unwrap();
        let mut bytes = Vec::new();
        for position in 0..250 {
            if guided.allowed(&mut allowed, STEPS_MAX).unwrap() == Allowed::End {
                break;
            }
            let token = chooser.choose(&logits, options, &seen, Some(&allowed), &[seed; 32], position).unwrap().token;
            if self.tokenizer.eos().contains(&token) {
                break;
            }
            guided.commit(token).unwrap();
            seen.push(token);
            let shown = stops.push(&self.tokenizer.decode(&[token]));
            bytes.extend(shown.bytes);
            if shown.is_end {
                return (bytes, true);
            }
            logits = self.model.forward(&[token], &mut cache, None).unwrap();
        }
        bytes.extend_from_slice(stops.held());
        (bytes, false)
    }
}

#[test]
fn an_answer_held_to_a_schema_parses_greedy_and_sampled() {
    let bench = Bench::new();
    let schema = json!({
        "x-guidance": { "whitespace_flexible": false },
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 10 },
            "kind": { "enum": ["gene", "disease"] },
            "sure": { "type": "boolean" },
            "codes": { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 999 }, "minItems": 1, "maxItems": 4 },
        },
        "required": ["name", "kind", "sure", "codes"],
        "additionalProperties": false,
    });
    let grammar = Some(Grammar::new(GrammarKind::Schema, schema.to_string()));
    let plain = Options { grammar, ..Options::default() };
    let penalised = Options { repeat_milli: 1_300, frequency_milli: 500, min_p_ppm: 1_000, ..plain.clone() };
    for temperature_milli in [0, 700, 1_000, 2_000] {
        for seed in 0..4 {
            for options in [&plain, &penalised] {
                let options = Options { temperature_milli, top_p_ppm: 980_000, ..options.clone() };
                let (bytes, _) = bench.answer(&options, seed);
                let text = String::from_utf8(bytes).unwrap();
                let value: Value =
                    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?} at {temperature_milli}, {seed}"));
                assert!((1..=10).contains(&value["name"].as_str().unwrap().chars().count()), "{value}");
                assert!(["gene", "disease"].contains(&value["kind"].as_str().unwrap()) && value["sure"].is_boolean(), "{value}");
                let codes = value["codes"].as_array().unwrap();
                assert!((1..=4).contains(&codes.len()) && codes.iter().all(|code| code.as_u64().unwrap() < 1_000), "{value}");
                assert_eq!(value.as_object().unwrap().len(), 4, "{value}");
            }
        }
    }
}

#[test]
fn equal_seeds_give_equal_answers_and_others_do_not() {
    let bench = Bench::new();
    let grammar = Some(Grammar::new(GrammarKind::Lark, "start: WORD (\" \" WORD){3}\nWORD: /[a-z]{2,8}/"));
    let options = Options { temperature_milli: 1_000, grammar, ..Options::default() };
    let answers: Vec<_> = (0..6).map(|seed| bench.answer(&options, seed)).collect();
    assert_eq!(answers, (0..6).map(|seed| bench.answer(&options, seed)).collect::<Vec<_>>());
    assert!(answers.iter().any(|answer| *answer != answers[0]));
    for (bytes, _) in answers {
        let text = String::from_utf8(bytes).unwrap();
        let words: Vec<_> = text.split(' ').collect();
        assert!(words.len() == 4 && words.iter().all(|word| (2..=8).contains(&word.len())), "{text:?}");
    }
}

#[test]
fn a_stop_string_ends_an_answer_within_a_grammar() {
    let bench = Bench::new();
    let grammar = Some(Grammar::new(GrammarKind::Lark, "start: /[ab ]{200}/"));
    let options = Options { temperature_milli: 1_000, stop: vec!["ba".into()], grammar, ..Options::default() };
    for seed in 0..8 {
        let (bytes, is_stopped) = bench.answer(&options, seed);
        let text = String::from_utf8(bytes).unwrap();
        assert!(is_stopped && !text.contains("ba"), "{text:?}");
    }
}
