//! The encoder behind a thread of its own: a bounded line of requests, computed one after another.
//!
//! A request whose asker is gone is passed over, also half-way. A full line is answered at once with [`EmbedError::Busy`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::{EmbedError, Embedder, EmbedderInfo, Embeddings};
use crate::model::ModelError;

/// Requests that wait: at the gateway's megabyte each they are 16 MB, and a minute of the longest ones.
pub const WAITING_MAX: usize = 16;

struct Request {
    texts: Vec<String>,
    reply: oneshot::Sender<Result<Embeddings, EmbedError>>,
}

/// A running encoder. Clones share it; it stops when the last is dropped, which waits for the pass in progress.
#[derive(Debug, Clone)]
pub struct EmbedderHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    info: EmbedderInfo,
    /// Taken when dropped, so that the thread ends.
    requests: Option<mpsc::Sender<Request>>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic was already told to whoever waited, as `Stopped`.
            let _ = thread.join();
        }
    }
}

impl EmbedderHandle {
    /// Loads the encoder of a folder and starts its thread. Blocks as [`Embedder::open`] does.
    ///
    /// # Errors
    /// Those of [`Embedder::open`]; [`ModelError::Files`] too if the system gives no thread.
    pub fn start(path: &Path) -> Result<Self, ModelError> {
        Self::of(Embedder::open(path)?, WAITING_MAX).map_err(|source| {
            let path = path.to_path_buf();
            crate::model::files::FilesError::Io { path, source }.into()
        })
    }

    fn of(embedder: Embedder, waiting_max: usize) -> std::io::Result<Self> {
        let (requests, line) = mpsc::channel(waiting_max);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (info, stop) = (embedder.info().clone(), Arc::clone(&is_stopping));
        let thread = std::thread::Builder::new().name("embedder".to_owned()).spawn(move || run(&embedder, line, &stop))?;
        Ok(Self(Arc::new(Shared { info, requests: Some(requests), is_stopping, thread: Some(thread) })))
    }

    /// What the encoder is.
    #[must_use]
    pub fn info(&self) -> &EmbedderInfo {
        &self.0.info
    }

    /// A vector per text, in their order. Dropping the future gives the request up.
    ///
    /// # Errors
    /// Any [`EmbedError`] but `Left`.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Embeddings, EmbedError> {
        let (reply, answer) = oneshot::channel();
        let requests = self.0.requests.as_ref().ok_or(EmbedError::Stopped)?;
        requests.try_send(Request { texts, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EmbedError::Busy { waiting: requests.max_capacity() },
            mpsc::error::TrySendError::Closed(_) => EmbedError::Stopped,
        })?;
        answer.await.unwrap_or(Err(EmbedError::Stopped))
    }
}

fn run(embedder: &Embedder, mut line: mpsc::Receiver<Request>, is_stopping: &AtomicBool) {
    while let Some(Request { texts, reply }) = line.blocking_recv() {
        let is_wanted = || !reply.is_closed() && !is_stopping.load(Ordering::Relaxed);
        let result =
            embedder.embed(&texts, is_wanted).map_err(|error| if matches!(error, EmbedError::Left) { EmbedError::Stopped } else { error });
        // Whoever has gone needs no answer.
        drop(reply.send(result));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn a_full_line_is_answered_at_once_and_an_ended_thread_too() {
        let (requests, line) = mpsc::channel(1);
        let info = EmbedderInfo { name: "none".to_owned(), width: 1, text_tokens_max: 1, hash: [0; 32], size_bytes: 0 };
        let handle = EmbedderHandle(Arc::new(Shared { info, requests: Some(requests), is_stopping: Arc::default(), thread: None }));
        let mut first = pin!(handle.embed(Vec::new()));
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(matches!(handle.embed(Vec::new()).await, Err(EmbedError::Busy { waiting: 1 })));
        drop(line);
        assert!(matches!(first.await, Err(EmbedError::Stopped)));
        assert!(matches!(handle.embed(Vec::new()).await, Err(EmbedError::Stopped)));
    }
}
