//! The OpenAPI document, made from the tables that requests are read by: what it says is taken is what is taken.
//!
//! `tributary gateway openapi` prints it; the copy beside this file is compared with it by a test.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{
    adapters, chat, completions, embeddings,
    fields::{Field, Shape},
};

/// The document.
pub fn document() -> Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(made);
    DOCUMENT.clone()
}

fn made() -> Value {
    let post = |summary: &str, table: &[Field], needed: &[&str], answer: &str, is_stream: bool| {
        let mut content = json!({ "application/json": { "schema": reference(answer) } });
        if is_stream {
            content["text/event-stream"] = json!({ "schema": reference(&format!("{answer}Chunk")) });
        }
        let mut operation = json!({
            "summary": summary,
            "requestBody": { "required": true, "content": { "application/json": { "schema": object(table, needed) } } },
            "responses": responses(&content),
        });
        if is_stream {
            operation["parameters"] = json!([{
                "name": "Idempotency-Key", "in": "header", "required": false,
                "schema": { "type": "string", "minLength": 1, "maxLength": super::idempotency::KEY_BYTES_MAX },
                "description": "The same key with the same body gives the same answer for a day, paid once.",
            }]);
        }
        json!({ "post": operation })
    };
    let get = |summary: &str, answer: &str| {
        let content = json!({ "application/json": { "schema": reference(answer) } });
        json!({ "get": { "summary": summary, "responses": responses(&content) } })
    };
    let open = |summary: &str| {
        let content = json!({ "application/json": { "schema": { "type": "object" } } });
        json!({ "get": { "summary": summary, "security": [], "responses": { "200": { "description": "It is so.", "content": content } } } })
    };
    let mut model = get("What may be asked under this id.", "Model");
    model["get"]["parameters"] = json!([{ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }]);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tributary gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "OpenAI's interface before a peer-to-peer network of models. Answers carry a receipt and name whose words they drew on. A field that is not listed is refused by name.",
        },
        "security": [{ "key": [] }],
        "paths": {
            "/health": open("Whether the gateway runs."),
            "/openapi.json": open("This document."),
            "/v1/models": get("What may be asked: bases, agents, and adapters as base:adapter.", "Models"),
            "/v1/models/{id}": model,
            "/v1/chat/completions": post("An answer to a conversation.", &chat::FIELDS, &["model", "messages"], "ChatCompletion", true),
            "/v1/completions": post("An answer to a text.", &completions::FIELDS, &["model", "prompt"], "Completion", true),
            "/v1/embeddings": post("Vectors of texts. They cost nothing and are always the same: an Idempotency-Key does nothing here.", &embeddings::FIELDS, &["model", "input"], "Embeddings", false),
            "/v1/load_lora_adapter": post("Offers an adapter under a name. Needs an admin's key.", &adapters::LOAD, &["lora_name", "lora_path"], "Model", false),
            "/v1/unload_lora_adapter": post("Offers it no more. Needs an admin's key.", &adapters::UNLOAD, &["lora_name"], "Unloaded", false),
        },
        "components": { "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } }, "schemas": schemas() },
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn responses(content: &Value) -> Value {
    let error =
        |description: &str| json!({ "description": description, "content": { "application/json": { "schema": reference("Error") } } });
    json!({
        "200": { "description": "It is so.", "content": content },
        "400": error("A field says something that cannot be done; `param` names it."),
        "401": error("No key, or one that is not known."),
        "403": error("The key may not do this, or the Host header names another machine."),
        "404": error("There is no such model or path."),
        "409": error("The same is under way under this Idempotency-Key; `retry-after` says when to ask again."),
        "413": error("The body is too long."),
        "422": error("The Idempotency-Key was used for another request."),
        "429": error("The key's share is used up, `retry-after` says when to ask again; or (`insufficient_quota`) what may be spent or is deposited does not cover it."),
        "502": error("No node answered. With `x-should-retry: false`, the same again could cost a second time."),
        "503": error("The gateway or every node is full, or nobody offers the model now; `retry-after` says when to ask again."),
    })
}

/// A table as a schema; what is refused is not in it.
fn object(table: &[Field], needed: &[&str]) -> Value {
    let mut properties = Map::new();
    for field in table {
        let mut schema = match field.shape {
            Shape::Refused(_) => continue,
            Shape::Text(most) => json!({ "type": "string", "minLength": 1, "maxLength": most }),
            Shape::Number(least, most) => json!({ "type": "number", "minimum": least, "maximum": most }),
            // Beyond 2^53 the readers of this document cannot count.
            Shape::Whole(i64::MIN, i64::MAX) => json!({ "type": "integer", "format": "int64" }),
            Shape::Whole(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Shape::Flag => json!({ "type": "boolean" }),
            Shape::OneOf(all) => json!({ "type": "string", "enum": all }),
            Shape::Own(schema) => serde_json::from_str(schema).expect("the schemas of the tables are JSON, a test reads them all"),
        };
        if !field.doc.is_empty() {
            schema = if schema.get("$ref").is_some() { json!({ "allOf": [schema] }) } else { schema };
            schema["description"] = field.doc.into();
        }
        properties.insert(field.name.to_owned(), schema);
    }
    json!({ "type": "object", "properties": properties, "required": needed, "additionalProperties": false })
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let number = json!({ "type": "integer" });
    let or_null = |schema: &Value| json!({ "oneOf": [schema, { "type": "null" }] });
    let of = |properties: Value| {
        let required: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
        json!({ "type": "object", "required": required, "properties": properties })
    };
    let list = |items: Value| json!({ "type": "array", "items": items });
    let logprobs = json!({ "type": ["object", "null"], "description": "Null unless logprobs asked for it." });
    let reason = json!({ "type": "string", "enum": ["stop", "length"] });
    let envelope = |object: &str, choice: Value| {
        let mut schema =
            of(json!({ "id": text, "object": { "const": object }, "created": number, "model": text, "choices": list(choice) }));
        schema["properties"]["usage"] = or_null(&reference("Usage"));
        schema["properties"]["receipt"] = reference("Receipt");
        schema["properties"]["attribution"] = list(reference("Attribution"));
        schema
    };
    let reply = of(json!({ "role": { "const": "assistant" }, "content": text, "refusal": { "type": "null" } }));
    let delta = json!({ "type": "object", "properties": { "role": { "const": "assistant" }, "content": text } });
    json!({
        "Message": {
            "type": "object", "required": ["role", "content"], "additionalProperties": false,
            "properties": {
                "role": { "type": "string", "enum": ["system", "developer", "user", "assistant"] },
                "content": { "oneOf": [
                    { "type": "string", "minLength": 1 },
                    { "type": "array", "minItems": 1, "items": { "type": "object", "required": ["type", "text"], "additionalProperties": false,
                        "properties": { "type": { "const": "text" }, "text": { "type": "string", "minLength": 1 } } } },
                ] },
            },
        },
        "ResponseFormat": {
            "type": "object", "required": ["type"],
            "properties": {
                "type": { "type": "string", "enum": ["text", "json_object", "json_schema"] },
                "json_schema": { "type": "object", "required": ["schema"], "properties": { "name": text, "description": text, "strict": { "type": "boolean" }, "schema": { "type": ["object", "boolean"] } } },
            },
        },
        "ChatCompletion": envelope("chat.completion", of(json!({ "index": number, "message": reply, "logprobs": logprobs, "finish_reason": reason }))),
        "ChatCompletionChunk": envelope("chat.completion.chunk", of(json!({ "index": number, "delta": delta, "logprobs": logprobs, "finish_reason": or_null(&reason) }))),
        "Completion": envelope("text_completion", of(json!({ "index": number, "text": text, "logprobs": logprobs, "finish_reason": reason }))),
        "CompletionChunk": envelope("text_completion", of(json!({ "index": number, "text": text, "logprobs": logprobs, "finish_reason": or_null(&reason) }))),
        "Usage": of(json!({ "prompt_tokens": number, "completion_tokens": number, "total_tokens": number })),
        "Receipt": {
            "description": "What the answering node signed. Amounts are wei, as strings.",
            "allOf": [of(json!({ "hash": text, "request": text, "attempt": number, "node": text, "manifest": text, "fee_wei": text, "at_most_wei": text }))],
        },
        "Attribution": {
            "description": "A run of words whose contributor is paid.",
            "allOf": [of(json!({ "quote": text, "contributor": text, "datanet": text, "weight": number, "amount_wei": text }))],
        },
        "Embeddings": of(json!({
            "object": { "const": "list" }, "model": text,
            "data": list(of(json!({ "object": { "const": "embedding" }, "index": number, "embedding": { "oneOf": [list(json!({ "type": "number" })), text] } }))),
            "usage": of(json!({ "prompt_tokens": number, "total_tokens": number })),
        })),
        "Model": of(json!({
            "id": text, "object": { "const": "model" }, "created": number, "owned_by": text,
            "parent": or_null(&text), "root": text, "content": or_null(&text),
        })),
        "Models": of(json!({ "object": { "const": "list" }, "data": list(reference("Model")) })),
        "Unloaded": of(json!({ "id": text, "object": { "const": "model" }, "deleted": { "const": true } })),
        "Error": of(json!({ "error": of(json!({ "message": text, "type": text, "param": or_null(&text), "code": text })) })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_one_that_is_committed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json");
        let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(committed == document(), "{path} is not what the code says: write it anew with `tributary gateway openapi > {path}`");
    }

    #[test]
    fn every_field_of_every_table_is_documented() {
        let document = document();
        for (path, table) in
            [("chat/completions", chat::FIELDS.as_slice()), ("completions", &completions::FIELDS), ("embeddings", &embeddings::FIELDS)]
        {
            let schema = &document["paths"][format!("/v1/{path}")]["post"]["requestBody"]["content"]["application/json"]["schema"];
            for field in table {
                let property = &schema["properties"][field.name];
                let is_refused = matches!(field.shape, Shape::Refused(_));
                assert_eq!(property.is_null(), is_refused, "{path}: {}", field.name);
                assert!(is_refused || property["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}: {}", field.name);
            }
            let names: std::collections::BTreeSet<&str> = table.iter().map(|field| field.name).collect();
            assert_eq!(names.len(), table.len(), "{path} names a field twice");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let names = text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap());
        for name in names {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
