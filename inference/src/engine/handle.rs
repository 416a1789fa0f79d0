//! What callers hold: a cloneable handle, and one value per generation.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::Message;
use crate::adapter::{AdapterError, AdapterInfo};
use crate::backend::cpu::Cpu;
use crate::model::template::TemplateError;
use crate::model::{Model, ModelInfo, Text};
use crate::verify::{Claim, Replay};

use super::owner::{Command, Owner, Ticket};
use super::{EngineConfig, EngineError, Start, Step};

/// A running engine. Clones share it; it stops when the last clone and the last generation are dropped, which waits for
/// the unit of work in progress (at most one chunk of a prompt).
#[derive(Debug, Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sender: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    queue_max: usize,
    info: ModelInfo,
    text: Text,
}

impl Shared {
    fn sender(&self) -> &mpsc::Sender<Command> {
        self.sender.as_ref().expect("taken only when dropped")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the owner was already reported to whoever waited on it, as `Stopped`.
            let _ = thread.join();
        }
    }
}

impl EngineHandle {
    /// Loads the model and starts the owner thread. Blocks for the load: about a second per 100 MB of file.
    ///
    /// # Errors
    /// [`EngineError::Model`] (a wrong hash names both), [`EngineError::Invalid`] or [`EngineError::Thread`].
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        if config.sequences_max == 0 || config.queue_max == 0 || config.cached_tokens_max == 0 {
            return Err(EngineError::Invalid("sequences_max, queue_max and cached_tokens_max must be at least 1"));
        }
        let (model, text) = Model::load(&config.model, config.expected_hash)?;
        let info = model.info().clone();
        tracing::info!(model = %info.name, bytes = info.size_bytes, "model loaded");
        let (sender, receiver) = mpsc::channel(config.queue_max);
        let owner = Owner::new(Cpu::new(model), text.tokenizer.eos().to_vec(), &config);
        let thread =
            std::thread::Builder::new().name("engine".to_owned()).spawn(move || owner.run(receiver)).map_err(EngineError::Thread)?;
        let shared = Shared { sender: Some(sender), thread: Some(thread), queue_max: config.queue_max, info, text };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The loaded model.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.shared.info
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

    /// Tokens that end an answer.
    #[must_use]
    pub fn eos(&self) -> &[u32] {
        self.shared.text.tokenizer.eos()
    }

    /// Reads an adapter's folder, checks it against the model and keeps it. Loading the same content again is free.
    ///
    /// # Errors
    /// Any [`AdapterError`].
    pub async fn load_adapter(&self, dir: &Path) -> Result<AdapterInfo, AdapterError> {
        let (reply, answer) = oneshot::channel();
        self.offer(Command::Load { dir: dir.to_path_buf(), reply })
            .map_err(|queued| queued.map_or(AdapterError::Stopped, |queued| AdapterError::Busy { queued }))?;
        answer.await.map_err(|_| AdapterError::Stopped)?
    }

    /// Forgets an adapter; generations that use it keep it. False if it was not loaded.
    ///
    /// # Errors
    /// [`EngineError::Busy`] or [`EngineError::Stopped`].
    pub async fn unload_adapter(&self, hash: [u8; 32]) -> Result<bool, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Unload { hash, reply })?;
        answer.await.map_err(|_| EngineError::Stopped)
    }

    /// Begins a generation; nothing is computed before its first pull. Dropping the future half-way begins nothing.
    ///
    /// # Errors
    /// [`EngineError::UnknownAdapter`], [`EngineError::ContextExceeded`], [`EngineError::Invalid`],
    /// [`EngineError::Busy`] or [`EngineError::Stopped`].
    pub async fn begin(&self, start: Start) -> Result<Generation, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Begin { start: Box::new(start), reply })?;
        let ticket = answer.await.map_err(|_| EngineError::Stopped)??;
        Ok(Generation { engine: self.clone(), ticket: Some(ticket), pending: None })
    }

    /// Sends a replay to the owner thread; [`crate::verify::replay`] is its public face.
    pub(crate) async fn replay(&self, claim: Claim) -> Result<Replay, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Replay { claim: Box::new(claim), reply })?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    fn command(&self, command: Command) -> Result<(), EngineError> {
        self.offer(command).map_err(|queued| {
            queued.map_or(EngineError::Stopped, |running| EngineError::Busy {
                what: "waiting commands",
                running,
                max: self.shared.queue_max,
            })
        })
    }

    /// Queues a command or says how many wait; `None` when the owner is gone.
    fn offer(&self, command: Command) -> Result<(), Option<usize>> {
        self.shared.sender().try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Some(self.shared.queue_max),
            mpsc::error::TrySendError::Closed(_) => None,
        })
    }
}

/// A generation in progress. Dropping it cancels it: its keys and values are freed within one unit of work.
#[derive(Debug)]
pub struct Generation {
    engine: EngineHandle,
    /// None once the generation has ended.
    ticket: Option<Ticket>,
    /// The answer to a pull whose future was dropped before it came.
    pending: Option<oneshot::Receiver<Result<Step, EngineError>>>,
}

impl Generation {
    /// Pulls the next step. The future may be dropped half-way: the next call gets the step that was under way.
    ///
    /// # Errors
    /// [`EngineError::Ended`] after [`Step::End`] or an error; [`EngineError::Model`] or [`EngineError::Stopped`].
    pub async fn next(&mut self) -> Result<Step, EngineError> {
        if self.pending.is_none() {
            let id = self.ticket.as_ref().ok_or(EngineError::Ended)?.id();
            let permit = self.engine.shared.sender().reserve().await.map_err(|_| EngineError::Stopped)?;
            let (reply, answer) = oneshot::channel();
            permit.send(Command::Pull { id, reply });
            self.pending = Some(answer);
        }
        let answer = self.pending.as_mut().ok_or(EngineError::Ended)?;
        let result = answer.await.unwrap_or(Err(EngineError::Stopped));
        self.pending = None;
        if !matches!(result, Ok(Step::Token { .. })) {
            self.ticket = None;
        }
        result
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.ticket.take().is_some() {
            // The flag in the ticket is what cancels; this only wakes an idle owner. A full queue means it is awake.
            let _ = self.engine.shared.sender().try_send(Command::Wake);
        }
    }
}
