//! One stream of frames to a node, and why it stops.

use std::time::Duration;

use inference::proto::{
    draft::Cause,
    message::{FromClient, FromNode, NODE_FRAME_MAX, Refusal, RefusalCode, encode},
    padding::{CELL_BYTES, Unpacker},
};
use p2p::stream::{FrameStream, Loss, StreamError, code};
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
    /// The node has too much under way, or this request still; and when to come back, if it said.
    Busy(String, Option<Duration>),
    /// The lane can pay nothing there any more, another one can.
    Lane(String),
    /// The connection is gone, and the node may still have the answer.
    Lost(String),
    /// The node does not take the answer up: whether it may be asked what became of it, and why.
    Gone(bool, String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mine(error) => write!(f, "{error:#}"),
            Self::Theirs(_, why) | Self::Refused(_, why) | Self::Busy(why, _) | Self::Lane(why) | Self::Lost(why) | Self::Gone(_, why) => {
                f.write_str(why)
            }
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

    /// A silent or failed connection says nothing of the node. Nor does a stream that it gave up without a word: it may have taken a late try of this client's for
    /// its newest. Whatever else ends a stream is its word.
    fn broken(error: StreamError) -> Self {
        match error {
            StreamError::Lost(Loss::Silent | Loss::Transport(_)) | StreamError::Reset { code: code::CANCELLED | code::DROPPED } => {
                Self::Lost(error.to_string())
            }
            error => Self::Theirs(Cause::Broken, error.to_string()),
        }
    }

    pub(super) fn out_of_order(expected: &str) -> Self {
        Self::misbehaved(format!("it sent something else where {expected} was due"))
    }
}

/// One stream of frames with its service tag on the first; the node's come in cells where that was asked for.
pub(super) struct Talk {
    stream: FrameStream,
    is_opened: bool,
    cells: Option<Unpacker>,
}

impl Talk {
    pub(super) const fn new(stream: FrameStream) -> Self {
        Self { stream, is_opened: false, cells: None }
    }

    pub(super) fn cancel(mut self) {
        self.stream.reset(code::CANCELLED);
    }

    /// Has all that the node sends from here on come in cells.
    pub(super) async fn pad(&mut self) -> Result<(), Stop> {
        self.send(&FromClient::Padded).await?;
        self.cells = Some(Unpacker::default());
        Ok(())
    }

    pub(super) async fn send(&mut self, message: &FromClient) -> Result<(), Stop> {
        let mut frame = encode(message);
        if !self.is_opened {
            frame.insert(0, INFERENCE_TAG);
            self.is_opened = true;
        }
        // A node says itself how much it takes before it reads: one that takes nothing is as silent as one that says nothing.
        let Ok(sent) = timeout(FRAME_WAIT, self.stream.send(&frame)).await else {
            return Err(Stop::Theirs(Cause::Silent, format!("it read nothing for {} s", FRAME_WAIT.as_secs())));
        };
        match sent {
            Ok(()) => Ok(()),
            // A node that refuses stops reading: what it said is still to be read.
            Err(error) => match self.recv().await {
                Err(refused) => Err(refused),
                Ok(_) => Err(Stop::broken(error)),
            },
        }
    }

    pub(super) async fn recv(&mut self) -> Result<FromNode, Stop> {
        let Ok(message) = timeout(FRAME_WAIT, self.message()).await else {
            return Err(Stop::Theirs(Cause::Silent, format!("it sent nothing for {} s", FRAME_WAIT.as_secs())));
        };
        match message? {
            FromNode::Refused(refusal) => Err(refused(refusal)),
            message => Ok(message),
        }
    }

    /// The next message, whole.
    async fn message(&mut self) -> Result<FromNode, Stop> {
        loop {
            if let Some(cells) = &mut self.cells
                && let Some(message) = cells.next(NODE_FRAME_MAX).map_err(Stop::misbehaved)?
            {
                return FromNode::decode(&message).map_err(Stop::misbehaved);
            }
            let frame = match self.stream.recv(NODE_FRAME_MAX).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Err(Stop::Theirs(Cause::Broken, "it ended the stream early".into())),
                Err(error) => return Err(Stop::broken(error)),
            };
            match &mut self.cells {
                // A node that knows of no cells refuses them in a frame.
                Some(_) if frame.len() != CELL_BYTES => {
                    return match FromNode::decode(&frame) {
                        Ok(FromNode::Refused(Refusal { code: RefusalCode::Invalid, message, .. })) => {
                            let message = format!("the node knows of no padding: ask without --padded, or another node ({message})");
                            Ok(FromNode::Refused(Refusal::new(RefusalCode::NotServed, message)))
                        }
                        Ok(FromNode::Refused(refusal)) => Ok(FromNode::Refused(refusal)),
                        _ => Err(Stop::misbehaved(format!("it sent a frame of {} bytes where cells were asked for", frame.len()))),
                    };
                }
                Some(cells) => cells.push(&frame).map_err(Stop::misbehaved)?,
                None => return FromNode::decode(&frame).map_err(Stop::misbehaved),
            }
        }
    }
}

fn refused(refusal: Refusal) -> Stop {
    match refusal.code {
        RefusalCode::Busy => Stop::Busy(refusal.message, refusal.retry_ms.map(|wait| Duration::from_millis(wait.into()))),
        RefusalCode::Lane => Stop::Lane(refusal.message),
        RefusalCode::Expired | RefusalCode::Ended => Stop::Gone(true, refusal.message),
        RefusalCode::Index => Stop::Gone(false, refusal.message),
        code if code.is_retryable() || code == RefusalCode::Duplicate => Stop::Theirs(Cause::Refused, refusal.message),
        code => {
            let cause = match code {
                RefusalCode::TooLong => Cause::TooLong,
                RefusalCode::Invalid => Cause::Invalid,
                RefusalCode::Voucher => Cause::Unpaid,
                _ => Cause::Refused,
            };
            Stop::Refused(cause, format!("the node refuses: {}", refusal.message))
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p::memory;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_reads_nothing_is_left_as_one_that_says_nothing_is() {
        let (mut near, _far) = memory::pair();
        while timeout(FRAME_WAIT, near.send(&[0; 1 << 10])).await.is_ok() {}
        let stopped = timeout(4 * FRAME_WAIT, Talk::new(near).send(&FromClient::Status)).await.expect("it ends").unwrap_err();
        assert!(matches!(stopped, Stop::Theirs(Cause::Silent, _)), "{stopped}");
    }

    #[test]
    fn a_no_is_told_by_whose_fault_it_is_and_whether_another_node_may_answer() {
        let told = |code| match refused(Refusal::new(code, "no")) {
            Stop::Theirs(cause, _) => (cause, true),
            Stop::Refused(cause, _) => (cause, false),
            other => panic!("{code:?}: {other}"),
        };
        assert_eq!(told(RefusalCode::Voucher), (Cause::Unpaid, false));
        assert_eq!(told(RefusalCode::TooLong), (Cause::TooLong, false));
        assert_eq!(told(RefusalCode::Invalid), (Cause::Invalid, false));
        assert_eq!(told(RefusalCode::Unknown), (Cause::Refused, false));
        let busy = refused(Refusal::new(RefusalCode::Busy, "full").after(Duration::from_millis(700)));
        assert!(matches!(busy, Stop::Busy(_, Some(wait)) if wait == Duration::from_millis(700)), "{busy}");
        for theirs in [RefusalCode::NotServed, RefusalCode::Quote, RefusalCode::Internal, RefusalCode::Duplicate] {
            assert_eq!(told(theirs), (Cause::Refused, true), "{theirs:?}");
        }
    }
}
