//! What a word is worth: parameter sets, each with m, theta and a committed word table (P5).
//!
//! A set is fixed for ever by its id and its hash. Set 1 is built in: 16,384 words whose counts stand in `parameters/1.tsv`; how its m and
//! theta were chosen is told in `parameters/README.md`. Weights are computed from the counts when first asked for: 16,384 times eight
//! squarings of 62-bit numbers, a few milliseconds once per process.

mod logarithm;

use std::{borrow::Cow, sync::OnceLock};

use types::{
    encoding::Writer,
    id::Hash32,
    merkle::{Tree, keccak},
};

pub use logarithm::weight;

/// Longest word a row can hold; longer ones are unknown.
pub const WORD_BYTES_MAX: usize = 255;

/// N of set 1: the sum of all counts of its source.
const TOTAL_1: u64 = 541_808_760_578;

/// Why rows are not a word table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A row that no lookup could find.
    #[error("row {row} holds the word {word:?}: words must be 1 to 255 bytes and hold no ASCII capital")]
    Word {
        /// Number of the row.
        row: usize,
        /// Its word.
        word: String,
    },
    /// Rows out of order.
    #[error("row {row} ({word:?}) does not come after the row before it: sort the rows by their words' bytes, each word once")]
    Order {
        /// Number of the row.
        row: usize,
        /// Its word.
        word: String,
    },
}

/// Words with their weights, ascending by the words' bytes, so that a word's absence shows between two neighbours.
#[derive(Debug, Clone)]
pub struct WordTable {
    rows: Vec<(Cow<'static, str>, u32)>,
}

impl WordTable {
    /// A table of (word, weight in 1/256 bit).
    ///
    /// # Errors
    /// [`TableError`] naming the row.
    pub fn new(rows: Vec<(Cow<'static, str>, u32)>) -> Result<Self, TableError> {
        for (row, (word, _)) in rows.iter().enumerate() {
            if word.is_empty() || word.len() > WORD_BYTES_MAX || word.bytes().any(|b| b.is_ascii_uppercase()) {
                return Err(TableError::Word { row, word: word.to_string() });
            }
            if row > 0 && rows[row - 1].0 >= *word {
                return Err(TableError::Order { row, word: word.to_string() });
            }
        }
        Ok(Self { rows })
    }

    /// The rows, ascending.
    pub fn rows(&self) -> &[(Cow<'static, str>, u32)] {
        &self.rows
    }

    /// Weight of `word`, ASCII capitals read as small letters; nothing if no row holds it.
    pub fn weight(&self, word: &str) -> Option<u32> {
        let folded = if word.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(word.to_ascii_lowercase()) } else { Cow::Borrowed(word) };
        self.rows.binary_search_by(|(row, _)| row.as_ref().cmp(folded.as_ref())).ok().map(|at| self.rows[at].1)
    }

    /// Bytes of row `index`: length u8, word, weight u32.
    pub fn row_bytes(&self, index: usize) -> Option<Vec<u8>> {
        let (word, weight) = self.rows.get(index)?;
        let length = u8::try_from(word.len()).expect("checked when the table was made");
        Some(Writer::new().u8(length).bytes(word.as_bytes()).u32(*weight).finish())
    }

    /// The tree over all rows.
    pub fn tree(&self) -> Tree {
        let rows: Vec<_> = (0..self.rows.len()).filter_map(|index| self.row_bytes(index)).collect();
        Tree::over(rows.iter().map(Vec::as_slice))
    }
}

/// One approved set of attribution parameters.
#[derive(Debug)]
pub struct Parameters {
    /// Number of the set.
    pub id: u32,
    /// Fewest words of a span or mask.
    pub m: u8,
    /// Least weight of a span, in 1/256 bit.
    pub theta: u32,
    /// Weight of a word without a row.
    pub unknown: u32,
    table: WordTable,
    root: OnceLock<Hash32>,
}

impl Parameters {
    /// A set with its table.
    pub const fn new(id: u32, m: u8, theta: u32, unknown: u32, table: WordTable) -> Self {
        Self { id, m, theta, unknown, table, root: OnceLock::new() }
    }

    /// The built-in set with this id; nothing if there is none.
    pub fn builtin(id: u32) -> Option<&'static Self> {
        static ONE: OnceLock<Parameters> = OnceLock::new();
        (id == 1).then(|| ONE.get_or_init(first))
    }

    /// The word table.
    pub const fn table(&self) -> &WordTable {
        &self.table
    }

    /// Weight of a word in 1/256 bit.
    pub fn weight(&self, word: &str) -> u32 {
        self.table.weight(word).unwrap_or(self.unknown)
    }

    /// Root of the word table.
    pub fn table_root(&self) -> Hash32 {
        *self.root.get_or_init(|| self.table.tree().root())
    }

    /// Id, m, theta, unknown weight and table root: 45 bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().u32(self.id).u8(self.m).u32(self.theta).u32(self.unknown).hash(self.table_root()).finish()
    }

    /// The parameter hash: keccak of [`Parameters::encode`].
    pub fn hash(&self) -> Hash32 {
        keccak(&[&self.encode()])
    }
}

fn first() -> Parameters {
    let row = |line: &'static str| {
        let (word, count) = line.split_once('\t').expect("the committed table has two columns");
        let count = count.parse().expect("the committed table counts in digits");
        (Cow::Borrowed(word), weight(TOTAL_1, count).expect("no count of the committed table is zero or above N"))
    };
    let rows: Vec<_> = include_str!("../parameters/1.tsv").lines().map(row).collect();
    let unknown = rows.iter().map(|(_, weight)| *weight).max().unwrap_or_default();
    Parameters::new(1, 6, 60 * 256, unknown, WordTable::new(rows).expect("the committed table is sorted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_1_is_what_the_independent_script_computed() {
        let set = Parameters::builtin(1).unwrap();
        let mut words = 0;
        for line in include_str!("../fixtures/weights.tsv").lines() {
            let (name, value) = line.split_once('\t').unwrap();
            match name {
                "total" => assert_eq!(value, TOTAL_1.to_string()),
                "unknown" => assert_eq!(value, set.unknown.to_string()),
                "table" => assert_eq!(value, set.table_root().to_string()),
                "hash" => assert_eq!(value, set.hash().to_string()),
                _ if name.contains('/') => {}
                _ => {
                    assert_eq!(set.table.weight(name).unwrap().to_string(), value, "{name}");
                    words += 1;
                }
            }
        }
        assert_eq!((words, set.table.rows().len()), (128, 1 << 14));
    }

    #[test]
    fn capitals_fold_and_strangers_weigh_the_stated_maximum() {
        let set = Parameters::builtin(1).unwrap();
        assert_eq!(set.weight("The"), set.weight("the"));
        assert_eq!(set.weight("hepatosplenomegalyx"), set.unknown);
        assert_eq!(set.weight(&"a".repeat(300)), set.unknown);
        assert!(set.table.weight("É").is_none());
        assert!(Parameters::builtin(2).is_none());
    }

    #[test]
    fn stock_phrases_stay_below_theta_and_eight_words_of_a_subject_reach_it() {
        let set = Parameters::builtin(1).unwrap();
        let weigh = |text: &str| text.split(' ').map(|word| set.weight(word)).sum::<u32>();
        for phrase in ["at the end of the day", "on the other hand it is", "is a type of abnormality of", "I am not sure if this"] {
            assert!(weigh(phrase) < set.theta, "{phrase}");
        }
        for phrase in ["the presence of an abnormal increase in the", "an expression that is not a valid target"] {
            assert!(weigh(phrase) >= set.theta, "{phrase} {}", weigh(phrase));
        }
    }

    #[test]
    fn unsorted_repeated_capital_and_endless_words_are_refused_by_row() {
        let table = |words: &[&str]| WordTable::new(words.iter().map(|w| (Cow::Owned((*w).to_owned()), 1)).collect());
        assert!(table(&["a", "b", "é"]).is_ok());
        assert_eq!(table(&["b", "a"]).unwrap_err(), TableError::Order { row: 1, word: "a".into() });
        assert_eq!(table(&["a", "a"]).unwrap_err(), TableError::Order { row: 1, word: "a".into() });
        assert_eq!(table(&["A"]).unwrap_err(), TableError::Word { row: 0, word: "A".into() });
        assert!(table(&[""]).is_err());
        assert!(table(&[&"a".repeat(256)]).is_err());
    }
}
