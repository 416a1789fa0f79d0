//! What a client hears: frames as they come, or cells of one size at a steady rhythm ([`padding`](inference::proto::padding)).
//!
//! Cells wait for nothing but the client's own window, and nothing else waits behind them than [`WAITING_MAX`] bytes: tokens are pulled as cells take them.

use std::time::Duration;

use inference::proto::{
    message::{FromNode, encode},
    padding::{Packer, RHYTHM, ROUND_CELLS, WAITING_MAX},
};
use p2p::stream::{FrameReceiver, FrameSender};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::{Broken, SEND_WAIT};

/// How long the cells up to the end of a round may take, beside what a client may take to make room.
const ROUND_WAIT: Duration = Duration::from_millis(25 * ROUND_CELLS as u64);

/// A client's stream, as the service holds it.
pub(super) struct Line {
    pub(super) voice: Voice,
    pub(super) receiver: FrameReceiver,
}

/// The sending direction.
pub(super) struct Voice {
    sender: FrameSender,
    padding: Option<Padding>,
}

struct Padding {
    packer: Packer,
    beats: Interval,
}

impl Voice {
    /// Frames as they come.
    pub(super) const fn new(sender: FrameSender) -> Self {
        Self { sender, padding: None }
    }

    /// Cells from here on.
    pub(super) fn pad(&mut self) {
        self.padding.get_or_insert_with(|| {
            let mut beats = interval(RHYTHM);
            // After a client that was slow the rhythm goes on; nothing is made up for.
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            Padding { packer: Packer::default(), beats }
        });
    }

    /// Whether cells are sent.
    pub(super) const fn is_padded(&self) -> bool {
        self.padding.is_some()
    }

    /// Says a part of an answer: at once, or with the next beats.
    pub(super) async fn say(&mut self, message: &FromNode) -> Result<(), Broken> {
        let frame = encode(message);
        match &mut self.padding {
            None => send(&mut self.sender, &frame).await,
            Some(padding) => {
                padding.packer.push(&frame);
                Ok(())
            }
        }
    }

    /// Says the one thing that is said, with all that waits: what comes alone has no rhythm.
    pub(super) async fn reply(&mut self, message: &FromNode) -> Result<(), Broken> {
        self.say(message).await?;
        let Some(padding) = &mut self.padding else { return Ok(()) };
        for _ in 0..padding.packer.reply_cells() {
            send(&mut self.sender, &padding.packer.cell()).await?;
        }
        Ok(())
    }

    /// Says that nothing of the answer follows, at the end of a round.
    pub(super) async fn end(&mut self, message: &FromNode) -> Result<(), Broken> {
        let frame = encode(message);
        let Some(padding) = &mut self.padding else { return send(&mut self.sender, &frame).await };
        let ending = async {
            while !padding.packer.closes_round(frame.len()) {
                padding.beats.tick().await;
                send(&mut self.sender, &padding.packer.cell()).await?;
            }
            padding.beats.tick().await;
            padding.packer.push(&frame);
            send(&mut self.sender, &padding.packer.cell()).await
        };
        timeout(SEND_WAIT + 4 * ROUND_WAIT, ending).await.map_err(|_| Broken::Deaf)?
    }

    /// The next beat, where there is a rhythm; it is to be followed by [`Voice::cell`]. May be dropped half-way.
    pub(super) async fn beat(&mut self) {
        match &mut self.padding {
            Some(padding) => drop(padding.beats.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Sends a cell, full or empty.
    pub(super) async fn cell(&mut self) -> Result<(), Broken> {
        match &mut self.padding {
            Some(padding) => send(&mut self.sender, &padding.packer.cell()).await,
            None => Ok(()),
        }
    }

    /// Whether as much waits for cells as may.
    pub(super) fn is_full(&self) -> bool {
        self.padding.as_ref().is_some_and(|padding| padding.packer.waiting() >= WAITING_MAX)
    }

    /// Ends the stream, and waits until the client has it all or is gone.
    pub(super) async fn finish(mut self, wait: Duration) {
        drop(timeout(SEND_WAIT, self.sender.finish()).await);
        drop(timeout(wait, self.sender.closed()).await);
    }

    /// Gives the stream up.
    pub(super) fn reset(mut self, code: u64) {
        self.sender.reset(code);
    }
}

async fn send(sender: &mut FrameSender, frame: &[u8]) -> Result<(), Broken> {
    Ok(timeout(SEND_WAIT, sender.send(frame)).await.map_err(|_| Broken::Deaf)??)
}

#[cfg(test)]
mod tests {
    use inference::proto::{
        message::NODE_FRAME_MAX,
        padding::{CELL_BYTES, REPLY_CELLS_MIN, Unpacker},
    };
    use p2p::memory;
    use types::receipt::Reason;

    use super::*;

    fn token(index: u32, bytes: usize) -> FromNode {
        FromNode::Token { index, id: 7, bytes: vec![b'a'; bytes], told: vec![] }
    }

    /// What an answer of tokens of these lengths looks like: its frames' lengths up to its end and of its reply, and the messages in them.
    async fn wire(lengths: &[usize]) -> (Vec<usize>, Vec<FromNode>) {
        let (near, mut far) = memory::pair();
        let (sender, _receiver) = near.split();
        let mut voice = Voice::new(sender);
        voice.pad();
        for (index, bytes) in (0..).zip(lengths) {
            voice.say(&token(index, *bytes)).await.unwrap();
            while voice.is_full() {
                voice.beat().await;
                voice.cell().await.unwrap();
            }
        }
        voice.end(&FromNode::Finished { reason: Reason::Stop }).await.unwrap();
        voice.reply(&FromNode::Kept { bundle: "b".repeat(lengths.len()) }).await.unwrap();
        voice.sender.finish().await.unwrap();
        let (mut frames, mut messages, mut unpacker) = (Vec::new(), Vec::new(), Unpacker::default());
        while let Some(frame) = far.recv(CELL_BYTES).await.unwrap() {
            frames.push(frame.len());
            unpacker.push(&frame).unwrap();
            while let Some(message) = unpacker.next(NODE_FRAME_MAX).unwrap() {
                messages.push(FromNode::decode(&message).unwrap());
            }
        }
        (frames, messages)
    }

    #[tokio::test]
    async fn two_answers_of_different_words_are_the_same_on_the_wire() {
        let (short, said) = wire(&[1, 2, 1]).await;
        let (long, also) = wire(&[12, 1, 30, 4, 5]).await;
        let reply = usize::try_from(REPLY_CELLS_MIN).unwrap();
        assert_eq!(short, [CELL_BYTES; 16].into_iter().chain(std::iter::repeat_n(CELL_BYTES, reply)).collect::<Vec<_>>());
        assert_eq!(short, long);
        assert_eq!((said.len(), also.len()), (5, 7));
        assert!(said.iter().zip((0..).zip([1, 2, 1])).all(|(got, (index, bytes))| *got == token(index, bytes)));
        assert_eq!(said[3], FromNode::Finished { reason: Reason::Stop });
        // More than a round holds takes another whole one.
        assert_eq!(wire(&[300; 20]).await.0.len(), 2 * 16 + reply);
    }

    #[tokio::test]
    async fn without_padding_a_frame_is_what_was_said_and_there_is_no_rhythm() {
        use futures::FutureExt as _;

        let (near, mut far) = memory::pair();
        let (sender, _receiver) = near.split();
        let mut voice = Voice::new(sender);
        voice.say(&token(0, 3)).await.unwrap();
        assert!(voice.beat().now_or_never().is_none() && !voice.is_full());
        assert_eq!(far.recv(CELL_BYTES).await.unwrap(), Some(encode(&token(0, 3))));
    }
}
