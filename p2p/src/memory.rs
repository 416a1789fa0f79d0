//! In-process transport for tests: two [`FrameStream`]s joined back to back, with flow control and resets like the real ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::stream::{FrameStream, ReceiveHalf, SendHalf, StreamError};

/// Bytes under way in each direction before the sender waits: the window of a real stream.
pub const WINDOW_BYTES: usize = 256 << 10;

/// Two streams; what one sends the other receives.
#[must_use]
pub fn pair() -> (FrameStream, FrameStream) {
    let (near_writer, far_reader) = pipe();
    let (far_writer, near_reader) = pipe();
    let near = FrameStream::new(SendHalf::Memory(near_writer), ReceiveHalf::Memory(near_reader));
    let far = FrameStream::new(SendHalf::Memory(far_writer), ReceiveHalf::Memory(far_reader));
    (near, far)
}

fn pipe() -> (Writer, Reader) {
    let pipe = Arc::new(Pipe::default());
    (Writer(Arc::clone(&pipe)), Reader(pipe))
}

#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<State>,
    /// One permit for the one reader: there is something new to see.
    readable: Notify,
    /// One permit for the one writer: there is room, or the end.
    writable: Notify,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    is_finished: bool,
    reset: Option<u64>,
    stopped: Option<u64>,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Writer(Arc<Pipe>);

impl Writer {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        loop {
            {
                let mut state = self.0.lock();
                if let Some(code) = state.stopped {
                    return Err(StreamError::Reset { code });
                }
                let room = (WINDOW_BYTES - state.bytes.len()).min(bytes.len());
                if room > 0 {
                    state.bytes.extend(&bytes[..room]);
                    self.0.readable.notify_one();
                    return Ok(room);
                }
            }
            self.0.writable.notified().await;
        }
    }

    pub(crate) fn finish(&mut self) {
        self.0.lock().is_finished = true;
        self.0.readable.notify_one();
    }

    pub(crate) fn reset(&mut self, code: u64) {
        let mut state = self.0.lock();
        if !(state.is_finished && state.bytes.is_empty()) {
            state.bytes.clear();
            state.reset.get_or_insert(code);
        }
        self.0.readable.notify_one();
    }

    pub(crate) async fn closed(&mut self) -> Result<(), StreamError> {
        loop {
            {
                let state = self.0.lock();
                if state.is_finished && state.bytes.is_empty() {
                    return Ok(());
                }
                if let Some(code) = state.stopped {
                    return Err(StreamError::Reset { code });
                }
            }
            self.0.writable.notified().await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Reader(Arc<Pipe>);

impl Reader {
    pub(crate) async fn read(&mut self, max: usize) -> Result<Option<Vec<u8>>, StreamError> {
        loop {
            {
                let mut state = self.0.lock();
                if let Some(code) = state.reset {
                    return Err(StreamError::Reset { code });
                }
                if !state.bytes.is_empty() {
                    let count = max.min(state.bytes.len());
                    let bytes = state.bytes.drain(..count).collect();
                    self.0.writable.notify_one();
                    return Ok(Some(bytes));
                }
                if state.is_finished {
                    return Ok(None);
                }
            }
            self.0.readable.notified().await;
        }
    }

    pub(crate) fn stop(&mut self, code: u64) {
        let mut state = self.0.lock();
        if !state.is_finished {
            state.bytes.clear();
        }
        state.stopped.get_or_insert(code);
        self.0.writable.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameError;
    use crate::stream::code;

    #[tokio::test]
    async fn frames_arrive_in_order_and_the_end_is_clean() {
        let (mut near, mut far) = pair();
        near.send(b"one").await.unwrap();
        near.send(b"").await.unwrap();
        near.finish().await.unwrap();
        assert_eq!(far.recv(16).await, Ok(Some(b"one".to_vec())));
        assert_eq!(far.recv(16).await, Ok(Some(vec![])));
        assert_eq!(far.recv(16).await, Ok(None));
        assert_eq!(far.recv(16).await, Ok(None));
        assert_eq!(near.send(b"late").await, Err(StreamError::Finished));
    }

    #[tokio::test]
    async fn bytes_without_frames_follow_frames_and_end_where_the_stream_does() {
        let (near, mut far) = pair();
        let (mut sender, _receiver) = near.split();
        let body: Vec<u8> = (0..=255).cycle().take(2 * WINDOW_BYTES).collect();
        let expected = body.clone();
        let sending = tokio::spawn(async move {
            sender.send(b"head").await?;
            sender.send_raw(&body).await?;
            sender.finish().await
        });
        assert_eq!(far.recv(16).await, Ok(Some(b"head".to_vec())));
        let (_sender, mut receiver) = far.split();
        let (mut got, mut place) = (Vec::new(), [0; 1_000]);
        loop {
            let count = receiver.recv_raw(&mut place).await.unwrap();
            got.extend_from_slice(&place[..count]);
            if count == 0 {
                break;
            }
        }
        assert!(got == expected);
        assert_eq!(receiver.recv_raw(&mut place).await, Ok(0));
        sending.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_dropped_stream_is_a_reset_not_an_end() {
        let (near, mut far) = pair();
        drop(near);
        assert_eq!(far.recv(16).await, Err(StreamError::Reset { code: code::DROPPED }));
        assert_eq!(far.send(b"x").await, Err(StreamError::Reset { code: code::DROPPED }));
    }

    #[tokio::test]
    async fn a_sender_waits_for_a_slow_reader_and_then_goes_on() {
        let (near, mut far) = pair();
        let (mut sender, _receiver) = near.split();
        let body = vec![7; 3 * WINDOW_BYTES];
        let sending = tokio::spawn(async move { sender.send(&body).await.and(sender.finish().await) });
        let got = far.recv(4 * WINDOW_BYTES).await.unwrap().unwrap();
        assert_eq!(got.len(), 3 * WINDOW_BYTES);
        sending.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_send_dropped_half_way_leaves_whole_frames() {
        let (near, mut far) = pair();
        let (mut sender, _receiver) = near.split();
        let first = vec![1; 2 * WINDOW_BYTES];
        {
            let sending = std::pin::pin!(sender.send(&first));
            assert!(futures::poll!(sending).is_pending());
        }
        let rest = tokio::spawn(async move { sender.send(b"second").await.and(sender.finish().await) });
        assert_eq!(far.recv(4 * WINDOW_BYTES).await.unwrap().unwrap(), vec![1; 2 * WINDOW_BYTES]);
        assert_eq!(far.recv(16).await, Ok(Some(b"second".to_vec())));
        rest.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_frame_above_the_readers_limit_is_refused_and_the_sender_told() {
        let (mut near, mut far) = pair();
        near.send(&[0; 100]).await.unwrap();
        let error = far.recv(99).await.unwrap_err();
        assert_eq!(error, StreamError::Frame(FrameError::TooLong { got: 100, max: 99 }));
        assert!(error.is_peer_fault());
        assert_eq!(near.send(b"more").await, Err(StreamError::Reset { code: code::PROTOCOL }));
    }

    #[tokio::test]
    async fn a_waiting_sender_learns_of_a_cancel() {
        let (near, mut far) = pair();
        let (mut sender, _receiver) = near.split();
        let waiting = tokio::spawn(async move { sender.closed().await });
        far.reset(code::CANCELLED);
        assert_eq!(waiting.await.unwrap(), Err(StreamError::Reset { code: code::CANCELLED }));
    }
}
