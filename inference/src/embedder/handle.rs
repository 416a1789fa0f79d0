//! The encoder behind a thread of its own: a bounded line of requests, computed one after another.
//!
//! A request whose asker is gone is passed over, also half-way. A full line is answered at once with [`EmbedError::Busy`]. A request on which the
//! encoder panics fails alone: the tokenizer is a library's, its file somebody's, and the text a client's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::line::{Line, Request};
use super::{EmbedError, Embedder, EmbedderInfo, Embeddings};
use crate::model::ModelError;

/// Requests that wait: at the gateway's megabyte each they are 16 MB, and about two minutes of two cores if all are the longest there can be.
pub const WAITING_MAX: usize = 16;

/// A running encoder. Clones share it; it stops when the last is dropped, which waits for the pass in progress.
#[derive(Debug, Clone)]
pub struct EmbedderHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    info: EmbedderInfo,
    line: Arc<Line>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.line.close();
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
        let embedder = Embedder::open(path)?;
        let info = embedder.info().clone();
        Self::of(info, WAITING_MAX, move |texts, is_wanted| embedder.embed(texts, is_wanted)).map_err(|source| {
            let path = path.to_path_buf();
            crate::model::files::FilesError::Io { path, source }.into()
        })
    }

    fn of(
        info: EmbedderInfo,
        waiting_max: usize,
        embed: impl Fn(&[String], &dyn Fn() -> bool) -> Result<Embeddings, EmbedError> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (line, is_stopping) = (Arc::new(Line::new(waiting_max)), Arc::new(AtomicBool::new(false)));
        let (served, stop) = (Arc::clone(&line), Arc::clone(&is_stopping));
        let thread = std::thread::Builder::new().name("embedder".to_owned()).spawn(move || run(&embed, &served, &stop))?;
        Ok(Self(Arc::new(Shared { info, line, is_stopping, thread: Some(thread) })))
    }

    /// What the encoder is.
    #[must_use]
    pub fn info(&self) -> &EmbedderInfo {
        &self.0.info
    }

    /// A vector per text, in their order. `asker` is any number by which requests of the same one are known: each has a quarter of the places.
    /// Dropping the future gives the request and its place up.
    ///
    /// # Errors
    /// Any [`EmbedError`] but `Left`.
    pub async fn embed(&self, asker: usize, texts: Vec<String>) -> Result<Embeddings, EmbedError> {
        let (reply, answer) = oneshot::channel();
        self.0.line.push(Request { asker, texts, reply })?;
        answer.await.unwrap_or(Err(EmbedError::Stopped))
    }
}

/// Closes a line however its thread ends, so that nobody waits for one that is not there.
struct Closing<'a>(&'a Line);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Vectors of texts, as long as they are wanted.
type Embed = dyn Fn(&[String], &dyn Fn() -> bool) -> Result<Embeddings, EmbedError>;

fn run(embed: &Embed, line: &Line, is_stopping: &AtomicBool) {
    let _closing = Closing(line);
    while let Some(Request { texts, reply, .. }) = line.next() {
        let is_wanted = || !reply.is_closed() && !is_stopping.load(Ordering::Relaxed);
        // Nothing of the encoder changes while it computes, so that nothing is left half done.
        let result = catch_unwind(AssertUnwindSafe(|| embed(&texts, &is_wanted))).unwrap_or(Err(EmbedError::Failed));
        // Whoever has gone needs no answer.
        drop(reply.send(result.map_err(|error| if matches!(error, EmbedError::Left) { EmbedError::Stopped } else { error })));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    fn handle(embed: impl Fn(&[String]) -> Result<Embeddings, EmbedError> + Send + 'static) -> EmbedderHandle {
        let info = EmbedderInfo { name: "none".to_owned(), width: 1, text_tokens_max: 1, hash: [0; 32], size_bytes: 0 };
        EmbedderHandle::of(info, 4, move |texts, _| embed(texts)).unwrap()
    }

    fn texts(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[tokio::test]
    async fn a_text_on_which_the_encoder_panics_fails_alone() {
        let handle = handle(|texts| {
            assert!(texts[0] != "bad", "as a library may");
            Ok(Embeddings { vectors: vec![vec![1.0]], tokens: 3 })
        });
        assert!(matches!(handle.embed(0, texts("bad")).await.unwrap_err(), EmbedError::Failed));
        assert_eq!(handle.embed(0, texts("good")).await.unwrap().tokens, 3);
    }

    #[tokio::test]
    async fn what_is_dropped_gives_its_place_up_and_is_never_computed() {
        let ((begun, begins), (go, goes), (computed, seen)) = (mpsc::channel(), mpsc::channel::<()>(), mpsc::channel());
        let handle = handle(move |texts| {
            computed.send(texts[0].clone()).unwrap();
            begun.send(()).unwrap();
            // Ended by the test, so that others wait as long as it likes.
            let _ = goes.recv();
            Ok(Embeddings { vectors: Vec::new(), tokens: 0 })
        });
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(handle.embed(9, texts("first")));
        assert!(first.as_mut().poll(&mut context).is_pending());
        begins.recv().unwrap();
        let mut waiting: Vec<_> = (0..4).map(|asker| Box::pin(handle.embed(asker, texts("left")))).collect();
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut context).is_pending());
        }
        assert!(matches!(handle.embed(9, texts("late")).await.unwrap_err(), EmbedError::Busy { waiting: 4 }));
        drop(waiting);
        let mut next = pin!(handle.embed(9, texts("next")));
        assert!(next.as_mut().poll(&mut context).is_pending());
        drop(go);
        first.await.unwrap();
        next.await.unwrap();
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["first", "next"]);
    }
}
