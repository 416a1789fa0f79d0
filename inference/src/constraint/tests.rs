//! Answers of chance held to grammars, and grammars meant to do harm.

use serde_json::{Value, json};

use super::*;
use crate::sampler::{Counts, Options, choose, split_mix};

const END: u32 = 256;

/// Every byte, an end token, and some words of JSON.
fn grammars() -> Grammars {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    tokens.push(Vec::new());
    tokens.extend(["{\"", "\":", "\", \"", "true", "null", "name", "12", "  ", "\"}", "]}"].map(|word| word.as_bytes().to_vec()));
    Grammars::of_tokens(tokens, &[END]).unwrap()
}

fn by_schema(grammars: &Grammars, schema: &Value) -> Result<Guided, ConstraintError> {
    grammars.begin(&Grammar::new(GrammarKind::Schema, schema.to_string()))
}

/// An answer chosen from logits of chance under a grammar; none if it does not end within 4,000 tokens.
fn answer(grammars: &Grammars, mut guided: Guided, temperature_milli: u32, seed: u8) -> Result<Option<Vec<u8>>, ConstraintError> {
    let options = Options { temperature_milli, ..Options::default() };
    let (mut allowed, mut bytes, mut state) = (TokenSet::default(), Vec::new(), u64::from(seed));
    for position in 0..4_000 {
        if guided.allowed(&mut allowed, STEPS_MAX)? == Allowed::End {
            return Ok(Some(bytes));
        }
        let logits: Vec<f32> = (0..grammars.shared.vocabulary)
            .map(|_| {
                state = split_mix(state);
                (state >> 40) as f32 / (1u64 << 22) as f32
            })
            .collect();
        let token = choose(&logits, &options, &Counts::default(), Some(&allowed), &[seed; 32], position).unwrap().token;
        assert!(allowed.contains(token));
        if token == END {
            return Ok(Some(bytes));
        }
        guided.commit(token)?;
        bytes.extend_from_slice(grammars.shared.factory.tok_env().tok_trie().token(token));
    }
    Ok(None)
}

/// Whether a value is what the schemas below describe: a small reading of JSON Schema of our own.
fn fits(schema: &Value, root: &Value, value: &Value) -> bool {
    let get = |key: &str| schema.get(key);
    let number = |key: &str| get(key).and_then(Value::as_f64);
    let count = |key: &str, least: bool, got: usize| {
        get(key).and_then(Value::as_u64).is_none_or(|n| if least { got as u64 >= n } else { got as u64 <= n })
    };
    if let Some(path) = get("$ref").and_then(Value::as_str) {
        return fits(root.pointer(&path[1..]).unwrap(), root, value);
    }
    if let Some(any) = get("anyOf").and_then(Value::as_array) {
        return any.iter().any(|schema| fits(schema, root, value));
    }
    let has_type = match get("type").and_then(Value::as_str) {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some(other) => panic!("{other}"),
    };
    let one_of =
        get("enum").and_then(Value::as_array).is_none_or(|all| all.contains(value)) && get("const").is_none_or(|only| only == value);
    let in_range =
        value.as_f64().is_none_or(|n| number("minimum").is_none_or(|least| n >= least) && number("maximum").is_none_or(|most| n <= most));
    let inner = match value {
        Value::String(text) => count("minLength", true, text.chars().count()) && count("maxLength", false, text.chars().count()),
        Value::Array(items) => {
            count("minItems", true, items.len())
                && count("maxItems", false, items.len())
                && get("items").is_none_or(|schema| items.iter().all(|item| fits(schema, root, item)))
        }
        Value::Object(fields) => {
            let known = get("properties").and_then(Value::as_object);
            let open = get("additionalProperties") != Some(&Value::Bool(false));
            get("required").and_then(Value::as_array).is_none_or(|all| all.iter().all(|key| fields.contains_key(key.as_str().unwrap())))
                && fields.iter().all(|(key, value)| known.and_then(|known| known.get(key)).map_or(open, |schema| fits(schema, root, value)))
        }
        _ => true,
    };
    has_type && one_of && in_range && inner
}

/// Schemas of the kind people write.
fn schemas() -> Vec<Value> {
    let text = json!({ "type": "string", "maxLength": 12 });
    let object = |fields: Value, required: Value| json!({ "type": "object", "properties": fields, "required": required, "additionalProperties": false });
    vec![
        json!({ "type": "boolean" }),
        json!({ "type": "null" }),
        json!({ "type": "integer", "minimum": 1, "maximum": 31 }),
        json!({ "type": "integer", "minimum": -100, "maximum": 12_345 }),
        json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        json!({ "const": "ja" }),
        json!({ "enum": ["red", "green", "bl\u{fc}", 7, null, true] }),
        json!({ "type": "string", "minLength": 3, "maxLength": 9 }),
        json!({ "type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$" }),
        json!({ "type": "string", "format": "date" }),
        json!({ "type": "string", "format": "uuid" }),
        json!({ "type": "array", "items": { "type": "boolean" }, "minItems": 2, "maxItems": 5 }),
        json!({ "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 3 }),
        object(json!({ "name": text, "age": { "type": "integer", "minimum": 0, "maximum": 150 } }), json!(["name", "age"])),
        object(json!({ "name": text, "tags": { "type": "array", "items": text, "maxItems": 3 } }), json!(["name"])),
        object(json!({ "a": { "type": "null" }, "b": { "type": "null" }, "c": { "type": "null" } }), json!([])),
        object(
            json!({ "place": object(json!({ "x": { "type": "integer", "minimum": 0, "maximum": 9 } }), json!(["x"])) }),
            json!(["place"]),
        ),
        json!({ "anyOf": [{ "type": "boolean" }, { "type": "integer", "minimum": 0, "maximum": 3 }] }),
        json!({ "type": "object", "properties": { "kind": { "const": "point" }, "at": { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 99 }, "minItems": 2, "maxItems": 2 } }, "required": ["kind", "at"], "additionalProperties": false }),
        json!({ "$defs": { "tree": object(json!({ "leaf": { "type": "boolean" }, "left": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/tree" }] } }), json!(["leaf", "left"])) }, "$ref": "#/$defs/tree" }),
        json!({ "type": "array", "items": { "anyOf": [{ "type": "null" }, { "const": "\"quoted\"\n" }] }, "minItems": 1, "maxItems": 4 }),
        object(json!({ "a\u{e4}\"": { "enum": ["\u{1f600}", "\\"] } }), json!(["a\u{e4}\""])),
    ]
}

#[test]
fn an_answer_under_a_schema_is_json_that_fits_it() {
    let grammars = grammars();
    for schema in schemas() {
        for (seed, temperature_milli) in (0..12).zip([0, 500, 1_000, 3_000].into_iter().cycle()) {
            let guided = by_schema(&grammars, &schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
            let bytes = answer(&grammars, guided, temperature_milli, seed).unwrap().unwrap_or_else(|| panic!("{schema}: no end"));
            let value: Value =
                serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{schema}: {error} in {:?}", String::from_utf8_lossy(&bytes)));
            assert!(fits(&schema, &schema, &value), "{value} is not what {schema} describes");
        }
    }
}

#[test]
fn an_answer_under_a_lark_grammar_is_of_its_language() {
    let grammars = grammars();
    let source = "start: greeting \" \" NAME \"!\"\ngreeting: \"hi\" | \"hello\"\nNAME: /[A-Z][a-z]{1,5}/";
    for seed in 0..20 {
        let guided = grammars.begin(&Grammar::new(GrammarKind::Lark, source)).unwrap();
        let text = String::from_utf8(answer(&grammars, guided, 1_000, seed).unwrap().unwrap()).unwrap();
        let rest = text.strip_prefix("hi ").or_else(|| text.strip_prefix("hello ")).unwrap_or_else(|| panic!("{text:?}"));
        let name = rest.strip_suffix('!').unwrap();
        assert!((2..=6).contains(&name.len()) && name.starts_with(|c: char| c.is_ascii_uppercase()), "{text:?}");
    }
}

#[test]
fn a_token_out_of_place_is_refused_and_ends_the_answer() {
    let mut guided = by_schema(&grammars(), &json!({ "type": "boolean" })).unwrap();
    guided.commit(u32::from(b't')).unwrap();
    assert_eq!(guided.commit(u32::from(b'x')), Err(ConstraintError::NotAllowed { token: u32::from(b'x') }));
    assert_eq!(guided.commit(u32::from(b'r')), Err(ConstraintError::Failed));
    assert_eq!(guided.allowed(&mut TokenSet::default(), STEPS_MAX), Err(ConstraintError::Failed));
    let mut other = by_schema(&grammars(), &json!({ "type": "boolean" })).unwrap();
    assert_eq!(other.commit(9_999), Err(ConstraintError::NotAllowed { token: 9_999 }));
    let mut early = by_schema(&grammars(), &json!({ "type": "boolean" })).unwrap();
    assert_eq!(early.commit(END), Err(ConstraintError::NotAllowed { token: END }));
}

#[test]
fn the_end_token_is_allowed_where_an_answer_may_end_and_nowhere_else() {
    let mut guided = grammars().begin(&Grammar::new(GrammarKind::Lark, "start: /a{1,2}/")).unwrap();
    let mut set = TokenSet::default();
    let mut seen = Vec::new();
    for _ in 0..2 {
        assert_eq!(guided.allowed(&mut set, STEPS_MAX), Ok(Allowed::Tokens));
        seen.push(set.iter().collect::<Vec<_>>());
        guided.commit(u32::from(b'a')).unwrap();
    }
    assert_eq!(seen, [vec![u32::from(b'a')], vec![u32::from(b'a'), END]]);
    assert_eq!(guided.allowed(&mut set, STEPS_MAX), Ok(Allowed::End));
    assert_eq!(set.iter().collect::<Vec<_>>(), [END]);
}

#[test]
fn a_mask_that_takes_more_than_was_granted_ends_the_answer() {
    let mut guided = by_schema(&grammars(), &json!({ "type": "object" })).unwrap();
    let error = guided.allowed(&mut TokenSet::default(), 0).unwrap_err();
    assert!(matches!(error, ConstraintError::TooCostly(_)), "{error}");
    assert_eq!(guided.commit(u32::from(b'{')), Err(ConstraintError::Failed));
}

#[test]
fn a_vocabulary_that_cannot_spell_the_answer_is_a_dead_end() {
    let grammars = Grammars::of_tokens(vec![b"t".to_vec(), b"r".to_vec(), Vec::new()], &[2]).unwrap();
    let mut guided = by_schema(&grammars, &json!({ "const": true })).unwrap();
    let mut set = TokenSet::default();
    let error = (0..3).find_map(|token| guided.allowed(&mut set, STEPS_MAX).and_then(|_| guided.commit(token)).err());
    assert_eq!(error, Some(ConstraintError::DeadEnd));
}

#[test]
fn answers_under_one_grammar_do_not_touch_each_other() {
    let grammars = grammars();
    let schema = json!({ "type": "array", "items": { "type": "string", "maxLength": 6 }, "maxItems": 4 });
    let alone: Vec<_> = (0..6).map(|seed| answer(&grammars, by_schema(&grammars, &schema).unwrap(), 1_000, seed).unwrap()).collect();
    let open: Vec<_> = (0..6).map(|_| by_schema(&grammars, &schema).unwrap()).collect();
    let together: Vec<_> = open.into_iter().zip(0..).map(|(guided, seed)| answer(&grammars, guided, 1_000, seed).unwrap()).collect();
    assert_eq!(alone, together);
    let (mut cold, mut warm) = (by_schema(&self::grammars(), &schema).unwrap(), by_schema(&grammars, &schema).unwrap());
    let mut set = TokenSet::default();
    cold.allowed(&mut set, STEPS_MAX).unwrap();
    warm.allowed(&mut set, STEPS_MAX).unwrap();
    assert_eq!(cold.spent(), warm.spent(), "what an answer costs depends on it alone");
}

#[test]
fn a_bounded_number_of_compiled_grammars_is_kept() {
    let grammars = grammars();
    for n in 0..GRAMMARS_MAX + 5 {
        by_schema(&grammars, &json!({ "const": n })).unwrap();
        by_schema(&grammars, &json!({ "const": 0 })).unwrap();
    }
    assert_eq!(grammars.cache().len(), GRAMMARS_MAX);
    assert!(by_schema(&grammars, &json!({ "type": "wrong" })).is_err());
    assert_eq!(grammars.cache().len(), GRAMMARS_MAX);
}

/// How a hostile grammar ends. What each takes is counted by the library, so it is the same on every machine.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// Compiled, and sixty masks of it made.
    Taken,
    Costly,
    Invalid,
    TooDeep,
    DeadEnd,
}

/// Most fuel and items of a grammar at its beginning: as much as its compilation may take, twice.
const COMPILED_MAX: u64 = 2_000_000;
const MASKS: u64 = 60;

/// Compiles a grammar and makes masks along the same few bytes over and over: what makes a bad grammar branch.
fn hostile(name: &str, grammars: &Grammars, grammar: &Grammar) -> Outcome {
    assert!(grammar.source.len() <= GRAMMAR_BYTES_MAX, "{name}");
    let result = grammars.begin(grammar).and_then(|mut guided| {
        let compiled = cost(&guided.parser);
        assert!(compiled <= COMPILED_MAX, "{name}: {compiled} to compile");
        let mut set = TokenSet::default();
        for _ in 0..MASKS {
            if guided.allowed(&mut set, STEPS_MAX)? == Allowed::End {
                break;
            }
            let Some(token) = b"a\"{[x1 ".iter().map(|byte| u32::from(*byte)).chain(set.iter()).find(|token| set.contains(*token)) else {
                break;
            };
            if token == END {
                break;
            }
            guided.commit(token)?;
        }
        println!("{name}: {compiled} to compile, {} for masks", guided.spent());
        assert!(guided.spent() <= MASKS * STEPS_MAX);
        Ok(())
    });
    match result {
        Ok(()) => Outcome::Taken,
        Err(ConstraintError::TooCostly(reason)) => {
            println!("{name}: {reason}");
            Outcome::Costly
        }
        Err(ConstraintError::Invalid(reason)) => {
            println!("{name}: {reason}");
            Outcome::Invalid
        }
        Err(ConstraintError::TooDeep) => Outcome::TooDeep,
        Err(ConstraintError::DeadEnd) => Outcome::DeadEnd,
        Err(error) => panic!("{name}: {error}"),
    }
}

#[test]
fn hostile_schemas_are_refused_or_bounded() {
    let grammars = grammars();
    let check = |expected: Outcome, name: &str, source: String| {
        assert_eq!(hostile(name, &grammars, &Grammar::new(GrammarKind::Schema, source)), expected, "{name}");
    };
    let nested = |open: &str, close: &str, inner: &str, depth: usize| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
    let list = |items: Vec<String>| items.join(",");

    check(Outcome::TooDeep, "deep lists", nested("[", "]", "", 30_000));
    check(Outcome::TooDeep, "deep schemas", nested("{\"items\":", "}", "true", 5_000));
    check(Outcome::Taken, "deep within the bound", nested("{\"type\":\"array\",\"items\":", "}", "{}", NEST_MAX - 1));
    check(Outcome::Taken, "a bracket in a string", format!("{{\"const\":\"{}\"}}", "[".repeat(1_000)));
    check(Outcome::Taken, "a wide choice", format!("{{\"enum\":[{}]}}", list((0..6_000).map(|n| format!("\"{n:x}z\"")).collect())));
    let fields = list((0..3_000).map(|n| format!("\"{n:x}\":{{}}")).collect());
    check(Outcome::Taken, "many fields", format!("{{\"properties\":{{{fields}}}}}"));
    let required = list((0..1_500).map(|n| format!("\"{n:x}\"")).collect());
    check(Outcome::Taken, "many required fields", format!("{{\"type\":\"object\",\"required\":[{required}]}}"));

    check(Outcome::Invalid, "a reference to itself", "{\"$ref\":\"#\"}".into());
    let circle = "{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}},\"$ref\":\"#/$defs/a\"}";
    check(Outcome::Invalid, "references in a circle", circle.into());
    check(Outcome::Taken, "a list of itself", "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}".into());
    check(Outcome::Invalid, "a reference to elsewhere", "{\"$ref\":\"https://example.org/schema\"}".into());
    let both = list((0..24).map(|n| format!("{{\"anyOf\":[{{\"minLength\":{n}}},{{\"maxLength\":{}}}]}}", 900 - n)).collect());
    check(Outcome::Costly, "all of any of", format!("{{\"type\":\"string\",\"allOf\":[{both}]}}"));
    let doubled = list(
        (0..40)
            .map(|n| format!("\"d{n}\":{{\"anyOf\":[{{\"$ref\":\"#/$defs/d{}\"}},{{\"$ref\":\"#/$defs/d{}\"}}]}}", n + 1, n + 1))
            .collect(),
    );
    check(
        Outcome::Taken,
        "a chain that doubles",
        format!("{{\"$defs\":{{{doubled},\"d40\":{{\"type\":\"null\"}}}},\"$ref\":\"#/$defs/d0\"}}"),
    );

    check(Outcome::Taken, "a long list", "{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":1000000000}".into());
    check(Outcome::Taken, "a list of lists", "{\"type\":\"array\",\"maxItems\":100000,\"items\":{\"type\":\"array\",\"maxItems\":100000,\"items\":{\"type\":\"array\",\"maxItems\":100000}}}".into());
    check(Outcome::Taken, "a long string", "{\"type\":\"string\",\"minLength\":1000000000,\"maxLength\":2000000000}".into());
    check(Outcome::Costly, "a fine step", "{\"type\":\"number\",\"multipleOf\":1e-300}".into());
    check(
        Outcome::Invalid,
        "steps that meet late",
        "{\"allOf\":[{\"type\":\"integer\",\"multipleOf\":999983},{\"multipleOf\":999979}]}".into(),
    );
    check(Outcome::Invalid, "a wide range", "{\"type\":\"number\",\"minimum\":-1e308,\"maximum\":1.7e308}".into());
    for source in ["", "7", "[]", "{", "{\"type\":\"wrong\"}", "{\"type\":\"string\",\"pattern\":\"(\"}", "{\"if\":{},\"then\":{}}"] {
        check(Outcome::Invalid, source, source.to_owned());
    }
}

#[test]
fn hostile_patterns_are_refused_or_bounded() {
    let grammars = grammars();
    let check = |expected: Outcome, name: &str, source: String| {
        assert_eq!(hostile(name, &grammars, &Grammar::new(GrammarKind::Schema, source)), expected, "{name}");
    };
    for (expected, pattern) in [
        (Outcome::Costly, "((a{1,1000}){1,1000}){1,1000}"),
        (Outcome::Taken, "(a*)*b"),
        (Outcome::Taken, "(x+x+)+y"),
        (Outcome::Taken, "(.*a){40}"),
        (Outcome::Taken, "(.*,){99}P"),
        (Outcome::Taken, "(a?){200}a{200}"),
        (Outcome::Taken, "[a-q][^u-z]{13}x.*[a-q][^u-z]{13}x"),
        (Outcome::Taken, "(\\\\p{L}|\\\\p{N}){900}"),
        (Outcome::Taken, "(?:a|b|ab)*(?:.{50}a)"),
        (Outcome::Taken, "((((((((((a|b){2}){2}){2}){2}){2}){2}){2}){2}){2}){2}"),
    ] {
        check(expected, pattern, format!("{{\"type\":\"string\",\"pattern\":\"{pattern}\"}}"));
    }
    let joined = |patterns: &[String]| {
        let parts: Vec<_> = patterns.iter().map(|pattern| format!("{{\"pattern\":\"{pattern}\"}}")).collect();
        format!("{{\"type\":\"string\",\"allOf\":[{}]}}", parts.join(","))
    };
    // Took minutes and gigabytes: each way to choose a branch of each pattern is gone through between two looks at the fuel.
    let many: Vec<_> = (1..40).map(|n| format!("(.{{{n}}}a)*")).collect();
    check(Outcome::Costly, "patterns that must all hold", joined(&many));
    check(Outcome::Taken, "two patterns that must hold", joined(&["(.{7}a)*".to_owned(), "(.{8}a)*".to_owned()]));
    // As many branches as fit: of each class some hundred, by the first bytes of its letters.
    let classes = |last: &str| {
        ["L", "N", "Lu", "Ll", "P", "S", "M", "Z", "Nd", "Lo", "Sm", "Pd"].map(|class| format!("\\\\p{{{class}}}{last}")).join("|")
    };
    let wide = [classes("a"), classes("b")].map(|classes| format!("({classes})*c"));
    let bytes: usize = wide.iter().map(|pattern| pattern.len() - pattern.matches("\\\\").count()).sum();
    assert!((JOINED_BYTES_MAX - 30..=JOINED_BYTES_MAX).contains(&bytes), "{bytes}");
    check(Outcome::Taken, "two wide patterns", joined(&wide));
    let longest = format!(
        "({})*",
        (0..)
            .map(|n| format!("[a-c]{n}|"))
            .scan(0, |bytes, one| {
                *bytes += one.len();
                (*bytes < PATTERN_BYTES_MAX - 10).then_some(one)
            })
            .collect::<String>()
    );
    check(Outcome::Costly, "the longest pattern", format!("{{\"type\":\"string\",\"pattern\":\"{longest}\",\"minLength\":50}}"));
    let named: Vec<_> = (0..300).map(|n| format!("\"^(a{{{n}}}|b)*$\":{{}}")).collect();
    check(Outcome::Costly, "patterns of names", format!("{{\"type\":\"object\",\"patternProperties\":{{{}}}}}", named.join(",")));
    let apart: Vec<_> = (0..NAME_PATTERNS_MAX).map(|n| format!("\"^{n}(.{{1{n}}}[ab])*$\":{{}}")).collect();
    check(Outcome::Taken, "patterns of names apart", format!("{{\"type\":\"object\",\"patternProperties\":{{{}}}}}", apart.join(",")));
}

#[test]
fn hostile_grammars_are_refused_or_bounded() {
    let grammars = grammars();
    let check = |expected: Outcome, name: &str, source: String| {
        assert_eq!(hostile(name, &grammars, &Grammar::new(GrammarKind::Lark, source)), expected, "{name}");
    };
    let doubling = |first: &str, last: &str| -> String {
        (0..40).map(|n| format!("{first}{n}: {first}{} {first}{}\n", n + 1, n + 1)).chain([format!("{first}40: {last}\n")]).collect()
    };
    check(Outcome::Taken, "rules that double", format!("start: r0\n{}", doubling("r", "\"a\"")));
    check(Outcome::Costly, "terminals that double", format!("start: T0\n{}", doubling("T", "/a|b/")));
    check(Outcome::Taken, "nothing, over and over", "start: a\na: b |\nb: a a |".into());
    check(Outcome::DeadEnd, "a rule of itself alone", "start: start".into());
    check(Outcome::Taken, "all ways to divide", "start: s\ns: s s | s s s | \"a\"".into());
    check(Outcome::Costly, "repetitions of repetitions", "start: ((\"a\"{1,1000}){1,1000}){1,1000}".into());
    check(Outcome::Invalid, "nested brackets", format!("start: {}\"a\"{}", "(".repeat(9_000), ")".repeat(9_000)));
    check(Outcome::Invalid, "nested sources", format!("start: {}{}", "%lark { start: ".repeat(2_000), "}".repeat(2_000)));
    let alternatives = (0..6_000).map(|n| format!("\"a{n:x}\"")).collect::<Vec<_>>().join(" | ");
    check(Outcome::Costly, "many alternatives", format!("start: {alternatives}"));
    let beginnings = (1..60).map(|n| format!("\"{}\"", "a".repeat(n))).collect::<Vec<_>>().join(" | ");
    check(Outcome::Taken, "a rule that begins as another", format!("start: ({beginnings})+"));
    let joined = (1..40).map(|n| format!("/(.{{{n}}}a)*/")).collect::<Vec<_>>().join(" & ");
    check(Outcome::Invalid, "terminals that must all hold", format!("start: T\nT: {joined}"));
    check(Outcome::Taken, "a rule of nothing", "start:".into());
    for source in ["", "nothing: \"a\"", "start: missing", "start: \"a"] {
        check(Outcome::Invalid, source, source.to_owned());
    }
}

#[test]
fn what_this_node_cannot_read_is_refused_by_name() {
    let grammars = grammars();
    let other = Grammar { engine: 7, ..Grammar::new(GrammarKind::Schema, "{}") };
    assert_eq!(
        grammars.begin(&other).unwrap_err().to_string(),
        "grammar is for engine 7, this node has engine 1: ask for that one, or another node"
    );
    let long = Grammar::new(GrammarKind::Schema, " ".repeat(GRAMMAR_BYTES_MAX + 1));
    assert_eq!(grammars.begin(&long).unwrap_err(), ConstraintError::TooLong { got: GRAMMAR_BYTES_MAX + 1 });
    assert!(matches!(Grammars::of_tokens(vec![vec![b'a']; 3], &[]), Err(ConstraintError::Vocabulary { .. })));
    let wide = vec![vec![b'a'; 500]; 7_000];
    assert!(matches!(Grammars::of_tokens(wide, &[0]), Err(ConstraintError::Vocabulary { of: "bytes", .. })));
}

#[test]
fn a_pattern_that_is_none_is_refused_with_what_is_wrong_with_it() {
    let error = by_schema(&grammars(), &json!({ "type": "string", "pattern": "(unclosed" })).unwrap_err().to_string();
    assert!(error.contains("unclosed group"), "{error}");
    assert!(!error.contains('\n'), "{error}");
    let said = reason(&"title:\n    (a\n    ^\nerror: unclosed group\nStack backtrace:\n  0: here");
    assert_eq!(said, "title: (a ^ error: unclosed group");
}
