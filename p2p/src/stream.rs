//! A two-way stream of frames between two authenticated peers, over quinn, iroh or memory.
//!
//! Services are written once against [`FrameStream`]; which transport carries it was decided where it was opened. The two
//! directions are independent: [`FrameStream::split`] gives them to two tasks.
//!
//! A stream that is dropped without [`FrameSender::finish`] is *reset*, so that a crashed task never looks like a clean end.

use crate::frame::{self, Decoder, FrameError};
use crate::memory;
use crate::tap::Tap;

/// Reset codes this crate uses; services may use any other below 2^62.
pub mod code {
    /// The other side's task ended without finishing the stream.
    pub const DROPPED: u64 = 1;
    /// The other side no longer wants the answer.
    pub const CANCELLED: u64 = 2;
    /// The other side has no room; try again later or elsewhere.
    pub const BUSY: u64 = 3;
    /// The other side is shutting down.
    pub const SHUTDOWN: u64 = 4;
    /// The other side received bytes that break the protocol.
    pub const PROTOCOL: u64 = 5;
}

/// Most bytes taken from the transport at once: what the decoder may hold beyond one frame.
const CHUNK_LEN: usize = 64 << 10;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// Nothing was heard of the peer within the idle limit: it was killed, or the network is cut.
    #[error("peer fell silent")]
    Silent,
    /// The peer closed the connection.
    #[error("peer closed the connection with code {code}")]
    ClosedByPeer {
        /// The peer's reason, one of [`code`] or its own.
        code: u64,
    },
    /// This side closed the connection.
    #[error("connection was closed here")]
    ClosedHere,
    /// The transport failed or the peer broke its rules.
    #[error("transport: {0}")]
    Transport(String),
}

/// Why a frame could not be sent or received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The bytes are not frames this side takes.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer gave this stream up; the connection lives.
    #[error("peer reset the stream with code {code}")]
    Reset {
        /// The peer's reason, one of [`code`] or its own.
        code: u64,
    },
    /// The connection is gone, with every stream on it.
    #[error(transparent)]
    Lost(#[from] Loss),
    /// This side had already finished or reset the stream.
    #[error("stream was already finished here")]
    Finished,
}

impl StreamError {
    /// True when the peer broke the protocol, as opposed to leaving or failing.
    #[must_use]
    pub fn is_peer_fault(&self) -> bool {
        matches!(self, Self::Frame(_))
    }

    /// True when the same request may be sent to another peer.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Reset { .. } | Self::Lost(_))
    }
}

/// Both directions of a stream.
#[derive(Debug)]
pub struct FrameStream {
    sender: FrameSender,
    receiver: FrameReceiver,
}

impl FrameStream {
    pub(crate) fn new(send: SendHalf, receive: ReceiveHalf) -> Self {
        let tap = Tap::new(send.transport());
        let sender = FrameSender { half: send, pending: Vec::new(), flushed: 0, is_over: false, tap };
        let receiver = FrameReceiver { half: receive, decoder: Decoder::new(), is_over: false };
        Self { sender, receiver }
    }

    /// See [`FrameSender::send`].
    ///
    /// # Errors
    /// Those of [`FrameSender::send`].
    pub async fn send(&mut self, body: &[u8]) -> Result<(), StreamError> {
        self.sender.send(body).await
    }

    /// See [`FrameReceiver::recv`].
    ///
    /// # Errors
    /// Those of [`FrameReceiver::recv`].
    pub async fn recv(&mut self, max: usize) -> Result<Option<Vec<u8>>, StreamError> {
        self.receiver.recv(max).await
    }

    /// See [`FrameSender::finish`].
    ///
    /// # Errors
    /// Those of [`FrameSender::finish`].
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        self.sender.finish().await
    }

    /// Gives both directions up; the peer sees [`StreamError::Reset`] with this code.
    pub fn reset(&mut self, code: u64) {
        self.sender.reset(code);
        self.receiver.stop(code);
    }

    /// The two directions, for two tasks.
    #[must_use]
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        (self.sender, self.receiver)
    }
}

/// The sending direction of a stream.
#[derive(Debug)]
pub struct FrameSender {
    half: SendHalf,
    /// The frame being written, of which `flushed` bytes are out.
    pending: Vec<u8>,
    flushed: usize,
    is_over: bool,
    tap: Tap,
}

impl FrameSender {
    /// Sends one frame; returns when the transport has taken all of it, waiting while the peer does not read.
    ///
    /// May be dropped half-way: the frame is then completed by the next `send` or `finish`, so the stream keeps its place.
    ///
    /// # Errors
    /// [`StreamError::Reset`] when the peer no longer reads, [`StreamError::Lost`], [`StreamError::Finished`],
    /// [`FrameError::TooLong`] above [`frame::FRAME_LEN_MAX`].
    pub async fn send(&mut self, body: &[u8]) -> Result<(), StreamError> {
        if self.is_over {
            return Err(StreamError::Finished);
        }
        self.flush().await?;
        frame::encode(body, &mut self.pending)?;
        self.tap.sent(body);
        self.flush().await
    }

    /// Ends this direction cleanly: the peer's `recv` returns `None` after the last frame.
    ///
    /// Delivery goes on after this returns, as long as the connection lives; [`FrameSender::closed`] waits for its end.
    ///
    /// # Errors
    /// As [`FrameSender::send`].
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        if self.is_over {
            return Err(StreamError::Finished);
        }
        self.flush().await?;
        self.is_over = true;
        match &mut self.half {
            SendHalf::Quinn(stream) => stream.finish().map_err(|_| StreamError::Finished),
            SendHalf::Iroh(stream) => stream.finish().map_err(|_| StreamError::Finished),
            SendHalf::Memory(writer) => {
                writer.finish();
                Ok(())
            }
        }
    }

    /// Waits until the peer has everything that was finished (`Ok`), gave the stream up, or is gone.
    ///
    /// A sender that waits for its next token selects on this to learn of a cancel at once. May be dropped half-way.
    ///
    /// # Errors
    /// [`StreamError::Reset`], [`StreamError::Lost`].
    pub async fn closed(&mut self) -> Result<(), StreamError> {
        match &mut self.half {
            SendHalf::Quinn(stream) => match stream.stopped().await {
                Ok(None) => Ok(()),
                Ok(Some(code)) => Err(StreamError::Reset { code: code.into_inner() }),
                Err(error) => Err(quinn::WriteError::from(error).into()),
            },
            SendHalf::Iroh(stream) => match stream.stopped().await {
                Ok(None) => Ok(()),
                Ok(Some(code)) => Err(StreamError::Reset { code: code.into_inner() }),
                Err(error) => Err(iroh::endpoint::WriteError::from(error).into()),
            },
            SendHalf::Memory(writer) => writer.closed().await,
        }
    }

    /// Gives this direction up: the peer's `recv` fails with [`StreamError::Reset`] and frames not yet delivered are lost.
    pub fn reset(&mut self, code: u64) {
        self.is_over = true;
        // A stream that is already closed needs no reset: both calls answer that by an error of no consequence.
        match &mut self.half {
            SendHalf::Quinn(stream) => drop(stream.reset(quinn_code(code))),
            SendHalf::Iroh(stream) => drop(stream.reset(iroh_code(code))),
            SendHalf::Memory(writer) => writer.reset(code),
        }
    }

    /// Sends bytes in no frame, for a peer that knows from the frames before how many follow. No copy is made of them here.
    ///
    /// Dropped half-way, the stream has lost its place and is to be reset.
    ///
    /// # Errors
    /// As [`FrameSender::send`].
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        if self.is_over {
            return Err(StreamError::Finished);
        }
        self.flush().await?;
        self.tap.sent(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = &rest[self.half.write(rest).await?..];
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StreamError> {
        while let Some(rest) = self.pending.get(self.flushed..).filter(|rest| !rest.is_empty()) {
            self.flushed += self.half.write(rest).await?;
        }
        self.flushed = 0;
        self.pending.clear();
        self.pending.shrink_to(CHUNK_LEN);
        Ok(())
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        if !self.is_over {
            self.reset(code::DROPPED);
        }
    }
}

/// The receiving direction of a stream.
#[derive(Debug)]
pub struct FrameReceiver {
    half: ReceiveHalf,
    decoder: Decoder,
    is_over: bool,
}

impl FrameReceiver {
    /// The next frame, of at most `max` bytes, or `None` when the peer finished. Memory grows with what arrives, not with what
    /// the peer declares. May be dropped half-way without loss.
    ///
    /// # Errors
    /// [`StreamError::Frame`] when the frame is longer than `max` or malformed (the stream is then stopped with
    /// [`code::PROTOCOL`]), [`StreamError::Reset`], [`StreamError::Lost`].
    pub async fn recv(&mut self, max: usize) -> Result<Option<Vec<u8>>, StreamError> {
        loop {
            match self.decoder.take(max) {
                Ok(Some(body)) => return Ok(Some(body)),
                Ok(None) if self.is_over => return Ok(None),
                Ok(None) => {}
                Err(error) => {
                    self.stop(code::PROTOCOL);
                    return Err(error.into());
                }
            }
            if !self.read().await? {
                self.is_over = true;
                self.decoder.end()?;
            }
        }
    }

    /// Fills the beginning of `out` with bytes that are in no frame, and says how many came: 0 at the end of the stream. They go straight from the
    /// transport to their place. May be dropped half-way without loss.
    ///
    /// # Errors
    /// [`StreamError::Reset`], [`StreamError::Lost`].
    pub async fn recv_raw(&mut self, out: &mut [u8]) -> Result<usize, StreamError> {
        let held = self.decoder.take_raw(out);
        if held > 0 || self.is_over || out.is_empty() {
            return Ok(held);
        }
        let came = match &mut self.half {
            ReceiveHalf::Quinn(stream) => stream.read(out).await?,
            ReceiveHalf::Iroh(stream) => stream.read(out).await?,
            ReceiveHalf::Memory(reader) => reader.read(out.len()).await?.map(|bytes| {
                out[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            }),
        };
        self.is_over = came.is_none();
        Ok(came.unwrap_or(0))
    }

    /// Tells the peer to send no more; its `send` fails with [`StreamError::Reset`].
    pub fn stop(&mut self, code: u64) {
        self.is_over = true;
        match &mut self.half {
            ReceiveHalf::Quinn(stream) => drop(stream.stop(quinn_code(code))),
            ReceiveHalf::Iroh(stream) => drop(stream.stop(iroh_code(code))),
            ReceiveHalf::Memory(reader) => reader.stop(code),
        }
    }

    /// Feeds the decoder once; false at the end of the stream.
    async fn read(&mut self) -> Result<bool, StreamError> {
        match &mut self.half {
            ReceiveHalf::Quinn(stream) => match stream.read_chunk(CHUNK_LEN, true).await? {
                Some(chunk) => self.decoder.push(&chunk.bytes),
                None => return Ok(false),
            },
            ReceiveHalf::Iroh(stream) => match stream.read_chunk(CHUNK_LEN).await? {
                Some(bytes) => self.decoder.push(&bytes),
                None => return Ok(false),
            },
            ReceiveHalf::Memory(reader) => match reader.read(CHUNK_LEN).await? {
                Some(bytes) => self.decoder.push(&bytes),
                None => return Ok(false),
            },
        }
        Ok(true)
    }
}

impl Drop for FrameReceiver {
    fn drop(&mut self) {
        if !self.is_over {
            self.stop(code::DROPPED);
        }
    }
}

/// The transports' sending halves.
#[derive(Debug)]
pub(crate) enum SendHalf {
    Quinn(quinn::SendStream),
    Iroh(iroh::endpoint::SendStream),
    Memory(memory::Writer),
}

impl SendHalf {
    const fn transport(&self) -> &'static str {
        match self {
            Self::Quinn(_) => "client",
            Self::Iroh(_) => "bulk",
            Self::Memory(_) => "memory",
        }
    }

    /// Gives the transport what it takes of `bytes`, and says how much that is.
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        Ok(match self {
            Self::Quinn(stream) => stream.write(bytes).await?,
            Self::Iroh(stream) => stream.write(bytes).await?,
            Self::Memory(writer) => writer.write(bytes).await?,
        })
    }
}

/// The transports' receiving halves.
#[derive(Debug)]
pub(crate) enum ReceiveHalf {
    Quinn(quinn::RecvStream),
    Iroh(iroh::endpoint::RecvStream),
    Memory(memory::Reader),
}

pub(crate) fn quinn_code(code: u64) -> quinn::VarInt {
    quinn::VarInt::from_u64(code).unwrap_or(quinn::VarInt::MAX)
}

pub(crate) fn iroh_code(code: u64) -> iroh::endpoint::VarInt {
    iroh::endpoint::VarInt::from_u64(code).unwrap_or(iroh::endpoint::VarInt::MAX)
}

impl From<quinn::ConnectionError> for Loss {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::TimedOut => Self::Silent,
            E::LocallyClosed => Self::ClosedHere,
            E::ApplicationClosed(close) => Self::ClosedByPeer { code: close.error_code.into_inner() },
            other => Self::Transport(other.to_string()),
        }
    }
}

impl From<iroh::endpoint::ConnectionError> for Loss {
    fn from(error: iroh::endpoint::ConnectionError) -> Self {
        use iroh::endpoint::ConnectionError as E;
        match error {
            E::TimedOut => Self::Silent,
            E::LocallyClosed => Self::ClosedHere,
            E::ApplicationClosed(close) => Self::ClosedByPeer { code: close.error_code.into_inner() },
            other => Self::Transport(other.to_string()),
        }
    }
}

impl From<quinn::ReadError> for StreamError {
    fn from(error: quinn::ReadError) -> Self {
        use quinn::ReadError as E;
        match error {
            E::Reset(code) => Self::Reset { code: code.into_inner() },
            E::ConnectionLost(error) => Self::Lost(error.into()),
            E::ClosedStream | E::IllegalOrderedRead | E::ZeroRttRejected => Self::Finished,
        }
    }
}

impl From<iroh::endpoint::ReadError> for StreamError {
    fn from(error: iroh::endpoint::ReadError) -> Self {
        use iroh::endpoint::ReadError as E;
        match error {
            E::Reset(code) => Self::Reset { code: code.into_inner() },
            E::ConnectionLost(error) => Self::Lost(error.into()),
            E::ClosedStream | E::ZeroRttRejected => Self::Finished,
        }
    }
}

impl From<quinn::WriteError> for StreamError {
    fn from(error: quinn::WriteError) -> Self {
        use quinn::WriteError as E;
        match error {
            E::Stopped(code) => Self::Reset { code: code.into_inner() },
            E::ConnectionLost(error) => Self::Lost(error.into()),
            E::ClosedStream | E::ZeroRttRejected => Self::Finished,
        }
    }
}

impl From<iroh::endpoint::WriteError> for StreamError {
    fn from(error: iroh::endpoint::WriteError) -> Self {
        use iroh::endpoint::WriteError as E;
        match error {
            E::Stopped(code) => Self::Reset { code: code.into_inner() },
            E::ConnectionLost(error) => Self::Lost(error.into()),
            E::ClosedStream | E::ZeroRttRejected => Self::Finished,
        }
    }
}
