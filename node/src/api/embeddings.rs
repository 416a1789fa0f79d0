//! `POST /v1/embeddings`: what it takes and gives.

use std::sync::LazyLock;

use serde::Serialize;
use serde_json::Value;

use super::{
    chat::MODEL_BYTES_MAX,
    errors::Refusal,
    fields::{Field, Fields, Shape, field, wrong_type},
    source::Embedded,
};

/// Most texts of one request: a batch that takes a second or two.
pub(super) const TEXTS_MAX: usize = 256;

/// The fields, in the order of the document.
pub(super) static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    vec![
        field("model", Shape::Text(MODEL_BYTES_MAX), "What reads the texts: an id of `/v1/models`. Needed."),
        field(
            "input",
            Shape::Own(
                r#"{"oneOf":[{"type":"string","minLength":1},{"type":"array","minItems":1,"maxItems":256,"items":{"type":"string","minLength":1}}]}"#,
            ),
            "The texts. Needed.",
        ),
        field("encoding_format", Shape::OneOf(&["float", "base64"]), "numbers, or the bytes of little-endian 32-bit floats in base64"),
        field("user", Shape::Text(512), "Taken as it is; kept nowhere and told to nobody."),
        field("dimensions", Shape::Refused("vectors are as long as their model makes them: leave it out"), ""),
    ]
});

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What reads the texts.
    pub model: String,
    /// The texts.
    pub texts: Vec<String>,
    /// Whether vectors are sent in base64.
    pub is_base64: bool,
}

/// Reads a request.
///
/// # Errors
/// A [`Refusal`] that names the field.
pub fn read(body: &[u8]) -> Result<Asked, Refusal> {
    let mut fields = Fields::read(body, &FIELDS)?;
    let model = fields.text("model");
    let model = fields.needed("model", model)?;
    let texts = input(&mut fields)?;
    Ok(Asked { model, texts, is_base64: fields.text("encoding_format").as_deref() == Some("base64") })
}

fn input(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    const NAME: &str = "input";
    let value = fields.take(NAME);
    let list = match fields.needed(NAME, value)? {
        Value::Array(list) => list,
        text => vec![text],
    };
    if !(1..=TEXTS_MAX).contains(&list.len()) {
        let message = format!("input has {} texts, it may have 1 to {TEXTS_MAX}: send them in several requests", list.len());
        return Err(Refusal::field(NAME, "out_of_range", message));
    }
    let text = |(number, value): (usize, Value)| match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::String(_) => Err(Refusal::field(NAME, "invalid_value", format!("input[{number}] is empty: leave it out"))),
        Value::Number(_) | Value::Array(_) => {
            Err(Refusal::field(NAME, "unsupported_parameter", "input holds numbers of tokens, models here have their own: send the text"))
        }
        other => Err(wrong_type(NAME, &format!("input[{number}]"), "a string", &other)),
    };
    list.into_iter().enumerate().map(text).collect()
}

/// The response.
#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<One<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct One<'a> {
    object: &'static str,
    index: usize,
    embedding: Sent<'a>,
}

/// A vector in either form.
#[derive(Serialize)]
#[serde(untagged)]
enum Sent<'a> {
    Numbers(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u32,
    total_tokens: u32,
}

/// The response's JSON. Numbers are written as they are read, none becomes a tree's leaf: 256 texts have 98,304 of them.
pub fn answer(asked: &Asked, embedded: &Embedded) -> String {
    let sent = |vector: &'_ Vec<f32>| Sent::Base64(base64(&vector.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()));
    let one =
        |(index, vector)| One { object: "embedding", index, embedding: if asked.is_base64 { sent(vector) } else { Sent::Numbers(vector) } };
    let answer = Answer {
        object: "list",
        data: embedded.vectors.iter().enumerate().map(one).collect(),
        model: &asked.model,
        usage: Usage { prompt_tokens: embedded.tokens, total_tokens: embedded.tokens },
    };
    serde_json::to_string(&answer).expect("texts and numbers are JSON, and memory does not fail")
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(change: Value) -> Result<Asked, Refusal> {
        let mut body = json!({ "model": "minilm", "input": "a" });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        read(body.to_string().as_bytes())
    }

    #[test]
    fn one_text_or_a_list_is_taken() {
        assert_eq!(with(json!({})).unwrap(), Asked { model: "minilm".into(), texts: vec!["a".into()], is_base64: false });
        let asked = with(json!({ "input": ["a", "b"], "encoding_format": "base64", "user": "u" })).unwrap();
        assert_eq!((asked.texts.len(), asked.is_base64), (2, true));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_its_place() {
        for (change, param) in [
            (json!({ "model": null }), "model"),
            (json!({ "input": null }), "input"),
            (json!({ "input": "" }), "input"),
            (json!({ "input": [] }), "input"),
            (json!({ "input": ["a", ""] }), "input"),
            (json!({ "input": [1, 2] }), "input"),
            (json!({ "input": [[1]] }), "input"),
            (json!({ "input": [true] }), "input"),
            (json!({ "input": vec!["a"; TEXTS_MAX + 1] }), "input"),
            (json!({ "dimensions": 8 }), "dimensions"),
            (json!({ "encoding_format": "hex" }), "encoding_format"),
            (json!({ "truncate": true }), "truncate"),
        ] {
            let refusal = with(change.clone()).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(param), "{change}: {refusal}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let table =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in table {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn vectors_are_sent_in_both_forms() {
        let embedded = Embedded { vectors: vec![vec![1.0, -2.0]], tokens: 3 };
        let asked = with(json!({})).unwrap();
        let expected = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1.0,-2.0]}],"model":"minilm","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
        assert_eq!(answer(&asked, &embedded), expected);
        let coded: Value = serde_json::from_str(&answer(&Asked { is_base64: true, ..asked }, &embedded)).unwrap();
        assert_eq!((&coded["data"][0]["embedding"], &coded["usage"]["total_tokens"]), (&json!("AACAPwAAAMA="), &json!(3)));
    }
}
