//! What callers hold: a cloneable handle, and one value per generation.

mod adapters;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use types::fingerprint::Fingerprint;

use crate::adapter::store::AdapterStore;
use crate::backend::cpu::{Cpu, CpuConfig};
use crate::backend::{Backend, Profile};
use crate::model::packed::PackedModel;
use crate::model::template::TemplateError;
use crate::model::{ModelInfo, Text};
use crate::sampler::text_len;
use crate::verify::fingerprint::{Largest, WIDTH_MAX};
use crate::verify::{Checked, Claim, Digests, Replay, Rule};
use crate::{Finish, Message};

use super::bell::{Bell, NotTaken};
use super::guide::Guides;
use super::line::{self, Line, Taken, Ticket, Told};
use super::owner::{Command, Owner};
use super::{EngineConfig, EngineError, Start, Stats, Step};

/// A running engine. Clones share it; it stops when the last clone and the last generation are dropped, which waits for
/// the step in progress, and for adapters that are being loaded or fetched.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bell: Arc<Bell>,
    /// None where no folder for adapters is named.
    store: Option<Arc<AdapterStore>>,
    /// Taken when dropped, so that the thread that compiles grammars ends.
    guides: Option<Guides>,
    threads: Vec<JoinHandle<()>>,
    queue_max: usize,
    profile: Profile,
    info: ModelInfo,
    text: Arc<Text>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.bell.close());
        self.guides = None;
        for thread in self.threads.drain(..) {
            // A panic of the owner was already reported to whoever waited on it, as `Stopped`.
            let _ = thread.join();
        }
    }
}

impl EngineHandle {
    /// Loads the model and starts the owner thread. Blocks for the load: about half a second per 100 MB of file.
    ///
    /// # Errors
    /// [`EngineError::Model`] (a wrong hash names both), [`EngineError::Store`], [`EngineError::Invalid`] or [`EngineError::Thread`].
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        config.check()?;
        let (model, text) = PackedModel::load(&config.model, config.expected_hash, config.profile)?;
        let mut device = CpuConfig { pages: config.pages(), slots: config.adapters.slots, ..CpuConfig::default() };
        device.threads = config.threads.unwrap_or(device.threads);
        if config.profile == Profile::Fast {
            gathered(model.info().config.hidden)?;
        }
        let cpu = Cpu::new(Arc::new(model), &device)?;
        let (info, profile, text) = (cpu.info().clone(), cpu.profile(), Arc::new(text));
        tracing::info!(model = %info.name, bytes = info.size_bytes, profile = profile.name(), path = ?cpu.kernels().path, "model loaded");
        let bell = Arc::new(Bell::new(config.queue_max));
        let store = adapters::open(&config, &info, &bell)?;
        let (guides, compiler) = Guides::start(Arc::clone(&text), info.config.vocabulary)?;
        let bounds = (config.sequences_max, config.queue_max);
        let owner =
            Owner::new(cpu, text.tokenizer.eos().to_vec(), Arc::clone(&bell), store.clone(), config.scheduler(info.context), bounds);
        let owner = std::thread::Builder::new().name("engine".to_owned()).spawn(move || owner.run()).map_err(EngineError::Thread)?;
        let threads = vec![owner, compiler];
        let shared = Shared { bell, store, guides: Some(guides), threads, queue_max: config.queue_max, profile, info, text };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The loaded model.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.shared.info
    }

    /// The rules by which every number of an answer is computed.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.shared.profile
    }

    /// Renders a conversation through the model's chat template, up to where the model answers, and tokenizes it.
    ///
    /// # Errors
    /// Any [`TemplateError`].
    pub fn prompt_tokens(&self, messages: &[Message]) -> Result<Vec<u32>, TemplateError> {
        let text = &self.shared.text;
        let rendered = text.template.render(&text.tokenizer, messages, true)?;
        Ok(text.tokenizer.encode(&rendered)?)
    }

    /// Bytes of tokens; the bytes of a prefix are a prefix of the bytes. Control tokens have none, an id outside the
    /// vocabulary gives U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        self.shared.text.tokenizer.decode(tokens)
    }

    /// Bytes of `tokens` that are an answer's text: all, or those ahead of the first of its stop strings. `continued` are the tokens before them.
    #[must_use]
    pub fn text(&self, stop: &[String], continued: &[u32], tokens: &[u32]) -> Vec<u8> {
        let mut text = self.decode(tokens);
        if !stop.is_empty() {
            text.truncate(text_len(stop, &self.decode(continued), &text));
        }
        text
    }

    /// Tokens that end an answer.
    #[must_use]
    pub fn eos(&self) -> &[u32] {
        self.shared.text.tokenizer.eos()
    }

    /// What the engine has done and holds.
    ///
    /// # Errors
    /// [`EngineError::Busy`] or [`EngineError::Stopped`].
    pub async fn stats(&self) -> Result<Stats, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Stats { reply })?;
        answer.await.map_err(|_| EngineError::Stopped)
    }

    /// Begins a generation; nothing is computed before its first pull or credit. Dropping the future half-way begins nothing.
    ///
    /// # Errors
    /// [`EngineError::UnknownAdapter`], [`EngineError::ContextExceeded`], [`EngineError::Invalid`], [`EngineError::Model`] for a token outside the
    /// vocabulary, [`EngineError::Options`], [`EngineError::Constraint`], [`EngineError::Busy`] or [`EngineError::Stopped`].
    pub async fn begin(&self, mut start: Start) -> Result<Generation, EngineError> {
        let guide = self.guides().guide(std::mem::take(&mut start.options), &start.prompt, &start.continued).await?;
        if guide.is_over() {
            return Ok(self.generation(None, true, None));
        }
        let largest = if start.fingerprints { Some(self.largest()?) } else { None };
        let ticket = self.ticket(start.continued.len(), largest.clone());
        let (reply, answer) = oneshot::channel();
        self.command(Command::Begin { start: Box::new(start), guide: Box::new(guide), line: Arc::clone(&ticket.line), reply })?;
        answer.await.map_err(|_| EngineError::Stopped)??;
        Ok(self.generation(Some(ticket), false, largest))
    }

    fn generation(&self, ticket: Option<Ticket>, is_over: bool, largest: Option<line::Shared>) -> Generation {
        Generation { ticket, is_over, ahead: 0, told: None, digests: None, largest, _engine: self.clone() }
    }

    /// Has a claim computed; [`crate::verify::replay`] and [`crate::verify::check`] are its public faces.
    pub(crate) async fn replay(&self, claim: Claim, is_traced: bool) -> Result<Checked, EngineError> {
        self.judge(claim, Rule::Equal, is_traced, None).await
    }

    /// Has a claim computed whose tokens may be near the choices, and keeps what fingerprints need of those that were claimed;
    /// [`crate::verify::resemble`] is its public face.
    pub(crate) async fn recompute(&self, claim: Claim) -> Result<(Replay, Largest), EngineError> {
        let largest = self.largest()?;
        // Tokens that no context holds are refused later: they cost no room here.
        lock(&largest).reserve(claim.tokens.len().min(self.shared.info.config.context));
        let checked = self.judge(claim, Rule::Near, false, Some(Arc::clone(&largest))).await?;
        let own = std::mem::replace(&mut *lock(&largest), Largest::new(self.shared.info.config.hidden));
        Ok((checked.replay, own))
    }

    async fn judge(&self, mut claim: Claim, rule: Rule, is_traced: bool, largest: Option<line::Shared>) -> Result<Checked, EngineError> {
        let guide = self.guides().guide(std::mem::take(&mut claim.options), &claim.prompt, &claim.continued).await?;
        // Dropped with the future, it gives the replay up.
        let ticket = self.ticket(claim.continued.len(), largest);
        let (reply, answer) = oneshot::channel();
        let line = Arc::clone(&ticket.line);
        self.command(Command::Replay { claim: Box::new(claim), rule, guide: Box::new(guide), is_traced, line, reply })?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    fn guides(&self) -> &Guides {
        self.shared.guides.as_ref().expect("taken only when dropped")
    }

    fn largest(&self) -> Result<line::Shared, EngineError> {
        let width = gathered(self.shared.info.config.hidden)?;
        Ok(Arc::new(Mutex::new(Largest::new(width))))
    }

    fn ticket(&self, index: usize, largest: Option<line::Shared>) -> Ticket {
        Ticket { line: Line::new(u32::try_from(index).unwrap_or(u32::MAX), largest), bell: Arc::clone(&self.shared.bell) }
    }

    fn command(&self, command: Command) -> Result<(), EngineError> {
        self.shared.bell.offer(command).map_err(|error| match error {
            NotTaken::Full(running) => EngineError::Busy {
                what: "waiting commands",
                running,
                max: self.shared.queue_max,
                retry_after: crate::proto::scheduler::RETRY_MIN,
            },
            NotTaken::Closed => EngineError::Stopped,
        })
    }
}

/// A generation in progress. Dropping it cancels it: its keys and values are freed after the step in progress.
#[derive(Debug)]
pub struct Generation {
    /// None once the generation has ended.
    ticket: Option<Ticket>,
    /// Whether it had ended before it began, and that was not told yet.
    is_over: bool,
    /// Tokens allowed that were not taken yet.
    ahead: u32,
    /// Of the token pulled last.
    told: Option<Told>,
    digests: Option<Digests>,
    /// Of each token, if fingerprints were asked for.
    largest: Option<line::Shared>,
    _engine: EngineHandle,
}

impl Generation {
    /// Allows `tokens` more to be computed before they are pulled. Without it a pull computes its own token alone, and whoever stops pulling
    /// stops the work; with it the engine runs ahead by as much as the caller is willing to have computed in vain, guesses tokens
    /// (`proto::lookup`), and does not wait for the caller between steps.
    pub fn credit(&mut self, tokens: u32) {
        if let Some(ticket) = self.ticket.as_ref().filter(|_| tokens > 0) {
            self.ahead = self.ahead.saturating_add(tokens);
            ticket.line.grant(tokens);
            ticket.bell.ring(&ticket.line);
        }
    }

    /// Of the token pulled last, if [`crate::sampler::Options::logprobs`] asked for it: that token, then the likeliest, with the logarithms of their
    /// probabilities as [`crate::sampler::Choice::logprobs`] has them.
    #[must_use]
    pub fn logprobs(&self) -> Option<&[(u32, i32)]> {
        self.told.as_deref()
    }

    /// Pulls the next step. The future may be dropped half-way: the next call gets the step that was under way.
    ///
    /// # Errors
    /// [`EngineError::Ended`] after [`Step::End`] or an error; [`EngineError::Model`], [`EngineError::Constraint`], [`EngineError::AdapterLost`] or [`EngineError::Stopped`].
    pub async fn next(&mut self) -> Result<Step, EngineError> {
        if std::mem::take(&mut self.is_over) {
            return Ok(Step::End(Finish::Stop));
        }
        if self.ahead == 0 {
            self.credit(1);
        }
        let line = &self.ticket.as_ref().ok_or(EngineError::Ended)?.line;
        let taken = poll_fn(|context| line.poll(context)).await;
        match taken {
            Taken::Token(step, told) => {
                self.told = told;
                self.ahead = self.ahead.saturating_sub(1);
                Ok(step)
            }
            Taken::End(end) => {
                (self.ticket, self.told) = (None, None);
                let (finish, digests) = end?;
                self.digests = digests;
                Ok(Step::End(finish))
            }
        }
    }

    /// Rows computed so far, of prompt and answer, guesses left out; rows that were there from an earlier prompt cost nothing, rows that were given up and
    /// computed again count twice. 0 once the end was pulled.
    #[must_use]
    pub fn computed(&self) -> u32 {
        self.ticket.as_ref().map_or(0, |ticket| ticket.line.computed())
    }

    /// What fingerprints of the answer are made of, if [`Start::fingerprints`] asked for it; it stays when the generation is dropped.
    #[must_use]
    pub fn activations(&self) -> Option<Activations> {
        self.largest.clone().map(Activations)
    }

    /// Digests of the answer, after [`Step::End`], if [`Start::digests`] asked for them.
    #[must_use]
    pub fn digests(&self) -> Option<&Digests> {
        self.digests.as_ref()
    }
}

/// What fingerprints of an answer are made of: 512 bytes a token. Clones share it.
#[derive(Debug, Clone)]
pub struct Activations(line::Shared);

impl Activations {
    /// Fingerprints of the first `tokens` that were chosen in this generation, fewer if fewer were: those that somebody vouches for.
    #[must_use]
    pub fn fingerprints(&self, tokens: usize) -> Vec<Fingerprint> {
        lock(&self.0).fingerprints(tokens)
    }
}

/// The width of rows that fingerprints can be made of.
fn gathered(width: usize) -> Result<usize, EngineError> {
    if (1..=WIDTH_MAX).contains(&width) {
        return Ok(width);
    }
    Err(EngineError::Invalid(
        "the model's rows are wider than the 65,536 numbers that a fingerprint of the profile fast reaches: use exact",
    ))
}

fn lock(largest: &line::Shared) -> std::sync::MutexGuard<'_, Largest> {
    largest.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_no_fingerprint_reaches_are_refused_and_never_gathered() {
        assert!(matches!(gathered(WIDTH_MAX), Ok(WIDTH_MAX)));
        for width in [0, WIDTH_MAX + 1, usize::MAX] {
            let error = gathered(width).unwrap_err().to_string();
            assert!(error.contains("65,536") && error.contains("use exact"), "{error}");
        }
        assert_eq!(Largest::new(gathered(WIDTH_MAX).unwrap()).positions(), 0);
    }
}
