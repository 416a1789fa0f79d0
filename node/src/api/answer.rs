//! An answer in OpenAI's two forms, chat and legacy completion, whole or piece by piece. Pure: tokens go in, text of events comes out.
//!
//! A token may end inside a character; what is not whole yet waits for the next one. The receipt and the paid words stand beside `choices` of a whole
//! answer, and in the piece that says why the answer ended: a client that knows nothing of them sees OpenAI's members alone.
//!
//! Cost per token: one string of about 200 bytes, nearly all of it a prefix that is made once.

use serde_json::{Map, Value, json};

use super::source::{Finished, Logprob, Logprobs, Settled, Usage};

/// Which of OpenAI's forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// What all pieces of an answer share.
#[derive(Debug, Clone)]
pub struct Head {
    /// Form.
    pub form: Form,
    /// Its id.
    pub id: String,
    /// When it was asked, seconds since 1970.
    pub created_s: u64,
    /// What answers, as the client called it.
    pub model: String,
    /// Whether a last piece tells what was counted.
    pub wants_usage: bool,
    /// How many of the likeliest tokens are told, if any logarithm is.
    pub told: Option<u8>,
}

/// An answer under way.
#[derive(Debug)]
pub struct Writer {
    head: Head,
    /// A piece up to its text.
    prefix: String,
    letters: Letters,
    /// Characters so far.
    offset: usize,
}

/// A whole answer as it is gathered.
#[derive(Debug)]
pub struct Whole {
    head: Head,
    letters: Letters,
    text: String,
    told: Vec<(usize, Logprobs)>,
}

/// Bytes of tokens to text. Bytes that are no text become U+FFFD, and control characters but tab and line feed are left out: the text that is signed
/// has none, and what a client sends back as said before must be such a text.
#[derive(Debug, Default)]
struct Letters {
    /// The beginning of a character whose end is in the next token.
    held: Vec<u8>,
}

impl Letters {
    fn push(&mut self, bytes: &[u8]) -> String {
        if self.held.is_empty()
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return plain(text);
        }
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(bytes);
        let mut chunks = whole.utf8_chunks().peekable();
        let mut text = String::new();
        while let Some(chunk) = chunks.next() {
            text.push_str(&plain(chunk.valid()));
            // Only what stands at the very end may yet become a character.
            let is_cut = chunks.peek().is_none() && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            match chunk.invalid() {
                [] => {}
                begun if is_cut => self.held = begun.to_vec(),
                _ => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        text
    }

    /// What no token completes any more.
    fn rest(&mut self) -> &'static str {
        if std::mem::take(&mut self.held).is_empty() { "" } else { "\u{fffd}" }
    }
}

fn plain(text: &str) -> String {
    text.chars().filter(|letter| matches!(letter, '\n' | '\t') || !letter.is_control()).collect()
}

impl Head {
    const fn object(&self, is_whole: bool) -> &'static str {
        match (self.form, is_whole) {
            (Form::Chat, true) => "chat.completion",
            (Form::Chat, false) => "chat.completion.chunk",
            (Form::Text, _) => "text_completion",
        }
    }

    fn envelope(&self, choices: Value) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".into(), self.id.clone().into());
        map.insert("object".into(), self.object(false).into());
        map.insert("created".into(), self.created_s.into());
        map.insert("model".into(), self.model.clone().into());
        map.insert("choices".into(), choices);
        map
    }

    /// Up to the members of its one choice.
    fn opening(&self, is_whole: bool) -> String {
        let (id, object, model) = (quoted(&self.id), quoted(self.object(is_whole)), quoted(&self.model));
        format!("{{\"id\":{id},\"object\":{object},\"created\":{},\"model\":{model},\"choices\":[{{\"index\":0,", self.created_s)
    }

    /// As JSON. Each token's is a tree by itself: as one tree those of 4,096 tokens with twenty others each would take 60 MB.
    fn logprobs(&self, tokens: &[(usize, Logprobs)]) -> String {
        match (self.told, self.form) {
            (None, _) => "null".to_owned(),
            (Some(most), Form::Chat) => {
                let mut all = String::from("{\"content\":[");
                for (number, (_, told)) in tokens.iter().enumerate() {
                    all.push_str(if number > 0 { "," } else { "" });
                    all.push_str(&chat_logprobs(told, most).to_string());
                }
                all.push_str("],\"refusal\":null}");
                all
            }
            (Some(most), Form::Text) => text_logprobs(tokens, most).to_string(),
        }
    }
}

impl Writer {
    /// An answer that has not begun.
    pub fn new(head: Head) -> Self {
        let mut prefix = head.opening(false);
        prefix.push_str(if head.form == Form::Chat { "\"delta\":{\"content\":" } else { "\"text\":" });
        Self { head, prefix, letters: Letters::default(), offset: 0 }
    }

    /// The piece before the first token, if the form has one.
    pub fn begin(&self) -> Option<String> {
        let choice = json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "logprobs": null, "finish_reason": null }]);
        (self.head.form == Form::Chat).then(|| self.piece(choice, Map::new()))
    }

    /// A token's piece; none if it brings neither a whole character nor a logarithm.
    pub fn token(&mut self, bytes: &[u8], logprobs: Option<&Logprobs>) -> Option<String> {
        let text = self.letters.push(bytes);
        let told = logprobs.filter(|_| self.head.told.is_some());
        (!text.is_empty() || told.is_some()).then(|| self.text(&text, told))
    }

    fn text(&mut self, text: &str, told: Option<&Logprobs>) -> String {
        let logprobs = told.map_or_else(|| "null".to_owned(), |told| self.head.logprobs(&[(self.offset, told.clone())]));
        self.offset += text.chars().count();
        let close = if self.head.form == Form::Chat { "}" } else { "" };
        let usage = if self.head.wants_usage { ",\"usage\":null" } else { "" };
        let mut piece = self.prefix.clone();
        piece.push_str(&format!("{}{close},\"logprobs\":{logprobs},\"finish_reason\":null}}]{usage}}}", Value::from(text)));
        piece
    }

    /// The last pieces.
    pub fn end(&mut self, finished: &Finished) -> Vec<String> {
        let rest = self.letters.rest();
        let mut pieces: Vec<String> = (!rest.is_empty()).then(|| self.text(rest, None)).into_iter().collect();
        let reason = finished.reason.word();
        let choice = match self.head.form {
            Form::Chat => json!([{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": reason }]),
            Form::Text => json!([{ "index": 0, "text": "", "logprobs": null, "finish_reason": reason }]),
        };
        pieces.push(self.piece(choice, settled(finished.settled.as_ref())));
        if self.head.wants_usage {
            let mut map = self.head.envelope(json!([]));
            map.insert("usage".into(), usage(finished.usage));
            pieces.push(Value::Object(map).to_string());
        }
        pieces
    }

    fn piece(&self, choices: Value, more: Map<String, Value>) -> String {
        let mut map = self.head.envelope(choices);
        if self.head.wants_usage {
            map.insert("usage".into(), Value::Null);
        }
        map.extend(more);
        Value::Object(map).to_string()
    }
}

impl Whole {
    /// An answer that has not begun.
    pub const fn new(head: Head) -> Self {
        Self { head, letters: Letters { held: Vec::new() }, text: String::new(), told: Vec::new() }
    }

    /// Takes a token.
    pub fn token(&mut self, bytes: &[u8], logprobs: Option<Box<Logprobs>>) {
        if let Some(told) = logprobs.filter(|_| self.head.told.is_some()) {
            let offset = if self.head.form == Form::Text { self.text.chars().count() } else { 0 };
            self.told.push((offset, *told));
        }
        self.text.push_str(&self.letters.push(bytes));
    }

    /// The answer, as JSON.
    pub fn end(mut self, finished: &Finished) -> String {
        self.text.push_str(self.letters.rest());
        let (mut body, text) = (self.head.opening(true), quoted(&self.text));
        body.push_str(&match self.head.form {
            Form::Chat => format!("\"message\":{{\"role\":\"assistant\",\"content\":{text},\"refusal\":null}}"),
            Form::Text => format!("\"text\":{text}"),
        });
        body.push_str(",\"logprobs\":");
        body.push_str(&self.head.logprobs(&self.told));
        body.push_str(&format!(",\"finish_reason\":{}}}],\"usage\":{}", quoted(finished.reason.word()), usage(finished.usage)));
        for (name, value) in settled(finished.settled.as_ref()) {
            body.push_str(&format!(",{}:{value}", quoted(&name)));
        }
        body.push('}');
        body
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn usage(usage: Usage) -> Value {
    let Usage { tokens_in, tokens_out } = usage;
    json!({ "prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in.saturating_add(tokens_out) })
}

/// Amounts are strings: wei do not fit the numbers of JavaScript.
fn settled(settled: Option<&Settled>) -> Map<String, Value> {
    let Some(Settled { receipt, attribution }) = settled else { return Map::new() };
    let receipt = json!({
        "hash": receipt.hash.to_string(),
        "request": receipt.request.to_string(),
        "attempt": receipt.attempt,
        "node": receipt.node.to_string(),
        "manifest": receipt.manifest.to_string(),
        "fee_wei": receipt.fee_wei.0.to_string(),
        "at_most_wei": receipt.at_most_wei.0.to_string(),
    });
    let source = |one: &super::source::Attributed| {
        json!({
            "quote": one.quote,
            "contributor": one.contributor.to_string(),
            "datanet": one.datanet,
            "weight": one.weight,
            "amount_wei": one.amount_wei.0.to_string(),
        })
    };
    Map::from_iter([("receipt".to_owned(), receipt), ("attribution".to_owned(), attribution.iter().map(source).collect())])
}

/// A token as text; bytes that are none are written out, as OpenAI does.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => ["bytes:".to_owned()].into_iter().chain(bytes.iter().map(|byte| format!("\\x{byte:02x}"))).collect(),
    }
}

fn chat_logprobs(told: &Logprobs, most: u8) -> Value {
    let one = |token: &Logprob| json!({ "token": shown(&token.bytes), "logprob": token.nats, "bytes": token.bytes });
    let mut chosen = one(&told.chosen);
    chosen["top_logprobs"] = told.likeliest.iter().take(most.into()).map(one).collect();
    chosen
}

fn text_logprobs(tokens: &[(usize, Logprobs)], most: u8) -> Value {
    let top = |told: &Logprobs| {
        let likeliest = told.likeliest.iter().take(most.into()).chain((most > 0).then_some(&told.chosen));
        Value::Object(likeliest.map(|token| (shown(&token.bytes), json!(token.nats))).collect())
    };
    json!({
        "tokens": tokens.iter().map(|(_, told)| shown(&told.chosen.bytes)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|(_, told)| told.chosen.nats).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(|(_, told)| top(told)).collect::<Vec<_>>(),
        "text_offset": tokens.iter().map(|(offset, _)| offset).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{
        amount::Amount,
        id::{Address, Hash32},
    };

    use super::*;
    use crate::api::source::{Attributed, Reason, Signed};

    fn head(form: Form) -> Head {
        Head { form, id: "id-1".into(), created_s: 5, model: "a\"b".into(), wants_usage: true, told: None }
    }

    fn finished() -> Finished {
        let receipt = Signed {
            hash: Hash32([1; 32]),
            request: Hash32([2; 32]),
            attempt: 3,
            node: Address([4; 20]),
            manifest: Hash32([5; 32]),
            fee_wei: Amount(u128::MAX),
            at_most_wei: Amount(7),
        };
        let attribution = vec![Attributed {
            quote: "words".into(),
            contributor: Address([6; 20]),
            datanet: "2@1".into(),
            weight: 9,
            amount_wei: Amount(8),
        }];
        Finished { reason: Reason::Length, usage: Usage { tokens_in: 4, tokens_out: 6 }, settled: Some(Settled { receipt, attribution }) }
    }

    fn told(bytes: &[u8]) -> Logprobs {
        let chosen = Logprob { bytes: bytes.to_vec(), nats: -0.5 };
        Logprobs { likeliest: vec![chosen.clone(), Logprob { bytes: b"z".to_vec(), nats: -1.5 }], chosen }
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_pieces_of_a_chat_are_what_openai_sends() {
        let mut writer = Writer::new(head(Form::Chat));
        let first = parsed(&writer.begin().unwrap());
        assert_eq!(first["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
        let piece = parsed(&writer.token("q\0\"\u{85}\n".as_bytes(), None).unwrap());
        let expected = json!({
            "id": "id-1", "object": "chat.completion.chunk", "created": 5, "model": "a\"b", "usage": null,
            "choices": [{ "index": 0, "delta": { "content": "q\"\n" }, "logprobs": null, "finish_reason": null }],
        });
        assert_eq!(piece, expected);
        let last: Vec<Value> = writer.end(&finished()).iter().map(|text| parsed(text)).collect();
        assert_eq!(last[0]["choices"], json!([{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": "length" }]));
        assert_eq!(last[0]["receipt"]["fee_wei"], u128::MAX.to_string());
        assert_eq!(last[0]["attribution"][0]["quote"], "words");
        assert_eq!((&last[1]["choices"], &last[1]["usage"]["total_tokens"]), (&json!([]), &json!(10)));
    }

    #[test]
    fn the_pieces_of_a_legacy_completion_carry_text() {
        let mut writer = Writer::new(Head { wants_usage: false, ..head(Form::Text) });
        assert_eq!(writer.begin(), None);
        let piece = parsed(&writer.token(b"a", None).unwrap());
        assert_eq!(piece["choices"], json!([{ "index": 0, "text": "a", "logprobs": null, "finish_reason": null }]));
        assert_eq!((&piece["object"], piece.get("usage")), (&json!("text_completion"), None));
        assert_eq!(writer.end(&finished()).len(), 1);
    }

    #[test]
    fn a_character_cut_by_tokens_arrives_whole_and_one_that_never_ends_is_replaced() {
        let mut writer = Writer::new(head(Form::Chat));
        assert_eq!(writer.token(b"\xe6\x97", None), None);
        assert_eq!(parsed(&writer.token(b"\xa5\xf0", None).unwrap())["choices"][0]["delta"]["content"], "\u{65e5}");
        assert_eq!(parsed(&writer.end(&finished())[0])["choices"][0]["delta"]["content"], "\u{fffd}");
    }

    #[test]
    fn logarithms_are_told_as_many_as_were_asked_for() {
        let mut whole = Whole::new(Head { told: Some(1), ..head(Form::Chat) });
        whole.token(b"\xe6", Some(Box::new(told(b"\xe6"))));
        let answer = parsed(&whole.end(&finished()));
        let expected = json!([{ "token": "bytes:\\xe6", "logprob": -0.5, "bytes": [0xe6],
            "top_logprobs": [{ "token": "bytes:\\xe6", "logprob": -0.5, "bytes": [0xe6] }] }]);
        assert_eq!(answer["choices"][0]["logprobs"]["content"], expected);

        let mut whole = Whole::new(Head { told: Some(2), ..head(Form::Text) });
        whole.token("\u{e9}".as_bytes(), Some(Box::new(told("\u{e9}".as_bytes()))));
        whole.token(b"b", Some(Box::new(told(b"b"))));
        let answer = parsed(&whole.end(&finished()));
        let logprobs = &answer["choices"][0]["logprobs"];
        assert_eq!((&logprobs["text_offset"], &logprobs["tokens"]), (&json!([0, 1]), &json!(["\u{e9}", "b"])));
        assert_eq!(logprobs["top_logprobs"][1], json!({ "b": -0.5, "z": -1.5 }));

        let mut silent = Whole::new(head(Form::Chat));
        silent.token(b"a", Some(Box::new(told(b"a"))));
        assert_eq!(parsed(&silent.end(&finished()))["choices"][0]["logprobs"], Value::Null, "what was not asked for is not told");
    }

    #[test]
    fn a_whole_answer_has_its_receipt_beside_the_choices() {
        let mut whole = Whole::new(head(Form::Chat));
        whole.token(b"hel", None);
        whole.token(b"lo", None);
        let answer = parsed(&whole.end(&finished()));
        assert_eq!(answer["choices"][0]["message"], json!({ "role": "assistant", "content": "hello", "refusal": null }));
        assert_eq!(answer["usage"], json!({ "prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10 }));
        assert_eq!(answer["receipt"]["attempt"], 3);
        let plain = parsed(&Whole::new(head(Form::Text)).end(&Finished { settled: None, ..finished() }));
        assert_eq!(plain.get("receipt"), None);
    }

    proptest! {
        /// However bytes are cut into tokens, pieces and whole say the same, and it is what the bytes say.
        #[test]
        fn cutting_changes_no_text(text in "[a-z\\PC]{0,20}", junk in proptest::collection::vec(any::<u8>(), 0..8), cuts in proptest::collection::vec(0usize..60, 0..8)) {
            let bytes = [text.as_bytes(), &junk].concat();
            let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            places.sort_unstable();
            let (mut writer, mut whole, mut said) = (Writer::new(head(Form::Text)), Whole::new(head(Form::Text)), String::new());
            let mut take = |piece: &str| said.push_str(parsed(piece)["choices"][0]["text"].as_str().unwrap_or_default());
            for pair in places.windows(2) {
                let token = &bytes[pair[0]..pair[1]];
                whole.token(token, None);
                writer.token(token, None).iter().for_each(|piece| take(piece));
            }
            writer.end(&finished()).iter().for_each(|piece| take(piece));
            prop_assert_eq!(&said, &plain(&String::from_utf8_lossy(&bytes)));
            let whole = parsed(&whole.end(&finished()));
            prop_assert_eq!(whole["choices"][0]["text"].as_str(), Some(said.as_str()));
        }
    }
}
