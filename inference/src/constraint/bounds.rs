//! What of a grammar is refused before the library sees it, because the library has no bound of its own for it.
//!
//! Regular expressions that must hold at once are the danger. The library goes through all ways to choose one branch of each (`derivre`,
//! `RelevanceCache::deriv`) before it looks at its fuel again: 39 patterns joined by `allOf` took minutes and gigabytes. So at most
//! [`JOINED_MAX`] short ones may be joined, and a Lark grammar has no operator that joins. With two of 100 bytes these are below a million
//! ways, some tenths of a second.
//!
//! Whether patterns are joined is read off the schema's keywords, generously: a schema that could join some counts all that it has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::ConstraintError;

/// Deepest nesting of brackets in a schema: forms that people write stay below ten.
pub const NEST_MAX: usize = 64;
/// Bytes of a pattern: those that people write have less than 200.
pub const PATTERN_BYTES_MAX: usize = 500;
/// Different patterns and formats of a schema that joins some.
pub const JOINED_MAX: usize = 2;
/// Bytes of all patterns of a schema that joins some, and of all patterns of names.
pub const JOINED_BYTES_MAX: usize = 200;
/// Patterns of names in a schema: the library joins each with each.
pub const NAME_PATTERNS_MAX: usize = 8;

/// Deepest nesting of brackets outside of strings.
pub(super) fn depth(source: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0usize, 0, false, false);
    for byte in source.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Takes a schema that nests no deeper than [`NEST_MAX`] if its patterns are within the bounds above.
pub(super) fn check_schema(schema: &Value) -> Result<(), ConstraintError> {
    let mut found = Found::default();
    found.look(schema);
    found.check()?;
    if is_circular(schema, schema, &mut BTreeMap::new()) {
        let reason = "a $ref leads back to itself with nothing on its way, so that no value is described: say what stands there".to_owned();
        return Err(ConstraintError::Invalid(reason));
    }
    Ok(())
}

/// Whether a schema anywhere in `value` is whatever it is itself: the library takes it for one that nothing fits. One that a member, an item or a
/// choice leads back to is a tree, and fine. `seen` has what was looked at, true once that was done with.
fn is_circular<'a>(value: &'a Value, root: &'a Value, seen: &mut BTreeMap<*const Value, bool>) -> bool {
    let mut inner: Box<dyn Iterator<Item = &'a Value>> = match value {
        Value::Object(object) => Box::new(object.values()),
        Value::Array(values) => Box::new(values.iter()),
        _ => return false,
    };
    leads_back(value, root, seen) || inner.any(|value| is_circular(value, root, seen))
}

fn leads_back(value: &Value, root: &Value, seen: &mut BTreeMap<*const Value, bool>) -> bool {
    let Some(object) = value.as_object() else { return false };
    if let Some(is_done) = seen.get(&std::ptr::from_ref(value)) {
        return !is_done;
    }
    seen.insert(value, false);
    let target = object.get("$ref").and_then(Value::as_str).and_then(|path| root.pointer(path.strip_prefix('#')?));
    let list = |key: &str| object.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // A choice of one is none.
    let only = ["anyOf", "oneOf"].into_iter().map(list).filter(|choices| choices.len() == 1).flatten();
    let is_back = target.into_iter().chain(list("allOf")).chain(only).any(|next| leads_back(next, root, seen));
    seen.insert(value, true);
    is_back
}

/// Takes a Lark grammar if nothing in it joins regular expressions.
///
/// The signs are refused wherever they stand: what is a string and what is not is the library's to say, and it may change its mind.
pub(super) fn check_lark(source: &str) -> Result<(), ConstraintError> {
    let signs = [("&", "\\x26"), ("~", "\\x7e")];
    if let Some((sign, escape)) = signs.iter().find(|(sign, _)| source.contains(sign)) {
        let reason = format!("{sign} is not taken; within strings and regular expressions write {escape}, for a repetition {{n,m}}");
        return Err(ConstraintError::Invalid(reason));
    }
    if source.contains("%json") {
        return Err(ConstraintError::Invalid("%json is not taken: ask for a schema by itself".to_owned()));
    }
    Ok(())
}

/// Regular expressions of a schema.
#[derive(Debug, Default)]
struct Found<'a> {
    /// Patterns and formats of strings.
    strings: BTreeSet<&'a str>,
    /// Bytes of the longest pattern of strings or names.
    longest: usize,
    /// Bytes of all patterns of names, and how many there are.
    names: (usize, usize),
    is_joined: bool,
}

impl<'a> Found<'a> {
    /// Looks at everything, also where a value is no schema: what is called a pattern there counts too. As deep as [`NEST_MAX`] at most.
    fn look(&mut self, value: &'a Value) {
        match value {
            Value::Object(object) => {
                self.look_at(object);
                object.values().for_each(|value| self.look(value));
            }
            Value::Array(values) => values.iter().for_each(|value| self.look(value)),
            _ => {}
        }
    }

    fn look_at(&mut self, object: &'a Map<String, Value>) {
        if let Some(pattern) = object.get("pattern").and_then(Value::as_str) {
            self.strings.insert(pattern);
            self.longest = self.longest.max(pattern.len());
        }
        self.strings.extend(object.get("format").and_then(Value::as_str));
        if let Some(names) = object.get("patternProperties").and_then(Value::as_object) {
            self.longest = names.keys().map(String::len).fold(self.longest, usize::max);
            self.names = (self.names.0 + names.keys().map(String::len).sum::<usize>(), self.names.1 + names.len());
        }
        self.is_joined |= is_joint(object);
    }

    fn check(&self) -> Result<(), ConstraintError> {
        let (joined, (name_bytes, names)) = (self.strings.iter().map(|pattern| pattern.len()).sum::<usize>(), self.names);
        let costly =
            |what: &str, got: usize, max: usize| Err(ConstraintError::TooCostly(format!("{what}: {got}, at most {max} are granted")));
        match () {
            () if self.longest > PATTERN_BYTES_MAX => costly("bytes of a pattern", self.longest, PATTERN_BYTES_MAX),
            () if names > NAME_PATTERNS_MAX => costly("patterns of names", names, NAME_PATTERNS_MAX),
            () if name_bytes > JOINED_BYTES_MAX => costly("bytes of patterns of names", name_bytes, JOINED_BYTES_MAX),
            () if self.is_joined && self.strings.len() > JOINED_MAX => {
                costly("patterns and formats in a schema of which several may have to hold at once", self.strings.len(), JOINED_MAX)
            }
            () if self.is_joined && self.strings.len() > 1 && joined > JOINED_BYTES_MAX => {
                costly("bytes of patterns of which several may have to hold at once", joined, JOINED_BYTES_MAX)
            }
            () => Ok(()),
        }
    }
}

/// Whether two schemas that may both describe strings, or have members that do, must hold at once here.
fn is_joint(object: &Map<String, Value>) -> bool {
    let has = |keys: &[&str]| keys.iter().filter(|key| object.contains_key(**key)).count();
    let others = has(&["allOf", "anyOf", "oneOf", "$ref"]);
    let own = ["pattern", "format", "properties", "patternProperties", "additionalProperties", "items", "prefixItems", "additionalItems"];
    let several = object.get("allOf").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
    several || others > 1 || (others == 1 && has(&own) > 0) || object.contains_key("patternProperties") || has(&["pattern", "format"]) == 2
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refused(schema: &Value, says: &str) {
        let error = check_schema(schema).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn a_reference_to_nothing_but_itself_is_refused_and_a_tree_is_taken() {
        let chain = |last: &str| {
            let mut defs: Map<_, _> = (0..500).map(|n| (n.to_string(), json!({ "$ref": format!("#/$defs/{}", n + 1) }))).collect();
            defs.insert("500".to_owned(), json!({ "$ref": last }));
            json!({ "$defs": defs, "$ref": "#/$defs/0" })
        };
        for circular in [
            json!({ "$ref": "#" }),
            json!({ "properties": { "a": { "$ref": "#/properties/a" } } }),
            json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "allOf": [{ "$ref": "#/$defs/a" }] } }, "$ref": "#/$defs/a" }),
            json!({ "anyOf": [{ "$ref": "#" }] }),
            chain("#/$defs/7"),
        ] {
            refused(&circular, "leads back to itself");
        }
        for taken in [
            json!({ "type": "object", "properties": { "left": { "$ref": "#" } } }),
            json!({ "anyOf": [{ "type": "null" }, { "$ref": "#" }] }),
            json!({ "const": { "$ref": "#" } }),
            json!({ "$ref": "#/$defs/none" }),
            chain("#/$defs/word"),
        ] {
            check_schema(&taken).unwrap();
        }
    }

    #[test]
    fn forms_that_people_write_are_taken() {
        let word = |pattern: &str| json!({ "type": "string", "pattern": pattern });
        for schema in [
            json!(true),
            json!({ "properties": (0..50).map(|n| (format!("f{n}"), word(&format!("^[a-z]{{{n}}}$")))).collect::<Map<_, _>>() }),
            json!({ "anyOf": [word("a"), word("b"), word("c"), { "type": "null" }], "default": null, "title": "A choice" }),
            json!({ "properties": { "a": { "allOf": [{ "$ref": "#/$defs/a" }], "description": "one" }, "b": word("b"), "c": word("c") } }),
            json!({ "allOf": [word("^[a-z]+$"), word("^.{3}$")] }),
            json!({ "type": "string", "format": "date", "pattern": "^2" }),
            json!({ "patternProperties": { "^x-": { "type": "string" } }, "additionalProperties": false }),
            json!({ "properties": { "pattern": { "type": "string" }, "format": { "enum": ["a"] }, "patternProperties": {} } }),
        ] {
            assert_eq!(check_schema(&schema), Ok(()), "{schema}");
        }
    }

    #[test]
    fn regular_expressions_that_must_hold_at_once_are_few_and_short() {
        let word = |pattern: String| json!({ "type": "string", "pattern": pattern });
        let three: Vec<_> = (0..3).map(|n| word(format!("a{n}"))).collect();
        refused(&json!({ "allOf": three }), "hold at once: 3, at most 2");
        // Two by two, through names and through keywords beside each other.
        let defs = json!({ "a": three[0], "b": three[1], "c": { "$ref": "#/$defs/b", "pattern": "c" } });
        refused(&json!({ "$defs": defs, "$ref": "#/$defs/c" }), "hold at once");
        refused(&json!({ "anyOf": [three[0], three[1]], "oneOf": [three[1], three[2]] }), "hold at once");
        refused(&json!({ "items": three[0], "$ref": "#/$defs/x", "$defs": { "x": { "items": { "anyOf": three } } } }), "hold at once");
        refused(&json!({ "allOf": [{ "format": "date" }, { "format": "time" }, { "format": "email" }] }), "hold at once");
        refused(&json!({ "patternProperties": { "a": { "anyOf": three } }, "properties": { "ab": three[0] } }), "hold at once");
        refused(&json!({ "allOf": [word("a".repeat(150)), word("b".repeat(51))] }), "hold at once: 201, at most 200");
        refused(&json!({ "items": [word("a".repeat(501))] }), "bytes of a pattern: 501");
        let names: Map<_, _> = (0..9).map(|n| (format!("^{n}"), json!(true))).collect();
        refused(&json!({ "patternProperties": names }), "patterns of names: 9");
        refused(&json!({ "patternProperties": { "a".repeat(201): true } }), "bytes of patterns of names: 201");
    }

    #[test]
    fn a_lark_grammar_has_no_sign_that_joins() {
        assert_eq!(check_lark("start: /[!-\\x7e]/ \"\\x26\" X{2,3}\nX: \"x\""), Ok(()));
        for source in ["start: X\nX: /a/ & /b/", "start: X\nX: ~/a/", "start: X ~ 3\nX: \"a\"", "start: \"&\"", "start: %json {}"] {
            assert!(matches!(check_lark(source), Err(ConstraintError::Invalid(_))), "{source}");
        }
    }
}
