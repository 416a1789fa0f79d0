//! Answers held to a grammar: which tokens may follow, by the crate `llguidance`, at a bounded cost.
//!
//! A grammar comes from a client, so nothing about it is trusted. Its size is bounded before it is read ([`crate::sampler::GRAMMAR_BYTES_MAX`],
//! [`NEST_MAX`]), and so is what the library has no bound for (`constraint/bounds.rs`); its compilation by the library's own fuel ([`limits`]),
//! each mask by fuel and items, and what compiled forms are kept ([`GRAMMARS_MAX`]). A panic of the library is an error of this request. Each answer has a copy of the parser of its own, tables
//! included: what one answer costs, and where it fails, never depends on others.
//!
//! A mask is exact: the tokens whose bytes the grammar lets follow. So it is the same on every node with the same
//! [`crate::sampler::GRAMMAR_ENGINE`], and part of the profile `exact`. Outer `$ref`s are refused: nothing is ever fetched.
//!
//! Compile off the thread that steps the model: the limits allow a hostile grammar some tenths of a second (terminals that double forty
//! times over: 0.46 s, refused; 6,000 alternatives: 20 ms).

mod bounds;
mod cache;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::{ParserLimits, StopReason, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{ParserFactory, TokenParser, panic_utils};

use crate::model::tokenizer::Tokenizer;
use crate::sampler::{GRAMMAR_BYTES_MAX, GRAMMAR_ENGINE, Grammar, GrammarKind, TokenSet};
pub use bounds::{JOINED_BYTES_MAX, JOINED_MAX, NAME_PATTERNS_MAX, NEST_MAX, PATTERN_BYTES_MAX};
use bounds::{check_lark, check_schema, depth};
use cache::Cache;

/// Compiled grammars kept, the least recently used given up first. Each is below about 10 MB by the limits; those of forms are 100 kB.
pub const GRAMMARS_MAX: usize = 16;
/// Fuel and items of one mask together: what [`Constraint::allowed`] may be given at most. About 20 ms by the library's own figures.
pub const STEPS_MAX: u64 = STEP_FUEL + STEP_ITEMS;

const STEP_FUEL: u64 = 200_000;
const STEP_ITEMS: u64 = 50_000;
/// A longer token is never allowed by a grammar: the library's trie ends at 1,024 bytes.
const TOKEN_BYTES_MAX: usize = 512;
/// Bytes of all tokens; the library's trie has room for four million nodes.
const VOCABULARY_BYTES_MAX: usize = 3 << 20;
/// Bytes of the library's own words that an error repeats.
const REASON_BYTES_MAX: usize = 300;

/// Why an answer cannot be held to a grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// Another node's rules.
    #[error("grammar is for engine {got}, this node has engine {GRAMMAR_ENGINE}: ask for that one, or another node")]
    Engine {
        /// Asked for.
        got: u16,
    },
    /// Longer than anything that is read.
    #[error("grammar has {got} bytes, at most {GRAMMAR_BYTES_MAX} are read: describe less")]
    TooLong {
        /// Its bytes.
        got: usize,
    },
    /// Brackets within brackets.
    #[error("grammar nests deeper than {NEST_MAX} brackets: describe parts by themselves and refer to them")]
    TooDeep,
    /// No JSON, no grammar, or something the library does not know.
    #[error("grammar cannot be used: {0}")]
    Invalid(String),
    /// Compiling it, or a mask of it, takes more than is granted.
    #[error("grammar costs more than is granted: {0}; make repetitions and alternatives smaller")]
    TooCostly(String),
    /// The grammar wants something that no token of this vocabulary spells.
    #[error("no token of this model's vocabulary continues the answer within the grammar")]
    DeadEnd,
    /// A token that the grammar does not allow was committed.
    #[error("token {token} is not allowed by the grammar here")]
    NotAllowed {
        /// The token.
        token: u32,
    },
    /// Asked again after an error.
    #[error("the grammar failed before: begin again")]
    Failed,
    /// A vocabulary that the library has no room for.
    #[error("the model's vocabulary has {got} {of}, grammars work with {max} at most")]
    Vocabulary {
        /// How many it has.
        got: usize,
        /// Of what.
        of: &'static str,
        /// Most.
        max: usize,
    },
}

impl ConstraintError {
    /// Whether the client's grammar is at fault, rather than this node or its caller.
    #[must_use]
    pub fn is_clients_fault(&self) -> bool {
        !matches!(self, Self::NotAllowed { .. } | Self::Failed | Self::Vocabulary { .. })
    }
}

/// What may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// The tokens of the set; end tokens are among them where the answer may end.
    Tokens,
    /// Nothing: the answer is complete. The set holds the end tokens.
    End,
}

/// Says after each token which tokens may follow.
pub trait Constraint: Send {
    /// Writes into `out` what may follow. `steps_max` is the fuel and items it may take, at most [`STEPS_MAX`]; a mask that took more is an error.
    ///
    /// # Errors
    /// [`ConstraintError::TooCostly`] and [`ConstraintError::DeadEnd`]; after either, [`ConstraintError::Failed`].
    fn allowed(&mut self, out: &mut TokenSet, steps_max: u64) -> Result<Allowed, ConstraintError>;

    /// Takes a token of the answer, an end token too.
    ///
    /// # Errors
    /// [`ConstraintError::NotAllowed`]; after that, [`ConstraintError::Failed`].
    fn commit(&mut self, token: u32) -> Result<(), ConstraintError>;
}

/// What the library may spend on one grammar; times by its own figures.
///
/// Compiling: 1,000,000 units of regex nodes (about 20 ms a pass), 100,000 symbols. A mask: 200,000 units of fuel (about 15 ms), 50,000 items (2.5 ms), 1,000 items for one
/// byte. An answer: 20,000 states of its lexer (1 to 2 kB each). Errors without the state of the parser, which repeats the answer.
#[must_use]
pub fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 1_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: STEP_FUEL,
        step_max_items: usize::try_from(STEP_ITEMS).expect("fits"),
        max_lexer_states: 20_000,
        max_grammar_size: 100_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// Compiles grammars for one vocabulary, and keeps the last few. Clone it freely: clones share.
#[derive(Clone)]
pub struct Grammars {
    shared: Arc<Shared>,
}

struct Shared {
    factory: ParserFactory,
    vocabulary: usize,
    eos: Vec<u32>,
    cache: Mutex<Cache>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").field("vocabulary", &self.shared.vocabulary).finish_non_exhaustive()
    }
}

impl Grammars {
    /// Indexes a model's tokens: some tens of milliseconds and about 20 bytes for each byte of them.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] for one the library has no room for.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, ConstraintError> {
        let count = u32::try_from(tokenizer.vocabulary()).unwrap_or(u32::MAX);
        Self::of_tokens((0..count).map(|token| tokenizer.decode(&[token])).collect(), tokenizer.eos())
    }

    /// As [`Grammars::new`], of the tokens' bytes, none for control tokens, and the end tokens.
    ///
    /// # Errors
    /// As [`Grammars::new`].
    pub fn of_tokens(mut tokens: Vec<Vec<u8>>, eos: &[u32]) -> Result<Self, ConstraintError> {
        let vocabulary = tokens.len();
        let count = u32::try_from(vocabulary).ok().filter(|count| *count < 1 << 24);
        let count = count.ok_or(ConstraintError::Vocabulary { got: vocabulary, of: "tokens", max: (1 << 24) - 1 })?;
        tokens.iter_mut().filter(|token| token.len() > TOKEN_BYTES_MAX).for_each(Vec::clear);
        // An end token is allowed by where the answer stands, never by its bytes.
        let eos: Vec<u32> = eos.iter().copied().filter(|token| *token < count).collect();
        eos.iter().for_each(|token| tokens[usize::try_from(*token).expect("in the vocabulary")].clear());
        let bytes = tokens.iter().map(Vec::len).sum();
        if bytes > VOCABULARY_BYTES_MAX {
            return Err(ConstraintError::Vocabulary { got: bytes, of: "bytes", max: VOCABULARY_BYTES_MAX });
        }
        let Some(&first) = eos.first() else {
            return Err(ConstraintError::Vocabulary { got: 0, of: "end tokens, of which one is needed,", max: vocabulary });
        };
        let factory = panic_utils::catch_unwind(AssertUnwindSafe(|| {
            let trie = TokTrie::from(&TokRxInfo::new(count, first), &tokens).with_eos_tokens(&eos);
            let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &SlicedBiasComputer::general_slices())?;
            *factory.limits_mut() = limits();
            factory.quiet();
            Ok(factory)
        }))
        .map_err(|error| ConstraintError::Invalid(reason(&error)))?;
        Ok(Self { shared: Arc::new(Shared { factory, vocabulary, eos, cache: Mutex::new(Cache::new(GRAMMARS_MAX)) }) })
    }

    /// A grammar at its beginning. Compiled once while it is among the last [`GRAMMARS_MAX`]; blocks meanwhile, so not on the owner's thread.
    ///
    /// # Errors
    /// [`ConstraintError`] if the grammar is not one, or costs too much.
    pub fn begin(&self, grammar: &Grammar) -> Result<Guided, ConstraintError> {
        let key = blake3::hash(&[&[u8::from(grammar.kind == GrammarKind::Lark)], grammar.source.as_bytes()].concat());
        let known = self.cache().get(*key.as_bytes());
        let parser = match known {
            Some(parser) => parser,
            None => {
                let parser = self.compile(grammar)?;
                self.cache().put(*key.as_bytes(), parser.deep_clone());
                parser
            }
        };
        Ok(Guided { parser, shared: Arc::clone(&self.shared), is_failed: false, spent: 0 })
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // A cache is whole between its operations, whoever panicked.
        self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, grammar: &Grammar) -> Result<TokenParser, ConstraintError> {
        if grammar.engine != GRAMMAR_ENGINE {
            return Err(ConstraintError::Engine { got: grammar.engine });
        }
        if grammar.source.len() > GRAMMAR_BYTES_MAX {
            return Err(ConstraintError::TooLong { got: grammar.source.len() });
        }
        let source = match grammar.kind {
            GrammarKind::Schema => TopLevelGrammar::from_json_schema(schema(&grammar.source)?),
            GrammarKind::Lark => {
                check_lark(&grammar.source)?;
                TopLevelGrammar::from_lark(grammar.source.clone())
            }
        };
        let mut parser = self.shared.factory.create_parser(source).map_err(|error| refused(&error))?;
        parser.start_without_prompt();
        Ok(parser)
    }
}

/// Reads a schema within the bounds of [`bounds`].
fn schema(source: &str) -> Result<serde_json::Value, ConstraintError> {
    if depth(source) > NEST_MAX {
        return Err(ConstraintError::TooDeep);
    }
    let value: serde_json::Value =
        serde_json::from_str(source).map_err(|error| ConstraintError::Invalid(format!("the schema is not JSON: {error}")))?;
    match value {
        serde_json::Value::Object(_) | serde_json::Value::Bool(_) => check_schema(&value).map(|()| value),
        _ => Err(ConstraintError::Invalid("a schema is a JSON object, true or false".to_owned())),
    }
}

/// What the library says of a grammar that it does not take.
fn refused(error: &impl std::fmt::Display) -> ConstraintError {
    let reason = reason(error);
    // The library has no types for its errors; these are its words for a limit.
    if ["too big", "too large", "too complex", "fuel", "too many", "determine"].iter().any(|word| reason.contains(word)) {
        ConstraintError::TooCostly(reason)
    } else {
        ConstraintError::Invalid(reason)
    }
}

/// What the library says in one line: of a regular expression the first line is a title, and what is wrong stands in the last. Traces are left out.
fn reason(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.eq_ignore_ascii_case("stack backtrace:"));
    let line = said.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= REASON_BYTES_MAX).then_some(c)
        })
        .collect()
}

/// One answer, held to a grammar.
pub struct Guided {
    parser: TokenParser,
    shared: Arc<Shared>,
    is_failed: bool,
    spent: u64,
}

impl std::fmt::Debug for Guided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guided").field("tokens", &self.parser.num_tokens()).field("spent", &self.spent).finish_non_exhaustive()
    }
}

impl Guided {
    /// Fuel and items that masks took so far.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// Runs a step of the library; its panics and errors end this answer.
    fn step<R>(&mut self, step: impl FnOnce(&mut TokenParser) -> Result<R, ConstraintError>) -> Result<R, ConstraintError> {
        if self.is_failed {
            return Err(ConstraintError::Failed);
        }
        let parser = &mut self.parser;
        let done = panic_utils::catch_unwind(AssertUnwindSafe(|| Ok(step(parser))));
        let result = done.unwrap_or_else(|error| Err(ConstraintError::Invalid(reason(&error))));
        self.is_failed = result.is_err();
        result
    }
}

impl Constraint for Guided {
    fn allowed(&mut self, out: &mut TokenSet, steps_max: u64) -> Result<Allowed, ConstraintError> {
        out.reset(self.shared.vocabulary);
        if !self.is_failed && self.parser.stopped() {
            if !self.parser.stop_reason().is_ok() {
                return Err(ConstraintError::Failed);
            }
            out.extend(self.shared.eos.iter().copied());
            return Ok(Allowed::End);
        }
        let before = cost(&self.parser);
        let mask = self.step(|parser| parser.compute_mask().map_err(|error| stopped(parser, &error)));
        let took = cost(&self.parser).saturating_sub(before);
        self.spent += took;
        out.insert_words(mask?.as_slice());
        if took > steps_max {
            self.is_failed = true;
            return Err(ConstraintError::TooCostly(format!("a mask took {took} steps of {steps_max}")));
        }
        Ok(Allowed::Tokens)
    }

    fn commit(&mut self, token: u32) -> Result<(), ConstraintError> {
        let shared = Arc::clone(&self.shared);
        self.step(|parser| {
            // After a complete answer only an end token could follow, and the library takes none any more.
            let is_complete = parser.stopped() && parser.stop_reason().is_ok();
            let is_token = usize::try_from(token).is_ok_and(|token| token < shared.vocabulary);
            let fits = match shared.eos.contains(&token) {
                _ if is_complete || !is_token => false,
                true => parser.is_accepting(),
                false => parser.validate_token(token).map_err(|error| stopped(parser, &error))?,
            };
            if !fits {
                return Err(ConstraintError::NotAllowed { token });
            }
            parser.consume_token(token).map_err(|error| stopped(parser, &error))?;
            parser.check_stop().map_err(|error| stopped(parser, &error))?;
            Ok(())
        })
    }
}

fn cost(parser: &TokenParser) -> u64 {
    let stats = parser.parser_stats();
    stats.lexer_cost.saturating_add(u64::try_from(stats.all_items).unwrap_or(u64::MAX))
}

/// Why the library stopped in the middle of an answer.
fn stopped(parser: &TokenParser, error: &impl std::fmt::Display) -> ConstraintError {
    match parser.stop_reason() {
        StopReason::NoExtensionBias | StopReason::NoExtension => ConstraintError::DeadEnd,
        StopReason::LexerTooComplex | StopReason::ParserTooComplex => ConstraintError::TooCostly(reason(error)),
        _ => ConstraintError::Invalid(reason(error)),
    }
}

#[cfg(test)]
mod tests;
