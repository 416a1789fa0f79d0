//! The fields of a request that say how tokens are chosen, the same for chat and for legacy completions.
//!
//! OpenAI's numbers are floats; what is signed is integers: temperature and penalties are rounded to thousandths, probabilities to millionths.

use serde_json::{Value, json};
use types::options::{BIAS_MAX, GRAMMAR_BYTES_MAX, Grammar, GrammarKind, Options, STOP_BYTES_MAX, STOPS_MAX};

use super::{
    errors::Refusal,
    fields::{Field, Fields, Shape, field, wrong_type},
    source::Choosing,
};

/// Largest id of a token: vocabularies are smaller.
const TOKEN_MAX: u32 = 1 << 22;

/// The fields.
pub(super) const FIELDS: [Field; 12] = [
    field(
        "temperature",
        Shape::Number(0.0, 2.0),
        "Spread of what is drawn; 0 takes the likeliest token each time. Rounded to thousandths; 1 if absent.",
    ),
    field(
        "top_p",
        Shape::Number(0.0, 1.0),
        "Only the likeliest tokens that together have this probability are drawn from. Rounded to millionths, 0 to one of them.",
    ),
    field("top_k", Shape::Whole(0, 1 << 22), "Only so many of the likeliest tokens are drawn from; 0 admits all. Not OpenAI's."),
    field("min_p", Shape::Number(0.0, 1.0), "Only tokens at least this fraction as likely as the likeliest are drawn from. Not OpenAI's."),
    field(
        "repetition_penalty",
        Shape::Number(0.1, 10.0),
        "Divides the logit of whatever prompt and answer have said; 1 changes nothing. Not OpenAI's.",
    ),
    field("presence_penalty", Shape::Number(-2.0, 2.0), "Taken off the logit of whatever the answer has said."),
    field("frequency_penalty", Shape::Number(-2.0, 2.0), "Taken off it for each time it was said."),
    field(
        "logit_bias",
        Shape::Own(r#"{"type":"object","additionalProperties":{"type":"number","minimum":-100,"maximum":100},"maxProperties":1024}"#),
        "Added to logits, by the number of the token.",
    ),
    field(
        "stop",
        Shape::Own(
            r#"{"oneOf":[{"type":"string","minLength":1,"maxLength":256},{"type":"array","maxItems":16,"items":{"type":"string","minLength":1,"maxLength":256}}]}"#,
        ),
        "Strings that end the answer and are no part of it.",
    ),
    field(
        "seed",
        Shape::Whole(i64::MIN, i64::MAX),
        "Two questions with the same seed are answered alike. Needed only where something is drawn.",
    ),
    field("n", Shape::Whole(1, 1), "one answer per request is given, each with a receipt of its own: ask several times"),
    field("user", Shape::Text(512), "Taken as it is; kept nowhere and told to nobody."),
];

/// Reads them; logarithms and grammar are the caller's.
pub(super) fn read(fields: &mut Fields) -> Result<Choosing, Refusal> {
    fields.whole("n");
    fields.text("user");
    let Choosing { options: plain, .. } = Choosing::default();
    let options = Options {
        temperature_milli: fields.number("temperature").map_or(plain.temperature_milli, |value| unsigned(value, 1_000.0)),
        // 0 would say all of them to the sampler; OpenAI means the likeliest alone.
        top_p_ppm: fields.number("top_p").map_or(0, |value| unsigned(value, 1_000_000.0).max(1)) % 1_000_000,
        top_k: fields.count("top_k").unwrap_or_default(),
        min_p_ppm: fields.number("min_p").map_or(0, |value| unsigned(value, 1_000_000.0)),
        repeat_milli: fields.number("repetition_penalty").map_or(plain.repeat_milli, |value| unsigned(value, 1_000.0)),
        presence_milli: fields.number("presence_penalty").map_or(0, |value| signed(value, 1_000.0)),
        frequency_milli: fields.number("frequency_penalty").map_or(0, |value| signed(value, 1_000.0)),
        bias: bias(fields)?,
        stop: stop(fields)?,
        ..plain
    };
    Ok(Choosing { options: options.sorted(), told: None, seed: fields.whole("seed") })
}

/// A number of the table times `parts`, rounded.
fn signed(value: f64, parts: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "the table bounds every number here to 1,000,000 parts")]
    let whole = (value * parts).round() as i32;
    whole
}

fn unsigned(value: f64, parts: f64) -> u32 {
    u32::try_from(signed(value, parts)).unwrap_or_default()
}

fn bias(fields: &mut Fields) -> Result<Vec<(u32, i32)>, Refusal> {
    let map = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong_type("logit_bias", "logit_bias", "an object", &other)),
    };
    if map.len() > BIAS_MAX {
        let message = format!("logit_bias has {} entries, it may have {}: leave out those that matter least", map.len(), BIAS_MAX);
        return Err(Refusal::field("logit_bias", "out_of_range", message));
    }
    let mut entries = Vec::with_capacity(map.len());
    for (token, value) in map {
        let id = token.parse::<u32>().ok().filter(|id| *id < TOKEN_MAX && id.to_string() == token);
        let Some(id) = id else {
            let shown: String = token.chars().take(64).collect();
            let message = format!("logit_bias names {shown:?}, it must name tokens by their number below {TOKEN_MAX}");
            return Err(Refusal::field("logit_bias", "invalid_value", message));
        };
        let place = format!("logit_bias.{token}");
        match value.as_f64() {
            Some(number) if (-100.0..=100.0).contains(&number) => entries.push((id, signed(number, 1_000.0))),
            Some(number) => {
                return Err(Refusal::field(place.clone(), "out_of_range", format!("{place} is {number}, it may be -100 to 100")));
            }
            None => return Err(wrong_type(&place, &place, "a number", &value)),
        }
    }
    // A bias of 0 changes nothing.
    entries.retain(|(_, milli)| *milli != 0);
    Ok(entries)
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let list = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(text @ Value::String(_)) => vec![text],
        Some(other) => return Err(wrong_type("stop", "stop", "a string or a list of strings", &other)),
    };
    if list.len() > STOPS_MAX {
        let message = format!("stop has {} strings, it may have {}: leave out some", list.len(), STOPS_MAX);
        return Err(Refusal::field("stop", "out_of_range", message));
    }
    let text = |(number, value): (usize, Value)| match value {
        Value::String(text) if (1..=STOP_BYTES_MAX).contains(&text.len()) => Ok(text),
        Value::String(text) => {
            let message = format!("stop[{number}] has {} bytes, it may have 1 to {}", text.len(), STOP_BYTES_MAX);
            Err(Refusal::field("stop", "out_of_range", message))
        }
        other => Err(wrong_type("stop", &format!("stop[{number}]"), "a string", &other)),
    };
    list.into_iter().enumerate().map(text).collect()
}

/// What an answer must be, from `response_format`.
pub(super) fn grammar(fields: &mut Fields) -> Result<Option<Grammar>, Refusal> {
    const NAME: &str = "response_format";
    let Some(value) = fields.take(NAME) else { return Ok(None) };
    const FORMAT: [Field; 2] = [
        field("type", Shape::OneOf(&["text", "json_object", "json_schema"]), "text changes nothing"),
        field("json_schema", Shape::Own(""), ""),
    ];
    const SCHEMA: [Field; 4] = [
        field("name", Shape::Text(64), ""),
        field("description", Shape::Text(1_024), ""),
        field("strict", Shape::Flag, ""),
        field("schema", Shape::Own(""), ""),
    ];
    let mut format = Fields::of(value, NAME.to_owned(), &FORMAT)?;
    let kind = format.text("type");
    let kind = format.needed("type", kind)?;
    let schema = match (kind.as_str(), format.take("json_schema")) {
        ("json_schema", Some(value)) => {
            let mut schema = Fields::of(value, format!("{NAME}.json_schema"), &SCHEMA)?;
            let source = schema.take("schema");
            schema.needed("schema", source)?
        }
        ("json_schema", None) => return format.needed::<Value>("json_schema", None).map(|_| None),
        (_, Some(_)) => {
            let message = format!("{NAME}.json_schema goes with the type json_schema, not with {kind}: leave it out, or change the type");
            return Err(Refusal::field(format!("{NAME}.json_schema"), "invalid_value", message));
        }
        ("json_object", None) => json!({ "type": "object" }),
        _ => return Ok(None),
    };
    if !schema.is_object() && !schema.is_boolean() {
        let place = format!("{NAME}.json_schema.schema");
        return Err(wrong_type(&place, &place, "a JSON schema", &schema));
    }
    let source = compact(schema).to_string();
    if source.len() > GRAMMAR_BYTES_MAX {
        let message = format!("{NAME} has a schema of {} bytes, it may have {GRAMMAR_BYTES_MAX}: make it smaller", source.len());
        return Err(Refusal::field(NAME, "out_of_range", message));
    }
    Ok(Some(Grammar::new(GrammarKind::Schema, source)))
}

/// The schema with the engine's word that nothing stands between the values of the answer, unless it has a word of its own: a small model that may write
/// blanks writes them until its tokens are used up.
fn compact(mut schema: Value) -> Value {
    const WORD: &str = "x-guidance";
    if let Value::Object(map) = &mut schema
        && !map.contains_key(WORD)
    {
        map.insert(WORD.to_owned(), json!({ "whitespace_flexible": false }));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAMMAR: [Field; 1] = [field("response_format", Shape::Own(""), "")];

    fn chosen(body: &str) -> Result<Choosing, Refusal> {
        read(&mut Fields::read(body.as_bytes(), &FIELDS)?)
    }

    fn options(body: &str) -> Result<Options, Refusal> {
        Ok(chosen(body)?.options)
    }

    fn held(body: &str) -> Result<Option<Grammar>, Refusal> {
        grammar(&mut Fields::read(body.as_bytes(), &GRAMMAR)?)
    }

    #[test]
    fn floats_become_the_integers_that_are_signed() {
        let read = chosen(
            r#"{"temperature":0.7,"top_p":0.95,"top_k":40,"min_p":0.05,"repetition_penalty":1.1,"presence_penalty":-0.5,"frequency_penalty":0.25,"seed":-3}"#,
        );
        let expected = Options {
            temperature_milli: 700,
            top_p_ppm: 950_000,
            top_k: 40,
            min_p_ppm: 50_000,
            repeat_milli: 1_100,
            presence_milli: -500,
            frequency_milli: 250,
            ..Options::default()
        };
        assert_eq!(read.unwrap(), Choosing { options: expected, told: None, seed: Some(-3) });
    }

    #[test]
    fn top_p_of_one_admits_all_and_of_zero_the_likeliest_alone() {
        assert_eq!(options(r#"{"top_p":1}"#).unwrap().top_p_ppm, 0);
        assert_eq!(options(r#"{"top_p":0}"#).unwrap().top_p_ppm, 1);
        assert_eq!(options(r#"{"top_p":0.9999999}"#).unwrap().top_p_ppm, 0);
    }

    #[test]
    fn bias_and_stop_are_read_in_both_of_their_forms() {
        let read = options(r#"{"logit_bias":{"7":-100,"3":0.5,"9":0},"stop":["b","a","b"]}"#).unwrap();
        assert_eq!((read.bias, read.stop), (vec![(3, 500), (7, -100_000)], vec!["a".to_owned(), "b".into()]));
        assert_eq!(options(r#"{"stop":"end"}"#).unwrap().stop, ["end"]);
        assert_eq!(options(r#"{"stop":[]}"#).unwrap().stop, Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        let biases: Vec<String> = (0..1_025).map(|n| format!("\"{n}\":1")).collect();
        for (body, param) in [
            (r#"{"logit_bias":[1]}"#.to_owned(), "logit_bias"),
            (r#"{"logit_bias":{"07":1}}"#.into(), "logit_bias"),
            (r#"{"logit_bias":{"-1":1}}"#.into(), "logit_bias"),
            (r#"{"logit_bias":{"4194304":1}}"#.into(), "logit_bias"),
            (r#"{"logit_bias":{"7":101}}"#.into(), "logit_bias.7"),
            (r#"{"logit_bias":{"7":"1"}}"#.into(), "logit_bias.7"),
            (format!("{{\"logit_bias\":{{{}}}}}", biases.join(",")), "logit_bias"),
            (r#"{"stop":7}"#.into(), "stop"),
            (r#"{"stop":[""]}"#.into(), "stop"),
            (r#"{"stop":["a",7]}"#.into(), "stop"),
            (format!("{{\"stop\":\"{}\"}}", "a".repeat(257)), "stop"),
            (format!("{{\"stop\":{}}}", serde_json::to_string(&many).unwrap()), "stop"),
            (r#"{"n":2}"#.into(), "n"),
            (r#"{"temperature":2.1}"#.into(), "temperature"),
        ] {
            assert_eq!(options(&body).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn a_schema_is_passed_on_as_it_was_written_but_for_blanks_and_text_asks_for_nothing() {
        let schema =
            held(r#"{"response_format":{"type":"json_schema","json_schema":{"name":"a","strict":true,"schema":{"type":"object","a":1}}}}"#);
        let source = |kind: &str| format!(r#"{{"type":"object"{kind},"x-guidance":{{"whitespace_flexible":false}}}}"#);
        assert_eq!(schema.unwrap().unwrap().source, source(r#","a":1"#), "the order of a schema is the order of the answer");
        assert_eq!(held(r#"{"response_format":{"type":"json_object"}}"#).unwrap().unwrap().source, source(""));
        let own = r#"{"x-guidance":{"whitespace_flexible":true}}"#;
        let said = held(&format!(r#"{{"response_format":{{"type":"json_schema","json_schema":{{"schema":{own}}}}}}}"#));
        assert_eq!(said.unwrap().unwrap().source, own);
        assert_eq!(held(r#"{"response_format":{"type":"text"}}"#).unwrap(), None);
        for (body, param) in [
            (r#"{"response_format":"json"}"#, "response_format"),
            (r#"{"response_format":{}}"#, "response_format.type"),
            (r#"{"response_format":{"type":"xml"}}"#, "response_format.type"),
            (r#"{"response_format":{"type":"json_schema"}}"#, "response_format.json_schema"),
            (r#"{"response_format":{"type":"text","json_schema":{}}}"#, "response_format.json_schema"),
            (r#"{"response_format":{"type":"json_schema","json_schema":{}}}"#, "response_format.json_schema.schema"),
            (r#"{"response_format":{"type":"json_schema","json_schema":{"schema":"x"}}}"#, "response_format.json_schema.schema"),
        ] {
            assert_eq!(held(body).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }
}
