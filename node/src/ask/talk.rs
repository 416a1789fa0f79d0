//! One stream of frames to a node, and why it stops.

use std::time::Duration;

use inference::proto::{
    draft::Cause,
    message::{FromClient, FromNode, NODE_FRAME_MAX, RefusalCode, encode},
};
use p2p::stream::FrameStream;
use tokio::time::timeout;

use crate::service::INFERENCE_TAG;

/// How long the next frame of a node is awaited: the first token of a long prompt is the slowest.
const FRAME_WAIT: Duration = Duration::from_secs(60);

/// Why an attempt stops: through a failure of this client, which ends the answer, or by the node, which moves it elsewhere. A node's no, whatever
/// it blames, ends nothing: one that refuses everybody would otherwise keep its clients from all others.
pub(super) enum Stop {
    Mine(anyhow::Error),
    Theirs(Cause, String),
    Refused(Cause, String),
    /// The node has too much under way, or this request still.
    Busy(String),
    /// The lane can pay nothing there any more, another one can.
    Lane(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mine(error) => write!(f, "{error:#}"),
            Self::Theirs(_, why) | Self::Refused(_, why) | Self::Busy(why) | Self::Lane(why) => f.write_str(why),
        }
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Mine(error)
    }
}

impl Stop {
    pub(super) fn misbehaved(why: impl ToString) -> Self {
        Self::Theirs(Cause::Misbehaved, why.to_string())
    }

    pub(super) fn out_of_order(expected: &str) -> Self {
        Self::misbehaved(format!("it sent something else where {expected} was due"))
    }
}

/// One stream of frames with its service tag on the first.
pub(super) struct Talk {
    stream: FrameStream,
    is_opened: bool,
}

impl Talk {
    pub(super) const fn new(stream: FrameStream) -> Self {
        Self { stream, is_opened: false }
    }

    pub(super) fn cancel(mut self) {
        self.stream.reset(p2p::stream::code::CANCELLED);
    }

    pub(super) async fn send(&mut self, message: &FromClient) -> Result<(), Stop> {
        let mut frame = encode(message);
        if !self.is_opened {
            frame.insert(0, INFERENCE_TAG);
            self.is_opened = true;
        }
        match self.stream.send(&frame).await {
            Ok(()) => Ok(()),
            // A node that refuses stops reading: what it said is still to be read.
            Err(error) => match self.recv().await {
                Err(refused) => Err(refused),
                Ok(_) => Err(Stop::Theirs(Cause::Broken, error.to_string())),
            },
        }
    }

    pub(super) async fn recv(&mut self) -> Result<FromNode, Stop> {
        let frame = match timeout(FRAME_WAIT, self.stream.recv(NODE_FRAME_MAX)).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return Err(Stop::Theirs(Cause::Broken, "it ended the stream early".into())),
            Ok(Err(error)) => return Err(Stop::Theirs(Cause::Broken, error.to_string())),
            Err(_) => return Err(Stop::Theirs(Cause::Silent, format!("it sent nothing for {} s", FRAME_WAIT.as_secs()))),
        };
        match FromNode::decode(&frame).map_err(Stop::misbehaved)? {
            FromNode::Refused(refusal) if refusal.code == RefusalCode::Busy => Err(Stop::Busy(refusal.message)),
            FromNode::Refused(refusal) if refusal.code == RefusalCode::Lane => Err(Stop::Lane(refusal.message)),
            FromNode::Refused(refusal) if refusal.code.is_retryable() || refusal.code == RefusalCode::Duplicate => {
                Err(Stop::Theirs(Cause::Refused, refusal.message))
            }
            FromNode::Refused(refusal) => {
                let cause = match refusal.code {
                    RefusalCode::TooLong => Cause::TooLong,
                    RefusalCode::Invalid => Cause::Invalid,
                    _ => Cause::Refused,
                };
                Err(Stop::Refused(cause, format!("the node refuses: {}", refusal.message)))
            }
            message => Ok(message),
        }
    }
}
