//! `GET /v1/models`: what may be asked, adapters among it as `base:adapter` with their base as `parent`.

use serde_json::{Value, json};

use super::{
    errors::{Kind, Refusal},
    source::Listed,
};

/// One model.
pub fn model(listed: &Listed) -> Value {
    json!({
        "id": listed.id,
        "object": "model",
        "created": listed.created_s,
        "owned_by": listed.owned_by,
        "parent": listed.parent,
        "root": listed.root,
        "content": listed.content.map(|hash| hash.to_string()),
    })
}

/// All of them.
pub fn list(all: &[Listed]) -> Value {
    json!({ "object": "list", "data": all.iter().map(model).collect::<Vec<_>>() })
}

/// Why there is no such model.
pub fn unknown(id: &str, all: &[Listed]) -> Refusal {
    let shown: String = id.chars().take(64).collect();
    let known: Vec<&str> = all.iter().take(16).map(|listed| listed.id.as_str()).collect();
    let known = match all.len() {
        0 => "none is offered now".to_owned(),
        len if len > known.len() => format!("there are {} and {} more, GET /v1/models lists them", known.join(", "), len - known.len()),
        _ => format!("there are {}", known.join(", ")),
    };
    Refusal {
        param: Some("model".to_owned()),
        ..Refusal::new(Kind::Missing, "model_not_found", format!("the model {shown:?} does not exist here: {known}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_not_there_is_answered_with_those_that_are() {
        let one = |id: usize| Listed {
            id: format!("m{id}"),
            parent: None,
            root: "1@1".into(),
            owned_by: "x".into(),
            created_s: 0,
            content: None,
        };
        assert!(unknown("gpt", &[]).message.contains("none is offered"));
        let refusal = unknown("gpt", &[one(0), one(1)]);
        assert_eq!((refusal.kind, refusal.param.as_deref()), (Kind::Missing, Some("model")));
        assert!(refusal.message.ends_with("there are m0, m1"), "{refusal}");
        assert!(unknown("gpt", &(0..20).map(one).collect::<Vec<_>>()).message.contains("and 4 more"));
    }
}
