//! `POST /v1/chat/completions`: what it takes.

use std::sync::LazyLock;

use inference::proto::message::MESSAGES_MAX;
use serde_json::Value;
use types::options::LOGPROBS_MAX;

use super::{
    BODY_MAX, TOKENS_MAX,
    answer::Form,
    errors::Refusal,
    fields::{Field, Fields, Shape, field, wrong_type},
    options,
    source::{Ask, Message, Role},
};

/// Output tokens if the request does not say: what `tributary ask` takes.
const TOKENS_DEFAULT: u32 = 256;
/// Longest name of a model.
pub const MODEL_BYTES_MAX: usize = 256;
/// Why nothing calls tools.
const NO_TOOLS: &str = "no model here calls tools: leave it out, and describe what the answer shall look like in words";
/// Why nothing but text is read or said.
const NO_MEDIA: &str = "text alone is read and written here: leave it out";

/// A request for an answer, of either form.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The question.
    pub ask: Ask,
    /// The form it came in.
    pub form: Form,
    /// Whether the answer comes piece by piece.
    pub is_stream: bool,
    /// Whether the last piece tells what was counted.
    pub wants_usage: bool,
}

/// The fields, in the order of the document.
pub(super) static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let own = [
        field("model", Shape::Text(MODEL_BYTES_MAX), "What shall answer: an id of `/v1/models`. Needed."),
        field(
            "messages",
            Shape::Own(r##"{"type":"array","minItems":1,"maxItems":256,"items":{"$ref":"#/components/schemas/Message"}}"##),
            "The conversation so far. Needed.",
        ),
        field(
            "max_completion_tokens",
            Shape::Whole(1, TOKENS_MAX.into()),
            "Most output tokens; 256 if neither this nor max_tokens is given.",
        ),
        field("max_tokens", Shape::Whole(1, TOKENS_MAX.into()), "The older name of max_completion_tokens."),
        field("logprobs", Shape::Flag, "Whether the logarithm of each token's probability is told."),
        field("top_logprobs", Shape::Whole(0, LOGPROBS_MAX.into()), "How many of the likeliest tokens are told with it. Needs logprobs."),
        field(
            "response_format",
            Shape::Own(r##"{"$ref":"#/components/schemas/ResponseFormat"}"##),
            "What the answer must be: text, a JSON object, or what a JSON schema describes.",
        ),
    ];
    let refused = [
        field("tools", Shape::Refused(NO_TOOLS), ""),
        field("tool_choice", Shape::Refused(NO_TOOLS), ""),
        field("parallel_tool_calls", Shape::Refused(NO_TOOLS), ""),
        field("functions", Shape::Refused(NO_TOOLS), ""),
        field("function_call", Shape::Refused(NO_TOOLS), ""),
        field("audio", Shape::Refused(NO_MEDIA), ""),
        field("modalities", Shape::Refused(NO_MEDIA), ""),
        field("web_search_options", Shape::Refused("nothing here searches the web: leave it out"), ""),
        field("prediction", Shape::Refused("drafts are made by the nodes themselves: leave it out, the answer is the same"), ""),
        field("reasoning_effort", Shape::Refused("models here have one way to answer: leave it out"), ""),
        field("verbosity", Shape::Refused("models here have one way to answer: leave it out, and ask for it in words"), ""),
    ];
    own.into_iter().chain(STREAM).chain(options::FIELDS).chain(PASSED).chain(refused).collect()
});

/// Fields of both forms that say how the answer is sent.
pub(super) const STREAM: [Field; 2] = [
    field("stream", Shape::Flag, "Whether the answer comes as server-sent events, token by token."),
    field(
        "stream_options",
        Shape::Own(
            r#"{"type":"object","properties":{"include_usage":{"type":"boolean"},"include_obfuscation":{"type":"boolean","enum":[false]}},"additionalProperties":false}"#,
        ),
        "Whether the last event tells what was counted. Needs stream.",
    ),
];

/// Fields that clients send about themselves, which change no answer.
pub(super) const PASSED: [Field; 6] = [
    field("metadata", Shape::Own(r#"{"type":"object"}"#), "Taken as it is; kept nowhere and told to nobody."),
    field("safety_identifier", Shape::Text(512), "Taken as it is; kept nowhere and told to nobody."),
    field("prompt_cache_key", Shape::Text(512), "Taken as it is; what a node keeps of prompts is keyed by who pays."),
    field("service_tier", Shape::OneOf(&["auto", "default"]), "there is one tier"),
    field("store", Shape::Own(r#"{"type":"boolean","enum":[false]}"#), "Must be false if given: no answer is stored for later."),
    field("moderation", Shape::Refused("nothing here judges texts: leave it out"), ""),
];

const MESSAGE: [Field; 6] = [
    field("role", Shape::OneOf(&["system", "developer", "user", "assistant"]), NO_TOOLS),
    field("content", Shape::Own(""), ""),
    field("name", Shape::Refused("what is signed is role and content alone: put the name into the content"), ""),
    field("refusal", Shape::Refused("what a model refused is no part of what is signed: put it into the content"), ""),
    field("tool_calls", Shape::Refused(NO_TOOLS), ""),
    field("tool_call_id", Shape::Refused(NO_TOOLS), ""),
];

const PART: [Field; 2] = [field("type", Shape::OneOf(&["text"]), NO_MEDIA), field("text", Shape::Text(BODY_MAX), "")];

/// Reads a request.
///
/// # Errors
/// A [`Refusal`] that names the field.
pub fn read(body: &[u8]) -> Result<Asked, Refusal> {
    let mut fields = Fields::read(body, &FIELDS)?;
    let model = fields.text("model");
    let model = fields.needed("model", model)?;
    let messages = messages(&mut fields)?;
    let mut choosing = options::read(&mut fields)?.telling(logprobs(&mut fields)?);
    choosing.options.grammar = options::grammar(&mut fields)?;
    let (is_stream, wants_usage) = stream(&mut fields)?;
    passed(&mut fields)?;
    let tokens_max = tokens_max(&mut fields)?;
    Ok(Asked { ask: Ask { model, messages, tokens_max, choosing, once: None }, form: Form::Chat, is_stream, wants_usage })
}

fn tokens_max(fields: &mut Fields) -> Result<u32, Refusal> {
    match (fields.count("max_completion_tokens"), fields.count("max_tokens")) {
        (Some(new), Some(old)) if new != old => {
            let message = format!("max_tokens is {old} and max_completion_tokens is {new}: give one of them");
            Err(Refusal::field("max_tokens", "invalid_value", message))
        }
        (new, old) => Ok(new.or(old).unwrap_or(TOKENS_DEFAULT)),
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<u8>, Refusal> {
    match (fields.flag("logprobs"), fields.count("top_logprobs")) {
        (true, top) => Ok(Some(top.map_or(0, |top| u8::try_from(top).unwrap_or(LOGPROBS_MAX)))),
        (false, None) => Ok(None),
        (false, Some(_)) => {
            Err(Refusal::field("top_logprobs", "invalid_value", "top_logprobs needs logprobs: set it to true, or leave both out"))
        }
    }
}

/// How the answer is sent: whether as a stream, and whether with what was counted.
pub(super) fn stream(fields: &mut Fields) -> Result<(bool, bool), Refusal> {
    const NAME: &str = "stream_options";
    const OPTIONS: [Field; 2] = [field("include_usage", Shape::Flag, ""), field("include_obfuscation", Shape::Flag, "")];
    let is_stream = fields.flag("stream");
    let Some(value) = fields.take(NAME) else { return Ok((is_stream, false)) };
    let mut options = Fields::of(value, NAME.to_owned(), &OPTIONS)?;
    if options.flag("include_obfuscation") {
        let message = "stream_options.include_obfuscation cannot be honoured here, events are as long as their tokens: leave it out";
        return Err(Refusal::field("stream_options.include_obfuscation", "unsupported_parameter", message));
    }
    if !is_stream {
        return Err(Refusal::field(NAME, "invalid_value", "stream_options needs stream: set it to true, or leave both out"));
    }
    Ok((is_stream, options.flag("include_usage")))
}

/// Takes what changes no answer.
pub(super) fn passed(fields: &mut Fields) -> Result<(), Refusal> {
    match fields.take("metadata") {
        Some(other) if !other.is_object() => return Err(wrong_type("metadata", "metadata", "an object", &other)),
        _ => {}
    }
    match fields.take("store") {
        None | Some(Value::Bool(false)) => Ok(()),
        Some(Value::Bool(true)) => Err(Refusal::field(
            "store",
            "unsupported_parameter",
            "store cannot be honoured here, no answer is stored for later: leave it out",
        )),
        Some(other) => Err(wrong_type("store", "store", "true or false", &other)),
    }
}

fn messages(fields: &mut Fields) -> Result<Vec<Message>, Refusal> {
    const NAME: &str = "messages";
    let value = fields.take(NAME);
    let list = match fields.needed(NAME, value)? {
        Value::Array(list) => list,
        other => return Err(wrong_type(NAME, NAME, "a list of messages", &other)),
    };
    if !(1..=MESSAGES_MAX).contains(&list.len()) {
        let message = format!("messages has {} messages, it may have 1 to {MESSAGES_MAX}", list.len());
        return Err(Refusal::field(NAME, "out_of_range", message));
    }
    list.into_iter().enumerate().map(|(number, value)| message(value, format!("{NAME}[{number}]"))).collect()
}

fn message(value: Value, path: String) -> Result<Message, Refusal> {
    let mut fields = Fields::of(value, path, &MESSAGE)?;
    let role = fields.text("role");
    let role = match fields.needed("role", role)?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => Role::System,
    };
    let place = fields.place("content");
    let content = fields.take("content");
    let content = match fields.needed("content", content)? {
        Value::String(text) => text,
        Value::Array(parts) => {
            let parts: Result<Vec<String>, Refusal> =
                parts.into_iter().enumerate().map(|(number, value)| part(value, format!("{place}[{number}]"))).collect();
            parts?.concat()
        }
        other => return Err(wrong_type(&place, &place, "a string or a list of parts", &other)),
    };
    if content.is_empty() {
        return Err(Refusal::field(place.clone(), "invalid_value", format!("{place} is empty: give it text, or leave the message out")));
    }
    Ok(Message { role, content })
}

fn part(value: Value, path: String) -> Result<String, Refusal> {
    let mut fields = Fields::of(value, path, &PART)?;
    let kind = fields.text("type");
    fields.needed("type", kind)?;
    let text = fields.text("text");
    fields.needed("text", text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::api::source::Choosing;

    fn with(change: Value) -> Result<Asked, Refusal> {
        let mut body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "Who are you?" }] });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        read(body.to_string().as_bytes())
    }

    #[test]
    fn what_is_not_said_is_openais_default() {
        let asked = with(json!({})).unwrap();
        let messages = vec![Message { role: Role::User, content: "Who are you?".into() }];
        let ask = Ask { model: "tiny".into(), messages, tokens_max: TOKENS_DEFAULT, choosing: Choosing::default(), once: None };
        assert_eq!(asked, Asked { ask, form: Form::Chat, is_stream: false, wants_usage: false });
        assert_eq!(asked.ask.choosing.options.temperature_milli, 1_000);
    }

    #[test]
    fn messages_have_roles_and_contents_of_text() {
        let list = json!([
            { "role": "developer", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "What is " }, { "type": "text", "text": "gout?" }] },
            { "role": "assistant", "content": "A disease.", "tool_calls": null, "refusal": null },
            { "role": "user", "content": "Of what?" },
        ]);
        let read = with(json!({ "messages": list })).unwrap().ask.messages;
        let said: Vec<(Role, &str)> = read.iter().map(|message| (message.role, message.content.as_str())).collect();
        let expected =
            [(Role::System, "Be brief."), (Role::User, "What is gout?"), (Role::Assistant, "A disease."), (Role::User, "Of what?")];
        assert_eq!(said, expected);
    }

    #[test]
    fn every_option_reaches_the_question() {
        let asked = with(json!({
            "max_tokens": 9, "logprobs": true, "top_logprobs": 3, "stream": true, "stream_options": { "include_usage": true },
            "response_format": { "type": "json_object" }, "stop": "x", "user": "u", "metadata": { "a": "b" }, "store": false,
            "service_tier": "auto", "n": 1, "temperature": 0, "seed": 4, "prompt_cache_key": "k", "safety_identifier": "s",
        }))
        .unwrap();
        assert!(asked.is_stream && asked.wants_usage);
        let Choosing { options, told, seed } = &asked.ask.choosing;
        assert_eq!((asked.ask.tokens_max, *told, *seed, options.logprobs, options.temperature_milli), (9, Some(3), Some(4), 3, 0));
        assert_eq!((options.stop.as_slice(), options.grammar.is_some()), (["x".to_owned()].as_slice(), true));
        assert_eq!(with(json!({ "max_completion_tokens": 8, "max_tokens": 8 })).unwrap().ask.tokens_max, 8);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_its_place() {
        let user = |content: Value| json!([{ "role": "user", "content": content }]);
        let table = [
            (json!({ "model": null }), "model"),
            (json!({ "model": "" }), "model"),
            (json!({ "model": 7 }), "model"),
            (json!({ "model": "m".repeat(257) }), "model"),
            (json!({ "messages": null }), "messages"),
            (json!({ "messages": [] }), "messages"),
            (json!({ "messages": "hello" }), "messages"),
            (json!({ "messages": vec![json!({ "role": "user", "content": "a" }); 257] }), "messages"),
            (json!({ "messages": ["hello"] }), "messages[0]"),
            (json!({ "messages": [{ "content": "a" }] }), "messages[0].role"),
            (json!({ "messages": [{ "role": "tool", "content": "a" }] }), "messages[0].role"),
            (json!({ "messages": [{ "role": "user" }] }), "messages[0].content"),
            (json!({ "messages": [{ "role": "user", "content": "a", "name": "b" }] }), "messages[0].name"),
            (json!({ "messages": [{ "role": "assistant", "content": "a", "tool_calls": [] }] }), "messages[0].tool_calls"),
            (json!({ "messages": [{ "role": "user", "content": "a", "colour": 1 }] }), "messages[0].colour"),
            (json!({ "messages": user(json!("")) }), "messages[0].content"),
            (json!({ "messages": user(json!([])) }), "messages[0].content"),
            (json!({ "messages": user(json!(7)) }), "messages[0].content"),
            (json!({ "messages": user(json!(["a"])) }), "messages[0].content[0]"),
            (
                json!({ "messages": user(json!([{ "type": "image_url", "image_url": { "url": "http://a" } }])) }),
                "messages[0].content[0].type",
            ),
            (json!({ "messages": user(json!([{ "type": "input_audio" }])) }), "messages[0].content[0].type"),
            (json!({ "messages": user(json!([{ "type": "text" }])) }), "messages[0].content[0].text"),
            (json!({ "max_tokens": 0 }), "max_tokens"),
            (json!({ "max_tokens": 4097 }), "max_tokens"),
            (json!({ "max_tokens": 5, "max_completion_tokens": 6 }), "max_tokens"),
            (json!({ "top_logprobs": 2 }), "top_logprobs"),
            (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
            (json!({ "logprobs": 1 }), "logprobs"),
            (json!({ "stream_options": { "include_usage": true } }), "stream_options"),
            (json!({ "stream": true, "stream_options": { "include_obfuscation": true } }), "stream_options.include_obfuscation"),
            (json!({ "stream": true, "stream_options": { "pace": 1 } }), "stream_options.pace"),
            (json!({ "stream": "yes" }), "stream"),
            (json!({ "metadata": "a" }), "metadata"),
            (json!({ "store": true }), "store"),
            (json!({ "service_tier": "priority" }), "service_tier"),
            (json!({ "n": 2 }), "n"),
            (json!({ "tools": [{ "type": "function" }] }), "tools"),
            (json!({ "tool_choice": "auto" }), "tool_choice"),
            (json!({ "functions": [] }), "functions"),
            (json!({ "audio": {} }), "audio"),
            (json!({ "modalities": ["text", "audio"] }), "modalities"),
            (json!({ "reasoning_effort": "high" }), "reasoning_effort"),
            (json!({ "best_of": 2 }), "best_of"),
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
