//! Settings of single modules, by the end of their path, in the file's order.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Patterns of one setting; more than there are linear layers in the deepest model is a mistake.
const PATTERNS_MAX: usize = 16_384;

/// A value for each pattern. Where two fit a module, the one that stands first in the file counts, as in PEFT.
#[derive(Debug, Clone, PartialEq)]
pub struct Patterns<T> {
    /// Place in the file and value, by pattern.
    by_key: BTreeMap<String, (usize, T)>,
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new() }
    }
}

impl<T> Patterns<T> {
    /// The patterns, sorted.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.by_key.keys()
    }

    /// Their values.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.by_key.values().map(|(_, value)| value)
    }

    /// The value for a module, by its path: of the first pattern that is the path or its end behind a dot.
    pub(super) fn of(&self, module: &str) -> Option<&T> {
        let ends = module.match_indices('.').map(|(at, _)| &module[at + 1..]);
        let fitting = std::iter::once(module).chain(ends).filter_map(|end| self.by_key.get(end));
        fitting.min_by_key(|(place, _)| *place).map(|(_, value)| value)
    }
}

impl<T: Serialize> Serialize for Patterns<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut in_order: Vec<_> = self.by_key.iter().collect();
        in_order.sort_by_key(|(_, (place, _))| *place);
        let mut map = serializer.serialize_map(Some(in_order.len()))?;
        in_order.into_iter().try_for_each(|(key, (_, value))| map.serialize_entry(key, value))?;
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patterns<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InOrder(PhantomData))
    }
}

struct InOrder<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
    type Value = Patterns<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "null, or an object of at most {PATTERNS_MAX} patterns, each once")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Patterns::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut patterns = Patterns::default();
        while let Some((key, value)) = map.next_entry::<String, T>()? {
            let place = patterns.by_key.len();
            if place == PATTERNS_MAX || patterns.by_key.insert(key, (place, value)).is_some() {
                return Err(serde::de::Error::invalid_value(serde::de::Unexpected::Map, &self));
            }
        }
        Ok(patterns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_patterns_that_fit_the_first_in_the_file_counts() {
        let text = r#"{"q_proj":1,"layers.1.self_attn.q_proj":2,"a.v_proj":3,"v_proj":4}"#;
        let patterns: Patterns<usize> = serde_json::from_str(text).unwrap();
        for (module, expected) in [
            ("model.layers.1.self_attn.q_proj", Some(1)),
            ("q_proj", Some(1)),
            ("x.a.v_proj", Some(3)),
            ("x.ba.v_proj", Some(4)),
            ("x.xq_proj", None),
            ("q_proj.x", None),
        ] {
            assert_eq!(patterns.of(module).copied(), expected, "{module}");
        }
        assert_eq!(serde_json::to_string(&patterns).unwrap(), text, "written in the same order");
        let turned: Patterns<usize> = serde_json::from_str(r#"{"layers.1.self_attn.q_proj":2,"q_proj":1}"#).unwrap();
        assert_eq!(turned.of("model.layers.1.self_attn.q_proj"), Some(&2));
    }

    #[test]
    fn a_pattern_twice_is_refused_and_null_is_none() {
        assert!(serde_json::from_str::<Patterns<usize>>(r#"{"a":1,"a":1}"#).is_err());
        assert_eq!(serde_json::from_str::<Patterns<usize>>("null").unwrap(), Patterns::default());
        assert!(serde_json::from_str::<Patterns<usize>>("[]").is_err());
    }
}
