//! `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`, behind an admin key: what they take.
//!
//! A name is typed, never joined to a path. What a path means is the source's matter: on the network it is an adapter's number and version, never a
//! file.

use serde_json::Value;

use super::{
    errors::Refusal,
    fields::{Field, Fields, Shape, field},
};

/// Longest name.
const NAME_MAX: usize = 64;
/// Longest path.
const PATH_MAX: usize = 256;

/// The fields of a load.
pub(super) const LOAD: [Field; 3] = [
    field("lora_name", Shape::Text(NAME_MAX), "The name it is asked by: letters, digits, `-`, `_` and `.`. Needed."),
    field("lora_path", Shape::Text(PATH_MAX), "What is loaded: on the network ASSET@VERSION, such as 4@1. Needed."),
    field("load_inplace", Shape::Own(r#"{"type":"boolean"}"#), "Whether a name that is used may be given to another adapter."),
];
/// The fields of an unload.
pub(super) const UNLOAD: [Field; 1] = [field("lora_name", Shape::Text(NAME_MAX), "The name it was loaded under. Needed.")];

/// What is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The name it is asked by.
    pub name: String,
    /// What it is.
    pub path: String,
    /// Whether the name may be taken from another one.
    pub may_replace: bool,
}

/// Reads a load.
///
/// # Errors
/// A [`Refusal`] that names the field.
pub fn read_load(body: &[u8]) -> Result<Load, Refusal> {
    let mut fields = Fields::read(body, &LOAD)?;
    let name = name(&mut fields)?;
    let path = fields.text("lora_path");
    let path = fields.needed("lora_path", path)?;
    let may_replace = match fields.take("load_inplace") {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(other) => return Err(super::fields::wrong_type("load_inplace", "load_inplace", "true or false", &other)),
    };
    Ok(Load { name, path, may_replace })
}

/// Reads an unload.
///
/// # Errors
/// As [`read_load`].
pub fn read_unload(body: &[u8]) -> Result<String, Refusal> {
    name(&mut Fields::read(body, &UNLOAD)?)
}

fn name(fields: &mut Fields) -> Result<String, Refusal> {
    let name = fields.text("lora_name");
    let name = fields.needed("lora_name", name)?;
    let is_plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'));
    if is_plain && !name.starts_with('.') {
        return Ok(name);
    }
    let message = "lora_name may hold letters, digits, `-`, `_` and `.`, and does not begin with a dot: take another one";
    Err(Refusal::field("lora_name", "invalid_value", message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_load_names_an_adapter_and_what_it_is() {
        let read = read_load(br#"{"lora_name":"gout-2","lora_path":"4@1"}"#).unwrap();
        assert_eq!(read, Load { name: "gout-2".into(), path: "4@1".into(), may_replace: false });
        assert!(read_load(br#"{"lora_name":"a","lora_path":"4@1","load_inplace":true}"#).unwrap().may_replace);
        assert_eq!(read_unload(br#"{"lora_name":"gout-2"}"#).unwrap(), "gout-2");
    }

    #[test]
    fn a_name_is_no_path() {
        for name in ["../a", "a/b", "a\\b", ".", "..", ".hidden", "a b", "a\u{0}", "C:a", "caf\u{e9}", "a:b", "..%2fa", ""] {
            for refusal in [
                read_load(json!({ "lora_name": name, "lora_path": "4@1" }).to_string().as_bytes()).unwrap_err(),
                read_unload(json!({ "lora_name": name }).to_string().as_bytes()).unwrap_err(),
            ] {
                assert_eq!(refusal.param.as_deref(), Some("lora_name"), "{name:?}: {refusal}");
            }
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_its_place() {
        for (body, param) in [
            (json!({ "lora_path": "4@1" }), "lora_name"),
            (json!({ "lora_name": "a" }), "lora_path"),
            (json!({ "lora_name": "a", "lora_path": 4 }), "lora_path"),
            (json!({ "lora_name": "a", "lora_path": "4@1", "load_inplace": "yes" }), "load_inplace"),
            (json!({ "lora_name": "a", "lora_path": "4@1", "base_model_name": "b" }), "base_model_name"),
        ] {
            assert_eq!(read_load(body.to_string().as_bytes()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
        assert_eq!(read_unload(br#"{"lora_name":"a","lora_int_id":3}"#).unwrap_err().param.as_deref(), Some("lora_int_id"));
    }
}
