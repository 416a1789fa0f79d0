//! One value or a list of few, read without keeping more than [`ITEMS_MAX`] whatever a file holds.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Layers, Targets};

/// Items of a list: twice the linear layers of the deepest model.
const ITEMS_MAX: usize = 16_384;

/// What stands in the file.
enum Few<T> {
    None,
    Number(u64),
    Text(String),
    Many(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look(PhantomData))
    }
}

struct Look<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Look<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "null, one value or a list of at most {ITEMS_MAX}")
    }

    fn visit_unit<E>(self) -> Result<Few<T>, E> {
        Ok(Few::None)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Few<T>, E> {
        Ok(Few::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Few<T>, E> {
        Ok(Few::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Few<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == ITEMS_MAX {
                return Err(serde::de::Error::invalid_length(ITEMS_MAX + 1, &self));
            }
            items.push(item);
        }
        Ok(Few::Many(items))
    }
}

fn wrong<E: serde::de::Error>(expected: &str) -> E {
    E::custom(format_args!("expected {expected}"))
}

/// A list of names, or null.
pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    match Few::deserialize(deserializer)? {
        Few::None => Ok(None),
        Few::Many(names) => Ok(Some(names)),
        Few::Text(_) | Few::Number(_) => Err(wrong("null or a list of names")),
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Few::deserialize(deserializer)? {
            Few::None => Ok(Self::default()),
            Few::Text(pattern) => Ok(Self::Pattern(pattern)),
            Few::Many(names) => Ok(Self::Names(names)),
            Few::Number(_) => Err(wrong("a pattern or a list of names")),
        }
    }
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Few::deserialize(deserializer)? {
            Few::Number(layer) => usize::try_from(layer).map(Self::One).map_err(|_| wrong("a layer's number")),
            Few::Many(layers) => Ok(Self::Many(layers)),
            Few::None | Few::Text(_) => Err(wrong("a layer's number or a list of them")),
        }
    }
}
