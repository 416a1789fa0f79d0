//! What a folder says about text: the tokenizer, the chat template, and which tokens end an answer.

use std::path::PathBuf;

use crate::model::template::ChatTemplate;
use crate::model::tokenizer::{Named, Tokenizer};
use crate::model::{Config, ModelError, Text};

use super::{FilesError, Folder, GENERATION, Json, SETTINGS_BYTES_MAX, TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, read};

impl Folder {
    /// The tokenizer and the chat template.
    pub(in crate::model::files) fn text(&self, config: &Config) -> Result<Text, ModelError> {
        let settings = self.optional(TOKENIZER_CONFIG)?;
        let token = |field: &str| settings.as_ref().map_or(Ok(None), |json| named_token(json, field));
        let (bos, eos) = (token("bos_token")?, token("eos_token")?);
        let mut eos_ids = self.config()?.ids("eos_token_id")?;
        if let Some(generation) = self.optional(GENERATION)? {
            eos_ids.extend(generation.ids("eos_token_id")?);
        }
        let named = Named { end_of_turn: eos.clone(), eos_ids };
        let tokenizer = Tokenizer::from_json(&self.path.join(TOKENIZER), &self.small[TOKENIZER], named, config.vocabulary)?;
        let source = match (self.small.get(TEMPLATE), &settings) {
            (Some(bytes), _) => Some(String::from_utf8(bytes.clone()).map_err(|error| self.not_text(&error))?),
            (None, Some(settings)) => template(settings)?,
            (None, None) => None,
        };
        let template = ChatTemplate::new(source.as_deref(), bos.unwrap_or_default(), eos.unwrap_or_default())?;
        Ok(Text { tokenizer, template })
    }

    fn not_text(&self, error: &std::string::FromUtf8Error) -> FilesError {
        let file = self.path.join(TEMPLATE);
        FilesError::Invalid { file, field: "text".to_owned(), value: error.to_string(), expected: "UTF-8" }
    }

    /// Its `tokenizer.json`: where it lies, for errors, and its bytes.
    pub(crate) fn tokenizer(&self) -> (PathBuf, &[u8]) {
        (self.path.join(TOKENIZER), &self.small[TOKENIZER])
    }

    /// Another small file of the folder, if it is there: where it lies, and its bytes.
    pub(crate) fn settings(&self, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>, FilesError> {
        let path = self.path.join(name);
        Ok(read(&path, SETTINGS_BYTES_MAX)?.map(|bytes| (path, bytes)))
    }

    fn optional(&self, name: &'static str) -> Result<Option<Json>, FilesError> {
        self.small.get(name).map(|bytes| Json::parse(&self.path.join(name), bytes)).transpose()
    }
}

/// A token that the tokenizer's settings name: by its text, or by an object that holds it.
fn named_token(json: &Json, field: &str) -> Result<Option<String>, FilesError> {
    match json.get(field) {
        None => Ok(None),
        Some(serde_json::Value::String(token)) => Ok(Some(token.clone())),
        Some(serde_json::Value::Object(token)) if token.get("content").is_some_and(serde_json::Value::is_string) => {
            Ok(token["content"].as_str().map(str::to_owned))
        }
        Some(_) => Err(json.invalid(field, "a token's text")),
    }
}

/// The chat template in the tokenizer's settings: a text, or the one named `default` of several.
fn template(json: &Json) -> Result<Option<String>, FilesError> {
    const EXPECTED: &str = "a template, or a list of templates with one named default";
    match json.get("chat_template") {
        None => Ok(None),
        Some(serde_json::Value::String(source)) => Ok(Some(source.clone())),
        Some(serde_json::Value::Array(several)) => {
            let named = several.iter().find(|one| one["name"] == "default");
            let source = named.and_then(|one| one["template"].as_str()).map(str::to_owned);
            source.map(Some).ok_or_else(|| json.invalid("chat_template", EXPECTED))
        }
        Some(_) => Err(json.invalid("chat_template", EXPECTED)),
    }
}
