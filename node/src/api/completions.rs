//! `POST /v1/completions`: what it takes.
//!
//! What is signed and answered on the network is a conversation, so the prompt stands as one message of the user: a model that was taught to converse
//! answers it rather than writing on.

use std::sync::LazyLock;

use serde_json::Value;

use super::{
    TOKENS_MAX,
    answer::Form,
    chat::{Asked, MODEL_BYTES_MAX, PASSED, STREAM, passed, stream},
    errors::Refusal,
    fields::{Field, Fields, Shape, field, wrong_type},
    options,
    source::{Ask, Message, Role},
};

/// Output tokens if the request does not say, as OpenAI has it.
const TOKENS_DEFAULT: u32 = 16;

/// The fields, in the order of the document.
pub(super) static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let own = [
        field("model", Shape::Text(MODEL_BYTES_MAX), "What shall answer: an id of `/v1/models`. Needed."),
        field(
            "prompt",
            Shape::Own(
                r#"{"oneOf":[{"type":"string","minLength":1},{"type":"array","minItems":1,"maxItems":1,"items":{"type":"string","minLength":1}}]}"#,
            ),
            "The text that is answered, as one message of the user. Needed.",
        ),
        field("max_tokens", Shape::Whole(1, TOKENS_MAX.into()), "Most output tokens; 16 if absent."),
        field("logprobs", Shape::Whole(0, 5), "How many of the likeliest tokens are told with the logarithm of their probability."),
        field("best_of", Shape::Whole(1, 1), "one answer per request is given: ask several times and choose"),
        field("echo", Shape::Own(r#"{"type":"boolean","enum":[false]}"#), "Must be false if given: the prompt is not sent back."),
        field("suffix", Shape::Refused("models here write on, they do not fill in: leave it out"), ""),
    ];
    own.into_iter().chain(STREAM).chain(options::FIELDS).chain(PASSED).collect()
});

/// Reads a request.
///
/// # Errors
/// A [`Refusal`] that names the field.
pub fn read(body: &[u8]) -> Result<Asked, Refusal> {
    let mut fields = Fields::read(body, &FIELDS)?;
    let model = fields.text("model");
    let model = fields.needed("model", model)?;
    let messages = vec![Message { role: Role::User, content: prompt(&mut fields)? }];
    let told = fields.whole("logprobs").map(|told| u8::try_from(told).unwrap_or(u8::MAX));
    let choosing = options::read(&mut fields)?.telling(told);
    let (is_stream, wants_usage) = stream(&mut fields)?;
    passed(&mut fields)?;
    match fields.take("echo") {
        None | Some(Value::Bool(false)) => {}
        Some(Value::Bool(true)) => {
            let message = "echo cannot be honoured here, the prompt is not sent back: leave it out, and put the prompt before the answer";
            return Err(Refusal::field("echo", "unsupported_parameter", message));
        }
        Some(other) => return Err(wrong_type("echo", "echo", "true or false", &other)),
    }
    let tokens_max = fields.count("max_tokens").unwrap_or(TOKENS_DEFAULT);
    Ok(Asked { ask: Ask { model, messages, tokens_max, choosing, once: None }, form: Form::Text, is_stream, wants_usage })
}

fn prompt(fields: &mut Fields) -> Result<String, Refusal> {
    const NAME: &str = "prompt";
    let value = fields.take(NAME);
    let mut list = match fields.needed(NAME, value)? {
        Value::Array(list) => list,
        text => vec![text],
    };
    match (list.pop(), list.is_empty()) {
        (Some(Value::String(text)), true) if !text.is_empty() => Ok(text),
        (Some(Value::String(_)), true) => Err(Refusal::field(NAME, "invalid_value", "prompt is empty: give it text")),
        (Some(Value::Number(_) | Value::Array(_)), _) => {
            Err(Refusal::field(NAME, "unsupported_parameter", "prompt holds numbers of tokens, what is signed is text: send the text"))
        }
        (Some(Value::String(_)), false) => {
            let message = "prompt holds several texts, one answer per request is given, with a receipt of its own: ask for each";
            Err(Refusal::field(NAME, "unsupported_parameter", message))
        }
        (other, _) => Err(wrong_type(NAME, NAME, "a string", &other.unwrap_or_else(|| Value::Array(Vec::new())))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn with(change: Value) -> Result<Asked, Refusal> {
        let mut body = json!({ "model": "tiny", "prompt": "Once" });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        read(body.to_string().as_bytes())
    }

    #[test]
    fn a_prompt_is_one_message_of_the_user() {
        let asked = with(json!({ "prompt": ["Once upon"], "logprobs": 0, "stream": true, "echo": false, "best_of": 1 })).unwrap();
        assert_eq!(asked.ask.messages, [Message { role: Role::User, content: "Once upon".into() }]);
        assert_eq!((asked.ask.tokens_max, asked.ask.choosing.told, asked.form), (TOKENS_DEFAULT, Some(0), Form::Text));
        assert!(asked.is_stream && !asked.wants_usage);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_its_place() {
        let table = [
            (json!({ "prompt": null }), "prompt"),
            (json!({ "prompt": "" }), "prompt"),
            (json!({ "prompt": [] }), "prompt"),
            (json!({ "prompt": ["a", "b"] }), "prompt"),
            (json!({ "prompt": [1, 2] }), "prompt"),
            (json!({ "prompt": [[1, 2]] }), "prompt"),
            (json!({ "prompt": { "text": "a" } }), "prompt"),
            (json!({ "prompt": [null] }), "prompt"),
            (json!({ "model": null }), "model"),
            (json!({ "max_tokens": 0 }), "max_tokens"),
            (json!({ "logprobs": 6 }), "logprobs"),
            (json!({ "logprobs": true }), "logprobs"),
            (json!({ "echo": true }), "echo"),
            (json!({ "echo": 1 }), "echo"),
            (json!({ "suffix": "end" }), "suffix"),
            (json!({ "best_of": 2 }), "best_of"),
            (json!({ "n": 3 }), "n"),
            (json!({ "messages": [] }), "messages"),
            (json!({ "top_logprobs": 1 }), "top_logprobs"),
            (json!({ "stream_options": {} }), "stream_options"),
        ];
        for (change, param) in table {
            let refusal = with(change.clone()).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(param), "{change}: {refusal}");
            assert!(refusal.message.contains(param), "the message names the place: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), name in "[a-z_]{1,20}", text in "\\PC{0,40}") {
            drop(read(&bytes));
            drop(with(json!({ name: text })));
        }
    }
}
