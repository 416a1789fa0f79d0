//! What a client may ask of sampling, in integers, because it is signed (P4).
//!
//! A request has temperature, top-k and top-p in its own fields, and the hash of these options where it asks for more. The options travel beside it,
//! to whoever answers and to whoever checks: [`Request::asked`](crate::request::Request::asked) reads them and holds them to the hash.
//!
//! Size: 33 bytes and what is listed, at most [`OPTIONS_BYTES_MAX`].

mod encoding;

use crate::{encoding::Body, request::SamplingRule};

pub(crate) use encoding::hash;
pub use encoding::{FIXED_BYTES, OPTIONS_BYTES_MAX};

/// Version of the rules behind [`Grammar`]: 1 is llguidance 1.9.1 with the limits of `inference::constraint`. Under another version a grammar may
/// allow other tokens, so an answer under it cannot be checked.
pub const GRAMMAR_ENGINE: u16 = 1;
/// Entries of [`Options::bias`]: what one token of a vocabulary and its spellings need many times over; OpenAI takes 300.
pub const BIAS_MAX: usize = 1_024;
/// Largest bias, in thousandths of a logit: 100 logits bar a token or force it, as with OpenAI.
pub const BIAS_MILLI_MAX: i32 = 100_000;
/// Largest presence or frequency penalty, in thousandths of a logit, as with OpenAI.
pub const PENALTY_MILLI_MAX: i32 = 2_000;
/// Range of the repetition penalty, in thousandths: a factor from a tenth to ten.
pub const REPEAT_MILLI: std::ops::RangeInclusive<u32> = 100..=10_000;
/// Stop strings; OpenAI takes four.
pub const STOPS_MAX: usize = 16;
/// Bytes of a stop string. One less is what an answer's stream may be behind.
pub const STOP_BYTES_MAX: usize = 256;
/// Tokens whose logarithm is told beside the chosen one's, as with OpenAI.
pub const LOGPROBS_MAX: u8 = 20;
/// Bytes of a grammar's source.
pub const GRAMMAR_BYTES_MAX: usize = 64 << 10;

/// How to choose tokens, and where an answer ends. In which order is the sampler's (`inference::sampler`).
///
/// The default changes nothing and takes the largest logit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Temperature in thousandths; 0 takes the largest logit.
    pub temperature_milli: u32,
    /// Only the `top_k` largest logits are admitted; 0 admits all.
    pub top_k: u32,
    /// Only the smallest set of largest probabilities that sums to this many millionths is admitted; 0 and 1,000,000 admit all.
    pub top_p_ppm: u32,
    /// Only tokens at least this many millionths as likely as the likeliest are admitted; 0 admits all.
    pub min_p_ppm: u32,
    /// Divides (a negative logit: multiplies) the logit of every token of prompt and answer, in thousandths; 1,000 changes nothing.
    pub repeat_milli: u32,
    /// Taken off the logit of every token of the answer, in thousandths.
    pub presence_milli: i32,
    /// Taken off the logit of every token of the answer for each time it is there, in thousandths.
    pub frequency_milli: i32,
    /// Added to logits, in thousandths, by token. Tokens ascend.
    pub bias: Vec<(u32, i32)>,
    /// Strings that end the answer, and are no part of it. They ascend by their bytes.
    pub stop: Vec<String>,
    /// How many of the likeliest tokens have their logarithms told, besides the chosen one; 0 tells none, not the chosen one's either.
    pub logprobs: u8,
    /// What the answer must be.
    pub grammar: Option<Grammar>,
}

/// A language the answer is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grammar {
    /// Whose rules: [`GRAMMAR_ENGINE`].
    pub engine: u16,
    /// What the source is.
    pub kind: GrammarKind,
    /// The text, as the client wrote it.
    pub source: String,
}

/// What a grammar is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrammarKind {
    /// A JSON schema; the answer is JSON that it describes.
    Schema,
    /// A grammar in Lark's form, with a rule `start`.
    Lark,
}

/// Why options are refused. Each says the field, what it may be, and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A number outside its range.
    #[error("{field} is {got}, it may be {min} to {max}: {fix}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it holds.
        got: i64,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// What to do.
        fix: &'static str,
    },
    /// More entries or bytes than allowed, or none where some are needed.
    #[error("{field} has {got} {of}, it may have {min} to {max}: {fix}")]
    Size {
        /// The field.
        field: &'static str,
        /// How many it has.
        got: usize,
        /// Of what.
        of: &'static str,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
        /// What to do.
        fix: &'static str,
    },
    /// Entries that do not ascend, or one twice.
    #[error("{field} has entry {at} not above the one before it: sort the entries and keep one of equal ones")]
    Order {
        /// The field.
        field: &'static str,
        /// Number of the entry, from 0.
        at: usize,
    },
    /// A bias for a token that the model does not have.
    #[error("bias names token {token}, the vocabulary has {vocabulary}: take tokens below that")]
    Token {
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocabulary: usize,
    },
    /// A grammar for other rules than this node's.
    #[error("grammar is for engine {got}, this node has engine {has}: ask for that one, or another node")]
    Engine {
        /// Asked for.
        got: u16,
        /// What there is.
        has: u16,
    },
}

impl Default for Options {
    fn default() -> Self {
        Self {
            temperature_milli: 0,
            top_k: 0,
            top_p_ppm: 0,
            min_p_ppm: 0,
            repeat_milli: 1_000,
            presence_milli: 0,
            frequency_milli: 0,
            bias: Vec::new(),
            stop: Vec::new(),
            logprobs: 0,
            grammar: None,
        }
    }
}

impl From<SamplingRule> for Options {
    fn from(sampling: SamplingRule) -> Self {
        let SamplingRule { temperature_milli, top_k, top_p_ppm } = sampling;
        Self { temperature_milli, top_k, top_p_ppm, ..Self::default() }
    }
}

impl Options {
    /// The part that a request's own fields say.
    #[must_use]
    pub fn sampling(&self) -> SamplingRule {
        SamplingRule { temperature_milli: self.temperature_milli, top_k: self.top_k, top_p_ppm: self.top_p_ppm }
    }

    /// Whether [`Options::sampling`] says it all.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::from(self.sampling())
    }

    /// What travels beside a request that asks for these options: their encoding, or nothing if the request's own fields say it all.
    ///
    /// # Panics
    /// As [`Options::encode`].
    #[must_use]
    pub fn beside(&self) -> Body {
        if self.is_plain() { Body::default() } else { Body(self.encode()) }
    }

    /// Whether choosing needs to know what was said before.
    #[must_use]
    pub fn has_penalties(&self) -> bool {
        self.repeat_milli != 1_000 || self.presence_milli != 0 || self.frequency_milli != 0
    }

    /// The same options with bias and stop strings ascending, and each stop string once: the one form that is signed.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.bias.sort_unstable();
        self.stop.sort_unstable();
        self.stop.dedup();
        self
    }

    /// Whether a model of this many tokens can be asked so.
    ///
    /// # Errors
    /// [`OptionsError`] with the first field that cannot.
    pub fn check(&self, vocabulary: usize) -> Result<(), OptionsError> {
        self.check_numbers()?;
        self.check_bias(vocabulary)?;
        self.check_stop()?;
        self.grammar.as_ref().map_or(Ok(()), Grammar::check)
    }

    fn check_numbers(&self) -> Result<(), OptionsError> {
        range("top_p_ppm", self.top_p_ppm, 0, 1_000_000, "0 admits all tokens, 950000 the likeliest 95 %")?;
        range("min_p_ppm", self.min_p_ppm, 0, 1_000_000, "0 admits all tokens, 50000 those a twentieth as likely as the likeliest")?;
        let (least, most) = REPEAT_MILLI.into_inner();
        range("repeat_milli", self.repeat_milli, least, most, "1000 changes nothing, 1100 is a penalty of 1.1")?;
        range("presence_milli", self.presence_milli, -PENALTY_MILLI_MAX, PENALTY_MILLI_MAX, "1000 is a penalty of 1")?;
        range("frequency_milli", self.frequency_milli, -PENALTY_MILLI_MAX, PENALTY_MILLI_MAX, "1000 is a penalty of 1")?;
        range("logprobs", self.logprobs, 0, LOGPROBS_MAX, "ask for fewer tokens beside the chosen one")
    }

    fn check_bias(&self, vocabulary: usize) -> Result<(), OptionsError> {
        size("bias", self.bias.len(), "entries", 0, BIAS_MAX, "leave out those that matter least")?;
        ascending("bias", &self.bias, |entry| entry.0)?;
        for &(token, milli) in &self.bias {
            range("bias", milli, -BIAS_MILLI_MAX, BIAS_MILLI_MAX, "100000 forces a token, -100000 bars it")?;
            if usize::try_from(token).map_or(true, |token| token >= vocabulary) {
                return Err(OptionsError::Token { token, vocabulary });
            }
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<(), OptionsError> {
        size("stop", self.stop.len(), "strings", 0, STOPS_MAX, "leave out some")?;
        ascending("stop", &self.stop, |text| text.as_str())?;
        self.stop.iter().try_for_each(|text| {
            size("a string of stop", text.len(), "bytes", 1, STOP_BYTES_MAX, "leave out an empty one, shorten a long one")
        })
    }
}

impl Grammar {
    /// Of the rules this node has.
    #[must_use]
    pub fn new(kind: GrammarKind, source: impl Into<String>) -> Self {
        Self { engine: GRAMMAR_ENGINE, kind, source: source.into() }
    }

    fn check(&self) -> Result<(), OptionsError> {
        if self.engine != GRAMMAR_ENGINE {
            return Err(OptionsError::Engine { got: self.engine, has: GRAMMAR_ENGINE });
        }
        size("grammar", self.source.len(), "bytes", 1, GRAMMAR_BYTES_MAX, "describe less")
    }
}

fn range<T: Copy + Into<i64>>(field: &'static str, got: T, min: T, max: T, fix: &'static str) -> Result<(), OptionsError> {
    let (got, min, max) = (got.into(), min.into(), max.into());
    if (min..=max).contains(&got) { Ok(()) } else { Err(OptionsError::Range { field, got, min, max, fix }) }
}

fn size(field: &'static str, got: usize, of: &'static str, min: usize, max: usize, fix: &'static str) -> Result<(), OptionsError> {
    if (min..=max).contains(&got) { Ok(()) } else { Err(OptionsError::Size { field, got, of, min, max, fix }) }
}

fn ascending<'a, T, K: Ord>(field: &'static str, entries: &'a [T], key: impl Fn(&'a T) -> K) -> Result<(), OptionsError> {
    match entries.windows(2).position(|pair| key(&pair[0]) >= key(&pair[1])) {
        Some(at) => Err(OptionsError::Order { field, at: at + 1 }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: Options, expected: &str) {
        let got = options.check(100).map_or_else(|error| error.to_string(), |()| "accepted".to_owned());
        assert_eq!(got, expected);
    }

    fn plain() -> Options {
        Options::default()
    }

    #[test]
    fn each_field_is_refused_by_its_name_with_its_range_and_the_way_out() {
        check(
            Options { top_p_ppm: 1_000_001, ..plain() },
            "top_p_ppm is 1000001, it may be 0 to 1000000: 0 admits all tokens, 950000 the likeliest 95 %",
        );
        check(
            Options { min_p_ppm: u32::MAX, ..plain() },
            "min_p_ppm is 4294967295, it may be 0 to 1000000: 0 admits all tokens, 50000 those a twentieth as likely as the likeliest",
        );
        check(
            Options { repeat_milli: 0, ..plain() },
            "repeat_milli is 0, it may be 100 to 10000: 1000 changes nothing, 1100 is a penalty of 1.1",
        );
        check(Options { presence_milli: -2_001, ..plain() }, "presence_milli is -2001, it may be -2000 to 2000: 1000 is a penalty of 1");
        check(
            Options { frequency_milli: i32::MAX, ..plain() },
            "frequency_milli is 2147483647, it may be -2000 to 2000: 1000 is a penalty of 1",
        );
        check(Options { logprobs: 21, ..plain() }, "logprobs is 21, it may be 0 to 20: ask for fewer tokens beside the chosen one");
        check(
            Options { bias: vec![(3, -100_001)], ..plain() },
            "bias is -100001, it may be -100000 to 100000: 100000 forces a token, -100000 bars it",
        );
        check(Options { bias: vec![(100, 0)], ..plain() }, "bias names token 100, the vocabulary has 100: take tokens below that");
        check(
            Options { bias: (0..1_025).map(|token| (token, 0)).collect(), ..plain() },
            "bias has 1025 entries, it may have 0 to 1024: leave out those that matter least",
        );
        check(
            Options { bias: vec![(3, 0), (3, 1)], ..plain() },
            "bias has entry 1 not above the one before it: sort the entries and keep one of equal ones",
        );
        check(
            Options { stop: vec!["b".into(), "a".into()], ..plain() },
            "stop has entry 1 not above the one before it: sort the entries and keep one of equal ones",
        );
        check(
            Options { stop: vec![String::new()], ..plain() },
            "a string of stop has 0 bytes, it may have 1 to 256: leave out an empty one, shorten a long one",
        );
        check(
            Options { stop: vec!["é".repeat(129)], ..plain() },
            "a string of stop has 258 bytes, it may have 1 to 256: leave out an empty one, shorten a long one",
        );
        check(
            Options { stop: (0..17).map(|n| format!("{n:02}")).collect(), ..plain() },
            "stop has 17 strings, it may have 0 to 16: leave out some",
        );
        check(
            Options { grammar: Some(Grammar { engine: 9, ..Grammar::new(GrammarKind::Schema, "{}") }), ..plain() },
            "grammar is for engine 9, this node has engine 1: ask for that one, or another node",
        );
        check(
            Options { grammar: Some(Grammar::new(GrammarKind::Lark, "x".repeat(GRAMMAR_BYTES_MAX + 1))), ..plain() },
            "grammar has 65537 bytes, it may have 1 to 65536: describe less",
        );
    }

    #[test]
    fn what_is_at_its_limit_is_accepted() {
        let options = Options {
            temperature_milli: u32::MAX,
            top_k: u32::MAX,
            top_p_ppm: 1_000_000,
            min_p_ppm: 1_000_000,
            repeat_milli: 10_000,
            presence_milli: 2_000,
            frequency_milli: -2_000,
            bias: vec![(0, 100_000), (99, -100_000)],
            stop: vec!["x".repeat(256)],
            logprobs: 20,
            grammar: Some(Grammar::new(GrammarKind::Schema, "{}")),
        };
        check(options, "accepted");
    }

    #[test]
    fn sorting_gives_the_form_that_is_accepted() {
        let options = Options { bias: vec![(7, 1), (2, -1)], stop: vec!["b".into(), "a".into(), "b".into()], ..plain() }.sorted();
        assert_eq!((&options.bias[..], options.stop.len()), ([(2, -1), (7, 1)].as_slice(), 2));
        check(options, "accepted");
    }

    #[test]
    fn only_what_a_request_says_itself_is_plain() {
        let sampling = SamplingRule { temperature_milli: 700, top_k: 5, top_p_ppm: 9 };
        assert!(Options::from(sampling).is_plain());
        assert_eq!(Options::from(sampling).sampling(), sampling);
        assert!(!Options { logprobs: 1, ..plain() }.is_plain());
        assert!(!Options { repeat_milli: 999, ..plain() }.is_plain());
    }
}
