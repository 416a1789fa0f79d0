//! What requests to the gateway cost and say where clients mangle good ones: every field dropped, doubled, of another type, with numbers that lie, nested
//! deep or grown long, and bodies cut at every byte.
//!
//! Each body is either accepted or refused in OpenAI's form, and what is refused for one field names that field. While it is read no more is held than
//! [`TIMES`] its bytes and [`FLAT`], counted by the allocator; an answer of vectors takes no more than that of its own bytes.
//!
//! One test, because the count is the process's. Where cases are drawn they are drawn by their number, which the failure names. Cost: 4 s of processor.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../inference/tests/counting/mod.rs"]
mod counting;

use counting::peak;
use node::api::{BODY_MAX, Refusal, adapters, chat, completions, embeddings, fields::VALUES_MAX, source::Embedded};
use serde_json::{Value, json};

/// How many times a body's bytes may be held: itself in the tree, in the question, and in an error's words.
const TIMES: usize = 4;
/// What values take beside their texts, as many as there may be.
const FLAT: usize = 3 << 20;
/// What stands in the place of each value.
const WORDS: [&str; 22] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "3",
    "0.5",
    "1e300",
    "-1e300",
    "18446744073709551615",
    "-9223372036854775808",
    "9007199254740993",
    "4294967296",
    "1.0",
    "\"\"",
    "\"\\u0000\"",
    "\"1\"",
    "[]",
    "{}",
    "[[1]]",
    "{\"\":{}}",
];
/// Bodies with several changes at once.
const DRAWN: u64 = 1_000;
/// Places that take what is large: of values that are read alike the first.
const LARGE: [&str; 21] = [
    "/model",
    "/messages",
    "/messages/0",
    "/messages/0/role",
    "/messages/1/content",
    "/messages/1/content/0",
    "/messages/1/content/0/text",
    "/prompt",
    "/prompt/0",
    "/input",
    "/input/0",
    "/temperature",
    "/logit_bias",
    "/logit_bias/7",
    "/stop",
    "/stop/0",
    "/metadata",
    "/stream_options",
    "/response_format/json_schema/schema",
    "/lora_name",
    "/lora_path",
];

/// One way of asking.
struct Way {
    name: &'static str,
    read: fn(&[u8]) -> Result<(), Refusal>,
    /// A body with every field that is taken.
    good: Value,
    needed: &'static [&'static str],
    /// A field, and the one that an error may name in its place, because the two belong together.
    pairs: &'static [(&'static str, &'static str)],
}

fn ways() -> Vec<Way> {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "array", "items": { "enum": ["x", 1, null] } } } });
    let choosing = json!({
        "model": "gout-2", "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "presence_penalty": 0.5,
        "frequency_penalty": -0.5, "logit_bias": { "7": -100, "40000": 5.5 }, "stop": ["a", "b"], "seed": 7, "n": 1, "user": "u", "stream": true,
        "stream_options": { "include_usage": true, "include_obfuscation": false }, "metadata": { "a": "b", "c": [1, { "d": null }] },
        "safety_identifier": "s", "prompt_cache_key": "k", "service_tier": "auto", "store": false, "max_tokens": 9,
    });
    let with = |more: Value| {
        let mut all = choosing.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    vec![
        Way {
            name: "chat",
            read: |body| chat::read(body).map(drop),
            good: with(json!({
                "messages": [
                    { "role": "system", "content": "Be brief." },
                    { "role": "user", "content": [{ "type": "text", "text": "What is " }, { "type": "text", "text": "gout? \u{1f9b6} \u{75db}\u{98ce}" }] },
                    { "role": "assistant", "content": "A disease.", "tool_calls": null },
                    { "role": "user", "content": "Of what?" },
                ],
                "max_completion_tokens": 9, "logprobs": true, "top_logprobs": 3,
                "response_format": { "type": "json_schema", "json_schema": { "name": "a", "description": "b", "strict": true, "schema": schema } },
            })),
            needed: &["model", "messages"],
            pairs: &[("stream", "stream_options"), ("logprobs", "top_logprobs"), ("max_completion_tokens", "max_tokens")],
        },
        Way {
            name: "completions",
            read: |body| completions::read(body).map(drop),
            good: with(json!({ "prompt": ["What is gout?"], "logprobs": 5, "best_of": 1, "echo": false })),
            needed: &["model", "prompt"],
            pairs: &[("stream", "stream_options")],
        },
        Way {
            name: "embeddings",
            read: |body| embeddings::read(body).map(drop),
            good: json!({ "model": "minilm", "input": ["gout", "\u{75db}\u{98ce}"], "encoding_format": "base64", "user": "u" }),
            needed: &["model", "input"],
            pairs: &[],
        },
        Way {
            name: "load_lora_adapter",
            read: |body| adapters::read_load(body).map(drop),
            good: json!({ "lora_name": "gout-2", "lora_path": "4@1", "load_inplace": true }),
            needed: &["lora_name", "lora_path"],
            pairs: &[],
        },
        Way {
            name: "unload_lora_adapter",
            read: |body| adapters::read_unload(body).map(drop),
            good: json!({ "lora_name": "gout-2" }),
            needed: &["lora_name"],
            pairs: &[],
        },
    ]
}

/// What was seen of one way.
#[derive(Default)]
struct Seen {
    taken: u32,
    refused: u32,
    /// The most that was held, and of how many bytes, where it was the largest share of what may be.
    worst: (usize, usize),
}

impl Seen {
    /// Reads a body; the refusal, if it is one.
    fn case(&mut self, way: &Way, what: &dyn Fn() -> String, body: &[u8]) -> Option<Refusal> {
        let most = |bytes: usize| TIMES * bytes + FLAT;
        let (held, read) = peak(|| (way.read)(body));
        assert!(held <= most(body.len()), "{}, {}: {held} bytes held for {}", way.name, what(), body.len());
        if held * most(self.worst.1) >= self.worst.0 * most(body.len()) {
            self.worst = (held, body.len());
        }
        let Err(refusal) = read else {
            self.taken += 1;
            return None;
        };
        self.refused += 1;
        let json = refusal.json();
        let error = json["error"].as_object().unwrap_or_else(|| panic!("{}, {}: {json}", way.name, what()));
        let names: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!((names.as_slice(), json.as_object().unwrap().len()), (["message", "type", "param", "code"].as_slice(), 1));
        assert_eq!(error["type"], "invalid_request_error", "{}, {}", way.name, what());
        assert!(error["message"].as_str().is_some_and(|words| !words.is_empty()) && error["code"].is_string(), "{json}");
        // What is JSON is refused for a field, or for being no object.
        match &refusal.param {
            Some(param) => {
                assert!(refusal.message.contains(param.split(['.', '[']).next().unwrap()), "{}, {}: {refusal}", way.name, what())
            }
            None => assert!(refusal.code == "invalid_json" || refusal.message.starts_with("the body must be"), "{}: {refusal}", what()),
        }
        Some(refusal)
    }

    /// A body with one change, of the field `name`: if it is refused, then for that field or the one that belongs to it.
    fn one_field(&mut self, way: &Way, name: &str, what: &dyn Fn() -> String, body: &[u8]) -> Option<Refusal> {
        let refusal = self.case(way, what, body)?;
        let param = refusal.param.as_deref().unwrap_or_else(|| panic!("{}, {}: no field named: {refusal}", way.name, what()));
        let root = param.split(['.', '[']).next().unwrap();
        let is_paired = way.pairs.iter().any(|(field, other)| (*field, *other) == (name, root) || (*other, *field) == (name, root));
        assert!(root == name || is_paired, "{}, {}: {refusal}", way.name, what());
        Some(refusal)
    }
}

/// Places of all values of a body but the body itself, each as a JSON pointer.
fn places(value: &Value, pointer: &str, out: &mut Vec<String>) {
    let mut one = |name: &str, item: &Value| {
        let pointer = format!("{pointer}/{name}");
        places(item, &pointer, out);
        out.push(pointer);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| one(&at.to_string(), item)),
        Value::Object(fields) => fields.iter().for_each(|(name, item)| one(name, item)),
        _ => {}
    }
}

/// The first name of a pointer.
fn root(pointer: &str) -> &str {
    pointer.split('/').nth(1).unwrap()
}

/// A body with a text in the place of a value: a mark stands there, and the text for it.
fn replaced(good: &Value, pointer: &str, text: &str) -> Vec<u8> {
    const MARK: &str = "\u{1}here\u{1}";
    let mut value = good.clone();
    *value.pointer_mut(pointer).unwrap() = MARK.into();
    value.to_string().replacen(&Value::from(MARK).to_string(), text, 1).into_bytes()
}

/// A body without a value.
fn dropped(good: &Value, pointer: &str) -> Vec<u8> {
    let mut value = good.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap() {
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        Value::Object(fields) => drop(fields.shift_remove(name)),
        other => panic!("{other} holds nothing"),
    }
    value.to_string().into_bytes()
}

/// A body whose object at `pointer` says its field `name` twice.
fn doubled(good: &Value, pointer: &str) -> Option<Vec<u8>> {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let Some(Value::Object(fields)) = good.pointer(parent) else { return None };
    let twice = format!("{{{}:{},{}", Value::from(name), fields[name], &good.pointer(parent).unwrap().to_string()[1..]);
    Some(if parent.is_empty() { twice.into_bytes() } else { replaced(good, parent, &twice) })
}

/// Texts that are long or deep, in the place of a value that is `old`.
fn large(old: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for depth in [2, 100, 127, 128, 10_000, BODY_MAX / 2 - 4_096] {
        out.push((format!("{depth} lists deep"), format!("{}{old}{}", "[".repeat(depth), "]".repeat(depth))));
    }
    out.push(("100 objects deep".to_owned(), format!("{}{old}{}", "{\"a\":".repeat(100), "}".repeat(100))));
    let most = usize::try_from(VALUES_MAX).unwrap();
    for count in [17, 257, 1_025, most / 8, most, 200_000] {
        for item in [
            old,
            "1",
            "[]",
            "[1]",
            "{}",
            "{\"a\":1}",
            "\"a\"",
            "{\"type\":\"text\",\"text\":\"a\"}",
            "{\"role\":\"user\",\"content\":\"a\"}",
        ] {
            // As many as fit.
            let count = count.min((BODY_MAX - 8_192) / (item.len() + 1));
            out.push((format!("a list of {count} {item}"), format!("[{}{item}]", format!("{item},").repeat(count - 1))));
        }
        let fields: Vec<String> = (0..count.min(20_000)).map(|name| format!("\"{name}\":1")).collect();
        out.push((format!("an object of {} fields", fields.len()), format!("{{{}}}", fields.join(","))));
    }
    for bytes in [65, 257, 513, 70_000, BODY_MAX - 8_192] {
        out.push((format!("a text of {bytes} bytes"), format!("\"{}\"", "a".repeat(bytes))));
        out.push((format!("a text of {bytes} bytes, escaped"), format!("\"{}\"", "\\u00e9".repeat(bytes / 6))));
        out.push((format!("an object with a name of {bytes} bytes"), format!("{{\"{}\":1}}", "b".repeat(bytes))));
        out.push((format!("a number of {bytes} digits"), "9".repeat(bytes)));
    }
    out
}

fn number(noise: &mut u64, below: usize) -> usize {
    // SplitMix64.
    *noise = noise.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *noise;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
}

/// Every place once, by every change.
fn fields(way: &Way, seen: &mut Seen) {
    let mut all = Vec::new();
    places(&way.good, "", &mut all);
    for pointer in &all {
        let is_top = pointer.matches('/').count() == 1;
        let refusal = seen.one_field(way, root(pointer), &|| format!("{pointer} dropped"), &dropped(&way.good, pointer));
        if is_top && way.needed.contains(&root(pointer)) {
            assert_eq!(refusal.unwrap().code, "missing_parameter", "{}: {pointer}", way.name);
        } else if is_top && !way.pairs.iter().any(|(field, _)| *field == root(pointer)) {
            assert_eq!(refusal, None, "{}: {pointer} is not needed", way.name);
        }
        if let Some(body) = doubled(&way.good, pointer) {
            let refusal = seen.case(way, &|| format!("{pointer} doubled"), &body).unwrap();
            let name = pointer.rsplit('/').next().unwrap();
            assert!(refusal.message.contains(&format!("{name:?} stands twice")), "{}, {pointer}: {refusal}", way.name);
        }
        for word in WORDS {
            seen.one_field(way, root(pointer), &|| format!("{pointer} as {word}"), &replaced(&way.good, pointer, word));
        }
        if LARGE.contains(&pointer.as_str()) {
            let old = way.good.pointer(pointer).unwrap().to_string();
            for (what, text) in large(&old) {
                // What is too deep or too much is no longer refused for a field.
                seen.case(way, &|| format!("{pointer} as {what}"), &replaced(&way.good, pointer, &text));
            }
        }
    }
    for (what, text) in large("1") {
        seen.case(way, &|| format!("the body as {what}"), text.as_bytes());
        if let Some(fields) = text.strip_prefix("{\"") {
            let body = format!("{},\"{fields}", way.good.to_string().strip_suffix('}').unwrap());
            assert!(seen.case(way, &|| format!("the body with {what}"), body.as_bytes()).is_some());
        }
    }
}

/// A body cut at every byte, with every byte left out, and with others in its place.
fn bytes(way: &Way, seen: &mut Seen) {
    let good = way.good.to_string().into_bytes();
    for at in 0..good.len() {
        let refusal = seen.case(way, &|| format!("cut at {at}"), &good[..at]);
        assert_eq!(refusal.unwrap().code, "invalid_json", "{}: cut at {at}", way.name);
        seen.case(way, &|| format!("without byte {at}"), &[&good[..at], &good[at + 1..]].concat());
        for byte in [0, b'"', b'{', b'}', b'[', b',', b'9', b'-', b'\\', 0xff] {
            let mut body = good.clone();
            body[at] = byte;
            seen.case(way, &|| format!("byte {at} as {byte:#x}"), &body);
        }
    }
    for tail in [&b" x"[..], b"{}", b"\0", b"]"] {
        assert!(seen.case(way, &|| format!("{tail:?} behind it"), &[&good, tail].concat()).is_some());
    }
    assert_eq!(seen.case(way, &|| "blanks behind it".to_owned(), &[&good, &b" \n\t"[..]].concat()), None);
}

/// Several changes at once.
fn several(way: &Way, seen: &mut Seen) {
    for case in 0..DRAWN {
        let mut noise = case;
        let (mut value, changes) = (way.good.clone(), 2 + number(&mut noise, 4));
        for _ in 0..changes {
            let mut all = Vec::new();
            places(&value, "", &mut all);
            let Some(pointer) = (!all.is_empty()).then(|| &all[number(&mut noise, all.len())]) else { break };
            let body = match number(&mut noise, 3) {
                0 => dropped(&value, pointer),
                1 => replaced(&value, pointer, WORDS[number(&mut noise, WORDS.len())]),
                // A piece of the body somewhere else in it.
                _ => replaced(&value, pointer, &value.pointer(&all[number(&mut noise, all.len())]).unwrap().to_string()),
            };
            value = serde_json::from_slice(&body).unwrap();
        }
        seen.case(way, &|| format!("drawn {case}"), value.to_string().as_bytes());
    }
}

/// As many vectors as there may be, in both forms.
fn vectors() {
    let texts = 256;
    let vector: Vec<f32> = (0..384u16).map(|at| (f32::from(at) - 191.3) / 1_931.7).collect();
    let embedded = Embedded { vectors: vec![vector; texts], tokens: 9 };
    for is_base64 in [false, true] {
        let asked = embeddings::Asked { model: "minilm".to_owned(), texts: Vec::new(), is_base64 };
        let (held, text) = peak(|| embeddings::answer(&asked, &embedded));
        println!("vectors, base64 {is_base64}: {held} bytes held for {} of answer", text.len());
        assert!(held <= 4 * text.len(), "{held} bytes held for {}", text.len());
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["data"].as_array().unwrap().len(), texts);
        if !is_base64 {
            for (sent, value) in read["data"][255]["embedding"].as_array().unwrap().iter().zip(&embedded.vectors[255]) {
                #[expect(clippy::cast_possible_truncation, reason = "what a client makes of it: the nearest f32")]
                let got = sent.as_f64().unwrap() as f32;
                assert_eq!(got.to_bits(), value.to_bits());
            }
        }
    }
}

#[test]
fn a_mangled_request_is_accepted_or_refused_by_its_field_and_held_in_a_small_multiple_of_it() {
    for way in ways() {
        let mut seen = Seen { worst: (0, 1), ..Seen::default() };
        assert_eq!(seen.case(&way, &|| "as it is".to_owned(), way.good.to_string().as_bytes()), None, "{}", way.name);
        fields(&way, &mut seen);
        bytes(&way, &mut seen);
        several(&way, &mut seen);
        let Seen { taken, refused, worst: (held, bytes) } = seen;
        println!("{}: {refused} refused, {taken} taken; at worst {held} bytes held for {bytes}", way.name);
        assert!(taken > 10 && refused > 100, "{}: {refused} refused, {taken} taken", way.name);
    }
    vectors();
}
