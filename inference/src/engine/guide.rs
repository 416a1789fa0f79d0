//! What steers an answer beside its logits: options, what was said before, stop strings, a grammar.
//!
//! Made before the owner hears of the answer, because compiling a grammar takes some milliseconds and a hostile one more; a thread of its own does that.
//! Plain options cost nothing: no counts, no bytes of tokens, no mask. With a grammar each token costs its mask (`constraint`), worked out beside
//! other jobs' choices; with stop strings a step of each for each byte.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::constraint::{Constraint, Grammars, Guided, STEPS_MAX};
use crate::model::Text;
use crate::sampler::{Choice, Chooser, Counts, Judgement, Options, Stops, TokenSet, judge_within};
use crate::verify::Rule;

use super::EngineError;

/// Grammars that may wait to be compiled.
const GRAMMARS_WAITING_MAX: usize = 32;

/// Of one answer or replay: where it stands after the tokens so far.
#[derive(Debug)]
pub(super) struct Guide {
    options: Options,
    seen: Counts,
    /// None without stop strings.
    stops: Option<Stops>,
    grammar: Option<Guided>,
    /// What the grammar lets follow, since the last choice.
    allowed: TokenSet,
    is_over: bool,
    text: Arc<Text>,
    /// Room for its choices, so that none allocates.
    chooser: Chooser,
}

impl Guide {
    /// After a prompt and the tokens of an answer that came before.
    fn new(options: Options, (prompt, continued): (&[u32], &[u32]), text: Arc<Text>, grammar: Option<Guided>) -> Result<Self, EngineError> {
        let seen = if options.has_penalties() { Counts::new(prompt) } else { Counts::default() };
        let stops = (!options.stop.is_empty()).then(|| Stops::new(&options.stop));
        let (allowed, chooser) = (TokenSet::default(), Chooser::default());
        let mut guide = Self { options, seen, stops, grammar, allowed, is_over: false, text, chooser };
        for token in continued {
            guide.is_over |= guide.push(*token)?;
        }
        Ok(guide)
    }

    /// Whether the tokens from before hold a stop string already, so that nothing follows.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The choice at the next position of the answer. None if no token can be chosen.
    pub(super) fn choose(&mut self, logits: &[f32], seed: &[u8; 32], position: u32) -> Result<Option<Choice>, EngineError> {
        let Self { options, seen, grammar, allowed, chooser, .. } = self;
        let allowed = match grammar {
            Some(grammar) => {
                grammar.allowed(allowed, STEPS_MAX)?;
                Some(&*allowed)
            }
            None => None,
        };
        Ok(chooser.choose(logits, options, seen, allowed, seed, position))
    }

    /// How far a token is from `best`, which [`Guide::choose`] chose just before.
    pub(super) fn judge(&self, rule: Rule, logits: &[f32], (seed, position): (&[u8; 32], u32), token: u32, best: u32) -> Judgement {
        // Only a token that is not the choice needs more than the choice.
        if token == best {
            return Judgement { best, margin: 0.0, passes: true };
        }
        let allowed = self.grammar.is_some().then_some(&self.allowed);
        judge_within(rule.tolerance(), logits, &self.options, &self.seen, allowed, seed, position, token)
    }

    /// Takes a token of the answer; true if a stop string ends with it or in it, so that it is the last.
    ///
    /// # Errors
    /// [`EngineError::Constraint`] for a token that the grammar does not allow.
    pub(super) fn push(&mut self, token: u32) -> Result<bool, EngineError> {
        if self.options.has_penalties() {
            self.seen.push(token);
        }
        if let Some(grammar) = &mut self.grammar {
            grammar.commit(token)?;
        }
        let text = &self.text;
        Ok(self.stops.as_mut().is_some_and(|stops| stops.push(&text.tokenizer.decode(&[token])).is_end))
    }

    /// How many of these tokens there are up to the one that a stop string ends with.
    pub(super) fn cut(&self, tokens: &[u32]) -> Option<usize> {
        if self.is_over {
            return Some(0);
        }
        let mut stops = self.stops.clone()?;
        tokens.iter().position(|token| stops.push(&self.text.tokenizer.decode(&[*token])).is_end).map(|at| at + 1)
    }
}

/// Makes guides; clones share the thread that compiles grammars.
#[derive(Debug, Clone)]
pub(super) struct Guides {
    text: Arc<Text>,
    vocabulary: usize,
    orders: SyncSender<Order>,
}

#[derive(Debug)]
struct Order {
    options: Options,
    prompt: Vec<u32>,
    continued: Vec<u32>,
    reply: oneshot::Sender<Result<Guide, EngineError>>,
}

impl Guides {
    /// Starts the thread. It ends when every clone is gone.
    pub(super) fn start(text: Arc<Text>, vocabulary: usize) -> Result<(Self, JoinHandle<()>), EngineError> {
        let (orders, waiting) = sync_channel(GRAMMARS_WAITING_MAX);
        let of_thread = Arc::clone(&text);
        let thread = std::thread::Builder::new().name("engine-grammars".to_owned()).spawn(move || compile(&of_thread, &waiting));
        Ok((Self { text, vocabulary, orders }, thread.map_err(EngineError::Thread)?))
    }

    /// A guide for an answer to `prompt` that goes on after `continued`.
    ///
    /// # Errors
    /// [`EngineError::Options`] and [`EngineError::Constraint`] for what cannot be asked of this model, [`EngineError::Busy`] if too many grammars wait.
    pub(super) async fn guide(&self, options: Options, prompt: &[u32], continued: &[u32]) -> Result<Guide, EngineError> {
        options.check(self.vocabulary)?;
        if options.grammar.is_none() {
            return Guide::new(options, (prompt, continued), Arc::clone(&self.text), None);
        }
        let (reply, answer) = oneshot::channel();
        let order = Order { options, prompt: prompt.to_vec(), continued: continued.to_vec(), reply };
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => EngineError::Busy {
                what: "grammars to compile",
                running: GRAMMARS_WAITING_MAX,
                max: GRAMMARS_WAITING_MAX,
                retry_after: crate::proto::scheduler::RETRY_MIN,
            },
            TrySendError::Disconnected(_) => EngineError::Stopped,
        })?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }
}

fn compile(text: &Arc<Text>, orders: &Receiver<Order>) {
    // The vocabulary is indexed with the first grammar: most engines see none.
    let mut grammars = None;
    for Order { options, prompt, continued, reply } in orders {
        if reply.is_closed() {
            continue;
        }
        let mut guided = || {
            let grammars = match &mut grammars {
                Some(grammars) => grammars,
                place @ None => place.insert(Grammars::new(&text.tokenizer)?),
            };
            options.grammar.as_ref().map(|grammar| grammars.begin(grammar)).transpose()
        };
        let guide = guided().map_err(EngineError::from);
        let guide = guide.and_then(|guided| Guide::new(options, (&prompt, &continued), Arc::clone(text), guided));
        // Who asked may have gone.
        let _ = reply.send(guide);
    }
}
