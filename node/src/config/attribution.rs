//! What building an index may take of the machine.

use std::{fmt, num::NonZeroUsize, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::ConfigError;

/// Most threads: more than that wait for the disk.
pub const THREADS_MAX: usize = 64;
/// Least memory: an index of a few megabytes of text takes so much.
pub const MEMORY_MIN: Memory = Memory(32 << 20);

/// `[attribution]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attribution {
    /// Memory that building a segment of an index may take, as "1G" or "512M". The text at hand, and the search for near copies (8 bytes a word of
    /// the Datanet), come on top.
    pub memory: Memory,
    /// Threads that sort.
    pub threads: NonZeroUsize,
}

impl Default for Attribution {
    fn default() -> Self {
        Self {
            // Room for the largest segment, 1 GiB of text, sorted in some twenty parts.
            memory: Memory(1 << 30),
            // A node answers while it builds.
            threads: NonZeroUsize::new(2).expect("two are some"),
        }
    }
}

impl Attribution {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.memory < MEMORY_MIN {
            let why = format!("{} is too little for any index: give at least {MEMORY_MIN}", self.memory);
            return Err(ConfigError::Value { key: "attribution.memory", why });
        }
        if self.threads.get() > THREADS_MAX {
            return Err(ConfigError::Value { key: "attribution.threads", why: format!("{} is outside 1 to {THREADS_MAX}", self.threads) });
        }
        Ok(())
    }
}

/// Bytes of memory, written with a unit: "1G" is 2^30, "512M" 512 times 2^20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(pub u64);

const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let (digits, shift) =
            UNITS.iter().find_map(|(unit, shift)| Some((upper.strip_suffix(unit)?, *shift))).unwrap_or((upper.as_str(), 0));
        let count = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_digit()));
        let bytes = count.and_then(|count| count.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| format!("{text:?} is no amount of memory: write for example 1G or 512M"))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, shift)| self.0 > 0 && self.0.trailing_zeros() >= *shift);
        match whole {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_written_with_a_unit_and_read_as_it_was_written() {
        for (text, bytes) in [("1G", 1 << 30), ("512M", 512 << 20), ("3k", 3 << 10), ("2T", 2 << 40), ("1000", 1_000), ("0", 0)] {
            let memory: Memory = text.parse().unwrap();
            assert_eq!(memory.0, bytes, "{text}");
            assert_eq!(memory.to_string().parse::<Memory>().unwrap(), memory);
        }
        for text in ["", "G", "1.5G", "-1G", "+1G", "1 G", "1GB", "99999999999T"] {
            assert!(text.parse::<Memory>().unwrap_err().contains("write for example 1G"), "{text}");
        }
    }

    #[test]
    fn what_a_build_cannot_work_with_is_refused_by_its_key() {
        let read = |text: &str| toml::from_str::<Attribution>(text).unwrap();
        assert!(read("memory = \"256M\"\nthreads = 4").validate().is_ok());
        assert!(read("memory = \"1M\"").validate().unwrap_err().to_string().starts_with("attribution.memory: 1M is too little"));
        assert!(read("threads = 65").validate().unwrap_err().to_string().starts_with("attribution.threads:"));
        for wrong in ["threads = 0", "memory = 5", "memory = \"a lot\"", "cores = 2"] {
            assert!(toml::from_str::<Attribution>(wrong).is_err(), "{wrong}");
        }
    }
}
