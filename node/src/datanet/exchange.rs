//! One request and one reply per bulk stream, each as long as a fragment.
//!
//! A message is cut into frames of at most [`PIECE_BYTES`] and ends where its direction of the stream ends, so neither side allocates for
//! more than has arrived. A 21.3 MiB fragment is 86 frames. Both directions run at once: a holder that refuses early stops reading, and
//! what it said is still read.

use std::{net::SocketAddr, time::Duration};

use p2p::{
    bulk::{BulkEndpoint, BulkError},
    stream::{FrameReceiver, FrameSender, StreamError},
};
use storage::proto::message::{MESSAGE_BYTES_MAX, MessageError, Reply, Request};
use tokio::{sync::Semaphore, time::timeout};
use types::id::NodeId;

/// Protocol name of fragments.
pub const STORAGE_ALPN: &[u8] = b"tributary/storage/1";
/// Longest frame of a message.
pub const PIECE_BYTES: usize = 256 << 10;

/// Why a holder gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No stream to it.
    #[error(transparent)]
    Bulk(#[from] BulkError),
    /// The stream broke.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// It sent something else than a reply.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It was too slow.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// Sends `bytes` as frames and ends this direction.
///
/// # Errors
/// Those of the stream.
pub async fn send_message(sender: &mut FrameSender, bytes: &[u8]) -> Result<(), StreamError> {
    for piece in bytes.chunks(PIECE_BYTES) {
        sender.send(piece).await?;
    }
    sender.finish().await
}

/// Reads frames to the end of this direction, at most `max` bytes together. With `turns`, what is longer than one frame takes a turn before
/// its second frame is read, so that few long messages are in memory at a time.
///
/// # Errors
/// Those of the stream, [`MessageError::TooLong`].
pub async fn recv_message(receiver: &mut FrameReceiver, max: usize, turns: Option<&Semaphore>) -> Result<Vec<u8>, AskError> {
    let mut message = Vec::new();
    let mut _turn = None;
    while let Some(piece) = receiver.recv(PIECE_BYTES).await? {
        let got = message.len() + piece.len();
        if got >= PIECE_BYTES
            && _turn.is_none()
            && let Some(turns) = turns
        {
            _turn = Some(turns.acquire().await.map_err(|_| StreamError::Finished)?);
        }
        if got > max {
            return Err(MessageError::TooLong { got, max }.into());
        }
        message.extend_from_slice(&piece);
    }
    Ok(message)
}

/// Asks the node at `addr`; gives up after `limit`. May be dropped half-way.
///
/// # Errors
/// [`AskError`].
pub async fn ask(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, request: &Request, limit: Duration) -> Result<Reply, AskError> {
    let asking = async {
        let (mut sender, mut receiver) = bulk.connect(node, addr, STORAGE_ALPN).await?.split();
        let bytes = request.encode();
        let (sent, reply) = tokio::join!(send_message(&mut sender, &bytes), recv_message(&mut receiver, MESSAGE_BYTES_MAX, None));
        match (reply?, sent) {
            (reply, _) if !reply.is_empty() => Ok(Reply::decode(&reply)?),
            (_, Err(error)) => Err(error.into()),
            (_, Ok(())) => Err(StreamError::Reset { code: p2p::stream::code::DROPPED }.into()),
        }
    };
    timeout(limit, asking).await.map_err(|_| AskError::Late(limit))?
}
