//! The thread that owns model, sequences and adapters.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::adapter::{AdapterError, AdapterFiles, AdapterInfo};
use crate::backend::Backend;
use crate::verify::{Claim, Progress, Replay};

use super::sequence::Sequence;
use super::{ADAPTERS_MAX, EngineConfig, EngineError, Start, Step};

/// What a handle asks.
#[derive(Debug)]
pub(super) enum Command {
    Begin { start: Box<Start>, reply: oneshot::Sender<Result<Ticket, EngineError>> },
    Pull { id: u64, reply: oneshot::Sender<Result<Step, EngineError>> },
    Replay { claim: Box<Claim>, reply: oneshot::Sender<Result<Replay, EngineError>> },
    Load { dir: PathBuf, reply: oneshot::Sender<Result<AdapterInfo, AdapterError>> },
    Unload { hash: [u8; 32], reply: oneshot::Sender<bool> },
    Wake,
}

/// The right to a sequence; dropping it, wherever it is, gives the sequence up.
#[derive(Debug)]
pub(super) struct Ticket {
    id: u64,
    cancelled: Arc<AtomicBool>,
}

impl Ticket {
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

struct Running<B: Backend> {
    sequence: Sequence<B>,
    adapter: Option<Arc<B::Adapter>>,
    cancelled: Arc<AtomicBool>,
}

struct Replaying<B: Backend> {
    sequence: Sequence<B>,
    adapter: Option<Arc<B::Adapter>>,
    progress: Progress,
    reply: oneshot::Sender<Result<Replay, EngineError>>,
}

/// Work that takes turns.
enum Job<B: Backend> {
    Pull { id: u64, reply: oneshot::Sender<Result<Step, EngineError>> },
    Replay(Box<Replaying<B>>),
}

pub(super) struct Owner<B: Backend> {
    backend: B,
    eos: Vec<u32>,
    sequences_max: usize,
    cached_tokens_max: usize,
    running: BTreeMap<u64, Running<B>>,
    adapters: BTreeMap<[u8; 32], (Arc<B::Adapter>, AdapterInfo)>,
    jobs: VecDeque<Job<B>>,
    next_id: u64,
}

impl<B: Backend> Owner<B> {
    pub(super) fn new(backend: B, eos: Vec<u32>, config: &EngineConfig) -> Self {
        let EngineConfig { sequences_max, cached_tokens_max, .. } = *config;
        let (running, adapters, jobs) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Self { backend, eos, sequences_max, cached_tokens_max, running, adapters, jobs, next_id: 0 }
    }

    /// Serves until every handle is gone.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            if self.jobs.is_empty() {
                match commands.blocking_recv() {
                    Some(command) => self.accept(command),
                    None => return,
                }
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.accept(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.running.retain(|_, running| !running.cancelled.load(Ordering::Acquire));
            if let Some(job) = self.jobs.pop_front() {
                self.turn(job);
            }
        }
    }

    fn accept(&mut self, command: Command) {
        match command {
            Command::Begin { start, reply } => {
                // A caller that went away drops the ticket, and with it the sequence.
                let _ = reply.send(self.begin(&start));
            }
            Command::Pull { id, reply } => self.jobs.push_back(Job::Pull { id, reply }),
            Command::Replay { claim, reply } => match self.replaying(*claim) {
                Ok((sequence, adapter, progress)) => {
                    let replaying = Replaying { sequence, adapter, progress, reply };
                    self.jobs.push_back(Job::Replay(Box::new(replaying)));
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
            Command::Load { dir, reply } => {
                let _ = reply.send(self.load(&dir));
            }
            Command::Unload { hash, reply } => {
                let _ = reply.send(self.adapters.remove(&hash).is_some());
            }
            Command::Wake => {}
        }
    }

    fn begin(&mut self, start: &Start) -> Result<Ticket, EngineError> {
        self.running.retain(|_, running| !running.cancelled.load(Ordering::Acquire));
        self.admit("generations", self.running.len())?;
        let adapter = self.adapter(start.adapter)?;
        let sequence = Sequence::new(start, &self.backend)?;
        self.admit_tokens(sequence.length_max())?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let id = self.next_id;
        self.next_id += 1;
        self.running.insert(id, Running { sequence, adapter, cancelled: Arc::clone(&cancelled) });
        Ok(Ticket { id, cancelled })
    }

    #[expect(clippy::type_complexity, reason = "three parts that the caller names at once")]
    fn replaying(&self, claim: Claim) -> Result<(Sequence<B>, Option<Arc<B::Adapter>>, Progress), EngineError> {
        let replays = self.jobs.iter().filter(|job| matches!(job, Job::Replay(_))).count();
        self.admit("replays", replays)?;
        let adapter = self.adapter(claim.adapter)?;
        let max = usize::try_from(self.backend.info().context).unwrap_or(usize::MAX);
        let length = claim.start().prompt.len() + claim.continued.len() + claim.tokens.len();
        if length > max {
            return Err(EngineError::ContextExceeded { prompt: length, max });
        }
        let sequence = Sequence::new(&claim.start(), &self.backend)?;
        self.admit_tokens(sequence.length_max())?;
        Ok((sequence, adapter, Progress::new(claim.tokens, claim.finish)))
    }

    fn admit(&self, what: &'static str, running: usize) -> Result<(), EngineError> {
        let max = self.sequences_max;
        if running >= max { Err(EngineError::Busy { what, running, max }) } else { Ok(()) }
    }

    /// Whether a sequence that may grow to `added` tokens fits beside the others.
    fn admit_tokens(&self, added: usize) -> Result<(), EngineError> {
        let replays = self.jobs.iter().filter_map(|job| match job {
            Job::Replay(replaying) => Some(replaying.sequence.length_max()),
            Job::Pull { .. } => None,
        });
        let held: usize = self.running.values().map(|running| running.sequence.length_max()).chain(replays).sum();
        let max = self.cached_tokens_max;
        if held + added > max { Err(EngineError::Busy { what: "cached tokens", running: held, max }) } else { Ok(()) }
    }

    fn adapter(&self, hash: Option<[u8; 32]>) -> Result<Option<Arc<B::Adapter>>, EngineError> {
        let Some(hash) = hash else { return Ok(None) };
        let (adapter, _) = self.adapters.get(&hash).ok_or(EngineError::UnknownAdapter(hash))?;
        Ok(Some(Arc::clone(adapter)))
    }

    fn load(&mut self, dir: &Path) -> Result<AdapterInfo, AdapterError> {
        let files = AdapterFiles::read(dir)?;
        let hash = files.hash();
        if let Some((_, info)) = self.adapters.get(&hash) {
            return Ok(info.clone());
        }
        if self.adapters.len() >= ADAPTERS_MAX {
            return Err(AdapterError::TooMany { max: ADAPTERS_MAX });
        }
        let adapter = self.backend.prepare(&files)?;
        let info = B::adapter_info(&adapter).clone();
        tracing::info!(adapter = %info.name, rank = info.rank, bytes = info.bytes, "adapter loaded");
        self.adapters.insert(hash, (Arc::new(adapter), info.clone()));
        Ok(info)
    }

    /// Does one unit of a job; what is unfinished goes to the end of the line.
    fn turn(&mut self, job: Job<B>) {
        match job {
            Job::Pull { id, reply } => self.pull(id, reply),
            Job::Replay(replaying) => self.replay(replaying),
        }
    }

    fn pull(&mut self, id: u64, reply: oneshot::Sender<Result<Step, EngineError>>) {
        let Some(running) = self.running.get_mut(&id) else {
            let _ = reply.send(Err(EngineError::Ended));
            return;
        };
        match running.sequence.unit(&self.backend, running.adapter.as_deref(), &self.eos) {
            Ok(None) => self.jobs.push_back(Job::Pull { id, reply }),
            Ok(Some(step)) => {
                if matches!(step, Step::End(_)) {
                    self.running.remove(&id);
                }
                let _ = reply.send(Ok(step));
            }
            Err(error) => {
                self.running.remove(&id);
                let _ = reply.send(Err(error.into()));
            }
        }
    }

    fn replay(&mut self, mut replaying: Box<Replaying<B>>) {
        if replaying.reply.is_closed() {
            return;
        }
        match self.replay_unit(&mut replaying) {
            Ok(None) => self.jobs.push_back(Job::Replay(replaying)),
            Ok(Some(replay)) => {
                let _ = replaying.reply.send(Ok(replay));
            }
            Err(error) => {
                let _ = replaying.reply.send(Err(error));
            }
        }
    }

    fn replay_unit(&self, replaying: &mut Replaying<B>) -> Result<Option<Replay>, EngineError> {
        if let Some(replay) = replaying.progress.complete() {
            return Ok(Some(replay));
        }
        let Some(logits) = replaying.sequence.compute(&self.backend, replaying.adapter.as_deref())? else {
            return Ok(None);
        };
        let sequence = &mut replaying.sequence;
        let claimed = replaying.progress.judge(sequence.index(), &self.eos, |token| sequence.judge(&logits, token));
        if let Some(token) = claimed {
            sequence.push(token);
        }
        Ok(replaying.progress.complete())
    }
}
