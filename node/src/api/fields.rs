//! A request's JSON against a table of its fields: the table is what is read, what is refused, and what the OpenAPI document says.
//!
//! Nothing is ignored: a field that no table names, one that stands twice, and one that this gateway cannot honour are each refused by name. `null` is
//! the same as leaving a field out, as OpenAI has it.
//!
//! Size: a body has [`super::BODY_MAX`] bytes and [`VALUES_MAX`] values at most. A value of two bytes takes 72 in the tree, an object of seven bytes 600, and a
//! list that grows stands there one and a half times more: 3 MiB for the values of any body, beside four times its bytes for texts on their way into the
//! tree and out of it (`tests/hostile_requests.rs`).

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::errors::Refusal;

/// Most values of a body, lists and objects among them: 32 for each of the messages that there may be, more than eight parts.
pub const VALUES_MAX: u32 = 8_192;
/// Letters of a client's own words that an error says back.
const SHOWN: usize = 64;

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string of at least one and at most so many bytes.
    Text(usize),
    /// A finite number in a range, both ends included.
    Number(f64, f64),
    /// A whole number in a range, both ends included.
    Whole(i64, i64),
    /// `true` or `false`.
    Flag,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// Read by a function of its own; here its JSON schema.
    Own(&'static str),
    /// Known to OpenAI's clients and not honoured here; the words say why and what to do.
    Refused(&'static str),
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub shape: Shape,
    /// For people.
    pub doc: &'static str,
}

/// A row of a table.
pub const fn field(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field { name, shape, doc }
}

/// An object whose fields are those of a table.
#[derive(Debug)]
pub struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// A [`Refusal`] that names the first field that cannot be honoured.
    pub fn read(body: &[u8], table: &[Field]) -> Result<Self, Refusal> {
        let left = Cell::new(VALUES_MAX);
        let mut json = serde_json::Deserializer::from_slice(body);
        let value = Strict(&left).deserialize(&mut json).and_then(|value| json.end().map(|()| value)).map_err(|error| {
            Refusal::new(super::Kind::Invalid, "invalid_json", format!("the body is not JSON that is taken here: {error}"))
        })?;
        Self::of(value, String::new(), table)
    }

    /// Reads an object inside a body; `path` is where it stands.
    ///
    /// # Errors
    /// As [`Fields::read`].
    pub fn of(value: Value, path: String, table: &[Field]) -> Result<Self, Refusal> {
        let Value::Object(map) = value else {
            let place = if path.is_empty() { "the body" } else { path.as_str() };
            return Err(Refusal { param: (!path.is_empty()).then(|| path.clone()), ..wrong_type("", place, "an object", &value) });
        };
        let fields = Self { path, map };
        for (name, value) in fields.map.iter().filter(|(_, value)| !value.is_null()) {
            let place = fields.place(name);
            match table.iter().find(|field| field.name == name) {
                Some(field) => check(&place, field, value)?,
                None => {
                    let known: Vec<&str> =
                        table.iter().filter(|field| !matches!(field.shape, Shape::Refused(_))).map(|field| field.name).collect();
                    let message = format!("{place} is not a field that is known here: leave it out; there are {}", known.join(", "));
                    return Err(Refusal::field(place, "unknown_parameter", message));
                }
            }
        }
        Ok(fields)
    }

    /// Where a field stands, as errors name it.
    pub fn place(&self, name: &str) -> String {
        let name = shown(name);
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a field whole.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A [`Shape::Text`] or [`Shape::OneOf`].
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A [`Shape::Number`].
    pub fn number(&mut self, name: &str) -> Option<f64> {
        self.take(name)?.as_f64()
    }

    /// A [`Shape::Whole`].
    pub fn whole(&mut self, name: &str) -> Option<i64> {
        self.take(name).as_ref().and_then(as_whole)
    }

    /// A [`Shape::Whole`] that its table bounds to a `u32`.
    pub fn count(&mut self, name: &str) -> Option<u32> {
        self.whole(name).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// A [`Shape::Flag`].
    pub fn flag(&mut self, name: &str) -> bool {
        matches!(self.take(name), Some(Value::Bool(true)))
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// A [`Refusal`] that names it.
    pub fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T, Refusal> {
        let place = self.place(name);
        value.ok_or_else(|| Refusal::field(place.clone(), "missing_parameter", format!("{place} is missing: give it")))
    }
}

fn check(place: &str, field: &Field, value: &Value) -> Result<(), Refusal> {
    match field.shape {
        Shape::Text(most) => match value {
            Value::String(text) if (1..=most).contains(&text.len()) => Ok(()),
            Value::String(text) => {
                let message = format!("{place} has {} bytes, it may have 1 to {most}", text.len());
                Err(Refusal::field(place, "out_of_range", message))
            }
            other => Err(wrong_type(place, place, "a string", other)),
        },
        Shape::Number(least, most) => match value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Ok(()),
            Some(number) => Err(Refusal::field(place, "out_of_range", format!("{place} is {number}, it may be {least} to {most}"))),
            None => Err(wrong_type(place, place, "a number", value)),
        },
        Shape::Whole(least, most) => match (as_whole(value), value) {
            (Some(number), _) if (least..=most).contains(&number) => Ok(()),
            (_, Value::Number(number)) => {
                let message = if least == most {
                    format!("{place} is {number}, only {least} can be had here: {}", field.doc)
                } else {
                    format!("{place} is {number}, it may be a whole number from {least} to {most}")
                };
                Err(Refusal::field(place, "out_of_range", message))
            }
            (_, other) => Err(wrong_type(place, place, "a whole number", other)),
        },
        Shape::Flag if value.is_boolean() => Ok(()),
        Shape::Flag => Err(wrong_type(place, place, "true or false", value)),
        Shape::OneOf(all) => match value {
            Value::String(text) if all.contains(&text.as_str()) => Ok(()),
            Value::String(text) => {
                let message = format!("{place} is {:?}, it may be {}: {}", shown(text), all.join(" or "), field.doc);
                Err(Refusal::field(place, "invalid_value", message))
            }
            other => Err(wrong_type(place, place, "a string", other)),
        },
        Shape::Own(_) => Ok(()),
        Shape::Refused(why) => Err(Refusal::field(place, "unsupported_parameter", format!("{place} cannot be honoured here: {why}"))),
    }
}

/// A whole number, also one written with a zero fraction.
fn as_whole(value: &Value) -> Option<i64> {
    // Beyond 2^53 a float stands for several whole numbers.
    let exact = |number: &f64| number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 2^53")]
    value.as_i64().or_else(|| value.as_f64().filter(exact).map(|number| number as i64))
}

/// A value of another type than its field's.
pub(super) fn wrong_type(param: &str, place: &str, expected: &str, got: &Value) -> Refusal {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Refusal::field(param, "invalid_type", format!("{place} must be {expected}, it is {got}"))
}

/// The beginning of a client's own word.
fn shown(word: &str) -> &str {
    word.char_indices().nth(SHOWN).map_or(word, |(end, _)| &word[..end])
}

/// JSON of at most so many values, in which no field of an object stands twice: which of the two was meant nobody knows.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Cell<u32>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| D::Error::custom(format!("it has more than {VALUES_MAX} values: send fewer of them")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format!("the field {:?} stands twice in one object: leave one out", shown(&name))));
            }
            map.insert(name, entries.next_value_seed(self)?);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: [Field; 7] = [
        field("text", Shape::Text(4), ""),
        field("number", Shape::Number(0.0, 2.0), ""),
        field("whole", Shape::Whole(1, 9), ""),
        field("one", Shape::Whole(1, 1), "ask several times"),
        field("flag", Shape::Flag, ""),
        field("way", Shape::OneOf(&["a", "b"]), "nothing else"),
        field("tools", Shape::Refused("no model here calls tools"), ""),
    ];

    fn refused(body: &str) -> (Option<String>, String) {
        let refusal = Fields::read(body.as_bytes(), &TABLE).unwrap_err();
        (refusal.param, refusal.message)
    }

    #[test]
    fn every_field_that_cannot_be_honoured_is_named() {
        let table = [
            (r#"{"text":""}"#, "text", "1 to 4"),
            (r#"{"text":"12345"}"#, "text", "5 bytes"),
            (r#"{"text":7}"#, "text", "must be a string, it is a number"),
            (r#"{"number":2.1}"#, "number", "0 to 2"),
            (r#"{"number":"1"}"#, "number", "it is a string"),
            (r#"{"whole":0}"#, "whole", "from 1 to 9"),
            (r#"{"whole":1.5}"#, "whole", "whole number"),
            (r#"{"whole":1e300}"#, "whole", "whole number"),
            (r#"{"whole":[]}"#, "whole", "it is a list"),
            (r#"{"one":2}"#, "one", "only 1 can be had here: ask several times"),
            (r#"{"flag":1}"#, "flag", "true or false"),
            (r#"{"way":"c"}"#, "way", "a or b: nothing else"),
            (r#"{"tools":[]}"#, "tools", "no model here calls tools"),
            (r#"{"colour":"red"}"#, "colour", "there are text, number"),
        ];
        for (body, param, words) in table {
            let (got, message) = refused(body);
            assert_eq!(got.as_deref(), Some(param), "{body}");
            assert!(message.contains(words) && message.contains(param), "{body}: {message}");
        }
    }

    #[test]
    fn what_is_no_object_or_says_a_field_twice_is_refused_whole() {
        for (body, words) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[]", "the body must be an object, it is a list"),
            (r#"{"flag":true,"flag":false}"#, "stands twice"),
            (r#"{"flag":true} x"#, "not JSON"),
            ("{\"text\":\"\u{1}\"}", "not JSON"),
        ] {
            let (param, message) = refused(body);
            assert_eq!(param.filter(|param| !param.is_empty()), None, "{body}");
            assert!(message.contains(words), "{body}: {message}");
        }
        let list = |values: usize| format!(r#"{{"tools":[{}1]}}"#, "1,".repeat(values - 3));
        let most = usize::try_from(VALUES_MAX).unwrap();
        assert!(refused(&list(most)).1.contains("no model here"), "as many values as there may be");
        assert!(refused(&list(most + 1)).1.contains("more than 8192 values"));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(refused(&deep).1.contains("recursion limit"), "deep nesting is refused, not followed");
    }

    #[test]
    fn null_is_the_same_as_leaving_a_field_out() {
        let mut fields = Fields::read(br#"{"tools":null,"text":null,"unheard_of":null,"whole":3.0,"flag":true}"#, &TABLE).unwrap();
        assert_eq!((fields.text("text"), fields.whole("whole"), fields.flag("flag")), (None, Some(3), true));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\",:0-9a-z.\\-]{0,80}") {
            drop(Fields::read(&bytes, &TABLE));
            drop(Fields::read(text.as_bytes(), &TABLE));
        }
    }
}
