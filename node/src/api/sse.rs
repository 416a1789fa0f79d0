//! An answer on its way to a reader: events of the source in, server-sent events out.
//!
//! A reader that lags behind slows the source down: between the two lie [`EVENTS_MAX`](super::source::EVENTS_MAX) events,
//! [`FRAMES_MAX`] frames and the socket's buffer, and nothing else. One that takes nothing for [`super::Bounds::reader_wait`] is given up, and one that
//! goes away is noticed at once: either way the source's receiver is dropped, which ends the answer, and the connection is broken off, so that whoever reads on
//! does not take what came for the whole.
//!
//! While nothing comes, a comment every [`KEEP_ALIVE`] keeps proxies from closing the stream.

use std::{io, time::Duration};

use axum::body::{Body, Bytes};
use futures::stream;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    answer::Writer,
    errors::{Kind, Refusal},
    idempotency::Kept,
    lease::Lease,
    source::{Event, Finished},
};

/// Media type of a stream.
pub(super) const MEDIA: &str = "text/event-stream; charset=utf-8";
/// Frames that wait for the socket, each a token: about 2 kB.
const FRAMES_MAX: usize = 8;
/// Between two comments of a stream that says nothing: below the minute after which proxies close.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One answer under way to one reader.
#[derive(Debug)]
pub(super) struct Pump {
    /// What comes.
    pub(super) events: mpsc::Receiver<Event>,
    /// How it is said.
    pub(super) writer: Writer,
    /// What it holds while it lasts.
    pub(super) lease: Lease,
    /// How long a reader may take nothing.
    pub(super) reader_wait: Duration,
}

/// Why an answer on its way ended early.
enum Over {
    /// The reader is gone, or takes nothing.
    Reader,
    /// The source failed.
    Source(Refusal),
}

/// The body of a stream, and what fills it: to be driven until it ends.
pub(super) fn body(first: Event, pump: Pump) -> (Body, impl Future<Output = ()> + Send) {
    let (frames, rest) = mpsc::channel::<Bytes>(FRAMES_MAX);
    let (ended, is_whole) = oneshot::channel();
    let body = stream::unfold((rest, Some(is_whole)), |(mut rest, mut is_whole)| async move {
        match rest.recv().await {
            Some(frame) => Some((Ok(frame), (rest, is_whole))),
            // Said once: whatever is behind it is not asked for.
            None => is_whole.take()?.await.is_err().then(|| (Err(io::Error::other("the reader was given up")), (rest, None))),
        }
    });
    (Body::from_stream(body), pump.run(first, frames, ended))
}

impl Pump {
    /// Says by `ended` that all of it is on its way, an error in its place too.
    async fn run(mut self, first: Event, frames: mpsc::Sender<Bytes>, ended: oneshot::Sender<()>) {
        let passed = match self.pass(first, &frames).await {
            Err(Over::Source(refusal)) => {
                // The status was sent long ago: OpenAI's clients look for an error inside the stream.
                let frame = format!("data: {}\n\n", refusal.json());
                self.send(&frames, frame, false).await
            }
            passed => passed,
        };
        match passed {
            Ok(()) => {
                // A body that nobody reads any more needs no end.
                let _ = ended.send(());
            }
            Err(_) => tracing::info!("the reader of an answer is gone: the answer is cancelled"),
        }
    }

    async fn pass(&mut self, first: Event, frames: &mpsc::Sender<Bytes>) -> Result<(), Over> {
        if let Some(piece) = self.writer.begin() {
            self.say(frames, &piece).await?;
        }
        let mut next = Some(first);
        loop {
            let event = match next.take() {
                Some(event) => event,
                None => self.event(frames).await?,
            };
            match event {
                Event::Token { bytes, logprobs } => {
                    self.lease.token();
                    if let Some(piece) = self.writer.token(&bytes, logprobs.as_deref()) {
                        self.say(frames, &piece).await?;
                    }
                }
                Event::Finished(finished) => return self.finish(frames, &finished).await,
                Event::Failed(refusal) => return Err(Over::Source(refusal)),
            }
        }
    }

    /// The next event; meanwhile the stream is kept open.
    async fn event(&mut self, frames: &mpsc::Sender<Bytes>) -> Result<Event, Over> {
        loop {
            let event = tokio::select! {
                biased;
                () = frames.closed() => return Err(Over::Reader),
                event = timeout(KEEP_ALIVE, self.events.recv()) => event,
            };
            match event {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => return Err(Over::Source(broken_off())),
                Err(_) => self.send(frames, ": waiting\n\n".to_owned(), false).await?,
            }
        }
    }

    async fn finish(&mut self, frames: &mpsc::Sender<Bytes>, finished: &Finished) -> Result<(), Over> {
        self.lease.used(finished.usage);
        let mut last: String = self.writer.end(finished).iter().map(|piece| format!("data: {piece}\n\n")).collect();
        last.push_str("data: [DONE]\n\n");
        // What is paid for is kept before it is sent: a reader that is gone by now asks again under its key.
        self.lease.record(last.as_bytes());
        if let Some(body) = self.lease.recorded() {
            self.lease.keep(Kept { media: MEDIA, body });
        }
        self.send(frames, last, false).await
    }

    async fn say(&mut self, frames: &mpsc::Sender<Bytes>, piece: &str) -> Result<(), Over> {
        self.send(frames, format!("data: {piece}\n\n"), true).await
    }

    async fn send(&mut self, frames: &mpsc::Sender<Bytes>, frame: String, is_recorded: bool) -> Result<(), Over> {
        if is_recorded {
            self.lease.record(frame.as_bytes());
        }
        match timeout(self.reader_wait, frames.send(frame.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over::Reader),
        }
    }
}

/// A source that ended without a word.
pub(super) fn broken_off() -> Refusal {
    Refusal::new(Kind::Failed, "answer_broken_off", "the answer broke off without a reason: see the gateway's log").last()
}
