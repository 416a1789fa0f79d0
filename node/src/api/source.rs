//! What the gateway asks: answers, models, embeddings. Who answers is not its matter: the paid network, or in tests a source in the same process.
//!
//! Whatever a client may say of sampling stands in [`Choosing`], in the options that requests are signed with. A source says which of it its wire
//! carries ([`Answers::carries`]); the rest is refused by the field's name before anything is asked, and never left out in silence.

use std::future::Future;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use types::{
    amount::Amount,
    id::{Address, Hash32},
    options::Options,
};

use super::{adapters::Load, errors::Refusal};

/// Events that wait for a reader, each a token: with the kilobyte of text that a node's may have they are 8 kB a stream, and a source stops when they are full.
pub const EVENTS_MAX: usize = 8;

/// Who answers.
pub trait Answers: Send + Sync + 'static {
    /// What may be asked, by name.
    fn models(&self) -> impl Future<Output = Result<Vec<Listed>, Refusal>> + Send;

    /// Which options reach the model from here.
    fn carries(&self) -> &[Extra];

    /// Begins an answer. Its events end with [`Event::Finished`] or [`Event::Failed`]. It waits for a reader that lags behind, and ends, with nothing
    /// more to pay than what was promised, when the receiver is dropped.
    fn begin(&self, ask: Ask) -> impl Future<Output = Result<mpsc::Receiver<Event>, Refusal>> + Send;

    /// A vector per text, all of one length. `asker` is the number of the key that asks, so that no key has all places where requests wait.
    fn embed(&self, asker: usize, model: &str, texts: Vec<String>) -> impl Future<Output = Result<Embedded, Refusal>> + Send;

    /// Offers an adapter under a name.
    fn load(&self, load: Load) -> impl Future<Output = Result<Listed, Refusal>> + Send;

    /// Offers it no more; answers under way end undisturbed.
    fn unload(&self, name: &str) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// What shall answer, as the client calls it.
    pub model: String,
    /// The conversation; a legacy completion is one message of the user, because what is signed has roles.
    pub messages: Vec<Message>,
    /// Most output tokens.
    pub tokens_max: u32,
    /// How tokens are chosen.
    pub choosing: Choosing,
    /// Under which key of the client's it is asked once, and whose key that is.
    pub once: Option<String>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What.
    pub content: String,
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// Who asks.
    User,
    /// What answered before.
    Assistant,
}

/// Whatever a client may say of how tokens are chosen and where an answer ends. Temperature, top-k and top-p reach every source; the others are
/// [`Extra`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choosing {
    /// What the model is told, in the one form that is signed.
    pub options: Options,
    /// How many of the likeliest tokens are shown beside the chosen one, if logarithms are asked for. [`Options::logprobs`] is one where this is
    /// none of them: the sampler tells the chosen token's logarithm only with another one's, and what was not asked for is left off where it is shown.
    pub told: Option<u8>,
    /// What a client calls a seed; two questions with the same one are to be answered alike.
    pub seed: Option<i64>,
}

impl Default for Choosing {
    /// As with OpenAI: drawn at temperature 1.
    fn default() -> Self {
        Self { options: Options { temperature_milli: 1_000, ..Options::default() }, told: None, seed: None }
    }
}

/// An option that not every source's wire carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// [`Options::min_p_ppm`].
    MinP,
    /// [`Options::repeat_milli`].
    Repeat,
    /// [`Options::presence_milli`].
    Presence,
    /// [`Options::frequency_milli`].
    Frequency,
    /// [`Options::bias`].
    Bias,
    /// [`Options::stop`].
    Stop,
    /// [`Choosing::told`].
    Logprobs,
    /// [`Options::grammar`].
    Grammar,
    /// [`Choosing::seed`] where tokens are drawn; at temperature 0 every answer is the same anyway.
    Seed,
}

impl Extra {
    /// All of them, in the order they are looked for.
    pub const ALL: [Self; 9] =
        [Self::MinP, Self::Repeat, Self::Presence, Self::Frequency, Self::Bias, Self::Stop, Self::Logprobs, Self::Grammar, Self::Seed];

    /// The request's field that it comes from.
    pub const fn field(self) -> &'static str {
        match self {
            Self::MinP => "min_p",
            Self::Repeat => "repetition_penalty",
            Self::Presence => "presence_penalty",
            Self::Frequency => "frequency_penalty",
            Self::Bias => "logit_bias",
            Self::Stop => "stop",
            Self::Logprobs => "logprobs",
            Self::Grammar => "response_format",
            Self::Seed => "seed",
        }
    }

    /// What a client does without it.
    const fn fix(self) -> &'static str {
        match self {
            Self::Seed => {
                "what is drawn follows from the signature of the request, so that no node can choose it: leave seed out, or ask at temperature 0, where every answer is the same"
            }
            Self::Stop => "leave it out and cut the answer where it is read, or give max_tokens",
            Self::Grammar => "leave it out or take the type text, and ask for the form in words",
            _ => "leave it out",
        }
    }

    fn is_in(self, Choosing { options, told, seed }: &Choosing) -> bool {
        match self {
            Self::MinP => options.min_p_ppm != 0,
            Self::Repeat => options.repeat_milli != 1_000,
            Self::Presence => options.presence_milli != 0,
            Self::Frequency => options.frequency_milli != 0,
            Self::Bias => !options.bias.is_empty(),
            Self::Stop => !options.stop.is_empty(),
            Self::Logprobs => told.is_some(),
            Self::Grammar => options.grammar.is_some(),
            Self::Seed => seed.is_some() && options.temperature_milli != 0,
        }
    }
}

impl Choosing {
    /// The same with logarithms told, if any are asked for.
    #[must_use]
    pub fn telling(mut self, told: Option<u8>) -> Self {
        self.options.logprobs = told.map_or(0, |told| told.max(1));
        Self { told, ..self }
    }

    /// Refuses what a source that carries only `carried` would have to leave out.
    ///
    /// # Errors
    /// A [`Refusal`] with the field's name.
    pub fn carried_by(&self, carried: &[Extra]) -> Result<(), Refusal> {
        match Extra::ALL.into_iter().find(|extra| extra.is_in(self) && !carried.contains(extra)) {
            None => Ok(()),
            Some(extra) => {
                let (name, fix) = (extra.field(), extra.fix());
                let message = format!("{name} cannot be honoured here, what answers is not told of it: {fix}");
                Err(Refusal::field(name, "unsupported_parameter", message))
            }
        }
    }
}

/// What comes of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A token.
    Token {
        /// Its bytes of text, which may end inside a character.
        bytes: Vec<u8>,
        /// Logarithms, if they were asked for.
        logprobs: Option<Box<Logprobs>>,
    },
    /// The answer has ended, and is paid for.
    Finished(Box<Finished>),
    /// There is no answer, or none that is whole.
    Failed(Refusal),
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Why.
    pub reason: Reason,
    /// What was counted.
    pub usage: Usage,
    /// What was signed about it, where answers are paid.
    pub settled: Option<Settled>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The model ended it, or a stop string.
    Stop,
    /// The token limit, or a grammar that cannot be kept to any longer: the answer is cut off.
    Length,
}

impl Reason {
    /// OpenAI's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Read.
    pub tokens_in: u32,
    /// Said.
    pub tokens_out: u32,
}

/// The natural logarithms of a token and of the likeliest ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// The chosen token.
    pub chosen: Logprob,
    /// The likeliest, descending.
    pub likeliest: Vec<Logprob>,
}

/// One token's logarithm.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// Bytes of the token.
    pub bytes: Vec<u8>,
    /// Of its probability.
    pub nats: f64,
}

/// What was signed about an answer, and whose words it drew on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The receipt.
    pub receipt: Signed,
    /// Paid runs of words.
    pub attribution: Vec<Attributed>,
}

/// The receipt of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Its hash.
    pub hash: Hash32,
    /// The request.
    pub request: Hash32,
    /// The attempt at it that ended the answer.
    pub attempt: u16,
    /// Account of the node that signed it.
    pub node: Address,
    /// Root of what answered: base, adapters and index by content hash.
    pub manifest: Hash32,
    /// What it charges.
    pub fee_wei: Amount,
    /// What all attempts may cost together.
    pub at_most_wei: Amount,
}

/// A run of words that somebody is paid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributed {
    /// The words.
    pub quote: String,
    /// Who is paid.
    pub contributor: Address,
    /// The Datanet they stand in.
    pub datanet: String,
    /// Weight in 1/256 bit.
    pub weight: u32,
    /// What they earn of this answer.
    pub amount_wei: Amount,
}

/// Something that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name: the base's, or `base:adapter`.
    pub id: String,
    /// The base an adapter or agent stands on, by name.
    pub parent: Option<String>,
    /// What it is.
    pub root: String,
    /// Whose it is.
    pub owned_by: String,
    /// When it was made known, seconds since 1970; 0 where nobody knows.
    pub created_s: u64,
    /// Content hash of what is loaded for it beside the base.
    pub content: Option<Hash32>,
}

/// Vectors of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One per text.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens read.
    pub tokens: u32,
}

#[cfg(test)]
mod tests {
    use types::options::{Grammar, GrammarKind};

    use super::*;

    /// What a client may say with one extra each, and its name.
    fn each() -> [(Extra, Choosing); 9] {
        let with = |change: fn(&mut Options)| {
            let mut choosing = Choosing::default();
            change(&mut choosing.options);
            choosing
        };
        [
            (Extra::MinP, with(|options| options.min_p_ppm = 1)),
            (Extra::Repeat, with(|options| options.repeat_milli = 1_100)),
            (Extra::Presence, with(|options| options.presence_milli = -1)),
            (Extra::Frequency, with(|options| options.frequency_milli = 1)),
            (Extra::Bias, with(|options| options.bias = vec![(1, 2)])),
            (Extra::Stop, with(|options| options.stop = vec!["end".into()])),
            (Extra::Logprobs, Choosing::default().telling(Some(0))),
            (Extra::Grammar, with(|options| options.grammar = Some(Grammar::new(GrammarKind::Schema, "{}")))),
            (Extra::Seed, Choosing { seed: Some(0), ..Choosing::default() }),
        ]
    }

    #[test]
    fn what_a_source_does_not_carry_is_refused_by_name_and_what_it_carries_passes() {
        assert_eq!(Choosing::default().carried_by(&[]), Ok(()));
        for (extra, choosing) in each() {
            let refusal = choosing.carried_by(&Extra::ALL.into_iter().filter(|other| *other != extra).collect::<Vec<_>>()).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(extra.field()), "{choosing:?}");
            assert_eq!(choosing.carried_by(&[extra]), Ok(()), "{choosing:?}");
        }
    }

    #[test]
    fn a_seed_is_no_matter_where_nothing_is_drawn() {
        assert_eq!(Choosing { seed: Some(7), options: Options::default(), told: None }.carried_by(&[]), Ok(()));
    }

    #[test]
    fn the_chosen_tokens_logarithm_is_told_by_asking_for_one_more() {
        let asked = |told| Choosing::default().telling(told).options.logprobs;
        assert_eq!([None, Some(0), Some(1), Some(20)].map(asked), [0, 1, 1, 20]);
    }
}
