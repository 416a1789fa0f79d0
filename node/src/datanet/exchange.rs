//! One request and one reply per bulk stream; after the reply to a Read, the range.
//!
//! A message is cut into frames of at most [`PIECE_BYTES`] and ends where its direction of the stream ends, so neither side allocates for
//! more than has arrived. A 21.3 MiB fragment is 86 frames. Both directions run at once: a holder that refuses early stops reading, and
//! what it said is still read.
//!
//! A range is read straight from the transport into its block, each group checked when it is there ([`storage::proto::range`]); a stream that brings
//! a wrong one is stopped at once. What is good is handed on every second at the latest, so that a slow stream shows its progress.

use std::{net::SocketAddr, time::Duration};

use p2p::{
    bulk::{BulkEndpoint, BulkError},
    stream::{FrameReceiver, FrameSender, StreamError, code},
};
use storage::{
    erasure::{ObjectManifest, VerifiedFragment},
    proto::{
        fetch::StreamEnd,
        message::{MESSAGE_BYTES_MAX, MessageError, REPLY_BYTES_MAX, Refusal, Reply, Request},
        range::{Block, Decoder, Run, whole},
    },
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use types::id::{BlobId, NodeId};

/// Protocol name of fragments.
pub const STORAGE_ALPN: &[u8] = b"tributary/storage/1";
/// Longest frame of a message.
pub const PIECE_BYTES: usize = 256 << 10;
/// Reset code of a range whose holder found its own bytes damaged after it had begun.
pub const ROTTEN: u64 = 0x10;
/// Longest time that good groups of a range are held back for more.
const BLOCK_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for the next bytes of a fragment that is read whole ([`read_fragment`]).
const STALL_LIMIT: Duration = Duration::from_secs(20);

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

/// Sends one message over a stream of `alpn` and reads the answer, which is not empty and at most `max` bytes; gives up after `limit`. May be
/// dropped half-way.
///
/// # Errors
/// [`AskError`].
pub async fn round(
    bulk: &BulkEndpoint,
    (node, addr): (NodeId, SocketAddr),
    alpn: &[u8],
    message: &[u8],
    max: usize,
    limit: Duration,
) -> Result<Vec<u8>, AskError> {
    let asking = async {
        let (mut sender, mut receiver) = bulk.connect(node, addr, alpn).await?.split();
        let (sent, reply) = tokio::join!(send_message(&mut sender, message), recv_message(&mut receiver, max, None));
        match (reply?, sent) {
            (reply, _) if !reply.is_empty() => Ok(reply),
            (_, Err(error)) => Err(error.into()),
            (_, Ok(())) => Err(StreamError::Reset { code: code::DROPPED }.into()),
        }
    };
    timeout(limit, asking).await.map_err(|_| AskError::Late(limit))?
}

/// Asks the node at `addr` about fragments; gives up after `limit`. May be dropped half-way.
///
/// # Errors
/// [`AskError`].
pub async fn ask(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, request: &Request, limit: Duration) -> Result<Reply, AskError> {
    let reply = round(bulk, (node, addr), STORAGE_ALPN, &request.encode(), MESSAGE_BYTES_MAX, limit).await?;
    Ok(Reply::decode(&reply)?)
}

/// Which groups are wanted of whom.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Number under which its blocks are reported.
    pub stream: u32,
    /// The holder.
    pub node: NodeId,
    /// Where it serves bulk data.
    pub addr: SocketAddr,
    /// Which fragment.
    pub index: u8,
    /// Which groups.
    pub run: Run,
}

/// Reads groups of a fragment; good ones go to `blocks` as they come, also those before a loss, a lie or a cancel. A full `blocks` holds the
/// stream back. May be dropped half-way, which loses at most a second of it.
pub async fn read_range(
    bulk: &BulkEndpoint,
    manifest: &ObjectManifest,
    wanted: &Wanted,
    blocks: &mpsc::Sender<(u32, Block)>,
    cancel: &CancellationToken,
) -> StreamEnd {
    let Some(mut decoder) = Decoder::new(manifest, wanted.index, wanted.run) else { return StreamEnd::OffTopic };
    let reading = read(bulk, manifest.id(), wanted, &mut decoder, blocks);
    let end = tokio::select! {
        end = reading => end,
        () = cancel.cancelled() => StreamEnd::Lost,
    };
    if let Some(block) = decoder.take() {
        // Who no longer takes blocks has ended.
        drop(blocks.send((wanted.stream, block)).await);
    }
    end
}

async fn read(
    bulk: &BulkEndpoint,
    object: BlobId,
    wanted: &Wanted,
    decoder: &mut Decoder,
    blocks: &mpsc::Sender<(u32, Block)>,
) -> StreamEnd {
    let Wanted { node, addr, index, run, .. } = *wanted;
    let mut receiver = match begin(bulk, node, addr, &Request::Read { object, index, run }).await {
        Ok((Reply::Range { object: of, index: at, run: came }, receiver)) if (of, at, came) == (object, index, run) => receiver,
        Ok((Reply::Refused(refusal), _)) => return StreamEnd::Refused(refusal),
        Ok(_) | Err(AskError::Message(_)) => return StreamEnd::OffTopic,
        // A reset can overtake the reply that was sent before it.
        Err(AskError::Stream(StreamError::Reset { code: ROTTEN })) => return StreamEnd::Refused(Refusal::Corrupt { object, index }),
        Err(error) => {
            tracing::debug!(holder = %node, index, %error, "a range did not begin");
            return StreamEnd::Lost;
        }
    };
    while !decoder.is_done() {
        let Ok(came) = timeout(BLOCK_WAIT, receiver.recv_raw(decoder.space())).await else {
            if let Some(block) = decoder.take()
                && blocks.send((wanted.stream, block)).await.is_err()
            {
                return StreamEnd::Lost;
            }
            continue;
        };
        let block = match came {
            Ok(0) => return StreamEnd::Lost,
            Ok(count) => decoder.advance(count),
            Err(StreamError::Reset { code: ROTTEN }) => return StreamEnd::Refused(Refusal::Corrupt { object, index }),
            Err(error) => {
                tracing::debug!(holder = %node, index, %error, "a range broke off");
                return StreamEnd::Lost;
            }
        };
        match block {
            Ok(None) => {}
            Ok(Some(block)) => {
                if blocks.send((wanted.stream, block)).await.is_err() {
                    return StreamEnd::Lost;
                }
            }
            Err(wrong) => {
                receiver.stop(code::PROTOCOL);
                return StreamEnd::Wrong(wrong);
            }
        }
    }
    StreamEnd::Whole
}

/// Sends a request and reads the reply before its range.
async fn begin(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, request: &Request) -> Result<(Reply, FrameReceiver), AskError> {
    let (mut sender, mut receiver) = bulk.connect(node, addr, STORAGE_ALPN).await?.split();
    send_message(&mut sender, &request.encode()).await?;
    let reply = receiver.recv(REPLY_BYTES_MAX).await?.ok_or(StreamError::Reset { code: code::DROPPED })?;
    Ok((Reply::decode(&reply)?, receiver))
}

/// Reads a whole fragment from one holder. Gives up when nothing comes for 20 s. May be dropped half-way.
///
/// # Errors
/// How the stream ended instead.
pub async fn read_fragment(
    bulk: &BulkEndpoint,
    node: NodeId,
    addr: SocketAddr,
    manifest: &ObjectManifest,
    index: u8,
) -> Result<VerifiedFragment, StreamEnd> {
    let wanted = Wanted { stream: 0, node, addr, index, run: Run::all(manifest.fragment_len()) };
    let (sender, mut receiver) = mpsc::channel(4);
    let (cancel, mut blocks) = (CancellationToken::new(), Vec::new());
    let reading = async {
        let end = read_range(bulk, manifest, &wanted, &sender, &cancel).await;
        drop(sender);
        end
    };
    let collecting = async {
        while let Ok(Some((_, block))) = timeout(STALL_LIMIT, receiver.recv()).await {
            blocks.push(block);
        }
        cancel.cancel();
        // What still comes is let go, so that nobody waits for room.
        receiver.close();
    };
    match tokio::join!(reading, collecting).0 {
        StreamEnd::Whole => whole(manifest, index, &blocks).ok_or(StreamEnd::Lost),
        end => Err(end),
    }
}

#[cfg(test)]
mod tests {
    use p2p::{bulk::BulkLimits, identity::NodeSeed};
    use storage::erasure::{self, Profile};
    use types::id::Hash32;

    use super::*;

    /// A reset gives up what was sent before it, the reply too.
    #[tokio::test]
    async fn damage_found_at_the_first_group_is_named_although_its_reset_overtakes_the_reply() {
        let at = "127.0.0.1:0".parse().unwrap();
        let seed = NodeSeed::generate();
        let holder = BulkEndpoint::start(&seed, at, &[STORAGE_ALPN], BulkLimits::default()).await.unwrap();
        let reader = BulkEndpoint::start(&NodeSeed::generate(), at, &[], BulkLimits::default()).await.unwrap();
        let manifest = erasure::encode(&[7; 5_000], Hash32([1; 32]), Profile::DEVNET).unwrap().manifest;
        let serving = async {
            let (mut sender, mut receiver) = holder.accept().await.unwrap().stream.split();
            recv_message(&mut receiver, MESSAGE_BYTES_MAX, None).await.unwrap();
            sender.reset(ROTTEN);
        };
        let (read, ()) = tokio::join!(read_fragment(&reader, seed.node_id(), holder.local_addr(), &manifest, 2), serving);
        assert_eq!(read.unwrap_err(), StreamEnd::Refused(Refusal::Corrupt { object: manifest.id(), index: 2 }));
        reader.close().await;
        holder.close().await;
    }
}
