//! A small JSON file whose fields are asked for by name, so that every refusal names file and field.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::FilesError;

/// An object in a file.
#[derive(Debug, Clone)]
pub(crate) struct Json {
    file: PathBuf,
    /// Names of the objects around it, with a dot behind each.
    within: String,
    object: Map<String, Value>,
}

impl Json {
    /// Parses the bytes of a file.
    pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<Self, FilesError> {
        let object =
            serde_json::from_slice(bytes).map_err(|error| FilesError::Json { file: file.to_path_buf(), problem: error.to_string() })?;
        Ok(Self { file: file.to_path_buf(), within: String::new(), object })
    }

    /// A value, unless it is absent or null.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// Says that a field has a value that is not supported.
    pub(crate) fn invalid(&self, field: &str, expected: &'static str) -> FilesError {
        let value = self.object.get(field).map_or_else(|| "absent".to_owned(), |value| shortened(&value.to_string()));
        FilesError::Invalid { file: self.file.clone(), field: format!("{}{field}", self.within), value, expected }
    }

    fn missing(&self, field: &str, expected: &'static str) -> FilesError {
        FilesError::Missing { file: self.file.clone(), field: format!("{}{field}", self.within), expected }
    }

    /// A positive number of at most `max`.
    pub(crate) fn width(&self, field: &str, max: u64) -> Result<usize, FilesError> {
        const EXPECTED: &str = "a positive number within this engine's limit";
        let value = self.get(field).ok_or_else(|| self.missing(field, EXPECTED))?;
        let width = value.as_u64().filter(|width| (1..=max).contains(width)).and_then(|width| usize::try_from(width).ok());
        width.ok_or_else(|| self.invalid(field, EXPECTED))
    }

    /// A positive number, or what stands for its absence.
    pub(crate) fn width_or(&self, field: &str, max: u64, absent: usize) -> Result<usize, FilesError> {
        if self.get(field).is_some() { self.width(field, max) } else { Ok(absent) }
    }

    /// A number.
    pub(crate) fn number(&self, field: &str) -> Result<f64, FilesError> {
        const EXPECTED: &str = "a number";
        let value = self.get(field).ok_or_else(|| self.missing(field, EXPECTED))?;
        value.as_f64().ok_or_else(|| self.invalid(field, EXPECTED))
    }

    /// A string.
    pub(crate) fn text(&self, field: &str) -> Result<&str, FilesError> {
        const EXPECTED: &str = "a string";
        let value = self.get(field).ok_or_else(|| self.missing(field, EXPECTED))?;
        value.as_str().ok_or_else(|| self.invalid(field, EXPECTED))
    }

    /// A boolean; absent is false.
    pub(crate) fn flag(&self, field: &str) -> Result<bool, FilesError> {
        self.get(field).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| self.invalid(field, "true or false")))
    }

    /// An object, if there is one.
    pub(crate) fn object(&self, field: &str) -> Result<Option<Self>, FilesError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                Ok(Some(Self { file: self.file.clone(), within: format!("{}{field}.", self.within), object: object.clone() }))
            }
            Some(_) => Err(self.invalid(field, "an object")),
        }
    }

    /// A token id or several; none if absent.
    #[cfg(feature = "engine")]
    pub(crate) fn ids(&self, field: &str) -> Result<Vec<u32>, FilesError> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = match self.get(field) {
            None => Some(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().map(id).collect(),
            Some(one) => id(one).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.invalid(field, "a token id or a list of them"))
    }
}

/// The first characters of a value, for an error.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(80).chain(['…']).collect() }
}
